"""
Pins: hashes of public keys, by which a server is known whatever its certificate says.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable
from typing import Any

from OpenSSL import crypto

from ..errors import UsageError
from ..redaction import printable
from ..remedies import Option

__all__ = ["check_pins", "pin_of"]

_PIN = re.compile(r"sha256//([A-Za-z0-9+/]{43}=)")


def pin_of(certificate: crypto.X509) -> str | None:
    """
    Return the pin of a certificate: the hash of its public key.

    :return: ``sha256//`` and the base64 of SHA-256 of the SubjectPublicKeyInfo, as in
        RFC 7469 section 2.4; ``None`` for a key that OpenSSL does not know.
    """
    try:
        info = crypto.dump_publickey(crypto.FILETYPE_ASN1, certificate.get_pubkey())
    except crypto.Error:
        return None
    return f"sha256//{base64.b64encode(hashlib.sha256(info).digest()).decode('ascii')}"


def check_pins(pins: Any) -> tuple[str, ...]:
    """
    Return the pins of an argument of `connect`.

    :raises UsageError: it is not a list of pins, or it is empty.
    """
    if isinstance(pins, (str, bytes)) or not isinstance(pins, Iterable):
        raise UsageError(
            " must be a list of pins, such as ['sha256//...'], not "
            f"{type(pins).__name__}",
            option=Option("pins"),
        )
    known = tuple(pins)
    if not known:
        raise UsageError(
            " is empty; give the pin of the server's key, or leave the option out",
            option=Option("pins"),
        )
    for pin in known:
        if not _is_pin(pin):
            shown = printable(repr(pin).encode("utf-8", "backslashreplace"))[:100]
            raise UsageError(
                f": {shown} is not a pin; write 'sha256//' and the base64 of the "
                "SHA-256 of the public key, 44 characters, as 'pop3connect info' shows "
                "it",
                option=Option("pins"),
            )
    return known


def _is_pin(pin: object) -> bool:
    found = _PIN.fullmatch(pin) if isinstance(pin, str) else None
    # One hash has one form: the last digit before the pad has two bits that must be 0.
    return found is not None and (
        base64.b64encode(base64.b64decode(found[1])).decode("ascii") == found[1]
    )
