"""The demo: that its server tells the truth, and that its tour proves something."""

from __future__ import annotations

import base64
import email
import email.policy
import hashlib
import io
import os
import re
import socket
import subprocess
import sys
from dataclasses import replace
from email.message import EmailMessage
from pathlib import Path

from rich.cells import cell_len
from twisted.internet import reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import StringTransport
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import alsoProvides

from pop3connect.demo.mail import LONG_LINE, sample_messages
from pop3connect.demo.service import CA_FILE, DemoAuthority, DemoService, Settings
from pop3connect.demo.terminal import terminal
from pop3connect.demo.tour import ImpostorFactory, Tour, Visit
from pop3connect.demo.twistd import already_running, keep_log_off_stdout
from pop3connect.testing.accounts import Maildrop, plain, portal
from pop3connect.testing.server import DemoPOP3, DemoPOP3Factory

MESSAGES = (
    b"Subject: one\r\n\r\nfirst\r\nsecond\r\nthird\r\n",
    b".\r\n.. starts with dots\r\n\r\n.\r\n..\r\nend.\r\n",
    b"Subject: empty\r\n\r\n",
)
SIZES = [len(message) for message in MESSAGES]


class Wire(StringTransport):
    """A transport that notes STLS and does not encrypt."""

    context: object = None

    def startTLS(self, context: object, normal: bool = True) -> None:
        self.context = context
        alsoProvides(self, ISSLTransport)


class Session:
    """One connection to the server, and what it says."""

    def __init__(self, factory: DemoPOP3Factory, clock: Clock) -> None:
        self.server: DemoPOP3 = factory.buildProtocol(None)
        self.server.callLater = clock.callLater  # type: ignore[method-assign]
        self.wire = Wire()
        self.server.makeConnection(self.wire)
        self.greeting = self.said()

    def said(self) -> bytes:
        said = self.wire.value()
        self.wire.clear()
        return said

    def ask(self, *lines: bytes) -> bytes:
        self.server.dataReceived(b"".join(line + b"\r\n" for line in lines))
        return self.said()

    def lines(self, *lines: bytes) -> list[bytes]:
        return self.ask(*lines).split(b"\r\n")[:-1]

    def log_in(self, user: bytes = b"ann", password: bytes = b"secret") -> bytes:
        return self.ask(b"USER " + user, b"PASS " + password)

    def capabilities(self) -> set[bytes]:
        first, *rest, end = self.lines(b"CAPA")
        assert first.startswith(b"+OK")
        assert end == b"."
        assert len(set(rest)) == len(rest)
        return set(rest)

    def lost(self) -> None:
        self.server.connectionLost(Failure(ConnectionLost()))


