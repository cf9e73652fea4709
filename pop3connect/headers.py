"""
Decodes header fields for display: Subject, From, Date and any other.

Anybody can write to a mailbox, so a field may hold any bytes at all.  Nothing here
raises: what cannot be decoded is shown as it stands.  The result is one line, without
characters that could disturb a terminal or forge a line of a log, and it has a bounded
length.  The work is bounded too: input is cut before it is parsed, and every regular
expression passes over its input once.
"""

from __future__ import annotations

import binascii
import pkgutil
import re
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from encodings import __path__ as _codec_path
from encodings import aliases, normalize_encoding
from itertools import groupby
from typing import NamedTuple

import attrs

from .redaction import escape

__all__ = [
    "MAX_FIELD",
    "MAX_HEADER",
    "MAX_SHOWN",
    "Summary",
    "codec_of",
    "decode",
    "decode_bytes",
    "decode_date",
    "decode_words",
    "fields",
    "first_of",
    "split",
    "summary",
]

MAX_HEADER = 262_144
"""Bytes of a header that are searched for fields: a list of 5,000 recipients fits."""

MAX_FIELD = 4_000
"""Bytes of a field's value that are decoded; `MAX_SHOWN` characters need no more."""

MAX_SHOWN = 1_000
"""Characters of a decoded value: more than a list or a log line has room for."""

MAX_DATE = 200
"""Bytes of a value that is parsed as a date; dates with comments have about 50."""

_CUT = "..."


@attrs.frozen
class Summary:
    """
    The header fields that a list of messages shows.

    :ivar subject: decoded; empty if the message has none, like the others.
    :ivar sender: the field From, decoded.
    :ivar date: ISO 8601, or the decoded text of a Date that cannot be parsed.
    """

    subject: str
    sender: str
    date: str


def summary(header: bytes) -> Summary:
    """
    Return the Subject, From and Date of a header; of a repeated field, the first.

    :param header: the header, or a message: reading stops at the first blank line, or
        after `MAX_HEADER` bytes.
    """
    found = _shown(header)
    return Summary(
        decode(found.get(b"subject", b"")),
        decode(found.get(b"from", b"")),
        decode_date(found.get(b"date", b"")),
    )


_HEADER_END = re.compile(rb"(?:\A|\n)\r?\n")


def split(message: bytes) -> tuple[bytes, bytes]:
    """Return the header of a message and its body, without the blank line between."""
    end = _HEADER_END.search(message)
    if end is None:
        return message, b""
    # The line end of the last field is the header's.
    return message[: end.start() + end[0].count(b"\n") - 1], message[end.end() :]


# A field begins with a name (RFC 5322 section 2.2) and goes on in the lines that begin
# with a blank or a tab (section 2.2.3).
_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:([^\n]*(?:\n[ \t][^\n]*)*)\n?")


def fields(header: bytes) -> Iterator[tuple[bytes, bytes]]:
    """
    Iterate over the fields of a header: the name and the raw value of each, in order.

    A line that belongs to no field comes with an empty name.

    :param header: as for `summary`.
    """
    header, _ = split(header[:MAX_HEADER])
    position = 0
    while position < len(header):
        if field := _FIELD.match(header, position):
            yield field[1], field[2].removesuffix(b"\r")
            position = field.end()
        else:
            end = (header.find(b"\n", position) + 1) or len(header)
            yield b"", header[position:end].removesuffix(b"\n").removesuffix(b"\r")
            position = end


def first_of(*names: bytes) -> Callable[[bytes], dict[bytes, bytes]]:
    """
    Return a function that finds the first field of each name in a header.

    It returns the raw values by name, takes what `fields` takes, and finds the same; it
    is faster by far, because it does not look at the other fields.

    :param names: in lower case.
    """
    # Each match begins with a literal line feed, for which a search is fast.
    choice = b"|".join(map(re.escape, names))
    pattern = rb"\n(?:\r?\n|(%b)[ \t]*:([^\n]*(?:\n[ \t][^\n]*)*))" % choice
    search = re.compile(pattern, re.IGNORECASE).finditer

    def find(header: bytes) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        for field in search(b"\n" + header[:MAX_HEADER]):
            if field[1] is None:
                # The blank line after the header.
                break
            found.setdefault(field[1].lower(), field[2].removesuffix(b"\r"))
        return found

    return find


