"""
Lets a server go on that waits for an acknowledgement of the first piece of a reply.

Some servers write a reply in two pieces, the status line and the rest: popa3d,
solid-pop3d, Twisted's own.  Nagle's algorithm (RFC 896) keeps the second piece back
until the first is acknowledged, and the client's side delays that by 40 ms (RFC 1122
section 4.2.3.2).  Linux sends the acknowledgement at once when it is asked to, each
time.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Any

__all__ = ["acknowledge", "tcp_socket"]

_QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)


def tcp_socket(transport: Any) -> socket.socket | None:
    """Return the TCP socket of a transport; ``None`` if this cannot be done for it."""
    get_handle = getattr(transport, "getHandle", None)
    if _QUICKACK is None or get_handle is None:
        return None
    handle = get_handle()
    if isinstance(handle, socket.socket) and handle.family in (
        socket.AF_INET,
        socket.AF_INET6,
    ):
        return handle
    return None


def acknowledge(connected: socket.socket) -> None:
    """Acknowledge what has come over a socket that `tcp_socket` returned."""
    assert _QUICKACK is not None
    # Sent or not, the session works.
    with suppress(OSError):
        connected.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
