"""
That a server is who it should be: names, refusals in words, and failing closed.
"""

from __future__ import annotations

import datetime
import ipaddress
from typing import Any, cast

from cryptography import x509
from cryptography.x509.oid import (
    AuthorityInformationAccessOID,
    ExtendedKeyUsageOID,
    ObjectIdentifier,
)
from OpenSSL import SSL, crypto
from twisted.internet import defer
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pop3connect import TLSError, VerificationError
from pop3connect.address import ServerAddress
from pop3connect.tls.context import ClientContext
from pop3connect.tls.identity import IdentityCheck
from pop3connect.tls.trust import Trust

from ..support.certificates import (
    HOST,
    ServerTLS,
    Shown,
    TLSTestCase,
    authority,
    authority_without_key_usage,
    behind_intermediate,
    certificate_of,
    common_name_only,
    expired,
    expired_authority,
    intermediate,
    leaf,
    name,
    nameless,
    not_an_authority,
    not_yet_valid,
    raw_names,
    right,
    self_signed,
    shake_hands,
    unknown_ca,
    wrong_host,
)
from ..support.memory import Server
from ..support.shows import shows

DNS, IP = 2, 7
"""The tags of a subjectAltName (RFC 5280 section 4.2.1.6)."""


class NameTests(TLSTestCase):
    """
    Which name a certificate must have (RFC 9525 section 6).
    """

    @shows(
        "RFC 7817-03",
        "MUST",
        "DNS-ID counts; URI-ID never.",
        "service-identity matches the names.",
    )
    @shows("certificate 1.1", "the name itself, in any case; as one of many", "yes")
    def test_exact_name_is_accepted(self) -> None:
        self.accepts(right())

    @shows("certificate 1.1")
    def test_one_of_several_names_is_accepted(self) -> None:
        self.accepts(leaf("imap.example.com", HOST, "192.0.2.1"))

    @shows(
        "certificate 1.3",
        "another name, a domain above it, a name below it",
        'no: "is not for pop.example.com: it is for ..."',
    )
    def test_other_name_is_refused(self) -> None:
        self.refuses(wrong_host())

    @shows("certificate 1.3")
    def test_parent_child_or_similar_name_is_refused(self) -> None:
        """A domain above, a name below and a name that ends alike do not match."""
        for other in ("example.com", f"x.{HOST}", f"x{HOST}", "pop.example.co", "pop"):
            self.refuses(leaf(other))

    @shows(
        "RFC 9525-02",
        "MUST",
        "Labels are compared as A-labels, without case.",
        "International names are converted to A-labels, and case is ignored.",
    )
    @shows("certificate 1.1")
    def test_case_is_ignored_when_matching_names(self) -> None:
        """Case does not count, on either side (section 6.3)."""
        self.accepts(leaf("POP.Example.COM"))
        self.accepts(right(), "Pop.EXAMPLE.com")

    def test_final_dot_of_host_is_ignored_when_matching_names(self) -> None:
        """The dot that says "this is the whole name" is not part of it."""
        self.accepts(right(), "pop.example.com.")

    def test_port_is_ignored_when_matching_names(self) -> None:
        """The port is not part of the identity."""
        self.accepts(right(), "pop.example.com:1995")

    @shows(
        "RFC 9525-04",
        "MUST",
        "A wildcard stands for one label.",
        "It matches exactly one label.",
    )
    @shows(
        "certificate 1.4",
        "``*.example.com``, and the name has one more label",
        "yes",
    )
    def test_wildcard_matches_exactly_one_label(self) -> None:
        """A wildcard stands for just one label (section 6.3)."""
        shown = leaf("*.example.com")
        self.accepts(shown)
        self.accepts(shown, "other.example.com")
        for host in ("example.com", "a.pop.example.com", "pop.example.org", "pop"):
            self.refuses(shown, host)

    @shows(
        "RFC 7817-05",
        "MUST",
        "``*`` counts only as the whole left-most label.",
        "A name with any other wildcard is ignored.",
    )
    @shows("certificate 1.6", "``a*.example.org`` (a part of a label)", "no")
    def test_wildcard_within_a_label_is_refused(self) -> None:
        """A wildcard is a whole label, or nothing (RFC 7817 section 3)."""
        for pattern in ("p*.example.com", "*p.example.com", "po*p.example.com"):
            self.refuses(leaf(pattern))

    @shows("RFC 7817-05")
    @shows("certificate 1.7", "``*.*.example.org``, ``pop.*.org``", "no")
    def test_wildcard_outside_leftmost_label_is_refused(self) -> None:
        """A wildcard is the left-most label, or nothing."""
        for pattern in ("pop.*.com", "pop.example.*", "*.*.com", "*.pop.*.com"):
            self.refuses(leaf(pattern))

    @shows("certificate 1.5", "``*``, ``*.com``", "no")
    def test_wildcard_for_everything_or_top_level_domain_is_refused(self) -> None:
        """A certificate cannot be for every name or for a top-level domain."""
        self.refuses(leaf("*"))
        self.refuses(leaf("*"), "localhost")
        self.refuses(leaf("*.com"), "example.com")

    @shows(
        "RFC 9525-03",
        "MUST",
        "An identifier with an invalid wildcard is ignored, and others count.",
        "Invalid names are ignored one by one.",
    )
    @shows(
        "certificate 1.8",
        "an invalid name beside a valid one",
        "the valid one counts",
    )
    def test_invalid_names_are_ignored_beside_a_valid_one(self) -> None:
        """What is invalid is ignored, and the rest counts (section 6.3)."""
        for invalid in ("a*.example.org", "*", "*.*.example.org", "192.0.2.1", ""):
            raw = raw_names((DNS, invalid.encode()), (DNS, HOST.encode()))
            self.accepts(leaf(raw=raw))
            self.refuses(leaf(raw=raw), "other.example.org")

    def test_other_kinds_of_names_are_ignored_beside_a_valid_one(self) -> None:
        """Names of kinds that we know nothing of do no harm."""
        self.accepts(
            leaf(
                HOST,
                names=(
                    x509.RFC822Name("postmaster@example.com"),
                    x509.UniformResourceIdentifier("pop://other.example.com"),
                    x509.DirectoryName(name("x")),
                    x509.RegisteredID(ObjectIdentifier("1.2.3.4")),
                    x509.OtherName(
                        ObjectIdentifier("1.3.6.1.5.5.7.8.7"), b"\x16\x03abc"
                    ),
                    x509.IPAddress(ipaddress.ip_network("192.0.2.0/24")),
                ),
            )
        )

    @shows(
        "certificate 1.10",
        "the same in UTF-8",
        "no: it is not a valid DNS name (RFC 5280 section 7.2)",
    )
    def test_utf_8_name_is_ignored_beside_a_valid_one(self) -> None:
        """A name in UTF-8 is invalid (RFC 5280 section 7.2)."""
        shown = leaf(
            raw=raw_names((DNS, "bücher.example.com".encode()), (DNS, HOST.encode()))
        )
        self.accepts(shown)
        self.refuses(shown, "bücher.example.com")

    @shows("certificate 1.14", "a NUL in a name", "no")
    def test_name_with_embedded_nul_is_refused(self) -> None:
        """A name does not end at a NUL (CVE-2009-2408)."""
        self.refuses(leaf(raw=raw_names((DNS, b"pop.example.com\0.evil.test"))))

    @shows(
        "RFC 9525-01",
        "MUST",
        "The common name does not count.",
        "A certificate with only a common name is refused.",
    )
    @shows(
        "certificate 1.15",
        "the name as common name only",
        'no: "it has no usable name"',
    )
    def test_certificate_with_only_a_common_name_is_refused(self) -> None:
        """The common name is not looked at (section 2)."""
        self.refuses(common_name_only())

    @shows("RFC 9525-01")
    def test_common_name_is_ignored_beside_other_names(self) -> None:
        """Not even if there are other names."""
        self.refuses(leaf("other.example.com", subject=name(common_name=HOST)))

    def test_certificate_without_any_name_is_refused(self) -> None:
        self.refuses(nameless())

    @shows("RFC 7817-03")
    @shows(
        "RFC 7817-04",
        "MUST",
        "SRV-ID where servers are found by RFC 6186.",
        "Not met: an SRV-ID does not count. The certificate must be for the host name "
        "in ``server``.",
    )
    @shows(
        "certificate 1.18",
        "names of other kinds (URI, mail address, SRV)",
        "they do not count",
    )
    def test_uri_email_and_other_kinds_of_names_are_not_matched(self) -> None:
        """URIs (RFC 7817 section 3) and mail addresses are not looked at."""
        for other in (
            x509.UniformResourceIdentifier(f"pop://{HOST}"),
            x509.UniformResourceIdentifier(f"https://{HOST}/"),
            x509.RFC822Name(f"postmaster@{HOST}"),
            x509.RFC822Name(HOST),
            x509.DirectoryName(name(HOST)),
            # An SRV-ID (RFC 4985): we do not look up SRV records.
            x509.OtherName(
                ObjectIdentifier("1.3.6.1.5.5.7.8.7"), b"\x16\x11_pop3.example.com"
            ),
        ):
            self.refuses(leaf(names=(other,)))

    @shows("RFC 9525-02")
    @shows(
        "certificate 1.9",
        "an international name, as A-labels",
        "yes, however it is written in ``server``",
    )
    def test_international_name_is_matched_in_punycode(self) -> None:
        """Names are compared as A-labels (section 6.3)."""
        shown = leaf("xn--bcher-kva.example.com")
        self.accepts(shown, "bücher.example.com")
        self.accepts(shown, "BÜCHER.example.com")
        self.accepts(shown, "xn--bcher-kva.example.com")
        self.refuses(shown, "bucher.example.com")

    @shows("certificate 1.9")
    def test_wildcard_matches_label_below_international_domain(self) -> None:
        self.accepts(leaf("*.xn--bcher-kva.example"), "pop.bücher.example")

    @shows(
        "certificate 1.11",
        "a wildcard in the place of an international label",
        "yes, as for any other label (RFC 9525 section 6.3)",
    )
    def test_wildcard_matches_an_international_label(self) -> None:
        """A wildcard stands for any one label (section 6.3), an A-label too."""
        shown = leaf("*.example.com")
        for host in ("bücher.example.com", "xn--bcher-kva.example.com"):
            self.accepts(shown, host)
        for host in ("bücher.pop.example.com", "bücher.example.org", "bücher.com"):
            self.refuses(shown, host)

    @shows("certificate 1.12", "a part of an international label (``xn--*``)", "no")
    def test_wildcard_within_an_international_label_is_refused(self) -> None:
        """A wildcard does not match a part of an A-label or a top-level domain."""
        for pattern in ("xn--*.example.com", "xn--bcher-kv*.example.com", "*"):
            self.refuses(leaf(pattern), "bücher.example.com")
        self.refuses(leaf("*.com"), "bücher.com")

    def test_other_name_is_refused_for_an_international_label(self) -> None:
        """No name is made up for the comparison with a wildcard."""
        for other in ("label.example.com", "bucher.example.com"):
            self.refuses(leaf(other), "bücher.example.com")

    @shows(
        "certificate 1.13",
        "a blank before or behind the name",
        "no: it is not a name",
    )
    def test_name_with_blank_at_its_end_is_refused(self) -> None:
        """A name is compared as it is, with what stands around it."""
        for blank in (" ", "\t", "\n", "\r\n", "\x0b", "."):
            for other in (f"{HOST}{blank}", f"{blank}{HOST}", f"*.example.com{blank}"):
                self.refuses(leaf(raw=raw_names((DNS, other.encode()))))
        both = raw_names((DNS, f"{HOST} ".encode()), (DNS, HOST.encode()))
        self.accepts(leaf(raw=both))

    def test_name_with_underscore_is_accepted(self) -> None:
        """Private networks have such names."""
        self.accepts(leaf("mail_server.lan"), "mail_server.lan")

    def test_single_label_name_is_accepted(self) -> None:
        self.accepts(leaf("localhost"), "localhost")


