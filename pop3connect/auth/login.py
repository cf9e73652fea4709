"""
From the greeting to being logged in: CAPA, STLS, and attempts until one is accepted.

The order is the safety: no credential before TLS where TLS was asked for, and
nothing that was learnt in the clear is believed after it (RFC 2595 section 4).  The
module `policy` decides what may be tried, and after which refusal.
"""

from __future__ import annotations

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from ..client.closing import unless_closed
from ..client.protocol import POP3ClientProtocol
from ..errors import (
    CommandError,
    ConnectionLostError,
    LoginError,
    STLSUnavailableError,
    UsageError,
)
from ..redaction import Secret
from ..remedies import USE_TLS, Option, Remedy
from ..results import Capabilities, LoginInfo
from ..sansio.commands import Capa, Stls, Utf8, check_text
from .account import Account
from .attempt import Attempting, plugged_name
from .policy import (
    AUTHORIZING,
    NO_PASSWORD,
    Attempt,
    Outcome,
    Verdict,
    choose,
    names_cyrus,
    next_attempt,
    order_bindings,
    plan,
    sends_password,
)
from .sasl import MECHANISMS, ChannelBinding, apop_challenge

__all__ = ["HungUp", "Session", "log_in"]

log = Logger()


@attrs.frozen
class Session:
    """What is known of a session after its login."""

    greeting: str
    capabilities: Capabilities
    login: LoginInfo
    utf8: bool = False


@attrs.frozen
class HungUp:
    """
    The server closed the connection after a refusal, and one attempt is left.

    It can be made on another connection: servers such as solid-pop3d close the session
    at the first refusal.

    :ivar refusal: the error if it is not made.
    """

    refusal: LoginError | UsageError
    tried: list[Outcome]
    secret: Secret = attrs.field(repr=False)


async def log_in(
    protocol: POP3ClientProtocol, account: Account, before: HungUp | None = None
) -> Session | HungUp:
    """
    Take a new connection to the state TRANSACTION.

    :param before: how the login ended on the connection before this one.
    :raises STLSUnavailableError: STLS was asked for and is not available.
    :raises LoginError: the server refused.
    :raises UsageError: this server cannot be given this name or password.
    :raises POP3Error: the connection failed.
    """
    if isinstance(account.password, str) and account.auth not in NO_PASSWORD:
        # Before it is used: the server may know it from elsewhere.
        protocol.transcript.keep_secret(*account.secrets(account.password))
    greeting = await protocol.when_greeted()
    server = str(protocol.settings.server)
    if not account.capa:
        log.info("{server}: capa=False, CAPA is not sent", server=server)
    capabilities = await _capabilities(protocol, account)
    if account.stls:
        await _upgrade(protocol, capabilities)
        capabilities = await _capabilities(protocol, account)
    if account.utf8:
        await _utf8(protocol, capabilities)
    authentication = _Authentication(protocol, account, greeting, capabilities)
    login = await authentication.log_in(before)
    if isinstance(login, HungUp):
        return login
    protocol.logged_in()
    if capabilities.known:
        # Servers offer more after the login, or correct what they said.  One that does
        # not know CAPA is not asked again: some close the session after a few errors.
        now = await _capabilities(protocol, account)
        if now.known:
            capabilities = now
    # Not earlier: with TLS 1.3 what is needed for it comes after the handshake.
    protocol.protection.remember()
    if "PIPELINING" in capabilities:
        if protocol.settings.pipeline:
            protocol.allow_pipelining()
        else:
            log.info("{server}: pipeline=False, though it is offered", server=server)
    return Session(
        greeting=protocol.transcript.clean(greeting),
        capabilities=capabilities,
        login=login,
        utf8=account.utf8,
    )


async def _capabilities(protocol: POP3ClientProtocol, account: Account) -> Capabilities:
    if not account.capa:
        return Capabilities(known=False)
    try:
        return await protocol.submit(Capa())
    except ConnectionLostError as error:
        error.remedy = _NO_CAPA
        raise
    except CommandError:
        # RFC 2449 section 4: no extensions then; logging in still works.
        return Capabilities(known=False)


