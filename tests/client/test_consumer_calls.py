"""
What a consumer may do when it is called: anything, at every call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IConsumer
from zope.interface import implementer

from pop3connect import (
    ConnectionLostError,
    DestinationError,
    Handle,
    TimedOutError,
)

from ..support.memory import SessionTestCase

SHORT = b"Subject: a\r\n\r\ntext\r\n"
LONG = SHORT + b"x" * 70 + b"\r\n" + (b"y" * 998 + b"\r\n") * 100

CALLS = ("registerProducer", "write", "unregisterProducer")


class ConsumerError(Exception):
    """What a consumer of the tests raises."""


@implementer(IConsumer)
class Consumer:
    """
    Acts once, in one of its methods.
    """

    def __init__(self, call: str, act: Callable[[], object]) -> None:
        self.call = call
        self.act = act
        self.acted = False
        self.producer: Any = None
        self.written = b""
        self.calls: list[str] = []

    def _called(self, call: str) -> None:
        self.calls.append(call)
        if call == self.call and not self.acted:
            self.acted = True
            self.act()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self.producer = producer
        self._called("registerProducer")

    def write(self, data: bytes) -> None:
        self.written += data
        self._called("write")

    def unregisterProducer(self) -> None:
        self.producer = None
        self._called("unregisterProducer")


class PausingTests(SessionTestCase):
    """A consumer that pauses the session and then fails."""

    def test_consumer_that_pauses_and_refuses_to_register_stops_no_other(self) -> None:
        def act() -> None:
            consumer.producer.pauseProducing()
            raise ConsumerError()

        for body, size in ((SHORT, None), (LONG, 700)):
            consumer = Consumer("registerProducer", act)
            into = {1: consumer, 2: Consumer("", list)}
            handle = self.log_in("PIPELINING")
            items = handle.messages([1, 2], into=into.__getitem__)
            first = Deferred.fromCoroutine(items.__anext__())  # type: ignore[arg-type]
            self.server.heard()
            self.server.say(b"+OK\r\n" + body + b".\r\n", size=size)
            self.assertIsInstance(self.result(first).error, DestinationError)
            self.assertEqual(self.server.transport.producerState, "producing")
            second = Deferred.fromCoroutine(items.__anext__())  # type: ignore[arg-type]
            self.server.say(b"+OK\r\n" + body + b".\r\n", size=size)
            self.assertIsNone(self.result(second).error)
            self.assertEqual(into[2].written, body)
            self.anew()


class LeavingTests(SessionTestCase):
    """A consumer that acts when it is left, because its loop is."""

    def end_while_choosing(self, how: str, body: bytes, size: int | None) -> list[str]:
        """Return what is called of a consumer if ``into`` ends its run so."""
        handle = self.log_in("PIPELINING")
        consumer = Consumer("", list)

        def into(_: int) -> Consumer:
            first.cancel() if how == "cancel" else handle.abort()
            return consumer

        items = handle.messages([1, 2], into=into)
        first = Deferred.fromCoroutine(items.__anext__())  # type: ignore[arg-type]
        self.server.heard()
        self.server.say(b"+OK\r\n" + body + b".\r\n", size=size)
        self.error(first, CancelledError if how == "cancel" else ConnectionLostError)
        self.anew()
        return consumer.calls

    def test_run_that_ends_while_a_destination_is_chosen_leaves_that(self) -> None:
        for body, size in ((SHORT, None), (LONG, 700)):
            self.assertEqual(self.end_while_choosing("cancel", body, size), [])
            self.assertEqual(
                self.end_while_choosing("abort", body, size), [CALLS[0], CALLS[2]]
            )

    def test_consumer_that_is_left_may_end_the_session_or_submit_commands(self) -> None:
        def act() -> None:
            getattr(handle, name)().addErrback(lambda _: None)

        for name in ("abort", "noop", "disconnect"):
            handle = self.log_in("PIPELINING")
            consumer = Consumer("unregisterProducer", act)
            items = handle.messages(range(1, 5), into=lambda _, to=consumer: to)
            first = Deferred.fromCoroutine(items.__anext__())  # type: ignore[arg-type]
            self.server.heard()
            self.server.say(b"+OK\r\n" + SHORT)
            first.cancel()
            self.error(first, CancelledError)
            self.assertTrue(consumer.acted)
            self.assertEqual(self.flushLoggedErrors(), [])
            self.assertEqual(handle.is_open, name == "noop")
            self.anew()


class ConsumerCallTests(SessionTestCase):
    """
    Short messages that come whole, and long ones in pieces; first in line and second.
    """

    def each(self, check: Callable[[str, bytes, int | None, bool], None]) -> None:
        """
        Check each call with each kind of message.
        """
        for call in CALLS:
            for body, size in ((SHORT, None), (SHORT, 5), (LONG, None), (LONG, 700)):
                for listening in (False, True):
                    check(call, body, size, listening)
                    self.anew()

    def session(self, listening: bool) -> Handle:
        return self.log_in(
            "PIPELINING", stsproc=self.status.append if listening else None
        )

    def say(self, body: bytes, size: int | None) -> None:
        self.server.heard()
        self.server.say(b"+OK\r\n" + body + b".\r\n+OK 2 320\r\n", size=size)

    def test_abort_at_any_call_fails_everything_from_then_on(self) -> None:
        def check(call: str, body: bytes, size: int | None, listening: bool) -> None:
            handle = self.session(listening)
            consumer = Consumer(call, lambda: handle.abort())
            asked, behind = handle.retrieve(1, consumer), handle.stat()
            self.say(body, size)
            self.assertTrue(consumer.acted)
            self.error(asked, ConnectionLostError)
            self.error(behind, ConnectionLostError)
            self.assertEqual(consumer.calls.count("unregisterProducer"), 1)
            self.assertEqual(consumer.calls[-1], "unregisterProducer")
            self.assertClosed()

        self.each(check)

    def test_exception_at_any_call_reaches_the_caller(self) -> None:
        def check(call: str, body: bytes, size: int | None, listening: bool) -> None:
            handle = self.session(listening)
            # As a Deferred does with what its callbacks raise.
            kind = SystemExit if listening else ConsumerError

            def act() -> None:
                raise kind

            consumer = Consumer(call, act)
            asked, behind = handle.retrieve(1, consumer), handle.stat()
            self.say(body, size)
            self.failureResultOf(asked, kind)
            if call == "unregisterProducer" or size is None:
                # All of the message was read: that command alone fails.
                self.assertEqual(self.result(behind), (2, 320))
                self.assertIdle()
            else:
                self.error(behind, ConnectionLostError)
                self.assertClosed()

        self.each(check)

    def test_abort_and_exception_at_any_call_fail_once(self) -> None:
        def check(call: str, body: bytes, size: int | None, listening: bool) -> None:
            handle = self.session(listening)

            def act() -> None:
                handle.abort()
                raise ConsumerError

            consumer = Consumer(call, act)
            asked, behind = handle.retrieve(1, consumer), handle.stat()
            self.say(body, size)
            self.server.settle()
            self.failureResultOf(asked, ConsumerError, ConnectionLostError)
            self.error(behind, ConnectionLostError)
            self.flushLoggedErrors(ConsumerError)
            self.assertClosed()

        self.each(check)

    def test_command_submitted_at_any_call_is_sent_and_answered(self) -> None:
        def check(call: str, body: bytes, size: int | None, listening: bool) -> None:
            handle = self.session(listening)
            more: list[Deferred[Any]] = []
            consumer = Consumer(call, lambda: more.append(handle.size(7)))
            asked, behind = handle.retrieve(1, consumer), handle.stat()
            self.say(body, size)
            self.assertEqual(self.result(asked), len(body))
            self.assertEqual(consumer.written, body)
            self.assertEqual(self.result(behind), (2, 320))
            self.server.expect(b"LIST 7", b"+OK 7 200\r\n")
            self.assertEqual(self.result(more[0]), 200)
            self.assertIdle()

        self.each(check)

    def test_cancelling_itself_at_any_call_leaves_a_defined_state(self) -> None:
        def check(call: str, body: bytes, size: int | None, listening: bool) -> None:
            handle = self.session(listening)
            consumer = Consumer(call, lambda: asked.cancel())
            asked = handle.retrieve(1, consumer)
            behind = handle.stat()
            self.say(body, size)
            self.error(asked, CancelledError)
            if call == "unregisterProducer" or size is None:
                # The whole reply was read: nothing is in transfer.
                self.assertEqual(self.result(behind), (2, 320))
                self.assertIdle()
            else:
                self.error(behind, ConnectionLostError)
                self.assertClosed()
            self.assertEqual(consumer.calls.count("unregisterProducer"), 1)

        self.each(check)

    def test_stopping_at_any_call_ends_the_session(self) -> None:
        def check(call: str, body: bytes, size: int | None, listening: bool) -> None:
            handle = self.session(listening)
            producers: list[Any] = []

            def act() -> None:
                producers.append(consumer.producer)
                if consumer.producer is not None:
                    consumer.producer.stopProducing()

            consumer = Consumer(call, act)
            asked, behind = handle.retrieve(1, consumer), handle.stat()
            self.say(body, size)
            if producers[0] is None:
                # It is over: nothing is left to stop.
                self.assertEqual(self.result(asked), len(body))
                self.assertEqual(self.result(behind), (2, 320))
            else:
                self.error(asked, ConnectionLostError)
                self.error(behind, ConnectionLostError)

        self.each(check)

    def test_pausing_and_resuming_does_not_renew_the_time_limit(self) -> None:
        """
        A byte now and then is no progress, whatever the consumer does with it.
        """

        class Restless(Consumer):
            def write(self, data: bytes) -> None:
                super().write(data)
                self.producer.pauseProducing()
                self.producer.resumeProducing()

        for kind in (Consumer, Restless):
            consumer = kind("", lambda: None)
            handle = self.log_in(timeout=60)
            asked = handle.retrieve(1, consumer)
            self.server.expect(b"RETR 1", b"+OK\r\n")
            for _ in range(11):
                self.clock.advance(5)
                self.server.say(b"x")
                self.pending(asked)
            self.assertEqual(consumer.calls.count("write"), 11)
            self.clock.advance(5)
            self.error(asked, TimedOutError)
            self.assertClosed()
            self.anew()

    def test_time_while_the_consumer_pauses_is_not_the_servers(self) -> None:
        handle = self.log_in(timeout=60)
        consumer = Consumer("", lambda: None)
        asked = handle.retrieve(1, consumer)
        self.server.expect(b"RETR 1", b"+OK\r\n")
        self.clock.advance(40)
        consumer.producer.pauseProducing()
        self.clock.advance(3600)
        consumer.producer.resumeProducing()
        self.clock.advance(19.5)
        self.pending(asked)
        # It has what was left, and not its whole time.
        self.clock.advance(0.5)
        self.error(asked, TimedOutError)
        self.assertClosed()
