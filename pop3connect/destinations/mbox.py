"""
An mbox that delivers exactly once: the journal knows where a message begins and ends.

After a crash the text at that place is compared with the message.  If it is whole, it
was delivered; the beginning of it, at the end of the file, is cut off.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

import attrs

from .base import Later, Mail, Prepared, Proof, UnreadableError, Witness, words
from .folder import DISK, Disk, Folder, make_folders, write_fully
from .incoming import SMALL
from .lines import LineEnds
from .locks import Locked, Locks, lock_file

__all__ = ["LOCK_TIMEOUT", "Mbox"]

LOCK_TIMEOUT = 60.0
"""Seconds to wait for the locks of an mbox: a mail program may be rewriting it."""

MAX_CACHED = 8 * 1024 * 1024
"""Bytes of small messages that are kept in memory from `Mbox.prepare` on."""

_SENDER = b"From MAILER-DAEMON "
# What `time.asctime` returns.
_SEPARATOR = re.compile(_SENDER + rb"[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d:]{16}\n")
_SEPARATOR_LENGTH = len(_SENDER) + 25

# mboxrd: each such line gets one more ">", so that all can be removed again.
_FROM = re.compile(rb"\n(>*From )")

_BEFORE = 64
"""Bytes before a group of messages, by whose hash a rewritten mbox is recognised."""


@attrs.frozen
class _Text:
    """
    What is appended for a message.

    :ivar separator: the line before it.
    :ivar cached: the rest, if it is small.
    """

    mail: Mail
    separator: bytes
    offset: int
    length: int
    cached: bytes | None

    def pieces(self) -> Iterator[bytes]:
        """
        Return the text in pieces.

        :raises UnreadableError: the message cannot be read.
        """
        yield self.separator
        if self.cached is not None:
            yield self.cached
        else:
            yield from _quoted(self.mail)


def _quoted(mail: Mail) -> Iterator[bytes]:
    """Return a message as it stands in an mbox, in pieces, with the blank line."""
    turn = LineEnds()
    before = b"\n"
    rest = b""
    with mail.pieces() as source:
        for piece in source:
            # Up to the end of a line, so that "From " is not cut in two.
            text = rest + turn.feed(piece)
            cut = text.rfind(b"\n") + 1
            rest = text[cut:]
            if cut == 0 and len(rest) > SMALL:
                cut, rest = len(text), b""
            if cut:
                yield _FROM.sub(rb"\n>\1", before + text[:cut])[1:]
                before = text[cut - 1 : cut]
    rest += turn.rest()
    if rest:
        yield _FROM.sub(rb"\n>\1", before + rest)[1:]
        before = rest[-1:]
    yield b"\n" if before == b"\n" else b"\n\n"


class Mbox:
    """
    An mbox file (mboxrd, lines end with LF): a `Witnessed` destination.

    It is locked from `prepare` until the messages are delivered: by a lock of
    pop3connect's own, by fcntl, and by a dot lock.

    :param path: the file.
    :param lock_timeout: seconds to wait for the locks.
    :param mode: the permissions of a new file.
    :param create: whether the file is made if it does not exist.
    :param known: whether mail was delivered there before: its folder is not made then,
        nor the file if its lock file is missing too: the file system is not mounted, or
        it never was an mbox.
    :param disk: the calls that a full disk fails.
    :param wait: waits for a lock: called with a number of seconds, returns whether to
        give up.  By default until `stop` is called.
    :param clock: returns the time that ``lock_timeout`` is measured by.
    """

    def __init__(
        self,
        path: Path,
        *,
        lock_timeout: float = LOCK_TIMEOUT,
        mode: int = 0o600,
        create: bool = True,
        known: bool = False,
        disk: Disk = DISK,
        wait: Callable[[float], bool] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = path.absolute()
        self._mode = mode
        self._create = create
        self._known = known
        self._disk = disk
        self._stopped = threading.Event()
        self._locks = Locks(
            self.path.name, lock_timeout, wait or self._stopped.wait, clock
        )

    def stop(self) -> None:
        """End every wait for a lock, now and in future; may be called in any thread."""
        self._stopped.set()

    def _trouble(self, error: OSError) -> Later:
        return Later(
            reason=f"the mbox {self.path} cannot be used: {words(error)}",
            whole_destination=True,
        )

    def _lock(self, *, create: bool) -> _Box:
        """Open the mbox, locked against the programs that deliver and read mail."""
        if self._create and not self._known:
            make_folders(self.path.parent, self._mode, self._disk)
        folder = Folder(self.path.parent, self._disk)
        try:
            self._check_place(folder)
            locked = self._locks.take(folder, lambda: self._open(folder, create))
        except BaseException:
            folder.close()
            raise
        self._known = True
        return _Box(self.path, folder, locked, self._disk)

    def _check_place(self, folder: Folder) -> None:
        """
        Check that this is where mail was delivered before, without leaving anything.

        A mail program may remove an empty mbox, but not our lock file beside it.
        """
        names = (self.path.name, lock_file(self.path.name))
        if self._known and all(folder.stat(name) is None for name in names):
            raise OSError(
                "it does not exist; if its file system is not mounted, mount it; if it "
                "was removed, make it again, as an empty file"
            )

    def _open(self, folder: Folder, create: bool) -> int:
        name = self.path.name
        if create and folder.stat(name) is None:
            with contextlib.suppress(FileExistsError):
                folder.create(name, self._mode).close()
            folder.sync()
        return folder.open(name, os.O_RDWR)

    def prepare(self, mails: Sequence[Mail]) -> Prepared:
        """
        Take the locks and find the place of each message, as `Witnessed`.

        :raises Later: the mbox cannot be used, or is locked by another program.
        """
        try:
            box = self._lock(create=self._create)
        except OSError as error:
            raise self._trouble(error) from error
        prepared = _Prepared(box, self._trouble)
        try:
            prepared.begin()
            for mail in mails:
                prepared.add(mail)
        except BaseException as error:
            prepared.close()
            if isinstance(error, OSError):
                raise self._trouble(error) from error
            raise
        return prepared

    def prove(
        self, witness: Witness, mail: Mail | None = None, *, age: float = 0.0
    ) -> Proof:
        """
        Compare the text in the mbox with a message, as `Witnessed`.

        The beginning of the message, at the end of the mbox, is cut off.
        """
        try:
            box = self._lock(create=False)
        except FileNotFoundError:
            if self.path.parent.exists():
                return Proof.UNKNOWN
            raise Later(
                reason=f"the folder {self.path.parent} is not there; if its file "
                "system is not mounted, mount it",
                whole_destination=True,
            ) from None
        except OSError as error:
            raise self._trouble(error) from error
        try:
            return box.prove(witness, mail)
        except OSError as error:
            raise self._trouble(error) from error
        finally:
            box.close()


class _Box:
    """
    An mbox that is open and locked.

    :ivar descriptor: the file, open for reading and writing.
    """

    def __init__(self, path: Path, folder: Folder, locked: Locked, disk: Disk) -> None:
        self.path = path
        self.descriptor = locked.box
        self._folder = folder
        self._locked = locked
        self._disk = disk

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return os.fstat(self.descriptor).st_size

    @property
    def inode(self) -> int:
        """The number of its file."""
        return os.fstat(self.descriptor).st_ino

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from a place, or fewer at the end of the file."""
        os.lseek(self.descriptor, offset, os.SEEK_SET)
        found = b""
        while len(found) < length:
            piece = os.read(self.descriptor, length - len(found))
            if not piece:
                break
            found += piece
        return found

    def write(self, data: bytes) -> int:
        """Write where the last call of `write` or `seek` ended."""
        return write_fully(self._disk, self.descriptor, data)

    def seek(self, offset: int) -> None:
        """Go to where `write` begins."""
        os.lseek(self.descriptor, offset, os.SEEK_SET)

    def cut(self, size: int) -> None:
        """Cut off everything after a size; not on disk until `sync`."""
        os.ftruncate(self.descriptor, size)

    def sync(self) -> None:
        """Wait until the mbox is on disk."""
        self._disk.sync(self.descriptor)

    def mark(self, base: int) -> str:
        """Return what recognises the mbox up to a place."""
        start = max(base - _BEFORE, 0)
        before = hashlib.sha256(self.read(start, base - start)).hexdigest()
        return f"{base}:{before[:16]}"

    def close(self) -> None:
        """Release the locks; more than once does no harm."""
        self._locked.release()
        self._folder.close()

    def prove(self, witness: Witness, mail: Mail | None) -> Proof:
        """Find out whether a message was appended, and cut off the beginning of one."""
        if witness.offset is None:
            return Proof.UNKNOWN
        size = self.size
        base = witness.mark.partition(":")[0]
        unchanged = (
            self.inode == witness.inode
            and base.isdecimal()
            and int(base) <= size
            and self.mark(int(base)) == witness.mark
        )
        if unchanged and size <= witness.offset:
            return Proof.NOT_DONE
        try:
            length = -1 if mail is None else self._matching(witness.offset, mail)
        except UnreadableError:
            length = -1
        if length >= 0 and length == witness.length:
            # The process may have ended between the append and its fsync.
            self.sync()
            return Proof.DONE
        if unchanged and length >= 0 and witness.offset + length == size:
            self.cut(witness.offset)
            self.sync()
            return Proof.NOT_DONE
        return Proof.UNKNOWN

    def _matching(self, offset: int, mail: Mail) -> int:
        """
        Compare the text in the mbox with a message.

        :return: how many bytes are those of the message, up to its end or that of the
            mbox; -1: the text is another one.
        """
        found = self.read(offset, _SEPARATOR_LENGTH)
        if len(found) < _SEPARATOR_LENGTH:
            whole = found[: len(_SENDER)] == _SENDER[: len(found)]
            return len(found) if whole and b"\n" not in found else -1
        if not _SEPARATOR.fullmatch(found):
            return -1
        length = len(found)
        for piece in _quoted(mail):
            found = self.read(offset + length, len(piece))
            if found != piece[: len(found)]:
                return -1
            length += len(found)
            if len(found) < len(piece):
                break
        return length


