"""
Programs that read more than fits, and ask for other things: none stands still.

`messages` holds the transport only while every command that is sent or waiting is its
own; otherwise a caller waits for a reply that nobody reads, and no time limit runs.
Here the small messages come first, so that what follows is larger than expected and
`messages` has a reason to hold.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IConsumer
from twisted.internet.task import deferLater
from zope.interface import implementer

from pop3connect import Handle, Message
from pop3connect.client.prefetch import BUDGET
from pop3connect.testing import MailboxServer

from ..support.acting import MailboxTestCase

LARGE = (b"x" * 998 + b"\r\n") * 200
"""A message of 200 KB; 128 of them are more than the budget."""

SMALL = b"Subject: small\r\n\r\n"

MAILBOX = (SMALL, SMALL, *[LARGE] * 128)

assert len(LARGE) * 128 > BUDGET * 1.5


@implementer(IConsumer)
class Hesitating:
    """
    A consumer that pauses at each piece, and resumes in the next turn of the clock.
    """

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._producer: Any = None
        self.octets = 0

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self._producer = producer

    def unregisterProducer(self) -> None:
        self._producer = None

    def write(self, data: bytes) -> None:
        self.octets += len(data)
        self._producer.pauseProducing()
        self._clock.callLater(0, self._resume)

    def _resume(self) -> None:
        if self._producer is not None:
            self._producer.resumeProducing()


class Program:
    """
    Coroutines that share one session.

    :param chance: decides what they do.
    """

    def __init__(
        self, server: MailboxServer, handle: Handle, chance: random.Random
    ) -> None:
        self.server = server
        self.handle = handle
        self.chance = chance
        self.read = 0
        self.expected = 0
        self._unanswered: deque[Deferred[Any]] = deque()

    def numbers(self) -> list[int]:
        numbers = [1, 2, *range(3, self.chance.randrange(60, len(MAILBOX)))]
        self.expected += len(numbers)
        return numbers

    async def ask(self) -> None:
        """Ask for something, and wait for it or not."""
        handle, chance = self.handle, self.chance
        wait = chance.random() < 0.5
        asked: Awaitable[Any]
        what = chance.randrange(8)
        if what == 0:
            asked = handle.noop()
        elif what == 1:
            asked = handle.stat()
        elif what == 2:
            asked = handle.retrieve(3)
        elif what == 3:
            asked = handle.top(4, 1)
        elif what == 4:
            asked = handle.retrieve(3, Hesitating(self.server.clock))
        elif what == 5:
            asked = handle.list()
        elif what == 6:
            # The last one is never asked for.
            asked = handle.delete(len(MAILBOX))
            asked.addErrback(lambda _: None)
        else:
            asked = deferLater(self.server.clock, chance.choice([0, 0.1, 61]))
        if wait:
            await asked

    async def reader(self, rate: float) -> None:
        """Read messages, and sometimes ask for something else."""
        async for message in self.handle.messages(self.numbers()):
            assert message.error is None
            self.read += 1
            if self.chance.random() < rate:
                await self.ask()

    async def alternating(self) -> None:
        """Read two runs in one loop."""
        runs = [self.handle.messages(self.numbers()) for _ in range(2)]
        while runs:
            run = self.chance.choice(runs)
            try:
                await run.__anext__()
            except StopAsyncIteration:
                runs.remove(run)
            else:
                self.read += 1

    async def asker(self, rounds: int) -> None:
        """Ask for one thing after another."""
        for _ in range(rounds):
            await self.ask()

    async def leaver(self) -> None:
        """Leave a run in the middle."""
        numbers = self.numbers()
        left = self.chance.randrange(len(numbers))
        self.expected -= len(numbers)
        async for _ in self.handle.messages(numbers):
            if left == 0:
                break
            left -= 1


class HoldingTests(MailboxTestCase):
    """
    Each program comes to its end, whatever it does meanwhile.
    """

    def run_to_the_end(
        self, work: Callable[[Program], list[Any]], seed: int, **options: Any
    ) -> Program:
        """
        Run coroutines until nothing moves and no delayed call is left.
        """
        server = self.serve(*MAILBOX)
        handle = self.open(server, **options)
        program = Program(server, handle, random.Random(seed))
        working = gatherResults(
            [Deferred.fromCoroutine(each) for each in work(program)]
        )
        outcomes: list[Any] = []
        working.addBoth(outcomes.append)
        for _ in range(10_000):
            server.flush()
            calls = server.clock.getDelayedCalls()
            if outcomes or not calls:
                break
            server.clock.advance(
                min(call.getTime() for call in calls) - server.clock.seconds()
            )
        self.assertTrue(outcomes, f"program {seed} stands still")
        self.assertIsInstance(outcomes[0], list, f"program {seed}: {outcomes[0]}")
        self.assertEqual(program.read, program.expected)
        handle.abort()
        server.flush()
        return program

    def test_random_programs_come_to_their_end(self) -> None:
        def work(program: Program) -> list[Any]:
            chance = program.chance
            running: list[Any] = []
            for _ in range(chance.randrange(1, 3)):
                running.append(program.reader(chance.choice([0, 0.05, 0.5])))
            if chance.random() < 0.7:
                running.append(program.asker(chance.randrange(1, 30)))
            if chance.random() < 0.3:
                running.append(program.leaver())
            return running

        for seed in range(25):
            self.run_to_the_end(work, seed, pipeline=seed % 5 != 4)

    def test_interleaved_runs_of_messages_come_to_their_end(self) -> None:
        def work(program: Program) -> list[Any]:
            running = [program.alternating()]
            if program.chance.random() < 0.5:
                running.append(program.reader(0))
            return running

        for seed in range(15):
            self.run_to_the_end(work, seed)

    def test_loop_with_ten_unanswered_deletes_comes_to_its_end(self) -> None:
        """Fetch and delete, and wait for the oldest of ten: as in the documentation."""
        unanswered: deque[Deferred[Any]] = deque()

        async def fetch(program: Program) -> None:
            async for message in program.handle.messages(range(1, len(MAILBOX) + 1)):
                program.read += 1
                unanswered.append(program.handle.delete(message.number))
                if len(unanswered) == 10:
                    await unanswered.popleft()

        def work(program: Program) -> list[Any]:
            program.expected = len(MAILBOX)
            return [fetch(program)]

        self.run_to_the_end(work, 0)
        self.assertTrue(all(deleting.called for deleting in unanswered))

    def test_transport_is_held_only_while_every_command_is_its_own(self) -> None:
        """So that the tests above would fail if it were held at other times too."""
        held = other = 0
        for owed in (False, True):
            server = self.serve(*MAILBOX)
            handle = self.open(server)
            run = handle.messages(range(1, len(MAILBOX) + 1))
            first = self.next(run)
            server.flush()
            self.successResultOf(first)
            # All the others are asked for now: they are taken to be small.
            second = self.next(run)
            asked = handle.noop() if owed else None
            server.flush()
            self.successResultOf(second)
            answered = server.heard.count("RETR 130")
            if asked is None:
                held = handle._budget.used
            else:
                self.assertTrue(asked.called)
                other = handle._budget.used
            self.assertEqual(answered, 1)
            handle.abort()
            server.flush()
        self.assertGreater(held, BUDGET)
        self.assertLess(held, BUDGET + 2 * len(LARGE) + 65536)
        self.assertGreater(other, BUDGET + 10 * len(LARGE))

    def next(self, run: Any) -> Deferred[Message]:
        async def one() -> Message:
            message: Message = await run.__anext__()
            return message

        return Deferred.fromCoroutine(one())
