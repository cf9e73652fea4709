"""
A ClientFactory for ``reactor.connectTCP``, for programs that use neither endpoints nor
``connect()``.
"""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IConnector
from twisted.internet.protocol import ClientFactory
from twisted.python.failure import Failure

from ..errors import POP3Error
from ..redaction import StatusProcedure
from .protocol import POP3ClientProtocol

__all__ = ["Opening", "Opens", "POP3ClientFactory"]


class Opening(Protocol):
    """One attempt to open a session, which is given its connection."""

    @property
    def result(self) -> Deferred[Any]:
        """Fires with the handle, or fails."""

    def build(self) -> POP3ClientProtocol | None:
        """Return a protocol whose login begins; ``None`` if no caller waits for it."""

    def not_connected(self, reason: BaseException | None) -> None:
        """Fail: the connection was not made."""

    def wants_another(self) -> bool:
        """Return whether the connection that was lost is to be made again."""


class Opens(Protocol):
    """What `pop3connect.Connector` has for the factory."""

    def opening(
        self, username: str, password: Any, stsproc: StatusProcedure | None
    ) -> Opening:
        """
        Begin to open a session.

        :raises UsageError: an argument cannot be used.
        """


class POP3ClientFactory(ClientFactory):
    """
    Opens a session over the connection that the reactor makes::

        connector = Connector("pop.example.com", secure=Secure.TLS)
        factory = POP3ClientFactory(connector, "user", "secret")
        reactor.connectTCP("pop.example.com", 995, factory)
        handle = await factory.handle

    :param connector: a `Connector`; its ``endpoint`` and ``proxy`` are not used.
    :param password: see `connect`.
    :param stsproc: called with each protocol message, secrets masked.
    :raises UsageError: an argument cannot be used.
    :ivar handle: a Deferred that fires once with the `Handle`, or fails, also if the
        connection cannot be made.  Cancelling it closes what was opened.
    """

    noisy = False

    def __init__(
        self,
        connector: Opens,
        username: str,
        password: Any,
        stsproc: StatusProcedure | None = None,
    ) -> None:
        try:
            self._opening = connector.opening(username, password, stsproc)
        except POP3Error as error:
            # A traceback shows local variables, whatever the type of the password.
            del password
            raise error.with_traceback(None) from error.__cause__
        self.handle: Deferred[Any] = self._opening.result

    def buildProtocol(self, addr: IAddress | None) -> POP3ClientProtocol | None:
        """Build the protocol, and begin to log in."""
        protocol = self._opening.build()
        if protocol is not None:
            protocol.factory = self
        return protocol

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        """Fail: the connection was not made."""
        self._opening.not_connected(reason.value)

    def clientConnectionLost(self, connector: IConnector, reason: Failure) -> None:
        """Connect again, if the login continues on another connection."""
        if self._opening.wants_another():
            connector.connect()
