"""
A session through an HTTP proxy, with a custom endpoint.

    POP3_PASSWORD=... python proxy.py proxy.example.com:3128 pop.example.com ada
"""

import os
import sys

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import react
from zope.interface import implementer

from pop3connect import Secure, connect


class Tunnel(Protocol):
    """Asks the proxy for a tunnel, and hands on what comes through it."""

    def __init__(self, where, inner, opened):
        self.where = where
        self.inner = inner
        self.opened = opened
        self.answer = b""

    def connectionMade(self):
        where = self.where
        request = f"CONNECT {where} HTTP/1.1\r\nHost: {where}\r\n\r\n"
        self.transport.write(request.encode())

    def dataReceived(self, data):
        if self.opened is None:
            self.inner.dataReceived(data)
            return
        self.answer += data
        header, end, rest = self.answer.partition(b"\r\n\r\n")
        if not end and len(header) < 16_384:
            return
        if header.split(b" ", 2)[1:2] != [b"200"]:
            self.failed(f"the proxy refused: {header[:80]!r}")
            return
        opened, self.opened = self.opened, None
        self.inner.makeConnection(self.transport)
        opened.callback(self.inner)
        if rest:
            self.inner.dataReceived(rest)

    def failed(self, reason):
        if not self.opened.called:
            self.opened.errback(ConnectError(string=reason))
        self.transport.loseConnection()

    def connectionLost(self, reason):
        if self.opened is None:
            self.inner.connectionLost(reason)
        else:
            self.failed("the proxy closed the connection")


@implementer(IStreamClientEndpoint)
class ProxyEndpoint:
    """
    Leads through an HTTP proxy (RFC 9110 section 9.3.6).

    :param proxy: an endpoint that leads to the proxy.
    :param where: ``host:port`` of the server.
    """

    def __init__(self, proxy, where):
        self.proxy = proxy
        self.where = where

    def connect(self, factory):
        def tunnel():
            return Tunnel(self.where, factory.buildProtocol(None), opened)

        def cancel(_):
            connecting.cancel()
            if tunnels:
                tunnels[0].transport.abortConnection()

        tunnels = []
        opened = Deferred(cancel)
        connecting = self.proxy.connect(Factory.forProtocol(tunnel))
        connecting.addCallbacks(tunnels.append, opened.errback)
        return opened


async def main(reactor, proxy, server, user):
    host, port = proxy.rsplit(":", 1)
    endpoint = ProxyEndpoint(
        HostnameEndpoint(reactor, host, int(port)), f"{server}:995"
    )
    password = os.environ["POP3_PASSWORD"]
    # The certificate has to be the server's; the proxy sees TLS only.
    async with await connect(
        server, user, password, secure=Secure.TLS, endpoint=endpoint
    ) as handle:
        print(await handle.stat())


if __name__ == "__main__":
    react(main, sys.argv[1:])
