"""
Status procedures that do something, and sessions with `MailboxServer` to try them on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from pop3connect import Handle
from pop3connect.testing import MailboxServer

from .memory import server_certificate

MESSAGES = tuple(
    b"Subject: message %d\r\n\r\n.text\r\n" % number + b"x" * 70 * number + b"\r\n"
    for number in range(1, 6)
)

PROTECTIONS: tuple[tuple[str, dict[str, Any], dict[str, Any]], ...] = (
    ("plain", {}, {}),
    ("TLS", {"tls_at_once": True}, {"secure": 1, "verify": False}),
    ("STLS", {}, {"secure": 2, "verify": False}),
)
"""What it is called, what the server has to be given for it, and what `connect`."""


@implementer(IConsumer)
class Keeping:
    """
    A consumer that keeps the pieces it is given.
    """

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.producer: Any = None

    @property
    def written(self) -> bytes:
        """All that it was given."""
        return b"".join(self.pieces)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert self.producer is None
        self.producer = producer

    def unregisterProducer(self) -> None:
        assert self.producer is not None
        self.producer = None

    def write(self, data: bytes) -> None:
        assert self.producer is not None
        self.pieces.append(data)


class Acting:
    """
    A status procedure that keeps each line, and acts once: when it hears line ``at``.
    """

    def __init__(self, at: int = -1, act: Callable[[], object] = lambda: None) -> None:
        self.lines: list[str] = []
        self.at = at
        self.act = act

    def __call__(self, line: str) -> None:
        self.lines.append(line)
        if len(self.lines) - 1 == self.at:
            self.act()

    @property
    def acted(self) -> bool:
        """Whether it came to that."""
        return -1 < self.at < len(self.lines)


class StepClock(Clock):
    """
    A clock that can make a single call that is due; `advance` makes all of them.
    """

    def step(self) -> None:
        """
        Make the first call that is due, if there is one.
        """
        if self.calls and self.calls[0].getTime() <= self.seconds():
            call = self.calls.pop(0)
            call.called = 1
            call.func(*call.args, **call.kw)


class MailboxTestCase(SynchronousTestCase):
    """
    A test of sessions with a `MailboxServer`.
    """

    def serve(
        self, *messages: bytes, name: str = "plain", clock: Clock | None = None
    ) -> MailboxServer:
        """
        Return a server with these messages, or with `MESSAGES`.
        """
        for known, options, _ in PROTECTIONS:
            if known == name:
                certificate = None if name == "plain" else server_certificate()
                return MailboxServer(
                    messages or MESSAGES,
                    certificate=certificate,
                    clock=clock,
                    **options,
                )
        raise AssertionError(name)

    def open(
        self, server: MailboxServer, name: str = "plain", **options: Any
    ) -> Handle:
        """
        Open a session.
        """
        (secure,) = [options for known, _, options in PROTECTIONS if known == name]
        opening = server.connect(**secure, **options)
        server.flush()
        handle: Handle = self.successResultOf(opening)
        return handle

    def outcome(self, deferred: Deferred[Any]) -> Any:
        """
        Return the result or the exception that a Deferred has come to.
        """
        outcomes: list[Any] = []
        deferred.addBoth(outcomes.append)
        self.assertEqual(len(outcomes), 1, "a Deferred was left unfired")
        return getattr(outcomes[0], "value", outcomes[0])

    def assertNothingLeft(self, server: MailboxServer) -> None:
        """
        Check that no connection is open, and that no delayed call waits.
        """
        server.flush()
        self.assertEqual(server.clock.getDelayedCalls(), [])
        self.assertFalse(server.in_use)


def each_line(run: Callable[[int], Acting]) -> Iterator[Acting]:
    """
    Call ``run`` with 0, 1, 2 ... until it hears no such line.
    """
    at = 0
    while (acting := run(at)).acted:
        yield acting
        at += 1
