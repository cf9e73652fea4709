"""
Gives a folder of the collector to one process at a time, and keeps others out of it.
"""

from __future__ import annotations

from pathlib import Path

from twisted.internet.defer import Deferred

from ..errors import POP3Error

__all__ = [
    "FolderLock",
    "InUseError",
    "UnsafeFileError",
    "check_file",
    "private_folder",
]


class InUseError(POP3Error):
    """Another process has locked the folder."""


class UnsafeFileError(POP3Error):
    """A file or folder is a link, not a regular file, or belongs to another user."""


def private_folder(folder: Path) -> None:
    """
    Make a folder that only its owner can use, or check that it is one.

    :raises UnsafeFileError: it is a link or not a folder, belongs to another user, or
        others may write to it.
    :raises OSError: it cannot be made.
    """
    raise NotImplementedError


def check_file(path: Path) -> bool:
    """
    Check that a file is a regular one of ours, and private; nothing is opened.

    :return: whether it exists.
    :raises UnsafeFileError: it is not.
    """
    raise NotImplementedError


class FolderLock:
    """
    The lock of a folder, held until `release` or until the process ends.
    """

    @classmethod
    def take(cls, folder: Path) -> FolderLock:
        """
        Lock a folder, which is made if it does not exist.

        :raises InUseError: another process holds it.
        :raises UnsafeFileError: see `private_folder`.
        """
        raise NotImplementedError

    @classmethod
    def wait(
        cls, folder: Path, seconds: float, reactor: object
    ) -> Deferred[FolderLock]:
        """
        Lock a folder, and wait for it if another process holds it.

        :raises InUseError: it still does after ``seconds``.
        """
        raise NotImplementedError

    def release(self) -> None:
        """Unlock the folder.  A second call does nothing."""
        raise NotImplementedError
