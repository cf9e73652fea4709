"""
What a connector remembers of CAPA: the round trips it saves, and what it must not do.
"""

from __future__ import annotations

import base64
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.logger import capturedLogs, formatEvent

from pop3connect import (
    CommandError,
    Connector,
    Handle,
    LoginError,
    STLSUnavailableError,
)
from pop3connect.auth.memory import REMEMBERED_SECONDS

from ..support.certificates import HOST, ServerTLS, TLSTestCase, authority
from ..support.memory import Server
from ..support.shows import shows

PIPELINED = b"+OK\r\nUSER\r\nPIPELINING\r\n.\r\n"
NOT_PIPELINED = b"+OK\r\nUSER\r\n.\r\n"
SASL = b"+OK\r\nSASL PLAIN\r\nPIPELINING\r\n.\r\n"
CRAM = b"+OK\r\nUSER\r\nSASL CRAM-MD5\r\nPIPELINING\r\n.\r\n"
ONLY_CRAM = b"+OK\r\nSASL CRAM-MD5\r\nPIPELINING\r\n.\r\n"
AFTER = b"+OK\r\nUSER\r\nSASL PLAIN\r\nUIDL\r\nPIPELINING\r\n.\r\n"
LOOK = b"STAT\r\nUIDL\r\nLIST\r\n"
STAMP = b"<1896.697170952@dbc.mtview.ca.us>"


def plain(user: str = "ada", password: str = "lovelace") -> bytes:
    """Return the line of AUTH PLAIN with its initial response."""
    told = base64.b64encode(f"\0{user}\0{password}".encode())
    return b"AUTH PLAIN %b\r\n" % told


class RememberedTestCase(TLSTestCase):
    """Several sessions of one connector."""

    #: What the server sends in reply to a look.
    looked = b"+OK 1 9\r\n+OK\r\n1 a\r\n.\r\n+OK\r\n1 9\r\n.\r\n"

    def make(self, **options: Any) -> None:
        if options.get("secure") and options.get("verify", True):
            options.setdefault("cacerts", self.folder([authority()]))
        self.creator = ServerTLS()
        self.secure = options.get("secure", 0)
        self.connector = Connector(
            HOST, endpoint=self.endpoint, reactor=self.clock, **options
        )

    def begin(self, user: str = "ada", greeting: bytes = b"+OK ready\r\n") -> None:
        """Connect once more, as far as the greeting."""
        self.server = Server(self.clock)
        self.trips = 0
        self.status.clear()
        self.opening = self.connector.connect(user, "lovelace", self.status.append)
        # Some tests end in the middle of a login.
        self.addCleanup(self.opening.addErrback, lambda _: None)
        if self.secure == 1:
            self.server.start_tls(self.creator)
        self.server.say(greeting)

    def flight(self, lines: bytes, answer: bytes) -> None:
        """Check what the client has sent at once, and answer: a round trip."""
        self.assertEqual(self.server.heard(), lines)
        self.trips += 1
        self.server.say(answer)

    def logged_in(self) -> Handle:
        handle: Handle = self.successResultOf(self.opening)
        # A handle that is dropped while its session is open is a warning.
        self.addCleanup(handle.abort)
        return handle

    def look(self, before: bytes = b"CAPA\r\n", answer: bytes = AFTER) -> Handle:
        """Look at the mailbox and leave; ``before`` goes in the same flight."""
        handle = self.logged_in()
        replies = [handle.stat(), handle.uidl(), handle.list()]
        self.flight(before + LOOK, answer + self.looked)
        for reply in replies:
            self.successResultOf(reply)
        self.quit(handle)
        return handle

    def quit(self, handle: Handle) -> None:
        leaving = handle.disconnect()
        self.flight(b"QUIT\r\n", b"+OK\r\n")
        self.successResultOf(leaving)

    def first_in_clear(self, offer: bytes = PIPELINED) -> None:
        self.begin()
        self.flight(b"CAPA\r\n", offer)
        self.flight(b"USER ada\r\n", b"+OK\r\n")
        self.flight(b"PASS lovelace\r\n", b"+OK\r\n")
        self.flight(b"CAPA\r\n", offer)
        self.quit(self.logged_in())

    def first_over_tls(self, user: str = "ada", after: bytes = AFTER) -> None:
        self.begin(user)
        self.flight(b"CAPA\r\n", SASL)
        self.flight(plain(user), b"+OK\r\n")
        self.look(answer=after)

    def first_over_stls(self, creator: ServerTLS | None = None) -> None:
        self.begin()
        self.flight(b"CAPA\r\n", b"+OK\r\nSTLS\r\n.\r\n")
        self.flight(b"STLS\r\n", b"+OK\r\n")
        self.server.start_tls(creator or self.creator)
        self.flight(b"CAPA\r\n", SASL)
        self.flight(plain(), b"+OK\r\n")
        self.look()

    def refused(self, kind: type[Any] = LoginError) -> Any:
        if not self.server.transport.disconnecting:
            self.assertIn(self.server.heard(), (b"QUIT\r\n", b""))
            self.server.say(b"+OK bye\r\n")
        self.server.settle()
        return self.failureResultOf(self.opening, kind).value


