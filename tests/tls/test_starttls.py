"""
The layer that gives any stream transport a startTLS.
"""

from __future__ import annotations

import contextlib
from typing import Any

from OpenSSL import SSL
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IHandshakeListener,
    ISSLTransport,
    ITLSTransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from pop3connect.address import ServerAddress
from pop3connect.tls.context import ClientContext
from pop3connect.tls.starttls import StartTLSFactory, StartTLSLayer
from pop3connect.tls.trust import Trust

from ..support.certificates import HOST, ServerTLS, TLSTestCase, authority, unknown_ca
from ..support.memory import Transport


@implementer(IHandshakeListener)
class Upper(Protocol):
    """
    The protocol above the layer; it notes what happens to it.
    """

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.received = b""
        self.lost: list[BaseException | None] = []

    def connectionMade(self) -> None:
        self.events.append("made")

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def handshakeCompleted(self) -> None:
        self.events.append("handshake")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.events.append("lost")
        self.lost.append(reason.value)


class Far:
    """
    The other side of a transport, with TLS by OpenSSL itself.
    """

    def __init__(self, server: ServerTLS | None = None) -> None:
        self.connection = (server or ServerTLS()).serverConnectionForTLS(None)
        self.connection.set_accept_state()
        self.received = b""

    def take(self, data: bytes) -> bytes:
        """
        Take what came over the wire, and return what goes back.
        """
        if data:
            self.connection.bio_write(data)
        with contextlib.suppress(SSL.Error):
            self.connection.do_handshake()
            while True:
                self.received += self.connection.recv(65536)
        return self.waiting()

    def waiting(self) -> bytes:
        try:
            return self.connection.bio_read(65536)
        except SSL.WantReadError:
            return b""


