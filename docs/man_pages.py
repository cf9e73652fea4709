"""
Writes a man page for each command of ``pop3connect``, for those who package it.

    python docs/man_pages.py FOLDER

It needs the extras ``cli`` and ``release``.
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

import click
from click_man.core import write_man_pages

from pop3connect import __version__
from pop3connect.cli.app import pop3connect


def complete(command: click.Command) -> None:
    """Give each command its first sentence as short help, which click-man would cut."""
    first, _, _ = inspect.cleandoc(command.help or "").partition("\n\n")
    sentence, _, _ = " ".join(first.split()).partition(". ")
    command.short_help = sentence.removesuffix(".")
    if isinstance(command, click.Group):
        for each in command.commands.values():
            complete(each)


def main(folder: Path) -> None:
    """Write the pages."""
    folder.mkdir(parents=True, exist_ok=True)
    complete(pop3connect)
    write_man_pages(
        "pop3connect", pop3connect, version=__version__, target_dir=str(folder)
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
