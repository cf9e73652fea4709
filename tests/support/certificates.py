"""
Certificates of every kind that a server may show, and servers that show them.

CAs come from trustme, certificates from a builder of our own, because most of them
have to be wrong in one way.  Each is made when it is first asked for and kept for
the process: a test asks for the kind it means, and pays for it once.
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import tempfile
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID
from OpenSSL import SSL, crypto
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from pop3connect import Handle, POP3Error, VerificationError
from pop3connect.address import ServerAddress
from pop3connect.tls.client_key import hand_over
from pop3connect.tls.context import ClientContext
from pop3connect.tls.identity import IdentityCheck

from .memory import Latest, Server

E = TypeVar("E", bound=POP3Error)

HOST = "pop.example.com"
"""The name that the tests mean, and that the right certificate has."""

_LONG_AGO = datetime.datetime(2001, 1, 1)
_FAR_OFF = datetime.datetime(2999, 1, 1)


# -- CAs


@cache
def authority(name: str = "Our CA") -> trustme.CA:
    """
    Return the CA of this name.
    """
    return trustme.CA(organization_name="Tests", organization_unit_name=name)


@cache
def intermediate() -> trustme.CA:
    """
    Return a CA that `authority` vouches for.
    """
    return trustme.CA(
        parent_cert=authority(),
        path_length=0,
        organization_name="Tests",
        organization_unit_name="Our Intermediate",
    )


def certificate_of(ca: trustme.CA) -> x509.Certificate:
    """
    Return a CA's own certificate.
    """
    return x509.load_pem_x509_certificate(ca.cert_pem.bytes())


_keys: dict[trustme.CA, Any] = {}


def _key_of(ca: trustme.CA) -> Any:
    if ca not in _keys:
        _keys[ca] = load_pem_private_key(ca.private_key_pem.bytes(), None)
    return _keys[ca]


@cache
def key() -> ec.EllipticCurvePrivateKey:
    """
    Return the key of all certificates here; that they share it harms no test.
    """
    return ec.generate_private_key(ec.SECP256R1())


@cache
def weak_key() -> rsa.RSAPrivateKey:
    """
    Return a key of less than the 112 bits of security that are asked for.
    """
    return rsa.generate_private_key(65537, 1024)


@cache
def strong_rsa_key() -> rsa.RSAPrivateKey:
    """
    Return an RSA key that is long enough.
    """
    return rsa.generate_private_key(65537, 2048)


# -- certificates


class Shown(NamedTuple):
    """
    What a server shows: its certificate, the chain it sends with it, and its key.
    """

    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...] = ()
    key: Any = None

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def key_pem(self) -> bytes:
        return (self.key or key()).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )


def name(common_name: str | None = None, unit: str | None = None) -> x509.Name:
    """
    Return a distinguished name.
    """
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Tests")]
    if unit is not None:
        parts.append(x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit))
    if common_name is not None:
        parts.append(x509.NameAttribute(NameOID.COMMON_NAME, common_name))
    return x509.Name(parts)


def _general(identity: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(identity))
    except ValueError:
        return x509.DNSName(identity)


def raw_names(*names: tuple[int, bytes]) -> bytes:
    """
    Encode a subjectAltName that no library would: tag numbers and octets as given.

    The tags are those of RFC 5280 section 4.2.1.6: 2 is dNSName, 7 iPAddress.
    """
    return _der(0x30, b"".join(_der(0x80 | tag, octets) for tag, octets in names))


def _der(tag: int, octets: bytes) -> bytes:
    size = len(octets)
    if size < 0x80:
        return bytes((tag, size)) + octets
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + octets


@cache
def leaf(
    *identities: str,
    names: tuple[x509.GeneralName, ...] = (),
    raw: bytes | None = None,
    subject: x509.Name | None = None,
    by: trustme.CA | None = None,
    signer: trustme.CA | None = None,
    start: datetime.datetime = _LONG_AGO,
    end: datetime.datetime = _FAR_OFF,
    purpose: x509.ObjectIdentifier = ExtendedKeyUsageOID.SERVER_AUTH,
    weak: bool = False,
    rsa_key: bool = False,
    digest: str = "SHA256",
    chain: tuple[x509.Certificate, ...] = (),
    access: tuple[x509.AccessDescription, ...] = (),
    own: Any = None,
) -> Shown:
    """
    Return a certificate for these DNS names and IP addresses.

    :param names: more names, of other kinds.
    :param raw: the octets of the subjectAltName extension, instead.
    :param by: who issues it; default: `authority`.
    :param signer: who signs it, if not who issued it.
    :param weak: whether it has the `weak_key`.
    :param rsa_key: whether it has the `strong_rsa_key`, for cipher suites of RSA.
    :param digest: the name of the hash that its signature is made with.
    :param access: where information about its issuer is (RFC 5280 section 4.2.2.1).
    :param own: its key; default: one that all certificates share.
    """
    by = by or authority()
    issuer = certificate_of(by)
    if own is None:
        own = weak_key() if weak else strong_rsa_key() if rsa_key else key()
    alternatives = [*map(_general, identities), *names]
    builder = _builder(
        subject or name(unit="A server"), issuer.subject, own, start, end
    ).add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
            issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        ),
        critical=False,
    )
    builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    if access:
        builder = builder.add_extension(
            x509.AuthorityInformationAccess(access), critical=False
        )
    if raw is not None:
        builder = builder.add_extension(
            x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, raw),
            critical=False,
        )
    elif alternatives:
        builder = builder.add_extension(
            x509.SubjectAlternativeName(alternatives), critical=False
        )
    return Shown(_sign(builder, _key_of(signer or by), digest), chain, own)


def _sign(
    builder: x509.CertificateBuilder, signer: Any, digest: str = "SHA256"
) -> x509.Certificate:
    if isinstance(signer, ed25519.Ed25519PrivateKey):
        # It needs none.
        return builder.sign(signer, None)
    return builder.sign(signer, getattr(hashes, digest)())


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    own: Any,
    start: datetime.datetime = _LONG_AGO,
    end: datetime.datetime = _FAR_OFF,
    *,
    ca: bool = False,
    path_length: int | None = None,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(own.public_key()), critical=False
        )
        .add_extension(x509.BasicConstraints(ca, path_length), critical=True)
    )


def right() -> Shown:
    """
    Return what `HOST` should show.
    """
    return leaf(HOST)


def expired() -> Shown:
    return leaf(HOST, end=datetime.datetime(2011, 12, 13, 14, 15))


def not_yet_valid() -> Shown:
    return leaf(HOST, start=datetime.datetime(2987, 6, 5, 4, 3))


def wrong_host() -> Shown:
    return leaf("imap.example.com", "smtp.example.com")


def common_name_only() -> Shown:
    return leaf(subject=name(common_name=HOST))


def nameless() -> Shown:
    """
    Return a certificate with neither a subjectAltName nor a common name.
    """
    return leaf()


def unknown_ca() -> Shown:
    return leaf(HOST, by=authority("Somebody Else's CA"))


def behind_intermediate(*, sent: bool) -> Shown:
    """
    Return a certificate by `intermediate`, which the server sends along or forgets.
    """
    chain = (certificate_of(intermediate()),) if sent else ()
    return leaf(HOST, by=intermediate(), chain=chain)


@cache
def self_signed(*, ca: bool = False) -> Shown:
    """
    Return what a server gives itself.

    :param ca: whether it says that it is a CA, as those of ``openssl req -x509`` do.
    """
    who = name(common_name=HOST)
    builder = _builder(who, who, key(), ca=ca).add_extension(
        x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False
    )
    return Shown(builder.sign(key(), hashes.SHA256()))


@cache
def expired_authority() -> trustme.CA:
    """
    Return a CA whose own certificate has expired; what it issued has not.
    """
    return make_authority("Expired CA", end=datetime.datetime(2011, 12, 13, 14, 15))


@cache
def authority_without_key_usage() -> trustme.CA:
    """
    Return a CA such as ``openssl req -x509`` makes: without a keyUsage.
    """
    return make_authority("Home-made CA", key_usage=False)


@cache
def not_an_authority() -> trustme.CA:
    """
    Return one that issues certificates, and says that it is no CA.
    """
    return make_authority("No CA", ca=False, by=authority())


@cache
def authority_with_ed25519() -> trustme.CA:
    """
    Return a CA whose signatures have no hash of their own (RFC 8410).
    """
    return make_authority("Modern CA", own=ed25519.Ed25519PrivateKey.generate())


def make_authority(
    unit: str,
    *,
    own: Any = None,
    end: datetime.datetime = _FAR_OFF,
    key_usage: bool = True,
    ca: bool = True,
    path_length: int | None = None,
    extensions: tuple[tuple[x509.ExtensionType, bool], ...] = (),
    by: trustme.CA | None = None,
) -> trustme.CA:
    """
    Return a CA that is special in some way; `authority` is one that is not.

    :param own: its key.
    :param ca: whether its certificate says that it is one.
    :param extensions: each with whether it is critical.
    :param by: who vouches for it; default: itself.
    """
    own = own or ec.generate_private_key(ec.SECP256R1())
    subject = name(unit=unit)
    issuer = certificate_of(by) if by else None
    builder = _builder(
        subject,
        issuer.subject if issuer else subject,
        own,
        end=end,
        ca=ca,
        path_length=path_length,
    )
    if issuer:
        ski = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ski.value),
            critical=False,
        )
    if key_usage:
        builder = builder.add_extension(
            x509.KeyUsage(True, False, False, False, False, ca, ca, False, False),
            critical=True,
        )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    signed = _sign(builder, _key_of(by) if by else own)
    made = trustme.CA.from_pem(
        signed.public_bytes(Encoding.PEM),
        own.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )
    _keys[made] = own
    return made


@cache
def rsa_authority() -> trustme.CA:
    """
    Return a CA with an RSA key, such as MD5 was used with.
    """
    return make_authority("RSA CA", own=rsa.generate_private_key(65537, 2048))


def signed_with(digest: hashes.HashAlgorithm, number: int) -> Shown:
    """
    Return a certificate with a signature that is no longer in use.

    No library makes it, so the one with SHA-256 is signed again.

    :param number: the last part of the algorithm's name, 1.2.840.113549.1.1.
    """
    shown = leaf(HOST, by=rsa_authority())
    oid = bytes.fromhex("06092a864886f70d0101")
    old, new = oid + b"\x0b", oid + bytes([number])
    body = shown.certificate.tbs_certificate_bytes.replace(old, new)
    made = _key_of(rsa_authority()).sign(body, padding.PKCS1v15(), digest)
    whole = shown.der.replace(shown.certificate.tbs_certificate_bytes, body)
    whole = whole.replace(old, new).replace(shown.certificate.signature, made)
    return Shown(x509.load_der_x509_certificate(whole))


def odd_certificates(shown: Shown) -> dict[str, bytes]:
    """
    Return encodings of a certificate that OpenSSL parses, and cryptography does not.

    The signatures are wrong, of course.
    """
    der = shown.der
    start = shown.certificate.not_valid_before_utc.strftime("%y%m%d%H%M%SZ").encode()
    number = shown.certificate.serial_number
    serial = number.to_bytes(number.bit_length() // 8 + 1, "big")
    changes = {
        "time": (start, start[:-1] + b"X"),
        "month": (start, start[:2] + b"99" + start[4:]),
        "version": (b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x05"),
        "serial number": (serial, bytes([serial[0] | 0x80]) + serial[1:]),
        "critical": (b"\x01\x01\xff", b"\x01\x01\x01"),
        "dNSName": (b"localhost", b"local\xffost"),
        "extension twice": (b"\x06\x03\x55\x1d\x0e", b"\x06\x03\x55\x1d\x11"),
    }
    odd = {}
    for what, (old, new) in changes.items():
        assert old in der, what
        odd[what] = der.replace(old, new, 1)
    return odd


def client_identity(who: str = "ada") -> Shown:
    """
    Return a certificate for a client.
    """
    return leaf(subject=name(common_name=who), purpose=ExtendedKeyUsageOID.CLIENT_AUTH)


# -- servers


@implementer(IOpenSSLServerConnectionCreator)
class ServerTLS:
    """
    Makes the server's side of TLS, and remembers what the client said in it.

    :ivar asked_for: the server names (RFC 6066 section 3) of the connections.
    :param newest: the newest version of TLS that it speaks.
    :param ciphers: the cipher suites that it speaks, up to TLS 1.2.
    :param client_ca: whose client certificates it insists on.
    :param der: its certificate, where no library but OpenSSL can parse it.
    """

    def __init__(
        self,
        shown: Shown | None = None,
        *,
        newest: int = SSL.TLS1_3_VERSION,
        ciphers: bytes = b"ALL",
        client_ca: trustme.CA | None = None,
        der: bytes | None = None,
    ) -> None:
        self._der = der
        self._shown = shown = shown or right()
        self.asked_for: list[bytes | None] = []
        self.connection: SSL.Connection | None = None
        self._context = context = SSL.Context(SSL.TLS_SERVER_METHOD)
        # What the client accepts is to be the client's decision.
        context.set_cipher_list(ciphers + b":@SECLEVEL=0")
        # Without, OpenSSL resumes nothing where client certificates are asked for.
        context.set_session_id(b"tests")
        if newest < SSL.TLS1_2_VERSION:
            context.set_min_proto_version(newest)
        context.set_max_proto_version(newest)
        for certificate in shown.chain:
            hand_over(context.add_extra_chain_cert, certificate)
        if der is not None:
            # Only from a file does pyOpenSSL take it without a warning.
            with tempfile.NamedTemporaryFile() as file:
                file.write(der)
                file.flush()
                context.use_certificate_file(file.name, crypto.FILETYPE_ASN1)
            hand_over(context.use_privatekey, shown.key or key())
        if client_ca is not None:
            store = context.get_cert_store()
            assert store is not None
            store.add_cert(crypto.X509.from_cryptography(certificate_of(client_ca)))
            context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT)
        asked_for = self.asked_for
        context.set_tlsext_servername_callback(
            lambda connection: asked_for.append(connection.get_servername())
        )

    def show(self, shown: Shown) -> None:
        """
        Show this certificate to the connections to come.
        """
        self._shown = shown

    def serverConnectionForTLS(self, protocol: object) -> SSL.Connection:
        self.connection = connection = SSL.Connection(self._context, None)
        if self._der is None:
            shown = self._shown
            hand_over(connection.use_certificate, shown.certificate)
            hand_over(connection.use_privatekey, shown.key or key())
        return connection

    @property
    def client_chain(self) -> list[x509.Certificate]:
        """
        The certificates that the client of the last connection has shown.
        """
        assert self.connection is not None
        certificate = self.connection.get_peer_certificate()
        if certificate is None:
            return []
        # On the server's side OpenSSL leaves the client's own out of the chain.
        rest = [
            other.to_cryptography()
            for other in self.connection.get_peer_cert_chain() or ()
        ]
        own = certificate.to_cryptography()
        return [own, *(other for other in rest if other != own)]


def shake_hands(
    context: ClientContext, server: ServerTLS, host: str = HOST
) -> IdentityCheck:
    """
    Do a handshake with nothing but OpenSSL, and return what came of its check.

    :raises SSL.Error: there is no TLS.
    """
    connection, check = context.connection(ServerAddress.parse(host))
    assert check is not None
    shake_hands_over(connection, server)
    return check


def shake_hands_over(ours: SSL.Connection, server: ServerTLS) -> None:
    """
    Do a handshake over a client's connection.

    :raises SSL.Error: there is no TLS.
    """
    theirs = server.serverConnectionForTLS(None)
    ours.set_connect_state()
    theirs.set_accept_state()
    done = False
    while not done:
        try:
            ours.do_handshake()
            done = True
        except SSL.WantReadError:
            pass
        finally:
            # Also if there is an error: the other side gets the alert.
            _carry(ours, theirs)
        with contextlib.suppress(SSL.WantReadError):
            theirs.do_handshake()
        _carry(theirs, ours)


def _carry(source: SSL.Connection, target: SSL.Connection) -> None:
    with contextlib.suppress(SSL.WantReadError):
        while True:
            target.bio_write(source.bio_read(65536))


# -- tests


class TLSTestCase(SynchronousTestCase):
    """
    A test of sessions with a server that shows certificates.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.server = Server(self.clock)
        self.endpoint = Latest(self)
        # The TLS context of the last session that was logged in.
        self.last_context: Any = None
        self.status: list[str] = []
        self.addCleanup(self._nothing_left)

    def _nothing_left(self) -> None:
        if self.server.client is not None:
            self.server.settle()
            self.server.lose()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.flushWarnings(), [])

    def folder(self, files: Mapping[str, bytes] | Iterable[trustme.CA] = ()) -> Path:
        """
        Make a cacerts folder with these files, or with the certificates of these CAs.
        """
        folder = Path(self.mktemp())
        folder.mkdir(parents=True)
        if not isinstance(files, Mapping):
            files = {
                f"ca {number}.pem": ca.cert_pem.bytes()
                for number, ca in enumerate(files)
            }
        for file, content in files.items():
            (folder / file).write_bytes(content)
        return folder.absolute()

    def open(
        self, creator: ServerTLS | None = None, server: str = HOST, **options: Any
    ) -> Deferred[Handle]:
        """
        Open a session with TLS at once, as far as the end of the handshake.

        By default `authority` is trusted, and the server shows the `right`
        certificate.
        """
        options.setdefault("secure", 1)
        options.setdefault("stsproc", self.status.append)
        if options.get("verify", True) and "cacerts" not in options:
            options["cacerts"] = self.folder([authority()])
        # Each has a connection of its own, and finds what an earlier one has left.
        self.server = Server(self.clock)
        options.setdefault("endpoint", self.endpoint)
        opening = self.server.open(server, **options)
        self.server.start_tls(creator or ServerTLS())
        return opening

    def log_in(
        self, creator: ServerTLS | None = None, server: str = HOST, **options: Any
    ) -> Handle:
        """
        Open a session and log in: the server is accepted.
        """
        opening = self.open(creator, server, **options)
        self.greet()
        handle: Handle = self.successResultOf(opening)
        self.last_context = handle._protocol.settings.context
        return handle

    def greet(self) -> None:
        """
        Play the rest of the server's part, inside TLS.
        """
        self.server.say(b"+OK ready\r\n")
        self.play_login()

    def play_login(self) -> None:
        """
        Play what follows the greeting, inside TLS.
        """
        capabilities = b"+OK\r\nUSER\r\n.\r\n"
        heard = self.server.heard()
        if heard == b"CAPA\r\n":
            # Nothing is remembered of the server.
            self.server.say(capabilities)
            heard = self.server.heard()
        self.assertEqual(heard, b"USER ada\r\n")
        self.server.say(b"+OK\r\n")
        self.server.expect(b"PASS lovelace", b"+OK\r\n")
        self.server.expect(b"CAPA", capabilities)

    def accepts(
        self, creator: ServerTLS | Shown, server: str = HOST, **options: Any
    ) -> Handle:
        """
        Check that the server is believed, and end the session.
        """
        if isinstance(creator, Shown):
            creator = ServerTLS(creator)
        handle = self.log_in(creator, server, **options)
        assert handle.tls is not None
        self.assertTrue(handle.tls.verified)
        self.server.lose()
        return handle

    def refuses(
        self, creator: ServerTLS | Shown, server: str = HOST, **options: Any
    ) -> VerificationError:
        """
        Check that the server is not believed, and is told nothing (RFC 8314, 5.2).
        """
        if isinstance(creator, Shown):
            creator = ServerTLS(creator)
        opening = self.open(creator, server, **options)
        self.server.say(b"+OK ready\r\n")
        self.assertEqual(self.server.heard(), b"")
        return self.error(opening, VerificationError)

    def rejects(self, kind: type[E], **options: Any) -> E:
        """
        Check that `connect` fails before anybody is called.
        """
        options.setdefault("secure", 1)
        self.server = Server(self.clock)
        error = self.error(self.server.open(**options), kind)
        self.assertIsNone(self.server.client)
        return error

    def error(self, opening: Any, kind: type[E]) -> E:
        """
        Return the error, of just this type, that has closed the connection.
        """
        self.server.settle()
        error = self.failureResultOf(opening).value
        if type(error) is not kind:
            raise AssertionError(f"not {kind.__name__}: {error!r}") from error
        if self.server.client is not None:
            wire = self.server.transport
            self.assertTrue(wire.disconnecting or wire.lost)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        return error

    def assertSays(self, error: BaseException, *words: object) -> None:
        """
        Check that an error tells all of this.
        """
        text = str(error)
        for word in words:
            self.assertIn(str(word), text)
