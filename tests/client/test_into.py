"""
`Handle.messages` with ``into``: messages are written to destinations as they arrive.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from pop3connect import (
    CommandError,
    ConnectionLostError,
    DestinationError,
    Handle,
    Refused,
    Stored,
    UsageError,
)
from pop3connect.client.prefetch import OPEN

from ..support.memory import SessionTestCase
from .test_prefetch import Reader, letter, numbers_asked, reply


class DiskFullError(Exception):
    """What a destination raises."""


class Consumer:
    """Notes what is written to it, and raises or pauses when it is told."""

    def __init__(self) -> None:
        self.producer: Any = None
        self.written = b""
        self.events: list[str] = []
        self.on_write: Callable[[], object] | None = None

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self.producer = producer
        self.events.append("registered")

    def unregisterProducer(self) -> None:
        self.producer = None
        self.events.append("unregistered")

    def write(self, data: bytes) -> None:
        self.written += data
        if self.on_write is not None:
            self.on_write()


class IntoTestCase(SessionTestCase):
    """Reads messages into destinations."""

    def collect(
        self, handle: Handle, *arguments: Any, **options: Any
    ) -> tuple[list[Stored | Refused], Deferred[None]]:
        seen: list[Stored | Refused] = []

        async def read() -> None:
            async for message in handle.messages(*arguments, **options):
                seen.append(message)

        return seen, Deferred.fromCoroutine(read())

    def in_step(self, handle: Handle) -> None:
        """Check that the next command gets its own answer."""
        asked = handle.stat()
        self.server.expect(b"STAT", b"+OK 2 320\r\n")
        self.assertEqual(self.result(asked), (2, 320))
        self.assertIdle()


class IntoTests(IntoTestCase):
    """All goes well."""

    def setUp(self) -> None:
        super().setUp()
        self.files: dict[int, io.BytesIO] = {}

    def into(self, number: int) -> io.BytesIO:
        file = self.files[number] = io.BytesIO()
        return file

    def test_messages_are_written_to_files_which_stay_open(self) -> None:
        for size in (None, 1, 7):
            self.files.clear()
            handle = self.log_in("PIPELINING")
            seen, reading = self.collect(handle, [5, 2], into=self.into)
            self.assertEqual(numbers_asked(self.server.heard()), [5, 2])
            self.server.say(reply(5) + reply(2), size=size)
            self.result(reading)
            self.assertEqual(
                seen,
                [
                    Stored(number, len(letter(number)), self.files[number], None)
                    for number in (5, 2)
                ],
            )
            for number, file in self.files.items():
                self.assertEqual(file.getvalue(), letter(number))
            self.in_step(handle)
            self.anew()

    def test_destination_is_chosen_when_ok_was_read(self) -> None:
        handle = self.log_in("PIPELINING")
        _, reading = self.collect(handle, [1, 2], into=self.into)
        self.server.heard()
        self.assertEqual(list(self.files), [])
        self.server.say(b"+OK\r\nSubject")
        self.assertEqual(list(self.files), [1])
        self.assertEqual(self.files[1].getvalue(), b"Subject")
        self.server.say(b": x\r\n.\r\n+O")
        self.assertEqual(list(self.files), [1])
        self.server.say(b"K\r\n.\r\n")
        self.assertEqual(list(self.files), [1, 2])
        self.result(reading)

    def test_refused_message_makes_no_file(self) -> None:
        handle = self.log_in("PIPELINING")
        seen, reading = self.collect(handle, [1, 2], into=self.into)
        self.server.heard()
        self.server.say(b"-ERR gone\r\n" + reply(2))
        self.result(reading)
        self.assertEqual(list(self.files), [2])
        self.assertIsInstance(seen[0].error, CommandError)
        self.assertEqual(seen[1].number, 2)

    def test_empty_message_makes_an_empty_file(self) -> None:
        handle = self.log_in()
        seen, reading = self.collect(handle, [1], into=self.into)
        self.server.heard()
        self.server.say(b"+OK\r\n.\r\n")
        self.result(reading)
        self.assertEqual(seen, [Stored(1, 0, self.files[1], None)])

    def test_consumers_are_left_before_their_item_is_yielded(self) -> None:
        handle = self.log_in("PIPELINING")
        consumers = {1: Consumer(), 2: Consumer()}
        seen, reading = self.collect(handle, [1, 2], into=consumers.__getitem__)
        self.server.heard()
        self.server.say(reply(1) + reply(2))
        self.result(reading)
        for item in seen:
            assert item.error is None
            self.assertIs(item.destination, consumers[item.number])
            self.assertEqual(item.destination.written, letter(item.number))
            self.assertEqual(item.destination.events, ["registered", "unregistered"])

    def test_consumer_that_pauses_pauses_the_session(self) -> None:
        handle = self.log_in("PIPELINING")
        consumer = Consumer()
        consumer.on_write = lambda: consumer.producer.pauseProducing()
        _, reading = self.collect(handle, [1], into=lambda _: consumer)
        self.server.heard()
        self.server.say(b"+OK\r\nSubject: x\r\n")
        self.assertEqual(self.server.transport.producerState, "paused")
        # And is not a reason to lose patience.
        self.clock.advance(1000)
        self.assertTrue(handle.is_open)
        consumer.on_write = None
        consumer.producer.resumeProducing()
        self.assertEqual(self.server.transport.producerState, "producing")
        self.server.say(b".\r\n")
        self.result(reading)
        self.in_step(handle)

    def test_at_most_64_destinations_wait_to_be_taken(self) -> None:
        handle = self.log_in("PIPELINING")
        reader: Reader = Reader(
            handle.messages(range(1, 1000), into=self.into)  # type: ignore[arg-type]
        )
        first = reader.next()
        while heard := numbers_asked(self.server.heard()):
            for number in heard:
                self.server.say(reply(number))
        self.assertEqual(self.result(first).number, 1)
        self.assertEqual(len(self.files), OPEN)
        self.result(reader.leave())

    def test_large_messages_are_asked_for_ahead_as_nothing_is_held(self) -> None:
        handle = self.log_in("PIPELINING")
        _, reading = self.collect(handle, into=self.into)
        listing = b"".join(b"%d 90000000\r\n" % number for number in range(1, 101))
        self.server.expect(b"LIST", b"+OK\r\n" + listing + b".\r\n")
        self.assertEqual(len(numbers_asked(self.server.heard())), OPEN)
        self.result(handle.abort())
        self.error(reading, ConnectionLostError)

    def test_progress_gets_bytes_done_and_the_size_of_list(self) -> None:
        told: list[tuple[int, int, int | None]] = []
        handle = self.log_in("PIPELINING")
        _, reading = self.collect(
            handle, into=self.into, progress=lambda *how: told.append(how)
        )
        self.server.expect(b"LIST", b"+OK\r\n1 30\r\n.\r\n")
        self.server.heard()
        self.server.say(b"+OK\r\n" + b"x" * 10)
        self.server.say(b"y" * 18 + b"\r\n.\r\n")
        self.result(reading)
        self.assertEqual(told[0], (1, 10, 30))
        self.assertEqual(told[-1], (1, 30, 30))

    def test_progress_without_list_expects_nothing(self) -> None:
        told: list[tuple[int, int, int | None]] = []
        handle = self.log_in()
        _, reading = self.collect(
            handle, [1], into=self.into, progress=lambda *how: told.append(how)
        )
        self.server.heard()
        self.server.say(b"+OK\r\nx\r\n.\r\n")
        self.result(reading)
        self.assertEqual(told, [(1, 3, None)])

    def test_message_shorter_than_list_says_is_a_hint_in_the_next_error(self) -> None:
        handle = self.log_in("PIPELINING")
        _, reading = self.collect(handle, into=self.into)
        self.server.expect(b"LIST", b"+OK\r\n1 500\r\n2 500\r\n.\r\n")
        self.server.heard()
        self.server.say(b"+OK\r\nx\r\n.\r\nrest of it\r\n")
        error = self.failureResultOf(reading).value
        self.assertIn("may not byte-stuff", str(error))


class FailingTests(IntoTestCase):
    """A destination fails: that message is lost, and no other."""

    def failing(
        self, into: Callable[[int], Any], said: bytes, *, size: int | None = None
    ) -> DestinationError:
        """Return the error of message 1, whose destination fails."""
        handle = self.log_in("PIPELINING")
        file = io.BytesIO()
        seen, reading = self.collect(
            handle, [1, 2], into=lambda number: into(number) if number == 1 else file
        )
        self.server.heard()
        self.server.say(said + reply(2), size=size)
        self.result(reading)
        refused, stored = seen
        self.assertEqual(stored, Stored(2, len(letter(2)), file, None))
        self.assertEqual(file.getvalue(), letter(2))
        self.in_step(handle)
        self.anew()
        error = refused.error
        assert isinstance(error, DestinationError)
        self.assertEqual((refused.number, refused.content), (1, None))
        self.assertEqual((error.verb, error.number), ("RETR", 1))
        return error

    def test_exception_of_into_fails_only_that_message(self) -> None:
        reason = DiskFullError("no\nspace")

        def into(number: int) -> Any:
            raise reason

        for size in (None, 1, 5):
            error = self.failing(into, reply(1), size=size)
            self.assertIs(error.__cause__, reason)
            self.assertIn("DiskFullError", str(error.__cause__.__class__))
            self.assertNotIn("\n", str(error))

    def test_exception_of_write_fails_only_that_message(self) -> None:
        for size in (None, 1, 5):
            consumer = Consumer()

            def fail() -> None:
                raise DiskFullError("no space")

            consumer.on_write = fail
            error = self.failing(lambda _, it=consumer: it, reply(1), size=size)
            self.assertIsInstance(error.__cause__, DiskFullError)
            self.assertEqual(consumer.events, ["registered", "unregistered"])

    def test_consumer_that_stops_fails_only_that_message(self) -> None:
        for size in (None, 1, 5):
            consumer = Consumer()
            consumer.on_write = lambda it=consumer: (  # type: ignore[misc]
                it.producer.stopProducing()
            )
            error = self.failing(lambda _, it=consumer: it, reply(1), size=size)
            self.assertIn("stopProducing", str(error))
            self.assertEqual(consumer.events, ["registered", "unregistered"])

    def test_no_progress_is_told_after_the_consumer_has_stopped(self) -> None:
        consumer = Consumer()
        consumer.on_write = lambda: consumer.producer.stopProducing()
        told: list[tuple[int, int, int | None]] = []
        handle = self.log_in("PIPELINING")
        _, reading = self.collect(
            handle, [1], into=lambda _: consumer, progress=lambda *it: told.append(it)
        )
        self.server.heard()
        self.server.say(reply(1), size=5)
        self.result(reading)
        self.assertEqual(told, [(1, len(consumer.written), None)])
        self.in_step(handle)

    def test_consumer_that_pauses_and_stops_does_not_pause_the_session(self) -> None:
        consumer = Consumer()

        def stop() -> None:
            consumer.producer.pauseProducing()
            consumer.producer.stopProducing()

        consumer.on_write = stop
        self.failing(lambda _: consumer, reply(1), size=5)

    def test_exception_of_registering_fails_only_that_message(self) -> None:
        consumer = Consumer()

        def refuse(producer: Any, streaming: bool) -> None:
            raise RuntimeError("it has one")

        consumer.registerProducer = refuse  # type: ignore[method-assign]
        error = self.failing(lambda _: consumer, reply(1), size=5)
        self.assertIn("RuntimeError: it has one", str(error))
        self.assertEqual(consumer.events, [])

    def test_exception_of_unregistering_fails_only_that_message(self) -> None:
        consumer = Consumer()

        def refuse() -> None:
            raise RuntimeError("not yet")

        consumer.unregisterProducer = refuse  # type: ignore[method-assign]
        error = self.failing(lambda _: consumer, reply(1))
        self.assertIn("RuntimeError: not yet", str(error))

    def test_exception_of_progress_fails_only_that_message(self) -> None:
        def progress(number: int, done: int, expected: int | None) -> None:
            if number == 1:
                raise DiskFullError("no room to show it")

        handle = self.log_in("PIPELINING")
        seen, reading = self.collect(
            handle, [1, 2], into=lambda _: io.BytesIO(), progress=progress
        )
        self.server.heard()
        self.server.say(reply(1) + reply(2))
        self.result(reading)
        self.assertIsInstance(seen[0].error, DestinationError)
        self.assertIs(seen[1].error, None)

    def test_other_things_than_destinations_are_named(self) -> None:
        for thing, name in (
            (None, "NoneType"),
            ("file.eml", "str"),
            (io.StringIO(), "a text file"),
        ):
            error = self.failing(lambda _, it=thing: it, reply(1))
            self.assertIn(name, str(error))
            self.assertIsInstance(error.__cause__, UsageError)

    def test_exit_of_the_program_ends_the_run(self) -> None:
        def into(number: int) -> Any:
            raise SystemExit(3)

        handle = self.log_in("PIPELINING")
        seen, reading = self.collect(handle, [1], into=into)
        self.server.heard()
        self.server.say(reply(1))
        self.failureResultOf(reading, SystemExit)
        self.assertEqual(len(seen), 1)
        self.in_step(handle)


class EndingTests(IntoTestCase):
    """The run or the session ends within a message."""

    def begun(self) -> tuple[Handle, Consumer, Any, Deferred[Any]]:
        handle = self.log_in("PIPELINING")
        consumer = Consumer()
        run = handle.messages([1, 2], into=lambda _: consumer)
        reader: Reader = Reader(run)  # type: ignore[arg-type]
        waiting = reader.next()
        self.server.heard()
        self.server.say(b"+OK\r\nSubject: x\r\n")
        return handle, consumer, reader, waiting

    def test_leaving_within_a_message_leaves_its_consumer(self) -> None:
        handle, consumer, _, waiting = self.begun()
        consumer.producer.pauseProducing()
        waiting.addErrback(lambda _: None)
        waiting.cancel()
        self.assertEqual(consumer.events, ["registered", "unregistered"])
        self.assertEqual(self.server.transport.producerState, "producing")
        self.server.say(b"more\r\n.\r\n" + reply(2))
        self.assertNotIn(b"more", consumer.written)
        self.in_step(handle)

    def test_lost_connection_leaves_the_consumer_and_is_raised(self) -> None:
        _, consumer, _, waiting = self.begun()
        self.server.lose()
        error = self.error(waiting, ConnectionLostError)
        self.assertEqual(error.number, 1)
        self.assertEqual(consumer.events, ["registered", "unregistered"])


class ArgumentsTests(IntoTestCase):
    """What cannot be meant is refused before anything is sent."""

    def test_invalid_arguments_are_rejected_before_sending(self) -> None:
        for options, named in (
            ({"into": "folder"}, "into must be a function, not str"),
            ({"into": io.BytesIO()}, "into must be a function, not BytesIO"),
            (
                {"into": lambda _: io.BytesIO(), "progress": 1},
                "progress must be a function, not int",
            ),
            ({"progress": print}, "progress is of no use without into"),
        ):
            handle = self.log_in("PIPELINING")
            _, reading = self.collect(handle, **options)
            self.assertIn(named, str(self.error(reading, UsageError)))
            self.assertEqual(self.server.heard(), b"")
            self.anew()
