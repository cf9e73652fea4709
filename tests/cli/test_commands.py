"""
The commands that look and single out: each against a demo server on loopback.
"""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
)
from OpenSSL import crypto
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred

from pop3connect.cli.access import KEY_PASSWORD_VARIABLE
from pop3connect.cli.certificates import facts_of
from pop3connect.cli.exits import Exit
from pop3connect.cli.listing import _show_headers
from pop3connect.client.prefetch import UNSEEN
from pop3connect.testing import MailboxServer, Script
from pop3connect.tls.pins import pin_of

from ..support.certificates import (
    ServerTLS,
    Shown,
    authority,
    certificate_of,
    client_identity,
    intermediate,
    key,
    leaf,
    odd_certificates,
    unknown_ca,
)
from ..support.command import USER, CommandTestCase, told
from ..support.dns import Answers, serve, srv
from ..support.loopback import MESSAGES, PASSWORD
from ..support.memory import SessionTestCase
from ..support.proxies import HTTPProxy, SocksProxy
from ..support.shows import shows
from ..tls.test_options import revocation_list

reactor: Any = global_reactor

NAME = "pop.only-the-proxy.invalid"

TLS = "_pop3s._tcp.example.com"
STLS = "_pop3._tcp.example.com"

LETTER = (
    b"From: =?utf-8?q?Zo=C3=AB?= <zoe@example.org>\r\n"
    b"Subject: =?iso-8859-1?q?Gr=FC=DFe?= \x1b[31m\r\n"
    b"Date: Thu, 07 Mar 2024 09:04:00 +0000\r\n\r\nHello\r\n"
)


class ScriptedTestCase(CommandTestCase):
    """With scripts that begin in the same way."""

    def logged_in(self, capabilities: tuple[str, ...] = ("TOP", "UIDL")) -> Script:
        return Script().greet().log_in(USER, PASSWORD, capabilities)


class StatTests(ScriptedTestCase):
    async def test_stat_prints_count_and_size(self) -> None:
        result = await self.run_command("stat")
        size = sum(map(len, MESSAGES))
        self.assertEqual(result.output, f"3 messages, {size} octets\n")
        self.assertEqual(result.exit_code, 0)

    async def test_one_message_is_singular(self) -> None:
        script = self.logged_in().expect("STAT").reply("+OK 1 1").quit()
        result = await self.run_command("stat", server=self.scripted(script))
        self.assertEqual(result.stdout, "1 message, 1 octet\n")

    async def test_json_prints_count_and_size_as_an_object(self) -> None:
        result = await self.run_command("stat", "--json")
        self.assertEqual(
            json.loads(result.output), {"count": 3, "size": sum(map(len, MESSAGES))}
        )


