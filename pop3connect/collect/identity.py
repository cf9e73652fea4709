"""
Recognises messages from one session to the next: compares what a server lists with what
is known, without believing any single answer.

Pure functions: values in, values out.  A look at a mailbox goes like this::

    inventory = take_inventory(stat, sizes, uids, account, now)
    found = identify(inventory, rows, account)
    while not found.decided:
        contents = {}
        for number in found.headers:      # by TOP; None if that fails
            contents[number] = content_of(header)
        for number in found.bodies:       # by RETR
            contents[number] = whole_content_of(message)
        found = found.compared(contents)
    # found.known, found.new, found.absent

Each of the three takes up to two seconds for 250,000 messages; each has a
twin whose name ends in ``_steps``, a generator that does the same in slices.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Generic, Protocol, TypeVar

import attrs

from .inventory import (
    Inventory,
    ListingRefusedError,
    take_inventory,
    take_inventory_steps,
    uidl_given_up,
)
from .records import AccountRow, Content
from .steps import Steps, finish, slices

__all__ = [
    "HELD_KNOWN",
    "HELD_NEW",
    "HELD_USUAL",
    "MOVED",
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

HELD_KNOWN = 20
"""With fewer messages in its last listing, an account is never held."""

HELD_NEW = 1000
"""With fewer new messages, an account is never held."""

HELD_USUAL = 10
"""The new messages that hold an account, as a multiple of the usual number."""

MOVED = 3
"""Messages with new unique-ids and known headers are taken for the known ones if there
are at least this many, and half as many as were listed last: the mailbox was moved.
Fewer may be second copies, such as those of a mailing list: their bodies are compared.
"""


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
    :ivar size: its size in LIST; 0: it must be read to be recognised.
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


@attrs.frozen
class Identified(Generic[RowT]):
    """
    Which message of a listing is which; final only if it is `decided`.

    :ivar inventory: the listing.
    :ivar known: number -> the row of the message.  If the row has no header hash, the
        message could not be read before: pass its content to `compared` when it is.
    :ivar new: the numbers of messages that have no row, in order.
    :ivar absent: the rows that are not in this listing, also those of deleted messages.
        Only a complete listing proves that they are missing.  A row that an `unread`
        message may belong to is not here and not in `known`: keep it as it is.
    :ivar renamed: the known ones whose row takes another unique-id, the one in
        `Inventory.uids`.
    :ivar resized: the known ones whose row takes another size, the one in
        `Inventory.sizes`.
    :ivar returned: the known ones whose deletion had been confirmed.
    :ivar unread: the numbers of messages that could not be read, so that it is not
        known whether they are new.
    :ivar headers: the numbers of messages whose header must be read to decide.
    :ivar bodies: the numbers of messages that must be read whole to decide, because
        their headers are not enough or could not be read.
    :ivar contents: what was read of each message.
    :ivar top_differs: whether TOP gave another header than RETR of a message that was
        read whole to decide.
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
    top_differs: bool
    uids_changed: int
    held: str
    _basis: _Basis[RowT] = attrs.field(repr=False, eq=False)

    @property
    def decided(self) -> bool:
        """Whether nothing has to be read any more."""
        return not self.headers and not self.bodies

    def compared(self, contents: Mapping[int, Content | None]) -> Identified[RowT]:
        """
        Return the next step, with what was read.

        Pass all of `headers` and `bodies` in one call: each compares the whole listing.
        Others may be passed too, such as a known message that is about to be deleted:
        if it turns out to be another message, it is identified again.

        :param contents: number -> the hashes of the message; ``None`` if it could not
            be read.
        """
        return finish(self.compared_steps(contents))

    def compared_steps(
        self, contents: Mapping[int, Content | None]
    ) -> Steps[Identified[RowT]]:
        """Do the same as `compared` in slices; the generator returns the value."""
        basis = yield from self._basis.with_contents(
            contents, self.headers, self.bodies
        )
        return (yield from _Comparison(basis).steps())


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
    :param account: the account's row in the journal.
    :param all_headers: ask for the headers of new messages too, so that they can be
        recognised later although they are not retrieved (``existing = "seen"``).
    """
    return finish(identify_steps(listing, rows, account, all_headers=all_headers))


def identify_steps(
    listing: Inventory,
    rows: Iterable[RowT],
    account: AccountRow | None = None,
    *,
    all_headers: bool = False,
) -> Steps[Identified[RowT]]:
    """Do the same as `identify` in slices; the generator returns the value."""
    return _Comparison(_Basis(listing, tuple(rows), account, all_headers)).steps()


@attrs.frozen
class _Basis(Generic[RowT]):
    """What a comparison starts from; see `Identified`."""

    inventory: Inventory
    rows: tuple[RowT, ...]
    account: AccountRow | None
    all_headers: bool
    contents: Mapping[int, Content] = attrs.field(factory=dict)
    no_header: frozenset[int] = frozenset()
    """Messages whose header could not be read by TOP."""

    no_body: frozenset[int] = frozenset()
    """Messages that could not be read by RETR."""

    top_differs: bool = False

    def with_contents(
        self,
        contents: Mapping[int, Content | None],
        headers: frozenset[int],
        bodies: frozenset[int],
    ) -> Steps[_Basis[RowT]]:
        """
        Add what was read.

        :param headers: the messages whose header was asked for.
        :param bodies: those that were to be read whole.
        """
        merged = dict(self.contents)
        no_header = set(self.no_header)
        no_body = set(self.no_body)
        top_differs = self.top_differs
        for numbers in slices(list(contents)):
            for number in numbers:
                content = contents[number]
                if content is None or not content.body:
                    # An answer that is not enough is not asked for again.
                    if number in bodies:
                        no_body.add(number)
                    elif number in headers and content is None:
                        no_header.add(number)
                if content is not None:
                    old = merged.get(number)
                    differs = old is not None and old.header != content.header
                    if old is None or content.body or differs:
                        merged[number] = content
                    if number in bodies and differs:
                        top_differs = True
            yield len(numbers)
        return attrs.evolve(
            self,
            contents=merged,
            no_header=frozenset(no_header),
            no_body=frozenset(no_body),
            top_differs=top_differs,
        )


class _Groups:
    """
    Numbers by header and size.

    Nearly every group has one member, which is kept without a list: very many lists
    would keep the garbage collector busy for longer than a slice takes.
    """

    def __init__(self) -> None:
        self._members: dict[tuple[str, int], int | list[int]] = {}

    def add(self, header: str, size: int, member: int) -> None:
        """Add a member to a group."""
        group = (header, size)
        members = self._members.get(group)
        if members is None:
            self._members[group] = member
        elif isinstance(members, int):
            self._members[group] = [members, member]
        else:
            members.append(member)

    def of(self, group: tuple[str, int]) -> list[int]:
        """Return the members of a group, in the order in which they were added."""
        members = self._members.get(group, [])
        return [members] if isinstance(members, int) else members

    def count(self, group: tuple[str, int]) -> int:
        """Return how many members a group has."""
        return len(self.of(group))

    def keys(self) -> list[tuple[str, int]]:
        """Return the groups."""
        return list(self._members)

    def __contains__(self, group: tuple[str, int]) -> bool:
        """Return whether a group has members."""
        return group in self._members

    def __bool__(self) -> bool:
        """Return whether there are groups."""
        return bool(self._members)


class _Comparison(Generic[RowT]):
    """
    One comparison of a listing with rows: first by unique-id, then by content.

    It starts from the beginning at each step.  While something is to be read, what it
    finds is provisional.
    """

    def __init__(self, basis: _Basis[RowT]) -> None:
        self._basis = basis
        self._rows = basis.rows
        self._sizes = basis.inventory.sizes
        self._uids = basis.inventory.uids
        self._contents = basis.contents
        self._numbers = sorted(basis.inventory.sizes)
        self._known: dict[int, int] = {}
        """Number -> index of the row."""

        self._taken = bytearray(len(basis.rows))
        self._unsized: set[str] = set()
        """Headers of rows whose size is not known, or was never told."""

        self._otherwise: dict[int, int] = {}
        """Number -> index of a row for a message that would be new without it."""

        self._new: list[int] = []
        self._repeated: set[str] = set()
        """Headers that several rows have."""

        self._unread: set[int] = set()
        self._headers: set[int] = set()
        self._bodies: set[int] = set()

    def steps(self) -> Steps[Identified[RowT]]:
        """Compare in slices."""
        rest = yield from self._by_uid()
        by_uid = len(self._known)
        if rest:
            yield from self._by_content(rest)
        return (yield from self._result(by_uid))

    # -- what must be read

    def _ask_header(self, number: int) -> None:
        if number in self._basis.no_header:
            self._ask_body(number)
        else:
            self._headers.add(number)

    def _ask_body(self, number: int) -> None:
        if number in self._basis.no_body:
            self._unread.add(number)
        else:
            self._bodies.add(number)

    def _match(self, number: int, index: int) -> None:
        self._known[number] = index
        self._taken[index] = 1

    def _add_new(self, number: int) -> None:
        if number in self._otherwise:
            self._match(number, self._otherwise[number])
        else:
            self._new.append(number)

    # -- by unique-id

    def _by_uid(self) -> Steps[list[int]]:
        """Match messages by unique-id; return the numbers of the others."""
        rows, contents = self._rows, self._contents
        first: dict[str, int] = {}
        others: dict[str, list[int]] = {}
        headers: set[str] = set()
        met: set[str] = set()
        for read in slices(list(contents)):
            headers.update([contents[number].header for number in read])
            yield len(read)
        for indices in slices(range(len(rows))):
            for index in indices:
                row = rows[index]
                if row.uid and first.setdefault(row.uid, index) != index:
                    others.setdefault(row.uid, []).append(index)
                if row.header_hash in headers:
                    # The set keeps those that no row had so far.
                    headers.remove(row.header_hash)
                    met.add(row.header_hash)
                elif row.header_hash in met:
                    self._repeated.add(row.header_hash)
            yield len(indices)
        rest: list[int] = []
        for numbers in slices(self._numbers):
            for number in numbers:
                uid = self._uids.get(number, "")
                found = first.get(uid)
                if found is None:
                    rest.append(number)
                    continue
                row = rows[found]
                if (
                    row.deleted_at is None
                    and row.size == self._sizes[number]
                    and number not in contents
                    and uid not in others
                ):
                    self._match(number, found)
                elif not self._by_same_uid(number, [found, *others.get(uid, ())]):
                    rest.append(number)
            yield len(numbers)
        return rest

    def _by_same_uid(self, number: int, indices: list[int]) -> bool:
        """
        Match a message with one of the rows that have its unique-id.

        :return: whether it is one of them, or must be read first.
        """
        rows, size = self._rows, self._sizes[number]
        content = self._contents.get(number)
        alive = [index for index in indices if rows[index].deleted_at is None]
        likely = [index for index in alive if rows[index].size == size]
        if content is None:
            readable = any(rows[index].header_hash for index in indices)
            # A row whose message could not be read may be any of the others.
            told = not readable or any(rows[index].header_hash for index in likely)
            if len(likely) == 1 and (told or number in self._basis.no_body):
                self._match(number, likely[0])
                return True
            if readable:
                self._ask_header(number)
                return True
        else:
            gone = [index for index in indices if rows[index].deleted_at is not None]
            others = [index for index in alive if rows[index].size != size]
            for index in likely + others + gone:
                same = self._is_same(content, size, rows[index])
                if same is None:
                    self._ask_body(number)
                    return True
                if same:
                    self._match(number, index)
                    return True
            if not content.body and any(rows[index].header_hash for index in indices):
                # TOP may lie, or have other fields than RETR.
                self._ask_body(number)
                return True
        for index in likely:
            if not rows[index].header_hash:
                # It may be one that was listed without its unique-id meanwhile.
                self._otherwise[number] = index
        return False

    def _is_same(self, content: Content, size: int, row: RowT) -> bool | None:
        """
        Return whether a message is that of a row with the same unique-id.

        :return: ``None`` if its body must be read.
        """
        if content.header != row.header_hash:
            return False
        if content.body and row.body_hash and not row.identified:
            return content.body == row.body_hash
        if size == row.size and row.deleted_at is None:
            return True
        if content.identified and content.header not in self._repeated:
            return True
        if not row.body_hash:
            return size == row.size
        return content.body == row.body_hash if content.body else None

    # -- by content

    def _by_content(self, rest: list[int]) -> Steps[None]:
        """Match messages that have no unique-id, or one that no row has."""
        rows = self._rows
        # A mailbox without known unique-ids may have been moved to another server, and
        # servers count sizes differently.
        moved = not (self._known or self._headers or self._bodies or self._unread)
        alive = _Groups()
        gone = _Groups()
        unreadable: dict[int, list[int]] = {}
        sizes: set[int] = set()
        for indices in slices(range(len(rows))):
            for index in indices:
                if self._taken[index]:
                    continue
                row = rows[index]
                if row.deleted_at is not None:
                    # A deleted message rarely comes back with another unique-id.  Equal
                    # reports without a Message-ID are more common.
                    if row.header_hash and row.identified:
                        sizes.add(row.size)
                        gone.add(row.header_hash, row.size, index)
                elif row.header_hash:
                    sizes.add(row.size)
                    alive.add(row.header_hash, row.size, index)
                    if not row.size:
                        self._unsized.add(row.header_hash)
                elif not row.uid:
                    unreadable.setdefault(row.size, []).append(index)
            yield len(indices)

        groups = _Groups()
        for numbers in slices(rest):
            for number in numbers:
                size = self._sizes[number]
                content = self._contents.get(number)
                if content is not None:
                    groups.add(content.header, size, number)
                elif number not in self._uids and unreadable.get(size):
                    self._ask_header(number)
                    if number in self._unread:
                        # It could not be read before either.
                        self._unread.remove(number)
                        self._match(number, unreadable[size].pop())
                elif size in sizes or (alive and self._may_differ(number, moved)):
                    self._ask_header(number)
                else:
                    self._add_new(number)
            yield len(numbers)
        yield from self._by_header(groups, alive, gone, moved)

    def _may_differ(self, number: int, moved: bool) -> bool:
        """Return whether a message can be one that had another size."""
        return moved or number not in self._uids

    def _by_header(
        self, groups: _Groups, alive: _Groups, gone: _Groups, moved: bool
    ) -> Steps[None]:
        """
        Match messages whose header was read.

        :param groups: the numbers of these messages.
        :param alive: the rows that are left.
        :param gone: the rows that are left of deleted messages.
        :param moved: whether messages may have other sizes than before.
        """
        if self._headers:
            # How many are alike is not known yet.
            return
        alike = 0
        for read in slices(groups.keys()):
            for group in read:
                alike += min(groups.count(group), alive.count(group))
            yield len(read)
        many = self._are_many(alike)
        left: dict[str, list[int]] = {}
        for read in slices(groups.keys()):
            for group in read:
                # One that could not be read before comes after those that were known.
                numbers = sorted(groups.of(group), key=self._otherwise.__contains__)
                by_header = many and group[0] not in self._repeated
                if not any(number in self._uids for number in numbers):
                    by_header = group not in gone
                numbers = self._pair(numbers, alive.of(group), by_header=by_header)
                # One that has a row was listed before its equal twin was deleted: it
                # has not been restored.
                kept = [number for number in numbers if number in self._otherwise]
                numbers = [number for number in numbers if number not in kept]
                numbers = self._pair(numbers, gone.of(group), by_header=False) + kept
                for number in numbers:
                    if self._may_differ(number, moved) or group[0] in self._unsized:
                        left.setdefault(group[0], []).append(number)
                    else:
                        self._add_new(number)
            yield len(read)
        if self._bodies:
            return
        others: dict[str, list[int]] = {}
        for known in slices(alive.keys() if left else ()):
            for group in known:
                if group[0] in left:
                    others.setdefault(group[0], []).extend(
                        index for index in alive.of(group) if not self._taken[index]
                    )
            yield len(known)
        alike = sum(
            min(len(left[header]), len(indices))
            for header, indices in others.items()
            if self._contents[left[header][0]].identified
        )
        moved = moved and self._are_many(alike)
        unknown: list[int] = []
        for headers in slices(list(left)):
            for header in headers:
                numbers = left[header]
                indices = others.get(header, [])
                if not moved or not self._contents[numbers[0]].identified:
                    indices = [i for i in indices if self._rows[i].body_hash]
                by_header = moved and header not in self._repeated
                unknown += self._pair(numbers, indices, by_header=by_header)
            yield len(headers)
        yield from self._by_retrieval(unknown)

    def _by_retrieval(self, numbers: list[int]) -> Steps[None]:
        """
        Take messages for new, unless RETR may show that they are known.

        There are servers whose TOP has other fields than RETR, and rows have the hash
        of what RETR brought.  A message without a unique-id is read whole if its size
        is that of a row that is left.  Where TOP is known to differ, or nothing in the
        listing is recognised and one message shows that it differs, all are.

        :param numbers: messages whose header no row has.
        """
        rows, sizes = self._rows, self._sizes
        doubtful: set[int] = set()
        compared = False
        for part in slices(numbers):
            for number in part:
                if number not in self._uids:
                    if self._contents[number].body:
                        compared = True
                    else:
                        doubtful.add(number)
            yield len(part)
        left: set[int] = set()
        for indices in slices(range(len(rows)) if doubtful else ()):
            left.update(
                [
                    rows[index].size
                    for index in indices
                    if not self._taken[index]
                    and rows[index].body_hash
                    and rows[index].deleted_at is None
                ]
            )
            yield len(indices)
        sample: int | None = None
        if left and not compared and not self._known:
            sample = min(doubtful, key=sizes.__getitem__)
        # A size of 0 says nothing.
        every = bool(left) and (self._basis.top_differs or 0 in left)
        for part in slices(numbers):
            for number in part:
                if number in doubtful and (
                    every or number == sample or sizes[number] in left
                ):
                    self._ask_body(number)
                else:
                    self._add_new(number)
            yield len(part)

    def _are_many(self, alike: int) -> bool:
        """Return whether enough messages are like known ones to be taken for them."""
        return alike >= MOVED and 2 * alike >= self._listed()

    def _pair(
        self, numbers: list[int], indices: list[int], *, by_header: bool
    ) -> list[int]:
        """
        Match messages with rows that have the same header.

        :param by_header: whether the header is enough if it has a Message-ID.
        :return: the messages that have none of these rows.
        """
        if not numbers or not indices:
            return numbers
        rows = self._rows
        by_body: dict[str, list[int]] = {}
        # The last of each list is taken first.
        for index in reversed(indices):
            by_body.setdefault(rows[index].body_hash, []).append(index)
        identified = self._contents[numbers[0]].identified
        enough = len(numbers) <= len(indices) and len(by_body) == 1
        if by_header and identified and enough:
            # Equal messages are counted: it does not matter which is which.
            for number, index in zip(numbers, indices, strict=False):
                self._match(number, index)
            return []
        without = by_body.pop("", [])
        left: list[int] = []
        for number in numbers:
            body = self._contents[number].body
            if by_body and not body:
                self._ask_body(number)
            elif by_body.get(body):
                self._match(number, by_body[body].pop())
            else:
                left.append(number)
        for number, index in zip(left, reversed(without), strict=False):
            self._match(number, index)
        return left[len(without) :]

    # -- the result

    def _listed(self) -> int:
        """Return how many known messages were listed last."""
        if self._basis.account is not None:
            return self._basis.account.listed
        return sum(row.deleted_at is None for row in self._rows)

    def _result(self, by_uid: int) -> Steps[Identified[RowT]]:
        basis, rows, uids = self._basis, self._rows, self._uids
        known: dict[int, RowT] = {}
        renamed: dict[int, RowT] = {}
        resized: dict[int, RowT] = {}
        returned: dict[int, RowT] = {}
        changed = 0
        for numbers in slices(self._numbers):
            for number in numbers:
                if number not in self._known:
                    continue
                row = known[number] = rows[self._known[number]]
                uid = uids.get(number, row.uid)
                if uid != row.uid:
                    renamed[number] = row
                    changed += bool(row.uid) and row.deleted_at is None
                if row.size != self._sizes[number]:
                    resized[number] = row
                if row.deleted_at is not None:
                    returned[number] = row
            yield len(numbers)
        absent: list[RowT] = []
        # A message that could not be read may be one of these.
        unread_sizes = {self._sizes[number] for number in self._unread}
        unread_uids = {uids[number] for number in self._unread if number in uids}
        for indices in slices(range(len(rows))):
            absent += [
                rows[index]
                for index in indices
                if not self._taken[index]
                and rows[index].size not in unread_sizes
                and rows[index].uid not in unread_uids
            ]
            yield len(indices)
        if basis.all_headers:
            for number in self._new:
                if number not in basis.contents and number not in basis.no_header:
                    self._headers.add(number)
        uids_changed = 0 if basis.account is None else basis.account.uids_changed
        if by_uid:
            uids_changed = 0
        elif changed:
            uids_changed += 1
        return Identified(
            inventory=basis.inventory,
            known=known,
            new=tuple(sorted(self._new)),
            absent=tuple(absent),
            renamed=renamed,
            resized=resized,
            returned=returned,
            unread=frozenset(self._unread),
            headers=frozenset(self._headers),
            bodies=frozenset(self._bodies),
            contents=basis.contents,
            top_differs=basis.top_differs,
            uids_changed=uids_changed,
            held=self._held(),
            basis=basis,
        )

    def _held(self) -> str:
        account = self._basis.account
        if self._known or self._headers or self._bodies:
            return ""
        if account is not None and (account.looked_at is None or account.released_as):
            return ""
        usual = 0.0 if account is None else account.usual_new
        if self._listed() < HELD_KNOWN:
            return ""
        if len(self._new) <= max(HELD_NEW, HELD_USUAL * usual):
            return ""
        return (
            f"{len(self._new)} messages look new, and none of the {self._listed()}"
            " known ones is recognised"
        )
