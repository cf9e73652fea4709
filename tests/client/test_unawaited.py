"""
Deferreds whose failure may go unseen: `Handle.delete`, left alone or not.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Generator
from typing import Any

from twisted.internet.defer import (
    AlreadyCalledError,
    CancelledError,
    Deferred,
    DeferredList,
    DeferredLock,
    FirstError,
    ensureDeferred,
    gatherResults,
    inlineCallbacks,
    maybeDeferred,
    succeed,
)
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from pop3connect import CommandError, Committed, ConnectionLostError, Handle
from pop3connect.client.unawaited import UnawaitedDeferred

from ..support.acting import MailboxTestCase


class QuietError(Exception):
    """One that may go unseen."""


class LoudError(Exception):
    """One that may not."""


def failed(deferred: Deferred[Any], kind: type[Exception] = QuietError) -> None:
    deferred.errback(Failure(kind("told")))


async def _awaited(deferred: Deferred[Any]) -> Any:
    return await deferred


async def _gathered(deferred: Deferred[Any]) -> Any:
    return await gatherResults([succeed(None), deferred], consumeErrors=True)


@inlineCallbacks
def _yielded(deferred: Deferred[Any]) -> Generator[Deferred[Any], Any, Any]:
    return (yield deferred)


def _timed(deferred: Deferred[Any]) -> Deferred[Any]:
    return deferred.addTimeout(5, Clock())


def _chained(deferred: Deferred[Any]) -> Deferred[Any]:
    other: Deferred[Any] = Deferred()
    deferred.chainDeferred(other)
    return other


def _returned_twice(deferred: Deferred[Any]) -> Deferred[Any]:
    outer: Deferred[Any] = succeed(None)
    inner: Deferred[Any] = succeed(None).addCallback(lambda _: deferred)
    return outer.addCallback(lambda _: inner)


WAYS: dict[str, Callable[[Deferred[Any]], Deferred[Any]]] = {
    "addErrback": lambda one: one.addErrback(lambda failure: failure),
    "addCallback": lambda one: one.addCallback(lambda result: result),
    "addBoth": lambda one: one.addBoth(lambda result: result),
    "addCallbacks": lambda one: one.addCallbacks(
        lambda result: result, lambda failure: failure
    ),
    "addTimeout": _timed,
    "chainDeferred": _chained,
    "await": lambda one: Deferred.fromCoroutine(_awaited(one)),
    "ensureDeferred": lambda one: ensureDeferred(_awaited(one)),
    "await gatherResults": lambda one: Deferred.fromCoroutine(_gathered(one)),
    "inlineCallbacks": _yielded,
    "gatherResults": lambda one: gatherResults([one], consumeErrors=True),
    "DeferredList": lambda one: DeferredList(
        [one], fireOnOneErrback=True, consumeErrors=True
    ),
    "maybeDeferred": lambda one: maybeDeferred(lambda: one).addBoth(
        lambda result: result
    ),
    "DeferredLock": lambda one: DeferredLock().run(lambda: one),
    "returned from a callback": lambda one: succeed(None).addCallback(lambda _: one),
    "returned from a callback of a callback": _returned_twice,
}
"""All the ways to hear of a Deferred's result."""


