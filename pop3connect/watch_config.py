"""
The configuration of ``twistd pop3connect watch``: TOML in, frozen values out.

Everything is checked here, before the first connection: each error names the file, the
account and the key, and says what to write instead.
"""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import attrs

from .address import Secure, ServerAddress
from .auth.policy import NO_PASSWORD, check_auth
from .errors import UsageError
from .redaction import Secret

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["PasswordSource", "WatchConfig", "WatchedAccount", "read_config"]

MIN_INTERVAL = 30
"""Seconds.  Servers consider more frequent logins an attack, or lock the account."""

MAX_INTERVAL = 7 * 24 * 3600

MAX_HOOK_TIMEOUT = 3600

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,99}\Z")
"""The name is also that of a file."""

_FUNCTION = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*\Z")

_WAYS = {"none": Secure.NONE, "tls": Secure.TLS, "stls": Secure.STLS}

PASSWORDS = ("password", "password_command", "password_env", "password_file")


@attrs.frozen
class PasswordSource:
    """
    The source of an account's password.

    :ivar key: its key in the file, such as ``"password_file"``.
    :ivar value: the value of the key: the password, a command, a variable or a file.
    """

    key: str
    value: Any = attrs.field(repr=False)


@attrs.frozen
class WatchedAccount:
    """
    One ``[[account]]``, with the defaults filled in.

    :ivar mailbox: user and host, which the UIDs that were seen belong to.
    :ivar interval: seconds from the end of a look at the mailbox to the next one.
    :ivar hook: a command, ``"module:function"``, or ``None`` for the log only.
    :ivar hook_timeout: seconds that the hook may take for one message.
    :ivar report_existing: whether mail that exists at the first look is new.
    """

    name: str
    server: str
    user: str
    password: PasswordSource
    mailbox: str
    secure: Secure = Secure.TLS
    auth: str = "auto"
    cacerts: Path | None = None
    interval: float = 300
    hook: tuple[str, ...] | str | None = None
    hook_timeout: float = 60
    report_existing: bool = False


@attrs.frozen
class WatchConfig:
    """
    A whole configuration.

    :ivar state: the folder that remembers which messages have been seen.
    """

    file: Path
    state: Path
    accounts: tuple[WatchedAccount, ...]

    @property
    def folder(self) -> Path:
        """The folder of the file: commands run in it, and paths are relative to it."""
        return self.file.absolute().parent

    @property
    def password_variables(self) -> frozenset[str]:
        """The environment variables that have passwords in them."""
        return frozenset(
            account.password.value
            for account in self.accounts
            if account.password.key == "password_env"
        )


def read_config(file: Path) -> WatchConfig:
    """
    Read and check a configuration.

    :raises UsageError: the file cannot be read, or something in it cannot be used.
    """
    # Errors are raised outside of "except", and the text is hidden: they and the local
    # variables of a traceback would show the passwords in it.
    try:
        text = Secret(file.read_text(encoding="utf-8"))
        document = _hidden(tomllib.loads(text))
    except OSError as error:
        message = f"cannot be read: {error.strerror}"
    except UnicodeDecodeError as error:
        message = f"octet {error.start} is not UTF-8, as TOML has to be"
    except (ValueError, RecursionError) as error:
        message = f"this is not TOML: {error}"
    else:
        return _config(file, document)
    raise UsageError(f"{file}: {message}")


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
    account: str = ""

    @property
    def folder(self) -> Path:
        return self.file.absolute().parent

    def refuse(self, key: str, problem: str) -> NoReturn:
        where = [str(self.file), self.account, key]
        raise UsageError(": ".join([*filter(None, where), problem]))

    def only(self, table: Mapping[str, object], known: tuple[str, ...]) -> None:
        """Refuse unknown keys."""
        for key in table:
            if key in known:
                continue
            close = difflib.get_close_matches(key, known, 1)
            hint = (
                f"did you mean {close[0]}?" if close else f"there is {', '.join(known)}"
            )
            self.refuse(key, f"there is no such key here; {hint}")


# -- values

_Reader = Callable[[_Place, str, Any], Any]


def _text(place: _Place, key: str, value: object) -> str:
    if not isinstance(value, str):
        place.refuse(key, 'has to be a text in quotes, such as "text"')
    if not value or not value.isprintable():
        place.refuse(key, "has to be one line, and not empty")
    # No longer a Secret: this value is not a password.
    return str(value)


def _server(place: _Place, key: str, value: object) -> str:
    text = _text(place, key, value)
    try:
        ServerAddress.parse(text)
    except UsageError as error:
        place.refuse(key, error.message)
    return text


def _secure(place: _Place, key: str, value: object) -> Secure:
    way = _WAYS.get(value) if isinstance(value, str) else None
    if way is None:
        place.refuse(key, 'has to be "tls" (port 995), "stls" or "none"')
    return way


def _auth(place: _Place, key: str, value: object) -> str:
    try:
        auth = check_auth(value)
    except UsageError:
        auth = ""
    if not auth or auth in NO_PASSWORD:
        place.refuse(
            key,
            'has to be "auto", "USER", "APOP" or a SASL mechanism that takes a '
            'password or a token, such as "SCRAM-SHA-256" or "XOAUTH2"',
        )
    return auth


