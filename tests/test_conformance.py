"""
Rules of the RFCs that no other module has a test of.

`docs/conformance.rst` has all of them, each with its tests.
"""

from __future__ import annotations

import base64
import hmac
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from pop3connect import CommandError, Handle
from pop3connect.testing import Script, ScriptedServer

from .support.shows import shows


class ConformanceTestCase(SynchronousTestCase):
    """
    Sessions by a script.
    """

    def play(self, script: Script, **options: Any) -> tuple[ScriptedServer, Handle]:
        server = ScriptedServer(script)
        opening: Deferred[Handle] = server.connect(**options)
        server.flush()
        return server, self.successResultOf(opening)

    def leave(self, server: ScriptedServer, handle: Handle) -> None:
        ending = handle.disconnect()
        server.flush()
        self.successResultOf(ending)
        server.check()


class ImplementationTests(ConformanceTestCase):
    """
    The text of IMPLEMENTATION (RFC 2449 section 6.9).
    """

    @shows(
        "RFC 2449-05",
        "MUST",
        "Do not behave by the text of IMPLEMENTATION.",
        "One exception: a server that calls itself Cyrus is tried with ``tls-unique`` "
        "first, and is offered no TLS session. The name never decides whether a "
        "binding is used.",
    )
    def test_implementation_name_does_not_change_the_dialogue(self) -> None:
        # One script, that is one dialogue, whatever the name.
        for name in ("Dovecot", "Microsoft Exchange", "Cyrus", "gmail", "x" * 400):
            offer = ["USER", "PIPELINING", f"IMPLEMENTATION {name}"]
            server, handle = self.play(
                Script()
                .greet(f"+OK {name} ready")
                .log_in(capabilities=offer)
                .expect("UIDL")
                .reply(lines=[])
                .quit()
            )
            self.assertEqual(handle.capabilities["IMPLEMENTATION"], tuple(name.split()))
            asked = handle.uidl()
            self.leave(server, handle)
            self.successResultOf(asked)


class InitialResponseTests(ConformanceTestCase):
    """
    AUTH (RFC 5034 section 4).
    """

    def logged_in(self, *dialogue: tuple[str, str], **options: Any) -> None:
        script = Script().greet().expect("CAPA").reply(lines=["SASL EXTERNAL CRAM-MD5"])
        for said, answer in dialogue:
            script.expect(said).reply(answer)
        script.expect("CAPA").reply(lines=["TOP"]).quit()
        self.leave(*self.play(script, **options))

    @shows("RFC 5034-02")
    def test_empty_initial_response_is_sent_as_an_equals_sign(self) -> None:
        self.logged_in(
            ("AUTH EXTERNAL =", "+OK"), auth="EXTERNAL", username="", password=""
        )

    @shows("RFC 5034-06")
    def test_challenge_line_of_12284_bytes_is_accepted(self) -> None:
        """
        RFC 4954 section 4 has 12,288 octets for such a line; RFC 5034 has no limit.
        """
        challenge = b"c" * 9_210
        digest = hmac.new(b"lovelace", challenge, "md5").hexdigest()
        encoded = base64.b64encode(challenge).decode()
        self.assertEqual(len(f"+ {encoded}\r\n"), 12_284)
        self.logged_in(
            ("AUTH CRAM-MD5", f"+ {encoded}"),
            (base64.b64encode(f"ada {digest}".encode()).decode(), "+OK"),
            auth="CRAM-MD5",
        )

    @shows("RFC 5034-08")
    def test_text_after_the_final_ok_is_ignored(self) -> None:
        """
        It is text: neither a challenge nor a proof (section 4).
        """
        challenge = base64.b64encode(b"<1@pop.example.com>").decode()
        digest = hmac.new(b"lovelace", b"<1@pop.example.com>", "md5").hexdigest()
        self.logged_in(
            ("AUTH CRAM-MD5", f"+ {challenge}"),
            (base64.b64encode(f"ada {digest}".encode()).decode(), f"+OK {challenge}"),
            auth="CRAM-MD5",
        )


class RefusalTests(ConformanceTestCase):
    """
    Refusals with a response code.
    """

    @shows(
        "RFC 6856-05",
        "MAY",
        "``-ERR [UTF8]`` to a retrieval: ask again in UTF-8 mode.",
        "The error has the code. UTF8 has to come before the login, so the "
        "application needs a new session with ``utf8=True``.",
    )
    def test_retr_refused_with_utf8_code_keeps_session_open(self) -> None:
        """
        RFC 6856 section 5: the code is told, and the session goes on.
        """
        server, handle = self.play(
            Script()
            .greet()
            .log_in()
            .expect("RETR 1")
            .reply("-ERR [UTF8] needs a client that has it")
            .quit()
        )
        asked = handle.retrieve(1)
        self.leave(server, handle)
        error = self.failureResultOf(asked, CommandError).value
        self.assertEqual(error.code, "UTF8")
