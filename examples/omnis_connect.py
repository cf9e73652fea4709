"""
POP3Connect as the Omnis reference shows it: three variables, and then the command.

    python omnis_connect.py pop.example.com ada secret
"""

import sys

from twisted.internet.task import react

from pop3connect.omnis import POP3Connect, POP3Disconnect, error_text


async def main(reactor, server, username, password):
    # Calculate lServer as 'pop.example.com'
    # Calculate lUserName as 'ada'
    # Calculate lPassword as 'secret'
    # POP3Connect (lServer,lUserName,lPassword) Returns lSocket
    socket = await POP3Connect(server, username, password)
    if socket < 0:
        print("no session:", error_text(socket))
        return
    print("socket", socket)
    await POP3Disconnect(socket)


if __name__ == "__main__":
    react(main, sys.argv[1:])
