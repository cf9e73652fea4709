"""
Fetch all mail into a folder, one file per message, and delete it on the server.

    POP3_PASSWORD=... python blocking.py pop.example.com ada Mail
"""

import os
import sys
from pathlib import Path

from pop3connect import POP3Error, Secure
from pop3connect.blocking import connect


def fetch(server: str, user: str, folder: Path, secure: int = Secure.TLS) -> int:
    """Return how many messages were fetched, and are deleted on the server now."""
    folder.mkdir(exist_ok=True)
    # Ctrl-C or an error anywhere in the block: the session is aborted, and nothing
    # is deleted.  Otherwise the end of the block deletes what was marked.
    with connect(server, user, password, secure=secure) as handle:
        uids = handle.uidl()
        for number, uid in uids:
            # Written as it comes: no message has to fit into memory.
            with open(folder / f"{uid}.eml", "wb") as file:
                handle.retrieve(number, file)
            handle.delete(number)
    return len(uids)


def password() -> str:
    """Return the password.  It is called when it is needed, and may block."""
    return os.environ["POP3_PASSWORD"]


if __name__ == "__main__":
    server, user, folder, *secure = sys.argv[1:]
    try:
        count = fetch(server, user, Path(folder), *map(int, secure))
    except POP3Error as error:
        sys.exit(str(error))
    print(f"{count} messages are in {folder}")
