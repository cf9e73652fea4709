"""
Keeps messages that have arrived: in the spool, or in the Maildir that is their only
destination; and notes them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from ..destinations.base import Later, Mail
from ..destinations.incoming import Incoming, Kept
from ..handle import Handle
from .journal import JournalError
from .records import (
    DeliveryRow,
    DeliveryState,
    DueDelivery,
    MessageRow,
    MessageState,
    NewDelivery,
    NewMessage,
)
from .retrieval import Arrived, Retrieval
from .targets import Target
from .tools import together
from .wanted import Wanted

if TYPE_CHECKING:
    from .look import Look

__all__ = ["Keeping"]


class Keeping:
    """
    Where the messages of one session are kept.

    :param direct: the Maildir that they are kept in; ``None``: the spool.
    :ivar retrieved: the messages that were retrieved in this session: the ids of their
        rows -> their numbers.
    :ivar odd: the numbers of messages that came with another size than that in LIST.
    """

    def __init__(self, look: Look, handle: Handle, direct: Target | None) -> None:
        self._look = look
        self._handle = handle
        self._tools = look.tools
        self._journal = look.journal
        self._account = look.account
        self._rules = look.rules
        self._direct = direct
        self._keeper: Any = (
            look.tools.spool if self._direct is None else self._direct.destination
        )
        # A Maildir's own: its file system may not answer.
        self._files = look.tools.files if self._direct is None else self._direct.threads
        self.retrieved: dict[int, int] = {}
        self.odd: set[int] = set()

    def retrieval(
        self,
        take: Callable[[list[Arrived]], Awaitable[None]],
        ask: Callable[[int, Incoming], Deferred[int]] | None = None,
    ) -> Retrieval:
        """Return a retrieval into the place where messages are kept."""
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

    async def missing(self, rows: Sequence[MessageRow]) -> set[int]:
        """Return the ids of retrieved messages whose files are not here any more."""
        if not rows:
            return set()
        find = self._tools.spool.find
        spooled = {row.id: row.spool for row in rows if row.spool}
        lost = await self._tools.files(_missing, find, spooled)
        # The others are in the Maildirs that they wait for.
        left = {row.id for row in rows} - spooled.keys()
        for name, paths in (await self._in_maildirs(left)).items():
            target = self._look.deliveries.target(name, self._look.settings)
            if target is None:
                continue
            find = getattr(target.destination, "find", _nowhere)
            try:
                lost |= await target.threads(_missing, find, paths)
            except (Later, OSError):
                # Not mounted, for example: its mail goes on waiting.
                if target is self._direct:
                    raise
        # What is being delivered, waits for a proof, or has been delivered meanwhile
        # may have been moved.  This is read after the files were looked for, so that
        # nothing can come in between.
        waiting: set[int] = set()
        begun: set[int] = set()
        for row in await self._journal.deliveries(self._account):
            begins = row.state is DeliveryState.DELIVERING
            (begun if begins else waiting).add(row.message_id)
        return lost & waiting - begun

    async def _in_maildirs(self, ids: Collection[int]) -> dict[str, dict[int, str]]:
        """Return, by destination, where the files of messages are."""
        places: dict[str, dict[int, str]] = {}
        for row in await self._journal.deliveries(self._account) if ids else ():
            if row.message_id in ids:
                path = "" if row.witness is None else row.witness.path
                places.setdefault(row.destination, {})[row.message_id] = path
        return places

    async def keep(
        self, group: Sequence[tuple[Wanted, Arrived, str]]
    ) -> tuple[dict[int, OSError], Exception | None]:
        """
        Keep messages, and note those that are on disk.

        :param group: the messages, with the reasons of their rows.
        :return: the numbers of those that did not fit, and why; and what
            ends the look, because nothing fits.
        """
        try:
            kept: Kept = await self._files(
                self._keeper.keep, [arrived.incoming for _, arrived, _ in group]
            )
        except Later as error:
            # The Maildir cannot be used: no QUIT, because a server may hide what was
            # retrieved.
            assert self._direct is not None
            self._look.deliveries.in_trouble(self._direct, error)
            raise
        if isinstance(kept.full, Later):
            assert self._direct is not None
            self._look.deliveries.in_trouble(self._direct, kept.full)
        errors = {id(incoming): error for incoming, error in kept.refused}
        refused = {
            wanted.number: errors[id(arrived.incoming)]
            for wanted, arrived, _ in group
            if id(arrived.incoming) in errors
        }
        good = [each for each in group if each[0].number not in refused]
        if good:
            await self._note(good)
        return refused, kept.full

    async def _note(self, good: Sequence[tuple[Wanted, Arrived, str]]) -> None:
        """Note messages that are on disk."""
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
            if arrived.incoming.received != wanted.size:
                self.odd.add(wanted.number)

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
        changing: list[Deferred[Any]] = [
            journal.retrieved(account, wanted.row, message)
            for wanted, message in each
            if wanted.row is not None
        ]
        fresh = [message for wanted, message in each if wanted.row is None]
        added, *changed = await together([journal.add(account, fresh), *changing])
        new, known = iter(added), iter(changed)
        rows = [next(new if wanted.row is None else known) for wanted, _ in each]
        for (wanted, _), row in zip(each, rows, strict=True):
            self.retrieved[row.id] = wanted.number
        return rows

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


def _missing(find: Callable[[str], Path | None], files: Mapping[int, str]) -> set[int]:
    """Return the ids of messages whose files are not there; in a thread."""
    return {number for number, name in files.items() if find(name) is None}


def _nowhere(name: str) -> None:
    """Find nothing: this destination is not a Maildir any more."""
