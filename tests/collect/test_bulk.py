"""
Many rows of values, written with one statement.
"""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from twisted.trial.unittest import SynchronousTestCase

from pop3connect.collect import delivery_sql, message_sql
from pop3connect.collect.bulk import Bulk
from pop3connect.collect.tables import NOTE_LIMIT, Note, UniqueId, now

TABLE = sa.Table(
    "thing",
    sa.MetaData(),
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("uid", UniqueId),
    sa.Column("reason", Note),
    sa.Column("at", sa.Double),
)

ROWS = [
    {"id": 1, "uid": "a", "reason": "x" * (NOTE_LIMIT + 1), "at": 1},
    {"id": 2, "uid": "\udcff", "reason": "a\0b", "at": None},
]

KNOWN = [
    (1, "a", "x" * NOTE_LIMIT, 1.0),
    (2, "\udcff", "a\\0b", None),
]


class BulkTests(SynchronousTestCase):
    def setUp(self) -> None:
        engine = sa.create_engine("sqlite://")
        self.connection = engine.connect()
        self.addCleanup(engine.dispose)
        self.addCleanup(self.connection.close)
        TABLE.create(self.connection)
        self.insert = Bulk(sa.insert(TABLE), TABLE.c.keys())

    def rows(self) -> list[Any]:
        return list(self.connection.execute(sa.select(TABLE).order_by(TABLE.c.id)))

    def test_values_are_converted_as_by_sqlalchemy(self) -> None:
        self.insert.execute(self.connection, ROWS)
        self.assertEqual(self.rows(), KNOWN)
        self.connection.execute(sa.delete(TABLE))
        self.connection.execute(sa.insert(TABLE), ROWS)
        self.assertEqual(self.rows(), KNOWN)

    def test_rows_are_found_by_the_parameters_of_the_statement(self) -> None:
        self.insert.execute(self.connection, ROWS)
        update = sa.update(TABLE).where(TABLE.c.id == sa.bindparam("number"))
        change = Bulk(update, ["reason", "uid"])
        change.execute(
            self.connection,
            [{"number": 2, "uid": "c", "reason": "", "more": "is not looked at"}],
        )
        self.assertEqual(self.rows(), [KNOWN[0], (2, "c", "", None)])

    def test_without_rows_nothing_is_run(self) -> None:
        none: Any = None
        self.insert.execute(none, [])

    def test_error_of_a_row_is_that_of_sqlalchemy(self) -> None:
        self.assertRaises(
            sa.exc.IntegrityError, self.insert.execute, self.connection, [ROWS[0]] * 2
        )

    def test_value_that_is_missing_is_an_error(self) -> None:
        self.assertRaises(KeyError, self.insert.execute, self.connection, [{"id": 1}])


class PostgreSQLTests(SynchronousTestCase):
    def run_there(self, bulk: Bulk, *rows: dict[str, Any]) -> tuple[str, Any]:
        done: list[tuple[str, Any]] = []
        connection: Any = SimpleNamespace(
            dialect=postgresql.dialect(),
            exec_driver_sql=lambda text, values: done.append((text, values)),
        )
        bulk.execute(connection, rows)
        return done[0]

    def test_values_are_given_by_name(self) -> None:
        update = sa.update(TABLE).where(TABLE.c.id == sa.bindparam("number"))
        bulk = Bulk(update.values(at=now()), ["uid"])
        text, values = self.run_there(bulk, {"uid": "\udcff", "number": 2})
        for part in ("SET uid=%(uid)s", "at=extract(epoch", "id = %(number)s"):
            self.assertIn(part, text)
        self.assertEqual(values, [{"uid": "ÿ", "number": 2}])

    def test_statements_of_the_journal_are_run_and_return_nothing(self) -> None:
        found = [
            each
            for module in (message_sql, delivery_sql)
            for each in vars(module).values()
            if isinstance(each, Bulk)
        ]
        self.assertEqual(len(found), 4)
        for bulk in found:
            text, _ = self.run_there(bulk, defaultdict(lambda: None))
            self.assertNotIn("RETURNING", text)
