"""
A Maildir that delivers exactly once, and what it makes of crashes, full disks and
planted files.
"""

from __future__ import annotations

import errno
import mailbox
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from pop3connect.destinations.base import Later, Mail, Proof, UnreadableError
from pop3connect.destinations.folder import Disk
from pop3connect.destinations.incoming import HEAD, RUN, SMALL, Incoming
from pop3connect.destinations.maildir import Maildir

from ..support.shows import shows
from .faults import MESSAGE, BrokenDisk, SmallDisk, WatchedDisk, mail_in
from .test_folder import only_root

LINES = MESSAGE.replace(b"\r\n", b"\n")
DAY = 24 * 3600


class MaildirTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.base = Path(self.mktemp()).absolute()
        self.base.mkdir()
        self.folder = self.base / "M"
        self.spool = self.base / "spool"
        self.spool.mkdir()

    def open(self, **options: Any) -> Maildir:
        return Maildir(self.folder, "host", **options)

    def mail(self, digit: str = "a", content: bytes = MESSAGE) -> Mail:
        return mail_in(self.spool, digit, content)

    def names(self, folder: str) -> list[str]:
        return sorted(path.name for path in (self.folder / folder).iterdir())

    def contents(self) -> list[bytes]:
        return sorted(path.read_bytes() for path in (self.folder / "new").iterdir())

    def deliver(self, *mails: Mail, box: Maildir | None = None) -> list[Any]:
        prepared = (box or self.open()).prepare(mails)
        try:
            self.assertEqual(prepared.carry_out(), [None] * len(prepared.mails))
        finally:
            prepared.close()
        return list(prepared.witnesses)

    def trouble(self, call: Callable[[], object], *why: str) -> None:
        """Assert that the whole destination is in trouble, and that it says why."""
        error = self.assertRaises(Later, call)
        self.assertTrue(error.whole_destination)
        for text in (str(self.folder), *why):
            self.assertIn(text, error.reason)