class UnawaitedDeferredTests(SynchronousTestCase):
    """`UnawaitedDeferred`"""

    def make(self) -> UnawaitedDeferred[Any]:
        return UnawaitedDeferred((QuietError,))

    def logged(self) -> list[type[BaseException]]:
        gc.collect()
        return [failure.type for failure in self.flushLoggedErrors()]

    def error(self, deferred: Deferred[Any]) -> BaseException:
        error = self.failureResultOf(deferred).value
        if isinstance(error, FirstError):
            error = error.subFailure.value
        return error

    def test_quiet_error_is_dropped_if_nothing_is_attached(self) -> None:
        deferred = self.make()
        failed(deferred)
        del deferred
        self.assertEqual(self.logged(), [])

    def test_other_error_is_reported_if_nothing_is_attached(self) -> None:
        deferred = self.make()
        failed(deferred, LoudError)
        del deferred
        self.assertEqual(self.logged(), [LoudError])

    def test_error_is_heard_by_whatever_was_attached_before(self) -> None:
        for name, way in WAYS.items():
            for kind in (QuietError, LoudError):
                deferred = self.make()
                heard = way(deferred)
                self.assertNoResult(heard)
                failed(deferred, kind)
                self.assertIsInstance(self.error(heard), kind, name)
                del deferred, heard
                self.assertEqual(self.logged(), [], name)

    def test_error_is_heard_by_whatever_is_attached_afterwards(self) -> None:
        for name, way in WAYS.items():
            for kind in (QuietError, LoudError):
                deferred = self.make()
                failed(deferred, kind)
                heard = way(deferred)
                self.assertIsInstance(self.error(heard), kind, name)
                del deferred, heard
                self.assertEqual(self.logged(), [], name)

    def test_result_is_heard_by_whatever_is_attached_before_or_afterwards(self) -> None:
        for name, way in WAYS.items():
            expected: list[Any] = [3, [3], [(True, 3)], [None, 3]]
            for early in (True, False):
                deferred = self.make()
                if not early:
                    deferred.callback(3)
                heard = way(deferred)
                if early:
                    deferred.callback(3)
                self.assertIn(self.successResultOf(heard), expected, name)

    def test_error_is_reported_if_what_was_attached_does_not_handle_it(self) -> None:
        """As any Deferred does it: something was attached, so somebody should."""
        for early in (True, False):
            deferred = self.make()
            if not early:
                failed(deferred)
            deferred.addCallback(lambda _: None)
            if early:
                failed(deferred)
            del deferred
            self.assertEqual(self.logged(), [QuietError])

    def test_failure_result_of_finds_the_error(self) -> None:
        deferred = self.make()
        failed(deferred)
        self.failureResultOf(deferred, QuietError)

    def test_cancelling_before_the_error_fails_with_cancelled_error(self) -> None:
        deferred = self.make()
        deferred.cancel()
        self.failureResultOf(deferred, CancelledError)
        failed(deferred)

    def test_cancelling_after_the_error_changes_nothing(self) -> None:
        cancelled: list[object] = []
        deferred: UnawaitedDeferred[Any]
        deferred = UnawaitedDeferred((QuietError,), cancelled.append)
        failed(deferred)
        deferred.cancel()
        self.assertEqual(cancelled, [])
        self.failureResultOf(deferred, QuietError)

    def test_cancelled_error_is_reported_if_nothing_is_attached(self) -> None:
        """Only the kinds that were named are silent."""
        deferred = self.make()
        deferred.cancel()
        del deferred
        self.assertEqual(self.logged(), [CancelledError])

    def test_error_reaches_an_asyncio_future(self) -> None:
        for early in (True, False):
            loop = asyncio.new_event_loop()
            self.addCleanup(loop.close)
            deferred = self.make()
            if not early:
                failed(deferred)
            future = deferred.asFuture(loop)
            if early:
                failed(deferred)
            self.assertIsInstance(future.exception(), QuietError)

    def test_errback_accepts_an_exception_and_the_current_one(self) -> None:
        deferred = self.make()
        deferred.errback(QuietError("given"))
        self.failureResultOf(deferred, QuietError)
        deferred = self.make()
        try:
            raise QuietError("raised")
        except QuietError:
            deferred.errback()
        self.failureResultOf(deferred, QuietError)

    def test_second_failure_is_an_error_as_with_any_deferred(self) -> None:
        deferred = self.make()
        failed(deferred)
        self.assertRaises(AlreadyCalledError, failed, deferred)
        self.assertRaises(AlreadyCalledError, deferred.callback, None)
        self.failureResultOf(deferred, QuietError)


class DeleteTests(MailboxTestCase):
    """``delete()`` where the connection breaks at any point."""

    def logged(self) -> list[type[BaseException]]:
        gc.collect()
        return [failure.type for failure in self.flushLoggedErrors()]

    def break_at(self, octets: int, listen: Callable[[Handle], Any]) -> bool:
        """
        Run the README's loop over a connection that breaks, and return if it did.
        """
        server = self.serve()
        server.drop_after = octets
        ended: list[Any] = []

        async def program() -> None:
            async with await server.connect(auth="USER") as handle:
                async for message in handle.messages():
                    if message.error is None:
                        listen(handle.delete(message.number))  # type: ignore[arg-type]

        Deferred.fromCoroutine(program()).addBoth(ended.append)
        server.flush()
        self.assertEqual(len(ended), 1)
        if ended[0] is not None:
            ended[0].trap(ConnectionLostError)
        self.assertEqual(server.clock.getDelayedCalls(), [])
        return ended[0] is not None

    def test_readme_loop_logs_nothing_wherever_the_connection_breaks(self) -> None:
        octets = 0
        while self.break_at(octets, lambda _: None):
            octets += 7
            self.assertEqual(self.logged(), [], octets)
        self.assertGreater(octets, 1500)

    def test_attached_errback_hears_of_every_break(self) -> None:
        """What was attached is called once for each, with the loss or the result."""
        octets = 600
        heard: list[Any] = []
        asked: list[object] = []

        def listen(deleting: Any) -> None:
            asked.append(deleting)
            deleting.addBoth(heard.append)

        while self.break_at(octets, listen):
            octets += 13
        self.assertEqual(len(heard), len(asked))
        lost = [one for one in heard if one is not None]
        self.assertGreater(len(lost), 50)
        for failure in lost:
            failure.trap(ConnectionLostError)

    def test_refused_delete_is_reported_if_nothing_is_attached(self) -> None:
        server = self.serve()
        handle = self.open(server)
        handle.delete(9)
        server.flush()
        self.assertEqual(self.logged(), [CommandError])
        ending = handle.disconnect()
        server.flush()
        self.assertEqual(self.successResultOf(ending), Committed(frozenset()))

    def test_disconnect_reports_the_loss_that_delete_was_silent_about(self) -> None:
        server = self.serve()
        handle = self.open(server)
        handle.delete(1)
        self.successResultOf(self.flushed(server, handle.abort()))
        self.failureResultOf(handle.disconnect(), ConnectionLostError)
        self.assertEqual(self.logged(), [])

    def test_delete_after_the_end_returned_from_a_callback_fails_the_chain(
        self,
    ) -> None:
        server = self.serve()
        handle = self.open(server)
        self.successResultOf(self.flushed(server, handle.abort()))
        chain = succeed(None).addCallback(lambda _: handle.delete(1))
        self.failureResultOf(chain, ConnectionLostError)

    def flushed(self, server: Any, deferred: Deferred[Any]) -> Deferred[Any]:
        server.flush()
        return deferred
