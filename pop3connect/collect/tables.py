"""
The tables of the journal, and the values of `records` that their rows are.

Times are seconds since 1970; `now` is the clock of the database.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, unquote_to_bytes

import attrs
import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.functions import FunctionElement

from ..destinations.base import Witness
from .records import (
    AccountRow,
    AccountState,
    DeliveryRow,
    DeliveryState,
    MessageRow,
    MessageState,
)

__all__ = [
    "ACCOUNT",
    "DELIVERY",
    "HEAD",
    "MESSAGE",
    "NOW_FUNCTION",
    "ORIGIN",
    "account",
    "account_row",
    "delivery",
    "delivery_row",
    "fixed",
    "inbox",
    "machine",
    "message",
    "message_row",
    "metadata",
    "now",
    "version",
    "witness_values",
]

HEAD = "0001"
"""The version of the tables, as Alembic calls it."""

NOW_FUNCTION = "pop3connect_now"
"""A function that each connection to SQLite has: the clock of this program."""

NOTE_LIMIT = 1000
"""Characters of a text from a server or a destination that are kept."""


class now(FunctionElement[float]):
    """The time by the clock of the database; of the program with SQLite."""

    type = sa.Double()
    inherit_cache = True


@compiles(now)
def _now(element: now, compiler: Any, **options: Any) -> str:
    # The time at which the statement began, and not the transaction: a transaction may
    # have waited for a lock.
    return "extract(epoch from statement_timestamp())::double precision"


@compiles(now, "sqlite")
def _now_sqlite(element: now, compiler: Any, **options: Any) -> str:
    return f"{NOW_FUNCTION}()"


class UniqueId(sa.types.TypeDecorator[str]):
    """
    A unique-id of a server, which may have bytes that are not ASCII.

    In Python they are surrogates; a database refuses those.
    """

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        """Turn each such byte into the character of Latin-1."""
        if value is None or value.isascii():
            return value
        return value.encode("utf-8", "surrogateescape").decode("latin-1")

    def process_result_value(
        self, value: str | None, dialect: sa.Dialect
    ) -> str | None:
        """Turn those characters into surrogates."""
        if value is None or value.isascii():
            return value
        return value.encode("latin-1").decode("ascii", "surrogateescape")


class FilePath(sa.types.TypeDecorator[str]):
    """
    An absolute path; on most systems a path may have bytes that are not UTF-8.

    In Python they are surrogates; a database refuses those.
    """

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        """Quote such a path, as in a URL, after a percent sign."""
        if value is None or value.isascii():
            return value
        raw = os.fsencode(value)
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            return f"%{quote(raw)}"

    def process_result_value(
        self, value: str | None, dialect: sa.Dialect
    ) -> str | None:
        """Return the path as Python has it."""
        if value is None or not value.startswith("%"):
            return value
        return os.fsdecode(unquote_to_bytes(value[1:]))


class Note(sa.types.TypeDecorator[str]):
    """A text for people, such as a server's: any characters, cut to a limit."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        """Replace what a database refuses."""
        if value is None:
            return None
        text = value[:NOTE_LIMIT].replace("\0", "\\0")
        return text.encode("utf-8", "backslashreplace").decode("utf-8")


# SQLite counts rows only in a column of the type INTEGER.
_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)


def _note(name: str) -> sa.Column[str]:
    return sa.Column(name, Note, nullable=False)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False)


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean, nullable=False)


def _time(name: str, *, optional: bool = False) -> sa.Column[float]:
    return sa.Column(name, sa.Double, nullable=optional)


def _where(condition: str) -> dict[str, Any]:
    # The migrations make it for PostgreSQL too.  Named here, that dialect would be
    # imported at each start.
    return {"sqlite_where": sa.text(condition)}


ORIGIN = FilePath()
"""The type of the origin of an account."""

metadata = sa.MetaData()

account = sa.Table(
    "account",
    metadata,
    sa.Column("id", _ID, primary_key=True),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("origin", ORIGIN, nullable=False),
    _text("server"),
    _text("username"),
    _text("settings"),
    _text("state"),
    _flag("look_wanted"),
    _time("interval"),
    # The wait that was given when `due_at` was set: a `due_at` that is further away was
    # set before the clock was set back.
    _time("wait"),
    _time("due_at"),
    _text("owner"),
    _number("fence"),
    _number("failures"),
    _number("refusals"),
    _time("login_delay"),
    _time("expire_days", optional=True),
    _flag("uids_seen"),
    _number("uids_changed"),
    _number("uidl_failures"),
    _time("uidl_failed_at", optional=True),
    _text("listing"),
    _number("listed"),
    _time("usual_new"),
    _time("looked_at", optional=True),
    _time("mail_at", optional=True),
    _note("error"),
    _text("error_class"),
    _text("released_as"),
    _time("gone_since", optional=True),
    _time("changed_at"),
    # An id is not given twice: a process that still holds an account which was removed
    # must not write to another one.
    sqlite_autoincrement=True,
)
sa.Index(
    "account_due", account.c.due_at, **_where("state = 'ok' AND gone_since IS NULL")
)