class ServerCase(SynchronousTestCase):
    """Tests of the server's protocol, in memory."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.drop = Maildrop(MESSAGES)
        self.context = object()
        self.accounts = portal(
            {b"ann": b"secret", b"bob": b" two  words "},
            {b"ann": self.drop, b"bob": Maildrop([])},
        )

    def session(self, tls: bool = True) -> Session:
        context = self.context if tls else None
        factory = DemoPOP3Factory(self.accounts, context)  # type: ignore[arg-type]
        return Session(factory, self.clock)

    def logged_in(self) -> Session:
        session = self.session()
        self.assertEqual(session.log_in()[-13:], b"+OK welcome\r\n")
        return session

    def assertRefused(self, reply: bytes, code: bytes = b"") -> None:
        self.assertTrue(reply.startswith(b"-ERR " + code), reply)
        self.assertEqual(reply.count(b"\r\n"), 1, reply)
        if not code:
            self.assertNotIn(b"[", reply)


ALWAYS = {
    b"TOP",
    b"UIDL",
    b"USER",
    b"SASL PLAIN",
    b"RESP-CODES",
    b"AUTH-RESP-CODE",
    b"PIPELINING",
    b"IMPLEMENTATION pop3connect-demo",
}


class ConversationTests(ServerCase):
    """Greeting, CAPA, order and shape of commands, time limit."""

    def test_greeting_has_a_new_apop_challenge_each_time(self) -> None:
        """The greeting has an APOP challenge, never the same."""
        greetings = [self.session().greeting for _ in range(2)]
        for greeting in greetings:
            self.assertRegex(greeting, rb"\A\+OK <[^<>@ ]+@[^<>@ ]+>\r\n\Z")
        self.assertNotEqual(*greetings)

    def test_capa_lists_stls_only_while_it_is_available(self) -> None:
        """STLS is named as long as it can be used, nothing else changes."""
        session = self.session()
        self.assertEqual(session.capabilities(), ALWAYS | {b"STLS"})
        session.log_in()
        self.assertEqual(session.capabilities(), ALWAYS)
        self.assertEqual(self.session(tls=False).capabilities(), ALWAYS)

    def test_pipelined_commands_get_one_reply_each_in_order(self) -> None:
        """Each command has its own answer, in order; a bad one harms no other."""
        commands = [
            b"USER ann",
            b"PASS secret",
            b"STAT",
            b"NONSENSE",
            b"RETR 1",
            b"RETR 9",
            b"DELE x",
            b"\xff\xfe",
            b"",
            b"NOOP",
            b"QUIT",
        ]
        expected = [b"+OK"] * 3 + [b"-ERR", b"+OK"] + [b"-ERR"] * 4 + [b"+OK"] * 2
        for step in (1, 7, 1000):
            session = self.session()
            data = b"".join(command + b"\r\n" for command in commands)
            for start in range(0, len(data), step):
                session.server.dataReceived(data[start : start + step])
            said = session.said().replace(MESSAGES[0], b"")
            words = [line.split(b" ")[0] for line in said.splitlines() if line != b"."]
            self.assertEqual(words, expected)
            self.assertTrue(session.wire.disconnecting)

    def test_lowercase_verb_is_accepted(self) -> None:
        """Verbs are told apart without regard to case."""
        self.assertEqual(self.session().lines(b"capa")[0][:3], b"+OK")

    def test_command_in_wrong_state_is_refused(self) -> None:
        """A command out of its place is refused and does nothing."""
        session = self.session()
        for command in (b"STAT", b"LIST", b"RETR 1", b"DELE 1", b"NOOP", b"RSET"):
            self.assertRefused(session.ask(command))
        session.log_in()
        for command in (b"USER bob", b"PASS secret", b"AUTH PLAIN", b"STLS"):
            self.assertRefused(session.ask(command))
        self.assertIsNone(session.wire.context)

    def test_wrong_number_of_arguments_is_refused(self) -> None:
        """Too many or too few arguments are refused."""
        session = self.session()
        for command in (b"CAPA now", b"USER", b"USER a b", b"PASS", b"APOP ann"):
            self.assertRefused(session.ask(command))
        session.log_in()
        for command in (b"STAT 1", b"RETR", b"RETR 1 2", b"TOP 1", b"DELE", b"NOOP 1"):
            self.assertRefused(session.ask(command))

    def test_last_and_rpop_are_refused(self) -> None:
        """What the base class has beside POP3 is not to be had."""
        session = self.logged_in()
        for command in (b"LAST", b"RPOP x"):
            self.assertRefused(session.ask(command))

    def test_commands_after_quit_get_no_reply(self) -> None:
        """What comes after QUIT is not heard."""
        session = self.logged_in()
        self.assertEqual(session.lines(b"QUIT", b"NOOP"), [b"+OK bye"])
        session.server.dataReceived(b"NOOP\r\n")
        self.assertEqual(session.said(), b"")

    def test_overlong_line_closes_the_connection(self) -> None:
        """A line without end ends the connection."""
        for tail in (b"", b"\r\n"):
            session = self.session()
            session.server.dataReceived(b"x" * (session.server.MAX_LENGTH + 1) + tail)
            self.assertTrue(session.wire.disconnecting)

    def test_idle_connection_is_closed_after_ten_minutes(self) -> None:
        """The server waits ten minutes, and no longer (RFC 1939 section 3)."""
        session = self.session()
        self.clock.advance(599)
        self.assertFalse(session.wire.disconnecting)
        session.ask(b"CAPA")
        self.clock.advance(599)
        self.assertFalse(session.wire.disconnecting)
        self.clock.advance(2)
        self.assertTrue(session.wire.disconnecting)


class STLSTests(ServerCase):
    """RFC 2595 section 4."""

    def test_stls_starts_tls_and_is_no_longer_offered(self) -> None:
        """TLS starts after the answer, and STLS is offered no more."""
        session = self.session()
        self.assertEqual(session.ask(b"STLS"), b"+OK begin TLS\r\n")
        self.assertIs(session.wire.context, self.context)
        self.assertEqual(session.capabilities(), ALWAYS)
        self.assertRefused(session.ask(b"STLS"))

    def test_user_name_sent_before_stls_is_forgotten(self) -> None:
        """A name that was told in the clear is forgotten."""
        session = self.session()
        session.ask(b"USER ann")
        session.ask(b"STLS")
        self.assertRefused(session.ask(b"PASS secret"))

    def test_cleartext_bytes_after_stls_close_the_connection(self) -> None:
        """What stands behind STLS in the clear is never a command under TLS."""
        for behind in (b"USER ann\r\n", b"U", b"\r\n"):
            session = self.session()
            session.server.dataReceived(b"STLS\r\n" + behind)
            self.assertRefused(session.said())
            self.assertIsNone(session.wire.context)
            self.assertTrue(session.wire.disconnecting)
            session.server.dataReceived(b"SER ann\r\n")
            self.assertEqual(session.said(), b"")

    def test_stls_without_certificate_is_refused(self) -> None:
        """Where there is no TLS, STLS is refused."""
        session = self.session(tls=False)
        self.assertRefused(session.ask(b"STLS"))
        self.assertIsNone(session.wire.context)


class LoginTests(ServerCase):
    """USER, APOP, PLAIN, and the lock."""

    def test_blanks_in_password_are_significant(self) -> None:
        """Blanks in a password count, also at its ends."""
        self.assertIn(b"welcome", self.session().log_in(b"bob", b" two  words "))
        reply = self.session().lines(b"USER bob", b"PASS two words")
        self.assertRefused(reply[1] + b"\r\n", b"[AUTH]")

    def test_wrong_name_and_wrong_password_get_the_same_reply(self) -> None:
        """A wrong name and a wrong password are the same to the client."""
        replies = {
            self.session().lines(b"USER " + user, b"PASS wrong")[1]
            for user in (b"ann", b"nobody")
        }
        self.assertEqual(len(replies), 1)
        self.assertRefused(replies.pop() + b"\r\n", b"[AUTH]")

    def test_refused_login_can_be_retried_from_user(self) -> None:
        """After a refusal one can try again, from the beginning."""
        session = self.session()
        session.log_in(password=b"wrong")
        self.assertRefused(session.ask(b"PASS secret"))
        self.assertIn(b"welcome", session.log_in())

    def test_apop_accepts_only_the_right_digest(self) -> None:
        """APOP wants the digest of challenge and password."""
        for password, code in ((b"secret", b"+OK"), (b"wrong", b"-ERR [AUTH]")):
            session = self.session()
            challenge = session.greeting[4:-2]
            digest = hashlib.md5(challenge + password).hexdigest().encode()
            reply = session.ask(b"APOP ann " + digest)
            self.assertTrue(reply.startswith(code), reply)
            session.lost()

    def test_plain_accepts_response_in_command_or_after_challenge(self) -> None:
        """PLAIN, with the response in the command and behind it."""
        for who in (b"\0ann\0secret", b"ann\0ann\0secret"):
            response = base64.b64encode(who)
            session = self.session()
            self.assertEqual(session.ask(b"AUTH plain " + response), b"+OK welcome\r\n")
            session.lost()
            session = self.session()
            self.assertEqual(session.ask(b"AUTH PLAIN"), b"+ \r\n")
            self.assertEqual(session.ask(response), b"+OK welcome\r\n")
            session.lost()

    def test_plain_with_wrong_credentials_is_refused_with_auth_code(self) -> None:
        """A wrong password, and somebody else's name, have the code AUTH."""
        for who in (b"\0ann\0wrong", b"\0nobody\0secret", b"bob\0ann\0secret"):
            reply = self.session().ask(b"AUTH PLAIN " + base64.b64encode(who))
            self.assertRefused(reply, b"[AUTH]")

    def test_malformed_plain_response_is_refused(self) -> None:
        """What is no base64 or no PLAIN response is refused (RFC 5034 section 4)."""
        good = base64.b64encode(b"\0ann\0secret")
        bad = [
            b"=",
            b"*",
            b"$$$$",
            good[:-1],
            good + b"=",
            base64.b64encode(b"ann secret"),
            base64.b64encode(b"\0ann\0secret\0"),
            base64.b64encode(b"\0\0secret"),
            base64.b64encode(b"\0ann\0"),
        ]
        for response in bad:
            session = self.session()
            self.assertRefused(session.ask(b"AUTH PLAIN " + response))
            self.assertEqual(session.ask(b"AUTH PLAIN"), b"+ \r\n")
            self.assertRefused(session.ask(response))
            # ... and the next line is a command again.
            self.assertIn(b"+OK", session.ask(b"CAPA"))

    def test_plain_response_with_stray_base64_bits_is_refused(self) -> None:
        """Base64 with stray bits at its end is not strict (RFC 4648 section 3.5)."""
        good = base64.b64encode(b"\0ann\0secrets!")
        self.assertTrue(good.endswith(b"IQ=="))
        self.assertEqual(plain(good).password, b"secrets!")
        self.assertRaises(ValueError, plain, good[:-3] + b"R==")

    def test_equals_sign_is_read_as_empty_plain_response(self) -> None:
        """The equals sign is the empty response, not bad base64 (RFC 5034)."""
        reply = self.session().ask(b"AUTH PLAIN =")
        self.assertEqual(reply, b"-ERR this is not a PLAIN response\r\n")

    def test_asterisk_cancels_plain(self) -> None:
        """An asterisk cancels (RFC 5034 section 4)."""
        session = self.session()
        session.ask(b"AUTH PLAIN")
        self.assertEqual(session.ask(b"*"), b"-ERR cancelled\r\n")

    def test_unsupported_mechanism_is_refused(self) -> None:
        """What CAPA does not name is refused at once."""
        for mechanism in (b"LOGIN", b"CRAM-MD5", b"PLAINER"):
            self.assertRefused(self.session().ask(b"AUTH " + mechanism))

    def test_login_is_refused_while_mailbox_is_in_use(self) -> None:
        """One session at a time; the password is asked first."""
        first = self.logged_in()
        second = self.session()
        self.assertRefused(
            second.lines(b"USER ann", b"PASS no")[1] + b"\r\n", b"[AUTH]"
        )
        reply = second.lines(b"USER ann", b"PASS secret")[1]
        self.assertRefused(reply + b"\r\n", b"[IN-USE]")
        second.lost()
        self.assertIn(b"[IN-USE]", self.session().log_in())
        first.lost()
        self.assertIn(b"welcome", self.session().log_in())

    def test_mailbox_is_free_after_quit_and_next_session_keeps_lock(self) -> None:
        """Whoever has QUIT's answer can log in again, and keeps the lock."""
        first = self.logged_in()
        first.ask(b"QUIT")
        self.logged_in()
        first.lost()
        self.assertIn(b"[IN-USE]", self.session().log_in())


