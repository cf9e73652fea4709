"""
Hashes of messages, and the keys made from them: they recognise a message when its
unique-id cannot.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container

from ..headers import first_of
from .records import Content

__all__ = [
    "KEY_LENGTH",
    "BodyHash",
    "content_of",
    "key_of",
    "unused_key",
    "whole_content_of",
]

KEY_LENGTH = 32
"""Hexadecimal digits of a message's key."""

_FIELDS = (b"message-id", b"date", b"from", b"subject")

_find = first_of(*_FIELDS)


def content_of(header: bytes, body: str = "") -> Content:
    """
    Return what a header says about the identity of its message.

    The header hash covers Message-ID, Date, From and Subject; of a repeated field, the
    first.  They are unfolded, and runs of white space count as one blank, so that TOP
    and RETR have the same hash at servers that fold fields differently.

    :param header: the header, or a message: reading stops at the first blank line, or
        after `pop3connect.headers.MAX_HEADER` bytes.
    :param body: the hash of the body, if it is known.
    """
    found = _find(header)
    values = [b" ".join(found.get(name, b"").split()) for name in _FIELDS]
    # No value contains a line feed, so different fields make different texts.
    text = b"\n".join(values)
    return Content(
        header=hashlib.sha256(text).hexdigest(),
        identified=bool(values[0]),
        body=body,
    )


def whole_content_of(message: bytes) -> Content:
    """Return the hashes of the header and of the body of a message in memory."""
    body = BodyHash()
    body.update(message)
    return content_of(message, body.hexdigest())


class BodyHash:
    """
    Hashes the body of a message that is read in pieces.

    The header is passed over: servers add fields to it (``Status``, ``X-UIDL``) after
    the message was retrieved.  Carriage returns do not count, so that CRLF and LF line
    ends have the same hash.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._in_header = True
        # The end of the last piece, while the blank line after the header is searched.
        # A message that begins with a blank line has no header.
        self._end = b"\n"

    def update(self, piece: bytes) -> None:
        """
        Read the next piece of the message, header included.

        :param piece: any number of bytes; pieces may be cut anywhere.
        """
        text = piece.replace(b"\r", b"")
        if self._in_header:
            text = self._end + text
            header_end = text.find(b"\n\n")
            if header_end < 0:
                self._end = text[-1:]
                return
            self._in_header = False
            text = text[header_end + 2 :]
        self._hash.update(text)

    def hexdigest(self) -> str:
        """Return the hash of the body up to here, 64 hexadecimal digits."""
        return self._hash.hexdigest()


def key_of(account: str, identity: str, header_hash: str) -> str:
    """
    Return the key of a message; see also `unused_key`.

    :param account: the name of the account.
    :param identity: the unique-id of the message, or another text that tells it apart
        from others with the same header.
    :param header_hash: `Content.header`; ``""`` if the header could not be read.
    """
    text = "\0".join((account, identity, header_hash))
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return digest[:KEY_LENGTH]


def unused_key(
    account: str, uid: str, size: int, content: Content | None, used: Container[str]
) -> str:
    """
    Return the key of a new message, which no other message of the account has.

    The same messages have the same keys after the journal was restored from a backup.
    Equal messages without unique-ids are counted: the second has another key.

    :param account: the name of the account.
    :param uid: its unique-id in `Inventory.uids`; ``""`` if it is not there.
    :param size: its size in LIST.
    :param content: its hashes; ``None`` if nothing of it could be read.
    :param used: the keys of all other messages of the account.
    """
    content = content or Content(header="", identified=False)
    if uid:
        identity = uid
    elif content.body:
        identity = f"body {content.body}"
    else:
        identity = f"size {size}"
    key = key_of(account, identity, content.header)
    count = 1
    while key in used:
        count += 1
        key = key_of(account, f"{identity} #{count}", content.header)
    return key
