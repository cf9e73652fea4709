"""
Logins to a real Cyrus, bound to the TLS connection by tls-unique, the only channel
binding that it knows.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from pop3connect import Handle, LoginError, Secure, connect

from ..support import cyrus
from ..support.shows import shows

MAIL = b"Subject: hello\r\n\r\nworld\r\n"
VERSIONS = (("tls1_2", "TLSv1.2"), ("tls1_3", "TLSv1.3"))


class BindingTests(TestCase):
    """
    Under TLS 1.2 and 1.3, on the first connection and on the second.
    """

    skip = cyrus.PACKAGES.skip_reason()
    timeout = 60

    def setUp(self) -> None:
        self.said: list[str] = []

    async def open(
        self, server: Any, account: Any, secure: Secure = Secure.TLS, **options: Any
    ) -> Handle:
        port = server.tls_port if secure is Secure.TLS else server.port
        handle = await connect(
            f"localhost:{port}",
            account.user,
            options.pop("password", account.password),
            secure=secure,
            cacerts=server.cacerts,
            stsproc=self.said.append,
            **options,
        )

        def abort() -> Deferred[None]:
            return handle.abort()

        self.addCleanup(abort)
        return handle

    def attempts(self) -> int:
        """
        Return how many logins Cyrus has seen since the last call.
        """
        count = sum(line.startswith(("C: AUTH ", "C: PASS ")) for line in self.said)
        self.said.clear()
        return count

    @shows("RFC 5929-01")
    async def test_auto_is_bound_at_the_first_attempt_of_every_connection(self) -> None:
        for setting, version in VERSIONS:
            server = cyrus.shared(tls_versions=setting)
            account = server.add_user([MAIL])
            for secure in (Secure.TLS, Secure.STLS):
                for _ in range(3):
                    handle = await self.open(server, account, secure)
                    self.assertEqual(handle.login.mechanism, "SCRAM-SHA-256-PLUS")
                    self.assertEqual(self.attempts(), 1)
                    assert handle.tls is not None
                    self.assertEqual(handle.tls.version, version)
                    self.assertEqual((await handle.stat()).count, 1)
                    await handle.disconnect()

    async def test_login_is_bound_after_a_login_with_plain(self) -> None:
        """
        No TLS session was kept of it that would make tls-unique unusable.
        """
        for setting, _ in VERSIONS:
            server = cyrus.shared(tls_versions=setting)
            account = server.add_user([MAIL])
            for auth in ("PLAIN", "auto"):
                handle = await self.open(server, account, auth=auth)
                self.assertEqual(self.attempts(), 1)
                await handle.disconnect()

    async def test_wrong_password_is_seen_twice_at_most_and_never_unbound(self) -> None:
        # One that no login has taught anything about.
        server = cyrus.Cyrus()
        self.addCleanup(server.stop)
        account = server.add_user([MAIL])
        for _ in range(2):
            with self.assertRaises(LoginError) as caught:
                await self.open(server, account, password="wrong")
            self.assertEqual(caught.exception.code, "AUTH")
            self.assertIn("tls-unique", str(caught.exception))
            self.assertNotIn("C: AUTH PLAIN ********", self.said)
            self.assertEqual(self.attempts(), 2)
        # Once a binding has worked, a refusal concerns the password.
        await (await self.open(server, account)).disconnect()
        self.attempts()
        with self.assertRaises(LoginError):
            await self.open(server, account, password="wrong")
        self.assertEqual(self.attempts(), 1)
