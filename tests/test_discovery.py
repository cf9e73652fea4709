"""
Which servers the DNS names for an address, and what hostile answers come to.
"""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import Clock
from twisted.names import client, dns
from twisted.names.error import (
    DNSFormatError,
    DNSNameError,
    DNSNotImplementedError,
    DNSQueryRefusedError,
    DNSServerError,
    ResolverError,
)
from twisted.trial.unittest import SynchronousTestCase, TestCase

from pop3connect import (
    Candidate,
    ConnectError,
    Secure,
    TimedOutError,
    UsageError,
    discover,
)
from pop3connect.discovery import (
    MAX_CANDIDATES,
    MAX_RECORDS,
    MailAddress,
    ordered,
)

from .support.dns import Answers, header, resolver, serve, srv
from .support.shows import shows

reactor: Any = global_reactor

TLS = "_pop3s._tcp.example.com"
STLS = "_pop3._tcp.example.com"


class DiscoverTestCase(SynchronousTestCase):
    """
    With the answers of the test.
    """

    def setUp(self) -> None:
        self.clock = Clock()

    def ask(
        self,
        tls: Any = (),
        stls: Any = (),
        address: str = "ada@example.com",
        **more: Any,
    ) -> Deferred[list[Candidate]]:
        self.answers = Answers({TLS: tls, STLS: stls, **more})
        return discover(address, resolver=self.answers, reactor=self.clock)

    def found(self, *answers: Any, **options: Any) -> list[tuple[str, Secure]]:
        candidates = self.successResultOf(self.ask(*answers, **options))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        return [(each.server, each.secure) for each in candidates]

    def hosts(self, *answers: Any) -> list[str]:
        return [server for server, _ in self.found(*answers)]

    def error(self, *answers: Any, kind: type[Exception] = ConnectError) -> str:
        error = self.failureResultOf(self.ask(*answers)).value
        self.assertIs(type(error), kind)
        self.assertEqual(error.server, "example.com")
        self.assertEqual(self.clock.getDelayedCalls(), [])
        return str(error)


