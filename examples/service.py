"""
A service that fetches mail, and deletes what it has taken in.

    POP3_SERVER=pop.example.com POP3_USER=ada POP3_PASSWORD=... twistd -ny service.py
"""

import os

from twisted.application.service import Application, Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from pop3connect import POP3Error, Secure, connect


class FetchService(Service):
    """
    Takes in mail at an interval; never twice at a time.

    :param take_in: called with each message; may return a Deferred.  What it raises
        leaves that message on the server.
    """

    log = Logger()

    def __init__(self, account, take_in, interval=300, clock=None):
        self.account = account
        self.take_in = take_in
        self.interval = interval
        self.loop = LoopingCall(self.look)
        if clock is not None:
            self.loop.clock = clock
        self.looking = None

    def startService(self):
        super().startService()
        self.loop.start(self.interval)

    async def stopService(self):
        super().stopService()
        self.loop.stop()
        if self.looking is not None:
            self.looking.cancel()

    def look(self):
        self.looking = Deferred.fromCoroutine(self.fetch())
        # The loop waits for it, and goes on whatever comes of it.
        return self.looking.addErrback(self.failed)

    async def fetch(self):
        async with await connect(**self.account) as handle:
            async for message in handle.messages():
                if message.error is not None:
                    self.log.warn("{error}", error=message.error)
                    continue
                try:
                    await self.take_in(message.content)
                except CancelledError:
                    raise
                except Exception:
                    self.log.failure("message {n} stays there", n=message.number)
                else:
                    handle.delete(message.number)

    def failed(self, failure):
        if failure.check(POP3Error):
            self.log.warn("{error}", error=failure.value)
        elif not failure.check(CancelledError):
            self.log.failure("not fetched", failure)


async def take_in(content):
    """Here goes what your application does with a message."""
    Logger().info("a message of {octets} octets", octets=len(content))


if "POP3_SERVER" in os.environ:
    application = Application("mail")
    FetchService(
        {
            "server": os.environ["POP3_SERVER"],
            "username": os.environ["POP3_USER"],
            "password": os.environ["POP3_PASSWORD"],
            "secure": Secure.TLS,
        },
        take_in,
    ).setServiceParent(application)
