"""
Passes bodies on to consumers, with back-pressure.

Consumers are application code: whatever they raise is caught here, and becomes a value.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IConsumer, IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from ..sansio.exchange import Exchange, Flow, Sink

__all__ = ["Feeder", "Streamed"]

log = Logger()


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


class Feeder:
    """
    Feeds the sink of one exchange after another.

    Each call concerns the exchange that it names, and does nothing for another: its
    body has not begun, or was let go.

    :param flow: the connection that the bodies come from.
    """

    __slots__ = ("_current", "_flow")

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        # The exchange whose sink was told that its body begins, and not that it ended.
        self._current: Exchange | None = None

    def begin(self, exchange: Exchange) -> Failure | None:
        """Begin a body, and return what the sink raised."""
        self._current = exchange
        try:
            _sink(exchange).begin(self._flow)
        except Exception:  # noqa: BLE001 - a consumer's own
            return Failure()
        return None

    def write(self, exchange: Exchange, piece: bytes) -> Failure | None:
        """Pass on a piece of the body, and return what the sink raised."""
        if self._current is exchange:
            try:
                exchange.sink.write(piece)  # type: ignore[union-attr]
            except Exception:  # noqa: BLE001 - a consumer's own
                return Failure()
        return None

    def end(self, exchange: Exchange, octets: int) -> Failure | None:
        """End the body, and return what the sink raised."""
        if self._current is exchange:
            self._current = None
            try:
                _sink(exchange).end(octets)
            except Exception:  # noqa: BLE001 - a consumer's own
                return Failure()
        return None

    def let_go(self, exchange: Exchange) -> None:
        """Tell the sink that the rest of the body will not come."""
        if self._current is exchange:
            self._current = None
            try:
                _sink(exchange).lost()
            except Exception:  # noqa: BLE001 - a consumer's own; its caller gets the error
                log.failure("a consumer failed to let go")


def _sink(exchange: Exchange) -> Sink:
    assert exchange.sink is not None
    return exchange.sink
