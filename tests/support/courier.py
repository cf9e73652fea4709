"""
A real Courier for the tests to talk to: started by the test run, with mailboxes and a
certificate authority of its own.

Courier asks a daemon for passwords, on a socket whose path is compiled in.  Here that
daemon is a thread of the tests, and the path leads to it in a mount namespace that only
Courier sees; making one takes root.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import itertools
import os
import socket
import subprocess
import threading
from collections.abc import Iterable
from pathlib import Path

from .dovecot import Mailbox, free_ports
from .unpacked import LineFeedMailbox, Packages, Unpacked, password

PACKAGES = Packages(
    "Courier", "POP3CONNECT_COURIER", "usr/sbin/couriertcpd", private_paths=True
)


class _AuthDaemon(threading.Thread):
    """
    Answers Courier's questions about names and passwords.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(name="courier authdaemon", daemon=True)
        self.mailboxes: dict[tuple[str, str], Mailbox] = {}
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen(64)

    def run(self) -> None:
        while True:
            try:
                asking, _ = self._listening.accept()
            except OSError:
                return
            with asking:
                asking.sendall(self._answer(asking.recv(4096).decode()))

    def close(self) -> None:
        # Wakes accept() up, which close() does not.
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _answer(self, question: str) -> bytes:
        # "AUTH <octets>", and then service, kind, name and password, a line each.
        _, _, asked = question.partition("AUTH ")
        _, service, kind, name, password, *_ = [*asked.split("\n"), *[""] * 5]
        mailbox = self.mailboxes.get((name, password))
        if (service, kind) != ("pop3", "login") or mailbox is None:
            return b"FAIL\n"
        lines = (
            f"UID={os.geteuid()}",
            f"GID={os.getegid()}",
            f"ADDRESS={name}",
            f"HOME={mailbox.directory.parent}",
            f"MAILDIR={mailbox.directory}",
            ".\n",
        )
        return "\n".join(lines).encode()


class Courier(Unpacked):
    """
    A Courier server.
    """

    packages = PACKAGES

    def __init__(self) -> None:
        super().__init__()
        self._numbers = itertools.count(1)
        (self.directory / "auth").mkdir()
        # For STLS it becomes a user of this name, which its package would have made.
        users = Path("/etc/passwd").read_text() + "courier:x:0:0::/:/bin/false\n"
        (self.directory / "passwd").write_text(users)
        self._daemon = _AuthDaemon(self.directory / "auth" / "socket")
        self._daemon.start()
        self.port, self.tls_port = free_ports(2)
        root = self.packages.root
        programs = root / "usr/lib/courier/courier"
        login = [str(programs / "courierpop3login"), str(programs / "courierpop3d")]
        tls = [str(root / "usr/bin/couriertls"), "-server", "-tcpd"]
        plain = self._start(self.port, login, POP3_STARTTLS="YES")
        self.wait_for(plain, self.port)
        secure = self._start(self.tls_port, [*tls, *login], POP3_TLS="1")
        self.wait_for(secure, self.tls_port)

    def _start(
        self, port: int, program: list[str], **more: str
    ) -> subprocess.Popen[bytes]:
        command = [
            str(self.packages.program),
            f"-address={self.host}",
            f"-stderr={self.directory / 'log'}",
            *("-maxprocs=200", "-maxperip=200", "-nodnslookup", "-noidentlookup"),
            str(port),
            *program,
            "Maildir",
        ]
        environment = {
            "MAILDIRPATH": "Maildir",
            "POP3AUTH": "PLAIN LOGIN",
            "POP3AUTH_TLS": "PLAIN LOGIN",
            "POP3_TLS_REQUIRED": "0",
            "COURIERTLS": str(self.packages.root / "usr/bin/couriertls"),
            "TLS_CERTFILE": str(self.directory / "server.pem"),
            "TLS_VERIFYPEER": "NONE",
            **more,
        }
        setup = f"""\
mount -t tmpfs none /run
mkdir -p /run/courier/authdaemon
mount --bind '{self.directory}/auth' /run/courier/authdaemon
mount --bind '{self.directory}/passwd' /etc/passwd"""
        return self.launch(command, setup=setup, environment=environment)

    def add_user(self, messages: Iterable[bytes] = ()) -> Mailbox:
        """
        Create an account of a new name, with these messages in its mailbox.
        """
        user = f"user{next(self._numbers)}"
        directory = self.directory / "mail" / user / "Maildir"
        mailbox = LineFeedMailbox(user, password(), directory)
        mailbox.fill(list(messages))
        self._daemon.mailboxes[user, mailbox.password] = mailbox
        return mailbox

    def serves(self, mailbox: Mailbox) -> bool:
        """
        Return whether a session with this mailbox has not ended: each is a process.
        """
        there = str(mailbox.directory.resolve())
        for process in Path("/proc").iterdir():
            if process.name.isdigit():
                with contextlib.suppress(OSError):
                    if os.readlink(process / "cwd") == there:
                        return True
        return False

    def stop(self) -> None:
        super().stop()
        self._daemon.close()


@functools.cache
def shared() -> Courier:
    """
    Return the running server, started by the first call, until the test run ends.
    """
    server = Courier()
    atexit.register(server.stop)
    return server
