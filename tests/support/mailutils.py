"""
A real GNU Mailutils pop3d for the tests to talk to.  Its greeting has a timestamp for
APOP, also for accounts that have no APOP secret.
"""

from __future__ import annotations

import atexit
import functools
import itertools
import subprocess
from collections.abc import Iterable

from .accounts import Accounts
from .dovecot import free_ports
from .unpacked import LineFeedMailbox, Packages, Unpacked, password

PACKAGES = Packages(
    "Mailutils", "POP3CONNECT_MAILUTILS", "usr/sbin/pop3d", private_paths=True
)


class Mailutils(Unpacked):
    """
    A pop3d of GNU Mailutils.
    """

    packages = PACKAGES

    def __init__(self) -> None:
        super().__init__()
        self._numbers = itertools.count(1)
        self._accounts = Accounts(self.directory, "gnu-pop3d")
        (self.directory / "mail").mkdir()
        self._secrets = self.directory / "apop.db"
        # An account that nobody uses: without a database, APOP fails for a reason of
        # its own.
        self._add_secret("nobody", password())
        self.port, self.tls_port = free_ports(2)
        (self.directory / "pop3d.conf").write_text(self._configuration())
        command = [
            str(self.packages.program),
            *("--config-file", str(self.directory / "pop3d.conf")),
        ]
        process = self.launch(command, setup=self._accounts.setup)
        self.wait_for(process, self.port, self.tls_port)

    def _configuration(self) -> str:
        tls = f"""tls {{
    ssl-certificate-file {self.directory}/server.pem;
    ssl-key-file {self.directory}/server.pem;
  }};"""
        return f"""\
mode daemon;
foreground yes;
max-children 100;
pidfile {self.directory}/pid;
mailbox {{ mail-spool {self.directory}/mail; mailbox-type maildir; }};
auth {{ authentication pam; authorization system; }};
logging {{ syslog no; }};
mandatory-locking {{ enable no; }};
tcp-wrappers {{ enable no; }};
apop-database-file {self._secrets};
apop-database-owner root;
tls-file-checks {{ key-file none; cert-file none; ca-file none; }};
server {self.host}:{self.port} {{
  tls-mode ondemand;
  {tls}
}};
server {self.host}:{self.tls_port} {{
  tls-mode connection;
  {tls}
}};
"""

    def _add_secret(self, user: str, secret: str) -> None:
        program = str(self.packages.root / "usr/bin/popauth")
        subprocess.run(
            [program, "-f", str(self._secrets), "-a", "-u", user, "-p", secret],
            env=self.packages.environment(),
            check=True,
            capture_output=True,
        )

    def add_user(
        self, messages: Iterable[bytes] = (), *, apop: bool = False
    ) -> LineFeedMailbox:
        """
        Create an account of a new name, with these messages in its mailbox.

        @param messages: The messages, in order.
        @param apop: Whether the password is the account's APOP secret too.
        """
        user = f"user{next(self._numbers)}"
        directory = self.directory / "mail" / user
        mailbox = LineFeedMailbox(user, password(), directory)
        mailbox.fill(list(messages))
        self._accounts.add(user, mailbox.password, directory)
        if apop:
            self._add_secret(user, mailbox.password)
        return mailbox


@functools.cache
def shared() -> Mailutils:
    """
    Return the running server, started by the first call, until the test run ends.
    """
    server = Mailutils()
    atexit.register(server.stop)
    return server
