"""
``connect()``: from what the user says to an open session, or one clear error.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.error import TimeoutError as ConnectTimeoutError
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint

from .address import POP3_PORT, POP3S_PORT, Secure, ServerAddress
from .auth.account import Account, Password
from .auth.login import HungUp, log_in
from .auth.policy import NO_PASSWORD, check_auth
from .client.connection import Settings
from .client.protocol import POP3ClientFactory, POP3ClientProtocol
from .errors import (
    ConnectError,
    ConnectionLostError,
    LoginError,
    POP3Error,
    TimedOutError,
    TLSError,
    UsageError,
)
from .handle import Handle
from .reactors import CONNECTS, RESOLVES, check_reactor
from .redaction import Secret, StatusProcedure, printable
from .sansio.commands import check_text

if TYPE_CHECKING:
    from twisted.mail.interfaces import IClientAuthentication

    from .tls.context import ClientCertificate, ClientContext

__all__ = ["connect", "establish", "tcp_endpoint"]


def connect(
    server: str,
    username: str,
    password: Password,
    stsproc: StatusProcedure | None = None,
    secure: int | Secure = Secure.NONE,
    verify: bool = True,
    *,
    cacerts: str | os.PathLike[str] | None = None,
    system_trust: bool = False,
    reactor: IReactorTime | None = None,
    endpoint: IStreamClientEndpoint | None = None,
    auth: str | IClientAuthentication = "auto",
    timeout: float = 60.0,
    connect_timeout: float = 30.0,
    max_message_size: int | None = None,
    pipeline: bool = True,
    client_certificate: ClientCertificate | None = None,
    allow_cleartext: bool = True,
    utf8: bool = False,
    capa: bool = True,
) -> Deferred[Handle]:
    """
    Open a POP3 session and log in.

    :param server: ``"host"``, ``"host:port"``, an IP address, or
        ``"[IPv6 address]:port"``.  Port 110, or 995 with `Secure.TLS`.
    :param password: or a callable that returns one, a Deferred of one, or a
        coroutine; called when the password is needed.
    :param stsproc: called with each protocol message, secrets masked.  ``None`` and
        ``""`` mean none.
    :param secure: plain, TLS at once, or STLS before the login (RFC 2595).  With
        STLS there is no fallback to plain text.
    :param verify: whether the server has to prove who it is; without, TLS still
        encrypts, for whoever answered.
    :param cacerts: the folder with the certificates to trust; default: the
        environment variable ``POP3CONNECT_CACERTS``, else the platform's store.
    :param system_trust: with ``cacerts``: the platform's store counts as well.
    :param reactor: default: the global one.  With an ``endpoint``, a
        `twisted.internet.task.Clock` suffices; without, the reactor also has to provide
        ``IReactorTCP``, and ``IReactorPluggableNameResolver`` for a host name.
    :param endpoint: used instead of TCP to ``server``: a proxy, a UNIX socket.
        The server still has to prove that it is ``server``.
    :param auth: ``"auto"``, ``"USER"``, ``"APOP"``, the name of a SASL mechanism, or a
        mechanism of your own, as `twisted.mail.interfaces.IClientAuthentication`.
    :param timeout: seconds for the greeting and for each reply.
    :param connect_timeout: seconds for looking up the name and connecting, and
        again for the TLS handshake.
    :param max_message_size: octets; a longer message ends the session.
    :param pipeline: ``False``: one command at a time, whatever the server offers.
    :param client_certificate: a PEM file with certificate and key, a pair of
        files, or a `twisted.internet.ssl.PrivateCertificate`.
    :param allow_cleartext: ``False``: a password is never sent without TLS.
    :param utf8: ask for UTF-8 mode (RFC 6856) before the login.
    :param capa: ``False``: never ask what the server can do, for servers that hang up
        on CAPA.  Then nothing is pipelined, and USER is used unless ``auth`` says else.
    :return: fires with the `Handle`.  Cancelling it closes what was opened.

    A coroutine that asyncio runs cannot await the result; asyncio raises
    ``RuntimeError: Task got bad yield: <Deferred ...>``.  With Twisted's asyncio
    reactor, await ``Deferred.fromCoroutine(work()).asFuture(loop)`` instead, where
    ``work`` is the coroutine function that uses the session.

    It fails with `UsageError` (an argument; nothing was sent), `ConnectError`,
    `TimedOutError`, `TLSError` and its kinds `VerificationError` and
    `STLSUnavailableError`, `LoginError`, `ConnectionLostError`, `ProtocolError`.
    """
    if isinstance(password, str):
        password = Secret(password)
    clock = _global_reactor() if reactor is None else reactor
    try:
        way = _secure(secure)
        address = ServerAddress.parse(
            server, POP3S_PORT if way is Secure.TLS else POP3_PORT
        )
        _check_reactor(clock, address, endpoint)
        auth = check_auth(auth) if isinstance(auth, str) else _authenticator(auth)
        if username != "" or auth not in NO_PASSWORD:
            # Without a name, the certificate says it all (RFC 4422 appendix A).
            check_text("user name", username)
        if not callable(password) and auth not in NO_PASSWORD:
            check_text("password", password)
        account = Account(
            username=username,
            password=password,
            auth=auth,
            stls=way is Secure.STLS,
            utf8=bool(utf8),
            capa=bool(capa),
            allow_cleartext=bool(allow_cleartext),
            certificate=client_certificate is not None,
        )
        settings = Settings(
            server=address,
            clock=clock,
            status_procedure=_procedure(stsproc),
            context=_context(way, verify, cacerts, system_trust, client_certificate),
            tls_at_once=way is Secure.TLS,
            timeout=_seconds("timeout", timeout),
            connect_timeout=_seconds("connect_timeout", connect_timeout),
            max_message_size=_octets(max_message_size),
            pipeline=bool(pipeline),
        )
    except POP3Error as error:
        error.server = error.server or _shown(server)
        # The local variables of a traceback would show what was given.
        return fail(error.with_traceback(None))
    foreign = endpoint is not None
    if endpoint is None:
        endpoint = tcp_endpoint(clock, settings)
    return Deferred.fromCoroutine(_open(settings, account, endpoint, foreign))


async def _open(
    settings: Settings,
    account: Account,
    endpoint: IStreamClientEndpoint,
    foreign: bool,
) -> Handle:
    protocol = await establish(settings, endpoint, foreign)
    try:
        try:
            session = await log_in(protocol, account)
        except (TLSError, ConnectionLostError):
            if not protocol.resumed_in_vain():
                raise
            # No credential has been sent yet, so once more, from the start.
            await protocol.abandon()
            protocol = await establish(settings, endpoint, foreign)
            session = await log_in(protocol, account)
        if isinstance(session, HungUp):
            hung_up = session
            await protocol.abandon()
            try:
                protocol = await establish(settings, endpoint, foreign)
                session = await log_in(protocol, account, hung_up)
            except (ConnectError, ConnectionLostError) as error:
                raise hung_up.refusal from error
            assert not isinstance(session, HungUp)
        return Handle(protocol, session)
    except LoginError:
        await protocol.leave()
        raise
    except UsageError as error:
        error.server = error.server or str(settings.server)
        await protocol.leave()
        raise
    except BaseException:
        # CancelledError too: nothing that was opened stays open.
        await protocol.abandon()
        raise


async def establish(
    settings: Settings, endpoint: IStreamClientEndpoint, foreign: bool
) -> POP3ClientProtocol:
    """
    Connect, without waiting for the greeting.

    :param foreign: whether the endpoint is one that the caller gave.
    """
    server = str(settings.server)
    seconds = settings.connect_timeout
    factory = POP3ClientFactory(settings)
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

    connecting = endpoint.connect(_upgradable(factory) if foreign else factory)
    outcome: Deferred[Any] = Deferred(cancel)
    connecting.addCallbacks(outcome.callback, outcome.errback)
    timer = settings.clock.callLater(seconds, expire)
    try:
        connected = await outcome
    except Exception as error:
        # An endpoint that can't be stopped may still connect, later.
        factory.wanted = False
        if cancelled:
            raise CancelledError() from error
        if expired or isinstance(error, ConnectTimeoutError):
            raise TimedOutError(
                f"could not connect within {seconds:g} seconds",
                phase="connecting",
                seconds=seconds,
                server=server,
            ) from error
        raise ConnectError(
            f"could not connect: {printable(str(error).encode()).rstrip('.')}",
            server=server,
        ) from error
    finally:
        if timer.active():
            timer.cancel()
    return _innermost(connected)


def _innermost(connected: Any) -> POP3ClientProtocol:
    """Find our protocol in what an endpoint returned: the layers are outside."""
    while not isinstance(connected, POP3ClientProtocol):
        connected = connected.wrappedProtocol
    return connected


def _upgradable(factory: POP3ClientFactory) -> Any:
    if factory.settings.context is None:
        return factory
    from .tls.starttls import StartTLSFactory

    return StartTLSFactory(factory, factory.settings.clock)


def tcp_endpoint(reactor: IReactorTime, settings: Settings) -> IStreamClientEndpoint:
    """Return the endpoint that leads to the server of a session."""
    # They import OpenSSL, which a plain session over an endpoint does not need.
    from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint

    from .client.names import NameEndpoint

    host, port = settings.server.host, settings.server.port
    if not settings.server.is_ip:
        # Both families, side by side (RFC 8305).
        return NameEndpoint(reactor, host, port, settings.connect_timeout)
    kind = TCP6ClientEndpoint if ":" in host else TCP4ClientEndpoint
    # Its own limit must not come before ours, which has the better words.
    return kind(reactor, host, port, settings.connect_timeout + 1)


# -- arguments


def _shown(server: str) -> str | None:
    """Return what was given for the server; ``None``: a password may be in it."""
    try:
        ServerAddress.parse(server)
    except UsageError as error:
        return error.server
    return server


def _global_reactor() -> IReactorTime:
    # Not at the top: the first import installs a reactor.
    from twisted.internet import reactor

    return reactor


def _check_reactor(
    reactor: IReactorTime, address: ServerAddress, endpoint: object
) -> None:
    if endpoint is not None:
        check_reactor(reactor)
    else:
        needs = (CONNECTS,) if address.is_ip else (CONNECTS, RESOLVES)
        check_reactor(reactor, *needs, instead=", or pass an endpoint as well")


_MAX_SECONDS = 366 * 24 * 3600


def _secure(secure: object) -> Secure:
    if isinstance(secure, int):
        try:
            return Secure(int(secure))
        except ValueError:
            pass
    raise UsageError(
        f"secure={secure!r} is not known; it can be Secure.NONE (0), Secure.TLS (1) "
        "or Secure.STLS (2)"
    )


def _context(
    way: Secure,
    verify: bool,
    cacerts: str | os.PathLike[str] | None,
    system_trust: bool,
    certificate: ClientCertificate | None,
) -> ClientContext | None:
    if way is Secure.NONE:
        if certificate is not None:
            raise UsageError(
                "client_certificate is of no use without TLS; set secure to 1 or 2"
            )
        return None
    from .tls.context import shared_context
    from .tls.trust import Trust

    trust = Trust.choose(cacerts, bool(system_trust), os.environ) if verify else None
    return shared_context(trust, certificate)


def _authenticator(auth: Any) -> Any:
    if callable(getattr(auth, "challengeResponse", None)):
        return auth
    return check_auth(auth)


def _procedure(stsproc: StatusProcedure | None) -> StatusProcedure | None:
    if stsproc is None or callable(stsproc):
        return stsproc
    if isinstance(stsproc, str) and not stsproc:
        # Code that comes from Omnis Studio passes it to reach the next parameter.
        return None
    raise UsageError(
        f"stsproc must be a callable, or None, not {type(stsproc).__name__}"
    )


def _seconds(name: str, value: float) -> float:
    if (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and 0 < value <= _MAX_SECONDS
    ):
        return value
    raise UsageError(
        f"{name} is a number of seconds above 0, of a year at most, not {value!r:.50}"
    )


def _octets(value: int | None) -> int | None:
    if value is None or (type(value) is int and value > 0):
        return value
    raise UsageError(
        f"max_message_size is a number of octets above 0, or None, not {value!r}"
    )
