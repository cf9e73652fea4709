"""
TLS from the first octet: versions, names sent, what is believed, and how it fails.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import subprocess
import sys
import textwrap
import time
import traceback
from pathlib import Path
from typing import Any, cast
from unittest import SkipTest

import attrs
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import SSL, crypto
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import PrivateCertificate
from zope.interface.verify import verifyObject

import pop3connect
from pop3connect import ConnectionLostError, Handle, TimedOutError, TLSError, UsageError
from pop3connect.address import ServerAddress
from pop3connect.tls.client_key import hand_over
from pop3connect.tls.context import ClientContext, ConnectionCreator
from pop3connect.tls.identity import tls_error
from pop3connect.tls.trust import Trust

from ..support.certificates import (
    HOST,
    ServerTLS,
    Shown,
    TLSTestCase,
    authority,
    authority_with_ed25519,
    behind_intermediate,
    certificate_of,
    client_identity,
    common_name_only,
    expired,
    intermediate,
    key,
    leaf,
    not_yet_valid,
    odd_certificates,
    right,
    self_signed,
    shake_hands_over,
    strong_rsa_key,
    unknown_ca,
    wrong_host,
)
from ..support.memory import Server
from ..support.shows import shows


def server_hello(version: int) -> bytes:
    """
    Return the ServerHello of a server that speaks just this version, and no newer.

    RFC 4346 section 7.4.1.3; it chooses ECDHE-ECDSA-AES128-SHA and no compression.
    """
    hello = version.to_bytes(2, "big") + bytes(range(32)) + b"\0" + b"\xc0\x09" + b"\0"
    handshake = b"\x02" + len(hello).to_bytes(3, "big") + hello
    return (
        b"\x16"
        + version.to_bytes(2, "big")
        + len(handshake).to_bytes(2, "big")
        + handshake
    )


class VersionTests(TLSTestCase):
    """
    TLS 1.2 or later (RFC 8997), with ciphers that are up to date.
    """

    def test_tls_1_3_is_used_when_server_supports_it(self) -> None:
        handle = self.accepts(ServerTLS())
        assert handle.tls is not None
        self.assertEqual(handle.tls.version, "TLSv1.3")
        self.assertTrue(handle.tls.cipher.startswith("TLS_"), handle.tls.cipher)

    @shows(
        "RFC 8314-02",
        "MUST",
        "TLS 1.2 or later; a valid certificate at the default level.",
        "``verify`` is true unless it is turned off.",
    )
    def test_tls_1_2_is_used_when_server_has_nothing_newer(self) -> None:
        handle = self.accepts(ServerTLS(newest=SSL.TLS1_2_VERSION))
        assert handle.tls is not None
        self.assertEqual(handle.tls.version, "TLSv1.2")
        self.assertTrue(handle.tls.cipher.startswith("ECDHE-"), handle.tls.cipher)

    def refuses_version(self, opening: Any) -> None:
        error = self.error(opening, TLSError)
        self.assertSays(error, "nothing newer than TLS 1.1", "refused", "operator")
        self.assertIsInstance(error.__cause__, SSL.Error)
        self.assertEqual(error.server, "pop.example.com:995")

    @shows("RFC 8314-02")
    def test_tls_1_1_server_is_refused_even_without_verification(self) -> None:
        """A server that has nothing newer is refused, also without verification."""
        for verify in (True, False):
            try:
                server = ServerTLS(newest=SSL.TLS1_1_VERSION)
            except SSL.Error as error:  # pragma: no cover
                raise SkipTest("this OpenSSL has no TLS 1.1 any more") from error
            opening = self.open(server, verify=verify)
            self.assertEqual(self.server.heard(), b"")
            self.refuses_version(opening)

    @shows("RFC 8997-01")
    @shows(
        "attack 2.8",
        "Old TLS, or weak ciphers",
        "Traffic that the attacker can read later.",
        "They are not offered, and not accepted.",
    )
    def test_server_hello_older_than_tls_1_2_is_refused(self) -> None:
        """Such an answer is refused whatever OpenSSL has: TLS 1.1, 1.0, SSL 3."""
        for version in (0x0302, 0x0301, 0x0300):
            self.server = Server(self.clock)
            opening = self.server.open(secure=1, verify=False)
            self.server.heard()
            self.server.raw(server_hello(version))
            self.refuses_version(opening)

    @shows(
        "RFC 8997-01",
        "MUST",
        "TLS 1.0 and 1.1 are refused.",
        "They are not offered, and a server that chooses them is refused.",
    )
    def test_client_hello_offers_only_tls_1_2_and_1_3(self) -> None:
        """The client offers TLS 1.2 and 1.3 (RFC 8446 section 4.2.1), no more."""
        opening = self.server.open(secure=1, verify=False)
        hello = self.server.heard()
        opening.addErrback(lambda _: None)
        self.assertIn(b"\x00\x2b\x00\x05\x04\x03\x04\x03\x03", hello)

    @shows("RFC 2595-08")
    @shows("attack 2.8")
    def test_server_with_only_weak_ciphers_is_refused(self) -> None:
        """A server without a decent cipher is refused: SHA-1, none, anonymous."""
        for ciphers in (b"ECDHE-ECDSA-AES128-SHA", b"eNULL", b"aNULL"):
            try:
                server = ServerTLS(newest=SSL.TLS1_2_VERSION, ciphers=ciphers)
            except SSL.Error:  # pragma: no cover
                continue  # this OpenSSL has it no more
            opening = self.open(server)
            self.assertEqual(self.server.heard(), b"")
            self.assertSays(self.error(opening, TLSError), "handshake failure")

    def test_no_shared_cipher_error_tells_what_server_offers(self) -> None:
        """Not even the operator could tell from OpenSSL's words what to change."""
        server = ServerTLS(
            leaf(HOST, rsa_key=True), newest=SSL.TLS1_2_VERSION, ciphers=b"AES128-SHA"
        )
        error = self.error(self.open(server), TLSError)
        self.assertSays(error, "handshake failure", "the server accepts no cipher")
        self.assertSays(error, "RSA key exchange", "operator has to change that")

    def test_openssl_error_tells_what_server_offers(self) -> None:
        """
        OpenSSL's words are followed by what the server's operator has to change.

        They are made here: today's OpenSSL, as a server, offers none of these.
        """
        for words, *explained in (
            ("dh key too small", "a Diffie-Hellman key of fewer than 2,048 bits"),
            ("modulus too small", "a Diffie-Hellman key of fewer than 2,048 bits"),
            ("sslv3 alert handshake failure", "accepts no cipher suite", "client"),
            ("ssl/tls alert handshake failure", "accepts no cipher suite"),
            ("tlsv1 alert insufficient security", "accepts no cipher suite"),
            ("unsafe legacy renegotiation disabled", "RFC 5746"),
            ("wrong signature type", "SHA-1"),
            ("tlsv1 alert protocol version", "nothing newer than TLS 1.1"),
        ):
            error = tls_error(SSL.Error([("SSL routines", "", words)]), HOST)
            self.assertSays(error, HOST, words, *explained)
            self.assertSays(error, "the server's operator has to change that")


