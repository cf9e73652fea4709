"""The real process is stopped while a destination does not answer."""

from __future__ import annotations

import signal
import sys
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.task import deferLater

from pop3connect.cli.exits import Exit

from ..support.loopback import MESSAGES, Program
from .test_collect_program import WANTED, CollectProgramTestCase

reactor: Any = global_reactor

STUCK = """
import time
from pop3connect.destinations.maildir import Maildir
def stuck(*arguments):
    print("stuck", flush=True)
    time.sleep(600)
Maildir.{} = stuck
"""
"""Begins a program in which a Maildir is on a file system that does not answer."""

FUNCTION = """
import time
from twisted.internet.threads import deferToThread
def call(mail, attempt):
    print("stuck", flush=True)
    return deferToThread(time.sleep, 600)
"""

HANGS = "import sys, time; sys.stdin.read(); print('hangs'); time.sleep(600)"


class StoppingTests(CollectProgramTestCase):
    """A command that never ends, beside a Maildir."""

    def hang(self) -> None:
        self.write(
            self.account("ann", 'to = ["box", "desk"]'),
            destination=(
                '[destination.box]\nkind = "maildir"\npath = "mail/{account}"\n'
                '[destination.desk]\nkind = "command"\n'
                f"command = ['{sys.executable}', '-c', \"{HANGS}\"]\n"
                'timeout = "1 h"\n'
            ),
        )

    async def stopped(self, *options: str) -> float:
        """Send SIGTERM when the first message is delivered; return the seconds."""
        program = self.collect(*options)
        while len(self.new("ann")) < len(MESSAGES):
            await self.wait()
        assert program.transport is not None
        began = reactor.seconds()
        program.transport.signalProcess("TERM")
        status = await program.ended
        self.assertIn(status, (-signal.SIGTERM, Exit.TRY_LATER), program.errors)
        self.assertClean(program)
        return float(reactor.seconds() - began)

    async def wait(self) -> None:
        await deferLater(reactor, 0.02)

    async def test_sigterm_ends_a_command_that_hangs_and_nothing_is_deleted(
        self,
    ) -> None:
        self.hang()
        self.assertLess(await self.stopped(), 11)
        self.assertEqual(self.new("ann"), WANTED)
        self.assertEqual(len(self.factory.drops["ann"].messages), len(MESSAGES))
        # It is repeated, and flagged, and the Maildir gets nothing twice.
        self.write(
            self.account("ann", 'to = ["box", "desk"]'),
            destination=(
                '[destination.box]\nkind = "maildir"\npath = "mail/{account}"\n'
                '[destination.desk]\nkind = "command"\n'
                'command = ["/bin/sh", "-c", "cat >/dev/null; '
                'echo $POP3CONNECT_ATTEMPT >>attempts"]\n'
            ),
        )
        program = self.collect("--once")
        self.assertEqual(await program.ended, 0, program.output + program.errors)
        self.assertEqual(self.new("ann"), WANTED)
        self.assertEqual(len(self.factory.drops["ann"].messages), 0)
        attempts = (self.folder / "attempts").read_text().split()
        self.assertEqual(sorted(attempts), ["1", "1", "2"])


class StuckThreadTests(CollectProgramTestCase):
    """A call in a thread that does not return, as from a network file system."""

    async def assertEnds(self, program: Program, name: str) -> None:
        """Send SIGTERM when it is stuck: it names the destination and ends in time."""
        await program.says("stuck")
        assert program.transport is not None
        began = reactor.seconds()
        program.transport.signalProcess("TERM")
        await program.ended
        self.assertLess(reactor.seconds() - began, 11)
        lines = [line for line in program.output.splitlines() if f"{name}: " in line]
        self.assertTrue(
            any("left behind" in line or "cut off" in line for line in lines),
            program.output,
        )
        self.assertClean(program)
        self.assertEqual(len(self.factory.drops["ann"].messages), len(MESSAGES))

    async def test_look_that_waits_for_a_maildir_does_not_keep_the_process(
        self,
    ) -> None:
        program = self.collect(before=STUCK.format("keep"))
        await self.assertEnds(program, "box")
        # The next one gets it all.
        program = self.collect("--once")
        self.assertEqual(await program.ended, 0, program.output + program.errors)
        self.assertEqual(self.new("ann"), WANTED)

    async def test_single_run_that_waits_for_a_maildir_does_not_keep_the_process(
        self,
    ) -> None:
        for stuck, to in (("keep", '["box"]'), ("prepare", '["box", "other"]')):
            self.write(
                self.account("ann", f"to = {to}"),
                destination="".join(
                    f'[destination.{name}]\nkind = "maildir"\npath = "{name}"\n'
                    for name in ("box", "other")
                ),
            )
            program = self.collect("--once", before=STUCK.format(stuck))
            await self.assertEnds(program, "box")

    async def test_function_that_waits_in_a_thread_does_not_keep_the_process(
        self,
    ) -> None:
        (self.folder / "stuck.py").write_text(FUNCTION)
        self.write(
            self.account("ann", 'to = ["app"]'),
            destination='[destination.app]\nkind = "function"\ncall = "stuck:call"\n',
        )
        before = f"import sys; sys.path.insert(0, {str(self.folder)!r})\n"
        await self.assertEnds(self.collect(before=before), "app")
