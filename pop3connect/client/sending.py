"""
Sends what was written to a transport without another turn of the reactor.

Twisted's transports keep what is written until the reactor finds, in its next turn,
that the connection takes more bytes.  It nearly always does.  Between a reply and the
command after it, that turn is a tenth of the whole work.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IWriteDescriptor

__all__ = ["descriptor", "send_now"]


def descriptor(transport: Any) -> Any:
    """
    Return a transport that `send_now` can be used for; else ``None``.

    The transports of IOCP (Windows) have a ``doWrite`` too, which must not be called
    twice, and do not declare the interface.
    """
    return transport if IWriteDescriptor.providedBy(transport) else None


def send_now(descriptor: Any) -> None:
    """
    Send what a transport keeps, as the reactor would in its next turn.

    Bytes that the connection does not take are kept, in their order, for the reactor.
    """
    if descriptor.doWrite() is not None:
        # The connection is lost, or was to be closed after the last byte.  The reactor
        # gets the same result in its next turn, and closes it.
        descriptor.startWriting()
