"""
From the greeting to being logged in: capabilities, the ways to log in, refusals.

What can happen in every phase (loss, time limit, cancellation) is asked of every
phase, by `EveryPhase`.
"""

from __future__ import annotations

import base64
import traceback
from collections.abc import Callable
from typing import Any, cast

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import ConnectionDone, ConnectionLost

from pop3connect import (
    CommandError,
    ConnectionLostError,
    Handle,
    LoginError,
    LoginInfo,
    POP3Error,
    ProtocolError,
    Secure,
    STLSUnavailableError,
    TimedOutError,
    TLSError,
    UsageError,
)
from pop3connect.sansio.states import State

from ..support.memory import NAME, SessionTestCase, server_certificate
from ..support.shows import shows

CAPA = b"+OK\r\nUSER\r\n.\r\n"
PLAIN = b"+OK\r\nSASL PLAIN\r\n.\r\n"

# The example of RFC 1939 section 7: greeting, user, secret and digest.
STAMP = b"<1896.697170952@dbc.mtview.ca.us>"
DIGEST = b"c4c9334bac560ecc979e58001b3e22fb"


class LoginTestCase(SessionTestCase):
    """Steps of a login that the tests share."""

    def begin(self, greeting: bytes = b"+OK ready\r\n", **options: Any) -> Any:
        """Begin to open a session; the server greets."""
        opening = self.open(**options)
        self.server.say(greeting)
        return opening

    def plain(
        self, password: str = "lovelace", user: str = "ada", answer: bytes = b"+OK\r\n"
    ) -> None:
        """
        Play PLAIN, whether the client sends its response at once or when asked.

        RFC 5034 section 4 allows both.
        """
        response = base64.b64encode(f"\0{user}\0{password}".encode())
        heard = self.server.heard()
        if heard == b"AUTH PLAIN\r\n":
            self.server.say(b"+ \r\n")
            heard = b"AUTH PLAIN " + self.server.heard()
        self.assertEqual(heard, b"AUTH PLAIN %b\r\n" % response)
        self.server.say(answer)

    def refuse(self, opening: Any, kind: type[Any]) -> Any:
        """Let the client go after a refusal, and return the error."""
        if not self.server.transport.disconnecting:
            # A client may say goodbye, but need not.
            self.assertIn(self.server.heard(), (b"QUIT\r\n", b""))
            self.server.say(b"+OK bye\r\n")
        error = self.error(opening, kind)
        self.assertClosed()
        return error

    def gave_up(self, opening: Any, kind: type[Any] = UsageError) -> Any:
        """Return the error of a client that went without sending any more."""
        sent = self.server.heard()
        if sent == b"QUIT\r\n":
            self.server.say(b"+OK bye\r\n")
            sent = b""
        self.assertEqual(sent, b"")
        error = self.error(opening, kind)
        self.assertClosed()
        return error


class CapabilitiesTests(LoginTestCase):
    """CAPA around the login (RFC 2449 section 5)."""

    @shows("RFC 2449-08")
    @shows(
        "RFC 2449-11",
        "SHOULD",
        "Ask CAPA again after a login that protects the session.",
        "CAPA is sent after every login, with the first commands. Before the login, "
        "the capabilities count that came over this TLS, or over verified TLS within "
        "the last hour.",
    )
    def test_capa_is_sent_before_and_after_the_login(self) -> None:
        opening = self.begin()
        self.server.expect(b"CAPA", b"+OK\r\nUSER\r\nIMPLEMENTATION shy\r\n.\r\n")
        self.server.expect(b"USER ada", b"+OK\r\n")
        self.server.expect(b"PASS lovelace", b"+OK\r\n")
        # Gmail and others tell all only now.
        self.server.expect(b"CAPA", b"+OK\r\nUSER\r\nUIDL\r\nTOP\r\n.\r\n")
        handle = self.result(opening)
        self.assertEqual(set(handle.capabilities), {"USER", "UIDL", "TOP"})
        self.assertTrue(handle.capabilities.known)
        self.assertEqual(self.server.heard(), b"")
        self.assertIdle()

    @shows(
        "RFC 2449-01",
        "MUST",
        "If CAPA is refused, the server has no extensions; the login still works.",
        "The session goes on without extensions.",
    )
    @shows(
        "RFC 2449-04",
        "MUST",
        "Basic work needs no extension.",
        "A server with RFC 1939 alone is enough.",
    )
    @shows(
        "quirk 2.1",
        "CAPA is unknown, or refused",
        "The login goes on without capabilities, and CAPA is not sent again: "
        "solid-pop3d closes the session at the fifth error.",
    )
    def test_login_succeeds_if_server_does_not_know_capa(self) -> None:
        # RFC 2449 section 5: without CAPA, the commands of RFC 1939 are left.
        opening = self.begin()
        self.server.expect(b"CAPA", b"-ERR unknown command\r\n")
        self.server.expect(b"USER ada", b"+OK\r\n")
        self.server.expect(b"PASS lovelace", b"+OK\r\n")
        handle = self.result(opening)
        self.assertEqual(dict(handle.capabilities), {})
        self.assertFalse(handle.capabilities.known)
        # Not asked again: solid-pop3d closes the session at the fifth error.
        self.assertEqual(self.server.heard(), b"")

    @shows("RFC 2449-12")
    @shows(
        "quirk 2.2",
        "CAPA is refused after the login",
        "The capabilities from before the login are kept.",
    )
    def test_first_capabilities_are_kept_if_second_capa_is_refused(self) -> None:
        opening = self.begin()
        self.server.expect(b"CAPA", b"+OK\r\nUSER\r\nUIDL\r\n.\r\n")
        self.server.expect(b"USER ada", b"+OK\r\n")
        self.server.expect(b"PASS lovelace", b"+OK\r\n")
        self.server.expect(b"CAPA", b"-ERR not now\r\n")
        self.assertIn("UIDL", self.result(opening).capabilities)

    @shows("RFC 2449-02")
    @shows("quirk 2.8")
    def test_junk_in_capabilities_does_not_prevent_the_login(self) -> None:
        junk = b"+OK\r\n\r\n   \r\n\xff\xfe\x00=\r\n..dot\r\nsasl\r\nuser\r\n.\r\n"
        opening = self.begin()
        self.server.expect(b"CAPA", junk)
        self.server.expect(b"USER ada", b"+OK\r\n")
        self.server.expect(b"PASS lovelace", b"+OK\r\n")
        self.server.expect(b"CAPA", junk)
        handle = self.result(opening)
        self.assertIn("USER", handle.capabilities)
        self.assertTrue(repr(handle.capabilities).isprintable())

    def test_capa_reply_without_status_line_is_a_protocol_error(self) -> None:
        opening = self.begin()
        self.server.expect(b"CAPA", b"USER\r\nUIDL\r\n.\r\n")
        error = self.error(opening, ProtocolError)
        self.assertIn("CAPA", str(error))
        self.assertClosed()

    @shows("attack 5.2")
    def test_5000_capabilities_are_a_protocol_error(self) -> None:
        many = b"".join(b"X-%d\r\n" % number for number in range(5000))
        opening = self.begin()
        self.server.expect(b"CAPA", b"+OK\r\n" + many + b".\r\n")
        self.error(opening, ProtocolError)
        self.assertClosed()

    @shows("RFC 2449-02")
    def test_endless_capabilities_are_a_protocol_error(self) -> None:
        # RFC 2449 section 3: 512 octets a line; and no server has 1000 of them.
        opening = self.begin()
        self.server.expect(b"CAPA", b"+OK\r\n")
        line = b"X" * 500 + b"\r\n"
        for _ in range(1000):
            self.server.say(line)
        error = self.error(opening, ProtocolError)
        self.assertIn("CAPA more than 512 rows", str(error))
        # That is a remedy for messages.
        self.assertNotIn("list()", str(error))
        self.assertClosed()

    def test_connection_closed_after_capa_is_reported_with_the_verb(self) -> None:
        opening = self.begin()
        self.server.expect(b"CAPA")
        self.server.lose(ConnectionDone())
        error = self.error(opening, ConnectionLostError)
        self.assertEqual(error.verb, "CAPA")


