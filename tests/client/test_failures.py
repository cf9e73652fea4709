"""
The errors of a session: what they say, and what they must not repeat.
"""

from __future__ import annotations

from twisted.internet.error import ConnectionLost
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from pop3connect import (
    CommandError,
    ConnectionLostError,
    LoginError,
    ProtocolError,
    TimedOutError,
)
from pop3connect.client.failures import Failures
from pop3connect.redaction import Transcript
from pop3connect.sansio.commands import Pass, Retrieve, StatCommand
from pop3connect.sansio.events import Broken
from pop3connect.sansio.replies import TLS_RECORD, BadReplyError
from pop3connect.sansio.states import State

NAME = "pop.example.com:110"


class FailuresTests(SynchronousTestCase):
    """`Failures`"""

    def setUp(self) -> None:
        transcript = Transcript(None, Logger())
        transcript.keep_secret(b"open sesame")
        self.failures = Failures(NAME, transcript)

    def test_every_error_names_the_server(self) -> None:
        bad = BadReplyError("not a number", b"x")
        for error in (
            self.failures.ended("the session has been ended"),
            self.failures.lost(State.GREETING, None, shaking_hands=False, verb=None),
            self.failures.broken(Broken("nonsense", b"x"), 1),
            self.failures.timed_out(
                "reply", 60, rest=b"", unanswered=1, plain=True, verb="STAT"
            ),
            self.failures.unreadable(StatCommand(), bad),
            self.failures.refused(CommandError, StatCommand(), b"-ERR no"),
        ):
            self.assertEqual(error.server, NAME)
            self.assertIn(NAME, str(error))

    def test_session_ended_by_this_side_keeps_the_cause(self) -> None:
        cause = ValueError()
        error = self.failures.ended("the consumer failed", cause)
        self.assertIs(type(error), ConnectionLostError)
        self.assertIs(error.__cause__, cause)

    def test_loss_says_when_it_happened(self) -> None:
        for state, hands, words in (
            (State.GREETING, False, "lost before the greeting: "),
            (State.AUTHORIZATION, False, "lost during the login: "),
            (State.TRANSACTION, False, "lost: "),
            (State.UPDATE, False, "lost before QUIT was answered: "),
            (State.GREETING, True, "lost during the TLS handshake: "),
            (State.AUTHORIZATION, True, "lost during the TLS handshake: "),
        ):
            reason = ConnectionLost("gone")
            error = self.failures.lost(state, reason, shaking_hands=hands, verb="STAT")
            self.assertIn(words, str(error))
            self.assertIn("gone", str(error))
            self.assertIs(error.__cause__, reason)
            self.assertNotIn("capa=False", str(error))

    def test_loss_while_capa_is_owed_suggests_capa_false(self) -> None:
        error = self.failures.lost(
            State.TRANSACTION, None, shaking_hands=False, verb="CAPA"
        )
        self.assertIn("capa=False", str(error))

    def test_nonsense_is_quoted_masked_and_escaped(self) -> None:
        broken = Broken(
            "an unexpected reply", b"\x1b[2J open sesame \xff" + b"x" * 9999
        )
        error = self.failures.broken(broken, 1)
        self.assertIs(type(error), ProtocolError)
        self.assertIn(
            r"the server sent an unexpected reply: '\x1b[2J ********", str(error)
        )
        self.assertNotIn("open sesame", str(error))
        self.assertNotIn("\x1b", str(error))
        self.assertLess(len(str(error)), 1000)

    def test_nonsense_without_text_is_not_quoted(self) -> None:
        error = self.failures.broken(Broken("more after STLS", None, "STLS"), 9)
        self.assertEqual(error.verb, "STLS")
        self.assertTrue(str(error).endswith("the server sent more after STLS"))

    def test_another_protocol_is_named(self) -> None:
        smtp = self.failures.broken(Broken("", b"220 x", protocol="SMTP"), 0)
        self.assertIn("this is not a POP3 server: it looks like SMTP", str(smtp))
        self.assertNotIn("secure=1", str(smtp))
        tls = self.failures.broken(Broken("", b"\x16\x03", protocol=TLS_RECORD), 0)
        self.assertIn("use secure=1", str(tls))

    def test_pipelining_is_suspected_only_with_several_unanswered(self) -> None:
        for unanswered in (0, 1, 2, 256):
            broken = self.failures.broken(Broken("nonsense", b"x"), unanswered)
            late = self.failures.timed_out(
                "reply", 60, rest=b"", unanswered=unanswered, plain=False, verb=None
            )
            for error in (broken, late):
                self.assertEqual("pipeline=False" in str(error), unanswered > 1)
                self.assertEqual(f"{unanswered} commands" in str(error), unanswered > 1)

    def test_timeout_has_phase_and_seconds(self) -> None:
        error = self.failures.timed_out(
            "reply", 7.5, rest=b"", unanswered=1, plain=False, verb="STAT"
        )
        self.assertIs(type(error), TimedOutError)
        self.assertEqual(
            (error.phase, error.seconds, error.verb), ("reply", 7.5, "STAT")
        )
        self.assertIn("no reply within 7.5 seconds", str(error))

    def test_timeout_of_a_plain_greeting_suggests_secure_1(self) -> None:
        for phase, plain, hint in (
            ("greeting", True, True),
            ("greeting", False, False),
            ("reply", True, False),
        ):
            error = self.failures.timed_out(
                phase, 60, rest=b"", unanswered=0, plain=plain, verb=None
            )
            self.assertEqual("secure=1" in str(error), hint)

    def test_timeout_after_a_line_that_ends_in_lf_says_so(self) -> None:
        for rest, hint in (
            (b"+OK\n", True),
            (b"+OK 1\r\n2 3\n", False),
            (b"+OK", False),
            (b"", False),
        ):
            error = self.failures.timed_out(
                "reply", 60, rest=rest, unanswered=1, plain=False, verb="STAT"
            )
            self.assertEqual("ends in LF alone" in str(error), hint)

    def test_refusal_has_text_and_code(self) -> None:
        error = self.failures.refused(
            CommandError, Retrieve(3), b"-ERR [SYS/TEMP] later"
        )
        self.assertEqual((error.text, error.code), ("later", "SYS/TEMP"))
        self.assertIs(error.transient, True)
        self.assertEqual((error.verb, error.number), ("RETR", 3))
        self.assertIn("RETR 3: the server refused: [SYS/TEMP] later", str(error))

    def test_refused_greeting_is_a_refused_session(self) -> None:
        error = self.failures.refused(LoginError, None, b"-ERR [IN-USE] locked")
        self.assertIs(type(error), LoginError)
        self.assertIn("the server refused the session: [IN-USE] locked", str(error))

    def test_refusal_without_text_says_so(self) -> None:
        for line in (b"-ERR", b"-ERR "):
            error = self.failures.refused(CommandError, StatCommand(), line)
            self.assertIn("it gave no reason", str(error))

    def test_secret_in_a_refusal_is_masked_in_text_and_code(self) -> None:
        for line in (b"-ERR bad password open sesame", b"-ERR [open sesame] no"):
            error = self.failures.refused(CommandError, Pass("x"), line)
            shown = f"{error} {error!r} {error.text} {error.code}".lower()
            self.assertNotIn("open sesame", shown)

    def test_unreadable_reply_is_quoted_masked(self) -> None:
        bad = BadReplyError("not two numbers", b"open sesame \x1b")
        error = self.failures.unreadable(StatCommand(), bad)
        self.assertIs(type(error), ProtocolError)
        self.assertEqual(error.verb, "STAT")
        self.assertNotIn("open sesame", str(error))
        self.assertNotIn("\x1b", str(error))
