"""
Where mail is kept, and what is left of it when something comes between.

A crash is an exception that nobody catches, at each step in turn; then everything is
opened anew, as the next run does.
"""

from __future__ import annotations

import errno
import json
import mailbox
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from pop3connect import files as disk
from pop3connect.cli import record
from pop3connect.cli.record import Record
from pop3connect.destinations import store_locks as locks
from pop3connect.destinations import store_maildir as maildir
from pop3connect.destinations import store_mbox as mbox
from pop3connect.destinations.lines import LineEnds
from pop3connect.destinations.store import Delivery
from pop3connect.destinations.store_maildir import Maildir
from pop3connect.destinations.store_mbox import Mbox

MESSAGE = b"Subject: one\r\n\r\nFrom here\r\n>From there\r\na\rb\r\n"
LINES = MESSAGE.replace(b"\r\n", b"\n")


HOLD = """
import fcntl, sys
file = open(sys.argv[1], "r+b")
fcntl.lockf(file, fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.read()
"""


class PowerCut(BaseException):
    """The process ends here."""


def deliver(store: Any, key: str | None, message: bytes = MESSAGE) -> None:
    """Bring a message into a store, in small pieces."""
    delivery: Delivery = store.deliver(key)
    try:
        for start in range(0, len(message), 7):
            delivery.write(message[start : start + 7])
        store.keep(delivery)
    except PowerCut:
        # The file is closed, and what is in its buffer is lost.
        file: Any = delivery._file
        if file is not None:
            file.raw.close()
        raise


