"""
Hands messages from the reactor's thread to a blocking one, in bounded amounts.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IPushProducer
from zope.interface import implementer

from ..client.prefetch import Messages
from ..client.streaming import Progress, check_destination, destination_failed
from ..errors import POP3Error
from ..files import Writable, write_all
from ..results import Message, Refused, Stored
from .reactor_thread import ReactorThread

__all__ = [
    "BATCH",
    "HELD",
    "Backlog",
    "Batches",
    "FileConsumer",
    "Files",
    "check_file",
]

HELD = 1024 * 1024
"""Bytes of a message that may wait to be written; beyond that the server is paused."""

BATCH = 1024 * 1024
"""Bytes of messages that go from one thread to the other at once."""

_Item = Message | Refused | Stored


class Hand(Protocol):
    """Lets the thread that waits run a function."""

    def hand(self, work: Callable[[], object], /) -> None:
        """Let it run this, after what it was handed before."""


def check_file(destination: object) -> None:
    """
    Check that this can be written to in the thread that waits.

    :raises UsageError: it is not a binary file.
    """
    check_destination(destination, "a file open for writing in binary mode ('wb')")


class Backlog:
    """
    The bytes that wait to be written, of one message after another.

    Pauses the producer of the current message while there are too many.
    """

    def __init__(self, thread: ReactorThread) -> None:
        self._thread = thread
        self._producer: IPushProducer | None = None
        # Shared by both threads.
        self._lock = threading.Lock()
        self._held = 0
        self._full = False

    # -- in the reactor's thread

    def begin(self, producer: Any) -> None:
        """Remember the producer, to pause it."""
        self._producer = producer
        if self._full:
            producer.pauseProducing()

    def end(self) -> None:
        """Forget the producer: the message has ended."""
        self._producer = None

    def add(self, octets: int) -> None:
        """Count what was handed over, and pause the producer if that is too much."""
        with self._lock:
            self._held += octets
            if self._full or self._held < HELD:
                return
            self._full = True
        if self._producer is not None:
            self._producer.pauseProducing()

    def _resume(self) -> None:
        # It may be full again: the same chunk may have brought more pieces.
        if self._producer is not None and not self._full:
            self._producer.resumeProducing()

    # -- in the thread that waits

    def written(self, octets: int) -> None:
        """Count bytes that were written, and resume the producer if few are left."""
        with self._lock:
            self._held -= octets
            if not self._full or self._held > HELD // 2:
                return
            self._full = False
        self._thread.post(self._resume)


@implementer(IConsumer)
class FileConsumer:
    """
    Lets the thread that waits for a message write it, piece by piece, to a file.

    A slow disk then pauses the server that sends the message, and does not block the
    reactor or its other sessions.

    :param hand: hands the pieces to that thread.
    :param backlog: counts them.
    :ivar file: the file.
    """

    def __init__(self, hand: Hand, file: Writable, backlog: Backlog) -> None:
        self._hand = hand
        self._backlog = backlog
        self.file = file

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Remember the producer, to pause it."""
        self._backlog.begin(producer)

    def unregisterProducer(self) -> None:
        """Forget the producer: the message has ended."""
        self._backlog.end()

    def write(self, data: bytes) -> None:
        """Hand a piece on, and pause the producer if too many bytes wait."""
        self._hand.hand(partial(self._write, data))
        self._backlog.add(len(data))

    # -- in the thread that waits

    def _write(self, data: bytes) -> None:
        try:
            write_all(self.file, data)
        finally:
            self._backlog.written(len(data))


class _Chosen:
    """
    A file that the thread which waits chooses and writes.  Nothing here raises.

    An exception fails the message and no other; the rest of it is dropped.

    :ivar file: what ``into`` returned.
    :ivar error: what ``into``, the file or ``progress`` has raised.
    :ivar written: bytes.
    """

    def __init__(self, number: int, into: Callable[[int], Any]) -> None:
        self._number = number
        self._into = into
        self.file: Any = None
        self.error: BaseException | None = None
        self.written = 0

    def choose(self) -> None:
        """Call ``into``."""
        self._try(self._choose)

    def _choose(self) -> None:
        self.file = self._into(self._number)
        check_file(self.file)

    def write(self, data: bytes) -> None:
        """Write a piece."""
        self._try(partial(self._write, data))

    def _write(self, data: bytes) -> None:
        write_all(self.file, data)
        self.written += len(data)

    def report(self, progress: Progress, done: int, expected: int | None) -> None:
        """Call ``progress``."""
        self._try(lambda: progress(self._number, done, expected))

    def _try(self, work: Callable[[], object]) -> None:
        if self.error is not None:
            return
        try:
            work()
        except BaseException as error:
            self.error = error
            if not isinstance(error, Exception):
                # Ctrl-C, which is not about this message.
                raise


