"""
The handle: its commands, streaming, deletions, and the ways to end a session.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IConsumer, IPushProducer
from twisted.internet.testing import StringTransport
from zope.interface import implementer
from zope.interface.verify import verifyObject

from pop3connect import (
    UID,
    CommandError,
    Committed,
    ConnectionLostError,
    Handle,
    Listing,
    ProtocolError,
    Stat,
    TimedOutError,
    UsageError,
)

from .support.memory import NAME, SessionTestCase

LETTER = b"Subject: lo\r\n\r\nand behold\r\n"


class CommandsTests(SessionTestCase):
    """One method a verb (RFC 1939 section 5 and 7)."""

    def ask(self, asked: Deferred[Any], line: bytes, answer: bytes) -> Any:
        self.server.expect(line, answer)
        result = self.result(asked)
        self.assertIdle()
        return result

    def test_stat(self) -> None:
        handle = self.log_in()
        stat = self.ask(handle.stat(), b"STAT", b"+OK 2 320\r\n")
        self.assertIsInstance(stat, Stat)
        self.assertEqual((stat.count, stat.size), (2, 320))

    def test_stat_of_a_very_large_mailbox_and_with_more_text(self) -> None:
        # RFC 1939 section 5: further information is left to the server.
        handle = self.log_in()
        answer = b"+OK 14000000 9876543210123 and no more\r\n"
        stat = self.ask(handle.stat(), b"STAT", answer)
        self.assertEqual(stat, (14_000_000, 9_876_543_210_123))

    def test_list(self) -> None:
        # With holes, out of order, larger than 32 bits: all of it is seen.
        handle = self.log_in()
        body = b"1 120\r\n7 200 more\r\n3   4294967800\r\n"
        listing = self.ask(
            handle.list(), b"LIST", b"+OK 3 messages\r\n" + body + b".\r\n"
        )
        self.assertEqual(listing, [(1, 120), (7, 200), (3, 4_294_967_800)])
        self.assertIsInstance(listing[0], Listing)

    def test_list_of_an_empty_mailbox(self) -> None:
        handle = self.log_in()
        self.assertEqual(self.ask(handle.list(), b"LIST", b"+OK\r\n.\r\n"), [])

    def test_list_of_a_large_mailbox(self) -> None:
        handle = self.log_in()
        body = b"".join(b"%d 17\r\n" % number for number in range(1, 20_001))
        asked = handle.list()
        self.server.expect(b"LIST", b"+OK\r\n")
        self.server.say(body + b".\r\n", size=1460)
        self.assertEqual(
            self.result(asked), [(number, 17) for number in range(1, 20_001)]
        )

    def test_size(self) -> None:
        handle = self.log_in()
        self.assertEqual(self.ask(handle.size(7), b"LIST 7", b"+OK 7 200\r\n"), 200)

    def test_uidl(self) -> None:
        handle = self.log_in()
        body = b"1 whqtswO00WBw418f9t5JxYwZ\r\n2 with blank\r\n3 \xff\r\n"
        uids = self.ask(handle.uidl(), b"UIDL", b"+OK\r\n" + body + b".\r\n")
        self.assertEqual(
            uids, [(1, "whqtswO00WBw418f9t5JxYwZ"), (2, "with blank"), (3, "\udcff")]
        )
        self.assertIsInstance(uids[0], UID)

    def test_uid(self) -> None:
        handle = self.log_in()
        answer = b"+OK 7 QhdPYR:00WBw1Ph7x7\r\n"
        uid = self.ask(handle.uid(7), b"UIDL 7", answer)
        self.assertEqual(uid, "QhdPYR:00WBw1Ph7x7")

    def test_retrieve(self) -> None:
        handle = self.log_in()
        answer = b"+OK 27 octets\r\n" + LETTER + b".\r\n"
        self.assertEqual(self.ask(handle.retrieve(7), b"RETR 7", answer), LETTER)

    def test_a_message_is_what_was_stored(self) -> None:
        # RFC 1939 section 3: a dot is taken from each line that starts with one, and
        # nothing else is touched.
        stored = (
            b"..\r\n.\r\n.x\r\n\r\nbare\nlf, bare\rcr\n.\n.\r.\r\n\0\xff\x1a\r\r\n"
            + bytes(range(256))
            + b"\r\n...\r\n"
        )
        wire = (b"\r\n" + stored).replace(b"\r\n.", b"\r\n..")[2:]
        for size in (None, 1, 2, 3, 5, 8):
            handle = self.log_in()
            asked = handle.retrieve(1)
            self.server.expect(b"RETR 1")
            self.server.say(b"+OK\r\n" + wire + b".\r\n", size=size)
            self.assertEqual(self.result(asked), stored)
            self.anew()

    def test_an_empty_message(self) -> None:
        handle = self.log_in()
        self.assertEqual(self.ask(handle.retrieve(1), b"RETR 1", b"+OK\r\n.\r\n"), b"")

    def test_a_body_follows_whatever_stands_behind_ok(self) -> None:
        # Anything but a blank is odd there, and no reason to take the body for more.
        for odd in (b"+OK\t2 octets", b"+OK, here", b"+OK:", b"+OK\xa0", b"+OK  "):
            handle = self.log_in()
            content, rows = handle.retrieve(1), handle.list()
            self.server.expect(b"RETR 1", odd + b"\r\nx\r\n.\r\n")
            self.server.expect(b"LIST", odd + b"\r\n1 3\r\n.\r\n")
            self.assertEqual(self.result(content), b"x\r\n")
            self.assertEqual(self.result(rows), [(1, 3)])
            self.anew()

    def test_a_message_of_one_very_long_line(self) -> None:
        handle = self.log_in()
        asked = handle.retrieve(1)
        self.server.expect(b"RETR 1", b"+OK\r\n")
        chunk = b"x." * 32_768
        for _ in range(100):
            self.server.say(chunk)
        self.server.say(b"\r\n.\r\n")
        self.assertEqual(self.result(asked), chunk * 100 + b"\r\n")

    def test_top(self) -> None:
        handle = self.log_in()
        answer = b"+OK\r\nSubject: lo\r\n\r\n.\r\n"
        self.assertEqual(
            self.ask(handle.top(7), b"TOP 7 0", answer), b"Subject: lo\r\n\r\n"
        )
        self.assertEqual(
            self.ask(handle.top(7, 20), b"TOP 7 20", answer), b"Subject: lo\r\n\r\n"
        )

    def test_delete_reset_noop(self) -> None:
        handle = self.log_in()
        self.assertIsNone(self.ask(handle.delete(7), b"DELE 7", b"+OK\r\n"))
        self.assertIsNone(self.ask(handle.reset(), b"RSET", b"+OK\r\n"))
        self.assertIsNone(self.ask(handle.noop(), b"NOOP", b"+OK\r\n"))

    def test_capa_is_asked_afresh(self) -> None:
        handle = self.log_in("UIDL")
        answer = b"+OK\r\nUIDL\r\nTOP\r\nEXPIRE 30\r\nLOGIN-DELAY 60\r\n.\r\n"
        capabilities = self.ask(handle.capa(), b"CAPA", answer)
        self.assertEqual(list(capabilities), ["UIDL", "TOP", "EXPIRE", "LOGIN-DELAY"])
        self.assertEqual(capabilities.expire, 30)
        self.assertEqual(capabilities.login_delay, 60)
        # And remembered.
        self.assertIs(handle.capabilities, capabilities)

    def test_capa_that_is_refused_changes_nothing(self) -> None:
        handle = self.log_in("UIDL")
        asked = handle.capa()
        self.server.expect(b"CAPA", b"-ERR not now\r\n")
        self.error(asked, CommandError)
        self.assertIn("UIDL", handle.capabilities)

    def test_a_refusal(self) -> None:
        handle = self.log_in()
        commands: list[tuple[Callable[[], Deferred[Any]], str]] = [
            (handle.stat, "STAT"),
            (handle.list, "LIST"),
            (lambda: handle.size(1), "LIST"),
            (handle.uidl, "UIDL"),
            (lambda: handle.uid(1), "UIDL"),
            (lambda: handle.retrieve(1), "RETR"),
            (lambda: handle.top(1), "TOP"),
            (lambda: handle.delete(1), "DELE"),
            (handle.reset, "RSET"),
            (handle.noop, "NOOP"),
            (handle.capa, "CAPA"),
        ]
        for command, verb in commands:
            asked = command()
            self.server.heard()
            self.server.say(b"-ERR [SYS/TEMP] not today\r\n")
            error = self.error(asked, CommandError)
            self.assertEqual(
                (error.verb, error.code, error.text), (verb, "SYS/TEMP", "not today")
            )
            self.assertEqual(
                str(error), f"{NAME}: {verb}: the server refused: [SYS/TEMP] not today"
            )
            self.assertIdle()

    def test_an_answer_about_another_message(self) -> None:
        # It strikes this command only: the session is in step.
        handle = self.log_in()
        size, uid = handle.size(7), handle.uid(7)
        self.server.expect(b"LIST 7", b"+OK 8 200\r\n")
        self.server.expect(b"UIDL 7", b"+OK 8 abc\r\n")
        for error in self.errors([size, uid], ProtocolError):
            self.assertIn("8", str(error))
        self.assertEqual(self.ask(handle.size(7), b"LIST 7", b"+OK 7 200\r\n"), 200)

    def test_what_is_not_to_be_read(self) -> None:
        bad: list[tuple[str, bytes]] = [
            ("stat", b"+OK\r\n"),
            ("stat", b"+OK two 320\r\n"),
            ("stat", b"+OK 2 " + b"9" * 5000 + b"\r\n"),
            ("list", b"+OK\r\n1\r\n.\r\n"),
            ("list", b"+OK\r\n0 120\r\n.\r\n"),
            ("list", b"+OK\r\n-1 120\r\n.\r\n"),
            ("list", b"+OK\r\n1 120\r\n1 121\r\n.\r\n"),
            ("list", b"+OK\r\n1 " + b"9" * 5000 + b"\r\n.\r\n"),
            ("uidl", b"+OK\r\nabc\r\n.\r\n"),
            ("uidl", b"+OK\r\n1 a\r\n1 b\r\n.\r\n"),
        ]
        handle = self.log_in()
        for name, answer in bad:
            asked = getattr(handle, name)()
            self.server.expect(name.upper().encode(), answer)
            error = self.error(asked, ProtocolError)
            self.assertEqual(error.verb, name.upper())
            self.assertLess(len(str(error)), 1000)
        self.assertEqual(self.ask(handle.stat(), b"STAT", b"+OK 0 0\r\n"), (0, 0))

    def test_control_characters_in_a_bad_answer_are_escaped(self) -> None:
        handle = self.log_in()
        asked = handle.stat()
        self.server.expect(b"STAT", b"+OK \x1b[2J\r\n")
        self.assertTrue(str(self.error(asked, ProtocolError)).isprintable())

    def test_from_a_coroutine(self) -> None:
        handle = self.log_in()

        async def work() -> tuple[int, bytes]:
            count = (await handle.stat()).count
            return count, await handle.retrieve(count)

        working = Deferred.fromCoroutine(work())
        self.server.expect(b"STAT", b"+OK 2 320\r\n")
        self.server.expect(b"RETR 2", b"+OK\r\n" + LETTER + b".\r\n")
        self.assertEqual(self.result(working), (2, LETTER))

    def test_what_it_shows_of_itself(self) -> None:
        handle = self.log_in()
        self.assertEqual(repr(handle), f"<Handle {NAME} logged in>")
        self.result(handle.abort())
        self.assertEqual(repr(handle), f"<Handle {NAME} ended>")


class ArgumentsTests(SessionTestCase):
    """What cannot be meant is refused before anything is sent."""

    def refused(self, call: Callable[[Handle], Deferred[Any]], verb: str) -> str:
        handle = self.log_in()
        error = self.error(call(handle), UsageError)
        self.assertIsInstance(error, ValueError)
        self.assertEqual(error.verb, verb)
        self.assertEqual(self.server.heard(), b"")
        self.assertIdle()
        # And the session is as before.
        asked = handle.noop()
        self.server.expect(b"NOOP", b"+OK\r\n")
        self.assertIsNone(self.result(asked))
        self.anew()
        return str(error)

    NUMBERS: tuple[Any, ...] = (
        0,
        -1,
        # It would be message 1, and is a mistake.
        True,
        1.0,
        "1",
        "1\r\nDELE 2",
        b"1",
        None,
        [1],
    )

    def test_message_numbers(self) -> None:
        commands: list[tuple[Callable[[Handle, Any], Deferred[Any]], str]] = [
            (lambda handle, number: handle.size(number), "LIST"),
            (lambda handle, number: handle.uid(number), "UIDL"),
            (lambda handle, number: handle.retrieve(number), "RETR"),
            (lambda handle, number: handle.top(number), "TOP"),
            (lambda handle, number: handle.delete(number), "DELE"),
        ]
        for command, verb in commands:
            for number in self.NUMBERS:
                text = self.refused(
                    lambda handle, c=command, n=number: c(handle, n), verb
                )
                self.assertIn(repr(number), text)

    def test_numbers_of_lines(self) -> None:
        wrong: tuple[Any, ...] = (-1, False, 1.0, "1", "1\r\nDELE 2", None)
        for lines in wrong:
            self.refused(lambda handle, n=lines: handle.top(1, n), "TOP")

    def test_numbers_too_long_for_a_line(self) -> None:
        # RFC 2449 section 4: 255 octets with CR LF.
        self.refused(lambda handle: handle.retrieve(10**300), "RETR")
        self.refused(lambda handle: handle.delete(10**300), "DELE")
        self.refused(lambda handle: handle.top(1, 10**300), "TOP")

    def test_numbers_too_long_for_python(self) -> None:
        # Above 4300 digits int does not even become text.
        self.refused(lambda handle: handle.retrieve(10**5000), "RETR")
        self.refused(lambda handle: handle.top(1, 10**5000), "TOP")
        self.refused(lambda handle: handle.retrieve(-(10**5000)), "RETR")

    def test_the_consumer_of_a_refused_call_is_left_alone(self) -> None:
        consumer = Consumer()
        self.refused(lambda handle: handle.retrieve(0, consumer), "RETR")
        self.assertEqual(consumer.events, [])


class ConsumerError(Exception):
    """What a consumer of the tests raises."""


@implementer(IConsumer)
class Consumer:
    """
    Remembers what happens to it; ``on_write`` is called with each piece.
    """

    def __init__(self, on_write: Callable[[bytes], object] | None = None) -> None:
        self.events: list[object] = []
        self.producer: Any = None
        self._on_write = on_write

    @property
    def content(self) -> bytes:
        return b"".join(piece for piece in self.events if isinstance(piece, bytes))

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert self.producer is None
        self.producer = producer
        self.events.append(("registered", streaming))

    def unregisterProducer(self) -> None:
        assert self.producer is not None
        self.producer = None
        self.events.append("unregistered")

    def write(self, data: bytes) -> None:
        assert self.producer is not None
        self.events.append(data)
        if self._on_write is not None:
            self._on_write(data)


class StreamingTestCase(SessionTestCase):
    """One message into one consumer."""

    def stream(
        self, consumer: Any, *capabilities: str, said: bytes = b"", **options: Any
    ) -> tuple[Handle, Deferred[int]]:
        handle = self.log_in(*capabilities, **options)
        asked = handle.retrieve(1, consumer)
        self.server.expect(b"RETR 1", b"+OK\r\n" + said)
        return handle, asked

    def assertReleased(self, consumer: Consumer) -> None:
        self.assertIsNone(consumer.producer)
        self.assertEqual(consumer.events.count("unregistered"), 1)

    def paused(self) -> bool:
        return self.server.transport.producerState == "paused"


class StreamingTests(StreamingTestCase):
    """A message into an `IConsumer` goes well."""

    def test_it_is_written_as_it_comes(self) -> None:
        consumer = Consumer()
        _, asked = self.stream(consumer, said=b"Subject: ")
        self.assertEqual(consumer.content, b"Subject: ")
        self.assertTrue(verifyObject(IPushProducer, consumer.producer))
        self.server.say(b"lo\r\n\r\n..dot\r\n")
        self.assertEqual(consumer.content[:20], b"Subject: lo\r\n\r\n.dot")
        self.pending(asked)
        self.server.say(b".\r\n")
        self.assertEqual(self.result(asked), 21)
        self.assertEqual(consumer.content, b"Subject: lo\r\n\r\n.dot\r\n")
        # IConsumer: a push producer, which does not wait to be asked.
        self.assertEqual(consumer.events[0], ("registered", True))
        self.assertEqual(consumer.events[-1], "unregistered")
        self.assertReleased(consumer)
        self.assertIdle()

    def test_octet_by_octet(self) -> None:
        consumer = Consumer()
        _, asked = self.stream(consumer)
        self.server.say(LETTER + b".\r\n", size=1)
        self.assertEqual(self.result(asked), len(LETTER))
        self.assertEqual(consumer.content, LETTER)
        self.assertReleased(consumer)

    def test_an_empty_message(self) -> None:
        consumer = Consumer()
        _, asked = self.stream(consumer, said=b".\r\n")
        self.assertEqual(self.result(asked), 0)
        self.assertEqual(consumer.events, [("registered", True), "unregistered"])

    def test_a_refused_message_leaves_the_consumer_alone(self) -> None:
        consumer = Consumer()
        handle = self.log_in()
        asked = handle.retrieve(1, consumer)
        self.server.expect(b"RETR 1", b"-ERR no such message\r\n")
        self.error(asked, CommandError)
        self.assertEqual(consumer.events, [])

    def test_any_consumer_will_do(self) -> None:
        transport = StringTransport()
        _, asked = self.stream(transport, said=LETTER + b".\r\n")
        self.assertEqual(self.result(asked), len(LETTER))
        self.assertEqual(transport.value(), LETTER)
        self.assertIsNone(transport.producer)

    def test_one_after_another_into_the_same_consumer(self) -> None:
        handle = self.log_in("PIPELINING")
        consumer = Consumer()
        asked = [handle.retrieve(number, consumer) for number in (1, 2)]
        self.server.heard()
        self.server.say(b"+OK\r\none\r\n.\r\n+OK\r\nthree\r\n.\r\n")
        self.assertEqual([self.result(one) for one in asked], [5, 7])
        self.assertEqual(
            consumer.events,
            [
                ("registered", True),
                b"one\r\n",
                "unregistered",
                ("registered", True),
                b"three\r\n",
                "unregistered",
            ],
        )

    def test_the_consumer_is_released_before_it_is_told(self) -> None:
        # Rule 3: the Deferred fires last.
        consumer = Consumer()
        _, asked = self.stream(consumer)
        asked.addCallback(lambda _: self.assertReleased(consumer))
        self.server.say(LETTER + b".\r\n")
        self.result(asked)

    def test_a_consumer_that_pauses_pauses_the_transport(self) -> None:
        consumer = Consumer()
        _, asked = self.stream(consumer, said=b"Subject: lo\r\n")
        consumer.producer.pauseProducing()
        self.assertTrue(self.paused())
        consumer.producer.resumeProducing()
        self.assertFalse(self.paused())
        self.server.say(b".\r\n")
        self.assertEqual(self.result(asked), 13)

    def test_no_time_runs_while_the_consumer_pauses(self) -> None:
        # It is not the server that keeps us waiting.
        consumer = Consumer()
        _, asked = self.stream(consumer, said=b"Subject: lo\r\n", timeout=7)
        consumer.producer.pauseProducing()
        self.assertIdle()
        self.clock.advance(3600)
        self.pending(asked)
        consumer.producer.resumeProducing()
        # And then the server has its whole time again.
        self.clock.advance(6.9)
        self.pending(asked)
        self.clock.advance(0.2)
        self.error(asked, TimedOutError)
        self.assertReleased(consumer)

    def test_no_time_runs_for_other_commands_either(self) -> None:
        handle_consumer = Consumer()
        handle, asked = self.stream(
            handle_consumer, "PIPELINING", said=b"Subject: lo\r\n", timeout=7
        )
        handle_consumer.producer.pauseProducing()
        other = handle.noop()
        self.assertIdle()
        self.clock.advance(3600)
        self.pending(asked, other)
        handle_consumer.producer.resumeProducing()
        self.server.say(b".\r\n+OK\r\n")
        self.assertEqual(self.result(asked), 13)
        self.assertIsNone(self.result(other))

    def test_pausing_and_resuming_twice(self) -> None:
        consumer = Consumer()
        _, asked = self.stream(consumer, said=b"Subject: lo\r\n")
        for _ in range(2):
            consumer.producer.pauseProducing()
        self.assertTrue(self.paused())
        for _ in range(2):
            consumer.producer.resumeProducing()
        self.assertFalse(self.paused())
        self.server.say(b".\r\n")
        self.assertEqual(self.result(asked), 13)
        self.assertIdle()

    def test_what_is_on_its_way_already_is_written_while_paused(self) -> None:
        consumer = Consumer()
        _, asked = self.stream(consumer, said=b"Subject: lo\r\n")
        consumer.producer.pauseProducing()
        self.server.say(b"\r\n")
        consumer.producer.resumeProducing()
        self.server.say(b"text\r\n.\r\n")
        self.assertEqual(self.result(asked), 21)
        self.assertEqual(consumer.content, b"Subject: lo\r\n\r\ntext\r\n")

    def test_the_end_comes_while_paused(self) -> None:
        # Whoever comes next does not suffer for it.
        consumer = Consumer(lambda _: consumer.producer.pauseProducing())
        handle, asked = self.stream(consumer, said=LETTER + b".\r\n")
        self.assertEqual(self.result(asked), len(LETTER))
        self.assertFalse(self.paused())
        self.assertReleased(consumer)
        self.assertIdle()
        other = handle.noop()
        self.server.expect(b"NOOP", b"+OK\r\n")
        self.assertIsNone(self.result(other))

    def test_a_consumer_that_pauses_as_soon_as_it_is_registered(self) -> None:
        class Shy(Consumer):
            def registerProducer(self, producer: Any, streaming: bool) -> None:
                super().registerProducer(producer, streaming)
                producer.pauseProducing()

        consumer = Shy()
        _, asked = self.stream(consumer)
        self.assertTrue(self.paused())
        self.assertIdle()
        consumer.producer.resumeProducing()
        self.server.say(LETTER + b".\r\n")
        self.assertEqual(self.result(asked), len(LETTER))

    def test_a_producer_has_no_say_after_the_end(self) -> None:
        consumer = Consumer()
        handle, asked = self.stream(consumer)
        producer = consumer.producer
        self.server.say(LETTER + b".\r\n")
        self.result(asked)
        producer.pauseProducing()
        self.assertFalse(self.paused())
        producer.resumeProducing()
        producer.stopProducing()
        other = handle.noop()
        self.server.expect(b"NOOP", b"+OK\r\n")
        self.assertIsNone(self.result(other))


class BrokenStreamingTests(StreamingTestCase):
    """A message into an `IConsumer` does not come to its end."""

    def over(
        self, handle: Handle, others: list[Deferred[Any]], aborting: bool = True
    ) -> None:
        for error in self.errors([*others, handle.stat()], ConnectionLostError):
            self.assertIsNotNone(error.verb)
        self.assertEqual(self.server.transport.aborting, aborting)
        self.assertIdle()
        self.assertIsNone(self.result(handle.when_closed()))

    def test_a_consumer_that_raises(self) -> None:
        # Who asked gets the consumer's own exception; the rest of the message
        # would have to be read, so the session ends.
        reason = ConsumerError("disk full")

        def full(_: bytes) -> None:
            raise reason

        consumer = Consumer(full)
        handle = self.log_in("PIPELINING")
        asked, other = handle.retrieve(1, consumer), handle.noop()
        self.server.heard()
        self.server.say(b"+OK\r\n" + LETTER + b".\r\n+OK\r\n")
        self.assertIs(self.error(asked, ConsumerError), reason)
        error = self.error(other, ConnectionLostError)
        self.assertIn("consumer", str(error))
        self.assertIs(error.__cause__, reason)
        self.assertReleased(consumer)
        self.over(handle, [])

    def test_a_consumer_that_refuses_us(self) -> None:
        class Busy(Consumer):
            def registerProducer(self, producer: Any, streaming: bool) -> None:
                raise ConsumerError("busy")

            def unregisterProducer(self) -> None:
                # IConsumer says nothing of who may call this; not who was refused.
                self.events.append("unregistered")

        consumer = Busy()
        handle, asked = self.stream(consumer)
        self.error(asked, ConsumerError)
        self.assertEqual(consumer.events, [])
        self.over(handle, [])

    def test_a_consumer_that_has_a_producer_keeps_it(self) -> None:
        transport = StringTransport()
        theirs = object()
        transport.registerProducer(theirs, True)
        handle, asked = self.stream(transport)
        self.error(asked, RuntimeError)
        self.assertIs(transport.producer, theirs)
        self.over(handle, [])

    def test_a_consumer_that_does_not_let_go(self) -> None:
        # The message is there, and all of it has been read: the session goes on.
        class Sticky(Consumer):
            def unregisterProducer(self) -> None:
                raise ConsumerError("no")

        handle, asked = self.stream(Sticky(), said=LETTER + b".\r\n")
        self.error(asked, ConsumerError)
        other = handle.noop()
        self.server.expect(b"NOOP", b"+OK\r\n")
        self.assertIsNone(self.result(other))

    def test_a_consumer_that_does_not_let_go_at_the_end_of_the_session(self) -> None:
        class Sticky(Consumer):
            def unregisterProducer(self) -> None:
                raise ConsumerError("no")

        handle, asked = self.stream(Sticky(), said=LETTER)
        other = handle.noop()
        self.server.lose()
        self.errors([asked, other], ConnectionLostError)
        self.assertEqual(len(self.flushLoggedErrors(ConsumerError)), 1)

    def test_a_consumer_that_stops(self) -> None:
        consumer = Consumer()
        handle, asked = self.stream(consumer, said=LETTER)
        other = handle.noop()
        consumer.producer.stopProducing()
        self.assertEqual(self.error(asked, ConnectionLostError).verb, "RETR")
        self.assertReleased(consumer)
        self.over(handle, [other])

    def test_a_consumer_that_stops_when_it_is_written_to(self) -> None:
        for end in (b"", b".\r\n"):
            consumer = Consumer(lambda _: consumer.producer.stopProducing())  # noqa: B023
            handle, asked = self.stream(consumer, said=LETTER + end)
            self.error(asked, ConnectionLostError)
            self.assertEqual(consumer.content.rstrip(), LETTER.rstrip())
            self.assertReleased(consumer)
            self.over(handle, [])
            self.anew()

    def test_nothing_is_written_to_a_consumer_that_has_stopped(self) -> None:
        # Even if the piece of which it got the first part goes on.
        consumer = Consumer(lambda _: consumer.producer.stopProducing())
        handle, asked = self.stream(
            consumer, said=b"one\r\n..\r\ntwo\r\n..\r\nthree\r\n.\r\n"
        )
        self.error(asked, ConnectionLostError)
        self.assertReleased(consumer)
        self.assertEqual(consumer.events[-1], "unregistered")
        self.over(handle, [])

    def test_a_consumer_that_stops_as_soon_as_it_is_registered(self) -> None:
        class Unwilling(Consumer):
            def registerProducer(self, producer: Any, streaming: bool) -> None:
                super().registerProducer(producer, streaming)
                producer.stopProducing()

        consumer = Unwilling()
        handle, asked = self.stream(consumer, said=LETTER + b".\r\n")
        self.error(asked, ConnectionLostError)
        self.assertEqual(consumer.content, b"")
        self.assertReleased(consumer)
        self.over(handle, [])

    def test_a_consumer_that_stops_at_a_message_that_is_too_large(self) -> None:
        consumer = Consumer(lambda _: consumer.producer.stopProducing())
        handle, asked = self.stream(consumer, said=LETTER, max_message_size=5)
        self.error(asked, ConnectionLostError)
        self.assertReleased(consumer)
        self.over(handle, [])

    def test_a_consumer_that_ends_the_session_and_raises(self) -> None:
        handles: list[Handle] = []

        def furious(_: bytes) -> None:
            handles[0].abort()
            raise ConsumerError

        consumer = Consumer(furious)
        handle = self.log_in()
        handles.append(handle)
        asked = handle.retrieve(1, consumer)
        self.server.expect(b"RETR 1", b"+OK\r\n" + LETTER)
        self.server.settle()
        # Either is true.
        self.failureResultOf(asked, ConsumerError, ConnectionLostError)
        self.assertReleased(consumer)
        self.over(handle, [])

    def test_the_connection_is_lost(self) -> None:
        consumer = Consumer()
        handle, asked = self.stream(consumer, said=LETTER)
        self.server.lose()
        self.assertEqual(self.error(asked, ConnectionLostError).verb, "RETR")
        self.assertEqual(consumer.content, LETTER[:-2])
        self.assertReleased(consumer)
        self.over(handle, [], aborting=False)

    def test_the_connection_is_lost_while_paused(self) -> None:
        consumer = Consumer()
        handle, asked = self.stream(consumer, said=LETTER)
        consumer.producer.pauseProducing()
        self.server.lose()
        self.error(asked, ConnectionLostError)
        self.assertReleased(consumer)
        self.over(handle, [], aborting=False)

    def test_the_session_is_aborted_while_paused(self) -> None:
        consumer = Consumer()
        handle, asked = self.stream(consumer, said=LETTER)
        consumer.producer.pauseProducing()
        aborted = handle.abort()
        self.error(asked, ConnectionLostError)
        self.assertIsNone(self.result(aborted))
        self.assertReleased(consumer)
        self.over(handle, [])

    def test_it_is_cancelled(self) -> None:
        consumer = Consumer()
        handle, asked = self.stream(consumer, said=LETTER)
        asked.cancel()
        self.error(asked, CancelledError)
        self.assertReleased(consumer)
        self.over(handle, [])

    def test_it_is_cancelled_before_it_begins(self) -> None:
        consumer = Consumer()
        handle = self.log_in()
        asked, other = handle.retrieve(1, consumer), handle.noop()
        asked.cancel()
        self.error(asked, CancelledError)
        self.server.expect(b"RETR 1", b"+OK\r\n" + LETTER + b".\r\n")
        self.server.expect(b"NOOP", b"+OK\r\n")
        self.assertIsNone(self.result(other))
        self.assertEqual(consumer.events, [])

    def test_it_takes_too_long(self) -> None:
        consumer = Consumer()
        _, asked = self.stream(consumer, said=LETTER, timeout=7)
        self.clock.advance(7.1)
        self.assertEqual(self.error(asked, TimedOutError).verb, "RETR")
        self.assertReleased(consumer)
        self.assertClosed()


class MessageSizeTests(StreamingTestCase):
    """max_message_size."""

    def too_large(self, asked: Deferred[Any]) -> None:
        error = self.error(asked, ProtocolError)
        self.assertIn("max_message_size=1000", str(error))
        self.assertTrue(self.server.transport.aborting)
        self.assertClosed()

    def test_a_message_that_is_longer(self) -> None:
        handle = self.log_in(max_message_size=1000)
        asked, other = handle.retrieve(1), handle.noop()
        self.server.expect(b"RETR 1", b"+OK\r\n")
        self.server.say(b"x" * 1001)
        self.too_large(asked)
        self.error(other, ProtocolError)

    def test_a_message_that_is_longer_and_all_there(self) -> None:
        handle = self.log_in(max_message_size=1000)
        asked = handle.retrieve(1)
        self.server.expect(b"RETR 1", b"+OK\r\n" + b"x" * 999 + b"\r\n.\r\n")
        self.too_large(asked)

    def test_a_message_that_just_fits(self) -> None:
        # Octets of the message, without what the transfer adds.
        handle = self.log_in(max_message_size=1000)
        asked = handle.retrieve(1)
        self.server.expect(b"RETR 1", b"+OK\r\n...\r\n" + b"x" * 994 + b"\r\n.\r\n")
        self.assertEqual(len(self.result(asked)), 1000)

    def test_a_stream_that_is_longer(self) -> None:
        consumer = Consumer()
        _, asked = self.stream(consumer, said=b"x" * 600, max_message_size=1000)
        self.pending(asked)
        self.server.say(b"x" * 600)
        self.too_large(asked)
        self.assertReleased(consumer)

    def test_the_top_of_a_message(self) -> None:
        handle = self.log_in(max_message_size=1000)
        asked = handle.top(1, 100)
        self.server.expect(b"TOP 1 100", b"+OK\r\n" + b"x" * 1001)
        self.too_large(asked)

    def test_a_listing_is_no_message(self) -> None:
        handle = self.log_in(max_message_size=1000)
        asked = handle.list()
        body = b"".join(b"%d 17\r\n" % number for number in range(1, 501))
        self.server.expect(b"LIST", b"+OK\r\n" + body + b".\r\n")
        self.assertEqual(len(self.result(asked)), 500)

    def test_without_one_there_is_no_limit(self) -> None:
        handle = self.log_in()
        asked = handle.retrieve(1)
        self.server.expect(b"RETR 1", b"+OK\r\n" + b"x" * 5_000_000 + b"\r\n.\r\n")
        self.assertEqual(len(self.result(asked)), 5_000_002)


class DeletionTests(SessionTestCase):
    """DELE marks, RSET unmarks, and QUIT deletes (RFC 1939 sections 5 and 6)."""

    def answer(
        self, asked: Deferred[Any], line: bytes, answer: bytes = b"+OK\r\n"
    ) -> Any:
        self.server.expect(line, answer)
        return self.result(asked)

    def deleted(self, handle: Handle) -> frozenset[int]:
        committed = self.answer(handle.disconnect(), b"QUIT")
        self.assertIsInstance(committed, Committed)
        self.assertIsInstance(committed.deleted, frozenset)
        self.assertClosed()
        deleted: frozenset[int] = committed.deleted
        return deleted

    def test_what_was_deleted_is_told(self) -> None:
        handle = self.log_in()
        for number in (3, 1):
            self.answer(handle.delete(number), b"DELE %d" % number)
        self.assertEqual(self.deleted(handle), {1, 3})

    def test_what_was_refused_is_not(self) -> None:
        handle = self.log_in()
        self.answer(handle.delete(1), b"DELE 1")
        refused = handle.delete(2)
        self.server.expect(b"DELE 2", b"-ERR message 2 already deleted\r\n")
        self.error(refused, CommandError)
        self.assertEqual(self.deleted(handle), {1})

    def test_what_was_unmarked_is_not(self) -> None:
        handle = self.log_in()
        self.answer(handle.delete(1), b"DELE 1")
        self.answer(handle.reset(), b"RSET")
        self.answer(handle.delete(2), b"DELE 2")
        self.assertEqual(self.deleted(handle), {2})

    def test_a_refused_reset_unmarks_nothing(self) -> None:
        handle = self.log_in()
        self.answer(handle.delete(1), b"DELE 1")
        refused = handle.reset()
        self.server.expect(b"RSET", b"-ERR not now\r\n")
        self.error(refused, CommandError)
        self.error(handle.retrieve(1), UsageError)
        self.assertEqual(self.deleted(handle), {1})

    def test_all_of_it_at_once(self) -> None:
        handle = self.log_in("PIPELINING")
        asked: list[Deferred[Any]] = [
            handle.delete(1),
            handle.reset(),
            handle.delete(1),
            handle.delete(2),
            handle.delete(3),
            handle.disconnect(),
        ]
        self.assertEqual(
            self.server.heard(),
            b"DELE 1\r\nRSET\r\nDELE 1\r\nDELE 2\r\nDELE 3\r\nQUIT\r\n",
        )
        self.server.say(b"+OK\r\n+OK\r\n+OK\r\n-ERR\r\n+OK\r\n+OK bye\r\n")
        self.error(asked[3], CommandError)
        self.assertEqual(self.result(asked[5]).deleted, {1, 3})

    def test_a_deletion_cancelled_too_late_counts(self) -> None:
        # It was sent, so it has happened.
        handle = self.log_in()
        asked = handle.delete(1)
        asked.cancel()
        self.error(asked, CancelledError)
        self.server.expect(b"DELE 1", b"+OK\r\n")
        self.assertEqual(self.deleted(handle), {1})

    def test_a_reset_cancelled_too_late_counts(self) -> None:
        handle = self.log_in()
        self.answer(handle.delete(1), b"DELE 1")
        asked = handle.reset()
        asked.cancel()
        self.error(asked, CancelledError)
        self.server.expect(b"RSET", b"+OK\r\n")
        self.answer(handle.size(1), b"LIST 1", b"+OK 1 17\r\n")
        self.assertEqual(self.deleted(handle), set())

    def test_a_deletion_cancelled_in_time_does_not_count(self) -> None:
        handle = self.log_in()
        first, second = handle.noop(), handle.delete(1)
        second.cancel()
        self.error(second, CancelledError)
        self.answer(first, b"NOOP")
        self.assertEqual(self.deleted(handle), set())

    def test_a_marked_message_is_not_asked_for(self) -> None:
        # RFC 1939 section 5: any reference to it is an error.
        handle = self.log_in()
        self.answer(handle.delete(1), b"DELE 1")
        asked: list[tuple[str, Deferred[Any]]] = [
            ("RETR", handle.retrieve(1)),
            ("TOP", handle.top(1)),
            ("LIST", handle.size(1)),
            ("UIDL", handle.uid(1)),
            ("DELE", handle.delete(1)),
        ]
        for verb, one in asked:
            error = self.error(one, UsageError)
            self.assertEqual(error.verb, verb)
            self.assertIn("reset()", str(error))
        self.assertEqual(self.server.heard(), b"")
        self.assertEqual(self.deleted(handle), {1})

    def test_a_message_that_is_about_to_be_unmarked_may_be_asked_for(self) -> None:
        handle = self.log_in("PIPELINING")
        self.answer(handle.delete(1), b"DELE 1")
        reset, size = handle.reset(), handle.size(1)
        self.assertEqual(self.server.heard(), b"RSET\r\nLIST 1\r\n")
        self.server.say(b"+OK\r\n+OK 1 17\r\n")
        self.result(reset)
        self.assertEqual(self.result(size), 17)

    def test_abort_deletes_nothing(self) -> None:
        # RFC 1939 section 6: only QUIT leads to the UPDATE state.
        handle = self.log_in()
        self.answer(handle.delete(1), b"DELE 1")
        self.assertIsNone(self.result(handle.abort()))
        self.assertEqual(self.server.heard(), b"")
        self.assertTrue(self.server.transport.aborting)


class DisconnectTests(SessionTestCase):
    """QUIT (RFC 1939 section 6)."""

    def marked(self, **options: Any) -> Handle:
        handle = self.log_in(**options)
        asked = handle.delete(1)
        self.server.expect(b"DELE 1", b"+OK\r\n")
        self.result(asked)
        return handle

    def test_it_is_answered(self) -> None:
        handle = self.log_in()
        leaving = handle.disconnect()
        self.server.expect(b"QUIT", b"+OK bye\r\n")
        self.assertEqual(self.result(leaving), Committed(frozenset()))
        self.assertFalse(self.server.transport.aborting)
        self.assertClosed()

    def test_it_comes_after_what_was_asked_before(self) -> None:
        handle = self.log_in()
        asked, leaving = handle.stat(), handle.disconnect()
        self.server.expect(b"STAT", b"+OK 2 320\r\n")
        self.assertEqual(self.result(asked), (2, 320))
        self.server.expect(b"QUIT", b"+OK bye\r\n")
        self.result(leaving)

    def test_it_is_refused(self) -> None:
        # RFC 1939 section 6: some of the marked messages were not removed.
        handle = self.marked()
        leaving = handle.disconnect()
        self.server.expect(b"QUIT", b"-ERR some messages not removed\r\n")
        error = self.error(leaving, CommandError)
        self.assertEqual(error.verb, "QUIT")
        self.assertEqual(error.text, "some messages not removed")
        self.assertClosed()

    def test_it_is_refused_and_nothing_was_marked(self) -> None:
        handle = self.log_in()
        leaving = handle.disconnect()
        self.server.expect(b"QUIT", b"-ERR what?\r\n")
        self.error(leaving, CommandError)
        self.assertClosed()

    def hung_up(self, handle: Handle) -> Deferred[Committed]:
        leaving = handle.disconnect()
        self.server.expect(b"QUIT")
        self.server.lose(ConnectionDone())
        return leaving

    def test_the_server_closes_instead_of_answering(self) -> None:
        # With something marked, nobody knows what has become of it.
        error = self.error(self.hung_up(self.marked()), ConnectionLostError)
        self.assertEqual(error.verb, "QUIT")
        self.assertIn("before QUIT was answered", str(error))
        self.assertIdle()

    def test_the_server_closes_and_nothing_was_marked(self) -> None:
        # Many do just that.
        committed = self.result(self.hung_up(self.log_in()))
        self.assertEqual(committed, Committed(frozenset()))
        self.assertIdle()

    def test_the_server_closes_and_all_marks_were_undone(self) -> None:
        handle = self.marked()
        asked = handle.reset()
        self.server.expect(b"RSET", b"+OK\r\n")
        self.result(asked)
        self.assertEqual(self.result(self.hung_up(handle)), Committed(frozenset()))

    def test_the_server_closes_and_every_mark_was_refused(self) -> None:
        handle = self.log_in()
        refused, wrong = handle.delete(1), handle.delete(0)
        self.server.expect(b"DELE 1", b"-ERR no such message\r\n")
        self.error(refused, CommandError)
        self.error(wrong, UsageError)
        self.assertEqual(self.result(self.hung_up(handle)), Committed(frozenset()))

    def test_the_server_closes_before_a_mark_was_answered(self) -> None:
        handle = self.log_in("PIPELINING")
        asked, leaving = handle.delete(1), handle.disconnect()
        self.server.heard()
        self.server.lose(ConnectionDone())
        self.errors([asked, leaving], ConnectionLostError)

    def test_it_is_never_answered(self) -> None:
        handle = self.marked(timeout=7)
        leaving = handle.disconnect()
        self.server.expect(b"QUIT")
        self.clock.advance(6.9)
        self.pending(leaving)
        self.clock.advance(0.2)
        error = self.error(leaving, TimedOutError)
        self.assertEqual(error.verb, "QUIT")
        self.assertEqual(error.phase, "reply")
        self.assertClosed()

    def test_it_is_never_answered_and_nothing_was_marked(self) -> None:
        handle = self.log_in(timeout=7)
        leaving = handle.disconnect()
        self.server.expect(b"QUIT")
        self.clock.advance(7.1)
        self.error(leaving, TimedOutError)
        self.assertClosed()

    def test_the_answer_makes_no_sense(self) -> None:
        leaving = self.marked().disconnect()
        self.server.expect(b"QUIT", b"good bye\r\n")
        self.assertEqual(self.error(leaving, ProtocolError).verb, "QUIT")
        self.assertClosed()

    def test_more_behind_the_answer_is_of_no_account(self) -> None:
        # It is answered; what comes then cannot undo it.
        leaving = self.marked().disconnect()
        self.server.expect(b"QUIT", b"+OK bye\r\nand good luck\r\n")
        self.assertEqual(self.result(leaving), Committed(frozenset({1})))
        self.assertClosed()

    def test_twice(self) -> None:
        handle = self.marked()
        first, second = handle.disconnect(), handle.disconnect()
        self.server.expect(b"QUIT", b"+OK bye\r\n")
        third = handle.disconnect()
        for leaving in (first, second, third):
            self.assertEqual(self.result(leaving), Committed(frozenset({1})))
        self.assertEqual(self.server.heard(), b"")

    def test_twice_and_refused(self) -> None:
        handle = self.marked()
        first, second = handle.disconnect(), handle.disconnect()
        self.server.expect(b"QUIT", b"-ERR some remain\r\n")
        for leaving in (first, second, handle.disconnect()):
            self.assertEqual(self.error(leaving, CommandError).text, "some remain")

    def test_giving_up_on_it_does_not_stop_it(self) -> None:
        handle = self.marked()
        first, second = handle.disconnect(), handle.disconnect()
        first.cancel()
        self.error(first, CancelledError)
        self.server.expect(b"QUIT", b"+OK bye\r\n")
        self.assertEqual(self.result(second), Committed(frozenset({1})))
        self.assertClosed()

    def test_a_failure_that_nobody_waits_for_is_not_logged(self) -> None:
        handle = self.marked()
        leaving = handle.disconnect()
        leaving.cancel()
        self.error(leaving, CancelledError)
        self.server.expect(b"QUIT", b"-ERR some remain\r\n")
        self.assertClosed()
        del handle, leaving
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_nothing_can_be_asked_any_more(self) -> None:
        handle = self.log_in()
        leaving = handle.disconnect()
        # RFC 1939 section 6: no command is allowed in the UPDATE state.
        early = self.error(handle.noop(), UsageError)
        self.assertEqual(early.verb, "NOOP")
        self.assertIn("QUIT", str(early))
        self.server.expect(b"QUIT", b"+OK bye\r\n")
        self.result(leaving)
        late = self.error(handle.noop(), ConnectionLostError)
        self.assertEqual(late.verb, "NOOP")
        self.assertIn("disconnect()", str(late))
        self.assertEqual(self.server.heard(), b"")

    def test_the_session_is_lost_already(self) -> None:
        handle = self.log_in()
        self.server.lose()
        self.error(handle.disconnect(), ConnectionLostError)
        self.assertIdle()

    def test_the_session_is_aborted_already(self) -> None:
        handle = self.marked()
        self.result(handle.abort())
        error = self.error(handle.disconnect(), ConnectionLostError)
        self.assertIn("abort()", str(error))

    def test_aborted_while_it_is_under_way(self) -> None:
        handle = self.marked()
        leaving, aborted = handle.disconnect(), handle.abort()
        self.assertIsNone(self.result(aborted))
        self.error(leaving, ConnectionLostError)
        self.assertTrue(self.server.transport.aborting)
        self.assertClosed()

    def test_the_first_reason_stays(self) -> None:
        handle = self.log_in()
        self.server.lose()
        self.result(handle.abort())
        self.error(handle.disconnect(), ConnectionLostError)
        error = self.error(handle.noop(), ConnectionLostError)
        self.assertIn("the connection was lost", str(error))

    def test_aborting_fails_what_is_pending(self) -> None:
        handle = self.log_in("PIPELINING")
        asked: list[Deferred[Any]] = [handle.stat(), handle.retrieve(1)]
        handle.abort()
        errors = self.errors(asked, ConnectionLostError)
        self.assertEqual([error.verb for error in errors], ["STAT", "RETR"])
        for error in errors:
            self.assertIn("abort()", str(error))
        self.assertClosed()


class WithTests(SessionTestCase):
    """``async with await connect(...) as handle``."""

    def begin(self, body: Callable[[Handle], Any]) -> Deferred[Any]:
        async def work() -> Any:
            async with await self.open() as handle:
                self.handle = handle
                return await body(handle)

        working = Deferred.fromCoroutine(work())
        self.server.say(b"+OK\r\n")
        self.server.expect(b"CAPA", b"-ERR\r\n")
        self.server.expect(b"USER ada", b"+OK\r\n")
        self.server.expect(b"PASS lovelace", b"+OK\r\n")
        self.server.expect(b"CAPA", b"-ERR\r\n")
        return working

    def test_it_is_left_with_quit(self) -> None:
        async def body(handle: Handle) -> str:
            await handle.delete(1)
            return "done"

        working = self.begin(body)
        self.server.expect(b"DELE 1", b"+OK\r\n")
        self.pending(working)
        self.server.expect(b"QUIT", b"+OK bye\r\n")
        self.assertEqual(self.result(working), "done")
        self.assertClosed()

    def test_it_is_left_without_quit_on_an_exception(self) -> None:
        # What was marked stays: somebody was in the middle of something.
        reason = KeyError("oops")

        async def body(handle: Handle) -> None:
            await handle.delete(1)
            raise reason

        working = self.begin(body)
        self.server.expect(b"DELE 1", b"+OK\r\n")
        self.assertIs(self.error(working, KeyError), reason)
        self.assertEqual(self.server.heard(), b"")
        self.assertTrue(self.server.transport.aborting)
        self.assertClosed()

    def test_a_refusal_is_an_exception_too(self) -> None:
        working = self.begin(lambda handle: handle.retrieve(1))
        self.server.expect(b"RETR 1", b"-ERR no\r\n")
        self.error(working, CommandError)
        self.assertEqual(self.server.heard(), b"")
        self.assertClosed()

    def test_cancelling_within_closes(self) -> None:
        working = self.begin(lambda handle: handle.retrieve(1))
        self.server.expect(b"RETR 1")
        working.cancel()
        self.error(working, CancelledError)
        self.assertEqual(self.server.heard(), b"")
        self.assertClosed()

    def test_a_refused_quit_is_told(self) -> None:
        working = self.begin(lambda handle: handle.delete(1))
        self.server.expect(b"DELE 1", b"+OK\r\n")
        self.server.expect(b"QUIT", b"-ERR some remain\r\n")
        self.assertEqual(self.error(working, CommandError).verb, "QUIT")

    def test_a_connection_lost_within_is_told(self) -> None:
        # Even if nobody has asked anything since: what was marked is not deleted.
        waiting: Deferred[None] = Deferred()

        async def body(handle: Handle) -> None:
            await handle.delete(1)
            await waiting

        working = self.begin(body)
        self.server.expect(b"DELE 1", b"+OK\r\n")
        self.server.lose()
        waiting.callback(None)
        self.error(working, ConnectionLostError)
        self.assertIdle()

    def test_a_connection_lost_while_something_was_asked_is_told_once(self) -> None:
        working = self.begin(lambda handle: handle.stat())
        self.server.expect(b"STAT")
        self.server.lose()
        self.assertEqual(self.error(working, ConnectionLostError).verb, "STAT")

    def test_disconnecting_within(self) -> None:
        working = self.begin(lambda handle: handle.disconnect())
        self.server.expect(b"QUIT", b"+OK bye\r\n")
        self.assertEqual(self.result(working), Committed(frozenset()))
        self.assertEqual(self.server.heard(), b"")

    def test_aborting_within(self) -> None:
        working = self.begin(lambda handle: handle.abort())
        self.assertIsNone(self.result(working))
        self.assertEqual(self.server.heard(), b"")
        self.assertClosed()
