"""
Print the date, the sender and the subject of each message; fetch only the headers.

    POP3_PASSWORD=... python list_mail.py pop.example.com ada
"""

import os
import sys

from twisted.internet.task import react

from pop3connect import Secure, connect


async def main(reactor, server, user):
    password = os.environ["POP3_PASSWORD"]
    async with await connect(server, user, password, secure=Secure.TLS) as handle:
        async for mail in handle.headers():
            if mail.error is None:
                print(mail.number, mail.date, mail.sender, mail.subject, sep=" | ")


if __name__ == "__main__":
    react(main, sys.argv[1:])
