"""What a process holds, counted after each round: what grows is a leak."""

import ctypes
import gc
import os
import resource
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SPARE = 200
"""File descriptors that a process needs beside those of its sessions."""

_FILES = Path("/proc/self/fd")
_STATM = Path("/proc/self/statm")
_LIBRARY = ctypes.CDLL(None)

_WATCHED = (
    "pop3connect.",
    "twisted.internet.defer.",
    "twisted.internet.tcp.",
    "twisted.protocols.tls.",
    "twisted.python.failure.",
    "OpenSSL.SSL.",
)
"""Where the types are from whose living objects are counted."""

BOUNDS = {
    "blocks": (0.5, 2_000),
    "malloced": (512, 1 << 20),
    "resident": (16 << 10, 32 << 20),
}
"""By how much memory may grow from the second round to the last: for each session, and
in any case.

Not a block of Python's allocator for each session, nor what OpenSSL or a buffer takes
from the C library: these two are sharp, for they count what is held. Resident memory is
not: Python's allocator returns an arena only when all in it is free, and how many it
can return differs by tens of MiB from round to round. So that bound sees nothing but a
leak past the allocators."""


class _Mallinfo(ctypes.Structure):
    """What glibc tells of its heap; ``uordblks`` are the octets in use."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    ]


@dataclass(frozen=True)
class Census:
    """The counts of one moment; *malloced* and *resident* are octets."""

    files: int
    calls: int
    selectables: int
    objects: dict[str, int]
    blocks: int
    malloced: int
    resident: int

    @property
    def living(self) -> int:
        """All objects that are watched."""
        return sum(self.objects.values())


def count(reactor: Any) -> Census:
    """Count what there is now, garbage collected."""
    gc.collect()
    _give_back()
    blocks = sys.getallocatedblocks()
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
        blocks=blocks,
        malloced=_malloced(),
        resident=int(_STATM.read_text().split()[1]) * resource.getpagesize(),
    )


def _give_back() -> None:
    """Have the C library return to the system what it keeps for later."""
    if hasattr(_LIBRARY, "malloc_trim"):
        _LIBRARY.malloc_trim(0)


def _malloced() -> int:
    """The octets that the C library has given out; 0 where it does not tell."""
    if not hasattr(_LIBRARY, "mallinfo2"):
        return 0
    _LIBRARY.mallinfo2.restype = _Mallinfo
    heap = _LIBRARY.mallinfo2()
    return int(heap.uordblks + heap.hblkhd)


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


def growth(rounds: list[Census], sessions: int) -> list[str]:
    """Say what memory has grown beyond its bound from the second round to the last."""
    if len(rounds) < 3:
        return []
    grown = []
    for what, (each, always) in BOUNDS.items():
        more = getattr(rounds[-1], what) - getattr(rounds[1], what)
        bound = max(int(each * sessions), always)
        if more > bound:
            grown.append(
                f"memory ({what}) has grown by {more:,} from the second round to the "
                f"last; {bound:,} are allowed"
            )
    return grown


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
