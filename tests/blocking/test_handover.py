"""What is handed from the reactor's thread to another one, and how much at a time."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from functools import partial
from io import BytesIO
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from pop3connect import ConnectionLostError, Message, Refused, Stored
from pop3connect.blocking.handover import (
    BATCH,
    HELD,
    Backlog,
    Batches,
    FileConsumer,
    Files,
)


class BothThreads:
    """The thread that waits and the reactor's, each of which works when it is told."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], object]] = []
        self.reactor: list[Callable[[], object]] = []

    def hand(self, work: Callable[[], object]) -> None:
        self.waiting.append(work)

    def wake(self, files: object) -> None:
        pass

    def post(self, function: Callable[..., object], *arguments: object) -> None:
        self.reactor.append(partial(function, *arguments))

    @staticmethod
    def work(queue: list[Callable[[], object]]) -> None:
        while queue:
            queue.pop(0)()


class Producer:
    """Notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def pauseProducing(self) -> None:
        self.asked.append("pause")

    def resumeProducing(self) -> None:
        self.asked.append("resume")


class FilesTests(SynchronousTestCase):
    """`Files`: messages that the thread which takes them writes"""

    def receive(self, *pieces: bytes) -> tuple[Files, BytesIO, Stored]:
        file = BytesIO()
        files = Files(BothThreads(), lambda number: file, None)  # type: ignore[arg-type]
        consumer = files.into(7)
        for piece in pieces:
            consumer.write(piece)
        size = sum(map(len, pieces))
        return files, file, Stored(7, size, consumer, None)  # type: ignore[arg-type]

    def test_message_is_written_before_it_is_handed_out(self) -> None:
        files, file, item = self.receive(b"one", b"two")
        stored = files.settle(item, "pop.example.com:110")
        self.assertIsNone(stored.error)
        self.assertIs(stored.destination, file)  # type: ignore[union-attr]
        self.assertEqual(file.getvalue(), b"onetwo")

    def test_message_that_an_interruption_left_a_piece_of_is_not_stored(self) -> None:
        files, file, item = self.receive(b"one", b"two", b"three")
        queue = files._queue
        # Ctrl-C comes as the second of three pieces has left the queue.
        first = [queue.get_nowait() for _ in range(2)]
        for work in first:
            work()
        queue.get_nowait()
        refused = files.settle(item, "pop.example.com:110")
        self.assertIn("8 of 11 bytes", str(refused.error))
        self.assertEqual(file.getvalue(), b"onethree")


class FileConsumerTests(SynchronousTestCase):
    """`FileConsumer`"""

    def setUp(self) -> None:
        self.threads = BothThreads()
        self.written: list[bytes] = []
        self.producer = Producer()
        backlog = Backlog(self.threads)  # type: ignore[arg-type]
        self.consumer = FileConsumer(self.threads, self, backlog)
        self.consumer.registerProducer(self.producer, True)

    def write(self, piece: bytes) -> None:
        """Be the file."""
        self.written.append(piece)

    def test_provides_iconsumer(self) -> None:
        verifyObject(IConsumer, self.consumer)

    def test_file_is_written_in_waiting_thread_not_reactor_thread(self) -> None:
        self.consumer.write(b"a")
        self.assertEqual(self.written, [])
        self.threads.work(self.threads.waiting)
        self.assertEqual(self.written, [b"a"])

    def test_producer_is_paused_once_when_buffer_limit_is_reached(self) -> None:
        self.consumer.write(b"a" * (HELD - 1))
        self.assertEqual(self.producer.asked, [])
        self.consumer.write(b"b")
        # The rest of the chunk that was being read.
        self.consumer.write(b"c")
        self.assertEqual(self.producer.asked, ["pause"])

    def test_producer_is_resumed_when_half_of_buffer_is_written(self) -> None:
        half = HELD // 2
        for size in (half - 1, 1, half):
            self.consumer.write(b"a" * size)
        self.threads.waiting.pop(0)()
        self.assertEqual(self.threads.reactor, [])
        self.threads.waiting.pop(0)()
        self.threads.work(self.threads.reactor)
        self.assertEqual(self.producer.asked, ["pause", "resume"])
        self.threads.work(self.threads.waiting)
        self.assertEqual(self.threads.reactor, [])

    def test_producer_is_not_resumed_if_buffer_is_full_again(self) -> None:
        self.consumer.write(b"a" * HELD)
        self.threads.work(self.threads.waiting)
        self.consumer.write(b"b" * HELD)
        self.threads.work(self.threads.reactor)
        self.assertEqual(self.producer.asked, ["pause", "pause"])
        self.threads.work(self.threads.waiting)
        self.threads.work(self.threads.reactor)
        self.assertEqual(self.producer.asked, ["pause", "pause", "resume"])

    def test_next_message_is_paused_at_once_while_too_much_waits(self) -> None:
        self.consumer.write(b"a" * HELD)
        self.consumer.unregisterProducer()
        following = Producer()
        self.consumer.registerProducer(following, True)
        self.assertEqual(following.asked, ["pause"])
        self.threads.work(self.threads.waiting)
        self.threads.work(self.threads.reactor)
        self.assertEqual(following.asked, ["pause", "resume"])

    def test_unregistered_producer_is_neither_paused_nor_resumed(self) -> None:
        self.consumer.write(b"a" * HELD)
        self.consumer.unregisterProducer()
        self.consumer.write(b"b" * HELD)
        self.threads.work(self.threads.waiting)
        self.threads.work(self.threads.reactor)
        self.assertEqual(self.producer.asked, ["pause"])


class BatchesTests(SynchronousTestCase):
    """`Batches`"""

    def setUp(self) -> None:
        self.left = False

    async def messages(self, *items: Any) -> AsyncGenerator[Message | Refused, None]:
        """Yield messages, wait for Deferreds, raise errors."""
        try:
            for number, item in enumerate(items, 1):
                if isinstance(item, Deferred):
                    await item
                elif isinstance(item, Exception):
                    raise item
                else:
                    yield Message(number, item, None)
        finally:
            self.left = True

    def batches(self, *items: Any, most: int = 100) -> Batches:
        return Batches(
            lambda: self.messages(*items),  # type: ignore[arg-type, return-value]
            most,
        )

    def take(self, batches: Batches) -> list[int]:
        batch = self.successResultOf(Deferred.fromCoroutine(batches.take()))
        return [message.number for message in batch]

    def stop(self, batches: Batches) -> None:
        self.successResultOf(Deferred.fromCoroutine(batches.stop()))

    def test_available_messages_come_in_one_batch(self) -> None:
        batches = self.batches(b"a", b"b", b"c")
        self.assertEqual(self.take(batches), [1, 2, 3])
        self.assertEqual(self.take(batches), [])

    def test_batch_ends_before_a_message_that_is_still_pending(self) -> None:
        coming: Deferred[None] = Deferred()
        batches = self.batches(b"a", coming, b"c")
        self.assertEqual(self.take(batches), [1])
        waiting = Deferred.fromCoroutine(batches.take())
        self.assertNoResult(waiting)
        coming.callback(None)
        self.assertEqual(self.successResultOf(waiting), [Message(3, b"c", None)])

    def test_batch_has_at_most_the_requested_number_of_messages(self) -> None:
        batches = self.batches(b"a", b"b", b"c", most=2)
        self.assertEqual(self.take(batches), [1, 2])
        self.assertEqual(self.take(batches), [3])

    def test_batch_ends_with_the_message_that_reaches_its_size_limit(self) -> None:
        batches = self.batches(b"a" * (BATCH - 1), b"b", b"c", b"d" * BATCH, b"e")
        self.assertEqual(self.take(batches), [1, 2])
        self.assertEqual(self.take(batches), [3, 4])
        self.assertEqual(self.take(batches), [5])

    def test_refused_message_counts_as_zero_bytes_in_a_batch(self) -> None:
        self.assertEqual(self.take(self.batches(None, b"b")), [1, 2])

    def test_messages_before_an_error_are_delivered_first(self) -> None:
        batches = self.batches(b"a", ConnectionLostError("gone"))
        self.assertEqual(self.take(batches), [1])
        for _ in range(2):
            self.failureResultOf(
                Deferred.fromCoroutine(batches.take()), ConnectionLostError
            )

    def test_batch_is_empty_when_stopped_before_start(self) -> None:
        batches = self.batches(b"a")
        self.stop(batches)
        self.assertEqual(self.take(batches), [])

    def test_stop_between_two_messages_closes_the_generator(self) -> None:
        batches = self.batches(b"a", b"b", most=1)
        self.take(batches)
        self.assertFalse(self.left)
        self.stop(batches)
        self.assertTrue(self.left)

    def test_stop_while_next_message_is_pending_closes_the_generator(self) -> None:
        batches = self.batches(b"a", Deferred(), b"c")
        self.take(batches)
        self.stop(batches)
        self.assertTrue(self.left)

    def test_cancelled_take_fails_and_stop_closes_the_generator(self) -> None:
        batches = self.batches(Deferred())
        waiting = Deferred.fromCoroutine(batches.take())
        waiting.cancel()
        self.failureResultOf(waiting)
        self.stop(batches)
        self.assertTrue(self.left)
