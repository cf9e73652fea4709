"""
``stat`` and ``list``: the messages in the mailbox.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
import click
from rich.cells import set_cell_size

from ..errors import CommandError
from ..handle import Handle
from ..headers import Summary, summary
from ..results import Listing
from .access import Access, access_options
from .columns import terminal_width
from .exits import Exit, words
from .numbers import NUMBERS, Range, choose, sizes_of
from .opening import use_session
from .output import counted, echo, echo_json, tell

__all__ = ["list_command", "stat_command"]


@click.command("stat")
@access_options
def stat_command(access: Access) -> None:
    """Show the number of messages and their size in octets."""

    async def use(handle: Handle) -> int:
        stat = await handle.stat()
        if access.output.json:
            echo_json({"count": stat.count, "size": stat.size})
        else:
            messages, octets = (
                counted(stat.count, "message"),
                counted(stat.size, "octet"),
            )
            echo(f"{messages}, {octets}")
        return Exit.DONE

    use_session(access, use)


@click.command("list", short_help="List the messages: size, date, sender, subject.")
@access_options
@click.argument("numbers", nargs=-1, type=NUMBERS)
def list_command(access: Access, numbers: Sequence[list[Range]]) -> None:
    """
    List the messages: number, size in octets, date, sender, subject.

    NUMBERS are like 3, 2-5 or 7-; default: all.
    """

    async def use(handle: Handle) -> int:
        sizes = await sizes_of(handle)
        chosen = choose(numbers, sizes)
        show = _show_json if access.output.json else _show
        if chosen and not await _try_top(handle, chosen[0]):
            access.output.note(
                "the server does not have TOP, so only the sizes are shown"
            )
            for number in chosen:
                show(Listing(number, sizes[number]), "")
            return Exit.DONE
        return await _show_headers(handle, chosen, sizes, show)

    use_session(access, use)


_Show = Callable[[Listing, Summary | str], None]
"""Shows a message: what its header says, or why that is not known (``""``: no TOP)."""


async def _try_top(handle: Handle, number: int) -> bool:
    if handle.capabilities.known:
        return "TOP" in handle.capabilities
    try:
        await handle.top(number)
    except CommandError:
        return False
    return True


async def _show_headers(
    handle: Handle, chosen: Sequence[int], sizes: dict[int, int], show: _Show
) -> int:
    status = Exit.DONE
    async for header in handle.headers(chosen):
        row = Listing(header.number, sizes[header.number])
        if header.error is not None:
            tell(words(header.error))
            status = Exit.REFUSED
            show(row, words(header.error))
        else:
            show(row, summary(header.content))
    return status


def _show_json(row: Listing, about: Summary | str) -> None:
    if isinstance(about, Summary):
        known = attrs.asdict(about)
    else:
        known = {"error": about} if about else {}
    echo_json({"number": row.number, "size": row.size, **known})


_SENDER = 28
"""Columns for the sender in 100 or less; in more, a third of the rest is added."""


def _show(row: Listing, about: Summary | str) -> None:
    width = terminal_width()
    line = f"{row.number:>5} {row.size:>10}"
    if isinstance(about, Summary):
        date = set_cell_size(about.date[:16].replace("T", " "), 16)
        room = _SENDER + max((width or 0) - 100, 0) // 3
        sender = set_cell_size(about.sender, room)
        line = f"{line}  {date}  {sender}  {about.subject}".rstrip()
    if width is not None:
        line = set_cell_size(line, width).rstrip()
    echo(line)
