"""
`Connector`: options held once, and what is remembered between two sessions.
"""

from __future__ import annotations

import gc
import inspect
import os
import re
import shutil
import weakref
from pathlib import Path
from typing import Any, cast

from OpenSSL import crypto
from twisted.internet.defer import CancelledError, Deferred

from pop3connect import (
    Connector,
    Handle,
    Secure,
    TLSError,
    UsageError,
    VerificationError,
    connect,
)
from pop3connect.client.protocol import POP3ClientProtocol
from pop3connect.tls.options import TLSOptions
from pop3connect.tls.pins import pin_of
from pop3connect.tls.trust import CACERTS_VARIABLE

from .support.certificates import (
    HOST,
    ServerTLS,
    TLSTestCase,
    authority,
    client_identity,
    expired,
    leaf,
    right,
    unknown_ca,
)
from .support.memory import Latest, Server, SessionTestCase

PIN = pin_of(crypto.X509.from_cryptography(right().certificate)) or ""
OTHER_PIN = f"sha256//{'A' * 43}="


def described(thing: object, parameter: str) -> list[str]:
    """
    Return what a docstring says of a parameter, word by word.
    """
    _, _, text = inspect.getdoc(thing).partition(f":param {parameter}:")  # type: ignore[union-attr]
    return re.split(r"\n(?!    )", text)[0].split()


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

    def test_options_defaults_and_texts_are_those_of_connect(self) -> None:
        # Both lists are written out, for users and type checkers: they must agree.
        ours = inspect.signature(Connector).parameters
        whole = inspect.signature(connect).parameters
        self.assertEqual(set(whole) - set(ours), {"username", "password", "stsproc"})
        for name, parameter in ours.items():
            self.assertEqual(parameter.default, whole[name].default, name)
            self.assertEqual(parameter.annotation, whole[name].annotation, name)
            text = described(Connector, name)
            self.assertNotEqual(text, [], name)
            self.assertEqual(text, described(connect, name))

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

    def test_sessions_whose_server_says_the_same_share_its_capabilities(self) -> None:
        connector = Connector(
            "pop.example.com", endpoint=Latest(self), reactor=self.clock
        )
        seen = []
        for rows in (b"TOP\r\nUIDL\r\n", b"TOP\r\nUIDL\r\n", b"UIDL\r\nTOP\r\n"):
            self.server = Server(self.clock)
            opening = connector.connect("ada", "lovelace")
            said = b"+OK\r\n" + rows + b".\r\n"
            self.server.say(b"+OK\r\n")
            self.server.expect(b"CAPA", said)
            self.server.expect(b"USER ada", b"+OK\r\n")
            self.server.expect(b"PASS lovelace", b"+OK\r\n")
            self.server.expect(b"CAPA", said)
            handle = self.result(opening)
            seen.append(handle.capabilities)
            self.server.lose()
        self.assertIs(seen[0], seen[1])
        # In the order of each server.
        self.assertEqual(list(seen[1]), ["TOP", "UIDL"])
        self.assertEqual(list(seen[2]), ["UIDL", "TOP"])

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
        self.result(second).abort()


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

    def test_changed_folder_drops_context_tickets_and_habits_together(self) -> None:
        folder, creator = self.folder([authority()]), ServerTLS()
        connector = self.connector(folder)

        def context() -> Any:
            opening = self.session(connector, creator)
            client = self.server.client
            while not isinstance(client, POP3ClientProtocol):
                client = client.wrappedProtocol
            found = client.settings.context
            assert found is not None
            known.append(
                (
                    found.resumable(connector.server) is not None,
                    found.known_binding(connector.server),
                )
            )
            self.greet()
            handle = self.successResultOf(opening)
            found.bound_by(connector.server, "tls-exporter")
            handle.abort()
            return found

        known: list[tuple[bool, str | None]] = []
        first, second = context(), context()
        (folder / "b.pem").write_bytes(authority("Another CA").cert_pem.bytes())
        third = context()
        self.assertIs(first, second)
        self.assertIsNot(third, first)
        self.assertEqual(known, [(False, None), (True, "tls-exporter"), (False, None)])

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


