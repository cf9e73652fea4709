"""
``get``, ``top`` and ``delete``: single messages.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import click
from twisted.internet.interfaces import IConsumer
from zope.interface import implementer

from ..errors import CommandError
from ..handle import Handle
from ..redaction import printable
from .access import Access, access_options
from .ahead import answers
from .exits import Exit, exit_status, tell
from .numbers import NUMBERS, Range, choose
from .opening import end, use_session

__all__ = ["delete_command", "get_command", "top_command"]


@implementer(IConsumer)
class _Output:
    """Takes a message, and passes it to a file at once."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """Need nothing: who writes to a file waits for it."""

    def unregisterProducer(self) -> None:
        """Hand over what is left."""
        self._file.flush()

    def write(self, data: bytes) -> None:
        """Pass it on."""
        self._file.write(data)


@click.command("get")
@access_options
@click.argument("number", type=click.IntRange(min=1))
def get_command(access: Access, number: int) -> None:
    """Write message NUMBER to stdout, octet by octet as it is stored."""
    output = _Output(sys.stdout.buffer)

    async def use(handle: Handle) -> int:
        await handle.retrieve(number, output)
        return Exit.DONE

    use_session(access, use)


@click.command("top")
@access_options
@click.argument("number", type=click.IntRange(min=1))
@click.argument("lines", type=click.IntRange(min=0), default=10)
def top_command(access: Access, number: int, lines: int) -> None:
    """
    Show the header of message NUMBER, and so many LINES of its text (10).

    On a terminal control characters are escaped; in a pipe all is as it came.
    """

    async def use(handle: Handle) -> int:
        content = await handle.top(number, lines)
        if sys.stdout.isatty():
            for line in content.splitlines():
                click.echo(printable(line.expandtabs()))
        else:
            click.echo(content, nl=False)
        return Exit.DONE

    use_session(access, use)


@click.command("delete")
@access_options
@click.argument("numbers", nargs=-1, required=True, type=NUMBERS)
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete_command(access: Access, numbers: Sequence[list[Range]], yes: bool) -> None:
    """
    Delete messages: all that are named, or none.

    NUMBERS are like 3, 2-5 or 7-.
    """
    if not yes:
        shown = ", ".join(_shown(one) for part in numbers for one in part)
        question = f"Delete {shown} of {access.user} at {access.server}?"
        if not click.confirm(question, err=True):
            return

    async def use(handle: Handle) -> int:
        chosen = choose(numbers, dict(await handle.list()))
        async for number, answer in answers(chosen, handle.delete):
            if isinstance(answer, CommandError):
                tell(f"message {number}: {answer}; nothing was deleted")
                await handle.abort()
                return exit_status(answer)
        click.echo(f"deleted: {await end(handle, deletes=True)}")
        return Exit.DONE

    use_session(access, use)


def _shown(one: Range) -> str:
    first, last = one
    if first == last:
        return str(first)
    return f"{first}-{'' if last is None else last}"
