"""
The connections of `testing`, in memory and over loopback, with faults of the server.

Both have the same layers above them: a `Pacer`, which decides when and in which pieces
bytes are sent, and real TLS, which passes data unchanged until it is started.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IConsumer,
    IDelayedCall,
    IHalfCloseableProtocol,
    IPushProducer,
    IStreamClientEndpoint,
    ITransport,
)
from twisted.internet.protocol import connectionDone
from twisted.internet.task import Clock
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from ..tls.starttls import StartTLSFactory, StartTLSLayer

__all__ = ["MemoryEndpoint", "Pacer", "ServerLayer", "flush", "layered"]

MAX_TURNS = 100_000
"""The largest number of turns of the clock in one `flush`, so that it returns."""

CHUNK = 65536
"""Bytes that arrive at once, as with Twisted's TCP."""


@implementer(ITransport, IConsumer, IPushProducer)
class MemoryTransport:
    """
    One end of a connection in memory; data written arrives in a later turn.

    :ivar other: the other end.
    :ivar protocol: the protocol at this end.
    :ivar disconnecting: whether it has been closed, and accepts no more data.
    """

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._due = False
        self._paused = False
        self._aborted = False
        self._lost = False
        self._written = bytearray()
        self._producer: Any = None
        self.disconnecting = False
        self.other: MemoryTransport
        self.protocol: Any = None

    def _later(self) -> None:
        if not self._due:
            self._due = True
            self._clock.callLater(0, self._turn)

    def _turn(self) -> None:
        self._due = False
        if self.other._paused:
            return
        data = bytes(self._written[:CHUNK])
        # From the front of a bytearray this does not move the rest.
        del self._written[:CHUNK]
        if self._written:
            self._later()
        if data and not self.other.disconnecting:
            self.other.protocol.dataReceived(data)
        if self._producer is not None:
            # A pull producer: it gives a piece each time it is asked.
            self._producer.resumeProducing()
        if self.disconnecting and not self._written:
            self._lose(ConnectionDone())
            self.other._lose(ConnectionDone())

    def _lose(self, reason: Exception) -> None:
        if not self._lost:
            self._lost = self.disconnecting = True
            self.protocol.connectionLost(Failure(reason))

    # -- sending

    def write(self, data: bytes) -> None:
        """Send, unless it has been closed."""
        if not self.disconnecting:
            self._written += data
            self._later()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Send, unless it has been closed."""
        self.write(b"".join(data))

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Ask a pull producer for data; a push producer is never too fast here."""
        if not streaming:
            self._producer = producer
            self._later()

    def unregisterProducer(self) -> None:
        """Forget the producer."""
        self._producer = None

    # -- receiving

    def pauseProducing(self) -> None:
        """Stop the arrival of data."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Let data arrive again."""
        self._paused = False
        self.other._later()

    def stopProducing(self) -> None:
        """Close."""
        self.loseConnection()

    # -- the end

    def loseConnection(self) -> None:
        """Close, after all data written has arrived."""
        self.disconnecting = True
        self._later()

    def loseWriteConnection(self) -> None:
        """Close one direction, after all data written has arrived."""
        self._clock.callLater(0, self.other._end_of_input)

    def abortConnection(self) -> None:
        """
        Close now: nothing more arrives, at either end.

        The protocols are notified in a later turn, as with Twisted's TCP, because a
        layer that calls this from `dataReceived` has not finished yet.
        """
        if not self._aborted:
            self._aborted = self.disconnecting = True
            self._written.clear()
            self.other._written.clear()
            self._clock.callLater(0, self._both_lose)

    def _both_lose(self) -> None:
        self._lose(ConnectionAborted())
        self.other._lose(ConnectionLost())

    def _end_of_input(self) -> None:
        if IHalfCloseableProtocol.providedBy(self.protocol):
            self.protocol.readConnectionLost()
        else:
            # As Twisted's TCP does.
            self.loseConnection()

    # -- addresses

    def getPeer(self) -> IPv4Address:
        """Return an address, which has no meaning here."""
        return IPv4Address("TCP", "127.0.0.1", 110)

    getHost = getPeer


