"""
Every exception, on one page: what went wrong, whose fault it is, what to do.

``UsageError`` is the caller's fault; nothing was sent.  ``CommandError`` is the
server's refusal (``-ERR``); the session goes on, as it does after
``DestinationError``.  Everything else ends the session.  The exception of the layer
below, where there was one, is the ``__cause__``.  No message holds a password, a digest
or a token.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from .remedies import Option, Remedy

if TYPE_CHECKING:
    from cryptography.x509 import Certificate
    from typing_extensions import Self

__all__ = [
    "CommandError",
    "ConnectError",
    "ConnectionLostError",
    "DestinationError",
    "LoginError",
    "POP3Error",
    "ProtocolError",
    "STLSUnavailableError",
    "TLSError",
    "TimedOutError",
    "UsageError",
    "VerificationError",
]


class POP3Error(Exception):
    """
    The base of all errors of this package.

    :ivar message: what went wrong.
    :ivar server: ``host:port`` of the server, or the text that was given for
        it; ``None`` where no server is concerned.
    :ivar verb: the command that failed (``"RETR"``), where there was one.
    :ivar number: the number of the message that it was about, where there was one.
    :ivar remedy: what to do, where that is known; ``str()`` shows it too.
    :ivar option: the option of `connect` that the message is about, and begins with.
    """

    def __init__(
        self,
        message: str,
        *,
        server: str | None = None,
        verb: str | None = None,
        number: int | None = None,
        remedy: Remedy | None = None,
        option: Option | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.server = server
        self.verb = verb
        self.number = number
        self.remedy = remedy
        self.option = option

    def __str__(self) -> str:
        """Say where, which command, what, and what to do."""
        return self.worded(str)

    def worded(self, show: Callable[[Option], str | None]) -> str:
        """
        Return the text of the error, with options as ``show`` words them.

        :param show: returns ``None`` for an option that the front end does not have; a
            remedy that needs it is left out.
        """
        what = self.verb
        if self.number is not None:
            what = f"{self.verb or 'message'} {self.number}"
        message = self.message
        if self.option is not None:
            message = (show(self.option) or str(self.option)) + message
        remedy = None if self.remedy is None else self.remedy.worded(show)
        if remedy is not None:
            message = f"{message}; {remedy}"
        return ": ".join([part for part in (self.server, what) if part] + [message])

    def __reduce__(self) -> tuple[Any, ...]:
        """Support copy and pickle; the default loses keyword arguments."""
        return _rebuild, (type(self), self.args, self.__dict__.copy())

    def about(self, verb: str | None, number: int | None = None) -> Self:
        """Return a copy of the error, for another command that it affects."""
        twin = copy.copy(self)
        twin.verb = verb
        twin.number = number
        twin.__cause__ = self.__cause__
        return twin


def _rebuild(
    cls: type[POP3Error], args: tuple[Any, ...], attributes: dict[str, Any]
) -> POP3Error:
    error = cls.__new__(cls, *args)
    error.__dict__.update(attributes)
    return error


class UsageError(POP3Error, ValueError):
    """An argument cannot be used.  Nothing was sent to the server."""


class ConnectError(POP3Error):
    """The connection failed: name not found, refused, unreachable."""


class ConnectionLostError(POP3Error):
    """The connection was lost, or had been closed before."""


class TimedOutError(POP3Error):
    """
    Something took too long.

    :ivar phase: ``"looking up"`` (of `discover`), ``"connecting"``,
        ``"TLS handshake"``, ``"greeting"`` or ``"reply"``.
    :ivar seconds: the limit that was passed.
    """

    def __init__(
        self,
        message: str,
        *,
        phase: str,
        seconds: float,
        **rest: Any,
    ) -> None:
        super().__init__(message, **rest)
        self.phase = phase
        self.seconds = seconds


class TLSError(POP3Error):
    """The TLS handshake failed, or TLS could not be set up."""


class VerificationError(TLSError):
    """The server did not prove its identity: the wrong name, or an untrusted issuer."""

    def __init__(
        self,
        message: str,
        *,
        certificate: Certificate | None = None,
        **rest: Any,
    ) -> None:
        super().__init__(message, **rest)
        # As octets: a certificate object cannot be pickled.
        self._der = None if certificate is None else _der(certificate)

    @property
    def certificate(self) -> Certificate | None:
        """The certificate that was refused, where there was one."""
        if self._der is None:
            return None
        from cryptography.x509 import load_der_x509_certificate

        return load_der_x509_certificate(self._der)


def _der(certificate: Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.DER)


class STLSUnavailableError(TLSError):
    """
    STLS was asked for and is not offered, or was refused (RFC 2595).

    No credential has been sent; there is no fallback to plain text.
    """


class ProtocolError(POP3Error):
    """The server broke the protocol.  The session has been ended."""


class CommandError(POP3Error):
    """
    The server answered ``-ERR``.

    :ivar text: the server's text, without its response code.  Secrets in it
        are masked and control characters escaped.
    :ivar code: the response code (RFC 2449 section 8, RFC 3206) in upper case,
        without brackets: ``"IN-USE"``, ``"SYS/TEMP"``, ``"AUTH"``,
        ``"LOGIN-DELAY"``, ...; ``None`` if the reply had no code.
    :ivar retry_after: seconds to wait before the next login, if the server
        announced a LOGIN-DELAY (RFC 2449 section 6.5); else ``None``.
    """

    def __init__(
        self,
        message: str,
        *,
        text: str = "",
        code: str | None = None,
        retry_after: int | None = None,
        **rest: Any,
    ) -> None:
        super().__init__(message, **rest)
        self.text = text
        self.code = code
        self.retry_after = retry_after

    @property
    def transient(self) -> bool | None:
        """Whether trying again later can help; ``None`` if it can't be known."""
        # What a further level means beside the one above need not be known
        # (RFC 2449 section 8).
        levels = (self.code or "").split("/")
        if levels[0] in ("IN-USE", "LOGIN-DELAY") or levels[:2] == ["SYS", "TEMP"]:
            return True
        if levels[0] == "AUTH" or levels[:2] == ["SYS", "PERM"]:
            return False
        return None


class DestinationError(POP3Error):
    """
    A message could not be written to the destination that ``into`` chose for it.

    The session goes on.  The exception of the destination, or of ``into``, is the
    ``__cause__``.
    """


class LoginError(CommandError):
    """
    The server refused the login: the credentials, or the account's state.

    :ivar mechanism: what was tried: ``"USER"``, ``"APOP"`` or the name of a
        SASL mechanism; ``None`` if the session ended before that.
    :ivar details: further data from the server: with OAuth ``"status"``, ``"scope"``
        and so on (RFC 7628 section 3.2.2), with SCRAM ``"error"`` (RFC 5802 section 7).
    """

    def __init__(
        self,
        message: str,
        *,
        mechanism: str | None = None,
        details: Mapping[str, str] | None = None,
        **rest: Any,
    ) -> None:
        super().__init__(message, **rest)
        self.mechanism = mechanism
        self.details = dict(details or {})
