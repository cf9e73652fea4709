"""What servers say, line by line and listing by listing: read right or refused."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pop3connect import UID, Capabilities, Listing, Stat
from pop3connect.sansio.replies import (
    MAX_CAPABILITIES,
    MAX_NUMBER,
    TLS_RECORD,
    BadReplyError,
    Status,
    looks_like,
    parse_capabilities,
    parse_challenge,
    parse_languages,
    parse_listing,
    parse_one_listing,
    parse_one_uid,
    parse_stat,
    parse_status,
    parse_uid_reply,
    parse_uids,
)


class StatusLineTests(SynchronousTestCase):
    """`parse_status` and `parse_challenge`"""

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

    def test_text_in_brackets_that_cannot_be_a_code_stays_text(self) -> None:
        for text in (b"[see the manual]", b"[]", b"[AUTH", b"no [AUTH]", b"[\xc3\xa9]"):
            self.assertEqual(parse_status(b"-ERR " + text), Status(False, text))

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


class CapabilitiesTests(SynchronousTestCase):
    """`parse_capabilities` and `Capabilities`"""

    def test_capa_body_is_parsed_into_tags_and_arguments(self) -> None:
        capabilities = parse_capabilities(
            b"TOP\r\nUSER\r\nSASL PLAIN SCRAM-SHA-256\r\nUIDL\r\nX-New thing  two\r\n"
            b"IMPLEMENTATION Shlemazle-Plotz v302 a=b\r\n"
        )
        self.assertEqual(
            dict(capabilities),
            {
                "TOP": (),
                "USER": (),
                "SASL": ("PLAIN", "SCRAM-SHA-256"),
                "UIDL": (),
                "X-NEW": ("thing", "two"),
                "IMPLEMENTATION": ("Shlemazle-Plotz", "v302", "a=b"),
            },
        )
        self.assertTrue(capabilities.known)
        self.assertEqual(capabilities.implementation, "Shlemazle-Plotz v302 a=b")

    def test_tags_and_mechanisms_are_case_insensitive(self) -> None:
        capabilities = parse_capabilities(b"sasl plain Scram-Sha-1\r\nstls\r\n")
        self.assertIn("STLS", capabilities)
        self.assertIn("Stls", capabilities)
        self.assertEqual(capabilities["Sasl"], ("plain", "Scram-Sha-1"))
        self.assertEqual(capabilities.get("sAsL"), ("plain", "Scram-Sha-1"))
        self.assertEqual(capabilities.sasl, ("PLAIN", "SCRAM-SHA-1"))

    def test_mechanisms_on_two_sasl_lines_are_combined(self) -> None:
        capabilities = parse_capabilities(b"SASL PLAIN\r\nUIDL\r\nsasl LOGIN X\r\n")
        self.assertEqual(capabilities.sasl, ("PLAIN", "LOGIN", "X"))

    def test_sasl_is_empty_without_mechanisms(self) -> None:
        self.assertEqual(parse_capabilities(b"SASL\r\n").sasl, ())
        self.assertEqual(parse_capabilities(b"").sasl, ())

    def test_irregular_lines_are_parsed(self) -> None:
        """Bare LF, several blanks, tabs, empty lines and lines that begin oddly."""
        capabilities = parse_capabilities(b"TOP\n\r\n  \r\n\tUIDL\t \r\n.X y\r\nZ")
        self.assertEqual(
            dict(capabilities), {"TOP": (), "UIDL": (), ".X": ("y",), "Z": ()}
        )

    def test_login_delay_and_expire_are_numbers_or_none(self) -> None:
        for words, value in [
            (b"900", 900),
            (b"0", 0),
            (b"900 USER", 900),
            (b"900 whatever else", 900),
            (b"NEVER", None),
            (b"-1", None),
            (b"1.5", None),
            (b"", None),
            (b"9" * 4000, None),
            ("\u0661".encode(), None),
        ]:
            capabilities = parse_capabilities(
                b"LOGIN-DELAY %b\r\nEXPIRE %b\r\n" % (words, words)
            )
            self.assertEqual(capabilities.login_delay, value, words)
            self.assertEqual(capabilities.expire, value, words)

    def test_missing_values_are_none(self) -> None:
        nothing = Capabilities()
        self.assertEqual(
            (nothing.login_delay, nothing.expire, nothing.implementation),
            (None, None, None),
        )

    def test_unprintable_characters_are_escaped(self) -> None:
        capabilities = parse_capabilities(b"X\x1b[2J \xe2\x80\xae \xff caf\xc3\xa9\r\n")
        self.assertEqual(
            dict(capabilities), {"X\\X1B[2J": ("\\u202e", "\\xff", "caf\u00e9")}
        )

    def test_capabilities_are_a_read_only_mapping(self) -> None:
        given_tags = {"TOP": (), "UIDL": ()}
        capabilities = Capabilities(given_tags)
        del given_tags["TOP"]
        self.assertEqual(list(capabilities), ["TOP", "UIDL"])
        self.assertEqual(len(capabilities), 2)
        self.assertEqual(capabilities, {"TOP": (), "UIDL": ()})
        self.assertNotIn("STLS", capabilities)
        with self.assertRaises(KeyError):
            capabilities["STLS"]
        with self.assertRaises(TypeError):
            capabilities["STLS"] = ()  # type: ignore[index]

    def test_known_is_true_for_an_empty_list_and_false_without_capa(self) -> None:
        self.assertTrue(parse_capabilities(b"").known)
        self.assertFalse(Capabilities(known=False).known)

    def test_repr_shows_the_tags(self) -> None:
        self.assertEqual(
            repr(parse_capabilities(b"TOP\r\nSASL X\r\n")), "<Capabilities TOP SASL>"
        )
        self.assertEqual(repr(Capabilities()), "<Capabilities none>")

    def test_too_many_capabilities_are_refused(self) -> None:
        body = b"".join(b"X%d\r\n" % number for number in range(MAX_CAPABILITIES))
        self.assertEqual(len(parse_capabilities(body)), MAX_CAPABILITIES)
        with self.assertRaises(BadReplyError):
            parse_capabilities(body + b"ONE-MORE\r\n")
        with self.assertRaises(BadReplyError):
            parse_capabilities(b"SASL A\r\n" * (MAX_CAPABILITIES + 1))


class LanguageTests(SynchronousTestCase):
    """`parse_languages` (RFC 6856 section 3.2)"""

    def test_each_tag_is_mapped_to_its_name(self) -> None:
        body = b"en English\r\nde Deutsch (neu)\r\nfr Fran\xc3\xa7ais\r\nx\r\n\r\n"
        self.assertEqual(
            parse_languages(body),
            {"en": "English", "de": "Deutsch (neu)", "fr": "Fran\u00e7ais", "x": ""},
        )
        self.assertEqual(parse_languages(b""), {})

    def test_unprintable_characters_are_escaped(self) -> None:
        body = b"e\x1b  \xe2\x80\xae\xff \r\n"
        self.assertEqual(parse_languages(body), {"e\\x1b": "\\u202e\\xff"})


class StatTests(SynchronousTestCase):
    """`parse_stat`"""

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
    """`parse_listing` and `parse_one_listing`"""

    def test_rows_keep_the_order_of_the_server(self) -> None:
        for body, rows in [
            (b"", []),
            (b"1 120\r\n2 200\r\n", [(1, 120), (2, 200)]),
            # with holes, where messages are marked as deleted
            (b"2 200\r\n7 1\r\n", [(2, 200), (7, 1)]),
            (b"3 1\r\n1 2\r\n2 3\r\n", [(3, 1), (1, 2), (2, 3)]),
            (b"1 0\r\n", [(1, 0)]),
            (b"1 4294967296\r\n2 4294967800\r\n", [(1, 2**32), (2, 4_294_967_800)]),
            (b"%d %d\r\n" % (MAX_NUMBER, MAX_NUMBER), [(MAX_NUMBER, MAX_NUMBER)]),
        ]:
            self.assertEqual(parse_listing(body), rows, body)

    def test_rows_are_of_type_listing(self) -> None:
        self.assertEqual(parse_listing(b"1 120\r\n"), [Listing(number=1, size=120)])
        self.assertIs(type(parse_listing(b"1 120\r\n")[0]), Listing)

    def test_irregular_lines_are_parsed(self) -> None:
        """Blanks before, between and after; further text; empty lines."""
        body = b"  1   120 \r\n\r\n\t2\t200\tfurther text\r\n \r\n3 300 x y\r\n4 5"
        self.assertEqual(parse_listing(body), [(1, 120), (2, 200), (3, 300), (4, 5)])

    def test_last_line_without_line_end_is_parsed(self) -> None:
        self.assertEqual(parse_listing(b"1 120\r\n2 200"), [(1, 120), (2, 200)])
        with self.assertRaises(BadReplyError):
            parse_listing(b"junk")

    def test_repeated_row_is_returned_once(self) -> None:
        body = b"2 200\r\n1 120\r\n2 200 again\r\n3 300\r\n1 120\r\n"
        self.assertEqual(parse_listing(body), [(2, 200), (1, 120), (3, 300)])

    def test_two_sizes_for_one_message_are_refused(self) -> None:
        with self.assertRaises(BadReplyError):
            parse_listing(b"1 120\r\n2 200\r\n1 121\r\n")

    def test_listing_with_one_bad_line_is_refused(self) -> None:
        for line in (
            b"0 120",
            b"-1 120",
            b"+1 120",
            b"1",
            b"1 ",
            b"1 -120",
            b"1 120x",
            b"1 x120",
            b"1x 120",
            b"1,120",
            b"1 1.5",
            b"one two",
            b"\x001 120",
            b"1\x0b120",
            b"1 120\n2 200",
            b"%d 1" % (MAX_NUMBER + 1),
            b"1 %d" % (MAX_NUMBER + 1),
            b"9" * 100_000 + b" 1",
            b"1 " + b"9" * 100_000,
            "\u0661 \u0661".encode(),
            b"\xff\xfe",
        ):
            with self.assertRaises(BadReplyError) as caught:
                parse_listing(b"7 70\r\n%b\r\n8 80\r\n" % line)
            self.assertLess(len(str(caught.exception)), 500)
            self.assertTrue(str(caught.exception).isprintable())

    def test_error_states_what_was_expected_and_received(self) -> None:
        with self.assertRaises(BadReplyError) as caught:
            parse_listing(b"1 many\r\n")
        self.assertEqual(
            str(caught.exception), "expected a message number and a size, got '1 many'"
        )

    def test_a_hundred_thousand_lines_are_read(self) -> None:
        body = b"".join(b"%d %d\r\n" % (n, n * 7) for n in range(1, 100_001))
        rows = parse_listing(body)
        self.assertEqual(len(rows), 100_000)
        self.assertEqual((rows[0], rows[-1]), ((1, 7), (100_000, 700_000)))

    def test_single_line_is_parsed_like_a_row_of_a_listing(self) -> None:
        self.assertEqual(parse_one_listing(b"2 200"), Listing(2, 200))
        self.assertEqual(parse_one_listing(b"2 200 octets"), Listing(2, 200))
        for text in (b"", b"2", b"0 200", b"2 x"):
            with self.assertRaises(BadReplyError):
                parse_one_listing(text)


class UIDTests(SynchronousTestCase):
    """`parse_uids` and `parse_one_uid`"""

    def test_rows_keep_the_order_of_the_server(self) -> None:
        body = b"2 QhdPYR:00WBw1Ph7x7\r\n1 whqtswO00WBw418f9t5JxYwZ\r\n9 !~\r\n"
        self.assertEqual(
            parse_uids(body),
            [(2, "QhdPYR:00WBw1Ph7x7"), (1, "whqtswO00WBw418f9t5JxYwZ"), (9, "!~")],
        )
        self.assertIs(type(parse_uids(body)[0]), UID)
        self.assertEqual(parse_uids(b""), [])

    def test_uid_is_everything_after_the_number(self) -> None:
        for line, uid in [
            (b"1 two words", "two words"),
            (b"1  two  words ", "two  words"),
            (b" 1\tx", "x"),
            (b"1 " + b"x" * 71, "x" * 71),
            (b"1 " + b"x" * 5000, "x" * 5000),
            (b"1 <id@host>", "<id@host>"),
            (b"1 0", "0"),
            # taken from a header that the message has not
            (b"1 ", ""),
            (b"1", ""),
            (b"1 a\nb\x00c", "a\nb\x00c"),
        ]:
            self.assertEqual(parse_one_uid(line), UID(1, uid), line)
            self.assertEqual(parse_uids(line + b"\r\n"), [UID(1, uid)], line)

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

    def test_non_ascii_bytes_of_a_uid_can_be_recovered(self) -> None:
        for octets in (b"caf\xc3\xa9", b"\xff\xfe", b"a\xe9b", bytes(range(128, 256))):
            uid = parse_one_uid(b"1 " + octets).uid
            self.assertEqual(uid.encode("ascii", "surrogateescape"), octets)

    def test_two_messages_with_the_same_uid_are_accepted(self) -> None:
        self.assertEqual(
            parse_uids(b"1 same\r\n2 same\r\n"), [(1, "same"), (2, "same")]
        )

    def test_repeated_row_is_returned_once(self) -> None:
        self.assertEqual(
            parse_uids(b"1 a\r\n2 b\r\n1 a\r\n1  a \r\n"), [(1, "a"), (2, "b")]
        )

    def test_two_uids_for_one_message_are_refused(self) -> None:
        for second in (b"1 b", b"1 A", b"1"):
            with self.assertRaises(BadReplyError):
                parse_uids(b"1 a\r\n%b\r\n" % second)

    def test_listing_with_one_bad_line_is_refused(self) -> None:
        for line in (
            b"0 a",
            b"-1 a",
            b"a",
            b"a 1",
            b"1a",
            b"%d a" % (MAX_NUMBER + 1),
            b"9" * 100_000 + b" a",
            b"\xff",
        ):
            with self.assertRaises(BadReplyError) as caught:
                parse_uids(b"7 x\r\n%b\r\n8 y\r\n" % line)
            self.assertLess(len(str(caught.exception)), 500)

    def test_a_hundred_thousand_lines_are_read(self) -> None:
        body = b"".join(b"%d id%d\r\n" % (n, n) for n in range(1, 100_001))
        rows = parse_uids(body)
        self.assertEqual(len(rows), 100_000)
        self.assertEqual(rows[-1], (100_000, "id100000"))


# Small enough to come twice, or near the limit.
_NUMBERS = st.integers(0, 9) | st.integers(MAX_NUMBER - 1, MAX_NUMBER + 1)
_LINES = st.sampled_from(
    [
        *(b"%d %d\r\n" % (number, number * 100) for number in range(1, 6)),
        *(b"%d u%d\r\n" % (number, number) for number in range(1, 6)),
        *(b"1", b" ", b"\t", b"\n", b"\r", b"\r\n", b"x", b"0", b"-", b"\xff"),
        *(b"7 70 x\r\n", b" 8 80\r\n", b"07 7\r\n", b"9 " + b"9" * 19 + b"\r\n"),
    ]
)
_ROWS = st.lists(st.tuples(_NUMBERS, _NUMBERS), max_size=6)


def outcome(parse: Callable[[bytes], object], body: bytes) -> object:
    """Return what was read, or ``None`` if it was refused."""
    try:
        return parse(body)
    except BadReplyError:
        return None


def one_by_one(
    parse: Callable[[bytes], tuple[int, object]], lines: list[bytes]
) -> object:
    """Read a listing the long way."""
    try:
        rows = list(dict.fromkeys(map(parse, lines)))
    except BadReplyError:
        return None
    return rows if len({row[0] for row in rows}) == len(rows) else None


class AnyListingTests(SynchronousTestCase):
    """All listings: read back as they were meant, or refused."""

    @settings(max_examples=100, deadline=None, derandomize=True, database=None)
    @given(_ROWS)
    @example([(1, 2), (1, 2)])
    @example([(1, 2), (1, 3)])
    def test_valid_listing_is_parsed_and_any_other_refused(
        self, rows: list[tuple[int, int]]
    ) -> None:
        sensible = (
            all(1 <= number <= MAX_NUMBER >= size for number, size in rows)
            and len(set(rows)) == len(dict(rows))
        )  # fmt: skip
        body = b"".join(b"%d %d\r\n" % row for row in rows)
        if sensible:
            self.assertEqual(parse_listing(body), list(dict.fromkeys(rows)))
        else:
            with self.assertRaises(BadReplyError):
                parse_listing(body)

    @settings(max_examples=200, deadline=None, derandomize=True, database=None)
    @given(st.lists(_LINES, max_size=6).map(b"".join))
    @example(b"1 2\n3 4\r\n")
    @example(b"x\n1 2\r\n")
    @example(b"1 2\r\r\n")
    def test_whole_listing_is_parsed_like_its_lines_one_by_one(
        self, body: bytes
    ) -> None:
        """Whatever shortcut there is for listings without surprises."""
        if not body.endswith(b"\r\n"):
            body += b"\r\n"
        lines = [line for line in body.split(b"\r\n") if line.strip()]
        self.assertEqual(
            outcome(parse_listing, body), one_by_one(parse_one_listing, lines)
        )
        self.assertEqual(outcome(parse_uids, body), one_by_one(parse_one_uid, lines))

    @settings(max_examples=100, deadline=None, derandomize=True, database=None)
    @given(st.lists(st.sampled_from([*b"019 \t\r\n-x\xff\0."]), max_size=30).map(bytes))
    def test_junk_raises_only_bad_reply_error(self, body: bytes) -> None:
        for parse in (parse_listing, parse_uids, parse_stat, parse_capabilities):
            try:
                parse(body)
            except BadReplyError as error:
                self.assertTrue(str(error).isprintable())
