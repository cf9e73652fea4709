"""The mechanisms to log in with, by the octets that they make."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import scramp
from scramp import ScramClient
from twisted.trial.unittest import SynchronousTestCase

from pop3connect import UsageError
from pop3connect.auth.sasl import (
    MECHANISMS,
    Credentials,
    apop_challenge,
    apop_digest,
    decode_challenge,
    encode_response,
    make_mechanism,
)
from pop3connect.redaction import Secret


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
    Names and passwords that are no text: surrogates, for an octet or for nothing.

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
