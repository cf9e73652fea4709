"""
Connects through a proxy: a dialogue first, then the bytes of the session.

What is said to the proxy is in `socks` and `http_connect`; the connection is here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from typing import Protocol as Interface

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

from ..errors import ConnectError
from ..redaction import printable
from ..remedies import Option, Remedy

__all__ = [
    "CHECK_LOGIN",
    "CHECK_PROXY",
    "CHECK_SERVER",
    "Negotiation",
    "TunnelEndpoint",
]

CHECK_SERVER = Remedy("check the host name and the port")
CHECK_PROXY = Remedy("check the host name and the port in {}", (Option("proxy"),))
CHECK_LOGIN = Remedy("check the user name and password in {}", (Option("proxy"),))


class Negotiation(Interface):
    """
    The client's side of the dialogue with a proxy, without I/O.

    :ivar rest: what the server itself has sent; ``None`` until the proxy has connected.
    """

    rest: bytes | None

    @property
    def unanswered(self) -> str:
        """What the proxy has not done yet, as a clause that names the proxy."""

    def start(self) -> bytes:
        """Return what to send first."""

    def receive(self, data: bytes) -> bytes:
        """
        Read a chunk, and return what to send.

        :raises ConnectError: the proxy refuses, or does not keep to the protocol.
        """


@implementer(IStreamClientEndpoint)
class TunnelEndpoint:
    """
    Connects to a server through a proxy.

    :param below: the endpoint that leads to the proxy.
    :param begin: makes the dialogue of one connection.
    """

    def __init__(
        self, below: IStreamClientEndpoint, begin: Callable[[], Negotiation]
    ) -> None:
        self._below = below
        self._begin = begin

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        Connect to the proxy, and let it connect to the server.

        :return: fails with `ConnectError`, also when it is cancelled: then the error
            says what the proxy had not done yet.
        """
        dialogue = self._begin()

        def stop(_: object) -> None:
            ready.errback(ConnectError(dialogue.unanswered, remedy=CHECK_PROXY))
            connecting.cancel()
            factory.abort()

        def failed(failure: Failure) -> None:
            if not ready.called:
                reason = printable(failure.getErrorMessage().encode()).rstrip(".")
                error = ConnectError(
                    f"{dialogue.unanswered}: {reason}", remedy=CHECK_PROXY
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
        dialogue: Negotiation,
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