class UserTests(LoginTestCase):
    """USER and PASS (RFC 1939 section 7)."""

    def ask(self, capabilities: bytes = CAPA, **options: Any) -> Any:
        opening = self.begin(**options)
        self.server.expect(b"CAPA", capabilities)
        return opening

    def log_in_as(self, user: bytes, password: bytes, **options: Any) -> Handle:
        opening = self.ask(
            options.pop("capabilities", CAPA),
            username=user.decode(),
            password=password.decode(),
            **options,
        )
        self.server.expect(b"USER " + user, b"+OK\r\n")
        self.server.expect(b"PASS " + password, b"+OK\r\n")
        self.server.expect(b"CAPA", CAPA)
        handle = self.result(opening)
        assert isinstance(handle, Handle)
        return handle

    def test_handle_reports_login_tls_and_server_after_login(self) -> None:
        handle = self.log_in_as(b"ada", b"lovelace")
        self.assertEqual(handle.login, LoginInfo("USER", True))
        self.assertIsNone(handle.tls)
        self.assertEqual(str(handle.server), NAME)

    def test_password_is_not_sent_before_user_is_accepted(self) -> None:
        # Not even where commands may be pipelined: RFC 2449 section 6.6 counts on
        # replies that do not change what comes next.
        opening = self.ask(b"+OK\r\nUSER\r\nPIPELINING\r\n.\r\n")
        self.server.expect(b"USER ada")
        self.pending(opening)
        self.assertEqual(self.server.heard(), b"")
        opening.cancel()
        self.error(opening, CancelledError)

    @shows(
        "RFC 1939-14",
        "MUST",
        "The argument of PASS is everything after one blank, blanks included.",
        "The password is sent unchanged.",
    )
    def test_blanks_in_password_are_sent_unchanged(self) -> None:
        # RFC 1939 section 7: PASS has one argument, all after the blank.
        self.log_in_as(b"ada", b" love  lace ")

    def test_user_name_that_is_an_address_is_accepted(self) -> None:
        self.log_in_as(b"ada@example.com", b"lovelace")

    @shows("RFC 5034-01")
    @shows(
        "quirk 2.6",
        "USER works, and is not announced",
        "USER is tried if no mechanism is announced.",
    )
    def test_user_is_tried_if_not_announced(self) -> None:
        # There are servers that leave USER out although it works.
        self.log_in_as(b"ada", b"lovelace", capabilities=b"+OK\r\nUIDL\r\n.\r\n")

    def test_user_is_used_if_requested_even_if_sasl_plain_is_offered(self) -> None:
        self.log_in_as(b"ada", b"lovelace", capabilities=PLAIN, auth="user")

    @shows("RFC 2595-08")
    def test_password_without_tls_is_warned_about_before_it_is_sent(self) -> None:
        self.log_in_as(b"ada", b"lovelace")
        warnings = [line for line in self.status if line.startswith("Warning")]
        self.assertEqual(len(warnings), 1)
        self.assertIn("without TLS", warnings[0])
        # Before it is too late.
        self.assertLess(
            self.status.index(warnings[0]), self.status.index("C: PASS ********")
        )

    def refused(self, at: str, answer: bytes, capabilities: bytes = CAPA) -> LoginError:
        opening = self.ask(capabilities, auth="USER")
        if at == "PASS":
            self.server.expect(b"USER ada", b"+OK\r\n")
            self.server.expect(b"PASS lovelace", answer)
        else:
            self.server.expect(b"USER ada", answer)
        error = self.refuse(opening, LoginError)
        assert isinstance(error, LoginError)
        self.assertEqual(error.verb, at)
        self.assertEqual(error.mechanism, "USER")
        self.assertIsInstance(error.__cause__, CommandError)
        return error

    @shows(
        "RFC 1939-15",
        "MUST",
        "After a PASS that failed: USER again, or QUIT.",
        "QUIT follows, because another attempt could lock the account.",
    )
    def test_wrong_password_is_a_permanent_login_error(self) -> None:
        # RFC 3206 section 5: the credentials are to blame.
        error = self.refused("PASS", b"-ERR [AUTH] invalid\r\n")
        self.assertEqual(error.code, "AUTH")
        self.assertEqual(error.text, "invalid")
        self.assertIs(error.transient, False)
        self.assertIsNone(error.retry_after)
        self.assertIn("[AUTH] invalid", str(error))

    def test_refused_user_name_is_a_login_error_with_its_text(self) -> None:
        error = self.refused("USER", b"-ERR never heard of ada\r\n")
        self.assertIsNone(error.code)
        self.assertEqual(error.text, "never heard of ada")

    def test_sys_temp_refusal_is_transient(self) -> None:
        error = self.refused("PASS", b"-ERR [SYS/TEMP] database is down\r\n")
        self.assertEqual(error.code, "SYS/TEMP")
        self.assertIs(error.transient, True)

    @shows("RFC 2449-10")
    def test_in_use_refusal_is_transient(self) -> None:
        # RFC 2449 section 8.1.2: no failure of the password.
        error = self.refused("PASS", b"-ERR [IN-USE] locked by another session\r\n")
        self.assertEqual(error.code, "IN-USE")
        self.assertIs(error.transient, True)

    @shows("RFC 2449-08")
    @shows(
        "quirk 3.10",
        "A login that comes too early is refused",
        "``LoginError.retry_after`` is the LOGIN-DELAY that CAPA announces, or "
        "``None``.",
    )
    def test_login_delay_refusal_has_announced_retry_after(self) -> None:
        capabilities = b"+OK\r\nUSER\r\nLOGIN-DELAY 900 USER\r\n.\r\n"
        error = self.refused(
            "PASS", b"-ERR [LOGIN-DELAY] wait a little\r\n", capabilities
        )
        self.assertEqual(error.code, "LOGIN-DELAY")
        # RFC 2449 section 6.5: seconds.
        self.assertEqual(error.retry_after, 900)
        self.assertIs(error.transient, True)

    @shows("quirk 3.10")
    def test_login_delay_not_announced_leaves_retry_after_none(self) -> None:
        error = self.refused("PASS", b"-ERR [LOGIN-DELAY/300] wait\r\n")
        self.assertIsNone(error.retry_after)

    def test_auth_refusal_has_no_retry_after(self) -> None:
        capabilities = b"+OK\r\nUSER\r\nLOGIN-DELAY 900\r\n.\r\n"
        error = self.refused("PASS", b"-ERR [AUTH] invalid\r\n", capabilities)
        self.assertIsNone(error.retry_after)

    def test_refusal_without_text_has_empty_text_and_no_code(self) -> None:
        error = self.refused("PASS", b"-ERR\r\n")
        self.assertEqual(error.text, "")
        self.assertIsNone(error.code)

    @shows("quirk 3.9")
    def test_refusal_is_reported_if_server_then_closes_the_connection(self) -> None:
        # Some servers allow one attempt only: the reason is still the refusal.
        opening = self.ask(auth="USER")
        self.server.expect(b"USER ada", b"+OK\r\n")
        self.server.expect(b"PASS lovelace", b"-ERR [AUTH] no\r\n")
        self.server.lose(ConnectionDone())
        self.assertEqual(self.error(opening, LoginError).code, "AUTH")
        self.assertIdle()

    @shows(
        "RFC 1939-20",
        "MUST",
        "QUIT before the login ends the session without UPDATE.",
        "QUIT follows a refused login, and nothing is deleted.",
    )
    @shows("quirk 3.9")
    def test_refusal_is_reported_if_server_ignores_quit(self) -> None:
        opening = self.ask(auth="USER")
        self.server.expect(b"USER ada", b"+OK\r\n")
        self.server.expect(b"PASS lovelace", b"-ERR [AUTH] no\r\n")
        for _ in range(30):
            self.clock.advance(1)
            self.server.settle()
        self.assertEqual(self.error(opening, LoginError).code, "AUTH")
        self.assertClosed()

    def test_cancelling_during_quit_after_refusal_closes_the_connection(self) -> None:
        opening = self.ask(auth="USER")
        self.server.expect(b"USER ada", b"-ERR no\r\n")
        opening.cancel()
        self.server.settle()
        failure = self.failureResultOf(opening)
        self.assertTrue(failure.check(LoginError, CancelledError))
        self.assertClosed()

    def test_challenge_in_reply_to_user_is_a_protocol_error(self) -> None:
        # "+ ..." belongs to AUTH: RFC 5034 section 4.
        opening = self.ask()
        self.server.expect(b"USER ada", b"+ \r\n")
        self.error(opening, ProtocolError)
        self.assertClosed()

    def test_two_replies_to_user_are_a_protocol_error(self) -> None:
        # The second would be taken for the answer to the password.
        opening = self.ask()
        self.server.expect(b"USER ada", b"+OK\r\n+OK\r\n")
        self.error(opening, ProtocolError)
        self.assertClosed()

    @shows(
        "RFC 6856-02",
        "MUST",
        "Names and passwords in UTF-8 with USER and PASS only if ``UTF8 USER`` is "
        "announced.",
        "Otherwise they are a ``UsageError``.",
    )
    def test_non_ascii_credentials_are_a_usage_error_suggesting_plain(self) -> None:
        # RFC 6856 section 2.2; and what the server makes of it is anybody's guess.
        for options in ({"username": "adá"}, {"password": "geheimnß"}):
            self.anew()
            opening = self.ask(auth="USER", **options)
            error = self.gave_up(opening)
            self.assertIn("ASCII", str(error))
            self.assertIn("PLAIN", str(error))
            self.assertNotIn("geheimn", str(error))

    @shows("RFC 6856-02")
    def test_non_ascii_credentials_are_sent_if_server_offers_utf8_user(self) -> None:
        # RFC 6856 section 2.2: UTF8 with the argument USER.  The command UTF8 is not
        # needed for it, and would change the messages too.
        self.log_in_as(
            "adá".encode(),
            "geheimnß".encode(),
            capabilities=b"+OK\r\nUSER\r\nUTF8 user\r\n.\r\n",
        )

    @shows("RFC 6856-02")
    def test_non_ascii_password_is_not_sent_if_utf8_lacks_user(self) -> None:
        opening = self.ask(
            b"+OK\r\nUSER\r\nUTF8\r\n.\r\n", auth="USER", password="geheimnß"
        )
        self.gave_up(opening)

    def test_password_with_surrogate_is_an_error_that_hides_it(self) -> None:
        # What os.fsdecode() makes of a file that is not UTF-8.
        opening = self.ask(auth="USER", password=lambda: "geheim\udcdf")
        error = self.gave_up(opening)
        self.assertNotIn("geheim", str(error))

    def test_credentials_too_long_for_a_line_are_a_usage_error(self) -> None:
        # RFC 2449 section 4: 255 octets with CR LF.
        for options in ({"username": "a" * 300}, {"password": "xyz" * 100}):
            self.anew()
            opening = self.ask(auth="USER", **options)
            error = self.gave_up(opening)
            self.assertIn("too long", str(error))
            self.assertNotIn("xyz", str(error))

    @shows("RFC 2449-03")
    def test_password_that_just_fits_a_line_is_sent(self) -> None:
        self.log_in_as(b"ada", b"x" * (255 - len(b"PASS \r\n")))


