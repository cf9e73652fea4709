"""
Proves the identity of a server, and puts a refusal into words.

The chain, the name and the pin are all proven inside the handshake, in one callback of
OpenSSL: whatever goes wrong there, of whatever type, is a refusal, and the
reason reaches the caller.  service-identity compares names and OpenSSL builds the
chain; this module asks them and puts the answer into words.
"""

from __future__ import annotations

import ipaddress
import math
import os
import re
from contextlib import suppress
from pathlib import Path

import attrs
from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID
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
from ..remedies import Option, Remedy, literal
from .options import TLSOptions
from .pins import pin_of
from .trust import Trust, name_unusable

__all__ = ["IdentityCheck", "tls_error"]

_MAX_NAMES = 8
"""Names of a certificate that are listed in a refusal."""

_MAX_NAME = 250
"""Characters of a name that are shown."""


@attrs.define(eq=False)
class IdentityCheck:
    """
    What the handshake of one connection has to prove, and the result.

    :ivar trust: the certificates that the chain must end at; ``None``: only the pin
        counts.
    :ivar unusable: a warning for each file of the cacerts folder that could not be
        used: it may hold the certificate that is missing.
    :ivar pins: the server's key must have one of them; none: any key will do.
    :ivar crl: the file with the revocation lists, if there is one.
    :ivar proven: whether the server has shown a certificate that proves it.
    :ivar not_after: until when that certificate is valid, as a POSIX time.
    """

    server: ServerAddress
    trust: Trust | None
    unusable: tuple[str, ...] = ()
    pins: tuple[str, ...] = ()
    crl: Path | None = None
    proven: bool = False
    not_after: float = 0.0
    refusal: VerificationError | None = None

    @property
    def means(self) -> str:
        """What proves the identity; a pin beside a chain does not replace it."""
        return "pin" if self.trust is None else "chain"

    def judge(self, certificate: crypto.X509, errno: int, depth: int, ok: bool) -> bool:
        """
        Judge one certificate of the chain; the server's own (depth 0) comes last.

        :param ok: what OpenSSL thinks; if not, ``errno`` is why.
        """
        try:
            self._judge(certificate, errno, depth, ok)
        except BaseException as error:  # noqa: BLE001 - fails closed, with its reason
            self.refusal = _refused(self, certificate, error)
        return self.refusal is None

    def _judge(
        self, certificate: crypto.X509, errno: int, depth: int, ok: bool
    ) -> None:
        if self.trust is None:
            if depth > 0:
                # Nothing but the key of the server's own certificate counts.
                return
            self.not_after = math.inf
        elif not ok:
            # The issuer of a CA's certificate need not be in the CRL file.
            if errno != _NO_CRL or depth == 0:
                self.refusal = _refused_chain(
                    self, self.trust, certificate, errno, depth
                )
            return
        elif depth > 0:
            return
        else:
            parsed = certificate.to_cryptography()
            _check_name(parsed, self.server)
            self.not_after = parsed.not_valid_after_utc.timestamp()
        self.refusal = self.refusal or self._pin_problem(certificate)
        self.proven = self.refusal is None

    def resume(self, certificate: crypto.X509 | None) -> None:
        """
        Check the certificate that came with a session that was resumed.

        :raises VerificationError: its key has none of the pins.
        """
        self.refusal = self._pin_problem(certificate)
        if self.refusal is not None:
            raise self.refusal

    def _pin_problem(self, shown: crypto.X509 | None) -> VerificationError | None:
        if not self.pins:
            return None
        pin = None if shown is None else pin_of(shown)
        if pin in self.pins:
            return None
        certificate = None
        if shown is not None:
            # Without pins too, it may be one that cryptography cannot parse.
            with suppress(Exception):
                certificate = shown.to_cryptography()
        key = f"the pin {pin}" if pin else "no pin, because OpenSSL does not know it"
        return VerificationError(
            f"the server's public key has {key}; it is not among the "
            f"{len(self.pins)} expected",
            certificate=certificate,
            server=str(self.server),
            remedy=_OTHER_KEY,
        )


_OTHER_KEY = Remedy(
    "if the server's operator confirms that this key is new, add its pin to {}; "
    "otherwise another machine may answer in the server's place",
    (Option("pins"),),
)


