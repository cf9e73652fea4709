"""
Pins: a server is known by its key, beside its certificate or instead of it.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
from typing import Any, cast

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from OpenSSL import SSL, crypto

from pop3connect import Handle, UsageError, VerificationError
from pop3connect.address import ServerAddress
from pop3connect.tls.context import ClientContext
from pop3connect.tls.pins import pin_of
from pop3connect.tls.trust import Trust

from ..support.certificates import (
    HOST,
    ServerTLS,
    TLSTestCase,
    authority,
    behind_intermediate,
    client_identity,
    expired,
    key,
    leaf,
    odd_certificates,
    right,
    self_signed,
    shake_hands_over,
    strong_rsa_key,
    unknown_ca,
    wrong_host,
)
from ..support.shows import shows


def pin(own: Any) -> str:
    """
    Compute the pin of a key, without pop3connect.
    """
    info = own.public_key().public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )
    return "sha256//" + base64.b64encode(hashlib.sha256(info).digest()).decode()


OTHER_PIN = pin(ec.generate_private_key(ec.SECP256R1()))


class PinOfTests(TLSTestCase):
    def test_pin_is_the_hash_of_the_public_key_for_each_kind_of_key(self) -> None:
        for own in (key(), strong_rsa_key(), ed25519.Ed25519PrivateKey.generate()):
            shown = leaf(HOST, own=own)
            certificate = crypto.X509.from_cryptography(shown.certificate)
            self.assertEqual(pin_of(certificate), pin(own))


class BesideChainTests(TLSTestCase):
    """
    With ``verify=True`` the chain, the name and the pin are all checked.
    """

    @shows(
        "certificate 4.1",
        "has one of the pins, and the certificate is trusted",
        "yes",
    )
    def test_right_certificate_with_a_matching_pin_is_accepted(self) -> None:
        handle = self.accepts(right(), pins=[pin(key())])
        assert handle.tls is not None
        self.assertEqual(handle.tls.verified_by, "chain")

    @shows("certificate 4.1")
    def test_one_matching_pin_of_several_suffices(self) -> None:
        self.accepts(right(), pins=[OTHER_PIN, pin(key())])

    def test_without_pins_the_chain_is_what_verified(self) -> None:
        handle = self.accepts(right())
        assert handle.tls is not None
        self.assertEqual(handle.tls.verified_by, "chain")

    @shows("feature 1.4", "Pins", "``pins=``, the hash of the server's key")
    @shows(
        "attack 2.5",
        "A certificate for the right name, from a CA that was deceived",
        "The name, the password and the mail.",
        "With ``pins`` refused in the handshake, because the key is another.",
    )
    @shows("certificate 4.3", "has none of the pins", "no: names its pin")
    def test_other_key_is_refused_with_its_pin_and_remedy(self) -> None:
        for newest in (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION):
            server = ServerTLS(right(), newest=newest)
            error = self.refuses(server, pins=[OTHER_PIN])
            self.assertSays(error, pin(key()), "not among the 1 expected", "operator")
            self.assertSays(error, "add its pin to pins")
            self.assertEqual(error.certificate, right().certificate)
            self.assertEqual(error.server, f"{HOST}:995")

    @shows(
        "certificate 4.2",
        "has one of the pins, and the certificate is not trusted",
        "only with ``verify=False``",
    )
    def test_matching_pin_does_not_excuse_a_bad_certificate(self) -> None:
        for shown in (expired(), wrong_host(), unknown_ca(), self_signed()):
            error = self.refuses(shown, pins=[pin(key())])
            self.assertNotIn("sha256//", str(error))

    @shows("certificate 4.4", "has none of them, and that of its CA has", "no")
    def test_pin_of_the_ca_does_not_count(self) -> None:
        ca = authority().cert_pem.bytes()
        issuer = crypto.load_certificate(crypto.FILETYPE_PEM, ca)
        shown = leaf(HOST, chain=(issuer.to_cryptography(),))
        self.refuses(shown, pins=[cast(str, pin_of(issuer))])


class InsteadOfChainTests(TLSTestCase):
    """
    With ``verify=False`` the pin alone decides.
    """

    @shows("RFC 8314-05")
    @shows("certificate 4.2")
    def test_matching_pin_verifies_any_certificate_with_that_key(self) -> None:
        for shown in (right(), expired(), wrong_host(), unknown_ca(), self_signed()):
            handle = self.accepts(shown, verify=False, pins=[pin(key())])
            assert handle.tls is not None
            self.assertEqual(handle.tls.verified_by, "pin")

    def test_keys_of_the_cas_that_the_server_sends_do_not_count(self) -> None:
        shown = behind_intermediate(sent=True)
        self.accepts(shown, verify=False, pins=[pin(key())])
        (above,) = shown.chain
        own = cast(str, pin_of(crypto.X509.from_cryptography(above)))
        error = self.refuses(shown, verify=False, pins=[own])
        self.assertSays(error, pin(key()))

    def test_status_line_says_verified_by_its_pin(self) -> None:
        self.accepts(self_signed(), verify=False, pins=[pin(key())])
        (said,) = [line for line in self.status if line.startswith("TLS: ")]
        self.assertIn("is verified by its pin", said)

    @shows("attack 2.5")
    @shows("certificate 4.3")
    def test_other_key_is_refused_and_told_nothing(self) -> None:
        for shown in (right(), self_signed(), unknown_ca()):
            error = self.refuses(shown, verify=False, pins=[OTHER_PIN])
            self.assertSays(error, pin(key()))

    @shows("attack 2.5")
    def test_client_certificate_is_not_shown_to_a_server_with_another_key(
        self,
    ) -> None:
        """The check is made in the handshake, before the client's certificate goes."""
        ours = client_identity()
        file = self.folder({"ours": ours.pem + ours.key_pem}) / "ours"
        server = ServerTLS(client_ca=authority())
        self.refuses(server, verify=False, pins=[OTHER_PIN], client_certificate=file)
        self.assertEqual(server.client_chain, [])

    @shows("certificate 4.2")
    def test_certificate_that_cannot_be_parsed_is_judged_by_its_key(self) -> None:
        shown = leaf(HOST, "localhost")
        for what in ("time", "version", "critical"):
            server = ServerTLS(shown, der=odd_certificates(shown)[what])
            handle = self.accepts(server, verify=False, pins=[pin(key())])
            assert handle.tls is not None
            self.assertIsNone(handle.tls.peer_certificate, what)
            server = ServerTLS(shown, der=odd_certificates(shown)[what])
            error = self.refuses(server, verify=False, pins=[OTHER_PIN])
            self.assertSays(error, pin(key()))
            self.assertIsNone(error.certificate, what)

    def test_without_pins_nothing_is_verified(self) -> None:
        handle = self.log_in(verify=False)
        assert handle.tls is not None
        self.assertIsNone(handle.tls.verified_by)