class ListTests(ScriptedTestCase):
    messages = (LETTER, *MESSAGES)

    async def test_headers_are_decoded_and_printable(self) -> None:
        result = await self.run_command("list", "1")
        self.assertEqual(
            " ".join(result.output.split()),
            f"1 {len(LETTER)} 2024-03-07 09:04 Zoë <zoe@example.org> Grüße \\x1b[31m",
        )

    async def test_json_prints_one_line_per_message(self) -> None:
        result = await self.run_command("list", "--json", "1", "3-")
        rows = [json.loads(line) for line in result.output.splitlines()]
        self.assertEqual([row["number"] for row in rows], [1, 3, 4])
        self.assertEqual(
            rows[0],
            {
                "number": 1,
                "size": len(LETTER),
                "subject": "Grüße \\x1b[31m",
                "sender": "Zoë <zoe@example.org>",
                "date": "2024-03-07T09:04:00+00:00",
            },
        )

    async def test_headers_are_requested_at_once_with_pipelining(self) -> None:
        script = self.logged_in(("TOP", "PIPELINING")).expect("LIST")
        script.reply("+OK", lines=["1 10", "2 20"]).expect("TOP 1 0").expect("TOP 2 0")
        script.message(b"Subject: a\r\n\r\n").message(b"Subject: b\r\n\r\n").quit()
        result = await self.run_command("list", server=self.scripted(script))
        self.assertEqual(result.output.split(), ["1", "10", "a", "2", "20", "b"])

    async def test_server_without_top_lists_sizes_only(self) -> None:
        script = self.logged_in(("UIDL",)).expect("LIST")
        script.reply("+OK", lines=["1 10", "2 20"]).quit()
        result = await self.run_command("list", server=self.scripted(script))
        self.assertEqual(result.stdout.split(), ["1", "10", "2", "20"])
        self.assertIn("does not have TOP", result.stderr)
        self.assertEqual(result.exit_code, 0)

    async def test_no_capa_tries_top_and_lists_sizes_if_it_is_refused(self) -> None:
        for answer, shown in (
            (b"+OK\r\nSubject: a\r\n\r\n.\r\n", ["1", "10", "a"]),
            (b"-ERR what\r\n", ["1", "10"]),
        ):
            script = Script().greet().expect(f"USER {USER}").reply()
            script.expect(f"PASS {PASSWORD}").reply().expect("LIST")
            script.reply("+OK", lines=["1 10"]).expect("TOP 1 0").say(answer)
            if answer.startswith(b"+"):
                script.expect("TOP 1 0").say(answer)
            result = await self.run_command(
                "list", "--no-capa", server=self.scripted(script.quit())
            )
            self.assertEqual(result.stdout.split(), shown)
            self.assertEqual(result.exit_code, 0)

    async def test_refused_top_is_reported_and_other_headers_are_listed(self) -> None:
        script = self.logged_in().expect("LIST").reply("+OK", lines=["1 10", "2 20"])
        script.expect("TOP 1 0").reply("-ERR broken").expect("TOP 2 0")
        script.message(b"Subject: b\r\n\r\n").quit()
        result = await self.run_command("list", server=self.scripted(script))
        self.assertEqual(result.stdout.split(), ["1", "10", "2", "20", "b"])
        self.assertEqual(told(result), "TOP 1: the server refused: broken")
        self.assertEqual(result.exit_code, Exit.REFUSED)

    async def test_missing_message_exits_refused_whatever_the_command(self) -> None:
        for command in (("list",), ("get",), ("top",), ("delete", "--yes")):
            result = await self.run_command(*command, "9")
            self.assertEqual(
                (result.exit_code, result.stdout), (Exit.REFUSED, ""), command
            )
        self.assertIn(
            "message 9 does not exist; the mailbox has 4 messages", result.stderr
        )

    async def test_refused_list_in_an_empty_mailbox_lists_nothing(self) -> None:
        script = self.logged_in(("UIDL",)).expect("LIST").reply("-ERR no messages")
        script.expect("STAT").reply("+OK 0 0").quit()
        result = await self.run_command("list", server=self.scripted(script))
        self.assertEqual((result.exit_code, result.stdout), (0, ""))
        self.assertNotIn("TOP", result.stderr)

    async def test_refused_list_of_a_mailbox_with_mail_exits_refused(self) -> None:
        for stat in ("+OK 1 10", "-ERR not now"):
            script = self.logged_in().expect("LIST").reply("-ERR not today")
            script.expect("STAT").reply(stat).expect_close()
            result = await self.run_command("list", server=self.scripted(script))
            self.assertEqual((result.exit_code, result.stdout), (Exit.REFUSED, ""))
            self.assertIn("not today", result.stderr)

    async def test_json_is_ascii(self) -> None:
        result = await self.run_command("list", "--json", "1")
        self.assertIn(r'"Gr\u00fc\u00dfe ', result.stdout)
        self.assertTrue(result.stdout.isascii())

    async def test_odd_headers_keep_each_message_on_its_line(self) -> None:
        script = self.logged_in().expect("LIST").reply("+OK", lines=["1 1", "2 2"])
        script.expect("TOP 1 0").message(
            "From: \u202e\u200bevil\x1b[2K\r\n"
            "Subject: a\x0bb\x85c\u2028d\r\n\r\n".encode()
        )
        script.expect("TOP 2 0").message(b"From: " + b'"' * 4000 + b"\r\n\r\n").quit()
        result = await self.run_command("list", server=self.scripted(script))
        first, second = result.stdout.splitlines()
        self.assertIn(r"\u202e\u200bevil\x1b[2K", first)
        self.assertIn(r"a\x0bb\x85c\u2028d", first)
        self.assertTrue(second.split()[-1].startswith('"'))


class ListedAheadTests(SessionTestCase):
    """How many headers ``list`` requests before they are shown."""

    def test_few_headers_are_requested_while_their_size_is_unknown(self) -> None:
        handle = self.log_in("TOP", "PIPELINING")
        sizes = dict.fromkeys(range(1, 100), 9)
        shown: list[Any] = []
        listing = Deferred.fromCoroutine(
            _show_headers(handle, list(sizes), sizes, lambda row, _: shown.append(row))
        )
        self.assertEqual(self.server.heard().count(b"TOP"), UNSEEN)
        self.server.say(b"+OK\r\nSubject: x\r\n\r\n.\r\n" * UNSEEN)
        self.assertEqual(shown, [(number, 9) for number in range(1, UNSEEN + 1)])
        listing.addErrback(lambda _: None)


