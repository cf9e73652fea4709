"""
The engine of the collector in memory: servers with faults, a Clock, real files, and
services that are "killed" at a commit and started again on the same state.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pop3connect.collect import spool
from pop3connect.collect.journal import Journal
from pop3connect.collect.look import Outcome
from pop3connect.collect.records import MessageRow, MessageState
from pop3connect.collect.service import CollectService
from pop3connect.collect.settings import (
    AccountSettings,
    Config,
    DestinationSettings,
)
from pop3connect.connector import Connector
from pop3connect.destinations import Mail, incoming, maildir
from pop3connect.testing import MailboxServer
from pop3connect.testing.mailbox import _MailboxConnection, _MailboxFactory
from pop3connect.testing.wire import flush

START = 1_700_000_000.0
"""The wall clock at the beginning of each test."""

Fault = Callable[[Any], bool]
"""Does something instead of a command; returns whether the command is answered."""


def hang(connection: Any) -> bool:
    """Never answer, this command and all that follow."""
    connection.deaf = True
    return True


def swallow(connection: Any) -> bool:
    """Never answer this command, and answer those that follow."""
    return True


def close(connection: Any) -> bool:
    """Close instead of an answer."""
    connection.transport.loseConnection()
    return True


def say(data: bytes) -> Fault:
    """Answer with these bytes."""

    def fault(connection: Any) -> bool:
        connection.transport.write(data)
        return True

    return fault


def say_and_close(data: bytes) -> Fault:
    """Send these bytes, and close."""

    def fault(connection: Any) -> bool:
        connection.transport.write(data)
        connection.transport.loseConnection()
        return True

    return fault


def flood(connection: Any) -> bool:
    """Send a message that does not end."""
    connection.transport.write(b"+OK\r\n" + b"x" * 70 * 100_000)
    return True


def times(count: int, fault: Fault) -> Fault:
    """Let a fault happen this many times only."""
    left = [count]

    def limited(connection: Any) -> bool:
        if left[0] <= 0:
            return False
        left[0] -= 1
        return fault(connection)

    return limited


class FaultyServer(MailboxServer):
    """
    A server with faults.

    :ivar faults: what happens instead of a command, by its line (``"RETR 3"``) or its
        verb.
    :ivar sessions: connections so far.
    """

    def __init__(self, messages: Iterable[bytes] = (), **options: Any) -> None:
        self.faults: dict[str, Fault] = {}
        super().__init__(messages, **options)
        wrapped = self._factory
        assert isinstance(wrapped, _MailboxFactory)
        wrapped.__class__ = _FaultyFactory

    @property
    def sessions(self) -> int:
        return self.endpoint.connections

    @property
    def uids(self) -> list[str]:
        return [uid.decode() for uid, _ in self._drop.messages]

    def count(self, verb: str) -> int:
        """Return how often a command was heard."""
        return sum(line.split(" ")[0] == verb for line in self.heard)


class _FaultyFactory(_MailboxFactory):
    def buildProtocol(self, addr: Any) -> Any:
        connection = _FaultyConnection(self._server, self._at_once)
        connection.factory = self
        connection.callLater = self._server.clock.callLater  # type: ignore[method-assign]
        return connection


class _FaultyConnection(_MailboxConnection):
    deaf = False
    line = ""

    def lineReceived(self, line: bytes) -> None:
        server: Any = self._server
        if self.deaf:
            return
        text = line.decode("utf-8", "replace")
        verb = text.split(" ")[0]
        self.line = text
        fault = server.faults.get(text) or server.faults.get(verb)
        if fault is not None and fault(self):
            server.heard.append(text)
            return
        super().lineReceived(line)


def message(number: int, size: int = 300, *, mid: bool = True) -> bytes:
    """Return a message."""
    header = f"From: s{number}@example.org\r\nSubject: number {number}\r\n"
    if mid:
        header += f"Message-ID: <{number}@example.org>\r\n"
    body = b"0123456789abcdef%06d\r\n" % number
    return header.encode() + b"\r\n" + body * max(size // len(body), 1)


class Killed(BaseException):
    """The process has ended."""


class Killer:
    """A hook of the journal that ends the process at a commit."""

    def __init__(self, moment: str, nth: int = 1) -> None:
        self.moment = moment
        self._left = nth
        self.dead = False
        self.heard: list[str] = []

    def __call__(self, moment: str) -> None:
        if self.dead:
            raise Killed
        self.heard.append(moment)
        if moment == self.moment:
            self._left -= 1
            if self._left == 0:
                self.dead = True
                raise Killed


class Collecting:
    """A destination of the program: keeps what it gets, and fails as it is told."""

    def __init__(self) -> None:
        self.got: list[tuple[str, int, bytes]] = []
        self.attempts: list[str] = []
        self.fail: Callable[[Mail], None] = lambda mail: None

    async def deliver(self, mail: Mail) -> None:
        content = mail.read()
        self.attempts.append(mail.key)
        self.fail(mail)
        self.got.append((mail.key, mail.attempt, content))

    @property
    def contents(self) -> list[bytes]:
        return [content for _, _, content in self.got]


class Unwalked(dict[Any, Any]):
    """A mapping whose values are looked up, and that nothing may go through."""

    def refuse(self, *arguments: object) -> Any:
        raise AssertionError("the work grows with the number of accounts")

    __iter__ = items = keys = values = refuse


class EngineTestCase(SynchronousTestCase):
    """
    Tests of the engine with one or more servers in memory.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.root = Path(self.mktemp()).absolute()
        self.root.mkdir()
        self.servers: dict[str, FaultyServer] = {}
        self.objects: dict[str, Any] = {}
        self.destinations: list[DestinationSettings] = []
        self.accounts: list[AccountSettings] = []
        self.options: dict[str, Any] = {}
        self.skew = 0.0

    def wall(self) -> float:
        return START + self.skew + self.clock.seconds()

    # -- what there is

    def serve(self, *messages: bytes, name: str = "a") -> FaultyServer:
        server = FaultyServer(messages, clock=self.clock)
        self.servers[name] = server
        return server

    def maildir(self, name: str = "box", path: str = "mail", **options: Any) -> Path:
        self.destinations.append(
            DestinationSettings(
                name=name, kind="maildir", path=self.root / path, **options
            )
        )
        return self.root / path

    def account(self, name: str = "a", **options: Any) -> AccountSettings:
        options.setdefault("to", ("box",))
        options.setdefault("server", "pop.example.com")
        settings = AccountSettings(
            name=name,
            user="ada",
            password="lovelace",
            secure="none",
            **options,
        )
        self.accounts = [each for each in self.accounts if each.name != name]
        self.accounts.append(settings)
        return settings

    @property
    def config(self) -> Config:
        return Config(
            state=self.root / "state",
            destinations=self.destinations,
            accounts=self.accounts,
            **self.options,
        )

    def service(self, hook: Any = None, **options: Any) -> CollectService:
        def connector(settings: AccountSettings) -> Connector:
            server = self.servers[settings.name]
            return Connector(
                f"{settings.name}.example.com",
                endpoint=server.endpoint,
                reactor=self.clock,
                timeout=settings.timeout,
                connect_timeout=settings.connect_timeout,
            )

        return CollectService(
            self.config,
            reactor=self.clock,
            destinations=self.objects,
            connector=connector,
            wall=self.wall,
            chance=lambda: 0.5,
            machine="here",
            hook=hook,
            **options,
        )

    # -- time

    def flush(self) -> None:
        flush(self.clock)

    def pass_time(self, seconds: float, step: float = 1.0) -> None:
        """Let time pass in steps."""
        end = self.clock.seconds() + seconds
        while self.clock.seconds() < end:
            self.flush()
            self.clock.advance(min(step, end - self.clock.seconds()))
        self.flush()

    def result(self, waited: Deferred[Any], seconds: float = 400.0) -> Any:
        """Wait for a Deferred, and let time pass if that is needed."""
        outcome: list[Any] = []
        waited.addBoth(outcome.append)
        end = self.clock.seconds() + seconds
        self.flush()
        while not outcome and self.clock.seconds() < end:
            self.clock.advance(1.0)
            self.flush()
        self.assertEqual(len(outcome), 1, "it does not end")
        if hasattr(outcome[0], "raiseException"):
            outcome[0].raiseException()
        return outcome[0]

    # -- runs

    def once(
        self, name: str = "a", *, hook: Any = None, seconds: float = 400.0
    ) -> Outcome:
        """Look at all accounts once with a new service; return the outcome of one."""
        running = Deferred.fromCoroutine(self.service(hook).run_once())
        outcomes: Mapping[str, Outcome] = self.result(running, seconds)
        return outcomes[name]

    def killed_once(self, moment: str, nth: int = 1) -> Killer:
        """Look once, and end the process at a commit."""
        killer = Killer(moment, nth)
        service = self.service(killer)
        running = Deferred.fromCoroutine(service.run_once())
        running.addErrback(lambda _: None)
        self.flush()
        self.assertTrue(killer.dead, killer.heard)
        self.die(service)
        return killer

    def die(self, service: CollectService) -> None:
        """Forget a service as the end of its process does."""
        service._release()
        # A new process has another mark in the names of its files.
        run = secrets.token_hex(4)
        for module in (incoming, maildir, spool):
            self.patch(module, "RUN", run)
        for server in self.servers.values():
            server._factory.drop_connections()  # type: ignore[attr-defined]
        # Nothing of it runs any more.
        for call in self.clock.getDelayedCalls():
            call.cancel()
        for server in self.servers.values():
            server.in_use = False
        self.flushLoggedErrors()

    # -- what became of it

    def read(self, ask: Callable[[Journal], Deferred[Any]]) -> Any:
        """Ask the journal beside the service."""
        opening = Journal.open(
            self.root / "state" / "collect.db", None, "test", wall=self.wall
        )
        journal = self.successResultOf(opening)
        try:
            return self.successResultOf(ask(journal))
        finally:
            self.successResultOf(journal.close())

    def rows(self, name: str = "a") -> list[MessageRow]:
        (account,) = self.read(lambda journal: journal.accounts([name]))
        found: list[MessageRow] = self.read(lambda journal: journal.messages(account))
        return found

    def states(self, name: str = "a") -> list[MessageState]:
        return [row.state for row in self.rows(name)]

    def mail(self, path: str = "mail") -> list[bytes]:
        """Return the messages in a Maildir, in the order of their contents."""
        found = [
            file.read_bytes().replace(b"\n", b"\r\n")
            for folder in ("new", "cur")
            for file in (self.root / path / folder).glob("*")
        ]
        return sorted(found)

    def leftovers(self) -> list[str]:
        """Return the files in the spool and in the tmp of all Maildirs."""
        spool = self.root / "state" / "spool"
        files = list(spool.glob("*")) if spool.is_dir() else []
        files += self.root.glob("*/tmp/*")
        return [str(file) for file in files]
