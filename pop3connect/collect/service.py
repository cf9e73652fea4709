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

import errno
import hashlib
import math
import random
import socket
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import attrs
from twisted.application.service import MultiService
from twisted.internet.defer import (
    CancelledError,
    Deferred,
    DeferredSemaphore,
    gatherResults,
)
from twisted.logger import Logger
from twisted.python.failure import Failure

from .._version import __version__
from ..errors import ConnectError, POP3Error, TimedOutError, UsageError
from ..handle import Handle
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
from .look import EndedError, HeldError, Look, Memory, Outcome, Plan
from .passwords import password_for
from .places import KnownPlaces
from .records import (
    AccountRow,
    AccountState,
    MessageRow,
    MessageState,
    NewAccount,
)
from .rules import Rules
from .schedule import ClockWatch, ServerHealth, must_wait
from .settings import AccountSettings, Config, Connectors, Password
from .spool import Spool
from .tools import Threads, Tools, ended, sleep
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

FULL = 60.0
"""Seconds without looks after a full disk."""

KEPT = 30 * 24 * 3600.0
"""Seconds that the rows of an account stay that has left the configuration."""

MINUTE = 60.0

HOUR = 3600.0

DISKS = 4
"""Threads for the spool."""

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)

_PROGRAM = "program"
"""The origin of accounts that a program added."""


@attrs.define
class _Running:
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


class Connects(Protocol):
    """Opens sessions with the server of an account, as a `Connector` does."""

    def connect(
        self, username: str, password: Password, *, authorize_as: str | None
    ) -> Deferred[Handle]:
        """Open a session and log in."""


@attrs.define
class _Single:
    """
    How `CollectService.run_once` looks; see there.

    :ivar over: whether it begins no more looks.
    """

    progress: Callable[[str, int, int], object] | None = None
    choose: Callable[[Inventory], Collection[int]] | None = None
    report: Callable[[Outcome], object] | None = None
    force: bool = False
    over: bool = False


