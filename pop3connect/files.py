"""
Writes files so that they are whole after a crash, or not there at all.

A file is on disk when it is (fsync) and its name is (fsync of the folder).
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import BinaryIO, Protocol

__all__ = [
    "Writable",
    "create",
    "make_folder",
    "put",
    "replace",
    "sync_file",
    "sync_folder",
    "write_all",
    "write_whole",
]


class Writable(Protocol):
    """What bytes can be written to: a file, or an object with such a method."""

    def write(self, data: bytes, /) -> object:
        """Write, and return how many bytes were written if that was not all."""


def create(path: Path, mode: int = 0o600) -> BinaryIO:
    """
    Create a file, by default one that only its owner can read.

    :raises FileExistsError: it is there already.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, flags, mode), "wb")


def make_folder(folder: Path) -> None:
    """
    Make a folder and those above it, as far as they are missing, for their owner only.

    Each is on disk when this returns.  Existing folders keep their permissions.

    :raises OSError: one cannot be made, or a file is in its place.
    """
    if not folder.is_dir():
        if not folder.parent.exists():
            make_folder(folder.parent)
        # Path.mkdir(parents=True) would give its mode to the last one alone.
        folder.mkdir(mode=0o700, exist_ok=True)
        sync_folder(folder.parent)


def sync_file(file: BinaryIO) -> None:
    """Wait until what was written to a file is on disk."""
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
    """Give a file that is on disk another name, and wait until that is on disk."""
    os.replace(source, target)
    sync_folder(target.parent)
    if source.parent != target.parent:
        sync_folder(source.parent)


def put(file: BinaryIO, content: bytes) -> None:
    """Write to a file, and wait until it is on disk."""
    file.write(content)
    sync_file(file)


def write_all(file: Writable, content: bytes) -> None:
    """
    Write all of it, also to a file without a buffer, which takes what it can at once.

    :raises BlockingIOError: the file takes nothing more.
    """
    left = content
    while left:
        taken = file.write(left)
        if taken == 0:
            raise BlockingIOError("the file takes no more bytes")
        # What is not a real file may return anything; then it has taken all.
        left = left[taken:] if isinstance(taken, int) else b""


def write_whole(path: Path, content: bytes, mode: int = 0o600) -> None:
    """
    Put a file in place of what is there, in one go.

    A crash leaves the old file or the new one, and both are whole.  Missing folders
    are made, as `make_folder` does.

    :param mode: the permissions of the new file.
    :raises OSError: it cannot be written; the old file is as it was.
    """
    make_folder(path.parent)
    fresh = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
    try:
        with create(fresh, mode) as file:
            put(file, content)
        replace(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)
