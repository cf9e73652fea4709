"""
``discover()``: which POP3 servers the DNS, or the provider, names for a mail address.

RFC 6186 defines the SRV records, RFC 8314 prefers TLS at once, RFC 2782 says how to
choose among them.  Nothing here connects to the servers.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.defer import TimeoutError as ExpiredError
from twisted.internet.interfaces import IReactorTime, IResolver
from twisted.python.failure import Failure

from .address import Secure
from .candidates import Candidate, MailAddress, host_name
from .connector import MAX_SECONDS
from .errors import ConnectError, POP3Error, TimedOutError, UsageError
from .reactors import check_reactor
from .redaction import printable
from .remedies import Remedy

if TYPE_CHECKING:
    from twisted.names.dns import RRHeader

__all__ = ["Candidate", "MailAddress", "discover", "ordered"]

_SERVICES = (("_pop3s._tcp", Secure.TLS), ("_pop3._tcp", Secure.STLS))
"""The names of the records (RFC 6186 section 3.3), the preferred one first (RFC 8314
section 3)."""

MAX_RECORDS = 64
"""Records of one answer that are looked at: providers have fewer servers, and an answer
of 2,000 records takes time to order."""

MAX_CANDIDATES = 16
"""Servers that are returned: a program may try all, one after the other."""

_MAX_ALIASES = 8
"""CNAME records that are followed in one answer."""

_TRIES = (0.05, 0.2, 0.7)
"""How the time limit is divided among the attempts to ask a DNS server."""

_ASK = Remedy("ask the provider of the mailbox for the name of its server")
_CHECK = Remedy("check the domain and the network, or try again later")


def discover(
    address: str,
    *,
    timeout: float = 30.0,
    resolver: IResolver | None = None,
    reactor: IReactorTime | None = None,
    autoconfig: bool = False,
) -> Deferred[list[Candidate]]:
    """
    Ask the DNS for the POP3 servers of a mail address (RFC 6186, RFC 8314).

    :param address: such as ``"ada@example.com"``.
    :param timeout: seconds for all answers.
    :param resolver: an ``IResolver``; default: that of
        `twisted.names.client.getResolver`, which asks the DNS servers of the system.
    :param reactor: used for the time limit and for HTTPS; default: the global one.
    :param autoconfig: ask the provider over HTTPS as well: ``autoconfig.DOMAIN``, which
        is sent the address, and ``DOMAIN/.well-known/autoconfig``.  The servers that it
        names come after those of the DNS.
    :return: fires with the servers in the order in which to try them: TLS at once
        before STLS, then by priority, then at random by weight (RFC 2782).  Each is a
        proposal, see `Candidate`.  Nothing is sent to the servers.

    It fails with `UsageError` (the address), `ConnectError` (the domain names no
    server, or the DNS cannot be asked), `TLSError` (autoconfig: the certificates to
    trust cannot be used) and `TimedOutError`.
    """
    return Deferred.fromCoroutine(
        _discover(address, timeout, resolver, reactor, bool(autoconfig))
    )


async def _discover(
    address: str, timeout: float, resolver: Any, reactor: Any, autoconfig: bool
) -> list[Candidate]:
    mailbox = MailAddress.parse(address)
    if (
        not isinstance(timeout, (int, float))
        or isinstance(timeout, bool)
        or not 0 < timeout <= MAX_SECONDS
    ):
        raise UsageError(
            "timeout must be a number of seconds above 0, of a year at most, not "
            f"{timeout!r:.50}"
        )
    if reactor is None:
        # Not at the top: the first import installs a reactor.
        from twisted.internet import reactor
    check_reactor(reactor)
    if resolver is None:
        from twisted.names.client import getResolver

        resolver = getResolver()
    started = reactor.seconds()
    tries = [timeout * part for part in _TRIES]
    lookups = [
        resolver.lookupService(f"{service}.{mailbox.domain}", tries).addTimeout(
            timeout, reactor
        )
        for service, _ in _SERVICES
    ]
    answers = await DeferredList(lookups, consumeErrors=True)
    found: list[Candidate] = []
    doubts: list[str] = []
    for (service, secure), (good, answer) in zip(_SERVICES, answers, strict=True):
        if good:
            for record in _records(answer[0], f"{service}.{mailbox.domain}"):
                host, problem = _usable(record)
                if problem:
                    doubts.append(f"{service} {problem}")
                else:
                    names = (mailbox.text, mailbox.local)
                    found.append(
                        Candidate(host, record.port, secure, mailbox.domain, names)
                    )
        else:
            _check(mailbox, answer, timeout)
    refusals: list[str] | None = None
    if autoconfig:
        # Not at the top: OpenSSL and HTTP take time.
        from .autoconfig import look_up

        left = timeout - (reactor.seconds() - started)
        told, refusals = await look_up(mailbox, max(left, 0), reactor)
        found += told
    if not found:
        raise _nothing(mailbox, doubts, refusals)
    # A server may be there twice.
    unique: dict[tuple[str, Secure], Candidate] = {}
    for each in found:
        unique.setdefault((each.server, each.secure), each)
    return list(unique.values())[:MAX_CANDIDATES]


# -- reading the answers


def _records(answers: Sequence[RRHeader], name: str) -> list[Any]:
    """
    Return the SRV records for a name, also under the names it is an alias for.

    An answer may have records of any name and type; the others are ignored.
    """
    from twisted.names import dns

    ours: list[Any] = [each for each in answers if each.cls == dns.IN]
    wanted = name.lower().encode("ascii")
    aliases = {}
    for each in ours:
        if isinstance(each.payload, dns.Record_CNAME):
            alias: Any = each.payload.name
            aliases[each.name.name.lower()] = alias.name.lower()
    for _ in range(_MAX_ALIASES):
        wanted = aliases.get(wanted, wanted)
    return ordered(
        each.payload
        for each in ours
        if isinstance(each.payload, dns.Record_SRV) and each.name.name.lower() == wanted
    )


def _usable(record: Any) -> tuple[str, str]:
    """Return the host of a record, and why it cannot be used; one of them is empty."""
    target: bytes = record.target.name
    if target in (b"", b"."):
        return "", "does not exist there (RFC 2782)"
    host = host_name(target.decode("ascii", "replace"))
    shown = f"'{printable(target):.100}'"
    if not host:
        return "", f"names {shown}, which is not a host name"
    if not record.port:
        return "", f"names {shown} with the port 0"
    return host, ""


def ordered(
    records: Iterable[Any], draw: Callable[[int], int] = secrets.randbelow
) -> list[Any]:
    """
    Return SRV records in the order in which to try them (RFC 2782, "Usage rules").

    :param draw: returns a random number from 0, below its argument.
    """
    rest = sorted(records, key=lambda record: (record.priority, record.weight))
    rest = rest[:MAX_RECORDS]
    chosen = []
    while rest:
        group = [each for each in rest if each.priority == rest[0].priority]
        drawn = draw(sum(each.weight for each in group) + 1)
        for each in group:
            drawn -= each.weight
            if drawn <= 0:
                break
        rest.remove(each)
        chosen.append(each)
    return chosen


# -- what went wrong


def _check(mailbox: MailAddress, failure: Failure, timeout: float) -> None:
    """
    Raise the error of a failed lookup, unless it says that no records exist.

    One failure is enough: a server may be missing from the rest.
    """
    from twisted.names import error as dns

    if failure.check(dns.DNSNameError, dns.AuthoritativeDomainError):
        return
    cause = failure.value
    if isinstance(cause, CancelledError):
        raise cause
    if failure.check(ExpiredError):
        raise _late(mailbox, timeout) from cause
    meanings: dict[type, str] = {
        dns.DNSServerError: "the DNS server failed (SERVFAIL)",
        dns.DNSQueryRefusedError: "the DNS server refused to answer",
        dns.DNSFormatError: "the DNS server did not understand the question",
        dns.DNSNotImplementedError: "the DNS server does not answer such questions",
    }
    # Its text may be a whole message of the server.
    what = meanings.get(type(cause), f"the DNS failed with {type(cause).__name__}")
    raise ConnectError(what, server=mailbox.domain, remedy=_CHECK) from cause


def _late(mailbox: MailAddress, timeout: float) -> TimedOutError:
    return TimedOutError(
        f"the DNS did not answer within {timeout:g} seconds",
        phase="looking up",
        seconds=timeout,
        server=mailbox.domain,
        remedy=_CHECK,
    )


def _nothing(
    mailbox: MailAddress, doubts: Sequence[str], refusals: Sequence[str] | None
) -> POP3Error:
    what = "the DNS names no POP3 server for this domain"
    if doubts:
        what += f" that can be used: {'; '.join(dict.fromkeys(doubts[:3]))}"
    if refusals is not None:
        what += f", and autoconfig none: {'; '.join(refusals)}"
    return ConnectError(what, server=mailbox.domain, remedy=_ASK)
