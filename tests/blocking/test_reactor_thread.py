"""Calls into the reactor's thread, and what becomes of who waits for them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail, gatherResults, succeed
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from pop3connect import ConnectionLostError, UsageError
from pop3connect.blocking import BlockingHandle, connect
from pop3connect.blocking.reactor_thread import Call, ReactorThread

from ..support.loopback import PASSWORD, USERS, LoopbackTestCase, reactor

USER = USERS[0]


class Stoppable:
    """Trial's reactor, which a test cannot stop, as one that it can."""

    running = True

    def __init__(self) -> None:
        self._triggers: list[Callable[[], Deferred[Any]]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)

    def addSystemEventTrigger(
        self, phase: str, event: str, trigger: Callable[[], Deferred[Any]]
    ) -> None:
        assert (phase, event) == ("before", "shutdown")
        self._triggers.append(trigger)

    def stop(self) -> Deferred[Any]:
        return gatherResults([trigger() for trigger in self._triggers])


class CallTests(TestCase):
    """`ReactorThread.call` and `Call`"""

    timeout = 30

    def setUp(self) -> None:
        self.thread = ReactorThread(Stoppable())

    async def test_a_function_is_called_in_the_reactors_thread(self) -> None:
        def function(*args: object, **named: object) -> Deferred[Any]:
            return succeed((threading.current_thread(), args, named))

        self.assertEqual(
            await deferToThread(self.thread.call, function, 1, two=2),
            (threading.current_thread(), (1,), {"two": 2}),
        )

    async def test_error_of_function_is_raised_in_the_calling_thread(self) -> None:
        for function in (lambda: fail(KeyError("a")), lambda: {}["a"]):
            await self.assertFailure(
                deferToThread(self.thread.call, function), KeyError
            )

    async def test_handed_work_runs_in_calling_thread_before_call_returns(self) -> None:
        call = Call[str](self.thread)
        done: list[object] = []

        def function() -> Deferred[str]:
            call.hand(lambda: done.append(threading.current_thread()))
            call.hand(lambda: done.append("more"))
            return succeed("end")

        def block() -> None:
            done.append(call.run(function))
            done.append(threading.current_thread())

        await deferToThread(block)
        self.assertEqual(done, [done[3], "more", "end", done[3]])
        self.assertIsNot(done[3], threading.current_thread())

    async def test_error_in_handed_work_cancels_the_call(self) -> None:
        call = Call[None](self.thread)
        cancelled: Deferred[object] = Deferred()

        def function() -> Deferred[None]:
            call.hand(lambda: {}["a"])
            return Deferred(lambda _: cancelled.callback(None))

        await self.assertFailure(deferToThread(call.run, function), KeyError)
        await cancelled

    async def test_call_fails_without_running_if_reactor_stops_first(self) -> None:
        begun: list[object] = []

        def function() -> Deferred[None]:
            begun.append(None)
            return succeed(None)

        def block() -> None:
            # So that there is something to stop.
            self.thread.call(succeed, None)
            # The reactor is busy until the call is in its queue, after the stop.
            queued = threading.Event()
            reactor.callFromThread(queued.wait, 10)
            reactor.callFromThread(self.thread.reactor.stop)
            call = Call[None](self.thread)
            call.hand(queued.set)
            call.run(function)

        await self.assertFailure(deferToThread(block), ConnectionLostError)
        self.assertEqual(begun, [])

    async def test_ask_gives_result_or_error_of_function_or_coroutine(self) -> None:
        """Their answers, also those to wait for, and errors."""

        async def later() -> str:
            return "later"

        for question, expected in [(lambda: "now", "now"), (later, "later")]:
            call = Call[Any](self.thread)
            self.assertEqual(
                await deferToThread(call.run, call.ask, question), expected
            )
        call = Call[Any](self.thread)
        await self.assertFailure(
            deferToThread(call.run, call.ask, lambda: {}["a"]), KeyError
        )

    def test_call_in_the_reactor_thread_is_refused(self) -> None:
        self.assertRaises(UsageError, self.thread.call, succeed, None)

    async def test_find_returns_one_instance_per_reactor(self) -> None:
        ours, theirs = Stoppable(), Stoppable()
        found = [
            await deferToThread(ReactorThread.find, one) for one in (ours, theirs, ours)
        ]
        self.assertIs(found[0], found[2])
        self.assertIsNot(found[0], found[1])
        self.assertIs((await deferToThread(ReactorThread.find)).reactor, reactor)


class StopTests(LoopbackTestCase):
    """The reactor stops."""

    def setUp(self) -> None:
        super().setUp()
        self.reactor = Stoppable()

    def open(self, password: Any = PASSWORD) -> BlockingHandle:
        return connect(self.server, USER, password, reactor=self.reactor)

    async def test_reactor_stop_closes_session_and_fails_pending_calls(self) -> None:
        self.factory.silent = (b"NOOP",)
        stuck = self.factory.when_stuck()
        handle = await deferToThread(self.open)
        # It has to wait already when the reactor stops, and threads take their time.
        asked: Deferred[None] = Deferred()
        when_closed = handle._handle.when_closed

        def ask() -> Deferred[None]:
            reactor.callLater(0, asked.callback, None)
            return when_closed()

        self.patch(handle._handle, "when_closed", ask)
        gone = deferToThread(handle.when_closed)
        waiting = deferToThread(handle.noop)
        await asked
        await stuck
        await self.reactor.stop()
        await gone
        await self.assertFailure(waiting, ConnectionLostError)
        await self.factory.when_left()

    async def test_calls_and_connect_fail_after_reactor_stop(self) -> None:
        handle = await deferToThread(self.open)
        await self.reactor.stop()
        for call in (handle.stat, self.open):
            error = await self.assertFailure(deferToThread(call), ConnectionLostError)
            self.assertIn("reactor", str(error))

    async def test_reactor_stop_fails_a_pending_connect(self) -> None:
        asked: Deferred[None] = Deferred()

        async def password() -> str:
            asked.callback(None)
            await Deferred()
            raise AssertionError("nobody answered")

        connecting = deferToThread(self.open, password)
        await asked
        await self.reactor.stop()
        error = await self.assertFailure(connecting, ConnectionLostError)
        self.assertIn("reactor", str(error))
        await self.factory.when_left()
