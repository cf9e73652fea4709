"""
Messages that do not fit on the disk: they stay on the server, and do not
hold up those that fit.
"""

from __future__ import annotations

import math

import attrs

from ..errors import POP3Error
from ..waits import MAX_WAIT, doubled

__all__ = ["NoRoomError", "Room"]

ROOM_WAIT = 60.0
"""Seconds until messages that did not fit are tried again, doubled to
`MAX_WAIT`."""


class NoRoomError(POP3Error):
    """A message does not fit, and smaller ones may; it is not at fault."""


@attrs.define
class Room:
    """
    Which messages of an account are not asked for, because they did not fit.

    Those of the same size and larger wait as well: they would be retrieved only to be
    dropped.

    :ivar least: the size, by LIST, of the smallest that did not fit.
    :ivar until: when it is tried again, by the reactor's clock.
    :ivar times: tries in a row.
    """

    least: float = math.inf
    until: float = -math.inf
    times: int = 0

    def lacks(self, size: int, now: float) -> bool:
        """Return whether a message of this size has to wait."""
        return now < self.until and size >= self.least

    def refused(self, size: int, now: float) -> float:
        """Take note that one did not fit; return for how many seconds it waits."""
        if now >= self.until:
            self.times += 1
            self.until = now + doubled(ROOM_WAIT, self.times, MAX_WAIT)
            self.least = size
        self.least = min(self.least, size)
        return self.until - now

    def took(self, size: int) -> None:
        """Take note that a message was kept."""
        if size >= self.least:
            self.least, self.until, self.times = math.inf, -math.inf, 0
