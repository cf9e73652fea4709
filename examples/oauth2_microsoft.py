"""
Count the messages of a Microsoft 365 mailbox, as an application without a user.

    pip install pop3connect msal
    export TENANT=... CLIENT_ID=... CLIENT_SECRET=...
    python oauth2_microsoft.py help@example.com
"""

import os
import sys

import msal
from twisted.internet.task import react
from twisted.internet.threads import deferToThread

from pop3connect import Secure, connect

SERVER = "outlook.office365.com"
SCOPES = ["https://outlook.office365.com/.default"]


class MicrosoftToken:
    """
    The password for `connect`: an access token, fetched when it is needed.

    msal keeps a token until it expires, so calling this for each login is cheap.
    """

    def __init__(self, tenant, client_id, client_secret):
        self.application = msal.ConfidentialClientApplication(
            client_id,
            authority=f"https://login.microsoftonline.com/{tenant}",
            client_credential=client_secret,
        )

    def __call__(self, refresh=False):
        # msal blocks, and the reactor must not.
        return deferToThread(self.fetch, refresh)

    def fetch(self, refresh):
        if refresh:
            # The server refused the token that msal has cached.
            self.application.remove_tokens_for_client()
        answer = self.application.acquire_token_for_client(scopes=SCOPES)
        if "access_token" not in answer:
            raise RuntimeError(f"no token: {answer.get('error_description')}")
        return answer["access_token"]


async def main(reactor, mailbox, server=SERVER):
    token = MicrosoftToken(
        os.environ["TENANT"], os.environ["CLIENT_ID"], os.environ["CLIENT_SECRET"]
    )
    async with await connect(
        server, mailbox, token, secure=Secure.TLS, auth="XOAUTH2"
    ) as handle:
        print((await handle.stat()).count, "messages")


if __name__ == "__main__":
    react(main, sys.argv[1:])
