"""A dialogue, with bytes alone: events in their order, transfers, and the end."""

from __future__ import annotations

import gc
import weakref
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pop3connect import ConnectionLostError
from pop3connect.sansio.body import PROGRESS
from pop3connect.sansio.commands import (
    Capa,
    Dele,
    List,
    Noop,
    Quit,
    Retrieve,
    StatCommand,
    Top,
)
from pop3connect.sansio.dialogue import Dialogue
from pop3connect.sansio.events import OUTCOMES, Kind
from pop3connect.sansio.exchange import Exchange
from pop3connect.sansio.readers import ListingReader
from pop3connect.sansio.states import State

from .owner import FOREVER, SINK, asked, cuts, logged_in, said

LATER = ConnectionLostError("later")


def streaming(**options: Any) -> tuple[Dialogue, Exchange]:
    """Return a dialogue that has sent a RETR whose body goes to a sink."""
    dialogue, _ = logged_in(**options)
    exchange = asked(Retrieve(1), SINK)
    dialogue.enqueue("RETR", [exchange])
    dialogue.data_to_send()
    return dialogue, exchange


def failures(dialogue: Dialogue) -> list[Exchange]:
    """Return the exchanges that fail, in order."""
    return [about for kind, about, _ in dialogue.events if kind is Kind.FAILED]