class AddressTests(TLSTestCase):
    """
    An IP address is proven by that address alone (RFC 9525 section 6.4).
    """

    @shows(
        "certificate 1.16",
        "the address that was connected to, as an address",
        "yes",
    )
    def test_ipv4_address_is_matched_exactly(self) -> None:
        shown = leaf("192.0.2.1")
        self.accepts(shown, "192.0.2.1")
        self.accepts(shown, "192.0.2.1:1995")
        self.refuses(shown, "192.0.2.2")

    @shows(
        "RFC 9525-05",
        "MUST",
        "An address is compared with addresses alone, by its octets.",
        "An address in a DNS name or behind a wildcard does not count.",
    )
    @shows("certificate 1.16")
    def test_ipv6_address_is_matched_in_any_notation(self) -> None:
        """However it is written, the octets are compared."""
        shown = leaf("2001:db8::1")
        for host in ("2001:db8::1", "[2001:DB8:0::1]:1995", "2001:db8:0:0:0:0:0:1"):
            self.accepts(shown, host)
        self.refuses(shown, "2001:db8::2")

    def test_ipv6_zone_is_ignored(self) -> None:
        """A zone has a meaning on this computer only (RFC 4007 section 11)."""
        self.accepts(leaf("fe80::1"), "fe80::1%eth0")

    def test_ipv4_mapped_address_does_not_match_ipv4_address(self) -> None:
        """An IPv4 address in IPv6's clothes is another address."""
        self.refuses(leaf("192.0.2.1"), "::ffff:192.0.2.1")

    @shows("RFC 9525-05")
    @shows(
        "certificate 1.17",
        "the address as a DNS name, behind a wildcard, as a network",
        "no",
    )
    def test_address_in_dns_name_is_refused(self) -> None:
        """An address in a dNSName does not count."""
        shown = leaf(names=(x509.DNSName("192.0.2.1"),))
        self.refuses(shown, "192.0.2.1")

    @shows("RFC 9525-05")
    @shows("certificate 1.17")
    def test_wildcard_does_not_match_an_address(self) -> None:
        self.refuses(leaf(names=(x509.DNSName("*.0.2.1"),)), "192.0.2.1")

    @shows("certificate 1.17")
    def test_network_does_not_match_its_address(self) -> None:
        """A network does not match one of its addresses."""
        network = x509.IPAddress(ipaddress.ip_network("192.0.2.1/32"))
        self.refuses(leaf(names=(network,)), "192.0.2.1")

    def test_address_and_name_do_not_prove_each_other(self) -> None:
        """An address says nothing about a name, and the other way round."""
        self.refuses(leaf("192.0.2.1"))
        self.refuses(right(), "192.0.2.1")

    def test_address_in_common_name_is_refused(self) -> None:
        self.refuses(leaf(subject=name(common_name="192.0.2.1")), "192.0.2.1")


