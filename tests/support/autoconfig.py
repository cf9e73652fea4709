"""
A provider's web servers on loopback, for autoconfig, and the reactor that reaches them.
"""

from __future__ import annotations

import os
from typing import Any
from unittest import mock

import trustme
from twisted.internet import reactor as global_reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import PrivateCertificate
from twisted.internet.task import deferLater
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

__all__ = ["CONFIG", "ProviderTestCase", "config", "server"]

reactor: Any = global_reactor


def server(
    host: str = "pop.example.com",
    port: str = "995",
    secure: str = "SSL",
    kind: str = "pop3",
    more: str = "<username>%EMAILADDRESS%</username>",
) -> str:
    """Return one server of a file."""
    return (
        f'<incomingServer type="{kind}"><hostname>{host}</hostname><port>{port}</port>'
        f"<socketType>{secure}</socketType>{more}</incomingServer>"
    )


def config(*servers: str) -> bytes:
    """Return a file that names these servers."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<clientConfig version="1.1">'
        '<emailProvider id="example.com"><domain>example.com</domain>'
        f"{''.join(servers)}</emailProvider></clientConfig>"
    ).encode()


CONFIG = config(server(kind="imap", port="993"), server())


class _Detour:
    """
    A reactor for which every name is on loopback, and port 443 another one.

    :ivar asked: the names that were looked up.
    :ivar unknown: names that are not found.
    """

    def __init__(self, reactor: Any, port: int) -> None:
        self._reactor = reactor
        self._port = port
        self.asked: list[str] = []
        self.unknown: set[str] = set()
        self.connections: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    @property
    def nameResolver(self) -> _Detour:
        return self

    def resolveHostName(
        self, receiver: Any, name: str, portNumber: int = 0, *_: Any, **__: Any
    ) -> None:
        self.asked.append(name)
        receiver.resolutionBegan(None)
        if name not in self.unknown:
            receiver.addressResolved(IPv4Address("TCP", "127.0.0.1", portNumber))
        receiver.resolutionComplete()

    def connectTCP(self, host: str, port: int, *rest: Any, **more: Any) -> Any:
        assert (host, port) == ("127.0.0.1", 443)
        connector = self._reactor.connectTCP(host, self._port, *rest, **more)
        self.connections.append(connector)
        return connector


class _Provider(Resource):
    """
    Answers by https.

    :ivar answers: for host and path: the body; a status; a place to redirect to; or a
        callable that is given the request.  Others are answered 404.
    :ivar asked: the URLs, and the headers, that were asked for.
    """

    isLeaf = True

    def __init__(self, authority: trustme.CA, *names: str) -> None:
        super().__init__()
        self.answers: dict[str, Any] = {}
        self.asked: list[str] = []
        self.headers: list[dict[bytes, list[bytes]]] = []
        issued = authority.issue_cert(*names)
        pem = issued.private_key_pem.bytes() + issued.cert_chain_pems[0].bytes()
        self._options = PrivateCertificate.loadPEM(pem).options()

    def listen(self, reactor: Any) -> Any:
        """Listen on loopback."""
        site = Site(self)
        site.noisy = False
        return self.listen_for(reactor, site)

    def listen_raw(self, reactor: Any, talk: Any) -> Any:
        """Listen, and call ``talk(transport)`` when the first bytes were received."""

        class Raw(Protocol):
            talked = False

            def dataReceived(self, data: bytes) -> None:
                if not self.talked:
                    self.talked = True
                    talk(self.transport)

        factory = Factory.forProtocol(Raw)
        factory.noisy = False
        return self.listen_for(reactor, factory)

    def listen_for(self, reactor: Any, factory: Any) -> Any:
        """Listen for a factory inside TLS."""
        secure = TLSMemoryBIOFactory(self._options, False, factory)
        secure.noisy = False
        return reactor.listenTCP(0, secure, interface="127.0.0.1")

    def render(self, request: Any) -> Any:
        host = request.getRequestHostname().decode("ascii")
        where = host + request.path.decode("ascii")
        self.asked.append(host + request.uri.decode("ascii"))
        self.headers.append(dict(request.requestHeaders.getAllRawHeaders()))
        answer = self.answers.get(where, 404)
        if callable(answer):
            answer(request)
            return NOT_DONE_YET
        if isinstance(answer, bytes):
            return answer
        if isinstance(answer, str):
            request.setResponseCode(302)
            request.setHeader(b"location", answer.encode())
        else:
            request.setResponseCode(answer)
        return b"<html>hello</html>"


class ProviderTestCase(TestCase):
    """
    With a provider of real HTTPS on loopback, for ``example.com``.
    """

    timeout = 30

    def setUp(self) -> None:
        authority = trustme.CA()
        cacerts = os.path.abspath(self.mktemp())
        authority.cert_pem.write_to_path(cacerts)
        changed = mock.patch.dict(os.environ, POP3CONNECT_CACERTS=cacerts)
        changed.start()
        self.addCleanup(changed.stop)
        self.provider = _Provider(authority, "autoconfig.example.com", "example.com")
        self.answers = self.provider.answers
        self.serve(self.provider.listen(reactor))

    def serve(self, listening: Any) -> None:
        self.addCleanup(listening.stopListening)
        # Old versions of trial do not wait for a coroutine.
        self.addCleanup(lambda: Deferred.fromCoroutine(self.settle()))
        self.detour = _Detour(reactor, listening.getHost().port)

    async def settle(self) -> None:
        """Wait until the connections are closed on both sides."""
        for _ in range(200):
            if all(each.state == "disconnected" for each in self.detour.connections):
                break
            await deferLater(reactor, 0.005)
        # And for the server's side of the last one.
        await deferLater(reactor, 0.01)
