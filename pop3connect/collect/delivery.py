"""
The deliveries: messages go from the spool to their destinations, with or without
a session, and the looks learn what became of them.

There is a `Courier` for each name of a destination.  A destination whose path or
command contains the name of the account has a `Target` for each account, and one that
is in trouble does not hold up the others.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..destinations.base import Prepared
from ..errors import POP3Error, UsageError
from .courier import Courier
from .journal import Settled
from .places import KnownPlaces
from .records import DeliveryRow, DueDelivery, MessageRow, MessageState
from .rules import Rules
from .settings import AccountSettings, Config
from .targets import Target, make_destination
from .tools import Threads, Tools

__all__ = ["Deliveries", "Watcher"]

log = Logger()

Settings = Callable[[str], "AccountSettings | None"]


class Watcher:
    """
    What becomes of the deliveries of one account while a look waits for them.

    :ivar final: the rows of messages all of whose deliveries are final, by id.
    :ivar stuck: the ids of messages that a destination did not take.
    """

    def __init__(self) -> None:
        self.final: dict[int, MessageRow] = {}
        self.stuck: set[int] = set()
        self._waiting: Deferred[None] | None = None

    def changed(self) -> None:
        """Wake the look."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    def when_changed(self) -> Deferred[None]:
        """Return a Deferred that fires at the next change; there is one at a time."""
        waiting: Deferred[None] = Deferred()
        self._waiting = waiting
        return waiting


