"""
Delivers messages to a Python function: at least once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .base import Mail

__all__ = ["Function", "find_function"]


def find_function(name: str) -> Callable[[Mail, int], object]:
    """
    Import a function.

    :param name: ``package.module:function``.
    :raises UsageError: it cannot be imported, or is not a function.
    """
    raise NotImplementedError


class Function:
    """
    A function that takes one message at a time: a `Destination`.

    It is called with a `Mail` and the number of the attempt, in the reactor's thread.
    It may return a Deferred or a coroutine, and may raise `Later` or `Never`; any other
    exception counts as a refusal of the message.

    :param timeout: seconds that its Deferred or coroutine may take; then it is
        cancelled.
    """

    def __init__(
        self,
        function: Callable[[Mail, int], object],
        *,
        timeout: float = 60.0,
        reactor: Any,
    ) -> None:
        raise NotImplementedError

    async def deliver(self, mail: Mail) -> None:
        """Call the function, as `Destination`; cancelling cancels its Deferred."""
        raise NotImplementedError
