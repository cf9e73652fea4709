"""
Applies the rules to the messages of a session: which may be retrieved, and which are
left on the server.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from .content import content_of
from .identity import Identified
from .keeping import Keeping
from .reading import Reader
from .records import GONE, LOST, Content, MessageRow, MessageState, NewMessage
from .rules import FIRST_LOOK
from .scope import Scope
from .wanted import Keys, Wanted

if TYPE_CHECKING:
    from .look import Look

__all__ = ["Judge", "Skipped"]

CHUNK = 256
"""Headers that are read before their messages are judged."""

Skipped = tuple[Wanted, str, Content | None]
"""A message, the reason why it is skipped, and its hashes."""


class Judge:
    """The rules of an account, for one session."""

    def __init__(
        self, look: Look, scope: Scope, keys: Keys, reader: Reader, keeping: Keeping
    ) -> None:
        self._look = look
        self._scope = scope
        self._keys = keys
        self._reader = reader
        self._keeping = keeping
        self._journal = look.journal
        self._account = look.account
        self._rules = look.rules
        self._outcome = look.outcome

    async def candidates(self, found: Identified[MessageRow]) -> list[Wanted]:
        """Return the messages that may have to be retrieved, in order."""
        look = self._look
        wanted: list[Wanted] = []
        async for part in self._scope.slices(found.new):
            wanted += [self._scope.want(n) for n in part if self._scope.is_chosen(n)]
        there = bad = before = 0
        kept: list[tuple[int, MessageRow]] = []
        back: set[int] = set()
        bad_before: dict[str, tuple[int, MessageRow]] = {}
        passed_over: Counter[str] = Counter()
        async for known in self._scope.slices(found.known.items()):
            for number, row in known:
                if not self._scope.is_chosen(number):
                    continue
                if row.state is MessageState.SUSPECT:
                    look.suspects = True
                    bad_before[self._scope.want(number).mark] = number, row
                    if row.reason == LOST:
                        wanted.append(self._scope.want(number, row))
                    else:
                        bad += 1
                elif row.state is MessageState.SKIPPED:
                    if self._rules.stands(row.reason):
                        there += 1
                        passed_over[row.reason] += 1
                    else:
                        wanted.append(self._scope.want(number, row))
                elif row.state is MessageState.RETRIEVED:
                    kept.append((number, row))
                elif row.state is not MessageState.SET_ASIDE:
                    there += 1
                    before += 1
                elif row.reason == GONE:
                    # A listing without it was wrong.
                    back.add(row.id)
                    wanted.append(self._scope.want(number, row))
                else:
                    there += 1
                    bad += 1
                    bad_before[self._scope.want(number).mark] = number, row
        if back and not look.dry_run:
            await self._journal.retry(back)
        missing = await self._keeping.missing([row for _, row in kept])
        if missing and not look.dry_run:
            await self._journal.lost(missing)
        for number, row in kept:
            if row.id in missing:
                wanted.append(self._scope.want(number, row))
            else:
                there += 1
                before += 1
        self._outcome.there, self._outcome.bad = there, bad + look.unread
        if self._scope.alone is None:
            self._outcome.passed_over = passed_over
            self._outcome.bad_before = bad_before
        if self._outcome.before is None:
            self._outcome.before = before
        wanted.sort(key=lambda each: each.number)
        if not look.passed:
            return wanted
        return [each for each in wanted if each.mark not in look.passed]

    async def judge(
        self,
        candidates: Sequence[Wanted],
        contents: Mapping[int, Content],
        *,
        retrieve: bool = True,
    ) -> tuple[list[Wanted], int]:
        """
        Apply the rules, and note what they leave on the server.

        :param contents: the hashes of those that were read.
        :param retrieve: whether messages may be retrieved at all.
        :return: the messages to retrieve, and how many are left for another look.
        """
        if self._scope.alone is not None:
            for each in candidates:
                # It was not judged if TOP failed.
                each.judged = each.row is not None and each.row.reason == LOST
            return list(candidates), 0
        wanted: list[Wanted] = []
        left = iter(candidates)
        done = 0
        room = self._look.limit - self._outcome.new if retrieve else 0
        while (self._look.judges_all or len(wanted) < room) and (
            chunk := list(islice(left, CHUNK))
        ):
            chosen, skipped, judged = await self.rule(
                chunk, contents, room - len(wanted)
            )
            await self.skip(skipped)
            wanted += chosen
            done += judged
        return wanted, len(candidates) - done

    async def rule(
        self,
        candidates: Sequence[Wanted],
        contents: Mapping[int, Content],
        room: float = math.inf,
    ) -> tuple[list[Wanted], list[Skipped], int]:
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
        async for number, header in self._reader.tops(
            number
            for number, reason in sized.items()
            # The row of a message that is skipped has the hash of its header.
            if needs or ((none or reason) and number not in contents)
        ):
            if header is not None:
                heads[number] = header
        wanted: list[Wanted] = []
        skipped: list[Skipped] = []
        for each in candidates:
            head = heads.get(each.number)
            each.judged = head is not None or not needs
            reason = self.reason(head or b"") if each.judged else ""
            reason = reason or sized[each.number]
            if reason:
                content = contents.get(each.number)
                if content is None and head is not None:
                    content = content_of(head)
                skipped.append((each, reason, content))
            elif len(wanted) < room:
                wanted.append(each)
            elif not self._look.judges_all:
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

    def reason(self, header: bytes) -> str:
        """Return why a message is skipped; ``""``: it is wanted."""
        if self._account.released_as == "seen":
            return f"{FIRST_LOOK}: released as seen"
        return self._rules.judge(
            header, now=self._journal.now(), first_look=self._look.first
        )

    async def skip(self, skipped: Sequence[Skipped]) -> None:
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
                    key=self._keys.of(each, content),
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
