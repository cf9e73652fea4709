"""
Passes bodies on to consumers, with back-pressure.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IConsumer, IPushProducer
from zope.interface import implementer

from ..sansio.exchange import Flow

__all__ = ["Streamed"]


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
        try:
            self._consumer.registerProducer(self, True)
        except Exception:
            # It has another one: that is not ours to unregister.
            self._flow = None
            raise

    def end(self, octets: int) -> None:
        """Leave the consumer."""
        self.octets = octets
        self.lost()

    def lost(self) -> None:
        """Leave the consumer, and read on for whoever comes next."""
        flow, self._flow = self._flow, None
        if flow is not None:
            try:
                self._consumer.unregisterProducer()
            finally:
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
