"""
Stores mail in an mbox: one file, in which a crash must not leave half a message.

Each message is first spooled to a separate file.  Before it is appended, a journal
records its place and its spool.  After a crash the next run compares mbox and spool: a
whole message is recognised, and half a message is removed.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import time
from collections.abc import Iterator
from glob import escape
from pathlib import Path
from typing import BinaryIO

import attrs
from twisted.python.lockfile import FilesystemLock

from ..files import create, make_folder, sync_file, sync_folder, write_all, write_whole
from .lines import LineEnds
from .store import Delivery
from .store_locks import locked

__all__ = ["Mbox"]

# mboxrd: each such line gets one more ">", so that all can be removed again.
_FROM = re.compile(rb"\n(>*From )")

_PIECE = 1024 * 1024
"""Bytes read at once, and at most as many again up to the end of the last line."""


@attrs.frozen
class _Entry:
    """
    A message that is being appended.

    :ivar offset: its place in the mbox.
    :ivar separator: the line before it.
    :ivar spool: the name of its spool.
    """

    offset: int
    separator: str
    spool: str
    key: str | None

    def text(self, folder: Path) -> Iterator[bytes]:
        """Return the text to append, in pieces."""
        yield self.separator.encode("ascii")
        before = b"\n"
        with (folder / self.spool).open("rb") as spool:
            while piece := spool.read(_PIECE) + spool.readline(_PIECE):
                yield _FROM.sub(rb"\n>\1", before + piece)[1:]
                before = piece[-1:]
        yield b"\n" if before == b"\n" else b"\n\n"


class Mbox:
    """
    An mbox file (mboxrd, lines end with LF); it is made if it does not exist.

    :ivar recovered: the key of a message that is stored, but was not recorded because
        of a crash.
    :raises OSError: it cannot be used, or another pop3connect uses it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._folder = path.parent
        self._prefix = f".{path.name}.pop3connect-"
        self._journal = self._folder / f"{self._prefix}journal"
        self.recovered: str | None = None
        make_folder(self._folder)
        name = str(self._folder / f"{self._prefix}lock")
        self._lock = FilesystemLock(name)
        if not self._lock.lock():
            raise OSError(
                f"another pop3connect writes to {path}; if none does, remove {name}"
            )
        try:
            self._recover()
        except BaseException:
            self._lock.unlock()
            raise

    def holds(self, key: str) -> bool:
        """Return whether the message is the recovered one."""
        return key == self.recovered

    def deliver(self, key: str | None) -> Delivery:
        """Begin a message."""
        spool = self._folder / f"{self._prefix}{secrets.token_hex(8)}.spool"
        return Delivery(spool, key, LineEnds())

    def keep(self, delivery: Delivery) -> None:
        """
        Append a message; it is on disk when this returns.

        The journal stays until the next message: the caller has not recorded this one.
        """
        try:
            sync_file(delivery.complete())
            delivery.close()
            with self._open() as box:
                self._append(box, delivery)
        except OSError:
            entry = self._entry()
            # If the journal names it, it may be in the mbox: the next run compares.
            if entry is None or entry.spool != delivery.path.name:
                delivery.discard()
            raise

    def _append(self, box: BinaryIO, delivery: Delivery) -> None:
        end = box.seek(0, os.SEEK_END)
        entry = _Entry(
            offset=end,
            separator=f"From MAILER-DAEMON {time.asctime(time.gmtime())}\n",
            spool=delivery.path.name,
            key=delivery.key,
        )
        sync_folder(self._folder)
        write_whole(self._journal, json.dumps(attrs.asdict(entry)).encode("ascii"))
        self._remove_spools(but=entry.spool)
        try:
            for piece in entry.text(self._folder):
                write_all(box, piece)
            sync_file(box)
        except OSError:
            # The file is unbuffered, so nothing is written after this.
            box.truncate(end)
            self._journal.unlink()
            raise

    @contextlib.contextmanager
    def _open(self) -> Iterator[BinaryIO]:
        """Open the mbox, locked against the programs that deliver and read mail."""
        with contextlib.suppress(FileExistsError):
            create(self._path).close()
        scratch = self._folder / f"{self._prefix}{secrets.token_hex(8)}.spool"
        with (
            self._path.open("r+b", buffering=0) as file,
            locked(self._path, file, scratch),
        ):
            yield file

    def _entry(self) -> _Entry | None:
        """Return the entry of the journal, if there is a journal."""
        try:
            return _Entry(**json.loads(self._journal.read_bytes()))
        except FileNotFoundError:
            return None

    def _recover(self) -> None:
        """Clean up after a crash."""
        entry = self._entry()
        if entry is not None and (self._folder / entry.spool).exists():
            with self._open() as box:
                self._compare(box, entry)
        if self.recovered is None:
            self._clean()

    def _compare(self, box: BinaryIO, entry: _Entry) -> None:
        if box.seek(0, os.SEEK_END) < entry.offset:
            # Mail has been removed from it meanwhile, ours too.
            return
        box.seek(entry.offset)
        for piece in entry.text(self._folder):
            found = box.read(len(piece))
            if found == piece:
                continue
            if piece.startswith(found) and not box.read(1):
                box.truncate(entry.offset)
                os.fsync(box.fileno())
            # Otherwise another program has changed the mbox: leave it as it is.
            return
        self.recovered = entry.key

    def _remove_spools(self, but: str = "") -> None:
        # And temporary files of journals and records that a crash left.
        for path in self._folder.glob(f"{escape(self._prefix)}*"):
            if path.suffix in (".spool", ".new") and path.name != but:
                path.unlink(missing_ok=True)

    def _clean(self) -> None:
        self._journal.unlink(missing_ok=True)
        self._remove_spools()

    def close(self) -> None:
        """Clean up: every stored message has been recorded."""
        self._clean()
        self._lock.unlock()

    def abandon(self) -> None:
        """Leave the cleaning up to the next run: not every message was recorded."""
        self._lock.unlock()
