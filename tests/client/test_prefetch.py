"""
`Handle.messages`: one message after another, fetched ahead of the reader.
"""

from __future__ import annotations

import gc
import itertools
from collections.abc import AsyncIterator
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from pop3connect import (
    CommandError,
    ConnectionLostError,
    Handle,
    Message,
    ProtocolError,
    Refused,
    TimedOutError,
    UsageError,
)

from ..support.memory import SessionTestCase
from ..support.shows import shows


def numbers_asked(heard: bytes) -> list[int]:
    """Return the numbers in these RETR commands; there must be no others."""
    lines = heard.split(b"\r\n")
    assert lines.pop() == b""
    numbers = []
    for line in lines:
        verb, number = line.split()
        assert verb == b"RETR", line
        numbers.append(int(number))
    return numbers


def letter(number: int) -> bytes:
    """Return the text of a message."""
    return b"Subject: %d\r\n\r\ntext\r\n" % number


def reply(number: int) -> bytes:
    """Return what the server says to RETR."""
    return b"+OK\r\n" + letter(number) + b".\r\n"


class Reader:
    """
    Somebody who reads messages, one at a time when told to.
    """

    def __init__(self, messages: AsyncIterator[Message]) -> None:
        self._messages = messages

    def next(self) -> Deferred[Message]:
        async def one() -> Message:
            return await self._messages.__anext__()

        return Deferred.fromCoroutine(one())

    def leave(self) -> Deferred[None]:
        return Deferred.fromCoroutine(
            self._messages.aclose()  # type: ignore[attr-defined]
        )


class FetchTestCase(SessionTestCase):
    """Reads messages."""

    def collect(
        self, handle: Handle, *arguments: Any, **options: Any
    ) -> tuple[list[Message | Refused], Deferred[None]]:
        """Begin to read them all into a list."""
        seen: list[Message | Refused] = []

        async def read() -> None:
            async for message in handle.messages(*arguments, **options):
                seen.append(message)

        return seen, Deferred.fromCoroutine(read())

    def serve(self) -> None:
        """Answer all that is asked, until nothing more is."""
        while heard := self.server.heard():
            for number in numbers_asked(heard):
                self.server.say(reply(number))

    def in_step(self, handle: Handle) -> None:
        """Check that the next command gets its own answer."""
        asked = handle.stat()
        self.server.expect(b"STAT", b"+OK 2 320\r\n")
        self.assertEqual(self.result(asked), (2, 320))
        self.assertIdle()


