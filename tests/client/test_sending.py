"""
The next command is sent in the turn of the reactor in which a reply was received.
"""

from __future__ import annotations

from typing import Any

from twisted.internet import main
from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IWriteDescriptor
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import directlyProvides

from pop3connect.client.sending import descriptor, send_now

from ..support.certificates import ServerTLS
from ..support.memory import SessionTestCase


class Writers:
    """The part of a reactor that knows which descriptors have something to write."""

    def __init__(self) -> None:
        self.waiting: set[Any] = set()
        self.addWriter = self.waiting.add
        self.removeWriter = self.waiting.discard
        self.removeReader = self.waiting.discard


class Descriptor(FileDescriptor):
    """Twisted's buffer, above a connection that takes some bytes at a time."""

    def __init__(self, reactor: Any, takes: int) -> None:
        super().__init__(reactor)
        self.connected = True
        self.takes = takes
        self.sent = b""

    def writeSomeData(self, data: bytes) -> Any:
        if self.takes < 0:
            return main.CONNECTION_LOST
        taken = bytes(data[: self.takes])
        self.sent += taken
        return len(taken)


class BufferTests(SynchronousTestCase):
    """`send_now`, and what the reactor does after it."""

    def written(self, takes: int) -> Descriptor:
        self.reactor = Writers()
        made = Descriptor(self.reactor, takes)
        made.write(b"NOOP\r\n")
        self.assertEqual(made.sent, b"")
        return made

    def test_all_is_sent_and_the_reactor_has_nothing_to_do(self) -> None:
        made = self.written(100)
        send_now(made)
        self.assertEqual(made.sent, b"NOOP\r\n")
        self.assertEqual(self.reactor.waiting, set())

    def test_rest_is_sent_by_the_reactor_before_what_is_written_later(self) -> None:
        made = self.written(4)
        send_now(made)
        self.assertEqual(made.sent, b"NOOP")
        self.assertEqual(self.reactor.waiting, {made})
        made.takes = 100
        made.write(b"STAT\r\n")
        made.doWrite()
        self.assertEqual(made.sent, b"NOOP\r\nSTAT\r\n")

    def test_full_connection_takes_nothing_and_loses_nothing(self) -> None:
        made = self.written(0)
        send_now(made)
        self.assertEqual(self.reactor.waiting, {made})
        made.takes = 100
        made.doWrite()
        self.assertEqual(made.sent, b"NOOP\r\n")

    def test_reactor_is_told_of_a_lost_connection(self) -> None:
        made = self.written(-1)
        send_now(made)
        self.assertEqual(self.reactor.waiting, {made})
        self.assertIs(made.doWrite(), main.CONNECTION_LOST)

    def test_connection_that_was_to_be_closed_is_closed_by_the_reactor(self) -> None:
        made = self.written(100)
        made.loseConnection()
        send_now(made)
        self.assertEqual(made.sent, b"NOOP\r\n")
        self.assertEqual(self.reactor.waiting, {made})
        self.assertIs(made.doWrite(), main.CONNECTION_DONE)

    def test_transport_that_only_looks_like_a_descriptor_is_none(self) -> None:
        class Overlapped:
            """Like the transports of IOCP."""

            def doWrite(self) -> None:
                """Begin to write."""

        self.assertIsNone(descriptor(Overlapped()))
        made = self.written(100)
        self.assertIs(descriptor(made), made)


class SessionTests(SessionTestCase):
    """When a session sends at once."""

    def setUp(self) -> None:
        super().setUp()
        self.times = 0
        transport: Any = self.server.transport
        directlyProvides(transport, IWriteDescriptor)
        transport.doWrite = self.do_write

    def do_write(self) -> None:
        self.times += 1

    def sent_at_once(self) -> int:
        """Return how often the transport was asked to since the last call."""
        times, self.times = self.times, 0
        return times

    def test_command_is_sent_at_once_if_a_reply_led_to_it(self) -> None:
        handle = self.log_in()
        self.assertEqual(self.sent_at_once(), 4)
        stat = handle.noop().addCallback(lambda _: handle.stat())
        # The program may have more to say before the reactor has its turn.
        self.assertEqual(self.sent_at_once(), 0)
        self.server.expect(b"NOOP", b"+OK\r\n")
        self.assertEqual(self.sent_at_once(), 1)
        self.server.expect(b"STAT", b"+OK 2 320\r\n")
        self.assertEqual(self.sent_at_once(), 0)
        self.assertEqual(self.result(stat), (2, 320))

    def test_commands_of_one_delivery_are_sent_together(self) -> None:
        handle = self.log_in("PIPELINING")
        self.sent_at_once()
        asked: list[Deferred[Any]] = []

        def ask(_: object) -> None:
            asked.extend((handle.noop(), handle.stat(), handle.size(1)))

        handle.noop().addCallback(ask)
        self.server.expect(b"NOOP", b"+OK\r\n")
        self.assertEqual(self.sent_at_once(), 1)
        self.assertEqual(self.server.heard(), b"NOOP\r\nSTAT\r\nLIST 1\r\n")
        self.server.say(b"+OK\r\n+OK 2 320\r\n+OK 1 120\r\n")
        self.assertEqual([self.result(one) for one in asked], [None, (2, 320), 120])

    def test_ended_session_leaves_its_transport_alone(self) -> None:
        handle = self.log_in()
        self.sent_at_once()
        replies: list[Deferred[Any]] = []

        def leave(_: object) -> None:
            replies.append(handle.stat().addErrback(lambda _: None))
            handle.abort()

        handle.noop().addCallback(leave)
        self.server.expect(b"NOOP", b"+OK\r\n")
        self.assertEqual(self.sent_at_once(), 0)
        self.result(replies[0])

    def test_tls_is_left_to_the_reactor(self) -> None:
        opening = self.open(secure=2, verify=False)
        self.server.say(b"+OK ready\r\n")
        self.server.expect(b"CAPA", b"+OK\r\nSTLS\r\n.\r\n")
        self.server.expect(b"STLS", b"+OK\r\n")
        self.server.start_tls(ServerTLS())
        self.sent_at_once()
        self.server.expect(b"CAPA", b"+OK\r\nUSER\r\n.\r\n")
        self.server.expect(b"USER ada", b"+OK\r\n")
        self.server.expect(b"PASS lovelace", b"+OK\r\n")
        self.server.expect(b"CAPA", b"+OK\r\nUSER\r\n.\r\n")
        self.result(opening)
        self.assertEqual(self.sent_at_once(), 0)
