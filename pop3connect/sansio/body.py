"""
The body of one reply while it is read: where it goes, and how long it may be.
"""

from __future__ import annotations

from typing import Any

from .commands import Command
from .multiline import MultilineDecoder
from .readers import Reader, TooLargeError

__all__ = ["PROGRESS", "Body"]

PROGRESS = 512
"""
Bytes of a body that count as progress.  A server that sends a byte now and then could
hold the session for ever otherwise.
"""


class Body:
    """
    One object serves the bodies of a dialogue one after another.

    :param max_message_size: bytes of a message; ``None``: no limit.
    :param max_listing: rows of LIST and UIDL.
    :ivar moved: whether `PROGRESS` bytes have come since it was last set to false.
    """

    __slots__ = (
        "_counted",
        "_decoder",
        "_limit",
        "_max_listing",
        "_max_message_size",
        "_pieces",
        "_reader",
        "moved",
    )

    def __init__(self, max_message_size: int | None, max_listing: int) -> None:
        self._max_message_size = max_message_size
        self._max_listing = max_listing
        self._decoder = MultilineDecoder()
        self._pieces: list[bytes] = []
        self._reader: Reader[Any] | None = None
        self._limit: int | None = None
        self._counted = 0
        self.moved = False

    @property
    def octets(self) -> int:
        """How many bytes of the body have come."""
        return self._decoder.octets

    def begin(self, command: Command[Any], *, kept: bool, searched: bool) -> None:
        """
        Get ready for the body of the reply to a command.

        :param kept: whether a caller wants it.
        :param searched: see `MultilineDecoder.begin`.
        """
        self._counted = 0
        reader = self._reader = command.reader(self._max_listing)
        self._limit = self._max_message_size if reader is None else None
        if reader is not None:
            self._decoder.begin(reader.feed, searched=searched)
        elif kept:
            self._decoder.begin(self._pieces.append, searched=searched)
        else:
            self._decoder.begin(_ignore, searched=searched)

    def feed(self, data: bytes, at: int) -> int:
        """
        Read on, as `MultilineDecoder.feed`.

        :raises TooLargeError: it is longer than it may be.
        """
        decoder = self._decoder
        end = decoder.feed(data, at)
        octets = decoder.octets
        if octets - self._counted >= PROGRESS:
            self._counted = octets
            self.moved = True
        if self._limit is not None and octets > self._limit:
            raise TooLargeError(
                f"a message of more than max_message_size={self._limit} bytes; look at "
                "the sizes with list() first"
            )
        return end

    def take(self) -> bytes:
        """Return what was decoded since the last call."""
        pieces = self._pieces
        if len(pieces) == 1:
            return pieces.pop()
        taken = b"".join(pieces)
        pieces.clear()
        return taken

    def finish(self) -> Any:
        """
        Return the value of the body, all of which has come.

        :raises BadReplyError: it is not what the command asked for.
        """
        reader, self._reader = self._reader, None
        if reader is None:
            return self.take()
        # Nothing keeps the rows until the next body begins.
        self._decoder.discard()
        return reader.finish()

    def discard(self) -> None:
        """Keep nothing of it; the rest is still read."""
        self._pieces.clear()
        if self._reader is None:
            # A reader goes on, because it enforces the bounds.
            self._decoder.discard()

    def clear(self) -> None:
        """Keep nothing of it: the session has ended."""
        self._reader = None
        self.discard()


def _ignore(piece: bytes) -> None:
    """Drop a piece that no caller wants."""
