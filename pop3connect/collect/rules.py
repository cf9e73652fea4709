"""
The rules of an account: which messages are fetched, and which are deleted when.

Pure: times come in as arguments, and what is read of a header is bounded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import timezone
from email.utils import parsedate_to_datetime
from itertools import islice
from typing import TYPE_CHECKING

import attrs

from ..headers import MAX_DATE, decode_words, fields
from .records import MessageRow, MessageState
from .units import show_bytes, show_seconds

if TYPE_CHECKING:
    from .settings import AccountSettings

__all__ = ["FIRST_LOOK", "HeaderPattern", "Rules", "date_of"]

FIRST_LOOK = "first look"
"""
How the reason begins for a message that was there at the first look and is not wanted.
It is final until ``accounts reset``.
"""

MAX_MATCHED = 65_536
"""Bytes of a field that are compared with patterns: a list of 1,500 addresses fits."""

MAX_TEXTS = 2000
"""Texts of one field, such as addresses, that are compared with patterns."""

SLACK = 4096
"""Bytes, and one for each line, by which sizes in LIST are commonly wrong."""

PATIENCE = 3
"""Confirmed deletions of one message that are repeated as soon as it is back."""

DAY = 24 * 3600

ADDRESSES = frozenset(
    {
        *("from", "to", "cc", "bcc", "sender", "reply-to", "return-path"),
        *("delivered-to", "envelope-to", "x-original-to", "resent-from", "resent-to"),
    }
)
"""Fields that have addresses in them."""

# -- patterns

_WRITTEN = re.compile(r"([!-9;-~]{1,100}) *: *(.{1,1000})\Z")
"""A pattern as it is written: the name of a field (RFC 5322 section 2.2), and text."""

# Each of these passes once over a text, whatever is in it: a quote that is not closed
# ends with the text.
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\\?\Z)', re.DOTALL)
_COMMENT = re.compile(r"\([^()]*\)")
_BRACKETS = re.compile(r"<([^<>]*)>")
_BETWEEN = re.compile(r"[,;]")


@attrs.frozen
class HeaderPattern:
    """
    A pattern for the text of a header field, such as ``From: *@example.org``.

    ``*`` stands for any text, ``?`` for one character; upper and lower case are the
    same.  The text is the whole field, decoded, with single blanks; in fields with
    addresses, each address alone counts as well.
    """

    name: str
    pattern: str
    _pieces: tuple[tuple[re.Pattern[str], int], ...] = attrs.field(
        init=False, eq=False, repr=False
    )

    @_pieces.default
    def _split(self) -> tuple[tuple[re.Pattern[str], int], ...]:
        # Searched one after the other, so that no text makes a search go back.
        return tuple(
            (
                re.compile(".".join(map(re.escape, piece.split("?"))), re.DOTALL),
                len(piece),
            )
            for piece in _plain(self.pattern).split("*")
        )

    @classmethod
    def parse(cls, text: object) -> HeaderPattern | None:
        """Return the pattern that a text describes; ``None`` if it is not one."""
        found = _WRITTEN.match(text.strip()) if isinstance(text, str) else None
        return None if found is None else cls(str(found[1]), str(found[2]))

    def __str__(self) -> str:
        """Return it as it is written."""
        return f"{self.name}: {self.pattern}"

    def fits(self, text: str) -> bool:
        """
        Return whether it stands for a text.

        :param text: as `texts_of` returns it.
        """
        (first, length), *others = self._pieces
        if not others:
            return first.fullmatch(text) is not None
        if first.match(text) is None:
            return False
        *between, (last, room) = others
        for piece, _ in between:
            found = piece.search(text, length)
            if found is None:
                return False
            length = found.end()
        start = len(text) - room
        return start >= length and last.match(text, start) is not None


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def texts_of(name: str, value: bytes) -> Iterator[str]:
    """
    Iterate over the texts of a field that patterns are compared with.

    :param name: of the field, in lower case.
    :param value: the raw value; `MAX_MATCHED` bytes of it are looked at.
    """
    value = value[:MAX_MATCHED]
    yield _plain(decode_words(value))
    if name not in ADDRESSES:
        return
    # Before encoded words are decoded: no address is in one, and a name that is made
    # to look like an address must not count.
    text = value.decode("utf-8", "surrogateescape")
    text = _COMMENT.sub(" ", _QUOTED.sub(" ", text))
    for part in _BETWEEN.split(text):
        inside = _BRACKETS.findall(part)
        for address in inside or [part]:
            yield _plain(address).replace(" ", "")


# -- dates


def date_of(header: bytes) -> float | None:
    """
    Return when a message arrived, in seconds since 1970; ``None``: that is not known.

    That is the date of the top Received field, which the last server added; else Date.
    """
    found: dict[bytes, bytes] = {}
    for name, value in fields(header):
        found.setdefault(name.lower(), value)
    received = found.get(b"received", b"")[-MAX_DATE:].rpartition(b";")[2]
    date = _seconds(received)
    return _seconds(found.get(b"date", b"")[:MAX_DATE]) if date is None else date


def _seconds(value: bytes) -> float | None:
    try:
        date = parsedate_to_datetime(value.decode("ascii"))
        if date.tzinfo is None:
            date = date.replace(tzinfo=timezone.utc)
        return date.timestamp()
    except Exception:  # noqa: BLE001 - see `pop3connect.headers.decode_date`
        return None


# -- the rules

_RULES = ("match = ", "skip = ", "newer_than = ", "max_size = ")
"""How the reasons begin that no longer hold when a rule has changed."""


@attrs.frozen(kw_only=True)
class Rules:
    """The rules of one account; the values are those of `AccountSettings`."""

    after: str | float = "keep"
    fetch: str = "message"
    match: tuple[HeaderPattern, ...] = ()
    skip: tuple[HeaderPattern, ...] = ()
    newer_than: float | None = None
    existing: str | float = "new"
    max_size: int | None = None
    list_sizes: str = "exact"

    @classmethod
    def of(cls, settings: AccountSettings) -> Rules:
        """Return the rules in the settings of an account."""
        names = (each.name for each in attrs.fields(cls))
        return cls(**{name: getattr(settings, name) for name in names})

    # -- what is fetched

    def needs_header(self, *, first_look: bool) -> bool:
        """Return whether `judge` has to see the header, which TOP reads."""
        dated = self.newer_than is not None or (
            first_look and not isinstance(self.existing, str)
        )
        return dated or bool(self.match or self.skip)

    def leaves(self, size: int) -> str:
        """
        Return why a message of this size in LIST is left on the server.

        At a first look, `judge` comes first: what it says is final.

        :return: the reason for its row, which names the rule; ``""``: it is not left.
        """
        if self.max_size is not None and size > self.max_size:
            return self._max_size
        return ""

    def judge(self, header: bytes, *, now: float, first_look: bool) -> str:
        """
        Return why a message is skipped.

        A message whose date is not known is not too old.

        :param header: what TOP gave; not looked at unless `needs_header`.
        :param first_look: whether the account has not been looked at before.
        :return: the reason for its row, which names the rule; ``""``: it is wanted.
        """
        if first_look and self.existing == "seen":
            return f'{FIRST_LOOK}: existing = "seen"'
        if not self.needs_header(first_look=first_look):
            return ""
        date = date_of(header)
        age = 0.0 if date is None else now - date
        if first_look and not isinstance(self.existing, str) and age > self.existing:
            return f"{FIRST_LOOK}: older than {show_seconds(self.existing)}"
        if self.newer_than is not None and age > self.newer_than:
            return self._newer_than
        if not self.match and not self.skip:
            return ""
        texts = self._texts(header)
        for pattern in self.skip:
            if _matches(pattern, texts):
                return _skipped(pattern)
        if self.match and not any(_matches(each, texts) for each in self.match):
            return self._match
        return ""

    def _texts(self, header: bytes) -> Mapping[str, list[str]]:
        """Return the texts of the fields that the patterns name."""
        texts: dict[str, list[str]] = {
            pattern.name.lower(): [] for pattern in (*self.match, *self.skip)
        }
        for raw, value in fields(header):
            name = raw.decode("ascii").lower()
            if name in texts:
                room = MAX_TEXTS - len(texts[name])
                texts[name] += islice(texts_of(name, value), room)
        return texts

    def stands(self, reason: str) -> bool:
        """
        Return whether a message that was skipped stays so without being judged again.

        :param reason: that of its row.  It does not stand when the rule that it names
            is not there any more, or has changed.
        """
        if not reason.startswith(_RULES):
            return True
        today = {self._match, self._newer_than, self._max_size}
        return reason in today.union(map(_skipped, self.skip))

    @property
    def _match(self) -> str:
        return f"match = {json.dumps([str(each) for each in self.match])}"

    @property
    def _newer_than(self) -> str:
        return f"newer_than = {show_seconds(self.newer_than or 0)}"

    @property
    def _max_size(self) -> str:
        return f"max_size = {show_bytes(self.max_size or 0)}"

    # -- what was retrieved whole

    def is_short(self, listed: int, got: int, lines: int) -> bool:
        """
        Return whether a retrieved message is too short to be believed.

        :param listed: its size in LIST; 0: unknown.
        :param got: the bytes received, with CRLF line ends.
        :param lines: how many lines those are.
        """
        if got == 0:
            return True
        if self.list_sizes == "estimate":
            return False
        return got * 10 < listed * 9 or listed - got > SLACK + lines

    # -- what is deleted

    def delete_after(self, delivered_at: float) -> float | None:
        """Return when a message may be deleted on the server; ``None``: never."""
        if self.fetch == "header" or self.after == "keep":
            return None
        return delivered_at + self._wait

    @property
    def _wait(self) -> float:
        return 0.0 if isinstance(self.after, str) else self.after

    def deletable(self, row: MessageRow, now: float, *, trusted: bool = True) -> bool:
        """
        Return whether a message is due to be deleted on the server.

        The rules of today decide, not those of the time of its delivery.  A message
        that came back after its deletion was confirmed is due again; after the third
        time once a day.

        :param trusted: ``False``: the clock has jumped, and no age is believed.
        """
        if row.state not in (MessageState.DELIVERED, MessageState.DELETED):
            return False
        due_at = None
        if row.delivered_at is not None:
            due_at = self.delete_after(row.delivered_at)
        if due_at is None:
            return False
        aged = self._wait > 0
        if row.delete_tries >= PATIENCE and row.deleted_at is not None:
            due_at = max(due_at, row.deleted_at + DAY)
            aged = True
        # What is due at once does not depend on a clock.
        return not aged or (trusted and now >= due_at)


def _skipped(pattern: HeaderPattern) -> str:
    return f"skip = {json.dumps(str(pattern))}"


def _matches(pattern: HeaderPattern, texts: Mapping[str, list[str]]) -> bool:
    return any(map(pattern.fits, texts[pattern.name.lower()]))
