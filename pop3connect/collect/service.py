"""
The collector as a service: it claims accounts that are due, looks at them, and delivers
their mail; or looks at each account once.

It works without twistd: `CollectService.startService` and `stopService` return
Deferreds, and accounts and destinations may be objects of the program::

    config = Config(state="/var/lib/example", destinations=[...], accounts=[...])
    service = CollectService(config)
    await service.startService()
    ...
    await service.stopService()
"""

from __future__ import annotations

import math
import random
import socket
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import attrs
from twisted.application.service import MultiService
from twisted.internet.defer import (
    Deferred,
    gatherResults,
)
from twisted.logger import Logger
from twisted.python.failure import Failure

from .._version import __version__
from ..destinations.folder import is_full
from ..errors import POP3Error, UsageError
from .accounts import Accounts, Connects
from .claims import Claims
from .database import sqlite_file
from .delivery import Deliveries
from .identity import Inventory
from .journal import (
    DamagedError,
    Journal,
    JournalError,
    LostLeaseError,
    StorageFullError,
)
from .lock import FolderLock, InUseError
from .look import EndedError, Outcome, Plan
from .looks import Looks, Running
from .loops import Loops
from .once import Once
from .places import KnownPlaces
from .schedule import ClockWatch
from .servers import Servers
from .settings import AccountSettings, Config, Connectors
from .spool import Spool
from .tools import Threads, Tools, ended
from .wording import words

__all__ = ["CollectService"]

log = Logger()

CLAIM = 1.0
"""Seconds between two searches for accounts that are due."""

READ = 2.0
"""Seconds between two looks at what administrators wrote."""

SILENCE = 60.0
"""Seconds without a sign of life from a loop, after which the process is ended."""

UPKEEP = 5.0
"""Seconds between two checks of the loops and of the clock."""

GRACE = 8.0
"""Seconds that transfers and deliveries have at the end, before they are cut."""

CUT = 1.5
"""Seconds that they have to notice that."""

LEFT = 0.25
"""Seconds that calls in threads have at the very end, before they are left behind."""

FULL = 60.0
"""Seconds without looks after a full disk."""

KEPT = 30 * 24 * 3600.0
"""Seconds that the rows of an account stay that has left the configuration."""

MINUTE = 60.0

HOUR = 3600.0

DISKS = 4
"""Threads for the spool."""


@attrs.frozen
class _Parts:
    """What there is while the journal is open."""

    tools: Tools
    deliveries: Deliveries
    looks: Looks
    claims: Claims