class APOPTests(LoginTestCase):
    """APOP (RFC 1939 section 7)."""

    def ask(self, greeting: bytes, **options: Any) -> Any:
        options = {"username": "mrose", "password": "tanstaaf", **options}
        opening = self.begin(greeting, auth="APOP", **options)
        self.server.expect(b"CAPA", CAPA)
        return opening

    @shows(
        "RFC 1939-16",
        "MUST",
        "APOP only with a timestamp in the greeting; the digest is of the timestamp "
        "with its brackets and the password, in lower-case hex.",
        "Text in angle brackets without ``@`` does not count as a timestamp.",
    )
    def test_example_of_rfc_1939_logs_in_without_warning(self) -> None:
        opening = self.ask(b"+OK POP3 server ready %b\r\n" % STAMP)
        self.server.expect(b"APOP mrose " + DIGEST, b"+OK\r\n")
        self.server.expect(b"CAPA", CAPA)
        handle = self.result(opening)
        self.assertEqual(handle.login, LoginInfo("APOP", False))
        self.assertFalse([line for line in self.status if "Warning" in line])

    @shows("RFC 1939-16")
    def test_greeting_without_timestamp_is_a_usage_error(self) -> None:
        error = self.gave_up(self.ask(b"+OK ready\r\n"))
        self.assertIn("timestamp", str(error))
        self.assertEqual(error.verb, "APOP")

    @shows(
        "quirk 1.3",
        "A host name in angle brackets",
        "It is not an APOP timestamp, because it has no ``@``.",
    )
    def test_host_name_in_brackets_is_not_taken_for_a_timestamp(self) -> None:
        # RFC 1939 section 7: a msg-id, which has an @ in it.
        self.gave_up(self.ask(b"+OK <pop.example.com> ready\r\n"))

    def test_user_name_with_blank_is_a_usage_error(self) -> None:
        # The digest is what comes after the blank.
        opening = self.ask(b"+OK %b\r\n" % STAMP, username="m rose")
        self.assertIn("space", str(self.gave_up(opening)))

    @shows("quirk 1.4")
    def test_timestamp_from_before_stls_is_not_used_over_tls(self) -> None:
        # RFC 2595 section 4: what was learnt in the clear is forgotten, and there is no
        # other greeting.  The sender of that one could have any digest made.
        opening = self.begin(
            b"+OK %b\r\n" % STAMP, secure=Secure.STLS, verify=False, auth="APOP"
        )
        self.server.expect(b"CAPA", b"+OK\r\nSTLS\r\n.\r\n")
        self.server.expect(b"STLS", b"+OK begin\r\n")
        self.server.start_tls(server_certificate())
        self.server.expect(b"CAPA", CAPA)
        self.assertNotIn(b"APOP", self.server.heard())
        self.server.lose()
        self.server.settle()
        self.failureResultOf(opening, UsageError, ConnectionLostError)

    def test_refusal_is_a_login_error_with_mechanism_and_code(self) -> None:
        opening = self.ask(b"+OK %b\r\n" % STAMP)
        self.server.expect(
            b"APOP mrose " + DIGEST, b"-ERR [AUTH] permission denied\r\n"
        )
        error = self.refuse(opening, LoginError)
        self.assertEqual(error.mechanism, "APOP")
        self.assertEqual(error.verb, "APOP")
        self.assertEqual(error.code, "AUTH")

    def test_digest_repeated_in_refusal_is_masked(self) -> None:
        # With it and the greeting, passwords can be guessed offline.
        opening = self.ask(b"+OK %b\r\n" % STAMP)
        self.server.expect(
            b"APOP mrose " + DIGEST, b"-ERR no %b, tanstaaf\r\n" % DIGEST
        )
        error = self.refuse(opening, LoginError)
        self.assertIn("C: APOP mrose ********", self.status)
        for text in (*self.status, str(error), repr(error), error.text):
            self.assertNotIn(DIGEST.decode(), text)
            self.assertNotIn("tanstaaf", text)


