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
from pathlib import Path
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
    statuses: tuple[int, ...] = (0,)  # those that are no failure


@dataclass
class Run:
    """What one process did; times in seconds, memory in octets."""

    process_wall: float
    process_cpu: float
    peak: int = 0  # of the process itself, where it was asked for
    figures: dict[str, Any] = field(default_factory=dict)
    error: str | None = None


class Memory(threading.Thread):
    """Reads a process's VmHWM, which only rises, until it ends.

    The ru_maxrss of wait4 would not do: it counts the memory that the process shared
    with this one before its exec.
    """

    def __init__(self, pid: int) -> None:
        """Not started yet."""
        super().__init__(daemon=True)
        self.ended, self.peak = threading.Event(), 0
        self._status = Path(f"/proc/{pid}/status")

    def run(self) -> None:
        """Look fifty times a second."""
        while not self.ended.wait(0.02):
            try:
                lines = self._status.read_text().splitlines()
            except OSError:
                return
            for line in lines:
                if line.startswith("VmHWM:"):
                    self.peak = max(self.peak, int(line.split()[1]) * 1024)


def worker(module: str, **task: object) -> Command:
    """A client of ours, as a process."""
    argv = [sys.executable, "-m", f"benchmarks.workers.{module}", json.dumps(task)]
    return Command(argv)


def run(command: Command, answers: bool = True, peak: bool = False) -> Run:
    """Start, wait, read what it printed; a failure is a run with an error.

    With *peak*, its memory is looked at meanwhile.
    """
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
        # Nobody waits for it when this run is cut off in the next few lines.
        timer.daemon = True
        memory = Memory(process.pid)
        try:
            timer.start()
            if peak:
                memory.start()
            _, status, usage = os.wait4(process.pid, 0)
        except KeyboardInterrupt:
            process.kill()
            process.wait()
            raise
        finally:
            wall = time.perf_counter() - start
            timer.cancel()
            memory.ended.set()
        process.returncode = os.waitstatus_to_exitcode(status)
        for file in (output, complaint):
            file.seek(0)
        said, text = output.read(), complaint.read().decode(errors="replace").strip()
    result = Run(wall, usage.ru_utime + usage.ru_stime, memory.peak)
    if process.returncode not in command.statuses:
        last = text.splitlines()[-1] if text else "no word"
        result.error = f"exit {process.returncode}: {last}"
    elif answers:
        result.figures = json.loads(said)
    return result


def use_client_core() -> None:
    """From here on, this process and the clients it starts stay on their core."""
    pin(0, server=False)
