"""
``database``: the tables of a collector's journal.
"""

from __future__ import annotations

from contextlib import ExitStack

import click

from ..collect.lock import FolderLock
from .administering import Place, journal_options
from .exits import Exit
from .output import echo
from .running import report

__all__ = ["database_group"]


@click.group("database")
def database_group() -> None:
    """Make or update the tables of a collector."""


@database_group.command("upgrade")
@journal_options
def upgrade_database(place: Place) -> None:
    """
    Bring the tables up to date, or make them in an empty database.

    A collector does that itself with SQLite, after a copy. With another database it
    does not start until this command has run.
    """

    def work() -> int:
        where = place.find()
        from ..collect.database import Database, sqlite_file

        file = sqlite_file(where)
        with ExitStack() as stack:
            if file is not None:
                # No collector may use the file meanwhile.
                stack.callback(FolderLock.take(file.parent).release)
            Database.upgrade(where)
        echo("the tables are up to date")
        return Exit.DONE

    report(work)
