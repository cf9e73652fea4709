"""
The mechanisms of logging in, with a real Dovecot.
"""

from __future__ import annotations

import json
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import trustme
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from pop3connect import Handle, LoginError, Secure, connect

from ..support import dovecot
from ..support.shows import shows

MAIL = b"Subject: hello\r\n\r\nworld\r\n"


class AuthTestCase(TestCase):
    """
    A test case with a Dovecot that offers what it has to.
    """

    skip = dovecot.skip_reason()
    timeout = 30

    def serve(self, *mechanisms: str, more: str = "") -> dovecot.Dovecot:
        server = dovecot.Dovecot(mechanisms=mechanisms, more=more)
        server.start()
        self.addCleanup(server.begin_to_stop)
        return server

    async def open(
        self,
        server: dovecot.Dovecot,
        mailbox: dovecot.Mailbox,
        secure: Secure = Secure.TLS,
        **options: Any,
    ) -> Handle:
        options.setdefault("password", mailbox.password)
        port = server.tls_port if secure is Secure.TLS else server.port
        handle = await connect(
            f"localhost:{port}",
            mailbox.user,
            secure=secure,
            cacerts=server.cacerts,
            **options,
        )
        self.addCleanup(self._close, handle)
        return handle

    def _close(self, handle: Handle) -> Deferred[None]:
        return handle.abort()

    async def refused(self, *arguments: Any, **options: Any) -> LoginError:
        with self.assertRaises(LoginError) as caught:
            await self.open(*arguments, **options)
        return caught.exception


class PasswordTests(AuthTestCase):
    """
    Mechanisms with a password.
    """

    async def check(self, name: str) -> None:
        server = self.serve(name.lower())
        mailbox = server.add_user([MAIL])
        for secure in (Secure.NONE, Secure.TLS, Secure.STLS):
            handle = await self.open(server, mailbox, secure, auth=name)
            self.assertEqual(handle.login.mechanism, name)
            self.assertEqual(await handle.retrieve(1), MAIL)
            await handle.disconnect()
        error = await self.refused(server, mailbox, password="wrong", auth=name)
        self.assertEqual((error.code, error.mechanism), ("AUTH", name))

    async def test_plain_logs_in_and_refuses_a_wrong_password(self) -> None:
        await self.check("PLAIN")

    async def test_login_mechanism_logs_in_and_refuses_a_wrong_password(self) -> None:
        await self.check("LOGIN")

    async def test_cram_md5_logs_in_and_refuses_a_wrong_password(self) -> None:
        await self.check("CRAM-MD5")

    async def test_scram_sha_1_logs_in_and_refuses_a_wrong_password(self) -> None:
        await self.check("SCRAM-SHA-1")

    async def test_scram_sha_256_logs_in_and_refuses_a_wrong_password(self) -> None:
        await self.check("SCRAM-SHA-256")

    async def test_strongest_offered_mechanism_is_chosen(self) -> None:
        server = self.serve(
            "plain", "login", "cram-md5", "scram-sha-1", "scram-sha-256"
        )
        mailbox = server.add_user([MAIL])
        for secure in (Secure.NONE, Secure.TLS, Secure.STLS):
            handle = await self.open(server, mailbox, secure)
            self.assertEqual(handle.login.mechanism, "SCRAM-SHA-256")
            self.assertFalse(handle.login.cleartext)
            await handle.disconnect()

    @shows("RFC 5802-02")
    @shows("RFC 5802-04", "SHOULD", "SASLprep, UTF-8.", "scramp implements it.")
    async def test_password_with_special_characters_logs_in(self) -> None:
        """
        Blanks, signs that SCRAM escapes, and letters beyond ASCII.
        """
        server = self.serve("plain", "login", "scram-sha-256", "cram-md5")
        mailbox = server.add_user([MAIL], password="p=a,s s\u00df\u00e9")
        for auth in ("PLAIN", "LOGIN", "SCRAM-SHA-256", "CRAM-MD5"):
            handle = await self.open(server, mailbox, auth=auth)
            self.assertEqual((await handle.stat()).count, 1)
            await handle.disconnect()


