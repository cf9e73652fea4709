"""
The conversation: pipelining, what makes no sense, time limits, cancellation, loss.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost

from pop3connect import (
    CommandError,
    ConnectionLostError,
    Handle,
    ProtocolError,
    Stat,
    TimedOutError,
)

from ..support.memory import NAME, SessionTestCase
from ..support.shows import shows


class PipeliningTests(SessionTestCase):
    """Several commands at once (RFC 2449 section 6.6)."""

    def ask_three(self, handle: Handle) -> list[Deferred[Any]]:
        return [handle.noop(), handle.stat(), handle.size(7)]

    def one_at_a_time(self, handle: Handle) -> None:
        asked = self.ask_three(handle)
        self.server.expect(b"NOOP")
        self.pending(*asked)
        self.assertEqual(self.server.heard(), b"")
        self.server.say(b"+OK\r\n")
        self.server.expect(b"STAT", b"+OK 2 320\r\n")
        self.server.expect(b"LIST 7", b"+OK 7 200\r\n")
        self.assertEqual([self.result(one) for one in asked], [None, (2, 320), 200])
        self.assertIdle()

    def test_commands_are_sent_together_if_pipelining_is_announced(self) -> None:
        asked = self.ask_three(self.log_in("PIPELINING"))
        self.assertEqual(self.server.heard(), b"NOOP\r\nSTAT\r\nLIST 7\r\n")
        self.server.say(b"+OK\r\n+OK 2 320\r\n+OK 7 200\r\n")
        self.assertEqual([self.result(one) for one in asked], [None, (2, 320), 200])
        self.assertIdle()

    @shows(
        "RFC 2449-06",
        "MUST",
        "Pipeline only where it is announced; match the answers in order; do not fill "
        "the window and block.",
        "At most 256 short commands are unanswered; writes never block.",
    )
    def test_commands_are_sent_one_by_one_without_pipelining(self) -> None:
        self.one_at_a_time(self.log_in())

    def test_commands_are_sent_one_by_one_with_pipeline_false(self) -> None:
        self.one_at_a_time(self.log_in("PIPELINING", pipeline=False))

    def begin(self, before: bytes, after: bytes = b"") -> Handle:
        opening = self.open()
        self.server.say(b"+OK\r\n")
        self.server.expect(b"CAPA", before)
        self.server.expect(b"USER ada", b"+OK\r\n")
        self.server.expect(b"PASS lovelace", b"+OK\r\n")
        if after:
            self.server.expect(b"CAPA", after)
        handle = self.result(opening)
        assert isinstance(handle, Handle)
        return handle

    @shows(
        "RFC 2449-12",
        "MUST",
        "CAPA may be given before and after the login, and the answers may differ.",
        "The last reply counts.",
    )
    @shows("quirk 2.4")
    def test_pipelining_announced_only_after_login_is_used(self) -> None:
        # As Gmail does.
        handle = self.begin(b"+OK\r\n.\r\n", b"+OK\r\nPIPELINING\r\n.\r\n")
        asked = self.ask_three(handle)
        self.assertEqual(self.server.heard(), b"NOOP\r\nSTAT\r\nLIST 7\r\n")
        self.server.say(b"+OK\r\n+OK 2 320\r\n+OK 7 200\r\n")
        self.result(asked[2])

    @shows("quirk 2.4")
    def test_pipelining_announced_only_before_login_is_not_used(self) -> None:
        self.one_at_a_time(
            self.begin(b"+OK\r\nPIPELINING\r\n.\r\n", b"+OK\r\nUIDL\r\n.\r\n")
        )

    def test_pipelining_is_kept_if_capa_after_login_is_refused(self) -> None:
        handle = self.begin(b"+OK\r\nPIPELINING\r\n.\r\n", b"-ERR not now\r\n")
        asked = self.ask_three(handle)
        self.assertEqual(self.server.heard(), b"NOOP\r\nSTAT\r\nLIST 7\r\n")
        self.server.say(b"+OK\r\n+OK 2 320\r\n+OK 7 200\r\n")
        self.result(asked[2])

    def test_pipelining_is_not_used_if_capa_is_refused(self) -> None:
        self.one_at_a_time(self.begin(b"-ERR\r\n"))

    def conversation(self, size: int | None) -> None:
        handle = self.log_in("PIPELINING")
        order: list[int] = []
        asked: list[Deferred[Any]] = [
            handle.stat(),
            handle.retrieve(1),
            handle.retrieve(2),
            handle.list(),
            handle.delete(3),
            handle.top(4, 0),
            handle.uidl(),
            handle.uid(5),
        ]
        for index, one in enumerate(asked):
            one.addBoth(lambda result, index=index: (order.append(index), result)[1])
        self.server.heard()
        self.server.say(
            b"+OK 2 320\r\n"
            b"+OK\r\nSubject: one\r\n\r\n..\r\n.\r\n"
            b"-ERR no such message\r\n"
            b"+OK\r\n1 120\r\n2 200\r\n.\r\n"
            b"+OK\r\n"
            b"+OK\r\n.\r\n"
            b"+OK\r\n1 whqtswO00WBw418f9t5JxYwZ\r\n.\r\n"
            b"+OK 5 QhdPYR:00WBw1Ph7x7\r\n",
            size=size,
        )
        self.assertEqual(order, list(range(8)))
        self.assertEqual(self.result(asked[0]), (2, 320))
        self.assertEqual(self.result(asked[1]), b"Subject: one\r\n\r\n.\r\n")
        refused = self.error(asked[2], CommandError)
        self.assertEqual((refused.verb, refused.text), ("RETR", "no such message"))
        self.assertEqual(self.result(asked[3]), [(1, 120), (2, 200)])
        self.assertIsNone(self.result(asked[4]))
        self.assertEqual(self.result(asked[5]), b"")
        self.assertEqual(self.result(asked[6]), [(1, "whqtswO00WBw418f9t5JxYwZ")])
        self.assertEqual(self.result(asked[7]), "QhdPYR:00WBw1Ph7x7")
        self.assertIdle()

    def test_pipelined_replies_in_one_chunk_reach_their_commands(self) -> None:
        self.conversation(None)

    def test_pipelined_replies_byte_by_byte_reach_their_commands(self) -> None:
        self.conversation(1)

    @shows("RFC 2449-06")
    def test_pipelined_replies_in_chunks_of_any_size_reach_their_commands(self) -> None:
        for size in range(2, 40):
            self.conversation(size)
            self.anew()

    def test_refusal_fails_only_its_own_command(self) -> None:
        handle = self.log_in("PIPELINING")
        asked = [handle.size(number) for number in (1, 2, 3)]
        self.server.heard()
        self.server.say(b"+OK 1 10\r\n-ERR [SYS/TEMP] hm\r\n+OK 3 30\r\n")
        self.assertEqual(self.result(asked[0]), 10)
        self.assertEqual(self.error(asked[1], CommandError).code, "SYS/TEMP")
        self.assertEqual(self.result(asked[2]), 30)

    @shows("quirk 5.5")
    def test_unreadable_listing_fails_only_its_own_command(self) -> None:
        handle = self.log_in("PIPELINING")
        listing, uids, stat = handle.list(), handle.uidl(), handle.stat()
        self.server.heard()
        self.server.say(
            b"+OK\r\n1 120\r\nnonsense\r\n.\r\n+OK\r\nx\r\n.\r\n+OK 2 320\r\n"
        )
        self.assertEqual(self.error(listing, ProtocolError).verb, "LIST")
        self.assertEqual(self.error(uids, ProtocolError).verb, "UIDL")
        self.assertEqual(self.result(stat), Stat(2, 320))
        # And the session goes on.
        again = handle.noop()
        self.server.expect(b"NOOP", b"+OK\r\n")
        self.assertIsNone(self.result(again))

    @shows("feature 1.9", "Pipelining", "every command after the login; ``messages()``")
    @shows("RFC 2449-06")
    def test_10000_commands_are_sent_in_windows_of_at_most_4096_bytes(self) -> None:
        # RFC 2449 section 6.6: a client must not fill the server's receive buffer
        # while it does not read; both would wait for each other for ever.
        handle = self.log_in("PIPELINING")
        asked = [handle.size(number) for number in range(1, 10_001)]
        answered = 0
        most = 0
        heard = self.server.heard()
        waves = 0
        while heard:
            waves += 1
            lines = heard.split(b"\r\n")[:-1]
            most = max(most, len(heard))
            self.assertEqual(
                lines,
                [b"LIST %d" % (answered + 1 + at) for at in range(len(lines))],
            )
            self.pending(asked[answered])
            answered += len(lines)
            self.server.say(
                b"".join(b"+OK %b 17\r\n" % line.split()[1] for line in lines)
            )
            heard = self.server.heard()
        self.assertEqual(answered, 10_000)
        self.assertEqual([self.result(one) for one in asked], [17] * 10_000)
        # 4 kB are less than any receive buffer there is.
        self.assertLessEqual(most, 4096)
        # And yet far from one at a time.
        self.assertLess(waves, 1000)
        self.assertIdle()

    def test_window_is_refilled_before_its_last_reply_arrives(self) -> None:
        # Or the line would be idle for a round trip each time.
        handle = self.log_in("PIPELINING")
        asked = [handle.noop() for _ in range(2000)]
        lines = self.server.heard().count(b"\r\n")
        self.assertGreater(lines, 10)
        self.server.say(b"+OK\r\n" * (lines - 1))
        self.assertGreater(self.server.heard().count(b"\r\n"), 10)
        self.result(handle.abort())
        self.errors(asked[lines - 1 :], ConnectionLostError)

    @shows(
        "quirk 2.12",
        "A command in two segments confuses the server",
        "Each write contains whole commands.",
    )
    def test_each_write_ends_with_a_complete_command(self) -> None:
        # A command in two segments confuses some servers.
        handle = self.log_in("PIPELINING")
        asked = [handle.noop() for _ in range(3000)]
        for _ in range(3000):
            lines = self.server.heard().count(b"\r\n")
            if not lines:
                break
            self.server.say(b"+OK\r\n" * lines)
        self.result(asked[-1])
        for write in self.server.transport.writes:
            self.assertTrue(write.endswith(b"\r\n"))
        # And not a write for each, either: a packet for each would follow.
        self.assertLess(len(self.server.transport.writes), 1000)

    def test_command_issued_in_a_callback_is_sent(self) -> None:
        handle = self.log_in("PIPELINING")
        second: list[Deferred[Any]] = []
        first = handle.stat()
        first.addCallback(lambda _: second.append(handle.noop()))
        third = handle.size(3)
        self.server.heard()
        self.server.say(b"+OK 2 320\r\n+OK 3 30\r\n")
        self.server.expect(b"NOOP", b"+OK\r\n")
        self.assertEqual(self.result(third), 30)
        self.assertIsNone(self.result(second[0]))

    def test_abort_in_a_callback_fails_the_next_command(self) -> None:
        handle = self.log_in("PIPELINING")
        first, second = handle.retrieve(1), handle.retrieve(2)
        first.addCallback(lambda _: handle.abort())
        self.server.heard()
        self.server.say(b"+OK\r\n\r\n.\r\n+OK\r\n\r\n.\r\n")
        self.result(first)
        self.error(second, ConnectionLostError)
        self.assertClosed()


class BrokenPipeliningTests(SessionTestCase):
    """
    Servers that announce PIPELINING and cannot do it: the error names the switch.
    """

    def ask(self) -> list[Deferred[Any]]:
        handle = self.log_in("PIPELINING")
        asked: list[Deferred[Any]] = [handle.stat(), handle.noop(), handle.stat()]
        self.assertEqual(self.server.heard(), b"STAT\r\nNOOP\r\nSTAT\r\n")
        return asked

    @shows(
        "quirk 2.11",
        "PIPELINING is announced, and replies are missing or mixed up",
        "The error names ``pipeline=False``, and with that option the session works.",
    )
    def test_nonsense_reply_to_pipelined_commands_suggests_pipeline_false(self) -> None:
        asked = self.ask()
        self.server.say(b"+OK 2 320\r\nSubject: what was never asked for\r\n")
        self.assertEqual(self.result(asked[0]), (2, 320))
        for lost in asked[1:]:
            self.assertIn("pipeline=False", str(self.error(lost, ProtocolError)))

    @shows("quirk 2.11")
    def test_missing_reply_to_pipelined_commands_suggests_pipeline_false(self) -> None:
        asked = self.ask()
        self.server.say(b"+OK 2 320\r\n")
        self.clock.advance(61)
        self.assertEqual(self.result(asked[0]), (2, 320))
        for lost in asked[1:]:
            self.assertIn("pipeline=False", str(self.error(lost, TimedOutError)))

    def test_nonsense_reply_to_one_command_does_not_blame_pipelining(self) -> None:
        handle = self.log_in("PIPELINING")
        asked = handle.stat()
        self.server.say(b"what?\r\n")
        self.assertNotIn("pipeline=False", str(self.error(asked, ProtocolError)))


class SenseTests(SessionTestCase):
    """What makes no sense ends the session: rule 4 of the design."""

    def over(self, handle: Handle) -> None:
        """Check that the session is over, for all that may come."""
        self.assertTrue(self.server.transport.aborting)
        self.assertClosed()
        self.server.heard()
        self.assertIsNone(self.result(handle.when_closed()))
        later = handle.size(3)
        error = self.error(later, ProtocolError)
        self.assertEqual(error.verb, "LIST")
        self.assertEqual(self.server.heard(), b"")

    @shows("RFC 1939-18")
    def test_unexpected_reply_in_idle_session_ends_session(self) -> None:
        handle = self.log_in()
        self.server.say(b"-ERR autologout; idle for too long\r\n")
        self.over(handle)
        # What the server had to say is what the next one is told.
        self.assertIn("autologout", str(self.error(handle.noop(), ProtocolError)))

    def test_reply_begun_before_its_command_ends_session(self) -> None:
        # It began before the question, so it is no answer to it.
        handle = self.log_in()
        self.server.say(b"+OK 9 99")
        asked = handle.stat()
        self.server.say(b"9\r\n")
        self.error(asked, ProtocolError)
        self.over(handle)

    def test_second_reply_to_one_command_ends_session(self) -> None:
        handle = self.log_in()
        asked, waiting = handle.stat(), handle.noop()
        self.server.expect(b"STAT", b"+OK 2 320\r\n+OK 2 320\r\n")
        self.assertEqual(self.result(asked), (2, 320))
        # It had come before NOOP was sent, so it cannot answer that.
        self.assertEqual(self.error(waiting, ProtocolError).verb, "NOOP")
        self.over(handle)

    def test_surplus_reply_to_pipelined_commands_ends_session(self) -> None:
        handle = self.log_in("PIPELINING")
        asked = [handle.noop(), handle.noop()]
        self.server.heard()
        self.server.say(b"+OK\r\n+OK\r\n+OK\r\n")
        self.assertEqual([self.result(one) for one in asked], [None, None])
        self.over(handle)

    def test_surplus_reply_after_body_ends_session(self) -> None:
        handle = self.log_in()
        asked = handle.retrieve(1)
        self.server.expect(b"RETR 1", b"+OK\r\n\r\n.\r\n+OK\r\n")
        self.assertEqual(self.result(asked), b"\r\n")
        self.over(handle)

    def more_behind_a_body_of_several_chunks(self, rest: bytes) -> None:
        handle = self.log_in()
        asked, waiting = handle.retrieve(1), handle.delete(2)
        self.server.expect(b"RETR 1", b"+OK\r\nSubject: one\r\n")
        self.server.say(b"\r\n.\r\n" + rest)
        self.assertEqual(self.result(asked), b"Subject: one\r\n\r\n")
        # It had come before DELE was sent, so it cannot answer that.
        self.assertEqual(self.error(waiting, ProtocolError).verb, "DELE")
        self.over(handle)

    @shows("quirk 6.2")
    @shows("attack 4.3")
    def test_surplus_reply_after_body_in_chunks_ends_session(self) -> None:
        self.more_behind_a_body_of_several_chunks(b"+OK\r\n")

    def test_surplus_reply_after_body_and_blank_line_ends_session(self) -> None:
        self.more_behind_a_body_of_several_chunks(b"\r\n+OK\r\n")

    @shows("attack 4.3")
    def test_partial_line_after_body_ends_session(self) -> None:
        self.more_behind_a_body_of_several_chunks(b"+OK")

    @shows("quirk 4.5")
    def test_blank_line_after_body_in_chunks_is_ignored(self) -> None:
        handle = self.log_in()
        asked = handle.retrieve(1)
        self.server.expect(b"RETR 1", b"+OK\r\nSubject: one\r\n")
        self.server.say(b"\r\n.\r\n\r\n")
        self.assertEqual(self.result(asked), b"Subject: one\r\n\r\n")
        asked = handle.noop()
        self.server.expect(b"NOOP", b"+OK\r\n")
        self.assertIsNone(self.result(asked))

    @shows("quirk 4.5")
    def test_split_blank_line_is_ignored_but_lone_cr_ends_session(self) -> None:
        handle = self.log_in()
        asked = handle.noop()
        self.server.expect(b"NOOP", b"+OK\r\n\r")
        self.assertIsNone(self.result(asked))
        self.server.say(b"\n")
        asked = handle.noop()
        self.server.expect(b"NOOP", b"+OK\r\n\r")
        self.assertIsNone(self.result(asked))
        # What it was the beginning of is no blank line then.
        asked = handle.noop()
        self.server.expect(b"NOOP", b"+OK\r\n")
        self.error(asked, ProtocolError)
        self.over(handle)

    @shows("quirk 6.2")
    def test_mail_text_where_a_reply_is_due_ends_session(self) -> None:
        # A server that does not stuff dots ends its message too early.  The rest of it
        # must not be taken for answers, whatever its writer has put there.
        handle = self.log_in("PIPELINING")
        asked = [handle.retrieve(number) for number in (1, 2, 3)]
        self.server.heard()
        self.server.say(
            b"+OK\r\nSubject: one\r\n\r\n.\r\n"
            b"an alien line\r\n+OK\r\nnot what it seems\r\n.\r\n"
        )
        self.assertEqual(self.result(asked[0]), b"Subject: one\r\n\r\n")
        for error in self.errors(asked[1:], ProtocolError):
            self.assertEqual(error.verb, "RETR")
            self.assertIn("an alien line", str(error))
            self.assertNotIn("seems", str(error))
        self.over(handle)

    def nonsense(self, answer: bytes) -> str:
        handle = self.log_in()
        asked, waiting = handle.noop(), handle.stat()
        self.server.expect(b"NOOP", answer)
        errors = self.errors([asked, waiting], ProtocolError)
        # Each hears of its own command.
        self.assertEqual([error.verb for error in errors], ["NOOP", "STAT"])
        self.assertIsNot(errors[0], errors[1])
        self.over(handle)
        return str(errors[0])

    @shows("RFC 1939-19")
    def test_reply_that_is_not_a_status_line_is_quoted_in_error(self) -> None:
        self.assertIn("HELLO", self.nonsense(b"HELLO\r\n"))

    def test_almost_correct_status_line_ends_session(self) -> None:
        for answer in (b" +OK\r\n", b"OK\r\n", b"+ERRor\r\n", b"-OK\r\n"):
            self.nonsense(answer)
            self.anew()

    def test_challenge_outside_of_login_ends_session(self) -> None:
        self.nonsense(b"+ bW9yZQ==\r\n")

    def test_control_characters_are_escaped(self) -> None:
        text = self.nonsense(b"\x1b]0;you are hacked\x07\r\n")
        self.assertIn("0;you are hacked", text)
        self.assertTrue(text.isprintable())

    @shows("quirk 4.4")
    def test_endless_status_line_ends_session_with_short_error(self) -> None:
        handle = self.log_in()
        asked = handle.noop()
        self.server.heard()
        self.server.say(b"+OK " + b"x" * 100_000, size=1460)
        error = self.error(asked, ProtocolError)
        self.assertLess(len(str(error)), 2000)
        self.over(handle)

    def test_overlong_status_line_ends_session_with_short_error(self) -> None:
        self.assertLess(len(self.nonsense(b"+OK " + b"x" * 100_000 + b"\r\n")), 2000)

    def test_overlong_status_line_between_two_bodies_ends_session(self) -> None:
        handle = self.log_in("PIPELINING")
        asked = [handle.retrieve(1), handle.retrieve(2)]
        self.server.heard()
        self.server.say(b"+OK\r\n\r\n.\r\n+OK " + b"x" * 100_000 + b"\r\n.\r\n")
        self.assertEqual(self.result(asked[0]), b"\r\n")
        self.error(asked[1], ProtocolError)
        self.over(handle)

    @shows(
        "quirk 4.4",
        "Lines of more than 512 octets",
        "They are read, up to 16,384 octets.",
    )
    def test_status_line_of_2000_characters_is_accepted(self) -> None:
        # RFC 2449 section 4 allows 512 octets; servers pass it.
        handle = self.log_in()
        asked = handle.stat()
        self.server.expect(b"STAT", b"+OK 2 320 " + b"x" * 2000 + b"\r\n")
        self.assertEqual(self.result(asked), (2, 320))

    def test_data_after_session_end_is_ignored(self) -> None:
        handle = self.log_in("PIPELINING")
        asked = [handle.noop(), handle.noop()]
        self.server.heard()
        self.server.say(b"nonsense\r\n+OK\r\n")
        self.server.client.dataReceived(b"+OK\r\n")
        self.errors(asked, ProtocolError)
        self.assertEqual(self.status[-1], "S: nonsense")
        self.over(handle)


class TimeLimitTests(SessionTestCase):
    """Nobody waits for ever: rule 7 of the design."""

    def over(self, asked: list[Deferred[Any]]) -> None:
        for error in self.errors(asked, TimedOutError):
            self.assertEqual(error.phase, "reply")
            self.assertEqual(error.seconds, 7)
            self.assertIn("7 seconds", str(error))
        self.assertTrue(self.server.transport.aborting)
        self.assertClosed()

    def test_missing_reply_times_out_and_ends_session(self) -> None:
        handle = self.log_in(timeout=7)
        asked: list[Deferred[Any]] = [handle.stat(), handle.noop()]
        self.clock.advance(6.9)
        self.pending(*asked)
        self.clock.advance(0.2)
        self.over(asked)
        verbs = [error.verb for error in self.errors([handle.uidl()], TimedOutError)]
        self.assertEqual(verbs, ["UIDL"])

    def test_each_timed_out_command_gets_error_with_its_own_verb(self) -> None:
        handle = self.log_in("PIPELINING", timeout=7)
        asked: list[Deferred[Any]] = [handle.stat(), handle.retrieve(3)]
        self.clock.advance(7.1)
        verbs = [error.verb for error in self.errors(asked, TimedOutError)]
        self.assertEqual(verbs, ["STAT", "RETR"])

    def test_idle_session_does_not_time_out(self) -> None:
        handle = self.log_in(timeout=7)
        self.clock.advance(100_000)
        asked = handle.noop()
        # It begins with the question, not with the last answer.
        self.clock.advance(6.9)
        self.pending(asked)
        self.server.expect(b"NOOP", b"+OK\r\n")
        self.assertIsNone(self.result(asked))
        self.assertIdle()

    def test_time_limit_is_stopped_before_the_last_reply_is_delivered(self) -> None:
        # Application code may take as long as it likes.
        handle = self.log_in("PIPELINING", timeout=7)
        asked: list[Deferred[Any]] = [handle.noop(), handle.retrieve(1)]
        asked[1].addCallback(lambda _: self.clock.pump([6, 6, 6]))
        self.server.heard()
        self.server.say(b"+OK\r\n")
        self.clock.advance(6)
        self.server.say(b"+OK\r\nSubject: a\r\n.\r\n")
        for one in asked:
            self.result(one)
        self.assertIdle()

    def test_time_limit_of_a_command_sent_on_delivery_begins_there(self) -> None:
        handle = self.log_in(timeout=7)
        asked: list[Deferred[Any]] = [handle.noop()]

        def ask_again(_: object) -> None:
            self.clock.advance(5)
            asked.append(handle.noop())

        asked[0].addCallback(ask_again)
        self.clock.advance(6)
        self.server.say(b"+OK\r\n")
        self.clock.advance(6.9)
        self.pending(asked[1])
        self.clock.advance(0.2)
        self.over(asked[1:])

    def test_timeout_restarts_with_each_reply(self) -> None:
        handle = self.log_in("PIPELINING", timeout=7)
        asked: list[Deferred[Any]] = [handle.noop() for _ in range(10)]
        for one in asked[:9]:
            self.clock.advance(6)
            self.server.say(b"+OK\r\n")
            self.assertIsNone(self.result(one))
        self.clock.advance(6.9)
        self.pending(asked[9])
        self.clock.advance(0.2)
        self.over(asked[9:])

    def test_sending_more_commands_does_not_extend_timeout(self) -> None:
        handle = self.log_in("PIPELINING", timeout=7)
        asked: list[Deferred[Any]] = []
        for _ in range(8):
            asked.append(handle.noop())
            self.clock.advance(1)
        self.over(asked)

    def test_trickling_status_line_times_out(self) -> None:
        handle = self.log_in(timeout=7)
        asked = handle.noop()
        for octet in b"+OK this takes a while":
            self.server.say(bytes([octet]))
            self.clock.advance(1)
        self.over([asked])

    @shows(
        "quirk 6.10",
        "A slow message, an octet at a time",
        "512 octets have to come within ``timeout``, so the session ends.",
    )
    def test_trickling_body_times_out(self) -> None:
        # A server that sends an octet now and then would hold us for ever.
        handle = self.log_in(timeout=7)
        asked = handle.retrieve(1)
        self.server.expect(b"RETR 1", b"+OK\r\n")
        for _ in range(30):
            self.clock.advance(1)
            self.server.say(b"x")
        self.over([asked])

    def test_stalled_body_times_out(self) -> None:
        handle = self.log_in(timeout=7)
        asked = handle.retrieve(1)
        self.server.expect(b"RETR 1", b"+OK\r\n" + b"x" * 100_000)
        self.clock.advance(6.9)
        self.pending(asked)
        self.clock.advance(0.2)
        self.over([asked])

    @shows("quirk 6.10")
    def test_slow_body_with_steady_progress_does_not_time_out(self) -> None:
        # Ten minutes, as over a bad line; each second has its share.
        handle = self.log_in(timeout=7)
        asked = handle.retrieve(1)
        self.server.expect(b"RETR 1", b"+OK\r\n")
        for _ in range(600):
            self.clock.advance(1)
            self.server.say(b"x" * 100)
        self.server.say(b"\r\n.\r\n")
        self.assertEqual(len(self.result(asked)), 60_002)
        self.assertIdle()

    def test_missing_reply_to_cancelled_command_still_times_out(self) -> None:
        handle = self.log_in(timeout=7)
        asked = handle.noop()
        asked.cancel()
        self.error(asked, CancelledError)
        self.clock.advance(7.1)
        self.over([handle.stat()])

    def test_no_timer_is_left_after_a_failed_listing(self) -> None:
        handle = self.log_in()
        asked = handle.list()
        self.server.expect(b"LIST", b"+OK\r\nx\r\n.\r\n")
        self.error(asked, ProtocolError)
        self.assertIdle()


class CancellationTests(SessionTestCase):
    """Cancelling a command leaves a defined state: rule 8 of the design."""

    def test_command_cancelled_before_sending_is_never_sent(self) -> None:
        handle = self.log_in()
        first, second, third = handle.stat(), handle.delete(2), handle.noop()
        second.cancel()
        self.error(second, CancelledError)
        self.server.expect(b"STAT", b"+OK 2 320\r\n")
        self.server.expect(b"NOOP", b"+OK\r\n")
        self.assertEqual(self.result(first), (2, 320))
        self.assertIsNone(self.result(third))

    def test_nothing_is_sent_after_all_queued_commands_are_cancelled(self) -> None:
        handle = self.log_in()
        first = handle.noop()
        others = [handle.delete(number) for number in range(1, 6)]
        for other in others:
            other.cancel()
        self.errors(others, CancelledError)
        self.server.expect(b"NOOP", b"+OK\r\n")
        self.assertIsNone(self.result(first))
        self.assertEqual(self.server.heard(), b"")
        self.assertIdle()

    def test_reply_to_cancelled_command_is_consumed_and_dropped(self) -> None:
        for answer in (b"+OK 2 320\r\n", b"-ERR no\r\n", b"+OK nonsense\r\n"):
            handle = self.log_in()
            first, second = handle.stat(), handle.size(7)
            first.cancel()
            self.error(first, CancelledError)
            # Nothing moves before the answer has come.
            self.server.expect(b"STAT")
            self.assertEqual(self.server.heard(), b"")
            self.server.say(answer)
            self.server.expect(b"LIST 7", b"+OK 7 200\r\n")
            self.assertEqual(self.result(second), 200)
            self.assertIdle()
            self.anew()

    def test_replies_match_remaining_commands_after_cancellations(self) -> None:
        handle = self.log_in("PIPELINING")
        asked = [handle.size(number) for number in range(1, 6)]
        for index in (0, 2, 3):
            asked[index].cancel()
            self.error(asked[index], CancelledError)
        self.server.heard()
        self.server.say(
            b"".join(b"+OK %d %d\r\n" % (number, number) for number in range(1, 6))
        )
        self.assertEqual(self.result(asked[1]), 2)
        self.assertEqual(self.result(asked[4]), 5)
        self.assertIdle()

    def test_body_of_command_cancelled_before_its_reply_is_dropped(self) -> None:
        for size in (None, 1):
            handle = self.log_in("PIPELINING")
            first, second, third = handle.retrieve(1), handle.list(), handle.noop()
            first.cancel()
            second.cancel()
            self.errors([first, second], CancelledError)
            self.server.heard()
            self.server.say(
                b"+OK\r\n" + b"line\r\n..\r\n" * 99 + b".\r\n"
                b"+OK\r\n1 120\r\n.\r\n"
                b"+OK\r\n",
                size=size,
            )
            self.assertIsNone(self.result(third))
            self.assertIdle()
            self.anew()

    def test_cancelling_a_message_in_transfer_ends_session(self) -> None:
        # The rest could be of any length.
        handle = self.log_in("PIPELINING")
        first, second = handle.retrieve(1), handle.noop()
        self.server.heard()
        self.server.say(b"+OK\r\nSubject: lo")
        first.cancel()
        self.assertTrue(self.server.transport.aborting)
        self.error(first, CancelledError)
        error = self.error(second, ConnectionLostError)
        self.assertEqual(error.verb, "NOOP")
        self.assertIn("cancelled", str(error))
        self.error(handle.stat(), ConnectionLostError)
        self.assertClosed()

    def test_cancelling_a_message_in_transfer_fails_queued_commands(self) -> None:
        handle = self.log_in()
        first = handle.retrieve(1)
        others: list[Deferred[Any]] = [handle.retrieve(2), handle.stat()]
        self.server.expect(b"RETR 1", b"+OK\r\nSubject: lo")
        first.cancel()
        self.error(first, CancelledError)
        self.errors(others, ConnectionLostError)
        self.assertEqual(self.server.heard(), b"")
        self.assertClosed()

    def test_command_cancelled_in_a_callback_does_not_affect_others(self) -> None:
        handle = self.log_in("PIPELINING")
        second: list[Deferred[Any]] = []
        first = handle.stat().addCallback(lambda _: second[0].cancel())
        second.append(handle.size(2))
        third = handle.size(3)
        self.server.heard()
        self.server.say(b"+OK 2 320\r\n+OK 2 200\r\n+OK 3 300\r\n")
        self.result(first)
        self.error(second[0], CancelledError)
        self.assertEqual(self.result(third), 300)

    def test_errback_of_cancelled_command_can_send_another_command(self) -> None:
        handle = self.log_in()
        first = handle.stat()
        again: list[Deferred[Any]] = []
        first.addErrback(lambda _: again.append(handle.noop()))
        first.cancel()
        self.server.expect(b"STAT", b"+OK 2 320\r\n")
        self.server.expect(b"NOOP", b"+OK\r\n")
        self.assertIsNone(self.result(again[0]))

    def test_cancelled_commands_do_not_fire_again_on_connection_loss(self) -> None:
        handle = self.log_in()
        results: list[Any] = []
        sent, waiting = handle.stat(), handle.noop()
        for one in (sent, waiting):
            one.addBoth(results.append)
            one.cancel()
        self.server.lose()
        self.assertEqual([type(one.value) for one in results], [CancelledError] * 2)


class LossTests(SessionTestCase):
    """The connection goes away: rule 3 of the design."""

    def lost(self, begin: Callable[[Handle], Any], *said: bytes) -> None:
        for reason in (ConnectionLost(), ConnectionDone()):
            handle = self.log_in("PIPELINING")
            asked: list[Deferred[Any]] = [begin(handle), handle.stat(), handle.noop()]
            self.server.heard()
            for data in said:
                self.server.say(data)
            closed = handle.when_closed()
            self.pending(closed, *asked)
            self.server.lose(reason)
            errors = self.errors(asked, ConnectionLostError)
            self.assertEqual([error.verb for error in errors[1:]], ["STAT", "NOOP"])
            self.assertEqual(len({id(error) for error in errors}), 3)
            for error in errors:
                self.assertIs(error.__cause__, reason)
            self.assertIsNone(self.result(closed))
            # Later ones hear the same.
            later = self.error(handle.uidl(), ConnectionLostError)
            self.assertEqual(later.verb, "UIDL")
            self.assertIs(later.__cause__, reason)
            self.assertIdle()
            self.anew()

    def test_loss_before_reply_fails_all_commands(self) -> None:
        self.lost(lambda handle: handle.size(1))

    def test_loss_within_status_line_fails_all_commands(self) -> None:
        self.lost(lambda handle: handle.size(1), b"+OK 1 1")

    def test_loss_before_lf_of_status_line_fails_all_commands(self) -> None:
        # It could be the half of "1 120".
        self.lost(lambda handle: handle.size(1), b"+OK 1 12\r")

    def test_loss_before_first_byte_of_body_fails_all_commands(self) -> None:
        self.lost(lambda handle: handle.retrieve(1), b"+OK\r\n")

    def test_loss_within_body_fails_all_commands(self) -> None:
        self.lost(lambda handle: handle.retrieve(1), b"+OK\r\nSubject: ", b"lo\r\n")

    @shows("attack 1.11")
    def test_loss_within_end_marker_fails_all_commands(self) -> None:
        # What is there may look whole; it is not known to be.
        self.lost(lambda handle: handle.retrieve(1), b"+OK\r\nSubject: lo\r\n.\r")

    def test_loss_within_listing_fails_all_commands(self) -> None:
        self.lost(lambda handle: handle.list(), b"+OK\r\n1 120\r\n")

    def test_loss_of_idle_session_fails_next_command(self) -> None:
        handle = self.log_in()
        self.server.lose()
        error = self.error(handle.stat(), ConnectionLostError)
        self.assertEqual(error.verb, "STAT")
        self.assertEqual(error.server, NAME)

    def test_loss_fails_thousands_of_pending_commands(self) -> None:
        handle = self.log_in("PIPELINING")
        asked = [handle.noop() for _ in range(5000)]
        self.server.lose()
        self.errors(asked, ConnectionLostError)

    def in_next_write(self, act: Callable[[], object]) -> None:
        """Act once, from within the ``write`` of the transport."""
        transport = self.server.transport
        write = transport.write

        def acting(data: bytes) -> None:
            write(data)
            del transport.write  # type: ignore[method-assign]
            act()

        transport.write = acting  # type: ignore[method-assign]

    def test_loss_from_within_a_write_fails_what_was_not_delivered(self) -> None:
        for listening in (False, True):
            stsproc = self.status.append if listening else None
            handle = self.log_in(stsproc=stsproc)
            asked: list[Deferred[Any]] = [handle.retrieve(1), handle.noop()]
            self.server.heard()
            self.in_next_write(self.server.lose)
            self.server.say(b"+OK\r\nSubject: a\r\n.\r\n")
            self.errors(asked, ConnectionLostError)
            self.assertIdle()
            self.anew()

    def test_loss_from_within_the_first_write_fails_the_command(self) -> None:
        for listening in (False, True):
            stsproc = self.status.append if listening else None
            handle = self.log_in(stsproc=stsproc)
            self.in_next_write(self.server.lose)
            self.error(handle.noop(), ConnectionLostError)
            self.assertIdle()
            self.anew()

    def test_exception_of_a_write_leaves_no_command_without_an_outcome(self) -> None:
        def fail() -> None:
            raise RuntimeError("a fault of the transport")

        for listening in (False, True):
            stsproc = self.status.append if listening else None
            handle = self.log_in(stsproc=stsproc)
            asked: list[Deferred[Any]] = [handle.retrieve(1), handle.noop()]
            self.server.heard()
            self.in_next_write(fail)
            # A reactor logs it.
            with self.assertRaises(RuntimeError):
                self.server.say(b"+OK\r\nSubject: a\r\n.\r\n")
            for error in self.errors(asked, ConnectionLostError):
                self.assertIsInstance(error.__cause__, RuntimeError)
            self.assertTrue(self.server.transport.aborting)
            self.assertClosed()
            self.error(handle.stat(), ConnectionLostError)
            self.anew()

    def test_command_issued_in_errback_after_loss_fails_too(self) -> None:
        handle = self.log_in()
        again: list[Deferred[Any]] = []
        first = handle.stat()
        first.addErrback(lambda _: again.append(handle.noop()))
        second = handle.noop()
        self.server.lose()
        self.error(again[0], ConnectionLostError)
        self.error(second, ConnectionLostError)
        self.assertIsNone(self.result(first))


class StatusTests(SessionTestCase):
    """What the status procedure is told."""

    def test_status_procedure_receives_each_line_without_password(self) -> None:
        handle = self.log_in()
        asked = handle.retrieve(3)
        self.server.expect(
            b"RETR 3", b"+OK 17 octets\r\nSubject: lo\r\n\r\n..\r\n.\r\n"
        )
        self.result(asked)
        refused = handle.delete(4)
        self.server.expect(b"DELE 4", b"-ERR [SYS/TEMP] no\r\n")
        self.error(refused, CommandError)
        leaving = handle.disconnect()
        self.server.expect(b"QUIT", b"+OK bye\r\n")
        self.result(leaving)
        warnings = [line for line in self.status if line.startswith("Warning: ")]
        self.assertEqual(len(warnings), 1)
        self.status.remove(warnings[0])
        self.assertEqual(
            self.status,
            [
                "S: +OK ready",
                "C: CAPA",
                "S: +OK",
                "S: (6 octets)",
                "C: USER ada",
                "S: +OK",
                "C: PASS ********",
                "S: +OK",
                "C: CAPA",
                "S: +OK",
                "S: (6 octets)",
                "C: RETR 3",
                "S: +OK 17 octets",
                "S: (18 octets)",
                "C: DELE 4",
                "S: -ERR [SYS/TEMP] no",
                "C: QUIT",
                "S: +OK bye",
            ],
        )

    def test_exception_in_status_procedure_is_logged_once_and_ignored(self) -> None:
        told: list[str] = []

        def procedure(text: str) -> None:
            told.append(text)
            raise RuntimeError("no more room on this screen")

        handle = self.log_in("PIPELINING", stsproc=procedure)
        asked = handle.retrieve(1), handle.noop()
        self.server.heard()
        self.server.say(b"+OK\r\n\r\n.\r\n+OK\r\n")
        self.assertEqual(self.result(asked[0]), b"\r\n")
        self.assertIsNone(self.result(asked[1]))
        # It is called again each time, and logged once in the session.
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertGreater(len(told), 10)

    def test_exit_in_status_procedure_leaves_no_command_without_an_outcome(
        self,
    ) -> None:
        for at in ("S: +OK go", "C: STAT", "S: +OK 2 320"):

            def procedure(text: str, at: str = at) -> None:
                if text == at:
                    raise SystemExit(1)

            handle = self.log_in(stsproc=procedure)
            asked: list[Deferred[Any]] = [handle.noop(), handle.stat()]
            # A reactor logs it.
            with self.assertRaises(SystemExit):
                self.server.say(b"+OK go\r\n")
                self.server.say(b"+OK 2 320\r\n")
            for one in asked:
                one.addErrback(lambda failure: failure.trap(ConnectionLostError))
                self.result(one)
            self.assertClosed()
            self.anew()

    def test_empty_status_procedure_means_none(self) -> None:
        asked = self.log_in(stsproc="").noop()
        self.server.expect(b"NOOP", b"+OK\r\n")
        self.assertIsNone(self.result(asked))

    def test_session_works_without_status_procedure(self) -> None:
        handle = self.log_in(stsproc=None)
        asked = handle.retrieve(1)
        self.server.expect(b"RETR 1", b"+OK\r\n\r\n.\r\n")
        self.assertEqual(self.result(asked), b"\r\n")
        self.assertEqual(self.status, [])

    def test_control_characters_are_escaped(self) -> None:
        handle = self.log_in()
        asked = handle.noop()
        self.server.expect(b"NOOP", b"+OK \x1b[2J\x9b2J\x00\t\xe2\x80\xae\x7f\r\n")
        self.result(asked)
        line = self.status[-1]
        self.assertTrue(line.isprintable())
        self.assertTrue(line.startswith("S: +OK \\x1b[2J"))

    def test_long_status_line_is_truncated(self) -> None:
        handle = self.log_in()
        asked = handle.noop()
        self.server.expect(b"NOOP", b"+OK " + b"x" * 15_000 + b"\r\n")
        self.result(asked)
        self.assertLess(len(self.status[-1]), 600)
        self.assertTrue(self.status[-1].endswith("..."))

    def test_abort_in_status_procedure_on_send_fails_the_command(self) -> None:
        # A person who sees enough presses a button.
        handles: list[Handle] = []

        def procedure(text: str) -> None:
            if text == "C: STAT":
                handles[0].abort()

        handle = self.log_in(stsproc=procedure)
        handles.append(handle)
        self.error(handle.stat(), ConnectionLostError)
        self.assertClosed()

    def test_abort_in_status_procedure_on_reply_leaves_nothing_pending(self) -> None:
        for said in ("S: +OK 2 320", "S: +OK go", "S: (2 octets)"):
            handles: list[Handle] = []

            def procedure(
                text: str, said: str = said, handles: list[Handle] = handles
            ) -> None:
                if text == said and handles:
                    handles[0].abort()

            handle = self.log_in("PIPELINING", stsproc=procedure)
            handles.append(handle)
            asked: list[Deferred[Any]] = [
                handle.stat(),
                handle.retrieve(1),
                handle.noop(),
            ]
            self.server.heard()
            self.server.say(b"+OK 2 320\r\n+OK go\r\n\r\n.\r\n+OK\r\n")
            self.assertClosed()
            for one in asked:
                # Which of the first have been told before is left open; none hangs.
                one.addErrback(lambda failure: failure.trap(ConnectionLostError))
                self.result(one)
            self.anew()
