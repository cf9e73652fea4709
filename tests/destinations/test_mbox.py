"""
An mbox that delivers exactly once, and what it makes of crashes, full disks and planted
files.
"""

from __future__ import annotations

import errno
import mailbox
import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from pop3connect.destinations.base import Later, Mail, Proof, UnreadableError
from pop3connect.destinations.incoming import SMALL
from pop3connect.destinations.mbox import Mbox

from ..support.shows import shows
from .faults import MESSAGE, BrokenDisk, WatchedDisk, mail_in
from .test_folder import only_root

LINES = b"From: a@b\nSubject: one\n\n>From here\n>>From there\na\rb\n"
LARGE = MESSAGE + b"From me\r\n0123456789\r\n" * 20_000


class MboxTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.base = Path(self.mktemp()).absolute()
        self.base.mkdir()
        self.path = self.base / "box"
        self.spool = self.base / "spool"
        self.spool.mkdir()

    def open(self, **options: Any) -> Mbox:
        return Mbox(self.path, lock_timeout=0, **options)

    def mail(self, digit: str = "a", content: bytes = MESSAGE) -> Mail:
        return mail_in(self.spool, digit, content)

    def deliver(self, *mails: Mail, box: Mbox | None = None) -> list[Any]:
        prepared = (box or self.open()).prepare(mails)
        try:
            self.assertEqual(prepared.carry_out(), [None] * len(prepared.mails))
        finally:
            prepared.close()
        return list(prepared.witnesses)

    def subjects(self) -> list[str]:
        with closing(mailbox.mbox(self.path)) as box:
            return [message["Subject"] for message in box]

    def left(self) -> list[str]:
        return sorted(path.name for path in self.base.iterdir())

    def trouble(self, call: Callable[[], object], *why: str) -> None:
        """Assert that the whole destination is in trouble, and that it says why."""
        error = self.assertRaises(Later, call)
        self.assertTrue(error.whole_destination)
        for text in (str(self.base), *why):
            self.assertIn(text, error.reason)


