"""
`Message.parse`, and the fields that a message shows, also of hostile mail.
"""

from __future__ import annotations

from email import feedparser
from email.headerregistry import HeaderRegistry
from email.message import EmailMessage
from email.policy import EmailPolicy
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pop3connect import Message
from pop3connect.parsing import MAX_COMPARED, MAX_MIME, MAX_PARSED, MAX_PARTS

from .support.shows import shows

MAIL = (
    b"From: =?utf-8?q?Ad=C3=A9le?= <ada@example.com>\r\n"
    b"To: bob@example.com, carol@example.com\r\n"
    b"Subject: =?utf-8?b?Z3LDvMOfZQ==?=\r\n"
    b"Date: Fri, 27 Nov 2026 10:00:00 +0100\r\n"
    b"MIME-Version: 1.0\r\n"
    b'Content-Type: multipart/mixed; boundary="b"\r\n'
    b"\r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Transfer-Encoding: 8bit\r\n\r\nh\xc3\xa9llo\r\n"
    b"--b\r\nContent-Type: application/pdf\r\n"
    b"Content-Disposition: attachment; filename=a.pdf\r\n"
    b"Content-Transfer-Encoding: base64\r\n\r\nJVBERg==\r\n--b--\r\n"
)


def message(content: bytes) -> Message:
    return Message(1, content, None)


def nested(depth: int) -> bytes:
    parts = [
        b'Content-Type: multipart/mixed; boundary="%d"\r\n\r\n--%d\r\n' % (at, at)
        for at in range(depth)
    ]
    return b"Subject: deep\r\n" + b"".join(parts)


