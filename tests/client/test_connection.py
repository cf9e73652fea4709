"""
How a connection begins and ends: the greeting, TLS at once, closing, being closed.
"""

from __future__ import annotations

from typing import Any

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
from ..support.shows import shows


class GreetingTests(SessionTestCase):
    """The greeting (RFC 1939 section 4)."""

    @shows(
        "RFC 1939-02",
        "MUST",
        "Wait for the greeting; ``-ERR`` there refuses the session.",
        "Nothing is sent before it; ``-ERR`` is a ``LoginError`` with its code.",
    )
    def test_nothing_is_sent_before_the_greeting(self) -> None:
        opening = self.open()
        self.pending(opening)
        self.assertEqual(self.server.heard(), b"")
        opening.cancel()
        self.error(opening, CancelledError)

    def test_greeting_arriving_byte_by_byte_is_accepted(self) -> None:
        opening = self.open()
        self.server.say(b"+OK POP3 ready\r", size=1)
        self.assertEqual(self.server.heard(), b"")
        self.server.say(b"\n")
        self.assertEqual(self.server.heard(), b"CAPA\r\n")
        opening.cancel()
        self.error(opening, CancelledError)

    @shows("quirk 1.1", "``+OK`` without text", "It is a greeting.")
    def test_greeting_without_text_is_accepted(self) -> None:
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
        text = self.result(opening).greeting
        assert isinstance(text, str)
        return text

    def test_greeting_text_is_available_on_the_handle(self) -> None:
        text = self.greet(b"+OK Dovecot ready.\r\n")
        self.assertEqual(text, "Dovecot ready.")
        self.assertIn("S: +OK Dovecot ready.", self.status)

    def test_brackets_in_greeting_text_are_not_a_response_code(self) -> None:
        # Office 365 puts base64 in brackets there; RFC 2449 section 8 has codes for
        # -ERR only in mind.
        text = self.greet(b"+OK ready [UwBOADYAUABSAA==]\r\n")
        self.assertEqual(text, "ready [UwBOADYAUABSAA==]")

    @shows(
        "quirk 1.2",
        "Text in brackets that is not a response code, such as ``[base64]``",
        "It stays text.",
    )
    def test_brackets_at_start_of_greeting_are_not_a_response_code(self) -> None:
        self.assertEqual(self.greet(b"+OK [IN-USE] ready\r\n"), "[IN-USE] ready")

    def test_control_characters_are_escaped(self) -> None:
        text = self.greet(b"+OK \x1b[2Jhello\x07\xff\r\n")
        self.assertEqual(text, "\\x1b[2Jhello\\x07\\xff")
        self.assertIn("S: +OK \\x1b[2Jhello\\x07\\xff", self.status)

    def test_utf8_greeting_is_decoded(self) -> None:
        # Texts may be in UTF-8 (RFC 6856).
        self.assertEqual(self.greet("+OK grüß dich\r\n".encode()), "grüß dich")

    def refused(self, greeting: bytes) -> LoginError:
        opening = self.open()
        self.server.say(greeting)
        error = self.error(opening, LoginError)
        self.assertEqual(self.server.heard(), b"")
        self.assertClosed()
        self.assertIsNone(error.verb)
        return error

    def test_greeting_refused_with_sys_temp_is_transient(self) -> None:
        # RFC 3206 section 4: a system problem, of which one may hope it passes.
        error = self.refused(b"-ERR [SYS/TEMP] too many connections\r\n")
        self.assertEqual(error.code, "SYS/TEMP")
        self.assertEqual(error.text, "too many connections")
        self.assertTrue(error.transient)
        self.assertIn("[SYS/TEMP] too many connections", str(error))

    @shows(
        "quirk 1.5",
        "``-ERR [IN-USE]``, ``-ERR [SYS/TEMP]``",
        "A ``LoginError`` with ``.code``, and ``.transient`` is true.",
    )
    def test_greeting_refused_with_lowercase_in_use_is_transient(self) -> None:
        # RFC 2449 section 8: the case of a code means nothing.
        error = self.refused(b"-ERR [in-use] another session\r\n")
        self.assertEqual(error.code, "IN-USE")
        self.assertTrue(error.transient)

    @shows("RFC 1939-02")
    def test_greeting_refused_with_sys_perm_is_not_transient(self) -> None:
        error = self.refused(b"-ERR [SYS/PERM] closed for ever\r\n")
        self.assertEqual(error.code, "SYS/PERM")
        self.assertIs(error.transient, False)

    def test_greeting_refused_without_text_leaves_transient_unknown(self) -> None:
        error = self.refused(b"-ERR\r\n")
        self.assertIsNone(error.code)
        self.assertEqual(error.text, "")
        self.assertIsNone(error.transient)
        self.assertIn("no reason", str(error))

    def test_bracketed_text_that_is_not_a_code_stays_in_refusal_text(self) -> None:
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

    def test_endless_greeting_ends_session_with_short_error(self) -> None:
        text = self.junk(b"+OK " + b"x" * 100_000, size=4096)
        # Nobody wants to read all that.
        self.assertLess(len(text), 2000)

    def test_overlong_greeting_ends_session_with_short_error(self) -> None:
        text = self.junk(b"+OK " + b"x" * 100_000 + b"\r\n")
        self.assertLess(len(text), 2000)

    def test_greeting_with_500_characters_of_text_is_accepted(self) -> None:
        # RFC 2449 section 4 allows 512 octets, and there are servers that pass it.
        self.assertEqual(self.greet(b"+OK " + b"x" * 500 + b"\r\n"), "x" * 500)

    def test_greeting_that_is_not_a_status_line_is_quoted_in_error(self) -> None:
        self.assertIn("hello there", self.junk(b"hello there\r\n"))

    def test_empty_greeting_raises_protocol_error(self) -> None:
        self.junk(b"\r\n")

    def test_challenge_as_greeting_raises_protocol_error(self) -> None:
        self.junk(b"+ \r\n")

    def test_mail_text_as_greeting_raises_protocol_error(self) -> None:
        self.junk(b"Return-Path: <ada@example.com>\r\n")

    @shows(
        "quirk 1.6",
        "Another protocol, or TLS that was not expected",
        "A ``ProtocolError`` that names the protocol and, for TLS, the remedy.",
    )
    def test_smtp_greeting_is_identified_in_error(self) -> None:
        text = self.junk(b"220 mx.example.com ESMTP Postfix\r\n")
        self.assertIn("SMTP", text)

    def test_smtp_refusal_is_identified_in_error(self) -> None:
        self.assertIn("SMTP", self.junk(b"554 no service\r\n"))

    def test_imap_greeting_is_identified_in_error(self) -> None:
        text = self.junk(b"* OK [CAPABILITY IMAP4rev1] ready\r\n")
        self.assertIn("IMAP", text)

    def test_ssh_greeting_is_identified_in_error(self) -> None:
        self.assertIn("SSH", self.junk(b"SSH-2.0-OpenSSH_9.6\r\n"))

    def test_ftp_greeting_is_identified_in_error(self) -> None:
        self.assertIn("FTP", self.junk(b"220 (vsFTPd 3.0.5)\r\n"))

    def test_http_response_is_identified_as_web_server_in_error(self) -> None:
        text = self.junk(b"HTTP/1.1 400 Bad Request\r\nServer: nginx\r\n\r\n")
        self.assertIn("web server", text)

    @shows("quirk 1.6")
    def test_tls_alert_as_greeting_suggests_secure_1(self) -> None:
        # What a port for TLS says to who does not begin with a handshake: RFC 8446
        # section 5.1.  There is no end of line in it.
        text = self.junk(b"\x15\x03\x01\x00\x02\x02\x46")
        self.assertIn("TLS", text)
        self.assertIn("secure=1", text)

    def test_imap_greeting_arriving_byte_by_byte_is_identified_in_error(self) -> None:
        self.assertIn("IMAP", self.junk(b"* BYE overloaded\r\n", size=1))

    def test_tls_alert_arriving_byte_by_byte_suggests_secure_1(self) -> None:
        self.assertIn("secure=1", self.junk(b"\x15\x03\x01\x00\x02\x02\x46", size=1))

    def test_tls_like_bytes_within_greeting_are_accepted(self) -> None:
        opening = self.open()
        self.server.say(b"+OK ")
        self.server.say(b"\x16\x03 odd, but ours\r\n")
        self.assertEqual(self.server.heard(), b"CAPA\r\n")
        opening.cancel()
        self.error(opening, CancelledError)

    @shows("attack 3.1")
    def test_reply_right_after_greeting_raises_protocol_error(self) -> None:
        # It would be taken for the answer to CAPA, and all after it would be one off.
        opening = self.open()
        self.server.say(b"+OK ready\r\n+OK\r\nSASL\r\n.\r\n")
        error = self.error(opening, ProtocolError)
        self.assertIn("no command was pending", str(error))
        self.assertClosed()

    def test_partial_reply_right_after_greeting_raises_protocol_error(self) -> None:
        opening = self.open()
        self.server.say(b"+OK ready\r\n+OK")
        self.server.say(b"\r\n")
        error = self.error(opening, ProtocolError)
        self.assertIn("no command was pending", str(error))
        self.assertClosed()

    @shows(
        "quirk 1.7",
        "No greeting, because the server expects TLS at once",
        "A ``TimedOutError`` that names ``secure=1``.",
    )
    def test_missing_greeting_times_out_and_suggests_secure_1(self) -> None:
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

    def test_trickling_greeting_times_out(self) -> None:
        # An octet now and then is no greeting.
        opening = self.open(timeout=7)
        for octet in b"+OK this is the slowest server of all":
            self.server.say(bytes([octet]))
            self.clock.advance(1)
        error = self.error(opening, TimedOutError)
        self.assertEqual(error.phase, "greeting")
        self.assertEqual(self.clock.seconds(), 37)
        self.assertClosed()

    def test_connection_lost_before_greeting_raises_error_with_cause(self) -> None:
        opening = self.open()
        reason = ConnectionLost()
        self.server.lose(reason)
        error = self.error(opening, ConnectionLostError)
        self.assertIn("before the greeting", str(error))
        self.assertIs(error.__cause__, reason)
        self.assertIdle()

    def test_connection_closed_within_greeting_raises_connection_lost(self) -> None:
        opening = self.open()
        self.server.say(b"+OK rea")
        self.server.lose(ConnectionDone())
        error = self.error(opening, ConnectionLostError)
        self.assertIn("before the greeting", str(error))
        self.assertIdle()

    def test_cancelling_before_greeting_aborts_connection(self) -> None:
        opening = self.open()
        opening.cancel()
        self.error(opening, CancelledError)
        self.assertTrue(self.server.transport.aborting)
        self.assertClosed()

    def test_data_after_session_end_is_ignored(self) -> None:
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

    def test_unanswered_handshake_times_out_after_connect_timeout(self) -> None:
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

    def test_plain_greeting_instead_of_handshake_raises_tls_error(self) -> None:
        opening = self.begin()
        self.server.raw(b"+OK POP3 ready\r\n")
        self.error(opening, TLSError)
        self.assertClosed()

    def test_connection_lost_during_handshake_says_so_in_error(self) -> None:
        opening = self.begin()
        self.server.lose()
        error = self.error(opening, ConnectionLostError)
        self.assertIn("TLS handshake", str(error))
        self.assertIdle()

    def test_cancelling_during_handshake_aborts_connection(self) -> None:
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

    def test_session_starts_after_handshake_and_reports_unverified(self) -> None:
        opening = self.greeted()
        self.server.say(b"+OK ready\r\n")
        self.server.expect(b"CAPA", b"-ERR\r\n")
        self.server.expect(b"USER ada", b"+OK\r\n")
        self.server.expect(b"PASS lovelace", b"+OK\r\n")
        handle = self.result(opening)
        self.assertIs(handle.tls.verified, False)
        self.assertTrue(handle.tls.version.startswith("TLSv1."))
        # What is not so good is said aloud.
        told = [line for line in self.status if line.startswith("TLS: ")]
        self.assertEqual(len(told), 1)
        self.assertIn("NOT verified", told[0])
        self.assertIdle()
        self.result(handle.abort())

    def test_missing_greeting_after_handshake_times_out(self) -> None:
        opening = self.greeted()
        self.clock.advance(6.9)
        self.pending(opening)
        self.clock.advance(0.2)
        error = self.error(opening, TimedOutError)
        self.assertEqual((error.phase, error.seconds), ("greeting", 7))
        # This is TLS already.
        self.assertNotIn("secure=1", str(error))
        self.assertClosed()

    def test_connection_lost_after_handshake_raises_connection_lost(self) -> None:
        opening = self.greeted()
        self.server.lose()
        error = self.error(opening, ConnectionLostError)
        self.assertIn("before the greeting", str(error))


