"""
Shows the progress of a fetch, its speed, and the time that is left.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

__all__ = ["Show", "progress_bar"]

Show = Callable[[int, int], object]
"""Shows how many bytes have arrived, and how many there will be in all."""


@contextmanager
def progress_bar() -> Iterator[Show | None]:
    """
    Show a bar on a terminal; in a pipe or a log show nothing.

    :return: a function to call at each piece; ``None``: nothing is shown.
    """
    if not (sys.stdout.isatty() and sys.stderr.isatty()):
        yield None
        return
    with Progress(
        TextColumn("fetching"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as shown:
        task = shown.add_task("", total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)