class PlainTests(LoginTestCase):
    """SASL PLAIN (RFC 4616, RFC 5034)."""

    def ask(self, **options: Any) -> Any:
        opening = self.begin(auth="PLAIN", **options)
        self.server.expect(b"CAPA", PLAIN)
        return opening

    def test_login_succeeds_and_is_marked_cleartext(self) -> None:
        opening = self.ask()
        self.plain()
        self.server.expect(b"CAPA", PLAIN)
        handle = self.result(opening)
        self.assertEqual(handle.login, LoginInfo("PLAIN", True))

    def test_non_ascii_credentials_are_sent_in_utf8(self) -> None:
        opening = self.ask(username="adá", password="geheimnß 🔑")
        self.plain("geheimnß 🔑", "adá")
        self.server.expect(b"CAPA", PLAIN)
        self.assertEqual(self.result(opening).login.mechanism, "PLAIN")

    def test_password_with_surrogate_is_an_error_that_hides_it(self) -> None:
        opening = self.ask(password=lambda: "geheim\udcdf")
        error = self.gave_up(opening)
        self.assertNotIn("geheim", str(error))

    def test_password_empty_or_with_nul_or_newline_is_a_usage_error(self) -> None:
        # RFC 4616 section 2: NUL separates; and the line ends would be our own.
        for value in ("love\0lace", "love\nlace", ""):
            opening = self.ask(password=lambda value=value: value)
            error = self.gave_up(opening)
            self.assertIn("password", str(error))
            self.assertNotIn("love", str(error))
            self.anew()

    def test_password_longer_than_a_command_line_logs_in(self) -> None:
        # Longer than a command line may be: RFC 5034 section 4.
        opening = self.ask(password="x" * 400)
        self.plain("x" * 400)
        self.server.expect(b"CAPA", PLAIN)
        self.assertEqual(self.result(opening).login.mechanism, "PLAIN")

    def test_refusal_after_the_response_is_a_login_error(self) -> None:
        opening = self.ask()
        self.plain(answer=b"-ERR [AUTH] no\r\n")
        error = self.refuse(opening, LoginError)
        self.assertEqual(error.code, "AUTH")
        self.assertEqual(error.mechanism, "PLAIN")
        self.assertEqual(error.verb, "AUTH")

    def test_challenge_is_masked_for_the_status_procedure(self) -> None:
        offer = b"+OK\r\nSASL CRAM-MD5\r\n.\r\n"
        opening = self.begin(auth="CRAM-MD5")
        self.server.expect(b"CAPA", offer)
        self.server.expect(b"AUTH CRAM-MD5", b"+ PDFAcG9wPg==\r\n")
        self.server.heard()
        self.server.say(b"+OK\r\n")
        self.server.expect(b"CAPA", offer)
        self.result(opening)
        at = self.status.index("C: AUTH CRAM-MD5")
        self.assertEqual(
            self.status[at + 1 : at + 4], ["S: + ********", "C: ********", "S: +OK"]
        )

    def test_unknown_mechanism_refusal_is_a_login_error(self) -> None:
        opening = self.ask()
        self.assertTrue(self.server.heard().startswith(b"AUTH PLAIN"))
        self.server.say(b"-ERR unknown mechanism\r\n")
        error = self.refuse(opening, LoginError)
        self.assertEqual(error.text, "unknown mechanism")
        self.assertEqual(error.mechanism, "PLAIN")

    def test_response_repeated_in_refusal_is_masked(self) -> None:
        opening = self.ask()
        whole = base64.b64encode(b"\0ada\0lovelace")
        self.plain(answer=b"-ERR [AUTH] what is %b?\r\n" % whole)
        error = self.refuse(opening, LoginError)
        for text in (*self.status, str(error), repr(error)):
            self.assertNotIn(whole.decode(), text)
            self.assertNotIn("lovelace", text)
        self.assertEqual(error.text, "what is ********?")

    @shows("RFC 5034-04")
    def test_challenge_that_is_not_base64_is_cancelled_and_fails_login(self) -> None:
        # RFC 5034 section 4: cancel with "*", and the server answers -ERR.
        opening = self.ask()
        self.server.heard()
        self.server.say(b"+ !!! not base64 !!!\r\n")
        self.server.expect(b"*", b"-ERR cancelled\r\n")
        self.server.settle()
        if not opening.called:
            self.server.say(b"+OK bye\r\n")
        self.server.settle()
        # Either error will do; there is no login.
        self.failureResultOf(opening, LoginError, ProtocolError)
        self.assertClosed()

    def test_endless_challenges_fail_the_login(self) -> None:
        opening = self.ask()
        for _ in range(100):
            if opening.called or not self.server.heard():
                break
            self.server.say(b"+ \r\n")
        self.server.settle()
        self.failureResultOf(opening, LoginError, ProtocolError)
        self.assertClosed()

    def test_reply_without_status_is_a_protocol_error_naming_auth(self) -> None:
        opening = self.ask()
        self.server.heard()
        self.server.say(b"go on\r\n")
        error = self.error(opening, ProtocolError)
        self.assertIn("AUTH", str(error))
        self.assertClosed()


