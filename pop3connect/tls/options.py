"""
How TLS is used with a server, apart from which certificates are trusted.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import attrs

from ..errors import UsageError
from ..redaction import Secret, SecretBytes, hidden
from ..remedies import Option

__all__ = ["TLSOptions"]

VERSIONS = ("TLSv1.2", "TLSv1.3")

_SURROGATE = re.compile("[\ud800-\udfff]")


def _refuse(name: str, problem: str) -> UsageError:
    return UsageError(problem, option=Option(name))


def _version(value: Any) -> str:
    # A constant of twisted.internet.ssl.TLSVersion has such a name: TLSv1_3.
    name = getattr(value, "name", value)
    version = name.replace("_", ".") if isinstance(name, str) else ""
    if version not in VERSIONS:
        raise _refuse(
            "minimum_version",
            f" must be 'TLSv1.2' or 'TLSv1.3', not {value!r:.50}; older versions "
            "are not supported (RFC 8997)",
        )
    return version


def _ciphers(value: str | None) -> str | None:
    if value is None:
        return None
    if (
        not isinstance(value, str)
        or not value
        or not (value.isascii() and value.isprintable())
    ):
        raise _refuse(
            "ciphers",
            " must be a list of cipher suites as OpenSSL writes it, such as "
            f"'ECDHE+AESGCM:ECDHE+CHACHA20', not {value!r:.50}",
        )
    return value


def _password(value: Any) -> str | None:
    problem = ""
    if isinstance(value, bytes):
        try:
            value = Secret(value.decode())
        except UnicodeDecodeError:
            problem = "is not UTF-8"
    if not problem and value is not None and not isinstance(value, str):
        problem = f"must be a str or bytes, not {type(value).__name__}"
    elif not problem and value == "":
        problem = "is empty; leave it out if the key is not encrypted"
    elif not problem and value is not None and _SURROGATE.search(value):
        problem = "contains half a character (a surrogate), which UTF-8 cannot encode"
    if problem:
        # Raised here: the exception above has the password in it.
        raise _refuse("client_key_password", f" {problem}")
    return None if value is None else Secret(value)


def _crl(value: str | os.PathLike[str] | None) -> Path | None:
    if value is None:
        return None
    try:
        if not os.fspath(value):
            raise ValueError("it is empty")
        return Path(value).absolute()
    except (TypeError, ValueError) as error:
        raise _refuse(
            "crl", f": {value!r:.200} is not the path of a file: {error}"
        ) from error


@attrs.frozen(init=False)
class TLSOptions:
    """
    Options of TLS, apart from trust: ``connect(..., tls=TLSOptions(...))``.

    :ivar minimum_version: ``"TLSv1.2"`` or ``"TLSv1.3"``, or the constant of
        ``twisted.internet.ssl.TLSVersion``.  Nothing older is supported (RFC 8997).
    :ivar ciphers: the cipher suites of TLS 1.2, as a cipher list of OpenSSL; default:
        forward secrecy, AES or ChaCha20, no SHA-1.  ``@SECLEVEL=1`` in it allows the
        weak keys and signatures of old servers.  Suites without encryption or without
        a certificate are never used.  Those of TLS 1.3 are OpenSSL's own.
    :ivar client_key_password: decrypts the key in ``client_certificate``.
    :ivar crl: a file with certificate revocation lists (RFC 5280), PEM or DER, which is
        read again when it has changed.  It must have a current list of the CA that
        issued the server's certificate.  A CA in the chain is checked too if the file
        has a list of its issuer.
    :raises UsageError: a value cannot be used.
    """

    minimum_version: str = attrs.field(converter=_version)
    ciphers: str | None = attrs.field(converter=_ciphers)
    client_key_password: str | None = attrs.field(converter=_password, repr=False)
    crl: Path | None = attrs.field(converter=_crl)

    def __init__(
        self,
        *,
        minimum_version: str = "TLSv1.2",
        ciphers: str | None = None,
        client_key_password: str | bytes | None = None,
        crl: str | os.PathLike[str] | None = None,
    ) -> None:
        # A traceback shows local variables.
        if isinstance(client_key_password, bytes):
            client_key_password = SecretBytes(client_key_password)
        else:
            client_key_password = hidden(client_key_password)
        self.__attrs_init__(minimum_version, ciphers, client_key_password, crl)
