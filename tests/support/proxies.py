"""
Proxies for tests, with names of their own: SOCKS5 (RFC 1928, RFC 1929; CONNECT only)
and HTTP (CONNECT, RFC 9110 section 9.3.6).
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Mapping
from typing import Any

from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

__all__ = ["HTTPProxy", "SocksProxy"]


class _Proxy(Factory):
    """
    Makes the connections of a proxy.

    :param names: the names that it can look up, with the ports on loopback that they
        lead to.
    :param credentials: user name and password that it wants; ``None``: no login.
    :ivar asked: the hosts and ports that it was asked for.
    :ivar connections: those that are open.
    """

    noisy = False
    kind: type[_Connection]

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
        connection = self.kind()
        connection.factory = self
        return connection


class _Connection(Protocol):
    """One client of the proxy."""

    factory: _Proxy

    def __init__(self) -> None:
        self._data = b""
        self._step: Any = self.begin
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

    def begin(self) -> None:
        """
        Read what is sent first.
        """
        raise NotImplementedError

    def refuse(self, found: bool) -> None:
        """
        Send that the server was not reached, or that its name was not found.
        """
        raise NotImplementedError

    def accept(self) -> None:
        """
        Send that the server was reached.
        """
        raise NotImplementedError

    def lead_to(self, host: str, port: int) -> None:
        """
        Connect to a server.
        """
        self.factory.asked.append((host, port))
        known = self.factory.names.get(host)
        if known is None:
            self.refuse(found=False)
            return
        beyond = Factory.forProtocol(lambda: _Beyond(self))
        beyond.noisy = False
        endpoint = TCP4ClientEndpoint(self.factory.reactor, "127.0.0.1", known)
        connecting = endpoint.connect(beyond)
        connecting.addErrback(lambda _: self.refuse(found=True))

    def reached(self, server: _Beyond) -> None:
        """
        Begin to pass on.
        """
        self._server = server
        self.accept()


class _SocksConnection(_Connection):
    """
    One client of a SOCKS5 proxy.
    """

    def begin(self) -> None:
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
        self.lead_to(host, int.from_bytes(self._data[-2:], "big"))

    def refuse(self, found: bool) -> None:
        # Connection refused, or host unreachable.
        self.transport.write(bytes([5, 5 if found else 4, 0, 1]) + bytes(6))
        self.transport.loseConnection()

    def accept(self) -> None:
        # A name as its own address, which clients have to be able to read.
        self.transport.write(b"\x05\x00\x00\x03\x05proxy\x04\x38")


class _HTTPConnection(_Connection):
    """
    One client of an HTTP proxy.
    """

    def begin(self) -> None:
        header, end, rest = self._data.partition(b"\r\n\r\n")
        if not end:
            return
        assert not rest, rest
        request, *lines = header.decode("ascii").split("\r\n")
        method, where, version = request.split(" ")
        assert (method, version) == ("CONNECT", "HTTP/1.1")
        fields = {name.lower(): text for name, text in (at.split(": ") for at in lines)}
        assert fields["host"] == where
        if self.factory.credentials is not None:
            login = base64.b64encode(b":".join(self.factory.credentials)).decode()
            if fields.get("proxy-authorization") != f"Basic {login}":
                self._answer("407 No", "Proxy-Authenticate: Basic realm=here\r\n")
                self.transport.loseConnection()
                return
        host, _, port = where.rpartition(":")
        self.lead_to(host.strip("[]"), int(port))

    def _answer(self, status: str, fields: str = "") -> None:
        self.transport.write(f"HTTP/1.1 {status}\r\n{fields}\r\n".encode())

    def refuse(self, found: bool) -> None:
        self._answer("502 Refused" if found else "504 Not found")
        self.transport.loseConnection()

    def accept(self) -> None:
        self._answer("200 Connection established", "Via: 1.1 proxy\r\n")


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


class SocksProxy(_Proxy):
    """
    A SOCKS5 proxy.
    """

    kind = _SocksConnection


class HTTPProxy(_Proxy):
    """
    An HTTP proxy, with the login method Basic.
    """

    kind = _HTTPConnection
