"""
The interface of mail stores: they take a message in pieces, then keep or discard it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Protocol

from ..files import create
from .lines import LineEnds

__all__ = ["Delivery", "Store"]


class Store(Protocol):
    """
    A place for mail.

    :ivar recovered: the key of a message that is stored, but was not recorded because
        of a crash, in stores that recognise only this one.
    """

    recovered: str | None

    def deliver(self, key: str | None) -> Delivery:
        """
        Begin a message.

        :param key: identifies the message; ``None`` if nothing does.
        """

    def keep(self, delivery: Delivery) -> None:
        """
        Store a complete message; it is on disk when this returns.

        :raises OSError: it could not be stored.  If the error came after that, the next
            run recognises the message.
        """

    def holds(self, key: str) -> bool:
        """Return whether the message is stored, as far as the store can tell."""

    def close(self) -> None:
        """Clean up: every stored message has been recorded."""

    def abandon(self) -> None:
        """Leave the cleaning up to the next run: not every message was recorded."""


class Delivery:
    """
    One message on its way to the disk; it is not kept in memory.

    :param path: the temporary file, which is made with the first piece.
    :param turn: converts the line ends; ``None`` leaves them.
    :ivar progress: called with the number of bytes of each piece.
    """

    def __init__(self, path: Path, key: str | None, turn: LineEnds | None) -> None:
        self.path = path
        self.key = key
        self.progress: Callable[[int], object] | None = None
        self._turn = turn
        self._file: BinaryIO | None = None

    @property
    def file(self) -> BinaryIO:
        """The file, made when it is first needed."""
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
        """Remove the temporary file."""
        try:
            self.close()
        except OSError:
            # The disk is full, and closing writes the rest of the buffer.
            pass
        finally:
            self.path.unlink(missing_ok=True)
