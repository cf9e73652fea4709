"""
MailSplit: messages taken apart, and what malformed ones become.
"""

from __future__ import annotations

import encodings
from email import message as email_message
from encodings import punycode
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pop3connect.headers import MAX_FIELD
from pop3connect.omnis import Omnis, Part

PLAIN = b"Subject: one\r\nReceived: a\r\nReceived: b\r\n\r\nfirst\r\n\r\nsecond\r\n"

NESTED = b"""\
Content-Type: multipart/mixed; boundary=out

--out
Content-Type: multipart/alternative; boundary=in

--in
Content-Type: text/html; charset=utf-8

<p>h\xc3\xa9</p>
--in
Content-Type: text/plain; charset=iso-8859-1
Content-Transfer-Encoding: quoted-printable

h=E9
--in--
--out
Content-Type: application/octet-stream
Content-Disposition: attachment; filename="=?utf-8?q?f=C3=BCnf=2Ebin?="
Content-Transfer-Encoding: base64

AAEC
--out--
"""


class MailSplitTestCase(SynchronousTestCase):
    """
    A family without a session: MailSplit needs none.
    """

    def split(self, message: bytes | bytearray | str, body: Any, code: int = 0) -> Any:
        """
        Return the rows of the header.
        """
        rows = [("old", "row")]
        status = self.successResultOf(Omnis().MailSplit(message, rows, body))
        self.assertEqual(status, code)
        return rows

    def value(self, field: bytes) -> str:
        """
        Return the decoded value of a header field.
        """
        [(name, value)] = self.split(b"Subject: " + field + b"\r\n\r\n", [])
        self.assertEqual(name, "Subject")
        return str(value)


class HeaderTests(MailSplitTestCase):
    """
    Rows of name and value.
    """

    def test_repeated_fields_are_kept_in_order(self) -> None:
        rows = self.split(PLAIN, [])
        self.assertEqual(
            rows, [("Subject", "one"), ("Received", "a"), ("Received", "b")]
        )

    def test_header_alone_is_split_like_a_message(self) -> None:
        body = bytearray(b"old")
        self.assertEqual(self.split(bytearray(b"A: 1\r\n\r\n"), body), [("A", "1")])
        self.assertEqual(body, b"")

    def test_str_is_split_like_bytes(self) -> None:
        self.assertEqual(self.split("A: zw\xf6lf\n\n", []), [("A", "zw\xf6lf")])

    def test_encoded_words_are_decoded(self) -> None:
        for field, value in (
            (b"=?utf-8?q?zw=C3=B6lf?= is =?iso-8859-1?B?/A==?=", "zw\xf6lf is \xfc"),
            (b"=?utf-8?q?a?= =?iso-8859-1?q?b?=", "ab"),
            (b"=?utf-8?q?a?=\r\n =?utf-8?q?_b?=", "a b"),
            # One character in two words.
            (b"=?utf-8?B?w7Y=?= =?utf-8?B?w7Y?=", "\xf6\xf6"),
            (b"=?utf-8?q?=C3?= =?utf-8?q?=B6?=", "\xf6"),
            (b"=?utf-8*de?q?=C3=B6?=", "\xf6"),
        ):
            self.assertEqual(self.value(field), value, field)

    def test_malformed_encoded_words_stay_readable(self) -> None:
        for field, value in (
            (b"=?utf-8?b?A?=", "=?utf-8?b?A?="),
            (b"=?no-such?q?abc?=", "abc"),
            (b"=?utf-8?q?a=FFb?=", "=?utf-8?q?a=FFb?="),
            (b"=?unicode_escape?q?=5Cu0041?=", "\\u0041"),
            (b"=?utf-8?q?never ended", "=?utf-8?q?never ended"),
            (b"\\u0041 \xe2\x82\xac", "\\u0041 \u20ac"),
        ):
            self.assertEqual(self.value(field), value, field)

    def test_raw_bytes_are_utf_8_or_latin_1(self) -> None:
        self.assertEqual(self.value(b"zw\xc3\xb6lf"), "zw\xf6lf")
        self.assertEqual(self.value(b"zw\xf6lf"), "zw\xf6lf")

    def test_folded_field_becomes_one_line(self) -> None:
        self.assertEqual(self.value(b"one\r\n two\r\n\tthree"), "one two\tthree")


