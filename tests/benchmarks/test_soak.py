"""
The soak in its smaller form: many sessions at once, a second process, every fault.

The full one is ``python -m benchmarks soak``.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from benchmarks.helpers import Identity
from benchmarks.soak import census, mail
from benchmarks.soak.command import soak, tables
from benchmarks.soak.faults import (
    CANCEL,
    DROP,
    FAULTS,
    REFUSAL,
    STALL,
    TRICKLE,
    Answer,
    Fault,
    fault_of,
    verdict,
)
from benchmarks.soak.rounds import NO_FAULT, HungError, limited
from benchmarks.soak.visit import Plan
from pop3connect import CommandError, ConnectionLostError, Secure, TimedOutError

reactor: Any = global_reactor

LOST = ConnectionLostError("lost")
REFUSED = CommandError("refused")

PLAN = Plan(sessions=60, rounds=2, share=0.4, messages=4, patience=1.2, limit=60)


NO_PROC = None if Path("/proc/self/fd").exists() else "what is open is read in /proc"


class SoakTests(TestCase):
    """Real sessions."""

    skip = NO_PROC
    timeout = 180

    def identity(self) -> Identity:
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        return Identity(folder)

    async def test_sessions_with_every_fault_neither_hang_nor_leak(self) -> None:
        rounds, wrong = await soak(reactor, self.identity(), PLAN, *Secure)
        self.assertEqual(wrong, [])
        expected = Counter(
            fault.name if fault else NO_FAULT
            for fault in (fault_of(account, PLAN.share) for account in range(60))
        )
        self.assertEqual(set(expected), {NO_FAULT, *(fault.name for fault in FAULTS)})
        for each in rounds:
            self.assertEqual(each.open_at_once, PLAN.sessions)
            self.assertEqual(
                each.outcomes,
                {(name, True): number for name, number in expected.items()},
            )
        shown = "\n".join(table.text() for table in tables("title", rounds))
        self.assertIn("half-close  ConnectionLostError", shown)

    async def test_session_over_its_time_limit_is_reported_as_hung(self) -> None:
        """The time limit of a session is its last resort, and it is set too high."""
        stalled = next(n for n in range(100) if fault_of(n, 1) is STALL)
        plan = Plan(stalled + 1, 1, share=1, messages=3, patience=600, limit=1)
        _, wrong = await soak(reactor, self.identity(), plan, Secure.NONE)
        self.assertIn(
            f"account {stalled} (stall): HungError('hung for 1 seconds')", wrong
        )


class VerdictTests(SynchronousTestCase):
    """A session that does not end as it must is noticed."""

    def answers(self, *errors: BaseException | None) -> list[Answer]:
        names = ("STAT", "RETR 1", "RETR 2", "QUIT")
        return [Answer(name, e) for name, e in zip(names, errors, strict=True)]

    def verdict(self, fault: Fault | None, *errors: BaseException | None) -> str:
        return verdict(fault, 2, 2, self.answers(*errors))

    def test_without_fault_or_with_trickle_every_command_must_succeed(self) -> None:
        for fault in (None, TRICKLE):
            self.assertEqual(self.verdict(fault, None, None, None, None), "")
            self.assertIn("lost", self.verdict(fault, None, None, None, LOST))

    def test_wrong_message_is_reported_even_if_a_fault_was_expected(self) -> None:
        answers = self.answers(None, LOST, LOST, LOST)
        answers[0].wrong = "another one"
        self.assertEqual(verdict(DROP, 2, 2, answers), "STAT: another one")

    def test_missing_reply_is_reported(self) -> None:
        answers = self.answers(None, None, None, None)
        del answers[2]
        self.assertIn("RETR 2", verdict(None, 2, 2, answers))

    def test_refusal_fault_must_refuse_the_chosen_message_only(self) -> None:
        self.assertEqual(self.verdict(REFUSAL, None, None, REFUSED, None), "")
        self.assertIn("nothing did", self.verdict(REFUSAL, None, None, None, None))
        self.assertIn("RETR 1", self.verdict(REFUSAL, None, REFUSED, None, None))
        self.assertIn("lost", self.verdict(REFUSAL, None, None, LOST, None))

    def test_drop_or_stall_must_end_the_session_with_the_right_error(self) -> None:
        self.assertEqual(self.verdict(DROP, None, LOST, LOST, LOST), "")
        self.assertIn("nobody noticed", self.verdict(DROP, None, None, None, None))
        self.assertIn("after the end", self.verdict(DROP, None, LOST, None, LOST))
        self.assertIn("not TimedOutError", self.verdict(STALL, None, LOST, LOST, LOST))

    def test_other_error_between_losses_is_reported(self) -> None:
        late = TimedOutError("late", phase="reply", seconds=1)
        self.assertIn("late", self.verdict(DROP, None, LOST, late, LOST))

    def test_cancelled_retr_is_accepted_for_the_cancel_fault_only(self) -> None:
        cancelled = CancelledError()
        self.assertEqual(self.verdict(CANCEL, None, cancelled, LOST, LOST), "")
        self.assertIn("QUIT", self.verdict(CANCEL, None, LOST, LOST, cancelled))
        self.assertIn("RETR 1", self.verdict(DROP, None, cancelled, LOST, LOST))

    def test_faults_strike_the_given_share_of_accounts_in_turn(self) -> None:
        struck = [fault for n in range(100) if (fault := fault_of(n, 0.1))]
        self.assertEqual(struck, list(FAULTS))
        self.assertEqual([fault_of(n, 0) for n in range(100)], [None] * 100)


class CensusTests(SynchronousTestCase):
    """What is left behind is noticed."""

    skip = NO_PROC

    def test_open_file_delayed_call_and_deferred_are_found_as_leaks(self) -> None:
        before = census.count(reactor)
        call = reactor.callLater(60, str)
        held: list[Deferred[None]] = [Deferred()]
        with open(os.devnull):
            found = "\n".join(census.leaks(before, census.count(reactor)))
        call.cancel()
        self.assertIn("open files", found)
        self.assertIn("delayed calls", found)
        self.assertIn("twisted.internet.defer.Deferred", found)
        held.clear()
        self.assertEqual(census.leaks(before, census.count(reactor)), [])

    def test_growth_is_reported_only_beyond_its_bound(self) -> None:
        nothing = census.Census(0, 0, 0, {}, 0, 0, 0)
        for what, (_, always) in census.BOUNDS.items():
            octets = [0, 50, 50, 50 + always]
            rounds = [replace(nothing, **{what: each}) for each in octets]
            self.assertEqual(census.growth(rounds, 10), [])
            rounds[-1] = replace(nothing, **{what: 51 + always})
            self.assertIn(f"({what}) has grown", census.growth(rounds, 10)[0])
            self.assertEqual(census.growth(rounds, 1_000_000), [])

    def test_unattainable_open_file_limit_returns_advice(self) -> None:
        self.assertEqual(census.allow_files(1), "")
        self.assertIn("ulimit", census.allow_files(1 << 40))


class LimitTests(SynchronousTestCase):
    """The limit that makes a hang an outcome."""

    def test_result_in_time_is_returned_and_the_timer_cancelled(self) -> None:
        clock, running = Clock(), Deferred[str]()
        outcome = limited(clock, 5, running)
        running.callback("right")
        self.assertEqual(self.successResultOf(outcome), "right")
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_failure_in_time_is_passed_on(self) -> None:
        running: Deferred[str] = Deferred()
        outcome = limited(Clock(), 5, running)
        running.errback(LOST)
        self.assertIs(self.failureResultOf(outcome).value, LOST)

    def test_uncancellable_deferred_fails_with_hung_error_at_the_limit(self) -> None:
        clock = Clock()
        running: Deferred[str] = Deferred(lambda _: None)
        outcome = limited(clock, 5, running.addErrback(lambda _: Deferred()))
        clock.advance(5)
        self.failureResultOf(outcome, HungError)


class MailTests(SynchronousTestCase):
    """Messages that can't be taken for one another."""

    def test_every_generated_message_has_a_different_digest(self) -> None:
        digests = {fact.digest for n in range(50) for fact in mail.facts(n, 4)}
        self.assertEqual(len(digests), 200)

    def test_message_contains_a_lone_dot_and_ends_with_crlf(self) -> None:
        text = mail.message(7, 1)
        self.assertIn(b"\r\n.\r\n", text)
        self.assertTrue(text.endswith(b"\r\n"))
