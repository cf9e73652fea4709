"""
Every value that a user receives: the results of the commands, the facts of a session.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import attrs

from .errors import POP3Error

if TYPE_CHECKING:
    from email.message import EmailMessage

    from cryptography import x509

    from .headers import Summary

__all__ = [
    "UID",
    "Capabilities",
    "Committed",
    "Listing",
    "LoginInfo",
    "Message",
    "Refused",
    "Stat",
    "Stored",
    "TLSInfo",
]


class Stat(NamedTuple):
    """The size of the mailbox (RFC 1939, STAT)."""

    count: int  # type: ignore[assignment]
    """Messages, without those marked as deleted."""

    size: int
    """Octets of all of them, as the server counts; a hint."""


class Listing(NamedTuple):
    """One message of a scan listing (RFC 1939, LIST)."""

    number: int
    """The message number, from 1."""

    size: int
    """Octets with CRLF line ends, as the server counts; a hint."""


class UID(NamedTuple):
    """One message of a unique-id listing (RFC 1939, UIDL)."""

    number: int
    """The message number, from 1."""

    uid: str
    """The unique-id; octets beyond ASCII are surrogate escapes."""


class Capabilities(Mapping[str, tuple[str, ...]]):
    """
    What a server can do (RFC 2449 section 5): tag in upper case -> parameters.

    ``"UIDL" in capabilities``, ``capabilities["SASL"]``.  Looking up a tag
    ignores its case.  Unknown tags are kept.  An empty one stands for a server
    that does not know CAPA; see `known`.
    """

    __slots__ = ("_known", "_tags")

    def __init__(
        self, tags: Mapping[str, tuple[str, ...]] | None = None, *, known: bool = True
    ) -> None:
        self._tags = dict(tags or {})
        self._known = known

    def __getitem__(self, tag: str) -> tuple[str, ...]:
        """Return the parameters of a capability; KeyError if it is not there."""
        return self._tags[tag.upper()]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the tags, in the order of the server."""
        return iter(self._tags)

    def __len__(self) -> int:
        """Count the tags."""
        return len(self._tags)

    def __repr__(self) -> str:
        """Show the tags."""
        return f"<Capabilities {' '.join(self._tags) or 'none'}>"

    def same_as(self, other: Capabilities) -> bool:
        """Return whether a server said the same, in the same order."""
        if self is other:
            return True
        return self._known == other._known and list(self._tags.items()) == list(
            other._tags.items()
        )

    @property
    def known(self) -> bool:
        """Whether the server answered CAPA; if not, anything may be possible."""
        return self._known

    @property
    def sasl(self) -> tuple[str, ...]:
        """The SASL mechanisms, in upper case (RFC 5034 section 3)."""
        return tuple(name.upper() for name in self._tags.get("SASL", ()))

    @property
    def login_delay(self) -> int | None:
        """Seconds that must pass between two logins (RFC 2449 section 6.5)."""
        words = self._tags.get("LOGIN-DELAY", ())
        return int(words[0]) if words and _is_count(words[0]) else None

    @property
    def expire(self) -> int | None:
        """
        Days that messages are kept (RFC 2449 section 6.7).

        ``None``: the server never deletes them, or does not say.  0: it deletes them
        once they were fetched.
        """
        words = self._tags.get("EXPIRE", ())
        return int(words[0]) if words and _is_count(words[0]) else None

    @property
    def implementation(self) -> str | None:
        """The server's name for itself (RFC 2449 section 6.9), meant for people."""
        words = self._tags.get("IMPLEMENTATION")
        return None if words is None else " ".join(words)


def _is_count(word: str) -> bool:
    return word.isascii() and word.isdecimal() and len(word) < 10


@attrs.frozen
class LoginInfo:
    """
    How the login went.

    :ivar mechanism: ``"USER"``, ``"APOP"``, or the name of a SASL mechanism.
    :ivar cleartext: whether the password itself went over the wire without TLS.
    """

    mechanism: str
    cleartext: bool


@attrs.frozen
class Committed:
    """
    What was deleted at the end of a session (RFC 1939 section 6).

    :ivar deleted: the numbers of the messages that are deleted now.
    """

    deleted: frozenset[int]


class Message(NamedTuple):
    """
    A message (RFC 1939, RETR), or its header (TOP); see also `Refused`.

    Anybody can write to a mailbox, so a message may hold any bytes at all.  Nothing
    here raises.
    """

    number: int
    """The message number, from 1."""

    content: bytes
    """The message as it is stored, with CRLF."""

    error: None
    """Always ``None``: the server did not refuse the message."""

    @property
    def subject(self) -> str:
        """The field Subject: decoded, printable, one line; empty if it is missing."""
        return self._summary().subject

    @property
    def sender(self) -> str:
        """The field From, likewise."""
        return self._summary().sender

    @property
    def date(self) -> str:
        """The field Date in ISO 8601; the decoded text of one that is not a date."""
        return self._summary().date

    def parse(self) -> EmailMessage:
        """
        Return the message as the standard library represents mail.

        The policy is `email.policy.default`, with two exceptions for hostile mail.  A
        field that the standard library cannot parse, or of more than 32 KiB, is text
        only: it has no addresses and no parameters.  So are those fields of MIME that
        come after 64 KiB of others.  A message whose parts cannot be parsed, or are
        more than 2,000, is not split into parts; nor is one of very many lines and
        boundaries, if the product of both numbers is above 10 million.
        """
        from .parsing import parse

        return parse(self.content)

    def _summary(self) -> Summary:
        from .headers import summary

        return summary(self.content)


class Refused(NamedTuple):
    """
    A message that was not received.

    The server refused to send it (RFC 1939, ``-ERR`` to RETR or TOP), or it could not
    be written to the destination that ``into`` chose for it.
    """

    number: int
    """The message number, from 1."""

    content: None
    """Always ``None``."""

    error: POP3Error
    """Why: a `CommandError` if the server refused it, else a `DestinationError`."""


class Stored(NamedTuple):
    """A message that was written to a destination; see also `Refused`."""

    number: int
    """The message number, from 1."""

    size: int
    """Bytes that were written."""

    destination: Any
    """What ``into`` returned for it; a file is still open."""

    error: None
    """Always ``None``: all of the message was written."""


@attrs.frozen
class TLSInfo:
    """
    The TLS that protects a session.

    :ivar version: ``"TLSv1.3"`` or ``"TLSv1.2"``.
    :ivar cipher: OpenSSL's name of the cipher suite.
    :ivar verified: whether the server has proven its identity.
    :ivar verified_by: what proved it: ``"chain"``, the certificate's chain and name;
        or ``"pin"``, its key alone, with ``verify=False`` and ``pins``; else ``None``.
    """

    version: str
    cipher: str
    verified: bool
    verified_by: str | None = None
    _certificate: Callable[[], x509.Certificate] | None = attrs.field(
        default=None, repr=False, eq=False
    )

    @property
    def peer_certificate(self) -> x509.Certificate | None:
        """
        The server's certificate.

        ``None`` if cryptography cannot parse it: with ``verify=False`` a server may
        show any bytes that OpenSSL accepts.
        """
        # Made when asked for: most sessions never ask.
        if self._certificate is None:
            return None
        try:
            return self._certificate()
        except Exception:  # noqa: BLE001 - cryptography raises exceptions of many types
            return None
