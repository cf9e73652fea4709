"""
The ways to log in, and which of them to use.

Pure: challenges in, responses out.  The dialogue is the business of `login`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable

import attrs

from .errors import UsageError
from .replies import Capabilities
from .status import Secret

__all__ = [
    "MECHANISMS",
    "Credentials",
    "Mechanism",
    "Plain",
    "apop_challenge",
    "apop_digest",
    "check_auth",
    "choose",
    "decode_challenge",
    "encode_response",
    "forms",
]


@attrs.frozen
class Credentials:
    """A name and a password, for as long as the login takes."""

    username: str
    password: Secret = attrs.field(repr=False)


def forms(credentials: Credentials) -> list[bytes]:
    """Return the forms in which a server may repeat a password."""
    secret = credentials.password.encode("utf-8", "surrogateescape")
    plain = Plain(credentials).initial()
    return [secret, base64.b64encode(secret), base64.b64encode(plain)]


class Mechanism:
    """
    One SASL mechanism during one login.

    :cvar name: as IANA lists it.
    :cvar cleartext: whether who listens learns the password.
    """

    name = ""
    cleartext = False

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def initial(self) -> bytes | None:
        """Return the initial response; ``None`` if the server speaks first."""
        return None

    def respond(self, challenge: bytes) -> bytes:
        """Answer a challenge."""
        raise NotImplementedError

    def secrets(self) -> list[bytes]:
        """Return what must not be shown if the server repeats it."""
        return []


class Plain(Mechanism):
    """PLAIN (RFC 4616)."""

    name = "PLAIN"
    cleartext = True

    def initial(self) -> bytes:
        """Return all there is to say."""
        who = self._credentials
        return b"\0%b\0%b" % (
            who.username.encode("utf-8"),
            who.password.encode("utf-8"),
        )

    def respond(self, challenge: bytes) -> bytes:
        """Say it now, if the server wanted to be asked first."""
        return self.initial()


MECHANISMS: dict[str, Callable[[Credentials], Mechanism]] = {"PLAIN": Plain}
"""What this version speaks beside USER and APOP."""


def choose(
    auth: str, capabilities: Capabilities, *, protected: bool, challenge: bool
) -> list[str]:
    """
    Return the mechanisms to try, the best first.

    :param auth: ``"auto"``, or the one that the caller wants.
    :param protected: whether TLS is on.
    :param challenge: whether the greeting had one, for APOP.
    """
    if auth != "auto":
        return [auth]
    if protected:
        # PLAIN before USER: it takes any name and password, in UTF-8.  APOP only
        # if there is nothing else: servers offer it that cannot do it.
        if "PLAIN" in capabilities.sasl:
            return ["PLAIN"]
        without_user = capabilities.known and "USER" not in capabilities
        return ["APOP"] if challenge and without_user else ["USER"]
    return ["APOP"] if challenge else ["USER"]


# RFC 1939 section 7: a msg-id as in RFC 822.  Without the @ it is a host name in
# angle brackets, which some servers put into their greeting.
_CHALLENGE = re.compile(
    rb"<[\x21-\x3b\x3d\x3f\x41-\x7e]+@[\x21-\x3b\x3d\x3f\x41-\x7e]+>"
)


def apop_challenge(greeting: bytes) -> bytes | None:
    """Return the timestamp in a greeting, with its brackets, if there is one."""
    match = _CHALLENGE.search(greeting)
    return match[0] if match else None


def apop_digest(challenge: bytes, password: str) -> str:
    """Return the digest for APOP (RFC 1939 section 7)."""
    octets = challenge + password.encode("utf-8")
    return hashlib.md5(octets, usedforsecurity=False).hexdigest()


def encode_response(response: bytes) -> str:
    """Encode a response (RFC 5034 section 4)."""
    return base64.b64encode(response).decode("ascii")


def decode_challenge(challenge: bytes) -> bytes | None:
    """Decode a challenge; ``None`` if it is not base64, strictly (RFC 5034)."""
    try:
        return base64.b64decode(challenge, validate=True)
    except binascii.Error:
        return None


def check_auth(auth: str) -> str:
    """
    Return the name of a way to log in as `choose` knows it.

    :raises UsageError: there is no such way.
    """
    name = auth.upper() if isinstance(auth, str) else ""
    if name == "AUTO":
        return "auto"
    known = ("USER", "APOP", *MECHANISMS)
    if name not in known:
        raise UsageError(
            f"auth={auth!r} is not known; it can be 'auto', {', '.join(known)}"
        )
    return name
