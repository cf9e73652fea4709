"""
What all parts of the engine work with: the reactor, the journal, the spool, the clocks,
and threads for everything that waits for a disk.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from threading import Thread
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import (
    CancelledError,
    Deferred,
    DeferredList,
    fail,
    maybeDeferred,
)
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from .journal import Journal
from .spool import Spool

__all__ = ["Threads", "Tools", "ended", "leave_threads", "sleep", "together"]

T = TypeVar("T")


class Threads:
    """
    Runs blocking calls in a pool of threads.

    With a reactor that has no threads, such as a Clock, calls are made at once.  A call
    that does not return does not keep the process from ending.

    :param most: calls at the same time.
    """

    def __init__(self, reactor: Any, name: str, most: int) -> None:
        self._reactor = reactor
        self._pool: ThreadPool | None = None
        self._stopped = False
        if hasattr(reactor, "callFromThread"):
            self._pool = ThreadPool(0, most, name)
            leave_threads(self._pool)
            self._pool.start()

    def __call__(
        self, function: Callable[..., T], *arguments: Any, **named: Any
    ) -> Deferred[T]:
        """
        Call a function; the Deferred fires with its result.

        After `stop`, it fails with `CancelledError`.
        """
        if self._stopped:
            return fail(CancelledError())
        if self._pool is None:
            return maybeDeferred(function, *arguments, **named)
        return deferToThreadPool(
            self._reactor, self._pool, function, *arguments, **named
        )

    def stop(self, until: float) -> int:
        """
        Wait until the calls have returned, and end the threads.

        :param until: when to wait no longer, by `time.monotonic`.
        :return: how many calls have not returned.
        """
        pool, self._pool = self._pool, None
        if pool is None:
            return 0
        self._stopped = True
        threads = list(pool.threads)
        # Otherwise it would wait for each without a limit.
        pool.threads.clear()
        pool.stop()
        for thread in threads:
            thread.join(max(until - time.monotonic(), 0))
        # Others may be about to end.
        return len(pool.working)


def leave_threads(pool: ThreadPool) -> None:
    """
    Let the threads of a pool end with the process, whatever they do.

    :param pool: none of its threads has begun.
    """

    def daemon(*arguments: Any, **named: Any) -> Thread:
        return Thread(*arguments, daemon=True, **named)

    pool.threadFactory = daemon  # type: ignore[assignment]


@attrs.frozen
class Tools:
    """
    What the parts of one engine share.

    :ivar wall: the time in seconds since 1970.
    :ivar random: a random number from 0 to 1.
    :ivar files: threads for the spool.
    :ivar trusted: returns whether the wall clock is believed.
    :ivar trouble: called with each error of the disk or of the journal.
    """

    reactor: Any
    journal: Journal
    spool: Spool
    machine: str
    wall: Callable[[], float]
    random: Callable[[], float]
    files: Threads
    trusted: Callable[[], bool]
    trouble: Callable[[BaseException], object]


def ended(work: Deferred[Any]) -> Deferred[None]:
    """Return a Deferred that fires when another one has, whatever its result."""
    done: Deferred[None] = Deferred()

    def end(result: Any) -> Any:
        done.callback(None)
        return result

    work.addBoth(end)
    return done


async def together(works: Iterable[Deferred[T]]) -> list[T]:
    """
    Wait for Deferreds, and return their results.

    :raises Exception: the error of the first that failed, once all have ended.
    """
    results: list[T] = []
    for _, result in await DeferredList(list(works), consumeErrors=True):
        if isinstance(result, Failure):
            result.raiseException()
        results.append(result)
    return results


def sleep(reactor: Any, seconds: float) -> Deferred[None]:
    """Return a Deferred that fires after some seconds; cancelling it is an error."""
    waiting: Deferred[None] = Deferred(lambda _: call.cancel())
    call = reactor.callLater(max(seconds, 0), waiting.callback, None)
    return waiting