class CloseTests(SynchronousTestCase):
    """An exchange belongs to the dialogue until its outcome was delivered."""

    def test_every_exchange_fails_in_the_order_of_the_commands(self) -> None:
        dialogue, exchanges = logged_in(*(Dele(n) for n in range(1, 400)), Quit())
        dialogue.allow_pipelining()
        dialogue.data_to_send()
        # Of these, the first is being delivered.
        dialogue.receive(b"+OK\r\n-ERR\r\n+OK\r\n")
        first = dialogue.events[0]
        dialogue.close(FOREVER)
        self.assertIs(dialogue.events[0], first)
        self.assertEqual(failures(dialogue), exchanges[1:])
        self.assertEqual(
            {value for _, _, value in list(dialogue.events)[1:]}, {FOREVER}
        )

    def test_outcome_of_every_kind_that_was_not_delivered_becomes_a_failure(
        self,
    ) -> None:
        wire = b"+OK\r\n-ERR\r\n+OK junk\r\n+OK\r\nx\r\n.\r\n"
        wire += b"+OK\r\n" + b"y" * 9000 + b"\r\n.\r\n+OK\r\nsho\r\n.\r\n"
        dialogue, exchanges = logged_in(Noop(), Noop(), Dele(1), StatCommand())
        streamed = [asked(Retrieve(n), SINK) for n in (1, 2)]
        more = [asked(Retrieve(3)), *streamed]
        dialogue.enqueue("RETR", more)
        dialogue.allow_pipelining()
        dialogue.data_to_send()
        dialogue.receive(b"+OK\r\n" + wire)
        kinds = {kind for kind, _, _ in list(dialogue.events)[1:]}
        self.assertEqual(kinds & OUTCOMES, OUTCOMES - {Kind.FAILED})
        dialogue.close(FOREVER)
        self.assertEqual(failures(dialogue), [*exchanges[1:], *more])
        self.assertEqual(len(dialogue.events), 1 + len(exchanges[1:]) + len(more))

    def test_an_empty_body_that_was_begun_is_a_failure(self) -> None:
        for command in (Retrieve(1), Top(1), List(), Capa()):
            dialogue, (exchange,) = logged_in(command, listening=True)
            dialogue.data_to_send()
            dialogue.events.clear()
            dialogue.receive(b"+OK\r\n.\r\n")
            # The status procedure ends the session at the line that tells of the body.
            self.assertIs(dialogue.events[0][0], Kind.LINE)
            dialogue.close(FOREVER)
            dialogue.events.popleft()
            self.assertEqual(list(dialogue.events), [(Kind.FAILED, exchange, FOREVER)])

    def test_exchange_in_the_middle_of_its_body_fails_once(self) -> None:
        dialogue, exchange = streaming()
        dialogue.receive(b"+OK\r\n" + b"x" * 100)
        kinds = [kind for kind, _, _ in dialogue.events]
        self.assertEqual(kinds, [Kind.BEGUN, Kind.PIECE])
        dialogue.close(FOREVER)
        self.assertEqual(
            [kind for kind, _, _ in dialogue.events], [Kind.BEGUN, Kind.FAILED]
        )
        self.assertEqual(failures(dialogue), [exchange])

    def test_outcomes_behind_a_call_that_came_first_become_failures(self) -> None:
        dialogue, (exchange,) = logged_in(Noop())
        dialogue.data_to_send()
        dialogue.receive(b"+OK\r\n")
        dialogue.call_first(gc.collect)
        dialogue.close(FOREVER)
        self.assertEqual(
            list(dialogue.events),
            [(Kind.CALL, None, gc.collect), (Kind.FAILED, exchange, FOREVER)],
        )

    def test_calls_are_kept_and_come_behind_the_failures(self) -> None:
        def call() -> None:
            raise AssertionError("a dialogue calls nobody")

        dialogue, (exchange,) = logged_in(Noop())
        for _ in range(2):
            dialogue.call_later(call)
        dialogue.close(FOREVER)
        self.assertEqual(
            list(dialogue.events),
            [
                (Kind.CALL, None, call),
                (Kind.FAILED, exchange, FOREVER),
                (Kind.CALL, None, call),
            ],
        )

    def test_closed_dialogue_sends_and_reads_nothing(self) -> None:
        dialogue, _ = logged_in(Noop(), Noop())
        dialogue.data_to_send()
        dialogue.receive(b"+O")
        dialogue.close(FOREVER)
        self.assertTrue(dialogue.closed)
        self.assertIs(dialogue.state, State.CLOSED)
        before = list(dialogue.events)
        dialogue.receive(b"K\r\n")
        dialogue.started_tls()
        dialogue.logged_in()
        self.assertEqual(list(dialogue.events), before)
        self.assertEqual(dialogue.data_to_send(), b"")
        self.assertEqual(
            (dialogue.owes, dialogue.outstanding, dialogue.rest), (False, 0, b"")
        )
        self.assertIs(dialogue.state, State.CLOSED)

    def test_closing_again_loses_no_exchange(self) -> None:
        dialogue, exchanges = logged_in(Noop(), Noop(), Noop())
        dialogue.close(FOREVER)
        dialogue.close(LATER)
        self.assertEqual(failures(dialogue), exchanges)

    def test_closing_after_the_session_was_broken_fails_what_was_not_answered(
        self,
    ) -> None:
        dialogue, exchanges = logged_in(Noop(), Dele(1), Dele(2))
        dialogue.allow_pipelining()
        dialogue.data_to_send()
        dialogue.receive(b"+OK\r\nwhat?\r\n")
        self.assertEqual(
            [kind for kind, _, _ in dialogue.events], [Kind.ANSWERED, Kind.BROKEN]
        )
        # The owner delivers what came before, and closes at the last event.
        dialogue.events.popleft()
        dialogue.close(FOREVER)
        self.assertEqual(failures(dialogue), exchanges[1:])

    def test_nothing_of_a_listing_is_kept_after_its_end_or_that_of_the_dialogue(
        self,
    ) -> None:
        readers: list[weakref.ref[ListingReader]] = []

        class Watched(List):
            def reader(self, max_rows: int) -> ListingReader:
                reader = ListingReader(max_rows)
                readers.append(weakref.ref(reader))
                return reader

        for rest in (b"", b"2 2\r\n.\r\n"):
            readers.clear()
            dialogue, _ = logged_in(Watched())
            said(dialogue, b"+OK\r\n1 1\r\n")
            self.assertIsNot(readers[0](), None)
            if rest:
                said(dialogue, rest)
            else:
                dialogue.close(FOREVER)
            gc.collect()
            self.assertIs(readers[0](), None)