class MailboxTests(ServerCase):
    """STAT, LIST, UIDL, RETR, TOP, DELE, RSET, QUIT."""

    def test_stat_and_list_report_the_sizes_of_messages(self) -> None:
        """Sizes are the octets that RETR brings."""
        session = self.logged_in()
        self.assertEqual(session.ask(b"STAT"), b"+OK 3 %d\r\n" % sum(SIZES))
        rows = [b"%d %d" % row for row in enumerate(SIZES, 1)]
        self.assertEqual(session.lines(b"LIST")[1:], [*rows, b"."])
        self.assertEqual(session.ask(b"LIST 2"), b"+OK %s\r\n" % rows[1])

    def test_empty_mailbox_has_empty_listings(self) -> None:
        """An empty mailbox has empty listings."""
        session = self.session()
        session.log_in(b"bob", b" two  words ")
        self.assertEqual(session.ask(b"STAT"), b"+OK 0 0\r\n")
        for command in (b"LIST", b"UIDL"):
            first, end = session.lines(command)
            self.assertTrue(first.startswith(b"+OK"))
            self.assertEqual(end, b".")

    def test_retr_sends_message_with_leading_dots_doubled(self) -> None:
        """Every line that begins with a dot has one more on the wire."""
        session = self.logged_in()
        for number, message in enumerate(MESSAGES, 1):
            first, _, rest = session.ask(b"RETR %d" % number).partition(b"\r\n")
            self.assertEqual(first, b"+OK %d octets" % len(message))
            stuffed = b"".join(
                b"." + line if line.startswith(b".") else line
                for line in message.splitlines(True)
            )
            self.assertEqual(rest, stuffed + b".\r\n")

    def test_top_sends_headers_and_requested_number_of_lines(self) -> None:
        """TOP is the headers, the empty line, and so many lines."""
        session = self.logged_in()
        headers = b"Subject: one\r\n\r\n"
        for lines, body in (
            (b"0", b""),
            (b"1", b"first\r\n"),
            (b"2", b"first\r\nsecond\r\n"),
            (b"999", b"first\r\nsecond\r\nthird\r\n"),
        ):
            _, _, rest = session.ask(b"TOP 1 " + lines).partition(b"\r\n")
            self.assertEqual(rest, headers + body + b".\r\n")
        self.assertTrue(session.ask(b"TOP 3 5").endswith(b"empty\r\n\r\n.\r\n"))
        for lines in (b"-1", b"x", b"", b"9" * 5000):
            self.assertRefused(session.ask(b"TOP 1 " + lines))

    def test_unknown_message_number_is_refused(self) -> None:
        """A number that no message has is refused."""
        session = self.logged_in()
        for number in (b"0", b"4", b"-1", b"+1", b"x", b"", b"1_0", b"9" * 5000):
            for verb in (b"LIST", b"UIDL", b"RETR", b"DELE"):
                self.assertRefused(session.ask(verb + b" " + number))
        self.assertEqual(session.ask(b"STAT"), b"+OK 3 %d\r\n" % sum(SIZES))

    def test_deleted_message_is_hidden_until_rset(self) -> None:
        """A deleted message is counted, listed and sent no more."""
        session = self.logged_in()
        self.assertEqual(session.ask(b"DELE 2"), b"+OK marked\r\n")
        self.assertEqual(session.ask(b"STAT"), b"+OK 2 %d\r\n" % (SIZES[0] + SIZES[2]))
        for command in (b"LIST", b"UIDL"):
            numbers = [row.split()[0] for row in session.lines(command)[1:]]
            self.assertEqual(numbers, [b"1", b"3", b"."])
        for command in (b"LIST 2", b"UIDL 2", b"RETR 2", b"TOP 2 0", b"DELE 2"):
            self.assertRefused(session.ask(command))
        session.ask(b"RSET")
        self.assertEqual(session.ask(b"STAT"), b"+OK 3 %d\r\n" % sum(SIZES))

    def test_quit_deletes_marked_messages_and_keeps_other_uids(self) -> None:
        """QUIT deletes what is marked, and the others keep their ids."""
        session = self.logged_in()
        before = dict(row.split() for row in session.lines(b"UIDL")[1:-1])
        self.assertEqual(len(set(before.values())), 3)
        self.assertEqual(session.ask(b"UIDL 3"), b"+OK 3 %s\r\n" % before[b"3"])
        session.ask(b"DELE 1")
        session.ask(b"QUIT")
        after = dict(row.split() for row in self.logged_in().lines(b"UIDL")[1:-1])
        self.assertEqual(after, {b"1": before[b"2"], b"2": before[b"3"]})

    def test_lost_connection_deletes_nothing(self) -> None:
        """A connection that is lost deletes nothing (RFC 1939 section 6)."""
        session = self.logged_in()
        session.ask(b"DELE 1", b"DELE 2")
        session.lost()
        self.assertEqual(self.logged_in().ask(b"STAT"), b"+OK 3 %d\r\n" % sum(SIZES))

    def test_quit_before_login_ends_the_session(self) -> None:
        """QUIT before the login just ends the session."""
        session = self.session()
        self.assertEqual(session.ask(b"QUIT"), b"+OK bye\r\n")
        self.assertTrue(session.wire.disconnecting)


