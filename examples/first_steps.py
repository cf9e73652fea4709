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
    print(await handle.stat())
    print(await handle.list())
    print(await handle.top(1))
    print(await handle.disconnect())


if __name__ == "__main__":
    react(main, sys.argv[1:])
