"""
Runs a program of the user's without the secrets in our environment, and with a time
limit, at which its whole process group is ended.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, BinaryIO

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.main import CONNECTION_DONE
from zope.interface import implementer

from .redaction import printable

__all__ = [
    "GRACE",
    "MAX_OUTPUT",
    "SHORT_GRACE",
    "RunError",
    "find_program",
    "last_line",
    "run",
    "safe_environment",
]

GRACE = 5.0
"""Seconds from SIGTERM to SIGKILL, and from there until the program is left alone."""

SHORT_GRACE = 1.0
"""Seconds from SIGTERM to SIGKILL if the run is cancelled: our process is to end, and
would leave the program behind."""

LINGER = 1.0
"""Seconds for a program's last output, if a child process of it holds the pipes."""

MAX_OUTPUT = 64 * 1024
"""Bytes of output that are kept.  A token has a few thousand."""

MAX_LAST_LINE = 300
"""Bytes of the last line of a failed program's errors that are worth showing."""

LOOK_EVERY = 1.0
"""Seconds between two looks whether a program has ended that keeps its pipes open."""

FIRST_LOOK = 0.001
"""Seconds until the first look after it closed its pipes; doubled up to `LAST_LOOK`."""

LAST_LOOK = 0.25
"""The longest time between two of these looks, in seconds."""

OUR_SECRETS = (
    "POP3CONNECT_PASSWORD",
    "POP3CONNECT_CLIENT_KEY_PASSWORD",
    "POP3CONNECT_DATABASE",
)
"""Variables of pop3connect that hold a password, or may hold one."""


