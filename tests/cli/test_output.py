"""
How much the commands say, in which form, and in which colours.
"""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.internet import reactor as global_reactor
from twisted.logger import LogLevel
from twisted.trial.unittest import SynchronousTestCase

from pop3connect import ProtocolError
from pop3connect.cli import columns, info, listing, look
from pop3connect.cli.columns import show_columns, terminal_width
from pop3connect.cli.exits import Exit
from pop3connect.cli.listing import _show
from pop3connect.cli.output import Output, styled
from pop3connect.cli.running import LogShown
from pop3connect.cli.told import Told
from pop3connect.client.establish import establish
from pop3connect.client.protocol import POP3ClientProtocol
from pop3connect.client.settings import Settings
from pop3connect.events import (
    Closed,
    CommandSent,
    Connected,
    MessageReceived,
    ReplyReceived,
    Secured,
)
from pop3connect.headers import Summary
from pop3connect.results import Listing
from pop3connect.testing import Script

from ..collect.engine import FaultyServer, say
from ..support.command import USER, CommandTestCase
from ..support.loopback import MESSAGES, PASSWORD
from .test_programs import ProgramTestCase

reactor: Any = global_reactor


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class ColourTests(SynchronousTestCase):
    def setUp(self) -> None:
        environment = {"NO_COLOR": "", "TERM": "xterm"}
        patcher = mock.patch.dict(os.environ, environment)
        patcher.start()
        self.addCleanup(patcher.stop)

    def test_terminal_has_colours(self) -> None:
        self.assertEqual(styled("x", Terminal(), fg="red"), "\x1b[31mx\x1b[0m")

    def test_pipe_no_color_and_dumb_terminal_have_none(self) -> None:
        self.assertEqual(styled("x", io.StringIO(), fg="red"), "x")
        for variable, value in (("NO_COLOR", "1"), ("TERM", "dumb")):
            with mock.patch.dict(os.environ, {variable: value}):
                self.assertEqual(styled("x", Terminal(), fg="red"), "x")

    def test_verdict_of_info_is_green_or_red(self) -> None:
        self.patch(sys, "stdout", Terminal())
        seen: Any = None
        for trusted, shown in (
            (True, "\x1b[32myes\x1b[0m"),
            (False, "\x1b[31m\x1b[1mNO\x1b[0m: why"),
            (None, "not checked"),
        ):
            report = info._Report(seen, trusted=trusted, reason="why")
            self.assertEqual(info._verdict(report), shown)

    def test_heading_of_columns_is_bold(self) -> None:
        self.patch(sys, "stdout", Terminal())
        show_columns(("A", "B"), [("1", "2")])
        lines = sys.stdout.getvalue().splitlines()  # type: ignore[attr-defined]
        self.assertEqual(lines, ["\x1b[1mA  B\x1b[0m", "1  2"])


class WidthTests(SynchronousTestCase):
    about = Summary(
        subject="s" * 200, sender="f" * 200, date="2024-03-07T09:04:00+00:00"
    )

    def listed(self, width: int | None) -> str:
        shown: list[str] = []
        self.patch(listing, "terminal_width", lambda: width)
        self.patch(listing, "echo", shown.append)
        _show(Listing(1, 10), self.about)
        [line] = shown
        return line

    def test_wide_terminal_has_more_room_for_the_sender(self) -> None:
        for width, room in ((60, 28), (100, 28), (190, 58)):
            line = self.listed(width)
            self.assertEqual(line.count("f"), min(room, width - 36), width)
            self.assertEqual(len(line), width)

    def test_pipe_gets_the_usual_columns_and_the_whole_subject(self) -> None:
        line = self.listed(None)
        self.assertEqual((line.count("f"), line.count("s")), (28, 200))

    def test_width_is_that_of_a_terminal_only(self) -> None:
        self.patch(columns.shutil, "get_terminal_size", self.size)
        self.patch(sys, "stdout", Terminal())
        self.assertEqual(terminal_width(), 119)
        self.patch(sys, "stdout", io.StringIO())
        self.assertIsNone(terminal_width())

    def size(self) -> Any:
        return os.terminal_size((120, 24))


