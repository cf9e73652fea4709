"""
A client and a server in memory: no sockets, and time passes when a test says so.

`Wire` is a transport between our protocol and the test, which plays the server.
With TLS, the server's side is a real `TLSMemoryBIOFactory` protocol, and the client's
a real one too: `pop3connect.tls.starttls` slips it in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import trustme
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import PrivateCertificate
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from pop3connect import Handle, POP3Error, connect

E = TypeVar("E", bound=BaseException)

NAME = "pop.example.com:110"
"""What `Server.open` calls the server unless it is told otherwise."""


@lru_cache(maxsize=1)
def server_certificate() -> Any:
    """
    Return what makes a server's side of TLS, for tests that don't look at names.
    """
    issued = trustme.CA().issue_cert("pop.example.com")
    pem = issued.private_key_pem.bytes() + issued.cert_chain_pems[0].bytes()
    return PrivateCertificate.loadPEM(pem).options()


class Transport(StringTransport):
    """
    One side's transport: what is written stays here until the wire carries it.

    ``writes`` remembers each write by itself.
    """

    lost = False
    aborting = False

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.writes.append(data)
        super().write(data)

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

    ``closes``: whether this side closes as soon as the client does.  ``connects``
    counts how often somebody connected.
    """

    closes = True

    def __init__(self, clock: Clock | None = None) -> None:
        self.connects = 0
        # A handle that is forgotten ends its session.
        self.keeping: list[object] = []
        self.clock = clock or Clock()
        self.client: Any = None
        self.connecting: Deferred[Any] | None = None
        self._reset()

    def _reset(self) -> None:
        self.transport = Transport()
        self._tls: Any = None
        self._peer = Peer()
        self._there = Transport()

    # -- the endpoint

    def connect(self, factory: Any) -> Deferred[Any]:
        self.connects += 1
        if self.transport.lost:
            # Another connection.
            self._reset()
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
        options.setdefault("endpoint", self)
        opening = connect(server, reactor=self.clock, **options)
        return opening.addCallback(self._keep)

    def _keep(self, handle: Handle) -> Handle:
        self.keeping.append(handle)
        return handle

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

    def channel(self) -> Any:
        """
        Return the server's end of the TLS connection.
        """
        return self._tls.getHandle()

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
                    # Twisted's TCP reads no more after an abort.
                    if not (self.transport.lost or self.transport.aborting):
                        self.client.dataReceived(back)
                    moved = True
            if not moved:
                break
        self.close_if_asked()

    def close_if_asked(self) -> None:
        """
        Tell the client that its connection is gone, if it has closed it.
        """
        closing = self.transport.disconnecting and self.closes
        # Nobody has to agree to an abort.
        if (closing or self.transport.aborting) and not self.transport.lost:
            self.lose(ConnectionDone())

    def lose(self, reason: Exception | None = None) -> None:
        """
        Break the connection.
        """
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


@implementer(IStreamClientEndpoint)
class Latest:
    """
    An endpoint that leads to the server that a test has now: its attribute ``server``.

    A `Connector` has one endpoint, and a `Server` takes one connection.
    """

    def __init__(self, test: Any) -> None:
        self._test = test

    def connect(self, factory: Any) -> Deferred[Any]:
        connecting: Deferred[Any] = self._test.server.connect(factory)
        return connecting


class SessionTestCase(SynchronousTestCase):
    """
    A test of one session with a `Server`; every one ends with nothing left behind.
    """

    def setUp(self) -> None:
        self._begin()
        self.addCleanup(self._nothing_left)

    def _begin(self) -> None:
        self.clock = Clock()
        self.server = Server(self.clock)
        self.status: list[str] = []
        #: What the errors call the server.
        self.name = NAME

    @property
    def status_procedure(self) -> Callable[[str], object] | None:
        """
        What the sessions get as ``stsproc``.
        """
        return self.status.append

    def again(self) -> None:
        """
        Begin again with another server at the same time, for the same connector.
        """
        self._nothing_left()
        self.server = Server(self.clock)
        self.status.clear()

    def anew(self) -> None:
        """
        Begin again with another server, for the next case of the same test.
        """
        self._nothing_left()
        self._begin()

    def _nothing_left(self) -> None:
        """
        Whatever happened: after the end of the connection no timer is left.
        """
        if self.server.client is not None:
            self.server.settle()
            self.server.lose()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    # -- doing

    def open(self, **options: Any) -> Deferred[Handle]:
        """
        Begin to open a session; the status procedure fills ``self.status``.
        """
        options.setdefault("stsproc", self.status_procedure)
        return self.server.open(**options)

    def log_in(self, *capabilities: str, **options: Any) -> Handle:
        """
        Return the handle of a session with a server that has these capabilities.
        """
        lines = "".join(f"{line}\r\n" for line in capabilities).encode("ascii")
        options.setdefault("stsproc", self.status_procedure)
        handle: Handle = self.server.log_in(lines, **options)
        self.assertIdle()
        return handle

    # -- looking

    def result(self, deferred: Any) -> Any:
        """
        Return what a Deferred or a coroutine has come to, by now.
        """
        self.server.settle()
        return self.successResultOf(deferred)

    def error(self, deferred: Any, kind: type[E]) -> E:
        """
        Return the error that a Deferred has come to: of this type, and no other.
        """
        self.server.settle()
        error = self.failureResultOf(deferred).value
        if type(error) is not kind:
            raise AssertionError(f"not {kind.__name__}: {error!r}") from error
        if isinstance(error, POP3Error):
            # Each of our errors says which server it is about, whatever it is.
            self.assertEqual(error.server, self.name)
            self.assertIn(self.name, str(error))
        return error

    def errors(self, deferreds: Sequence[Any], kind: type[E]) -> list[E]:
        """
        Return the errors of all of them.
        """
        return [self.error(deferred, kind) for deferred in deferreds]

    def pending(self, *deferreds: Any) -> None:
        """
        Check that nothing has come of them yet.
        """
        self.server.settle()
        for deferred in deferreds:
            self.assertNoResult(deferred)

    def assertIdle(self) -> None:
        """
        Check that no timer runs while nobody owes anything.
        """
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def assertClosed(self) -> None:
        """
        Check that the client has closed its connection, and left nothing.
        """
        self.server.settle()
        self.assertTrue(self.server.transport.disconnecting)
        self.assertIdle()
