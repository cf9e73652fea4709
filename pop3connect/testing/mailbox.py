"""
Servers for tests, yours and our own: no network, and the test lets time pass.

`MailboxServer` is a POP3 server with a mailbox, for the tests of a program that reads
mail.  `ScriptedServer` plays a `Script`, and notices any deviation of the client::

    def test_inbox(self):
        server = MailboxServer([b"Subject: hello\\r\\n\\r\\nworld\\r\\n"])
        fetching = Deferred.fromCoroutine(
            my_subjects(endpoint=server.endpoint, reactor=server.clock)
        )
        server.flush()
        self.assertEqual(self.successResultOf(fetching), ["hello"])

Both can be reached in memory, by ``endpoint``, and over the loopback, by `listen`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort, IReactorTCP, IReactorTime
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock

from ..api import connect
from ..handle import Handle
from ..reactors import LISTENS, check_reactor
from ..redaction import printable
from .accounts import Maildrop, portal
from .script import Script, Stage
from .server import DemoPOP3, DemoPOP3Factory
from .wire import MemoryEndpoint, flush, layered

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

__all__ = ["MailboxServer", "Script", "ScriptedServer"]


class _Server:
    """
    The common part of both servers.

    :ivar clock: the clock of server and client; give it to ``connect()`` as
        ``reactor``.  After `listen` it is the reactor.
    :ivar endpoint: connects to the server; give it to ``connect()``.
    """

    server = "pop.example.com"
    username = "ada"
    password = "lovelace"  # noqa: S105 - a test's

    def __init__(self, factory: Factory, clock: IReactorTime | None) -> None:
        if clock is not None:
            check_reactor(clock)
        # A Clock, which a test may advance, or after `listen` a reactor.
        self.clock: Any = Clock() if clock is None else clock
        self._factory = factory
        self.endpoint = MemoryEndpoint(layered(factory, self.clock), self.clock)

    def connect(self, **options: Any) -> Deferred[Handle]:
        """Call `pop3connect.connect` for this server, in memory."""
        options.setdefault("server", self.server)
        options.setdefault("username", self.username)
        options.setdefault("password", self.password)
        return connect(**options, endpoint=self.endpoint, reactor=self.clock)

    def flush(self) -> None:
        """Deliver all data on its way, until nothing moves; no time passes."""
        flush(self.clock)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.flush()
        self.clock.advance(seconds)
        self.flush()

    def listen(self, reactor: IReactorTCP) -> IListeningPort:
        """
        Listen on a free port of the loopback; stop it when the test is over.

        The port number is ``listen(reactor).getHost().port``.

        :param reactor: provides ``IReactorTime`` too.
        :raises UsageError: the reactor cannot listen.
        """
        check_reactor(reactor, LISTENS)
        self.clock = reactor
        port: IListeningPort = reactor.listenTCP(
            0, layered(self._factory, reactor), interface="127.0.0.1"
        )
        return port


class ScriptedServer(_Server):
    """
    A server that plays scripts.

    `check` fails the test if something went wrong; call it in ``addCleanup``, or use
    the server as a context manager.

    :param scripts: one for each connection.
    :param clock: default: a `twisted.internet.task.Clock`.
    """

    def __init__(self, *scripts: Script, clock: IReactorTime | None = None) -> None:
        self._scripts = list(scripts)
        self._unexpected = 0
        self.stages: list[Stage] = []
        super().__init__(_StageFactory(self), clock)

    def stage(self) -> Stage:
        """Begin the next script."""
        if len(self.stages) < len(self._scripts):
            script = self._scripts[len(self.stages)]
        else:
            script = Script().close()
            self._unexpected += 1
        stage = Stage(script, self.clock)
        self.stages.append(stage)
        return stage

    def check(self) -> None:
        """
        Fail if a client deviated from the scripts, or did not play them to the end.

        :raises AssertionError: names the deviation, and shows the whole dialogue.
        """
        if isinstance(self.clock, Clock):
            self.flush()
        for number, stage in enumerate(self.stages, 1):
            problem = stage.problem
            if not problem and stage.left_over:
                problem = f"the script was not played to its end: {stage.left_over}"
            if problem:
                raise AssertionError(
                    "\n  ".join([f"connection {number}: {problem}", *stage.transcript])
                )
        if self._unexpected:
            raise AssertionError(
                f"{len(self.stages)} connections, and scripts for {len(self._scripts)}"
            )
        if len(self.stages) < len(self._scripts):
            raise AssertionError(
                f"only {len(self.stages)} of {len(self._scripts)} scripts were played"
            )

    def __enter__(self) -> Self:
        """Use the server in ``with``, which checks it at the end."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Check the server, unless an exception was raised."""
        if kind is None:
            self.check()


