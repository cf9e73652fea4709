"""
A POP3 client for Twisted: one call opens a session, checks the server, logs in.

    handle = await connect("pop.example.com", "user", "secret", secure=Secure.STLS)
"""

from importlib import import_module
from typing import TYPE_CHECKING

from ._version import __version__
from .address import Secure
from .api import connect
from .client.protocol import POP3ClientProtocol
from .connector import Connector
from .errors import (
    CommandError,
    ConnectError,
    ConnectionLostError,
    DestinationError,
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
    Stored,
    TLSInfo,
)

if TYPE_CHECKING:
    from .client.factory import POP3ClientFactory
    from .discovery import Candidate, discover
    from .tls.options import TLSOptions

__all__ = [
    "UID",
    "Candidate",
    "Capabilities",
    "CommandError",
    "Committed",
    "ConnectError",
    "ConnectionLostError",
    "Connector",
    "DestinationError",
    "Handle",
    "Listing",
    "LoginError",
    "LoginInfo",
    "Message",
    "POP3ClientFactory",
    "POP3ClientProtocol",
    "POP3Error",
    "ProtocolError",
    "Refused",
    "STLSUnavailableError",
    "Secure",
    "Stat",
    "Stored",
    "TLSError",
    "TLSInfo",
    "TLSOptions",
    "TimedOutError",
    "UsageError",
    "VerificationError",
    "__version__",
    "connect",
    "discover",
]

# Imported when they are used: most programs call `connect` for a server that they know.
_HOME = {
    "Candidate": ".discovery",
    "POP3ClientFactory": ".client.factory",
    "TLSOptions": ".tls.options",
    "discover": ".discovery",
}

if not TYPE_CHECKING:
    # A type checker would take any name for one of the package's.

    def __getattr__(name: str) -> object:
        """Import a public name from its module."""
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(_HOME[name], __name__), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    """Return the public names."""
    return [*__all__, *globals()]
