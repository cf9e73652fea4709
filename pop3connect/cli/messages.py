"""
``get``, ``top`` and ``delete``: single messages.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import attrs
import click

from ..client.ahead import answers
from ..errors import CommandError
from ..handle import Handle
from ..headers import decode, fields, split, summary
from ..redaction import printable
from .access import Access, access_options
from .asking import confirm, yes_option
from .exits import Exit, exit_status, words
from .numbers import NUMBERS, Range, WholeNumber, choose, sizes_of
from .opening import end, use_session
from .output import echo, echo_json, tell

__all__ = ["delete_command", "get_command", "top_command"]


@click.command("get")
@partial(access_options, json=False)
@click.argument("number", type=WholeNumber(1))
def get_command(access: Access, number: int) -> None:
    """Write message NUMBER to stdout, exactly as it is stored."""
    output = sys.stdout.buffer

    async def use(handle: Handle) -> int:
        await handle.retrieve(number, output)
        output.flush()
        return Exit.DONE

    use_session(access, use)


@click.command("top", short_help="Show the header and some lines of a message.")
@access_options
@click.argument("number", type=WholeNumber(1))
@click.argument("lines", type=WholeNumber(0), default=10)
def top_command(access: Access, number: int, lines: int) -> None:
    """
    Show the header of message NUMBER and the first LINES lines (10).

    On a terminal and with --json, the header fields are decoded, one a line, and
    control characters are escaped; a pipe or a file gets the bytes as they are stored.
    """

    async def use(handle: Handle) -> int:
        content = await handle.top(number, lines)
        if access.output.json:
            echo_json(_described(number, content))
        elif sys.stdout.isatty():
            for line in _readable(content):
                echo(line)
        else:
            click.echo(content, nl=False)
        return Exit.DONE

    use_session(access, use)


def _readable(content: bytes) -> Iterator[str]:
    names, body = _decoded(content)
    for name, value in names:
        yield f"{name}: {value}" if name else value
    yield ""
    yield from body


def _described(number: int, content: bytes) -> dict[str, Any]:
    names, body = _decoded(content)
    return {
        "number": number,
        **attrs.asdict(summary(content)),
        "fields": [{"name": name, "value": value} for name, value in names],
        "lines": body,
    }


def _decoded(content: bytes) -> tuple[list[tuple[str, str]], list[str]]:
    """Return the header fields and the lines of the text, for people to read."""
    header, body = split(content)
    return (
        [(name.decode("ascii"), decode(value)) for name, value in fields(header)],
        [printable(line.expandtabs()) for line in body.splitlines()],
    )


@click.command("delete")
@access_options
@click.argument("numbers", nargs=-1, required=True, type=NUMBERS)
@yes_option
def delete_command(access: Access, numbers: Sequence[list[Range]], yes: bool) -> None:
    """
    Delete the named messages: all of them, or none.

    NUMBERS are like 3, 2-5 or 7-.
    """
    shown = ", ".join(_shown(one) for part in numbers for one in part)
    if not confirm(f"Delete {shown} of {access.user} at {access.address}?", yes=yes):
        return

    async def use(handle: Handle) -> int:
        chosen = choose(numbers, await sizes_of(handle))
        async for _, answer in answers(chosen, handle.delete):
            if isinstance(answer, CommandError):
                tell(f"{words(answer)}; nothing was deleted")
                await handle.abort()
                return exit_status(answer)
        deleted = await end(handle)
        access.output.summary(f"deleted: {deleted}", {"deleted": deleted})
        return Exit.DONE

    use_session(access, use)


def _shown(one: Range) -> str:
    first, last = one
    if first == last:
        return str(first)
    return f"{first}-{'' if last is None else last}"
