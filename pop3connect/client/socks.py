"""
The dialogue with a SOCKS5 proxy (RFC 1928, RFC 1929), without I/O.

The proxy gets the name of the server and looks it up, so only the proxy's name is
looked up here.  ``socksio`` builds and reads the messages; where one ends is found
here, because socksio expects each in one piece.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any

import socksio

from ..address import ServerAddress
from ..errors import ConnectError
from ..proxy import ProxyAddress
from ..redaction import SecretBytes, printable
from ..remedies import Option, Remedy
from .tunnel import CHECK_LOGIN, CHECK_PROXY, CHECK_SERVER

__all__ = ["SocksDialogue"]

_VERSION = 5
_LOGIN_VERSION = 1
_FIXED = 4
"""Bytes of a reply before its address: version, code, reserved, type of address."""

_PORT = 2

_METHODS = {
    0: socksio.SOCKS5AuthMethod.NO_AUTH_REQUIRED,
    2: socksio.SOCKS5AuthMethod.USERNAME_PASSWORD,
}

_CODES = {
    code.value[0]: code.name.lower().replace("_", " ")
    for code in socksio.SOCKS5ReplyCode
}
"""What the reply codes mean (RFC 1928 section 6)."""

_GIVE_LOGIN = Remedy(
    "give a user name and password in {}, as in 'socks5://user:password@host'",
    (Option("proxy"),),
)


class SocksDialogue:
    """
    The client's side of the dialogue with a proxy, without I/O.

    :param target: the server to connect to.
    :ivar rest: what the server itself has sent; ``None`` until the proxy has connected.
    """

    def __init__(self, proxy: ProxyAddress, target: ServerAddress) -> None:
        self._proxy = proxy
        self._target = target
        self._socks = socksio.SOCKS5Connection()
        self._data = b""
        self._unanswered = "was not reached"
        self._read: Callable[[], bytes | None] = self._read_method
        self.rest: bytes | None = None

    @property
    def unanswered(self) -> str:
        """What the proxy has not done yet."""
        return f"the proxy {self._proxy} {self._unanswered}"

    def start(self) -> bytes:
        """Return what to send first: the methods of login."""
        self._unanswered = "did not choose a method of login"
        methods = [socksio.SOCKS5AuthMethod.NO_AUTH_REQUIRED]
        if self._proxy.credentials is not None:
            methods.append(socksio.SOCKS5AuthMethod.USERNAME_PASSWORD)
        return self._send(socksio.SOCKS5AuthMethodsRequest(methods))

    def receive(self, data: bytes) -> bytes:
        """
        Read a chunk, and return what to send.

        :raises ConnectError: the proxy refuses, or this is no SOCKS5.
        """
        self._data += data
        answer = self._read()
        if answer is None:
            return b""
        if self.rest is None and self._data:
            # The next request was not even sent.
            raise self._failed("sent more than its reply")
        return answer

    def _send(self, request: Any) -> bytes:
        self._socks.send(request)
        return SecretBytes(self._socks.data_to_send())

    def _take(self) -> Any:
        """Read two bytes, which most replies have; ``None``: they are not here yet."""
        if len(self._data) < 2:
            return None
        reply, self._data = self._data[:2], self._data[2:]
        return self._socks.receive_data(reply)

    def _failed(self, what: str, remedy: Remedy | None = None) -> ConnectError:
        return ConnectError(f"the proxy {self._proxy} {what}", remedy=remedy)

    def _check_version(self, version: int) -> None:
        if self._data[:1] not in (b"", bytes([version])):
            # Its first bytes only: by now it may repeat a password.
            raise self._failed(
                f"{self._unanswered}: what it sent is not SOCKS5, it begins with "
                f"'{printable(self._data[:1])}'",
                CHECK_PROXY,
            )

    def _read_method(self) -> bytes | None:
        self._check_version(_VERSION)
        if len(self._data) < 2:
            return None
        offered = self._proxy.credentials is not None
        method = self._data[1]
        if method == 0xFF:
            raise self._failed(
                "accepts no method of login that was offered",
                CHECK_LOGIN if offered else _GIVE_LOGIN,
            )
        if method not in (_METHODS if offered else (0,)):
            raise self._failed(
                f"chose the method of login {method}, which was not offered"
            )
        reply = self._take()
        if reply.method is socksio.SOCKS5AuthMethod.NO_AUTH_REQUIRED:
            return self._ask()
        assert self._proxy.credentials is not None
        self._unanswered = "did not answer the login"
        self._read = self._read_login
        return self._send(
            socksio.SOCKS5UsernamePasswordRequest(*self._proxy.credentials)
        )

    def _read_login(self) -> bytes | None:
        self._check_version(_LOGIN_VERSION)
        reply = self._take()
        if reply is None:
            return None
        if not reply.success:
            raise self._failed("refused the user name and password", CHECK_LOGIN)
        return self._ask()

    def _ask(self) -> bytes:
        self._unanswered = f"did not answer the request to connect to {self._target}"
        self._read = self._read_reply
        host = self._target.host
        kind, packed = socksio.SOCKS5AType.DOMAIN_NAME, host.encode("ascii")
        if self._target.is_ip:
            address = ipaddress.ip_address(host)
            packed = address.packed
            kind = (
                socksio.SOCKS5AType.IPV4_ADDRESS
                if address.version == 4
                else socksio.SOCKS5AType.IPV6_ADDRESS
            )
        return self._send(
            socksio.SOCKS5CommandRequest(
                socksio.SOCKS5Command.CONNECT, kind, packed, self._target.port
            )
        )

    def _read_reply(self) -> bytes | None:
        self._check_version(_VERSION)
        if len(self._data) < 2:
            return None
        code = self._data[1]
        if code:
            # The rest does not matter, and some proxies leave it out.
            meaning = _CODES.get(code, "of unknown meaning")
            raise self._failed(
                f"could not connect to {self._target}: {meaning} (SOCKS5 reply {code})",
                CHECK_SERVER,
            )
        # With one byte of the address: a name begins with its length.
        if len(self._data) <= _FIXED:
            return None
        sizes = {1: 4, 3: 1 + self._data[_FIXED], 4: 16}
        kind = self._data[_FIXED - 1]
        if kind not in sizes:
            raise self._failed(
                f"{self._unanswered}: its reply has an address of unknown type {kind}"
            )
        size = _FIXED + sizes[kind] + _PORT
        if len(self._data) < size:
            return None
        # The proxy's own address, which is of no use.
        self.rest, self._data = self._data[size:], b""
        return b""
