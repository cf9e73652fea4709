"""
The command line in a process of its own: signals, pipes, terminals, what is missing.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.task import deferLater

from pop3connect.cli.exits import Exit

from ..support.loopback import (
    MESSAGES,
    PASSWORD,
    ROOT,
    USERS,
    LoopbackTestCase,
    Program,
)

reactor: Any = global_reactor

USER = USERS[0]


class Reader(Program):
    """A program whose output is read for a while, and then no more."""

    def outReceived(self, data: bytes) -> None:
        super().outReceived(data)
        assert self.transport is not None
        self.transport.closeStdout()


class RawProgram(Program):
    """A program whose output is in another encoding: kept byte by byte."""

    def outReceived(self, data: bytes) -> None:
        self.output += data.decode("latin-1")


class ProgramTestCase(LoopbackTestCase):
    def spawn(
        self, program: Program, *arguments: str, terminal: bool = False, **more: str
    ) -> Program:
        """Start a command, logged in in the clear."""
        command, *rest = arguments
        common = (self.server, "--secure", "none", "--user", USER)
        reactor.spawnProcess(
            program,
            sys.executable,
            [sys.executable, "-m", "pop3connect", command, *common, *rest],
            env={**os.environ, "PYTHONPATH": str(ROOT), **more},
            usePTY=terminal,
        )
        self.addCleanup(program.kill)
        return program

    def command(
        self, *arguments: str, password: str = PASSWORD, **more: str
    ) -> Program:
        return self.spawn(Program(), *arguments, POP3CONNECT_PASSWORD=password, **more)


class ProgramTests(ProgramTestCase):
    async def test_help_lists_every_command(self) -> None:
        program = self.start("-m", "pop3connect", "--help")
        self.assertEqual((await program.ended, program.errors), (0, ""))
        for name in (
            *("info", "stat", "list", "fetch", "top", "get", "delete", "discover"),
            *("accounts", "messages", "database"),
        ):
            self.assertIn(f"\n  {name} ", program.output)
        self.assertNotIn("...", program.output.partition("Commands:")[2])

    async def test_missing_click_says_how_to_install_the_extra(self) -> None:
        program = self.start(
            "-c",
            "import importlib.util as util, sys\n"
            "find = util.find_spec\n"
            "util.find_spec = lambda name: None if name == 'click' else find(name)\n"
            "from pop3connect.__main__ import main\n"
            "sys.exit(main())",
        )
        self.assertEqual(await program.ended, Exit.USAGE)
        self.assertIn("needs click, which is not installed", program.errors)
        self.assertIn("pip install 'pop3connect[cli]'", program.errors)

    async def test_fetch_without_sqlalchemy_says_how_to_install_the_extra(self) -> None:
        program = self.start(
            "-c",
            "import importlib.util as util, sys\n"
            "find = util.find_spec\n"
            "util.find_spec = lambda name: None if name == 'alembic' else find(name)\n"
            "from pop3connect.__main__ import main\n"
            "sys.argv[1:] = ['fetch', 'pop.example.com', 'Mail', '-u', 'ada']\n"
            "sys.exit(main())",
        )
        self.assertEqual(await program.ended, Exit.USAGE)
        self.assertIn("pip install 'pop3connect[cli]'", program.errors)

    async def test_fetch_with_trace_delivers_and_hides_the_password(self) -> None:
        target = Path(self.mktemp()).absolute()
        program = self.command("fetch", str(target), "--trace", "--delete")
        self.assertEqual(await program.ended, 0, program.errors)
        self.assertEqual(program.output, "fetched: 3, there already: 0, deleted: 3\n")
        self.assertIn("C: APOP ann ********", program.errors)
        self.assertNotIn(PASSWORD, program.errors)
        self.assertEqual(len(list((target / "new").iterdir())), len(MESSAGES))

    async def test_refused_login_prints_warning_and_error_without_the_password(
        self,
    ) -> None:
        program = self.command("stat", password="wrong-as-can-be")
        self.assertEqual(await program.ended, Exit.LOGIN_REFUSED)
        self.assertEqual(program.output, "")
        # The server has a timestamp, so APOP was refused before USER sent the password.
        warning, error = program.errors.splitlines()
        self.assertIn("without TLS", warning)
        self.assertIn("APOP was refused before it", error)
        self.assertNotIn("wrong-as-can-be", program.errors)

    async def test_ctrl_c_at_quit_closes_session_and_deletes_nothing(self) -> None:
        self.factory.silent = (b"QUIT",)
        target = Path(self.mktemp()).absolute()
        program = self.command("fetch", str(target), "--delete")
        await self.factory.when_stuck()
        program.interrupt()
        self.assertEqual(await program.ended, Exit.INTERRUPTED)
        self.assertIn("QUIT was not confirmed", program.errors)
        await self.factory.when_left()
        self.assertEqual(program.output, "")
        self.assertNotIn("Traceback", program.errors)
        self.assertIn("3 messages are on disk; the same command again", program.errors)
        self.assertEqual(len(self.factory.drops[USER].messages), 3)
        self.factory.silent = ()
        program = self.command("fetch", str(target), "--delete")
        self.assertEqual(await program.ended, 0, program.errors)
        self.assertEqual(program.output, "fetched: 0, there already: 3, deleted: 3\n")

    async def test_sigterm_within_a_message_leaves_no_temporary_file(self) -> None:
        for kind in ("maildir", "mbox"):
            self.factory.halves = True
            target = Path(self.mktemp()).absolute()
            command = ("fetch", str(target), "--delete", "--format", kind)
            program = self.command(*command)
            await self.factory.when_stuck()
            while self.arrived(target) != 2:
                await deferLater(reactor, 0.02)
            # Impatient users send it twice.
            for _ in range(2):
                assert program.transport is not None
                program.transport.signalProcess("TERM")
            self.assertEqual(await program.ended, 128 + signal.SIGTERM)
            self.assertEqual(len(self.factory.drops[USER].messages), 3)
            self.assertNotIn("Traceback", program.errors)
            self.assertIn("2 messages are on disk; the same command", program.errors)
            self.assertEqual(list(target.glob("tmp/*")), [])
            await self.factory.when_left()
            self.factory.halves = False
            program = self.command(*command)
            self.assertEqual(await program.ended, 0, program.errors)
            self.assertEqual(
                program.output, "fetched: 1, there already: 2, deleted: 3\n"
            )
            self.assertEqual(self.arrived(target), 3)
            # Those of an mbox prove what was delivered, until that is noted.
            self.assertEqual(list(target.parent.glob(f".{target.name}.*/spool/*")), [])
            drop = self.factory.drops[USER]
            drop.deliver(MESSAGES)

    def arrived(self, target: Path) -> int:
        """Return how many messages are in a Maildir or an mbox."""
        if target.is_dir():
            return len(list(target.glob("new/*")))
        return target.read_bytes().count(b"From MAILER-DAEMON ")

    async def test_interruption_at_any_time_ends_the_program(self) -> None:
        """Also while it begins, and the database is made."""
        target = Path(self.mktemp()).absolute()
        self.factory.silent = (b"CAPA",)
        for moment in (0.2, 0.4, 0.5, 0.6, 0.8):
            program = self.command("fetch", f"{target}-{moment}")
            await deferLater(reactor, moment)
            program.interrupt()
            ended = await program.ended
            self.assertIn(ended, (Exit.INTERRUPTED, -signal.SIGINT), program.errors)

    async def test_work_ends_in_order_if_the_reactor_is_stopped(self) -> None:
        """As by a signal that comes while the reactor begins."""
        program = self.start(
            "-c",
            "import sys\n"
            "from twisted.internet import reactor, threads\n"
            "from twisted.internet.defer import Deferred\n"
            "from twisted.python.threadpool import ThreadPool\n"
            "from pop3connect.cli.running import run_reactor\n"
            "async def work(reactor):\n"
            "    pool = ThreadPool(0, 1)\n"
            "    pool.start()\n"
            "    await threads.deferToThreadPool(reactor, pool, int)\n"
            "    reactor.callLater(0, reactor.stop)\n"
            "    try:\n"
            "        await Deferred()\n"
            "    finally:\n"
            "        pool.stop()\n"
            "        print('ended')\n"
            "sys.exit(run_reactor(work))",
        )
        limit = reactor.callLater(20, program.kill)
        ended = await program.ended
        if limit.active():
            limit.cancel()
        self.assertEqual(ended, Exit.INTERRUPTED, program.errors)
        self.assertEqual(program.output, "ended\n")

    async def test_sigterm_ends_the_wait_for_a_locked_mbox(self) -> None:
        target = Path(self.mktemp()).absolute()
        lock = target.with_name(f"{target.name}.lock")
        lock.write_bytes(b"")
        program = self.command("fetch", str(target), "--format", "mbox")
        await deferLater(reactor, 2.0)
        self.assertFalse(program.ended.called)
        assert program.transport is not None
        program.transport.signalProcess("TERM")
        self.assertEqual(await program.ended, 128 + signal.SIGTERM, program.errors)
        self.assertTrue(lock.exists())
        self.assertEqual(len(self.factory.drops[USER].messages), 3)

    async def test_two_runs_at_once_fetch_each_message_once(self) -> None:
        for kind in ("maildir", "mbox"):
            target = Path(self.mktemp()).absolute()
            programs = [
                self.command("fetch", str(target), "--format", kind) for _ in range(2)
            ]
            for program in programs:
                self.assertEqual(await program.ended, 0, program.errors)
            self.assertEqual(
                sorted(program.output for program in programs),
                [
                    "fetched: 0, there already: 3, deleted: 0\n",
                    "fetched: 3, there already: 0, deleted: 0\n",
                ],
            )

    async def test_other_commands_do_not_pay_for_the_journal(self) -> None:
        """They import neither the database nor the collector's engine."""
        for command in (["--help"], ["info"], ["list"], ["fetch", "--help"]):
            if command[0] in ("info", "list"):
                command += [self.server, "--secure", "none", "--user", USER]
            program = self.start(
                "-c",
                "import atexit, sys\n"
                "atexit.register(lambda: print([name for name in sys.modules if\n"
                "    name.startswith(('sqlalchemy', 'alembic',\n"
                "    'pop3connect.destinations.m')) or name in\n"
                "    ('pop3connect.collect.service', 'pop3connect.collect.journal')],\n"
                "    file=sys.stderr))\n"
                "from pop3connect.__main__ import main\n"
                f"sys.argv[1:] = {command}\n"
                "sys.exit(main())",
                POP3CONNECT_PASSWORD=PASSWORD,
            )
            self.assertEqual(await program.ended, 0, program.errors)
            self.assertEqual(program.errors.splitlines()[-1], "[]")

    async def test_fetch_after_a_kill_gets_no_message_twice(self) -> None:
        self.factory.silent = (b"QUIT",)
        target = Path(self.mktemp()).absolute()
        program = self.command("fetch", str(target))
        await self.factory.when_stuck()
        await program.kill()
        await self.factory.when_left()
        self.factory.silent = ()
        program = self.command("fetch", str(target))
        self.assertEqual(await program.ended, 0, program.errors)
        self.assertEqual(program.output, "fetched: 0, there already: 3, deleted: 0\n")

    async def test_terminal_gets_password_prompt_and_progress_bar(self) -> None:
        """The password is asked for, and a bar is shown; neither goes to stdout."""
        target = Path(self.mktemp()).absolute()
        terminal = self.spawn(
            Program(), "fetch", str(target), terminal=True, POP3CONNECT_PASSWORD=""
        )
        await terminal.says("Password of ann at 127.0.0.1: ")
        assert terminal.transport is not None
        terminal.transport.write(PASSWORD.encode() + b"\n")
        self.assertEqual(await terminal.ended, 0, terminal.output)
        self.assertIn("fetching", terminal.output)
        self.assertIn("fetched: 3", terminal.output)
        self.assertNotIn(PASSWORD, terminal.output)


