"""
Parses the server as the user gives it: ``"host[:port]"`` -> `ServerAddress`.

Pure: no name is looked up here.
"""

from __future__ import annotations

import enum
import ipaddress
import re
import unicodedata

import attrs
import idna

from .errors import UsageError

__all__ = ["POP3S_PORT", "POP3_PORT", "Secure", "ServerAddress"]

POP3_PORT = 110
"""The port without TLS, and for STLS (RFC 1939 section 3)."""

POP3S_PORT = 995
"""The port for TLS from the first octet (RFC 8314 section 3.1)."""

# Letters, digits, hyphen; and the underscore, which names in private networks
# do have.  Length limits: RFC 1035 section 2.3.4.
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)\Z")
_MAX_NAME = 253
_ZONE = r"[A-Za-z0-9_.~-]{1,64}\Z"

_NOT_IN_A_SERVER = re.compile(r"[/\\@?#{}]")
"""Characters of a URL, of a user before the host, and of PHP's ``{host:995/pop3}``."""

_NUMERIC = r"\[?[0-9A-Fa-f:.]*(?:%[A-Za-z0-9_.~-]*)?\]?\Z"
"""An IPv6 address, or an attempt at one."""

_DIGITS = re.compile(r"[\s:+-]*[0-9_]*\s*\Z")
"""A port, or an attempt at one."""


class Secure(enum.IntEnum):
    """How a session is protected; the numbers are those of Omnis."""

    NONE = 0
    """Not at all."""

    TLS = 1
    """TLS from the first octet, on port 995 (RFC 8314)."""

    STLS = 2
    """Upgraded after the greeting and before the login (RFC 2595)."""


@attrs.frozen
class ServerAddress:
    """
    A server: where to connect to, and the name that its certificate must have.

    :ivar host: a host name in ASCII (A-labels), lower case and without a final
        dot, or an IP address in its canonical form.
    :ivar port: 1 to 65535.
    :ivar is_ip: whether ``host`` is an IP address.
    """

    host: str
    port: int
    is_ip: bool

    @classmethod
    def parse(cls, server: str, default_port: int = POP3_PORT) -> ServerAddress:
        """
        Read ``"host"``, ``"host:port"``, ``"192.0.2.1:1100"``,
        ``"[2001:db8::1]:1100"`` or ``"2001:db8::1"``.

        :raises UsageError: it is something else; the message says why.  A text that
            may hold a password, such as a URL, is not repeated in the message or in
            ``.server``.
        """
        if not isinstance(server, str):
            raise UsageError(
                f"the server must be a str like 'pop.example.com' or "
                f"'pop.example.com:1100', not {type(server).__name__}"
            )
        problem = _untold(server)
        if problem:
            # A traceback that shows local variables does not repeat it either.
            del server
            raise UsageError(problem)
        text, port = _split(server)
        ip = _ip(server, text)
        return cls(
            host=_name(server, text) if ip is None else ip,
            port=_port(server, port, default_port),
            is_ip=ip is not None,
        )

    def __str__(self) -> str:
        """Return ``host:port``, with brackets around an IPv6 address."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def _untold(server: str) -> str:
    """
    Return what is wrong with a text that may hold a password; else nothing.

    Such are URLs, ``user:password@host``, and ``user:password``.
    """
    # Other forms of these characters, which IDNA maps to them, count as well.
    text = unicodedata.normalize("NFKC", server.strip())
    if _NOT_IN_A_SERVER.search(text) or ("%" in text and text.count(":") < 2):
        return (
            "the server must be a host or host:port, such as 'pop.example.com:995', "
            "not a URL, and without a user name or password; whether TLS is used is "
            "a separate option"
        )
    host, bracket, rest = text.partition("]")
    if not text.startswith("[") and text.count(":") == 1:
        host, bracket, rest = text.partition(":")
    if bracket and not _DIGITS.match(rest):
        return (
            "the text after the colon of the server is not a port: give a number "
            "from 1 to 65535, such as 'pop.example.com:995'"
        )
    if ":" in host and not re.match(_NUMERIC, host):
        return (
            "the server has several colons and is not an IPv6 address; give a host or "
            "host:port, such as 'pop.example.com:995' or '[2001:db8::1]:995'"
        )
    return ""


def _split(server: str) -> tuple[str, str | None]:
    text = server.strip()
    if not text:
        raise UsageError("the server is empty: give a host name or an IP address")
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")) or ":" not in host:
            raise UsageError(
                "an IPv6 address in brackets is written like '[2001:db8::1]:110'",
                server=server,
            )
        return host, rest[1:] if rest else None
    if text.count(":") > 1:
        # More than one colon and no brackets: an IPv6 address without a port.
        return text, None
    host, colon, port = text.partition(":")
    return host, port if colon else None


def _ip(server: str, text: str) -> str | None:
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        pass
    else:
        # A zone is handed to the operating system, and shown.
        _, percent, zone = text.partition("%")
        if not percent or re.match(_ZONE, zone):
            return str(ip)
    if ":" in text or _ends_in_number(text):
        raise UsageError(f"{text!r} is not a valid IP address", server=server)
    return None


def _ends_in_number(name: str) -> bool:
    # No name does (RFC 1123 section 2.1): this was meant to be an address, and a
    # resolver would read it in its own way.
    return name.rstrip(".").rpartition(".")[2].isdecimal()


def _name(server: str, text: str) -> str:
    name = text.removesuffix(".")
    if not name.isascii():
        try:
            name = idna.encode(name, uts46=True).decode("ascii")
        except idna.IDNAError as error:
            raise UsageError(
                f"{text!r} is not a valid international host name: {error}",
                server=server,
            ) from error
    if (
        len(name) > _MAX_NAME
        or _ends_in_number(name)
        or not all(map(_LABEL.match, name.split(".")))
    ):
        raise UsageError(f"{text!r} is not a valid host name", server=server)
    return name.lower()


def _port(server: str, text: str | None, default: int) -> int:
    if text is None:
        return default
    # isdecimal() alone would take digits of other scripts, int() signs.
    if text.isascii() and text.isdecimal() and len(text) <= 5:
        port = int(text)
        if 1 <= port <= 65535:
            return port
    raise UsageError(
        f"{text!r} is not a port: give a number from 1 to 65535", server=server
    )
