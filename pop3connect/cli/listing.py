"""
``stat`` and ``list``: the messages in the mailbox.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence

import attrs
import click
from rich.cells import set_cell_size

from ..client.ahead import answers
from ..errors import CommandError
from ..handle import Handle
from ..headers import Summary, summary
from ..results import Listing
from .access import Access, access_options
from .exits import Exit, words
from .numbers import NUMBERS, Range, choose, sizes_of
from .opening import use_session
from .output import counted, echo, echo_json, tell

__all__ = ["list_command", "stat_command"]


@click.command("stat")
@access_options
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def stat_command(access: Access, as_json: bool) -> None:
    """Show the number of messages and their size in octets."""

    async def use(handle: Handle) -> int:
        stat = await handle.stat()
        if as_json:
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
@click.option("--json", "as_json", is_flag=True, help="For programs: a line each.")
def list_command(access: Access, numbers: Sequence[list[Range]], as_json: bool) -> None:
    """
    List the messages: number, size in octets, date, sender, subject.

    NUMBERS are like 3, 2-5 or 7-; default: all.
    """

    async def use(handle: Handle) -> int:
        sizes = await sizes_of(handle)
        chosen = choose(numbers, sizes)
        show = _show_json if as_json else _show
        if chosen and not await _try_top(handle, chosen[0]):
            tell("the server does not have TOP, so only the sizes are shown")
            for number in chosen:
                show(Listing(number, sizes[number]), None)
            return Exit.DONE
        return await _show_headers(handle, chosen, sizes, show)

    use_session(access, use)


_Show = Callable[[Listing, Summary | None], None]


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
    async for number, header in answers(chosen, handle.top):
        row = Listing(number, sizes[number])
        if isinstance(header, CommandError):
            tell(words(header))
            status = Exit.REFUSED
            show(row, None)
        else:
            show(row, summary(header))
    return status


def _show_json(row: Listing, about: Summary | None) -> None:
    known = {} if about is None else attrs.asdict(about)
    echo_json({"number": row.number, "size": row.size, **known})


def _show(row: Listing, about: Summary | None) -> None:
    line = f"{row.number:>5} {row.size:>10}"
    if about is not None:
        date = set_cell_size(about.date[:16].replace("T", " "), 16)
        sender = set_cell_size(about.sender, 28)
        line = f"{line}  {date}  {sender}  {about.subject}".rstrip()
    if sys.stdout.isatty():
        line = set_cell_size(line, shutil.get_terminal_size().columns - 1).rstrip()
    echo(line)
