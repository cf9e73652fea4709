"""
Deviations of real servers, in whole sessions, from ``connect()`` on.

`docs/quirks.rst` names these tests, and tests of other modules if a single line shows
the deviation.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from pop3connect import (
    Capabilities,
    CommandError,
    ConnectionLostError,
    Handle,
    Message,
    ProtocolError,
    Refused,
    TimedOutError,
)
from pop3connect.testing import Script, ScriptedServer

from .support.memory import server_certificate
from .support.shows import shows

MAIL = b"Subject: hello\r\n\r\nworld\r\n"


def begin(*capabilities: str) -> Script:
    return Script().greet().log_in(capabilities=["USER", "TOP", "UIDL", *capabilities])


async def everything(handle: Handle) -> list[Message | Refused]:
    return [message async for message in handle.messages()]


class QuirkTestCase(SynchronousTestCase):
    """
    A session with a scripted server.
    """

    def open(self, script: Script, **options: Any) -> tuple[Any, Deferred[Handle]]:
        server = ScriptedServer(script)
        opening = server.connect(**options)
        server.flush()
        return server, opening

    def log_in(self, script: Script, **options: Any) -> tuple[Any, Handle]:
        server, opening = self.open(script, **options)
        return server, self.successResultOf(opening)

    def over(self, server: Any) -> None:
        """
        Check that the client followed the script, and that nothing is pending.
        """
        server.check()
        self.assertEqual(server.clock.getDelayedCalls(), [])

    def told(self, logs: Any, text: str, level: LogLevel = LogLevel.warn) -> None:
        """
        Check that it was logged exactly once.
        """
        events = [event for event in logs if text in event["log_format"]]
        self.assertEqual([event["log_level"] for event in events], [level])


class OfferTests(QuirkTestCase):
    """
    The capabilities that a server announces, and those that it has.
    """

    @shows("RFC 1939-12")
    @shows("RFC 2449-04")
    @shows(
        "quirk 2.5",
        "UIDL and TOP work, and are not announced",
        "They are sent anyway; ``-ERR`` fails that command with a ``CommandError``.",
    )
    def test_commands_not_announced_are_sent_anyway(self) -> None:
        script = Script().greet().log_in(capabilities=["USER"])
        server, handle = self.log_in(
            script.expect("UIDL")
            .reply(lines=["1 a"])
            .expect("TOP 1 0")
            .message(b"Subject: hello\r\n\r\n")
            .expect("TOP 2 0")
            .reply("-ERR what?")
            .quit()
        )
        uids, top, other = handle.uidl(), handle.top(1), handle.top(2)
        ending = handle.disconnect()
        server.flush()
        self.assertEqual(self.successResultOf(uids), [(1, "a")])
        self.assertEqual(self.successResultOf(top), b"Subject: hello\r\n\r\n")
        self.failureResultOf(other, CommandError)
        self.successResultOf(ending)
        self.over(server)

    @shows(
        "quirk 2.3",
        "The server closes the connection at CAPA",
        "The error names ``capa=False``, and with that option the login succeeds.",
    )
    def test_connection_closed_after_capa_suggests_capa_false(self) -> None:
        server, opening = self.open(Script().greet().expect("CAPA").close())
        error = self.failureResultOf(opening, ConnectionLostError).value
        self.assertIn("capa=False", str(error))
        self.over(server)

    @shows("quirk 2.3")
    def test_capa_false_logs_in_without_sending_capa(self) -> None:
        with capturedLogs() as logs:
            server, handle = self.log_in(
                Script()
                .greet()
                .expect("USER ada")
                .reply()
                .expect("PASS lovelace")
                .reply()
                .expect("UIDL")
                .reply(lines=["1 a"])
                .quit(),
                capa=False,
            )
        self.told(logs, "capa=False", LogLevel.info)
        self.assertEqual(handle.capabilities, Capabilities(known=False))
        uids, ending = handle.uidl(), handle.disconnect()
        server.flush()
        self.assertEqual(self.successResultOf(uids), [(1, "a")])
        self.successResultOf(ending)
        self.over(server)

    @shows("quirk 2.11")
    def test_pipeline_false_waits_for_each_reply(self) -> None:
        script = begin("PIPELINING").expect("NOOP").delay(1).reply().expect("NOOP")
        with capturedLogs() as logs:
            server, handle = self.log_in(script.reply().quit(), pipeline=False)
        self.told(logs, "pipeline=False", LogLevel.info)
        answers = [handle.noop(), handle.noop(), handle.disconnect()]
        server.flush()
        # The script fails if a second command came before the first was answered.
        self.assertNoResult(answers[1])
        server.advance(1)
        for answer in answers:
            self.successResultOf(answer)
        self.over(server)

    @shows(
        "quirk 2.9",
        "The list without ``+OK`` before it",
        "A ``ProtocolError`` that shows the line.",
    )
    def test_capabilities_without_status_line_are_a_protocol_error(self) -> None:
        server, opening = self.open(
            Script().greet().expect("CAPA").say("TOP\r\nUIDL\r\n.\r\n").expect_close()
        )
        error = self.failureResultOf(opening, ProtocolError).value
        self.assertIn("TOP", str(error))
        self.over(server)

    @shows("quirk 2.8")
    def test_dot_before_a_capability_does_not_end_the_list(self) -> None:
        server, handle = self.log_in(
            Script()
            .greet()
            .log_in(capabilities=["USER"])
            .expect("CAPA")
            .say("+OK\r\n.TOP\r\n..X-DOT\r\nUIDL\r\n.\r\n")
            .quit()
        )
        asked, ending = handle.capa(), handle.disconnect()
        server.flush()
        self.assertEqual(set(self.successResultOf(asked)), {"TOP", ".X-DOT", "UIDL"})
        self.successResultOf(ending)
        self.over(server)


class LineTests(QuirkTestCase):
    """
    Lines that deviate from RFC 1939 section 3.
    """

    @shows(
        "quirk 4.7",
        "LF instead of CR LF",
        "Not supported, because the end of a line would no longer be certain. The "
        "``TimedOutError`` names the cause.",
    )
    def test_greeting_ended_by_lf_alone_times_out_naming_the_cause(self) -> None:
        server, opening = self.open(Script().say("+OK ready\n").expect_close())
        server.advance(61)
        error = self.failureResultOf(opening, TimedOutError).value
        self.assertIn("LF alone", str(error))
        self.over(server)

    @shows("quirk 4.7")
    def test_reply_ended_by_lf_alone_times_out_naming_the_cause(self) -> None:
        server, handle = self.log_in(begin().expect("STAT").say("+OK 2 320\n"))
        asked = handle.stat()
        server.advance(61)
        error = self.failureResultOf(asked, TimedOutError).value
        self.assertIn("LF alone", str(error))
        self.over(server)

    @shows(
        "quirk 4.5",
        "A blank line after a large message",
        "Blank lines between replies after the login are ignored, and logged once; a "
        "session may have 100,000.",
    )
    def test_blank_lines_between_replies_are_skipped_and_logged_once(self) -> None:
        with capturedLogs() as logs:
            server, handle = self.log_in(
                begin("PIPELINING")
                .expect("RETR 1")
                .message(MAIL)
                .say("\r\n")
                .expect("RETR 2")
                .message(MAIL * 2)
                .expect("DELE 1")
                .say("\r\n\r\n+OK\r\n\r\n")
                .quit()
            )
            asked = [handle.retrieve(1), handle.retrieve(2), handle.delete(1)]
            ending = handle.disconnect()
            server.flush()
        self.assertEqual(self.successResultOf(asked[0]), MAIL)
        self.assertEqual(self.successResultOf(asked[1]), MAIL * 2)
        self.assertEqual(self.successResultOf(ending).deleted, {1})
        self.told(logs, "blank line")
        self.over(server)

    @shows("quirk 4.5")
    def test_blank_line_while_session_is_idle_is_skipped(self) -> None:
        server, handle = self.log_in(
            begin().delay(1).say("\r\n").expect("NOOP").reply().quit()
        )
        server.advance(1)
        asked, ending = handle.noop(), handle.disconnect()
        server.flush()
        self.successResultOf(asked)
        self.successResultOf(ending)
        self.over(server)

    @shows("quirk 4.5")
    @shows("attack 5.6")
    def test_endless_blank_lines_are_a_protocol_error(self) -> None:
        server, handle = self.log_in(
            begin().expect("NOOP").say(b"\r\n" * 100_001).expect_close()
        )
        asked = handle.noop()
        server.flush()
        self.failureResultOf(asked, ProtocolError)
        self.over(server)

    @shows("quirk 4.2", "``+ERR``", "It counts as ``-ERR``.")
    def test_plus_err_reply_is_a_command_error(self) -> None:
        server, handle = self.log_in(
            begin().expect("RETR 7").reply("+ERR no such message").quit()
        )
        asked, ending = handle.retrieve(7), handle.disconnect()
        server.flush()
        error = self.failureResultOf(asked, CommandError).value
        self.assertEqual(error.text, "no such message")
        self.successResultOf(ending)
        self.over(server)

    @shows(
        "quirk 4.6",
        "A warning on a separate line before ``-ERR``",
        "A ``ProtocolError`` that shows the warning. To ignore the line would mean to "
        "ignore any text, even a line of a message.",
    )
    def test_text_line_before_err_reply_ends_the_session(self) -> None:
        server, handle = self.log_in(
            begin()
            .expect("STAT")
            .say("Mailbox is nearly full\r\n-ERR no\r\n")
            # Later replies may be anything, so no further command is sent.
            .expect_close()
        )
        asked = handle.stat()
        server.flush()
        error = self.failureResultOf(asked, ProtocolError).value
        self.assertIn("Mailbox is nearly full", str(error))
        self.over(server)

    @shows("quirk 4.6")
    def test_text_line_before_refused_login_is_in_the_error(self) -> None:
        server, opening = self.open(
            Script()
            .greet()
            .expect("CAPA")
            .reply(lines=["USER"])
            .expect("USER ada")
            .reply()
            .expect("PASS lovelace")
            .say("Account is suspended\r\n-ERR no\r\n")
            .expect_close()
        )
        error = self.failureResultOf(opening, ProtocolError).value
        self.assertIn("Account is suspended", str(error))
        self.over(server)


class MessageTests(QuirkTestCase):
    """
    Messages that deviate from RFC 1939 sections 3, 5 and 7.
    """

    @shows(
        "quirk 6.1",
        "Dots are not stuffed",
        "A line loses its dot, as with every client. ``messages()`` compares sizes "
        "with LIST and logs one warning.",
    )
    def test_unstuffed_dot_is_removed_and_logged_once(self) -> None:
        """
        An octet is lost, and the log says so.
        """
        bare = b"Subject: hello\r\n\r\n.signature\r\n"
        with capturedLogs() as logs:
            server, handle = self.log_in(
                begin("PIPELINING")
                .expect("LIST")
                .reply(lines=[f"1 {len(bare)}", f"2 {len(bare)}", "3 30"])
                .expect("RETR 1")
                .say(b"+OK\r\n" + bare + b".\r\n")
                .expect("RETR 2")
                .say(b"+OK\r\n" + bare + b".\r\n")
                .expect("RETR 3")
                # The size that LIST says, or more, is not worth a warning.
                .message(MAIL * 2)
                .quit()
            )
            fetching = Deferred.fromCoroutine(everything(handle))
            server.flush()
            messages = self.successResultOf(fetching)
        self.assertEqual(messages[0].content, bare.replace(b".", b""))
        self.told(logs, "byte-stuff")
        ending = handle.disconnect()
        server.flush()
        self.successResultOf(ending)
        self.over(server)

    @shows(
        "quirk 6.2",
        "A line with only a dot is not stuffed",
        "The message ends there. The rest of it is not a reply, so the session ends, "
        "and with ``messages()`` the error says why. No other message is affected, "
        "and nothing is deleted.",
    )
    def test_unstuffed_dot_on_its_own_line_is_a_protocol_error(self) -> None:
        """
        The rest of the message is not taken for a reply or for another message.
        """
        bare = b"Subject: hello\r\n\r\nabove\r\n.\r\nbelow\r\n"
        server, handle = self.log_in(
            begin("PIPELINING")
            .expect("LIST")
            .reply(lines=[f"1 {len(bare)}", "2 25"])
            .expect("RETR 1")
            .expect("RETR 2")
            .say(b"+OK\r\n" + bare + b".\r\n+OK\r\n" + MAIL + b".\r\n")
            .expect_close()
        )
        fetching = Deferred.fromCoroutine(everything(handle))
        server.flush()
        error = self.failureResultOf(fetching, ProtocolError).value
        self.assertIn("message 1 before it had 25 bytes where LIST says", str(error))
        self.assertIn("byte-stuff", str(error))
        self.over(server)

    def test_refused_retr_after_short_message_does_not_blame_stuffing(self) -> None:
        """
        The line is a valid reply, so replies still match their commands.
        """
        server, handle = self.log_in(
            begin()
            .expect("LIST")
            .reply(lines=["1 100", "2 25"])
            .expect("RETR 1")
            .message(MAIL)
            .expect("RETR 2")
            .reply("-ERR gone")
            .quit()
        )
        fetching = Deferred.fromCoroutine(everything(handle))
        server.flush()
        error = self.successResultOf(fetching)[1].error
        self.assertNotIn("byte-stuff", str(error))
        ending = handle.disconnect()
        server.flush()
        self.successResultOf(ending)
        self.over(server)
        self.flushLoggedErrors()

    @shows(
        "quirk 6.6",
        "No CR LF before the dot that ends a message",
        "It is not the end, so a ``TimedOutError`` follows.",
    )
    def test_dot_at_the_end_of_a_line_does_not_end_the_message(self) -> None:
        """
        It is not the end: a line of a message may end in a dot.
        """
        server, handle = self.log_in(
            begin().expect("RETR 1").say("+OK\r\nSubject: hello\r\n\r\nworld.\r\n")
        )
        asked = handle.retrieve(1)
        server.flush()
        self.assertNoResult(asked)
        server.advance(61)
        self.failureResultOf(asked, TimedOutError)
        self.over(server)

    @shows(
        "quirk 6.7",
        "TOP is cut short",
        "The lines received are returned; nothing shows that some are missing.",
    )
    def test_top_cut_short_by_server_is_returned_as_sent(self) -> None:
        """
        Nothing shows that lines are missing.
        """
        server, handle = self.log_in(
            begin().expect("TOP 1 10").message(b"Subject: hel").quit()
        )
        asked, ending = handle.top(1, 10), handle.disconnect()
        server.flush()
        self.assertEqual(self.successResultOf(asked), b"Subject: hel\r\n")
        self.successResultOf(ending)
        self.over(server)

    @shows(
        "quirk 6.3",
        "RETR stuffs dots, and TOP does not",
        "Each is read in the same way.",
    )
    def test_unstuffed_top_loses_a_dot_that_stuffed_retr_keeps(self) -> None:
        server, handle = self.log_in(
            begin()
            .expect("TOP 1 1")
            .say("+OK\r\nSubject: hello\r\n\r\n.signature\r\n.\r\n")
            .expect("RETR 1")
            .message("Subject: hello\r\n\r\n.signature\r\n")
            .quit()
        )
        top, whole, ending = handle.top(1, 1), handle.retrieve(1), handle.disconnect()
        server.flush()
        self.assertTrue(self.successResultOf(top).endswith(b"\r\nsignature\r\n"))
        self.assertTrue(self.successResultOf(whole).endswith(b"\r\n.signature\r\n"))
        self.successResultOf(ending)
        self.over(server)

    @shows(
        "quirk 6.8",
        "``+OK`` and an empty body in the place of an unreadable message",
        "An empty message.",
    )
    def test_retr_reply_with_empty_body_returns_empty_message(self) -> None:
        """
        If the server cannot read a message, the message is empty; the session goes on.
        """
        server, handle = self.log_in(
            begin().expect("RETR 1").say("+OK\r\n.\r\n").quit()
        )
        asked, ending = handle.retrieve(1), handle.disconnect()
        server.flush()
        self.assertEqual(self.successResultOf(asked), b"")
        self.successResultOf(ending)
        self.over(server)


class MailboxTests(QuirkTestCase):
    """
    Wrong counts and listings, in a session that goes on.
    """

    @shows("quirk 5.2")
    @shows(
        "quirk 5.11",
        "Other unique-ids in each session, or used again for another message",
        "They are returned as they are, because a session cannot know.",
    )
    def test_inconsistent_counts_and_listings_are_accepted(self) -> None:
        server, handle = self.log_in(
            begin()
            .expect("STAT")
            .reply("+OK 21000 -1827262718 octets in your mailbox")
            .expect("LIST")
            .reply("+OK 3 messages", lines=["3 300 x", "1  120", "", "1 120"])
            .expect("UIDL")
            .reply(lines=["1 same", "2 same", "3 ", "4 " + "x" * 300])
            .quit()
        )
        stat, listing, uids = handle.stat(), handle.list(), handle.uidl()
        ending = handle.disconnect()
        server.flush()
        self.assertEqual(self.successResultOf(stat), (21000, 0))
        self.assertEqual(self.successResultOf(listing), [(3, 300), (1, 120)])
        self.assertEqual(
            self.successResultOf(uids),
            [(1, "same"), (2, "same"), (3, ""), (4, "x" * 300)],
        )
        self.successResultOf(ending)
        self.over(server)

    @shows(
        "quirk 5.8",
        "``UIDL 3`` is answered with the unique-id alone (Twisted's own server)",
        "It counts as the unique-id of message 3. If it is a number, ``uid()`` fails, "
        "because it could be either; ``uidl()`` works.",
    )
    def test_uid_reply_without_message_number_is_understood(self) -> None:
        server, handle = self.log_in(
            begin().expect("UIDL 1").reply("+OK 00001a1457b5a851").quit()
        )
        uid, ending = handle.uid(1), handle.disconnect()
        server.flush()
        self.assertEqual(self.successResultOf(uid), "00001a1457b5a851")
        self.successResultOf(ending)
        self.over(server)

    @shows("quirk 5.8")
    def test_uid_reply_of_a_number_alone_fails_that_command(self) -> None:
        server, handle = self.log_in(begin().expect("UIDL 1").reply("+OK 1457").quit())
        uid, ending = handle.uid(1), handle.disconnect()
        server.flush()
        self.assertIn("uidl()", str(self.failureResultOf(uid, ProtocolError).value))
        self.successResultOf(ending)
        self.over(server)

    @shows(
        "quirk 5.9",
        "Marked messages are counted and listed (Twisted's own server)",
        "``list()``, ``uidl()`` and ``messages()`` leave them out. ``stat()`` returns "
        "what the server said.",
    )
    def test_listed_messages_that_are_marked_are_left_out(self) -> None:
        # Twisted's own server lists them, with the size 0.
        listed = {"LIST": ["1 0", "2 30"], "UIDL": ["1 a", "2 b"]}
        script = begin().expect("DELE 1").reply("+OK")
        for verb, lines in listed.items():
            script = script.expect(verb).reply(lines=lines)
        script = script.expect("RSET").reply("+OK")
        for verb, lines in listed.items():
            script = script.expect(verb).reply(lines=lines)
        server, handle = self.log_in(script.quit())
        answers = [
            asked()
            for asked in (
                lambda: handle.delete(1),
                handle.list,
                handle.uidl,
                handle.reset,
                handle.list,
                handle.uidl,
                handle.disconnect,
            )
        ]
        server.flush()
        _, sizes, uids, _, all_sizes, all_uids, _ = map(self.successResultOf, answers)
        self.assertEqual((sizes, uids), ([(2, 30)], [(2, "b")]))
        self.assertEqual(all_sizes, [(1, 0), (2, 30)])
        self.assertEqual(all_uids, [(1, "a"), (2, "b")])
        self.over(server)

    @shows("quirk 5.9")
    def test_messages_skips_marked_messages_that_are_listed(self) -> None:
        server, handle = self.log_in(
            begin()
            .expect("DELE 1")
            .reply("+OK")
            .expect("LIST")
            .reply(lines=["1 0", "2 30"])
            .expect("RETR 2")
            .reply(lines=MAIL.decode().splitlines())
            .quit()
        )
        handle.delete(1)
        fetching = Deferred.fromCoroutine(everything(handle))
        server.flush()
        self.assertEqual(
            [message.number for message in self.successResultOf(fetching)], [2]
        )
        ending = handle.disconnect()
        server.flush()
        self.successResultOf(ending)
        self.over(server)

    @shows(
        "quirk 5.12",
        "UIDL is refused in an empty mailbox",
        "A ``CommandError``; ``stat()`` says that it is empty.",
    )
    def test_refused_uidl_of_empty_mailbox_keeps_session_open(self) -> None:
        server, handle = self.log_in(
            begin()
            .expect("UIDL")
            .reply("-ERR no messages")
            .expect("STAT")
            .reply("+OK 0 0")
            .quit()
        )
        uids, stat, ending = handle.uidl(), handle.stat(), handle.disconnect()
        server.flush()
        self.failureResultOf(uids, CommandError)
        self.assertEqual(self.successResultOf(stat), (0, 0))
        self.successResultOf(ending)
        self.over(server)

    @shows(
        "quirk 5.13",
        "STAT is refused with ``[LOGIN-DELAY]``",
        "A ``CommandError`` with ``.code``, and ``.transient`` is true.",
    )
    def test_login_delay_in_reply_to_stat_is_a_transient_error(self) -> None:
        server, handle = self.log_in(
            begin().expect("STAT").reply("-ERR [LOGIN-DELAY] 15 minutes").quit()
        )
        stat, ending = handle.stat(), handle.disconnect()
        server.flush()
        error = self.failureResultOf(stat, CommandError).value
        self.assertTrue(error.transient)
        self.successResultOf(ending)
        self.over(server)

    @shows(
        "quirk 7.5",
        "QUIT deletes messages that were fetched",
        "``await handle.reset()`` before ``disconnect()`` keeps them.",
    )
    def test_reset_after_retrieval_leaves_nothing_deleted_at_quit(self) -> None:
        """
        Some servers delete fetched messages at QUIT, unless RSET came first.
        """
        server, handle = self.log_in(
            begin().expect("RETR 1").message(MAIL).expect("RSET").reply().quit()
        )
        asked, unmarking, ending = (
            handle.retrieve(1),
            handle.reset(),
            handle.disconnect(),
        )
        server.flush()
        self.assertEqual(self.successResultOf(asked), MAIL)
        self.successResultOf(unmarking)
        self.assertEqual(self.successResultOf(ending).deleted, frozenset())
        self.over(server)


class EndTests(QuirkTestCase):
    """
    The end of a session.
    """

    def session(self) -> Script:
        tls = Script().start_tls(server_certificate()).greet().log_in()
        return tls.expect("DELE 1").reply()

    def end(self, script: Script) -> Deferred[Any]:
        server, handle = self.log_in(script, secure=1, verify=False)
        marking, ending = handle.delete(1), handle.disconnect()
        server.flush()
        self.successResultOf(marking)
        self.over(server)
        return ending

    @shows(
        "quirk 7.6",
        "TLS ends without notice",
        "It does not matter after the reply to QUIT; before, it is a "
        "``ConnectionLostError``.",
    )
    @shows(
        "attack 1.11",
        "The connection is cut in TLS, without notice, to shorten a message or to "
        "fake the end",
        "A shortened mail; a user who is wrong about what was deleted.",
        "A message ends with its end marker, and a session with the reply to QUIT. "
        "Anything else is a ``ConnectionLostError``.",
    )
    def test_tls_cut_after_quit_reply_is_success_and_before_it_an_error(self) -> None:
        """
        A cut connection looks the same, so only the reply to QUIT counts.
        """
        answered = self.session().expect("QUIT").reply("+OK bye").drop()
        self.assertEqual(self.successResultOf(self.end(answered)).deleted, {1})
        unanswered = self.session().expect("QUIT").drop()
        self.failureResultOf(self.end(unanswered), ConnectionLostError)
