"""
The spool: messages that were retrieved and are not yet delivered everywhere, a file for
each, and those that were set aside.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
import threading
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from ..destinations.folder import (
    DISK,
    Disk,
    Folder,
    NewFile,
    make_folders,
    open_regular,
    pieces,
)
from ..destinations.incoming import NO_KEY, RUN, Incoming, Kept, keep_in, safe_key

__all__ = ["LIMIT", "Spool"]

LIMIT = 1_000_000_000
"""Bytes in the spool above which nothing more is retrieved."""

_OURS = re.compile(r"([0-9a-f]{32})-([0-9a-f]{8})[0-9a-f]{8}\.eml")


class Spool:
    """
    The folders of one process for messages that wait: a `Keeper`.

    Both folders are made if they do not exist, for their owner only.

    :param folder: where messages wait.
    :param aside: where copies of messages that were given up stay.
    :param limit: bytes above which nothing more is retrieved.
    :param disk: the calls that a full disk fails.
    """

    def __init__(
        self, folder: Path, aside: Path, *, limit: int = LIMIT, disk: Disk = DISK
    ) -> None:
        self.folder = folder.absolute()
        self.aside = aside.absolute()
        self.limit = limit
        self._disk = disk
        self._sizes: dict[str, int] = {}
        self._used = 0
        # Files are kept and removed in threads.
        self._lock = threading.Lock()

    @property
    def used(self) -> int:
        """The bytes of the messages that wait."""
        return self._used

    @property
    def full(self) -> bool:
        """Whether nothing more is to be retrieved."""
        return self._used >= self.limit

    def open(self) -> None:
        """
        Make and check the folders, and count what is in them; in a thread.

        :raises OSError: a folder cannot be used, or others may write to it.
        """
        for path in (self.folder, self.aside):
            make_folders(path, disk=self._disk)
            with Folder(path) as folder:
                if stat.S_IMODE(folder.status.st_mode) & 0o022:
                    raise PermissionError(
                        f"other users may write to {path}; remove that permission "
                        "(chmod 700)"
                    )
        with self._open() as folder:
            for name in filter(_OURS.fullmatch, folder.names()):
                status = folder.stat(name)
                if status is not None:  # pragma: no branch - nobody else removes it
                    self._count(name, status.st_size)

    def _open(self) -> Folder:
        return Folder(self.folder, self._disk)

    def _count(self, name: str, size: int) -> None:
        with self._lock:
            self._used += size - self._sizes.pop(name, 0)
            if size:
                self._sizes[name] = size

    def begin(self, account: str) -> Incoming:
        """Begin a message, as `Keeper`."""
        return Incoming(account, self._begin)

    def _begin(self) -> NewFile:
        return self._open().create(_name(NO_KEY), last=True)

    def keep(self, messages: Sequence[Incoming]) -> Kept:
        """Write messages, as `Keeper`: the files, and once the folder, are fsynced."""
        with self._open() as folder:
            kept = keep_in(
                folder,
                messages,
                lambda message: _name(message.key),
                spare=_name(NO_KEY),
            )
        for message in messages:
            if message.path is not None:
                self._count(message.path.name, message.stored)
        return kept

    def find(self, name: str) -> Path | None:
        """
        Return the file of a message that waits or was set aside, as `Keeper`.

        :param name: the name of the file, as a row has it; a path in it is ignored.
        """
        name = Path(name).name
        if _OURS.fullmatch(name):
            for path in (self.folder, self.aside):
                with Folder(path) as folder:
                    if folder.has_file(name):
                        return path / name
        return None

    def remove(self, names: Iterable[str]) -> None:
        """Remove messages that are final from both folders, as `Keeper`."""
        with self._open() as waiting, Folder(self.aside) as aside:
            for name in {Path(name).name for name in names}:
                if _OURS.fullmatch(name):
                    waiting.remove(name)
                    aside.remove(name)
                    self._count(name, 0)

    def set_aside(self, path: Path, key: str) -> Path:
        """
        Copy a message to the folder of those that were given up; in a thread.

        It is on disk there when this returns.  The file in ``path`` stays: remove it
        when the new one has been noted.

        :param path: a file of this spool, or in ``tmp`` of a Maildir.
        :return: the new file.
        :raises OSError: it could not be written.
        """
        name = _name(safe_key(key))
        with Folder(self.aside, self._disk) as aside:
            if path.parent == self.folder:
                with self._open() as waiting:
                    _link(waiting, path.name, aside, name)
            else:
                _copy(path, aside, name)
            aside.sync()
        return self.aside / name

    def unknown(self, named: Collection[str]) -> list[str]:
        """
        Return the copies of messages set aside that no row names; in a thread.

        :param named: the names or paths of files that rows name.
        """
        keep = {Path(name).name for name in named}
        with Folder(self.aside) as folder:
            names = filter(_OURS.fullmatch, folder.names())
            return sorted(name for name in names if name not in keep)

    def sweep(self, named: Collection[str]) -> int:
        """
        Remove the files of earlier processes that no row names; in a thread.

        What was set aside is never removed here.  For the owner of the folders, before
        the first look.

        :param named: the names or paths of files that rows name.
        :return: how many files were removed.
        """
        keep = {Path(name).name for name in named}
        removed = 0
        with self._open() as folder:
            for name in folder.names():
                found = _OURS.fullmatch(name)
                if found and found[2] != RUN and name not in keep:
                    removed += folder.remove(name)
                    self._count(name, 0)
        return removed


def _name(key: str) -> str:
    return f"{safe_key(key)}-{RUN}{secrets.token_hex(4)}.eml"


def _link(source: Folder, name: str, target: Folder, new: str) -> None:
    try:
        source.link(name, target, new)
    except OSError:
        # Other file systems, or one without hard links.
        _copy(source.path / name, target, new)


def _copy(path: Path, folder: Folder, name: str) -> None:
    with os.fdopen(open_regular(path), "rb") as source:
        file = folder.create(name)
        try:
            for piece in pieces(source):
                file.write(piece)
            file.sync()
        except BaseException:
            file.remove()
            raise
        file.close()
