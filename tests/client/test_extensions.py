"""
`Handle.command`: commands of a provider's extensions.
"""

from __future__ import annotations

from typing import Any

from pop3connect import (
    CommandError,
    ConnectionLostError,
    ProtocolError,
    TimedOutError,
    UsageError,
)
from pop3connect.sansio.states import ALLOWED

from ..support.memory import SessionTestCase


class CommandTests(SessionTestCase):
    """`Handle.command`"""

    def test_text_behind_ok_is_returned_printable(self) -> None:
        handle = self.log_in()
        asked = handle.command("XTND", "XLST", "Sub ject")
        self.server.expect(b"XTND XLST Sub ject", b"+OK here\x1b[31m it is\r\n")
        self.assertEqual(self.result(asked), "here\\x1b[31m it is")
        self.assertIn("C: XTND XLST Sub ject", self.status)

    def test_verb_is_sent_as_given(self) -> None:
        handle = self.log_in()
        asked = handle.command("xtnd")
        self.server.expect(b"xtnd", b"-ERR no\r\n")
        error = self.error(asked, CommandError)
        self.assertEqual((error.verb, error.text), ("XTND", "no"))

    def test_multiline_reply_is_returned_as_bytes(self) -> None:
        handle = self.log_in("PIPELINING")
        asked, after = handle.command("XLIST", multiline=True), handle.stat()
        self.server.expect(b"XLIST\r\nSTAT")
        self.server.say(b"+OK\r\na\r\n..b\xff\r\n.\r\n+OK 2 320\r\n", size=3)
        self.assertEqual(self.result(asked), b"a\r\n.b\xff\r\n")
        self.assertEqual(self.result(after), (2, 320))
        self.assertIdle()

    def test_refused_multiline_command_has_no_body(self) -> None:
        handle = self.log_in()
        asked, after = handle.command("XLIST", multiline=True), handle.stat()
        self.server.expect(b"XLIST", b"-ERR [SYS/TEMP] later\r\n")
        self.server.expect(b"STAT", b"+OK 2 320\r\n")
        self.assertIs(self.error(asked, CommandError).transient, True)
        self.assertEqual(self.result(after), (2, 320))

    def test_body_beyond_max_message_size_ends_the_session(self) -> None:
        handle = self.log_in(max_message_size=100)
        asked = handle.command("XLIST", multiline=True)
        self.server.expect(b"XLIST", b"+OK\r\n" + b"x" * 101)
        self.assertIn("XLIST", str(self.error(asked, ProtocolError)))

    def test_body_that_was_not_expected_ends_the_session(self) -> None:
        handle = self.log_in()
        asked = handle.command("XLIST")
        self.server.expect(b"XLIST", b"+OK two\r\nrow\r\n.\r\n")
        self.assertEqual(self.result(asked), "two")
        self.assertFalse(handle.is_open)

    def test_missing_body_times_out(self) -> None:
        handle = self.log_in()
        asked = handle.command("XLIST", multiline=True)
        self.server.expect(b"XLIST", b"+OK\r\n")
        self.clock.advance(60)
        self.assertEqual(self.error(asked, TimedOutError).verb, "XLIST")

    def rejected(self, *arguments: Any) -> str:
        """Return the error of arguments that are refused."""
        handle = self.log_in()
        error = self.error(handle.command(*arguments), UsageError)
        self.assertEqual(self.server.heard(), b"")
        self.assertIdle()
        self.anew()
        return str(error)

    def test_arguments_that_are_not_one_line_are_rejected(self) -> None:
        for char, name in (("\r", "CR"), ("\n", "LF"), ("\0", "NUL")):
            error = self.rejected("XTND", "a", f"b{char}DELE 1")
            self.assertIn(f"the argument 2 has a {name} at index 1", error)
        self.assertIn("the argument 1 is empty", self.rejected("XTND", ""))
        self.assertIn("half a character", self.rejected("XTND", "\ud800"))
        for thing in (1, b"a", None):
            self.assertIn("must be a str", self.rejected("XTND", thing))

    def test_line_of_more_than_255_octets_is_rejected(self) -> None:
        self.assertIn("and has 256", self.rejected("XTND", "\xe9" * 124 + "x"))
        handle = self.log_in()
        asked = handle.command("XTND", "x" * 248)
        self.server.expect(b"XTND " + b"x" * 248, b"+OK\r\n")
        self.assertEqual(self.result(asked), "")

    def test_invalid_verbs_are_rejected(self) -> None:
        for verb in ("", "X Y", "X\r\nDELE", "X\0", "\xe9", 5, None, b"XTND", 10**9999):
            error = self.rejected(verb)
            self.assertIn("the verb of a command must be", error)
            self.assertLess(len(error), 250)

    def test_known_verbs_are_rejected_with_what_to_use_instead(self) -> None:
        for verb, use in (
            ("RETR", "use retrieve() or messages()"),
            ("dele", "use delete()"),
            ("Quit", "use disconnect()"),
            ("stls", "call connect() with secure=2"),
            ("PASS", "connect() logs in"),
            ("UTF8", "call connect() with utf8=True"),
        ):
            error = self.rejected(verb, "1")
            self.assertIn(
                f"{verb.upper()}: it cannot be sent by command(); {use}", error
            )

    def test_every_known_verb_is_rejected(self) -> None:
        for verb in frozenset().union(*ALLOWED.values()):
            self.assertIn("cannot be sent by command()", self.rejected(verb))

    def test_commands_after_the_end_fail(self) -> None:
        handle = self.log_in()
        handle.disconnect()
        self.server.expect(b"QUIT")
        error = self.error(handle.command("XTND"), UsageError)
        self.assertIn("XTND is not possible now: QUIT was sent", str(error))
        self.result(handle.abort())
        self.error(handle.command("XTND"), ConnectionLostError)
