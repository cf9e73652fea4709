"""
Connects: from an endpoint to a protocol whose greeting is still to come.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.error import TimeoutError as ConnectTimeoutError
from twisted.internet.interfaces import IAddress, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from ..errors import ConnectError, TimedOutError, UsageError
from ..redaction import printable
from ..remedies import Remedy
from .protocol import POP3ClientProtocol
from .settings import Settings

__all__ = ["connect_error", "establish", "tcp_endpoint"]


class _SessionFactory(Factory):
    """Builds the protocol of one session."""

    noisy = False

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        #: Whether a caller still waits for the connection.
        self.wanted = True

    def buildProtocol(self, addr: IAddress | None) -> POP3ClientProtocol | None:
        """Build a protocol; none, which closes the connection, if it comes too late."""
        if not self.wanted:
            return None
        protocol = POP3ClientProtocol(self._settings)
        protocol.factory = self
        return protocol


def establish(
    settings: Settings, endpoint: IStreamClientEndpoint | None = None
) -> Deferred[POP3ClientProtocol]:
    """
    Connect, without waiting for the greeting.

    :param endpoint: the caller's own; ``None``: TCP to the server of the settings.
    :return: fires with the protocol.  It fails with `ConnectError` (the name was not
        found, or nothing answers there), `TimedOutError` (it took longer than
        ``connect_timeout``), `UsageError` (the endpoint has returned something else
        than the protocol) or `CancelledError`.
    """
    factory = _SessionFactory(settings)
    expired = cancelled = False

    def expire() -> None:
        nonlocal expired
        expired = True
        connecting.cancel()

    def cancel(_: object) -> None:
        # Noted here: what an endpoint makes of it can look like any other failure.
        nonlocal cancelled
        cancelled = True
        connecting.cancel()

    def settle(result: Any) -> Any:
        # An endpoint that can't be stopped may still connect, later.
        factory.wanted = False
        if timer.active():
            timer.cancel()
        if not isinstance(result, Failure):
            return _innermost(result, settings)
        error = result.value
        if cancelled:
            raise CancelledError() from error
        raise connect_error(settings, error, expired=expired) from error

    if endpoint is None:
        connecting = tcp_endpoint(settings).connect(factory)
    else:
        # The caller's code: what it raises is treated as a failure to connect.
        connecting = maybeDeferred(endpoint.connect, _upgradable(factory, settings))
    outcome: Deferred[Any] = Deferred(cancel)
    timer = settings.clock.callLater(settings.connect_timeout, expire)
    outcome.addBoth(settle)
    connecting.addCallbacks(outcome.callback, outcome.errback)
    return outcome


def connect_error(
    settings: Settings, error: BaseException | None, *, expired: bool = False
) -> ConnectError | TimedOutError:
    """Return our error for a connection that was not made."""
    server, seconds = str(settings.server), settings.connect_timeout
    if expired or isinstance(error, ConnectTimeoutError):
        return TimedOutError(
            f"could not connect within {seconds:g} seconds",
            phase="connecting",
            seconds=seconds,
            server=server,
            remedy=_CHECK,
        )
    return ConnectError(
        f"could not connect: {printable(str(error).encode()).rstrip('.')}",
        server=server,
        remedy=_CHECK,
    )


_CHECK = Remedy("check the host name and the port")


def _innermost(connected: Any, settings: Settings) -> POP3ClientProtocol:
    """Find our protocol in what an endpoint returned: the layers are outside."""
    found = connected
    while not isinstance(found, POP3ClientProtocol):
        found = getattr(found, "wrappedProtocol", None)
        if found is None:
            raise UsageError(
                "endpoint must connect the protocol that the factory builds; it "
                f"returned {type(connected).__name__}",
                server=str(settings.server),
            )
    return found


def _upgradable(factory: Factory, settings: Settings) -> Any:
    if settings.context is None:
        return factory
    from ..tls.starttls import StartTLSFactory

    return StartTLSFactory(factory, settings.clock)


def tcp_endpoint(settings: Settings) -> IStreamClientEndpoint:
    """Return the endpoint that leads to the server of a session."""
    # They import OpenSSL, which a plain session over an endpoint does not need.
    from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint

    from .names import NameEndpoint

    reactor: Any = settings.clock
    host, port = settings.server.host, settings.server.port
    if not settings.server.is_ip:
        # Both families, side by side (RFC 8305).
        return NameEndpoint(reactor, host, port, settings.connect_timeout)
    kind = TCP6ClientEndpoint if ":" in host else TCP4ClientEndpoint
    # Its own limit must not come before ours, which has the better words.
    return kind(reactor, host, port, settings.connect_timeout + 1)
