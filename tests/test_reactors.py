"""
What the library needs of a reactor, and time that is never set back.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.base import DelayedCall
from twisted.internet.defer import Deferred
from twisted.internet.selectreactor import SelectReactor
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.internet.threads import deferToThread
from twisted.python import runtime, threadable
from twisted.trial.unittest import SynchronousTestCase, TestCase

import pop3connect.blocking
from pop3connect import ConnectError, UsageError, connect
from pop3connect.reactors import (
    CONNECTS,
    LISTENS,
    RESOLVES,
    THREADS,
    check_reactor,
    in_its_turn,
    steady_time,
)
from pop3connect.testing import MailboxServer, ScriptedServer

from .support.shows import shows


class NoNames(Clock):
    """A reactor that connects and cannot look up names."""

    def connectTCP(self, *arguments: object, **options: object) -> None:
        raise ConnectionRefusedError("it was called")


class CheckTests(SynchronousTestCase):
    """`check_reactor`, and the functions that take a reactor."""

    @shows(
        "feature 1.15",
        "Works with Twisted's reactor",
        "any reactor; Deferreds, endpoints, consumers",
    )
    def test_twisted_reactors_and_its_test_doubles_are_accepted(self) -> None:
        needs = CONNECTS, LISTENS, RESOLVES, THREADS
        check_reactor(global_reactor, *needs)
        double = MemoryReactorClock()
        # Older versions of Twisted's double look up no names.
        resolves = (RESOLVES,) if hasattr(double, "nameResolver") else ()
        check_reactor(double, CONNECTS, LISTENS, *resolves)
        check_reactor(Clock())

    def refused(self, function: Callable[[], object], *words: str) -> None:
        with self.assertRaises(UsageError) as caught:
            function()
        for word in words:
            self.assertIn(word, str(caught.exception))

    def connecting(self, server: str, reactor: Any, **options: Any) -> Any:
        opening = connect(server, "ada", "lovelace", reactor=reactor, **options)
        return self.failureResultOf(opening).raiseException()

    def test_connect_on_an_asyncio_loop_is_refused_with_the_missing_methods(
        self,
    ) -> None:
        loop = asyncio.new_event_loop()
        self.addCleanup(loop.close)
        self.refused(
            lambda: self.connecting("pop.example.com", loop),
            "pop.example.com",
            type(loop).__name__,
            "no seconds and no callLater",
            "IReactorTime",
        )

    def test_connect_on_a_clock_without_endpoint_asks_for_a_reactor(self) -> None:
        self.refused(
            lambda: self.connecting("192.0.2.1", Clock()),
            "no connectTCP",
            "IReactorTCP",
            "endpoint",
        )

    def test_connect_to_a_name_needs_a_name_resolver_and_to_an_address_not(
        self,
    ) -> None:
        self.refused(
            lambda: self.connecting("pop.example.com", NoNames()),
            "no nameResolver",
            "IReactorPluggableNameResolver",
        )
        with self.assertRaises(ConnectError) as caught:
            self.connecting("192.0.2.1", NoNames())
        self.assertIn("it was called", str(caught.exception))

    def test_connect_with_an_endpoint_still_needs_time(self) -> None:
        endpoint = MailboxServer().endpoint
        self.refused(
            lambda: self.connecting("pop.example.com", object(), endpoint=endpoint),
            "no seconds and no callLater",
        )

    def test_endpoint_is_no_remedy_for_a_reactor_without_time(self) -> None:
        with self.assertRaises(UsageError) as caught:
            self.connecting("192.0.2.1", object())
        self.assertNotIn("endpoint", str(caught.exception))

    def test_blocking_connect_needs_a_reactor_that_threads_can_call(self) -> None:
        for reactor in (Clock(), []):
            self.refused(
                lambda reactor=reactor: pop3connect.blocking.connect(  # type: ignore[misc]
                    "pop.example.com", "ada", "lovelace", reactor=reactor
                ),
                "has no ",
                "IReactor",
            )

    def test_servers_for_tests_refuse_what_is_not_a_reactor(self) -> None:
        wrong: Any = object()
        for function in (
            lambda: MailboxServer(clock=wrong),
            lambda: ScriptedServer(clock=wrong),
        ):
            self.refused(function, "no seconds and no callLater")
        clock: Any = Clock()
        server = MailboxServer()
        self.refused(lambda: server.listen(clock), "no listenTCP")
        self.assertIsNot(server.clock, clock)


class TurnTests(TestCase):
    """`in_its_turn`"""

    timeout = 20

    def test_clock_calls_in_its_next_turn(self) -> None:
        clock = Clock()
        calls: list[str] = []
        in_its_turn(clock, lambda: calls.append("called"))
        self.assertEqual(calls, [])
        clock.advance(0)
        self.assertEqual(calls, ["called"])

    async def test_reactor_calls_in_its_thread_wherever_it_was_asked(self) -> None:
        reactor: Any = global_reactor
        threads: list[int] = []
        called: Deferred[None] = Deferred()

        def call() -> None:
            threads.append(threadable.getThreadID())
            called.callback(None)

        await deferToThread(in_its_turn, reactor, call)
        await called
        self.assertEqual(threads, [threadable.getThreadID()])


# The wall clock goes back by an hour when the session waits for the greeting.
PROGRAM = """
import sys, time
real = time.time
back = 0
time.time = lambda: real() - back
from pop3connect import TimedOutError
from pop3connect.testing import Script, ScriptedServer

