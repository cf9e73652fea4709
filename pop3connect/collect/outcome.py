"""
What a look has done, would do, and remembers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs

from ..destinations.incoming import Keeper
from ..errors import POP3Error
from .records import MessageRow
from .room import Room

__all__ = ["EndedError", "HeldError", "Memory", "Outcome", "Plan", "Planned"]


class EndedError(POP3Error):
    """The look was ended by us: its time limit, the end of the service, a full disk."""


class HeldError(POP3Error):
    """The account is held; nothing was fetched or deleted."""


@attrs.define
class Memory:
    """
    What is remembered of an account from look to look, and lost with the process.

    :ivar dirty: rows must be read although the listing has not changed.
    :ivar shorts: hashes of short messages, by their keys.
    :ivar told: what was logged once.
    :ivar cuts: bytes after which sessions were cut: from, to.
    :ivar listed_at: when an unchanged listing was last noted, by the reactor's clock.
    :ivar login_at: the last login, by the reactor's clock, and
    :ivar login_delay: the seconds that the server wants until the next.
    :ivar delete_at: when the next message is due to be deleted.
    :ivar turns: when each suspect was last tried, by its id.
    :ivar no_top: messages whose TOP ended a session, by what recognises them.
    :ivar room: the messages that did not fit on the disk.
    :ivar leftovers: files that were kept before an error of the journal: it is not
        known whether rows name them.
    """

    dirty: bool = False
    shorts: dict[str, str] = attrs.Factory(dict)
    told: set[str] = attrs.Factory(set)
    cuts: list[tuple[int, int]] = attrs.Factory(list)
    listed_at: float | None = None
    login_at: float | None = None
    login_delay: int = 0
    delete_at: float | None = None
    turns: dict[int, float] = attrs.Factory(dict)
    no_top: set[str] = attrs.Factory(set)
    room: Room = attrs.Factory(Room)
    leftovers: list[tuple[Keeper, Path]] = attrs.Factory(list)


@attrs.define
class Outcome:
    """
    What a look has done.

    :ivar listed: messages in the listing.
    :ivar new: messages that were retrieved, and are on disk.
    :ivar there: messages that were known, and need nothing.
    :ivar delivered: messages that reached all of their destinations meanwhile.
    :ivar deleted: messages that the server has deleted.
    :ivar skipped: new messages that rules leave on the server.
    :ivar refused: messages that the server refused to send or to delete.
    :ivar waiting: messages that were retrieved and wait for a destination.
    :ivar bad: messages that cannot be retrieved.
    :ivar aside: messages that were given up in this run because a destination does not
        take them.
    :ivar left: messages that would have been retrieved, and are not yet.
    :ivar before: messages of the first listing that were delivered, or on disk, before;
        ``None`` without a listing.
    :ivar passed_over: messages that rules leave on the server, known ones too: how many
        for each reason.
    :ivar failed: why messages could not be retrieved or deleted; the errors name them.
    :ivar bad_before: messages that could not be retrieved by earlier looks, and are not
        retrieved now: numbers and rows.
    :ivar undeleted: messages that the server refused to delete.
    :ivar unconfirmed: messages that are marked for deletion, and QUIT is not confirmed.
    :ivar quit: why QUIT was not confirmed.
    :ivar again: whether another look would bring more.
    :ivar due: whether messages are due to be deleted that were delivered too late for
        this look.
    :ivar seconds: how long it took.
    :ivar next_in: seconds until the next look; ``None``: it depends on something else,
        such as a person or the end of the service.
    :ivar error: why it failed, or the first thing that went wrong.
    :ivar looked: whether the mailbox was listed and the session ended in order.
    """

    account: str
    listed: int = 0
    new: int = 0
    there: int = 0
    delivered: int = 0
    deleted: int = 0
    skipped: int = 0
    refused: int = 0
    waiting: int = 0
    bad: int = 0
    aside: int = 0
    left: int = 0
    before: int | None = None
    passed_over: Mapping[str, int] = attrs.Factory(dict)
    failed: dict[str, POP3Error] = attrs.Factory(dict)
    bad_before: dict[str, tuple[int, MessageRow]] = attrs.Factory(dict)
    undeleted: int = 0
    unconfirmed: int = 0
    quit: POP3Error | None = None
    again: bool = False
    due: bool = False
    seconds: float = 0.0
    next_in: float | None = None
    error: BaseException | None = None
    looked: bool = False

    def add(self, other: Outcome) -> None:
        """Add what a later look has done."""
        for name in (
            *("new", "delivered", "deleted", "skipped", "refused", "seconds"),
            *("undeleted", "unconfirmed"),
        ):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in (
            *("listed", "there", "waiting", "bad", "left", "again", "looked", "quit"),
            *("passed_over", "bad_before", "due", "next_in"),
        ):
            setattr(self, name, getattr(other, name))
        self.before = other.before if self.before is None else self.before
        self.failed.update(other.failed)
        self.error = self.error or other.error


@attrs.frozen
class Planned:
    """One message of a plan; ``reason`` says why it is not fetched."""

    number: int
    uid: str
    size: int
    reason: str = ""


@attrs.frozen
class Plan:
    """
    What a look would do.

    :ivar held: why the account would be held; ``""``: it would not be.
    """

    account: str
    fetched: tuple[Planned, ...] = ()
    skipped: tuple[Planned, ...] = ()
    matched: tuple[Planned, ...] = ()
    deleted: tuple[Planned, ...] = ()
    suspects: tuple[Planned, ...] = ()
    unread: tuple[Planned, ...] = ()
    troubles: tuple[str, ...] = ()
    held: str = ""
