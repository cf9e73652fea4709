"""
A Maildir that delivers exactly once: a file in ``tmp`` is the witness of a message.

The journal names the file before it is moved to ``new``, and only the move takes it
away.  After a crash a file that is still in ``tmp`` is moved; one that is gone was
delivered, as long as this is the same Maildir and no cleaner can have been there.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import attrs

from ..files import ABANDONED
from .base import Later, Mail, Prepared, Proof, UnreadableError, Witness, words
from .folder import (
    DISK,
    Disk,
    Folder,
    NewFile,
    has_room,
    is_full,
    make_folders,
    sync_each,
)
from .incoming import NO_KEY, RUN, Incoming, Kept, groups, keep_in, safe_key
from .lines import LineEnds

__all__ = ["Maildir"]

_FOLDERS = ("tmp", "new", "cur")

_ID = ".pop3connect-id"
_ID_CONTENT = re.compile(rb"([0-9a-f]{32})\n")

# When it was made, key, account, process, a random part, and machine.
_OURS = re.compile(
    r"\d+\.K([0-9a-f]{32})A([0-9a-f]{16})R([0-9a-f]{8})[0-9a-f]{8}\.([^/:,]+)"
)

MAX_MACHINE = 100
"""Characters of the machine's name in the name of a file, which may have 255 bytes."""


@lru_cache(1024)
def _owner_of(journal: str, account: str) -> str:
    """Return what stands in the names of files for an account of a journal."""
    whose = f"{journal}\n{account}".encode("utf-8", "surrogateescape")
    return hashlib.sha256(whose).hexdigest()[:16]


@attrs.frozen
class _Opened:
    """
    The folders of a Maildir, open.

    :ivar where: the path of ``tmp``.
    :ivar inode: that of ``tmp``.
    :ivar mark: the content of its file with the id.
    """

    tmp: Folder
    new: Folder
    cur: Folder
    where: str
    inode: int
    mark: str

    def __enter__(self) -> _Opened:
        """Return itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close all."""
        self.close()

    def close(self) -> None:
        for folder in (self.tmp, self.new, self.cur):
            folder.close()

    def witness(self, name: str) -> Witness:
        path = os.path.join(self.where, name)
        return Witness(path=path, inode=self.inode, mark=self.mark)

    def is_there(self, name: str) -> bool:
        """Return whether the file has been moved, and not removed since."""
        # Mail programs add flags behind the name.
        return any(
            re.split("[:,]", found, maxsplit=1)[0] == name
            for folder in (self.new, self.cur)
            for found in folder.names()
        )


