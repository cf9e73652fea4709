"""The real process is stopped while a destination does not answer."""

from __future__ import annotations

import signal
import sys
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.task import deferLater

from pop3connect.cli.exits import Exit

from ..support.loopback import MESSAGES
from .test_collect_program import WANTED, CollectProgramTestCase

reactor: Any = global_reactor

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
