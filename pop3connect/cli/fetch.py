"""
``fetch``: mail from the server into a Maildir, an mbox or a program.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Sequence
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import attrs
import click

from ..collect.units import read_seconds
from ..garbage import few_searches
from .access import Access, access_options
from .numbers import NUMBERS, Range, WholeNumber
from .passwords import read_password
from .running import finish

__all__ = ["Job", "fetch_command"]

_DAY = 24 * 3600


@attrs.frozen
class Job:
    """
    What to fetch, and where to.

    :ivar kind: ``"maildir"``, ``"mbox"`` or ``"command"``.
    :ivar command: the program and its arguments, for ``"command"``.
    :ivar after: what becomes of a message on the server: ``"keep"``, ``"delete"``, or
        after how many seconds it is deleted.
    :ivar newer_than: seconds; older messages are left.
    :ivar state: where the journal is; ``None``: beside the target.
    """

    access: Access
    target: Path
    kind: str
    command: tuple[str, ...]
    numbers: Sequence[list[Range]]
    after: str | float
    state: Path | None
    max_size: int | None
    max_messages: int | None
    newer_than: float | None
    match: Sequence[str]
    skip: Sequence[str]
    crlf: bool


class _Place(click.Path):
    """A path that is not empty, as an unset variable of a shell is."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        """Read an argument."""
        if not os.fspath(value):
            self.fail("it is empty; the current folder is .", param, ctx)
        return super().convert(value, param, ctx)


class _Format(click.ParamType):  # type: ignore[type-arg]
    """The kind of a target, and the command if it is one."""

    name = "format"

    def get_metavar(self, *arguments: Any, **named: Any) -> str:
        """Return what the help shows."""
        return "[maildir|mbox|command:PROGRAM]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, tuple[str, ...]]:
        """Read an argument."""
        kind, _, program = str(value).partition(":")
        if value in ("maildir", "mbox"):
            return kind, ()
        try:
            words = tuple(shlex.split(program)) if kind == "command" else ()
        except ValueError as error:
            self.fail(f"{value!r}: {error}", param, ctx)
        if not words or "\0" in program:
            self.fail(
                f"{value!r} is not maildir, mbox or command:PROGRAM, such as "
                "'command:sort-mail --in archive'",
                param,
                ctx,
            )
        return kind, words


class _Pattern(click.ParamType):  # type: ignore[type-arg]
    """A pattern for a header field."""

    name = "pattern"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        """Check an argument."""
        # Not at the top: other commands need no patterns.
        from ..collect.rules import HeaderPattern

        if HeaderPattern.parse(str(value)) is None:
            self.fail(f"{value!r} is not like 'From: *@example.org'", param, ctx)
        return str(value)


class _Since(click.ParamType):  # type: ignore[type-arg]
    """A date or a duration; its value is how many seconds ago that was."""

    name = "since"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Read an argument."""
        seconds = read_seconds(str(value))
        if seconds is None:
            try:
                # Without a zone: in that of this computer.
                seconds = time.time() - datetime.fromisoformat(str(value)).timestamp()
            except (ValueError, OverflowError, OSError):
                seconds = -1.0
        if not 1 <= seconds <= 36500 * _DAY:
            self.fail(
                f"{value!r} is not a date in the past such as 2026-01-31, or a "
                "duration such as '7 days'",
                param,
                ctx,
            )
        return seconds


@click.command("fetch")
@access_options
@click.argument("target", type=_Place(path_type=Path))
@click.argument("numbers", nargs=-1, type=NUMBERS)
@click.option(
    "--format",
    "kind",
    type=_Format(),
    help="Default: mbox if TARGET is a file, else maildir. PROGRAM gets each message on"
    " its standard input; TARGET is then the folder for the journal.",
)
@click.option(
    "--keep/--delete",
    default=None,
    help="Whether messages stay on the server once they are on disk. Default: --keep.",
)
@click.option(
    "--delete-after",
    type=WholeNumber(1),
    metavar="DAYS",
    help="Delete messages this many days after they were fetched.",
)
@click.option(
    "--new-since",
    type=_Since(),
    metavar="WHEN",
    help="Leave older messages: a date such as 2026-01-31, or such as '7 days'.",
)
@click.option(
    "--match",
    type=_Pattern(),
    multiple=True,
    metavar="PATTERN",
    help="Fetch only messages with such a header, like 'From: *@example.org'; may be"
    " given several times.",
)
@click.option(
    "--skip",
    type=_Pattern(),
    multiple=True,
    metavar="PATTERN",
    help="Leave messages with such a header; may be given several times.",
)
@click.option(
    "--max-size",
    type=WholeNumber(1),
    metavar="OCTETS",
    help="Leave larger messages on the server.",
)
@click.option(
    "--max-messages",
    type=WholeNumber(1),
    metavar="N",
    help="Fetch this many messages at most; the next run continues.",
)
@click.option(
    "--state",
    type=_Place(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Where the journal is. Default: in a hidden folder beside TARGET.",
)
@click.option(
    "--crlf", is_flag=True, help="Maildir: keep the line ends of the server, CRLF."
)
def fetch_command(
    access: Access,
    target: Path,
    numbers: Sequence[list[Range]],
    kind: tuple[str, tuple[str, ...]] | None,
    keep: bool | None,
    delete_after: int | None,
    new_since: float | None,
    match: Sequence[str],
    skip: Sequence[str],
    max_size: int | None,
    max_messages: int | None,
    state: Path | None,
    crlf: bool,
) -> None:
    """
    Fetch mail into TARGET, a Maildir or an mbox file.

    A journal beside TARGET remembers the messages: the same command again fetches only
    new messages, and continues an interrupted run. With --delete, messages that an
    earlier run has fetched are deleted as well.

    NUMBERS are like 3, 2-5 or 7-; default: all.
    """
    name, command = kind or ("mbox" if os.path.isfile(target) else "maildir", ())
    if crlf and name != "maildir":
        raise click.UsageError("--crlf is for a Maildir; lines in an mbox end with LF")
    if state is not None and name == "command":
        raise click.UsageError(
            "leave out --state: with --format command:PROGRAM, TARGET is the folder for"
            " the journal"
        )
    if find_spec("sqlalchemy") is None or find_spec("alembic") is None:
        raise click.UsageError(
            "fetch keeps its journal with SQLAlchemy and Alembic, which are not "
            "installed: pip install 'pop3connect[cli]'"
        )
    job = Job(
        access=access,
        target=target.absolute(),
        kind=name,
        command=command,
        numbers=numbers,
        after=_after(access, keep, delete_after),
        state=state,
        max_size=max_size,
        max_messages=max_messages,
        newer_than=new_since,
        match=match,
        skip=skip,
        crlf=crlf,
    )
    password = read_password(access)

    async def work(reactor: Any) -> int:
        # Not at the top: it imports a database, which other commands do not need.
        with few_searches():
            from .fetching import fetch

        return await fetch(job, password, reactor)

    finish(work, access.output)


def _after(access: Access, keep: bool | None, delete_after: int | None) -> str | float:
    if delete_after is not None and keep is not None:
        raise click.UsageError("give --keep, --delete or --delete-after, not two")
    if delete_after is not None:
        return float(delete_after * _DAY)
    if keep is not None:
        return "keep" if keep else "delete"
    known = None if access.account is None else access.account.after
    return "keep" if known is None else known
