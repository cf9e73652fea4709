"""
Keeps secrets out of what is shown: strings that do not print, masking and escaping of
text from the network, and the transcript for the status procedure.

Server text goes through here before it is shown, in an exception as well as in a status
line: control characters are escaped, and a secret of this session that the server
repeats is masked.
"""

from __future__ import annotations

import hashlib
import secrets
import unicodedata
from collections.abc import Callable
from typing import Generic, Protocol, TextIO, TypeVar

__all__ = [
    "MASK",
    "Listener",
    "Secret",
    "SecretBytes",
    "StatusProcedure",
    "Transcript",
    "encodable",
    "escape",
    "first_line",
    "hidden",
    "printable",
]

MASK = "********"

_SHOWN_OCTETS = 512
"""A status line is at most this long (RFC 2449 section 4); more is cut."""

_SHORT_SECRET = 4
"""A secret shorter than this is masked as a word only: "a" is in every text."""

MAX_HASHES = 1_000_000
"""Places of a server's text that are compared with the secrets in one session: about a
second of work.  More is an attack, and that text is not shown."""

NOT_SEARCHED = b"(not shown: there is too much text to search it for secrets)"

StatusProcedure = Callable[[str], object]
"""
Called with each protocol message, passwords masked.  The result is ignored.

    "C: CAPA", "S: +OK ready", "C: PASS ********", "TLS: ..."
"""

T = TypeVar("T")


class _Log(Protocol):
    def failure(self, format: str) -> object: ...  # noqa: A002


class Secret(str):
    """A str that no ``repr`` shows: a traceback prints local variables with it."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Show nothing of it."""
        return MASK


def hidden(value: T) -> T:
    """Return a str as a `Secret`, and any other value unchanged."""
    return Secret(value) if isinstance(value, str) else value  # type: ignore[return-value]


class SecretBytes(bytes):
    """The same, for bytes, whose str() would be its repr()."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Show nothing of it."""
        return MASK

    __str__ = __repr__


_MAX_MARKS = 4
"""Accents on one letter: scripts need up to four, and more reach into other lines."""

# Characters without width or ink that `str.isprintable` lets pass: of the
# Default_Ignorable_Code_Point property (Unicode 16, DerivedCoreProperties.txt), without
# the two selectors of text and emoji presentation, which change what is seen.
_INVISIBLE = frozenset(
    (
        *"\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0",
        *map(chr, range(0x180B, 0x1810)),
        *map(chr, range(0xFE00, 0xFE0E)),
        *map(chr, range(0xE0100, 0xE01F0)),
    )
)


def escape(text: str) -> str:
    """
    Return `text` as one line that a terminal shows as it stands.

    Control characters, line separators, characters that change the direction of the
    text and characters without width become escapes such as ``\\x1b`` and ``\\u202e``;
    so do accents that no letter carries.  Letters of every script are kept.
    """
    if text.isascii() and text.isprintable():
        return text
    shown = []
    marks = _MAX_MARKS
    for char in text:
        if not char.isprintable() or char in _INVISIBLE:
            shown.append(char.encode("unicode_escape").decode("ascii"))
            marks = _MAX_MARKS
        elif unicodedata.category(char) not in ("Mn", "Me"):
            shown.append(char)
            marks = 0
        elif marks < _MAX_MARKS:
            shown.append(char)
            marks += 1
        else:
            shown.append(char.encode("unicode_escape").decode("ascii"))
    return "".join(shown)


def first_line(text: str) -> Secret:
    """
    Return the password that a program printed or a file has: its first line.

    LF ends it, with a CR before it or without, and nothing else does: a password may
    have a form feed or U+2028 in it.
    """
    return Secret(text.partition("\n")[0].removesuffix("\r"))


def printable(text: bytes) -> str:
    """Return server text as one printable line: UTF-8 kept, the rest escaped."""
    return escape(text.decode("utf-8", "backslashreplace"))


def encodable(text: str, stream: TextIO) -> str:
    """
    Return `text` with escapes in place of the characters that a stream cannot encode.

    A terminal or a file may have an encoding such as cp1252; to write another
    character to it is a ``UnicodeEncodeError``.
    """
    encoding = stream.encoding or "ascii"
    return text.encode(encoding, "backslashreplace").decode(encoding)


class _Fingerprints:
    """
    Recognises secrets in a text without keeping them.

    After the login a keyed hash of each secret is left, and one of its bytes with its
    place, so that a server which repeats a password an hour later is still masked, and
    a dump of the process's memory has no password in it.

    The byte says where a look pays: hashing every place of every line would let a
    server burn the processor.  The hashes are bounded anyway, by `MAX_HASHES`.
    """

    __slots__ = ("_key", "_known", "_left")

    def __init__(self, max_hashes: int) -> None:
        self._key = secrets.token_bytes(16)
        # Of each secret its length, the place of the byte, the byte, and the hash.
        # Longest first: a secret may hold another one.
        self._known: tuple[tuple[int, int, bytes, bytes], ...] = ()
        self._left = max_hashes

    def add(self, secret: bytes) -> None:
        digest = self._digest(secret)
        if secret and not any(digest == mark[3] for mark in self._known):
            place = secret.index(min(secret, key=_FREQUENCY.__getitem__))
            mark = (len(secret), place, secret[place : place + 1], digest)
            self._known = tuple(
                sorted((*self._known, mark), key=lambda mark: mark[0], reverse=True)
            )

    @property
    def longest(self) -> int:
        """Bytes of the longest secret."""
        return self._known[0][0] if self._known else 0

    def _digest(self, window: bytes) -> bytes:
        return hashlib.blake2b(window, digest_size=16, key=self._key).digest()

    def mask(self, text: bytes) -> bytes:
        for length, place, byte, digest in self._known:
            at = text.find(byte)
            while at >= 0:
                start, end = at - place, at - place + length
                if start >= 0 and end <= len(text):
                    self._left -= 1
                    if self._left < 0:
                        return NOT_SEARCHED
                    if self._digest(text[start:end]) == digest and (
                        length >= _SHORT_SECRET or _is_word(text, start, end)
                    ):
                        text = text[:start] + MASK.encode() + text[end:]
                        at = start + len(MASK) - 1
                at = text.find(byte, at + 1)
        return text


