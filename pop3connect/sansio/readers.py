"""
Reads the bodies of LIST, UIDL, CAPA and LANG, piece by piece as they arrive.

So the work for a chunk is bounded whatever the length of the listing, and the text of
a listing is never held as a whole.  A bad row fails the command: the rest is counted
and dropped.  A row or a listing beyond its bound ends the session.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from bisect import bisect_left
from functools import lru_cache
from operator import itemgetter, lt
from typing import Generic, TypeVar

from ..redaction import printable
from ..results import UID, Capabilities, Listing
from .replies import BadReplyError, parse_one_listing, parse_one_uid

__all__ = [
    "MAX_LISTING",
    "CapabilityReader",
    "LanguageReader",
    "ListingReader",
    "Reader",
    "TooLargeError",
    "UIDReader",
]

MAX_LISTING = 2_000_000
"""Rows of LIST and UIDL, unless the caller says otherwise.  They are held in memory,
200 to 300 bytes each; a mailbox of 250,000 messages is rare."""

MAX_ROW = 512
"""Bytes of a row with its CR LF (RFC 2449 section 3)."""

MAX_CAPABILITIES = 512
"""Rows of CAPA and LANG.  Real servers send about a dozen; more is an attack."""

T_co = TypeVar("T_co", covariant=True)
R = TypeVar("R", Listing, UID)


class TooLargeError(Exception):
    """A row or a listing is beyond its bound, and the session must end."""


class Reader(ABC, Generic[T_co]):
    """
    Reads the rows of one body.

    :param max_rows: how many rows there may be.
    """

    def __init__(self, max_rows: int) -> None:
        self._max_rows = max_rows
        self._count = 0
        self._tail = b""
        self._bad: BadReplyError | None = None

    def feed(self, piece: bytes) -> None:
        """
        Read a piece of the body, cut anywhere.

        :raises TooLargeError: a row has more than `MAX_ROW` bytes, or there are more
            rows than ``max_rows``.
        """
        data = self._tail + piece if self._tail else piece
        end = data.rfind(b"\r\n") + 2
        if end < 2:
            end = 0
        self._tail = data[end:]
        # A CR at the end may be the beginning of the row's line end.
        if len(self._tail) > MAX_ROW - 1:
            raise TooLargeError(f"a row of more than {MAX_ROW} bytes")
        if end:
            self._read(data[:end])

    def finish(self) -> T_co:
        """
        Return what the rows say.

        :raises BadReplyError: a row cannot be read, or contradicts another.
        """
        if self._tail:
            self._read(self._tail + b"\r\n")
        if self._bad is not None:
            raise self._bad
        return self._result()

    def _read(self, block: bytes) -> None:
        """Read whole rows."""
        rows = block.split(b"\r\n")
        rows.pop()
        self._counted(len(rows))
        for row in rows:
            if len(row) > MAX_ROW - 2:
                raise TooLargeError(f"a row of more than {MAX_ROW} bytes")
            if self._bad is None and row.strip():
                try:
                    self._row(row)
                except BadReplyError as bad:
                    self._bad = bad

    def _counted(self, rows: int) -> None:
        self._count += rows
        if self._count > self._max_rows:
            raise TooLargeError(f"more than {self._max_rows} rows")

    @abstractmethod
    def _row(self, row: bytes) -> None:
        """Take in one row, without its CR LF; it is not blank."""

    @abstractmethod
    def _result(self) -> T_co:
        """Return what the rows say."""


class _NumberedReader(Reader[list[R]]):
    """
    Reads rows that begin with a message number, each message at most once.

    :cvar plain: finds the rows of a block, as pairs of text, if all have the plain form
        of nearly all servers; then no row is looked at by itself.
    """

    def __init__(self, max_rows: int) -> None:
        super().__init__(max_rows)
        self._rows: list[R] = []
        self._last = 0
        # The rows from the first one on that is out of order, by number; and how many
        # there are before it.  Those are sorted, so they are not copied: with millions
        # of them that would take too long for one chunk.
        self._seen: dict[int, R] | None = None
        self._sorted = 0

    def _read(self, block: bytes) -> None:
        if self._bad is not None or self._seen is not None:
            super()._read(block)
            return
        rows = self._plain(block)
        # The numbers rise: then no message comes twice.
        if rows is None or not self._rises(rows):
            super()._read(block)
            return
        self._counted(len(rows))
        self._rows += rows
        self._last = rows[-1][0]

    def _rises(self, rows: list[R]) -> bool:
        numbers = [row[0] for row in rows]
        return (
            bool(numbers)
            and numbers[0] > self._last
            and all(map(lt, numbers, numbers[1:]))
        )

    def _row(self, row: bytes) -> None:
        found = self._parse(row)
        number = found[0]
        if self._seen is None:
            if number > self._last:
                self._last = number
                self._rows.append(found)
                return
            self._seen = {}
            self._sorted = len(self._rows)
        known = self._before(number) or self._seen.get(number)
        if known is None:
            self._seen[number] = found
            self._rows.append(found)
        elif known != found:
            raise BadReplyError(
                f"message {number} has two different entries in the listing", row
            )

    def _before(self, number: int) -> R | None:
        """Return the row of a message among those that came in order."""
        rows, end = self._rows, self._sorted
        at = bisect_left(rows, number, hi=end, key=itemgetter(0))
        return rows[at] if at < end and rows[at][0] == number else None

    def _result(self) -> list[R]:
        return self._rows

    @abstractmethod
    def _plain(self, block: bytes) -> list[R] | None:
        """Return the rows of a block in the plain form; ``None`` if one is not."""

    @abstractmethod
    def _parse(self, row: bytes) -> R:
        """Read one row."""


# 18 digits are within `replies.MAX_NUMBER`.
_find_listings = re.compile(rb"^([1-9][0-9]{0,17}) ([0-9]{1,18})\r$", re.M).findall
_find_uids = re.compile(r"^([1-9][0-9]{0,17}) ([!-~]{1,480})\r$", re.M).findall


class ListingReader(_NumberedReader[Listing]):
    """Reads LIST (RFC 1939 section 5), in the order of the server."""

    def _plain(self, block: bytes) -> list[Listing] | None:
        found = _find_listings(block)
        if len(found) != block.count(b"\n"):
            return None
        return [Listing(int(number), int(size)) for number, size in found]

    def _parse(self, row: bytes) -> Listing:
        return parse_one_listing(row)


class UIDReader(_NumberedReader[UID]):
    """
    Reads UIDL (RFC 1939 section 7), in the order of the server.

    Two messages may have one unique-id: the RFC allows it, and servers do it.
    """

    def _plain(self, block: bytes) -> list[UID] | None:
        if not block.isascii():
            return None
        found = _find_uids(block.decode("ascii"))
        if len(found) != block.count(b"\n"):
            return None
        return [UID(int(number), uid) for number, uid in found]

    def _parse(self, row: bytes) -> UID:
        return parse_one_uid(row)


class CapabilityReader(Reader[Capabilities]):
    """Reads CAPA (RFC 2449 section 5)."""

    def __init__(self) -> None:
        super().__init__(MAX_CAPABILITIES)
        self._rows: list[bytes] = []

    def _row(self, row: bytes) -> None:
        self._rows.append(row)

    def _read(self, block: bytes) -> None:
        if not self._rows and len(block) < MAX_ROW:
            # Nearly always all there is, and not more than one row may have.
            self._counted(block.count(b"\r\n"))
            self._rows.append(block)
        else:
            super()._read(block)

    def _result(self) -> Capabilities:
        body = b"\r\n".join(self._rows)
        parse = _parse_capabilities if len(body) < MAX_ROW else _capabilities
        return parse(body)


def _capabilities(body: bytes) -> Capabilities:
    tags: dict[str, tuple[str, ...]] = {}
    for row in body.split(b"\r\n"):
        words = [printable(word) for word in row.split()]
        if words:
            tag = words[0].upper()
            # Some servers announce SASL twice; both rows count.
            tags[tag] = tags.get(tag, ()) + tuple(words[1:])
    return Capabilities(tags)


# A server says the same in each session, and the value is never changed.
_parse_capabilities = lru_cache(maxsize=64)(_capabilities)


class LanguageReader(Reader[dict[str, str]]):
    """Reads LANG: language tag -> its name (RFC 6856 section 3.2)."""

    def __init__(self) -> None:
        super().__init__(MAX_CAPABILITIES)
        self._languages: dict[str, str] = {}

    def _row(self, row: bytes) -> None:
        tag, _, name = row.strip().partition(b" ")
        self._languages[printable(tag)] = printable(name.strip())

    def _result(self) -> dict[str, str]:
        return self._languages
