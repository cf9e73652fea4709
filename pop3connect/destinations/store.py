"""
What every kind of mail store does: take a message in pieces, then keep it or not.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Protocol

from ..files import create

__all__ = ["Delivery", "LineEnds", "Store"]


class Store(Protocol):
    """
    A place for mail.

    :ivar recovered: the key of a message that is there, and that a crash kept from
        being noted, where the store knows of only one.
    """

    recovered: str | None

    def deliver(self, key: str | None) -> Delivery:
        """
        Begin with a message.

        :param key: what the message is known by; ``None``: by nothing.
        """

    def keep(self, delivery: Delivery) -> None:
        """
        Make a message that is complete appear in the store.

        :raises OSError: it could not be written; it is not in the store then.
        """

    def holds(self, key: str) -> bool:
        """Say whether the message is there, as an earlier run may have left it."""

    def close(self) -> None:
        """Clean up: all that was kept has been noted."""

    def abandon(self) -> None:
        """Leave it to the next run to clean up: not all has been noted."""


class LineEnds:
    """Turns CRLF into LF, also where it is in two pieces."""

    def __init__(self) -> None:
        self._cr = b""

    def feed(self, piece: bytes) -> bytes:
        """Return a piece, turned; a CR at its end waits for the next one."""
        piece = self._cr + piece
        self._cr = b"\r" if piece.endswith(b"\r") else b""
        if self._cr:
            piece = piece[:-1]
        return piece.replace(b"\r\n", b"\n")

    def rest(self) -> bytes:
        """Return what waits still."""
        rest, self._cr = self._cr, b""
        return rest


class Delivery:
    """
    One message on its way to the disk; nothing of it is kept in memory.

    :param path: the file that it is written to meanwhile; it is made with the first
        piece.
    :param turn: what is done to the line ends; ``None``: nothing.
    :param progress: is told of each piece, how many octets it had.
    """

    def __init__(self, path: Path, key: str | None, turn: LineEnds | None) -> None:
        self.path = path
        self.key = key
        self.progress: Callable[[int], object] | None = None
        self._turn = turn
        self._file: BinaryIO | None = None

    @property
    def file(self) -> BinaryIO:
        """The file, made when it is asked for."""
        if self._file is None:
            self._file = create(self.path)
        return self._file

    def write(self, data: bytes) -> None:
        """Take a piece of the message."""
        self.file.write(data if self._turn is None else self._turn.feed(data))
        if self.progress is not None:
            self.progress(len(data))

    def complete(self) -> BinaryIO:
        """Take the end of the message, and return the file."""
        if self._turn is not None:
            self.file.write(self._turn.rest())
        return self.file

    def close(self) -> None:
        """Close the file."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def discard(self) -> None:
        """Leave nothing of it behind."""
        try:
            self.close()
        except OSError:
            # The disk is full, and closing writes what is left in the buffer.
            pass
        finally:
            self.path.unlink(missing_ok=True)
