"""
The certificate and the key with which this client proves its identity.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL, crypto

from ..errors import UsageError
from ..redaction import SecretBytes
from ..remedies import Option
from .certificates import facts
from .trust import Fingerprint

if TYPE_CHECKING:
    from twisted.internet.ssl import PrivateCertificate

__all__ = ["ClientCertificate", "file_facts", "hand_over", "use_certificate"]

_Path = Union[str, "os.PathLike[str]"]
ClientCertificate = Union[_Path, "tuple[_Path, _Path]", "PrivateCertificate"]
"""A PEM file with certificate chain and key, a file for each, or Twisted's own."""


def file_facts(certificate: ClientCertificate | None) -> Fingerprint:
    """
    Return values that differ when a file of a client certificate has changed.

    :raises UsageError: a file cannot be read, or it is not a client certificate.
    """
    known: list[object] = []
    for path in _paths(certificate):
        try:
            about = os.stat(path)
        except (OSError, ValueError) as error:
            raise UsageError(
                f": {path!r} cannot be read: {error}",
                option=Option("client_certificate"),
            ) from error
        known.append(facts(about))
    return tuple(known)


def _paths(certificate: ClientCertificate | None) -> tuple[_Path, ...]:
    if isinstance(certificate, (str, os.PathLike)):
        return (certificate,)
    if not isinstance(certificate, tuple):
        return ()
    if len(certificate) != 2 or not all(
        isinstance(path, (str, os.PathLike)) for path in certificate
    ):
        raise _unusable()
    return certificate


def _unusable(paths: tuple[_Path, ...] = ()) -> UsageError:
    which = ", ".join(repr(os.fspath(path)) for path in paths)
    return UsageError(
        (f": {which} cannot be used" if which else " cannot be used")
        + ": give a PEM file with the certificate and its key, a pair of such files, "
        "or a PrivateCertificate of Twisted; the key must be that of the certificate",
        option=Option("client_certificate"),
    )


_KEY = re.compile(
    rb"-----BEGIN ((?:[A-Z0-9]+ )*PRIVATE KEY)-----.*?-----END \1-----", re.DOTALL
)
"""A private key of any kind; with a label for those that are encrypted."""


def use_certificate(
    context: SSL.Context, certificate: ClientCertificate | None, password: str | None
) -> None:
    """
    Let the connections of a context show a certificate when they are asked for one.

    :param password: decrypts the key; ``None``: the key is not encrypted.
    :raises UsageError: the certificate, the key or the password cannot be used.
    """
    paths = _paths(certificate)
    if password is not None and not paths:
        raise _password_problem(
            "is for a key in a file, and client_certificate names none"
        )
    try:
        (own, *chain), key = _load(paths, password) if paths else _unwrap(certificate)
        hand_over(context.use_certificate, own)
        for above in chain:
            hand_over(context.add_extra_chain_cert, above)
        hand_over(context.use_privatekey, key)
        context.check_privatekey()
    except UsageError:
        raise
    except Exception as error:  # noqa: BLE001 - cryptography raises many types
        # The local variables of its traceback would show the key.
        raise _unusable(paths) from error.with_traceback(None)


def _load(
    paths: tuple[_Path, ...], password: str | None
) -> tuple[list[x509.Certificate], Any]:
    # OpenSSL would ask for the passphrase of an encrypted key on the terminal.
    chain = x509.load_pem_x509_certificates(Path(paths[0]).read_bytes())
    found = _KEY.search(Path(paths[-1]).read_bytes())
    if found is None:
        raise ValueError("it has no private key")
    key = SecretBytes(found[0])
    # A match shows its beginning, and a key need not be encrypted.
    del found
    return chain, _decrypted(key, password, os.fspath(paths[-1]))


def _decrypted(key: bytes, password: str | None, file: str) -> Any:
    # The errors are raised outside of "except": the exceptions of cryptography and the
    # local variables of their tracebacks would show the key and the password.
    problem = ""
    encrypted = b"ENCRYPTED" in key
    if encrypted and password is None:
        problem = f"is missing, and the key in {file!r} is encrypted"
    elif password is not None and not encrypted:
        problem = f"was given, and the key in {file!r} is not encrypted: leave it out"
    else:
        octets = None if password is None else SecretBytes(password.encode())
        try:
            return load_pem_private_key(key, octets)
        except ValueError:
            if not encrypted:
                raise
        problem = (
            f"does not decrypt the key in {file!r}: it is wrong, or the key is damaged "
            "or encrypted in a way that is not supported"
        )
    raise _password_problem(problem)


def _password_problem(problem: str) -> UsageError:
    return UsageError(f" {problem}", option=Option("client_key_password"))


def _unwrap(certificate: Any) -> tuple[list[x509.Certificate], Any]:
    own = certificate.original.to_cryptography()
    return [own], certificate.privateKey.original.to_cryptography_key()


def hand_over(use: Callable[[Any], object], value: Any) -> None:
    """
    Give a certificate or key of cryptography to a method of pyOpenSSL.

    Since release 24.3 pyOpenSSL takes it as it is, and deprecates its own types;
    before, it took nothing else.
    """
    try:
        use(value)
    except TypeError:
        wrap = (
            crypto.X509.from_cryptography
            if isinstance(value, x509.Certificate)
            else crypto.PKey.from_cryptography_key
        )
        use(wrap(value))
