"""
When messages may be deleted on the server, by the rules of today.
"""

from __future__ import annotations

from collections.abc import Callable

from .journal import Journal
from .records import MessageRow, MessageState
from .rules import Rules

__all__ = ["SHORT", "Deletion"]

SHORT = "shorter than LIST says, twice the same: left on the server"
"""The reason of a message that was delivered although it looks cut off."""


class Deletion:
    """
    When the messages of an account may be deleted.

    :param trusted: whether the clock can be trusted.
    :ivar never: whether nothing is ever deleted.
    """

    def __init__(
        self, rules: Rules, journal: Journal, trusted: Callable[[], bool]
    ) -> None:
        self._rules = rules
        self._journal = journal
        self._trusted = trusted
        self.never = rules.delete_after(0.0) is None

    def allowed(self, row: MessageRow) -> bool:
        """Return whether a message may be deleted now."""
        if self.never or not row.whole:
            return False
        return self._rules.deletable(row, self._journal.now(), trusted=self._trusted())

    def after(self, row: MessageRow) -> float | None:
        """Return when a message is to be deleted; ``None``: never."""
        if row.state is not MessageState.DELIVERED:
            return row.delete_after
        if row.delivered_at is None or not row.whole:
            return None
        return self._rules.delete_after(row.delivered_at)
