"""
What is opened in a folder that others may write to, and what is not.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from pop3connect.destinations.base import words
from pop3connect.destinations.folder import (
    Disk,
    Folder,
    has_room,
    make_folders,
    open_regular,
    write_fully,
)

from .faults import BrokenDisk, SmallDisk, WatchedDisk


def only_root() -> None:
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        raise SkipTest("only root can give files away")


class FolderTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp()).absolute()
        self.path.mkdir()
        self.folder = Folder(self.path)
        self.addCleanup(self.folder.close)


class OpenTests(FolderTestCase):
    def refused(self, name: str, why: str, flags: int = os.O_RDONLY) -> None:
        error = self.assertRaises(OSError, self.folder.open, name, flags)
        self.assertIn(why, str(error))
        error = self.assertRaises(OSError, open_regular, self.path / name, flags)
        self.assertIn(why, str(error))

    def test_regular_file_is_opened(self) -> None:
        (self.path / "a").write_bytes(b"text")
        with os.fdopen(self.folder.open("a"), "rb") as file:
            self.assertEqual(file.read(), b"text")
        self.assertEqual(self.folder.read("a", 3), b"tex")

    def test_link_is_not_followed(self) -> None:
        (self.path / "a").write_bytes(b"text")
        (self.path / "link").symlink_to("a")
        self.refused("link", "symbolic link")

    def test_fifo_is_not_opened_and_does_not_block(self) -> None:
        os.mkfifo(self.path / "fifo")
        self.refused("fifo", "not a regular file")
        self.refused("fifo", "not a regular file", os.O_RDWR)

    def test_device_is_not_opened(self) -> None:
        error = self.assertRaises(OSError, open_regular, Path("/dev/zero"))
        self.assertIn("not a regular file", str(error))

    def test_folder_is_not_opened_as_a_file(self) -> None:
        (self.path / "b").mkdir()
        self.refused("b", "not a regular file")

    def test_file_of_another_user_is_refused(self) -> None:
        only_root()
        (self.path / "a").write_bytes(b"")
        os.chown(self.path / "a", 12345, -1)
        self.refused("a", "belongs to the user with the ID 12345")

    def test_file_with_two_names_is_opened_for_reading_only(self) -> None:
        (self.path / "a").write_bytes(b"")
        os.link(self.path / "a", self.path / "b")
        os.close(self.folder.open("b"))
        self.refused("b", "2 names", os.O_RDWR)

    def test_missing_file_is_an_error_that_says_so(self) -> None:
        self.assertRaises(FileNotFoundError, self.folder.open, "a")
        self.assertIs(self.folder.stat("a"), None)
        self.assertFalse(self.folder.has_file("a"))
        self.assertFalse(self.folder.remove("a"))

    def test_name_with_a_slash_is_not_looked_up(self) -> None:
        self.assertRaises(ValueError, self.folder.open, "../a")


class FolderTests(FolderTestCase):
    def test_own_link_to_a_folder_is_followed(self) -> None:
        link = self.path.with_name(f"{self.path.name}-link")
        link.symlink_to(self.path.name)
        with Folder(link) as folder:
            self.assertEqual(folder.status.st_ino, self.folder.status.st_ino)

    def test_link_that_another_user_made_is_refused(self) -> None:
        only_root()
        link = self.path.with_name(f"{self.path.name}-link")
        link.symlink_to(self.path.name)
        os.chown(link, 12345, -1, follow_symlinks=False)
        error = self.assertRaises(OSError, Folder, link)
        self.assertIn("symbolic link", str(error))

    def test_link_in_an_open_folder_is_refused(self) -> None:
        (self.path / "real").mkdir()
        (self.path / "new").symlink_to("real")
        error = self.assertRaises(OSError, self.folder.folder, "new")
        self.assertIn("symbolic link", str(error))

    def test_file_is_not_opened_as_a_folder(self) -> None:
        (self.path / "a").write_bytes(b"")
        self.assertRaises(NotADirectoryError, Folder, self.path / "a")
        self.assertRaises(NotADirectoryError, self.folder.folder, "a")

    def test_folder_that_is_replaced_by_a_link_stays_the_one_that_was_opened(
        self,
    ) -> None:
        moved = self.path.with_name(f"{self.path.name}-moved")
        other = self.path.with_name(f"{self.path.name}-other")
        other.mkdir()
        self.path.rename(moved)
        self.path.symlink_to(other.name)
        file = self.folder.create("a")
        file.write(b"text")
        file.close()
        self.assertEqual((moved / "a").read_bytes(), b"text")
        self.assertEqual(list(other.iterdir()), [])

    def test_planted_link_is_not_written_through(self) -> None:
        (self.path / "target").write_bytes(b"kept")
        (self.path / "a").symlink_to("target")
        self.assertRaises(FileExistsError, self.folder.create, "a")
        self.assertEqual((self.path / "target").read_bytes(), b"kept")

    def test_permissions_of_files_and_folders_fit_whatever_the_umask(self) -> None:
        for mode, folder_mode in ((0o600, 0o700), (0o640, 0o750), (0o660, 0o770)):
            name = f"{mode:o}"
            old = os.umask(0o077)
            try:
                self.folder.create(name, mode).close()
                self.folder.make(f"{name}-folder", mode)
            finally:
                os.umask(old)
            found = (self.path / name).stat().st_mode & 0o777
            self.assertEqual(found, mode)
            found = (self.path / f"{name}-folder").stat().st_mode & 0o777
            self.assertEqual(found, folder_mode)

    def test_existing_folder_keeps_its_permissions(self) -> None:
        (self.path / "b").mkdir(mode=0o700)
        self.folder.make("b", 0o660)
        self.assertEqual((self.path / "b").stat().st_mode & 0o777, 0o700)

    def test_new_folders_are_fsynced_in_the_folder_above_each(self) -> None:
        disk = WatchedDisk()
        make_folders(self.path / "a" / "b", disk=disk)
        make_folders(self.path / "a" / "b", disk=disk)
        self.assertEqual(disk.synced, [self.path, self.path / "a"])

    def test_without_hard_links_a_file_is_published_by_renaming(self) -> None:
        with Folder(self.path, BrokenDisk("link")) as folder:
            folder.create("a").close()
            folder.publish("a", "b")
            self.assertEqual(folder.names(), ["b"])
            folder.create("a").close()
            self.assertRaises(FileExistsError, folder.publish, "a", "b")

    def test_published_file_does_not_replace_another(self) -> None:
        self.folder.create("a").close()
        (self.path / "b").write_bytes(b"kept")
        self.assertRaises(FileExistsError, self.folder.publish, "a", "b")
        self.assertEqual((self.path / "b").read_bytes(), b"kept")


class WriteTests(FolderTestCase):
    def test_partial_writes_are_continued_until_all_is_written(self) -> None:
        class SlowDisk(Disk):
            def write(self, descriptor: int, data: memoryview) -> int:
                return super().write(descriptor, data[:3])

        with Folder(self.path, SlowDisk()) as folder:
            file = folder.create("a")
            file.write(b"0123456789")
            file.close()
        self.assertEqual((self.path / "a").read_bytes(), b"0123456789")
        self.assertEqual(file.size, 10)

    def test_file_that_takes_nothing_is_an_error(self) -> None:
        class DeafDisk(Disk):
            def write(self, descriptor: int, data: memoryview) -> int:
                return 0

        self.assertRaises(OSError, write_fully, DeafDisk(), 0, b"text")

    def test_room_is_found_out_by_a_file_that_is_gone_afterwards(self) -> None:
        for disk, room in (
            (Disk(), True),
            (SmallDisk(self.path, room=1000), False),
            (BrokenDisk("sync"), False),
        ):
            with Folder(self.path, disk) as folder:
                self.assertEqual(has_room(folder, "probe"), room)
                self.assertEqual(folder.names(), [])
        with Folder(self.path, BrokenDisk("write", number=errno.EIO)) as folder:
            self.assertRaises(OSError, has_room, folder, "probe")
            self.assertEqual(folder.names(), [])

    def test_error_of_the_disk_names_the_file(self) -> None:
        path = self.path / "a"
        with Folder(self.path, BrokenDisk("write")) as folder:
            file = folder.create("a")
            error = self.assertRaises(OSError, file.write, b"x")
            self.assertEqual(words(error), f"No space left on device: {path}")
            file.remove()
        with Folder(self.path, BrokenDisk("sync")) as folder:
            file = folder.create("a")
            error = self.assertRaises(OSError, file.sync)
            self.assertEqual(error.filename, str(path))
            file.remove()
        with Folder(self.path, BrokenDisk("sync")) as folder:
            error = self.assertRaises(OSError, folder.sync)
            self.assertEqual(error.filename, str(self.path))
        error = self.assertRaises(OSError, self.folder.open, "missing")
        self.assertEqual(error.filename, str(self.path / "missing"))
        (self.path / "there").mkdir()
        error = self.assertRaises(OSError, self.folder.create, "there")
        self.assertEqual(error.filename, str(self.path / "there"))

    def test_file_that_cannot_be_made_closes_its_folder(self) -> None:
        (self.path / "a").write_bytes(b"")
        folder = Folder(self.path)
        self.assertRaises(FileExistsError, folder.create, "a")
        self.assertIsNot(folder.fd, None)
        self.assertRaises(FileExistsError, folder.create, "a", last=True)
        self.assertIs(folder.fd, None)

    def test_removed_file_closes_its_folder(self) -> None:
        folder = Folder(self.path)
        file = folder.create("a", last=True)
        file.remove()
        file.remove()
        self.assertIs(folder.fd, None)
        self.assertEqual(self.folder.names(), [])