class ServerNameTests(TLSTestCase):
    """
    The name that the client sends in the clear (RFC 6066 section 3).
    """

    def assertAsksFor(self, host: str, expected: bytes | None, **options: Any) -> None:
        server = ServerTLS(leaf("xn--bcher-kva.example.com", HOST, "192.0.2.1", "::1"))
        self.log_in(server, host, **options)
        self.server.lose()
        self.assertEqual(server.asked_for, [expected])

    def test_host_name_is_sent_as_sni(self) -> None:
        self.assertAsksFor(HOST, HOST.encode())

    def test_sni_omits_port_and_final_dot(self) -> None:
        """The name alone, as section 3 wants it: without a trailing dot."""
        self.assertAsksFor("Pop.Example.Com.:1995", HOST.encode())

    def test_international_name_is_sent_in_punycode(self) -> None:
        """International names go as A-labels."""
        self.assertAsksFor("bücher.example.com", b"xn--bcher-kva.example.com")

    def test_ip_address_is_not_sent_as_sni(self) -> None:
        """Addresses are not permitted there."""
        for host in ("192.0.2.1", "192.0.2.1:1995", "::1", "[::1]:1995"):
            self.assertAsksFor(host, None)

    def test_sni_is_sent_without_verification(self) -> None:
        """Also where nothing is verified: a server may have to choose by it."""
        self.assertAsksFor(HOST, HOST.encode(), verify=False)
        self.assertAsksFor("other.example.org", b"other.example.org", verify=False)
        self.assertAsksFor("192.0.2.1", None, verify=False)

    def test_sni_is_sent_to_a_server_that_is_then_refused(self) -> None:
        """A server that is refused was asked by name too."""
        server = ServerTLS(wrong_host())
        self.refuses(server)
        self.assertEqual(server.asked_for, [HOST.encode()])


class WithoutVerificationTests(TLSTestCase):
    """
    ``verify=False`` encrypts, whichever server answered, and says so.
    """

    @shows("RFC 8314-05")
    def test_any_certificate_is_accepted_and_reported_as_unverified(self) -> None:
        """Everything is believed, and nothing is called verified."""
        for shown in (
            right(),
            expired(),
            not_yet_valid(),
            wrong_host(),
            common_name_only(),
            self_signed(),
            unknown_ca(),
            behind_intermediate(sent=False),
        ):
            handle = self.log_in(ServerTLS(shown), verify=False)
            assert handle.tls is not None
            self.assertIs(handle.tls.verified, False)
            self.assertEqual(handle.tls.peer_certificate, shown.certificate)
            self.server.lose()

    def test_credentials_are_encrypted_without_verification(self) -> None:
        """The name and the password are not on the wire, but TLS records are."""
        self.log_in(verify=False)
        sent = b"".join(self.server.transport.writes)
        self.assertTrue(sent.startswith(b"\x16\x03"))
        for words in (b"lovelace", b"ada", b"USER", b"CAPA"):
            self.assertNotIn(words, sent)

    @shows("RFC 8314-07")
    def test_status_line_says_not_verified(self) -> None:
        """The status procedure hears it."""
        self.log_in(verify=False)
        (said,) = [line for line in self.status if line.startswith("TLS: ")]
        self.assertIn("NOT verified", said)
        self.assertIn("TLSv1.3", said)


class TLSInfoTests(TLSTestCase):
    """
    What the handle tells about TLS.
    """

    @shows(
        "RFC 8314-07",
        "SHOULD",
        "Show the user how well the session is protected.",
        "``handle.tls`` and ``handle.login``; a line for the status procedure.",
    )
    def test_verified_session_exposes_certificate_and_status_line(self) -> None:
        handle = self.log_in()
        assert handle.tls is not None
        self.assertIs(handle.tls.verified, True)
        self.assertEqual(handle.tls.peer_certificate, right().certificate)
        (said,) = [line for line in self.status if line.startswith("TLS: ")]
        self.assertIn(handle.tls.version, said)
        self.assertIn(handle.tls.cipher, said)
        self.assertIn("verified", said)
        self.assertNotIn("NOT", said)

    def test_peer_certificate_is_the_leaf_of_a_chain(self) -> None:
        """The certificate is the server's own, and not one of its CAs."""
        shown = behind_intermediate(sent=True)
        handle = self.log_in(ServerTLS(shown))
        assert handle.tls is not None
        self.assertEqual(handle.tls.peer_certificate, shown.certificate)

    def test_tls_info_remains_after_connection_is_lost(self) -> None:
        """The facts stay when the session has ended."""
        handle = self.log_in()
        self.server.lose()
        assert handle.tls is not None
        self.assertEqual(handle.tls.peer_certificate, right().certificate)
        self.assertIs(handle.tls.verified, True)

    def test_plain_session_has_no_tls_info(self) -> None:
        handle = self.server.log_in(stsproc=self.status.append)
        self.assertIsNone(handle.tls)
        self.assertEqual([line for line in self.status if line.startswith("TLS: ")], [])

    def test_repr_of_tls_info_is_short(self) -> None:
        """A repr is short: no certificate in it."""
        handle = self.log_in()
        self.assertLess(len(repr(handle.tls)), 100)


