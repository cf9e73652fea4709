"""
The mechanisms to log in with: challenges in, responses out.

`attempt` carries them over the connection.  SCRAM is scramp's; the rest are a line
each.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs

from ..errors import UsageError
from ..redaction import Secret, SecretBytes, printable

if TYPE_CHECKING:
    from scramp import ScramClient

__all__ = [
    "BAD_CREDENTIALS",
    "MECHANISMS",
    "SCRAM",
    "SCRAM_PLUS",
    "ChannelBinding",
    "Credentials",
    "Mechanism",
    "SASLError",
    "UnusableError",
    "apop_challenge",
    "apop_digest",
    "decode_challenge",
    "encode_response",
    "make_mechanism",
]

MAX_ITERATIONS = 1_000_000
"""Iterations of SCRAM at most.  More than servers use (4,096 to 600,000), and less than
a second of work: the server chooses the number, and the client does the work."""

MIN_ITERATIONS = 4096
"""Iterations of SCRAM at least (RFC 7677 section 4).  With fewer, a false server could
guess the password."""


MIN_SALT = 12
"""Octets of a SCRAM salt.  scramp 1.5 refuses shorter ones; RFC 5802 names no bound."""


class SASLError(Exception):
    """The server's side of a mechanism is wrong; it must not be trusted."""


class UnusableError(Exception):
    """
    The mechanism cannot be used with what the server has stored for this account.

    Nothing is wrong with the server, and nothing made of the password was sent.
    """


ChannelBinding = tuple[str, bytes]
"""The type of a channel binding (RFC 5056) and its data."""


# Never compared: methods for that would cost time at every import.
@attrs.frozen(eq=False)
class Credentials:
    """
    The user name and password, kept only while the login runs.

    :ivar binding: what binds the login to the TLS around it.  SCRAM without -PLUS sends
        the flag ``y`` if there is one ("this client could bind"), else ``n`` (RFC 5802
        section 6).
    :ivar nonce: of SCRAM, where it must be known before; else a random one.
    :ivar authorize_as: whose mailbox to open; ``""``: that of ``username``.
    """

    username: str
    password: Secret = attrs.field(repr=False)
    host: str = ""
    port: int = 0
    binding: ChannelBinding | None = attrs.field(default=None, repr=False)
    nonce: str | None = None
    authorize_as: str = ""


def _saslname(name: str) -> str:
    """Return a name as it stands between commas (RFC 5802 section 5.1)."""
    return name.replace("=", "=3D").replace(",", "=2C")


def _octets(text: str) -> SecretBytes:
    # Here and in libraries, a traceback that shows local variables must not show it.
    text = Secret(text)
    try:
        return SecretBytes(text.encode())
    except UnicodeEncodeError:
        pass
    # Not raised above: that exception has the whole text in it.
    raise UsageError(
        "the user name or the password contains half a character (a surrogate), "
        "which UTF-8 cannot encode"
    )


class Mechanism:
    """
    One SASL mechanism during one login.

    :cvar name: as IANA lists it.
    :cvar cleartext: whether an eavesdropper could log in with what is sent.
    :cvar needs_tls: whether it must not be used without TLS at all.
    :cvar oauth: whether the password is a token.
    :cvar early: whether the initial response may go with the AUTH command.
    :cvar authorizes: whether it carries an authorization identity.
    :ivar tentative: whether nothing made of the password has been sent yet, and a
        server may refuse because it does not understand what was sent.
    """

    name = ""
    cleartext = False
    needs_tls = False
    oauth = False
    early = True
    authorizes = False
    tentative = False

    def __init__(self, credentials: Credentials) -> None:
        self.credentials = credentials

    def initial(self) -> bytes | None:
        """Return the initial response; ``None`` if the server speaks first."""
        return None

    def respond(self, challenge: bytes) -> bytes:
        """
        Answer a challenge.

        :raises SASLError: this mechanism has no such challenge.
        :raises UnusableError: the account's data at the server cannot be used.
        """
        raise SASLError("it sent a challenge that the mechanism does not have")

    def gives_up(self, challenge: bytes) -> bool:
        """Return whether the server says that it cannot go on with the mechanism."""
        return False

    def finish(self) -> None:
        """
        Check what the server has proven, after its ``+OK``.

        :raises SASLError: the server has not proven that it knows the password.
        """

    def failure(self) -> Mapping[str, str]:
        """Return what the server has told about a failure, beside its ``-ERR``."""
        return {}


