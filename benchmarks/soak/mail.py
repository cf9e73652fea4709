"""Whose mail it is: every message is made from its account and its number.

So both processes know all messages without a word between them, and a message that came
to the wrong session, or in the wrong order, is noticed.
"""

import hashlib
from dataclasses import dataclass

LARGE = 64 * 1024
"""Octets of the first message of each account: more than one read of the client."""

_LINE = 74


@dataclass(frozen=True)
class Fact:
    """What the client must find out about one message."""

    size: int
    uid: str
    digest: bytes


def username(account: int) -> str:
    """The name to log in with."""
    return f"account-{account}"


def password(account: int) -> str:
    """The password of that account."""
    return f"password-{account}"


def message(account: int, number: int) -> bytes:
    """Text with lines that begin with a dot, and lines that are nothing else."""
    size = LARGE if number == 1 else 256 + (account * 31 + number * 977) % 4096
    head = f"To: {username(account)}\r\nSubject: message {number}\r\n\r\n".encode()
    text = hashlib.shake_128(head).hexdigest(size // 2).encode()
    lines = [text[start : start + _LINE] for start in range(0, len(text), _LINE)]
    body = b"\r\n".join([b"", *lines, b""])
    return head + body.replace(b"\r\n0", b"\r\n.").replace(b"\r\n1", b"\r\n.\r\n")


def messages(account: int, count: int) -> list[bytes]:
    """The mailbox of an account."""
    return [message(account, number) for number in range(1, count + 1)]


def facts(account: int, count: int) -> tuple[Fact, ...]:
    """What is to be known of each message of an account."""
    return tuple(
        # The demo server makes its unique ids in this way.
        Fact(len(text), hashlib.sha256(text).hexdigest()[:24], digest(text))
        for text in messages(account, count)
    )


def digest(text: bytes) -> bytes:
    """What messages are compared by."""
    return hashlib.sha256(text).digest()
