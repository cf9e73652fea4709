"""
Reads certificates: PEM, DER and PKCS #7, one or many, from files and from bytes.
"""

from __future__ import annotations

import base64
import os
import re
import stat
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from OpenSSL import crypto

__all__ = ["facts", "read_certificates", "read_file"]

MAX_FILE = 16 * 1024 * 1024
"""Bytes of a file with certificates.  The bundle of all public CAs has less than 1 MiB;
no larger file is read."""

_PEM_LINE = re.compile(
    rb"-----(BEGIN|END) ((?:X509 |TRUSTED )?CERTIFICATE|PKCS7|PKCS #7 SIGNED DATA|CMS)"
    rb"-----"
)
"""The labels of RFC 7468 sections 5, 8 and 9, and the older ones of OpenSSL."""


def facts(about: os.stat_result) -> tuple[int, ...]:
    """Return values that differ when a file has been changed or replaced."""
    # The time of change can't be set back, as that of modification can.
    return about.st_mtime_ns, about.st_ctime_ns, about.st_size, about.st_ino


_OPEN_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_NONBLOCK", 0)
)


def read_file(
    path: Path, seen: set[tuple[int, int]], limit: int = MAX_FILE
) -> bytes | None:
    """
    Return the bytes of a regular file; ``None`` if it was read before.

    :param seen: the device and inode of each file that was read.  Distributions put
        one or two links to each certificate into their folders.
    :param limit: bytes; a larger file is not read.
    :raises OSError: it is not a regular file, too large, or cannot be read.
    """
    # Opening a device can do something, so it is not even opened.
    _check_file(os.stat(path), limit)
    # If it was replaced by a pipe in between, O_NONBLOCK keeps the reactor running.
    with open(os.open(path, _OPEN_FLAGS), "rb") as file:
        about = os.fstat(file.fileno())
        _check_file(about, limit)
        identity = (about.st_dev, about.st_ino)
        if identity in seen:
            return None
        seen.add(identity)
        data = file.read(limit + 1)
    if len(data) > limit:  # It has grown since.
        raise _too_large(limit)
    return data


def _too_large(limit: int) -> OSError:
    return OSError(f"it is too large: more than {limit >> 20} MiB")


def _check_file(about: os.stat_result, limit: int) -> None:
    if stat.S_ISDIR(about.st_mode):
        raise OSError("it is a folder, and only the files beside it are read")
    if not stat.S_ISREG(about.st_mode):
        raise OSError("it is not a regular file")
    if about.st_size > limit:
        raise _too_large(limit)


def read_certificates(data: bytes) -> tuple[list[crypto.X509], int]:
    """Return the certificates in a file, and how many could not be read."""
    found: list[crypto.X509] = []
    blocks, bad = _pem_blocks(data)
    if not blocks and data[:1] == _SEQUENCE:
        blocks = _der_blocks(data)
    for block in blocks:
        for certificate in _unbundled(block):
            # By OpenSSL, whose store it is for: cryptography parses certificates that
            # OpenSSL refuses, and warns of a serial number below 1.
            try:
                found.append(crypto.load_certificate(crypto.FILETYPE_ASN1, certificate))
            except crypto.Error:
                bad += 1
    return found, bad


def _pem_blocks(data: bytes) -> tuple[list[bytes], int]:
    """Return the PEM blocks, decoded, and how many are cut off or not base64."""
    blocks: list[bytes] = []
    bad = 0
    begun: re.Match[bytes] | None = None
    for line in _PEM_LINE.finditer(data):
        if line[1] == b"BEGIN":
            bad += begun is not None
            begun = line
        elif begun is not None:
            # A TRUSTED CERTIFICATE says what it is trusted for, which may be nothing.
            # That isn't read here, so such a block must not count.
            if line[2] == begun[2] and not line[2].startswith(b"TRUSTED"):
                body = data[begun.end() : line.start()]
                try:
                    blocks.append(base64.b64decode(b"".join(body.split()), None, True))
                except ValueError:
                    bad += 1
            else:
                bad += 1
            begun = None
    return blocks, bad + (begun is not None)


_SEQUENCE = b"\x30"


_SMALLEST = 100
"""Bytes.  No certificate has fewer; a file of smaller values is something else, and is
not looked at value by value."""


def _der_blocks(data: bytes) -> list[bytes]:
    """Split DER values that stand one behind the other (X.690 section 8.1.3)."""
    blocks = []
    start = 0
    while start < len(data):
        size = _der_size(data[start : start + 6])
        end = len(data) if size is None or size < _SMALLEST else start + size
        blocks.append(data[start:end])
        start = end
    return blocks


def _der_size(head: bytes) -> int | None:
    """Return the bytes of the value that begins so; ``None`` if that is not known."""
    if head[:1] != _SEQUENCE or len(head) < 2:
        return None
    if head[1] < 0x80:
        return 2 + head[1]
    digits = head[1] & 0x7F
    if not 1 <= digits <= 4:
        # An indefinite length: a PKCS #7 file in BER.
        return None
    return 2 + digits + int.from_bytes(head[2 : 2 + digits], "big")


def _unbundled(block: bytes) -> list[bytes]:
    """Return the certificates in a PKCS #7 bundle; anything else as it is."""
    # Whatever the label of the PEM block was: Windows writes PKCS #7 as CERTIFICATE.
    try:
        bundle = pkcs7.load_der_pkcs7_certificates(block)
    except Exception:  # noqa: BLE001 - cryptography raises exceptions of many types
        return [block]
    return [certificate.public_bytes(Encoding.DER) for certificate in bundle]
