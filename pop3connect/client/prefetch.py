"""
Fetches one message after another, ahead of the loop that takes them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from functools import partial
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..errors import CommandError, DestinationError, POP3Error, ProtocolError
from ..remedies import Remedy
from ..results import Message, Refused, Stored
from ..sansio.commands import Retrieve, Top
from ..sansio.exchange import Exchange, Reply
from .protocol import POP3ClientProtocol
from .streaming import Chosen, Into, Progress, destination_failed

__all__ = [
    "AHEAD",
    "BUDGET",
    "OPEN",
    "Budget",
    "Fetch",
    "FetchHeaders",
    "FetchInto",
    "Largest",
    "Messages",
]

log = Logger()

AHEAD = 256
"""Messages that are asked for before they are wanted: a long round trip's worth."""

BUDGET = 16 * 1024 * 1024
"""Bytes of messages that are asked for and not yet taken, in one session.  One message
more may come: one that is larger has to be held anyway."""

UNSEEN = 8
"""Messages that are asked for while no size is known."""

OPEN = 64
"""Destinations that are chosen before the first of them is taken.  They may be open
files, of which some systems allow a process 256."""

T = TypeVar("T")

_NO_TOP = Remedy("the server does not announce TOP; use messages() or retrieve()")


class Budget:
    """
    What all runs of one session may have asked for and not yet handed out.

    :ivar used: bytes: expected of messages that are on their way, and held.
    """

    __slots__ = ("used",)

    def __init__(self) -> None:
        self.used = 0


class Largest:
    """
    What is expected of a message whose size is not known.

    :ivar octets: bytes of the largest one seen; -1: none was seen.
    """

    __slots__ = ("octets",)

    def __init__(self, octets: int = -1) -> None:
        self.octets = octets


class _Asked(Exchange):
    """
    A message that was asked for.

    :ivar reserved: bytes of the budget that are kept for it.
    """

    __slots__ = ("reserved",)

    command: Retrieve | Top
    reserved: int


class _AskedInto(_Asked):
    """A message that goes to a destination; others follow if that fails."""

    __slots__ = ()

    expendable = True

    sink: Chosen