class GetTests(CommandTestCase):
    async def test_get_writes_the_exact_bytes(self) -> None:
        for number, message in enumerate(MESSAGES, 1):
            result = await self.run_command("get", str(number))
            self.assertEqual(result.stdout_bytes, message)
            self.assertEqual(result.exit_code, 0)

    async def test_top_writes_the_header_and_the_requested_lines(self) -> None:
        result = await self.run_command("top", "1", "0")
        self.assertEqual(result.stdout_bytes, b"Subject: one\r\n\r\n")
        result = await self.run_command("top", "1")
        self.assertEqual(result.stdout_bytes, MESSAGES[0])

    async def test_get_of_missing_message_is_refused(self) -> None:
        result = await self.run_command("get", "9")
        self.assertEqual((result.exit_code, result.stdout), (Exit.REFUSED, ""))
        self.assertIn("no such message", result.stderr)


class DeleteTests(ScriptedTestCase):
    async def test_delete_removes_the_named_messages(self) -> None:
        result = await self.run_command("delete", "--yes", "1", "3")
        self.assertEqual((result.exit_code, result.output), (0, "deleted: 2\n"))
        self.assertEqual([text for _, text in self.drop.messages], [MESSAGES[1]])

    async def test_nothing_is_deleted_if_one_deletion_is_refused(self) -> None:
        script = self.logged_in(("PIPELINING",)).expect("LIST")
        script.reply("+OK", lines=["1 10", "2 20"]).expect("DELE 1").expect("DELE 2")
        script.reply("-ERR no").reply("+OK").expect_close()
        result = await self.run_command(
            "delete", "--yes", "1-", server=self.scripted(script)
        )
        self.assertEqual((result.exit_code, result.stdout), (Exit.REFUSED, ""))
        self.assertEqual(
            told(result), "DELE 1: the server refused: no; nothing was deleted"
        )

    async def test_unconfirmed_quit_fails_the_deletion(self) -> None:
        for answer, status in (("-ERR busy", Exit.REFUSED), (None, Exit.LOST)):
            script = self.logged_in().expect("LIST").reply("+OK", lines=["1 10"])
            script.expect("DELE 1").reply().expect("QUIT")
            if answer:
                script.reply(answer)
            script.close()
            result = await self.run_command(
                "delete", "--yes", "1", server=self.scripted(script)
            )
            self.assertEqual((result.exit_code, result.stdout), (status, ""))


class AccessTests(ScriptedTestCase):
    """How a session is opened, and what is said if it is not."""

    async def test_wrong_password_exits_login_refused_and_stays_secret(self) -> None:
        wrong = {"POP3CONNECT_PASSWORD": "wrong-as-can-be"}
        result = await self.run_command("stat", "--trace", environment=wrong)
        self.assertEqual((result.exit_code, result.stdout), (Exit.LOGIN_REFUSED, ""))
        self.assertIn("[AUTH]", result.stderr)
        self.assertIn("C: APOP ann ********", result.stderr)
        self.assertNotIn("wrong-as-can-be", result.output)

    async def test_in_use_reply_to_login_exits_try_later(self) -> None:
        script = Script().greet().expect("CAPA").reply("-ERR").expect(f"USER {USER}")
        script.reply().expect(f"PASS {PASSWORD}").reply("-ERR [IN-USE] wait").quit()
        result = await self.run_command("stat", server=self.scripted(script))
        self.assertEqual(result.exit_code, Exit.TRY_LATER)

    async def test_closed_port_exits_no_connection(self) -> None:
        result = await self.run_command("stat", server="127.0.0.1:1")
        self.assertEqual(result.exit_code, Exit.NO_CONNECTION)

    async def test_server_that_is_not_pop3_exits_nonsense(self) -> None:
        script = Script().greet("220 smtp").expect_close()
        result = await self.run_command("stat", server=self.scripted(script))
        self.assertEqual(result.exit_code, Exit.NONSENSE)

    async def test_stls_not_offered_exits_no_tls_and_suggests_tls(self) -> None:
        result = await self.run_click(
            "stat", self.server, "--secure", "stls", "--user", USER
        )
        self.assertEqual(result.exit_code, Exit.NO_TLS)
        self.assertIn("use --secure tls", result.stderr)
        self.assertNotIn("secure=1", result.stderr)

    async def test_default_tls_with_a_cleartext_server_exits_no_tls(self) -> None:
        result = await self.run_click("stat", self.server, "--user", USER)
        self.assertEqual(result.exit_code, Exit.NO_TLS)

    async def test_invalid_port_is_a_usage_error(self) -> None:
        result = await self.run_click("info", "host:0")
        self.assertEqual(result.exit_code, Exit.USAGE)
        self.assertIn("is not a port", result.stderr)

    async def test_missing_user_is_a_usage_error(self) -> None:
        result = await self.run_click("stat", self.server)
        self.assertEqual(result.exit_code, Exit.USAGE)
        self.assertIn("--user", result.stderr)

    async def test_no_capa_logs_in_without_sending_capa(self) -> None:
        script = Script().greet().expect(f"USER {USER}").reply()
        script.expect(f"PASS {PASSWORD}").reply().expect("STAT").reply("+OK 1 2").quit()
        result = await self.run_command(
            "stat", "--no-capa", server=self.scripted(script)
        )
        self.assertEqual(result.stdout, "1 message, 2 octets\n")


