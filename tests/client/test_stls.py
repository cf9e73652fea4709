"""
STLS (RFC 2595 section 4): the upgrade, and everybody who would like to prevent it.
"""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from twisted.internet.defer import CancelledError, Deferred

from pop3connect import (
    CommandError,
    ConnectionLostError,
    Connector,
    Handle,
    ProtocolError,
    STLSUnavailableError,
    TimedOutError,
    TLSError,
    UsageError,
    VerificationError,
)

from ..support.certificates import (
    HOST,
    ServerTLS,
    TLSTestCase,
    authority,
    client_identity,
    expired,
    leaf,
    unknown_ca,
    wrong_host,
)
from ..support.memory import Latest, Server
from ..support.shows import shows

OFFER = b"+OK\r\nUSER\r\nSTLS\r\n.\r\n"
"""What a server with STLS answers to CAPA in the clear."""

READY = b"+OK begin TLS\r\n"


class StlsTestCase(TLSTestCase):
    def begin(self, **options: Any) -> Deferred[Handle]:
        """
        Open a session with STLS; the server has not said anything yet.
        """
        self.server = Server(self.clock)
        self.asked: list[str] = []
        if options.get("verify", True) and "cacerts" not in options:
            options["cacerts"] = self.folder([authority()])
        options.setdefault("stsproc", self.status.append)
        options.setdefault("password", self.password)
        return self.server.open(secure=2, **options)

    def password(self) -> str:
        """
        Note when the password is needed.
        """
        self.asked.append("password")
        return "lovelace"

    def ask(self, **options: Any) -> Deferred[Handle]:
        """
        Go on until the client has sent STLS.
        """
        opening = self.begin(**options)
        self.server.say(b"+OK ready\r\n")
        self.server.expect(b"CAPA", OFFER)
        self.server.expect(b"STLS")
        return opening

    def upgrade(
        self, creator: ServerTLS | None = None, **options: Any
    ) -> Deferred[Handle]:
        """
        Go on until the end of the handshake.
        """
        opening = self.ask(**options)
        self.server.say(READY)
        self.server.start_tls(creator or ServerTLS())
        return opening

    def assertKeptSecret(self) -> None:
        """
        Check that nothing of the account was sent in the clear, nor asked for.
        """
        sent = b"".join(self.server.transport.writes)
        for word in (b"lovelace", b"ada", b"USER", b"PASS", b"AUTH", b"APOP"):
            self.assertNotIn(word, sent)
        self.assertEqual(self.asked, [])

    def refused(self, opening: Deferred[Handle], kind: Any) -> Any:
        """
        Check that the session ends with this error, without a credential.
        """
        error = self.error(opening, kind)
        self.assertEqual(error.server, "pop.example.com:110")
        self.assertSays(error, "pop.example.com:110")
        self.assertTrue(self.server.transport.lost)
        self.assertKeptSecret()
        return error