class Fetch:
    """
    A run of RETR commands, and what has come of it so far.

    There is no Deferred for each: the messages are put on a list as they come, and only
    a caller that finds it empty waits, until the next chunk was read.

    :param largest: shared with other runs, which learn from this one.
    :param sizes: what LIST says of the messages, where it was asked.
    """

    def __init__(
        self,
        protocol: POP3ClientProtocol,
        budget: Budget,
        largest: Largest,
        numbers: Iterator[int],
        ahead: int,
        sizes: Mapping[int, int],
    ) -> None:
        self._protocol = protocol
        self._budget = budget
        self._largest = largest
        self._numbers = numbers
        self._ahead = ahead
        # With fewer untaken messages than this, more are asked for.
        self._refill = ahead // 2
        self._sizes = sizes
        # What LIST says of the bytes that will be held.
        self._expected = sizes
        self._command: Callable[[int], Retrieve | Top] = Retrieve
        self._exchange: Callable[[Any, Reply], _Asked] = _Asked
        self._coming: deque[Any] = deque()
        self._ready: deque[Any] = deque()
        # The next command, while it has to wait for room.
        self._next: Retrieve | Top | None = None
        # What the error says about the last message, if it was short.
        self._short = ""
        self._warned = False
        self._waiter: Deferred[None] | None = None
        self._waking = False
        # What ends the run, raised after the messages that came before.
        self._error: BaseException | None = None
        # Whether that is the end of the session.
        self._ended = False

    def ready(self) -> Any:
        """Return the next message if it is here."""
        ready = self._ready
        if not ready:
            return None
        message = ready.popleft()
        if type(message) is Message:
            self._budget.used -= len(message.content)
        if len(self._coming) + len(ready) <= self._refill:
            self._ask()
        return message

    async def next(self) -> Any:
        """
        Wait for the next message.

        :return: ``None`` after the last one.
        :raises POP3Error: the session has ended, or a number cannot be used.
        :raises Exception: what the caller's numbers raised.
        """
        if len(self._coming) <= self._refill:
            self._ask()
        while not self._ready:
            if not self._coming:
                if self._error is not None:
                    raise self._error
                return None
            self._protocol.release()
            self._waiter = Deferred()
            await self._waiter
        return self.ready()

    def stop(self) -> None:
        """Ask for no more; what is on its way is read and dropped."""
        self._end_of_numbers()
        for message in self._ready:
            if type(message) is Message:
                self._budget.used -= len(message.content)
        self._ready.clear()
        self._waiter = None
        self._forget_coming()
        self._protocol.release()

    def _forget_coming(self) -> None:
        coming = [*self._coming]
        self._coming.clear()
        for exchange in coming:
            self._budget.used -= exchange.reserved
        self._protocol.forget(*coming)

    # -- asking

    def _ask(self) -> None:
        """Ask for as many as there is room for."""
        asked: list[_Asked] = []
        budget, sizes, make = self._budget, self._expected, self._exchange
        unseen = self._largest.octets
        underway = len(self._ready) + len(self._coming)
        room = self._ahead - underway
        while room > 0:
            command = self._next or self._draw()
            if command is None:
                break
            # What LIST says; else the largest size seen, or -1.
            reserved = sizes.get(command.number, unseen) if sizes else unseen
            if reserved < 0:
                if len(asked) + underway >= UNSEEN:
                    self._next = command
                    break
                reserved = 0
            elif budget.used + reserved > BUDGET and (asked or underway):
                self._next = command
                break
            self._next = None
            exchange = make(command, self)
            exchange.reserved = reserved
            asked.append(exchange)
            budget.used += reserved
            room -= 1
        if not asked:
            return
        # On the list first: the status procedure may end the session when it hears
        # what is sent.
        self._coming.extend(asked)
        try:
            self._protocol.enqueue(asked[0].command.verb, asked)
        except POP3Error as error:
            for exchange in asked:
                self._coming.pop()
                budget.used -= exchange.reserved
            self._refused(error)

    def _draw(self) -> Retrieve | Top | None:
        """Return the next command; ``None`` after the last one."""
        try:
            for number in self._numbers:
                return self._command(number)
        except Exception as error:  # noqa: BLE001 - the numbers are the caller's code
            self._refused(error)
        return None

    def _end_of_numbers(self) -> None:
        self._numbers = iter(())
        self._next = None

    def _refused(self, error: BaseException) -> None:
        """Keep an error for after the messages that have come or are coming."""
        if isinstance(error, POP3Error):
            error.server = error.server or str(self._protocol.settings.server)
        self._error = self._error or error
        self._end_of_numbers()

    # -- what comes

    def callback(self, content: Any) -> None:
        """Take the next message."""
        exchange = self._coming.popleft()
        number = exchange.command.number
        octets = len(content)
        self._budget.used += octets - exchange.reserved
        if octets > self._largest.octets:
            self._largest.octets = octets
        if self._sizes:
            self._short = ""
            if octets < self._sizes.get(number, 0):
                self._note_short(number, octets)
        # What `Message(...)` does, which is a function in Python and takes three times
        # as long.
        self._ready.append(tuple.__new__(Message, (number, content, None)))
        if not self._waking:
            self._wake_later()

    def errback(self, error: POP3Error) -> None:
        """Take the refusal of the next message, or the end of the session."""
        exchange = self._coming.popleft()
        self._budget.used -= exchange.reserved
        if isinstance(error, (CommandError, DestinationError)):
            number = exchange.command.number
            self._ready.append(Refused(number, None, error))
        elif not self._ended:
            # Not a reply to this message, but the end of all: those after it fail too,
            # and the error names the first.
            self._ended = True
            if self._short and isinstance(error, ProtocolError):
                error.message += self._short
                self._short = ""
            self._error = error
            self._end_of_numbers()
        self._wake_later()

    def _note_short(self, number: int, octets: int) -> None:
        """
        Note that a message is shorter than LIST says.

        Sizes are hints (RFC 1939 section 11), but they err to the other side: a server
        that counts one byte for a line end comes to less.
        """
        size = self._sizes[number]
        if not self._warned:
            self._warned = True
            log.warn(
                "{server}: message {number} has {octets} bytes where LIST says "
                "{size}; the server may not byte-stuff its dots",
                server=str(self._protocol.settings.server),
                number=number,
                octets=octets,
                size=size,
            )
        self._short = (
            f"; message {number} before it had {octets} bytes where LIST says {size}: "
            "the server may not byte-stuff its dots, and then the rest of a message "
            "looks like this"
        )

    def _wake_later(self) -> None:
        if not self._waking:
            self._waking = True
            self._protocol.after_delivery(self._wake)

    def _wake(self) -> None:
        self._waking = False
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.callback(None)
        if (
            self._budget.used > BUDGET
            and self._ready
            and self._coming
            and self._protocol.owes_only(len(self._coming))
        ):
            # The sizes were wrong, and every command is one of this run: the server may
            # wait.  Otherwise a caller waits for a reply behind these messages.
            self._protocol.hold()


