"""
Decodes the body of a multi-line reply, fed in chunks of any size.  The hot path.

RFC 1939 section 3: a line that starts with "." has lost nothing but gained that
octet ("byte-stuffing"), and a line that is "." alone ends the reply.  So all
that matters is what follows CR LF ".":

    CR LF . CR LF      the end
    CR LF . (other)    drop the dot

Everything between two such places is passed on as it is, in slices as large as
they come; no line is ever looked at by itself.  Only CR LF ends a line: a bare
LF or CR is message text.

No scan is best for every text, so the decoder goes by what it sees:

- the beginning of a body, and with it most bodies whole: one search for CR LF ".";
- few dots (base64, most attachments): jump from dot to dot, the fastest search
  there is, and look back whether one starts a line;
- many dots (prose): search for CR LF "." again;
- many stuffed lines (a server's worst): find the end, and drop the dots of all
  lines before it in one replacement.

Each octet is looked at a bounded number of times whatever the server sends, and
at most four octets wait for the next chunk.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

__all__ = ["SHORT", "MultilineDecoder", "decode_whole"]

_END = b"\r\n.\r\n"
_STUFFED = b"\r\n."

# What a chunk may end in that the next one decides on, longest first.
_OPEN_ENDS = (b"\r\n.\r", b"\r\n.", b"\r\n", b"\r")

# CR LF ".", which ends with the match unless the group matched as well: then it is the
# end marker.  In text that was not seen before, an expression is searched for faster
# than `find` and `rfind` search; on Python 3.13, one that begins with a single octet.
_search = re.compile(
    rb"\r\n\.(\r\n)?" if sys.version_info < (3, 13) else rb"\.(?<=\r\n\.)(\r\n)?"
).search

SHORT = 8192
"""Octets at the beginning of a body that are searched before anything is judged; a
body that ends within them is short."""

_SAMPLE = 8
"""Dots that are looked at before the text is judged."""

_DENSE = _SAMPLE * 150
"""
Octets in which `_SAMPLE` dots are many: there a search for CR LF "." costs less
than stopping at each dot (measured: one stop costs what 150 octets do).
"""

_MANY_STUFFED = 8
"""Stuffed lines in a chunk from which on one replacement beats the slices."""


class MultilineDecoder:
    """
    One decoder serves the bodies of a connection one after another.

    `begin` with a function that takes what is decoded, then `feed` until it
    returns the offset at which the body has ended.

    :ivar octets: how many octets of the current body have been passed on.
    """

    __slots__ = ("_at_start", "_held", "_skip", "_write", "octets")

    def __init__(self) -> None:
        self.begin(_ignore)

    def begin(
        self, write: Callable[[bytes], object], *, searched: bool = False
    ) -> None:
        """
        Get ready for the next body; each decoded piece goes to ``write``.

        :param searched: whether `decode_whole` did not find its end in the first chunk.
        """
        self._write = write
        # What waits for the next chunk, and how much of that is not of the body: the
        # status line before it has ended in CR LF, so the first line of the body may
        # be the end marker or a stuffed line too.
        self._held = b"\r\n"
        self._skip = 2
        self._at_start = not searched
        self.octets = 0

    def discard(self) -> None:
        """Pass on no more of the current body."""
        self._write = _ignore

    def feed(self, data: bytes, start: int = 0) -> int:
        """
        Decode ``data`` from the offset ``start``.

        ``start`` is not 0 only at the beginning of a body whose status line is
        in the same chunk, just before ``start``.

        :return: the offset in ``data`` just after the end marker; -1 if the end
            is not in it, and all of ``data`` is used up.
        """
        shift = 0
        out = start
        if start < 2 and self._held:
            held = self._held
            data = held + data[start:]
            shift = start - len(held)
            out = self._skip
        if self._at_start:
            self._at_start = False
            whole = decode_whole(data, out)
            if whole is not None:
                self._held = b""
                self._pass_on(whole[0])
                return whole[1] + shift
        find = data.find
        sample = seen = 0
        # A dot among the first two octets cannot start a line: what came before
        # would have been held back, and stand in front of it now.
        dot = find(b".", out if out > 2 else 2)
        while dot >= 0:
            if data[dot - 1] == 10 and data[dot - 2] == 13:
                after = data[dot + 1 : dot + 3]
                if after == b"\r\n":
                    return self._ended(data, out, dot, shift)
                if after == b"\r" or not after:
                    break
                self._pass_on(data[out:dot])
                out = dot + 1
            seen += 1
            if seen == _SAMPLE:
                if dot - sample < _DENSE:
                    return self._feed_dense(data, out, dot, shift)
                seen = 0
                sample = dot
            dot = find(b".", dot + 1)
        return self._rest(data, out)

    def _feed_dense(self, data: bytes, out: int, start: int, shift: int) -> int:
        """Go on after ``start`` by searching for CR LF "."."""
        stuffed = 0
        match = _search(data, start)
        while match is not None:
            if match.lastindex:
                return self._ended(data, out, match.end() - 3, shift)
            dot = match.end() - 1
            after = data[dot + 1 : dot + 3]
            if after == b"\r" or not after:
                break
            stuffed += 1
            if stuffed == _MANY_STUFFED:
                return self._feed_stuffed(data, out, shift)
            self._pass_on(data[out:dot])
            out = dot + 1
            match = _search(data, out)
        return self._rest(data, out)

    def _feed_stuffed(self, data: bytes, out: int, shift: int) -> int:
        """Go on from ``out``, which is within a line, by one replacement."""
        end = data.find(_END, out)
        stop = end + 2 if end >= 0 else len(data) - _open_end(data)
        self._pass_on(data[out:stop].replace(_STUFFED, b"\r\n"))
        if end < 0:
            return self._rest(data, stop)
        return self._ended(data, stop, stop, shift)

    def _pass_on(self, piece: bytes) -> None:
        if piece:
            self.octets += len(piece)
            self._write(piece)

    def _ended(self, data: bytes, out: int, dot: int, shift: int) -> int:
        self._pass_on(data[out:dot])
        self._held = b""
        return dot + 3 + shift

    def _rest(self, data: bytes, out: int) -> int:
        """Pass on what is certain, and keep an open end for the next chunk."""
        stop = len(data) - _open_end(data)
        self._held = data[stop:]
        self._skip = out - stop if out > stop else 0
        self._pass_on(data[out:stop])
        return -1


def decode_whole(data: bytes, start: int) -> tuple[bytes, int] | None:
    """
    Decode a short body that is entirely in ``data``; most messages take this path.

    :param start: where it begins, with the CR LF of the status line before it.
    :return: the body, and the offset just after its end marker; ``None`` if that is
        not among the next `SHORT` octets.
    """
    # From that CR LF on: it counts for the first line.
    match = _search(data, start - 2, start + SHORT)
    if match is None:
        return None
    if match.lastindex:
        end = match.end()
        return data[start : end - 3], end
    end = data.find(_END, start - 2, start + SHORT) + 5
    if end < 5:
        return None
    return data[start - 2 : end - 3].replace(_STUFFED, b"\r\n")[2:], end


def _open_end(data: bytes) -> int:
    """Return how many octets at the end of ``data`` are not decided yet."""
    if data[-1:] in (b"\r", b"\n", b"."):
        for end in _OPEN_ENDS:
            if data.endswith(end):
                return len(end)
    return 0


def _ignore(piece: bytes) -> None:
    """Drop a piece that is not wanted."""
