"""Long computations in slices, so that the reactor can do other work in between."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import TypeVar

__all__ = ["SLICE", "Steps", "finish", "slices"]

SLICE = 5_000
"""Messages between two steps: a few milliseconds of work."""

_T = TypeVar("_T")

Steps = Generator[None, None, _T]
"""A computation in slices: exhaust it, and do other work in between."""


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