class RoundTripTests(RememberedTestCase):
    """What one look takes after the greeting."""

    def test_look_over_tls_takes_four_round_trips_and_then_three(self) -> None:
        self.make(secure=1)
        self.first_over_tls()
        self.assertEqual(self.trips, 4)
        for _ in range(2):
            self.begin()
            self.flight(plain(), b"+OK\r\n")
            self.look()
            self.assertEqual(self.trips, 3)

    def test_look_in_the_clear_takes_five_round_trips_and_then_four(self) -> None:
        self.make()
        self.begin()
        self.flight(b"CAPA\r\n", PIPELINED)
        self.flight(b"USER ada\r\n", b"+OK\r\n")
        self.flight(b"PASS lovelace\r\n", b"+OK\r\n")
        self.look()
        self.assertEqual(self.trips, 5)
        for _ in range(2):
            self.begin()
            self.flight(b"CAPA\r\nUSER ada\r\n", PIPELINED + b"+OK\r\n")
            self.flight(b"PASS lovelace\r\n", b"+OK\r\n")
            self.look()
            self.assertEqual(self.trips, 4)

    def test_later_upgrade_begins_with_stls_and_then_the_login(self) -> None:
        self.make(secure=2)
        self.first_over_stls()
        self.begin()
        self.flight(b"STLS\r\n", b"+OK\r\n")
        self.server.start_tls(self.creator)
        self.flight(plain(), b"+OK\r\n")
        self.look()
        self.assertEqual(self.trips, 4)

    def test_apop_takes_four_round_trips_each_time(self) -> None:
        self.make()
        for _ in range(2):
            self.begin(greeting=b"+OK ready " + STAMP + b"\r\n")
            self.flight(b"CAPA\r\n", PIPELINED)
            self.assertTrue(self.server.heard().startswith(b"APOP ada "))
            self.trips += 1
            self.server.say(b"+OK\r\n")
            self.look()
            self.assertEqual(self.trips, 4)

    def test_explicit_mechanism_in_the_clear_needs_no_capa_before_the_login(
        self,
    ) -> None:
        self.make(auth="USER")
        self.first_in_clear(NOT_PIPELINED)
        self.begin()
        self.flight(b"USER ada\r\n", b"+OK\r\n")
        self.flight(b"PASS lovelace\r\n", b"+OK\r\n")
        self.flight(b"CAPA\r\n", NOT_PIPELINED)
        self.quit(self.logged_in())

    def test_password_is_never_sent_before_the_reply_to_user(self) -> None:
        self.make()
        self.first_in_clear()
        self.begin()
        self.flight(b"CAPA\r\nUSER ada\r\n", PIPELINED)
        self.assertEqual(self.server.heard(), b"")
        self.server.say(b"+OK\r\n")
        self.assertEqual(self.server.heard(), b"PASS lovelace\r\n")

    def test_pipeline_false_sends_one_command_at_a_time(self) -> None:
        self.make(pipeline=False)
        for _ in range(2):
            self.first_in_clear()

    def test_capa_false_sends_no_capa(self) -> None:
        self.make(capa=False)
        for _ in range(2):
            self.begin()
            self.flight(b"USER ada\r\n", b"+OK\r\n")
            self.flight(b"PASS lovelace\r\n", b"+OK\r\n")
            handle = self.logged_in()
            self.assertFalse(handle.capabilities.known)
            self.quit(handle)

    def test_log_is_warned_of_logins_in_the_clear_once_the_status_each_time(
        self,
    ) -> None:
        warning = "the password is sent without TLS"
        with capturedLogs() as logs:
            # Without CAPA, all of its logins are alike.
            self.make(capa=False)
            for _ in range(2):
                self.begin()
                self.flight(b"USER ada\r\n", b"+OK\r\n")
                self.flight(b"PASS lovelace\r\n", b"+OK\r\n")
                self.quit(self.logged_in())
                self.assertIn(warning, str(self.status))
        told = [event for event in logs if warning in formatEvent(event)]
        self.assertEqual(len(told), 1)

    def test_server_without_capa_over_tls_is_not_asked_again(self) -> None:
        self.make(secure=1)
        self.begin()
        self.flight(b"CAPA\r\n", b"-ERR what?\r\n")
        for _ in range(2):
            self.flight(b"USER ada\r\n", b"+OK\r\n")
            self.flight(b"PASS lovelace\r\n", b"+OK\r\n")
            self.quit(self.logged_in())
            self.begin()
        self.flight(b"USER ada\r\n", b"")

    def test_temporary_refusal_of_capa_is_not_remembered(self) -> None:
        self.make(secure=1)
        self.begin()
        self.flight(b"CAPA\r\n", b"-ERR [SYS/TEMP] busy\r\n")
        self.flight(b"USER ada\r\n", b"+OK\r\n")
        self.flight(b"PASS lovelace\r\n", b"+OK\r\n")
        self.quit(self.logged_in())
        self.first_over_tls()

    def test_utf8_is_sent_before_the_login_without_capa(self) -> None:
        offer = b"+OK\r\nSASL PLAIN\r\nUTF8\r\n.\r\n"
        self.make(secure=1, utf8=True)
        self.begin()
        self.flight(b"CAPA\r\n", offer)
        self.flight(b"UTF8\r\n", b"+OK\r\n")
        self.flight(plain(), b"+OK\r\n")
        self.flight(b"CAPA\r\n", offer)
        self.quit(self.logged_in())
        self.begin()
        self.flight(b"UTF8\r\n", b"+OK\r\n")
        self.flight(plain(), b"+OK\r\n")
        self.assertIs(self.logged_in()._session.utf8, True)

    def test_transcript_has_each_line_once_and_in_order(self) -> None:
        self.make()
        self.first_in_clear()
        self.begin()
        self.flight(b"CAPA\r\nUSER ada\r\n", PIPELINED + b"+OK\r\n")
        self.flight(b"PASS lovelace\r\n", b"+OK\r\n")
        self.look()
        lines = [line for line in self.status if not line.startswith("S: +OK")]
        self.assertEqual(
            [line for line in lines if line.startswith("C: ")],
            [
                f"C: {line}"
                for line in (
                    "CAPA",
                    "USER ada",
                    "PASS ********",
                    "CAPA",
                    "STAT",
                    "UIDL",
                    "LIST",
                    "QUIT",
                )
            ],
        )


