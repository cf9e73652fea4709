"""
Opens the database of the journal: an SQLite file that is protected, checked and brought
up to date, or another database by its URL.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa

from ..errors import POP3Error
from ..files import create, sync_folder
from ..remedies import Remedy, literal
from .lock import check_file, private_folder
from .tables import HEAD, NOW_FUNCTION, metadata, version

__all__ = [
    "DamagedError",
    "Database",
    "JournalError",
    "LostLeaseError",
    "StorageFullError",
    "sqlite_file",
]

BUSY_TIMEOUT = 20.0
"""Seconds to wait for another process that writes, such as a command."""

CHECK_LIMIT = 256 * 1024 * 1024
"""Bytes up to which a database is read whole when it is opened, to find damage."""

LITTLE_SPACE = 4 * 1024 * 1024
"""Bytes free below which an error of writing means that the disk is full."""

# fmt: off
NETWORK = frozenset((
    "9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "fuse.ceph",
    "fuse.davfs2", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs", "fuse.vmhgfs-fuse",
    "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs",
    "prl_fs", "smb3", "smbfs", "vboxsf", "vmhgfs",
))
# fmt: on
"""File systems on which machines do not share memory, as SQLite's WAL requires."""

MIGRATIONS = Path(__file__).parent / "migrations"

OLDEST_SQLITE = (3, 35)
"""``RETURNING`` and materialized common table expressions."""


class JournalError(POP3Error):
    """The journal could not be read or written.  Nothing of the operation was kept."""


class StorageFullError(JournalError):
    """The disk is full, or a quota is used up."""


class DamagedError(JournalError):
    """The database is not one, or is damaged."""


class LostLeaseError(JournalError):
    """Another process has claimed the account, or it was reset or removed."""