class NoTLSTests(TLSTestCase):
    """
    A server on a TLS port may not speak TLS.
    """

    def begin(self, **options: Any) -> Any:
        """
        Open a session with a server that has not answered yet.
        """
        self.server = Server(self.clock)
        options.setdefault("cacerts", self.folder([authority()]))
        return self.server.open(secure=1, stsproc=self.status.append, **options)

    def test_client_hello_is_sent_before_any_greeting(self) -> None:
        """The client does not wait for a greeting: its hello goes out at once."""
        opening = self.begin()
        self.assertTrue(self.server.heard().startswith(b"\x16\x03"))
        self.server.lose()
        self.error(opening, ConnectionLostError)

    @shows("RFC 2595-02")
    def test_plaintext_greeting_raises_error_that_suggests_secure_2(self) -> None:
        """A plain greeting: the error says what the port seems to be."""
        for greeting in (
            b"+OK ready\r\n",
            b"+OK\r\n",
            b"+OK Dovecot ready. <1a2b.3c4d@pop.example.com>\r\n",
            b"* OK IMAP4rev1 ready\r\n",
            b"220 smtp.example.com ESMTP\r\n",
            b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n",
        ):
            opening = self.begin()
            self.server.heard()
            self.server.raw(greeting)
            error = self.error(opening, TLSError)
            self.assertSays(error, "does not seem to speak TLS", "secure=2")
            self.assertIsInstance(error.__cause__, SSL.Error)
            self.assertEqual(error.server, "pop.example.com:995")
            self.assertNotIn(b"lovelace", self.server.heard())

    def test_plaintext_greeting_received_byte_by_byte_is_recognized(self) -> None:
        """Also if it comes by the octet."""
        opening = self.begin()
        for octet in b"+OK ready\r\n":
            if not self.server.transport.disconnecting:
                self.server.raw(bytes([octet]))
        self.assertSays(self.error(opening, TLSError), "does not seem to speak TLS")

    def test_garbage_instead_of_handshake_raises_tls_error(self) -> None:
        # A second byte of 3 would be the version of TLS in the header of a record, for
        # the rest of which OpenSSL may wait.
        some = os.urandom(1) + b"\x55" + os.urandom(8) + bytes(90)
        for garbage in (bytes(100), b"\xff" * 100, some):
            opening = self.begin()
            self.server.raw(garbage)
            self.error(opening, TLSError)

    def test_garbage_in_tls_record_raises_tls_error(self) -> None:
        """Something that has the form of TLS, and no sense."""
        opening = self.begin()
        self.server.raw(b"\x16\x03\x03\x00\x10" + b"\x55" * 16)
        self.error(opening, TLSError)

    def test_handshake_failure_alert_is_named_in_error(self) -> None:
        """A server may refuse the handshake (RFC 8446 section 6.2)."""
        opening = self.begin()
        self.server.raw(b"\x15\x03\x03\x00\x02\x02\x28")
        self.assertSays(self.error(opening, TLSError), "handshake failure")

    def test_unrecognized_name_alert_is_named_in_error(self) -> None:
        """A server may not know the name (RFC 6066 section 3)."""
        opening = self.begin()
        self.server.raw(b"\x15\x03\x03\x00\x02\x02\x70")
        self.assertSays(self.error(opening, TLSError), "unrecognized name")


