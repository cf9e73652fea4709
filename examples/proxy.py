"""
A session through the proxy that the environment names.

    ALL_PROXY=http://proxy.example.com:3128 POP3_PASSWORD=... \
        python proxy.py pop.example.com ada
"""

import os
import sys

from twisted.internet.task import react

from pop3connect import Secure, connect


async def main(reactor, server, user):
    # The proxy looks up the name of the server, whose certificate is checked as always.
    async with await connect(
        server,
        user,
        os.environ["POP3_PASSWORD"],
        secure=Secure.TLS,
        proxy=os.environ["ALL_PROXY"],
    ) as handle:
        print(await handle.stat())


if __name__ == "__main__":
    react(main, sys.argv[1:])
