"""
The locks of an mbox: between our processes, against other programs, and after a crash.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pop3connect.destinations.base import Later, Prepared
from pop3connect.destinations.mbox import LOCK_TIMEOUT, Mbox

from .faults import BrokenDisk
from .test_folder import only_root

HOLD_FCNTL = """
import fcntl, sys
file = open(sys.argv[1], "r+b")
fcntl.lockf(file, fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.read()
"""

HOLD_OURS = """
import sys
from pathlib import Path
from pop3connect.destinations.mbox import Mbox
prepared = Mbox(Path(sys.argv[1])).prepare([])
print("locked", flush=True)
sys.stdin.read()
"""


class LockTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.base = Path(self.mktemp()).absolute()
        self.base.mkdir()
        self.path = self.base / "box"
        self.dot = self.base / "box.lock"
        self.ours = self.base / ".box.pop3connect-lock"
        self.clock = Clock()
        self.waited: list[float] = []

    def open(
        self,
        timeout: float = 0,
        then: Callable[[], object] | None = None,
        **options: Any,
    ) -> Mbox:
        """
        Return an mbox whose time passes without waiting.

        :param then: called at the third time that it waits.
        """

        def wait(seconds: float) -> bool:
            self.waited.append(seconds)
            self.clock.advance(seconds)
            if then is not None and len(self.waited) == 3:
                then()
            return False

        return Mbox(
            self.path,
            lock_timeout=timeout,
            wait=wait,
            clock=self.clock.seconds,
            **options,
        )

    def locked(self, box: Mbox, why: str) -> None:
        error = self.assertRaises(Later, box.prepare, [])
        self.assertTrue(error.whole_destination)
        self.assertIn(str(self.path), error.reason)
        self.assertIn(why, error.reason)

    def hold(self, program: str) -> subprocess.Popen[bytes]:
        """Run a program that holds a lock until its standard input ends."""
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(self.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )

        def end() -> None:
            process.kill()
            process.communicate()

        self.addCleanup(end)
        assert process.stdout is not None
        self.assertEqual(process.stdout.readline(), b"locked\n")
        return process

    def prepared(self) -> Prepared:
        prepared = self.open().prepare([])
        self.addCleanup(prepared.close)
        return prepared

    def lock_id(self) -> str:
        self.open().prepare([]).close()
        return self.ours.read_text().strip()

    def test_another_process_of_ours_is_waited_for(self) -> None:
        prepared = self.prepared()
        box = self.open(10, then=prepared.close)
        box.prepare([]).close()
        self.assertEqual(len(self.waited), 3)

    def test_wait_for_another_process_of_ours_ends_at_the_timeout(self) -> None:
        self.prepared()
        self.locked(self.open(5), "another pop3connect")
        self.assertEqual(round(sum(self.waited)), 5)

    def test_dot_lock_of_another_program_is_waited_for(self) -> None:
        self.dot.write_text("1\n")
        box = self.open(10, then=self.dot.unlink)
        box.prepare([]).close()
        self.assertEqual(len(self.waited), 3)
        self.assertFalse(self.dot.exists())

    def test_wait_for_a_dot_lock_ends_at_the_timeout_and_names_the_remedy(self) -> None:
        self.dot.write_text("1\n")
        self.locked(self.open(5), f"remove {self.dot}")
        self.assertEqual(round(sum(self.waited)), 5)
        self.assertEqual(self.dot.read_text(), "1\n")

    def test_by_default_locks_are_waited_for_a_minute(self) -> None:
        self.assertEqual(LOCK_TIMEOUT, 60)

    def test_fcntl_lock_of_another_program_is_waited_for(self) -> None:
        self.path.write_bytes(b"")
        process = self.hold(HOLD_FCNTL)
        self.locked(self.open(1), "another program")

        def end() -> None:
            process.communicate()

        box = self.open(10, then=end)
        self.waited.clear()
        box.prepare([]).close()
        self.assertEqual(len(self.waited), 3)

    def test_no_lock_is_held_while_another_one_is_waited_for(self) -> None:
        def other_program() -> None:
            with self.path.open("r+b") as file:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.dot.unlink()

        self.path.write_bytes(b"")
        self.dot.write_text("1\n")
        # The lock of fcntl is one of the process: this one must not have it.
        box = self.open(10, then=other_program)
        box.prepare([]).close()
        self.assertEqual(len(self.waited), 3)

    def test_process_that_is_killed_leaves_no_lock_that_lasts(self) -> None:
        process = self.hold(HOLD_OURS)
        self.locked(self.open(), "another pop3connect")
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.assertTrue(self.dot.exists())
        self.open().prepare([]).close()
        self.assertEqual(self.waited, [])
        self.assertFalse(self.dot.exists())

    def test_dot_lock_of_a_killed_process_is_removed_where_all_have_number_1(
        self,
    ) -> None:
        """In a container, that process is alive: it is our own."""
        self.dot.write_text(f"{os.getpid()} pop3connect {self.lock_id()}\n")
        self.open().prepare([]).close()
        self.assertEqual(self.waited, [])
        self.assertFalse(self.dot.exists())

    def test_dot_lock_with_the_id_of_another_mbox_is_not_removed(self) -> None:
        self.lock_id()
        for content in (
            f"1 pop3connect {'0' * 32}\n",
            f"1 another {self.lock_id()}\n",
            f"1 pop3connect {self.lock_id()}\nmore",
            "",
        ):
            self.dot.write_text(content)
            self.locked(self.open(), "another program")
            self.assertEqual(self.dot.read_text(), content)
            self.dot.unlink()

    def test_dot_lock_that_is_a_link_or_a_fifo_is_not_read(self) -> None:
        target = self.base / "target"
        target.write_text(f"1 pop3connect {self.lock_id()}\n")
        for plant in (lambda: self.dot.symlink_to(target), lambda: os.mkfifo(self.dot)):
            plant()
            self.locked(self.open(), "another program")
            self.dot.unlink()
        self.assertTrue(target.exists())

    def test_dot_lock_names_the_process_first(self) -> None:
        prepared = self.prepared()
        number, name, lock_id = self.dot.read_text().split()
        self.assertEqual(
            (int(number), name, lock_id),
            (os.getpid(), "pop3connect", self.ours.read_text().strip()),
        )
        prepared.close()

    def test_locks_leave_only_the_lock_file_behind(self) -> None:
        self.prepared().close()
        self.assertEqual(
            sorted(path.name for path in self.base.iterdir()),
            [".box.pop3connect-lock", "box"],
        )
        self.assertEqual(self.ours.stat().st_mode & 0o777, 0o600)

    def test_planted_lock_file_is_neither_followed_nor_changed(self) -> None:
        target = self.base / "target"
        target.write_bytes(b"kept")
        for plant, why in (
            (lambda: self.ours.symlink_to(target), "symbolic link"),
            (lambda: os.mkfifo(self.ours), "not a regular file"),
            (lambda: os.link(target, self.ours), "2 names"),
            (lambda: self.ours.write_bytes(b"kept") and None, "another file"),
        ):
            plant()
            self.locked(self.open(), why)
            self.assertEqual(target.read_bytes(), b"kept")
            self.ours.unlink()

    def test_lock_file_of_another_user_is_refused(self) -> None:
        only_root()
        self.ours.write_bytes(b"")
        os.chown(self.ours, 12345, -1)
        self.locked(self.open(), "12345")

    def test_planted_file_in_place_of_the_temporary_one_harms_nothing(self) -> None:
        target = self.base / "target"
        target.write_bytes(b"kept")
        scratch = self.base / ".box.pop3connect-dot"
        for plant in (os.symlink, os.link):
            plant(target, scratch)
            self.open().prepare([]).close()
            self.assertEqual(target.read_bytes(), b"kept")

    def test_lock_file_that_a_crash_left_unfinished_is_finished(self) -> None:
        for content in (b"", b"0123"):
            self.ours.write_bytes(content)
            self.assertEqual(len(self.lock_id()), 32)
            self.assertEqual(self.ours.stat().st_size, 33)

    def test_lock_file_that_is_replaced_meanwhile_is_not_believed(self) -> None:
        """Another process would take the new one."""
        prepared = self.prepared()

        def replace() -> None:
            self.ours.unlink()
            prepared.close()

        self.open(10, then=replace).prepare([]).close()
        self.assertTrue(self.ours.exists())

    def test_mbox_that_is_replaced_while_waiting_is_opened_again(self) -> None:
        self.path.write_bytes(b"From x\n\nold\n\n")
        self.dot.write_text("1\n")

        def rewrite() -> None:
            new = self.base / "new"
            new.write_bytes(b"From x\n\nnew mail\n\n")
            os.replace(new, self.path)
            self.dot.unlink()

        prepared = self.open(10, then=rewrite).prepare([])
        prepared.carry_out()
        self.assertEqual(self.path.read_bytes(), b"From x\n\nnew mail\n\n")

    def test_without_hard_links_the_dot_lock_is_taken_too(self) -> None:
        prepared = self.open(disk=BrokenDisk("link")).prepare([])
        self.assertTrue(self.dot.exists())
        self.locked(self.open(disk=BrokenDisk("link")), "another pop3connect")
        prepared.close()
        self.dot.write_text("1\n")
        self.locked(self.open(disk=BrokenDisk("link")), "another program")

    def test_dot_lock_that_disappears_when_it_is_removed_is_no_error(self) -> None:
        prepared = self.prepared()
        self.dot.unlink()
        prepared.close()

    def test_stopping_ends_a_wait_at_once(self) -> None:
        self.dot.write_text("1\n")
        box = Mbox(self.path, lock_timeout=60)
        errors: list[BaseException] = []

        def wait() -> None:
            try:
                box.prepare([])
            except Later as error:
                errors.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        box.stop()
        thread.join(10)
        self.assertFalse(thread.is_alive())
        self.assertEqual(len(errors), 1)