class FetchHeaders(Fetch):
    """
    A run of TOP commands.

    :param lines: of the text behind each header.
    :param announced: returns whether the server announces TOP; asked when the reply to
        CAPA has come.  If not, it may still know it, and a refusal of the first command
        ends the run.
    """

    def __init__(
        self,
        protocol: POP3ClientProtocol,
        budget: Budget,
        numbers: Iterator[int],
        ahead: int,
        lines: int,
        announced: Callable[[], bool],
    ) -> None:
        # LIST does not tell the sizes, and another run may ask for more lines.
        super().__init__(protocol, budget, Largest(), numbers, ahead, {})
        self._command = partial(Top, lines=lines)
        self._announced = announced

    def errback(self, error: POP3Error) -> None:
        """Take a refusal for what it is: of a message, or of TOP."""
        seen = self._largest.octets >= 0
        if seen or not isinstance(error, CommandError) or self._announced():
            super().errback(error)
            return
        error.remedy = _NO_TOP
        self._forget_coming()
        self._refused(error)
        self._wake_later()


class FetchInto(Fetch):
    """
    A run of RETR commands whose messages go to destinations, and none to memory.

    :param into: chooses the destination of each message.
    :param progress: is called after each piece that was written.
    """

    def __init__(
        self,
        protocol: POP3ClientProtocol,
        numbers: Iterator[int],
        ahead: int,
        sizes: Mapping[int, int],
        into: Into,
        progress: Progress | None,
    ) -> None:
        # Nothing is held, so there is nothing to be reserved.
        super().__init__(
            protocol, Budget(), Largest(0), numbers, min(ahead, OPEN), sizes
        )
        self._expected = {}
        self._exchange = self._with_destination
        self._into = into
        self._progress = progress

    def _with_destination(self, command: Retrieve, reply: Reply) -> _Asked:
        number = command.number
        sink = Chosen(number, self._into, self._progress, self._sizes.get(number))
        return _AskedInto(command, reply, sink)

    def callback(self, octets: int) -> None:
        """Note that the next message was written."""
        exchange: _AskedInto = self._coming.popleft()
        number = exchange.command.number
        self._short = ""
        if octets < self._sizes.get(number, 0):
            self._note_short(number, octets)
        self._ready.append(Stored(number, octets, exchange.sink.destination, None))
        self._wake_later()

    def errback(self, error: POP3Error | Failure) -> None:
        """Take what the destination raised, too."""
        if isinstance(error, Failure):
            reason = error.value
            assert reason is not None
            if not isinstance(reason, Exception):
                # SystemExit, for example: not about this message alone.
                self._refused(reason)
            server = str(self._protocol.settings.server)
            number = self._coming[0].command.number
            error = destination_failed(server, number, reason)
        super().errback(error)


class Messages(Generic[T]):
    """
    The messages of a session, one after another; the next ones are fetched meanwhile.

    An async iterator.  Leaving the loop early, `aclose` and dropping the last reference
    do the same: nothing more is asked for, and what is on its way is read and dropped.

    :param generator: yields the messages, and stops the run when it is closed.
    """

    __slots__ = ("_generator",)

    def __init__(self, generator: AsyncGenerator[T, None]) -> None:
        self._generator = generator

    def __aiter__(self) -> Messages[T]:
        """Return itself."""
        return self

    def __anext__(self) -> Awaitable[T]:
        """
        Return the next message.

        :raises StopAsyncIteration: that was the last one.
        :raises POP3Error: the session has ended, or a number cannot be used.
        """
        return self._generator.__anext__()

    def aclose(self) -> Awaitable[None]:
        """Ask for no more; the session goes on."""
        return self._generator.aclose()
