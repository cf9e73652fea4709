"""
What a provider says over HTTPS, and what hostile answers come to.
"""

from __future__ import annotations

import os
from functools import partial
from typing import Any
from unittest import mock

import trustme
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.names.error import DNSServerError
from twisted.trial.unittest import SynchronousTestCase

from pop3connect import Candidate, ConnectError, Secure, TLSError, UsageError, discover
from pop3connect.autoconfig import MAX_ANSWER, MAX_REDIRECTIONS, _Unusable, read
from pop3connect.candidates import MailAddress

from .support.autoconfig import CONFIG, ProviderTestCase, config, server
from .support.dns import Answers, srv
from .support.examples import COMMON, EXAMPLES
from .support.shows import shows

reactor: Any = global_reactor

MAILBOX = MailAddress.parse("ada@example.com")
SRV = "_pop3s._tcp.example.com"

FIRST = "autoconfig.example.com/mail/config-v1.1.xml"
ADDRESS = "?emailaddress=ada%40example.com"
SECOND = "example.com/.well-known/autoconfig/mail/config-v1.1.xml"


class ReadTests(SynchronousTestCase):
    """
    The file.
    """

    def read(
        self, *servers: str, mailbox: MailAddress = MAILBOX
    ) -> tuple[list[Candidate], list[str]]:
        return read(config(*servers), mailbox)

    def refusal(self, document: bytes) -> str:
        with self.assertRaises(_Unusable) as caught:
            read(document, MAILBOX)
        return str(caught.exception)

    def test_pop3_servers_are_read_in_their_order(self) -> None:
        found, problems = self.read(
            server("imap.example.com", "993", kind="imap"),
            server("pop.example.com", "995"),
            server("Mail.Example.com", " 110 ", "STARTTLS"),
            server("exchange.example.com", kind="exchange"),
        )
        self.assertEqual(
            [(each.server, each.secure) for each in found],
            [
                ("pop.example.com:995", Secure.TLS),
                ("mail.example.com:110", Secure.STLS),
            ],
        )
        self.assertEqual(problems, [])
        self.assertEqual(
            (found[0].domain, found[0].source, found[0].in_domain),
            ("example.com", "autoconfig", True),
        )

    def test_user_name_is_the_one_that_the_provider_gives(self) -> None:
        for more, names in (
            ("<username>%EMAILADDRESS%</username>", ("ada@example.com",)),
            ("<username>\n%EMAILLOCALPART%\n</username>", ("ada",)),
            ("<username>%EMAILLOCALPART%@%EMAILDOMAIN%</username>", None),
            ("<username>a</username><username>b</username>", ("a", "b")),
            ("", ("ada@example.com", "ada")),
            ("<username/>", ("ada@example.com", "ada")),
            ("<username>a\nb</username>", ("ada@example.com", "ada")),
            ("<username>\u202ea</username>", ("ada@example.com", "ada")),
            (f"<username>{'a' * 256}</username>", ("ada@example.com", "ada")),
        ):
            [candidate], _ = self.read(server(more=more))
            self.assertEqual(candidate.usernames, names or ("ada@example.com",))

    def test_host_may_have_the_domain_in_it(self) -> None:
        [candidate], _ = self.read(server("pop.%EMAILDOMAIN%"))
        self.assertEqual(candidate.host, "pop.example.com")
        mailbox = MailAddress.parse("ada@bücher.example")
        [candidate], _ = self.read(server("pop.%EMAILDOMAIN%"), mailbox=mailbox)
        self.assertEqual(candidate.host, "pop.xn--bcher-kva.example")

    @shows(
        "attack 6.8",
        "A provider's file of autoconfig with entities, another encoding, addresses, "
        "bad ports, or servers without TLS; an endless answer, or none",
        "Memory, time, a password without TLS, a forged line in a log.",
        "It is refused, or the server is left out; at most 64 KiB are read, and no "
        "entity is expanded.",
    )
    def test_server_that_cannot_be_used_is_left_out(self) -> None:
        for bad, problem in (
            (server(secure="plain"), "without TLS"),
            (server(secure=""), "without TLS"),
            (server(secure="ssl"), "without TLS"),
            (server("192.0.2.1"), "'192.0.2.1', which is not a host name"),
            (server("host:995"), "not a host name"),
            (server("ada:pw@host"), "not a host name"),
            (server(""), "not a host name"),
            (server("a&#x202e;b"), r"'a\u202eb', which is not a host name"),
            (server("x" * 1000), "not a host name"),
            (server(port="0"), "without a port"),
            (server(port="65536"), "without a port"),
            (server(port="-1"), "without a port"),
            (server(port="٩٩٥"), "without a port"),
            (server(port=""), "without a port"),
            ('<incomingServer type="pop3"/>', "without TLS"),
        ):
            found, [text] = self.read(bad, server("good.example.com"))
            self.assertEqual([each.host for each in found], ["good.example.com"])
            self.assertIn(problem, text)
            self.assertTrue(text.isprintable(), bad)
            self.assertLess(len(text), 200)

    def test_at_most_three_problems_are_told(self) -> None:
        bad = [server(f"192.0.2.{number}") for number in range(9)]
        self.assertEqual(len(self.read(*bad)[1]), 3)

    @shows("attack 6.8")
    def test_entities_and_other_encodings_are_refused(self) -> None:
        entity = (
            b'<!DOCTYPE c [<!ENTITY a "aaaa"><!ENTITY b SYSTEM "file:///etc/hosts">]>'
        )
        for document, problem in (
            (entity + CONFIG, "a DOCTYPE"),
            (CONFIG.replace(b"?>", b"?>" + entity, 1), "a DOCTYPE"),
            (CONFIG.decode().encode("utf-16"), "not in UTF-8"),
            (CONFIG.replace(b"pop.", b"b\xfccher."), "not in UTF-8"),
            (CONFIG.replace(b"pop.", b"&a;"), "not XML"),
            (b"", "not XML"),
            (b"<html>", "not XML"),
            (b"<a>" * 20_000, "not XML"),
            (b"<clientConfig>\0</clientConfig>", "not XML"),
            (b"<html><body/></html>", "not a file of autoconfig"),
            (b"<!DOCTYPE html><html></html>", "as web pages do"),
        ):
            self.assertIn(problem, self.refusal(document))
        # The declaration of another encoding does not count.
        other = CONFIG.replace(b"UTF-8", b"UTF-7")
        self.assertEqual(len(read(other, MAILBOX)[0]), 1)
        self.assertEqual(len(read(b"\xef\xbb\xbf" + CONFIG, MAILBOX)[0]), 1)

    def test_deep_file_is_read(self) -> None:
        deep = b"<a>" * 9000 + b"</a>" * 9000
        document = CONFIG.replace(b"<domain>", deep + b"<domain>")
        self.assertEqual(len(read(document, MAILBOX)[0]), 1)

    @settings(**COMMON, max_examples=EXAMPLES or 100)
    @given(
        st.lists(
            st.one_of(
                st.binary(max_size=20),
                st.sampled_from([CONFIG[:200], CONFIG[200:], b"<![CDATA[", b"<!--"]),
            ),
            max_size=6,
        )
    )
    def test_any_bytes_come_to_servers_or_to_a_reason(self, parts: list[bytes]) -> None:
        try:
            read(b"".join(parts), MAILBOX)
        except _Unusable as error:
            self.assertTrue(str(error).isprintable())


