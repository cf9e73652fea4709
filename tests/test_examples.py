"""
The examples of the documentation, run against servers on the loopback.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import ssl
import stat
import subprocess
import sys
import tempfile
import textwrap
from contextlib import redirect_stdout
from importlib.util import module_from_spec, spec_from_file_location
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import SkipTest, mock, skipIf

import trustme
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.ssl import (
    Certificate,
    PrivateCertificate,
    trustRootFromCertificates,
)
from twisted.internet.threads import deferToThread
from twisted.logger import LogLevel, capturedLogs
from twisted.protocols.portforward import ProxyFactory
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, readBody
from twisted.web.http_headers import Headers
from twisted.web.resource import Resource
from twisted.web.server import Site

from pop3connect import (
    ConnectError,
    ConnectionLostError,
    Connector,
    LoginError,
    UsageError,
    connect,
)
from pop3connect.collect import AccountSettings
from pop3connect.demo.mail import sample_messages
from pop3connect.events import Closed
from pop3connect.testing import MailboxServer, Script, ScriptedServer
from pop3connect.tls.pins import pin_of

from .support.dns import Answers, srv
from .support.loopback import ROOT, Program
from .support.proxies import HTTPProxy, SocksProxy

try:
    import klein
except ImportError:
    klein = None

EXAMPLES = ROOT / "examples"
DOCS = ROOT / "docs"

reactor: Any = global_reactor

NAME = "pop.example.com"
USER, PASSWORD = "ada", "lovelace"
OTHER_PIN = f"sha256//{'A' * 43}="

MAIL = [
    b"From: bob@example.com\r\nSubject: one\r\n\r\nfirst\r\n",
    b"From: eve@example.com\r\nSubject: =?utf-8?q?zw=C3=B6lf?=\r\n\r\n.dot\r\n",
]


def load(name: str) -> ModuleType:
    """
    Import an example.
    """
    path = EXAMPLES / f"{name}.py"
    if not path.exists():
        raise SkipTest("these are tests of an installed package")
    spec = spec_from_file_location(f"example_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class ExampleTestCase(TestCase):
    """
    A mailbox over TLS; the CA of its certificate is the one that programs trust.
    """

    timeout = 30

    def setUp(self) -> None:
        ca = trustme.CA()
        issued = ca.issue_cert("127.0.0.1", "localhost", NAME)
        self.authority = ca.cert_pem.bytes()
        self.certificate = PrivateCertificate.loadPEM(
            issued.private_key_and_cert_chain_pem.bytes()
        )
        self.cacerts = Path(self.mktemp()).absolute()
        self.cacerts.mkdir()
        (self.cacerts / "ca.pem").write_bytes(self.authority)
        environment = {"POP3CONNECT_CACERTS": str(self.cacerts)}
        environment["POP3_PASSWORD"] = PASSWORD
        before = {name: os.environ.get(name) for name in environment}
        os.environ.update(environment)
        self.addCleanup(self.restore, before)
        self.mailbox = self.serve(self.secure_mailbox())

    def restore(self, environment: dict[str, str | None]) -> None:
        for name, value in environment.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value

    def secure_mailbox(self, **options: Any) -> MailboxServer:
        options.setdefault("tls_at_once", True)
        return MailboxServer(MAIL, certificate=self.certificate, **options)

    def serve(self, server: Any) -> Any:
        """
        Listen, and set ``self.port`` and ``self.server``.
        """
        listening = server.listen(reactor)
        self.addCleanup(listening.stopListening)
        self.port = listening.getHost().port
        self.server = f"127.0.0.1:{self.port}"
        return server

    def serve_mail(self, mail: list[bytes], uids: list[str]) -> None:
        """
        Serve another mailbox, on another port.
        """
        mailbox = MailboxServer(certificate=self.certificate, tls_at_once=True)
        mailbox.deliver(*mail, uids=uids)
        self.serve(mailbox)

    async def printed(self, name: str, *arguments: str) -> str:
        """
        Run the main function of an example, and return what it prints.
        """
        with redirect_stdout(StringIO()) as output:
            await load(name).main(reactor, *arguments)
        return output.getvalue()


class ScriptTests(ExampleTestCase):
    """
    Scripts with a main function.
    """

    async def test_first_steps_reads_mailbox_and_deletes_nothing(self) -> None:
        output = await self.printed("first_steps", self.server, USER, PASSWORD)
        self.assertIn("Stat(count=2, size=", output)
        self.assertIn("Subject: one", output)
        self.assertIn("Committed(deleted=frozenset())", output)

    async def test_read_mailbox_prints_senders_and_subjects(self) -> None:
        output = await self.printed("read_mailbox", self.server, USER, PASSWORD)
        self.assertIn("2 messages", output)
        self.assertIn("1 bob@example.com - one", output)
        self.assertIn("2 eve@example.com - zwölf", output)
        self.assertEqual(self.mailbox.messages, MAIL)

    async def test_read_mailbox_hides_a_wrong_password_in_its_error(self) -> None:
        with self.assertRaises(SystemExit) as caught:
            await self.printed("read_mailbox", self.server, USER, "babbage")
        self.assertIn(self.server, str(caught.exception))
        self.assertNotIn("babbage", str(caught.exception))

    async def test_take_mail_empties_the_mailbox(self) -> None:
        folder = self.mktemp()
        output = await self.printed("take_mail", self.server, USER, folder, PASSWORD)
        self.assertIn("there are 2 messages", output)
        self.assertEqual(self.mailbox.messages, [])

    async def test_headers_prints_decoded_subjects(self) -> None:
        output = await self.printed("headers", self.server, USER)
        self.assertEqual(output, "one\nzwölf\n")

    async def test_stls_shows_the_upgrade_and_hides_the_password(self) -> None:
        self.serve(self.secure_mailbox(tls_at_once=False))
        output = await self.printed("stls", self.server, USER)
        self.assertIn("C: STLS", output)
        self.assertIn("TLS: TLSv1", output)
        self.assertNotIn(PASSWORD, output)

    async def test_stls_sends_no_password_if_server_lacks_stls(self) -> None:
        self.serve(MailboxServer(MAIL))
        output = await self.printed("stls", self.server, USER)
        self.assertIn("no password was sent", output)

    async def test_own_ca_verifies_the_server(self) -> None:
        folder = str(self.cacerts)
        output = await self.printed("own_ca", self.server, USER, folder)
        self.assertIn("verified=True", output)

    async def test_pinned_server_is_verified_by_its_key(self) -> None:
        pin = pin_of(self.certificate.original)
        output = await self.printed("pinned", self.server, USER, OTHER_PIN, str(pin))
        self.assertIn("verified_by='pin'", output)

    async def test_pinned_names_the_pin_of_another_key(self) -> None:
        output = await self.printed("pinned", self.server, USER, OTHER_PIN)
        self.assertIn(str(pin_of(self.certificate.original)), output)

    async def test_vault_trusts_a_certificate_from_the_environment(self) -> None:
        with mock.patch.dict(
            os.environ, CA_PEM=(self.cacerts / "ca.pem").read_text("ascii")
        ):
            output = await self.printed("vault", self.server, USER)
        self.assertIn("TLSv1.3", output)
        self.assertIn("verified_by='chain'", output)

    async def test_master_user_opens_mailboxes_and_goes_on_after_a_refusal(
        self,
    ) -> None:
        def script(user: str, *, first: bool) -> Script:
            said = base64.b64encode(f"{user}\0boss\0{PASSWORD}".encode()).decode()
            begun = Script().start_tls(self.certificate).greet()
            if first:
                # The connector remembers it for the next login.
                begun = begun.expect("CAPA").reply(lines=["SASL PLAIN"])
            return begun.expect(f"AUTH PLAIN {said}")

        refused = script("ada", first=True).reply("-ERR not yours").quit()
        opened = script("bob", first=False).reply().expect("CAPA").reply(lines=[])
        opened = opened.expect("STAT").reply("+OK 3 99").quit()
        server = self.serve(ScriptedServer(refused, opened))
        output = await self.printed("master_user", self.server, "boss", "ada", "bob")
        self.assertEqual(output, "ada not yours\nbob 3\n")
        server.check()

    @skipIf(shutil.which("openssl") is None, "there is no openssl to make a CA with")
    async def test_make_ca_creates_certificate_that_own_ca_verifies(self) -> None:
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        subprocess.run(
            ["sh", str(EXAMPLES / "make_ca.sh"), "localhost"],
            cwd=folder,
            check=True,
            capture_output=True,
        )
        self.assertEqual(
            sorted(path.name for path in folder.iterdir()),
            ["ca.key", "cacerts", "server.key", "server.pem"],
        )
        self.certificate = PrivateCertificate.loadPEM(
            (folder / "server.key").read_bytes() + (folder / "server.pem").read_bytes()
        )
        self.serve(self.secure_mailbox())
        output = await self.printed(
            "own_ca", f"localhost:{self.port}", USER, str(folder / "cacerts")
        )
        self.assertIn("verified=True", output)

    async def test_own_ca_explains_an_untrusted_certificate(self) -> None:
        (self.cacerts / "ca.pem").write_bytes(trustme.CA().cert_pem.bytes())
        output = await self.printed("own_ca", self.server, USER, str(self.cacerts))
        self.assertIn("is not trusted", output)
        self.assertIn(str(self.cacerts), output)
        self.assertIn("valid until", output)

    async def test_save_messages_writes_files_and_empties_the_mailbox(self) -> None:
        folder = Path(self.mktemp())
        output = await self.printed("save_messages", self.server, USER, str(folder))
        self.assertIn("done", output)
        self.assertEqual(sorted(p.read_bytes() for p in folder.iterdir()), sorted(MAIL))
        self.assertEqual(self.mailbox.messages, [])

    async def test_save_messages_skips_saved_and_leaves_refused_messages(self) -> None:
        server = self.serve(
            ScriptedServer(
                Script()
                .start_tls(self.certificate)
                .greet()
                .log_in()
                .expect("UIDL")
                .reply(lines=["1 a", "2 b"])
                .expect("DELE 1")
                .reply()
                .expect("RETR 2")
                .reply("-ERR it is broken")
                .quit()
            )
        )
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "61.eml").write_bytes(MAIL[0])
        (folder / "62.part").write_bytes(b"half")
        output = await self.printed("save_messages", self.server, USER, str(folder))
        self.assertIn("left there:", output)
        self.assertFalse((folder / "62.eml").exists())
        server.check()

    async def test_save_fast_writes_files_and_leaves_the_mailbox(self) -> None:
        folder = Path(self.mktemp())
        for _ in range(2):
            output = await self.printed("save_fast", self.server, USER, str(folder))
            self.assertEqual(output, "done\n")
        self.assertEqual(sorted(p.read_bytes() for p in folder.iterdir()), sorted(MAIL))
        self.assertEqual({path.suffix for path in folder.iterdir()}, {".eml"})
        self.assertEqual(len(self.mailbox.messages), len(MAIL))
        # The second time they were all there.
        self.assertEqual(self.mailbox.heard.count("RETR 1"), 1)

    async def test_save_fast_goes_on_after_a_message_that_was_refused(self) -> None:
        self.serve(
            ScriptedServer(
                Script()
                .start_tls(self.certificate)
                .greet()
                .log_in()
                .expect("UIDL")
                .reply(lines=["1 a", "2 b"])
                .expect("RETR 1")
                .reply("-ERR it is broken")
                .expect("RETR 2")
                .reply(lines=["Subject: b", ""])
                .quit()
            )
        )
        folder = Path(self.mktemp())
        output = await self.printed("save_fast", self.server, USER, str(folder))
        self.assertIn("left there:", output)
        self.assertEqual([path.name for path in folder.iterdir()], ["62.eml"])

    async def test_list_mail_prints_decoded_headers(self) -> None:
        output = await self.printed("list_mail", self.server, USER)
        self.assertEqual(output.count("\n"), len(MAIL))
        self.assertIn(" | zw\xf6lf\n", output)
        self.assertNotIn("RETR", str(self.mailbox.heard))

    async def test_save_messages_syncs_files_and_folder_before_quit(self) -> None:
        module = load("save_messages")
        synced: list[tuple[bool, bool]] = []

        def fsync(descriptor: int) -> None:
            kind = os.fstat(descriptor).st_mode
            synced.append((stat.S_ISDIR(kind), "QUIT" in self.mailbox.heard))

        with mock.patch("os.fsync", fsync), redirect_stdout(StringIO()):
            await module.main(reactor, self.server, USER, self.mktemp())
        self.assertEqual(synced, [(False, False), (False, False), (True, False)])
        self.assertIn("QUIT", self.mailbox.heard)

    async def test_small_ones_prints_small_and_leaves_large_messages(self) -> None:
        limit = str(len(MAIL[0]))
        self.assertEqual(
            await self.printed("small_ones", self.server, USER, limit),
            f"1 {limit} octets\n2 is left there: =?utf-8?q?zw=C3=B6lf?=\n",
        )

    async def test_unix_socket_reaches_the_server(self) -> None:
        # The name of a UNIX socket has to be short.
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = f"{folder.name}/pop3"
        self.serve(MailboxServer(MAIL))
        listening = reactor.listenUNIX(path, ProxyFactory("127.0.0.1", self.port))
        self.addCleanup(listening.stopListening)
        output = await self.printed("unix_socket", path, USER)
        self.assertIn("Stat(count=2, size=", output)

    async def test_metrics_counts_replies_and_octets(self) -> None:
        output = await self.printed("metrics", self.server, USER)
        self.assertIn('pop3_replies{verb="greeting",ok="True"} 1\n', output)
        self.assertIn('pop3_replies{verb="RETR",ok="True"} 2\n', output)
        self.assertIn(f"pop3_octets {sum(map(len, MAIL))}\n", output)
        self.assertNotIn("pop3_losses", output)

    def test_metrics_counts_sessions_that_were_lost(self) -> None:
        metrics = load("metrics").Metrics()
        error = ConnectError("of the test")
        metrics(Closed("0" * 16, "pop.example.com:995", error, 1.0))
        metrics(Closed("1" * 16, "pop.example.com:995", None, 1.0))
        self.assertEqual(metrics.losses, {"ConnectError": 1})

    async def test_proxy_reaches_a_name_that_only_the_proxy_knows(self) -> None:
        for scheme, kind in (("socks5", SocksProxy), ("http", HTTPProxy)):
            proxy = kind(reactor, {NAME: self.port}, (b"eve", b"secret"))
            listening = reactor.listenTCP(0, proxy, interface="127.0.0.1")
            self.addCleanup(listening.stopListening)
            url = f"{scheme}://eve:secret@127.0.0.1:{listening.getHost().port}"
            with mock.patch.dict(os.environ, ALL_PROXY=url):
                output = await self.printed("proxy", NAME, USER)
            self.assertIn("Stat(count=2, size=", output)
            self.assertEqual(proxy.asked, [(NAME, 995)])

    async def test_find_server_logs_in_where_the_user_has_confirmed(self) -> None:
        self.serve(self.secure_mailbox(username="ada@example.com"))
        service = "_pop3s._tcp.example.com"
        names = {service: [srv(service, "localhost", self.port)]}
        example = load("find_server")
        asked = []

        def confirmed(candidate: Any) -> bool:
            asked.append(candidate.host)
            return len(asked) > 1

        example.confirmed = confirmed
        for said in ("no server was confirmed", "Stat(count=2"):
            with redirect_stdout(StringIO()) as output:
                await example.main(reactor, "ada@example.com", Answers(names))
            self.assertIn(said, output.getvalue())
        self.assertEqual(asked, ["localhost"] * 2)

    async def test_leave_on_server_prints_each_new_message_once(self) -> None:
        file = str(Path(self.mktemp()).absolute())
        output = await self.printed("leave_on_server", self.server, USER, file)
        self.assertIn("message 2 has", output)
        self.assertEqual(
            await self.printed("leave_on_server", self.server, USER, file), ""
        )
        self.mailbox.deliver(b"Subject: new\r\n\r\n")
        output = await self.printed("leave_on_server", self.server, USER, file)
        self.assertEqual(output, "message 3 has 16 octets\n")
        self.assertEqual(len(self.mailbox.messages), 3)

    async def test_leave_on_server_knows_messages_whose_uids_are_blank_or_new(
        self,
    ) -> None:
        # The last two are equal.
        mail = [*MAIL, MAIL[1]]
        file = str(Path(self.mktemp()).absolute())
        for uids, shown in (
            (["a", "", ""], 3),
            (["a", "", ""], 0),
            (["b", "c", "c"], 0),
            (["1", "2", "3"], 0),
        ):
            self.serve_mail(mail, uids)
            output = await self.printed("leave_on_server", self.server, USER, file)
            self.assertEqual(len(output.splitlines()), shown, (uids, output))

    async def test_leave_on_server_forgets_messages_a_month_after_their_deletion(
        self,
    ) -> None:
        file = Path(self.mktemp()).absolute()
        module = load("leave_on_server")
        for days, left in ((0, 2), (1, 1), (29, 1), (32, 1)):
            self.serve_mail(MAIL[:left], ["a", "b"][:left])
            with redirect_stdout(StringIO()):
                now = 1e9 + days * 24 * 3600
                await module.main(
                    reactor, self.server, USER, str(file), now=lambda now=now: now
                )
            known = 1 if days > 30 else 2
            self.assertEqual(len(json.loads(file.read_text())), known)


class TokenEndpoint(Resource):
    """
    Gives a new token each time.
    """

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def render_POST(self, request: Any) -> bytes:
        assert request.args[b"grant_type"] == [b"refresh_token"]
        self.count += 1
        return json.dumps(
            {"access_token": f"token{self.count}", "expires_in": 3600}
        ).encode()


class OAuthTests(ExampleTestCase):
    """
    Tokens, and what happens when one has expired.
    """

    def serve_one_who_refuses_the_first_token(self) -> None:
        def said(token: str) -> str:
            return base64.b64encode(
                f"user={USER}\1auth=Bearer {token}\1\1".encode()
            ).decode()

        failure = base64.b64encode(b'{"status":"401"}').decode()
        session = (
            Script()
            .start_tls(self.certificate)
            .greet()
            .expect("CAPA")
            .reply(lines=["SASL XOAUTH2"])
        )
        server = ScriptedServer(
            session.expect("AUTH XOAUTH2")
            .reply("+ ")
            .expect(said("token1"))
            .reply(f"+ {failure}")
            .expect("")
            .reply("-ERR no")
            .expect("AUTH XOAUTH2")
            .reply("+ ")
            .expect(said("token2"))
            .reply()
            .expect("CAPA")
            .reply(lines=["TOP"])
            .expect("STAT")
            .reply("+OK 7 700")
            .quit()
        )
        self.serve(server)
        self.addCleanup(server.check)

    def provide(self, **modules: dict[str, Any]) -> None:
        """
        Replace the providers' libraries, which would connect to the providers.
        """
        made = {}
        for name, names in modules.items():
            module = ModuleType(name.replace("__", "."))
            vars(module).update(names)
            made[module.__name__] = module
        patch = mock.patch.dict(sys.modules, made)
        patch.start()
        self.addCleanup(patch.stop)

    def set_environment(self, **variables: str) -> None:
        patch = mock.patch.dict(os.environ, variables)
        patch.start()
        self.addCleanup(patch.stop)

    async def test_oauth2_gets_a_new_token_when_first_is_refused(self) -> None:
        self.serve_one_who_refuses_the_first_token()
        tokens = TokenEndpoint()
        listening = reactor.listenTCP(0, Site(tokens), interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        self.set_environment(OAUTH_CLIENT_ID="us", OAUTH_REFRESH_TOKEN="again")
        url = f"http://127.0.0.1:{listening.getHost().port}/token"
        output = await self.printed("oauth2", self.server, USER, url)
        self.assertEqual(output, "7 messages\n")
        self.assertEqual(tokens.count, 2)

    async def test_oauth2_microsoft_gets_new_token_when_first_is_refused(self) -> None:
        class Application:
            kept = ""
            made = 0

            def __init__(self, client: str, authority: str, client_credential: str):
                asked = (client, authority, client_credential)
                assert asked == ("us", "https://login.microsoftonline.com/t", "s")

            def acquire_token_for_client(self, scopes: list[str]) -> dict[str, str]:
                assert scopes == ["https://outlook.office365.com/.default"]
                if not self.kept:
                    self.made += 1
                    self.kept = f"token{self.made}"
                return {"access_token": self.kept}

            def remove_tokens_for_client(self) -> None:
                self.kept = ""

        self.provide(msal={"ConfidentialClientApplication": Application})
        self.set_environment(TENANT="t", CLIENT_ID="us", CLIENT_SECRET="s")
        self.serve_one_who_refuses_the_first_token()
        output = await self.printed("oauth2_microsoft", USER, self.server)
        self.assertEqual(output, "7 messages\n")

    async def test_oauth2_microsoft_reports_why_it_has_no_token(self) -> None:
        application = mock.Mock()
        application().acquire_token_for_client.return_value = {
            "error": "invalid_client",
            "error_description": "the secret has expired",
        }
        self.provide(msal={"ConfidentialClientApplication": application})
        self.set_environment(TENANT="t", CLIENT_ID="us", CLIENT_SECRET="s")
        session = Script().start_tls(self.certificate).greet().expect("CAPA")
        self.serve(ScriptedServer(session.reply(lines=["SASL XOAUTH2"]).quit()))
        with self.assertRaises(UsageError) as caught:
            await self.printed("oauth2_microsoft", USER, self.server)
        self.assertIn("the secret has expired", str(caught.exception.__cause__))

    async def test_oauth2_google_gets_new_token_when_first_is_refused(self) -> None:
        class Credentials:
            made = 0
            valid = False
            token = ""

            def __init__(self, token: None, **parameters: Any) -> None:
                assert parameters["refresh_token"] == "again"
                assert parameters["scopes"] == ["https://mail.google.com/"]

            def refresh(self, request: str) -> None:
                assert request == "a request"
                self.made += 1
                self.valid = True
                self.token = f"token{self.made}"

        self.provide(
            google={},
            google__auth={},
            google__auth__transport={},
            google__auth__transport__requests={"Request": lambda: "a request"},
            google__oauth2={},
            google__oauth2__credentials={"Credentials": Credentials},
        )
        self.set_environment(CLIENT_ID="us", CLIENT_SECRET="s", REFRESH_TOKEN="again")
        self.serve_one_who_refuses_the_first_token()
        output = await self.printed("oauth2_google", USER, self.server)
        self.assertEqual(output, "7 messages\n")

    def test_oauth2_reuses_a_token_that_is_still_valid(self) -> None:
        module = load("oauth2")
        tokens = module.Tokens("http://127.0.0.1:1/")
        tokens.token, tokens.until = "good", float("inf")
        answer = Deferred.fromCoroutine(tokens())
        self.assertEqual(self.successResultOf(answer), "good")


@skipIf(os.name == "nt", "the commands are for a shell")
class TutorialTests(ExampleTestCase):
    """
    The tutorial, as a newcomer follows it who has started the demo server.
    """

    def steps(self) -> list[tuple[str, str]]:
        """
        Return the commands that run a program, each with the output on the page.
        """
        if not DOCS.exists():
            raise SkipTest("these are tests of an installed package")
        return [
            (command, textwrap.dedent(output))
            for command, output in re.findall(
                r"code-block:: sh\n\n    (.+)\n\n"
                r"\.\. code-block:: text\n\n((?:    .*\n|\n)+)",
                (DOCS / "tutorial.rst").read_text("utf-8"),
            )
        ]

    def shell(self, command: str, folder: Path) -> str:
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"},
            # Without a terminal, the password is read from there.
            start_new_session=True,
            input=b"looking-glass\n",
            capture_output=True,
            timeout=20,
        )
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        return done.stdout.decode()

    async def test_every_program_prints_what_the_page_shows(self) -> None:
        self.serve(
            MailboxServer(
                sample_messages(),
                username="alice",
                password="looking-glass",
                certificate=self.certificate,
                tls_at_once=True,
            )
        )
        folder = Path(self.mktemp()).absolute()
        (folder / ".venv" / "bin").mkdir(parents=True)
        python = folder / ".venv" / "bin" / "python"
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        python.chmod(0o755)
        (folder / "examples").symlink_to(EXAMPLES)
        steps = self.steps()
        self.assertEqual(len(steps), 3)
        for command, shown in steps:
            self.assertIn("localhost:1995", command)
            command = command.replace("localhost:1995", self.server)
            output = await deferToThread(self.shell, command, folder)
            # Trailing blanks: pages have none.
            lines = [line.rstrip() for line in output.splitlines()]
            wanted = shown.splitlines()
            while wanted[-1] == "":
                wanted.pop()
            if wanted[-1] == "...":
                wanted.pop()
                lines = lines[: len(wanted)]
            self.assertEqual(lines, wanted)


class ServiceTests(ExampleTestCase):
    """
    The service, in memory, with a clock.
    """

    def start(self, server: Any, take_in: Any, endpoint: Any = None) -> Any:
        module = load("service")
        connector = Connector(
            NAME, endpoint=endpoint or server.endpoint, reactor=server.clock
        )
        service = module.FetchService(
            lambda: connector.sessions(USER, PASSWORD, interval=300), take_in
        )
        service.startService()
        server.flush()
        return service

    def stop(self, server: Any, service: Any) -> None:
        stopping = service.stopService()
        server.flush()
        self.successResultOf(stopping)
        # The delayed calls that are left belong to the server, not to the service.
        server.advance(700)
        self.assertEqual(server.clock.getDelayedCalls(), [])

    def test_mail_is_taken_in_at_start_and_after_each_interval(self) -> None:
        taken: list[bytes] = []

        async def take_in(content: bytes) -> None:
            taken.append(content)

        server = MailboxServer(MAIL)
        service = self.start(server, take_in)
        self.assertEqual(taken, MAIL)
        self.assertEqual(server.messages, [])
        server.deliver(MAIL[0])
        server.advance(300)
        self.assertEqual(taken, [*MAIL, MAIL[0]])
        self.stop(server, service)

    def test_message_stays_on_server_if_taking_it_in_fails(self) -> None:
        async def take_in(content: bytes) -> None:
            if content == MAIL[0]:
                raise ValueError("no")

        server = MailboxServer(MAIL)
        service = self.start(server, take_in)
        self.assertEqual(server.messages, MAIL[:1])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.stop(server, service)

    def test_failed_login_is_logged_and_retried_after_interval(self) -> None:
        async def take_in(content: bytes) -> None:
            raise AssertionError("there is nothing")

        good = Script().greet().log_in().expect("LIST").reply(lines=[]).quit()
        server = ScriptedServer(Script().greet("-ERR [SYS/TEMP] later").close(), good)
        with capturedLogs() as logs:
            service = self.start(server, take_in)
        warnings = [one for one in logs if one["log_level"] is LogLevel.warn]
        self.assertIsInstance(warnings[0]["error"], LoginError)
        # The interval, which varies a little after a failure.
        server.advance(315)
        server.check()
        self.stop(server, service)

    def test_refused_password_ends_it_and_is_logged(self) -> None:
        refused = Script().greet().expect("CAPA").reply(lines=["USER"])
        refused.expect(f"USER {USER}").reply().expect(f"PASS {PASSWORD}")
        server = ScriptedServer(refused.reply("-ERR [AUTH] no").quit())
        service = self.start(server, None)
        self.assertEqual(len(self.flushLoggedErrors(LoginError)), 1)
        server.check()
        self.stop(server, service)

    def test_session_that_breaks_is_logged_and_the_next_goes_on(self) -> None:
        broken = Script().greet().log_in().expect("LIST").close()
        good = MailboxServer(MAIL)
        taken: list[bytes] = []

        async def take_in(content: bytes) -> None:
            taken.append(content)

        server = ScriptedServer(broken, clock=good.clock)
        endpoints = iter([server.endpoint, good.endpoint])

        class Endpoint:
            def connect(self, factory: Any) -> Any:
                return next(endpoints).connect(factory)

        with capturedLogs() as logs:
            service = self.start(server, take_in, Endpoint())
        errors = [one["error"] for one in logs if "error" in one]
        self.assertIsInstance(errors[0], ConnectionLostError)
        good.advance(300)
        self.assertEqual(taken, MAIL)
        self.stop(good, service)

    def test_stopping_while_taking_in_leaves_mail_on_server(self) -> None:
        stuck: list[Deferred[None]] = []

        async def take_in(content: bytes) -> None:
            stuck.append(Deferred())
            await stuck[-1]

        server = MailboxServer(MAIL)
        service = self.start(server, take_in)
        self.assertEqual(len(stuck), 1)
        self.stop(server, service)
        self.assertEqual(server.messages, MAIL)


class CollectorTestCase(ExampleTestCase):
    """
    The configuration of the documentation, as it is printed, and what it names.
    """

    def setUp(self) -> None:
        super().setUp()
        if not EXAMPLES.exists():
            raise SkipTest("these are tests of an installed package")
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        for name in ("collect.toml", "collect_notice.py", "to_desk.sh"):
            shutil.copy(EXAMPLES / name, self.folder)
        password = self.folder / "support.password"
        password.write_text("babbage")
        password.chmod(0o600)
        self.file = self.folder / "collect.toml"
        self.support = MailboxServer(
            MAIL,
            username="support@example.com",
            password="babbage",
            certificate=self.certificate,
            tls_at_once=True,
        )

    def change(self, old: str, new: str) -> None:
        text = self.file.read_text()
        self.assertEqual(text.count(old), 1, old)
        self.file.write_text(text.replace(old, new))

    async def collect(self, *options: str) -> str:
        """
        Run the collector in the folder of its file, and return its log.
        """
        program = Program()
        twistd = "from twisted.scripts.twistd import run; run()"
        command = ("-c", twistd, "-n", "--pidfile=", "pop3connect", "collect")
        reactor.spawnProcess(
            program,
            sys.executable,
            [sys.executable, *command, "--config", "collect.toml", *options],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(ROOT), str(self.folder)]),
                "ADA_PASSWORD": PASSWORD,
            },
            path=str(self.folder),
        )
        self.addCleanup(program.kill)
        self.assertEqual(await program.ended, 0, program.output + program.errors)
        output: str = program.output
        return output


class CollectorTests(CollectorTestCase):
    """
    With servers of the test kit.
    """

    async def test_configuration_is_good_as_it_is_printed(self) -> None:
        self.assertEqual(
            await self.collect("--check"), "collect.toml: 2 account(s), all good\n"
        )

    async def test_configuration_delivers_and_tells_of_new_mail(self) -> None:
        # Only the servers are others.
        self.change('user = "ada"', f'user = "ada"\nserver = "{self.server}"')
        self.serve(self.support)
        self.change('"pop.example.com"', f'"{self.server}"')
        log = await self.collect("--once")
        new = self.folder / "mail" / "support" / "new"
        wanted = sorted(mail.replace(b"\r\n", b"\n") for mail in MAIL)
        self.assertEqual(sorted(path.read_bytes() for path in new.iterdir()), wanted)
        desk = self.folder / "desk" / "support"
        self.assertEqual(
            sorted(path.read_bytes() for path in desk.iterdir()), sorted(MAIL)
        )
        # What is there at the first look is seen, and 14 days have not passed.
        self.assertNotIn("wrote:", log)
        self.assertEqual(self.mailbox.messages, MAIL)
        self.assertEqual(self.support.messages, MAIL)
        self.mailbox.deliver(b"From: zoe@example.com\r\nSubject: new\r\n\r\nHi\r\n")
        log = await self.collect("--once")
        self.assertIn("ada: zoe@example.com wrote: new\n", log)
        self.assertNotIn("one\n", log)
        self.assertEqual(len(self.mailbox.messages), 3)
        self.assertFalse((self.folder / "mail" / "ada").exists())
        self.assertEqual(len(list(new.iterdir())), 2)

    async def test_program_with_a_destination_of_its_own_takes_mail(self) -> None:
        module = load("collect_service")
        self.mailbox.deliver(
            b"Content-Type: multipart/report; boundary=b\r\n\r\n--b--\r\n"
        )
        account = AccountSettings(
            name="support",
            server=self.server,
            user=USER,
            password=PASSWORD,
            after="delete",
        )
        service = module.collector(self.folder / "state", account)
        with capturedLogs() as logs:
            outcomes = await service.run_once()
        self.assertIsNone(outcomes["support"].error)
        subjects = [each["m"].subject for each in logs if "m" in each]
        self.assertEqual(sorted(subjects), ["one", "zwölf"])
        self.assertEqual(len(self.mailbox.messages), 1)
        self.assertEqual(len(list((self.folder / "state" / "aside").iterdir())), 1)


@skipIf(klein is None, "klein is not there")
class WebHookTests(ExampleTestCase):
    """
    The web hook, by HTTP.
    """

    async def post(self, **options: Any) -> tuple[int, Any]:
        module = load("klein_hook")
        account = {"server": self.server, "username": USER, "secure": 1}
        hook = module.Hook(
            {"password": PASSWORD, **account, **options}, self.taken.append
        )
        site = Site(hook.app.resource())
        listening = reactor.listenTCP(0, site, interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        url = f"http://127.0.0.1:{listening.getHost().port}/fetch"
        response = await Agent(reactor).request(
            b"POST", url.encode(), Headers({"Connection": ["close"]})
        )
        return response.code, json.loads(await readBody(response))

    def setUp(self) -> None:
        super().setUp()
        self.taken: list[bytes] = []

    async def test_post_takes_in_and_deletes_all_mail(self) -> None:
        self.assertEqual(await self.post(), (200, {"taken": 2, "left": {}}))
        self.assertEqual(self.taken, MAIL)
        self.assertEqual(self.mailbox.messages, [])

    async def test_failed_login_gives_500_and_failed_connection_502(self) -> None:
        code, answer = await self.post(password="babbage")
        self.assertEqual((code, list(answer)), (500, ["error"]))
        code, answer = await self.post(server="127.0.0.1:1")
        self.assertEqual((code, list(answer)), (502, ["error"]))


class PortingTests(ExampleTestCase):
    """
    Both programs return the same subjects, and empty the mailbox.
    """

    SUBJECTS = ("one", "=?utf-8?q?zw=C3=B6lf?=")

    def check(self, subjects: list[str]) -> None:
        self.assertEqual(tuple(map(str, subjects)), self.SUBJECTS)
        self.assertEqual(self.mailbox.messages, [])

    async def test_from_poplib_fetches_same_mail_before_and_after(self) -> None:
        module = load("from_poplib")
        context = ssl.create_default_context(cadata=self.authority.decode())
        account = "127.0.0.1", self.port, USER, PASSWORD
        self.check(await deferToThread(module.before, *account, context))
        self.mailbox.deliver(*MAIL)
        self.check(await module.after(*account))

    async def test_from_pop3client_fetches_same_mail_before_and_after(self) -> None:
        module = load("from_pop3client")
        trusted = trustRootFromCertificates([Certificate.loadPEM(self.authority)])
        account = reactor, "127.0.0.1", self.port, USER, PASSWORD
        self.check(await module.before(*account, trusted))
        self.mailbox.deliver(*MAIL)
        self.check(await module.after(*account))


class AsyncioTests(ExampleTestCase):
    """
    Examples with another reactor, or with none, run in a separate process.
    """

    async def printed(self, name: str, *arguments: str) -> str:
        script = EXAMPLES / f"{name}.py"
        if not script.exists():
            raise SkipTest("these are tests of an installed package")
        program = Program()
        reactor.spawnProcess(
            program,
            sys.executable,
            [sys.executable, str(script), *arguments],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self.addCleanup(program.kill)
        self.assertEqual(await program.ended, 0, program.errors)
        output: str = program.output
        return output

    async def test_with_asyncio_fetches_mail_while_other_task_runs(self) -> None:
        octets = sum(map(len, MAIL))
        self.assertEqual(
            await self.printed("with_asyncio", self.server, USER),
            f"meanwhile\n{octets} octets\n",
        )

    async def test_deferred_awaited_by_asyncio_raises_the_quoted_error(self) -> None:
        program = Program()
        source = (
            "import asyncio\n"
            "from pop3connect.testing import MailboxServer\n"
            "async def work():\n"
            "    await MailboxServer().connect()\n"
            "try:\n"
            "    asyncio.run(work())\n"
            "except RuntimeError as error:\n"
            "    print(error)\n"
        )
        reactor.spawnProcess(
            program,
            sys.executable,
            [sys.executable, "-c", source],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self.addCleanup(program.kill)
        self.assertEqual(await program.ended, 0, program.errors)
        quoted = "Task got bad yield: <Deferred at"
        self.assertIn(quoted, program.output)
        for page in ("howto/asyncio.rst", "howto/troubleshooting.rst"):
            self.assertIn(quoted, (DOCS / page).read_text("utf-8"), page)
        self.assertIn("Task got bad yield", connect.__doc__ or "")

    async def test_asyncio_thread_prints_number_of_messages(self) -> None:
        self.assertEqual(
            await self.printed("asyncio_thread", self.server, USER), "2 messages\n"
        )


class EachTests(TestCase):
    """
    Each example has a test and a page.
    """

    def test_every_example_has_a_documentation_page_and_a_test(self) -> None:
        if not EXAMPLES.exists():
            raise SkipTest("these are tests of an installed package")
        pages = "".join(page.read_text("utf-8") for page in DOCS.rglob("*.rst"))
        tests = "".join(
            test.read_text("utf-8") for test in (ROOT / "tests").rglob("test_*.py")
        )
        for path in sorted(EXAMPLES.iterdir()):
            if path.suffix in (".py", ".sh", ".toml"):
                self.assertTrue(f"examples/{path.name}" in pages, path.name)
                self.assertTrue(path.stem in tests, path.name)
