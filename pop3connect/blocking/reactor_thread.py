"""
Calls into the reactor's thread from other threads, which wait for the result.

The application runs the reactor, or crochet does, started here; only `_start` knows the
difference.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, Generic, ParamSpec, Protocol, TypeVar

from twisted.internet.defer import (
    CancelledError,
    Deferred,
    gatherResults,
    maybeDeferred,
)
from twisted.python import threadable
from twisted.python.failure import Failure

from ..errors import ConnectionLostError, UsageError
from ..reactors import THREADS, check_reactor

__all__ = ["Call", "ReactorThread"]

P = ParamSpec("P")
T = TypeVar("T")

# On Windows, Ctrl-C has no effect while a thread waits for a lock without a timeout.
_LOOK_UP: float | None = 0.2 if sys.platform == "win32" else None


class Session(Protocol):
    """A session that must be closed before the reactor stops."""

    def abort(self) -> Deferred[None]:
        """Close now."""

    def when_closed(self) -> Deferred[None]:
        """Return a Deferred that fires when it is closed."""


class Worker(Protocol):
    """Has work for one thread, to do during any of its calls."""

    ident: int
    """Which thread; see `threading.get_ident`."""

    def work(self) -> object:
        """Do it; called in that thread."""


class ReactorThread:
    """
    A reactor that runs in a thread, as other threads see it.

    :ivar reactor: the reactor.
    """

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self._process = os.getpid()
        # Shared by all threads; the rest belongs to the reactor's.
        self._lock = threading.Lock()
        self._calls: set[Call[Any]] = set()
        self._stopped = False
        self._watching = False
        self._sessions: set[Session] = set()
        self._workers: list[Worker] = []
        # The calls that a thread waits for: more than one if it makes one within
        # another's work.
        self._waiting: dict[int, list[Call[Any]]] = {}

    @classmethod
    def find(cls, reactor: Any = None) -> ReactorThread:
        """
        Return the thread of a running reactor.

        :param reactor: default: the global one, which is started if it does not run.
        :raises UsageError: a call from here could never return, or ``reactor`` is not a
            reactor.
        :raises ImportError: the reactor must be started, and crochet is not installed.
        """
        given = reactor is not None
        if given:
            check_reactor(reactor, THREADS)
        else:
            from twisted.internet import reactor
        known = _KNOWN.get(reactor)
        if known is None:
            _refuse_own_thread()
            if not given:
                _refuse_dead_thread(running=reactor.running)
                if not reactor.running:
                    _start()
            # If two threads arrive here at once, both get the same object.
            known = _KNOWN.setdefault(reactor, cls(reactor))
        known.check()
        return known

    def check(self) -> None:
        """
        Raise an error if a call from here could never return.

        :raises UsageError: this is another process, or the reactor's own thread.
        """
        if os.getpid() != self._process:
            raise _forked()
        _refuse_own_thread()

    def call(
        self, function: Callable[P, Deferred[T]], *args: P.args, **named: P.kwargs
    ) -> T:
        """
        Call a function in the reactor's thread, and wait for its Deferred.

        :raises UsageError: as for `check`.
        :raises ConnectionLostError: the reactor has been stopped.
        """
        return Call[T](self).run(function, *args, **named)

    def post(self, function: Callable[..., object], *args: object) -> None:
        """Call a function in the reactor's thread later, unless this is a fork."""
        if os.getpid() == self._process:
            self.reactor.callFromThread(function, *args)

    def register(self, call: Call[Any]) -> None:
        """
        Keep a call until `unregister`, so that it ends when the reactor does.

        :raises ConnectionLostError: the reactor has been stopped.
        """
        with self._lock:
            if self._stopped:
                raise _over()
            self._calls.add(call)

    def unregister(self, call: Call[Any]) -> None:
        """Forget a call: it has ended."""
        with self._lock:
            self._calls.discard(call)

    # -- in the reactor's thread

    def watch(self) -> None:
        """Make sure that all calls and sessions end when the reactor stops."""
        if not self._watching:
            self._watching = True
            self.reactor.addSystemEventTrigger("before", "shutdown", self._stop)

    def keep(self, session: Session) -> None:
        """Close a session when the reactor stops, if it is still open then."""
        self._sessions.add(session)
        session.when_closed().addCallback(lambda _: self._sessions.discard(session))

    def employ(self, worker: Worker) -> None:
        """Let a thread work whenever it waits for a call, until `dismiss`."""
        self._workers.append(worker)

    def dismiss(self, worker: Worker) -> None:
        """Do not let its thread work any more."""
        if worker in self._workers:
            self._workers.remove(worker)

    def wake(self, worker: Worker) -> None:
        """Let a thread work now, if it waits for a call; else it will when it does."""
        calls = self._waiting.get(worker.ident)
        if calls:
            calls[-1].hand(worker.work)

    def waits(self, call: Call[Any]) -> None:
        """Note that a thread waits for this call."""
        self._waiting.setdefault(call.ident, []).append(call)
        for worker in self._workers:
            if worker.ident == call.ident:
                call.hand(worker.work)

    def waits_no_more(self, call: Call[Any]) -> None:
        """Note that the call has ended."""
        calls = self._waiting.get(call.ident, [])
        if call in calls:
            calls.remove(call)
        if not calls:
            self._waiting.pop(call.ident, None)

    def _stop(self) -> Deferred[None]:
        with self._lock:
            self._stopped = True
        # This ends the calls that wait for a session; the others end in _release.
        closing = [session.abort() for session in list(self._sessions)]
        return gatherResults(closing).addCallback(self._release)

    def _release(self, _: object) -> None:
        with self._lock:
            calls = list(self._calls)
        for call in calls:
            call.cancel(_over())


