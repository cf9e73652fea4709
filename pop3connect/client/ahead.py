"""
Sends commands ahead of the caller that reads their replies, within a window.

`Handle` sends every command at once if the server allows it; the window bounds how many
are pending in a large mailbox.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import TypeVar

from twisted.internet.defer import Deferred

from ..errors import CommandError

__all__ = ["AHEAD", "answers"]

AHEAD = 64
"""Commands that are pending at once: enough for a long round trip."""

K = TypeVar("K")
T = TypeVar("T")


async def answers(
    items: Iterable[K], ask: Callable[[K], Deferred[T]], ahead: int = AHEAD
) -> AsyncGenerator[tuple[K, T | CommandError], None]:
    """
    Iterate over the items and the server's answers, in order.

    A refusal is an answer, too; an error that ends the session is raised.
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
            # They end with the session, whose error is raised once already.
            answer.addErrback(lambda _: None)


def _refusal(failure: object) -> CommandError:
    error: BaseException = failure.value  # type: ignore[attr-defined]
    if isinstance(error, CommandError):
        return error
    raise error
