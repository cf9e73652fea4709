"""
The file of the journal: how it is protected, made, checked and brought up to date.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from functools import partial
from pathlib import Path
from unittest import mock

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from pop3connect.collect import database as module
from pop3connect.collect.database import (
    DamagedError,
    Database,
    JournalError,
    StorageFullError,
    file_system,
    is_network,
)
from pop3connect.collect.lock import UnsafeFileError
from pop3connect.collect.tables import HEAD, metadata


class DatabaseCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute() / "state"
        self.path = self.folder / "collect.db"

    def opened(self, *, exclusive: bool = True) -> Database:
        database = Database(self.path, exclusive=exclusive, wall=lambda: 5.0)
        self.addCleanup(database.engine.dispose)
        return database

    def names(self) -> list[str]:
        return sorted(os.listdir(self.folder))

    def refused(self, kind: type[Exception] = JournalError) -> str:
        return str(self.assertRaises(kind, self.opened))


class FileTests(DatabaseCase):
    def test_new_file_is_private_and_so_are_the_files_beside_it(self) -> None:
        before = os.umask(0)
        self.addCleanup(os.umask, before)
        connection = self.opened().connect()
        self.addCleanup(connection.close)
        connection.exec_driver_sql("INSERT INTO machine VALUES ('x', 0, 0, '', 0)")
        connection.commit()
        self.assertEqual(
            self.names(), ["collect.db", "collect.db-shm", "collect.db-wal"]
        )
        for name in self.names():
            mode = stat.S_IMODE(os.stat(self.folder / name).st_mode)
            self.assertEqual((name, mode), (name, 0o600))

    def test_permissions_that_are_too_wide_are_taken_away(self) -> None:
        self.opened()
        os.chmod(self.path, 0o644)
        self.opened(exclusive=False)
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)

    def test_what_is_committed_is_waited_for(self) -> None:
        with self.opened().connect() as connection:
            found = {
                name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                for name in ("journal_mode", "synchronous", "foreign_keys")
            }
        self.assertEqual(
            found, {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
        )

    def test_reading_connection_cannot_write(self) -> None:
        database = self.opened()
        with database.connect(reading=True) as connection:
            error = self.assertRaises(
                sa.exc.OperationalError,
                connection.exec_driver_sql,
                "DELETE FROM machine",
            )
        explained = database.explain(error)
        self.assertIn("mounted read-only", str(explained))
        self.assertIn("-shm", str(explained))
        self.assertIn(str(self.path), str(explained))

    def test_network_file_system_has_no_wal(self) -> None:
        with mock.patch.object(module, "file_system", lambda folder: "nfs4"):
            database = self.opened()
            with database.connect() as connection:
                mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar()
                sync = connection.exec_driver_sql("PRAGMA synchronous").scalar()
                # Without WAL, a commit that does not wait may damage the file.
                connection.rollback()
                database.wait_for_disk(connection, False)
                still = connection.exec_driver_sql("PRAGMA synchronous").scalar()
        self.assertEqual((mode, sync, still), ("delete", 3, 3))

    def test_file_that_is_a_link_is_refused_and_its_target_stays(self) -> None:
        self.folder.mkdir(parents=True, mode=0o700)
        victim = self.folder.parent / "victim"
        victim.write_bytes(b"")
        self.path.symlink_to(victim)
        self.refused(UnsafeFileError)
        self.assertEqual(victim.read_bytes(), b"")

    def test_link_beside_the_file_is_refused(self) -> None:
        self.opened()
        for end in ("-wal", "-shm", "-journal"):
            planted = self.path.with_name(self.path.name + end)
            planted.symlink_to(self.folder.parent / "victim")
            self.refused(UnsafeFileError)
            planted.unlink()
        self.assertFalse((self.folder.parent / "victim").exists())

    def test_fifo_in_place_of_the_file_is_refused_at_once(self) -> None:
        self.folder.mkdir(parents=True, mode=0o700)
        os.mkfifo(self.path)
        self.refused(UnsafeFileError)

    def test_file_of_another_user_is_refused(self) -> None:
        if os.geteuid() != 0:
            raise SkipTest("only root can give a file away")
        self.opened()
        os.chown(self.path, 12345, -1)
        self.refused(UnsafeFileError)

    def test_folder_that_others_may_write_to_is_refused(self) -> None:
        self.folder.mkdir(parents=True)
        os.chmod(self.folder, 0o777)
        self.refused(UnsafeFileError)
        self.assertEqual(self.names(), [])

    def test_missing_file_is_not_made_beside_a_collector(self) -> None:
        error = self.assertRaises(JournalError, self.opened, exclusive=False)
        self.assertIn("there is no journal", str(error))
        self.assertEqual(self.names(), [])

    def test_missing_file_whose_wal_is_there_is_refused(self) -> None:
        self.folder.mkdir(parents=True, mode=0o700)
        wal = self.folder / "collect.db-wal"
        wal.write_bytes(b"a part of the journal")
        self.assertIn("collect.db-wal is there", self.refused())
        self.assertEqual(wal.read_bytes(), b"a part of the journal")

    def test_file_may_be_removed_to_begin_again_after_it_was_looked_at(self) -> None:
        self.opened()
        self.path.write_bytes(b"{}" * 3000)
        self.refused(DamagedError)
        self.path.unlink()
        self.opened()

    def test_file_that_was_not_finished_is_removed(self) -> None:
        self.folder.mkdir(parents=True, mode=0o700)
        (self.folder / ".collect.db.0123abcd.new").write_bytes(b"half")
        (self.folder / ".collect.db.0123abcd.new-wal").write_bytes(b"half")
        self.opened()
        self.assertEqual(self.names(), ["collect.db"])

    def test_file_that_cannot_be_made_leaves_nothing(self) -> None:
        with mock.patch.object(module.metadata, "create_all", side_effect=OSError):
            self.assertRaises(OSError, self.opened)
        self.assertEqual(self.names(), [])

    def test_memory_is_refused(self) -> None:
        for url in ("sqlite://", "sqlite:///:memory:"):
            self.assertRaises(JournalError, Database, url, exclusive=True, wall=float)

    def test_url_of_a_file_is_a_path(self) -> None:
        database = Database(f"sqlite:///{self.path}", exclusive=True, wall=float)
        self.addCleanup(database.engine.dispose)
        self.assertEqual(database.file, self.path)

    def test_percent_and_question_mark_in_a_path_are_what_they_are(self) -> None:
        self.folder = self.folder.with_name("100%?#x")
        self.path = self.folder / "collect.db"
        self.opened()
        self.opened()
        self.assertIn("collect.db", self.names())
        self.assertEqual(self.folder.parent.joinpath("100").exists(), False)


class DamageTests(DatabaseCase):
    """A file that is broken is an error, and is not changed."""

    def make(self) -> bytes:
        with self.opened().connect() as connection:
            for number in range(200):
                connection.exec_driver_sql(
                    "INSERT INTO machine VALUES (?, 0, 0, ?, 0)",
                    (f"{number}", "x" * 99),
                )
            connection.commit()
        return self.path.read_bytes()

    def unchanged(self, content: bytes, kind: type[Exception] = DamagedError) -> str:
        self.path.write_bytes(content)
        text = self.refused(kind)
        self.assertIn(str(self.path), text)
        self.assertEqual(self.path.read_bytes(), content)
        return text

    def test_file_that_is_not_a_database(self) -> None:
        self.make()
        text = self.unchanged(b"{}" * 3000)
        self.assertIn("restore a backup", text)

    def test_empty_file(self) -> None:
        self.make()
        self.assertIn("is empty", self.unchanged(b""))

    def test_file_that_is_cut(self) -> None:
        content = self.make()
        self.unchanged(content[: len(content) // 2])

    def test_file_with_a_damaged_page(self) -> None:
        content = bytearray(self.make())
        # The page of an index or a table: not the first, which is read anyway.
        for page in range(5, len(content) // 4096):
            content[page * 4096 : page * 4096 + 512] = b"\xff" * 512
        self.unchanged(bytes(content))

    def test_database_of_another_program(self) -> None:
        self.folder.mkdir(parents=True, mode=0o700)
        connection = sqlite3.connect(self.path)
        connection.execute("CREATE TABLE other (id)")
        connection.commit()
        connection.close()
        text = self.unchanged(self.path.read_bytes(), JournalError)
        self.assertIn("not a journal of pop3connect", text)

    def test_journal_without_a_version(self) -> None:
        self.make()
        connection = sqlite3.connect(self.path)
        connection.execute("DELETE FROM alembic_version")
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        self.unchanged(self.path.read_bytes(), JournalError)

    def test_large_file_is_not_read_whole(self) -> None:
        content = bytearray(self.make())
        content[-4096:] = b"\xff" * 4096
        self.path.write_bytes(content)
        with mock.patch.object(module, "CHECK_LIMIT", 100):
            self.opened()

    def test_wal_of_a_killed_process_is_used(self) -> None:
        database = self.opened()
        connection = database.connect()
        connection.exec_driver_sql("INSERT INTO machine VALUES ('x', 0, 0, '', 0)")
        connection.commit()
        # As if the process was killed: both files, without an orderly end.
        files = {
            name: (self.folder / name).read_bytes()
            for name in ("collect.db", "collect.db-wal")
        }
        connection.close()
        for name, content in files.items():
            (self.folder / name).write_bytes(content)
        with self.opened().connect() as again:
            found = again.exec_driver_sql("SELECT name FROM machine").all()
        self.assertEqual(found, [("x",)])


class VersionTests(DatabaseCase):
    def test_head_is_that_of_the_last_migration(self) -> None:
        script = ScriptDirectory(str(module.MIGRATIONS))
        self.assertEqual(HEAD, script.get_current_head())

    def test_migrations_make_the_tables_of_a_new_file(self) -> None:
        engine = sa.create_engine("sqlite://")
        with engine.connect() as connection:
            module._migrate(connection)
            context = MigrationContext.configure(connection)
            self.assertEqual(compare_metadata(context, metadata), [])
            made = self.statements(connection)
        with self.opened().connect() as connection:
            # Alembic's comparison does not see the conditions of indexes.
            self.assertEqual(self.statements(connection), made)
            version = connection.exec_driver_sql("SELECT * FROM alembic_version").all()
        self.assertEqual(version, [(HEAD,)])

    def statements(self, connection: sa.Connection) -> list[str]:
        rows = connection.exec_driver_sql(
            "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE "
            "'sqlite_%'"
        )
        return sorted(" ".join(text.split()) for (text,) in rows)

    def mark(self, version: str) -> None:
        connection = sqlite3.connect(self.path)
        connection.execute("UPDATE alembic_version SET version_num = ?", (version,))
        connection.commit()
        connection.close()

    def test_later_version_is_refused(self) -> None:
        self.opened()
        self.mark("9999")
        self.assertIn("a later version", self.refused())
        # A copy would take the place of the one that the earlier version made.
        self.assertNotIn("before", "".join(self.names()))

    def test_later_version_is_refused_beside_a_collector_and_not_upgraded(self) -> None:
        self.opened()
        self.mark("9999")
        error = self.assertRaises(JournalError, self.opened, exclusive=False)
        self.assertIn("install that version", str(error))

    def test_other_version_is_refused_beside_a_collector(self) -> None:
        self.opened()
        self.mark("0000")
        error = self.assertRaises(JournalError, self.opened, exclusive=False)
        self.assertIn("pop3connect database upgrade", str(error))

    def test_file_is_copied_before_its_tables_are_changed(self) -> None:
        with self.opened().connect() as connection:
            connection.exec_driver_sql("INSERT INTO machine VALUES ('x', 0, 0, '', 0)")
            connection.commit()
        self.mark("0000")

        def migrate(connection: sa.Connection) -> None:
            connection.exec_driver_sql("DELETE FROM machine")
            connection.commit()

        with mock.patch.object(module, "_migrate", migrate):
            self.opened()
        copy = self.folder / f"collect.db.before-{HEAD}"
        self.assertEqual(stat.S_IMODE(os.stat(copy).st_mode), 0o600)
        copied = sqlite3.connect(copy)
        self.addCleanup(copied.close)
        self.assertEqual(
            copied.execute("SELECT name FROM machine").fetchall(), [("x",)]
        )
        self.assertNotIn(".new", "".join(self.names()))

    def test_upgrade_makes_the_file(self) -> None:
        Database.upgrade(self.path)
        self.opened(exclusive=False)

    def test_old_sqlite_is_refused(self) -> None:
        with mock.patch.object(sqlite3, "sqlite_version_info", (3, 34, 1)):
            self.assertIn("3.35 or later", self.refused())

    def test_unknown_driver_is_named_with_the_remedy(self) -> None:
        url = "postgresql+psycopg://user:secret@db.example.org/collect"
        try:
            import psycopg  # type: ignore[import-not-found] # noqa: F401
        except ImportError:
            pass
        else:
            raise SkipTest("the driver is installed")
        error = self.assertRaises(
            JournalError, Database, url, exclusive=False, wall=float
        )
        self.assertIn("pip install psycopg", str(error))
        self.assertNotIn("secret", str(error))

    def test_url_that_cannot_be_used_shows_no_password(self) -> None:
        beside = partial(Database, exclusive=False, wall=float)
        for url in (
            "://secret",
            "postgresql://user:secret/1@db.example.org/collect",
            "postgresql://user:1@db.example.org:secret/collect",
            "postgresql+unknown://user:secret@db.example.org/collect",
            "postgresql+unknown://db.example.org/collect?password=secret",
            "oracle://user:secret@db.example.org/collect",
            "unknown://user:secret@db.example.org/collect?password=secret",
        ):
            for use in (beside, Database.upgrade):
                error = self.assertRaises(JournalError, use, url)
                self.assertNotIn("secret", str(error))

    def test_error_of_a_statement_shows_no_values(self) -> None:
        with self.opened().connect() as connection:
            error = self.assertRaises(
                sa.exc.IntegrityError,
                connection.execute,
                sa.text("INSERT INTO machine (name, version) VALUES ('a', :text)"),
                {"text": "secret"},
            )
        self.assertNotIn("secret", str(error))


class ErrorTests(DatabaseCase):
    def explained(self, text: str) -> JournalError:
        error = sa.exc.OperationalError("", {}, sqlite3.OperationalError(text))
        explained = self.database.explain(error)
        assert explained is not None
        return explained

    def setUp(self) -> None:
        super().setUp()
        self.database = self.opened()

    def test_each_error_names_the_file_and_the_remedy(self) -> None:
        for text, kind, words in (
            ("database or disk is full", StorageFullError, "free some space"),
            ("database disk image is malformed", DamagedError, "restore a backup"),
            ("file is not a database", DamagedError, "restore a backup"),
            ("attempt to write a readonly database", JournalError, "read-only"),
            ("database is locked", JournalError, "end that program"),
            ("unable to open database file", JournalError, "check the permissions"),
            ("disk I/O error", JournalError, "log of the system"),
            ("something else", JournalError, "something else"),
        ):
            explained = self.explained(text)
            self.assertIs(type(explained), kind)
            self.assertIn(words, str(explained))
            self.assertIn(str(self.path), str(explained))

    def test_io_error_on_a_disk_without_space_is_a_full_disk(self) -> None:
        with mock.patch.object(module, "LITTLE_SPACE", 1 << 70):
            self.assertIsInstance(self.explained("disk I/O error"), StorageFullError)

    def test_error_of_a_single_operation_is_not_explained(self) -> None:
        for error in (
            ValueError("x"),
            JournalError("x"),
            sa.exc.IntegrityError("", {}, sqlite3.IntegrityError("x")),
        ):
            self.assertIsNone(self.database.explain(error))


class FileSystemTests(SynchronousTestCase):
    def mounts(self, *lines: str) -> str:
        path: str = self.mktemp()
        Path(path).write_text("".join(line + "\n" for line in lines))
        return path

    def test_innermost_and_last_mount_counts(self) -> None:
        mounts = self.mounts(
            "1 0 0:1 / / rw - ext4 /dev/sda rw",
            "2 1 0:2 / /srv rw,relatime shared:1 - nfs4 server:/x rw",
            r"3 1 0:3 / /srv/my\040mail rw - xfs /dev/sdb rw",
            "4 1 0:4 / /over rw - ext4 /dev/sdc rw",
            "5 1 0:5 / /over rw - cifs //server/x rw",
        )
        for folder, kind in (
            ("/var/lib", "ext4"),
            ("/srv", "nfs4"),
            ("/srv/state", "nfs4"),
            ("/srvother", "ext4"),
            ("/srv/my mail/x", "xfs"),
            ("/over/x", "cifs"),
        ):
            self.assertEqual(file_system(Path(folder), mounts), kind, folder)

    def test_unreadable_table_is_unknown(self) -> None:
        self.assertEqual(file_system(Path("/"), "/nowhere"), "")
        self.assertEqual(file_system(Path("/"), self.mounts("nonsense")), "")

    def test_file_systems_of_networks_are_known(self) -> None:
        self.assertTrue(all(map(is_network, ("nfs", "nfs4", "cifs", "fuse.sshfs"))))
        self.assertFalse(any(map(is_network, ("", "ext4", "xfs", "tmpfs", "fuse"))))
