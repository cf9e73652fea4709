"""
Sessions through a SOCKS5 proxy, and proxies that break the protocol.
"""

from __future__ import annotations

import sys
from typing import Any
from unittest import mock

from hypothesis import given, settings
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionLost, ConnectionRefusedError
from twisted.internet.error import TimeoutError as ConnectTimeoutError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from pop3connect import (
    ConnectError,
    Connector,
    LoginError,
    Secure,
    TimedOutError,
    UsageError,
    api,
    connect,
)
from pop3connect.address import ServerAddress
from pop3connect.client.socks import SocksDialogue
from pop3connect.client.tunnel import TunnelEndpoint
from pop3connect.proxy import ProxyAddress

from ..support.examples import COMMON, EXAMPLES
from ..support.frames import leaks
from ..support.memory import Server
from ..support.proxies import SocksProxy
from ..support.shows import shows
from ..test_api import ApiTestCase
from . import proxied
from .proxied import TARGET, chunks_of

reactor: Any = global_reactor

PROXY = "socks5://proxy.example.net:9050"
WITH_LOGIN = "socks5://ada:hunter2@proxy.example.net:9050"

METHODS = b"\x05\x01\x00"
METHODS_WITH_LOGIN = b"\x05\x02\x00\x02"
LOGIN = b"\x01\x03ada\x07hunter2"
REQUEST = b"\x05\x01\x00\x03\x0fpop.example.com\x00\x6e"
CONNECTED = b"\x05\x00\x00\x01" + bytes(6)

NO_METHOD = "did not choose a method of login"
NO_LOGIN = "did not answer the login"
NO_REPLY = f"did not answer the request to connect to {TARGET}"


