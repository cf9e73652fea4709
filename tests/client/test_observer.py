"""
The one-shot event that any number of callers wait for.
"""

from __future__ import annotations

import gc
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from pop3connect.client.observer import OneShot


class OneShotTests(SynchronousTestCase):
    """`OneShot`"""

    def setUp(self) -> None:
        self.event: OneShot[Any] = OneShot()

    def test_callers_wait_until_it_fires(self) -> None:
        first, second = self.event.when_fired(), self.event.when_fired()
        self.assertIsNot(first, second)
        self.assertNoResult(first)
        self.assertFalse(self.event.fired)
        self.event.fire("now")
        self.assertTrue(self.event.fired)
        self.assertEqual(self.successResultOf(first), "now")
        self.assertEqual(self.successResultOf(second), "now")

    def test_caller_that_asks_afterwards_gets_the_same_at_once(self) -> None:
        for outcome in (None, "now", 0):
            event: OneShot[Any] = OneShot()
            event.fire(outcome)
            self.assertEqual(self.successResultOf(event.when_fired()), outcome)
            self.assertEqual(self.successResultOf(event.when_fired()), outcome)

    def test_only_the_first_outcome_counts(self) -> None:
        self.event.fire("first")
        self.event.fire("second")
        self.event.fire(Failure(ValueError()))
        self.assertEqual(self.successResultOf(self.event.when_fired()), "first")

    def test_callers_are_told_in_the_order_in_which_they_asked(self) -> None:
        told: list[int] = []
        for number in range(3):
            self.event.when_fired().addCallback(lambda _, n=number: told.append(n))
        self.event.fire(None)
        self.assertEqual(told, [0, 1, 2])

    def test_failure_reaches_every_caller(self) -> None:
        before = self.event.when_fired()
        self.event.fire(Failure(ValueError("no")))
        self.failureResultOf(before, ValueError)
        self.failureResultOf(self.event.when_fired(), ValueError)
        self.failureResultOf(self.event.when_fired(), ValueError)

    def test_failure_that_nobody_asks_for_is_not_reported(self) -> None:
        self.event.fire(Failure(ValueError("no")))
        del self.event
        gc.collect()
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_failure_handled_by_one_caller_is_whole_for_the_next(self) -> None:
        """A callback may change its own result, and nobody else's."""
        self.event.fire(Failure(ValueError("no")))
        self.event.when_fired().addErrback(lambda _: "handled")
        self.event.when_fired().addErrback(lambda failure: failure.trap(ValueError))
        self.failureResultOf(self.event.when_fired(), ValueError)

    def test_cancelling_concerns_that_caller_alone(self) -> None:
        first, second = self.event.when_fired(), self.event.when_fired()
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.assertNoResult(second)
        self.event.fire("now")
        self.assertEqual(self.successResultOf(second), "now")

    def test_cancelling_after_it_has_fired_changes_nothing(self) -> None:
        waiting = self.event.when_fired()
        self.event.fire("now")
        waiting.cancel()
        self.assertEqual(self.successResultOf(waiting), "now")

    def test_callback_may_cancel_another_caller(self) -> None:
        """The other one was not told yet, so it has its cancellation."""
        first, second = self.event.when_fired(), self.event.when_fired()
        first.addCallback(lambda _: second.cancel())
        self.event.fire("now")
        self.failureResultOf(second, CancelledError)
        self.successResultOf(first)

    def test_callback_may_ask_again(self) -> None:
        told: list[Any] = []

        def again(value: Any) -> Deferred[Any]:
            self.event.fire("other")
            return self.event.when_fired().addCallback(told.append)

        asking = self.event.when_fired().addCallback(again)
        self.event.fire("now")
        self.successResultOf(asking)
        self.assertEqual(told, ["now"])
