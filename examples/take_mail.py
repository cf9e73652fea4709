"""
Take mail out of a mailbox: each message is deleted once it is in a Maildir.

    python take_mail.py pop.example.com ada mail/
"""

import mailbox
import sys
from getpass import getpass

from twisted.internet.task import react

from pop3connect import Secure, connect


async def main(reactor, server, user, folder, password=None):
    box = mailbox.Maildir(folder)
    password = password or getpass()
    async with await connect(server, user, password, secure=Secure.TLS) as handle:
        async for message in handle.messages():
            if message.error is None:
                box.add(message.content)
                handle.delete(message.number)
    # Only now, after QUIT was answered, are they deleted.
    print("there are", len(box), "messages in", folder)


if __name__ == "__main__":
    react(main, sys.argv[1:])