class DeliveryTests(MaildirTestCase):
    @shows(
        "feature 1.20",
        "Delivers to",
        "a Maildir, an mbox, a command, a Python function, a database table",
    )
    def test_message_is_delivered_to_new_with_lf_line_ends(self) -> None:
        self.deliver(self.mail())
        self.assertEqual(self.contents(), [LINES])
        self.assertEqual(self.names("tmp"), [])
        [read] = mailbox.Maildir(self.folder)
        self.assertEqual(read["Subject"], "one")

    def test_crlf_option_stores_the_exact_bytes(self) -> None:
        self.deliver(self.mail(), box=self.open(crlf=True))
        self.assertEqual(self.contents(), [MESSAGE])

    def test_name_of_the_file_contains_the_key(self) -> None:
        self.deliver(self.mail("b"))
        [name] = self.names("new")
        self.assertIn("b" * 32, name)

    def test_machine_with_characters_that_maildir_forbids_is_escaped(self) -> None:
        box = Maildir(self.folder, "a/b:c,d")
        self.deliver(self.mail(), box=box)
        [name] = self.names("new")
        self.assertTrue(name.endswith(r".a\057b\072c\054d"), name)

    def test_long_name_of_the_machine_makes_no_file_name_that_is_too_long(self) -> None:
        self.deliver(self.mail(), box=Maildir(self.folder, "h" * 300))
        self.assertEqual(self.contents(), [LINES])

    def test_key_that_could_be_a_path_is_not_used_in_a_name(self) -> None:
        mail = attrs.evolve(self.mail(), key="../../../etc/passwd")
        self.assertRaises(ValueError, self.open().prepare, [mail])
        self.assertEqual(self.names("tmp"), [])

    def test_files_and_folders_get_the_permissions_that_were_chosen(self) -> None:
        for mode, folders in ((0o600, 0o700), (0o640, 0o750), (0o660, 0o770)):
            self.folder = self.base / f"{mode:o}" / "M"
            self.deliver(self.mail(), box=self.open(mode=mode))
            [path] = (self.folder / "new").iterdir()
            self.assertEqual(path.stat().st_mode & 0o777, mode)
            for made in ("..", ".", "tmp", "new", "cur"):
                found = (self.folder / made).stat().st_mode & 0o777
                self.assertEqual(found, folders, made)

    def test_new_maildir_is_fsynced_in_its_parent(self) -> None:
        disk = WatchedDisk()
        self.open(disk=disk).prepare([]).close()
        self.assertEqual(disk.synced[:2], [self.base, self.folder])

    def test_group_costs_an_fsync_of_each_file_one_of_tmp_and_one_of_new(self) -> None:
        disk = WatchedDisk()
        box = self.open(disk=disk)
        box.prepare([]).close()
        del disk.synced[:]
        count = 70
        mails = [
            attrs.evolve(self.mail(), key=f"{number:032x}") for number in range(count)
        ]
        prepared = box.prepare(mails)
        tmp, new = self.folder / "tmp", self.folder / "new"
        self.assertEqual(disk.synced[-1], tmp)
        self.assertEqual([path.parent for path in disk.synced[:-1]], [tmp] * count)
        self.assertEqual(len(set(disk.synced)), count + 1)
        del disk.synced[:]
        self.assertEqual(prepared.carry_out(), [None] * count)
        self.assertEqual(disk.synced, [new])
        prepared.close()
        self.assertEqual(len(self.names("new")), count)

    def test_nothing_is_in_new_before_the_effect_is_carried_out(self) -> None:
        prepared = self.open().prepare([self.mail()])
        self.assertEqual(self.names("new"), [])
        [witness] = prepared.witnesses
        self.assertEqual(Path(witness.path).read_bytes(), LINES)
        self.assertEqual(witness.inode, (self.folder / "tmp").stat().st_ino)
        self.assertEqual(
            f"{witness.mark}\n", (self.folder / ".pop3connect-id").read_text()
        )
        prepared.close()
        self.assertTrue(Path(witness.path).exists())

    def test_only_the_messages_that_were_noted_are_delivered(self) -> None:
        prepared = self.open().prepare([self.mail("a"), self.mail("b")])
        first, second = prepared.carry_out({"b" * 32})
        prepared.close()
        self.assertIsInstance(first, Later)
        self.assertIs(second, None)
        [name] = self.names("new")
        self.assertIn("b" * 32, name)

    def test_message_that_cannot_be_read_does_not_stop_the_others(self) -> None:
        gone, link, good = self.mail("a"), self.mail("b"), self.mail("c")
        gone.path.unlink()
        link.path.unlink()
        link.path.symlink_to(good.path)
        prepared = self.open().prepare([gone, link, good])
        self.assertEqual(prepared.mails, [good])
        self.assertEqual([mail for mail, _ in prepared.refused], [gone, link])
        for _, error in prepared.refused:
            self.assertIsInstance(error, UnreadableError)
        self.assertEqual(prepared.carry_out(), [None])
        prepared.close()
        self.assertEqual(self.contents(), [LINES])

    def test_group_that_is_not_noted_is_prepared_again_with_the_same_files(
        self,
    ) -> None:
        """An error of the journal does not say whether the rows were written."""
        disk = WatchedDisk()
        box = self.open(disk=disk)
        mails = [self.mail("a"), self.mail("b")]
        first = box.prepare(mails)
        first.close()
        del disk.synced[:]
        again = box.prepare(mails)
        self.assertEqual(again.witnesses, first.witnesses)
        self.assertEqual(disk.synced, [])
        self.assertEqual(len(self.names("tmp")), 2)
        self.assertEqual(again.carry_out({"a" * 32})[0], None)
        again.close()
        self.deliver(mails[1], box=box)
        self.assertEqual(self.names("tmp"), [])
        self.assertEqual(self.contents(), [LINES] * 2)
        # A later message with the same key is another attempt.
        self.deliver(mails[0], box=box)
        self.assertEqual(self.contents(), [LINES] * 3)

    def test_file_that_an_earlier_process_left_is_used_after_its_proof(self) -> None:
        prepared = self.open().prepare([self.mail()])
        prepared.close()
        box = self.open()
        self.assertIs(box.prove(prepared.witnesses[0]), Proof.NOT_DONE)
        [witness] = self.deliver(self.mail(), box=box)
        self.assertEqual(witness, prepared.witnesses[0])
        self.assertEqual(self.names("tmp"), [])

    def test_copy_that_is_gone_meanwhile_is_made_again(self) -> None:
        box = self.open()
        prepared = box.prepare([self.mail()])
        prepared.close()
        Path(prepared.witnesses[0].path).unlink()
        self.deliver(self.mail(), box=box)
        self.assertEqual(self.contents(), [LINES])

    def test_stop_does_nothing(self) -> None:
        box = self.open()
        box.stop()
        self.deliver(self.mail(), box=box)


