"""
Makes one attempt to log in: carries the dialogue of a mechanism over a connection, and
returns the outcome as a value.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NoReturn

import attrs

from ..client.protocol import POP3ClientProtocol
from ..errors import CommandError, ProtocolError, UsageError
from ..redaction import Secret, SecretBytes
from ..remedies import Option
from ..results import Capabilities
from ..sansio.commands import MAX_LINE, Apop, Auth, AuthReply, Pass, User
from ..sansio.replies import Status
from .policy import Attempt, Outcome, Verdict
from .sasl import (
    Credentials,
    Mechanism,
    SASLError,
    UnusableError,
    apop_digest,
    decode_challenge,
    encode_response,
    make_mechanism,
)

__all__ = ["Attempting", "SupersededError", "plugged_name"]

MAX_STEPS = 16
"""Challenges of one attempt; no mechanism has more than four."""

# What servers say when they refuse something other than the credentials.  Not compiled
# here, because most logins succeed.
_CANNOT = (
    r"not (supported|implemented|available|allowed|permitted|enabled|recogni[sz]ed)"
    r"|un(supported|known|recogni[sz]ed|available|implemented)"
    r"|(invalid|bad|disabled) (command|mechanism|auth\w* (method|mech|type))"
    r"|syntax|protocol error"
)


class _Plugged(Mechanism):
    """A mechanism of the caller's: an ``IClientAuthentication`` of Twisted."""

    cleartext = True

    def __init__(self, authenticator: Any, credentials: Credentials) -> None:
        super().__init__(credentials)
        self._authenticator = authenticator
        self.name = plugged_name(authenticator)

    def respond(self, challenge: bytes) -> bytes:
        """Let the caller's object answer."""
        secret = SecretBytes(self.credentials.password.encode())
        response: bytes = self._authenticator.challengeResponse(secret, challenge)
        return response


def plugged_name(authenticator: Any) -> str:
    """Return the name of an ``IClientAuthentication``, in upper case."""
    name: str = authenticator.getName().decode("ascii").upper()
    return name


class SupersededError(Exception):
    """
    The server's reply to CAPA leads to another attempt than the one that has begun.

    Nothing made of the password was sent.
    """


class _UnsupportedError(Exception):
    """The server refused before it saw a credential; never leaves this module."""

    def __init__(self, error: CommandError, reason: str = "") -> None:
        super().__init__(str(error))
        self.error = error
        self.reason = reason