class MessagesTests(SynchronousTestCase):
    """The sample mail."""

    def setUp(self) -> None:
        self.messages = sample_messages()
        self.parsed: list[EmailMessage] = [
            email.message_from_bytes(message, policy=email.policy.default)
            for message in self.messages
        ]

    def test_sample_messages_have_only_crlf_line_ends(self) -> None:
        """Nothing but CRLF, and one at the end."""
        for message in self.messages:
            self.assertEqual(re.findall(rb"(?<!\r)\n|\r(?!\n)", message), [])
            self.assertTrue(message.endswith(b"\r\n"))

    def test_sample_messages_are_reproducible_and_distinct(self) -> None:
        """They are the same octets each time they are made, and all different."""
        again = sample_messages.__wrapped__()
        self.assertIsNot(again, self.messages)
        self.assertEqual(again, self.messages)
        ids = {str(message["Message-ID"]) for message in self.parsed}
        self.assertEqual(len(ids), len(self.messages))

    def test_sample_messages_parse_without_defects(self) -> None:
        """They are good mail: nothing that the email package frowns upon."""
        self.assertGreaterEqual(len(self.messages), 10)
        for message in self.parsed:
            for part in message.walk():
                self.assertEqual(part.defects, [])
            for name in ("From", "To", "Subject", "Date", "Message-ID"):
                self.assertTrue(message[name], name)

    def test_sample_messages_cover_cases_that_trip_clients(self) -> None:
        """Each has what trips a client: that is what they are for."""
        subjects = [str(message["Subject"]) for message in self.parsed]
        self.assertTrue(any(not subject.isascii() for subject in subjects))
        names = [message["From"].addresses[0].display_name for message in self.parsed]
        self.assertTrue(any(not name.isascii() for name in names))
        kinds = {
            part.get_content_type()
            for message in self.parsed
            for part in message.walk()
        }
        wanted = {"multipart/alternative", "text/html", "message/rfc822", "image/png"}
        self.assertLessEqual(wanted, kinds)
        files = {
            part.get_filename()
            for message in self.parsed
            for part in message.iter_attachments()
        }
        self.assertIn("Preisübersicht März.csv", files)
        lines = [line for message in self.messages for line in message.split(b"\r\n")]
        self.assertIn(b".", lines)
        self.assertIn(b"..", lines)
        self.assertEqual(max(map(len, lines)), LONG_LINE)
        self.assertTrue(any(line.startswith((b"\t", b" ")) for line in lines))
        self.assertTrue(any(not message.isascii() for message in self.messages))
        bodies = [message.partition(b"\r\n\r\n")[2] for message in self.messages]
        self.assertIn(b"", bodies)


