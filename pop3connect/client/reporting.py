"""
Builds the typed events of one session, and tells them to the program.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReactorTime

from ..errors import POP3Error
from ..events import (
    Closed,
    CommandSent,
    Connected,
    Event,
    MessageReceived,
    ReplyReceived,
    Secured,
)
from ..redaction import Listener
from ..results import TLSInfo
from ..sansio.commands import Command, message_number
from ..sansio.replies import Status

__all__ = ["Reporter"]


class Reporter:
    """
    Tells what happens in one session.

    :param listener: is called with each event.
    :param server: ``host:port``.
    :param status: reads a status line; no secret is in the response code that it finds.
    """

    __slots__ = (
        "_clock",
        "_listener",
        "_made",
        "_sent",
        "_server",
        "_session",
        "_since",
        "_status",
    )

    def __init__(
        self,
        listener: Listener[Event],
        server: str,
        clock: IReactorTime,
        status: Callable[[bytes], Status | None],
    ) -> None:
        self._listener = listener
        self._server = server
        self._clock = clock
        self._status = status
        self._session = secrets.token_hex(8)
        # When the connection was made, and what is measured now was begun.
        self._made = self._since = clock.seconds()
        # When the commands were sent whose status lines are still to come.
        self._sent: deque[float] = deque()

    def connected(self, peer: Any) -> None:
        """Tell that there is a connection; ``peer`` is its address."""
        self._made = self._since = self._clock.seconds()
        host, port = getattr(peer, "host", None), getattr(peer, "port", None)
        shown = None
        if isinstance(host, str) and isinstance(port, int):
            shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._tell(Connected, shown)

    def secured(self, tls: TLSInfo) -> None:
        """Tell that the handshake is complete."""
        self._tell(Secured, tls.version, tls.cipher, tls.verified, self._seconds())
        # The greeting may come now.
        self._since = self._clock.seconds()

    def sent(self, command: Command[Any]) -> None:
        """Tell that a command was sent."""
        self._sent.append(self._clock.seconds())
        self._tell(CommandSent, command.verb, message_number(command))

    def line(self, command: Command[Any] | None, line: bytes) -> None:
        """Tell that a status line or a SASL challenge came; ``None``: the greeting."""
        verb = number = None
        if command is not None:
            verb, number = command.verb, message_number(command)
            self._since = self._sent.popleft()
        status = self._status(line)
        ok, code = (None, None) if status is None else (status.ok, status.code)
        self._tell(ReplyReceived, verb, number, ok, code, self._seconds())

    def body(self, command: Command[Any], octets: int) -> None:
        """Tell that the body of a reply has arrived, if it is a message."""
        number = message_number(command)
        if number is not None:
            self._tell(MessageReceived, command.verb, number, octets, self._seconds())

    def closed(self, error: POP3Error | None) -> None:
        """Tell that the connection is gone."""
        self._tell(Closed, error, self._clock.seconds() - self._made)

    def _seconds(self) -> float:
        return self._clock.seconds() - self._since

    def _tell(self, kind: Callable[..., Event], *values: object) -> None:
        self._listener(kind(self._session, self._server, *values))
