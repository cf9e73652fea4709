"""
Folders that may not be written to: a clear error, and nothing is lost or fetched.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from twisted.logger import formatEvent, globalLogPublisher

from pop3connect.collect.wording import words

from .engine import message
from .test_delivery import Running

MAIL = [message(number) for number in range(1, 6)]

NOBODY = 65534


class ReadOnlyTests(Running):
    """
    Tests of a user whom permissions bind, also where root runs them.
    """

    def setUp(self) -> None:
        super().setUp()
        self.root = Path(mkdtemp())
        self.addCleanup(shutil.rmtree, self.root)
        if os.geteuid() == 0:
            os.chown(self.root, NOBODY, -1)
            os.seteuid(NOBODY)
            self.addCleanup(os.seteuid, 0)
        self.server = self.serve(*MAIL)
        self.maildir()
        self.account(after="delete", interval=15)
        self.events: list[Any] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    def forbid(self, folder: Path) -> None:
        """Let nothing be written to a folder."""
        folder.chmod(0o500)
        self.addCleanup(lambda: folder.exists() and folder.chmod(0o700))

    def told(self, text: str) -> int:
        return sum(text in (formatEvent(event) or "") for event in self.events)

    def test_maildir_that_may_not_be_made_waits(self) -> None:
        target = self.root / "parent"
        target.mkdir()
        self.destinations.clear()
        self.maildir(path="parent/mail")
        self.forbid(target)
        self.begin()
        self.pass_time(60)
        self.assertEqual(self.server.messages, MAIL)
        self.assertGreater(self.told(f"Permission denied: {target / 'mail'}"), 0)
        target.chmod(0o700)
        self.pass_time(150, 5)
        self.assertEqual(self.mail("parent/mail"), MAIL)
        self.assertEqual(self.server.messages, [])

    def test_folder_of_a_maildir_that_may_not_be_written_to_waits(self) -> None:
        self.once()
        expected = MAIL
        for number, name in ((10, "tmp"), (20, "new")):
            with self.subTest(folder=name):
                more = [message(number), message(number + 1)]
                self.server.deliver(*more)
                folder = self.root / "mail" / name
                self.forbid(folder)
                self.begin()
                self.pass_time(60)
                self.assertEqual(self.server.messages, more)
                self.assertGreater(self.told("Permission denied"), 0)
                folder.chmod(0o700)
                self.pass_time(150, 5)
                expected = sorted([*expected, *more])
                self.assertEqual(self.mail(), expected)
                self.assertEqual(self.server.messages, [])
                self.assertEqual(self.leftovers(), [])
                self.stop()

    def test_mbox_that_may_not_be_written_to_waits(self) -> None:
        self.destinations.clear()
        self.mbox("box", "box/mbox")
        (self.root / "box").mkdir()
        file = self.root / "box" / "mbox"
        file.write_bytes(b"")
        self.forbid(self.root / "box")
        self.begin()
        self.pass_time(60)
        self.assertEqual(self.server.messages, MAIL)
        self.assertGreater(self.told("Permission denied"), 0)
        (self.root / "box").chmod(0o700)
        self.pass_time(150, 5)
        self.assertEqual(file.read_bytes().count(b"\nSubject: "), 5)
        self.assertEqual(self.server.messages, [])

    def test_spool_that_may_not_be_written_to_retrieves_nothing(self) -> None:
        self.account(to=("box", "two"), after="delete", interval=15)
        self.maildir("two", "second")
        self.begin()
        self.pass_time(5)
        self.assertEqual(self.server.messages, [])
        self.server.deliver(message(7))
        spool = self.root / "state" / "spool"
        self.forbid(spool)
        self.pass_time(60)
        self.assertEqual(self.server.messages, [message(7)])
        self.assertGreater(self.told(f"Permission denied: '{spool}"), 0)
        spool.chmod(0o700)
        self.pass_time(150, 5)
        self.assertEqual(self.server.messages, [])
        self.assertEqual(len(self.mail()), 6)
        self.assertEqual(len(self.mail("second")), 6)

    def test_state_folder_that_may_not_be_written_to_ends_the_start(self) -> None:
        state = self.root / "state"
        self.once()
        before = self.server.sessions
        for there in (True, False):
            with self.subTest(there=there):
                if not there:
                    state.chmod(0o700)
                    for file in (state / "lock", state / "places"):
                        file.unlink()
                self.forbid(state)
                start = self.service().startService()
                error = self.failureResultOf(start).value
                self.assertIn(str(state), words(error))
                self.assertEqual(self.server.sessions, before)

    def mbox(self, name: str, path: str) -> None:
        from pop3connect.collect.settings import DestinationSettings

        self.destinations.append(
            DestinationSettings(name=name, kind="mbox", path=self.root / path)
        )