class Call(Generic[T]):
    """
    One call into the reactor's thread, and the thread that waits for it.

    While it waits, that thread runs the functions handed to it: those that may block,
    or belong to the caller.

    :ivar ident: which thread.
    """

    def __init__(self, thread: ReactorThread) -> None:
        self._thread = thread
        self.ident = threading.get_ident()
        # Functions that the waiting thread runs; None: the call has ended.
        self._work: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._answer: Deferred[T] | None = None
        self._ended = False
        self._outcome: T | Failure | None = None

    def run(
        self, function: Callable[P, Deferred[T]], *args: P.args, **named: P.kwargs
    ) -> T:
        """
        Call a function in the reactor's thread, and wait for its Deferred.

        Anything that ends the waiting earlier, such as Ctrl-C, cancels the Deferred.
        """
        self._thread.check()
        self._thread.register(self)
        try:
            self._thread.post(self._begin, lambda: function(*args, **named))
            while (work := self._next()) is not None:
                work()
        except BaseException:
            self._thread.post(self._forget)
            raise
        return self._result()

    def _next(self) -> Callable[[], object] | None:
        while True:
            try:
                return self._work.get(timeout=_LOOK_UP)
            except Empty:
                continue

    def _result(self) -> T:
        outcome, self._outcome = self._outcome, None
        if not isinstance(outcome, Failure):
            return outcome  # type: ignore[return-value]
        try:
            outcome.raiseException()
        finally:
            # Otherwise the traceback and this frame would keep each other alive.
            del outcome

    # -- in the reactor's thread

    def hand(self, work: Callable[[], object]) -> None:
        """Let the waiting thread run this; if it raises, the call is cancelled."""
        self._work.put(work)

    def ask(self, question: Callable[[], Any]) -> Deferred[Any]:
        """
        Call a function in the waiting thread.

        :return: fires with what it returns, or fails with what it raises; a Deferred
            or a coroutine that it returns is waited for in the reactor's thread.
        """
        answer: Deferred[Any] = Deferred()

        def work() -> None:
            try:
                reply = question()
            except Exception:  # noqa: BLE001 - whatever it is, it is the answer
                reply = Failure()
            self._thread.post(
                lambda: maybeDeferred(lambda: reply).chainDeferred(answer)
            )

        self.hand(work)
        return answer

    def end(self, outcome: T | Failure) -> None:
        """Give the waiting thread the outcome, unless it has one already."""
        if self._ended:
            return
        self._ended = True
        self._outcome = outcome
        self._thread.unregister(self)
        self._thread.waits_no_more(self)
        self._work.put(None)

    def cancel(self, reason: Exception) -> None:
        """Stop the call; the waiting thread raises this."""
        self.end(Failure(reason))
        if self._answer is not None:
            self._answer.cancel()

    def _forget(self) -> None:
        """Stop the call: no thread waits for it any more."""
        self.cancel(CancelledError())
        # A session that no caller received ends with the last reference to it.
        self._outcome = None

    def _begin(self, function: Callable[[], Deferred[T]]) -> None:
        if self._ended:
            return
        self._thread.watch()
        self._thread.waits(self)
        self._answer = maybeDeferred(function)
        self._answer.addBoth(self.end)


# One for each reactor, in each process that has used it or was forked off later.
_KNOWN: dict[Any, ReactorThread] = {}


def _start() -> None:
    """Let crochet run the reactor, unless the application runs it."""
    try:
        import crochet
    except ImportError as error:
        raise ImportError(
            "pop3connect.blocking needs crochet to run the reactor in a thread: "
            "pip install 'pop3connect[blocking]'"
        ) from error
    crochet.setup()


def _refuse_own_thread() -> None:
    if threadable.isInIOThread():
        raise UsageError(
            "a blocking call in the reactor's own thread would wait for itself for "
            "ever: await pop3connect.connect(...) there, or block in another thread, "
            "with twisted.internet.threads.deferToThread"
        )


def _refuse_dead_thread(*, running: bool) -> None:
    """Raise an error in a fork, or if the reactor has ended."""
    alive = {thread.ident for thread in threading.enumerate()}
    if threadable.ioThread is not None and threadable.ioThread not in alive:
        raise _forked() if running else _over()


def _forked() -> UsageError:
    return UsageError(
        "the reactor runs in the process that this one was forked from, and a fork "
        "does not copy its thread: open sessions (and call crochet.setup()) only "
        "after the fork, in the worker process itself"
    )


def _over() -> ConnectionLostError:
    return ConnectionLostError(
        "the reactor has been stopped, which has ended all sessions; open sessions "
        "only while the reactor runs"
    )
