"""
Remembers the Maildirs and mboxes that have received mail.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path

from ..files import append, write_whole

__all__ = ["KnownPlaces"]


class KnownPlaces:
    """
    The Maildirs and mboxes that mail was brought to, one in each line of a file.

    One of them that is missing is not made again: its file system is not mounted.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._places: set[str] = set()
        # Whether the file ends with a whole line, for all we know.
        self._whole = False
        # Places are added in threads.
        self._lock = threading.Lock()

    def read(self) -> None:
        """Read the file, if there is one."""
        try:
            text = self._file.read_bytes().decode("utf-8", "surrogateescape")
        except FileNotFoundError:
            return
        # The last line may have been cut by a crash.
        self._places = set(text[: text.rfind("\n") + 1].splitlines())

    def __contains__(self, path: Path) -> bool:
        """Return whether a Maildir or an mbox has received mail."""
        return str(path.absolute()) in self._places

    def add(self, path: Path) -> None:
        """Note that a Maildir or an mbox has received mail."""
        place = str(path.absolute())
        with self._lock:
            whole, self._whole = self._whole, False
            if whole:
                append(self._file, _lines([place]))
            else:
                write_whole(self._file, _lines(sorted({*self._places, place})))
            self._whole = True
            self._places.add(place)


def _lines(places: Iterable[str]) -> bytes:
    text = "".join(f"{place}\n" for place in places)
    return text.encode("utf-8", "surrogateescape")
