"""
Gives any stream transport a startTLS, where the caller brought the endpoint.

Twisted's TCP transports have a startTLS; it wraps the protocol that the transport
knows.  With a proxy that is the proxy's protocol, and a UNIX socket or a pipe may have
no startTLS at all.  So this layer is put between such a transport and our protocol, and
inserts a real `TLSMemoryBIOFactory` protocol when it is asked to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import (
    IAddress,
    IHandshakeListener,
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
    IReactorTime,
    ISSLTransport,
    ITLSTransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import alsoProvides, implementer

__all__ = ["StartTLSFactory", "StartTLSLayer"]


@implementer(IHandshakeListener)
class _Inside(Protocol):
    """Hands on to a protocol, connected long ago, what TLS has to tell."""

    def __init__(self, wrapped: Any) -> None:
        self._wrapped = wrapped

    def dataReceived(self, data: bytes) -> None:
        """Hand on what was decrypted."""
        self._wrapped.dataReceived(data)

    def handshakeCompleted(self) -> None:
        """Hand on the end of the handshake."""
        if IHandshakeListener.providedBy(self._wrapped):
            self._wrapped.handshakeCompleted()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Hand on the loss, with the reason that TLS has for it."""
        self._wrapped.connectionLost(reason)


@implementer(ITLSTransport)
class StartTLSLayer(ProtocolWrapper):
    """
    Stands between a transport and a protocol, plain until `startTLS`.

    :cvar client: whether it is the client's side of TLS.
    """

    client = True

    _tls: Any = None

    def startTLS(
        self,
        contextFactory: IOpenSSLClientConnectionCreator
        | IOpenSSLServerConnectionCreator,
    ) -> None:
        """Encrypt from here on."""
        inside = _Inside(self.wrappedProtocol)
        factory = TLSMemoryBIOFactory(
            contextFactory,
            self.client,
            Factory.forProtocol(lambda: inside),
            self.factory.clock,
        )
        self._tls = factory.buildProtocol(None)
        # As Twisted's own transports tell it.
        alsoProvides(self, ISSLTransport)
        self._tls.makeConnection(self.transport)

    def dataReceived(self, data: bytes) -> None:
        """Pass on what came, through TLS if it is on."""
        (self._tls or self.wrappedProtocol).dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Pass on the loss, through TLS if it is on."""
        if self._tls is None:
            super().connectionLost(reason)
            return
        self.factory.unregisterProtocol(self)
        self._tls.connectionLost(reason)
        self._tls = None

    @property
    def _below(self) -> Any:
        return self._tls or self.transport

    def write(self, data: bytes) -> None:
        """Send."""
        self._below.write(data)

    def writeSequence(self, data: Any) -> None:
        """Send."""
        self._below.writeSequence(data)

    def loseConnection(self) -> None:
        """Close after all written data was sent; TLS is shut down first."""
        self.disconnecting = 1
        self._below.loseConnection()

    def abortConnection(self) -> None:
        """Close now."""
        if hasattr(self.transport, "abortConnection"):
            self._below.abortConnection()
        elif self.transport is not None:
            self.transport.loseConnection()


if TYPE_CHECKING:
    _Factory = WrappingFactory[StartTLSLayer]
else:
    # It became generic after the oldest Twisted that we support.
    _Factory = WrappingFactory


class StartTLSFactory(_Factory):
    """Puts a `StartTLSLayer` below each protocol of the factory it wraps."""

    protocol = StartTLSLayer
    noisy = False

    def __init__(self, wrapped: Factory, clock: IReactorTime) -> None:
        super().__init__(wrapped)
        self.clock = clock

    def buildProtocol(  # type: ignore[override]
        self, addr: IAddress | None
    ) -> StartTLSLayer | None:
        """Build both, or none if the factory wants none."""
        wrapped = self.wrappedFactory.buildProtocol(addr)
        return None if wrapped is None else self.protocol(self, wrapped)