class OrderTests(DiscoverTestCase):
    """
    Which servers, in which order.
    """

    @shows(
        "RFC 6186-01",
        "MUST",
        "Ask for the SRV records ``_pop3s._tcp`` and ``_pop3._tcp`` of the domain; an "
        "international domain is asked for in ASCII.",
        "``discover()``.",
    )
    @shows(
        "RFC 8314-08",
        "SHOULD",
        "TLS at once is preferred to STLS, and neither is given up for cleartext.",
        "Candidates of ``_pop3s`` come first; those of ``_pop3`` have ``Secure.STLS``.",
    )
    @shows(
        "RFC 2782-01",
        "MUST",
        "The lowest priority comes first; among equals, chance decides by the weights.",
        "As the RFC describes it.",
    )
    def test_tls_comes_before_stls_and_the_better_priority_first(self) -> None:
        self.assertEqual(
            self.found(
                [
                    srv(TLS, "second.example.com", 995, 20),
                    srv(TLS, "first.example.com", 1995, 10),
                ],
                [srv(STLS, "plain.example.com", 110, 0)],
            ),
            [
                ("first.example.com:1995", Secure.TLS),
                ("second.example.com:995", Secure.TLS),
                ("plain.example.com:110", Secure.STLS),
            ],
        )
        self.assertEqual(self.answers.asked, [(TLS, dns.SRV), (STLS, dns.SRV)])

    def test_one_of_the_services_is_enough(self) -> None:
        none = DNSNameError(None)
        self.assertEqual(
            self.found(none, [srv(STLS, "a.example.com", 110)]),
            [("a.example.com:110", Secure.STLS)],
        )
        self.assertEqual(
            self.found([srv(TLS, "a.example.com")], none),
            [("a.example.com:995", Secure.TLS)],
        )

    @shows(
        "feature 1.13",
        "Finds the server of an address",
        "by SRV records, and by autoconfig on request: ``discover()``",
    )
    @shows(
        "RFC 6186-02",
        "SHOULD",
        "The user name is the whole address first, then its part before the ``@``.",
        "``usernames``, in that order; nothing is tried.",
    )
    def test_candidate_has_what_connect_needs(self) -> None:
        [candidate] = self.successResultOf(
            self.ask([srv(TLS, "POP.Example.COM")], address=" Ada+x@EXAMPLE.com ")
        )
        self.assertEqual(
            attrs.astuple(candidate),
            (
                "pop.example.com",
                995,
                Secure.TLS,
                "example.com",
                ("Ada+x@EXAMPLE.com", "Ada+x"),
                "srv",
            ),
        )
        self.assertEqual(candidate.server, "pop.example.com:995")

    @shows(
        "RFC 6186-03",
        "SHOULD",
        "A server outside of the domain is used only after the user has confirmed it.",
        "``in_domain`` tells; the command line says so, and ``info`` does not log in.",
    )
    @shows(
        "attack 6.5",
        "The DNS answers ``discover()`` with another server",
        "The password.",
        "Nothing is sent to it. Each candidate is a proposal, ``in_domain`` tells a "
        "foreign name apart, and ``info ADDRESS`` never logs in.",
    )
    def test_name_of_another_domain_is_told_apart(self) -> None:
        for host, inside in (
            ("example.com", True),
            ("pop.example.com", True),
            ("pop.notexample.com", False),
            ("example.com.evil.example", False),
            ("pop.example.net", False),
        ):
            [candidate] = self.successResultOf(self.ask([srv(TLS, host)]))
            self.assertIs(candidate.in_domain, inside, host)

    @shows("RFC 6186-01")
    def test_international_domain_is_asked_for_in_ascii(self) -> None:
        name = "_pop3s._tcp.xn--bcher-kva.example"
        answers = Answers({name: [srv(name, "pop.xn--bcher-kva.example")]})
        for address in ("ada@bücher.example", "ada@xn--bcher-kva.example"):
            [candidate] = self.successResultOf(
                discover(address, resolver=answers, reactor=self.clock)
            )
            self.assertEqual(candidate.domain, "xn--bcher-kva.example")
            self.assertEqual(candidate.usernames, (address, "ada"))
            self.assertTrue(candidate.in_domain)

    @shows("RFC 2782-01")
    def test_weights_share_the_first_place(self) -> None:
        records = [
            dns.Record_SRV(0, weight, 1, f"{weight}.example") for weight in (0, 1, 3)
        ]
        # All numbers that can be drawn for the first place, and then the lowest.
        first = []
        for number in range(5):
            numbers = [number]
            drawn = ordered(
                records, lambda limit, left=numbers: left.pop() if left else 0
            )
            first.append(drawn[0].weight)
            self.assertEqual({each.weight for each in drawn}, {0, 1, 3})
        self.assertEqual(first, [0, 1, 3, 3, 3])

    @shows("RFC 2782-01")
    def test_number_is_drawn_below_the_sum_of_the_priority(self) -> None:
        limits = []

        def draw(limit: int) -> int:
            limits.append(limit)
            return limit - 1

        records = [
            dns.Record_SRV(priority, weight, 1, "a.example")
            for priority, weight in ((1, 65535), (0, 2), (0, 5))
        ]
        drawn = ordered(records, draw)
        self.assertEqual(limits, [8, 3, 65536])
        self.assertEqual([each.priority for each in drawn], [0, 0, 1])

    def test_alias_of_the_service_is_followed(self) -> None:
        alias = header(TLS, dns.Record_CNAME("srv.hoster.example"))
        self.assertEqual(
            self.hosts([alias, srv("SRV.hoster.example", "pop.hoster.example")]),
            ["pop.hoster.example:995"],
        )