class MessagesTests(FetchTestCase):
    """All goes well."""

    def test_all_listed_messages_are_yielded_in_list_order(self) -> None:
        handle = self.log_in("PIPELINING")
        seen, reading = self.collect(handle)
        self.server.expect(b"LIST", b"+OK\r\n1 17\r\n7 17\r\n3 17\r\n.\r\n")
        self.serve()
        self.result(reading)
        self.assertEqual(
            seen, [Message(number, letter(number), None) for number in (1, 7, 3)]
        )
        self.in_step(handle)

    def test_empty_mailbox_yields_nothing(self) -> None:
        handle = self.log_in("PIPELINING")
        seen, reading = self.collect(handle)
        self.server.expect(b"LIST", b"+OK\r\n.\r\n")
        self.result(reading)
        self.assertEqual(seen, [])
        self.in_step(handle)

    def test_given_numbers_are_fetched_in_given_order(self) -> None:
        wanted: list[Any] = [
            [5, 2, 9],
            (number for number in (5, 2, 9)),
            {5: "", 2: "", 9: ""},
        ]
        for numbers in wanted:
            handle = self.log_in("PIPELINING")
            seen, reading = self.collect(handle, numbers)
            self.assertEqual(numbers_asked(self.server.heard()), [5, 2, 9])
            self.server.say(reply(5) + reply(2) + reply(9))
            self.result(reading)
            self.assertEqual([message.number for message in seen], [5, 2, 9])
            self.assertEqual([message.content for message in seen][2], letter(9))
            self.anew()

    def test_empty_number_list_yields_nothing(self) -> None:
        handle = self.log_in("PIPELINING")
        seen, reading = self.collect(handle, [])
        self.result(reading)
        self.assertEqual(seen, [])
        self.in_step(handle)

    def test_number_given_twice_is_yielded_twice(self) -> None:
        handle = self.log_in("PIPELINING")
        seen, reading = self.collect(handle, [1, 1])
        self.serve()
        self.result(reading)
        self.assertEqual(seen, [Message(1, letter(1), None)] * 2)

    @shows(
        "quirk 6.9",
        "``-ERR`` for one message of many",
        "A ``Refused`` with the ``error``; the other messages follow.",
    )
    def test_refused_message_is_yielded_with_its_error(self) -> None:
        handle = self.log_in("PIPELINING")
        seen, reading = self.collect(handle, [1, 2, 3])
        self.server.heard()
        self.server.say(reply(1) + b"-ERR [SYS/TEMP] it is broken\r\n" + reply(3))
        self.result(reading)
        self.assertEqual([message.number for message in seen], [1, 2, 3])
        self.assertEqual(seen[0], Message(1, letter(1), None))
        refused = seen[1]
        assert isinstance(refused, Refused)
        self.assertIsNone(refused.content)
        error = refused.error
        assert isinstance(error, CommandError)
        self.assertEqual((error.code, error.verb), ("SYS/TEMP", "RETR"))
        self.assertEqual(seen[2], Message(3, letter(3), None))
        self.in_step(handle)

    def test_empty_message_is_yielded_without_error(self) -> None:
        handle = self.log_in("PIPELINING")
        seen, reading = self.collect(handle, [1, 2])
        self.server.heard()
        self.server.say(b"+OK\r\n.\r\n" + reply(2))
        self.result(reading)
        self.assertEqual(seen[0], Message(1, b"", None))

    def test_messages_are_fetched_one_by_one_without_pipelining(self) -> None:
        handle = self.log_in()
        seen, reading = self.collect(handle, [1, 2, 3])
        for number in (1, 2, 3):
            self.server.expect(b"RETR %d" % number)
            self.assertEqual(self.server.heard(), b"")
            self.server.say(reply(number))
            self.assertEqual(len(seen), number)
        self.result(reading)

    def test_replies_in_chunks_of_any_size_yield_all_messages(self) -> None:
        for size in (1, 2, 3, 7, 20):
            handle = self.log_in("PIPELINING")
            seen, reading = self.collect(handle, [1, 2, 3])
            self.server.heard()
            self.server.say(reply(1) + b"-ERR\r\n" + reply(3), size=size)
            self.result(reading)
            self.assertEqual(
                [message.content for message in seen], [letter(1), None, letter(3)]
            )
            self.anew()

    def test_1000_messages_are_fetched_in_batches(self) -> None:
        handle = self.log_in("PIPELINING")
        seen, reading = self.collect(handle, range(1, 1001))
        most = 0
        while heard := self.server.heard():
            numbers = numbers_asked(heard)
            most = max(most, len(numbers))
            self.server.say(b"".join(map(reply, numbers)))
        self.result(reading)
        self.assertEqual(
            seen, [Message(number, letter(number), None) for number in range(1, 1001)]
        )
        # Many round trips at once are what it is for.
        self.assertGreater(most, 10)
        self.in_step(handle)

    def test_message_is_yielded_as_soon_as_it_is_complete(self) -> None:
        handle = self.log_in("PIPELINING")
        seen, reading = self.collect(handle, [1, 2])
        self.server.heard()
        self.server.say(reply(1))
        self.assertEqual([message.number for message in seen], [1])
        self.pending(reading)
        self.server.say(reply(2))
        self.result(reading)

    def test_messages_can_be_deleted_during_iteration(self) -> None:
        # The usual way to empty a mailbox.
        handle = self.log_in("PIPELINING")
        deleting: list[Deferred[None]] = []

        async def work() -> int:
            async for message in handle.messages([1, 2]):
                deleting.append(handle.delete(message.number))
            return len((await handle.disconnect()).deleted)

        working = Deferred.fromCoroutine(work())
        self.assertEqual(numbers_asked(self.server.heard()), [1, 2])
        self.server.say(reply(1))
        self.assertEqual(self.server.heard(), b"DELE 1\r\n")
        self.server.say(reply(2) + b"+OK\r\n")
        self.assertEqual(self.server.heard(), b"DELE 2\r\nQUIT\r\n")
        self.server.say(b"+OK\r\n+OK bye\r\n")
        self.assertEqual(self.result(working), 2)
        self.assertEqual([self.result(one) for one in deleting], [None, None])

    def test_two_concurrent_iterations_get_their_own_messages(self) -> None:
        handle = self.log_in("PIPELINING")
        first, reading_first = self.collect(handle, [1, 2])
        second, reading_second = self.collect(handle, [3, 4])
        self.serve()
        self.result(reading_first)
        self.result(reading_second)
        self.assertEqual([message.content for message in first], [letter(1), letter(2)])
        self.assertEqual([message.number for message in second], [3, 4])
        self.in_step(handle)

    def test_message_marked_for_deletion_is_yielded_with_error(self) -> None:
        handle = self.log_in("PIPELINING")
        asked = handle.delete(1)
        self.server.expect(b"DELE 1", b"+OK\r\n")
        self.result(asked)
        seen, reading = self.collect(handle, [1, 2])
        for number in numbers_asked(self.server.heard()):
            # Whether it is asked for or not: RFC 1939 section 5.
            self.server.say(b"-ERR deleted\r\n" if number == 1 else reply(number))
        self.result(reading)
        self.assertIsNotNone(seen[0].error)
        self.assertEqual(seen[1], Message(2, letter(2), None))