class KeeperTests(MaildirTestCase):
    """The Maildir as the spool."""

    def receive(self, box: Maildir, content: bytes, digit: str = "a") -> Incoming:
        message = box.begin("anna")
        for start in range(0, len(content), 5000):
            message.write(content[start : start + 5000])
        message.key = digit * 32
        return message

    def kept(self, message: Incoming) -> Mail:
        assert message.path is not None
        return Mail(message.key, "anna", "uid", message.received, message.path)

    def test_kept_messages_are_delivered_without_another_copy(self) -> None:
        disk = WatchedDisk()
        box = self.open(disk=disk)
        box.prepare([]).close()
        del disk.synced[:]
        messages = [self.receive(box, MESSAGE, digit) for digit in "abc"]
        self.assertEqual(self.names("tmp"), [])
        box.keep(messages)
        self.assertEqual(len(disk.synced), 4)
        self.assertEqual(disk.synced[-1], self.folder / "tmp")
        mails = [self.kept(message) for message in messages]
        prepared = box.prepare(mails)
        self.assertEqual(len(disk.synced), 4)
        self.assertEqual(
            [Path(witness.path) for witness in prepared.witnesses],
            [mail.path for mail in mails],
        )
        self.assertEqual(prepared.carry_out(), [None] * 3)
        self.assertEqual(disk.synced[4:], [self.folder / "new"])
        prepared.close()
        self.assertEqual(self.contents(), [LINES] * 3)

    def test_large_message_is_written_while_it_arrives(self) -> None:
        content = b"Subject: x\r\n\r\n" + b"0123456789abc\r\n" * 30000
        box = self.open()
        message = box.begin("anna")
        message.write(content[:SMALL])
        self.assertEqual(self.folder.exists(), False)
        message.write(content[SMALL:300_000])
        [name] = self.names("tmp")
        self.assertGreater((self.folder / "tmp" / name).stat().st_size, SMALL)
        message.write(content[300_000:])
        message.key = "c" * 32
        self.assertEqual(message.head, content[:HEAD])
        self.assertEqual(message.received, len(content))
        self.assertEqual(message.lines, content.count(b"\n"))
        box.keep([message])
        self.assertEqual(message.stored, len(content.replace(b"\r\n", b"\n")))
        [name] = self.names("tmp")
        self.assertIn("c" * 32, name)
        self.deliver(self.kept(message), box=box)
        self.assertEqual(self.contents(), [content.replace(b"\r\n", b"\n")])

    def test_each_piece_is_shown_to_the_caller(self) -> None:
        seen: list[bytes] = []
        message = self.open().begin("anna")
        message.watch = seen.append
        message.write(b"ab")
        message.write(b"c" * SMALL)
        self.assertEqual(seen, [b"ab", b"c" * SMALL])
        message.discard()

    def test_discarded_message_leaves_no_file_behind(self) -> None:
        for content in (MESSAGE, b"x" * (SMALL + 1)):
            message = self.receive(self.open(), content)
            message.discard()
            message.discard()
            self.assertFalse(self.folder.exists() and self.names("tmp"))

    def test_full_disk_keeps_no_message_and_is_trouble_of_this_maildir(self) -> None:
        for call in ("write", "sync"):
            disk = BrokenDisk()
            box = self.open(disk=disk)
            box.prepare([]).close()
            messages = [self.receive(box, MESSAGE, digit) for digit in "ab"]
            disk.call, disk.left = call, 0
            kept = box.keep(messages)
            self.assertEqual([message for message, _ in kept.refused], messages)
            assert isinstance(kept.full, Later)
            self.assertTrue(kept.full.whole_destination)
            self.assertIn(str(self.folder), kept.full.reason)
            self.assertEqual(self.names("tmp"), [], call)

    def test_folder_that_cannot_be_fsynced_keeps_no_message(self) -> None:
        disk = BrokenDisk()
        box = self.open(disk=disk)
        box.prepare([]).close()
        messages = [self.receive(box, MESSAGE, digit) for digit in "ab"]
        disk.call, disk.left = "sync", 2
        error = self.assertRaises(OSError, box.keep, messages)
        self.assertEqual(error.errno, errno.ENOSPC)
        self.assertEqual(self.names("tmp"), [])

    def test_messages_that_fit_are_kept_beside_one_that_does_not(self) -> None:
        disk = SmallDisk(self.folder, room=100_000)
        box = self.open(disk=disk)
        box.prepare([]).close()
        contents = (MESSAGE, b"x" * 200_000, MESSAGE)
        messages = [
            self.receive(box, content, digit)
            for content, digit in zip(contents, "abc", strict=True)
        ]
        kept = box.keep(messages)
        self.assertEqual([message for message, _ in kept.refused], [messages[1]])
        self.assertIsNone(kept.full)
        self.deliver(self.kept(messages[0]), self.kept(messages[2]), box=box)
        self.assertEqual(self.contents(), [LINES, LINES])
        self.assertEqual(self.names("tmp"), [])

    def test_full_disk_while_a_large_message_arrives_leaves_no_file(self) -> None:
        disk = BrokenDisk()
        box = self.open(disk=disk)
        box.prepare([]).close()
        disk.call = "write"
        message = box.begin("anna")
        message.write(b"x" * SMALL)
        message.write(b"x")
        self.assertEqual(self.names("tmp"), [])
        message.key = "a" * 32
        disk.call = ""
        kept = box.keep([message])
        self.assertEqual([each for each, _ in kept.refused], [message])
        self.assertEqual(self.names("tmp"), [])

    def test_maildir_that_disappears_keeps_no_message(self) -> None:
        box = self.open()
        box.prepare([]).close()
        small = self.receive(box, MESSAGE)
        shutil.rmtree(self.folder)
        self.trouble(lambda: box.keep([small]), "mount")
        self.trouble(lambda: box.begin("anna").write(b"x" * (SMALL + 1)), "mount")

    def test_file_is_found_by_its_name_and_in_tmp_only(self) -> None:
        box = self.open()
        message = self.receive(box, MESSAGE)
        box.keep([message])
        path = message.path
        assert path is not None
        self.assertEqual(box.find(path.name), path)
        self.assertEqual(box.find(f"/another/place/{path.name}"), path)
        for name in ("..", "../new", "/etc/passwd", path.name.replace("a", "b"), ""):
            self.assertIs(box.find(name), None)
        self.deliver(self.kept(message), box=box)
        self.assertIs(box.find(path.name), None)

    def test_maildir_that_is_not_mounted_does_not_mean_that_a_file_is_lost(
        self,
    ) -> None:
        box = self.open(known=True)
        name = f"1.K{'a' * 32}A{'b' * 16}R{'c' * 16}.host"
        self.trouble(lambda: box.find(name), "mount")

    def test_removing_takes_only_files_of_ours_in_tmp(self) -> None:
        box = self.open()
        message = self.receive(box, MESSAGE)
        box.keep([message])
        other = self.folder / "tmp" / "1.other"
        other.write_bytes(b"")
        outside = self.base / "outside"
        outside.write_bytes(b"")
        box.remove([str(message.path), "1.other", "../../outside", str(outside)])
        self.assertEqual(self.names("tmp"), ["1.other"])
        self.assertTrue(outside.exists())

    def test_file_in_tmp_that_is_gone_is_refused_alone(self) -> None:
        box = self.open()
        messages = [self.receive(box, MESSAGE, digit) for digit in "ab"]
        box.keep(messages)
        gone, good = (self.kept(message) for message in messages)
        gone.path.unlink()
        prepared = box.prepare([gone, good])
        self.assertEqual(prepared.mails, [good])
        [(mail, error)] = prepared.refused
        self.assertIs(mail, gone)
        self.assertIsInstance(error, UnreadableError)
        prepared.close()


