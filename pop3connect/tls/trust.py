"""
Which certificates are trusted: those of a source, the platform's store, or both.

The source is usually the cacerts folder.  Users may add files to it under any name at
any time.  Each file is read on its own, a file that cannot be used is named and does
not affect the others, and a change is noticed at the next connection.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Union

import attrs
from OpenSSL import SSL, crypto
from twisted.internet.ssl import CertificateOptions

from ..errors import TLSError, UsageError
from ..redaction import printable
from ..remedies import Option, literal
from .certificates import facts, read_certificates, read_file

if TYPE_CHECKING:
    # Twisted has no public name for the type of its trust roots.
    from twisted.internet._sslverify import IOpenSSLTrustRoot
    from twisted.internet.ssl import Certificate

__all__ = ["CACERTS_VARIABLE", "CACerts", "Fingerprint", "Trust", "name_unusable"]

CACERTS_VARIABLE = "POP3CONNECT_CACERTS"
"""Names the folder or file of a `connect` without the argument ``cacerts``."""

CACerts = Union[str, "os.PathLike[str]", bytes, "IOpenSSLTrustRoot", "Certificate"]
"""A folder or a file, the contents of a file, or a trust root of Twisted."""

_MAX_NAMED = 5
"""Unusable files that an error names; the log has all of them."""

_FORMATS = "(PEM, DER or PKCS #7)"

Fingerprint = tuple[object, ...]


@attrs.frozen
class Trust:
    """
    The trusted certificates.

    :ivar source: where the caller's certificates are; ``None``: only `system` counts.
    :ivar system: whether the platform's store counts too.
    """

    source: Source | None
    system: bool

    @classmethod
    def choose(
        cls,
        cacerts: CACerts | None,
        system_trust: bool,
        environment: Mapping[str, str],
    ) -> Trust:
        """
        Decide by the arguments of `connect`, then by `CACERTS_VARIABLE`.

        :raises UsageError: the folder or file does not exist, the bytes hold no
            certificate, or the object is not a trust root.
        """
        if cacerts is not None:
            return cls(_source(cacerts), system_trust)
        named = environment.get(CACERTS_VARIABLE)
        if not named:
            return cls(None, True)
        source = _named(named, f"the environment variable {CACERTS_VARIABLE}")
        return cls(source, system_trust)

    def __str__(self) -> str:
        """Name the trusted certificates, as part of a sentence."""
        names = [] if self.source is None else [str(self.source)]
        if self.system:
            names.append("the CA certificates of this system")
        return " and ".join(names)

    def adding(self, what: str) -> str:
        """Return how to trust one more certificate, as the text of a `Remedy`."""
        if self.source is not None:
            return self.source.adding(what)
        return (
            f"put {literal(what)} {_FORMATS} into a new folder and name the folder "
            "with {}"
        )

    def fingerprint(self) -> Fingerprint:
        """
        Return a value that differs when a folder or file has changed.

        :raises TLSError: it cannot be read.
        """
        return () if self.source is None else self.source.fingerprint()

    def make_context(self) -> tuple[SSL.Context, list[str]]:
        """
        Make a context whose store has the trusted certificates.

        :return: the context, and a warning for each file that could not be used, or
            only in part.
        :raises TLSError: the source cannot be read, or has no usable certificate.
        """
        if self.source is None:
            context = SSL.Context(SSL.TLS_CLIENT_METHOD)
            warnings: list[str] = []
        else:
            context, warnings = self.source.make_context()
        if self.system:
            context.set_default_verify_paths()
            if sys.platform in ("win32", "darwin"):  # pragma: no cover
                # OpenSSL finds no store there.
                import certifi

                context.load_verify_locations(certifi.where())
        return context, warnings


class Source(Protocol):
    """Where certificates to trust come from."""

    def __str__(self) -> str:
        """Name the certificates, as part of a sentence."""

    def adding(self, what: str) -> str:
        """Return how to trust one more certificate, as the text of a `Remedy`."""

    def fingerprint(self) -> Fingerprint:
        """
        Return a value that differs when it has changed.

        :raises TLSError: it cannot be read.
        """

    def make_context(self) -> tuple[SSL.Context, list[str]]:
        """
        Make a context whose store has the certificates, and return warnings.

        :raises TLSError: none of the certificates can be used.
        """


def _source(cacerts: Any) -> Source:
    if isinstance(cacerts, bytes):
        return _given(cacerts)
    if not isinstance(cacerts, (str, os.PathLike)):
        return TrustRoot.wrap(cacerts)
    if isinstance(cacerts, str) and "-----BEGIN " in cacerts:
        # Not repeated: there may be a private key in it.
        raise UsageError(
            " is the text of a certificate, and a str is the path of a folder or a "
            "file; pass the text as bytes: text.encode()",
            option=Option("cacerts"),
        )
    return _named(cacerts, Option("cacerts"))


def _named(cacerts: str | os.PathLike[str], by: str | Option) -> Source:
    prefix, option = ("", by) if isinstance(by, Option) else (by, None)
    try:
        if not os.fspath(cacerts):
            raise ValueError("it is empty")
        path = Path(cacerts).absolute()
        there, is_folder = path.exists(), path.is_dir()
    except (TypeError, ValueError, OSError) as error:
        raise UsageError(
            f"{prefix}: {cacerts!r} is not the path of a folder or file: {error}",
            option=option,
        ) from error
    if not there:
        raise UsageError(
            f"{prefix}: {path} does not exist; name the folder or file that holds the "
            "certificates of the CAs to trust",
            option=option,
        )
    return Folder(path) if is_folder else File(path)


@attrs.frozen
class Folder:
    """The cacerts folder: every file in it that holds certificates."""

    path: Path

    def __str__(self) -> str:
        """Name the certificates, as part of a sentence."""
        return f"the certificates in the folder {self.path}"

    def adding(self, what: str) -> str:
        """Return how to trust one more certificate, as the text of a `Remedy`."""
        return literal(f"put {what} {_FORMATS} into the folder {self.path}")

    def fingerprint(self) -> Fingerprint:
        """
        Return a value that differs when the folder has changed.

        :raises TLSError: it cannot be listed.
        """
        try:
            with os.scandir(self.path) as entries:
                return tuple(
                    sorted(
                        (entry.name, *_facts_of(entry))
                        for entry in entries
                        if not _is_hidden(entry.name)
                    )
                )
        except OSError as error:
            raise self._unreadable(error) from error

    def make_context(self) -> tuple[SSL.Context, list[str]]:
        """
        Make a context whose store has the certificates, and return warnings.

        :raises TLSError: it cannot be listed, or has no usable certificate.
        """
        certificates: list[crypto.X509] = []
        warnings: list[str] = []
        seen: set[tuple[int, int]] = set()
        try:
            names = sorted(os.listdir(self.path))
        except OSError as error:
            raise self._unreadable(error) from error
        for name in names:
            if _is_hidden(name):
                continue
            try:
                data = read_file(self.path / name, seen)
            except OSError as error:
                why = error.strerror or error
                warnings.append(f"{_shown(self.path / name)} cannot be read: {why}")
                continue
            if data is not None:
                found, bad = read_certificates(data)
                certificates += found
                warnings += _warnings(_shown(self.path / name), found, bad)
        if not certificates:
            raise TLSError(
                f"the cacerts folder {self.path} has no usable certificate in it; put "
                f"the CA's certificate {_FORMATS} there" + name_unusable(warnings)
            )
        return _context_with(certificates), warnings

    def _unreadable(self, error: OSError) -> TLSError:
        return TLSError(
            f"the cacerts folder {self.path} cannot be read: {error.strerror}"
        )


@attrs.frozen
class File:
    """One file with certificates."""

    path: Path

    def __str__(self) -> str:
        """Name the certificates, as part of a sentence."""
        return f"the certificates in the file {_shown(self.path)}"

    def adding(self, what: str) -> str:
        """Return how to trust one more certificate, as the text of a `Remedy`."""
        return literal(f"add {what} {_FORMATS} to the file {_shown(self.path)}")

    def fingerprint(self) -> Fingerprint:
        """
        Return a value that differs when the file has changed.

        :raises TLSError: it cannot be read.
        """
        try:
            return facts(os.stat(self.path))
        except OSError as error:
            raise self._unreadable(error) from error

    def make_context(self) -> tuple[SSL.Context, list[str]]:
        """
        Make a context whose store has the certificates, and return warnings.

        :raises TLSError: it cannot be read, or has no usable certificate.
        """
        try:
            data = read_file(self.path, set())
        except OSError as error:
            raise self._unreadable(error) from error
        assert data is not None
        found, bad = read_certificates(data)
        warnings = _warnings(_shown(self.path), found, bad)
        if not found:
            raise TLSError(
                f"the cacerts file {warnings[0]}; name a file that has the CA's "
                f"certificate {_FORMATS}"
            )
        return _context_with(found), warnings

    def _unreadable(self, error: OSError) -> TLSError:
        return TLSError(
            f"the cacerts file {_shown(self.path)} cannot be read: "
            f"{error.strerror or error}"
        )


@attrs.frozen
class Given:
    """The contents of a file, which a program got from elsewhere."""

    certificates: tuple[crypto.X509, ...]
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Name the certificates, as part of a sentence."""
        return "the certificates given as bytes"

    def adding(self, what: str) -> str:
        """Return how to trust one more certificate, as the text of a `Remedy`."""
        return f"add {literal(what)} to the bytes in {{}}"

    def fingerprint(self) -> Fingerprint:
        """Return nothing: they cannot change."""
        return ()

    def make_context(self) -> tuple[SSL.Context, list[str]]:
        """Make a context whose store has the certificates, and return warnings."""
        return _context_with(self.certificates), list(self.warnings)