class CapabilitiesTests(RememberedTestCase):
    """What ``handle.capabilities`` is, and the window."""

    def test_capabilities_are_those_from_before_until_the_reply(self) -> None:
        self.make(secure=1)
        self.begin()
        self.flight(b"CAPA\r\n", SASL)
        self.flight(plain(), b"+OK\r\n")
        handle = self.logged_in()
        self.assertEqual(list(handle.capabilities), ["SASL", "PIPELINING"])
        self.flight(b"CAPA\r\n", AFTER)
        self.assertIn("UIDL", handle.capabilities)

    def test_capabilities_are_the_users_of_the_last_time_until_the_reply(self) -> None:
        self.make(secure=1)
        self.first_over_tls()
        self.first_after_memory("ada", remembered=True)
        # RFC 2449: they may depend on the user.
        self.first_after_memory("bob", remembered=False)

    def first_after_memory(self, user: str, *, remembered: bool) -> None:
        self.begin(user)
        self.flight(plain(user), b"+OK\r\n")
        handle = self.logged_in()
        self.assertIs("UIDL" in handle.capabilities, remembered)
        self.flight(b"CAPA\r\n", SASL)
        self.assertNotIn("UIDL", handle.capabilities)
        self.quit(handle)

    def test_capa_returns_what_the_server_says_now(self) -> None:
        self.make(secure=1)
        self.first_over_tls()
        self.begin()
        self.flight(plain(), b"+OK\r\n")
        asked = self.logged_in().capa()
        self.flight(b"CAPA\r\nCAPA\r\n", AFTER + b"+OK\r\nTOP\r\n.\r\n")
        self.assertEqual(list(self.successResultOf(asked)), ["TOP"])

    def test_without_pipelining_in_the_reply_commands_are_sent_one_by_one(self) -> None:
        self.make(secure=1)
        self.first_over_tls()
        self.begin()
        self.flight(plain(), b"+OK\r\n")
        handle = self.logged_in()
        self.flight(b"CAPA\r\n", NOT_PIPELINED)
        first, second = handle.noop(), handle.noop()
        self.flight(b"NOOP\r\n", b"+OK\r\n")
        self.flight(b"NOOP\r\n", b"+OK\r\n")
        self.successResultOf(first)
        self.successResultOf(second)

    def test_pipelining_in_the_reply_lets_waiting_commands_go_at_once(self) -> None:
        self.make()
        self.begin()
        self.flight(b"CAPA\r\n", NOT_PIPELINED)
        self.flight(b"USER ada\r\n", b"+OK\r\n")
        self.flight(b"PASS lovelace\r\n", b"+OK\r\n")
        handle = self.logged_in()
        replies = [handle.noop() for _ in range(3)]
        self.flight(b"CAPA\r\n", PIPELINED)
        self.flight(b"NOOP\r\n" * 3, b"+OK\r\n" * 3)
        for reply in replies:
            self.successResultOf(reply)

    def test_refused_capa_after_the_login_is_no_error(self) -> None:
        self.make(secure=1)
        self.begin()
        self.flight(b"CAPA\r\n", SASL)
        self.flight(plain(), b"+OK\r\n")
        handle = self.look(answer=b"-ERR not now\r\n")
        self.assertIn("SASL", handle.capabilities)