class UpgradeTests(StlsTestCase):
    """
    The upgrade as it should be.
    """

    @shows("RFC 2595-03")
    @shows(
        "RFC 8314-03",
        "MUST",
        "Before that level is reached: nothing but CAPA and STLS.",
        "No credential is sent, and a callable password is not called.",
    )
    def test_upgrade_comes_before_login_in_whole_dialogue(self) -> None:
        """Line by line: the upgrade comes before anything that is worth hiding."""
        opening = self.begin()
        self.assertEqual(self.server.heard(), b"")
        self.server.say(b"+OK ready\r\n")
        self.server.expect(b"CAPA", OFFER)
        self.server.expect(b"STLS", READY)
        self.assertTrue(self.server.transport.value().startswith(b"\x16\x03"))
        self.assertKeptSecret()
        self.server.start_tls(ServerTLS())
        self.play_login()
        handle = self.successResultOf(opening)
        assert handle.tls is not None
        self.assertIs(handle.tls.verified, True)
        self.assertEqual(handle.tls.version, "TLSv1.3")
        self.assertIs(handle.login.cleartext, False)
        self.assertEqual(str(handle.server), "pop.example.com:110")
        self.assertEqual(
            self.status,
            [
                "S: +OK ready",
                "C: CAPA",
                "S: +OK",
                "S: (12 octets)",
                "C: STLS",
                "S: +OK begin TLS",
                f"TLS: TLSv1.3, {handle.tls.cipher}, the server's certificate is "
                "verified",
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
            ],
        )
        self.assertNotIn(b"lovelace", b"".join(self.server.transport.writes))

    def test_session_works_after_upgrade(self) -> None:
        """What follows is a session like any other."""
        opening = self.upgrade()
        self.play_login()
        handle = self.successResultOf(opening)
        message = handle.retrieve(1)
        self.server.expect(b"RETR 1", b"+OK\r\nSubject: x\r\n\r\n..\r\n.\r\n")
        self.assertEqual(self.successResultOf(message), b"Subject: x\r\n\r\n.\r\n")
        ended = handle.disconnect()
        self.server.expect(b"QUIT", b"+OK bye\r\n")
        self.successResultOf(ended)

    def test_replies_received_byte_by_byte_are_accepted(self) -> None:
        """The answers may come by the octet."""
        opening = self.begin()
        self.server.say(b"+OK ready\r\n", size=1)
        self.assertEqual(self.server.heard(), b"CAPA\r\n")
        self.server.say(OFFER, size=1)
        self.assertEqual(self.server.heard(), b"STLS\r\n")
        self.server.say(READY, size=1)
        self.server.start_tls(ServerTLS())
        self.play_login()
        self.successResultOf(opening)

    @shows(
        "RFC 2595-03",
        "MUST",
        "Nothing is sent between STLS and the end of the handshake.",
        "No command is pending when STLS is sent, and none is sent until the "
        "handshake is over.",
    )
    def test_stls_is_not_pipelined_even_if_pipelining_is_offered(self) -> None:
        """Nothing is pipelined with STLS, whatever the server offers."""
        opening = self.begin()
        self.server.say(b"+OK ready\r\n")
        self.server.expect(b"CAPA", b"+OK\r\nPIPELINING\r\nSTLS\r\n.\r\n")
        self.server.expect(b"STLS", READY)
        self.server.start_tls(ServerTLS())
        self.play_login()
        self.successResultOf(opening)

    def test_stls_capability_is_recognized_in_lower_case(self) -> None:
        """The case of a capability does not count (RFC 2449 section 5)."""
        opening = self.begin()
        self.server.say(b"+OK ready\r\n")
        self.server.expect(b"CAPA", b"+OK\r\nstls\r\n.\r\n")
        self.server.expect(b"STLS")
        self.server.lose()
        self.refused(opening, ConnectionLostError)

    @shows(
        "RFC 8314-01",
        "SHOULD",
        "The default is TLS on port 995; STLS only on request.",
        "Not met: the default of ``secure`` is 0, as in the command of Omnis Studio "
        "that pop3connect implements. STLS is used on request only, and a warning is "
        "logged when a password is sent without TLS.",
    )
    def test_stls_is_not_sent_unless_requested(self) -> None:
        """Nobody is upgraded who did not ask for it."""
        self.server.log_in(b"STLS\r\n")
        sent = b"".join(self.server.transport.writes)
        self.assertNotIn(b"STLS", sent)
        self.server.lose()

    @shows(
        "RFC 2595-04",
        "MUST",
        "STLS only before the login, and never inside TLS.",
        "The login sends it once, first of all.",
    )
    def test_stls_is_not_sent_inside_tls(self) -> None:
        """With TLS at once there is nothing to upgrade, even if it is on offer."""
        opening = self.open()
        self.server.say(b"+OK ready\r\n")
        self.server.expect(b"CAPA", OFFER)
        self.server.expect(b"USER ada")
        self.server.lose()
        self.error(opening, ConnectionLostError)

    def test_host_name_is_sent_as_sni_but_address_is_not(self) -> None:
        """The name goes along here too; an address does not (RFC 6066 section 3)."""
        for host, expected in ((HOST, HOST.encode()), ("192.0.2.1", None)):
            creator = ServerTLS(leaf(HOST, "192.0.2.1"))
            opening = self.upgrade(creator, server=host)
            self.assertEqual(creator.asked_for, [expected])
            self.play_login()
            self.successResultOf(opening)
            self.server.lose()

    def test_upgrade_without_verification_is_reported_as_unverified(self) -> None:
        """``verify=False`` still encrypts, and says so."""
        for shown in (wrong_host(), expired(), unknown_ca()):
            self.status.clear()
            creator = ServerTLS(shown)
            opening = self.upgrade(creator, verify=False)
            self.assertKeptSecret()
            self.play_login()
            handle = self.successResultOf(opening)
            assert handle.tls is not None
            self.assertIs(handle.tls.verified, False)
            self.assertEqual(creator.asked_for, [HOST.encode()])
            (said,) = [line for line in self.status if line.startswith("TLS: ")]
            self.assertIn("NOT verified", said)
            self.assertNotIn(b"lovelace", b"".join(self.server.transport.writes))
            self.server.lose()

    def test_tls_session_is_resumed_at_next_upgrade(self) -> None:
        """The next upgrade may resume the TLS session; a proof was given before."""
        creator = ServerTLS()
        connector = Connector(
            HOST,
            secure=2,
            cacerts=self.folder([authority()]),
            reactor=self.clock,
            endpoint=Latest(self),
        )
        for turn in range(2):
            self.server = Server(self.clock)
            opening = connector.connect("ada", "lovelace")
            self.server.say(b"+OK ready\r\n")
            if turn == 0:
                self.server.expect(b"CAPA", OFFER)
            self.server.expect(b"STLS", READY)
            self.server.start_tls(creator)
            self.play_login()
            handle = self.successResultOf(opening)
            assert handle.tls is not None
            self.assertIs(handle.tls.verified, True)
            ended = handle.disconnect()
            self.server.expect(b"QUIT", b"+OK bye\r\n")
            self.successResultOf(ended)
            # From now on, who is not resumed is refused.
            creator.show(expired())

    def test_client_certificate_is_presented_when_requested(self) -> None:
        """A server may ask for it here as well."""
        ours = client_identity()
        folder = self.folder({"ours": ours.pem + ours.key_pem})
        creator = ServerTLS(client_ca=authority())
        opening = self.upgrade(creator, client_certificate=folder / "ours")
        self.assertEqual(creator.client_chain[:1], [ours.certificate])
        self.play_login()
        self.successResultOf(opening)


