"""
The looks of this process at the accounts that it has claimed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

import attrs
from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.logger import Logger

from ..errors import POP3Error
from .accounts import Accounts
from .delivery import Deliveries
from .inventory import Inventory
from .journal import LostLeaseError
from .look import EndedError, HeldError, Look, Outcome
from .records import AccountRow, AccountState
from .servers import Servers
from .settings import AccountSettings, Config
from .targets import Target
from .tools import Tools, ended
from .wording import words

__all__ = ["Looks", "Running"]

log = Logger()


@attrs.define
class Running:
    """
    A claimed account.

    :ivar look: the look at it; ``None``: it waits for a session.
    :ivar renewed: when its lease was last prolonged, by the reactor's clock.
    """

    row: AccountRow
    server: str
    renewed: float
    look: Look | None = None
    done: Deferred[Any] | None = None


class Looks:
    """
    The looks of a collector whose journal is open.

    :ivar running: the accounts that are claimed, by name.
    :ivar closing: whether no more looks begin.
    """

    def __init__(
        self,
        tools: Tools,
        deliveries: Deliveries,
        accounts: Accounts,
        servers: Servers,
        config: Config,
    ) -> None:
        self._tools = tools
        self._deliveries = deliveries
        self._accounts = accounts
        self._servers = servers
        self._config = config
        # Accounts whose Maildirs were searched for what a crash left, those where
        # something was found, and those where it was removed.
        self._searched: set[str] = set()
        self._littered: set[str] = set()
        self._swept: set[str] = set()
        # One search at a time for each name of a destination: its file system may not
        # answer, and its threads are for mail.
        self._searches: defaultdict[str, DeferredSemaphore] = defaultdict(
            lambda: DeferredSemaphore(1)
        )
        self.running: dict[str, Running] = {}
        self.closing = False

    def reload(self, config: Config) -> None:
        """Use another configuration for the looks that begin from now on."""
        self._config = config

    def claimed(self, row: AccountRow, server: str) -> Running:
        """Take note of a claimed account."""
        each = Running(row, server, self._tools.reactor.seconds())
        self.running[row.name] = each
        return each

    def over(self, each: Running) -> None:
        """Take note that a claimed account was given back."""
        self.running.pop(each.row.name, None)
        if each.done is not None:
            each.done.callback(None)

    def wind_down(self) -> None:
        """Begin no more looks, and let the others retrieve no more."""
        self.closing = True
        for each in list(self.running.values()):
            if each.look is not None:
                each.look.wind_down()

    def end(self, error: POP3Error) -> None:
        """End all looks now."""
        for each in list(self.running.values()):
            if each.look is not None:
                each.look.end(error)

    async def ended(self) -> None:
        """Wait until no look goes on."""
        while True:
            waiting = [each.done for each in self.running.values() if each.done]
            if not waiting:
                return
            await ended(waiting[0])

    async def look(
        self,
        each: Running,
        settings: AccountSettings,
        *,
        limit: float | None,
        dry_run: bool = False,
        progress: Callable[[str, int, int], object] | None = None,
        choose: Callable[[Inventory], Collection[int]] | None = None,
        report: Callable[[Outcome], object] | None = None,
    ) -> Outcome:
        """Look at an account; see `Look` for the parameters."""
        look = each.look = Look(
            self._tools,
            self._deliveries,
            each.row,
            settings,
            partial(self._accounts.connect, self._config, each.row.name, settings),
            self._accounts.memory(each.row.name),
            lease=self._config.lease,
            limit=limit,
            dry_run=dry_run,
            progress=progress,
            choose=choose,
            report=report,
            prepare=partial(self._sweep, each.row, settings),
            littered=lambda: each.row.name in self._littered,
        )
        outcome = await look.run()
        if outcome.due:
            self._accounts.want_look(each.row.name)
        self._servers.judge(each.server, outcome)
        return outcome

    def _maildirs(self, settings: AccountSettings) -> list[Target]:
        """Return the destinations of an account that can be swept."""
        try:
            targets = self._deliveries.targets(settings)
        except (POP3Error, OSError):
            # The look says so.
            return []
        return [each for each in targets if hasattr(each.destination, "sweep")]

    def search(self, name: str, settings: AccountSettings) -> None:
        """
        Find out whether a crash left files in the Maildirs of an account, once.

        Nothing waits for the answer.  A look removes them while it holds the account:
        the one that goes on, or the next one.
        """
        if name not in self._searched:
            self._searched.add(name)
            Deferred.fromCoroutine(self._search(name, settings)).addErrback(
                lambda failure: log.failure(
                    "{account}: unexpected", failure, account=name
                )
            )

    async def _search(self, name: str, settings: AccountSettings) -> None:
        for target in self._maildirs(settings):
            await self._searches[target.name].acquire()
            try:
                if name in self._swept or self.closing:
                    return
                found = await target.threads(
                    target.destination.has_leftovers, name, now=self._now()
                )
                if found and name not in self._swept:
                    self._littered.add(name)
            except OSError:
                # What delivers there says so.
                continue
            finally:
                self._searches[target.name].release()

    def _now(self) -> float | None:
        """Return the time; ``None``: the clock cannot be trusted."""
        return self._tools.wall() if self._tools.trusted() else None

    async def _sweep(self, row: AccountRow, settings: AccountSettings) -> None:
        """Remove what a crash left in Maildirs, once."""
        self._littered.discard(row.name)
        if row.name in self._swept:
            return
        self._swept.add(row.name)
        sweeps = [
            partial(target.threads, target.destination.sweep)
            for target in self._maildirs(settings)
        ]
        if not sweeps:
            return
        named = [
            each.witness.path
            for each in await self._tools.journal.deliveries(row)
            if each.witness is not None
        ]
        for sweep in sweeps:
            try:
                await sweep(row.name, named, now=self._now())
            except Exception as error:  # noqa: BLE001 - files may stay
                log.warn("{account}: {error}", account=row.name, error=words(error))

    async def renew(self) -> None:
        """Prolong the leases, and end the looks at accounts whose lease is lost."""
        running = list(self.running.values())
        try:
            if running:
                lost = await self._tools.journal.renew(
                    [each.row for each in running], self._config.lease
                )
                now = self._tools.reactor.seconds()
                for each in running:
                    each.renewed = now
                    if each.row.id in lost and each.look is not None:
                        each.look.end(
                            LostLeaseError(
                                "another process has taken over the account, or it "
                                "was reset",
                                server=each.row.server,
                            )
                        )
        finally:
            late = self._tools.reactor.seconds() - self._config.lease * 2 / 3
            for each in running:
                if each.renewed < late and each.look is not None:
                    each.look.end(
                        EndedError(
                            "the journal did not prolong the lease of the account in "
                            "time",
                            server=each.row.server,
                        )
                    )

    async def see_holds(self) -> None:
        """End the looks at accounts that are held."""
        names = [n for n, each in self.running.items() if each.look is not None]
        if not names:
            return
        for row in await self._tools.journal.accounts(names):
            each = self.running.get(row.name)
            if row.state is AccountState.HELD and each and each.look:
                each.look.end(HeldError("the account is held", server=row.server))
