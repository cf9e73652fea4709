"""
A one-shot event: something that happens once, and that any number of callers wait for.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

__all__ = ["OneShot"]

T = TypeVar("T")


class OneShot(Generic[T]):
    """
    Fires once, with a value or a failure.

    Callers that ask afterwards get the same at once.  A failure that nobody asks for is
    not reported as an unhandled error.
    """

    __slots__ = ("_outcome", "_waiting")

    def __init__(self) -> None:
        # In a tuple, so that None is a value too.
        self._outcome: tuple[T | Failure] | None = None
        # A list: few wait, and an idle session has two of these.
        self._waiting: list[Deferred[T]] = []

    @property
    def fired(self) -> bool:
        """Whether it has happened."""
        return self._outcome is not None

    def fire(self, outcome: T | Failure) -> None:
        """Tell all callers; from the second call on nothing is done."""
        if self._outcome is not None:
            return
        self._outcome = (outcome,)
        # One by one: a callback may cancel a Deferred that has not fired yet.
        while self._waiting:
            self._waiting.pop(0).callback(outcome)

    def when_fired(self) -> Deferred[T]:
        """
        Wait for it.

        :return: a Deferred of the caller's own; cancelling it concerns no other caller.
        """
        deferred: Deferred[T] = Deferred(self._forget)
        if self._outcome is None:
            self._waiting.append(deferred)
        else:
            deferred.callback(self._outcome[0])
        return deferred

    def _forget(self, deferred: Deferred[T]) -> None:
        self._waiting.remove(deferred)