_shown = first_of(b"subject", b"from", b"date")


# An encoded word (RFC 2047 section 2), with the language of RFC 2231 section 5.  Blanks
# in it are forbidden and common.  Nothing in it can hold a "?", so that a search looks
# at each byte a fixed number of times.
_WORD = re.compile(rb"=\?([!-)+->@-~]{1,60})(?:\*[^?\s]*)?\?([bBqQ])\?([^?]*)\?=")
_BLANKS = re.compile("(?:[ \t\xa0\u1680\u2000-\u200a\u202f\u205f\u3000]|\r?\n)+")


def decode(value: bytes) -> str:
    """
    Return the value of a header field as printable text on one line.

    Encoded words are decoded (RFC 2047), also where the standard forbids them and mail
    programs write them anyway, as in a quoted string.  One that is malformed, or in an
    unknown charset, is shown as it stands.  Bytes outside of them are UTF-8 (RFC 6532)
    or, where they are not, Windows-1252, the superset of Latin-1 that is meant by it.
    Runs of white space become one blank.  The rest is as for
    `pop3connect.redaction.escape`.

    :param value: the raw value, folded or not.
    :return: at most `MAX_SHOWN` characters; a longer text ends with ``...``.
    """
    cut = len(value) > MAX_FIELD
    if cut:
        value = _shorten(value)
    shown = escape(_BLANKS.sub(" ", decode_words(value)).strip(" "))
    if cut or len(shown) > MAX_SHOWN:
        shown = shown[: MAX_SHOWN - len(_CUT)] + _CUT
    return shown


def decode_words(value: bytes) -> str:
    """
    Return the value of a header field with encoded words and raw bytes decoded.

    As `decode`, but nothing is escaped, cut or unfolded: this is not for display.
    """
    words: list[_Word] = []
    texts: list[str] = []
    end = 0
    for match in _WORD.finditer(value):
        between = value[end : match.start()]
        # White space between two encoded words is not text (RFC 2047 section 6.2).
        if between.strip(b" \t\r\n"):
            texts += _texts(words)
            words = []
            texts.append(_raw(between))
        words.append(_word(match))
        end = match.end()
    texts += _texts(words)
    texts.append(_raw(value[end:]))
    return "".join(texts)


def decode_date(value: bytes) -> str:
    """
    Return a Date field (RFC 5322 section 3.3) in ISO 8601.

    :return: the date; without an offset from UTC if the field gives none.  A value that
        is not a date is decoded like any other field.
    """
    try:
        return parsedate_to_datetime(value[:MAX_DATE].decode("ascii")).isoformat()
    except Exception:  # noqa: BLE001 - see below
        # The parser of the standard library has raised half a dozen types of exceptions
        # on malformed dates, others in each version of Python.
        return decode(value)


def _shorten(value: bytes) -> bytes:
    """Cut a long value, between two words if it has any."""
    start = value[:MAX_FIELD]
    whole = max(start.rfind(b" "), start.rfind(b"\t"), start.rfind(b"\n"))
    if whole > MAX_FIELD // 2:
        return start[:whole]
    # One long word: a character that is cut in half must not become another one.
    return re.sub(rb"[\xc0-\xff][\x80-\xbf]{0,2}\Z", b"", start)


# -- raw bytes

# What "surrogateescape" makes of a byte that is not UTF-8, and what the byte means.
_WINDOWS_1252 = {
    0xDC00 + byte: bytes([byte]).decode("cp1252")
    if byte not in b"\x81\x8d\x8f\x90\x9d"
    else chr(byte)
    for byte in range(0x80, 0x100)
}


