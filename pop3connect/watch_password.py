"""
Where a watch gets a password from: asked anew at each login, so it may change.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from .errors import UsageError
from .status import Secret
from .watch_config import PasswordSource
from .watch_run import RunError, run

__all__ = ["PASSWORD_TIMEOUT", "find_password"]

PASSWORD_TIMEOUT = 60
"""Seconds for ``password_command``."""


def find_password(
    source: PasswordSource, folder: Path, reactor: Any
) -> Callable[[], Awaitable[str]]:
    """
    Return what `connect` calls for the password.

    Calling it can fail with `UsageError`: the password cannot be had.
    """
    return partial(_ask, source, folder, reactor)


async def _ask(source: PasswordSource, folder: Path, reactor: Any) -> str:
    if source.key == "password":
        return Secret(source.value)
    try:
        if source.key == "password_env":
            text = os.environ.get(source.value, "")
        elif source.key == "password_file":
            text = source.value.read_text(encoding="utf-8")
        else:
            output = await run(
                reactor,
                source.value,
                folder=folder,
                environment=os.environ,
                limit=PASSWORD_TIMEOUT,
            )
            text = output.decode()
    except (OSError, UnicodeError, RunError) as error:
        # Not as the cause, and not in full: there may be half a password in it.
        why = "it is not UTF-8" if isinstance(error, UnicodeError) else str(error)
    else:
        # What an editor or `pass` puts behind it is no part of it.
        secret = Secret(text.partition("\n")[0].removesuffix("\r"))
        if secret:
            return secret
        why = "there is nothing in it"
    raise UsageError(f"{source.key}: {why}; no login was tried")
