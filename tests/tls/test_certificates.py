"""
Chains of every kind: which are believed, and what is said of the others.

`docs/certificates.rst` is the table of them; the names in a certificate are in
`test_identity`, and the files of the folder in `test_trust`.
"""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from functools import cache

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from pop3connect import VerificationError
from pop3connect.tls.context import ContextKeeper
from pop3connect.tls.trust import Trust

from ..support.certificates import (
    HOST,
    Shown,
    TLSTestCase,
    authority,
    behind_intermediate,
    certificate_of,
    intermediate,
    leaf,
    make_authority,
    name,
    right,
    rsa_authority,
    signed_with,
    unknown_ca,
    weak_key,
)
from ..support.shows import shows

PAST = datetime.datetime(2011, 12, 13, 14, 15)


@cache
def below(parent: trustme.CA, unit: str, path_length: int | None = None) -> trustme.CA:
    """
    Return a CA that another vouches for.
    """
    return make_authority(unit, by=parent, path_length=path_length)


@cache
def constrained(
    permitted: tuple[str, ...] = (), excluded: tuple[str, ...] = ()
) -> trustme.CA:
    """
    Return a CA below ours that may issue for some domains only (RFC 5280, 4.2.1.10).
    """
    constraints = x509.NameConstraints(
        [x509.DNSName(domain) for domain in permitted] or None,
        [x509.DNSName(domain) for domain in excluded] or None,
    )
    return make_authority(
        "Constrained CA", by=authority(), extensions=((constraints, True),)
    )


def by(issuer: trustme.CA, *above: trustme.CA, host: str = HOST) -> Shown:
    """
    Return a certificate by a CA, with the chain above it.
    """
    chain = tuple(certificate_of(ca) for ca in (issuer, *above))
    return leaf(host, by=issuer, chain=chain)