class DeliveryTests(MboxTestCase):
    @shows("feature 1.20")
    def test_messages_are_appended_with_from_lines_quoted(self) -> None:
        two = MESSAGE.replace(b"one", b"two")
        self.deliver(self.mail(), self.mail("b", two))
        self.assertEqual(self.subjects(), ["one", "two"])
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)
        separator, body = self.path.read_bytes().split(b"\n", 1)
        self.assertTrue(separator.startswith(b"From MAILER-DAEMON "))
        self.assertTrue(body.startswith(LINES + b"\nFrom MAILER-DAEMON "))

    def test_message_without_final_line_end_is_separate_from_the_next(self) -> None:
        self.deliver(
            self.mail("a", b"Subject: one\r\n\r\nend"),
            self.mail("b", b"Subject: two\r\n\r\nend\r"),
            self.mail("c", b"Subject: three\r\n\r\nend\r\n"),
            self.mail("d", b"Subject: four"),
        )
        self.assertEqual(self.subjects(), ["one", "two", "three", "four"])

    def test_large_message_is_appended_whole(self) -> None:
        # Longer lines than are held back, and line ends between any two pieces.
        content = (
            MESSAGE + b"x" * 1_048_570 + b"\r\nFrom a\r\n" + b"y" * 2_100_000 + b"From"
            b" b\r\n" + b"From c\r\n" * 200_000
        )
        prepared = self.open().prepare([self.mail("a", content), self.mail("b")])
        first, second = prepared.witnesses
        self.assertEqual(first.length, second.offset)
        self.assertEqual(prepared.carry_out(), [None, None])
        body = self.path.read_bytes()[: first.length].split(b"\n", 1)[1]
        expected = content.replace(b"\r\n", b"\n").replace(b"\n>From", b"\n>>From")
        self.assertEqual(body, expected.replace(b"\nFrom", b"\n>From") + b"\n")
        self.assertEqual(self.subjects(), ["one", "one"])

    def test_witness_says_where_each_message_begins_and_ends(self) -> None:
        self.path.write_bytes(b"From x\nSubject: other\n\n\n")
        prepared = self.open().prepare([self.mail("a"), self.mail("b", LARGE)])
        self.assertEqual(prepared.carry_out(), [None, None])
        content = self.path.read_bytes()
        for witness in prepared.witnesses:
            assert witness.offset is not None
            assert witness.length is not None
            self.assertEqual(witness.path, str(self.path))
            text = content[witness.offset : witness.offset + witness.length]
            self.assertTrue(text.startswith(b"From MAILER-DAEMON "))
            self.assertTrue(text.endswith(b"\n\n"))
            self.assertEqual(text.count(b"From MAILER"), 1)

    def test_group_costs_one_fsync(self) -> None:
        disk = WatchedDisk()
        box = self.open(disk=disk)
        box.prepare([]).close()
        del disk.synced[:]
        self.deliver(*(self.mail(digit) for digit in "abcdef"), box=box)
        self.assertEqual(disk.synced, [self.path])

    def test_new_mbox_is_fsynced_in_its_folder_before_the_effect(self) -> None:
        self.path = self.base / "new" / "box"
        disk = WatchedDisk()
        self.open(disk=disk).prepare([]).close()
        self.assertIn(self.path.parent, disk.synced)
        self.assertEqual(disk.synced[0], self.base)

    def test_nothing_is_written_before_the_effect_is_carried_out(self) -> None:
        self.open().prepare([self.mail()]).close()
        self.assertEqual(self.path.read_bytes(), b"")

    def test_mbox_without_final_line_end_gets_one_first(self) -> None:
        for before, after in (
            (b"From x\nSubject: other\n\nend", b"\n\n"),
            (b"From x\nSubject: other\n\nend\n", b"\n"),
            (b"From x\nSubject: other\n\nend\n\n", b""),
            (b"x", b"\n\n"),
        ):
            self.path.write_bytes(before)
            [witness] = self.deliver(self.mail())
            self.assertEqual(witness.offset, len(before + after))
            content = self.path.read_bytes()
            self.assertTrue(content.startswith(before + after + b"From MAILER"))
            self.assertEqual(len(content), witness.offset + witness.length)

    def test_new_file_gets_the_permissions_that_were_chosen(self) -> None:
        self.deliver(self.mail(), box=self.open(mode=0o640))
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o640)

    def test_existing_file_keeps_its_permissions(self) -> None:
        self.path.write_bytes(b"")
        self.path.chmod(0o644)
        self.deliver(self.mail())
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o644)

    def test_locks_are_released_when_the_messages_are_delivered(self) -> None:
        prepared = self.open().prepare([self.mail()])
        self.assertIn("box.lock", self.left())
        self.trouble(lambda: self.open().prepare([]), "another pop3connect")
        prepared.carry_out()
        self.assertEqual(self.left(), [".box.pop3connect-lock", "box", "spool"])
        self.deliver(self.mail())
        prepared.close()

    def test_closing_releases_the_locks_of_a_group_that_is_not_delivered(self) -> None:
        prepared = self.open().prepare([self.mail()])
        prepared.close()
        self.deliver(self.mail())
        self.assertEqual(self.subjects(), ["one"])

    def test_message_that_cannot_be_read_does_not_stop_the_others(self) -> None:
        gone, good = self.mail("a"), self.mail("b")
        gone.path.unlink()
        prepared = self.open().prepare([gone, good])
        self.assertEqual(prepared.mails, [good])
        [(mail, error)] = prepared.refused
        self.assertIs(mail, gone)
        self.assertIsInstance(error, UnreadableError)
        self.assertEqual(prepared.carry_out(), [None])
        self.assertEqual(self.subjects(), ["one"])

    def test_messages_behind_one_that_was_not_noted_keep_their_place(self) -> None:
        mails = [self.mail(digit) for digit in "abc"]
        prepared = self.open().prepare(mails)
        first, second, third = prepared.carry_out({"a" * 32, "c" * 32})
        self.assertIs(first, None)
        for error in (second, third):
            assert isinstance(error, Later)
            self.assertFalse(error.whole_destination)
            self.assertFalse(error.counts)
        self.assertEqual(self.subjects(), ["one"])
        self.assertIs(self.open().prove(prepared.witnesses[2]), Proof.NOT_DONE)

    def test_message_whose_file_changes_meanwhile_leaves_no_part_behind(self) -> None:
        large, other = self.mail("a", LARGE), self.mail("b")
        for change in (lambda: large.path.write_bytes(MESSAGE), large.path.unlink):
            self.mail("a", LARGE)
            prepared = self.open().prepare([large, other])
            change()
            first, second = prepared.carry_out()
            self.assertIsInstance(first, UnreadableError)
            assert isinstance(second, Later)
            self.assertEqual(second.seconds, 0)
            self.assertEqual(self.path.read_bytes(), b"")

    def test_mbox_changed_by_a_program_that_does_not_lock_is_left_alone(self) -> None:
        prepared = self.open().prepare([self.mail()])
        self.path.write_bytes(b"From x\nSubject: other\n\n\n")
        [error] = prepared.carry_out()
        assert isinstance(error, Later)
        self.assertIn("does not lock", error.reason)
        self.assertEqual(self.subjects(), ["other"])
        self.deliver(self.mail())