class ForgottenTests(StlsTestCase):
    """
    What was learnt in the clear is forgotten (RFC 2595 section 4).
    """

    def learn(
        self, before: bytes, greeting: bytes = b"+OK ready\r\n", **options: Any
    ) -> Any:
        """
        Upgrade with a server that has said these things in the clear.
        """
        opening = self.begin(**options)
        self.server.say(greeting)
        self.server.expect(b"CAPA", b"+OK\r\nSTLS\r\n" + before + b".\r\n")
        self.server.expect(b"STLS", READY)
        self.server.start_tls(ServerTLS())
        return opening

    @shows(
        "RFC 2595-06",
        "MUST",
        "Forget what was learnt before TLS; it SHOULD be asked again.",
        "Capabilities, mechanisms and the timestamp of the greeting are forgotten.",
    )
    @shows(
        "quirk 2.4",
        "The capabilities differ before TLS, over TLS, and after the login",
        "The last reply counts. What came before TLS is forgotten.",
    )
    def test_capabilities_from_before_tls_are_replaced(self) -> None:
        """The capabilities that count are those that come through TLS."""
        opening = self.learn(b"USER\r\nX-BEFORE\r\n")
        self.server.expect(b"CAPA", b"+OK\r\nUSER\r\nX-AFTER\r\n.\r\n")
        self.server.expect(b"USER ada", b"+OK\r\n")
        self.server.expect(b"PASS lovelace", b"+OK\r\n")
        # Not a word after the login: what was learnt inside TLS stays.
        self.server.expect(b"CAPA", b"-ERR not now\r\n")
        handle = self.successResultOf(opening)
        self.assertIn("X-AFTER", handle.capabilities)
        self.assertNotIn("X-BEFORE", handle.capabilities)

    def test_mechanism_offered_inside_tls_is_used(self) -> None:
        """So are the mechanisms."""
        opening = self.learn(b"USER\r\nSASL LOGIN\r\n")
        self.server.expect(b"CAPA", b"+OK\r\nSASL PLAIN\r\n.\r\n")
        self.assertTrue(self.server.heard().startswith(b"AUTH PLAIN"))
        self.server.lose()
        self.error(opening, ConnectionLostError)

    @shows("RFC 2595-06")
    @shows("attack 1.6")
    def test_mechanism_offered_only_before_tls_is_not_used(self) -> None:
        """A mechanism that was offered in the clear only is not used."""
        opening = self.learn(b"SASL PLAIN\r\n")
        self.server.expect(b"CAPA", b"+OK\r\nUSER\r\n.\r\n")
        self.server.expect(b"USER ada")
        self.server.lose()
        self.error(opening, ConnectionLostError)

    def test_capa_refused_inside_tls_does_not_restore_earlier_reply(self) -> None:
        """No answer to CAPA is no reason to believe the one before."""
        opening = self.learn(b"SASL PLAIN\r\nPIPELINING\r\nX-BEFORE\r\n")
        self.server.expect(b"CAPA", b"-ERR\r\n")
        self.server.expect(b"USER ada", b"+OK\r\n")
        self.server.expect(b"PASS lovelace", b"+OK\r\n")
        handle = self.successResultOf(opening)
        self.assertNotIn("X-BEFORE", handle.capabilities)
        # PIPELINING does not count either: one at a time.
        handle.noop()
        answer = handle.noop()
        self.server.expect(b"NOOP", b"+OK\r\n")
        self.server.expect(b"NOOP", b"+OK\r\n")
        self.assertIsNone(self.successResultOf(answer))

    @shows("RFC 2595-06")
    @shows("attack 1.6")
    def test_apop_timestamp_from_before_tls_is_not_used(self) -> None:
        """A timestamp that came in the clear is nobody's challenge any more."""
        opening = self.learn(b"", b"+OK <1.2@pop.example.com>\r\n", auth="APOP")
        self.server.expect(b"CAPA", b"+OK\r\nTOP\r\n.\r\n")
        self.server.expect(b"QUIT", b"+OK\r\n")
        self.server.lose()
        self.assertIn("timestamp", str(self.error(opening, UsageError)))


