"""
Reads the message numbers that the user gives: ``3``, ``2-5``, ``7-``, ``1,4``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import click

from ..errors import CommandError
from ..handle import Handle
from .exits import NotFoundError
from .output import counted

__all__ = [
    "NUMBERS",
    "Range",
    "WholeNumber",
    "choose",
    "sizes_of",
]

_WHOLE = re.compile(r"\d{1,18}\Z", re.ASCII)
_PART = re.compile(r"(\d{1,18})(-(\d{1,18})?)?\Z", re.ASCII)

Range = tuple[int, int | None]
"""The first number and the last one; ``None`` means up to the last message."""


class WholeNumber(click.ParamType):  # type: ignore[type-arg]
    """
    A whole number of at most 18 digits.

    :param least: the smallest that is accepted.
    """

    name = "number"

    def __init__(self, least: int) -> None:
        self._least = least

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Read an argument."""
        if not _WHOLE.match(str(value)) or int(value) < self._least:
            self.fail(f"{value!r} is not a number from {self._least}", param, ctx)
        return int(value)


class _Numbers(click.ParamType):  # type: ignore[type-arg]
    """One or more numbers and ranges, separated by commas."""

    name = "numbers"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> list[Range]:
        """Read an argument."""
        return [self._range(part, param, ctx) for part in str(value).split(",")]

    def _range(
        self, part: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> Range:
        match = _PART.match(part)
        if match is None:
            self.fail(f"{part!r} is not like 3, 2-5 or 7-", param, ctx)
        first = int(match[1])
        last = first if match[2] is None else int(match[3]) if match[3] else None
        if first < 1 or (last is not None and last < first):
            self.fail(f"{part!r}: numbers count up, from 1", param, ctx)
        return first, last


NUMBERS = _Numbers()


async def sizes_of(handle: Handle) -> dict[int, int]:
    """
    Return the size of each message in the mailbox, by number.

    Some servers refuse LIST in an empty mailbox; then STAT decides.

    :raises CommandError: LIST was refused, and there are messages.
    """
    try:
        return dict(await handle.list())
    except CommandError as refused:
        try:
            stat = await handle.stat()
        except CommandError:
            raise refused from None
        if stat.count:
            raise
        return {}


def choose(given: Sequence[list[Range]], there: Iterable[int]) -> list[int]:
    """
    Return the numbers of the existing messages that are meant, each once, in order.

    :param given: empty means all.
    :raises NotFoundError: a single number that was given does not exist.
    """
    existing = sorted(there)
    ranges = [one for part in given for one in part]
    if not ranges:
        return existing
    known = set(existing)
    for first, last in ranges:
        if first == last and first not in known:
            raise NotFoundError(
                f"message {first} does not exist; the mailbox has "
                f"{counted(len(existing), 'message')}"
            )
    return [
        number
        for number in existing
        if any(
            first <= number and (last is None or number <= last)
            for first, last in ranges
        )
    ]