def _path(place: _Place, key: str, value: object) -> Path:
    return place.folder / _text(place, key, value)


def _folder(place: _Place, key: str, value: object) -> Path:
    folder = _path(place, key, value)
    if not folder.is_dir():
        place.refuse(key, f"there is no such folder: {folder}")
    return folder


def _command(place: _Place, key: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not value[0]:
        place.refuse(key, 'has to be a list such as ["command", "argument"]')
    for argument in value:
        if not isinstance(argument, str) or "\0" in argument:
            place.refuse(key, "each argument has to be a text in quotes, without NUL")
    return tuple(map(str, value))


def _hook(place: _Place, key: str, value: object) -> tuple[str, ...] | str:
    if isinstance(value, list):
        return _command(place, key, value)
    if isinstance(value, str) and _FUNCTION.match(value):
        return str(value)
    place.refuse(
        key,
        'has to be a command, such as ["command", "argument"], or a Python '
        'function, such as "package.module:function"',
    )


def _flag(place: _Place, key: str, value: object) -> bool:
    if not isinstance(value, bool):
        place.refuse(key, "has to be true or false")
    return value


def _seconds(least: float, most: float) -> _Reader:
    def read(place: _Place, key: str, value: object) -> float:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        # Not "value < least": that would let "nan" pass.
        if not (number and least <= value <= most):  # type: ignore[operator]
            place.refuse(
                key, f"has to be a number of seconds from {least} to {most}, no quotes"
            )
        return value  # type: ignore[return-value]

    return read


def _password(place: _Place, key: str, value: object) -> Secret:
    _text(place, key, value)
    return Secret(value)


_PASSWORD_READERS: dict[str, _Reader] = {
    "password": _password,
    "password_command": _command,
    "password_env": _text,
    "password_file": _path,
}

_COMMON: dict[str, _Reader] = {
    "server": _server,
    "secure": _secure,
    "auth": _auth,
    "cacerts": _folder,
    "interval": _seconds(MIN_INTERVAL, MAX_INTERVAL),
    "hook": _hook,
    "hook_timeout": _seconds(1, MAX_HOOK_TIMEOUT),
    "report_existing": _flag,
}
"""The keys of one account, and above the accounts of all of them."""


# -- tables


def _config(file: Path, document: dict[str, Any]) -> WatchConfig:
    place = _Place(file)
    for key in ("name", "user", *PASSWORDS):
        if key in document:
            place.refuse(key, "belongs to one account: move it below its [[account]]")
    place.only(document, ("state", "account", *_COMMON))
    if "state" not in document:
        place.refuse(
            "state", "is missing: the folder that remembers which mail has been seen"
        )
    state = _path(place, "state", document.pop("state"))
    tables = document.pop("account", None)
    defaults = {key: _COMMON[key](place, key, value) for key, value in document.items()}
    if not isinstance(tables, list) or not tables:
        place.refuse("account", "is missing: write [[account]] above each account")
    accounts: dict[str, WatchedAccount] = {}
    for number, table in enumerate(tables, 1):
        account = _account(file, number, table, defaults)
        # Some file systems do not distinguish upper and lower case.
        if account.name.casefold() in accounts:
            place.refuse(
                f"account {account.name}", "is there twice: give each its own name"
            )
        accounts[account.name.casefold()] = account
    return WatchConfig(file, state, tuple(accounts.values()))


def _account(
    file: Path, number: int, table: object, defaults: Mapping[str, Any]
) -> WatchedAccount:
    place = _Place(file, f"account number {number}")
    if not isinstance(table, dict):
        place.refuse("", "is not a table: write [[account]] above it")
    name = table.get("name")
    if not isinstance(name, str) or not _NAME.match(name):
        place.refuse(
            "name",
            "is missing, or is not made of letters, digits and . _ @ + - (100 at most, "
            "a letter or digit first)",
        )
    name = str(name)
    place = _Place(file, f"account {name}")
    place.only(table, ("name", "user", *PASSWORDS, *_COMMON))
    said = {
        key: read(place, key, table[key])
        for key, read in _COMMON.items()
        if key in table
    }
    values = {**defaults, **said}
    for key in ("server", "user"):
        if key not in values and key not in table:
            place.refuse(key, "is missing")
    user = _text(place, "user", table["user"])
    host = ServerAddress.parse(values["server"]).host
    return WatchedAccount(
        name=name,
        user=user,
        password=_source(place, table),
        mailbox=f"{user} {host}",
        **values,
    )


def _source(place: _Place, table: Mapping[str, Any]) -> PasswordSource:
    given = [key for key in PASSWORDS if key in table]
    if not given:
        place.refuse("password", f"is missing: give one of {', '.join(PASSWORDS)}")
    if len(given) > 1:
        place.refuse(
            given[1], f"{given[0]} is there too: keep one of {', '.join(given)}"
        )
    [key] = given
    return PasswordSource(key, _PASSWORD_READERS[key](place, key, table[key]))
