"""The one limit of time that runs while the server owes something."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pop3connect.client.deadline import Deadline


class Collecting(Clock):
    """
    A clock that calls something just when a delayed call was cancelled, or is due.
    """

    def __init__(self, collect: Callable[[], object], way: str) -> None:
        super().__init__()
        self.collected = False
        self._collect = collect
        self._way = way

    def collect(self) -> None:
        if not self.collected:
            self.collected = True
            self._collect()

    def callLater(
        self, when: float, what: Callable[..., Any], *args: Any, **kw: Any
    ) -> IDelayedCall:
        def due() -> None:
            if self._way == "due":
                self.collect()
            what(*args, **kw)

        call: Any = super().callLater(when, due)
        cancel = call.cancel

        def cancelled() -> None:
            cancel()
            if self._way == "paused":
                self.collect()

        call.cancel = cancelled
        return call  # type: ignore[no-any-return]


class DeadlineTests(SynchronousTestCase):
    """`Deadline`"""

    def setUp(self) -> None:
        self.clock = Clock()
        # Not from zero: a clock's beginning is no special time.
        self.clock.advance(1000)
        self.expired: list[tuple[str, float]] = []
        self.limit = Deadline(
            self.clock, lambda phase, seconds: self.expired.append((phase, seconds))
        )

    def test_limit_expires_on_time_and_reports_its_phase(self) -> None:
        self.limit.start("greeting", 60)
        self.clock.advance(59.9)
        self.assertEqual(self.expired, [])
        self.clock.advance(0.1)
        self.assertEqual(self.expired, [("greeting", 60)])

    def test_limit_expires_only_once(self) -> None:
        self.limit.start("reply", 60)
        self.clock.pump([60, 60, 60])
        self.assertEqual(self.expired, [("reply", 60)])
        self.assertFalse(self.limit.running)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_progress_restarts_the_full_time(self) -> None:
        self.limit.start("reply", 60)
        for _ in range(10):
            self.clock.advance(59)
            self.limit.progress()
        self.assertEqual(self.expired, [])
        self.clock.advance(59.9)
        self.assertEqual(self.expired, [])
        self.clock.advance(0.1)
        self.assertEqual(self.expired, [("reply", 60)])

    def test_time_is_measured_from_progress_not_from_timer_check(self) -> None:
        self.limit.start("reply", 60)
        self.clock.advance(10)
        self.limit.progress()
        self.clock.advance(50)
        self.clock.advance(9.9)
        self.assertEqual(self.expired, [])
        self.clock.advance(0.1)
        self.assertEqual(self.expired, [("reply", 60)])

    def test_progress_does_not_create_or_move_delayed_calls(self) -> None:
        self.limit.start("reply", 60)
        (call,) = self.clock.getDelayedCalls()
        when = call.getTime()
        for _ in range(100):
            self.clock.advance(0.1)
            self.limit.progress()
        self.assertEqual(self.clock.getDelayedCalls(), [call])
        self.assertEqual(call.getTime(), when)

    def test_stopped_limit_does_not_expire_and_leaves_no_delayed_call(self) -> None:
        self.limit.start("reply", 60)
        self.limit.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.clock.advance(1000)
        self.assertEqual(self.expired, [])

    def test_limit_stopped_after_progress_does_not_expire(self) -> None:
        self.limit.start("reply", 60)
        self.clock.advance(30)
        self.limit.progress()
        self.clock.advance(31)
        self.assertTrue(self.limit.running)
        self.limit.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.clock.advance(1000)
        self.assertEqual(self.expired, [])

    def test_stopping_a_limit_that_is_not_running_has_no_effect(self) -> None:
        self.limit.stop()
        self.limit.start("reply", 60)
        self.limit.stop()
        self.limit.stop()
        self.assertFalse(self.limit.running)

    def test_progress_does_not_start_a_limit_that_is_not_running(self) -> None:
        self.limit.progress()
        self.assertFalse(self.limit.running)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_restarting_replaces_phase_and_time(self) -> None:
        self.limit.start("TLS handshake", 30)
        self.clock.advance(29)
        self.limit.start("greeting", 60)
        self.assertEqual((self.limit.phase, self.limit.seconds), ("greeting", 60))
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(59.9)
        self.assertEqual(self.expired, [])
        self.clock.advance(0.1)
        self.assertEqual(self.expired, [("greeting", 60)])

    def test_running_is_true_only_between_start_and_stop(self) -> None:
        self.assertFalse(self.limit.running)
        self.limit.start("reply", 60)
        self.assertTrue(self.limit.running)
        self.limit.stop()
        self.assertFalse(self.limit.running)

    def test_resting_limit_is_not_running_and_does_not_expire(self) -> None:
        self.limit.start("reply", 60)
        self.limit.rest()
        self.assertFalse(self.limit.running)
        self.assertTrue(self.limit.resting)
        self.clock.advance(60)
        self.assertFalse(self.limit.resting)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.clock.advance(1000)
        self.assertEqual(self.expired, [])

    def test_limit_started_after_a_rest_keeps_its_delayed_call(self) -> None:
        self.limit.start("reply", 60)
        (call,) = self.clock.getDelayedCalls()
        for _ in range(3):
            self.clock.advance(15)
            self.limit.rest()
            self.limit.start("reply", 60)
            self.assertTrue(self.limit.running)
        self.assertEqual(self.clock.getDelayedCalls(), [call])
        self.clock.advance(59.9)
        self.assertEqual(self.expired, [])
        self.clock.advance(0.1)
        self.assertEqual(self.expired, [("reply", 60)])

    def test_shorter_limit_after_a_rest_expires_on_time(self) -> None:
        self.limit.start("reply", 60)
        self.limit.rest()
        self.limit.start("TLS handshake", 30)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(30)
        self.assertEqual(self.expired, [("TLS handshake", 30)])

    def test_stop_after_a_rest_leaves_no_delayed_call(self) -> None:
        self.limit.start("reply", 60)
        self.limit.rest()
        self.limit.stop()
        self.assertFalse(self.limit.resting)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_resting_limit_cannot_be_paused(self) -> None:
        self.limit.start("reply", 60)
        self.limit.rest()
        self.limit.pause()
        self.limit.resume()
        self.assertFalse(self.limit.running)

    def test_rest_ends_a_pause(self) -> None:
        self.limit.start("reply", 60)
        self.limit.pause()
        self.limit.rest()
        self.assertFalse(self.limit.running)
        self.limit.resume()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_limit_can_be_restarted_in_its_own_callback(self) -> None:
        def expired(phase: str, seconds: float) -> None:
            self.expired.append((phase, seconds))
            self.assertFalse(limit.running)
            if len(self.expired) < 2:
                limit.start("next", 10)

        limit = Deadline(self.clock, expired)
        limit.start("first", 5)
        self.clock.pump([5, 10, 10])
        self.assertEqual(self.expired, [("first", 5), ("next", 10)])

    def test_limit_can_be_stopped_while_it_is_paused_or_due(self) -> None:
        """
        The garbage collector closes coroutines, and one of them may end the session.
        """
        for way in ("paused", "due"):
            limit: Deadline
            clock = Collecting(lambda: limit.stop(), way)  # noqa: B023
            limit = Deadline(clock, lambda phase, seconds: None)
            limit.start("reply", 60)
            if way == "paused":
                limit.pause()
            else:
                clock.advance(60)
            self.assertTrue(clock.collected)
            self.assertFalse(limit.running)
            self.assertEqual(clock.getDelayedCalls(), [])

    def test_late_clock_expires_limit_once(self) -> None:
        self.limit.start("reply", 60)
        self.clock.advance(100_000)
        self.assertEqual(self.expired, [("reply", 60)])

    def test_paused_limit_has_no_delayed_call_and_does_not_expire(self) -> None:
        self.limit.start("reply", 60)
        self.limit.pause()
        self.assertTrue(self.limit.running)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.clock.advance(100_000)
        self.assertEqual(self.expired, [])

    def test_resumed_limit_has_the_remainder_of_its_time(self) -> None:
        for elapsed in (0, 1, 30, 59.5):
            self.expired.clear()
            self.limit.start("reply", 60)
            self.clock.advance(elapsed)
            self.limit.pause()
            self.clock.advance(1000)
            self.limit.resume()
            self.clock.advance(60 - elapsed - 0.25)
            self.assertEqual(self.expired, [])
            self.clock.advance(0.25)
            self.assertEqual(self.expired, [("reply", 60)])

    def test_pausing_again_and_again_does_not_renew_the_time(self) -> None:
        """61 seconds of the server's time, however often the consumer pauses."""
        self.limit.start("reply", 60)
        for _ in range(60):
            self.clock.advance(1)
            self.limit.pause()
            self.clock.advance(5)
            self.limit.resume()
        self.clock.advance(1)
        self.assertEqual(self.expired, [("reply", 60)])

    def test_progress_before_the_pause_counts(self) -> None:
        self.limit.start("reply", 60)
        self.clock.advance(50)
        self.limit.progress()
        self.clock.advance(20)
        self.limit.pause()
        self.clock.advance(1000)
        self.limit.resume()
        self.clock.advance(39.5)
        self.assertEqual(self.expired, [])
        self.clock.advance(0.5)
        self.assertEqual(self.expired, [("reply", 60)])

    def test_progress_during_the_pause_restarts_the_full_time(self) -> None:
        """What had arrived before the transport paused is still read."""
        self.limit.start("reply", 60)
        self.clock.advance(50)
        self.limit.pause()
        self.limit.progress()
        self.clock.advance(1000)
        self.limit.resume()
        self.clock.advance(59.5)
        self.assertEqual(self.expired, [])
        self.clock.advance(0.5)
        self.assertEqual(self.expired, [("reply", 60)])

    def test_progress_after_the_pause_restarts_the_full_time(self) -> None:
        self.limit.start("reply", 60)
        self.clock.advance(50)
        self.limit.pause()
        self.limit.resume()
        self.clock.advance(5)
        self.limit.progress()
        self.clock.advance(59.5)
        self.assertEqual(self.expired, [])
        self.clock.advance(0.5)
        self.assertEqual(self.expired, [("reply", 60)])

    def test_pausing_or_resuming_twice_has_no_further_effect(self) -> None:
        self.limit.start("reply", 60)
        self.clock.advance(50)
        self.limit.pause()
        self.clock.advance(100)
        self.limit.pause()
        self.limit.resume()
        self.limit.resume()
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(10)
        self.assertEqual(self.expired, [("reply", 60)])

    def test_pausing_or_resuming_a_limit_that_is_not_running_has_no_effect(
        self,
    ) -> None:
        self.limit.pause()
        self.limit.resume()
        self.assertFalse(self.limit.running)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stopped_while_paused_it_cannot_be_resumed(self) -> None:
        self.limit.start("reply", 60)
        self.limit.pause()
        self.limit.stop()
        self.assertFalse(self.limit.running)
        self.limit.resume()
        self.assertFalse(self.limit.running)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_starting_while_paused_starts_the_clock(self) -> None:
        self.limit.start("reply", 60)
        self.clock.advance(50)
        self.limit.pause()
        self.limit.start("reply", 10)
        self.clock.advance(10)
        self.assertEqual(self.expired, [("reply", 10)])

    def test_overdue_when_paused_it_expires_when_resumed(self) -> None:
        """The clock was late: nothing of the time is left, and none is added."""
        late = Clock()
        limit = Deadline(
            late, lambda phase, seconds: self.expired.append((phase, seconds))
        )
        limit.start("reply", 60)
        late.rightNow += 100
        limit.pause()
        limit.resume()
        self.assertEqual(self.expired, [])
        late.advance(0)
        self.assertEqual(self.expired, [("reply", 60)])
