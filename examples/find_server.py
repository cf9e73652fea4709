"""
Find the server of a mail address, let the user confirm it, and log in.

    POP3_PASSWORD=... python find_server.py ada@example.com
"""

import os
import sys

from twisted.internet.task import react

from pop3connect import connect, discover


def confirmed(candidate):
    answer = input(f"Send the password to {candidate.host}? [y/N] ")
    return answer.strip().lower() == "y"


async def main(reactor, address, resolver=None):
    for candidate in await discover(address, resolver=resolver):
        # DNS answers can be forged.  The certificate proves that the server has this
        # name, and not that the name is the right one.
        if confirmed(candidate):
            break
    else:
        print("no server was confirmed")
        return
    handle = await connect(
        candidate.server,
        candidate.usernames[0],
        os.environ["POP3_PASSWORD"],
        secure=candidate.secure,
    )
    async with handle:
        print(await handle.stat())


if __name__ == "__main__":
    react(main, sys.argv[1:])
