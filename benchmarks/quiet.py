"""How quiet the machine was, over the whole run and during one client's.

With two cores, a third process that wants to run takes time from what is measured.
Where the kernel tells how long somebody waited for a core (``/proc/pressure/cpu``), a
client's run that was disturbed is seen, and can be repeated.
"""

import os
import resource
import time
from pathlib import Path

_STAT = Path("/proc/stat")
_PRESSURE = Path("/proc/pressure/cpu")
_ALWAYS = 0.01  # seconds of waiting that starting a process costs in any case
_SHARE = 0.1  # of the wall time, above which a run was disturbed


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


class Pressure:
    """Whether somebody had to wait for a core since this was made."""

    def __init__(self) -> None:
        """Begin."""
        self._wall, self._waited = time.perf_counter(), _waited()

    def disturbed(self) -> bool:
        """Whether more than a tenth of the time; False where it can't be known."""
        elapsed = time.perf_counter() - self._wall
        return _waited() - self._waited > _ALWAYS + _SHARE * elapsed


def _waited() -> float:
    """Seconds in which at least one runnable task had no core."""
    try:
        some = _PRESSURE.read_text().split("\n")[0]
    except OSError:
        return 0.0
    return int(some.rpartition("total=")[2]) / 1e6


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
