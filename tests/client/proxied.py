"""
What the tests of SOCKS5 and of HTTP proxies have in common.

Import the module, not its classes: a test case that is imported by name runs twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import trustme
from hypothesis import strategies as st
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectionLost
from twisted.internet.ssl import PrivateCertificate
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from pop3connect import (
    ConnectError,
    Secure,
    TimedOutError,
    VerificationError,
    connect,
)
from pop3connect.client.tunnel import Negotiation
from pop3connect.collect import AccountSettings
from pop3connect.testing import MailboxServer

from ..support.proxies import HTTPProxy, SocksProxy
from ..support.shows import shows
from ..test_api import ApiTestCase

reactor: Any = global_reactor

TARGET = "pop.example.com:110"
PASSWORD = "hunter2"


def chunks_of(*pieces: bytes) -> st.SearchStrategy[list[bytes]]:
    """
    Return chunks of anything, and of these pieces of valid replies.
    """
    return st.lists(
        st.one_of(st.binary(max_size=300), st.sampled_from(pieces)), max_size=8
    )


class DialogueTests(SynchronousTestCase):
    """
    What is sent and understood; without a connection.
    """

    def assertConnectsOrFails(self, dialogue: Negotiation, chunks: list[bytes]) -> None:
        """
        Check that chunks come to a connection or to an error that can be shown.
        """
        dialogue.start()
        try:
            for chunk in chunks:
                if dialogue.rest is not None:
                    break
                dialogue.receive(chunk)
        except ConnectError as error:
            self.assertTrue(str(error).isprintable())
            self.assertNotIn(PASSWORD, str(error))


class ConnectTests(ApiTestCase):
    """
    `connect` with a proxy, on a reactor without sockets.

    :cvar url: the proxy, with a login.
    :cvar shown: the proxy, as errors name it.
    :cvar secrets: the forms of the password, which no error has in it.
    :cvar connected: the reply of the proxy when it has connected.
    """

    url: str
    shown: str
    secrets: tuple[str, ...] = (PASSWORD,)
    connected: bytes

    def through(self, proxy: str = "", **options: Any) -> Any:
        return self.open(proxy=proxy or self.url, **options)

    def error(self, opening: Any, kind: type[Exception]) -> Any:
        error = self.failureResultOf(opening).value
        self.assertIs(type(error), kind)
        self.assertEqual(error.server, TARGET)
        for secret in self.secrets:
            self.assertNotIn(secret, repr(error) + str(error))
        return error

    def assertNothingLeft(self) -> None:
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def answered(self, answers: Sequence[bytes], **options: Any) -> Any:
        """
        Return the call and the connection to a proxy that has sent these answers.
        """
        self.setUp()
        opening = self.through(**options)
        tunnel, transport = self.reactor.accept()
        for answer in answers:
            tunnel.dataReceived(answer)
        return opening, tunnel, transport

    def assertHangIsNamed(self, answers: Sequence[bytes] | None, undone: str) -> None:
        """
        Check the error for a proxy that sends no more.

        :param answers: what it sends before; ``None``: it is not reached.
        """
        tunnel: Any = None
        if answers is None:
            self.setUp()
            opening = self.through(connect_timeout=7)
        else:
            opening, tunnel, transport = self.answered(answers, connect_timeout=7)
        self.reactor.advance(6.9)
        self.assertNoResult(opening)
        self.reactor.advance(0.2)
        error = self.error(opening, TimedOutError)
        self.assertEqual(
            str(error),
            f"{TARGET}: could not connect within 7 seconds: the proxy {self.shown} "
            f"{undone}; check the host name and the port in proxy",
        )
        self.assertEqual((error.phase, error.seconds), ("connecting", 7))
        if tunnel is not None:
            self.assertTrue(transport.aborting)
            # Whatever still comes is not read.
            tunnel.dataReceived(self.connected)
            tunnel.connectionLost(Failure(ConnectionLost()))
        self.assertNothingLeft()

    def assertCloseIsNamed(self, answers: Sequence[bytes], undone: str) -> None:
        """
        Check the error for a proxy that closes the connection after its answers.
        """
        opening, tunnel, _ = self.answered(answers)
        tunnel.connectionLost(Failure(ConnectionLost()))
        error = self.error(opening, ConnectError)
        self.assertEqual(
            error.message, f"the proxy {self.shown} {undone}: it closed the connection"
        )
        self.assertNothingLeft()

    def assertCancellingCloses(self, *answers: bytes) -> None:
        """
        Check that cancelling closes the connection, before it and after each answer.
        """
        self.setUp()
        opening = self.through()
        opening.cancel()
        self.failureResultOf(opening, CancelledError)
        self.assertNothingLeft()
        for count in range(len(answers) + 1):
            opening, tunnel, transport = self.answered(answers[:count])
            opening.cancel()
            self.failureResultOf(opening, CancelledError)
            self.assertTrue(transport.aborting)
            tunnel.connectionLost(Failure(ConnectionLost()))
            self.assertNothingLeft()


class LoopbackTests(TestCase):
    """
    A whole session through a real proxy, to a name that only the proxy can look up.

    :cvar kind: makes the proxy.
    :cvar scheme: of its URL.
    """

    timeout = 30

    kind: type[SocksProxy | HTTPProxy]
    scheme: str

    NAME = "pop.only-the-proxy.invalid"
    OTHER = "other.only-the-proxy.invalid"
    IPV6 = "2001:db8::1"

    def setUp(self) -> None:
        self.authority = trustme.CA()
        issued = self.authority.issue_cert(self.NAME)
        pem = issued.private_key_pem.bytes() + issued.cert_chain_pems[0].bytes()
        self.certificate = PrivateCertificate.loadPEM(pem)
        self.cacerts = self.mktemp()
        self.authority.cert_pem.write_to_path(self.cacerts)

    def serve(self, credentials: Any = None, **options: Any) -> str:
        """
        Start a server and a proxy that leads to it; return the proxy's address.
        """
        options.setdefault("messages", [b"Subject: one\r\n\r\n"])
        listening = MailboxServer(**options).listen(reactor)
        self.addCleanup(listening.stopListening)
        names = dict.fromkeys(
            (self.NAME, self.OTHER, self.IPV6), listening.getHost().port
        )
        self.proxy = self.kind(reactor, names, credentials)
        port = reactor.listenTCP(0, self.proxy, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return f"127.0.0.1:{port.getHost().port}"

    def url(self, at: str, login: str = "") -> str:
        return f"{self.scheme}://{login}{at}"

    async def session(self, server: str, **options: Any) -> bytes:
        opening = connect(server, "ada", "lovelace", cacerts=self.cacerts, **options)
        async with await opening as handle:
            return await handle.retrieve(1)

    async def assertNameIsLookedUpAndVerified(self) -> None:
        """
        Check sessions with TLS and STLS through a proxy that wants a login.
        """
        for secure, port in ((Secure.TLS, 995), (Secure.STLS, 110)):
            at = self.serve(
                (b"proxy user", b"se:cret"),
                certificate=self.certificate,
                tls_at_once=secure is Secure.TLS,
            )
            content = await self.session(
                self.NAME, secure=secure, proxy=self.url(at, "proxy%20user:se:cret@")
            )
            self.assertEqual(content, b"Subject: one\r\n\r\n")
            self.assertEqual(self.proxy.asked, [(self.NAME, port)])

    async def assertRefused(
        self, at: str, problem: str, *, server: str = NAME, login: str = ""
    ) -> None:
        """
        Check the error of a session that the proxy refuses.
        """
        with self.assertRaises(ConnectError) as caught:
            await self.session(server, proxy=self.url(at, login))
        self.assertIn(problem, str(caught.exception))
        self.assertIn(at, str(caught.exception))

    async def test_address_of_ipv6_is_given_to_the_proxy(self) -> None:
        at = self.serve()
        await self.session(f"[{self.IPV6}]:1100", proxy=self.url(at))
        self.assertEqual(self.proxy.asked, [(self.IPV6, 1100)])

    async def test_account_of_the_collector_uses_its_proxy(self) -> None:
        at = self.serve(certificate=self.certificate, tls_at_once=True)
        account = AccountSettings(
            name="ada",
            server=self.NAME,
            user="ada",
            password="lovelace",
            cacerts=self.cacerts,
            proxy=self.url(at),
        )
        opening = account.connector(reactor).connect("ada", "lovelace")
        async with await opening as handle:
            self.assertEqual((await handle.stat()).count, 1)
        self.assertEqual(self.proxy.asked, [(self.NAME, 995)])

    @shows(
        "attack 6.1",
        "The proxy, or a machine beyond it, plays the server",
        "The password, the mail.",
        "The certificate must be for ``server``, wherever the proxy leads.",
    )
    async def test_certificate_must_have_the_servers_name(self) -> None:
        at = self.serve(certificate=self.certificate, tls_at_once=True)
        with self.assertRaises(VerificationError):
            await self.session(self.OTHER, secure=Secure.TLS, proxy=self.url(at))
