"""
The journal: what is known of accounts, messages and deliveries, in a database.

Every method returns a Deferred that fires after its change is on disk.  Operations that
wait at the same time are committed together.

Not on disk, in SQLite, are claims, leases and what a look notes that found nothing new:
the next change that is takes them along.  If the power fails before, such a look is
repeated; if only the process ends, nothing is missing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure

from . import account_sql, delivery_sql, message_sql
from .database import (
    DamagedError,
    Database,
    JournalError,
    LostLeaseError,
    StorageFullError,
)
from .delivery_sql import Settled
from .records import (
    AccountRow,
    AccountState,
    DeliveryRow,
    DueDelivery,
    MessageRow,
    MessageState,
    NewAccount,
    NewMessage,
)
from .schedule import NextRetrieval
from .states import AccountEvent
from .writer import Operation, Worker

__all__ = [
    "DamagedError",
    "Journal",
    "JournalError",
    "LostLeaseError",
    "Settled",
    "StorageFullError",
]

T = TypeVar("T")

SLICE = 5000
"""Rows that are read in one go: other readers wait for about 30 ms."""


class Journal:
    """
    The journal; see `open`.

    Operations fail with a `JournalError` if the database cannot be written: then all
    operations of the same group fail, and none of them was kept.  A Deferred that is
    cancelled before its operation began takes the operation back.

    Times are seconds since 1970 by the clock of the database: see `now`.
    """

    def __init__(
        self,
        database: Database,
        reactor: IReactorFromThreads | None,
        machine: str,
        clock: Callable[[], float],
        hook: Callable[[str], None] | None,
    ) -> None:
        self._database = database
        self._machine = machine
        self._clock = clock
        self._started = self._latest = clock()
        name = f"journal of {machine}"

        def worker(what: str, *, reading: bool = False) -> Worker:
            return Worker(
                f"{name}: {what}",
                partial(database.connect, reading=reading),
                reactor,
                database.explain,
                None if reading else hook,
                None if reading else database.wait_for_disk,
            )

        self._writer = self._renewals = worker("writer")
        self._reader = worker("reader", reading=True)
        if database.file is None:
            # SQLite has one writer.  Elsewhere a lease is renewed even if all other
            # operations wait for a lock.
            self._renewals = worker("renewals")

    @classmethod
    def open(
        cls,
        database: Path | str,
        reactor: Any,
        machine: str,
        *,
        exclusive: bool = False,
        wall: Callable[[], float] = time.time,
        hook: Callable[[str], None] | None = None,
    ) -> Deferred[Journal]:
        """
        Open a journal.

        :param database: the path of an SQLite file, or a URL of SQLAlchemy.
        :param reactor: in whose thread the Deferreds fire.  ``None``, or one without
            threads such as a Clock: everything is done at once, in the caller's thread,
            and each Deferred has its result when it is returned (command line, tests).
        :param machine: the name of this machine.
        :param exclusive: the caller holds the lock of the state folder.  So a file that
            does not exist is made, its tables are brought up to date, leases in it are
            void: they belong to processes that have ended; and what a machine of
            another name has retrieved is delivered by this one.
        :param wall: the time in seconds since 1970, for SQLite.
        :param hook: called in the writer's thread with ``"before NAME"`` and ``"after
            NAME"`` around each commit, for each method ``NAME`` in it; for crash tests.
        :raises DamagedError: the file is not a database, or it is damaged.  It was not
            changed.
        :raises JournalError: it cannot be opened, or was written by a newer version.
        """
        if not hasattr(reactor, "callFromThread"):
            reactor = None

        def prepare() -> tuple[Database, Callable[[], float]]:
            found = Database(database, exclusive=exclusive, wall=wall)
            return found, _prepare(found, exclusive, wall, machine)

        def opened(found: tuple[Database, Callable[[], float]]) -> Journal:
            return cls(found[0], reactor, machine, found[1], hook)

        if reactor is None:
            return maybeDeferred(prepare).addCallback(opened)
        return _in_thread(reactor, prepare).addCallback(opened)

    def _write(
        self, name: str, operation: Operation[T], *, lasting: bool = True
    ) -> Deferred[T]:
        return self._writer.submit(name, operation, lasting=lasting)

    def _read(self, name: str, operation: Operation[T]) -> Deferred[T]:
        return self._reader.submit(name, operation)

    def _check_clock(self) -> None:
        """Make everything due that was scheduled before the clock was set back."""
        time = self._clock()
        if time < self._latest - account_sql.CLOCK_SLACK:
            self._latest = time
            # It is not waited for: what asks next finds it.
            self._write("set_back", account_sql.set_back).addErrback(lambda _: None)
        self._latest = max(self._latest, time)

    @property
    def stalled(self) -> float:
        """For how many seconds a thread has worked on the same group; 0.0: idle."""
        workers = (self._writer, self._renewals, self._reader)
        return max(each.stalled for each in workers)

    def now(self) -> float:
        """Return the time by the clock of the database; of this machine with SQLite."""
        return self._clock()

    def close(self) -> Deferred[None]:
        """Finish the operations that wait, and close the database."""

        def finish(_: object) -> None:
            self._database.engine.dispose()

        workers = {self._writer, self._renewals, self._reader}
        return gatherResults([each.close() for each in workers]).addCallback(finish)

    # Accounts

    @property
    def shared(self) -> bool:
        """Whether other collectors may claim accounts in the same journal."""
        return self._database.file is None

    def put_accounts(
        self,
        accounts: Sequence[NewAccount],
        origin: str,
        *,
        left: Collection[str] | None = None,
    ) -> Deferred[list[AccountRow]]:
        """
        Insert accounts, or update those with the same names; rows of messages stay.

        Accounts that have left the origin are not claimed any more; `forget_accounts`
        removes them in the end.

        :param origin: where they come from, such as the path of the configuration.  An
            account has the origin that put it last.
        :param left: the names of those that have left it; ``None``: all with this
            origin that are not among ``accounts``.
        """
        return self._write(
            "put_accounts",
            lambda c: account_sql.put_accounts(c, accounts, origin, left),
        )

    def origins(self, names: Collection[str]) -> Deferred[list[str]]:
        """Return the origins of accounts, as they are now."""
        return self._read("origins", lambda c: account_sql.origins(c, names))

    def forget_accounts(self, after: float) -> Deferred[list[str]]:
        """Remove accounts that left their configuration ``after`` seconds ago."""
        return self._write(
            "forget_accounts", lambda c: account_sql.forget_accounts(c, after)
        )

    def accounts(
        self, names: Collection[str] | None = None
    ) -> Deferred[list[AccountRow]]:
        """Return accounts, by name; ``None``: all."""
        return self._read("accounts", lambda c: account_sql.accounts(c, names))

    def claim(
        self,
        limit: int,
        lease: float,
        origins: Collection[str] | None = None,
        *,
        passed_over: Collection[str] = (),
        wanted: Callable[[str], bool] = lambda name: True,
    ) -> Deferred[list[AccountRow]]:
        """
        Claim accounts that are due, the longest overdue first.

        The work depends on how many are due, and not on how many accounts there are.

        :param lease: seconds until the claim ends, unless `renew` is called.
        :param origins: only accounts with these; ``None``: with any.
        :param passed_over: servers, as in the rows, whose accounts are left out.
        :param wanted: returns whether the account with a name is to be claimed; it is
            called in the thread of the writer, for accounts that are due.
        :return: their rows, with the new fence, in the order in which they were due.
            ``look_wanted`` is as it was before, and cleared in the database.
        """
        self._check_clock()
        return self._write(
            "claim",
            lambda c: account_sql.claim(
                c, self._machine, limit, lease, origins, passed_over, wanted
            ),
            lasting=False,
        )

    def give_back(self, accounts: Sequence[AccountRow]) -> Deferred[None]:
        """
        Make accounts due that were claimed and not looked at.

        One whose lease is lost stays as it is.
        """
        return self._write(
            "give_back", lambda c: account_sql.give_back(c, accounts), lasting=False
        )

    def claim_now(self, name: str, lease: float) -> Deferred[AccountRow | None]:
        """
        Claim an account whether it is due or not.

        :return: ``None`` if the account does not exist, is not ``OK``, or is held by
            another process.
        """
        return self._write(
            "claim_now",
            lambda c: account_sql.claim_now(c, self._machine, name, lease),
            lasting=False,
        )

    def renew(
        self, accounts: Sequence[AccountRow], lease: float
    ) -> Deferred[frozenset[int]]:
        """Prolong leases; return the ids of the accounts whose lease is lost."""
        return self._renewals.submit(
            "renew", lambda c: account_sql.renew(c, accounts, lease), lasting=False
        )

    def finish(
        self,
        account: AccountRow,
        *,
        due_at: float,
        state: AccountState | None = None,
        looked: bool = False,
        mail: bool = False,
        failures: int | None = None,
        refusals: int | None = None,
        login_delay: float | None = None,
        expire_days: float | None = None,
        uids_seen: bool | None = None,
        uids_changed: int | None = None,
        uidl_failures: int | None = None,
        listing: str | None = None,
        listed: int | None = None,
        usual_new: float | None = None,
        error: str | None = None,
        error_class: str | None = None,
        unchanged: bool = False,
    ) -> Deferred[AccountRow]:
        """
        Give an account back after a look; ``None`` leaves a field as it is.

        A look that was wanted meanwhile makes the account due now.  A state that an
        administrator has set meanwhile stays.

        :param due_at: when it is to be looked at again.
        :param looked: the look succeeded: ``looked_at`` is now, ``released_as`` is
            cleared.
        :param mail: mail arrived: ``mail_at`` is now.
        :param uidl_failures: 0 clears ``uidl_failed_at``; else it is now if it was not
            set.
        :param unchanged: the look found what the last one did, so that it may be
            repeated after a loss of power.
        :raises LostLeaseError: another process has claimed it.
        """
        found = {
            "state": state,
            "looked": looked,
            "mail": mail,
            "failures": failures,
            "refusals": refusals,
            "login_delay": login_delay,
            "expire_days": expire_days,
            "uids_seen": uids_seen,
            "uids_changed": uids_changed,
            "uidl_failures": uidl_failures,
            "listing": listing,
            "listed": listed,
            "usual_new": usual_new,
            "error": error,
            "error_class": error_class,
        }
        return self._write(
            "finish",
            lambda c: account_sql.finish(c, account, due_at, found),
            lasting=not unchanged,
        )

    # Messages.  What changes rows raises LostLeaseError if another process has claimed
    # the account.

    def messages(
        self, account: AccountRow, states: Collection[MessageState] | None = None
    ) -> Deferred[list[MessageRow]]:
        """Return the messages of an account, in the order of their ids."""
        return Deferred.fromCoroutine(self._messages(account, states))

    def deliveries(self, account: AccountRow) -> Deferred[list[DeliveryRow]]:
        """Return those deliveries of an account that are not final."""
        return self._read(
            "deliveries", lambda c: message_sql.open_deliveries(c, account)
        )

    def has_work(self, account: AccountRow) -> Deferred[bool]:
        """
        Return whether rows must be read although the listing is the same as the last.

        So it is if a message can be deleted on the server now, is a suspect, or its
        spool file is on another machine.
        """
        return self._read(
            "has_work", lambda c: message_sql.has_work(c, self._machine, account)
        )

    def add(
        self, account: AccountRow, messages: Sequence[NewMessage]
    ) -> Deferred[list[MessageRow]]:
        """
        Insert messages and their deliveries; up to a few thousand at a time.

        :return: their rows, in the same order.
        :raises JournalError: one of the keys is known already; none is inserted.
        """
        return self._write(
            "add", lambda c: message_sql.add(c, self._machine, account, messages)
        )

    def retrieved(
        self, account: AccountRow, row: MessageRow, message: NewMessage
    ) -> Deferred[MessageRow]:
        """
        Note that a known message was retrieved (it was a suspect, skipped, or lost).

        The key stays.  Its deliveries are inserted if it has none; those that wait are
        delivered from here.
        """
        return self._write(
            "retrieved",
            lambda c: message_sql.retrieved(c, self._machine, account, row, message),
        )

    def suspect(
        self,
        account: AccountRow,
        row: MessageRow,
        reason: str,
        result: NextRetrieval,
    ) -> Deferred[MessageRow]:
        """
        Note that a known message could not be retrieved.

        :param result: of `schedule.after_failed_retrieval`; it may say that the message
            is to be set aside.
        """
        return self._write(
            "suspect",
            lambda c: message_sql.suspect(c, account, row, reason, result),
        )

    def skipped(
        self, account: AccountRow, reasons: Mapping[int, str]
    ) -> Deferred[None]:
        """Note that rules leave these messages on the server."""
        return self._write(
            "skipped", lambda c: message_sql.skipped(c, account, reasons)
        )

    def set_aside(
        self, account: AccountRow, reasons: Mapping[int, str]
    ) -> Deferred[None]:
        """Give messages up; deliveries that wait are set aside too."""
        return self._write(
            "set_aside", lambda c: message_sql.set_aside(c, account, reasons)
        )

    def renamed(self, account: AccountRow, uids: Mapping[int, str]) -> Deferred[None]:
        """Note the new unique-ids of messages."""
        return self._write(
            "renamed", lambda c: message_sql.set_column(c, account, "uid", uids)
        )

    def resized(self, account: AccountRow, sizes: Mapping[int, int]) -> Deferred[None]:
        """Note the new sizes of messages in LIST."""
        return self._write(
            "resized", lambda c: message_sql.set_column(c, account, "size", sizes)
        )

    def lost(self, ids: Collection[int]) -> Deferred[None]:
        """
        Note that the files of messages are not here: they are fetched again.

        The process with the deliveries notices it, so no lease is needed.  A message
        that was not RETRIEVED stays as it is.
        """
        return self._write("lost", lambda c: message_sql.lost(c, ids))

    def superseded(self, account: AccountRow, ids: Collection[int]) -> Deferred[None]:
        """Forget suspects of which nothing was read: their messages have other rows."""
        return self._write(
            "superseded", lambda c: message_sql.superseded(c, account, ids)
        )

    def delete_times(
        self, account: AccountRow, times: Mapping[int, float | None]
    ) -> Deferred[None]:
        """Set ``delete_after``, where a rule has changed."""
        return self._write(
            "delete_times",
            lambda c: message_sql.set_column(c, account, "delete_after", times),
        )

    def listed(
        self,
        account: AccountRow,
        *,
        present: Iterable[int] = (),
        absent: Iterable[int] | None = (),
        forget_after: float | None,
    ) -> Deferred[list[int]]:
        """
        Note a complete listing, and forget the messages that are long missing.

        A message whose deliveries wait, or that was set aside with a copy, is kept.

        :param present: those that were missing and are listed again.
        :param absent: all that are not in the listing.  ``None``: those that were
            missing before, because the listing has not changed.
        :param forget_after: seconds; ``None``: nothing is forgotten this time.
        :return: the ids of those forgotten.
        """
        here = list(present)
        gone = None if absent is None else list(absent)
        return self._write(
            "listed", lambda c: message_sql.listed(c, account, here, gone, forget_after)
        )

    def delete_confirmed(
        self, account: AccountRow, ids: Collection[int]
    ) -> Deferred[None]:
        """Note that the server has deleted messages."""
        return self._write(
            "delete_confirmed", lambda c: message_sql.delete_confirmed(c, account, ids)
        )

    def undeleted(self, account: AccountRow, ids: Collection[int]) -> Deferred[None]:
        """Note that the server has messages whose deletion it had confirmed."""
        return self._write(
            "undeleted", lambda c: message_sql.undeleted(c, account, ids)
        )

    # Deliveries

    def due_deliveries(
        self,
        destination: str,
        limit: int,
        *,
        account: AccountRow | None = None,
        without: Collection[int] = (),
        early: bool = False,
    ) -> Deferred[list[DueDelivery]]:
        """
        Return deliveries of this machine that wait and are due, the oldest first.

        :param account: only those of this account.
        :param without: ids of accounts whose deliveries are left out.
        :param early: whether those are included that are not due yet.
        """
        number = None if account is None else account.id
        self._check_clock()
        return self._read(
            "due_deliveries",
            lambda c: delivery_sql.due_deliveries(
                c, self._machine, destination, limit, number, without, early
            ),
        )

    def interrupted(
        self, destination: str | None = None
    ) -> Deferred[list[DueDelivery]]:
        """
        Return the deliveries of this machine that have begun and are not settled.

        At the start: those that a crash has interrupted.
        """
        return self._read(
            "interrupted",
            lambda c: delivery_sql.interrupted(c, self._machine, destination),
        )

    def awaited(self) -> Deferred[list[str]]:
        """Return the destinations that mail of this machine waits for."""
        return self._read("awaited", lambda c: delivery_sql.awaited(c, self._machine))

    def delivering(self, rows: Sequence[DeliveryRow]) -> Deferred[list[DeliveryRow]]:
        """
        Note, before the effect, that deliveries are attempted: the next attempt begins.

        :param rows: as they were read, with the witness of the new attempt.
        :return: as they are now.  One that is missing must not be delivered: another
            process has attempted it since, or it was dropped.
        """
        return self._write(
            "delivering", lambda c: delivery_sql.delivering(c, self._machine, rows)
        )

    def delivered(
        self, rows: Sequence[DeliveryRow], delete_waits: Mapping[int, float | None]
    ) -> Deferred[Settled]:
        """
        Note that deliveries have succeeded.

        :param rows: as `delivering` returned them; after `add`, as they began there.
        :param delete_waits: by message id, the seconds from now after which a message
            may be deleted on the server, once all its deliveries have succeeded;
            ``None``, or no value: never.
        """
        return self._write(
            "delivered", lambda c: delivery_sql.delivered(c, rows, delete_waits)
        )

    def delivery_failed(
        self,
        rows: Sequence[DeliveryRow],
        reason: str,
        *,
        wait: float,
        counts: bool,
    ) -> Deferred[list[DeliveryRow]]:
        """
        Note that attempts failed.

        :param wait: seconds until they are repeated.
        :param counts: whether it counts against the message.
        :return: as they are now.  One that is missing was attempted by another process
            meanwhile, or dropped.
        """
        return self._write(
            "delivery_failed",
            lambda c: delivery_sql.failed(c, rows, reason, wait, counts),
        )

    def delivery_set_aside(
        self,
        rows: Sequence[DeliveryRow],
        reason: str,
        *,
        copies: Mapping[int, str] | None = None,
    ) -> Deferred[Settled]:
        """
        Give deliveries up.

        :param copies: by message id, the names of copies that take the place of spool
            files.  Without one, the spool file of a message set aside is kept.
        """
        return self._write(
            "delivery_set_aside",
            lambda c: delivery_sql.set_aside(c, rows, reason, copies or {}),
        )

    def deliver_to_inbox(
        self,
        due: DueDelivery,
        content: bytes,
        envelope: Mapping[str, str],
        delete_wait: float | None,
    ) -> Deferred[Settled]:
        """
        Deliver a message into the table ``inbox``, in one transaction with its row.

        `delivering` is not needed before.

        :param delete_wait: see `delivered`.
        """
        return self._write(
            "deliver_to_inbox",
            lambda c: delivery_sql.deliver_to_inbox(
                c, due, content, envelope, delete_wait
            ),
        )

    def spool_files(self) -> Deferred[dict[str, MessageState]]:
        """
        Return the names of the spool files that rows of this machine need.

        Those of SET_ASIDE messages are copies for people; the others are delivered.
        Absolute paths are files in ``tmp`` of a Maildir.
        """
        return self._read(
            "spool_files", lambda c: message_sql.spool_files(c, self._machine)
        )

    async def _messages(
        self, account: AccountRow, states: Collection[MessageState] | None
    ) -> list[MessageRow]:
        rows: list[MessageRow] = []
        after = 0
        while True:
            # Read the next slice when other readers had their turn.
            read = partial(
                message_sql.read_slice,
                owner=account,
                after=after,
                limit=SLICE,
                states=states,
            )
            found = await self._read("messages", read)
            rows += found
            if len(found) < SLICE:
                return rows
            after = found[-1].id

    # What administrators do.  None of these touches a row's lease.

    def hold(self, names: Collection[str]) -> Deferred[list[str]]:
        """Hold accounts; return the names of those that exist."""
        return self._write(
            "hold", lambda c: account_sql.change_state(c, names, AccountEvent.HELD)
        )

    def release(
        self, names: Collection[str], released_as: str = ""
    ) -> Deferred[list[str]]:
        """
        Let accounts be looked at again, also those that needed a person.

        :param released_as: ``"new"`` or ``"seen"``: what unknown messages are.
        """
        return self._write(
            "release",
            lambda c: account_sql.change_state(
                c, names, AccountEvent.RELEASED, released_as
            ),
        )

    def look_wanted(self, names: Collection[str]) -> Deferred[list[str]]:
        """Ask for a look as soon as possible."""
        return self._write("look_wanted", lambda c: account_sql.ask_for_look(c, names))

    def reset(self, name: str) -> Deferred[bool]:
        """
        Forget all messages of an account but those whose deliveries wait, and those
        that were set aside with a copy.

        The next look is like the first.  A look in progress loses its lease.
        """
        return self._write("reset", lambda c: account_sql.reset(c, name))

    def rename(self, old: str, new: str) -> Deferred[bool]:
        """
        Rename an account; its rows and keys stay.

        :raises JournalError: there is an account with the new name.
        """
        return self._write("rename", lambda c: account_sql.rename(c, old, new))

    def remove(self, name: str) -> Deferred[bool]:
        """Remove an account and all that is known of its messages."""
        return self._write("remove", lambda c: account_sql.remove(c, name))

    def find_messages(
        self,
        states: Collection[MessageState],
        names: Collection[str] | None = None,
    ) -> Deferred[list[tuple[str, MessageRow, list[DeliveryRow]]]]:
        """Return messages in these states: account name, row, all deliveries."""
        return self._read(
            "find_messages", lambda c: message_sql.find_messages(c, states, names)
        )

    def retry(self, ids: Collection[int]) -> Deferred[list[int]]:
        """Try messages that were set aside again, and set-aside deliveries."""
        return self._write("retry", lambda c: message_sql.retry(c, ids))

    def drop(self, ids: Collection[int]) -> Deferred[list[int]]:
        """Give up messages that were set aside; they stay on the server."""
        return self._write("drop", lambda c: message_sql.drop(c, ids))

    def counts(self) -> Deferred[dict[int, dict[MessageState, int]]]:
        """Return how many messages each account has in each state, by account id."""
        return self._read("counts", lambda c: account_sql.counts(c))

    def machine_seen(self, version: str, sessions: int) -> Deferred[None]:
        """Note, for people to look at, that this machine works."""
        return self._write(
            "machine_seen",
            lambda c: account_sql.machine_seen(
                c, self._machine, self._started, version, sessions
            ),
            lasting=False,
        )


def _prepare(
    database: Database, exclusive: bool, wall: Callable[[], float], machine: str
) -> Callable[[], float]:
    """Set right what an ended process left, and return the clock of the database."""
    with database.errors(), database.connect() as connection:
        if database.file is not None:
            if exclusive:
                with connection.begin():
                    account_sql.void_leases(connection)
                    account_sql.set_back(connection)
                    delivery_sql.take_over(connection, machine)
            return wall
        then = message_sql.time_of(connection) - time.monotonic()
        return lambda: then + time.monotonic()


def _in_thread(reactor: Any, function: Callable[[], T]) -> Deferred[T]:
    done: Deferred[T] = Deferred()

    def work() -> None:
        try:
            result: object = function()
        except BaseException:  # noqa: BLE001 - the caller gets it
            result = Failure()
        reactor.callFromThread(fire, result)

    def fire(result: Any) -> None:
        if not done.called:
            done.callback(result)

    threading.Thread(target=work, name="journal: opening", daemon=True).start()
    return done
