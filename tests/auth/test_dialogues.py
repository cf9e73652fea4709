"""
The dialogues of logging in, octet by octet, with servers good and bad.
"""

from __future__ import annotations

import base64
import gc
import hashlib
import hmac
import re
from collections.abc import Callable
from functools import partial
from types import CellType, FunctionType, MethodType
from typing import Any

from cryptography.hazmat.primitives import hashes
from scramp import ScramException, ScramMechanism
from twisted.internet.defer import (
    CancelledError,
    Deferred,
    fail,
    getDebugging,
    setDebugging,
    succeed,
)
from twisted.internet.error import ConnectionLost, ConnectionRefusedError
from twisted.logger import globalLogPublisher
from twisted.mail.interfaces import IClientAuthentication
from twisted.python.failure import Failure
from zope.interface import implementer

from pop3connect import (
    Connector,
    Handle,
    LoginError,
    POP3ClientFactory,
    ProtocolError,
    Secure,
    UsageError,
)

from ..support.certificates import ServerTLS, TLSTestCase, authority
from ..support.memory import (
    Latest,
    SessionTestCase,
    Transport,
    server_certificate,
)
from ..support.shows import shows

HOST = "pop.example.com:110"
SALT = b"salt" * 4
STAMPED = b"+OK <1.2@pop.example.com>"


def b64(octets: bytes | str) -> bytes:
    """
    What stands for these octets on the wire.
    """
    return base64.b64encode(octets.encode() if isinstance(octets, str) else octets)


class Dialogue(SessionTestCase):
    """
    A login, up to and after AUTH.
    """

    def setUp(self) -> None:
        self.openings: list[Deferred[Handle]] = []
        super().setUp()

    def _nothing_left(self) -> None:
        super()._nothing_left()
        # A test may have seen enough before the login has ended.
        for opening in self.openings:
            opening.addErrback(lambda _: None)

    def begin(
        self,
        *sasl: str,
        tls: bool = False,
        greeting: bytes = b"+OK ready",
        more: bytes = b"",
        **options: Any,
    ) -> Deferred[Handle]:
        options.setdefault("username", "user")
        options.setdefault("password", "pencil")
        self.name = options.setdefault("server", HOST)
        if tls:
            options.update(secure=Secure.TLS, verify=False)
        opening = self.open(**options)
        self.openings.append(opening)
        if tls:
            self.server.start_tls(server_certificate())
        self.capabilities = (
            b"+OK\r\n"
            + more
            + b"".join(b"SASL %b\r\n" % " ".join(sasl).encode() for _ in sasl[:1])
        )
        self.capabilities += b".\r\n"
        self.server.say(greeting + b"\r\n")
        self.server.expect(b"CAPA", self.capabilities)
        return opening

    def end(self, opening: Deferred[Handle], mechanism: str) -> Handle:
        """
        Check that the client is content, and has logged in so.
        """
        self.server.expect(b"CAPA", self.capabilities)
        handle: Handle = self.result(opening)
        self.assertEqual(handle.login.mechanism, mechanism)
        return handle

    def gone(self, opening: Deferred[Handle], kind: type[Exception]) -> Any:
        """
        Check that the client has given up, and return why.
        """
        if self.server.heard() == b"QUIT\r\n":
            self.server.say(b"+OK\r\n")
        self.server.settle()
        self.server.lose()
        return self.error(opening, kind)


class MechanismTests(Dialogue):
    """
    Each mechanism, with the vectors of its RFC where it has some.
    """

    @shows(
        "RFC 5034-02",
        "MUST",
        "An initial response is base64; an empty one is ``=``.",
        "One function encodes all responses.",
    )
    def test_plain_logs_in_with_initial_response(self) -> None:
        opening = self.begin("PLAIN", auth="PLAIN")
        self.server.expect(b"AUTH PLAIN " + b64("\0user\0pencil"), b"+OK\r\n")
        self.assertTrue(self.end(opening, "PLAIN").login.cleartext)

    @shows(
        "RFC 5034-12",
        "MUST",
        "An initial response only where the client speaks first.",
        "Each mechanism declares it.",
    )
    def test_login_sends_user_and_password_when_prompted(self) -> None:
        opening = self.begin("LOGIN", auth="LOGIN")
        self.server.expect(b"AUTH LOGIN", b"+ " + b64("Username:") + b"\r\n")
        self.server.expect(b64("user"), b"+ " + b64("Password:") + b"\r\n")
        self.server.expect(b64("pencil"), b"+OK\r\n")
        self.end(opening, "LOGIN")

    @shows("RFC 5034-11")
    @shows("RFC 5034-12")
    def test_cram_md5_example_of_rfc_2195_logs_in(self) -> None:
        """
        The example of RFC 2195 section 2.
        """
        opening = self.begin(
            "CRAM-MD5", username="tim", password="tanstaaftanstaaf", auth="CRAM-MD5"
        )
        challenge = b64("<1896.697170952@postoffice.reston.mci.net>")
        self.server.expect(b"AUTH CRAM-MD5", b"+ " + challenge + b"\r\n")
        proof = b64("tim b913a602c7eda7a495b4e6e7334d3890")
        self.server.expect(proof, b"+OK\r\n")
        self.assertFalse(self.end(opening, "CRAM-MD5").login.cleartext)

    @shows(
        "quirk 3.7",
        "XOAUTH2 on one line is refused",
        "XOAUTH2 is always sent in two steps, the response in one write.",
    )
    def test_xoauth2_sends_token_after_empty_challenge(self) -> None:
        opening = self.begin("XOAUTH2", tls=True, auth="XOAUTH2")
        self.server.expect(b"AUTH XOAUTH2", b"+ \r\n")
        token = b64("user=user\1auth=Bearer pencil\1\1")
        self.server.expect(token, b"+OK\r\n")
        self.end(opening, "XOAUTH2")

    def test_oauthbearer_logs_in_with_initial_response(self) -> None:
        opening = self.begin("OAUTHBEARER", tls=True, auth="OAUTHBEARER")
        said = b64("n,a=user,\1host=pop.example.com\1port=110\1auth=Bearer pencil\1\1")
        self.server.expect(b"AUTH OAUTHBEARER " + said, b"+OK\r\n")
        self.end(opening, "OAUTHBEARER")

    def test_external_and_anonymous_need_no_password(self) -> None:
        for name in ("EXTERNAL", "ANONYMOUS"):
            opening = self.begin(name, auth=name, password="")
            self.server.expect(b"AUTH %b %b" % (name.encode(), b64("user")), b"+OK\r\n")
            self.assertFalse(self.end(opening, name).login.cleartext)
            self.anew()

    def test_password_callable_is_not_called_where_no_password_is_used(self) -> None:
        for name in ("EXTERNAL", "ANONYMOUS"):
            opening = self.begin(name, auth=name, password=self.fail)
            self.server.expect(b"AUTH %b %b" % (name.encode(), b64("user")), b"+OK\r\n")
            self.end(opening, name)
            self.anew()

    def test_mechanism_supplied_by_caller_logs_in(self) -> None:
        @implementer(IClientAuthentication)
        class Reverse:
            def getName(self) -> bytes:
                return b"x-reverse"

            def challengeResponse(self, secret: bytes, challenge: bytes) -> bytes:
                return challenge + secret[::-1]

        opening = self.begin("X-REVERSE", tls=True, auth=Reverse())
        self.server.expect(b"AUTH X-REVERSE", b"+ " + b64("so?") + b"\r\n")
        self.server.expect(b64("so?licnep"), b"+OK\r\n")
        self.end(opening, "X-REVERSE")