class PasswordTests(LoginTestCase):
    """A password that is made when it is needed."""

    def ask(self, password: Callable[[], Any]) -> Any:
        opening = self.begin(password=password, auth="USER")
        self.server.expect(b"CAPA", CAPA)
        return opening

    def log_in_with(self, password: Callable[[], Any]) -> None:
        opening = self.ask(password)
        self.server.expect(b"USER ada", b"+OK\r\n")
        self.server.expect(b"PASS lovelace", b"+OK\r\n")
        self.server.expect(b"CAPA", CAPA)
        self.assertEqual(self.result(opening).login.mechanism, "USER")
        self.assertNotIn("lovelace", "\n".join(self.status))

    def test_password_returned_by_a_function_is_used(self) -> None:
        self.log_in_with(lambda: "lovelace")

    def test_password_from_a_deferred_is_used(self) -> None:
        self.log_in_with(lambda: succeed("lovelace"))

    def test_password_from_a_coroutine_function_is_used(self) -> None:
        async def password() -> str:
            return await succeed("lovelace")

        self.log_in_with(password)

    def test_callable_is_called_once_and_only_when_needed(self) -> None:
        calls: list[str] = []

        def password() -> str:
            calls.append("called")
            return "lovelace"

        opening = self.open(password=password)
        self.assertEqual(calls, [])
        self.server.say(b"+OK ready\r\n")
        self.assertEqual(calls, [])
        self.server.expect(b"CAPA", CAPA)
        self.assertEqual(calls, ["called"])
        opening.cancel()
        self.error(opening, CancelledError)
        self.assertEqual(calls, ["called"])

    def test_callable_is_not_called_if_greeting_is_a_refusal(self) -> None:
        opening = self.begin(b"-ERR [IN-USE]\r\n", password=self.fail)
        self.error(opening, LoginError)

    def test_waiting_for_the_callable_has_no_time_limit(self) -> None:
        # A person may be looking for a key; the server owes us nothing meanwhile.
        answer: Deferred[str] = Deferred()
        opening = self.ask(lambda: answer)
        self.pending(opening)
        self.assertIdle()
        self.clock.advance(3600)
        self.pending(opening)
        answer.callback("lovelace")
        self.server.expect(b"USER ada", b"+OK\r\n")
        opening.cancel()
        self.error(opening, CancelledError)

    def test_connection_lost_while_waiting_for_the_callable_is_reported(self) -> None:
        answer: Deferred[str] = Deferred()
        opening = self.ask(lambda: answer)
        self.server.lose()
        if not answer.called:
            answer.callback("lovelace")
        self.error(opening, ConnectionLostError)
        self.assertIdle()

    def test_cancelling_connect_cancels_the_deferred_of_the_callable(self) -> None:
        cancelled: list[object] = []
        answer: Deferred[str] = Deferred(cancelled.append)
        opening = self.ask(lambda: answer)
        opening.cancel()
        self.error(opening, CancelledError)
        self.assertEqual(cancelled, [answer])
        self.assertEqual(self.server.heard(), b"")
        self.assertClosed()

    def fails(self, password: Callable[[], Any]) -> UsageError:
        error = self.gave_up(self.ask(password))
        assert isinstance(error, UsageError)
        return error

    def test_callable_that_raises_is_a_usage_error_without_its_text(self) -> None:
        reason = RuntimeError("the keyring is locked, its password is hunter2")

        def password() -> str:
            raise reason

        error = self.fails(password)
        self.assertIs(error.__cause__, reason)
        self.assertIn("RuntimeError", str(error))
        # Its text may have anything in it.
        self.assertNotIn("hunter2", str(error))

    def test_usage_error_of_a_callable_is_passed_on(self) -> None:
        reason = UsageError("password_env: there is nothing in that variable")

        def password() -> str:
            raise reason

        self.assertIn(reason.message, str(self.fails(password)))

    def test_deferred_that_fails_is_the_cause_of_a_usage_error(self) -> None:
        answer: Deferred[str] = Deferred()
        opening = self.ask(lambda: answer)
        reason = KeyError("ada")
        answer.errback(reason)
        error = self.gave_up(opening)
        self.assertIs(error.__cause__, reason)

    def test_coroutine_that_raises_is_the_cause_of_a_usage_error(self) -> None:
        async def password() -> str:
            raise KeyError("ada")

        self.assertIsInstance(self.fails(password).__cause__, KeyError)

    def test_callable_returning_a_non_str_is_a_usage_error(self) -> None:
        wrong: list[Any] = [None, b"lovelace", 17, succeed(None)]
        for value in wrong:
            self.anew()
            error = self.fails(lambda value=value: value)
            self.assertIn("str", str(error))
            self.assertNotIn("lovelace", str(error))

    def test_callable_returning_an_unsendable_password_is_a_usage_error(self) -> None:
        for value in ("", "love\rlace", "love\nlace", "love\0lace"):
            self.anew()
            error = self.fails(lambda value=value: value)
            self.assertIn("password", str(error))
            self.assertNotIn("love", str(error))


