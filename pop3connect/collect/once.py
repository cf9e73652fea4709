"""
A run that looks at each account once, whenever it is due.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping

from twisted.internet.defer import Deferred, DeferredSemaphore, gatherResults
from twisted.python.failure import Failure

from .accounts import Accounts
from .delivery import Deliveries
from .inventory import Inventory
from .journal import LostLeaseError
from .look import HeldError, Outcome
from .looks import Looks
from .records import AccountRow, AccountState, MessageState
from .schedule import must_wait
from .settings import Config
from .tools import Tools, ended

__all__ = ["Once"]


class Once:
    """
    One run; see `CollectService.run_once` for the parameters.

    :ivar over: whether it begins no more looks.
    """

    def __init__(
        self,
        tools: Tools,
        deliveries: Deliveries,
        accounts: Accounts,
        looks: Looks,
        config: Config,
        *,
        progress: Callable[[str, int, int], object] | None,
        choose: Callable[[Inventory], Collection[int]] | None,
        report: Callable[[Outcome], object] | None,
        force: bool,
    ) -> None:
        self._tools = tools
        self._deliveries = deliveries
        self._accounts = accounts
        self._looks = looks
        self._config = config
        self._progress = progress
        self._choose = choose
        self._report = report
        self._force = force
        self.over = False

    async def run(self, names: Collection[str], *, finish: bool) -> dict[str, Outcome]:
        """
        Look at accounts, and return what was done.

        :param finish: whether to try each delivery that is due, and to look again at
            accounts whose mail may be deleted then.
        """
        outcomes: dict[str, Outcome] = {}
        before = {name: self._set_aside(name) for name in names}
        await self._all(names, outcomes)
        if finish:
            await self._deliveries.finish()
            # What was delivered only now may be due to be deleted.
            again = [
                name
                for name in self._accounts.take_wanted()
                if name in outcomes and self._accounts.login_wait(name) <= 0
            ]
            if again:
                await self._all(again, outcomes)
        await self._count(outcomes)
        for name, outcome in outcomes.items():
            outcome.aside = self._set_aside(name) - before[name]
        return outcomes

    def _set_aside(self, name: str) -> int:
        number = self._accounts.id_of(name)
        return 0 if number is None else self._deliveries.set_aside(number)

    async def _all(
        self,
        names: Collection[str],
        outcomes: dict[str, Outcome],
    ) -> None:
        """Look at several accounts, as many at a time as is allowed."""
        rows = {row.name: row for row in await self._tools.journal.accounts(names)}
        everywhere = DeferredSemaphore(self._config.sessions)
        servers: defaultdict[str, DeferredSemaphore] = defaultdict(
            lambda: DeferredSemaphore(self._config.sessions_per_server)
        )

        def look(name: str) -> Deferred[None]:
            one = Deferred.fromCoroutine(self._one(rows[name], outcomes))
            return one.addErrback(failed, name)

        def failed(failure: Failure, name: str) -> None:
            assert failure.value is not None
            outcomes.setdefault(name, Outcome(name)).error = failure.value

        looks = [
            # The server first: an account that waits takes no session of others.
            servers[rows[name].server].run(everywhere.run, look, name)
            for name in names
            if name in rows
        ]
        for name in set(names) - rows.keys():
            outcome = outcomes.setdefault(name, Outcome(name))
            outcome.error = outcome.error or LostLeaseError(
                f"the account {name} was removed, or has another name now"
            )
        # Cancelling does not reach the looks: `run_once` ends them in order.
        await ended(gatherResults(looks))

    async def _one(
        self,
        row: AccountRow,
        outcomes: dict[str, Outcome],
    ) -> None:
        name = row.name
        outcome = outcomes.setdefault(name, Outcome(name))
        if self.over:
            return
        # Some may be removed while others are looked at.
        self._accounts.chosen([name])
        settings = self._accounts.settings[name]
        if row.state is AccountState.HELD:
            outcome.error = HeldError(
                f"the account is held; run: pop3connect accounts release {name}",
                server=row.server,
            )
            return
        if row.state is AccountState.PERSON and self._force:
            await self._tools.journal.release([name])
        elif row.state is AccountState.PERSON:
            outcome.error = HeldError(
                "its login was refused too often; when the password is right again, "
                f"run: pop3connect accounts release {name}",
                server=row.server,
            )
            return
        wait = must_wait(row, self._tools.journal.now())
        if wait > 0 and not row.look_wanted and not self._force:
            outcome.error = HeldError(
                f"the next login is allowed in {wait:.0f} seconds"
                + (f" ({row.error})" if row.refusals and row.error else ""),
                server=row.server,
            )
            return
        room = math.inf if settings.max_messages is None else settings.max_messages
        while True:
            claimed = await self._tools.journal.claim_now(name, self._config.lease)
            if claimed is None or name in self._looks.running:
                outcome.error = outcome.error or HeldError(
                    "another look at the account is going on", server=row.server
                )
                return
            each = self._looks.claimed(claimed, str(settings.address))
            each.done = Deferred()
            if self._force or row.look_wanted:
                self._accounts.memory(name).dirty = True
            try:
                one = await self._looks.look(
                    each,
                    settings,
                    limit=room,
                    progress=self._progress,
                    choose=self._choose,
                    report=self._report,
                )
            finally:
                self._looks.over(each)
            outcome.add(one)
            room -= one.new
            more = one.again and one.new and room > 0 and one.error is None
            if not more or self._accounts.login_wait(name) > 0 or self._looks.closing:
                return

    async def _count(self, outcomes: Mapping[str, Outcome]) -> None:
        """Count what waits and what is bad, as it is now."""
        counts = await self._tools.journal.counts()
        for name, outcome in outcomes.items():
            number = self._accounts.id_of(name)
            states = {} if number is None else counts.get(number, {})
            outcome.waiting = states.get(MessageState.RETRIEVED, 0)
            if outcome.before is None:
                # The look has read no rows, because nothing has changed.
                outcome.bad = states.get(MessageState.SUSPECT, 0)
                outcome.bad += states.get(MessageState.SET_ASIDE, 0)
