"""
A demo server on loopback, and programs in processes of their own that talk to it.

For what memory cannot show: threads, signals, forks, the end of an interpreter.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

import pop3connect
from pop3connect.testing.accounts import Maildrop, portal
from pop3connect.testing.server import DemoPOP3, DemoPOP3Factory

ROOT = Path(pop3connect.__file__).absolute().parent.parent

reactor: Any = global_reactor

USERS = ("ann", "bob", "cleo", "dan")
"""Each has a mailbox with the same messages, and the same password."""

PASSWORD = "looking-glass-7"

MESSAGES = (
    b"Subject: one\r\n\r\nfirst\r\n",
    b".\r\n.. dots\r\n\r\n.\r\nend.\r\n",
    b"Subject: three\r\n\r\n" + b"x" * 70 + b"\r\n",
)


class Stubborn(DemoPOP3):
    """A demo server that can keep silent, or send half of its last message."""

    factory: LoopbackFactory

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """Tell who waits for that."""
        super().connectionLost(reason)
        self.factory.left()

    def processCommand(self, verb: bytes, *arguments: bytes) -> object:  # type: ignore[override]
        """Say nothing to what the test has chosen."""
        if verb in self.factory.silent:
            self.factory.stuck()
            return None
        return super().processCommand(verb, *arguments)

    def do_RETR(self, i: bytes) -> None:
        """Stop in the middle of the last message."""
        last = len(self._sizes())
        if int(i) < last or not self.factory.halves:
            super().do_RETR(i)
            return
        self.transport.write(b"+OK\r\nSubject: half\r\n\r\nhalf of")
        self.factory.stuck()


class LoopbackFactory(DemoPOP3Factory):
    """
    Makes stubborn servers.

    :ivar silent: the verbs that they do not answer.
    :ivar halves: whether they send half of the last message only.
    """

    silent: tuple[bytes, ...] = ()
    halves = False

    def __init__(self, messages: tuple[bytes, ...]) -> None:
        self.drops = {name: Maildrop(messages) for name in USERS}
        super().__init__(
            portal(
                {name.encode(): PASSWORD.encode() for name in USERS},
                {name.encode(): drop for name, drop in self.drops.items()},
            )
        )
        self._waiting: list[Deferred[None]] = []
        self._leaving: list[Deferred[None]] = []

    def buildProtocol(self, addr: object) -> DemoPOP3:  # type: ignore[override]
        connection = Stubborn()
        connection.factory = self
        return connection

    def stuck(self) -> None:
        """Tell the test that a client waits now, for ever."""
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.callback(None)

    def when_stuck(self) -> Deferred[None]:
        """Wait until a client waits for ever."""
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        return waiting

    def left(self) -> None:
        """Tell who waits for it that nobody is connected."""
        if not self.connections:
            leaving, self._leaving = self._leaving, []
            for one in leaving:
                one.callback(None)

    def when_left(self) -> Deferred[None]:
        """Wait until nobody is connected."""
        leaving: Deferred[None] = Deferred()
        self._leaving.append(leaving)
        self.left()
        return leaving


class Program(ProcessProtocol):
    """
    A Python program in a process of its own.

    :ivar output: all that it has printed.
    :ivar errors: all that it has written to standard error.
    :ivar ended: fires with its exit status; negative: the signal that ended it.
    """

    def __init__(self) -> None:
        self.output = ""
        self.errors = ""
        self.ended: Deferred[int] = Deferred()
        self._gone: Deferred[None] = Deferred()
        self._awaited: list[tuple[str, Deferred[None]]] = []

    def outReceived(self, data: bytes) -> None:
        self.output += data.decode()
        self._look()

    def errReceived(self, data: bytes) -> None:
        self.errors += data.decode()

    def processEnded(self, reason: Failure) -> None:
        status = reason.value
        self._look(ended=True)
        self._gone.callback(None)
        self.ended.callback(
            -status.signal if status.signal is not None else status.exitCode  # type: ignore[union-attr]
        )

    def says(self, text: str) -> Deferred[None]:
        """Wait until it has printed this; fail if it ends before."""
        said: Deferred[None] = Deferred()
        self._awaited.append((text, said))
        self._look()
        return said

    def _look(self, *, ended: bool = False) -> None:
        for text, said in self._awaited[:]:
            if text in self.output or ended:
                self._awaited.remove((text, said))
                if text in self.output:
                    said.callback(None)
                else:
                    said.errback(
                        AssertionError(f"{text!r} was not said: {self.errors}")
                    )

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        assert self.transport is not None
        self.transport.signalProcess("INT")

    def go_on(self) -> None:
        """Let a program that reads its standard input come to its end."""
        assert self.transport is not None
        self.transport.closeStdin()

    def kill(self) -> Deferred[None]:
        """End it, if it has not ended, and wait for that."""
        assert self.transport is not None
        with contextlib.suppress(ProcessExitedAlready):
            self.transport.signalProcess("KILL")
        return self._gone


class LoopbackTestCase(TestCase):
    """
    A test case with a demo server on loopback, in trial's reactor.

    :ivar server: its ``host:port``.
    """

    timeout = 30

    messages = MESSAGES

    def setUp(self) -> None:
        self.factory = LoopbackFactory(self.messages)
        port = reactor.listenTCP(0, self.factory, interface="127.0.0.1")
        self.server = f"127.0.0.1:{port.getHost().port}"
        self.addCleanup(self.drop_connections)
        self.addCleanup(port.stopListening)

    def drop_connections(self) -> Deferred[None]:
        """Leave no connection behind."""
        self.factory.drop_connections()
        return self.factory.when_left()

    def start(self, *arguments: str, **environment: str) -> Program:
        """Start Python with these arguments; it is gone when the test is over."""
        path = os.pathsep.join(
            filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])
        )
        program = Program()
        reactor.spawnProcess(
            program,
            sys.executable,
            [sys.executable, *arguments],
            env={**os.environ, "PYTHONPATH": path, **environment},
        )
        self.addCleanup(program.kill)
        return program

    def script(self, source: str) -> Program:
        """Start a script, which knows `server`, `user` and `password`."""
        return self.start("-c", HEAD + source, self.server, POP3_PASSWORD=PASSWORD)

    async def run_script(self, source: str) -> Program:
        """Run a script to its end, which has to be a good one."""
        program = self.script(source)
        status = await program.ended
        self.assertEqual(status, 0, program.errors)
        return program


HEAD = f"""
import os, sys, threading
server, user, password = sys.argv[1], {USERS[0]!r}, os.environ["POP3_PASSWORD"]
"""
