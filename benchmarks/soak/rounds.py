"""The rounds: all sessions open, all at work, all gone, and a count of what is left."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred, DeferredSemaphore, gatherResults
from twisted.internet.task import deferLater

from benchmarks.helpers import Helper
from benchmarks.soak import mail
from benchmarks.soak.census import Census, count, growth, leaks
from benchmarks.soak.visit import Place, Plan, Visit
from pop3connect import Secure

BURST = 16
"""Sessions that are being opened at once: fewer than the server's backlog of 50, and so
few that none with a short time limit waits long for its turn."""

SETTLED = 100  # looks, so many turns of 50 ms: until the server has seen all closes
_LOOK = 0.05

NO_FAULT = "none"


class HungError(Exception):
    """It did not come to an end."""


def limited(clock: Any, seconds: float, running: Deferred[Any]) -> Deferred[Any]:
    """Wait so long at the most, even for what goes on when it is cancelled."""
    outcome: Deferred[Any] = Deferred()

    def hung() -> None:
        outcome.errback(HungError(f"hung for {seconds:g} seconds"))
        running.cancel()

    def over(result: Any) -> None:
        if timer.active():
            timer.cancel()
            outcome.callback(result)

    timer = clock.callLater(seconds, hung)
    running.addBoth(over)
    return outcome


@dataclass
class Round:
    """What one round brought.

    *outcomes* counts the sessions by their fault, and whether each did as it must.
    """

    open_at_once: int = 0
    seconds: float = 0.0
    messages: int = 0
    outcomes: Counter[tuple[str, bool]] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)
    census: Census | None = None


class Soak:
    """One server, and the rounds against it; session after session takes each way."""

    def __init__(
        self, reactor: Any, server: Helper, place: Place, plan: Plan, *ways: Secure
    ) -> None:
        """Nothing is open yet."""
        self._reactor, self._server = reactor, server
        self._place, self._plan, self._ways = place, plan, ways
        self._facts = [mail.facts(n, plan.messages) for n in range(plan.sessions)]
        self.complaints: list[str] = []

    async def run(self) -> list[Round]:
        """All rounds; what does not belong to one of them is in *complaints*."""
        # What is made once and kept, such as the TLS context of each connector, is made
        # before the baseline; twice, for a TLS session is kept by the first and used by
        # the next.
        for _ in range(2):
            warm = await self._round(range(self._plan.sessions))
            self.complaints += warm.complaints
        baseline, beyond = await self._count(), self._server.stats()
        rounds = []
        for _ in range(self._plan.rounds):
            one = await self._round(range(self._plan.sessions))
            one.census = await self._count()
            one.complaints += leaks(baseline, one.census)
            one.complaints += self._left_there(beyond)
            rounds.append(one)
        counts = [each.census for each in rounds if each.census]
        self.complaints += growth(counts, self._plan.sessions)
        return rounds

    async def _count(self) -> Census:
        # In a turn of its own, when nothing of the last round is on the stack.
        await deferLater(self._reactor, 0)
        return count(self._reactor)

    def _left_there(self, baseline: dict[str, int]) -> list[str]:
        """What has grown in the server, which is the library's own as well."""
        now = self._server.stats()
        return [
            f"the server has {now[what]} {what}, and {baseline[what]} in the beginning"
            for what in ("files", "calls", "connections", "mailboxes")
            if now[what] != baseline[what]
        ]

    async def _round(self, accounts: Sequence[int]) -> Round:
        began, before = time.perf_counter(), self._server.stats()["committed"]
        result = Round()
        visits = [Visit(self._plan, n, self._facts[n]) for n in accounts]
        burst = DeferredSemaphore(BURST)
        opened = await gatherResults(
            [burst.run(self._limited, self._open, v, result) for v in visits]
        )
        # The barrier: nobody works before all are logged in.
        result.open_at_once = self._server.stats()["mailboxes"]
        await gatherResults(
            [
                self._limited(Visit.work, visit, result)
                for visit, ready in zip(visits, opened, strict=True)
                if ready
            ]
        )
        result.seconds = time.perf_counter() - began
        result.messages = sum(visit.checked for visit in visits)
        committed = sum(visit.committed for visit in visits)
        await self._settle(result, before + committed)
        return result

    def _limited(self, step: Any, visit: Visit, result: Round) -> Deferred[bool]:
        running = Deferred.fromCoroutine(step(visit))
        return (
            limited(self._reactor, self._plan.limit, running)
            .addCallback(self._judge, visit, result)
            .addErrback(self._failed, visit, result)
        )

    async def _open(self, visit: Visit) -> str | None:
        way = self._ways[visit.account % len(self._ways)]
        await visit.open(self._reactor, self._place, way)
        return None

    def _judge(self, wrong: str | None, visit: Visit, result: Round) -> bool:
        """Note the outcome, which is None for a session that is only open yet."""
        if wrong is not None:
            self._note(wrong, visit, result)
        return True

    def _failed(self, failure: Any, visit: Visit, result: Round) -> bool:
        self._note(repr(failure.value), visit, result)
        visit.give_up()
        return False

    def _note(self, wrong: str, visit: Visit, result: Round) -> None:
        name = NO_FAULT if visit.fault is None else visit.fault.name
        result.outcomes[name, not wrong] += 1
        if wrong:
            result.complaints.append(f"account {visit.account} ({name}): {wrong}")

    async def _settle(self, result: Round, committed: int) -> None:
        """Wait until the server has no connection left, and compare deletions."""
        for _ in range(SETTLED):
            stats = self._server.stats()
            if not stats["connections"]:
                break
            await deferLater(self._reactor, _LOOK)
        if stats["committed"] != committed:
            result.complaints.append(
                f"the server has deleted {stats['committed']} messages in all, the "
                f"sessions were told of {committed}"
            )
