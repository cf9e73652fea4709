"""
From the greeting to being logged in: CAPA, STLS, and attempts until one is accepted.

A connection soon after another to the same server leaves out CAPA or does not wait for
its reply (module `offer`).

The order is the safety: no credential before TLS where TLS was asked for, and
nothing that was learnt in the clear is believed after it (RFC 2595 section 4).  The
module `policy` decides what may be tried, and after which refusal.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

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
from ..sansio.commands import Stls, Utf8, check_text
from .account import Account
from .attempt import Attempting, SupersededError, plugged_name
from .memory import Memory
from .offer import Later, Offer
from .policy import (
    AUTHORIZING,
    NO_PASSWORD,
    Attempt,
    Outcome,
    Verdict,
    choose,
    concerns_something_else,
    names_cyrus,
    next_attempt,
    order_bindings,
    plan,
    sends_password,
)
from .sasl import MECHANISMS, ChannelBinding, apop_challenge

__all__ = ["HungUp", "Session", "log_in"]

log = Logger()


# Never compared and never shown: methods for that would cost time at every import.
@attrs.frozen(eq=False, repr=False)
class Session:
    """
    The facts of a session after its login.

    :ivar later: what the server offers now.
    """

    greeting: str
    later: Later
    login: LoginInfo
    utf8: bool = False


# Never compared and never shown: methods for that would cost time at every import.
@attrs.frozen(eq=False, repr=False)
class HungUp:
    """
    The login ended without an outcome, and continues on another connection.

    Either the server closed this one after a refusal, and one attempt is left: servers
    such as solid-pop3d close the session at the first refusal.  Or USER or AUTH was
    sent on a guess, and the server's reply to CAPA leads to another attempt.

    :ivar refusal: the error to report if the other connection cannot be made; ``None``:
        report the error of connecting.
    """

    refusal: LoginError | UsageError | None
    tried: list[Outcome]
    secret: Secret


async def log_in(
    protocol: POP3ClientProtocol,
    account: Account,
    memory: Memory,
    before: HungUp | None = None,
) -> Session | HungUp:
    """
    Take a new connection to the state TRANSACTION.

    :param memory: what the server said on earlier connections of this kind.
    :param before: how the login ended on the connection before this one.
    :raises STLSUnavailableError: STLS was asked for and is not available.
    :raises LoginError: the server refused.
    :raises UsageError: this server cannot be given this name or password.
    :raises POP3Error: the connection failed.
    """
    if isinstance(account.password, str) and account.auth not in NO_PASSWORD:
        # Before the first reply: the server may know the password already.
        protocol.transcript.keep_secret(*account.secrets(account.password))
    elif before is not None and before.secret:
        # From a callable, on the connection before this one.
        protocol.transcript.keep_secret(*account.secrets(before.secret))
    greeting = await protocol.when_greeted()
    server = str(protocol.settings.server)
    if not account.capa:
        log.info("{server}: capa=False, CAPA is not sent", server=server)
    offer = Offer(protocol, account, memory)
    try:
        login = await _authenticate(protocol, account, offer, memory, greeting, before)
    except BaseException:
        if not offer.fresh:
            # The remembered capabilities may be the cause.
            memory.forget()
        raise
    if isinstance(login, HungUp):
        return login
    protocol.logged_in()
    # Not earlier: with TLS 1.3 the session ticket comes after the handshake.
    protocol.protection.remember()
    later = offer.after_login()
    offered = "PIPELINING" in later.capabilities
    if offered and not protocol.settings.pipeline:
        log.info("{server}: pipeline=False, though it is offered", server=server)
    protocol.allow_pipelining(offered)
    return Session(
        greeting=protocol.transcript.clean(greeting),
        later=later,
        login=login,
        utf8=account.utf8,
    )


async def _authenticate(
    protocol: POP3ClientProtocol,
    account: Account,
    offer: Offer,
    memory: Memory,
    greeting: bytes,
    before: HungUp | None,
) -> LoginInfo | HungUp:
    if account.stls:
        # A server that has been logged in to over TLS knows STLS.
        if before is not None or not offer.has_history:
            await offer.ask()
        await _upgrade(protocol, offer.capabilities)
    if before is not None or not offer.recall():
        await offer.ask()
    if account.utf8:
        if "UTF8" not in offer.capabilities and not offer.fresh:
            await offer.ask()
        await _utf8(protocol, offer.capabilities)
    attempts = _Authentication(protocol, account, greeting, offer, memory)
    return await attempts.log_in(before)


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
    :param offer: what the server can do.
    :param memory: whether the log was warned.
    """

    def __init__(
        self,
        protocol: POP3ClientProtocol,
        account: Account,
        greeting: bytes,
        offer: Offer,
        memory: Memory,
    ) -> None:
        self._protocol = protocol
        self._account = account
        self._offer = offer
        self._memory = memory
        self._greeting = greeting
        self._server = str(protocol.settings.server)
        # The timestamp of a greeting in the clear may come from an attacker.
        self._timestamp = None if account.stls else apop_challenge(greeting)
        self._known_binding = protocol.protection.known_binding()
        self._bindings: list[ChannelBinding] = []
        self._withheld: list[str] = []

    @property
    def _capabilities(self) -> Capabilities:
        return self._offer.capabilities

    def _order_bindings(self) -> list[ChannelBinding]:
        # Only SCRAM uses them, and making them takes a look at the certificate.
        offered = self._capabilities.sasl
        names = (str(self._account.auth).upper(), *offered)
        if not any(name.startswith("SCRAM-") for name in names):
            return []
        cyrus = names_cyrus(self._greeting, self._capabilities)
        if cyrus and any(name.endswith("-PLUS") for name in offered):
            # tls-unique is only available where no TLS session was offered.
            self._protocol.protection.keep_no_session()
        return order_bindings(
            self._protocol.protection.channel_bindings(),
            known=self._known_binding,
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
        try:
            attempts = self._plan()
        except UsageError:
            if self._offer.fresh:
                raise
            await self._offer.ask()
            attempts = self._plan()
        secret = await self._password(attempts, before)
        making = Attempting(
            self._protocol,
            self._account.username,
            self._capabilities,
            self._timestamp,
            None if isinstance(self._account.auth, str) else self._account.auth,
            self._account.authorize_as,
        )
        tried = [] if before is None else before.tried
        attempt = self._next(attempts, tried)
        if attempt is not None and self._offer.guessed:
            if attempt.mechanism == "APOP":
                # Its one command has a digest, against which passwords can be tried.
                await self._offer.ask()
                attempts = self._plan()
                attempt = self._next(attempts, tried)
            else:
                self._offer.ask_meanwhile()
                making.superseded = partial(self._superseded, attempt)
        while attempt is not None:
            self._announce(attempt, tried)
            if attempt.fresh:
                secret = await self._password(attempts, refresh=True)
            confirmed = self._offer.fresh
            making.capabilities = self._capabilities
            try:
                outcome = await making.make(attempt, secret)
            except SupersededError:
                return HungUp(None, tried, secret)
            except ConnectionLostError as lost:
                final = making.exposed or before is not None
                return self._hung_up(tried, secret, lost, final=final)
            if outcome.verdict is Verdict.ACCEPTED:
                if attempt.bound and attempt.binding is not None:
                    self._protocol.protection.bound_by(attempt.binding[0])
                return LoginInfo(
                    attempt.mechanism, self._sends_in_clear(attempt.mechanism)
                )
            tried.append(outcome)
            if not confirmed:
                try:
                    attempts = await self._plan_again(attempts, tried)
                except ConnectionLostError as lost:
                    final = self._next(attempts, tried) is None
                    return self._hung_up(tried, secret, lost, final=final)
                # These suit the server's reply.
                making.superseded = bool
                if attempts:
                    secret = secret or await self._password(attempts)
            attempt = self._next(attempts, tried)
        if any(outcome.attempt.bound for outcome in tried):
            # The remembered type of binding may be the cause.
            self._protocol.protection.bound_by(None)
        raise self._error(tried)

    def _plan(self) -> list[Attempt]:
        """Return the attempts that suit the server's capabilities and greeting."""
        self._bindings = self._order_bindings()
        return plan(
            self._mechanisms(),
            self._capabilities,
            self._bindings,
            renewable=callable(self._account.password),
        )

    async def _plan_again(
        self, attempts: list[Attempt], tried: list[Outcome]
    ) -> list[Attempt]:
        """
        Return the attempts that suit what the server offers now.

        :param attempts: those that suited what was remembered of it.
        :param tried: the first of them has failed.
        """
        outcome = tried[-1]
        if concerns_something_else(outcome.code):
            return attempts
        if not self._offer.fresh:
            await self._offer.ask()
        try:
            attempts = self._plan()
        except UsageError:
            # The refusal says more.
            return []
        outdated = attempts[0].kind != outcome.attempt.kind
        tried[-1] = attrs.evolve(outcome, outdated=outdated)
        return attempts

    def _superseded(self, attempt: Attempt) -> bool:
        """Return whether the server has not confirmed the guess behind an attempt."""
        if self._offer.fresh and not self._offer.changed:
            return False
        try:
            return not self._offer.fresh or self._next(self._plan(), []) != attempt
        except UsageError:
            return True

    def _hung_up(
        self,
        tried: list[Outcome],
        secret: Secret,
        lost: ConnectionLostError,
        *,
        final: bool,
    ) -> HungUp:
        """Return how to go on if the connection was lost because of a refusal."""
        if not any(outcome.verdict is Verdict.REFUSED for outcome in tried):
            raise lost
        refusal = self._error(tried)
        if final:
            raise refusal from lost
        return HungUp(refusal, tried, secret)

    def _next(self, attempts: list[Attempt], tried: list[Outcome]) -> Attempt | None:
        attempt = next_attempt(attempts, tried, self._known_binding)
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
            if self._memory.warns():
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
                    f"{name} must not be used without TLS (RFC 6750 section 5.3)",
                    USE_TLS,
                )
        if not account.allow_cleartext:
            self._withheld = [name for name in names if self._sends_in_clear(name)]
            names = [name for name in names if name not in self._withheld]
            if not names:
                raise self._usage(
                    " forbids sending the password without TLS, and the server offers "
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
                f"{', '.join(AUTHORIZING)}; the server offers "
                f"{_sasl(offered)}, of which none can be used here",
                None if self._protocol.protection.info is not None else USE_TLS,
                Option("authorize_as"),
            )
        text = (
            "the server and this client have no login mechanism in common; the server "
            f"offers {_sasl(offered)}"
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
        attempts: list[Attempt],
        before: HungUp | None = None,
        *,
        refresh: bool = False,
    ) -> Secret:
        if {attempt.mechanism for attempt in attempts} <= set(NO_PASSWORD):
            return Secret()
        if before is not None:
            secret = before.secret
        elif isinstance(self._account.password, str):
            secret = Secret(self._account.password)
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
                f"binding ({', '.join(kinds)}), which can mean that the TLS connection "
                "ends at another machine"
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


def _sasl(offered: Sequence[str]) -> str:
    """Name the SASL mechanisms on offer, as part of a sentence."""
    return f"SASL {' '.join(offered)}" if offered else "no SASL mechanism"


_TLS_PORT = Remedy(
    "use {} if the server has a port for TLS (995)", (Option("secure", 1),)
)

_TOKEN = Remedy(
    "if the password is an OAuth token, say so with {} or {}",
    (Option("auth", "XOAUTH2"), Option("auth", "OAUTHBEARER")),
)
