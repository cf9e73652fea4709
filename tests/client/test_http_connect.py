"""
Sessions through an HTTP proxy, and proxies that break the protocol.
"""

from __future__ import annotations

import sys
from typing import Any
from unittest import mock

from hypothesis import given, settings
from twisted.internet import reactor as global_reactor
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure

from pop3connect import (
    ConnectError,
    LoginError,
    UsageError,
)
from pop3connect.address import ServerAddress
from pop3connect.client.http_connect import MAX_REPLY, HTTPConnectDialogue
from pop3connect.proxy import ProxyAddress

from ..support.examples import COMMON, EXAMPLES
from ..support.frames import leaks
from ..support.proxies import HTTPProxy
from ..support.shows import shows
from . import proxied
from .proxied import PASSWORD, TARGET, chunks_of

reactor: Any = global_reactor

PROXY = "http://proxy.example.net:3128"
WITH_LOGIN = "http://ada:hunter2@proxy.example.net:3128"
BASIC = "YWRhOmh1bnRlcjI="

REQUEST = b"CONNECT pop.example.com:110 HTTP/1.1\r\nHost: pop.example.com:110\r\n\r\n"
CONNECTED = b"HTTP/1.1 200 Connection established\r\n\r\n"
UNDONE = f"did not answer the request to connect to {TARGET}"
UNANSWERED = f"the proxy {PROXY} {UNDONE}"


