"""What servers say, line by line: read right or refused."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pop3connect import UID, Listing, Stat
from pop3connect.sansio.replies import (
    MAX_NUMBER,
    TLS_RECORD,
    BadReplyError,
    Status,
    looks_like,
    parse_challenge,
    parse_one_listing,
    parse_one_uid,
    parse_stat,
    parse_status,
    parse_uid_reply,
)

from ..support.shows import shows


class StatusLineTests(SynchronousTestCase):
    """`parse_status` and `parse_challenge`"""

    @shows(
        "quirk 4.1",
        "``+OK`` followed by a tab, or by any character except a letter or a digit",
        "It counts as ``+OK``.",
    )
    def test_ok_line_gives_its_text_without_outer_blanks(self) -> None:
        for line, text in [
            (b"+OK", b""),
            (b"+OK ", b""),
            (b"+OK\t", b""),
            (b"+OK ready", b"ready"),
            (b"+OK\tready ", b"ready"),
            (b"+OK  2 320", b"2 320"),
            (b"+OK caf\xc3\xa9 \xff", b"caf\xc3\xa9 \xff"),
            # Office 365 has something in brackets there that is no code.
            (b"+OK [UwBO] ready", b"[UwBO] ready"),
        ]:
            self.assertEqual(parse_status(line), Status(True, text), line)

    @shows(
        "RFC 2449-07",
        "MUST",
        "A response code has no case; unknown levels after ``/`` are ignored.",
        "``.code`` is in upper case, and ``.transient`` depends on the known levels.",
    )
    def test_err_line_gives_its_text_and_response_code(self) -> None:
        for line, code, text in [
            (b"-ERR", None, b""),
            (b"-ERR ", None, b""),
            (b"-ERR no such message", None, b"no such message"),
            (b"-ERR\tno", None, b"no"),
            (b"-ERR [IN-USE] locked", "IN-USE", b"locked"),
            (b"-ERR [in-use]locked", "IN-USE", b"locked"),
            (b"-ERR [SYS/TEMP]", "SYS/TEMP", b""),
            (b"-ERR  [sys/temp/Disk]  full ", "SYS/TEMP/DISK", b"full"),
            (b"-ERR [AUTH] [AUTH]", "AUTH", b"[AUTH]"),
            # hMailServer has been seen to say this.
            (b"+ERR no such message", None, b"no such message"),
            (b"+ERR", None, b""),
        ]:
            self.assertEqual(parse_status(line), Status(False, text, code), line)

    @shows(
        "quirk 4.3",
        "Text in brackets that is not a response code",
        "It stays text.",
    )
    def test_text_in_brackets_that_cannot_be_a_code_stays_text(self) -> None:
        for text in (b"[see the manual]", b"[]", b"[AUTH", b"no [AUTH]", b"[\xc3\xa9]"):
            self.assertEqual(parse_status(b"-ERR " + text), Status(False, text))

    @shows(
        "RFC 1939-19",
        "MUST",
        "A reply begins with ``+OK`` or ``-ERR``, in upper case.",
        "Anything else ends the session, except for the deviations in :doc:`quirks`.",
    )
    def test_line_without_a_valid_indicator_is_not_a_status_line(self) -> None:
        for line in (
            b"",
            b" ",
            b"+",
            b"+ ",
            b"+ Y2hhbGxlbmdl",
            b"OK",
            b" +OK",
            b"+ok",
            b"+ERRor",
            b"+OKAY",
            b"+OK1",
            b"-ERRor",
            b"+NO",
            b"-OK",
            b"-err",
            b"Subject: +OK",
            b"\x00+OK",
            b"* OK",
        ):
            self.assertIs(parse_status(line), None, line)

    def test_repr_of_a_status_shows_no_text(self) -> None:
        for status, shown in (
            (Status(True, b"secret"), "<+OK, 6 octets of text>"),
            (Status(False, b"no", "AUTH"), "<-ERR [AUTH], 2 octets of text>"),
            (Status(True, b"abc", challenge=True), "<+, 3 octets of text>"),
        ):
            self.assertEqual(repr(status), shown)

    def test_continuation_line_gives_its_challenge(self) -> None:
        for line, text in [
            (b"+", b""),
            (b"+ ", b""),
            (b"+ Y2hhbGxlbmdl", b"Y2hhbGxlbmdl"),
            (b"+  Y2hhbGxlbmdl ", b"Y2hhbGxlbmdl"),
        ]:
            self.assertEqual(
                parse_challenge(line), Status(True, text, challenge=True), line
            )

    def test_line_that_is_not_a_continuation_gives_none(self) -> None:
        for line in (b"", b"+OK", b"+OK done", b"-ERR", b"+Y2hh", b" + Y2hh", b"Y2hh"):
            self.assertIs(parse_challenge(line), None, line)

    @settings(max_examples=100, deadline=None, derandomize=True, database=None)
    @given(
        st.sampled_from([b"", b"+OK", b"-ERR", b"-ERR [", b"+ ", b"+"]),
        st.binary(max_size=20),
    )
    def test_parsing_any_line_never_raises(self, start: bytes, rest: bytes) -> None:
        status = parse_status(start + rest)
        if status is not None:
            self.assertEqual(status.ok, start.startswith(b"+OK"))
            self.assertFalse(status.challenge)
            # It is one thing or the other, so the order of asking is no matter.
            self.assertIs(parse_challenge(start + rest), None)


class LooksLikeTests(SynchronousTestCase):
    """`looks_like`"""

    def test_greetings_of_other_protocols_are_recognized(self) -> None:
        for greeting, name in [
            (b"\x15\x03\x01\x00\x02\x02\x46", TLS_RECORD),
            (b"\x15\x03\x03", TLS_RECORD),
            (b"\x16\x03\x03\x00\x7a", TLS_RECORD),
            (b"220 mx.example.com ESMTP", "an SMTP server"),
            (b"220-mx.example.com", "an SMTP server"),
            (b"554 no", "an SMTP server"),
            (b"421 busy", "an SMTP server"),
            (b"220 ProFTPD Server ready", "an FTP server"),
            (b"220-\r\n220 (vsFTPd 3.0.3)", "an FTP server"),
            (b"* OK [CAPABILITY IMAP4rev1] ready", "an IMAP server"),
            (b"* PREAUTH", "an IMAP server"),
            (b"* BYE too many", "an IMAP server"),
            (b"SSH-2.0-OpenSSH_9.6", "an SSH server"),
            (b"HTTP/1.1 400 Bad Request", "a web server"),
            (b"<!DOCTYPE html>", "a web server"),
            (b"<html><head>", "a web server"),
        ]:
            self.assertEqual(looks_like(greeting), name, greeting)

    def test_pop3_or_unknown_greeting_gives_none(self) -> None:
        for greeting in (
            b"",
            b"+OK ready",
            b"-ERR [IN-USE]",
            b"hello",
            b"2200 ",
            b"* ",
            b"\x16",
            b"x\x16\x03\x01",
        ):
            self.assertIs(looks_like(greeting), None, greeting)


class StatTests(SynchronousTestCase):
    """`parse_stat`"""

    @shows(
        "RFC 1939-06",
        "MUST",
        "STAT: two numbers; what follows is ignored.",
        "Further words are ignored.",
    )
    @shows("quirk 5.1", "STAT with further words", "The first two numbers count.")
    def test_first_two_numbers_are_count_and_size(self) -> None:
        for text, stat in [
            (b"2 320", (2, 320)),
            (b"0 0", (0, 0)),
            (b"2  320 octets, and more", (2, 320)),
            (b"2\t320", (2, 320)),
            (b"007 010", (7, 10)),
            (b"14000000 4294967800", (14_000_000, 4_294_967_800)),
            (b"1 %d" % MAX_NUMBER, (1, MAX_NUMBER)),
        ]:
            self.assertEqual(parse_stat(text), stat, text)
            self.assertIs(type(parse_stat(text)), Stat)

    @shows(
        "quirk 5.2",
        "STAT with a negative total, in large mailboxes",
        "``size`` is 0; the count is right.",
    )
    def test_negative_total_is_read_as_zero(self) -> None:
        self.assertEqual(parse_stat(b"20000 -2043124"), (20000, 0))

    def test_unreadable_text_is_refused_with_short_printable_error(self) -> None:
        for text in (
            b"",
            b"2",
            b"-1 320",
            b"two 320",
            b"2 messages (320 octets)",
            b"2 -",
            b"2 --1",
            b"2 1.5",
            b"1 %d" % (MAX_NUMBER + 1),
            b"%d 1" % (MAX_NUMBER + 1),
            b"9" * 100_000 + b" 1",
            "\u0661 \u0661".encode(),
        ):
            with self.assertRaises(BadReplyError) as caught:
                parse_stat(text)
            self.assertLess(len(str(caught.exception)), 500)
        with self.assertRaises(BadReplyError) as caught:
            parse_stat(b"\x1b[31m \xe2\x80\xae")
        self.assertTrue(str(caught.exception).isprintable())


class ListingTests(SynchronousTestCase):
    """`parse_one_listing`"""

    @shows("RFC 1939-07")
    def test_single_line_is_parsed_like_a_row_of_a_listing(self) -> None:
        self.assertEqual(parse_one_listing(b"2 200"), Listing(2, 200))
        self.assertEqual(parse_one_listing(b"2 200 octets"), Listing(2, 200))
        for text in (b"", b"2", b"0 200", b"2 x"):
            with self.assertRaises(BadReplyError):
                parse_one_listing(text)


class UIDTests(SynchronousTestCase):
    """`parse_uid_reply` and `parse_one_uid`"""

    def test_uid_reply_of_one_word_is_the_uid_of_the_message_asked_for(self) -> None:
        # Twisted's own server leaves out the number.
        for word in (b"00001a1457b5a851", b"uid0", b"1-2", b"!~", b"x" * 70):
            for text in (word, b" " + word + b"\t"):
                self.assertEqual(parse_uid_reply(text, 3), UID(3, word.decode()), text)

    def test_uid_reply_with_number_and_uid_is_read_as_both(self) -> None:
        self.assertEqual(parse_uid_reply(b"3 00001a", 3), UID(3, "00001a"))
        self.assertEqual(parse_uid_reply(b"3 4", 3), UID(3, "4"))

    def test_uid_reply_of_one_number_is_refused_with_the_way_out(self) -> None:
        for text in (b"1457", b"3", b"2"):
            with self.assertRaises(BadReplyError) as caught:
                parse_uid_reply(text, 3)
            self.assertIn("uidl()", str(caught.exception))

    def test_uid_reply_without_number_or_of_another_message_is_refused(self) -> None:
        for text in (b"", b"no such", b"x" * 71, b"caf\xe9", b"4 abc"):
            with self.assertRaises(BadReplyError, msg=text):
                parse_uid_reply(text, 3)

    @shows("quirk 5.7")
    def test_non_ascii_bytes_of_a_uid_can_be_recovered(self) -> None:
        for octets in (b"caf\xc3\xa9", b"\xff\xfe", b"a\xe9b", bytes(range(128, 256))):
            uid = parse_one_uid(b"1 " + octets).uid
            self.assertEqual(uid.encode("ascii", "surrogateescape"), octets)
