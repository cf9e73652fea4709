"""
Runs operations on a database in a thread, in groups: one commit, and so one wait for
the disk, for all operations that wait.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import attrs
import sqlalchemy as sa
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure

__all__ = ["GROUP", "Operation", "Worker"]

T = TypeVar("T")

Operation = Callable[[sa.Connection], T]
"""Reads or writes, within a transaction that its caller begins and ends."""

GROUP = 500
"""The most operations in a group, so that the first does not wait long for the last."""


@attrs.define(eq=False)
class _Job:
    name: str
    operation: Operation[Any]
    lasting: bool
    done: Deferred[Any]


class Worker:
    """
    A thread and its connection to the database.

    Each operation of a group runs in a savepoint, so that one that fails does not fail
    the others; one that is alone needs none.  If the database itself fails, the whole
    group does, and nothing of it is kept.

    :param connect: opens the connection.
    :param reactor: in whose thread the Deferreds fire; ``None``: no thread is started,
        and `submit` runs the operation.
    :param explain: turns an error of the database into one for people, or returns
        ``None`` if it concerns a single operation.
    :param hook: called with ``"before NAME"`` and ``"after NAME"`` around each commit,
        for each name in the group.
    :param wait_for_disk: called before each group with the connection and whether its
        commit is to wait for the disk.
    """

    def __init__(
        self,
        name: str,
        connect: Callable[[], sa.Connection],
        reactor: IReactorFromThreads | None,
        explain: Callable[[BaseException], Exception | None],
        hook: Callable[[str], None] | None = None,
        wait_for_disk: Callable[[sa.Connection, bool], None] | None = None,
    ) -> None:
        self._connect = connect
        self._reactor = reactor
        self._explain = explain
        self._hook = hook
        self._wait_for_disk = wait_for_disk
        self._connection: sa.Connection | None = None
        self._jobs: deque[_Job] = deque()
        self._change = threading.Condition()
        self._closing: Deferred[None] | None = None
        self._since: float | None = None
        if reactor is not None:
            # A daemon: the database needs no orderly end, and a program that ends by an
            # exception must not be kept by it.
            threading.Thread(target=self._work, name=name, daemon=True).start()

    @property
    def stalled(self) -> float:
        """For how many seconds it has worked on the same group; 0.0: it is idle."""
        since = self._since
        return 0.0 if since is None else time.monotonic() - since

    def submit(
        self, name: str, operation: Operation[T], *, lasting: bool = True
    ) -> Deferred[T]:
        """
        Run an operation; the Deferred fires when its group is committed.

        An operation whose Deferred is cancelled before it begins is not run.

        :param lasting: whether it has to survive a loss of power once the Deferred has
            fired.  It survives the end of the process in any case.
        """
        done: Deferred[T] = Deferred()
        job = _Job(name, operation, lasting, done)
        with self._change:
            if self._closing is not None:
                raise RuntimeError("the journal is closed")
            self._jobs.append(job)
            self._change.notify()
        if self._reactor is None:
            self._take_group()
        return done

    def close(self) -> Deferred[None]:
        """Run the operations that wait, and close the connection."""
        with self._change:
            if self._closing is None:
                self._closing = Deferred()
                self._change.notify()
            closing = self._closing
        if self._reactor is None and not closing.called:
            self._disconnect()
            closing.callback(None)
        return closing

    def _work(self) -> None:
        while True:
            with self._change:
                while not self._jobs and self._closing is None:
                    self._change.wait()
                ended = not self._jobs
            if ended:
                break
            self._take_group()
        self._disconnect()
        self._fire([(self._closing, None)])

    def _take_group(self) -> None:
        group: list[_Job] = []
        with self._change:
            while self._jobs and len(group) < GROUP:
                job = self._jobs.popleft()
                if not job.done.called:
                    group.append(job)
        if not group:
            return
        self._since = time.monotonic()
        try:
            outcomes = self._run(group)
        except BaseException as error:  # noqa: BLE001 - each caller gets it
            outcomes = [Failure(self._explain(error) or error) for _ in group]
            # What a failed commit leaves behind is not known; a new connection knows.
            self._disconnect()
        finally:
            self._since = None
        self._fire([(job.done, end) for job, end in zip(group, outcomes, strict=True)])

    def _run(self, group: list[_Job]) -> list[object]:
        if self._connection is None:
            self._connection = self._connect()
        connection = self._connection
        outcomes: list[object] = []
        names = list(dict.fromkeys(job.name for job in group))
        if self._wait_for_disk is not None:
            self._wait_for_disk(connection, any(job.lasting for job in group))
        with connection.begin() as transaction:
            if len(group) == 1:
                undo = transaction.rollback
                outcomes.append(self._attempt(connection, group[0], undo))
            else:
                outcomes += [self._in_savepoint(connection, job) for job in group]
            if not transaction.is_active:
                return outcomes
            self._call_hook("before", names)
            transaction.commit()
        self._call_hook("after", names)
        return outcomes

    def _in_savepoint(self, connection: sa.Connection, job: _Job) -> object:
        execute = connection.exec_driver_sql
        execute("SAVEPOINT operation")
        undo = partial(execute, "ROLLBACK TO SAVEPOINT operation")
        outcome = self._attempt(connection, job, undo)
        execute("RELEASE SAVEPOINT operation")
        return outcome

    def _attempt(
        self, connection: sa.Connection, job: _Job, undo: Callable[[], object]
    ) -> object:
        try:
            return job.operation(connection)
        except Exception as error:
            if self._explain(error) is not None:
                raise
            undo()
            return Failure()

    def _call_hook(self, moment: str, names: list[str]) -> None:
        if self._hook is not None:
            for name in names:
                self._hook(f"{moment} {name}")

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except sa.exc.DBAPIError:
                connection.invalidate()

    def _fire(self, outcomes: list[tuple[Deferred[Any] | None, object]]) -> None:
        if self._reactor is None:
            _fire(outcomes)
        else:
            self._reactor.callFromThread(_fire, outcomes)


def _fire(outcomes: list[tuple[Deferred[Any] | None, object]]) -> None:
    for done, outcome in outcomes:
        # One that was cancelled while it ran has its error already.
        if done is None or done.called:
            continue
        if isinstance(outcome, Failure):
            done.errback(outcome)
        else:
            done.callback(outcome)
