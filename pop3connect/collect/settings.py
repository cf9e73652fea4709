"""
What the collector is to do: the accounts, the destinations and the limits, as values.

`read_config` makes them from a file, and a program may make them itself: every value is
checked here, and durations and sizes may be texts, such as ``"5 min"`` and ``"50 MB"``.
"""

from __future__ import annotations

import re
from collections.abc import (
    Awaitable,
    Callable,
    Collection,
    Hashable,
    Iterable,
    Mapping,
    Sequence,
)
from functools import cached_property, lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn
from weakref import WeakValueDictionary

import attrs

from ..address import POP3_PORT, POP3S_PORT, Secure, ServerAddress
from ..auth.policy import NO_PASSWORD, check_auth, check_authorize_as
from ..connector import Connector
from ..errors import UsageError
from ..proxy import ProxyAddress
from ..redaction import Secret
from ..tls.options import VERSIONS, TLSOptions
from .rules import HeaderPattern
from .units import read_bytes, read_seconds, show_seconds

__all__ = [
    "KINDS",
    "PASSWORDS",
    "AccountSettings",
    "Config",
    "Connectors",
    "DestinationSettings",
    "Password",
    "PasswordSource",
    "read_command",
    "variables_of",
]

Password = Callable[..., str | Awaitable[str]]
"""A function that returns the password, as `Connector.connect` takes it."""

PASSWORDS = (
    "password",
    "password_file",
    "password_command",
    "password_env",
    "password_keyring",
)
"""The keys that say where a password is."""

KINDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "maildir": ("path", "mode", "create", "crlf"),
        "mbox": ("path", "mode", "create", "lock_timeout"),
        "command": ("command", "timeout"),
        "function": ("call", "timeout"),
        "table": (),
    }
)
"""The kinds of destinations, and the keys that each of them takes."""

NEEDED = MappingProxyType(
    {"maildir": "path", "mbox": "path", "command": "command", "function": "call"}
)
"""The key that a kind requires."""

DAY = 24 * 3600

