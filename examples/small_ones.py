"""
Fetch small messages, and only the headers of large ones.

    POP3_PASSWORD=... python small_ones.py pop.example.com ada 1000000
"""

import os
import sys
from email import message_from_bytes

from twisted.internet.task import react

from pop3connect import Secure, connect


async def main(reactor, server, user, limit):
    password = os.environ["POP3_PASSWORD"]
    async with await connect(server, user, password, secure=Secure.TLS) as handle:
        sizes = await handle.list()
        small = [number for number, size in sizes if size <= int(limit)]
        async for message in handle.messages(small):
            if message.error is None:
                print(message.number, len(message.content), "octets")
        for number, size in sizes:
            if size > int(limit):
                header = message_from_bytes(await handle.top(number))
                print(number, "is left there:", header["Subject"])


if __name__ == "__main__":
    react(main, sys.argv[1:])
