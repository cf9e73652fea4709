"""
How much `messages` asks for before it is taken, and what becomes of it when left.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.python import threadable
from twisted.trial.unittest import TestCase

from pop3connect import ConnectionLostError, Handle, Message
from pop3connect.client.prefetch import BUDGET, UNSEEN
from pop3connect.testing import MailboxServer

from .test_prefetch import FetchTestCase, Reader, letter, numbers_asked, reply

reactor: Any = global_reactor

MEGABYTE = 2**20


class AskedTests(FetchTestCase):
    """What is asked for and not yet taken."""

    def asked(self) -> int:
        return len(numbers_asked(self.server.heard()))

    def listed(self, handle: Handle, sizes: list[int]) -> Reader:
        reader = Reader(handle.messages())
        self.first = reader.next()
        rows = b"".join(b"%d %d\r\n" % row for row in enumerate(sizes, 1))
        self.server.expect(b"LIST", b"+OK\r\n" + rows + b".\r\n")
        return reader

    def test_sizes_of_list_fill_the_budget(self) -> None:
        for size, expected in (
            (MEGABYTE, 16),
            (5 * MEGABYTE, 3),
            (8 * MEGABYTE, 2),
            # One that is larger has to be held anyway.
            (20 * MEGABYTE, 1),
            (BUDGET, 1),
            (1000, 256),
            (0, 256),
        ):
            handle = self.log_in("PIPELINING")
            reader = self.listed(handle, [size] * 1000)
            self.assertEqual(self.asked(), expected, size)
            self.first.addErrback(lambda _: None)
            self.first.cancel()
            del reader
            self.anew()

    def test_unknown_sizes_are_asked_for_eight_at_a_time(self) -> None:
        handle = self.log_in("PIPELINING")
        reader = Reader(handle.messages(range(1, 1000)))
        first = reader.next()
        self.assertEqual(self.asked(), UNSEEN)
        self.server.say(reply(1))
        self.result(first)
        # It is known to be small now, and so are the others, perhaps.
        self.assertGreater(self.asked(), 200)
        self.result(reader.leave())

    def test_refused_messages_tell_no_size(self) -> None:
        """As long as none was seen, eight at most are on their way."""
        handle = self.log_in("PIPELINING")
        reader = Reader(handle.messages(range(1, 1000), ahead=12))
        waiting = reader.next()
        asked = self.asked()
        for refused in range(1, 30):
            self.server.say(b"-ERR no\r\n")
            self.assertIsNotNone(self.result(waiting).error)
            waiting = reader.next()
            asked += self.asked()
            self.assertLessEqual(asked - refused, UNSEEN)
        waiting.addErrback(lambda _: None)
        waiting.cancel()

    def test_numbers_are_not_drawn_after_the_end_of_the_session(self) -> None:
        drawn: list[int] = []

        def numbers() -> Iterator[int]:
            for number in range(1, 1000):
                drawn.append(number)
                yield number

        handle = self.log_in("PIPELINING")
        reader = Reader(handle.messages(numbers()))
        waiting = reader.next()
        self.server.heard()
        self.server.say(reply(1) + reply(2))
        self.result(waiting)
        before = len(drawn)
        self.server.lose()
        self.assertEqual(self.result(reader.next()).number, 2)
        self.error(reader.next(), ConnectionLostError)
        self.assertEqual(len(drawn), before)

    def test_largest_size_seen_is_expected_of_the_others(self) -> None:
        content = b"x" * (4 * MEGABYTE - 2) + b"\r\n"
        handle = self.log_in("PIPELINING")
        reader = Reader(handle.messages(range(1, 1000)))
        first = reader.next()
        self.assertEqual(self.asked(), UNSEEN)
        for number in range(UNSEEN):
            self.server.say(b"+OK\r\n" + content + b".\r\n")
            if number == 0:
                self.result(first)
            else:
                self.result(reader.next())
        following = reader.next()
        self.assertEqual(self.asked(), BUDGET // len(content))
        following.addErrback(lambda _: None)
        following.cancel()

    def test_size_seen_by_one_run_is_known_to_the_next(self) -> None:
        handle = self.log_in("PIPELINING")
        reader = Reader(handle.messages([1]))
        first = reader.next()
        self.server.expect(b"RETR 1", reply(1))
        self.result(first)
        following = Reader(handle.messages(range(1, 1000))).next()
        self.assertEqual(self.asked(), 256)
        following.addErrback(lambda _: None)
        following.cancel()

    def test_several_runs_share_one_budget(self) -> None:
        """
        What one run holds is not there for another, which asks for one at a time.
        """
        size = 3 * MEGABYTE
        content = b"x" * (size - 2) + b"\r\n"
        handle = self.log_in("PIPELINING")
        holder = self.listed(handle, [size] * 5)
        self.assertEqual(self.asked(), 5)
        self.server.say((b"+OK\r\n" + content + b".\r\n") * 5)
        self.result(self.first)
        # One of five was taken, so there is room for one, and then for none.
        reader = self.listed(handle, [size] * 100)
        self.assertEqual(self.asked(), 1)
        other = Reader(handle.messages(range(1, 101)))
        waiting = other.next()
        # Each run may ask for one: otherwise it would stand still.
        self.assertEqual(self.asked(), 1)
        for _ in range(4):
            self.result(holder.next())
        self.server.say((b"+OK\r\n" + content + b".\r\n") * 2)
        self.result(self.first)
        self.result(waiting)
        # Nothing is held now: both ask, and have the budget together.
        following = [reader.next(), other.next()]
        self.assertEqual(self.asked(), 5)
        for each in following:
            each.addErrback(lambda _: None)
            each.cancel()

    def test_budget_is_free_again_after_each_way_to_leave(self) -> None:
        for answered in (0, 1, 3, 8, 11):
            for way in ("aclose", "cancel", "drop", "refused"):
                handle = self.log_in("PIPELINING")
                reader: Reader | None = Reader(handle.messages(range(1, 31)))
                assert reader is not None
                waiting = reader.next()
                numbers = numbers_asked(self.server.heard())
                done = answered
                for number in range(1, answered + 1):
                    numbers += numbers_asked(self.server.heard())
                    if number > len(numbers):
                        # As long as no size is known, no more are asked for.
                        done = number - 1
                        break
                    if way == "refused":
                        self.server.say(b"-ERR no\r\n")
                    else:
                        self.server.say(reply(number))
                if waiting.called:
                    self.result(waiting)
                else:
                    waiting.cancel()
                    self.error(waiting, CancelledError)
                if way != "drop":
                    self.result(reader.leave())
                del waiting
                reader = None
                gc.collect()
                # What was dropped or closed ends in a turn of its own.
                self.clock.advance(0)
                self.assertEqual(handle._budget.used, 0)
                numbers += numbers_asked(self.server.heard())
                for number in numbers[done:]:
                    self.server.say(reply(number))
                self.assertEqual(handle._budget.used, 0)
                self.in_step(handle)
                self.anew()


class LeavingTests(FetchTestCase):
    """Nothing more is asked for, and what is on its way is read and dropped."""

    def test_dropping_the_last_reference_asks_for_no_more(self) -> None:
        handle = self.log_in("PIPELINING")
        reader: Reader | None = Reader(handle.messages(range(1, 1000)))
        assert reader is not None
        first = reader.next()
        self.server.heard()
        self.server.say(reply(1))
        self.result(first)
        del first
        asked = len(numbers_asked(self.server.heard()))
        reader = None
        gc.collect()
        unanswered = UNSEEN - 1 + asked
        self.server.say(b"".join(map(reply, range(2, 2 + unanswered))))
        self.assertEqual(self.server.heard(), b"")
        self.in_step(handle)

    def test_iterator_that_was_never_started_sends_nothing(self) -> None:
        handle = self.log_in("PIPELINING")
        run = handle.messages()
        del run
        gc.collect()
        self.result(Reader(handle.messages()).leave())
        self.assertEqual(self.server.heard(), b"")
        self.in_step(handle)

    def test_exhausted_iterator_stays_exhausted(self) -> None:
        handle = self.log_in("PIPELINING")
        reader = Reader(handle.messages([1]))
        first = reader.next()
        self.server.expect(b"RETR 1", reply(1))
        self.assertEqual(self.result(first), Message(1, letter(1), None))
        for _ in range(2):
            self.error(reader.next(), StopAsyncIteration)
        self.result(reader.leave())
        self.result(reader.leave())
        self.in_step(handle)

    def test_messages_is_an_async_iterator_with_aclose(self) -> None:
        handle = self.log_in()
        run = handle.messages([1])
        self.assertIs(run.__aiter__(), run)
        self.result(Deferred.fromCoroutine(self.closed(run)))

    async def closed(self, run: Any) -> None:
        await run.aclose()


class ThreadClock(Clock):
    """A clock that other threads can call into, as they can into a reactor."""

    def __init__(self) -> None:
        super().__init__()
        self.callers: list[int] = []

    def callFromThread(self, call: Callable[[], object]) -> None:
        self.callers.append(threadable.getThreadID())
        reactor.callFromThread(call)


class ThreadTests(TestCase):
    """The last reference goes in another thread than the reactor's."""

    timeout = 20

    def begin(self, numbers: Iterable[int]) -> tuple[MailboxServer, Handle, list[Any]]:
        """Return a run in a list, whose first message was taken."""
        server = MailboxServer([b"Subject: a\r\n"] * 50, clock=ThreadClock())
        opening = server.connect()
        server.flush()
        handle = self.successResultOf(opening)
        runs: list[Any] = [handle.messages(numbers, ahead=4)]

        async def first() -> Message:
            message: Message = await runs[0].__anext__()
            return message

        following = Deferred.fromCoroutine(first())
        server.flush()
        self.assertEqual(self.successResultOf(following).number, 1)
        self.assertGreater(handle._budget.used, 0)
        return server, handle, runs

    async def next_turn(self) -> None:
        done: Deferred[None] = Deferred()
        reactor.callLater(0, done.callback, None)
        await done

    def leave(self, server: MailboxServer, handle: Handle) -> None:
        self.assertEqual(handle._budget.used, 0)
        ending = handle.disconnect()
        server.flush()
        self.successResultOf(ending)

    async def test_run_dropped_in_another_thread_ends_in_the_reactors(self) -> None:
        threads: list[int] = []

        def numbers() -> Iterator[int]:
            try:
                yield from range(1, 51)
            finally:
                threads.append(threadable.getThreadID())

        server, handle, runs = self.begin(numbers())

        def drop() -> int:
            runs.clear()
            gc.collect()
            return threadable.getThreadID()

        other = await deferToThread(drop)
        await self.next_turn()
        self.assertEqual(threads, [threadable.getThreadID()])
        self.assertNotEqual(threads, [other])
        self.leave(server, handle)

    async def test_run_collected_in_another_thread_ends_in_the_reactors(self) -> None:
        server, handle, runs = self.begin(range(1, 51))
        # The collector closes the generator too, whatever refers to it.
        runs.append(runs)
        del runs

        def collect() -> int:
            gc.collect()
            return threadable.getThreadID()

        other = await deferToThread(collect)
        await self.next_turn()
        self.assertEqual(server.clock.callers, [other])
        self.leave(server, handle)
