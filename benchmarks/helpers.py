"""The helper processes, the certificate they show, and who runs on which core.

With two cores or more, servers and relays run on the first and clients on the last, so
that neither takes time from the other, and a figure does not depend on where the kernel
put them.
"""

import compileall
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parent.parent
_CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]


def pin(pid: int, server: bool) -> None:
    """Put a process on its core; what it starts later goes there too."""
    if len(_CORES) > 1:
        os.sched_setaffinity(pid, {_CORES[0] if server else _CORES[-1]})


def compile_modules() -> None:
    """Have compiled modules on disk, as an installation has."""
    for package in ("pop3connect", "benchmarks"):
        compileall.compile_dir(CHECKOUT / package, quiet=1)


class Helper:
    """``python -m benchmarks.<module>`` with a JSON task; a context manager."""

    def __init__(self, module: str, **task: object) -> None:
        """Start it and read what it says first."""
        command = [sys.executable, "-m", f"benchmarks.{module}", json.dumps(task)]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=CHECKOUT,
        )
        pin(self.process.pid, server=True)
        self.hello: dict[str, Any] = self._read()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def stats(self) -> dict[str, Any]:
        """The server's CPU seconds, connections and resumed handshakes so far."""
        assert self.process.stdin is not None
        self.process.stdin.write("stats\n")
        self.process.stdin.flush()
        return self._read()

    def __enter__(self) -> "Helper":
        """Already running."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it, by ending its input."""
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Identity:
    """A certificate authority made for this run, and the servers' certificate."""

    def __init__(self, folder: Path) -> None:
        """Write both to *folder*; the authority also as a cacerts folder."""
        import trustme

        authority = trustme.CA()
        self.cacerts = folder / "cacerts"
        self.cacerts.mkdir()
        self.ca = self.cacerts / "benchmark.pem"
        authority.cert_pem.write_to_path(str(self.ca))
        certificate = authority.issue_cert(
            "localhost", "127.0.0.1", common_name="localhost"
        )
        self.server = folder / "server.pem"
        certificate.private_key_and_cert_chain_pem.write_to_path(str(self.server))
        folder.chmod(0o755)  # getmail runs as another user when we are root
