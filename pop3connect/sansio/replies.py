"""
Reads what a server says: status lines and the bodies of CAPA, LIST, UIDL, STAT.

Pure: bytes in, typed values out.  Lenient where servers are known to be loose
(further text, several blanks), strict where a wrong reading could lose a
message.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from ..redaction import printable
from ..results import UID, Listing, Stat

__all__ = [
    "CODES",
    "TLS_RECORD",
    "BadReplyError",
    "Status",
    "check_same",
    "looks_like",
    "parse_challenge",
    "parse_one_listing",
    "parse_one_uid",
    "parse_stat",
    "parse_status",
    "parse_uid_reply",
]

_SHOWN = 80
"""Characters of a reply that cannot be read: enough to see what it is."""

MAX_NUMBER = 2**63 - 1
"""The largest number in a reply.  No mailbox has more messages or octets."""


class BadReplyError(Exception):
    """
    A reply cannot be read; the message says what was wrong with it.

    Becomes a `ProtocolError` of the one command where the command is known.

    :ivar text: what cannot be read.  As it came, and all of it: where secrets are
        known they have to be masked before it is cut.
    """

    def __init__(self, problem: str, text: bytes | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.text = text

    def shown(self, clean: Callable[[bytes], str] = printable) -> str:
        """Return the message, with the beginning of the text."""
        if self.text is None:
            return self.problem
        return f"{self.problem}, got '{clean(self.text)[:_SHOWN]}'"

    __str__ = shown


class Status(NamedTuple):
    """A status line: ``+OK text`` or ``-ERR [code] text`` (RFC 1939 section 3)."""

    ok: bool
    text: bytes
    code: str | None = None

    challenge: bool = False
    """Whether it is ``+ text`` instead, which asks for more (RFC 5034 section 4)."""

    def __repr__(self) -> str:
        """Show no text: a challenge is secret, and other lines may repeat a secret."""
        sign = "+" if self.challenge else "+OK" if self.ok else "-ERR"
        code = f" [{self.code}]" if self.code else ""
        return f"<{sign}{code}, {len(self.text)} octets of text>"


# RFC 2449 section 8: "[" resp-level *("/" resp-level) "]" at the start of the
# text.  A level is what is printable without "/" and "]".
_CODE = re.compile(rb"\[([\x21-\x5c\x5e-\x7e]+)\]\s*")


CODES = frozenset(("IN-USE", "LOGIN-DELAY", "SYS/TEMP", "SYS/PERM", "AUTH", "UTF8"))
"""The response codes that are defined: RFC 2449 section 8.1, RFC 3206, RFC 6856."""


def parse_status(line: bytes) -> Status | None:
    """
    Read a status line; ``None`` if it is something else.

    A response code is looked for in ``-ERR`` only: in ``+OK`` none means
    anything to a client, and there are servers that put other things there.
    """
    # What goes on with a letter or a digit is another word, such as mail text has.
    if line[:3] == b"+OK" and not line[3:4].isalnum():
        return Status(True, line[3:].strip())
    # "+ERR" is what hMailServer has been seen to say.
    if line[:4] in (b"-ERR", b"+ERR") and not line[4:5].isalnum():
        text = line[4:].strip()
        code = _CODE.match(text)
        if code is None:
            return Status(False, text)
        return Status(False, text[code.end() :], code[1].decode("ascii").upper())
    return None


def parse_challenge(line: bytes) -> Status | None:
    """Read a continuation of SASL: ``+ challenge``; ``None`` if it is not one."""
    if line[:2] in (b"+", b"+ "):
        return Status(True, line[2:].strip(), challenge=True)
    return None


TLS_RECORD = "a TLS record"

# The first octets, in upper case, of what listens on ports that get mixed up with
# POP3's.
_OTHERS = (
    ((b"\x14\x03", b"\x15\x03", b"\x16\x03", b"\x17\x03"), TLS_RECORD),
    ((b"220 ", b"220-", b"421 ", b"421-", b"554 ", b"554-"), "an SMTP server"),
    ((b"* OK", b"* PREAUTH", b"* BYE"), "an IMAP server"),
    ((b"SSH-",), "an SSH server"),
    ((b"HTTP/", b"<!DOCTYPE", b"<HTML"), "a web server"),
)


def looks_like(greeting: bytes) -> str | None:
    """Return which other protocol a greeting seems to belong to, if any."""
    greeting = greeting.upper()
    if greeting.startswith((b"220 ", b"220-")) and b"FTP" in greeting:
        return "an FTP server"
    for beginnings, name in _OTHERS:
        if greeting.startswith(beginnings):
            return name
    return None


def parse_stat(text: bytes) -> Stat:
    """
    Read the reply to STAT; text after the two numbers is ignored.

    A total below zero (servers whose counter has wrapped) becomes 0: only the
    count matters.
    """
    words = text.split(None, 2)[:2]
    if len(words) < 2 or not words[0].isdigit():
        raise _bad(text, "a number of messages and a number of octets")
    size = b"0" if words[1][:1] == b"-" and words[1][1:].isdigit() else words[1]
    return Stat(_number(words[0], text), _number(size, text))


_LISTED = re.compile(rb"[ \t]*(\d+)[ \t]+(\d+)(?:[ \t]|\Z)")
_UNIQUE_ID = re.compile(rb"[!-~]{1,70}\Z")
_IDENTIFIED = re.compile(rb"[ \t]*(\d+)(?:[ \t](.*))?\Z", re.DOTALL)


def parse_one_listing(text: bytes) -> Listing:
    """Read one line of LIST; text after the two numbers is ignored."""
    match = _LISTED.match(text)
    if match is None:
        raise _bad(text, "a message number and a size")
    return Listing(_message_number(match[1], text), _number(match[2], text))


def parse_one_uid(text: bytes) -> UID:
    """
    Read one line of UIDL.

    The unique-id is all after the number, blanks included, whatever its length:
    it serves to recognise a message, and half of it would not.
    """
    match = _IDENTIFIED.match(text)
    if match is None:
        raise _bad(text, "a message number and a unique-id")
    uid = (match[2] or b"").strip(b" \t").decode("ascii", "surrogateescape")
    return UID(_message_number(match[1], text), uid)


def parse_uid_reply(text: bytes, asked: int) -> UID:
    """
    Read the reply to UIDL with an argument (RFC 1939 section 7).

    Twisted's own server answers with the unique-id and leaves out the number.  A
    reply of one word is such a unique-id.  A word of digits is refused: it could also
    be a message number whose unique-id is missing.

    :param asked: the message number that was sent.
    :raises BadReplyError: the reply is about another message, or cannot be read.
    """
    word = text.strip(b" \t")
    if word.isdigit():
        raise _bad(
            text, "a message number and a unique-id (uidl() has both), not one number"
        )
    if _UNIQUE_ID.match(word):
        return UID(asked, word.decode("ascii"))
    uid = parse_one_uid(text)
    check_same(asked, uid.number)
    return uid


def check_same(asked: int, told: int) -> None:
    """
    Check that a reply is about the message asked for.

    :raises BadReplyError: it is about another one.
    """
    if asked != told:
        raise BadReplyError(f"asked for message {asked}, the reply is about {told}")


def _message_number(digits: bytes, text: bytes) -> int:
    number = _number(digits, text)
    if number == 0:
        raise _bad(text, "a message number from 1")
    return number


def _number(digits: bytes, text: bytes) -> int:
    # The length first: int() of a very long text is slow, then an error.
    if digits.isdigit() and len(digits) <= 19 and int(digits) <= MAX_NUMBER:
        return int(digits)
    raise _bad(text, f"a number up to {MAX_NUMBER}")


def _bad(text: bytes, wanted: str) -> BadReplyError:
    return BadReplyError(f"expected {wanted}", text)
