"""
Every real server that the tests start: that it answers, and that a password gets in.
"""

from __future__ import annotations

import poplib
import ssl
from collections.abc import Iterator
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from pop3connect import Handle, Secure, connect

from ..support import cyrus, mailutils, solid
from ..support.twisted_pop3 import TwistedPOP3

MAIL = b"Subject: hello\r\n\r\nworld\r\n.\r\n"


class ServerTestCase(TestCase):
    """
    A test case that opens sessions with USER, which each of these servers has.
    """

    timeout = 60

    async def check(self, server: Any, account: Any, secure: Secure) -> Handle:
        port = server.tls_port if secure is Secure.TLS else server.port
        handle = await connect(
            f"localhost:{port}",
            account.user,
            account.password,
            secure=secure,
            cacerts=server.cacerts,
            auth="USER",
        )

        def abort() -> Deferred[None]:
            return handle.abort()

        self.addCleanup(abort)
        content = await handle.retrieve(1)
        # Delivery to Cyrus adds header fields.
        self.assertIn(b"Subject: hello\r\n", content)
        self.assertEqual(content.partition(b"\r\n\r\n")[2], b"world\r\n.\r\n")
        self.assertEqual((await handle.stat()).count, 1)
        return handle


class CyrusTests(ServerTestCase):
    """
    Cyrus
    """

    skip = cyrus.PACKAGES.skip_reason()

    async def test_user_logs_in_in_every_secure_mode(self) -> None:
        server = cyrus.shared()
        for secure in Secure:
            handle = await self.check(server, server.add_user([MAIL]), secure)
            self.assertIn("Cyrus", handle.greeting)

    async def test_mechanisms_on_offer_include_plus_only_over_tls(self) -> None:
        server = cyrus.shared()
        context = ssl.create_default_context(cafile=f"{server.cacerts}/ca.pem")

        def ask() -> Iterator[set[str]]:
            plain = poplib.POP3("localhost", server.port)
            tls = poplib.POP3_SSL("localhost", server.tls_port, context=context)
            for client in (plain, tls):
                yield set(client.capa()["SASL"])
                client.quit()

        without, over = await deferToThread(lambda: list(ask()))
        self.assertEqual(without, set(cyrus.MECHANISMS))
        self.assertEqual(over - without, {"SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS"})

    async def test_tls_versions_limit_the_version_negotiated(self) -> None:
        for setting, version in (("tls1_2", "TLSv1.2"), ("tls1_3", "TLSv1.3")):
            server = cyrus.shared(tls_versions=setting)
            account = server.add_user([MAIL])
            handle = await self.check(server, account, Secure.TLS)
            assert handle.tls is not None
            self.assertEqual(handle.tls.version, version)

    async def test_first_login_to_an_empty_account_creates_its_mailbox(self) -> None:
        server = cyrus.shared()
        account = server.add_user()
        handle = await connect(
            f"localhost:{server.port}", account.user, account.password, auth="USER"
        )
        self.assertEqual((await handle.stat()).count, 0)
        await handle.disconnect()


class MailutilsTests(ServerTestCase):
    """
    GNU Mailutils
    """

    skip = mailutils.PACKAGES.skip_reason()

    async def test_user_logs_in_in_every_secure_mode(self) -> None:
        server = mailutils.shared()
        for secure in Secure:
            handle = await self.check(server, server.add_user([MAIL]), secure)
            self.assertRegex(handle.greeting, "<.*>")


class SolidTests(ServerTestCase):
    """
    solid-pop3d
    """

    skip = solid.PACKAGES.skip_reason()

    async def test_user_logs_in_without_tls(self) -> None:
        server = solid.shared()
        handle = await self.check(server, server.add_user([MAIL]), Secure.NONE)
        self.assertRegex(handle.greeting, "<.*@localhost>")


class TwistedTests(ServerTestCase):
    """
    Twisted's own server
    """

    async def test_user_logs_in_without_tls_and_over_tls(self) -> None:
        for digests in (False, True):
            server = TwistedPOP3(self, digests=digests)
            for secure in (Secure.NONE, Secure.TLS):
                handle = await self.check(server, server.add_user([MAIL]), secure)
                self.assertRegex(handle.greeting, "<.*>")
                await handle.disconnect()
