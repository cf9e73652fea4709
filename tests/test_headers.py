"""
Header fields for display: any bytes become one bounded, printable line.
"""

from __future__ import annotations

import base64
import pkgutil
import sys
import unicodedata
from collections.abc import Callable
from encodings import __path__ as codec_path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pop3connect.headers import (
    MAX_FIELD,
    MAX_HEADER,
    MAX_SHOWN,
    Summary,
    decode,
    decode_date,
    fields,
    first_of,
    split,
    summary,
)

any_bytes = settings(max_examples=300, deadline=None, derandomize=True, database=None)

# Pieces of which a header that is malformed in an interesting way can be made.
_TOKENS = (
    b"=? ?= ?b? ?Q? utf-8 utf-7 = =E9 +2D0- hex idna punycode iso-2022-jp "
    b'unicode_escape From: Subject: Date: " ( * \\ \x1b$B'
)
PIECES = st.lists(
    st.one_of(
        st.sampled_from([*_TOKENS.split(b" "), b"\r\n ", b"\n\n"]),
        st.binary(max_size=6),
        st.text(max_size=3).map(lambda text: text.encode("utf-8", "surrogatepass")),
    ),
    max_size=30,
).map(b"".join)

# Lines that begin, continue or end a field or the header, or almost do.
_LINES = (
    *(b"From: a\r\n", b"from :b\n", b"FROM\t:\r\n", b"X-Y: c\r\r\n", b"X-Y c\n"),
    *(b" From: d\r\n", b"\tX-Y: e\n", b" \r\n", b"\r\n", b"\n", b"\r", b": f\n"),
    *(b"From", b"X-Yz: g\n", b"Subject: h\r\n", b"X-Y:i", b"\x00\xff: j\n"),
)


def word(text: bytes, charset: str, encoding: str = "b") -> bytes:
    """Return an encoded word."""
    if encoding == "b":
        shown = base64.b64encode(text)
    else:
        shown = b"".join(b"=%02X" % octet for octet in text)
    return b"=?%s?%s?%s?=" % (charset.encode(), encoding.encode(), shown)


