"""
The acknowledgement that a server may be waiting for (Linux).
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pop3connect.client.acknowledge import acknowledge, tcp_socket

from ..support.memory import SessionTestCase

QUICKACK = getattr(socket, "TCP_QUICKACK", None)


class Recording(socket.socket):
    """A socket that remembers which options were set."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.options: list[Any] = []

    def setsockopt(self, *option: Any) -> None:
        self.options.append(option)
        super().setsockopt(*option)


class Handles:
    """A transport that has a handle."""

    def __init__(self, handle: Any) -> None:
        self.getHandle = lambda: handle


class SocketTests(SynchronousTestCase):
    """Which transports have a socket for it."""

    if QUICKACK is None:
        skip = "this platform has no TCP_QUICKACK"

    def test_tcp_socket_of_either_family_is_found(self) -> None:
        for family in (socket.AF_INET, socket.AF_INET6):
            with socket.socket(family) as connected:
                self.assertIs(tcp_socket(Handles(connected)), connected)

    def test_other_transports_have_none(self) -> None:
        with socket.socket(socket.AF_UNIX) as other:
            for transport in (object(), Handles(None), Handles(other), None):
                self.assertIsNone(tcp_socket(transport))

    def test_socket_that_was_closed_is_no_error(self) -> None:
        connected = socket.socket()
        connected.close()
        acknowledge(connected)


class SessionTests(SessionTestCase):
    """When a session asks for it."""

    if QUICKACK is None:
        skip = "this platform has no TCP_QUICKACK"

    def setUp(self) -> None:
        super().setUp()
        self.socket = Recording()
        self.addCleanup(self.socket.close)
        self.server.transport.getHandle = lambda: self.socket  # type: ignore[attr-defined]

    def asked(self) -> int:
        """Return how often it was asked for since the last call."""
        found = self.socket.options.count((socket.IPPROTO_TCP, QUICKACK, 1))
        self.socket.options.clear()
        return found

    def test_first_piece_of_a_reply_is_acknowledged_at_once(self) -> None:
        handle = self.log_in()
        self.asked()
        message = handle.retrieve(1)
        self.server.say(b"+OK 5 octets\r\n")
        self.assertEqual(self.asked(), 1)
        self.server.say(b"mail\r\n")
        self.assertEqual(self.asked(), 1)
        self.server.say(b".\r\n")
        self.assertEqual(self.asked(), 0)
        self.assertEqual(self.result(message), b"mail\r\n")

    def test_whole_replies_and_full_buffers_cost_nothing(self) -> None:
        handle = self.log_in()
        self.asked()
        noop = handle.noop()
        self.server.say(b"+OK\r\n")
        self.result(noop)
        message = handle.retrieve(1)
        self.server.say(b"+OK\r\n" + b"x" * 65531)
        self.assertEqual(self.asked(), 0)
        self.server.say(b"\r\n.\r\n")
        self.assertEqual(len(self.result(message)), 65533)
        self.assertEqual(self.asked(), 0)
