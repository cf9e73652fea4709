"""
Parses mail with the standard library, so that hostile mail neither raises nor stalls.
"""

from __future__ import annotations

from contextlib import suppress
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import EmailPolicy
from typing import Any

__all__ = ["MAX_PARSED", "SafePolicy", "parse"]

MAX_PARSED = 32_768
"""Characters of a header field that are parsed.  A list of 1,000 recipients fits.  The
time of the standard library's parser grows with the square of the length: it takes 0.1
seconds for a parameter list of this length, and 20 seconds for one of 1 MB."""


class SafePolicy(EmailPolicy):
    """
    `email.policy.default`, but a field that cannot be parsed is text only.

    Such a field has the attributes of an empty one: no addresses, no parameters.
    """

    def header_fetch_parse(self, name: str, value: str) -> Any:
        """Return the value of a field, parsed if that is possible."""
        if len(value) <= MAX_PARSED:
            # RecursionError, IndexError and others, by the version of Python.
            with suppress(Exception):
                return super().header_fetch_parse(name, value)
        empty = super().header_fetch_parse(name, "")
        text = "".join(value[:MAX_PARSED].splitlines())
        # A header is a str that knows what was read in it.
        field = str.__new__(type(empty), text)
        vars(field).update(vars(empty))
        return field


_POLICY = SafePolicy()


def parse(content: bytes) -> EmailMessage:
    """
    Parse a message; see `pop3connect.Message.parse`.

    :param content: the message, or its header.
    """
    # Its types do not say that it returns what its first argument makes.
    parser: Any = BytesParser(EmailMessage, policy=_POLICY)
    try:
        message: EmailMessage = parser.parsebytes(content)
    except Exception:  # noqa: BLE001 - RecursionError if parts are nested too deeply
        message = parser.parsebytes(content, headersonly=True)
    return message