class LayerTestCase(TLSTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.upper = Upper()
        self.factory = StartTLSFactory(
            Factory.forProtocol(lambda: self.upper), self.clock
        )
        layer = self.factory.buildProtocol(None)
        assert layer is not None
        self.layer = layer
        self.below: StringTransport = Transport()

    def connect(self) -> None:
        self.layer.makeConnection(self.below)

    def start_tls(self, server: ServerTLS | None = None, context: Any = None) -> Far:
        """
        Start TLS, and do the handshake.
        """
        context = context or ClientContext(None)
        self.upper.transport.startTLS(context.creator(ServerAddress.parse(HOST)))
        far = Far(server)
        self.carry(far)
        return far

    def carry(self, far: Far) -> None:
        """
        Carry what is on the wire, until nothing moves.
        """
        while True:
            self.clock.advance(0)
            out = self.below.value()
            self.below.clear()
            back = far.take(out)
            if back:
                self.layer.dataReceived(back)
            elif not out:
                return


class PlainTests(LayerTestCase):
    """
    Until startTLS the layer is not to be noticed.
    """

    def setUp(self) -> None:
        super().setUp()
        self.connect()

    def test_received_data_is_passed_on_unchanged(self) -> None:
        self.layer.dataReceived(b"+OK\r\n")
        self.assertEqual(self.upper.received, b"+OK\r\n")

    def test_written_data_is_passed_on_unchanged(self) -> None:
        self.upper.transport.write(b"CAPA\r\n")
        self.upper.transport.writeSequence([b"US", b"ER\r\n"])
        self.assertEqual(self.below.value(), b"CAPA\r\nUSER\r\n")

    def test_connection_made_is_reported_once(self) -> None:
        self.assertEqual(self.upper.events, ["made"])

    def test_transport_provides_itls_transport(self) -> None:
        """It says what it can, whatever the transport below can."""
        self.assertTrue(ITLSTransport.providedBy(self.upper.transport))

    def test_lose_connection_closes_transport_below(self) -> None:
        self.upper.transport.loseConnection()
        self.assertTrue(self.below.disconnecting)
        self.assertTrue(self.layer.disconnecting)

    def test_abort_connection_aborts_transport_below(self) -> None:
        self.upper.transport.abortConnection()
        assert isinstance(self.below, Transport)
        self.assertTrue(self.below.aborting)

    def test_lost_connection_is_reported_with_transport_reason(self) -> None:
        """The reason is that of the transport."""
        reason = ConnectionLost("cut")
        self.layer.connectionLost(Failure(reason))
        self.assertEqual(self.upper.lost, [reason])

    def test_addresses_are_those_of_transport_below(self) -> None:
        """The addresses are those of the transport."""
        transport = self.upper.transport
        self.assertEqual(transport.getPeer(), self.below.getPeer())
        self.assertEqual(transport.getHost(), self.below.getHost())

    def test_pause_and_resume_reach_transport_below(self) -> None:
        """Reading can be paused (a slow consumer of a message)."""
        self.upper.transport.pauseProducing()
        self.assertEqual(self.below.producerState, "paused")
        self.upper.transport.resumeProducing()
        self.assertEqual(self.below.producerState, "producing")


class TLSTests(LayerTestCase):
    """
    After startTLS everything goes through TLS.
    """

    def setUp(self) -> None:
        super().setUp()
        self.connect()

    def test_handshake_is_reported_without_a_second_connection_made(self) -> None:
        """The protocol hears of the end of the handshake, and of no new connection."""
        self.start_tls()
        self.assertEqual(self.upper.events, ["made", "handshake"])

    def test_transport_provides_issl_transport_only_after_start_tls(self) -> None:
        """Servers ask their transport whether there is TLS already."""
        self.assertFalse(ISSLTransport.providedBy(self.upper.transport))
        self.start_tls()
        self.assertTrue(ISSLTransport.providedBy(self.upper.transport))

    def test_client_hello_is_sent_at_once(self) -> None:
        """The hello goes out at once."""
        context = ClientContext(None)
        self.upper.transport.startTLS(context.creator(ServerAddress.parse(HOST)))
        self.assertTrue(self.below.value().startswith(b"\x16\x03"))

    def test_received_data_is_decrypted(self) -> None:
        far = self.start_tls()
        far.connection.send(b"+OK\r\n")
        data = far.waiting()
        self.assertNotIn(b"+OK", data)
        self.layer.dataReceived(data)
        self.assertEqual(self.upper.received, b"+OK\r\n")

    def test_data_received_byte_by_byte_is_decrypted(self) -> None:
        far = self.start_tls()
        far.connection.send(b"+OK\r\n")
        for octet in far.waiting():
            self.layer.dataReceived(bytes([octet]))
        self.assertEqual(self.upper.received, b"+OK\r\n")

    def test_written_data_is_encrypted(self) -> None:
        far = self.start_tls()
        self.upper.transport.write(b"CAPA\r\n")
        self.upper.transport.writeSequence([b"US", b"ER\r\n"])
        self.clock.advance(0)
        self.assertNotIn(b"CAPA", self.below.value())
        self.carry(far)
        self.assertEqual(far.received, b"CAPA\r\nUSER\r\n")

    def test_data_written_before_handshake_waits_and_is_encrypted(self) -> None:
        """What is written too early waits; it does not go out in the clear."""
        context = ClientContext(None)
        self.upper.transport.startTLS(context.creator(ServerAddress.parse(HOST)))
        self.upper.transport.write(b"CAPA\r\n")
        self.clock.advance(0)
        self.assertNotIn(b"CAPA", self.below.value())
        far = Far()
        self.carry(far)
        self.assertEqual(far.received, b"CAPA\r\n")

    def test_only_data_after_start_tls_is_encrypted(self) -> None:
        """Bytes written before stay plain, later ones are encrypted."""
        self.upper.transport.write(b"STLS\r\n")
        self.assertEqual(self.below.value(), b"STLS\r\n")
        self.below.clear()
        self.layer.dataReceived(b"+OK\r\n")
        far = self.start_tls()
        self.upper.transport.write(b"CAPA\r\n")
        self.carry(far)
        self.assertEqual(far.received, b"CAPA\r\n")
        self.assertEqual(self.upper.received, b"+OK\r\n")

    def test_tls_can_be_started_while_receiving_data(self) -> None:
        """TLS may be started while data is being received, as after +OK to STLS."""
        context = ClientContext(None)

        def received(data: bytes) -> None:
            self.upper.received += data
            self.upper.transport.startTLS(context.creator(ServerAddress.parse(HOST)))

        self.upper.dataReceived = received  # type: ignore[method-assign]
        self.layer.dataReceived(b"+OK\r\n")
        del self.upper.dataReceived
        far = Far()
        self.carry(far)
        far.connection.send(b"+OK through TLS\r\n")
        self.layer.dataReceived(far.waiting())
        self.assertEqual(self.upper.received, b"+OK\r\n+OK through TLS\r\n")

    def test_lose_connection_delivers_data_and_sends_tls_shutdown(self) -> None:
        """Closing says goodbye first, and delivers what was written."""
        far = self.start_tls()
        self.upper.transport.write(b"QUIT\r\n")
        self.upper.transport.loseConnection()
        self.carry(far)
        self.assertEqual(far.received, b"QUIT\r\n")
        self.assertTrue(far.connection.get_shutdown() & SSL.RECEIVED_SHUTDOWN)
        self.assertTrue(self.layer.disconnecting)

    def test_tls_shutdown_from_peer_closes_connection(self) -> None:
        """Its goodbye closes the connection."""
        far = self.start_tls()
        far.connection.shutdown()
        self.layer.dataReceived(far.waiting())
        self.assertTrue(self.below.disconnecting)
        self.layer.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.upper.events[-1], "lost")
        self.assertIsInstance(self.upper.lost[0], ConnectionDone)

    def test_abort_connection_aborts_transport_at_once(self) -> None:
        """Aborting does not wait for anything."""
        self.start_tls()
        self.upper.transport.abortConnection()
        assert isinstance(self.below, Transport)
        self.assertTrue(self.below.aborting)

    def test_abort_during_handshake_aborts_transport_at_once(self) -> None:
        context = ClientContext(None)
        self.upper.transport.startTLS(context.creator(ServerAddress.parse(HOST)))
        self.upper.transport.abortConnection()
        assert isinstance(self.below, Transport)
        self.assertTrue(self.below.aborting)
        self.assertNotIn("handshake", self.upper.events)

    def test_lost_connection_is_reported_once(self) -> None:
        """A loss is handed on once, and what is written after it is dropped."""
        self.start_tls()
        self.below.clear()
        self.layer.connectionLost(Failure(ConnectionLost()))
        self.assertEqual(self.upper.events, ["made", "handshake", "lost"])
        self.assertIsInstance(self.upper.lost[0], ConnectionLost)

    def test_connection_lost_during_handshake_is_reported(self) -> None:
        context = ClientContext(None)
        self.upper.transport.startTLS(context.creator(ServerAddress.parse(HOST)))
        self.layer.connectionLost(Failure(ConnectionLost()))
        self.assertEqual(self.upper.events, ["made", "lost"])
        self.assertIsInstance(self.upper.lost[0], ConnectionLost)

    def test_failed_handshake_is_reported_with_tls_reason(self) -> None:
        """The protocol hears the reason that TLS has, not that of the transport."""
        self.upper.transport.startTLS(
            ClientContext(None).creator(ServerAddress.parse(HOST))
        )
        self.layer.dataReceived(b"+OK this is no TLS\r\n")
        self.assertTrue(self.below.disconnecting)
        self.layer.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.upper.events, ["made", "lost"])
        self.assertIsInstance(self.upper.lost[0], SSL.Error)
        self.assertEqual(self.upper.received, b"")

    def test_untrusted_peer_closes_connection_with_tls_reason(self) -> None:
        """A server that proves nothing is one of these reasons."""
        trust = Trust.choose(self.folder([authority()]), False, {})
        self.start_tls(ServerTLS(unknown_ca()), ClientContext(trust))
        self.assertTrue(self.below.disconnecting)
        self.layer.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.upper.events, ["made", "lost"])
        self.assertIsInstance(self.upper.lost[0], SSL.Error)

    def test_pause_and_resume_reach_transport_below(self) -> None:
        """Reading can be paused here too."""
        self.start_tls()
        self.upper.transport.pauseProducing()
        self.assertEqual(self.below.producerState, "paused")
        self.upper.transport.resumeProducing()
        self.assertEqual(self.below.producerState, "producing")