def _check_name(certificate: x509.Certificate, server: ServerAddress) -> None:
    """
    Prove that a certificate is for this server (RFC 9525 section 6).

    The common name does not count.  An identifier that is invalid is ignored, and the
    others beside it count.
    """
    dns, ips = _names(certificate)
    exact: list[DNSPattern | IPAddressPattern] = [IPAddressPattern(ip) for ip in ips]
    wildcards: list[DNSPattern | IPAddressPattern] = []
    for name in dns:
        # service-identity drops blanks around a name, and then it would match.
        if not _DNS_NAME.fullmatch(name):
            continue
        try:
            pattern = DNSPattern.from_bytes(name.encode("ascii"))
        except CertificateError:
            continue
        (wildcards if "*" in name else exact).append(pattern)
    stand_in = _stand_in(server)
    if stand_in is not None:
        try:
            verify_service_identity(wildcards, [stand_in], [])
        except (NameMismatch, CertificateError):
            pass
        else:
            return
    verify_service_identity(exact + wildcards, [_reference(server)], [])


# The preferred name syntax (RFC 5280 section 4.2.1.6), the underscore of private
# networks, and the asterisk of a wildcard.
_DNS_NAME = re.compile(r"[A-Za-z0-9_*-]+(?:\.[A-Za-z0-9_*-]+)*")


def _stand_in(server: ServerAddress) -> DNS_ID | None:
    """
    Return the reference for wildcards, if the left-most label is an A-label.

    A wildcard stands for any one label (RFC 9525 section 6.3), but by a rule of RFC
    6125 service-identity does not let it stand for an A-label.  So the A-label is
    replaced by another label; a wildcard matches either.
    """
    label, dot, parent = server.host.partition(".")
    if server.is_ip or not dot or not label.startswith("xn--"):
        return None
    return DNS_ID(f"label.{parent}")


def _reference(server: ServerAddress) -> DNS_ID | IPAddress_ID:
    if server.is_ip:
        # A zone ("%eth0") has a meaning on this host only.
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
_NO_CRL = 3
_NOT_YET_VALID = 9
_EXPIRED = 10
_SELF_SIGNED = 18
_SELF_SIGNED_ROOT = 19
_UNKNOWN_ISSUER = (2, 20, 21, 27)
_BAD_SIGNATURE = 7
_MISSING = (_SELF_SIGNED, _SELF_SIGNED_ROOT, *_UNKNOWN_ISSUER, _BAD_SIGNATURE)
"""A further certificate in the folder could help."""