class SecretsTests(LoginTestCase):
    """What must not be shown: rule 9 of the design."""

    FORMS = (
        "lovelace",
        base64.b64encode(b"lovelace").decode(),
        base64.b64encode(b"\0ada\0lovelace").decode(),
    )

    def assertMasked(self, *texts: str) -> None:
        for text in (*self.status, *texts):
            for secret in self.FORMS:
                self.assertNotIn(secret, text)

    def masked(self, error: POP3Error) -> None:
        """Look at an error as closely as a debugger shows it."""
        self.assertMasked(str(error), repr(error), repr(vars(error)))
        shown = traceback.TracebackException.from_exception(error, capture_locals=True)
        self.assertMasked("".join(shown.format()))
        if error.__cause__ is not None:
            self.assertMasked(str(error.__cause__), repr(error.__cause__))

    def test_secret_repeated_in_refusal_is_masked(self) -> None:
        for secret in self.FORMS:
            self.anew()
            opening = self.begin(auth="USER")
            self.server.expect(b"CAPA", CAPA)
            self.server.expect(b"USER ada", b"+OK\r\n")
            self.server.expect(
                b"PASS lovelace", f"-ERR wrong: PASS {secret}.\r\n".encode()
            )
            error = self.refuse(opening, LoginError)
            self.assertEqual(error.text, "wrong: PASS ********.")
            self.assertIn("S: -ERR wrong: PASS ********.", self.status)
            self.masked(error)

    def test_secret_from_a_callable_repeated_in_refusal_is_masked(self) -> None:
        for secret in self.FORMS:
            self.anew()
            opening = self.begin(auth="USER", password=lambda: "lovelace")
            self.server.expect(b"CAPA", CAPA)
            self.server.expect(b"USER ada", f"-ERR not with {secret}\r\n".encode())
            error = self.refuse(opening, LoginError)
            self.assertEqual(error.text, "not with ********")
            self.masked(error)

    def test_secret_at_the_cut_of_an_unreadable_reply_is_masked(self) -> None:
        """Wherever it is in the reply: the cut does not leave half of a secret."""
        for before in (0, 70, 75, 79, 80):
            self.anew()
            opening = self.begin(auth="USER")
            self.server.expect(b"CAPA", CAPA)
            self.server.expect(b"USER ada", b"+OK\r\n")
            self.server.expect(b"PASS lovelace", b"+OK\r\n")
            self.server.expect(b"CAPA", CAPA)
            asked = self.result(opening).stat()
            text = b"x" * before
            self.server.expect(b"STAT", b"+OK %b lovelace\r\n" % text)
            error = self.error(asked, ProtocolError)
            self.assertIn(text.decode(), str(error))
            self.assertNotIn("love", str(error))
            self.masked(error)

    def test_secret_repeated_in_pass_reply_is_masked(self) -> None:
        opening = self.begin(auth="USER")
        self.server.expect(b"CAPA", CAPA)
        self.server.expect(b"USER ada", b"+OK\r\n")
        self.server.expect(b"PASS lovelace", b"+OK lovelace it is\r\n")
        self.server.expect(b"CAPA", CAPA)
        handle = self.result(opening)
        self.assertIn("S: +OK ******** it is", self.status)
        self.assertMasked(repr(handle), repr(handle.login))

    def test_password_is_masked_in_status_when_sent(self) -> None:
        self.log_in()
        self.assertIn("C: PASS ********", self.status)
        self.assertMasked()

    def test_password_repeated_in_greeting_is_masked(self) -> None:
        # The server may know the only account there is; the handle keeps this.
        opening = self.begin(b"+OK hello lovelace\r\n", auth="USER")
        self.server.expect(b"CAPA", CAPA)
        self.server.expect(b"USER ada", b"+OK\r\n")
        self.server.expect(b"PASS lovelace", b"+OK\r\n")
        self.server.expect(b"CAPA", CAPA)
        self.assertEqual(self.result(opening).greeting, "hello ********")

    def test_password_repeated_in_err_greeting_is_masked(self) -> None:
        opening = self.begin(b"-ERR [SYS/TEMP] you were told: not with lovelace\r\n")
        error = self.error(opening, LoginError)
        self.assertEqual(error.text, "you were told: not with ********")
        self.assertNotIn("lovelace", "".join(self.status))

    @shows("attack 4.2")
    def test_secret_repeated_in_invalid_reply_to_pass_is_masked(self) -> None:
        for secret in self.FORMS:
            self.anew()
            opening = self.begin(auth="USER")
            self.server.expect(b"CAPA", CAPA)
            self.server.expect(b"USER ada", b"+OK\r\n")
            self.server.expect(b"PASS lovelace", f"what is PASS {secret}?\r\n".encode())
            error = self.error(opening, ProtocolError)
            self.assertIn("what is PASS ********?", str(error))
            self.masked(error)

    def test_secret_repeated_in_refusal_after_login_is_masked(self) -> None:
        handle = self.log_in()
        asked = handle.noop()
        self.server.expect(b"NOOP", b"-ERR remember lovelace\r\n")
        error = self.error(asked, CommandError)
        self.assertEqual(error.text, "remember ********")
        self.masked(error)

    def test_secret_repeated_in_invalid_reply_after_login_is_masked(self) -> None:
        handle = self.log_in()
        asked = handle.noop()
        self.server.expect(b"NOOP", b"lovelace\r\n")
        error = self.error(asked, ProtocolError)
        self.masked(error)

    def test_secret_repeated_in_unreadable_stat_reply_is_masked(self) -> None:
        for secret in self.FORMS:
            self.anew()
            handle = self.log_in()
            asked = handle.stat()
            self.server.expect(b"STAT", f"+OK {secret} 17\r\n".encode())
            self.masked(self.error(asked, ProtocolError))

    def test_secret_repeated_in_unreadable_listing_is_masked(self) -> None:
        handle = self.log_in()
        asked = handle.list()
        self.server.expect(b"LIST", b"+OK\r\n1 lovelace\r\n.\r\n")
        self.masked(self.error(asked, ProtocolError))

    def test_a_long_line_is_not_cut_within_a_secret(self) -> None:
        # A cut that leaves half of it would show that half.
        for before in range(495, 520):
            self.anew()
            handle = self.log_in()
            asked = handle.noop()
            self.server.expect(
                b"NOOP", b"-ERR " + b"x" * before + b"lovelace" + b"y" * 99 + b"\r\n"
            )
            error = self.error(asked, CommandError)
            for text in (error.text, str(error), *self.status):
                self.assertNotIn("xlove", text)
                self.assertNotIn("lace", text)

    def test_one_letter_password_is_masked_only_as_a_whole_word(self) -> None:
        # A short one is in every text; it is masked where it stands alone.
        opening = self.begin(password="a", auth="USER")
        self.server.expect(b"CAPA", CAPA)
        self.server.expect(b"USER ada", b"+OK\r\n")
        self.server.expect(b"PASS a", b"-ERR bad password a\r\n")
        error = self.refuse(opening, LoginError)
        self.assertEqual(error.text, "bad password ********")


