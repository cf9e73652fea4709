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

__all__ = ["progress_bar"]


@contextmanager
def progress_bar(octets: int) -> Iterator[Callable[[int], object]]:
    """
    Show a bar on a terminal; in a pipe or a log show nothing.

    :param octets: the size of all messages.
    :return: a function to call with the size of each piece that arrives.
    """
    if not (sys.stdout.isatty() and sys.stderr.isatty()):
        yield _nothing
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
        task = shown.add_task("", total=octets)
        yield lambda piece: shown.advance(task, piece)


def _nothing(octets: int) -> None:
    """Show nothing."""