class EncodingTests(ProgramTestCase):
    messages = ("Subject: Gr\xfc\xdfe \u4f60\u597d\r\n\r\n".encode(),)

    async def test_characters_missing_in_the_encoding_are_escaped(self) -> None:
        for encoding, shown in (
            ("cp1252", b"Gr\xfc\xdfe \\u4f60\\u597d\n"),
            ("cp437", b"Gr\x81\xe1e \\u4f60\\u597d\n"),
            ("ascii", b"Gr\\xfc\\xdfe \\u4f60\\u597d\n"),
            ("utf-8", "Gr\xfc\xdfe \u4f60\u597d\n".encode()),
        ):
            program = self.spawn(
                RawProgram(),
                "list",
                POP3CONNECT_PASSWORD=PASSWORD,
                PYTHONIOENCODING=f"{encoding}:strict",
            )
            self.assertEqual(await program.ended, 0, program.errors)
            output = program.output.encode("latin-1")
            self.assertTrue(output.endswith(shown), output)

    async def test_error_text_is_escaped_for_the_encoding(self) -> None:
        file = Path(self.mktemp()).absolute()
        file.touch()
        program = self.command(
            "fetch", f"{file}/\u4f60", PYTHONIOENCODING="cp1252:strict"
        )
        self.assertEqual(await program.ended, Exit.LOCAL_FILES)
        self.assertIn(f"{file}/\\u4f60", program.errors)
        self.assertNotIn("Traceback", program.errors)
        program = self.command("list", "\u4f60", PYTHONIOENCODING="ascii:strict")
        self.assertEqual(await program.ended, Exit.USAGE)
        self.assertIn("'\\u4f60' is not like 3", program.errors)


