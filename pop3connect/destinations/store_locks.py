"""
Locks an mbox against the programs that deliver and read mail.

They use one of two locks, or both: the system's (fcntl), which ends with its process,
and a file next to the mbox, the dot lock, which does not.  Our dot lock names its
process, and is removed if that process was killed.  The process number comes first,
where liblockfile and similar libraries look for it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from ..files import create

if sys.platform != "win32":
    import fcntl

__all__ = ["locked"]

PATIENCE = 20
"""Attempts, a tenth of a second apart: a delivery takes less than two seconds."""

_PAUSE = 0.1


@contextlib.contextmanager
def locked(path: Path, file: BinaryIO, scratch: Path) -> Iterator[None]:
    """
    Hold both locks of an mbox.

    :param file: the mbox, open for writing.
    :param scratch: the name of a temporary file.
    :raises OSError: another program holds a lock.
    """
    dot = path.with_name(f"{path.name}.lock")
    _try(path, lambda: _lock_file(file), "")
    _try(path, lambda: _make_dot_lock(dot, scratch), f"; if none does, remove {dot}")
    try:
        yield
    finally:
        # The system's lock ends when the file is closed.
        dot.unlink(missing_ok=True)


def _try(path: Path, lock: Callable[[], bool], remedy: str) -> None:
    for _ in range(PATIENCE):
        if lock():
            return
        time.sleep(_PAUSE)
    raise OSError(f"another program uses {path}{remedy}")


def _lock_file(file: BinaryIO) -> bool:
    if sys.platform == "win32":  # pragma: no cover - Windows has no such lock
        return True
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _make_dot_lock(dot: Path, scratch: Path) -> bool:
    content = f"{os.getpid()} {_OWNER}\n".encode()
    try:
        _put(dot, scratch, content)
    except FileExistsError:
        if not _is_stale(dot):
            return False
        # Safe: only the process that holds the other lock gets here.
        dot.unlink(missing_ok=True)
        _put(dot, scratch, content)
    return True


def _put(dot: Path, scratch: Path, content: bytes) -> None:
    # Not written in place: the lock never exists without its owner in it.
    try:
        with create(scratch) as file:
            file.write(content)
        _link(scratch, dot)
    finally:
        scratch.unlink(missing_ok=True)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:
        # A file system without hard links.
        if target.exists():
            raise FileExistsError(target) from None
        os.replace(source, target)


_OWNER = f"pop3connect {socket.gethostname()}"


def _is_stale(dot: Path) -> bool:
    """Return whether a dot lock is ours, from this computer, and its process ended."""
    try:
        number, _, owner = dot.read_text("utf-8").partition(" ")
        if owner != f"{_OWNER}\n":
            return False
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except (OSError, ValueError, OverflowError):
        return False
    return False