class HandshakeTests(TLSTestCase):
    """
    A handshake has its time, may be given up, and may break off.
    """

    def begin(self, **options: Any) -> Any:
        """
        Open a session with a server that has not answered yet.
        """
        self.server = Server(self.clock)
        options.setdefault("cacerts", self.folder([authority()]))
        return self.server.open(secure=1, stsproc=self.status.append, **options)

    def test_handshake_without_reply_times_out(self) -> None:
        """The limit is that for connecting, and counts again for the handshake."""
        opening = self.begin(connect_timeout=7.0)
        self.clock.advance(6.9)
        self.assertNoResult(opening)
        self.clock.advance(0.2)
        error = self.error(opening, TimedOutError)
        self.assertEqual(error.phase, "TLS handshake")
        self.assertEqual(error.seconds, 7.0)
        self.assertSays(error, "pop.example.com:995", "TLS handshake", "7 seconds")

    def test_handshake_times_out_despite_occasional_bytes(self) -> None:
        """A byte now and then does not count as progress."""
        opening = self.begin(connect_timeout=7.0)
        for octet in server_hello(0x0303)[:6]:
            self.clock.advance(1)
            self.server.raw(bytes([octet]))
        self.assertNoResult(opening)
        self.clock.advance(1)
        self.assertEqual(self.error(opening, TimedOutError).phase, "TLS handshake")

    def test_missing_greeting_times_out_with_its_own_limit(self) -> None:
        """After the handshake the greeting is waited for, with its own limit."""
        opening = self.open(connect_timeout=7.0, timeout=20.0)
        self.clock.advance(19)
        self.assertNoResult(opening)
        self.clock.advance(1)
        error = self.error(opening, TimedOutError)
        self.assertEqual((error.phase, error.seconds), ("greeting", 20.0))
        # There is TLS already.
        self.assertNotIn("secure=1", str(error))

    def test_loss_before_server_hello_raises_connection_lost(self) -> None:
        """Nothing came: it is the connection, and not TLS, that failed."""
        opening = self.begin()
        self.server.heard()
        self.server.lose()
        error = self.error(opening, ConnectionLostError)
        self.assertSays(error, "TLS handshake", "pop.example.com:995")
        self.assertIsNotNone(error.__cause__)

    def test_loss_within_handshake_raises_connection_lost(self) -> None:
        """Lost after the first octets of an answer, or in the middle of it."""
        for size in (1, 5, 60):
            opening = self.begin()
            other = ServerTLS().serverConnectionForTLS(None)
            other.set_accept_state()
            self.server.raw(self.answer(other)[:size])
            self.assertNoResult(opening)
            self.server.lose()
            error = self.error(opening, ConnectionLostError)
            self.assertSays(error, "TLS handshake")

    def answer(self, other: SSL.Connection) -> bytes:
        """
        Return what a server answers to what the client has said in the handshake.
        """
        self.server.settle()
        other.bio_write(self.server.transport.value())
        self.server.transport.clear()
        with contextlib.suppress(SSL.WantReadError):
            other.do_handshake()
        return other.bio_read(65536)

    def test_loss_after_handshake_says_before_the_greeting(self) -> None:
        opening = self.open()
        self.server.lose()
        error = self.error(opening, ConnectionLostError)
        self.assertSays(error, "before the greeting")

    def test_loss_without_tls_shutdown_fails_pending_command(self) -> None:
        """A connection that ends without the goodbye of TLS is a loss."""
        handle = self.log_in()
        answer = handle.noop()
        self.server.expect(b"NOOP")
        self.server.lose()
        error = self.failureResultOf(answer).value
        self.assertIsInstance(error, ConnectionLostError)

    def test_cancelling_during_handshake_closes_connection(self) -> None:
        """Nothing that was opened stays open."""
        opening = self.begin()
        self.server.heard()
        opening.cancel()
        self.error(opening, CancelledError)
        self.assertTrue(self.server.transport.lost)

    def test_cancelling_before_greeting_closes_connection(self) -> None:
        opening = self.open()
        opening.cancel()
        self.error(opening, CancelledError)
        self.assertTrue(self.server.transport.lost)

    def test_handshake_received_in_pieces_of_any_size_completes(self) -> None:
        """The handshake does not depend on how the octets come."""
        for size in (1, 3, 100):
            opening = self.begin()
            other = ServerTLS(newest=SSL.TLS1_2_VERSION).serverConnectionForTLS(None)
            other.set_accept_state()
            for _ in range(2):
                answer = self.answer(other)
                for start in range(0, len(answer), size):
                    self.server.raw(answer[start : start + size])
            self.assertIn("certificate is verified", self.status.pop())
            self.server.lose()
            self.error(opening, ConnectionLostError)

    @shows("RFC 5034-10")
    def test_greeting_is_not_read_when_verification_fails(self) -> None:
        """A greeting that comes with the handshake is read after the proof only."""
        opening = self.open(ServerTLS(wrong_host()))
        self.server.say(b"+OK ready\r\n")
        self.assertEqual([line for line in self.status if "ready" in line], [])
        self.failureResultOf(opening, TLSError)

    def test_disconnect_sends_tls_shutdown(self) -> None:
        """The session ends with the goodbye of TLS (RFC 8446 section 6.1)."""
        server = ServerTLS()
        handle = self.log_in(server)
        ended = handle.disconnect()
        self.server.expect(b"QUIT", b"+OK bye\r\n")
        self.successResultOf(ended)
        connection = server.connection
        assert connection is not None
        self.assertTrue(connection.get_shutdown() & SSL.RECEIVED_SHUTDOWN)


class CreatorTests(TLSTestCase):
    """
    The connection creator, as Twisted sees it.
    """

    def test_creator_provides_client_connection_creator_interface(self) -> None:
        creator = ClientContext(None).creator(ServerAddress.parse(HOST))
        self.assertTrue(verifyObject(IOpenSSLClientConnectionCreator, creator))


