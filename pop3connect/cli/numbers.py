"""
Reads which messages the user means: ``3``, ``2-5``, ``7-``, ``1,4``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import click

from ..errors import UsageError

__all__ = ["NUMBERS", "Range", "choose"]

_PART = re.compile(r"(\d{1,18})(-(\d{1,18})?)?\Z", re.ASCII)

Range = tuple[int, int | None]
"""The first number and the last; ``None``: as far as there are messages."""


class _Numbers(click.ParamType):  # type: ignore[type-arg]
    """One or more numbers and ranges, with commas between."""

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


def choose(given: Sequence[list[Range]], there: Iterable[int]) -> list[int]:
    """
    Return the numbers that are meant, of those that are there, each once, in order.

    :param given: nothing means all.
    :raises UsageError: a number that was named for itself is not there.
    """
    existing = sorted(there)
    ranges = [one for part in given for one in part]
    if not ranges:
        return existing
    known = set(existing)
    for first, last in ranges:
        if first == last and first not in known:
            raise UsageError(f"there is no message {first}; there are {len(existing)}")
    return [
        number
        for number in existing
        if any(
            first <= number and (last is None or number <= last)
            for first, last in ranges
        )
    ]
