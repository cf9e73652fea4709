"""
Records which messages are on disk, by their unique-ids (UIDL).

One file for each account, next to the mail: a line of JSON for each message, on disk
before the next message is begun.  A line that a crash cut off does not count: the
message is fetched again, which is better than losing it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import BinaryIO

from ..files import put, sync_folder, write_whole

__all__ = ["Record"]

_MANY = 1000
"""Unique-ids that are no longer on the server; more are worth rewriting the file."""


class Record:
    """
    The unique-ids of an account's messages that are on disk.

    POP3 allows one session at a time in a mailbox (RFC 1939 section 4), so no other
    process writes to it meanwhile.

    :param beside: the folder or file with the mail.
    :param account: the account of the messages, ``user@server``.
    :raises OSError: it cannot be read, or is the record of another account.
    """

    def __init__(self, beside: Path, account: str) -> None:
        digest = hashlib.sha256(account.encode("utf-8", "surrogateescape")).hexdigest()
        name = f".pop3connect-{digest[:16]}.jsonl"
        if not beside.is_dir():
            name = f".{beside.name}{name}"
        self.path = (beside if beside.is_dir() else beside.parent) / name
        self._head = _line({"account": account})
        self._file: BinaryIO | None = None
        self._read()

    def __contains__(self, uid: str) -> bool:
        """Return whether the message with this unique-id is on disk."""
        return uid in self._known

    def __len__(self) -> int:
        """Return the number of messages."""
        return len(self._known)

    def _read(self) -> None:
        """Read all lines that are whole."""
        self._known: dict[str, None] = {}
        self._whole = 0
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return
        lines = content.splitlines(keepends=True)
        if content and not self._head.startswith(lines[0]):
            raise OSError(f"{self.path} is not the record of this account")
        for line in lines:
            if not line.endswith(b"\n"):
                break
            with contextlib.suppress(ValueError, TypeError, KeyError):
                self._known[json.loads(line)["uid"]] = None
            self._whole += len(line)

    def add(self, uid: str) -> None:
        """
        Record that a message is on disk; the record is on disk when this returns.

        :raises OSError: it could not be written.
        """
        file = self._file or self._open()
        try:
            put(file, _line({"uid": uid}))
        except OSError:
            # A line that was cut off must not run into the next one.
            self.close()
            raise
        self._known[uid] = None
        self._whole = file.tell()

    def _open(self) -> BinaryIO:
        fresh = self._whole == 0
        file = os.fdopen(
            os.open(
                self.path,
                os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0),
                0o600,
            ),
            "r+b",
        )
        try:
            file.truncate(self._whole)
            file.seek(self._whole)
            if fresh:
                put(file, self._head)
                self._whole = file.tell()
                sync_folder(self.path.parent)
        except OSError:
            file.close()
            raise
        self._file = file
        return file

    def keep(self, uids: Collection[str]) -> None:
        """
        Forget the unique-ids that are no longer on the server, if there are many.

        :param uids: all unique-ids on the server.
        :raises OSError: the new file could not be written; it or the old one is there.
        """
        kept = [uid for uid in self._known if uid in uids]
        if len(self._known) - len(kept) < max(_MANY, len(kept)):
            return
        self.close()
        content = b"".join([self._head, *(_line({"uid": uid}) for uid in kept)])
        try:
            write_whole(self.path, content)
        finally:
            # After an error, either file may be there.
            self._read()

    def close(self) -> None:
        """Close the file."""
        file, self._file = self._file, None
        if file is not None:
            # After a full disk, the rest of the buffer is removed at the next opening.
            with contextlib.suppress(OSError):
                file.close()


def _line(value: dict[str, str]) -> bytes:
    # In ASCII, because a unique-id may have octets that are not UTF-8.
    return json.dumps(value).encode("ascii") + b"\n"
