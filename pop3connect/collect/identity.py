"""
Recognises messages from one session to the next: compares what a server lists with what
is known, without believing any single answer.

Pure functions: values in, values out.  A look at a mailbox goes like this::

    inventory = take_inventory(stat, sizes, uids, account, now)
    found = identify(inventory, rows, account)
    while not found.decided:
        # Read the headers by TOP and the whole messages by RETR; ``None`` for those that
        # could not be read.
        contents = {number: content_of(header) for number, header in ...}
        found = found.compared(contents)
    # found.known, found.new, found.absent

Each of the three takes up to a second for hundreds of thousands of messages; each has a
twin whose name ends in ``_steps``, a generator that does the same in slices.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

import attrs

from ..errors import CommandError, POP3Error
from ..results import UID, Listing, Stat
from .records import AccountRow, Content

__all__ = [
    "HELD_KNOWN",
    "HELD_NEW",
    "SLICE",
    "UIDL_LOOKS",
    "UIDL_SECONDS",
    "UNSTABLE_LOOKS",
    "Identified",
    "Inventory",
    "KnownMessage",
    "ListingRefusedError",
    "Remembered",
    "identify",
    "identify_steps",
    "take_inventory",
    "take_inventory_steps",
    "uidl_given_up",
]

MAX_UID = 70
"""Octets of a unique-id (RFC 1939 section 7); of a longer one, the hash is kept."""

UIDL_LOOKS = 5
"""Looks in a row at which UIDL was refused or cut, before it is given up, ..."""

UIDL_SECONDS = 24 * 3600.0
"""... and the seconds since the first of them."""

UNSTABLE_LOOKS = 3
"""Looks in a row at which all known messages had other unique-ids, after which the
unique-ids of the account are ignored."""

HELD_KNOWN = 20
"""With fewer messages in its last listing, an account is never held."""

HELD_NEW = 1000
"""With fewer new messages, an account is never held."""

HELD_USUAL = 10
"""The new messages that hold an account, as a multiple of the usual number."""

MOVED = 3
"""Messages that have the headers of known ones and other sizes are taken for them if they
are at least as many as this, and half of the mailbox.  Fewer may be second copies, as
of a mailing list, so that their bodies are compared."""

SLICE = 5_000
"""Messages between two steps: a few milliseconds of work."""

_T = TypeVar("_T")

Steps = Generator[None, None, _T]
"""A computation in slices: exhaust it, and do other work in between."""


class KnownMessage(Protocol):
    """
    A message that is remembered: what `identify` needs to know about it.

    `MessageRow` and `Remembered` are such values.  See `Remembered` for the attributes.
    """

    @property
    def uid(self) -> str:
        """The last unique-id."""

    @property
    def size(self) -> int:
        """The last size."""

    @property
    def header_hash(self) -> str:
        """The hash of the header."""

    @property
    def body_hash(self) -> str:
        """The hash of the body."""

    @property
    def identified(self) -> bool:
        """Whether the header has a Message-ID."""

    @property
    def deleted_at(self) -> float | None:
        """When its deletion was confirmed."""


@attrs.frozen
class Remembered:
    """
    A message, for programs that keep state themselves.

    :ivar uid: its unique-id in `Inventory.uids` when it was listed last; ``""`` if it
        was not there.
    :ivar size: its size in LIST.
    :ivar header_hash: `Content.header`; ``""`` if it was never read.  Such a message is
        recognised by its unique-id only.
    :ivar body_hash: `Content.body`; ``""`` if it was never read.
    :ivar identified: `Content.identified`.
    :ivar deleted_at: when its deletion was confirmed by ``+OK`` to QUIT, in seconds
        since 1970; ``None`` if it was not.  Keep such messages for a while: servers use
        unique-ids again, and bring deleted messages back.
    """

    uid: str
    size: int
    header_hash: str = ""
    body_hash: str = ""
    identified: bool = True
    deleted_at: float | None = None


RowT = TypeVar("RowT", bound=KnownMessage)


class ListingRefusedError(POP3Error):
    """
    The mailbox cannot be listed in this session, and nothing may be concluded from that.

    The cause is the error of the command.

    :ivar refusal: the error of the command, which `verb` names.
    """

    def __init__(self, message: str, *, refusal: POP3Error) -> None:
        super().__init__(message, server=refusal.server, verb=refusal.verb)
        self.refusal = refusal


@attrs.frozen
class Inventory:
    """
    What a server lists in one session, as far as it can be believed.

    :ivar sizes: the messages of LIST: number -> size.  Only these are known or new.
    :ivar uids: number -> unique-id, only those that tell messages apart: not blank, not
        repeated, not the message numbers, not different in each session.  An overlong
        one, or one that is not printable ASCII, is replaced by its hash.
    :ivar complete: whether a message that is missing here is missing in the mailbox.
    :ivar digest: equal to that of an earlier listing if nothing has changed; ``""`` if
        that cannot be known.  Store it in `AccountRow.listing` if the listing is
        complete, every new message is in the journal, and the session has deleted
        nothing: after a confirmed deletion, an equal listing is not the same mail.
    :ivar troubles: what is wrong with the listing, one sentence each.
    """

    sizes: Mapping[int, int]
    uids: Mapping[int, str]
    complete: bool
    digest: str
    troubles: tuple[str, ...] = ()

    def unchanged(self, account: AccountRow) -> bool:
        """Return whether this is the last complete listing of the account again."""
        return bool(self.digest) and self.digest == account.listing


@attrs.frozen
class Identified(Generic[RowT]):
    """
    Which message of a listing is which; final only if it is `decided`.

    :ivar inventory: the listing.
    :ivar known: number -> the row of the message.
    :ivar new: the numbers of messages that no row stands for, in order.
    :ivar absent: the rows that are not in this listing, also those of deleted messages.
        Only a complete listing proves that they are missing.
    :ivar renamed: of the known ones, those whose unique-id differs from that of the row,
        which takes the one in `Inventory.uids`.
    :ivar resized: of the known ones, those whose size differs from that of the row, which
        takes the one in `Inventory.sizes`.
    :ivar returned: of the known ones, those whose deletion had been confirmed.
    :ivar unread: the numbers of messages that cannot be decided because they could not be
        read: neither known nor new.
    :ivar headers: the numbers of messages whose header must be read to decide.
    :ivar bodies: the numbers of messages that must be read whole to decide, because
        headers are not enough or could not be read.
    :ivar contents: what was read of each message.
    :ivar uids_changed: the next value of `AccountRow.uids_changed`, if the listing is
        complete.
    :ivar held: why the account must be held; ``""``: it need not be.
    """

    inventory: Inventory
    known: Mapping[int, RowT]
    new: tuple[int, ...]
    absent: tuple[RowT, ...]
    renamed: Mapping[int, RowT]
    resized: Mapping[int, RowT]
    returned: Mapping[int, RowT]
    unread: frozenset[int]
    headers: frozenset[int]
    bodies: frozenset[int]
    contents: Mapping[int, Content]
    uids_changed: int
    held: str

    @property
    def decided(self) -> bool:
        """Whether nothing has to be read any more."""
        return not self.headers and not self.bodies

    def compared(self, contents: Mapping[int, Content | None]) -> Identified[RowT]:
        """
        Return the next step, with what was read.

        Pass all of `headers` and `bodies` in one call: each compares the whole listing.
        Messages may be passed that nobody asked for, such as known ones that are about
        to be deleted: if one turns out to be another message, it is identified again.

        :param contents: number -> the hashes of the message, ``None`` if it could not be
            read.
        """
        return _finish(self.compared_steps(contents))

    def compared_steps(
        self, contents: Mapping[int, Content | None]
    ) -> Steps[Identified[RowT]]:
        """Do the same as `compared` in slices; the value is the generator's result."""
        raise NotImplementedError


