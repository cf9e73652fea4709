"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from pop3connect import files
from pop3connect.files import append, write_all, write_whole


class Grudging:
    """
    A file without a buffer, which takes a few bytes at once.
    """

    def __init__(self, answers: list[object]) -> None:
        self.answers = answers
        self.pieces: list[bytes] = []

    def write(self, data: bytes) -> object:
        answer = self.answers.pop(0) if self.answers else None
        self.pieces.append(data[:answer] if isinstance(answer, int) else data)
        return answer


class WriteAllTests(SynchronousTestCase):
    """`write_all`"""

    def test_rest_is_written_again_until_all_is_taken(self) -> None:
        file = Grudging([2, 3, None])
        write_all(file, b"0123456789")
        self.assertEqual(file.pieces, [b"01", b"234", b"56789"])

    def test_answer_that_is_not_a_number_means_all(self) -> None:
        for answer in (None, "all", 1.5):
            file = Grudging([answer])
            write_all(file, b"0123")
            self.assertEqual(file.pieces, [b"0123"])

    def test_file_that_takes_nothing_is_an_error(self) -> None:
        with self.assertRaises(BlockingIOError):
            write_all(Grudging([1, 0]), b"0123")


class AppendTests(SynchronousTestCase):
    """`append`"""

    def test_content_is_at_the_end_and_on_disk(self) -> None:
        path = Path(self.mktemp())
        path.write_bytes(b"one\n")
        synced: list[int] = []
        fsync = os.fsync

        def note(descriptor: int) -> None:
            synced.append(os.fstat(descriptor).st_size)
            fsync(descriptor)

        self.patch(os, "fsync", note)
        append(path, b"two\n")
        self.assertEqual(path.read_bytes(), b"one\ntwo\n")
        self.assertEqual(synced, [8])

    def test_missing_file_is_an_error_and_is_not_made(self) -> None:
        path = Path(self.mktemp())
        with self.assertRaises(FileNotFoundError):
            append(path, b"two\n")
        self.assertFalse(path.exists())


class WriteWholeTests(SynchronousTestCase):
    """`write_whole`"""

    def setUp(self) -> None:
        if os.name != "posix":
            raise SkipTest("permissions are those of POSIX")
        self.folder = Path(self.mktemp())

    def mode(self, path: Path) -> int:
        return stat.S_IMODE(path.stat().st_mode)

    def test_file_and_missing_folders_are_for_their_owner_only(self) -> None:
        path = self.folder / "a" / "b"
        write_whole(path, b"text")
        self.assertEqual(path.read_bytes(), b"text")
        self.assertEqual(self.mode(path), 0o600)
        self.assertEqual(self.mode(path.parent), 0o700)

    def test_every_missing_folder_above_is_for_its_owner_only(self) -> None:
        write_whole(self.folder / "a" / "b" / "c", b"text")
        for folder in (self.folder, self.folder / "a", self.folder / "a" / "b"):
            self.assertEqual(self.mode(folder), 0o700, folder)

    def test_existing_folder_keeps_its_permissions(self) -> None:
        self.folder.mkdir()
        self.folder.chmod(0o755)
        write_whole(self.folder / "a" / "b", b"text")
        self.assertEqual(self.mode(self.folder), 0o755)
        self.assertEqual(self.mode(self.folder / "a"), 0o700)

    def test_file_in_place_of_a_folder_is_an_error_and_is_kept(self) -> None:
        self.folder.write_bytes(b"a file")
        with self.assertRaises(OSError):
            write_whole(self.folder / "a", b"text")
        self.assertEqual(self.folder.read_bytes(), b"a file")

    def test_file_in_an_existing_folder_is_for_its_owner_only(self) -> None:
        self.folder.mkdir(mode=0o755)
        path = self.folder / "state"
        path.write_bytes(b"old")
        path.chmod(0o644)
        write_whole(path, b"new")
        self.assertEqual(path.read_bytes(), b"new")
        self.assertEqual(self.mode(path), 0o600)

    def test_other_permissions_are_those_that_are_asked_for(self) -> None:
        path = self.folder / "ca.pem"
        write_whole(path, b"text", 0o644)
        self.assertEqual(self.mode(path), 0o644)

    def test_failure_leaves_the_old_file_and_nothing_else(self) -> None:
        self.folder.mkdir()
        path = self.folder / "state"
        path.write_bytes(b"old")

        def full(*arguments: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        for step in ("open", "fsync", "replace"):
            restore = self.patch(os, step, full).restore
            with self.assertRaises(OSError):
                write_whole(path, b"new")
            restore()
            self.assertEqual(path.read_bytes(), b"old", step)
            self.assertEqual(os.listdir(self.folder), ["state"], step)

    def test_failure_after_the_rename_leaves_the_new_file_whole(self) -> None:
        self.folder.mkdir()
        path = self.folder / "state"
        path.write_bytes(b"old")

        def broken(folder: Path) -> None:
            raise OSError(errno.EIO, "Input/output error")

        self.patch(files, "sync_folder", broken)
        with self.assertRaises(OSError):
            write_whole(path, b"new")
        self.assertEqual(path.read_bytes(), b"new")
        self.assertEqual(os.listdir(self.folder), ["state"])

    def test_file_and_its_folder_are_synced(self) -> None:
        synced: list[Path] = []
        real = os.fsync

        def fsync(descriptor: int) -> None:
            synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")))
            real(descriptor)

        if not Path("/proc/self/fd").exists():
            raise SkipTest("the names of open files cannot be read here")
        self.folder.mkdir()
        self.patch(os, "fsync", fsync)
        write_whole(self.folder / "one", b"content")
        written, named = synced
        folder = self.folder.absolute()
        self.assertEqual((written.parent, named), (folder, folder))

    def test_temporary_file_is_hidden(self) -> None:
        """
        A client that reads a cacerts folder meanwhile, or after a crash, skips it.
        """
        seen: list[str] = []
        self.patch(files, "replace", lambda *_: seen.extend(os.listdir(self.folder)))
        for name in ("ca.pem", ".journal"):
            write_whole(self.folder / name, b"text")
        for name, wanted in zip(seen, (".ca.pem.", ".journal."), strict=True):
            self.assertEqual(name[: len(wanted)], wanted)

    def test_only_its_own_abandoned_temporary_files_are_removed(self) -> None:
        self.folder.mkdir()
        names = [
            ".state.0123abcd.new",
            ".state.backup.new",
            ".state.01234567.new",
            ".other.0123abcd.new",
        ]
        for name in names:
            (self.folder / name).write_bytes(b"half")
            os.utime(self.folder / name, (0, 0))
        os.utime(self.folder / names[2])
        write_whole(self.folder / "state", b"text")
        self.assertEqual(sorted(os.listdir(self.folder)), sorted([*names[1:], "state"]))
