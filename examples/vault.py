"""
Trust a CA whose certificate comes from the environment, not from a file.

    CA_PEM="$(vault kv get -field=ca mail)" POP3_PASSWORD=... python vault.py HOST ada
"""

import os
import sys

from twisted.internet.task import react

from pop3connect import Secure, TLSOptions, connect


async def main(reactor, server, user):
    handle = await connect(
        server,
        user,
        os.environ["POP3_PASSWORD"],
        secure=Secure.TLS,
        cacerts=os.environ["CA_PEM"].encode(),
        tls=TLSOptions(minimum_version="TLSv1.3"),
    )
    async with handle:
        print(handle.tls)


if __name__ == "__main__":
    react(main, sys.argv[1:])
