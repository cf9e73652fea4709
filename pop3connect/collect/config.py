"""
The configuration file of the collector: TOML in, frozen values out.

Everything is checked here, before the first connection: each error names the file, the
account or destination and the key, and says what to write instead.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import attrs

from ..errors import POP3Error, UsageError
from ..programs import RunError, find_program
from ..redaction import Secret
from .lock import private_folder
from .passwords import check_password, exposed
from .settings import (
    KINDS,
    PASSWORDS,
    AccountSettings,
    Config,
    DestinationSettings,
    PasswordSource,
    read_command,
)
from .wording import words

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = [
    "AccountSettings",
    "Config",
    "DestinationSettings",
    "KnownAccount",
    "PasswordSource",
    "check_config",
    "check_functions",
    "exposed_by",
    "read_accounts",
    "read_config",
    "warnings",
]

DATABASE_VARIABLE = "POP3CONNECT_DATABASE"

SHORT_INTERVAL = 30
"""Seconds between two looks, below which the configuration gives a warning: servers
consider more frequent logins an attack, or lock the account."""

_OWN = ("name", "user", "authorize_as", *PASSWORDS)
"""Keys that belong to one account."""

_NO_PASSWORD = f"password is missing: give one of {', '.join(PASSWORDS)}"

_COMMON = tuple(
    each.name
    for each in attrs.fields(AccountSettings)
    if each.name not in ("name", "user", "authorize_as", "password")
)
"""Keys of one account that may also be given above the accounts, for all of them."""

_SERVICE = (
    "state",
    "database",
    "sessions",
    "sessions_per_server",
    "lease",
    "spool_limit",
)

_PATHS = frozenset(
    {"state", "path", "cacerts", "client_certificate", "crl", "password_file"}
)
"""Keys with a path, which is relative to the folder of the configuration."""

_LATER = {
    "status": "the status page does not exist in this version: remove [status]",
}
"""Keys of a later version."""

_LATER_KINDS = ("webhook", "lmtp")

_FORMER = {
    "hook": 'a hook is a destination now, of kind "command" or "function", with '
    'fetch = "header"',
    "hook_timeout": "it is now the key timeout of a destination",
    "report_existing": 'write existing = "new" or existing = "seen"',
}
"""Keys of ``watch``, which came before the collector."""


# -- reading


def read_config(file: Path, *, database: str = "") -> Config:
    """
    Read and check a configuration.

    :param database: its URL, from the command line.  Without, that of the environment
        variable ``POP3CONNECT_DATABASE`` counts, then that in the file.
    :raises UsageError: the file cannot be read, or something in it cannot be used.
    """
    document = _document(file)
    database = database or os.environ.get(DATABASE_VARIABLE, "")
    if database:
        document["database"] = Secret(database)
    return _config(_Place(file), document)


@attrs.frozen
class KnownAccount:
    """
    An account of a file that has only accounts.

    :ivar given: the keys that the file has for it; the other settings are defaults.
        Without ``password`` among them, the file does not say where the password is.
    """

    settings: AccountSettings
    given: frozenset[str]


def read_accounts(file: Path) -> list[KnownAccount]:
    """
    Read and check a file with the accounts of a configuration, and nothing else.

    :raises UsageError: the file cannot be read, or something in it cannot be used.
    """
    document, place = _document(file), _Place(file)
    for key in (*_SERVICE, "destination"):
        if key in document:
            place.refuse(
                f"{key} belongs to the configuration of a collector: remove it; this "
                "file has accounts only"
            )
    _check_keys(place, document, ())
    common = _common(document)
    defaults = place.values(AccountSettings, common)
    accounts = []
    for number, table in enumerate(_tables(place, document), 1):
        settings = _account(place, number, table, defaults, alone=True)
        assert isinstance(table, dict)  # otherwise it was refused
        keys = {"password" if key in PASSWORDS else key for key in (*common, *table)}
        accounts.append(KnownAccount(settings, frozenset(keys)))
    # The names are checked there.
    place.make(Config, {"state": file, "accounts": [one.settings for one in accounts]})
    return accounts


def _document(file: Path) -> dict[str, Any]:
    """Return what a file of TOML has in it."""
    # Errors are raised outside of "except", and the text is hidden: they and the local
    # variables of a traceback would show the passwords in it.
    try:
        with open(file, encoding="utf-8-sig", opener=_open_at_once) as source:
            text = Secret(source.read())
        document: dict[str, Any] = _hidden(tomllib.loads(text))
    except OSError as error:
        message = f"cannot be read: {error.strerror}"
    except UnicodeDecodeError as error:
        message = f"byte {error.start} is not UTF-8, as TOML has to be"
    except (ValueError, RecursionError) as error:
        message = f"this is not TOML: {error}"
    else:
        return document
    raise UsageError(f"{file}: {message}")


def _open_at_once(path: str, flags: int) -> int:
    """
    Open a file; do not wait for the writer of a pipe.

    A shell's pipe is empty when the configuration is read again.
    """
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    if hasattr(os, "O_NONBLOCK"):
        os.set_blocking(descriptor, True)
    return descriptor


def _hidden(value: Any) -> Any:
    """
    Return a value with each str replaced by a `Secret`.

    A password may be in an unexpected place: a key can be misspelt.
    """
    if isinstance(value, str):
        return Secret(value)
    if isinstance(value, list):
        return [_hidden(each) for each in value]
    if isinstance(value, dict):
        return {key: _hidden(each) for key, each in value.items()}
    return value


@attrs.frozen
class _Place:
    """A table of the file, which an error is about."""

    file: Path
    table: str = ""

    @property
    def folder(self) -> Path:
        return self.file.absolute().parent

    def refuse(self, problem: str) -> NoReturn:
        where = [str(self.file), self.table]
        raise UsageError(": ".join([*filter(None, where), problem]))

    def only(self, table: Mapping[str, object], known: Iterable[str]) -> None:
        """Refuse unknown keys."""
        names = list(known)
        for key in table:
            if key in names:
                continue
            remedy = _LATER.get(key) or _FORMER.get(key)
            if remedy is None and key in (*_SERVICE, *_COMMON):
                # It is right, but a [table] has begun: TOML has no way back.
                remedy = "move it above the first [destination.NAME]"
            elif remedy is None:
                close = difflib.get_close_matches(key, names, 1)
                remedy = (
                    f"did you mean {close[0]}?"
                    if close
                    else f"the keys are {', '.join(names)}"
                )
            self.refuse(f"the key {key} does not exist here; {remedy}")

    def values(
        self, cls: type[attrs.AttrsInstance], table: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return what the keys of a table mean as fields of a class."""
        fields = attrs.fields_dict(cls)
        values = {}
        for key, value in table.items():
            problem = ""
            if key in _PATHS:
                value = self.path(key, value)
            try:
                # Each field has one: it says what the key means.
                convert: Any = fields[key].converter
                values[key] = convert(value)
            except UsageError as error:
                problem = error.message
            if problem:
                self.refuse(problem)
        return values

    def path(self, key: str, value: object) -> Path:
        """Return a path; a relative one starts at the folder of the file."""
        if not isinstance(value, str) or not value or not value.isprintable():
            self.refuse(f'{key} must be a path in quotes, such as "folder/file"')
        return self.folder / str(value)

    def make(self, cls: Any, values: Mapping[str, Any]) -> Any:
        """Return an object whose values were checked one by one."""
        try:
            return cls(**values)
        except UsageError as error:
            problem = error.message
        self.refuse(problem)