class InitialResponseTests(Dialogue):
    """
    With the command or after it (RFC 5034 section 4).
    """

    @shows(
        "RFC 5034-01",
        "SHOULD",
        "No AUTH where CAPA has no SASL; if it is tried, it MUST have no initial "
        "response.",
        "``auto`` does not send it; a mechanism that the caller names is sent in two "
        "steps.",
    )
    def test_no_initial_response_if_sasl_is_not_announced(self) -> None:
        opening = self.begin(auth="PLAIN")
        self.server.expect(b"AUTH PLAIN", b"+ \r\n")
        self.server.expect(b64("\0user\0pencil"), b"+OK\r\n")
        self.end(opening, "PLAIN")

    @shows(
        "RFC 5034-03",
        "MUST",
        "An AUTH line of more than 255 octets has no initial response: it follows the "
        "empty challenge.",
        "The length is counted with CRLF.",
    )
    def test_no_initial_response_if_line_would_be_too_long(self) -> None:
        opening = self.begin("PLAIN", auth="PLAIN", password="x" * 300)
        self.server.expect(b"AUTH PLAIN", b"+ \r\n")
        self.server.expect(b64("\0user\0" + "x" * 300), b"+OK\r\n")
        self.end(opening, "PLAIN")

    @shows("RFC 5034-03")
    def test_initial_response_that_just_fits_is_sent_with_auth(self) -> None:
        # 255 octets with CR LF: 11 for the command, 240 of base64 for 180 octets.
        opening = self.begin("PLAIN", auth="PLAIN", password="x" * 174)
        heard = self.server.heard()
        self.assertEqual(len(heard), 253)
        self.server.say(b"+OK\r\n")
        self.end(opening, "PLAIN")

    @shows("RFC 5034-06")
    @shows("quirk 3.7")
    def test_long_token_is_sent_on_one_line_after_continuation(self) -> None:
        opening = self.begin("XOAUTH2", tls=True, auth="XOAUTH2", password="t" * 6000)
        self.server.expect(b"AUTH XOAUTH2", b"+\r\n")
        said = b64("user=user\1auth=Bearer " + "t" * 6000 + "\1\1")
        self.server.expect(said, b"+OK\r\n")
        self.end(opening, "XOAUTH2")


class ContinuationTests(Dialogue):
    """
    Continuations as servers really send them.
    """

    @shows(
        "quirk 3.1",
        "``+OK``, or ``+`` with any text, in the place of an empty challenge",
        'It means "go on".',
    )
    def test_continuation_is_accepted_in_every_form_servers_send(self) -> None:
        for said in (b"+", b"+ ", b"+ go ahead", b"+OK", b"+OK go ahead"):
            opening = self.begin(auth="PLAIN")
            self.server.expect(b"AUTH PLAIN", said + b"\r\n")
            self.server.expect(b64("\0user\0pencil"), b"+OK\r\n")
            self.end(opening, "PLAIN")
            self.anew()

    @shows(
        "RFC 5034-04",
        "MUST",
        "If a challenge cannot be decoded, cancel with ``*``, and await ``-ERR``.",
        "Then the next mechanism is tried, if there is one.",
    )
    @shows(
        "quirk 3.2",
        "A challenge that is not base64",
        "The login is cancelled with ``*``, and the next mechanism is tried.",
    )
    def test_challenge_that_is_not_base64_is_cancelled_and_user_is_tried(self) -> None:
        opening = self.begin("CRAM-MD5", more=b"USER\r\n")
        self.server.expect(b"AUTH CRAM-MD5", b"+ <not base64@x>\r\n")
        self.server.expect(b"*", b"-ERR cancelled\r\n")
        # No credential was seen, so the next way is tried.
        self.server.expect(b"USER user", b"+OK\r\n")
        self.server.expect(b"PASS pencil", b"+OK\r\n")
        self.end(opening, "USER")

    @shows(
        "attack 3.6",
        "A challenge with a line end in it, to make a command of the response",
        "A command of the attacker's choice.",
        "The response is sent in base64.",
    )
    def test_line_end_in_decoded_challenge_never_starts_a_new_line(self) -> None:
        """
        What is decoded from base64 can hold a CR LF; it never makes a second line.
        """
        opening = self.begin("X", auth=Echo())
        self.server.expect(b"AUTH X", b"+ " + b64("a\r\nDELE 1\r\n") + b"\r\n")
        self.server.expect(b64("a\r\nDELE 1\r\n"), b"+OK\r\n")
        self.end(opening, "X")

    @shows("attack 5.4", "Endless challenges", "The same.", "A login takes at most 16.")
    def test_endless_challenges_end_the_session(self) -> None:
        opening = self.begin("X", tls=True, auth=Patient())
        self.server.expect(b"AUTH X")
        for _ in range(40):
            if self.server.transport.disconnecting:
                break
            self.server.say(b"+ YQ==\r\n")
            self.server.heard()
        self.assertIn("more than 16 challenges", str(self.gone(opening, ProtocolError)))

    @shows(
        "RFC 5034-06",
        "MUST",
        "Challenges may be as long as the mechanism makes them.",
        "A line may have 16,384 octets, which is more than the 12,288 of RFC 4954.",
    )
    def test_huge_challenge_is_a_protocol_error(self) -> None:
        opening = self.begin("CRAM-MD5", auth="CRAM-MD5")
        self.server.expect(b"AUTH CRAM-MD5")
        self.server.say(b"+ " + b"QUJD" * 10_000)
        self.gone(opening, ProtocolError)


@implementer(IClientAuthentication)
class Echo:
    """
    A mechanism that says what it hears.
    """

    def getName(self) -> bytes:
        return b"X"

    def challengeResponse(self, secret: bytes, challenge: bytes) -> bytes:
        return challenge


@implementer(IClientAuthentication)
class Patient:
    """
    A mechanism that answers whatever it is asked.
    """

    def getName(self) -> bytes:
        return b"X"

    def challengeResponse(self, secret: bytes, challenge: bytes) -> bytes:
        return b"b"


