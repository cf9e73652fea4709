"""
Finds the password of a watched account: at each login again, so it may change.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from .errors import UsageError
from .redaction import Secret, SecretBytes, first_line
from .watch_config import PasswordSource, WatchConfig
from .watch_run import RunError, find_program, run

__all__ = ["EXPOSED", "PASSWORD_TIMEOUT", "check_passwords", "exposed", "find_password"]

EXPOSED = "everybody on this machine may read it, and there is a password in it"

PASSWORD_TIMEOUT = 60
"""Seconds for ``password_command``."""


def find_password(
    source: PasswordSource, folder: Path, reactor: Any
) -> Callable[[], Awaitable[str]]:
    """
    Return the password function for `connect`.

    It fails with `UsageError` if the password cannot be found.
    """
    return partial(_ask, source, folder, reactor)


def check_passwords(config: WatchConfig) -> None:
    """
    Check that the passwords can be found, without running commands.

    :raises UsageError: a password cannot be found.
    """
    for account in config.accounts:
        source = account.password
        try:
            if source.key == "password_command":
                find_program(source.value[0], config.folder, os.environ)
            else:
                _password(_kept(source))
        except _TROUBLE as error:
            why = _why(error)
        else:
            continue
        raise UsageError(f"{config.file}: account {account.name}: {source.key}: {why}")


def exposed(config: WatchConfig) -> list[Path]:
    """Return the files with passwords that every user may read."""
    if os.name != "posix":
        return []
    files: dict[Path, None] = {}
    for account in config.accounts:
        if account.password.key == "password":
            files[config.file] = None
        elif account.password.key == "password_file":
            files[account.password.value] = None
    return [file for file in files if _is_exposed(file)]


def _is_exposed(file: Path) -> bool:
    with suppress(OSError):
        return bool(file.stat().st_mode & stat.S_IROTH)
    return False


async def _ask(source: PasswordSource, folder: Path, reactor: Any) -> str:
    try:
        if source.key == "password_command":
            # A traceback that shows local variables must not show the password.
            output = SecretBytes(
                await run(
                    reactor,
                    source.value,
                    folder=folder,
                    environment=os.environ,
                    limit=PASSWORD_TIMEOUT,
                )
            )
            return _password(output.decode())
        return _password(_kept(source))
    except _TROUBLE as error:
        # Not as the cause, and not in full: a part of the password may be in it.
        why = _why(error)
    raise UsageError(f"{source.key}: {why}; no login was tried")


def _kept(source: PasswordSource) -> str:
    """Return the text in the configuration, the variable or the file."""
    text: str = source.value
    if source.key == "password_env":
        return os.environ.get(text, "")
    if source.key == "password_file":
        # Not as text, where Python takes a lone CR for the end of a line.
        return Path(text).read_bytes().decode("utf-8")
    return text


def _password(text: str) -> Secret:
    secret = first_line(text)
    if not secret:
        raise EOFError("there is nothing in it")
    return secret


_TROUBLE = (OSError, UnicodeError, RunError, EOFError)


def _why(error: Exception) -> str:
    return "it is not UTF-8" if isinstance(error, UnicodeError) else str(error)
