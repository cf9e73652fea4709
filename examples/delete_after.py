"""
Delete mail from the server some days after it was seen there first.

    POP3_PASSWORD=... python delete_after.py pop.example.com ada seen.json 14
"""

import json
import os
import sys
import time
from pathlib import Path

from twisted.internet.task import react

from pop3connect import Secure, connect

DAY = 24 * 3600


async def main(reactor, server, user, file, days, now=time.time):
    password = os.environ["POP3_PASSWORD"]
    path = Path(file)
    # When each unique-id was seen first.
    seen = json.loads(path.read_text()) if path.exists() else {}
    async with await connect(server, user, password, secure=Secure.TLS) as handle:
        there = {}
        for number, uid in await handle.uidl():
            there[uid] = seen.get(uid, now())
            if there[uid] <= now() - int(days) * DAY:
                handle.delete(number)
        deleted = (await handle.disconnect()).deleted
    new = path.with_suffix(".new")
    new.write_text(json.dumps(there))
    new.replace(path)
    print("deleted:", len(deleted))


if __name__ == "__main__":
    react(main, sys.argv[1:])