class ScramTests(Dialogue):
    """
    SCRAM with a server of scramp, and with servers that are wrong.
    """

    def serve(
        self,
        name: str,
        password: str = "pencil",
        binding: tuple[str, bytes] | None = None,
        change: Callable[[str], str] = str,
        **options: Any,
    ) -> Deferred[Handle]:
        """
        Play the server up to its final message, which is sent as ``change`` has it.
        """
        mechanism = ScramMechanism(name)
        kept = mechanism.make_auth_info(password)
        server = mechanism.make_server(lambda _: kept, channel_binding=binding)
        opening = self.begin(name, **options)
        command, _, first = self.server.heard().strip().rpartition(b" ")
        self.assertEqual(command, b"AUTH " + name.encode())
        self.first = base64.b64decode(first).decode()
        server.set_client_first(self.first)
        answer = change(server.get_server_first())
        self.server.say(b"+ " + b64(answer) + b"\r\n")
        said = self.server.heard().strip()
        if self.server.transport.disconnecting or said in (b"*", b"QUIT", b""):
            return opening
        server.set_client_final(base64.b64decode(said).decode())
        final = change(server.get_server_final())
        if final:
            self.server.say(b"+ " + b64(final) + b"\r\n")
            if not self.server.transport.disconnecting:
                self.server.expect(b"")
        if not self.server.transport.disconnecting:
            self.server.say(b"+OK\r\n")
        return opening

    @shows(
        "feature 1.6",
        "SASL",
        "SCRAM, PLAIN, LOGIN, CRAM-MD5, EXTERNAL, ANONYMOUS, or your own mechanism",
    )
    @shows(
        "RFC 5034-11",
        "SHOULD",
        "Further mechanisms that do not send the password.",
        "SCRAM, CRAM-MD5, OAUTHBEARER, EXTERNAL. GSSAPI is not supported, so the "
        "service name ``pop`` is not needed.",
    )
    def test_login_succeeds_with_sha_1_sha_256_and_sha_512(self) -> None:
        for digest in ("1", "256", "512"):
            name = f"SCRAM-SHA-{digest}"
            self.end(self.serve(name), name)
            self.anew()

    @shows("RFC 5802-03")
    def test_no_channel_binding_is_offered_without_tls(self) -> None:
        self.serve("SCRAM-SHA-256")
        self.assertTrue(self.first.startswith("n,,"))

    @shows("RFC 5802-05")
    @shows("attack 1.8")
    def test_binding_server_refuses_client_when_plus_was_stripped(self) -> None:
        """
        A server that can bind refuses the flag y: its offer was taken out on the way.
        """
        self.begin("SCRAM-SHA-256", tls=True)
        first = base64.b64decode(self.server.heard().split()[-1]).decode()
        mechanism = ScramMechanism("SCRAM-SHA-256")
        server = mechanism.make_server(
            lambda _: mechanism.make_auth_info("pencil"),
            channel_binding=("tls-server-end-point", b"x" * 32),
        )
        with self.assertRaises(ScramException):
            server.set_client_first(first)

    @shows("RFC 5802-03")
    def test_flag_n_is_sent_when_plus_is_offered_and_plain_form_requested(self) -> None:
        """
        With the flag y a server that offers -PLUS must refuse (RFC 5802 section 6).
        """
        name = "SCRAM-SHA-256"
        for plus in ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS"):
            opening = self.begin(name, plus, tls=True, auth=name)
            self.assertEqual(self.asked_for(name), "n")
            opening.cancel()
            self.gone(opening, CancelledError)
            self.anew()

    @shows("RFC 5802-03")
    def test_flag_n_is_sent_when_offer_of_server_is_unknown(self) -> None:
        self.begin(tls=True, auth="SCRAM-SHA-256")
        self.server.expect(b"AUTH SCRAM-SHA-256", b"+\r\n")
        first = base64.b64decode(self.server.heard())
        self.assertTrue(first.startswith(b"n,,"))

    @shows("RFC 5802-03")
    @shows(
        "attack 1.8",
        "-PLUS, the channel binding of SCRAM, is stripped from the offer within TLS "
        "(by an attacker who ends the TLS connection)",
        "A proof that can be passed on to the server.",
        "The proof covers the client's view of the offer, so the server notices. If "
        "every SCRAM mechanism is stripped, nobody notices: the certificate alone "
        "protects the password.",
    )
    def test_flag_y_is_sent_over_tls_when_plus_is_not_offered(self) -> None:
        """
        "We could bind, but you do not offer it": the flag y (RFC 5802 section 6).
        """
        self.serve("SCRAM-SHA-256", tls=True)
        self.assertTrue(self.first.startswith("y,,"))

    @shows(
        "RFC 5802-03",
        "MUST",
        "The flag is ``p`` where both sides can bind, ``y`` where only the client "
        "can, ``n`` where the client cannot.",
        "The server notices if -PLUS was removed from its offer. ``n`` is also sent "
        "over TLS if the caller asked for the mechanism without -PLUS and the server "
        "offers -PLUS (it would have to refuse ``y``), or if the server lists no "
        "mechanisms at all.",
    )
    def test_plus_is_chosen_when_offered_and_bound_with_tls_exporter(self) -> None:
        """
        With -PLUS on offer it is taken, and bound as RFC 9266 has it for TLS 1.3.
        """
        opening = self.begin("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", tls=True)
        self.assertEqual(self.asked_for("SCRAM-SHA-256-PLUS"), "tls-exporter")
        opening.cancel()
        self.gone(opening, CancelledError)

    def asked_for(self, name: str) -> str:
        """
        Read the client's first message, and return the kind of binding in it.
        """
        command, _, first = self.server.heard().strip().rpartition(b" ")
        self.assertEqual(command, b"AUTH " + name.encode())
        self.first = base64.b64decode(first).decode()
        return self.first.partition(",")[0].removeprefix("p=")

    def bound(self, kind: str) -> None:
        """
        Be the rest of a SCRAM-SHA-256-PLUS server, by RFC 5802 and not by scramp.
        """
        connection = self.server.channel()
        certificate = connection.get_certificate()
        assert certificate is not None
        data = {
            "tls-unique": connection.get_peer_finished(),
            "tls-exporter": connection.export_keying_material(
                b"EXPORTER-Channel-Binding", 32, b""
            ),
            "tls-server-end-point": certificate.to_cryptography().fingerprint(
                hashes.SHA256()
            ),
        }[kind]
        bare = self.first.split(",", 2)[2]
        nonce = bare.partition(",r=")[2] + "ours"
        asked = f"r={nonce},s={b64(SALT).decode()},i=4096"
        self.server.say(b"+ " + b64(asked) + b"\r\n")
        answer = base64.b64decode(self.server.heard()).decode()

        salted = hashlib.pbkdf2_hmac("sha256", b"pencil", SALT, 4096)
        key = hmac.digest(salted, b"Client Key", "sha256")
        binding = b64(f"p={kind},,".encode() + data).decode()
        final = f"c={binding},r={nonce}"
        both = f"{bare},{asked},{final}".encode()
        mask = hmac.digest(hashlib.sha256(key).digest(), both, "sha256")
        proof = bytes(a ^ b for a, b in zip(key, mask, strict=True))
        self.assertEqual(answer, f"{final},p={b64(proof).decode()}")
        signature = hmac.digest(
            hmac.digest(salted, b"Server Key", "sha256"), both, "sha256"
        )
        self.server.say(b"+ " + b64(b"v=" + b64(signature)) + b"\r\n")
        self.server.expect(b"", b"+OK\r\n")

    @shows("feature 1.7", "SCRAM bound to the TLS connection", "the -PLUS mechanisms")
    @shows(
        "RFC 5802-05",
        "MUST",
        "The login is bound to the channel that it names.",
        "Both ends compute the same binding. A refused binding is never followed by a "
        "login without one.",
    )
    def test_login_bound_to_the_channel_succeeds(self) -> None:
        """
        Both ends of the channel agree on what they are bound to.
        """
        name = "SCRAM-SHA-256-PLUS"
        opening = self.begin(name, "SCRAM-SHA-256", tls=True)
        self.bound(self.asked_for(name))
        self.end(opening, name)

    def test_refused_tls_exporter_is_retried_with_tls_server_end_point(self) -> None:
        """
        A server that does not know tls-exporter is asked for tls-server-end-point,
        whichever way it says so.
        """
        name = "SCRAM-SHA-256-PLUS"
        for number, refusal in enumerate(
            (
                b"-ERR bad",
                b"-ERR Unsupported channel binding",
                b"+ " + b64("e=unsupported-channel-binding-type"),
            )
        ):
            opening = self.begin(
                name,
                tls=True,
                more=b"USER\r\n",
                # Each is a server that nothing is known of.
                server=f"retried-{number}.example.com:995",
            )
            self.assertEqual(self.asked_for(name), "tls-exporter")
            self.server.say(refusal + b"\r\n")
            if refusal.startswith(b"+"):
                self.server.expect(b"*", b"-ERR cancelled\r\n")
            self.assertEqual(self.asked_for(name), "tls-server-end-point")
            self.bound("tls-server-end-point")
            self.end(opening, name)
            self.anew()

    def refuse_proof(self, name: str, refusal: bytes) -> str:
        """
        Be a server that refuses after the proof, and return the kind of binding.
        """
        kind = self.asked_for(name)
        nonce = self.first.partition(",r=")[2] + "ours"
        self.server.say(
            b"+ " + b64(f"r={nonce},s={b64(SALT).decode()},i=4096") + b"\r\n"
        )
        self.assertIn(b",p=", base64.b64decode(self.server.heard()))
        self.server.say(refusal + b"\r\n")
        return kind

    @shows(
        "quirk 3.5",
        "The channel binding is compared only after the proof (Cyrus)",
        "One further attempt, with another binding; with Cyrus its own comes first.",
    )
    def test_refusal_after_the_proof_is_retried_once_with_another_binding(self) -> None:
        """
        Cyrus compares the type of the binding only after the proof.
        """
        name = "SCRAM-SHA-256-PLUS"
        for number, refusal in enumerate((b"-ERR no", b"-ERR [AUTH] no")):
            opening = self.begin(
                name,
                "SCRAM-SHA-256",
                "SCRAM-SHA-1-PLUS",
                "PLAIN",
                tls=True,
                more=b"USER\r\n",
                server=f"proven-{number}.example.com:995",
            )
            self.assertEqual(self.refuse_proof(name, refusal), "tls-exporter")
            self.assertEqual(self.refuse_proof(name, refusal), "tls-server-end-point")
            self.assertEqual(self.server.heard(), b"QUIT\r\n")
            self.server.say(b"+OK\r\n")
            error = self.gone(opening, LoginError)
            self.assertEqual(error.mechanism, name)
            for word in (
                "tls-exporter, tls-server-end-point",
                "auth='SCRAM-SHA-256'",
                "auth='PLAIN'",
            ):
                self.assertIn(word, str(error))
            self.anew()

    @shows("RFC 5802-05")
    @shows(
        "attack 1.9",
        "An attacker who ends the TLS connection refuses a bound login, so that one "
        "without a binding follows",
        "A proof that can be passed on, or the password itself.",
        "No login without a binding follows; the error says that the binding was "
        "refused.",
    )
    def test_binding_is_never_followed_by_a_login_without_binding(self) -> None:
        """
        To make a client give up the binding is what an attacker would want.
        """
        names = ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS")
        for number, refusal in enumerate(
            (
                b"-ERR bad",
                b"-ERR mechanism not supported",
                b"+ " + b64("e=channel-binding-not-supported"),
            )
        ):
            opening = self.begin(
                *names,
                "SCRAM-SHA-256",
                "PLAIN",
                tls=True,
                more=b"USER\r\n",
                server=f"unbound-{number}.example.com:995",
            )
            asked = []
            while b"AUTH" in (heard := self.server.heard()):
                asked.append(heard.split()[1].decode())
                self.server.say(refusal + b"\r\n")
                if refusal.startswith(b"+"):
                    self.server.expect(b"*", b"-ERR cancelled\r\n")
            self.assertEqual(asked, [names[0]] * 3 + [names[1]] * 3)
            self.assertEqual(heard, b"QUIT\r\n")
            self.server.say(b"+OK\r\n")
            self.assertIn("channel binding", str(self.gone(opening, LoginError)))
            self.anew()

    def test_named_error_about_the_password_is_not_retried(self) -> None:
        """
        RFC 5802 section 7: it is the proof that is wrong, and not the binding.
        """
        name = "SCRAM-SHA-256-PLUS"
        opening = self.begin(name, tls=True, server="e.example.com:995")
        self.refuse_proof(name, b"+ " + b64("e=invalid-proof"))
        self.server.expect(b"", b"-ERR [AUTH] no\r\n")
        error = self.gone(opening, LoginError)
        self.assertEqual(error.details, {"error": "invalid-proof"})
        self.assertIn("error=invalid-proof", str(error))

    def test_ok_after_a_named_error_is_a_protocol_error(self) -> None:
        name = "SCRAM-SHA-256"
        opening = self.begin(name, auth=name)
        self.refuse_proof(name, b"+ " + b64("e=other-error"))
        self.server.expect(b"", b"+OK\r\n")
        self.assertIn("did not prove", str(self.gone(opening, ProtocolError)))

    @shows("RFC 5929-01")
    @shows("quirk 3.5")
    def test_tls_unique_comes_first_where_the_server_says_cyrus(self) -> None:
        name = "SCRAM-SHA-256-PLUS"
        cyrus = b"Cyrus POP3 3.6.1-Debian server ready"
        for number, (greeting, more) in enumerate(
            (
                (b"+OK mail.example.com " + cyrus, b""),
                (b"+OK ready", b"IMPLEMENTATION " + cyrus + b"\r\n"),
            )
        ):
            opening = self.begin(
                name,
                tls=True,
                greeting=greeting,
                more=more,
                server=f"cyrus-{number}.example.com:995",
            )
            self.bound(self.asked_for(name))
            self.assertTrue(self.first.startswith("p=tls-unique,,"))
            self.end(opening, name)
            self.anew()

    def test_binding_that_worked_comes_first_and_is_the_only_one(self) -> None:
        """
        Where a binding is known to work, a refusal is one of the password.
        """
        name = "SCRAM-SHA-256-PLUS"
        options: dict[str, Any] = {"tls": True, "endpoint": Latest(self)}
        opening = self.begin(name, **options)
        self.asked_for(name)
        self.server.say(b"-ERR unsupported\r\n")
        self.bound(self.asked_for(name))
        self.end(opening, name)
        self.again()
        opening = self.begin(name, **options)
        self.assertEqual(
            self.refuse_proof(name, b"-ERR [AUTH] no"), "tls-server-end-point"
        )
        self.gone(opening, LoginError)
        self.again()
        # It was refused: nothing is known any more.
        self.begin(name, **options)
        self.assertEqual(self.asked_for(name), "tls-exporter")

    def short_salt(self, *sasl: str, **options: Any) -> Deferred[Handle]:
        """
        Be a server whose salt has 8 octets, until the client has cancelled.
        """
        opening = self.begin(*sasl, **options)
        self.asked_for(sasl[0])
        nonce = self.first.partition(",r=")[2] + "ours"
        salt = b64(b"8 octets").decode()
        self.server.say(b"+ " + b64(f"r={nonce},s={salt},i=4096") + b"\r\n")
        self.server.expect(b"*", b"-ERR cancelled\r\n")
        return opening

    @shows("quirk 3.6")
    def test_short_salt_is_named_as_such_where_the_server_is_unverified(self) -> None:
        for tls in (False, True):
            name = "SCRAM-SHA-256"
            opening = self.short_salt(name, "PLAIN", tls=tls, more=b"USER\r\n")
            error = self.gone(opening, LoginError)
            self.assertIn("salt for this account has 8 bytes", str(error))
            self.assertNotIn("impostor", str(error))
            self.anew()

    def wrong(self, change: Callable[[str], str]) -> str:
        """
        The server proves nothing: the session ends, and nothing weaker follows.
        """
        opening = self.serve("SCRAM-SHA-256", change=change, more=b"USER\r\n")
        error = self.gone(opening, ProtocolError)
        self.assertNotIn(b"USER", self.server.heard())
        self.anew()
        return str(error)

    @shows(
        "RFC 5034-08",
        "MUST",
        "The final ``+OK`` has no data.",
        "No data is read from it. SCRAM's proof comes as a challenge before it, or "
        "the login fails.",
    )
    @shows(
        "RFC 5802-01",
        "MUST",
        "The server's nonce begins with ours, and its signature is verified before "
        "the login counts.",
        "Both are checked, even after ``+OK``.",
    )
    @shows(
        "RFC 5802-02",
        "MUST",
        "``m=`` fails; unknown attributes are ignored; ``,`` and ``=`` are escaped in "
        "names.",
        "scramp implements it.",
    )
    @shows(
        "RFC 7677-01",
        "SHOULD",
        "At least 4,096 iterations, and an upper limit.",
        "4,096 to 1,000,000 iterations are accepted.",
    )
    @shows(
        "attack 3.2",
        "A server that does not know the password says ``+OK`` to SCRAM",
        "A user who reads the attacker's mail as genuine.",
        "The login fails, because the server has not proven that it knows the "
        "password.",
    )
    @shows(
        "attack 3.7",
        "Many iterations of SCRAM, to keep the processor busy",
        "A processor that is busy for hours.",
        "More than a million iterations are refused.",
    )
    def test_forged_or_weak_server_messages_end_the_session(self) -> None:
        def forge(text: str) -> str:
            return "v=" + b64(b"x" * 32).decode() if text.startswith("v=") else text

        self.wrong(forge)
        self.wrong(lambda text: "" if text.startswith("v=") else text)
        self.wrong(lambda text: re.sub("^r=.{9}", "r=otherotherx", text))
        self.assertIn("4096", self.wrong(lambda text: re.sub("i=.*", "i=1", text)))
        many = self.wrong(lambda text: re.sub("i=.*", "i=1000001", text))
        self.assertIn("from 4096 to 1000000", many)
        self.wrong(lambda text: "m=ext," + text)

    def test_wrong_password_is_a_login_error_naming_the_mechanism(self) -> None:
        opening = self.begin("SCRAM-SHA-256", more=b"USER\r\n")
        self.server.heard()
        self.server.say(b"-ERR [AUTH] no\r\n")
        error = self.gone(opening, LoginError)
        self.assertEqual((error.code, error.mechanism), ("AUTH", "SCRAM-SHA-256"))


