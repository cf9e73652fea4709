"""
What happens in a dialogue, as events.
"""

from __future__ import annotations

import enum
from typing import Any, NamedTuple

__all__ = ["OUTCOMES", "Broken", "Event", "Kind"]


class Kind(enum.IntEnum):
    """What happened; and what the event's value is."""

    ANSWERED = 0
    """A reply is complete; its value, as the command parses it."""

    STREAMED = 1
    """A reply whose body goes to a sink came whole; the body."""

    BEGUN = 2
    """The body of a reply begins that goes to a sink; ``None``."""

    PIECE = 3
    """A piece of that body; bytes."""

    ENDED = 4
    """The end of that body, and the reply is complete; its length in bytes."""

    REFUSED = 5
    """A reply is ``-ERR``; the line."""

    UNREADABLE = 6
    """A reply is not what the command asked for; a `BadReplyError`."""

    FAILED = 7
    """The session ended before the reply was complete; a `POP3Error`."""

    GREETED = 8
    """The greeting came; the line."""

    START_TLS = 9
    """STLS was answered ``+OK``; ``None``."""

    BROKEN = 10
    """The session must end; a `Broken`."""

    SENT = 11
    """A command was sent; ``None``.  Only for a listening dialogue."""

    LINE = 12
    """A status line came; the line.  Only for a listening dialogue."""

    BODY = 13
    """A body came; its length in bytes.  Only for a listening dialogue."""

    BLANK = 14
    """The first blank line between two replies was ignored; ``None``."""

    CALL = 15
    """Something is to be called in its turn; the callable."""


Event = tuple[Kind, Any, Any]
"""A kind, the exchange that it is about or ``None``, and a value."""

OUTCOMES = frozenset(
    (
        Kind.ANSWERED,
        Kind.STREAMED,
        Kind.ENDED,
        Kind.REFUSED,
        Kind.UNREADABLE,
        Kind.FAILED,
    )
)
"""The kinds after which an exchange is over."""


class Broken(NamedTuple):
    """Why a session must end."""

    problem: str
    """What the server sent, to be read after "the server sent"."""

    text: bytes | None = None
    """The beginning of it, as it came: it must be masked before it is shown."""

    verb: str | None = None
    """The command that it is about."""

    protocol: str | None = None
    """The other protocol that a greeting seems to be of."""
