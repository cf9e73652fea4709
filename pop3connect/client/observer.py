"""
A one-shot event: something that happens once, and that any number of callers wait for.
"""

from __future__ import annotations

from typing import Any, Final, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

__all__ = ["OneShot"]

T = TypeVar("T")

_PENDING: Final = object()
"""Stands for the outcome until there is one: None is a value too."""


class OneShot(Generic[T]):
    """
    Fires once, with a value or a failure.

    Callers that ask afterwards get the same at once.  A failure that nobody asks for is
    not reported as an unhandled error.
    """

    __slots__ = ("_outcome", "_waiting")

    def __init__(self) -> None:
        self._outcome: Any = _PENDING
        # None while no caller waits: an idle session has two of these.
        self._waiting: list[Deferred[T]] | None = None

    @property
    def fired(self) -> bool:
        """Whether it has happened."""
        return self._outcome is not _PENDING

    def fire(self, outcome: T | Failure) -> None:
        """Tell all callers; from the second call on nothing is done."""
        if self.fired:
            return
        self._outcome = outcome
        # One by one: a callback may cancel a Deferred that has not fired yet.
        while self._waiting:
            self._waiting.pop(0).callback(outcome)
        self._waiting = None

    def when_fired(self) -> Deferred[T]:
        """
        Wait for it.

        :return: a Deferred of the caller's own; cancelling it concerns no other caller.
        """
        deferred: Deferred[T] = Deferred(self._forget)
        if self.fired:
            deferred.callback(self._outcome)
        elif self._waiting is None:
            self._waiting = [deferred]
        else:
            self._waiting.append(deferred)
        return deferred

    def _forget(self, deferred: Deferred[T]) -> None:
        assert self._waiting is not None
        self._waiting.remove(deferred)
