"""
Finds the password of an account: at each login again, so it may change.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .settings import AccountSettings, Password

__all__ = ["PASSWORD_TIMEOUT", "check_password", "exposed", "password_for"]

PASSWORD_TIMEOUT = 60.0
"""Seconds for ``password_command``."""


def password_for(
    settings: AccountSettings,
    folder: Path,
    reactor: Any,
    secrets: Iterable[str] = (),
) -> Password:
    """
    Return the password function for `Connector.connect`.

    It fails with `UsageError` if the password cannot be found.

    :param folder: where programs run.
    :param secrets: the environment variables that programs do not get.
    """
    raise NotImplementedError


def check_password(settings: AccountSettings, folder: Path) -> None:
    """
    Check that a password can be found, without running a program.

    :raises UsageError: it cannot.
    """
    raise NotImplementedError


def exposed(settings: AccountSettings, file: Path | None) -> Path | None:
    """
    Return the file with the password of an account, if every user may read it.

    :param file: the configuration, which may have the password itself in it.
    """
    raise NotImplementedError