class DialogueTests(proxied.DialogueTests):
    def dialogue(self, proxy: str = PROXY, target: str = TARGET) -> SocksDialogue:
        return SocksDialogue(ProxyAddress.parse(proxy), ServerAddress.parse(target))

    def talk(
        self,
        answers: list[bytes],
        proxy: str = PROXY,
        target: str = TARGET,
        size: int = 0,
    ) -> tuple[list[bytes], bytes | None]:
        """Return what is sent, and what the server sent behind the last answer."""
        dialogue = self.dialogue(proxy, target)
        sent = [dialogue.start()]
        for answer in answers:
            step = size or len(answer)
            pieces = [answer[at : at + step] for at in range(0, len(answer), step)]
            sent.append(b"".join(map(dialogue.receive, pieces)))
        return sent, dialogue.rest

    def refusal(self, *answers: bytes, proxy: str = WITH_LOGIN) -> str:
        """Return the error, the same for any size of chunk, without the secret."""
        texts = set()
        for size in (0, 1):
            with self.assertRaises(ConnectError) as caught:
                self.talk(list(answers), proxy, size=size)
            texts.add(str(caught.exception))
        [text] = texts
        self.assertNotIn("hunter2", text)
        self.assertIn(PROXY, text)
        return text

    @shows(
        "RFC 1928-01",
        "MUST",
        "The methods of login are offered, and one of them is used.",
        "No login, and user name and password if the URL has them; another choice of "
        "the proxy is an error.",
    )
    def test_dialogue_without_login_asks_for_the_name(self) -> None:
        for size in (0, 1, 2):
            self.assertEqual(
                self.talk([b"\x05\x00", CONNECTED], size=size),
                ([METHODS, REQUEST, b""], b""),
            )

    def test_dialogue_with_login_sends_user_and_password_when_asked(self) -> None:
        for size in (0, 1):
            self.assertEqual(
                self.talk([b"\x05\x02", b"\x01\x00", CONNECTED], WITH_LOGIN, size=size),
                ([METHODS_WITH_LOGIN, LOGIN, REQUEST, b""], b""),
            )

    def test_credentials_are_not_sent_to_a_proxy_that_wants_none(self) -> None:
        self.assertEqual(
            self.talk([b"\x05\x00", CONNECTED], WITH_LOGIN),
            ([METHODS_WITH_LOGIN, REQUEST, b""], b""),
        )

    @shows(
        "RFC 1928-02",
        "MUST",
        "A name, an IPv4 or an IPv6 address is sent with its type.",
        "A name is sent as such; the proxy looks it up.",
    )
    def test_addresses_are_sent_as_such(self) -> None:
        for target, packed in (
            ("192.0.2.7:995", b"\x01\xc0\x00\x02\x07\x03\xe3"),
            (
                "[2001:db8::1]:995",
                b"\x04\x20\x01\x0d\xb8" + bytes(11) + b"\x01\x03\xe3",
            ),
        ):
            sent, _ = self.talk([b"\x05\x00"], target=target)
            self.assertEqual(sent[1], b"\x05\x01\x00" + packed)

    def test_longest_name_fits(self) -> None:
        name = ".".join(["a" * 63] * 3 + ["b" * 61])
        sent, _ = self.talk([b"\x05\x00"], target=name)
        self.assertEqual(sent[1][3:5], b"\x03\xfd")

    def test_international_name_is_sent_in_ascii(self) -> None:
        sent, _ = self.talk([b"\x05\x00"], target="büro.example")
        self.assertIn(b"xn--bro-hoa.example", sent[1])

    def test_address_of_any_type_in_the_reply_is_skipped(self) -> None:
        for address in (
            b"\x01" + bytes(4),
            b"\x03\x00",
            b"\x03\x05proxy",
            b"\x03\xff" + b"\xff" * 255,
            b"\x04" + bytes(16),
        ):
            reply = b"\x05\x00\x00" + address + b"\x04\x38"
            for tail in (b"", b"+OK ready\r\n"):
                for size in (0, 1) if not tail else (0,):
                    _, rest = self.talk([b"\x05\x00", reply + tail], size=size)
                    self.assertEqual(rest, tail)

    def test_reply_is_complete_at_its_last_byte(self) -> None:
        dialogue = self.dialogue()
        dialogue.start()
        dialogue.receive(b"\x05\x00")
        for byte in CONNECTED[:-1]:
            dialogue.receive(bytes([byte]))
            self.assertIsNone(dialogue.rest)
        dialogue.receive(CONNECTED[-1:])
        self.assertEqual(dialogue.rest, b"")

    def test_what_is_sent_is_not_shown(self) -> None:
        dialogue = self.dialogue(WITH_LOGIN)
        dialogue.start()
        self.assertNotIn("hunter2", repr(dialogue.receive(b"\x05\x02")))

    @settings(**COMMON, max_examples=EXAMPLES or 200)
    @given(chunks_of(b"\x05\x00", b"\x05\x02", b"\x01\x00", CONNECTED))
    def test_any_chunks_come_to_a_connection_or_to_an_error(
        self, chunks: list[bytes]
    ) -> None:
        dialogue = self.dialogue(WITH_LOGIN)
        self.assertConnectsOrFails(dialogue, chunks)
        # The longest reply has a name of 255 bytes.
        self.assertLess(len(dialogue._data), 262 + 300)

    # -- refusals

    @shows(
        "RFC 1928-03",
        "MUST",
        "A reply code other than 0 ends the connection.",
        "A ``ConnectError`` with the code and its meaning.",
    )
    def test_each_reply_code_is_named_with_its_meaning(self) -> None:
        for code, meaning in (
            (1, "general server failure"),
            (2, "connection not allowed by ruleset"),
            (3, "network unreachable"),
            (4, "host unreachable"),
            (5, "connection refused"),
            (6, "ttl expired"),
            (7, "command not supported"),
            (8, "address type not supported"),
            (0x5B, "of unknown meaning"),
        ):
            for rest in (b"", b"\x00\x01" + bytes(6)):
                text = self.refusal(b"\x05\x00", bytes([5, code]) + rest)
                self.assertIn(
                    f"could not connect to {TARGET}: {meaning} (SOCKS5 reply {code})",
                    text,
                )

    @shows("RFC 1929-01")
    def test_refused_login_says_what_to_check(self) -> None:
        text = self.refusal(b"\x05\x02", b"\x01\x01")
        self.assertIn("refused the user name and password; check", text)

    @shows("RFC 1928-01")
    def test_no_acceptable_method_says_what_to_give(self) -> None:
        text = self.refusal(b"\x05\xff", proxy=PROXY)
        self.assertIn("accepts no method of login that was offered; give a user", text)
        self.assertIn("; check the user name", self.refusal(b"\x05\xff"))

    @shows("RFC 1928-01")
    def test_method_that_was_not_offered_is_an_error(self) -> None:
        for method, proxy in ((2, PROXY), (1, WITH_LOGIN), (0x80, PROXY)):
            text = self.refusal(bytes([5, method]), proxy=proxy)
            self.assertIn(f"chose the method of login {method}, which was not", text)

    @shows(
        "attack 6.2",
        "The proxy sends garbage, too much, or nothing; it hangs or closes at any step",
        "Time, memory, a session that starts in a wrong state.",
        "A ``ConnectError`` or ``TimedOutError`` that names the step; at most 262 "
        "bytes are kept.",
    )
    def test_other_protocol_is_recognised_at_its_first_byte(self) -> None:
        for answer in (b"HTTP/1.1 400 Bad Request\r\n", b"\x00\x5a", b"+", b"\x16\x03"):
            text = self.refusal(answer)
            self.assertIn("did not choose a method of login: what it sent is not", text)
        self.assertIn("begins with 'H'", self.refusal(b"HTTP/1.1"))
        self.assertIn(r"begins with '\x16'", self.refusal(b"\x16\x03"))
        text = self.refusal(b"\x05\x02", b"hunter2")
        self.assertIn("did not answer the login: what it sent is not SOCKS5", text)
        text = self.refusal(b"\x05\x00", b"hunter2")
        self.assertIn(f"did not answer the request to connect to {TARGET}", text)

    @shows("attack 6.2")
    def test_bytes_behind_a_reply_are_an_error(self) -> None:
        for answers in (
            [b"\x05\x00" + CONNECTED],
            [b"\x05\x00\x05"],
            [b"\x05\x02\x01\x00"],
            [b"\x05\x02", b"\x01\x00" + CONNECTED],
        ):
            with self.assertRaises(ConnectError) as caught:
                self.talk(answers, WITH_LOGIN)
            self.assertIn("sent more than its reply", str(caught.exception))

    def test_reply_with_an_unknown_type_of_address_is_an_error(self) -> None:
        text = self.refusal(b"\x05\x00", b"\x05\x00\x00\x02\x00")
        self.assertIn("an address of unknown type 2", text)


