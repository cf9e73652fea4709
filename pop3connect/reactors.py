"""
The interfaces that the library needs of a reactor, and a clock that is never set back.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import get_ident
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.python import runtime, threadable

from .errors import UsageError

__all__ = [
    "CONNECTS",
    "LISTENS",
    "RESOLVES",
    "THREADS",
    "check_reactor",
    "check_thread",
    "in_its_turn",
    "steady_time",
]

_TIME = ("IReactorTime", ("seconds", "callLater"))

CONNECTS = ("IReactorTCP", ("connectTCP",))
"""What opens a TCP connection, as `check_reactor` takes it."""

LISTENS = ("IReactorTCP", ("listenTCP",))
"""What accepts TCP connections."""

RESOLVES = ("IReactorPluggableNameResolver", ("nameResolver",))
"""What looks up a host name."""

THREADS = (
    "IReactorCore and IReactorFromThreads",
    ("addSystemEventTrigger", "callFromThread"),
)
"""What another thread needs to call into the reactor and to notice its end."""


def check_reactor(
    reactor: object, *needs: tuple[str, tuple[str, ...]], instead: str = ""
) -> None:
    """
    Check that a reactor can do what is needed of it; time it always needs.

    Methods are looked for, not declared interfaces: wrappers around a reactor and
    the doubles of a test often declare none.

    :param needs: interfaces of `twisted.internet.interfaces`, with the methods that
        are used.
    :param instead: another remedy where one of ``needs`` is missing.
    :raises UsageError: names the missing methods and the interface that has them.
    """
    for interfaces, methods in (_TIME, *needs):
        missing = [name for name in methods if not hasattr(reactor, name)]
        if missing:
            more = "" if interfaces == _TIME[0] else instead
            raise UsageError(
                f"the reactor, of type {type(reactor).__name__}, "
                f"has no {' and no '.join(missing)}; pass a reactor that provides "
                f"{interfaces}, or leave it out to use the global one{more}"
            )


def check_thread(reactor: object) -> None:
    """
    Check that this is the reactor's thread, where it is known.

    A `twisted.internet.task.Clock` has no thread.

    :raises UsageError: it is another thread.
    """
    reactors = threadable.ioThread
    if (
        reactors is not None
        and reactors != get_ident()
        and hasattr(reactor, "callFromThread")
    ):
        raise UsageError(
            "called in another thread than the reactor's; use pop3connect.blocking in "
            "other threads"
        )


def in_its_turn(reactor: IReactorTime, call: Callable[[], object]) -> None:
    """
    Let the reactor make a call, in its thread and in a separate turn.

    For code that runs when a generator or a coroutine is closed.  The garbage collector
    closes them too, in any thread and in the middle of anything, such as the reading of
    a chunk.
    """
    from_thread = getattr(reactor, "callFromThread", None)
    if from_thread is not None:
        # The only call of a reactor that may come at any time.
        from_thread(call)
    else:
        # A `twisted.internet.task.Clock`.
        reactor.callLater(0, call)


def steady_time(reactor: IReactorTime) -> None:
    """
    Let a reactor of Twisted's measure time by `time.monotonic`.

    Twisted's reactors read the wall clock: when it is set back by an hour, a deadline
    comes an hour late.  Only the program that owns the reactor should call this,
    before the reactor runs.  Afterwards ``reactor.seconds()`` is not the time
    since 1970, and may leave out the time in which the computer sleeps.

    A reactor with another clock than Twisted's default keeps it.
    """
    if getattr(reactor, "seconds", None) is not runtime.seconds:
        return
    # Calls that are scheduled already (the asyncio reactor begins with one) have
    # their time by the old clock.  All move by the same, so their order stays.
    later = time.monotonic() - runtime.seconds()
    calls: list[Any] = list(reactor.getDelayedCalls())
    # In the instance, where it covers the class's: other reactors keep theirs.
    setattr(reactor, "seconds", time.monotonic)  # noqa: B010 - mypy: a method
    for call in calls:
        call.time += later
        call.seconds = time.monotonic
