"""
The spool: messages that were retrieved and are not yet delivered everywhere, a file for
each, and those that were set aside.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from ..destinations.incoming import Incoming

__all__ = ["LIMIT", "Spool"]

LIMIT = 1_000_000_000
"""Bytes in the spool above which nothing more is retrieved."""


class Spool:
    """
    The folders of one process for messages that wait: a `Keeper`.

    Both folders are made if they do not exist, for their owner only.

    :param folder: where messages wait.
    :param aside: where copies of messages that were given up stay.
    :param limit: bytes above which nothing more is retrieved.
    :ivar used: bytes of the messages that wait.
    """

    used: int

    def __init__(self, folder: Path, aside: Path, *, limit: int = LIMIT) -> None:
        self.folder = folder
        self.aside = aside
        self.limit = limit

    def open(self) -> None:
        """
        Make and check the folders, and count what is in them; in a thread.

        :raises OSError: a folder cannot be used, or others may write to it.
        """
        raise NotImplementedError

    @property
    def full(self) -> bool:
        """Whether nothing more is to be retrieved."""
        return self.used >= self.limit

    def begin(self, account: str) -> Incoming:
        """Begin a message, as `Keeper`."""
        raise NotImplementedError

    def keep(self, messages: Sequence[Incoming]) -> None:
        """Write messages, as `Keeper`: the files, and once the folder, are fsynced."""
        raise NotImplementedError

    def find(self, name: str) -> Path | None:
        """
        Return the file of a message that waits or was set aside; ``None``: it is not
        there.

        :param name: the name of the file, as a row has it; a path in it is ignored.
        """
        raise NotImplementedError

    def remove(self, names: Iterable[str]) -> None:
        """
        Remove messages that are final, from both folders; in a thread.

        Those that are gone already, or have other names than ours, are passed over.
        """
        raise NotImplementedError

    def set_aside(self, path: Path, key: str) -> Path:
        """
        Move or copy a message to the folder of those that were given up; in a thread.

        It is on disk there when this returns.  The file in ``path`` stays: remove it
        when the new one has been noted.

        :param path: a file of this spool, or in ``tmp`` of a Maildir.
        :return: the new file.
        :raises OSError: it could not be written.
        """
        raise NotImplementedError

    def sweep(self, named: Collection[str]) -> int:
        """
        Remove the files in the spool that no row names; in a thread.

        For the owner of the folders, before the first look.

        :param named: the names or paths of files that rows name.
        :return: how many files were removed.
        """
        raise NotImplementedError
