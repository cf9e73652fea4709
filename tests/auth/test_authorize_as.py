"""
An authorization identity: whose mailbox is opened with the credentials of another user.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any

from twisted.internet.defer import Deferred
from twisted.mail.interfaces import IClientAuthentication
from zope.interface import implementer

from pop3connect import Connector, Handle, LoginError, UsageError
from pop3connect.auth.policy import AUTHORIZING, choose
from pop3connect.auth.sasl import MECHANISMS, Credentials
from pop3connect.redaction import Secret
from pop3connect.results import Capabilities

from ..support.memory import Latest
from .test_dialogues import STAMPED, Dialogue, b64

SALT = b"salt" * 4
COUNT = 4096


def scram_server(heard: bytes, nonce: str, password: str) -> tuple[str, bytes, bytes]:
    """
    Compute the last two messages of SCRAM-SHA-256 from the client's first (RFC 5802).

    :return: the GS2 header, the client's final message, and the server's.
    """
    text = heard.decode()
    flag, name, bare = text.split(",", 2)
    header = f"{flag},{name},"
    first = f"r={nonce},s={base64.b64encode(SALT).decode()},i={COUNT}"
    final = f"c={base64.b64encode(header.encode()).decode()},r={nonce}"
    message = f"{bare},{first},{final}".encode()
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), SALT, COUNT)
    client = hmac.digest(salted, b"Client Key", "sha256")
    signature = hmac.digest(hashlib.sha256(client).digest(), message, "sha256")
    proof = bytes(one ^ two for one, two in zip(client, signature, strict=True))
    server = hmac.digest(salted, b"Server Key", "sha256")
    verifier = hmac.digest(server, message, "sha256")
    return (
        header,
        f"{final},p={base64.b64encode(proof).decode()}".encode(),
        b"v=" + base64.b64encode(verifier),
    )


@implementer(IClientAuthentication)
class Own:
    """
    A mechanism of the caller's.
    """

    def getName(self) -> bytes:
        return b"X-OWN"

    def challengeResponse(self, secret: bytes, challenge: bytes) -> bytes:
        raise AssertionError("it was used")


class DialogueTests(Dialogue):
    def test_plain_sends_it_before_the_user_name(self) -> None:
        """RFC 4616 section 2: [authzid] NUL authcid NUL passwd."""
        opening = self.begin("PLAIN", auth="PLAIN", authorize_as="bob")
        self.server.expect(b"AUTH PLAIN " + b64("bob\0user\0pencil"), b"+OK\r\n")
        self.end(opening, "PLAIN")

    def test_external_sends_it_instead_of_the_user_name(self) -> None:
        """RFC 4422 appendix A.1: the certificate says who logs in."""
        opening = self.begin("EXTERNAL", auth="EXTERNAL", authorize_as="bob")
        self.server.expect(b"AUTH EXTERNAL " + b64("bob"), b"+OK\r\n")
        self.end(opening, "EXTERNAL")

    def test_oauthbearer_sends_it_escaped_in_its_header(self) -> None:
        """RFC 7628 section 3.1, with the escapes of RFC 5801 section 4."""
        opening = self.begin(
            "OAUTHBEARER", tls=True, auth="OAUTHBEARER", authorize_as="b,o=b"
        )
        said = "n,a=b=2Co=3Db,\1host=pop.example.com\1port=110\1auth=Bearer pencil\1\1"
        self.server.expect(b"AUTH OAUTHBEARER " + b64(said), b"+OK\r\n")
        self.end(opening, "OAUTHBEARER")

    def scram(self, authorize_as: str) -> tuple[Deferred[Handle], str, bytes]:
        """
        Be a server of SCRAM; return the header, and the user's part of the message.
        """
        name = b"SCRAM-SHA-256"
        opening = self.begin(name.decode(), authorize_as=authorize_as)
        command, _, first = self.server.heard().strip().rpartition(b" ")
        self.assertEqual(command, b"AUTH " + name)
        first = base64.b64decode(first)
        nonce = first.decode().rpartition("r=")[2] + "more"
        header, final, verifier = scram_server(first, nonce, "pencil")
        salt = base64.b64encode(SALT).decode()
        self.server.say(b"+ " + b64(f"r={nonce},s={salt},i={COUNT}") + b"\r\n")
        # The header is part of what is proven.
        self.server.expect(b64(final), b"+ " + b64(verifier) + b"\r\n")
        self.server.expect(b"", b"+OK\r\n")
        return opening, header, first

    def test_scram_sends_and_proves_it_escaped(self) -> None:
        """RFC 5802 section 5.1: a saslname, with ``=2C`` and ``=3D``."""
        for given, sent in (("bob", "bob"), ("b,o=b", "b=2Co=3Db"), ("bücher", None)):
            opening, header, first = self.scram(given)
            self.assertEqual(header, f"n,a={sent or given},")
            self.assertIn(b",n=user,", first)
            self.end(opening, "SCRAM-SHA-256")
            self.anew()

    def test_auto_takes_only_mechanisms_that_carry_it(self) -> None:
        offered = ("LOGIN", "CRAM-MD5", "XOAUTH2", "ANONYMOUS", "PLAIN")
        opening = self.begin(
            *offered, tls=True, authorize_as="bob", more=b"USER\r\n", greeting=STAMPED
        )
        self.server.expect(b"AUTH PLAIN " + b64("bob\0user\0pencil"), b"-ERR no\r\n")
        self.assertEqual(self.gone(opening, LoginError).mechanism, "PLAIN")

    def test_server_without_such_a_mechanism_gets_no_credential(self) -> None:
        asked: list[None] = []
        for tls in (True, False):
            opening = self.begin(
                "LOGIN",
                "CRAM-MD5",
                tls=tls,
                more=b"USER\r\n",
                greeting=STAMPED,
                password=lambda: asked.append(None) or "pencil",
                authorize_as="bob",
            )
            error = self.gone(opening, UsageError)
            self.assertIn("authorize_as needs a mechanism", str(error))
            self.assertIn("LOGIN CRAM-MD5", str(error))
            # PLAIN is for TLS only, so TLS is a remedy only where there is none.
            self.assertEqual("secure=1" in str(error), not tls)
            self.assertEqual(asked, [])
            self.anew()

    def test_response_with_it_is_masked_where_the_server_repeats_it(self) -> None:
        opening = self.begin("PLAIN", auth="PLAIN", authorize_as="bob")
        said = b64("bob\0user\0pencil")
        self.server.expect(b"AUTH PLAIN " + said, b"-ERR not " + said + b"\r\n")
        error = self.gone(opening, LoginError)
        for text in (str(error), "".join(self.status)):
            self.assertNotIn(said.decode(), text)

    def test_response_with_it_is_masked_before_it_was_sent(self) -> None:
        """The server may know it from elsewhere."""
        # The base64 of the password alone is not a part of this one.
        said = b64("bo\0user\0pencil")
        opening = self.begin(
            "PLAIN", auth="PLAIN", authorize_as="bo", greeting=b"+OK " + said
        )
        self.server.expect(b"AUTH PLAIN " + said, b"+OK\r\n")
        handle = self.end(opening, "PLAIN")
        for text in (handle.greeting, "".join(self.status)):
            self.assertNotIn(said.decode(), text)

    def test_one_connector_opens_the_mailboxes_of_several(self) -> None:
        """So that a thousand mailboxes of a master user share one TLS context."""
        connector = Connector(
            "pop.example.com", reactor=self.clock, endpoint=Latest(self), auth="PLAIN"
        )
        for who in ("bob", "eve", None):
            opening = connector.connect("user", "pencil", authorize_as=who)
            self.server.say(b"+OK ready\r\n")
            if who == "bob":
                # The connector remembers it for the others.
                self.server.expect(b"CAPA", b"+OK\r\nSASL PLAIN\r\n.\r\n")
            said = b64(f"{who or ''}\0user\0pencil")
            self.server.expect(b"AUTH PLAIN " + said, b"+OK\r\n")
            handle = self.result(opening)
            self.server.expect(b"CAPA", b"+OK\r\nSASL PLAIN\r\n.\r\n")
            handle.abort()
            self.anew()


class ArgumentTests(Dialogue):
    """
    What cannot be sent is an error before anything is.
    """

    def test_mechanism_that_cannot_carry_it_is_refused_before_connecting(
        self,
    ) -> None:
        without = [name for name, kind in MECHANISMS.items() if not kind.authorizes]
        self.assertEqual(sorted(without), ["ANONYMOUS", "CRAM-MD5", "LOGIN", "XOAUTH2"])
        for auth in ("USER", "APOP", *without, Own()):
            with self.assertRaises(UsageError) as caught:
                Connector("pop.example.com", auth=auth, authorize_as="bob")
            text = str(caught.exception)
            shown = auth if isinstance(auth, str) else "your own mechanism"
            self.assertIn(f"authorize_as cannot be used with {shown}", text)
            for name in AUTHORIZING:
                self.assertIn(name, text)

    def test_name_that_cannot_be_sent_is_refused(self) -> None:
        values: tuple[Any, ...] = ("", "a\0b", "a\r\nb", "caf\udce9", 7, b"bob")
        for bad in values:
            for connector in (
                lambda bad=bad: Connector("pop.example.com", authorize_as=bad),
                lambda bad=bad: Connector("pop.example.com").opening(
                    "user", "pencil", authorize_as=bad
                ),
            ):
                with self.assertRaises(UsageError) as caught:
                    connector()
                self.assertIn("authorize_as", str(caught.exception))

    def test_every_mechanism_named_as_able_is(self) -> None:
        for name, kind in MECHANISMS.items():
            able = any(name.startswith(prefix) for prefix in AUTHORIZING)
            self.assertEqual(kind.authorizes, able, name)
            if able:
                binding = ("tls-exporter", b"x") if name.endswith("-PLUS") else None
                made = kind(
                    Credentials(
                        "user", Secret("x"), binding=binding, authorize_as="bob"
                    )
                )
                self.assertIn(b"bob", made.initial() or b"")

    def test_bound_scram_has_the_binding_before_it_in_its_header(self) -> None:
        """RFC 5802 section 7: gs2-cbind-flag, then a=authzid; both are proven."""
        mechanism = MECHANISMS["SCRAM-SHA-256-PLUS"](
            Credentials(
                "user",
                Secret("pencil"),
                binding=("tls-exporter", b"data"),
                nonce="nonce",
                authorize_as="bob",
            )
        )
        header = b"p=tls-exporter,a=bob,"
        self.assertEqual(mechanism.initial(), header + b"n=user,r=nonce")
        salt = base64.b64encode(SALT).decode()
        final = mechanism.respond(f"r=nonce+,s={salt},i={COUNT}".encode())
        self.assertTrue(final.startswith(b"c=" + b64(header + b"data") + b","))

    def test_auto_without_it_is_as_before(self) -> None:
        capabilities = Capabilities({"SASL": ("PLAIN", "LOGIN"), "USER": ()})
        chosen = {
            authorizes: choose(
                "auto",
                capabilities,
                protected=True,
                bindable=False,
                challenge=True,
                certificate=False,
                authorizes=authorizes,
            )
            for authorizes in (True, False)
        }
        self.assertEqual(chosen[True], ["PLAIN"])
        self.assertEqual(chosen[False], ["PLAIN", "LOGIN", "USER", "APOP"])
