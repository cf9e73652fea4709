"""
Parses the URL of a proxy: ``"socks5://user:password@host:1080"`` or
``"http://user:password@host:3128"``.

Pure: no name is looked up here, and no error repeats the text, which may hold a
password.
"""

from __future__ import annotations

import base64
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

HTTP_PORT = 80
"""The port of an HTTP proxy, as of any http URL (RFC 9110 section 4.2.1)."""

# socks5h is curl's name for a proxy that looks up the names, as it always does here.
_SCHEMES = {"socks5": "socks5", "socks5h": "socks5", "http": "http"}

_PORTS = {"socks5": SOCKS_PORT, "http": HTTP_PORT}

_PACKAGES = {"socks5": "socksio", "http": "h11"}
"""What speaks the protocol of each; both come with the extra ``proxy``."""

_VARIABLES = ("ALL_PROXY", "all_proxy")
"""As curl has them; both spellings are common."""

_URL = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://"
    r"(?:(?P<user>[^:@/?#]*)(?::(?P<password>[^@/?#]*))?@)?"
    r"(?P<where>[^@/?#]+)/?",
    re.IGNORECASE,
)

_MAX_CREDENTIAL = 255
"""Bytes of a user name or password (RFC 1929 section 2)."""

MAX_BASIC = 4096
"""Bytes of a user name and password together; proxies refuse headers above 8 KiB."""

_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")


@attrs.frozen
class ProxyAddress:
    """
    A SOCKS5 proxy (RFC 1928) or an HTTP proxy (CONNECT, RFC 9110 section 9.3.6), and
    the credentials for it (RFC 1929, RFC 7617).

    :ivar scheme: ``"socks5"`` or ``"http"``.
    :ivar address: where the proxy is.
    :ivar credentials: user name and password in UTF-8; ``None`` without a login.
    """

    scheme: str
    address: ServerAddress
    credentials: tuple[bytes, bytes] | None = attrs.field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str) -> ProxyAddress:
        """
        Read ``"socks5://[user:password@]host[:port]"``, or the same with ``http``;
        the default port is 1080, or 80 for ``http``.

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
        given = found["scheme"].lower()
        scheme = _SCHEMES.get(given)
        if scheme is None:
            del url, found
            raise _refuse(f"; {given} proxies are not supported")
        try:
            address = ServerAddress.parse(found["where"], _PORTS[scheme])
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
            (_check_socks if scheme == "socks5" else _check_basic)(*credentials)
        return cls(scheme, address, credentials)

    @property
    def basic(self) -> bytes | None:
        """The login as the method Basic sends it (RFC 7617); ``None`` without one."""
        if self.credentials is None:
            return None
        return SecretBytes(base64.b64encode(b":".join(self.credentials)))

    @property
    def secrets(self) -> tuple[bytes, ...]:
        """What must not be shown."""
        if self.credentials is None or self.basic is None:
            return ()
        password = self.credentials[1]
        return (password, self.basic) if self.scheme == "http" else (password,)

    def __str__(self) -> str:
        """Return the URL without user name and password."""
        return f"{self.scheme}://{self.address}"


def _check_socks(user: bytes, password: bytes) -> None:
    if not 1 <= len(user) <= _MAX_CREDENTIAL:
        raise _refuse("; the user name must have 1 to 255 bytes (RFC 1929)")
    if len(password) > _MAX_CREDENTIAL:
        raise _refuse("; the password must have 255 bytes at most (RFC 1929)")


def _check_basic(user: bytes, password: bytes) -> None:
    if b":" in user:
        raise _refuse("; the user name for an HTTP proxy has no colon (RFC 7617)")
    if _CONTROL.search(user) or _CONTROL.search(password):
        raise _refuse(
            "; the user name and password for an HTTP proxy have no control "
            "characters (RFC 7617)"
        )
    if len(user) + len(password) > MAX_BASIC:
        raise _refuse(
            f"; the user name and password for an HTTP proxy must have {MAX_BASIC:,} "
            "bytes at most"
        )


def _refuse(problem: str) -> UsageError:
    return UsageError(
        " must be a URL such as 'socks5://proxy.example.com:1080' or "
        f"'http://user:password@proxy.example.com:3128'{problem}",
        option=Option("proxy"),
    )


def proxy_for(server: ServerAddress, url: str) -> ProxyAddress:
    """
    Return the proxy of a URL, if it can lead to a server.

    :raises UsageError: it cannot, the URL cannot be used, or a package is missing.
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
    package = _PACKAGES[proxy.scheme]
    if find_spec(package) is None:
        raise UsageError(
            f" needs the package {package}: pip install 'pop3connect[proxy]'",
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
