"""
Which messages a session is about.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Sequence
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from .inventory import Inventory
from .records import MessageRow
from .steps import SLICE
from .tools import sleep
from .wanted import Wanted

if TYPE_CHECKING:
    from .look import Look

__all__ = ["Scope"]

T = TypeVar("T")


class Scope:
    """
    The messages of one session of a look.

    :ivar inventory: its listing.
    :ivar chosen: the numbers of the messages that it is about; ``None``: all.
    :ivar alone: a suspect: only this message is retrieved.
    """

    def __init__(
        self,
        look: Look,
        inventory: Inventory,
        chosen: frozenset[int] | None,
        alone: MessageRow | None,
    ) -> None:
        self._look = look
        self.inventory = inventory
        self.chosen = chosen
        self.alone = alone

    def is_chosen(self, number: int) -> bool:
        """Return whether the session is about this message."""
        return self.chosen is None or number in self.chosen

    def is_alone(self, number: int) -> bool:
        """Return whether this session is for this message."""
        uid = self.inventory.uids.get(number, "")
        return self.alone is not None and uid != "" and uid == self.alone.uid

    def passes(self, number: int) -> bool:
        """Return whether a message is passed over, because it ended a session."""
        if self.alone is not None:
            return False
        return self.want(number).mark in self._look.passed

    def want(self, number: int, row: MessageRow | None = None) -> Wanted:
        """Return what the listing says about a message."""
        return Wanted(
            number,
            self.inventory.sizes.get(number, 0),
            self.inventory.uids.get(number, ""),
            row,
        )

    async def slices(self, values: Collection[T]) -> AsyncGenerator[Sequence[T], None]:
        """Yield values in slices, and let the reactor work in between."""
        left = iter(values)
        while part := list(islice(left, SLICE)):
            yield part
            if len(part) == SLICE:
                await sleep(self._look.tools.reactor, 0)
                self._look.check()
