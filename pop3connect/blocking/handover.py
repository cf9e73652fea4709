"""
Hands messages from the reactor's thread to a blocking one, in bounded amounts.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IPushProducer
from zope.interface import implementer

from ..client.prefetch import Messages
from ..errors import POP3Error
from ..files import Writable, write_all
from ..results import Message, Refused
from .reactor_thread import Call, ReactorThread

__all__ = ["BATCH", "HELD", "Batches", "FileConsumer"]

HELD = 1024 * 1024
"""Bytes of a message that may wait to be written; beyond that the server is paused."""

BATCH = 1024 * 1024
"""Bytes of messages that go from one thread to the other at once."""

_Item = Message | Refused


@implementer(IConsumer)
class FileConsumer:
    """
    Lets the thread that waits for a message write it, piece by piece, to a file.

    A slow disk then pauses the server that sends the message, and blocks neither the
    reactor nor its other sessions.
    """

    def __init__(self, thread: ReactorThread, call: Call[Any], file: Writable) -> None:
        self._thread = thread
        self._call = call
        self._file = file
        self._producer: IPushProducer | None = None
        # Shared by both threads.
        self._lock = threading.Lock()
        self._held = 0
        self._full = False

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Remember the producer, to pause it."""
        self._producer = producer

    def unregisterProducer(self) -> None:
        """Forget the producer: the message has ended."""
        self._producer = None

    def write(self, data: bytes) -> None:
        """Hand a piece on, and pause the producer if too many bytes wait."""
        self._call.hand(partial(self._write, data))
        with self._lock:
            self._held += len(data)
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

    def _write(self, data: bytes) -> None:
        write_all(self._file, data)
        with self._lock:
            self._held -= len(data)
            if not self._full or self._held > HELD // 2:
                return
            self._full = False
        self._thread.post(self._resume)


class Batches:
    """
    Messages for another thread, in batches of those already received.

    Each crossing costs more than reading a small message.  All methods belong to the
    reactor's thread.

    :param most: the largest number of messages in a batch.
    """

    def __init__(self, messages: Messages, most: int) -> None:
        self._messages = messages
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
        while self._error is None:
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
            octets += len(message.content or b"")
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
        await self._messages.aclose()


async def _next(messages: Messages) -> _Item | None:
    return await anext(messages, None)
