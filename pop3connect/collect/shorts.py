"""
Messages that come shorter than LIST says.
"""

from __future__ import annotations

import hashlib

from ..errors import POP3Error
from .retrieval import Arrived
from .rules import Rules

__all__ = ["hash_of_short", "is_short", "short_error"]


def is_short(rules: Rules, arrived: Arrived) -> bool:
    """Return whether a message that has arrived looks cut off."""
    if rules.fetch == "header":
        return False
    incoming = arrived.incoming
    return rules.is_short(arrived.listed, incoming.received, incoming.lines)


def short_error(arrived: Arrived) -> POP3Error:
    """Return the error that says so."""
    got, listed = arrived.incoming.received, arrived.listed
    return POP3Error(
        f"{got} bytes came where LIST says {listed}",
        verb="RETR",
        number=arrived.number,
    )


def hash_of_short(arrived: Arrived) -> str:
    """Return what tells a message that is too short from a longer part of it."""
    body = "" if arrived.content is None else arrived.content.body
    digest = hashlib.sha256(arrived.incoming.head)
    digest.update(f"{arrived.incoming.received} {body}".encode("ascii"))
    return digest.hexdigest()