class ExpiryTests(RememberedTestCase):
    """When the server is asked again."""

    def test_memory_ends_after_an_hour(self) -> None:
        self.make(secure=1)
        self.first_over_tls()
        self.clock.advance(REMEMBERED_SECONDS - 1)
        self.begin()
        self.flight(plain(), b"+OK\r\n")
        self.look()
        # A login that began with it does not make it last longer.
        self.clock.advance(1)
        self.first_over_tls()

    def test_memory_does_not_count_if_the_clock_was_set_back(self) -> None:
        self.make(secure=1)
        self.clock.advance(10)
        self.first_over_tls()
        self.clock.rightNow -= 5
        self.first_over_tls()

    def test_memory_belongs_to_one_connector(self) -> None:
        for _ in range(2):
            self.make(secure=1)
            self.first_over_tls()

    def test_changed_cacerts_folder_drops_the_memory(self) -> None:
        folder = self.folder([authority()])
        self.make(secure=1, cacerts=folder)
        self.first_over_tls()
        (folder / "another.pem").write_bytes(authority("Another CA").cert_pem.bytes())
        self.first_over_tls()

    def test_failed_connection_lets_the_next_one_ask(self) -> None:
        self.make(secure=1)
        self.first_over_tls()
        self.begin()
        self.flight(plain(), b"")
        self.server.lose(ConnectionDone())
        self.failureResultOf(self.opening)
        self.first_over_tls()


class UnansweredTests(RememberedTestCase):
    """Sessions that end before the reply to CAPA, which may be a server's new way."""

    def test_commands_wait_again_after_a_session_lost_with_those_sent_at_once(
        self,
    ) -> None:
        for end in ("lose", "hang", "nonsense"):
            self.make(secure=1)
            self.first_over_tls()
            self.begin()
            self.flight(plain(), b"+OK\r\n")
            lost = self.logged_in().stat()
            self.flight(b"CAPA\r\nSTAT\r\n", b"")
            if end == "lose":
                self.server.lose(ConnectionDone())
            elif end == "hang":
                self.clock.advance(60)
            else:
                self.server.say(b"what?\r\n")
            self.failureResultOf(lost)
            self.begin()
            self.flight(b"CAPA\r\n", b"+OK\r\nSASL PLAIN\r\n.\r\n")
            self.flight(plain(), b"+OK\r\n")
            handle = self.logged_in()
            asked = handle.stat()
            self.flight(b"CAPA\r\n", NOT_PIPELINED)
            self.flight(b"STAT\r\n", b"+OK 1 9\r\n")
            self.successResultOf(asked)
            self.quit(handle)


