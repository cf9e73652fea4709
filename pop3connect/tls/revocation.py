"""
Certificate revocation lists (RFC 5280 section 5), from a file.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from cryptography import x509
from OpenSSL import crypto

from ..errors import TLSError
from ..redaction import printable
from .certificates import facts, read_file
from .trust import Fingerprint

__all__ = ["crl_facts", "use_crl"]

MAX_FILE = 256 * 1024 * 1024
"""Bytes of a CRL file.  The lists of large CAs have some 10 MiB each."""

_PEM = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)
"""RFC 7468 section 6."""


def crl_facts(path: Path | None) -> Fingerprint:
    """
    Return values that differ when the file has changed.

    :raises TLSError: it cannot be read.
    """
    if path is None:
        return ()
    try:
        return facts(os.stat(path))
    except OSError as error:
        raise _refuse(path, f"cannot be read: {error.strerror}") from error


def use_crl(store: crypto.X509Store, path: Path) -> None:
    """
    Let the store refuse the certificates that the lists in a file revoke.

    :raises TLSError: the file cannot be read, or has no list in it.
    """
    try:
        data = read_file(path, set(), MAX_FILE)
    except OSError as error:
        raise _refuse(path, f"cannot be read: {error.strerror or error}") from error
    assert data is not None
    try:
        lists = [x509.load_pem_x509_crl(block) for block in _PEM.findall(data)]
        if not lists:
            lists = [x509.load_der_x509_crl(data)]
        for each in lists:
            store.add_crl(each)
    except (ValueError, TypeError, crypto.Error) as error:
        # All or nothing: the list that revokes a certificate may be the damaged one.
        raise _refuse(
            path,
            "is not a file of certificate revocation lists (PEM or DER), or one of "
            "them is damaged; get it from the CA again",
        ) from error
    store.set_flags(
        crypto.X509StoreFlags.CRL_CHECK | crypto.X509StoreFlags.CRL_CHECK_ALL
    )


def _refuse(path: Path, problem: str) -> TLSError:
    return TLSError(f"the CRL file {printable(os.fsencode(path))} {problem}")
