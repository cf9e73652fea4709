"""
Disks that fail, and processes that end, for the tests of destinations and of the spool.
"""

from __future__ import annotations

import errno
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from threading import Lock

from pop3connect.destinations.base import Mail
from pop3connect.destinations.folder import Disk

__all__ = [
    "MESSAGE",
    "BrokenDisk",
    "DyingDisk",
    "SmallDisk",
    "WatchedDisk",
    "in_process",
    "mail_in",
]

MESSAGE = b"From: a@b\r\nSubject: one\r\n\r\nFrom here\r\n>From there\r\na\rb\r\n"

KILLED = 9


class BrokenDisk(Disk):
    """
    A disk on which one kind of call fails; a write is half done before.

    :ivar call: the name of the call; ``""``: none fails.
    :ivar left: how many of these calls still succeed.
    """

    def __init__(self, call: str = "", left: int = 0, number: int = errno.ENOSPC):
        self.call = call
        self.left = left
        self.number = number
        # Files are fsynced in threads.
        self._lock = Lock()

    def _check(self, call: str) -> None:
        with self._lock:
            if call == self.call:
                if self.left == 0:
                    raise OSError(self.number, os.strerror(self.number))
                self.left -= 1

    def write(self, descriptor: int, data: memoryview) -> int:
        if self.call == "write" and self.left == 0 and len(data) > 1:
            return super().write(descriptor, data[: len(data) // 2])
        self._check("write")
        return super().write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        self._check("sync")
        super().sync(descriptor)

    def rename(
        self, source: str, target: str, source_fd: int | None, target_fd: int | None
    ) -> None:
        self._check("rename")
        super().rename(source, target, source_fd, target_fd)

    def link(
        self, source: str, target: str, source_fd: int | None, target_fd: int | None
    ) -> None:
        self._check("link")
        super().link(source, target, source_fd, target_fd)


class SmallDisk(Disk):
    """
    A disk on which the files of some folders have little room.

    :ivar room: the bytes that they may have together.
    :ivar unsynced: the size of files that are found not to fit when they are fsynced;
        ``None``: there are none.
    """

    def __init__(self, *folders: Path, room: int = 0) -> None:
        self.room = room
        self.unsynced: int | None = None
        self._folders = folders

    def _left(self) -> int:
        return self.room - sum(
            path.stat().st_size
            for folder in self._folders
            for path in folder.rglob("*")
            if path.is_file()
        )

    def _is_ours(self, descriptor: int) -> bool:
        where = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        return any(folder in where.parents for folder in self._folders)

    def write(self, descriptor: int, data: memoryview) -> int:
        if self._is_ours(descriptor):
            data = data[: max(self._left(), 0)]
            if not data:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os.write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        if os.fstat(descriptor).st_size == self.unsynced:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().sync(descriptor)


class WatchedDisk(Disk):
    """
    A disk that notes what is fsynced.

    :ivar synced: the paths, in order.
    """

    def __init__(self) -> None:
        self.synced: list[Path] = []

    def sync(self, descriptor: int) -> None:
        self.synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")))
        super().sync(descriptor)


class DyingDisk(Disk):
    """
    A disk at one of whose calls the process ends, as with ``kill -9``.

    :param left: how many calls are made before; a write is half done then.
    :param after: whether the last call is still made.
    """

    def __init__(self, left: int, *, after: bool = False) -> None:
        self.left = left
        self._after = after
        self._lock = Lock()

    def _count(self, call: Callable[[], object], half: Callable[[], object]) -> None:
        with self._lock:
            if self.left == 0:
                (call if self._after else half)()
                os._exit(KILLED)
            self.left -= 1

    def write(self, descriptor: int, data: memoryview) -> int:
        self._count(
            lambda: os.write(descriptor, data),
            lambda: os.write(descriptor, data[: len(data) // 2]),
        )
        return super().write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        self._count(lambda: None, lambda: None)

    def rename(
        self, source: str, target: str, source_fd: int | None, target_fd: int | None
    ) -> None:
        move = super().rename
        self._count(lambda: move(source, target, source_fd, target_fd), lambda: None)
        move(source, target, source_fd, target_fd)

    def link(
        self, source: str, target: str, source_fd: int | None, target_fd: int | None
    ) -> None:
        link = super().link
        self._count(lambda: link(source, target, source_fd, target_fd), lambda: None)
        link(source, target, source_fd, target_fd)


def in_process(call: Callable[[], object]) -> bool:
    """Make a call in a process of its own; return whether it came to its end."""
    with warnings.catch_warnings():
        # That the other threads are missing in the child does not matter here.
        warnings.simplefilter("ignore", DeprecationWarning)
        number = os.fork()
    if number == 0:
        status = 1
        try:
            call()
            status = 0
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])
    if status not in (0, KILLED):
        raise AssertionError(f"the process ended with status {status}")
    return status == 0


def mail_in(
    folder: Path, digit: str = "a", content: bytes = MESSAGE, account: str = "anna"
) -> Mail:
    """Return a message in a file; its key is a repeated digit."""
    path = folder / f"{digit}.eml"
    path.write_bytes(content)
    return Mail(digit * 32, account, f"uid-{digit}", len(content), path)