class InjectionTests(StlsTestCase):
    """
    Who sits in the middle may add octets in the clear, to be read as if through TLS.
    """

    def assertNothingSentAfter(self, count: int) -> None:
        """
        Check that the client has written so often, and no more.
        """
        self.assertEqual(len(self.server.transport.writes), count)

    @shows(
        "attack 1.3",
        "Octets are injected behind the reply to STLS, to be read as if they came "
        "through TLS",
        "Replies of the attacker's choice within TLS: capabilities, mechanisms.",
        "``ProtocolError`` before the handshake, however the octets are cut into "
        "chunks.",
    )
    def test_bytes_after_stls_reply_end_the_session(self) -> None:
        """Whatever follows the ``+OK`` at once ends the session (CVE-2011-0411)."""
        for more in (
            b"+OK\r\nSASL PLAIN\r\n.\r\n",
            b"-ERR go away\r\n",
            b"+OK",
            b"+",
            b"\r\n",
            b"\0",
            b" ",
            # A server does not speak first in TLS, and so it is not this either.
            b"\x16\x03\x03\x00\x01",
            b"\x15\x03\x03\x00\x02\x01\x00",
            b"x" * 100_000,
        ):
            opening = self.ask()
            sent = len(self.server.transport.writes)
            self.server.say(READY + more)
            error = self.refused(opening, ProtocolError)
            self.assertEqual(error.verb, "STLS")
            self.assertSays(error, "after its +OK to STLS")
            # No ClientHello, and no QUIT.
            self.assertNothingSentAfter(sent)
            self.assertTrue(self.server.transport.aborting)

    @shows("attack 1.3")
    def test_bytes_after_last_piece_of_stls_reply_end_the_session(self) -> None:
        """The last piece of the answer has something at its end."""
        for at in range(1, len(READY)):
            opening = self.ask()
            sent = len(self.server.transport.writes)
            self.server.say(READY[:at])
            self.server.say(READY[at:] + b"+OK\r\n")
            self.refused(opening, ProtocolError)
            self.assertNothingSentAfter(sent)

    @shows("attack 1.3")
    def test_bare_line_feed_in_stls_reply_does_not_expose_credentials(self) -> None:
        """A line ends with CRLF; half a line end hides nothing."""
        opening = self.ask()
        sent = len(self.server.transport.writes)
        self.server.say(b"+OK begin\n+OK\r\n")
        # Either it is one strange line, and TLS begins after all of it, or an error.
        more = self.server.transport.writes[sent:]
        if more:
            self.assertTrue(more[0].startswith(b"\x16\x03"))
        self.server.lose()
        self.failureResultOf(opening)
        self.assertKeptSecret()

    @shows("attack 1.5")
    def test_plaintext_after_stls_reply_raises_tls_error(self) -> None:
        """What comes after the ``+OK`` in the clear is not TLS, and an error of it."""
        opening = self.ask()
        self.server.say(READY)
        self.server.say(b"+OK\r\nSASL PLAIN\r\n.\r\n")
        error = self.refused(opening, TLSError)
        self.assertIsInstance(error.__cause__, SSL.Error)
        self.assertEqual(error.verb, "STLS")

    @shows(
        "attack 1.4",
        "Octets are injected before STLS is sent, or all replies at once",
        "The same.",
        "The same.",
    )
    def test_stls_reply_received_before_stls_ends_the_session(self) -> None:
        """An answer to STLS that comes before STLS was sent is none."""
        for answer in (READY, READY + b"+OK\r\n", b"-ERR no TLS today\r\n"):
            opening = self.begin()
            self.server.say(b"+OK ready\r\n")
            self.server.expect(b"CAPA")
            self.server.say(OFFER + answer)
            self.refused(opening, ProtocolError)

    def test_stls_reply_begun_before_stls_ends_the_session(self) -> None:
        """Nor is one whose beginning came before."""
        for at in range(1, len(READY)):
            opening = self.begin()
            self.server.say(b"+OK ready\r\n")
            self.server.expect(b"CAPA")
            self.server.say(OFFER + READY[:at])
            self.server.say(READY[at:])
            self.refused(opening, ProtocolError)

    @shows("attack 1.4")
    def test_all_replies_received_with_greeting_end_the_session(self) -> None:
        """All answers together with the greeting: none of them was asked for."""
        opening = self.begin()
        self.server.say(b"+OK ready\r\n" + OFFER + READY)
        self.refused(opening, ProtocolError)
        self.assertNotIn(b"STLS\r\n", self.server.transport.writes)

    @shows(
        "attack 1.5",
        "Clear text after the handshake",
        "The same, or the whole session.",
        "TLS refuses it.",
    )
    def test_untrusted_certificate_after_plaintext_replies_is_refused(self) -> None:
        """Who plays the server in the clear to the end has no certificate for it."""
        opening = self.upgrade(ServerTLS(unknown_ca()))
        error = self.refused(opening, VerificationError)
        self.assertEqual(error.verb, "STLS")
        self.assertEqual(self.server.heard(), b"")


