"""
What the commands of a `Handle` give back, beside the plain listings of `replies`.
"""

from __future__ import annotations

from typing import NamedTuple

import attrs

from .errors import POP3Error

__all__ = ["Committed", "LoginInfo", "Message"]


@attrs.frozen
class LoginInfo:
    """
    How the login went.

    :ivar mechanism: ``"USER"``, ``"APOP"``, or the name of a SASL mechanism.
    :ivar cleartext: whether the password itself went over the wire without TLS.
    """

    mechanism: str
    cleartext: bool


@attrs.frozen
class Committed:
    """
    What the end of a session has made real (RFC 1939 section 6).

    :ivar deleted: the numbers of the messages that are deleted now.
    """

    deleted: frozenset[int]


class Message(NamedTuple):
    """One message, or the reason why it did not come."""

    number: int
    """The message number, from 1."""

    content: bytes | None
    """The message as it is stored, with CRLF; ``None`` if it was refused."""

    error: POP3Error | None
    """Why it was refused; ``None`` if it was not."""
