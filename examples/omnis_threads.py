"""
Count the messages of several mailboxes at once, with blocking commands in threads.

    python omnis_threads.py pop.example.com secret ada bob
"""

import sys
from concurrent.futures import ThreadPoolExecutor

from pop3connect.omnis.blocking import (
    POP3Connect,
    POP3Disconnect,
    POP3MessageCount,
    error_text,
)


def count(server, user, password):
    # POP3Connect (lServer,lUser,lPassword) Returns lSocket
    socket = POP3Connect(server, user, password)
    if socket < 0:
        return f"{user}: {error_text(socket)}"
    # POP3MessageCount (lSocket) Returns lCount
    messages = POP3MessageCount(socket)
    # POP3Disconnect (lSocket) Returns lStatus
    POP3Disconnect(socket)
    return f"{user}: {messages} messages"


if __name__ == "__main__":
    server, password, *users = sys.argv[1:]
    with ThreadPoolExecutor() as pool:
        for line in pool.map(lambda user: count(server, user, password), users):
            print(line)
