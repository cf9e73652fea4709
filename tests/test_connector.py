"""
`Connector`: options held once, and what is remembered between two sessions.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from pop3connect import (
    Connector,
    Handle,
    Secure,
    TLSError,
    UsageError,
    VerificationError,
)

from .support.certificates import (
    HOST,
    ServerTLS,
    TLSTestCase,
    authority,
    expired,
    leaf,
    unknown_ca,
)
from .support.memory import Latest, Server, SessionTestCase


class OptionsTests(SessionTestCase):
    """Each option is checked when the connector is made."""

    WRONG: tuple[tuple[dict[str, Any], str], ...] = (
        ({"secure": 3}, "secure must be"),
        ({"secure": "TLS"}, "secure must be"),
        ({"secure": None}, "secure must be"),
        ({"auth": "GUESS"}, "auth"),
        ({"auth": 5}, "auth"),
        ({"timeout": 0}, "timeout must be"),
        ({"timeout": "60"}, "timeout must be"),
        ({"timeout": True}, "timeout must be"),
        ({"timeout": float("nan")}, "timeout must be"),
        ({"timeout": float("inf")}, "timeout must be"),
        ({"connect_timeout": -1}, "connect_timeout must be"),
        ({"max_message_size": 0}, "max_message_size must be"),
        ({"max_message_size": 1.5}, "max_message_size must be"),
        ({"max_listing": 0}, "max_listing must be"),
        ({"max_listing": True}, "max_listing must be"),
        ({"max_listing": None}, "max_listing must be"),
        ({"endpoint": 5}, "endpoint must be"),
        ({"endpoint": Server}, "endpoint must be"),
        ({"client_certificate": "nothing.pem"}, "client_certificate"),
        ({"secure": 1, "client_certificate": "nothing.pem"}, "nothing.pem"),
        ({"secure": 1, "cacerts": "no such folder"}, "no such folder"),
    )

    def test_unusable_option_is_a_usage_error_naming_it(self) -> None:
        for options, words in self.WRONG:
            with self.assertRaises(UsageError) as caught:
                Connector("pop.example.com", **options).opening("ada", "lovelace")
            self.assertIn(words, str(caught.exception), options)
            port = 995 if options.get("secure") == 1 else 110
            if isinstance(options.get("secure", 0), int) and options != {"secure": 3}:
                self.assertEqual(caught.exception.server, f"pop.example.com:{port}")

    def test_unusable_server_is_a_usage_error(self) -> None:
        wrong: tuple[Any, ...] = ("", "a b", "pop.example.com:0", 5, None, b"pop")
        for server in wrong:
            self.assertRaises(UsageError, Connector, server)

    def test_port_follows_secure(self) -> None:
        for secure, port in ((0, 110), (1, 995), (2, 110), (True, 995)):
            connector = Connector(HOST, secure=secure, verify=False)
            self.assertEqual(connector.server.port, port)
            self.assertEqual(
                repr(connector), f"<Connector {HOST}:{port} {Secure(secure).name}>"
            )

    def test_unusable_argument_of_connect_fails_the_deferred(self) -> None:
        connector = Connector(
            "pop.example.com", endpoint=Latest(self), reactor=self.clock
        )
        wrong: tuple[Any, ...] = (
            ("", "lovelace"),
            ("a\r\nb", "lovelace"),
            (5, "lovelace"),
            ("ada", "love\nlace"),
            ("ada", 5),
            ("ada", "lovelace", 5),
        )
        for arguments in wrong:
            self.error(connector.connect(*arguments), UsageError)
        self.assertEqual(self.server.connects, 0)

    def test_time_limits_apply_to_each_session(self) -> None:
        connector = Connector(
            "pop.example.com", endpoint=Latest(self), reactor=self.clock, timeout=7
        )
        for _ in range(2):
            opening = connector.connect("ada", "lovelace")
            self.clock.advance(6.9)
            self.pending(opening)
            self.clock.advance(0.1)
            self.server.settle()
            self.failureResultOf(opening)
            self.server = Server(self.clock)

    def test_sessions_of_one_connector_are_independent(self) -> None:
        connector = Connector(
            "pop.example.com", endpoint=Latest(self), reactor=self.clock, capa=False
        )
        handles: list[Handle] = []
        servers: list[Server] = []
        for user in ("ada", "charles"):
            self.server = Server(self.clock)
            servers.append(self.server)
            opening = connector.connect(user, f"{user}'s")
            self.server.say(b"+OK\r\n")
            self.server.expect(b"USER " + user.encode(), b"+OK\r\n")
            self.server.expect(b"PASS " + user.encode() + b"'s", b"+OK\r\n")
            handles.append(self.result(opening))
        asked = [handle.stat() for handle in handles]
        servers[1].expect(b"STAT", b"+OK 2 2\r\n")
        self.assertEqual(self.successResultOf(asked[1]), (2, 2))
        self.assertNoResult(asked[0])
        servers[0].lose()
        self.failureResultOf(asked[0])
        asked = [handles[1].noop()]
        servers[1].expect(b"NOOP", b"+OK\r\n")
        self.successResultOf(asked[0])
        servers[1].lose()

    def test_cancelling_one_connect_leaves_the_other_alone(self) -> None:
        connector = Connector(
            "pop.example.com", endpoint=Latest(self), reactor=self.clock, capa=False
        )
        first = connector.connect("ada", "lovelace")
        one, self.server = self.server, Server(self.clock)
        second = connector.connect("ada", "lovelace")
        first.cancel()
        one.settle()
        self.failureResultOf(first, CancelledError)
        self.assertTrue(one.transport.disconnecting)
        self.server.say(b"+OK\r\n")
        self.server.expect(b"USER ada", b"+OK\r\n")
        self.server.expect(b"PASS lovelace", b"+OK\r\n")
        self.result(second)


class TicketTests(TLSTestCase):
    """What TLS remembers between two sessions."""

    def session(self, connector: Connector, creator: ServerTLS) -> Deferred[Handle]:
        """
        Open a session with TLS at once, as far as the login.
        """
        self.server = Server(self.clock)
        opening = connector.connect("ada", "lovelace", self.status.append)
        self.server.start_tls(creator)
        return opening

    def succeeds(self, connector: Connector, creator: ServerTLS) -> None:
        opening = self.session(connector, creator)
        self.greet()
        handle = self.successResultOf(opening)
        assert handle.tls is not None
        self.assertTrue(handle.tls.verified)
        ending = handle.disconnect()
        self.server.expect(b"QUIT", b"+OK\r\n")
        self.successResultOf(ending)

    def refused(self, connector: Connector, creator: ServerTLS) -> None:
        opening = self.session(connector, creator)
        self.server.settle()
        self.failureResultOf(opening, VerificationError)

    def connector(self, folder: Any) -> Connector:
        return Connector(
            HOST, secure=1, cacerts=folder, endpoint=Latest(self), reactor=self.clock
        )

    def test_second_session_resumes_the_tls_session_of_the_first(self) -> None:
        connector, creator = self.connector(self.folder([authority()])), ServerTLS()
        self.succeeds(connector, creator)
        # From now on a session that is not resumed is refused.
        creator.show(expired())
        self.succeeds(connector, creator)
        self.succeeds(connector, creator)
        # It was the tickets: another connector has none.
        self.refused(self.connector(self.folder([authority()])), creator)

    def test_changed_cacerts_folder_drops_tickets_and_trust(self) -> None:
        folder, creator = self.folder([authority()]), ServerTLS()
        connector = self.connector(folder)
        self.succeeds(connector, creator)
        creator.show(expired())
        self.succeeds(connector, creator)
        (folder / "another.pem").write_bytes(authority("Another CA").cert_pem.bytes())
        self.refused(connector, creator)
        creator.show(leaf(HOST))
        self.succeeds(connector, creator)

    def test_certificate_dropped_into_the_folder_is_trusted_at_the_next_session(
        self,
    ) -> None:
        folder, creator = self.folder([authority()]), ServerTLS(unknown_ca())
        connector = self.connector(folder)
        self.refused(connector, creator)
        other = authority("Somebody Else's CA").cert_pem.bytes()
        (folder / "other.pem").write_bytes(other)
        self.succeeds(connector, creator)
        (folder / "other.pem").unlink()
        self.refused(connector, creator)

    def test_folder_that_lost_its_certificates_is_an_error_naming_it(self) -> None:
        folder = self.folder([authority()])
        connector = self.connector(folder)
        for file in folder.iterdir():
            file.unlink()
        self.server = Server(self.clock)
        opening = connector.connect("ada", "lovelace")
        error = self.failureResultOf(opening, TLSError).value
        self.assertIn(str(folder), str(error))
        self.assertEqual(self.server.connects, 0)
