"""
Ends a session whose result is not wanted, and waits on behalf of a session.
"""

from __future__ import annotations

from typing import TypeVar

from twisted.internet.defer import CancelledError, Deferred

from ..errors import POP3Error
from ..sansio.commands import Quit
from .protocol import CLOSE_SECONDS, POP3ClientProtocol

__all__ = ["abandon", "leave", "unless_closed"]

T = TypeVar("T")


async def leave(protocol: POP3ClientProtocol) -> None:
    """Send QUIT, ignore the reply, and close."""
    reply = protocol.submit(Quit())
    patience = protocol.settings.clock.callLater(CLOSE_SECONDS, reply.cancel)
    try:
        await reply
    except (POP3Error, CancelledError):
        pass
    finally:
        if patience.active():
            patience.cancel()
    await protocol.close()


async def abandon(protocol: POP3ClientProtocol) -> None:
    """Close at once, and wait until the connection is gone."""
    protocol.end("the session was given up")
    await protocol.when_closed()


async def unless_closed(protocol: POP3ClientProtocol, waiting: Deferred[T]) -> T:
    """
    Wait for something that a session needs, but not longer than the session lasts.

    :param waiting: the Deferred; it is cancelled when the connection is gone.
    :raises POP3Error: the session has ended.
    """
    closed = protocol.when_closed()
    closed.addCallbacks(lambda _: waiting.cancel(), lambda _: None)
    try:
        return await waiting
    except CancelledError:
        if protocol.ended is not None:
            raise protocol.ended from None
        raise
    finally:
        closed.cancel()