class DialogueTests(proxied.DialogueTests):
    def dialogue(self, proxy: str = PROXY, target: str = TARGET) -> HTTPConnectDialogue:
        return HTTPConnectDialogue(
            ProxyAddress.parse(proxy), ServerAddress.parse(target)
        )

    def request(self, proxy: str = PROXY, target: str = TARGET) -> bytes:
        return bytes(self.dialogue(proxy, target).start())

    def rest(self, reply: bytes, size: int = 0) -> bytes | None:
        """Return what the server sent behind a reply that is read in pieces."""
        dialogue = self.dialogue()
        dialogue.start()
        for at in range(0, len(reply), size or len(reply)):
            if dialogue.rest is None:
                chunk = reply[at : at + (size or len(reply))]
                self.assertEqual(dialogue.receive(chunk), b"")
        return dialogue.rest

    def refusal(self, reply: bytes, proxy: str = WITH_LOGIN) -> str:
        """Return the error, the same for any size of chunk, without the secrets."""
        texts = set()
        for size in (len(reply), 1):
            dialogue = self.dialogue(proxy)
            dialogue.start()
            with self.assertRaises(ConnectError) as caught:
                for at in range(0, len(reply), size):
                    dialogue.receive(reply[at : at + size])
            self.assertIsNone(dialogue.rest)
            texts.add(str(caught.exception))
        [text] = texts
        self.assertIn(PROXY, text)
        return text

    @shows(
        "RFC 9110-01",
        "MUST",
        "CONNECT names the host and port of the server; Host repeats them.",
        "A name is sent as such, in ASCII; the proxy looks it up.",
    )
    def test_request_names_the_server(self) -> None:
        self.assertEqual(self.request(), REQUEST)
        for target, shown in (
            ("192.0.2.7:995", b"192.0.2.7:995"),
            ("[2001:db8::1]:995", b"[2001:db8::1]:995"),
            ("büro.example", b"xn--bro-hoa.example:110"),
        ):
            self.assertEqual(
                self.request(target=target),
                b"CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (shown, shown),
            )

    @shows(
        "RFC 7617-01",
        "MUST",
        "Basic sends user name and password in Base64; the user name has no colon, and "
        "neither has control characters.",
        "In UTF-8, with the first request; checked before any traffic.",
    )
    def test_login_is_sent_with_the_request(self) -> None:
        login = f"\r\nProxy-Authorization: Basic {BASIC}\r\n\r\n".encode()
        self.assertEqual(self.request(WITH_LOGIN), REQUEST[:-4] + login)
        self.assertIn(b"Basic w6Q6w6Q=\r\n", self.request("http://ä:%C3%A4@h"))
        self.assertIn(b"Basic YWRhOg==\r\n", self.request("http://ada@h"))

    def test_what_is_sent_is_not_shown(self) -> None:
        shown = repr(self.dialogue(WITH_LOGIN).start())
        self.assertNotIn(BASIC, shown)

    @shows(
        "RFC 9110-02",
        "MUST",
        "Any 2xx reply opens the tunnel, which begins behind its header; "
        "Content-Length and Transfer-Encoding are ignored.",
        "As the RFC describes it; what follows is the server's greeting.",
    )
    def test_bytes_behind_the_header_belong_to_the_server(self) -> None:
        for reply in (
            CONNECTED,
            b"HTTP/1.0 200 Connection established\r\n\r\n",
            b"HTTP/1.1 200\r\n\r\n",
            b"HTTP/1.1 200 OK\nVia: us\n\n",
            b"HTTP/1.1 299 Fine\r\nConnection: close\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX: " + b"x" * (MAX_REPLY - 30) + b"\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Wait\r\n\r\n" + CONNECTED,
        ):
            self.assertEqual(self.rest(reply + b"+OK ready\r\n"), b"+OK ready\r\n")
            self.assertEqual(self.rest(reply), b"")
            self.assertEqual(self.rest(reply, 1), b"")

    def test_reply_is_complete_at_its_last_byte(self) -> None:
        self.assertIsNone(self.rest(CONNECTED[:-1], 1))

    @settings(**COMMON, max_examples=EXAMPLES or 200)
    @given(
        chunks_of(
            b"HTTP/1.1 ",
            b"200 OK\r\n",
            b"407 Log in hunter2\r\n",
            b"Proxy-Authenticate: hunter2\r\n",
            b"Content-Length: 3\r\n",
            b"\r\n",
        )
    )
    def test_any_chunks_come_to_a_connection_or_to_an_error(
        self, chunks: list[bytes]
    ) -> None:
        self.assertConnectsOrFails(self.dialogue(WITH_LOGIN), chunks)

    # -- refusals

    @shows(
        "RFC 9110-03",
        "MUST",
        "Any other final status means that there is no tunnel.",
        "A ``ConnectError`` with the status and its meaning; a redirection is not "
        "followed.",
    )
    def test_each_status_is_named_with_its_meaning(self) -> None:
        for status, meaning in (
            (400, "bad request"),
            (403, "forbidden"),
            (405, "method not allowed"),
            (502, "bad gateway"),
            (504, "gateway timeout"),
            (302, "it redirects, which is not followed"),
            (399, "it redirects, which is not followed"),
            (777, "of unknown meaning"),
        ):
            reply = b"HTTP/1.1 %d hunter2 \x1b[2J\r\n" % status
            reply += b"Location: http://hunter2.example/\r\nContent-Length: 9\r\n\r\n"
            self.assertEqual(
                self.refusal(reply),
                f"the proxy {PROXY} could not connect to {TARGET}: {meaning} "
                f"(HTTP status {status}); check the host name and the port",
            )

    @shows(
        "RFC 9110-04",
        "MUST",
        "407: the client logs in by a method of Proxy-Authenticate.",
        "Basic only; the error says whether the login is missing, wrong, or needs "
        "another method.",
    )
    def test_refused_login_says_what_to_do(self) -> None:
        basic = b"Proxy-Authenticate: BASIC realm=hunter2\r\n"
        other = b"Proxy-Authenticate: Negotiate\r\nProxy-Authenticate: NTLM\r\n"
        for fields, proxy, problem in (
            (basic, WITH_LOGIN, "refused the user name and password (HTTP status 407)"),
            (b"", WITH_LOGIN, "refused the user name and password (HTTP status 407)"),
            (other + basic, WITH_LOGIN, "password (HTTP status 407); check the user"),
            (basic, PROXY, "wants a login (HTTP status 407); give a user name"),
            (b"", PROXY, "wants a login (HTTP status 407); give a user name"),
            (other, WITH_LOGIN, "does not accept the login method Basic, the only"),
            (other, PROXY, "(HTTP status 407); give a proxy that accepts Basic"),
        ):
            reply = b"HTTP/1.1 407 Log in\r\n" + fields + b"\r\n"
            self.assertIn(problem, self.refusal(reply, proxy))

    @shows(
        "attack 6.7",
        "An HTTP proxy sends garbage, endless headers, a redirection, or nothing",
        "Time, memory, a session that starts in a wrong state.",
        "A ``ConnectError`` or ``TimedOutError`` that names the step; at most 16 KiB "
        "of headers are read, and no text of the proxy is shown.",
    )
    def test_other_protocol_is_recognised_at_its_first_byte(self) -> None:
        for answer in (b"+OK hunter2", b"\x05\xff", b"\x16\x03", b"\r\n", b"hunter2"):
            text = self.refusal(answer)
            self.assertIn(f"{UNANSWERED}: what it sent is not HTTP, it begins", text)
        self.assertIn("begins with '+'", self.refusal(b"+"))
        self.assertIn(r"begins with '\x16'", self.refusal(b"\x16"))

    @shows("attack 6.7")
    def test_invalid_reply_is_an_error_that_does_not_repeat_it(self) -> None:
        for reply in (
            b"HTTP/1.1 hunter2\r\n\r\n",
            b"HTTP/1.1 20\r\n\r\n",
            b"HTTP/2 200 OK\r\n\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nhunter2\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n : hunter2\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX: hunter2\x00\r\n\r\n",
        ):
            text = self.refusal(reply)
            self.assertIn(f"{UNANSWERED}: its reply is not valid HTTP; check", text)

    @shows("attack 6.7")
    def test_endless_headers_are_an_error_within_the_limit(self) -> None:
        for begin, piece in (
            (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
            (b"HTTP/1.1 200 OK\r\nX: ", b"y" * 100),
            (b"HTTP/1.1 ", b"100 Continue\r\n\r\nHTTP/1.1 "),
        ):
            dialogue = self.dialogue(WITH_LOGIN)
            dialogue.start()
            received = len(begin)
            with self.assertRaises(ConnectError) as caught:
                dialogue.receive(begin)
                while received < 2 * MAX_REPLY:
                    received += len(piece)
                    dialogue.receive(piece)
            self.assertLessEqual(received, MAX_REPLY + len(piece))
            self.assertIn(
                f"{UNANSWERED}: its reply has more than 16 KiB of headers",
                str(caught.exception),
            )


class ConnectTests(proxied.ConnectTests):
    url = WITH_LOGIN
    shown = PROXY
    secrets = (PASSWORD, BASIC)
    connected = CONNECTED

    def test_session_begins_when_the_proxy_has_connected(self) -> None:
        told: list[str] = []
        opening = self.through(PROXY, stsproc=told.append)
        self.assertEqual(self.reactor.resolver.asked, ["proxy.example.net"])
        self.assertEqual(self.reactor.attempts(), [("192.0.2.7", 3128)])
        tunnel, transport = self.reactor.accept()
        self.assertEqual(transport.value(), REQUEST)
        transport.clear()
        tunnel.dataReceived(CONNECTED)
        self.assertEqual((told, transport.value()), ([], b""))
        tunnel.dataReceived(b"+OK ready\r\n")
        self.assertEqual(transport.value(), b"CAPA\r\n")
        self.assertEqual(told, ["S: +OK ready", "C: CAPA"])
        opening.addErrback(lambda _: None)
        opening.cancel()
        self.assertTrue(transport.aborting)

    def test_body_behind_the_reply_is_read_as_the_greeting(self) -> None:
        """What is in the tunnel is the server's: a page of HTML is no greeting."""
        opening = self.through()
        tunnel, _ = self.reactor.accept()
        tunnel.dataReceived(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n<html>\r\n")
        tunnel.connectionLost(Failure(ConnectionLost()))
        error = self.failureResultOf(opening).value
        self.assertIn("it looks like a web server", str(error))

    @shows("attack 6.7")
    def test_proxy_that_hangs_is_named_with_what_it_did_not_do(self) -> None:
        self.assertHangIsNamed(None, "was not reached")
        for answers in (
            [],
            [b"HTT"],
            [b"HTTP/1.1 100 Wait\r\n\r\n", CONNECTED[:-1]],
        ):
            self.assertHangIsNamed(answers, UNDONE)

    @shows("attack 6.7")
    def test_proxy_that_closes_is_named_with_what_it_did_not_do(self) -> None:
        for answers in ([], [b"HTTP/1.1 200 OK\r\n"]):
            self.assertCloseIsNamed(answers, UNDONE)

    def test_refusal_closes_the_connection(self) -> None:
        opening = self.through()
        tunnel, transport = self.reactor.accept()
        tunnel.dataReceived(b"HTTP/1.1 403 No\r\n\r\n<html>hunter2")
        error = self.error(opening, ConnectError)
        self.assertIn("forbidden (HTTP status 403)", str(error))
        self.assertTrue(transport.aborting)
        tunnel.connectionLost(Failure(ConnectionLost()))
        self.assertNothingLeft()

    def test_no_frame_of_an_error_shows_the_login(self) -> None:
        for reply in (b"HTTP/1.1 407 No\r\n\r\n", b"+OK", b"HTTP/1.1 x\r\n\r\n"):
            self.setUp()
            opening = self.through()
            tunnel, _ = self.reactor.accept()
            tunnel.dataReceived(reply)
            error = self.failureResultOf(opening).value
            self.assertEqual(leaks(error, ["hunter2", BASIC]), [])

    def test_cancelling_at_any_step_closes_the_connection(self) -> None:
        self.assertCancellingCloses(b"HTTP/1.1 200")

    @shows("attack 6.3")
    def test_login_of_the_proxy_in_the_servers_text_is_masked(self) -> None:
        told: list[str] = []
        opening = self.through(stsproc=told.append)
        tunnel, _ = self.reactor.accept()
        tunnel.dataReceived(CONNECTED)
        tunnel.dataReceived(f"-ERR hunter2 or {BASIC}\r\n".encode())
        tunnel.connectionLost(Failure(ConnectionLost()))
        error = self.error(opening, LoginError)
        self.assertIn("******** or ********", str(error))
        self.assertEqual(told, ["S: -ERR ******** or ********"])

    def test_missing_h11_is_a_usage_error_that_says_how_to_install_it(self) -> None:
        with mock.patch.dict(sys.modules, h11=None):
            error = self.failureResultOf(self.through()).value
        self.assertIsInstance(error, UsageError)
        self.assertIn("h11: pip install 'pop3connect[proxy]'", str(error))
        self.assertEqual(self.reactor.attempts(), [])


class LoopbackTests(proxied.LoopbackTests):
    kind = HTTPProxy
    scheme = "http"

    @shows("feature 1.12")
    @shows("RFC 9110-01")
    async def test_name_is_looked_up_by_the_proxy_and_verified(self) -> None:
        await self.assertNameIsLookedUpAndVerified()

    async def test_refusals_of_a_real_proxy_are_connect_errors(self) -> None:
        at = self.serve((b"ada", b"right"))
        for server, login, problem in (
            ("pop.example.invalid", "ada:right@", "gateway timeout (HTTP status 504)"),
            (self.NAME, "ada:wrong@", "refused the user name and password"),
            (self.NAME, "", "wants a login"),
        ):
            await self.assertRefused(at, problem, server=server, login=login)