class Introspection:
    """
    A token introspection endpoint (RFC 7662) on the loopback interface.
    """

    def __init__(self) -> None:
        tokens = self.tokens = {}  # type: dict[str, str]

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                asked = parse_qs(self.rfile.read(length).decode())
                user = tokens.get((asked.get("token") or [""])[0])
                answer = json.dumps({"active": user is not None, "username": user})
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer.encode())

            def log_message(self, *_: object) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class OAuthTests(AuthTestCase):
    """
    Access tokens, which Dovecot has looked at by an endpoint of ours.
    """

    def setUp(self) -> None:
        self.endpoint = Introspection()
        self.addCleanup(self.endpoint.stop)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        Path(folder.name).chmod(0o755)
        oauth2 = Path(folder.name, "oauth2.conf")
        oauth2.write_text(
            f"introspection_mode = post\nintrospection_url = {self.endpoint.url}\n"
            "username_attribute = username\nactive_attribute = active\n"
            "active_value = true\n"
        )
        oauth2.chmod(0o644)
        self.server = self.serve(
            "xoauth2",
            "oauthbearer",
            more="passdb {\n  driver = oauth2\n  mechanisms = xoauth2 oauthbearer\n"
            f"  args = {oauth2}\n}}\n",
        )
        self.mailbox = self.server.add_user([MAIL])
        self.endpoint.tokens["fresh"] = self.mailbox.user

    async def check(self, name: str) -> None:
        handle = await self.open(self.server, self.mailbox, auth=name, password="fresh")
        self.assertEqual(handle.login.mechanism, name)
        self.assertEqual(await handle.retrieve(1), MAIL)
        error = await self.refused(
            self.server, self.mailbox, auth=name, password="stale"
        )
        self.assertEqual(error.code, "AUTH")
        self.assertIn("status", error.details)
        self.assertNotIn("stale", str(error))

    @shows("feature 1.8", "OAuth 2.0", "XOAUTH2, OAUTHBEARER")
    async def test_xoauth2_accepts_fresh_and_refuses_stale_token(self) -> None:
        await self.check("XOAUTH2")

    @shows("feature 1.8")
    async def test_oauthbearer_accepts_fresh_and_refuses_stale_token(self) -> None:
        await self.check("OAUTHBEARER")

    async def test_stale_token_is_refreshed_and_login_succeeds(self) -> None:
        asked: list[bool] = []

        def token(refresh: bool = False) -> str:
            asked.append(refresh)
            return "fresh" if refresh else "stale"

        handle = await self.open(
            self.server, self.mailbox, auth="XOAUTH2", password=token
        )
        self.assertEqual((await handle.stat()).count, 1)
        self.assertEqual(asked, [False, True])


class ExternalTests(AuthTestCase):
    """
    A client certificate.
    """

    @shows("feature 1.5", "Client certificate", "``client_certificate=``")
    @shows("RFC 8314-06")
    async def test_client_certificate_logs_in_with_external(self) -> None:
        clients = trustme.CA()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        Path(folder.name).chmod(0o755)
        trusted = Path(folder.name, "clients.pem")
        clients.cert_pem.write_to_path(str(trusted))
        server = self.serve(
            "external",
            "plain",
            more=f"ssl_ca = <{trusted}\nssl_verify_client_cert = yes\n"
            "ssl_require_crl = no\nauth_ssl_username_from_cert = yes\n"
            "passdb {\n  driver = static\n  mechanisms = external\n"
            "  args = nopassword\n}\n",
        )
        mailbox = server.add_user([MAIL])
        shown = Path(folder.name, "client.pem")
        identity = clients.issue_cert(
            f"{mailbox.user}@example.com", common_name=mailbox.user
        )
        identity.private_key_and_cert_chain_pem.write_to_path(str(shown))
        for auth in ("EXTERNAL", "auto"):
            handle = await self.open(
                server, mailbox, auth=auth, password="-", client_certificate=shown
            )
            self.assertEqual(handle.login.mechanism, "EXTERNAL")
            self.assertEqual(await handle.retrieve(1), MAIL)
            await handle.disconnect()
        error = await self.refused(server, mailbox, auth="EXTERNAL", password="-")
        self.assertEqual(error.mechanism, "EXTERNAL")


class MasterUserTests(AuthTestCase):
    """
    A master user, who opens the mailboxes of others (Dovecot's ``master = yes``).
    """

    MASTER = "passdb {{\n  driver = passwd-file\n  args = {}\n  master = yes\n}}\n"

    async def test_master_user_opens_the_mailbox_of_another(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        Path(folder.name).chmod(0o755)
        masters = Path(folder.name, "masters")
        masters.write_text("boss:{PLAIN}looking-glass\n")
        masters.chmod(0o644)
        server = self.serve("plain", "scram-sha-256", more=self.MASTER.format(masters))
        for content in (MAIL, MAIL.replace(b"world", b"again")):
            mailbox = server.add_user([content])
            for auth in ("PLAIN", "SCRAM-SHA-256", "auto"):
                handle = await connect(
                    f"localhost:{server.tls_port}",
                    "boss",
                    "looking-glass",
                    secure=Secure.TLS,
                    cacerts=server.cacerts,
                    auth=auth,
                    authorize_as=mailbox.user,
                )
                self.addCleanup(self._close, handle)
                self.assertEqual(await handle.retrieve(1), content)
                await handle.disconnect()
        with self.assertRaises(LoginError):
            # An ordinary user may not.
            await self.open(server, mailbox, authorize_as="user1")
