"""
The demo's tour: it shows the client's features against the demo server, one by one.

Each step checks the result that it shows: messages arrive byte for byte, TLS is
verified, an impostor receives no password, and a wrong password has its own error.
"""

from __future__ import annotations

import textwrap
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import CancelledError, gatherResults
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.logger import Logger

from ..address import Secure
from ..api import connect
from ..errors import LoginError, POP3Error, VerificationError
from ..handle import Handle
from ..headers import decode, fields, summary

__all__ = ["Impostor", "ImpostorFactory", "Tour", "Visit"]

_log = Logger()

_SHOWN_MESSAGE = 2
"""The message whose headers are shown: the one with the most to decode."""

_WIDTH = 78


@dataclass(frozen=True)
class Visit:
    """
    The server that the tour visits.

    :ivar host: the name in the server's certificate.
    :ivar cacerts: the folder with the certificate of the demo's CA.
    :ivar messages: the expected content of the mailbox.
    :ivar impostor_port: the port of the impostor, whose certificate is from the same CA
        and for another name.
    :ivar impostor: knows the data received there.
    """

    host: str
    port: int
    tls_port: int
    username: str
    password: str
    cacerts: str
    messages: Sequence[bytes]
    impostor_port: int
    impostor: ImpostorFactory


class Impostor(Protocol):
    """Greets like a POP3 server, records what the client sends, and closes."""

    factory: ImpostorFactory

    def connectionMade(self) -> None:
        """Greet."""
        assert self.transport is not None
        self.transport.write(b"+OK trust me\r\n")

    def dataReceived(self, data: bytes) -> None:
        """Record the data; a client that sends any has trusted the impostor."""
        assert self.transport is not None
        self.factory.heard += data
        self.transport.loseConnection()


class ImpostorFactory(ServerFactory):
    """
    Makes the connections of the impostor.

    :ivar heard: the data received under its TLS.
    """

    noisy = False

    def __init__(self) -> None:
        self.heard = b""

    def buildProtocol(self, addr: IAddress | None) -> Impostor:  # type: ignore[override]
        """Make the protocol of one connection."""
        connection = Impostor()
        connection.factory = self
        return connection


class _Unexpected(Exception):
    """A step raised no error, but its result is not the expected one."""


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise _Unexpected(otherwise)


