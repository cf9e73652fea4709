"""The watch as twistd runs it: a process of its own, real commands, a real SIGTERM."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

from .support.loopback import MESSAGES, PASSWORD, USERS, LoopbackTestCase, Program

TWISTD = "from twisted.scripts.twistd import run; run()"

HOOK = """
import os, sys
number = os.environ["POP3CONNECT_NUMBER"]
with open(f"heard-{number}", "w") as file:
    print(os.environ["POP3CONNECT_SUBJECT"], sys.stdin.read().strip(), file=file)
sys.exit(3 if number == "3" else 0)
"""


class TwistdTests(LoopbackTestCase):
    """``twistd pop3connect watch`` against a server on loopback."""

    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.state = self.folder / "state" / "ann.json"
        hook = self.folder / "hook.py"
        hook.write_text(HOOK)
        give = ["-c", f"print({PASSWORD!r})"]
        self.config(
            f"hook = {json.dumps([sys.executable, 'hook.py'])}",
            f"password_command = {json.dumps([sys.executable, *give])}",
        )

    def config(self, *lines: str) -> None:
        text = (
            'state = "state"\nreport_existing = true\n[[account]]\nname = "ann"\n'
            f'server = "{self.server}"\nuser = "{USERS[0]}"\nsecure = "none"\n'
        )
        (self.folder / "watch.toml").write_text(text + "\n".join(lines))

    def watch(self, *options: str) -> Program:
        config = str(self.folder / "watch.toml")
        twistd = ("-n", "--pidfile=", f"--rundir={self.folder}")
        arguments = ("pop3connect", "watch", "--config", config)
        return self.start("-c", TWISTD, *twistd, *arguments, *options)

    async def terminate(self, program: Program) -> None:
        """End it as systemd does; what cleans up ends by that signal itself."""
        assert program.transport is not None
        program.transport.signalProcess("TERM")
        self.assertEqual(await program.ended, -signal.SIGTERM, program.errors)
        self.assertIn("Server Shut Down", program.output)
        self.assertNotIn("Traceback", program.output + program.errors)
        self.assertNotIn(PASSWORD, program.output + program.errors)

    async def test_state_survives_sigterm_after_hooks_and_in_a_session(self) -> None:
        """It tells commands of new mail, and remembers that when it is ended."""
        program = self.watch()
        await program.says("message 3: hook: ")
        self.assertIn("exit status 3", program.output)
        await self.terminate(program)
        self.assertEqual((self.folder / "heard-1").read_text(), "one Subject: one\n")
        self.assertTrue((self.folder / "heard-3").exists())
        self.assertEqual(len(json.loads(self.state.read_text())["seen"]), 2)
        self.assertEqual(len(self.factory.drops[USERS[0]].messages), len(MESSAGES))

        # Once more, and it is ended in the middle of a session.
        before = self.state.read_bytes()
        self.factory.silent = (b"UIDL",)
        program = self.watch()
        await self.factory.when_stuck()
        await self.terminate(program)
        await self.factory.when_left()
        self.assertEqual(self.state.read_bytes(), before)

    async def test_sigterm_during_a_hook_ends_it_and_remembers_nothing(self) -> None:
        """The hook is ended too."""
        (self.folder / "hook.py").write_text(
            "import time\nopen('started', 'w').close()\ntime.sleep(60)"
        )
        self.config(
            f"hook = {json.dumps([sys.executable, 'hook.py'])}",
            f'password = "{PASSWORD}"',
        )
        program = self.watch()
        await program.says("message 1 is new")
        await self.terminate(program)
        self.assertEqual(json.loads(self.state.read_text())["seen"], [])

    async def test_check_reports_the_result_without_logging_in(self) -> None:
        """Its exit status tells, and nobody logs in."""
        self.factory.silent = (b"CAPA", b"USER")
        program = self.watch("--check")
        self.assertEqual(await program.ended, 0, program.errors)
        self.assertIn("watch.toml: 1 account(s), all good\n", program.output)
        self.config("password = 1")
        program = self.watch("--check")
        self.assertEqual(await program.ended, 1)
        self.assertRegex(
            program.errors,
            r"\A\S+watch\.toml: account ann: password: has to be [^\n]+\n\Z",
        )
        self.assertFalse(self.state.exists())