class ClosingTests(SessionTestCase):
    """The end of a connection."""

    def test_disconnect_fires_only_when_connection_is_closed(self) -> None:
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

    @shows(
        "attack 5.8",
        "The server keeps the connection open after the client has closed it",
        "The same.",
        "The connection is aborted after five seconds.",
    )
    def test_connection_is_aborted_if_server_does_not_close_after_quit(self) -> None:
        # The work is done: QUIT was answered.  Nobody can hold us here.
        self.server.closes = False
        handle = self.log_in()
        leaving = handle.disconnect()
        self.server.expect(b"QUIT", b"+OK bye\r\n")
        self.clock.advance(30)
        self.assertTrue(self.server.transport.aborting)
        self.assertEqual(self.result(leaving).deleted, frozenset())
        self.assertIdle()

    def test_each_when_closed_call_returns_its_own_deferred(self) -> None:
        handle = self.log_in()
        first, second = handle.when_closed(), handle.when_closed()
        self.assertIsNot(first, second)
        self.pending(first, second)
        self.server.lose()
        self.assertIsNone(self.result(first))
        self.assertIsNone(self.result(second))
        self.assertIsNone(self.result(handle.when_closed()))

    def test_cancelling_when_closed_leaves_session_open(self) -> None:
        handle = self.log_in()
        given_up, other = handle.when_closed(), handle.when_closed()
        given_up.cancel()
        self.error(given_up, CancelledError)
        self.assertFalse(self.server.transport.disconnecting)
        self.server.lose()
        self.assertIsNone(self.result(other))

    def test_when_closed_fires_after_pending_commands_have_failed(self) -> None:
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

    def test_abort_after_connection_loss_has_no_effect(self) -> None:
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

    def test_loss_reported_from_within_an_abort_keeps_its_reason(self) -> None:
        """Some transports do not wait for the next turn."""
        handle = self.log_in("PIPELINING")
        asked = [handle.stat(), handle.noop()]
        closed = handle.when_closed()
        lose = self.server.lose
        self.server.transport.abortConnection = lose  # type: ignore[method-assign]
        aborted = handle.abort()
        for error in self.errors(asked, ConnectionLostError):
            self.assertIn("ended by abort()", str(error))
        self.successResultOf(aborted)
        self.successResultOf(closed)
        self.assertIdle()

    def test_data_delivered_from_within_a_callback_is_read_in_its_turn(self) -> None:
        """Some transports deliver what they have kept as soon as they are resumed."""
        for listening in (None, self.status.append):
            handle = self.log_in("PIPELINING", stsproc=listening)
            told: list[Any] = []
            first, second, third = handle.noop(), handle.stat(), handle.size(7)
            self.server.heard()

            def more(_: object, told: list[Any] = told) -> None:
                self.server.client.dataReceived(b"+OK 7 200\r\n")
                told.append("first")

            first.addCallback(more)
            second.addCallback(told.append)
            third.addCallback(told.append)
            self.server.say(b"+OK\r\n+OK 2 320\r\n")
            self.assertEqual(told, ["first", (2, 320), 200])
            self.assertIdle()
            self.anew()

    def test_data_delivered_from_within_the_status_procedure_is_read_in_its_turn(
        self,
    ) -> None:
        told: list[Any] = []

        def status(line: str) -> None:
            if line == "C: STAT":
                # It was written before the status procedure hears of it.
                self.server.client.dataReceived(b"+OK 2 320\r\n")
            told.append(line)

        handle = self.log_in(stsproc=status)
        told.clear()
        handle.stat().addCallback(told.append)
        self.assertEqual(told, ["C: STAT", "S: +OK 2 320", (2, 320)])
        self.assertIdle()

    def test_loss_reported_from_within_a_callback_fails_what_follows(self) -> None:
        """What was read before and not delivered fails like the rest."""
        handle = self.log_in("PIPELINING")
        first, second = handle.noop(), handle.stat()
        self.server.heard()
        first.addCallback(lambda _: self.server.lose())
        self.server.say(b"+OK\r\n+OK 2 320\r\n")
        self.assertIsNone(self.result(first))
        self.error(second, ConnectionLostError)
        self.assertIdle()
