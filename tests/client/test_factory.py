"""
`POP3ClientFactory` with ``reactor.connectTCP``, over loopback.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IAddress, IConnector
from twisted.internet.protocol import ClientFactory, Factory, Protocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from pop3connect import (
    ConnectError,
    ConnectionLostError,
    Connector,
    Handle,
    LoginError,
    POP3ClientFactory,
    POP3ClientProtocol,
    STLSUnavailableError,
    UsageError,
    VerificationError,
)
from pop3connect.testing import MailboxServer
from pop3connect.testing.wire import layered

from ..support.acting import Acting
from ..support.certificates import ServerTLS, authority, expired, leaf

reactor: Any = global_reactor

MAIL = b"Subject: hello\r\n\r\nworld\r\n"

SECURE = {"plain": 0, "TLS": 1, "STLS": 2}


class Watched(POP3ClientFactory):
    """
    Tells when the connection of an attempt is gone.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.lost: Deferred[None] = Deferred()

    def clientConnectionLost(self, connector: IConnector, reason: Failure) -> None:
        super().clientConnectionLost(connector, reason)
        if connector.getDestination() and connector.state == "disconnected":  # type: ignore[attr-defined]
            self.lost.callback(None)


class _Closing(Protocol):
    """A connection that is closed as soon as something arrives."""

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.loseConnection()


class Refusing(Factory):
    """
    Wraps a server's factory; closes each connection with a number in ``refused``.
    """

    noisy = False

    def __init__(self, wrapped: Any) -> None:
        self._wrapped = wrapped
        self.connections = 0
        self.refused: set[int] = set()

    def doStart(self) -> None:
        self._wrapped.doStart()

    def doStop(self) -> None:
        self._wrapped.doStop()

    def buildProtocol(self, addr: IAddress | None) -> Any:
        self.connections += 1
        if self.connections in self.refused:
            return _Closing()
        return self._wrapped.buildProtocol(addr)


class FactoryTestCase(TestCase):
    """
    A mailbox server on loopback, with a certificate that a cacerts folder verifies.
    """

    timeout = 20

    def serve(self, name: str) -> None:
        self.creator = ServerTLS(leaf("127.0.0.1"))
        self.server = MailboxServer(
            [MAIL],
            certificate=None if name == "plain" else self.creator,
            tls_at_once=name == "TLS",
            clock=reactor,
        )
        self.listening = Refusing(layered(self.server._factory, reactor))
        port = reactor.listenTCP(0, self.listening, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.port = port.getHost().port

    def connector(self, name: str, **options: Any) -> Connector:
        if name != "plain":
            folder = Path(self.mktemp())
            folder.mkdir()
            (folder / "ca.pem").write_bytes(authority().cert_pem.bytes())
            options.setdefault("cacerts", folder)
        return Connector(f"127.0.0.1:{self.port}", secure=SECURE[name], **options)

    def connect(self, connector: Connector, **options: Any) -> Watched:
        options.setdefault("password", "lovelace")
        factory = Watched(connector, "ada", **options)
        reactor.connectTCP("127.0.0.1", self.port, factory)
        return factory

    async def fails(self, factory: POP3ClientFactory, kind: type[Exception]) -> Any:
        try:
            await factory.handle
        except kind as error:
            return error
        raise AssertionError(f"it did not fail with {kind.__name__}")


class SessionTests(FactoryTestCase):
    """It goes well."""

    async def test_session_reads_and_deletes_plain_with_tls_and_with_stls(self) -> None:
        for name in SECURE:
            self.serve(name)
            acting = Acting()
            factory = self.connect(self.connector(name), stsproc=acting)
            self.assertIsInstance(factory, ClientFactory)
            handle = await factory.handle
            self.assertIsInstance(handle, Handle)
            self.assertEqual(handle.tls is not None, name != "plain")
            if handle.tls is not None:
                self.assertTrue(handle.tls.verified)
            self.assertEqual(await handle.retrieve(1), MAIL)
            await handle.delete(1)
            self.assertEqual((await handle.disconnect()).deleted, {1})
            self.assertEqual(self.server.messages, [])
            self.assertIn("C: QUIT", acting.lines)
            await factory.lost
            self.assertEqual(self.listening.connections, 1)

    async def test_protocol_belongs_to_the_factory(self) -> None:
        self.serve("plain")
        built: list[Any] = []

        class Keeping(Watched):
            def buildProtocol(self, addr: IAddress | None) -> Any:
                built.append(super().buildProtocol(addr))
                return built[0]

        factory = Keeping(self.connector("plain"), "ada", "lovelace")
        reactor.connectTCP("127.0.0.1", self.port, factory)
        handle = await factory.handle
        self.assertIsInstance(built[0], POP3ClientProtocol)
        self.assertIs(built[0].factory, factory)
        await handle.disconnect()
        await factory.lost

    async def test_second_session_resumes_the_tls_session(self) -> None:
        """Both factories have one connector, which keeps the tickets."""
        for name in ("TLS", "STLS"):
            self.serve(name)
            connector = self.connector(name)
            for _ in range(2):
                factory = self.connect(connector)
                handle = await factory.handle
                assert handle.tls is not None
                self.assertTrue(handle.tls.verified)
                await handle.disconnect()
                await factory.lost
                # From now on a session that is not resumed is refused.
                self.creator.show(expired())
            factory = self.connect(self.connector(name))
            await self.fails(factory, VerificationError)
            await factory.lost

    async def test_server_that_refuses_to_resume_is_connected_to_again(self) -> None:
        self.serve("TLS")
        connector = self.connector("TLS")
        # It closes the second connection, which offers to resume the first.
        self.listening.refused = {2}
        for expected in (1, 3, 4):
            acting = Acting()
            factory = self.connect(connector, stsproc=acting)
            handle = await factory.handle
            self.assertEqual(await handle.retrieve(1), MAIL)
            await handle.disconnect()
            await factory.lost
            self.assertEqual(self.listening.connections, expected)


class FailureTests(FactoryTestCase):
    """There is no handle."""

    async def test_refused_connection_is_a_connect_error(self) -> None:
        self.serve("plain")
        port = reactor.listenTCP(0, Factory(), interface="127.0.0.1")
        closed = port.getHost().port
        await port.stopListening()
        connector = Connector(f"127.0.0.1:{closed}")
        factory = POP3ClientFactory(connector, "ada", "lovelace")
        reactor.connectTCP("127.0.0.1", closed, factory)
        error = await self.fails(factory, ConnectError)
        self.assertEqual(error.server, f"127.0.0.1:{closed}")
        self.assertIsNotNone(error.__cause__)

    async def test_refused_login_is_a_login_error_and_closes(self) -> None:
        self.serve("plain")
        factory = self.connect(self.connector("plain"), password="wrong")
        await self.fails(factory, LoginError)
        await factory.lost
        self.assertEqual(self.listening.connections, 1)

    async def test_missing_stls_is_an_error_and_closes(self) -> None:
        self.serve("plain")
        factory = self.connect(self.connector("STLS"))
        await self.fails(factory, STLSUnavailableError)
        await factory.lost
        self.assertFalse([line for line in self.server.heard if "ada" in line])

    async def test_unverified_server_is_an_error_and_closes(self) -> None:
        self.serve("TLS")
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "ca.pem").write_bytes(authority("Another CA").cert_pem.bytes())
        factory = self.connect(self.connector("TLS", cacerts=folder))
        await self.fails(factory, VerificationError)
        await factory.lost
        self.assertEqual(self.server.heard, [])
        self.assertEqual(self.listening.connections, 1)

    async def test_server_that_never_resumes_is_tried_twice_and_no_more(self) -> None:
        self.serve("TLS")
        connector = self.connector("TLS")
        handle = await self.connect(connector).handle
        await handle.disconnect()
        self.listening.refused = {2, 3, 4}
        factory = self.connect(connector)
        await self.fails(factory, ConnectionLostError)
        await factory.lost
        self.assertEqual(self.listening.connections, 3)


