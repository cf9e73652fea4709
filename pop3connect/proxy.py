"""
Parses the URL of a proxy: ``"socks5://user:password@host:1080"``.

Pure: no name is looked up here, and no error repeats the text, which may hold a
password.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from importlib.util import find_spec
from urllib.parse import unquote_to_bytes

import attrs

from .address import ServerAddress
from .errors import UsageError
from .redaction import SecretBytes
from .remedies import Option

__all__ = ["ProxyAddress", "from_environment", "proxy_for"]

SOCKS_PORT = 1080
"""The port of a SOCKS5 proxy (RFC 1928 section 3)."""

_VARIABLES = ("ALL_PROXY", "all_proxy")
"""As curl has them; both spellings are common."""

# socks5h is curl's name for a proxy that looks up the names, as it always does here.
_URL = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://"
    r"(?:(?P<user>[^:@/?#]*)(?::(?P<password>[^@/?#]*))?@)?"
    r"(?P<where>[^@/?#]+)/?",
    re.IGNORECASE,
)

_MAX_CREDENTIAL = 255
"""Bytes of a user name or password (RFC 1929 section 2)."""


@attrs.frozen
class ProxyAddress:
    """
    A SOCKS5 proxy (RFC 1928), and the credentials for it (RFC 1929).

    :ivar address: where the proxy is.
    :ivar credentials: user name and password in UTF-8; ``None`` without a login.
    """

    address: ServerAddress
    credentials: tuple[bytes, bytes] | None = attrs.field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str) -> ProxyAddress:
        """
        Read ``"socks5://[user:password@]host[:port]"``; port 1080 is the default.

        Characters in the user name and the password may be percent-encoded (RFC 3986
        section 2.1), and ``@``, ``/``, ``?``, ``#``, ``%`` and, in the user name, ``:``
        have to be.

        :raises UsageError: it is something else; the text is not repeated.
        """
        try:
            return cls._parse(url)
        finally:
            # A traceback shows local variables.
            del url

    @classmethod
    def _parse(cls, url: str) -> ProxyAddress:
        if not isinstance(url, str):
            kind = type(url).__name__
            del url
            raise _refuse(f", not {kind}")
        found = _URL.fullmatch(url.strip())
        if found is None:
            del url
            raise _refuse(
                "; write the special characters of a password as in a URL, such as %40 "
                "for @"
            )
        scheme = found["scheme"].lower()
        if scheme not in ("socks5", "socks5h"):
            del url, found
            raise _refuse(f"; {scheme} proxies are not supported")
        try:
            address = ServerAddress.parse(found["where"], SOCKS_PORT)
        except UsageError:
            address = None
        credentials = None
        if found["user"] is not None:
            credentials = (
                SecretBytes(unquote_to_bytes(found["user"])),
                SecretBytes(unquote_to_bytes(found["password"] or "")),
            )
        # They show the password in a traceback.
        del url, found
        if address is None:
            raise _refuse("; what should be its host and port is neither")
        if credentials is not None:
            user, password = credentials
            if not 1 <= len(user) <= _MAX_CREDENTIAL:
                raise _refuse("; the user name must have 1 to 255 bytes (RFC 1929)")
            if len(password) > _MAX_CREDENTIAL:
                raise _refuse("; the password must have 255 bytes at most (RFC 1929)")
        return cls(address, credentials)

    @property
    def secrets(self) -> tuple[bytes, ...]:
        """What must not be shown."""
        return () if self.credentials is None else self.credentials[1:]

    def __str__(self) -> str:
        """Return the URL without user name and password."""
        return f"socks5://{self.address}"


def _refuse(problem: str) -> UsageError:
    return UsageError(
        f" must be a URL such as 'socks5://proxy.example.com:1080' or "
        f"'socks5://user:password@proxy.example.com'{problem}",
        option=Option("proxy"),
    )


def proxy_for(server: ServerAddress, url: str) -> ProxyAddress:
    """
    Return the proxy of a URL, if it can lead to a server.

    :raises UsageError: it cannot, the URL cannot be used, or socksio is not installed.
    """
    try:
        proxy = ProxyAddress.parse(url)
    finally:
        # A traceback shows local variables.
        del url
    if "%" in server.host:
        raise UsageError(
            f" cannot lead to {server.host}: a zone is known to this computer only",
            option=Option("proxy"),
        )
    if find_spec("socksio") is None:
        raise UsageError(
            " needs the package socksio: pip install 'pop3connect[proxy]'",
            option=Option("proxy"),
        )
    return proxy


def from_environment(environment: Mapping[str, str] = os.environ) -> str:
    """
    Return the URL of the proxy that the variable ``ALL_PROXY`` has.

    :raises UsageError: it is not set.
    """
    for name in _VARIABLES:
        if environment.get(name):
            return environment[name]
    raise UsageError(
        " is to come from the environment, and the variable ALL_PROXY is not set",
        option=Option("proxy"),
    )
