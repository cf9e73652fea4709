"""
What a look does in one session: which messages are new, their retrieval and delivery,
and what is deleted on the server.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from ..client.ahead import answers
from ..destinations.base import Later, Mail
from ..destinations.incoming import Incoming
from ..errors import (
    CommandError,
    ConnectionLostError,
    POP3Error,
    ProtocolError,
    TimedOutError,
)
from ..handle import Handle, top_into
from .content import content_of, unused_key
from .identity import Identified, identify_steps
from .inventory import Inventory
from .journal import JournalError
from .outcome import HeldError, Plan, Planned
from .records import (
    GONE,
    LOST,
    AccountState,
    Content,
    DeliveryRow,
    DeliveryState,
    DueDelivery,
    MessageRow,
    MessageState,
    NewDelivery,
    NewMessage,
)
from .retrieval import AHEAD, Arrived, BrokenError, Header, Retrieval
from .rules import FIRST_LOOK
from .schedule import after_failed_retrieval
from .targets import Target
from .tools import sleep
from .wording import words

if TYPE_CHECKING:
    from .look import Look

__all__ = ["Session"]

log = Logger()

T = TypeVar("T")

SLOW = 30.0
"""Seconds that a look waits, after its last RETR, for destinations that may be slow."""

CHUNK = 256
"""Headers that are read before their messages are judged."""

SLICE = 5_000
"""Messages of a large mailbox that are looked at in one turn of the reactor."""

TOP_BREAKS = 2
"""Messages whose TOP ended a session, after which the server is not asked for TOP any
more: the headers come from RETR."""

HEADERS = 2 * 1024 * 1024
"""Bytes of headers that are kept, so that they are not read twice in one session."""

FULL_LISTING = range(50, 1000)
"""New messages of one look after which there may be more: some servers show a part of
the mailbox in each session.  Gmail shows 250."""

SHORT = "shorter than LIST says, twice the same: left on the server"
"""The reason of a message that was delivered although it looks cut off."""


@attrs.define
class Wanted:
    """
    A message to retrieve.

    :ivar row: its row, if it is known already.
    :ivar judged: whether the rules want it; ``False``: its header comes with it.
    """

    number: int
    size: int
    uid: str
    row: MessageRow | None = None
    judged: bool = True

    @property
    def mark(self) -> str:
        """What recognises it in the next session of this look."""
        return self.uid or f"{self.number} {self.size}"


_Skipped = tuple[Wanted, str, Content | None]
"""A message, the reason why it is skipped, and its hashes."""


class Session:
    """
    The part of a look that happens in one session, after the listing was read.

    :param chosen: the numbers of the messages that it is about; ``None``: all.
    :param fetch: whether anything is retrieved.
    :param backwards: whether the newest messages come first, and known ones are not
        read to prove them: messages have ended the sessions before.
    :param alone: a suspect: only this message is retrieved.
    """

    def __init__(
        self,
        look: Look,
        handle: Handle,
        inventory: Inventory,
        chosen: frozenset[int] | None,
        fetch: bool,
        backwards: bool,
        alone: MessageRow | None,
    ) -> None:
        self._look = look
        self._tools = look.tools
        self._journal = look.journal
        self._handle = handle
        self._inventory = inventory
        self._chosen = chosen
        self._fetch = fetch
        self._backwards = backwards
        self._alone = alone
        self._account = look.account
        self._rules = look.rules
        self._outcome = look.outcome
        # Whether nothing is ever deleted.
        self._kept = look.rules.delete_after(0.0) is None
        self._keys: set[str] = set()
        # Suspects of which nothing was read yet, by unique-id and size.
        self._unread: dict[tuple[str, int], MessageRow] = {}
        # Whether it is doubted which message is which; see `_doubt_retrieved`.
        self._doubt = False
        # The numbers of messages that came with another size than that in LIST.
        self._odd: set[int] = set()
        # Known messages whose headers are being read to prove them.
        self._proving: set[int] = set()
        # Headers that were read in this session.
        self._headers: dict[int, bytes] = {}
        self._headers_size = 0
        # Messages that were read whole to be compared, and may be new.
        self._whole: dict[int, Arrived] = {}
        # Why others could not be.
        self._refusals: dict[int, POP3Error] = {}
        # What was retrieved in this session, by the id of its row, and its number.
        self._retrieved: dict[int, int] = {}
        self._wanted: dict[int, Wanted] = {}
        self._direct = look.direct
        self._keeper: Any = (
            look.tools.spool if self._direct is None else self._direct.destination
        )

    async def run(self, rows: Sequence[MessageRow]) -> None:
        """
        Do all that is due, and end the session with QUIT.

        :param rows: all messages of the account.
        :raises BrokenError: a message ended the session.
        """
        look, outcome = self._look, self._outcome
        async for part in self._slices(rows):
            for row in part:
                self._keys.add(row.key)
                if row.header_hash:
                    self._doubt = self._doubt or not row.size
                elif row.uid and row.state is MessageState.SUSPECT:
                    self._unread[row.uid, row.size] = row
        try:
            found = await self._decide(rows)
            if look.dry_run:
                look.plan = await self._plan(found)
                await self._handle.disconnect()
                outcome.looked = True
                return
            if found.held:
                look.facts["state"] = AccountState.HELD
                held = HeldError(found.held, server=self._account.server)
                log.critical(
                    "{account}: held: {text}; see: pop3connect accounts release",
                    account=self._account.name,
                    text=found.held,
                    problem=held,
                )
                raise held
            self._report_unread(found)
            await self._note(found)
            left = await self._retrieve(found)
        finally:
            for arrived in self._whole.values():
                arrived.incoming.discard()
        await self._wait()
        marked = await self._delete(found)
        deleted_before = outcome.deleted
        await look.quit(self._handle, marked)
        deleted = outcome.deleted - deleted_before
        final = look.watcher.final
        outcome.delivered = sum(
            row.state is MessageState.DELIVERED for row in final.values()
        )
        outcome.waiting = sum(number not in final for number in self._retrieved)
        await self._remember(found, left, marked, deleted)

    def _key(self, wanted: Wanted, content: Content | None) -> str:
        """Return the key of a message."""
        if wanted.row is not None:
            return wanted.row.key
        name, keys = self._account.name, self._keys
        key = unused_key(name, wanted.uid, wanted.size, content, keys)
        keys.add(key)
        return key

    # -- which is which

    async def _decide(self, rows: Sequence[MessageRow]) -> Identified[MessageRow]:
        """Read what is needed to say which message is which, and prove what is due."""
        look = self._look
        found = await look.sliced(
            identify_steps(
                self._inventory,
                rows,
                self._account,
                all_headers=look.first and self._rules.existing != "new",
            )
        )
        tried: set[int] = set()
        while True:
            while not found.decided:
                contents = await self._read(found.headers, found.bodies)
                found = await look.sliced(found.compared_steps(contents))
            unproven: list[int] = []
            async for part in self._slices(found.known.items()):
                unproven += [
                    number
                    for number, row in part
                    if number not in found.contents
                    and number not in tried
                    and self._is_chosen(number)
                    and (self._deletable(row) or self._is_unclear(row))
                ]
            if not unproven:
                return found
            if self._backwards:
                look.unproven = True
                return found
            tried.update(unproven)
            self._proving = {
                number
                for number in unproven
                if found.known[number].state is not MessageState.SUSPECT
            }
            read = await self._read(unproven, ())
            refused = [number for number in self._proving if read.get(number) is None]
            if refused:
                read.update(await self._read((), refused))
            self._proving.clear()
            proofs = {number: c for number, c in read.items() if c is not None}
            if not proofs:
                return found
            found = await look.sliced(found.compared_steps(proofs))

    def _is_unclear(self, row: MessageRow) -> bool:
        """
        Return whether a message that was never read may be one that is known.

        Its retrieval may have been answered under the number of another one.
        """
        if row.state is not MessageState.SUSPECT or row.header_hash:
            return False
        if self._rules.fetch == "header":
            # It is never retrieved whole.
            return False
        return self._doubt or (self._alone is not None and row.id == self._alone.id)

    async def _slices(self, values: Collection[T]) -> AsyncGenerator[Sequence[T], None]:
        """Yield values in slices, and let the reactor work in between."""
        left = iter(values)
        while part := list(islice(left, SLICE)):
            yield part
            if len(part) == SLICE:
                await sleep(self._tools.reactor, 0)
                self._look.check()

    def _is_chosen(self, number: int) -> bool:
        return self._chosen is None or number in self._chosen

    def _deletable(self, row: MessageRow) -> bool:
        if self._kept:
            return False
        return row.reason != SHORT and self._rules.deletable(
            row, self._journal.now(), trusted=self._tools.trusted()
        )

    async def _read(
        self, headers: Iterable[int], bodies: Iterable[int]
    ) -> dict[int, Content | None]:
        """Read headers by TOP, and messages whole; ``None``: it could not be read."""
        contents: dict[int, Content | None] = {}
        alone = {number for number in headers if self._is_alone(number)}
        if alone:
            # TOP may be what the server fails at, and the message is retrieved anyway.
            headers = set(headers) - alone
            bodies = {*bodies, *alone}
        asked = [number for number in sorted(headers) if not self._passes(number)]
        async for number, header in self._tops(asked):
            contents[number] = None if header is None else content_of(header)
        whole = [number for number in sorted(bodies) if not self._passes(number)]
        if whole:
            await self._read_whole(whole, contents)
        for number in (*headers, *bodies):
            contents.setdefault(number, None)
        return contents

    def _is_alone(self, number: int) -> bool:
        """Return whether this session is for this message."""
        uid = self._inventory.uids.get(number, "")
        return self._alone is not None and uid != "" and uid == self._alone.uid

    def _passes(self, number: int) -> bool:
        """Return whether a message is passed over, because it ended a session."""
        if self._alone is not None:
            return False
        return self._want(number).mark in self._look.passed

    def _want(self, number: int, row: MessageRow | None = None) -> Wanted:
        return Wanted(
            number,
            self._inventory.sizes.get(number, 0),
            self._inventory.uids.get(number, ""),
            row,
        )

    async def _tops(
        self, numbers: Iterable[int]
    ) -> AsyncGenerator[tuple[int, bytes | None], None]:
        """Yield the header of each message; ``None``: the server refuses it."""
        asked: list[int] = []
        for number in numbers:
            if number in self._headers:
                yield number, self._headers[number]
            elif self._has_top(number):
                asked.append(number)
            else:
                yield number, None
        self._look.check()
        coming = answers(asked, self._top)
        at = 0
        try:
            async for number, answer in coming:
                at += 1
                if isinstance(answer, CommandError):
                    yield number, None
                    continue
                header = answer.complete()
                if self._headers_size < HEADERS:
                    self._headers[number] = header
                    self._headers_size += len(header)
                yield number, header
        except POP3Error as error:
            mark = self._want(asked[at]).mark
            self._look.memory.no_top.add(mark)
            broken = await self._broke(asked[at], error, (0, 0))
            if asked[at] in self._proving:
                # The next session may prove it by RETR.
                self._look.passed.discard(mark)
            raise broken from error
        finally:
            await coming.aclose()

    def _has_top(self, number: int) -> bool:
        """Return whether TOP is worth a try."""
        no_top = self._look.memory.no_top
        return len(no_top) < TOP_BREAKS and self._want(number).mark not in no_top

    def _top(self, number: int) -> Deferred[Header]:
        size = self._inventory.sizes.get(number, 0)
        header = Header(str(self._handle.server), number, size)
        return top_into(self._handle, number, header).addCallback(lambda _: header)

    async def _read_whole(
        self, numbers: Sequence[int], contents: dict[int, Content | None]
    ) -> None:
        async def take(group: list[Arrived]) -> None:
            for arrived in group:
                short = self._is_short(self._want(arrived.number), arrived)
                contents[arrived.number] = None if short else arrived.content
                if short and not self._is_alone(arrived.number):
                    self._refusals[arrived.number] = self._short_error(arrived)
                    arrived.incoming.discard()
                elif len(self._whole) < AHEAD and self._rules.fetch != "header":
                    self._whole[arrived.number] = arrived
                else:
                    arrived.incoming.discard()

        retrieval = self._retrieval(take)
        self._look.expect(sum(self._inventory.sizes.get(n, 0) for n in numbers))
        try:
            await retrieval.run(numbers, self._inventory.sizes)
        except BrokenError as error:
            raise await self._broke(
                error.number, error.error, error.received
            ) from error
        for number, refusal in retrieval.refused:
            contents[number] = None
            self._refusals[number] = refusal

    def _retrieval(
        self,
        take: Callable[[list[Arrived]], Awaitable[None]],
        ask: Callable[[int, Incoming], Deferred[int]] | None = None,
    ) -> Retrieval:
        look = self._look
        return Retrieval(
            self._tools,
            self._handle,
            self._keeper,
            self._account.name,
            take,
            ask=ask,
            estimate=self._rules.list_sizes == "estimate",
            going=self._going,
            progress=look.count,
        )

    def _going(self) -> bool:
        look = self._look
        full = self._direct is None and self._tools.spool.full
        return not full and not look.winding_down and look.ended is None

    def _report_unread(self, found: Identified[MessageRow]) -> None:
        """Name the messages that may be new or known, and could not be read."""
        outcome = self._outcome
        unread = 0
        for number in sorted(found.unread):
            error = self._refusals.get(number)
            if error is None or not self._is_chosen(number):
                continue
            unread += 1
            outcome.refused += 1
            outcome.error = outcome.error or error
            outcome.failed[self._want(number).mark] = error
            self._look.tell(
                f"unread {self._want(number).mark}",
                f"message {number} could not be read: {words(error)}",
                error,
            )
        if self._alone is None:
            self._look.unread = unread

    # -- what is noted before anything is retrieved

    async def _note(self, found: Identified[MessageRow]) -> None:
        """Note what the listing says about known messages."""
        journal, account, look = self._journal, self._account, self._look
        notes: list[Deferred[Any]] = []
        if found.renamed:
            notes.append(
                journal.renamed(
                    account,
                    {
                        row.id: self._inventory.uids.get(number, "")
                        for number, row in found.renamed.items()
                    },
                )
            )
        if found.resized:
            notes.append(
                journal.resized(
                    account,
                    {
                        row.id: self._inventory.sizes[number]
                        for number, row in found.resized.items()
                    },
                )
            )
        if found.returned:
            key = next(iter(found.returned.values())).key
            look.tell(
                "returned",
                f"the server has messages again whose deletion it had confirmed, such "
                f"as {key}; they are not delivered again",
            )
            notes.append(
                journal.undeleted(account, [r.id for r in found.returned.values()])
            )
        times: dict[int, float | None] = {}
        present: list[int] = []
        async for known in self._slices(found.known.values()):
            for row in known:
                if row.missing_since is not None:
                    present.append(row.id)
                at = self._delete_after(row)
                if at != row.delete_after:
                    times[row.id] = at
        if times:
            notes.append(journal.delete_times(account, times))
        if found.contents:
            # Their messages turned out to be known.
            read = {self._inventory.uids.get(n) for n in found.contents} - {None}
            same = [
                row.id
                for row in found.absent
                if row.uid in read
                and row.state is MessageState.SUSPECT
                and not row.header_hash
            ]
            if same:
                notes.append(journal.superseded(account, same))
        if self._inventory.complete:
            gone: list[int] = []
            lost: dict[int, str] = {}
            absent: list[int] = []
            async for missing in self._slices(found.absent):
                for row in missing:
                    absent.append(row.id)
                    if row.state is MessageState.DELIVERED and self._deletable(row):
                        # One that is doubted may be there under another unique-id.
                        if row.size:
                            gone.append(row.id)
                    elif row.state is MessageState.SUSPECT and row.reason == LOST:
                        lost[row.id] = GONE
            if gone:
                notes.append(journal.delete_confirmed(account, gone))
            if lost:
                notes.append(journal.set_aside(account, lost))
            notes.append(
                journal.listed(
                    account,
                    present=present,
                    absent=absent,
                    forget_after=look.forget_after,
                )
            )
        for note in notes:
            await note

    def _delete_after(self, row: MessageRow) -> float | None:
        """Return when a message is to be deleted by the rules of today."""
        if row.state is not MessageState.DELIVERED:
            return row.delete_after
        if row.delivered_at is None or row.reason == SHORT:
            return None
        return self._rules.delete_after(row.delivered_at)

    # -- what is retrieved

    async def _retrieve(self, found: Identified[MessageRow]) -> int:
        """Retrieve the wanted messages; return how many are left for later."""
        look, outcome = self._look, self._outcome
        candidates = await self._candidates(found)
        alone = self._alone
        if alone is not None:
            candidates = [
                self._want(number, row)
                for number, row in found.known.items()
                if row.id == alone.id
            ]
        if not self._fetch or not look.may_retrieve():
            outcome.left = len(candidates)
            return outcome.left
        wanted, left = await self._judge(candidates, found.contents)
        if self._backwards:
            wanted.reverse()
        self._wanted = {each.number: each for each in wanted}
        look.expect(sum(e.size for e in wanted if e.number not in self._whole))
        if wanted:
            await look.prepare()
        await self._retrieve_wanted(wanted)
        # Shut down, or held, in between.
        look.check()
        left += len(self._wanted)
        if alone is None:
            outcome.left = left
            if look.login_delay and not look.winding_down and outcome.new < look.limit:
                await self._retrieve_suspect(found)
        return left

    async def _retrieve_suspect(self, found: Identified[MessageRow]) -> None:
        """Try a suspect after the others, if it cannot have a separate session."""
        look = self._look
        suspects = {
            row.id: number
            for number, row in found.known.items()
            if row.state is MessageState.SUSPECT and row.reason != LOST
        }
        rows = [found.known[number] for number in suspects.values()]
        for row in look.in_turn(rows):
            look.memory.turns[row.id] = self._journal.now()
            await self._wait()
            self._alone = row
            wanted, _ = await self._judge([self._want(suspects[row.id], row)], {})
            self._wanted = {each.number: each for each in wanted}
            await self._retrieve_wanted(wanted)
            self._alone = None

    async def _candidates(self, found: Identified[MessageRow]) -> list[Wanted]:
        """Return the messages that may have to be retrieved, in order."""
        look = self._look
        wanted: list[Wanted] = []
        async for part in self._slices(found.new):
            wanted += [self._want(n) for n in part if self._is_chosen(n)]
        there = bad = before = 0
        kept: list[tuple[int, MessageRow]] = []
        back: set[int] = set()
        bad_before: dict[str, tuple[int, MessageRow]] = {}
        passed_over: Counter[str] = Counter()
        async for known in self._slices(found.known.items()):
            for number, row in known:
                if not self._is_chosen(number):
                    continue
                if row.state is MessageState.SUSPECT:
                    look.suspects = True
                    bad_before[self._want(number).mark] = number, row
                    if row.reason == LOST:
                        wanted.append(self._want(number, row))
                    else:
                        bad += 1
                elif row.state is MessageState.SKIPPED:
                    if self._rules.stands(row.reason):
                        there += 1
                        passed_over[row.reason] += 1
                    else:
                        wanted.append(self._want(number, row))
                elif row.state is MessageState.RETRIEVED:
                    kept.append((number, row))
                elif row.state is not MessageState.SET_ASIDE:
                    there += 1
                    before += 1
                elif row.reason == GONE:
                    # A listing without it was wrong.
                    back.add(row.id)
                    wanted.append(self._want(number, row))
                else:
                    there += 1
                    bad += 1
                    bad_before[self._want(number).mark] = number, row
        if back and not look.dry_run:
            await self._journal.retry(back)
        missing = await self._missing([row for _, row in kept])
        if missing and not look.dry_run:
            await self._journal.lost(missing)
        for number, row in kept:
            if row.id in missing:
                wanted.append(self._want(number, row))
            else:
                there += 1
                before += 1
        self._outcome.there, self._outcome.bad = there, bad + look.unread
        if self._alone is None:
            self._outcome.passed_over = passed_over
            self._outcome.bad_before = bad_before
        if self._outcome.before is None:
            self._outcome.before = before
        wanted.sort(key=lambda each: each.number)
        if not look.passed:
            return wanted
        return [each for each in wanted if each.mark not in look.passed]

    async def _missing(self, rows: Sequence[MessageRow]) -> set[int]:
        """Return the ids of retrieved messages whose files are not here any more."""
        if not rows:
            return set()
        witnesses = {
            row.message_id: row.witness.path
            for row in await self._journal.deliveries(self._account)
            if row.witness is not None
        }
        find = getattr(self._keeper, "find", None)

        def missing() -> set[int]:
            gone = set()
            for row in rows:
                if row.spool:
                    if self._tools.spool.find(row.spool) is None:
                        gone.add(row.id)
                elif find is None or find(witnesses.get(row.id, "")) is None:
                    gone.add(row.id)
            return gone

        lost = await self._tools.files(missing)
        # What is being delivered, waits for a proof, or has been delivered meanwhile
        # may have been moved.  This is read after the files were looked for, so that
        # nothing can come in between.
        waiting: set[int] = set()
        begun: set[int] = set()
        for row in await self._journal.deliveries(self._account):
            begins = row.state is DeliveryState.DELIVERING
            (begun if begins else waiting).add(row.message_id)
        return lost & waiting - begun

    async def _judge(
        self, candidates: Sequence[Wanted], contents: Mapping[int, Content]
    ) -> tuple[list[Wanted], int]:
        """
        Apply the rules, and note what they leave on the server.

        :param contents: the hashes of those that were read.
        :return: the messages to retrieve, and how many are left for another look.
        """
        if self._alone is not None:
            for each in candidates:
                # It was not judged if TOP failed.
                each.judged = each.row is not None and each.row.reason == LOST
            return list(candidates), 0
        wanted: list[Wanted] = []
        left = iter(candidates)
        done = 0
        room = self._look.limit - self._outcome.new
        while len(wanted) < room and (chunk := list(islice(left, CHUNK))):
            chosen, skipped, judged = await self._rule(
                chunk, contents, room - len(wanted)
            )
            await self._skip(skipped)
            wanted += chosen
            done += judged
        return wanted, len(candidates) - done

    async def _rule(
        self,
        candidates: Sequence[Wanted],
        contents: Mapping[int, Content],
        room: float = math.inf,
    ) -> tuple[list[Wanted], list[_Skipped], int]:
        """
        Apply the rules.

        :param contents: the hashes of those that were read.
        :param room: how many messages may be wanted.
        :return: the messages to retrieve, those to skip, and how many were judged.
        """
        rules = self._rules
        needs, none = self._needs_header(), self._wants_none()
        sized = {each.number: rules.leaves(each.size) for each in candidates}
        heads: dict[int, bytes] = {}
        async for number, header in self._tops(
            number
            for number, reason in sized.items()
            # The row of a message that is skipped has the hash of its header.
            if needs or ((none or reason) and number not in contents)
        ):
            if header is not None:
                heads[number] = header
        wanted: list[Wanted] = []
        skipped: list[_Skipped] = []
        for each in candidates:
            head = heads.get(each.number)
            each.judged = head is not None or not needs
            reason = self._reason(head or b"") if each.judged else ""
            reason = reason or sized[each.number]
            if reason:
                content = contents.get(each.number)
                if content is None and head is not None:
                    content = content_of(head)
                skipped.append((each, reason, content))
            elif len(wanted) < room:
                wanted.append(each)
            else:
                break
        return wanted, skipped, len(wanted) + len(skipped)

    def _wants_none(self) -> bool:
        """Return whether no message of this look is wanted, whatever its header."""
        first = self._look.first and self._rules.existing == "seen"
        return first or self._account.released_as == "seen"

    def _needs_header(self) -> bool:
        """Return whether the header of a message says whether it is wanted."""
        if self._wants_none():
            return False
        return self._rules.needs_header(first_look=self._look.first)

    def _reason(self, header: bytes) -> str:
        """Return why a message is skipped; ``""``: it is wanted."""
        if self._account.released_as == "seen":
            return f"{FIRST_LOOK}: released as seen"
        return self._rules.judge(
            header, now=self._journal.now(), first_look=self._look.first
        )

    async def _skip(self, skipped: Sequence[_Skipped]) -> None:
        """Note what the rules leave on the server."""
        if not skipped:
            return
        new, again = [], {}
        for each, reason, content in skipped:
            if each.row is not None:
                again[each.row.id] = reason
                continue
            new.append(
                NewMessage(
                    key=self._key(each, content),
                    uid=each.uid,
                    size=each.size,
                    content=content,
                    state=MessageState.SKIPPED,
                    reason=reason,
                )
            )
            if not reason.startswith(FIRST_LOOK):
                self._look.tell(f"skip {reason}", f"messages are left: {reason}")
        if new:
            await self._journal.add(self._account, new)
        if again:
            await self._journal.skipped(self._account, again)
        self._outcome.skipped += len(skipped)
        passed_over = Counter(self._outcome.passed_over)
        passed_over.update(reason for _, reason, _ in skipped)
        self._outcome.passed_over = passed_over

    async def _retrieve_wanted(self, wanted: Sequence[Wanted]) -> None:
        """Retrieve messages, or their headers only, by TOP."""
        look = self._look
        ask = None
        if self._rules.fetch == "header":
            ask = partial(top_into, self._handle)
        retrieval = self._retrieval(self._take, ask)
        here = {each.number for each in wanted if each.number in self._whole}
        refused = {
            each.number: self._refusals[each.number]
            for each in wanted
            if each.number in self._refusals
        }
        before = self._outcome.new
        try:
            for number in sorted(here):
                await retrieval.put(self._whole.pop(number))
            asked = (each.number for each in wanted)
            await retrieval.run(
                [n for n in asked if n not in here and n not in refused],
                self._inventory.sizes,
            )
        except BrokenError as error:
            raise await self._broke(
                error.number, error.error, error.received
            ) from error
        finally:
            if self._outcome.new > before:
                look.last_retrieved = self._tools.reactor.seconds()
        for number, refusal in (*refused.items(), *retrieval.refused):
            await self._could_not(self._wanted.pop(number), refusal)

    async def _take(self, group: list[Arrived]) -> None:
        """Keep messages that have arrived, and note them."""
        good: list[tuple[Wanted, Arrived, str]] = []
        skipped: list[_Skipped] = []
        for arrived in group:
            wanted = self._wanted[arrived.number]
            reason = ""
            if self._is_short(wanted, arrived):
                if not self._same_again(wanted, arrived):
                    await self._short(wanted, arrived)
                    continue
                reason = SHORT
                self._look.tell(
                    f"short {wanted.mark}",
                    f"message {arrived.number} is {SHORT}",
                )
            content = arrived.content
            if self._rules.fetch == "header" and content is not None:
                content = attrs.evolve(content, body="")
            arrived.content = content
            if not wanted.judged and (left := self._reason(arrived.incoming.head)):
                skipped.append((wanted, left, content))
                arrived.incoming.discard()
                self._done_with(wanted)
                continue
            arrived.incoming.key = self._key(wanted, content)
            good.append((wanted, arrived, reason))
        await self._skip(skipped)
        if not good:
            return
        try:
            files = self._tools.files if self._direct is None else self._direct.threads
            await files(self._keeper.keep, [arrived.incoming for _, arrived, _ in good])
        except Later as error:
            # The Maildir cannot be used: no QUIT, because a server may hide what was
            # retrieved.
            assert self._direct is not None
            self._look.deliveries.in_trouble(self._direct, error)
            raise
        try:
            if self._direct is not None:
                await self._take_directly(self._direct, good)
            else:
                await self._take_into_spool(good)
        except JournalError:
            self._look.memory.leftovers += [
                (self._keeper, arrived.incoming.path)
                for _, arrived, _ in good
                if arrived.incoming.path is not None
            ]
            raise
        for wanted, arrived, _ in good:
            self._done_with(wanted)
            if arrived.incoming.received != wanted.size:
                self._odd.add(wanted.number)
        self._outcome.new += len(good)

    def _done_with(self, wanted: Wanted) -> None:
        """Take note that a message could be retrieved."""
        self._wanted.pop(wanted.number, None)
        self._outcome.failed.pop(wanted.mark, None)
        self._outcome.bad_before.pop(wanted.mark, None)
        if wanted.row is not None:
            self._look.memory.shorts.pop(wanted.row.key, None)

    def _new(
        self, wanted: Wanted, arrived: Arrived, reason: str, *deliveries: NewDelivery
    ) -> NewMessage:
        return NewMessage(
            key=arrived.incoming.key,
            uid=wanted.uid,
            size=wanted.size,
            content=arrived.content,
            state=MessageState.RETRIEVED,
            reason=reason,
            spool=None if self._direct is not None else arrived.incoming.path,
            deliveries=deliveries,
        )

    async def _noted(
        self, each: Sequence[tuple[Wanted, NewMessage]]
    ) -> list[MessageRow]:
        """Note retrieved messages, and return their rows."""
        journal, account = self._journal, self._account
        fresh = [(w, message) for w, message in each if w.row is None]
        known = [(w, message) for w, message in each if w.row is not None]
        rows: dict[int, MessageRow] = {}
        asked = [
            journal.retrieved(account, w.row, message)
            for w, message in known
            if w.row is not None
        ]
        if fresh:
            added = await journal.add(account, [message for _, message in fresh])
            for (wanted, _), row in zip(fresh, added, strict=True):
                rows[wanted.number] = row
        for (wanted, _), noted in zip(known, asked, strict=True):
            rows[wanted.number] = await noted
        for number, row in rows.items():
            self._retrieved[row.id] = number
        return [rows[wanted.number] for wanted, _ in each]

    async def _take_into_spool(
        self, good: Sequence[tuple[Wanted, Arrived, str]]
    ) -> None:
        deliveries = [NewDelivery(name) for name in self._look.settings.to]
        each = [
            (wanted, self._new(wanted, arrived, reason, *deliveries))
            for wanted, arrived, reason in good
        ]
        await self._noted(each)
        self._look.deliveries.wake(self._look.settings)

    async def _take_directly(
        self, target: Target, good: Sequence[tuple[Wanted, Arrived, str]]
    ) -> None:
        """Deliver into the Maildir whose tmp has the messages."""
        effects = target.threads
        mails = []
        for wanted, arrived, _ in good:
            assert arrived.incoming.path is not None
            mails.append(
                Mail(
                    key=arrived.incoming.key,
                    account=self._account.name,
                    uid=wanted.uid,
                    size=wanted.size,
                    path=arrived.incoming.path,
                )
            )
        prepared = await effects(target.destination.prepare, mails)
        try:
            await self._look.deliveries.note_place(target)
            for _, error in prepared.refused:
                raise error
            each = [
                (
                    wanted,
                    self._new(
                        wanted,
                        arrived,
                        reason,
                        NewDelivery(
                            target.name,
                            state=DeliveryState.DELIVERING,
                            attempt=1,
                            witness=witness,
                        ),
                    ),
                )
                for (wanted, arrived, reason), witness in zip(
                    good, prepared.witnesses, strict=True
                )
            ]
            rows = await self._noted(each)
            now = self._journal.now()
            attempts = await self._attempts(each)
            noted = [
                (
                    DueDelivery(
                        delivery=(
                            delivery := DeliveryRow(
                                message_id=row.id,
                                destination=target.name,
                                state=DeliveryState.DELIVERING,
                                attempt=attempts.get(row.id, 1),
                                machine=self._tools.machine,
                                witness=witness,
                                delivering_since=now,
                            )
                        ),
                        message=row,
                        account=self._account.name,
                    ),
                    delivery,
                )
                for row, witness in zip(rows, prepared.witnesses, strict=True)
            ]
            await self._look.deliveries.carry_out(target, prepared, noted)
        except BaseException:
            self._look.deliveries.doubt(target, self._account.id)
            raise
        finally:
            await effects(prepared.close)

    async def _attempts(
        self, each: Sequence[tuple[Wanted, NewMessage]]
    ) -> dict[int, int]:
        """Return the number of the attempt of messages that were known before."""
        if all(wanted.row is None for wanted, _ in each):
            return {}
        return {
            row.message_id: row.attempt
            for row in await self._journal.deliveries(self._account)
        }

    # -- what cannot be retrieved

    def _is_short(self, wanted: Wanted, arrived: Arrived) -> bool:
        if self._rules.fetch == "header":
            return False
        incoming = arrived.incoming
        return self._rules.is_short(wanted.size, incoming.received, incoming.lines)

    def _same_again(self, wanted: Wanted, arrived: Arrived) -> bool:
        """Return whether the same short bytes came in an earlier session."""
        if arrived.incoming.received == 0 or self._alone is None:
            return False
        return self._look.memory.shorts.get(self._alone.key) == _hash(arrived)

    def _short_error(self, arrived: Arrived) -> POP3Error:
        got, listed = arrived.incoming.received, arrived.listed
        return POP3Error(
            f"{got} bytes came where LIST says {listed}",
            verb="RETR",
            number=arrived.number,
        )

    async def _short(self, wanted: Wanted, arrived: Arrived) -> None:
        got = arrived.incoming.received
        self._wanted.pop(wanted.number, None)
        found = _hash(arrived)
        arrived.incoming.discard()
        key = await self._could_not(
            wanted,
            self._short_error(arrived),
            arrived.content if got else None,
            # The server has trouble with it, which needs some time.
            rest=not got,
        )
        self._look.memory.shorts[key] = found

    async def _broke(
        self, number: int, error: POP3Error, received: tuple[int, int]
    ) -> BrokenError:
        """Note the message that ended the session, and return what to raise."""
        look = self._look
        look.check()
        await self._doubt_retrieved(error)
        wanted = self._wanted.pop(number, None) or self._want(number)
        look.passed.add(wanted.mark)
        if number in self._proving:
            # It was delivered before, and only stays on the server for now.
            self._outcome.error = self._outcome.error or error
            return BrokenError(number, error, received)
        if wanted.row is None:
            wanted.row = self._alone or self._unread.get((wanted.uid, wanted.size))
        await self._could_not(wanted, error, received=received)
        return BrokenError(number, error, received)

    async def _doubt_retrieved(self, error: POP3Error) -> None:
        """
        Note which messages may have been taken for others.

        With pipelining, the reply to the next command may have been taken for one that
        is missing.  Their rows get the size 0, so that they are compared by content.
        """
        if isinstance(error, (TimedOutError, ProtocolError)):
            doubted = list(self._retrieved)
        elif isinstance(error, ConnectionLostError):
            # Most likely they are what they seem to be.
            doubted = [row for row, n in self._retrieved.items() if n in self._odd]
        else:
            doubted = []
        if doubted:
            await self._journal.resized(self._account, dict.fromkeys(doubted, 0))

    async def _could_not(
        self,
        wanted: Wanted,
        error: POP3Error,
        content: Content | None = None,
        *,
        received: tuple[int, int] | None = None,
        rest: bool = False,
    ) -> str:
        """
        Note that a message could not be retrieved: it becomes a suspect.

        :param rest: whether it is not tried alone before the next look.
        :return: its key.
        """
        look, account, journal = self._look, self._account, self._journal
        outcome = self._outcome
        outcome.refused += 1
        outcome.error = outcome.error or error
        outcome.failed.setdefault(wanted.mark, error)
        look.suspects = True
        reason = words(error)
        look.passed.add(wanted.mark)
        if wanted.row is None:
            header = self._headers.get(wanted.number)
            if content is None and header is not None:
                content = content_of(header)
            if content is not None:
                content = attrs.evolve(content, body="")
            key = self._key(wanted, content)
            if rest:
                look.resting.add(key)
            await journal.add(
                account,
                [
                    NewMessage(
                        key=key,
                        uid=wanted.uid,
                        size=wanted.size,
                        content=content,
                        state=MessageState.SUSPECT,
                        reason=reason,
                    )
                ],
            )
            log.warn(
                "{account}: message {number} could not be retrieved: {reason}",
                account=account.name,
                number=wanted.number,
                reason=reason,
                problem=error,
            )
            return key
        counts = self._alone is not None and not self._transient(error, received)
        result = after_failed_retrieval(wanted.row, now=journal.now(), counts=counts)
        await journal.suspect(account, wanted.row, reason, result)
        if result.set_aside:
            log.critical(
                "{account}: message {key} is set aside, it cannot be retrieved: "
                "{reason}",
                account=account.name,
                key=wanted.row.key,
                reason=reason,
            )
        return wanted.row.key

    def _transient(self, error: POP3Error, received: tuple[int, int] | None) -> bool:
        """Return whether a failure says nothing about the message itself."""
        if isinstance(error, CommandError):
            return error.transient is True
        if not isinstance(error, ConnectionLostError) or received is None:
            return False
        # A server that ends every session after some bytes.
        got = received[1]
        return got > 0 and any(
            begin * 0.9 <= got <= end * 1.1
            for begin, end in self._look.memory.cuts
            if end > 0
        )

    # -- the end of the session

    async def _wait(self) -> None:
        """Wait for the destinations, as long as that is worth it."""
        look, watcher = self._look, self._look.watcher
        reactor = self._tools.reactor
        quick = all(target.quick for target in look.targets)
        began = look.last_retrieved
        if began is None:
            began = reactor.seconds()
        while not look.winding_down:
            look.check()
            pending = [
                message
                for message in self._retrieved
                if message not in watcher.final and message not in watcher.stuck
            ]
            if not pending or self._in_trouble():
                return
            rest = math.inf if quick else began + SLOW - reactor.seconds()
            if rest <= 0:
                return
            changed = watcher.when_changed()
            timer = None
            if rest < math.inf:
                timer = reactor.callLater(rest, watcher.changed)
            try:
                await changed
            finally:
                if timer is not None and timer.active():
                    timer.cancel()

    def _in_trouble(self) -> bool:
        now = self._tools.wall()
        return any(t.health.allowed(now) is not None for t in self._look.targets)

    def _proven(
        self, number: int, row: MessageRow, found: Identified[MessageRow]
    ) -> bool:
        """Return whether this session showed that the number is this message."""
        content = found.contents.get(number)
        if content is None or not row.header_hash:
            return False
        return content.header == row.header_hash

    async def _delete(self, found: Identified[MessageRow]) -> dict[int, MessageRow]:
        """Mark what is due and proven; return the rows by number."""
        look, final = self._look, self._look.watcher.final
        due: dict[int, MessageRow] = {}
        for number in found.contents:
            row = found.known.get(number)
            if row is None or not self._is_chosen(number):
                continue
            row = final.get(row.id, row)
            if self._proven(number, row, found) and self._deletable(row):
                due[number] = row
        for message, number in self._retrieved.items():
            fresh = final.get(message)
            if fresh is not None and self._deletable(fresh):
                due[number] = fresh
        if not due:
            return {}
        await look.fence(self._handle)
        look.deletions.update(row.id for row in due.values())
        marked: dict[int, MessageRow] = {}
        async for number, answer in answers(sorted(due), self._handle.delete):
            if isinstance(answer, CommandError):
                self._outcome.refused += 1
                self._outcome.undeleted += 1
                self._outcome.failed[f"DELE {number}"] = answer
                self._outcome.error = self._outcome.error or answer
                log.warn(
                    "{account}: message {number} could not be deleted: {reason}",
                    account=self._account.name,
                    number=number,
                    reason=words(answer),
                    problem=answer,
                )
            else:
                marked[number] = due[number]
        return marked

    async def _remember(
        self,
        found: Identified[MessageRow],
        left: int,
        marked: Mapping[int, MessageRow],
        deleted: int,
    ) -> None:
        """Gather what the account's row is to say."""
        look, inventory, account = self._look, self._inventory, self._account
        outcome, facts = self._outcome, look.facts
        if self._alone is not None:
            facts["listing"] = ""
            return
        if inventory.uids:
            facts["uids_seen"] = True
        if inventory.complete:
            facts["uids_changed"] = found.uids_changed
            facts["listed"] = len(inventory.sizes) - deleted
        if not look.first:
            facts["usual_new"] = 0.8 * account.usual_new + 0.2 * len(found.new)
        whole = (
            inventory.complete
            and not left
            and self._chosen is None
            and not marked
            and not found.unread
            and not look.passed
        )
        facts["listing"] = inventory.digest if whole else ""
        look.memory.dirty = not whole
        look.memory.delete_at = await self._next_deletion(found)
        more = left and look.limit == math.inf
        outcome.again = bool(more) or outcome.new in FULL_LISTING
        partial = not self._fetch or self._chosen is not None
        if partial or not look.may_retrieve() or look.winding_down:
            outcome.again = False

    async def _next_deletion(self, found: Identified[MessageRow]) -> float | None:
        """Return when the next message is due to be deleted; ``None``: none waits."""
        if self._kept:
            return None
        now = self._journal.now()
        earliest = math.inf
        rows = [*found.known.values(), *self._look.watcher.final.values()]
        async for part in self._slices(rows):
            for row in part:
                at = self._delete_after(row)
                if at is not None and now < at < earliest:
                    earliest = at
        return None if earliest == math.inf else earliest

    async def _plan(self, found: Identified[MessageRow]) -> Plan:
        """Return what would be done, without RETR and DELE."""
        look = self._look

        def planned(number: int, reason: str = "") -> Planned:
            each = self._want(number)
            return Planned(number, each.uid, each.size, reason)

        candidates = [] if found.held else await self._candidates(found)
        wanted, skipped, _ = await self._rule(candidates, found.contents)
        suspects = [
            planned(number, row.reason)
            for number, row in found.known.items()
            if row.state is MessageState.SUSPECT
        ]
        fetched = {each.number for each in wanted}
        return Plan(
            account=self._account.name,
            fetched=tuple(planned(each.number) for each in wanted),
            skipped=tuple(planned(each.number, reason) for each, reason, _ in skipped),
            matched=tuple(
                planned(number) for number in found.known if number not in fetched
            ),
            deleted=tuple(
                planned(number)
                for number, row in found.known.items()
                if self._proven(number, row, found) and self._deletable(row)
            ),
            suspects=tuple(suspects),
            unread=tuple(planned(number) for number in sorted(found.unread)),
            troubles=self._inventory.troubles,
            held=found.held
            or ("held" if look.account.state is not AccountState.OK else ""),
        )


def _hash(arrived: Arrived) -> str:
    """Return what tells a message that is too short from a longer part of it."""
    body = "" if arrived.content is None else arrived.content.body
    digest = hashlib.sha256(arrived.incoming.head)
    digest.update(f"{arrived.incoming.received} {body}".encode("ascii"))
    return digest.hexdigest()
