"""
Logs in: the ways that both sides have, the best first, and when to stop.

A way that the server offers and cannot do is followed by the next.  Once it has seen
a credential and refused, that is the end: another try could lock the account.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator
from inspect import Parameter, iscoroutine, signature
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, ensureDeferred, maybeDeferred
from twisted.logger import Logger

from ..client.protocol import POP3ClientProtocol
from ..errors import CommandError, LoginError, ProtocolError, UsageError
from ..redaction import Secret, SecretBytes
from ..results import Capabilities, LoginInfo
from ..sansio.commands import MAX_LINE, Apop, Auth, AuthReply, Pass, User, check_text
from ..sansio.replies import Status
from .policy import NO_PASSWORD, choose, sends_password
from .sasl import (
    MECHANISMS,
    ChannelBinding,
    Credentials,
    Mechanism,
    SASLError,
    apop_challenge,
    apop_digest,
    decode_challenge,
    encode_response,
    forms,
    make_mechanism,
)

__all__ = ["Account", "Authentication", "Password"]

log = Logger()

Password = str | Callable[..., "str | Awaitable[str]"]
"""
A password or token, or a function that returns one, a Deferred of one or a coroutine.
If it takes ``refresh``, it is called with ``refresh=True`` when a token has expired.
"""

MAX_STEPS = 16
"""No mechanism has more than four challenges; a server without end is not one."""

# What servers say when it is not the credentials that they refuse.
_CANNOT = re.compile(
    r"not (supported|implemented|available|allowed|permitted|enabled|recogni[sz]ed)"
    r"|un(supported|known|recogni[sz]ed|available|implemented)"
    r"|(invalid|bad|disabled) (command|mechanism|auth\w* (method|mech|type))"
    r"|syntax|protocol error",
    re.IGNORECASE,
)


@attrs.frozen
class Account:
    """
    Who wants to log in, and how.

    :ivar auth: ``"auto"``, the name of a way to log in, or an
        ``IClientAuthentication`` of Twisted.
    :ivar allow_cleartext: whether a password may be sent without TLS.
    :ivar capa: whether CAPA may be asked.
    :ivar certificate: whether a client certificate was given.
    """

    username: str
    password: Password = attrs.field(repr=False)
    auth: Any = "auto"
    stls: bool = False
    utf8: bool = False
    allow_cleartext: bool = True
    certificate: bool = False
    capa: bool = True

    def secrets(self, password: str) -> list[bytes]:
        """Return the forms in which a server may repeat a password."""
        return forms(Credentials(self.username, Secret(password)))


class _CannotError(Exception):
    """The server offers a way to log in that it cannot go; no credential was seen."""

    def __init__(self, error: CommandError) -> None:
        super().__init__(str(error))
        self.error = error


class _Plugged(Mechanism):
    """A mechanism of the caller's: an ``IClientAuthentication`` of Twisted."""

    cleartext = True

    def __init__(self, authenticator: Any, credentials: Credentials) -> None:
        super().__init__(credentials)
        self._authenticator = authenticator
        self.name = authenticator.getName().decode("ascii").upper()

    def respond(self, challenge: bytes) -> bytes:
        """Let it answer."""
        secret = SecretBytes(self.credentials.password.encode())
        response: bytes = self._authenticator.challengeResponse(secret, challenge)
        return response


