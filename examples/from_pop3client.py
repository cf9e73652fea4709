"""
The subjects of a mailbox, by twisted.mail.pop3 and by pop3connect.
"""

from email import message_from_bytes

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.protocol import Factory
from twisted.internet.ssl import optionsForClientTLS
from twisted.mail.pop3 import AdvancedPOP3Client

from pop3connect import Secure, connect


class Client(AdvancedPOP3Client):
    def __init__(self):
        self.greeted = Deferred()

    def serverGreeting(self, challenge):
        self.greeted.callback(self)


async def before(reactor, host, port, user, password, authority=None):
    endpoint = wrapClientTLS(
        optionsForClientTLS(host, trustRoot=authority),
        HostnameEndpoint(reactor, host, port),
    )
    client = await endpoint.connect(Factory.forProtocol(Client))
    await client.greeted
    await client.login(user.encode(), password.encode())
    subjects = []
    for index in range(len(await client.listSize())):
        # Counts from 0; line by line.
        lines = await client.retrieve(index)
        subjects.append(message_from_bytes(b"\r\n".join(lines))["Subject"])
        await client.delete(index)
    await client.quit()
    return subjects


async def after(reactor, host, port, user, password, cacerts=None):
    subjects = []
    async with await connect(
        f"{host}:{port}", user, password, secure=Secure.TLS, cacerts=cacerts
    ) as handle:
        async for message in handle.messages():
            if message.error is None:
                subjects.append(message_from_bytes(message.content)["Subject"])
                handle.delete(message.number)
    return subjects
