"""
Listings of a server that sends too much: LIST, UIDL and CAPA are bounded alike.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from pop3connect import CommandError, Handle, ProtocolError
from pop3connect.sansio.readers import MAX_CAPABILITIES, MAX_ROW

from ..support.memory import SessionTestCase

Ask = Callable[[Handle], Deferred[Any]]

LISTINGS: dict[str, tuple[Ask, bytes]] = {
    "LIST": (lambda handle: handle.list(), b"%d 200"),
    "UIDL": (lambda handle: handle.uidl(), b"%d uid"),
    "CAPA": (lambda handle: handle.capa(), b"X-%d yes"),
    "LANG": (lambda handle: handle.lang(), b"x-%d language"),
}
"""The call, and what a row looks like."""

ROWS = 1000
"""What ``max_listing`` is in these tests."""


def limit(verb: str) -> int:
    return ROWS if verb in ("LIST", "UIDL") else MAX_CAPABILITIES


class ListingTests(SessionTestCase):
    """
    Each listing alike, in one piece and in many.
    """

    def ask(self, verb: str) -> tuple[Handle, Deferred[Any], Deferred[Any]]:
        handle = self.log_in("PIPELINING", max_listing=ROWS)
        asked, behind = LISTINGS[verb][0](handle), handle.stat()
        self.server.expect(verb.encode() + b"\r\nSTAT", b"+OK\r\n")
        return handle, asked, behind

    def rows(self, verb: str, count: int) -> bytes:
        form = LISTINGS[verb][1]
        return b"".join(form % number + b"\r\n" for number in range(1, count + 1))

    def each(self) -> Iterator[tuple[str, int | None]]:
        for verb in LISTINGS:
            for size in (None, 4096, 61):
                yield verb, size
                self.anew()

    def test_listing_of_as_many_rows_as_allowed_is_read(self) -> None:
        for verb, size in self.each():
            _, asked, behind = self.ask(verb)
            rows = self.rows(verb, limit(verb))
            self.server.say(rows + b".\r\n+OK 2 320\r\n", size=size)
            self.assertEqual(len(self.result(asked)), limit(verb))
            self.assertEqual(self.result(behind), (2, 320))

    def test_one_row_too_many_ends_the_session(self) -> None:
        for verb, size in self.each():
            _, asked, behind = self.ask(verb)
            rows = self.rows(verb, limit(verb) + 1)
            self.server.say(rows + b".\r\n+OK 2 320\r\n", size=size)
            error = self.error(asked, ProtocolError)
            self.assertIn(f"more than {limit(verb)} rows", str(error))
            self.error(behind, ProtocolError)
            self.assertClosed()

    def test_rows_without_an_end_are_not_kept(self) -> None:
        """It ends as soon as there is one too many, whatever follows."""
        for verb, size in self.each():
            _, asked, behind = self.ask(verb)
            self.server.say(self.rows(verb, limit(verb) + 2), size=size)
            self.error(asked, ProtocolError)
            self.error(behind, ProtocolError)
            self.assertClosed()

    def test_row_of_the_longest_length_is_read(self) -> None:
        for verb, size in self.each():
            _, asked, behind = self.ask(verb)
            row = LISTINGS[verb][1] % 1
            fill = b"0" if verb == "LIST" else b"x"
            # More than that a size or a unique-id does not have.
            row = row.ljust({"LIST": 18, "UIDL": 70}.get(verb, MAX_ROW - 2), fill)
            self.server.say(row + b"\r\n.\r\n+OK 2 320\r\n", size=size)
            self.assertEqual(len(self.result(asked)), 1)
            self.assertEqual(self.result(behind), (2, 320))

    def test_row_that_is_too_long_ends_the_session(self) -> None:
        for verb, size in self.each():
            for end in (b"\r\n.\r\n", b""):
                _, asked, behind = self.ask(verb)
                row = (LISTINGS[verb][1] % 1).ljust(MAX_ROW + 100, b"x")
                self.server.say(row + end, size=size)
                error = self.error(asked, ProtocolError)
                self.assertIn(f"a row of more than {MAX_ROW} bytes", str(error))
                self.error(behind, ProtocolError)
                self.assertClosed()
                self.anew()

    def test_bad_row_fails_its_command_and_the_rest_is_dropped(self) -> None:
        for verb in ("LIST", "UIDL"):
            for size in (None, 61):
                for row in (b"x", b"0 200", b"-1 200", b"3 1\r\n3 2"):
                    _, asked, behind = self.ask(verb)
                    rows = row + b"\r\n" + self.rows(verb, ROWS // 2)
                    self.server.say(rows + b".\r\n+OK 2 320\r\n", size=size)
                    self.error(asked, ProtocolError)
                    self.assertEqual(self.result(behind), (2, 320))
                    self.assertIdle()
                    self.anew()

    def test_rows_after_a_bad_one_still_count(self) -> None:
        for verb in ("LIST", "UIDL"):
            _, asked, behind = self.ask(verb)
            self.server.say(b"x\r\n" + self.rows(verb, ROWS + 1), size=4096)
            self.error(asked, ProtocolError)
            self.error(behind, ProtocolError)
            self.assertClosed()
            self.anew()

    def cancel(self, verb: str) -> Deferred[Any]:
        """
        Cancel a listing before its status line was read, and return the STAT behind it.
        """
        handle = self.log_in("PIPELINING", max_listing=ROWS)
        asked, behind = LISTINGS[verb][0](handle), handle.stat()
        asked.cancel()
        self.error(asked, CancelledError)
        self.server.expect(verb.encode() + b"\r\nSTAT", b"+OK\r\n")
        return behind

    def test_cancelled_listing_is_bounded_too(self) -> None:
        for verb in LISTINGS:
            behind = self.cancel(verb)
            self.server.say(self.rows(verb, limit(verb) + 2), size=4096)
            self.error(behind, ProtocolError)
            self.assertClosed()
            self.anew()

    def test_cancelled_listing_within_its_bounds_keeps_the_session(self) -> None:
        for verb in LISTINGS:
            behind = self.cancel(verb)
            self.server.say(self.rows(verb, limit(verb)) + b".\r\n", size=4096)
            self.server.say(b"+OK 2 320\r\n")
            self.assertEqual(self.result(behind), (2, 320))
            self.anew()

    def test_refused_listing_keeps_the_session(self) -> None:
        for verb in LISTINGS:
            handle = self.log_in(max_listing=ROWS)
            asked = LISTINGS[verb][0](handle)
            self.server.expect(verb.encode(), b"-ERR not now\r\n")
            self.error(asked, CommandError)
            self.assertIdle()
            self.anew()

    def test_work_for_a_chunk_does_not_grow_with_the_listing(self) -> None:
        """
        Functions called for each chunk of the same size: as many for the last one as
        for an early one.
        """
        for verb in ("LIST", "UIDL"):
            handle = self.log_in(max_listing=100_000)
            asked = LISTINGS[verb][0](handle)
            self.server.expect(verb.encode(), b"+OK\r\n")
            form = LISTINGS[verb][1]
            # Numbers of one length, so that all chunks are alike.
            rows = [form % number + b"\r\n" for number in range(10_000, 60_000)]
            counts = []
            for start in range(0, len(rows), 1000):
                chunk = b"".join(rows[start : start + 1000])
                counts.append(self.calls(chunk))
            self.server.say(b".\r\n")
            self.assertEqual(len(self.result(asked)), len(rows))
            # Something of the interpreter's own may be called now and then.
            self.assertLess(max(counts), 2 * min(counts), counts)
            self.assertLess(max(counts), 6 * 1000)
            self.anew()

    def calls(self, chunk: bytes) -> int:
        """
        Return how many functions are called while a chunk is read.
        """
        count = 0

        def profile(frame: Any, event: str, argument: Any) -> None:
            nonlocal count
            count += event in ("call", "c_call")

        before = sys.getprofile()
        gc.disable()
        sys.setprofile(profile)
        try:
            self.server.client.dataReceived(chunk)
        finally:
            sys.setprofile(before)
            gc.enable()
        return count