class InfoTests(ScriptedTestCase):
    """What is told of a server, trusted or not."""

    def setUp(self) -> None:
        super().setUp()
        (Path(self.folder) / "ca.pem").write_bytes(authority().cert_pem.bytes())
        self.shown = leaf("localhost", "127.0.0.1")

    def under_tls(self, shown: Shown, **options: Any) -> str:
        """Return where there is a mailbox under TLS."""
        mailbox = MailboxServer(
            [LETTER],
            username=USER,
            password=PASSWORD,
            certificate=ServerTLS(shown),
            **options,
        )
        port = mailbox.listen(reactor)
        self.addCleanup(port.stopListening)
        return f"localhost:{port.getHost().port}"

    async def test_trusted_server_is_described_in_json_after_login(self) -> None:
        server = self.under_tls(self.shown, tls_at_once=True)
        result = await self.run_click(
            "info", server, "--cacerts", self.folder, "--user", USER, "--json"
        )
        told = json.loads(result.stdout)
        self.assertEqual(result.exit_code, 0)
        self.assertIs(told["trusted"], True)
        self.assertIsNone(told["reason"])
        self.assertEqual(told["tls"]["version"], "TLSv1.3")
        self.assertEqual(told["login"], {"mechanism": "PLAIN", "cleartext": False})
        own = told["certificates"][0]
        self.assertEqual(own["names"], ["localhost", "127.0.0.1"])
        self.assertIn("Our CA", own["issuer"])
        self.assertEqual(own["not_after"][:10], "2999-01-01")
        self.assertIsNone(own["problem"])
        self.assertEqual(own["sha256"], hashlib.sha256(self.shown.der).hexdigest())
        spki = self.shown.certificate.public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )
        self.assertEqual(
            base64.b64decode(told["spki_sha256"]), hashlib.sha256(spki).digest()
        )
        self.assertEqual(told["pin"], f"sha256//{told['spki_sha256']}")

    async def test_certificate_chain_with_intermediate_is_shown_whole(self) -> None:
        chain = (certificate_of(intermediate()),)
        shown = leaf("localhost", by=intermediate(), chain=chain)
        server = self.under_tls(shown)
        result = await self.run_click(
            "info", server, "--secure", "stls", "--cacerts", self.folder
        )
        self.assertEqual(result.exit_code, 0, result.output)
        self.assertEqual(result.stdout.count("certificate  "), 2)
        self.assertIn("trusted       yes", result.stdout)
        self.assertIn("in the clear", result.stdout)
        self.assertIn("under TLS", result.stdout)

    async def test_a_server_that_is_not_trusted_gets_no_credential(self) -> None:
        shown = leaf("localhost", by=authority("Somebody Else's CA"))
        certificate = ServerTLS(shown)
        seen = Script().start_tls(certificate).greet().expect("CAPA")
        seen = seen.reply("+OK", lines=["USER"]).quit()
        checked = Script().start_tls(certificate).greet()
        server = self.scripted(seen, checked).replace("127.0.0.1", "localhost")
        result = await self.run_click(
            "info", server, "--cacerts", self.folder, "--user", USER
        )
        self.assertEqual(result.exit_code, Exit.NOT_TRUSTED, result.output)
        self.assertIn("trusted       NO: the server's certificate", result.stdout)
        self.assertIn("Somebody Else's CA", result.stdout)
        self.assertNotIn(PASSWORD, result.output)

    async def test_stat_with_an_untrusted_server_exits_not_trusted(self) -> None:
        server = self.under_tls(unknown_ca(), tls_at_once=True)
        result = await self.run_click("stat", server, "--user", USER)
        self.assertEqual(result.exit_code, Exit.NOT_TRUSTED)
        self.assertIn("name the folder with --cacerts", result.stderr)

    async def test_without_verification_nothing_is_checked(self) -> None:
        server = self.under_tls(unknown_ca(), tls_at_once=True)
        result = await self.run_click("info", server, "--no-verify")
        self.assertIn("trusted       not checked", result.stdout)
        self.assertEqual(result.exit_code, 0)

    async def test_no_verify_with_a_user_is_a_usage_error(self) -> None:
        result = await self.run_click(
            "info", self.server, "--no-verify", "--user", USER
        )
        self.assertEqual(result.exit_code, Exit.USAGE)

    async def test_pin_that_info_shows_verifies_the_server_without_its_chain(
        self,
    ) -> None:
        server = self.under_tls(leaf("other.example.com"), tls_at_once=True)
        result = await self.run_click("info", server, "--no-verify", "--json")
        told = json.loads(result.stdout)
        self.assertIsNone(told["trusted"])
        for command in ("info", "stat"):
            result = await self.run_click(
                command, server, "--no-verify", "--pin", told["pin"], "--user", USER
            )
            self.assertEqual(result.exit_code, 0, result.output)
        self.assertIn("trusted       yes", (await self.pinned(server, told["pin"])))

    async def pinned(self, server: str, pin: str) -> str:
        result = await self.run_click("info", server, "--no-verify", "--pin", pin)
        return result.stdout

    async def test_other_pin_exits_not_trusted_with_the_pin_seen(self) -> None:
        server = self.under_tls(self.shown, tls_at_once=True)
        own = pin_of(crypto.X509.from_cryptography(self.shown.certificate))
        other = f"sha256//{'A' * 43}="
        for command in ("info", "stat"):
            result = await self.run_click(
                *(command, server, "--cacerts", self.folder),
                *("--pin", other, "--user", USER),
            )
            self.assertEqual(result.exit_code, Exit.NOT_TRUSTED, result.output)
            self.assertIn(f"has the pin {own}", result.output)
        self.assertIn("add its pin to --pin", result.stderr)
        self.assertIn("trusted       NO: ", await self.pinned(server, other))

    async def test_file_of_certificates_is_trusted_and_revoked_one_refused(
        self,
    ) -> None:
        server = self.under_tls(self.shown, tls_at_once=True)
        file = str(Path(self.folder) / "ca.pem")
        result = await self.run_click("stat", server, "--cacerts", file, "--user", USER)
        self.assertEqual(result.exit_code, 0, result.output)
        crl = Path(self.folder) / "crl.pem"
        for revoked, status in (((), 0), ((self.shown,), Exit.NOT_TRUSTED)):
            crl.write_bytes(revocation_list(*revoked))
            result = await self.run_click(
                *("stat", server, "--cacerts", file, "--user", USER),
                *("--crl", str(crl)),
            )
            self.assertEqual(result.exit_code, status, result.output)

    async def test_encrypted_client_key_needs_its_variable(self) -> None:
        ours = client_identity(USER)
        encrypted = key().private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"horse")
        )
        file = Path(self.mktemp())
        file.write_bytes(ours.pem + encrypted)
        server = self.under_tls(self.shown, tls_at_once=True)
        arguments = ("stat", server, "--cacerts", self.folder, "--user", USER)
        for password, words in (
            ("", f"{KEY_PASSWORD_VARIABLE} is missing"),
            ("cow", f"{KEY_PASSWORD_VARIABLE} does not decrypt"),
            ("horse", ""),
        ):
            result = await self.run_click(
                *arguments,
                *("--client-certificate", str(file)),
                environment={KEY_PASSWORD_VARIABLE: password},
            )
            self.assertEqual(result.exit_code, Exit.USAGE if words else 0)
            self.assertIn(words, result.stderr)
            self.assertNotIn("cow", result.output)
        # It may be there for other commands.
        result = await self.run_click(
            *arguments, environment={KEY_PASSWORD_VARIABLE: "horse"}
        )
        self.assertEqual(result.exit_code, 0, result.output)

    async def test_authorize_as_reaches_the_server(self) -> None:
        """This server lets nobody act for somebody else."""
        server = self.under_tls(self.shown, tls_at_once=True)
        arguments = ("stat", server, "--cacerts", self.folder, "--user", USER)
        result = await self.run_click(*arguments, "--authorize-as", "bob")
        self.assertEqual(result.exit_code, Exit.LOGIN_REFUSED)
        self.assertIn("nobody may act for somebody else", result.stderr)
        result = await self.run_click(
            *arguments, "--authorize-as", "bob", "--auth", "LOGIN"
        )
        self.assertEqual(result.exit_code, Exit.USAGE)
        self.assertIn("--authorize-as cannot be used with LOGIN", result.stderr)

    async def test_certificate_that_cannot_be_parsed_is_shown_as_such(self) -> None:
        for what, der in odd_certificates(self.shown).items():
            certificate = ServerTLS(self.shown, der=der)
            look = Script().start_tls(certificate).greet().expect("CAPA")
            look = look.reply("+OK", lines=["USER"]).quit()
            check = Script().start_tls(certificate).greet()
            server = self.scripted(look, check).replace("127.0.0.1", "localhost")
            result = await self.run_click("info", server, "--cacerts", self.folder)
            self.assertEqual(result.exit_code, Exit.NOT_TRUSTED, (what, result.output))
            self.assertRegex(
                result.stdout, r"certificate   O ?= ?Tests, OU ?= ?A server"
            )
            self.assertIn("CANNOT BE PARSED", result.stdout)
            self.assertRegex(result.stdout, "issued by .*Our CA")
            self.assertIn("to 2999-01-01", result.stdout)
            self.assertIn(f"SHA-256 {hashlib.sha256(der).hexdigest()}", result.stdout)
            self.assertIn("pin           sha256//", result.stdout)
            self.assertIn("trusted       NO: ", result.stdout)

    async def test_certificate_that_cannot_be_parsed_has_a_problem_in_json(
        self,
    ) -> None:
        der = odd_certificates(self.shown)["time"]
        certificate = ServerTLS(self.shown, der=der)
        look = Script().start_tls(certificate).greet().expect("CAPA")
        look = look.reply("+OK", lines=["USER"]).quit()
        server = self.scripted(look).replace("127.0.0.1", "localhost")
        result = await self.run_click("info", server, "--no-verify", "--json")
        [told] = json.loads(result.stdout)["certificates"]
        self.assertEqual((told["not_before"], told["names"]), ("", []))
        self.assertEqual(told["not_after"], "2999-01-01T00:00:00+00:00")
        self.assertIn("ValueError: ", told["problem"])

    def test_key_on_an_unknown_curve_has_no_pin(self) -> None:
        curve = bytes.fromhex("2a8648ce3d030107")
        self.assertIn(curve, self.shown.der)
        der = self.shown.der.replace(curve, curve[:-1] + b"\x77")
        odd = crypto.load_certificate(crypto.FILETYPE_ASN1, der)
        self.assertIsNone(pin_of(odd))
        self.assertIn("localhost", facts_of(odd).names)

    async def test_client_certificate_logs_in_with_external(self) -> None:
        ours = client_identity(USER)
        file = Path(self.folder) / "ours"
        file.write_bytes(ours.pem + ours.key_pem)
        asking = ServerTLS(self.shown, client_ca=authority())
        offer = ["SASL EXTERNAL"]
        look = Script().start_tls(asking).greet().expect("CAPA")
        look = look.reply("+OK", lines=offer).quit()
        check = Script().start_tls(asking).greet().quit()
        login = Script().start_tls(asking).greet().expect("CAPA")
        login = login.reply("+OK", lines=offer)
        login = login.expect(
            f"AUTH EXTERNAL {base64.b64encode(USER.encode()).decode()}"
        )
        login = login.reply().expect("CAPA").reply("+OK", lines=offer).quit()
        server = self.scripted(look, check, login).replace("127.0.0.1", "localhost")
        result = await self.run_click(
            "info",
            server,
            *("--cacerts", self.folder, "--user", USER, "--auth", "external"),
            *("--client-certificate", str(file)),
            environment={"POP3CONNECT_PASSWORD": ""},
        )
        self.assertEqual(result.exit_code, 0, result.output)
        self.assertIn("login         EXTERNAL", result.stdout)
        self.assertEqual(asking.client_chain[0], ours.certificate)

    async def test_invalid_client_certificate_file_is_a_usage_error(self) -> None:
        file = Path(self.folder) / "ours"
        file.write_bytes(b"nothing")
        result = await self.run_click(
            "info", self.server, "--client-certificate", str(file)
        )
        self.assertEqual(result.exit_code, Exit.USAGE)
        self.assertIn(f"--client-certificate: '{file}' cannot be used", result.stderr)

    async def test_info_without_tls_or_user_shows_no_login(self) -> None:
        result = await self.run_click("info", self.server, "--secure", "none")
        self.assertIn("pop3connect.demo>", result.stdout)
        self.assertIn("in the clear  TOP", result.stdout)
        self.assertNotIn("login", result.stdout)
        self.assertEqual(result.exit_code, 0)

    async def test_info_after_login_without_tls_shows_mechanism_in_json(self) -> None:
        result = await self.run_command("info", "--json")
        told = json.loads(result.stdout)
        self.assertEqual(told["login"], {"mechanism": "APOP", "cleartext": False})
        self.assertIn("UIDL", told["capabilities"]["after_login"])
        self.assertIsNone(told["tls"])

    async def test_stls_not_offered_exits_no_tls(self) -> None:
        result = await self.run_click("info", self.server, "--secure", "stls")
        self.assertIn("the server does not offer STLS", result.stdout)
        self.assertEqual(result.exit_code, Exit.NO_TLS)

    async def test_capabilities_before_login_are_shown_if_login_fails(self) -> None:
        wrong = {"POP3CONNECT_PASSWORD": "wrong-as-can-be"}
        result = await self.run_command("info", environment=wrong)
        self.assertEqual(result.exit_code, Exit.LOGIN_REFUSED)
        self.assertIn("in the clear  TOP", result.stdout)
        self.assertNotIn("after login", result.stdout)
        self.assertNotIn("wrong-as-can-be", result.output)

    async def test_capabilities_after_login_are_shown(self) -> None:
        result = await self.run_command("info")
        self.assertIn("login         APOP\nafter login   TOP\n", result.stdout)

    async def test_server_that_is_not_pop3_exits_nonsense(self) -> None:
        script = Script().greet("220 smtp").expect_close()
        result = await self.run_click("info", self.scripted(script), "--secure", "none")
        self.assertEqual((result.exit_code, result.stdout), (Exit.NONSENSE, ""))

    async def test_refused_stls_without_capa_exits_no_tls(self) -> None:
        script = Script().greet().expect("CAPA").reply("-ERR what").expect("STLS")
        script.reply("-ERR not now").quit()
        result = await self.run_click("info", self.scripted(script), "--secure", "stls")
        self.assertIn("or refuses it", result.stdout)
        self.assertIn("the server does not know CAPA", result.stdout)
        self.assertEqual(result.exit_code, Exit.NO_TLS)


