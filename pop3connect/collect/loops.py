"""
Loops that do something again and again, and show that they work.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from .journal import JournalError

__all__ = ["Loops"]

log = Logger()


class Loops:
    """
    The loops of a collector.

    :param trouble: called with an error of the journal; the loop goes on.
    :param failed: called with any other error, which has ended a loop.
    """

    def __init__(
        self,
        reactor: Any,
        trouble: Callable[[JournalError], object],
        failed: Callable[[BaseException], object],
    ) -> None:
        self._reactor = reactor
        self._trouble = trouble
        self._failed = failed
        self._loops: list[Deferred[None]] = []
        self._seen: dict[str, float] = {}
        self._waiting: dict[str, Deferred[None]] = {}
        # Those that were woken while they worked.
        self._woken: set[str] = set()
        self._ending = False

    @property
    def seen(self) -> Mapping[str, float]:
        """The last signs of life of the loops that run, by the reactor's clock."""
        return self._seen

    def begin(
        self, name: str, seconds: float, work: Callable[[], Coroutine[Any, Any, Any]]
    ) -> None:
        """
        Begin a loop.

        :param seconds: the wait between two rounds.
        :param work: one round.
        """
        self._ending = False
        loop = Deferred.fromCoroutine(self._loop(name, seconds, work))
        loop.addErrback(self._loop_failed)
        self._loops.append(loop)

    def wake(self, name: str) -> None:
        """End the wait of a loop, or the one that comes after what it does now."""
        waiting = self._waiting.pop(name, None)
        if waiting is None or waiting.called:
            self._woken.add(name)
        else:
            waiting.callback(None)

    def end(self) -> None:
        """End all loops."""
        self._ending = True
        for loop in self._loops:
            loop.cancel()
        self._loops.clear()
        self._seen.clear()

    async def _loop(
        self, name: str, seconds: float, work: Callable[[], Coroutine[Any, Any, Any]]
    ) -> None:
        while not self._ending:
            self._seen[name] = self._reactor.seconds()
            self._woken.discard(name)
            try:
                await work()
            except JournalError as error:
                self._trouble(error)
            if name in self._woken:
                continue
            waiting = self._waiting[name] = Deferred()
            call = self._reactor.callLater(seconds, self.wake, name)
            try:
                await waiting
            finally:
                if call.active():
                    call.cancel()

    def _loop_failed(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            log.failure("a loop of the collector has failed", failure)
            assert failure.value is not None
            self._failed(failure.value)