class Tour:
    """
    Takes the steps in order, and shows their results.

    :param say: called with each line.
    """

    def __init__(self, visit: Visit, say: Callable[[str], object], reactor: Any):
        self._visit = visit
        self._say = say
        self._reactor = reactor

    async def run(self) -> bool:
        """Take all steps, also after a failed one; return whether all worked."""
        steps: list[tuple[str, Callable[[], Awaitable[None]]]] = [
            ("In the clear: secure=Secure.NONE", self._in_the_clear),
            ("TLS from the first octet: secure=Secure.TLS", self._tls),
            ("In the clear, then TLS: secure=Secure.STLS", self._stls),
            ("What is in the mailbox", self._mailbox),
            (f"The headers of message {_SHOWN_MESSAGE}", self._headers),
            ("An impostor: the right CA, but another name", self._impostor),
            ("A wrong password", self._wrong_password),
        ]
        failed = 0
        for number, (title, step) in enumerate(steps, 1):
            self._say("")
            self._say(f"{number}. {title}")
            self._say("-" * (len(title) + 3))
            try:
                await step()
            except CancelledError:
                raise
            except (POP3Error, _Unexpected) as error:
                failed += 1
                self._say(f"   FAILED: {type(error).__name__}: {error}")
            except Exception as error:  # noqa: BLE001 - shown, and the next step is taken
                failed += 1
                self._say(f"   FAILED: {type(error).__name__}: {error} (see the log)")
                _log.failure("step {number} of the tour failed", number=number)
        self._say("")
        if failed:
            self._say(f"{failed} of {len(steps)} steps FAILED.")
        else:
            self._say(f"All {len(steps)} steps worked.")
        return not failed

    # -- the three ways to connect

    async def _in_the_clear(self) -> None:
        handle = await self._session(Secure.NONE)
        _expect(handle.tls is None, "TLS is used, although it was not requested")

    async def _tls(self) -> None:
        self._expect_verified(await self._session(Secure.TLS))

    async def _stls(self) -> None:
        self._expect_verified(await self._session(Secure.STLS))

    async def _session(self, secure: Secure) -> Handle:
        async with await self._connect(secure, aloud=True) as handle:
            stat = await handle.stat()
        messages = self._visit.messages
        _expect(
            stat == (len(messages), sum(map(len, messages))),
            f"STAT returned {stat}, which is not the content of the mailbox",
        )
        facts = [
            f"{stat.count} messages, {stat.size} octets",
            f"logged in with {handle.login.mechanism}",
        ]
        if handle.login.cleartext:
            facts.append("an eavesdropper could read the password")
        if handle.tls is not None:
            known = "verified" if handle.tls.verified else "NOT verified"
            facts.append(f"{handle.tls.version}, server {known}")
        self._say("   => " + "; ".join(facts))
        return handle

    def _expect_verified(self, handle: Handle) -> None:
        tls = handle.tls
        _expect(tls is not None and tls.verified, "the server was not verified")

    async def _connect(
        self,
        secure: Secure,
        *,
        aloud: bool = False,
        port: int | None = None,
        password: str | None = None,
    ) -> Handle:
        visit = self._visit
        if port is None:
            port = visit.tls_port if secure is Secure.TLS else visit.port
        server = f"{visit.host}:{port}"
        cacerts = None if secure is Secure.NONE else visit.cacerts
        if aloud:
            trust = "" if cacerts is None else ", cacerts=..."
            self._say(
                f'   connect("{server}", "{visit.username}", password, print,'
                f" Secure.{secure.name}{trust})"
            )
        return await connect(
            server,
            visit.username,
            visit.password if password is None else password,
            self._hear if aloud else None,
            secure,
            cacerts=cacerts,
            reactor=self._reactor,
        )

    def _hear(self, line: str) -> None:
        self._say(f"   {line}")

    # -- the mailbox

    async def _mailbox(self) -> None:
        self._say("   no  octets  from                  subject")
        async with await self._connect(Secure.TLS) as handle:
            listings = await handle.list()
            # All at once: the handle pipelines them (RFC 2449 section 6.6).
            tops = await gatherResults(
                [handle.top(listing.number) for listing in listings]
            )
            for (number, size), top in zip(listings, tops, strict=True):
                about = summary(top)
                sender, _, _ = about.sender.partition(" <")
                line = f"   {number:2}  {size:6}  {sender:20}  {about.subject}"
                self._say(_cut(line))
            received = [
                message.content
                async for message in handle.messages()
                if message.error is None
            ]
        _expect(
            received == list(self._visit.messages),
            "the messages retrieved are not those in the mailbox",
        )
        octets = sum(map(len, received))
        self._say(
            f"   => all {len(received)} retrieved, {octets} octets, each the same"
        )

    async def _headers(self) -> None:
        async with await self._connect(Secure.TLS) as handle:
            top = await handle.top(_SHOWN_MESSAGE)
        for name, value in fields(top):
            self._say(f"   {name.decode('ascii')}: {decode(value)}")
        expected = self._visit.messages[_SHOWN_MESSAGE - 1]
        _expect(expected.startswith(top), "these are not the message's headers")

    # -- what must not work

    async def _impostor(self) -> None:
        try:
            handle = await self._connect(Secure.TLS, port=self._visit.impostor_port)
        except VerificationError as error:
            self._refused(error)
        else:
            await handle.abort()
            raise _Unexpected("the impostor was trusted")
        _expect(not self._visit.impostor.heard, "the impostor received data")
        self._say("   => refused, and the impostor received nothing")

    async def _wrong_password(self) -> None:
        try:
            handle = await self._connect(Secure.STLS, password="a wrong one")  # noqa: S106
        except LoginError as error:
            self._refused(error)
            _expect(error.code == "AUTH", f"the error's code is {error.code}")
        else:
            await handle.abort()
            raise _Unexpected("the wrong password was accepted")
        self._say("   => refused, and error.code says that the credentials are wrong")

    def _refused(self, error: Exception) -> None:
        self._say(f"   {type(error).__name__}:")
        for line in textwrap.wrap(str(error), _WIDTH - 3, break_on_hyphens=False):
            self._say(f"   {line}")


def _cut(line: str) -> str:
    return line if len(line) <= _WIDTH else line[: _WIDTH - 3] + "..."
