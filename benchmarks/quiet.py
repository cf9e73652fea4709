"""How quiet the machine was: what other processes used of it meanwhile."""

import os
import resource
import time
from pathlib import Path

_STAT = Path("/proc/stat")


class Quiet:
    """Counts from when it is made; our processes count once they have ended."""

    def __init__(self) -> None:
        """Begin."""
        self._wall, self._busy, self._ours = time.perf_counter(), _busy(), _ours()

    def others(self) -> float | None:
        """The share of all cores that others had; None where it can't be known."""
        busy = _busy()
        if busy is None or self._busy is None:
            return None
        foreign = (busy - self._busy) - (_ours() - self._ours)
        elapsed = time.perf_counter() - self._wall
        return max(0.0, foreign / (elapsed * (os.cpu_count() or 1)))


def _busy() -> float | None:
    """CPU seconds of everybody since the start of the machine."""
    if not _STAT.exists():
        return None
    fields = [int(field) for field in _STAT.read_text().split("\n")[0].split()[1:9]]
    idle = fields[3] + fields[4]
    return (sum(fields) - idle) / os.sysconf("SC_CLK_TCK")


def _ours() -> float:
    """CPU seconds of this process and of those of its children that have ended."""
    both = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    usages = [resource.getrusage(who) for who in both]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
