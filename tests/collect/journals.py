"""
Journals in temporary files, for tests.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import sqlalchemy as sa
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from pop3connect.collect.database import Database
from pop3connect.collect.journal import Journal
from pop3connect.collect.records import (
    AccountRow,
    Content,
    DeliveryRow,
    DueDelivery,
    MessageRow,
    MessageState,
    NewAccount,
    NewDelivery,
    NewMessage,
)

T = TypeVar("T")

LEASE = 60.0


def new_message(
    key: str,
    *destinations: str,
    state: MessageState = MessageState.RETRIEVED,
    **fields: Any,
) -> NewMessage:
    values: dict[str, Any] = {
        "key": key,
        "uid": f"uid-{key}",
        "size": 100,
        "content": Content(f"header-{key}", True, f"body-{key}"),
        "state": state,
        "spool": Path(f"/spool/{key}.eml") if destinations else None,
        "deliveries": tuple(NewDelivery(name) for name in destinations),
    }
    return NewMessage(**{**values, **fields})


@cache
def empty_journal() -> bytes:
    """Return the file of a new journal: the migrations are run once for all tests."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "collect.db"
        Database.upgrade(path)
        return path.read_bytes()


class JournalCase(SynchronousTestCase):
    """A test with a journal whose Deferreds have their results at once."""

    def setUp(self) -> None:
        self.time = 1_000_000.0
        self.points: list[str] = []
        self.path = Path(self.mktemp()) / "state" / "collect.db"
        self.path.parent.mkdir(parents=True, mode=0o700)
        self.path.write_bytes(empty_journal())
        self.journal = self.opened(exclusive=True)

    def wall(self) -> float:
        return self.time

    def opened(
        self,
        *,
        machine: str = "here",
        exclusive: bool = False,
        path: Path | None = None,
    ) -> Journal:
        journal = self.successResultOf(
            Journal.open(
                path or self.path,
                None,
                machine,
                exclusive=exclusive,
                wall=self.wall,
                hook=self.points.append,
            )
        )
        self.addCleanup(journal.close)
        return journal

    def done(self, deferred: Deferred[T]) -> T:
        return self.successResultOf(deferred)

    def put(self, *names: str, **fields: Any) -> list[AccountRow]:
        values: dict[str, Any] = {
            "server": "pop.example.org",
            "username": "user",
            "interval": 300.0,
            **fields,
        }
        rows = [NewAccount(name=name, **values) for name in names]
        return self.done(self.journal.put_accounts(rows, "file"))

    def claimed(self, name: str = "one") -> AccountRow:
        self.put(name)
        row = self.done(self.journal.claim_now(name, LEASE))
        assert row is not None
        return row

    def account(self, name: str = "one") -> AccountRow:
        (row,) = self.done(self.journal.accounts([name]))
        return row

    def add(self, owner: AccountRow, *new: NewMessage) -> list[MessageRow]:
        return self.done(self.journal.add(owner, new))

    def messages(self, owner: AccountRow) -> dict[str, MessageRow]:
        return {row.key: row for row in self.done(self.journal.messages(owner))}

    def due(self, destination: str = "box", **options: Any) -> list[DueDelivery]:
        return self.done(self.journal.due_deliveries(destination, 100, **options))

    def begin(self, destination: str = "box") -> list[DeliveryRow]:
        rows = [due.delivery for due in self.due(destination)]
        return self.done(self.journal.delivering(rows))

    def query(self, statement: str) -> list[Any]:
        engine = sa.create_engine(f"sqlite:///{self.path}")
        try:
            with engine.connect() as connection:
                return [tuple(row) for row in connection.exec_driver_sql(statement)]
        finally:
            engine.dispose()