class Maildir:
    """
    A Maildir: a `Witnessed` destination, and a `Keeper`.

    A Maildir that received mail before is not made again: where it is missing, its
    file system is not mounted.

    :param folder: the Maildir.
    :param machine: the name of this machine, which goes into the names of files.
    :param journal: names the journal in which the files are named, the same on all of
        its machines: two journals do not remove each other's files.
    :param crlf: whether lines end with CRLF, as on the wire; otherwise with LF, as mail
        programs expect.
    :param mode: the permissions of files; folders get the matching ones.
    :param known: whether mail was delivered there before, by an earlier process.
    :param disk: the calls that a full disk fails.
    """

    def __init__(
        self,
        folder: Path,
        machine: str,
        *,
        journal: str = "",
        crlf: bool = False,
        mode: int = 0o600,
        known: bool = False,
        disk: Disk = DISK,
    ) -> None:
        self.folder = folder.absolute()
        # As Maildir requires; a comma begins what some servers add to the name.
        for char, code in (("/", r"\057"), (":", r"\072"), (",", r"\054")):
            machine = machine.replace(char, code)
        self._machine = machine[:MAX_MACHINE] or "localhost"
        self._journal = journal
        self._crlf = crlf
        self._mode = mode
        self._make = not known
        self._disk = disk
        # Files in tmp that were prepared and not moved, by key.  They are not removed:
        # a row may name them, and their absence would prove their delivery.
        self._copies: dict[str, str] = {}

    # -- opening

    def _open(self) -> _Opened:
        """
        Open its folders; make those that are missing if it is ours to make.

        :raises Later: that is not possible.
        """
        try:
            opened = self._try_to_open()
        except OSError as error:
            raise self._trouble(error) from error
        self._make = False
        return opened

    def _trouble(self, error: OSError) -> Later:
        return Later(
            reason=f"the Maildir {self.folder} cannot be used: {words(error)}",
            whole_destination=True,
        )

    def _try_to_open(self) -> _Opened:
        if self._make:
            make_folders(self.folder, self._mode, self._disk)
        with contextlib.ExitStack() as stack:
            try:
                top = stack.enter_context(Folder(self.folder, self._disk))
            except FileNotFoundError:
                raise self._missing() from None
            if any(top.stat(name) is None for name in _FOLDERS):
                self._make_folders(top)
            tmp, new, cur = (stack.enter_context(top.folder(name)) for name in _FOLDERS)
            where, inode = str(tmp.path), tmp.status.st_ino
            opened = _Opened(tmp, new, cur, where, inode, self._mark(top))
            stack.pop_all()
        top.close()
        return opened

    def _missing(self) -> OSError:
        return OSError(
            "it does not exist; if its file system is not mounted, mount it; if it was "
            "removed, make it again: the folder, and in it tmp, new and cur"
        )

    def _make_folders(self, top: Folder) -> None:
        # Empty folders are lost by some backups.  All three are missing from a folder
        # on which the file system with the mail should be mounted.
        if not (self._make or any(top.stat(name) is not None for name in _FOLDERS)):
            raise self._missing()
        for name in _FOLDERS:
            top.make(name, self._mode)
        top.sync()

    def _mark(self, top: Folder) -> str:
        """Return the id of this Maildir; it gets one if it has none."""
        for _ in range(2):
            if top.stat(_ID) is not None:
                found = _ID_CONTENT.fullmatch(top.read(_ID, 100))
                if found is None:
                    raise OSError(f"{top.path / _ID} was not written by pop3connect")
                return found[1].decode("ascii")
            self._write_mark(top)
        raise OSError(f"{top.path / _ID} was removed by another program")

    def _write_mark(self, top: Folder) -> None:
        fresh = top.create(f"{_ID}.{secrets.token_hex(8)}", self._mode)
        try:
            fresh.write(f"{secrets.token_hex(16)}\n".encode("ascii"))
            fresh.sync()
            # Another process may be doing the same: the first one wins.
            with contextlib.suppress(FileExistsError):
                top.publish(fresh.name, _ID)
        finally:
            fresh.remove()
        top.sync()

    # -- as a Keeper

    def begin(self, account: str) -> Incoming:
        """Begin a message in ``tmp``, as `Keeper`."""
        turn = None if self._crlf else LineEnds()
        return Incoming(account, lambda: self._begin(account), turn)

    def _begin(self, account: str) -> NewFile:
        opened = self._open()
        opened.new.close()
        opened.cur.close()
        name = self._name(NO_KEY, account)
        return opened.tmp.create(name, self._mode, last=True)

    def keep(self, messages: Sequence[Incoming]) -> Kept:
        """
        Write messages to ``tmp``, as `Keeper`: the files and ``tmp`` are fsynced.

        :return: what became of them.  In ``full`` is a `Later`: other Maildirs may have
            room.
        """
        try:
            opened = self._open()
        except Later:
            for message in messages:
                message.discard()
            raise
        with opened:
            kept = keep_in(
                opened.tmp,
                messages,
                lambda message: self._name(message.key, message.account),
                self._mode,
                spare=self._name(NO_KEY, messages[0].account if messages else ""),
            )
        if isinstance(kept.full, OSError):
            return attrs.evolve(kept, full=self._trouble(kept.full))
        return kept

    def find(self, name: str) -> Path | None:
        """
        Return a file in ``tmp``, as `Keeper`.

        :raises Later: this Maildir cannot be used.
        """
        name = Path(name).name
        if _OURS.fullmatch(name):
            with self._open() as opened:
                if opened.tmp.has_file(name):
                    return opened.tmp.path / name
        return None

    def remove(self, names: Iterable[str]) -> None:
        """
        Remove files in ``tmp`` of messages that are final, as `Keeper`.

        Never those of a message that is being delivered: a missing file means that it
        was delivered.
        """
        with self._open() as opened:
            for name in {Path(name).name for name in names}:
                if _OURS.fullmatch(name):
                    opened.tmp.remove(name)

    def _name(self, key: str, account: str) -> str:
        return (
            f"{int(time.time())}.K{safe_key(key)}A{self._owner(account)}"
            f"R{RUN}{secrets.token_hex(4)}.{self._machine}"
        )

    def _owner(self, account: str) -> str:
        return _owner_of(self._journal, account)

    def sweep(
        self, account: str, named: Collection[str], *, now: float | None = None
    ) -> int:
        """
        Remove the files in ``tmp`` that a crash left behind.

        For the holder of an account, before its first look.  Removed are files of this
        account that no row names: those of earlier processes of this machine, and those
        of other machines after 36 hours.  It blocks: call it in a thread.

        :param named: the names or paths of files that rows name.
        :param now: the time; ``None``: the clock cannot be trusted, so that none is
            removed for its age.
        :return: how many files were removed.
        :raises Later: this Maildir cannot be used.
        """
        keep = {Path(name).name for name in named}
        removed = 0
        with self._open() as opened:
            for name in self._leftovers(opened.tmp, account, now):
                if name not in keep:
                    removed += opened.tmp.remove(name)
        return removed

    def has_leftovers(self, account: str, *, now: float | None = None) -> bool:
        """
        Return whether there may be something to `sweep`; it takes one look at ``tmp``.

        It blocks: call it in a thread.  It makes and changes nothing.

        :param now: as for `sweep`.
        :raises OSError: ``tmp`` cannot be read.
        """
        try:
            with Folder(self.folder) as top, top.folder("tmp") as tmp:
                return any(self._leftovers(tmp, account, now))
        except FileNotFoundError:
            # Nothing was ever delivered there, or it is not mounted.
            return False

    def _leftovers(self, tmp: Folder, account: str, now: float | None) -> Iterator[str]:
        """Iterate over the names of files of an account that a crash may have left."""
        for name in tmp.names():
            found = _OURS.fullmatch(name)
            if found is None or found[2] != self._owner(account) or found[3] == RUN:
                continue
            if found[4] == self._machine or self._is_old(tmp, name, now):
                yield name

    def _is_old(self, tmp: Folder, name: str, now: float | None) -> bool:
        status = tmp.stat(name)
        return (
            now is not None and status is not None and now - status.st_mtime > ABANDONED
        )

    # -- as a destination

    def prepare(self, mails: Sequence[Mail]) -> Prepared:
        """
        Copy messages to ``tmp``, as `Witnessed`.

        A message whose file is in ``tmp`` already is not copied: by `keep`, or by an
        earlier attempt that did not come to its end.  One that does not fit is
        refused with `Later`.
        """
        opened = self._open()
        fresh: dict[str, str] = {}
        try:
            prepared = _Prepared(opened, self._copies, self._trouble)
            large: list[tuple[Mail, OSError]] = []
            for group in groups(mails):
                self._copy(prepared, group, fresh, large)
            if fresh:
                opened.tmp.sync()
            self._refuse(prepared, large)
        except BaseException as error:
            # No row names them yet.
            for name in fresh.values():
                with contextlib.suppress(OSError):
                    opened.tmp.remove(name)
            opened.close()
            if isinstance(error, OSError):
                raise self._trouble(error) from error
            raise
        self._copies.update(fresh)
        return prepared

    def _refuse(
        self, prepared: _Prepared, large: Sequence[tuple[Mail, OSError]]
    ) -> None:
        """
        Refuse the messages that do not fit.

        :raises OSError: nothing fits any more, and nothing was prepared.
        """
        if not large:
            return
        mail, error = large[0]
        full = not has_room(prepared.opened.tmp, self._name(NO_KEY, mail.account))
        if full and not prepared.mails:
            raise error
        for mail, error in large:
            later = Later(
                reason=f"it does not fit into the Maildir {self.folder}: "
                f"{words(error)}",
                whole_destination=full,
            )
            prepared.refused.append((mail, later))

    def _copy(
        self,
        prepared: _Prepared,
        mails: Sequence[Mail],
        fresh: dict[str, str],
        large: list[tuple[Mail, OSError]],
    ) -> None:
        """
        Bring some messages to ``tmp``; their files are on disk, ``tmp`` is not.

        :param fresh: receives the names of the new files, by key.
        :param large: receives the messages that do not fit.
        """
        tmp = prepared.opened.tmp
        written: list[tuple[Mail, NewFile]] = []
        try:
            for mail in mails:
                try:
                    name = self._name_in_tmp(prepared.opened, mail)
                    if not name:
                        file = self._write(tmp, mail)
                        fresh[mail.key] = file.name
                        written.append((mail, file))
                except UnreadableError as error:
                    prepared.refused.append((mail, error))
                except OSError as error:
                    if not is_full(error):
                        raise
                    large.append((mail, error))
                else:
                    if name:
                        prepared.add(mail, name)
            failed = sync_each([file for _, file in written])
            for (mail, file), unsynced in zip(written, failed, strict=True):
                if unsynced is None:
                    prepared.add(mail, file.name)
                elif is_full(unsynced):
                    file.remove()
                    del fresh[mail.key]
                    large.append((mail, unsynced))
                else:
                    raise unsynced
        finally:
            for _, file in written:
                file.close()

    def _name_in_tmp(self, opened: _Opened, mail: Mail) -> str:
        """Return the name of a message that is in ``tmp``; ``""``: it is elsewhere."""
        tmp = opened.tmp
        where, name = os.path.split(mail.path)
        if where == opened.where and _OURS.fullmatch(name):
            if tmp.has_file(name):
                return name
            raise UnreadableError(f"{mail.path} is not there")
        name = self._copies.get(mail.key, "")
        return name if name and tmp.has_file(name) else ""

    def _write(self, tmp: Folder, mail: Mail) -> NewFile:
        turn = None if self._crlf else LineEnds()
        with mail.pieces() as source:
            file = tmp.create(self._name(mail.key, mail.account), self._mode)
            try:
                for piece in source:
                    file.write(piece if turn is None else turn.feed(piece))
                if turn is not None:
                    file.write(turn.rest())
            except BaseException:
                file.remove()
                raise
        return file

    def prove(
        self, witness: Witness, mail: Mail | None = None, *, age: float = 0.0
    ) -> Proof:
        """Find out whether a message was delivered, as `Witnessed`."""
        name = Path(witness.path).name
        ours = _OURS.fullmatch(name)
        if ours is None:
            return Proof.UNKNOWN
        with self._open() as opened:
            try:
                proof = self._prove(opened, witness, name, age)
            except OSError as error:
                raise self._trouble(error) from error
        if proof is Proof.NOT_DONE:
            # For the next attempt.
            self._copies[ours[1]] = name
        return proof

    def _prove(self, opened: _Opened, witness: Witness, name: str, age: float) -> Proof:
        now = opened.witness(name)
        same = (now.inode, now.mark) == (witness.inode, witness.mark)
        if same and opened.tmp.has_file(name):
            return Proof.NOT_DONE
        # A cleaner removes files from tmp after that time; a negative age is that of
        # a clock that was set back.
        sure = same and 0 <= age < ABANDONED
        if not sure and not opened.is_there(name):
            return Proof.UNKNOWN
        # The process may have ended between the move and its fsync.
        opened.new.sync()
        return Proof.DONE

    def stop(self) -> None:
        """Do nothing: a Maildir has no locks."""


