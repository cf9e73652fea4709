"""
The first steps of the tutorial: log in, look, leave.

    python first_steps.py pop.example.com ada
"""

import sys
from getpass import getpass

from twisted.internet.task import react

from pop3connect import Secure, connect


async def main(reactor, server, user, password=None):
    handle = await connect(server, user, password or getpass(), secure=Secure.TLS)
    stat = await handle.stat()
    print(stat)
    for number, size in await handle.list():
        print(number, size)
    if stat.count > 0:
        print((await handle.top(1)).decode("utf-8", "replace"), end="")
    print(await handle.disconnect())


if __name__ == "__main__":
    react(main, sys.argv[1:])
