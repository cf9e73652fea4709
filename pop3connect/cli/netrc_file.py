"""
Finds a password in a netrc file, as ftp, curl and fetchmail read it.
"""

from __future__ import annotations

import io
import os
import re
import stat
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import TextIO

import click

from ..redaction import Secret

__all__ = ["DEFAULT_FILE", "password_in"]

DEFAULT_FILE = "~/.netrc"

_HINT = "; to read ~/.netrc, give --netrc after the arguments"


_COMMENT = re.compile(r"^[ \t]*#.*", re.MULTILINE)

_Hosts = dict[str, tuple[str, str | None, str | None]]


class _Entries(_Hosts):
    """
    All entries of a file: Python's own dictionary keeps the last one of a machine.

    :ivar every: machine, login and password of each.
    """

    def __init__(self) -> None:
        super().__init__()
        self.every: list[tuple[str, str, Secret]] = []

    def __setitem__(
        self, machine: str, entry: tuple[str, str | None, str | None]
    ) -> None:
        super().__setitem__(machine, entry)
        # An entry is empty at first.
        if entry:
            login, _, password = entry
            self.every.append((machine, login or "", Secret(password or "")))


class _Netrc(netrc):
    """A file that is read with each of its entries."""

    def __init__(self, file: str) -> None:
        self.entries = _Entries()
        super().__init__(file)

    def _parse(self, file: str, lines: TextIO, default_netrc: bool) -> None:
        # Python does not understand a comment of several words behind an empty line,
        # and 3.10 none within an entry.  A line that is quite empty would end a macro.
        text = _COMMENT.sub(" ", lines.read())
        super()._parse(file, io.StringIO(text), False)  # type: ignore[misc]

    @property
    def hosts(self) -> _Hosts:
        """The entries; Python's class fills them."""
        return self.entries

    @hosts.setter
    def hosts(self, value: _Hosts) -> None:
        # An empty dictionary, for which there is a better one.
        pass


def password_in(file: str, host: str, user: str) -> Secret:
    """
    Return the password of a user at a host.

    The entry ``default`` does not count: it would send its password to any server.

    :param file: ``""``: the one in the environment variable ``NETRC``, or `~/.netrc`.
    :raises click.UsageError: there is none, or the file cannot be used.
    """
    given = file or os.environ.get("NETRC") or DEFAULT_FILE
    try:
        path = Path(given).expanduser()
    except RuntimeError:
        raise click.UsageError(
            f"--netrc: {given}: the home folder is not known; give the file's whole "
            "path"
        ) from None
    _check(path, _HINT if file else "")
    entries = _read(path)
    same = [one for one in entries if one[0].casefold() == host.casefold()]
    for _, login, password in same:
        if login == user and password:
            return password
    logins = ", ".join(dict.fromkeys(login for _, login, _ in same if login))
    there = f"it has those of: {logins}" if logins else "it has no entry for this host"
    raise click.UsageError(
        f"{path} has no password of {user} for {host}; {there}; write: machine {host} "
        f"login {user} password ..."
    )


def _check(path: Path, hint: str) -> None:
    """Refuse a file that is missing, or that other users may read."""
    try:
        status = path.stat()
    except OSError as error:
        raise click.UsageError(
            f"--netrc: {path} cannot be read: {error.strerror}{hint}"
        ) from None
    if not stat.S_ISREG(status.st_mode):
        raise click.UsageError(f"--netrc: {path} is not a file{hint}")
    if os.name != "posix":
        return
    if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise click.UsageError(
            f"--netrc: other users may read {path}, which has passwords in it; run: "
            f"chmod 600 {path}"
        )
    if status.st_uid not in (os.getuid(), 0):
        raise click.UsageError(f"--netrc: {path} belongs to another user")


def _read(path: Path) -> list[tuple[str, str, Secret]]:
    # Errors are raised outside of "except": those of Python repeat what they could not
    # understand, which may be a password.
    try:
        return _Netrc(str(path)).entries.every
    except NetrcParseError as error:
        problem = f"line {error.lineno} is not as in a netrc file"
    except UnicodeDecodeError:
        problem = "it is not UTF-8"
    except OSError as error:
        problem = f"it cannot be read: {error.strerror}"
    raise click.UsageError(f"--netrc: {path}: {problem}")
