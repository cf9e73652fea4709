"""
Suspects: messages that could not be retrieved, or ended a session.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

import attrs
from twisted.logger import Logger

from ..errors import (
    CommandError,
    ConnectionLostError,
    POP3Error,
    ProtocolError,
    TimedOutError,
)
from .content import content_of
from .keeping import Keeping
from .reading import Reader
from .records import Content, MessageRow, MessageState, NewMessage
from .retrieval import Arrived, BrokenError
from .schedule import after_failed_retrieval
from .scope import Scope
from .shorts import hash_of_short, short_error
from .wanted import Keys, Wanted
from .wording import words

if TYPE_CHECKING:
    from .look import Look

__all__ = ["Suspects"]

log = Logger()


class Suspects:
    """The suspects of one session, and those of earlier ones that may be the same."""

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
        self._outcome = look.outcome
        # Suspects of which nothing was read yet, by unique-id and size.
        self._unread: dict[tuple[str, int], MessageRow] = {}
        # The rows that were made in this session, with the headers of messages.
        self._made: list[int] = []
        # Whether it is doubted which message is which; see `_doubt_retrieved`.
        self._doubt = False

    def learn(self, rows: Iterable[MessageRow]) -> None:
        """Take note of rows of the account."""
        for row in rows:
            if row.header_hash:
                self._doubt = self._doubt or not row.size
            elif row.uid and row.state is MessageState.SUSPECT:
                self._unread[row.uid, row.size] = row

    async def broke(
        self, broken: BrokenError, wanted: Wanted, *, proving: bool, comparing: bool
    ) -> None:
        """
        Note the message that ended the session.

        :param proving: whether it is a known message that was read to prove it.
        :param comparing: whether it was read to say whether it is known.
        """
        look, error = self._look, broken.error
        look.check()
        await self._doubt_retrieved(error)
        if proving:
            # It was delivered before, and only stays on the server for now.
            self._outcome.error = self._outcome.error or error
            if not broken.top:
                # After TOP, the next session may prove it by RETR.
                look.passed.add(wanted.mark)
            return
        if wanted.row is None:
            unread = self._unread.get((wanted.uid, wanted.size))
            wanted.row = self._scope.alone or unread
        await self.could_not(
            wanted, error, received=broken.received, comparing=comparing
        )

    def is_unclear(self, row: MessageRow) -> bool:
        """
        Return whether a message that was never read may be one that is known.

        Its retrieval may have been answered under the number of another one.
        """
        if row.state is not MessageState.SUSPECT or row.header_hash:
            return False
        if self._look.rules.fetch == "header":
            # It is never retrieved whole.
            return False
        return self._doubt or (
            self._scope.alone is not None and row.id == self._scope.alone.id
        )

    def same_again(self, arrived: Arrived) -> bool:
        """Return whether the same short bytes came in an earlier session."""
        if arrived.incoming.received == 0 or self._scope.alone is None:
            return False
        return self._look.memory.shorts.get(self._scope.alone.key) == hash_of_short(
            arrived
        )

    async def short(self, wanted: Wanted, arrived: Arrived) -> None:
        """Note a message that came too short."""
        got = arrived.incoming.received
        found = hash_of_short(arrived)
        arrived.incoming.discard()
        key = await self.could_not(
            wanted,
            short_error(arrived),
            arrived.content if got else None,
            # The server has trouble with it, which needs some time.
            rest=not got,
        )
        self._look.memory.shorts[key] = found

    async def could_not(
        self,
        wanted: Wanted,
        error: POP3Error,
        content: Content | None = None,
        *,
        received: tuple[int, int] | None = None,
        rest: bool = False,
        comparing: bool = False,
    ) -> str:
        """
        Note that a message could not be retrieved: it becomes a suspect.

        :param comparing: whether it may be a known one: then its row has no header, so
            that it is compared before it is delivered.
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
            header = self._reader.headers.get(wanted.number)
            if content is None and header is not None and not comparing:
                content = content_of(header)
            if content is not None:
                content = attrs.evolve(content, body="")
            key = self._keys.of(wanted, content)
            if rest:
                look.resting.add(key)
            new = NewMessage(
                key=key,
                uid=wanted.uid,
                size=wanted.size,
                content=content,
                state=MessageState.SUSPECT,
                reason=reason,
            )
            for row in await journal.add(account, [new]):
                if row.header_hash:
                    self._made.append(row.id)
            log.warn(
                "{account}: message {number} could not be retrieved: {reason}",
                account=account.name,
                number=wanted.number,
                reason=reason,
                problem=error,
            )
            return key
        counts = self._scope.alone is not None and not self._transient(error, received)
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

    async def _doubt_retrieved(self, error: POP3Error) -> None:
        """
        Note which messages may have been taken for others.

        With pipelining, the reply to the next command may have been taken for one that
        is missing.  Their rows get the size 0, so that they are compared by content.
        """
        if isinstance(error, (TimedOutError, ProtocolError)):
            await self._doubt_rows(self._keeping.retrieved)
        elif isinstance(error, ConnectionLostError):
            # Most likely they are what they seem to be.
            rows, odd = self._keeping.retrieved, self._keeping.odd
            await self._doubt_rows([row for row, n in rows.items() if n in odd])

    async def last_refused(self) -> None:
        """
        Note that messages may have been taken for others: the last number was refused.

        If others came with another size, the server may have numbered them again after
        another session had deleted some, although RFC 1939 section 4 forbids it.
        """
        if self._keeping.odd:
            await self._doubt_rows(self._keeping.retrieved)

    async def _doubt_rows(self, ids: Collection[int]) -> None:
        doubted = dict.fromkeys([*ids, *self._made], 0)
        if doubted:
            await self._journal.resized(self._account, doubted)