class DecodeTests(SynchronousTestCase):
    def check(self, *cases: tuple[bytes, str]) -> None:
        for value, shown in cases:
            self.assertEqual(decode(value), shown, value)

    def test_encoded_words_are_decoded_and_joined(self) -> None:
        self.check(
            (
                b"=?utf-8?b?R3LDvMOfZQ==?=\r\n =?utf-8?q?_aus_K=C3=B6ln?=",
                "Grüße aus Köln",
            ),
            (b"=?utf-8*de?Q?Gr=C3=BC=C3=9Fe?= 1", "Grüße 1"),
            (b"a =?utf-8?q?b?= c=?utf-8?q?d?=e", "a b cde"),
            (b'"=?utf-8?q?M=C3=BCller?=" <a@b>', '"Müller" <a@b>'),
            (b"=?utf-8?q?a b?=", "a b"),
        )

    def test_character_cut_between_two_encoded_words_is_whole(self) -> None:
        for charset, text in (
            ("utf-8", "你好"),
            ("gb2312", "你好"),
            ("shift_jis", "日本"),
        ):
            octets = text.encode(charset)
            for encoding in "bq":
                value = b"\r\n\t".join(
                    word(part, charset, encoding) for part in (octets[:3], octets[3:])
                )
                self.assertEqual(decode(value), text, value)

    def test_base64_without_padding_is_decoded(self) -> None:
        self.check(
            (b"=?utf-8?B?SGVsbG8?=", "Hello"), (b"=?utf-8?B?SGVs\r\n bG8=?=", "Hello")
        )

    def test_every_charset_of_python_is_decoded(self) -> None:
        samples = (
            "Grüße",
            "Привет",
            "日本語",
            "한국어",
            "Γειά",
            "שלום",
            "مرحبا",
            "abc",
        )
        decoded = set()
        for module in pkgutil.iter_modules(codec_path):
            for sample in samples:
                try:
                    octets = sample.encode(module.name)
                    octets.decode(module.name)
                except (LookupError, ValueError):
                    continue
                shown = decode(word(octets, module.name))
                if shown == sample:
                    decoded.add(module.name)
                    break
        for charset in ("koi8_r", "koi8_u", "iso2022_jp", "gb18030", "big5", "euc_kr"):
            self.assertIn(charset, decoded)
        self.assertGreater(len(decoded), 90)

    def test_charset_names_of_mail_programs_are_known(self) -> None:
        self.check(
            (word("한국어".encode("cp949"), "ks_c_5601-1987"), "한국어"),
            (word("똠".encode("cp949"), "euc-kr"), "똠"),
            (word("“a”".encode("cp1252"), "ISO-8859-1"), "“a”"),
            (word("①".encode("cp932"), "x-sjis"), "①"),
            (word("镕".encode("gbk"), "gb2312"), "镕"),
            (word("日本".encode("shift_jis"), "x-mac-japanese"), "日本"),
        )

    def test_unknown_charset_is_read_as_utf_8_where_it_is_that(self) -> None:
        self.check(
            (b"=?x-unknown-charset?B?SGVsbG8=?=", "Hello"),
            (word("Grüße".encode(), "unknown-8bit"), "Grüße"),
            (b"=?x-unknown?q?=E9?=", "=?x-unknown?q?=E9?="),
            (b"=?x-unknown?q?=1B$B?=", "=?x-unknown?q?=1B$B?="),
        )

    def test_malformed_encoded_words_are_shown_as_they_stand(self) -> None:
        for value in (
            b"=?utf-8?B?a?=",
            b"=?utf-8?B?a*b=?=",
            b"=?utf-8?Q?=E9?=",
            b"=?utf-8?Q?=ZZ?=",
            b"=?utf-8?Q?100=?=",
            b"=?utf-16?B?AAAA?=",
            b"=?us-ascii?Q?=E9?=",
            b"=?utf-7?q?+2D0-?=",
            b"=?utf-8?X?abc?=",
            b"=?utf-8?Q?never ends",
            b"=?utf-8?q",
            b"=??q?a?=",
        ):
            self.assertEqual(decode(value), value.decode())
        # The one beside it is decoded.
        self.check((b"=?utf-8?Q?=E9?= =?utf-8?Q?=C3=A9?=", "=?utf-8?Q?=E9?=é"))

    def test_codecs_that_are_not_charsets_are_never_used(self) -> None:
        for value in (
            b"=?idna?Q?xn--a=E4?=",
            b"=?zlib?B?eJwDAAAAAAE=?=",
            b"=?hex?Q?=FFzz?=",
            b"=?punycode?Q?999999999=E4?=",
            b"=?unicode_escape?Q?=5Cx=E4?=",
            b"=?undefined?Q?=E4?=",
            b"=?../../etc/passwd?Q?=E4?=",
        ):
            self.assertEqual(decode(value), value.decode())
        self.check((b"=?rot13?Q?uryyb?=", "uryyb"))
        self.check((b"=?unicode_escape?Q?=5Cx41?=", r"\x41"))

    def test_raw_utf_8_and_latin_1_are_text(self) -> None:
        self.check(
            ("Grüße aus Köln 你好 🚲".encode(), "Grüße aus Köln 你好 🚲"),
            ("Grüße".encode("latin-1"), "Grüße"),
            (b"\x93quoted\x94", "“quoted”"),
            (b"\xe9 beside " + "你好".encode(), "é beside 你好"),
            (b"\xff\xfe", "ÿþ"),
            (b"\x81", r"\x81"),
        )

    def test_white_space_is_one_blank(self) -> None:
        self.check((b" a\r\n\t b \xc2\xa0 \xe3\x80\x80c\n d \r\n", "a b c d"))

    def test_characters_that_disturb_a_line_are_escaped(self) -> None:
        for char, shown in (
            ("\0", r"\x00"),
            ("\x1b[2J", r"\x1b[2J"),
            ("\r", r"\r"),
            ("\x0b\x85", r"\x0b\x85"),
            ("\u202e\u200f\u2067", r"\u202e\u200f\u2067"),
            ("\u200b\u200d\ufeff\u2060", r"\u200b\u200d\ufeff\u2060"),
            ("\u3164\u115f\u034f", r"\u3164\u115f\u034f"),
            ("\u2028", r"\u2028"),
            ("e" + "\u0301" * 6, "e" + "\u0301" * 4 + r"\u0301\u0301"),
        ):
            for value in (char.encode(), word(char.encode(), "utf-8")):
                self.assertEqual(decode(b"a%sz" % value), f"a{shown}z")
        self.assertEqual(decode("\u0301".encode()), r"\u0301")
        # What the letters of a language need is kept.
        for text in ("שלום", "क्षि", "ที่นี่", "e\u0301", "❤\ufe0f"):
            self.assertEqual(decode(text.encode()), text)

    def test_long_value_is_cut_and_marked(self) -> None:
        for value in (
            b"a" * (MAX_SHOWN + 1),
            b"a " * 10**6,
            b"\x00" * 999,
            "é".encode() * MAX_FIELD,
        ):
            shown = decode(value)
            self.assertEqual(len(shown), MAX_SHOWN)
            self.assertTrue(shown.endswith("..."))
        self.assertEqual(decode(b"a" * MAX_SHOWN), "a" * MAX_SHOWN)

    def test_value_is_cut_between_words_not_within(self) -> None:
        long = b" ".join([word(b"x" * 40, "utf-8")] * 100)
        self.assertEqual(set(decode(long)), {"x", "."})
        hidden = "é".encode() * 600
        self.assertEqual(decode(hidden), "é" * 600)
        wide = decode(b"=?utf-8?q?" + b"a" * 200 + b"?= " + b"\xe4\xbd\xa0" * 1300)
        self.assertNotIn("ä", wide)

    @any_bytes
    @given(PIECES)
    def test_any_bytes_become_one_bounded_printable_line(self, value: bytes) -> None:
        for shown in (decode(value), decode_date(value), decode(value * 100)):
            self.assertTrue(shown.isprintable(), shown)
            self.assertLessEqual(len(shown), MAX_SHOWN)
            self.assertFalse(
                [
                    char
                    for char in shown
                    if unicodedata.category(char) in ("Cc", "Cf", "Cs")
                ]
            )

    @any_bytes
    @given(
        st.text(max_size=40), st.sampled_from(["utf-8", "utf-16", "utf-7", "gb18030"])
    )
    def test_decoded_text_does_not_depend_on_its_encoding(
        self, text: str, charset: str
    ) -> None:
        text = text.encode("utf-8", "replace").decode()
        raw = text.replace("=?", "")
        octets = raw.encode(charset)
        self.assertEqual(octets.decode(charset), raw)
        for encoding in "bq":
            self.assertEqual(
                decode(word(octets, charset, encoding)), decode(raw.encode())
            )


