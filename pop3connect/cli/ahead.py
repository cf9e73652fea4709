"""
Asks for one thing after another ahead of who reads the answers, within a window.

`Handle` sends what is asked for at once where the server allows it; the window is
what keeps a large mailbox from being asked for as a whole.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import TypeVar

from twisted.internet.defer import Deferred

from ..errors import CommandError

__all__ = ["AHEAD", "answers"]

AHEAD = 64
"""Commands that are under way at once: enough for a long round trip."""

K = TypeVar("K")
T = TypeVar("T")


async def answers(
    items: Iterable[K], ask: Callable[[K], Deferred[T]], ahead: int = AHEAD
) -> AsyncGenerator[tuple[K, T | CommandError], None]:
    """
    Iterate over the items and what the server answered, in order.

    What the server refuses is an answer, too; what ends the session is raised.
    """
    coming: deque[tuple[K, Deferred[T | CommandError]]] = deque()
    left = iter(items)
    try:
        while True:
            for item in left:
                coming.append((item, ask(item).addErrback(_refusal)))
                if len(coming) >= ahead:
                    break
            if not coming:
                return
            item, answer = coming.popleft()
            yield item, await answer
    finally:
        for _, answer in coming:
            # What is left of them ends with the session, and is told once.
            answer.addErrback(lambda _: None)


def _refusal(failure: object) -> CommandError:
    error: BaseException = failure.value  # type: ignore[attr-defined]
    if isinstance(error, CommandError):
        return error
    raise error