class TransferTests(SynchronousTestCase):
    """`Dialogue.in_transfer`: +OK was read, and the end of the body was not."""

    def test_reply_is_in_transfer_from_its_status_line_to_its_end(self) -> None:
        wire = b"+OK 3\r\nx\r\n.\r\n"
        for command in (Retrieve(1), Top(1), List()):
            for first in range(1, len(wire) + 1):
                for second in range(first, len(wire) + 1):
                    dialogue, (exchange,) = logged_in(command)
                    self.assertFalse(dialogue.in_transfer(exchange))
                    dialogue.data_to_send()
                    dialogue.receive(wire[:first])
                    self.assertEqual(
                        dialogue.in_transfer(exchange), 7 <= first < len(wire), first
                    )
                    if second > first:
                        dialogue.receive(wire[first:second])
                    self.assertEqual(
                        dialogue.in_transfer(exchange), 7 <= second < len(wire), second
                    )

    def test_reply_that_was_put_by_counts(self) -> None:
        dialogue, (exchange,) = logged_in(Retrieve(1))
        self.assertEqual(said(dialogue, b"+OK\r\nabc"), [])
        self.assertEqual(dialogue.rest, b"+OK\r\nabc")
        self.assertTrue(dialogue.in_transfer(exchange))

    def test_reply_is_put_by_once_and_then_read_as_it_comes(self) -> None:
        dialogue, (exchange,) = logged_in(Retrieve(1))
        self.assertEqual(said(dialogue, b"+OK\r\nabc", b"def"), [])
        self.assertEqual(dialogue.rest, b"")
        self.assertTrue(dialogue.in_transfer(exchange))
        self.assertEqual(said(dialogue, b"\r\n.\r\n"), [(Kind.ANSWERED, b"abcdef\r\n")])

    def test_reply_behind_one_in_transfer_is_not_in_transfer(self) -> None:
        dialogue, (first, second) = logged_in(Retrieve(1), Retrieve(2))
        dialogue.allow_pipelining()
        for chunk in (b"+OK\r\nabc", b"def"):
            said(dialogue, chunk)
            self.assertTrue(dialogue.in_transfer(first))
            self.assertFalse(dialogue.in_transfer(second))

    def test_reply_that_was_wholly_read_and_not_delivered_does_not_count(self) -> None:
        dialogue, (first, second) = logged_in(Retrieve(1), Retrieve(2))
        dialogue.allow_pipelining()
        dialogue.data_to_send()
        dialogue.receive(b"+OK\r\n.\r\n+OK\r\nabc")
        self.assertFalse(dialogue.in_transfer(first))
        self.assertTrue(dialogue.in_transfer(second))

    def test_refused_reply_and_single_line_are_never_in_transfer(self) -> None:
        for command, wire in [
            (Retrieve(1), b"-ERR gone\r\n"),
            (Noop(), b"+OK\r\n"),
            (Retrieve(1), b"+OK 3\r"),
        ]:
            dialogue, (exchange, other) = logged_in(command, Retrieve(9))
            dialogue.allow_pipelining()
            dialogue.data_to_send()
            for at in range(len(wire)):
                dialogue.receive(wire[at : at + 1])
                self.assertFalse(dialogue.in_transfer(exchange))
                self.assertFalse(dialogue.in_transfer(other))

    def test_rest_of_a_dropped_body_is_read_and_not_kept(self) -> None:
        dialogue, (exchange, _) = logged_in(Retrieve(1), Noop())
        dialogue.allow_pipelining()
        # Long, so that it is not put by.
        self.assertEqual(said(dialogue, b"+OK\r\n" + b"x" * 9000), [])
        dialogue.drop(exchange)
        self.assertEqual(
            said(dialogue, b"y" * 9000, b"\r\n.\r\n+OK\r\n"),
            [(Kind.ANSWERED, b""), (Kind.ANSWERED, None)],
        )

    def test_body_of_a_command_that_was_dropped_before_its_reply_is_not_kept(
        self,
    ) -> None:
        dialogue, exchange = streaming()
        dialogue.drop(exchange)
        self.assertEqual(
            said(dialogue, b"+OK\r\n" + b"x" * 9000, b"\r\n.\r\n"),
            [(Kind.BEGUN, None), (Kind.ENDED, 9002)],
        )

    def test_dropping_an_answered_exchange_keeps_the_body_that_is_read(self) -> None:
        # Within `receive`: the garbage collector may close a coroutine at any time.
        dialogue, (first, _) = logged_in(Retrieve(1), Retrieve(2))
        dialogue.allow_pipelining()

        class Chunk(bytes):
            def find(self, *arguments: Any) -> int:
                if dialogue.events:
                    dialogue.drop(first)
                return super().find(*arguments)

        body = b"x" * 9000 + b"\r\n"
        chunk = Chunk(b"+OK\r\n.\r\n+OK\r\n" + body)
        self.assertEqual(
            said(dialogue, chunk, b".\r\n"),
            [(Kind.ANSWERED, b""), (Kind.ANSWERED, body)],
        )

    def test_dropping_another_exchange_keeps_the_body_that_is_read(self) -> None:
        dialogue, (_, other) = logged_in(Retrieve(1), Retrieve(2))
        said(dialogue, b"+O", b"K\r\nabc")
        dialogue.drop(other)
        self.assertEqual(said(dialogue, b"\r\n.\r\n"), [(Kind.ANSWERED, b"abc\r\n")])