class ResumptionTests(TLSTestCase):
    """
    A TLS session is resumed with the server that has proven who it is, and only so.

    Whether one is resumed can be seen by this: a resumed one shows no certificate, so
    that it does not matter if the server has a bad one by then.
    """

    def setUp(self) -> None:
        super().setUp()
        self.there = self.folder([authority()])

    def known(self, server: ServerTLS, host: str = HOST, **options: Any) -> None:
        """
        Be a server that the client has logged in to before, and has a session with.
        """
        options.setdefault("cacerts", self.there)
        self.disconnect(self.log_in(server, host, **options))
        server.show(expired())

    def disconnect(self, handle: Handle) -> None:
        """
        End a session as it should end; OpenSSL resumes none that just broke off.
        """
        ended = handle.disconnect()
        self.server.expect(b"QUIT", b"+OK bye\r\n")
        self.successResultOf(ended)

    def test_resumed_session_is_verified_and_keeps_certificate(self) -> None:
        """It is as good as the one before: verified, with its certificate."""
        for newest in (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION):
            self.there = self.folder([authority()])
            server = ServerTLS(newest=newest)
            self.known(server)
            for _ in range(3):
                handle = self.log_in(server, cacerts=self.there)
                self.disconnect(handle)
                assert handle.tls is not None
                self.assertIs(handle.tls.verified, True)
                self.assertEqual(handle.tls.peer_certificate, right().certificate)

    @shows(
        "attack 2.6",
        "A server with another certificate resumes a session",
        "The session, on the proof of the server before it.",
        "Only a server with the keys of the session can resume it; any other has to "
        "prove its identity. A session can be resumed for an hour, and not after its "
        "certificate has expired.",
    )
    def test_impostor_without_session_keys_is_refused(self) -> None:
        """A server without the keys of that session has to prove its identity."""
        self.known(ServerTLS())
        for shown in (unknown_ca(), wrong_host(), expired(), self_signed()):
            self.refuses(shown, cacerts=self.there)

    def test_restarted_server_is_verified_again(self) -> None:
        """A server that was restarted proves its identity again."""
        self.known(ServerTLS())
        self.accepts(ServerTLS(), cacerts=self.there)

    @shows("attack 2.4")
    def test_session_is_not_resumed_under_another_name_or_port(self) -> None:
        """The same server under another name proves that one."""
        server = ServerTLS(leaf("a.example.com"))
        self.known(server, "a.example.com")
        self.refuses(server, "b.example.com", cacerts=self.there)
        self.refuses(server, "a.example.com:1995", cacerts=self.there)
        self.accepts(server, "a.example.com", cacerts=self.there)

    @shows(
        "attack 2.4",
        "Trust changes between two connections of one pool, and the second resumes TLS",
        "The session, although the attacker's certificate is no longer trusted.",
        "TLS sessions are dropped when the folder changes, and are not resumed with "
        "other trust, another name or another account.",
    )
    def test_session_is_not_resumed_after_folder_changed(self) -> None:
        """A folder that has changed ends it: trust may have been withdrawn."""
        server = ServerTLS()
        self.known(server)
        (self.there / "one more.pem").write_bytes(unknown_ca().pem)
        self.refuses(server, cacerts=self.there)

    @shows("attack 2.4")
    def test_session_is_not_resumed_with_another_folder(self) -> None:
        """A proof counts only for the trust that it was made under."""
        server = ServerTLS()
        self.known(server)
        others = self.folder([authority("Somebody Else's CA")])
        self.refuses(server, cacerts=others)

    @shows("attack 2.4")
    def test_unverified_session_is_not_resumed_with_verification(self) -> None:
        """A session without verification proves nothing to one with it."""
        server = ServerTLS(wrong_host())
        self.known(server, verify=False)
        self.refuses(server, cacerts=self.there)

    @shows("RFC 8314-06")
    @shows("attack 2.4")
    def test_session_with_client_certificate_is_not_resumed_without_it(self) -> None:
        """A session that began with a client certificate stays with it."""
        server = ServerTLS(client_ca=authority())
        ours = client_identity()
        file = self.folder({"ours": ours.pem + ours.key_pem}) / "ours"
        self.known(server, client_certificate=file)
        server.show(right())
        self.error(self.open(server, cacerts=self.there), TLSError)
        self.assertEqual(server.client_chain, [])

    def test_session_is_not_kept_when_login_did_not_succeed(self) -> None:
        """A session is kept when the login has succeeded, and not before."""
        server = ServerTLS()
        opening = self.open(server, cacerts=self.there)
        self.server.say(b"+OK ready\r\n")
        self.server.lose()
        self.error(opening, ConnectionLostError)
        server.show(expired())
        self.refuses(server, cacerts=self.there)

    def kept(self) -> tuple[ClientContext, ServerAddress, Any]:
        """
        Return the context, the address, and the session that is kept for it.
        """
        context: Any = self.last_context
        assert context is not None
        address = ServerAddress.parse(HOST, 995)
        return context, address, context.resumable(address)

    @shows("attack 2.6")
    def test_session_expires_after_an_hour_even_if_resumed(self) -> None:
        """It ends after an hour, and being resumed makes it no longer."""
        server = ServerTLS()
        self.known(server)
        context, address, kept = self.kept()
        self.assertLessEqual(kept.not_after, time.time() + 3600)
        self.assertGreater(kept.not_after, time.time() + 3500)
        earlier = attrs.evolve(kept, not_after=kept.not_after - 1800)
        context.remember(address, earlier)
        self.disconnect(self.log_in(server, cacerts=self.there))
        kept = self.kept()[2]
        self.assertEqual(kept.not_after, earlier.not_after)
        context.remember(address, attrs.evolve(kept, not_after=time.time() - 1))
        self.refuses(server, cacerts=self.there)

    @shows("attack 2.6")
    def test_session_expires_with_its_certificate(self) -> None:
        """It ends with the certificate that it was proven by."""
        now = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
        end = now + datetime.timedelta(minutes=10)
        self.known(ServerTLS(leaf(HOST, end=end)))
        self.assertLessEqual(self.kept()[2].not_after, time.time() + 600)

    def test_oldest_sessions_are_forgotten_with_many_servers(self) -> None:
        """Sessions of ten thousand servers are not all kept."""
        self.known(ServerTLS())
        context, _, kept = self.kept()
        addresses = [
            ServerAddress(f"{number}.example.com", 995, False)
            for number in range(10_000)
        ]
        for address in addresses:
            context.remember(address, kept)
        alive = [address for address in addresses if context.resumable(address)]
        self.assertLess(len(alive), 1000)
        self.assertEqual(alive, addresses[-len(alive) :])

    def test_oldest_failures_to_resume_are_forgotten_with_many_servers(self) -> None:
        self.known(ServerTLS())
        context, _, kept = self.kept()
        addresses = [
            ServerAddress(f"{number}.example.com", 995, False)
            for number in range(5_000)
        ]
        for address in addresses:
            context.never_resume(address)
        refused = []
        for address in addresses:
            context.remember(address, kept)
            if context.resumable(address) is None:
                refused.append(address)
        self.assertLess(len(refused), 2_000)
        self.assertEqual(refused, addresses[-len(refused) :])


