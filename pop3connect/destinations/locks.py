"""
Locks an mbox against the programs that deliver and read mail.

Between processes of pop3connect a lock file next to the mbox decides (flock); that lock
ends with its process.  Other programs use one of two locks, or both: the system's
(fcntl), which ends with its process too, and another file next to the mbox, the dot
lock, which does not.  Our dot lock carries the id that is in our lock file: a process
that holds our lock may remove it, because the process that made it cannot be alive.
The number of the process comes first, where liblockfile and others look for it.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import sys
import time
from collections.abc import Callable

from .folder import Folder

if sys.platform == "win32":  # pragma: no cover
    import msvcrt
else:
    import fcntl

__all__ = ["Locked", "LockedError", "Locks", "lock_file"]

PAUSE = 0.1
"""Seconds between two attempts to lock an mbox."""

_ID = re.compile(rb"([0-9a-f]{32})\n")
# As a crash may leave it.
_UNFINISHED = re.compile(rb"[0-9a-f]{0,32}")
_MARK = re.compile(rb"\d+ pop3connect ([0-9a-f]{32})\n")


def lock_file(name: str) -> str:
    """Return the name of our lock file of an mbox; it stays once it was made."""
    return f".{name}.pop3connect-lock"


class LockedError(OSError):
    """Another program holds a lock of the mbox."""


class Locks:
    """
    The locks of one mbox.

    :param timeout: seconds to wait for all locks together.
    :param wait: waits for some seconds, and returns whether to give up.
    :param clock: returns the time in seconds.
    """

    def __init__(
        self,
        name: str,
        timeout: float,
        wait: Callable[[float], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._timeout = timeout
        self._wait = wait
        self._clock = clock

    def take(self, folder: Folder, open_box: Callable[[], int]) -> Locked:
        """
        Take all locks.

        :param folder: the folder of the mbox.
        :param open_box: opens the mbox for writing.
        :raises LockedError: another program holds one of them.
        :raises OSError: a lock cannot be made.
        """
        end = self._clock() + self._timeout
        locked = Locked(folder, self._name)
        try:
            self._until(end, locked.lock_ours, "another pop3connect uses it")
            self._until(
                end,
                lambda: locked.lock_box(open_box),
                "another program has locked it; if none does, remove "
                f"{folder.path / locked.dot}",
            )
        except BaseException:
            locked.release()
            raise
        return locked

    def _until(self, end: float, lock: Callable[[], bool], problem: str) -> None:
        while not lock():
            if self._clock() >= end or self._wait(PAUSE):
                raise LockedError(problem)


class Locked:
    """
    The locks of an mbox, as far as they are held.

    :ivar box: the mbox, open for writing.
    :ivar dot: the name of the dot lock.
    """

    def __init__(self, folder: Folder, name: str) -> None:
        self.dot = f"{name}.lock"
        self._folder = folder
        self._name = name
        self._ours = lock_file(name)
        self._scratch = f".{name}.pop3connect-dot"
        self._id = b""
        self._lock: int | None = None
        self._box: int | None = None
        self._dotted = False

    @property
    def box(self) -> int:
        """The descriptor of the mbox."""
        assert self._box is not None
        return self._box

    def lock_ours(self) -> bool:
        """Take our own lock, and return whether it was free."""
        with contextlib.suppress(FileExistsError):
            self._folder.create(self._ours).close()
        self._lock = self._folder.open(self._ours, os.O_RDWR)
        if _lock_file(self._lock) and self._is_current(self._lock, self._ours):
            self._id = self._read_id(self._lock)
            return True
        self._close_lock()
        return False

    def _is_current(self, descriptor: int, name: str) -> bool:
        """Return whether a file was not replaced since it was opened."""
        status = self._folder.stat(name)
        return status is not None and os.path.samestat(status, os.fstat(descriptor))

    def _read_id(self, descriptor: int) -> bytes:
        content = os.read(descriptor, 100)
        found = _ID.fullmatch(content)
        if found is None:
            if not _UNFINISHED.fullmatch(content):
                raise OSError(f"{self._folder.path / self._ours} is another file")
            content = f"{secrets.token_hex(16)}\n".encode("ascii")
            # It is on disk before a dot lock carries it.
            self._folder.rewrite(descriptor, content)
        return content.rstrip()

    def lock_box(self, open_box: Callable[[], int]) -> bool:
        """
        Take the locks of other programs, and return whether both were free.

        Neither is held while the other is waited for: some programs take them in the
        other order.
        """
        # Opened each time: another program may replace it while we wait.
        self._box = open_box()
        if (
            _lock_box(self._box)
            and self._make_dot()
            and self._is_current(self._box, self._name)
        ):
            return True
        self._remove_dot()
        self._close_box()
        return False

    def _make_dot(self) -> bool:
        content = b"%d pop3connect %s\n" % (os.getpid(), self._id)
        # From a process of ours that was killed.
        self._folder.remove(self._scratch)
        file = self._folder.create(self._scratch)
        try:
            file.write(content)
            if self._is_abandoned():
                self._folder.remove(self.dot)
            # Not written in place: the dot lock never exists without its mark.
            self._folder.publish(self._scratch, self.dot)
        except FileExistsError:
            return False
        finally:
            file.remove()
        self._dotted = True
        return True

    def _is_abandoned(self) -> bool:
        """Return whether the dot lock is one of ours, whose process ended."""
        try:
            found = _MARK.fullmatch(self._folder.read(self.dot, 200))
        except OSError:
            return False
        return found is not None and found[1] == self._id

    def _remove_dot(self) -> None:
        if self._dotted:
            self._dotted = False
            # One that stays is removed by the next process of ours.
            with contextlib.suppress(OSError):
                self._folder.remove(self.dot)

    def _close_box(self) -> None:
        box, self._box = self._box, None
        if box is not None:
            os.close(box)

    def _close_lock(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    def release(self) -> None:
        """Release all; the locks of the system end when the files are closed."""
        self._remove_dot()
        self._close_box()
        self._close_lock()


if sys.platform == "win32":  # pragma: no cover

    def _lock_file(descriptor: int) -> bool:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _lock_box(descriptor: int) -> bool:
        # Mail programs there have no such lock.
        return True

else:

    def _lock_file(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _lock_box(descriptor: int) -> bool:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return False
        return True
