"""
An asyncio program that reads a mailbox in a thread, with any event loop.

    POP3_PASSWORD=... python asyncio_thread.py pop.example.com ada
"""

import asyncio
import os
import sys

from pop3connect import Secure
from pop3connect.blocking import connect


def count(server, user):
    password = os.environ["POP3_PASSWORD"]
    with connect(server, user, password, secure=Secure.TLS) as handle:
        return handle.stat().count


async def main(server, user):
    print(await asyncio.to_thread(count, server, user), "messages")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
