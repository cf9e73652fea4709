"""
Reads headers and messages, to say which is which.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred

from ..client.ahead import answers
from ..errors import CommandError, POP3Error
from ..handle import Handle, top_into
from .content import content_of
from .keeping import Keeping
from .records import Content
from .retrieval import AHEAD, Arrived, BrokenError, Header
from .scope import Scope
from .shorts import is_short, short_error

if TYPE_CHECKING:
    from .look import Look

__all__ = ["Reader"]

TOP_BREAKS = 2
"""Messages whose TOP ended a session, after which the server is not asked for TOP any
more: the headers come from RETR."""

HEADERS = 2 * 1024 * 1024
"""Bytes of headers that are kept, so that they are not read twice in one session."""


class Reader:
    """
    What was read in one session.

    :ivar headers: headers, by number.
    :ivar whole: messages that were read whole to be compared, and may be new.
    :ivar refusals: why others could not be.
    """

    def __init__(
        self, look: Look, scope: Scope, handle: Handle, keeping: Keeping
    ) -> None:
        self._look = look
        self._scope = scope
        self._handle = handle
        self._keeping = keeping
        self.headers: dict[int, bytes] = {}
        self._headers_size = 0
        self.whole: dict[int, Arrived] = {}
        self.refusals: dict[int, POP3Error] = {}

    async def read(
        self, headers: Iterable[int], bodies: Iterable[int]
    ) -> dict[int, Content | None]:
        """Read headers by TOP, and messages whole; ``None``: it could not be read."""
        contents: dict[int, Content | None] = {}
        alone = {number for number in headers if self._scope.is_alone(number)}
        if alone:
            # TOP may be what the server fails at, and the message is retrieved anyway.
            headers = set(headers) - alone
            bodies = {*bodies, *alone}
        asked = [number for number in sorted(headers) if not self._scope.passes(number)]
        async for number, header in self.tops(asked):
            contents[number] = None if header is None else content_of(header)
        whole = [number for number in sorted(bodies) if not self._scope.passes(number)]
        if whole:
            await self._read_whole(whole, contents)
        for number in (*headers, *bodies):
            contents.setdefault(number, None)
        return contents

    async def tops(
        self, numbers: Iterable[int]
    ) -> AsyncGenerator[tuple[int, bytes | None], None]:
        """Yield the header of each message; ``None``: the server refuses it."""
        asked: list[int] = []
        for number in numbers:
            if number in self.headers:
                yield number, self.headers[number]
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
                    self.headers[number] = header
                    self._headers_size += len(header)
                yield number, header
        except POP3Error as error:
            self._look.memory.no_top.add(self._scope.want(asked[at]).mark)
            raise BrokenError(asked[at], error, (0, 0), top=True) from error
        finally:
            await coming.aclose()

    def _has_top(self, number: int) -> bool:
        """Return whether TOP is worth a try."""
        no_top = self._look.memory.no_top
        return len(no_top) < TOP_BREAKS and self._scope.want(number).mark not in no_top

    def _top(self, number: int) -> Deferred[Header]:
        size = self._scope.inventory.sizes.get(number, 0)
        header = Header(str(self._handle.server), number, size)
        return top_into(self._handle, number, header).addCallback(lambda _: header)

    async def _read_whole(
        self, numbers: Sequence[int], contents: dict[int, Content | None]
    ) -> None:
        async def take(group: list[Arrived]) -> None:
            for arrived in group:
                short = is_short(self._look.rules, arrived)
                contents[arrived.number] = None if short else arrived.content
                if short and not self._scope.is_alone(arrived.number):
                    self.refusals[arrived.number] = short_error(arrived)
                    arrived.incoming.discard()
                elif len(self.whole) < AHEAD and self._look.rules.fetch != "header":
                    self.whole[arrived.number] = arrived
                else:
                    arrived.incoming.discard()

        retrieval = self._keeping.retrieval(take)
        self._look.expect(sum(self._scope.inventory.sizes.get(n, 0) for n in numbers))
        await retrieval.run(numbers, self._scope.inventory.sizes)
        for number, refusal in retrieval.refused:
            contents[number] = None
            self.refusals[number] = refusal

    def take(self, number: int) -> Arrived:
        """Hand over a message that was read whole."""
        return self.whole.pop(number)

    def discard(self) -> None:
        """Remove the messages that nobody has taken."""
        for arrived in self.whole.values():
            arrived.incoming.discard()
