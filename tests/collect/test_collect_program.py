"""The collector as twistd runs it: a process of its own, real commands and signals."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.task import deferLater

from pop3connect.cli.exits import Exit

from ..support.loopback import MESSAGES, PASSWORD, LoopbackTestCase, Program

reactor: Any = global_reactor

TWISTD = "from twisted.scripts.twistd import run; run()"

LATER = json.dumps([sys.executable, "-c", "import sys; sys.exit(75)"])
"""A command that takes no message yet."""

WANTED = sorted(message.replace(b"\r\n", b"\n") for message in MESSAGES)
"""The mail of each account, as it is in a Maildir."""


class CollectProgramTestCase(LoopbackTestCase):
    """
    A configuration for the server on loopback.

    :ivar file: the configuration.
    :ivar folder: its folder.
    """

    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.file = self.folder / "collect.toml"
        self.write(self.account("ann"))

    def account(self, name: str, *lines: str, server: str = "") -> str:
        """Return the table of an account."""
        password = [] if "password" in "".join(lines) else [f'password = "{PASSWORD}"']
        table = ["[[account]]", f'name = "{name}"', f'user = "{name}"', *password]
        return "\n".join([*table, f'server = "{server or self.server}"', *lines, ""])

    def write(self, *accounts: str, destination: str = "") -> None:
        """Write the configuration."""
        box = '[destination.box]\nkind = "maildir"\npath = "mail/{account}"\n'
        self.file.write_text(
            'state = "state"\nsecure = "none"\nafter = "delete"\n'
            + "".join([destination or box, *accounts])
        )
        self.file.chmod(0o600)

    def collect(self, *options: str, before: str = "", **environment: str) -> Program:
        """
        Start a collector.

        :param before: Python that runs in its process first.
        """
        twistd = ("-n", "--pidfile=", f"--rundir={self.folder}")
        arguments = ("pop3connect", "collect", "--config", str(self.file))
        run = f"{before}\n{TWISTD}"
        return self.start("-c", run, *twistd, *arguments, *options, **environment)

    def new(self, name: str) -> list[bytes]:
        """Return the mail that an account has in its Maildir."""
        folder = self.folder / "mail" / name / "new"
        if not folder.is_dir():
            return []
        return sorted(path.read_bytes() for path in folder.iterdir())

    def assertClean(self, program: Program) -> None:
        self.assertNotIn("Traceback", program.output + program.errors)
        self.assertNotIn(PASSWORD, program.output + program.errors)

    async def terminate(self, program: Program) -> None:
        """End it as systemd does; what cleans up ends by that signal itself."""
        assert program.transport is not None
        program.transport.signalProcess("TERM")
        self.assertEqual(await program.ended, -signal.SIGTERM, program.errors)
        self.assertIn("Server Shut Down", program.output)
        self.assertClean(program)


class OnceTests(CollectProgramTestCase):
    """``--once``"""

    async def test_once_delivers_and_deletes_and_exits_with_status_0(self) -> None:
        program = self.collect("--once")
        self.assertEqual(await program.ended, 0, program.output + program.errors)
        self.assertEqual((self.new("ann"), program.errors), (WANTED, ""))
        self.assertEqual(len(self.factory.drops["ann"].messages), 0)
        self.assertClean(program)

    async def test_second_run_delivers_nothing_again(self) -> None:
        self.write(self.account("ann", 'after = "keep"'))
        for _ in range(2):
            program = self.collect("--once")
            self.assertEqual(await program.ended, 0, program.output + program.errors)
        self.assertEqual(self.new("ann"), WANTED)
        self.assertEqual(len(self.factory.drops["ann"].messages), len(MESSAGES))

    async def test_status_is_that_of_the_first_account_that_failed(self) -> None:
        self.write(
            self.account("ann"),
            self.account("bob", 'password = "wrong-as-can-be"'),
            self.account("cleo", server="127.0.0.1:1"),
        )
        program = self.collect("--once")
        self.assertEqual(await program.ended, Exit.LOGIN_REFUSED, program.output)
        bob, cleo = program.errors.splitlines()
        self.assertTrue(bob.startswith("pop3connect: bob: 127.0.0.1:"), bob)
        self.assertTrue(cleo.startswith("pop3connect: cleo: 127.0.0.1:1: could"), cleo)
        self.assertEqual(self.new("ann"), WANTED)
        self.assertNotIn("wrong-as-can-be", program.output + program.errors)
        self.assertClean(program)

    async def test_status_is_75_if_deliveries_wait(self) -> None:
        self.write(
            self.account("ann"),
            destination=f'[destination.desk]\nkind = "command"\ncommand = {LATER}\n',
        )
        program = self.collect("--once")
        self.assertEqual(await program.ended, Exit.TRY_LATER, program.output)
        self.assertIn("3 message(s) wait for their delivery", program.errors)
        self.assertEqual(len(self.factory.drops["ann"].messages), len(MESSAGES))
        self.assertClean(program)

    async def test_status_is_8_if_a_message_is_given_up(self) -> None:
        never = json.dumps([sys.executable, "-c", "import sys; sys.exit(65)"])
        self.write(
            self.account("ann"),
            destination=f'[destination.desk]\nkind = "command"\ncommand = {never}\n',
        )
        program = self.collect("--once")
        self.assertEqual(await program.ended, Exit.REFUSED, program.output)
        self.assertEqual(len(self.factory.drops["ann"].messages), len(MESSAGES))
        self.assertClean(program)

    async def test_password_that_is_not_found_is_told_with_its_key(self) -> None:
        self.write(self.account("ann", 'password_env = "POP3CONNECT_NO_SUCH"'))
        program = self.collect("--once")
        self.assertEqual(await program.ended, Exit.USAGE, program.output)
        self.assertIn("password_env: there is nothing in that", program.errors)
        self.assertIn("password_env: there is nothing in that", program.output)

    async def test_status_is_75_beside_a_running_collector(self) -> None:
        running = self.collect()
        await running.says("ann: ")
        program = self.collect("--once")
        self.assertEqual(await program.ended, Exit.TRY_LATER, program.output)
        self.assertRegex(program.errors, r"\Apop3connect: \S+ is in use by process \d")
        self.assertEqual(len(program.errors.splitlines()), 1)
        self.assertClean(program)
        await self.terminate(running)

    async def test_unusable_state_folder_is_one_error_and_nobody_logs_in(self) -> None:
        (self.folder / "state").write_text("a file")
        program = self.collect("--once")
        self.assertEqual(await program.ended, Exit.LOCAL_FILES, program.output)
        self.assertIn("is not a folder", program.errors)
        self.assertEqual(len(program.errors.splitlines()), 1)
        self.assertEqual(self.new("ann"), [])
        self.assertClean(program)

    async def test_damaged_database_is_one_error_and_nobody_logs_in(self) -> None:
        (self.folder / "state").mkdir(mode=0o700)
        database = self.folder / "state" / "collect.db"
        database.write_bytes(b"not a database" * 1000)
        for options in (("--once",), ()):
            program = self.collect(*options)
            self.assertEqual(await program.ended, Exit.LOCAL_FILES, program.output)
            self.assertIn("collect.db is damaged", program.errors)
            self.assertEqual(database.read_bytes(), b"not a database" * 1000)
            self.assertClean(program)


class CheckTests(CollectProgramTestCase):
    """``--check``"""

    async def test_check_does_not_log_in(self) -> None:
        self.factory.silent = (b"CAPA", b"USER", b"APOP")
        program = self.collect("--check")
        self.assertEqual(await program.ended, 0, program.errors)
        self.assertEqual(program.output, f"{self.file}: 1 account(s), all good\n")
        self.assertEqual(os.listdir(self.folder), [self.file.name])

    async def test_check_login_tries_each_login_once(self) -> None:
        self.write(
            self.account("ann"),
            self.account("bob", 'password = "wrong-as-can-be"'),
            self.account("cleo", server="127.0.0.1:1"),
            self.account("dan"),
        )
        program = self.collect("--check", "--login")
        self.assertEqual(await program.ended, Exit.LOGIN_REFUSED, program.errors)
        self.assertEqual(program.output, "ann: logged in\ndan: logged in\n")
        bob, cleo = program.errors.splitlines()
        self.assertTrue(bob.startswith("pop3connect: bob: 127.0.0.1:"), bob)
        self.assertTrue(cleo.startswith("pop3connect: cleo: 127.0.0.1:1: could"), cleo)
        self.assertNotIn("wrong-as-can-be", program.output + program.errors)
        # Nothing was written.
        self.assertEqual(os.listdir(self.folder), [self.file.name])
        self.assertEqual(len(self.factory.drops["ann"].messages), len(MESSAGES))

    async def test_check_login_of_good_accounts_exits_with_status_0(self) -> None:
        program = self.collect("--check", "--login")
        self.assertEqual(await program.ended, 0, program.errors)
        self.assertEqual(
            program.output, f"ann: logged in\n{self.file}: 1 account(s), all good\n"
        )


class SignalTests(CollectProgramTestCase):
    """SIGHUP and SIGTERM."""

    async def until(self, done: Callable[[], bool]) -> None:
        """Wait until a condition holds."""
        while not done():
            await deferLater(reactor, 0.02)

    async def test_sighup_reads_the_configuration_again(self) -> None:
        program = self.collect()
        await program.says("ann: ")
        assert program.transport is not None
        text = self.file.read_text()
        # A bad file changes nothing.
        self.file.write_text(text + "intervall = 1\n")
        program.transport.signalProcess("HUP")
        await program.says("nothing has changed: ")
        self.assertIn("account ann: the key intervall", program.output)
        self.assertEqual(self.new("bob"), [])
        self.file.write_text(text + self.account("bob"))
        program.transport.signalProcess("HUP")
        await program.says("the configuration was read again: 2 account(s)")
        await program.says("bob: ")
        await self.until(lambda: self.new("bob") == WANTED)
        await self.terminate(program)

    async def test_sigterm_within_a_message_ends_in_time_and_keeps_it(
        self,
    ) -> None:
        self.factory.halves = True
        program = self.collect()
        await self.factory.when_stuck()
        began = reactor.seconds()
        await self.terminate(program)
        seconds = global_reactor.seconds() - began
        self.assertLess(seconds, 11)
        await self.factory.when_left()
        self.factory.halves = False
        program = self.collect("--once")
        self.assertEqual(await program.ended, 0, program.output + program.errors)
        self.assertEqual(self.new("ann"), WANTED)
        self.assertEqual(len(self.factory.drops["ann"].messages), 0)

    async def test_sigterm_ends_a_single_run(self) -> None:
        self.factory.silent = (b"UIDL",)
        program = self.collect("--once")
        await self.factory.when_stuck()
        await self.terminate(program)
        self.assertEqual(self.new("ann"), [])
        self.assertEqual(len(self.factory.drops["ann"].messages), len(MESSAGES))
