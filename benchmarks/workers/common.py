"""What the workers share: their task, the clocks, the memory figures, the answer.

A worker is run as ``python -m benchmarks.workers.NAME '{...}'``. Only cheap standard
modules are imported here, for the whole process is part of what is measured.
"""

import json
import os
import resource
import sys
import time
from types import SimpleNamespace


def job() -> SimpleNamespace:
    """The task, from the one argument."""
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2
    )
    return SimpleNamespace(**json.loads(sys.argv[1]))


def answer(**figures: object) -> None:
    """Print the figures, with the peak memory of this process so far."""
    print(json.dumps({"peak": memory("VmHWM"), **figures}), flush=True)


def memory(field: str) -> int:
    """A figure of /proc/self/status in octets: VmRSS now, VmHWM at its peak."""
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    raise LookupError(field)


def settled_rss() -> int:
    """The resident memory, after the garbage is gone."""
    import gc

    gc.collect()
    return memory("VmRSS")


class Clock:
    """A phase: ``perf_counter`` wall and ``process_time`` CPU seconds."""

    def __enter__(self) -> "Clock":
        """Start."""
        self._cpu, self._wall = time.process_time(), time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop; the figures are in ``figures``."""
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        self.figures = {"wall": wall, "cpu": cpu}


def finish() -> None:
    """End at once: nobody is timing the interpreter taking itself down."""
    sys.stdout.flush()
    os._exit(0)