class StlsTests(TLSTestCase):
    @shows("attack 2.5")
    def test_other_key_after_stls_is_refused_before_the_login(self) -> None:
        opening = self.server.open(secure=2, verify=False, pins=[OTHER_PIN])
        self.server.say(b"+OK\r\n")
        self.server.expect(b"CAPA", b"+OK\r\nSTLS\r\n.\r\n")
        self.server.expect(b"STLS", b"+OK\r\n")
        self.server.start_tls(ServerTLS())
        error = self.error(opening, VerificationError)
        self.assertSays(error, pin(key()))
        self.assertEqual(error.verb, "STLS")
        self.assertEqual(self.server.heard(), b"")


class ResumptionTests(TLSTestCase):
    """
    TLS sessions are kept per pins, and the key of a resumed one is checked as well.
    """

    def test_session_of_a_pinned_server_is_resumed(self) -> None:
        """A resumed session shows no certificate, and the pin is known from before."""
        for options in ({"verify": False}, {"cacerts": self.folder([authority()])}):
            server = ServerTLS()
            pins = [pin(key())]
            self.end(self.log_in(server, pins=pins, **options))
            # If it were not resumed, this would be refused.
            server.show(leaf(HOST, own=ec.generate_private_key(ec.SECP256R1())))
            handle = self.log_in(server, pins=pins, **options)
            assert handle.tls is not None
            self.assertTrue(handle.tls.verified)
            self.end(handle)

    def end(self, handle: Handle) -> None:
        ended = handle.disconnect()
        self.server.expect(b"QUIT", b"+OK\r\n")
        self.server.lose()
        self.successResultOf(ended)

    @shows("attack 2.5")
    def test_session_is_not_resumed_under_other_pins(self) -> None:
        server = ServerTLS()
        self.end(self.log_in(server, verify=False, pins=[pin(key())]))
        self.refuses(server, verify=False, pins=[OTHER_PIN])
        self.end(self.log_in(server, verify=False))
        self.refuses(server, verify=False, pins=[OTHER_PIN])

    @shows("certificate 4.3")
    def test_key_of_a_resumed_session_is_checked(self) -> None:
        """OpenSSL shows no certificate then, so the handshake cannot compare it."""
        address = ServerAddress.parse(HOST)
        for newest in (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION):
            server = ServerTLS(newest=newest)
            context = ClientContext(None, pins=(pin(key()),))
            creator = context.creator(address)
            ours = creator.clientConnectionForTLS(cast(Any, None))
            shake_hands_over(ours, server)
            with contextlib.suppress(SSL.WantReadError):
                # The ticket of TLS 1.3 comes after the handshake.
                ours.recv(1)
            creator.finish()
            creator.remember()
            context.pins = (OTHER_PIN,)
            creator = context.creator(address)
            shake_hands_over(creator.clientConnectionForTLS(cast(Any, None)), server)
            with self.assertRaises(VerificationError) as caught:
                creator.finish()
            self.assertSays(caught.exception, pin(key()))