class ChainTests(TLSTestCase):
    """
    What a CA may do (RFC 5280 section 4.2.1).
    """

    def refused_for(self, shown: Shown, *words: str) -> VerificationError:
        error = self.refuses(shown)
        self.assertSays(error, "is not acceptable", *words)
        return error

    @shows(
        "certificate 2.8",
        "has a CA with name constraints that allow the name",
        "yes",
    )
    def test_name_within_ca_name_constraints_is_accepted(self) -> None:
        self.accepts(by(constrained(permitted=("example.com",))))
        self.accepts(by(constrained(excluded=("example.org",))))

    @shows(
        "certificate 2.9",
        "has a CA with name constraints that exclude a name of the certificate",
        'no: "may not issue certificates for this name"',
    )
    def test_name_outside_ca_name_constraints_is_refused(self) -> None:
        self.refused_for(by(constrained(permitted=("example.org",))), "for this name")
        self.refused_for(by(constrained(excluded=("example.com",))), "for this name")
        # Nor for one of several.
        ca = constrained(permitted=("example.com",))
        chain = (certificate_of(ca),)
        several = leaf(HOST, "pop.example.org", by=ca, chain=chain)
        self.refused_for(several, "for this name")

    @shows("certificate 2.9")
    def test_common_name_does_not_bypass_name_constraints(self) -> None:
        """
        A common name is no way around them: it does not count anyway.
        """
        ca = constrained(permitted=("example.org",))
        chain = (certificate_of(ca),)
        shown = leaf(
            "pop.example.org", by=ca, chain=chain, subject=name(common_name=HOST)
        )
        self.refuses(shown)

    @shows("certificate 2.9")
    def test_address_outside_ca_address_constraints_is_refused(self) -> None:
        """
        Constraints on names say nothing about addresses, in either direction.
        """
        network = x509.IPAddress(ipaddress.ip_network("192.0.2.0/24"))
        ca = make_authority(
            "Constrained CA",
            by=authority(),
            extensions=((x509.NameConstraints([network], None), True),),
        )
        self.accepts(by(ca, host="192.0.2.1"), "192.0.2.1")
        error = self.refuses(by(ca, host="198.51.100.1"), "198.51.100.1")
        self.assertSays(error, "for this name")

    @shows("certificate 2.10", "is as long as the path lengths allow", "yes")
    def test_chain_at_path_length_limit_is_accepted(self) -> None:
        one = below(authority(), "One", 1)
        two = below(one, "Two", 0)
        self.accepts(by(two, one))

    @shows(
        "certificate 2.11",
        "is longer than that",
        'no: "longer than a CA of it allows"',
    )
    def test_chain_beyond_path_length_limit_is_refused(self) -> None:
        one = below(authority(), "One", 1)
        two = below(one, "Two", 0)
        three = below(two, "Three")
        self.refused_for(by(three, two, one), "longer than a CA of it allows")

    @shows(
        "certificate 2.12",
        "has an issuer without the CA flag",
        'no: "is not a CA certificate"',
    )
    def test_ca_without_ca_flag_is_refused(self) -> None:
        """
        Without basicConstraints' CA flag; with the right to sign certificates.
        """
        ca = make_authority("No CA flag", by=authority(), ca=False)
        self.refused_for(by(ca), "OU=No CA flag", "CA certificate")

    @shows("certificate 2.14")
    def test_ca_limited_to_client_auth_is_refused(self) -> None:
        """
        A CA for client certificates makes no servers.
        """
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        ca = make_authority("Clients' CA", by=authority(), extensions=((usage, False),))
        self.refused_for(by(ca), "OU=Clients' CA")

    @shows(
        "certificate 2.14",
        "is not for a server, or was issued by a CA for another purpose",
        'no: "not for a TLS server"',
    )
    def test_certificate_not_for_tls_servers_is_refused(self) -> None:
        for purpose in (
            ExtendedKeyUsageOID.CODE_SIGNING,
            ExtendedKeyUsageOID.EMAIL_PROTECTION,
            ExtendedKeyUsageOID.OCSP_SIGNING,
        ):
            self.refused_for(leaf(HOST, purpose=purpose), "not for a TLS server")

    @shows(
        "certificate 2.15",
        "is signed with MD5 or SHA-1",
        'no: "signed with a hash that is too weak"',
    )
    def test_md5_and_sha1_signatures_are_refused(self) -> None:
        """
        MD5 and SHA-1; the same certificate with SHA-256 is good.
        """
        folder = self.folder([rsa_authority()])
        for digest, number in ((hashes.MD5(), 4), (hashes.SHA1(), 5)):
            error = self.refuses(signed_with(digest, number), cacerts=folder)
            self.assertSays(error, "hash that is too weak")
        self.accepts(signed_with(hashes.SHA256(), 11), cacerts=folder)

    @shows("certificate 2.16")
    def test_ca_with_weak_key_is_refused(self) -> None:
        """
        In the folder or below it: a key of 1,024 bits is too weak.
        """
        root = make_authority("Weak CA", own=weak_key())
        error = self.refuses(leaf(HOST, by=root), cacerts=self.folder([root]))
        self.assertSays(error, "the key of a CA in its chain is too weak")
        under = make_authority("Weak CA", own=weak_key(), by=authority())
        self.refused_for(by(under), "too weak")

    @shows("certificate 2.17", "has an unknown extension", "yes, unless it is critical")
    def test_unknown_extension_is_refused_only_if_critical(self) -> None:
        """
        A critical one has to be understood (RFC 5280 section 4.2), and others need not.
        """
        odd = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\5\0")
        for critical in (False, True):
            ca = make_authority(
                f"Odd CA {critical}", by=authority(), extensions=((odd, critical),)
            )
            if critical:
                self.refused_for(
                    by(ca), "critical extension that OpenSSL does not know"
                )
            else:
                self.accepts(by(ca))

    @shows("certificate 1.2", "more than a thousand names", "yes")
    def test_certificate_with_1500_names_is_matched_and_error_stays_short(self) -> None:
        many = [f"h{number}.example.com" for number in range(1500)]
        self.accepts(leaf(*many, HOST))
        error = self.refuses(leaf(*many))
        self.assertLess(len(str(error)), 2000)


