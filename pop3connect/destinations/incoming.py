"""
Messages that are being received: in memory while they are small, then in a file.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import attrs

from .folder import Folder, NewFile, has_room, is_full, sync_each
from .lines import LineEnds

__all__ = [
    "HEAD",
    "RUN",
    "SMALL",
    "Incoming",
    "Keeper",
    "Kept",
    "groups",
    "keep_in",
    "safe_key",
]

SMALL = 64 * 1024
"""Bytes of a message that are kept in memory; a larger one is written as it comes."""

HEAD = 256 * 1024
"""Bytes at the beginning of every message that `Incoming.head` returns at most."""

AT_ONCE = 64
"""Files that are open at once while they are written and fsynced."""

RUN = secrets.token_hex(4)
"""In the names of files: tells those of this process from those of earlier ones."""

NO_KEY = "0" * 32
"""Stands in the name of a file for the key, while a message is being received."""

_KEY = re.compile(r"[0-9a-f]{32}")

_T = TypeVar("_T")


def safe_key(key: str) -> str:
    """
    Return a key for the name of a file.

    :raises ValueError: it is not a key of a message, so that it could be a path.
    """
    if not _KEY.fullmatch(key):
        raise ValueError(f"{key!r} is not the key of a message")
    return key


def groups(values: Sequence[_T], size: int = AT_ONCE) -> Iterator[Sequence[_T]]:
    """Return a sequence in parts of at most ``size``."""
    for start in range(0, len(values), size):
        yield values[start : start + size]


class Incoming:
    """
    A message that is being received; a destination for `Handle.retrieve`.

    :param account: the name of its account.
    :param begin: makes the file of a message that is not small; its name is temporary.
    :param turn: converts the line ends; ``None`` leaves them.
    :ivar key: the key of the message; to be set before it is kept.
    :ivar received: its bytes so far, as on the wire.
    :ivar lines: its lines so far.
    :ivar watch: called with each piece, such as to hash it or to show progress.
    :ivar path: the file that holds it; ``None`` until it is kept.
    :ivar stored: the bytes in that file.
    """

    def __init__(
        self,
        account: str,
        begin: Callable[[], NewFile],
        turn: LineEnds | None = None,
    ) -> None:
        self.account = account
        self.key = ""
        self.received = 0
        self.lines = 0
        self.watch: Callable[[bytes], object] | None = None
        self.path: Path | None = None
        self.stored = 0
        self._begin = begin
        self._turn = turn
        self._head = bytearray()
        self._file: NewFile | None = None
        # Why it did not fit.
        self._full: OSError | None = None

    def write(self, data: bytes) -> None:
        """
        Take a piece of the message.

        If it does not fit, its file is removed at once, for the sake of those
        that fit.  The rest of it is counted and dropped, and it cannot be kept.

        :raises OSError: it could not be written, and the disk is not full.
        :raises Later: the Maildir it goes to cannot be used.
        """
        if self._full is None:
            try:
                self._store(data)
            except OSError as error:
                if not is_full(error):
                    raise
                self._full = error
                self._remove()
        self.received += len(data)
        self.lines += data.count(b"\n")
        if len(self._head) < HEAD:
            self._head += data[: HEAD - len(self._head)]
        if self.watch is not None:
            self.watch(data)

    def _store(self, data: bytes) -> None:
        if self._file is None and self.received + len(data) > SMALL:
            self._file = self._begin()
            self._put(bytes(self._head))
        if self._file is not None:
            self._put(data)

    def _put(self, data: bytes) -> None:
        assert self._file is not None
        self._file.write(data if self._turn is None else self._turn.feed(data))

    @property
    def head(self) -> bytes:
        """The first bytes, as on the wire: at most `HEAD`."""
        return bytes(self._head)

    @property
    def held(self) -> int:
        """The bytes that are in memory."""
        return len(self._head)

    def settle(self, folder: Folder, name: str, mode: int) -> NewFile:
        """
        Write the rest of it to a file with its final name, and return that.

        :raises OSError: that was not possible, or the disk was full while it arrived.
        """
        if self._full is not None:
            raise self._full
        if self._file is None:
            self._file = folder.create(name, mode)
            self._put(bytes(self._head))
        else:
            self._file.rename(folder, name)
        if self._turn is not None:
            self._file.write(self._turn.rest())
        self.stored = self._file.size
        return self._file

    def kept(self, path: Path) -> None:
        """Forget the file, which is on disk."""
        self._file = None
        self._head.clear()
        self.path = path

    def discard(self) -> None:
        """Remove a message that is not kept; it may be called at any time."""
        self._head.clear()
        self._remove()

    def _remove(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.remove()


@attrs.frozen
class Kept:
    """
    What became of a group of messages.

    :ivar refused: those that did not fit, and why; all others are on disk.
    :ivar full: why nothing fits any more, not even a small message; ``None``: the
        others were too large.
    """

    refused: tuple[tuple[Incoming, OSError], ...] = ()
    full: Exception | None = None


def keep_in(
    folder: Folder,
    messages: Sequence[Incoming],
    name_of: Callable[[Incoming], str],
    mode: int = 0o600,
    *,
    spare: str,
) -> Kept:
    """
    Write messages to a folder; the files and, once, the folder are fsynced.

    :param spare: a name for a file that finds out whether there is any room.
    :return: what became of them.  In ``full`` is an `OSError`.
    :raises OSError: none of them is kept.
    """
    settled: list[tuple[Incoming, NewFile]] = []
    refused: list[tuple[Incoming, OSError]] = []
    full: OSError | None = None

    def refuse(message: Incoming, error: OSError) -> None:
        if not is_full(error):
            raise error
        message.discard()
        refused.append((message, error))

    try:
        for group in groups(messages):
            # All are written before the first is waited for.
            written: list[tuple[Incoming, NewFile]] = []
            for message in group:
                try:
                    file = message.settle(folder, name_of(message), mode)
                except OSError as error:
                    refuse(message, error)
                else:
                    written.append((message, file))
            failed = sync_each([file for _, file in written])
            for (message, file), unsynced in zip(written, failed, strict=True):
                if unsynced is not None:
                    refuse(message, unsynced)
                    continue
                file.close()
                settled.append((message, file))
        if settled:
            folder.sync()
        if refused and not has_room(folder, spare):
            full = refused[0][1]
    except BaseException:
        for message in messages:
            message.discard()
        raise
    for message, file in settled:
        message.kept(folder.path / file.name)
    return Kept(tuple(refused), full)


class Keeper(Protocol):
    """
    Where messages are kept until they are delivered: the spool, or a Maildir.

    Except for `begin`, the methods block: call them in a thread.
    """

    def begin(self, account: str) -> Incoming:
        """Begin a message; does not touch the disk."""

    def keep(self, messages: Sequence[Incoming]) -> Kept:
        """
        Write complete messages; they are on disk when this returns.

        Afterwards `Incoming.path` names the file.  After an error none is kept; a full
        disk is an error only if it does not take the names of the files.

        :return: which of them are not kept, because they did not fit.
        :raises OSError: one of them could not be written.
        :raises Later: the Maildir cannot be used.
        """

    def find(self, name: str) -> Path | None:
        """
        Return the file of a message; ``None``: it is not there.

        :param name: the name of the file, as a row has it; a path in it is ignored.
        :raises Later: the Maildir cannot be used, which does not mean that the message
            is lost.
        """

    def remove(self, names: Iterable[str]) -> None:
        """
        Remove files of messages that are final.

        Those that are gone already, or have other names than ours, are passed over.
        """