class Plain(Mechanism):
    """PLAIN (RFC 4616)."""

    name = "PLAIN"
    cleartext = authorizes = True

    def initial(self) -> bytes:
        """Return the only message."""
        who = self.credentials
        return _octets(f"{who.authorize_as}\0{who.username}\0{who.password}")


class Login(Mechanism):
    """LOGIN: a prompt for the name, a prompt for the password, whatever they say."""

    name = "LOGIN"
    cleartext = True

    def __init__(self, credentials: Credentials) -> None:
        super().__init__(credentials)
        self._answers = [credentials.password, credentials.username]

    def respond(self, challenge: bytes) -> bytes:
        """Answer the next prompt."""
        if not self._answers:
            raise SASLError("it sent a third prompt")
        return _octets(self._answers.pop())


class CramMD5(Mechanism):
    """CRAM-MD5 (RFC 2195)."""

    name = "CRAM-MD5"

    def respond(self, challenge: bytes) -> bytes:
        """Prove the password."""
        who = self.credentials
        digest = hmac.new(_octets(who.password), challenge, "md5").hexdigest()
        return _octets(f"{who.username} {digest}")


_UNKNOWN_BINDING = (
    b"e=unsupported-channel-binding-type",
    b"e=channel-binding-not-supported",
)

BAD_CREDENTIALS = ("invalid-proof", "unknown-user", "invalid-username-encoding")
"""Errors of a SCRAM server (RFC 5802 section 7) that concern the name or password."""

_ERRORS = (
    *BAD_CREDENTIALS,
    "invalid-encoding",
    "extensions-not-supported",
    "channel-bindings-dont-match",
    "server-does-support-channel-binding",
    "channel-binding-not-supported",
    "unsupported-channel-binding-type",
    "no-resources",
    "other-error",
)


class Scram(Mechanism):
    """SCRAM (RFC 5802, 7677), with channel binding where its name ends in -PLUS."""

    authorizes = True

    def __init__(self, credentials: Credentials) -> None:
        super().__init__(credentials)
        self._bound = self.name.endswith("-PLUS")
        self._client = self._make_client()
        # A server may know another kind of binding, and cannot say so beforehand.
        self.tentative = self._bound
        self._asked = self._proven = False
        self._failure: dict[str, str] = {}

    def _make_client(self) -> ScramClient:
        # Late: it takes a while, and most sessions don't need it.
        from scramp import ScramClient, ScramException

        who = self.credentials
        kind, stand_in = "", None
        if who.binding is not None:
            # scramp refuses tls-exporter by its name, because Python's ssl cannot make
            # its data; OpenSSL can.  So the name is put in place afterwards.
            kind, data = who.binding
            stand_in = ("tls-server-end-point", data)
        flag = f"p={kind}" if self._bound else "n" if who.binding is None else "y"
        header = f"{flag},,"
        try:
            client = ScramClient(
                [self.name],
                who.username,
                who.password,
                # Without -PLUS too: the flag "y" brings a stripped offer to light.
                channel_binding=stand_in,
                c_nonce=who.nonce,
            )
            if who.authorize_as:
                header = f"{flag},a={_saslname(who.authorize_as)},"
                client.gs2_header = _gs2_header(client.gs2_header, header)
        except ScramException:
            client = None
        if client is not None:
            if self._bound:
                client.gs2_header.cb_name = kind
            if str(client.gs2_header) != header:
                client = None
        if client is not None:
            return client
        # Raised here: in the block above it would carry the password along.
        raise UsageError(
            f"{self.name} cannot be used with this user name, password and TLS: "
            "they must be allowed by SASLprep (RFC 4013), and there must be a channel "
            "to bind to"
        )

    def initial(self) -> bytes:
        """Return the client's first message."""
        first: str = self._client.get_client_first()
        return first.encode()

    def gives_up(self, challenge: bytes) -> bool:
        """Return whether it does not know the type of binding (RFC 5802 section 7)."""
        return self.tentative and challenge.startswith(_UNKNOWN_BINDING)

    def respond(self, challenge: bytes) -> bytes:
        """Prove the password; then check that the server knows it too."""
        problem = ""
        # A server may have put anything there, a secret too.
        told = Secret(challenge.removeprefix(b"e=").decode("ascii", "replace"))
        if challenge.startswith(b"e=") and told in _ERRORS and not self._failure:
            self.tentative = False
            self._failure = {"error": str(told)}
            # The server goes on to its -ERR.
            return b""
        try:
            if not self._asked:
                self._asked, self.tentative = True, False
                _check_iterations(challenge)
                _check_salt(challenge)
                self._client.set_server_first(challenge.decode())
                return SecretBytes(self._client.get_client_final().encode())
            self._client.set_server_final(challenge.decode())
            self._proven = True
        except (SASLError, UnusableError):
            raise
        except Exception as error:  # noqa: BLE001 - scramp's, and what it lets through
            problem = str(error)
        if problem:
            raise SASLError(printable(problem.encode()))
        return b""

    def finish(self) -> None:
        """Refuse a server that has not proven that it knows the password."""
        if not self._proven:
            raise SASLError("it did not prove that it knows the password")

    def failure(self) -> Mapping[str, str]:
        """Return the error that the server named (RFC 5802 section 7)."""
        return self._failure