class STLSTests(LoginTestCase):
    """What becomes of STLS where it fails (RFC 2595), and the order where not."""

    def begin_stls(self, capabilities: bytes = b"+OK\r\nSTLS\r\nUSER\r\n.\r\n") -> Any:
        opening = self.begin(secure=Secure.STLS, verify=False)
        self.server.expect(b"CAPA", capabilities)
        return opening

    def test_stls_not_offered_fails_before_user_is_sent(self) -> None:
        opening = self.begin_stls(CAPA)
        error = self.gave_up(opening, STLSUnavailableError)
        self.assertEqual(error.verb, "STLS")
        self.assertNotIn("ada", "".join(self.status))

    def test_refused_stls_is_an_error_with_the_text_of_the_server(self) -> None:
        opening = self.begin_stls()
        self.server.expect(b"STLS", b"-ERR TLS is not available\r\n")
        error = self.gave_up(opening, STLSUnavailableError)
        self.assertIn("TLS is not available", str(error))
        self.assertIsInstance(error.__cause__, CommandError)

    def test_stls_is_tried_if_capabilities_are_unknown(self) -> None:
        opening = self.begin_stls(b"-ERR what?\r\n")
        self.server.expect(b"STLS", b"-ERR what?\r\n")
        self.gave_up(opening, STLSUnavailableError)

    def test_bytes_after_the_stls_reply_abort_the_connection(self) -> None:
        # Response injection: it would be read as if it had come through TLS.
        for behind in (b"+OK\r\n", b"+", b"\r\n", b"\x16\x03\x01"):
            self.anew()
            opening = self.begin_stls()
            self.server.expect(b"STLS", b"+OK begin\r\n" + behind)
            error = self.gave_up(opening, ProtocolError)
            self.assertEqual(error.verb, "STLS")
            self.assertTrue(self.server.transport.aborting)

    def test_cleartext_instead_of_the_handshake_is_a_tls_error(self) -> None:
        opening = self.begin_stls()
        self.server.expect(b"STLS", b"+OK begin\r\n")
        self.server.settle()
        self.server.raw(b"+OK\r\nUSER\r\n.\r\n")
        self.error(opening, TLSError)
        self.assertClosed()

    def upgrade(self) -> Any:
        opening = self.begin_stls()
        self.server.expect(b"STLS", b"+OK begin\r\n")
        self.server.start_tls(server_certificate())
        return opening

    def test_capabilities_are_requested_again_after_stls(self) -> None:
        # RFC 2595 section 4.
        opening = self.upgrade()
        self.server.expect(b"CAPA", CAPA)
        self.server.expect(b"USER ada", b"+OK\r\n")
        self.server.expect(b"PASS lovelace", b"+OK\r\n")
        self.server.expect(b"CAPA", CAPA)
        handle = self.result(opening)
        self.assertEqual(handle.login, LoginInfo("USER", False))
        self.assertIs(handle.tls.verified, False)
        self.assertFalse([line for line in self.status if "Warning" in line])
        leaving = handle.disconnect()
        self.server.expect(b"QUIT", b"+OK\r\n")
        self.result(leaving)

    def test_plain_is_chosen_if_offered_after_stls(self) -> None:
        # RFC 4616 section 2: it takes any name and password.
        opening = self.upgrade()
        self.server.expect(b"CAPA", PLAIN)
        self.plain()
        self.server.expect(b"CAPA", PLAIN)
        handle = self.result(opening)
        self.assertEqual(handle.login, LoginInfo("PLAIN", False))
        self.result(handle.abort())

    def test_timestamp_from_before_stls_is_not_used_by_auto_login(self) -> None:
        # It was learnt in the clear; its sender, maybe an attacker, gets no digest.
        opening = self.begin(
            b"+OK %b\r\n" % STAMP, secure=Secure.STLS, verify=False, auth="auto"
        )
        self.server.expect(b"CAPA", b"+OK\r\nSTLS\r\n.\r\n")
        self.server.expect(b"STLS", b"+OK begin\r\n")
        self.server.start_tls(server_certificate())
        self.server.expect(b"CAPA", b"+OK\r\nUIDL\r\n.\r\n")
        self.assertNotIn(b"APOP", self.server.heard())
        opening.cancel()
        self.error(opening, CancelledError)


# -- what can happen in every phase


class EveryPhase(LoginTestCase):
    """
    A phase of `connect`, for the tests that every phase has to pass.

    A subclass reaches its phase with `reach`.
    """

    verb: str | None = None
    phase = "reply"
    seconds = 7.0
    losses: tuple[type[POP3Error], ...] = (ConnectionLostError,)

    options: dict[str, Any] = {}  # noqa: RUF012

    def reach(self) -> Deferred[Handle]:
        raise NotImplementedError

    def begin_phase(self, greeting: bytes = b"+OK ready\r\n") -> Any:
        return self.begin(
            greeting, **{"timeout": 7.0, "connect_timeout": 3.0, **self.options}
        )


class PhaseTests:
    """The tests of `EveryPhase`, to be mixed in where there is a phase."""

    def test_lost_connection_fails_connect(self: Any) -> None:
        self.broken(ConnectionLost())

    def test_connection_closed_by_server_fails_connect(self: Any) -> None:
        self.broken(ConnectionDone())

    def broken(self: Any, reason: Exception) -> None:
        opening = self.reach()
        self.server.lose(reason)
        error = self.failureResultOf(opening).value
        self.assertIn(type(error), self.losses)
        self.assertEqual(error.server, NAME)
        if self.verb is not None:
            self.assertEqual(error.verb, self.verb)
        self.assertIdle()

    def test_time_limit_aborts_connect_and_names_the_phase(self: Any) -> None:
        opening = self.reach()
        self.clock.advance(self.seconds - 0.1)
        self.pending(opening)
        self.clock.advance(0.2)
        error = self.error(opening, TimedOutError)
        self.assertEqual(error.phase, self.phase)
        self.assertEqual(error.seconds, self.seconds)
        self.assertEqual(error.verb, self.verb)
        self.assertIn(f"{self.seconds:g} seconds", str(error))
        self.assertIn(self.phase, str(error))
        self.assertTrue(self.server.transport.aborting)
        self.assertClosed()

    def test_cancelling_aborts_without_sending_quit(self: Any) -> None:
        opening = self.reach()
        self.server.heard()
        opening.cancel()
        # Not one octet more, not even a QUIT, and no waiting for anybody.
        self.assertTrue(self.server.transport.aborting)
        self.error(opening, CancelledError)
        self.assertClosed()

    def test_reply_after_cancelling_is_ignored(self: Any) -> None:
        opening = self.reach()
        opening.cancel()
        self.server.transport.clear()
        self.server.client.dataReceived(b"+OK\r\n.\r\n")
        self.error(opening, CancelledError)
        self.assertEqual(self.server.transport.value(), b"")
        self.assertClosed()


class FirstCapabilitiesPhaseTests(PhaseTests, EveryPhase):
    """Before the login."""

    verb = "CAPA"

    def reach(self) -> Any:
        opening = self.begin_phase()
        self.server.expect(b"CAPA")
        return opening


