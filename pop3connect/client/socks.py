"""
Connects through a SOCKS5 proxy (RFC 1928, RFC 1929).

The proxy gets the name of the server and looks it up, so only the proxy's name is
looked up here.  ``socksio`` builds and reads the messages; where one ends is found
here, because socksio expects each in one piece.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import socksio
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
    ITransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from ..address import ServerAddress
from ..errors import ConnectError
from ..proxy import ProxyAddress
from ..redaction import SecretBytes, printable
from ..remedies import Option, Remedy

__all__ = ["SocksDialogue", "SocksEndpoint"]

_VERSION = 5
_LOGIN_VERSION = 1
_FIXED = 4
"""Bytes of a reply before its address: version, code, reserved, type of address."""

_PORT = 2

_METHODS = {
    0: socksio.SOCKS5AuthMethod.NO_AUTH_REQUIRED,
    2: socksio.SOCKS5AuthMethod.USERNAME_PASSWORD,
}

_CODES = {
    code.value[0]: code.name.lower().replace("_", " ")
    for code in socksio.SOCKS5ReplyCode
}
"""What the reply codes mean (RFC 1928 section 6)."""

_CHECK_SERVER = Remedy("check the host name and the port")
_CHECK_PROXY = Remedy("check the host name and the port in {}", (Option("proxy"),))
_CHECK_LOGIN = Remedy("check the user name and password in {}", (Option("proxy"),))
_GIVE_LOGIN = Remedy(
    "give a user name and password in {}, as in 'socks5://user:password@host'",
    (Option("proxy"),),
)


class SocksDialogue:
    """
    The client's side of the dialogue with a proxy, without I/O.

    :param target: the server to connect to.
    :ivar rest: what the server itself has sent; ``None`` until the proxy has connected.
    """

    def __init__(self, proxy: ProxyAddress, target: ServerAddress) -> None:
        self._proxy = proxy
        self._target = target
        self._socks = socksio.SOCKS5Connection()
        self._data = b""
        self._unanswered = "was not reached"
        self._read: Callable[[], bytes | None] = self._read_method
        self.rest: bytes | None = None

    @property
    def unanswered(self) -> str:
        """What the proxy has not done yet."""
        return f"the proxy {self._proxy} {self._unanswered}"

    def start(self) -> bytes:
        """Return what to send first: the methods of login."""
        self._unanswered = "did not choose a method of login"
        methods = [socksio.SOCKS5AuthMethod.NO_AUTH_REQUIRED]
        if self._proxy.credentials is not None:
            methods.append(socksio.SOCKS5AuthMethod.USERNAME_PASSWORD)
        return self._send(socksio.SOCKS5AuthMethodsRequest(methods))

    def receive(self, data: bytes) -> bytes:
        """
        Read a chunk, and return what to send.

        :raises ConnectError: the proxy refuses, or this is no SOCKS5.
        """
        self._data += data
        answer = self._read()
        if answer is None:
            return b""
        if self.rest is None and self._data:
            # The next request was not even sent.
            raise self._failed("sent more than its reply")
        return answer

    def _send(self, request: Any) -> bytes:
        self._socks.send(request)
        return SecretBytes(self._socks.data_to_send())

    def _take(self) -> Any:
        """Read two bytes, which most replies have; ``None``: they are not here yet."""
        if len(self._data) < 2:
            return None
        reply, self._data = self._data[:2], self._data[2:]
        return self._socks.receive_data(reply)

    def _failed(self, what: str, remedy: Remedy | None = None) -> ConnectError:
        return ConnectError(f"the proxy {self._proxy} {what}", remedy=remedy)

    def _check_version(self, version: int) -> None:
        if self._data[:1] not in (b"", bytes([version])):
            # Its first bytes only: by now it may repeat a password.
            raise self._failed(
                f"{self._unanswered}: what it sent is not SOCKS5, it begins with "
                f"{printable(self._data[:1])!r}",
                _CHECK_PROXY,
            )

    def _read_method(self) -> bytes | None:
        self._check_version(_VERSION)
        if len(self._data) < 2:
            return None
        offered = self._proxy.credentials is not None
        method = self._data[1]
        if method == 0xFF:
            raise self._failed(
                "accepts no method of login that was offered",
                _CHECK_LOGIN if offered else _GIVE_LOGIN,
            )
        if method not in (_METHODS if offered else (0,)):
            raise self._failed(
                f"chose the method of login {method}, which was not offered"
            )
        reply = self._take()
        if reply.method is socksio.SOCKS5AuthMethod.NO_AUTH_REQUIRED:
            return self._ask()
        assert self._proxy.credentials is not None
        self._unanswered = "did not answer the login"
        self._read = self._read_login
        return self._send(
            socksio.SOCKS5UsernamePasswordRequest(*self._proxy.credentials)
        )

    def _read_login(self) -> bytes | None:
        self._check_version(_LOGIN_VERSION)
        reply = self._take()
        if reply is None:
            return None
        if not reply.success:
            raise self._failed("refused the user name and password", _CHECK_LOGIN)
        return self._ask()

    def _ask(self) -> bytes:
        self._unanswered = f"did not answer the request to connect to {self._target}"
        self._read = self._read_reply
        host = self._target.host
        kind, packed = socksio.SOCKS5AType.DOMAIN_NAME, host.encode("ascii")
        if self._target.is_ip:
            address = ipaddress.ip_address(host)
            packed = address.packed
            kind = (
                socksio.SOCKS5AType.IPV4_ADDRESS
                if address.version == 4
                else socksio.SOCKS5AType.IPV6_ADDRESS
            )
        return self._send(
            socksio.SOCKS5CommandRequest(
                socksio.SOCKS5Command.CONNECT, kind, packed, self._target.port
            )
        )

    def _read_reply(self) -> bytes | None:
        self._check_version(_VERSION)
        if len(self._data) < 2:
            return None
        code = self._data[1]
        if code:
            # The rest does not matter, and some proxies leave it out.
            meaning = _CODES.get(code, "of unknown meaning")
            raise self._failed(
                f"could not connect to {self._target}: {meaning} (SOCKS5 reply {code})",
                _CHECK_SERVER,
            )
        # With one byte of the address: a name begins with its length.
        if len(self._data) <= _FIXED:
            return None
        sizes = {1: 4, 3: 1 + self._data[_FIXED], 4: 16}
        kind = self._data[_FIXED - 1]
        if kind not in sizes:
            raise self._failed(
                f"{self._unanswered}: its reply has an address of unknown type {kind}"
            )
        size = _FIXED + sizes[kind] + _PORT
        if len(self._data) < size:
            return None
        # The proxy's own address, which is of no use.
        self.rest, self._data = self._data[size:], b""
        return b""


@implementer(IStreamClientEndpoint)
class SocksEndpoint:
    """
    Connects to a server through a proxy.

    :param below: the endpoint that leads to the proxy.
    """

    def __init__(
        self, below: IStreamClientEndpoint, proxy: ProxyAddress, target: ServerAddress
    ) -> None:
        self._below = below
        self._proxy = proxy
        self._target = target

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        Connect to the proxy, and let it connect to the server.

        :return: fails with `ConnectError`, also when it is cancelled: then the error
            says what the proxy had not done yet.
        """
        dialogue = SocksDialogue(self._proxy, self._target)

        def stop(_: object) -> None:
            ready.errback(ConnectError(dialogue.unanswered, remedy=_CHECK_PROXY))
            connecting.cancel()
            factory.abort()

        def failed(failure: Failure) -> None:
            if not ready.called:
                reason = printable(failure.getErrorMessage().encode()).rstrip(".")
                error = ConnectError(
                    f"{dialogue.unanswered}: {reason}", remedy=_CHECK_PROXY
                )
                error.__cause__ = failure.value
                ready.errback(error)

        ready: Deferred[IProtocol] = Deferred(stop)
        factory = _TunnelFactory(protocolFactory, dialogue, ready)
        connecting = self._below.connect(factory)
        connecting.addErrback(failed)
        return ready


