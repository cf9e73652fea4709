"""
Loops: their rounds, and what wakes them.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pop3connect.collect.journal import JournalError
from pop3connect.collect.loops import Loops


class LoopsTests(SynchronousTestCase):
    """One loop, whose rounds end when the test says so."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.rounds: list[Deferred[None]] = []
        self.troubles: list[BaseException] = []
        self.loops = Loops(self.clock, self.troubles.append, self.fail)
        self.addCleanup(self.loops.end)
        self.loops.begin("claims", 10.0, self.work)

    async def work(self) -> None:
        self.rounds.append(Deferred())
        await self.rounds[-1]

    def test_next_round_comes_after_the_wait(self) -> None:
        self.rounds[-1].callback(None)
        self.clock.advance(9)
        self.assertEqual(len(self.rounds), 1)
        self.clock.advance(1)
        self.assertEqual(len(self.rounds), 2)

    def test_loop_that_waits_is_woken(self) -> None:
        self.rounds[-1].callback(None)
        self.loops.wake("claims")
        self.assertEqual(len(self.rounds), 2)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_loop_that_is_woken_while_it_works_goes_on_at_once_and_once(self) -> None:
        self.loops.wake("claims")
        self.loops.wake("claims")
        self.rounds[-1].callback(None)
        self.assertEqual(len(self.rounds), 2)
        self.rounds[-1].callback(None)
        self.assertEqual(len(self.rounds), 2)

    def test_error_of_the_journal_is_told_and_the_loop_goes_on(self) -> None:
        self.rounds[-1].errback(JournalError("no"))
        self.assertEqual(len(self.troubles), 1)
        self.clock.advance(10)
        self.assertEqual(len(self.rounds), 2)

    def test_ended_loop_is_not_woken(self) -> None:
        self.rounds[-1].callback(None)
        self.loops.end()
        self.loops.wake("claims")
        self.clock.advance(100)
        self.assertEqual(len(self.rounds), 1)