@attrs.define
class _Connection:
    """How an account is reached: made once, and again when its settings change."""

    settings: AccountSettings
    connector: Connects
    password: Password

    def connect(self) -> Deferred[Handle]:
        return self.connector.connect(
            self.settings.user,
            self.password,
            authorize_as=self.settings.authorize_as,
        )


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
        self._make_connector: Callable[[AccountSettings], Connects] = (
            connector or Connectors(reactor)
        )
        self._wall = wall
        self._chance = chance
        self._machine = machine or socket.gethostname()
        self._hook = hook
        self._settings: dict[str, AccountSettings] = {}
        self._added: dict[str, AccountSettings] = {}
        self._ids: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._connections: dict[str, _Connection] = {}
        self._memories: dict[str, Memory] = {}
        self._swept: set[str] = set()
        self._running: dict[str, _Running] = {}
        self._queues: dict[str, deque[_Running]] = {}
        self._servers: dict[str, ServerHealth] = {}
        self._wanted: set[str] = set()
        self._starting: Deferred[None] | None = None
        self._loops: list[Deferred[None]] = []
        self._seen: dict[str, float] = {}
        self._seen_at = self._forgotten_at = -math.inf
        self._upkeep_at = -math.inf
        self._claiming: Deferred[None] | None = None
        self._stopping = False
        self._fatal = False
        self._full_until = -math.inf
        self._clock = ClockWatch(wall(), reactor.seconds())
        # While it is open.
        self._locks: list[FolderLock] = []
        self._parts: tuple[Tools, Deliveries] | None = None

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
        await self._open(single=False)
        self._begin_loop("claims", self._claim_loop)
        self._begin_loop("leases", self._renew_loop)
        self._begin_loop("reading", self._read_loop)
        self._begin_loop("upkeep", self._upkeep_loop)

    def _begin_loop(
        self, name: str, loop: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        self._seen[name] = self._reactor.seconds()
        running = Deferred.fromCoroutine(loop())
        running.addErrback(self._loop_failed)
        self._loops.append(running)

    def _end_loops(self) -> None:
        for loop in self._loops:
            loop.cancel()
        self._loops.clear()

    async def _open(
        self, *, single: bool, beside: bool = False, early: bool = False
    ) -> None:
        """
        Open the journal and the spool.

        :param beside: another collector uses the state folder; nothing is written.
        """
        config, reactor = self._config, self._reactor
        threaded = hasattr(reactor, "callFromThread")
        self._check_accounts(config)
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
            files.stop()
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
            settings=self._settings.get,
            account_id=self._ids.get,
            wanted=self._deletion_due,
            destinations=self._objects,
            known=known,
        )
        self._parts = tools, deliveries
        if beside:
            return
        try:
            await files(known.read)
            await files(spool.open)
            await self._put_accounts()
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
            deliveries.start(
                self._fail, waiting=await journal.awaited(), single=single, early=early
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
            tools.files.stop()
            deliveries.close()
            self._swept.clear()
            self._release()

    def stopService(self) -> Deferred[None]:
        """
        Stop: begin no looks; cut off transfers and deliveries after 8 seconds.

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
        self._end_loops()
        self._wake()
        deliveries = self._deliveries
        deliveries.stop()
        looks = [each for each in self._running.values() if each.look is not None]
        for each in looks:
            assert each.look is not None
            each.look.wind_down()
        ending = gatherResults(
            [
                Deferred.fromCoroutine(self._looks_ended()),
                Deferred.fromCoroutine(deliveries.idle()),
            ]
        )
        if not await self._within(ending, GRACE):
            for each in looks:
                assert each.look is not None
                each.look.end(EndedError("the service is being stopped"))
            deliveries.cut()
            await self._within(ending, CUT)
        await self._close()

    async def _looks_ended(self) -> None:
        while True:
            waiting = [each.done for each in self._running.values() if each.done]
            if not waiting:
                return
            await ended(waiting[0])

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

    def _loop_failed(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            log.failure("a loop of the collector has failed", failure)
            assert failure.value is not None
            self._fail(failure.value)

    def _trouble(self, error: BaseException) -> None:
        """Take note of an error of the disk or of the journal."""
        if isinstance(error, DamagedError):
            self._fail(error)
        elif isinstance(error, StorageFullError) or (
            isinstance(error, OSError) and error.errno in _DISK_FULL
        ):
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
        for each in list(self._running.values()):
            if each.look is not None:
                each.look.end(EndedError("the disk is full"))

    # -- accounts

    def _check_accounts(self, config: Config) -> None:
        """
        Complete the accounts with their destinations.

        :raises UsageError: an account names a destination that does not exist.
        """
        settings = {}
        for account in (*config.accounts, *self._added.values()):
            settings[account.name] = self._complete(config, account)
        self._settings.clear()
        self._settings.update(settings)

    def _complete(self, config: Config, account: AccountSettings) -> AccountSettings:
        if account.to and set(account.to) <= {*self._objects, *config.destinations}:
            return account
        if not account.to and len(self._objects) == 1 and not config.destinations:
            return attrs.evolve(account, to=tuple(self._objects))
        return config.complete(account)

    async def _put_accounts(self) -> None:
        """Write the accounts to the journal."""
        journal = self._journal
        origins = [(str(self._config.file or _PROGRAM), self._config.accounts)]
        if self._config.file is not None and self._added:
            origins.append((_PROGRAM, ()))
        rows: list[AccountRow] = []
        for origin, accounts in origins:
            everything = list(accounts)
            if origin == _PROGRAM:
                everything += self._added.values()
            rows += await journal.put_accounts(
                [self._new_account(each) for each in everything], origin
            )
        for row in rows:
            self._learn(row)

    def _learn(self, row: AccountRow) -> None:
        self._ids[row.name] = row.id
        self._names[row.id] = row.name

    def _new_account(self, account: AccountSettings) -> NewAccount:
        rules = repr(Rules.of(account)).encode()
        return NewAccount(
            name=account.name,
            server=str(account.address),
            username=account.mailbox,
            interval=account.interval[1],
            settings=hashlib.sha256(rules).hexdigest()[:16],
        )

    async def add_account(self, account: AccountSettings) -> None:
        """
        Add an account at run time, or change it.

        :raises UsageError: it names a destination that does not exist.
        """
        complete = self._complete(self._config, account)
        self._added[account.name] = account
        self._settings[account.name] = complete
        self._forget(account.name)
        if self._parts is not None:
            await self._put_accounts()
            self._wake()

    async def remove_account(self, name: str) -> None:
        """
        Remove an account that was added; its rows stay for 30 days.

        :raises UsageError: no account of this name was added.
        """
        if name not in self._added:
            raise UsageError(f"no account {name!r} was added to the collector")
        del self._added[name]
        self._settings.pop(name, None)
        self._forget(name)
        if self._parts is not None:
            await self._put_accounts()

    def _forget(self, name: str) -> None:
        self._connections.pop(name, None)
        memory = self._memories.get(name)
        if name not in self._settings:
            self._memories.pop(name, None)
        elif memory is not None:
            memory.dirty = True

    async def reload(self, config: Config) -> None:
        """
        Use another configuration from now on.

        Looks in progress finish with the old one.  The state folder, the database and
        the machine stay as they are.

        :raises UsageError: it cannot be used; then nothing has changed.
        """
        if config.state != self._config.state or config.database != (
            self._config.database
        ):
            raise UsageError(
                "state and database cannot be changed while the collector runs; "
                "restart it"
            )
        before = dict(self._settings)
        self._check_accounts(config)
        self._config = config
        for name in {*before, *self._settings}:
            if before.get(name) != self._settings.get(name):
                self._forget(name)
        if self._parts is not None:
            self._tools.spool.limit = config.spool_limit
            self._deliveries.reload(config)
            await self._put_accounts()
            self._wake()

    @property
    def _tools(self) -> Tools:
        assert self._parts is not None
        return self._parts[0]

    @property
    def _deliveries(self) -> Deliveries:
        assert self._parts is not None
        return self._parts[1]

    @property
    def _journal(self) -> Journal:
        return self._tools.journal

    def _memory(self, name: str) -> Memory:
        return self._memories.setdefault(name, Memory())

    def _deletion_due(self, message: MessageRow) -> None:
        """Look at an account again: a message was delivered after its look."""
        name = self._names.get(message.account_id)
        if name is not None:
            settings = self._settings.get(name)
            if settings is not None and Rules.of(settings).delete_after(0.0) == 0.0:
                self._wanted.add(name)

    # -- the loops

    async def _every(
        self, name: str, seconds: float, work: Callable[[], Coroutine[Any, Any, Any]]
    ) -> None:
        """Do something again and again, and show that it works."""
        while not self._stopping:
            self._seen[name] = self._reactor.seconds()
            try:
                await work()
            except JournalError as error:
                self._trouble(error)
            await sleep(self._reactor, seconds)

    async def _claim_loop(self) -> None:
        while not self._stopping:
            self._seen["claims"] = self._reactor.seconds()
            try:
                while await self._claim():
                    pass
            except JournalError as error:
                self._trouble(error)
            waiting: Deferred[None] = Deferred()
            self._claiming = waiting
            call = self._reactor.callLater(CLAIM, self._wake)
            try:
                await waiting
            finally:
                if call.active():
                    call.cancel()

    def _wake(self) -> None:
        claiming, self._claiming = self._claiming, None
        if claiming is not None and not claiming.called:
            claiming.callback(None)

    async def _claim(self) -> bool:
        """Claim accounts and begin to look; return whether there may be more."""
        free = self._config.sessions - len(self._running)
        if free <= 0 or self._stopping or not self._may_look():
            return False
        now = self._wall()
        used = Counter(each.server for each in self._running.values())
        names = []
        for name, settings in self._settings.items():
            if name in self._running:
                continue
            server = str(settings.address)
            if used[server] >= self._config.sessions_per_server:
                continue
            health = self._servers.get(server)
            if health is not None and health.wait(now):
                continue
            names.append(name)
        if not names:
            return False
        limit = min(free, self._config.sessions_per_server)
        rows = await self._journal.claim(limit, self._config.lease, names)
        for row in rows:
            self._begin(row)
        return len(rows) == limit

    def _may_look(self) -> bool:
        return bool(self._reactor.seconds() >= self._full_until)

    def _begin(self, row: AccountRow) -> None:
        self._learn(row)
        settings = self._settings[row.name]
        each = _Running(row, str(settings.address), self._reactor.seconds())
        self._running[row.name] = each
        self._queues.setdefault(each.server, deque()).append(each)
        self._begin_queued(each.server)

    def _begin_queued(self, server: str) -> None:
        """Begin looks at a server, as many as are allowed."""
        queue = self._queues.get(server)
        while queue:
            looking = sum(
                each.server == server and each.done is not None
                for each in self._running.values()
            )
            if looking >= self._config.sessions_per_server:
                return
            each = queue.popleft()
            each.done = Deferred()
            running = Deferred.fromCoroutine(self._look(each))
            running.addBoth(self._looked, each)

    def _looked(self, result: object, each: _Running) -> None:
        if isinstance(result, Failure):
            log.failure("{account}: unexpected", result, account=each.row.name)
        self._running.pop(each.row.name, None)
        if not self._stopping:
            self._begin_queued(each.server)
            self._wake()
        assert each.done is not None
        each.done.callback(None)

    async def _look(self, each: _Running) -> Outcome | None:
        row = each.row
        if self._stopping:
            # Claimed in the last moment: the lease is given back.
            await self._journal.finish(row, due_at=self._journal.now())
            return None
        wait = self._login_wait(row.name)
        if wait > 0:
            await self._journal.finish(row, due_at=self._journal.now() + wait)
            return None
        if row.look_wanted:
            self._memory(row.name).dirty = True
        settings = self._settings.get(row.name)
        if settings is None:
            await self._journal.finish(row, due_at=self._journal.now())
            return None
        return await self._look_now(each, settings, limit=settings.max_messages)

    def _login_wait(self, name: str) -> float:
        """Return for how many seconds LOGIN-DELAY forbids a login."""
        memory = self._memory(name)
        if memory.login_at is None or not memory.login_delay:
            return 0.0
        return float(memory.login_at + memory.login_delay - self._reactor.seconds())

    async def _look_now(
        self,
        each: _Running,
        settings: AccountSettings,
        *,
        limit: float | None,
        dry_run: bool = False,
        single: _Single | None = None,
    ) -> Outcome:
        single = single or _Single()
        look = each.look = Look(
            self._tools,
            self._deliveries,
            each.row,
            settings,
            partial(self._connect, each.row.name, settings),
            self._memory(each.row.name),
            lease=self._config.lease,
            limit=limit,
            dry_run=dry_run,
            progress=single.progress,
            choose=single.choose,
            report=single.report,
            prepare=partial(self._sweep, each.row, settings),
        )
        outcome = await look.run()
        if outcome.due:
            self._wanted.add(each.row.name)
        self._judge_server(each, outcome)
        return outcome

    async def _sweep(self, row: AccountRow, settings: AccountSettings) -> None:
        """Remove, before anything is retrieved, what a crash left in Maildirs."""
        if row.name in self._swept:
            return
        self._swept.add(row.name)
        try:
            targets = self._deliveries.targets(settings)
        except (POP3Error, OSError):
            # The look says so.
            return
        sweeps = [
            partial(t.threads, t.destination.sweep)
            for t in targets
            if hasattr(t.destination, "sweep")
        ]
        if not sweeps:
            return
        named = [
            each.witness.path
            for each in await self._journal.deliveries(row)
            if each.witness is not None
        ]
        now = self._wall() if self._trusted() else None
        for sweep in sweeps:
            try:
                await sweep(row.name, named, now=now)
            except Exception as error:  # noqa: BLE001 - files may stay
                log.warn("{account}: {error}", account=row.name, error=words(error))

    def _connect(self, name: str, settings: AccountSettings) -> Deferred[Handle]:
        connection = self._connections.get(name)
        if connection is None or connection.settings != settings:
            connection = self._connections[name] = _Connection(
                settings,
                self._make_connector(settings),
                password_for(
                    settings,
                    self._config.folder,
                    self._reactor,
                    self._config.secret_variables,
                ),
            )
        return connection.connect()

    def _judge_server(self, each: _Running, outcome: Outcome) -> None:
        health = self._servers.get(each.server, ServerHealth())
        error = outcome.error
        unreachable = isinstance(error, ConnectError) or (
            isinstance(error, TimedOutError) and error.phase == "connecting"
        )
        if unreachable and not outcome.looked:
            now = self._wall()
            after = health.after_failure(each.row.name, now, self._chance())
            if after.waits > health.waits:
                log.error(
                    "{server}: cannot be reached; its accounts wait for "
                    "{seconds:.0f} seconds",
                    server=each.server,
                    seconds=after.wait(now),
                )
            self._servers[each.server] = after
        elif each.server in self._servers:
            del self._servers[each.server]

    async def _renew_loop(self) -> None:
        await self._every("leases", self._config.lease / 3, self._renew)

    async def _renew(self) -> None:
        running = list(self._running.values())
        try:
            if running:
                lost = await self._journal.renew(
                    [each.row for each in running], self._config.lease
                )
                now = self._reactor.seconds()
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
            late = self._reactor.seconds() - self._config.lease * 2 / 3
            for each in running:
                if each.renewed < late and each.look is not None:
                    each.look.end(
                        EndedError(
                            "the journal did not prolong the lease of the account in "
                            "time",
                            server=each.row.server,
                        )
                    )

    async def _read_loop(self) -> None:
        await self._every("reading", READ, self._read)

    async def _hold_loop(self) -> None:
        await self._every("holds", READ, self._see_holds)

    async def _read(self) -> None:
        """Read what administrators wrote, and write which looks are wanted."""
        wanted, self._wanted = self._wanted, set()
        try:
            if wanted:
                await self._journal.look_wanted(wanted)
        except JournalError:
            self._wanted |= wanted
            raise
        await self._see_holds()

    async def _see_holds(self) -> None:
        """End the looks at accounts that are held."""
        names = [n for n, each in self._running.items() if each.look is not None]
        if not names:
            return
        for row in await self._journal.accounts(names):
            each = self._running.get(row.name)
            if row.state is AccountState.HELD and each and each.look:
                each.look.end(HeldError("the account is held", server=row.server))

    async def _upkeep_loop(self) -> None:
        await self._every("upkeep", UPKEEP, self._upkeep)

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
            await self._journal.machine_seen(__version__, len(self._running))
        if now >= self._forgotten_at + HOUR:
            self._forgotten_at = now
            if self._trusted():
                for name in await self._journal.forget_accounts(KEPT):
                    log.info("{account}: its rows were removed", account=name)

    def _silent(self, now: float) -> str:
        """Return which loop shows no sign of life; ``""`` if all do."""
        seen = {f"the loop of {name}": at for name, at in self._seen.items()}
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
            self._begin_loop("leases", self._renew_loop)
            self._begin_loop("holds", self._hold_loop)
        single = _Single(progress, choose, report, force)
        try:
            return await self._once(self._chosen(names), own, single)
        finally:
            # If this is cancelled, looks may still be going on, or be about to begin.
            single.over = True
            if own:
                self._end_loops()
                for each in list(self._running.values()):
                    if each.look is not None:
                        each.look.end(EndedError("the run was ended"))
                self._deliveries.stop()
                self._deliveries.cut()
                await self._looks_ended()
                await self._close()

    def _chosen(self, names: Collection[str] | None) -> list[str]:
        if names is None:
            return list(self._settings)
        unknown = sorted(set(names) - set(self._settings))
        if unknown:
            raise UsageError(f"there is no account {unknown[0]!r} in the configuration")
        return list(names)

    async def _once(
        self,
        names: Iterable[str],
        own: bool,
        single: _Single,
    ) -> dict[str, Outcome]:
        outcomes: dict[str, Outcome] = {}
        await self._all_once(list(names), outcomes, single)
        if own:
            await self._deliveries.finish()
            # What was delivered only now may be due to be deleted.
            again = [
                name
                for name in self._wanted
                if name in outcomes and self._login_wait(name) <= 0
            ]
            self._wanted.clear()
            if again:
                await self._all_once(again, outcomes, single)
        await self._count(outcomes)
        return outcomes

    async def _all_once(
        self,
        names: Collection[str],
        outcomes: dict[str, Outcome],
        single: _Single,
    ) -> None:
        """Look at several accounts, as many at a time as is allowed."""
        rows = {row.name: row for row in await self._journal.accounts(names)}
        everywhere = DeferredSemaphore(self._config.sessions)
        servers: defaultdict[str, DeferredSemaphore] = defaultdict(
            lambda: DeferredSemaphore(self._config.sessions_per_server)
        )

        def look(name: str) -> Deferred[None]:
            one = Deferred.fromCoroutine(self._one_once(rows[name], outcomes, single))
            return one.addErrback(failed, name)

        def failed(failure: Failure, name: str) -> None:
            assert failure.value is not None
            outcomes.setdefault(name, Outcome(name)).error = failure.value

        looks = [
            # The server first: an account that waits takes no session of others.
            servers[str(self._settings[name].address)].run(everywhere.run, look, name)
            for name in names
        ]
        # Cancelling does not reach the looks: `run_once` ends them in order.
        await ended(gatherResults(looks))

    async def _one_once(
        self,
        row: AccountRow,
        outcomes: dict[str, Outcome],
        single: _Single,
    ) -> None:
        name = row.name
        outcome = outcomes.setdefault(name, Outcome(name))
        if single.over:
            return
        settings = self._settings[name]
        if row.state is AccountState.HELD:
            outcome.error = HeldError(
                f"the account is held; run: pop3connect accounts release {name}",
                server=row.server,
            )
            return
        if row.state is AccountState.PERSON and single.force:
            await self._journal.release([name])
        elif row.state is AccountState.PERSON:
            outcome.error = HeldError(
                "its login was refused too often; when the password is right again, "
                f"run: pop3connect accounts release {name}",
                server=row.server,
            )
            return
        wait = must_wait(row, self._journal.now())
        if wait > 0 and not row.look_wanted and not single.force:
            outcome.error = HeldError(
                f"the next login is allowed in {wait:.0f} seconds"
                + (f" ({row.error})" if row.refusals and row.error else ""),
                server=row.server,
            )
            return
        room = math.inf if settings.max_messages is None else settings.max_messages
        while True:
            claimed = await self._journal.claim_now(name, self._config.lease)
            if claimed is None or name in self._running:
                outcome.error = outcome.error or HeldError(
                    "another look at the account is going on", server=row.server
                )
                return
            each = _Running(claimed, str(settings.address), self._reactor.seconds())
            each.done = Deferred()
            self._running[name] = each
            if single.force or row.look_wanted:
                self._memory(name).dirty = True
            try:
                one = await self._look_now(each, settings, limit=room, single=single)
            finally:
                del self._running[name]
                each.done.callback(None)
            outcome.add(one)
            room -= one.new
            more = one.again and one.new and room > 0 and one.error is None
            if not more or self._login_wait(name) > 0 or self._stopping:
                return

    async def _count(self, outcomes: Mapping[str, Outcome]) -> None:
        """Count what waits and what is bad, as it is now."""
        counts = await self._journal.counts()
        for name, outcome in outcomes.items():
            states = counts.get(self._ids[name], {})
            outcome.waiting = states.get(MessageState.RETRIEVED, 0)
            if outcome.before is None:
                # The look has read no rows, because nothing has changed.
                outcome.bad = states.get(MessageState.SUSPECT, 0)
                outcome.bad += states.get(MessageState.SET_ASIDE, 0)

    async def plan(self, name: str) -> Plan:
        """
        Return what a look at an account would do: ``look --dry-run``.

        It logs in, lists and reads headers; nothing is retrieved, deleted or noted.
        Another process may be working with the same state folder.

        :raises POP3Error: it cannot be reached.
        """
        own = self._parts is None
        if own:
            try:
                await self._open(single=True)
            except InUseError:
                await self._open(single=True, beside=True)
        try:
            (name,) = self._chosen([name])
            rows = await self._journal.accounts([name])
            if not rows:
                raise UsageError(
                    f"the running collector does not know the account {name}; let it "
                    "read its configuration again (SIGHUP)"
                )
            (row,) = rows
            each = _Running(row, row.server, self._reactor.seconds())
            outcome = await self._look_now(
                each, self._settings[name], limit=None, dry_run=True
            )
            if each.look is None or each.look.plan is None:
                assert outcome.error is not None
                raise outcome.error
            return each.look.plan
        finally:
            if own:
                await self._close()
