"""
Messages that a look may retrieve, and their keys.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from .content import unused_key
from .records import Content, MessageRow

__all__ = ["Keys", "Wanted"]


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


class Keys:
    """
    The keys of an account's messages.

    :param account: its name.
    """

    def __init__(self, account: str) -> None:
        self._account = account
        self._used: set[str] = set()

    def learn(self, rows: Iterable[MessageRow]) -> None:
        """Take note of the keys of known messages."""
        self._used.update([row.key for row in rows])

    def of(self, wanted: Wanted, content: Content | None) -> str:
        """Return the key of a message; a new one gets a key that no other has."""
        if wanted.row is not None:
            return wanted.row.key
        used = self._used
        key = unused_key(self._account, wanted.uid, wanted.size, content, used)
        used.add(key)
        return key
