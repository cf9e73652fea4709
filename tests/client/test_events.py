"""
The typed events of a session: which ones, in which order, and without secrets.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from pop3connect import (
    Connector,
    Handle,
    LoginError,
    POP3ClientFactory,
    ProtocolError,
    Secure,
    UsageError,
    api,
)
from pop3connect.events import (
    Closed,
    CommandSent,
    Connected,
    Event,
    MessageReceived,
    ReplyReceived,
    Secured,
)

from ..support.memory import NAME, Server, SessionTestCase, server_certificate


class EventsTestCase(SessionTestCase):
    """With a list of the events."""

    def _begin(self) -> None:
        super()._begin()
        self.events: list[Event] = []

    def take(self) -> list[Event]:
        """Return the events since the last call."""
        events, self.events[:] = list(self.events), []
        return events

    def logged_in(self, *capabilities: str, **options: Any) -> Handle:
        handle = self.log_in(*capabilities, events=self.events.append, **options)
        self.take()
        return handle

    def values(self, event: Event) -> tuple[Any, ...]:
        """Return the type and the values without session and server."""
        _, _, *rest = attrs.astuple(event, recurse=False)
        return type(event), *rest


class OrderTests(EventsTestCase):
    """
    What is told, and when.
    """

    def test_login_tells_each_command_and_reply_once(self) -> None:
        self.log_in("UIDL", events=self.events.append)
        self.assertEqual(
            [self.values(event) for event in self.events],
            [
                (Connected, "192.168.1.1:54321"),
                (ReplyReceived, None, None, True, None, 0.0),
                (CommandSent, "CAPA", None),
                (ReplyReceived, "CAPA", None, True, None, 0.0),
                (CommandSent, "USER", None),
                (ReplyReceived, "USER", None, True, None, 0.0),
                (CommandSent, "PASS", None),
                (ReplyReceived, "PASS", None, True, None, 0.0),
                (CommandSent, "CAPA", None),
                (ReplyReceived, "CAPA", None, True, None, 0.0),
            ],
        )

    def test_events_of_a_session_have_its_server_and_one_identifier(self) -> None:
        self.log_in(events=self.events.append)
        [session] = {event.session for event in self.events}
        self.assertRegex(session, "^[0-9a-f]{16}$")
        self.assertEqual({event.server for event in self.events}, {NAME})
        self.anew()
        self.log_in(events=self.events.append)
        self.assertNotEqual(self.events[0].session, session)

    def test_events_come_between_the_lines_of_the_status_procedure(self) -> None:
        told: list[Any] = []
        handle = self.log_in("PIPELINING", events=told.append, stsproc=told.append)
        del told[:]
        first, second = handle.retrieve(1), handle.delete(2)
        self.server.say(b"+OK\r\nhello\r\n.\r\n-ERR no\r\n")
        self.failureResultOf(second)
        self.result(first)
        self.assertEqual(
            [each if isinstance(each, str) else self.values(each) for each in told],
            [
                "C: RETR 1",
                (CommandSent, "RETR", 1),
                "C: DELE 2",
                (CommandSent, "DELE", 2),
                "S: +OK",
                (ReplyReceived, "RETR", 1, True, None, 0.0),
                "S: (7 octets)",
                (MessageReceived, "RETR", 1, 7, 0.0),
                "S: -ERR no",
                (ReplyReceived, "DELE", 2, False, None, 0.0),
            ],
        )

    def test_seconds_count_from_the_sending_of_the_same_command(self) -> None:
        handle = self.logged_in("PIPELINING")
        stat = handle.stat()
        self.clock.advance(2)
        # To a file: the status line of a short message is read with its end otherwise.
        retrieved = handle.retrieve(1, BytesIO())
        self.clock.advance(3)
        self.server.say(b"+OK 1 7\r\n+OK\r\nhel")
        self.clock.advance(4)
        self.server.say(b"lo\r\n.\r\n")
        self.result(stat)
        self.result(retrieved)
        told = [each for each in self.take() if not isinstance(each, CommandSent)]
        self.assertEqual(
            [self.values(event) for event in told],
            [
                (ReplyReceived, "STAT", None, True, None, 5.0),
                (ReplyReceived, "RETR", 1, True, None, 3.0),
                (MessageReceived, "RETR", 1, 7, 7.0),
            ],
        )

    def test_listing_is_not_a_message(self) -> None:
        handle = self.logged_in()
        rows = handle.list()
        self.server.say(b"+OK\r\n1 10\r\n.\r\n")
        self.result(rows)
        top = handle.top(1)
        self.server.say(b"+OK\r\na: b\r\n\r\n.\r\n")
        self.result(top)
        received = [each for each in self.take() if isinstance(each, MessageReceived)]
        self.assertEqual(
            [self.values(event) for event in received],
            [(MessageReceived, "TOP", 1, 8, 0.0)],
        )

    def test_message_streamed_to_a_consumer_is_told_too(self) -> None:
        handle = self.logged_in()
        size = handle.retrieve(1, BytesIO())
        self.server.say(b"+OK\r\nhello\r\n", size=3)
        self.server.say(b".\r\n")
        self.assertEqual(self.result(size), 7)
        self.assertEqual(
            self.values(self.take()[-1]), (MessageReceived, "RETR", 1, 7, 0.0)
        )

    def test_response_code_is_told(self) -> None:
        opening = self.open(events=self.events.append)
        self.server.say(b"+OK\r\n")
        self.server.expect(b"CAPA", b"-ERR what\r\n")
        self.server.expect(b"USER ada", b"+OK\r\n")
        self.server.expect(b"PASS lovelace", b"-ERR [IN-USE] later\r\n")
        self.server.expect(b"QUIT", b"+OK\r\n")
        self.error(opening, LoginError)
        codes = [
            (each.verb, each.code)
            for each in self.events
            if isinstance(each, ReplyReceived) and each.ok is False
        ]
        self.assertEqual(codes, [("CAPA", None), ("PASS", "IN-USE")])

    def test_sasl_challenge_is_neither_success_nor_failure(self) -> None:
        opening = self.open(events=self.events.append, auth="CRAM-MD5")
        self.server.say(b"+OK\r\n")
        self.server.expect(b"CAPA", b"+OK\r\nSASL CRAM-MD5\r\n.\r\n")
        self.server.expect(b"AUTH CRAM-MD5", b"+ PDFAYT4=\r\n")
        self.server.heard()
        self.server.say(b"+OK\r\n")
        self.server.expect(b"CAPA", b"-ERR\r\n")
        self.result(opening)
        self.assertEqual(
            [self.values(each) for each in self.events if "AUTH" in self.values(each)],
            [
                (CommandSent, "AUTH", None),
                (ReplyReceived, "AUTH", None, None, None, 0.0),
                (CommandSent, "AUTH", None),
                (ReplyReceived, "AUTH", None, True, None, 0.0),
            ],
        )

    def test_stls_tells_secured_before_the_next_command(self) -> None:
        opening = self.open(events=self.events.append, secure=Secure.STLS, verify=False)
        self.server.say(b"+OK\r\n")
        self.server.expect(b"CAPA", b"+OK\r\nSTLS\r\n.\r\n")
        self.server.expect(b"STLS", b"+OK\r\n")
        self.server.start_tls(server_certificate())
        kinds = [type(event) for event in self.events]
        self.assertEqual(kinds.count(Secured), 1)
        at = kinds.index(Secured)
        _, version, cipher, verified, seconds = self.values(self.events[at])
        self.assertIn(version, ("TLSv1.2", "TLSv1.3"))
        self.assertTrue(cipher)
        self.assertIs(verified, False)
        self.assertEqual(seconds, 0.0)
        self.assertEqual(self.values(self.events[at + 1]), (CommandSent, "CAPA", None))
        opening.addErrback(lambda _: None)
        opening.cancel()


class ClosedTests(EventsTestCase):
    """
    The last event.
    """

    def closed(self) -> Closed:
        event = self.take()[-1]
        assert isinstance(event, Closed)
        return event

    def test_after_quit_there_is_no_error(self) -> None:
        handle = self.logged_in()
        self.clock.advance(60)
        leaving = handle.disconnect()
        self.server.expect(b"QUIT", b"+OK\r\n")
        self.result(leaving)
        closed = self.closed()
        self.assertIsNone(closed.error)
        self.assertEqual(closed.seconds, 60.0)

    def test_error_is_what_the_callers_get(self) -> None:
        handle = self.logged_in()
        stat = handle.stat()
        self.server.say(b"nonsense\r\n")
        error = self.error(stat, ProtocolError)
        closed = self.closed()
        self.assertIsInstance(closed.error, ProtocolError)
        assert closed.error is not None
        self.assertEqual(closed.error.message, error.message)

    def test_loss_is_told_when_the_connection_is_gone(self) -> None:
        handle = self.logged_in()
        self.server.lose()
        self.assertIn("lost", str(self.closed().error))
        self.server.settle()
        self.assertEqual(self.take(), [])
        self.result(handle.when_closed())

    def test_abort_is_an_error(self) -> None:
        handle = self.logged_in()
        self.result(handle.abort())
        self.assertIn("abort()", str(self.closed().error))

    def test_nothing_is_told_without_a_connection(self) -> None:
        class Unreachable:
            def connect(self, factory: object) -> None:
                raise RuntimeError("no way")

        opening = self.open(events=self.events.append, endpoint=Unreachable())
        self.failureResultOf(opening)
        self.assertEqual(self.events, [])


class SecretTests(EventsTestCase):
    """
    What must not be in an event.
    """

    def test_no_event_shows_the_password_that_a_server_repeats(self) -> None:
        opening = self.open(events=self.events.append, stsproc=None)
        self.server.say(b"+OK\r\n")
        self.server.expect(b"CAPA", b"-ERR\r\n")
        self.server.expect(b"USER ada", b"+OK\r\n")
        self.server.expect(b"PASS lovelace", b"-ERR [LOVELACE] lovelace\r\n")
        self.server.expect(b"QUIT", b"-ERR [lovelace] lovelace\r\n")
        self.error(opening, LoginError)
        self.assertIn("PASS", repr(self.events))
        shown = "".join(map(repr, self.events)) + "".join(map(str, self.events))
        self.assertNotIn("lovelace", shown)

    def test_events_are_frozen(self) -> None:
        self.logged_in()
        with self.assertRaises(attrs.exceptions.FrozenInstanceError):
            Closed("s", NAME, None, 0.0).server = ""  # type: ignore[misc]


class FailingTests(EventsTestCase):
    """
    A function for events that raises.
    """

    def test_first_exception_is_logged_and_the_session_goes_on(self) -> None:
        def fail(event: Event) -> None:
            raise KeyError("of the test")

        handle = self.log_in(events=fail)
        stat = handle.stat()
        self.server.say(b"+OK 0 0\r\n")
        self.assertEqual(self.result(stat), (0, 0))
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_each_session_logs_its_first_exception(self) -> None:
        def fail(event: Event) -> None:
            raise KeyError("of the test")

        self.log_in(events=fail)
        self.anew()
        self.log_in(events=fail)
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 2)

    def test_status_procedure_that_raises_does_not_keep_events_back(self) -> None:
        def fail(line: str) -> None:
            raise KeyError("of the test")

        self.log_in(events=self.events.append, stsproc=fail)
        self.assertEqual(len(self.events), 10)
        self.flushLoggedErrors(KeyError)


class ActingTests(EventsTestCase):
    """
    What a function for events may do: anything, at every event.
    """

    def test_cancelling_at_any_event_of_a_login_closes_the_connection(self) -> None:
        # CAPA after the login is sent when the handle is there.
        for at in range(8):
            openings: list[Any] = []

            def act(event: Event, at: int = at, openings: Any = openings) -> None:
                self.events.append(event)
                if len(self.events) == at + 1 and openings:
                    openings[0].cancel()

            server, self.server.connect = self.server, self._connect_later  # type: ignore[method-assign]
            opening = self.open(events=act)
            openings.append(opening)
            self._connect_now()
            server.say(b"+OK\r\n")
            capa = b"+OK\r\nUSER\r\n.\r\n"
            for answer in (capa, b"+OK\r\n", b"+OK\r\n"):
                if server.heard() and not server.transport.lost:
                    server.say(answer)
            server.settle()
            self.failureResultOf(opening, CancelledError)
            self.assertTrue(server.transport.lost)
            self.assertIsInstance(self.events[-1], Closed)
            self.anew()

    def _connect_later(self, factory: Any) -> Any:
        self.factory = factory
        self.connecting: Any = Deferred(lambda _: self.fail("it has connected"))
        return self.connecting

    def _connect_now(self) -> None:
        self.server.client = self.factory.buildProtocol(None)
        self.server.client.makeConnection(self.server.transport)
        self.connecting.callback(self.server.client)

    def test_abort_when_secured_ends_the_session(self) -> None:
        opening: Any = None

        def act(event: Event) -> None:
            self.events.append(event)
            if isinstance(event, Secured):
                opening.cancel()

        opening = self.open(events=act, secure=Secure.TLS, verify=False)
        self.server.start_tls(server_certificate())
        self.failureResultOf(opening, CancelledError)
        self.assertEqual(
            [type(event) for event in self.events], [Connected, Secured, Closed]
        )

    def test_command_submitted_from_an_event_is_sent_in_its_turn(self) -> None:
        stats: list[Any] = []
        handle: Any = None

        def act(event: Event) -> None:
            if isinstance(event, MessageReceived):
                stats.append(handle.stat())

        handle = self.log_in(events=act)
        retrieved = handle.retrieve(1)
        self.server.expect(b"RETR 1", b"+OK\r\n.\r\n")
        self.assertEqual(self.result(retrieved), b"")
        self.server.expect(b"STAT", b"+OK 1 0\r\n")
        self.assertEqual(self.result(stats[0]), (1, 0))


class ConnectorTests(EventsTestCase):
    """
    Where the function is given.
    """

    def test_connector_uses_its_own_for_each_session(self) -> None:
        connector = Connector(
            "pop.example.com",
            endpoint=self.server,
            reactor=self.clock,
            events=self.events.append,
        )
        connector.connect("ada", "lovelace").addErrback(lambda _: None)
        self.server.say(b"+OK\r\n")
        self.assertEqual(len(self.take()), 3)

    def test_session_can_have_another_than_the_connector(self) -> None:
        connector = Connector(
            "pop.example.com",
            endpoint=self.server,
            reactor=self.clock,
            events=self.fail,
        )
        opening = connector.connect("ada", "lovelace", events=self.events.append)
        opening.addErrback(lambda _: None)
        self.assertEqual(len(self.take()), 1)

    def test_factory_uses_that_of_the_connector(self) -> None:
        connector = Connector(
            "pop.example.com",
            reactor=Clock(),
            endpoint=Server(),
            events=self.events.append,
        )
        factory = POP3ClientFactory(connector, "ada", "lovelace")
        factory.handle.addErrback(lambda _: None)
        protocol = factory.buildProtocol(None)
        assert protocol is not None
        protocol.makeConnection(StringTransport())
        protocol.dataReceived(b"+OK\r\n")
        self.assertEqual(
            [type(event) for event in self.take()],
            [Connected, ReplyReceived, CommandSent],
        )
        protocol.connectionLost()

    def test_connector_is_shared_by_calls_with_other_functions(self) -> None:
        """A lambda is another object in each call, and the TLS context is costly."""
        self.open(events=lambda event: None).addErrback(lambda _: None)
        connectors = len(api._connectors)
        self.server.lose()
        self.open(events=lambda event: None).addErrback(lambda _: None)
        self.assertEqual(len(api._connectors), connectors)

    def test_address_without_host_and_port_is_left_out(self) -> None:
        for peer, shown in (("::1", "[::1]:110"), (None, None)):
            self.server.transport.peerAddr = attrs.make_class("A", ["host", "port"])(
                peer, 110
            )
            self.open(events=self.events.append).addErrback(lambda _: None)
            self.assertEqual(self.values(self.take()[0]), (Connected, shown))
            self.anew()

    def test_what_cannot_be_called_is_a_usage_error(self) -> None:
        for bad in ("print", [print], 1, False):
            error = self.failureResultOf(self.open(events=bad)).value
            self.assertIsInstance(error, UsageError)
            self.assertIn("events must be a callable, or None, not", str(error))
        with self.assertRaises(UsageError):
            Connector("pop.example.com", events="print")  # type: ignore[arg-type]
