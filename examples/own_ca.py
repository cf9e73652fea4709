"""
Trust your own CA, and say what is wrong if that is not enough.

    POP3_PASSWORD=... python own_ca.py mail.internal ada secure/cacerts
"""

import os
import sys

from twisted.internet.task import react

from pop3connect import Secure, VerificationError, connect


async def main(reactor, server, user, folder):
    password = os.environ["POP3_PASSWORD"]
    try:
        handle = await connect(
            server, user, password, secure=Secure.TLS, cacerts=folder
        )
    except VerificationError as error:
        # Nothing was sent, not even the user name.
        print(error)
        if error.certificate is not None:
            print("it is valid until", error.certificate.not_valid_after_utc)
        return
    print(handle.tls)
    await handle.disconnect()


if __name__ == "__main__":
    react(main, sys.argv[1:])
