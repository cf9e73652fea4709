"""
Runs one command of a watch, with an end to it: for hooks and for passwords.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

__all__ = ["GRACE", "MAX_OUTPUT", "RunError", "find_program", "run"]

GRACE = 5.0
"""Seconds between asking a command to end and ending it."""

LINGER = 1.0
"""Seconds for its last output, if one of its child processes holds the pipes open."""

MAX_OUTPUT = 64 * 1024
"""Octets of output that are kept.  A token has a few thousand."""


class RunError(Exception):
    """
    The command failed; the message says how it ended, without its output.

    :ivar errors: the beginning of its standard error.
    """

    def __init__(self, message: str, errors: bytes = b"") -> None:
        super().__init__(message)
        self.errors = errors


class _Run(ProcessProtocol):
    """
    One command that runs.

    :ivar output: the beginning of its standard output.
    :ivar errors: the beginning of its standard error.
    :ivar ended: how it ended, empty after success; ``None`` if it still runs.
    """

    transport: Any

    def __init__(self, clock: Any, given: bytes) -> None:
        self._clock = clock
        self._given = given
        self._waiting: list[Deferred[str]] = []
        self._timer: Any = None
        self._asked = False
        self.output = b""
        self.errors = b""
        self.ended: str | None = None

    def connectionMade(self) -> None:
        """Give it its standard input."""
        self.transport.write(self._given)
        self.transport.closeStdin()

    def outReceived(self, data: bytes) -> None:
        """Keep the beginning."""
        self.output = (self.output + data)[:MAX_OUTPUT]

    def errReceived(self, data: bytes) -> None:
        """Keep the beginning."""
        self.errors = (self.errors + data)[:MAX_OUTPUT]

    def processExited(self, reason: Failure) -> None:
        """Stop waiting soon for child processes that hold the pipes open."""
        self._asked = True
        self._set_timer(LINGER, self.processEnded, reason)

    def processEnded(self, reason: Failure) -> None:
        """Fire the Deferreds of `when_ended`."""
        self._stop_timer()
        if self.ended is not None:
            return
        how: Any = reason.value
        if how.signal is not None:
            self.ended = f"ended by signal {how.signal}"
        else:
            self.ended = f"exit status {how.exitCode}" if how.exitCode else ""
        # Not waited for: a standard input that is not read does not close.
        self.transport.loseConnection()
        for waiting in self._waiting:
            if not waiting.called:
                waiting.callback(self.ended)

    def when_ended(self) -> Deferred[str]:
        """Return a Deferred of how it ended; cancelling that changes nothing."""
        waiting: Deferred[str] = Deferred()
        if self.ended is None:
            self._waiting.append(waiting)
        else:
            waiting.callback(self.ended)
        return waiting

    def end(self) -> None:
        """Send SIGTERM if it still runs, and SIGKILL if it does not end."""
        if not self._asked:
            self._asked = True
            self._signal("TERM")
            self._set_timer(GRACE, self._signal, "KILL")

    def _signal(self, name: str) -> None:
        with suppress(ProcessExitedAlready):
            self.transport.signalProcess(name)

    def _set_timer(self, seconds: float, call: Any, *arguments: Any) -> None:
        self._stop_timer()
        self._timer = self._clock.callLater(seconds, call, *arguments)

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()


def find_program(name: str, folder: Path, environment: Mapping[str, str]) -> str:
    """
    Return the path of a program.

    :param folder: where a name with a slash is looked for.
    :raises RunError: it is not there.
    """
    where = str(folder / name) if Path(name).name != name else name
    program = shutil.which(where, path=environment.get("PATH"))
    if program is None:
        raise RunError(f"{name}: there is no such program, or it is not for us")
    return program


async def run(
    reactor: Any,
    command: Sequence[str],
    *,
    folder: Path,
    environment: Mapping[str, str],
    limit: float,
    given: bytes = b"",
) -> bytes:
    """
    Run a command to its end; cancelling ends it, and waits until it has.

    :param folder: where it runs, and where a name with a slash is looked for.
    :param limit: seconds it may take.
    :param given: its standard input.
    :return: its standard output.
    :raises RunError: it is not there, took too long, or its exit status was not 0.
    """
    program = find_program(command[0], folder, environment)
    one = _Run(reactor, given)
    try:
        reactor.spawnProcess(one, program, command, dict(environment), str(folder))
    except OSError as error:
        raise RunError(f"{command[0]}: cannot be started: {error.strerror}") from error
    late = reactor.callLater(limit, one.end)
    try:
        ended = await one.when_ended()
        expired = not late.active()
    except CancelledError:
        one.end()
        await one.when_ended()
        raise
    finally:
        if late.active():
            late.cancel()
    if expired:
        raise RunError(f"{command[0]}: took longer than {limit:g} seconds", one.errors)
    if ended:
        raise RunError(f"{command[0]}: {ended}", one.errors)
    return one.output
