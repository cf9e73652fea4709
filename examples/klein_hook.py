"""
A web hook: POST /fetch takes in the mail, and returns how many messages came.

    POP3_PASSWORD=... python klein_hook.py pop.example.com ada 8080
"""

import json
import os
import sys

from klein import Klein
from twisted.internet.defer import DeferredLock

from pop3connect import LoginError, POP3Error, Secure, connect


class Hook:
    """
    The web hook of one mailbox.

    :param take_in: called with each message.
    """

    app = Klein()

    def __init__(self, account, take_in):
        self.account = account
        self.take_in = take_in
        # A mailbox has one session at a time (RFC 1939 section 4).
        self.lock = DeferredLock()

    @app.route("/fetch", methods=["POST"])
    async def fetch(self, request):
        request.setHeader("Content-Type", "application/json")
        await self.lock.acquire()
        try:
            return json.dumps(await self.taken())
        except LoginError as error:
            request.setResponseCode(503 if error.transient else 500)
            return json.dumps({"error": error.text})
        except POP3Error as error:
            request.setResponseCode(502)
            return json.dumps({"error": str(error)})
        finally:
            self.lock.release()

    async def taken(self):
        taken, left = 0, {}
        async with await connect(**self.account) as handle:
            async for message in handle.messages():
                if message.error is not None:
                    left[message.number] = message.error.text
                    continue
                self.take_in(message.content)
                handle.delete(message.number)
                taken += 1
        return {"taken": taken, "left": left}


if __name__ == "__main__":
    server, user, port = sys.argv[1:]
    account = {
        "server": server,
        "username": user,
        "password": os.environ["POP3_PASSWORD"],
        "secure": Secure.TLS,
    }
    Hook(account, lambda content: print(len(content), "octets")).app.run(
        "127.0.0.1", int(port)
    )