class ConnectTests(proxied.ConnectTests):
    url = WITH_LOGIN
    shown = PROXY
    connected = CONNECTED

    def proxied(self, rest: bytes = b"", **options: Any) -> Any:
        """Return the call and the transport of a connection through the proxy."""
        opening = self.through(PROXY, **options)
        tunnel, transport = self.reactor.accept()
        self.assertEqual(transport.value(), METHODS)
        transport.clear()
        tunnel.dataReceived(b"\x05\x00")
        self.assertEqual(transport.value(), REQUEST)
        transport.clear()
        tunnel.dataReceived(CONNECTED + rest)
        return opening, tunnel, transport

    @shows(
        "attack 6.4",
        "The local network sees which servers are looked up",
        "Whose customer the user is.",
        "With a proxy, only the proxy's name is looked up.",
    )
    def test_only_the_name_of_the_proxy_is_looked_up(self) -> None:
        self.through()
        self.assertEqual(self.reactor.resolver.asked, ["proxy.example.net"])
        self.assertEqual(self.reactor.attempts(), [("192.0.2.7", 9050)])

    def test_session_begins_when_the_proxy_has_connected(self) -> None:
        told: list[str] = []
        opening, tunnel, transport = self.proxied(stsproc=told.append)
        self.assertEqual(told, [])
        tunnel.dataReceived(b"+OK ready\r\n")
        self.assertEqual(transport.value(), b"CAPA\r\n")
        self.assertEqual(told, ["S: +OK ready", "C: CAPA"])
        opening.addErrback(lambda _: None)
        opening.cancel()
        self.assertTrue(transport.aborting)

    def test_greeting_in_one_chunk_with_the_last_reply_is_read(self) -> None:
        _, _, transport = self.proxied(b"+OK ready\r\n")
        self.assertEqual(transport.value(), b"CAPA\r\n")

    def test_cancelling_as_the_connection_is_made_reads_no_greeting(self) -> None:
        told: list[object] = []

        def act(event: object) -> None:
            told.append(event)
            opening.cancel()

        opening = self.through(events=act)
        opening.addErrback(lambda failure: failure.trap(CancelledError) and None)
        tunnel, transport = self.reactor.accept()
        tunnel.dataReceived(b"\x05\x00")
        tunnel.dataReceived(CONNECTED + b"+OK ready\r\n")
        self.assertTrue(transport.aborting)
        self.assertNotIn(b"CAPA", transport.value())
        tunnel.connectionLost(Failure(ConnectionLost()))
        self.successResultOf(opening)
        self.assertEqual(len(told), 2)
        self.assertNothingLeft()

    def test_loss_after_the_greeting_ends_the_session(self) -> None:
        opening, tunnel, _ = self.proxied(b"+OK ready\r\n")
        tunnel.connectionLost(Failure(ConnectionLost()))
        self.assertIn("lost during the login", str(self.failureResultOf(opening).value))
        self.assertNothingLeft()

    def test_unreachable_proxy_is_named(self) -> None:
        opening = self.through()
        self.reactor.refuse(ConnectionRefusedError())
        self.reactor.advance(1)
        error = self.error(opening, ConnectError)
        self.assertEqual(
            str(error),
            f"{TARGET}: the proxy {PROXY} was not reached: Connection was refused by "
            "other side; check the host name and the port in proxy",
        )
        self.assertIsInstance(error.__cause__.__cause__, ConnectionRefusedError)
        self.assertNothingLeft()

    def test_proxy_whose_name_is_not_found_is_named(self) -> None:
        self.reactor.nameResolver = self.reactor.resolver = type(self.reactor.resolver)(
            []
        )
        error = self.error(self.through(), ConnectError)
        self.assertIn(f"the proxy {PROXY} was not reached: ", str(error))

    def test_time_limit_of_the_system_is_a_timeout(self) -> None:
        opening = self.through()
        self.reactor.refuse(ConnectTimeoutError())
        self.reactor.advance(1)
        error = self.error(opening, TimedOutError)
        self.assertIn(f"the proxy {PROXY} was not reached", str(error))

    @shows("attack 6.2")
    def test_proxy_that_hangs_is_named_with_what_it_did_not_do(self) -> None:
        self.assertHangIsNamed(None, "was not reached")
        for answers, undone in (
            ([], NO_METHOD),
            ([b"\x05"], NO_METHOD),
            ([b"\x05\x02"], NO_LOGIN),
            ([b"\x05\x02", b"\x01"], NO_LOGIN),
            ([b"\x05\x02", b"\x01\x00"], NO_REPLY),
            ([b"\x05\x00", CONNECTED[:-1]], NO_REPLY),
        ):
            self.assertHangIsNamed(answers, undone)

    @shows("attack 6.2")
    def test_proxy_that_closes_is_named_with_what_it_did_not_do(self) -> None:
        for answers, undone in (
            ([], NO_METHOD),
            ([b"\x05\x02"], NO_LOGIN),
            ([b"\x05\x00"], NO_REPLY),
        ):
            self.assertCloseIsNamed(answers, undone)

    @shows("RFC 1928-03")
    def test_refusal_closes_the_connection(self) -> None:
        opening = self.through()
        tunnel, transport = self.reactor.accept()
        tunnel.dataReceived(b"\x05\x02")
        tunnel.dataReceived(b"\x01\x05")
        error = self.error(opening, ConnectError)
        self.assertIn("refused the user name and password", str(error))
        self.assertTrue(transport.aborting)
        tunnel.dataReceived(b"\x01\x00")
        tunnel.connectionLost(Failure(ConnectionLost()))
        self.assertNothingLeft()

    def test_cancelling_at_any_step_closes_the_connection(self) -> None:
        self.assertCancellingCloses(b"\x05\x02", b"\x01\x00")

    @shows(
        "attack 6.3",
        "The proxy passes its own password on, and a server repeats it",
        "The password of the proxy, in a log.",
        "It is masked in the server's texts too.",
    )
    def test_password_of_the_proxy_in_the_servers_text_is_masked(self) -> None:
        told: list[str] = []
        opening = self.through(stsproc=told.append)
        tunnel, _ = self.reactor.accept()
        for answer in (b"\x05\x02", b"\x01\x00", CONNECTED, b"-ERR it is hunter2\r\n"):
            tunnel.dataReceived(answer)
        tunnel.connectionLost(Failure(ConnectionLost()))
        error = self.error(opening, LoginError)
        self.assertIn("it is ********", str(error))
        self.assertEqual(told, ["S: -ERR it is ********"])

    def test_connection_that_comes_too_late_is_not_used(self) -> None:
        """An endpoint that cannot be stopped may connect at any time."""
        factories: list[Any] = []

        class Unstoppable:
            def connect(self, factory: Any) -> Deferred[Any]:
                factories.append(factory)
                return Deferred(lambda _: None)

        proxy, target = ProxyAddress.parse(PROXY), ServerAddress.parse(TARGET)
        below: Any = Unstoppable()
        endpoint = TunnelEndpoint(below, lambda: SocksDialogue(proxy, target))
        inside = Factory.forProtocol(Protocol)
        connecting = endpoint.connect(inside)
        connecting.cancel()
        error = self.failureResultOf(connecting).value
        self.assertIn("was not reached", str(error))
        self.assertIsNone(factories[0].buildProtocol(None))

    # -- usage

    def usage(self, **options: Any) -> str:
        error = self.failureResultOf(self.open(**options)).value
        self.assertIsInstance(error, UsageError)
        self.assertEqual(self.reactor.attempts(), [])
        self.assertNotIn("hunter2", str(error))
        return str(error)

    def test_bad_url_is_a_usage_error(self) -> None:
        text = self.usage(proxy="https://ada:hunter2@proxy")
        self.assertTrue(text.startswith(f"{TARGET}: proxy must be a URL such as"), text)

    def test_proxy_with_endpoint_is_a_usage_error(self) -> None:
        text = self.usage(proxy=WITH_LOGIN, endpoint=Server())
        self.assertIn("proxy cannot be used with an endpoint", text)

    def test_address_with_a_zone_is_a_usage_error(self) -> None:
        text = self.usage(proxy=PROXY, server="fe80::1%eth0")
        self.assertIn("proxy cannot lead to fe80::1%eth0", text)

    def test_missing_socksio_is_a_usage_error_that_says_how_to_install_it(self) -> None:
        with mock.patch.dict(sys.modules, socksio=None):
            text = self.usage(proxy=PROXY)
        self.assertIn("pip install 'pop3connect[proxy]'", text)

    def test_reactor_must_resolve_the_name_of_the_proxy_only(self) -> None:
        class Plain(Clock):
            def connectTCP(self, *_: object, **__: object) -> Any:
                raise ConnectionRefusedError

        with self.assertRaises(UsageError) as caught:
            Connector("192.0.2.1", proxy=PROXY, reactor=Plain())
        self.assertIn("nameResolver", str(caught.exception))
        Connector(TARGET, proxy="socks5://192.0.2.1", reactor=Plain())

    def test_no_frame_of_an_error_shows_the_password(self) -> None:
        for bad in (
            "socks5://ada:hunter2@@proxy",
            "https://ada:hunter2@proxy",
            "http://a%3Ada:hunter2@proxy",
            "http://ada:hunter2%0A@proxy",
            "socks5://ada:hunter2@-proxy",
            "socks5://ada:hunter2@proxy:x",
            b"socks5://ada:hunter2@proxy",
        ):
            url: Any = bad
            error = self.failureResultOf(self.open(proxy=url)).value
            self.assertEqual(leaks(error, ["hunter2"]), [])
            with self.assertRaises(UsageError) as caught:
                Connector(TARGET, proxy=url)
            self.assertEqual(leaks(caught.exception, ["hunter2"]), [])
        for options in ({"endpoint": Server()}, {"server": "fe80::1%eth0"}):
            error = self.failureResultOf(self.open(proxy=WITH_LOGIN, **options)).value
            self.assertEqual(leaks(error, ["hunter2"]), [])
        opening = self.through()
        tunnel, _ = self.reactor.accept()
        tunnel.dataReceived(b"\x05\x02")
        tunnel.dataReceived(b"\x01\x01")
        error = self.failureResultOf(opening).value
        self.assertEqual(leaks(error, ["hunter2"]), [])

    def test_no_repr_shows_the_password(self) -> None:
        opening = self.through()
        self.assertNotIn("hunter2", repr(api._connectors))
        connector = Connector(TARGET, proxy=WITH_LOGIN, reactor=self.reactor)
        shown = repr(connector) + repr(vars(connector))
        shown += repr(connector.opening("ada", "lovelace")._settings)
        self.assertNotIn("hunter2", shown)
        opening.addErrback(lambda _: None)
        opening.cancel()