class DateTests(SynchronousTestCase):
    def test_date_becomes_iso_8601(self) -> None:
        for value, shown in (
            (b"Thu, 07 Mar 2024 09:04:00 +0100 (CET)", "2024-03-07T09:04:00+01:00"),
            (b" 7 Mar 24 09:04 GMT\r\n", "2024-03-07T09:04:00+00:00"),
            (b"Thu, 7 Mar 2024 09:04:00 -0000", "2024-03-07T09:04:00"),
        ):
            self.assertEqual(decode_date(value), shown)

    def test_value_that_is_not_a_date_is_shown_as_it_stands(self) -> None:
        for value in (
            "Mon, 32 Foo 99999 99:99:99 +9999",
            "",
            "yesterday",
            "Thu, 1 Jan 1970 00:00:00 -99999999999",
            "1 Jan " + "9" * 150 + " 0:0",
            "ÿþ",
        ):
            self.assertEqual(decode_date(value.encode()), value)


class FieldsTests(SynchronousTestCase):
    def test_fields_come_in_order_with_raw_values(self) -> None:
        header = b"A: 1\r\n 2\r\nnot a field\r\nb :3\nC:\r\n\r\nD: body\r\n"
        self.assertEqual(
            list(fields(header)),
            [
                (b"A", b" 1\r\n 2"),
                (b"", b"not a field"),
                (b"b", b"3"),
                (b"C", b""),
            ],
        )

    def test_message_is_split_at_the_first_blank_line(self) -> None:
        for message, parts in (
            (b"A: 1\r\n\r\nB\r\n\r\n", (b"A: 1\r\n", b"B\r\n\r\n")),
            (b"A: 1\n\nB", (b"A: 1\n", b"B")),
            (b"\r\nB", (b"", b"B")),
            (b"\nB", (b"", b"B")),
            (b"A: 1\r\n", (b"A: 1\r\n", b"")),
            (b"", (b"", b"")),
        ):
            self.assertEqual(split(message), parts, message)

    def test_first_of_repeated_fields_is_in_the_summary(self) -> None:
        header = (
            b"SUBJECT: one\r\n two\r\nSubject: three\r\n"
            b'From: "A, B" <a@example.org>\r\n'
            b"Date: Thu, 07 Mar 2024 09:04:00 +0100\r\n\r\n"
        )
        self.assertEqual(
            summary(header),
            Summary("one two", '"A, B" <a@example.org>', "2024-03-07T09:04:00+01:00"),
        )

    def test_missing_fields_are_empty(self) -> None:
        for header in (b"", b"\r\n", b"no header at all", b"\r\nSubject: in the body"):
            self.assertEqual(summary(header), Summary("", "", ""))

    def test_bare_carriage_return_begins_no_field(self) -> None:
        self.assertEqual(
            summary(b"Subject: a\rFrom: b\r\n\r\n"), Summary(r"a\rFrom: b", "", "")
        )

    def test_field_beyond_the_limit_is_not_read(self) -> None:
        filler = b"X: " + b"x" * (MAX_HEADER - 16) + b"\r\n"
        self.assertEqual(summary(filler + b"From: a\r\n").sender, "a")
        self.assertEqual(summary(b"Y: y\r\n" + filler + b"From: a\r\n").sender, "")

    @any_bytes
    @given(st.lists(st.sampled_from(_LINES), max_size=8).map(b"".join))
    def test_first_of_some_names_are_those_of_all_fields(self, header: bytes) -> None:
        names = (b"from", b"x-y")
        first: dict[bytes, bytes] = {}
        for name, value in fields(header):
            if name.lower() in names:
                first.setdefault(name.lower(), value)
        self.assertEqual(first_of(*names)(header), first)

    def test_first_of_a_name_beyond_the_limit_is_not_found(self) -> None:
        for more, found in ((0, {b"from": b" a"}), (1, {b"from": b" "})):
            header = b"X: " + b"x" * (MAX_HEADER - 11 + more) + b"\nFrom: a\n"
            self.assertEqual(first_of(b"from")(header), found)

    @any_bytes
    @given(PIECES)
    def test_summary_of_any_bytes_is_printable_and_bounded(self, header: bytes) -> None:
        for shown in (summary(header), summary(b"Subject: %s\r\n\r\n" % header)):
            for text in (shown.subject, shown.sender, shown.date):
                self.assertTrue(text.isprintable())
                self.assertLessEqual(len(text), MAX_SHOWN)


