"""
Reads the certificates that a server shows, for people and for programs.

They come from whoever answered: what cannot be read is left out, and what is shown
is printable.
"""

from __future__ import annotations

import base64
import hashlib

import attrs
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ..redaction import printable

__all__ = ["CertificateFacts", "facts_of", "pin"]


@attrs.frozen
class CertificateFacts:
    """
    What a certificate says.

    :ivar names: the DNS names and IP addresses that it is for.
    :ivar not_before: from when it is valid, UTC, as in ISO 8601.
    :ivar not_after: until when.
    :ivar sha256: the hash of the certificate, in hexadecimal digits.
    """

    subject: str
    issuer: str
    names: list[str]
    not_before: str
    not_after: str
    sha256: str


def facts_of(certificate: x509.Certificate) -> CertificateFacts:
    """Read a certificate."""
    encoded = certificate.public_bytes(Encoding.DER)
    return CertificateFacts(
        subject=_distinguished(certificate.subject),
        issuer=_distinguished(certificate.issuer),
        names=_names(certificate),
        not_before=certificate.not_valid_before_utc.isoformat(),
        not_after=certificate.not_valid_after_utc.isoformat(),
        sha256=hashlib.sha256(encoded).hexdigest(),
    )


def pin(certificate: x509.Certificate) -> str | None:
    """
    Return the hash of a certificate's public key, as RFC 7469 section 2.4 writes it.

    :return: base64 of SHA-256 of the SubjectPublicKeyInfo; ``None`` if the key is of
        a kind that nobody here knows.
    """
    try:
        key = certificate.public_key()
    except (UnsupportedAlgorithm, ValueError):
        return None
    info = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(info).digest()).decode("ascii")


def _distinguished(name: x509.Name) -> str:
    return _shown(name.rfc4514_string())


def _shown(text: str) -> str:
    return printable(text.encode("utf-8", "replace"))


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        ).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return []
    addresses = map(str, names.get_values_for_type(x509.IPAddress))
    return [*map(_shown, names.get_values_for_type(x509.DNSName)), *addresses]
