"""
A message taken apart, as the command MailSplit of Omnis does it, over `email`.

Encoded words, character sets and transfer encodings that are malformed or unknown are
left as they are.  Only a message with hundreds of parts, each inside another, is an
error.
"""

from __future__ import annotations

import re
from binascii import a2b_base64, a2b_qp
from collections.abc import Iterator
from email import policy
from email.message import Message
from email.parser import BytesHeaderParser, BytesParser
from typing import Any, NamedTuple

from .codes import Code, RefusedError
from .parameters import check, check_list

__all__ = ["Part", "split"]


class Part(NamedTuple):
    """
    One part of a message.

    :ivar level: 0 for the message itself, 1 for a part of it, 2 for a part of that.
    :ivar type: such as ``"text"``, in lower case.
    :ivar subtype: such as ``"plain"``, in lower case.
    :ivar filename: ``""`` if the part does not name one.
    :ivar text: the decoded text of a text part, with the line ends of the message;
        ``""`` for any other part.
    :ivar data: the decoded bytes; ``b""`` for a part that contains other parts.
    """

    level: int
    type: str
    subtype: str
    filename: str
    text: str
    data: bytes


def split(message: object, headerlist: object, body: object) -> None:
    """
    Take a message apart, as `Omnis.MailSplit` describes.

    :raises RefusedError: a parameter cannot be used (-501), or the parts of the message
        are nested too deeply (-525).
    """
    try:
        content = (
            message.encode("utf-8", "surrogateescape")
            if isinstance(message, str)
            else bytes(message)
            if isinstance(message, (bytes, bytearray, memoryview))
            else None
        )
    except UnicodeEncodeError:
        content = None
    check(content is not None, "message", "bytes, a bytearray or a str", type(message))
    assert content is not None
    check_list("headerlist", headerlist)
    check(
        isinstance(body, (bytearray, list)) and body is not headerlist,
        "body",
        "a bytearray, or a list that is not headerlist",
        type(body),
    )
    assert isinstance(headerlist, list)
    # compat32 keeps the fields as they stand; the newer policies parse each of them,
    # and can fail on malformed ones.
    parsed = BytesHeaderParser(policy=policy.compat32).parsebytes(content)
    headerlist[:] = [(name, _decoded(value)) for name, value in parsed.raw_items()]
    if isinstance(body, list) and not body:
        return
    too_deep = False
    try:
        parsed = BytesParser(policy=policy.compat32).parsebytes(content)
    except RecursionError:
        # What was parsed has the whole body in one part.
        too_deep = True
    if isinstance(body, list):
        body[:] = _parts(parsed)
    elif isinstance(body, bytearray):
        body[:] = _body(parsed)
    if too_deep:
        raise RefusedError(
            Code.RESPONSE_SYNTAX,
            "the parts of the message are nested too deeply, so its body was not "
            "taken apart",
        )


def _body(message: Message) -> bytes:
    """
    Return the body of a message: its main text as UTF-8, or the decoded bytes.

    The main text of a message in parts is the first plain text, else the first HTML
    text, that is not an attachment.
    """
    part = message
    if message.is_multipart():
        texts = [
            each
            for _, each in _walk(message)
            if each.get_content_maintype() == "text"
            and each.get_content_disposition() != "attachment"
            and not each.is_multipart()
        ]
        texts.sort(key=lambda each: each.get_content_subtype() != "plain")
        if not texts:
            return b""
        part = texts[0]
    data = _data(part)
    if part.get_content_maintype() == "text":
        return _text(part, data).encode("utf-8", "replace")
    return data


def _parts(message: Message) -> list[Part]:
    """Return a row for the message and for each of its parts, in order."""
    rows = []
    for level, part in _walk(message):
        data = b"" if part.is_multipart() else _data(part)
        is_text = part.get_content_maintype() == "text"
        rows.append(
            Part(
                level,
                part.get_content_maintype(),
                part.get_content_subtype(),
                _filename(part),
                _text(part, data) if is_text else "",
                data,
            )
        )
    return rows


def _walk(message: Message) -> Iterator[tuple[int, Message]]:
    # Not Message.walk(): it recurses, and does not tell the level.
    waiting = [(0, message)]
    while waiting:
        level, part = waiting.pop()
        yield level, part
        if part.is_multipart():
            inner: Any = part.get_payload()
            waiting.extend((level + 1, each) for each in reversed(inner))


def _data(part: Message) -> bytes:
    data = part.get_payload(decode=True)
    return data if isinstance(data, bytes) else b""


def _text(part: Message, data: bytes) -> str:
    try:
        return data.decode(part.get_content_charset() or "utf-8")
    except (LookupError, ValueError):
        # Unknown, or not what the bytes are in.  Latin-1 has a character for each
        # byte, so nothing is lost.
        pass
    try:
        return data.decode("utf-8")
    except ValueError:
        return data.decode("latin-1")


def _filename(part: Message) -> str:
    try:
        name = part.get_filename("")
    except (LookupError, ValueError, TypeError):
        # RFC 2231 parameters in a form that `email` does not expect.
        return ""
    return _decoded(name)


# An encoded word (RFC 2047 section 2), with the language of RFC 2231 section 5, and the
# white space before another one, which is not text (RFC 2047 section 6.2).
_WORD = re.compile(
    r"=\?([^?\s*]+)(?:\*[^?\s]*)?\?([QqBb])\?([^?\s]*)\?="
    r"(?:[ \t]+(?==\?[^?\s]+\?[QqBb]\?))?"
)


def _decoded(value: Any) -> str:
    """Decode the encoded words (RFC 2047) and the raw bytes of a header field."""
    octets = str(value).encode("utf-8", "surrogateescape")
    try:
        raw = octets.decode("utf-8")
    except ValueError:
        raw = octets.decode("latin-1")
    unfolded = re.sub(r"\r\n?|\n", "", raw).strip(" \t")
    texts: list[str] = []
    charset, pending, end = "", b"", 0
    for word in _WORD.finditer(unfolded):
        before = unfolded[end : word.start()]
        data = _word(word[2], word[3])
        # Words that follow each other are decoded together: some programs cut a
        # character in half between two words.
        if before or data is None or word[1].lower() != charset:
            texts += (_in(charset, pending), before)
            charset, pending = word[1].lower(), b""
        if data is None:
            texts.append(word[0])
        else:
            pending += data
        end = word.end()
    return "".join((*texts, _in(charset, pending), unfolded[end:]))


def _word(encoding: str, text: str) -> bytes | None:
    """Return the bytes of an encoded word; ``None`` if it is malformed."""
    try:
        if encoding in "Qq":
            return a2b_qp(text.encode("ascii"), header=True)
        return a2b_base64(text.encode("ascii") + b"=" * (-len(text) % 4))
    except ValueError:
        return None


def _in(charset: str, data: bytes) -> str:
    """Decode bytes, in an unknown charset as far as they are ASCII."""
    try:
        return data.decode(charset or "ascii", "replace")
    except (LookupError, ValueError):
        return data.decode("ascii", "replace")
