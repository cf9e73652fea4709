"""
What an error reporter that collects local variables would send along with an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import FrameType

from twisted.python.reflect import safe_repr

_NOT_OURS = ("/tests/", "/twisted/", "/unittest/")
"""Frames of the test itself, and of Twisted, which is handed the bytes to write."""


def leaks(error: BaseException, secrets: Iterable[str]) -> list[str]:
    """
    Return where secrets can be seen in an error.

    That is its text, its ``repr``, its attributes, and the ``repr`` of every local
    variable in the frames of its traceback; the same of its cause and its context.
    """
    secrets = list(secrets)
    found = []
    for where, text in _shown(error):
        if any(secret in text for secret in secrets):
            found.append(where)
    return found


def _shown(error: BaseException) -> Iterator[tuple[str, str]]:
    for one in _chain(error):
        name = type(one).__name__
        yield f"{name}: text", f"{one} {one!r} {vars(one)!r}"
        for frame in _frames(one):
            code = frame.f_code
            if any(part in code.co_filename for part in _NOT_OURS):
                continue
            for variable, value in frame.f_locals.items():
                yield f"{name}: {code.co_name}: {variable}", safe_repr(value)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            yield one
            waiting += [one.__cause__, one.__context__]


def _frames(error: BaseException) -> Iterator[FrameType]:
    traceback = error.__traceback__
    while traceback is not None:
        yield traceback.tb_frame
        traceback = traceback.tb_next