class UnavailableTests(StlsTestCase):
    """
    No STLS is an error: there is no way back to plain text.
    """

    @shows(
        "RFC 2595-02",
        "SHOULD",
        "A mode that never logs in without TLS.",
        "``secure`` 1 or 2.",
    )
    def test_stls_not_offered_is_an_error_with_remedy(self) -> None:
        """Without the capability nothing is tried; the remedy is said."""
        opening = self.begin()
        self.server.say(b"+OK ready\r\n")
        self.server.expect(b"CAPA", b"+OK\r\nUSER\r\nSASL PLAIN\r\n.\r\n")
        error = self.refused(opening, STLSUnavailableError)
        self.assertSays(error, "does not offer STLS", "secure=1")
        self.assertEqual(error.verb, "STLS")
        self.assertNotIn(b"STLS\r\n", self.server.transport.writes)

    def test_empty_capability_list_is_an_error(self) -> None:
        """An empty list is an answer too."""
        opening = self.begin()
        self.server.say(b"+OK ready\r\n")
        self.server.expect(b"CAPA", b"+OK\r\n.\r\n")
        self.refused(opening, STLSUnavailableError)

    @shows("attack 1.1")
    def test_similar_capabilities_do_not_count_as_stls(self) -> None:
        """Another name is another capability."""
        opening = self.begin()
        self.server.say(b"+OK ready\r\n")
        self.server.expect(b"CAPA", b"+OK\r\nSTARTTLS\r\nXSTLS\r\nX STLS\r\n.\r\n")
        self.refused(opening, STLSUnavailableError)

    @shows("RFC 2595-02")
    @shows(
        "RFC 2595-05",
        "MUST",
        "Check the answer to STLS and what was negotiated.",
        "A refusal ends the session, and so does a failed handshake.",
    )
    @shows("attack 1.1")
    def test_refusal_of_stls_is_an_error_with_the_servers_reason(self) -> None:
        """The server's reason is told, and kept as the cause."""
        opening = self.ask()
        self.server.say(b"-ERR [SYS/TEMP] no\x1b[1m certificate today\r\n")
        error = self.refused(opening, STLSUnavailableError)
        self.assertSays(error, "refused STLS", "certificate today")
        self.assertTrue(str(error).isprintable())
        cause = error.__cause__
        self.assertIsInstance(cause, CommandError)
        self.assertEqual(cause.code, "SYS/TEMP")

    def test_refusal_of_stls_without_reason_is_an_error(self) -> None:
        opening = self.ask()
        self.server.say(b"-ERR\r\n")
        error = self.refused(opening, STLSUnavailableError)
        self.assertSays(error, "refused STLS", "no reason")

    def test_reply_after_refusal_of_stls_does_not_change_the_error(self) -> None:
        """What follows a refusal changes nothing about it."""
        opening = self.ask()
        self.server.say(b"-ERR no\r\n+OK\r\n")
        self.refused(opening, STLSUnavailableError)

    def test_stls_is_required_even_without_verification(self) -> None:
        """``verify=False`` is not "without TLS"."""
        opening = self.begin(verify=False)
        self.server.say(b"+OK ready\r\n")
        self.server.expect(b"CAPA", b"+OK\r\nUSER\r\n.\r\n")
        self.refused(opening, STLSUnavailableError)
        opening = self.ask(verify=False)
        self.server.say(b"-ERR\r\n")
        self.refused(opening, STLSUnavailableError)

    def test_stls_unavailable_error_is_a_tls_error(self) -> None:
        """Who catches TLS errors catches this one."""
        self.assertTrue(issubclass(STLSUnavailableError, TLSError))

    @shows(
        "quirk 2.10",
        "STLS works, and CAPA is unknown",
        "STLS is tried; the session ends if it is refused.",
    )
    def test_stls_is_tried_when_capa_is_refused(self) -> None:
        """A server that does not know CAPA may yet know STLS (RFC 2595 is older)."""
        opening = self.begin()
        self.server.say(b"+OK ready\r\n")
        self.server.expect(b"CAPA", b"-ERR what?\r\n")
        self.server.expect(b"STLS", READY)
        self.server.start_tls(ServerTLS())
        self.server.expect(b"CAPA", b"-ERR what?\r\n")
        self.server.expect(b"USER ada", b"+OK\r\n")
        self.server.expect(b"PASS lovelace", b"+OK\r\n")
        handle = self.successResultOf(opening)
        assert handle.tls is not None
        self.assertIs(handle.tls.verified, True)

    @shows("quirk 2.10")
    def test_stls_refused_after_capa_was_refused_is_an_error(self) -> None:
        opening = self.begin()
        self.server.say(b"+OK ready\r\n")
        self.server.expect(b"CAPA", b"-ERR what?\r\n")
        self.server.expect(b"STLS", b"-ERR what?\r\n")
        self.refused(opening, STLSUnavailableError)

    def test_malformed_reply_to_stls_is_a_protocol_error(self) -> None:
        """Something that is neither yes nor no is no yes."""
        for answer in (b"begin TLS\r\n", b"220 ready\r\n", b"+ \r\n", b"\r\n"):
            opening = self.ask()
            sent = len(self.server.transport.writes)
            self.server.say(answer)
            self.refused(opening, ProtocolError)
            self.assertEqual(len(self.server.transport.writes), sent)


