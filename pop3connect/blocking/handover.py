"""
Hands messages from the reactor's thread to one that blocks, a bounded amount at a time.
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
"""Octets of a message that may wait to be written; then the server has to wait."""

BATCH = 1024 * 1024
"""Octets of messages that go from one thread to the other at once."""

_Item = Message | Refused


@implementer(IConsumer)
class FileConsumer:
    """
    Lets the thread that waits for a message write it, piece by piece, to a file.

    So a slow disk stops neither the reactor nor its other sessions, but only the
    server that sends the message.
    """

    def __init__(self, thread: ReactorThread, call: Call[Any], file: Writable) -> None:
        self._thread = thread
        self._call = call
        self._file = file
        self._producer: IPushProducer | None = None
        # Of both threads.
        self._lock = threading.Lock()
        self._held = 0
        self._full = False

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Note whom to stop when there is enough."""
        self._producer = producer

    def unregisterProducer(self) -> None:
        """Forget it: the message has ended."""
        self._producer = None

    def write(self, data: bytes) -> None:
        """Hand a piece on, and ask for no more when too many octets wait."""
        self._call.hand(partial(self._write, data))
        with self._lock:
            self._held += len(data)
            if self._full or self._held < HELD:
                return
            self._full = True
        if self._producer is not None:
            self._producer.pauseProducing()

    def _resume(self) -> None:
        # It may be full again by now, and what fills it come from the same chunk.
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
    Messages for another thread, as many at once as have come.

    Each crossing costs more than reading a small message.  All of it belongs to
    the reactor's thread.

    :param most: so many messages at once, at the most.
    """

    def __init__(self, messages: Messages, most: int) -> None:
        self._messages = messages
        self._most = most
        # Asked for, and not taken yet.
        self._next: Deferred[_Item | None] | None = None
        # Its turn comes when all that came before it has been taken.
        self._error: POP3Error | None = None

    async def take(self) -> list[_Item]:
        """
        Wait for a message, and take what has come with it.

        :return: empty after the last one.
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
        """Want no more of them."""
        if self._next is not None:
            self._next.addErrback(lambda _: None)
            self._next.cancel()
        await self._messages.aclose()


async def _next(messages: Messages) -> _Item | None:
    return await anext(messages, None)
