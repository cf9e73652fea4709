"""
Connects to a host by its name, over IPv4 and IPv6 side by side.

Twisted's `HostnameEndpoint` does that, but refuses names that are not valid under IDNA
2008, such as ``mail_server`` and ``ab--mail``, as Docker Compose and private networks
have them.  So the name is looked up here, as it is, and `HostnameEndpoint` is given
the addresses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IProtocol,
    IProtocolFactory,
    IReactorPluggableNameResolver,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from zope.interface import implementer

__all__ = ["AddressesEndpoint", "NameEndpoint", "look_up"]

_NAME = "host.invalid"
"""Stands for the name once its addresses are known; it is not looked up or shown."""


def look_up(reactor: Any, host: str, port: int) -> Deferred[list[IAddress]]:
    """
    Return the addresses of a host, in the resolver's order.

    :param host: a name in ASCII, which the resolver is given as it is.
    :return: fires with IPv4 and IPv6 addresses; an empty list if none was found.
    """
    found: Deferred[list[IAddress]] = Deferred()
    reactor.nameResolver.resolveHostName(_Receiver(found), host, portNumber=port)
    return found


@implementer(IResolutionReceiver)
class _Receiver:
    """Collects the addresses of one look-up."""

    def __init__(self, found: Deferred[list[IAddress]]) -> None:
        self._found = found
        self._addresses: list[IAddress] = []

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """Do nothing: Twisted's resolver cannot be stopped."""

    def addressResolved(self, address: IAddress) -> None:
        """Keep an address."""
        self._addresses.append(address)

    def resolutionComplete(self) -> None:
        """Hand over all addresses."""
        self._found.callback(self._addresses)


@implementer(IStreamClientEndpoint)
class NameEndpoint:
    """
    Connects to the first address of a host that answers (RFC 8305).

    :param host: a name in ASCII.
    :param timeout: seconds for each attempt.
    """

    def __init__(self, reactor: Any, host: str, port: int, timeout: float) -> None:
        self._reactor = reactor
        self._host = host
        self._port = port
        self._timeout = timeout

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        Look up the name, and connect.

        :return: fails with `DNSLookupError` if no address was found, or with the reason
            of the last attempt.
        """

        def connect_to(addresses: list[IAddress]) -> Deferred[IProtocol]:
            if not addresses:
                raise DNSLookupError(f"no results for hostname lookup: {self._host}")
            endpoint = AddressesEndpoint(self._reactor, addresses, self._timeout)
            return endpoint.connect(protocolFactory)

        looked_up = look_up(self._reactor, self._host, self._port)
        return looked_up.addCallback(connect_to)


@implementer(IStreamClientEndpoint)
class AddressesEndpoint:
    """
    Connects to the first of these addresses that answers (RFC 8305).

    :param addresses: at least one, each with its port.
    :param timeout: seconds for each attempt.
    """

    def __init__(
        self, reactor: Any, addresses: Sequence[IAddress], timeout: float
    ) -> None:
        self._endpoint = HostnameEndpoint(
            _Resolved(reactor, addresses), _NAME, 0, timeout
        )

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        Connect.

        :return: fails with the reason of the last attempt.
        """
        return self._endpoint.connect(protocolFactory)


@implementer(IReactorPluggableNameResolver, IHostnameResolver, IHostResolution)
class _Resolved:
    """A reactor for which every host has the same addresses, without a look-up."""

    name = _NAME

    def __init__(self, reactor: Any, addresses: Sequence[IAddress]) -> None:
        self._reactor = reactor
        self._addresses = addresses

    @property
    def nameResolver(self) -> _Resolved:
        """Itself."""
        return self

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        """Give the addresses, at once."""
        resolutionReceiver.resolutionBegan(self)
        for address in self._addresses:
            resolutionReceiver.addressResolved(address)
        resolutionReceiver.resolutionComplete()
        return self

    def cancel(self) -> None:
        """Do nothing: a look-up here is over as soon as it begins."""

    def __getattr__(self, name: str) -> Any:
        """Do everything else as the reactor does."""
        return getattr(self._reactor, name)