class Files:
    """
    Lets the thread that takes messages write them to files, which it chooses.

    It does so whenever it waits for something in the reactor's thread: the reply to a
    command within its loop comes after the message that is being written.

    :param into: see `pop3connect.Handle.messages`; so is ``progress``.
    :ivar ident: the thread.
    """

    def __init__(
        self,
        thread: ReactorThread,
        into: Callable[[int], Any],
        progress: Progress | None,
    ) -> None:
        self.ident = threading.get_ident()
        self._thread = thread
        self._backlog = Backlog(thread)
        self._into = into
        self._progress = progress
        self._queue: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self._working = False
        # The message that is being received.
        self._current: _Chosen | None = None

    # -- in the reactor's thread

    def hand(self, work: Callable[[], object]) -> None:
        """Let the thread do this, after all that was handed to it before."""
        self._queue.put(work)
        self._thread.wake(self)

    def into(self, number: int) -> FileConsumer:
        """Return what takes a message."""
        chosen = self._current = _Chosen(number, self._into)
        self.hand(chosen.choose)
        return FileConsumer(self, chosen, self._backlog)

    def progress(self, number: int, done: int, expected: int | None) -> None:
        """Report what was written, when it was."""
        if self._progress is not None and self._current is not None:
            report = self._current.report
            self.hand(partial(report, self._progress, done, expected))

    # -- in the thread that takes the messages

    def work(self) -> None:
        """Write what there is to write."""
        if self._working:
            # ``into`` or a file calls the handle: nothing is written within that.
            return
        self._working = True
        try:
            while True:
                self._queue.get_nowait()()
        except Empty:
            pass
        finally:
            self._working = False

    def settle(self, item: Any, server: str) -> Stored | Refused:
        """Return an item as the caller sees it, when its message was written."""
        if not isinstance(item, Stored):
            refused: Refused = item
            return refused
        self.work()
        chosen: _Chosen = item.destination.file
        if chosen.error is None and chosen.written != item.size:
            # Ctrl-C came after a piece had left the queue, and was caught by the loop.
            chosen.error = RuntimeError(
                f"{chosen.written} of {item.size} bytes were written before an "
                "interruption"
            )
        if chosen.error is None:
            return item._replace(destination=chosen.file)
        error = destination_failed(server, item.number, chosen.error)
        return Refused(item.number, None, error)


class Batches:
    """
    Messages for another thread, in batches of those already received.

    Each crossing costs more than reading a small message.  All methods belong to the
    reactor's thread.

    :param begin: returns the messages; called when the first is taken.
    :param most: the largest number of messages in a batch.
    """

    def __init__(self, begin: Callable[[], Messages[Any]], most: int) -> None:
        self._begin = begin
        self._messages: Messages[Any] | None = None
        self._stopped = False
        self._most = most
        # The next message, if it was requested and not taken yet.
        self._next: Deferred[_Item | None] | None = None
        # Raised when the messages received before it have been taken.
        self._error: POP3Error | None = None

    async def take(self) -> list[_Item]:
        """
        Wait for a message, and take it with those received after it.

        :return: empty after the last message.
        :raises POP3Error: the session has ended.
        """
        batch: list[_Item] = []
        octets = 0
        if self._messages is None and not self._stopped:
            self._messages = self._begin()
        while self._error is None and self._messages is not None:
            coming = self._next or Deferred.fromCoroutine(_next(self._messages))
            if batch and not coming.called:
                self._next = coming
                break
            self._next = None
            try:
                message = await coming
            except POP3Error as error:
                self._error = error
                break
            if message is None:
                break
            batch.append(message)
            octets += len(getattr(message, "content", None) or b"")
            if len(batch) >= self._most or octets >= BATCH:
                break
        if self._error is not None and not batch:
            raise self._error
        return batch

    async def stop(self) -> None:
        """Stop: no further message is needed."""
        if self._next is not None:
            self._next.addErrback(lambda _: None)
            self._next.cancel()
        self._stopped = True
        if self._messages is not None:
            await self._messages.aclose()


async def _next(messages: Messages[Any]) -> _Item | None:
    item: _Item | None = await anext(messages, None)
    return item