class _Prepared:
    """Messages whose place in the mbox is known, as `Prepared`."""

    def __init__(self, box: _Box, trouble: Callable[[OSError], Later]) -> None:
        self.mails: list[Mail] = []
        self.witnesses: list[Witness] = []
        self.refused: list[tuple[Mail, Exception]] = []
        self._box = box
        self._trouble = trouble
        self._texts: list[_Text] = []
        self._cached = 0
        self._base = 0
        self._end = 0
        self._mark = ""

    def begin(self) -> None:
        """
        Find the end of the mbox; let it end in a blank line.

        A message in an mbox ends so; without that, ours would become a part of it.
        """
        size = self._box.size
        last = self._box.read(max(size - 2, 0), 2)
        missing = b""
        if size and last != b"\n\n":
            missing = b"\n" if last.endswith(b"\n") else b"\n\n"
        if missing:
            self._box.seek(size)
            try:
                self._box.write(missing)
                # The offsets in the journal count on it.
                self._box.sync()
            except BaseException:
                self._box.cut(size)
                raise
        self._base = self._end = size + len(missing)
        self._mark = self._box.mark(self._base)

    def add(self, mail: Mail) -> None:
        """Find the place of a message."""
        separator = _SENDER + f"{time.asctime(time.gmtime())}\n".encode("ascii")
        cache: list[bytes] | None = []
        length = 0
        try:
            for piece in _quoted(mail):
                length += len(piece)
                if length > SMALL or self._cached + length > MAX_CACHED:
                    cache = None
                if cache is not None:
                    cache.append(piece)
        except UnreadableError as error:
            self.refused.append((mail, error))
            return
        cached = None
        if cache is not None:
            cached = b"".join(cache)
            self._cached += length
        length += len(separator)
        self._texts.append(_Text(mail, separator, self._end, length, cached))
        self.mails.append(mail)
        self.witnesses.append(
            Witness(
                path=str(self._box.path),
                inode=self._box.inode,
                mark=self._mark,
                offset=self._end,
                length=length,
            )
        )
        self._end += length

    def carry_out(self, only: Collection[str] | None = None) -> list[Exception | None]:
        """Append the messages, fsync the mbox once, and release the locks."""
        try:
            if self._box.size != self._base:
                raise OSError("a program that does not lock it has changed it")
            results = self._append(only)
            self._sync()
        except OSError as error:
            trouble = self._trouble(error)
            return [trouble] * len(self._texts)
        finally:
            self.close()
        return results

    def _append(self, only: Collection[str] | None) -> list[Exception | None]:
        results: list[Exception | None] = []
        # Why those that follow cannot be appended: each has its place in the journal.
        stopped: Exception | None = None
        self._box.seek(self._base)
        for text in self._texts:
            error: Exception | None = stopped
            if only is not None and text.mail.key not in only:
                error = Later(reason="it was not to be delivered")
            elif stopped is None:
                error = self._append_one(text)
            if error is not None and stopped is None:
                stopped = Later(0, "a message before it could not be delivered")
                if isinstance(error, Later) and error.whole_destination:
                    stopped = error
            results.append(error)
        return results

    def _append_one(self, text: _Text) -> Exception | None:
        try:
            written = sum(self._box.write(piece) for piece in text.pieces())
            if written != text.length:
                raise UnreadableError("its file has been changed")
        except OSError as error:
            self._box.cut(text.offset)
            unreadable = isinstance(error, UnreadableError)
            return error if unreadable else self._trouble(error)
        return None

    def _sync(self) -> None:
        try:
            self._box.sync()
        except OSError:
            self._box.cut(self._base)
            raise

    def close(self) -> None:
        """Release the locks."""
        self._box.close()