class Terminal(io.TextIOWrapper):
    """A terminal of some encoding."""

    def __init__(self, encoding: str = "utf-8") -> None:
        super().__init__(io.BytesIO(), encoding, newline="\n")

    def shown(self) -> str:
        assert isinstance(self.buffer, io.BytesIO)
        return self.buffer.getvalue().decode(self.encoding)


class ServiceCase(TestCase):
    """Tests with sockets on loopback."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.out = Terminal()
        self.err = Terminal()
        self.finished: Deferred[int] = Deferred()

    def service(self, **settings: object) -> DemoService:
        chosen = Settings(port=0, tls_port=0, folder=str(self.folder), once=True)
        service = DemoService(
            replace(chosen, **settings),  # type: ignore[arg-type]
            reactor=reactor,
            out=terminal(self.out),
            err=self.err,
            finish=self.finished.callback,
        )
        self.addCleanup(lambda: maybeDeferred(service.stopService))
        return service

    def start(self, **settings: object) -> DemoService:
        service = self.service(**settings)
        service.privilegedStartService()
        service.startService()
        return service


class ServiceTests(ServiceCase):
    """The service: ports, folder, accounts."""

    def taken(self) -> int:
        other = socket.socket()
        self.addCleanup(other.close)
        other.bind(("127.0.0.1", 0))
        other.listen()
        return int(other.getsockname()[1])

    def check_gave_up(self, *words: str) -> None:
        self.assertEqual(self.successResultOf(self.finished), 1)
        self.assertEqual(self.err.shown().count("\n"), 1)
        for word in words:
            self.assertIn(word, self.err.shown())
        self.assertEqual(self.out.shown(), "")

    def test_taken_port_fails_with_one_line_naming_the_option(self) -> None:
        """A port that is taken is one line, with the port and the option."""
        for name, option in (("port", "--port"), ("tls_port", "--tls-port")):
            self.setUp()
            port = self.taken()
            self.start(**{name: port})
            self.check_gave_up(f"port {port}:", f"with {option} ", "--folder second")
            # Whoever has the ports may have a certificate in this folder.
            self.assertEqual(list(self.folder.iterdir()), [])

    def test_unusable_folder_fails_with_one_line_naming_the_option(self) -> None:
        """A folder that cannot be is one line, with the option."""
        file = self.folder / "file"
        file.touch()
        self.start(folder=str(file))
        self.check_gave_up("--folder", str(file))

    def test_server_listens_on_one_loopback_address_only(self) -> None:
        """The server, which takes passwords in the clear, is not for the net."""
        service = self.service()
        service.privilegedStartService()
        self.assertNotEqual(service.port, service.tls_port)
        other = socket.socket()
        self.addCleanup(other.close)
        # Another loopback address is refused, so it is not all interfaces.
        self.assertNotEqual(other.connect_ex(("127.0.0.2", service.port)), 0)
        other.close()
        again = socket.create_connection(("127.0.0.1", service.port))
        again.close()

    def test_ca_certificate_of_previous_run_is_replaced(self) -> None:
        """The CA's certificate replaces that of the run before."""
        cacerts = self.folder / "secure" / "cacerts"
        cacerts.mkdir(parents=True)
        (cacerts / CA_FILE).write_text("old")
        (cacerts / "other.pem").write_text("not ours")
        self.start()
        self.assertIn("BEGIN CERTIFICATE", (cacerts / CA_FILE).read_text())
        self.assertNotIn("PRIVATE", (cacerts / CA_FILE).read_text())
        self.assertEqual((cacerts / "other.pem").read_text(), "not ours")
        self.assertEqual(len(list(cacerts.iterdir())), 2)

    async def test_default_account_is_printed_with_its_password(self) -> None:
        """The account that nobody chose is told in full."""
        self.start()
        await deferLater(reactor, 0)
        self.assertRegex(
            self.out.shown(), r"account +alice, password looking-glass *\n"
        )

    async def test_chosen_accounts_are_printed_without_passwords(self) -> None:
        """The password of an account that somebody chose is not told."""
        self.start(accounts={"ann": "hush-hush", "bob": "pssst"})
        await deferLater(reactor, 0)
        self.assertRegex(self.out.shown(), r"account +ann,.*\n +account +bob,")
        self.assertNotIn("hush-hush", self.out.shown())
        self.assertNotIn("pssst", self.out.shown())
        self.assertNotIn("alice", self.out.shown())
        self.assertNotIn("looking-glass", self.out.shown())

    async def test_service_stopped_during_tour_prints_nothing_more(self) -> None:
        """A service that is stopped amid its tour is silent from then on."""
        service = self.start()
        await deferLater(reactor, 0)
        self.assertIn("1. TLS", self.out.shown())
        await service.stopService()
        await deferLater(reactor, 0.01)
        self.assertNotIn("FAILED", self.out.shown())
        self.assertNotIn("2. Plain", self.out.shown())
        self.assertNoResult(self.finished)


