"""
Runs one command, most of them in the reactor, and ends with an exit status.

Ctrl-C and SIGTERM cancel the command, which closes its session without deleting
anything; the reactor stops only then.
"""

from __future__ import annotations

import signal
import warnings
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NoReturn

import click
from cryptography.utils import CryptographyDeprecationWarning
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import (
    ILogObserver,
    LogEvent,
    LogLevel,
    formatEvent,
    globalLogBeginner,
    globalLogPublisher,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from ..errors import POP3Error
from ..reactors import steady_time
from .exits import exit_status, words
from .output import Output, tell

__all__ = [
    "LogShown",
    "Work",
    "finish",
    "report",
    "run_reactor",
    "show_warning",
    "worded",
]

Work = Callable[[Any], Coroutine[Any, Any, int]]
"""Does the work of a command with a reactor, and returns the exit status."""


def finish(work: Work, output: Output) -> NoReturn:
    """
    Do the work of the current command, and exit with its status.

    :param output: how much of the log is shown.

    The object of click's context runs the work, if there is one.
    """
    run = click.get_current_context().obj or partial(
        run_reactor, log=LogShown(output.least)
    )
    report(lambda: run(work))


def report(work: Callable[[], int]) -> NoReturn:
    """Do the work of the current command without a reactor, and exit likewise."""
    try:
        status = work()
    except BrokenPipeError:
        # click handles it silently.
        raise
    except (POP3Error, OSError) as error:
        tell(words(error))
        status = exit_status(error)
    click.get_current_context().exit(status)


def run_reactor(work: Work, log: LogShown | None = None) -> int:
    """
    Run the global reactor until the work is done.

    :param log: shows the log; default: `show_warning`.
    :return: its exit status, or that of the signal which ended it.
    """
    from twisted.internet import reactor as global_reactor

    reactor: Any = global_reactor
    steady_time(reactor)
    outcome: list[int | Failure] = []
    # If the reactor is stopped without a signal, it counts as this one.
    signals = [signal.SIGINT.value]
    stopping: list[bool] = []

    def begin() -> None:
        working = Deferred.fromCoroutine(work(reactor))
        # The reactor's own handler would stop it in the middle of the session.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, partial(interrupt, working))
        # A signal before that, or a program, may stop the reactor.
        reactor.addSystemEventTrigger("before", "shutdown", end, working)
        working.addBoth(outcome.append)
        working.addBoth(lambda _: stopping or reactor.stop())

    def end(working: Deferred[Any]) -> Deferred[Any]:
        stopping.append(True)
        working.cancel()
        return working

    def interrupt(working: Deferred[Any], number: int, frame: object) -> None:
        signals.insert(0, number)
        reactor.callFromThread(working.cancel)

    # Of certificates with a serial number below 1.  The warning would not help the
    # user; `info` shows such a certificate as one that cannot be parsed.
    warnings.simplefilter("ignore", CryptographyDeprecationWarning)
    observer = log or show_warning
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)
    reactor.callWhenRunning(begin)
    try:
        reactor.run()
    finally:
        globalLogPublisher.removeObserver(observer)
    result = outcome[0] if outcome else None
    if isinstance(result, int):
        return result
    if isinstance(result, Failure) and not result.check(CancelledError):
        result.raiseException()
    # As in a shell.
    return 128 + signals[0]


_wordings: list[Callable[[LogEvent], str | None]] = [formatEvent]


@contextmanager
def worded(wording: Callable[[LogEvent], str | None]) -> Iterator[None]:
    """Let a function return the texts of warnings; ``""``: nothing is shown."""
    _wordings.append(wording)
    try:
        yield
    finally:
        _wordings.remove(wording)


@implementer(ILogObserver)
class LogShown:
    """
    Shows the log, as far as it is for the user.

    :param least: the lowest level that is shown.
    """

    def __init__(self, least: LogLevel) -> None:
        self._least = least

    def __call__(self, event: LogEvent) -> None:
        """Show an event."""
        # Below a warning, Twisted tells of each of its connections.
        ours = str(event.get("log_namespace", "")).startswith("pop3connect")
        least = self._least if ours else max(self._least, LogLevel.warn)
        if event["log_level"] >= least:
            text = _wordings[-1](event)
            if text:
                tell(text)


show_warning = LogShown(LogLevel.warn)
"""Shows the warnings of the library."""