class CapabilitiesBodyPhaseTests(PhaseTests, EveryPhase):
    """In the middle of the capabilities."""

    verb = "CAPA"

    def reach(self) -> Any:
        opening = self.begin_phase()
        self.server.expect(b"CAPA", b"+OK\r\nUSER\r\nUI")
        return opening


class STLSPhaseTests(PhaseTests, EveryPhase):
    """Waiting for the answer to STLS."""

    verb = "STLS"
    options = {"secure": Secure.STLS, "verify": False}  # noqa: RUF012

    def reach(self) -> Any:
        opening = self.begin_phase()
        self.server.expect(b"CAPA", b"+OK\r\nSTLS\r\n.\r\n")
        self.server.expect(b"STLS")
        return opening


class HandshakePhaseTests(PhaseTests, EveryPhase):
    """Waiting for the server's side of the handshake."""

    phase = "TLS handshake"
    seconds = 3.0
    losses = (ConnectionLostError, TLSError)
    options = {"secure": Secure.STLS, "verify": False}  # noqa: RUF012

    def reach(self) -> Any:
        opening = self.begin_phase()
        self.server.expect(b"CAPA", b"+OK\r\nSTLS\r\n.\r\n")
        self.server.expect(b"STLS", b"+OK\r\n")
        self.server.settle()
        return opening

    def test_time_limit_aborts_connect_and_names_the_phase(self) -> None:
        self.verb = "STLS"
        super().test_time_limit_aborts_connect_and_names_the_phase()


class CapabilitiesWithinTLSPhaseTests(PhaseTests, EveryPhase):
    """After the handshake."""

    verb = "CAPA"
    options = {"secure": Secure.STLS, "verify": False}  # noqa: RUF012

    def reach(self) -> Any:
        opening = self.begin_phase()
        self.server.expect(b"CAPA", b"+OK\r\nSTLS\r\n.\r\n")
        self.server.expect(b"STLS", b"+OK\r\n")
        self.server.start_tls(server_certificate())
        self.server.expect(b"CAPA")
        return opening


class UserPhaseTests(PhaseTests, EveryPhase):
    """Waiting for the answer to USER."""

    verb = "USER"

    def reach(self) -> Any:
        opening = self.begin_phase()
        self.server.expect(b"CAPA", CAPA)
        self.server.expect(b"USER ada")
        return opening


class PassPhaseTests(PhaseTests, EveryPhase):
    """Waiting for the answer to PASS."""

    verb = "PASS"

    def reach(self) -> Any:
        opening = self.begin_phase()
        self.server.expect(b"CAPA", CAPA)
        self.server.expect(b"USER ada", b"+OK\r\n")
        self.server.expect(b"PASS lovelace")
        return opening


class APOPPhaseTests(PhaseTests, EveryPhase):
    """Waiting for the answer to APOP."""

    verb = "APOP"
    options = {"auth": "APOP"}  # noqa: RUF012

    def reach(self) -> Any:
        opening = self.begin_phase(b"+OK %b\r\n" % STAMP)
        self.server.expect(b"CAPA", CAPA)
        self.assertTrue(self.server.heard().startswith(b"APOP ada "))
        return opening


class AuthPhaseTests(PhaseTests, EveryPhase):
    """Waiting for the answer to AUTH."""

    verb = "AUTH"
    options = {"auth": "PLAIN"}  # noqa: RUF012

    def reach(self) -> Any:
        opening = self.begin_phase()
        self.server.expect(b"CAPA", PLAIN)
        self.assertTrue(self.server.heard().startswith(b"AUTH PLAIN"))
        return opening


class AuthResponsePhaseTests(PhaseTests, EveryPhase):
    """Waiting for the answer to the response of PLAIN."""

    verb = "AUTH"
    options = {"auth": "PLAIN"}  # noqa: RUF012

    def reach(self) -> Any:
        opening = self.begin_phase()
        self.server.expect(b"CAPA", PLAIN)
        self.plain(answer=b"")
        return opening


class LastCapabilitiesTests(LoginTestCase):
    """After the login: the session is open, and CAPA is owed."""

    def reach(self, **options: Any) -> Handle:
        opening = self.begin(timeout=7.0, **options)
        self.server.expect(b"CAPA", CAPA)
        self.server.expect(b"USER ada", b"+OK\r\n")
        self.server.expect(b"PASS lovelace", b"+OK\r\n")
        self.server.expect(b"CAPA")
        return cast(Handle, self.result(opening))

    @shows("quirk 2.3")
    def test_connection_lost_at_capa_fails_commands_suggesting_capa_false(self) -> None:
        handle = self.reach()
        stat = handle.stat()
        self.server.lose(ConnectionDone())
        self.assertIn("capa=False", str(self.error(stat, ConnectionLostError)))
        # Whoever comes later learns it too.
        later = self.error(handle.noop(), ConnectionLostError)
        self.assertIn("capa=False", str(later))
        self.assertIdle()

    def test_connection_lost_after_capa_does_not_suggest_capa_false(self) -> None:
        handle = self.reach()
        self.server.say(CAPA)
        stat = handle.stat()
        self.server.lose(ConnectionDone())
        self.assertNotIn("capa=False", str(self.error(stat, ConnectionLostError)))

    def test_connection_lost_with_the_reply_to_pass_fails_commands(self) -> None:
        opening = self.begin()
        self.server.expect(b"CAPA", CAPA)
        self.server.expect(b"USER ada", b"+OK\r\n")
        self.server.expect(b"PASS lovelace")
        self.server.client.dataReceived(b"+OK\r\n")
        self.server.lose(ConnectionDone())
        handle = self.result(opening)
        self.assertFalse(handle._protocol.state is State.TRANSACTION)
        self.error(handle.stat(), ConnectionLostError)

    def test_capa_not_answered_is_a_time_out_that_names_it(self) -> None:
        handle = self.reach()
        stat = handle.stat()
        self.clock.advance(6.9)
        self.pending(stat)
        self.clock.advance(0.2)
        self.assertEqual(self.error(stat, TimedOutError).phase, "reply")
        self.assertClosed()

    def test_bytes_behind_the_reply_to_pass_fail_connect(self) -> None:
        opening = self.begin()
        self.server.expect(b"CAPA", CAPA)
        self.server.expect(b"USER ada", b"+OK\r\n")
        self.server.expect(b"PASS lovelace", b"+OK\r\n+OK 1 1\r\n")
        self.error(opening, ProtocolError)
        self.assertEqual(self.server.heard(), b"")
        self.assertClosed()

    def test_without_pipelining_a_command_waits_for_the_reply(self) -> None:
        handle = self.reach()
        stat = handle.stat()
        self.assertEqual(self.server.heard(), b"")
        self.server.say(CAPA)
        self.server.expect(b"STAT", b"+OK 2 300\r\n")
        self.assertEqual(self.result(stat), (2, 300))
        self.assertIdle()
