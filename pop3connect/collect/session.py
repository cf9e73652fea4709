"""
What a look does in one session: which messages are new, their retrieval and delivery,
and what is deleted on the server.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import attrs
from twisted.logger import Logger

from ..client.ahead import answers
from ..destinations.base import words as words_of
from ..errors import CommandError
from ..handle import Handle, top_into
from .deletion import SHORT, Deletion
from .identity import Identified, identify_steps
from .inventory import Inventory
from .judging import Judge, Skipped
from .keeping import Keeping
from .noting import note_listing
from .outcome import HeldError, Plan, Planned
from .reading import Reader
from .records import LOST, AccountState, MessageRow, MessageState
from .retrieval import Arrived, BrokenError
from .room import NoRoomError
from .scope import Scope
from .shorts import is_short
from .suspects import Suspects
from .targets import Target
from .units import show_seconds
from .wanted import Keys, Wanted
from .wording import words

if TYPE_CHECKING:
    from .look import Look

__all__ = ["Session"]

log = Logger()

SLOW = 30.0
"""Seconds that a look waits, after its last RETR, for destinations that may be slow."""

FULL_LISTING = range(50, 1000)
"""New messages of one look after which there may be more: some servers show a part of
the mailbox in each session.  Gmail shows 250."""


class Session:
    """
    The part of a look that happens in one session, after the listing was read.

    :param direct: the Maildir that mail is retrieved into; ``None``: the spool.
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
        direct: Target | None,
        chosen: frozenset[int] | None,
        fetch: bool,
        backwards: bool,
        alone: MessageRow | None,
    ) -> None:
        self._look = look
        self._tools = look.tools
        self._journal = look.journal
        self._handle = handle
        self._fetch = fetch
        self._backwards = backwards
        self._account = look.account
        self._rules = look.rules
        self._outcome = look.outcome
        self._scope = scope = Scope(look, inventory, chosen, alone)
        self._keys = keys = Keys(look.account.name)
        self._deletion = Deletion(look.rules, look.journal, look.tools.trusted)
        self._keeping = keeping = Keeping(look, handle, direct)
        self._reader = reader = Reader(look, scope, handle, keeping)
        self._suspects = Suspects(look, scope, keys, reader, keeping)
        self._judge = Judge(look, scope, keys, reader, keeping)
        # Known messages whose headers are being read to prove them.
        self._proving: set[int] = set()
        # What is to be retrieved, and has not arrived.
        self._wanted: dict[int, Wanted] = {}
        # How many of these wait for room on the disk.
        self._without_room = 0

    async def run(self, rows: Sequence[MessageRow]) -> None:
        """
        Do all that is due, and end the session with QUIT.

        :param rows: all messages of the account.
        :raises BrokenError: a message ended the session.
        """
        look, outcome = self._look, self._outcome
        async for part in self._scope.slices(rows):
            self._keys.learn(part)
            self._suspects.learn(part)
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
            if found.top_differs:
                look.tell(
                    "top",
                    "TOP gives other headers than RETR: messages are read whole to be "
                    "recognised",
                )
            await note_listing(look, self._scope, self._deletion, found)
            left = await self._retrieve(found)
        except BrokenError as error:
            number = error.number
            wanted = self._wanted.pop(number, None)
            await self._suspects.broke(
                error,
                wanted or self._scope.want(number),
                proving=number in self._proving,
                comparing=wanted is None,
            )
            raise
        finally:
            self._reader.discard()
        await self._wait()
        marked = await self._delete(found)
        deleted_before = outcome.deleted
        await look.quit(self._handle, marked)
        deleted = outcome.deleted - deleted_before
        final = look.watcher.final
        outcome.delivered = sum(
            row.state is MessageState.DELIVERED for row in final.values()
        )
        outcome.waiting = sum(number not in final for number in self._keeping.retrieved)
        await self._remember(found, left, marked, deleted)

    # -- which is which

    async def _decide(self, rows: Sequence[MessageRow]) -> Identified[MessageRow]:
        """Read what is needed to say which message is which, and prove what is due."""
        look = self._look
        found = await look.sliced(
            identify_steps(
                self._scope.inventory,
                rows,
                self._account,
                all_headers=look.first and self._rules.existing != "new",
            )
        )
        tried: set[int] = set()
        while True:
            while not found.decided:
                contents = await self._reader.read(found.headers, found.bodies)
                found = await look.sliced(found.compared_steps(contents))
            unproven: list[int] = []
            async for part in self._scope.slices(found.known.items()):
                unproven += [
                    number
                    for number, row in part
                    if number not in found.contents
                    and number not in tried
                    and self._scope.is_chosen(number)
                    and (self._deletion.allowed(row) or self._suspects.is_unclear(row))
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
            # Without a Message-ID, others may have the same header.
            whole = {n for n in unproven if _needs_body(found.known[n])}
            read = await self._reader.read(set(unproven) - whole, whole)
            refused = [number for number in self._proving if read.get(number) is None]
            if refused:
                read.update(await self._reader.read((), refused))
            self._proving.clear()
            proofs = {number: c for number, c in read.items() if c is not None}
            if not proofs:
                return found
            found = await look.sliced(found.compared_steps(proofs))

    def _report_unread(self, found: Identified[MessageRow]) -> None:
        """Name the messages that may be new or known, and could not be read."""
        outcome = self._outcome
        unread = 0
        for number in sorted(found.unread):
            error = self._reader.refusals.get(number)
            if error is None or not self._scope.is_chosen(number):
                continue
            unread += 1
            outcome.refused += 1
            outcome.error = outcome.error or error
            outcome.failed[self._scope.want(number).mark] = error
            self._look.tell(
                f"unread {self._scope.want(number).mark}",
                f"message {number} could not be read: {words(error)}",
                error,
            )
        if self._scope.alone is None:
            self._look.unread = unread

    # -- what is retrieved

    async def _retrieve(self, found: Identified[MessageRow]) -> int:
        """Retrieve the wanted messages; return how many are left for later."""
        look, outcome = self._look, self._outcome
        candidates = await self._judge.candidates(found)
        alone = self._scope.alone
        if alone is not None:
            candidates = [
                self._scope.want(number, row)
                for number, row in found.known.items()
                if row.id == alone.id
            ]
        retrieve = self._fetch and look.may_retrieve()
        wanted, left = await self._judge.judge(
            candidates, found.contents, retrieve=retrieve
        )
        if not retrieve:
            outcome.left = outcome.left if alone else left
            return left
        if self._backwards:
            wanted.reverse()
        self._wanted = {each.number: each for each in wanted}
        look.expect(
            sum(
                each.size
                for each in wanted
                if each.number not in self._reader.whole
                and not self._lacks_room(each.size)
            )
        )
        if wanted:
            await look.prepare()
        await self._retrieve_wanted(wanted)
        # Shut down, or held, in between.
        look.check()
        left += len(self._wanted)
        self._without_room = sum(
            self._lacks_room(each.size) for each in self._wanted.values()
        )
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
            self._scope.alone = row
            wanted, _ = await self._judge.judge(
                [self._scope.want(suspects[row.id], row)], {}
            )
            self._wanted = {each.number: each for each in wanted}
            await self._retrieve_wanted(wanted)
            self._scope.alone = None

    async def _retrieve_wanted(self, wanted: Sequence[Wanted]) -> None:
        """Retrieve messages, or their headers only, by TOP."""
        look = self._look
        ask = None
        if self._rules.fetch == "header":
            ask = partial(top_into, self._handle)
        retrieval = self._keeping.retrieval(self._take, ask)
        here = {each.number for each in wanted if each.number in self._reader.whole}
        refused = {
            each.number: self._reader.refusals[each.number]
            for each in wanted
            if each.number in self._reader.refusals
        }
        before = self._outcome.new
        try:
            for number in sorted(here):
                await retrieval.put(self._reader.take(number))
            rest = [
                each
                for each in wanted
                if each.number not in here and each.number not in refused
            ]
            await retrieval.run(
                # Each is looked at when it is asked for: others may have shown that
                # it does not fit.
                (each.number for each in rest if not self._lacks_room(each.size)),
                self._scope.inventory.sizes,
            )
        finally:
            if self._outcome.new > before:
                look.last_retrieved = self._tools.reactor.seconds()
        if max(self._scope.inventory.sizes, default=0) in dict(retrieval.refused):
            await self._suspects.last_refused()
        for number, refusal in (*refused.items(), *retrieval.refused):
            await self._suspects.could_not(self._wanted.pop(number), refusal)

    async def _take(self, group: list[Arrived]) -> None:
        """Keep messages that have arrived, and note them."""
        good: list[tuple[Wanted, Arrived, str]] = []
        skipped: list[Skipped] = []
        for arrived in group:
            wanted = self._wanted[arrived.number]
            reason = ""
            if is_short(self._rules, arrived):
                if not self._suspects.same_again(arrived):
                    del self._wanted[wanted.number]
                    await self._suspects.short(wanted, arrived)
                    continue
                reason = SHORT
                self._look.tell(
                    f"short {wanted.mark}",
                    f"message {arrived.number} is {SHORT}",
                )
            content = arrived.content
            if content is not None and (reason or self._rules.fetch == "header"):
                # Without it, the message is never deleted on the server.
                content = attrs.evolve(content, body="")
            arrived.content = content
            if not wanted.judged and (
                left := self._judge.reason(arrived.incoming.head)
            ):
                skipped.append((wanted, left, content))
                arrived.incoming.discard()
                self._done_with(wanted)
                continue
            arrived.incoming.key = self._keys.of(wanted, content)
            good.append((wanted, arrived, reason))
        await self._judge.skip(skipped)
        if not good:
            return
        refused, full = await self._keeping.keep(good)
        for wanted, _, _ in good:
            if wanted.number not in refused:
                self._done_with(wanted)
                self._look.memory.room.took(wanted.size)
        self._outcome.new += len(good) - len(refused)
        if full is not None:
            raise full
        for number, error in refused.items():
            self._no_room(self._wanted[number], error)

    def _no_room(self, wanted: Wanted, cause: OSError) -> None:
        """Leave a message on the server that does not fit; others may fit."""
        look, outcome, number = self._look, self._outcome, wanted.number
        error = NoRoomError(
            f"its {wanted.size} bytes do not fit: {words_of(cause)}",
            verb="RETR",
            number=number,
        )
        error.__cause__ = cause
        wait = look.memory.room.refused(wanted.size, self._tools.reactor.seconds())
        outcome.error = outcome.error or error
        outcome.failed[wanted.mark] = error
        log.warn(
            "{account}: message {number} stays on the server, and is tried again in "
            "{wait}: {reason}",
            account=self._account.name,
            number=number,
            wait=show_seconds(round(wait)),
            reason=words(error),
            problem=error,
        )

    def _lacks_room(self, size: int) -> bool:
        """Return whether a message of this size waits for room on the disk."""
        return self._look.memory.room.lacks(size, self._tools.reactor.seconds())

    def _done_with(self, wanted: Wanted) -> None:
        """Take note that a message could be retrieved."""
        self._wanted.pop(wanted.number, None)
        self._outcome.failed.pop(wanted.mark, None)
        self._outcome.bad_before.pop(wanted.mark, None)
        if wanted.row is not None:
            self._look.memory.shorts.pop(wanted.row.key, None)

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
                for message in self._keeping.retrieved
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
        if _needs_body(row) and content.body != row.body_hash:
            return False
        return content.header == row.header_hash

    async def _delete(self, found: Identified[MessageRow]) -> dict[int, MessageRow]:
        """Mark what is due and proven; return the rows by number."""
        look, final = self._look, self._look.watcher.final
        due: dict[int, MessageRow] = {}
        for number in found.contents:
            row = found.known.get(number)
            if row is None or not self._scope.is_chosen(number):
                continue
            row = final.get(row.id, row)
            if self._proven(number, row, found) and self._deletion.allowed(row):
                due[number] = row
        for message, number in self._keeping.retrieved.items():
            fresh = final.get(message)
            if fresh is not None and self._deletion.allowed(fresh):
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
        look, inventory, account = self._look, self._scope.inventory, self._account
        outcome, facts = self._outcome, look.facts
        if self._scope.alone is not None:
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
            and self._scope.chosen is None
            and not marked
            and not found.unread
            and not look.passed
        )
        facts["listing"] = inventory.digest if whole else ""
        look.memory.dirty = not whole
        look.memory.delete_at = await self._next_deletion(found)
        more = left > self._without_room and look.limit == math.inf
        outcome.again = more or outcome.new in FULL_LISTING
        partial = not self._fetch or self._scope.chosen is not None
        if partial or not look.may_retrieve() or look.winding_down:
            outcome.again = False

    async def _next_deletion(self, found: Identified[MessageRow]) -> float | None:
        """Return when the next message is due to be deleted; ``None``: none waits."""
        if self._deletion.never:
            return None
        now = self._journal.now()
        earliest = math.inf
        rows = [*found.known.values(), *self._look.watcher.final.values()]
        async for part in self._scope.slices(rows):
            for row in part:
                at = self._deletion.after(row)
                if at is not None and now < at < earliest:
                    earliest = at
        return None if earliest == math.inf else earliest

    async def _plan(self, found: Identified[MessageRow]) -> Plan:
        """Return what would be done, without RETR and DELE."""
        look = self._look

        def planned(number: int, reason: str = "") -> Planned:
            each = self._scope.want(number)
            return Planned(number, each.uid, each.size, reason)

        candidates = [] if found.held else await self._judge.candidates(found)
        wanted, skipped, _ = await self._judge.rule(candidates, found.contents)
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
                if self._proven(number, row, found) and self._deletion.allowed(row)
            ),
            suspects=tuple(suspects),
            unread=tuple(planned(number) for number in sorted(found.unread)),
            troubles=self._scope.inventory.troubles,
            held=found.held
            or ("held" if look.account.state is not AccountState.OK else ""),
        )


def _needs_body(row: MessageRow) -> bool:
    """Return whether a header does not prove that a number still is a message."""
    return not row.identified and row.whole
