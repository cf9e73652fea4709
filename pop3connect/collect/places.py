"""
Remembers the Maildirs and mboxes that have received mail.
"""

from __future__ import annotations

import threading
from pathlib import Path

from ..files import write_whole

__all__ = ["KnownPlaces"]


class KnownPlaces:
    """
    The Maildirs and mboxes that mail was brought to, one in each line of a file.

    One of them that is missing is not made again: its file system is not mounted.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._places: set[str] = set()
        # Places are added in threads.
        self._lock = threading.Lock()

    def read(self) -> None:
        """Read the file, if there is one."""
        try:
            text = self._file.read_bytes().decode("utf-8", "surrogateescape")
        except FileNotFoundError:
            return
        self._places = set(text.splitlines())

    def __contains__(self, path: Path) -> bool:
        """Return whether a Maildir or an mbox has received mail."""
        return str(path.absolute()) in self._places

    def add(self, path: Path) -> None:
        """Note that a Maildir or an mbox has received mail."""
        with self._lock:
            places = {*self._places, str(path.absolute())}
            text = "".join(f"{each}\n" for each in sorted(places))
            write_whole(self._file, text.encode("utf-8", "surrogateescape"))
            self._places = places