class _Prepared:
    """
    Messages whose files are in ``tmp``, as `Prepared`.

    :ivar opened: the folders that they are in and go to.
    :param copies: the names of files in ``tmp``, by key; those that are moved are
        removed from it.
    """

    def __init__(
        self,
        opened: _Opened,
        copies: dict[str, str],
        trouble: Callable[[OSError], Later],
    ) -> None:
        self.opened = opened
        self.mails: list[Mail] = []
        self.witnesses: list[Witness] = []
        self.refused: list[tuple[Mail, Exception]] = []
        self._copies = copies
        self._trouble = trouble

    def add(self, mail: Mail, name: str) -> None:
        """Add a message whose file is in ``tmp``."""
        self.mails.append(mail)
        self.witnesses.append(self.opened.witness(name))

    def carry_out(self, only: Collection[str] | None = None) -> list[Exception | None]:
        """Move the files to ``new``, and fsync it once."""
        results: list[Exception | None] = []
        for mail, witness in zip(self.mails, self.witnesses, strict=True):
            if only is not None and mail.key not in only:
                results.append(Later(reason="it was not to be delivered"))
                continue
            name = os.path.basename(witness.path)
            try:
                self.opened.tmp.rename(name, self.opened.new, name)
            except OSError as error:
                results.append(self._trouble(error))
            else:
                self._copies.pop(mail.key, None)
                results.append(None)
        try:
            if None in results:
                self.opened.new.sync()
        except OSError as error:
            return [result or self._trouble(error) for result in results]
        return results

    def close(self) -> None:
        """Close the folders."""
        self.opened.close()
