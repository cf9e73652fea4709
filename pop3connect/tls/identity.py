"""
Proves that a server is who it should be, and words the refusal if it is not.

The chain and the name are both proven inside the handshake, in one callback of
OpenSSL: whatever goes wrong there, of whatever type, is a refusal, and the
reason reaches the caller.  Names are the business of service-identity, chains
that of OpenSSL; this module asks them and puts the answer into words.
"""

from __future__ import annotations

import ipaddress

import attrs
from cryptography import x509
from OpenSSL import SSL, crypto
from service_identity import CertificateError
from service_identity import VerificationError as NameMismatch
from service_identity.hazmat import (
    DNS_ID,
    DNSPattern,
    IPAddress_ID,
    IPAddressPattern,
    verify_service_identity,
)

from ..address import ServerAddress
from ..errors import TLSError, VerificationError
from ..redaction import printable
from .trust import Trust

__all__ = ["IdentityCheck", "tls_error"]

_MAX_NAMES = 8
"""So many names of a certificate are listed in a refusal."""

_MAX_NAME = 250
"""Characters of a name that are shown."""


@attrs.define(eq=False)
class IdentityCheck:
    """
    What the handshake of one connection has to prove, and what came of it.

    :ivar proven: whether the server has shown a certificate that proves it.
    :ivar not_after: until when that certificate is valid, as a POSIX time.
    """

    server: ServerAddress
    trust: Trust
    proven: bool = False
    not_after: float = 0.0
    refusal: VerificationError | None = None

    def judge(self, certificate: crypto.X509, errno: int, depth: int, ok: bool) -> bool:
        """
        Judge one certificate of the chain; the server's own (depth 0) comes last.

        :param ok: what OpenSSL thinks; if not, ``errno`` is why.
        """
        try:
            if not ok:
                self.refusal = _refused_chain(self, certificate, errno, depth)
            elif depth == 0:
                parsed = certificate.to_cryptography()
                _check_name(parsed, self.server)
                self.not_after = parsed.not_valid_after_utc.timestamp()
                self.proven = True
        except BaseException as error:  # noqa: BLE001 - fails closed, with its reason
            self.refusal = _refused(self, certificate, error)
        return self.refusal is None


def _check_name(certificate: x509.Certificate, server: ServerAddress) -> None:
    """
    Prove that a certificate is for this server (RFC 9525 section 6).

    The common name does not count, nor does an identifier that is invalid; the
    others beside it do.
    """
    dns, ips = _names(certificate)
    patterns: list[DNSPattern | IPAddressPattern] = []
    for name in dns:
        try:
            patterns.append(DNSPattern.from_bytes(name.encode("utf-8")))
        except CertificateError:
            continue
    patterns += [IPAddressPattern(ip) for ip in ips]
    verify_service_identity(
        patterns,
        [_reference(server)],
        [],
    )


def _reference(server: ServerAddress) -> DNS_ID | IPAddress_ID:
    if server.is_ip:
        # A zone ("%eth0") is the business of this host alone.
        return IPAddress_ID(server.host.partition("%")[0])
    return DNS_ID(server.host)


_IP = ipaddress.IPv4Address | ipaddress.IPv6Address


def _names(certificate: x509.Certificate) -> tuple[list[str], list[_IP]]:
    try:
        extension = certificate.extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
    except x509.ExtensionNotFound:
        return [], []
    names = extension.value
    addresses = names.get_values_for_type(x509.IPAddress)
    return names.get_values_for_type(x509.DNSName), [
        ip
        for ip in addresses
        if isinstance(ip, (ipaddress.IPv4Address, ipaddress.IPv6Address))
    ]


# -- refusals, put into words

# X509_V_ERR_* of OpenSSL's x509_vfy.h: the ones a user meets.
_NOT_YET_VALID = 9
_EXPIRED = 10
_SELF_SIGNED = 18
_UNKNOWN_ISSUER = (2, 19, 20, 21, 27)
_REASONS = {
    7: "its signature is wrong",
    22: "its chain is too long",
    23: "it has been revoked",
    24: "a certificate of its chain is no CA certificate",
    25: "its chain is longer than a CA of it allows",
    26: "it is not for a TLS server",
    28: "a CA of its chain is not accepted for this purpose",
    32: "a CA of its chain may not sign certificates",
    34: "it has a critical extension that nobody here knows",
    47: "a CA of its chain may not issue certificates for this name",
    48: "a CA of its chain must not issue certificates for this name",
    66: "its key is too weak",
    67: "the key of a CA in its chain is too weak",
    68: "it is signed with a hash that is too weak",
    79: "a CA certificate of its chain has no valid basic constraints",
    85: "a certificate of its chain has no authority key identifier",
    86: "a certificate of its chain has no subject key identifier",
    89: "a CA certificate's basic constraints are not critical",
    92: "a CA certificate has no key usage",
}


