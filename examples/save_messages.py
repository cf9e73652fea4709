"""
Move a mailbox to a folder, message by message, whatever the size of a message.

    POP3_PASSWORD=... python save_messages.py pop.example.com ada mail/
"""

import os
import sys
from pathlib import Path

from twisted.internet.interfaces import IConsumer
from twisted.internet.task import react
from zope.interface import implementer

from pop3connect import CommandError, Secure, connect


@implementer(IConsumer)
class FileConsumer:
    """Writes a message to a file as it comes, so that memory holds a chunk of it."""

    def __init__(self, file):
        self.write = file.write

    def registerProducer(self, producer, streaming):
        pass

    def unregisterProducer(self):
        pass


async def save(handle, number, path):
    """Save one message, so that the file is there whole or not at all."""
    unfinished = path.with_suffix(".part")
    with open(unfinished, "wb") as file:
        await handle.retrieve(number, FileConsumer(file))
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)


async def main(reactor, server, user, folder):
    password = os.environ["POP3_PASSWORD"]
    folder = Path(folder)
    folder.mkdir(exist_ok=True)
    async with await connect(server, user, password, secure=Secure.TLS) as handle:
        for number, uid in await handle.uidl():
            # A server chooses the unique-id, so it must not name a file as it is.
            path = folder / f"{uid.encode('ascii', 'surrogateescape').hex()}.eml"
            try:
                if not path.exists():
                    await save(handle, number, path)
            except CommandError as error:
                print("left there:", error)
                continue
            handle.delete(number)
    # QUIT was answered: what was marked is deleted now.
    print("done")


if __name__ == "__main__":
    react(main, sys.argv[1:])
