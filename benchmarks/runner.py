"""Runs one client process and takes its figures.

Process wall is ``perf_counter`` around start and end of the process; process CPU is
user and system time of it and its children, from ``wait4``. The figures of the RETR
phase come from the process itself.
"""

import json
import os
import pwd
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from tempfile import TemporaryFile
from typing import Any

from benchmarks.helpers import CHECKOUT, pin

LIMIT = 300.0  # seconds after which a client is ended


@dataclass
class Command:
    """What to start, and as whom."""

    argv: list[str]
    env: dict[str, str] = field(default_factory=dict)
    account: str | None = None


@dataclass
class Run:
    """What one process did; times in seconds, memory in octets."""

    process_wall: float
    process_cpu: float
    figures: dict[str, Any] = field(default_factory=dict)
    error: str | None = None


def worker(module: str, **task: object) -> Command:
    """A client of ours, as a process."""
    argv = [sys.executable, "-m", f"benchmarks.workers.{module}", json.dumps(task)]
    return Command(argv)


def run(command: Command, answers: bool = True) -> Run:
    """Start, wait, read what it printed; a failure is a run with an error."""
    as_other = {}
    if command.account is not None:
        group = pwd.getpwnam(command.account).pw_gid
        as_other = {"user": command.account, "group": group, "extra_groups": []}
    with TemporaryFile() as output, TemporaryFile() as complaint:
        start = time.perf_counter()
        process = subprocess.Popen(
            command.argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=complaint,
            env={**os.environ, **command.env},
            cwd=CHECKOUT,
            **as_other,
        )
        timer = threading.Timer(LIMIT, process.kill)
        timer.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        timer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        for file in (output, complaint):
            file.seek(0)
        said, text = output.read(), complaint.read().decode(errors="replace").strip()
    result = Run(wall, usage.ru_utime + usage.ru_stime)
    if process.returncode:
        last = text.splitlines()[-1] if text else "no word"
        result.error = f"exit {process.returncode}: {last}"
    elif answers:
        result.figures = json.loads(said)
    return result


def use_client_core() -> None:
    """From here on, this process and the clients it starts stay on their core."""
    pin(0, server=False)