def _reason(errno: int) -> str:
    names = {
        value: name
        for name, value in vars(getattr(SSL, "X509VerificationCodes", object)).items()
        if name.startswith("ERR_")
    }
    name = names.get(errno, "")
    return _REASONS.get(errno) or f"OpenSSL's verification error {errno} {name}".strip()


def _refused_chain(
    check: IdentityCheck, refused: crypto.X509, errno: int, depth: int
) -> VerificationError:
    certificate = refused.to_cryptography()
    which = "the server's certificate"
    if depth > 0:
        which = f"the certificate of {_dn(certificate.subject)}, in the server's chain,"
    if errno == _EXPIRED:
        reason = f"expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
        remedy = "the server needs a new one"
    elif errno == _NOT_YET_VALID:
        reason = (
            f"is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
        )
        remedy = "is the clock of this computer right?"
    elif errno == _SELF_SIGNED:
        reason = "is self-signed and not trusted"
        remedy = _put_into_folder(check.trust, "it")
    elif errno in _UNKNOWN_ISSUER:
        reason = (
            f"is not trusted: it was issued by {_dn(certificate.issuer)}, which is "
            f"not among {check.trust}"
        )
        remedy = _put_into_folder(check.trust, "the issuer's certificate")
    else:
        reason = f"is not acceptable: {_reason(errno)}"
        remedy = "the server's operator has to mend that"
    return VerificationError(
        f"{which} {reason}; {remedy}", certificate=certificate, server=str(check.server)
    )


def _put_into_folder(trust: Trust, what: str) -> str:
    if trust.folder is not None:
        return (
            f"if it should be, put {what} (PEM or DER) into the folder {trust.folder}"
        )
    return (
        f"if it should be, put {what} (PEM or DER) into a folder of your own and "
        "name the folder with cacerts="
    )


def _refused(
    check: IdentityCheck, refused: crypto.X509, error: BaseException
) -> VerificationError:
    """Word the refusal of a server's own certificate, whatever the reason."""
    certificate = None
    shown = "it has no usable name"
    try:
        certificate = refused.to_cryptography()
        dns, ips = _names(certificate)
        names = [*map(_short, dns), *map(str, ips)]
        if names:
            more = f" and {len(names) - _MAX_NAMES} more" * (len(names) > _MAX_NAMES)
            shown = f"it is for {', '.join(names[:_MAX_NAMES])}{more}"
    except Exception as unreadable:  # noqa: BLE001 - it stays a refusal
        shown = f"it cannot be read: {_short(str(unreadable))}"
    if isinstance(error, (NameMismatch, CertificateError)):
        reason = (
            f"is not for {check.server.host}: {shown}; connect to the server by a name "
            "that its certificate has"
        )
    else:
        reason = f"cannot be read: {type(error).__name__}: {_short(str(error))}"
    refusal = VerificationError(
        f"the server's certificate {reason}",
        certificate=certificate,
        server=str(check.server),
    )
    refusal.__cause__ = error
    return refusal


def _short(text: str) -> str:
    shown = printable(text.encode("utf-8", "surrogatepass"))
    return shown if len(shown) <= _MAX_NAME else f"{shown[:_MAX_NAME]}..."


def _dn(name: x509.Name) -> str:
    return _short(name.rfc4514_string()) or "nobody (it has no name)"


def _describe(error: SSL.Error) -> str:
    """Put an error of OpenSSL into words, with what the user may do about it."""
    reasons = [
        str(entry[-1])
        for entry in (error.args[0] if error.args else ())
        if isinstance(entry, tuple) and entry
    ]
    text = printable((", ".join(reasons) or str(error) or "no reason given").encode())
    if any(word in text for word in _NO_TLS):
        return (
            f"{text}; the server does not seem to speak TLS there: secure=1 is for "
            "port 995, secure=2 for port 110"
        )
    if "protocol version" in text or "unsupported protocol" in text:
        return f"{text}; the server has nothing newer than TLS 1.1, which is refused"
    return text


_NO_TLS = ("wrong version number", "record layer failure", "packet length too long")


def tls_error(error: SSL.Error, server: str) -> TLSError:
    """Make the error for a TLS that OpenSSL gave up."""
    failed = TLSError(f"TLS failed: {_describe(error)}", server=server)
    failed.__cause__ = error
    return failed
