"""
Opens folders and files so that nothing planted in a shared folder can do harm.

A folder is opened once, and names in it are looked up in the open folder: replacing it
by a link changes nothing.  A file is opened only if it is a regular file of the user
that this process runs as; links are not followed, and no FIFO or device is opened.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Thread
from typing import BinaryIO

__all__ = [
    "DISK",
    "Disk",
    "Folder",
    "NewFile",
    "has_room",
    "is_full",
    "make_folders",
    "open_regular",
    "pieces",
    "sync_each",
]

PIECE = 1024 * 1024
"""Bytes that are read and written at once."""

SYNCS = 8
"""Files that are waited for at the same time."""

ROOM = 64 * 1024
"""Bytes: a disk that does not take a file of this size has no room for anything."""

_FULL = (errno.ENOSPC, errno.EDQUOT)

_BINARY: int = getattr(os, "O_BINARY", 0)
_NOFOLLOW: int = getattr(os, "O_NOFOLLOW", 0)
# Opening a FIFO does not wait for the other end.
_NONBLOCK: int = getattr(os, "O_NONBLOCK", 0)
_DIRECTORY: int = getattr(os, "O_DIRECTORY", 0)


class Disk:
    """The calls that fail on a full or broken disk; tests pass one that fails."""

    def write(self, descriptor: int, data: memoryview) -> int:
        """Write, and return how many bytes were written."""
        return os.write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        """Wait until a file or a folder is on disk."""
        os.fsync(descriptor)

    def rename(
        self, source: str, target: str, source_fd: int | None, target_fd: int | None
    ) -> None:
        """Rename a file, from one open folder into another."""
        os.rename(source, target, src_dir_fd=source_fd, dst_dir_fd=target_fd)

    def link(
        self, source: str, target: str, source_fd: int | None, target_fd: int | None
    ) -> None:
        """Give a file a second name."""
        os.link(
            source,
            target,
            src_dir_fd=source_fd,
            dst_dir_fd=target_fd,
            follow_symlinks=False,
        )


DISK = Disk()
"""The real one."""


def is_full(error: BaseException | None) -> bool:
    """Return whether an error says that the disk is full, or a quota is used up."""
    return isinstance(error, OSError) and error.errno in _FULL


def _user(otherwise: int = 0) -> int:
    """Return the number of the user that files must belong to."""
    return os.geteuid() if hasattr(os, "geteuid") else otherwise


def _named(error: OSError, path: Path) -> OSError:
    """Return the error with the whole path of the file that it is about."""
    if error.errno is not None:
        error.filename = str(path)
    return error


def _check_regular(status: os.stat_result, shown: Path) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise OSError(f"{shown} is a symbolic link, which pop3connect does not follow")
    if not stat.S_ISREG(status.st_mode):
        raise OSError(f"{shown} is not a regular file")


def open_regular(
    path: Path, flags: int = os.O_RDONLY, *, name: str = "", fd: int | None = None
) -> int:
    """
    Open an existing file, and return its descriptor.

    :param flags: a file that is opened for writing must have only one name: otherwise
        it may be a hard link, planted to have another file written to.
    :param name: the name to look up in ``fd``; by default ``path`` is looked up.
    :param fd: an open folder.
    :raises OSError: it is a link, not a regular file, belongs to another user, or
        cannot be opened.
    """
    where = name or str(path)
    try:
        # Looked at first: opening a device may do something.
        _check_regular(os.stat(where, dir_fd=fd, follow_symlinks=False), path)
        descriptor = os.open(where, flags | _BINARY | _NOFOLLOW | _NONBLOCK, dir_fd=fd)
    except OSError as error:
        raise _named(error, path) from None
    try:
        status = os.fstat(descriptor)
        _check_regular(status, path)
        if status.st_uid != _user(status.st_uid):
            raise PermissionError(
                f"{path} belongs to the user with the ID {status.st_uid}, not to the "
                "one that runs pop3connect"
            )
        if flags & (os.O_WRONLY | os.O_RDWR) and status.st_nlink != 1:
            raise PermissionError(
                f"{path} has {status.st_nlink} names (hard links), so writing to it "
                "would change another file"
            )
        if _NONBLOCK:  # pragma: no branch - Windows
            # A program may get it as its standard input.
            os.set_blocking(descriptor, True)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def pieces(file: BinaryIO) -> Iterator[bytes]:
    """Read a file in pieces."""
    while piece := file.read(PIECE):
        yield piece


def _folder_mode(mode: int) -> int:
    """Return the permissions of a folder whose files have these."""
    return mode | (mode & 0o444) >> 2


def make_folders(path: Path, mode: int = 0o600, disk: Disk = DISK) -> None:
    """
    Make a folder and the missing ones above it; each is on disk when this returns.

    :param mode: the permissions of the files that will be in them.  Existing folders
        keep theirs.
    :raises OSError: one of them cannot be made.
    """
    if path.is_dir():
        return
    make_folders(path.parent, mode, disk)
    with Folder(path.parent, disk) as above:
        above.make(path.name, mode)
        above.sync()


class Folder:
    """
    An open folder.

    :param path: for opening it, and for error messages.
    :param fd: the open folder above it, in which its name is looked up; a link is not
        followed there.
    :raises OSError: it cannot be opened, or is a link that another user made.
    """

    def __init__(self, path: Path, disk: Disk = DISK, *, fd: int | None = None) -> None:
        self.path = path
        self.fd: int | None = None
        self._disk = disk
        where = str(path) if fd is None else path.name
        flags = os.O_RDONLY | _DIRECTORY
        status = os.stat(where, dir_fd=fd, follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            # A link that the administrator made, to where the mail is, is followed.
            if fd is not None or status.st_uid not in (0, _user()):
                raise OSError(
                    f"{path} is a symbolic link, which pop3connect does not follow"
                )
        else:
            flags |= _NOFOLLOW
        if os.name == "nt":  # pragma: no cover - a folder cannot be opened there
            return
        self.fd = os.open(where, flags, dir_fd=fd)

    def __enter__(self) -> Folder:
        """Return itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close it; more than once does no harm."""
        fd, self.fd = self.fd, None
        if fd is not None:
            os.close(fd)

    def _where(self, name: str) -> str:
        # Looked at first, because it takes a tenth of the time.
        suspicious = "/" in name or os.name == "nt"
        if suspicious and os.path.basename(name) != name:
            raise ValueError(f"{name!r} is not the name of a file")
        return str(self.path / name) if self.fd is None else name

    @property
    def status(self) -> os.stat_result:
        """Its owner, permissions and inode."""
        return os.stat(self.path if self.fd is None else self.fd)

    def folder(self, name: str) -> Folder:
        """
        Open a folder in it.

        :raises OSError: it is not there, or is a link.
        """
        self._where(name)
        return Folder(self.path / name, self._disk, fd=self.fd)

    def make(self, name: str, mode: int) -> None:
        """
        Make a folder in it, if it is not there.

        :param mode: the permissions of the files that will be in it.
        """
        try:
            os.mkdir(self._where(name), 0o700, dir_fd=self.fd)
        except FileExistsError:
            return
        except OSError as error:
            raise _named(error, self.path / name) from None
        if mode != 0o600:
            with self.folder(name) as made:
                where = made.path if made.fd is None else made.fd
                os.chmod(where, _folder_mode(mode))

    def names(self) -> list[str]:
        """Return the names in it."""
        return os.listdir(self.path if self.fd is None else self.fd)

    def stat(self, name: str) -> os.stat_result | None:
        """Return the status of a file, or of a link itself; ``None``: not there."""
        try:
            return os.stat(self._where(name), dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def has_file(self, name: str) -> bool:
        """Return whether there is a regular file with this name."""
        status = self.stat(name)
        return status is not None and stat.S_ISREG(status.st_mode)

    def open(self, name: str, flags: int = os.O_RDONLY) -> int:
        """Open a file as `open_regular`, and return its descriptor."""
        return open_regular(self.path / name, flags, name=self._where(name), fd=self.fd)

    def read(self, name: str, most: int) -> bytes:
        """
        Return the beginning of a small file.

        :raises OSError: as for `open_regular`.
        """
        with os.fdopen(self.open(name), "rb") as file:
            return file.read(most)

    def create(self, name: str, mode: int = 0o600, *, last: bool = False) -> NewFile:
        """
        Make a file.

        :param last: whether this folder is closed with the file.
        :raises FileExistsError: there is one, or a link.
        """
        # Never through a link: POSIX says so of O_EXCL.
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | _BINARY | _NOFOLLOW
        try:
            descriptor = os.open(self._where(name), flags, 0o600, dir_fd=self.fd)
        except BaseException as error:
            if last:
                self.close()
            if isinstance(error, OSError):
                _named(error, self.path / name)
            raise
        if mode != 0o600 and hasattr(os, "fchmod"):
            # The umask must not change it.
            os.fchmod(descriptor, mode)
        return NewFile(self, name, descriptor, self._disk, last)

    def rewrite(self, descriptor: int, content: bytes) -> None:
        """Replace the content of an open file; it is on disk when this returns."""
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        write_fully(self._disk, descriptor, content)
        self._disk.sync(descriptor)
        self.sync()

    def rename(self, name: str, target: Folder, new: str) -> None:
        """Rename a file, also into another folder."""
        self._disk.rename(self._where(name), target._where(new), self.fd, target.fd)

    def link(self, name: str, target: Folder, new: str) -> None:
        """
        Give a file a second name, also in another folder.

        :raises FileExistsError: there is a file with this name.
        """
        self._disk.link(self._where(name), target._where(new), self.fd, target.fd)

    def publish(self, name: str, new: str) -> None:
        """
        Give a file its final name; the old one may stay.

        :raises FileExistsError: there is a file with this name.
        """
        try:
            self.link(name, self, new)
        except FileExistsError:
            raise
        except OSError:
            # A file system without hard links.
            if self.stat(new) is not None:
                raise FileExistsError(f"{self.path / new} is there already") from None
            self.rename(name, self, new)

    def remove(self, name: str) -> bool:
        """Remove a file, and return whether it was there."""
        try:
            os.unlink(self._where(name), dir_fd=self.fd)
        except FileNotFoundError:
            return False
        return True

    def sync(self) -> None:
        """Wait until the names in it are on disk."""
        if self.fd is not None:  # pragma: no branch - Windows
            try:
                self._disk.sync(self.fd)
            except OSError as error:
                raise _named(error, self.path) from None


class NewFile:
    """
    A file that is being written; see `Folder.create`.

    :ivar size: the bytes written so far.
    """

    def __init__(
        self, folder: Folder, name: str, fd: int, disk: Disk, last: bool
    ) -> None:
        self.name = name
        self.size = 0
        self._folder = folder
        self._last = last
        self._fd: int | None = fd
        self._disk = disk

    def write(self, data: bytes) -> None:
        """
        Write all of ``data``.

        :raises OSError: the disk is full, or it cannot be written.
        """
        assert self._fd is not None
        try:
            self.size += write_fully(self._disk, self._fd, data)
        except OSError as error:
            raise _named(error, self.path) from None

    def sync(self) -> None:
        """Wait until it is on disk; its name may not be."""
        assert self._fd is not None
        try:
            self._disk.sync(self._fd)
        except OSError as error:
            raise _named(error, self.path) from None

    @property
    def path(self) -> Path:
        """Where it is."""
        return self._folder.path / self.name

    def rename(self, target: Folder, new: str) -> None:
        """Rename it into a folder, which is not closed with it."""
        self._folder.rename(self.name, target, new)
        self._leave_folder()
        self._folder, self.name, self._last = target, new, False

    def _leave_folder(self) -> None:
        if self._last:
            self._folder.close()

    def close(self) -> None:
        """Close it; more than once does no harm."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)
        self._leave_folder()

    def remove(self) -> None:
        """Remove it and close it, as far as that is possible."""
        with contextlib.suppress(OSError):
            self._folder.remove(self.name)
        with contextlib.suppress(OSError):
            self.close()