class ToldTests(SynchronousTestCase):
    def test_steps_of_a_session_are_told_and_others_are_not(self) -> None:
        shown: list[str] = []

        class Kept(Output):
            def detail(self, text: str) -> None:
                shown.append(text)

        tell_of = Told(Kept())
        own = ("session", "host:995")

        def reply(verb: str, ok: bool | None) -> ReplyReceived:
            return ReplyReceived(
                *own, verb=verb, number=None, ok=ok, code=None, seconds=1
            )

        for event in (
            Connected(*own, peer="192.0.2.1:995"),
            Connected(*own, peer=None),
            Secured(*own, version="TLSv1.3", cipher="C", verified=False, seconds=1.0),
            CommandSent(*own, verb="AUTH", number=None),
            ReplyReceived(
                *own, verb="AUTH", number=None, ok=None, code=None, seconds=1
            ),
            ReplyReceived(
                *own, verb="AUTH", number=None, ok=True, code=None, seconds=1
            ),
            ReplyReceived(
                *own, verb="PASS", number=None, ok=False, code=None, seconds=1
            ),
            ReplyReceived(
                *own, verb="STAT", number=None, ok=True, code=None, seconds=1
            ),
            MessageReceived(*own, verb="TOP", number=1, octets=2, seconds=1),
            MessageReceived(*own, verb="RETR", number=2, octets=1, seconds=1),
            Closed(*own, error=ProtocolError("odd"), seconds=1.0),
            Closed(*own, error=None, seconds=1.0),
        ):
            tell_of(event)
        self.assertEqual(
            shown,
            [
                "host:995: connected to 192.0.2.1:995",
                "host:995: connected",
                "host:995: TLSv1.3, C; the server's identity is not verified",
                "host:995: AUTH was accepted",
                "host:995: PASS was refused",
                "host:995: message 2 was received: 1 octet",
                "host:995: the session ended",
            ],
        )


class LogTests(SynchronousTestCase):
    def shown(self, output: Output) -> list[str]:
        """Return the levels of the log that are shown, of ours and of Twisted's."""
        self.patch(sys, "stderr", io.StringIO())
        show = LogShown(output.least)
        for namespace in ("pop3connect.auth", "twisted.internet"):
            for level in (LogLevel.info, LogLevel.warn, LogLevel.error):
                show(
                    {
                        "log_level": level,
                        "log_namespace": namespace,
                        "log_format": f"{namespace[:4]} {level.name}",
                    }
                )
        written = sys.stderr.getvalue()  # type: ignore[attr-defined]
        return [line.removeprefix("pop3connect: ") for line in written.splitlines()]

    def test_level_of_the_log_follows_the_options(self) -> None:
        usual = ["pop3 warn", "pop3 error", "twis warn", "twis error"]
        self.assertEqual(self.shown(Output()), usual)
        self.assertEqual(self.shown(Output(verbose=True)), ["pop3 info", *usual])
        self.assertEqual(self.shown(Output(quiet=True)), ["pop3 error", "twis error"])


