"""
Operations in groups: what is committed together, and what fails alone.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.trial.unittest import SynchronousTestCase, TestCase

from pop3connect.collect.database import Database, JournalError, StorageFullError
from pop3connect.collect.writer import GROUP, Operation, Worker


class Broken(Exception):
    pass


def insert(key: str) -> Any:
    def operation(connection: sa.Connection) -> str:
        connection.exec_driver_sql(
            "INSERT INTO machine VALUES (?, 0, 0, '', 0)", (key,)
        )
        return key

    return operation


def insert_and_fail(connection: sa.Connection) -> None:
    insert("half")(connection)
    raise Broken


def names(connection: sa.Connection) -> list[str]:
    rows = connection.exec_driver_sql("SELECT name FROM machine ORDER BY name")
    return [name for (name,) in rows]


FULL, NORMAL = 2, 1


def synchronous(connection: sa.Connection) -> int:
    level: int = connection.exec_driver_sql("PRAGMA synchronous").scalar_one()
    return level


class GroupTests(TestCase):
    """With a thread; the first operation holds it until the others wait."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp()) / "state" / "collect.db"
        self.database = Database(self.path, exclusive=True, wall=float)
        self.points: list[str] = []
        self.worker = Worker(
            "test",
            self.database.connect,
            reactor,  # type: ignore[arg-type]
            self.database.explain,
            self.points.append,
            self.database.wait_for_disk,
        )
        self.addCleanup(self.database.engine.dispose)
        self.addCleanup(self.worker.close)

    def hold(self) -> threading.Event:
        return self.held(lambda connection: None)

    def held(self, operation: Operation[object]) -> threading.Event:
        begun, go = threading.Event(), threading.Event()

        def hold(connection: sa.Connection) -> None:
            operation(connection)
            begun.set()
            go.wait(10)

        self.worker.submit("hold", hold)
        begun.wait(10)
        return go

    async def committed(self) -> list[str]:
        return await self.worker.submit("names", names)

    async def test_operations_that_wait_are_one_commit(self) -> None:
        go = self.hold()
        done = [self.worker.submit("put", insert(f"{n:03}")) for n in range(20)]
        other = self.worker.submit("other", lambda connection: None)
        go.set()
        await gatherResults([*done, other])
        self.assertEqual(
            self.points,
            [
                *("before hold", "after hold"),
                *("before put", "before other", "after put", "after other"),
            ],
        )
        self.assertEqual(len(await self.committed()), 20)

    async def test_group_waits_for_the_disk_if_one_operation_has_to_last(self) -> None:
        async def level(lasting: bool) -> int:
            return await self.worker.submit("put", synchronous, lasting=lasting)

        self.assertEqual(await level(True), FULL)
        self.assertEqual(await level(False), NORMAL)
        self.assertEqual(await level(False), NORMAL)
        go = self.hold()
        done = [
            self.worker.submit("put", synchronous, lasting=lasting)
            for lasting in (False, True, False)
        ]
        go.set()
        self.assertEqual(await gatherResults(done), [FULL] * 3)

    async def test_new_connection_waits_for_the_disk(self) -> None:
        def fail(connection: sa.Connection) -> None:
            raise JournalError("no")

        self.assertEqual(
            await self.worker.submit("put", synchronous, lasting=False), NORMAL
        )
        await self.assertFailure(
            self.worker.submit("put", fail, lasting=False), JournalError
        )
        self.assertEqual(await self.worker.submit("put", synchronous), FULL)

    async def test_group_has_a_limit(self) -> None:
        go = self.hold()
        done = [self.worker.submit("put", insert(f"{n:04}")) for n in range(GROUP + 1)]
        go.set()
        await gatherResults(done)
        self.assertEqual(self.points.count("after put"), 2)

    async def test_operation_that_fails_leaves_the_others_and_no_trace(self) -> None:
        go = self.hold()
        first = self.worker.submit("put", insert("first"))
        broken = self.worker.submit("put", insert_and_fail)
        twice = self.worker.submit("put", insert("first"))
        last = self.worker.submit("put", insert("last"))
        go.set()
        self.assertEqual(await first, "first")
        self.assertEqual(await last, "last")
        await self.assertFailure(broken, Broken)
        await self.assertFailure(twice, sa.exc.IntegrityError)
        self.assertEqual(await self.committed(), ["first", "last"])

    async def test_deferreds_fire_in_the_thread_of_the_reactor_after_the_commit(
        self,
    ) -> None:
        found: list[object] = []

        def look(_: str) -> None:
            found.append(threading.current_thread())
            # Another connection sees what is committed only.
            with self.database.connect(reading=True) as connection:
                found.append(names(connection))

        await self.worker.submit("put", insert("one")).addCallback(look)
        self.assertEqual(found, [threading.main_thread(), ["one"]])

    async def test_cancelled_operation_that_waits_is_not_run(self) -> None:
        go = self.hold()
        done = self.worker.submit("put", insert("one"))
        done.cancel()
        go.set()
        await self.assertFailure(done, CancelledError)
        self.assertEqual(await self.committed(), [])

    async def test_operation_that_is_cancelled_while_it_runs_is_committed(self) -> None:
        begun, go = threading.Event(), threading.Event()

        def slow(connection: sa.Connection) -> None:
            begun.set()
            go.wait(10)
            insert("one")(connection)

        done = self.worker.submit("put", slow)
        begun.wait(10)
        done.cancel()
        go.set()
        await self.assertFailure(done, CancelledError)
        self.assertEqual(await self.committed(), ["one"])

    async def test_commit_that_fails_fails_its_whole_group_and_the_next_succeeds(
        self,
    ) -> None:
        def limit(connection: sa.Connection) -> None:
            # What follows does not fit; the limit ends with the connection.
            (pages,) = connection.exec_driver_sql("PRAGMA page_count").one()
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

        def big(connection: sa.Connection) -> None:
            insert("x" * 1_000_000)(connection)

        go = self.held(limit)
        first = self.worker.submit("put", insert("first"))
        full = self.worker.submit("put", big)
        last = self.worker.submit("put", insert("last"))
        go.set()
        errors = [
            await self.assertFailure(each, StorageFullError)
            for each in (first, full, last)
        ]
        self.assertIn(str(self.path), str(errors[0]))
        self.assertIn("free some space", str(errors[0]))
        self.assertIsInstance(errors[0].__cause__, sa.exc.OperationalError)
        self.assertIsNot(errors[0], errors[1])
        self.assertEqual(await self.committed(), [])
        await self.worker.submit("put", insert("later"))
        self.assertEqual(await self.committed(), ["later"])

    async def test_error_while_the_group_is_committed_keeps_nothing_of_it(self) -> None:
        def fail(point: str) -> None:
            if point == "before fail":
                raise Broken

        worker = Worker(
            "test",
            self.database.connect,
            reactor,  # type: ignore[arg-type]
            self.database.explain,
            fail,
        )
        self.addCleanup(worker.close)
        await self.assertFailure(worker.submit("fail", insert("one")), Broken)
        await worker.submit("put", insert("two"))
        self.assertEqual(await self.committed(), ["two"])

    async def test_connection_that_cannot_be_opened_fails_the_group(self) -> None:
        def refuse() -> sa.Connection:
            raise JournalError("no")

        worker = Worker("test", refuse, reactor, self.database.explain)  # type: ignore[arg-type]
        self.addCleanup(worker.close)
        await self.assertFailure(worker.submit("put", insert("x")), JournalError)

    async def test_closing_runs_what_waits_and_refuses_what_comes_later(self) -> None:
        go = self.hold()
        done = self.worker.submit("put", insert("one"))
        closed = self.worker.close()
        self.assertRaises(RuntimeError, self.worker.submit, "put", insert("two"))
        go.set()
        await done
        await closed
        await self.worker.close()

    async def test_stalled_tells_how_long_a_group_takes(self) -> None:
        self.assertEqual(self.worker.stalled, 0.0)
        begun, go = threading.Event(), threading.Event()

        def slow(connection: sa.Connection) -> None:
            begun.set()
            go.wait(10)

        done = self.worker.submit("slow", slow)
        begun.wait(10)
        self.assertGreater(self.worker.stalled, 0.0)
        go.set()
        await done
        self.assertEqual(self.worker.stalled, 0.0)


