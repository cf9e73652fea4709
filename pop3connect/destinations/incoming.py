"""
Messages that are being received: in memory while they are small, then in a file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

__all__ = ["HEAD", "SMALL", "Incoming", "Keeper"]

SMALL = 64 * 1024
"""Bytes of a message that are kept in memory.  Larger ones are written as they come."""

HEAD = 256 * 1024
"""Bytes at the beginning of every message that `Incoming.head` returns at most."""


class Incoming:
    """
    A message that is being received; a destination for `Handle.retrieve`.

    :ivar key: the key of the message; to be set before it is kept.
    :ivar account: the name of its account.
    :ivar received: its bytes so far, as on the wire.
    :ivar lines: its lines so far.
    :ivar watch: called with each piece, such as to hash it or to show progress.
    :ivar path: the file that holds it; ``None`` until it is kept.
    """

    key: str
    account: str
    received: int
    lines: int
    path: Path | None
    watch: Callable[[bytes], object] | None

    def write(self, data: bytes) -> None:
        """
        Take a piece of the message.

        :raises OSError: it could not be written.
        """
        raise NotImplementedError

    @property
    def head(self) -> bytes:
        """The first bytes, as on the wire: at most `HEAD`."""
        raise NotImplementedError

    def discard(self) -> None:
        """Remove a message that is not kept; it may be called at any time."""
        raise NotImplementedError


class Keeper(Protocol):
    """Where messages are kept until they are delivered: the spool, or a Maildir."""

    def begin(self, account: str) -> Incoming:
        """Begin a message; does not touch the disk."""

    def keep(self, messages: Sequence[Incoming]) -> None:
        """
        Write complete messages; they are on disk when this returns.

        It blocks: call it in a thread.  Afterwards `Incoming.path` names the file.

        :raises OSError: none of them is kept.
        """