class CacheTests(TLSTestCase):
    """Which calls of `connect` have a connector, and so its TLS sessions, in common."""

    def setUp(self) -> None:
        super().setUp()
        self.there = self.folder([authority()])
        self.put_variable("")

    def put_variable(self, folder: object) -> None:
        """
        Set ``POP3CONNECT_CACERTS`` until the end of the test.
        """
        before = os.environ.get(CACERTS_VARIABLE)

        def put_back() -> None:
            os.environ.pop(CACERTS_VARIABLE, None)
            if before is not None:
                os.environ[CACERTS_VARIABLE] = before

        self.addCleanup(put_back)
        os.environ[CACERTS_VARIABLE] = str(folder)

    def context(self, **options: Any) -> Any:
        """
        Return the TLS context of one session, which each connector has of its own.
        """
        options.setdefault("cacerts", self.there)
        server = options.pop("server", HOST)
        self.log_in(server=server, **options)
        self.server.lose()
        return self.last_context

    def test_same_options_have_one_connector(self) -> None:
        self.assertIs(self.context(), self.context())

    def test_user_password_and_status_procedure_do_not_matter(self) -> None:
        contexts = []
        for password in ("lovelace", lambda: "lovelace"):
            for stsproc in (None, self.status.append):
                self.context(password=password, stsproc=stsproc)
                contexts.append(self.last_context)
        self.assertEqual(len(set(map(id, contexts))), 1)

    def test_str_and_path_of_one_folder_have_one_connector(self) -> None:
        first = self.context(cacerts=str(self.there))
        self.assertIs(self.context(cacerts=self.there), first)
        relative = os.path.relpath(self.there)
        self.assertIs(
            self.context(cacerts=Path(relative)), self.context(cacerts=relative)
        )

    def test_str_and_path_of_one_client_certificate_have_one_connector(self) -> None:
        ours = client_identity()
        file = self.folder({"ours": ours.pem + ours.key_pem}) / "ours"
        for one, other in ((file, str(file)), ((file, str(file)), (str(file), file))):
            self.assertIs(
                self.context(client_certificate=one),
                self.context(client_certificate=other),
            )

    def test_relative_folder_is_another_one_after_change_of_directory(self) -> None:
        self.addCleanup(os.chdir, os.getcwd())
        above = self.folder([])
        for name in ("one", "two"):
            (above / name / "certs").mkdir(parents=True)
            pem = authority().cert_pem.bytes()
            (above / name / "certs" / "ca.pem").write_bytes(pem)
        for put in (str, self.put_variable):
            for name in ("one", "two"):
                os.chdir(above / name)
                cacerts = put("certs")
                folder = self.context(cacerts=cacerts).trust.source.path
                self.assertEqual(folder, above / name / "certs")

    def test_path_where_no_path_belongs_is_still_a_usage_error(self) -> None:
        self.context(auth="USER")
        self.server = Server(self.clock)
        for server, auth in ((Path(HOST), "USER"), (HOST, Path("USER"))):
            opening = self.server.open(
                cast(Any, server),
                secure=1,
                auth=auth,
                cacerts=self.there,
                endpoint=self.endpoint,
            )
            self.failureResultOf(opening, UsageError)

    def test_one_option_that_differs_means_another_connector(self) -> None:
        ours = client_identity()
        file = self.folder({"ours": ours.pem + ours.key_pem}) / "ours"
        others: tuple[dict[str, Any], ...] = (
            {"server": f"{HOST}:1995"},
            {"verify": False},
            {"cacerts": self.folder([authority()])},
            {"system_trust": True},
            {"endpoint": Latest(self)},
            {"auth": "USER"},
            {"timeout": 61},
            {"connect_timeout": 31},
            {"max_message_size": 1000},
            {"max_listing": 1000},
            {"pipeline": False},
            {"client_certificate": file},
            {"allow_cleartext": False},
            {"cacerts": authority().cert_pem.bytes()},
            {"pins": [PIN]},
            {"pins": [PIN, OTHER_PIN]},
            {"tls": TLSOptions(ciphers="ECDHE+AESGCM")},
            {"tls": TLSOptions(minimum_version="TLSv1.3")},
        )
        seen = [self.context()]
        for options in others:
            context = self.context(**options)
            self.assertNotIn(context, seen, options)
            self.assertIs(self.context(**options), context, options)
            seen.append(context)
        self.assertIs(self.context(), seen[0])

    def test_equal_lists_of_pins_and_tls_options_find_the_same_connector(self) -> None:
        """A program makes them again for each call."""
        for make in (
            lambda: {"pins": [PIN, OTHER_PIN]},
            lambda: {"pins": {PIN}},
            lambda: {"pins": iter([PIN, OTHER_PIN])},
            lambda: {"tls": TLSOptions(ciphers="ECDHE+AESGCM")},
        ):
            self.assertIs(self.context(**make()), self.context(**make()))

    def test_authorization_identity_is_no_option_of_the_connector(self) -> None:
        """The mailboxes of a master user share a connector."""
        first = self.context()
        self.server = Server(self.clock)
        opening = self.server.open(
            HOST,
            secure=1,
            cacerts=self.there,
            endpoint=self.endpoint,
            authorize_as="bob",
        )
        self.server.start_tls(ServerTLS())
        client: Any = self.server.client
        while not isinstance(client, POP3ClientProtocol):
            client = client.wrappedProtocol
        self.assertIs(client.settings.context, first)
        opening.addErrback(lambda _: None).cancel()

    def test_values_that_are_equal_but_of_different_types_are_kept_apart(self) -> None:
        # 1 == True == 1.0: one of them is not a size.
        self.context(max_message_size=1)
        self.server = Server(self.clock)
        opening = self.server.open(
            HOST,
            secure=1,
            cacerts=self.there,
            endpoint=self.endpoint,
            max_message_size=True,
        )
        self.assertIn("max_message_size", str(self.error(opening, UsageError)))

    def test_objects_count_by_identity_even_if_equal(self) -> None:
        class Equal(Latest):
            def __eq__(self, other: object) -> bool:
                return isinstance(other, Equal)

            def __hash__(self) -> int:
                return 1

        one, other = Equal(self), Equal(self)
        first = self.context(endpoint=one)
        self.assertIsNot(self.context(endpoint=other), first)
        self.assertIs(self.context(endpoint=one), first)

    def test_object_that_cannot_be_hashed_is_accepted(self) -> None:
        class Unhashable(Latest):
            def __eq__(self, other: object) -> bool:
                return True

        endpoint = Unhashable(self)
        self.assertIs(self.context(endpoint=endpoint), self.context(endpoint=endpoint))

    def test_changed_variable_counts_at_the_next_connect(self) -> None:
        self.put_variable(self.there)
        first = self.context(cacerts=None)
        other = self.folder([authority()])
        self.put_variable(other)
        second = self.context(cacerts=None)
        self.assertIsNot(second, first)
        self.assertEqual(second.trust.source.path, other)
        self.put_variable(self.there)
        self.assertIs(self.context(cacerts=None), first)

    def test_oldest_of_33_connectors_is_collected(self) -> None:
        first = weakref.ref(self.context())
        for seconds in range(100, 131):
            self.context(timeout=seconds)
        self.last_context = None
        gc.collect()
        # It was the oldest of 32; being used makes it the latest.
        self.assertIs(self.context(), first())
        kept = weakref.ref(self.context(timeout=131))
        self.last_context = None
        self.assertIs(self.context(), first())
        for seconds in range(132, 163):
            self.context(timeout=seconds)
        self.last_context = None
        self.server = Server(self.clock)
        gc.collect()
        self.assertIsNone(kept())
        self.assertIsNotNone(first())
        self.context(timeout=163)
        self.last_context = None
        self.server = Server(self.clock)
        gc.collect()
        self.assertIsNone(first())

    def test_options_that_cannot_be_used_are_not_kept(self) -> None:
        missing = self.there / "later"
        for _ in range(2):
            self.server = Server(self.clock)
            opening = self.server.open(
                HOST, secure=1, cacerts=missing, endpoint=self.endpoint
            )
            self.error(opening, UsageError)
        shutil.copytree(self.folder([authority()]), missing)
        self.assertEqual(self.context(cacerts=missing).trust.source.path, missing)
