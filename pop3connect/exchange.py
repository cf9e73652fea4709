"""
One command on its way: what was asked, who waits for the answer, where a body goes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.interfaces import IConsumer, IPushProducer
from zope.interface import implementer

from .commands import Command
from .errors import POP3Error

__all__ = ["Collected", "Exchange", "Flow", "Sink", "Streamed"]


class Flow(Protocol):
    """What a body that is streamed may do to the connection it comes from."""

    def pause_body(self) -> None:
        """Stop reading until `resume_body`."""

    def resume_body(self) -> None:
        """Read on."""

    def abandon_body(self) -> None:
        """End the session: the rest of the body is not wanted."""


class Sink(Protocol):
    """Where the decoded body of one reply goes."""

    @property
    def write(self) -> Callable[[bytes], object]:
        """Take a piece; never called before `begin`, nor after `end` or `lost`."""

    def begin(self, flow: Flow) -> None:
        """Get ready: the body starts."""

    def end(self, octets: int) -> bytes:
        """Return what is to be parsed: the body has ended, with so many octets."""

    def lost(self) -> None:
        """Clean up: the rest of a body that had begun will never come."""


class Collected:
    """Keeps a body in memory, in the pieces in which it came."""

    __slots__ = ("_pieces", "write")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self.write: Callable[[bytes], object] = self._pieces.append

    def begin(self, flow: Flow) -> None:
        """Need nothing."""

    def end(self, octets: int) -> bytes:
        """Return the whole body."""
        pieces = self._pieces
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def lost(self) -> None:
        """Need nothing."""


@implementer(IPushProducer)
class Streamed:
    """Passes a body on to an `IConsumer`, which may slow the connection down."""

    def __init__(self, consumer: IConsumer) -> None:
        self._consumer = consumer
        self._flow: Flow | None = None
        self.octets = 0
        self.write: Callable[[bytes], object] = consumer.write

    def begin(self, flow: Flow) -> None:
        """Register with the consumer."""
        self._flow = flow
        self._consumer.registerProducer(self, True)

    def end(self, octets: int) -> bytes:
        """Leave the consumer; nothing is kept to be parsed."""
        self.octets = octets
        self.lost()
        return b""

    def lost(self) -> None:
        """Leave the consumer, and read on for whoever comes next."""
        flow, self._flow = self._flow, None
        self._consumer.unregisterProducer()
        if flow is not None:
            flow.resume_body()

    # A consumer that was left has no say any more, so each asks for the flow.

    def pauseProducing(self) -> None:
        """Do as the consumer asks."""
        if self._flow is not None:
            self._flow.pause_body()

    def resumeProducing(self) -> None:
        """Do as the consumer asks."""
        if self._flow is not None:
            self._flow.resume_body()

    def stopProducing(self) -> None:
        """Do as the consumer asks."""
        if self._flow is not None:
            self._flow.abandon_body()


class Exchange:
    """
    A command and what becomes of it.

    :param succeed: takes the parsed reply.
    :param fail: takes the error.
    :param noted: takes the parsed reply before, and also when nobody waits any
        more: for what has then happened on the server all the same.
    """

    __slots__ = ("command", "dropped", "fail", "noted", "sent", "sink", "succeed")

    def __init__(
        self,
        command: Command[Any],
        sink: Sink,
        noted: Callable[[Any], object] | None = None,
    ) -> None:
        self.command = command
        self.sink = sink
        self.noted = noted
        self.succeed: Callable[[Any], object] = _nobody
        self.fail: Callable[[POP3Error], object] = _nobody
        self.sent = False
        self.dropped = False

    def drop(self) -> None:
        """Let nobody hear of the answer."""
        self.dropped = True
        self.succeed = self.fail = _nobody


def _nobody(result: object) -> None:
    """Take a result that nobody waits for."""
