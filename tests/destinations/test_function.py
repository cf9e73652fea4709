"""
A Python function as a destination, and the message that it gets.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from pop3connect.destinations.base import Later, Mail, Never, UnreadableError
from pop3connect.destinations.function import Function, find_function
from pop3connect.errors import UsageError

from ..support.shows import shows
from .faults import MESSAGE, mail_in


class MailTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.mail = mail_in(self.folder)

    def test_message_can_be_read_and_parsed(self) -> None:
        self.assertEqual(self.mail.read(), MESSAGE)
        parsed = self.mail.parse()
        self.assertEqual(parsed["Subject"], "one")
        self.assertIn("From there", parsed.get_content())

    def test_file_that_fails_while_it_is_read_is_unreadable(self) -> None:
        path = Path("/proc/self/mem")
        if not path.exists():
            raise SkipTest("no file fails to be read here")
        with attrs.evolve(self.mail, path=path).pieces() as pieces:
            self.assertRaises(UnreadableError, list, pieces)

    def test_message_in_a_link_is_not_read(self) -> None:
        target = self.mail.path.rename(self.folder / "target")
        self.mail.path.symlink_to(target)
        self.assertRaises(OSError, self.mail.read)
        self.assertRaises(OSError, self.mail.parse)


class FunctionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.mail = Mail("a" * 32, "anna", "uid", 7, Path("none"), attempt=3)

    def deliver(self, function: Callable[[Mail, int], object]) -> Deferred[None]:
        destination = Function(function, timeout=10, reactor=self.clock)
        return Deferred.fromCoroutine(destination.deliver(self.mail))

    @shows("feature 1.20")
    def test_function_gets_the_message_and_the_number_of_the_attempt(self) -> None:
        calls: list[tuple[Mail, int]] = []
        self.successResultOf(self.deliver(lambda *call: calls.append(call)))
        self.assertEqual(calls, [(self.mail, 3)])

    def test_deferred_is_waited_for(self) -> None:
        result: Deferred[None] = Deferred()
        delivered = self.deliver(lambda mail, attempt: result)
        self.assertNoResult(delivered)
        result.callback(None)
        self.successResultOf(delivered)
        self.successResultOf(self.deliver(lambda mail, attempt: succeed(False)))

    def test_coroutine_is_waited_for(self) -> None:
        waiting: Deferred[None] = Deferred()

        async def function(mail: Mail, attempt: int) -> None:
            await waiting

        delivered = self.deliver(function)
        self.assertNoResult(delivered)
        waiting.callback(None)
        self.successResultOf(delivered)

    def test_result_that_cannot_be_waited_for_is_a_refusal(self) -> None:
        class Task:
            def __await__(self) -> Iterator[None]:
                yield None

        delivered = self.deliver(lambda mail, attempt: Task())
        error: Any = self.failureResultOf(delivered, Later).value
        self.assertIn("return a Deferred or a coroutine", str(error))
        self.assertTrue(error.counts)

    def test_later_and_never_are_passed_on(self) -> None:
        for error in (Later(30, "busy"), Never("not wanted")):

            def function(mail: Mail, attempt: int) -> None:
                raise error  # noqa: B023

            async def coroutine(mail: Mail, attempt: int) -> None:
                raise error  # noqa: B023

            for each in (function, coroutine):
                failure = self.failureResultOf(self.deliver(each))
                self.assertIs(failure.value, error)

    def test_any_other_exception_counts_as_a_refusal(self) -> None:
        def function(mail: Mail, attempt: int) -> None:
            raise KeyError("name")

        error: Any = self.failureResultOf(self.deliver(function), Later).value
        self.assertTrue(error.counts)
        self.assertFalse(error.whole_destination)
        self.assertIn("KeyError: 'name'", error.reason)
        self.assertIsInstance(error.__cause__, KeyError)

    def test_function_that_takes_too_long_is_cancelled(self) -> None:
        cancelled: list[object] = []
        result: Deferred[None] = Deferred(cancelled.append)
        delivered = self.deliver(lambda mail, attempt: result)
        self.clock.advance(9)
        self.assertEqual(cancelled, [])
        self.clock.advance(1)
        self.assertEqual(cancelled, [result])
        error: Any = self.failureResultOf(delivered, Later).value
        self.assertIn("longer than 10 seconds", error.reason)
        self.assertFalse(error.counts)

    def test_function_that_goes_on_after_its_cancellation_delays_nothing(self) -> None:
        waiting: Deferred[None] = Deferred()

        async def function(mail: Mail, attempt: int) -> None:
            try:
                await Deferred()
            except CancelledError:
                await waiting
            raise ValueError("nobody hears this")

        delivered = self.deliver(function)
        self.clock.advance(10)
        self.assertNoResult(delivered)
        self.clock.advance(5)
        self.failureResultOf(delivered, Later)
        waiting.callback(None)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_message_delivered_while_it_is_cancelled_is_delivered(self) -> None:
        async def function(mail: Mail, attempt: int) -> None:
            try:
                await Deferred()
            except CancelledError:
                return

        delivered = self.deliver(function)
        self.clock.advance(10)
        self.successResultOf(delivered)

    def test_cancelling_cancels_the_deferred_of_the_function(self) -> None:
        result: Deferred[None] = Deferred()
        delivered = self.deliver(lambda mail, attempt: result)
        delivered.cancel()
        self.failureResultOf(delivered, CancelledError)
        self.assertTrue(result.called)

    def test_function_is_found_by_module_and_name(self) -> None:
        found = find_function("pop3connect.destinations.function:find_function")
        self.assertIs(found, find_function)

    def test_function_that_does_not_exist_is_a_usage_error(self) -> None:
        for name, why in (
            ("pop3connect.destinations.function:missing", "cannot be imported"),
            ("no_such_module:function", "cannot be imported"),
            ("pop3connect.destinations.function:__all__", "cannot be called"),
        ):
            error = self.assertRaises(UsageError, find_function, name)
            self.assertIn(name, str(error))
            self.assertIn(why, str(error))

    def test_module_that_ends_the_process_is_a_usage_error(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "script_that_ends.py").write_text("raise SystemExit(3)\n")
        self.patch(sys, "path", [str(folder), *sys.path])
        error = self.assertRaises(UsageError, find_function, "script_that_ends:main")
        self.assertIn("cannot be imported: SystemExit: 3", str(error))

    def test_message_is_a_value_that_can_be_changed_in_a_copy(self) -> None:
        self.assertEqual(attrs.evolve(self.mail, attempt=4).attempt, 4)