def _gs2_header(scramps: Any, header: str) -> Any:
    """Return a header of scramp, which has no authorization identity, with one."""
    methods = {
        "__str__": lambda _: header,
        "__bytes__": lambda _: header.encode(),
    }
    made = type("Gs2Header", (type(scramps),), methods)
    return made(scramps.gs2_char, scramps.cb_name)


def _check_iterations(server_first: bytes) -> None:
    match = re.search(rb",i=(\d{1,12})(?:,|\Z)", server_first)
    count = int(match[1]) if match else 0
    if not MIN_ITERATIONS <= count <= MAX_ITERATIONS:
        raise SASLError(
            f"its iteration count is not from {MIN_ITERATIONS} to {MAX_ITERATIONS}"
        )


def _check_salt(server_first: bytes) -> None:
    match = re.search(rb",s=([A-Za-z0-9+/=]*),", server_first)
    salt = decode_challenge(match[1]) if match else None
    # One that cannot be decoded is scramp's to refuse.
    if salt is not None and len(salt) < MIN_SALT:
        raise UnusableError(
            f"the server's SCRAM salt for this account has {len(salt)} bytes, and at "
            f"least {MIN_SALT} are needed here; setting the password again on the "
            "server usually makes a longer one"
        )


class XOAuth2(Mechanism):
    """XOAUTH2, as large providers define it; the password is an access token."""

    name = "XOAUTH2"
    cleartext = needs_tls = oauth = True
    # Providers reject it on the line of the AUTH command.
    early = False

    _last_word = b""

    def __init__(self, credentials: Credentials) -> None:
        super().__init__(credentials)
        self._failure: dict[str, str] = {}

    def initial(self) -> bytes:
        """Return the only message."""
        who = self.credentials
        return _octets(f"user={who.username}\1auth=Bearer {who.password}\1\1")

    def respond(self, challenge: bytes) -> bytes:
        """Keep the reason of the failure, and let the server send its ``-ERR``."""
        if self._failure:
            raise SASLError("it sent a second challenge after the failure")
        import json  # late: few logins come here

        self._failure = {"status": "unknown"}
        try:
            told = json.loads(challenge)
        except (ValueError, RecursionError):
            told = None
        if isinstance(told, dict):
            # As it came: secrets in it are masked before it is cut or escaped.
            self._failure |= {
                key: str(told[key]).encode("utf-8", "replace").decode()
                for key in ("status", "scope", "schemes", "openid-configuration")
                if key in told
            }
        return self._last_word

    def failure(self) -> Mapping[str, str]:
        """Return status, scope and so on."""
        return self._failure


