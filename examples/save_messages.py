"""
Move a mailbox to a folder, message by message, whatever the size of a message.

    POP3_PASSWORD=... python save_messages.py pop.example.com ada mail/
"""

import os
import sys
from pathlib import Path

from twisted.internet.task import react

from pop3connect import CommandError, Secure, connect


async def save(handle, number, path):
    """Save one message, so that the file is there whole or not at all."""
    unfinished = path.with_suffix(".part")
    with open(unfinished, "wb") as file:
        await handle.retrieve(number, file)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def sync_folder(folder):
    """Wait until the new names are on disk.  Windows cannot open a folder for that."""
    if os.name != "nt":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


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
        # The files have to be on disk before QUIT deletes the messages.
        sync_folder(folder)
    # QUIT was answered: the marked messages are deleted now.
    print("done")


if __name__ == "__main__":
    react(main, sys.argv[1:])