class ProofTests(MboxTestCase):
    """The text at the offset is compared with the message."""

    def setUp(self) -> None:
        super().setUp()
        self.path.write_bytes(b"From x\nSubject: other\n\n\n")
        self.before = self.path.read_bytes()
        self.mails = [self.mail("a"), self.mail("b", LARGE), self.mail("c")]
        self.witnesses = self.deliver(*self.mails)
        self.whole = self.path.read_bytes()

    def prove(self, number: int, **options: Any) -> Proof:
        return self.open().prove(self.witnesses[number], self.mails[number], **options)

    def cut(self, size: int) -> None:
        os.truncate(self.path, size)

    def test_whole_message_is_proven(self) -> None:
        for number in range(3):
            self.assertIs(self.prove(number), Proof.DONE)
        self.assertEqual(self.path.read_bytes(), self.whole)

    def test_proven_delivery_is_fsynced_before_it_is_reported(self) -> None:
        disk = WatchedDisk()
        self.open(disk=disk).prove(self.witnesses[0], self.mails[0])
        self.assertEqual(disk.synced, [self.path])
        box = self.open(disk=BrokenDisk("sync", number=errno.EIO))
        self.trouble(lambda: box.prove(self.witnesses[0], self.mails[0]))

    def test_beginning_at_the_end_of_the_file_is_cut_off(self) -> None:
        offset = self.witnesses[2].offset
        for size in range(offset, len(self.whole)):
            self.path.write_bytes(self.whole[:size])
            self.assertIs(self.prove(2), Proof.NOT_DONE, size)
            self.assertEqual(self.path.stat().st_size, offset)

    def test_beginning_of_a_large_message_is_cut_off(self) -> None:
        offset = self.witnesses[1].offset
        for size in (offset + 1, offset + 100_000, self.witnesses[2].offset - 1):
            self.path.write_bytes(self.whole[:size])
            self.assertIs(self.prove(1), Proof.NOT_DONE)
            self.assertEqual(self.path.stat().st_size, offset)

    def test_messages_of_a_group_that_were_not_begun_are_not_delivered(self) -> None:
        self.cut(self.witnesses[1].offset + 10)
        self.assertIs(self.prove(0), Proof.DONE)
        self.assertIs(self.prove(1), Proof.NOT_DONE)
        self.assertIs(self.prove(2), Proof.NOT_DONE)

    def test_without_the_message_only_what_was_not_begun_is_proven(self) -> None:
        witness = self.witnesses[2]
        self.assertIs(self.open().prove(witness), Proof.UNKNOWN)
        self.cut(witness.offset + 10)
        self.assertIs(self.open().prove(witness), Proof.UNKNOWN)
        self.cut(witness.offset)
        self.assertIs(self.open().prove(witness), Proof.NOT_DONE)
        self.mails[1].path.unlink()
        self.assertIs(self.prove(1), Proof.UNKNOWN)

    def test_message_in_front_of_mail_that_came_later_is_proven(self) -> None:
        self.path.write_bytes(self.whole + b"From y\nSubject: later\n\n\n")
        self.assertIs(self.prove(2), Proof.DONE)

    def test_beginning_in_front_of_other_mail_is_left_and_unknown(self) -> None:
        content = self.whole[:-20] + b"\nFrom y\nSubject: later\n\n\n"
        self.path.write_bytes(content)
        self.assertIs(self.prove(2), Proof.UNKNOWN)
        self.assertEqual(self.path.read_bytes(), content)

    def test_mbox_that_was_rewritten_by_another_program_is_unknown(self) -> None:
        for content in (
            b"",
            self.before[:-10],
            b"z" * 1_000_000,
            b"From z\nSubject: changed\n\n" + self.whole[len(self.before) :],
            b"z" * len(self.before) + self.whole[len(self.before) : -10],
        ):
            self.path.write_bytes(content)
            self.assertIs(self.prove(2), Proof.UNKNOWN)
            self.assertEqual(self.path.read_bytes(), content)

    def test_mbox_that_was_replaced_is_compared_and_never_cut(self) -> None:
        new = self.base / "new"
        new.write_bytes(self.whole)
        os.replace(new, self.path)
        self.assertIs(self.prove(2), Proof.DONE)
        self.cut(len(self.whole) - 5)
        self.assertIs(self.prove(2), Proof.UNKNOWN)
        self.assertEqual(self.path.stat().st_size, len(self.whole) - 5)

    def test_separator_of_another_program_proves_nothing(self) -> None:
        witness = self.witnesses[2]
        for text in (b"From ME", b"From a\nFrom", b"From " + b"x" * 2000):
            self.path.write_bytes(self.whole[: witness.offset] + text)
            self.assertIs(self.prove(2), Proof.UNKNOWN)

    def test_mbox_that_is_gone_is_unknown_and_not_made(self) -> None:
        self.path.unlink()
        self.assertIs(self.prove(0), Proof.UNKNOWN)
        self.assertFalse(self.path.exists())

    def test_witness_of_a_maildir_or_a_planted_one_proves_nothing(self) -> None:
        for changes in (
            {"offset": None},
            {"mark": ""},
            {"mark": "x:y"},
            {"mark": "9999999999:y"},
        ):
            witness = attrs.evolve(self.witnesses[0], **changes)
            box = self.open()
            found = box.prove(witness, None)
            self.assertIs(found, Proof.UNKNOWN, changes)

    def test_path_in_the_witness_is_not_opened(self) -> None:
        other = self.base / "other"
        other.write_bytes(b"kept")
        witness = attrs.evolve(self.witnesses[0], path=str(other), offset=1)
        self.assertIs(self.open().prove(witness, self.mails[0]), Proof.UNKNOWN)
        self.assertEqual(other.read_bytes(), b"kept")


