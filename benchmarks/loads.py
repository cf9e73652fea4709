"""What is fetched: how many messages, how large, and of which shape.

Sizes are octets of the message itself, as stored: without dot-stuffing, status line
and end marker. A megabyte in a rate is 1,000,000 octets.
"""

import random
import textwrap
from dataclasses import dataclass

VARIANTS = 8  # different messages in a mailbox; they are dealt out in turn
SHAPES = ("base64", "prose", "dots")


@dataclass(frozen=True)
class Load:
    """So many messages of such a size."""

    key: str
    title: str
    count: int
    size: int

    @property
    def octets(self) -> int:
        """All of it, as stored."""
        return self.count * self.size


LOADS = {
    load.key: load
    for load in (
        Load("small", "5,000 x 4 KB", 5000, 4096),
        Load("large", "200 x 1 MB", 200, 1 << 20),
        Load("huge", "1 x 100 MB", 1, 100 << 20),
    )
}
QUICK_LOADS = {
    "small": LOADS["small"],
    "large": Load("large", "50 x 1 MB", 50, 1 << 20),
    "huge": LOADS["huge"],
}

_HEADERS = """\
Return-Path: <sender{n}@lists.example.org>
Received: from mail.example.net (mail.example.net [192.0.2.{n}])
 by mx.example.org (Postfix) with ESMTPS id 4VabC{n}
 for <user@example.org>; Tue, 14 Jan 2025 10:22:0{n} +0000 (UTC)
Date: Tue, 14 Jan 2025 10:22:01 +0000
From: "A. Sender" <sender{n}@example.net>
To: user@example.org
Subject: Figures for week {n}
Message-ID: <20250114102201.{n}@mail.example.net>
MIME-Version: 1.0
Content-Type: {type}
Content-Transfer-Encoding: {encoding}

"""
_TEXT = """
the of and to in is was that for it with as his on be at by had not are but from or
have an they which one you were all her she there would their we him been has when who
will no more if out so up said what its about than into them can only other time new
some could these two may first then do any like my now over such message server client
mailbox letter answer morning station weather garden
"""
_WORDS = _TEXT.split()


def message(shape: str, size: int, variant: int) -> bytes:
    """One message of exactly *size* octets, CRLF line ends, not stuffed."""
    rng = random.Random(f"{shape} {variant}")
    if shape == "dots":
        # Hostile: every line is stuffed, so there are no headers either.
        alphabet = b"abcdefghijklmnopqrstuvwxyz "
        block = [b"." + bytes(rng.choices(alphabet, k=71)) for _ in range(100)]
        head = b""
    elif shape == "prose":
        head = _head(variant, "text/plain; charset=us-ascii", "7bit")
        block = _prose(rng)
    else:
        head = _head(variant, "application/octet-stream", "base64")
        alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
        block = [bytes(rng.choices(alphabet, k=76)) for _ in range(100)]
    lines = b"".join(line + b"\r\n" for line in block)
    body = lines * ((size - len(head)) // len(lines) + 1)
    # Cut to size, and let the cut end in CRLF: never between CR and LF.
    return (head + body)[: size - 3].rstrip(b"\r\n").ljust(size - 2, b"x") + b"\r\n"


def stuffed(content: bytes) -> bytes:
    """The message as it goes over the wire, without the end marker (RFC 1939, 3)."""
    content = content.replace(b"\r\n.", b"\r\n..")
    return b"." + content if content.startswith(b".") else content


def _head(variant: int, kind: str, encoding: str) -> bytes:
    text = _HEADERS.format(n=variant, type=kind, encoding=encoding)
    return text.replace("\n", "\r\n").encode()


def _prose(rng: random.Random) -> list[bytes]:
    sentences = [
        " ".join(rng.choices(_WORDS, k=rng.randint(8, 18))).capitalize() + "."
        for _ in range(150)
    ]
    return [line.encode() for line in textwrap.wrap(" ".join(sentences), 72)]