class AheadTests(FetchTestCase):
    """How far it runs ahead of its reader."""

    def test_unread_requests_never_exceed_ahead(self) -> None:
        # Nor is more taken from what names them: it may be endless.
        handle = self.log_in("PIPELINING")
        reader = Reader(handle.messages(itertools.count(1), ahead=5))
        first = reader.next()
        asked = numbers_asked(self.server.heard())
        self.assertEqual(asked, [1, 2, 3, 4, 5])
        self.server.say(b"".join(map(reply, asked)))
        self.assertEqual(self.result(first).number, 1)
        read = 1
        for _ in range(50):
            asked += numbers_asked(self.server.heard())
            # What is asked for and not read yet.
            self.assertLessEqual(len(asked) - read, 5)
            following = reader.next()
            for number in numbers_asked(self.server.heard()):
                asked.append(number)
                self.server.say(reply(number))
            self.assertEqual(self.result(following), (read + 1, letter(read + 1), None))
            read += 1
        self.assertEqual(asked, list(range(1, len(asked) + 1)))
        self.result(reader.leave())
        self.server.say(b"".join(map(reply, numbers_asked(self.server.heard()))))
        self.in_step(handle)

    @shows("RFC 1939-08")
    def test_fewer_messages_are_requested_ahead_if_list_shows_large_sizes(self) -> None:
        # 4 MB each, says LIST: hundreds of them need not be on their way at once.
        handle = self.log_in("PIPELINING")
        reader = Reader(handle.messages())
        first = reader.next()
        rows = b"".join(b"%d 4194304\r\n" % number for number in range(1, 301))
        self.server.expect(b"LIST", b"+OK\r\n" + rows + b".\r\n")
        asked = numbers_asked(self.server.heard())
        self.assertLess(len(asked), 20)
        # And yet all of them in the end; LIST need not have told the truth.
        self.server.say(b"".join(map(reply, asked)))
        self.assertEqual(self.result(first).number, 1)
        for number in range(2, 301):
            following = reader.next()
            self.server.say(b"".join(map(reply, numbers_asked(self.server.heard()))))
            self.assertEqual(self.result(following).number, number)
        self.error(reader.next(), StopAsyncIteration)
        self.in_step(handle)

    def test_ahead_1_requests_messages_one_by_one(self) -> None:
        handle = self.log_in("PIPELINING")
        reader = Reader(handle.messages([1, 2], ahead=1))
        for number in (1, 2):
            following = reader.next()
            self.server.expect(b"RETR %d" % number, reply(number))
            self.assertEqual(self.result(following).number, number)
        self.error(reader.next(), StopAsyncIteration)

    def test_default_ahead_limits_unread_messages(self) -> None:
        handle = self.log_in("PIPELINING")
        reader = Reader(handle.messages(itertools.count(1)))
        first = reader.next()
        asked = 0
        # However much is answered: who reads nothing gets no more than a bound.
        for _ in range(20):
            numbers = numbers_asked(self.server.heard())
            asked += len(numbers)
            self.server.say(b"".join(map(reply, numbers)))
        self.assertEqual(self.result(first).number, 1)
        self.assertLess(asked, 2000)
        self.result(reader.leave())

    def test_nothing_is_sent_before_iteration_starts(self) -> None:
        handle = self.log_in("PIPELINING")
        messages = handle.messages()
        self.assertEqual(self.server.heard(), b"")
        self.result(Reader(messages).leave())
        self.in_step(handle)

    def test_transport_is_paused_while_reader_does_not_read(self) -> None:
        # Large messages: memory is bounded whatever `ahead` says.
        megabyte = b"x" * 1_048_574 + b"\r\n"
        handle = self.log_in("PIPELINING", timeout=7)
        reader = Reader(handle.messages(range(1, 101)))
        following = reader.next()
        served = 0
        unserved: list[int] = []
        while self.server.transport.producerState == "producing":
            unserved += numbers_asked(self.server.heard())
            self.assertLess(served, 64, "all of it is kept in memory")
            if not unserved:
                break
            self.server.say(b"+OK\r\n" + megabyte + b".\r\n")
            del unserved[0]
            served += 1
        # It is the reader who keeps us waiting now.
        self.assertIdle()
        self.clock.advance(3600)
        self.assertEqual(self.result(following), (1, megabyte, None))
        read = 1
        while read < 100:
            following = reader.next()
            if not following.called:
                self.assertEqual(self.server.transport.producerState, "producing")
                unserved += numbers_asked(self.server.heard())
                self.server.say(b"+OK\r\n" + megabyte + b".\r\n")
                del unserved[0]
            read += 1
            self.assertEqual(self.result(following).number, read)
        self.error(reader.next(), StopAsyncIteration)
        self.in_step(handle)

    def stopped(self) -> tuple[Handle, Reader, int]:
        """Return a reader who has stopped the server, and how many are unanswered."""
        megabyte = b"x" * 1_048_574 + b"\r\n"
        handle = self.log_in("PIPELINING")
        reader = Reader(handle.messages(range(1, 101)))
        following = reader.next()
        unserved = 0
        for _ in range(64):
            unserved += len(numbers_asked(self.server.heard()))
            if not unserved or self.server.transport.producerState == "paused":
                break
            self.server.say(b"+OK\r\n" + megabyte + b".\r\n")
            unserved -= 1
        self.result(following)
        return handle, reader, unserved

    def test_another_command_resumes_paused_transport(self) -> None:
        handle, reader, unserved = self.stopped()
        asked = handle.stat()
        self.assertEqual(self.server.transport.producerState, "producing")
        self.assertEqual(self.server.heard(), b"STAT\r\n")
        self.server.say(b"+OK\r\n\r\n.\r\n" * unserved + b"+OK 2 320\r\n")
        self.assertEqual(self.result(asked), (2, 320))
        self.result(reader.leave())

    def test_abort_while_paused_yields_received_messages_then_raises(self) -> None:
        handle, reader, _ = self.stopped()
        self.assertIsNone(self.result(handle.abort()))
        seen = 0
        while True:
            following = reader.next()
            self.server.settle()
            if not isinstance(getattr(following, "result", None), Message):
                break
            self.result(following)
            seen += 1
        # All that had come is told first.
        self.assertGreater(seen, 0)
        self.error(following, ConnectionLostError)
        self.assertIdle()

    def test_closing_iterator_while_paused_resumes_transport(self) -> None:
        handle, reader, unserved = self.stopped()
        self.result(reader.leave())
        self.assertEqual(self.server.transport.producerState, "producing")
        asked = handle.stat()
        self.assertEqual(self.server.heard(), b"STAT\r\n")
        self.server.say(b"+OK\r\n\r\n.\r\n" * unserved + b"+OK 2 320\r\n")
        self.assertEqual(self.result(asked), (2, 320))
        self.assertIdle()