def uidl_given_up(account: AccountRow, now: float) -> bool:
    """
    Return whether UIDL has failed for so long that the account goes on without it.

    :param now: seconds since 1970.
    """
    return (
        account.uidl_failures >= UIDL_LOOKS
        and account.uidl_failed_at is not None
        and now - account.uidl_failed_at >= UIDL_SECONDS
    )


def take_inventory(
    stat: Stat | None,
    sizes: Sequence[Listing] | POP3Error,
    uids: Sequence[UID] | POP3Error,
    account: AccountRow | None = None,
    now: float = 0.0,
) -> Inventory:
    """
    Return what can be believed of the listings of one session.

    :param stat: the reply to STAT; ``None`` if it was refused.
    :param sizes: the reply to LIST, or its error.
    :param uids: the reply to UIDL, or its error.  Pass ``[]`` if it was not sent.
    :param account: what is known about the account.  Without it, a refused UIDL always
        raises; pass ``[]`` for a server that is known to have no UIDL.
    :param now: seconds since 1970; needed to give up UIDL after a day.
    :raises ListingRefusedError: the look ends, and nothing may be fetched: LIST was
        refused, or UIDL was refused in a way that may pass.
    """
    return _finish(take_inventory_steps(stat, sizes, uids, account, now))


def take_inventory_steps(
    stat: Stat | None,
    sizes: Sequence[Listing] | POP3Error,
    uids: Sequence[UID] | POP3Error,
    account: AccountRow | None = None,
    now: float = 0.0,
) -> Steps[Inventory]:
    """Do the same as `take_inventory` in slices."""
    raise NotImplementedError


def identify(
    listing: Inventory,
    rows: Iterable[RowT],
    account: AccountRow | None = None,
    *,
    all_headers: bool = False,
) -> Identified[RowT]:
    """
    Compare a listing with the messages that are remembered.

    :param listing: the result of `take_inventory`.
    :param rows: every message that is remembered, also deleted ones.
    :param account: what is known about the account.  Without it, an account with no
        rows is one that was never looked at.
    :param all_headers: ask for the headers of new messages too, so that they can be
        recognised later although they are not retrieved (``existing = "seen"``).
    """
    return _finish(identify_steps(listing, rows, account, all_headers=all_headers))


def identify_steps(
    listing: Inventory,
    rows: Iterable[RowT],
    account: AccountRow | None = None,
    *,
    all_headers: bool = False,
) -> Steps[Identified[RowT]]:
    """Do the same as `identify` in slices; the value is the generator's result."""
    raise NotImplementedError


def _finish(steps: Steps[_T]) -> _T:
    """Run a computation to its end."""
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            result: _T = stop.value
            return result
