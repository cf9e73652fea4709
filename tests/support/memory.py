"""
A client and a server in memory: no sockets, and time passes when a test says so.

`Wire` is a transport between our protocol and the test, which plays the server.
With TLS, the server's side is a real `TLSMemoryBIOFactory` protocol, and the client's
a real one too: `pop3connect.layer` slips it in.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from pop3connect import connect


class Transport(StringTransport):
    """
    One side's transport: what is written stays here until the wire carries it.
    """

    lost = False

    def abortConnection(self) -> None:
        self.aborting = True
        self.disconnecting = True


class Peer(Protocol):
    """
    The server's side above TLS: it remembers what it was sent.
    """

    def __init__(self) -> None:
        self.received = b""

    def dataReceived(self, data: bytes) -> None:
        self.received += data


@implementer(IStreamClientEndpoint)
class Server:
    """
    An endpoint that leads to the test itself, which says what the server says.

    Use `say` and `heard`; `start_tls` begins TLS on the server's side.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self.client: Any = None
        self.transport = Transport()
        self.connecting: Deferred[Any] | None = None
        self._tls: Any = None
        self._peer = Peer()
        self._there = Transport()
        self._heard = 0

    # -- the endpoint

    def connect(self, factory: Any) -> Deferred[Any]:
        protocol = factory.buildProtocol(None)
        assert protocol is not None
        self.client = protocol
        protocol.makeConnection(self.transport)
        self.connecting = Deferred()
        self.connecting.callback(protocol)
        return self.connecting

    # -- what the server does

    def open(self, server: str = "pop.example.com", **options: Any) -> Deferred[Any]:
        """
        Call `connect` over this wire.
        """
        options.setdefault("username", "ada")
        options.setdefault("password", "lovelace")
        return connect(server, endpoint=self, reactor=self.clock, **options)

    def say(self, data: bytes, *, size: int | None = None) -> None:
        """
        Send this to the client, in pieces of so many octets.
        """
        if self._tls is not None:
            self._peer.transport.write(data)
            self.settle()
            return
        for start in range(0, len(data), size or max(len(data), 1)):
            if self.transport.lost or self.transport.disconnecting:
                return
            self.client.dataReceived(data[start : start + (size or len(data))])
        self.settle()

    def raw(self, data: bytes) -> None:
        """
        Send this below TLS.
        """
        self.client.dataReceived(data)
        self.settle()

    def heard(self) -> bytes:
        """
        Return what the client has sent since the last call.
        """
        self.settle()
        if self._tls is not None:
            data, self._peer.received = self._peer.received, b""
            return data
        data = self.transport.value()
        self.transport.clear()
        return data

    def expect(self, line: bytes, answer: bytes = b"") -> None:
        """
        Check that the client has sent just this line, and answer.
        """
        heard = self.heard()
        if heard != line + b"\r\n":
            raise AssertionError(f"expected {line!r}, heard {heard!r}")
        if answer:
            self.say(answer)

    def start_tls(self, creator: Any) -> None:
        """
        Begin TLS as the server; ``creator`` makes server connections.
        """
        factory = TLSMemoryBIOFactory(
            creator, False, Factory.forProtocol(lambda: self._peer), self.clock
        )
        self._tls = factory.buildProtocol(None)
        self._tls.makeConnection(self._there)
        self.settle()

    def settle(self) -> None:
        """
        Carry what is on the wire, until nothing moves; no time passes.
        """
        for _ in range(100):
            self.clock.advance(0)
            moved = False
            if self._tls is not None:
                out = self.transport.value()
                if out:
                    self.transport.clear()
                    self._tls.dataReceived(out)
                    moved = True
                back = self._there.value()
                if back:
                    self._there.clear()
                    if not self.transport.lost:
                        self.client.dataReceived(back)
                    moved = True
            if not moved:
                break
        self.close_if_asked()

    def close_if_asked(self) -> None:
        """
        Tell the client that its connection is gone, if it has closed it.
        """
        if self.transport.disconnecting and not self.transport.lost:
            from twisted.internet.error import ConnectionDone

            self.lose(ConnectionDone())

    def lose(self, reason: Exception | None = None) -> None:
        """
        Break the connection.
        """
        from twisted.internet.error import ConnectionLost

        if not self.transport.lost:
            self.transport.lost = True
            self.client.connectionLost(Failure(reason or ConnectionLost()))

    # -- whole dialogues

    def log_in(self, capabilities: bytes = b"", **options: Any) -> Any:
        """
        Play a plain login, and return the handle.
        """
        opening = self.open(**options)
        self.say(b"+OK ready\r\n")
        capa = b"+OK\r\nUSER\r\n" + capabilities + b".\r\n"
        self.expect(b"CAPA", capa)
        self.expect(b"USER ada", b"+OK\r\n")
        self.expect(b"PASS lovelace", b"+OK\r\n")
        self.expect(b"CAPA", capa)
        handles: list[Any] = []
        opening.addCallback(handles.append)
        return handles[0]
