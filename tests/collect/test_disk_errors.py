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

from twisted.logger import formatEvent, globalLogPublisher

from pop3connect.collect.records import MessageState
from pop3connect.collect.settings import DestinationSettings
from pop3connect.destinations.folder import Disk

from ..destinations.faults import SmallDisk
from .engine import Collecting, message
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


class FullDiskTests(Running):
    """
    A disk with little room for mail; the journal has enough.
    """

    def setUp(self) -> None:
        super().setUp()
        logged: list[str] = []
        self.logged = logged

        def observe(event: dict[str, Any]) -> None:
            if event.get("log_namespace", "").startswith("pop3connect"):
                logged.append(formatEvent(event))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)

    def limit(self, *paths: str, room: int) -> SmallDisk:
        """Let the files in these folders have little room from now on."""
        disk = SmallDisk(*(self.root / path for path in paths), room=room)
        self.patch(Disk, "write", lambda _, *arguments: disk.write(*arguments))
        return disk

    def named(self, text: str) -> list[str]:
        return [line for line in self.logged if text in line]

    def test_message_larger_than_the_room_does_not_stop_those_that_fit(self) -> None:
        for path, to in (("state/spool", ("one",)), ("mail", ("box",))):
            with self.subTest(path=path):
                self.check_large_message(path, to)

    def check_large_message(self, path: str, to: tuple[str, ...]) -> None:
        self.setUp()
        self.objects["one"] = one = Collecting()
        if to == ("box",):
            self.maildir()
        mail = [message(1), message(2, 500_000), *map(message, range(3, 9))]
        server = self.serve(*mail)
        other = self.serve(message(9), name="b")
        self.account(to=to, interval=10, after="delete")
        self.account("b", to=to, interval=10)
        disk = self.limit(path, room=200_000)
        self.begin()
        self.pass_time(5)

        def got() -> list[bytes]:
            return sorted(one.contents) if to == ("one",) else self.mail()

        small = [each for each in mail if len(each) < 1000]
        self.assertEqual(got(), sorted([*small, message(9)]))
        self.assertEqual(server.messages, [mail[1]])
        (line,) = self.named("message 2 stays on the server")
        self.assertIn(f"its {len(mail[1])} bytes do not fit", line)
        self.assertIn("tried again in 1 min", line)
        self.assertEqual(self.named("no looks"), [])
        # The others are looked at as always, and it waits longer each time.
        asked, looks = server.count("RETR"), other.sessions
        server.deliver(message(10))
        self.pass_time(45)
        self.assertGreaterEqual(other.sessions, looks + 4)
        self.assertEqual(server.count("RETR"), asked + 1)
        self.assertIn(message(10), got())
        self.pass_time(3 * 3600, 300)
        self.assertLess(len(self.named("stays on the server")), 10)
        self.assertIn("tried again in 1 h", self.named("stays on the server")[-1])
        # It is not at fault.
        states = [row.state for row in self.rows()]
        self.assertEqual(set(states), {MessageState.DELETED})
        disk.room = 1_000_000
        self.pass_time(3700, 300)
        self.assertEqual(server.messages, [])
        self.assertIn(mail[1], got())
        self.stop()

    def test_larger_messages_are_not_retrieved_only_to_be_dropped(self) -> None:
        mail = [message(number, 3_000_000 + number) for number in range(1, 21)]
        server = self.serve(*mail)
        self.objects["one"] = one = Collecting()
        self.account(to=("one",), interval=10)
        self.limit("state/spool", room=1_000_000)
        self.begin()
        self.pass_time(45)
        # Those that were asked for before the first had come.
        self.assertLessEqual(server.count("RETR"), 4)
        server.deliver(message(30))
        self.pass_time(9.9)
        self.assertEqual(one.contents, [message(30)])

    def test_messages_before_the_full_disk_are_noted_and_delivered(self) -> None:
        mail = [message(number) for number in range(1, 9)]
        server = self.serve(*mail)
        self.objects["one"] = one = Collecting()
        self.account(to=("one",), interval=10)
        disk = self.limit("state/spool", room=sum(map(len, mail[:3])) + 100)
        self.begin()
        self.pass_time(30)
        self.assertEqual(one.contents, mail[:3])
        self.assertEqual([row.state.value for row in self.rows()], ["delivered"] * 3)
        self.assertEqual(len(self.named("no looks for 60 seconds")), 1)
        self.assertEqual(server.sessions, 1)
        self.assertEqual(self.leftovers(), [])
        disk.room = 1_000_000
        self.pass_time(60)
        self.assertEqual(one.contents, mail)
        # Each was retrieved, or asked for and lost, once at most before.
        self.assertEqual([attempt for _, attempt, _ in one.got], [1] * 8)

    def test_full_maildir_does_not_stop_other_accounts(self) -> None:
        self.maildir(path="mail/{account}")
        mail = [message(number) for number in range(1, 4)]
        for name in ("a", "b"):
            self.serve(*mail, name=name)
            self.account(name, interval=10)
        self.begin()
        self.pass_time(5)
        disk = self.limit("mail/a", room=0)
        for name in ("a", "b"):
            self.servers[name].deliver(message(4))
        self.pass_time(60)
        self.assertEqual(len(self.mail("mail/b")), 4)
        self.assertEqual(len(self.mail("mail/a")), 3)
        self.assertEqual(self.named("no looks"), [])
        (line, *_) = self.named("box: mail waits")
        self.assertIn(str(self.root / "mail/a"), line)
        disk.room = 1_000_000
        self.pass_time(1200, 10)
        self.assertEqual(len(self.mail("mail/a")), 4)

    def test_message_too_large_for_one_of_two_destinations_waits_alone(self) -> None:
        self.maildir()
        self.objects["one"] = one = Collecting()
        mail = [message(1), message(2, 500_000), message(3)]
        server = self.serve(*mail)
        self.account(to=("box", "one"), interval=60, after="delete")
        disk = self.limit("mail", room=200_000)
        self.begin()
        self.pass_time(30)
        self.assertEqual(self.mail(), [mail[0], mail[2]])
        self.assertEqual(sorted(one.contents), sorted(mail))
        server.deliver(message(4))
        self.pass_time(90)
        self.assertIn(message(4), self.mail())
        self.assertEqual(len(server.messages), 1)
        self.assertIn("does not fit", self.named("box did not take")[0])
        self.pass_time(6 * 3600, 120)
        # It was never refused for good.
        self.assertEqual(self.named("set aside"), [])
        disk.room = 1_000_000
        self.pass_time(1300, 10)
        self.assertIn(mail[1], self.mail())
        self.assertEqual(server.messages, [])