class Meagre(StringTransport):
    """
    A transport that can do no more than it must: no ``abortConnection``.
    """

    def __getattribute__(self, name: str) -> Any:
        if name == "abortConnection":
            raise AttributeError(name)
        return super().__getattribute__(name)


class MeagreTests(LayerTestCase):
    """
    `ITransport` has no ``abortConnection``; a proxy's or a pipe's may have none.
    """

    def setUp(self) -> None:
        super().setUp()
        self.below = Meagre()
        self.connect()

    def test_abort_falls_back_to_lose_connection(self) -> None:
        self.upper.transport.abortConnection()
        self.assertTrue(self.below.disconnecting)

    def test_abort_in_tls_falls_back_to_lose_connection(self) -> None:
        """Twisted's TLS wants to abort what is below it."""
        self.start_tls()
        self.upper.transport.abortConnection()
        self.assertTrue(self.below.disconnecting)

    def test_tls_works_without_abort_connection(self) -> None:
        far = self.start_tls()
        self.upper.transport.write(b"CAPA\r\n")
        self.carry(far)
        self.assertEqual(far.received, b"CAPA\r\n")


class NestedTests(LayerTestCase):
    """
    The transport may be a TLS connection itself: a proxy that is reached by TLS.
    """

    def test_start_tls_works_over_a_tls_connection(self) -> None:
        context = ClientContext(None)
        outer = TLSMemoryBIOFactory(
            context.creator(ServerAddress.parse("proxy.example.org")),
            True,
            self.factory,
            self.clock,
        ).buildProtocol(None)
        self.layer = outer.wrappedProtocol
        wire = Transport()
        outer.makeConnection(wire)
        proxy, server = Far(), Far(ServerTLS())

        def carry() -> None:
            for _ in range(20):
                self.clock.advance(0)
                out = wire.value()
                wire.clear()
                back = proxy.take(out)
                inner, proxy.received = proxy.received, b""
                if inner and self.started:
                    answer = server.take(inner)
                    if answer:
                        proxy.connection.send(answer)
                        back += proxy.waiting()
                elif inner:
                    self.plain += inner
                if back:
                    outer.dataReceived(back)

        self.started = False
        self.plain = b""
        carry()
        self.upper.transport.write(b"STLS\r\n")
        carry()
        self.assertEqual(self.plain, b"STLS\r\n")
        self.started = True
        self.upper.transport.startTLS(context.creator(ServerAddress.parse(HOST)))
        carry()
        self.assertEqual(self.upper.events, ["made", "handshake"])
        self.upper.transport.write(b"CAPA\r\n")
        carry()
        self.assertEqual(server.received, b"CAPA\r\n")
        server.connection.send(b"+OK\r\n")
        proxy.connection.send(server.waiting())
        outer.dataReceived(proxy.waiting())
        self.assertEqual(self.upper.received, b"+OK\r\n")
        outer.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.upper.events, ["made", "handshake", "lost"])
        # What an older Twisted still wants to write is dropped a moment later.
        self.clock.advance(0)


