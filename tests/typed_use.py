"""
The public names as a user's type checker sees them; never run, only checked by mypy.

Whoever has ``mypy --strict`` should need neither a cast nor an ignore.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from email.message import EmailMessage
from io import BytesIO
from pathlib import Path
from typing import Any

from cryptography.x509 import Certificate
from twisted.application.internet import backoffPolicy
from twisted.internet import ssl
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import (
    IConsumer,
    IListeningPort,
    IReactorTCP,
    IReactorTime,
    IResolver,
)
from twisted.internet.task import Clock
from typing_extensions import assert_type

import pop3connect.blocking
from pop3connect import (
    UID,
    Candidate,
    Capabilities,
    CommandError,
    Committed,
    Connector,
    DestinationError,
    Handle,
    Listing,
    LoginError,
    LoginInfo,
    Message,
    POP3Error,
    Refused,
    Secure,
    Stat,
    Stored,
    TimedOutError,
    TLSInfo,
    TLSOptions,
    connect,
    discover,
    omnis,
)
from pop3connect.blocking import BlockingHandle
from pop3connect.events import Closed, Event, MessageReceived, ReplyReceived
from pop3connect.omnis import (
    Code,
    Omnis,
    POP3Connect,
    POP3ListMessages,
    blocking,
    error_text,
    kTrue,
)
from pop3connect.testing import MailboxServer, Script, ScriptedServer


def opened(endpoint: HostnameEndpoint, show: Callable[[str], None]) -> None:
    """
    Each way to give an argument.
    """

    async def token() -> str:
        return "token"

    def later() -> Deferred[str]:
        return Deferred()

    assert_type(connect("pop.example.com", "ada", "secret"), Deferred[Handle])
    connect("pop.example.com", "ada", "secret", print, 2, False)
    connect("pop.example.com", "ada", "secret", show, Secure.TLS, cacerts="folder")
    connect("pop.example.com", "ada", later, secure=True, endpoint=endpoint)
    connect("pop.example.com", "ada", token, auth="XOAUTH2", timeout=5)
    connect("pop.example.com", "ada", lambda: "secret", max_message_size=10**6)
    connect("pop.example.com", "", "", auth="EXTERNAL", client_certificate="ada.pem")
    own = ssl.Certificate.loadPEM(b"")
    for trusted in (b"pem", Path("ca.pem"), own, ssl.platformTrust()):
        connect("pop.example.com", "ada", "secret", secure=2, cacerts=trusted)
    root = ssl.trustRootFromCertificates([own])
    connect("pop.example.com", "ada", "secret", secure=2, cacerts=root)
    options = TLSOptions(
        minimum_version="TLSv1.3",
        ciphers="ECDHE+AESGCM",
        client_key_password=b"secret",
        crl=Path("revoked.pem"),
    )
    assert_type(options.crl, Path | None)
    connect("pop.example.com", "ada", "secret", secure=1, tls=options, pins=["x"])
    connect("pop.example.com", "boss", "secret", pins=("x", "y"), authorize_as="bob")
    connector = Connector("pop.example.com", tls=options, authorize_as="bob")
    assert_type(connector.connect("a", "b", authorize_as="eve"), Deferred[Handle])


def observed(endpoint: HostnameEndpoint) -> None:
    """
    Events, proxies and descriptions.
    """

    def count(event: Event) -> None:
        match event:
            case ReplyReceived(verb=verb, seconds=seconds):
                assert_type(verb, str | None)
                assert_type(seconds, float)
            case MessageReceived(number=number, octets=octets):
                assert_type(number + octets, int)
            case Closed():
                assert_type(event.error, POP3Error | None)
        assert_type(event.session + event.server, str)

    told: list[Event] = []
    connect("pop.example.com", "ada", "secret", events=count, endpoint="unix:/pop3")
    connect("pop.example.com", "ada", "secret", events=told.append)
    connect("pop.example.com", "ada", "secret", proxy="socks5://proxy")
    connect("pop.example.com", "ada", "secret", proxy=1080)  # type: ignore[arg-type]
    connector = Connector("pop.example.com", events=count, proxy=None)
    assert_type(connector.connect("ada", "secret", events=count), Deferred[Handle])
    pop3connect.blocking.connect("pop.example.com", "ada", "secret", events=count)


async def found(resolver: IResolver, clock: IReactorTime) -> None:
    """
    Discovery.
    """
    assert_type(discover("ada@example.com"), Deferred[list[Candidate]])
    discover("ada@example.com", autoconfig=True)
    for candidate in await discover(
        "ada@example.com", timeout=5, resolver=resolver, reactor=clock
    ):
        assert_type(candidate.secure, Secure)
        assert_type(candidate.usernames, tuple[str, ...])
        assert_type(candidate.in_domain, bool)
        connect(candidate.server, candidate.usernames[0], "secret", None, 1)


async def session(handle: Handle, consumer: IConsumer) -> None:
    """
    What each method comes to.
    """
    assert_type(await handle.stat(), Stat)
    count, size = await handle.stat()
    assert_type(count + size, int)
    assert_type(await handle.list(), list[Listing])
    assert_type(await handle.size(1), int)
    assert_type(await handle.uidl(), list[UID])
    assert_type(await handle.uid(1), str)
    assert_type(await handle.retrieve(1), bytes)
    assert_type(await handle.retrieve(1, consumer), int)
    assert_type(await handle.top(1, 10), bytes)
    assert_type(await handle.capa(), Capabilities)
    assert_type(await handle.lang(), dict[str, str])
    assert_type(handle.lang("en"), Deferred[None])
    for nothing in (handle.delete(1), handle.reset(), handle.noop(), handle.utf8()):
        assert_type(nothing, Deferred[None])
    async for message in handle.messages(range(1, 10), ahead=4):
        assert_type(message, Message | Refused)
        if message.error is None:
            assert_type(message, Message)
            assert_type(message.content, bytes)
        else:
            assert_type(message, Refused)
            assert_type(message.error, POP3Error)
        if isinstance(message, Refused):
            assert_type(message.error, POP3Error)
        assert_type(message.number, int)
    async for item in handle.messages(into=lambda _: BytesIO()):
        assert_type(item, Stored | Refused)
        if item.error is None:
            assert_type(item, Stored)
            assert_type(item.size, int)
            item.destination.close()
        elif isinstance(item.error, DestinationError):
            assert_type(item.error.number, int | None)
    handle.messages([1], into=lambda _: consumer, progress=lambda n, done, of: None)
    handle.messages(into="folder")  # type: ignore[call-overload]
    async for header in handle.headers([1], lines=5):
        assert_type(header, Message | Refused)
        if header.error is None:
            assert_type(header.subject + header.sender + header.date, str)
            mail: EmailMessage = header.parse()
            mail.get_content()
    assert_type(await handle.command("XTND", "A"), str)
    assert_type(await handle.command("XLIST", multiline=True), bytes)
    assert_type(handle.is_open, bool)
    stored: list[bytes] = [
        message.content async for message in handle.messages() if message.error is None
    ]
    assert_type(len(stored), int)
    assert_type(await handle.disconnect(), Committed)
    assert_type(handle.abort(), Deferred[None])
    assert_type(handle.when_closed(), Deferred[None])


async def polls(connector: Connector) -> None:
    """One session after the other."""
    async for handle in connector.sessions("ada", "lovelace", interval=60):
        async with handle:
            assert_type(await handle.stat(), Stat)
    policy = backoffPolicy()
    connector.sessions("ada", "lovelace", backoff=policy, failed=not_opened)


def not_opened(error: POP3Error, seconds: float) -> None:
    """Count it."""


async def looked_at(opening: Deferred[Handle]) -> None:
    """
    The context manager, and the attributes.
    """
    async with await opening as handle:
        assert_type(handle, Handle)
        assert_type(handle.login, LoginInfo)
        assert_type(handle.capabilities.sasl, tuple[str, ...])
        assert_type(handle.greeting, str)
        if handle.tls is not None:
            assert_type(handle.tls, TLSInfo)
            assert_type(handle.tls.verified, bool)
            assert_type(handle.tls.verified_by, str | None)
            assert_type(handle.tls.peer_certificate, Certificate | None)


def failed(error: POP3Error) -> str:
    """
    What is known of an error, by its kind.
    """
    if isinstance(error, LoginError):
        assert_type(error.mechanism, str | None)
        assert_type(error.retry_after, int | None)
    if isinstance(error, CommandError):
        assert_type(error.code, str | None)
        assert_type(error.transient, bool | None)
        return error.text
    if isinstance(error, TimedOutError):
        assert_type(error.seconds, float)
        return error.phase
    return f"{error.server} {error.verb}"


def blocked() -> None:
    """
    The same without Deferreds.
    """
    with pop3connect.blocking.connect("pop.example.com", "ada", "secret") as handle:
        assert_type(handle, BlockingHandle)
        assert_type(handle.stat(), Stat)
        assert_type(handle.lang(), dict[str, str])
        assert_type(handle.retrieve(1), bytes)
        with open("message.eml", "wb") as file:
            assert_type(handle.retrieve(1, file), int)
        for message in handle.messages([1, 2]):
            assert_type(message, Message | Refused)
            if message.error is None:
                assert_type(message.content, bytes)
        for item in handle.messages(into=lambda _: BytesIO()):
            assert_type(item, Stored | Refused)
        for header in handle.headers():
            assert_type(header, Message | Refused)
        assert_type(handle.command("XTND"), str)
        assert_type(handle.command("XLIST", multiline=True), bytes)
        assert_type(handle.disconnect(), Committed)


async def as_in_omnis(reactor: IReactorTime) -> None:
    """
    The Omnis family.
    """
    socket = await POP3Connect("pop.example.com", "ada", "secret", None, 2)
    assert_type(socket, int)
    rows: list[tuple[int, int]] = []
    assert_type(await POP3ListMessages(socket, 0, rows), int)
    code: Code = Code.NO_ADDRESS
    assert_type(error_text(code), str)
    Omnis(reactor=reactor)
    assert_type(omnis.S1, str)
    await POP3Connect("pop.example.com", "ada", "secret", "", kTrue, auth="XOAUTH2")
    await POP3Connect("pop.example.com", "ada", "secret", lambda: print(omnis.S1))


def as_in_omnis_blocking() -> None:
    """
    The blocking form of the Omnis family.
    """
    socket = blocking.POP3Connect("pop.example.com", "ada", "secret", "", kTrue)
    assert_type(socket, int)
    assert_type(blocking.MailSplit(b"", [], bytearray()), int)


def on_a_reactor(time: IReactorTime, endpoint: HostnameEndpoint) -> None:
    """
    What is accepted as a reactor: the global one, a clock, what has the interface.
    """
    pop3connect.blocking.connect("pop.example.com", "ada", "secret", max_listing=9)
    pop3connect.blocking.connect(
        "pop.example.com",
        "ada",
        "secret",
        max_listing="9",  # type: ignore[arg-type]
    )
    from twisted.internet import reactor

    connect("pop.example.com", "ada", "secret", reactor=reactor)
    connect("pop.example.com", "ada", "secret", reactor=Clock(), endpoint=endpoint)
    connect("pop.example.com", "ada", "secret", reactor=time)
    connect("pop.example.com", "ada", "secret", reactor=object())  # type: ignore[arg-type]
    pop3connect.blocking.connect("pop.example.com", "ada", "secret", reactor=reactor)
    MailboxServer().listen(reactor)
    Omnis(reactor=reactor)


def tested(reactor: IReactorTCP, clock: IReactorTime) -> None:
    """
    The servers for tests.
    """
    server = ScriptedServer(Script().greet().log_in().quit(), clock=clock)
    assert_type(server.connect(timeout=5), Deferred[Handle])
    mailbox = MailboxServer([b"Subject: hello\r\n\r\n"])
    assert_type(mailbox.messages, list[bytes])
    assert_type(mailbox.deliver(b"mail", uids=["a"]), list[str])
    assert_type(mailbox.listen(reactor), IListeningPort)


def run(main: Callable[[Handle], Coroutine[Deferred[Any], Any, None]]) -> None:
    """
    A coroutine that takes a handle.
    """
    connect("pop.example.com", "ada", "secret").addCallback(
        lambda handle: Deferred.fromCoroutine(main(handle))
    )
