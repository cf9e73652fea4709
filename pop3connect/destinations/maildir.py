"""
Keeps mail in a Maildir: a file for each message, in ``new`` when it is on disk.
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
from .store import Delivery, LineEnds

__all__ = ["Maildir"]

_FOLDERS = ("tmp", "new", "cur")

_OURS = re.compile(r"\d+\.K([0-9a-f]{32})R")


class Maildir:
    """
    A Maildir; it is made if it is not there.

    The name of a message has the hash of its key in it.  So a message that is there
    is known again, even if nothing else of that has reached the disk.

    :param crlf: whether lines end with CRLF, as on the wire; else with LF, as mail
        programs expect it there.
    :raises OSError: it cannot be made, or there is something else.
    """

    # All messages are known by their names, this one too.
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
        """Say whether the message is there."""
        return _hash(key) in self._there

    def deliver(self, key: str | None) -> Delivery:
        """Begin with a message."""
        known = secrets.token_hex(16) if key is None else _hash(key)
        # What Maildir says of host names with these characters in them.
        host = socket.gethostname().replace("/", r"\057").replace(":", r"\072")
        # One that a crash has left in tmp must not be in the way.
        name = f"{int(time.time())}.K{known}R{secrets.token_hex(4)}.{host}"
        turn = None if self._crlf else LineEnds()
        return Delivery(self._folder / "tmp" / name, key, turn)

    def keep(self, delivery: Delivery) -> None:
        """Move a message to ``new``; when this returns, it is there for good."""
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
        """Need nothing."""

    def abandon(self) -> None:
        """Need nothing: each file has its key in its name."""


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:32]
