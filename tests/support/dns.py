"""
A DNS server on loopback, of twisted.names, whose answers the test chooses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError
from twisted.names import dns
from twisted.names.client import Resolver
from twisted.names.common import ResolverBase
from twisted.names.error import AuthoritativeDomainError
from twisted.names.server import DNSServerFactory

__all__ = ["Answers", "header", "resolver", "serve", "srv"]


def header(
    name: str | bytes, payload: Any, kind: int | None = None, cls: int = dns.IN
) -> Any:
    """Return a record of a name; ``kind``: another type than that of its contents."""
    return dns.RRHeader(name, payload.TYPE if kind is None else kind, cls, 60, payload)


def srv(
    name: str, target: str | bytes, port: int = 995, priority: int = 0, weight: int = 0
) -> Any:
    """Return an SRV record."""
    return header(name, dns.Record_SRV(priority, weight, port, target))


class Answers(ResolverBase):
    """
    Answers with the records of a test.

    :ivar names: for each name its answer: records, an error, or a Deferred of them.
    :ivar asked: the names and types that were asked for.
    """

    def __init__(self, names: dict[str, Any]) -> None:
        super().__init__()
        self.names = names
        self.asked: list[tuple[str, int]] = []

    def _lookup(self, name: bytes, cls: int, type: int, timeout: Any) -> Deferred[Any]:
        asked = name.decode("ascii").lower()
        self.asked.append((asked, type))
        answer = self.names.get(asked, AuthoritativeDomainError(name))
        if isinstance(answer, Deferred):
            return answer
        if isinstance(answer, Exception):
            return fail(answer)
        return succeed((list(answer), [], []))


def serve(reactor: Any, answers: Any) -> tuple[int, list[Any]]:
    """Listen on one port, with UDP and TCP; return it, and what has to stop."""
    for _ in range(100):
        factory = DNSServerFactory(clients=[answers])
        factory.noisy = False
        tcp = reactor.listenTCP(0, factory, interface="127.0.0.1")
        port = tcp.getHost().port
        protocol = dns.DNSDatagramProtocol(factory)
        protocol.noisy = False
        try:
            udp = reactor.listenUDP(port, protocol, interface="127.0.0.1")
        except CannotListenError:
            tcp.stopListening()
            continue
        return port, [tcp, udp]
    raise AssertionError("no port is free for both UDP and TCP")


def resolver(reactor: Any, servers: Sequence[tuple[str, int]]) -> Resolver:
    """Return a resolver that asks these servers."""
    return Resolver(servers=list(servers), reactor=reactor)