class TroubleTests(MboxTestCase):
    def test_full_disk_while_appending_keeps_the_messages_before(self) -> None:
        for digits, left in (("ab", 0), ("ab", 1), ("ab", 2), ("ab", 3)):
            self.path.unlink(missing_ok=True)
            disk = BrokenDisk()
            box = self.open(disk=disk)
            prepared = box.prepare([self.mail(digit) for digit in digits])
            disk.call, disk.left = "write", left
            errors = prepared.carry_out()
            done = errors.count(None)
            self.assertEqual(done, left // 2)
            for error in errors[done:]:
                assert isinstance(error, Later)
                self.assertTrue(error.whole_destination)
                self.assertIn("No space left on device", error.reason)
            self.assertEqual(self.subjects(), ["one"] * done)
            disk.call = ""
            for witness, error in zip(prepared.witnesses, errors, strict=True):
                mail = prepared.mails[prepared.witnesses.index(witness)]
                proof = Proof.NOT_DONE if error else Proof.DONE
                self.assertIs(box.prove(witness, mail), proof)
            self.deliver(self.mail("c"), box=box)
            self.assertEqual(len(self.subjects()), done + 1)

    def test_append_that_is_not_on_disk_is_taken_back(self) -> None:
        disk = BrokenDisk()
        box = self.open(disk=disk)
        self.deliver(self.mail("a"), box=box)
        before = self.path.read_bytes()
        prepared = box.prepare([self.mail("b"), self.mail("c")])
        disk.call = "sync"
        for error in prepared.carry_out():
            self.assertIsInstance(error, Later)
        self.assertEqual(self.path.read_bytes(), before)

    def test_full_disk_while_the_line_end_is_written_leaves_the_mbox_unchanged(
        self,
    ) -> None:
        for call in ("write", "sync"):
            disk = BrokenDisk()
            box = self.open(disk=disk)
            box.prepare([]).close()
            self.path.write_bytes(b"no line end")
            disk.call = call
            if call == "write":
                # The dot lock is written before.
                disk.left = 1
            self.trouble(lambda: box.prepare([]), "No space left on device")  # noqa: B023
            self.assertEqual(self.path.read_bytes(), b"no line end")
            self.assertNotIn("box.lock", self.left())

    def test_full_disk_while_locking_leaves_no_lock_behind(self) -> None:
        for call, left in (("write", 0), ("sync", 0), ("sync", 1), ("write", 1)):
            box = self.open(disk=BrokenDisk(call, left))
            self.trouble(lambda: box.prepare([]), "No space left on device")  # noqa: B023
            self.assertNotIn("box.lock", self.left())
            lock = self.base / ".box.pop3connect-lock"
            if call == "sync":
                lock.unlink()
        self.deliver(self.mail())

    def test_unexpected_error_while_preparing_releases_the_locks(self) -> None:
        nothing: Any = None
        self.assertRaises(AttributeError, self.open().prepare, [nothing])
        self.deliver(self.mail())

    def test_mbox_that_is_locked_proves_nothing(self) -> None:
        [witness] = self.deliver(self.mail())
        prepared = self.open().prepare([])
        self.trouble(lambda: self.open().prove(witness, self.mail()), "another")
        prepared.close()
        self.assertIs(self.open().prove(witness, self.mail()), Proof.DONE)

    def test_missing_mbox_is_not_made_where_that_is_not_wanted(self) -> None:
        box = self.open(create=False)
        self.trouble(lambda: box.prepare([]), "No such file")
        self.assertFalse(self.path.exists())
        self.path.write_bytes(b"")
        self.deliver(self.mail(), box=box)

    def test_folder_that_is_not_mounted_is_in_trouble_and_not_made(self) -> None:
        self.path = self.base / "mount" / "box"
        [witness] = self.deliver(self.mail())
        (self.base / "mount").rename(self.base / "unmounted")
        box = self.open(known=True)
        self.trouble(lambda: box.prepare([]), "No such file")
        self.trouble(lambda: box.prove(witness, self.mail()), "mount it")
        self.assertFalse(self.path.parent.exists())

    def test_empty_mount_point_gets_neither_mbox_nor_lock_file(self) -> None:
        self.path = self.base / "mount" / "box"
        [witness] = self.deliver(self.mail())
        (self.base / "mount").rename(self.base / "unmounted")
        (self.base / "mount").mkdir()
        box = self.open(known=True)
        self.trouble(lambda: box.prepare([self.mail()]), "mount it", "empty file")
        self.trouble(lambda: box.prove(witness, self.mail()), "mount it")
        self.assertEqual(list(self.path.parent.iterdir()), [])

    def test_mbox_is_not_made_when_it_was_unmounted_meanwhile(self) -> None:
        self.path = self.base / "mount" / "box"
        box = self.open()
        self.deliver(self.mail(), box=box)
        (self.base / "mount").rename(self.base / "unmounted")
        (self.base / "mount").mkdir()
        self.trouble(lambda: box.prepare([self.mail("b")]), "mount it")

    def test_mbox_that_a_mail_program_removed_is_made_again(self) -> None:
        self.deliver(self.mail())
        self.path.unlink()
        self.deliver(self.mail("b"), box=self.open(known=True))
        self.assertEqual(self.subjects(), ["one"])

    def test_planted_link_fifo_and_folder_are_refused(self) -> None:
        target = self.base / "target"
        target.write_bytes(b"kept")

        def second_name() -> None:
            os.link(target, self.path)

        for plant, why in (
            (lambda: self.path.symlink_to(target), "symbolic link"),
            (lambda: os.mkfifo(self.path), "not a regular file"),
            (second_name, "2 names"),
            (self.path.mkdir, "not a regular file"),
        ):
            plant()
            self.trouble(lambda: self.open().prepare([self.mail()]), why)
            (self.path.rmdir if self.path.is_dir() else self.path.unlink)()
        self.assertEqual(target.read_bytes(), b"kept")

    def test_link_to_a_missing_file_makes_no_file(self) -> None:
        self.path.symlink_to(self.base / "target")
        self.trouble(lambda: self.open().prepare([self.mail()]), "symbolic link")
        self.assertFalse((self.base / "target").exists())

    def test_mbox_of_another_user_is_refused(self) -> None:
        only_root()
        self.path.write_bytes(b"kept")
        os.chown(self.path, 12345, -1)
        self.trouble(lambda: self.open().prepare([self.mail()]), "12345")
        self.assertEqual(self.path.read_bytes(), b"kept")

    def test_small_messages_are_read_once_and_large_ones_again(self) -> None:
        small, large = self.mail("a"), self.mail("b", b"x" * (SMALL + 1))
        prepared = self.open().prepare([small, large])
        small.path.unlink()
        self.assertEqual(prepared.carry_out(), [None, None])
