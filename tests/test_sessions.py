"""
`Connector.sessions`: one session after the other, and the waits in between.
"""

from __future__ import annotations

from typing import Any

from twisted.application.internet import backoffPolicy
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.error import ConnectionRefusedError
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from pop3connect import (
    Connector,
    Handle,
    LoginError,
    POP3Error,
    Secure,
    STLSUnavailableError,
    UsageError,
)
from pop3connect.testing import MailboxServer, Script, ScriptedServer

from .support.memory import Server

USER, PASSWORD = "ada", "lovelace"

NAME = "pop.example.com"


def session(reply: str = "+OK") -> Script:
    """A session in which nothing is done, without CAPA; or a login that is refused."""
    script = Script().greet().expect(f"USER {USER}").reply()
    return script.expect(f"PASS {PASSWORD}").reply(reply).quit()


def busy() -> Script:
    return Script().greet("-ERR [SYS/TEMP] later").close()


class Counting:
    """An endpoint that counts how often it is used; the first attempts may fail."""

    def __init__(self, endpoint: Any, refused: int = 0) -> None:
        self.endpoint, self.refused, self.used = endpoint, refused, 0

    def connect(self, factory: Any) -> Deferred[Any]:
        self.used += 1
        if self.used <= self.refused:
            return fail(ConnectionRefusedError())
        connected: Deferred[Any] = self.endpoint.connect(factory)
        return connected


class SessionsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.failures: list[tuple[POP3Error, float]] = []
        self.opened: list[Handle] = []

    def failed(self, error: POP3Error, wait: float) -> None:
        self.failures.append((error, wait))

    def connector(self, server: Any, **how: Any) -> Connector:
        options = {"endpoint": server.endpoint, "reactor": server.clock, **how}
        return Connector(NAME, **{"capa": False, **options})

    def start(
        self, connector: Connector, *, leave: bool = True, **options: Any
    ) -> Deferred[None]:
        """Iterate until that fails or is cancelled."""
        options.setdefault("failed", self.failed)

        async def iterate() -> None:
            async for handle in connector.sessions(USER, PASSWORD, **options):
                self.opened.append(handle)
                if leave:
                    await handle.disconnect()

        return Deferred.fromCoroutine(iterate())

    def run_with(self, server: Any, **options: Any) -> Deferred[None]:
        running = self.start(self.connector(server), **options)
        server.flush()
        return running

    def end(self, server: Any, running: Deferred[None]) -> None:
        running.cancel()
        server.flush()
        self.failureResultOf(running, CancelledError)

    def test_next_session_begins_one_interval_after_the_last_has_ended(self) -> None:
        server = ScriptedServer(session(), session())
        running = self.run_with(server, interval=60)
        server.advance(59)
        self.assertEqual(len(self.opened), 1)
        server.advance(1)
        self.assertEqual(len(self.opened), 2)
        self.end(server, running)
        server.check()

    def test_longer_login_delay_of_the_server_is_waited_for(self) -> None:
        delayed = Script().greet().log_in(capabilities=["USER", "LOGIN-DELAY 900"])
        server = ScriptedServer(delayed.quit(), Script().expect_close())
        endpoint = Counting(server.endpoint)
        connector = self.connector(server, endpoint=endpoint, capa=True)
        running = self.start(connector, interval=60)
        server.advance(899)
        self.assertEqual((len(self.opened), endpoint.used), (1, 1))
        server.advance(1)
        self.assertEqual(endpoint.used, 2)
        self.end(server, running)

    def test_wait_doubles_while_no_session_can_be_opened(self) -> None:
        server = ScriptedServer(busy(), busy(), busy(), session())
        running = self.run_with(server, interval=100)
        for wait in (105, 210, 420):
            server.advance(wait)
        self.assertEqual(len(self.opened), 1)
        for (error, wait), middle in zip(self.failures, (100, 200, 400), strict=True):
            self.assertIsInstance(error, LoginError)
            self.assertTrue(0.95 * middle <= wait <= 1.05 * middle, (wait, middle))
        self.end(server, running)

    def test_success_ends_the_doubling(self) -> None:
        server = ScriptedServer(busy(), session(), busy(), session())
        policy = backoffPolicy(initialDelay=10, factor=2, jitter=lambda: 0)
        running = self.run_with(server, interval=60, backoff=policy)
        server.advance(20)
        server.advance(60)
        self.assertEqual([wait for _, wait in self.failures], [20, 20])
        self.end(server, running)

    def test_what_the_server_asks_for_is_waited_for(self) -> None:
        offer = ["USER", "LOGIN-DELAY 700"]
        delayed = Script().greet().expect("CAPA").reply(lines=offer)
        delayed.expect(f"USER {USER}").reply().expect(f"PASS {PASSWORD}")
        delayed.reply("-ERR [LOGIN-DELAY] too soon").quit()
        server = ScriptedServer(delayed, Script().expect_close())
        endpoint = Counting(server.endpoint)
        connector = self.connector(server, endpoint=endpoint, capa=True)
        running = self.start(connector, interval=1, backoff=lambda _: 5.0)
        server.flush()
        self.assertEqual([wait for _, wait in self.failures], [700])
        server.advance(699)
        self.assertEqual(endpoint.used, 1)
        server.advance(1)
        self.assertEqual(endpoint.used, 2)
        self.end(server, running)

    def test_server_that_cannot_be_reached_is_tried_again(self) -> None:
        server = ScriptedServer(session())
        endpoint = Counting(server.endpoint, refused=1)
        running = self.start(self.connector(server, endpoint=endpoint))
        server.advance(400)
        self.assertEqual((len(self.failures), len(self.opened)), (1, 1))
        self.end(server, running)
        server.check()

    def test_refused_password_is_raised_and_not_tried_again(self) -> None:
        server = ScriptedServer(session("-ERR [AUTH] wrong"))
        running = self.run_with(server)
        self.failureResultOf(running, LoginError)
        server.advance(10_000)
        server.check()

    def test_missing_stls_is_raised(self) -> None:
        offers = Script().greet().expect("CAPA").reply(lines=["USER"]).quit()
        server = ScriptedServer(offers)
        running = self.start(self.connector(server, secure=Secure.STLS, capa=True))
        server.flush()
        self.failureResultOf(running, STLSUnavailableError)

    def test_session_that_is_left_open_is_an_error_that_says_so(self) -> None:
        server = MailboxServer([])
        running = self.run_with(server, leave=False)
        error = self.failureResultOf(running, UsageError).value
        self.assertIn("still open", str(error))
        self.assertEqual(error.server, f"{NAME}:110")
        self.opened[0].abort()
        server.flush()

    def test_cancelling_while_it_waits_ends_it(self) -> None:
        server = ScriptedServer(session())
        running = self.run_with(server)
        self.end(server, running)
        self.assertEqual(server.clock.getDelayedCalls(), [])

    def test_cancelling_while_it_connects_closes_the_connection(self) -> None:
        server = ScriptedServer(Script().expect_close())
        running = self.run_with(server)
        self.end(server, running)
        server.check()

    def test_failure_is_logged_where_the_program_has_no_procedure_for_it(self) -> None:
        server = ScriptedServer(busy())
        with capturedLogs() as logs:
            running = self.run_with(server, failed=None, backoff=lambda _: 42.0)
        (text,) = [formatEvent(event) for event in logs if "wait" in event]
        self.assertIn(NAME, text)
        self.assertIn("the next attempt is in 42 seconds", text)
        self.end(server, running)

    def test_bad_interval_is_an_error_at_once(self) -> None:
        connector = self.connector(MailboxServer([]))
        for interval in (0, -1, "5 min", None):
            error = self.assertRaises(
                UsageError, connector.sessions, USER, PASSWORD, interval=interval
            )
            self.assertIn("interval must be", str(error))

    def test_what_is_no_procedure_is_an_error_at_once(self) -> None:
        connector: Any = self.connector(MailboxServer([]))
        for name in ("backoff", "failed"):
            error = self.assertRaises(
                UsageError, connector.sessions, USER, PASSWORD, **{name: 5}
            )
            self.assertIn(f"{NAME}:110: {name} must be a callable", str(error))

    def test_backoff_that_returns_no_seconds_is_an_error_that_says_so(self) -> None:
        for bad in (-1, float("nan"), float("inf"), None, "5", True):
            server = Server()
            connector = Connector(NAME, endpoint=server, reactor=server.clock)
            running = self.start(connector, backoff=lambda _, bad=bad: bad)
            server.say(b"-ERR [SYS/TEMP] later\r\n")
            error = self.failureResultOf(running, UsageError).value
            self.assertIn(f"{NAME}:110: backoff must return a number", str(error))
            self.assertIn(repr(bad), str(error))
            self.assertEqual(server.clock.getDelayedCalls(), [])

    def test_clock_set_back_during_a_session_does_not_lengthen_the_wait(self) -> None:
        for offer, wait in ((b"", 60), (b"LOGIN-DELAY 900\r\n", 900)):
            server = Server()
            server.clock.advance(10_000)
            connector = Connector(NAME, endpoint=server, reactor=server.clock)
            running = self.start(connector, interval=60)
            server.say(b"+OK ready\r\n")
            reply = b"+OK\r\nUSER\r\n" + offer + b".\r\n"
            server.expect(b"CAPA", reply)
            server.expect(b"USER ada", b"+OK\r\n")
            server.expect(b"PASS lovelace", b"+OK\r\n")
            server.expect(b"CAPA", reply)
            server.clock.rightNow -= 5000
            server.expect(b"QUIT", b"+OK\r\n")
            (call,) = server.clock.getDelayedCalls()
            self.assertEqual(call.getTime() - server.clock.seconds(), wait)
            running.cancel()
            self.failureResultOf(running, CancelledError)
