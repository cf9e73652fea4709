"""
Reads the few header fields that a list of messages shows.

Mail is written by strangers: whatever is in a header, this returns printable text.
"""

from __future__ import annotations

import email
from email.header import decode_header, make_header
from email.utils import parsedate_to_datetime

import attrs

from ..redaction import printable

__all__ = ["Summary", "summary"]


@attrs.frozen
class Summary:
    """
    What a message is.

    :ivar date: as in ISO 8601, or as it stands there if it cannot be read.
    """

    subject: str
    sender: str
    date: str


def summary(header: bytes) -> Summary:
    """Read a header, decoded as RFC 2047 says."""
    fields = email.message_from_bytes(header)
    return Summary(
        _text(fields.get("Subject")),
        _text(fields.get("From")),
        _date(fields.get("Date")),
    )


def _text(value: object) -> str:
    if value is None:
        return ""
    raw = str(value)
    try:
        decoded = str(make_header(decode_header(value)))  # type: ignore[arg-type]
    except (ValueError, LookupError, AssertionError):
        # An unknown charset, or what is no base64: shown as it stands there.
        decoded = raw
    text = " ".join(decoded.split())
    return printable(text.encode("utf-8", "replace"))


def _date(value: object) -> str:
    try:
        return parsedate_to_datetime(str(value)).isoformat()
    except (TypeError, ValueError, IndexError, OverflowError):
        return _text(value)
