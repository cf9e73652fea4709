"""The commands as values: the line that goes out, and the reply that comes in."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from copy import copy
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pop3connect import UID, Listing, Stat, UsageError
from pop3connect.redaction import MASK
from pop3connect.sansio import commands
from pop3connect.sansio.commands import (
    MAX_LINE,
    Apop,
    Auth,
    AuthReply,
    Capa,
    Command,
    Custom,
    CustomBody,
    Dele,
    Lang,
    LangList,
    List,
    ListOne,
    Noop,
    Pass,
    Quit,
    Retrieve,
    Rset,
    Shape,
    StatCommand,
    Stls,
    Top,
    Uidl,
    UidlOne,
    User,
    Utf8,
    check_text,
    command_line,
    message_number,
)
from pop3connect.sansio.replies import BadReplyError, Status

from ..support.shows import shows

OK = Status(True, b"")

DIGEST = "c4c9334bac560ecc979e58001b3e22fb"

# A command, its line, what the status procedure may see, the shape of the reply.
EVERY: list[tuple[Command[Any], bytes, str, Shape]] = [
    (Capa(), b"CAPA", "CAPA", Shape.BODY),
    (Stls(), b"STLS", "STLS", Shape.LINE),
    (User("mrose"), b"USER mrose", "USER mrose", Shape.LINE),
    (Pass("tan staaf"), b"PASS tan staaf", f"PASS {MASK}", Shape.LINE),
    (
        Apop("mrose", DIGEST),
        f"APOP mrose {DIGEST}".encode(),
        f"APOP mrose {MASK}",
        Shape.LINE,
    ),
    (Auth("PLAIN"), b"AUTH PLAIN", "AUTH PLAIN", Shape.CHALLENGE),
    (Auth("PLAIN", "AGE="), b"AUTH PLAIN AGE=", f"AUTH PLAIN {MASK}", Shape.CHALLENGE),
    (Auth("X", "="), b"AUTH X =", f"AUTH X {MASK}", Shape.CHALLENGE),
    (AuthReply("AGEAYg=="), b"AGEAYg==", MASK, Shape.CHALLENGE),
    (AuthReply(""), b"", MASK, Shape.CHALLENGE),
    (AuthReply("*"), b"*", "*", Shape.CHALLENGE),
    (Utf8(), b"UTF8", "UTF8", Shape.LINE),
    (Lang("pt-BR"), b"LANG pt-BR", "LANG pt-BR", Shape.LINE),
    (Lang("*"), b"LANG *", "LANG *", Shape.LINE),
    (LangList(), b"LANG", "LANG", Shape.BODY),
    (StatCommand(), b"STAT", "STAT", Shape.LINE),
    (List(), b"LIST", "LIST", Shape.BODY),
    (ListOne(2), b"LIST 2", "LIST 2", Shape.LINE),
    (Uidl(), b"UIDL", "UIDL", Shape.BODY),
    (UidlOne(2), b"UIDL 2", "UIDL 2", Shape.LINE),
    (Retrieve(3), b"RETR 3", "RETR 3", Shape.BODY),
    (Retrieve(14_000_000), b"RETR 14000000", "RETR 14000000", Shape.BODY),
    (Top(3), b"TOP 3 0", "TOP 3 0", Shape.BODY),
    (Top(3, 10), b"TOP 3 10", "TOP 3 10", Shape.BODY),
    (Dele(1), b"DELE 1", "DELE 1", Shape.LINE),
    (Rset(), b"RSET", "RSET", Shape.LINE),
    (Noop(), b"NOOP", "NOOP", Shape.LINE),
    (Quit(), b"QUIT", "QUIT", Shape.LINE),
    (Custom("XTND", "a b"), b"XTND a b", "XTND a b", Shape.LINE),
    (CustomBody("XLIST"), b"XLIST", "XLIST", Shape.BODY),
]

WHOLE = (Retrieve, Top, CustomBody)
"""The commands whose result is the body."""

NUMBERED: list[Callable[[Any], Command[Any]]] = [
    ListOne,
    UidlOne,
    Retrieve,
    Top,
    Dele,
]


class EveryCommandTests(SynchronousTestCase):
    """What all of them have."""

    def test_table_contains_every_exported_command(self) -> None:
        exported = {getattr(commands, name) for name in commands.__all__}
        kinds = {thing for thing in exported if isinstance(thing, type)}
        classes = {thing for thing in kinds if issubclass(thing, Command)}
        self.assertEqual({type(row[0]) for row in EVERY}, classes - {Command})

    def test_number_of_the_message_is_known_where_there_is_one(self) -> None:
        numbered = {
            type(command).__name__
            for command, _, _, _ in EVERY
            if message_number(command) is not None
        }
        self.assertEqual(numbered, {"ListOne", "UidlOne", "Retrieve", "Top", "Dele"})

    @shows(
        "RFC 1939-01",
        "MUST",
        "A command is printable ASCII with one blank between its parts, and ends in "
        "CRLF.",
        "Commands are values that are checked when they are built. Only names and "
        "passwords may be in UTF-8 (RFC 6856).",
    )
    def test_every_command_builds_its_line(self) -> None:
        for command, line, _, _ in EVERY:
            self.assertEqual(command.line(), line + b"\r\n")

    def test_shown_line_masks_secrets(self) -> None:
        for command, _, shown, _ in EVERY:
            self.assertEqual(command.shown(), shown)

    def test_every_command_declares_the_shape_of_its_reply(self) -> None:
        for command, line, _, shape in EVERY:
            self.assertIs(command.shape, shape, line)

    def test_the_verb_is_the_first_word_of_the_line(self) -> None:
        for command, line, _, _ in EVERY:
            if not isinstance(command, AuthReply):
                self.assertEqual(command.verb, line.split()[0].decode())
        # An answer to a challenge has no verb; it belongs to AUTH.
        self.assertEqual(AuthReply("").verb, "AUTH")

    def test_listings_have_a_reader_and_message_bodies_have_none(self) -> None:
        for command, _, _, shape in EVERY:
            reads = shape is Shape.BODY and not isinstance(command, WHOLE)
            self.assertEqual(command.reader(10) is not None, reads, command)
            self.assertEqual(command.verbatim, isinstance(command, WHOLE))

    def test_commands_compare_and_hash_by_value(self) -> None:
        for command, _, _, _ in EVERY:
            same = copy(command)
            self.assertIsNot(command, same)
            self.assertEqual(command, same)
            self.assertEqual(hash(command), hash(same))
        self.assertNotEqual(Retrieve(1), Retrieve(2))
        self.assertNotEqual(Retrieve(1), Dele(1))
        self.assertNotEqual(Top(1, 1), Top(1, 2))
        self.assertNotEqual(Retrieve(1), b"RETR 1\r\n")

    def test_status_line_of_a_command_without_result_parses_as_none(self) -> None:
        self.assertIsNone(Command().parse(OK))

    def test_no_repr_shows_a_secret(self) -> None:
        for command, secret in [
            (Pass("hidden"), "hidden"),
            (Apop("mrose", DIGEST), DIGEST),
            (Auth("PLAIN", "aGlkZGVu"), "aGlkZGVu"),
            (AuthReply("aGlkZGVu"), "aGlkZGVu"),
        ]:
            for text in (repr(command), str(command), command.shown()):
                self.assertNotIn(secret, text)


class ExtensionTests(SynchronousTestCase):
    """Commands that this library does not know."""

    def test_what_is_no_verb_is_refused(self) -> None:
        for verb in ("", "A B", "X\r\nDELE", "\u00e4", None, b"XTND"):
            with self.assertRaises(UsageError) as caught:
                Custom(verb)  # type: ignore[arg-type]
            self.assertIn("the verb of a command must be", str(caught.exception))

    def test_verb_that_has_a_method_is_refused_with_its_name(self) -> None:
        for verb, remedy in (("dele", "use delete()"), ("STLS", "secure=2")):
            with self.assertRaises(UsageError) as caught:
                CustomBody(verb)
            self.assertIn(remedy, str(caught.exception))

    def test_status_text_is_the_result(self) -> None:
        self.assertEqual(Custom("XTND").parse(Status(True, b"12 x\x07")), "12 x\\x07")


class TextArgumentTests(SynchronousTestCase):
    """Rule 5 of the design: what reaches the wire is one line, and not too long."""

    # Each argument of each command that is text.
    BUILDERS: tuple[Callable[[str], Command[Any]], ...] = (
        User,
        Pass,
        lambda text: Apop(text, DIGEST),
        lambda text: Apop("mrose", text),
        Auth,
        lambda text: Auth("PLAIN", text),
        AuthReply,
        Lang,
        lambda text: Custom("XTND", text),
        lambda text: CustomBody("XTND", text),
    )
    NAMES = BUILDERS[:3]

    def refused(self, build: Callable[[Any], Command[Any]], value: Any) -> UsageError:
        try:
            command = build(value)
        except UsageError as error:
            return error
        return self.fail(f"{value!a:.60} was taken by {type(command)}")

    def test_table_covers_every_command_with_a_text_argument(self) -> None:
        built = {type(build("x")) for build in self.BUILDERS}
        textual = {
            type(row[0])
            for row in EVERY
            if "str" in str(inspect.get_annotations(type(row[0]).__init__))
        }
        self.assertEqual(built, textual)

    @shows("RFC 1939-01")
    def test_a_line_end_or_a_nul_is_refused_when_the_command_is_built(self) -> None:
        for build in self.BUILDERS:
            for char in "\r\n\0":
                for text in (f"hidden{char}DELE 1", char, f"{char}x", f"x{char}"):
                    self.refused(build, text)

    def test_error_names_the_forbidden_character_and_its_index(self) -> None:
        for text, words in [
            ("ab\rc", "a CR at index 2"),
            ("\nabc", "a LF at index 0"),
            ("abc\0", "a NUL at index 3"),
        ]:
            self.assertIn(words, str(self.refused(Pass, text)))

    def test_an_empty_name_or_password_is_refused(self) -> None:
        for build in self.NAMES:
            self.assertIn("is empty", str(self.refused(build, "")))

    def test_argument_that_is_not_a_str_is_refused(self) -> None:
        for build in self.NAMES:
            for wrong in (None, b"hidden", 42, ["hidden"]):
                error = self.refused(build, wrong)
                self.assertIn(type(wrong).__name__, str(error))

    def test_the_error_names_the_verb_and_does_not_repeat_the_secret(self) -> None:
        for value in ("hid\rden", "hidden" * 100, b"hidden", "hidden\udfff\ud800"):
            error = self.refused(Pass, value)
            self.assertEqual(error.verb, "PASS")
            for text in (str(error), repr(error), repr(error.__dict__)):
                self.assertNotIn("hidden", text)
                self.assertNotIn("hid\rden", text)

    @shows(
        "RFC 2449-03",
        "MUST",
        "A command line has at most 255 octets with its CRLF.",
        "A ``UsageError`` before anything is sent.",
    )
    def test_command_line_over_255_bytes_is_refused(self) -> None:
        room = MAX_LINE - len("PASS \r\n")
        self.assertEqual(len(Pass("x" * room).line()), 255)
        self.assertEqual(len(User("x" * room).line()), 255)
        self.refused(Pass, "x" * (room + 1))
        self.refused(User, "x" * (room + 1))
        room = MAX_LINE - len(f"APOP  {DIGEST}\r\n")
        self.assertEqual(len(Apop("x" * room, DIGEST).line()), 255)
        self.refused(lambda name: Apop(name, DIGEST), "x" * (room + 1))

    def test_initial_response_counts_towards_the_255_byte_limit(self) -> None:
        """RFC 5034 section 4: one that is longer is not sent with AUTH."""
        room = MAX_LINE - len("AUTH PLAIN \r\n")
        self.assertEqual(len(Auth("PLAIN", "A" * room).line()), 255)
        self.refused(lambda initial: Auth("PLAIN", initial), "A" * (room + 1))

    def test_challenge_response_may_exceed_255_bytes(self) -> None:
        self.assertEqual(len(AuthReply("A" * 16_000).line()), 16_002)

    def test_length_limit_counts_bytes_and_not_characters(self) -> None:
        self.assertEqual(User("ü" * 124).line(), b"USER " + b"\xc3\xbc" * 124 + b"\r\n")
        self.refused(User, "ü" * 125)

    def test_password_is_sent_unchanged(self) -> None:
        """RFC 1939 section 7: everything after the one blank, blanks included."""
        for password in (" ", " a b  c ", "a\tb", "PASS", "%s{0}", "*", "ü€"):
            self.assertEqual(
                Pass(password).line(), b"PASS %b\r\n" % password.encode("utf-8")
            )

    def test_surrogate_in_text_is_refused(self) -> None:
        for build in self.BUILDERS:
            for text in ("x\ud800", "\udfff", "caf\udce9"):
                self.refused(build, text)

    def test_lang_accepts_only_a_valid_language_tag(self) -> None:
        """RFC 5646 section 2.1"""
        for tag in (
            "en",
            "de-CH-1996",
            "i-default",
            "x-klingon",
            "*",
            "EN",
            "a1b2c3d4",
        ):
            self.assertEqual(Lang(tag).line(), f"LANG {tag}\r\n".encode())
        for tag in (
            "",
            "en ",
            "en us",
            "en-",
            "-en",
            "en--us",
            "**",
            "\u00e9n",
            "en\n",
        ):
            self.refused(Lang, tag)
        self.refused(Lang, "a" * 9)

    def test_name_with_blank_is_refused_by_apop_but_not_by_user(self) -> None:
        self.assertIn("space", str(self.refused(lambda n: Apop(n, DIGEST), "m rose")))
        self.assertEqual(User("m rose").line(), b"USER m rose\r\n")

    def test_check_text_error_names_verb_and_argument(self) -> None:
        check_text("thing", "fine")
        with self.assertRaises(UsageError) as caught:
            check_text("thing", "", "VERB")
        self.assertEqual(str(caught.exception), "VERB: the thing is empty")

    def test_a_command_line_is_joined_by_single_blanks(self) -> None:
        self.assertEqual(command_line("NOOP"), b"NOOP\r\n")
        self.assertEqual(command_line("A", "b", "c d"), b"A b c d\r\n")

    @shows("RFC 1939-01")
    @settings(max_examples=150, deadline=None, derandomize=True, database=None)
    @given(
        st.sampled_from(BUILDERS), st.text("ab =*\r\n\0\tü€\ud800\udcff", max_size=90)
    )
    @example(AuthReply, "\u00fc")
    @example(Auth, "\u00fc" * 122)
    def test_any_accepted_text_builds_a_single_line(
        self, build: Callable[[str], Command[Any]], text: str
    ) -> None:
        try:
            line = build(text).line()
        except UsageError:
            return
        self.assertTrue(line.endswith(b"\r\n"))
        self.assertFalse(set(line[:-2]) & set(b"\r\n\0"))
        self.assertLessEqual(len(line), 255)


class NumberTests(SynchronousTestCase):
    """Message numbers and counts of lines."""

    @shows(
        "RFC 1939-08",
        "MUST",
        "Message numbers begin at 1; sizes count CRLF line ends and no stuffing, and "
        "are hints.",
        "Sizes are never used to find the end of a message.",
    )
    def test_message_number_other_than_an_int_from_1_is_refused(self) -> None:
        for build in NUMBERED:
            for wrong in (0, -1, True, False, 1.0, "1", b"1", None, [1], float("nan")):
                with self.assertRaises(UsageError) as caught:
                    build(wrong)
                self.assertIn(repr(wrong), str(caught.exception))
                self.assertIn(
                    caught.exception.verb, ("LIST", "UIDL", "RETR", "TOP", "DELE")
                )

    def test_a_number_too_long_for_a_line_is_refused_when_it_is_built(self) -> None:
        # The second is also too long for int's own conversion to a text.
        for number in (10**300, 10**5000):
            for build in NUMBERED:
                with self.assertRaises(UsageError):
                    build(number)
            with self.assertRaises(UsageError):
                Top(1, number)

    @shows(
        "RFC 1939-12",
        "MUST",
        "TOP takes a number of lines from 0, and is optional.",
        "The number is checked. A server without TOP answers ``-ERR``, and the "
        "session goes on.",
    )
    def test_line_count_other_than_an_int_from_0_is_refused(self) -> None:
        for wrong in (-1, True, 1.0, "1", None):
            with self.assertRaises(UsageError) as caught:
                Top(1, wrong)  # type: ignore[arg-type]
            self.assertIn(repr(wrong), str(caught.exception))
            self.assertEqual(caught.exception.verb, "TOP")


class ReplyTests(SynchronousTestCase):
    """Reading what ``+OK`` brings."""

    def read(self, command: Command[Any], text: bytes = b"", body: bytes = b"") -> Any:
        reader = command.reader(10)
        if reader is None:
            return command.parse(Status(True, text))
        reader.feed(body)
        return reader.finish()

    def test_ok_reply_to_command_without_result_gives_none(self) -> None:
        login = (Stls(), Utf8(), Lang("en"), User("x"), Pass("x"), Apop("x", "y"))
        for command in (*login, Dele(1), Rset(), Noop(), Quit()):
            self.assertIs(self.read(command, b"any text"), None, command)

    def test_stat_list_uidl_and_capa_replies_are_parsed(self) -> None:
        self.assertEqual(self.read(StatCommand(), b"2 320 x"), Stat(2, 320))
        self.assertEqual(self.read(List(), b"2 messages", b"1 9\r\n"), [Listing(1, 9)])
        self.assertEqual(self.read(Uidl(), b"", b"1 a b\r\n"), [UID(1, "a b")])
        self.assertEqual(
            list(self.read(Capa(), b"", b"TOP\r\nUIDL\r\n")), ["TOP", "UIDL"]
        )

    def test_replies_about_one_message_are_parsed(self) -> None:
        self.assertEqual(self.read(ListOne(2), b"2 200"), Listing(2, 200))
        self.assertEqual(self.read(UidlOne(2), b"2 QhdP"), UID(2, "QhdP"))

    def test_reply_about_another_message_is_refused(self) -> None:
        for command, text in [(ListOne(2), b"3 200"), (UidlOne(2), b"3 QhdP")]:
            with self.assertRaises(BadReplyError) as caught:
                self.read(command, text)
            self.assertEqual(
                str(caught.exception), "asked for message 2, the reply is about 3"
            )

    def test_unreadable_listing_is_refused(self) -> None:
        for command, text, body in [
            (StatCommand(), b"none", b""),
            (List(), b"", b"x\r\n"),
            (Uidl(), b"", b"x\r\n"),
            (ListOne(2), b"", b""),
            (UidlOne(2), b"", b""),
        ]:
            with self.assertRaises(BadReplyError):
                self.read(command, text, body)

    def test_lang_listing_is_parsed_into_tags_and_names(self) -> None:
        body = b"en English\r\nde Deutsch\r\n"
        self.assertEqual(
            self.read(LangList(), b"there are", body),
            {"en": "English", "de": "Deutsch"},
        )

    def test_auth_step_returns_the_status_unparsed(self) -> None:
        for command in (Auth("PLAIN"), AuthReply("")):
            for status in (
                Status(True, b"Y2hh", challenge=True),
                Status(True, b"", challenge=True),
                Status(True, b"welcome"),
            ):
                self.assertIs(command.parse(status), status)
