"""The ways to log in, by the octets that they make."""

from __future__ import annotations

import base64

from twisted.trial.unittest import SynchronousTestCase

from pop3connect import UsageError
from pop3connect.sasl import (
    MECHANISMS,
    Credentials,
    Plain,
    apop_challenge,
    apop_digest,
    check_auth,
    decode_challenge,
    encode_response,
    forms,
)
from pop3connect.status import Secret


def credentials(
    username: str = "tim", password: str = "tanstaaftanstaaf"
) -> Credentials:
    return Credentials(username, Secret(password))


class CredentialsTests(SynchronousTestCase):
    """Name and password while they are needed."""

    def test_the_password_is_not_shown(self) -> None:
        shown = repr(credentials(password="hidden"))
        self.assertIn("tim", shown)
        self.assertNotIn("hidden", shown)

    def test_the_forms_in_which_a_server_may_repeat_a_password(self) -> None:
        known = forms(credentials("mrose", "p\u00e4ss"))
        for form in (
            b"p\xc3\xa4ss",
            base64.b64encode(b"p\xc3\xa4ss"),
            base64.b64encode(b"\0mrose\0p\xc3\xa4ss"),
        ):
            self.assertIn(form, known)

    def test_a_password_with_octets_that_are_no_utf_8_has_forms_too(self) -> None:
        """They are wanted before it is clear whether PLAIN is the way."""
        password = b"caf\xe9".decode("utf-8", "surrogateescape")
        self.assertIn(b"caf\xe9", forms(credentials(password=password)))


class PlainTests(SynchronousTestCase):
    """PLAIN (RFC 4616)"""

    def test_the_example_of_the_rfc(self) -> None:
        self.assertEqual(Plain(credentials()).initial(), b"\0tim\0tanstaaftanstaaf")

    def test_it_says_the_same_when_it_is_asked_first(self) -> None:
        self.assertEqual(Plain(credentials()).respond(b""), b"\0tim\0tanstaaftanstaaf")

    def test_names_and_passwords_are_utf_8(self) -> None:
        self.assertEqual(
            Plain(credentials("zo\u00eb", " \u20ac ")).initial(),
            b"\0zo\xc3\xab\0 \xe2\x82\xac ",
        )

    def test_it_is_known_by_its_name_and_as_cleartext(self) -> None:
        plain = MECHANISMS["PLAIN"](credentials())
        self.assertEqual((plain.name, plain.cleartext), ("PLAIN", True))

    def test_every_mechanism_is_known_by_its_name(self) -> None:
        for name, build in MECHANISMS.items():
            self.assertEqual(build(credentials()).name, name)


class APOPTests(SynchronousTestCase):
    """APOP (RFC 1939 section 7)"""

    TIMESTAMP = b"<1896.697170952@dbc.mtview.ca.us>"

    def test_the_example_of_the_rfc(self) -> None:
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

    def test_what_is_no_timestamp_is_not_taken_for_one(self) -> None:
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

    def test_a_greeting_made_to_be_slow_is_read_at_once(self) -> None:
        self.assertIs(apop_challenge(b"<" * 16_000), None)
        self.assertIs(apop_challenge(b"<" + b"a" * 16_000 + b"@"), None)

    def test_a_password_beyond_ascii_is_digested_as_utf_8(self) -> None:
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

    def test_challenges_are_decoded(self) -> None:
        for challenge, decoded in [
            (b"", b""),
            (b"YQ==", b"a"),
            (b"//4=", b"\xff\xfe"),
            (b"eHh4" * 4000, b"x" * 12_000),
        ]:
            self.assertEqual(decode_challenge(challenge), decoded)

    def test_anything_else_is_refused(self) -> None:
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


class CheckAuthTests(SynchronousTestCase):
    """`check_auth`"""

    def test_what_is_known_is_known_in_any_case(self) -> None:
        for auth, name in [
            ("auto", "auto"),
            ("AUTO", "auto"),
            ("user", "USER"),
            ("Apop", "APOP"),
            ("PLAIN", "PLAIN"),
            ("plain", "PLAIN"),
        ]:
            self.assertEqual(check_auth(auth), name)
        for name in MECHANISMS:
            self.assertEqual(check_auth(name.lower()), name)

    def test_anything_else_is_refused_with_the_choice_there_is(self) -> None:
        for auth in ("", "PASS", "PLAIN\r\n", " PLAIN", "NTLM-X", None, 1, b"PLAIN"):
            with self.assertRaises(UsageError) as caught:
                check_auth(auth)  # type: ignore[arg-type]
            text = str(caught.exception)
            self.assertIn(repr(auth), text)
            for name in ("'auto'", "USER", "APOP", *MECHANISMS):
                self.assertIn(name, text)
