"""
Tells what happens in a session, for ``--verbose``: one line for each step.

`--trace` shows each protocol message instead.
"""

from __future__ import annotations

from ..events import Closed, Connected, Event, MessageReceived, ReplyReceived, Secured
from .output import Output, counted

__all__ = ["Told"]

_STEPS = ("STLS", "AUTH", "APOP", "PASS")
"""Verbs whose replies are worth a line."""


class Told:
    """Writes the events of a session that a user wants to know of."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def __call__(self, event: Event) -> None:
        """Tell of an event, or not."""
        text = _text(event)
        if text:
            self._output.detail(f"{event.server}: {text}")


def _text(event: Event) -> str:
    match event:
        case Connected(peer=peer):
            return f"connected to {peer}" if peer else "connected"
        case Secured(version=version, cipher=cipher, verified=verified):
            identity = "verified" if verified else "not verified"
            return f"{version}, {cipher}; the server's identity is {identity}"
        case ReplyReceived(verb=verb, ok=bool(ok)) if verb in _STEPS:
            return f"{verb} was {'accepted' if ok else 'refused'}"
        case MessageReceived(verb="RETR", number=number, octets=octets):
            return f"message {number} was received: {counted(octets, 'octet')}"
        case Closed(error=None):
            return "the session ended"
    return ""