class RefusalTests(TLSTestCase):
    """
    A refusal says which it is, and what the user can do.
    """

    def test_error_has_server_and_certificate(self) -> None:
        """The error has the server and the certificate that it is about."""
        for shown in (expired(), wrong_host(), unknown_ca(), common_name_only()):
            error = self.refuses(shown)
            self.assertEqual(error.server, "pop.example.com:995")
            self.assertSays(error, "pop.example.com:995: the server's certificate")
            self.assertEqual(error.certificate, shown.certificate)

    @shows(
        "certificate 2.4",
        "was issued by another CA, whatever its name",
        'no: names the issuer, or "its signature is wrong"',
    )
    def test_unknown_issuer_error_names_issuer_and_folder(self) -> None:
        """By whom it was issued, and where the issuer's certificate has to go."""
        folder = self.folder([authority()])
        error = self.refuses(unknown_ca(), cacerts=folder)
        self.assertSays(error, "is not trusted", "issued by OU=Somebody Else's CA")
        self.assertSays(error, "put the certificate of OU=Somebody Else's CA", folder)
        # There is a folder: another one is not needed.
        self.assertNotIn("folder with cacerts", str(error))

    def test_unknown_issuer_is_accepted_once_added_to_folder(self) -> None:
        """The remedy is one."""
        folder = self.folder([authority()])
        self.refuses(unknown_ca(), cacerts=folder)
        theirs = authority("Somebody Else's CA").cert_pem.bytes()
        (folder / "theirs.pem").write_bytes(theirs)
        self.accepts(unknown_ca(), cacerts=folder)

    @shows("attack 2.2")
    def test_unknown_root_sent_by_server_is_refused(self) -> None:
        """A chain with its root is refused because of the root."""
        theirs = authority("Somebody Else's CA")
        shown = leaf(HOST, by=theirs, chain=(certificate_of(theirs),))
        error = self.refuses(shown)
        self.assertSays(error, "OU=Somebody Else's CA", "not trusted")

    @shows(
        "attack 2.2",
        "A CA with the name of a trusted one",
        "The same.",
        "Refused, because the signature is not that of the trusted CA.",
    )
    @shows("certificate 2.4")
    def test_impostor_with_name_of_our_ca_is_refused(self) -> None:
        """A CA that merely calls itself like ours is not ours."""
        impostor = leaf(HOST, signer=authority("An Impostor"))
        self.assertSays(self.refuses(impostor), "signature is wrong")

    @shows(
        "certificate 2.2",
        "lacks its intermediate",
        "no: names the issuer, says that the server should send its certificate, "
        "where to put it meanwhile, and where it can be downloaded",
    )
    def test_missing_intermediate_is_named_and_accepted_once_added(self) -> None:
        """The error names the certificate that is missing, and so the remedy."""
        folder = self.folder([authority()])
        shown = behind_intermediate(sent=False)
        error = self.refuses(shown, cacerts=folder)
        self.assertSays(error, "not trusted", "issued by OU=Our Intermediate")
        self.assertSays(error, "whose certificate the server did not send")
        self.assertSays(error, "the server should send its certificate too")
        self.assertSays(error, "put the certificate of OU=Our Intermediate", folder)
        (folder / "it.pem").write_bytes(intermediate().cert_pem.bytes())
        self.accepts(shown, cacerts=folder)

    @shows("certificate 2.2")
    def test_missing_intermediate_is_accepted_from_a_folder_of_its_own(self) -> None:
        """Without a folder, the remedy is one with the intermediate alone in it."""
        shown = behind_intermediate(sent=False)
        error = self.refuses(shown, cacerts=None)
        self.assertSays(error, "should send its certificate", "folder with cacerts")
        self.accepts(shown, cacerts=self.folder([intermediate()]))

    @shows("certificate 2.2")
    def test_missing_intermediate_error_tells_where_to_download_it(self) -> None:
        """Public CAs put the address into the certificate (RFC 5280 4.2.2.1)."""
        ocsp = x509.AccessDescription(
            AuthorityInformationAccessOID.OCSP,
            x509.UniformResourceIdentifier("http://ocsp.example.net/"),
        )
        issuer = x509.AccessDescription(
            AuthorityInformationAccessOID.CA_ISSUERS,
            x509.UniformResourceIdentifier("http://ca.example.net/i.crt"),
        )
        shown = leaf(HOST, by=intermediate(), access=(ocsp, issuer))
        error = self.refuses(shown)
        self.assertSays(error, "from http://ca.example.net/i.crt")
        self.assertNotIn("ocsp", str(error))

    def test_root_sent_and_not_trusted_is_not_called_an_intermediate(self) -> None:
        theirs = authority("Somebody Else's CA")
        shown = leaf(HOST, by=theirs, chain=(certificate_of(theirs),))
        error = self.refuses(shown)
        self.assertSays(error, "root of the server's chain", "if it should be, put it")
        self.assertNotIn("intermediate", str(error))

    @shows(
        "certificate 2.1",
        "ends at a CA of the folder; with intermediates that the server sends",
        "yes",
    )
    def test_intermediate_sent_by_server_is_accepted(self) -> None:
        self.accepts(behind_intermediate(sent=True))

    @shows(
        "certificate 2.3",
        "is self-signed, and not in the folder",
        'no: "self-signed and not trusted"',
    )
    def test_self_signed_is_refused_until_added_to_folder(self) -> None:
        """The folder is named, and putting the certificate there helps."""
        for shown in (self_signed(), self_signed(ca=True)):
            folder = self.folder([authority()])
            error = self.refuses(shown, cacerts=folder)
            self.assertSays(error, "self-signed", "not trusted", "put it")
            (folder / "it.pem").write_bytes(shown.pem)
            self.accepts(shown, cacerts=folder)
            self.assertSays(error, folder)

    @shows("certificate 2.5", "has expired, or is not valid yet", "no: the date")
    def test_expired_certificate_error_gives_the_date(self) -> None:
        error = self.refuses(expired())
        self.assertSays(error, "expired on 2011-12-13 14:15 UTC", "needs a new one")

    @shows("certificate 2.5")
    def test_not_yet_valid_error_gives_date_and_mentions_clock(self) -> None:
        """Most often it is the clock."""
        error = self.refuses(not_yet_valid())
        self.assertSays(error, "not valid before 2987-06-05 04:03 UTC", "clock")

    def test_several_faults_are_reported_as_not_trusted(self) -> None:
        """Where several things are wrong, the error names one of them."""
        shown = leaf(
            "other.example.com",
            by=authority("Somebody Else's CA"),
            end=expired().certificate.not_valid_after_utc.replace(tzinfo=None),
        )
        error = self.refuses(shown)
        self.assertSays(error, "not trusted")

    @shows(
        "certificate 2.6",
        "has a root that has expired",
        "no: names that CA, and the date",
    )
    def test_expired_ca_is_named_in_error(self) -> None:
        """Which certificate it is that has expired: not the server's."""
        ca = expired_authority()
        error = self.refuses(leaf(HOST, by=ca), cacerts=self.folder([ca]))
        self.assertSays(error, "certificate of OU=Expired CA", "expired on 2011-12-13")
        self.assertEqual(error.certificate, certificate_of(ca))

    @shows(
        "RFC 9525-06",
        "MUST",
        "A client without a user ends the connection if nothing matches.",
        "A ``VerificationError``; nothing was sent.",
    )
    def test_wrong_name_error_lists_names_of_certificate(self) -> None:
        """Which names it has."""
        error = self.refuses(wrong_host())
        self.assertSays(error, "is not for pop.example.com")
        self.assertSays(error, "imap.example.com", "smtp.example.com")
        self.assertSays(error, "connect to the server by a name that its certificate")

    def test_wrong_name_error_lists_addresses_of_certificate(self) -> None:
        error = self.refuses(leaf("192.0.2.1", "2001:db8::1"))
        self.assertSays(error, "192.0.2.1", "2001:db8::1")

    @shows("certificate 1.2")
    def test_wrong_name_error_abbreviates_a_thousand_names(self) -> None:
        """Not all of a thousand names are listed; the error says how many are not."""
        shown = leaf(*(f"host{number}.example.com" for number in range(1000)))
        error = self.refuses(shown)
        self.assertSays(error, "host0.example.com", "more")
        self.assertLess(len(str(error)), 1000)

    def test_very_long_name_is_shortened_in_error(self) -> None:
        """What the server sends is bounded where it is shown, a single name too."""
        shown = leaf(raw=raw_names((DNS, b"x" * 20000), (DNS, b"other.example.com")))
        self.assertLess(len(str(self.refuses(shown))), 5000)

    @shows("certificate 1.15")
    def test_certificate_without_usable_name_is_explained(self) -> None:
        """The error says that a common name is not enough."""
        for shown in (common_name_only(), nameless()):
            error = self.refuses(shown)
            self.assertSays(error, "is not for pop.example.com", "no usable name")

    @shows("attack 4.1")
    def test_control_characters_are_escaped_in_error(self) -> None:
        """Names are escaped: they may be written to a terminal or to a log."""
        evil = "evil\x1b[2J\r\nS: +OK"
        error = self.refuses(leaf(raw=raw_names((DNS, evil.encode()))))
        self.assertTrue(str(error).isprintable(), str(error))
        self.assertSays(error, "evil")
        theirs = authority(f"CA {evil}")
        error = self.refuses(leaf(HOST, by=theirs))
        self.assertTrue(str(error).isprintable(), str(error))
        self.assertSays(error, "CA evil")

    @shows(
        "certificate 2.16",
        "has an RSA key of 1,024 bits, or a CA with one",
        'no: "its key is too weak"',
    )
    def test_weak_key_of_server_is_refused(self) -> None:
        error = self.refuses(leaf(HOST, weak=True))
        self.assertSays(error, "not acceptable", "key is too weak")

    def test_client_only_certificate_is_refused_for_a_server(self) -> None:
        """A client's certificate does not make a server."""
        error = self.refuses(leaf(HOST, purpose=ExtendedKeyUsageOID.CLIENT_AUTH))
        self.assertSays(error, "not acceptable", "not for a TLS server")

    @shows("certificate 2.12")
    def test_certificate_issued_by_non_ca_is_refused(self) -> None:
        """The holder of a certificate of our CA does not become a CA."""
        issuer = not_an_authority()
        shown = leaf(HOST, by=issuer, chain=(certificate_of(issuer),))
        error = self.refuses(shown)
        self.assertSays(error, "OU=No CA", "not acceptable", "CA certificate")

    def test_ca_without_key_usage_is_refused(self) -> None:
        """
        Chains are held to RFC 5280, as Python's own ssl does since 3.13.

        Section 4.2.1.3: a CA's certificate has a keyUsage.
        """
        ca = authority_without_key_usage()
        self.refuses(leaf(HOST, by=ca), cacerts=self.folder([ca]))

    @shows(
        "certificate 2.13",
        "has a CA without key usage (``openssl req -x509`` makes them)",
        'no: "a CA certificate has no key usage"',
    )
    def test_error_for_ca_without_key_usage_mentions_key_usage(self) -> None:
        """
        A home-made CA that is not as RFC 5280 section 4.2.1.3 wants it.

        This is the one that users will meet: ``openssl req -x509`` makes them.  The
        number of OpenSSL's error would not tell them what to do.
        """
        ca = authority_without_key_usage()
        error = self.refuses(leaf(HOST, by=ca), cacerts=self.folder([ca]))
        self.assertSays(error, "OU=Home-made CA", "not acceptable", "key usage")

    @shows("attack 2.1")
    def test_refusal_during_stls_reaches_the_caller(self) -> None:
        """With STLS the error is the same, about that command."""
        opening = self.server.open(secure=2, cacerts=self.folder([authority()]))
        self.server.say(b"+OK\r\n")
        self.server.expect(b"CAPA", b"+OK\r\nSTLS\r\n.\r\n")
        self.server.expect(b"STLS", b"+OK\r\n")
        self.server.start_tls(ServerTLS(wrong_host()))
        error = self.error(opening, VerificationError)
        self.assertSays(error, "imap.example.com", "smtp.example.com")
        self.assertEqual(error.certificate, wrong_host().certificate)
        self.assertIsNotNone(error.__cause__)
        self.assertEqual(error.verb, "STLS")
        self.assertEqual(self.server.heard(), b"")


