"""
Shows how far a fetch is, how fast, and how long it will take.
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
    Show a bar on stderr, where a person sees it; in a pipe or a log there is none.

    :param octets: all that is to come.
    :return: what is told of each piece that came, how many octets it has.
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
