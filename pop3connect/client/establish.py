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

from ..address import ServerAddress
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
        #: What was built last.
        self.built: POP3ClientProtocol | None = None
        #: Whether a caller still waits for the connection.
        self.wanted = True

    def buildProtocol(self, addr: IAddress | None) -> POP3ClientProtocol | None:
        """Build a protocol; none, which closes the connection, if it comes too late."""
        if not self.wanted:
            return None
        protocol = self.built = POP3ClientProtocol(self._settings)
        protocol.factory = self
        return protocol


def establish(
    settings: Settings, endpoint: IStreamClientEndpoint | None = None
) -> Deferred[POP3ClientProtocol]:
    """
    Connect, without waiting for the greeting.

    :param endpoint: the caller's own; ``None``: TCP to the server of the settings, or
        through their proxy.
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
        if factory.built is None or not factory.built.connected:
            connecting.cancel()
        else:
            # By the program, from the event of the connection.  An endpoint that has
            # connected cannot be stopped.
            factory.built.end("connect() was cancelled")

    def settle(result: Any) -> Any:
        # An endpoint that can't be stopped may still connect, later.
        factory.wanted = False
        if timer.active():
            timer.cancel()
        if not isinstance(result, Failure):
            return _innermost(result, settings)
        error = result.value
        if not cancelled:
            raise connect_error(settings, error, expired=expired) from error
        if factory.built is not None and factory.built.connected:
            closed = factory.built.when_closed()
            return closed.addCallback(lambda _: Failure(CancelledError()))
        raise CancelledError() from error

    def hand_over(result: Any) -> None:
        # It may have been cancelled as the connection was made.
        if not outcome.called:
            outcome.callback(result)

    if endpoint is None and settings.proxy is None:
        way = tcp_endpoint(settings.clock, settings.server, settings.connect_timeout)
        connecting = way.connect(factory)
    elif endpoint is None:
        way = _proxy_endpoint(settings)
        connecting = way.connect(_upgradable(factory, settings))
    else:
        # The caller's code: what it raises is treated as a failure to connect.
        connecting = maybeDeferred(endpoint.connect, _upgradable(factory, settings))
    outcome: Deferred[Any] = Deferred(cancel)
    timer = settings.clock.callLater(settings.connect_timeout, expire)
    outcome.addBoth(settle)
    connecting.addBoth(hand_over)
    return outcome


def connect_error(
    settings: Settings, error: BaseException | None, *, expired: bool = False
) -> ConnectError | TimedOutError:
    """Return our error for a connection that was not made."""
    server, seconds = str(settings.server), settings.connect_timeout
    # Of a proxy: it says what the proxy did, or did not do.
    told = error if isinstance(error, ConnectError) else None
    first = error if told is None else told.__cause__
    if expired or isinstance(first, ConnectTimeoutError):
        what = f"could not connect within {seconds:g} seconds"
        return TimedOutError(
            what if told is None else f"{what}: {told.message}",
            phase="connecting",
            seconds=seconds,
            server=server,
            remedy=_CHECK if told is None else told.remedy,
        )
    if told is not None:
        return ConnectError(told.message, server=server, remedy=told.remedy)
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


def _proxy_endpoint(settings: Settings) -> IStreamClientEndpoint:
    """Return the endpoint that leads to the server through the proxy."""
    from .tunnel import Negotiation, TunnelEndpoint

    proxy, server = settings.proxy, settings.server
    assert proxy is not None
    below = tcp_endpoint(settings.clock, proxy.address, settings.connect_timeout)

    def begin() -> Negotiation:
        # socksio and h11 are installed only where proxies are used.
        if proxy.scheme == "http":
            from .http_connect import HTTPConnectDialogue

            return HTTPConnectDialogue(proxy, server)
        from .socks import SocksDialogue

        return SocksDialogue(proxy, server)

    return TunnelEndpoint(below, begin)


def tcp_endpoint(
    reactor: Any, address: ServerAddress, seconds: float
) -> IStreamClientEndpoint:
    """Return the endpoint that leads to a host; ``seconds`` for each attempt."""
    # They import OpenSSL, which a plain session over an endpoint does not need.
    from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint

    from .names import NameEndpoint

    host, port = address.host, address.port
    if not address.is_ip:
        # Both families, side by side (RFC 8305).
        return NameEndpoint(reactor, host, port, seconds)
    kind = TCP6ClientEndpoint if ":" in host else TCP4ClientEndpoint
    # Its own limit must not come before ours, which has the better words.
    return kind(reactor, host, port, seconds + 1)
