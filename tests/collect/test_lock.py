"""
The lock of a state folder, and the checks that keep other users out of it.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from unittest import mock

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from pop3connect.collect.lock import (
    FolderLock,
    InUseError,
    UnsafeFileError,
    check_file,
    private_folder,
)

HOLDER = """
import sys, time
from pathlib import Path
from unittest import mock
from pop3connect.collect.lock import FolderLock
lock = FolderLock.take(Path(sys.argv[1]))
print("locked", flush=True)
sys.stdin.read()
"""


class LockTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()) / "state"

    def holder(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        assert process.stdout is not None
        self.addCleanup(process.stdout.close)
        assert process.stdin is not None
        self.addCleanup(process.stdin.close)
        self.assertEqual(process.stdout.readline(), "locked\n")
        return process

    def test_folder_that_is_missing_is_made_for_its_owner_only(self) -> None:
        lock = FolderLock.take(self.folder)
        self.addCleanup(lock.release)
        self.assertEqual(os.stat(self.folder).st_mode & 0o777, 0o700)
        self.assertEqual(os.stat(self.folder / "lock").st_mode & 0o777, 0o600)

    def test_second_lock_is_refused_until_the_first_is_released(self) -> None:
        lock = FolderLock.take(self.folder)
        error = self.assertRaises(InUseError, FolderLock.take, self.folder)
        self.assertIn(f"in use by process {os.getpid()}", str(error))
        self.assertIn("stop it first", str(error))
        lock.release()
        lock.release()
        FolderLock.take(self.folder).release()

    def test_lock_of_another_process_is_refused_and_names_it(self) -> None:
        process = self.holder()
        error = self.assertRaises(InUseError, FolderLock.take, self.folder)
        self.assertIn(f"process {process.pid}", str(error))

    def test_lock_of_a_killed_process_is_free(self) -> None:
        process = self.holder()
        process.send_signal(signal.SIGKILL)
        process.wait()
        FolderLock.take(self.folder).release()

    def test_full_disk_does_not_prevent_the_lock(self) -> None:
        def full(*arguments: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        with mock.patch.object(os, "pwrite", full):
            lock = FolderLock.take(self.folder)
        error = self.assertRaises(InUseError, FolderLock.take, self.folder)
        self.assertIn("another process", str(error))
        lock.release()

    def test_child_process_does_not_keep_the_lock(self) -> None:
        lock = FolderLock.take(self.folder)
        child = subprocess.Popen(
            [sys.executable, "-c", "import sys; sys.stdin.read()"],
            stdin=subprocess.PIPE,
            close_fds=False,
        )
        self.addCleanup(child.wait)
        assert child.stdin is not None
        self.addCleanup(child.stdin.close)
        lock.release()
        FolderLock.take(self.folder).release()

    def test_lock_file_without_a_process_number_is_described(self) -> None:
        lock = FolderLock.take(self.folder)
        self.addCleanup(lock.release)
        os.truncate(self.folder / "lock", 0)
        error = self.assertRaises(InUseError, FolderLock.take, self.folder)
        self.assertIn("another process", str(error))

    def test_lock_file_that_is_a_link_is_refused_and_its_target_stays(self) -> None:
        self.folder.mkdir(parents=True, mode=0o700)
        victim = self.folder.parent / "victim"
        victim.write_text("content")
        (self.folder / "lock").symlink_to(victim)
        self.assertRaises(UnsafeFileError, FolderLock.take, self.folder)
        self.assertEqual(victim.read_text(), "content")

    def test_lock_file_that_is_a_fifo_is_refused_at_once(self) -> None:
        self.folder.mkdir(parents=True, mode=0o700)
        os.mkfifo(self.folder / "lock")
        self.assertRaises(UnsafeFileError, FolderLock.take, self.folder)


class WaitingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()) / "state"
        self.clock = Clock()

    def wait(self, seconds: float) -> Deferred[FolderLock]:
        return Deferred.fromCoroutine(FolderLock.wait(self.folder, seconds, self.clock))

    def test_lock_that_is_released_in_time_is_taken(self) -> None:
        lock = FolderLock.take(self.folder)
        waiting = self.wait(3)
        self.clock.pump([0.1] * 5)
        self.assertNoResult(waiting)
        lock.release()
        self.clock.advance(0.1)
        self.successResultOf(waiting).release()

    def test_lock_that_stays_is_an_error_when_the_time_is_over(self) -> None:
        self.addCleanup(FolderLock.take(self.folder).release)
        waiting = self.wait(1)
        self.clock.pump([0.1] * 9)
        self.assertNoResult(waiting)
        self.clock.pump([0.1] * 3)
        self.failureResultOf(waiting, InUseError)

    def test_lock_that_is_free_is_taken_without_waiting(self) -> None:
        self.successResultOf(self.wait(0)).release()


class FolderTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())

    def test_folder_that_is_a_link_is_refused(self) -> None:
        other = Path(self.mktemp())
        other.mkdir(mode=0o700)
        self.folder.symlink_to(other)
        self.assertRaises(UnsafeFileError, private_folder, self.folder)

    def test_file_in_place_of_the_folder_is_refused(self) -> None:
        self.folder.write_text("")
        self.assertRaises(UnsafeFileError, private_folder, self.folder)

    def test_folder_that_others_may_write_to_is_refused_with_the_remedy(self) -> None:
        self.folder.mkdir()
        os.chmod(self.folder, 0o770)
        error = self.assertRaises(UnsafeFileError, private_folder, self.folder)
        self.assertIn("chmod 700", str(error))

    def test_folder_that_others_may_read_is_accepted(self) -> None:
        self.folder.mkdir()
        os.chmod(self.folder, 0o755)
        private_folder(self.folder)

    def test_folder_of_another_user_is_refused(self) -> None:
        if os.geteuid() != 0:
            raise SkipTest("only root can give a folder away")
        self.folder.mkdir(mode=0o700)
        os.chown(self.folder, 12345, -1)
        error = self.assertRaises(UnsafeFileError, private_folder, self.folder)
        self.assertIn("12345", str(error))

    def test_braces_in_a_name_are_shown_as_they_are(self) -> None:
        folder = Path(self.mktemp()) / "{account}"
        folder.mkdir(parents=True)
        os.chmod(folder, 0o777)
        error = self.assertRaises(UnsafeFileError, private_folder, folder)
        self.assertIn(f"chmod 700 {folder}", str(error))


class FileTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp())

    def test_missing_file_is_reported(self) -> None:
        self.assertFalse(check_file(self.path))

    def test_regular_file_is_accepted(self) -> None:
        self.path.write_text("")
        self.assertTrue(check_file(self.path))

    def test_link_is_refused_even_if_its_target_is_missing(self) -> None:
        self.path.symlink_to("nowhere")
        self.assertRaises(UnsafeFileError, check_file, self.path)

    def test_hard_link_is_refused(self) -> None:
        self.path.write_text("")
        os.link(self.path, self.mktemp())
        self.assertRaises(UnsafeFileError, check_file, self.path)

    def test_fifo_is_refused(self) -> None:
        os.mkfifo(self.path)
        self.assertRaises(UnsafeFileError, check_file, self.path)