class SinkTests(SynchronousTestCase):
    """Bodies that go to a sink"""

    def test_short_body_that_comes_whole_is_one_event(self) -> None:
        dialogue, _ = streaming()
        self.assertEqual(
            said(dialogue, b"+OK\r\n..x\r\n.\r\n"), [(Kind.STREAMED, b".x\r\n")]
        )

    def test_body_in_pieces_begins_comes_and_ends_in_any_cut(self) -> None:
        body = b"..\r\n" + b"x" * 30 + b"\r\n"
        wire = b"+OK\r\n" + body + b".\r\n"
        for chunks in cuts(wire):
            dialogue, _ = streaming()
            happened = said(dialogue, *chunks)
            if len(chunks) == 1 or happened[0][0] is Kind.STREAMED:
                # Only the status line was cut.
                self.assertEqual(happened, [(Kind.STREAMED, body[1:])])
                continue
            self.assertEqual(happened[0], (Kind.BEGUN, None))
            self.assertEqual(happened[-1], (Kind.ENDED, len(body) - 1))
            pieces = happened[1:-1]
            self.assertEqual({kind for kind, _ in pieces}, {Kind.PIECE})
            self.assertEqual(b"".join(piece for _, piece in pieces), body[1:])
            self.assertNotIn(b"", [piece for _, piece in pieces])

    def test_pieces_are_delivered_as_they_come(self) -> None:
        dialogue, _ = streaming()
        self.assertEqual(
            said(dialogue, b"+OK\r\nabc"), [(Kind.BEGUN, None), (Kind.PIECE, b"abc")]
        )
        self.assertEqual(said(dialogue, b"de"), [(Kind.PIECE, b"de")])
        self.assertEqual(
            said(dialogue, b"\r\n.\r\n"), [(Kind.PIECE, b"\r\n"), (Kind.ENDED, 7)]
        )

    def test_refused_message_does_not_begin(self) -> None:
        dialogue, _ = streaming()
        self.assertEqual(said(dialogue, b"-ERR\r\n"), [(Kind.REFUSED, b"-ERR")])


