"""
The demo's tour: it shows the client's features against the demo server, one by one.

Each step checks the result that it shows: messages arrive byte for byte, TLS is
verified, an impostor receives no password, and a wrong password has its own error.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import RenderableType
from twisted.internet.defer import CancelledError, gatherResults
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.logger import Logger

from ..address import Secure
from ..api import connect
from ..errors import LoginError, POP3Error, VerificationError
from ..handle import Handle
from ..headers import summary
from . import terminal

__all__ = ["Impostor", "ImpostorFactory", "Tour", "Visit"]

_log = Logger()


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

    :param say: called with each line or paragraph.
    """

    def __init__(
        self, visit: Visit, say: Callable[[RenderableType], object], reactor: Any
    ):
        self._visit = visit
        self._say = say
        self._reactor = reactor

    async def run(self) -> bool:
        """Take all steps, also after a failed one; return whether all worked."""
        steps: list[tuple[str, Callable[[], Awaitable[None]]]] = [
            ("TLS from the first octet", self._tls),
            ("Plain, as for a server on the same computer", self._plain),
            ("Plain, then STLS: what the client sends", self._stls),
            ("The mailbox", self._mailbox),
            ("An impostor: the right CA, another name", self._impostor),
            ("A wrong password", self._wrong_password),
        ]
        failed = 0
        for number, (title, step) in enumerate(steps, 1):
            self._say("")
            self._say(terminal.title(f"{number}. {title}"))
            try:
                await step()
            except CancelledError:
                raise
            except (POP3Error, _Unexpected) as error:
                failed += 1
                self._fail(error)
            except Exception as error:  # noqa: BLE001 - shown, and the next step is taken
                failed += 1
                self._fail(error, " (see the log)")
                _log.failure("step {number} of the tour failed", number=number)
        self._say("")
        if failed:
            self._say(terminal.title(f"{failed} of {len(steps)} steps FAILED."))
        else:
            self._say(terminal.title(f"All {len(steps)} steps worked."))
        return not failed

    def _succeed(self, text: str) -> None:
        self._say(terminal.verdict(True, text))

    def _fail(self, error: Exception, more: str = "") -> None:
        self._say(terminal.verdict(False, f"{type(error).__name__}: {error}{more}"))

    # -- the three ways to connect

    async def _tls(self) -> None:
        self._expect_verified(await self._session(Secure.TLS))

    async def _plain(self) -> None:
        handle = await self._session(Secure.NONE)
        _expect(handle.tls is None, "TLS is used, although it was not requested")

    async def _stls(self) -> None:
        self._expect_verified(await self._session(Secure.STLS, self._hear))

    async def _session(
        self, secure: Secure, hear: Callable[[str], object] | None = None
    ) -> Handle:
        visit = self._visit
        call = f'connect("{visit.host}:{self._port(secure)}", "{visit.username}", ...'
        if secure is not Secure.NONE:
            call += f", secure=Secure.{secure.name}, cacerts=..."
        self._say(terminal.indented(f"{call})", "cyan"))
        async with await self._connect(secure, hear=hear) as handle:
            stat = await handle.stat()
        messages = visit.messages
        _expect(
            stat == (len(messages), sum(map(len, messages))),
            f"STAT returned {stat}, which is not the content of the mailbox",
        )
        encrypted = "not encrypted"
        if handle.tls is not None:
            known = "verified" if handle.tls.verified else "NOT verified"
            encrypted = f"{handle.tls.version}, server {known}"
        self._succeed(
            f"{stat.count} messages, {stat.size} octets; {encrypted};"
            f" login: {handle.login.mechanism}"
        )
        return handle

    def _expect_verified(self, handle: Handle) -> None:
        tls = handle.tls
        _expect(tls is not None and tls.verified, "the server was not verified")

    def _port(self, secure: Secure) -> int:
        return self._visit.tls_port if secure is Secure.TLS else self._visit.port

    async def _connect(
        self,
        secure: Secure,
        *,
        hear: Callable[[str], object] | None = None,
        port: int | None = None,
        password: str | None = None,
    ) -> Handle:
        visit = self._visit
        return await connect(
            f"{visit.host}:{port or self._port(secure)}",
            visit.username,
            visit.password if password is None else password,
            hear,
            secure,
            cacerts=None if secure is Secure.NONE else visit.cacerts,
            reactor=self._reactor,
        )

    def _hear(self, line: str) -> None:
        # The server's lines would make the tour long.
        if not line.startswith("S: "):
            self._say(terminal.indented(line, "green" if line[0] == "T" else ""))

    # -- the mailbox

    async def _mailbox(self) -> None:
        async with await self._connect(Secure.TLS) as handle:
            listings = await handle.list()
            # All at once: the handle pipelines them (RFC 2449 section 6.6).
            tops = await gatherResults(
                [handle.top(listing.number) for listing in listings]
            )
            rows = []
            for (number, size), top in zip(listings, tops, strict=True):
                about = summary(top)
                sender, _, _ = about.sender.partition(" <")
                rows.append((str(number), str(size), sender, about.subject))
            columns = (("no", -2), ("octets", -6), ("from", 16), ("subject", 0))
            self._say(terminal.table(columns, rows))
            received = [
                message.content
                async for message in handle.messages()
                if message.error is None
            ]
        _expect(
            received == list(self._visit.messages),
            "the messages retrieved are not those in the mailbox",
        )
        self._succeed(f"all {len(received)} retrieved, each octet as on the server")

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
        self._succeed("refused, and the impostor received nothing")

    async def _wrong_password(self) -> None:
        try:
            handle = await self._connect(Secure.STLS, password="a wrong one")  # noqa: S106
        except LoginError as error:
            self._refused(error)
            _expect(error.code == "AUTH", f"the error's code is {error.code}")
        else:
            await handle.abort()
            raise _Unexpected("the wrong password was accepted")
        self._succeed("refused, and error.code is AUTH: the credentials are wrong")

    def _refused(self, error: Exception) -> None:
        self._say(terminal.indented(f"{type(error).__name__}: {error}", "yellow"))
