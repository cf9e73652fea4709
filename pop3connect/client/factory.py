"""
Builds the protocol of a session.
"""

from __future__ import annotations

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory

from .protocol import POP3ClientProtocol
from .settings import Settings

__all__ = ["POP3ClientFactory"]


class POP3ClientFactory(Factory):
    """Builds the protocol of a session."""

    noisy = False

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        #: Whether anybody still waits for the connection.
        self.wanted = True

    def buildProtocol(self, addr: IAddress | None) -> POP3ClientProtocol | None:
        """Build a protocol; none, which closes the connection, if it comes too late."""
        if not self.wanted:
            return None
        protocol = POP3ClientProtocol(self.settings)
        protocol.factory = self
        return protocol
