"""
`Handle.headers`: one header after another, by TOP, fetched ahead of the reader.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from pop3connect import (
    CommandError,
    Handle,
    Message,
    ProtocolError,
    Refused,
    UsageError,
)
from pop3connect.client.prefetch import BUDGET, UNSEEN

from ..support.memory import SessionTestCase
from ..support.shows import shows
from .test_prefetch import Reader


def header(number: int) -> bytes:
    """Return the header of a message."""
    return b"Subject: %d\r\n\r\n" % number


class HeadersTests(SessionTestCase):
    """`Handle.headers`"""

    def collect(
        self, handle: Handle, *arguments: Any, **options: Any
    ) -> tuple[list[Message | Refused], Deferred[None]]:
        seen: list[Message | Refused] = []

        async def read() -> None:
            async for message in handle.headers(*arguments, **options):
                seen.append(message)

        return seen, Deferred.fromCoroutine(read())

    def asked(self) -> list[bytes]:
        """Return the lines that were sent since the last call."""
        return self.server.heard().split(b"\r\n")[:-1]

    def test_all_listed_headers_are_yielded_in_list_order(self) -> None:
        handle = self.log_in("TOP", "PIPELINING")
        seen, reading = self.collect(handle)
        self.server.expect(b"LIST", b"+OK\r\n1 17\r\n7 17\r\n.\r\n")
        self.assertEqual(self.asked(), [b"TOP 1 0", b"TOP 7 0"])
        for number in (1, 7):
            self.server.say(b"+OK\r\n" + header(number) + b".\r\n")
        self.result(reading)
        self.assertEqual(
            seen, [Message(number, header(number), None) for number in (1, 7)]
        )
        self.assertIdle()

    def test_lines_and_numbers_are_sent_and_refusals_are_yielded(self) -> None:
        handle = self.log_in("TOP", "PIPELINING")
        seen, reading = self.collect(handle, iter([9, 2]), lines=3)
        self.assertEqual(self.asked(), [b"TOP 9 3", b"TOP 2 3"])
        self.server.say(b"-ERR no such message\r\n+OK\r\n" + header(2) + b".\r\n")
        self.result(reading)
        refused, other = seen
        assert refused.error is not None
        self.assertIsInstance(refused.error, CommandError)
        self.assertEqual((refused.error.verb, refused.error.number), ("TOP", 9))
        self.assertEqual(other.content, header(2))

    @shows("RFC 1939-12")
    def test_server_without_top_is_named_and_the_session_goes_on(self) -> None:
        handle = self.log_in("UIDL", "PIPELINING")
        seen, reading = self.collect(handle, range(1, 100))
        count = len(self.asked())
        self.assertEqual(count, UNSEEN)
        self.server.say(b"-ERR what?\r\n")
        error = self.error(reading, CommandError)
        self.assertEqual((error.verb, error.number), ("TOP", 1))
        self.assertIn("the server does not announce TOP; use messages()", str(error))
        self.assertEqual(seen, [])
        # And nothing more is asked for.
        self.server.say(b"-ERR what?\r\n" * (count - 1))
        self.assertEqual(self.asked(), [])
        asked = handle.stat()
        self.server.expect(b"STAT", b"+OK 2 320\r\n")
        self.assertEqual(self.result(asked), (2, 320))
        self.assertEqual(handle._budget.used, 0)

    @shows("quirk 2.5")
    def test_top_that_is_not_announced_is_tried(self) -> None:
        handle = self.log_in("PIPELINING")
        seen, reading = self.collect(handle, [1, 2])
        self.assertEqual(len(self.asked()), 2)
        self.server.say(b"+OK\r\n" + header(1) + b".\r\n-ERR it is gone\r\n")
        self.result(reading)
        self.assertEqual(seen[0].content, header(1))
        self.assertIsInstance(seen[1].error, CommandError)

    def test_top_that_is_announced_after_the_login_counts_from_the_first_command(
        self,
    ) -> None:
        opening = self.open()
        self.server.say(b"+OK ready\r\n")
        self.server.expect(b"CAPA", b"+OK\r\nUSER\r\nPIPELINING\r\n.\r\n")
        self.server.expect(b"USER ada", b"+OK\r\n")
        self.server.expect(b"PASS lovelace", b"+OK\r\n")
        seen, reading = self.collect(self.result(opening), [1, 2])
        self.assertEqual(self.asked(), [b"CAPA", b"TOP 1 0", b"TOP 2 0"])
        self.server.say(b"+OK\r\nTOP\r\nPIPELINING\r\n.\r\n-ERR it is gone\r\n")
        self.server.say(b"+OK\r\n" + header(2) + b".\r\n")
        self.result(reading)
        self.assertIsInstance(seen[0].error, CommandError)
        self.assertEqual(seen[1].content, header(2))

    def test_top_is_tried_if_the_capabilities_are_not_known(self) -> None:
        opening = self.open(capa=False)
        self.server.say(b"+OK ready\r\n")
        self.server.expect(b"USER ada", b"+OK\r\n")
        self.server.expect(b"PASS lovelace", b"+OK\r\n")
        seen, reading = self.collect(self.result(opening), [1])
        self.server.expect(b"TOP 1 0", b"+OK\r\n" + header(1) + b".\r\n")
        self.result(reading)
        self.assertEqual(seen[0].content, header(1))

    def test_invalid_lines_are_rejected_before_sending(self) -> None:
        for lines in (-1, True, "1", None, 2**63):
            handle = self.log_in("TOP")
            _, reading = self.collect(handle, lines=lines)
            error = self.error(reading, UsageError)
            self.assertIn("lines must be an int", str(error))
            self.assertIs(error.number, None)
            self.assertEqual(self.server.heard(), b"")
            self.anew()

    def test_headers_are_asked_for_eight_at_a_time_until_one_was_seen(self) -> None:
        handle = self.log_in("TOP", "PIPELINING")
        _, reading = self.collect(handle)
        listing = b"".join(b"%d 90000000\r\n" % number for number in range(1, 101))
        self.server.expect(b"LIST", b"+OK\r\n" + listing + b".\r\n")
        # The size of a message says nothing about its header.
        self.assertEqual(len(self.asked()), UNSEEN)
        for number in range(1, UNSEEN + 1):
            self.server.say(b"+OK\r\n" + header(number) + b".\r\n")
        self.assertEqual(len(self.asked()), 100 - UNSEEN)
        reading.addErrback(lambda _: None)

    def test_headers_not_taken_stay_within_the_budget(self) -> None:
        handle = self.log_in("TOP", "PIPELINING")
        reader = Reader(
            handle.headers(range(1, 1000), lines=10**6)  # type: ignore[arg-type]
        )
        first = reader.next()
        large = b"x" * (BUDGET // 4 - 2) + b"\r\n"
        self.assertEqual(len(self.asked()), UNSEEN)
        self.server.say(b"+OK\r\n" + large + b".\r\n")
        self.assertEqual(self.result(first).content, large)
        # Now a size is known, and four of them fill the budget.
        self.assertEqual(len(self.asked()), 4)
        received = 0
        while self.server.transport.producerState != "paused":
            self.server.say(b"+OK\r\n" + large + b".\r\n")
            received += 1
        self.assertEqual(received, 1)
        self.result(reader.leave())
        self.assertEqual(self.server.transport.producerState, "producing")

    def test_small_headers_do_not_let_large_messages_be_asked_for(self) -> None:
        handle = self.log_in("TOP", "PIPELINING")
        _, reading = self.collect(handle, [1])
        self.server.expect(b"TOP 1 0", b"+OK\r\n" + header(1) + b".\r\n")
        self.result(reading)
        reader = Reader(handle.messages(range(1, 1000)))  # type: ignore[arg-type]
        waiting = reader.next()
        self.assertEqual(len(self.asked()), UNSEEN)
        self.result(handle.abort())
        waiting.addErrback(lambda _: None)

    @shows("attack 5.5")
    def test_header_beyond_max_message_size_ends_the_session(self) -> None:
        handle = self.log_in("TOP", max_message_size=100)
        seen, reading = self.collect(handle, [1])
        self.server.expect(b"TOP 1 0", b"+OK\r\n" + b"x" * 101)
        error = self.error(reading, ProtocolError)
        self.assertIn("max_message_size", str(error))
        self.assertEqual(seen, [])
        self.assertFalse(handle.is_open)

    def test_leaving_early_drops_the_others_and_keeps_the_session(self) -> None:
        handle = self.log_in("TOP", "PIPELINING")
        reader = Reader(handle.headers([1, 2, 3]))  # type: ignore[arg-type]
        first = reader.next()
        self.assertEqual(self.asked(), [b"TOP 1 0", b"TOP 2 0", b"TOP 3 0"])
        self.server.say(b"+OK\r\n" + header(1) + b".\r\n+OK\r\nSubj")
        self.assertEqual(self.result(first).number, 1)
        self.result(reader.leave())
        asked = handle.stat()
        self.server.say(b"ect: 2\r\n\r\n.\r\n+OK\r\n.\r\n")
        self.server.expect(b"STAT", b"+OK 2 320\r\n")
        self.assertEqual(self.result(asked), (2, 320))
