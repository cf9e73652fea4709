"""
A real Cyrus for the tests to talk to: with passwords in a SASL database, so that it
offers SCRAM, and with mail that comes in by LMTP.
"""

from __future__ import annotations

import atexit
import functools
import grp
import itertools
import os
import pwd
import shutil
import smtplib
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

from .dovecot import PATIENCE, free_ports
from .unpacked import Account, Packages, ServerError, Unpacked, password

PACKAGES = Packages(
    "Cyrus", "POP3CONNECT_CYRUS", "usr/lib/cyrus/bin/pop3d", private_paths=False
)

#: Every mechanism of Cyrus SASL that pop3connect has too.  Over TLS Cyrus offers the
#: -PLUS variants of the SCRAM mechanisms as well.
MECHANISMS = ("PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256")


class Cyrus(Unpacked):
    """
    A Cyrus server, which takes APOP, and USER and PLAIN without TLS.

    @param tls_versions: The versions of TLS that it takes.
    """

    packages = PACKAGES

    def __init__(self, *, tls_versions: str = "tls1_2 tls1_3") -> None:
        super().__init__()
        # Cyrus does not handle mail as root.
        self._user = "nobody" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())[0]
        self._numbers = itertools.count(1)
        self._programs = self.packages.root / "usr/lib/cyrus/bin"
        for name in ("config", "mail", "socket"):
            (self.directory / name).mkdir()
        self.port, self.tls_port = free_ports(2)
        self._write("imapd.conf", self._options(tls_versions))
        self._write("cyrus.conf", self._services())
        self._own(self.directory)
        files = ("-C", "imapd.conf", "-M", "cyrus.conf", "-p", "master.pid")
        process = self.launch(
            [str(self._programs / "master"), *files], environment=self._sasl()
        )
        self.wait_for(process, self.port, self.tls_port)

    def _write(self, name: str, content: str) -> None:
        (self.directory / name).write_text(content)

    def _own(self, path: Path) -> None:
        if os.geteuid() == 0:
            owner = pwd.getpwnam(self._user)
            for each in (path, *path.rglob("*")):
                os.chown(each, owner.pw_uid, owner.pw_gid)

    def _sasl(self) -> dict[str, str]:
        plugins = map(str, self.packages.root.glob("usr/lib/*-linux-gnu/sasl2"))
        return {"SASL_PATH": os.pathsep.join(plugins)}

    def _options(self, tls_versions: str) -> str:
        directory = self.directory
        group = grp.getgrgid(pwd.getpwnam(self._user).pw_gid).gr_name
        return f"""\
configdirectory: {directory}/config
defaultpartition: default
partition-default: {directory}/mail
cyrus_user: {self._user}
cyrus_group: {group}
servername: localhost
failedloginpause: 0
autocreate_quota: 0
autocreate_post: yes
lmtpsocket: {directory}/socket/lmtp
sasl_pwcheck_method: auxprop
sasl_auxprop_plugin: sasldb
sasl_sasldb_path: {directory}/sasldb2
sasl_mech_list: {" ".join(MECHANISMS)}
tls_server_cert: {directory}/server.pem
tls_server_key: {directory}/server.pem
tls_versions: {tls_versions}
allowapop: yes
allowplaintext: yes
"""

    def _services(self) -> str:
        run = f'cmd="{self._programs}'
        conf = f"-C {self.directory}/imapd.conf"
        return f"""\
START {{
  recover {run}/ctl_cyrusdb {conf} -r"
}}
SERVICES {{
  pop3 {run}/pop3d {conf}" listen="{self.host}:{self.port}" proto=tcp4
  pop3s {run}/pop3d -s {conf}" listen="{self.host}:{self.tls_port}" proto=tcp4
  lmtp {run}/lmtpd -a {conf}" listen="{self.directory}/socket/lmtp"
}}
"""

    def add_user(self, messages: Iterable[bytes] = ()) -> Account:
        """
        Create an account of a new name and deliver these messages to it.

        Delivery adds header fields; what follows the first empty line stays.  The first
        login creates the mailbox if there are no messages.
        """
        account = Account(f"user{next(self._numbers)}", password())
        database = self.directory / "sasldb2"
        subprocess.run(
            [
                str(self.packages.root / "usr/sbin/saslpasswd2"),
                *("-p", "-c", "-u", "localhost", "-f", str(database), account.user),
            ],
            input=account.password.encode(),
            env=self.packages.environment(**self._sasl()),
            check=True,
            capture_output=True,
        )
        self._own(database)
        messages = list(messages)
        if messages:
            with self._lmtp() as client:
                for message in messages:
                    client.sendmail("sender@localhost", [account.user], message)
        return account

    def _lmtp(self) -> smtplib.LMTP:
        # The socket exists before the process behind it answers.
        ends = time.monotonic() + PATIENCE
        while True:
            try:
                return smtplib.LMTP(str(self.directory / "socket" / "lmtp"))
            except (OSError, smtplib.SMTPException):
                if time.monotonic() > ends:
                    raise ServerError(
                        f"Cyrus takes no mail by LMTP:\n{self.log()}"
                    ) from None
                time.sleep(0.05)

    def stop(self) -> None:
        super().stop()
        # A process that was about to write may have made a directory again.
        shutil.rmtree(self.directory, ignore_errors=True)


@functools.cache
def shared(**options: str) -> Cyrus:
    """
    Return the running server with these options, started by the first call.  It runs
    until the test run ends.
    """
    server = Cyrus(**options)
    atexit.register(server.stop)
    return server
