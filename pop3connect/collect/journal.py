"""
The journal: what is known of accounts, messages and deliveries, in a database.

Every method returns a Deferred that fires after its change is on disk.  Operations that
wait at the same time are committed together.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

import attrs
from twisted.internet.defer import Deferred

from ..errors import POP3Error
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
from .schedule import NextDelivery, NextRetrieval

__all__ = [
    "DamagedError",
    "Journal",
    "JournalError",
    "LostLeaseError",
    "Settled",
    "StorageFullError",
]

LOOKS_MISSING = 10
"""Complete listings in a row without a message before it may be forgotten."""


class JournalError(POP3Error):
    """The journal could not be read or written.  Nothing of the operation was kept."""


class StorageFullError(JournalError):
    """The disk is full, or a quota is used up."""


class DamagedError(JournalError):
    """The database is not one, or is damaged."""


class LostLeaseError(JournalError):
    """Another process has claimed the account, or it was reset or removed."""


@attrs.frozen
class Settled:
    """
    What an operation on deliveries has done.

    :ivar deliveries: those that were changed, as they are now.  One that is missing was
        attempted by another process meanwhile, or dropped.
    :ivar messages: those that are final since this operation (DELIVERED or SET_ASIDE),
        as they are now.  The spool file of a DELIVERED one is not needed any more; its
        name is in ``forgotten``.
    :ivar forgotten: the names of spool files that are not needed any more.
    """

    deliveries: tuple[DeliveryRow, ...]
    messages: tuple[MessageRow, ...] = ()
    forgotten: tuple[str, ...] = ()


class Journal:
    """
    The journal; see `open`.

    Operations fail with a `JournalError` if the database cannot be written: then all
    operations of the same group fail, and none of them was kept.  A Deferred that is
    cancelled before its operation began takes the operation back.

    Times are seconds since 1970 by the clock of the database: see `now`.
    """

    @classmethod
    def open(
        cls,
        database: Path | str,
        reactor: object | None,
        machine: str,
        *,
        exclusive: bool = False,
        wall: Callable[[], float] = ...,
        hook: Callable[[str], None] | None = None,
    ) -> Deferred[Journal]:
        """
        Open a journal; a file that does not exist is made.

        :param database: the path of an SQLite file, or a URL of SQLAlchemy.
        :param reactor: in whose thread the Deferreds fire.  ``None``: everything is done
            at once, in the caller's thread, and each Deferred has its result when it is
            returned (command line, tests with a Clock).
        :param machine: the name of this machine.
        :param exclusive: the caller holds the lock of the state folder, so leases in the
            database belong to processes that have ended: they are void.
        :param wall: the time in seconds since 1970, for SQLite.
        :param hook: called in the writer's thread with ``"before NAME"`` and ``"after
            NAME"`` around each commit, for each method ``NAME`` in it; for crash tests.
        :raises DamagedError: the file is not a database, or it is damaged.  It was not
            changed.
        :raises JournalError: it cannot be opened, or was written by a newer version.
        """
        raise NotImplementedError

    @property
    def stalled(self) -> float:
        """For how many seconds a thread has worked on the same group; 0.0: idle."""
        raise NotImplementedError

    def now(self) -> float:
        """Return the time by the clock of the database (with SQLite, of this machine)."""
        raise NotImplementedError

    def close(self) -> Deferred[None]:
        """Finish the operations that wait, and close the database."""
        raise NotImplementedError

    # Accounts

    def put_accounts(
        self, accounts: Sequence[NewAccount], origin: str
    ) -> Deferred[list[AccountRow]]:
        """
        Insert accounts, or update those with the same names; rows of messages stay.

        Accounts with the same origin that are not among ``accounts`` are not claimed any
        more; `forget_accounts` removes them in the end.

        :param origin: where they come from, such as the path of the configuration.
        """
        raise NotImplementedError

    def forget_accounts(self, after: float) -> Deferred[list[str]]:
        """Remove accounts that left their configuration ``after`` seconds ago."""
        raise NotImplementedError

    def accounts(
        self, names: Collection[str] | None = None
    ) -> Deferred[list[AccountRow]]:
        """Return accounts, by name; ``None``: all."""
        raise NotImplementedError

    def claim(
        self, limit: int, lease: float, names: Collection[str] | None = None
    ) -> Deferred[list[AccountRow]]:
        """
        Claim accounts that are due, the longest overdue first.

        :param lease: seconds until the claim ends, unless `renew` is called.
        :param names: only these; ``None``: all.
        :return: their rows, with the new fence.  ``look_wanted`` is as it was before,
            and cleared in the database.
        """
        raise NotImplementedError

    def claim_now(self, name: str, lease: float) -> Deferred[AccountRow | None]:
        """
        Claim an account whether it is due or not.

        :return: ``None`` if there is none, if it is not ``OK``, or if another process
            holds it.
        """
        raise NotImplementedError

    def renew(
        self, accounts: Sequence[AccountRow], lease: float
    ) -> Deferred[frozenset[int]]:
        """Prolong leases; return the ids of the accounts whose lease is lost."""
        raise NotImplementedError

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
        :raises LostLeaseError: another process has claimed it.
        """
        raise NotImplementedError

    # Messages.  What changes rows raises LostLeaseError if another process has claimed
    # the account.

    def messages(
        self, account: AccountRow, states: Collection[MessageState] | None = None
    ) -> Deferred[list[MessageRow]]:
        """Return the messages of an account, in the order of their ids."""
        raise NotImplementedError

    def deliveries(self, account: AccountRow) -> Deferred[list[DeliveryRow]]:
        """Return those deliveries of an account that are not final."""
        raise NotImplementedError

    def has_work(self, account: AccountRow) -> Deferred[bool]:
        """
        Return whether rows must be read although the listing is the same as the last.

        So it is if a message can be deleted on the server now, is a suspect, or its
        spool file is on another machine.
        """
        raise NotImplementedError

    def add(
        self, account: AccountRow, messages: Sequence[NewMessage]
    ) -> Deferred[list[MessageRow]]:
        """
        Insert messages and their deliveries; up to a few thousand at a time.

        :return: their rows, in the same order.
        :raises JournalError: one of the keys is known already; none is inserted.
        """
        raise NotImplementedError

    def retrieved(
        self, account: AccountRow, row: MessageRow, message: NewMessage
    ) -> Deferred[MessageRow]:
        """
        Note that a known message was retrieved (it was a suspect, skipped, or lost).

        The key stays.  Its deliveries are inserted if it has none; those that wait are
        delivered from here.
        """
        raise NotImplementedError

    def suspect(
        self,
        account: AccountRow,
        row: MessageRow,
        reason: str,
        result: NextRetrieval,
        *,
        body_hash: str | None = None,
    ) -> Deferred[MessageRow]:
        """
        Note that a known message could not be retrieved.

        :param result: of `schedule.after_failed_retrieval`; it may say that the message
            is to be set aside.
        :param body_hash: of what was retrieved, if it was too short.
        """
        raise NotImplementedError

    def skipped(
        self, account: AccountRow, reasons: Mapping[int, str]
    ) -> Deferred[None]:
        """Note that rules leave these messages on the server."""
        raise NotImplementedError

    def set_aside(
        self, account: AccountRow, reasons: Mapping[int, str]
    ) -> Deferred[None]:
        """Give messages up; deliveries that wait are set aside too."""
        raise NotImplementedError

    def renamed(self, account: AccountRow, uids: Mapping[int, str]) -> Deferred[None]:
        """Note the new unique-ids of messages."""
        raise NotImplementedError

    def resized(self, account: AccountRow, sizes: Mapping[int, int]) -> Deferred[None]:
        """Note the new sizes of messages in LIST."""
        raise NotImplementedError

    def lost(self, account: AccountRow, ids: Collection[int]) -> Deferred[None]:
        """Note that the spool files of messages are not here: they are fetched again."""
        raise NotImplementedError

    def delete_times(
        self, account: AccountRow, times: Mapping[int, float | None]
    ) -> Deferred[None]:
        """Set ``delete_after``, where a rule has changed."""
        raise NotImplementedError

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
        :param absent: all that are not in the listing.  ``None``: those that were missing
            before, because the listing has not changed.
        :param forget_after: seconds; ``None``: nothing is forgotten this time.
        :return: the ids of those forgotten.
        """
        raise NotImplementedError

    def delete_confirmed(
        self, account: AccountRow, ids: Collection[int]
    ) -> Deferred[None]:
        """Note that the server has deleted messages."""
        raise NotImplementedError

    def undeleted(self, account: AccountRow, ids: Collection[int]) -> Deferred[None]:
        """Note that the server has messages whose deletion it had confirmed."""
        raise NotImplementedError

    # Deliveries

    def due_deliveries(
        self, destination: str, limit: int, *, account: AccountRow | None = None
    ) -> Deferred[list[DueDelivery]]:
        """Return deliveries of this machine that wait and are due, the oldest first."""
        raise NotImplementedError

    def next_delivery(self, destination: str) -> Deferred[float | None]:
        """Return when the next delivery of this machine is due; ``None``: none waits."""
        raise NotImplementedError

    def interrupted(
        self, destination: str | None = None
    ) -> Deferred[list[DueDelivery]]:
        """
        Return the deliveries of this machine that have begun and are not settled.

        At the start: those that a crash has interrupted.
        """
        raise NotImplementedError

    def delivering(self, rows: Sequence[DeliveryRow]) -> Deferred[list[DeliveryRow]]:
        """
        Note, before the effect, that deliveries are attempted: the next attempt begins.

        :param rows: as they were read, with the witness of the new attempt.
        :return: as they are now.  One that is missing must not be delivered: another
            process has attempted it since, or it was dropped.
        """
        raise NotImplementedError

    def delivered(
        self, rows: Sequence[DeliveryRow], delete_after: Mapping[int, float | None]
    ) -> Deferred[Settled]:
        """
        Note that deliveries have succeeded.

        :param rows: as `delivering` returned them (or `add`, for those that began there).
        :param delete_after: by message id, when a message may be deleted on the server,
            once all its deliveries have succeeded; ``None``, or no value: never.
        """
        raise NotImplementedError

    def delivery_failed(
        self, failures: Sequence[tuple[DeliveryRow, NextDelivery, str]]
    ) -> Deferred[Settled]:
        """
        Note that attempts failed, and when they are repeated.

        :param failures: the row, the result of `schedule.after_refused_delivery`, which
            may say that it is to be set aside, and the reason.
        """
        raise NotImplementedError

    def delivery_set_aside(
        self, rows: Sequence[DeliveryRow], reason: str
    ) -> Deferred[Settled]:
        """Give deliveries up.  The spool file of a message set aside is kept."""
        raise NotImplementedError

    def deliver_to_inbox(
        self,
        due: DueDelivery,
        content: bytes,
        envelope: Mapping[str, str],
        delete_after: float | None,
    ) -> Deferred[Settled]:
        """
        Deliver a message into the table ``inbox``, in one transaction with its row.

        `delivering` is not needed before.
        """
        raise NotImplementedError

    def spool_files(self) -> Deferred[dict[str, MessageState]]:
        """
        Return the names of the spool files that rows of this machine need.

        Those of SET_ASIDE messages are copies for people; the others are delivered.
        """
        raise NotImplementedError

    # What administrators do.  None of these touches a row's lease.

    def hold(self, names: Collection[str]) -> Deferred[list[str]]:
        """Hold accounts; return the names of those that exist."""
        raise NotImplementedError

    def release(
        self, names: Collection[str], released_as: str = ""
    ) -> Deferred[list[str]]:
        """
        Let accounts be looked at again, also those that needed a person.

        :param released_as: ``"new"`` or ``"seen"``: what unknown messages are.
        """
        raise NotImplementedError

    def look_wanted(self, names: Collection[str]) -> Deferred[list[str]]:
        """Ask for a look as soon as possible."""
        raise NotImplementedError

    def reset(self, name: str) -> Deferred[bool]:
        """
        Forget all messages of an account but those whose deliveries wait.

        The next look is like the first.  A look in progress loses its lease.
        """
        raise NotImplementedError

    def rename(self, old: str, new: str) -> Deferred[bool]:
        """
        Rename an account; its rows and keys stay.

        :raises JournalError: there is an account with the new name.
        """
        raise NotImplementedError

    def remove(self, name: str) -> Deferred[bool]:
        """Remove an account and all that is known of its messages."""
        raise NotImplementedError

    def find_messages(
        self,
        states: Collection[MessageState],
        names: Collection[str] | None = None,
    ) -> Deferred[list[tuple[str, MessageRow, list[DeliveryRow]]]]:
        """Return messages in these states: account name, row, all deliveries."""
        raise NotImplementedError

    def retry(self, ids: Collection[int]) -> Deferred[list[int]]:
        """Try messages that were set aside again, and set-aside deliveries."""
        raise NotImplementedError

    def drop(self, ids: Collection[int]) -> Deferred[list[int]]:
        """Give up messages that were set aside; they stay on the server."""
        raise NotImplementedError

    def counts(self) -> Deferred[dict[int, dict[MessageState, int]]]:
        """Return how many messages each account has in each state, by account id."""
        raise NotImplementedError

    def machine_seen(self, version: str, sessions: int) -> Deferred[None]:
        """Note, for people to look at, that this machine works."""
        raise NotImplementedError
