"""
A real solid-pop3d for the tests to talk to: without CAPA, SASL and TLS.  Its greeting
has a timestamp for APOP, also for accounts without an APOP secret, and the fifth error
ends the session.
"""

from __future__ import annotations

import atexit
import functools
import itertools
import os
import socket
import threading
from collections.abc import Iterable

from .accounts import GID, UID, Accounts
from .unpacked import LineFeedMailbox, Packages, Unpacked, password

PACKAGES = Packages(
    "solid-pop3d", "POP3CONNECT_SOLID", "usr/sbin/solid-pop3d", private_paths=True
)


class Solid(Unpacked):
    """
    A solid-pop3d, which a thread starts for each connection, as inetd would.
    """

    packages = PACKAGES

    def __init__(self) -> None:
        super().__init__()
        self._numbers = itertools.count(1)
        self._accounts = Accounts(self.directory, "solid-pop3d")
        self._accounts.add_system_user("spop3d")
        (self.directory / "mail").mkdir()
        (self.directory / "spop3d.conf").write_text(f"""\
<Global>
MailDropName "{self.directory}/mail/%s/Maildir"
MailDropType maildir
AddBulletins no
APOPServerName "localhost"
</Global>
""")
        self._listening = socket.create_server((self.host, 0), backlog=64)
        self.port = self._listening.getsockname()[1]
        self._thread = threading.Thread(
            target=self._accept, name="inetd for solid-pop3d", daemon=True
        )
        self._thread.start()

    def _accept(self) -> None:
        command = [str(self.packages.program), "-f", f"{self.directory}/spop3d.conf"]
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            with connection:
                self.launch(command, setup=self._accounts.setup, connection=connection)

    def add_user(
        self, messages: Iterable[bytes] = (), *, apop: bool = False
    ) -> LineFeedMailbox:
        """
        Create an account of a new name, with these messages in its mailbox.

        @param messages: The messages, in order.
        @param apop: Whether the password is the account's APOP secret too.
        """
        user = f"user{next(self._numbers)}"
        home = self.directory / "mail" / user
        mailbox = LineFeedMailbox(user, password(), home / "Maildir")
        mailbox.fill(list(messages))
        self._accounts.add(user, mailbox.password, home)
        if apop:
            # Its program pop_auth stores each octet inverted, in hexadecimal digits,
            # and it takes the file only if nobody else can read it.
            secret = bytes(octet ^ 0xFF for octet in mailbox.password.encode())
            path = home / ".spop3d"
            path.write_text(f"APOPSecret {secret.hex()}\n")
            path.chmod(0o600)
            os.chown(path, UID, GID)
        return mailbox

    def stop(self) -> None:
        # Wakes accept() up, which close() does not.
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()
        super().stop()


@functools.cache
def shared() -> Solid:
    """
    Return the running server, started by the first call, until the test run ends.
    """
    server = Solid()
    atexit.register(server.stop)
    return server
