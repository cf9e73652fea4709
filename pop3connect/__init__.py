"""
A POP3 client for Twisted: one call opens a session, checks the server, logs in.

    handle = await connect("pop.example.com", "user", "secret", secure=Secure.STLS)
"""

from typing import TYPE_CHECKING, Any

from ._version import __version__
from .address import Secure
from .api import connect
from .errors import (
    CommandError,
    ConnectError,
    ConnectionLostError,
    LoginError,
    POP3Error,
    ProtocolError,
    STLSUnavailableError,
    TimedOutError,
    TLSError,
    UsageError,
    VerificationError,
)
from .handle import Handle
from .results import (
    UID,
    Capabilities,
    Committed,
    Listing,
    LoginInfo,
    Message,
    Refused,
    Stat,
)

if TYPE_CHECKING:
    from .results import TLSInfo

__all__ = [
    "UID",
    "Capabilities",
    "CommandError",
    "Committed",
    "ConnectError",
    "ConnectionLostError",
    "Handle",
    "Listing",
    "LoginError",
    "LoginInfo",
    "Message",
    "POP3Error",
    "ProtocolError",
    "Refused",
    "STLSUnavailableError",
    "Secure",
    "Stat",
    "TLSError",
    "TLSInfo",
    "TimedOutError",
    "UsageError",
    "VerificationError",
    "__version__",
    "connect",
]


def __getattr__(name: str) -> Any:
    # OpenSSL takes longer to import than all the rest; a plain session needs none.
    if name == "TLSInfo":
        from .results import TLSInfo

        return TLSInfo
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
