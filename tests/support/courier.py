"""
A real Courier for the tests to talk to: started by the test run, with mailboxes and a
certificate authority of its own.

Its package conflicts with Dovecot's, so the binaries lie in a folder of their own,
which `POP3CONNECT_COURIER` names: what ``dpkg -x`` makes of courier-pop and of what it
depends on, as ``apt-get install --download-only`` brings them (``.ci/run`` has the
commands).  Courier asks a daemon for passwords, on a socket whose path is compiled in.
Here that daemon is a thread of the tests, and the path leads to it in a mount namespace
that only Courier sees; making one takes root.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import itertools
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import trustme

from .dovecot import NAMES, PATIENCE, REQUIRE, Mailbox, free_ports

#: The folder that the packages were unpacked in.
FOLDER = "POP3CONNECT_COURIER"

_SETUP = """
set -e
mount -t tmpfs none /run
mkdir -p /run/courier/authdaemon
mount --bind "$1/auth" /run/courier/authdaemon
mount --bind "$1/passwd" /etc/passwd
shift
exec "$@"
"""


class CourierError(Exception):
    """
    Courier is not here, or would not start.
    """


@functools.cache
def why_unavailable() -> str | None:
    """
    Say why no Courier can be started here, or L{None} if it can.
    """
    root = os.environ.get(FOLDER)
    if not root or not Path(root, "usr/sbin/couriertcpd").exists():
        return f"no Courier found: unpack courier-pop and set {FOLDER} to the folder"
    namespace = subprocess.run(
        ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/run"],
        capture_output=True,
        check=False,
    )
    if namespace.returncode:
        return "a private mount namespace is not possible here: it takes root"
    return None


def skip_reason() -> str | None:
    """
    What to set a test case's C{skip} to: the reason if there is no Courier.

    Where L{REQUIRE} is set there is never one, and the tests fail instead.
    """
    if os.environ.get(REQUIRE, "") not in ("", "0"):
        return None
    return why_unavailable()


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


class CourierMailbox(Mailbox):
    """
    A Maildir as Courier has it: line ends are LF there, and CR LF on the wire.
    """

    def contents(self) -> list[bytes]:
        return [content.replace(b"\n", b"\r\n") for content in super().contents()]


class Courier:
    """
    A Courier server, with plain POP3 on L{port} and POP3S on L{tls_port}.

    @ivar directory: Where everything of this server's lies.
    @ivar cacerts: A folder with the authority of its certificate.
    """

    host = "127.0.0.1"

    def __init__(self) -> None:
        reason = why_unavailable()
        if reason is not None:
            raise CourierError(reason)
        self.directory = Path(tempfile.mkdtemp(prefix="pop3-courier-"))
        self._root = Path(os.environ[FOLDER])
        self._numbers = itertools.count(1)
        for name in ("cacerts", "auth"):
            (self.directory / name).mkdir()
        self.cacerts = str(self.directory / "cacerts")
        ca = trustme.CA()
        ca.cert_pem.write_to_path(str(self.directory / "cacerts" / "ca.pem"))
        issued = ca.issue_cert(*NAMES)
        issued.private_key_and_cert_chain_pem.write_to_path(
            str(self.directory / "server.pem")
        )
        # For STLS it becomes a user of this name, which its package would have made.
        users = Path("/etc/passwd").read_text() + "courier:x:0:0::/:/bin/false\n"
        (self.directory / "passwd").write_text(users)
        self._daemon = _AuthDaemon(self.directory / "auth" / "socket")
        self._daemon.start()
        self.port, self.tls_port = free_ports(2)
        programs = self._root / "usr/lib/courier/courier"
        login = [str(programs / "courierpop3login"), str(programs / "courierpop3d")]
        tls = [str(self._root / "usr/bin/couriertls"), "-server", "-tcpd"]
        self._processes = [
            self._start(self.port, login, POP3_STARTTLS="YES"),
            self._start(self.tls_port, [*tls, *login], POP3_TLS="1"),
        ]
        self._wait()

    def _start(
        self, port: int, program: list[str], **more: str
    ) -> subprocess.Popen[bytes]:
        libraries = [
            self._root / "usr/lib",
            *self._root.glob("usr/lib/*-linux-gnu"),
            *self._root.glob("lib/*-linux-gnu"),
        ]
        command = [
            *("unshare", "--mount", "sh", "-c", _SETUP, "sh"),
            str(self.directory),
            str(self._root / "usr/sbin/couriertcpd"),
            f"-address={self.host}",
            f"-stderr={self.directory / 'log'}",
            *("-maxprocs=200", "-maxperip=200", "-nodnslookup", "-noidentlookup"),
            str(port),
            *program,
            "Maildir",
        ]
        environment = {
            "PATH": os.defpath,
            "LD_LIBRARY_PATH": os.pathsep.join(map(str, libraries)),
            "MAILDIRPATH": "Maildir",
            "POP3AUTH": "PLAIN LOGIN",
            "POP3AUTH_TLS": "PLAIN LOGIN",
            "POP3_TLS_REQUIRED": "0",
            "COURIERTLS": str(self._root / "usr/bin/couriertls"),
            "TLS_CERTFILE": str(self.directory / "server.pem"),
            "TLS_VERIFYPEER": "NONE",
            **more,
        }
        with open(self.directory / "output", "ab") as output:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,
            )

    def _wait(self) -> None:
        """
        Return when both ports take connections.

        @raise CourierError: They don't; says what Courier said.
        """
        ends = time.monotonic() + PATIENCE
        for process, port in zip(
            self._processes, (self.port, self.tls_port), strict=True
        ):
            while True:
                try:
                    socket.create_connection((self.host, port), 1.0).close()
                    break
                except OSError:
                    if process.poll() is not None or time.monotonic() > ends:
                        said = (self.directory / "output").read_text(errors="replace")
                        self.stop()
                        raise CourierError(f"Courier did not start:\n{said}") from None
                    time.sleep(0.01)

    def add_user(self, messages: Iterable[bytes] = ()) -> Mailbox:
        """
        Make an account of a new name, with these messages in its mailbox.
        """
        user = f"user{next(self._numbers)}"
        directory = self.directory / "mail" / user / "Maildir"
        mailbox = CourierMailbox(user, secrets.token_hex(12), directory)
        for part in ("cur", "new", "tmp"):
            (directory / part).mkdir(parents=True)
        for number, content in enumerate(messages, start=1):
            name = f"{1_700_000_000 + number}.M{number:06d}P1.localhost"
            (directory / "new" / name).write_bytes(content.replace(b"\r\n", b"\n"))
        self._daemon.mailboxes[user, mailbox.password] = mailbox
        return mailbox

    def serves(self, mailbox: Mailbox) -> bool:
        """
        Say whether a session with this mailbox has not ended: each is a process.
        """
        there = str(mailbox.directory.resolve())
        for process in Path("/proc").iterdir():
            if process.name.isdigit():
                with contextlib.suppress(OSError):
                    if os.readlink(process / "cwd") == there:
                        return True
        return False

    def stop(self) -> None:
        """
        End it, and remove all that it had.
        """
        for process in self._processes:
            # The group, of which it is the leader: sessions end with it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        for process in self._processes:
            process.wait(PATIENCE)
        self._daemon.close()
        shutil.rmtree(self.directory, ignore_errors=True)


@functools.cache
def shared() -> Courier:
    """
    The running server, started if this is the first call, until the test run ends.
    """
    server = Courier()
    atexit.register(server.stop)
    return server
