"""
Brings messages from a session to the disk, each once, and deletes them only then.

The order makes it safe: a message is complete and on disk, then it is recorded, and
only then may it be deleted.  An interruption between these steps leaves it on the
server.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs
from twisted.internet.defer import Deferred

from ..client.ahead import answers
from ..destinations.store import Delivery, Store
from ..errors import CommandError
from ..handle import Handle
from .exits import words
from .output import counted, tell
from .record import Record

__all__ = ["Collection", "Outcome", "note_recovered", "unique_ids"]


@attrs.define
class Outcome:
    """
    The results of a fetch so far.

    :ivar kept: the number of messages that this run brought to the disk.
    :ivar there: the number of messages that were on disk before.
    :ivar safe: the message numbers of both.
    :ivar refused: the number of refusals, to send or to delete a message.
    """

    kept: int = 0
    there: int = 0
    safe: list[int] = attrs.Factory(list)
    refused: int = 0


async def unique_ids(handle: Handle) -> dict[int, str]:
    """
    Return the unique-ids that identify a message, by message number.

    A unique-id that is blank, or that two messages have, is left out: skipping a
    message because of it could lose the message.
    """
    try:
        rows = await handle.uidl()
    except CommandError as error:
        tell(
            f"{words(error)}; without unique-ids, messages that were fetched before "
            "are not recognised, so all are fetched"
        )
        return {}
    counts = Counter(row.uid for row in rows)
    usable = {row.number: row.uid for row in rows if row.uid and counts[row.uid] == 1}
    if len(usable) < len(rows):
        tell(
            f"{counted(len(rows) - len(usable), 'message')} with a blank or repeated "
            "unique-id: fetched again by each run"
        )
    return usable


def _key(account: str, uid: str) -> str:
    return f"{account}\n{uid}"


def note_recovered(store: Store, beside: Path) -> None:
    """
    Record the message that was not recorded because of a crash, of any account.

    :param beside: the folder or file with the mail.
    :raises OSError: the record could not be written.
    """
    if store.recovered is None:
        return
    # A user name has no line break in it; a unique-id might.
    account, _, uid = store.recovered.partition("\n")
    record = Record(beside, account)
    try:
        if uid not in record:
            record.add(uid)
    finally:
        record.close()


class Collection:
    """
    One run of ``fetch``.

    :param account: the account of the messages.
    :ivar outcome: the results so far.
    """

    def __init__(
        self, handle: Handle, store: Store, record: Record, account: str
    ) -> None:
        self._handle = handle
        self._store = store
        self._record = record
        self._account = account
        self._deliveries: dict[int, Delivery] = {}
        self.outcome = Outcome()

    def missing(self, numbers: Sequence[int], uids: dict[int, str]) -> list[int]:
        """
        Return the messages that are not on disk yet, and record those that are.

        :raises OSError: the record could not be written.
        """
        missing = []
        for number in numbers:
            uid = uids.get(number)
            if uid is None or not self._is_there(uid):
                missing.append(number)
                continue
            if uid not in self._record:
                # A crash came between the message and its record.
                self._record.add(uid)
            self.outcome.there += 1
            self.outcome.safe.append(number)
        return missing

    def _is_there(self, uid: str) -> bool:
        return uid in self._record or self._store.holds(_key(self._account, uid))

    async def fetch(
        self,
        numbers: Sequence[int],
        uids: dict[int, str],
        progress: Callable[[int], object],
    ) -> None:
        """
        Bring these messages to the disk.

        :raises OSError: a message could not be written; the session has ended then.
        """

        def ask(number: int) -> Deferred[int]:
            uid = uids.get(number)
            delivery = self._store.deliver(uid and _key(self._account, uid))
            delivery.progress = progress
            self._deliveries[number] = delivery
            return self._handle.retrieve(number, delivery)

        try:
            async for number, answer in answers(numbers, ask):
                delivery = self._deliveries.pop(number)
                if isinstance(answer, CommandError):
                    self._refused(answer)
                    continue
                self._store.keep(delivery)
                if number in uids:
                    self._record.add(uids[number])
                self.outcome.kept += 1
                self.outcome.safe.append(number)
        finally:
            for delivery in self._deliveries.values():
                delivery.discard()

    async def delete(self) -> None:
        """Mark the safe messages as deleted; QUIT deletes them."""
        async for _, answer in answers(self.outcome.safe, self._handle.delete):
            if isinstance(answer, CommandError):
                self._refused(answer)

    def _refused(self, error: CommandError) -> None:
        tell(words(error))
        self.outcome.refused += 1
