"""
A session through a UNIX socket, with a server on this computer.

    POP3_PASSWORD=... python unix_socket.py /run/dovecot/pop3 ada
"""

import os
import sys

from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.task import react

from pop3connect import connect


async def main(reactor, path, user):
    password = os.environ["POP3_PASSWORD"]
    async with await connect(
        "localhost", user, password, endpoint=UNIXClientEndpoint(reactor, path)
    ) as handle:
        print(await handle.stat())


if __name__ == "__main__":
    react(main, sys.argv[1:])
