"""
The journal as a whole: its threads, its end, crashes, and other databases.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import attrs
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import CreateTable
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from pop3connect.collect.account_sql import due_statement, inserted
from pop3connect.collect.journal import DamagedError, Journal
from pop3connect.collect.migrations.versions import first_0001
from pop3connect.collect.records import MessageState, NewAccount, Witness
from pop3connect.collect.schedule import NextRetrieval
from pop3connect.collect.tables import account, metadata

from .journals import LEASE, JournalCase, new_message

ROOT = Path(__file__).parents[2]

CRASH = """
import os, sys
from pathlib import Path
from pop3connect.collect.journal import Journal
from pop3connect.collect.records import NewAccount
from tests.collect.journals import new_message

def crash(point):
    if point == sys.argv[2]:
        os._exit(9)

def result(deferred):
    found = []
    deferred.addBoth(found.append)
    return found[0]

path = Path(sys.argv[1])
journal = result(Journal.open(path, None, "here", exclusive=True, hook=crash))
result(journal.put_accounts([NewAccount("one", "s", "u", 300.0)], "file"))
(row,) = result(journal.claim(1, 60.0))
result(journal.add(row, [new_message("a", "box")]))
due = result(journal.due_deliveries("box", 9))
rows = result(journal.delivering([each.delivery for each in due]))
result(journal.delivered(rows, {}))
"""


class ThreadTests(TestCase):
    """With threads, as the collector uses it."""

    async def opened(self, **options: Any) -> Journal:
        journal = await Journal.open(
            self.path, reactor, "here", exclusive=True, **options
        )
        self.addCleanup(journal.close)
        return journal

    def setUp(self) -> None:
        self.path = Path(self.mktemp()) / "state" / "collect.db"

    async def test_looks_at_many_accounts_at_once(self) -> None:
        journal = await self.opened()
        names = [f"a{number}" for number in range(50)]
        new = [NewAccount(name, "s", "u", 300.0) for name in names]
        await journal.put_accounts(new, "file")
        rows = await journal.claim(50, LEASE)

        async def look(number: int) -> int:
            row = rows[number]
            added = await journal.add(row, [new_message("a", "box")])
            found = await journal.messages(row)
            self.assertEqual(found, added)
            await journal.finish(row, due_at=0.0, looked=True)
            return 1

        done = await gatherResults(
            [Deferred.fromCoroutine(look(number)) for number in range(50)]
        )
        self.assertEqual(sum(done), 50)
        self.assertEqual(len(await journal.due_deliveries("box", 99)), 50)
        self.assertEqual(journal.stalled, 0.0)

    async def test_results_come_in_the_thread_of_the_reactor(self) -> None:
        journal = await self.opened()
        self.assertIs(threading.current_thread(), threading.main_thread())
        await journal.put_accounts([], "file")
        self.assertIs(threading.current_thread(), threading.main_thread())

    async def test_hook_is_called_in_the_thread_of_the_writer(self) -> None:
        found: list[threading.Thread] = []
        journal = await self.opened(
            hook=lambda point: found.append(threading.current_thread())
        )
        await journal.put_accounts([], "file")
        await journal.accounts()
        self.assertEqual(len(found), 2)
        self.assertNotIn(threading.main_thread(), found)

    async def test_damaged_file_is_an_error_of_opening(self) -> None:
        await (await self.opened()).close()
        self.path.write_bytes(b"{}" * 4000)
        opening = Journal.open(self.path, reactor, "here", exclusive=True)
        await self.assertFailure(opening, DamagedError)

    async def test_opening_may_be_cancelled(self) -> None:
        opening = Journal.open(self.path, reactor, "here", exclusive=True)
        opening.cancel()
        await self.assertFailure(opening, CancelledError)
        for thread in threading.enumerate():
            if thread.name == "journal: opening":
                thread.join(10)

    async def test_closed_journal_leaves_one_file(self) -> None:
        journal = await self.opened()
        await journal.put_accounts([], "file")
        await journal.close()
        self.assertEqual(os.listdir(self.path.parent), ["collect.db"])


class InlineTests(SynchronousTestCase):
    def test_reactor_without_threads_needs_none(self) -> None:
        path = Path(self.mktemp()) / "state" / "collect.db"
        journal = self.successResultOf(
            Journal.open(path, Clock(), "here", exclusive=True)
        )
        self.assertEqual(self.successResultOf(journal.accounts()), [])
        self.successResultOf(journal.close())


class CrashTests(JournalCase):
    """A process that ends at a commit: all of it is there, or nothing."""

    def crash(self, point: str) -> None:
        done = subprocess.run(
            [sys.executable, "-c", CRASH, str(self.path.absolute()), point],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        self.assertEqual(done.returncode, 9, done.stderr)
        self.journal = self.opened(exclusive=True)

    def test_end_before_the_commit_of_a_message(self) -> None:
        self.crash("before add")
        self.assertEqual(self.messages(self.claimed()), {})
        self.assertEqual(self.due(), [])

    def test_end_after_the_commit_of_a_message(self) -> None:
        self.crash("after add")
        self.assertEqual(list(self.messages(self.claimed())), ["a"])
        self.assertEqual(len(self.due()), 1)

    def test_end_before_the_commit_of_an_attempt(self) -> None:
        self.crash("before delivering")
        self.assertEqual(len(self.due()), 1)
        self.assertEqual(self.done(self.journal.interrupted()), [])

    def test_end_after_the_commit_of_an_attempt(self) -> None:
        self.crash("after delivering")
        self.assertEqual(self.due(), [])
        self.assertEqual(len(self.done(self.journal.interrupted())), 1)

    def test_end_before_the_commit_of_a_delivery(self) -> None:
        self.crash("before delivered")
        self.assertEqual(len(self.done(self.journal.interrupted())), 1)

    def test_end_after_the_commit_of_a_delivery(self) -> None:
        self.crash("after delivered")
        self.assertEqual(self.done(self.journal.interrupted()), [])
        (row,) = self.messages(self.claimed()).values()
        self.assertIs(row.state, MessageState.DELIVERED)

    def test_lease_of_the_process_is_void(self) -> None:
        self.crash("after claim")
        self.time = 2_000_000_000.0
        rows = self.done(self.journal.claim(1, LEASE))
        self.assertEqual([row.fence for row in rows], [3])


class PostgreSQLTests(JournalCase):
    """Every statement can be compiled for PostgreSQL."""

    def setUp(self) -> None:
        super().setUp()
        self.texts: set[str] = set()
        listener = (sa.Engine, "before_execute", self.compile)
        sa.event.listen(*listener)
        self.addCleanup(sa.event.remove, *listener)

    def compile(self, _: object, statement: Any, *rest: object) -> None:
        # What SQLite has of its own is in the next test.
        if isinstance(statement, sa.ClauseElement) and not isinstance(
            statement, sqlite.Insert
        ):
            self.texts.add(self.compiled(statement))

    def compiled(self, statement: Any) -> str:
        text = str(statement.compile(dialect=postgresql.dialect()))
        return " ".join(text.split())

    def test_statements_of_all_methods(self) -> None:
        journal, done = self.journal, self.done
        owner = self.claimed()
        (row,) = self.add(owner, new_message("a", "box", "desk"))
        (bad,) = self.add(owner, new_message("b", state=MessageState.SUSPECT))
        done(journal.claim(5, LEASE))
        done(journal.claim(5, LEASE, ["file"]))
        done(journal.origins(["one"]))
        done(journal.put_accounts([], "file", left=["x"]))
        done(journal.give_back([attrs.evolve(owner, fence=0)]))
        done(journal.renew([owner], LEASE))
        done(journal.messages(owner, [MessageState.SUSPECT]))
        done(journal.deliveries(owner))
        done(journal.has_work(owner))
        done(journal.suspect(owner, bad, "x", NextRetrieval(5, 1.0, set_aside=True)))
        done(journal.retry([bad.id]))
        done(journal.skipped(owner, {bad.id: "x"}))
        done(journal.retrieved(owner, bad, new_message("b", "box")))
        done(journal.renamed(owner, {row.id: "x"}))
        done(journal.lost([bad.id]))
        done(journal.retrieved(owner, bad, new_message("b", "box")))
        done(journal.set_aside(owner, {bad.id: "x"}))
        done(journal.drop([bad.id]))
        (due,) = self.due(account=owner, without=[7])
        witnessed = attrs.evolve(due.delivery, witness=Witness("/x", 1))
        rows = done(journal.delivering([witnessed]))
        done(journal.interrupted("box"))
        failed = done(journal.delivery_failed(rows, "x", wait=0.0, counts=True))
        copies = {row.id: "copy"}
        done(journal.delivery_set_aside(failed, "x", copies=copies))
        done(journal.retry([row.id]))
        done(journal.delivered(self.begin(), {}))
        (due,) = self.due("desk")
        done(journal.deliver_to_inbox(due, b"", {}, 1.0))
        done(journal.delete_confirmed(owner, [row.id]))
        done(journal.undeleted(owner, [row.id]))
        done(journal.listed(owner, present=[1], absent=[2], forget_after=1.0))
        done(journal.listed(owner, absent=None, forget_after=1.0))
        done(journal.spool_files())
        done(journal.find_messages([MessageState.DELETED], ["one"]))
        done(journal.counts())
        done(journal.machine_seen("1", 1))
        done(journal.finish(owner, due_at=1.0, looked=True))
        done(journal.hold(["one"]))
        done(journal.release(["one"]))
        done(journal.look_wanted(["one"]))
        done(journal.rename("one", "two"))
        done(journal.reset("two"))
        done(journal.remove("two"))
        done(journal.forget_accounts(1.0))
        self.assertGreater(len(self.texts), 40)
        joined = "\n".join(self.texts)
        self.assertIn("FOR SHARE", joined)
        self.assertNotIn("pop3connect_now", joined)
        # SQLAlchemy 2.0.0 makes this of a negated "= ANY".
        self.assertNotIn("!= ANY", joined)

    def test_statements_that_differ(self) -> None:
        due = self.compiled(due_statement("postgresql", chosen=True))
        self.assertIn("FOR UPDATE SKIP LOCKED", due)

        class Connection:
            dialect = postgresql.dialect()

        insert = inserted(Connection(), account)  # type: ignore[arg-type]
        text = self.compiled(
            insert.on_conflict_do_update(
                index_elements=[account.c.name], set_={"server": insert.excluded.server}
            )
        )
        self.assertIn("ON CONFLICT (name) DO UPDATE SET server = excluded.server", text)

    def test_tables(self) -> None:
        tables = metadata.sorted_tables
        text = " ".join(self.compiled(CreateTable(table)) for table in tables)
        self.assertIn("id BIGSERIAL NOT NULL", text)
        self.assertIn('"offset" BIGINT', text)
        self.assertIn("message BYTEA NOT NULL", text)
        self.assertIn("due_at DOUBLE PRECISION NOT NULL", text)

    def test_indexes_of_the_migration_have_some_of_the_rows_only(self) -> None:
        text = io.StringIO()
        context = MigrationContext.configure(
            dialect_name="postgresql", opts={"as_sql": True, "output_buffer": text}
        )
        with Operations.context(context):
            first_0001.upgrade()
        made = re.findall(r"CREATE INDEX \w+ ON .*? WHERE (.*);", text.getvalue())
        # As SQLite has them, which another test compares with the tables.
        wanted = [
            str(index.dialect_options["sqlite"]["where"])
            for table in metadata.sorted_tables
            for index in table.indexes
            if index.dialect_options["sqlite"]["where"] is not None
        ]
        self.assertEqual(sorted(made), sorted(wanted))