class WorkTests(SynchronousTestCase):
    """Calls are counted, and bytes that a call was given: no clock is involved."""

    def calls(self, function: Callable[..., object], *arguments: Any) -> int:
        """Return how many functions were called, in Python and in C."""
        count = 0

        def profile(frame: object, event: str, argument: object) -> None:
            nonlocal count
            count += event in ("call", "c_call")

        before = sys.getprofile()
        sys.setprofile(profile)
        try:
            function(*arguments)
        finally:
            sys.setprofile(before)
        return count

    def test_quotes_in_from_cost_no_more_than_other_characters(self) -> None:
        for hostile in (b"a", b'"', b"(", b"\\", b'"a" <', b"<@"):
            for count in (4000, 400_000):
                self.assertLess(self.calls(decode, hostile * count), 60, hostile)

    def test_work_for_a_value_does_not_grow_beyond_the_limit(self) -> None:
        for piece in (
            b"=?",
            b"=?utf-8?q?a?= ",
            b"=?a?q?",
            b"\xff",
            b"a ",
            b"\0",
            b"=?=?b?",
        ):
            few = self.calls(decode, piece * (2 * MAX_FIELD // len(piece)))
            many = self.calls(decode, piece * (200 * MAX_FIELD // len(piece)))
            self.assertLessEqual(many, few + 5, piece)
            self.assertLess(few, 20 * MAX_FIELD, piece)

    def test_work_for_a_header_does_not_grow_beyond_the_limit(self) -> None:
        for line in (b"a:\n", b"Subject: x\r\n", b" \n", b"no field\n"):
            few = self.calls(summary, line * (MAX_HEADER // len(line) + 1))
            many = self.calls(summary, line * (4 * MAX_HEADER // len(line)))
            self.assertLessEqual(many, few + 10, line)