class TourTests(ServiceCase):
    """The tour, over loopback."""

    async def test_successful_tour_shows_all_steps_and_ends_with_status_0(self) -> None:
        """The tour tells what the issue promises, and ends with status 0."""
        self.start()
        self.assertEqual(await self.finished, 0)
        shown = self.out.shown()
        self.assertNotIn("FAILED", shown)
        for text in (
            "Secure.TLS",
            "Secure.STLS",
            "C: CAPA",
            "C: STLS",
            "TLS: ",
            "C: QUIT",
            "Grüße aus Köln",
            "VerificationError",
            "mail.impostor.example",
            "LoginError",
            "All 6 steps worked.",
        ):
            self.assertIn(text, shown)
        # Told once, as the account's, and masked wherever it was sent.
        self.assertEqual(shown.count("looking-glass"), 1)
        rows = re.findall(r"^ +(\d+) +(\d+)  \S.*\S *$", shown, re.MULTILINE)
        self.assertEqual(
            rows,
            [(str(n), str(len(m))) for n, m in enumerate(sample_messages(), 1)],
        )

    async def test_service_keeps_serving_after_tour_without_once(self) -> None:
        """Without --once the server is there after the tour."""
        invited: Deferred[None] = Deferred()

        class Watched(Terminal):
            def flush(self) -> None:
                super().flush()
                if "docs/tutorial.rst" in self.shown() and not invited.called:
                    invited.callback(None)

        self.out = Watched()
        service = self.service(once=False)
        service.privilegedStartService()
        service.startService()
        await invited
        socket.create_connection(("127.0.0.1", service.port)).close()
        self.assertNoResult(self.finished)
        # What can be copied is not wrapped, however long the folder's path is.
        shown = self.out.shown().splitlines()
        at = shown.index(f"   cd {self.folder.absolute()}")
        self.assertTrue(shown[at + 1].startswith("   curl --cacert secure/cacerts/"))
        self.assertTrue(shown[at + 1].endswith(f"{CA_FILE} \\"), shown[at + 1])
        self.assertEqual(
            shown[at + 2],
            f"     --user alice:looking-glass pop3s://localhost:{service.tls_port}/2",
        )

    async def test_tour_fits_80_columns_whatever_the_width_of_the_terminal(
        self,
    ) -> None:
        self.set_environment({**os.environ, "COLUMNS": "200"})
        self.start()
        self.assertEqual(await self.finished, 0)
        widths = [cell_len(line.rstrip()) for line in self.out.shown().splitlines()]
        self.assertLessEqual(max(widths), 80)
        self.assertGreater(max(widths), 70)

    def set_environment(self, environment: dict[str, str]) -> None:
        """Change the environment in place, because Rich holds the object."""
        before = dict(os.environ)

        def become(other: dict[str, str]) -> None:
            os.environ.clear()
            os.environ.update(other)

        self.addCleanup(become, before)
        become(environment)

    async def shown_on(self, tty: bool, **environment: str) -> str:
        """Return what the tour writes to a terminal, or to a file."""
        unset = ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "COLORTERM")
        kept = {name: value for name, value in os.environ.items() if name not in unset}
        self.set_environment({**kept, **environment})
        self.patch(self.out, "isatty", lambda: tty)
        self.start()
        self.assertEqual(await self.finished, 0)
        return self.out.shown()

    async def test_tour_is_coloured_on_a_terminal(self) -> None:
        shown = await self.shown_on(True, TERM="xterm")
        self.assertIn("\x1b[1;32mok\x1b[0m", shown)

    async def test_tour_has_no_colour_with_no_color(self) -> None:
        shown = await self.shown_on(True, TERM="xterm", NO_COLOR="1")
        # Bold is no colour.
        self.assertEqual(re.findall(r"\x1b\[(?![0-2]m)[0-9;]*m", shown), [])
        self.assertIn("\x1b[1mok\x1b[0m", shown)

    async def test_tour_has_no_escape_sequence_on_a_dumb_terminal(self) -> None:
        self.assertNotIn("\x1b", await self.shown_on(True, TERM="dumb"))

    async def test_tour_has_no_escape_sequence_in_a_file(self) -> None:
        self.assertNotIn("\x1b", await self.shown_on(False, TERM="xterm"))

    async def test_tour_escapes_characters_the_terminal_cannot_show(self) -> None:
        """A terminal that cannot show a character does not end the tour."""
        self.out = Terminal("ascii")
        self.start()
        self.assertEqual(await self.finished, 0)
        self.assertIn("Gr\\xfc\\xdfe", self.out.shown())

    async def test_tour_with_closed_output_ends_with_status_1(self) -> None:
        """A tour that cannot be told (``| head``) ends with another status."""
        service = self.service()
        self.out.buffer.close()
        service.startService()
        self.assertEqual(await self.finished, 1)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    async def test_tour_with_mailbox_in_use_fails_with_status_1(self) -> None:
        """A tour that does not go well is told, and ends with another status."""
        service = self.service()
        service.privilegedStartService()
        # Somebody else has the mailbox open.
        greeting: Deferred[None] = Deferred()

        class Other(LineOnlyReceiver):
            def lineReceived(self, line: bytes) -> None:
                if line.startswith(b"+OK <"):
                    self.sendLine(b"USER alice")
                    self.sendLine(b"PASS looking-glass")
                elif line == b"+OK welcome":
                    greeting.callback(None)

        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", service.port)
        await connectProtocol(endpoint, Other())
        await greeting
        service.startService()
        self.assertEqual(await self.finished, 1)
        told = self.out.shown()
        self.assertEqual(told.count("FAILED  LoginError"), 4)
        self.assertIn("[IN-USE]", told)
        self.assertNotIn("All 6", told)

    async def visited(self, impostor: str, messages: tuple[bytes, ...]) -> str:
        """Tour a server that is not what the tour expects."""
        service = self.service()
        service.privilegedStartService()
        authority = DemoAuthority()
        cacerts = self.folder / "mine"
        cacerts.mkdir()
        (cacerts / "ca.pem").write_bytes(authority.pem)
        # The server's own CA: without it nothing would work at all.
        (cacerts / "other.pem").write_bytes(service.authority.pem)
        factory = ImpostorFactory()
        listening = reactor.listenSSL(
            0, factory, authority.server(impostor), interface="127.0.0.1"
        )
        self.addCleanup(listening.stopListening)
        visit = Visit(
            host="localhost",
            port=service.port,
            tls_port=service.tls_port,
            username="alice",
            password="looking-glass",
            cacerts=str(cacerts),
            messages=messages,
            impostor_port=listening.getHost().port,
            impostor=factory,
        )
        console = terminal(self.out)
        self.assertFalse(await Tour(visit, console.print, reactor).run())
        return re.sub(r"\s+", " ", self.out.shown())

    async def test_tour_fails_when_mail_on_server_differs(self) -> None:
        """Mail that is not what lies on the server makes the tour fail."""
        told = await self.visited("mail.impostor.example", sample_messages()[:-1])
        self.assertEqual(told.count("FAILED _Unexpected: STAT"), 3)
        self.assertIn("FAILED _Unexpected: the messages retrieved", told)
        self.assertIn("4 of 6 steps FAILED", told)

    async def test_tour_fails_when_the_impostor_is_trusted(self) -> None:
        """An impostor who is believed makes the tour fail."""
        told = await self.visited("localhost", sample_messages())
        self.assertIn("FAILED", told.partition("5. An impostor")[2].partition("6.")[0])
        self.assertIn("1 of 6 steps FAILED", told)


