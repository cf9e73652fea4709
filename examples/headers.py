"""
Print the subjects of the newest messages, all asked for at once.

    POP3_PASSWORD=... python headers.py pop.example.com ada
"""

import os
import sys
from email import message_from_bytes, policy

from twisted.internet.task import react

from pop3connect import Secure, connect


async def newest(handle, how_many=100):
    numbers = [number for number, size in await handle.list()][-how_many:]
    # Nothing waits here: each call returns at once, with its Deferred.
    answers = [handle.top(number) for number in numbers]
    headers = [await answer for answer in answers]
    return [message_from_bytes(one, policy=policy.default) for one in headers]


async def main(reactor, server, user):
    password = os.environ["POP3_PASSWORD"]
    async with await connect(server, user, password, secure=Secure.TLS) as handle:
        for mail in await newest(handle):
            print(mail["Subject"])


if __name__ == "__main__":
    react(main, sys.argv[1:])
