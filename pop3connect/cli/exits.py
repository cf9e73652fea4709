"""
How a command ends: the exit status of each kind of error, and its words.

The numbers are documented and stay as they are: scripts depend on them.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

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
from .numbers import NoSuchMessageError

__all__ = ["Exit", "exit_status", "words"]


class Exit(enum.IntEnum):
    """The exit statuses."""

    DONE = 0
    """All was done; deletions have been confirmed by the server."""

    BROKEN_PIPE = 1
    """The reader closed the pipe; click's own number for it."""

    USAGE = 2
    """The arguments, or there is no password.  Nothing was sent."""

    NO_CONNECTION = 3
    """Name not found, refused, unreachable."""

    LOST = 4
    """The connection was lost, or the server took too long."""

    NO_TLS = 5
    """The handshake failed, or there is no STLS.  No password was sent."""

    NOT_TRUSTED = 6
    """The server has not proven who it is.  No password was sent."""

    LOGIN_REFUSED = 7
    """The name, the password, or the account's state."""

    REFUSED = 8
    """The server refused a command, or has no such message."""

    NONSENSE = 9
    """The server does not speak POP3 as it should."""

    LOCAL_FILES = 10
    """Something on this computer could not be read or written."""

    TRY_LATER = 75
    """Refused for now, as the server says: in use, too early, a passing fault."""

    INTERRUPTED = 130
    """Ctrl-C.  Nothing was deleted, unless it says that QUIT was on its way."""


# The first that fits counts.
_KINDS: tuple[tuple[type[BaseException], Exit], ...] = (
    (UsageError, Exit.USAGE),
    (ConnectError, Exit.NO_CONNECTION),
    (ConnectionLostError, Exit.LOST),
    (TimedOutError, Exit.LOST),
    (VerificationError, Exit.NOT_TRUSTED),
    (TLSError, Exit.NO_TLS),
    (LoginError, Exit.LOGIN_REFUSED),
    (CommandError, Exit.REFUSED),
    (NoSuchMessageError, Exit.REFUSED),
    (ProtocolError, Exit.NONSENSE),
    (OSError, Exit.LOCAL_FILES),
)


def exit_status(error: BaseException) -> Exit:
    """Return the exit status that an error of the library, or of the disk, has."""
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
}


def _option(option: Option) -> str:
    """Show an option of the library as the one of the command line."""
    name, value = option
    known = _VALUES.get((name, value)) if isinstance(value, (int, str)) else None
    if known is not None:
        return known
    flag = f"--{name.replace('_', '-')}"
    return flag if value == () else f"{flag} {value}"


def words(error: POP3Error | OSError | str) -> str:
    """Say what went wrong, with the options of the command line."""
    if isinstance(error, POP3Error):
        return error.worded(_option)
    return str(error)
