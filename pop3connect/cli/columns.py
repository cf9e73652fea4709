"""
Shows rows as columns of text.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Collection, Sequence

from rich.cells import cell_len, set_cell_size

from ..redaction import escape
from .output import echo, styled

__all__ = ["show_columns", "terminal_width"]


def show_columns(
    head: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[str] = ()
) -> None:
    """
    Print a table; on a terminal, each line is cut to its width.

    :param head: the name of each column.
    :param rows: the texts of each row; control characters in them are escaped.
    :param right: the names of the columns that are aligned to the right.
    """
    room = terminal_width()
    lines = [list(head), *([escape(text) for text in row] for row in rows)]
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    for number, line in enumerate(lines):
        cells = [
            " " * (width - cell_len(text)) + text
            if name in right
            else set_cell_size(text, width)
            for name, text, width in zip(head, line, widths, strict=True)
        ]
        shown = "  ".join(cells).rstrip()
        if room is not None:
            shown = set_cell_size(shown, room)
        shown = shown.rstrip()
        echo(shown if number else styled(shown, sys.stdout, bold=True))


def terminal_width() -> int | None:
    """Return the columns that a line may have; ``None``: stdout is not a terminal."""
    # The last one stays free: some terminals begin a new line behind it.
    return shutil.get_terminal_size().columns - 1 if sys.stdout.isatty() else None