@implementer(IStreamClientEndpoint)
class MemoryEndpoint:
    """
    Connects to a server's factory in this process.

    :ivar connections: the number of connections made.
    """

    def __init__(self, factory: Any, clock: Any) -> None:
        self._factory = factory
        self._clock = clock
        self.connections = 0

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        """Connect a client to a new server protocol."""
        self.connections += 1
        ends = [MemoryTransport(self._clock), MemoryTransport(self._clock)]
        ends[0].other, ends[1].other = ends[1], ends[0]
        for end, factory in zip(ends, (protocolFactory, self._factory), strict=True):
            end.protocol = factory.buildProtocol(None)
        client, server = ends
        client.protocol.makeConnection(client)
        server.protocol.makeConnection(server)
        return succeed(client.protocol)


class Pacer(ProtocolWrapper):
    """
    The lowest layer of the server's side, which decides when data is sent.

    :ivar piece: the size of a piece in bytes; ``None`` means all data at once.
    :ivar gap: seconds between two pieces; 0 means the next turn of the reactor.
    :ivar held: whether no data is sent.
    :ivar left: the number of bytes after which the connection breaks.
    """

    piece: int | None = None
    gap: float = 0
    held = False
    left: int | None = None

    def __init__(self, factory: Any, wrapped: Any) -> None:
        super().__init__(factory, wrapped)
        self._waiting = b""
        self._next: IDelayedCall | None = None
        self._afterwards: Callable[[], object] | None = None
        self._over = False

    def write(self, data: bytes) -> None:
        """Send at the pace that is set."""
        if self._over:
            # Without this, a closed TCP transport would still send the data.
            return
        self._waiting += data
        if self._next is None:
            self._send()

    def writeSequence(self, data: Any) -> None:
        """Send at the pace that is set."""
        self.write(b"".join(data))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Send no more data, and cancel the timer."""
        self._over = True
        self._waiting = b""
        if self._next is not None:
            self._next.cancel()
            self._next = None
        super().connectionLost(reason)

    def release(self) -> None:
        """Send the data that was held, in one piece."""
        self.held = False
        self._send()

    def loseConnection(self) -> None:
        """Close when all data was sent."""
        self._when_sent(super().loseConnection)

    def half_close(self) -> None:
        """Close the sending direction when all data was sent; go on reading."""
        assert self.transport is not None
        self._when_sent(self.transport.loseWriteConnection)  # type: ignore[attr-defined]

    def break_off(self) -> None:
        """Close the connection below TLS, so that no alert is sent."""
        self._when_sent(super().loseConnection)

    def reset(self) -> None:
        """Close now, as a crash does."""
        assert self.transport is not None
        self.transport.abortConnection()  # type: ignore[attr-defined]

    def _when_sent(self, close: Callable[[], object]) -> None:
        self._afterwards = close
        if self._next is None:
            self._send()

    def _send(self) -> None:
        self._next = None
        if self.held or self.transport is None:
            return
        size = len(self._waiting) if self.piece is None else self.piece
        if self.left is not None:
            size = min(size, self.left)
            self.left -= min(size, len(self._waiting))
        now, self._waiting = self._waiting[:size], self._waiting[size:]
        if now:
            super().write(now)
        if self.left == 0:
            self._waiting = b""
            self.left = None
            self._afterwards = super().loseConnection
        if self._waiting:
            self._next = self.factory.clock.callLater(self.gap, self._send)
        elif self._afterwards is not None:
            self._over = True
            close, self._afterwards = self._afterwards, None
            close()


class ServerLayer(StartTLSLayer):
    """The server's side of TLS."""

    client = False

    def tls_connection(self) -> Any:
        """Return the OpenSSL connection."""
        return self._tls.getHandle()

    @property
    def pacer(self) -> Any:
        """The layer below."""
        return self.transport


class _ServerFactory(StartTLSFactory):
    protocol: Any = ServerLayer


class _PacerFactory(WrappingFactory):
    protocol = Pacer
    noisy = False

    def __init__(self, wrapped: Any, clock: Any) -> None:
        super().__init__(wrapped)
        self.clock = clock


def layered(factory: Any, clock: Any) -> Any:
    """Put TLS and a pacer below the protocols of a server's factory."""
    return _PacerFactory(_ServerFactory(factory, clock), clock)


def flush(clock: Clock) -> None:
    """Deliver all data on its way, until nothing moves; no time passes."""
    for _ in range(MAX_TURNS):
        if not any(
            call.getTime() <= clock.seconds() for call in clock.getDelayedCalls()
        ):
            return
        clock.advance(0)
    raise AssertionError("the dialogue has no end")
