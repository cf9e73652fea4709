"""
Write a mailbox to a folder, many messages at a time, whatever the size of a message.

    POP3_PASSWORD=... python save_fast.py pop.example.com ada mail/
"""

import os
import sys
from pathlib import Path

from twisted.internet.task import react

from pop3connect import Secure, connect


def finish(file):
    """Put a file on disk, and give it its name: it is there whole or not at all."""
    with file:
        file.flush()
        os.fsync(file.fileno())
    unfinished = Path(file.name)
    unfinished.replace(unfinished.with_suffix(".eml"))


async def main(reactor, server, user, folder):
    password = os.environ["POP3_PASSWORD"]
    folder = Path(folder)
    folder.mkdir(exist_ok=True)
    async with await connect(server, user, password, secure=Secure.TLS) as handle:
        # A server chooses the unique-id, so it must not name a file as it is.
        names = {
            number: uid.encode("ascii", "surrogateescape").hex()
            for number, uid in await handle.uidl()
        }
        wanted = [
            number
            for number, name in names.items()
            if not (folder / f"{name}.eml").exists()
        ]

        def into(number):
            return open(folder / f"{names[number]}.part", "wb")

        async for message in handle.messages(wanted, into=into):
            if message.error is None:
                finish(message.destination)
            else:
                print("left there:", message.error)
    print("done")


if __name__ == "__main__":
    react(main, sys.argv[1:])
