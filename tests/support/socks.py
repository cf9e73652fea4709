"""
A SOCKS5 proxy for tests (RFC 1928, RFC 1929): CONNECT only, and names of its own.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

__all__ = ["SocksProxy"]

HOST_UNREACHABLE = 4
CONNECTION_REFUSED = 5


class SocksProxy(Factory):
    """
    Makes the connections of a proxy.

    :param names: the names that it can look up, with the ports on loopback that they
        lead to.
    :param credentials: user name and password that it wants; ``None``: no login.
    :ivar asked: the hosts and ports that it was asked for.
    :ivar connections: those that are open.
    """

    noisy = False

    def __init__(
        self,
        reactor: Any,
        names: Mapping[str, int],
        credentials: tuple[bytes, bytes] | None = None,
    ) -> None:
        self.reactor = reactor
        self.names = dict(names)
        self.credentials = credentials
        self.asked: list[tuple[str, int]] = []
        self.connections: set[_Connection] = set()

    def buildProtocol(self, addr: object) -> _Connection:
        connection = _Connection()
        connection.factory = self
        return connection


class _Connection(Protocol):
    """One client of the proxy."""

    factory: SocksProxy

    def __init__(self) -> None:
        self._data = b""
        self._step: Any = self._read_methods
        self._server: _Beyond | None = None

    def connectionMade(self) -> None:
        self.factory.connections.add(self)

    def dataReceived(self, data: bytes) -> None:
        if self._server is not None:
            self._server.transport.write(data)
            return
        self._data += data
        self._step()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.factory.connections.discard(self)
        if self._server is not None:
            self._server.transport.loseConnection()

    def _read_methods(self) -> None:
        assert self._data[0] == 5
        if len(self._data) < 2 or len(self._data) < 2 + self._data[1]:
            return
        methods = self._data[2:]
        wanted = 0 if self.factory.credentials is None else 2
        self._data = b""
        if wanted not in methods:
            self.transport.write(b"\x05\xff")
            self.transport.loseConnection()
            return
        self.transport.write(bytes([5, wanted]))
        self._step = self._read_login if wanted else self._read_request

    def _read_login(self) -> None:
        assert self.factory.credentials is not None
        user, password = self.factory.credentials
        right = bytes([1, len(user)]) + user + bytes([len(password)]) + password
        self.transport.write(bytes([1, self._data != right]))
        if self._data != right:
            self.transport.loseConnection()
        self._data = b""
        self._step = self._read_request

    def _read_request(self) -> None:
        version, command, _, kind = self._data[:4]
        assert (version, command) == (5, 1)
        if kind == 3:
            host = self._data[5:-2].decode("ascii")
            assert len(host) == self._data[4]
        else:
            host = str(ipaddress.ip_address(self._data[4:-2]))
        self.factory.asked.append((host, int.from_bytes(self._data[-2:], "big")))
        port = self.factory.names.get(host)
        if port is None:
            self._refuse(HOST_UNREACHABLE)
            return
        beyond = Factory.forProtocol(lambda: _Beyond(self))
        beyond.noisy = False
        endpoint = TCP4ClientEndpoint(self.factory.reactor, "127.0.0.1", port)
        connecting = endpoint.connect(beyond)
        connecting.addErrback(lambda _: self._refuse(CONNECTION_REFUSED))

    def _refuse(self, code: int) -> None:
        self.transport.write(bytes([5, code, 0, 1]) + bytes(6))
        self.transport.loseConnection()

    def reached(self, server: _Beyond) -> None:
        self._server = server
        # A name as its own address, which clients have to be able to read.
        self.transport.write(b"\x05\x00\x00\x03\x05proxy\x04\x38")


class _Beyond(Protocol):
    """The connection from the proxy to a server."""

    def __init__(self, client: _Connection) -> None:
        self._client = client

    def connectionMade(self) -> None:
        self._client.reached(self)

    def dataReceived(self, data: bytes) -> None:
        self._client.transport.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._client.transport.loseConnection()
