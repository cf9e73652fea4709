"""
`connect`: its arguments, how it connects, and the little that needs real sockets.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.endpoints import (
    UNIXClientEndpoint,
    UNIXServerEndpoint,
)
from twisted.internet.error import (
    ConnectionRefusedError,
    DNSLookupError,
    NoRouteError,
)
from twisted.internet.error import TimeoutError as ConnectTimeoutError
from twisted.internet.interfaces import (
    IHostnameResolver,
    IReactorPluggableNameResolver,
    IReactorUNIX,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer

from pop3connect import (
    ConnectError,
    Handle,
    POP3Error,
    Secure,
    TimedOutError,
    TLSError,
    UsageError,
    connect,
)

from .support.memory import Server, Transport
from .support.shows import shows


@implementer(IHostnameResolver)
class Resolver:
    """
    Knows these addresses, at once; ``None``: it never comes to an end.
    """

    def __init__(self, addresses: Sequence[str] | None) -> None:
        self.asked: list[str] = []
        self._addresses = addresses

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        *_: object,
        **__: object,
    ) -> Any:
        self.asked.append(hostName)
        self.complete = resolutionReceiver.resolutionComplete
        resolutionReceiver.resolutionBegan(None)  # type: ignore[arg-type]
        if self._addresses is not None:
            for host in self._addresses:
                kind = IPv6Address if ":" in host else IPv4Address
                resolutionReceiver.addressResolved(kind("TCP", host, portNumber))
            resolutionReceiver.resolutionComplete()


@implementer(IReactorPluggableNameResolver)
class Reactor(MemoryReactorClock):
    """
    A reactor without sockets, whose names are those of the test.
    """

    def __init__(self, addresses: Sequence[str] | None = ("192.0.2.7",)) -> None:
        super().__init__()
        self.nameResolver = self.resolver = Resolver(addresses)

    def attempts(self) -> list[tuple[str, int]]:
        return [(client[0], client[1]) for client in self.tcpClients]

    def accept(self, index: int = 0) -> tuple[Any, Transport]:
        """Let a connection come about."""
        protocol = self.tcpClients[index][2].buildProtocol(None)
        transport = Transport()
        protocol.makeConnection(transport)
        return protocol, transport

    def refuse(self, error: Exception, index: int = 0) -> None:
        """Let a connection not come about."""
        self.tcpClients[index][2].clientConnectionFailed(
            self.connectors[index], Failure(error)
        )


class ApiTestCase(SynchronousTestCase):
    """Calls `connect` with a reactor without sockets."""

    def setUp(self) -> None:
        self.reactor = Reactor()

    def open(self, server: Any = "pop.example.com", **options: Any) -> Deferred[Handle]:
        options.setdefault("username", "ada")
        options.setdefault("password", "lovelace")
        options.setdefault("reactor", self.reactor)
        return connect(server, **options)

    def give_up(self, opening: Deferred[Handle]) -> None:
        opening.cancel()
        self.failureResultOf(opening, CancelledError)
        self.assertEqual(self.reactor.getDelayedCalls(), [])


class ArgumentsTests(ApiTestCase):
    """What cannot be meant fails before anything is sent."""

    def refused(self, *arguments: Any, kind: Any = UsageError, **options: Any) -> str:
        endpoint = Server(self.reactor)
        for way in ({}, {"endpoint": endpoint}):
            # Never raised at once: who waits for the Deferred hears of it.
            opening = self.open(*arguments, **options, **way)
            error = self.failureResultOf(opening).value
            self.assertIsInstance(error, kind)
            self.assertIsInstance(error, POP3Error)
            self.assertIsNone(error.verb)
            # Not even a name was looked up.
            self.assertEqual(self.reactor.resolver.asked, [])
            self.assertEqual(self.reactor.attempts(), [])
            self.assertEqual(endpoint.connects, 0)
            self.assertEqual(self.reactor.getDelayedCalls(), [])
        return str(error)

    def test_invalid_server_is_a_usage_error(self) -> None:
        wrong: tuple[Any, ...] = (
            "",
            "   ",
            ":110",
            "pop example.com",
            "pop.example.com:",
            "pop..example.com",
            "-pop.example.com",
            "pop.example.com\r\nQUIT",
            "pop.example.com\0",
            "a" * 64 + ".example.com",
            "a." * 130 + "com",
            "192.0.2.256",
            "192.0.2",
            "[2001:db8::1",
            "2001:db8::1]",
            "[2001:db8::1]110",
            "[pop.example.com]:110",
            "2001:db8::zz",
            "pop3://pop.example.com",
            "ada@pop.example.com",
            None,
            110,
            b"pop.example.com",
            ("pop.example.com", 110),
        )
        for server in wrong:
            self.refused(server)

    def test_server_that_may_hold_a_password_is_not_repeated(self) -> None:
        """Nor is it where another argument is what is wrong."""
        for server in (
            "pop3s://ada:SECRET@pop.example.com",
            "ada:SECRET@pop.example.com:995",
            "ada:SECRET",
            b"pop3s://ada:SECRET@pop.example.com",
        ):
            for options in ({}, {"secure": 7}, {"timeout": -1}):
                opening = self.open(server, **options)
                failure = self.failureResultOf(opening, UsageError)
                told = f"{failure.value} {failure.value.server}"
                told += failure.getTraceback(detail="verbose")
                self.assertNotIn("SECRET", told)
                self.assertIsNone(failure.value.server)

    def test_error_for_another_argument_names_the_server(self) -> None:
        failure = self.failureResultOf(self.open("pop.example.com", timeout=-1))
        self.assertEqual(failure.value.server, "pop.example.com:110")

    def test_invalid_port_is_a_usage_error(self) -> None:
        wrong = (
            "0",
            "-1",
            "70000",
            "65536",
            "1e3",
            "11o",
            "+110",
            "१",
            "9" * 5000,
            " ",
        )
        for port in wrong:
            self.refused(f"pop.example.com:{port}")
            self.refused(f"[2001:db8::1]:{port}")

    def test_error_for_invalid_port_names_the_server(self) -> None:
        self.assertIn("pop.example.com:0", self.refused("pop.example.com:0"))

    def test_invalid_secure_is_refused_with_the_choices(self) -> None:
        wrong: tuple[Any, ...] = (3, -1, "1", "TLS", None, 1.0, [1], 10**400)
        for secure in wrong:
            text = self.refused(secure=secure)
            self.assertIn("secure", text)
            # And what it can be.
            self.assertIn("STLS", text)

    def test_invalid_auth_is_refused_with_the_choices(self) -> None:
        wrong: tuple[Any, ...] = (
            "",
            "MAGIC",
            "auto user",
            None,
            7,
            b"PLAIN",
            ["PLAIN"],
        )
        for auth in wrong:
            self.assertIn("PLAIN", self.refused(auth=auth))

    def test_invalid_time_limit_is_a_usage_error(self) -> None:
        wrong: tuple[Any, ...] = (
            0,
            -1,
            -0.5,
            math.nan,
            math.inf,
            -math.inf,
            True,
            "60",
            None,
            10**400,
        )
        for seconds in wrong:
            self.assertIn("timeout", self.refused(timeout=seconds))
            self.assertIn("connect_timeout", self.refused(connect_timeout=seconds))

    def test_invalid_max_message_size_is_a_usage_error(self) -> None:
        wrong: tuple[Any, ...] = (0, -1, True, 1.5, "5", math.inf)
        for octets in wrong:
            text = self.refused(max_message_size=octets)
            self.assertIn("max_message_size", text)

    def test_stsproc_that_is_not_callable_is_a_usage_error(self) -> None:
        wrong: tuple[Any, ...] = ("print", 7, [print])
        for procedure in wrong:
            self.assertIn("stsproc", self.refused(stsproc=procedure))

    def test_invalid_user_name_is_a_usage_error(self) -> None:
        wrong: tuple[Any, ...] = (
            "",
            "a\rb",
            "a\nb",
            "a\0b",
            "a\udcff",
            "a\ud800",
            None,
            b"ada",
            7,
        )
        for username in wrong:
            self.assertIn("user name", self.refused(username=username))

    def test_invalid_password_is_a_usage_error_that_hides_it(self) -> None:
        wrong: tuple[Any, ...] = (
            "",
            "sesame\r",
            "sesame\nDELE 1",
            "\0sesame",
            # No UTF-8 can be made of these.
            "sesame\udcff",
            "sesame\ud800",
            None,
            b"sesame",
            7,
        )
        for password in wrong:
            text = self.refused(password=password)
            self.assertIn("password", text)
            self.assertNotIn("sesame", text)

    def test_client_certificate_without_tls_is_a_usage_error(self) -> None:
        text = self.refused(client_certificate="me.pem", secure=0)
        self.assertIn("client_certificate", text)

    def test_missing_client_certificate_is_a_usage_error(self) -> None:
        missing = os.path.join(self.mktemp(), "me.pem")
        text = self.refused(client_certificate=missing, secure=1, verify=False)
        self.assertIn(missing, text)

    def test_missing_cacerts_folder_is_an_error_naming_it(self) -> None:
        missing = self.mktemp()
        for secure in (1, 2):
            text = self.refused(
                cacerts=missing, secure=secure, kind=(UsageError, TLSError)
            )
            self.assertIn(missing, text)

    def test_empty_cacerts_folder_is_an_error_naming_it(self) -> None:
        empty = self.mktemp()
        os.mkdir(empty)
        text = self.refused(cacerts=empty, secure=1, kind=(UsageError, TLSError))
        self.assertIn(empty, text)


class SecureTests(ApiTestCase):
    """The three ways, as `secure` names them."""

    def first(self, secure: Any) -> tuple[tuple[str, int], bytes]:
        """Return where it connects to, and what it says first."""
        self.reactor = Reactor()
        opening = self.open("192.0.2.1", secure=secure, verify=False)
        [attempt] = self.reactor.attempts()
        server = Server(self.reactor)
        other = self.open("192.0.2.1", secure=secure, verify=False, endpoint=server)
        said = server.heard()
        if not said:
            server.say(b"+OK ready\r\n")
            server.expect(b"CAPA", b"+OK\r\nSTLS\r\nUSER\r\n.\r\n")
            said = server.heard()
        opening.cancel()
        other.cancel()
        server.settle()
        for one in (opening, other):
            self.failureResultOf(one, CancelledError)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        return attempt, said

    def test_secure_none_uses_port_110_and_logs_in_without_tls(self) -> None:
        for secure in (Secure.NONE, 0, False):
            attempt, said = self.first(secure)
            # RFC 1939 section 3.
            self.assertEqual(attempt, ("192.0.2.1", 110))
            self.assertEqual(said, b"USER ada\r\n")

    def test_secure_tls_uses_port_995_and_starts_a_handshake(self) -> None:
        for secure in (Secure.TLS, 1, True):
            attempt, said = self.first(secure)
            # RFC 8314 section 3.1; and a handshake record: RFC 8446 section 5.1.
            self.assertEqual(attempt, ("192.0.2.1", 995))
            self.assertEqual(said[:2], b"\x16\x03")

    def test_secure_stls_uses_port_110_and_sends_stls(self) -> None:
        for secure in (Secure.STLS, 2):
            attempt, said = self.first(secure)
            self.assertEqual(attempt, ("192.0.2.1", 110))
            self.assertEqual(said, b"STLS\r\n")


class ServerTests(ApiTestCase):
    """Where it connects to."""

    def attempt(self, server: str, **options: Any) -> tuple[str, int]:
        self.reactor = Reactor()
        opening = self.open(server, **options)
        [attempt] = self.reactor.attempts()
        self.give_up(opening)
        return attempt

    def test_ip_address_is_connected_to_without_lookup(self) -> None:
        expected = {
            "192.0.2.1": ("192.0.2.1", 110),
            "192.0.2.1:1100": ("192.0.2.1", 1100),
            "2001:db8::1": ("2001:db8::1", 110),
            "[2001:db8::1]": ("2001:db8::1", 110),
            "[2001:db8::1]:1100": ("2001:db8::1", 1100),
        }
        for server, attempt in expected.items():
            self.assertEqual(self.attempt(server), attempt)
            self.assertEqual(self.reactor.resolver.asked, [])

    def test_host_name_is_normalized_and_looked_up(self) -> None:
        expected = {
            "pop.example.com": ("pop.example.com", 110),
            "pop.example.com:1100": ("pop.example.com", 1100),
            "POP.Example.COM.": ("pop.example.com", 110),
            "bücher.example": ("xn--bcher-kva.example", 110),
            "localhost:1": ("localhost", 1),
        }
        for server, (name, port) in expected.items():
            self.assertEqual(self.attempt(server), ("192.0.2.7", port))
            self.assertEqual(self.reactor.resolver.asked, [name])

    def test_name_that_idna_does_not_allow_is_looked_up_as_it_is(self) -> None:
        """Docker Compose and private networks have such names."""
        for name in (
            *("mail_server", "my_stack_mail_1.default", "_pop3._tcp.example.com"),
            *("ab--mail", "ab--mail.example.com", "ab--cd--ef"),
        ):
            self.assertEqual(self.attempt(f"{name}:1100"), ("192.0.2.7", 1100))
            self.assertEqual(self.reactor.resolver.asked, [name])

    @shows("RFC 8314-01")
    def test_default_port_with_tls_is_995(self) -> None:
        expected = {
            "192.0.2.1": ("192.0.2.1", 995),
            "192.0.2.1:1100": ("192.0.2.1", 1100),
        }
        for server, attempt in expected.items():
            self.assertEqual(self.attempt(server, secure=1, verify=False), attempt)


@implementer(IStreamClientEndpoint)
class Endpoint:
    """
    An endpoint that does with a connection what a test says.
    """

    def __init__(self, deaf: bool = False) -> None:
        self.factory: Any = None
        self.cancelled = 0
        self._deaf = deaf

    def connect(self, factory: Any) -> Deferred[Any]:
        self.factory = factory
        self.connecting: Deferred[Any] = Deferred(self._cancel)
        return self.connecting

    def _cancel(self, connecting: Deferred[Any]) -> None:
        self.cancelled += 1


class ConnectingTests(ApiTestCase):
    """Looking up the name, and connecting."""

    def failed(self, opening: Deferred[Handle], kind: type[Any]) -> Any:
        error = self.failureResultOf(opening).value
        self.assertIs(type(error), kind)
        self.assertEqual(error.server, "pop.example.com:110")
        self.assertIn("pop.example.com:110", str(error))
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        return error

    def test_refused_connection_is_a_connect_error(self) -> None:
        opening = self.open()
        reason = ConnectionRefusedError("no")
        self.reactor.refuse(reason)
        self.reactor.advance(5)
        error = self.failed(opening, ConnectError)
        self.assertIs(error.__cause__, reason)
        self.assertIn("refused", str(error))
        self.assertIn("; check the host name and the port", str(error))

    def test_unknown_host_name_is_a_connect_error(self) -> None:
        self.reactor = Reactor([])
        error = self.failed(self.open(), ConnectError)
        self.assertIsInstance(error.__cause__, DNSLookupError)

    def test_unknown_host_name_is_named_as_it_was_given(self) -> None:
        self.reactor = Reactor([])
        error = self.failureResultOf(self.open("mail_server")).value
        self.assertIs(type(error), ConnectError)
        self.assertIn("lookup: mail_server", str(error))

    def test_lookup_that_ends_after_cancellation_is_ignored(self) -> None:
        self.reactor = Reactor(None)
        opening = self.open()
        opening.cancel()
        self.failureResultOf(opening, CancelledError)
        self.reactor.resolver.complete()
        self.assertEqual(self.reactor.attempts(), [])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_second_address_is_used_if_the_first_fails(self) -> None:
        # RFC 8305.
        self.second_address_is_used("pop.example.com")

    def test_second_address_of_a_name_that_idna_does_not_allow_is_used(self) -> None:
        self.second_address_is_used("mail_server")

    def second_address_is_used(self, server: str) -> None:
        self.reactor = Reactor(["2001:db8::1", "192.0.2.7"])
        opening = self.open(server)
        self.assertEqual(self.reactor.attempts(), [("2001:db8::1", 110)])
        self.reactor.advance(1)
        self.assertEqual(
            self.reactor.attempts(), [("2001:db8::1", 110), ("192.0.2.7", 110)]
        )
        self.reactor.refuse(NoRouteError(), 0)
        protocol, transport = self.reactor.accept(1)
        protocol.dataReceived(b"+OK ready\r\n")
        self.assertEqual(transport.value(), b"CAPA\r\n")
        opening.cancel()
        self.assertTrue(transport.aborting)
        protocol.connectionLost(Failure(ConnectionRefusedError()))
        self.failureResultOf(opening, CancelledError)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def too_late(self, opening: Deferred[Handle]) -> None:
        self.reactor.advance(2.9)
        self.assertNoResult(opening)
        self.reactor.advance(0.2)
        error = self.failed(opening, TimedOutError)
        self.assertEqual(error.phase, "connecting")
        self.assertEqual(error.seconds, 3)
        self.assertIn("3 seconds", str(error))
        self.assertIn("connect", str(error))

    def test_slow_connection_times_out(self) -> None:
        self.too_late(self.open(connect_timeout=3))

    def test_slow_name_lookup_times_out(self) -> None:
        self.reactor = Reactor(None)
        opening = self.open(connect_timeout=3)
        self.assertEqual(self.reactor.attempts(), [])
        self.too_late(opening)

    def test_slow_connection_to_ip_address_times_out(self) -> None:
        for server in ("192.0.2.1", "2001:db8::1"):
            self.reactor = Reactor()
            opening = self.open(server, connect_timeout=3)
            self.reactor.advance(3.1)
            error = self.failureResultOf(opening, TimedOutError).value
            self.assertEqual((error.phase, error.seconds), ("connecting", 3))
            self.assertTrue(self.reactor.connectors[0].stoppedConnecting)
            self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_slow_endpoint_times_out_and_is_cancelled(self) -> None:
        endpoint = Endpoint()
        self.too_late(self.open(endpoint=endpoint, connect_timeout=3))
        self.assertEqual(endpoint.cancelled, 1)

    def test_time_limit_of_the_endpoint_is_a_timed_out_error(self) -> None:
        endpoint = Endpoint()
        opening = self.open(endpoint=endpoint)
        reason = ConnectTimeoutError()
        endpoint.connecting.errback(reason)
        error = self.failed(opening, TimedOutError)
        self.assertEqual(error.phase, "connecting")
        self.assertIs(error.__cause__, reason)

    def test_connection_made_after_the_timeout_is_discarded(self) -> None:
        # An endpoint that can't be stopped; nobody waits for it any more.
        for secure in (0, 2):
            self.reactor = Reactor()
            endpoint = Endpoint()
            opening = self.open(
                endpoint=endpoint, connect_timeout=3, secure=secure, verify=False
            )
            self.too_late(opening)
            self.assertIsNone(endpoint.factory.buildProtocol(None))
            self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_endpoint_failure_is_a_connect_error_with_its_cause(self) -> None:
        for reason in (
            ConnectionRefusedError("no"),
            RuntimeError("the proxy says no"),
            ValueError(),
        ):
            endpoint = Endpoint()
            opening = self.open(endpoint=endpoint)
            endpoint.connecting.errback(reason)
            error = self.failed(opening, ConnectError)
            self.assertIs(error.__cause__, reason)

    def test_endpoint_that_fails_immediately_is_a_connect_error(self) -> None:
        class Broken(Endpoint):
            def connect(self, factory: Any) -> Deferred[Any]:
                return fail(ConnectionRefusedError())

        self.failed(self.open(endpoint=Broken()), ConnectError)

    def test_endpoint_that_raises_is_a_connect_error_with_its_cause(self) -> None:
        reason = RuntimeError("no such proxy")

        class Raising(Endpoint):
            def connect(self, factory: Any) -> Deferred[Any]:
                raise reason

        error = self.failed(self.open(endpoint=Raising()), ConnectError)
        self.assertIs(error.__cause__, reason)

    def test_endpoint_that_returns_something_else_is_a_usage_error(self) -> None:
        for other in (None, object(), 5):

            class Strange(Endpoint):
                def connect(self, factory: Any) -> Any:
                    return other  # noqa: B023 - used at once

            error = self.failed(self.open(endpoint=Strange()), UsageError)
            self.assertIn("endpoint must connect the protocol", str(error))

    def test_endpoint_that_cannot_connect_is_a_usage_error(self) -> None:
        for wrong in (5, b"tcp:pop.example.com:110", object(), Endpoint):
            error = self.failed(self.open(endpoint=wrong), UsageError)
            self.assertIn("endpoint must be an IStreamClientEndpoint", str(error))

    def test_control_characters_in_a_reason_are_escaped(self) -> None:
        endpoint = Endpoint()
        opening = self.open(endpoint=endpoint)
        endpoint.connecting.errback(RuntimeError("proxy: \x1b[2J\r\n"))
        self.assertTrue(str(self.failed(opening, ConnectError)).isprintable())

    def test_cancelling_during_name_lookup_makes_no_connection(self) -> None:
        self.reactor = Reactor(None)
        self.give_up(self.open())
        self.assertEqual(self.reactor.attempts(), [])

    def test_cancelling_while_connecting_stops_the_connection(self) -> None:
        self.give_up(self.open())
        self.assertTrue(self.reactor.connectors[0].stoppedConnecting)

    def test_cancelling_connect_cancels_the_endpoint(self) -> None:
        endpoint = Endpoint()
        opening = self.open(endpoint=endpoint)
        self.give_up(opening)
        self.assertEqual(endpoint.cancelled, 1)
        self.assertIsNone(endpoint.factory.buildProtocol(None))

    def test_endpoint_is_used_instead_of_tcp_if_given(self) -> None:
        server = Server(self.reactor)
        handle = server.log_in()
        self.assertEqual(server.connects, 1)
        self.assertEqual(self.reactor.attempts(), [])
        self.assertEqual(self.reactor.resolver.asked, [])
        # The server is still the one that was named.
        self.assertEqual(str(handle.server), "pop.example.com:110")
        server.lose()

    def test_protocol_wrapped_by_the_endpoint_is_found(self) -> None:
        # What an endpoint fires with may have our protocol inside.
        class Wrapper:
            def __init__(self, wrapped: Any) -> None:
                self.wrappedProtocol = wrapped

        endpoint = Endpoint()
        opening = self.open(endpoint=endpoint)
        protocol = endpoint.factory.buildProtocol(None)
        transport = Transport()
        protocol.makeConnection(transport)
        endpoint.connecting.callback(Wrapper(Wrapper(protocol)))
        protocol.dataReceived(b"+OK ready\r\n")
        self.assertEqual(transport.value(), b"CAPA\r\n")
        opening.cancel()
        protocol.connectionLost(Failure(ConnectionRefusedError()))
        self.failureResultOf(opening, CancelledError)

    def test_connection_closed_before_endpoint_fires_reports_the_refusal(self) -> None:
        # The greeting and the end came before the endpoint said anything.
        endpoint = Endpoint()
        opening = self.open(endpoint=endpoint)
        protocol = endpoint.factory.buildProtocol(None)
        protocol.makeConnection(Transport())
        protocol.dataReceived(b"-ERR [IN-USE] go away\r\n")
        protocol.connectionLost(Failure(ConnectionRefusedError()))
        endpoint.connecting.callback(protocol)
        error = self.failureResultOf(opening, POP3Error).value
        self.assertIn("go away", str(error))
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_greeting_received_before_endpoint_fires_is_used(self) -> None:
        endpoint = Endpoint()
        opening = self.open(endpoint=endpoint)
        protocol = endpoint.factory.buildProtocol(None)
        transport = Transport()
        protocol.makeConnection(transport)
        protocol.dataReceived(b"+OK ready\r\n")
        endpoint.connecting.callback(protocol)
        self.assertEqual(transport.value(), b"CAPA\r\n")
        opening.cancel()
        protocol.connectionLost(Failure(ConnectionRefusedError()))
        self.failureResultOf(opening, CancelledError)

    def test_global_reactor_is_used_if_none_is_given(self) -> None:
        def timers() -> set[Any]:
            return set(global_reactor.getDelayedCalls())  # type: ignore[attr-defined]

        before = timers()
        opening = self.open(endpoint=Endpoint(), reactor=None)
        self.assertEqual(len(timers() - before), 1)
        opening.cancel()
        self.failureResultOf(opening, CancelledError)
        self.assertEqual(timers(), before)

    def test_plain_clock_suffices_as_reactor_for_an_endpoint(self) -> None:
        # Nothing else is asked of the reactor then.
        clock = Clock()
        endpoint = Endpoint()
        opening = self.open(endpoint=endpoint, reactor=clock)
        opening.cancel()
        self.failureResultOf(opening, CancelledError)
        self.assertEqual(clock.getDelayedCalls(), [])


class SmallServer(LineReceiver):
    """
    A POP3 server with one message, over a real socket.
    """

    answers = {  # noqa: RUF012
        b"CAPA": b"+OK\r\nUSER\r\nPIPELINING\r\n.",
        b"STAT": b"+OK 1 27",
        b"LIST": b"+OK\r\n1 27\r\n.",
        b"RETR": b"+OK\r\nSubject: lo\r\n\r\n..behold\r\n.",
    }

    def connectionMade(self) -> None:
        self.sendLine(b"+OK ready")

    def lineReceived(self, line: bytes) -> None:
        verb = line.split()[0]
        self.sendLine(self.answers.get(verb, b"+OK"))
        if verb == b"QUIT":
            self.transport.loseConnection()


class SocketTests(TestCase):
    """The little that a test in memory cannot show."""

    timeout = 20

    def serve(self) -> int:
        """Return the port where a small server listens."""
        factory = Factory.forProtocol(SmallServer)
        port = global_reactor.listenTCP(  # type: ignore[attr-defined]
            0, factory, interface="127.0.0.1"
        )
        self.addCleanup(port.stopListening)
        number: int = port.getHost().port
        return number

    async def session(self, server: str, **options: Any) -> None:
        async with await connect(server, "ada", "lovelace", **options) as handle:
            self.assertEqual((await handle.stat()).count, 1)
            messages = [message async for message in handle.messages()]
            self.assertEqual(
                [message.content for message in messages],
                [b"Subject: lo\r\n\r\n.behold\r\n"],
            )
            await handle.delete(1)
            committed = await handle.disconnect()
        self.assertEqual(committed.deleted, {1})
        await handle.when_closed()

    async def test_session_with_ip_address_retrieves_and_deletes(self) -> None:
        await self.session(f"127.0.0.1:{self.serve()}")

    async def test_session_with_host_name_retrieves_and_deletes(self) -> None:
        await self.session(f"localhost:{self.serve()}")

    async def test_session_over_unix_socket_retrieves_and_deletes(self) -> None:
        if not IReactorUNIX.providedBy(global_reactor):
            self.skipTest("this reactor has no UNIX sockets")
        # The names of UNIX sockets are short: 108 octets on Linux.
        path = os.path.relpath(self.mktemp())
        factory = Factory.forProtocol(SmallServer)
        port = await UNIXServerEndpoint(global_reactor, path).listen(factory)
        self.addCleanup(port.stopListening)
        endpoint = UNIXClientEndpoint(global_reactor, path)
        await self.session("pop.example.com", endpoint=endpoint)

    async def test_refused_connection_is_a_connect_error_naming_server(self) -> None:
        port = global_reactor.listenTCP(  # type: ignore[attr-defined]
            0, Factory.forProtocol(SmallServer), interface="127.0.0.1"
        )
        number = port.getHost().port
        await port.stopListening()
        for host in ("127.0.0.1", "localhost"):
            with self.assertRaises(ConnectError) as caught:
                await connect(f"{host}:{number}", "ada", "lovelace")
            self.assertEqual(caught.exception.server, f"{host}:{number}")
            self.assertIn("refused", str(caught.exception))
