"""The dialogue, with bytes alone: what it sends, what it reads, what ends it."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pop3connect import ProtocolError, UsageError
from pop3connect.sansio.commands import (
    Auth,
    AuthReply,
    Capa,
    Command,
    Dele,
    List,
    Noop,
    Pass,
    Quit,
    Retrieve,
    StatCommand,
    Stls,
    Top,
    Uidl,
    User,
)
from pop3connect.sansio.dialogue import (
    MAX_BLANK_LINES,
    MAX_STATUS_LINE,
    WINDOW,
    Dialogue,
)
from pop3connect.sansio.events import Kind
from pop3connect.sansio.exchange import Exchange
from pop3connect.sansio.replies import TLS_RECORD, Status
from pop3connect.sansio.states import State

from .owner import FOREVER, SINK, asked, cuts, logged_in, said, singly

MESSAGE = b"Subject: x\r\n\r\n.dot\r\n"
WIRE = b"+OK\r\nSubject: x\r\n\r\n..dot\r\n.\r\n"


def greeted(**options: Any) -> Dialogue:
    dialogue = Dialogue(**options)
    dialogue.receive(b"+OK ready\r\n")
    dialogue.events.clear()
    return dialogue


def enqueue(dialogue: Dialogue, *commands: Command[Any]) -> list[Exchange]:
    exchanges = [asked(command) for command in commands]
    for exchange in exchanges:
        dialogue.enqueue(exchange.command.verb, [exchange])
    return exchanges


class GreetingTests(SynchronousTestCase):
    """The first line (RFC 1939 section 4)."""

    def test_greeting_is_one_event_however_it_is_cut(self) -> None:
        for chunks in cuts(b"+OK ready\r\n"):
            dialogue = Dialogue()
            self.assertEqual(said(dialogue, *chunks), [(Kind.GREETED, b"+OK ready")])
            self.assertIs(dialogue.state, State.AUTHORIZATION)
            self.assertTrue(dialogue.progress)

    def test_refusal_as_greeting_closes_the_state(self) -> None:
        dialogue = Dialogue()
        line = b"-ERR [IN-USE] busy"
        self.assertEqual(said(dialogue, line + b"\r\nmore"), [(Kind.GREETED, line)])
        self.assertIs(dialogue.state, State.CLOSED)

    def test_bytes_behind_the_greeting_in_its_chunk_end_the_session(self) -> None:
        for rest in (b"+OK\r\n", b"+", b"\r\n", b"\r"):
            dialogue = Dialogue()
            kinds = [kind for kind, _ in said(dialogue, b"+OK\r\n" + rest)]
            self.assertEqual(kinds, [Kind.GREETED, Kind.BROKEN], rest)
            self.assertIs(dialogue.state, State.CLOSED)

    def test_tls_record_is_recognized_by_its_first_bytes(self) -> None:
        for chunks in ([b"\x16\x03\x01\x00"], [b"\x16", b"\x03"]):
            dialogue = Dialogue()
            [(kind, broken)] = said(dialogue, *chunks)
            self.assertIs(kind, Kind.BROKEN)
            self.assertEqual(broken.protocol, TLS_RECORD)
            self.assertIs(dialogue.broken, broken)

    def test_other_protocol_is_named(self) -> None:
        [(_, broken)] = said(Dialogue(), b"220 mx.example.com ESMTP\r\n")
        self.assertEqual(broken.protocol, "an SMTP server")

    def test_greeting_that_is_no_status_line_ends_the_session(self) -> None:
        [(kind, broken)] = said(Dialogue(), b"hello\r\n")
        self.assertIs(kind, Kind.BROKEN)
        self.assertEqual((broken.protocol, broken.text), (None, b"hello"))

    def test_greeting_without_end_is_bounded(self) -> None:
        dialogue = Dialogue()
        self.assertEqual(said(dialogue, b"+OK " + b"x" * (MAX_STATUS_LINE - 4)), [])
        self.assertEqual(len(dialogue.rest), MAX_STATUS_LINE)
        [(kind, _)] = said(dialogue, b"xx")
        self.assertIs(kind, Kind.BROKEN)


class SendingTests(SynchronousTestCase):
    """The queue and the window."""

    def test_nothing_is_sent_before_the_greeting(self) -> None:
        dialogue = Dialogue()
        with self.assertRaises(UsageError) as caught:
            enqueue(dialogue, Capa())
        self.assertEqual(caught.exception.verb, "CAPA")
        self.assertEqual(dialogue.data_to_send(), b"")

    def test_one_command_at_a_time_without_pipelining(self) -> None:
        dialogue, _ = logged_in(Noop(), Dele(1), Noop())
        self.assertEqual(dialogue.data_to_send(), b"NOOP\r\n")
        self.assertEqual(dialogue.data_to_send(), b"")
        self.assertEqual((dialogue.unanswered, dialogue.outstanding), (1, 3))
        self.assertEqual(dialogue.verb, "NOOP")
        dialogue.receive(b"+OK\r\n")
        self.assertEqual(dialogue.data_to_send(), b"DELE 1\r\n")

    def test_window_is_filled_and_refilled_when_half_is_free(self) -> None:
        dialogue, _ = logged_in(*[Noop()] * (WINDOW + 200))
        dialogue.allow_pipelining()
        self.assertEqual(dialogue.data_to_send(), b"NOOP\r\n" * WINDOW)
        dialogue.receive(b"+OK\r\n" * (WINDOW // 2 - 1))
        self.assertEqual(dialogue.data_to_send(), b"")
        dialogue.receive(b"+OK\r\n")
        self.assertEqual(dialogue.data_to_send(), b"NOOP\r\n" * (WINDOW // 2))

    def test_missing_pipelining_closes_the_window_again(self) -> None:
        dialogue, _ = logged_in(*[Noop()] * 4)
        dialogue.allow_pipelining()
        dialogue.allow_pipelining(False)
        self.assertEqual(dialogue.data_to_send(), b"NOOP\r\n")

    def test_dropped_command_that_was_not_sent_is_removed(self) -> None:
        dialogue, [_, middle, last] = logged_in(Noop(), Dele(1), Dele(2))
        dialogue.data_to_send()
        dialogue.drop(middle)
        self.assertFalse(dialogue.in_transfer(middle))
        dialogue.receive(b"+OK\r\n")
        self.assertEqual(dialogue.data_to_send(), b"DELE 2\r\n")
        dialogue.drop(last)
        self.assertEqual(said(dialogue, b"+OK\r\n")[-1], (Kind.ANSWERED, None))

    def test_verb_is_checked_against_the_state(self) -> None:
        dialogue = greeted()
        with self.assertRaises(UsageError):
            enqueue(dialogue, Retrieve(1))
        dialogue.logged_in()
        with self.assertRaises(UsageError):
            enqueue(dialogue, User("ada"))
        enqueue(dialogue, Quit())
        self.assertIs(dialogue.state, State.UPDATE)
        with self.assertRaises(UsageError):
            enqueue(dialogue, Noop())

    def test_listening_dialogue_tells_what_was_sent_and_read_in_order(self) -> None:
        dialogue, [stat, retr] = logged_in(StatCommand(), Retrieve(1), listening=True)
        dialogue.allow_pipelining()
        dialogue.data_to_send()
        dialogue.receive(b"+OK 2 320\r\n" + WIRE)
        self.assertEqual(
            [(kind, about, value) for kind, about, value in dialogue.events],
            [
                (Kind.SENT, stat, None),
                (Kind.SENT, retr, None),
                (Kind.LINE, stat, b"+OK 2 320"),
                (Kind.ANSWERED, stat, (2, 320)),
                (Kind.LINE, retr, b"+OK"),
                (Kind.BODY, retr, len(MESSAGE)),
                (Kind.ANSWERED, retr, MESSAGE),
            ],
        )


class ReadingTests(SynchronousTestCase):
    """Replies, in pieces of any size."""

    def test_pipelined_replies_are_the_same_however_they_are_cut(self) -> None:
        wire = b"+OK 2 320\r\n" + WIRE + b"-ERR no\r\n+OK\r\n1 5\r\n.\r\n"
        for chunks in cuts(wire):
            dialogue, _ = logged_in(StatCommand(), Retrieve(1), Dele(1), List())
            dialogue.allow_pipelining()
            self.assertEqual(
                said(dialogue, *chunks),
                [
                    (Kind.ANSWERED, (2, 320)),
                    (Kind.ANSWERED, MESSAGE),
                    (Kind.REFUSED, b"-ERR no"),
                    (Kind.ANSWERED, [(1, 5)]),
                ],
            )
            self.assertFalse(dialogue.owes)
            self.assertIsNone(dialogue.verb)

    def test_long_message_is_put_together(self) -> None:
        text = b"x" * 70 + b"\r\n"
        for count in (1, 100, 5000):
            dialogue, _ = logged_in(Retrieve(1))
            wire = b"+OK\r\n" + text * count + b".\r\n"
            chunks = [wire[at : at + 1000] for at in range(0, len(wire), 1000)]
            self.assertEqual(said(dialogue, *chunks), [(Kind.ANSWERED, text * count)])

    def test_body_for_a_sink_comes_in_pieces_between_its_beginning_and_end(
        self,
    ) -> None:
        dialogue = logged_in()[0]
        dialogue.enqueue("RETR", [asked(Retrieve(1), SINK)])
        happened = said(dialogue, b"+OK\r\nSubj", b"ect: x\r\n\r\n..dot\r", b"\n.\r\n")
        kinds = [kind for kind, _ in happened]
        self.assertEqual((kinds[0], kinds[-1]), (Kind.BEGUN, Kind.ENDED))
        pieces = b"".join(value for kind, value in happened if kind is Kind.PIECE)
        self.assertEqual((pieces, happened[-1][1]), (MESSAGE, len(MESSAGE)))

    def test_short_body_for_a_sink_comes_whole(self) -> None:
        dialogue = logged_in()[0]
        dialogue.enqueue("TOP", [asked(Top(1), SINK)])
        self.assertEqual(said(dialogue, WIRE), [(Kind.STREAMED, MESSAGE)])

    def test_sasl_challenges_are_replies_of_the_commands_that_ask(self) -> None:
        dialogue = greeted()
        enqueue(dialogue, Auth("PLAIN"))
        [(kind, status)] = said(dialogue, b"+ Y2hh\r\n")
        self.assertEqual(
            (kind, status), (Kind.ANSWERED, Status(True, b"Y2hh", None, True))
        )
        enqueue(dialogue, AuthReply("eA=="))
        self.assertEqual(
            said(dialogue, b"+OK in\r\n"), [(Kind.ANSWERED, (True, b"in", None, False))]
        )
        # Elsewhere it is not a status line.
        other = greeted()
        enqueue(other, Capa())
        self.assertIs(said(other, b"+ Y2hh\r\n")[0][0], Kind.BROKEN)

    def test_unreadable_reply_fails_that_command_alone(self) -> None:
        dialogue, _ = logged_in(StatCommand(), Uidl(), Noop())
        dialogue.allow_pipelining()
        kinds = [
            kind for kind, _ in said(dialogue, b"+OK two\r\n+OK\r\nx\r\n.\r\n+OK\r\n")
        ]
        self.assertEqual(kinds, [Kind.UNREADABLE, Kind.UNREADABLE, Kind.ANSWERED])

    def test_progress_is_a_reply_or_512_bytes_of_a_body(self) -> None:
        dialogue, _ = logged_in(Retrieve(1))
        dialogue.progress = False
        said(dialogue, b"+OK\r\n" + b"x" * 9000)
        self.assertTrue(dialogue.progress)
        for count, expected in ((511, False), (1, True), (511, False), (1, True)):
            dialogue.progress = False
            said(dialogue, b"x" * count)
            self.assertIs(dialogue.progress, expected, count)

    def test_chunk_for_a_closed_dialogue_is_ignored(self) -> None:
        dialogue, _ = logged_in(Noop())
        dialogue.data_to_send()
        dialogue.close(FOREVER)
        dialogue.events.clear()
        self.assertEqual(said(dialogue, b"+OK\r\n"), [])

    def test_status_line_without_end_is_bounded(self) -> None:
        dialogue, _ = logged_in(Noop())
        self.assertEqual(said(dialogue, b"+OK " + b"x" * (MAX_STATUS_LINE - 4)), [])
        [(kind, broken)] = said(dialogue, b"xx")
        self.assertIs(kind, Kind.BROKEN)
        self.assertIn(str(MAX_STATUS_LINE), broken.problem)

    def test_message_beyond_its_limit_ends_the_session(self) -> None:
        for limit in (10, 9000):
            dialogue, _ = logged_in(Retrieve(1), max_message_size=limit)
            wire = b"+OK\r\n" + b"x" * limit
            self.assertEqual(said(dialogue, wire), [])
            [(kind, broken)] = said(dialogue, b"xx\r\n.\r\n")
            self.assertIs(kind, Kind.BROKEN)
            self.assertIn(f"max_message_size={limit}", broken.problem)

    def test_listing_beyond_its_limit_ends_the_session(self) -> None:
        for command in (List(), Uidl()):
            dialogue, _ = logged_in(command, max_listing=2)
            self.assertEqual(said(dialogue, b"+OK\r\n1 1\r\n2 2\r\n"), [])
            [(kind, broken)] = said(dialogue, b"3 3\r\n4")
            self.assertEqual((kind, broken.verb), (Kind.BROKEN, command.verb))


class LeftoverTests(SynchronousTestCase):
    """Bytes for which no reply is owed: they could be mail text, or forged."""

    def test_bytes_behind_the_last_reply_end_the_session(self) -> None:
        for command, reply in (
            (Capa(), b"+OK\r\nUSER\r\n.\r\n"),
            (User("ada"), b"+OK\r\n"),
            (Pass("x"), b"-ERR no\r\n"),
        ):
            for rest in (b"+OK\r\n", b"+OK forged", b"\r\n", b"\r", b"x"):
                dialogue = greeted()
                enqueue(dialogue, command)
                kinds = [kind for kind, _ in said(dialogue, reply + rest)]
                self.assertEqual(kinds[1:], [Kind.BROKEN], (command, rest))
                # In a chunk of its own it is no better.
                dialogue = greeted()
                enqueue(dialogue, command)
                kinds = [kind for kind, _ in said(dialogue, reply, rest)]
                self.assertEqual(kinds[1:], [Kind.BROKEN], (command, rest))

    def test_reply_does_not_answer_a_command_sent_after_it_came(self) -> None:
        dialogue, _ = logged_in(Noop(), Dele(1))
        kinds = [kind for kind, _ in said(dialogue, b"+OK\r\n+OK forged\r\n")]
        self.assertEqual(kinds, [Kind.ANSWERED, Kind.BROKEN])
        self.assertEqual(dialogue.data_to_send(), b"")
        with self.assertRaises(UsageError):
            enqueue(dialogue, Noop())

    def test_blank_lines_between_replies_after_the_login_are_ignored(self) -> None:
        wire = b"\r\n+OK\r\n\r\n" + WIRE + b"\r\n\r\n"
        for chunks in cuts(wire):
            dialogue, _ = logged_in(Noop(), Retrieve(1))
            dialogue.allow_pipelining()
            self.assertEqual(
                said(dialogue, *chunks),
                [
                    (Kind.BLANK, None),
                    (Kind.ANSWERED, None),
                    (Kind.ANSWERED, MESSAGE),
                ],
            )
            self.assertEqual(dialogue.rest, b"")

    def test_blank_lines_are_counted_also_while_nothing_is_owed(self) -> None:
        dialogue, _ = logged_in()
        half = b"\r\n" * (MAX_BLANK_LINES // 2)
        self.assertEqual(said(dialogue, half, half), [(Kind.BLANK, None)])
        self.assertEqual([kind for kind, _ in said(dialogue, b"\r\n")], [Kind.BROKEN])
        dialogue, _ = logged_in(Noop())
        kinds = [kind for kind, _ in said(dialogue, half, half, b"\r\n")]
        self.assertEqual(kinds, [Kind.BLANK, Kind.BROKEN])

    def test_blank_lines_before_the_login_end_the_session(self) -> None:
        dialogue = greeted()
        enqueue(dialogue, Capa())
        self.assertEqual([kind for kind, _ in said(dialogue, b"\r\n")], [Kind.BROKEN])

    def test_broken_dialogue_sends_nothing_and_takes_nothing(self) -> None:
        dialogue, _ = logged_in(Noop(), Noop())
        said(dialogue, b"what?\r\n")
        self.assertIs(dialogue.state, State.CLOSED)
        self.assertEqual(dialogue.data_to_send(), b"")
        with self.assertRaises(UsageError):
            enqueue(dialogue, Noop())
        self.assertEqual(said(dialogue, b"+OK\r\n"), [])


class StlsTests(SynchronousTestCase):
    """STLS (RFC 2595 section 4)."""

    def test_nothing_is_pending_when_stls_is_sent(self) -> None:
        dialogue = greeted()
        dialogue.allow_pipelining()
        enqueue(dialogue, Capa(), Stls(), Capa())
        self.assertEqual(dialogue.data_to_send(), b"CAPA\r\n")
        self.assertEqual(dialogue.data_to_send(), b"")
        dialogue.receive(b"+OK\r\nSTLS\r\n.\r\n")
        self.assertEqual(dialogue.data_to_send(), b"STLS\r\n")

    def test_nothing_is_sent_between_stls_and_the_end_of_the_handshake(self) -> None:
        dialogue = greeted()
        [stls, _] = enqueue(dialogue, Stls(), Capa())
        self.assertEqual(dialogue.data_to_send(), b"STLS\r\n")
        self.assertEqual(said(dialogue, b"+OK begin\r\n"), [(Kind.START_TLS, None)])
        self.assertEqual(dialogue.data_to_send(), b"")
        dialogue.started_tls()
        self.assertEqual(list(dialogue.events), [(Kind.ANSWERED, stls, None)])
        self.assertEqual(dialogue.data_to_send(), b"CAPA\r\n")

    def test_bytes_behind_its_ok_in_the_clear_end_the_session(self) -> None:
        for chunks in (
            [b"+OK\r\n+OK forged\r\n"],
            [b"+OK\r\n\r\n"],
            [b"+OK\r\nx"],
            [b"+OK\r\n", b"+OK forged\r\n"],
        ):
            dialogue = greeted()
            [stls] = enqueue(dialogue, Stls())
            happened = said(dialogue, *chunks)
            kind, broken = happened[-1]
            self.assertEqual((kind, broken.verb), (Kind.BROKEN, "STLS"))
            if len(chunks) == 1:
                # TLS is not even begun.
                self.assertEqual(len(happened), 1)
            dialogue.started_tls()
            self.assertEqual(list(dialogue.events), [])
            dialogue.close(FOREVER)
            self.assertEqual(list(dialogue.events), [(Kind.FAILED, stls, FOREVER)])

    def test_nothing_read_in_the_clear_survives_the_handshake(self) -> None:
        dialogue = greeted()
        dialogue.allow_pipelining()
        enqueue(dialogue, Stls(), Capa(), User("ada"))
        said(dialogue, b"+OK\r\n")
        dialogue.started_tls()
        self.assertEqual(dialogue.rest, b"")
        # Pipelining was offered in the clear.
        self.assertEqual(dialogue.data_to_send(), b"CAPA\r\n")

    def test_handshake_before_the_greeting_answers_no_command(self) -> None:
        dialogue = Dialogue()
        dialogue.started_tls()
        self.assertEqual(said(dialogue, b"+OK\r\n"), [(Kind.GREETED, b"+OK")])

    def test_refused_stls_lets_the_session_go_on(self) -> None:
        dialogue = greeted()
        enqueue(dialogue, Stls(), Capa())
        self.assertEqual(said(dialogue, b"-ERR no\r\n"), [(Kind.REFUSED, b"-ERR no")])
        self.assertEqual(dialogue.data_to_send(), b"CAPA\r\n")


class TransferTests(SynchronousTestCase):
    """What "in transfer" means, and what is dropped."""

    def test_message_is_in_transfer_from_its_ok_to_its_end_marker(self) -> None:
        dialogue, [retr] = logged_in(Retrieve(1))
        self.assertFalse(dialogue.in_transfer(retr))
        dialogue.data_to_send()
        begun = False
        for at, byte in enumerate(singly(WIRE)):
            dialogue.receive(byte)
            begun = begun or WIRE[: at + 1].endswith(b"+OK\r\n")
            done = at == len(WIRE) - 1
            self.assertEqual(dialogue.in_transfer(retr), begun and not done, at)

    def test_reply_that_is_put_by_is_in_transfer(self) -> None:
        dialogue, [retr, other] = logged_in(Retrieve(1), Retrieve(2))
        dialogue.allow_pipelining()
        dialogue.data_to_send()
        dialogue.receive(WIRE[:-3])
        self.assertTrue(dialogue.rest)
        self.assertTrue(dialogue.in_transfer(retr))
        self.assertFalse(dialogue.in_transfer(other))

    def test_reply_that_was_read_and_not_delivered_is_not_in_transfer(self) -> None:
        dialogue, [retr] = logged_in(Retrieve(1))
        dialogue.data_to_send()
        dialogue.receive(WIRE)
        self.assertEqual(len(dialogue.events), 1)
        self.assertFalse(dialogue.in_transfer(retr))

    def test_dropped_reply_is_read_and_nothing_of_it_is_kept(self) -> None:
        for sent in (0, 5, 20, 9000):
            dialogue, [retr, _] = logged_in(Retrieve(1), Noop())
            dialogue.allow_pipelining()
            dialogue.data_to_send()
            wire = b"+OK\r\n" + b"x" * 20_000 + b"\r\n.\r\n+OK\r\n"
            dialogue.receive(wire[:sent])
            dialogue.drop(retr)
            happened = said(dialogue, wire[sent:])
            self.assertEqual(len(happened), 2)
            self.assertEqual(happened[1], (Kind.ANSWERED, None))
            self.assertLessEqual(len(happened[0][1]), 20_002 if sent == 0 else 0)

    def test_dropped_listing_keeps_its_bounds(self) -> None:
        dialogue, [uidl] = logged_in(Uidl(), max_listing=2)
        said(dialogue, b"+OK\r\n1 a\r\n")
        dialogue.drop(uidl)
        self.assertEqual(
            [kind for kind, _ in said(dialogue, b"2 b\r\n3 c\r\n4")], [Kind.BROKEN]
        )


class ClosingTests(SynchronousTestCase):
    """No exchange is lost, whenever the session ends."""

    def test_every_exchange_fails_in_the_order_of_the_commands(self) -> None:
        dialogue, exchanges = logged_in(*[Noop()] * 6)
        dialogue.allow_pipelining()
        dialogue.data_to_send()
        dialogue.allow_pipelining(False)
        exchanges += enqueue(dialogue, Dele(1), Dele(2))
        # Two are read and not delivered, four are owed, two were not sent.
        dialogue.receive(b"+OK\r\n-ERR no\r\n")
        first = dialogue.events[0]
        dialogue.close(FOREVER)
        self.assertTrue(dialogue.closed)
        # The one that is being delivered stays the first until that is done.
        self.assertEqual(dialogue.events.popleft(), first)
        self.assertEqual(
            list(dialogue.events),
            [(Kind.FAILED, exchange, FOREVER) for exchange in exchanges[1:]],
        )
        self.assertEqual((dialogue.unanswered, dialogue.outstanding), (0, 0))

    def test_calls_are_kept_behind_the_failures(self) -> None:
        dialogue, [noop] = logged_in(Noop())
        dialogue.call_later(self.fail)
        dialogue.call_later(self.fail)
        dialogue.close(FOREVER)
        kinds = [kind for kind, _, _ in dialogue.events]
        self.assertEqual(kinds, [Kind.CALL, Kind.FAILED, Kind.CALL])
        self.assertIs(dialogue.events[1][1], noop)

    def test_lines_that_were_not_delivered_are_dropped(self) -> None:
        dialogue, exchanges = logged_in(Noop(), Retrieve(1), listening=True)
        dialogue.allow_pipelining()
        dialogue.data_to_send()
        dialogue.receive(b"+OK\r\n+OK\r\nx")
        dialogue.close(FOREVER)
        self.assertEqual(
            [(kind, about) for kind, about, _ in dialogue.events],
            [
                (Kind.SENT, exchanges[0]),
                (Kind.FAILED, exchanges[0]),
                (Kind.FAILED, exchanges[1]),
            ],
        )

    def test_close_after_broken_fails_what_was_owed(self) -> None:
        dialogue, [noop] = logged_in(Noop())
        said(dialogue, b"what?\r\n")
        self.assertFalse(dialogue.closed)
        dialogue.close(ProtocolError("what?"))
        [(kind, about, error)] = dialogue.events
        self.assertEqual((kind, about, str(error)), (Kind.FAILED, noop, "what?"))

    def test_state_after_login_is_entered_once(self) -> None:
        dialogue = greeted()
        dialogue.close(FOREVER)
        dialogue.logged_in()
        self.assertIs(dialogue.state, State.CLOSED)
