"""What a process holds, counted after each round: what grows is a leak."""

import ctypes
import gc
import os
import resource
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SPARE = 200
"""File descriptors that a process needs beside those of its sessions."""

_FILES = Path("/proc/self/fd")
_STATM = Path("/proc/self/statm")

_WATCHED = (
    "pop3connect.",
    "twisted.internet.defer.",
    "twisted.internet.tcp.",
    "twisted.protocols.tls.",
    "twisted.python.failure.",
    "OpenSSL.SSL.",
)
"""Where the types are from whose living objects are counted."""

GROWTH = 2048
"""Octets a session by which memory may grow from the second round to the last: less
than half of what an idle session takes, so that a leak of even a part of each is seen.
Not zero, for the allocator may leave other gaps in each round."""

NOISE = 4 * 1024 * 1024
"""Octets by which memory may grow in any case, with however few sessions: a few arenas
of the allocator."""


@dataclass(frozen=True)
class Census:
    """The counts of one moment."""

    files: int
    calls: int
    selectables: int
    objects: dict[str, int]
    memory: int

    @property
    def living(self) -> int:
        """All objects that are watched."""
        return sum(self.objects.values())


def count(reactor: Any) -> Census:
    """Count what there is now, garbage collected."""
    gc.collect()
    _give_back()
    types: Counter[str] = Counter()
    for each in gc.get_objects():
        kind = type(each)
        name = f"{kind.__module__}.{kind.__qualname__}"
        if name.startswith(_WATCHED):
            types[name] += 1
    selectables = len(reactor.getReaders()) + len(reactor.getWriters())
    return Census(
        files=len(os.listdir(_FILES)),
        calls=len(reactor.getDelayedCalls()),
        selectables=selectables,
        objects=dict(types),
        memory=int(_STATM.read_text().split()[1]) * resource.getpagesize(),
    )


def _give_back() -> None:
    """Return free memory to the system, so that only what is held is counted.

    What the allocator keeps for later differs from round to round by far more than what
    a leak would add. Only glibc can do it.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def leaks(baseline: Census, now: Census) -> list[str]:
    """What there is more or less of than in the beginning, in words."""
    found = [
        f"{getattr(now, what)} {name}, and {getattr(baseline, what)} in the beginning"
        for what, name in (
            ("files", "open files"),
            ("calls", "delayed calls"),
            ("selectables", "selectables"),
        )
        if getattr(now, what) != getattr(baseline, what)
    ]
    for name in sorted({*baseline.objects, *now.objects}):
        before, after = baseline.objects.get(name, 0), now.objects.get(name, 0)
        if before != after:
            found.append(f"{after} {name}, and {before} in the beginning")
    return found


def growth(rounds: list[Census], sessions: int) -> str:
    """Say that memory has grown from the second round to the last, if it has."""
    if len(rounds) < 3:
        return ""
    grown = rounds[-1].memory - rounds[1].memory
    bound = max(GROWTH * sessions, NOISE)
    if grown <= bound:
        return ""
    return (
        f"memory has grown by {grown:,} octets from the second round to the last; "
        f"{bound:,} are allowed"
    )


def allow_files(sessions: int) -> str:
    """Raise the limit of open files, for this process and its children.

    Returns what is missing, and empty when nothing is.
    """
    needed = sessions + SPARE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return ""
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, max(hard, needed)))
    except (OSError, ValueError):
        return (
            f"{sessions} sessions need {needed} open files, and {hard} are allowed: "
            f"raise the limit (ulimit -Hn {needed}), or use --sessions {hard - SPARE}"
        )
    return ""