class ProofTests(MaildirTestCase):
    """What a witness proves: "The witness of the Maildir" in the design."""

    def interrupted(self) -> Any:
        """Return the witness of a message that was prepared when a crash came."""
        prepared = self.open().prepare([self.mail()])
        prepared.close()
        return prepared.witnesses[0]

    def delivered(self) -> Any:
        return self.deliver(self.mail())[0]

    def read_by_mail_program(self, where: Path | None = None) -> None:
        [path] = (self.folder / "new").iterdir()
        target = (
            (self.folder / "cur" / f"{path.name},S=70:2,S") if where is None else where
        )
        path.rename(target)

    def test_file_still_in_tmp_proves_that_it_was_not_delivered(self) -> None:
        self.assertIs(self.open().prove(self.interrupted()), Proof.NOT_DONE)

    def test_file_still_in_tmp_is_not_delivered_whatever_its_age(self) -> None:
        witness = self.interrupted()
        for age in (0, DAY, 30 * DAY, math.inf, -5):
            self.assertIs(self.open().prove(witness, age=age), Proof.NOT_DONE)

    def test_file_gone_from_tmp_proves_the_delivery(self) -> None:
        self.assertIs(self.open().prove(self.delivered()), Proof.DONE)

    def test_delivery_is_proven_even_if_a_mail_program_has_moved_the_message_on(
        self,
    ) -> None:
        witness = self.delivered()
        self.read_by_mail_program(self.base / "elsewhere")
        self.assertIs(self.open().prove(witness, age=35 * 3600), Proof.DONE)

    def test_after_36_hours_the_message_is_looked_for_in_new_and_cur(self) -> None:
        for read in (False, True):
            witness = self.delivered()
            if read:
                self.read_by_mail_program()
            for age in (37 * 3600, math.inf, -1):
                self.assertIs(self.open().prove(witness, age=age), Proof.DONE)
            shutil.rmtree(self.folder)

    def test_after_36_hours_a_message_that_is_nowhere_is_not_assumed_delivered(
        self,
    ) -> None:
        witness = self.delivered()
        self.read_by_mail_program(self.base / "elsewhere")
        for age in (37 * 3600, math.inf):
            self.assertIs(self.open().prove(witness, age=age), Proof.UNKNOWN)

    def test_with_a_clock_that_was_set_back_nothing_is_assumed(self) -> None:
        witness = self.delivered()
        self.read_by_mail_program(self.base / "elsewhere")
        self.assertIs(self.open().prove(witness, age=-1), Proof.UNKNOWN)

    def test_restored_maildir_proves_nothing_by_an_absent_file(self) -> None:
        witness = self.delivered()
        copy = self.base / "copy"
        shutil.copytree(self.folder, copy)
        shutil.rmtree(self.folder)
        # Something in between, so that the inode is not used again.
        (self.base / "between").mkdir()
        copy.rename(self.folder)
        self.assertNotEqual((self.folder / "tmp").stat().st_ino, witness.inode)
        # It was restored with the message, and then without it.
        self.assertIs(self.open().prove(witness), Proof.DONE)
        for path in (self.folder / "new").iterdir():
            path.unlink()
        self.assertIs(self.open().prove(witness), Proof.UNKNOWN)

    def test_file_in_tmp_of_a_restored_maildir_may_have_been_delivered(self) -> None:
        witness = attrs.evolve(self.interrupted(), inode=1)
        self.assertIs(self.open().prove(witness), Proof.UNKNOWN)

    def test_another_maildir_in_its_place_proves_nothing(self) -> None:
        witness = self.delivered()
        (self.folder / ".pop3connect-id").unlink()
        for path in (self.folder / "new").iterdir():
            path.unlink()
        self.assertIs(self.open().prove(witness), Proof.UNKNOWN)

    def test_maildir_that_was_moved_to_another_path_is_recognised(self) -> None:
        witness = self.delivered()
        self.read_by_mail_program(self.base / "elsewhere")
        moved = self.base / "moved"
        self.folder.rename(moved)
        self.folder = moved
        self.assertIs(self.open().prove(witness), Proof.DONE)
        waiting = self.interrupted()
        self.folder.rename(self.base / "again")
        self.folder = self.base / "again"
        self.assertIs(self.open().prove(waiting), Proof.NOT_DONE)
        found = self.open().find(waiting.path)
        self.assertEqual(found, self.folder / "tmp" / Path(waiting.path).name)

    def test_witness_of_another_maildir_proves_nothing(self) -> None:
        witness = self.delivered()
        self.folder = self.base / "N"
        self.assertIs(self.open().prove(witness), Proof.UNKNOWN)

    def test_witness_with_a_planted_name_proves_nothing(self) -> None:
        witness = self.delivered()
        for path in ("/etc/passwd", "", "..", "/x/1.other"):
            planted = attrs.evolve(witness, path=path)
            self.assertIs(self.open().prove(planted), Proof.UNKNOWN)

    def test_maildir_that_is_not_mounted_is_in_trouble_and_proves_nothing(
        self,
    ) -> None:
        witness = self.delivered()
        self.folder.rename(self.base / "unmounted")
        self.trouble(lambda: self.open(known=True).prove(witness), "mount")
        self.assertFalse(self.folder.exists())
        # The folder that it would be mounted on.
        self.folder.mkdir()
        self.trouble(lambda: self.open(known=True).prove(witness), "mount")
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_proven_delivery_is_fsynced_before_it_is_reported(self) -> None:
        witness = self.delivered()
        disk = WatchedDisk()
        self.open(disk=disk).prove(witness)
        self.assertEqual(disk.synced, [self.folder / "new"])

    def test_delivery_that_cannot_be_fsynced_is_not_reported(self) -> None:
        witness = self.delivered()
        box = self.open(disk=BrokenDisk("sync", number=errno.EIO))
        self.trouble(lambda: box.prove(witness), "Input/output error")


