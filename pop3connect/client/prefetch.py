"""
Fetches one message after another, ahead of the one who reads them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from ..errors import CommandError, POP3Error, ProtocolError
from ..results import Message, Refused
from ..sansio.commands import Retrieve
from ..sansio.exchange import Exchange
from .protocol import POP3ClientProtocol

__all__ = ["AHEAD", "BUDGET", "Fetch"]

log = Logger()

AHEAD = 256
"""So many messages are asked for before they are wanted: a long round trip's worth."""

BUDGET = 16 * 1024 * 1024
"""Octets of messages that are held for who reads them, or asked for if sizes are
known.  One message more may come: one that is larger has to be held all the same."""

# Not None: that is a wrong number, and has to be told.
_NO_MORE: Any = object()


class Fetch:
    """
    A run of RETR commands, and what has come of it so far.

    Without a Deferred for each: the messages are put on a list as they come, and
    only who finds it empty waits, until the next chunk has been read.

    :param sizes: what LIST says of the messages, where it was asked.
    """

    def __init__(
        self,
        protocol: POP3ClientProtocol,
        numbers: Iterator[int],
        ahead: int,
        sizes: Mapping[int, int],
    ) -> None:
        self._protocol = protocol
        self._numbers = numbers
        self._ahead = ahead
        self._sizes = sizes
        self._coming: deque[Exchange] = deque()
        self._expected = 0
        self._ready: deque[Message | Refused] = deque()
        self._held = 0
        # What to say of the last message, if it was short.
        self._short = ""
        self._told = False
        self._waiter: Deferred[None] | None = None
        self._waking = False
        # What ended it all; told after the messages that came before.
        self._error: POP3Error | None = None

    def ready(self) -> Message | Refused | None:
        """Return the next message if it is there."""
        ready = self._ready
        if not ready:
            return None
        message = ready.popleft()
        if message.content is not None:
            self._held -= len(message.content)
        if len(self._coming) + len(ready) <= self._ahead // 2:
            self._ask()
        return message

    async def next(self) -> Message | Refused | None:
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
            self._protocol.release()
            self._waiter = Deferred()
            await self._waiter
        return self.ready()

    def stop(self) -> None:
        """Ask for no more; what is on its way is read and dropped."""
        self._numbers = iter(())
        for exchange in self._coming:
            self._protocol.forget(exchange)
        self._ready.clear()
        self._protocol.release()

    def _ask(self) -> None:
        """Ask for as many as there is room for."""
        room = self._ahead - len(self._ready) - len(self._coming)
        came, failed, sizes = self._came, self._failed, self._sizes
        asked: list[Exchange] = []
        while room > 0 and (
            self._held + self._expected < BUDGET or not (asked or self._coming)
        ):
            number = next(self._numbers, _NO_MORE)
            if number is _NO_MORE:
                break
            try:
                asked.append(Exchange(Retrieve(number), came, failed))
            except POP3Error as error:
                self._refused(error)
                break
            room -= 1
            if sizes:
                self._expected += sizes.get(number, 0)
        if not asked:
            return
        # On the list first: the status procedure may end the session when it is
        # shown what is sent.
        self._coming.extend(asked)
        try:
            self._protocol.enqueue_all("RETR", asked)
        except POP3Error as error:
            for _ in asked:
                self._coming.pop()
            self._refused(error)

    def _refused(self, error: POP3Error) -> None:
        """Keep an error for after the messages that have come or are coming."""
        error.server = error.server or str(self._protocol.settings.server)
        self._error = self._error or error
        self._numbers = iter(())

    def _failed(self, error: POP3Error) -> None:
        if not isinstance(error, CommandError):
            # No answer to this message, but the end of all.
            if self._short and isinstance(error, ProtocolError):
                error.message += self._short
            self._error = self._error or error
        self._came(None, error)

    def _came(self, content: bytes | None, error: POP3Error | None = None) -> None:
        number: int = self._coming.popleft().command.number  # type: ignore[attr-defined]
        if self._sizes:
            size = self._sizes.get(number, 0)
            self._expected -= size
            self._short = ""
            if content is not None and len(content) < size:
                self._is_short(number, len(content), size)
        if content is not None:
            self._held += len(content)
        if self._error is None:
            if content is not None:
                self._ready.append(Message(number, content, None))
            elif error is not None:
                self._ready.append(Refused(number, None, error))
        if not self._waking:
            self._waking = True
            self._protocol.after_reading(self._wake)

    def _is_short(self, number: int, octets: int, size: int) -> None:
        """
        Note that a message is shorter than LIST says.

        Sizes are hints (RFC 1939 section 11), but they err to the other side: who
        counts one octet for a line end comes to less.
        """
        if not self._told:
            self._told = True
            log.warn(
                "{server}: message {number} has {octets} octets where LIST says "
                "{size}; the server may not byte-stuff its dots",
                server=str(self._protocol.settings.server),
                number=number,
                octets=octets,
                size=size,
            )
        self._short = (
            f"; message {number} before it had {octets} octets where LIST says {size}: "
            "the server may not byte-stuff its dots, and then the rest of a message "
            "looks like this"
        )

    def _wake(self) -> None:
        self._waking = False
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.callback(None)
        if (
            self._held > BUDGET
            and self._coming
            and self._protocol.is_last(self._coming[-1])
        ):
            # Nobody else waits for an answer, so let the server wait for us.
            self._protocol.hold()
