"""
Reads and writes amounts with a unit, such as ``"5 min"`` and ``"50 MB"``.
"""

from __future__ import annotations

import re

__all__ = ["read_bytes", "read_seconds", "show_about", "show_bytes", "show_seconds"]

_AMOUNT = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?) ?([A-Za-z]+)\Z")

_SECONDS = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1),
    **dict.fromkeys(("min", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hour", "hours"), 3600),
    **dict.fromkeys(("d", "day", "days"), 24 * 3600),
    **dict.fromkeys(("week", "weeks"), 7 * 24 * 3600),
}

_BYTES = {
    **dict.fromkeys(("b", "byte", "bytes"), 1),
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}


def read_seconds(value: object) -> float | None:
    """
    Return a duration in seconds; ``None`` if the value is not one.

    :param value: a number of seconds, or a text such as ``"90 s"``, ``"5 min"``,
        ``"1 h"``, ``"14 days"`` or ``"2 weeks"``.
    """
    return _amount(value, _SECONDS)


def read_bytes(value: object) -> int | None:
    """
    Return a size in bytes; ``None`` if the value is not one.

    :param value: a number of bytes, or a text such as ``"500 KB"`` (1,000 bytes each),
        ``"50 MB"``, ``"1 GB"`` or ``"64 MiB"`` (2**20 bytes each).
    """
    amount = _amount(value, _BYTES)
    return None if amount is None else int(amount)


def _amount(value: object, units: dict[str, int]) -> float | None:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        # Not infinite, and not "nan", which compares with nothing.
        return value if abs(value) < 10**15 else None
    if not isinstance(value, str):
        return None
    found = _AMOUNT.match(value.strip())
    if found is None or found[2].lower() not in units:
        return None
    number = float(found[1]) if "." in found[1] else int(found[1])
    return number * units[found[2].lower()]


def show_seconds(seconds: float) -> str:
    """Return a duration in the largest unit that makes it a whole number."""
    for unit, length in (("day", 24 * 3600), ("h", 3600), ("min", 60)):
        if seconds >= length and not seconds % length:
            count = int(seconds // length)
            return f"{count} {unit}{'s' if unit == 'day' and count > 1 else ''}"
    # Two durations never look the same: what is shown tells whether a rule changed.
    return f"{seconds:.6f}".rstrip("0").rstrip(".") + " s"


def show_about(seconds: float) -> str:
    """Return a duration for people, in whole units of the largest that fits twice."""
    seconds = max(seconds, 0)
    for unit, length in (("days", 24 * 3600), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{int(seconds // length)} {unit}"
    return f"{int(seconds)} s"


def show_bytes(size: int) -> str:
    """Return a size in the largest unit that makes it a whole number."""
    for unit in ("TB", "GB", "MB", "KB", "TiB", "GiB", "MiB", "KiB"):
        length = _BYTES[unit.lower()]
        if size >= length and not size % length:
            return f"{size // length} {unit}"
    return f"{size} bytes"