class NothingTests(DiscoverTestCase):
    """
    Domains without a server.
    """

    def test_domain_without_records_says_whom_to_ask(self) -> None:
        for none in ([], DNSNameError(None)):
            self.assertEqual(
                self.error(none, none),
                "example.com: the DNS names no POP3 server for this domain; ask the "
                "provider of the mailbox for the name of its server",
            )

    @shows(
        "RFC 2782-02",
        "MUST",
        'The target "." means that the service does not exist.',
        "Such a record is not a candidate; if there is no other, the error says so.",
    )
    def test_root_as_target_means_that_there_is_no_service(self) -> None:
        """RFC 2782; a preference for it is not one for the other service."""
        for root in (b"", b"."):
            self.assertIn(
                "can be used: _pop3s._tcp does not exist there (RFC 2782); "
                "_pop3._tcp does not",
                self.error([srv(TLS, root, 0)], [srv(STLS, root, 0)]),
            )
            self.assertEqual(
                self.found([srv(TLS, root, 0)], [srv(STLS, "a.example.com", 110)]),
                [("a.example.com:110", Secure.STLS)],
            )

    def test_failure_of_one_service_is_an_error(self) -> None:
        """The better server may be the one that is missing."""
        good = [srv(STLS, "a.example.com", 110)]
        for failure, problem in (
            (DNSServerError(None), "the DNS server failed (SERVFAIL)"),
            (DNSQueryRefusedError(None), "the DNS server refused to answer"),
            (DNSFormatError(None), "did not understand the question"),
            (DNSNotImplementedError(None), "does not answer such questions"),
            (ResolverError("hunter2\x1b"), "the DNS failed with ResolverError"),
            (OSError("No domain name servers"), "the DNS failed with OSError"),
        ):
            for answers in ((failure, good), (good, failure), (failure, failure)):
                text = self.error(*answers)
                self.assertIn(problem, text)
                self.assertIn("check the domain and the network", text)
                self.assertNotIn("hunter2", text)

    def test_missing_answer_is_a_timeout(self) -> None:
        for answers in ((Deferred(), []), ([srv(TLS, "a.example.com")], Deferred())):
            asked = self.ask(*answers)
            self.clock.advance(29)
            self.assertNoResult(asked)
            self.clock.advance(2)
            error = self.failureResultOf(asked, TimedOutError).value
            self.assertEqual((error.phase, error.seconds), ("looking up", 30.0))
            self.assertIn("the DNS did not answer within 30 seconds", str(error))
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_cancelling_ends_the_look_ups(self) -> None:
        lookups: list[Deferred[Any]] = [Deferred(), Deferred()]
        asked = self.ask(*lookups)
        asked.cancel()
        self.failureResultOf(asked, CancelledError)
        self.assertTrue(all(each.called for each in lookups))
        self.assertEqual(self.clock.getDelayedCalls(), [])


class DefaultTests(DiscoverTestCase):
    """
    Without a resolver and a reactor.
    """

    def test_resolver_of_twisted_names_is_asked(self) -> None:
        self.patch(client, "theResolver", Answers({TLS: [srv(TLS, "a.example.com")]}))
        [candidate] = self.successResultOf(discover("ada@example.com"))
        self.assertEqual(candidate.server, "a.example.com:995")