class PolicyTests(Dialogue):
    """
    Which way is taken, and what ends it.
    """

    ALL = ("PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256", "XOAUTH2")

    def chosen(self, *sasl: str, **options: Any) -> str:
        self.begin(*sasl, **options)
        heard = self.server.heard().decode()
        self.anew()
        return heard.split("\r\n")[0]

    def test_over_tls_mechanisms_are_chosen_in_order_of_preference(self) -> None:
        def chosen(*sasl: str, **options: Any) -> str:
            return self.chosen(*sasl, tls=True, **options)

        stamp = b"+OK <1.2@pop.example.com>"
        self.assertRegex(chosen(*self.ALL), "^AUTH SCRAM-SHA-256 ")
        self.assertRegex(chosen("CRAM-MD5", "LOGIN", "PLAIN"), "^AUTH PLAIN ")
        self.assertEqual(chosen("CRAM-MD5", "LOGIN"), "AUTH LOGIN")
        self.assertEqual(
            chosen("CRAM-MD5", greeting=stamp, more=b"USER\r\n"), "USER user"
        )
        self.assertEqual(chosen("CRAM-MD5"), "AUTH CRAM-MD5")
        # A list without mechanisms leaves APOP, where
        # USER is not on offer.
        self.assertEqual(chosen(greeting=stamp, more=b"SASL\r\nUSER\r\n"), "USER user")
        self.assertRegex(chosen(greeting=stamp, more=b"SASL\r\n"), "^APOP ")
        self.assertEqual(chosen(greeting=stamp, more=b"USER\r\n"), "USER user")

    @shows(
        "RFC 2595-07",
        "MUST",
        "PLAIN only under TLS.",
        "``auto`` takes PLAIN and LOGIN under TLS only. Without TLS, PLAIN is used "
        "only if the caller names it: it is as much in the clear as USER, and there "
        "is the same warning.",
    )
    def test_without_tls_mechanisms_that_hide_the_password_come_first(self) -> None:
        stamp = b"+OK <1.2@pop.example.com>"
        user = b"USER\r\n"
        self.assertRegex(self.chosen(*self.ALL, greeting=stamp), "^AUTH SCRAM-SHA-256 ")
        self.assertEqual(
            self.chosen("PLAIN", "CRAM-MD5", greeting=stamp), "AUTH CRAM-MD5"
        )
        self.assertRegex(self.chosen("PLAIN", greeting=stamp, more=user), "^APOP ")
        self.assertEqual(self.chosen("PLAIN", more=user), "USER user")
        # A host name in angle brackets is not a timestamp (RFC 1939 section 7).
        host = b"+OK <pop.example.com>"
        self.assertEqual(self.chosen(greeting=host, more=user), "USER user")

    @shows(
        "RFC 2595-01",
        "MUST",
        "It can be configured to refuse every login in plain text without TLS.",
        "``allow_cleartext=False``, or ``secure`` 1 or 2.",
    )
    @shows("RFC 2595-07")
    def test_allow_cleartext_false_forbids_cleartext_and_permits_scram(self) -> None:
        opening = self.begin("PLAIN", more=b"USER\r\n", allow_cleartext=False)
        error = self.gone(opening, UsageError)
        self.assertIn("allow_cleartext", str(error))
        self.assertNotIn("pencil", "".join(self.status))
        self.anew()
        opening = self.begin("SCRAM-SHA-256", "PLAIN", allow_cleartext=False)
        self.assertIn(b"SCRAM", self.server.heard())

    @shows(
        "RFC 2595-08",
        "SHOULD",
        "Warn or refuse without privacy; weak mechanisms and ciphers can be refused.",
        "The log and the status procedure get a warning. Ciphers without forward "
        "secrecy or with SHA-1 are not offered. ``auth`` chooses one mechanism.",
    )
    @shows("attack 1.10")
    def test_cleartext_password_without_tls_is_warned_about(self) -> None:
        self.begin(more=b"USER\r\n")
        self.assertIn("Warning: the password is sent without TLS", str(self.status))

    @shows(
        "RFC 7628-01",
        "MUST",
        "OAUTHBEARER only under TLS; a challenge with an error is answered by one "
        "octet 0x01, and ``-ERR`` follows.",
        "Without TLS it is a ``UsageError``.",
    )
    def test_oauth_token_without_tls_is_a_usage_error(self) -> None:
        for name in ("XOAUTH2", "OAUTHBEARER"):
            opening = self.begin(name, auth=name)
            self.assertIn("TLS", str(self.gone(opening, UsageError)))
            self.anew()

    def test_mechanism_with_binding_without_tls_is_a_usage_error(self) -> None:
        opening = self.begin("SCRAM-SHA-256-PLUS", auth="SCRAM-SHA-256-PLUS")
        error = self.gone(opening, UsageError)
        self.assertIn("binds the login to the TLS connection", str(error))

    def test_error_suggests_auth_when_only_xoauth2_is_offered(self) -> None:
        opening = self.begin("XOAUTH2", tls=True)
        self.assertIn("auth='XOAUTH2'", str(self.gone(opening, UsageError)))

    @shows("RFC 5034-07")
    @shows(
        "quirk 3.3",
        "A mechanism is announced, and refused as unsupported",
        "The next mechanism is tried. After a refusal of the credentials there is at "
        "most one further attempt, so that the account is not locked.",
    )
    def test_unsupported_mechanism_is_followed_by_the_next(self) -> None:
        opening = self.begin("SCRAM-SHA-256", "PLAIN", "LOGIN", tls=True)
        self.assertIn(b"AUTH SCRAM", self.server.heard())
        self.server.say(b"-ERR mechanism not supported\r\n")
        self.assertIn(b"AUTH PLAIN", self.server.heard())
        self.server.say(b"-ERR unsupported\r\n")
        self.server.expect(b"AUTH LOGIN", b"-ERR what?\r\n")
        error = self.gone(opening, LoginError)
        self.assertEqual(error.mechanism, "LOGIN")

    @shows("quirk 3.3")
    @shows("attack 3.8")
    def test_refused_login_quits_without_trying_another_mechanism(self) -> None:
        for refusal in (b"-ERR no", b"-ERR [AUTH] not supported", b"-ERR [SYS/TEMP] x"):
            opening = self.begin("PLAIN", "LOGIN", tls=True, more=b"USER\r\n")
            self.assertIn(b"AUTH PLAIN", self.server.heard())
            self.server.say(refusal + b"\r\n")
            self.assertEqual(self.server.heard(), b"QUIT\r\n")
            self.server.say(b"+OK\r\n")
            self.server.settle()
            self.server.lose()
            self.error(opening, LoginError)
            self.anew()

    @shows(
        "RFC 2449-10",
        "MUST",
        "IN-USE and LOGIN-DELAY do not mean a wrong password.",
        "``.transient`` is true, and no other mechanism is tried.",
    )
    @shows(
        "RFC 3206-01",
        "MUST",
        "AUTH means that the credentials are wrong; its absence means another cause "
        "only where AUTH-RESP-CODE is announced.",
        "``.transient`` is false for AUTH, and ``None`` without a code.",
    )
    def test_response_code_sets_transient_and_retry_after(self) -> None:
        for code, transient, after in (
            ("AUTH", False, None),
            ("SYS/TEMP", True, None),
            ("SYS/PERM", False, None),
            ("IN-USE", True, None),
            ("LOGIN-DELAY", True, 900),
        ):
            opening = self.begin(more=b"USER\r\nLOGIN-DELAY 900\r\n")
            self.server.expect(b"USER user", b"+OK\r\n")
            self.server.expect(b"PASS pencil", b"-ERR [%b] no\r\n" % code.encode())
            error = self.gone(opening, LoginError)
            self.assertEqual(
                (error.code, error.transient, error.retry_after),
                (code, transient, after),
            )
            self.anew()

    @shows(
        "quirk 3.4",
        "A timestamp in the greeting, and no APOP secret for the account (Mailutils, "
        "solid-pop3d, Twisted)",
        "Without TLS, USER follows once.",
    )
    def test_refused_apop_is_followed_by_user_once_in_the_clear(self) -> None:
        """
        Servers send a timestamp though the account has no APOP secret; Mailutils
        answers with [AUTH] then.
        """
        for refusal in (b"-ERR no", b"-ERR [AUTH] Bad login"):
            opening = self.begin(greeting=STAMPED, more=b"USER\r\n")
            self.assertIn(b"APOP user ", self.server.heard())
            self.server.say(refusal + b"\r\n")
            self.server.expect(b"USER user", b"+OK\r\n")
            self.server.expect(b"PASS pencil", b"+OK\r\n")
            self.assertTrue(self.end(opening, "USER").login.cleartext)
            self.anew()

    def test_refused_apop_and_user_end_the_login_after_two_attempts(self) -> None:
        opening = self.begin("CRAM-MD5", greeting=STAMPED, more=b"USER\r\n")
        self.server.expect(b"AUTH CRAM-MD5", b"-ERR not supported\r\n")
        self.assertIn(b"APOP user ", self.server.heard())
        self.server.say(b"-ERR no\r\n")
        self.server.expect(b"USER user", b"+OK\r\n")
        self.server.expect(b"PASS pencil", b"-ERR wrong\r\n")
        self.assertEqual(self.server.heard(), b"QUIT\r\n")
        self.server.say(b"+OK\r\n")
        error = self.gone(opening, LoginError)
        self.assertEqual((error.mechanism, error.text), ("USER", "wrong"))
        self.assertIn("APOP was refused before it", str(error))

    def test_refused_apop_is_the_end_with_another_code_or_requested_apop(self) -> None:
        for code in (b"IN-USE", b"LOGIN-DELAY", b"SYS/TEMP", b"SYS/PERM", b"LIMIT"):
            opening = self.begin(greeting=STAMPED, more=b"USER\r\n")
            self.server.heard()
            self.server.say(b"-ERR [%b] no\r\n" % code)
            self.assertEqual(self.server.heard(), b"QUIT\r\n")
            self.server.say(b"+OK\r\n")
            self.assertEqual(self.gone(opening, LoginError).code, code.decode())
            self.anew()
        opening = self.begin(greeting=STAMPED, more=b"USER\r\n", auth="APOP")
        self.server.heard()
        self.server.say(b"-ERR no\r\n")
        self.assertEqual(self.gone(opening, LoginError).mechanism, "APOP")

    @shows("quirk 3.4")
    def test_refused_apop_without_cleartext_says_what_forbids_user(self) -> None:
        opening = self.begin(greeting=STAMPED, more=b"USER\r\n", allow_cleartext=False)
        self.server.heard()
        self.server.say(b"-ERR no\r\n")
        error = self.gone(opening, LoginError)
        self.assertIn("USER would send the password", str(error))
        self.assertIn("allow_cleartext=False forbids that", str(error))
        self.assertNotIn("pencil", "".join(self.status))

    def hang_up(self, **options: Any) -> Deferred[Handle]:
        """
        Be a server that closes after it has refused APOP, as solid-pop3d does.
        """
        opening = self.begin(greeting=STAMPED, more=b"USER\r\n", **options)
        self.server.heard()
        self.server.say(b"-ERR [AUTH] no secret\r\n")
        self.server.expect(b"USER user")
        self.server.lose()
        return opening

    @shows(
        "quirk 3.9",
        "The server closes the connection after a failure, without a reply to QUIT",
        "The error is the refusal. The attempt that is left, if there is one, is made "
        "on another connection (solid-pop3d).",
    )
    def test_attempt_left_is_made_on_another_connection_if_server_hangs_up(
        self,
    ) -> None:
        opening = self.hang_up()
        self.assertEqual(self.server.connects, 2)
        self.server.say(STAMPED + b"\r\n")
        self.server.expect(b"CAPA", self.capabilities)
        self.server.expect(b"USER user", b"+OK\r\n")
        self.server.expect(b"PASS pencil", b"+OK\r\n")
        self.end(opening, "USER")

    def test_secret_from_a_callable_is_masked_in_the_next_greeting(self) -> None:
        """It is not asked for again, and the server may know it by now."""
        opening = self.hang_up(password=lambda: "pencil")
        self.assertEqual(self.server.connects, 2)
        self.server.say(b"+OK ready, pencil\r\n")
        self.server.expect(b"CAPA", b"-ERR pencil\r\n")
        self.assertIn("S: +OK ready, ********", self.status)
        self.assertIn("S: -ERR ********", self.status)
        opening.addErrback(lambda _: None)
        opening.cancel()

    @shows("quirk 3.9")
    def test_refusal_is_reported_if_server_hangs_up_on_both_connections(self) -> None:
        def at_greeting() -> None:
            self.server.lose()

        def at_user() -> None:
            self.server.say(STAMPED + b"\r\n")
            self.server.expect(b"CAPA", self.capabilities)
            self.server.expect(b"USER user")
            self.server.lose()

        def at_pass() -> None:
            self.server.say(STAMPED + b"\r\n")
            self.server.expect(b"CAPA", self.capabilities)
            self.server.expect(b"USER user", b"+OK\r\n")
            self.server.expect(b"PASS pencil")
            self.server.lose()

        def silent() -> None:
            self.server.clock.advance(60)

        for lose in (at_greeting, at_user, at_pass, silent):
            opening = self.hang_up()
            lose()
            error = self.error(opening, LoginError)
            self.assertEqual((error.mechanism, error.text), ("APOP", "no secret"))
            self.assertEqual(self.server.connects, 2)
            self.anew()

    def test_refusal_is_reported_if_another_connection_is_not_made(self) -> None:
        def refuse(_: object) -> Deferred[Any]:
            return fail(ConnectionRefusedError())

        def drop(_: object) -> Deferred[Any]:
            return Deferred()

        for connect in (refuse, drop):
            opening = self.begin(greeting=STAMPED, more=b"USER\r\n")
            self.server.heard()
            self.server.say(b"-ERR [AUTH] no secret\r\n")
            self.server.expect(b"USER user")
            self.patch(self.server, "connect", connect)
            self.server.lose()
            self.server.clock.advance(30)
            self.assertEqual(self.error(opening, LoginError).text, "no secret")
            self.anew()

    def test_refusal_is_reported_if_a_factory_gets_no_other_connection(self) -> None:
        connector = Connector(
            "pop.example.com", reactor=self.clock, endpoint=self.server
        )
        opening = connector.opening("user", "pencil")
        protocol = opening.build()
        assert protocol is not None
        transport = Transport()
        protocol.makeConnection(transport)
        for line in (STAMPED + b"\r\n", b"+OK\r\nUSER\r\n.\r\n", b"-ERR no\r\n"):
            protocol.dataReceived(line)
        self.assertTrue(transport.value().endswith(b"USER user\r\n"))
        protocol.connectionLost(Failure(ConnectionLost()))
        self.assertTrue(opening.wants_another())
        opening.not_connected(ConnectionRefusedError())
        self.assertEqual(self.error(opening.result, LoginError).mechanism, "APOP")

    def test_password_is_not_sent_again_if_server_hangs_up_on_it(self) -> None:
        opening = self.begin(greeting=STAMPED, more=b"USER\r\n")
        self.server.heard()
        self.server.say(b"-ERR no\r\n")
        self.server.expect(b"USER user", b"+OK\r\n")
        self.server.expect(b"PASS pencil")
        self.server.lose()
        self.assertEqual(self.error(opening, LoginError).mechanism, "APOP")
        self.assertEqual(self.server.connects, 1)

    def test_password_callable_is_called_once_for_two_connections(self) -> None:
        asked: list[str] = []

        def password() -> str:
            asked.append("called")
            return "pencil"

        opening = self.begin(greeting=STAMPED, more=b"USER\r\n", password=password)
        self.server.heard()
        self.server.say(b"-ERR no\r\n")
        self.server.lose()
        self.server.say(STAMPED + b"\r\n")
        self.server.expect(b"CAPA", self.capabilities)
        self.server.expect(b"USER user", b"+OK\r\n")
        self.server.expect(b"PASS pencil", b"-ERR not with pencil\r\n")
        error = self.gone(opening, LoginError)
        self.assertEqual((error.text, asked), ("not with ********", ["called"]))

    def test_name_that_a_mechanism_cannot_carry_is_followed_by_the_next(self) -> None:
        # The digest of APOP comes after a blank.
        opening = self.begin(greeting=STAMPED, more=b"USER\r\n", username="a user")
        self.server.expect(b"USER a user", b"+OK\r\n")
        self.server.expect(b"PASS pencil", b"+OK\r\n")
        self.end(opening, "USER")

    def test_nothing_follows_a_refusal_that_concerns_something_else(self) -> None:
        for code in (b"IN-USE", b"LOGIN-DELAY", b"SYS/TEMP", b"SYS/PERM"):
            for first in (b"AUTH LOGIN", b"AUTH CRAM-MD5"):
                name = first.split()[1].decode()
                opening = self.begin(name, more=b"USER\r\n", tls=name == "LOGIN")
                self.server.expect(first, b"-ERR [%b] no\r\n" % code)
                self.assertEqual(self.server.heard(), b"QUIT\r\n")
                self.server.say(b"+OK\r\n")
                self.assertEqual(self.gone(opening, LoginError).code, code.decode())
                self.anew()

    def test_only_sasl_plain_in_the_clear_is_an_error_that_names_tls(self) -> None:
        for name in ("PLAIN", "LOGIN"):
            opening = self.begin(name)
            error = self.gone(opening, UsageError)
            self.assertIn(f"{name} would send the password", str(error))
            self.assertIn("set secure=1 or secure=2", str(error))
            self.assertNotIn("token", str(error))
            self.anew()

    def test_refused_user_ends_login_only_with_a_response_code(self) -> None:
        opening = self.begin("CRAM-MD5", more=b"USER\r\n", tls=True)
        self.server.expect(b"USER user", b"-ERR [IN-USE] somebody is there\r\n")
        self.assertEqual(self.gone(opening, LoginError).code, "IN-USE")
        self.anew()
        # Without one, it may be that the server does not know USER.
        opening = self.begin("CRAM-MD5", more=b"USER\r\n", tls=True)
        self.server.expect(b"USER user", b"-ERR what?\r\n")
        self.assertEqual(self.server.heard(), b"AUTH CRAM-MD5\r\n")
        opening.cancel()
        self.gone(opening, CancelledError)