def sync_each(files: Sequence[NewFile]) -> list[OSError | None]:
    """
    Wait until files are on disk, for several at a time.

    A journalling file system writes its journal once for all that are waited for at
    that moment: on ext4, this is ten times as fast as one after the other.

    :return: for each file ``None``, or why it is not on disk.
    """
    if len(files) < 2:
        return _sync_all(files)
    # A call in a thread costs as much as an fsync that has nothing to write.
    count = min(len(files), SYNCS)
    # Unless a thread says otherwise.
    unknown = OSError(errno.EIO, "it is not known whether the file is on disk")
    errors: list[OSError | None] = [unknown] * len(files)

    def sync(start: int) -> None:
        errors[start::count] = _sync_all(files[start::count])

    # The process may end while a file system does not answer: not by an executor,
    # whose threads it would wait for.
    threads: list[Thread] = []
    try:
        for start in range(count):
            thread = Thread(target=sync, args=(start,), daemon=True)
            thread.start()
            threads.append(thread)
    finally:
        # All have ended before their files are closed.
        for thread in threads:
            thread.join()
    return errors


def _sync_all(files: Sequence[NewFile]) -> list[OSError | None]:
    errors: list[OSError | None] = []
    for file in files:
        try:
            file.sync()
        except OSError as error:
            errors.append(error)
        else:
            errors.append(None)
    return errors


def has_room(folder: Folder, name: str) -> bool:
    """
    Return whether a small file can be written to a folder; it is removed again.

    :param name: its name, which no file has.
    :raises OSError: that failed for another reason than a full disk.
    """
    try:
        file = folder.create(name)
        try:
            file.write(bytes(ROOM))
            # Some file systems say only now that they are full.
            file.sync()
        finally:
            file.remove()
    except OSError as error:
        if is_full(error):
            return False
        raise
    return True


def write_fully(disk: Disk, descriptor: int, data: bytes) -> int:
    """Write all of ``data``, even if each call takes only a part; return its length."""
    left = memoryview(data)
    while left:
        taken = disk.write(descriptor, left)
        if taken == 0:
            raise OSError(errno.EIO, "the file accepts no more bytes")
        left = left[taken:]
    return len(data)
