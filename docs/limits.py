"""
Makes the tables of limits from the constants in the code and the texts below them.

    python docs/limits.py > limits.rst
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from importlib import import_module
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import pop3connect

PACKAGE = Path(pop3connect.__file__).parent

SECTIONS = {
    "Connections": ("address", "api", "connector", "client", "proxy", "waits"),
    "Replies and messages": ("sansio",),
    "Logging in": ("auth", "redaction"),
    "TLS": ("tls",),
    "Header fields": ("headers", "parsing"),
    "Finding the server": ("discovery", "autoconfig", "candidates"),
    "Threads and Omnis": ("blocking", "omnis"),
    "Programs and files": ("programs", "files"),
    "The collector": ("collect",),
    "Destinations": ("destinations",),
}
"""The parts of the package, by the titles of their tables."""

LEFT_OUT = ("cli", "demo", "garbage", "testing")
"""Parts whose constants limit nothing that a server or a mail can do."""

NO_LIMITS = {
    "SECOND",
    "MINUTE",
    "HOUR",
    "DAY",
    # Exit statuses.
    "FAULT",
    "REFUSED",
    "TRY_LATER",
}
"""Public constants that are numbers, and no limits."""


class Limit(NamedTuple):
    """A constant, and the text below it in the code."""

    module: str
    name: str
    value: float
    reason: str


def shown(limit: Limit) -> str:
    """Return a value for readers: 16 MiB, 2,000,000, 604,800 (7 days), 0.05."""
    value = limit.value
    if limit.reason.startswith(("Bytes", "Octets", "Characters")):
        for unit, octets in (("MiB", 2**20), ("KiB", 2**10)):
            if value >= octets and value % octets == 0:
                return f"{int(value // octets)} {unit}"
    if value == 2**63 - 1:
        return "2\\ :sup:`63` - 1"
    text = f"{int(value):,}" if value == int(value) else f"{value:g}"
    if "econds" in limit.reason:
        for unit, seconds in (("days", 24 * 3600), ("h", 3600), ("min", 60)):
            if value >= 2 * seconds and value % seconds == 0:
                return f"{text} ({int(value // seconds)} {unit})"
    return text


def limits(part: str) -> Iterator[Limit]:
    """
    Yield the limits of a module, or of the modules of a package, in their order.

    :raises ValueError: nothing is said of a limit.
    """
    path = PACKAGE / part
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
    for file in files:
        name = file.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", ".")
        if "migrations" in name or name.endswith("__init__"):
            continue
        body = ast.parse(file.read_bytes()).body
        for statement, after in zip_longest(body, body[1:]):
            match statement:
                case ast.Assign(targets=[ast.Name(id=constant)]):
                    pass
                case ast.AnnAssign(target=ast.Name(id=constant)):
                    pass
                case _:
                    continue
            if not constant.isupper() or constant.startswith("_"):
                continue
            value = getattr(import_module(f"pop3connect.{name}"), constant)
            if type(value) not in (int, float) or constant in NO_LIMITS:
                continue
            match after:
                case ast.Expr(value=ast.Constant(value=str(reason))):
                    yield Limit(name, constant, value, " ".join(reason.split()))
                case _:
                    raise ValueError(f"{name}.{constant} lacks its reason")


def table(parts: tuple[str, ...]) -> Iterator[str]:
    """Yield the lines of a table."""
    yield ".. list-table::"
    yield "   :header-rows: 1"
    yield "   :widths: 15 60 25"
    yield ""
    yield "   * - Value"
    yield "     - What it is, and why"
    yield "     - In the code"
    for part in parts:
        for limit in limits(part):
            yield f"   * - {shown(limit)}"
            yield f"     - {limit.reason}"
            yield f"     - ``{limit.module}.{limit.name}``"


def draw() -> str:
    """Return all tables, in reStructuredText."""
    lines: list[str] = []
    for title, parts in SECTIONS.items():
        lines += [title, "-" * len(title), "", *table(parts), "", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(draw())