class OptionTests(CommandTestCase):
    async def test_quiet_and_verbose_together_are_a_usage_error(self) -> None:
        result = await self.run_command("stat", "--quiet", "--verbose")
        self.assertEqual(result.exit_code, Exit.USAGE)
        self.assertIn("give --quiet or --verbose, not both", result.stderr)

    async def test_quiet_keeps_results_and_errors(self) -> None:
        target = str(Path(self.folder, "Mail"))
        for arguments in (
            ("fetch", target, "--max-size", "60"),
            ("delete", "1", "--yes"),
        ):
            result = await self.run_command(*arguments, "-q")
            self.assertEqual((result.exit_code, result.output), (0, ""), arguments)
        result = await self.run_command("stat", "-q")
        self.assertIn("2 messages", result.stdout)
        result = await self.run_command("get", "9", "-q")
        self.assertEqual(result.exit_code, Exit.REFUSED)
        self.assertIn("no such message", result.stderr)

    async def test_verbose_tells_the_steps_without_the_password(self) -> None:
        result = await self.run_command("get", "1", "-v")
        self.assertEqual(result.stdout_bytes, MESSAGES[0])
        start = f"pop3connect: {self.server}: "
        steps = [line.removeprefix(start) for line in result.stderr.splitlines()]
        self.assertEqual(
            steps,
            [
                f"connected to {self.server}",
                "APOP was accepted",
                f"message 1 was received: {len(MESSAGES[0])} octets",
                "the session ended",
            ],
        )

    async def test_info_uses_the_time_limits_and_tells_the_steps(self) -> None:
        kept: list[Settings] = []

        async def connect(settings: Settings) -> POP3ClientProtocol:
            kept.append(settings)
            return await establish(settings)

        self.patch(look, "establish", connect)
        result = await self.run_click(
            *("info", self.server, "--secure", "none", "-v"),
            *("--timeout", "7", "--connect-timeout", "5"),
        )
        self.assertEqual(result.exit_code, 0, result.output)
        self.assertEqual([(one.timeout, one.connect_timeout) for one in kept], [(7, 5)])
        self.assertIn(f"{self.server}: connected to {self.server}", result.stderr)

    async def test_json_of_fetch_has_the_numbers_of_the_summary(self) -> None:
        target = str(Path(self.folder, "Mail"))
        result = await self.run_command("fetch", target, "--max-size", "60", "--json")
        self.assertEqual(
            json.loads(result.stdout),
            {
                "fetched": 2,
                "there_already": 0,
                "deleted": 0,
                "left_by_rules": 1,
                "left": 0,
                "waiting": 0,
                "set_aside": 0,
                "failed": [],
            },
        )
        self.assertIn("left on the server", result.stderr)

    async def test_json_of_fetch_names_messages_that_failed(self) -> None:
        target = str(Path(self.folder, "Mail"))
        server = FaultyServer(MESSAGES[:1], username=USER, password=PASSWORD)
        server.faults["RETR 1"] = say(b"-ERR broken\r\n")
        port: Any = server.listen(reactor)
        self.addCleanup(port.stopListening)
        address = f"127.0.0.1:{port.getHost().port}"
        result = await self.run_command("fetch", target, "--json", server=address)
        self.assertEqual(result.exit_code, Exit.REFUSED, result.output)
        facts = json.loads(result.stdout)
        [failed] = facts["failed"]
        self.assertEqual((facts["fetched"], failed["number"]), (0, 1))
        self.assertIn("broken", failed["error"])

    async def test_json_of_delete_counts_the_deletions(self) -> None:
        result = await self.run_command("delete", "1-2", "--yes", "--json")
        self.assertEqual(json.loads(result.stdout), {"deleted": 2})

    async def test_json_of_a_refused_header_says_why(self) -> None:
        script = Script().greet().log_in(USER, PASSWORD, ("TOP",)).expect("LIST")
        script.reply("+OK", lines=["1 10"]).expect("TOP 1 0").reply("-ERR no").quit()
        result = await self.run_command("list", "--json", server=self.scripted(script))
        row = json.loads(result.stdout)
        self.assertEqual(set(row), {"number", "size", "error"})
        self.assertIn("TOP 1: the server refused: no", row["error"])

    async def test_get_has_no_json(self) -> None:
        result = await self.run_command("get", "1", "--json")
        self.assertEqual(result.exit_code, Exit.USAGE)


class TopTests(CommandTestCase):
    messages = (
        b"From: =?utf-8?q?Zo=C3=AB?= <zoe@example.org>\r\n"
        b"Received: a\r\nReceived: b\r\nSubject: x\x1b[31m\r\n\r\nHi\x07\r\n\tyou\r\n",
    )

    async def test_json_of_top_has_decoded_fields_and_lines(self) -> None:
        result = await self.run_command("top", "1", "--json")
        self.assertEqual(
            json.loads(result.stdout),
            {
                "number": 1,
                "subject": "x\\x1b[31m",
                "sender": "Zoë <zoe@example.org>",
                "date": "",
                "fields": [
                    {"name": "From", "value": "Zoë <zoe@example.org>"},
                    {"name": "Received", "value": "a"},
                    {"name": "Received", "value": "b"},
                    {"name": "Subject", "value": "x\\x1b[31m"},
                ],
                "lines": ["Hi\\x07", "        you"],
            },
        )
        self.assertTrue(result.stdout.isascii())


class OutputProgramTests(ProgramTestCase):
    async def test_verbose_fetch_tells_of_each_message(self) -> None:
        target = Path(self.mktemp()).absolute()
        program = self.command("fetch", str(target), "--verbose")
        self.assertEqual(await program.ended, 0, program.errors)
        self.assertIn(": APOP was accepted\n", program.errors)
        self.assertIn(": message 3 was received: 90 octets\n", program.errors)
        self.assertNotIn("factory", program.errors.lower())
        self.assertNotIn(PASSWORD, program.errors)
        self.assertEqual(program.output, "fetched: 3, there already: 0, deleted: 0\n")
