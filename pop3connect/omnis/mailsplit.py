"""
A message taken apart, as the command MailSplit of Omnis does it, over `email`.

Encoded words, character sets and transfer encodings that are malformed or unknown are
left as they are.  Only a message with hundreds of parts, each inside another, is an
error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from email.message import Message
from email.parser import BytesHeaderParser, BytesParser
from email.policy import Compat32, compat32
from typing import Any, NamedTuple

from ..headers import MAX_FIELD, codec_of, decode_bytes, decode_words
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
    header = BytesHeaderParser(policy=compat32).parsebytes(content)
    headerlist[:] = [(name, _decoded(value)) for name, value in header.raw_items()]
    if isinstance(body, list) and not body:
        return
    too_deep = False
    try:
        parsed = BytesParser(policy=_BOUNDED).parsebytes(content)
    except RecursionError:
        # The whole body is one part then.
        too_deep = True
        parsed = BytesHeaderParser(policy=_BOUNDED).parsebytes(content)
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


class _Bounded(Compat32):
    """
    Cuts long fields of the parts of a message.

    `email` takes a time that grows with the square of the length for some fields with
    parameters, such as ``Content-Type``: a minute for 200 KB.
    """

    def header_source_parse(self, sourcelines: Sequence[str]) -> tuple[str, str]:
        name, value = super().header_source_parse(list(sourcelines))
        return name, value[:MAX_FIELD]


_BOUNDED = _Bounded()


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
    charset = part.get_content_charset("utf-8").encode("ascii", "replace")
    # A charset may be unknown, or not that of the bytes.
    for codec in (codec_of(charset), "utf_8"):
        text = None if codec is None else decode_bytes(codec, data)
        if text is not None:
            return text
    # Latin-1 has a character for each byte, so nothing is lost.
    return data.decode("latin-1")


def _filename(part: Message) -> str:
    try:
        return _decoded(part.get_filename(""))
    except (LookupError, ValueError, TypeError):
        # RFC 2231 parameters in a form that `email` does not expect, or a name that is
        # not text, such as half a surrogate pair.
        return ""


def _decoded(value: str) -> str:
    """Unfold and decode a field; `email` keeps its raw bytes as surrogates."""
    octets = value.encode("utf-8", "surrogateescape")
    return decode_words(re.sub(rb"\r\n?|\n", b"", octets).strip(b" \t"))
