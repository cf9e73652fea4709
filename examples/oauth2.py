"""
Log in with an access token, and fetch a new one when it has expired.

    OAUTH_CLIENT_ID=... OAUTH_REFRESH_TOKEN=... python oauth2.py outlook.office365.com \
        ada@example.com https://login.microsoftonline.com/common/oauth2/v2.0/token
"""

import json
import os
import sys
from time import monotonic
from urllib.parse import urlencode
from urllib.request import urlopen

from twisted.internet.task import react
from twisted.internet.threads import deferToThread

from pop3connect import Secure, connect


class Tokens:
    """
    Access tokens (RFC 6749 section 6), each kept for as long as it is valid.
    """

    def __init__(self, url, **parameters):
        self.url = url
        self.parameters = {"grant_type": "refresh_token", **parameters}
        self.token = None
        self.until = 0.0

    async def __call__(self, refresh=False):
        """Return a token; get a new one if the server has refused the last."""
        if refresh or self.token is None or monotonic() > self.until:
            # It blocks, so it goes to a thread.
            answer = await deferToThread(self.fetch)
            self.token = answer["access_token"]
            self.until = monotonic() + float(answer.get("expires_in", 300)) - 60
        return self.token

    def fetch(self):
        with urlopen(self.url, urlencode(self.parameters).encode()) as answer:
            return json.load(answer)


async def count(server, user, tokens, auth="XOAUTH2"):
    async with await connect(
        server, user, tokens, secure=Secure.TLS, auth=auth
    ) as handle:
        return (await handle.stat()).count


async def main(reactor, server, user, url):
    tokens = Tokens(
        url,
        client_id=os.environ["OAUTH_CLIENT_ID"],
        refresh_token=os.environ["OAUTH_REFRESH_TOKEN"],
    )
    print(await count(server, user, tokens), "messages")


if __name__ == "__main__":
    react(main, sys.argv[1:])
