"""
Draws the picture in README.rst: a part of what the demo shows.

    python docs/demo_picture.py > docs/demo.svg

The demo is started on its own ports, which must be free.
"""

from __future__ import annotations

import io
import re
import sys
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.text import Text
from twisted.internet.defer import Deferred
from twisted.internet.task import react

from pop3connect.demo.service import DemoService, Settings

FIRST, BEHIND = "3. ", "6. "
"""The titles of the steps with which the picture begins, and before which it ends."""

WIDTH = 80


async def shown(reactor: Any, settings: Settings) -> list[str]:
    """Return the lines of the picture, with their colours as escape sequences."""
    finished: Deferred[int] = Deferred()
    out = io.StringIO()
    service = DemoService(
        settings,
        reactor=reactor,
        out=Console(
            file=out,
            width=WIDTH,
            force_terminal=True,
            color_system="standard",
            no_color=False,
            highlight=False,
            markup=False,
            emoji=False,
        ),
        err=sys.stderr,
        finish=finished.callback,
    )
    service.privilegedStartService()
    service.startService()
    status = await finished
    await service.stopService()
    if status:
        raise SystemExit(f"the tour failed:\n{out.getvalue()}")
    lines = out.getvalue().splitlines()
    plain = [Text.from_ansi(line).plain for line in lines]
    first, behind = (
        next(place for place, line in enumerate(plain) if line.startswith(start))
        for start in (FIRST, BEHIND)
    )
    return lines[first : behind - 1]


def draw(lines: list[str]) -> str:
    """Return the picture of these lines."""
    console = Console(file=io.StringIO(), width=WIDTH, record=True, highlight=False)
    for line in lines:
        console.print(Text.from_ansi(line))
    svg = console.export_svg(title="twistd -n pop3connect demo", unique_id="demo")
    # Rich names a font on the web, which a picture in a page does not load.
    svg = re.sub(r"\n *@font-face \{.*?\n *\}", "", svg, flags=re.S)
    return "".join(f"{line.rstrip()}\n" for line in svg.splitlines())


async def main(reactor: Any) -> None:
    """Print the picture."""
    with TemporaryDirectory() as folder:
        lines = await shown(reactor, Settings(folder=folder, once=True))
    sys.stdout.write(draw(lines))


if __name__ == "__main__":
    react(main)