class ManyAuthoritiesTests(TLSTestCase):
    """
    More CAs than one, and which of them counts.
    """

    def roots(self) -> tuple[trustme.CA, trustme.CA]:
        """
        Return a CA twice: with one key, and certificates that end at different times.
        """
        own = ec.generate_private_key(ec.SECP256R1())
        old = make_authority("Our CA, renewed", own=own, end=PAST)
        return old, make_authority("Our CA, renewed", own=own)

    @shows(
        "certificate 2.7",
        "the same, with its successor in the folder",
        "yes, in any order",
    )
    def test_valid_root_is_used_when_expired_copy_is_also_in_folder(self) -> None:
        """
        In either order: the one that is valid counts.
        """
        old, new = self.roots()
        shown = leaf(HOST, by=new)
        self.accepts(shown, cacerts=self.folder([old, new]))
        self.accepts(shown, cacerts=self.folder([new, old]))
        error = self.refuses(shown, cacerts=self.folder([old]))
        self.assertSays(error, "expired on 2011-12-13")

    @shows("certificate 2.7")
    def test_expired_root_sent_by_server_does_not_hide_valid_root(self) -> None:
        """
        What a server sends does not stand in the way of what is in the folder.
        """
        old, new = self.roots()
        shown = leaf(HOST, by=new, chain=(certificate_of(old),))
        self.accepts(shown, cacerts=self.folder([new]))

    @shows("certificate 3.1", "two CAs of one name", "both")
    def test_cas_with_the_same_name_are_both_trusted(self) -> None:
        """
        Two companies may well call their CA "CA"; both of them count.
        """
        twins = [make_authority("CA"), make_authority("CA")]
        folder = self.folder(twins)
        for twin in twins:
            self.accepts(leaf(HOST, by=twin), cacerts=folder)
        third = make_authority("CA")
        self.refuses(leaf(HOST, by=third), cacerts=folder)

    @shows(
        "certificate 2.18",
        "is cross-signed: an old root has signed a new one",
        "yes, if either of them is in the folder",
    )
    def test_cross_signed_chain_is_accepted_with_either_root(self) -> None:
        """
        A new root that an old one vouches for, where only the old one is trusted.
        """
        own = ec.generate_private_key(ec.SECP256R1())
        old_root = make_authority("Old root")
        new_root = make_authority("New root", own=own)
        bridge = make_authority("New root", own=own, by=old_root)
        below_it = below(new_root, "Below the new root")
        shown = by(below_it, bridge)
        for known in ([old_root], [new_root], [old_root, new_root], [bridge]):
            self.accepts(shown, cacerts=self.folder(known))
        self.refuses(shown)

    @shows(
        "certificate 2.19",
        "has two certificates of one CA, by different roots",
        "OpenSSL takes the first one. If that is the wrong one, put the CA's own "
        "certificate into the folder",
    )
    def test_second_certificate_of_ca_is_used_only_from_the_folder(self) -> None:
        """
        OpenSSL takes the first that fits, and does not come back to the second.

        Where that is the wrong one, the CA's own certificate in the folder helps.
        """
        own = ec.generate_private_key(ec.SECP256R1())
        one, other = make_authority("One root"), make_authority("Other root")
        first = make_authority("Of two roots", own=own, by=one)
        second = make_authority("Of two roots", own=own, by=other)
        shown = by(first, second)
        self.accepts(shown, cacerts=self.folder([one]))
        self.refuses(shown, cacerts=self.folder([other]))
        self.accepts(shown, cacerts=self.folder([other, second]))

    @shows("certificate 2.20", "goes in a circle, or has fifty certificates", "no")
    def test_cas_that_sign_each_other_are_refused(self) -> None:
        """
        No CA of the folder is among them; the search for a root ends anyway.
        """
        own, theirs = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        one = make_authority("One of two", own=own)
        two = make_authority("Two of two", own=theirs, by=one)
        circle = make_authority("One of two", own=own, by=two)
        chain = (certificate_of(two), certificate_of(circle))
        self.refuses(leaf(HOST, by=two, chain=chain))

    @shows("certificate 2.21", "comes with certificates that are not needed", "yes")
    def test_unrelated_certificates_in_chain_are_ignored(self) -> None:
        """
        Certificates that are not needed, in any order.
        """
        others = [certificate_of(make_authority(f"Other {n}")) for n in range(20)]
        ca = certificate_of(intermediate())
        for chain in ((*others, ca), (ca, *others)):
            self.accepts(leaf(HOST, by=intermediate(), chain=chain))

    @shows("certificate 2.20")
    def test_chain_of_fifty_cas_is_refused(self) -> None:
        """
        Fifty CAs, one below the other; OpenSSL has a lower limit.
        """
        own = ec.generate_private_key(ec.SECP256R1())
        cas = [authority()]
        for number in range(50):
            cas.append(make_authority(f"CA {number}", own=own, by=cas[-1]))
        chain = tuple(certificate_of(ca) for ca in reversed(cas[1:]))
        error = self.refuses(leaf(HOST, by=cas[-1], chain=chain))
        self.assertSays(error, "is not")

    @shows(
        "certificate 3.2",
        "10,000 certificates",
        "all; they are read again only after a change",
    )
    def test_trusted_ca_is_found_among_10000_certificates_read_once(self) -> None:
        """
        In a hundred files.  They are read once, and the one that counts is found.
        """
        folder = self.folder([authority()])
        template = certificate_of(make_authority("CA number 00000"))
        der = template.public_bytes(Encoding.DER)
        # The signature of a root by itself is not checked.
        ders = [der.replace(b"number 00000", b"number %05d" % n) for n in range(10_000)]
        for file in range(100):
            pems = map(ssl.DER_cert_to_PEM_cert, ders[file::100])
            (folder / f"{file}.pem").write_text("".join(pems))
        trust = Trust.choose(folder, False, {})
        keeper = ContextKeeper(trust)
        self.assertIs(keeper.current(), keeper.current())
        self.accepts(right(), cacerts=folder)
        self.refuses(unknown_ca(), cacerts=folder)