class TerminalTests(ProgramTestCase):
    messages = (b"Subject: \x1b[31mred\r\n\r\n\x07\r\n",)

    async def test_a_header_cannot_control_the_terminal(self) -> None:
        terminal = self.spawn(
            Program(), "top", "1", terminal=True, POP3CONNECT_PASSWORD=PASSWORD
        )
        self.assertEqual(await terminal.ended, 0, terminal.output)
        self.assertIn("Subject: \\x1b[31mred\r\n\r\n\\x07", terminal.output)
        self.assertNotIn("\x1b", terminal.output)


class HeaderTerminalTests(ProgramTestCase):
    messages = (
        b"From: =?utf-8?q?Zo=C3=AB?=\r\n <zoe@example.org>\r\nno field\r\n\r\nHi\r\n",
    )

    async def test_top_decodes_header_fields_on_a_terminal(self) -> None:
        terminal = self.spawn(
            Program(),
            *("top", "1"),
            terminal=True,
            POP3CONNECT_PASSWORD=PASSWORD,
            PYTHONIOENCODING="utf-8",
        )
        self.assertEqual(await terminal.ended, 0, terminal.output)
        self.assertIn(
            "From: Zo\xeb <zoe@example.org>\r\nno field\r\n\r\nHi", terminal.output
        )

    async def test_delete_asks_on_a_terminal(self) -> None:
        for answer, left in ((b"n\n", 1), (b"y\n", 0)):
            terminal = self.spawn(
                Program(),
                *("delete", "1"),
                terminal=True,
                POP3CONNECT_PASSWORD=PASSWORD,
            )
            await terminal.says("Delete 1 of ann at 127.0.0.1:")
            assert terminal.transport is not None
            terminal.transport.write(answer)
            self.assertEqual(await terminal.ended, 0, terminal.output)
            self.assertEqual(len(self.factory.drops[USER].messages), left)


class PipeTests(ProgramTestCase):
    """Who reads the output goes away."""

    messages = (b"Subject: long\r\n\r\n" + b"x" * 70 + b"\r\n" * 400_000,)

    async def test_a_broken_pipe_is_quiet(self) -> None:
        program = self.spawn(Reader(), "get", "1", POP3CONNECT_PASSWORD=PASSWORD)
        self.assertEqual(await program.ended, Exit.BROKEN_PIPE)
        self.assertEqual(program.errors, "")

    async def test_closed_streams_do_not_disturb_a_fetch(self) -> None:
        target = Path(self.mktemp()).absolute()
        for closed in ((1,), (0, 1, 2)):
            command = [sys.executable, "-m", "pop3connect", "fetch", self.server]
            command += ["--secure", "none", "--user", USER, str(target)]
            close = "".join(f"os.close({number})\n" for number in closed)
            program = self.start(
                "-c",
                f"import os\n{close}os.execv({command[0]!r}, {command!r})\n",
                POP3CONNECT_PASSWORD=PASSWORD,
            )
            self.assertEqual(await program.ended, 0, program.errors)
            self.assertNotIn("Traceback", program.errors)
        self.assertEqual(len(list((target / "new").iterdir())), 1)
