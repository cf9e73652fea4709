"""
The user's own accounts: ``pop3connect list @work``.

They are in a file of account tables, as the configuration of a collector has them, and
are read by the same code.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click
from click.shell_completion import CompletionItem

from ..errors import UsageError

if TYPE_CHECKING:
    # Not imported for a server that is named in the command.
    from ..collect.config import KnownAccount
    from ..collect.settings import AccountSettings, Password

__all__ = ["MARK", "NamedAccount", "accounts_file", "complete_server"]

MARK = "@"
"""What the name of an account begins with in place of a server."""

_EXAMPLE = '[[account]] with name = "work", server = "pop.example.com", user = "ada"'


def accounts_file() -> Path:
    """
    Return where the accounts are: in the folder for configurations of the user.

    :raises UsageError: the user's home folder is not known.
    """
    folder = os.environ.get("XDG_CONFIG_HOME", "")
    try:
        # A relative path has to be ignored (XDG Base Directory Specification).
        base = Path(folder) if os.path.isabs(folder) else Path.home() / ".config"
    except RuntimeError as error:
        raise UsageError(
            "the accounts are in ~/.config/pop3connect/accounts.toml, and the home "
            "folder of this user is not known; set HOME or XDG_CONFIG_HOME"
        ) from error
    return base / "pop3connect" / "accounts.toml"


def _same(value: Any) -> Any:
    return value


def _texts(values: Any) -> list[str]:
    return [str(value) for value in values]


def _duration(seconds: float) -> str:
    from ..collect.units import show_seconds

    return show_seconds(seconds)


_PARAMETERS: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "user": ("user", _same),
    "secure": ("secure", lambda secure: secure.name.lower()),
    "verify": ("verify", _same),
    "cacerts": ("cacerts", str),
    "system_trust": ("system_trust", _same),
    "client_certificate": ("client_certificate", str),
    "pins": ("pins", list),
    "crl": ("crl", str),
    "tls_minimum_version": ("minimum_version", _same),
    "tls_ciphers": ("ciphers", _same),
    "authorize_as": ("authorize_as", _same),
    "auth": ("auth", _same),
    "proxy": ("proxy", _same),
    "allow_cleartext": ("allow_cleartext", _same),
    "capa": ("capa", _same),
    "pipeline": ("pipeline", _same),
    "timeout": ("timeout", _same),
    "connect_timeout": ("connect_timeout", _same),
    # Those of `fetch`.
    "match": ("match", _texts),
    "skip": ("skip", _texts),
    "newer_than": ("new_since", _duration),
    "max_size": ("max_size", _same),
    "max_messages": ("max_messages", _same),
}
"""For each key of an account: the parameter of the command line, and its value there.

``after`` is missing: two options of `fetch` together say what it means."""


@attrs.frozen
class NamedAccount:
    """
    An account of the user's file.

    :ivar secrets: the environment variables in which accounts have their passwords.
    """

    file: Path
    known: KnownAccount
    secrets: frozenset[str]

    @classmethod
    def find(cls, name: str, file: Path) -> tuple[NamedAccount, list[str]]:
        """
        Return an account, and warnings about passwords that others may read.

        :raises UsageError: the account or the file does not exist, or cannot be used.
        """
        from ..collect.config import exposed_by, read_accounts
        from ..collect.settings import variables_of

        if not os.path.exists(file):
            raise UsageError(
                f"{MARK}{name} names an account, and the file {file} does not exist; "
                f"write it: {_EXAMPLE}, each on its own line"
            )
        accounts = {one.settings.name: one for one in read_accounts(file)}
        if name not in accounts:
            near = get_close_matches(name, accounts, 1)
            hint = f"did you mean {MARK}{near[0]}? " if near else ""
            raise UsageError(
                f"there is no account {name!r} in {file}; {hint}it has: "
                + ", ".join(MARK + each for each in accounts)
            )
        every = [one.settings for one in accounts.values()]
        exposures = dict.fromkeys(exposed_by(each, file) for each in every)
        found = cls(file, accounts[name], variables_of(every))
        return found, [*filter(None, exposures)]

    @property
    def settings(self) -> AccountSettings:
        """The account as a collector would have it."""
        return self.known.settings

    @property
    def defaults(self) -> dict[str, Any]:
        """The parameters of the command line, as far as the file says them."""
        return {
            parameter: shown(getattr(self.settings, key))
            for key, (parameter, shown) in _PARAMETERS.items()
            if key in self.known.given
        }

    @property
    def after(self) -> str | float | None:
        """What becomes of messages on the server; ``None``: the file says nothing."""
        return self.settings.after if "after" in self.known.given else None

    def has_password_of(self, user: str) -> bool:
        """Return whether the file says where the password of a user is."""
        return "password" in self.known.given and user == self.settings.user

    def password(self, reactor: Any) -> Password:
        """Return the function for `connect` that finds the password."""
        from ..collect.passwords import password_for

        return password_for(self.settings, self.file.parent, reactor, self.secrets)


def complete_server(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem[Any]]:
    """Return the accounts whose names begin as the user has begun."""
    if incomplete and not incomplete.startswith(MARK):
        return []
    from ..collect.config import read_accounts

    try:
        accounts = read_accounts(accounts_file())
    except UsageError:
        # A shell has no place for the error; the command itself shows it.
        return []
    return [
        CompletionItem(MARK + one.settings.name)
        for one in accounts
        if one.settings.name.startswith(incomplete.removeprefix(MARK))
    ]
