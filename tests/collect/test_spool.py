"""
The spool: messages that wait, and those that were set aside.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pop3connect.collect.spool import Spool
from pop3connect.destinations.incoming import RUN, SMALL, Incoming

from ..destinations.faults import MESSAGE, BrokenDisk, SmallDisk, WatchedDisk
from ..destinations.test_folder import only_root

LARGE = MESSAGE + b"0123456789\r\n" * 20_000


class SpoolTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.base = Path(self.mktemp()).absolute()
        self.base.mkdir()
        self.folder = self.base / "spool"
        self.aside = self.base / "aside"

    def open(self, **options: Any) -> Spool:
        spool = Spool(self.folder, self.aside, **options)
        spool.open()
        return spool

    def receive(
        self, spool: Spool, content: bytes = MESSAGE, digit: str = "a"
    ) -> Incoming:
        message = spool.begin("anna")
        for start in range(0, len(content), 5000):
            message.write(content[start : start + 5000])
        message.key = digit * 32
        return message

    def keep(
        self, spool: Spool, content: bytes = MESSAGE, digit: str = "a", run: str = RUN
    ) -> Path:
        """Keep a message; ``run`` may be that of an earlier process."""
        message = self.receive(spool, content, digit)
        spool.keep([message])
        assert message.path is not None
        path = message.path.with_name(message.path.name.replace(RUN, run))
        return message.path.rename(path)

    def names(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())

    def test_kept_messages_are_as_on_the_wire_and_for_their_owner_only(self) -> None:
        spool = self.open()
        for content in (MESSAGE, LARGE, b""):
            path = self.keep(spool, content)
            self.assertEqual(path.read_bytes(), content)
            self.assertEqual(path.stat().st_mode & 0o777, 0o600)
            self.assertEqual(path.parent, self.folder)
        for folder in (self.folder, self.aside):
            self.assertEqual(folder.stat().st_mode & 0o777, 0o700)

    def test_group_costs_an_fsync_of_each_file_and_one_of_the_folder(self) -> None:
        disk = WatchedDisk()
        spool = self.open(disk=disk)
        self.assertEqual(disk.synced, [self.base, self.base])
        del disk.synced[:]
        messages = [self.receive(spool, LARGE if n % 2 else MESSAGE) for n in range(70)]
        spool.keep(messages)
        self.assertEqual(disk.synced[-1], self.folder)
        self.assertEqual(len(disk.synced), 71)
        self.assertEqual({message.path for message in messages}, set(disk.synced[:-1]))

    def test_empty_group_does_nothing(self) -> None:
        disk = WatchedDisk()
        spool = self.open(disk=disk)
        del disk.synced[:]
        spool.keep([])
        self.assertEqual(disk.synced, [])

    def test_disk_that_takes_nothing_is_full_and_leaves_no_file(self) -> None:
        disk = BrokenDisk()
        spool = self.open(disk=disk)
        for call in ("write", "sync"):
            messages = [self.receive(spool) for _ in range(3)]
            disk.call, disk.left = call, 0
            kept = spool.keep(messages)
            self.assertEqual([message for message, _ in kept.refused], messages)
            assert isinstance(kept.full, OSError)
            self.assertEqual(kept.full.errno, errno.ENOSPC)
            self.assertEqual(self.names(), [])
            self.assertEqual(spool.used, 0)
            disk.call = ""

    def test_error_of_the_disk_keeps_no_message_of_the_group(self) -> None:
        for call, left, number in (
            ("write", 1, errno.EIO),
            ("sync", 1, errno.EIO),
            # The folder does not take the names.
            ("sync", 3, errno.ENOSPC),
        ):
            disk = BrokenDisk(number=number)
            spool = self.open(disk=disk)
            messages = [self.receive(spool) for _ in range(3)]
            disk.call, disk.left = call, left
            error = self.assertRaises(OSError, spool.keep, messages)
            self.assertEqual(error.errno, number)
            self.assertEqual([message.path for message in messages], [None] * 3)
            self.assertEqual(self.names(), [])
            self.assertEqual(spool.used, 0)

    def test_messages_that_fit_are_kept_beside_one_that_does_not(self) -> None:
        disk = SmallDisk(self.folder, room=len(LARGE) // 2)
        spool = self.open(disk=disk)
        contents = (MESSAGE, LARGE, MESSAGE)
        messages = [
            self.receive(spool, content, digit)
            for content, digit in zip(contents, "abc", strict=True)
        ]
        kept = spool.keep(messages)
        self.assertEqual([message for message, _ in kept.refused], [messages[1]])
        self.assertIsNone(kept.full)
        self.assertIsNone(messages[1].path)
        paths = [messages[n].path for n in (0, 2)]
        self.assertEqual(self.names(), sorted(path.name for path in paths if path))
        self.assertEqual(spool.used, 2 * len(MESSAGE))
        self.assertEqual(messages[1].received, len(LARGE))

    def test_messages_before_the_full_disk_are_kept(self) -> None:
        disk = SmallDisk(self.folder, room=3 * len(MESSAGE) + 10)
        spool = self.open(disk=disk)
        messages = [self.receive(spool) for _ in range(5)]
        kept = spool.keep(messages)
        self.assertEqual([message for message, _ in kept.refused], messages[3:])
        self.assertIsInstance(kept.full, OSError)
        self.assertEqual(len(self.names()), 3)
        for message in messages[:3]:
            assert message.path is not None
            self.assertEqual(message.path.read_bytes(), MESSAGE)

    def test_message_whose_fsync_finds_no_room_is_not_kept(self) -> None:
        # As on file systems that look for room only then.
        disk = SmallDisk(self.folder, room=1_000_000)
        disk.unsynced = len(LARGE)
        spool = self.open(disk=disk)
        for count in (1, 20):
            messages = [self.receive(spool) for _ in range(count)]
            large = self.receive(spool, LARGE)
            kept = spool.keep([large, *messages])
            self.assertEqual([message for message, _ in kept.refused], [large])
            self.assertIsNone(large.path)
            self.assertIsNone(kept.full)
            self.assertEqual(len(self.names()), count)
            spool.remove(self.names())

    def test_full_disk_while_a_large_message_arrives_leaves_no_file(self) -> None:
        disk = BrokenDisk()
        spool = self.open(disk=disk)
        message = spool.begin("anna")
        message.write(b"x" * SMALL)
        disk.call = "write"
        message.write(b"x")
        self.assertEqual(self.names(), [])
        disk.call = ""
        # The rest is not taken for a message.
        message.write(b"x" * SMALL)
        message.key = "a" * 32
        kept = spool.keep([message])
        self.assertEqual([each for each, _ in kept.refused], [message])
        self.assertEqual(message.received, 2 * SMALL + 1)
        self.assertEqual(self.names(), [])

    def test_other_error_while_a_large_message_arrives_is_raised(self) -> None:
        disk = BrokenDisk("write", number=errno.EIO)
        message = self.open(disk=disk).begin("anna")
        self.assertRaises(OSError, message.write, b"x" * (SMALL + 1))
        message.discard()
        self.assertEqual(self.names(), [])

    def test_message_without_a_key_is_not_kept(self) -> None:
        spool = self.open()
        for key in ("", "../../etc/passwd", "A" * 32):
            for content in (MESSAGE, LARGE):
                message = self.receive(spool, content)
                message.key = key
                self.assertRaises(ValueError, spool.keep, [message])
        self.assertEqual(self.names(), [])

    def test_spool_above_its_limit_is_full_until_messages_are_removed(self) -> None:
        spool = self.open(limit=2 * len(MESSAGE))
        first = self.keep(spool)
        self.assertFalse(spool.full)
        self.keep(spool, digit="b")
        self.assertTrue(spool.full)
        self.assertEqual(spool.used, 2 * len(MESSAGE))
        spool.remove([first.name])
        self.assertFalse(spool.full)
        spool.remove([first.name])
        self.assertEqual(spool.used, len(MESSAGE))

    def test_messages_of_an_earlier_process_count(self) -> None:
        self.keep(self.open(), LARGE)
        (self.folder / "other").write_bytes(b"not counted")
        self.assertEqual(self.open().used, len(LARGE))

    def test_message_is_found_by_its_name_in_both_folders(self) -> None:
        spool = self.open()
        path = self.keep(spool)
        self.assertEqual(spool.find(path.name), path)
        self.assertEqual(spool.find(f"/moved/from/{path.name}"), path)
        copy = spool.set_aside(path, "a" * 32)
        spool.remove([path.name])
        self.assertEqual(spool.find(copy.name), copy)
        self.assertIs(spool.find(path.name), None)

    def test_planted_names_find_and_remove_nothing(self) -> None:
        spool = self.open()
        outside = self.base / f"{'a' * 32}-{'b' * 16}.eml"
        outside.write_bytes(b"kept")
        (self.folder / "other").write_bytes(b"kept")
        for name in ("", ".", "..", "../..", "other", f"../{outside.name}", "/etc/x"):
            self.assertIs(spool.find(name), None)
            spool.remove([name])
        link = self.folder / outside.name
        link.symlink_to(outside)
        self.assertIs(spool.find(link.name), None)
        spool.remove([link.name])
        self.assertFalse(link.is_symlink())
        self.assertTrue(outside.exists())
        self.assertTrue((self.folder / "other").exists())

    def test_message_that_is_set_aside_is_on_disk_before_the_original_goes(
        self,
    ) -> None:
        disk = WatchedDisk()
        spool = self.open(disk=disk)
        path = self.keep(spool)
        del disk.synced[:]
        copy = spool.set_aside(path, "a" * 32)
        self.assertEqual(disk.synced, [self.aside])
        self.assertTrue(path.exists())
        self.assertEqual(copy.read_bytes(), MESSAGE)
        self.assertEqual(copy.parent, self.aside)

    def test_message_from_elsewhere_is_copied_and_fsynced_when_set_aside(self) -> None:
        disk = WatchedDisk()
        spool = self.open(disk=disk)
        del disk.synced[:]
        path = self.base / "in tmp"
        path.write_bytes(LARGE)
        copy = spool.set_aside(path, "a" * 32)
        self.assertEqual(copy.read_bytes(), LARGE)
        self.assertEqual(disk.synced, [copy, self.aside])

    def test_without_hard_links_a_message_that_is_set_aside_is_copied(self) -> None:
        spool = self.open(disk=BrokenDisk("link"))
        path = self.keep(spool)
        copy = spool.set_aside(path, "a" * 32)
        self.assertEqual(copy.read_bytes(), MESSAGE)
        self.assertEqual(copy.stat().st_nlink, 1)

    def test_full_disk_while_setting_aside_leaves_the_original_alone(self) -> None:
        disk = BrokenDisk()
        spool = self.open(disk=disk)
        path = self.base / "in tmp"
        path.write_bytes(MESSAGE)
        for call in ("write", "sync"):
            disk.call = call
            self.assertRaises(OSError, spool.set_aside, path, "a" * 32)
            self.assertEqual(list(self.aside.iterdir()), [])
        self.assertEqual(path.read_bytes(), MESSAGE)

    def test_setting_aside_a_lost_message_is_an_error(self) -> None:
        spool = self.open()
        for path in (self.folder / "gone", self.base / "gone"):
            self.assertRaises(FileNotFoundError, spool.set_aside, path, "a" * 32)
        self.assertRaises(ValueError, spool.set_aside, self.base / "x", "../x")

    def test_files_of_an_earlier_process_that_no_row_names_are_removed(self) -> None:
        spool = self.open()
        named = self.keep(spool, run="01234567")
        self.keep(spool, LARGE, run="01234567")
        now = self.keep(spool)
        (self.folder / "other").write_bytes(b"")
        spool = self.open()
        self.assertEqual(spool.sweep([str(named)]), 1)
        self.assertEqual(self.names(), sorted([named.name, now.name, "other"]))
        self.assertEqual(spool.used, 2 * len(MESSAGE))

    def test_messages_set_aside_are_not_swept(self) -> None:
        spool = self.open()
        copy = spool.set_aside(self.keep(spool), "a" * 32)
        old = copy.rename(copy.with_name(copy.name.replace(RUN, "01234567")))
        spool.sweep([])
        self.assertTrue(old.exists())

    def test_folder_that_others_may_write_to_is_refused(self) -> None:
        self.open()
        for folder in (self.folder, self.aside):
            folder.chmod(0o770)
            error = self.assertRaises(PermissionError, self.open)
            self.assertIn("chmod 700", str(error))
            self.assertIn(str(folder), str(error))
            folder.chmod(0o700)
        self.open()

    def test_link_that_another_user_made_is_refused(self) -> None:
        only_root()
        target = self.base / "target"
        target.mkdir()
        self.folder.symlink_to(target)
        os.chown(self.folder, 12345, -1, follow_symlinks=False)
        self.assertRaises(OSError, self.open)

    def test_missing_disk_space_for_the_folders_is_an_error(self) -> None:
        self.assertRaises(OSError, self.open, disk=BrokenDisk("sync"))