class ChannelBindingTests(TLSTestCase):
    """
    What a login can be bound to, so that an attacker in the middle cannot pass it on.
    """

    def setUp(self) -> None:
        super().setUp()
        trust = Trust.choose(self.folder([authority()]), False, {})
        self.context = ClientContext(trust)

    def bindings(self, server: ServerTLS) -> dict[str, bytes]:
        creator = ClientContext(None).creator(ServerAddress.parse(HOST))
        shake_hands_over(creator.clientConnectionForTLS(cast(Any, None)), server)
        return dict(creator.channel_bindings())

    def creators(self, server: ServerTLS) -> list[ConnectionCreator]:
        """
        Return what made two connections, one after the other.
        """
        address = ServerAddress.parse(HOST)
        creators = [self.context.creator(address), self.context.creator(address)]
        for creator in creators:
            ours = creator.clientConnectionForTLS(cast(Any, None))
            shake_hands_over(ours, server)
            creator.finish()
            creator.remember()
        return creators

    @shows(
        "RFC 9266-01",
        "MUST",
        "``tls-exporter``: its label, no context, 32 octets; with TLS 1.2 only under "
        "the extended master secret.",
        "It is used with TLS 1.3 only. With TLS 1.2, and with servers that do not "
        "know it, ``tls-server-end-point`` is used.",
    )
    def test_exporter_binding_matches_server_and_differs_per_connection(self) -> None:
        """Both sides come to the same octets (RFC 9266 section 2)."""
        server = ServerTLS()
        bindings = self.bindings(server)
        self.assertEqual(
            list(bindings), ["tls-exporter", "tls-server-end-point", "tls-unique"]
        )
        assert server.connection is not None
        self.assertEqual(
            bindings["tls-exporter"],
            server.connection.export_keying_material(
                b"EXPORTER-Channel-Binding", 32, b""
            ),
        )
        self.assertNotEqual(
            self.bindings(server)["tls-exporter"], bindings["tls-exporter"]
        )

    @shows("RFC 5929-01")
    def test_end_point_binding_uses_hash_of_certificate_signature(self) -> None:
        """The hash of the certificate, by the hash of its signature (RFC 5929)."""
        for digest in ("SHA256", "SHA384", "SHA512"):
            shown = leaf(HOST, digest=digest)
            self.assertEqual(
                self.bindings(ServerTLS(shown))["tls-server-end-point"],
                shown.certificate.fingerprint(getattr(hashes, digest)()),
            )

    @shows("RFC 9266-01")
    def test_exporter_binding_is_unavailable_with_tls_1_2(self) -> None:
        """With TLS 1.2 it would need the extended master secret (RFC 9266)."""
        server = ServerTLS(newest=SSL.TLS1_2_VERSION)
        bindings = self.bindings(server)
        self.assertEqual(list(bindings), ["tls-server-end-point", "tls-unique"])

    @shows("RFC 5929-01")
    def test_end_point_binding_is_unavailable_with_ed25519(self) -> None:
        """RFC 5929 does not define it for a signature algorithm without a hash."""
        shown = leaf(HOST, by=authority_with_ed25519())
        bindings = self.bindings(ServerTLS(shown))
        self.assertEqual(list(bindings), ["tls-exporter", "tls-unique"])

    def test_end_point_binding_is_unavailable_if_certificate_cannot_be_parsed(
        self,
    ) -> None:
        """Where nothing is verified, a server may show any; OpenSSL takes these."""
        shown = leaf(HOST, "localhost")
        for what in ("time", "version", "critical"):
            server = ServerTLS(shown, der=odd_certificates(shown)[what])
            bindings = self.bindings(server)
            self.assertEqual(list(bindings), ["tls-exporter", "tls-unique"], what)

    @shows(
        "RFC 5929-01",
        "MUST",
        "``tls-unique`` not with TLS 1.3; ``tls-server-end-point`` by the hash of the "
        "certificate's signature, SHA-256 for MD5 and SHA-1.",
        "One deviation: with TLS 1.3, ``tls-unique`` is used too. It is the last type "
        "to be tried, and the first with Cyrus, which knows no other "
        "(:ref:`tls-unique`).",
    )
    def test_unique_binding_is_the_finished_message_of_the_client(self) -> None:
        """RFC 5929 section 3.1, for a full handshake; TLS 1.3 does the same."""
        for newest in (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION):
            server = ServerTLS(newest=newest)
            unique = self.bindings(server)["tls-unique"]
            assert server.connection is not None
            self.assertEqual(unique, server.connection.get_peer_finished())
            self.assertNotEqual(self.bindings(server)["tls-unique"], unique)

    @shows("RFC 5929-01")
    def test_unique_binding_is_unavailable_where_a_session_was_offered(self) -> None:
        first, second = self.creators(ServerTLS(newest=SSL.TLS1_2_VERSION))
        self.assertIn("tls-unique", dict(first.channel_bindings()))
        self.assertNotIn("tls-unique", dict(second.channel_bindings()))

    def test_login_bound_by_tls_unique_ends_resumption_with_that_server(self) -> None:
        server = ServerTLS(newest=SSL.TLS1_2_VERSION)
        creator = self.creators(server)[0]
        creator.bound_by("tls-unique")
        later = self.creators(server)
        for creator in later:
            self.assertIn("tls-unique", dict(creator.channel_bindings()))
            self.assertEqual(creator.known_binding(), "tls-unique")

    def test_refused_binding_drops_the_session_and_what_worked_before(self) -> None:
        server = ServerTLS(newest=SSL.TLS1_2_VERSION)
        creator = self.creators(server)[1]
        creator.bound_by("tls-server-end-point")
        self.assertEqual(creator.known_binding(), "tls-server-end-point")
        creator.bound_by(None)
        self.assertIsNone(creator.known_binding())
        first, second = self.creators(server)
        self.assertIn("tls-unique", dict(first.channel_bindings()))
        self.assertNotIn("tls-unique", dict(second.channel_bindings()))

    def test_oldest_bindings_are_forgotten_with_many_servers(self) -> None:
        addresses = [
            ServerAddress(f"{number}.example.com", 995, False)
            for number in range(5_000)
        ]
        for address in addresses:
            self.context.bound_by(address, "tls-exporter")
        known = [a for a in addresses if self.context.known_binding(a)]
        self.assertLess(len(known), 2_000)
        self.assertEqual(known, addresses[-len(known) :])