class TroubleTests(MaildirTestCase):
    def test_full_disk_while_preparing_leaves_no_file_behind(self) -> None:
        for call, left in (("write", 0), ("sync", 0), ("sync", 2)):
            disk = BrokenDisk()
            box = self.open(disk=disk)
            box.prepare([]).close()
            disk.call, disk.left = call, left
            mails = [self.mail("a"), self.mail("b")]
            self.trouble(lambda: box.prepare(mails), "No space left on device")  # noqa: B023
            self.assertEqual(self.names("tmp"), [], (call, left))
            disk.call = ""
            self.deliver(*mails, box=box)

    def test_error_of_the_disk_while_preparing_leaves_no_file_behind(self) -> None:
        for call in ("write", "sync"):
            disk = BrokenDisk(number=errno.EIO)
            box = self.open(disk=disk)
            box.prepare([]).close()
            disk.call, disk.left = call, 1
            mails = [self.mail("a"), self.mail("b")]
            self.trouble(lambda: box.prepare(mails), "Input/output error")  # noqa: B023
            self.assertEqual(self.names("tmp"), [], call)

    def test_message_that_finds_no_room_is_refused_and_the_others_are_delivered(
        self,
    ) -> None:
        for unsynced in (None, 5_000):
            disk = SmallDisk(self.folder, room=100_000)
            disk.unsynced = unsynced
            box = self.open(disk=disk)
            large = self.mail("b", b"x" * (unsynced or 200_000))
            mails = [self.mail("a"), large, self.mail("c")]
            prepared = box.prepare(mails)
            with self.subTest(unsynced=unsynced):
                ((refused, error),) = prepared.refused
                self.assertIs(refused, large)
                assert isinstance(error, Later)
                self.assertFalse(error.whole_destination or error.counts)
                self.assertIn("does not fit", error.reason)
                self.assertEqual(prepared.mails, [mails[0], mails[2]])
                self.assertEqual(len(self.names("tmp")), 2)
                self.assertEqual(prepared.carry_out(), [None, None])
            prepared.close()
            self.assertEqual(self.names("tmp"), [])

    def test_messages_before_the_full_disk_are_delivered(self) -> None:
        disk = SmallDisk(self.folder, room=2 * len(LINES) + 40)
        box = self.open(disk=disk)
        box.prepare([]).close()
        disk.room += (self.folder / ".pop3connect-id").stat().st_size
        prepared = box.prepare([self.mail(digit) for digit in "abc"])
        ((refused, error),) = prepared.refused
        self.assertEqual(refused.key[0], "c")
        assert isinstance(error, Later)
        self.assertTrue(error.whole_destination)
        self.assertEqual(prepared.carry_out(), [None, None])
        prepared.close()

    def test_full_disk_while_the_maildir_is_made_is_repaired_later(self) -> None:
        for call, left in (("write", 0), ("sync", 0), ("sync", 1), ("sync", 3)):
            disk = BrokenDisk(call, left)
            box = self.open(disk=disk)
            self.trouble(lambda: box.prepare([]), "No space left on device")  # noqa: B023
            disk.call = ""
            self.deliver(self.mail(), box=box)
            shutil.rmtree(self.folder)

    def test_move_that_fails_leaves_the_message_provably_undelivered(self) -> None:
        disk = BrokenDisk()
        box = self.open(disk=disk)
        prepared = box.prepare([self.mail("a"), self.mail("b")])
        disk.call, disk.left = "rename", 1
        first, second = prepared.carry_out()
        prepared.close()
        self.assertIs(first, None)
        assert isinstance(second, Later)
        self.assertTrue(second.whole_destination)
        done, waiting = prepared.witnesses
        self.assertIs(box.prove(done), Proof.DONE)
        self.assertIs(box.prove(waiting), Proof.NOT_DONE)

    def test_without_any_move_nothing_is_fsynced(self) -> None:
        disk = BrokenDisk()
        prepared = self.open(disk=disk).prepare([self.mail()])
        disk.call = "rename"
        [error] = prepared.carry_out()
        assert isinstance(error, Later)
        self.assertIn("No space left on device", error.reason)
        prepared.close()

    def test_move_that_may_not_be_on_disk_is_an_error_for_each_message(self) -> None:
        disk = BrokenDisk()
        box = self.open(disk=disk)
        prepared = box.prepare([self.mail("a"), self.mail("b")])
        disk.call, disk.number = "sync", errno.EIO
        for error in prepared.carry_out():
            self.assertIsInstance(error, Later)
        prepared.close()
        disk.call = ""
        for witness in prepared.witnesses:
            self.assertIs(box.prove(witness), Proof.DONE)

    def test_maildir_that_received_mail_is_not_made_again(self) -> None:
        box = self.open()
        self.deliver(self.mail(), box=box)
        shutil.rmtree(self.folder)
        self.trouble(lambda: box.prepare([self.mail()]), "does not exist", "mount")
        self.assertFalse(self.folder.exists())
        for name in ("tmp", "new", "cur"):
            (self.folder / name).mkdir(parents=True)
        self.deliver(self.mail(), box=box)

    def test_empty_folder_that_a_backup_has_lost_is_made_again(self) -> None:
        self.deliver(self.mail())
        (self.folder / "cur").rmdir()
        self.deliver(self.mail("b"), box=self.open(known=True))
        self.assertTrue((self.folder / "cur").is_dir())

    def test_file_in_place_of_the_maildir_is_not_touched(self) -> None:
        self.folder.write_bytes(b"kept")
        self.trouble(lambda: self.open().prepare([]))
        self.assertEqual(self.folder.read_bytes(), b"kept")

    def test_folder_that_is_a_link_is_refused(self) -> None:
        self.open().prepare([]).close()
        for name in ("tmp", "new", "cur"):
            target = self.base / f"target-{name}"
            target.mkdir()
            (self.folder / name).rmdir()
            (self.folder / name).symlink_to(target)
            self.trouble(lambda: self.open().prepare([self.mail()]), "symbolic link")
            self.assertEqual(list(target.iterdir()), [])
            (self.folder / name).unlink()
            (self.folder / name).mkdir()

    def test_planted_file_with_the_id_is_refused_and_not_changed(self) -> None:
        self.open().prepare([]).close()
        mark = self.folder / ".pop3connect-id"
        target = self.base / "target"
        target.write_bytes(b"a" * 32 + b"\n")

        def link() -> None:
            mark.symlink_to(target)

        def other_content() -> None:
            mark.write_bytes(b"something else")

        def fifo() -> None:
            os.mkfifo(mark)

        for plant in (link, other_content, fifo):
            mark.unlink()
            plant()
            self.trouble(lambda: self.open().prepare([self.mail()]), mark.name)
            self.assertEqual(target.read_bytes(), b"a" * 32 + b"\n")
            self.assertEqual(self.names("tmp"), [])

    def test_id_of_another_user_is_refused(self) -> None:
        only_root()
        self.open().prepare([]).close()
        os.chown(self.folder / ".pop3connect-id", 12345, -1)
        self.trouble(lambda: self.open().prepare([]), "12345")

    def test_of_two_processes_that_make_the_id_the_first_wins(self) -> None:
        class OtherDisk(Disk):
            def link(self, source: str, target: str, *folders: Any) -> None:
                mark.write_text("f" * 32 + "\n")
                super().link(source, target, *folders)

        mark = self.folder / ".pop3connect-id"
        prepared = self.open(disk=OtherDisk()).prepare([self.mail()])
        self.assertEqual(prepared.witnesses[0].mark, "f" * 32)
        prepared.close()
        self.assertEqual(
            sorted(path.name for path in self.folder.iterdir()),
            [".pop3connect-id", "cur", "new", "tmp"],
        )

    def test_id_that_disappears_again_and_again_is_an_error(self) -> None:
        class ForgetfulDisk(Disk):
            def link(self, *arguments: Any) -> None:
                raise FileExistsError

        self.trouble(
            lambda: self.open(disk=ForgetfulDisk()).prepare([]), "another program"
        )

    def test_without_hard_links_the_maildir_gets_an_id(self) -> None:
        box = self.open(disk=BrokenDisk("link", number=errno.EPERM))
        [witness] = self.deliver(self.mail(), box=box)
        self.assertEqual(len(witness.mark), 32)


