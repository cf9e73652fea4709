"""What users call a server: every form that is taken, and every one refused."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from pop3connect import UsageError
from pop3connect.address import POP3_PORT, POP3S_PORT, ServerAddress

TAKEN = [
    # what is given, host, port, is it an IP address
    ("pop.example.com", "pop.example.com", 110, False),
    ("pop.example.com:1100", "pop.example.com", 1100, False),
    ("POP.Example.COM:1", "pop.example.com", 1, False),
    ("pop.example.com.", "pop.example.com", 110, False),
    ("pop.example.com.:65535", "pop.example.com", 65535, False),
    ("  pop.example.com:1100 ", "pop.example.com", 1100, False),
    ("localhost", "localhost", 110, False),
    ("my_pop-server", "my_pop-server", 110, False),
    ("3com.example", "3com.example", 110, False),
    ("1.example", "1.example", 110, False),
    ("pop.example.com:0110", "pop.example.com", 110, False),
    ("192.0.2.1", "192.0.2.1", 110, True),
    ("192.0.2.1:1100", "192.0.2.1", 1100, True),
    ("2001:db8::1", "2001:db8::1", 110, True),
    ("2001:DB8:0:0::0:1", "2001:db8::1", 110, True),
    ("::1", "::1", 110, True),
    # Ambiguous to people, not to us: without brackets there is no port.
    ("2001:db8::1:1100", "2001:db8::1:1100", 110, True),
    ("[2001:db8::1]", "2001:db8::1", 110, True),
    ("[2001:db8::1]:1100", "2001:db8::1", 1100, True),
    ("[2001:DB8:0::1]:1100", "2001:db8::1", 1100, True),
    ("[fe80::1%eth0]:1100", "fe80::1%eth0", 1100, True),
    ("fe80::1%eth0", "fe80::1%eth0", 110, True),
    ("müller.example", "xn--mller-kva.example", 110, False),
    ("MÜLLER.Example:1100", "xn--mller-kva.example", 1100, False),
    ("пошта.укр", "xn--80a1acn3a.xn--j1amh", 110, False),
    ("pop。例え.jp", "pop.xn--r8jz45g.jp", 110, False),
    ("xn--mller-kva.example", "xn--mller-kva.example", 110, False),
    (f"{'a' * 63}.example", f"{'a' * 63}.example", 110, False),
    # RFC 1035: 253 characters, and one for the dot that may stand at the end
    ("a." * 126 + "a", "a." * 126 + "a", 110, False),
    ("a." * 126 + "a.", "a." * 126 + "a", 110, False),
]

REFUSED = [
    "",
    "   ",
    ":110",
    "pop.example.com:",
    "pop.example.com:0",
    "pop.example.com:65536",
    "pop.example.com:70000",
    "pop.example.com:-1",
    "pop.example.com:+110",
    "pop.example.com:1_100",
    "pop.example.com: 110",
    "pop.example.com:pop3",
    "pop.example.com:0x6e",
    "pop.example.com:\u0661\u0661\u0660",
    "pop.example.com:" + "9" * 5000,
    "pop example com",
    "pop..example.com",
    ".example.com",
    ".",
    "pop.example.com..",
    "-pop.example.com",
    "pop-.example.com",
    "pop.example.com/inbox",
    "pop3://pop.example.com",
    "user@pop.example.com",
    "pop\r\n.example.com",
    "pop\0.example.com",
    "pop.example.com\0",
    f"{'a' * 64}.example",
    "a." * 126 + "aa",
    "a." * 126 + "aa.",
    "192.0.2",
    "192.0.2.256",
    "192.0.2.1.",
    "192.0.2.01",
    "192.0.2.1.1",
    "3232235521",
    "pop.example.7",
    "[192.0.2.1]:110",
    "[pop.example.com]:110",
    "[2001:db8::1",
    "[2001:db8::1]110",
    "[2001:db8::1]:",
    "[2001:db8::1]:0",
    "[2001:db8::1]:1:2",
    "[]",
    "[:]",
    "2001:db8::1]",
    "2001:db8:::1",
    "2001:db8::12345",
    "1:2",
    "1:2:3",
    "müller..example",
    "mül\u0000ler.example",
    "\ud800.example",
    "\u200b.example",
    "ü" * 64 + ".example",
]


def refusal(case: SynchronousTestCase, server: object) -> UsageError:
    """Return the error; and if there is none, fail and say what was taken."""
    try:
        taken = ServerAddress.parse(server)  # type: ignore[arg-type]
    except UsageError as error:
        return error
    return case.fail(f"{server!a:.80} was read as {taken!a:.80}")


class ParseTests(SynchronousTestCase):
    """`ServerAddress.parse`"""

    def test_every_accepted_form_is_parsed(self) -> None:
        for text, host, port, is_ip in TAKEN:
            self.assertEqual(
                ServerAddress.parse(text), ServerAddress(host, port, is_ip), text
            )

    def test_malformed_address_is_a_usage_error(self) -> None:
        for text in REFUSED:
            self.assertIn(refusal(self, text).server, (text, None))

    def test_error_for_malformed_address_names_the_input(self) -> None:
        for text in (
            *("pop.example.com:70000", "pop.example.com:+110", "192.0.2.256"),
            *("[2001:db8::1", "[2001:db8::1]:0", "2001:db8:::1", "[:]", "1:2:3"),
            *("pop example com", "-pop.example.com", "müller..example"),
        ):
            self.assertIn(text, REFUSED)
            self.assertEqual(refusal(self, text).server, text)

    def test_error_for_malformed_address_says_what_is_wrong(self) -> None:
        for text, words in [
            ("", "is empty"),
            ("h:70000", "'70000' is not a port: give a number from 1 to 65535"),
            ("192.0.2.256", "'192.0.2.256' is not a valid IP address"),
            ("a b", "'a b' is not a valid host name"),
            ("[::1", "an IPv6 address in brackets is written like"),
            ("ü..x", "'ü..x' is not a valid international host name"),
        ]:
            self.assertIn(words, str(refusal(self, text)))

    def test_text_that_may_hold_a_password_is_not_repeated(self) -> None:
        """Not in the message, not in ``.server`` and not in a traceback."""
        for text in (
            "pop3://ada:SECRET@pop.example.com",
            "pop3s://ada:SECRET@pop.example.com:995/",
            "POP3://ada:SECRET@[2001:db8::1]:110",
            "ada:SECRET@pop.example.com",
            "ada:SECRET@pop.example.com:995",
            "ada@SECRET:995",
            "//ada:SECRET@pop.example.com",
            "\uff0f\uff0fada:SECRET\uff20pop.example.com",
            "ada:SECRET%40pop.example.com",
            "ada%3ASECRET%40pop.example.com",
            "ada:SECRET",
            "pop.example.com:SECRET",
            "pop.example.com:995:SECRET",
            "pop.example.com:995?password=SECRET",
            "pop.example.com#SECRET",
            "{pop.example.com:995/pop3/user=ada}SECRET",
            "[2001:db8::1]:SECRET",
            "ada:SECRET\n",
        ):
            try:
                ServerAddress.parse(text)
            except UsageError as error:
                failure = Failure(captureVars=True)
                self.assertIsNone(error.server, text)
                self.assertNotIn("SECRET", f"{error} {error!r}", text)
                # The frames below this one, which has the text itself.
                for name, *_, variables, _ in failure.frames[1:]:
                    self.assertNotIn("SECRET", repr(variables), (name, text))
            else:
                self.fail(f"{text} was taken")

    def test_error_for_a_url_says_host_and_port(self) -> None:
        for text in ("pop3s://pop.example.com", "ada@pop.example.com"):
            self.assertIn("a host or host:port", str(refusal(self, text)))
            self.assertIn("not a URL", str(refusal(self, text)))

    def test_error_for_a_port_in_words_asks_for_a_number(self) -> None:
        for text in ("pop.example.com:pop3s", "[2001:db8::1]:pop3s"):
            self.assertIn("a number from 1 to 65535", str(refusal(self, text)))

    def test_non_str_is_refused_with_its_type_in_the_error(self) -> None:
        for wrong in (None, b"pop.example.com", 110, ("pop.example.com", 110)):
            self.assertIn(type(wrong).__name__, str(refusal(self, wrong)))

    def test_address_without_port_takes_the_default_of_the_caller(self) -> None:
        self.assertEqual((POP3_PORT, POP3S_PORT), (110, 995))
        for text, port in [
            ("pop.example.com", 995),
            ("192.0.2.1", 995),
            ("2001:db8::1", 995),
            ("[2001:db8::1]", 995),
            ("pop.example.com:110", 110),
        ]:
            self.assertEqual(ServerAddress.parse(text, POP3S_PORT).port, port)

    def test_port_out_of_range_is_refused_despite_leading_zeros(self) -> None:
        for port in ("0000655361", "00001" + "0" * 5000):
            refusal(self, f"pop.example.com:{port}")

    def test_non_ascii_digits_that_become_an_ip_address_are_refused(
        self,
    ) -> None:
        """
        What becomes an IP address, or part of one, under IDNA is not taken for a
        name: it would be looked up as an address and checked as a name.
        """
        for text in ("127.0.0.\u2460", "\u2460", "127.0.0.\uff11", "pop.\u2461"):
            refusal(self, text)

    def test_ipv6_zone_with_control_character_or_blank_is_refused(self) -> None:
        for text in ("fe80::1%a\r\nb", "[fe80::1%a\0]:110", "fe80::1%a b"):
            refusal(self, text)

    @settings(max_examples=150, deadline=None, derandomize=True, database=None)
    @given(
        st.one_of(
            st.text(
                "ab1.:[]%-_ 0\0\nAéß。\u2460\u200b\u202e\ud800\u0661例", max_size=20
            ),
            st.text("0123456789abcdef:.%[]", max_size=30),
        )
    )
    @example("\u2460")
    @example("fe80::1%")
    @example("xn--\u00fc")
    def test_any_text_is_an_address_or_a_usage_error(self, text: str) -> None:
        try:
            address = ServerAddress.parse(text)
        except UsageError:
            return
        self.assertTrue(1 <= address.port <= 65535)
        # What it calls itself, it can be called: no second reading of it.
        self.assertEqual(ServerAddress.parse(str(address)), address)


class ServerAddressTests(SynchronousTestCase):
    """The value."""

    def test_str_is_host_and_port(self) -> None:
        for text, shown in [
            ("POP.example.com.", "pop.example.com:110"),
            ("192.0.2.1:1100", "192.0.2.1:1100"),
            ("2001:db8::1", "[2001:db8::1]:110"),
            ("müller.example:1", "xn--mller-kva.example:1"),
        ]:
            self.assertEqual(str(ServerAddress.parse(text)), shown)

    def test_address_is_hashable_comparable_and_frozen(self) -> None:
        one, same = ServerAddress.parse("A:1"), ServerAddress.parse("a:1")
        self.assertEqual(one, same)
        self.assertEqual(hash(one), hash(same))
        self.assertNotEqual(one, ServerAddress.parse("a:2"))
        with self.assertRaises(AttributeError):
            one.port = 2  # type: ignore[misc]