class LookUpTests(ProviderTestCase):
    """
    `discover` with real HTTPS on loopback.
    """

    def discover(self, records: Any = (), **options: Any) -> Deferred[list[Candidate]]:
        return discover(
            options.pop("address", "ada@example.com"),
            resolver=Answers({SRV: records}),
            reactor=self.detour,  # type: ignore[arg-type]
            **{"autoconfig": True, **options},
        )

    async def error(self, **options: Any) -> str:
        with self.assertRaises(ConnectError) as caught:
            await self.discover(**options)
        text = str(caught.exception)
        self.assertTrue(text.isprintable())
        self.assertTrue(text.startswith("example.com: the DNS names no POP3 server"))
        self.assertIn("; ask the provider of the mailbox", text)
        return text

    async def test_without_the_option_nobody_is_asked(self) -> None:
        with self.assertRaises(ConnectError) as caught:
            await self.discover(autoconfig=False)
        self.assertNotIn("autoconfig", str(caught.exception))
        self.assertEqual(self.detour.asked, [])

    async def test_first_place_is_preferred_and_is_sent_the_address(self) -> None:
        self.answers[FIRST] = CONFIG
        self.answers[SECOND] = config(server("other.example.com"))
        [candidate] = await self.discover(address="ada+x@example.com")
        self.assertEqual(
            (candidate.server, candidate.usernames, candidate.source),
            ("pop.example.com:995", ("ada+x@example.com",), "autoconfig"),
        )
        self.assertIn(
            f"{FIRST}?emailaddress=ada%2Bx%40example.com", self.provider.asked
        )

    async def test_no_credentials_and_no_cookies_are_sent(self) -> None:
        self.answers[FIRST] = CONFIG
        await self.discover()
        names = {name.lower() for each in self.provider.headers for name in each}
        self.assertLessEqual(names, {b"host", b"connection"})

    async def test_second_place_is_asked_without_the_address(self) -> None:
        self.answers[SECOND] = CONFIG
        [candidate] = await self.discover()
        self.assertEqual(candidate.host, "pop.example.com")
        self.assertIn(SECOND, self.provider.asked)

    @shows("feature 1.13")
    async def test_servers_of_the_dns_come_first_and_once(self) -> None:
        self.answers[FIRST] = config(
            server("b.example.com"), server("a.example.com"), server("c.example.com")
        )
        found = await self.discover([srv(SRV, "a.example.com")])
        self.assertEqual(
            [(each.host, each.source) for each in found],
            [
                ("a.example.com", "srv"),
                ("b.example.com", "autoconfig"),
                ("c.example.com", "autoconfig"),
            ],
        )

    async def test_failure_does_not_hide_the_servers_of_the_dns(self) -> None:
        self.detour.unknown = {"autoconfig.example.com", "example.com"}
        [candidate] = await self.discover([srv(SRV, "a.example.com")])
        self.assertEqual(candidate.host, "a.example.com")

    async def test_failure_of_the_dns_asks_nobody(self) -> None:
        with self.assertRaises(ConnectError):
            await self.discover(DNSServerError(None))
        self.assertEqual(self.detour.asked, [])

    async def test_error_names_the_reason_of_each_place(self) -> None:
        self.detour.unknown = {"autoconfig.example.com"}
        text = await self.error()
        self.assertIn(
            "and autoconfig none: autoconfig.example.com: DNS lookup failed", text
        )
        self.assertIn("; example.com: HTTP status 404; ask", text)

    async def test_refused_connection_is_a_reason(self) -> None:
        self.detour._port = 1
        self.assertIn("Connection was refused", await self.error())

    async def test_file_without_pop3_is_a_reason(self) -> None:
        self.answers[FIRST] = config(server(kind="imap"))
        self.answers[SECOND] = config(server(secure="plain"))
        text = await self.error()
        self.assertIn("autoconfig.example.com: it names no POP3 server; ", text)
        self.assertIn("example.com: it names a POP3 server without TLS; ", text)

    # -- redirections

    async def test_redirection_by_https_is_followed(self) -> None:
        self.answers[FIRST] = "/elsewhere?a=b%20c"
        self.answers["autoconfig.example.com/elsewhere"] = "https://example.com/x.xml"
        self.answers["example.com/x.xml"] = CONFIG
        [candidate] = await self.discover()
        self.assertEqual(candidate.host, "pop.example.com")
        self.assertIn("autoconfig.example.com/elsewhere?a=b%20c", self.provider.asked)

    @shows("attack 6.8")
    async def test_redirection_to_anything_else_is_refused(self) -> None:
        for location in (
            "http://example.com/x.xml",
            "https://example.com:8443/x.xml",
            "https://ada:pw@example.com/x.xml",
            "https://127.0.0.1/x.xml",
            "https://[::1]/x.xml",
            "https://[",
            "https://example.com:x/",
            "file:///etc/passwd",
        ):
            self.answers[FIRST] = self.answers[SECOND] = location
            text = await self.error()
            self.assertIn(
                "it redirects to what is not an https URL with a host name", text
            )
        self.assertEqual(set(self.provider.asked), {f"{FIRST}{ADDRESS}", SECOND})

    @shows("attack 6.8")
    async def test_endless_redirections_are_refused(self) -> None:
        self.answers[FIRST] = self.answers[SECOND] = "#"
        text = await self.error()
        self.assertIn(f"more than {MAX_REDIRECTIONS} redirections", text)
        self.assertEqual(self.provider.asked.count(SECOND), MAX_REDIRECTIONS + 1)

    # -- TLS

    async def test_certificate_must_be_for_the_place(self) -> None:
        self.answers["other.example.net/x.xml"] = CONFIG
        self.answers[FIRST] = "https://other.example.net/x.xml"
        text = await self.error()
        self.assertIn("certificate is not for other.example.net", text)
        self.assertNotIn("other.example.net/x.xml", "".join(self.provider.asked))

    async def test_certificate_of_another_authority_is_a_reason(self) -> None:
        other = os.path.abspath(self.mktemp())
        trustme.CA().cert_pem.write_to_path(other)
        with mock.patch.dict(os.environ, POP3CONNECT_CACERTS=other):
            text = await self.error()
        self.assertIn("autoconfig.example.com: ", text)
        self.assertIn("not trusted", text)
        self.assertEqual(self.provider.asked, [])

    async def test_certificates_that_cannot_be_read_are_an_error(self) -> None:
        empty = os.path.abspath(self.mktemp())
        os.mkdir(empty)
        for folder, kind in (("/nowhere", UsageError), (empty, TLSError)):
            os.environ["POP3CONNECT_CACERTS"] = folder
            with self.assertRaises(kind):
                await self.discover()

    # -- answers without end

    def pour(self, begin: bytes, piece: bytes, sent: list[int], transport: Any) -> None:
        """Write ``begin``, and then pieces without end."""
        transport.write(begin)

        def more() -> None:
            if transport.connected and len(sent) < 1000:
                sent.append(len(piece))
                transport.write(piece)
                reactor.callLater(0, more)

        more()

    @shows("attack 6.8")
    async def test_answer_that_is_too_long_is_refused(self) -> None:
        head = b"HTTP/1.1 200 OK\r\n"
        for begin, piece in (
            (head, b"X: y\r\n" * 1000),
            (head + b"\r\n", b"x" * 10_000),
            (head + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 1000),
            (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 500),
        ):
            sent: list[int] = []
            talk = partial(self.pour, begin, piece, sent)
            self.serve(self.provider.listen_raw(reactor, talk))
            text = await self.error()
            self.assertEqual(text.count("its answer has more than 64 KiB"), 2)
            await self.settle()
            # Those of the two places, and what is on its way.
            self.assertLess(sum(sent), 40 * MAX_ANSWER)

    @shows("attack 6.8")
    async def test_garbage_is_a_reason(self) -> None:
        for answer in (b"+OK ready\r\n\r\n", b"\xff\x00" * 50 + b"\r\n\r\n", b""):

            def talk(transport: Any, answer: bytes = answer) -> None:
                transport.write(answer)
                transport.loseConnection()

            self.serve(self.provider.listen_raw(reactor, talk))
            self.assertLess(len(await self.error()), 700)

    @shows("attack 6.8")
    async def test_answer_that_does_not_come_is_a_reason(self) -> None:
        begun = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n<"
        for answer in (b"", begun):

            def talk(transport: Any, answer: bytes = answer) -> None:
                transport.write(answer)

            self.serve(self.provider.listen_raw(reactor, talk))
            text = await self.error(timeout=0.2)
            self.assertEqual(text.count("no answer in time"), 2)

    async def test_place_that_hangs_is_given_up_when_the_first_has_answered(
        self,
    ) -> None:
        waiting: list[Any] = []
        self.answers[FIRST] = CONFIG
        self.answers[SECOND] = waiting.append
        [candidate] = await self.discover()
        self.assertEqual(candidate.host, "pop.example.com")

    async def test_cancelling_closes_the_connections(self) -> None:
        waiting: list[Any] = []
        self.answers[FIRST] = self.answers[SECOND] = waiting.append
        asked = self.discover()
        while len(waiting) < 2:
            await deferLater(reactor, 0.005)
        asked.cancel()
        self.failureResultOf(asked, CancelledError)
        await self.settle()
        self.assertEqual(
            {each.state for each in self.detour.connections}, {"disconnected"}
        )