class VerifiedTests(TLSTestCase):
    """
    Logins inside TLS, with a server that has proven who it is.
    """

    NAME = "SCRAM-SHA-256-PLUS"

    def setUp(self) -> None:
        super().setUp()
        self.there = self.folder([authority()])

    def begin(
        self, peer: ServerTLS, sasl: bytes, greeting: bytes = b"ready", **options: Any
    ) -> Deferred[Handle]:
        self.capabilities = b"+OK\r\nSASL %b\r\n.\r\n" % sasl
        opening = self.open(peer, cacerts=self.there, **options)
        self.server.say(b"+OK %b\r\n" % greeting)
        self.server.expect(b"CAPA", self.capabilities)
        return opening

    def first_message(self, name: str) -> str:
        """
        Return the client's first message of SCRAM.
        """
        command, _, first = self.server.heard().strip().rpartition(b" ")
        self.assertEqual(command, b"AUTH " + name.encode())
        return base64.b64decode(first).decode()

    def accept_plain(self, opening: Deferred[Handle]) -> None:
        """
        Accept PLAIN, and end the session as it should end: then it can be resumed.
        """
        self.server.expect(b"AUTH PLAIN " + b64("\0ada\0lovelace"), b"+OK\r\n")
        self.server.expect(b"CAPA", self.capabilities)
        handle = self.successResultOf(opening)
        self.assertEqual(handle.login.mechanism, "PLAIN")
        ended = handle.disconnect()
        self.server.expect(b"QUIT", b"+OK bye\r\n")
        self.successResultOf(ended)

    @shows(
        "quirk 3.6",
        "A SCRAM salt of fewer than 12 bytes",
        "Over TLS with a verified certificate PLAIN, LOGIN or USER follows; otherwise "
        "the error names the salt.",
    )
    def test_short_salt_is_followed_by_plain_and_not_by_another_scram(self) -> None:
        opening = self.begin(ServerTLS(), b"SCRAM-SHA-256 SCRAM-SHA-1 PLAIN")
        nonce = self.first_message("SCRAM-SHA-256").partition(",r=")[2] + "ours"
        salt = b64(b"8 octets").decode()
        self.server.say(b"+ " + b64(f"r={nonce},s={salt},i=4096") + b"\r\n")
        self.server.expect(b"*", b"-ERR cancelled\r\n")
        self.accept_plain(opening)

    def test_cyrus_gets_no_session_even_after_a_login_with_plain(self) -> None:
        """
        The login that follows may need tls-unique.
        """
        cyrus = b"mail.example.com Cyrus POP3 3.6.1 server ready"
        for greeting, kind in ((cyrus, "tls-unique"), (b"ready", "tls-exporter")):
            self.there = self.folder([authority()])
            peer = ServerTLS()
            sasl = self.NAME.encode() + b" PLAIN"
            self.accept_plain(self.begin(peer, sasl, greeting, auth="PLAIN"))
            opening = self.begin(peer, sasl, greeting)
            said = self.first_message(self.NAME)
            self.assertTrue(said.startswith(f"p={kind},,"), said)
            opening.cancel()
            self.error(opening, CancelledError)