class RunError(Exception):
    """
    The program failed; the message says how it ended, without its output.

    :ivar status: its exit status; ``None`` if it has none: it was ended by a signal,
        or not started.
    :ivar started: ``False``: there is no such program, or it could not be started.
    :ivar expired: whether it took longer than its time limit.
    :ivar errors: the end of its standard error.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        started: bool = True,
        expired: bool = False,
        errors: bytes = b"",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.started = started
        self.expired = expired
        self.errors = errors


def find_program(name: str, folder: Path, environment: Mapping[str, str]) -> str:
    """
    Return the path of a program.

    :param folder: where a name with a slash is looked for.
    :raises RunError: it is not there.
    """
    where = str(folder / name) if Path(name).name != name else name
    program = shutil.which(where, path=environment.get("PATH"))
    if program is None:
        raise RunError(
            f"{name}: there is no such program, or this user may not run it",
            started=False,
        )
    return program


def safe_environment(secrets: Iterable[str]) -> dict[str, str]:
    """
    Return our environment without the passwords in it.

    :param secrets: the variables of the configuration that hold passwords;
        `OUR_SECRETS` are removed as well.
    """
    hidden = {*secrets, *OUR_SECRETS}
    return {name: text for name, text in os.environ.items() if name not in hidden}


def last_line(errors: bytes) -> str:
    """Return the last line that a program wrote, short and printable; or ``""``."""
    return printable(errors.rstrip().rpartition(b"\n")[2][:MAX_LAST_LINE])


@implementer(IReadDescriptor)
class _Pipe:
    """
    The end of a pipe that a program writes to.

    :ivar kept: what it wrote, at most `MAX_OUTPUT` bytes: the beginning or the end.
    """

    def __init__(
        self,
        reactor: Any,
        file: IO[bytes],
        ended: Callable[[], None],
        *,
        keep_end: bool,
    ) -> None:
        self._reactor = reactor
        self._file = file
        self._ended = ended
        self._keep_end = keep_end
        self.kept = b""
        os.set_blocking(file.fileno(), False)
        reactor.addReader(self)

    def fileno(self) -> int:
        return -1 if self._file.closed else self._file.fileno()

    def logPrefix(self) -> str:
        return "pop3connect program"

    def doRead(self) -> Any:
        try:
            data = os.read(self._file.fileno(), MAX_OUTPUT)
        except BlockingIOError:
            return None
        if not data:
            return CONNECTION_DONE
        if self._keep_end:
            self.kept = (self.kept + data)[-MAX_OUTPUT:]
        else:
            self.kept = (self.kept + data)[:MAX_OUTPUT]
        return None

    def connectionLost(self, reason: object) -> None:
        self.close()
        self._ended()

    def close(self) -> None:
        if not self._file.closed:
            # What the program wrote last may not have been read yet.
            self.doRead()
            self._reactor.removeReader(self)
            self._file.close()

    @property
    def closed(self) -> bool:
        return self._file.closed


class _Run:
    """
    One program that runs.

    Its end is found by looking, as soon as it has closed its pipes: this needs no
    handler of SIGCHLD, which a reactor in another thread does not have.

    :ivar expired: whether it was ended at its time limit.
    """

    def __init__(self, reactor: Any, process: subprocess.Popen[bytes]) -> None:
        self._reactor = reactor
        self._process = process
        self._waiting: list[Deferred[None]] = []
        self._timer: Any = None
        self._killer: Any = None
        self._pause = LOOK_EVERY
        self._signalled = self._killed = self._over = False
        self.expired = False
        assert process.stdout is not None
        assert process.stderr is not None
        self._output = _Pipe(reactor, process.stdout, self._closed, keep_end=False)
        self._errors = _Pipe(reactor, process.stderr, self._closed, keep_end=True)
        self._later(self._pause, self._look)

    # -- its end

    def when_over(self) -> Deferred[None]:
        """Return a Deferred that fires at its end; cancelling that changes nothing."""
        waiting: Deferred[None] = Deferred()
        if self._over:
            waiting.callback(None)
        else:
            self._waiting.append(waiting)
        return waiting

    def expire(self) -> None:
        """End it, because it takes too long."""
        if not self._over and self._process.poll() is None:
            self.expired = True
            self.end(GRACE)

    def end(self, grace: float) -> None:
        """Send SIGTERM to its group, and SIGKILL if it has not ended in ``grace``."""
        if not self._signalled and not self._over:
            self._signalled = True
            self._signal(signal.SIGTERM)
            self._killer = self._reactor.callLater(grace, self._kill)
            self._look_soon()

    def _kill(self) -> None:
        self._killed = True
        self._signal(signal.SIGKILL)
        # A process that waits for a disk or a network does not end even now.
        self._killer = self._reactor.callLater(GRACE, self._finish)
        self._look_soon()

    def _signal(self, number: int) -> None:
        # A number is not given to another group while one process of this one is left.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def _group_lives(self) -> bool:
        try:
            os.killpg(self._process.pid, 0)
        except OSError as error:
            # Not allowed: a process there has changed its user.
            return error.errno != errno.ESRCH
        return True

    # -- looking

    def _closed(self) -> None:
        if self._output.closed and self._errors.closed:
            self._look_soon()

    def _look_soon(self) -> None:
        self._pause = FIRST_LOOK
        self._look()

    def _look(self) -> None:
        if self._over:
            return
        ended = self._process.poll() is not None
        if ended and self._signalled and not self._killed:
            ended = not self._group_lives()
        if not ended:
            self._later(self._pause, self._look)
            if self._pause < LOOK_EVERY:
                self._pause = min(self._pause * 2, LAST_LOOK)
        elif self._signalled or (self._output.closed and self._errors.closed):
            self._finish()
        else:
            # A child process that goes on holds the pipes open.
            self._later(LINGER, self._finish)

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = self._reactor.callLater(seconds, call)

    def _finish(self) -> None:
        self._over = True
        for timer in (self._timer, self._killer):
            if timer is not None and timer.active():
                timer.cancel()
        for pipe in (self._output, self._errors):
            pipe.close()
        self._reap()
        for waiting in self._waiting:
            if not waiting.called:
                waiting.callback(None)

    def _reap(self) -> None:
        if self._process.poll() is None:
            self._later(LOOK_EVERY, self._reap)

    # -- how it ended

    def outcome(self, name: str, limit: float) -> bytes:
        """
        Return its standard output.

        :raises RunError: it failed.
        """
        status = self._process.returncode
        if self.expired:
            problem = f"took longer than {limit:g} seconds"
        elif status is None or status < 0:
            problem = f"ended by signal {-(status or 0)}"
        elif status:
            problem = f"exit status {status}"
        else:
            return self._output.kept
        raise RunError(
            f"{name}: {problem}",
            status=status if status is not None and status > 0 else None,
            expired=self.expired,
            errors=self._errors.kept,
        )


async def run(
    reactor: Any,
    command: Sequence[str],
    *,
    folder: Path,
    environment: Mapping[str, str],
    limit: float,
    stdin: BinaryIO | None = None,
) -> bytes:
    """
    Run a program to its end; cancelling ends it, and waits until it has.

    It runs in a new process group.  At the time limit the whole group gets
    SIGTERM and, `GRACE` seconds later, SIGKILL; after `SHORT_GRACE` if it is cancelled.
    What it leaves running when it ends by itself is not touched.

    :param reactor: one that provides ``IReactorFDSet`` and ``IReactorTime``.
    :param folder: where it runs, and where a name with a slash is looked for.
    :param limit: seconds it may take.
    :param stdin: its standard input: an open file of which nothing has been read;
        default: an empty one.  It may be closed once the program has been started,
        which is when the coroutine first waits.
    :return: the beginning of its standard output.
    :raises RunError: it is not there, took too long, or its exit status was not 0.
    """
    name = command[0]
    program = find_program(name, folder, environment)
    try:
        # The user's configuration names the program, and no shell is involved.
        process = subprocess.Popen(  # noqa: S603
            command,
            executable=program,
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL if stdin is None else stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
    except OSError as error:
        raise RunError(
            f"{name}: cannot be started: {error.strerror}", started=False
        ) from error
    one = _Run(reactor, process)
    late = reactor.callLater(limit, one.expire)
    try:
        await one.when_over()
    except CancelledError:
        one.end(SHORT_GRACE)
        await one.when_over()
        raise
    finally:
        if late.active():
            late.cancel()
    return one.outcome(name, limit)
