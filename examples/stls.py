"""
Upgrade with STLS, and never continue without TLS.

    POP3_PASSWORD=... python stls.py pop.example.com ada
"""

import os
import sys

from twisted.internet.task import react

from pop3connect import Secure, STLSUnavailableError, connect


async def main(reactor, server, user):
    password = os.environ["POP3_PASSWORD"]
    try:
        handle = await connect(server, user, password, print, Secure.STLS)
    except STLSUnavailableError as error:
        print("no password was sent:", error)
        return
    await handle.disconnect()


if __name__ == "__main__":
    react(main, sys.argv[1:])