class FactoryTests(SynchronousTestCase):
    """
    The factory builds what the factory inside it builds.
    """

    def test_protocol_of_inner_factory_is_wrapped(self) -> None:
        upper = Upper()
        factory = StartTLSFactory(Factory.forProtocol(lambda: upper), Clock())
        layer = factory.buildProtocol(None)
        self.assertIsInstance(layer, StartTLSLayer)
        assert layer is not None
        self.assertIs(layer.wrappedProtocol, upper)

    def test_none_from_inner_factory_is_passed_on(self) -> None:
        """None means that the connection is not wanted any more."""

        class Unwilling(Factory):
            def buildProtocol(self, addr: object) -> None:
                return None

        self.assertIsNone(StartTLSFactory(Unwilling(), Clock()).buildProtocol(None))

    def test_closed_connections_are_forgotten(self) -> None:
        """A connection that is gone is forgotten, with TLS and without."""
        for tls in (False, True):
            factory = StartTLSFactory(Factory.forProtocol(Upper), Clock())
            layer = factory.buildProtocol(None)
            assert layer is not None
            layer.makeConnection(Transport())
            self.assertEqual(list(factory.protocols), [layer])
            if tls:
                creator = ClientContext(None).creator(ServerAddress.parse(HOST))
                layer.startTLS(creator)
            layer.connectionLost(Failure(ConnectionDone()))
            self.assertEqual(list(factory.protocols), [])
