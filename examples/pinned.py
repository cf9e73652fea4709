"""
Recognise a server by its key, whatever its certificate says.

    POP3_PASSWORD=... python pinned.py mail.internal ada sha256//EBS9qW6hEdCz9i...
"""

import os
import sys

from twisted.internet.task import react

from pop3connect import Secure, VerificationError, connect


async def main(reactor, server, user, *pins):
    try:
        handle = await connect(
            server,
            user,
            os.environ["POP3_PASSWORD"],
            secure=Secure.TLS,
            verify=False,  # the chain and the name do not count
            pins=pins,  # the key of today, and the next one
        )
    except VerificationError as error:
        # Nothing was sent.  The message names the pin that the server has now.
        print(error)
        return
    print(handle.tls)
    await handle.disconnect()


if __name__ == "__main__":
    react(main, sys.argv[1:])
