"""
Ends a session whose result nobody waits for.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError

from ..errors import POP3Error
from ..sansio.commands import Quit
from .protocol import CLOSE_SECONDS, POP3ClientProtocol

__all__ = ["abandon", "leave"]


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
