"""
The handle: its commands, streaming, deletions, and the ways to end a session.
"""

from __future__ import annotations

import io
import tempfile
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
from .support.shows import shows

LETTER = b"Subject: lo\r\n\r\nand behold\r\n"


class CommandsTests(SessionTestCase):
    """One method a verb (RFC 1939 section 5 and 7)."""

    def ask(self, asked: Deferred[Any], line: bytes, answer: bytes) -> Any:
        self.server.expect(line, answer)
        result = self.result(asked)
        self.assertIdle()
        return result

    def test_stat_returns_count_and_size(self) -> None:
        handle = self.log_in()
        stat = self.ask(handle.stat(), b"STAT", b"+OK 2 320\r\n")
        self.assertIsInstance(stat, Stat)
        self.assertEqual((stat.count, stat.size), (2, 320))

    def test_stat_reads_very_large_numbers_and_ignores_extra_text(self) -> None:
        # RFC 1939 section 5: further information is left to the server.
        handle = self.log_in()
        answer = b"+OK 14000000 9876543210123 and no more\r\n"
        stat = self.ask(handle.stat(), b"STAT", answer)
        self.assertEqual(stat, (14_000_000, 9_876_543_210_123))

    def test_list_keeps_server_order_with_gaps_and_large_sizes(self) -> None:
        # With holes, out of order, larger than 32 bits: all of it is seen.
        handle = self.log_in()
        body = b"1 120\r\n7 200 more\r\n3   4294967800\r\n"
        listing = self.ask(
            handle.list(), b"LIST", b"+OK 3 messages\r\n" + body + b".\r\n"
        )
        self.assertEqual(listing, [(1, 120), (7, 200), (3, 4_294_967_800)])
        self.assertIsInstance(listing[0], Listing)

    def test_list_of_empty_mailbox_returns_empty_list(self) -> None:
        handle = self.log_in()
        self.assertEqual(self.ask(handle.list(), b"LIST", b"+OK\r\n.\r\n"), [])

    def test_list_of_20000_messages_is_complete(self) -> None:
        handle = self.log_in()
        body = b"".join(b"%d 17\r\n" % number for number in range(1, 20_001))
        asked = handle.list()
        self.server.expect(b"LIST", b"+OK\r\n")
        self.server.say(body + b".\r\n", size=1460)
        self.assertEqual(
            self.result(asked), [(number, 17) for number in range(1, 20_001)]
        )

    def test_size_returns_size_of_one_message(self) -> None:
        handle = self.log_in()
        self.assertEqual(self.ask(handle.size(7), b"LIST 7", b"+OK 7 200\r\n"), 200)

    def test_uidl_returns_ids_with_blanks_and_undecodable_bytes(self) -> None:
        handle = self.log_in()
        body = b"1 whqtswO00WBw418f9t5JxYwZ\r\n2 with blank\r\n3 \xff\r\n"
        uids = self.ask(handle.uidl(), b"UIDL", b"+OK\r\n" + body + b".\r\n")
        self.assertEqual(
            uids, [(1, "whqtswO00WBw418f9t5JxYwZ"), (2, "with blank"), (3, "\udcff")]
        )
        self.assertIsInstance(uids[0], UID)

    def test_uid_returns_unique_id_of_one_message(self) -> None:
        handle = self.log_in()
        answer = b"+OK 7 QhdPYR:00WBw1Ph7x7\r\n"
        uid = self.ask(handle.uid(7), b"UIDL 7", answer)
        self.assertEqual(uid, "QhdPYR:00WBw1Ph7x7")

    def test_retrieve_returns_message_content(self) -> None:
        handle = self.log_in()
        answer = b"+OK 27 octets\r\n" + LETTER + b".\r\n"
        self.assertEqual(self.ask(handle.retrieve(7), b"RETR 7", answer), LETTER)

    @shows("RFC 1939-04")
    def test_retrieved_message_equals_stored_message_byte_for_byte(self) -> None:
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

    def test_empty_message_is_returned_as_empty_bytes(self) -> None:
        handle = self.log_in()
        self.assertEqual(self.ask(handle.retrieve(1), b"RETR 1", b"+OK\r\n.\r\n"), b"")

    @shows("quirk 4.1")
    def test_body_is_read_whatever_follows_ok_in_status_line(self) -> None:
        # Anything but a blank is odd there, and no reason to take the body for more.
        for odd in (b"+OK\t2 octets", b"+OK, here", b"+OK:", b"+OK\xa0", b"+OK  "):
            handle = self.log_in()
            content, rows = handle.retrieve(1), handle.list()
            self.server.expect(b"RETR 1", odd + b"\r\nx\r\n.\r\n")
            self.server.expect(b"LIST", odd + b"\r\n1 3\r\n.\r\n")
            self.assertEqual(self.result(content), b"x\r\n")
            self.assertEqual(self.result(rows), [(1, 3)])
            self.anew()

    def test_message_of_one_very_long_line_is_complete(self) -> None:
        handle = self.log_in()
        asked = handle.retrieve(1)
        self.server.expect(b"RETR 1", b"+OK\r\n")
        chunk = b"x." * 32_768
        for _ in range(100):
            self.server.say(chunk)
        self.server.say(b"\r\n.\r\n")
        self.assertEqual(self.result(asked), chunk * 100 + b"\r\n")

    @shows("RFC 1939-12")
    def test_top_sends_line_count_and_returns_header(self) -> None:
        handle = self.log_in()
        answer = b"+OK\r\nSubject: lo\r\n\r\n.\r\n"
        self.assertEqual(
            self.ask(handle.top(7), b"TOP 7 0", answer), b"Subject: lo\r\n\r\n"
        )
        self.assertEqual(
            self.ask(handle.top(7, 20), b"TOP 7 20", answer), b"Subject: lo\r\n\r\n"
        )

    @shows(
        "RFC 1939-18",
        "SHOULD",
        "A server may end a session that is idle for ten minutes: keep it alive, or "
        "connect again.",
        "``noop()`` keeps it alive. If the server has ended the session, the next "
        "command fails with the server's last text.",
    )
    def test_delete_reset_and_noop_return_none(self) -> None:
        handle = self.log_in()
        self.assertIsNone(self.ask(handle.delete(7), b"DELE 7", b"+OK\r\n"))
        self.assertIsNone(self.ask(handle.reset(), b"RSET", b"+OK\r\n"))
        self.assertIsNone(self.ask(handle.noop(), b"NOOP", b"+OK\r\n"))

    @shows("RFC 2449-12")
    def test_capa_asks_server_again_and_updates_capabilities(self) -> None:
        handle = self.log_in("UIDL")
        answer = b"+OK\r\nUIDL\r\nTOP\r\nEXPIRE 30\r\nLOGIN-DELAY 60\r\n.\r\n"
        capabilities = self.ask(handle.capa(), b"CAPA", answer)
        self.assertEqual(list(capabilities), ["UIDL", "TOP", "EXPIRE", "LOGIN-DELAY"])
        self.assertEqual(capabilities.expire, 30)
        self.assertEqual(capabilities.login_delay, 60)
        # And remembered.
        self.assertIs(handle.capabilities, capabilities)

    def test_refused_capa_keeps_known_capabilities(self) -> None:
        handle = self.log_in("UIDL")
        asked = handle.capa()
        self.server.expect(b"CAPA", b"-ERR not now\r\n")
        self.error(asked, CommandError)
        self.assertIn("UIDL", handle.capabilities)

    def test_refused_command_raises_command_error_with_code_and_text(self) -> None:
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
            shown = verb if error.number is None else f"{verb} 1"
            self.assertEqual(
                str(error), f"{NAME}: {shown}: the server refused: [SYS/TEMP] not today"
            )
            self.assertIdle()

    def test_reply_about_another_message_fails_only_that_command(self) -> None:
        # It strikes this command only: the session is in step.
        handle = self.log_in()
        size, uid = handle.size(7), handle.uid(7)
        self.server.expect(b"LIST 7", b"+OK 8 200\r\n")
        self.server.expect(b"UIDL 7", b"+OK 8 abc\r\n")
        for error in self.errors([size, uid], ProtocolError):
            self.assertIn("8", str(error))
        self.assertEqual(self.ask(handle.size(7), b"LIST 7", b"+OK 7 200\r\n"), 200)

    def test_unreadable_reply_fails_only_that_command(self) -> None:
        bad: list[tuple[str, bytes]] = [
            ("stat", b"+OK\r\n"),
            ("stat", b"+OK two 320\r\n"),
            ("stat", b"+OK 2 " + b"9" * 5000 + b"\r\n"),
            ("list", b"+OK\r\n1\r\n.\r\n"),
            ("list", b"+OK\r\n0 120\r\n.\r\n"),
            ("list", b"+OK\r\n-1 120\r\n.\r\n"),
            ("list", b"+OK\r\n1 120\r\n1 121\r\n.\r\n"),
            ("list", b"+OK\r\n1 " + b"9" * 500 + b"\r\n.\r\n"),
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

    def test_control_characters_in_unreadable_reply_are_escaped(self) -> None:
        handle = self.log_in()
        asked = handle.stat()
        self.server.expect(b"STAT", b"+OK \x1b[2J\r\n")
        self.assertTrue(str(self.error(asked, ProtocolError)).isprintable())

    def test_commands_can_be_awaited_in_a_coroutine(self) -> None:
        handle = self.log_in()

        async def work() -> tuple[int, bytes]:
            count = (await handle.stat()).count
            return count, await handle.retrieve(count)

        working = Deferred.fromCoroutine(work())
        self.server.expect(b"STAT", b"+OK 2 320\r\n")
        self.server.expect(b"RETR 2", b"+OK\r\n" + LETTER + b".\r\n")
        self.assertEqual(self.result(working), (2, LETTER))

    def test_repr_shows_server_and_whether_session_ended(self) -> None:
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

    def test_invalid_message_number_is_rejected_before_sending(self) -> None:
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

    def test_invalid_line_count_is_rejected_before_sending(self) -> None:
        wrong: tuple[Any, ...] = (-1, False, 1.0, "1", "1\r\nDELE 2", None)
        for lines in wrong:
            self.refused(lambda handle, n=lines: handle.top(1, n), "TOP")

    def test_number_too_long_for_a_command_line_is_rejected(self) -> None:
        # RFC 2449 section 4: 255 octets with CR LF.
        self.refused(lambda handle: handle.retrieve(10**300), "RETR")
        self.refused(lambda handle: handle.delete(10**300), "DELE")
        self.refused(lambda handle: handle.top(1, 10**300), "TOP")

    def test_number_too_long_for_python_to_format_is_rejected(self) -> None:
        # Above 4300 digits int does not even become text.
        self.refused(lambda handle: handle.retrieve(10**5000), "RETR")
        self.refused(lambda handle: handle.top(1, 10**5000), "TOP")
        self.refused(lambda handle: handle.retrieve(-(10**5000)), "RETR")

    def test_destination_that_is_neither_consumer_nor_file_is_rejected(self) -> None:
        class Undeclared:
            """It has no write(), and does not say that it is an IConsumer."""

            registerProducer = unregisterProducer = print

        wrong: tuple[Any, ...] = (5, "mail.eml", b"", 0, [], Undeclared(), Consumer)
        for destination in wrong:
            text = self.refused(
                lambda handle, d=destination: handle.retrieve(1, d), "RETR"
            )
            self.assertIn(
                "destination must be an IConsumer or a file open for writing in binary "
                f"mode, not {type(destination).__name__}",
                text,
            )

    def test_text_file_as_destination_is_rejected(self) -> None:
        with (
            open(self.mktemp(), "w", encoding="utf-8") as named,
            tempfile.TemporaryFile("w") as temporary,
        ):
            for destination in (io.StringIO(), named, temporary):
                text = self.refused(
                    lambda handle, d=destination: handle.retrieve(1, d), "RETR"
                )
                self.assertIn("binary mode, not a text file", text)

    def test_language_that_is_not_a_str_is_rejected(self) -> None:
        wrong: tuple[Any, ...] = (5, b"en", "", "en fr", "en\r\nDELE 1", ["en"])
        for tag in wrong:
            self.refused(lambda handle, t=tag: handle.lang(t), "LANG")

    def test_consumer_is_untouched_when_arguments_are_rejected(self) -> None:
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


class FileTests(StreamingTestCase):
    """A message into a file open in binary mode."""

    def test_message_is_written_to_the_file_which_stays_open(self) -> None:
        for size in (None, 1, 3):
            file = io.BytesIO(b"> ")
            file.seek(2)
            _, asked = self.stream(file)
            self.server.say(b"Subject: lo\r\n\r\n..dot\r\n.\r\n", size=size)
            self.assertEqual(self.result(asked), 21)
            self.assertEqual(file.getvalue(), b"> Subject: lo\r\n\r\n.dot\r\n")
            self.assertFalse(file.closed)
            self.assertIdle()
            self.anew()

    def test_unbuffered_file_that_takes_a_part_gets_the_rest_too(self) -> None:
        class Slow(io.RawIOBase):
            def __init__(self) -> None:
                super().__init__()
                self.content = b""

            def write(self, data: Any) -> int:
                self.content += bytes(data[:4])
                return min(len(data), 4)

        file = Slow()
        _, asked = self.stream(file, said=LETTER + b".\r\n")
        self.assertEqual(self.result(asked), len(LETTER))
        self.assertEqual(file.content, LETTER)

    def test_write_that_returns_none_stands_for_all(self) -> None:
        class Quiet:
            def __init__(self) -> None:
                self.content = b""

            def write(self, data: bytes) -> None:
                self.content += data

        file = Quiet()
        _, asked = self.stream(file, said=LETTER + b".\r\n")
        self.assertEqual(self.result(asked), len(LETTER))
        self.assertEqual(file.content, LETTER)

    def test_error_while_writing_reaches_the_caller_and_ends_session(self) -> None:
        file = io.BytesIO()
        handle = self.log_in()
        asked = handle.retrieve(1, file)
        file.close()
        self.server.expect(b"RETR 1", b"+OK\r\nSubject: lo\r\n")
        self.error(asked, ValueError)
        self.assertClosed()

    def test_refused_message_leaves_the_file_alone(self) -> None:
        file = io.BytesIO()
        handle = self.log_in()
        asked = handle.retrieve(1, file)
        self.server.expect(b"RETR 1", b"-ERR no such message\r\n")
        self.error(asked, CommandError)
        self.assertEqual(file.getvalue(), b"")

    def test_lost_connection_leaves_the_part_that_was_received(self) -> None:
        file = io.BytesIO()
        _, asked = self.stream(file, said=b"Subject: lo\r\n")
        self.server.lose()
        self.error(asked, ConnectionLostError)
        self.assertEqual(file.getvalue(), b"Subject: lo")
        self.assertFalse(file.closed)


class StreamingTests(StreamingTestCase):
    """A message into an `IConsumer` goes well."""

    def test_message_is_written_to_consumer_as_it_arrives(self) -> None:
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

    def test_message_arriving_byte_by_byte_is_written_completely(self) -> None:
        consumer = Consumer()
        _, asked = self.stream(consumer)
        self.server.say(LETTER + b".\r\n", size=1)
        self.assertEqual(self.result(asked), len(LETTER))
        self.assertEqual(consumer.content, LETTER)
        self.assertReleased(consumer)

    def test_empty_message_only_registers_and_unregisters(self) -> None:
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

    def test_string_transport_works_as_consumer(self) -> None:
        transport = StringTransport()
        _, asked = self.stream(transport, said=LETTER + b".\r\n")
        self.assertEqual(self.result(asked), len(LETTER))
        self.assertEqual(transport.value(), LETTER)
        self.assertIsNone(transport.producer)

    def test_consumer_that_does_not_declare_it_is_a_consumer(self) -> None:
        class Undeclared:
            def __init__(self) -> None:
                self.events: list[object] = []

            def registerProducer(self, producer: Any, streaming: bool) -> None:
                self.events.append(streaming)

            def unregisterProducer(self) -> None:
                self.events.append("unregistered")

            def write(self, data: bytes) -> None:
                self.events.append(data)

        consumer = Undeclared()
        _, asked = self.stream(consumer, said=b"one\r\n.\r\n")
        self.assertEqual(self.result(asked), 5)
        self.assertEqual(consumer.events, [True, b"one\r\n", "unregistered"])

    def test_two_messages_can_be_streamed_into_one_consumer(self) -> None:
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

    def test_consumer_is_unregistered_before_deferred_fires(self) -> None:
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

    def test_timeout_is_suspended_while_consumer_is_paused(self) -> None:
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

    def test_paused_consumer_suspends_timeout_of_other_commands(self) -> None:
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

    def test_pausing_or_resuming_twice_has_no_further_effect(self) -> None:
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

    def test_data_arriving_while_paused_is_not_lost(self) -> None:
        consumer = Consumer()
        _, asked = self.stream(consumer, said=b"Subject: lo\r\n")
        consumer.producer.pauseProducing()
        self.server.say(b"\r\n")
        consumer.producer.resumeProducing()
        self.server.say(b"text\r\n.\r\n")
        self.assertEqual(self.result(asked), 21)
        self.assertEqual(consumer.content, b"Subject: lo\r\n\r\ntext\r\n")

    def test_transport_resumes_when_message_ends_while_paused(self) -> None:
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

    def test_consumer_can_pause_while_being_registered(self) -> None:
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

    def test_producer_calls_after_message_end_have_no_effect(self) -> None:
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

    def test_exception_in_consumer_after_the_last_byte_fails_only_that_command(
        self,
    ) -> None:
        def full(_: bytes) -> None:
            raise ConsumerError("disk full")

        for ahead in ("", "PIPELINING"):
            consumer = Consumer(full)
            handle = self.log_in(*ahead.split())
            asked, other = handle.retrieve(1, consumer), handle.noop()
            self.server.say(b"+OK\r\n" + LETTER + b".\r\n")
            self.error(asked, ConsumerError)
            self.assertReleased(consumer)
            self.server.say(b"+OK\r\n")
            self.assertIsNone(self.result(other))
            self.server.heard()
            self.anew()

    def test_exception_in_consumer_reaches_caller_and_ends_session(self) -> None:
        # The caller gets the consumer's own exception; the rest of the message
        # would have to be read, so the session ends.
        reason = ConsumerError("disk full")

        def full(_: bytes) -> None:
            raise reason

        consumer = Consumer(full)
        handle = self.log_in("PIPELINING")
        asked, other = handle.retrieve(1, consumer), handle.noop()
        self.server.heard()
        self.server.say(b"+OK\r\n" + LETTER)
        self.assertIs(self.error(asked, ConsumerError), reason)
        error = self.error(other, ConnectionLostError)
        self.assertIn("consumer", str(error))
        self.assertIs(error.__cause__, reason)
        self.assertReleased(consumer)
        self.over(handle, [])

    def test_failed_registration_ends_session_without_unregistering(self) -> None:
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

    def test_failed_unregistration_reaches_caller_and_keeps_session(self) -> None:
        # The message is there, and all of it has been read: the session goes on.
        class Sticky(Consumer):
            def unregisterProducer(self) -> None:
                raise ConsumerError("no")

        handle, asked = self.stream(Sticky(), said=LETTER + b".\r\n")
        self.error(asked, ConsumerError)
        other = handle.noop()
        self.server.expect(b"NOOP", b"+OK\r\n")
        self.assertIsNone(self.result(other))

    def test_failed_unregistration_after_connection_loss_is_logged(self) -> None:
        class Sticky(Consumer):
            def unregisterProducer(self) -> None:
                raise ConsumerError("no")

        handle, asked = self.stream(Sticky(), said=LETTER)
        other = handle.noop()
        self.server.lose()
        self.errors([asked, other], ConnectionLostError)
        self.assertEqual(len(self.flushLoggedErrors(ConsumerError)), 1)

    def test_consumer_calling_stop_producing_ends_session(self) -> None:
        consumer = Consumer()
        handle, asked = self.stream(consumer, said=LETTER)
        other = handle.noop()
        consumer.producer.stopProducing()
        self.assertEqual(self.error(asked, ConnectionLostError).verb, "RETR")
        self.assertReleased(consumer)
        self.over(handle, [other])

    def test_consumer_stopping_during_write_ends_session(self) -> None:
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

    def test_consumer_stopping_while_being_registered_receives_nothing(self) -> None:
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

    def test_too_large_message_is_not_written_to_its_consumer(self) -> None:
        consumer = Consumer()
        handle, asked = self.stream(consumer, said=LETTER, max_message_size=5)
        self.error(asked, ProtocolError)
        self.assertEqual(consumer.content, b"")
        self.assertReleased(consumer)
        self.error(handle.stat(), ProtocolError)
        self.assertIsNone(self.result(handle.when_closed()))

    def test_consumer_that_aborts_and_raises_is_unregistered_once(self) -> None:
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

    def test_connection_loss_unregisters_consumer(self) -> None:
        consumer = Consumer()
        handle, asked = self.stream(consumer, said=LETTER)
        self.server.lose()
        self.assertEqual(self.error(asked, ConnectionLostError).verb, "RETR")
        self.assertEqual(consumer.content, LETTER[:-2])
        self.assertReleased(consumer)
        self.over(handle, [], aborting=False)

    def test_connection_loss_while_paused_unregisters_consumer(self) -> None:
        consumer = Consumer()
        handle, asked = self.stream(consumer, said=LETTER)
        consumer.producer.pauseProducing()
        self.server.lose()
        self.error(asked, ConnectionLostError)
        self.assertReleased(consumer)
        self.over(handle, [], aborting=False)

    def test_abort_while_paused_unregisters_consumer(self) -> None:
        consumer = Consumer()
        handle, asked = self.stream(consumer, said=LETTER)
        consumer.producer.pauseProducing()
        aborted = handle.abort()
        self.error(asked, ConnectionLostError)
        self.assertIsNone(self.result(aborted))
        self.assertReleased(consumer)
        self.over(handle, [])

    def test_cancelling_during_transfer_unregisters_and_ends_session(self) -> None:
        consumer = Consumer()
        handle, asked = self.stream(consumer, said=LETTER)
        asked.cancel()
        self.error(asked, CancelledError)
        self.assertReleased(consumer)
        self.over(handle, [])

    def test_cancelling_before_reply_leaves_consumer_untouched(self) -> None:
        consumer = Consumer()
        handle = self.log_in()
        asked, other = handle.retrieve(1, consumer), handle.noop()
        asked.cancel()
        self.error(asked, CancelledError)
        self.server.expect(b"RETR 1", b"+OK\r\n" + LETTER + b".\r\n")
        self.server.expect(b"NOOP", b"+OK\r\n")
        self.assertIsNone(self.result(other))
        self.assertEqual(consumer.events, [])

    def test_timeout_unregisters_consumer_and_ends_session(self) -> None:
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

    def test_message_above_limit_ends_session(self) -> None:
        handle = self.log_in(max_message_size=1000)
        asked, other = handle.retrieve(1), handle.noop()
        self.server.expect(b"RETR 1", b"+OK\r\n")
        self.server.say(b"x" * 1001)
        self.too_large(asked)
        self.error(other, ProtocolError)

    def test_message_above_limit_in_one_chunk_ends_session(self) -> None:
        handle = self.log_in(max_message_size=1000)
        asked = handle.retrieve(1)
        self.server.expect(b"RETR 1", b"+OK\r\n" + b"x" * 999 + b"\r\n.\r\n")
        self.too_large(asked)

    def test_message_of_exactly_the_limit_is_returned(self) -> None:
        # Octets of the message, without what the transfer adds.
        handle = self.log_in(max_message_size=1000)
        asked = handle.retrieve(1)
        self.server.expect(b"RETR 1", b"+OK\r\n...\r\n" + b"x" * 994 + b"\r\n.\r\n")
        self.assertEqual(len(self.result(asked)), 1000)

    @shows("attack 5.5")
    def test_streamed_message_above_limit_ends_session(self) -> None:
        consumer = Consumer()
        _, asked = self.stream(consumer, said=b"x" * 600, max_message_size=1000)
        self.pending(asked)
        self.server.say(b"x" * 600)
        self.too_large(asked)
        self.assertReleased(consumer)

    def test_top_above_limit_ends_session(self) -> None:
        handle = self.log_in(max_message_size=1000)
        asked = handle.top(1, 100)
        self.server.expect(b"TOP 1 100", b"+OK\r\n" + b"x" * 1001)
        self.too_large(asked)

    @shows("attack 5.3")
    def test_limit_does_not_apply_to_listings(self) -> None:
        handle = self.log_in(max_message_size=1000)
        asked = handle.list()
        body = b"".join(b"%d 17\r\n" % number for number in range(1, 501))
        self.server.expect(b"LIST", b"+OK\r\n" + body + b".\r\n")
        self.assertEqual(len(self.result(asked)), 500)

    def test_size_is_unlimited_without_max_message_size(self) -> None:
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

    @shows(
        "feature 1.14",
        "Says what was deleted",
        "``disconnect()`` returns the messages whose deletion the server confirmed",
    )
    @shows(
        "RFC 1939-09",
        "MUST",
        "Messages are deleted by QUIT alone, if it is answered ``+OK``; after "
        "``-ERR`` some are kept.",
        "``disconnect()`` returns the deleted messages, or fails.",
    )
    def test_disconnect_returns_numbers_of_deleted_messages(self) -> None:
        handle = self.log_in()
        for number in (3, 1):
            self.answer(handle.delete(number), b"DELE %d" % number)
        self.assertEqual(self.deleted(handle), {1, 3})

    @shows(
        "RFC 1939-17",
        "MUST",
        "Do not rely on the server's policy for deleting mail.",
        "Only ``delete()`` and ``disconnect()`` delete messages.",
    )
    def test_refused_deletion_is_not_in_deleted(self) -> None:
        handle = self.log_in()
        self.answer(handle.delete(1), b"DELE 1")
        refused = handle.delete(2)
        self.server.expect(b"DELE 2", b"-ERR message 2 already deleted\r\n")
        self.error(refused, CommandError)
        self.assertEqual(self.deleted(handle), {1})

    @shows(
        "RFC 1939-11",
        "MUST",
        "RSET clears the marks; a marked message is not asked for.",
        "Asking for one is a ``UsageError`` that names ``reset()``.",
    )
    def test_deletion_undone_by_reset_is_not_in_deleted(self) -> None:
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

    def test_pipelined_deletions_and_reset_are_counted_correctly(self) -> None:
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

    def test_deletion_cancelled_after_sending_is_counted(self) -> None:
        # It was sent, so it has happened.
        handle = self.log_in()
        asked = handle.delete(1)
        asked.cancel()
        self.error(asked, CancelledError)
        self.server.expect(b"DELE 1", b"+OK\r\n")
        self.assertEqual(self.deleted(handle), {1})

    def test_reset_cancelled_after_sending_unmarks_messages(self) -> None:
        handle = self.log_in()
        self.answer(handle.delete(1), b"DELE 1")
        asked = handle.reset()
        asked.cancel()
        self.error(asked, CancelledError)
        self.server.expect(b"RSET", b"+OK\r\n")
        self.answer(handle.size(1), b"LIST 1", b"+OK 1 17\r\n")
        self.assertEqual(self.deleted(handle), set())

    def test_deletion_cancelled_before_sending_is_not_counted(self) -> None:
        handle = self.log_in()
        first, second = handle.noop(), handle.delete(1)
        second.cancel()
        self.error(second, CancelledError)
        self.answer(first, b"NOOP")
        self.assertEqual(self.deleted(handle), set())

    @shows("RFC 1939-11")
    def test_command_for_marked_message_is_rejected_before_sending(self) -> None:
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

    def test_marked_message_is_accessible_while_reset_is_pending(self) -> None:
        handle = self.log_in("PIPELINING")
        self.answer(handle.delete(1), b"DELE 1")
        reset, size = handle.reset(), handle.size(1)
        self.assertEqual(self.server.heard(), b"RSET\r\nLIST 1\r\n")
        self.server.say(b"+OK\r\n+OK 1 17\r\n")
        self.result(reset)
        self.assertEqual(self.result(size), 17)

    @shows("RFC 1939-10")
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

    @shows("RFC 1939-17")
    def test_accepted_quit_returns_result_and_closes(self) -> None:
        handle = self.log_in()
        leaving = handle.disconnect()
        self.server.expect(b"QUIT", b"+OK bye\r\n")
        self.assertEqual(self.result(leaving), Committed(frozenset()))
        self.assertFalse(self.server.transport.aborting)
        self.assertClosed()

    def test_quit_is_sent_after_pending_commands(self) -> None:
        handle = self.log_in()
        asked, leaving = handle.stat(), handle.disconnect()
        self.server.expect(b"STAT", b"+OK 2 320\r\n")
        self.assertEqual(self.result(asked), (2, 320))
        self.server.expect(b"QUIT", b"+OK bye\r\n")
        self.result(leaving)

    @shows("RFC 1939-09")
    @shows(
        "quirk 7.1",
        "QUIT is refused",
        "``disconnect()`` fails: the server may have kept some messages.",
    )
    def test_refused_quit_raises_command_error_and_closes(self) -> None:
        # RFC 1939 section 6: some of the marked messages were not removed.
        handle = self.marked()
        leaving = handle.disconnect()
        self.server.expect(b"QUIT", b"-ERR some messages not removed\r\n")
        error = self.error(leaving, CommandError)
        self.assertEqual(error.verb, "QUIT")
        self.assertEqual(error.text, "some messages not removed")
        self.assertClosed()

    def test_refused_quit_raises_command_error_if_nothing_was_marked(self) -> None:
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

    @shows(
        "RFC 1939-10",
        "MUST",
        "A session that ends without QUIT deletes nothing.",
        "``abort()``, a lost connection, or an exception in ``async with`` delete "
        "nothing. A QUIT without a reply is an error if a message was marked.",
    )
    @shows(
        "quirk 7.2",
        "The connection is closed instead of a reply to QUIT",
        "An error if a message was marked; the end of the session otherwise.",
    )
    def test_close_without_quit_reply_fails_if_a_message_was_marked(self) -> None:
        # With something marked, nobody knows what has become of it.
        error = self.error(self.hung_up(self.marked()), ConnectionLostError)
        self.assertEqual(error.verb, "QUIT")
        self.assertIn("before QUIT was answered", str(error))
        self.assertIdle()

    @shows("quirk 7.2")
    def test_close_without_quit_reply_succeeds_if_nothing_was_marked(self) -> None:
        # Many do just that.
        committed = self.result(self.hung_up(self.log_in()))
        self.assertEqual(committed, Committed(frozenset()))
        self.assertIdle()

    def test_close_without_quit_reply_succeeds_after_reset(self) -> None:
        handle = self.marked()
        asked = handle.reset()
        self.server.expect(b"RSET", b"+OK\r\n")
        self.result(asked)
        self.assertEqual(self.result(self.hung_up(handle)), Committed(frozenset()))

    def test_close_without_quit_reply_succeeds_if_dele_was_refused(self) -> None:
        handle = self.log_in()
        refused, wrong = handle.delete(1), handle.delete(0)
        self.server.expect(b"DELE 1", b"-ERR no such message\r\n")
        self.error(refused, CommandError)
        self.error(wrong, UsageError)
        self.assertEqual(self.result(self.hung_up(handle)), Committed(frozenset()))

    def test_close_before_dele_and_quit_replies_fails_both(self) -> None:
        handle = self.log_in("PIPELINING")
        asked, leaving = handle.delete(1), handle.disconnect()
        self.server.heard()
        self.server.lose(ConnectionDone())
        self.errors([asked, leaving], ConnectionLostError)

    @shows(
        "quirk 7.3",
        "QUIT is never answered",
        "The same, after ``timeout`` seconds.",
    )
    def test_missing_quit_reply_times_out_and_closes(self) -> None:
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

    @shows("quirk 7.3")
    def test_missing_quit_reply_is_success_if_nothing_was_marked(self) -> None:
        handle = self.log_in(timeout=7)
        leaving = handle.disconnect()
        self.server.expect(b"QUIT")
        self.clock.advance(6.9)
        self.pending(leaving)
        self.clock.advance(0.2)
        self.assertEqual(self.result(leaving), Committed(frozenset()))
        self.assertClosed()

    def test_missing_quit_reply_times_out_if_dele_is_unanswered(self) -> None:
        handle = self.log_in("PIPELINING", timeout=7)
        asked, leaving = handle.delete(1), handle.disconnect()
        self.server.heard()
        self.clock.advance(7.1)
        self.errors([asked, leaving], TimedOutError)
        self.assertClosed()

    def test_disconnect_after_timeout_reports_it_though_nothing_was_marked(
        self,
    ) -> None:
        handle = self.log_in(timeout=7)
        asked = handle.stat()
        self.server.heard()
        self.clock.advance(7.1)
        self.error(asked, TimedOutError)
        self.error(handle.disconnect(), TimedOutError)

    def test_missing_quit_reply_leaves_async_with_without_error(self) -> None:
        async def look() -> int:
            async with self.handle:
                return 5

        self.handle = self.log_in(timeout=7)
        looking = Deferred.fromCoroutine(look())
        self.server.expect(b"QUIT")
        self.clock.advance(7.1)
        self.assertEqual(self.result(looking), 5)

    def test_nonsense_quit_reply_raises_protocol_error_and_closes(self) -> None:
        leaving = self.marked().disconnect()
        self.server.expect(b"QUIT", b"good bye\r\n")
        self.assertEqual(self.error(leaving, ProtocolError).verb, "QUIT")
        self.assertClosed()

    def test_data_after_quit_reply_is_ignored(self) -> None:
        # It is answered; what comes then cannot undo it.
        leaving = self.marked().disconnect()
        self.server.expect(b"QUIT", b"+OK bye\r\nand good luck\r\n")
        self.assertEqual(self.result(leaving), Committed(frozenset({1})))
        self.assertClosed()

    def test_repeated_disconnect_sends_quit_once_with_same_result(self) -> None:
        handle = self.marked()
        first, second = handle.disconnect(), handle.disconnect()
        self.server.expect(b"QUIT", b"+OK bye\r\n")
        third = handle.disconnect()
        for leaving in (first, second, third):
            self.assertEqual(self.result(leaving), Committed(frozenset({1})))
        self.assertEqual(self.server.heard(), b"")

    def test_repeated_disconnect_raises_same_error_if_quit_is_refused(self) -> None:
        handle = self.marked()
        first, second = handle.disconnect(), handle.disconnect()
        self.server.expect(b"QUIT", b"-ERR some remain\r\n")
        for leaving in (first, second, handle.disconnect()):
            self.assertEqual(self.error(leaving, CommandError).text, "some remain")

    def test_cancelling_one_disconnect_does_not_stop_quit(self) -> None:
        handle = self.marked()
        first, second = handle.disconnect(), handle.disconnect()
        first.cancel()
        self.error(first, CancelledError)
        self.server.expect(b"QUIT", b"+OK bye\r\n")
        self.assertEqual(self.result(second), Committed(frozenset({1})))
        self.assertClosed()

    def test_quit_failure_after_cancellation_is_not_logged(self) -> None:
        handle = self.marked()
        leaving = handle.disconnect()
        leaving.cancel()
        self.error(leaving, CancelledError)
        self.server.expect(b"QUIT", b"-ERR some remain\r\n")
        self.assertClosed()
        del handle, leaving
        self.assertEqual(self.flushLoggedErrors(), [])

    @shows("RFC 1939-03")
    def test_commands_after_disconnect_fail_without_being_sent(self) -> None:
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

    def test_disconnect_after_connection_loss_fails(self) -> None:
        handle = self.log_in()
        self.server.lose()
        self.error(handle.disconnect(), ConnectionLostError)
        self.assertIdle()

    def test_disconnect_after_abort_fails(self) -> None:
        handle = self.marked()
        self.result(handle.abort())
        error = self.error(handle.disconnect(), ConnectionLostError)
        self.assertIn("abort()", str(error))

    def test_abort_during_disconnect_fails_the_disconnect(self) -> None:
        handle = self.marked()
        leaving, aborted = handle.disconnect(), handle.abort()
        self.assertIsNone(self.result(aborted))
        self.error(leaving, ConnectionLostError)
        self.assertTrue(self.server.transport.aborting)
        self.assertClosed()

    def test_abort_after_connection_loss_keeps_loss_as_reason(self) -> None:
        handle = self.log_in()
        self.server.lose()
        self.result(handle.abort())
        self.error(handle.disconnect(), ConnectionLostError)
        error = self.error(handle.noop(), ConnectionLostError)
        self.assertIn("the connection was lost", str(error))

    def test_abort_fails_pending_commands(self) -> None:
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
        return working

    def test_normal_exit_sends_quit(self) -> None:
        async def body(handle: Handle) -> str:
            await handle.delete(1)
            return "done"

        working = self.begin(body)
        self.server.expect(b"DELE 1", b"+OK\r\n")
        self.pending(working)
        self.server.expect(b"QUIT", b"+OK bye\r\n")
        self.assertEqual(self.result(working), "done")
        self.assertClosed()

    def test_exception_in_body_closes_without_quit(self) -> None:
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

    def test_refused_command_in_body_closes_without_quit(self) -> None:
        working = self.begin(lambda handle: handle.retrieve(1))
        self.server.expect(b"RETR 1", b"-ERR no\r\n")
        self.error(working, CommandError)
        self.assertEqual(self.server.heard(), b"")
        self.assertClosed()

    def test_cancelling_in_body_closes_without_quit(self) -> None:
        working = self.begin(lambda handle: handle.retrieve(1))
        self.server.expect(b"RETR 1")
        working.cancel()
        self.error(working, CancelledError)
        self.assertEqual(self.server.heard(), b"")
        self.assertClosed()

    def test_refused_quit_raises_command_error(self) -> None:
        working = self.begin(lambda handle: handle.delete(1))
        self.server.expect(b"DELE 1", b"+OK\r\n")
        self.server.expect(b"QUIT", b"-ERR some remain\r\n")
        self.assertEqual(self.error(working, CommandError).verb, "QUIT")

    def test_connection_loss_in_idle_body_raises_on_exit(self) -> None:
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

    def test_connection_loss_during_command_raises_error_of_that_command(self) -> None:
        working = self.begin(lambda handle: handle.stat())
        self.server.expect(b"STAT")
        self.server.lose()
        self.assertEqual(self.error(working, ConnectionLostError).verb, "STAT")

    def test_disconnect_in_body_sends_quit_once(self) -> None:
        working = self.begin(lambda handle: handle.disconnect())
        self.server.expect(b"QUIT", b"+OK bye\r\n")
        self.assertEqual(self.result(working), Committed(frozenset()))
        self.assertEqual(self.server.heard(), b"")

    def test_abort_in_body_exits_without_quit_or_error(self) -> None:
        working = self.begin(lambda handle: handle.abort())
        self.assertIsNone(self.result(working))
        self.assertEqual(self.server.heard(), b"")
        self.assertClosed()