def _raw(octets: bytes) -> str:
    return octets.decode("utf-8", "surrogateescape").translate(_WINDOWS_1252)


# -- encoded words


class _Word(NamedTuple):
    """An encoded word: its charset, its bytes (``None`` if malformed), its source."""

    charset: str | None
    octets: bytes | None
    source: bytes


_BASE64 = re.compile(rb"[A-Za-z0-9+/]*={0,3}")
_BAD_ESCAPE = re.compile(rb"=(?![0-9A-Fa-f]{2})")


def _word(match: re.Match[bytes]) -> _Word:
    charset, encoding, text = match.groups()
    octets: bytes | None
    if encoding in b"bB":
        octets = _base64(b"".join(text.split()))
    else:
        octets = None
        if not _BAD_ESCAPE.search(text):
            octets = binascii.a2b_qp(text, header=True)
    return _Word(codec_of(charset), octets, match[0])


def _base64(text: bytes) -> bytes | None:
    if not _BASE64.fullmatch(text):
        return None
    digits = text.rstrip(b"=")
    # Missing padding is common; a digit that is left over makes no byte.
    if len(digits) % 4 == 1:
        return None
    return binascii.a2b_base64(digits + b"=" * (-len(digits) % 4))


def _texts(words: list[_Word]) -> Iterator[str]:
    """Decode encoded words that follow each other."""
    for charset, group in groupby(words, key=lambda word: word.charset):
        same = list(group)
        whole = None
        if all(word.octets is not None for word in same):
            # Some programs cut a character in half between two words.
            whole = _text(charset, b"".join(word.octets or b"" for word in same))
        if whole is not None:
            yield whole
            continue
        for word in same:
            text = None if word.octets is None else _text(charset, word.octets)
            yield _raw(word.source) if text is None else text


def _text(charset: str | None, octets: bytes) -> str | None:
    """Decode bytes; ``None`` if they are not text in this charset."""
    if charset is None:
        # Unknown: most such names are misspelt, and mean ASCII or UTF-8.
        text = _strict("utf_8", octets)
        return text if text is not None and text.isprintable() else None
    return decode_bytes(charset, octets)


def decode_bytes(codec: str, octets: bytes) -> str | None:
    """
    Decode bytes; ``None`` if they are not text in this charset.

    :param codec: a name that `codec_of` returned.
    """
    text = _strict(_WIDER.get(codec, codec), octets)
    return text if text is not None else _strict(codec, octets)


def _strict(codec: str, octets: bytes) -> str | None:
    try:
        text = octets.decode(codec)
        text.encode("utf-8")  # UTF-7 can hold half a surrogate pair.
    except (ValueError, LookupError):
        return None
    return text


# Codecs that come with Python and are not charsets: they turn bytes into bytes, decode
# Python source or host names, or depend on the computer.
_NO_CHARSETS = {
    *("aliases", "base64_codec", "bz2_codec", "charmap", "hex_codec", "idna", "mbcs"),
    *("oem", "punycode", "quopri_codec", "raw_unicode_escape", "rot_13", "undefined"),
    *("unicode_escape", "uu_codec", "zlib_codec"),
}
# Python keeps every name that it ever failed to find, so it is asked for these only.
_CHARSETS = {module.name for module in pkgutil.iter_modules(_codec_path)} - _NO_CHARSETS
# The charset that mail programs mean by a name is a larger one, as the WHATWG encoding
# standard lists them.
_WIDER = {
    "euc_kr": "cp949",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "latin_1": "cp1252",
    "shift_jis": "cp932",
}


def codec_of(charset: bytes) -> str | None:
    """Return Python's name for a charset, in ASCII; ``None`` if it has none."""
    name = normalize_encoding(charset.decode("ascii")).replace(".", "_").lower()
    if name not in aliases.aliases:
        name = name.removeprefix("x_")
    name = aliases.aliases.get(name, name)
    return name if name in _CHARSETS else None