class HostileTests(DiscoverTestCase):
    """
    Answers that no honest server gives.
    """

    @shows(
        "attack 6.6",
        "DNS records with port 0, addresses, control characters, other names, loops "
        "of aliases, or 5,000 of them",
        "A wrong connection, time, memory, a forged line in a log.",
        "They are left out; 64 records are looked at, and 16 candidates returned.",
    )
    def test_target_that_is_not_a_host_name_is_left_out(self) -> None:
        good = srv(TLS, "good.example.com", priority=9)
        for target in (
            b"192.0.2.1",
            b"2001:db8::1",
            b"[2001:db8::1]",
            b"host:110",
            b"ada:pw@host",
            b"a b",
            b" host ",
            b"host/path",
            b"\x1b[2Jhost",
            b"b\xfccher.example",
            "bücher.example".encode(),
            b"-host",
            b"a..b",
            b"1",
            b".".join([b"a" * 60] * 5),
        ):
            self.assertEqual(
                self.hosts([srv(TLS, target), good]), ["good.example.com:995"], target
            )
            text = self.error([srv(TLS, target)], [])
            self.assertIn("_pop3s._tcp names ", text)
            self.assertIn("which is not a host name", text)
            self.assertTrue(text.isprintable(), target)
            self.assertLess(len(text), 400)

    def test_control_characters_of_a_target_are_escaped_once(self) -> None:
        text = self.error([srv(TLS, b"\x1b[2Jhost"), srv(TLS, b"\x1bhost", 0)], [])
        self.assertIn(r"names '\x1b[2Jhost', which", text)

    def test_port_zero_is_left_out(self) -> None:
        self.assertEqual(
            self.hosts(
                [srv(TLS, "a.example.com", 0), srv(TLS, "b.example.com", 65535)]
            ),
            ["b.example.com:65535"],
        )
        text = self.error([srv(TLS, "a.example.com", 0)], [])
        self.assertIn("_pop3s._tcp names 'a.example.com' with the port 0", text)

    @shows("attack 6.6")
    def test_records_of_other_names_types_and_classes_are_ignored(self) -> None:
        answers = [
            srv("_pop3s._tcp.example.net", "evil.example.net"),
            srv(STLS, "evil.example.net"),
            header(TLS, dns.Record_SRV(0, 0, 1, "evil.example.net"), cls=dns.CH),
            header(TLS, dns.Record_A("192.0.2.1")),
            header(TLS, dns.Record_TXT(b"evil")),
            header(TLS, dns.UnknownRecord(b"\x00" * 9)),
            dns.RRHeader(TLS, dns.SRV, dns.IN, 60, None),
        ]
        self.assertIn("no POP3 server for this domain", self.error(answers, []))

    @shows("attack 6.6")
    def test_aliases_in_a_loop_or_a_long_chain_come_to_an_end(self) -> None:
        loop = [
            header(TLS, dns.Record_CNAME("a.example")),
            header("a.example", dns.Record_CNAME(TLS)),
        ]
        chain = [header(TLS, dns.Record_CNAME("0.example"))]
        chain += [
            header(f"{number}.example", dns.Record_CNAME(f"{number + 1}.example"))
            for number in range(1000)
        ]
        chain.append(srv("1000.example", "evil.example"))
        for answers in (loop, chain):
            self.assertIn("no POP3 server for this domain", self.error(answers, []))

    def test_alias_of_another_name_does_not_lead_here(self) -> None:
        answers = [
            header("other.example", dns.Record_CNAME("a.example")),
            srv("a.example", "evil.example"),
        ]
        self.assertIn("no POP3 server", self.error(answers, []))

    @shows("attack 6.6")
    def test_huge_answer_is_cut(self) -> None:
        answer = [srv(TLS, f"h{n}.example.com", weight=65535) for n in range(5000)]
        self.assertEqual(len(self.hosts(answer, answer)), MAX_CANDIDATES)
        drawn: list[int] = []
        records = [each.payload for each in answer]
        ordered(records, lambda limit: drawn.append(limit) or 0)  # type: ignore[func-returns-value]
        self.assertEqual(len(drawn), MAX_RECORDS)

    def test_repeated_server_is_returned_once(self) -> None:
        answer = [srv(TLS, "a.example.com", priority=n) for n in range(9)]
        self.assertEqual(self.hosts(answer), ["a.example.com:995"])

    def test_error_names_a_few_of_many_bad_records(self) -> None:
        answer = [srv(TLS, f"-{'x' * 60}{n}.example.com") for n in range(60)]
        self.assertLess(len(self.error(answer, [])), 600)


class AddressTests(DiscoverTestCase):
    """
    What is not an address.
    """

    def test_bad_address_is_a_usage_error_and_nothing_is_asked(self) -> None:
        for bad, problem in (
            ("", "a name before the @ and a domain after it, not ''"),
            ("ada", "not 'ada'"),
            ("@example.com", "not '@example.com'"),
            ("ada@", "not 'ada@'"),
            ("ada@192.0.2.1", "the name of a domain after the @"),
            ("ada@-example.com", "the name of a domain"),
            ("ada@exa mple.com", "the name of a domain"),
            ("ada@ example.com", "the name of a domain"),
            (f"ada@{'a.' * 121}com", "the name of a domain"),
            ("ada\r\n@example.com", "in one line"),
            (f"{'a' * 65}@example.com", "at most 64 bytes before the @"),
            (None, "not NoneType"),
            (b"ada@example.com", "not bytes"),
        ):
            value: Any = bad
            error = self.failureResultOf(self.ask(address=value)).value
            self.assertIsInstance(error, UsageError)
            self.assertIn(problem, str(error))
            self.assertIn("ada@example.com", str(error))
            self.assertEqual(self.answers.asked, [])

    def test_address_that_may_hold_a_password_is_not_repeated(self) -> None:
        for bad in (
            "pop3://ada:hunter2@example.com",
            "ada:hunter2@example.com",
            "ada@example.com:hunter2",
            "ada@[2001:db8::1]",
        ):
            error = self.failureResultOf(self.ask(address=bad)).value
            self.assertIsInstance(error, UsageError)
            self.assertIn("without a colon or slash", str(error))
            self.assertNotIn("hunter2", str(error))

    def test_unusual_addresses_are_understood(self) -> None:
        for text, local, domain in (
            ("o'neil+a@example.com", "o'neil+a", "example.com"),
            ('"a@b"@example.com', '"a@b"', "example.com"),
            ("ada@localhost", "ada", "localhost"),
            ("ädä@example.com.", "ädä", "example.com"),
        ):
            address = MailAddress.parse(text)
            self.assertEqual((address.local, address.domain), (local, domain))

    def test_bad_timeout_is_a_usage_error(self) -> None:
        for bad in (0, -1, None, "5", True, float("nan"), float("inf")):
            value: Any = bad
            asked = discover("ada@example.com", timeout=value, reactor=self.clock)
            error = self.failureResultOf(asked).value
            self.assertIsInstance(error, UsageError)
            self.assertIn("timeout must be a number of seconds", str(error))

    def test_reactor_without_time_is_a_usage_error(self) -> None:
        asked = discover("ada@example.com", reactor=object())  # type: ignore[arg-type]
        self.assertIsInstance(self.failureResultOf(asked).value, UsageError)


