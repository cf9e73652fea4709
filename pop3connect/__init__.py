"""
A POP3 client for Twisted: one call opens a session, checks the server, logs in.

    handle = await connect("pop.example.com", "user", "secret", secure=Secure.STLS)
"""

from ._version import __version__
from .address import Secure
from .api import connect
from .client.factory import POP3ClientFactory
from .client.protocol import POP3ClientProtocol
from .connector import Connector
from .discovery import Candidate, discover
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