class ProxyTests(ScriptedTestCase):
    """
    Commands through a proxy, with a name that only the proxy can look up.
    """

    def through(self, credentials: Any = None, kind: Any = SocksProxy) -> str:
        port = int(self.server.rpartition(":")[2])
        self.proxy = kind(reactor, {NAME: port}, credentials)
        listening = reactor.listenTCP(0, self.proxy, interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        return f"127.0.0.1:{listening.getHost().port}"

    async def test_stat_and_info_reach_the_server_through_the_proxy(self) -> None:
        at = self.through((b"eve", b"hunter2"))
        environment = {"ALL_PROXY": f"socks5://eve:hunter2@{at}"}
        for command, shown in (("stat", "3 messages"), ("info", "greeting")):
            result = await self.run_command(
                command,
                *("--allow-cleartext", "--proxy", "env"),
                server=NAME,
                environment=environment,
            )
            self.assertEqual(result.exit_code, 0, result.stderr)
            self.assertIn(shown, result.stdout)
        # info looks first, and then logs in.
        self.assertEqual(self.proxy.asked, [(NAME, 110)] * 3)

    async def test_http_proxy_leads_to_the_server(self) -> None:
        at = self.through((b"eve", b"hunter2"), HTTPProxy)
        for login, status in (
            ("eve:hunter2", 0),
            ("eve:SECRET", Exit.NO_CONNECTION),
        ):
            result = await self.run_command(
                *("stat", "--allow-cleartext", "--proxy", f"http://{login}@{at}"),
                server=NAME,
            )
            self.assertEqual(result.exit_code, status, result.stderr)
        self.assertEqual(
            result.stderr,
            f"pop3connect: {NAME}:110: the proxy http://{at} refused the user name and "
            "password (HTTP status 407); check the user name and password in --proxy\n",
        )

    async def test_refusal_by_the_proxy_is_told_with_the_option(self) -> None:
        at = self.through((b"eve", b"hunter2"))
        for command in ("stat", "info"):
            result = await self.run_command(
                *(command, "--allow-cleartext", "--proxy", f"socks5://eve:SECRET@{at}"),
                server=NAME,
            )
            self.assertEqual(result.exit_code, Exit.NO_CONNECTION)
            self.assertEqual(
                result.stderr,
                f"pop3connect: {NAME}:110: the proxy socks5://{at} refused the user "
                "name and password; check the user name and password in --proxy\n",
            )

    async def test_address_with_a_zone_is_a_usage_error(self) -> None:
        for command in ("stat", "info"):
            result = await self.run_command(
                *(command, "--allow-cleartext", "--proxy", "socks5://127.0.0.1"),
                server="fe80::1%eth0",
            )
            self.assertEqual(result.exit_code, Exit.USAGE)
            self.assertIn("--proxy cannot lead to fe80::1%eth0", result.stderr)


class DiscoverTests(ScriptedTestCase):
    """
    ``discover``, and ``info`` with a mail address.
    """

    def dns(self, tls: Any = (), stls: Any = ()) -> tuple[str, str]:
        """Return the options that lead to a DNS server with these records."""
        port, listening = serve(reactor, Answers({TLS: tls, STLS: stls}))
        for each in listening:
            self.addCleanup(each.stopListening)
        return "--dns", f"127.0.0.1:{port}"

    def answering(self) -> str:
        """Return a server that says what it can do, without STLS."""
        script = Script().greet("+OK ready").expect("CAPA").reply("+OK", lines=["TOP"])
        return self.scripted(script.quit())

    async def test_servers_are_printed_with_their_options(self) -> None:
        result = await self.run_click(
            *("discover", "ada@example.com"),
            *self.dns(
                [srv(TLS, "pop.example.com")], [srv(STLS, "mail.example.com", 1100)]
            ),
        )
        self.assertEqual(
            result.stdout,
            "pop.example.com:995    --secure tls   --user ada@example.com\n"
            "mail.example.com:1100  --secure stls  --user ada@example.com\n",
        )
        self.assertEqual((result.stderr, result.exit_code), ("", 0))

    @shows("RFC 6186-03")
    async def test_server_of_another_domain_is_pointed_out(self) -> None:
        result = await self.run_click(
            *("discover", "ada@example.com"),
            *self.dns([srv(TLS, "pop.hoster.example")]),
        )
        self.assertIn(
            "not in the domain example.com: pop.hoster.example; ask", result.stderr
        )
        self.assertEqual(result.exit_code, 0)

    async def test_json_prints_one_line_per_server(self) -> None:
        result = await self.run_click(
            *("discover", "--json", "ada@example.com"),
            *self.dns([srv(TLS, "pop.hoster.example", 1995)]),
        )
        self.assertEqual(
            json.loads(result.stdout),
            {
                "host": "pop.hoster.example",
                "port": 1995,
                "secure": "tls",
                "domain": "example.com",
                "usernames": ["ada@example.com", "ada"],
                "in_domain": False,
                "source": "srv",
            },
        )

    async def test_domain_without_servers_ends_with_no_connection(self) -> None:
        for command in ("discover", "info"):
            result = await self.run_click(command, "ada@example.com", *self.dns())
            self.assertEqual(result.exit_code, Exit.NO_CONNECTION)
            self.assertEqual(
                result.stderr,
                "pop3connect: example.com: the DNS names no POP3 server for this "
                "domain; ask the provider of the mailbox for the name of its server\n",
            )

    @shows("RFC 6186-03")
    @shows("attack 6.5")
    async def test_bad_arguments_are_usage_errors(self) -> None:
        for arguments, problem in (
            (("discover", "ada"), "must be like 'ada@example.com'"),
            (("discover", "ada@example.com", "--dns", "dns.example.com"), "IP address"),
            (("discover", "ada@example.com", "--dns", "1.2.3.4:x"), "is not a port"),
            (("discover", "ada@example.com", "--timeout", "0"), "above 0"),
            (("info", "pop.example.com", "--dns", "127.0.0.1"), "--dns is for"),
            (("info", "ada@example.com", "--user", "ada"), "does not log in"),
            (("info", "ada@example.com", "--secure", "tls"), "the DNS says which"),
            (("info", "ada@e.com", "--proxy", "socks5://h"), "not through --proxy"),
            (("info", "ada@example.com", "--client-certificate", "x"), "not log in"),
            (("stat", "ada@example.com", "--user", "ada"), "a host or host:port"),
        ):
            result = await self.run_click(*arguments)
            self.assertEqual(result.exit_code, Exit.USAGE, arguments)
            self.assertIn(problem, " ".join(result.stderr.split()))

    async def test_info_shows_the_first_server(self) -> None:
        server = self.answering()
        port = int(server.rpartition(":")[2])
        dns = self.dns([], [srv(STLS, "localhost", port), srv(STLS, "b.example", 1, 9)])
        result = await self.run_click("info", "ada@example.com", *dns)
        self.assertEqual(result.exit_code, Exit.NO_TLS, result.stderr)
        self.assertEqual(
            result.stdout.splitlines()[:3],
            [
                f"server        localhost:{port}",
                " " * 14 + "proposed by the DNS for ada@example.com, the first of 2; "
                "it is NOT in the domain example.com",
                "greeting      ready",
            ],
        )
        server = self.answering()
        port = int(server.rpartition(":")[2])
        dns = self.dns([], [srv(STLS, "localhost", port)])
        result = await self.run_click("info", "ada@example.com", "--json", *dns)
        shown = json.loads(result.stdout)
        self.assertEqual(shown["server"], f"localhost:{port}")
        self.assertEqual([each["host"] for each in shown["candidates"]], ["localhost"])
