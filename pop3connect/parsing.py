"""
Parses mail with the standard library, so that hostile mail neither raises nor stalls.
"""

from __future__ import annotations

import re
from contextlib import suppress
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import EmailPolicy
from typing import Any, cast

__all__ = ["MAX_MIME", "MAX_PARSED", "MAX_PARTS", "SafePolicy", "parse"]

MAX_PARSED = 32_768
"""Characters of a header field that are parsed.  A list of 1,000 recipients fits.  The
standard library's parser takes 0.1 to 0.3 seconds for it, and for some longer fields
grows with the square of the length."""

MAX_MIME = 65_536
"""Characters of all fields of MIME in one message that are parsed, each text once.  The
types and names of 500 attachments fit.  The parser reads such a field three times,
which takes a second for this length."""

MAX_PARTS = 2_000
"""Parts of a message; with nothing in them, they take 0.1 seconds."""

MAX_COMPARED = 10_000_000
"""How many times a line is compared with a boundary: it is once for each of the parts
that contain it.  They take 2 seconds."""

_MIME = {
    "content-disposition",
    "content-transfer-encoding",
    "content-type",
    "mime-version",
}
"""The fields that are read while a message is parsed, or that have parameters."""

_BOUNDARY = re.compile(rb"boundary\s*[=*(]", re.IGNORECASE)
"""The parameter, with or without a comment or an extension (RFC 2231) behind it."""


class _Admitted:
    """The fields of MIME that may be parsed, in one message."""

    def __init__(self) -> None:
        self._left = MAX_MIME
        self._values: set[str] = set()

    def admit(self, value: str) -> bool:
        """Return whether a field may be parsed: once it may, it always may."""
        if value not in self._values and len(value) <= self._left:
            self._left -= len(value)
            self._values.add(value)
        return value in self._values


class SafePolicy(EmailPolicy):
    """
    `email.policy.default`, but a field that cannot be parsed is text only.

    Such a field has the attributes of an empty one: no addresses, no parameters.
    """

    admitted: Any = None
    """Of one message; an attribute of the class, as the base class wants it."""

    def header_fetch_parse(self, name: str, value: str) -> Any:
        """Return the value of a field, parsed if that is possible."""
        if len(value) <= MAX_PARSED and (
            name.lower() not in _MIME or self.admitted.admit(value)
        ):
            # RecursionError, IndexError and others, by the version of Python.
            with suppress(Exception):
                return super().header_fetch_parse(name, value)
        empty = super().header_fetch_parse(name, "")
        text = "".join(value[:MAX_PARSED].splitlines())
        # A header is a str that knows what was read in it.
        field = str.__new__(type(empty), text)
        vars(field).update(vars(empty))
        return field


class _TooManyError(Exception):
    """A message has too many parts; never leaves this module."""


class _Parts:
    """Makes the objects of one message's parts, up to a bound."""

    def __init__(self) -> None:
        self._left = MAX_PARTS

    def __call__(self, policy: EmailPolicy) -> EmailMessage:
        """Make one, for the standard library's parser."""
        self._left -= 1
        if self._left < 0:
            raise _TooManyError
        return EmailMessage(policy)


def parse(content: bytes) -> EmailMessage:
    """
    Parse a message; see `pop3connect.Message.parse`.

    :param content: the message, or its header.
    """
    policy = SafePolicy(admitted=_Admitted())
    # Its types do not say that it returns what its first argument makes.
    parser: Any = BytesParser(_Parts(), policy=policy)  # type: ignore[arg-type]
    # Each boundary may be that of a part that contains all other lines.
    boundaries = sum(1 for _ in _BOUNDARY.finditer(content))
    if boundaries * content.count(b"\n") <= MAX_COMPARED:
        # RecursionError if parts are nested too deeply.
        with suppress(Exception):
            message: EmailMessage = parser.parsebytes(content)
            return message
    parser = BytesParser(EmailMessage, policy=policy)
    return cast(EmailMessage, parser.parsebytes(content, headersonly=True))
