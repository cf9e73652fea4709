"""
Writes files so that after a crash they are whole, or do not exist.

A file is on disk when its content is (fsync) and its name is (fsync of the folder).
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Protocol

__all__ = [
    "Writable",
    "append",
    "create",
    "make_folder",
    "put",
    "remove_abandoned",
    "replace",
    "sync_file",
    "sync_folder",
    "write_all",
    "write_whole",
]


ABANDONED = 36 * 3600
"""Seconds after which a temporary file is abandoned: Maildir's number."""


class Writable(Protocol):
    """A file, or another object with a ``write`` for bytes."""

    def write(self, data: bytes, /) -> object:
        """Write, and return the number of bytes written if those were not all."""


def create(path: Path, mode: int = 0o600) -> BinaryIO:
    """
    Create a file, by default one that only its owner can read.

    :raises FileExistsError: it exists already.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, flags, mode), "wb")


def make_folder(folder: Path) -> None:
    """
    Make a folder and the missing ones above it, for their owner only.

    Each new folder is on disk when this returns.  Existing folders keep their
    permissions.

    :raises OSError: a folder cannot be made, or a file is in its place.
    """
    if not folder.is_dir():
        if not folder.parent.exists():
            make_folder(folder.parent)
        # Path.mkdir(parents=True) gives its mode to the last folder only.
        folder.mkdir(mode=0o700, exist_ok=True)
        sync_folder(folder.parent)


def sync_file(file: BinaryIO) -> None:
    """Wait until all that was written to a file is on disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on disk."""
    if os.name == "nt":  # pragma: no cover - a folder cannot be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace(source: Path, target: Path) -> None:
    """Rename a file in its folder, and wait until its new name is on disk."""
    os.replace(source, target)
    sync_folder(target.parent)


def put(file: BinaryIO, content: bytes) -> None:
    """Write to a file, and wait until the content is on disk."""
    file.write(content)
    sync_file(file)


def append(path: Path, content: bytes) -> None:
    """
    Write at the end of a file, and wait until that is on disk.

    After a crash or an error, a part of ``content`` may be there.

    :raises OSError: the file does not exist, or cannot be written.
    """
    flags = os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags), "ab") as file:
        put(file, content)


def write_all(file: Writable, content: bytes) -> None:
    """
    Write all of ``content``, even if each call of ``write`` takes only a part of it.

    :raises BlockingIOError: the file accepts no more bytes.
    """
    left = content
    while left:
        taken = file.write(left)
        if taken == 0:
            raise BlockingIOError("the file accepts no more bytes")
        # An object that is not a file may return anything; then it has taken all.
        left = left[taken:] if isinstance(taken, int) else b""


def remove_abandoned(files: Iterable[Path]) -> None:
    """
    Remove those temporary files that a crash left behind long ago.

    A file that cannot be removed is left: another process may have been faster.
    """
    now = time.time()
    for file in files:
        with suppress(OSError):
            if now - file.stat().st_mtime > ABANDONED:
                file.unlink()


def write_whole(path: Path, content: bytes, mode: int = 0o600) -> None:
    """
    Write a file in one go, in place of the old one.

    A crash leaves the old file or the new one, and both are whole.  Missing folders
    are made, as `make_folder` does.

    :param mode: the permissions of the new file.
    :raises OSError: the new file cannot be written, or is not certain to be on disk;
        there is the old file or the new one, and it is whole.
    """
    # Late, because a session without a file does not need it.
    from glob import escape

    make_folder(path.parent)
    # Hidden, so that nothing takes it for one of the files in the folder: a client
    # reads every file of a cacerts folder that is not hidden.
    hidden = f".{path.name.removeprefix('.')}"
    remove_abandoned(path.parent.glob(f"{escape(hidden)}.{'[0-9a-f]' * 8}.new"))
    fresh = path.with_name(f"{hidden}.{secrets.token_hex(4)}.new")
    try:
        with create(fresh, mode) as file:
            put(file, content)
        replace(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)