def set_back():
    global back
    back = 3600

async def work(reactor):
    reactor.callLater(0, set_back)
    server = ScriptedServer(Script().expect("CAPA"), clock=reactor)
    try:
        await server.connect(timeout=0.2)
    except TimedOutError as error:
        print(error.phase, error.seconds)
    return 7

{run}
"""


class SteadyTimeTests(SynchronousTestCase):
    """`steady_time`"""

    def setUp(self) -> None:
        self.reactor = SelectReactor()
        for reader in self.reactor.removeAll():
            reader.connectionLost(None)  # type: ignore[attr-defined]

    def test_reactor_of_twisted_gets_the_monotonic_clock(self) -> None:
        steady_time(self.reactor)
        self.assertIs(self.reactor.seconds, time.monotonic)
        steady_time(self.reactor)
        self.assertIs(self.reactor.seconds, time.monotonic)

    def test_other_reactors_keep_their_clock(self) -> None:
        steady_time(self.reactor)
        other = SelectReactor()
        for reader in other.removeAll():
            reader.connectionLost(None)  # type: ignore[attr-defined]
        self.assertIs(other.seconds, runtime.seconds)

    def test_clock_that_is_not_the_wall_clock_is_kept(self) -> None:
        clock = Clock()
        steady_time(clock)
        clock.advance(5)
        self.assertEqual(clock.seconds(), 5)

    def test_calls_that_are_scheduled_already_stay_due_in_their_order(self) -> None:
        called: list[str] = []
        far = self.reactor.callLater(1000, called.append, "far")
        self.reactor.callLater(0, called.append, "first")
        steady_time(self.reactor)
        self.reactor.callLater(0, called.append, "second")
        assert isinstance(far, DelayedCall)
        left = far.getTime() - time.monotonic()
        self.assertTrue(990 < left < 1010, left)
        far.reset(500)
        left = far.getTime() - time.monotonic()
        self.assertTrue(490 < left < 510, left)
        self.reactor.runUntilCurrent()
        self.assertEqual(called, ["first", "second"])
        far.cancel()

    def run_program(self, run: str) -> subprocess.CompletedProcess[str]:
        # A deadline that does not fire ends with the limit, an hour before it is due.
        return subprocess.run(
            [sys.executable, "-c", PROGRAM.format(run=run)],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )

    def test_deadline_of_command_line_fires_after_clock_is_set_back(self) -> None:
        program = self.run_program(
            "from pop3connect.cli.running import run_reactor\n"
            "sys.exit(run_reactor(work))"
        )
        self.assertEqual(
            (program.returncode, program.stdout), (7, "greeting 0.2\n"), program.stderr
        )

    def test_deadline_of_twistd_service_fires_after_clock_is_set_back(self) -> None:
        # What makes the service prepares the reactor that twistd runs.
        program = self.run_program(
            "import pathlib, tempfile\n"
            "from pop3connect.tap import Options, makeService\n"
            "from twisted.internet import reactor\n"
            "from twisted.internet.defer import Deferred\n"
            "folder = tempfile.mkdtemp()\n"
            "config = pathlib.Path(folder, 'collect.toml')\n"
            "config.write_text('state = \"state\"\\n[destination.inbox]'\n"
            '    \'\\nkind = "table"\\n[[account]]\\nname = "ann"\'\n'
            '    \'\\nserver = "192.0.2.1"\\nuser = "ann"\\npassword = "a"\\n\')\n'
            "options = Options()\n"
            "options.parseOptions(['collect', '--config', str(config)])\n"
            "makeService(options)\n"
            "def begin():\n"
            "    working = Deferred.fromCoroutine(work(reactor))\n"
            "    working.addBoth(lambda _: reactor.stop())\n"
            "reactor.callWhenRunning(begin)\n"
            "reactor.run()\n"
        )
        self.assertEqual(
            (program.returncode, program.stdout), (0, "greeting 0.2\n"), program.stderr
        )