class CancellingTests(FactoryTestCase):
    """The caller does not want the handle any more."""

    async def test_cancelled_before_the_connection_is_made_it_is_closed(self) -> None:
        self.serve("plain")
        factory = self.connect(self.connector("plain"))
        factory.handle.cancel()
        await self.fails(factory, CancelledError)
        await factory.lost
        self.assertEqual(self.server.heard, [])

    async def test_cancelled_before_the_connection_fails_it_fires_once(self) -> None:
        self.serve("plain")
        port = reactor.listenTCP(0, Factory(), interface="127.0.0.1")
        closed = port.getHost().port
        await port.stopListening()
        factory = POP3ClientFactory(self.connector("plain"), "ada", "lovelace")
        connecting = reactor.connectTCP("127.0.0.1", closed, factory)
        factory.handle.cancel()
        await self.fails(factory, CancelledError)
        gone: Deferred[None] = Deferred()
        while connecting.state != "disconnected":
            gone = Deferred()
            reactor.callLater(0.01, gone.callback, None)
            await gone

    async def test_cancelled_at_any_line_the_connection_is_closed(self) -> None:
        for name in SECURE:
            self.serve(name)
            connector = self.connector(name)
            at = 0
            while True:
                acting = Acting(at)
                factory = self.connect(connector, stsproc=acting)
                acting.act = factory.handle.cancel
                try:
                    handle = await factory.handle
                except CancelledError:
                    await factory.lost
                else:
                    await handle.disconnect()
                    await factory.lost
                    break
                self.assertEqual(len(acting.lines), at + 1)
                at += 1
            # With TLS the later ones leave out CAPA.
            self.assertGreaterEqual(at, 6)
            self.assertEqual(self.listening.connections, at + 1)


class ArgumentsTests(SynchronousTestCase):
    """What cannot be used is refused before anything is sent."""

    def test_unusable_argument_is_a_usage_error(self) -> None:
        connector = Connector("pop.example.com")
        wrong: tuple[Any, ...] = (
            ("a\r\nb", "lovelace"),
            (5, "lovelace"),
            ("ada", "love\nlace"),
            ("ada", 5),
            ("ada", "lovelace", "stsproc"),
        )
        for arguments in wrong:
            with self.assertRaises(UsageError) as caught:
                POP3ClientFactory(connector, *arguments)
            self.assertEqual(caught.exception.server, "pop.example.com:110")
            self.assertNotIn("lace", str(caught.exception))