class LeavingTests(FetchTestCase):
    """The loop is left early: the session stays in step."""

    def test_break_drops_requested_messages_and_keeps_session_usable(self) -> None:
        handle = self.log_in("PIPELINING")

        async def work() -> Any:
            async for message in handle.messages([1, 2, 3, 4, 5], ahead=3):
                if message.number == 2:
                    break
            return await handle.stat()

        working = Deferred.fromCoroutine(work())
        asked = numbers_asked(self.server.heard())
        self.server.say(reply(1))
        self.server.say(reply(2))
        # Some may run without reference counting.
        gc.collect()
        heard = self.server.heard()
        self.assertTrue(heard.endswith(b"STAT\r\n"))
        asked += numbers_asked(heard[: -len(b"STAT\r\n")])
        # What is on its way is read and dropped, whatever it is.
        for number in asked[2:]:
            self.server.say(b"-ERR gone\r\n" if number == 3 else reply(number))
        self.server.say(b"+OK 2 320\r\n")
        self.assertEqual(self.result(working), (2, 320))
        self.assertIdle()

    def test_closing_iterator_within_a_message_keeps_session_usable(self) -> None:
        handle = self.log_in("PIPELINING")
        reader = Reader(handle.messages([1, 2, 3]))
        first = reader.next()
        self.server.heard()
        self.server.say(reply(1) + reply(2)[:20])
        self.result(first)
        self.result(reader.leave())
        asked = handle.stat()
        self.server.expect(b"STAT")
        self.server.say(reply(2)[20:] + reply(3) + b"+OK 2 320\r\n")
        self.assertEqual(self.result(asked), (2, 320))
        self.assertIdle()

    def test_closing_iterator_stops_further_requests(self) -> None:
        handle = self.log_in()
        reader = Reader(handle.messages([1, 2, 3]))
        first = reader.next()
        self.server.expect(b"RETR 1", reply(1))
        self.result(first)
        self.result(reader.leave())
        heard = self.server.heard()
        if heard:
            self.assertEqual(heard, b"RETR 2\r\n")
            self.server.say(reply(2))
        self.in_step(handle)

    def test_exception_in_loop_keeps_session_usable(self) -> None:
        handle = self.log_in("PIPELINING")

        async def work() -> None:
            async for _ in handle.messages([1, 2, 3]):
                raise KeyError("oops")

        working = Deferred.fromCoroutine(work())
        self.server.heard()
        self.server.say(reply(1))
        self.error(working, KeyError)
        gc.collect()
        self.server.say(reply(2) + reply(3))
        self.in_step(handle)

    def test_cancelling_while_waiting_for_message_keeps_session_usable(self) -> None:
        handle = self.log_in("PIPELINING")
        seen, reading = self.collect(handle, [1, 2, 3])
        self.server.heard()
        self.server.say(reply(1))
        reading.cancel()
        self.error(reading, CancelledError)
        self.assertEqual(len(seen), 1)
        self.server.say(reply(2) + reply(3))
        self.in_step(handle)

    def test_cancelling_while_waiting_for_list_keeps_session_usable(self) -> None:
        handle = self.log_in("PIPELINING")
        _, reading = self.collect(handle)
        self.server.expect(b"LIST")
        reading.cancel()
        self.error(reading, CancelledError)
        self.server.say(b"+OK\r\n1 17\r\n.\r\n")
        self.in_step(handle)

    def test_nonsense_reply_to_dropped_message_ends_session(self) -> None:
        # Rule 4 does not ask who is waiting.
        handle = self.log_in("PIPELINING")
        reader = Reader(handle.messages([1, 2]))
        first = reader.next()
        self.server.heard()
        self.server.say(reply(1))
        self.result(first)
        self.result(reader.leave())
        self.server.say(b"nonsense\r\n")
        self.error(handle.stat(), ProtocolError)
        self.assertClosed()