class DescriptionTests(ApiTestCase):
    """
    An endpoint that is given as a description.
    """

    def test_description_leads_to_its_endpoint(self) -> None:
        opening = self.open(endpoint="tcp:host=192.0.2.9:port=2110")
        self.assertEqual(self.reactor.attempts(), [("192.0.2.9", 2110)])
        protocol, transport = self.reactor.accept()
        protocol.dataReceived(b"+OK\r\n")
        self.assertEqual(transport.value(), b"CAPA\r\n")
        opening.addErrback(lambda _: None)
        opening.cancel()

    def test_description_that_cannot_be_used_is_a_usage_error_that_shows_it(
        self,
    ) -> None:
        for bad in (
            "",
            "tcp",
            "tcp:host=h:port=x",
            "nonsense:1",
            "tcp:h:1:2:3:4:5",
            ":",
        ):
            error = self.failureResultOf(self.open(endpoint=bad)).value
            self.assertIsInstance(error, UsageError)
            self.assertIn(f"the endpoint {bad!r} cannot be used: ", str(error))
            self.assertIn("unix:/run/pop3.sock", str(error))
            self.assertEqual(error.server, TARGET)

    def test_other_type_is_a_usage_error(self) -> None:
        for bad in (1, b"tcp:h:1", object()):
            error = self.failureResultOf(self.open(endpoint=bad)).value
            self.assertIsInstance(error, UsageError)
            self.assertIn(
                "must be an IStreamClientEndpoint or a description", str(error)
            )


