"""
The options for the sessions with one server, and what is remembered between sessions.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.python.failure import Failure

from .address import POP3_PORT, POP3S_PORT, Secure, ServerAddress
from .auth.account import Account, Password
from .auth.login import HungUp, log_in
from .auth.memory import Memory
from .auth.policy import NO_PASSWORD, check_auth, check_authorize_as
from .client.closing import abandon, leave
from .client.establish import connect_error, establish
from .client.observer import OneShot
from .client.protocol import POP3ClientProtocol
from .client.settings import Settings
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
from .reactors import CONNECTS, RESOLVES, check_reactor, check_thread, in_its_turn
from .redaction import StatusProcedure, hidden
from .remedies import USE_TLS, Option, Remedy
from .sansio.commands import check_text
from .sansio.readers import MAX_LISTING

if TYPE_CHECKING:
    from twisted.mail.interfaces import IClientAuthentication

    from .events import EventProcedure
    from .proxy import ProxyAddress
    from .tls.client_key import ClientCertificate
    from .tls.context import ClientContext, ContextKeeper
    from .tls.options import TLSOptions
    from .tls.trust import CACerts

__all__ = ["Connector"]


class Connector:
    """
    Opens sessions with one server.

    The TLS context is made once, its sessions are resumed, and the capabilities of the
    server are remembered for an hour, so a program that connects again and again should
    keep its connector.  A change in the cacerts folder is noticed at the next
    connection, and drops all three.

    :param server: ``"host"``, ``"host:port"``, an IP address, or
        ``"[IPv6 address]:port"``.  Port 110, or 995 with `Secure.TLS`.
    :param secure: plain, TLS at once, or STLS before the login (RFC 2595).  With
        STLS there is no fallback to plain text.
    :param verify: whether the server has to prove its identity.  If false, TLS still
        encrypts, but to any machine that answers.
    :param cacerts: the folder or file with the certificates to trust, the contents of
        such a file as bytes, or a trust root of Twisted; default: the folder or file in
        the environment variable ``POP3CONNECT_CACERTS``, else the platform's store.
    :param system_trust: with ``cacerts``: trust the platform's store as well.
    :param reactor: default: the global one.  With an ``endpoint``, a
        `twisted.internet.task.Clock` suffices; without, the reactor also has to provide
        ``IReactorTCP``, and ``IReactorPluggableNameResolver`` for a host name.
    :param endpoint: used instead of TCP to ``server``: a tunnel, a UNIX socket.  It may
        be a description such as ``"unix:/run/pop3.sock"``, see
        `twisted.internet.endpoints.clientFromString`.  The server still has to prove
        that it is ``server``.
    :param auth: ``"auto"``, ``"USER"``, ``"APOP"``, the name of a SASL mechanism, or
        your own mechanism, a `twisted.mail.interfaces.IClientAuthentication`.
    :param timeout: seconds for the greeting and for each reply.
    :param connect_timeout: seconds for looking up the name and connecting, and
        again for the TLS handshake.
    :param max_message_size: bytes; a longer message ends the session.
    :param max_listing: rows; a longer LIST or UIDL ends the session.
    :param pipeline: ``False``: send one command at a time, whatever the server offers.
    :param client_certificate: a PEM file with certificate and key, a pair of
        files, or a `twisted.internet.ssl.PrivateCertificate`.
    :param allow_cleartext: ``False``: a password is never sent without TLS.
    :param utf8: ask for UTF-8 mode (RFC 6856) before the login.
    :param capa: ``False``: do not send CAPA; some servers close the connection at it.
        Then nothing is pipelined, and USER is used unless ``auth`` says otherwise.
    :param tls: a `TLSOptions`: versions, ciphers, the client key's password, a CRL.
    :param pins: hashes of the server's public key, ``"sha256//BASE64"``, of which one
        must match: in addition to the certificate's chain and name, or, with
        ``verify=False``, instead of them.
    :param proxy: a SOCKS5 proxy, ``"socks5://user:password@host:1080"``, or an HTTP
        proxy, ``"http://user:password@host:3128"``, which also looks up the server's
        name.  It needs ``pip install 'pop3connect[proxy]'``.
    :param authorize_as: whose mailbox to open with the name and password of another
        user, such as a master user.
    :param events: called with each event of a session, see `pop3connect.events`; for
        metrics and traces.  It must not block.
    :raises UsageError: an option cannot be used.
    """

    def __init__(
        self,
        server: str,
        *,
        secure: int | Secure = Secure.NONE,
        verify: bool = True,
        cacerts: CACerts | None = None,
        system_trust: bool = False,
        reactor: IReactorTime | None = None,
        endpoint: IStreamClientEndpoint | str | None = None,
        auth: str | IClientAuthentication = "auto",
        timeout: float = 60.0,
        connect_timeout: float = 30.0,
        max_message_size: int | None = None,
        max_listing: int = MAX_LISTING,
        pipeline: bool = True,
        client_certificate: ClientCertificate | None = None,
        allow_cleartext: bool = True,
        utf8: bool = False,
        capa: bool = True,
        tls: TLSOptions | None = None,
        pins: Sequence[str] | None = None,
        proxy: str | None = None,
        authorize_as: str | None = None,
        events: EventProcedure | None = None,
    ) -> None:
        try:
            self._secure = _secure(secure)
            self.server = ServerAddress.parse(
                server, POP3S_PORT if self._secure is Secure.TLS else POP3_PORT
            )
            self._auth = _authenticator(auth)
            self._timeout = _seconds("timeout", timeout)
            self._connect_timeout = _seconds("connect_timeout", connect_timeout)
            self._max_message_size = max_message_size
            if max_message_size is not None:
                _count("max_message_size", max_message_size, "bytes")
            self._max_listing = _count("max_listing", max_listing, "rows")
            self._proxy = _proxy(proxy, endpoint, self.server)
            first = self.server if self._proxy is None else self._proxy.address
            self._reactor = _reactor(reactor, first, endpoint)
            self._endpoint = _endpoint(endpoint, self._reactor)
            self._events = _events(events)
            self._certificate = client_certificate
            self._keeper = self._make_keeper(
                verify, cacerts, bool(system_trust), tls, pins
            )
            self._authorize_as = self._authorization(authorize_as)
        except POP3Error as error:
            known = getattr(self, "server", None)
            error.server = error.server or (str(known) if known else _shown(server))
            # A URL may hold a password, and a traceback shows local variables.
            del server, proxy
            raise
        self._pipeline = bool(pipeline)
        self._allow_cleartext = bool(allow_cleartext)
        self._utf8 = bool(utf8)
        self._capa = bool(capa)
        # What was learnt with a context must not outlive it.
        self._memory: tuple[ClientContext | None, Memory] | None = None

    def __repr__(self) -> str:
        """Show where it leads."""
        return f"<Connector {self.server} {self._secure.name}>"

    def connect(
        self,
        username: str,
        password: Password,
        stsproc: StatusProcedure | None = None,
        *,
        authorize_as: str | None = None,
        events: EventProcedure | None = None,
    ) -> Deferred[Handle]:
        """
        Open a session and log in.

        :param username: the name of the account, as the server knows it.
        :param password: the password, or a callable that returns it, a Deferred of it,
            or a coroutine; called when the password is needed.
        :param stsproc: called with each protocol message, secrets masked.
        :param authorize_as: used for this session instead of that of the connector.
        :param events: likewise.
        :return: fires with the `Handle`.  Cancelling it closes what was opened.

        It fails with `UsageError` (an argument; nothing was sent), `ConnectError`,
        `TimedOutError`, `TLSError` and its kinds `VerificationError` and
        `STLSUnavailableError`, `LoginError`, `ConnectionLostError`, `ProtocolError`.
        """
        try:
            opening = self.opening(username, password, stsproc, events, authorize_as)
        except POP3Error as error:
            # The local variables in a traceback would show the password.
            return fail(error.with_traceback(None))
        opening.connect(self._endpoint)
        return opening.result

    def sessions(
        self,
        username: str,
        password: Password,
        stsproc: StatusProcedure | None = None,
        *,
        interval: float = 300.0,
        backoff: Callable[[int], float] | None = None,
        failed: Callable[[POP3Error, float], object] | None = None,
    ) -> AsyncGenerator[Handle, None]:
        """
        Open one session after another, for as long as the program wants.

        ::

            async for handle in connector.sessions("ada", "secret"):
                async with handle:
                    async for message in handle.messages():
                        ...

        :param username: the name of the account, as the server knows it.
        :param password: the password, or a callable that returns it, a Deferred of it,
            or a coroutine; called for each session.
        :param stsproc: called with each protocol message, secrets masked.
        :param interval: seconds from the end of a session to the next one.  It is
            longer if the server wants a longer LOGIN-DELAY (RFC 2449 section 6.5).
        :param backoff: called with the number of failures in a row; returns the seconds
            to wait, as a policy of `twisted.application.internet.backoffPolicy` does.
            Default: the interval, doubled with each failure, up to an hour.  A wait
            that the server asks for (`CommandError.retry_after`) is always honoured.
        :param failed: called with the error and the seconds of the wait when a session
            could not be opened.  Default: that is logged.
        :return: an async generator of handles.  Cancelling the Deferred of the
            coroutine that iterates ends a wait, or the opening of a session, at once.

        Raised, because trying again would not help or could lock the account:
        `UsageError`, a refused login (`LoginError`, unless it is ``.transient``),
        `VerificationError`, `STLSUnavailableError`, an error of the callable that
        returns the password.
        """
        from .sessions import log_failure, sessions

        for name, function in (("backoff", backoff), ("failed", failed)):
            if function is not None and not callable(function):
                raise UsageError(
                    f"{name} must be a callable, or None, not "
                    f"{type(function).__name__}",
                    server=str(self.server),
                )
        return sessions(
            partial(self.connect, username, hidden(password), stsproc),
            self._reactor,
            str(self.server),
            interval=_seconds("interval", interval),
            backoff=backoff,
            failed=failed or log_failure,
        )

    def opening(
        self,
        username: str,
        password: Password,
        stsproc: StatusProcedure | None = None,
        events: EventProcedure | None = None,
        authorize_as: str | None = None,
    ) -> Opening:
        """
        Return an attempt to open a session over the connection that a factory makes.

        :raises UsageError: an argument cannot be used.
        """
        # A traceback shows local variables.
        password = hidden(password)
        try:
            check_thread(self._reactor)
            account = self._account(username, password, authorize_as)
            settings = self._settings(
                stsproc, self._events if events is None else _events(events)
            )
            return Opening(settings, account, self._memory_for(settings.context))
        except POP3Error as error:
            error.server = error.server or str(self.server)
            raise

    def _memory_for(self, context: ClientContext | None) -> Memory:
        if self._memory is None or self._memory[0] is not context:
            self._memory = context, Memory(self._reactor)
        return self._memory[1]

    def _authorization(self, authorize_as: str | None) -> str:
        if authorize_as is None:
            return ""
        check_authorize_as(authorize_as, self._auth)
        return authorize_as

    def _account(
        self, username: str, password: Password, authorize_as: str | None
    ) -> Account:
        if username != "" or self._auth not in NO_PASSWORD:
            # Without a name, the certificate says it all (RFC 4422 appendix A).
            check_text("user name", username)
        if not callable(password) and self._auth not in NO_PASSWORD:
            check_text("password", password)
        return Account(
            username=username,
            password=password,
            auth=self._auth,
            stls=self._secure is Secure.STLS,
            utf8=self._utf8,
            capa=self._capa,
            allow_cleartext=self._allow_cleartext,
            certificate=self._certificate is not None,
            authorize_as=self._authorization(authorize_as) or self._authorize_as,
        )

    def _settings(
        self, stsproc: StatusProcedure | None, events: EventProcedure | None
    ) -> Settings:
        return Settings(
            server=self.server,
            clock=self._reactor,
            status_procedure=_procedure(stsproc),
            context=self._context(),
            tls_at_once=self._secure is Secure.TLS,
            timeout=self._timeout,
            connect_timeout=self._connect_timeout,
            max_message_size=self._max_message_size,
            max_listing=self._max_listing,
            pipeline=self._pipeline,
            proxy=self._proxy,
            events=events,
        )

    def _make_keeper(
        self, verify: bool, cacerts: Any, system_trust: bool, tls: Any, pins: Any
    ) -> ContextKeeper | None:
        if self._secure is Secure.NONE:
            for name, value in (
                ("client_certificate", self._certificate),
                ("tls", tls),
                ("pins", pins),
            ):
                if value is not None:
                    raise UsageError(
                        " is of no use without TLS",
                        option=Option(name),
                        remedy=USE_TLS,
                    )
            return None
        from .tls.context import ContextKeeper
        from .tls.options import TLSOptions
        from .tls.pins import check_pins
        from .tls.trust import Trust

        if tls is not None and not isinstance(tls, TLSOptions):
            raise UsageError(
                f" must be a TLSOptions, or None, not {type(tls).__name__}",
                option=Option("tls"),
            )
        options = tls or TLSOptions()
        if options.crl is not None and not verify:
            raise UsageError(
                " is of no use where certificates are not verified",
                option=Option("crl"),
                remedy=Remedy("leave out {}", (Option("verify", False),)),
            )
        return ContextKeeper(
            Trust.choose(cacerts, system_trust, os.environ) if verify else None,
            self._certificate,
            options,
            () if pins is None else check_pins(pins),
        )

    def _context(self) -> ClientContext | None:
        return None if self._keeper is None else self._keeper.current()


class Opening:
    """
    One call of ``connect()``, from the first packet to the handle.

    :param memory: what is remembered about the server.
    :ivar result: fires with the handle, or fails.  Cancelling it ends the connection at
        once, wherever the login is, also from the status procedure.
    """

    def __init__(
        self,
        settings: Settings,
        account: Account,
        memory: Memory,
    ) -> None:
        self._settings = settings
        self._account = account
        self._memory = memory
        self._cancelled = False
        self._connecting: Deferred[POP3ClientProtocol] | None = None
        self._protocol: POP3ClientProtocol | None = None
        # Whether the connection is to be made again, and why: the server refused to
        # resume a TLS session, which happens once, or the login continues on another
        # connection.
        self._again = False
        self._resumed_anew = False
        self._hung_up: HungUp | None = None
        # Fires when nothing runs any more, so that a cancelled result waits for it.
        self._over: OneShot[None] = OneShot()
        self._running = False
        self.result: Deferred[Handle] = Deferred(self._cancel)
        self.result.addErrback(self._when_over)

    def connect(self, endpoint: IStreamClientEndpoint | None) -> None:
        """Connect and log in."""
        self._running = True
        opened = Deferred.fromCoroutine(self._open(endpoint))
        opened.addCallbacks(self._done, self._failed)

    async def _open(self, endpoint: IStreamClientEndpoint | None) -> Handle:
        while True:
            protocol = await self._establish(endpoint)
            handle = await self._log_in(protocol)
            if handle is not None:
                return handle

    async def _establish(
        self, endpoint: IStreamClientEndpoint | None
    ) -> POP3ClientProtocol:
        self._connecting = establish(self._settings, endpoint)
        try:
            protocol = self._protocol = await self._connecting
        except (ConnectError, TimedOutError) as error:
            if self._refusal is not None:
                raise self._refusal from error
            raise
        finally:
            self._connecting = None
        return protocol

    async def _log_in(self, protocol: POP3ClientProtocol) -> Handle | None:
        """Log in; return ``None`` if another connection is needed."""
        self._again = False
        try:
            self._check()
            session = await log_in(protocol, self._account, self._memory, self._hung_up)
            self._check()
            if isinstance(session, HungUp):
                # The next attempt needs a new connection.
                self._hung_up = session
                self._again = True
                await abandon(protocol)
                self._check()
                return None
            return Handle(protocol, session)
        except TimedOutError as error:
            await abandon(protocol)
            if self._refusal is not None:
                raise self._refusal from error
            raise
        except (TLSError, ConnectionLostError) as error:
            again = protocol.protection.resumption_failed and not self._resumed_anew
            await abandon(protocol)
            if self._refusal is not None and not isinstance(error, TLSError):
                raise self._refusal from error
            if not again or self._cancelled:
                raise
            # No credential has been sent yet, so once more, from the start.
            self._again = self._resumed_anew = True
            protocol.protection.keep_no_session()
            return None
        except LoginError:
            await leave(protocol)
            raise
        except UsageError as error:
            error.server = error.server or str(self._settings.server)
            await leave(protocol)
            raise
        except GeneratorExit:
            # This coroutine was closed; the connection may still be open.
            in_its_turn(
                self._settings.clock, partial(protocol.end, "connect() was given up")
            )
            raise
        except BaseException:
            # CancelledError too: nothing that was opened stays open.
            await abandon(protocol)
            raise

    # -- for a factory that makes the connection

    def build(self) -> POP3ClientProtocol | None:
        """Return a protocol whose login begins; ``None`` if no caller waits for it."""
        if self.result.called:
            return None
        self._running = True
        protocol = self._protocol = POP3ClientProtocol(self._settings)
        logged_in = Deferred.fromCoroutine(self._log_in(protocol))
        logged_in.addCallbacks(self._logged_in, self._failed)
        return protocol

    def _logged_in(self, handle: Handle | None) -> None:
        self._running = False
        if handle is not None:
            self._done(handle)

    def not_connected(self, reason: BaseException | None) -> None:
        """Fail: the connection was not made."""
        if not self._cancelled:
            error: POP3Error = connect_error(self._settings, reason)
            error.__cause__ = reason
            if self._refusal is not None:
                self._refusal.__cause__ = error
                error = self._refusal
            self.result.errback(error)

    def wants_another(self) -> bool:
        """Return whether the connection that was lost is to be made again."""
        return self._again and not self.result.called

    # -- how it ends

    @property
    def _refusal(self) -> LoginError | UsageError | None:
        """What a connection before this one came to; its loss says less."""
        return None if self._hung_up is None else self._hung_up.refusal

    def _check(self) -> None:
        if self._cancelled:
            raise CancelledError()

    def _cancel(self, _: object) -> None:
        self._cancelled = True
        if not self._running:
            self._over.fire(None)
        if self._connecting is not None:
            self._connecting.cancel()
        if self._protocol is not None:
            self._protocol.end("connect() was cancelled")

    def _when_over(self, failure: Failure) -> Any:
        if not self._cancelled:
            return failure
        return self._over.when_fired().addCallback(lambda _: failure)

    def _done(self, handle: Handle) -> None:
        # A factory has this object for as long as the session lasts.
        del self._account
        self._hung_up = None
        if self._cancelled:
            # In the last moment.
            handle.abort().addCallback(self._over.fire)
        else:
            self.result.callback(handle)

    def _failed(self, failure: Failure) -> None:
        if self._cancelled:
            self._over.fire(None)
        else:
            self.result.errback(failure)


# -- options


def _shown(server: str) -> str | None:
    """Return the server as it was given; ``None`` if a password may be in it."""
    try:
        ServerAddress.parse(server)
    except UsageError as error:
        return error.server
    return str(server)


def _reactor(
    reactor: IReactorTime | None, server: ServerAddress, endpoint: object
) -> IReactorTime:
    if reactor is None:
        # Not at the top: the first import installs a reactor.
        from twisted.internet import reactor as installed

        reactor = installed
    if endpoint is not None:
        check_reactor(reactor)
    else:
        needs = (CONNECTS,) if server.is_ip else (CONNECTS, RESOLVES)
        check_reactor(reactor, *needs, instead=", or pass an endpoint as well")
    return reactor


MAX_SECONDS = 366 * 24 * 3600
"""The longest time limit, in seconds."""


def _secure(secure: object) -> Secure:
    if isinstance(secure, int):
        try:
            return Secure(int(secure))
        except ValueError:
            pass
    raise UsageError(
        f"secure must be Secure.NONE (0), Secure.TLS (1) or Secure.STLS (2), not "
        f"{secure!r}"
    )


def _authenticator(auth: Any) -> Any:
    if callable(getattr(auth, "challengeResponse", None)):
        return auth
    return check_auth(auth)


def _proxy(
    url: str | None, endpoint: object, server: ServerAddress
) -> ProxyAddress | None:
    if url is None:
        return None
    from .proxy import proxy_for

    try:
        proxy = proxy_for(server, url)
    finally:
        # A traceback shows local variables.
        del url
    if endpoint is not None:
        raise UsageError(
            " cannot be used with an endpoint: the endpoint leads to the server",
            option=Option("proxy"),
        )
    return proxy


def _endpoint(endpoint: Any, reactor: Any) -> Any:
    if isinstance(endpoint, str):
        return _described(endpoint, reactor)
    connects = callable(getattr(endpoint, "connect", None))
    if endpoint is None or (connects and not isinstance(endpoint, type)):
        return endpoint
    raise UsageError(
        "endpoint must be an IStreamClientEndpoint or a description such as "
        f"'unix:/run/pop3.sock', not {type(endpoint).__name__}"
    )


def _described(description: str, reactor: Any) -> Any:
    """Return the endpoint of a description, as `clientFromString` has them."""
    from twisted.internet.endpoints import clientFromString

    try:
        return clientFromString(reactor, description)
    except Exception as error:
        # A plugin may raise anything: ValueError if the port is wrong, TypeError if an
        # argument is missing.
        raise UsageError(
            f"the endpoint {description!r:.200} cannot be used: {error}; "
            "give a description such as 'unix:/run/pop3.sock' or "
            "'tcp:host=192.0.2.1:port=110'"
        ) from error


def _procedure(stsproc: StatusProcedure | None) -> StatusProcedure | None:
    if stsproc is None or callable(stsproc):
        return stsproc
    if isinstance(stsproc, str) and not stsproc:
        # Code that comes from Omnis Studio passes it to reach the next parameter.
        return None
    raise UsageError(
        f"stsproc must be a callable, or None, not {type(stsproc).__name__}"
    )


def _events(events: EventProcedure | None) -> EventProcedure | None:
    if events is None or callable(events):
        return events
    raise UsageError(f"events must be a callable, or None, not {type(events).__name__}")


def _seconds(name: str, value: float) -> float:
    if (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and 0 < value <= MAX_SECONDS
    ):
        return value
    raise UsageError(
        f" must be a number of seconds above 0, of a year at most, not {value!r:.50}",
        option=Option(name),
    )


def _count(name: str, value: int, unit: str) -> int:
    if type(value) is int and value > 0:
        return value
    raise UsageError(
        f" must be a number of {unit} above 0, not {value!r:.50}", option=Option(name)
    )
