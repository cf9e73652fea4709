"""The one limit of time that runs while the server owes something."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pop3connect.client.deadline import Limit


class LimitTests(SynchronousTestCase):
    """`Limit`"""

    def setUp(self) -> None:
        self.clock = Clock()
        # Not from zero: a clock's beginning is no special time.
        self.clock.advance(1000)
        self.expired: list[tuple[str, float]] = []
        self.limit = Limit(
            self.clock, lambda phase, seconds: self.expired.append((phase, seconds))
        )

    def test_it_expires_after_its_time_and_says_what_was_owed(self) -> None:
        self.limit.start("greeting", 60)
        self.clock.advance(59.9)
        self.assertEqual(self.expired, [])
        self.clock.advance(0.1)
        self.assertEqual(self.expired, [("greeting", 60)])

    def test_it_expires_once(self) -> None:
        self.limit.start("reply", 60)
        self.clock.pump([60, 60, 60])
        self.assertEqual(self.expired, [("reply", 60)])
        self.assertFalse(self.limit.running)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_progress_gives_the_whole_time_again(self) -> None:
        self.limit.start("reply", 60)
        for _ in range(10):
            self.clock.advance(59)
            self.limit.progress()
        self.assertEqual(self.expired, [])
        self.clock.advance(59.9)
        self.assertEqual(self.expired, [])
        self.clock.advance(0.1)
        self.assertEqual(self.expired, [("reply", 60)])

    def test_progress_is_counted_from_its_time_and_not_from_a_look_at_it(self) -> None:
        self.limit.start("reply", 60)
        self.clock.advance(10)
        self.limit.progress()
        self.clock.advance(50)
        self.clock.advance(9.9)
        self.assertEqual(self.expired, [])
        self.clock.advance(0.1)
        self.assertEqual(self.expired, [("reply", 60)])

    def test_progress_costs_no_delayed_call(self) -> None:
        self.limit.start("reply", 60)
        (call,) = self.clock.getDelayedCalls()
        when = call.getTime()
        for _ in range(100):
            self.clock.advance(0.1)
            self.limit.progress()
        self.assertEqual(self.clock.getDelayedCalls(), [call])
        self.assertEqual(call.getTime(), when)

    def test_stopped_it_does_not_expire_and_leaves_nothing_behind(self) -> None:
        self.limit.start("reply", 60)
        self.limit.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.clock.advance(1000)
        self.assertEqual(self.expired, [])

    def test_stopped_after_progress_it_does_not_expire_either(self) -> None:
        self.limit.start("reply", 60)
        self.clock.advance(30)
        self.limit.progress()
        self.clock.advance(31)
        self.assertTrue(self.limit.running)
        self.limit.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.clock.advance(1000)
        self.assertEqual(self.expired, [])

    def test_stopping_what_does_not_run_is_nothing(self) -> None:
        self.limit.stop()
        self.limit.start("reply", 60)
        self.limit.stop()
        self.limit.stop()
        self.assertFalse(self.limit.running)

    def test_progress_of_what_does_not_run_starts_nothing(self) -> None:
        self.limit.progress()
        self.assertFalse(self.limit.running)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_started_again_it_is_another_limit(self) -> None:
        self.limit.start("TLS handshake", 30)
        self.clock.advance(29)
        self.limit.start("greeting", 60)
        self.assertEqual((self.limit.phase, self.limit.seconds), ("greeting", 60))
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(59.9)
        self.assertEqual(self.expired, [])
        self.clock.advance(0.1)
        self.assertEqual(self.expired, [("greeting", 60)])

    def test_whether_it_runs(self) -> None:
        self.assertFalse(self.limit.running)
        self.limit.start("reply", 60)
        self.assertTrue(self.limit.running)
        self.limit.stop()
        self.assertFalse(self.limit.running)

    def test_it_can_be_started_again_from_within(self) -> None:
        def expired(phase: str, seconds: float) -> None:
            self.expired.append((phase, seconds))
            self.assertFalse(limit.running)
            if len(self.expired) < 2:
                limit.start("next", 10)

        limit = Limit(self.clock, expired)
        limit.start("first", 5)
        self.clock.pump([5, 10, 10])
        self.assertEqual(self.expired, [("first", 5), ("next", 10)])

    def test_a_clock_that_is_late_changes_nothing(self) -> None:
        self.limit.start("reply", 60)
        self.clock.advance(100_000)
        self.assertEqual(self.expired, [("reply", 60)])