class OAuthTests(Dialogue):
    """
    Tokens that have expired.
    """

    FAILURE = b64('{"status":"401","scope":"https://mail.example.com/"}')

    @shows("RFC 7628-01")
    @shows(
        "RFC 7628-02",
        "MUST",
        "A scope is used as given; discovered data is not kept for other domains.",
        "``.details`` has the scope; nothing is discovered or kept.",
    )
    @shows(
        "quirk 3.8",
        "A failed token is answered by a challenge with JSON",
        "The challenge is answered; the ``LoginError`` has its contents in "
        "``.details``.",
    )
    def test_failure_is_acknowledged_and_its_details_are_in_the_error(self) -> None:
        for name, last in (("XOAUTH2", b""), ("OAUTHBEARER", b"AQ==")):
            opening = self.begin(name, tls=True, auth=name)
            self.server.heard()
            if name == "XOAUTH2":
                self.server.say(b"+\r\n")
                self.server.heard()
            self.server.say(b"+ " + self.FAILURE + b"\r\n")
            self.server.expect(last, b"-ERR no\r\n")
            error = self.gone(opening, LoginError)
            self.assertEqual(error.details["status"], "401")
            self.assertIn("scope=https://mail.example.com/", str(error))
            self.anew()

    def test_token_repeated_in_failure_is_masked_entirely(self) -> None:
        """Wherever in it: no part of the token is left if the rest is cut off."""
        token = "eyJ0eXAiOiJKV1Qi" * 20
        for before in (0, 190, 400, 505):
            opening = self.begin(
                "OAUTHBEARER", tls=True, auth="OAUTHBEARER", password=token
            )
            self.server.expect(b"AUTH OAUTHBEARER", b"+\r\n")
            self.server.heard()
            said = f'{{"status":"invalid","scope":"{"x" * before}{token}"}}'
            self.server.say(b"+ " + b64(said) + b"\r\n")
            self.server.expect(b"AQ==", b"-ERR no\r\n")
            error = self.gone(opening, LoginError)
            self.assertNotIn(token[:8], f"{error} {error.details}")
            self.assertEqual(error.details["scope"][:before], "x" * before)
            self.anew()

    def test_fresh_token_is_requested_only_once_after_failure(self) -> None:
        asked: list[bool] = []

        def token(refresh: bool = False) -> Deferred[str]:
            asked.append(refresh)
            return succeed("fresh" if refresh else "stale")

        opening = self.begin(
            "OAUTHBEARER", tls=True, auth="OAUTHBEARER", password=token
        )
        self.assertIn(b64("Bearer stale")[4:-4], self.server.heard())
        self.server.say(b"+ " + self.FAILURE + b"\r\n")
        self.server.expect(b"AQ==", b"-ERR no\r\n")
        again = base64.b64decode(self.server.heard().split()[-1])
        self.assertIn(b"Bearer fresh", again)
        self.server.say(b"+ " + self.FAILURE + b"\r\n")
        self.server.expect(b"AQ==", b"-ERR no\r\n")
        self.gone(opening, LoginError)
        self.assertEqual(asked, [False, True])

    def test_no_fresh_token_is_requested_after_a_failure_of_the_server(self) -> None:
        opening = self.begin(
            "OAUTHBEARER", tls=True, auth="OAUTHBEARER", password=lambda: "token"
        )
        self.server.heard()
        self.server.say(b"+ " + self.FAILURE + b"\r\n")
        self.server.expect(b"AQ==", b"-ERR [SYS/TEMP] later\r\n")
        self.assertEqual(self.server.heard(), b"QUIT\r\n")
        self.server.say(b"+OK\r\n")
        self.assertTrue(self.gone(opening, LoginError).transient)

    def test_second_attempt_refused_at_once_is_a_login_error(self) -> None:
        """
        Many servers take one attempt only: that is a refusal like the first.
        """
        opening = self.begin(
            "XOAUTH2", tls=True, auth="XOAUTH2", password=lambda: "stale"
        )
        self.server.expect(b"AUTH XOAUTH2", b"+\r\n")
        self.server.heard()
        self.server.say(b"-ERR [AUTH] no\r\n")
        self.server.expect(b"AUTH XOAUTH2", b"-ERR too many attempts\r\n")
        error = self.gone(opening, LoginError)
        self.assertEqual(error.mechanism, "XOAUTH2")
        self.assertIn("too many attempts", str(error))

    @shows("quirk 3.8")
    def test_failure_that_is_not_json_is_still_a_login_error(self) -> None:
        opening = self.begin("OAUTHBEARER", tls=True, auth="OAUTHBEARER")
        self.server.heard()
        self.server.say(b"+ " + b64("[" * 5000) + b"\r\n")
        self.server.expect(b"AQ==", b"-ERR no\r\n")
        self.gone(opening, LoginError)


