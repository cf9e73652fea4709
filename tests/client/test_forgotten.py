"""
A handle whose last reference goes, and one that is used in the wrong thread.
"""

from __future__ import annotations

import gc
import sys
import warnings
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.python import threadable
from twisted.trial.unittest import TestCase

from pop3connect import Handle, Stat, UsageError, connect
from pop3connect.testing import MailboxServer

from ..support.loopback import MESSAGES, PASSWORD, USERS, LoopbackTestCase, reactor
from ..support.memory import SessionTestCase
from .test_budget import ThreadClock


class ForgottenTestCase(SessionTestCase):
    """Opens sessions whose handle only the test refers to."""

    @property
    def caught(self) -> list[str]:
        """The warnings since the last look."""
        return [one["message"] for one in self.flushWarnings()]

    def handle(self, *capabilities: str, **options: Any) -> Handle:
        handle = self.log_in(*capabilities, **options)
        self.server.keeping.clear()
        return handle


class ForgottenTests(ForgottenTestCase):
    """The last reference goes."""

    def test_open_session_is_aborted_in_a_turn_of_its_own_with_a_warning(self) -> None:
        handle = self.handle()
        del handle
        (warning,) = self.caught
        self.assertIn("pop.example.com:110: a handle was forgotten", warning)
        self.assertIn("async with", warning)
        # Not in the middle of whatever was running.
        self.assertFalse(self.server.transport.disconnecting)
        self.assertClosed()

    def test_no_reference_cycle_keeps_a_handle_that_was_used(self) -> None:
        handle = self.handle("UIDL", "TOP", "PIPELINING")
        answers = [handle.list(), handle.stat(), handle.delete(3), handle.reset()]
        self.server.heard()
        self.server.say(b"+OK\r\n.\r\n+OK 0 0\r\n-ERR no\r\n+OK\r\n")
        self.failureResultOf(answers[2])
        gc.disable()
        self.addCleanup(gc.enable)
        del handle
        # Though the Deferreds are still there.
        self.assertEqual(len(self.caught), 1)
        self.assertClosed()

    def test_abort_is_scheduled_also_where_the_warning_is_an_error(self) -> None:
        unraisable: list[Any] = []
        self.patch(sys, "unraisablehook", lambda it: unraisable.append(it.exc_type))
        handle = self.handle()
        with warnings.catch_warnings():
            warnings.simplefilter("error", ResourceWarning)
            del handle
        self.assertEqual(unraisable, [ResourceWarning])
        self.assertClosed()

    def test_closed_sessions_are_forgotten_in_silence(self) -> None:
        def left(handle: Handle) -> None:
            ending = handle.disconnect()
            self.server.expect(b"QUIT", b"+OK\r\n")
            self.result(ending)

        ends: list[Callable[[Handle], object]] = [
            lambda handle: self.result(handle.abort()),
            lambda _: self.server.lose(),
            left,
        ]
        for end in ends:
            handle = self.handle()
            self.assertTrue(handle.is_open)
            end(handle)
            self.assertFalse(handle.is_open)
            del handle
            self.assertEqual(self.caught, [])
            self.anew()

    def test_session_that_is_ending_is_not_open_and_not_aborted(self) -> None:
        handle = self.handle()
        ending = handle.disconnect()
        self.assertFalse(handle.is_open)
        del handle
        self.server.expect(b"QUIT", b"+OK\r\n")
        self.result(ending)
        self.assertEqual(self.caught, [])

    def test_pending_command_keeps_the_session(self) -> None:
        async def work() -> Stat:
            return await self.handle().stat()

        working = Deferred.fromCoroutine(work())
        gc.collect()
        self.assertEqual(self.caught, [])
        self.server.expect(b"STAT", b"+OK 2 320\r\n")
        self.assertEqual(self.result(working), (2, 320))
        gc.collect()
        self.assertEqual(len(self.caught), 1)
        self.assertClosed()

    def test_command_without_a_reader_keeps_the_session_until_it_is_answered(
        self,
    ) -> None:
        self.handle().delete(1)
        gc.collect()
        self.assertEqual(self.caught, [])
        self.server.expect(b"DELE 1", b"+OK\r\n")
        gc.collect()
        self.assertEqual(len(self.caught), 1)
        self.assertClosed()

    def test_command_that_was_rejected_does_not_keep_the_session(self) -> None:
        self.error(self.handle().command("QUIT"), UsageError)
        gc.collect()
        self.assertEqual(len(self.caught), 1)
        self.assertClosed()

    def test_running_iterator_keeps_the_session(self) -> None:
        seen: list[int] = []

        async def work() -> None:
            async for message in self.handle("PIPELINING").messages([1, 2]):
                seen.append(message.number)

        working = Deferred.fromCoroutine(work())
        for number in (1, 2):
            gc.collect()
            self.assertEqual(self.caught, [])
            self.server.say(b"+OK\r\nmail\r\n.\r\n")
            self.assertEqual(seen[-1], number)
        self.result(working)
        gc.collect()
        self.assertEqual(len(self.caught), 1)
        self.assertClosed()

    def test_dropping_the_iterator_forgets_the_handle_too(self) -> None:
        runs = [self.handle("PIPELINING").messages([1, 2])]

        async def first() -> int:
            return (await runs[0].__anext__()).number

        taking = Deferred.fromCoroutine(first())
        self.server.heard()
        self.server.say(b"+OK\r\nmail\r\n.\r\n")
        self.assertEqual(self.result(taking), 1)
        self.assertEqual(self.caught, [])
        runs.clear()
        gc.collect()
        self.assertEqual(len(self.caught), 1)
        self.assertClosed()

    def test_handle_that_no_caller_took_is_aborted(self) -> None:
        opening = self.open(capa=False)
        self.server.say(b"+OK ready\r\n")
        self.server.expect(b"USER ada", b"+OK\r\n")
        self.server.expect(b"PASS lovelace", b"+OK\r\n")
        self.server.keeping.clear()
        self.assertEqual(self.caught, [])
        del opening
        gc.collect()
        self.assertEqual(len(self.caught), 1)
        self.assertClosed()