class InlineTests(SynchronousTestCase):
    """Without a reactor."""

    def setUp(self) -> None:
        path = Path(self.mktemp()) / "state" / "collect.db"
        self.database = Database(path, exclusive=True, wall=float)
        self.addCleanup(self.database.engine.dispose)
        self.worker = Worker("test", self.database.connect, None, self.database.explain)

    def test_operation_is_done_at_once(self) -> None:
        self.successResultOf(self.worker.submit("put", insert("one")))
        self.assertEqual(
            self.successResultOf(self.worker.submit("names", names)), ["one"]
        )
        self.successResultOf(self.worker.close())
        self.successResultOf(self.worker.close())

    def test_operation_that_another_one_leads_to_is_done_after_it(self) -> None:
        inner: list[Deferred[str]] = []
        self.worker.submit("put", insert("one")).addCallback(
            lambda _: inner.append(self.worker.submit("put", insert("two")))
        )
        self.assertEqual(self.successResultOf(inner[0]), "two")
        self.successResultOf(self.worker.close())

    def test_operation_that_fails_is_reported(self) -> None:
        self.failureResultOf(self.worker.submit("put", insert_and_fail), Broken)
        self.assertEqual(self.successResultOf(self.worker.submit("names", names)), [])
        self.successResultOf(self.worker.close())
