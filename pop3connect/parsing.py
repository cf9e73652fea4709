"""
Parses mail with the standard library, so that hostile mail neither raises nor stalls.
"""

from __future__ import annotations

import re
from collections.abc import Callable
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
"""Characters of all different fields of MIME in one message that are parsed.  The types
and names of 500 attachments fit, and they take half a second."""

MAX_PARTS = 2_000
"""Parts of a message; with nothing in them, they take 0.1 seconds."""

MAX_COMPARED = 10_000_000
"""Comparisons of lines with boundaries: each line is compared with those of all parts
that contain it.  They take 1 to 4 seconds."""

_MIME = {
    "content-disposition",
    "content-transfer-encoding",
    "content-type",
    "mime-version",
}
"""The fields that are read while a message is parsed, or that have parameters."""

_BOUNDARY = re.compile(rb"boundary\s*[=*(]", re.IGNORECASE)
"""The parameter, with or without a comment or an extension (RFC 2231) behind it."""


class _Fields:
    """The fields of MIME that were parsed in one message."""

    def __init__(self) -> None:
        self._left = MAX_MIME
        self._parsed: dict[tuple[str, str], Any] = {}

    def get(self, name: str, value: str, parse: Callable[[str, str], Any]) -> Any:
        """Return a field that is parsed once; ``None``: it may not be."""
        known = self._parsed.get((name, value))
        if known is None and len(value) <= self._left:
            self._left -= len(value)
            known = self._parsed[name, value] = parse(name, value)
        return known


class SafePolicy(EmailPolicy):
    """
    `email.policy.default`, but a field that cannot be parsed is text only.

    Such a field has the attributes of an empty one: no addresses, no parameters.
    """

    # An attribute of the class, as the base class wants it.
    fields: Any = None
    """The fields of MIME of one message."""

    def header_fetch_parse(self, name: str, value: str) -> Any:
        """Return the value of a field, parsed if that is possible."""
        field = None
        if len(value) <= MAX_PARSED:
            # RecursionError, IndexError and others, by the version of Python.
            with suppress(Exception):
                parse = super().header_fetch_parse
                if name.lower() not in _MIME:
                    return parse(name, value)
                field = self.fields.get(name, value, parse)
        if field is None:
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
    # The types of the base class know no attributes but its own.
    policy = SafePolicy(fields=_Fields())  # type: ignore[call-overload]
    # Its types do not say that it returns what its first argument makes.
    parser: Any = BytesParser(_Parts(), policy=policy)  # type: ignore[arg-type]
    # Each boundary may be that of a part that contains all other lines.
    boundaries = sum(1 for _ in _BOUNDARY.finditer(content))
    # A line may end in either.
    lines = content.count(b"\n") + content.count(b"\r")
    if boundaries * lines <= MAX_COMPARED:
        # RecursionError if parts are nested too deeply.
        with suppress(Exception):
            message: EmailMessage = parser.parsebytes(content)
            return message
    parser = BytesParser(EmailMessage, policy=policy)
    return cast(EmailMessage, parser.parsebytes(content, headersonly=True))
