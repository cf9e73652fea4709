"""
The mail address that a server is looked for, and the servers that are found.
"""

from __future__ import annotations

import re

import attrs

from .address import Secure, ServerAddress
from .errors import UsageError

__all__ = ["Candidate", "MailAddress", "host_name"]

_MAX_DOMAIN = 253 - len("_pop3s._tcp.")
_MAX_LOCAL = 64  # octets; RFC 5321 section 4.5.3.1.1


@attrs.frozen
class Candidate:
    """
    A server that the DNS, or the provider, names for a mail address.

    It is a proposal: DNS answers can be forged on their way, and `discover` cannot know
    whether they were checked by DNSSEC.  Before a password is sent to the server, show
    its name to the user, or verify the server as ``domain`` (RFC 7817 section 3).

    :ivar host: its name.
    :ivar port: 1 to 65535.
    :ivar secure: `Secure.TLS` or `Secure.STLS`.
    :ivar domain: the domain of the address, in ASCII.
    :ivar usernames: the user names to try, the likeliest first: the whole address, then
        what is before the ``@`` (RFC 6186 section 4); with autoconfig, those that the
        provider gives.
    :ivar source: ``"srv"`` (the DNS) or ``"autoconfig"`` (HTTPS, with a certificate for
        the domain).
    """

    host: str
    port: int
    secure: Secure
    domain: str
    usernames: tuple[str, ...]
    source: str = "srv"

    @property
    def server(self) -> str:
        """``host:port``, as `connect` takes it."""
        return f"{self.host}:{self.port}"

    @property
    def in_domain(self) -> bool:
        """
        Whether the server's name is in the domain of the address.

        If it is not, ask the user before anything is sent to it (RFC 6186 section 6).
        """
        return f".{self.host}".endswith(f".{self.domain}")


@attrs.frozen
class MailAddress:
    """
    The address of a mailbox.

    :ivar domain: in ASCII (A-labels).
    """

    text: str
    local: str
    domain: str

    @classmethod
    def parse(cls, address: str) -> MailAddress:
        """
        Read ``"ada@example.com"``; the domain may be an international one.

        :raises UsageError: it is something else.
        """
        if not isinstance(address, str):
            raise UsageError(
                "the address must be a str like 'ada@example.com', not "
                f"{type(address).__name__}"
            )
        text = address.strip()
        local, at, domain = text.rpartition("@")
        if re.search(r"[:/]", text):
            # A URL or user:password@host; it is not repeated.
            raise _bad("without a colon or slash", None)
        if not at or not local or not domain:
            raise _bad("with a name before the @ and a domain after it", text)
        if not text.isprintable() or len(local.encode(errors="replace")) > _MAX_LOCAL:
            raise _bad(
                f"in one line, with at most {_MAX_LOCAL} bytes before the @", text
            )
        host = host_name(domain)
        if not host or len(host) > _MAX_DOMAIN:
            raise _bad("with the name of a domain after the @", text)
        return cls(text, local, host)


def _bad(wanted: str, text: str | None) -> UsageError:
    shown = "" if text is None else f", not {text!r:.100}"
    return UsageError(f"the address must be like 'ada@example.com', {wanted}{shown}")


def host_name(text: str) -> str:
    """Return a host name in ASCII; an empty text if it cannot be one."""
    if re.search(r"[:\s]", text):
        # A port, an IPv6 address, or blanks around the name.
        return ""
    try:
        found = ServerAddress.parse(text)
    except UsageError:
        return ""
    return "" if found.is_ip else found.host
