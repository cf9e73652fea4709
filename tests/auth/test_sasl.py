"""The mechanisms to log in with, by the octets that they make."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from typing import Any

import scramp
from scramp import ScramClient
from twisted.trial.unittest import SynchronousTestCase

from pop3connect import UsageError
from pop3connect.auth.sasl import (
    MECHANISMS,
    Credentials,
    SASLError,
    UnusableError,
    apop_challenge,
    apop_digest,
    decode_challenge,
    encode_response,
    forms,
    make_mechanism,
)
from pop3connect.redaction import Secret

from ..support.shows import shows


def credentials(
    username: str = "tim", password: str = "tanstaaftanstaaf"
) -> Credentials:
    return Credentials(username, Secret(password))


class CredentialsTests(SynchronousTestCase):
    """Name and password while they are needed."""

    def test_password_is_not_shown_in_repr(self) -> None:
        shown = repr(credentials(password="hidden"))
        self.assertIn("tim", shown)
        self.assertNotIn("hidden", shown)


class PlainTests(SynchronousTestCase):
    """PLAIN (RFC 4616)"""

    def initial(self, username: str, password: str) -> bytes | None:
        return MECHANISMS["PLAIN"](credentials(username, password)).initial()

    def test_initial_response_matches_example_of_rfc_4616(self) -> None:
        self.assertEqual(
            self.initial("tim", "tanstaaftanstaaf"), b"\0tim\0tanstaaftanstaaf"
        )

    def test_non_ascii_name_and_password_are_encoded_as_utf_8(self) -> None:
        self.assertEqual(
            self.initial("zo\u00eb", " \u20ac "), b"\0zo\xc3\xab\0 \xe2\x82\xac "
        )

    def test_plain_has_its_name_and_is_marked_cleartext(self) -> None:
        plain = MECHANISMS["PLAIN"](credentials())
        self.assertEqual((plain.name, plain.cleartext), ("PLAIN", True))

    def test_every_mechanism_is_registered_under_its_own_name(self) -> None:
        for name, kind in MECHANISMS.items():
            self.assertEqual(vars(kind)["name"], name)


class SurrogateTests(SynchronousTestCase):
    """
    Names and passwords with surrogates, those that stand for a byte and others.

    They are sent or they are a `UsageError`.  A `UnicodeEncodeError` would be neither
    expected by anybody nor fit to be shown: it carries the whole password.
    """

    TEXTS = ("caf\udce9", "caf\ud800")

    def attempt(self, make: Callable[[str], object]) -> None:
        for text in self.TEXTS:
            try:
                made = make(text)
            except UsageError:
                continue
            self.assertTrue(made)

    def test_plain_with_surrogates_encodes_or_raises_usage_error(self) -> None:
        def initial(username: str, password: str) -> object:
            return MECHANISMS["PLAIN"](credentials(username, password)).initial()

        self.attempt(lambda text: initial("tim", text))
        self.attempt(lambda text: initial(text, "tanstaaf"))

    def test_apop_with_surrogates_encodes_or_raises_usage_error(self) -> None:
        self.attempt(lambda text: apop_digest(b"<a@b>", text))


class APOPTests(SynchronousTestCase):
    """APOP (RFC 1939 section 7)"""

    TIMESTAMP = b"<1896.697170952@dbc.mtview.ca.us>"

    def test_challenge_and_digest_match_example_of_rfc_1939(self) -> None:
        challenge = apop_challenge(b"POP3 server ready " + self.TIMESTAMP)
        self.assertEqual(challenge, self.TIMESTAMP)
        assert challenge is not None
        self.assertEqual(
            apop_digest(challenge, "tanstaaf"), "c4c9334bac560ecc979e58001b3e22fb"
        )

    def test_a_timestamp_is_found_wherever_it_stands(self) -> None:
        for greeting in (
            self.TIMESTAMP,
            self.TIMESTAMP + b" ready",
            b"ready " + self.TIMESTAMP + b" go ahead",
            b"ready" + self.TIMESTAMP + b".",
            b"<b> Hello <i> " + self.TIMESTAMP + b" <a@>",
            b"caf\xe9 <<" + self.TIMESTAMP + b">>",
        ):
            self.assertEqual(apop_challenge(greeting), self.TIMESTAMP, greeting)

    @shows("RFC 1939-16")
    @shows(
        "quirk 1.4",
        "A timestamp behind other text; a timestamp without support for APOP",
        'The timestamp is found. ``auth="auto"`` uses APOP without TLS, and over TLS '
        "as the last resort; never after STLS.",
    )
    @shows(
        "attack 1.7",
        "Without TLS: timestamps for APOP that are made to collide",
        "The password, a character at a time.",
        "Only a timestamp in the form of a message-id, in printable ASCII, is "
        "answered. That does not prevent guessing; TLS does.",
    )
    def test_greeting_without_valid_timestamp_yields_none(self) -> None:
        for greeting in (
            b"",
            b"ready",
            # a host name in angle brackets, as some servers have it
            b"ready <pop.example.com>",
            b"<>",
            b"<@>",
            b"<a@>",
            b"<@b>",
            b"<a b@c>",
            b"<a@b c>",
            b"a@b",
            b"<a@b",
            b"a@b>",
            b"<a\0@b>",
            b"<a\xe9@b>",
        ):
            self.assertIs(apop_challenge(greeting), None, greeting)

    def test_greeting_crafted_to_be_slow_yields_no_timestamp(self) -> None:
        self.assertIs(apop_challenge(b"<" * 16_000), None)
        self.assertIs(apop_challenge(b"<" + b"a" * 16_000 + b"@"), None)

    @shows(
        "RFC 6856-03",
        "MUST",
        "APOP with UTF-8: prepared with SASLprep.",
        "Not met: the digest is of the UTF-8 octets as given. scramp offers SASLprep "
        "for SCRAM only. SASLprep changes few passwords, and APOP is chosen only "
        "where a server offers nothing better.",
    )
    def test_non_ascii_password_is_digested_as_utf_8(self) -> None:
        self.assertEqual(
            apop_digest(b"<a@b>", "p\u00e4ss"),
            # md5 of 3c 61 40 62 3e 70 c3 a4 73 73
            "f882c56c2fa8cec3135240735d70e004",
        )


class Base64Tests(SynchronousTestCase):
    """Base64, strictly (RFC 5034 section 4)"""

    def test_responses_are_encoded_in_one_line(self) -> None:
        for response, encoded in [
            (b"", ""),
            (b"\0tim\0tanstaaftanstaaf", "AHRpbQB0YW5zdGFhZnRhbnN0YWFm"),
            (b"\xff\xfe", "//4="),
            (b"x" * 300, "eHh4" * 100),
        ]:
            self.assertEqual(encode_response(response), encoded)

    def test_valid_base64_challenge_is_decoded(self) -> None:
        for challenge, decoded in [
            (b"", b""),
            (b"YQ==", b"a"),
            (b"//4=", b"\xff\xfe"),
            (b"eHh4" * 4000, b"x" * 12_000),
        ]:
            self.assertEqual(decode_challenge(challenge), decoded)

    @shows(
        "RFC 5034-05",
        "MUST",
        "Base64 is strict: no foreign octets, padding only at the end.",
        "One pattern checks it.",
    )
    def test_invalid_base64_challenge_decodes_to_none(self) -> None:
        for challenge in (
            b"Y",
            b"YQ",
            b"YQ=",
            b"YQ===",
            b"=",
            b"====",
            b"=YQ=",
            b"Y=Q=",
            b"YQ==YQ==",
            b"YQ==x",
            b"YW Jj",
            b"YWJj\n",
            b"YWJ\rj",
            b" YWJj",
            b"YWJ\0j",
            b"YW-_",
            b"YW\xc3\xa9",
            b"not base64!",
            b"*",
        ):
            self.assertIs(decode_challenge(challenge), None, challenge)


class ScramTests(SynchronousTestCase):
    """SCRAM (RFC 5802); its dialogues are those of `test_dialogues`"""

    def first(self, name: str) -> bytes | None:
        binding = ("tls-exporter", b"x" * 32)
        who = Credentials("tim", Secret("pencil"), binding=binding, nonce="nnn")
        return make_mechanism(name, who).initial()

    def test_plus_binds_the_channel_and_others_send_flag_y(self) -> None:
        self.assertEqual(
            self.first("SCRAM-SHA-256-PLUS"), b"p=tls-exporter,,n=tim,r=nnn"
        )
        self.assertEqual(self.first("SCRAM-SHA-256"), b"y,,n=tim,r=nnn")

    def test_authorization_identity_stands_in_the_header(self) -> None:
        """RFC 5802 section 7: "a=" saslname, with "=2C" for a comma."""
        for name, binding, flag in (
            ("SCRAM-SHA-256", None, b"n"),
            ("SCRAM-SHA-256-PLUS", ("tls-exporter", b"x" * 32), b"p=tls-exporter"),
        ):
            mechanism = make_mechanism(
                name,
                Credentials(
                    "tim",
                    Secret("pencil"),
                    binding=binding,
                    nonce="nnn",
                    authorize_as="b,b",
                ),
            )
            header = flag + b",a=b=2Cb,"
            self.assertEqual(mechanism.initial(), header + b"n=tim,r=nnn")
            final = mechanism.respond(b"r=nnn+,s=c2FsdHNhbHRzYWx0,i=4096")
            bound = header + (b"x" * 32 if binding else b"")
            self.assertTrue(final.startswith(b"c=" + b64encode(bound) + b","), final)

    def test_incompatible_scramp_header_is_a_usage_error(self) -> None:
        """A scramp that keeps the name of the binding elsewhere is of no use."""

        class Header:
            def __str__(self) -> str:
                return "p=tls-server-end-point,,"

        def another(*args: Any, **options: Any) -> ScramClient:
            client = ScramClient(*args, **options)
            client.gs2_header = Header()
            return client

        self.patch(scramp, "ScramClient", another)
        with self.assertRaises(UsageError):
            self.first("SCRAM-SHA-256-PLUS")


class MechanismTests(SynchronousTestCase):
    """Each mechanism, by the examples of its RFC where there are any."""

    def mechanism(self, name: str, **more: Any) -> Any:
        more.setdefault("username", "user")
        more.setdefault("password", "pencil")
        password = Secret(more.pop("password"))
        return make_mechanism(name, Credentials(password=password, **more))

    def test_cram_md5_matches_example_of_rfc_2195(self) -> None:
        cram = self.mechanism("CRAM-MD5", username="tim", password="tanstaaftanstaaf")
        self.assertIsNone(cram.initial())
        self.assertEqual(
            cram.respond(b"<1896.697170952@postoffice.reston.mci.net>"),
            b"tim b913a602c7eda7a495b4e6e7334d3890",
        )
        self.assertFalse(cram.gives_up(b""))
        self.assertEqual(cram.failure(), {})
        cram.finish()

    def test_login_answers_two_prompts_and_no_third(self) -> None:
        login = self.mechanism("LOGIN")
        self.assertIsNone(login.initial())
        self.assertEqual(login.respond(b"Username:"), b"user")
        self.assertEqual(login.respond(b"whatever"), b"pencil")
        with self.assertRaises(SASLError):
            login.respond(b"and?")

    def test_mechanism_without_challenges_refuses_one(self) -> None:
        for name in ("PLAIN", "EXTERNAL", "ANONYMOUS"):
            with self.assertRaises(SASLError):
                self.mechanism(name).respond(b"more?")

    def test_external_and_anonymous_send_the_user_name(self) -> None:
        for name in ("EXTERNAL", "ANONYMOUS"):
            self.assertEqual(self.mechanism(name).initial(), b"user")

    def scram(self, name: str, nonce: str, **more: Any) -> Any:
        return self.mechanism(name, nonce=nonce, **more)

    def test_scram_sha_1_matches_example_of_rfc_5802(self) -> None:
        scram = self.scram("SCRAM-SHA-1", "fyko+d2lbbFgONRv9qkxdawL")
        self.assertEqual(scram.initial(), b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL")
        # With the iterations and the salt of the RFC; ours may not be shorter.
        first = (
            b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096"
        )
        self.assertEqual(
            scram.respond(first),
            b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,"
            b"p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
        )
        with self.assertRaises(SASLError):
            scram.finish()
        self.assertEqual(scram.respond(b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ="), b"")
        scram.finish()
        self.assertEqual(scram.failure(), {})

    def test_scram_sha_256_matches_example_of_rfc_7677(self) -> None:
        scram = self.scram("SCRAM-SHA-256", "rOprNGfwEbeRWgbNEkqO")
        self.assertEqual(scram.initial(), b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO")
        first = (
            b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
            b"s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
        )
        self.assertEqual(
            scram.respond(first),
            b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
            b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        )
        final = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
        self.assertEqual(scram.respond(final), b"")
        scram.finish()

    def test_scram_refuses_what_a_server_may_not_say(self) -> None:
        ours = "fyko+d2lbbFgONRv9qkxdawL"
        good = f"r={ours}3rfc,s=QSXCR+Q6sek8bf92,i=4096"
        for first in (
            good.replace("i=4096", "i=4095"),
            good.replace("i=4096", "i=1000001"),
            good.replace(",i=4096", ""),
            good.replace(ours, "another"),
            good.replace("QSXCR", "!"),
            f"m=ext,{good}",
            "",
            "\x1b[2J",
        ):
            scram = self.scram("SCRAM-SHA-1", ours)
            scram.initial()
            with self.assertRaises(SASLError, msg=first) as caught:
                scram.respond(first.encode())
            self.assertTrue(str(caught.exception).isprintable())

    def test_scram_refuses_a_wrong_signature(self) -> None:
        scram = self.scram("SCRAM-SHA-1", "fyko+d2lbbFgONRv9qkxdawL")
        scram.initial()
        scram.respond(
            b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096"
        )
        with self.assertRaises(SASLError):
            scram.respond(b"v=AAAA9pqV8S7suAoZWja4dJRkFsKQ")

    def test_short_salt_is_unusable_and_not_an_attack(self) -> None:
        scram = self.scram("SCRAM-SHA-1", "fyko+d2lbbFgONRv9qkxdawL")
        scram.initial()
        with self.assertRaises(UnusableError) as caught:
            scram.respond(b"r=fyko+d2lbbFgONRv9qkxdawL3rfc,s=OCBvY3RldHM=,i=4096")
        self.assertIn("8 bytes", str(caught.exception))

    def test_scram_server_that_names_an_error_is_answered_once(self) -> None:
        scram = self.scram("SCRAM-SHA-1", "fyko+d2lbbFgONRv9qkxdawL")
        scram.initial()
        self.assertEqual(scram.respond(b"e=invalid-proof"), b"")
        self.assertEqual(scram.failure(), {"error": "invalid-proof"})
        with self.assertRaises(SASLError):
            scram.respond(b"e=invalid-proof")

    def test_scram_without_a_channel_or_with_a_forbidden_name_is_refused(self) -> None:
        for name, more in (
            ("SCRAM-SHA-1-PLUS", {}),
            ("SCRAM-SHA-1", {"username": "a\u0007b"}),
        ):
            with self.assertRaises(UsageError) as caught:
                self.mechanism(name, **more)
            self.assertNotIn("pencil", str(caught.exception))

    def test_bound_scram_gives_up_where_the_server_does_not_know_the_binding(
        self,
    ) -> None:
        scram = self.mechanism("SCRAM-SHA-1-PLUS", binding=("tls-exporter", bytes(32)))
        self.assertTrue(scram.tentative)
        self.assertTrue(scram.initial().startswith(b"p=tls-exporter,,n=user,r="))
        self.assertTrue(scram.gives_up(b"e=unsupported-channel-binding-type"))
        self.assertFalse(scram.gives_up(b"r=x"))

    def test_xoauth2_takes_in_why_it_failed_and_answers_with_nothing(self) -> None:
        oauth = self.mechanism("XOAUTH2", username="ada@example.com")
        self.assertEqual(
            oauth.initial(), b"user=ada@example.com\1auth=Bearer pencil\1\1"
        )
        told = b'{"status":"401","scope":"mail","other":1,"schemes":"Bearer"}'
        self.assertEqual(oauth.respond(told), b"")
        self.assertEqual(
            oauth.failure(), {"status": "401", "scope": "mail", "schemes": "Bearer"}
        )
        with self.assertRaises(SASLError):
            oauth.respond(told)

    def test_failure_that_is_not_json_has_an_unknown_status(self) -> None:
        for told in (b"", b"no", b"[1]", b"[" * 100_000, b"\xff"):
            oauth = self.mechanism("XOAUTH2")
            oauth.respond(told)
            self.assertEqual(oauth.failure(), {"status": "unknown"}, told[:20])

    def test_oauthbearer_escapes_the_name_and_answers_with_one_octet(self) -> None:
        oauth = self.mechanism(
            "OAUTHBEARER", username="a=b,c", host="pop.example.com", port=995
        )
        self.assertEqual(
            oauth.initial(),
            b"n,a=a=3Db=2Cc,\1host=pop.example.com\1port=995\1auth=Bearer pencil\1\1",
        )
        self.assertEqual(oauth.respond(b"{}"), b"\1")

    def test_forms_of_a_password_are_what_a_server_may_repeat(self) -> None:
        plain, encoded, response = forms(credentials("ada", " open "))
        self.assertEqual((plain, encoded), (b" open ", b"IG9wZW4g"))
        self.assertEqual(response, b"AGFkYQAgb3BlbiA=")