def _config(place: _Place, document: dict[str, Any]) -> Config:
    _check_keys(place, document, (*_SERVICE, "destination"))
    service = {key: document[key] for key in _SERVICE if key in document}
    if "state" not in service:
        place.refuse(
            "state is missing: the folder that remembers which mail was delivered, "
            'such as "/var/lib/pop3connect"'
        )
    values = place.values(Config, service)
    defaults = place.values(AccountSettings, _common(document))
    destinations = list(_destinations(place, document.get("destination")))
    accounts = [
        _account(place, number, table, defaults)
        for number, table in enumerate(_tables(place, document), 1)
    ]
    values = {
        **values,
        "accounts": accounts,
        "destinations": destinations,
        "file": place.file,
    }
    config: Config = place.make(Config, values)
    return attrs.evolve(
        config, accounts=[_complete(place, config, each) for each in accounts]
    )


def _check_keys(
    place: _Place, document: Mapping[str, object], more: Iterable[str]
) -> None:
    """Refuse keys that cannot be above the accounts."""
    for key in _OWN:
        if key in document:
            place.refuse(f"{key} belongs to one account: move it below its [[account]]")
    place.only(document, (*more, *_COMMON, "account"))


def _common(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that are above the accounts, for all of them."""
    return {key: document[key] for key in _COMMON if key in document}


def _tables(place: _Place, document: Mapping[str, Any]) -> list[object]:
    tables = document.get("account")
    if not isinstance(tables, list) or not tables:
        place.refuse("account is missing: write [[account]] above each account")
    return tables


def _complete(
    place: _Place, config: Config, account: AccountSettings
) -> AccountSettings:
    try:
        return config.complete(account)
    except UsageError as error:
        problem = error.message
    _Place(place.file, f"account {account.name}").refuse(problem)


def _destinations(top: _Place, tables: object) -> Iterator[DestinationSettings]:
    if not isinstance(tables, dict) or not tables:
        top.refuse(
            "destination is missing: write [destination.NAME] above what says where "
            f"mail goes: kind (one of {', '.join(KINDS)}) and the keys of that kind"
        )
    for name, table in tables.items():
        place = _Place(top.file, f"destination {name}")
        if not isinstance(table, dict):
            place.refuse(f"it is not a table: write [destination.{name}] above it")
        if "kind" not in table:
            place.refuse(f"kind is missing: one of {', '.join(KINDS)}")
        if table["kind"] in _LATER_KINDS:
            place.refuse(
                f"the kind {table['kind']} does not exist in this version; there is "
                f"{', '.join(KINDS)}"
            )
        kind = place.values(DestinationSettings, {"kind": table["kind"]})["kind"]
        place.only(table, ("kind", *KINDS[kind]))
        values = place.values(DestinationSettings, {"name": name, **table})
        yield place.make(DestinationSettings, values)


def _account(
    top: _Place,
    number: int,
    table: object,
    defaults: Mapping[str, Any],
    *,
    alone: bool = False,
) -> AccountSettings:
    """
    Return an account.

    :param alone: it is not one of a collector's, so its password may be asked for.
    """
    place = _Place(top.file, f"account number {number}")
    if not isinstance(table, dict):
        place.refuse("it is not a table: write [[account]] above it")
    if "name" not in table:
        place.refuse("name is missing")
    name = place.values(AccountSettings, {"name": table["name"]})["name"]
    place = _Place(top.file, f"account {name}")
    place.only(table, (*_OWN, *_COMMON))
    given = {key: value for key, value in table.items() if key not in PASSWORDS}
    values = {**defaults, **place.values(AccountSettings, given)}
    for key in ("server", "user"):
        if key not in values:
            place.refuse(f"{key} is missing")
    if alone and not any(key in table for key in PASSWORDS):
        values["password"] = _not_given
    else:
        values["password"] = _source(place, table)
    account: AccountSettings = place.make(AccountSettings, values)
    return account


def _not_given(**options: object) -> str:
    raise UsageError(_NO_PASSWORD)


def _source(place: _Place, table: Mapping[str, Any]) -> PasswordSource:
    given = [key for key in PASSWORDS if key in table]
    if not given:
        place.refuse(_NO_PASSWORD)
    if len(given) > 1:
        place.refuse(f"there are {' and '.join(given)}: keep one of them")
    [key] = given
    value = table[key]
    if key == "password_file":
        return PasswordSource(key, place.path(key, value))
    if key == "password_command":
        try:
            return PasswordSource(key, read_command(key, value))
        except UsageError as error:
            problem = error.message
        place.refuse(problem)
    if not isinstance(value, str) or not value or not value.isprintable():
        place.refuse(f"{key} must be one line of text in quotes")
    return PasswordSource(key, value if key == "password" else str(value))


# -- checking


def check_config(config: Config) -> None:
    """
    Check what a configuration names: passwords, programs, functions, folders.

    It does not log in, run a program, or make a file or folder.

    :raises UsageError: something is missing or cannot be used; a line for each.
    """
    problems = [f"state: {problem}" for problem in _state_problems(config.state)]
    for account in config.accounts:
        where = f"account {account.name}: "
        problems += [where + problem for problem in _account_problems(config, account)]
    for destination in config.destinations.values():
        where = f"destination {destination.name}: "
        found = _destination_problems(config, destination)
        # Once, if several accounts share it.
        problems += [where + problem for problem in dict.fromkeys(found)]
    if problems:
        file = "" if config.file is None else f"{config.file}: "
        raise UsageError("\n".join(file + problem for problem in problems))


def check_functions(config: Config) -> None:
    """
    Import the Python functions that a configuration names.

    :raises UsageError: one of them cannot be imported.
    """
    for destination in config.destinations.values():
        for problem in _function_problems(destination):
            file = "" if config.file is None else f"{config.file}: "
            raise UsageError(f"{file}destination {destination.name}: {problem}")


def _state_problems(state: Path) -> Iterator[str]:
    try:
        if os.path.lexists(state):
            private_folder(state)
    except (OSError, POP3Error) as error:
        yield words(error)
    else:
        yield from _unwritable(state)


def _account_problems(config: Config, account: AccountSettings) -> Iterator[str]:
    try:
        # With it, the certificates are read.
        account.connector().opening(
            account.user, "-", authorize_as=account.authorize_as
        )
    except POP3Error as error:
        yield words(error)
    try:
        check_password(account, config.folder)
    except UsageError as error:
        yield words(error)


def _destination_problems(
    config: Config, destination: DestinationSettings
) -> Iterator[str]:
    accounts = [each for each in config.accounts if destination.name in each.to]
    yield from _function_problems(destination)
    for account in accounts:
        try:
            if destination.command:
                program, *_ = destination.command_for(account)
                find_program(program, config.folder, os.environ)
            if destination.path is not None:
                yield from _path_problems(destination, account)
        except (UsageError, RunError) as error:
            yield words(error)


def _function_problems(destination: DestinationSettings) -> Iterator[str]:
    if isinstance(destination.call, str) and destination.call:
        # Not at the top: it is not needed to read a configuration.
        from ..destinations.function import find_function

        try:
            find_function(destination.call)
        except UsageError as error:
            yield f"call: {error}"


def _path_problems(
    destination: DestinationSettings, account: AccountSettings
) -> Iterator[str]:
    path = destination.path_for(account)
    if not path.exists():
        if not destination.create:
            yield (
                f"{path} is missing, and create = false: make it, or mount its file "
                "system"
            )
        else:
            yield from _unwritable(path)
    elif destination.kind == "maildir":
        for folder in (path, *(path / name for name in ("tmp", "new", "cur"))):
            yield from _unwritable(folder)
    elif not path.is_file():
        yield f"{path} is not a file"
    elif not os.access(path, os.R_OK | os.W_OK):
        yield f"{path} cannot be written to by this user"


def _unwritable(folder: Path) -> Iterator[str]:
    """Return why no files can be made in a folder, which may be missing."""
    there = folder
    while not os.path.lexists(there) and there != there.parent:
        there = there.parent
    if not there.is_dir():
        yield f"{there} is not a folder"
    elif not os.access(there, os.R_OK | os.W_OK | os.X_OK):
        made = "" if there == folder else f", so {folder} cannot be made"
        yield f"{there} cannot be written to by this user{made}"


def exposed_by(account: AccountSettings, file: Path | None) -> str:
    """
    Return a warning if every user may read a password of an account; else ``""``.

    :param file: the configuration that the account is in.
    """
    found = exposed(account, file)
    if found is None:
        return ""
    return (
        f"{found}: every user of this machine may read it, and there is a password in "
        f"it; run: chmod o-r {found}"
    )


def warnings(config: Config) -> list[str]:
    """Return warnings about settings that are probably not meant, or expose secrets."""
    found: dict[str, None] = {}
    for account in config.accounts:
        exposure = exposed_by(account, config.file)
        if exposure:
            found[exposure] = None
        shortest, _ = account.interval
        if shortest < SHORT_INTERVAL:
            found[
                f"account {account.name}: interval is less than {SHORT_INTERVAL} s; "
                "many servers lock an account that logs in so often"
            ] = None
    return list(found)
