"""
How long to wait for a server, by what went wrong.

Pure: random numbers (0 to 1) come in as arguments, and seconds come out.
"""

from __future__ import annotations

import enum
import math

from .errors import (
    CommandError,
    ConnectError,
    ConnectionLostError,
    LoginError,
    ProtocolError,
    TimedOutError,
    TLSError,
    UsageError,
)

__all__ = [
    "JITTER",
    "MAX_DELAY",
    "MAX_WAIT",
    "FailureClass",
    "classify",
    "doubled",
    "jittered",
]

JITTER = 0.05
"""The part of a wait by which it varies, so that accounts do not connect at once."""

MAX_DELAY = 7 * 24 * 3600.0
"""The longest LOGIN-DELAY that is honoured, in seconds."""

MAX_WAIT = 3600.0
"""The longest wait for a server that cannot be reached, in seconds."""


class FailureClass(str, enum.Enum):
    """Why a session failed: the kinds of failure that have different waits."""

    CONNECTION = "connection"
    """The server could not be reached, or the connection was lost."""

    TLS = "tls"
    BUSY = "busy"
    """``[IN-USE]``, ``[SYS/TEMP]`` or ``[LOGIN-DELAY]``."""

    LOGIN = "login"
    """The login was refused."""

    SERVER = "server"
    """Anything else that the server refused, or said wrongly."""

    LOCAL = "local"
    """Ours: no password was found, or the disk is full; the server is not to blame."""


def classify(error: BaseException) -> FailureClass:
    """Return the class of the error that ended a session."""
    if isinstance(error, UsageError) or isinstance(error.__cause__, UsageError):
        # As the cause: the error of a password that was not found.
        return FailureClass.LOCAL
    if isinstance(error, CommandError):
        if error.transient:
            return FailureClass.BUSY
        # Servers without response codes refuse a wrong password like anything else.
        login = isinstance(error, LoginError) and error.mechanism is not None
        return FailureClass.LOGIN if login else FailureClass.SERVER
    if isinstance(error, TLSError):
        return FailureClass.TLS
    if isinstance(error, (ConnectError, ConnectionLostError, TimedOutError)):
        return FailureClass.CONNECTION
    if isinstance(error, ProtocolError):
        return FailureClass.SERVER
    return FailureClass.LOCAL


def jittered(wait: float, random: float) -> float:
    """Return a wait that varies by `JITTER`."""
    return wait * (1 + JITTER * (2 * random - 1))


def doubled(seconds: float, times: int, most: float) -> float:
    """Return how long to wait after this number of failures in a row."""
    # Bounded, because the power grows although the result does not.
    return min(seconds * math.ldexp(1.0, min(times - 1, 30)), most)