class SecretsTests(Dialogue):
    """
    Whatever can be printed after a login has no secret in it.
    """

    PASSWORD = "correct horse battery"

    def test_failed_login_prints_no_secret(self) -> None:
        debugging = getDebugging()
        setDebugging(True)
        self.addCleanup(setDebugging, debugging)
        events: list[Any] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        for name in ("USER", "PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256", "APOP"):
            said: list[bytes] = []
            opening = self.begin(
                name,
                auth=name,
                password=self.PASSWORD,
                greeting=b"+OK <1.2@pop.example.com>",
                more=b"USER\r\n",
            )
            for answer in (b"+ PDEuMkB4Pg==", b"+ YQ==", b"+OK"):
                said.append(self.server.heard().strip())
                if said[-1] in (b"QUIT", b"") or self.server.transport.disconnecting:
                    break
                if said[-1].startswith((b"PASS", b"APOP")) or name == "PLAIN":
                    break
                if answer == b"+OK":
                    break
                self.server.say((b"+OK" if name == "USER" else answer) + b"\r\n")
            if not self.server.transport.disconnecting:
                self.server.say(b"-ERR [AUTH] you said " + b" ".join(said) + b"\r\n")
            self.server.heard()
            self.server.say(b"+OK\r\n")
            self.server.settle()
            self.server.lose()
            failure = self.failureResultOf(opening)
            printed = [failure.getTraceback(detail="verbose"), *self.status]
            error: BaseException | None = failure.value
            while error is not None:
                printed += [str(error), repr(error), repr(vars(error))]
                error = error.__cause__
            printed += [repr(self.server.client), repr(events)]
            secrets = [self.PASSWORD, b64(self.PASSWORD).decode()]
            secrets += [
                word.decode()
                for line in said
                for word in line.split(b" ")
                if len(word) > 12 and word != name.encode()
            ]
            for text in printed:
                for secret in secrets:
                    self.assertNotIn(secret, text, name)
            self.status.clear()
            self.anew()

    def test_open_session_keeps_no_password(self) -> None:
        opening = self.begin("PLAIN", auth="PLAIN", password=self.PASSWORD)
        self.server.heard()
        self.server.say(b"+OK\r\n")
        handle = self.end(opening, "PLAIN")
        del opening
        self.server.connecting = None
        self.assertKeepsNoPassword(handle)

    def test_open_session_of_a_factory_keeps_no_password(self) -> None:
        connector = Connector(
            "pop.example.com", reactor=self.clock, endpoint=self.server, auth="PLAIN"
        )
        factory = POP3ClientFactory(connector, "ada", self.PASSWORD)
        self.server.connect(factory)
        self.server.say(b"+OK ready\r\n")
        self.server.expect(b"CAPA", b"+OK\r\nSASL PLAIN\r\n.\r\n")
        self.server.heard()
        self.server.say(b"+OK\r\n")
        handle = self.result(factory.handle)
        self.assertIs(handle._protocol.factory, factory)
        self.assertKeepsNoPassword(handle)
        handle.abort()

    def assertKeepsNoPassword(self, handle: Handle) -> None:
        """Check everything that an open session refers to."""
        seen: set[int] = set()
        todo: list[Any] = [handle]
        while todo:
            thing = todo.pop()
            if id(thing) in seen:
                continue
            seen.add(id(thing))
            if isinstance(thing, (str, bytes)):
                text = thing if isinstance(thing, str) else thing.decode("latin-1")
                self.assertNotIn(self.PASSWORD, text)
                continue
            ours = type(thing).__module__.startswith("pop3connect")
            if isinstance(thing, FunctionType):
                todo += thing.__closure__ or ()
            elif ours or isinstance(
                thing, (dict, list, tuple, set, partial, CellType, MethodType)
            ):
                todo += gc.get_referents(thing)


