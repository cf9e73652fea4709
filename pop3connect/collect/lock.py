"""
Gives a folder of the collector to one process at a time, and keeps other users out.
"""

from __future__ import annotations

import os
import stat
import sys
from contextlib import suppress
from pathlib import Path

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from ..errors import POP3Error
from ..files import make_folder
from ..remedies import Remedy, literal

if sys.platform != "win32":
    import fcntl

__all__ = [
    "FolderLock",
    "InUseError",
    "UnsafeFileError",
    "check_file",
    "private_folder",
]

LOCK_FILE = "lock"
"""The name of the file in the folder that is locked.  It is never removed: a process
could hold the lock of a removed file while another locks a new one."""

PAUSE = 0.1
"""Seconds between two attempts to lock the folder ``state``."""


class InUseError(POP3Error):
    """Another process has locked the folder."""


class UnsafeFileError(POP3Error):
    """A file or folder is a link, or of the wrong kind, or another user controls it."""


def private_folder(folder: Path) -> None:
    """
    Make a folder that only its owner can use, or check that it is one.

    :raises UnsafeFileError: it is a link or not a folder, belongs to another user, or
        others may write to it.
    :raises OSError: it cannot be made.
    """
    if not os.path.lexists(folder):
        # Another process may make it at the same time, or plant a link: it is checked.
        make_folder(folder)
    found = os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode):
        raise UnsafeFileError(
            f"{folder} is not a folder", remedy=Remedy("choose another folder")
        )
    _check_owner(folder, found)
    if os.name == "posix" and found.st_mode & 0o022:
        raise UnsafeFileError(
            f"other users may write to the folder {folder}",
            remedy=Remedy(literal(f"run: chmod 700 {folder}")),
        )


def check_file(path: Path) -> bool:
    """
    Check that a file is a regular one of ours, without opening it.

    Its folder must be private (see `private_folder`): otherwise another user could
    replace the file after the check.

    :return: whether it exists.
    :raises UnsafeFileError: it is a link, has another name elsewhere, is not a regular
        file, or belongs to another user.
    """
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return False
    _check_regular(path, found)
    return True


def _check_regular(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise UnsafeFileError(
            f"{path} is not a regular file", remedy=Remedy("remove it")
        )
    # A hard link: what is written would reach another file of ours.
    if found.st_nlink > 1:
        raise UnsafeFileError(
            f"{path} has a second name (a hard link)", remedy=Remedy("remove it")
        )
    _check_owner(path, found)


def _check_owner(path: Path, found: os.stat_result) -> None:
    if os.name == "posix" and found.st_uid != os.geteuid():
        raise UnsafeFileError(
            f"{path} belongs to the user with the ID {found.st_uid}, not to "
            f"the one that runs this program ({os.geteuid()})",
            remedy=Remedy("run it as that user, or choose another folder"),
        )


class FolderLock:
    """
    The lock of a folder, held until `release` or until the process ends.

    It is a lock of the operating system (flock), which ends with its process.

    :ivar folder: the folder.
    """

    def __init__(self, folder: Path, descriptor: int) -> None:
        self.folder = folder
        self._descriptor: int | None = descriptor

    @classmethod
    def take(cls, folder: Path) -> FolderLock:
        """
        Lock a folder, which is made if it does not exist.

        :raises InUseError: another process holds the lock.
        :raises UnsafeFileError: see `private_folder` and `check_file`.
        :raises OSError: the lock file cannot be made.
        """
        private_folder(folder)
        path = folder / LOCK_FILE
        check_file(path)
        # A child does not inherit the descriptor, and so not the lock (PEP 446).
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o600)
        try:
            _check_regular(path, os.fstat(descriptor))
            if not _lock(descriptor):
                raise InUseError(
                    f"{folder} is in use by {_holder(descriptor)}",
                    remedy=Remedy("stop it first, or choose another state folder"),
                )
            with suppress(OSError):
                # For people; a full disk is reported by what needs it.
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(folder, descriptor)

    @classmethod
    async def wait(
        cls, folder: Path, seconds: float, reactor: IReactorTime
    ) -> FolderLock:
        """
        Lock a folder, and wait for it if another process holds the lock.

        :raises InUseError: it still does after ``seconds``.
        """
        end = reactor.seconds() + seconds
        while True:
            try:
                return cls.take(folder)
            except InUseError:
                if reactor.seconds() >= end:
                    raise
            await deferLater(reactor, PAUSE)

    def release(self) -> None:
        """Unlock the folder.  A second call does nothing."""
        if self._descriptor is not None:
            # Not by closing alone: a child that is about to run another program has
            # the descriptor for a moment.
            _unlock(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None


def _lock(descriptor: int) -> bool:
    if sys.platform == "win32":  # pragma: no cover - Windows has no such lock
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _unlock(descriptor: int) -> None:
    if sys.platform != "win32":
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def _holder(descriptor: int) -> str:
    number = os.pread(descriptor, 20, 0).strip()
    return f"process {number.decode()}" if number.isdigit() else "another process"