class ParseTests(SynchronousTestCase):
    """`Message.parse`"""

    def watch_fields(self) -> list[str]:
        """Return a list that receives the values that the standard library parses."""
        parsed: list[str] = []
        real = HeaderRegistry.__call__

        def watched(registry: HeaderRegistry, name: str, value: str) -> Any:
            parsed.append(value)
            return real(registry, name, value)

        self.patch(HeaderRegistry, "__call__", watched)
        return parsed

    def watch_comparisons(self) -> list[int]:
        """Return a list that receives how many boundaries a line is compared with."""
        compared: list[int] = []
        lines: Any = feedparser.BufferedSubFile
        real = lines.readline

        def watched(file: Any) -> Any:
            compared.append(len(file._eofstack))
            return real(file)

        self.patch(lines, "readline", watched)
        return compared

    def test_mail_is_parsed_as_by_the_default_policy(self) -> None:
        mail = message(MAIL).parse()
        self.assertIs(type(mail), EmailMessage)
        self.assertIsInstance(mail.policy, EmailPolicy)
        self.assertEqual(mail["subject"], "gr\xfc\xdfe")
        self.assertEqual(mail["from"].addresses[0].display_name, "Ad\xe9le")
        self.assertEqual(len(mail["to"].addresses), 2)
        self.assertEqual(mail["date"].datetime.year, 2026)
        body = mail.get_body()
        assert isinstance(body, EmailMessage)
        self.assertEqual(body.get_content(), "h\xe9llo")
        (attachment,) = mail.iter_attachments()
        assert isinstance(attachment, EmailMessage)
        self.assertEqual(attachment.get_filename(), "a.pdf")
        self.assertEqual(attachment.get_content(), b"%PDF")

    def test_header_alone_is_parsed(self) -> None:
        mail = message(b"Subject: hello\r\n\r\n").parse()
        self.assertEqual((mail["subject"], mail.get_content()), ("hello", ""))

    @shows(
        "attack 4.5",
        "Header fields of megabytes, thousands of quotes, parts nested without end",
        "An exception, or minutes of work, in the standard library's parser.",
        "``subject``, ``sender`` and ``date`` decode 4,000 bytes. ``parse()`` parses "
        "fields of up to 32 KiB, 64 KiB of fields of MIME, 2,000 parts, and 10 million "
        "comparisons of a line with a boundary. The rest, and fields at which the "
        "parser fails, stay text.",
    )
    def test_hostile_mail_is_parsed_and_its_fields_can_be_read(self) -> None:
        many = 1_500
        for value in (
            b'text/plain; name="' + b'"' * many,
            b'"' * many,
            b"text/plain; " + b"(" * many,
            b"multipart/mixed; boundary*=x'y'\xff",
            b"text/plain; name*0*=; name**=x; *=y; name*1",
            b"multipart/mixed; boundary=",
            b"\xff" * many,
            b"=?utf-8?q?" * many,
            b"",
        ):
            for name in (
                b"Content-Type",
                b"Content-Disposition",
                b"Content-Transfer-Encoding",
                b"MIME-Version",
                b"From",
                b"Date",
                b"Message-ID",
                b"Subject",
            ):
                for start in (b"", b"x" * (MAX_PARSED + 1)):
                    field = name + b": " + start + value
                    mail = message(field + b"\r\n\r\ntext\r\n").parse()
                    str(mail[name.decode()])
                    mail.get_body()
                    mail.get_filename()
                    list(mail.iter_attachments())
                    list(mail.walk())

    def test_field_that_cannot_be_parsed_is_text_without_structure(self) -> None:
        for value in ("(" * 4000, "ada@example.com," * 4000):
            mail = message(b"To: " + value.encode() + b"\r\n\r\n").parse()
            self.assertEqual(mail["to"], value[:MAX_PARSED])
            self.assertEqual(mail["to"].addresses, ())

    @shows("attack 4.5")
    def test_megabytes_of_one_field_are_not_parsed(self) -> None:
        parsed = self.watch_fields()
        for name, value in (
            (b"Content-Type", b"text/plain; " + b"a=b; " * 400_000),
            (b"Content-Transfer-Encoding", b"(" * 2_000_000),
            (b"To", b"ada@example.com, " * 120_000),
            (b"Subject", b"=?utf-8?q?x?= " * 150_000),
        ):
            parsed.clear()
            one = message(name + b": " + value + b"\r\n\r\ntext\r\n")
            mail = one.parse()
            shown = mail[name.decode()]
            self.assertEqual(len(shown), MAX_PARSED, name)
            self.assertNotIn("\n", shown)
            for text in (one.subject, one.sender, one.date):
                self.assertLessEqual(len(text), 1000)
            # It would take a minute.
            self.assertLessEqual(max(map(len, parsed)), MAX_PARSED, name)
            self.assertLessEqual(sum(map(len, parsed)), 4 * MAX_PARSED, name)

    @shows("attack 4.5")
    def test_fields_of_many_parts_are_parsed_up_to_a_bound_for_all(self) -> None:
        parsed = self.watch_fields()
        numbers = range(3000)
        for kind in ("text/plain", "multipart/mixed; boundary=c"):
            for lists in (
                ["".join(f"; x{n}=y" for n in numbers)] * 20,
                ["".join(f"; x{n}y{part}=z" for n in numbers) for part in range(20)],
            ):
                parts = "".join(
                    f"--b\r\nContent-Type: {kind}{x}\r\n\r\n" for x in lists
                )
                content = f"Content-Type: multipart/mixed; boundary=b\r\n\r\n{parts}"
                parsed.clear()
                mail = message(content.encode()).parse()
                self.assertTrue(mail.is_multipart())
                for part in mail.walk():
                    part.get_content_type()
                    part.get_filename()
                # It would take 10 seconds and more.
                self.assertLessEqual(sum(map(len, parsed)), MAX_MIME)

    def test_field_that_was_parsed_is_the_same_each_time(self) -> None:
        fields = "; ".join(f"x{n}=y" for n in range(5000))
        parts = "".join(
            f"--b\r\nContent-Type: text/plain; name=a{n}; {fields[:30_000]}\r\n\r\n"
            for n in range(4)
        )
        content = f"Content-Type: multipart/mixed; boundary=b\r\n\r\n{parts}"
        mail = message(content.encode()).parse()
        for _ in range(2):
            kinds = [part["content-type"] for part in mail.iter_parts()]
            names = [kind.params.get("name") for kind in kinds]
            # What comes after `MAX_MIME` characters is text.
            self.assertEqual(names, ["a0", "a1", None, None])

    @shows("attack 4.5")
    def test_too_many_parts_or_boundaries_are_not_split(self) -> None:
        head = b"Subject: many\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
        compared = self.watch_comparisons()
        for parts in head + b"--b\r\n\r\n" * MAX_PARTS + nested(100), nested(290):
            compared.clear()
            mail = message(parts + b"\r" * 10**6).parse()
            self.assertIn(mail["subject"], ("many", "deep"))
            self.assertFalse(mail.is_multipart())
            self.assertLessEqual(sum(compared), MAX_COMPARED)
        mail = message(head + b"--b\r\n\r\n" * (MAX_PARTS - 2)).parse()
        self.assertEqual(len(list(mail.iter_parts())), MAX_PARTS - 2)

    @shows("attack 4.5")
    def test_parts_nested_too_deeply_are_not_split(self) -> None:
        mail = message(nested(1100)).parse()
        self.assertEqual(mail["subject"], "deep")
        self.assertFalse(mail.is_multipart())
        mail = message(nested(20)).parse()
        self.assertTrue(mail.is_multipart())

    def test_any_bytes_are_parsed(self) -> None:
        for content in (b"", b"\0", b"\r\n", b"\xff\xfe" * 10, b":\r\n\r\n", b"a: b"):
            self.assertIsInstance(message(content).parse(), EmailMessage)


class FieldTests(SynchronousTestCase):
    """`Message.subject`, `Message.sender`, `Message.date`"""

    def test_fields_are_decoded(self) -> None:
        one = message(MAIL)
        self.assertEqual(one.subject, "gr\xfc\xdfe")
        self.assertEqual(one.sender, "Ad\xe9le <ada@example.com>")
        self.assertEqual(one.date, "2026-11-27T10:00:00+01:00")

    def test_missing_fields_are_empty(self) -> None:
        one = message(b"\r\nSubject: of the text\r\n")
        self.assertEqual((one.subject, one.sender, one.date), ("", "", ""))

    @shows("attack 4.5")
    def test_hostile_fields_are_printable_and_bounded(self) -> None:
        one = message(
            b"Subject: \x1b[31m\r\n red" + b"!" * 5000 + b"\r\n"
            b"From: " + b'"' * 4000 + b"\r\nDate: " + b"(" * 4000 + b"\r\n\r\n"
        )
        for text in (one.subject, one.sender, one.date):
            self.assertTrue(text.isprintable())
            self.assertLessEqual(len(text), 1000)