class OAuthBearer(XOAuth2):
    """OAUTHBEARER (RFC 7628); the password is an access token."""

    name = "OAUTHBEARER"
    early = authorizes = True

    _last_word = b"\1"

    def initial(self) -> bytes:
        """Return the only message."""
        who = self.credentials
        # RFC 7628 section 3.1: the token says who logs in, this whose mailbox it is.
        name = who.authorize_as or who.username
        return _octets(
            f"n,a={_saslname(name)},\1host={who.host}\1port={who.port}\1"
            f"auth=Bearer {who.password}\1\1"
        )


class External(Mechanism):
    """EXTERNAL (RFC 4422 appendix A): the client certificate proves the identity."""

    name = "EXTERNAL"
    authorizes = True

    def initial(self) -> bytes:
        """Return the name that the certificate's owner wants to act as."""
        who = self.credentials
        return _octets(who.authorize_as or who.username)


class Anonymous(Mechanism):
    """ANONYMOUS (RFC 4505); the user name is the trace."""

    name = "ANONYMOUS"

    def initial(self) -> bytes:
        """Return the user name as the trace."""
        return _octets(self.credentials.username)


SCRAM = ("SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1")
SCRAM_PLUS = tuple(f"{name}-PLUS" for name in SCRAM)
"""Our kinds of SCRAM, the strongest first."""

_kinds: list[type[Mechanism]] = [
    *(type("Scram", (Scram,), {"name": name}) for name in (*SCRAM_PLUS, *SCRAM)),
    Plain,
    Login,
    CramMD5,
    XOAuth2,
    OAuthBearer,
    External,
    Anonymous,
]

MECHANISMS: Mapping[str, type[Mechanism]] = {kind.name: kind for kind in _kinds}
"""The SASL mechanisms that we speak, by name."""


def make_mechanism(name: str, credentials: Credentials) -> Mechanism:
    """
    Begin a login.

    :raises UsageError: this mechanism cannot be given these credentials.
    """
    return MECHANISMS[name](credentials)


# RFC 1939 section 7: a msg-id as in RFC 822.  Without the @ it is a host name in
# angle brackets, which some servers put into their greeting.
_ATOMS = rb"[\x21-\x3b\x3d\x3f\x41-\x7e]+"
_CHALLENGE = re.compile(b"<" + _ATOMS + b"@" + _ATOMS + b">")


def apop_challenge(greeting: bytes) -> bytes | None:
    """Return the timestamp in a greeting, with its brackets, if there is one."""
    match = _CHALLENGE.search(greeting)
    return match[0] if match else None


def apop_digest(challenge: bytes, password: str) -> Secret:
    """Return the digest for APOP (RFC 1939 section 7)."""
    octets = SecretBytes(challenge + _octets(password))
    return Secret(hashlib.md5(octets, usedforsecurity=False).hexdigest())


def encode_response(response: bytes) -> Secret:
    """Encode a response (RFC 5034 section 4)."""
    return Secret(base64.b64encode(response).decode("ascii"))


_BASE64 = rb"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"


def decode_challenge(challenge: bytes) -> SecretBytes | None:
    """Decode a challenge; ``None`` if it is not base64, strictly (RFC 5034)."""
    # Not left to Python alone: older versions take pads in odd places.
    if re.fullmatch(_BASE64, challenge) is None:
        return None
    return SecretBytes(base64.b64decode(challenge))


def forms(credentials: Credentials) -> list[bytes]:
    """Return the forms in which a server may repeat a password."""
    octets = _octets(credentials.password)
    plain = Plain(credentials).initial()
    return [
        octets,
        SecretBytes(base64.b64encode(octets)),
        SecretBytes(base64.b64encode(plain)),
    ]
