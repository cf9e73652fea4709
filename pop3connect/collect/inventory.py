"""
Judges the listings of one session: what can be believed, and whether they are complete.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

import attrs

from ..errors import CommandError, POP3Error
from ..results import UID, Listing, Stat
from .records import AccountRow
from .steps import Steps, finish, slices

__all__ = [
    "MAX_UID",
    "UIDL_LOOKS",
    "UIDL_SECONDS",
    "UNSTABLE_LOOKS",
    "Inventory",
    "ListingRefusedError",
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


class ListingRefusedError(POP3Error):
    """
    The mailbox cannot be listed in this session; nothing may be concluded from that.

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
        that cannot be known.  Store it in `AccountRow.listing` if every message is in
        the journal, and none was deleted in this session or had returned: after a
        confirmed deletion, an equal listing need not be the same mail.
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
    uids: Sequence[UID] | POP3Error | None,
    account: AccountRow | None = None,
    now: float = 0.0,
) -> Inventory:
    """
    Return what can be believed of the listings of one session.

    :param stat: the reply to STAT; ``None`` if it was refused.
    :param sizes: the reply to LIST, or its error.
    :param uids: the reply to UIDL, or its error; ``None`` if it was not sent, because
        the server has no UIDL.
    :param account: the account's row in the journal.  Without it, every refused UIDL
        raises.
    :param now: seconds since 1970; needed to give up UIDL after a day.
    :raises ListingRefusedError: the look ends, and nothing may be fetched: LIST was
        refused, or UIDL was refused in a way that may pass.
    """
    return finish(take_inventory_steps(stat, sizes, uids, account, now))


def take_inventory_steps(
    stat: Stat | None,
    sizes: Sequence[Listing] | POP3Error,
    uids: Sequence[UID] | POP3Error | None,
    account: AccountRow | None = None,
    now: float = 0.0,
) -> Steps[Inventory]:
    """Do the same as `take_inventory` in slices; the generator returns the value."""
    if stat is not None and stat.count == 0 and _is_empty(sizes) and _is_empty(uids):
        return Inventory({}, {}, complete=True, digest=hashlib.sha256().hexdigest())
    if isinstance(sizes, POP3Error):
        if isinstance(uids, POP3Error) and not isinstance(uids, CommandError):
            # A session that ends in UIDL has no answer to LIST either.
            raise _no_uids(uids) from uids
        raise ListingRefusedError(
            "the messages cannot be listed in this session", refusal=sizes
        ) from sizes
    uid_rows = _uid_rows(uids, account, now)
    troubles: list[str] = []

    listed: dict[int, int] = {}
    for listings in slices(sizes):
        listed.update(listings)
        yield len(listings)
    uid_of: dict[int, str] = {}
    for pairs in slices(uid_rows or ()):
        uid_of.update(pairs)
        yield len(pairs)
    if uid_rows is None:
        troubles.append(f"there is no UIDL; {_BY_CONTENT}")
        # Where UIDL has worked before, the listing lacks something.
        agree = account is None or not account.uids_seen
    else:
        agree = len(uid_rows) == len(uid_of) and uid_of.keys() == listed.keys()
    agree = agree and len(sizes) == len(listed)
    if stat is None:
        troubles.append("STAT was refused")
    elif stat.count != len(listed) or not agree:
        troubles.append("STAT, LIST and UIDL do not name the same messages")
    complete = agree and stat is not None and stat.count == len(listed)

    believed = yield from _believed(uid_of, listed, troubles)
    digest = ""
    if complete and len(believed) == len(listed):
        digest = yield from _digest(listed, believed)
    # Message numbers say nothing about a message.
    if believed and all(uid == str(number) for number, uid in believed.items()):
        troubles.append(f"the unique-ids are the message numbers; {_BY_CONTENT}")
        believed = {}
    elif account is not None and account.uids_changed >= UNSTABLE_LOOKS:
        troubles.append(f"the unique-ids differ in each session; {_BY_CONTENT}")
        believed = {}
    return Inventory(listed, believed, complete, digest, tuple(troubles))


_BY_CONTENT = "messages are recognised by their content"


def _is_empty(rows: Sequence[object] | POP3Error | None) -> bool:
    """Return whether a listing is empty, or refused as servers refuse an empty one."""
    return isinstance(rows, CommandError) if isinstance(rows, POP3Error) else not rows


def _uid_rows(
    uids: Sequence[UID] | POP3Error | None, account: AccountRow | None, now: float
) -> Sequence[UID] | None:
    """Return the rows of UIDL; ``None`` if the account does without it."""
    if not isinstance(uids, POP3Error):
        return uids
    if account is not None:
        never = (
            isinstance(uids, CommandError)
            and (uids.code or "").split("/")[0] not in ("SYS", "IN-USE")
            and not account.uids_seen
        )
        if never or uidl_given_up(account, now):
            return None
    raise _no_uids(uids) from uids


def _no_uids(refusal: POP3Error) -> ListingRefusedError:
    return ListingRefusedError(
        "the unique-ids cannot be listed in this session", refusal=refusal
    )


def _believed(
    uid_of: Mapping[int, str], listed: Mapping[int, int], troubles: list[str]
) -> Steps[dict[int, str]]:
    """Return the unique-ids that tell messages apart."""
    counts: Counter[str] = Counter()
    for uids in slices(list(uid_of.values())):
        counts.update(uids)
        yield len(uids)
    believed: dict[int, str] = {}
    blank = repeated = False
    for pairs in slices(list(uid_of.items())):
        for number, uid in pairs:
            if number not in listed:
                continue
            if not uid.strip():
                blank = True
            elif counts[uid] > 1:
                repeated = True
            elif len(uid) <= MAX_UID and uid.isascii() and uid.isprintable():
                believed[number] = uid
            else:
                octets = uid.encode("utf-8", "surrogatepass")
                believed[number] = hashlib.sha256(octets).hexdigest()
        yield len(pairs)
    if blank:
        troubles.append(f"some unique-ids are blank; {_BY_CONTENT}")
    if repeated:
        troubles.append(f"some messages have the same unique-id; {_BY_CONTENT}")
    if uid_of and listed.keys() - uid_of.keys():
        troubles.append(f"UIDL leaves out some messages; {_BY_CONTENT}")
    return believed


def _digest(listed: Mapping[int, int], uids: Mapping[int, str]) -> Steps[str]:
    digest = hashlib.sha256()
    for numbers in slices(sorted(listed)):
        lines = [f"{number} {listed[number]} {uids[number]}\n" for number in numbers]
        digest.update("".join(lines).encode("ascii"))
        yield len(numbers)
    return digest.hexdigest()
