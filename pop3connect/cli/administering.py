"""
What the commands for administrators of the collector share: which journal they work on.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import update_wrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import click
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from .exits import NotFoundError

if TYPE_CHECKING:
    from ..collect.journal import Journal
    from ..collect.records import AccountRow
    from ..collect.settings import Config

__all__ = [
    "Place",
    "existing",
    "journal_options",
    "result_of",
]

T = TypeVar("T")


@attrs.frozen
class Place:
    """
    Where a journal is.

    :ivar file: the configuration of the collector; ``None``: `database` alone counts.
    :ivar database: its URL, or the path of an SQLite file; ``""``: the configuration
        says it.
    """

    file: Path | None
    database: str = attrs.field(repr=False)

    def config(self) -> Config:
        """
        Return the configuration.

        :raises UsageError: it cannot be used.
        :raises click.UsageError: none was given.
        """
        from ..collect.config import read_config

        if self.file is None:
            raise click.UsageError("--config FILE is needed for this")
        return read_config(self.file, database=self.database)

    def find(self) -> Path | str:
        """
        Return the path of the SQLite file, or the URL.

        :raises UsageError: the configuration cannot be used.
        :raises NotFoundError: the SQLite file does not exist, or is a folder.
        """
        place: Path | str
        if self.file is not None:
            place = self.config().journal
        elif "://" in self.database:
            place = self.database
        else:
            place = Path(self.database)
        from ..collect.database import sqlite_file

        journal = sqlite_file(place)
        if journal is not None and os.path.isdir(journal):
            # It may be full of mail, so there is no advice to remove it.
            raise NotFoundError(
                f"{journal} is a folder, not a journal; give the path of a file: the "
                "collector and fetch call it collect.db"
            )
        if journal is not None and not journal.exists():
            # It would be made, and look like a collector without accounts.
            raise NotFoundError(
                f"the journal {journal} does not exist; the collector makes it when it "
                "starts"
            )
        return place

    def state(self) -> Path | None:
        """
        Return the folder with the copies of messages; ``None``: it is not known.

        Without a configuration it is that of the SQLite file, as ``fetch`` has it.
        """
        if self.file is not None:
            return self.config().state
        if "://" in self.database:
            return None
        folder = Path(self.database).absolute().parent
        return folder if (folder / "spool").is_dir() else None

    @contextmanager
    def open(self) -> Iterator[Journal]:
        """
        Open the journal beside a collector that may be running.

        Its Deferreds have their results at once: see `result_of`.

        :raises POP3Error: as `find`, or the database cannot be opened.
        """
        place = self.find()
        from ..collect.journal import Journal

        journal = result_of(Journal.open(place, None, socket.gethostname()))
        try:
            yield journal
        finally:
            result_of(journal.close())


def journal_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that name the journal; the first argument is the `Place`."""

    def command(**values: Any) -> Any:
        file, database = values.pop("config"), values.pop("database")
        if file is None and not database:
            raise click.UsageError("give --config FILE or --database URL")
        return function(Place(file, database), **values)

    wrapped: Callable[..., Any] = update_wrapper(command, function)
    options = (
        click.option(
            "--config",
            "-c",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="The configuration of the collector.",
        ),
        click.option(
            "--database",
            default="",
            envvar="POP3CONNECT_DATABASE",
            metavar="URL",
            help="The database, if the configuration does not name it.",
        ),
    )
    for option in reversed(options):
        wrapped = option(wrapped)
    return wrapped


def result_of(deferred: Deferred[T]) -> T:
    """Return the result of a Deferred that has one, or raise its error."""
    results: list[T | Failure] = []
    deferred.addBoth(results.append)
    [result] = results
    if isinstance(result, Failure):
        result.raiseException()
    return result


def existing(journal: Journal, names: Sequence[str]) -> list[AccountRow]:
    """
    Return the accounts with these names, or all if no name is given.

    :raises NotFoundError: one of them does not exist.
    """
    rows = result_of(journal.accounts(names or None))
    missing = set(names) - {row.name for row in rows}
    if missing:
        there = ", ".join(sorted(row.name for row in result_of(journal.accounts())))
        raise NotFoundError(
            f"the account {', '.join(sorted(missing))} does not exist; the journal "
            + (f"has: {there}" if there else "has no accounts")
        )
    return rows