class BrokenTests(FetchTestCase):
    """What ends the session is raised, after the messages that had come."""

    def test_connection_loss_is_raised_after_complete_messages(self) -> None:
        handle = self.log_in("PIPELINING")
        seen, reading = self.collect(handle, [1, 2, 3, 4])
        self.server.heard()
        self.server.say(reply(1) + b"-ERR no\r\n" + reply(3)[:-1])
        self.server.lose()
        error = self.error(reading, ConnectionLostError)
        self.assertEqual(error.verb, "RETR")
        # The third may look whole; it is not known to be.
        self.assertEqual([message.number for message in seen], [1, 2])
        self.assertIdle()

    def test_slow_reader_gets_received_messages_before_connection_error(self) -> None:
        handle = self.log_in("PIPELINING")
        reader = Reader(handle.messages([1, 2, 3, 4]))
        first = reader.next()
        self.server.heard()
        self.server.say(reply(1) + reply(2) + reply(3))
        self.server.lose()
        self.assertEqual(self.result(first).number, 1)
        for number in (2, 3):
            self.assertEqual(
                self.result(reader.next()), Message(number, letter(number), None)
            )
        self.error(reader.next(), ConnectionLostError)

    def test_connection_loss_with_endless_numbers_ends_iteration(self) -> None:
        handle = self.log_in("PIPELINING")
        reader = Reader(handle.messages(itertools.count(1), ahead=3))
        first = reader.next()
        asked = numbers_asked(self.server.heard())
        self.server.say(b"".join(map(reply, asked)))
        self.server.lose()
        self.assertEqual(self.result(first).number, 1)
        seen = [1]
        while True:
            following = reader.next()
            if not isinstance(getattr(following, "result", None), Message):
                break
            seen.append(self.result(following).number)
        self.assertEqual(seen, [1, 2, 3])
        self.error(following, ConnectionLostError)

    def test_nonsense_reply_is_raised_after_complete_messages(self) -> None:
        handle = self.log_in("PIPELINING")
        seen, reading = self.collect(handle, [1, 2, 3])
        self.server.heard()
        self.server.say(reply(1) + b"Subject: not a reply\r\n")
        self.error(reading, ProtocolError)
        self.assertEqual([message.number for message in seen], [1])
        self.assertClosed()

    def test_too_large_message_is_raised_after_complete_messages(self) -> None:
        handle = self.log_in("PIPELINING", max_message_size=100)
        seen, reading = self.collect(handle, [1, 2, 3])
        self.server.heard()
        self.server.say(reply(1) + b"+OK\r\n" + b"x" * 1000)
        self.assertIn("max_message_size", str(self.error(reading, ProtocolError)))
        self.assertEqual([message.number for message in seen], [1])
        self.assertClosed()

    def test_timeout_is_raised_after_complete_messages(self) -> None:
        handle = self.log_in("PIPELINING", timeout=7)
        seen, reading = self.collect(handle, [1, 2, 3])
        self.server.heard()
        self.server.say(reply(1))
        self.clock.advance(7.1)
        self.error(reading, TimedOutError)
        self.assertEqual([message.number for message in seen], [1])
        self.assertClosed()

    def test_abort_in_loop_raises_connection_lost(self) -> None:
        handle = self.log_in("PIPELINING")

        async def work() -> None:
            async for _ in handle.messages([1, 2, 3]):
                handle.abort()

        working = Deferred.fromCoroutine(work())
        self.server.heard()
        self.server.say(reply(1))
        self.error(working, ConnectionLostError)
        self.assertClosed()

    def test_abort_in_status_procedure_raises_connection_lost(self) -> None:
        handles: list[Handle] = []

        def procedure(text: str) -> None:
            if text == "C: RETR 2":
                handles[0].abort()

        handle = self.log_in("PIPELINING", stsproc=procedure)
        handles.append(handle)
        _, reading = self.collect(handle, [1, 2, 3])
        self.error(reading, ConnectionLostError)
        self.assertClosed()

    def test_refused_list_is_raised_and_keeps_session_usable(self) -> None:
        handle = self.log_in("PIPELINING")
        _, reading = self.collect(handle)
        self.server.expect(b"LIST", b"-ERR not now\r\n")
        self.assertEqual(self.error(reading, CommandError).verb, "LIST")
        self.in_step(handle)

    def test_iterating_after_connection_loss_raises_connection_lost(self) -> None:
        for arguments in ((), ([1, 2],)):
            handle = self.log_in("PIPELINING")
            self.server.lose()
            _, reading = self.collect(handle, *arguments)
            self.error(reading, ConnectionLostError)
            self.anew()

    def test_iterating_after_disconnect_raises_usage_error(self) -> None:
        handle = self.log_in("PIPELINING")
        leaving = handle.disconnect()
        _, reading = self.collect(handle, [1, 2])
        self.error(reading, UsageError)
        self.server.expect(b"QUIT", b"+OK bye\r\n")
        self.result(leaving)


