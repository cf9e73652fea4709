"""
The states of a session, and the verbs that each allows.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["ALLOWED", "State", "allows"]


class State(enum.Enum):
    """Where a session is; the words are those of RFC 1939."""

    GREETING = "waiting for the greeting"
    AUTHORIZATION = "not logged in yet"
    TRANSACTION = "logged in"
    UPDATE = "QUIT was sent"
    CLOSED = "ended"

    # Each command looks its state up, and the hash of `Enum` is made in Python.
    __hash__ = object.__hash__


def _words(verbs: str) -> list[str]:
    return verbs.split()


ALLOWED: Mapping[State, frozenset[str]] = MappingProxyType(
    {
        State.GREETING: frozenset(),
        State.AUTHORIZATION: frozenset(
            # RFC 1939 section 4; CAPA: RFC 2449; STLS: RFC 2595; AUTH: RFC 5034;
            # UTF8 and LANG: RFC 6856
            _words("USER PASS APOP QUIT CAPA STLS AUTH UTF8 LANG")
        ),
        State.TRANSACTION: frozenset(
            # RFC 1939 sections 5 and 7; CAPA: RFC 2449; LANG: RFC 6856
            [
                "STAT",
                "LIST",
                "RETR",
                "DELE",
                "NOOP",
                "RSET",
                "TOP",
                "UIDL",
                "QUIT",
                "CAPA",
                "LANG",
            ]
        ),
        State.UPDATE: frozenset(),
        State.CLOSED: frozenset(),
    }
)

_KNOWN = frozenset().union(*ALLOWED.values())


def allows(state: State, verb: str) -> bool:
    """
    Return whether a command with this verb may be sent in a state.

    Unknown verbs, those of a provider's extensions, are possible after the login.
    """
    return verb in ALLOWED[state] or (state is State.TRANSACTION and verb not in _KNOWN)
