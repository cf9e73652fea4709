"""
Large messages and mailboxes in the real process, whose memory is measured.

The long form::

    POP3CONNECT_LARGE=2147483648 POP3CONNECT_MANY=250000 \\
        python -m twisted.trial tests.collect.test_large
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.interfaces import IPullProducer
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.task import deferLater
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from ..support.loopback import LoopbackTestCase

reactor: Any = global_reactor

LARGE = int(os.environ.get("POP3CONNECT_LARGE", 48 * 1024 * 1024))
"""Bytes of the large message."""

MANY = int(os.environ.get("POP3CONNECT_MANY", 3000))
"""Messages of the large mailbox."""

MEASURED = """
import atexit, sys
from twisted.scripts.twistd import run
def tell():
    with open("/proc/self/status") as file:
        (most,) = (line.split()[1] for line in file if line.startswith("VmHWM"))
    print("peak", most, file=sys.__stdout__, flush=True)
atexit.register(tell)
run()
"""
"""Runs twistd, and prints its largest memory in KiB.  What `resource.getrusage` returns
may be that of its parent."""

HEADER = (
    b"From: a@example.org\r\nSubject: large\r\nMessage-ID: <%d@example.org>\r\n\r\n"
)

LINE = b"0123456789abcdef" * 4 + b"\r\n"

PIECE = LINE * 1000


class Mass(Factory):
    """
    A POP3 server with many messages, or a large one, that are made as they are sent.

    :ivar bodies: the pieces of the bodies, by the index of their message.
    """

    noisy = False

    def __init__(self, bodies: list[int]) -> None:
        self.bodies = bodies
        self.deleted: set[int] = set()
        self.heard: dict[bytes, int] = {}
        self.open = 0

    def buildProtocol(self, addr: object) -> Any:
        session = _Session()
        session.factory = self
        return session

    def size(self, index: int) -> int:
        return len(HEADER % index) + self.bodies[index] * len(PIECE) + len(LINE)

    def content(self, index: int) -> Iterator[bytes]:
        yield b"+OK\r\n" + HEADER % index + LINE
        for _ in range(self.bodies[index]):
            yield PIECE
        yield b".\r\n"


@implementer(IPullProducer)
class _Session(LineOnlyReceiver):
    factory: Mass
    transport: Any

    def connectionMade(self) -> None:
        self.factory.open += 1
        self._marked: set[int] = set()
        self._answers: deque[Iterator[bytes]] = deque()
        self._over = False
        self.transport.write(b"+OK\r\n")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.factory.open -= 1

    def lineReceived(self, line: bytes) -> None:
        mass = self.factory
        verb, *words = line.split(b" ")
        mass.heard[verb] = mass.heard.get(verb, 0) + 1
        there = range(len(mass.bodies))
        index = int(words[0]) - 1 if words and words[0].isdigit() else 0
        answer = [b"+OK\r\n"]
        if verb == b"CAPA":
            answer.append(b"USER\r\nUIDL\r\nTOP\r\nPIPELINING\r\n.\r\n")
        elif verb == b"STAT":
            answer = [b"+OK %d %d\r\n" % (len(there), sum(map(mass.size, there)))]
        elif verb == b"LIST":
            answer += [b"%d %d\r\n" % (i + 1, mass.size(i)) for i in there]
            answer.append(b".\r\n")
        elif verb == b"UIDL":
            answer += [b"%d uid%d\r\n" % (i + 1, i) for i in there]
            answer.append(b".\r\n")
        elif verb == b"TOP":
            answer.append(HEADER % index + b".\r\n")
        elif verb == b"DELE":
            self._marked.add(index)
        elif verb == b"QUIT":
            mass.deleted |= self._marked
            self._over = True
        if verb == b"RETR":
            self.say(mass.content(index))
        else:
            self.say([b"".join(answer)])

    def say(self, pieces: Iterable[bytes]) -> None:
        """Send pieces as fast as the connection takes them, one answer at a time."""
        self._answers.append(iter(pieces))
        if len(self._answers) == 1:
            self.transport.registerProducer(self, False)

    def resumeProducing(self) -> None:
        piece = next(self._answers[0], None)
        if piece is not None:
            self.transport.write(piece)
            return
        self._answers.popleft()
        if not self._answers:
            self.transport.unregisterProducer()
            if self._over:
                self.transport.loseConnection()
        else:
            self.resumeProducing()

    def stopProducing(self) -> None:
        self._answers.clear()


class LargeTests(LoopbackTestCase):
    """Memory does not grow with what is collected."""

    if not Path("/proc/self/status").exists():
        skip = "the memory of a process is read from /proc"

    timeout = 60 + LARGE // 1_000_000 + MANY // 20

    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()

    async def collect(self, bodies: list[int], *lines: str) -> tuple[Mass, int]:
        """Look once; return the server, and the largest memory in bytes."""
        mass = Mass(bodies)
        port = reactor.listenTCP(0, mass, interface="127.0.0.1")
        try:
            file = self.folder / "collect.toml"
            file.write_text(
                'state = "state"\nsecure = "none"\n'
                '[destination.box]\nkind = "maildir"\npath = "mail"\n'
                '[destination.inbox]\nkind = "mbox"\npath = "inbox"\n'
                f'[[account]]\nname = "a"\nserver = "127.0.0.1:{port.getHost().port}"\n'
                'user = "a"\npassword = "secret"\n' + "\n".join(lines)
            )
            file.chmod(0o600)
            program = self.start(
                *("-c", MEASURED, "-n", "--pidfile=", f"--rundir={self.folder}"),
                *("pop3connect", "collect", "--config", str(file), "--once"),
            )
            status = await program.ended
            self.assertEqual(status, 0, program.output + program.errors)
            while mass.open:
                await deferLater(reactor, 0.01)
        finally:
            await port.stopListening()
        (peak,) = (
            int(line.split()[1])
            for line in program.output.splitlines()
            if line.startswith("peak ")
        )
        return mass, peak * 1024

    async def test_large_message_keeps_memory_flat(self) -> None:
        _, least = await self.collect([1, 1], 'to = ["box"]')
        for to in ('["box"]', '["inbox"]'):
            self.folder = Path(self.mktemp()).absolute()
            self.folder.mkdir()
            mass, most = await self.collect(
                [1, LARGE // len(PIECE), 1], f"to = {to}", 'after = "delete"'
            )
            self.assertEqual(mass.deleted, {0, 1, 2})
            self.assertLess(most - least, 40 * 1024 * 1024, to)
            stored = [*self.folder.glob("mail/new/*"), *self.folder.glob("inbox")]
            size = sum(path.stat().st_size for path in stored)
            self.assertGreater(size, LARGE * 0.95)
            for path in stored:
                path.unlink()

    async def test_large_mailbox_is_seen_then_not_read_again(self) -> None:
        lines = ('to = ["box"]', 'existing = "seen"', "max_messages = 100000000")
        mass, first = await self.collect([0] * MANY, *lines)
        self.assertEqual(mass.heard.get(b"RETR", 0), 0)
        self.assertEqual(mass.heard[b"TOP"], MANY)
        mass, second = await self.collect([0] * (MANY + 1), *lines)
        self.assertEqual((mass.heard[b"RETR"], mass.heard.get(b"TOP", 0)), (1, 0))
        # Rows and listings, but not what they are about.
        for peak in (first, second):
            self.assertLess(peak, 120 * 1024 * 1024 + 4096 * MANY)

    async def test_large_mailbox_is_delivered_and_deleted(self) -> None:
        count = min(MANY, 20_000)
        mass, peak = await self.collect([0] * count, 'to = ["box"]', 'after = "delete"')
        self.assertEqual(len(mass.deleted), count)
        self.assertEqual(len(list(self.folder.glob("mail/new/*"))), count)
        self.assertLess(peak, 120 * 1024 * 1024 + 8192 * count)
