"""Twisted's own POP3 client, ``twisted.mail.pop3.AdvancedPOP3Client``.

USER and PASS, then one ``retrieve()`` after another, each awaited. Over TLS the
verifying options are made once and reused; for the logins also made for each login
(``fresh``), and reused with the TLS session handed on (``resumed``). The task ``bare``
of the idle sessions is a Twisted protocol that only takes the greeting.
"""

from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    connectProtocol,
    wrapClientTLS,
)
from twisted.internet.task import react
from twisted.mail.pop3 import AdvancedPOP3Client
from twisted.protocols.basic import LineReceiver

from benchmarks.workers.common import Clock, answer, finish, job, settled_rss


class Client(AdvancedPOP3Client):
    """Announces the greeting with a Deferred."""

    allowInsecureLogin = True

    def __init__(self) -> None:
        """Nothing has come yet."""
        super().__init__()
        self.greeted: Deferred[None] = Deferred()

    def serverGreeting(self, greeting: bytes) -> None:
        """Pass it on."""
        self.greeted.callback(None)


class BareProtocol(LineReceiver):
    """A protocol that takes one line and does nothing."""

    def __init__(self) -> None:
        """Nothing has come yet."""
        self.greeted: Deferred[None] = Deferred()

    def lineReceived(self, line: bytes) -> None:
        """The greeting."""
        self.greeted.callback(None)


class Peer:
    """The task, and how to connect."""

    def __init__(self, reactor: Any, task: SimpleNamespace) -> None:
        """Make the TLS options once."""
        self.reactor, self.task = reactor, task
        self.options = self.make_options() if task.tls else None
        if task.mode == "resumed":
            from benchmarks.workers.resuming import Resuming

            self.options = Resuming(self.options)

    def make_options(self) -> Any:
        """Verifying options; this reads the certificate."""
        from twisted.internet.ssl import (
            Certificate,
            optionsForClientTLS,
            trustRootFromCertificates,
        )

        with open(self.task.ca, "rb") as file:
            certificate = Certificate.loadPEM(file.read())
        trust = trustRootFromCertificates([certificate])
        return optionsForClientTLS(self.task.host, trustRoot=trust)

    async def connected(self, protocol: Any) -> Any:
        """Connected and greeted."""
        endpoint: Any = TCP4ClientEndpoint(self.reactor, self.task.host, self.task.port)
        if self.task.tls:
            if self.task.mode == "fresh":
                self.options = self.make_options()
            endpoint = wrapClientTLS(self.options, endpoint)
        await connectProtocol(endpoint, protocol)
        await protocol.greeted
        return protocol

    async def session(self) -> Client:
        """Connected and logged in."""
        client: Client = await self.connected(Client())
        await client.user(self.task.user.encode())
        await client.password(self.task.password.encode())
        return client

    async def login(self, *, look: bool = False) -> None:
        """Log in and out, and ask for the listings in between."""
        client = await self.session()
        if look:
            await client.stat()
            await client.listUID()
            await client.listSize()
        if self.task.mode == "resumed":
            tls = client.transport.getHandle()
            self.options.session = tls.get_session()
        await client.quit()
        client.transport.loseConnection()

    async def retrieve(self) -> None:
        """Fetch all; each message is a list of lines, and is dropped."""
        client = await self.session()
        lines: list[bytes] = []
        with Clock() as clock:
            for index in range(self.task.count):
                lines = await client.retrieve(index)
        await client.quit()
        last = sum(map(len, lines)) + 2 * len(lines)
        octets = last * self.task.count
        answer(**clock.figures, messages=self.task.count, octets=octets)

    async def logins(self, *, look: bool = False) -> None:
        """One after another."""
        for _ in range(self.task.warm):
            await self.login(look=look)
        with Clock() as clock:
            for _ in range(self.task.count):
                await self.login(look=look)
        answer(**clock.figures)

    async def looks(self) -> None:
        """The same with the listings."""
        await self.logins(look=True)

    async def idle(self) -> None:
        """Hold sessions open; memory before and after."""

        def one() -> Coroutine[Any, Any, Any]:
            bare = self.task.mode == "bare"
            return self.connected(BareProtocol()) if bare else self.session()

        sessions = [await one() for _ in range(self.task.warm)]
        before = settled_rss()
        sessions += [await one() for _ in range(self.task.count)]
        answer(each=(settled_rss() - before) / self.task.count)
        finish()


def main(reactor: Any) -> Deferred[None]:
    """Do the task."""
    task = job()
    peer = Peer(reactor, task)
    return Deferred.fromCoroutine(getattr(peer, task.task)())


if __name__ == "__main__":
    react(main)