class _StageFactory(Factory):
    noisy = False

    def __init__(self, server: ScriptedServer) -> None:
        self._server = server

    def buildProtocol(self, addr: object) -> Stage:
        return self._server.stage()


class MailboxServer(_Server):
    """
    A POP3 server with one mailbox, which knows all commands of RFC 1939 and STLS.

    :param messages: with CRLF line ends.
    :param certificate: for STLS, a `twisted.internet.ssl.PrivateCertificate` or its
        options; without, it has no TLS.
    :param tls_at_once: whether TLS begins at once, as on port 995.
    :param clock: default: a `twisted.internet.task.Clock`.

    Faults are set before the session begins:

    :ivar refused: message number -> the text of the ``-ERR`` to its RETR.
    :ivar drop_after: the number of bytes after which each connection breaks; ``None``
        means never.
    :ivar heard: the lines that clients have sent, passwords included.
    """

    def __init__(
        self,
        messages: Iterable[bytes] = (),
        *,
        username: str = "ada",
        password: str = "lovelace",  # noqa: S107 - a test's
        certificate: Any = None,
        tls_at_once: bool = False,
        clock: IReactorTime | None = None,
    ) -> None:
        self.username, self.password = username, password
        self.refused: dict[int, str] = {}
        self.drop_after: int | None = None
        self.heard: list[str] = []
        self._drop = Maildrop(messages)
        accounts = portal(
            {username.encode(): password.encode()}, {username.encode(): self._drop}
        )
        options = getattr(certificate, "options", lambda: certificate)()
        super().__init__(_MailboxFactory(self, accounts, options, tls_at_once), clock)

    def deliver(self, *messages: bytes, uids: Iterable[str] | None = None) -> list[str]:
        """
        Add mail; later sessions see it, and an open one does not.

        :param uids: the unique-ids, one for each message; they may be equal
            (RFC 1939 section 7).  Default: each message gets a unique-id that this
            mailbox has not had before, even if the same bytes were delivered before.
        :return: the unique-ids.
        :raises UsageError: there is not one unique-id for each message, or one has a
            line break.
        """
        return self._drop.deliver(messages, uids)

    @property
    def in_use(self) -> bool:
        """Whether a session uses the mailbox; others are refused with ``[IN-USE]``."""
        return self._drop.in_use

    @in_use.setter
    def in_use(self, in_use: bool) -> None:
        self._drop.in_use = in_use

    @property
    def messages(self) -> list[bytes]:
        """The messages in the mailbox now."""
        return [content for _, content in self._drop.messages]


class _MailboxFactory(DemoPOP3Factory):
    def __init__(
        self, server: MailboxServer, accounts: Any, tls: Any, tls_at_once: bool
    ) -> None:
        super().__init__(accounts, None if tls_at_once else tls)
        self._server = server
        self._at_once = tls if tls_at_once else None

    def buildProtocol(self, addr: Any) -> DemoPOP3:  # type: ignore[override]
        connection = _MailboxConnection(self._server, self._at_once)
        connection.factory = self
        setattr(connection, "callLater", self._server.clock.callLater)  # noqa: B010
        return connection


class _MailboxConnection(DemoPOP3):
    transport: Any

    def __init__(self, server: MailboxServer, at_once: Any) -> None:
        super().__init__()
        self._server = server
        self._at_once = at_once

    def connectionMade(self) -> None:
        self.transport.pacer.left = self._server.drop_after
        if self._at_once is not None:
            self.transport.startTLS(self._at_once)
        super().connectionMade()

    def lineReceived(self, line: bytes) -> None:
        self._server.heard.append(printable(line))
        super().lineReceived(line)

    def do_RETR(self, i: bytes) -> None:
        refusal = self._server.refused.get(self._index(i) + 1)
        if refusal is None:
            super().do_RETR(i)
        else:
            self._refuse(refusal.encode())