class PartialChainTests(TLSTestCase):
    """
    A certificate in the folder is trusted as it stands there (partial chains).
    """

    @shows(
        "certificate 3.4",
        "an intermediate alone (a *partial chain*)",
        "certificates that it issued, with or without its root",
    )
    def test_intermediate_in_folder_is_trusted_without_its_root(self) -> None:
        """
        Its root need not be there, whether the server sends it or not.
        """
        folder = self.folder([intermediate()])
        self.accepts(behind_intermediate(sent=False), cacerts=folder)
        self.accepts(behind_intermediate(sent=True), cacerts=folder)

    @shows(
        "certificate 3.5",
        "the same, and a certificate that its root has issued",
        "not the latter",
    )
    def test_root_of_trusted_intermediate_is_not_trusted(self) -> None:
        """
        What the root issues otherwise is not trusted by that.
        """
        self.refuses(right(), cacerts=self.folder([intermediate()]))

    @shows(
        "certificate 3.6",
        "the same, with a path length, name constraints or an expiry date",
        "certificates within these limits",
    )
    def test_constraints_of_trusted_intermediate_still_apply(self) -> None:
        """
        Path length and names count from it as they would from the root.
        """
        self.assertEqual(
            certificate_of(intermediate())
            .extensions.get_extension_for_class(x509.BasicConstraints)
            .value.path_length,
            0,
        )
        deeper = below(intermediate(), "Deeper")
        error = self.refuses(by(deeper), cacerts=self.folder([intermediate()]))
        self.assertSays(error, "longer than a CA of it allows")
        ca = constrained(permitted=("example.org",))
        error = self.refuses(leaf(HOST, by=ca), cacerts=self.folder([ca]))
        self.assertSays(error, "for this name")

    @shows("certificate 3.6")
    def test_expired_intermediate_in_folder_is_refused(self) -> None:
        ca = make_authority("Expired intermediate", by=authority(), end=PAST)
        for folder in (self.folder([ca]), self.folder([ca, authority()])):
            error = self.refuses(leaf(HOST, by=ca), cacerts=folder)
            self.assertSays(error, "OU=Expired intermediate", "expired on 2011-12-13")
