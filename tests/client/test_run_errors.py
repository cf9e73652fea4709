"""
What ends a run of `messages` early, and the messages that came before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.defer import Deferred

from pop3connect import ConnectionLostError, Handle, Message, UsageError
from pop3connect.testing import MailboxServer

from ..support.acting import MESSAGES, MailboxTestCase


class NumbersError(Exception):
    """What the numbers of the tests raise."""


def raising(*numbers: int) -> Iterator[int]:
    """
    Yield numbers, and fail.
    """
    yield from numbers
    raise NumbersError


class RunErrorTests(MailboxTestCase):
    """
    What was received before an error is yielded before it.
    """

    def read(
        self,
        handle: Handle,
        numbers: Any,
        during: Callable[[int], object] = lambda _: None,
        **options: Any,
    ) -> tuple[list[Message], list[Any]]:
        seen: list[Message] = []
        ended: list[Any] = []

        async def read() -> None:
            async for message in handle.messages(numbers, **options):
                seen.append(message)
                during(message.number)

        Deferred.fromCoroutine(read()).addBoth(ended.append)
        return seen, ended

    def in_step(self, server: MailboxServer, handle: Handle) -> None:
        asked = handle.stat()
        server.flush()
        self.assertEqual(self.successResultOf(asked).count, len(MESSAGES))
        self.assertEqual(handle._budget.used, 0)
        ending = handle.disconnect()
        server.flush()
        self.successResultOf(ending)

    def test_messages_before_a_bad_number_are_yielded(self) -> None:
        bad: tuple[Any, ...] = ("x", 0, -1, True, 1.5, None, 2**70)
        for number in bad:
            for ahead in (1, 2, 256):
                server = self.serve()
                handle = self.open(server)
                seen, ended = self.read(handle, [1, 2, 3, number, 4], ahead=ahead)
                server.flush()
                self.assertEqual([message.content for message in seen], [*MESSAGES[:3]])
                ended[0].trap(UsageError)
                self.assertEqual(ended[0].value.server, "pop.example.com:110")
                self.assertNotIn("RETR 4", server.heard)
                self.in_step(server, handle)

    def test_messages_before_an_exception_of_the_numbers_are_yielded(self) -> None:
        for ahead in (1, 2, 3, 256):
            server = self.serve()
            handle = self.open(server)
            seen, ended = self.read(handle, raising(1, 2, 3), ahead=ahead)
            server.flush()
            self.assertEqual([message.content for message in seen], [*MESSAGES[:3]])
            ended[0].trap(NumbersError)
            self.in_step(server, handle)

    def test_messages_asked_for_before_disconnect_are_yielded(self) -> None:
        """QUIT comes behind them, so all of them are answered."""
        server = self.serve(*[b"Subject: %d\r\n" % number for number in range(400)])
        handle = self.open(server)
        endings: list[Deferred[Any]] = []

        def during(number: int) -> None:
            if number == 3:
                endings.append(handle.disconnect())

        seen, ended = self.read(handle, range(1, 401), during)
        server.flush()
        asked = sum(line.startswith("RETR") for line in server.heard)
        self.assertGreaterEqual(asked, 256)
        self.assertEqual(
            [message.number for message in seen], list(range(1, asked + 1))
        )
        ended[0].trap(UsageError)
        self.successResultOf(endings[0])
        self.assertNothingLeft(server)

    def test_messages_received_before_an_abort_are_yielded(self) -> None:
        server = self.serve()
        handle = self.open(server)
        numbers = [1, 2, 3, 4, 5] * 10
        run = handle.messages(numbers, ahead=10)
        first = self.next(run)
        server.flush()
        self.assertEqual(self.successResultOf(first).number, 1)
        answered = sum(line.startswith("RETR") for line in server.heard)
        self.assertGreater(answered, 5)
        handle.abort()
        server.flush()
        for number in numbers[1:answered]:
            self.assertEqual(self.successResultOf(self.next(run)).number, number)
        self.failureResultOf(self.next(run), ConnectionLostError)
        self.failureResultOf(self.next(run), StopAsyncIteration)
        self.assertNothingLeft(server)

    def test_messages_received_before_a_loss_are_yielded(self) -> None:
        """Wherever the connection breaks: all that came whole, and then the loss."""
        counts = set()
        for octets in range(300, 3000, 31):
            server = self.serve()
            server.drop_after = octets
            opening = server.connect(auth="USER")
            server.flush()
            handle = self.outcome(opening)
            if not isinstance(handle, Handle):
                continue
            seen, ended = self.read(handle, range(1, 6))
            server.flush()
            if ended == [None]:
                handle.abort()
                break
            ended[0].trap(ConnectionLostError)
            self.assertEqual(
                [message.content for message in seen], list(MESSAGES[: len(seen)])
            )
            counts.add(len(seen))
            self.assertNothingLeft(server)
        self.assertEqual(counts, {0, 1, 2, 3, 4})

    def test_numbers_that_end_the_session_end_the_run(self) -> None:
        """They are code of the caller's, called while messages are asked for."""
        server = self.serve()
        handle = self.open(server)

        def numbers() -> Iterator[int]:
            yield 1
            handle.abort()
            yield 2

        seen, ended = self.read(handle, numbers())
        server.flush()
        self.assertEqual(seen, [])
        ended[0].trap(ConnectionLostError)
        self.assertNothingLeft(server)

    def test_numbers_that_submit_commands_keep_the_order(self) -> None:
        server = self.serve()
        handle = self.open(server)
        asked: list[Deferred[Any]] = []

        def numbers() -> Iterator[int]:
            for number in (1, 2, 3):
                asked.append(handle.size(number))
                yield number

        seen, ended = self.read(handle, numbers())
        server.flush()
        self.assertEqual([message.content for message in seen], [*MESSAGES[:3]])
        self.assertEqual(ended, [None])
        self.assertEqual(
            [self.successResultOf(each) for each in asked],
            [len(message) for message in MESSAGES[:3]],
        )
        self.in_step(server, handle)

    def next(self, run: Any) -> Deferred[Message]:
        async def one() -> Message:
            message: Message = await run.__anext__()
            return message

        return Deferred.fromCoroutine(one())
