"""
A whole Omnis method in Python: connect, list, receive, delete, disconnect.

    python omnis_method.py pop.example.com ada secret
"""

import sys

from twisted.internet.task import react

from pop3connect.omnis import (
    POP3Connect,
    POP3DeleteMessage,
    POP3Disconnect,
    POP3ListMessages,
    POP3RecvMessage,
    WebDevSetConfig,
    error_text,
)


def show_error(text, code, command):
    print(f"{command} {code}: {text}")


async def fetch_all(server, username, password, *more):
    """Return the messages of a mailbox, which is empty afterwards."""
    # Do WebDevSetConfig('showError',30)
    await WebDevSetConfig(show_error, 30)

    # POP3Connect (lServer,lUserName,lPassword) Returns lSocket
    # If lSocket<0
    #   Quit method
    socket = await POP3Connect(server, username, password, *more)
    if socket < 0:
        return []

    # POP3ListMessages (lSocket,0,lList) Returns lStatus
    rows = []
    status = await POP3ListMessages(socket, 0, rows)
    messages = []

    # For lList.$line from 1 to lList.$linecount step 1
    for number, size in rows:
        # POP3RecvMessage (lSocket,lList.number,lMessage) Returns lStatus
        message = bytearray()
        status = await POP3RecvMessage(socket, number, message)
        if status < 0:
            break
        messages.append(bytes(message))
        print(f"message {number}: {size} octets")
        # POP3DeleteMessage (lSocket,lList.number) Returns lStatus
        status = await POP3DeleteMessage(socket, number)
        if status < 0:
            break
    # End For

    # POP3Disconnect (lSocket) Returns lStatus
    # Only now the messages are really deleted.
    status = await POP3Disconnect(socket)
    print(f"{len(messages)} received:", error_text(status))
    return messages


async def main(reactor, server, username, password):
    await fetch_all(server, username, password)


if __name__ == "__main__":
    react(main, sys.argv[1:])
