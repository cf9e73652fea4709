"""A dialogue, with bytes alone: what is sent when, and what a chunk may contain."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pop3connect import UID, Listing, Stat, UsageError
from pop3connect.sansio.commands import (
    Auth,
    AuthReply,
    Capa,
    Command,
    Dele,
    List,
    Noop,
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
    WINDOW,
    Dialogue,
)
from pop3connect.sansio.events import Broken, Kind
from pop3connect.sansio.exchange import Exchange
from pop3connect.sansio.replies import TLS_RECORD
from pop3connect.sansio.states import ALLOWED, State

from .owner import FOREVER, asked, cuts, logged_in, problem, said, singly

UNEXPECTED = "an unexpected reply; no command was pending"

INJECTED = (
    "more after its +OK to STLS, in the clear; somebody may have injected it, and "
    "nothing was sent in return"
)


def greeted(*commands: Command[Any], **options: Any) -> tuple[Dialogue, list[Exchange]]:
    """Return a dialogue before the login, to which these commands were given."""
    dialogue = Dialogue(**options)
    dialogue.receive(b"+OK\r\n")
    dialogue.events.clear()
    exchanges = [asked(command) for command in commands]
    for exchange in exchanges:
        dialogue.enqueue(exchange.command.verb, [exchange])
    return dialogue, exchanges


class GreetingTests(SynchronousTestCase):
    """The first line"""

    def test_greeting_cut_anywhere_is_one_event(self) -> None:
        for chunks in cuts(b"+OK ready <1@a>\r\n"):
            dialogue = Dialogue()
            self.assertEqual(
                said(dialogue, *chunks), [(Kind.GREETED, b"+OK ready <1@a>")], chunks
            )
            self.assertIs(dialogue.state, State.AUTHORIZATION)
            self.assertTrue(dialogue.progress)
            self.assertEqual(dialogue.rest, b"")

    def test_refused_greeting_closes_the_dialogue(self) -> None:
        dialogue = Dialogue()
        self.assertEqual(
            said(dialogue, b"-ERR busy\r\nx", b"+OK\r\n"),
            [(Kind.GREETED, b"-ERR busy")],
        )
        self.assertIs(dialogue.state, State.CLOSED)
        self.assertIs(dialogue.broken, None)
        with self.assertRaises(UsageError):
            dialogue.enqueue("CAPA", [asked(Capa())])

    def test_bytes_behind_the_greeting_end_the_session(self) -> None:
        for tail in (b"+OK forged\r\n", b"x", b"\r\n", b"\r", b"\n"):
            for chunks in ([b"+OK\r\n" + tail], [b"+OK\r\n", tail]):
                dialogue = Dialogue()
                happened = said(dialogue, *chunks)
                self.assertEqual(happened[0], (Kind.GREETED, b"+OK"))
                self.assertEqual(
                    happened[1:], [(Kind.BROKEN, Broken(UNEXPECTED, tail))]
                )

    def test_greeting_of_another_protocol_is_named(self) -> None:
        for line, protocol in [
            (b"* OK ready", "an IMAP server"),
            (b"220 mx ESMTP", "an SMTP server"),
            (b"hello", None),
            (b"", None),
        ]:
            dialogue = Dialogue()
            said(dialogue, line + b"\r\n")
            self.assertEqual(
                dialogue.broken,
                Broken("a line that is not a POP3 greeting", line, protocol=protocol),
            )

    def test_tls_record_is_recognised_by_its_second_byte(self) -> None:
        dialogue = Dialogue()
        self.assertEqual(said(dialogue, b"\x15"), [])
        said(dialogue, b"\x03")
        self.assertEqual(dialogue.broken, Broken("", b"\x15\x03", protocol=TLS_RECORD))

    def test_greeting_that_ends_in_lf_alone_stays_in_rest(self) -> None:
        dialogue = Dialogue()
        self.assertEqual(said(dialogue, b"+OK\n"), [])
        self.assertEqual(dialogue.rest, b"+OK\n")

    def test_no_command_is_possible_before_the_greeting(self) -> None:
        with self.assertRaises(UsageError) as caught:
            Dialogue().enqueue("QUIT", [asked(Quit())])
        self.assertEqual(caught.exception.verb, "QUIT")


# Commands after the login, the bytes that answer each, and what is to be read.
ANSWERS: list[tuple[Command[Any], bytes, Kind, object]] = [
    (Noop(), b"+OK\r\n", Kind.ANSWERED, None),
    (StatCommand(), b"+OK 2 320\r\n", Kind.ANSWERED, Stat(2, 320)),
    (Dele(1), b"-ERR no\r\n", Kind.REFUSED, b"-ERR no"),
    (Retrieve(1), b"+OK 3\r\n..x\r\n.\r\n", Kind.ANSWERED, b".x\r\n"),
    (Retrieve(2), b"-ERR gone\r\n", Kind.REFUSED, b"-ERR gone"),
    (Top(1), b"+OK\r\n.\r\n", Kind.ANSWERED, b""),
    (Top(2), b"+OK\tx\r\na: b\r\n\r\n.\r\n", Kind.ANSWERED, b"a: b\r\n\r\n"),
    (List(), b"+OK\r\n1 5\r\n2 7\r\n.\r\n", Kind.ANSWERED, [Listing(1, 5), (2, 7)]),
    (Uidl(), b"+OK\r\n1 a b\r\n.\r\n", Kind.ANSWERED, [UID(1, "a b")]),
    (Capa(), b"+OK\r\nTOP\r\n.\r\n", Kind.ANSWERED, {"TOP": ()}),
    (Quit(), b"+OK bye\r\n", Kind.ANSWERED, None),
]


class CuttingTests(SynchronousTestCase):
    """The same events, however the bytes are cut"""

    def test_each_reply_cut_anywhere_is_one_event(self) -> None:
        for command, wire, kind, value in ANSWERS:
            for chunks in cuts(wire):
                dialogue, exchanges = logged_in(command)
                self.assertEqual(dialogue.data_to_send(), command.line())
                for chunk in chunks:
                    dialogue.receive(chunk)
                self.assertEqual(
                    list(dialogue.events), [(kind, exchanges[0], value)], chunks
                )
                self.assertFalse(dialogue.owes)
                self.assertEqual(dialogue.rest, b"")

    def test_pipelined_replies_cut_anywhere_come_in_order(self) -> None:
        for chunks in cuts(b"".join(wire for _, wire, _, _ in ANSWERS)):
            dialogue, exchanges = logged_in(*(command for command, *_ in ANSWERS))
            dialogue.allow_pipelining()
            self.assertEqual(dialogue.data_to_send().count(b"\r\n"), len(ANSWERS))
            for chunk in chunks:
                dialogue.receive(chunk)
            self.assertEqual(
                list(dialogue.events),
                [
                    (kind, exchange, value)
                    for exchange, (*_, kind, value) in zip(
                        exchanges, ANSWERS, strict=True
                    )
                ],
            )

    def test_each_reply_with_a_tail_is_read_and_the_tail_ends_the_session(self) -> None:
        for command, wire, kind, value in ANSWERS:
            for chunks in cuts(wire + b"+OK forged\r\n"):
                dialogue, _ = logged_in(command)
                happened = said(dialogue, *chunks)
                self.assertEqual(happened[0], (kind, value))
                self.assertEqual([kind for kind, _ in happened[1:]], [Kind.BROKEN])
                self.assertEqual(problem(dialogue), UNEXPECTED)

    def test_messages_around_the_length_of_short_ones_are_read_in_any_cut(
        self,
    ) -> None:
        for length in (8170, 8186, 8187, 8188, 8189, 8190, 8191, 8192, 8193, 20_000):
            body = b"x" * length + b"\r\n"
            wire = b"+OK\r\n" + body + b".\r\n"
            for at in (0, 1, 4, 5, 6, 8000, len(wire) - 4, len(wire) - 1):
                dialogue, _ = logged_in(Retrieve(1), Noop())
                dialogue.allow_pipelining()
                happened = said(dialogue, wire[:at], wire[at:] + b"+OK\r\n")
                self.assertEqual(
                    happened, [(Kind.ANSWERED, body), (Kind.ANSWERED, None)], at
                )

    def test_a_line_that_is_not_a_status_line_ends_the_session(self) -> None:
        for command in (Noop(), Retrieve(1), List(), Quit()):
            for line in (b"what?", b"+ Y2hh", b"+OKAY", b"+", b" +OK"):
                dialogue, _ = logged_in(command)
                said(dialogue, line + b"\r\n")
                self.assertEqual(
                    dialogue.broken,
                    Broken(
                        f"a reply to {command.verb} that is not a status line", line
                    ),
                )

    def test_a_challenge_answers_auth_only(self) -> None:
        for command in (Auth("PLAIN"), AuthReply("")):
            dialogue, _ = greeted(command)
            [(kind, status)] = said(dialogue, b"+ Y2hh\r\n")
            self.assertIs(kind, Kind.ANSWERED)
            self.assertTrue(status.challenge)
        dialogue, _ = greeted(User("ada"))
        said(dialogue, b"+ Y2hh\r\n")
        self.assertIn("not a status line", problem(dialogue) or "")

    def test_unreadable_reply_fails_its_command_and_the_next_is_read(self) -> None:
        for command, wire in [
            (StatCommand(), b"+OK many\r\n"),
            (List(), b"+OK\r\nx\r\n1 1\r\n.\r\n"),
        ]:
            for chunks in cuts(wire + b"+OK\r\n"):
                dialogue, _ = logged_in(command, Noop())
                dialogue.allow_pipelining()
                (kind, _), last = said(dialogue, *chunks)
                self.assertIs(kind, Kind.UNREADABLE)
                self.assertEqual(last, (Kind.ANSWERED, None))
                self.assertIs(dialogue.broken, None)


class WindowTests(SynchronousTestCase):
    """What is sent, and when"""

    def test_one_command_at_a_time_without_pipelining(self) -> None:
        dialogue, _ = logged_in(Noop(), Dele(1))
        self.assertEqual(dialogue.data_to_send(), b"NOOP\r\n")
        self.assertEqual(dialogue.data_to_send(), b"")
        self.assertEqual((dialogue.verb, dialogue.unanswered), ("NOOP", 1))
        self.assertEqual(dialogue.outstanding, 2)
        dialogue.receive(b"+OK\r\n")
        self.assertEqual((dialogue.verb, dialogue.owes), (None, False))
        self.assertEqual(dialogue.data_to_send(), b"DELE 1\r\n")
        self.assertEqual(dialogue.outstanding, 1)

    def test_enqueue_sends_nothing(self) -> None:
        dialogue, _ = logged_in(Noop())
        self.assertEqual((dialogue.owes, dialogue.outstanding), (False, 1))
        self.assertEqual(list(dialogue.events), [])

    def test_pipelining_fills_the_window_and_refills_it_when_half_is_free(self) -> None:
        dialogue, _ = logged_in(*(Dele(n) for n in range(1, 2 * WINDOW + 1)))
        dialogue.allow_pipelining()
        lines = dialogue.data_to_send().splitlines()
        self.assertEqual(
            lines, [b"DELE %d" % number for number in range(1, WINDOW + 1)]
        )
        said(dialogue, b"+OK\r\n" * (WINDOW // 2 - 1))
        self.assertEqual(dialogue.data_to_send(), b"")
        dialogue.receive(b"+OK\r\n")
        lines = dialogue.data_to_send().splitlines()
        self.assertEqual((len(lines), lines[0]), (WINDOW // 2, b"DELE 257"))
        self.assertEqual(dialogue.unanswered, WINDOW)

    def test_reply_to_a_command_that_was_not_sent_yet_ends_the_session(self) -> None:
        dialogue, _ = logged_in(Noop(), Dele(1))
        happened = said(dialogue, b"+OK\r\n+OK forged\r\n")
        self.assertEqual(happened[0], (Kind.ANSWERED, None))
        self.assertEqual(problem(dialogue), UNEXPECTED)
        self.assertEqual(dialogue.data_to_send(), b"")

    def test_command_dropped_before_its_turn_is_not_sent(self) -> None:
        dialogue, (_, second, _) = logged_in(Noop(), Dele(1), Dele(2))
        dialogue.drop(second)
        dialogue.allow_pipelining()
        self.assertEqual(dialogue.data_to_send(), b"NOOP\r\nDELE 2\r\n")
        dialogue, (only,) = logged_in(Dele(1))
        dialogue.drop(only)
        self.assertEqual(dialogue.data_to_send(), b"")
        self.assertEqual(dialogue.outstanding, 0)

    def test_reply_to_a_dropped_command_is_read(self) -> None:
        dialogue, (first, _) = logged_in(Dele(1), Dele(2))
        dialogue.allow_pipelining()
        dialogue.data_to_send()
        dialogue.drop(first)
        self.assertEqual(
            said(dialogue, b"+OK\r\n-ERR\r\n"),
            [(Kind.ANSWERED, None), (Kind.REFUSED, b"-ERR")],
        )

    def test_verb_that_the_state_does_not_allow_is_refused_for_all(self) -> None:
        verbs = frozenset().union(*ALLOWED.values())
        for dialogue, _ in (greeted(), logged_in(), logged_in(Quit())):
            for verb in verbs - ALLOWED[dialogue.state]:
                before = dialogue.outstanding
                with self.assertRaises(UsageError) as caught:
                    dialogue.enqueue(verb, [asked(Noop()), asked(Noop())])
                self.assertIn(dialogue.state.value, str(caught.exception))
                self.assertEqual(dialogue.outstanding, before)

    def test_quit_lets_no_further_command_in(self) -> None:
        dialogue, _ = logged_in(Noop(), Quit())
        self.assertIs(dialogue.state, State.UPDATE)
        self.assertEqual(said(dialogue, b"+OK\r\n"), [(Kind.ANSWERED, None)])
        self.assertEqual(dialogue.data_to_send(), b"QUIT\r\n")

    def test_login_is_entered_from_authorization_only(self) -> None:
        for dialogue, _ in (logged_in(Quit()), greeted(Quit())):
            dialogue.logged_in()
            self.assertIs(dialogue.state, State.UPDATE)


class StlsTests(SynchronousTestCase):
    """RFC 2595 section 4"""

    def test_stls_waits_until_nothing_is_pending(self) -> None:
        dialogue, _ = greeted(Capa(), Stls(), Capa())
        dialogue.allow_pipelining()
        self.assertEqual(dialogue.data_to_send(), b"CAPA\r\n")
        said(dialogue, b"-ERR\r\n")
        self.assertEqual(dialogue.data_to_send(), b"STLS\r\n")

    def test_nothing_is_sent_after_stls_until_tls_has_started(self) -> None:
        for chunks in cuts(b"+OK begin\r\n"):
            dialogue, (stls, _) = greeted(Stls(), User("ada"))
            dialogue.allow_pipelining()
            self.assertEqual(dialogue.data_to_send(), b"STLS\r\n")
            for chunk in chunks:
                self.assertEqual(dialogue.data_to_send(), b"")
                dialogue.receive(chunk)
            self.assertEqual(dialogue.data_to_send(), b"")
            self.assertEqual(list(dialogue.events), [(Kind.START_TLS, stls, None)])
            dialogue.events.clear()
            dialogue.started_tls()
            self.assertEqual(list(dialogue.events), [(Kind.ANSWERED, stls, None)])
            self.assertEqual(dialogue.data_to_send(), b"USER ada\r\n")

    def test_tls_starts_once_if_empty_chunks_follow_ok_to_stls(self) -> None:
        dialogue, _ = greeted(Stls())
        happened = said(dialogue, b"+OK\r\n", b"", b"")
        self.assertEqual(happened, [(Kind.START_TLS, None)])
        dialogue.started_tls()
        self.assertEqual(said(dialogue, b""), [(Kind.ANSWERED, None)])

    def test_bytes_behind_ok_to_stls_end_the_session(self) -> None:
        for tail in (b"\r\n", b"\r", b"+OK forged\r\n", b"\x16\x03\x03"):
            for chunks in ([b"+OK\r\n" + tail], [b"+OK\r\n", tail]):
                dialogue, _ = greeted(Stls(), User("ada"))
                happened = said(dialogue, *chunks)
                self.assertEqual(
                    happened[-1], (Kind.BROKEN, Broken(INJECTED, None, "STLS"))
                )
                # In one chunk with the line: TLS does not even start.
                started = [Kind.START_TLS] if len(chunks) > 1 else []
                self.assertEqual([kind for kind, _ in happened[:-1]], started)
                dialogue.started_tls()
                self.assertEqual(list(dialogue.events), [])
                self.assertEqual(dialogue.data_to_send(), b"")

    def test_refused_stls_lets_the_session_go_on(self) -> None:
        dialogue, _ = greeted(Stls(), User("ada"))
        self.assertEqual(said(dialogue, b"-ERR\r\n"), [(Kind.REFUSED, b"-ERR")])
        self.assertEqual(dialogue.data_to_send(), b"USER ada\r\n")
        self.assertEqual(said(dialogue, b"+OK\r\n"), [(Kind.ANSWERED, None)])

    def test_pipelining_is_forgotten_when_tls_starts(self) -> None:
        dialogue, _ = greeted(Stls(), User("ada"), User("bob"))
        dialogue.allow_pipelining()
        said(dialogue, b"+OK\r\n")
        dialogue.started_tls()
        self.assertEqual(dialogue.data_to_send(), b"USER ada\r\n")

    def test_tls_before_the_greeting_answers_nothing(self) -> None:
        dialogue = Dialogue()
        dialogue.started_tls()
        self.assertEqual(list(dialogue.events), [])
        self.assertEqual(said(dialogue, b"+OK\r\n"), [(Kind.GREETED, b"+OK")])

    def test_stls_that_waits_for_reply_or_handshake_fails_once_when_session_ends(
        self,
    ) -> None:
        for chunk in (b"", b"+OK", b"+OK\r\n"):
            dialogue, (stls, later) = greeted(Stls(), User("ada"))
            said(dialogue, chunk)
            dialogue.close(FOREVER)
            self.assertEqual(
                list(dialogue.events),
                [(Kind.FAILED, stls, FOREVER), (Kind.FAILED, later, FOREVER)],
            )


class LeftoverTests(SynchronousTestCase):
    """Bytes that are left while no reply is owed"""

    def test_leftovers_end_the_session_in_every_state(self) -> None:
        forged = b"+OK forged\r\n"
        for dialogue in (
            greeted()[0],
            greeted(Capa())[0],
            logged_in()[0],
            logged_in(Noop())[0],
        ):
            self.assertEqual(
                said(dialogue, *([b"-ERR\r\n"] * dialogue.outstanding), forged)[-1],
                (Kind.BROKEN, Broken(UNEXPECTED, forged)),
            )
        update, _ = logged_in(Quit())
        said(update, b"+OK\r\n", b"x")
        self.assertEqual(problem(update), UNEXPECTED)

    def test_forged_ok_behind_capa_does_not_answer_the_login(self) -> None:
        dialogue, _ = greeted(Capa(), User("ada"))
        happened = said(dialogue, b"+OK\r\nUIDL\r\n.\r\n+OK forged\r\n")
        self.assertEqual([kind for kind, _ in happened], [Kind.ANSWERED, Kind.BROKEN])
        self.assertEqual(dialogue.data_to_send(), b"")

    def test_nothing_is_read_or_sent_after_the_session_was_broken(self) -> None:
        dialogue, _ = logged_in(Noop(), Noop())
        said(dialogue, b"what?\r\n")
        self.assertEqual(said(dialogue, b"+OK\r\n"), [])
        self.assertEqual(dialogue.data_to_send(), b"")
        with self.assertRaises(UsageError):
            dialogue.enqueue("NOOP", [asked(Noop())])


class BlankLineTests(SynchronousTestCase):
    """CR LF between two replies (Office 365)"""

    def test_blank_lines_after_the_login_are_ignored_in_any_cut(self) -> None:
        wire = b"\r\n+OK\r\n\r\n\r\n+OK\r\nx\r\n.\r\n\r\n-ERR\r\n\r\n"
        for chunks in cuts(wire):
            dialogue, _ = logged_in(Noop(), Retrieve(1), Dele(1))
            dialogue.allow_pipelining()
            self.assertEqual(
                said(dialogue, *chunks),
                [
                    (Kind.BLANK, None),
                    (Kind.ANSWERED, None),
                    (Kind.ANSWERED, b"x\r\n"),
                    (Kind.REFUSED, b"-ERR"),
                ],
            )
            self.assertEqual(dialogue.rest, b"")

    def test_blank_line_while_nothing_is_owed_is_ignored(self) -> None:
        dialogue, _ = logged_in()
        self.assertEqual(
            said(dialogue, b"\r\n", *singly(b"\r\n")), [(Kind.BLANK, None)]
        )
        self.assertIs(dialogue.broken, None)

    def test_blank_line_cut_in_two_around_a_command_is_ignored(self) -> None:
        dialogue, _ = logged_in(Noop())
        dialogue.receive(b"\r")
        self.assertEqual(dialogue.rest, b"\r")
        self.assertEqual(
            said(dialogue, b"\n+OK\r\n"), [(Kind.BLANK, None), (Kind.ANSWERED, None)]
        )

    def test_blank_line_before_the_login_ends_the_session(self) -> None:
        # Also when QUIT was asked for, which is no login.
        for commands in ([User("ada")], [User("ada"), Quit()]):
            for wire in (b"\r\n+OK\r\n", b"+OK\r\n\r\n", b"+OK\r\n\r"):
                dialogue, _ = greeted(*commands)
                said(dialogue, wire)
                self.assertIsNot(dialogue.broken, None, (commands, wire))

    def test_only_cr_lf_is_a_blank_line(self) -> None:
        for wire in (b"\n", b" \r\n", b"\r\r\n", b"\rx"):
            dialogue, _ = logged_in()
            said(dialogue, wire)
            self.assertEqual(problem(dialogue), UNEXPECTED, wire)

    def test_one_blank_line_too_many_ends_the_session(self) -> None:
        half = b"\r\n" * (MAX_BLANK_LINES // 2)
        for last in (b"\r\n", b"\r"):
            idle, _ = logged_in()
            self.assertEqual(said(idle, half, half), [(Kind.BLANK, None)])
            said(idle, last)
            self.assertEqual(problem(idle), UNEXPECTED)
        busy, _ = logged_in(Noop())
        self.assertEqual(said(busy, half, half), [(Kind.BLANK, None)])
        said(busy, b"\r\n")
        self.assertEqual(problem(busy), "a reply to NOOP that is not a status line")