MAX_INTERVAL = 7 * DAY
"""Seconds between two looks at an account, at most."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,99}\Z")
"""A name may become that of a file."""

_FUNCTION = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*\Z")

_DELETE_AFTER = re.compile(r"delete after (.+)\Z", re.IGNORECASE)

_LAST = re.compile(r"last (.+)\Z", re.IGNORECASE)

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")

_WAYS = {"none": Secure.NONE, "tls": Secure.TLS, "stls": Secure.STLS}

Duration = float | str
"""Seconds, or a text such as ``"5 min"``."""

Size = int | str
"""Bytes, or a text such as ``"50 MB"``."""


@attrs.frozen
class PasswordSource:
    """
    Where the password of an account is.

    :ivar key: one of `PASSWORDS`.
    :ivar value: the password, a file, a command, the name of an environment variable,
        or the name of a service in the keyring.
    """

    key: str
    value: Any = attrs.field(repr=False)


# -- values: each function returns what a key means, or raises a `UsageError` that names
# the key and what to write instead.  Texts are not repeated: one may be a password that
# was given to the wrong key.


def _refuse(key: str, wanted: str) -> NoReturn:
    raise UsageError(f"{key} must be {wanted}")


def _text(key: str, value: object) -> str:
    if not isinstance(value, str) or not value or not value.isprintable():
        _refuse(key, 'one line of text in quotes, such as "text"')
    # Not a `Secret`, which a configuration's texts are until they are understood.
    return str(value)


def _texts(key: str, value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        value = (value,)
    if not isinstance(value, Sequence):
        _refuse(key, 'a list of texts, such as ["one", "two"]')
    return tuple(_text(key, each) for each in value)


def _flag(key: str, value: object) -> bool:
    if not isinstance(value, bool):
        _refuse(key, "true or false")
    return value


def _count(key: str, value: object) -> int:
    if type(value) is not int or not 1 <= value <= 10**9:
        _refuse(key, "a number from 1 on")
    return value


def _duration(key: str, value: object, least: float, most: float) -> float:
    seconds = read_seconds(value)
    if seconds is None or not least <= seconds <= most:
        _refuse(
            key,
            f"{show_seconds(least)} to {show_seconds(most)}: a number of seconds, or a "
            'text such as "90 s", "5 min", "1 h" or "14 days"',
        )
    return seconds


def _size(key: str, value: object) -> int:
    size = read_bytes(value)
    if size is None or size < 1:
        _refuse(key, 'a number of bytes, or a text such as "500 KB", "50 MB" or "1 GB"')
    return size


def _path(key: str, value: object) -> Path:
    if not isinstance(value, Path):
        value = Path(_text(key, value))
    return value


def _account_name(value: str) -> str:
    if not isinstance(value, str) or not _NAME.match(value):
        _refuse(
            "name",
            "made of letters, digits and . _ @ + - (100 at most, a letter or a digit "
            "first)",
        )
    return str(value)


def _server(value: str) -> str:
    text = _text("server", value)
    try:
        ServerAddress.parse(text)
    except UsageError as error:
        problem = error.message
    else:
        return text
    raise UsageError(f"server cannot be used: {problem}")


def _user(value: str) -> str:
    return _text("user", value)


def _password(value: PasswordSource | str | Password) -> PasswordSource | Password:
    if isinstance(value, str):
        _text("password", value)
        return PasswordSource("password", Secret(value))
    if not isinstance(value, PasswordSource) and not callable(value):
        _refuse("password", "a text, a PasswordSource or a function")
    return value


def _secure(value: Secure | int | str) -> Secure:
    if isinstance(value, str) and value in _WAYS:
        return _WAYS[value]
    if not isinstance(value, Secure):
        _refuse("secure", '"tls" (port 995), "stls" or "none"')
    return value


def _verify(value: bool) -> bool:
    return _flag("verify", value)


def _cacerts(value: Path | str | None) -> Path | None:
    return None if value is None else _path("cacerts", value)


def _system_trust(value: bool) -> bool:
    return _flag("system_trust", value)


def _auth(value: str) -> str:
    try:
        auth = check_auth(value)
    except UsageError:
        auth = ""
    if not auth or auth in NO_PASSWORD:
        _refuse(
            "auth",
            '"auto", "USER", "APOP" or a SASL mechanism that takes a password or a '
            'token, such as "SCRAM-SHA-256" or "XOAUTH2"',
        )
    return str(auth)


def _client_certificate(value: Path | str | None) -> Path | None:
    return None if value is None else _path("client_certificate", value)


def _proxy(value: str | None) -> str | None:
    if value is None:
        return None
    problem = ""
    try:
        ProxyAddress.parse(value)
    except UsageError as error:
        problem = error.message
    if problem:
        raise UsageError(f"proxy{problem}")
    return Secret(value)


def _pins(value: str | Sequence[str]) -> tuple[str, ...]:
    # Not at the top: OpenSSL takes time.
    from ..tls.pins import check_pins

    pins = _texts("pins", value)
    if isinstance(value, tuple) and not value:
        # The default; an empty list is a mistake.
        return ()
    problem = ""
    try:
        return check_pins(pins)
    except UsageError as error:
        problem = error.message
    raise UsageError(f"pins{problem}")


def _crl(value: Path | str | None) -> Path | None:
    return None if value is None else _path("crl", value)


def _tls_minimum_version(value: str) -> str:
    if value not in VERSIONS:
        _refuse("tls_minimum_version", " or ".join(f'"{each}"' for each in VERSIONS))
    return str(value)


def _tls_ciphers(value: str | None) -> str | None:
    return None if value is None else _text("tls_ciphers", value)


def _authorize_as(value: str | None) -> str | None:
    return None if value is None else _text("authorize_as", value)


def _allow_cleartext(value: bool) -> bool:
    return _flag("allow_cleartext", value)


def _capa(value: bool) -> bool:
    return _flag("capa", value)


def _pipeline(value: bool) -> bool:
    return _flag("pipeline", value)


def _timeout(value: Duration) -> float:
    return _duration("timeout", value, 1, DAY)


def _connect_timeout(value: Duration) -> float:
    return _duration("connect_timeout", value, 1, DAY)


def _interval(value: Duration | Sequence[Duration]) -> tuple[float, float]:
    ends = [value] * 2 if isinstance(value, (int, float, str)) else value
    if not isinstance(ends, Sequence) or len(ends) != 2:
        _refuse("interval", 'a duration, or two of them, such as ["1 min", "1 h"]')
    shortest, longest = (_duration("interval", end, 1, MAX_INTERVAL) for end in ends)
    if shortest > longest:
        _refuse("interval", 'the shorter duration first, such as ["1 min", "1 h"]')
    return shortest, longest


def _look_limit(value: Duration) -> float:
    return _duration("look_limit", value, 10, 7 * DAY)


def _to(value: str | Sequence[str]) -> tuple[str, ...]:
    names = _texts("to", value)
    if len(set(names)) != len(names):
        _refuse("to", "a list of different destinations")
    return names


def _after(value: Duration) -> str | float:
    if isinstance(value, str):
        if value in ("keep", "delete"):
            return str(value)
        found = _DELETE_AFTER.match(value)
        value = found[1] if found else ""
    seconds = read_seconds(value)
    if seconds is None or seconds < 0:
        _refuse("after", '"keep", "delete", or such as "delete after 14 days"')
    return seconds


def _fetch(value: str) -> str:
    if value not in ("message", "header"):
        _refuse("fetch", '"message" or "header"')
    return str(value)


def _patterns(key: str, value: object) -> tuple[HeaderPattern, ...]:
    patterns = []
    texts = (value,) if isinstance(value, (str, HeaderPattern)) else value
    for text in texts if isinstance(texts, Sequence) else (None,):
        pattern = text if isinstance(text, HeaderPattern) else HeaderPattern.parse(text)
        if pattern is None:
            _refuse(key, 'a list such as ["From: *@example.org", "Subject: *invoice*"]')
        patterns.append(pattern)
    return tuple(patterns)


def _match(value: str | Sequence[str | HeaderPattern]) -> tuple[HeaderPattern, ...]:
    return _patterns("match", value)


def _skip(value: str | Sequence[str | HeaderPattern]) -> tuple[HeaderPattern, ...]:
    return _patterns("skip", value)


def _newer_than(value: Duration | None) -> float | None:
    return None if value is None else _duration("newer_than", value, 1, 36500 * DAY)


def _existing(value: Duration) -> str | float:
    if isinstance(value, str):
        if value in ("new", "seen"):
            return str(value)
        found = _LAST.match(value)
        value = found[1] if found else ""
    seconds = read_seconds(value)
    if seconds is None or seconds <= 0:
        _refuse("existing", '"new", "seen", or such as "last 7 days"')
    return seconds


def _max_size(value: Size | None) -> int | None:
    return None if value is None else _size("max_size", value)


def _max_messages(value: int | None) -> int | None:
    return None if value is None else _count("max_messages", value)


def _list_sizes(value: str) -> str:
    if value not in ("exact", "estimate"):
        _refuse("list_sizes", '"exact" or "estimate"')
    return str(value)


def _forget_after(value: Duration) -> float:
    return _duration("forget_after", value, DAY, 3650 * DAY)


@attrs.frozen(kw_only=True)
class AccountSettings:
    """
    One account: where its mail is, and what is done with it.

    Durations may be given in seconds or as texts, sizes in bytes or as texts.

    :ivar name: the account's identity; a changed server or user under the same name is
        a migration.
    :ivar user: the user who logs in.
    :ivar authorize_as: whose mailbox it is, if it is not that of `user`.
    :ivar tls_minimum_version: as ``minimum_version`` of `TLSOptions`.
    :ivar tls_ciphers: as ``ciphers`` of `TLSOptions`, and ``crl`` is its ``crl``.
    :ivar password: a text, a `PasswordSource`, or a function as `connect` takes it.
    :ivar interval: seconds from the end of a look to the next one: the shortest, when
        mail has just arrived, and the longest, when none does.
    :ivar look_limit: seconds after which a look is ended.
    :ivar to: the names of its destinations.
    :ivar after: what becomes of a message on the server after its delivery:
        ``"keep"``, ``"delete"``, or a number of seconds after which it is deleted.
    :ivar fetch: ``"message"``, or ``"header"``: by TOP; nothing is retrieved.
    :ivar match: if there are any, only messages that one of them matches are fetched.
    :ivar skip: messages that one of them matches are not fetched.
    :ivar newer_than: seconds; older messages are not fetched.
    :ivar existing: which messages of the first look are fetched: ``"new"``: all,
        ``"seen"``: none, or those that are not older than a number of seconds.
    :ivar max_size: bytes; larger messages are left on the server.
    :ivar max_messages: how many messages are fetched in one look at most.
    :ivar list_sizes: ``"estimate"``: the server's LIST is not compared with the size
        of the message received.
    :ivar forget_after: seconds that a message is missing from the server before its
        row is removed.
    :raises UsageError: a value cannot be used; the message begins with its key.

    The others are as for `Connector`.
    """

    name: str = attrs.field(converter=_account_name)
    server: str = attrs.field(converter=_server)
    user: str = attrs.field(converter=_user)
    password: PasswordSource | Password = attrs.field(converter=_password, repr=False)
    secure: Secure = attrs.field(default=Secure.TLS, converter=_secure)
    verify: bool = attrs.field(default=True, converter=_verify)
    cacerts: Path | None = attrs.field(default=None, converter=_cacerts)
    system_trust: bool = attrs.field(default=False, converter=_system_trust)
    client_certificate: Path | None = attrs.field(
        default=None, converter=_client_certificate
    )
    pins: tuple[str, ...] = attrs.field(default=(), converter=_pins)
    crl: Path | None = attrs.field(default=None, converter=_crl)
    tls_minimum_version: str = attrs.field(
        default=VERSIONS[0], converter=_tls_minimum_version
    )
    tls_ciphers: str | None = attrs.field(default=None, converter=_tls_ciphers)
    authorize_as: str | None = attrs.field(default=None, converter=_authorize_as)
    auth: str = attrs.field(default="auto", converter=_auth)
    proxy: str | None = attrs.field(default=None, converter=_proxy)
    allow_cleartext: bool = attrs.field(default=True, converter=_allow_cleartext)
    capa: bool = attrs.field(default=True, converter=_capa)
    pipeline: bool = attrs.field(default=True, converter=_pipeline)
    timeout: float = attrs.field(default=60.0, converter=_timeout)
    connect_timeout: float = attrs.field(default=30.0, converter=_connect_timeout)
    interval: tuple[float, float] = attrs.field(
        default=(300.0, 300.0), converter=_interval
    )
    look_limit: float = attrs.field(default=3600.0, converter=_look_limit)
    to: tuple[str, ...] = attrs.field(default=(), converter=_to)
    after: str | float = attrs.field(default="keep", converter=_after)
    fetch: str = attrs.field(default="message", converter=_fetch)
    match: tuple[HeaderPattern, ...] = attrs.field(default=(), converter=_match)
    skip: tuple[HeaderPattern, ...] = attrs.field(default=(), converter=_skip)
    newer_than: float | None = attrs.field(default=None, converter=_newer_than)
    existing: str | float = attrs.field(default="new", converter=_existing)
    max_size: int | None = attrs.field(default=None, converter=_max_size)
    max_messages: int | None = attrs.field(default=None, converter=_max_messages)
    list_sizes: str = attrs.field(default="exact", converter=_list_sizes)
    forget_after: float = attrs.field(default=30 * DAY, converter=_forget_after)

    def __attrs_post_init__(self) -> None:
        """Check what the values mean together."""
        if self.fetch == "header" and self.after != "keep":
            raise UsageError(
                'after must be "keep" with fetch = "header": a message of which only '
                "the header was fetched is not deleted"
            )
        if self.authorize_as is not None:
            problem = ""
            try:
                check_authorize_as(self.authorize_as, self.auth)
            except UsageError as error:
                problem = error.message
            if problem:
                raise UsageError(f"authorize_as{problem}")

    @property
    def mailbox(self) -> str:
        """Whose mailbox it is: `authorize_as`, or `user`."""
        return self.authorize_as or self.user

    @property
    def address(self) -> ServerAddress:
        """Host and port: what `sessions_per_server` counts by."""
        return _address(self.server, self.secure)

    @property
    def options(self) -> dict[str, Any]:
        """
        The options of the account's `Connector`.

        `authorize_as` is one of `Connector.connect`: the accounts that a master user
        opens share a connector.
        """
        certificate = self.client_certificate
        tls = TLSOptions(
            minimum_version=self.tls_minimum_version,
            ciphers=self.tls_ciphers,
            crl=self.crl,
        )
        return {
            "secure": self.secure,
            "verify": self.verify,
            "cacerts": self.cacerts,
            "system_trust": self.system_trust,
            "auth": self.auth,
            "timeout": self.timeout,
            "connect_timeout": self.connect_timeout,
            "pipeline": self.pipeline,
            "client_certificate": None if certificate is None else str(certificate),
            "tls": None if tls == TLSOptions() else tls,
            "pins": self.pins or None,
            "proxy": self.proxy,
            "allow_cleartext": self.allow_cleartext,
            "capa": self.capa,
        }

    def connector(self, reactor: Any = None) -> Connector:
        """
        Return a new connector with the options of this account.

        :param reactor: default: the global one.
        :raises UsageError: an option cannot be used.
        """
        return Connector(self.server, reactor=reactor, **self.options)


class Connectors:
    """
    The connectors of accounts: one for all that have the same server and options.

    Each may hold a store of certificates; it is kept for as long as one of its callers
    keeps it.

    :param reactor: default: the global one.
    """

    def __init__(self, reactor: Any = None) -> None:
        self._reactor = reactor
        self._kept: WeakValueDictionary[Hashable, Connector] = WeakValueDictionary()

    def __call__(self, account: AccountSettings) -> Connector:
        """
        Return the connector of an account.

        :raises UsageError: an option cannot be used.
        """
        key = (account.server, *account.options.values())
        connector = self._kept.get(key)
        if connector is None:
            connector = self._kept[key] = account.connector(self._reactor)
        return connector


# Each look asks for it several times, and many accounts have the same server.
@lru_cache(1000)
def _address(server: str, secure: Secure) -> ServerAddress:
    port = POP3S_PORT if secure is Secure.TLS else POP3_PORT
    return ServerAddress.parse(server, port)


# -- destinations


def _destination_name(value: str) -> str:
    if not isinstance(value, str) or not _NAME.match(value):
        _refuse(
            "the name of a destination",
            "made of letters, digits and . _ @ + - (100 at most)",
        )
    return str(value)


def _kind(value: str) -> str:
    if not isinstance(value, str) or value not in KINDS:
        _refuse("kind", "one of " + ", ".join(KINDS))
    return str(value)


def _destination_path(value: Path | str | None) -> Path | None:
    return None if value is None else _path("path", value)


def _mode(value: int | str) -> int:
    mode = value
    if isinstance(mode, str):
        mode = int(mode, 8) if re.fullmatch("0?[0-7]{3}", mode) else -1
    # A file that its owner cannot write to, or that others may write to, is a mistake.
    if type(mode) is not int or mode & ~0o664 or mode & 0o600 != 0o600:
        _refuse("mode", '"0600", "0640", "0644", "0660" or "0664"')
    return mode


def _create(value: bool) -> bool:
    return _flag("create", value)


def _crlf(value: bool) -> bool:
    return _flag("crlf", value)


def _lock_timeout(value: Duration) -> float:
    return _duration("lock_timeout", value, 0, DAY)


def _command(value: Sequence[str]) -> tuple[str, ...]:
    return () if value == () else read_command("command", value)


def read_command(key: str, value: object) -> tuple[str, ...]:
    """
    Return a program and its arguments.

    :raises UsageError: it is not a list of texts.
    """
    if isinstance(value, str) or not isinstance(value, Sequence) or not any(value[:1]):
        _refuse(key, 'a list such as ["program", "argument"]')
    for argument in value:
        if not isinstance(argument, str) or "\0" in argument:
            _refuse(key, "a list of texts in quotes, without NUL")
    return tuple(map(str, value))


def _call(value: Callable[..., object] | str | None) -> Callable[..., object] | str:
    if isinstance(value, str) and _FUNCTION.match(value):
        return str(value)
    if value is None:
        return ""
    if not callable(value):
        _refuse("call", 'a Python function, such as "package.module:function"')
    return value


def _run_timeout(value: Duration) -> float:
    return _duration("timeout", value, 1, 3600)


@attrs.frozen(kw_only=True)
class DestinationSettings:
    """
    One place where mail goes.

    `path` and the arguments of `command` may contain ``{account}``, ``{user}`` and
    ``{server}`` (the host).

    :ivar kind: one of `KINDS`, which says which of the others count.
    :ivar path: of the Maildir or the mbox.
    :ivar mode: the permissions of its files; folders also get an x for each r.
    :ivar create: whether a Maildir or an mbox that is missing is made; ``False``: it is
        missing because its file system is not mounted, and mail waits for it.
    :ivar crlf: whether lines in a Maildir end with CRLF, as on the wire; otherwise LF.
    :ivar lock_timeout: seconds to wait for the lock of an mbox.
    :ivar command: the program that gets each message, and its arguments.
    :ivar call: the function that gets each message, or ``"module:function"``.
    :ivar timeout: seconds that program or function may take for one message.
    :raises UsageError: a value cannot be used; the message begins with its key.
    """

    name: str = attrs.field(converter=_destination_name)
    kind: str = attrs.field(converter=_kind)
    path: Path | None = attrs.field(default=None, converter=_destination_path)
    mode: int = attrs.field(default=0o600, converter=_mode)
    create: bool = attrs.field(default=True, converter=_create)
    crlf: bool = attrs.field(default=False, converter=_crlf)
    lock_timeout: float = attrs.field(default=60.0, converter=_lock_timeout)
    command: tuple[str, ...] = attrs.field(default=(), converter=_command)
    call: Callable[..., object] | str = attrs.field(default=None, converter=_call)
    timeout: float = attrs.field(default=60.0, converter=_run_timeout)

    def __attrs_post_init__(self) -> None:
        """Check what the values mean together."""
        key = NEEDED.get(self.kind)
        if key is not None and not getattr(self, key):
            raise UsageError(f'{key} is missing: kind = "{self.kind}" needs it')
        for text in (str(self.path or ""), *self.command):
            for name in _PLACEHOLDER.findall(text):
                if name not in ("account", "user", "server"):
                    raise UsageError(
                        f"{key} may contain {{account}}, {{user}} and {{server}}, not "
                        f"{{{name}}}"
                    )

    def path_for(self, account: AccountSettings) -> Path:
        """
        Return the Maildir or the mbox of an account.

        :raises UsageError: a value that goes into the path is not a file name.
        """
        parts = []
        for part in (self.path or Path()).parts:
            filled = _filled(part, account)
            if filled != part and ("/" in filled or filled in (".", "..")):
                raise UsageError(
                    f"path {self.path} cannot be used for account {account.name}: "
                    "its user is not a file name; write {account} instead of {user}"
                )
            parts.append(filled)
        return Path(*parts)

    def command_for(self, account: AccountSettings) -> tuple[str, ...]:
        """Return the program and its arguments for mail of an account."""
        return tuple(_filled(argument, account) for argument in self.command)


def _filled(text: str, account: AccountSettings) -> str:
    """Return a text with the facts of an account in it."""
    if "{" not in text:
        return text
    facts = {
        "account": account.name,
        "user": account.mailbox,
        "server": account.address.host,
    }
    return _PLACEHOLDER.sub(lambda found: facts[found[1]], text)


# -- all together


def variables_of(accounts: Iterable[AccountSettings]) -> frozenset[str]:
    """Return the environment variables that have passwords of accounts in them."""
    sources = (account.password for account in accounts)
    return frozenset(
        source.value
        for source in sources
        if isinstance(source, PasswordSource) and source.key == "password_env"
    )


def _state(value: Path | str) -> Path:
    return _path("state", value)


def _database(value: str) -> str:
    if value == "":
        return Secret("")
    text = _text("database", value)
    if "://" not in text:
        _refuse(
            "database",
            'a URL, such as "postgresql+psycopg://host/name"; without it, the journal '
            "is the file collect.db in the folder state",
        )
    return Secret(text)


def _sessions(value: int) -> int:
    return _count("sessions", value)


def _sessions_per_server(value: int) -> int:
    return _count("sessions_per_server", value)


def _lease(value: Duration) -> float:
    return _duration("lease", value, 2, DAY)


def _spool_limit(value: Size) -> int:
    return _size("spool_limit", value)


def _accounts(value: Iterable[AccountSettings]) -> tuple[AccountSettings, ...]:
    return tuple(value)


def _destinations(
    value: Iterable[DestinationSettings] | Mapping[str, DestinationSettings],
) -> Mapping[str, DestinationSettings]:
    each = value.values() if isinstance(value, Mapping) else value
    return MappingProxyType({one.name: one for one in each})


# Without slots, so that a property can be cached.
@attrs.frozen(kw_only=True, slots=False)
class Config:
    """
    A whole configuration.

    :ivar state: the folder of the database, of ``spool`` and of ``aside``.
    :ivar database: its URL; ``""``: ``collect.db`` in `state`.
    :ivar accounts: may be empty: a program can add accounts at run time.
    :ivar destinations: by name.
    :ivar sessions: how many sessions there may be at once.
    :ivar sessions_per_server: how many of them with one server.
    :ivar lease: seconds after which another machine takes over an account.
    :ivar spool_limit: bytes of undelivered mail above which nothing is retrieved.
    :ivar file: the file that it was read from; ``None``: a program made it.
    :raises UsageError: the values do not fit together.
    """

    state: Path = attrs.field(converter=_state)
    database: str = attrs.field(default="", converter=_database, repr=False)
    accounts: tuple[AccountSettings, ...] = attrs.field(default=(), converter=_accounts)
    destinations: Mapping[str, DestinationSettings] = attrs.field(
        default=(), converter=_destinations
    )
    sessions: int = attrs.field(default=100, converter=_sessions)
    sessions_per_server: int = attrs.field(default=8, converter=_sessions_per_server)
    lease: float = attrs.field(default=60.0, converter=_lease)
    spool_limit: int = attrs.field(default=10**9, converter=_spool_limit)
    file: Path | None = None

    def __attrs_post_init__(self) -> None:
        """Check the names of the accounts."""
        names: set[str] = set()
        for account in self.accounts:
            # Some file systems do not distinguish upper and lower case.
            if account.name.casefold() in names:
                raise UsageError(
                    f"account {account.name} is there twice: give each its own name"
                )
            names.add(account.name.casefold())

    @property
    def journal(self) -> Path | str:
        """The path of the journal's SQLite file, or the URL of its database."""
        return self.database or self.state / "collect.db"

    @property
    def folder(self) -> Path:
        """The file's folder, where programs run; without a file, the current folder."""
        return Path.cwd() if self.file is None else self.file.absolute().parent

    @cached_property
    def secret_variables(self) -> frozenset[str]:
        """The environment variables that have passwords in them."""
        return variables_of(self.accounts)

    def complete(
        self, account: AccountSettings, others: Collection[str] = ()
    ) -> AccountSettings:
        """
        Return an account with its destinations: the only one, if it names none.

        :param others: names of destinations that are not in the configuration.
        :raises UsageError: it names one that does not exist, or there are several.
        """
        known = [*self.destinations, *others]
        there = f"there is {', '.join(known)}" if known else "none is defined"
        if not account.to and len(known) == 1:
            return attrs.evolve(account, to=known)
        if not account.to:
            raise UsageError(f"to is missing: name a destination; {there}")
        for name in account.to:
            if name not in known:
                raise UsageError(
                    f"to names {name}, which is not a destination; {there}"
                )
        return account
