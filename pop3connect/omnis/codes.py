"""
The error codes of the Omnis family, and which of them stands for which of our errors.

From the appendix of the Omnis command reference, but for those from -600 down, which
are ours: the reference does not say what a server's ``-ERR`` gives.  Socket errors are
negated Winsock numbers on every platform.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from enum import IntEnum
from typing import TYPE_CHECKING

from twisted.internet.defer import CancelledError
from twisted.internet.error import DNSLookupError

from ..errors import (
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

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["CODES", "Code", "code_of", "error_text"]


class Code(IntEnum):
    """
    What a command of the family returns if it is not a socket or a count.

    :ivar text: what it means.
    """

    text: str

    def __new__(cls, number: int, text: str) -> Self:
        """Make a number with its text."""
        code = int.__new__(cls, number)
        code._value_ = number
        code.text = text
        return code

    OK = 0, "no error"
    PARAMETER_TYPE = -501, "incorrect parameter type"
    PARAMETER_COUNT = -503, "incorrect number of parameters"
    BAD_SOCKET = -509, "bad socket passed to command (unknown, or closed)"
    NO_ADDRESS = -511, "no address specified"
    CANCELLED = -516, "the end user cancelled the request"
    TIMEOUT = -522, "timeout while waiting for response or request"
    BAD_RESPONSE = -523, "badly formatted response from server"
    SHORT_RESPONSE = -524, "response from server is too short"
    RESPONSE_SYNTAX = -525, "response from server has incorrect syntax"
    REFUSED = -600, "the server refused a command"
    LOGIN_REFUSED = -601, "login refused"
    IN_USE = -602, "the mailbox is in use"
    STLS_UNAVAILABLE = -603, "STLS is not available"
    NO_SUCH_MESSAGE = -604, "no such message"
    NO_CONNECTION = -605, "no connection, for a reason that has no number"
    UNEXPECTED = -699, "an error in the program itself; the log has it"
    OUT_OF_MEMORY = -1010, "out of memory"
    NOT_SECURE = -1014, "secure operation on a non-secure connection"
    ALREADY_SECURE = -1015, "connection is already secure"
    NO_TLS_LIBRARY = -1016, "cannot load the TLS library"
    TLS_FUNCTION_MISSING = -1017, "a required function is missing from the TLS library"
    TLS_ERROR = -1021, "the TLS library reports an error; see WebDevGetSecureError"
    ACCESS = -10013, "permission denied"
    TOO_MANY_FILES = -10024, "too many open sockets"
    WOULD_BLOCK = -10035, "the operation would block"
    ADDRESS_NOT_AVAILABLE = -10049, "cannot assign the requested address"
    NETWORK_DOWN = -10050, "the network is down"
    NETWORK_UNREACHABLE = -10051, "the network is unreachable"
    ABORTED = -10053, "the connection was aborted"
    RESET = -10054, "the connection was reset, or closed, by the server"
    NO_BUFFERS = -10055, "no buffer space"
    CONNECTING_TIMED_OUT = -10060, "connecting timed out"
    CONNECTION_REFUSED = -10061, "the connection was refused"
    HOST_DOWN = -10064, "the host is down"
    NO_ROUTE = -10065, "no route to the host"
    HOST_NOT_FOUND = -11001, "host not found"


CODES: dict[type[BaseException], Code] = {
    UsageError: Code.PARAMETER_TYPE,
    ConnectError: Code.NO_CONNECTION,
    ConnectionLostError: Code.RESET,
    TimedOutError: Code.TIMEOUT,
    TLSError: Code.TLS_ERROR,
    VerificationError: Code.TLS_ERROR,
    STLSUnavailableError: Code.STLS_UNAVAILABLE,
    ProtocolError: Code.BAD_RESPONSE,
    CommandError: Code.REFUSED,
    LoginError: Code.LOGIN_REFUSED,
    POP3Error: Code.UNEXPECTED,
    CancelledError: Code.CANCELLED,
    MemoryError: Code.OUT_OF_MEMORY,
    ImportError: Code.NO_TLS_LIBRARY,
}
"""
The code of each error, by its class.  Finer: the errno below a connection that failed
or was lost counts, a time-out while connecting is -10060, and ``[IN-USE]`` is -602.
"""

# By name: their numbers differ from platform to platform.
_BY_ERRNO = {
    getattr(errno, name): code
    for name, code in {
        "EACCES": Code.ACCESS,
        "EPERM": Code.ACCESS,
        "EMFILE": Code.TOO_MANY_FILES,
        "ENFILE": Code.TOO_MANY_FILES,
        "EWOULDBLOCK": Code.WOULD_BLOCK,
        "EADDRNOTAVAIL": Code.ADDRESS_NOT_AVAILABLE,
        "ENETDOWN": Code.NETWORK_DOWN,
        "ENETUNREACH": Code.NETWORK_UNREACHABLE,
        "ECONNABORTED": Code.ABORTED,
        "ECONNRESET": Code.RESET,
        "EPIPE": Code.RESET,
        "ENOBUFS": Code.NO_BUFFERS,
        "ETIMEDOUT": Code.CONNECTING_TIMED_OUT,
        "ECONNREFUSED": Code.CONNECTION_REFUSED,
        "EHOSTDOWN": Code.HOST_DOWN,
        "EHOSTUNREACH": Code.NO_ROUTE,
    }.items()
    if hasattr(errno, name)
}


def code_of(error: BaseException) -> Code:
    """Return the code that stands for an error."""
    if isinstance(error, TimedOutError) and error.phase == "connecting":
        return Code.CONNECTING_TIMED_OUT
    if isinstance(error, CommandError) and error.code == "IN-USE":
        return Code.IN_USE
    if isinstance(error, (ConnectError, ConnectionLostError)):
        for cause in _causes(error):
            code = _socket_code(cause)
            if code is not None:
                return code
    for kind in type(error).__mro__:
        if kind in CODES:
            return CODES[kind]
    return Code.UNEXPECTED


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    cause = error.__cause__
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__


def _socket_code(cause: BaseException) -> Code | None:
    if isinstance(cause, DNSLookupError):
        return Code.HOST_NOT_FOUND
    # Twisted's own errors keep the number in osError.
    number = getattr(cause, "osError", None) or getattr(cause, "errno", None)
    return _BY_ERRNO.get(number) if isinstance(number, int) else None


def error_text(code: int) -> str:
    """Return what a code means; of a number that is none, that."""
    texts = {known.value: known.text for known in Code}
    return texts.get(code, f"{code} is not a code")
