"""
Print what is in a mailbox.

    python read_mailbox.py pop.example.com ada
"""

import sys
from getpass import getpass

from twisted.internet.task import react

from pop3connect import POP3Error, Secure, connect


async def main(reactor, server, user, password=None):
    try:
        await show(server, user, password or getpass())
    except POP3Error as error:
        raise SystemExit(str(error)) from error


async def show(server, user, password):
    async with await connect(server, user, password, secure=Secure.TLS) as handle:
        stat = await handle.stat()
        print(f"{stat.count} messages, {stat.size} bytes")
        async for message in handle.messages():
            if message.error is not None:
                print(message.number, message.error)
            else:
                print(message.number, message.sender, "-", message.subject)


if __name__ == "__main__":
    react(main, sys.argv[1:])