class UnreadableTests(TLSTestCase):
    """
    A certificate that passes OpenSSL, and that cannot be read, is refused.
    """

    def refuses_unreadable(self, shown: Shown) -> None:
        error = self.refuses(shown)
        self.assertIsInstance(error.__cause__, ValueError)
        self.assertSays(error, "certificate", "cannot be read")

    @shows("certificate 1.19", "names that cannot be read", 'no: "cannot be read"')
    def test_address_of_five_bytes_is_refused_as_unreadable(self) -> None:
        self.refuses_unreadable(leaf(raw=raw_names((IP, b"\xc0\x00\x02\x01\x01"))))

    def test_latin_1_name_is_refused_as_unreadable(self) -> None:
        self.refuses_unreadable(leaf(raw=raw_names((DNS, b"b\xfccher.example.com"))))

    @shows("certificate 1.19")
    def test_malformed_list_of_names_is_refused(self) -> None:
        """Where OpenSSL cannot read it either, it is not trusted."""
        self.refuses(leaf(HOST, raw=b"\x04\x02no"))
        self.refuses(leaf(HOST, raw=b"junk"))

    def test_empty_list_of_names_is_refused(self) -> None:
        """The list of names is there, and empty."""
        self.refuses(leaf(raw=raw_names()))


class Broken:
    """
    A certificate that fails when it is asked.

    :param once: whether it does so only the first time.
    """

    def __init__(self, error: BaseException, *, once: bool) -> None:
        self.error: BaseException | None = error
        self.once = once

    def to_cryptography(self) -> x509.Certificate:
        error = self.error
        if error is None:
            return right().certificate
        if self.once:
            self.error = None
        raise error


