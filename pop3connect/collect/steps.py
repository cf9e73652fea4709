"""Long computations in slices, so that the reactor can do other work in between."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import TypeVar

__all__ = ["SLICE", "Steps", "finish", "slices"]

SLICE = 5_000
"""Messages between two steps: a few milliseconds of work."""

_T = TypeVar("_T")

Steps = Generator[int, None, _T]
"""A computation in slices: it yields how many messages it has gone through since the
last time.  Exhaust it, and do other work whenever these are `SLICE` or more."""


def slices(sequence: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """Iterate over a sequence in pieces of `SLICE` items."""
    for start in range(0, len(sequence), SLICE):
        yield sequence[start : start + SLICE]


def finish(steps: Steps[_T]) -> _T:
    """Run a computation to its end."""
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            result: _T = stop.value
            return result
