"""
An error of the disk at each call, once: each message arrives exactly once all the same.
"""

from __future__ import annotations

import errno
import mailbox
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pop3connect.collect.settings import DestinationSettings
from pop3connect.destinations.folder import Disk

from .engine import message
from .test_delivery import Running

MAIL = [message(1), message(2, 90_000)]

CALLS = ("write", "sync", "rename", "link")


class Failing:
    """
    Lets one call of the disk fail.

    :ivar left: how many calls still succeed before.
    :ivar failed: whether it has failed.
    """

    def __init__(self, left: int, number: int, *, after: bool) -> None:
        self.left = left
        self.failed = False
        self._number = number
        self._after = after

    def wrap(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def failing(*arguments: Any) -> Any:
            if self.left > 0:
                self.left -= 1
                return call(*arguments)
            if not self.failed:
                self.failed = True
                if self._after:
                    call(*arguments)
                raise OSError(self._number, os.strerror(self._number))
            return call(*arguments)

        return failing


class DiskErrorTests(Running):
    """
    One mailbox, whose messages are deleted when they were delivered.
    """

    def sweep(
        self,
        check: Callable[[Path], None],
        *,
        to: tuple[str, ...],
        number: int = errno.ENOSPC,
        after: bool = False,
    ) -> None:
        reached = 0
        root = self.root
        for call in CALLS:
            for left in range(1000):
                self.root = root / f"{call}{left}"
                self.root.mkdir()
                server = self.serve(*MAIL)
                self.destinations = [
                    DestinationSettings(
                        name="box", kind="maildir", path=self.root / "mail"
                    ),
                    DestinationSettings(
                        name="mbox", kind="mbox", path=self.root / "mbox"
                    ),
                ]
                self.account(to=to, after="delete", interval=60)
                failing = Failing(left, number, after=after)
                patch = self.patch(Disk, call, failing.wrap(getattr(Disk, call)))
                try:
                    self.start()
                    # After a full disk there are no looks for a minute.
                    self.pass_time(10)
                    self.pass_time(120, 15)
                finally:
                    patch.restore()
                    self.stop()
                with self.subTest(call=call, left=left):
                    self.assertEqual(server.messages, [])
                    check(self.root)
                if not failing.failed:
                    break
                reached += 1
        self.assertGreater(reached, 15)

    def start(self) -> None:
        """Start, again after an error as whatever supervises it does."""
        for _ in range(5):
            try:
                self.begin()
            except OSError:
                self.running = None
            else:
                return
        self.fail("it does not start")

    def check_maildir(self, root: Path) -> None:
        found = sorted(
            file.read_bytes().replace(b"\n", b"\r\n")
            for file in (root / "mail" / "new").iterdir()
        )
        self.assertEqual(found, MAIL)

    def check_both(self, root: Path) -> None:
        self.check_maildir(root)
        box = mailbox.mbox(root / "mbox")
        try:
            subjects = sorted(each["Subject"] for each in box)
        finally:
            box.close()
        self.assertEqual(subjects, ["number 1", "number 2"])

    def test_error_after_each_call_of_a_maildir(self) -> None:
        self.sweep(self.check_maildir, to=("box",), number=errno.EIO, after=True)

    def test_full_disk_at_each_call_of_spool_maildir_and_mbox(self) -> None:
        self.sweep(self.check_both, to=("box", "mbox"))