message = sa.Table(
    "message",
    metadata,
    sa.Column("id", _ID, primary_key=True),
    sa.Column(
        "account_id",
        _ID,
        sa.ForeignKey("account.id", ondelete="CASCADE"),
        nullable=False,
    ),
    _text("key"),
    sa.Column("uid", UniqueId, nullable=False),
    _number("size"),
    _text("header_hash"),
    _text("body_hash"),
    _flag("identified"),
    _text("state"),
    _note("reason"),
    _number("failures"),
    _time("first_failed", optional=True),
    _time("delete_after", optional=True),
    _time("delivered_at", optional=True),
    _time("deleted_at", optional=True),
    _number("delete_tries"),
    _time("first_seen"),
    _time("missing_since", optional=True),
    _number("missing_looks"),
    _text("spool"),
    _text("machine"),
    _time("changed_at"),
    sa.UniqueConstraint("account_id", "key", name="message_key"),
    sqlite_autoincrement=True,
)
# For reading in slices: the rows of an account in the order of their ids.
sa.Index("message_account", message.c.account_id, message.c.id)
# Small ones, for the queries of every look, even if its listing has not changed.
sa.Index(
    "message_open",
    message.c.account_id,
    **_where("state IN ('suspect', 'retrieved')"),
)
sa.Index(
    "message_delete",
    message.c.account_id,
    message.c.delete_after,
    **_where("state = 'delivered' AND delete_after IS NOT NULL"),
)
sa.Index("message_missing", message.c.account_id, **_where("missing_since IS NOT NULL"))
sa.Index(
    "message_returned",
    message.c.account_id,
    **_where("delete_tries > 0 AND missing_since IS NULL"),
)
sa.Index("message_spool", message.c.machine, **_where("spool <> ''"))

delivery = sa.Table(
    "delivery",
    metadata,
    sa.Column(
        "message_id",
        _ID,
        sa.ForeignKey("message.id", ondelete="CASCADE"),
        primary_key=True,
    ),
    sa.Column("destination", sa.Text, primary_key=True),
    _text("state"),
    _number("attempt"),
    _number("refusals"),
    _time("refused_at", optional=True),
    _time("wait"),
    _time("next_try"),
    _text("machine"),
    sa.Column("path", FilePath),
    # As a text: some file systems use all 64 bits, without a sign.
    sa.Column("inode", sa.Text),
    sa.Column("mark", sa.Text),
    sa.Column("offset", sa.BigInteger),
    sa.Column("length", sa.BigInteger),
    _time("delivering_since", optional=True),
    _note("reason"),
)
sa.Index(
    "delivery_due",
    delivery.c.destination,
    delivery.c.machine,
    delivery.c.next_try,
    **_where("state = 'waiting'"),
)
sa.Index("delivery_begun", delivery.c.machine, **_where("state = 'delivering'"))

machine = sa.Table(
    "machine",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    _time("started_at"),
    _time("seen_at"),
    _text("version"),
    _number("sessions"),
)

inbox = sa.Table(
    "inbox",
    metadata,
    sa.Column("id", _ID, primary_key=True),
    _text("account"),
    sa.Column("key", sa.Text, nullable=False, unique=True),
    _time("received_at"),
    _text("envelope"),
    sa.Column("message", sa.LargeBinary, nullable=False),
    # Programs that read this table may remove rows, and ask for those above a number.
    sqlite_autoincrement=True,
)

version = sa.Table(
    "alembic_version",
    metadata,
    sa.Column("version_num", sa.String(32), nullable=False),
    sa.PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)


def fixed(state: enum.Enum) -> ColumnElement[str]:
    """
    Return a state as it stands in a statement, and not as a parameter.

    Only so does a database see that an index of some rows has all that are wanted.
    """
    return sa.literal_column(f"'{state.value}'", sa.Text)


def _columns(table: sa.Table, row: type) -> tuple[sa.Column[Any], ...]:
    return tuple(table.c[field.name] for field in attrs.fields(row))


ACCOUNT: Sequence[ColumnElement[Any]] = _columns(account, AccountRow)
"""What to select for `account_row`, and likewise below."""

MESSAGE: Sequence[ColumnElement[Any]] = _columns(message, MessageRow)

DELIVERY: Sequence[ColumnElement[Any]] = (
    *(
        delivery.c[field.name]
        for field in attrs.fields(DeliveryRow)
        if field.name != "witness"
    ),
    *(delivery.c[field.name] for field in attrs.fields(Witness)),
)

_ACCOUNT_STATE = [field.name for field in attrs.fields(AccountRow)].index("state")
_MESSAGE_STATE = [field.name for field in attrs.fields(MessageRow)].index("state")

_MESSAGE_STATES = {state.value: state for state in MessageState}

_OWN = [f.name for f in attrs.fields(DeliveryRow) if f.name != "witness"]
_WITNESS = [f.name for f in attrs.fields(Witness)]


def account_row(values: Sequence[Any]) -> AccountRow:
    """Return the row of an account, from the columns `ACCOUNT`."""
    parts = list(values)
    parts[_ACCOUNT_STATE] = AccountState(parts[_ACCOUNT_STATE])
    return AccountRow(*parts)


def message_row(values: Sequence[Any]) -> MessageRow:
    """Return the row of a message, from the columns `MESSAGE`."""
    parts = list(values)
    parts[_MESSAGE_STATE] = _MESSAGE_STATES[parts[_MESSAGE_STATE]]
    return MessageRow(*parts)


def delivery_row(values: Sequence[Any]) -> DeliveryRow:
    """Return the row of a delivery, from the columns `DELIVERY`."""
    parts = dict(zip(_OWN, values, strict=False))
    parts["state"] = DeliveryState(parts["state"])
    witness = dict(zip(_WITNESS, values[len(_OWN) :], strict=True))
    if witness["path"] is not None:
        inode = witness["inode"]
        witness["inode"] = None if inode is None else int(inode)
        parts["witness"] = Witness(**witness)
    return DeliveryRow(**parts)


def witness_values(witness: Witness | None) -> dict[str, Any]:
    """Return the columns of a delivery that hold its witness."""
    if witness is None:
        return dict.fromkeys(_WITNESS)
    values = {name: getattr(witness, name) for name in _WITNESS}
    if witness.inode is not None:
        values["inode"] = str(witness.inode)
    return values
