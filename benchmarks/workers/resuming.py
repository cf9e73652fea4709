"""TLS sessions handed from one connection to the next, for Twisted's own client."""

from typing import Any

from OpenSSL.SSL import Connection, Session
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer


@implementer(IOpenSSLClientConnectionCreator)
class Resuming:
    """The usual options, and the session of the connection before."""

    session: Session | None = None

    def __init__(self, options: Any) -> None:
        """Wrap the usual options."""
        self.options = options

    def clientConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> Connection:
        """The usual connection, with the last session."""
        connection: Connection = self.options.clientConnectionForTLS(protocol)
        if self.session is not None:
            connection.set_session(self.session)
        return connection
