"""
Fetches one message after another, ahead of the one who reads them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from twisted.internet.defer import Deferred

from .commands import Retrieve
from .errors import CommandError, POP3Error
from .exchange import Collected, Exchange
from .protocol import POP3ClientProtocol
from .results import Message

__all__ = ["AHEAD", "Fetch"]

AHEAD = 64
"""So many messages are asked for before they are wanted."""


class Fetch:
    """
    A run of RETR commands, and what has come of it so far.

    Without a Deferred for each: the messages are put on a list as they come, and
    only who finds it empty waits.
    """

    def __init__(
        self,
        protocol: POP3ClientProtocol,
        commands: Iterator[Retrieve],
        ahead: int,
    ) -> None:
        self._protocol = protocol
        self._commands = commands
        self._ahead = ahead
        self._coming: deque[Exchange] = deque()
        self._ready: deque[Message] = deque()
        self._waiter: Deferred[None] | None = None
        # What ended it all; told after the messages that came before.
        self._error: POP3Error | None = None

    def ready(self) -> Message | None:
        """Return the next message if it is there."""
        return self._ready.popleft() if self._ready else None

    async def next(self) -> Message | None:
        """
        Wait for the next message.

        :return: ``None`` after the last one.
        :raises POP3Error: the session has ended.
        """
        self._ask()
        while not self._ready:
            if self._error is not None:
                raise self._error
            if not self._coming:
                return None
            self._waiter = Deferred()
            await self._waiter
        return self._ready.popleft()

    def stop(self) -> None:
        """Ask for no more; what is on its way is read and dropped."""
        self._commands = iter(())
        for exchange in self._coming:
            exchange.drop()
        self._ready.clear()

    def _ask(self) -> None:
        while len(self._coming) + len(self._ready) < self._ahead:
            command = next(self._commands, None)
            if command is None:
                return
            exchange = Exchange(command, Collected())
            exchange.succeed = self._came
            exchange.fail = self._failed
            self._protocol.enqueue(exchange)
            self._coming.append(exchange)

    def _came(self, content: bytes) -> None:
        command = self._coming.popleft().command
        assert isinstance(command, Retrieve)
        self._ready.append(Message(command.number, content, None))
        self._wake()

    def _failed(self, error: POP3Error) -> None:
        command = self._coming.popleft().command
        assert isinstance(command, Retrieve)
        if isinstance(error, CommandError):
            self._ready.append(Message(command.number, None, error))
        elif self._error is None:
            self._error = error
        self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.callback(None)
