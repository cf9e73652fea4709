"""
A Twisted program whose worker threads use a session of the reactor's thread.

    POP3_PASSWORD=... python threads.py pop.example.com ada
"""

import os
import sys
from email import message_from_bytes
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react
from twisted.internet.threads import blockingCallFromThread, deferToThread

from pop3connect import Handle, Secure, connect


def subject(reactor: Any, handle: Handle, number: int) -> str:
    """Return the subject of a message.  This runs in a worker thread, and may block."""
    # The handle belongs to the reactor's thread, so it is asked from there.
    header = blockingCallFromThread(reactor, handle.top, number)
    return str(message_from_bytes(header)["Subject"])


async def main(reactor: Any, server: str, user: str, secure: str = "1") -> None:
    """Print all subjects."""
    password = os.environ["POP3_PASSWORD"]
    async with await connect(
        server, user, password, secure=Secure(int(secure))
    ) as handle:
        # Each thread gets its own answer, however their commands are mixed.
        waiting = [
            deferToThread(subject, reactor, handle, number)
            for number, size in await handle.list()
        ]
        for one in waiting:
            print(await one)


if __name__ == "__main__":
    react(lambda *args: Deferred.fromCoroutine(main(*args)), sys.argv[1:])