_COMMON = b" etaoinsrhldcumfpgwybvkxjqz0123456789"

_FREQUENCY = bytes(
    len(_COMMON) - _COMMON.find(byte) if byte in _COMMON else 0 for byte in range(256)
)
"""For each byte a rank that is higher if it is common in a server's text."""


def _is_word(text: bytes, start: int, end: int) -> bool:
    before, after = text[max(start - 1, 0) : start], text[end : end + 1]
    return not (before.isalnum() or after.isalnum())


class Listener(Generic[T]):
    """
    Calls a function of the program, whose exceptions do not disturb a session.

    :param function: called with each value.  The first exception in it is logged.
    :param name: what the log calls the function.
    """

    __slots__ = ("_failed", "_function", "_log", "_name")

    def __init__(self, function: Callable[[T], object], name: str, log: _Log) -> None:
        self._function = function
        self._name = name
        self._log = log
        self._failed = False

    def __call__(self, value: T) -> None:
        """Call the function."""
        try:
            self._function(value)
        except Exception:  # noqa: BLE001 - whatever it is, the session goes on
            if not self._failed:
                # Once: it may fail for each of a hundred thousand values.
                self._failed = True
                self._log.failure(
                    f"{self._name} failed; further failures in this session are "
                    "not logged"
                )


class Transcript:
    """
    Tells one session's status procedure what happens.

    :param procedure: called with each line.  The first exception in it is logged, and
        the session goes on after any.  ``None`` means no status procedure.
    :param max_hashes: how much work may go into finding secrets in the server's text.
    """

    __slots__ = ("_listener", "_secrets", "listening")

    def __init__(
        self,
        procedure: StatusProcedure | None,
        log: _Log,
        *,
        max_hashes: int = MAX_HASHES,
    ) -> None:
        #: Whether there is a status procedure; check it before building a line in a
        #: hot path.
        self.listening = procedure is not None
        self._listener: Listener[str] | None = None
        if procedure is not None:
            self._listener = Listener(procedure, "the status procedure", log)
        self._secrets = _Fingerprints(max_hashes)

    def keep_secret(self, *values: bytes) -> None:
        """
        Mask these values in everything the server says from now on.

        Also without the blanks at their ends: a server may trim what it repeats, and
        a status line is shown without the blanks behind it.
        """
        for value in values:
            self._secrets.add(value)
            if value != value.strip():
                for form in {value.lstrip(), value.rstrip(), value.strip()}:
                    self._secrets.add(form)

    def mask(self, text: bytes) -> bytes:
        """
        Return the beginning of server text, with the secrets in it masked.

        That is all that is ever shown, and what lies beyond costs nothing: each
        octet is hashed, and how long a line is, is the server's choice.
        """
        longest = self._secrets.longest
        window = text[: _SHOWN_OCTETS + longest]
        masked = self._secrets.mask(window)
        if len(window) == len(text) or not longest:
            return masked
        # The end of the window can be half of a secret.
        return masked[: len(masked) - longest + 1]

    def clean(self, text: bytes) -> str:
        """Return server text fit to be seen: masked, escaped, not too long."""
        # Masked before it is cut: the cut must not bare half of a secret.
        masked = self.mask(text)
        cut = len(masked) > _SHOWN_OCTETS or len(text) > (
            _SHOWN_OCTETS + self._secrets.longest
        )
        return printable(masked[:_SHOWN_OCTETS]) + ("..." if cut else "")

    def client(self, shown: str) -> None:
        """Tell a command; ``shown`` is already masked."""
        # A user name, or an argument of `Handle.command`, may have come from anywhere.
        self._tell(f"C: {escape(shown)}")

    def server(self, line: bytes) -> None:
        """Tell a status line or a continuation of the server."""
        if self.listening:
            self._tell(f"S: {self.clean(line)}")

    def challenge(self) -> None:
        """Tell that a SASL challenge came; what is in it is a secret."""
        self._tell(f"S: + {MASK}")

    def body(self, octets: int) -> None:
        """Tell that the body of a multi-line reply has arrived."""
        self._tell(f"S: ({octets} octets)")

    def tls(self, fact: str) -> None:
        """Tell a fact about TLS."""
        self._tell(f"TLS: {fact}")

    def warning(self, text: str) -> None:
        """Tell something the user should know about."""
        self._tell(f"Warning: {text}")

    def _tell(self, line: str) -> None:
        if self._listener is not None:
            self._listener(line)
