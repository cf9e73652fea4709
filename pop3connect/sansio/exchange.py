"""
One command on its way: the command, the callbacks for its reply, the sink of a body.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Protocol

from ..errors import POP3Error
from .commands import Command
from .events import Kind

__all__ = ["NOBODY", "Exchange", "Flow", "Reply", "Sink", "nobody"]


class Flow(Protocol):
    """What the sink of a body may do to the connection that the body comes from."""

    def pause_body(self) -> None:
        """Stop reading until `resume_body`."""

    def resume_body(self) -> None:
        """Read on."""

    def abandon_body(self) -> None:
        """End the session: the rest of the body is not wanted."""


class Sink(Protocol):
    """Where the decoded body of one reply goes, if it is not kept in memory."""

    def begin(self, flow: Flow) -> None:
        """Get ready: the body starts."""

    def write(self, piece: bytes) -> None:
        """Take a piece; called between `begin` and `end` or `lost` only."""

    def end(self, octets: int) -> None:
        """Clean up: the body has ended; ``octets`` is its length."""

    def lost(self) -> None:
        """Clean up: the rest of a body that had begun will never come."""


class Reply(Protocol):
    """The caller that waits for a reply: a Deferred, for example."""

    def callback(self, result: Any, /) -> object:
        """Take the parsed reply."""

    def errback(self, error: Any, /) -> object:
        """Take the error."""


# Looking a member up in its class takes longer than the rest of an exchange.
_ANSWERED = Kind.ANSWERED
_STREAMED = Kind.STREAMED


def nobody(result: object) -> None:
    """Take a result that nobody waits for."""


class _Nobody:
    """Takes a reply that no caller waits for."""

    __slots__ = ()

    def callback(self, result: Any) -> None:
        """Drop it."""

    def errback(self, error: Any) -> None:
        """Drop it."""


NOBODY: Reply = _Nobody()


class Exchange:
    """
    A command and what becomes of it.

    :cvar expendable: whether the session goes on if the sink fails; the rest of the
        body is then read and dropped.
    :ivar reply: takes the parsed reply, or the error.
    :ivar sink: where a body goes; ``None``: it is kept, and parsed.
    :ivar noted: takes the parsed reply before `reply`, dropped or not: it has happened
        on the server anyway.
    :ivar refused: takes the error of ``-ERR`` in the same way.
    :ivar whole: the kind of event if the body is the result and is read at once;
        ``None`` for a command without such a body.
    """

    expendable: ClassVar[bool] = False

    __slots__ = (
        "command",
        "dropped",
        "noted",
        "refused",
        "reply",
        "sink",
        "whole",
    )

    def __init__(
        self,
        command: Command[Any],
        reply: Reply = NOBODY,
        sink: Sink | None = None,
        noted: Callable[[Any], object] | None = None,
        refused: Callable[[POP3Error], object] = nobody,
    ) -> None:
        self.command = command
        self.reply = reply
        self.sink = sink
        self.noted = noted
        self.refused = refused
        self.dropped = False
        self.whole: Kind | None = None
        if command.verbatim:
            self.whole = _ANSWERED if sink is None else _STREAMED

    def succeed(self, result: Any) -> None:
        """Deliver the parsed reply."""
        if self.noted is not None:
            self.noted(result)
        self.reply.callback(result)

    def fail(self, error: object) -> None:
        """Deliver an error; what a sink raised comes as a Failure."""
        self.reply.errback(error)

    def drop(self) -> None:
        """Tell no caller about the reply; it is still read."""
        self.dropped = True
        self.reply = NOBODY
