"""
The subjects of a mailbox, by poplib and by pop3connect.
"""

import poplib
import ssl
from email import message_from_bytes

from pop3connect import Secure, connect


def before(host, port, user, password, context=None):
    context = context or ssl.create_default_context()
    connection = poplib.POP3_SSL(host, port, timeout=60, context=context)
    try:
        connection.user(user)
        connection.pass_(password)
        subjects = []
        count, size = connection.stat()
        for number in range(1, count + 1):
            response, lines, octets = connection.retr(number)
            mail = message_from_bytes(b"\r\n".join(lines))
            subjects.append(mail["Subject"])
            connection.dele(number)
    finally:
        connection.quit()
    return subjects


async def after(host, port, user, password):
    subjects = []
    async with await connect(
        f"{host}:{port}", user, password, secure=Secure.TLS, timeout=60
    ) as handle:
        async for message in handle.messages():
            if message.error is None:
                subjects.append(message_from_bytes(message.content)["Subject"])
                handle.delete(message.number)
    return subjects