class ListeningTests(SynchronousTestCase):
    """Lines in their order, just before the results that they belong to"""

    def test_lines_and_bodies_stand_just_before_their_results(self) -> None:
        wire = b"+OK a\r\n-ERR b\r\n+OK c\r\n.\r\n+OK d\r\n1 1\r\n.\r\n"
        for chunks in cuts(wire):
            dialogue, (one, two, three, four) = logged_in(
                Noop(), Dele(1), Retrieve(1), List(), listening=True
            )
            dialogue.allow_pipelining()
            dialogue.data_to_send()
            for chunk in chunks:
                dialogue.receive(chunk)
            self.assertEqual(
                list(dialogue.events),
                [
                    *((Kind.SENT, one, None), (Kind.SENT, two, None)),
                    *((Kind.SENT, three, None), (Kind.SENT, four, None)),
                    *((Kind.LINE, one, b"+OK a"), (Kind.ANSWERED, one, None)),
                    *((Kind.LINE, two, b"-ERR b"), (Kind.REFUSED, two, b"-ERR b")),
                    (Kind.LINE, three, b"+OK c"),
                    *((Kind.BODY, three, 0), (Kind.ANSWERED, three, b"")),
                    (Kind.LINE, four, b"+OK d"),
                    *((Kind.BODY, four, 5), (Kind.ANSWERED, four, [(1, 1)])),
                ],
            )

    def test_line_stands_before_a_sink_begins_and_body_before_it_ends(self) -> None:
        dialogue, _ = streaming(listening=True)
        dialogue.events.clear()
        happened = said(dialogue, b"+OK\r\nab", b"\r\n.\r\n")
        self.assertEqual(
            [kind for kind, _ in happened],
            [
                *(Kind.LINE, Kind.BEGUN, Kind.PIECE),
                *(Kind.PIECE, Kind.BODY, Kind.ENDED),
            ],
        )

    def test_command_sent_while_events_wait_is_heard_behind_them(self) -> None:
        dialogue, _ = logged_in(Noop(), Dele(1), listening=True)
        dialogue.data_to_send()
        dialogue.receive(b"+OK\r\n")
        dialogue.data_to_send()
        self.assertEqual(
            [kind for kind, _, _ in dialogue.events],
            [Kind.SENT, Kind.LINE, Kind.ANSWERED, Kind.SENT],
        )

    def test_greeting_and_unreadable_line_are_heard_as_they_came(self) -> None:
        dialogue = Dialogue(listening=True)
        happened = said(dialogue, b"+OK \xff\r\n")
        self.assertEqual(happened[0], (Kind.LINE, b"+OK \xff"))
        dialogue, _ = logged_in(Noop(), listening=True)
        happened = said(dialogue, b"\x1bwhat?\r\n")
        self.assertEqual(happened[1], (Kind.LINE, b"\x1bwhat?"))
        self.assertIs(happened[2][0], Kind.BROKEN)

    def test_without_a_listener_there_are_only_results(self) -> None:
        dialogue, _ = logged_in(Noop(), Retrieve(1))
        dialogue.allow_pipelining()
        happened = said(dialogue, b"+OK\r\n+OK\r\n.\r\n")
        self.assertEqual([kind for kind, _ in happened], [Kind.ANSWERED] * 2)


class ProgressTests(SynchronousTestCase):
    """Whether the server is given its whole time again"""

    def moved(self, dialogue: Dialogue, chunk: bytes) -> bool:
        dialogue.progress = False
        said(dialogue, chunk)
        return dialogue.progress

    def test_whole_replies_and_status_lines_are_progress(self) -> None:
        dialogue, _ = logged_in(Noop(), List())
        self.assertTrue(self.moved(dialogue, b"+OK\r\n"))
        self.assertTrue(self.moved(dialogue, b"+OK\r\n"))
        self.assertTrue(self.moved(dialogue, b".\r\n"))

    def test_bytes_of_a_status_line_and_blank_lines_are_no_progress(self) -> None:
        dialogue, _ = logged_in(Noop())
        for chunk in (b"\r\n", b"+", b"OK " + b"x" * 1000):
            self.assertFalse(self.moved(dialogue, chunk))

    def test_every_512_bytes_of_a_body_are_progress(self) -> None:
        for dialogue in (streaming()[0], logged_in(Retrieve(1))[0]):
            self.assertTrue(
                self.moved(dialogue, b"+OK\r\n" + b"x" * 9000) or dialogue.rest
            )
            moves = [self.moved(dialogue, b"x") for _ in range(2 * PROGRESS)]
            self.assertEqual(moves.count(True), 2)

    def test_bytes_of_one_body_do_not_count_for_the_next(self) -> None:
        dialogue, _ = logged_in(List(), List())
        rows = b"".join(b"%d 1\r\n" % number for number in range(1, 200))
        for _ in range(2):
            said(dialogue, b"+OK\r\n")
            self.assertTrue(self.moved(dialogue, rows[: PROGRESS + 4]))
            said(dialogue, rows[PROGRESS + 4 :], b".\r\n")

    def test_beginning_of_512_bytes_that_is_put_by_is_progress(self) -> None:
        for length, moved in ((PROGRESS - 1, False), (PROGRESS, True)):
            dialogue, _ = logged_in(Retrieve(1))
            chunk = b"+OK\r\n".ljust(length, b"x")
            self.assertEqual(self.moved(dialogue, chunk), moved)
            self.assertEqual(dialogue.rest, chunk)
