"""
The exit status and the text of each kind of error.

The numbers are documented and do not change: scripts depend on them.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

from ..collect.lock import InUseError
from ..collect.outcome import EndedError, HeldError
from ..destinations.base import Later
from ..errors import (
    CommandError,
    ConnectError,
    ConnectionLostError,
    LoginError,
    POP3Error,
    ProtocolError,
    TimedOutError,
    TLSError,
    UsageError,
    VerificationError,
)
from ..remedies import Option
from .access import KEY_PASSWORD_VARIABLE

__all__ = ["Exit", "NotFoundError", "exit_status", "words"]


class NotFoundError(POP3Error):
    """The user named something that does not exist, such as a message."""


class Exit(enum.IntEnum):
    """The exit statuses."""

    DONE = 0
    """Everything was done; the server has confirmed deletions."""

    BROKEN_PIPE = 1
    """The reader closed the pipe; click's own number for it."""

    USAGE = 2
    """An argument cannot be used, or the password is missing.  Nothing was sent."""

    NO_CONNECTION = 3
    """The name was not found, or the connection was refused or impossible."""

    LOST = 4
    """The connection was lost, or the server took too long."""

    NO_TLS = 5
    """The handshake failed, or STLS is not offered.  No password was sent."""

    NOT_TRUSTED = 6
    """The server did not prove its identity.  No password was sent."""

    LOGIN_REFUSED = 7
    """The name, the password, or the state of the account."""

    REFUSED = 8
    """The server refused a command, or there is no such message or account."""

    NONSENSE = 9
    """The server does not speak POP3 as it should."""

    LOCAL_FILES = 10
    """A file or database could not be read or written."""

    TRY_LATER = 75
    """Refused for now: mailbox in use, too early, a temporary fault; another process
    uses the same state."""

    INTERRUPTED = 130
    """Ctrl-C.  Nothing was deleted, unless a message says that QUIT was sent."""


# The first match counts.
_KINDS: tuple[tuple[type[BaseException], Exit], ...] = (
    (UsageError, Exit.USAGE),
    (ConnectError, Exit.NO_CONNECTION),
    (ConnectionLostError, Exit.LOST),
    (TimedOutError, Exit.LOST),
    (VerificationError, Exit.NOT_TRUSTED),
    (TLSError, Exit.NO_TLS),
    (LoginError, Exit.LOGIN_REFUSED),
    (CommandError, Exit.REFUSED),
    (NotFoundError, Exit.REFUSED),
    (ProtocolError, Exit.NONSENSE),
    (InUseError, Exit.TRY_LATER),
    (HeldError, Exit.TRY_LATER),
    (Later, Exit.TRY_LATER),
    (EndedError, Exit.LOST),
    # Of the journal.
    (POP3Error, Exit.LOCAL_FILES),
    (OSError, Exit.LOCAL_FILES),
)


def exit_status(error: BaseException) -> Exit:
    """Return the exit status of an error of the library or of the disk."""
    if isinstance(error, CommandError) and error.transient:
        return Exit.TRY_LATER
    return next(status for kind, status in _KINDS if isinstance(error, kind))


_VALUES: Mapping[tuple[str, object], str] = {
    ("secure", 1): "--secure tls",
    ("secure", 2): "--secure stls",
    ("allow_cleartext", False): "no --allow-cleartext",
    ("capa", False): "--no-capa",
    ("pipeline", False): "--no-pipeline",
    ("system_trust", True): "--system-trust",
    ("verify", False): "--no-verify",
}


_FLAGS: Mapping[str, str] = {
    "auth": "--auth",
    "authorize_as": "--authorize-as",
    "cacerts": "--cacerts",
    "ciphers": "--tls-ciphers",
    "client_certificate": "--client-certificate",
    "connect_timeout": "--connect-timeout",
    "client_key_password": KEY_PASSWORD_VARIABLE,
    "crl": "--crl",
    "minimum_version": "--tls-minimum-version",
    "pins": "--pin",
    "timeout": "--timeout",
    "proxy": "--proxy",
}


def _option(option: Option) -> str | None:
    """Return the command line's form of an option of `connect`, if it has one."""
    name, value = option
    if name not in _FLAGS:
        # A value that is not hashable cannot be one of these.
        known = isinstance(value, (int, str))
        return _VALUES.get((name, value)) if known else None
    flag = _FLAGS[name]
    return flag if value == () else f"{flag} {value}"


def words(error: POP3Error | OSError | str) -> str:
    """Return the text of an error, with the options of the command line."""
    if isinstance(error, POP3Error):
        return error.worded(_option)
    return str(error)
