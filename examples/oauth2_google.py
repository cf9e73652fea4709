"""
Count the messages of a Gmail mailbox, with a refresh token of its owner.

    pip install pop3connect google-auth requests
    export CLIENT_ID=... CLIENT_SECRET=... REFRESH_TOKEN=...
    python oauth2_google.py ada@gmail.com
"""

import os
import sys

from google.auth.transport.requests import Request
from google.oauth2.credentials import Credentials
from twisted.internet.task import react
from twisted.internet.threads import deferToThread

from pop3connect import Secure, connect

SERVER = "pop.gmail.com"
SCOPES = ["https://mail.google.com/"]


class GoogleToken:
    """The password for `connect`: an access token, fetched when it is needed."""

    def __init__(self, client_id, client_secret, refresh_token):
        self.credentials = Credentials(
            None,
            refresh_token=refresh_token,
            token_uri="https://oauth2.googleapis.com/token",
            client_id=client_id,
            client_secret=client_secret,
            scopes=SCOPES,
        )

    def __call__(self, refresh=False):
        # google-auth blocks, and the reactor must not.
        return deferToThread(self.fetch, refresh)

    def fetch(self, refresh):
        if refresh or not self.credentials.valid:
            self.credentials.refresh(Request())
        return self.credentials.token


async def main(reactor, mailbox, server=SERVER):
    token = GoogleToken(
        os.environ["CLIENT_ID"],
        os.environ["CLIENT_SECRET"],
        os.environ["REFRESH_TOKEN"],
    )
    async with await connect(
        server, mailbox, token, secure=Secure.TLS, auth="XOAUTH2"
    ) as handle:
        print((await handle.stat()).count, "messages")


if __name__ == "__main__":
    react(main, sys.argv[1:])
