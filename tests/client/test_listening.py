"""
The same session with and without a status procedure: what comes of it is the same.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from pop3connect import Handle

from ..support.acting import Keeping
from ..support.memory import SessionTestCase

Ask = Callable[[Handle], Deferred[Any]]

LONG = b"".join(b"line %d\r\n" % number for number in range(3000))


def streamed(handle: Handle) -> Deferred[Any]:
    consumer = Keeping()
    return handle.retrieve(1, consumer).addCallback(
        lambda octets: (octets, consumer.written)
    )


def written(handle: Handle) -> Deferred[Any]:
    file = io.BytesIO()
    return handle.retrieve(1, file).addCallback(
        lambda octets: (octets, file.getvalue())
    )


def fetched(handle: Handle) -> Deferred[Any]:
    async def fetch() -> list[Any]:
        return [repr(message) async for message in handle.messages([1])]

    return Deferred.fromCoroutine(fetch())


CASES: list[tuple[Ask, bytes]] = [
    (lambda handle: handle.stat(), b"+OK 2 320\r\n"),
    (lambda handle: handle.noop(), b"+OK\r\n"),
    (lambda handle: handle.delete(1), b"-ERR [SYS/TEMP] no\r\n"),
    (lambda handle: handle.retrieve(1), b"+OK\r\n.\r\n"),
    (lambda handle: handle.retrieve(1), b"+OK 5 octets\r\nabc\r\n.\r\n"),
    (lambda handle: handle.retrieve(1), b"+OK\r\n..\r\n...\r\n.\r\n"),
    (lambda handle: handle.retrieve(1), b"-ERR no such message\r\n"),
    (lambda handle: handle.retrieve(1), b"+OK\r\n" + LONG + b".\r\n"),
    (lambda handle: handle.top(1), b"+ok\r\nSubject: a\r\n\r\n.\r\n"),
    (lambda handle: handle.list(), b"+OK\r\n1 200\r\n2 120\r\n.\r\n"),
    (lambda handle: handle.list(), b"+OK\r\n1 x\r\n2 120\r\n.\r\n"),
    (lambda handle: handle.uidl(), b"+OK\r\n1 a\r\n2 b\r\n.\r\n"),
    (streamed, b"+OK\r\nabc\r\n.\r\n"),
    (streamed, b"+OK\r\n" + LONG + b".\r\n"),
    (streamed, b"-ERR no\r\n"),
    (written, b"+OK\r\n.\r\n"),
    (written, b"+OK\r\n" + LONG + b".\r\n"),
    (fetched, b"+OK\r\nabc\r\n.\r\n"),
    (fetched, b"-ERR no\r\n"),
    (lambda handle: handle.size(1), b"nonsense\r\n"),
    (lambda handle: handle.retrieve(1), b"+OK\r\nabc\r\n.\r\n+OK surplus\r\n"),
]
"""A command, and what the server says to it."""


class ListeningTests(SessionTestCase):
    """
    With a status procedure every status line is an event; without one short messages
    are taken whole.
    """

    def outcome(self, asked: Deferred[Any]) -> Any:
        outcomes: list[Any] = []
        asked.addBoth(outcomes.append)
        self.server.settle()
        (outcome,) = outcomes
        error = getattr(outcome, "value", None)
        return outcome if error is None else (type(error), str(error))

    def outcomes(
        self, case: tuple[Ask, bytes], size: int | None, listening: bool
    ) -> list[Any]:
        ask, said = case
        handle = self.log_in(stsproc=self.status.append if listening else None)
        asked = ask(handle)
        self.server.heard()
        self.server.say(said, size=size)
        found = [self.outcome(asked), self.server.transport.disconnecting]
        self.assertEqual(bool(self.status), listening)
        self.anew()
        return found

    def test_outcome_is_the_same_with_and_without_a_status_procedure(self) -> None:
        for case in CASES:
            sizes = (None, 1, 2, 7) if len(case[1]) < 1000 else (None, 700, 4096)
            # A surplus reply is a fault whenever it arrives.
            expected = self.outcomes(case, None, listening=False)
            for size in sizes:
                for listening in (False, True):
                    found = self.outcomes(case, size, listening)
                    if case is CASES[-1]:
                        self.assertTrue(found[1])
                    else:
                        self.assertEqual(found, expected, (case[1][:40], size))

    def test_pipelined_session_is_the_same_with_and_without_a_status_procedure(
        self,
    ) -> None:
        stream = b"".join(said for _, said in CASES[:-2])
        expected: list[Any] | None = None
        for size in (None, 1000, 4096, 65536):
            for listening in (False, True):
                stsproc = self.status.append if listening else None
                handle = self.log_in("PIPELINING", stsproc=stsproc)
                asked = [ask(handle) for ask, _ in CASES[:-2]]
                self.server.heard()
                self.server.say(stream, size=size)
                found = [self.outcome(each) for each in asked]
                expected = expected or found
                self.assertEqual(found, expected)
                self.assertIdle()
                self.anew()