class ThreadTests(TestCase):
    """The last reference goes in another thread than the reactor's."""

    timeout = 20

    async def test_session_is_aborted_in_the_reactors_thread(self) -> None:
        server = MailboxServer([], clock=ThreadClock())
        opening = server.connect()
        server.flush()
        handles = [self.successResultOf(opening)]
        closed = handles[0].when_closed()
        del opening
        threads: list[int] = []
        closed.addCallback(lambda _: threads.append(threadable.getThreadID()))

        def drop() -> int:
            handles.clear()
            gc.collect()
            return threadable.getThreadID()

        other = await deferToThread(drop)
        self.assertEqual(len(self.flushWarnings()), 1)
        self.assertEqual(server.clock.callers, [other])
        done: Deferred[None] = Deferred()
        reactor.callLater(0, done.callback, None)
        await done
        server.flush()
        self.assertEqual(threads, [threadable.getThreadID()])


class WrongThreadTests(LoopbackTestCase):
    """Calls from another thread than the reactor's."""

    def connect(self) -> Deferred[Handle]:
        return connect(self.server, USERS[0], PASSWORD)

    async def test_every_method_fails_with_usage_error_that_names_blocking(
        self,
    ) -> None:
        handle = await self.connect()
        calls: list[Callable[[], object]] = [
            handle.stat,
            handle.list,
            handle.uidl,
            handle.noop,
            handle.reset,
            handle.capa,
            handle.disconnect,
            handle.abort,
            handle.when_closed,
            handle.messages,
            handle.headers,
            lambda: handle.size(1),
            lambda: handle.uid(1),
            lambda: handle.retrieve(1),
            lambda: handle.top(1),
            lambda: handle.delete(1),
            lambda: handle.lang("en"),
            lambda: handle.command("XTND"),
        ]
        for call in calls:
            error = await deferToThread(outcome, call)
            self.assertIsInstance(error, UsageError, call)
            self.assertIn("pop3connect.blocking", str(error))
            self.assertEqual(error.server, str(handle.server))
        self.assertEqual((await handle.stat()).count, len(MESSAGES))
        await handle.disconnect()

    async def test_connect_fails_with_usage_error_that_names_blocking(self) -> None:
        error = await deferToThread(outcome, self.connect)
        self.assertIsInstance(error, UsageError)
        self.assertIn("pop3connect.blocking", str(error))

    async def test_clock_may_be_used_in_any_thread(self) -> None:
        def block() -> int:
            server = MailboxServer([b"Subject: a\r\n\r\n"])
            handles: list[Handle] = []
            server.connect().addCallback(handles.append)
            server.flush()
            counts: list[Stat] = []
            handles[0].stat().addCallback(counts.append)
            server.flush()
            handles[0].abort()
            server.flush()
            return counts[0].count

        self.assertEqual(await deferToThread(block), 1)

    async def test_lost_reference_over_tcp_closes_the_connection(self) -> None:
        handles = [await self.connect()]
        closed = handles[0].when_closed()
        handles.clear()
        gc.collect()
        await closed
        self.assertEqual(len(self.flushWarnings()), 1)


def outcome(call: Callable[[], Any]) -> BaseException | None:
    """Return the error of a call or of its Deferred."""
    failures: list[Any] = []
    try:
        call().addErrback(failures.append)
    except UsageError as error:
        return error
    return failures[0].value if failures else None
