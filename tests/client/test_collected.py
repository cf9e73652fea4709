"""
The garbage collector closes coroutines: in any thread, and in the middle of anything.

So nothing happens there and then, but in a turn of the reactor's.
"""

from __future__ import annotations

import gc
import sys
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from pop3connect import Connector, Handle

from ..support.memory import SessionTestCase


class Unraisable:
    """
    Keeps what Python can only print, such as "coroutine ignored GeneratorExit".
    """

    def __init__(self, test: SynchronousTestCase) -> None:
        self.seen: list[str] = []
        test.patch(sys, "unraisablehook", lambda args: self.seen.append(str(args)))


class HandleTests(SessionTestCase):
    """`Handle`, used by a coroutine that is collected"""

    def setUp(self) -> None:
        super().setUp()
        self.unraisable = Unraisable(self)

    def test_collected_block_aborts_the_session_in_the_next_turn(self) -> None:
        async def work(handle: Handle) -> None:
            async with handle:
                await Deferred()

        handle = self.log_in()
        working: Deferred[None] | None = Deferred.fromCoroutine(work(handle))
        self.pending(working)
        working = None
        gc.collect()
        self.assertTrue(self.server.transport.connected)
        self.assertFalse(self.server.transport.aborting)
        self.clock.advance(0)
        self.assertTrue(self.server.transport.aborting)
        self.assertClosed()
        self.assertEqual(self.unraisable.seen, [])

    def test_collected_run_drops_its_messages_in_the_next_turn(self) -> None:
        async def work(handle: Handle) -> None:
            async for _ in handle.messages([1, 2]):
                await Deferred()

        handle = self.log_in("PIPELINING")
        working: Deferred[None] | None = Deferred.fromCoroutine(work(handle))
        self.server.expect(b"RETR 1\r\nRETR 2", b"+OK\r\none\r\n.\r\n+OK\r\ntw")
        self.pending(working)
        reserved = handle._budget.used
        working = None
        gc.collect()
        self.assertEqual(handle._budget.used, reserved)
        self.clock.advance(0)
        self.assertEqual(handle._budget.used, 0)
        asked = handle.noop()
        self.server.expect(b"NOOP")
        self.server.say(b"o\r\n.\r\n+OK\r\n")
        self.assertIsNone(self.result(asked))
        self.assertEqual(self.unraisable.seen, [])


class Transport(StringTransport):
    """
    Notes what is done to it where the test can see it when all else is collected.
    """

    def __init__(self, done: list[str]) -> None:
        super().__init__()
        self.done = done

    def abortConnection(self) -> None:
        self.done.append("abort")

    def loseConnection(self) -> None:
        self.done.append("lose")


@implementer(IStreamClientEndpoint)
class Endpoint:
    """
    Connects to nobody.
    """

    def __init__(self, done: list[str]) -> None:
        self.transport = Transport(done)
        self.protocol: Any = None

    def connect(self, factory: Any) -> Deferred[Any]:
        self.protocol = factory.buildProtocol(None)
        self.protocol.makeConnection(self.transport)
        return succeed(self.protocol)


class ForgottenTests(SynchronousTestCase):
    """Sessions to which nothing refers any more"""

    def setUp(self) -> None:
        self.unraisable = Unraisable(self)

    def test_collected_login_ends_the_connection_in_the_next_turn(self) -> None:
        done: list[str] = []
        clock = Clock()

        def forget() -> None:
            endpoint = Endpoint(done)
            connector = Connector(
                "pop.example.com", endpoint=endpoint, reactor=clock, capa=False
            )
            connector.connect("ada", Deferred)
            endpoint.protocol.dataReceived(b"+OK ready\r\n")
            # It waits for the password, and the server owes nothing.
            self.assertEqual(clock.getDelayedCalls(), [])

        forget()
        gc.collect()
        self.assertEqual(done, [])
        clock.advance(0)
        self.assertEqual(done, ["abort"])
        self.assertEqual(clock.getDelayedCalls(), [])
        self.assertEqual(self.unraisable.seen, [])

    def test_collected_disconnect_does_nothing(self) -> None:
        done: list[str] = []

        def forget() -> None:
            endpoint = Endpoint(done)
            connector = Connector(
                "pop.example.com", endpoint=endpoint, reactor=Clock(), capa=False
            )
            opening = connector.connect("ada", "lovelace")
            for _ in range(3):
                endpoint.protocol.dataReceived(b"+OK\r\n")
            self.successResultOf(opening).disconnect()
            self.assertTrue(endpoint.transport.value().endswith(b"QUIT\r\n"))

        forget()
        gc.collect()
        self.assertEqual(done, [])
        self.assertEqual(self.unraisable.seen, [])
