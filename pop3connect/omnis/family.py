"""
The one family of commands that a program shares: `pop3connect.omnis` and its blocking
form have the same sockets and settings.
"""

from __future__ import annotations

from .commands import Omnis

__all__ = ["OMNIS"]

OMNIS = Omnis()
"""Uses the global reactor."""