class Silent(Clock):
    """
    A reactor on which nothing answers to a datagram.

    :ivar ports: those that are open, with the addresses that were written to.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ports: list[list[tuple[str, int]]] = []

    def listenUDP(
        self, _: int, protocol: DatagramProtocol, *__: Any, **___: Any
    ) -> Any:
        written: list[tuple[str, int]] = []
        self.ports.append(written)

        class Port:
            def write(port, data: bytes, address: tuple[str, int]) -> None:
                written.append(address)

            def stopListening(port) -> None:
                self.ports = [each for each in self.ports if each is not written]

        protocol.makeConnection(Port())  # type: ignore[arg-type]
        return Port()


class SilentTests(SynchronousTestCase):
    """
    DNS servers that do not answer.
    """

    def test_silent_server_is_asked_again_and_is_a_timeout(self) -> None:
        silent = Silent()
        ours = resolver(silent, [("192.0.2.1", 53)])
        asked = discover("ada@example.com", resolver=ours, reactor=silent)
        times = 0
        for _ in range(300):
            self.assertNoResult(asked)
            times = max(times, len(silent.ports))
            silent.advance(0.1)
            if asked.called:
                break
        self.failureResultOf(asked, TimedOutError)
        self.assertEqual(times, 2)
        self.assertEqual(silent.ports, [])
        self.assertEqual(silent.getDelayedCalls(), [])

    def test_several_silent_servers_have_one_time_limit(self) -> None:
        silent = Silent()
        ours = resolver(silent, [("192.0.2.1", 53), ("192.0.2.2", 53)])
        asked = discover("ada@example.com", resolver=ours, reactor=silent)
        silent.pump([0.1] * 301)
        self.failureResultOf(asked, TimedOutError)
        self.assertEqual(silent.ports, [])
        silent.pump([1.0] * 60)
        self.assertEqual(silent.getDelayedCalls(), [])


class LoopbackTests(TestCase):
    """
    With a DNS server on loopback, as twisted.names asks it.
    """

    timeout = 30

    def serve(self, names: dict[str, Any]) -> Any:
        self.answers = Answers(names)
        port, listening = serve(reactor, self.answers)
        for each in listening:
            self.addCleanup(each.stopListening)
        return resolver(reactor, [("127.0.0.1", port)])

    async def test_servers_are_found(self) -> None:
        ours = self.serve(
            {TLS: [srv(TLS, "pop.example.com", 995)], STLS: [srv(STLS, b"", 0)]}
        )
        [candidate] = await discover("ada@example.com", resolver=ours)
        self.assertEqual(candidate.server, "pop.example.com:995")

    async def test_domain_that_does_not_exist_names_no_server(self) -> None:
        with self.assertRaises(ConnectError) as caught:
            await discover("ada@example.com", resolver=self.serve({}))
        self.assertIn("the DNS names no POP3 server", str(caught.exception))

    async def test_failing_server_is_an_error(self) -> None:
        ours = self.serve({TLS: KeyError("of the test"), STLS: []})
        with self.assertRaises(ConnectError) as caught:
            await discover("ada@example.com", resolver=ours)
        self.flushLoggedErrors(KeyError)
        self.assertIn("SERVFAIL", str(caught.exception))

    async def test_answer_too_long_for_a_datagram_is_read_over_tcp(self) -> None:
        many = [srv(TLS, f"h{number}.example.com") for number in range(60)]
        found = await discover(
            "ada@example.com", resolver=self.serve({TLS: many, STLS: []})
        )
        self.assertEqual(len(found), MAX_CANDIDATES)
