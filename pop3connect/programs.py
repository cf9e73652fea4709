"""
Runs a program of the user's, with an end to it: its whole process group is ended at a
time limit, and the secrets in our environment are kept from it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

__all__ = [
    "GRACE",
    "MAX_OUTPUT",
    "RunError",
    "find_program",
    "last_line",
    "run",
    "safe_environment",
]

GRACE = 5.0
"""Seconds between SIGTERM and SIGKILL, and then until the program is given up."""

LINGER = 1.0
"""Seconds for its last output, if one of its child processes holds the pipes open."""

MAX_OUTPUT = 64 * 1024
"""Bytes of output that are kept.  A token has a few thousand."""

MAX_LAST_LINE = 300
"""Bytes of the last line of a failed program's errors that are worth showing."""

OUR_SECRETS = ("POP3CONNECT_PASSWORD", "POP3CONNECT_DATABASE")
"""Variables of our own that hold a password, or may hold one."""


class RunError(Exception):
    """
    The program failed; the message says how it ended, without its output.

    :ivar status: its exit status; ``None`` if it has none: it was ended by a signal,
        or not started.
    :ivar started: ``False``: there is no such program, or it could not be started.
    :ivar expired: whether it took longer than its time limit.
    :ivar errors: the beginning and the end of its standard error.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        started: bool = True,
        expired: bool = False,
        errors: bytes = b"",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.started = started
        self.expired = expired
        self.errors = errors


def find_program(name: str, folder: Path, environment: Mapping[str, str]) -> str:
    """
    Return the path of a program.

    :param folder: where a name with a slash is looked for.
    :raises RunError: it is not there.
    """
    where = str(folder / name) if Path(name).name != name else name
    program = shutil.which(where, path=environment.get("PATH"))
    if program is None:
        raise RunError(
            f"{name}: there is no such program, or this user may not run it",
            started=False,
        )
    return program


def safe_environment(secrets: Iterable[str]) -> dict[str, str]:
    """
    Return our environment without the passwords in it.

    :param secrets: the variables of the configuration that hold passwords;
        `OUR_SECRETS` are removed as well.
    """
    hidden = {*secrets, *OUR_SECRETS}
    return {name: text for name, text in os.environ.items() if name not in hidden}


def last_line(errors: bytes) -> str:
    """Return the last line that a program wrote, short and printable; or ``""``."""
    raise NotImplementedError


async def run(
    reactor: Any,
    command: Sequence[str],
    *,
    folder: Path,
    environment: Mapping[str, str],
    limit: float,
    stdin: BinaryIO | None = None,
) -> bytes:
    """
    Run a program to its end; cancelling ends it, and waits until it has.

    It runs in a process group of its own.  At the time limit all of the group get
    SIGTERM and, `GRACE` seconds later, SIGKILL.

    :param folder: where it runs, and where a name with a slash is looked for.
    :param limit: seconds it may take.
    :param stdin: a file with a descriptor, read from its present position, that the
        program gets as its standard input; default: an empty one.  It may be closed
        as soon as the first `await` has been reached.
    :return: the beginning of its standard output.
    :raises RunError: it is not there, took too long, or its exit status was not 0.
    """
    raise NotImplementedError
