"""
Makes the manual pages from the help of the commands:  python docs/man_pages.py

They are in ``docs/man``, and setup.cfg installs them.  A test compares them with the
help.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

HERE = Path(__file__).absolute().parent
sys.path.insert(0, str(HERE.parent))

from click_man.core import write_man_pages  # noqa: E402

from pop3connect import __version__  # noqa: E402
from pop3connect.cli.app import pop3connect  # noqa: E402


def write(folder: Path) -> None:
    """Write a page for each command, and remove those of former commands."""
    folder.mkdir(exist_ok=True)
    for page in folder.glob("*.1"):
        page.unlink()
    _describe(pop3connect)
    # No date: pages change only with the help.
    write_man_pages(
        "pop3connect",
        pop3connect,
        version=f"pop3connect {__version__}",
        target_dir=str(folder),
        date=" ",
    )


def _describe(command: click.Command) -> None:
    """Give commands the whole first sentence of their help; click-man would cut it."""
    command.short_help = command.get_short_help_str(limit=200).rstrip(".")
    for part in getattr(command, "commands", {}).values():
        _describe(part)


if __name__ == "__main__":
    write(HERE / "man")