class Database:
    """
    A database, opened and up to date.

    :param database: the path of an SQLite file, or a URL.
    :param exclusive: no other process uses the file; it is made or brought up to date.
    :param wall: the clock, for SQLite.
    :ivar name: for people: the file, or the URL without its password.
    :ivar file: of SQLite; ``None``: it is another database.
    """

    def __init__(
        self, database: Path | str, *, exclusive: bool, wall: Callable[[], float]
    ) -> None:
        url = _url(database)
        self._wall = wall
        self.file = sqlite_file(database)
        if self.file is None:
            self.name = _shown(url)
        else:
            self.name = str(self.file)
            url = url.set(database=self.name)
        self.engine = self._engine(url)
        with self.errors():
            if self.file is not None:
                self._open_file(self.file, exclusive)
            else:
                self._check_version()

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn errors of the database into a `JournalError`."""
        try:
            yield
        except Exception as error:
            explained = self.explain(error)
            if explained is None:
                raise
            raise explained from error

    def connect(self, *, reading: bool = False) -> sa.Connection:
        """
        Open a connection.

        :param reading: it does not write, and waits for no writer.
        """
        with self.errors():
            connection = self.engine.connect()
            connection = connection.execution_options(reading=reading)
            if self.file is not None and reading:
                connection.exec_driver_sql("PRAGMA query_only = ON")
                connection.rollback()
        return connection

    def wait_for_disk(self, connection: sa.Connection, wait: bool) -> None:
        """
        Let the commits of a connection wait for the disk, or not.

        Either way they come there in their order, and none is half done.  Without WAL,
        and with other databases, they always wait.

        :param connection: it is in no transaction.
        """
        if self.file is None or connection.info.get(_WAITS, True) == wait:
            return
        sqlite: Any = connection.connection.driver_connection
        if connection.info.get(_WAL) is None:
            (mode,) = sqlite.execute("PRAGMA journal_mode").fetchone()
            connection.info[_WAL] = mode == "wal"
        if connection.info[_WAL]:
            sqlite.execute(f"PRAGMA synchronous = {'FULL' if wait else 'NORMAL'}")
        connection.info[_WAITS] = wait

    # -- SQLite's file

    def _open_file(self, path: Path, exclusive: bool) -> None:
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            raise JournalError(
                f"SQLite {sqlite3.sqlite_version} is too old",
                remedy=Remedy("install a Python with SQLite 3.35 or later"),
            )
        private_folder(path.parent)
        beside = [path.with_name(path.name + end) for end in _ENDS]
        # An empty one is left by a look at the file, and the index ("-shm") is nothing
        # without the other.
        there = [
            file
            for file in beside
            if check_file(file)
            and file.stat().st_size
            and not file.name.endswith("-shm")
        ]
        if not check_file(path):
            if there:
                raise JournalError(
                    f"{path} is missing, but {there[0].name} is there, which may hold "
                    "a part of it",
                    remedy=Remedy(
                        "put the file back, or remove the other one as well to begin "
                        "with an empty journal"
                    ),
                )
            if not exclusive:
                raise JournalError(
                    f"there is no journal in {path}",
                    remedy=Remedy("start the collector first, or check the path"),
                )
            self._create(path)
            return
        version = _examine(path)
        if version == HEAD:
            os.chmod(path, 0o600)
            return
        if version > HEAD:
            # Before a copy is made, which would replace that of an earlier version.
            raise _later_version(self.name)
        if not exclusive:
            raise self._outdated()
        self._copy(path, path.with_name(f"{path.name}.before-{HEAD}"))
        os.chmod(path, 0o600)
        self._upgrade()

    def _create(self, path: Path) -> None:
        # Under another name until it has its tables: a file without them is not ours.
        fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
        for left in path.parent.glob(f".{path.name}.{'[0-9a-f]' * 8}.new*"):
            left.unlink()
        create(fresh).close()
        try:
            engine = self._engine(sa.URL.create("sqlite", database=str(fresh)))
            with engine.connect() as connection, connection.begin():
                # As the migrations make them, which take longer to load than to run.
                metadata.create_all(connection)
                connection.execute(sa.insert(version), {"version_num": HEAD})
            engine.dispose()
            os.replace(fresh, path)
            sync_folder(path.parent)
        finally:
            for end in ("", *_ENDS):
                fresh.with_name(fresh.name + end).unlink(missing_ok=True)

    def _copy(self, path: Path, copy: Path) -> None:
        """Copy the database as it is before its tables are changed."""
        fresh = copy.with_name(f".{copy.name}.{secrets.token_hex(4)}.new")
        create(fresh).close()
        try:
            with (
                closing(sqlite3.connect(path)) as source,
                closing(sqlite3.connect(fresh)) as target,
            ):
                source.backup(target)
            os.replace(fresh, copy)
            sync_folder(copy.parent)
        finally:
            fresh.unlink(missing_ok=True)

    # -- versions

    def _upgrade(self) -> None:
        with self.engine.connect() as connection:
            _migrate(connection)

    def _check_version(self) -> None:
        with self.engine.connect() as connection:
            there = sa.inspect(connection).has_table("alembic_version")
            query = "SELECT version_num FROM alembic_version"
            version = connection.exec_driver_sql(query).scalar() if there else None
        if version is not None and str(version) > HEAD:
            raise _later_version(self.name)
        if version != HEAD:
            raise self._outdated()

    def _outdated(self) -> JournalError:
        return JournalError(
            f"the tables in {self.name} are not those of this version of pop3connect",
            remedy=Remedy("run: pop3connect database upgrade"),
        )

    @classmethod
    def upgrade(cls, database: Path | str) -> None:
        """
        Bring the tables up to date, or make them.

        For an SQLite file, the caller holds the lock of its folder.

        :raises JournalError: that was not possible.
        """
        url = _url(database)
        if url.get_backend_name() == "sqlite":
            cls(database, exclusive=True, wall=float).engine.dispose()
            return
        self = cls.__new__(cls)
        self.name = _shown(url)
        self.file = None
        self.engine = self._engine(url)
        with self.errors():
            self._upgrade()

    # -- connections

    def _engine(self, url: sa.URL) -> sa.Engine:
        try:
            # Each thread has one connection, for as long as it lives.
            engine = sa.create_engine(
                url,
                poolclass=sa.pool.NullPool,
                # Users, subjects and whole messages are not for logs.
                hide_parameters=True,
                connect_args=_arguments(url),
            )
        except ModuleNotFoundError as error:
            raise JournalError(
                f"the database {self.name} needs the Python package {error.name}",
                remedy=Remedy(literal(f"run: pip install {error.name}")),
            ) from error
        except sa.exc.NoSuchModuleError as error:
            raise JournalError(
                f"SQLAlchemy does not know the driver of the database {self.name}",
                remedy=Remedy("begin its URL with postgresql+psycopg://"),
            ) from error
        if self.file is not None:
            sa.event.listen(engine, "connect", self._set_up)
            sa.event.listen(engine, "begin", _begin)
        return engine

    def _set_up(self, connection: sqlite3.Connection, record: object) -> None:
        # Transactions begin where `_begin` says, and not where Python guesses.
        connection.isolation_level = None
        connection.create_function(NOW_FUNCTION, 0, self._wall)
        assert self.file is not None
        network = is_network(file_system(self.file.parent))
        for pragma in (
            f"busy_timeout = {int(BUSY_TIMEOUT * 1000)}",
            f"journal_mode = {'DELETE' if network else 'WAL'}",
            # A transaction is on disk when it is committed; EXTRA: the removal of the
            # file beside the database, which commits it without WAL, is so too.
            f"synchronous = {'EXTRA' if network else 'FULL'}",
            # For macOS, where fsync does not wait for the disk.
            "fullfsync = ON",
            "checkpoint_fullfsync = ON",
            "foreign_keys = ON",
            "trusted_schema = OFF",
            "temp_store = MEMORY",
            "journal_size_limit = 67108864",
        ):
            connection.execute(f"PRAGMA {pragma}")

    # -- errors

    def explain(self, error: BaseException) -> JournalError | None:
        """
        Return the error of a whole database, for people.

        :return: ``None``: the error concerns a single operation.
        """
        if isinstance(error, JournalError) or not isinstance(error, _DATABASE):
            return None
        if isinstance(error, _OPERATION):
            return None
        text = str(getattr(error, "orig", None) or error)
        other = ("", JournalError, f"failed: {text}", "")
        cause = next((cause for cause in _CAUSES if cause[0] in text), other)
        if cause[1] is JournalError and self._little_space():
            cause = _FULL
        _, kind, what, remedy = cause
        found = kind(
            f"the journal {self.name} {what}",
            remedy=Remedy(literal(remedy)) if remedy else None,
        )
        found.__cause__ = error
        return found

    def _little_space(self) -> bool:
        if self.file is not None:
            with suppress(OSError):
                return shutil.disk_usage(self.file.parent).free < LITTLE_SPACE
        return False


_KINDS = ("sqlite", "postgresql")

# What `Connection.info` holds: whether its commits wait for the disk, and whether it
# has a write-ahead log.
_WAITS = "pop3connect waits"
_WAL = "pop3connect wal"

_ENDS = ("-wal", "-shm", "-journal")

_DATABASE = (sa.exc.DBAPIError, sqlite3.Error)

_OPERATION = (
    sa.exc.DataError,
    sa.exc.IntegrityError,
    sa.exc.NotSupportedError,
    sa.exc.ProgrammingError,
)

_Cause = tuple[str, type[JournalError], str, str]

_FULL: _Cause = (
    "is full",
    StorageFullError,
    "cannot be written: the disk is full",
    "free some space; nothing is retrieved or deleted meanwhile",
)

_DAMAGED: tuple[type[JournalError], str, str] = (
    DamagedError,
    "is damaged",
    "stop the collector, keep a copy of the file, and restore a backup or run "
    "sqlite3's .recover; without the file, all mail on the servers counts as new",
)

# A part of the text of SQLite's error, and what it means.  Python 3.10 does not have
# the number of the error.
_CAUSES: tuple[_Cause, ...] = (
    _FULL,
    ("malformed", *_DAMAGED),
    ("not a database", *_DAMAGED),
    (
        "readonly",
        JournalError,
        "cannot be written",
        "check the permissions of the file, of those beside it whose names end in -wal "
        "and -shm, and of the folder, and whether the file system is mounted read-only",
    ),
    (
        "locked",
        JournalError,
        "is locked by another program that does not release it",
        "end that program, such as a shell of sqlite3 with an open transaction",
    ),
    (
        "unable to open",
        JournalError,
        "cannot be opened",
        "check the permissions of the file and its folder",
    ),
    (
        "disk I/O error",
        JournalError,
        "cannot be read or written: the disk reports an error",
        "see the log of the system (dmesg)",
    ),
)


def _url(database: Path | str) -> sa.URL:
    if isinstance(database, str) and "://" in database:
        try:
            url = sa.make_url(database)
        except (sa.exc.ArgumentError, ValueError):
            # The text is not repeated: it may hold a password.
            raise JournalError("the URL of the database cannot be understood") from None
        if url.get_backend_name() not in _KINDS:
            raise JournalError(
                f"the journal cannot be in the database {_shown(url)}",
                remedy=Remedy("give the URL of a PostgreSQL, or none for SQLite"),
            )
        return url
    return sa.URL.create("sqlite", database=str(database))


def sqlite_file(database: Path | str) -> Path | None:
    """
    Return the file of an SQLite database; ``None``: it is another database.

    :param database: its path, or a URL.
    :raises JournalError: it cannot be used.
    """
    url = _url(database)
    if url.get_backend_name() != "sqlite":
        return None
    if not url.database or url.database == ":memory:":
        raise JournalError("the journal must be a file, not in memory")
    return Path(url.database).absolute()


def _shown(url: sa.URL) -> str:
    """Return a URL for people: without its password, and options may hold one too."""
    return url.set(query={}).render_as_string(hide_password=True)


def _arguments(url: sa.URL) -> dict[str, Any]:
    if url.get_backend_name() != "sqlite":
        return {}
    # A connection that is not a `Worker`'s is closed by any thread.
    return {"timeout": BUSY_TIMEOUT, "check_same_thread": False}


def _begin(connection: sa.Connection) -> None:
    reading = connection.get_execution_options().get("reading")
    # A writer that begins as a reader could fail later, when another has written.
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def _examine(path: Path) -> str:
    """
    Return the version of the tables in a file, which is not changed.

    :raises DamagedError: it is not a database, or damaged.
    """
    size = path.stat().st_size
    if size == 0:
        raise DamagedError(
            f"the journal {path} is empty",
            remedy=Remedy(
                "restore a backup, or remove the file to begin with an empty journal: "
                "then all mail on the servers counts as new"
            ),
        )
    name = f"file:{quote(os.fsencode(path))}?mode=ro"
    with closing(sqlite3.connect(name, uri=True, timeout=BUSY_TIMEOUT)) as connection:
        # Damage first: nothing else can be relied on in a damaged file.
        check = "quick_check(1)" if size <= CHECK_LIMIT else "schema_version"
        (found,) = connection.execute(f"PRAGMA {check}").fetchone()
        if check != "schema_version" and found != "ok":
            raise sqlite3.DatabaseError(f"malformed: {found}")
        try:
            row = connection.execute(
                "SELECT version_num FROM alembic_version"
            ).fetchone()
        except sqlite3.OperationalError as error:
            if "no such table" not in str(error):
                raise
            row = None
    if row is None:
        raise JournalError(
            f"{path} is not a journal of pop3connect",
            remedy=Remedy("choose another state folder"),
        )
    return str(row[0])


def _migrate(connection: sa.Connection) -> None:
    # Imported here: most starts need none of it.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    # "%" begins a substitution in its configuration.
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        with connection.begin():
            command.upgrade(config, "head")
    except CommandError as error:
        raise _later_version(str(connection.engine.url.database)) from error


def _later_version(name: str) -> JournalError:
    return JournalError(
        f"the journal {name} was written by a later version of pop3connect",
        remedy=Remedy("install that version"),
    )


def file_system(folder: Path, mounts: str = "/proc/self/mountinfo") -> str:
    """Return the type of the file system of a folder; ``""``: that is not known."""
    best, found = "", ""
    with suppress(OSError, IndexError):
        real = os.path.realpath(folder)
        for line in Path(mounts).read_text("utf-8", "surrogateescape").splitlines():
            before, _, after = line.partition(" - ")
            point = before.split(" ")[4].replace("\\040", " ")
            inside = real == point or real.startswith(point.rstrip("/") + "/")
            # The last of several mounts on the same folder covers the others.
            if inside and len(point) >= len(best):
                best, found = point, after.split(" ")[0]
    return found


def is_network(kind: str) -> bool:
    """Return whether a type of file system is one of a network."""
    return kind in NETWORK