class BodyTests(MailSplitTestCase):
    """
    The body, by what it is given.
    """

    def body(self, message: bytes) -> bytes:
        body = bytearray(b"old")
        self.split(message, body)
        return bytes(body)

    def test_text_becomes_utf_8(self) -> None:
        self.assertEqual(self.body(PLAIN), b"first\r\n\r\nsecond\r\n")
        latin = b"Content-Type: text/plain; charset=iso-8859-1\r\n\r\n\xe9\r\n"
        self.assertEqual(self.body(latin), b"\xc3\xa9\r\n")

    def test_text_in_a_wrong_or_unknown_charset_is_kept(self) -> None:
        for charset in (b"no-such", b"us-ascii", b"utf-8", b"base64"):
            head = b"Content-Type: text/plain; charset=" + charset + b"\r\n\r\n"
            self.assertEqual(self.body(head + b"\xe9"), b"\xc3\xa9", charset)
            self.assertEqual(self.body(head + b"\xc3\xa9"), b"\xc3\xa9", charset)

    def test_other_content_becomes_decoded_bytes(self) -> None:
        head = b"Content-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        self.assertEqual(self.body(head + b"AAEC\r\n"), b"\0\1\2")

    def test_plain_text_of_a_message_in_parts_comes_before_html(self) -> None:
        self.assertEqual(self.body(NESTED), b"h\xc3\xa9")
        html = NESTED.replace(b"text/plain", b"image/png")
        self.assertEqual(self.body(html), b"<p>h\xc3\xa9</p>")
        none = html.replace(b"text/html", b"image/gif")
        self.assertEqual(self.body(none), b"")

    def test_empty_list_as_body_splits_the_header_only(self) -> None:
        body: list[Any] = []
        self.assertTrue(self.split(NESTED, body))
        self.assertEqual(body, [])

    def test_list_as_body_becomes_the_mime_parts(self) -> None:
        body: list[Any] = list(Part._fields)
        self.split(NESTED, body)
        self.assertEqual(
            body,
            [
                Part(0, "multipart", "mixed", "", "", b""),
                Part(1, "multipart", "alternative", "", "", b""),
                Part(2, "text", "html", "", "<p>h\xe9</p>", b"<p>h\xc3\xa9</p>"),
                Part(2, "text", "plain", "", "h\xe9", b"h\xe9"),
                Part(1, "application", "octet-stream", "f\xfcnf.bin", "", b"\0\1\2"),
            ],
        )
        # The same list serves for the next message.
        self.split(PLAIN, body)
        text = "first\r\n\r\nsecond\r\n"
        self.assertEqual(body, [Part(0, "text", "plain", "", text, text.encode())])

    def test_attached_message_is_a_part_with_parts(self) -> None:
        body: list[Any] = ["part"]
        self.split(b"Content-Type: message/rfc822\r\n\r\n" + PLAIN, body)
        kinds = [(part.level, part.type, part.subtype) for part in body]
        self.assertEqual(kinds, [(0, "message", "rfc822"), (1, "text", "plain")])

    def test_parts_nested_too_deeply_return_minus_525_with_the_whole_body(self) -> None:
        message = b"A: 1\r\n" + b"Content-Type: message/rfc822\r\n\r\n" * 2000
        body: list[Any] = ["part"]
        rows = self.split(message, body, -525)
        self.assertEqual(rows[0], ("A", "1"))
        [part] = body
        self.assertEqual((part.level, part.type), (0, "message"))
        self.assertGreater(len(part.data), 60_000)

    def test_file_name_that_is_not_text_is_left_out(self) -> None:
        body: list[Any] = ["part"]
        # Half a surrogate pair, in UTF-7.
        self.split(b"Content-Type: a/b; name*=utf-7''+2AA-\r\n\r\nx\r\n", body)
        self.assertEqual(body, [Part(0, "a", "b", "", "", b"x\r\n")])


class HostileTests(MailSplitTestCase):
    """
    A message that is to cost time or memory.
    """

    def test_what_takes_the_square_of_its_length_gets_the_beginning_of_a_field(
        self,
    ) -> None:
        taken: list[int] = []

        def watch(module: Any, name: str) -> None:
            real = getattr(module, name)

            def watched(text: Any, *arguments: Any) -> Any:
                taken.append(len(text))
                return real(text, *arguments)

            self.patch(module, name, watched)

        watch(email_message, "_parseparam")
        watch(punycode, "punycode_decode")
        slow = b"a" * 300_000 + b"-" + b"99a" * 300_000
        for message in (
            b'Content-Type: text/plain; a="' + b";" * 400_000,
            b'Content-Disposition: attachment; a="' + b";" * 400_000,
            b"Content-Disposition: attachment; filename*=punycode''" + slow,
            b"Content-Type: multipart/mixed; boundary*=punycode''" + slow,
            b"Content-Type: text/plain; charset=punycode\r\n\r\n" + slow,
            b"Subject: =?punycode?q?" + slow + b"?=",
        ):
            for body in (bytearray(), ["part"]):
                taken.clear()
                self.split(message + b"\r\n\r\nx\r\n", body)
                with self.subTest(message=message[:40]):
                    self.assertLessEqual(max(taken, default=0), MAX_FIELD + 1)
                    self.assertLess(len(taken), 50)

    def test_unknown_charsets_leave_nothing_in_the_cache_of_codecs(self) -> None:
        cache: dict[str, object] = encodings._cache  # type: ignore[attr-defined]
        before = len(cache)
        for number in range(50):
            name = b"x-none-%d" % number
            field = b"Content-Type: text/plain; charset=" + name
            self.split(
                b"Subject: =?" + name + b"?q?a?=\r\n" + field + b"\r\n\r\nx\r\n",
                bytearray(),
            )
        self.assertEqual(len(cache), before)
