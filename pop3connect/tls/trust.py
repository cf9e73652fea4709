"""
Which certificates are trusted: the cacerts folder, the platform's store, or both.

Users may add files under any name at any time.  Each file is read on its own, a file
that cannot be used is named and does not affect the others, and a change is noticed
at the next connection.
"""

from __future__ import annotations

import base64
import os
import re
import stat
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from OpenSSL import SSL, crypto

from ..errors import TLSError, UsageError
from ..redaction import printable
from ..remedies import Option

__all__ = ["CACERTS_VARIABLE", "Fingerprint", "Trust", "facts", "name_unusable"]

CACERTS_VARIABLE = "POP3CONNECT_CACERTS"
"""Names the cacerts folder for a `connect` without the argument ``cacerts``."""

_MAX_FILE = 16 * 1024 * 1024
"""Bytes.  The bundle of all public CAs has less than 1 MiB; no larger file is read."""

_PEM_LINE = re.compile(
    rb"-----(BEGIN|END) ((?:X509 |TRUSTED )?CERTIFICATE|PKCS7|PKCS #7 SIGNED DATA|CMS)"
    rb"-----"
)
"""The labels of RFC 7468 sections 5, 8 and 9, and the older ones of OpenSSL."""

_MAX_NAMED = 5
"""Unusable files that an error names; the log has all of them."""

Fingerprint = tuple[object, ...]


@attrs.frozen
class Trust:
    """
    The source of the trusted certificates.

    :ivar folder: the cacerts folder, or ``None``.
    :ivar system: whether the platform's store counts too.
    """

    folder: Path | None
    system: bool

    @classmethod
    def choose(
        cls,
        cacerts: str | os.PathLike[str] | None,
        system_trust: bool,
        environment: Mapping[str, str],
    ) -> Trust:
        """
        Decide by the arguments of `connect`, then by `CACERTS_VARIABLE`.

        :raises UsageError: what is named is not a folder.
        """
        source = ""
        option: Option | None = Option("cacerts")
        if cacerts is None:
            cacerts = environment.get(CACERTS_VARIABLE) or None
            source, option = f"the environment variable {CACERTS_VARIABLE}", None
        if cacerts is None:
            return cls(None, True)
        try:
            if not os.fspath(cacerts):
                raise ValueError("it is empty")
            folder = Path(cacerts).absolute()
            there, is_folder = folder.exists(), folder.is_dir()
        except (TypeError, ValueError, OSError) as error:
            raise UsageError(
                f"{source}: {cacerts!r} is not the path of a folder: {error}",
                option=option,
            ) from error
        if not is_folder:
            what = "is not a folder" if there else "does not exist"
            raise UsageError(
                f"{source}: {folder} {what}; name the folder that holds the "
                "certificates of the CAs to trust",
                option=option,
            )
        return cls(folder, system_trust)

    def __str__(self) -> str:
        """Name the trusted certificates, as part of a sentence."""
        names = []
        if self.folder is not None:
            names.append(f"the certificates in the folder {self.folder}")
        if self.system:
            names.append("the CA certificates of this system")
        return " and ".join(names)

    def fingerprint(self) -> Fingerprint:
        """
        Return a value that differs when the folder has changed.

        :raises TLSError: the folder cannot be listed.
        """
        if self.folder is None:
            return ()
        try:
            with os.scandir(self.folder) as entries:
                return tuple(
                    sorted(
                        (entry.name, *_facts_of(entry))
                        for entry in entries
                        if not _is_hidden(entry.name)
                    )
                )
        except OSError as error:
            raise _unreadable(self.folder, error) from error

    def load_into(self, context: SSL.Context) -> list[str]:
        """
        Add the trusted certificates to the store of a context.

        :return: a warning for each file that could not be used, or only in part.
        :raises TLSError: the folder cannot be listed, or has no usable certificate.
        """
        warnings: list[str] = []
        if self.folder is not None:
            certificates, warnings = _read_folder(self.folder)
            if not certificates:
                raise TLSError(
                    f"the cacerts folder {self.folder} has no usable certificate in "
                    "it; put the CA's certificate (PEM, DER or PKCS #7) there"
                    + name_unusable(warnings)
                )
            store = context.get_cert_store()
            assert store is not None
            for certificate in certificates:
                store.add_cert(certificate)
        if self.system:
            context.set_default_verify_paths()
            if sys.platform in ("win32", "darwin"):  # pragma: no cover
                # OpenSSL finds no store there.
                import certifi

                context.load_verify_locations(certifi.where())
        return warnings