@attrs.define(eq=False, repr=False)
class Attempting:
    """
    Makes attempts on one connection, which is in the state AUTHORIZATION.

    :ivar timestamp: of the greeting, for APOP; ``None`` if it has no timestamp.
    :ivar authenticator: the caller's ``IClientAuthentication``, if there is one.
    :ivar authorize_as: whose mailbox to open; ``""``: that of ``username``.
    :ivar superseded: asked before the first thing made of the password is sent; returns
        whether the attempt must be given up.
    :ivar exposed: whether the last attempt has sent something made of the password.
    """

    protocol: POP3ClientProtocol
    username: str
    capabilities: Capabilities
    timestamp: bytes | None = None
    authenticator: Any = None
    authorize_as: str = ""
    superseded: Callable[[], bool] = bool
    exposed: bool = attrs.field(default=False, init=False)

    async def make(self, attempt: Attempt, secret: Secret) -> Outcome:
        """
        Make an attempt and return its outcome.

        :raises SupersededError: the server now asks for another one.
        :raises ProtocolError: the server's side of the mechanism is wrong, so that
            nothing weaker may follow.
        :raises POP3Error: the connection failed.
        """
        self.exposed = False
        server = self.protocol.settings.server
        credentials = Credentials(
            username=self.username,
            password=secret,
            host=server.host,
            port=server.port,
            binding=attempt.binding,
            authorize_as=self.authorize_as,
        )
        details: dict[str, str] = {}
        try:
            if attempt.mechanism == "APOP":
                await self._apop(credentials)
            elif attempt.mechanism == "USER":
                await self._user(credentials)
            else:
                await self._sasl(attempt.mechanism, credentials, details)
        except _UnsupportedError as why:
            return Outcome(attempt, Verdict.UNSUPPORTED, why.error, details, why.reason)
        except UsageError as error:
            error.server = error.server or str(server)
            return Outcome(attempt, Verdict.UNSUPPORTED, error)
        except CommandError as error:
            return Outcome(attempt, Verdict.REFUSED, error, details)
        return Outcome(attempt, Verdict.ACCEPTED)

    async def _apop(self, credentials: Credentials) -> None:
        """Log in with a digest (RFC 1939 section 7)."""
        if self.timestamp is None:
            raise UsageError(
                " needs a timestamp like <1896.697170952@pop.example.com> in the "
                "server's greeting, which has no such timestamp; use another mechanism",
                verb="APOP",
                option=Option("auth", "APOP"),
            )
        digest = apop_digest(self.timestamp, credentials.password)
        self.protocol.transcript.keep_secret(digest.encode("ascii"))
        command = Apop(credentials.username, digest)
        self.exposed = True
        try:
            await self.protocol.submit(command)
        except CommandError as error:
            _raise_if_unsupported(error)
            raise

    async def _user(self, credentials: Credentials) -> None:
        """Log in with name and password (RFC 1939 section 7)."""
        if not (credentials.username + credentials.password).isascii():
            # RFC 6856 section 2.2: the argument USER of the capability UTF8.  The
            # command UTF8 is not needed for it, and would change the messages.
            words = [word.upper() for word in self.capabilities.get("UTF8", ())]
            if "USER" not in words:
                raise UsageError(
                    "the user name or the password is not all ASCII, which this "
                    "server does not accept with USER and PASS; use an auth that "
                    "sends UTF-8, such as 'PLAIN', or change the password",
                    verb="USER",
                )
        send = Pass(credentials.password)
        try:
            await self.protocol.submit(User(credentials.username))
        except CommandError as error:
            _raise_if_unsupported(error)
            raise
        self._check()
        self.exposed = True
        await self.protocol.submit(send)

    def _check(self) -> None:
        """Raise `SupersededError` if nothing made of the password may be sent."""
        if self.superseded():
            raise SupersededError()

    async def _sasl(
        self, name: str, credentials: Credentials, details: dict[str, str]
    ) -> None:
        """Log in with a SASL mechanism (RFC 5034 section 4)."""
        clean = self.protocol.transcript.clean
        if self.authenticator is None:
            mechanism = make_mechanism(name, credentials)
        else:
            mechanism = _Plugged(self.authenticator, credentials)
        try:
            await self._dialogue(mechanism)
        except CommandError as error:
            if mechanism.tentative and error.code is None:
                raise _UnsupportedError(error) from error
            raise
        except SASLError as error:
            # The server has our proof, or set conditions for it: nothing weaker may
            # follow.
            why = clean(str(error).encode())
            raise ProtocolError(
                f"the server's side of {name} is wrong: {why}; the login was given "
                "up, because the server may be an impostor",
                server=str(self.protocol.settings.server),
                verb="AUTH",
            ) from None
        finally:
            details |= {
                key: clean(told.encode()) for key, told in mechanism.failure().items()
            }

    async def _dialogue(self, mechanism: Mechanism) -> None:
        first = mechanism.initial()
        if first is not None:
            first = SecretBytes(first)
        command = self._auth_command(mechanism, first)
        told = command.initial is not None
        self.exposed = told and not mechanism.tentative
        try:
            status = await self.protocol.submit(command)
        except CommandError as error:
            if not told:
                raise _UnsupportedError(error) from error
            _raise_if_unsupported(error)
            raise
        self._check()
        for _ in range(MAX_STEPS):
            if told and not status.challenge:
                mechanism.finish()
                return
            if first is not None and not told:
                # Whatever the server says here means "go on"; some say +OK.
                response: bytes = first
            else:
                response = await self._answer(mechanism, status)
            told = True
            self.exposed = not mechanism.tentative
            status = await self.protocol.submit(AuthReply(self._encoded(response)))
        raise SASLError(f"it sent more than {MAX_STEPS} challenges")

    def _auth_command(self, mechanism: Mechanism, first: bytes | None) -> Auth:
        # RFC 5034 section 4: with the command only if the server announces SASL,
        # and the line has no more than 255 octets.
        if first is not None and mechanism.early and "SASL" in self.capabilities:
            initial = self._encoded(first) or Secret("=")
            if len(f"AUTH {mechanism.name} {initial}\r\n") <= MAX_LINE:
                return Auth(mechanism.name, initial)
        return Auth(mechanism.name)

    def _encoded(self, response: bytes) -> Secret:
        encoded = encode_response(response)
        if len(encoded) > 8:
            # Shorter ones hold no secret, and could stand in any text.
            self.protocol.transcript.keep_secret(encoded.encode("ascii"))
        return encoded

    async def _answer(self, mechanism: Mechanism, status: Status) -> SecretBytes:
        challenge = decode_challenge(status.text if status.challenge else b"")
        if challenge is None or mechanism.gives_up(challenge):
            await self._cancel("")
        try:
            return SecretBytes(mechanism.respond(challenge))
        except UnusableError as error:
            reason = str(error)
        await self._cancel(reason)

    async def _cancel(self, reason: str) -> NoReturn:
        """Cancel with ``*``, and read the server's ``-ERR`` (RFC 5034 section 4)."""
        try:
            await self.protocol.submit(AuthReply("*"))
        except CommandError as error:
            raise _UnsupportedError(error, reason) from error
        raise SASLError("it accepted a login that was cancelled")


def _raise_if_unsupported(error: CommandError) -> None:
    """Raise `_UnsupportedError` if it is not the credentials that are refused."""
    if error.code is None and re.search(_CANNOT, error.text, re.IGNORECASE):
        raise _UnsupportedError(error) from error