def _given(data: bytes) -> Given:
    found, bad = read_certificates(data)
    # The bytes are not repeated: there may be a private key in them.
    warnings = _warnings(f"a value of {len(data)} bytes", found, bad)
    if not found:
        raise UsageError(
            f": {warnings[0]}; pass the contents of a file with the CA's certificate "
            f"{_FORMATS}, or the path of a folder or file as a str",
            option=Option("cacerts"),
        )
    return Given(tuple(found), tuple(warnings))


@attrs.frozen
class TrustRoot:
    """A trust root of Twisted."""

    root: Any

    @classmethod
    def wrap(cls, root: Any) -> TrustRoot:
        """
        Return the source for what Twisted's ``trustRoot`` parameters take.

        :raises UsageError: the object is something else.
        """
        try:
            CertificateOptions(trustRoot=root)
        except TypeError:
            # Its repr is left out: that of some certificates fails.
            raise UsageError(
                " must be the path of a folder or file, the contents of a file as "
                "bytes, or a trust root of Twisted, such as "
                f"trustRootFromCertificates(...), not {type(root).__name__}",
                option=Option("cacerts"),
            ) from None
        return cls(root)

    def __str__(self) -> str:
        """Name the certificates, as part of a sentence."""
        return "the certificates of the trust root given"

    def adding(self, what: str) -> str:
        """Return how to trust one more certificate, as the text of a `Remedy`."""
        return f"add {literal(what)} to the trust root in {{}}"

    def fingerprint(self) -> Fingerprint:
        """Return nothing: Twisted reads its certificates once."""
        return ()

    def make_context(self) -> tuple[SSL.Context, list[str]]:
        """Let Twisted make a context: the methods of a trust root are its own."""
        return CertificateOptions(trustRoot=self.root).getContext(), []