class Authentication:
    """
    One login on one connection, which is in the state AUTHORIZATION.

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
        self._challenge = apop_challenge(greeting)
        self._capabilities = capabilities
        self._server = str(protocol.settings.server)
        self._failure: dict[str, str] = {}
        # Only SCRAM has a use for them, and they take a look at the certificate.
        names = (str(account.auth).upper(), *capabilities.sasl)
        scram = any(name.startswith("SCRAM-") for name in names)
        self._bindings = protocol.channel_bindings() if scram else ()

    async def log_in(self) -> LoginInfo:
        """
        Try one way after another.

        :raises LoginError: the server refused.
        :raises UsageError: there is no way that this caller and this server have.
        """
        ways = self._ways()
        secret = await self._password(ways, refresh=False)
        last: CommandError | None = None
        for name, binding in self._attempts(ways):
            try:
                await self._go(name, secret, binding)
            except _CannotError as cannot:
                last = cannot.error
                continue
            except LoginError as error:
                if not self._stale(name, error):
                    raise
                # The token has expired, perhaps: once more, with a fresh one.
                self._failure.clear()
                fresh = await self._password(ways, refresh=True)
                try:
                    await self._go(name, fresh)
                except _CannotError as cannot:
                    # One attempt only, then: nothing else was asked for.
                    raise self._login_error(cannot.error, name) from cannot.error
            return LoginInfo(name, self._tells(name))
        assert last is not None
        raise self._login_error(last, ways[-1]) from last

    # -- which ways

    def _ways(self) -> list[str]:
        account, protected = self._account, self._protocol.tls is not None
        if not isinstance(account.auth, str):
            ways = [_Plugged(account.auth, self._credentials(Secret())).name]
        else:
            ways = choose(
                account.auth,
                self._capabilities,
                protected=protected,
                bindable=bool(self._bindings),
                challenge=self._challenge is not None,
                certificate=account.certificate,
            )
        if not ways:
            offer = " ".join(self._capabilities.sasl) or "none"
            raise self._usage(
                "there is no way to log in that both sides have; the server offers "
                f"SASL {offer}.  If the password is an OAuth token, say so with "
                "auth='XOAUTH2' or auth='OAUTHBEARER'"
            )
        if protected:
            return ways
        for name in ways:
            if name in MECHANISMS and MECHANISMS[name].needs_tls:
                raise self._usage(
                    f"{name} must not be used without TLS (RFC 7628 section 4): set "
                    "secure to 1 or 2"
                )
        if not account.allow_cleartext:
            ways = [name for name in ways if not self._tells(name)]
            if not ways:
                raise self._usage(
                    "the password would have to be sent without TLS, which "
                    "allow_cleartext=False forbids; set secure to 1 or 2"
                )
        return ways

    def _attempts(self, ways: list[str]) -> Iterator[tuple[str, ChannelBinding | None]]:
        """Give each way what binds it; if there are several, one after the other."""
        for name in ways:
            yield name, self._bindings[0] if self._bindings else None
            if name.endswith("-PLUS"):
                yield from ((name, binding) for binding in self._bindings[1:])

    def _tells(self, name: str) -> bool:
        """Say whether the password goes over the wire for all to read."""
        if self._protocol.tls is not None:
            return False
        return sends_password(name) or not isinstance(self._account.auth, str)

    def _usage(self, message: str, verb: str | None = None) -> UsageError:
        return UsageError(message, server=self._server, verb=verb)

    # -- the password

    async def _password(self, ways: list[str], *, refresh: bool) -> Secret:
        password: object = self._account.password
        if callable(password):
            try:
                password = await maybeDeferred(_call, password, refresh)
            except CancelledError:
                raise
            except Exception as error:
                # Its text stays where it is: it may have a token in it.
                raise self._usage(
                    f"the password callable failed with {type(error).__name__}; "
                    "nothing was sent of the login"
                ) from error
            if not isinstance(password, str):
                # Only its type: a traceback that shows local variables would show it.
                password = type(password).__name__
                raise self._usage(
                    f"the password callable returned {password}, and not a str; "
                    "nothing was sent of the login"
                )
        # One name for it, and no other local variable has it as it is.
        secret = password = Secret(password)
        if not set(ways) <= set(NO_PASSWORD):
            check_text("password", secret)
        if callable(self._account.password):
            self._protocol.transcript.keep_secret(*self._account.secrets(secret))
        return secret

    def _stale(self, name: str, error: LoginError) -> bool:
        return (
            callable(self._account.password)
            and name in MECHANISMS
            and MECHANISMS[name].oauth
            and (bool(self._failure) or error.code == "AUTH")
        )

    def _credentials(
        self, secret: Secret, binding: ChannelBinding | None = None
    ) -> Credentials:
        server = self._protocol.settings.server
        return Credentials(
            username=self._account.username,
            password=secret,
            host=server.host,
            port=server.port,
            binding=binding,
        )

    # -- one way

    async def _go(
        self, name: str, secret: Secret, binding: ChannelBinding | None = None
    ) -> None:
        """
        Try one way.

        :raises _CannotError: the server cannot go it, and the next may be tried.
        """
        if self._tells(name):
            warning = "the password is sent without TLS: who listens can read it"
            self._protocol.transcript.warning(warning)
            log.warn("{server}: {text}", server=self._server, text=warning)
        credentials = self._credentials(secret, binding)
        try:
            if name == "APOP":
                await self._apop(credentials)
            elif name == "USER":
                await self._user(credentials)
            else:
                await self._sasl(name, credentials)
        except CommandError as error:
            raise self._login_error(error, name) from error

    async def _apop(self, credentials: Credentials) -> None:
        """Log in with a digest (RFC 1939 section 7)."""
        if self._challenge is None:
            raise self._usage(
                "auth='APOP' needs a timestamp like <1896.697170952@pop.example.com> "
                "in the server's greeting, and there is none; use another auth",
                "APOP",
            )
        digest = apop_digest(self._challenge, credentials.password)
        self._protocol.transcript.keep_secret(digest.encode("ascii"))
        try:
            await self._protocol.submit(Apop(credentials.username, digest))
        except CommandError as error:
            self._next_if_unsupported(error)
            raise

    async def _user(self, credentials: Credentials) -> None:
        """Log in with name and password (RFC 1939 section 7)."""
        if not (credentials.username + credentials.password).isascii():
            # RFC 6856 section 2.2: the argument USER of the capability UTF8.  The
            # command UTF8 is not needed for it, and would change the messages.
            words = [word.upper() for word in self._capabilities.get("UTF8", ())]
            if "USER" not in words:
                raise self._usage(
                    "the user name or the password is not all ASCII, which this "
                    "server does not take with USER and PASS; use an auth that takes "
                    "UTF-8, such as 'PLAIN', or change the password",
                    "USER",
                )
        send = Pass(credentials.password)
        try:
            await self._protocol.submit(User(credentials.username))
        except CommandError as error:
            if error.code is None:
                raise _CannotError(error) from error
            raise
        await self._protocol.submit(send)

    async def _sasl(self, name: str, credentials: Credentials) -> None:
        """Log in with a SASL mechanism (RFC 5034 section 4)."""
        if isinstance(self._account.auth, str):
            mechanism = make_mechanism(name, credentials)
        else:
            mechanism = _Plugged(self._account.auth, credentials)
        try:
            await self._dialogue(mechanism)
        except CommandError as error:
            if mechanism.tentative and error.code is None:
                raise _CannotError(error) from error
            raise
        except SASLError as error:
            # It has seen our proof, or wants to have it on its own terms: nothing
            # weaker may follow.
            why = self._protocol.transcript.clean(str(error).encode())
            raise ProtocolError(
                f"the server's side of {name} is wrong: {why}; the login was given "
                "up, for it may not be the server that it should be",
                server=self._server,
                verb="AUTH",
            ) from None
        finally:
            self._failure |= {
                key: self._protocol.transcript.clean(told.encode())
                for key, told in mechanism.failure().items()
            }

    async def _dialogue(self, mechanism: Mechanism) -> None:
        first = mechanism.initial()
        if first is not None:
            first = SecretBytes(first)
        command = self._auth_command(mechanism, first)
        told = command.initial is not None
        try:
            status = await self._protocol.submit(command)
        except CommandError as error:
            if not told:
                raise _CannotError(error) from error
            self._next_if_unsupported(error)
            raise
        for _ in range(MAX_STEPS):
            if told and not status.challenge:
                mechanism.finish()
                return
            if first is not None and not told:
                # Whatever the server says here, it means "go on"; some say +OK.
                response: bytes = first
            else:
                response = await self._answer(mechanism, status)
            told = True
            status = await self._protocol.submit(AuthReply(self._encoded(response)))
        raise SASLError("challenges without end")

    def _auth_command(self, mechanism: Mechanism, first: bytes | None) -> Auth:
        # RFC 5034 section 4: with the command only if the server announces SASL,
        # and the line has no more than 255 octets.
        if first is not None and mechanism.early and "SASL" in self._capabilities:
            initial = self._encoded(first) or Secret("=")
            if len(f"AUTH {mechanism.name} {initial}\r\n") <= MAX_LINE:
                return Auth(mechanism.name, initial)
        return Auth(mechanism.name)

    def _encoded(self, response: bytes) -> Secret:
        encoded = encode_response(response)
        if len(encoded) > 8:
            # Shorter ones hold no secret, and could stand in any text.
            self._protocol.transcript.keep_secret(encoded.encode("ascii"))
        return encoded

    async def _answer(self, mechanism: Mechanism, status: Status) -> SecretBytes:
        challenge = decode_challenge(status.text if status.challenge else b"")
        if challenge is None or mechanism.at_a_loss(challenge):
            try:
                # RFC 5034 section 4: cancel, and the server answers -ERR.
                await self._protocol.submit(AuthReply("*"))
            except CommandError as error:
                raise _CannotError(error) from error
            raise SASLError("a cancelled login that succeeded")
        return SecretBytes(mechanism.respond(challenge))

    def _next_if_unsupported(self, error: CommandError) -> None:
        """Go on with the next way if it is not the credentials that are refused."""
        if error.code is None and _CANNOT.search(error.text):
            raise _CannotError(error) from error

    def _login_error(self, error: CommandError, name: str) -> LoginError:
        message = f"{error.message} (logging in with {name})"
        told = " ".join(f"{key}={value}" for key, value in self._failure.items())
        delayed = error.code == "LOGIN-DELAY"
        return LoginError(
            f"{message}; {told}" if told else message,
            text=error.text,
            code=error.code,
            retry_after=self._capabilities.login_delay if delayed else None,
            mechanism=name,
            details=self._failure,
            server=error.server,
            verb=error.verb,
        )


def _call(password: Callable[..., object], refresh: bool) -> object:
    """Call a password callable, whatever it is made of."""
    result = (
        password(refresh=True) if refresh and _takes_refresh(password) else (password())
    )
    return ensureDeferred(result) if iscoroutine(result) else result


def _takes_refresh(password: Callable[..., object]) -> bool:
    try:
        parameters = signature(password).parameters
    except (TypeError, ValueError):
        return False
    return "refresh" in parameters or any(
        parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters.values()
    )
