"""
Print the messages that are new since the last time, and leave all mail on the server.

    POP3_PASSWORD=... python leave_on_server.py pop.example.com ada seen.json
"""

import json
import os
import sys
from pathlib import Path

from twisted.internet.task import react

from pop3connect import Secure, connect


def load(path):
    return set(json.loads(path.read_text())) if path.exists() else set()


def store(path, uids):
    """Replace the file in one go: a crash must not leave half of it."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps(sorted(uids)))
    new.replace(path)


async def main(reactor, server, user, file):
    password = os.environ["POP3_PASSWORD"]
    path = Path(file)
    seen = load(path)
    async with await connect(server, user, password, secure=Secure.TLS) as handle:
        uids = dict(await handle.uidl())
        fresh = [number for number, uid in uids.items() if uid not in seen]
        async for message in handle.messages(fresh):
            if message.error is not None:
                print("message", message.number, message.error)
                continue
            print("message", message.number, "has", len(message.content), "octets")
            seen.add(uids[message.number])
    # Forget messages that are no longer on the server.
    store(path, seen & set(uids.values()))


if __name__ == "__main__":
    react(main, sys.argv[1:])