def name_unusable(warnings: Sequence[str]) -> str:
    """Return the end of an error's sentence: the files that could not be used."""
    named = "".join(f"; {warning}" for warning in warnings[:_MAX_NAMED])
    more = len(warnings) - _MAX_NAMED
    return named + (f"; and {more} more, which the log names" if more > 0 else "")


def _warnings(what: str, found: Sequence[object], bad: int) -> list[str]:
    if bad and found:
        return [f"{what} has {bad} certificate(s) that are invalid"]
    if bad:
        return [f"{what} holds no certificate but {bad} invalid one(s)"]
    return [] if found else [f"{what} holds no certificate"]


def _shown(path: Path) -> str:
    # A file's name may have anything in it, and is shown on one line.
    return printable(os.fsencode(path))


def _context_with(certificates: Sequence[crypto.X509]) -> SSL.Context:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    store = context.get_cert_store()
    assert store is not None
    for certificate in certificates:
        store.add_cert(certificate)
    return context


def _is_hidden(name: str) -> bool:
    # Such are the files of editors, file managers and Kubernetes.
    return name.startswith(".")


def _facts_of(entry: os.DirEntry[str]) -> tuple[int, ...]:
    try:
        about = entry.stat()
    except OSError:
        # A dangling link, which will be named; or the file was just removed.
        return ()
    if stat.S_ISREG(about.st_mode):
        return facts(about)
    # It is not read, so a change in it (of a folder's time) changes nothing.
    return (stat.S_IFMT(about.st_mode),)