class RefusalTests(RememberedTestCase):
    """A login that began with what was remembered, and was refused."""

    def setUp(self) -> None:
        super().setUp()
        self.make(secure=1)
        self.first_over_tls()
        self.begin()

    @shows("quirk 2.13")
    def test_wrong_password_is_sent_once_if_the_server_offers_the_same(self) -> None:
        self.flight(plain(), b"-ERR [AUTH] no\r\n")
        self.flight(b"CAPA\r\n", SASL)
        error = self.refused()
        self.assertEqual((error.code, error.mechanism), ("AUTH", "PLAIN"))

    @shows(
        "quirk 2.13",
        "The capabilities change between two sessions",
        "A login that began with what was remembered is followed by CAPA if it is "
        "refused.",
    )
    def test_mechanism_that_is_gone_is_followed_by_one_that_is_offered(self) -> None:
        self.flight(plain(), b"-ERR authentication failed\r\n")
        self.flight(b"CAPA\r\n", PIPELINED)
        self.flight(b"USER ada\r\n", b"+OK\r\n")
        self.flight(b"PASS lovelace\r\n", b"+OK\r\n")
        self.look()
        # That is what is remembered now.
        self.begin()
        self.flight(b"USER ada\r\n", b"+OK\r\n")

    def test_mechanism_that_now_comes_first_is_tried_next(self) -> None:
        # The server may have ended the other one for some accounts.
        self.flight(plain(), b"-ERR authentication failed\r\n")
        self.flight(b"CAPA\r\n", b"+OK\r\nSASL SCRAM-SHA-256 PLAIN\r\n.\r\n")
        self.assertTrue(self.server.heard().startswith(b"AUTH SCRAM-SHA-256 "))
        self.server.say(b"-ERR no\r\n")
        self.assertEqual(self.refused().mechanism, "SCRAM-SHA-256")

    def test_one_attempt_follows_even_if_the_server_calls_it_unsupported(self) -> None:
        self.flight(plain(), b"-ERR no\r\n")
        self.flight(b"CAPA\r\n", b"+OK\r\nUSER\r\nSASL SCRAM-SHA-256 LOGIN\r\n.\r\n")
        self.assertTrue(self.server.heard().startswith(b"AUTH SCRAM-SHA-256 "))
        self.server.say(b"-ERR unsupported\r\n")
        self.refused()

    def test_refused_flag_y_is_followed_by_a_binding_that_is_offered_now(self) -> None:
        scram = b"+OK\r\nSASL SCRAM-SHA-256\r\n.\r\n"
        self.flight(plain(), b"-ERR no\r\n")
        self.flight(b"CAPA\r\n", scram)
        self.assertTrue(self.server.heard().startswith(b"AUTH SCRAM-SHA-256 "))
        self.server.say(b"-ERR no\r\n")
        self.refused()
        self.begin()
        line = self.server.heard()
        self.assertTrue(base64.b64decode(line.split()[-1]).startswith(b"y,,"))
        # RFC 5802 section 6: a server that could bind must refuse this.
        self.server.say(b"-ERR no\r\n")
        self.flight(
            b"CAPA\r\n", b"+OK\r\nSASL SCRAM-SHA-256 SCRAM-SHA-256-PLUS\r\n.\r\n"
        )
        self.assertTrue(self.server.heard().startswith(b"AUTH SCRAM-SHA-256-PLUS "))
        self.server.say(b"-ERR [AUTH] no\r\n")
        self.assertEqual(self.refused().mechanism, "SCRAM-SHA-256-PLUS")

    def test_never_more_than_two_attempts_whatever_is_offered(self) -> None:
        self.flight(plain(), b"-ERR authentication failed\r\n")
        self.flight(b"CAPA\r\n", b"+OK\r\nUSER\r\nSASL LOGIN CRAM-MD5\r\n.\r\n")
        self.flight(b"AUTH LOGIN\r\n", b"+ VXNlcm5hbWU6\r\n")
        self.flight(base64.b64encode(b"ada") + b"\r\n", b"+ UGFzc3dvcmQ6\r\n")
        self.flight(base64.b64encode(b"lovelace") + b"\r\n", b"-ERR no\r\n")
        self.assertEqual(self.refused().mechanism, "LOGIN")

    def test_mailbox_in_use_is_not_followed_by_capa(self) -> None:
        self.flight(plain(), b"-ERR [IN-USE] locked\r\n")
        self.assertEqual(self.server.heard(), b"QUIT\r\n")
        self.assertTrue(self.refused().transient)

    def test_connection_closed_after_the_refusal_reports_the_refusal(self) -> None:
        self.flight(plain(), b"-ERR [AUTH] no\r\n")
        self.server.lose(ConnectionDone())
        self.assertEqual(
            self.failureResultOf(self.opening, LoginError).value.code, "AUTH"
        )
        # Nothing is remembered that may have been the cause.
        self.first_over_tls()

    def test_nothing_in_common_any_more_reports_the_refusal(self) -> None:
        self.flight(plain(), b"-ERR disabled\r\n")
        self.flight(b"CAPA\r\n", b"+OK\r\nSASL GSSAPI\r\n.\r\n")
        self.assertEqual(self.refused().mechanism, "PLAIN")

    def test_unknown_mechanism_is_replaced_without_counting(self) -> None:
        self.flight(plain(), b"-ERR unsupported authentication mechanism\r\n")
        self.flight(b"CAPA\r\n", PIPELINED)
        self.flight(b"USER ada\r\n", b"+OK\r\n")
        self.flight(b"PASS lovelace\r\n", b"-ERR no\r\n")
        self.assertEqual(self.refused().mechanism, "USER")


