"""Tables, as plain text for the terminal and as reStructuredText for the README."""

import platform
import ssl
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib.metadata import version


@dataclass
class Table:
    """A heading, rows of text, and what the reader must know."""

    title: str
    header: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, *cells: object) -> None:
        """A row; None is an empty cell."""
        self.rows.append(["" if cell is None else str(cell) for cell in cells])

    def _grid(self) -> list[list[str]]:
        """Header and rows, without the columns that are empty in every row."""
        keep = [
            index
            for index in range(len(self.header))
            if index == 0 or any(row[index] for row in self.rows)
        ]
        return [[row[index] for index in keep] for row in (self.header, *self.rows)]

    def _lines(self, rule: str) -> list[str]:
        """Aligned: the first two columns to the left, figures to the right."""
        grid = self._grid()
        widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
        lines = [
            "  ".join(
                cell.ljust(width) if left else cell.rjust(width)
                for left, cell, width in zip(self._left(grid), row, widths, strict=True)
            ).rstrip()
            for row in grid
        ]
        marks = "  ".join(rule * width for width in widths)
        return [marks, lines[0], marks, *lines[1:], marks]

    @staticmethod
    def _left(grid: list[list[str]]) -> list[bool]:
        """Which columns hold words."""
        return [
            not any(row[index][:1].isdigit() for row in grid[1:]) or index == 0
            for index in range(len(grid[0]))
        ]

    def text(self) -> str:
        """For the terminal."""
        notes = [f"* {note}" for note in self.notes]
        return "\n".join([self.title, *self._lines("-"), *notes, ""])

    def rst(self) -> str:
        """For the README: a simple table, whose first cells must not be empty."""
        filled = [[row[0] or "\\", *row[1:]] for row in self.rows]
        lines = Table(self.title, self.header, filled)._lines("=")
        notes = [f"- {note}" for note in self.notes]
        underline = "~" * len(self.title)
        return "\n".join([self.title, underline, "", *lines, "", *notes, ""])


def number(value: float | None, digits: int = 0, unit: str = "") -> str | None:
    """A figure with thousands marks."""
    return None if value is None else f"{value:,.{digits}f}{unit}"


def times(value: float | None) -> str | None:
    """A ratio."""
    return None if value is None else f"{value:.3g}"


def conditions(rounds: Sequence[int], company: str) -> str:
    """When, where and with what."""
    names = ("Twisted", "pyOpenSSL", "cryptography")
    parts = [
        f"{datetime.now(timezone.utc):%Y-%m-%d}",
        f"Python {platform.python_version()}",
        *(f"{name} {version(name)}" for name in names),
        ssl.OPENSSL_VERSION,
        f"{platform.system()} {platform.machine()}",
    ]
    least, most = min(rounds, default=0), max(rounds, default=0)
    count = f"{most}" if least == most else f"{least} to {most}"
    return (
        f"{', '.join(parts)}. Medians of {count} round(s), each client in turn in "
        "each round, each run a fresh process; server and client on a core each, over "
        "the loopback. Wall is time.perf_counter; RETR CPU is time.process_time of the "
        "client; process CPU is user and system time of it and its children (wait4). "
        f"MB is 1,000,000 octets of messages as stored. {company}"
    )


def say(text: str) -> None:
    """Progress, on standard error."""
    print(text, file=sys.stderr, flush=True)