class TwistdTests(SynchronousTestCase):
    """What the demo does about twistd's pid file and its log."""

    def setUp(self) -> None:
        self.file = Path(self.mktemp())

    def test_pid_file_of_a_running_process_gives_the_commands(self) -> None:
        self.file.write_text(f"{os.getpid()}\n")
        told = already_running({"pidfile": str(self.file)})
        assert told is not None
        self.assertIn(f"{self.file} names process {os.getpid()}.", told)
        self.assertIn(f"kill {os.getpid()}\n", told)
        self.assertIn("--pidfile= pop3connect demo --port 0 --tls-port 0", told)

    def test_process_of_another_user_counts_as_running(self) -> None:
        def forbidden(process: int, signal: int) -> None:
            raise PermissionError

        self.patch(os, "kill", forbidden)
        self.file.write_text("4711")
        self.assertIn("4711", already_running({"pidfile": str(self.file)}) or "")

    def test_missing_stale_and_broken_pid_files_are_left_to_twistd(self) -> None:
        self.assertIsNone(already_running({"pidfile": str(self.file)}))
        done = subprocess.Popen([sys.executable, "-c", ""])
        done.wait()
        for text in (str(done.pid), "", "x", "9" * 40):
            self.file.write_text(text)
            self.assertIsNone(already_running({"pidfile": str(self.file)}), text)

    def test_no_pid_file_is_no_obstacle(self) -> None:
        self.assertIsNone(already_running({"pidfile": ""}))
        # On Windows there is no such option.
        self.assertIsNone(already_running({}))

    def test_log_is_kept_off_stdout_only_if_it_would_go_there(self) -> None:
        for given, kept in (
            ({"nodaemon": 1, "logfile": None, "logger": None}, True),
            ({"nodaemon": 1, "logfile": "-"}, False),
            ({"nodaemon": 1, "logger": "mine"}, False),
            ({"nodaemon": 1, "syslog": 1}, False),
            ({"nodaemon": 0}, False),
        ):
            options: dict[str, object] = {**given}
            keep_log_off_stdout(options)
            self.assertEqual(options != given, kept, given)
