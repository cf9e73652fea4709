"""
Keeps Python's search for garbage short, in programs that make many objects at a time.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["few_searches"]

THRESHOLD = 10_000
"""New objects after which the newest ones are searched; a module makes hundreds, and
a group of messages thousands."""


@contextmanager
def few_searches() -> Iterator[None]:
    """
    Search for garbage rarely within the block, and only what is made in it.

    What a program has imported stays until its end, and Python searches it again and
    again: that takes a tenth of the time of an import, or of collecting a message.
    """
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(THRESHOLD, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