class LoopbackTests(proxied.LoopbackTests):
    kind = SocksProxy
    scheme = "socks5"

    @shows("feature 1.12", "Proxy", "SOCKS5, HTTP")
    @shows("RFC 1928-02")
    async def test_name_is_looked_up_by_the_proxy_and_verified(self) -> None:
        await self.assertNameIsLookedUpAndVerified()

    async def test_consumer_that_pauses_gets_a_large_message_whole(self) -> None:
        large = b"Subject: large\r\n\r\n" + b"x" * 78 + b"\r\n"
        large += b"y" * 2_000_000 + b"\r\n"

        class Slow:
            """Pauses after each piece."""

            def __init__(self) -> None:
                self.data = b""
                self.pauses = 0

            def registerProducer(self, producer: Any, streaming: bool) -> None:
                self.producer = producer

            def unregisterProducer(self) -> None:
                pass

            def write(self, data: bytes) -> None:
                self.data += data
                self.pauses += 1
                self.producer.pauseProducing()
                reactor.callLater(0, self.producer.resumeProducing)

        for options in ({}, {"certificate": self.certificate, "tls_at_once": True}):
            at = self.serve(messages=[large], **options)
            opening = connect(
                self.NAME,
                "ada",
                "lovelace",
                cacerts=self.cacerts,
                secure=Secure.TLS if options else Secure.NONE,
                proxy=self.url(at),
            )
            slow: Any = Slow()
            async with await opening as handle:
                await handle.retrieve(1, slow)
            self.assertEqual(slow.data, large)
            self.assertGreater(slow.pauses, 3)

    async def test_refusals_of_a_real_proxy_are_connect_errors(self) -> None:
        at = self.serve((b"ada", b"right"))
        for server, login, problem in (
            ("pop.example.invalid", "ada:right@", "host unreachable (SOCKS5 reply 4)"),
            (self.NAME, "ada:wrong@", "refused the user name and password"),
            (self.NAME, "", "accepts no method of login"),
        ):
            await self.assertRefused(at, problem, server=server, login=login)
