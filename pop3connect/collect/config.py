"""
The configuration file of the collector: TOML in, frozen values out.

Everything is checked here, before the first connection: each error names the file, the
account or destination and the key, and says what to write instead.
"""

from __future__ import annotations

from pathlib import Path

from .settings import AccountSettings, Config, DestinationSettings, PasswordSource

__all__ = [
    "AccountSettings",
    "Config",
    "DestinationSettings",
    "PasswordSource",
    "check_config",
    "read_config",
    "warnings",
]


def read_config(file: Path, *, database: str = "") -> Config:
    """
    Read and check a configuration.

    :param database: its URL, from the command line.  Without, that of the environment
        variable ``POP3CONNECT_DATABASE`` counts, then that in the file.
    :raises UsageError: the file cannot be read, or something in it cannot be used.
    """
    raise NotImplementedError


def check_config(config: Config) -> None:
    """
    Check what a configuration names: passwords, programs, functions, folders.

    Nobody logs in, no program runs, and nothing is made.

    :raises UsageError: something is missing or cannot be used.
    """
    raise NotImplementedError


def warnings(config: Config) -> list[str]:
    """Return what is allowed and probably not meant, such as an exposed password."""
    raise NotImplementedError
