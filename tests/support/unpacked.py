"""
Servers from packages that are unpacked, not installed, because packages of mail servers
conflict with each other: where their files are, and how their processes start and end.

The packages of each server are in a folder of their own, which an environment variable
names.  `.ci/unpack` downloads and unpacks them.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

import trustme

from .dovecot import NAMES, PATIENCE, REQUIRE, Mailbox


class ServerError(Exception):
    """
    The server is not here, or did not start.
    """


class Account(NamedTuple):
    """
    The name and the password of one user.
    """

    user: str
    password: str


class LineFeedMailbox(Mailbox):
    """
    A Maildir of a server that stores LF and sends CR LF.
    """

    def contents(self) -> list[bytes]:
        return [content.replace(b"\n", b"\r\n") for content in super().contents()]

    def fill(self, messages: Sequence[bytes]) -> None:
        """
        Create the Maildir with these messages, in order.
        """
        for part in ("cur", "new", "tmp"):
            (self.directory / part).mkdir(parents=True)
        for number, content in enumerate(messages, start=1):
            name = f"{1_700_000_000 + number}.M{number:06d}P1.localhost"
            path = self.directory / "new" / name
            path.write_bytes(content.replace(b"\r\n", b"\n"))


def password() -> str:
    """
    Return a new password of letters and digits, which needs no quoting anywhere.
    """
    return re.sub("[-_]", "x", secrets.token_urlsafe(18))


@functools.cache
def _mount_namespace() -> bool:
    command = ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/run"]
    try:
        tried = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        return False
    return tried.returncode == 0


class Packages:
    """
    The folder with the unpacked packages of one server.

    @param server: What the server is called.
    @param variable: The environment variable that names the folder.
    @param program: The path of the server's program in the folder.
    @param private_paths: Whether the server needs a mount namespace, because paths are
        compiled into it.
    """

    def __init__(
        self, server: str, variable: str, program: str, *, private_paths: bool
    ) -> None:
        self.server = server
        self.variable = variable
        self._program = program
        self._private_paths = private_paths

    @property
    def root(self) -> Path:
        """
        The folder.
        """
        return Path(os.environ.get(self.variable) or os.devnull)

    @property
    def program(self) -> Path:
        """
        The server's program.
        """
        return self.root / self._program

    def why_unavailable(self) -> str | None:
        """
        Return why the server cannot be started here, or L{None} if it can.
        """
        if not self.program.exists():
            return (
                f"no {self.server} found: unpack it with .ci/unpack and set "
                f"{self.variable} to the folder"
            )
        if self._private_paths and not _mount_namespace():
            return "a private mount namespace is not possible here: it takes root"
        return None

    def skip_reason(self) -> str | None:
        """
        Return what to set a test case's C{skip} to: the reason if there is no server.

        It is always L{None} where L{REQUIRE} is set, so that the tests fail instead.
        """
        if os.environ.get(REQUIRE, "") not in ("", "0"):
            return None
        return self.why_unavailable()

    def environment(self, **more: str) -> dict[str, str]:
        """
        Return the environment for a program of the packages: it finds its libraries.
        """
        libraries = [
            self.root / "usr/lib",
            *self.root.glob("usr/lib/*-linux-gnu"),
            *self.root.glob("lib/*-linux-gnu"),
        ]
        return {
            "PATH": os.defpath,
            "LD_LIBRARY_PATH": os.pathsep.join(map(str, libraries)),
            **more,
        }


class Unpacked:
    """
    A server in a temporary directory, with a certificate of its own.

    @ivar directory: The directory of all files of this server.
    @ivar cacerts: A folder with the authority of its certificate.
    @ivar port: The port of plain POP3 with STLS.
    @ivar tls_port: The port of POP3S; 0 if the server has no TLS.
    """

    packages: ClassVar[Packages]

    host = "127.0.0.1"
    port = 0
    tls_port = 0

    def __init__(self) -> None:
        reason = self.packages.why_unavailable()
        if reason is not None:
            raise ServerError(reason)
        name = self.packages.server.lower()
        self.directory = Path(tempfile.mkdtemp(prefix=f"pop3-{name}-"))
        # Processes of other users have to pass through.
        self.directory.chmod(0o711)
        self.processes: list[subprocess.Popen[bytes]] = []
        folder = self.directory / "cacerts"
        folder.mkdir()
        self.cacerts = str(folder)
        ca = trustme.CA()
        ca.cert_pem.write_to_path(str(folder / "ca.pem"))
        issued = ca.issue_cert(*NAMES)
        issued.private_key_and_cert_chain_pem.write_to_path(
            str(self.directory / "server.pem")
        )
        (self.directory / "server.pem").chmod(0o600)

    def launch(
        self,
        command: Sequence[str],
        *,
        setup: str = "",
        environment: Mapping[str, str] | None = None,
        connection: socket.socket | None = None,
    ) -> subprocess.Popen[bytes]:
        """
        Start a program of the packages, in a process group of its own.

        @param command: The program and its arguments.
        @param setup: Shell commands that run first, in a mount namespace which only the
            program has.
        @param environment: Variables, besides those of the packages.
        @param connection: Its standard input and output, as inetd would pass it.
        """
        if setup:
            script = f'set -e\n{setup}\nexec "$@"\n'
            command = ["unshare", "--mount", "sh", "-c", script, "sh", *command]
        with open(self.directory / "output", "ab") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL if connection is None else connection,
                stdout=output if connection is None else connection,
                stderr=output,
                cwd=self.directory,
                env=self.packages.environment(**(environment or {})),
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def log(self) -> str:
        """
        Return what its processes have written so far.
        """
        path = self.directory / "output"
        return path.read_text(errors="replace") if path.exists() else ""

    def wait_for(self, process: subprocess.Popen[bytes], *ports: int) -> None:
        """
        Return when these ports take connections.

        @raise ServerError: The process ended before, or it took too long.
        """
        ends = time.monotonic() + PATIENCE
        for port in ports:
            while True:
                try:
                    socket.create_connection((self.host, port), 1.0).close()
                    break
                except OSError:
                    if process.poll() is not None or time.monotonic() > ends:
                        said = self.log()
                        self.stop()
                        raise ServerError(
                            f"{self.packages.server} did not start:\n{said}"
                        ) from None
                    time.sleep(0.01)

    def stop(self) -> None:
        """
        End all processes, and remove the directory.
        """
        for process in self.processes:
            # A process that has not been waited for keeps its number, so this cannot
            # be another group.
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)
        for process in self.processes:
            process.wait(PATIENCE)
        shutil.rmtree(self.directory, ignore_errors=True)
