"""
How a connection begins and ends: the greeting, TLS at once, closing, being closed.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectionDone, ConnectionLost

from pop3connect import (
    ConnectionLostError,
    LoginError,
    ProtocolError,
    Secure,
    TimedOutError,
    TLSError,
)

from ..support.memory import SessionTestCase, server_certificate


class GreetingTests(SessionTestCase):
    """The greeting (RFC 1939 section 4)."""

    def test_nothing_is_sent_before_the_greeting(self) -> None:
        opening = self.open()
        self.pending(opening)
        self.assertEqual(self.server.heard(), b"")
        opening.cancel()
        self.error(opening, CancelledError)

    def test_the_greeting_may_come_octet_by_octet(self) -> None:
        opening = self.open()
        self.server.say(b"+OK POP3 ready\r", size=1)
        self.assertEqual(self.server.heard(), b"")
        self.server.say(b"\n")
        self.assertEqual(self.server.heard(), b"CAPA\r\n")
        opening.cancel()
        self.error(opening, CancelledError)

    def test_the_greeting_may_be_its_indicator_alone(self) -> None:
        opening = self.open()
        self.server.say(b"+OK\r\n")
        self.assertEqual(self.server.heard(), b"CAPA\r\n")
        opening.cancel()
        self.error(opening, CancelledError)

    def greet(self, greeting: bytes) -> str:
        """Return the greeting as the handle of a session that began with it."""
        opening = self.open()
        self.server.say(greeting)
        self.server.expect(b"CAPA", b"-ERR\r\n")
        self.server.expect(b"USER ada", b"+OK\r\n")
        self.server.expect(b"PASS lovelace", b"+OK\r\n")
        self.server.expect(b"CAPA", b"-ERR\r\n")
        text = self.result(opening).greeting
        assert isinstance(text, str)
        return text

    def test_the_handle_has_its_text(self) -> None:
        text = self.greet(b"+OK Dovecot ready.\r\n")
        self.assertEqual(text, "Dovecot ready.")
        self.assertIn("S: +OK Dovecot ready.", self.status)

    def test_brackets_in_a_good_greeting_are_no_code(self) -> None:
        # Office 365 puts base64 in brackets there; RFC 2449 section 8 has codes for
        # -ERR only in mind.
        text = self.greet(b"+OK ready [UwBOADYAUABSAA==]\r\n")
        self.assertEqual(text, "ready [UwBOADYAUABSAA==]")

    def test_brackets_that_begin_a_good_greeting_are_no_code(self) -> None:
        self.assertEqual(self.greet(b"+OK [IN-USE] ready\r\n"), "[IN-USE] ready")

    def test_control_characters_are_escaped(self) -> None:
        text = self.greet(b"+OK \x1b[2Jhello\x07\xff\r\n")
        self.assertEqual(text, "\\x1b[2Jhello\\x07\\xff")
        self.assertIn("S: +OK \\x1b[2Jhello\\x07\\xff", self.status)

    def test_utf8_is_kept(self) -> None:
        # RFC 6856 section 3.1: the greeting may be in UTF-8.
        self.assertEqual(self.greet("+OK grüß dich\r\n".encode()), "grüß dich")

    def refused(self, greeting: bytes) -> LoginError:
        opening = self.open()
        self.server.say(greeting)
        error = self.error(opening, LoginError)
        self.assertEqual(self.server.heard(), b"")
        self.assertClosed()
        self.assertIsNone(error.verb)
        return error

    def test_refused_with_a_code(self) -> None:
        # RFC 3206 section 4: a system problem, of which one may hope it passes.
        error = self.refused(b"-ERR [SYS/TEMP] too many connections\r\n")
        self.assertEqual(error.code, "SYS/TEMP")
        self.assertEqual(error.text, "too many connections")
        self.assertTrue(error.transient)
        self.assertIn("[SYS/TEMP] too many connections", str(error))

    def test_refused_because_the_mailbox_is_in_use(self) -> None:
        # RFC 2449 section 8: the case of a code means nothing.
        error = self.refused(b"-ERR [in-use] another session\r\n")
        self.assertEqual(error.code, "IN-USE")
        self.assertTrue(error.transient)

    def test_refused_for_good(self) -> None:
        error = self.refused(b"-ERR [SYS/PERM] closed for ever\r\n")
        self.assertEqual(error.code, "SYS/PERM")
        self.assertIs(error.transient, False)

    def test_refused_without_a_reason(self) -> None:
        error = self.refused(b"-ERR\r\n")
        self.assertIsNone(error.code)
        self.assertEqual(error.text, "")
        self.assertIsNone(error.transient)
        self.assertIn("no reason", str(error))

    def test_refused_with_text_in_brackets_that_is_no_code(self) -> None:
        error = self.refused(b"-ERR [please try later] sorry\r\n")
        self.assertIsNone(error.code)
        self.assertEqual(error.text, "[please try later] sorry")

    def test_control_characters_of_a_refusal_are_escaped(self) -> None:
        error = self.refused(b"-ERR go\x1b[31m away\x00\r\n")
        self.assertEqual(error.text, "go\\x1b[31m away\\x00")
        self.assertTrue(str(error).isprintable())

    def junk(self, data: bytes, size: int | None = None) -> str:
        opening = self.open()
        self.server.say(data, size=size)
        error = self.error(opening, ProtocolError)
        self.assertEqual(self.server.heard(), b"")
        self.assertTrue(self.server.transport.aborting)
        self.assertClosed()
        return str(error)

    def test_without_an_end(self) -> None:
        text = self.junk(b"+OK " + b"x" * 100_000, size=4096)
        # Nobody wants to read all that.
        self.assertLess(len(text), 2000)

    def test_with_an_end_that_comes_too_late(self) -> None:
        text = self.junk(b"+OK " + b"x" * 100_000 + b"\r\n")
        self.assertLess(len(text), 2000)

    def test_a_long_one_that_a_server_may_send(self) -> None:
        # RFC 2449 section 4 allows 512 octets, and there are servers that pass it.
        self.assertEqual(self.greet(b"+OK " + b"x" * 500 + b"\r\n"), "x" * 500)

    def test_none_that_makes_sense(self) -> None:
        self.assertIn("hello there", self.junk(b"hello there\r\n"))

    def test_an_empty_line(self) -> None:
        self.junk(b"\r\n")

    def test_a_challenge(self) -> None:
        self.junk(b"+ \r\n")

    def test_mail_text(self) -> None:
        self.junk(b"Return-Path: <ada@example.com>\r\n")

    def test_smtp(self) -> None:
        text = self.junk(b"220 mx.example.com ESMTP Postfix\r\n")
        self.assertIn("SMTP", text)

    def test_smtp_that_refuses(self) -> None:
        self.assertIn("SMTP", self.junk(b"554 no service\r\n"))

    def test_imap(self) -> None:
        text = self.junk(b"* OK [CAPABILITY IMAP4rev1] ready\r\n")
        self.assertIn("IMAP", text)

    def test_ssh(self) -> None:
        self.assertIn("SSH", self.junk(b"SSH-2.0-OpenSSH_9.6\r\n"))

    def test_ftp(self) -> None:
        self.assertIn("FTP", self.junk(b"220 (vsFTPd 3.0.5)\r\n"))

    def test_http(self) -> None:
        text = self.junk(b"HTTP/1.1 400 Bad Request\r\nServer: nginx\r\n\r\n")
        self.assertIn("web server", text)

    def test_a_tls_alert(self) -> None:
        # What a port for TLS says to who does not begin with a handshake: RFC 8446
        # section 5.1.  There is no end of line in it.
        text = self.junk(b"\x15\x03\x01\x00\x02\x02\x46")
        self.assertIn("TLS", text)
        self.assertIn("secure=1", text)

    def test_another_protocol_in_pieces(self) -> None:
        self.assertIn("IMAP", self.junk(b"* BYE overloaded\r\n", size=1))

    def test_a_tls_alert_in_pieces(self) -> None:
        self.assertIn("secure=1", self.junk(b"\x15\x03\x01\x00\x02\x02\x46", size=1))

    def test_a_piece_of_a_good_greeting_is_no_tls_record(self) -> None:
        opening = self.open()
        self.server.say(b"+OK ")
        self.server.say(b"\x16\x03 odd, but ours\r\n")
        self.assertEqual(self.server.heard(), b"CAPA\r\n")
        opening.cancel()
        self.error(opening, CancelledError)

    def test_a_reply_behind_it_was_not_asked_for(self) -> None:
        # It would be taken for the answer to CAPA, and all after it would be one off.
        opening = self.open()
        self.server.say(b"+OK ready\r\n+OK\r\nSASL\r\n.\r\n")
        error = self.error(opening, ProtocolError)
        self.assertIn("nobody asked", str(error))
        self.assertClosed()

    def test_a_piece_of_a_reply_behind_it_was_not_asked_for(self) -> None:
        opening = self.open()
        self.server.say(b"+OK ready\r\n+OK")
        self.server.say(b"\r\n")
        error = self.error(opening, ProtocolError)
        self.assertIn("nobody asked", str(error))
        self.assertClosed()

    def test_it_never_comes(self) -> None:
        opening = self.open(timeout=7)
        self.clock.advance(6.9)
        self.pending(opening)
        self.clock.advance(0.2)
        error = self.error(opening, TimedOutError)
        self.assertEqual(error.phase, "greeting")
        self.assertEqual(error.seconds, 7)
        self.assertIn("7 seconds", str(error))
        # The usual reason, and what helps.
        self.assertIn("secure=1", str(error))
        self.assertIsNone(error.verb)
        self.assertTrue(self.server.transport.aborting)
        self.assertClosed()

    def test_it_trickles(self) -> None:
        # An octet now and then is no greeting.
        opening = self.open(timeout=7)
        for octet in b"+OK this is the slowest server of all":
            self.server.say(bytes([octet]))
            self.clock.advance(1)
        error = self.error(opening, TimedOutError)
        self.assertEqual(error.phase, "greeting")
        self.assertEqual(self.clock.seconds(), 37)
        self.assertClosed()

    def test_lost_before_it(self) -> None:
        opening = self.open()
        reason = ConnectionLost()
        self.server.lose(reason)
        error = self.error(opening, ConnectionLostError)
        self.assertIn("before the greeting", str(error))
        self.assertIs(error.__cause__, reason)
        self.assertIdle()

    def test_closed_in_the_middle_of_it(self) -> None:
        opening = self.open()
        self.server.say(b"+OK rea")
        self.server.lose(ConnectionDone())
        error = self.error(opening, ConnectionLostError)
        self.assertIn("before the greeting", str(error))
        self.assertIdle()

    def test_cancelled_before_it(self) -> None:
        opening = self.open()
        opening.cancel()
        self.error(opening, CancelledError)
        self.assertTrue(self.server.transport.aborting)
        self.assertClosed()

    def test_what_comes_after_the_end_is_ignored(self) -> None:
        opening = self.open()
        opening.cancel()
        # The transport is on its way down, and still has this in its buffer.
        self.server.client.dataReceived(b"+OK ready\r\n")
        self.error(opening, CancelledError)
        self.assertEqual(self.server.heard(), b"")
        self.assertEqual(self.status, [])


class HandshakeTests(SessionTestCase):
    """TLS from the first octet (RFC 8314), as far as it fails."""

    def begin(self) -> object:
        opening = self.open("pop.example.com:110", secure=Secure.TLS, verify=False)
        self.pending(opening)
        # The first octet of a handshake record: RFC 8446 section 5.1.
        self.assertEqual(self.server.transport.value()[:1], b"\x16")
        return opening

    def open(self, *arguments: str, **options: object) -> object:  # type: ignore[override]
        return self.server.open(
            *arguments,
            stsproc=self.status.append,
            timeout=7,
            connect_timeout=3,
            **options,
        )

    def test_it_is_never_answered(self) -> None:
        opening = self.begin()
        self.clock.advance(2.9)
        self.pending(opening)
        self.clock.advance(0.2)
        error = self.error(opening, TimedOutError)
        self.assertEqual(error.phase, "TLS handshake")
        self.assertEqual(error.seconds, 3)
        self.assertIn("TLS handshake within 3 seconds", str(error))
        self.assertTrue(self.server.transport.aborting)
        self.assertClosed()

    def test_it_is_answered_with_a_plain_greeting(self) -> None:
        opening = self.begin()
        self.server.raw(b"+OK POP3 ready\r\n")
        self.error(opening, TLSError)
        self.assertClosed()

    def test_it_is_lost(self) -> None:
        opening = self.begin()
        self.server.lose()
        error = self.error(opening, ConnectionLostError)
        self.assertIn("TLS handshake", str(error))
        self.assertIdle()

    def test_it_is_cancelled(self) -> None:
        opening = self.begin()
        opening.cancel()  # type: ignore[attr-defined]
        self.error(opening, CancelledError)
        self.assertTrue(self.server.transport.aborting)
        self.assertClosed()

    def greeted(self) -> object:
        """Reach the time between the handshake and the greeting."""
        opening = self.begin()
        self.server.start_tls(server_certificate())
        self.pending(opening)
        # Nothing is said before the greeting, within TLS as without.
        self.assertEqual(self.server.heard(), b"")
        return opening

    def test_a_session_begins_after_it(self) -> None:
        opening = self.greeted()
        self.server.say(b"+OK ready\r\n")
        self.server.expect(b"CAPA", b"-ERR\r\n")
        self.server.expect(b"USER ada", b"+OK\r\n")
        self.server.expect(b"PASS lovelace", b"+OK\r\n")
        self.server.expect(b"CAPA", b"-ERR\r\n")
        handle = self.result(opening)
        self.assertIs(handle.tls.verified, False)
        self.assertTrue(handle.tls.version.startswith("TLSv1."))
        # What is not so good is said aloud.
        told = [line for line in self.status if line.startswith("TLS: ")]
        self.assertEqual(len(told), 1)
        self.assertIn("NOT verified", told[0])
        self.assertIdle()
        self.result(handle.abort())

    def test_the_greeting_does_not_come_after_it(self) -> None:
        opening = self.greeted()
        self.clock.advance(6.9)
        self.pending(opening)
        self.clock.advance(0.2)
        error = self.error(opening, TimedOutError)
        self.assertEqual((error.phase, error.seconds), ("greeting", 7))
        # This is TLS already.
        self.assertNotIn("secure=1", str(error))
        self.assertClosed()

    def test_it_is_lost_after_it(self) -> None:
        opening = self.greeted()
        self.server.lose()
        error = self.error(opening, ConnectionLostError)
        self.assertIn("before the greeting", str(error))


class ClosingTests(SessionTestCase):
    """The end of a connection."""

    def test_the_end_is_told_when_the_connection_is_gone(self) -> None:
        self.server.closes = False
        handle = self.log_in()
        leaving = handle.disconnect()
        closed = handle.when_closed()
        self.server.expect(b"QUIT", b"+OK bye\r\n")
        # Our side has closed, in good order, and waits for theirs.
        self.assertTrue(self.server.transport.disconnecting)
        self.assertFalse(self.server.transport.aborting)
        self.pending(leaving, closed)
        self.server.lose(ConnectionDone())
        self.assertEqual(self.result(leaving).deleted, frozenset())
        self.assertIsNone(self.result(closed))
        self.assertIdle()

    def test_a_server_that_does_not_close_is_not_waited_for_long(self) -> None:
        # The work is done: QUIT was answered.  Nobody can hold us here.
        self.server.closes = False
        handle = self.log_in()
        leaving = handle.disconnect()
        self.server.expect(b"QUIT", b"+OK bye\r\n")
        self.clock.advance(30)
        self.assertTrue(self.server.transport.aborting)
        self.assertEqual(self.result(leaving).deleted, frozenset())
        self.assertIdle()

    def test_each_who_asks_is_told_of_the_end(self) -> None:
        handle = self.log_in()
        first, second = handle.when_closed(), handle.when_closed()
        self.assertIsNot(first, second)
        self.pending(first, second)
        self.server.lose()
        self.assertIsNone(self.result(first))
        self.assertIsNone(self.result(second))
        self.assertIsNone(self.result(handle.when_closed()))

    def test_not_waiting_for_the_end_any_more_is_harmless(self) -> None:
        handle = self.log_in()
        given_up, other = handle.when_closed(), handle.when_closed()
        given_up.cancel()
        self.error(given_up, CancelledError)
        self.assertFalse(self.server.transport.disconnecting)
        self.server.lose()
        self.assertIsNone(self.result(other))

    def test_the_end_is_told_after_the_errors(self) -> None:
        # Who hears of the end finds everything settled.
        handle = self.log_in()
        order: list[str] = []
        handle.when_closed().addCallback(lambda _: order.append("closed"))
        handle.noop().addErrback(lambda _: order.append("error"))
        self.server.heard()
        self.server.lose()
        self.assertEqual(order, ["error", "closed"])

    def test_abort_closes_at_once(self) -> None:
        handle = self.log_in()
        aborted = handle.abort()
        self.assertTrue(self.server.transport.aborting)
        self.assertIsNone(self.result(aborted))
        self.assertEqual(self.server.heard(), b"")
        self.assertIdle()

    def test_abort_after_the_end_is_harmless(self) -> None:
        handle = self.log_in()
        self.server.lose()
        self.assertIsNone(self.result(handle.abort()))
        self.assertFalse(self.server.transport.aborting)

    def test_a_transport_that_cannot_abort_is_closed(self) -> None:
        # abortConnection belongs to ITCPTransport; another may not have it.
        handle = self.log_in()
        self.server.transport.abortConnection = None  # type: ignore[assignment]
        self.assertIsNone(self.result(handle.abort()))
        self.assertTrue(self.server.transport.disconnecting)
