"""A dialogue, with bytes alone: everything that a server sends is bounded."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pop3connect.sansio.commands import Capa, List, Noop, Retrieve, Uidl
from pop3connect.sansio.dialogue import MAX_STATUS_LINE, Dialogue
from pop3connect.sansio.events import Broken, Kind

from .owner import SINK, asked, cuts, logged_in, problem, said


class BoundTests(SynchronousTestCase):
    """Status lines, messages, listings and rows"""

    def test_status_line_of_the_greatest_length_is_read_in_any_cut(self) -> None:
        line = b"-ERR " + b"x" * (MAX_STATUS_LINE - 5)
        for at in (1, MAX_STATUS_LINE - 1, MAX_STATUS_LINE, MAX_STATUS_LINE + 1):
            wire = line + b"\r\n"
            for command in (Noop(), Retrieve(1)):
                dialogue, _ = logged_in(command)
                self.assertEqual(
                    said(dialogue, wire[:at], wire[at:]), [(Kind.REFUSED, line)]
                )
            dialogue = Dialogue()
            self.assertEqual(
                said(dialogue, wire[:at], wire[at:]), [(Kind.GREETED, line)]
            )

    def test_longer_status_line_ends_the_session_with_or_without_its_end(self) -> None:
        too_long = f"a line of more than {MAX_STATUS_LINE} bytes"
        line = b"+OK " + b"x" * (MAX_STATUS_LINE - 3)
        for wire in (line + b"\r\n", line + b"x"):
            for at in (0, 1, MAX_STATUS_LINE):
                for dialogue in (
                    logged_in(Noop())[0],
                    logged_in(Retrieve(1))[0],
                    Dialogue(),
                ):
                    said(dialogue, wire[:at], wire[at:])
                    self.assertEqual(problem(dialogue), too_long)

    def test_message_over_its_bound_ends_the_session(self) -> None:
        for limit in (0, 10, 8191, 8192, 20_000):
            for excess in (0, 1):
                body = b"x" * (limit + excess - 2) + b"\r\n" if limit else b"\r\n"
                if not limit and not excess:
                    body = b""
                for at in (0, 7, 9000):
                    for sink in (None, SINK):
                        dialogue, _ = logged_in(max_message_size=limit)
                        dialogue.enqueue("RETR", [asked(Retrieve(1), sink)])
                        wire = b"+OK\r\n" + body + b".\r\n"
                        said(dialogue, wire[:at], wire[at:])
                        self.assertEqual(
                            bool(dialogue.broken), bool(excess), (limit, at)
                        )
                        if dialogue.broken:
                            self.assertIn(f"={limit} bytes", dialogue.broken.problem)
                            self.assertEqual(dialogue.broken.verb, "RETR")

    def test_message_without_end_ends_the_session_as_soon_as_it_is_too_long(
        self,
    ) -> None:
        dialogue, (retrieve,) = logged_in(Retrieve(1), max_message_size=100)
        dialogue.data_to_send()
        dialogue.drop(retrieve)
        said(dialogue, b"+OK\r\n" + b"x" * 100)
        self.assertIs(dialogue.broken, None)
        said(dialogue, b"x")
        self.assertIn("max_message_size=100", problem(dialogue) or "")

    def test_listing_over_its_bound_ends_the_session(self) -> None:
        for command in (List(), Uidl()):
            for sent, broken in ((3, False), (4, True)):
                rows = b"".join(b"%d 7\r\n" % number for number in range(1, sent + 1))
                for chunks in cuts(b"+OK\r\n" + rows + b".\r\n"):
                    dialogue, _ = logged_in(command, max_listing=3)
                    said(dialogue, *chunks)
                    self.assertEqual(bool(dialogue.broken), broken)
                    if dialogue.broken:
                        self.assertEqual(
                            dialogue.broken,
                            Broken(
                                f"in reply to {command.verb} more than 3 rows",
                                None,
                                command.verb,
                            ),
                        )

    def test_long_row_ends_the_session_even_if_its_command_was_dropped(self) -> None:
        for command in (List(), Uidl(), Capa()):
            for dropped in (False, True):
                dialogue, (exchange,) = logged_in(command)
                said(dialogue, b"+OK\r\n")
                if dropped:
                    dialogue.drop(exchange)
                said(dialogue, b"1 " + b"x" * 509)
                self.assertIs(dialogue.broken, None)
                said(dialogue, b"x")
                self.assertIn("a row of more than 512 bytes", problem(dialogue) or "")