_REASONS = {
    _BAD_SIGNATURE: "its signature is wrong",
    22: "its chain is too long",
    23: "it has been revoked",
    24: "a certificate of its chain is not a CA certificate",
    25: "its chain is longer than a CA of it allows",
    26: "it is not for a TLS server",
    28: "a CA of its chain is not accepted for this purpose",
    32: "a CA of its chain may not sign certificates",
    34: "it has a critical extension that OpenSSL does not know",
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

_CRL_REASONS = {
    _NO_CRL: "has no list of its issuer in it",
    4: "has a list of its issuer that cannot be read",
    8: "has a list of its issuer whose signature is wrong",
    11: "has a list of its issuer that is not valid yet",
    12: "has a list of its issuer that has expired",
    15: "has a list of its issuer with a malformed date",
    16: "has a list of its issuer with a malformed date",
    33: "has no list that its issuer has signed",
    35: "has a list whose issuer may not sign such lists",
    36: "has a list of its issuer with a critical extension that OpenSSL does not know",
    44: "has a list of its issuer that is for other certificates",
    54: "has a list whose own issuer is not trusted",
}
"""Why the CRL file does not tell whether a certificate has been revoked."""


def _reason(errno: int) -> str:
    names = {
        value: name
        for name, value in vars(getattr(SSL, "X509VerificationCodes", object)).items()
        if name.startswith("ERR_")
    }
    name = names.get(errno, "")
    return _REASONS.get(errno) or f"OpenSSL's verification error {errno} {name}".strip()


def _refused_chain(
    check: IdentityCheck,
    trust: Trust,
    refused: crypto.X509,
    errno: int,
    depth: int,
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
        remedy = f"if it should be, {trust.adding('it')}"
    elif errno == _SELF_SIGNED_ROOT:
        reason = (
            f"is not trusted: it is the root of the server's chain, and is not among "
            f"{trust}"
        )
        remedy = f"if it should be, {trust.adding('it')}"
    elif errno in _UNKNOWN_ISSUER:
        issuer = _dn(certificate.issuer)
        reason = (
            f"is not trusted: it was issued by {issuer}, which is not among "
            f"{trust}, and whose certificate the server did not send"
        )
        remedy = (
            "if that is an intermediate CA, the server should send its certificate "
            "too, which its operator can change; meanwhile, or if it is a CA of your "
            f"own, {trust.adding(f'the certificate of {issuer}')}"
            + literal(_download(certificate))
        )
    elif errno in _CRL_REASONS:
        reason = (
            "may have been revoked: the CRL file "
            f"{printable(os.fsencode(check.crl or ''))} {_CRL_REASONS[errno]}"
        )
        remedy = literal(
            f"put a current list of {_dn(certificate.issuer)} into that file"
        )
    else:
        reason = f"is not acceptable: {_reason(errno)}"
        remedy = "the server's operator has to change that"
    # Only the server's operator can correct its own certificate; in all other cases,
    # the missing certificate may be in a file that could not be used.
    unusable = name_unusable(check.unusable) if depth or errno in _MISSING else ""
    return VerificationError(
        f"{which} {reason}{unusable}",
        certificate=certificate,
        server=str(check.server),
        remedy=Remedy(remedy, (Option("cacerts"),)),
    )


def _download(certificate: x509.Certificate) -> str:
    """Return where a certificate says that its issuer's is (RFC 5280 4.2.2.1)."""
    try:
        access = certificate.extensions.get_extension_for_class(
            x509.AuthorityInformationAccess
        ).value
    except (x509.ExtensionNotFound, ValueError):
        return ""
    for description in access:
        location = description.access_location
        if description.access_method == AuthorityInformationAccessOID.CA_ISSUERS and (
            isinstance(location, x509.UniformResourceIdentifier)
        ):
            return (
                "; the certificate says that it can be downloaded from "
                f"{_short(location.value)}"
            )
    return ""


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
            shown = f"it is for {', '.join(names[:_MAX_NAMES])}"
            if len(names) > _MAX_NAMES:
                shown += f" and {len(names) - _MAX_NAMES} more"
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


def _describe(error: SSL.Error, options: TLSOptions) -> tuple[str, Remedy | None]:
    """Put an error of OpenSSL into words, with what the user may do about it."""
    reasons = [
        str(entry[-1])
        for entry in (error.args[0] if error.args else ())
        if isinstance(entry, tuple) and entry
    ]
    text = printable((", ".join(reasons) or str(error) or "no reason given").encode())
    for words, explanation in _EXPLANATIONS.items():
        if any(word in text for word in words):
            own = _OWN.get(explanation)
            if own is not None and getattr(options, own[0]) != getattr(_USUAL, own[0]):
                return f"{text}; {own[1]}", Remedy("change {}", (Option(own[0]),))
            return f"{text}; {explanation}", _REMEDIES.get(explanation)
    return text, None


_NO_TLS_THERE = "the server does not seem to speak TLS there"

_REMEDIES = {
    _NO_TLS_THERE: Remedy(
        "use {} for port 995, or {} for port 110",
        (Option("secure", 1), Option("secure", 2)),
    )
}
"""Explanation -> what the user can do; for others, the operator has to act."""

_OPERATOR = "; the server's operator has to change that"

_OLD_VERSION = (
    "the server offers nothing newer than TLS 1.1, which is refused (RFC 8997)"
    + _OPERATOR
)

_OLD_CIPHERS = (
    "the server accepts no cipher suite that is offered here (TLS 1.2 or later with "
    "ECDHE or DHE and AES or ChaCha20), so it offers only older ones, such as RSA key "
    f"exchange, SHA-1, 3DES or RC4{_OPERATOR}; a server that asks for a client "
    "certificate may answer in this way as well"
)

_USUAL = TLSOptions()

_OWN = {
    _OLD_VERSION: (
        "minimum_version",
        "the server does not offer the version that is the oldest allowed here",
    ),
    _OLD_CIPHERS: (
        "ciphers",
        "the server may accept none of the cipher suites that were chosen here",
    ),
}
"""Explanations where the caller has set the option, which is the likelier reason."""

_EXPLANATIONS = {
    ("wrong version number", "record layer failure", "packet length too long"): (
        _NO_TLS_THERE
    ),
    ("protocol version", "unsupported protocol"): _OLD_VERSION,
    ("dh key too small", "modulus too small", "bad dh value"): (
        "the server offers a Diffie-Hellman key of fewer than 2,048 bits for the key "
        f"exchange, which can be broken{_OPERATOR} (parameters of 2,048 bits, or ECDHE)"
    ),
    ("handshake failure", "insufficient security", "no shared cipher"): _OLD_CIPHERS,
    ("unsafe legacy renegotiation",): (
        f"the server offers no secure renegotiation (RFC 5746){_OPERATOR}"
    ),
    ("wrong signature type", "legacy sigalg disallowed"): (
        "the server offers only signatures with a hash that is too weak, such as "
        f"SHA-1{_OPERATOR}"
    ),
}
"""Explanations of OpenSSL's errors, by words in their texts."""


def tls_error(
    error: SSL.Error,
    server: str,
    options: TLSOptions = _USUAL,
) -> TLSError:
    """
    Make the error for a TLS that OpenSSL gave up.

    :param options: what the caller chose, which may be the reason.
    """
    text, remedy = _describe(error, options)
    failed = TLSError(f"TLS failed: {text}", server=server, remedy=remedy)
    failed.__cause__ = error
    return failed