class AttackTests(RememberedTestCase):
    """A reply to CAPA that an attacker has changed, on an earlier connection."""

    @shows(
        "attack 1.12",
        "Without TLS: the better mechanisms are removed from the capabilities of one "
        "connection",
        "A later connection that remembers them sends the password, while nobody "
        "interferes.",
        "CAPA is sent on each connection, and nothing made of the password before its "
        "reply. Nothing that was said in the clear, or over TLS that is not verified, "
        "is remembered for TLS.",
    )
    def test_planted_reply_in_the_clear_does_not_make_the_next_login_weaker(
        self,
    ) -> None:
        self.make()
        # The attacker takes CRAM-MD5 out of the reply, once.
        self.first_in_clear()
        self.begin()
        transport = self.server.transport
        self.flight(b"CAPA\r\nUSER ada\r\n", CRAM + b"+OK\r\n")
        # The server's own reply says better: nothing made of the password is sent.
        self.assertEqual(transport.value(), b"")
        self.assertTrue(transport.aborting)

    def test_login_superseded_by_the_reply_is_made_on_another_connection(self) -> None:
        self.make()
        self.first_in_clear()
        self.begin()
        latest = Server(self.clock)
        old, self.server = self.server, latest
        self.assertEqual(old.heard(), b"CAPA\r\nUSER ada\r\n")
        old.say(CRAM + b"+OK\r\n")
        old.settle()
        self.server.say(b"+OK ready\r\n")
        # Not a guess again.
        self.flight(b"CAPA\r\n", CRAM)
        self.flight(b"AUTH CRAM-MD5\r\n", b"+ PDEyM0BleGFtcGxlPg==\r\n")
        self.assertNotIn(b"lovelace", self.server.heard())
        self.server.say(b"+OK\r\n")
        self.assertEqual(self.logged_in().login.mechanism, "CRAM-MD5")

    def test_reply_that_is_not_readable_confirms_nothing(self) -> None:
        self.make()
        self.first_in_clear()
        self.begin()
        self.flight(b"CAPA\r\nUSER ada\r\n", b"+OK\r\n+OK\r\n")
        self.assertNotIn(b"PASS", self.server.heard())

    def test_guess_that_is_refused_is_confirmed_by_no_one_password(self) -> None:
        # CAPA is refused now: what follows is the login without capabilities.
        self.make()
        self.first_in_clear()
        self.begin()
        self.flight(b"CAPA\r\nUSER ada\r\n", b"-ERR\r\n+OK\r\n")
        self.flight(b"PASS lovelace\r\n", b"+OK\r\n")
        self.assertFalse(self.logged_in().capabilities.known)

    @shows("attack 1.12")
    def test_sasl_on_a_guess_sends_no_proof_if_the_reply_says_otherwise(self) -> None:
        self.make()
        self.begin()
        self.flight(b"CAPA\r\n", CRAM)
        self.flight(b"AUTH CRAM-MD5\r\n", b"+ PDEyM0BleGFtcGxlPg==\r\n")
        self.server.heard()
        self.server.say(b"+OK\r\n")
        self.flight(b"CAPA\r\n", CRAM)
        self.quit(self.logged_in())
        self.begin()
        better = CRAM.replace(b"SASL", b"SASL SCRAM-SHA-256")
        challenge = b"+ PDEyM0BleGFtcGxlPg==\r\n"
        transport = self.server.transport
        self.flight(b"CAPA\r\nAUTH CRAM-MD5\r\n", better + challenge)
        self.assertEqual(transport.value(), b"")
        self.assertTrue(transport.aborting)

    def test_attempt_after_a_refused_guess_is_made_on_the_same_connection(self) -> None:
        self.make()
        self.first_in_clear()
        self.begin()
        self.flight(b"CAPA\r\nUSER ada\r\n", ONLY_CRAM + b"-ERR what?\r\n")
        self.flight(b"AUTH CRAM-MD5\r\n", b"+ PDEyM0BleGFtcGxlPg==\r\n")
        self.assertNotEqual(self.server.heard(), b"")
        self.server.say(b"+OK\r\n")
        self.assertEqual(self.logged_in().login.mechanism, "CRAM-MD5")

    def test_without_pipelining_capa_is_waited_for(self) -> None:
        self.make()
        for _ in range(2):
            self.first_in_clear(NOT_PIPELINED)

    @shows("attack 1.12")
    def test_apop_digest_is_not_sent_on_a_guess(self) -> None:
        self.make()
        self.first_in_clear()
        self.begin(greeting=b"+OK ready " + STAMP + b"\r\n")
        self.flight(b"CAPA\r\n", CRAM)
        self.assertEqual(self.server.heard(), b"AUTH CRAM-MD5\r\n")

    @shows("attack 1.12")
    def test_reply_before_stls_is_not_remembered_for_tls(self) -> None:
        self.make(secure=2)
        self.begin()
        # The login fails after the clear part: nothing came over TLS.
        self.flight(b"CAPA\r\n", b"+OK\r\nSTLS\r\nUSER\r\n.\r\n")
        self.flight(b"STLS\r\n", b"-ERR no\r\n")
        self.refused(STLSUnavailableError)
        self.begin()
        self.flight(b"CAPA\r\n", b"+OK\r\nSTLS\r\nUSER\r\n.\r\n")
        self.flight(b"STLS\r\n", b"+OK\r\n")
        self.server.start_tls(self.creator)
        self.assertEqual(self.server.heard(), b"CAPA\r\n")

    def test_reply_before_stls_does_not_confirm_what_another_session_heard(
        self,
    ) -> None:
        self.make(secure=2)
        self.begin()
        self.flight(b"CAPA\r\n", b"+OK\r\nSTLS\r\n.\r\n")
        self.flight(b"STLS\r\n", b"+OK\r\n")
        first = self.server, self.opening
        # Meanwhile another session is opened, and ended.
        self.first_over_stls(ServerTLS())
        self.server, self.opening = first
        self.server.start_tls(self.creator)
        self.flight(plain(), b"-ERR no\r\n")
        self.flight(b"CAPA\r\n", SASL)
        self.refused()

    def test_stls_refused_later_sends_no_credential(self) -> None:
        self.make(secure=2)
        self.first_over_stls()
        self.begin()
        self.flight(b"STLS\r\n", b"-ERR no\r\n")
        self.refused(STLSUnavailableError)
        self.assertEqual(self.server.transport.value(), b"")

    @shows("attack 1.12")
    def test_reply_over_tls_that_is_not_verified_is_not_remembered(self) -> None:
        self.make(secure=1, verify=False)
        for _ in range(2):
            self.first_over_tls()

    def test_forged_refusal_in_the_clear_leads_to_no_third_attempt(self) -> None:
        self.make()
        self.first_in_clear()
        self.begin()
        self.flight(b"CAPA\r\nUSER ada\r\n", PIPELINED + b"+OK\r\n")
        self.flight(b"PASS lovelace\r\n", b"-ERR no\r\n")
        error = self.refused()
        self.assertIsInstance(error.__cause__, CommandError)
