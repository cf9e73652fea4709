"""
The subjects of a mailbox; `test_inbox.py` tests it.
"""

from email import message_from_bytes

from pop3connect import connect


async def subjects(server, username, password, **options):
    async with await connect(server, username, password, **options) as handle:
        return [
            message_from_bytes(message.content)["Subject"]
            async for message in handle.messages()
            if message.error is None
        ]