class FailsClosedTests(SynchronousTestCase):
    """
    Whatever goes wrong while a certificate is judged is a refusal, and its cause.
    """

    errors = (
        ValueError("cannot parse this"),
        TypeError(),
        KeyError("issuer"),
        UnicodeDecodeError("ascii", b"\xff", 0, 1, "no"),
        AssertionError(),
        RecursionError(),
        MemoryError(),
        SSL.Error([("x", "y", "z")]),
        crypto.Error(),
        defer.CancelledError(),
    )
    # These are not subclasses of Exception; they come from outside, and once.
    interruptions = (KeyboardInterrupt(), SystemExit(1), GeneratorExit())

    def check(self) -> IdentityCheck:
        return IdentityCheck(ServerAddress.parse(HOST), Trust(None, True))

    def assertRefuses(
        self, cause: BaseException, once: bool, errno: int, depth: int, ok: bool
    ) -> VerificationError:
        check = self.check()
        broken = cast(crypto.X509, Broken(cause, once=once))
        try:
            verdict = check.judge(broken, errno, depth, ok)
        except BaseException as error:
            raise AssertionError(f"not caught: {error!r}") from None
        self.assertIs(verdict, False)
        self.assertFalse(check.proven)
        refusal = check.refusal
        assert refusal is not None
        self.assertIs(type(refusal), VerificationError)
        self.assertIs(refusal.__cause__, cause)
        return refusal

    def test_exception_while_judging_trusted_chain_is_a_refusal(self) -> None:
        """OpenSSL is content, and we cannot read the name."""
        for error in self.errors:
            for once in (False, True):
                self.assertRefuses(error, once, 0, 0, True)

    @shows(
        "attack 2.7",
        "Something in the check itself raises",
        "The session, by accident.",
        "Any exception counts as a refusal.",
    )
    def test_exception_while_judging_untrusted_chain_is_a_refusal(self) -> None:
        """OpenSSL is not content, and we cannot put into words why."""
        for error in self.errors:
            for once in (False, True):
                self.assertRefuses(error, once, 20, 1, False)

    @shows("attack 2.7")
    def test_interruption_while_judging_is_a_refusal(self) -> None:
        """Ctrl-C at the wrong moment does not make a server trusted."""
        for error in self.interruptions:
            self.assertRefuses(error, True, 0, 0, True)
            self.assertRefuses(error, True, 20, 0, False)

    def test_error_gives_the_exception_and_not_a_wrong_name(self) -> None:
        """A failure of ours is not told as a wrong name, which it is not."""
        cause = ValueError("cannot parse this")
        for errno, ok in ((0, True), (20, False)):
            refusal = self.assertRefuses(cause, True, errno, 0, ok)
            self.assertIn("cannot parse this", str(refusal))
            self.assertNotIn("it is for pop.example.com", str(refusal))

    def test_proof_expires_with_the_certificate(self) -> None:
        """A proof is good for as long as the certificate."""
        check = self.check()
        certificate = leaf(HOST, end=datetime.datetime(2987, 6, 5)).certificate
        check.judge(crypto.X509.from_cryptography(certificate), 0, 0, True)
        end = datetime.datetime.fromtimestamp(check.not_after, datetime.timezone.utc)
        self.assertEqual(end, certificate.not_valid_after_utc)

    def test_refusal_is_not_undone_by_later_success(self) -> None:
        """What comes after a refusal does not undo it."""
        check = self.check()
        good = crypto.X509.from_cryptography(right().certificate)
        self.assertFalse(check.judge(good, 10, 1, False))
        refusal = check.refusal
        self.assertFalse(check.judge(good, 0, 0, True))
        self.assertIs(check.refusal, refusal)

    def test_error_after_proof_is_a_refusal(self) -> None:
        """OpenSSL looks at some things last; they count as well."""
        check = self.check()
        good = crypto.X509.from_cryptography(right().certificate)
        self.assertTrue(check.judge(good, 0, 0, True))
        self.assertFalse(check.judge(good, 47, 0, False))
        self.assertIsNotNone(check.refusal)

    def test_ca_with_right_name_does_not_prove_identity(self) -> None:
        """A CA in the chain that has the right name is not the server."""
        check = self.check()
        good = crypto.X509.from_cryptography(right().certificate)
        self.assertTrue(check.judge(good, 0, 1, True))
        self.assertFalse(check.proven)

    def test_every_openssl_error_number_is_a_refusal_with_a_message(self) -> None:
        """Each number is a refusal in words, the unknown ones too."""
        certificate = crypto.X509.from_cryptography(right().certificate)
        for number in range(1, 120):
            check = self.check()
            self.assertFalse(check.judge(certificate, number, 0, False))
            self.assertIsInstance(check.refusal, VerificationError)
            self.assertIn("certificate", str(check.refusal))


