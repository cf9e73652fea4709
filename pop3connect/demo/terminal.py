"""
The look of the tour: its colours and its width, for whatever stdout is.

Rich leaves the colours out for a file, a pipe, ``TERM=dumb`` and ``NO_COLOR``.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import TextIO

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

__all__ = ["command", "indented", "pairs", "table", "terminal", "title", "verdict"]

WIDTH = 80
"""Columns that every terminal has; a wider one leaves the rest empty."""

_INDENT = 3


def terminal(out: TextIO) -> Console:
    """Return a console that writes to `out` any text, whatever its encoding."""
    if isinstance(out, io.TextIOWrapper):
        out.reconfigure(errors="backslashreplace")
    console = Console(file=out, highlight=False, markup=False, emoji=False)
    console.width = min(console.width, WIDTH)
    return console


def title(text: str) -> Text:
    """Return the title of a step."""
    return Text(text, style="bold")


def indented(text: str, style: str = "") -> Padding:
    """Return a paragraph of a step."""
    return Padding.indent(Text(text, style=style), _INDENT)


def command(text: str) -> Text:
    """Return a line to be copied; print it with ``soft_wrap``."""
    return Text(" " * _INDENT + text, style="cyan")


def verdict(worked: bool, text: str) -> Padding:
    """Return the last line of a step."""
    word, style = ("ok", "bold green") if worked else ("FAILED", "bold red")
    return Padding.indent(Text.assemble((word, style), "  ", text), _INDENT)


def pairs(rows: Iterable[tuple[str, str]]) -> Padding:
    """Return names and values below each other."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in rows:
        grid.add_row(name, Text(value))
    return Padding.indent(grid, _INDENT)


def table(columns: Iterable[tuple[str, int]], rows: Iterable[Iterable[str]]) -> Padding:
    """
    Return a table with one line for each row; what is too wide ends in an ellipsis.

    :param columns: the name and the width of each; a width below 0 is that of numbers,
        which are put to the right, and 0 takes as much as there is.
    """
    made = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for name, width in columns:
        made.add_column(
            name,
            justify="right" if width < 0 else "left",
            width=abs(width) or None,
        )
    for row in rows:
        cells = (Text(cell, no_wrap=True, overflow="ellipsis") for cell in row)
        made.add_row(*cells)
    return Padding.indent(made, _INDENT)
