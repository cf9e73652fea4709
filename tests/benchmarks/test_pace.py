"""
The time of a section, and a run that is cut off.
"""

from __future__ import annotations

import signal
import subprocess
import sys

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from benchmarks.helpers import CHECKOUT
from benchmarks.pace import Pace, duration


class PaceTests(SynchronousTestCase):
    """A clock that the test moves."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.said: list[str] = []
        self.patch(sys.modules["benchmarks.pace"], "say", self.said.append)

    def pace(self, seconds: float, rounds: int) -> Pace:
        return Pace("section", seconds, rounds, self.clock.seconds)

    def make(self, pace: Pace, seconds: float, most: int | None = None) -> int:
        """Make rounds of so many seconds; return how many there were."""
        count = 0
        for _ in pace.rounds("part", most):
            self.clock.advance(seconds)
            count += 1
        return count

    def test_rounds_that_fit_are_all_made(self) -> None:
        self.assertEqual(self.make(self.pace(100, 5), 1), 5)

    def test_rounds_that_do_not_fit_are_left_out(self) -> None:
        self.assertEqual(self.make(self.pace(100, 5), 30), 3)

    def test_first_round_is_made_in_any_case(self) -> None:
        self.assertEqual(self.make(self.pace(1, 5), 30), 1)

    def test_each_part_has_its_share_of_the_time(self) -> None:
        pace = self.pace(100, 5)
        pace.expect(2)
        self.assertEqual(self.make(pace, 20), 2)
        self.assertEqual(self.make(pace, 20), 3)
        self.assertEqual(pace.made, [2, 3])

    def test_part_with_fewer_rounds_makes_no_more(self) -> None:
        self.assertEqual(self.make(self.pace(100, 5), 1, most=3), 3)

    def test_runs_after_the_end_are_left_out_and_named(self) -> None:
        pace = self.pace(10, 1)
        self.assertTrue(pace.has_time("first"))
        self.clock.advance(10)
        self.assertFalse(pace.has_time("second"))
        self.assertEqual(pace.left_out, ["section: second"])

    def test_progress_names_the_time_left(self) -> None:
        pace = self.pace(400, 1)
        pace.expect(3)
        self.make(pace, 20)
        self.make(pace, 20)
        self.assertEqual(
            self.said,
            [
                "section: part, round 1 of 1; about 7 min left",
                "section: part, round 1 of 1; about 40 s left",
            ],
        )

    def test_duration_is_in_seconds_below_a_hundred(self) -> None:
        self.assertEqual((duration(99), duration(100)), ("99 s", "2 min"))


class CutOffTests(SynchronousTestCase):
    """The real command."""

    timeout = 120

    def test_sigterm_prints_what_was_measured(self) -> None:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks", "imports", "--rounds", "50"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=CHECKOUT,
        )
        assert process.stderr is not None
        for line in process.stderr:
            if "round 2 of" in line:
                break
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130)
        self.assertIn("The run was cut off before its end.", output)
        self.assertIn("Medians of 1 round(s)", output)
        self.assertIn("Import time", output)
        self.assertIn("the interpreter alone", output)