class BadPinTests(TLSTestCase):
    """
    A pin that cannot match is an error before anything is sent.
    """

    def test_value_that_is_not_a_pin_is_shown_with_the_right_form(self) -> None:
        good = pin(key())
        for bad in (
            "",
            good.removeprefix("sha256//"),
            good.replace("sha256", "sha1"),
            good[:-1],
            good + "=",
            good + ";" + good,
            good + "\n",
            f"sha256//{'A' * 42}B=",
            hashlib.sha256(b"").hexdigest(),
            good.encode(),
            7,
        ):
            error = self.rejects(UsageError, pins=[good, bad])
            self.assertSays(error, "pins: ", "'sha256//' and the base64", "info")
            self.assertSays(error, repr(bad)[:50])

    def test_value_that_is_not_a_list_is_refused(self) -> None:
        for bad in (pin(key()), b"sha256//", 7, True):
            error = self.rejects(UsageError, pins=bad)
            self.assertSays(error, "pins must be a list", type(bad).__name__)

    def test_empty_list_is_refused(self) -> None:
        """It would check nothing, where the program meant to pin something."""
        for empty in ([], ()):
            for verify in (True, False):
                error = self.rejects(UsageError, pins=empty, verify=verify)
                self.assertSays(error, "pins is empty", "leave the option out")

    def test_pins_without_tls_are_refused(self) -> None:
        error = self.rejects(UsageError, pins=[pin(key())], secure=0)
        self.assertSays(error, "pins is of no use without TLS", "set secure=1")


class TrustTests(TLSTestCase):
    def test_folder_is_not_read_where_only_the_pin_counts(self) -> None:
        missing = self.folder({}) / "missing"
        self.accepts(right(), verify=False, pins=[pin(key())], cacerts=missing)
        with self.assertRaises(UsageError):
            Trust.choose(missing, False, {})