def name_unusable(warnings: Sequence[str]) -> str:
    """Return the end of an error's sentence: the files that could not be used."""
    named = "".join(f"; {warning}" for warning in warnings[:_MAX_NAMED])
    more = len(warnings) - _MAX_NAMED
    return named + (f"; and {more} more, which the log names" if more > 0 else "")


def facts(about: os.stat_result) -> tuple[int, ...]:
    """Return values that differ when a file has been changed or replaced."""
    # The time of change can't be set back, as that of modification can.
    return about.st_mtime_ns, about.st_ctime_ns, about.st_size, about.st_ino


def _is_hidden(name: str) -> bool:
    # Such are the files of editors, file managers and Kubernetes.
    return name.startswith(".")


def _facts_of(entry: os.DirEntry[str]) -> tuple[int, ...]:
    try:
        about = entry.stat()
    except OSError:
        # A dangling link, which `_read_file` will name; or the file was just removed.
        return ()
    if stat.S_ISREG(about.st_mode):
        return facts(about)
    # It is not read, so a change in it (of a folder's time) changes nothing.
    return (stat.S_IFMT(about.st_mode),)


def _read_folder(folder: Path) -> tuple[list[crypto.X509], list[str]]:
    certificates: list[crypto.X509] = []
    warnings: list[str] = []
    seen: set[tuple[int, int]] = set()
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise _unreadable(folder, error) from error
    for name in names:
        if _is_hidden(name):
            continue
        # A file's name may have anything in it, and is shown on one line.
        shown = printable(os.fsencode(folder / name))
        try:
            data = _read_file(folder / name, seen)
        except OSError as error:
            warnings.append(f"{shown} cannot be read: {error.strerror or error}")
            continue
        if data is None:
            continue
        found, bad = _read_certificates(data)
        certificates += found
        if bad and found:
            warnings.append(f"{shown} has {bad} certificate(s) that are invalid")
        elif bad:
            warnings.append(f"{shown} holds no certificate but {bad} invalid one(s)")
        elif not found:
            warnings.append(f"{shown} holds no certificate")
    return certificates, warnings


def _unreadable(folder: Path, error: OSError) -> TLSError:
    return TLSError(f"the cacerts folder {folder} cannot be read: {error.strerror}")


_OPEN_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_NONBLOCK", 0)
)


def _read_file(path: Path, seen: set[tuple[int, int]]) -> bytes | None:
    """
    Return the bytes of a regular file; ``None`` if it was read before.

    :param seen: the device and inode of each file that was read.  Distributions put
        one or two links to each certificate into their folders.
    :raises OSError: it is not a regular file, too large, or cannot be read.
    """
    # Opening a device can do something, so it is not even opened.
    _check_file(os.stat(path))
    # If it was replaced by a pipe in between, O_NONBLOCK keeps the reactor running.
    with open(os.open(path, _OPEN_FLAGS), "rb") as file:
        about = os.fstat(file.fileno())
        _check_file(about)
        identity = (about.st_dev, about.st_ino)
        if identity in seen:
            return None
        seen.add(identity)
        data = file.read(_MAX_FILE + 1)
    if len(data) > _MAX_FILE:  # It has grown since.
        raise OSError(_TOO_LARGE)
    return data


_TOO_LARGE = "it is too large to be certificates"


def _check_file(about: os.stat_result) -> None:
    if stat.S_ISDIR(about.st_mode):
        raise OSError("it is a folder, and only the files beside it are read")
    if not stat.S_ISREG(about.st_mode):
        raise OSError("it is not a regular file")
    if about.st_size > _MAX_FILE:
        raise OSError(_TOO_LARGE)


def _read_certificates(data: bytes) -> tuple[list[crypto.X509], int]:
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