class Deliveries:
    """
    The couriers of all destinations.

    :param settings: returns the settings of an account by its name.
    :param account_id: returns its number in the journal.
    :param wanted: called with each message that was delivered after its look, and is to
        be deleted.
    :param destinations: objects of the caller, by name: a `Destination` or `Witnessed`.
    """

    def __init__(
        self,
        tools: Tools,
        config: Config,
        *,
        settings: Settings,
        account_id: Callable[[str], int | None],
        wanted: Callable[[MessageRow], object],
        destinations: Mapping[str, Any],
        known: KnownPlaces,
    ) -> None:
        self.settings = settings
        self.account_id = account_id
        self.single = self.early = False
        self._tools = tools
        self._config = config
        self._wanted = wanted
        self._objects = destinations
        self._known = known
        self._couriers: dict[str, Courier] = {}
        self._running: dict[str, Deferred[None]] | None = None
        self._died: Callable[[BaseException], object] = tools.trouble
        self._watchers: dict[int, Watcher] = {}
        # Messages that a look delivers itself.
        self._underway: set[int] = set()
        self._complaints: dict[str, tuple[str, float]] = {}
        self._set_aside: Counter[int] = Counter()

    # -- life

    def start(
        self,
        died: Callable[[BaseException], object],
        *,
        waiting: Iterable[str] = (),
        single: bool = False,
        early: bool = False,
    ) -> None:
        """
        Begin to deliver.

        :param died: called with the error of a loop that ended.
        :param waiting: the destinations that mail waits for: those that are no longer
            in the configuration are reported.
        :param single: whether each delivery is tried once at most, until `finish`.
        :param early: whether those are tried, too, that have to wait after a refusal.
        """
        self.single, self.early = single, early
        self._running = {}
        self._died = died
        for name in {*self._config.destinations, *self._objects, *waiting}:
            self._courier(name)

    def stop(self) -> None:
        """Begin no more deliveries."""
        for courier in self._couriers.values():
            courier.stop()

    async def idle(self) -> None:
        """Wait until nothing is being delivered."""
        for courier in list(self._couriers.values()):
            await courier.idle()

    def cut(self) -> None:
        """End the deliveries that are underway."""
        for courier in self._couriers.values():
            courier.cut()

    async def ended(self) -> None:
        """Wait until all loops have ended, after `stop`."""
        for loop in list((self._running or {}).values()):
            await loop
        self._running = None

    def close(self, until: float) -> None:
        """
        End the threads.

        :param until: when to wait no longer, by `time.monotonic`.
        """
        while self._couriers:
            self._couriers.popitem()[1].close(until)

    async def finish(self) -> None:
        """Try each delivery that is due and was not tried yet in a single run."""
        for courier in list(self._couriers.values()):
            await courier.finish()

    def reload(self, config: Config) -> None:
        """Use new settings of destinations from now on."""
        self._config = config
        for name, courier in self._couriers.items():
            # An object of the caller stays, and `Witnessed.stop` is final.
            if name not in self._objects:
                courier.forget_targets()
        if self._running is not None:
            for name in config.destinations:
                self._courier(name).wake()

    def oldest_round(self) -> float:
        """Return when the slowest loop made its last round; `math.inf`: none runs."""
        if not self._running:
            return math.inf
        return float(min(self._couriers[name].seen for name in self._running))

    # -- couriers and targets

    def _courier(self, name: str) -> Courier:
        courier = self._couriers.get(name)
        if courier is None:
            courier = Courier(name, self._tools, self, partial(self._make, name))
            self._couriers[name] = courier
        if self._running is not None and name not in self._running:
            loop = Deferred.fromCoroutine(courier.run()).addErrback(self._failed)
            self._running[name] = loop
        return courier

    def _failed(self, failure: Failure) -> None:
        log.failure("a loop of deliveries has failed", failure)
        assert failure.value is not None
        self._died(failure.value)

    def _make(self, name: str, account: AccountSettings, threads: Threads) -> Target:
        found = self._objects.get(name)
        if found is not None:
            return Target(name, found, "", threads)
        settings = self._config.destinations.get(name)
        if settings is None:
            raise UsageError(
                f"there is no [destination.{name}] any more; define it again, "
                "so that it can be delivered"
            )
        destination = make_destination(
            settings,
            account,
            self._config,
            machine=self._tools.machine,
            reactor=self._tools.reactor,
            known=self._known,
        )
        texts = (str(settings.path or ""), *settings.command)
        own = any("{" in text for text in texts)
        return Target(name, destination, account.name if own else "", threads)

    def targets(self, account: AccountSettings) -> list[Target]:
        """
        Return the destinations of an account.

        :raises UsageError: one of them cannot be used.
        """
        return [self._courier(name).target(account) for name in account.to]

    def target(self, name: str, account: AccountSettings) -> Target | None:
        """
        Return a destination that mail of an account waits for.

        :return: ``None``: it cannot be used, so that the mail goes on waiting.
        """
        try:
            return self._courier(name).target(account)
        except (POP3Error, OSError):
            # Its courier says so.
            return None

    def wake(self, account: AccountSettings) -> None:
        """Deliver what was just noted."""
        for name in account.to:
            self._courier(name).wake()

    async def carry_out(
        self,
        target: Target,
        prepared: Prepared,
        noted: Sequence[tuple[DueDelivery, DeliveryRow]],
    ) -> None:
        """Deliver messages that a look has prepared itself; see `Courier.carry_out`."""
        courier = self._courier(target.name)
        ids = {due.message.id for due, _ in noted}
        self._underway |= ids
        try:
            await courier.carry_out(target, prepared, noted)
        except BaseException:
            courier.doubt(ids)
            raise
        finally:
            self._underway -= ids

    async def note_place(self, target: Target) -> None:
        """
        Note a Maildir or an mbox that is about to take its first message.

        Before a row names it: after a crash, mail is looked for there.
        """
        destination = target.destination
        path = getattr(destination, "folder", None) or getattr(
            destination, "path", None
        )
        if path is not None and path not in self._known:
            await self._tools.files(self._known.add, path)

    def doubt(self, target: Target, account: int) -> None:
        """
        Find out what became of messages that a look has begun to deliver.

        After an error of the journal, their rows may be there nevertheless.
        """
        self._courier(target.name).doubt_account(account)

    def is_underway(self, message: int) -> bool:
        """Return whether a look is delivering a message itself."""
        return message in self._underway

    def in_trouble(self, target: Target, error: Exception) -> None:
        """Let a destination wait that a look could not use."""
        self._courier(target.name).in_trouble(target, error, [])

    # -- what becomes of messages

    def watch(self, account: int) -> Watcher:
        """Return the record of what becomes of an account's messages during a look."""
        watcher = self._watchers[account] = Watcher()
        return watcher

    def unwatch(self, account: int) -> None:
        """End the record of an account."""
        self._watchers.pop(account, None)

    def stuck(self, dues: Iterable[DueDelivery]) -> None:
        """Tell the looks that messages have to wait."""
        changed = set()
        for due in dues:
            watcher = self._watchers.get(due.message.account_id)
            if watcher is not None:
                watcher.stuck.add(due.message.id)
                changed.add(watcher)
        for watcher in changed:
            watcher.changed()

    def delete_waits(self, dues: Iterable[DueDelivery]) -> dict[int, float | None]:
        """
        Return after how many seconds messages may be deleted, by their ids.

        ``None``: never.
        """
        by_account: dict[str, float | None] = {}
        waits: dict[int, float | None] = {}
        for due in dues:
            name, number = due.account, due.message.id
            if name not in by_account:
                settings = self.settings(name)
                rules = None if settings is None else Rules.of(settings)
                by_account[name] = None if rules is None else rules.delete_after(0.0)
            waits[number] = by_account[name] if due.message.whole else None
        return waits

    async def settled(self, settled: Settled) -> None:
        """Pass on what the journal has noted, and remove files that are not needed."""
        changed = set()
        for message in settled.messages:
            if message.state is MessageState.SET_ASIDE:
                self._set_aside[message.account_id] += 1
            watcher = self._watchers.get(message.account_id)
            if watcher is not None:
                watcher.final[message.id] = message
                changed.add(watcher)
            elif message.delete_after is not None:
                self._wanted(message)
        if settled.forgotten:
            try:
                await self._tools.files(self._tools.spool.remove, settled.forgotten)
            except OSError as error:
                # The next start removes them.
                self._tools.trouble(error)
        for watcher in changed:
            watcher.changed()

    def set_aside(self, account: int) -> int:
        """Return how many messages of an account were given up since the start."""
        return self._set_aside[account]

    def complain(self, name: str, text: str) -> None:
        """Log an error of a destination, the same one once an hour."""
        last = self._complaints.get(name)
        now = self._tools.reactor.seconds()
        if last is None or last[0] != text or now - last[1] > 3600:
            self._complaints[name] = (text, now)
            log.error("{name}: mail waits: {text}", name=name, text=text)
