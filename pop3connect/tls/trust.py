"""
Whom we trust: the cacerts folder, the platform's store, or both.

The folder is the user's: he drops certificates into it under any name, at any
time.  So each file is read for itself, a bad one is named and does no harm to
the others, and a change is noticed at the next connection.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Mapping
from pathlib import Path

import attrs
from cryptography import x509
from cryptography.hazmat.primitives.serialization import pkcs7
from OpenSSL import SSL, crypto

from ..errors import TLSError, UsageError

__all__ = ["CACERTS_VARIABLE", "Fingerprint", "Trust"]

CACERTS_VARIABLE = "POP3CONNECT_CACERTS"
"""Names the cacerts folder where `connect` is not told one."""

_SUFFIXES = (".pem", ".crt", ".cer", ".der")

_MAX_FILE = 64 * 1024 * 1024
"""The bundles of all public CAs have less than 1 MiB; this is no such file."""

_PEM_LINE = re.compile(rb"-----(BEGIN|END) (CERTIFICATE|X509 CERTIFICATE|PKCS7)-----")

Fingerprint = tuple[object, ...]


@attrs.frozen
class Trust:
    """
    Whose certificates are accepted.

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

        :raises UsageError: the folder is named but is none.
        """
        source = "cacerts"
        if cacerts is None:
            cacerts = environment.get(CACERTS_VARIABLE) or None
            source = f"the environment variable {CACERTS_VARIABLE}"
        if cacerts is None:
            return cls(None, True)
        try:
            if not os.fspath(cacerts):
                raise ValueError("it is empty")
            folder = Path(cacerts).absolute()
            there, is_folder = folder.exists(), folder.is_dir()
        except (TypeError, ValueError, OSError) as error:
            raise UsageError(
                f"{source}={cacerts!r} is not the path of a folder: {error}"
            ) from error
        if not is_folder:
            what = "is not a folder" if there else "does not exist"
            raise UsageError(
                f"{source}: {folder} {what}; name the folder that holds the "
                "certificates of the CAs to trust"
            )
        return cls(folder, system_trust)

    def __str__(self) -> str:
        """Name whom we trust, for a sentence."""
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
                        if entry.name.lower().endswith(_SUFFIXES)
                    )
                )
        except OSError as error:
            raise TLSError(
                f"the cacerts folder {self.folder} cannot be read: {error.strerror}"
            ) from error

    def load_into(self, context: SSL.Context) -> list[str]:
        """
        Make a context trust whom we trust.

        :return: a warning for each file that was of no use.
        :raises TLSError: the folder has no usable certificate.
        """
        warnings: list[str] = []
        if self.folder is not None:
            certificates, warnings = _read_folder(self.folder)
            if not certificates:
                raise TLSError(
                    f"the cacerts folder {self.folder} has no usable certificate in "
                    f"it; put the CA's certificate there, as PEM or DER, in a file "
                    f"that ends in {', '.join(_SUFFIXES)}"
                    + "".join(f"; {warning}" for warning in warnings[:5])
                )
            store = context.get_cert_store()
            assert store is not None
            for certificate in certificates:
                store.add_cert(crypto.X509.from_cryptography(certificate))
        if self.system:
            context.set_default_verify_paths()
            if sys.platform in ("win32", "darwin"):  # pragma: no cover
                # OpenSSL finds no store there.
                import certifi

                context.load_verify_locations(certifi.where())
        return warnings


def facts(about: os.stat_result) -> tuple[int, ...]:
    """Return what differs when a file has been changed or replaced."""
    # The time of change can't be set back, as that of modification can.
    return about.st_mtime_ns, about.st_ctime_ns, about.st_size, about.st_ino


def _facts_of(entry: os.DirEntry[str]) -> tuple[int, ...]:
    try:
        return facts(entry.stat())
    except OSError:
        # A dangling link, which `_read_file` will name; or it has just gone.
        return ()


def _read_folder(folder: Path) -> tuple[list[x509.Certificate], list[str]]:
    certificates: list[x509.Certificate] = []
    warnings: list[str] = []
    for path in sorted(folder.iterdir()):
        if path.name.lower().endswith(_SUFFIXES):
            try:
                found, bad = _read_certificates(_read_file(path))
            except OSError as error:
                warnings.append(f"{path} cannot be read: {error.strerror or error}")
                continue
            certificates += found
            if bad and found:
                warnings.append(f"{path} has {bad} certificate(s) that are invalid")
            elif bad:
                warnings.append(f"{path} holds no certificate but {bad} invalid one(s)")
            elif not found:
                warnings.append(f"{path} holds no certificate")
    return certificates, warnings


def _read_file(path: Path) -> bytes:
    about = path.stat()
    # A pipe would block the reactor for as long as nobody writes to it.
    if not stat.S_ISREG(about.st_mode):
        raise OSError("it is not a file")
    if about.st_size > _MAX_FILE:
        raise OSError("it is too large to be certificates")
    return path.read_bytes()


def _read_certificates(data: bytes) -> tuple[list[x509.Certificate], int]:
    """Return the certificates in a file, and how many could not be read."""
    found: list[x509.Certificate] = []
    blocks, bad = _pem_blocks(data)
    if not blocks and data[:1] == b"\x30":  # a DER SEQUENCE
        blocks = [(b"DER", data)]
    for kind, block in blocks:
        try:
            found += _read_block(kind, block)
        except Exception:  # noqa: BLE001 - cryptography raises what it likes here
            bad += 1
    return found, bad


def _pem_blocks(data: bytes) -> tuple[list[tuple[bytes, bytes]], int]:
    """Return the kinds and texts of the PEM blocks, and how many have no end."""
    blocks: list[tuple[bytes, bytes]] = []
    bad = 0
    begun: re.Match[bytes] | None = None
    for line in _PEM_LINE.finditer(data):
        if line[1] == b"BEGIN":
            bad += begun is not None
            begun = line
        elif begun is not None:
            if line[2] == begun[2]:
                blocks.append((line[2], data[begun.start() : line.end()]))
            else:
                bad += 1
            begun = None
    return blocks, bad + (begun is not None)


def _read_block(kind: bytes, block: bytes) -> list[x509.Certificate]:
    if kind == b"PKCS7":
        return pkcs7.load_pem_pkcs7_certificates(block)
    if kind == b"DER":
        try:
            return [x509.load_der_x509_certificate(block)]
        except ValueError:
            return pkcs7.load_der_pkcs7_certificates(block)
    return [x509.load_pem_x509_certificate(block)]