class HandshakeTests(StlsTestCase):
    """
    Between the ``+OK`` and the end of the handshake.
    """

    def test_handshake_without_reply_times_out(self) -> None:
        """The handshake has its own limit, that for connecting."""
        opening = self.ask(connect_timeout=9.0, timeout=100.0)
        self.clock.advance(50)
        self.server.say(READY)
        self.clock.advance(8.9)
        self.assertNoResult(opening)
        self.clock.advance(0.2)
        error = self.refused(opening, TimedOutError)
        self.assertEqual((error.phase, error.seconds), ("TLS handshake", 9.0))
        self.assertSays(error, "TLS handshake", "9 seconds")

    def test_missing_reply_to_stls_times_out(self) -> None:
        """The command is answered, or not, like any other."""
        opening = self.ask(connect_timeout=9.0, timeout=20.0)
        self.clock.advance(20)
        error = self.refused(opening, TimedOutError)
        self.assertEqual((error.phase, error.seconds), ("reply", 20.0))
        self.assertEqual(error.verb, "STLS")

    def test_handshake_limit_ends_with_the_handshake(self) -> None:
        """The limit of the handshake ends with it."""
        opening = self.upgrade(connect_timeout=9.0, timeout=100.0)
        self.clock.advance(50)
        self.assertNoResult(opening)
        self.play_login()
        self.successResultOf(opening)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_loss_before_reply_to_stls_raises_connection_lost(self) -> None:
        opening = self.ask()
        self.server.lose()
        error = self.refused(opening, ConnectionLostError)
        self.assertEqual(error.verb, "STLS")

    def test_loss_at_start_of_handshake_raises_connection_lost(self) -> None:
        """Lost as soon as the handshake began: a server without a certificate."""
        opening = self.ask()
        self.server.say(READY)
        self.server.lose()
        error = self.refused(opening, ConnectionLostError)
        self.assertSays(error, "TLS handshake")
        self.assertIsNotNone(error.__cause__)

    def test_loss_within_handshake_raises_connection_lost(self) -> None:
        opening = self.ask()
        self.server.say(READY)
        self.server.raw(b"\x16\x03\x03\x00\x7a\x02")
        self.assertNoResult(opening)
        self.server.lose()
        self.assertSays(self.refused(opening, ConnectionLostError), "TLS handshake")

    def test_loss_after_handshake_raises_connection_lost(self) -> None:
        """Lost while the first command inside TLS is unanswered."""
        opening = self.upgrade()
        self.server.lose()
        error = self.refused(opening, ConnectionLostError)
        self.assertNotIn("handshake", str(error))

    @shows("RFC 2595-05")
    def test_garbage_instead_of_handshake_raises_tls_error(self) -> None:
        """What is not TLS is an error of TLS, with its cause."""
        for garbage in (b"+OK\r\n", bytes(50), b"\xff" * 50, b"GET / HTTP/1.1\r\n"):
            opening = self.ask()
            self.server.say(READY)
            self.server.raw(garbage)
            error = self.refused(opening, TLSError)
            self.assertIsInstance(error.__cause__, SSL.Error)
            self.assertEqual(error.verb, "STLS")

    def test_handshake_failure_alert_is_named_in_error(self) -> None:
        """The server gives up the handshake."""
        opening = self.ask()
        self.server.say(READY)
        self.server.raw(b"\x15\x03\x03\x00\x02\x02\x28")
        self.assertSays(self.refused(opening, TLSError), "handshake failure")

    @shows("RFC 2595-05")
    def test_tls_1_1_server_is_refused(self) -> None:
        """A server that has nothing newer than TLS 1.1 (RFC 8997)."""
        opening = self.ask(verify=False)
        self.server.say(READY)
        hello = b"\x03\x02" + bytes(32) + b"\0\xc0\x09\0"
        self.server.raw(
            b"\x16\x03\x02\x00"
            + bytes([len(hello) + 4])
            + b"\x02\0\0"
            + bytes([len(hello)])
            + hello
        )
        self.assertSays(self.refused(opening, TLSError), "nothing newer than TLS 1.1")

    @shows("RFC 7817-01")
    @shows("RFC 8314-03")
    def test_unverified_server_is_refused_without_credentials(self) -> None:
        """A server that proves nothing gets nothing."""
        for shown in (wrong_host(), expired(), unknown_ca()):
            opening = self.upgrade(ServerTLS(shown))
            error = self.refused(opening, VerificationError)
            self.assertEqual(error.certificate, shown.certificate)
            self.assertEqual(self.server.heard(), b"")

    def test_missing_client_certificate_raises_tls_error(self) -> None:
        """
        The server refuses us, which in TLS 1.3 comes after the handshake.

        It is the same error as with TLS at once.
        """
        for newest in (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION):
            opening = self.upgrade(ServerTLS(client_ca=authority(), newest=newest))
            self.refused(opening, TLSError)

    def test_cancelling_before_handshake_closes_connection(self) -> None:
        """Cancelling closes what was opened, at any time."""
        for steps in range(4):
            opening = self.begin()
            if steps > 0:
                self.server.say(b"+OK ready\r\n")
            if steps > 1:
                self.server.expect(b"CAPA", OFFER)
            if steps > 2:
                self.server.expect(b"STLS", READY)
            opening.cancel()
            self.error(opening, CancelledError)
            self.assertTrue(self.server.transport.lost)
            self.assertKeptSecret()

    def test_cancelling_after_handshake_closes_connection(self) -> None:
        opening = self.upgrade()
        opening.cancel()
        self.error(opening, CancelledError)
        self.assertTrue(self.server.transport.lost)
        self.assertKeptSecret()
