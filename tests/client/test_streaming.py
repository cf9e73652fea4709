"""A body on its way to a consumer, which may slow the connection down."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IConsumer, IPushProducer
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from pop3connect.client.streaming import Streamed


class Flow:
    """A connection that notes what a body does to it."""

    def __init__(self, log: list[str]) -> None:
        self._log = log

    def pause_body(self) -> None:
        self._log.append("pause")

    def resume_body(self) -> None:
        self._log.append("resume")

    def abandon_body(self) -> None:
        self._log.append("abandon")


@implementer(IConsumer)
class Consumer:
    """A consumer that notes what is done to it, and takes one producer at a time."""

    producer: IPushProducer | None = None

    def __init__(self, log: list[str]) -> None:
        self.log = log
        self.pieces: list[bytes] = []

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if self.producer is not None:
            raise RuntimeError("there is a producer already")
        self.log.append(f"register streaming={streaming}")
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.log.append("unregister")
        self.producer = None

    def write(self, data: bytes) -> None:
        self.pieces.append(data)


class StreamedTests(SynchronousTestCase):
    """`Streamed`"""

    def setUp(self) -> None:
        self.log: list[str] = []
        self.flow = Flow(self.log)
        self.consumer = Consumer(self.log)
        self.sink = Streamed(self.consumer)

    def test_provides_ipushproducer(self) -> None:
        verifyObject(IPushProducer, self.sink)

    def test_body_is_written_to_the_consumer_piece_by_piece(self) -> None:
        self.sink.begin(self.flow)
        self.assertIs(self.consumer.producer, self.sink)
        self.sink.write(b"one")
        self.sink.write(b"two")
        self.assertEqual(self.consumer.pieces, [b"one", b"two"])
        self.sink.end(6)
        self.assertIs(self.consumer.producer, None)
        self.assertEqual(self.log, ["register streaming=True", "unregister", "resume"])

    def test_consumer_gets_no_producer_before_the_body_begins(self) -> None:
        self.assertEqual((self.log, self.consumer.producer), ([], None))

    def test_consumer_can_pause_resume_and_abandon_the_body(self) -> None:
        self.sink.begin(self.flow)
        producer = self.consumer.producer
        assert producer is not None
        del self.log[:]
        producer.pauseProducing()
        producer.resumeProducing()
        producer.stopProducing()
        self.assertEqual(self.log, ["pause", "resume", "abandon"])

    def test_producer_calls_after_the_body_are_ignored(self) -> None:
        for leave in (lambda: self.sink.end(0), self.sink.lost):
            self.sink.begin(self.flow)
            leave()
            del self.log[:]
            self.sink.pauseProducing()
            self.sink.resumeProducing()
            self.sink.stopProducing()
            self.assertEqual(self.log, [])

    def test_producer_calls_before_the_body_are_ignored(self) -> None:
        self.sink.pauseProducing()
        self.sink.resumeProducing()
        self.sink.stopProducing()
        self.assertEqual(self.log, [])

    def test_paused_connection_is_resumed_when_the_body_ends(self) -> None:
        """A consumer may pause at the last piece, and is not asked again."""
        for leave in (lambda: self.sink.end(3), self.sink.lost):
            self.sink.begin(self.flow)
            self.sink.pauseProducing()
            leave()
            self.assertEqual(self.log[-1], "resume")

    def test_paused_connection_is_resumed_if_unregistering_fails(self) -> None:
        def fail() -> None:
            raise ZeroDivisionError

        for leave in (lambda sink: sink.end(3), Streamed.lost):
            consumer = Consumer(self.log)
            consumer.unregisterProducer = fail  # type: ignore[method-assign]
            sink = Streamed(consumer)
            sink.begin(self.flow)
            sink.pauseProducing()
            with self.assertRaises(ZeroDivisionError):
                leave(sink)
            self.assertEqual(self.log[-1], "resume")

    def test_a_consumer_that_has_another_producer_keeps_it(self) -> None:
        other = Streamed(Consumer([]))
        self.consumer.producer = other
        with self.assertRaises(RuntimeError):
            self.sink.begin(self.flow)
        self.sink.lost()
        self.assertIs(self.consumer.producer, other)
