"""
Count the messages in the mailboxes of many users, with the password of a master user.

    POP3_PASSWORD=... python master_user.py pop.example.com boss ada bob eve
"""

import os
import sys

from twisted.internet.task import react

from pop3connect import Connector, LoginError, Secure


async def main(reactor, server, master, *users):
    # One connector: the sessions share a TLS context and resume TLS sessions.
    connector = Connector(server, secure=Secure.TLS)
    password = os.environ["POP3_PASSWORD"]
    for user in users:
        try:
            handle = await connector.connect(master, password, authorize_as=user)
        except LoginError as error:
            print(user, error.text)
            continue
        async with handle:
            print(user, (await handle.stat()).count)


if __name__ == "__main__":
    react(main, sys.argv[1:])
