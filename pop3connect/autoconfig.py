"""
Asks a mail provider over HTTPS for its POP3 servers: autoconfig, as Thunderbird has it.

The format is that of https://www.bucksch.org/1/projects/thunderbird/autoconfiguration/
and draft-ietf-mailmaint-autoconfig.  Only https is used, the certificate is checked as
that of a POP3 server, and no credentials are sent.
"""

from __future__ import annotations

import os
from collections.abc import Coroutine
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urljoin, urlsplit
from xml.etree import ElementTree

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as ExpiredError
from twisted.internet.interfaces import (
    IAddress,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.client import Agent, ResponseDone
from twisted.web.http import PotentialDataLoss
from zope.interface import implementer

from .address import Secure, ServerAddress
from .candidates import Candidate, MailAddress, host_name
from .client.establish import tcp_endpoint
from .redaction import printable

if TYPE_CHECKING:
    from .tls.context import ClientContext, ConnectionCreator

__all__ = ["look_up", "read"]

T = TypeVar("T")

MAX_ANSWER = 64 * 1024
"""Bytes of an answer, with its headers: the files of large providers have 5 KiB."""

MAX_REDIRECTIONS = 3
"""Redirections that are followed: one to the provider, one within it, and a spare."""

_MAX_USERNAME = 255
"""Characters of a user name; longer than any command of POP3 allows."""

_TOO_LONG = f"its answer has more than {MAX_ANSWER // 1024} KiB"

_HTTPS_PORT = 443

_REDIRECTIONS = (301, 302, 303, 307, 308)

_SECURE = {"SSL": Secure.TLS, "STARTTLS": Secure.STLS}


class _Unusable(Exception):
    """Why an answer cannot be used; the text can be shown."""


async def look_up(
    mailbox: MailAddress, seconds: float, reactor: Any
) -> tuple[list[Candidate], list[str]]:
    """
    Ask ``autoconfig.DOMAIN`` and ``DOMAIN/.well-known/autoconfig``, the first of which
    is preferred.

    :param seconds: the time limit for both together.
    :return: the servers in the provider's order, and why a place names none.
    :raises TLSError: the certificates to trust cannot be used.
    """
    from .tls.context import ClientContext
    from .tls.trust import Trust

    context = ClientContext(Trust.choose(None, False, os.environ))
    address, domain = quote(mailbox.text, safe=""), mailbox.domain
    urls = (
        f"https://autoconfig.{domain}/mail/config-v1.1.xml?emailaddress={address}",
        f"https://{domain}/.well-known/autoconfig/mail/config-v1.1.xml",
    )
    lookups = [
        _stoppable(_Place(reactor, context, seconds).ask(url, mailbox)).addTimeout(
            seconds, reactor
        )
        for url in urls
    ]
    refusals = []
    try:
        for url, lookup in zip(urls, lookups, strict=True):
            try:
                return await lookup, []
            except ExpiredError:
                problem = "no answer in time"
            except _Unusable as error:
                problem = str(error)
            refusals.append(f"{urlsplit(url).hostname}: {problem}")
        return [], refusals
    finally:
        for lookup in lookups:
            lookup.addErrback(lambda _: None)
            lookup.cancel()


def _stoppable(asking: Coroutine[Any, Any, T]) -> Deferred[T]:
    """
    Run a coroutine, which ends with `CancelledError` when it is cancelled.

    `Agent` makes other errors of it.
    """
    stopped = False

    def stop(_: object) -> None:
        nonlocal stopped
        stopped = True
        running.cancel()

    def settle(result: Any) -> None:
        if not stopped:
            outcome.callback(result)

    outcome: Deferred[T] = Deferred(stop)
    running: Deferred[Any] = Deferred.fromCoroutine(asking)
    running.addBoth(settle)
    return outcome


# -- HTTPS


class _Place:
    """
    Asks in one place.

    :param seconds: the time limit of each attempt to connect.
    """

    def __init__(self, reactor: Any, context: ClientContext, seconds: float) -> None:
        self._reactor = reactor
        self._context = context
        self._seconds = seconds
        self._creator: ConnectionCreator | None = None
        self._connections: list[_Limited] = []
        self._agent: Any = Agent.usingEndpointFactory(reactor, self)

    def endpointForURI(self, uri: Any) -> IStreamClientEndpoint:
        """Return the way to a web server, as `Agent` asks for it."""
        from twisted.internet.endpoints import wrapClientTLS

        server = ServerAddress(uri.host.decode("ascii"), uri.port, is_ip=False)
        self._creator = self._context.creator(server)
        below = tcp_endpoint(self._reactor, server, self._seconds)
        return _LimitedEndpoint(wrapClientTLS(self._creator, below), self._connections)

    async def ask(self, url: str, mailbox: MailAddress) -> list[Candidate]:
        """
        Return the servers that a place names; at least one.

        :raises _Unusable: it names none.
        """
        try:
            document = await self._get(url)
        except _Unusable:
            raise
        except Exception as error:
            # Of the network, of OpenSSL, or of Twisted's parser.
            raise _Unusable(self._reason(error)) from error
        finally:
            # `Agent` keeps a connection whose answer has not come to its end.
            for connection in self._connections:
                connection.abort()
        candidates, problems = read(document, mailbox)
        if not candidates:
            raise _Unusable("; ".join(problems) or "it names no POP3 server")
        return candidates

    async def _get(self, url: str) -> bytes:
        for _ in range(MAX_REDIRECTIONS + 1):
            response = await self._agent.request(b"GET", url.encode("ascii"))
            body = _Body()
            response.deliverBody(body)
            content = await body.read
            if self._exceeded:
                # An answer without a length looks complete.
                raise _Unusable(_TOO_LONG)
            if response.code not in _REDIRECTIONS:
                if response.code != HTTPStatus.OK:
                    raise _Unusable(f"HTTP status {response.code}")
                return content
            url = _redirected(url, response.headers.getRawHeaders(b"location"))
        raise _Unusable(f"more than {MAX_REDIRECTIONS} redirections")

    @property
    def _exceeded(self) -> bool:
        return any(connection.exceeded for connection in self._connections)

    def _reason(self, error: BaseException) -> str:
        if self._exceeded:
            return _TOO_LONG
        # What `Agent` makes of a loss holds the reasons.
        reasons = getattr(error, "reasons", None)
        if reasons:
            error = reasons[0].value
        refusal = None if self._creator is None else self._creator.failure(error)
        if refusal is not None:
            return refusal.message
        text = printable(str(error).encode()).rstrip(".")
        return f"{text:.200}" or type(error).__name__


def _redirected(url: str, locations: list[bytes] | None) -> str:
    """
    Return where a redirection leads.

    :raises _Unusable: to something else than a name by https, on its usual port.
    """
    location = (locations or [b""])[0].decode("ascii", "replace")
    try:
        parts = urlsplit(urljoin(url, location))
        usual = parts.port in (None, _HTTPS_PORT)
    except ValueError:
        parts, usual = urlsplit(""), False
    host = host_name(parts.hostname or "")
    if parts.scheme != "https" or not usual or not host or "@" in parts.netloc:
        raise _Unusable("it redirects to what is not an https URL with a host name")
    path = quote(parts.path, safe="/%:@!$&'()*+,;=~")
    query = quote(parts.query, safe="/%:@!$&'()*+,;=~?")
    return f"https://{host}{path or '/'}" + (f"?{query}" if query else "")


@implementer(IStreamClientEndpoint)
class _LimitedEndpoint:
    """
    Connects, and reads `MAX_ANSWER` bytes at most: `Agent` has no limit.

    :param connections: where the connections are added.
    """

    def __init__(
        self, below: IStreamClientEndpoint, connections: list[_Limited]
    ) -> None:
        self._below = below
        self._connections = connections

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect, and return the protocol of `protocolFactory`."""
        factory = _LimitedFactory(protocolFactory)
        connecting: Deferred[Any] = self._below.connect(factory)

        def connected(limited: _Limited) -> Any:
            self._connections.append(limited)
            return limited.wrappedProtocol

        return connecting.addCallback(connected)


class _Limited(ProtocolWrapper):
    """Closes the connection when too much was received."""

    _received = 0
    _lost = False
    exceeded = False

    def dataReceived(self, data: bytes) -> None:
        """Count, and pass on."""
        self._received += len(data)
        if self._received <= MAX_ANSWER:
            super().dataReceived(data)
        else:
            self.exceeded = True
            self.abort()

    def abort(self) -> None:
        """Close now, if it is still open."""
        transport: Any = self.transport
        if not self._lost:
            transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Note it, and pass it on."""
        self._lost = True
        super().connectionLost(reason)


if TYPE_CHECKING:
    _Factory = WrappingFactory[_Limited]
else:
    # It became generic after the oldest Twisted that we support.
    _Factory = WrappingFactory


class _LimitedFactory(_Factory):
    """Puts a `_Limited` below the protocol of another factory."""

    noisy = False
    protocol = _Limited

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Build both."""
        return super().buildProtocol(addr)


class _Body(Protocol):
    """
    Collects the body of an answer.

    :ivar read: fires with it.
    """

    def __init__(self) -> None:
        self.read: Deferred[bytes] = Deferred()
        self._data: list[bytes] = []

    def dataReceived(self, data: bytes) -> None:
        """Keep a piece."""
        self._data.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Hand over all of it, also if only the end of the connection ends it."""
        if reason.check(ResponseDone, PotentialDataLoss):
            self.read.callback(b"".join(self._data))
        else:
            self.read.errback(reason)


# -- the document


def read(document: bytes, mailbox: MailAddress) -> tuple[list[Candidate], list[str]]:
    """
    Read the POP3 servers of a file, and why others cannot be used.

    :raises _Unusable: it is not a file of autoconfig.
    """
    try:
        text = document.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _Unusable("its answer is not in UTF-8") from None
    if "<!DOCTYPE" in text:
        # Entities, which can grow without end, are declared nowhere else.
        raise _Unusable("its answer has a DOCTYPE, as web pages do")
    try:
        # From a str, so that no other encoding can be declared.
        root = ElementTree.fromstring(text)  # noqa: S314 - there are no entities
    except (ElementTree.ParseError, ValueError):
        raise _Unusable("its answer is not XML") from None
    if root.tag != "clientConfig":
        raise _Unusable("its answer is not a file of autoconfig")
    candidates, problems = [], []
    for server in root.iterfind("emailProvider/incomingServer[@type='pop3']"):
        try:
            candidates.append(_candidate(server, mailbox))
        except _Unusable as error:
            problems.append(str(error))
    return candidates, list(dict.fromkeys(problems))[:3]


def _candidate(server: ElementTree.Element, mailbox: MailAddress) -> Candidate:
    def values(name: str) -> list[str]:
        return [_filled(each.text or "", mailbox) for each in server.iterfind(name)]

    def value(name: str) -> str:
        return (values(name) or [""])[0]

    secure = _SECURE.get(value("socketType"))
    if secure is None:
        raise _Unusable("it names a POP3 server without TLS")
    given, port = value("hostname"), value("port")
    host = host_name(given)
    if not host:
        shown = printable(given.encode())
        raise _Unusable(f"it names '{shown:.100}', which is not a host name")
    if not (port.isascii() and port.isdecimal() and len(port) <= 5) or not (
        1 <= int(port) <= 65535
    ):
        raise _Unusable(f"it names {host!r:.100} without a port from 1 to 65535")
    usernames = tuple(
        each
        for each in dict.fromkeys(values("username"))
        if each and each.isprintable() and len(each) <= _MAX_USERNAME
    )
    return Candidate(
        host,
        int(port),
        secure,
        mailbox.domain,
        usernames or (mailbox.text, mailbox.local),
        source="autoconfig",
    )


def _filled(text: str, mailbox: MailAddress) -> str:
    """Put the parts of the address into a text."""
    _, _, domain = mailbox.text.rpartition("@")
    for name, part in (
        ("%EMAILADDRESS%", mailbox.text),
        ("%EMAILLOCALPART%", mailbox.local),
        ("%EMAILDOMAIN%", domain),
    ):
        text = text.replace(name, part)
    return text.strip()
