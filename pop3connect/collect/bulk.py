"""
Writes many rows with one statement.

SQLAlchemy prepares the values of each row by itself, which takes several times as long
as SQLite needs to write them.  Here, that is prepared once for each statement.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import sqlalchemy as sa

__all__ = ["Bulk"]

_Convert = Callable[[Any], Any]


@attrs.frozen
class _Compiled:
    """
    A statement for one kind of database.

    :ivar names: the values that it takes, in order.
    :ivar converted: the places of values that the database takes in another form.
    :ivar named: whether it takes values by name.
    """

    text: str
    names: tuple[str, ...]
    converted: tuple[tuple[int, _Convert], ...]
    named: bool


class Bulk:
    """
    A statement that is run for many rows of values.

    :param statement: an INSERT or UPDATE without values; it has no RETURNING.
    :param columns: the columns that are written.
    """

    def __init__(
        self, statement: sa.Insert | sa.Update, columns: Sequence[str]
    ) -> None:
        self._statement = statement
        self._columns = columns
        self._compiled: dict[str, _Compiled] = {}

    def execute(
        self, connection: sa.Connection, rows: Sequence[Mapping[str, Any]]
    ) -> None:
        """
        Run it for each row.

        :param rows: the values of all columns, and of the parameters of the statement.
        """
        if not rows:
            return
        compiled = self._compiled.get(connection.dialect.name)
        if compiled is None:
            compiled = self._compile(connection.dialect)
            self._compiled[connection.dialect.name] = compiled
        lists = [[row[name] for name in compiled.names] for row in rows]
        for place, convert in compiled.converted:
            for values in lists:
                values[place] = convert(values[place])
        every: Any = [tuple(values) for values in lists]
        if compiled.named:
            every = [dict(zip(compiled.names, v, strict=True)) for v in lists]
        connection.exec_driver_sql(compiled.text, every)

    def _compile(self, dialect: sa.Dialect) -> _Compiled:
        compiled: Any = self._statement.compile(
            dialect=dialect, column_keys=list(self._columns)
        )
        names = tuple(compiled.positiontup or compiled.binds)
        converted = []
        for place, name in enumerate(names):
            kind = compiled.binds[name].type
            convert = kind.dialect_impl(dialect).bind_processor(dialect)
            if convert is not None:
                converted.append((place, convert))
        return _Compiled(
            text=str(compiled),
            names=names,
            converted=tuple(converted),
            named=not compiled.positional,
        )
