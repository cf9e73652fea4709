"""
A service that fetches mail, and deletes what it has taken in.

    POP3_SERVER=pop.example.com POP3_USER=ada POP3_PASSWORD=... twistd -ny service.py
"""

import os

from twisted.application.service import Application, Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from pop3connect import Connector, POP3Error, Secure


class FetchService(Service):
    """
    Takes in mail at an interval; never twice at a time.

    :param sessions: as `Connector.sessions` makes them; called at each start.
    :param take_in: called with each message; may return a Deferred.  What it raises
        leaves that message on the server.
    """

    log = Logger()

    def __init__(self, sessions, take_in):
        self.sessions = sessions
        self.take_in = take_in

    def startService(self):
        super().startService()
        self.loop = Deferred.fromCoroutine(self.run())
        self.loop.addErrback(self.failed)

    def stopService(self):
        super().stopService()
        self.loop.cancel()
        return self.loop

    async def run(self):
        async for handle in self.sessions():
            try:
                await self.fetch(handle)
            except POP3Error as error:
                # The session broke; the next one goes on.
                self.log.warn("{error}", error=error)

    async def fetch(self, handle):
        async with handle:
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
        if not failure.check(CancelledError):
            self.log.failure("no mail is taken in any more", failure)


async def take_in(content):
    """Replace this by what your application does with a message."""
    Logger().info("a message of {octets} octets", octets=len(content))


if "POP3_SERVER" in os.environ:
    application = Application("mail")
    connector = Connector(os.environ["POP3_SERVER"], secure=Secure.TLS)
    account = os.environ["POP3_USER"], os.environ["POP3_PASSWORD"]
    service = FetchService(lambda: connector.sessions(*account), take_in)
    service.setServiceParent(application)