class ArgumentsTests(FetchTestCase):
    """What cannot be meant is refused."""

    def test_invalid_ahead_is_rejected_before_sending(self) -> None:
        wrong: tuple[Any, ...] = (0, -1, True, 2.0, "3", None)
        for ahead in wrong:
            handle = self.log_in("PIPELINING")
            _, reading = self.collect(handle, [1], ahead=ahead)
            self.server.settle()
            failure = self.failureResultOf(reading, UsageError)
            self.assertIn(repr(ahead), str(failure.value))
            self.assertEqual(self.server.heard(), b"")
            self.in_step(handle)
            self.anew()

    def test_invalid_number_is_rejected_before_sending(self) -> None:
        wrong: tuple[Any, ...] = (0, -1, True, 1.0, "1", "1\r\nDELE 1", None)
        for number in wrong:
            handle = self.log_in("PIPELINING")
            _, reading = self.collect(handle, [number])
            error = self.error(reading, UsageError)
            self.assertIn(repr(number), str(error))
            self.assertEqual(self.server.heard(), b"")
            self.in_step(handle)
            self.anew()

    def test_invalid_number_among_valid_ones_keeps_session_usable(self) -> None:
        handle = self.log_in("PIPELINING")
        _, reading = self.collect(handle, [1, 2, 0, 3])
        for number in numbers_asked(self.server.heard()):
            self.server.say(reply(number))
        self.error(reading, UsageError)
        # What was sent before is read, so that the session stays in step.
        self.in_step(handle)

    def test_exception_in_number_iterable_is_raised(self) -> None:
        def numbers() -> Any:
            yield 1
            raise KeyError("no more")

        handle = self.log_in("PIPELINING")
        _, reading = self.collect(handle, numbers())
        for number in numbers_asked(self.server.heard()):
            self.server.say(reply(number))
        self.error(reading, KeyError)
        self.in_step(handle)

    def test_numbers_that_are_not_iterable_are_rejected(self) -> None:
        handle = self.log_in("PIPELINING")
        _, reading = self.collect(handle, 7)
        self.server.settle()
        error = self.error(reading, UsageError)
        self.assertIn("numbers must be an iterable of message numbers", str(error))
        self.in_step(handle)