class DiskTests(SynchronousTestCase):
    """What it means that a file is on disk."""

    def test_write_whole_syncs_the_file_and_its_folder(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        synced: list[str] = []
        real = os.fsync

        def fsync(descriptor: int) -> None:
            synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
            real(descriptor)

        if not Path("/proc/self/fd").exists():
            raise SkipTest("the names of open files are not to be had here")
        self.patch(os, "fsync", fsync)
        disk.write_whole(folder / "one", b"content")
        self.assertEqual((folder / "one").read_bytes(), b"content")
        written, named = synced
        self.assertEqual(Path(written).parent, folder.absolute())
        self.assertEqual(Path(named), folder.absolute())


class StoreTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()

    def cut_power(
        self, module: Any, name: str, *, before: bool, at: int = 1
    ) -> Callable[[], None]:
        """
        Let a function of a module be the last thing that happens.

        :param before: whether it does not happen any more.
        :param at: which call of it.
        :return: brings the power back.
        """
        function = getattr(module, name)
        calls = 0

        def last(*arguments: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls < at:
                return function(*arguments)
            if not before:
                function(*arguments)
            raise PowerCut

        return self.patch(module, name, last).restore

    def fill_disk(self, module: Any, name: str, at: int = 1) -> Callable[[], None]:
        """Let a function of a module fail as it does on a full disk."""
        calls = 0
        function = getattr(module, name)

        def full(*arguments: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls < at:
                return function(*arguments)
            raise OSError(errno.ENOSPC, "No space left on device")

        return self.patch(module, name, full).restore


class LineEndTests(SynchronousTestCase):
    def test_crlf_becomes_lf_wherever_it_is_cut(self) -> None:
        text = b"a\r\n\r\n\rb\r\r\n\r"
        for cut in range(len(text) + 1):
            turn = LineEnds()
            turned = turn.feed(text[:cut]) + turn.feed(text[cut:]) + turn.rest()
            self.assertEqual(turned, b"a\n\n\rb\r\n\r")


class MaildirTests(StoreTestCase):
    def contents(self) -> list[bytes]:
        return [path.read_bytes() for path in (self.folder / "M" / "new").iterdir()]

    def open(self, **options: Any) -> Maildir:
        return Maildir(self.folder / "M", **options)

    def test_message_is_stored_in_new_with_lf_line_ends(self) -> None:
        deliver(self.open(), "key")
        self.assertEqual(self.contents(), [LINES])
        self.assertEqual(list((self.folder / "M" / "tmp").iterdir()), [])
        [read] = mailbox.Maildir(self.folder / "M")
        self.assertEqual(read["Subject"], "one")

    def test_crlf_option_stores_the_exact_bytes(self) -> None:
        deliver(self.open(crlf=True), "key")
        self.assertEqual(self.contents(), [MESSAGE])

    def test_stored_message_is_readable_by_its_owner_only(self) -> None:
        deliver(self.open(), "key")
        [path] = (self.folder / "M" / "new").iterdir()
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)

    def test_missing_folders_are_made_for_their_owner_only(self) -> None:
        Maildir(self.folder / "a" / "M")
        for made in ("a", "a/M", "a/M/tmp", "a/M/new", "a/M/cur"):
            mode = (self.folder / made).stat().st_mode & 0o777
            self.assertEqual(mode, 0o700, made)

    def test_messages_without_a_key_are_all_kept(self) -> None:
        store = self.open()
        deliver(store, None)
        deliver(store, None)
        self.assertEqual(self.contents(), [LINES, LINES])

    def test_key_is_found_after_reopening_even_if_the_message_was_read(self) -> None:
        deliver(self.open(), "key")
        self.assertTrue(self.open().holds("key"))
        [path] = (self.folder / "M" / "new").iterdir()
        path.rename(self.folder / "M" / "cur" / f"{path.name}:2,S")
        self.assertTrue(self.open().holds("key"))
        self.assertFalse(self.open().holds("another"))

    def test_crash_before_the_rename_stores_no_message(self) -> None:
        for module, name in ((maildir, "sync_file"), (maildir, "replace")):
            restore = self.cut_power(module, name, before=True)
            self.assertRaises(PowerCut, deliver, self.open(), "key")
            restore()
            self.assertEqual(self.contents(), [])
            self.assertFalse(self.open().holds("key"))

    def test_crash_after_the_rename_keeps_the_message_and_its_key(self) -> None:
        store = self.open()
        self.cut_power(disk, "sync_folder", before=True)
        self.assertRaises(PowerCut, deliver, store, "key")
        self.assertTrue(self.open().holds("key"))
        self.assertEqual(self.contents(), [LINES])

    def test_full_disk_leaves_no_file_behind(self) -> None:
        for name in ("sync_file", "replace"):
            restore = self.fill_disk(maildir, name)
            self.assertRaises(OSError, deliver, self.open(), "key")
            restore()
            self.assertEqual(list((self.folder / "M" / "tmp").iterdir()), [])
            self.assertEqual(self.contents(), [])

    def test_only_our_own_old_temporary_files_are_removed(self) -> None:
        store = self.open()
        for key in ("old", "young"):
            delivery = store.deliver(key)
            delivery.write(b"half")
            delivery.close()
            if key == "old":
                os.utime(delivery.path, (0, 0))
        foreign = self.folder / "M" / "tmp" / "1.foreign"
        foreign.write_bytes(b"")
        os.utime(foreign, (0, 0))
        self.open()
        left = {path.name for path in (self.folder / "M" / "tmp").iterdir()}
        self.assertEqual(left, {"1.foreign", delivery.path.name})

    def test_temporary_file_that_another_process_moves_meanwhile_is_no_error(
        self,
    ) -> None:
        name = self.open().deliver("key").path.name
        # Listed, and not there any more.
        (self.folder / "M" / "tmp" / name).symlink_to("gone")
        self.assertFalse(self.open().holds("key"))


class MboxTests(StoreTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.path = self.folder / "box"

    def open(self) -> Mbox:
        return Mbox(self.path)

    def subjects(self) -> list[str]:
        with closing(mailbox.mbox(self.path)) as box:
            return [message["Subject"] for message in box]

    def left(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())

    def test_missing_folders_are_made_for_their_owner_only(self) -> None:
        Mbox(self.folder / "a" / "b" / "box").close()
        for made in ("a", "a/b"):
            mode = (self.folder / made).stat().st_mode & 0o777
            self.assertEqual(mode, 0o700, made)

    def test_messages_are_appended_with_from_lines_quoted(self) -> None:
        store = self.open()
        deliver(store, "a")
        deliver(store, "b", MESSAGE.replace(b"one", b"two"))
        store.close()
        self.assertEqual(self.subjects(), ["one", "two"])
        self.assertEqual(self.left(), ["box"])
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)
        body = self.path.read_bytes().partition(b"\n")[2].partition(b"From MAILER")[0]
        self.assertEqual(body, b"Subject: one\n\n>From here\n>>From there\na\rb\n\n")

    def test_message_without_final_line_end_is_separate_from_the_next(self) -> None:
        store = self.open()
        deliver(store, "a", b"Subject: one\r\n\r\nend")
        deliver(store, "b", b"Subject: two\r\n\r\nend")
        store.close()
        self.assertEqual(self.subjects(), ["one", "two"])

    def test_from_is_quoted_only_at_a_line_start_across_chunks(self) -> None:
        self.patch(mbox, "_PIECE", 5)
        text = b"From a\r\nxxFrom b\r\n" + b"xxxxxxxxxxFrom c\r\n" + b"\r\nFrom d\r\n"
        store = self.open()
        deliver(store, "a", text)
        store.close()
        self.assertEqual(
            self.path.read_bytes().split(b"\n", 1)[1],
            b">From a\nxxFrom b\nxxxxxxxxxxFrom c\n\n>From d\n\n",
        )

    def test_partial_writes_are_continued_until_all_is_written(self) -> None:
        class Slow:
            taken = b""

            def write(self, data: bytes) -> int:
                self.taken += bytes(data[:3])
                return min(len(data), 3)

        slow: Any = Slow()
        disk.write_all(slow, b"0123456789")
        self.assertEqual(slow.taken, b"0123456789")

    def test_existing_messages_are_kept(self) -> None:
        other = mailbox.mbox(self.path)
        other.add("Subject: other\n\nhello\n")
        other.close()
        store = self.open()
        deliver(store, "a")
        store.close()
        self.assertEqual(self.subjects(), ["other", "one"])

    def crash(self, name: str, *, before: bool, at: int = 1) -> None:
        """Let the power fail while the second message is appended."""
        store = self.open()
        deliver(store, "first")
        restore = self.cut_power(mbox, name, before=before, at=at)
        self.assertRaises(
            PowerCut, deliver, store, "second", MESSAGE.replace(b"one", b"two")
        )
        restore()
        store.abandon()

    def test_crash_before_the_append_leaves_the_mbox_unchanged(self) -> None:
        for name in ("sync_file", "sync_folder", "write_whole"):
            self.path.unlink(missing_ok=True)
            self.crash(name, before=True)
            store = self.open()
            self.assertFalse(store.holds("second"))
            store.close()
            self.assertEqual(self.subjects(), ["one"])
            self.assertEqual(self.left(), ["box"])

    def test_files_left_by_a_crash_are_removed_on_opening(self) -> None:
        self.path = self.folder / "box[1]"
        for rest in ("0.spool", "journal.0.new", "0.jsonl.0.new"):
            (self.folder / f".box[1].pop3connect-{rest}").write_bytes(b"half")
        self.open().close()
        self.assertEqual(self.left(), [])

    def test_half_appended_message_is_removed_on_opening(self) -> None:
        self.crash("sync_file", before=True, at=2)
        whole = self.path.read_bytes()
        first = whole.index(b"From MAILER", 1)
        for length in range(first, len(whole)):
            self.path.write_bytes(whole[:length])
            spools = {
                path: path.read_bytes()
                for path in self.folder.iterdir()
                if path.name.startswith(".")
            }
            store = self.open()
            self.assertFalse(store.holds("second"))
            store.close()
            self.assertEqual(self.path.read_bytes(), whole[:first])
            for path, content in spools.items():
                path.write_bytes(content)

    def test_message_appended_before_a_crash_is_known_until_recorded(self) -> None:
        self.crash("sync_file", before=False, at=2)
        store = self.open()
        self.assertTrue(store.holds("second"))
        self.assertFalse(store.holds("first"))
        store.abandon()
        # As often as it takes until it has been noted.
        store = self.open()
        self.assertTrue(store.holds("second"))
        store.close()
        self.assertEqual(self.subjects(), ["one", "two"])
        self.assertEqual(self.left(), ["box"])

    def test_mbox_changed_by_another_program_after_a_crash_is_left_alone(self) -> None:
        self.crash("sync_file", before=True, at=2)
        self.path.write_bytes(b"From x\nSubject: new\n\n" + b"y" * 1000 + b"\n")
        store = self.open()
        self.assertFalse(store.holds("second"))
        store.close()
        self.assertEqual(self.subjects(), ["new"])

    def test_mbox_emptied_after_a_crash_stays_empty(self) -> None:
        self.crash("sync_file", before=True, at=2)
        self.path.write_bytes(b"")
        self.open().close()
        self.assertEqual(self.path.read_bytes(), b"")

    def test_full_disk_restores_the_mbox_and_later_deliveries_work(self) -> None:
        for name, at in (("sync_file", 1), ("sync_file", 2), ("write_whole", 1)):
            self.path.unlink(missing_ok=True)
            store = self.open()
            deliver(store, "first")
            before = self.path.read_bytes()
            restore = self.fill_disk(mbox, name, at)
            self.assertRaises(OSError, deliver, store, "second")
            restore()
            self.assertEqual(self.path.read_bytes(), before)
            deliver(store, "second")
            store.close()
            self.assertEqual(self.subjects(), ["one", "one"])

    def test_error_behind_the_append_leaves_the_message_known(self) -> None:
        """
        A lock file that cannot be removed, say, as on a full copy-on-write disk.
        """
        store = self.open()
        deliver(store, "first")

        @contextmanager
        def locked(*arguments: Any) -> Iterator[None]:
            yield
            raise OSError(errno.ENOSPC, "No space left on device")

        restore = self.patch(mbox, "locked", locked).restore
        self.assertRaises(OSError, deliver, store, "second")
        restore()
        store.abandon()
        store = self.open()
        self.assertTrue(store.holds("second"))
        store.close()
        self.assertEqual(self.subjects(), ["one", "one"])
        self.assertEqual(self.left(), ["box"])

    def gone(self) -> int:
        """Return the number of a process that has ended."""
        done = subprocess.run(
            [sys.executable, "-c", "import os; print(os.getpid())"],
            capture_output=True,
            check=True,
        )
        return int(done.stdout)

    def test_lock_file_of_another_program_refuses_delivery(self) -> None:
        self.patch(locks, "PATIENCE", 1)
        store = self.open()
        lock = self.folder / "box.lock"
        # Another program's, with a number or without; one of ours that lives; one
        # from another computer.
        for content in (
            b"",
            b"%d\n" % self.gone(),
            f"{os.getpid()} {locks._OWNER}\n".encode(),
            b"%d pop3connect another\n" % self.gone(),
        ):
            lock.write_bytes(content)
            error = self.assertRaises(OSError, deliver, store, "a")
            self.assertIn(f"if none does, remove {lock}", str(error))
            self.assertEqual(lock.read_bytes(), content)
            self.assertEqual(self.path.read_bytes(), b"")
        lock.unlink()
        deliver(store, "a")
        store.close()
        self.assertEqual(self.left(), ["box"])

    def test_stale_lock_file_of_a_killed_process_is_removed(self) -> None:
        store = self.open()
        (self.folder / "box.lock").write_text(f"{self.gone()} {locks._OWNER}\n")
        deliver(store, "a")
        store.close()
        self.assertEqual(self.subjects(), ["one"])
        self.assertEqual(self.left(), ["box"])

    def test_system_lock_of_another_program_refuses_delivery(self) -> None:
        self.patch(locks, "PATIENCE", 1)
        store = self.open()
        self.path.touch()
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(self.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        with holder:
            assert holder.stdout is not None
            holder.stdout.readline()
            error = self.assertRaises(OSError, deliver, store, "a")
            self.assertIn(f"another program uses {self.path}", str(error))
            holder.communicate()
        deliver(store, "a")
        store.close()
        self.assertEqual(self.subjects(), ["one"])

    def test_delivery_waits_for_a_lock_that_is_released_in_time(self) -> None:
        store = self.open()
        lock = self.folder / "box.lock"
        lock.write_bytes(b"")
        self.patch(locks.time, "sleep", lambda _: lock.unlink())
        deliver(store, "a")
        store.close()
        self.assertEqual(self.subjects(), ["one"])

    def test_locking_works_on_a_file_system_without_links(self) -> None:
        def link(source: Path, target: Path) -> None:
            raise PermissionError(errno.EPERM, "no links here")

        self.patch(locks.os, "link", link)
        store = self.open()
        deliver(store, "a")
        lock = self.folder / "box.lock"
        lock.write_bytes(b"")
        self.patch(locks, "PATIENCE", 1)
        self.assertRaises(OSError, deliver, store, "b")
        lock.unlink()
        store.close()
        self.assertEqual(self.subjects(), ["one"])
        self.assertEqual(self.left(), ["box"])

    def test_full_disk_while_locking_leaves_no_lock_file(self) -> None:
        store = self.open()
        real = locks.create

        def full(path: Path) -> Any:
            file = real(path)
            file.close()
            raise OSError(errno.ENOSPC, "full")

        restore = self.patch(locks, "create", full).restore
        self.assertRaises(OSError, deliver, store, "a")
        restore()
        self.assertFalse((self.folder / "box.lock").exists())
        deliver(store, "a")
        store.close()
        self.assertEqual(self.left(), ["box"])

    def test_opening_an_mbox_twice_is_refused(self) -> None:
        store = self.open()
        error = self.assertRaises(OSError, self.open)
        self.assertIn("another pop3connect", str(error))
        store.close()
        self.open().close()


class RecordTests(StoreTestCase):
    def open(self, account: str = "ada@pop.example.com") -> Record:
        return Record(self.folder, account)

    def noted(self, *uids: str) -> Record:
        known = self.open()
        for uid in uids:
            known.add(uid)
        known.close()
        return known

    def test_recorded_ids_are_known_after_reopening(self) -> None:
        strange = "a b\udcff\u2028"
        self.noted("one", strange)
        known = self.open()
        self.assertIn("one", known)
        self.assertIn(strange, known)
        self.assertNotIn("two", known)

    def test_id_recorded_for_one_account_is_unknown_to_another(self) -> None:
        self.noted("one")
        self.assertNotIn("one", self.open("bob@pop.example.com"))

    def test_record_of_an_mbox_is_a_hidden_file_beside_it(self) -> None:
        path = self.folder / "box"
        path.write_bytes(b"")
        known = Record(path, "ada@pop.example.com")
        known.add("one")
        known.close()
        self.assertEqual(known.path.parent, self.folder)
        self.assertTrue(known.path.name.startswith(".box.pop3connect-"))

    def test_id_is_on_disk_when_add_returns(self) -> None:
        known = self.open()
        known.add("one")
        self.assertIn("one", self.open())
        known.close()

    def test_record_cut_at_any_byte_keeps_the_complete_lines(self) -> None:
        path = self.noted("one", "two").path
        whole = path.read_bytes()
        ends = [n for n in range(len(whole) + 1) if whole[:n].endswith(b"\n")]
        for length in range(len(whole)):
            path.write_bytes(whole[:length])
            known = self.open()
            self.assertEqual(
                [uid in known for uid in ("one", "two")],
                [length >= ends[1], length >= ends[2]],
            )
            known.add("three")
            known.close()
            known = self.open()
            self.assertIn("three", known)
            self.assertEqual("one" in known, length >= ends[1])

    def test_malformed_lines_are_ignored(self) -> None:
        path = self.noted("one").path
        with path.open("ab") as file:
            file.write(b'{"uid": \n7\n{"other": 1}\n')
        self.assertEqual(len(self.open()), 1)
        self.noted("two")
        self.assertEqual(len(self.open()), 2)

    def test_record_of_another_account_is_refused(self) -> None:
        path = self.noted("one").path
        path.write_bytes(json.dumps({"account": "bob"}).encode() + b"\n")
        self.assertRaises(OSError, self.open)

    def test_full_disk_leaves_the_id_unrecorded_and_the_record_usable(self) -> None:
        known = self.open()
        known.add("one")
        restore = self.fill_disk(disk, "sync_file")
        self.assertRaises(OSError, known.add, "two")
        restore()
        self.assertNotIn("two", known)
        known.add("three")
        known.close()
        known = self.open()
        self.assertIn("one", known)
        self.assertNotIn("two", known)
        self.assertIn("three", known)

    def test_ids_gone_from_the_server_are_dropped_once_there_are_many(self) -> None:
        self.patch(record, "_MANY", 3)
        known = self.noted(*"abcde")
        known.keep(set("abc"))
        self.assertEqual(len(self.open()), 5)
        known.keep(set("e"))
        known.add("f")
        known.close()
        known = self.open()
        self.assertEqual([uid in known for uid in "aef"], [False, True, True])

    def test_record_is_usable_after_an_error_behind_the_rename(self) -> None:
        self.patch(record, "_MANY", 1)
        known = self.noted(*"abc")
        restore = self.fill_disk(disk, "sync_folder")
        self.assertRaises(OSError, known.keep, set("c"))
        restore()
        known.add("d")
        known.close()
        known = self.open()
        self.assertEqual([uid in known for uid in "bcd"], [False, True, True])
        self.assertNotIn(b"\0", known.path.read_bytes())

    def test_crash_while_rewriting_keeps_the_old_record(self) -> None:
        self.patch(record, "_MANY", 1)
        known = self.noted(*"abc")
        for name in ("put", "replace"):
            restore = self.cut_power(disk, name, before=True)
            self.assertRaises(PowerCut, known.keep, set())
            restore()
            self.assertEqual(len(self.open()), 3)
            self.assertEqual(len(list(self.folder.iterdir())), 1)