async def _upgrade(protocol: POP3ClientProtocol, capabilities: Capabilities) -> None:
    server = str(protocol.settings.server)
    if capabilities.known and "STLS" not in capabilities:
        raise STLSUnavailableError(
            "the server does not offer STLS, so the session was ended before the login",
            server=server,
            verb="STLS",
            remedy=_TLS_PORT,
        )
    try:
        await protocol.submit(Stls())
    except CommandError as error:
        raise STLSUnavailableError(
            f"the server refused STLS ({error.text or 'it gave no reason'}), so the "
            "session was ended before the login",
            server=server,
            verb="STLS",
        ) from error


async def _utf8(protocol: POP3ClientProtocol, capabilities: Capabilities) -> None:
    """Ask for UTF-8 mode, which must come before the login (RFC 6856 section 2)."""
    if "UTF8" not in capabilities:
        raise UsageError(
            "utf8=True, but the server does not offer UTF8 (RFC 6856)",
            server=str(protocol.settings.server),
            verb="UTF8",
        )
    try:
        await protocol.submit(Utf8())
    except CommandError as error:
        raise LoginError(
            f"{error.message} (asked for with utf8=True)",
            text=error.text,
            code=error.code,
            server=error.server,
            verb=error.verb,
        ) from error


class _Authentication:
    """
    The attempts of one login, on a connection that is in the state AUTHORIZATION.

    :param greeting: the text of the server's greeting.
    :param capabilities: what the server can do, as it says now.
    """

    def __init__(
        self,
        protocol: POP3ClientProtocol,
        account: Account,
        greeting: bytes,
        capabilities: Capabilities,
    ) -> None:
        self._protocol = protocol
        self._account = account
        self._capabilities = capabilities
        self._server = str(protocol.settings.server)
        # The timestamp of a greeting in the clear may come from an attacker.
        self._timestamp = None if account.stls else apop_challenge(greeting)
        self._bindings = self._order_bindings(greeting)
        self._withheld: list[str] = []

    def _order_bindings(self, greeting: bytes) -> list[ChannelBinding]:
        # Only SCRAM uses them, and making them takes a look at the certificate.
        offered = self._capabilities.sasl
        names = (str(self._account.auth).upper(), *offered)
        if not any(name.startswith("SCRAM-") for name in names):
            return []
        cyrus = names_cyrus(greeting, self._capabilities)
        if cyrus and any(name.endswith("-PLUS") for name in offered):
            # tls-unique is only available where no TLS session was offered.
            self._protocol.protection.keep_no_session()
        return order_bindings(
            self._protocol.protection.channel_bindings(),
            known=self._protocol.protection.known_binding(),
            cyrus=cyrus,
        )

    async def log_in(self, before: HungUp | None) -> LoginInfo | HungUp:
        """
        Make one attempt after another, until the server accepts one.

        :param before: the attempts of another connection, which count as well.
        :raises LoginError: the server refused.
        :raises UsageError: this caller and this server have no mechanism in common, or
            it cannot be given this user name or password.
        """
        mechanisms = self._mechanisms()
        secret = await self._password(mechanisms, before)
        attempts = plan(
            mechanisms,
            self._capabilities,
            self._bindings,
            renewable=callable(self._account.password),
        )
        making = Attempting(
            self._protocol,
            self._account.username,
            self._capabilities,
            self._timestamp,
            None if isinstance(self._account.auth, str) else self._account.auth,
            self._account.authorize_as,
        )
        known = self._protocol.protection.known_binding()
        tried = [] if before is None else before.tried
        attempt = self._next(attempts, tried, known)
        while attempt is not None:
            self._announce(attempt, tried)
            if attempt.fresh:
                secret = await self._password(mechanisms, refresh=True)
            try:
                outcome = await making.make(attempt, secret)
            except ConnectionLostError as lost:
                if not any(outcome.verdict is Verdict.REFUSED for outcome in tried):
                    raise
                # The server closed the connection because of the refusal.
                if making.exposed or before is not None:
                    raise self._error(tried) from lost
                return HungUp(self._error(tried), tried, secret)
            if outcome.verdict is Verdict.ACCEPTED:
                if attempt.bound and attempt.binding is not None:
                    self._protocol.protection.bound_by(attempt.binding[0])
                return LoginInfo(
                    attempt.mechanism, self._sends_in_clear(attempt.mechanism)
                )
            tried.append(outcome)
            attempt = self._next(attempts, tried, known)
        if any(outcome.attempt.bound for outcome in tried):
            # Whatever is remembered of this server may be the cause.
            self._protocol.protection.bound_by(None)
        raise self._error(tried)

    def _next(
        self, attempts: list[Attempt], tried: list[Outcome], known: str | None
    ) -> Attempt | None:
        attempt = next_attempt(attempts, tried, known)
        tls = self._protocol.protection.info
        if tried and tried[-1].reason and not (tls is not None and tls.verified):
            # The mechanisms left send the password, and the server is not verified.
            return None
        return attempt

    def _announce(self, attempt: Attempt, tried: list[Outcome]) -> None:
        if tried:
            log.info(
                "{server}: {mechanism}: {error}; next is {following}",
                server=self._server,
                mechanism=tried[-1].attempt.title,
                error=tried[-1].error,
                following=attempt.title,
            )
        if self._sends_in_clear(attempt.mechanism):
            warning = "the password is sent without TLS: an eavesdropper can read it"
            self._protocol.transcript.warning(warning)
            log.warn("{server}: {text}", server=self._server, text=warning)

    # -- which mechanisms

    def _mechanisms(self) -> list[str]:
        """Return the names of the mechanisms to try, all of them allowed."""
        account, protected = self._account, self._protocol.protection.info is not None
        if not isinstance(account.auth, str):
            names = [plugged_name(account.auth)]
        else:
            names = choose(
                account.auth,
                self._capabilities,
                protected=protected,
                bindable=bool(self._bindings),
                challenge=self._timestamp is not None,
                certificate=account.certificate,
                authorizes=bool(account.authorize_as),
            )
        if not names:
            raise self._nothing_in_common()
        if protected:
            return names
        for name in names:
            if name.endswith("-PLUS"):
                raise self._usage(
                    f"{name} binds the login to the TLS connection, and this session "
                    "has no TLS",
                    USE_TLS,
                )
            if name in MECHANISMS and MECHANISMS[name].needs_tls:
                raise self._usage(
                    f"{name} must not be used without TLS (RFC 7628 section 4)",
                    USE_TLS,
                )
        if not account.allow_cleartext:
            self._withheld = [name for name in names if self._sends_in_clear(name)]
            names = [name for name in names if name not in self._withheld]
            if not names:
                raise self._usage(
                    " forbids to send the password without TLS, and the server offers "
                    "nothing else",
                    USE_TLS,
                    Option("allow_cleartext", False),
                )
        return names

    def _nothing_in_common(self) -> UsageError:
        offered = self._capabilities.sasl
        if self._account.authorize_as:
            return self._usage(
                " needs a mechanism that carries an authorization identity, which are "
                f"{', '.join(AUTHORIZING)}; the server offers SASL "
                f"{' '.join(offered) or 'with no mechanism'}, and none of them can be "
                "used here",
                None if self._protocol.protection.info is not None else USE_TLS,
                Option("authorize_as"),
            )
        text = (
            "the server and this client have no login mechanism in common; the server "
            f"offers SASL {' '.join(offered) or 'with no mechanism'}"
        )
        plain = [name for name in ("PLAIN", "LOGIN") if name in offered]
        if plain and self._protocol.protection.info is None:
            text += (
                f".  {' and '.join(plain)} would send the password and need TLS (RFC "
                "2595 section 6)"
            )
            return self._usage(text, USE_TLS)
        if any(name in MECHANISMS and MECHANISMS[name].oauth for name in offered):
            return self._usage(text, _TOKEN)
        return self._usage(text)

    def _sends_in_clear(self, name: str) -> bool:
        """Return whether an eavesdropper could read the password on this connection."""
        if self._protocol.protection.info is not None:
            return False
        return sends_password(name) or not isinstance(self._account.auth, str)

    def _usage(
        self, message: str, remedy: Remedy | None = None, option: Option | None = None
    ) -> UsageError:
        return UsageError(message, server=self._server, remedy=remedy, option=option)

    async def _password(
        self,
        mechanisms: list[str],
        before: HungUp | None = None,
        *,
        refresh: bool = False,
    ) -> Secret:
        if set(mechanisms) <= set(NO_PASSWORD):
            return Secret()
        if before is not None:
            secret = before.secret
        else:
            secret = await unless_closed(
                self._protocol,
                Deferred.fromCoroutine(self._account.ask_password(refresh=refresh)),
            )
        check_text("password", secret)
        if callable(self._account.password):
            self._protocol.transcript.keep_secret(*self._account.secrets(secret))
        return secret

    # -- how it failed

    def _error(self, tried: list[Outcome]) -> LoginError | UsageError:
        """Return the error for a login that has failed: that of the last refusal."""
        refused = [o for o in tried if isinstance(o.error, CommandError)]
        if not refused:
            first = tried[0].error
            assert isinstance(first, UsageError)
            return first
        last = refused[-1]
        error = last.error
        assert isinstance(error, CommandError)
        told = " ".join(f"{key}={value}" for key, value in last.details.items())
        remarks, remedy = self._remarks(refused)
        remarks = [last.reason, told, *remarks]
        failed = LoginError(
            "; ".join(
                [
                    f"{error.message} (logging in with {last.attempt.mechanism})",
                    *(remark for remark in remarks if remark),
                ]
            ),
            text=error.text,
            code=error.code,
            retry_after=(
                self._capabilities.login_delay if error.code == "LOGIN-DELAY" else None
            ),
            mechanism=last.attempt.mechanism,
            details=last.details,
            server=error.server,
            verb=error.verb,
            remedy=remedy,
        )
        failed.__cause__ = error
        return failed

    def _remarks(self, refused: list[Outcome]) -> tuple[list[str], Remedy | None]:
        remarks: list[str] = []
        remedy = None
        before = [o for o in refused[:-1] if o.verdict is Verdict.REFUSED]
        if before:
            remarks.append(f"{before[-1].attempt.title} was refused before it")
        bound = [o.attempt for o in refused if o.attempt.bound and not o.reason]
        if bound and not refused[-1].reason:
            kinds = dict.fromkeys(a.binding[0] for a in bound if a.binding)
            remarks.append(
                "unless the credentials are wrong, the server refused the channel "
                f"binding ({', '.join(kinds)}), which can mean that somebody else ends "
                "the TLS connection"
            )
            plain = bound[-1].mechanism.removesuffix("-PLUS")
            remedy = Remedy(
                "{} or {} logs in without a binding",
                (Option("auth", plain), Option("auth", "PLAIN")),
            )
        if refused[-1].attempt.mechanism == "APOP" and "USER" in self._withheld:
            remarks.append(
                "the server may keep no APOP secret for this account, and USER would "
                "send the password without TLS"
            )
            remedy = Remedy(
                "{} forbids that: set {} or {}",
                (Option("allow_cleartext", False), *USE_TLS.options),
            )
        return remarks, remedy


_NO_CAPA = Remedy("if the server hangs up on CAPA, use {}", (Option("capa", False),))

_TLS_PORT = Remedy(
    "use {} if the server has a port for TLS (995)", (Option("secure", 1),)
)

_TOKEN = Remedy(
    "if the password is an OAuth token, say so with {} or {}",
    (Option("auth", "XOAUTH2"), Option("auth", "OAUTHBEARER")),
)
