"""
Reads the certificates that a server shows, for people and for programs.

Any machine can answer at an address, so a certificate may hold any bytes that OpenSSL
accepts.  Everything shown is printable, and a certificate that cannot be parsed is
described by what OpenSSL prints of it.
"""

from __future__ import annotations

import datetime
import hashlib
import re
import warnings

import attrs
from cryptography import x509
from OpenSSL import crypto

from ..redaction import printable

__all__ = ["CertificateFacts", "facts_of"]


@attrs.frozen
class CertificateFacts:
    """
    The facts in a certificate; of one that cannot be parsed, those OpenSSL can read.

    :ivar names: the DNS names and IP addresses that it is for.
    :ivar not_before: the beginning of its validity, UTC, ISO 8601; empty if unreadable.
    :ivar not_after: the end of its validity, likewise.
    :ivar sha256: the hash of the certificate, in hexadecimal digits.
    :ivar problem: why it cannot be parsed; ``None`` if it can.
    """

    subject: str
    issuer: str
    names: list[str]
    not_before: str
    not_after: str
    sha256: str
    problem: str | None = None


def facts_of(shown: crypto.X509) -> CertificateFacts:
    """Return the facts in a certificate; a malformed one raises nothing."""
    encoded = crypto.dump_certificate(crypto.FILETYPE_ASN1, shown)
    sha256 = hashlib.sha256(encoded).hexdigest()
    try:
        with warnings.catch_warnings():
            # Of a serial number below 1: a warning in this release of cryptography, and
            # announced as an exception.
            warnings.simplefilter("error")
            return _parsed(shown.to_cryptography(), sha256)
    except Exception as error:  # noqa: BLE001 - ValueError, InvalidVersion, warnings, ...
        problem = f"{type(error).__name__}: {_shown(str(error))}"
    return _printed_by_openssl(shown, sha256, problem)


def _parsed(certificate: x509.Certificate, sha256: str) -> CertificateFacts:
    return CertificateFacts(
        subject=_shown(certificate.subject.rfc4514_string()),
        issuer=_shown(certificate.issuer.rfc4514_string()),
        names=_names(certificate),
        not_before=certificate.not_valid_before_utc.isoformat(),
        not_after=certificate.not_valid_after_utc.isoformat(),
        sha256=sha256,
    )


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        ).value
    except x509.ExtensionNotFound:
        return []
    addresses = map(str, names.get_values_for_type(x509.IPAddress))
    return [*map(_shown, names.get_values_for_type(x509.DNSName)), *addresses]


def _printed_by_openssl(
    shown: crypto.X509, sha256: str, problem: str
) -> CertificateFacts:
    # OpenSSL escapes control characters in names, so no name can forge a line.
    text = crypto.dump_certificate(crypto.FILETYPE_TEXT, shown)

    def line(label: bytes) -> bytes:
        found = re.search(rb"^ *%s *: *(.*)$" % label, text, re.MULTILINE)
        return found[1].strip() if found else b""

    return CertificateFacts(
        subject=printable(line(b"Subject")),
        issuer=printable(line(b"Issuer")),
        names=[],
        not_before=_iso(line(b"Not Before")),
        not_after=_iso(line(b"Not After")),
        sha256=sha256,
        problem=problem,
    )


def _iso(printed: bytes) -> str:
    """Return in ISO 8601 what OpenSSL prints as ``Jan  1 00:00:00 2001 GMT``."""
    try:
        naive = datetime.datetime.strptime(
            printed.decode("ascii"), "%b %d %H:%M:%S %Y GMT"
        )
    except ValueError:
        return ""
    return naive.replace(tzinfo=datetime.timezone.utc).isoformat()


def _shown(text: str) -> str:
    return printable(text.encode("utf-8", "replace"))