class SweepTests(MaildirTestCase):
    """Files in ``tmp`` that a crash left behind."""

    def left(self, machine: str = "host", account: str = "anna", **options: Any) -> str:
        """Leave a file behind, as an earlier process did."""
        box = Maildir(self.folder, machine, **options)
        message = box.begin(account)
        message.write(MESSAGE)
        message.key = "a" * 32
        box.keep([message])
        assert message.path is not None
        path = message.path.with_name(message.path.name.replace(f"R{RUN}", "R01234567"))
        message.path.rename(path)
        os.utime(path, (1000, 1000))
        return path.name

    def test_unnamed_file_of_this_machine_is_removed(self) -> None:
        named, _ = self.left(), self.left()
        removed = self.open().sweep("anna", [f"/moved/from/{named}"])
        self.assertEqual(removed, 1)
        self.assertEqual(self.names("tmp"), [named])

    def test_unnamed_file_of_another_machine_is_removed_after_36_hours(self) -> None:
        name = self.left("other")
        for now in (None, 1000, 1000 + 36 * 3600, 0):
            self.assertEqual(self.open().sweep("anna", [], now=now), 0)
            self.assertEqual(self.names("tmp"), [name])
        self.assertEqual(self.open().sweep("anna", [], now=1001 + 36 * 3600), 1)
        self.assertEqual(self.names("tmp"), [])

    def test_files_of_other_accounts_journals_and_programs_are_kept(self) -> None:
        self.left(account="berta")
        self.left(journal="another")
        (self.folder / "tmp" / "1.other.host").write_bytes(b"")
        self.assertEqual(self.open().sweep("anna", [], now=10 * DAY), 0)
        self.assertEqual(len(self.names("tmp")), 3)

    def test_file_of_this_process_is_kept(self) -> None:
        prepared = self.open().prepare([self.mail()])
        prepared.close()
        self.assertEqual(self.open().sweep("anna", []), 0)
        self.assertEqual(len(self.names("tmp")), 1)

    def test_maildir_that_is_not_mounted_is_in_trouble(self) -> None:
        self.trouble(lambda: self.open(known=True).sweep("anna", []), "mount")

    def test_search_finds_what_would_be_swept_and_changes_nothing(self) -> None:
        self.assertFalse(self.open().has_leftovers("anna"))
        self.assertFalse(self.folder.exists())
        self.left("other")
        self.left(account="berta")
        self.open().prepare([self.mail()]).close()
        self.assertFalse(self.open().has_leftovers("anna"))
        self.assertFalse(self.open().has_leftovers("anna", now=1000 + 36 * 3600))
        self.assertTrue(self.open().has_leftovers("anna", now=1001 + 36 * 3600))
        self.left()
        self.assertTrue(self.open().has_leftovers("anna"))
        self.assertEqual(len(self.names("tmp")), 4)