class ClientCertificateTests(TLSTestCase):
    """
    A certificate of our own (RFC 8314 section 5.5): given where it is asked for.
    """

    def setUp(self) -> None:
        super().setUp()
        self.ours = client_identity("ada")
        self.asking = ServerTLS(client_ca=authority())

    def write(self, **files: bytes) -> Path:
        return self.folder({f"{name}.txt": data for name, data in files.items()})

    def one_file(self, shown: Shown | None = None) -> Path:
        """
        Return a file with certificate, chain and key.
        """
        shown = shown or self.ours
        chain = b"".join(
            certificate.public_bytes(Encoding.PEM) for certificate in shown.chain
        )
        folder = self.write(both=shown.pem + chain + shown.key_pem)
        return folder / "both.txt"

    def two_files(self) -> tuple[Path, Path]:
        folder = self.write(certificate=self.ours.pem, key=self.ours.key_pem)
        return folder / "certificate.txt", folder / "key.txt"

    def assertGiven(self, certificate: Any, **options: Any) -> None:
        self.log_in(self.asking, client_certificate=certificate, **options)
        self.assertEqual(self.asking.client_chain[:1], [self.ours.certificate])
        self.server.lose()

    def test_certificate_from_combined_file_is_presented(self) -> None:
        self.assertGiven(self.one_file())
        self.assertGiven(str(self.one_file()))

    def test_certificate_is_presented_when_key_comes_first_in_file(self) -> None:
        """The order in the file is of no importance."""
        folder = self.write(both=self.ours.key_pem + self.ours.pem)
        self.assertGiven(folder / "both.txt")

    def test_key_of_any_kind_and_label_is_presented(self) -> None:
        """PKCS #8 or the older formats; behind parameters, as OpenSSL writes them."""
        rsa = strong_rsa_key()
        edwards = ed25519.Ed25519PrivateKey.generate()
        older, pkcs8 = PrivateFormat.TraditionalOpenSSL, PrivateFormat.PKCS8
        parameters = (
            b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n"
            b"-----END EC PARAMETERS-----\n"
        )
        for own, written, before in (
            (key(), pkcs8, b""),
            (key(), older, parameters),
            (rsa, pkcs8, b"Bag Attributes\n    friendlyName: ours\n"),
            (rsa, older, b""),
            (edwards, pkcs8, b""),
        ):
            self.ours = leaf(own=own, purpose=ExtendedKeyUsageOID.CLIENT_AUTH)
            pem = own.private_bytes(Encoding.PEM, written, NoEncryption())
            folder = self.write(both=before + pem + self.ours.pem)
            self.assertGiven(folder / "both.txt")

    def test_certificate_from_two_files_is_presented(self) -> None:
        certificate, key_file = self.two_files()
        self.assertGiven((certificate, key_file))
        self.assertGiven((str(certificate), str(key_file)))

    def test_twisted_private_certificate_is_presented(self) -> None:
        """Twisted's own will do."""
        self.assertGiven(self.private_certificate())

    def private_certificate(self) -> PrivateCertificate:
        pem = self.ours.pem + self.ours.key_pem
        loaded: PrivateCertificate = PrivateCertificate.loadPEM(pem.decode())
        return loaded

    def test_each_account_presents_its_own_private_certificate(self) -> None:
        """Each has its own, again and again."""
        folder = self.folder([authority()])
        accounts = []
        for who in ("ada", "grace"):
            self.ours = client_identity(who)
            accounts.append((self.ours, self.private_certificate()))
        for _ in range(2):
            for self.ours, certificate in accounts:
                self.assertGiven(certificate, cacerts=folder)

    def test_no_kind_of_certificate_makes_pyopenssl_warn(self) -> None:
        for certificate in (
            self.one_file(),
            self.two_files(),
            self.private_certificate(),
        ):
            self.assertGiven(certificate)
        self.assertEqual(self.flushWarnings(), [])

    def test_hand_over_wraps_for_releases_that_take_only_their_own_types(self) -> None:
        taken: list[object] = []

        def before_24_3(value: object) -> None:
            if not isinstance(value, (crypto.X509, crypto.PKey)):
                raise TypeError("cert must be an X509 instance")
            taken.append(value)

        for value in (self.ours.certificate, key()):
            hand_over(before_24_3, value)
        certificate, private_key = taken
        self.assertIsInstance(certificate, crypto.X509)
        self.assertIsInstance(private_key, crypto.PKey)

    def test_unusable_key_is_not_in_the_traceback_of_the_error(self) -> None:
        broken = self.ours.key_pem.replace(b"-----END", b"!\n-----END", 1)
        file = self.write(both=self.ours.pem + broken) / "both.txt"
        for other in (self.one_file(leaf("other.example.com", weak=True)), file):
            with self.assertRaises(UsageError) as caught:
                ClientContext(None, (self.two_files()[0], other))
            error: BaseException | None = caught.exception
            while error is not None:
                for frame, _ in traceback.walk_tb(error.__traceback__):
                    if frame.f_code is not sys._getframe().f_code:
                        self.assertNotIn("PRIVATE KEY", repr(frame.f_locals))
                error = error.__cause__

    def test_certificate_is_presented_over_tls_1_2(self) -> None:
        self.asking = ServerTLS(client_ca=authority(), newest=SSL.TLS1_2_VERSION)
        self.assertGiven(self.one_file())

    def test_certificate_is_presented_without_verification(self) -> None:
        """Whether the server is verified is another matter."""
        self.assertGiven(self.one_file(), verify=False)

    def test_chain_in_file_is_presented(self) -> None:
        """The chain in the file is sent along, as the server may need it."""
        above = certificate_of(intermediate())
        shown = leaf(
            by=intermediate(), purpose=ExtendedKeyUsageOID.CLIENT_AUTH, chain=(above,)
        )
        self.log_in(self.asking, client_certificate=self.one_file(shown))
        self.assertEqual(self.asking.client_chain, [shown.certificate, above])

    def test_certificate_is_not_presented_unless_requested(self) -> None:
        """A server that does not ask for it gets none."""
        server = ServerTLS()
        self.log_in(server, client_certificate=self.one_file())
        self.assertEqual(server.client_chain, [])

    def test_missing_required_certificate_raises_tls_error(self) -> None:
        """The server requires a certificate and gets none: the error says so."""
        for newest in (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION):
            server = ServerTLS(client_ca=authority(), newest=newest)
            opening = self.open(server)
            error = self.error(opening, TLSError)
            self.assertIsInstance(error.__cause__, SSL.Error)
            self.assertEqual(error.server, "pop.example.com:995")

    def test_certificate_refused_by_server_raises_tls_error(self) -> None:
        """Ours is from a CA that the server does not know."""
        for newest in (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION):
            somebody = authority("Somebody Else's CA")
            server = ServerTLS(client_ca=somebody, newest=newest)
            opening = self.open(server, client_certificate=self.one_file())
            self.assertSays(self.error(opening, TLSError), "unknown ca")

    def test_changed_certificate_file_is_used_for_next_connection(self) -> None:
        """A renewed certificate counts at the next connection."""
        folder = self.folder([authority()])
        file = self.one_file()
        self.assertGiven(file, cacerts=folder)
        self.ours = client_identity("grace")
        file.write_bytes(self.ours.pem + self.ours.key_pem)
        self.assertGiven(file, cacerts=folder)

    @shows(
        "RFC 8314-06",
        "MUST",
        "A client certificate is for its account only; then EXTERNAL.",
        "Each client certificate has its own contexts and TLS sessions.",
    )
    def test_certificate_is_not_presented_for_another_account(self) -> None:
        """It goes with its account only (RFC 8314 section 5.5)."""
        folder = self.folder([authority()])
        self.assertGiven(self.one_file(), cacerts=folder)
        self.error(self.open(self.asking, cacerts=folder), TLSError)
        self.ours = client_identity("grace")
        self.assertGiven(self.one_file(), cacerts=folder)

    def assertUnusable(self, certificate: Any, *words: object) -> None:
        error = self.rejects(
            UsageError,
            client_certificate=certificate,
            cacerts=self.folder([authority()]),
        )
        self.assertSays(error, "client_certificate", *words)

    def test_missing_file_is_named_in_error(self) -> None:
        """The file is named."""
        missing = self.write() / "nowhere.pem"
        self.assertUnusable(missing, missing)
        self.assertUnusable((self.one_file(), missing), missing)
        self.assertUnusable((missing, self.one_file()), missing)

    def test_file_without_pem_is_rejected(self) -> None:
        folder = self.write(junk=b"this is no certificate", empty=b"")
        for name in ("junk.txt", "empty.txt"):
            self.assertUnusable(folder / name, "PEM")

    def test_folder_as_certificate_is_rejected(self) -> None:
        self.assertUnusable(self.write())

    def test_incomplete_or_swapped_certificate_and_key_are_rejected(self) -> None:
        """A certificate without a key, and a key without a certificate."""
        certificate, key_file = self.two_files()
        self.assertUnusable(certificate)
        self.assertUnusable(key_file)
        self.assertUnusable((key_file, certificate))

    def test_key_of_another_certificate_is_rejected(self) -> None:
        other = leaf("other.example.com", weak=True)
        folder = self.write(other=other.key_pem)
        self.assertUnusable((self.two_files()[0], folder / "other.txt"))

    def test_value_that_is_neither_path_nor_pair_is_rejected(self) -> None:
        """A value that is not a path or a pair is the caller's mistake."""
        certificate, key_file = self.two_files()
        for thing in (
            b"bytes",
            3,
            object(),
            (),
            [certificate, key_file],
            {"cert": certificate},
            (None, None),
            (certificate, None),
            "a\0b",
        ):
            try:
                self.assertUnusable(thing)
            except (TypeError, ValueError) as error:
                self.fail(f"{thing!r}: {error!r}")

    def test_tuple_of_three_files_is_rejected(self) -> None:
        """It is not clear which two of three are meant."""
        certificate, key_file = self.two_files()
        self.assertUnusable((certificate, self.one_file(), key_file))

    def test_certificate_without_tls_is_rejected(self) -> None:
        """It would be forgotten silently."""
        error = self.rejects(UsageError, secure=0, client_certificate=self.one_file())
        self.assertSays(error, "client_certificate", "TLS")

    def test_encrypted_key_is_rejected_without_asking_for_passphrase(self) -> None:
        """
        A key with a passphrase is refused; a server process has no terminal.

        OpenSSL would ask for it there, and the reactor would wait.
        """
        encrypted = key().private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"sesame")
        )
        file = self.write(both=self.ours.pem + encrypted) / "both.txt"
        program = textwrap.dedent(
            """
            import sys
            from pop3connect import UsageError
            from pop3connect.tls.context import ClientContext
            try:
                ClientContext(None, sys.argv[1])
            except UsageError:
                print("refused")
            """
        )
        root = Path(pop3connect.__file__).parent.parent
        done = subprocess.run(
            [sys.executable, "-c", program, str(file)],
            env={**os.environ, "PYTHONPATH": str(root)},
            # Without a terminal OpenSSL asks standard input.
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )
        self.assertEqual(done.stdout, "refused\n", done.stderr)
        self.assertEqual(done.stderr, "")