@implementer(ITransport)
class _Tunnel(ProtocolWrapper):
    """The transport of the protocol inside, once the proxy has connected."""

    factory: _TunnelFactory
    _open = False

    def makeConnection(self, transport: ITransport) -> None:
        """Begin the dialogue; the protocol inside is not connected yet."""
        Protocol.makeConnection(self, transport)
        self.write(self.factory.dialogue.start())

    def dataReceived(self, data: bytes) -> None:
        """Give data to the dialogue first, and then to the protocol inside."""
        if self._open:
            self.wrappedProtocol.dataReceived(data)
            return
        dialogue, ready = self.factory.dialogue, self.factory.ready
        if ready.called:
            # Given up.
            return
        try:
            answer = dialogue.receive(data)
        except ConnectError as error:
            self.abort()
            ready.errback(error)
            return
        if answer:
            self.write(answer)
        if dialogue.rest is None:
            return
        self._open = True
        self.factory.registerProtocol(self)
        self.wrappedProtocol.makeConnection(self)
        ready.callback(self.wrappedProtocol)
        if dialogue.rest and self.wrappedProtocol is not None:
            self.wrappedProtocol.dataReceived(dialogue.rest)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Pass on the loss."""
        if self._open:
            super().connectionLost(reason)
        elif not self.factory.ready.called:
            unanswered = self.factory.dialogue.unanswered
            error = ConnectError(f"{unanswered}: it closed the connection")
            error.__cause__ = reason.value
            self.factory.ready.errback(error)

    def abort(self) -> None:
        """Close now."""
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()


if TYPE_CHECKING:
    _Factory = WrappingFactory[_Tunnel]
else:
    # It became generic after the oldest Twisted that we support.
    _Factory = WrappingFactory


class _TunnelFactory(_Factory):
    """Puts a `_Tunnel` below the one protocol of the factory that it wraps."""

    noisy = False

    def __init__(
        self,
        wrapped: IProtocolFactory,
        dialogue: SocksDialogue,
        ready: Deferred[IProtocol],
    ) -> None:
        super().__init__(wrapped)
        self.dialogue = dialogue
        self.ready = ready
        self._tunnel: _Tunnel | None = None

    def buildProtocol(  # type: ignore[override]
        self, addr: IAddress | None
    ) -> _Tunnel | None:
        """Build both, or none if it is too late."""
        wrapped = self.wrappedFactory.buildProtocol(addr)
        if wrapped is None or self.ready.called:
            return None
        self._tunnel = _Tunnel(self, wrapped)
        return self._tunnel

    def abort(self) -> None:
        """Close the connection to the proxy, if there is one."""
        if self._tunnel is not None:
            self._tunnel.abort()
