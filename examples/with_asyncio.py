"""
An asyncio program that reads a mailbox, with Twisted's asyncio reactor.

    POP3_PASSWORD=... python with_asyncio.py pop.example.com ada
"""

import asyncio
import os
import sys

from twisted.internet import asyncioreactor

# Before anything imports the reactor.
loop = asyncio.new_event_loop()
asyncioreactor.install(loop)

from twisted.internet.defer import Deferred  # noqa: E402
from twisted.internet.task import react  # noqa: E402

from pop3connect import Secure, connect  # noqa: E402


async def sizes(server, user, password):
    """This part is Twisted's: it awaits Deferreds."""
    async with await connect(server, user, password, secure=Secure.TLS) as handle:
        return [size for number, size in await handle.list()]


async def program(*account):
    """This part is asyncio's: it awaits futures, and runs tasks."""
    reading = Deferred.fromCoroutine(sizes(*account)).asFuture(loop)
    waiting = asyncio.create_task(asyncio.sleep(0, "meanwhile"))
    print(await waiting)
    print(sum(await reading), "octets")


def main(reactor, server, user):
    account = server, user, os.environ["POP3_PASSWORD"]
    return Deferred.fromFuture(loop.create_task(program(*account)))


if __name__ == "__main__":
    react(main, sys.argv[1:])
