"""
Print the messages that are new since the last time, and leave all mail on the server.

    POP3_PASSWORD=... python leave_on_server.py pop.example.com ada seen.json
"""

import json
import os
import sys
import time
from pathlib import Path

import attrs
from twisted.internet.task import react

from pop3connect import Secure, connect
from pop3connect.collect import (
    Remembered,
    content_of,
    identify,
    take_inventory,
    whole_content_of,
)

MONTH = 30 * 24 * 3600


@attrs.frozen
class Seen(Remembered):
    """A message that was printed, and when the server last listed it."""

    listed_at: float = 0.0


def load(path):
    rows = json.loads(path.read_text()) if path.exists() else []
    return [Seen(**row) for row in rows]


def store(path, rows):
    """Replace the file in one go: a crash must not leave half of it."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps([attrs.asdict(row) for row in rows]))
    new.replace(path)


async def which_is_which(handle, rows):
    """Compare the mailbox with what was seen; read headers only where needed."""
    listing = take_inventory(
        await handle.stat(), await handle.list(), await handle.uidl()
    )
    found = identify(listing, rows)
    while not found.decided:
        contents = {}
        for number in found.headers:
            contents[number] = content_of(await handle.top(number))
        for number in found.bodies:
            contents[number] = whole_content_of(await handle.retrieve(number))
        found = found.compared(contents)
    return listing, found


async def main(reactor, server, user, file, now=time.time):
    password = os.environ["POP3_PASSWORD"]
    path = Path(file)
    async with await connect(server, user, password, secure=Secure.TLS) as handle:
        listing, found = await which_is_which(handle, load(path))
        # A message that is missing is remembered for a while: it may come back.
        rows = [row for row in found.absent if row.listed_at > now() - MONTH]

        def remember(number, content):
            rows.append(
                Seen(
                    uid=listing.uids.get(number, ""),
                    size=listing.sizes[number],
                    header_hash=content.header,
                    body_hash=content.body,
                    identified=content.identified,
                    listed_at=now(),
                )
            )

        for number, row in found.known.items():
            uid, size = listing.uids.get(number, ""), listing.sizes[number]
            rows.append(attrs.evolve(row, uid=uid, size=size, listed_at=now()))
        async for message in handle.messages(found.new):
            if message.error is not None:
                print("message", message.number, message.error)
                continue
            print("message", message.number, "has", len(message.content), "octets")
            remember(message.number, whole_content_of(message.content))
    store(path, rows)


if __name__ == "__main__":
    react(main, sys.argv[1:])
