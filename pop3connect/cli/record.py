"""
Remembers which messages are on disk, by their unique-ids (UIDL).

One file for each account, next to the mail: a line of JSON for each message, on disk
before the next one is begun.  A line that a crash has torn does not count: then the
message is fetched again, which is better than not at all.
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
"""Unique-ids that are no longer on the server; more are worth a new file."""


class Record:
    """
    The unique-ids of an account's messages that are on disk.

    POP3 lets one session at a time into a mailbox (RFC 1939 section 4), so nobody
    else writes to it meanwhile.

    :param beside: the folder or file with the mail.
    :param account: whose messages they are, ``user@server``.
    :raises OSError: it cannot be read, or is the record of somebody else.
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
        """Say whether the message with this unique-id is on disk."""
        return uid in self._known

    def __len__(self) -> int:
        """Count the messages."""
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
        Note that a message is on disk; when this returns, the note is, too.

        :raises OSError: it could not be written.
        """
        file = self._file or self._open()
        try:
            put(file, _line({"uid": uid}))
        except OSError:
            # What is torn must not run into the next line.
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
        Forget what the server has no longer, if that is much.

        :param uids: all that the server has.
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
            # What is still in a buffer after a full disk is torn, and is cut off.
            with contextlib.suppress(OSError):
                file.close()


def _line(value: dict[str, str]) -> bytes:
    # In ASCII, for a unique-id may have octets that are no UTF-8.
    return json.dumps(value).encode("ascii") + b"\n"