class CollectService(MultiService):
    """
    The collector.

    :param config: what to do; its accounts may be empty.
    :param reactor: default: the global one.  It needs threads; with a Clock, everything
        blocks, for tests.
    :param destinations: objects of the program, by the names that `AccountSettings.to`
        uses: each has ``async deliver(mail)``, see `pop3connect.destinations`.
    :param died: called with the error when the service cannot go on, such as a damaged
        database.  Default: it is logged, and the service stops.
    :param connector: returns what opens the sessions of an account.  Default: the
        `Connector` that its settings describe.
    :param wall: the time in seconds since 1970.
    :param machine: the name of this machine in the journal.
    :param hook: see `Journal.open`; for crash tests.
    """

    name = "pop3connect collect"

    def __init__(
        self,
        config: Config,
        *,
        reactor: Any = None,
        destinations: Mapping[str, Any] | None = None,
        died: Callable[[BaseException], object] | None = None,
        connector: Callable[[AccountSettings], Connects] | None = None,
        wall: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
        machine: str = "",
        hook: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__()
        if reactor is None:
            # Not at the top: the first import installs a reactor.
            from twisted.internet import reactor
        self._reactor = reactor
        self._config = config
        self._objects = dict(destinations or {})
        self._died = died or self._stop_for
        self._accounts = Accounts(
            reactor, self._objects.keys(), connector or Connectors(reactor)
        )
        self._wall = wall
        self._chance = chance
        self._machine = machine or socket.gethostname()
        self._hook = hook
        self._servers = Servers(wall, chance)
        self._starting: Deferred[None] | None = None
        self._loops = Loops(reactor, self._trouble, self._fail)
        self._seen_at = self._forgotten_at = -math.inf
        self._upkeep_at = -math.inf
        self._stopping = False
        self._fatal = False
        self._full_until = -math.inf
        self._clock = ClockWatch(wall(), reactor.seconds())
        # While it is open.
        self._locks: list[FolderLock] = []
        self._parts: _Parts | None = None

    # -- start and stop

    def startService(self) -> Deferred[None]:
        """
        Open the journal and begin.

        :return: fires when the collector runs.  It fails with `lock.InUseError` if
            another collector uses the state folder, with `JournalError` or `OSError` if
            that cannot be used, and with `UsageError` if a destination cannot.
        """
        super().startService()
        starting = Deferred.fromCoroutine(self._start())
        self._starting = ended(starting)
        return starting

    async def _start(self) -> None:
        await self._open()
        self._loops.begin("claims", CLAIM, self._claims.claim)
        self._loops.begin("leases", self._config.lease / 3, self._looks.renew)
        self._loops.begin("reading", READ, self._read)
        self._loops.begin("upkeep", UPKEEP, self._upkeep)

    async def _open(
        self,
        *,
        deliver: bool = True,
        single: bool = False,
        early: bool = False,
        beside: bool = False,
    ) -> None:
        """
        Open the journal and the spool.

        :param deliver: whether to begin to deliver.
        :param beside: another collector uses the state folder; nothing is written.
        """
        config, reactor = self._config, self._reactor
        threaded = hasattr(reactor, "callFromThread")
        self._accounts.use(config)
        self._stopping = False
        files = Threads(reactor, "collect files", DISKS)
        try:
            file = sqlite_file(config.journal)
            if not beside:
                self._take_locks(config.state, file)
            journal = await Journal.open(
                config.journal,
                reactor if threaded else None,
                self._machine,
                exclusive=not beside and file is not None,
                wall=self._wall,
                hook=self._hook,
            )
        except BaseException:
            files.stop(time.monotonic() + LEFT)
            self._release()
            raise
        spool = Spool(
            config.state / "spool", config.state / "aside", limit=config.spool_limit
        )
        tools = Tools(
            reactor=reactor,
            journal=journal,
            spool=spool,
            machine=self._machine,
            wall=self._wall,
            random=self._chance,
            files=files,
            trusted=self._trusted,
            trouble=self._trouble,
        )
        known = KnownPlaces(config.state / "places")
        deliveries = Deliveries(
            tools,
            config,
            settings=lambda name: self._accounts.settings.get(name),
            account_id=self._accounts.id_of,
            wanted=self._accounts.delivered_late,
            destinations=self._objects,
            known=known,
        )
        looks = Looks(tools, deliveries, self._accounts, self._servers, config)
        claims = Claims(
            tools,
            self._accounts,
            looks,
            self._servers,
            config,
            may_look=self._may_look,
            wake=self._wake,
        )
        self._parts = _Parts(tools, deliveries, looks, claims)
        if beside:
            return
        try:
            await files(known.read)
            await files(spool.open)
            await self._accounts.put(self._config, self._journal)
            named = list(await journal.spool_files())
            await files(spool.sweep, named)
            unknown = await files(spool.unknown, named)
            if unknown:
                log.warn(
                    "{folder} has {count} messages that the journal does not know, "
                    "such as {name}: their accounts were removed, or a crash left "
                    "them; remove those that you do not need",
                    folder=spool.aside,
                    count=len(unknown),
                    name=unknown[0],
                )
            if deliver:
                deliveries.start(
                    self._fail,
                    waiting=await journal.awaited(),
                    single=single,
                    early=early,
                )
        except BaseException:
            await self._close()
            raise

    def _take_locks(self, state: Path, database: Path | None) -> None:
        self._locks.append(FolderLock.take(state))
        if database is not None and database.parent != state.absolute():
            # By its URL, it may be that of another collector.
            self._locks.append(FolderLock.take(database.parent))

    def _release(self) -> None:
        while self._locks:
            self._locks.pop().release()

    async def _close(self) -> None:
        """Close what `_open` has opened."""
        tools, deliveries = self._tools, self._deliveries
        deliveries.stop()
        await deliveries.ended()
        self._parts = None
        try:
            await tools.journal.close()
        finally:
            until = time.monotonic() + LEFT
            if tools.files.stop(until):
                log.error(
                    "{folder}: the disk does not answer; the calls that wait for it "
                    "are left behind",
                    folder=self._config.state,
                )
            deliveries.close(until)
            self._release()

    def stopService(self) -> Deferred[None]:
        """
        Stop: begin no looks; cut off transfers and deliveries after 8 seconds.

        Accounts that wait for a session are given back at once: another machine may
        look at them.

        :return: fires when all is closed.
        """
        # This MultiService has no child services.
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        starting, self._starting = self._starting, None
        if starting is not None:
            await starting
        if self._stopping or self._parts is None:
            return
        self._stopping = True
        self._loops.end()
        self._wake()
        deliveries = self._deliveries
        deliveries.stop()
        self._looks.wind_down()
        ending = gatherResults(
            [
                Deferred.fromCoroutine(self._claims.end()),
                Deferred.fromCoroutine(self._looks.ended()),
                Deferred.fromCoroutine(deliveries.idle()),
            ]
        )
        if not await self._within(ending, GRACE):
            self._looks.end(EndedError("the service is being stopped"))
            deliveries.cut()
            await self._within(ending, CUT)
        await self._close()

    async def _within(self, waited: Deferred[Any], seconds: float) -> bool:
        """Wait for a Deferred, and return whether it fired in time."""
        if waited.called:
            return True
        done: Deferred[bool] = Deferred()

        def fire(in_time: bool) -> None:
            if not done.called:
                done.callback(in_time)

        def end(result: Any) -> Any:
            fire(True)
            return result

        waited.addBoth(end)
        call = self._reactor.callLater(seconds, fire, False)
        in_time = await done
        if call.active():
            call.cancel()
        return in_time

    # -- when something goes wrong

    def _stop_for(self, error: BaseException) -> None:
        self.stopService()

    def _fail(self, error: BaseException) -> None:
        """End the service: it cannot go on."""
        if self._fatal or self._stopping:
            return
        self._fatal = True
        log.critical("the collector ends: {error}", error=words(error))
        self._died(error)

    def _trouble(self, error: BaseException) -> None:
        """Take note of an error of the disk or of the journal."""
        if isinstance(error, DamagedError):
            self._fail(error)
        elif isinstance(error, StorageFullError) or is_full(error):
            self._disk_full(error)
        elif isinstance(error, LostLeaseError):
            # The look reports it.
            pass
        elif isinstance(error, (JournalError, OSError)):
            log.error("{error}", error=words(error), problem=error)
        elif not isinstance(error, POP3Error):
            log.failure("unexpected", Failure(error))

    def _disk_full(self, error: BaseException) -> None:
        now = self._reactor.seconds()
        if now >= self._full_until:
            log.critical(
                "the disk is full: {error}; no looks for {seconds:g} seconds",
                problem=error,
                error=words(error),
                seconds=FULL,
            )
        self._full_until = now + FULL
        if self._parts is not None:
            self._looks.end(EndedError("the disk is full"))

    # -- accounts

    async def add_account(self, account: AccountSettings) -> None:
        """
        Add an account at run time, or change it.

        :raises UsageError: it names a destination that does not exist.
        """
        self._accounts.add(self._config, account)
        await self._put_added(account.name)
        self._wake()

    async def remove_account(self, name: str) -> None:
        """
        Remove an account that was added; its rows stay for 30 days.

        :raises UsageError: no account of this name was added.
        """
        self._accounts.remove(name)
        await self._put_added(name)

    async def _put_added(self, name: str) -> None:
        parts = self._parts
        if parts is not None:
            await self._accounts.put_added(parts.tools.journal, name)
            # The service may have stopped meanwhile.
            await parts.claims.settings_changed()

    async def reload(self, config: Config) -> None:
        """
        Use another configuration from now on.

        Looks in progress finish with the old one.  The state folder, the database and
        the machine stay as they are.

        :raises UsageError: it cannot be used; then nothing has changed.
        :raises JournalError: it could not be noted; likewise.
        """
        if config.state != self._config.state or config.database != (
            self._config.database
        ):
            raise UsageError(
                "state and database cannot be changed while the collector runs; "
                "restart it"
            )
        self._accounts.checked(config)
        parts = self._parts
        if parts is not None:
            await self._accounts.put(config, parts.tools.journal)
        self._accounts.use(config)
        self._config = config
        if parts is not None:
            parts.tools.spool.limit = config.spool_limit
            parts.deliveries.reload(config)
            parts.looks.reload(config)
            parts.claims.reload(config)
            await parts.claims.settings_changed()
            self._wake()

    @property
    def _tools(self) -> Tools:
        assert self._parts is not None
        return self._parts.tools

    @property
    def _deliveries(self) -> Deliveries:
        assert self._parts is not None
        return self._parts.deliveries

    @property
    def _looks(self) -> Looks:
        assert self._parts is not None
        return self._parts.looks

    @property
    def _claims(self) -> Claims:
        assert self._parts is not None
        return self._parts.claims

    @property
    def _journal(self) -> Journal:
        return self._tools.journal

    # -- the loops

    def _may_look(self) -> bool:
        return bool(self._reactor.seconds() >= self._full_until)

    def _wake(self) -> None:
        self._loops.wake("claims")

    async def _read(self) -> None:
        """Read what administrators wrote, and write which looks are wanted."""
        wanted = self._accounts.take_wanted()
        try:
            if wanted:
                await self._journal.look_wanted(wanted)
        except JournalError:
            self._accounts.want_look(*wanted)
            raise
        await self._looks.see_holds()

    async def _upkeep(self) -> None:
        now = self._reactor.seconds()
        late = now - self._upkeep_at > 3 * UPKEEP
        self._upkeep_at = now
        self._clock = self._clock.after(self._wall(), now)
        if not late:
            # Otherwise the whole process stood still; no loop is at fault.
            silent = self._silent(now)
            if silent:
                self._fail(EndedError(f"{silent} has not worked for a minute"))
                return
        if now >= self._seen_at + MINUTE:
            self._seen_at = now
            await self._journal.machine_seen(__version__, len(self._looks.running))
            if self._journal.shared:
                await self._accounts.find_origins(self._journal)
        if now >= self._forgotten_at + HOUR:
            self._forgotten_at = now
            if self._trusted():
                for name in await self._journal.forget_accounts(KEPT):
                    log.info("{account}: its rows were removed", account=name)

    def _silent(self, now: float) -> str:
        """Return which loop shows no sign of life; ``""`` if all do."""
        seen = {f"the loop of {name}": at for name, at in self._loops.seen.items()}
        # How often that loop has work depends on the lease.
        seen["the loop of leases"] += self._config.lease / 3
        seen["the loop of deliveries"] = self._deliveries.oldest_round()
        seen["the database"] = now - self._journal.stalled
        return next((name for name, at in seen.items() if now - at > SILENCE), "")

    def _trusted(self) -> bool:
        return self._clock.trusted

    # -- once

    async def run_once(
        self,
        names: Collection[str] | None = None,
        *,
        progress: Callable[[str, int, int], object] | None = None,
        choose: Callable[[Inventory], Collection[int]] | None = None,
        report: Callable[[Outcome], object] | None = None,
        force: bool = False,
    ) -> dict[str, Outcome]:
        """
        Look at each account now, try each delivery that is due once, and end.

        An account is looked at until a look brings nothing more.  The service need not
        be started.

        :param names: which accounts; ``None``: all.
        :param progress: called with an account's name, the bytes received and the bytes
            expected.
        :param choose: see `Look`: which messages the looks are about.
        :param report: is given the outcome of each look, also if the run is cancelled.
            Default: it is logged.
        :param force: log in even if a login was refused a short time ago, or so often
            that the account needs a person: a person asks for it.  Deliveries that have
            to wait after a refusal are tried as well.
        :return: what was done, by account.  An account that could not be looked at has
            an `Outcome.error`.
        :raises UsageError: an account does not exist.
        :raises POP3Error: as `startService`.
        """
        own = self._parts is None
        if own:
            await self._open(single=True, early=force)
            self._loops.begin("leases", self._config.lease / 3, self._looks.renew)
            self._loops.begin("holds", READ, self._looks.see_holds)
        once = Once(
            self._tools,
            self._deliveries,
            self._accounts,
            self._looks,
            self._config,
            progress=progress,
            choose=choose,
            report=report,
            force=force,
        )
        try:
            return await once.run(self._accounts.chosen(names), finish=own)
        finally:
            # If this is cancelled, looks may still be going on, or be about to begin.
            once.over = True
            if own:
                self._loops.end()
                self._looks.end(EndedError("the run was ended"))
                self._deliveries.stop()
                self._deliveries.cut()
                # One may wait for a disk that does not answer; a program that does not
                # end at once is killed.
                ending = gatherResults(
                    [
                        Deferred.fromCoroutine(self._looks.ended()),
                        Deferred.fromCoroutine(self._deliveries.idle()),
                    ]
                )
                await self._within(ending, CUT)
                await self._close()

    async def plan(self, name: str) -> Plan:
        """
        Return what a look at an account would do: ``look --dry-run``.

        It logs in, lists and reads headers; nothing is retrieved, delivered, deleted or
        noted.
        Another process may be working with the same state folder.

        :raises POP3Error: it cannot be reached.
        """
        own = self._parts is None
        if own:
            try:
                await self._open(deliver=False)
            except InUseError:
                await self._open(beside=True)
        try:
            (name,) = self._accounts.chosen([name])
            rows = await self._journal.accounts([name])
            if not rows:
                raise UsageError(
                    f"the running collector does not know the account {name}; let it "
                    "read its configuration again (SIGHUP)"
                )
            (row,) = rows
            each = Running(row, row.server, self._reactor.seconds())
            outcome = await self._looks.look(
                each, self._accounts.settings[name], limit=None, dry_run=True
            )
            if each.look is None or each.look.plan is None:
                assert outcome.error is not None
                raise outcome.error
            return each.look.plan
        finally:
            if own:
                await self._close()
