"""
Attacks of a server, or of somebody on the way to it, from ``connect()`` on.

Each test states what the attacker gains: nothing.  `docs/attacks.rst` names them, and
those of other modules where the attack is one of many cases.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.logger import capturedLogs, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from pop3connect import (
    CommandError,
    ConnectionLostError,
    Handle,
    LoginError,
    POP3Error,
    ProtocolError,
    Secure,
    STLSUnavailableError,
    TimedOutError,
    UsageError,
    VerificationError,
    connect,
)
from pop3connect.testing import Script, ScriptedServer

from .support.certificates import ServerTLS, authority, leaf
from .support.memory import server_certificate
from .support.shows import shows

USER = "ada"
PASSWORD = "a secret of hers"

FORMS = [
    PASSWORD,
    base64.b64encode(PASSWORD.encode()).decode(),
    base64.b64encode(f"\0{USER}\0{PASSWORD}".encode()).decode(),
]
"""What a credential looks like on the wire."""

E = TypeVar("E", bound=POP3Error)

CODES = "\x1b]0;owned\x07\x1b[2J\r\u202egnp.exe\u200b\x9b31m"
"""What moves a terminal, or makes a line look like another."""


class AttackTestCase(SynchronousTestCase):
    """
    An attacker goes by a script, and a user connects.
    """

    def attack(self, *scripts: Script, **options: Any) -> tuple[Any, Deferred[Handle]]:
        self.status: list[str] = []
        # Whoever would connect by himself is seen: it is a whole reactor.
        server = ScriptedServer(*scripts, clock=MemoryReactorClock())
        options.setdefault("password", PASSWORD)
        options.setdefault("stsproc", self.status.append)
        opening = server.connect(username=USER, **options)
        server.flush()
        return server, opening

    def session(self, script: Script, **options: Any) -> tuple[Any, Handle]:
        """
        The attacker lets the user log in first.
        """
        server, opening = self.attack(script, password="lovelace", **options)
        return server, self.successResultOf(opening)

    def folder(self) -> Path:
        """
        Return a cacerts folder with our CA in it.
        """
        folder = Path(self.mktemp())
        folder.mkdir()
        authority().cert_pem.write_to_path(folder / "ca.pem")
        return folder

    def heard(self, server: Any) -> str:
        """
        Return all that the attacker was told.
        """
        lines = [line for stage in server.stages for line in stage.transcript]
        return "\n".join(line for line in lines if line.startswith("C: "))

    def nothing_gained(
        self, server: Any, failed: Deferred[Any], kind: type[E], *words: str
    ) -> E:
        """
        No credential, and nothing of what `over` looks for.
        """
        error = self.over(server, failed, kind, *words)
        said = self.heard(server)
        for form in FORMS:
            self.assertNotIn(form, said)
        return error

    def over(self, server: Any, failed: Deferred[Any], kind: type[E], *words: str) -> E:
        """
        No connection that is held or was not asked for, nothing that still waits, and
        an error that says these words.
        """
        error = self.failureResultOf(failed).value
        if type(error) is not kind:
            raise AssertionError(f"not {kind.__name__}: {error!r}") from error
        server.check()
        for stage in server.stages:
            self.assertTrue(stage.closed)
        self.assertEqual(server.clock.getDelayedCalls(), [])
        self.assertEqual((server.endpoint.connections, len(server.stages)), (1, 1))
        self.assertNoOther(server.clock, 0)
        self.assertTrue(str(error).isprintable(), error)
        self.assertTrue(str(error).startswith(str(error.server)), error)
        for word in words:
            self.assertIn(word, str(error))
        return error

    def assertNoOther(self, reactor: Any, connections: int) -> None:
        """
        Check that no more was asked of the reactor than so many connections.
        """
        self.assertEqual(len(reactor.tcpClients), connections)
        self.assertEqual(reactor.sslClients + reactor.unixClients, [])


class OfferTests(AttackTestCase):
    """
    What is offered in the clear was perhaps not said by the server.
    """

    @shows(
        "attack 1.1",
        "STLS is stripped from CAPA, refused, or a similar capability is offered",
        "The password, in the clear.",
        "``STLSUnavailableError``; no name and no password was sent. There is no "
        "fallback.",
    )
    def test_stripped_stls_ends_session_before_user_is_sent(self) -> None:
        """
        Gained: nothing.  The session ends before a name is sent.
        """
        server, opening = self.attack(
            Script()
            .greet()
            .expect("CAPA")
            .reply(lines=["USER", "SASL PLAIN"])
            .expect_close(),
            secure=Secure.STLS,
        )
        self.nothing_gained(
            server, opening, STLSUnavailableError, "does not offer STLS", "secure=1"
        )

    @shows(
        "attack 1.6",
        "Capabilities, mechanisms or an APOP timestamp are forged before TLS",
        "A weaker mechanism; a digest for a timestamp of the attacker's choice, from "
        "which the password can be guessed.",
        "They are forgotten, and asked for again over TLS.",
    )
    def test_capabilities_forged_before_tls_are_not_used(self) -> None:
        """
        Gained: nothing.  Within TLS it is the server's own that counts.
        """
        server, opening = self.attack(
            Script()
            .greet("+OK <1@attacker.example>")
            .expect("CAPA")
            .reply(lines=["STLS", "SASL X-TELL-ME PLAIN", "PIPELINING", "USER"])
            .expect("STLS")
            .reply()
            .start_tls(server_certificate())
            .expect("CAPA")
            .reply(lines=["SASL CRAM-MD5"])
            .expect("AUTH CRAM-MD5")
            .reply("-ERR [AUTH] no")
            .expect("QUIT")
            .reply()
            .expect_close(),
            secure=Secure.STLS,
            verify=False,
        )
        self.nothing_gained(server, opening, LoginError, "[AUTH] no", "CRAM-MD5")

    @shows("RFC 8314-04")
    @shows(
        "attack 3.4",
        "The user is sent elsewhere: another server, port, or without TLS",
        "The password, at a server of the attacker's choice.",
        "There is one connection, to the endpoint that the caller named.",
    )
    def test_referral_from_server_opens_no_other_connection(self) -> None:
        """
        Gained: nothing.  No text of a server leads anywhere.
        """
        elsewhere = "pop3://attacker.example:110/;AUTH=*"
        server, opening = self.attack(
            Script()
            .greet(f"+OK [REFERRAL {elsewhere}] moved to {elsewhere}")
            .expect("CAPA")
            .reply(lines=[f"REFERRAL {elsewhere}", f"IMPLEMENTATION {elsewhere}"])
            .expect(f"USER {USER}")
            .reply(f"-ERR [REFERRAL {elsewhere}] log in there")
            .expect("QUIT")
            .reply()
            .expect_close()
        )
        self.nothing_gained(server, opening, LoginError, "log in there")

    @shows(
        "attack 1.10",
        "Without TLS: everything except USER is stripped from the offer",
        "The password.",
        "With ``secure=0`` the password is sent, as the caller asked, and a warning "
        "is logged. With ``allow_cleartext=False`` nothing is sent.",
    )
    def test_stripped_scram_sends_no_password_if_cleartext_is_forbidden(self) -> None:
        """
        Gained: nothing.  SCRAM was stripped, and no password follows.
        """
        server, opening = self.attack(
            Script()
            .greet()
            .expect("CAPA")
            .reply(lines=["USER", "SASL PLAIN LOGIN"])
            .expect("QUIT")
            .reply()
            .expect_close(),
            allow_cleartext=False,
        )
        self.nothing_gained(
            server,
            opening,
            UsageError,
            "allow_cleartext=False",
            "set secure=1 or secure=2",
        )

    @shows(
        "attack 1.2",
        "The greeting says that the user is already logged in, so that it is too late "
        "for STLS",
        "The session, in the clear.",
        "A greeting logs nobody in. STLS is sent, and without it the session ends.",
    )
    def test_greeting_that_claims_to_be_logged_in_does_not_skip_stls(self) -> None:
        """
        Gained: nothing.  Whoever says that there is no need to log in, so that STLS
        comes too late, has a client that asks for it all the same.
        """
        for greeting in ("+OK [PREAUTH] logged in as ada", "+OK welcome back, ada"):
            server, opening = self.attack(
                Script()
                .greet(greeting)
                .expect("CAPA")
                .reply(lines=["STLS", "UIDL"])
                .expect("STLS")
                .reply("-ERR only before the login")
                .expect_close(),
                secure=Secure.STLS,
            )
            self.nothing_gained(
                server, opening, STLSUnavailableError, "only before the login"
            )
        server, opening = self.attack(
            Script().greet("* PREAUTH logged in as ada").expect_close(),
            secure=Secure.STLS,
        )
        self.nothing_gained(server, opening, ProtocolError, "an IMAP server")
        self.assertEqual(self.heard(server), "")


class LoginTests(AttackTestCase):
    """
    The login, as an attacker plays it.
    """

    @shows(
        "attack 3.1",
        "A greeting with the replies to a login behind it, so that the user seems to "
        "be logged in",
        "A mailbox of the attacker's choice in place of the user's.",
        "``ProtocolError``: the replies were not asked for.",
    )
    def test_replies_sent_with_the_greeting_are_a_protocol_error(self) -> None:
        """
        Gained: nothing.  A greeting with the answers to a login behind it is none.
        """
        whole = "+OK ready\r\n+OK\r\nUSER\r\n.\r\n+OK\r\n+OK logged in\r\n"
        for greeting in (whole, "+OK ready\r\n+OK you are logged in already\r\n"):
            server, opening = self.attack(Script().say(greeting).expect_close())
            self.nothing_gained(
                server, opening, ProtocolError, "no command was pending"
            )
            self.assertEqual(self.heard(server), "")

    @shows("RFC 1939-20")
    @shows(
        "RFC 8314-04",
        "MUST",
        "Do not try settings with credentials.",
        "Only one server, one port and one level are used.",
    )
    @shows("attack 3.4")
    def test_refused_login_opens_no_other_connection(self) -> None:
        """
        Gained: nothing.  Nobody can make it try another level, or go without TLS.
        """
        for refusal in ("-ERR [AUTH] no", "-ERR use port 110, without TLS", "-ERR"):
            refused = (
                Script()
                .greet()
                .expect("CAPA")
                .reply(lines=["SASL CRAM-MD5"])
                .expect("AUTH CRAM-MD5")
                .reply(refusal)
                .expect("QUIT")
                .reply()
                .expect_close()
            )
            within = Script().start_tls(server_certificate())
            within.steps += refused.steps
            upgraded = Script().greet().expect("CAPA").reply(lines=["STLS"])
            upgraded.expect("STLS").reply().start_tls(server_certificate())
            upgraded.steps += refused.steps[1:]
            for secure, script in enumerate((refused, within, upgraded)):
                server, opening = self.attack(
                    script, secure=secure, verify=False, auth="CRAM-MD5"
                )
                self.nothing_gained(server, opening, LoginError, "CRAM-MD5")

    @shows("attack 3.4")
    def test_refusal_naming_another_port_opens_no_connection_to_it(self) -> None:
        """
        Gained: nothing.  The one connection is to the address and port that were given.
        """
        reactor: Any = MemoryReactorClock()
        opening = connect("192.0.2.1:1100", USER, PASSWORD, reactor=reactor)
        host, port, factory = reactor.tcpClients[0][:3]
        self.assertEqual((host, port), ("192.0.2.1", 1100))
        client, wire = factory.buildProtocol(None), StringTransport()
        client.makeConnection(wire)
        for line in (
            b"+OK this is pop.example.com:110",
            b"+OK\r\nUSER\r\n.",
            b"-ERR use port 995, or pop.example.com:110",
            b"+OK pop.example.com:110 is better",
        ):
            client.dataReceived(line + b"\r\n")
        self.assertEqual(wire.value(), f"CAPA\r\nUSER {USER}\r\nQUIT\r\n".encode())
        self.assertTrue(wire.disconnecting)
        client.connectionLost(Failure(ConnectionDone()))
        self.failureResultOf(opening, LoginError)
        reactor.advance(3600)
        self.assertNoOther(reactor, 1)
        self.assertEqual(reactor.getDelayedCalls(), [])

    @shows("RFC 7628-02")
    @shows(
        "attack 3.5",
        "The server names a token endpoint of the attacker's",
        "The token, or a request from within the user's network.",
        "The URL is in ``.details``, and is not visited.",
    )
    def test_openid_url_from_server_is_reported_but_not_fetched(self) -> None:
        """
        Gained: nothing.  Where to get a token is told, and is the application's choice.
        """
        told = {
            "status": "invalid_token",
            "openid-configuration": "https://attacker.example/openid",
        }
        server, opening = self.attack(
            Script()
            .start_tls(server_certificate())
            .greet()
            .expect("CAPA")
            .reply(lines=["SASL OAUTHBEARER"])
            .step(
                "the token",
                lambda stage: (stage.line() or b"").startswith(b"AUTH OAUTHBEARER "),
            )
            .reply("+ " + base64.b64encode(json.dumps(told).encode()).decode())
            .expect("AQ==")
            .reply("-ERR no")
            .expect("QUIT")
            .reply()
            .expect_close(),
            secure=Secure.TLS,
            verify=False,
            auth="OAUTHBEARER",
        )
        # A server that is not verified, as the user wants it, does hear the token.
        error = self.over(server, opening, LoginError, "status=invalid_token")
        self.assertEqual(error.details, told)

    @shows(
        "attack 3.3",
        "The user is asked for the password before the server is verified",
        "The password, if the user types it.",
        "A callable password is not called.",
    )
    def test_unverified_server_does_not_trigger_the_password_callable(self) -> None:
        """
        Gained: nothing.  Who is not verified does not make the user type.
        """
        asked: list[None] = []
        server, opening = self.attack(
            Script().start_tls(server_certificate()),
            secure=Secure.TLS,
            password=lambda: asked.append(None),
            cacerts=self.folder(),
        )
        self.nothing_gained(
            server, opening, VerificationError, "put the certificate of"
        )
        self.assertEqual(asked, [])


class TextTests(AttackTestCase):
    """
    Texts of a server reach terminals, logs and web pages.
    """

    def everything_said(self, script: Script, **options: Any) -> str:
        with capturedLogs() as logs:
            server, opening = self.attack(script, **options)
            error = self.failureResultOf(opening, POP3Error).value
            server.check()
        texts = [str(error), repr(error), getattr(error, "text", ""), *self.status]
        texts += [formatEvent(event) for event in logs]
        return "\0".join(texts)

    @shows(
        "attack 4.1",
        "Terminal escapes, line ends and characters that turn the direction of text, "
        "in any text",
        "Control of what a terminal, a log or a web page shows.",
        "Escaped in errors, status lines, logs, ``greeting``, ``capabilities``, and "
        "the facts of a certificate.",
    )
    def test_control_codes_are_escaped_in_errors_status_and_logs(self) -> None:
        """
        Gained: nothing.  All of it is escaped, wherever it stands.
        """
        for script in (
            Script().greet(f"-ERR {CODES}").expect_close(),
            Script().say(f"{CODES}\r\n").expect_close(),
            Script()
            .greet(f"+OK {CODES}")
            .expect("CAPA")
            .reply(f"+OK {CODES}", lines=[CODES.replace("\r", "")])
            .expect(f"USER {USER}")
            .reply(f"-ERR {CODES}")
            .expect("QUIT")
            .reply()
            .expect_close(),
        ):
            said = self.everything_said(script)
            self.assertTrue(said.replace("\0", "").isprintable())
            self.assertIn("owned", said)

    @shows("attack 4.1")
    def test_control_codes_are_escaped_in_texts_of_an_open_session(self) -> None:
        """
        Gained: nothing.  What is handed on as text is escaped too.
        """
        offer = ["USER", f"IMPLEMENTATION {CODES}".replace("\r", "")]
        server, handle = self.session(
            Script()
            .greet(f"+OK {CODES}")
            .log_in(capabilities=offer)
            .expect("RETR 1")
            .reply(f"-ERR {CODES}")
            .expect("LANG")
            .reply(lines=[f"en {CODES}".replace("\r", "")])
            .quit()
        )
        asked, languages = handle.retrieve(1), handle.lang()
        ending = handle.disconnect()
        server.flush()
        error = self.failureResultOf(asked, CommandError).value
        texts = [str(error), error.text, repr(handle), handle.greeting]
        texts += [*self.successResultOf(languages).values(), *self.status]
        texts += [word for words in handle.capabilities.values() for word in words]
        for text in texts:
            self.assertTrue(text.isprintable(), text)
        self.successResultOf(ending)

    @shows(
        "attack 4.2",
        "The server repeats the password, plain or encoded, to have it logged",
        "The password, in a log that many can read.",
        "The password is masked.",
    )
    def test_password_repeated_by_server_is_masked(self) -> None:
        """
        Gained: nothing.  What the server says of a password is masked where it is told.
        """
        said = self.everything_said(
            Script()
            .greet()
            .expect("CAPA")
            .reply(lines=["USER"])
            .expect(f"USER {USER}")
            .reply()
            .expect(f"PASS {PASSWORD}")
            .reply(f"-ERR {' '.join(FORMS)} is wrong")
            .expect("QUIT")
            .reply()
            .expect_close()
        )
        for form in FORMS:
            self.assertNotIn(form, said)


class FloodTests(AttackTestCase):
    """
    More than there should be.
    """

    MANY = 600
    """Pieces of a flood; the client has to hang up long before."""

    def flood(self, script: Script, piece: bytes) -> Script:
        def play(stage: Any) -> bool:
            for _ in range(self.MANY):
                if stage.closed:
                    break
                stage.transport.write(piece)
            return True

        return script.step("flood", play).expect_close()

    @shows(
        "attack 5.1",
        "An endless line, anywhere",
        "All memory.",
        "``ProtocolError`` after 16,384 octets.",
    )
    def test_endless_line_ends_the_session(self) -> None:
        """
        Gained: nothing.  16 KiB of a line are kept, and 512 octets of it are shown.
        """
        line, body = "more than 16384 bytes", "a row of more than 512 bytes"
        for script, words in (
            (Script(), line),
            (Script().say("+OK "), line),
            (Script().greet().expect("CAPA").say("+OK "), line),
            (Script().greet().expect("CAPA").reply().say("X"), body),
            (
                Script()
                .greet()
                .expect("CAPA")
                .reply(lines=["SASL CRAM-MD5"])
                .expect("AUTH CRAM-MD5")
                .say("+ "),
                line,
            ),
        ):
            server, opening = self.attack(self.flood(script, b"A" * 1000))
            error = self.nothing_gained(server, opening, ProtocolError, words)
            self.assertLess(len(str(error)), 2000)

    @shows(
        "attack 5.2",
        "Endless capabilities or languages",
        "The same.",
        "``ProtocolError`` after 512 rows, or a row of more than 512 octets.",
    )
    def test_endless_capabilities_end_the_session(self) -> None:
        """
        Gained: nothing.  512 rows are more than any server has.
        """
        server, opening = self.attack(
            self.flood(Script().greet().expect("CAPA").reply(), b"X" * 998 + b"\r\n")
        )
        self.nothing_gained(
            server, opening, ProtocolError, "CAPA", "a row of more than 512 bytes"
        )

    @shows(
        "attack 5.3",
        "An endless listing",
        "The same, and time.",
        "``ProtocolError`` after ``max_listing`` rows (2,000,000), or a row of more "
        "than 512 octets.",
    )
    def test_endless_listing_ends_the_session(self) -> None:
        """
        Gained: nothing.  A listing has a limit, for fourteen million messages.
        """
        server, handle = self.session(
            self.flood(
                Script().greet().log_in().expect("LIST").reply(), b"1 1\r\n" * 50
            ),
            max_listing=10_000,
        )
        asked = handle.list()
        server.flush()
        error = self.nothing_gained(
            server, asked, ProtocolError, "LIST more than 10000 rows"
        )
        self.assertNotIn("list()", str(error))

    @shows(
        "attack 5.5",
        "An endless message",
        "The same.",
        "``max_message_size`` limits it, and a message streamed to a consumer takes "
        "the memory of one chunk. Without either, a message may take all memory.",
    )
    def test_endless_body_ends_the_session_at_max_message_size(self) -> None:
        """
        Gained: nothing, where ``max_message_size`` is given.
        """
        server, handle = self.session(
            self.flood(Script().greet().log_in().expect("RETR 1").reply(), b"x" * 1000),
            max_message_size=100_000,
        )
        asked = handle.retrieve(1)
        server.flush()
        self.nothing_gained(
            server, asked, ProtocolError, "max_message_size=100000", "list() first"
        )

    @shows(
        "attack 5.6",
        "Replies that were not asked for; endless blank lines",
        "The same.",
        "The first such reply ends the session, as do more than 100,000 blank lines.",
    )
    def test_flood_of_unexpected_replies_ends_the_session(self) -> None:
        """
        Gained: nothing.  The first one ends the session; nothing is kept of the others.
        """
        script = Script().greet().log_in().delay(1)
        server, handle = self.session(self.flood(script, b"+OK\r\n" * 100))
        server.advance(1)
        self.nothing_gained(
            server, handle.noop(), ProtocolError, "no command was pending"
        )


class SlowTests(AttackTestCase):
    """
    As slowly as it takes to hold a session.
    """

    def hold(self, script: Script, seconds: float, **options: Any) -> Any:
        server, opening = self.attack(script, **options)
        for _ in range(int(seconds)):
            server.advance(1)
        return self.nothing_gained(server, opening, TimedOutError, "took too long")

    @shows(
        "attack 5.7",
        "An octet a second, to hold the session",
        "A session that lasts for ever, and everything that waits for it.",
        "Greeting, handshake and reply each have one time limit as a whole. Of a "
        "message, 512 octets have to come within it. A server that sends just those "
        "holds the session until ``max_message_size`` is reached; use "
        "``addTimeout()`` of the Deferred against that.",
    )
    def test_reply_at_one_byte_a_second_times_out_after_60_seconds(self) -> None:
        """
        Gained: a minute.  The time is for all of an answer, not for an octet of it.
        """
        text = "+OK " + "x" * 200
        for script in (
            Script().trickle(1, 1).greet(text).expect_close(),
            Script().greet().expect("CAPA").trickle(1, 1).reply(text).expect_close(),
            Script()
            .greet()
            .expect("CAPA")
            .reply(lines=["USER"])
            .expect(f"USER {USER}")
            .trickle(1, 1)
            .reply(text)
            .expect_close(),
        ):
            error = self.hold(script, 70)
            self.assertEqual(error.seconds, 60)

    @shows("attack 5.7")
    def test_handshake_at_one_byte_a_second_times_out_after_30_seconds(self) -> None:
        """
        Gained: half a minute.
        """
        error = self.hold(
            Script().trickle(1, 1).start_tls(server_certificate()).expect_close(),
            40,
            secure=Secure.TLS,
            verify=False,
        )
        self.assertEqual((error.phase, error.seconds), ("TLS handshake", 30))

    @shows("attack 5.7")
    def test_message_at_one_byte_a_second_times_out(self) -> None:
        """
        Gained: a minute.  512 octets of a message have to come within the time.
        """
        server, handle = self.session(
            Script()
            .greet()
            .log_in()
            .expect("RETR 1")
            .trickle(1, 1)
            .message(b"x" * 10_000)
            .expect_close()
        )
        asked = handle.retrieve(1)
        for _ in range(200):
            server.advance(1)
        self.nothing_gained(server, asked, TimedOutError, "no reply within 60 seconds")


class MailTests(AttackTestCase):
    """
    Who sends a mail controls its text.
    """

    FORGED = (
        b"Subject: hello\r\n\r\n+OK 1 octet\r\nx\r\n.\r\n-ERR gone\r\n+OK\r\n"
        b".\r\n..\r\n...\r\n\r\n.\r\n"
    )

    @shows(
        "attack 4.3",
        "A mail with replies and end markers in it",
        "Forged replies: a deletion reported as done, one mail in the place of "
        "another.",
        "They stay text of the mail. If a server does not stuff dots, the session "
        "ends, and no deletion counts as confirmed.",
    )
    def test_forged_replies_inside_a_message_stay_in_the_message(self) -> None:
        """
        Gained: nothing.  A mail is a mail, however it is cut.
        """
        for octets in (None, 1, 2, 3, 7):
            server, handle = self.session(
                Script()
                .greet()
                .log_in()
                .split(octets)
                .expect("RETR 1")
                .message(self.FORGED)
                .expect("RETR 2")
                .reply("-ERR no such message")
                .expect("QUIT")
                .reply()
                .expect_close()
            )
            asked, other = handle.retrieve(1), handle.retrieve(2)
            ending = handle.disconnect()
            server.flush()
            self.assertEqual(self.successResultOf(asked), self.FORGED)
            self.failureResultOf(other, CommandError)
            self.successResultOf(ending)
            server.check()

    @shows("attack 4.3")
    def test_unstuffed_message_with_forged_replies_confirms_no_deletion(self) -> None:
        """
        Gained: the end of the session.  No deletion is taken for confirmed.
        """
        server, handle = self.session(
            Script()
            .greet()
            .log_in()
            .expect("RETR 1")
            .expect("DELE 1")
            .expect("QUIT")
            .say(b"+OK\r\n" + self.FORGED + b".\r\n+OK\r\n+OK bye\r\n")
            .expect_close()
        )
        asked, marking, ending = (
            handle.retrieve(1),
            handle.delete(1),
            handle.disconnect(),
        )
        server.flush()
        self.successResultOf(asked)
        self.failureResultOf(marking, CommandError)
        committed = ending.result
        ending.addErrback(lambda _: None)
        self.assertNotIn(1, getattr(committed, "deleted", ()))
        server.check()


class TrustTests(AttackTestCase):
    """
    Certificates of somebody else.
    """

    @shows(
        "attack 2.1",
        "A certificate of a trusted CA for another name",
        "The session, and with it password and mail.",
        "``VerificationError`` inside the handshake, which lists the names in the "
        "certificate.",
    )
    def test_certificate_for_another_name_is_refused(self) -> None:
        """
        Gained: nothing.  A certificate of our CA, for another of its servers.
        """
        server, opening = self.attack(
            Script().start_tls(ServerTLS(leaf("www.example.com"))),
            secure=Secure.TLS,
            cacerts=self.folder(),
        )
        self.nothing_gained(
            server,
            opening,
            VerificationError,
            "is not for pop.example.com: it is for www.example.com",
        )

    @shows(
        "attack 2.9",
        "The connection breaks in the handshake",
        "A second, weaker attempt.",
        "``ConnectionLostError``; nothing was sent.",
    )
    def test_connection_dropped_in_tls_handshake_is_reported_as_lost(self) -> None:
        """
        Gained: nothing.
        """
        server, opening = self.attack(
            Script().drop(after=200).start_tls(server_certificate()),
            secure=Secure.TLS,
            cacerts=self.folder(),
        )
        self.nothing_gained(
            server, opening, ConnectionLostError, "during the TLS handshake"
        )
