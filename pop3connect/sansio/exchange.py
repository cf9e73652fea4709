"""
One command on its way: what was asked, who waits for the answer, where a body goes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from ..errors import POP3Error
from .commands import Command

__all__ = ["Exchange", "Flow", "Sink"]


class Flow(Protocol):
    """What a body that is streamed may do to the connection it comes from."""

    def pause_body(self) -> None:
        """Stop reading until `resume_body`."""

    def resume_body(self) -> None:
        """Read on."""

    def abandon_body(self) -> None:
        """End the session: the rest of the body is not wanted."""


class Sink(Protocol):
    """Where the decoded body of one reply goes, if it is not kept in memory."""

    @property
    def write(self) -> Callable[[bytes], object]:
        """Take a piece; never called before `begin`, nor after `end` or `lost`."""

    def begin(self, flow: Flow) -> None:
        """Get ready: the body starts."""

    def end(self, octets: int) -> None:
        """Clean up: the body has ended, and had so many octets."""

    def lost(self) -> None:
        """Clean up: the rest of a body that had begun will never come."""


def _nobody(result: object) -> None:
    """Take a result that nobody waits for."""


class Exchange:
    """
    A command and what becomes of it.

    :param succeed: takes the parsed reply.
    :param fail: takes the error.
    :param sink: where a body goes; ``None``: it is kept, and parsed.
    :param noted: takes the parsed reply before `succeed`, also when it was dropped: it
        has happened on the server anyway.
    :param refused: takes the error of ``-ERR`` in the same way.
    """

    __slots__ = (
        "command",
        "dropped",
        "fail",
        "noted",
        "refused",
        "sink",
        "succeed",
    )

    def __init__(
        self,
        command: Command[Any],
        succeed: Callable[[Any], object] = _nobody,
        fail: Callable[[POP3Error], object] = _nobody,
        sink: Sink | None = None,
        noted: Callable[[Any], object] | None = None,
        refused: Callable[[POP3Error], object] | None = None,
    ) -> None:
        self.command = command
        self.sink = sink
        self.noted = noted
        self.refused = refused
        self.dropped = False
        self.succeed = succeed
        self.fail = fail

    def drop(self) -> None:
        """Let nobody hear of the reply; it is still read."""
        self.dropped = True
        self.succeed = self.fail = _nobody
