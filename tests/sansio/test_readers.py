"""Listings of servers, in pieces of any size: read right, or refused."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import TypeVar

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pop3connect import UID, Capabilities, Listing
from pop3connect.sansio.readers import (
    MAX_CAPABILITIES,
    MAX_LISTING,
    MAX_ROW,
    CapabilityReader,
    LanguageReader,
    ListingReader,
    Reader,
    TooLargeError,
    UIDReader,
)
from pop3connect.sansio.replies import (
    MAX_NUMBER,
    BadReplyError,
    parse_one_listing,
    parse_one_uid,
    parse_stat,
)

from ..support.shows import shows

T = TypeVar("T")


def in_pieces(reader: Reader[T], body: bytes, size: int) -> T:
    for start in range(0, len(body), size):
        reader.feed(body[start : start + size])
    return reader.finish()


def read(make: Callable[[], Reader[T]], body: bytes) -> T:
    """
    Read a body in pieces of several sizes, all with the same outcome.
    """
    sizes = (1, 2, 7) if len(body) < 2000 else (64 * 1024,)
    outcomes = []
    for size in (max(len(body), 1), *sizes):
        try:
            outcomes.append((in_pieces(make(), body, size), None))
        except (BadReplyError, TooLargeError) as error:
            outcomes.append((None, error))
    first, problem = outcomes[0]
    for other, error in outcomes[1:]:
        assert (other, type(error)) == (first, type(problem)), (body, outcomes)
        assert str(error) == str(problem), (body, outcomes)
    if problem is not None:
        raise problem
    return first  # type: ignore[return-value]


def parse_listing(body: bytes) -> list[Listing]:
    return read(lambda: ListingReader(MAX_LISTING), body)


def parse_uids(body: bytes) -> list[UID]:
    return read(lambda: UIDReader(MAX_LISTING), body)


def parse_capabilities(body: bytes) -> Capabilities:
    return read(CapabilityReader, body)


def parse_languages(body: bytes) -> dict[str, str]:
    return read(LanguageReader, body)


class CapabilitiesTests(SynchronousTestCase):
    """`CapabilityReader` and `Capabilities`"""

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

    @shows(
        "RFC 2449-02",
        "MUST",
        "Tags have no case, unknown ones are ignored, lines have at most 512 octets.",
        "Unknown tags are kept and have no effect. At most 512 lines of at most 512 "
        "octets are read.",
    )
    @shows("quirk 2.7")
    def test_tags_and_mechanisms_are_case_insensitive(self) -> None:
        capabilities = parse_capabilities(b"sasl plain Scram-Sha-1\r\nstls\r\n")
        self.assertIn("STLS", capabilities)
        self.assertIn("Stls", capabilities)
        self.assertEqual(capabilities["Sasl"], ("plain", "Scram-Sha-1"))
        self.assertEqual(capabilities.get("sAsL"), ("plain", "Scram-Sha-1"))
        self.assertEqual(capabilities.sasl, ("PLAIN", "SCRAM-SHA-1"))

    @shows(
        "quirk 2.7",
        "SASL is announced twice, in lower case, or without a mechanism",
        "All mechanisms count.",
    )
    def test_mechanisms_on_two_sasl_lines_are_combined(self) -> None:
        capabilities = parse_capabilities(b"SASL PLAIN\r\nUIDL\r\nsasl LOGIN X\r\n")
        self.assertEqual(capabilities.sasl, ("PLAIN", "LOGIN", "X"))

    @shows("quirk 2.7")
    def test_sasl_is_empty_without_mechanisms(self) -> None:
        self.assertEqual(parse_capabilities(b"SASL\r\n").sasl, ())
        self.assertEqual(parse_capabilities(b"").sasl, ())

    @shows(
        "quirk 2.8",
        "Blank lines, junk, lines that begin with a dot",
        "Blank lines are ignored; others are kept as unknown tags.",
    )
    def test_irregular_lines_are_parsed(self) -> None:
        """Bare LF, several blanks, tabs, empty lines and lines that begin oddly."""
        capabilities = parse_capabilities(b"TOP\n\r\n  \r\n\tUIDL\t \r\n.X y\r\nZ")
        self.assertEqual(
            dict(capabilities), {"TOP": (), "UIDL": (), ".X": ("y",), "Z": ()}
        )

    @shows(
        "RFC 2449-08",
        "SHOULD",
        "Wait LOGIN-DELAY between logins; with ``USER`` ask again after the login.",
        "``capabilities.login_delay`` and ``LoginError.retry_after``; CAPA is sent "
        "again after the login. The application chooses when to connect.",
    )
    @shows(
        "RFC 2449-09",
        "SHOULD",
        "Honour EXPIRE: a number of days, ``NEVER``, ``USER``.",
        "``capabilities.expire``; the application chooses which messages to fetch.",
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
            (b"9" * 400, None),
            ("\u0661".encode(), None),
        ]:
            capabilities = parse_capabilities(
                b"LOGIN-DELAY %b\r\nEXPIRE %b\r\n" % (words, words)
            )
            self.assertEqual(capabilities.login_delay, value, words)
            self.assertEqual(capabilities.expire, value, words)

    @shows("RFC 2449-09")
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

    @shows("RFC 2449-01")
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
        with self.assertRaises(TooLargeError):
            parse_capabilities(body + b"ONE-MORE\r\n")
        with self.assertRaises(TooLargeError):
            parse_capabilities(b"SASL A\r\n" * (MAX_CAPABILITIES + 1))


class LanguageTests(SynchronousTestCase):
    """`LanguageReader` (RFC 6856 section 3.2)"""

    @shows("RFC 6856-04")
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


class ListingTests(SynchronousTestCase):
    """`ListingReader`"""

    @shows(
        "quirk 5.4",
        "Listings out of order, with gaps, with a repeated line; more or fewer "
        "messages than STAT says",
        "The messages as the server lists them, each once.",
    )
    @shows("quirk 5.6", "Sizes beyond 4 GiB", "They are read as numbers.")
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

    @shows(
        "RFC 1939-07",
        "MUST",
        "LIST: number and size; what follows is ignored.",
        "Further words are ignored. Rows may come in any order, with blanks and tabs.",
    )
    @shows(
        "quirk 5.3",
        "LIST with further columns, tabs, several blanks, blank lines",
        "The number and the size count.",
    )
    def test_irregular_lines_are_parsed(self) -> None:
        """Blanks before, between and after; further text; empty lines."""
        body = b"  1   120 \r\n\r\n\t2\t200\tfurther text\r\n \r\n3 300 x y\r\n4 5"
        self.assertEqual(parse_listing(body), [(1, 120), (2, 200), (3, 300), (4, 5)])

    def test_last_line_without_line_end_is_parsed(self) -> None:
        self.assertEqual(parse_listing(b"1 120\r\n2 200"), [(1, 120), (2, 200)])
        with self.assertRaises(BadReplyError):
            parse_listing(b"junk")

    @shows("quirk 5.4")
    def test_repeated_row_is_returned_once(self) -> None:
        body = b"2 200\r\n1 120\r\n2 200 again\r\n3 300\r\n1 120\r\n"
        self.assertEqual(parse_listing(body), [(2, 200), (1, 120), (3, 300)])

    def test_two_sizes_for_one_message_are_refused(self) -> None:
        with self.assertRaises(BadReplyError):
            parse_listing(b"1 120\r\n2 200\r\n1 121\r\n")

    @shows(
        "quirk 5.5",
        "A line that is not part of a listing, or number 0",
        "The command fails, and the error shows the line; the session goes on.",
    )
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
            b"9" * 400 + b" 1",
            b"1 " + b"9" * 400,
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
        with self.assertRaises(BadReplyError) as caught:
            parse_listing(b"1 \x1b\r\n")
        self.assertIn(r"got '1 \x1b'", str(caught.exception))

    def test_a_hundred_thousand_lines_are_read(self) -> None:
        body = b"".join(b"%d %d\r\n" % (n, n * 7) for n in range(1, 100_001))
        rows = parse_listing(body)
        self.assertEqual(len(rows), 100_000)
        self.assertEqual((rows[0], rows[-1]), ((1, 7), (100_000, 700_000)))


class UIDTests(SynchronousTestCase):
    """`UIDReader`"""

    def test_rows_keep_the_order_of_the_server(self) -> None:
        body = b"2 QhdPYR:00WBw1Ph7x7\r\n1 whqtswO00WBw418f9t5JxYwZ\r\n9 !~\r\n"
        self.assertEqual(
            parse_uids(body),
            [(2, "QhdPYR:00WBw1Ph7x7"), (1, "whqtswO00WBw418f9t5JxYwZ"), (9, "!~")],
        )
        self.assertIs(type(parse_uids(body)[0]), UID)
        self.assertEqual(parse_uids(b""), [])

    @shows(
        "RFC 1939-13",
        "MUST",
        "A unique-id is 1 to 70 octets from 0x21 to 0x7E, and two messages may share "
        "one.",
        "It is kept as it is, whatever its form; two messages may share one.",
    )
    @shows(
        "quirk 5.7",
        "Unique-ids that are blank, too long, beyond ASCII, with blanks",
        'They are kept as they are; a blank one is ``""``.',
    )
    @shows(
        "attack 4.4",
        "Unique-ids with anything in them",
        "Control of a terminal or a file system, through the program that uses them.",
        "They are keys, and are kept as they are up to the end of the line. Call "
        "``repr()`` before you show one, and do not use one as a file name.",
    )
    def test_uid_is_everything_after_the_number(self) -> None:
        for line, uid in [
            (b"1 two words", "two words"),
            (b"1  two  words ", "two  words"),
            (b" 1\tx", "x"),
            (b"1 " + b"x" * 71, "x" * 71),
            (b"1 " + b"x" * 500, "x" * 500),
            (b"1 <id@host>", "<id@host>"),
            (b"1 0", "0"),
            # taken from a header that the message has not
            (b"1 ", ""),
            (b"1", ""),
            (b"1 a\nb\x00c", "a\nb\x00c"),
        ]:
            self.assertEqual(parse_uids(line + b"\r\n"), [UID(1, uid)], line)

    @shows("RFC 1939-13")
    @shows(
        "quirk 5.10",
        "The same unique-id for two messages",
        "``uidl()`` returns both. A program that leaves mail on the server must not "
        "mistake one for the other.",
    )
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
            b"9" * 400 + b" a",
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


class BoundTests(SynchronousTestCase):
    """What a server may send is bounded, and so is the work for a piece of it."""

    def test_more_rows_than_allowed_end_the_session(self) -> None:
        for make in (ListingReader, UIDReader):
            rising = [b"%d 1\r\n" % number for number in range(1, 12)]
            for rows in (rising, [b"1 1\r\n"] * 11, [b"x\r\n"] * 11, [b"\r\n"] * 11):
                reader = make(10)
                reader.feed(b"".join(rows[:10]))
                with self.assertRaises(TooLargeError) as caught:
                    reader.feed(rows[10])
                self.assertEqual(str(caught.exception), "more than 10 rows")

    def test_row_of_more_than_512_bytes_ends_the_session(self) -> None:
        for make in (
            lambda: ListingReader(10),
            lambda: UIDReader(10),
            CapabilityReader,
        ):
            for size in (1, 7, 600):
                longest = b"1 " + b"1" * (MAX_ROW - 4) + b"\r\n"
                self.assertEqual(len(longest), MAX_ROW)
                reader = make()
                for start in range(0, len(longest), size):
                    reader.feed(longest[start : start + size])
                with self.assertRaises(TooLargeError):
                    for start in range(0, len(longest), size):
                        reader.feed((b"1" + longest)[start : start + size])
                    reader.feed(b"\r\n")

    def test_row_without_end_is_never_held_as_a_whole(self) -> None:
        reader = UIDReader(10)
        with self.assertRaises(TooLargeError):
            for _ in range(600):
                reader.feed(b"1")

    def test_bad_row_fails_at_the_end_and_what_follows_is_only_counted(self) -> None:
        reader = ListingReader(4)
        reader.feed(b"1 120\r\nbad\r\n3 1\r\n")
        reader.feed(b"4 1\r\n")
        with self.assertRaises(BadReplyError) as caught:
            reader.finish()
        self.assertIn("'bad'", str(caught.exception))

    def test_row_out_of_order_copies_none_of_the_rows_before_it(self) -> None:
        reader = ListingReader(MAX_LISTING)
        reader.feed(b"".join(b"%d 1\r\n" % number for number in range(2, 200_000)))
        tracemalloc.start()
        try:
            for row in (b"7 1\r\n", b"1 1\r\n", b"1 1\r\n", b"199999 1\r\n"):
                reader.feed(row)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        # The list of the rows may grow, by an eighth; a dictionary has 10 MB.
        self.assertLess(peak, 4_000_000)
        rows = reader.finish()
        self.assertEqual((rows[0], rows[-1]), (Listing(2, 1), Listing(1, 1)))
        self.assertEqual(len(rows), 199_999)

    def test_rows_out_of_order_are_compared_with_all_before(self) -> None:
        self.assertEqual(
            parse_listing(b"3 1\r\n1 2\r\n2 3\r\n3 1\r\n"), [(3, 1), (1, 2), (2, 3)]
        )
        with self.assertRaises(BadReplyError):
            parse_listing(b"3 1\r\n1 2\r\n2 3\r\n1 3\r\n")
        with self.assertRaises(BadReplyError):
            parse_listing(b"1 1\r\n2 2\r\n3 3\r\n2 4\r\n")


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
    except (BadReplyError, TooLargeError):
        return None


def one_by_one(
    parse: Callable[[bytes], tuple[int, object]], lines: list[bytes]
) -> object:
    """Read a listing the long way."""
    try:
        rows = list(dict.fromkeys(map(parse, lines)))
    except (BadReplyError, TooLargeError):
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