class HandshakeTests(TLSTestCase):
    """
    The proof is part of the handshake, and each connection has its own.
    """

    def context(self) -> ClientContext:
        return ClientContext(Trust.choose(self.folder([authority()]), False, {}))

    def test_right_certificate_proves_identity(self) -> None:
        check = shake_hands(self.context(), ServerTLS())
        self.assertTrue(check.proven)
        self.assertIsNone(check.refusal)

    @shows(
        "RFC 7817-01",
        "MUST",
        "Check the name in every TLS session, after the chain.",
        "Both are checked inside the handshake.",
    )
    @shows("RFC 9525-06")
    @shows("attack 2.1")
    def test_refusal_fails_handshake_and_alerts_server(self) -> None:
        """The handshake itself fails, and the server learns of it by an alert."""
        for shown in (wrong_host(), expired(), unknown_ca()):
            server = ServerTLS(shown)
            with self.assertRaises(SSL.Error):
                shake_hands(self.context(), server)
            assert server.connection is not None
            with self.assertRaises(SSL.Error) as caught:
                server.connection.do_handshake()
            self.assertIn("alert", str(caught.exception))

    @shows("RFC 7817-01")
    @shows(
        "attack 2.3",
        "Two connections at once, one of them with a good certificate",
        "The same, with the good certificate of the other.",
        "The name is checked for each connection.",
    )
    def test_connections_sharing_a_context_check_their_own_names(self) -> None:
        """Connections to several servers share a context, and no proof."""
        context = self.context()
        shown = ServerTLS(leaf("a.example.com"))
        for _ in range(2):
            self.assertTrue(shake_hands(context, shown, "a.example.com").proven)
            with self.assertRaises(SSL.Error):
                shake_hands(context, shown, "b.example.com")

    @shows("attack 2.3")
    def test_interleaved_handshakes_check_their_own_names(self) -> None:
        """Also if their handshakes happen at the same time."""
        folder = self.folder([authority()])
        sessions = []
        for letter in "abc":
            server = Server(Clock())
            host = f"{letter}.example.com"
            opening = server.open(host, secure=1, cacerts=folder)
            sessions.append((host, server, opening))
        for _, server, _ in sessions:
            server.start_tls(ServerTLS(leaf("b.example.com")))
        for host, server, opening in sessions:
            self.server = server
            if host == "b.example.com":
                self.greet()
                self.assertTrue(self.successResultOf(opening).tls.verified)
                server.lose()
            else:
                error = self.error(opening, VerificationError)
                self.assertSays(error, f"is not for {host}")

    def test_unchecked_connection_of_same_context_is_refused(self) -> None:
        """A connection of this context without a check is refused."""
        creator = self.context().creator(ServerAddress.parse(HOST))
        ours = creator.clientConnectionForTLS(cast(Any, None))

        class Context:
            def connection(self, _: object) -> tuple[SSL.Connection, IdentityCheck]:
                check = IdentityCheck(ServerAddress.parse(HOST), Trust(None, True))
                return SSL.Connection(ours.get_context(), None), check

        with self.assertRaises(SSL.Error):
            shake_hands(cast(ClientContext, Context()), ServerTLS())

    def test_finish_without_proof_raises_verification_error(self) -> None:
        """A handshake that is reported as complete without a proof is refused."""
        creator = self.context().creator(ServerAddress.parse(HOST))
        creator.clientConnectionForTLS(cast(Any, None))
        with self.assertRaises(VerificationError) as caught:
            creator.finish()
        self.assertEqual(caught.exception.server, "pop.example.com:110")

    def test_only_openssl_errors_become_tls_errors(self) -> None:
        """An error of TLS itself is a `TLSError`, with its cause."""
        creator = self.context().creator(ServerAddress.parse(HOST))
        cause = SSL.Error([("SSL routines", "", "something new")])
        error = creator.failure(cause)
        assert error is not None
        self.assertIs(type(error), TLSError)
        self.assertIs(error.__cause__, cause)
        self.assertSays(error, "something new")
        self.assertIsNone(creator.failure(OSError()))
        self.assertIsNone(creator.failure(None))