class RepeatingServerTests(Dialogue):
    """
    Servers that repeat what they were told: wherever they do, it is masked.
    """

    def refused(self, opening: Deferred[Handle]) -> str:
        error = self.gone(opening, LoginError)
        return " ".join([*self.status, str(error), repr(vars(error))])

    def test_sasl_response_repeated_in_refusal_is_masked(self) -> None:
        opening = self.begin("XOAUTH2", tls=True, auth="XOAUTH2", password="a" * 40)
        self.server.expect(b"AUTH XOAUTH2", b"+\r\n")
        response = self.server.heard().strip()
        self.server.say(b"-ERR [AUTH] what is " + response + b"\r\n")
        self.assertNotIn(response.decode(), self.refused(opening))

    def test_password_repeated_as_response_code_is_masked(self) -> None:
        opening = self.begin(more=b"USER\r\n", password="hunter-2")
        self.server.expect(b"USER user", b"+OK\r\n")
        self.server.expect(b"PASS hunter-2", b"-ERR [hunter-2] no\r\n")
        self.assertNotIn("hunter-2", self.refused(opening).lower())

    def test_standard_response_code_is_kept_even_if_it_is_the_password(self) -> None:
        """
        What RFC 2449 and RFC 3206 define stays what it is.
        """
        opening = self.begin(more=b"USER\r\n", password="AUTH")
        self.server.expect(b"USER user", b"+OK\r\n")
        self.server.expect(b"PASS AUTH", b"-ERR [AUTH] no\r\n")
        self.assertEqual(self.gone(opening, LoginError).code, "AUTH")

    def test_password_repeated_in_oauth_failure_details_is_masked(self) -> None:
        opening = self.begin("OAUTHBEARER", tls=True, auth="OAUTHBEARER")
        self.server.heard()
        told = b64('{"status":"pencil is stale","scope":"pencil"}')
        self.server.say(b"+ " + told + b"\r\n")
        self.server.expect(b"AQ==", b"-ERR no\r\n")
        self.assertNotIn("pencil", self.refused(opening))

    def test_password_repeated_in_scram_error_is_masked(self) -> None:
        opening = self.begin("SCRAM-SHA-256", auth="SCRAM-SHA-256")
        self.server.heard()
        self.server.say(b"+ " + b64("e=pencil") + b"\r\n")
        error = self.gone(opening, ProtocolError)
        self.assertNotIn("pencil", str(error) + "".join(self.status))


class LanguageTests(Dialogue):
    """
    UTF8 and LANG (RFC 6856).
    """

    @shows("feature 1.11", "UTF8, LANG", "``utf8=True``, ``lang()``")
    @shows(
        "RFC 6856-01",
        "MUST",
        "UTF8 only before the login; no STLS after it.",
        "The login sends STLS, then UTF8, then the authentication.",
    )
    def test_utf8_option_sends_utf8_before_the_login(self) -> None:
        opening = self.begin(utf8=True, more=b"USER\r\nUTF8\r\n")
        self.server.expect(b"UTF8", b"+OK\r\n")
        self.server.expect(b"USER user", b"+OK\r\n")
        self.server.expect(b"PASS pencil", b"+OK\r\n")
        self.assertIsNone(self.result(self.end(opening, "USER").utf8()))

    @shows("RFC 6856-01")
    def test_utf8_after_the_login_is_a_usage_error(self) -> None:
        handle = self.log_in("UTF8")
        self.assertIn("utf8=True", str(self.error(handle.utf8(), UsageError)))
        self.assertEqual(self.server.heard(), b"")

    def test_utf8_option_fails_the_login_if_not_offered_or_refused(self) -> None:
        opening = self.begin(utf8=True)
        self.gone(opening, UsageError)
        self.anew()
        opening = self.begin(utf8=True, more=b"UTF8\r\n")
        self.server.expect(b"UTF8", b"-ERR no\r\n")
        self.gone(opening, LoginError)

    @shows("feature 1.11")
    @shows(
        "RFC 6856-04",
        "MAY",
        "LANG lists or chooses languages; ``-ERR`` changes nothing.",
        "``handle.lang()``.",
    )
    def test_lang_lists_and_selects_languages(self) -> None:
        handle = self.log_in("LANG")
        listed = handle.lang()
        self.server.expect(b"LANG", b"+OK\r\nen English\r\nde Deutsch\r\n.\r\n")
        self.assertEqual(self.result(listed), {"en": "English", "de": "Deutsch"})
        chosen = handle.lang("de")
        self.server.expect(b"LANG de", b"+OK de Sprache\r\n")
        self.assertIsNone(self.result(chosen))
        self.error(handle.lang("not a tag"), UsageError)
