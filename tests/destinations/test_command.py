"""
A command as a destination: what it gets, and what its end means.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import attrs
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.utils import getProcessOutput
from twisted.trial.unittest import TestCase

from pop3connect.destinations.base import Later, Mail, Never
from pop3connect.destinations.command import Command

from ..support.shows import shows
from .faults import MESSAGE, mail_in


class CommandTests(TestCase):
    timeout = 30

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.out = self.folder / "out"

    def command(self, script: str, **options: Any) -> Command:
        settings: dict[str, Any] = {
            "folder": self.folder,
            "environment": {"PATH": os.environ["PATH"], "MORE": "than ours"},
            "timeout": 20,
            "reactor": reactor,
            **options,
        }
        return Command(["/bin/sh", "-c", script, "name", str(self.out)], **settings)

    def mail(self, content: bytes = MESSAGE, **changes: Any) -> Mail:
        return attrs.evolve(mail_in(self.folder, "a", content), **changes)

    def deliver(self, script: str, mail: Mail | None = None, **options: Any) -> Any:
        return self.start(self.command(script, **options), mail)

    def start(self, command: Command, mail: Mail | None = None) -> Any:
        return Deferred.fromCoroutine(command.deliver(mail or self.mail()))

    async def later(self, script: str, **expected: Any) -> Later:
        error = await self.assertFailure(self.deliver(script), Later)
        found = {name: getattr(error, name) for name in expected}
        self.assertEqual(found, expected)
        return error  # type: ignore[no-any-return]

    @shows("feature 1.20")
    async def test_whole_message_is_on_standard_input(self) -> None:
        content = MESSAGE + b"0123456789\r\n" * 100_000
        await self.deliver('cat > "$1"', self.mail(content))
        self.assertEqual(self.out.read_bytes(), content)

    async def test_command_that_does_not_read_its_input_has_delivered(self) -> None:
        content = MESSAGE + b"0123456789\r\n" * 100_000
        await self.deliver("exit 0", self.mail(content))

    async def test_facts_are_utf_8_where_the_system_has_only_ascii(self) -> None:
        script = (
            "import os, sys\n"
            "from pathlib import Path\n"
            "from pop3connect.destinations.base import Mail\n"
            "from pop3connect.destinations.command import _facts\n"
            "assert sys.getfilesystemencoding() == 'ascii'\n"
            "mail = Mail('a', 'b', 'u', 1, Path('x'), subject='10 \\u20ac')\n"
            "print(os.fsencode(_facts(mail)['POP3CONNECT_SUBJECT']).hex())\n"
        )
        environment = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}
        output = await getProcessOutput(
            sys.executable,
            ["-X", "utf8=0", "-c", script],
            env={**environment, "PYTHONPATH": os.pathsep.join(sys.path)},
            errortoo=True,
        )
        self.assertEqual(output.decode().strip(), "10 \u20ac".encode().hex())

    async def test_facts_about_the_message_are_in_the_environment(self) -> None:
        mail = self.mail(
            attempt=2, uid="u 1", sender="Jürgen <a@b>", subject="x\0y" + "z" * 2000
        )
        await self.deliver('env > "$1"', mail)
        found = dict(
            line.split("=", 1) for line in self.out.read_text("utf-8").splitlines()
        )
        # The first is what it was found by, the others are the shell's own.
        for name in ("PATH", "PWD", "OLDPWD", "SHLVL", "_"):
            found.pop(name, None)
        self.assertEqual(
            found,
            {
                "MORE": "than ours",
                "POP3CONNECT_KEY": "a" * 32,
                "POP3CONNECT_ATTEMPT": "2",
                "POP3CONNECT_ACCOUNT": "anna",
                "POP3CONNECT_UID": "u 1",
                "POP3CONNECT_SIZE": str(len(MESSAGE)),
                "POP3CONNECT_FROM": "Jürgen <a@b>",
                "POP3CONNECT_SUBJECT": "xy" + "z" * 998,
            },
        )

    async def test_status_75_means_later_and_does_not_count(self) -> None:
        await self.later("exit 75", counts=False, whole_destination=False, seconds=None)

    async def test_signal_means_later_and_does_not_count(self) -> None:
        error = await self.later("kill -9 $$", counts=False, whole_destination=False)
        self.assertIn("signal 9", error.reason)

    async def test_time_limit_means_later_and_does_not_count(self) -> None:
        delivered = self.deliver("sleep 60", timeout=0.05)
        error = await self.assertFailure(delivered, Later)
        self.assertEqual((error.counts, error.whole_destination), (False, False))
        self.assertIn("longer than 0.05 seconds", error.reason)

    async def test_command_that_catches_the_time_limit_has_not_delivered(self) -> None:
        script = "trap 'exit 0' TERM; sleep 60 & wait"
        await self.assertFailure(self.deliver(script, timeout=0.3), Later)

    async def test_status_65_means_never(self) -> None:
        error = await self.assertFailure(
            self.deliver("echo one >&2; echo 'not a mail' >&2; exit 65"), Never
        )
        self.assertIn("exit status 65", error.reason)
        self.assertIn("not a mail", error.reason)
        self.assertNotIn("one", error.reason)

    async def test_status_126_and_127_are_the_fault_of_the_destination(self) -> None:
        for status in (126, 127):
            await self.later(f"exit {status}", whole_destination=True)

    async def test_program_that_is_missing_is_the_fault_of_the_destination(
        self,
    ) -> None:
        command = Command(
            ["/no/such/program"],
            folder=self.folder,
            environment={},
            timeout=5,
            reactor=reactor,
        )
        delivered = self.start(command)
        error = await self.assertFailure(delivered, Later)
        self.assertTrue(error.whole_destination)
        self.assertIn("/no/such/program", error.reason)

    async def test_any_other_status_counts_as_a_refusal(self) -> None:
        for status in (1, 2, 64, 74, 128, 255):
            await self.later(f"exit {status}", counts=True, whole_destination=False)

    async def test_message_whose_file_is_a_link_is_not_passed_on(self) -> None:
        mail = self.mail()
        target = mail.path.rename(self.folder / "target")
        mail.path.symlink_to(target)
        error = await self.assertFailure(self.deliver('cat > "$1"', mail), Later)
        self.assertIn("symbolic link", error.reason)
        self.assertFalse(self.out.exists())

    async def test_cancelling_ends_the_command(self) -> None:
        program = (
            "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid()));"
            "time.sleep(60)"
        )
        command = Command(
            [sys.executable, "-c", program, str(self.out)],
            folder=self.folder,
            environment=dict(os.environ),
            timeout=60,
            reactor=reactor,
        )
        delivered = self.start(command)
        delivered.cancel()
        await self.assertFailure(delivered, CancelledError)
