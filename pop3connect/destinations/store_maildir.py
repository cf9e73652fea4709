"""
Stores mail in a Maildir: a file for each message, in ``new`` once it is on disk.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import socket
import time
from pathlib import Path

from ..files import make_folder, remove_abandoned, replace, sync_file
from .lines import LineEnds
from .store import Delivery

__all__ = ["Maildir"]

_FOLDERS = ("tmp", "new", "cur")

_OURS = re.compile(r"\d+\.K([0-9a-f]{32})R")


class Maildir:
    """
    A Maildir; it is made if it does not exist.

    The file name of a message has the hash of its key in it.  So a stored message is
    recognised, even if no record of it has reached the disk.

    :param crlf: whether lines end with CRLF, as on the wire; otherwise with LF, as mail
        programs expect.
    :raises OSError: it cannot be made, or a file is in its place.
    """

    # Every message is recognised by its name.
    recovered: str | None = None

    def __init__(self, folder: Path, *, crlf: bool = False) -> None:
        self._folder = folder
        self._crlf = crlf
        make_folder(folder)
        for name in _FOLDERS:
            make_folder(folder / name)
        self._there = {
            match[1]
            for name in ("new", "cur")
            for path in os.listdir(folder / name)
            if (match := _OURS.match(path))
        }
        remove_abandoned(
            path for path in (folder / "tmp").iterdir() if _OURS.match(path.name)
        )

    def holds(self, key: str) -> bool:
        """Return whether the message is stored."""
        return _hash(key) in self._there

    def deliver(self, key: str | None) -> Delivery:
        """Begin a message."""
        known = secrets.token_hex(16) if key is None else _hash(key)
        # As Maildir requires for host names with these characters.
        host = socket.gethostname().replace("/", r"\057").replace(":", r"\072")
        # A random part: a file that a crash left in tmp must not be in the way.
        name = f"{int(time.time())}.K{known}R{secrets.token_hex(4)}.{host}"
        turn = None if self._crlf else LineEnds()
        return Delivery(self._folder / "tmp" / name, key, turn)

    def keep(self, delivery: Delivery) -> None:
        """Move a message to ``new``; it is on disk when this returns."""
        try:
            sync_file(delivery.complete())
            delivery.close()
            replace(delivery.path, self._folder / "new" / delivery.path.name)
        except OSError:
            delivery.discard()
            raise
        if delivery.key is not None:
            self._there.add(_hash(delivery.key))

    def close(self) -> None:
        """Do nothing."""

    def abandon(self) -> None:
        """Do nothing: each file has its key in its name."""


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:32]
