"""
What the journal does with messages.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from .account_sql import as_names, check_fence, one_of
from .bulk import Bulk
from .database import JournalError
from .records import (
    LOST,
    AccountRow,
    Content,
    DeliveryRow,
    DeliveryState,
    MessageRow,
    MessageState,
    NewDelivery,
    NewMessage,
)
from .schedule import NextRetrieval
from .states import DeliveryEvent, MessageEvent, delivery_after, message_after
from .tables import (
    DELIVERY,
    MESSAGE,
    account,
    delivery,
    delivery_row,
    fixed,
    inbox,
    message,
    message_row,
    now,
    witness_values,
)

__all__ = [
    "DROPPED",
    "LOOKS_MISSING",
    "add",
    "chunks",
    "delete_confirmed",
    "drop",
    "find_messages",
    "has_work",
    "listed",
    "lost",
    "open_deliveries",
    "read_slice",
    "retrieved",
    "retry",
    "rows_of",
    "set_aside",
    "set_column",
    "skipped",
    "spool_files",
    "superseded",
    "suspect",
    "time_of",
    "undeleted",
    "update_messages",
]

LOOKS_MISSING = 10
"""Complete listings in a row without a message before it may be forgotten."""

CHUNK = 500
"""Ids in one statement: SQLite has a limit, which was 999 for long."""

DROPPED = "dropped by an administrator"
"""The reason of a message that was set aside and is not wanted."""

_CAN_WAIT = (MessageState.SUSPECT, MessageState.RETRIEVED, MessageState.SET_ASIDE)

_WAITS = (DeliveryState.WAITING, DeliveryState.DELIVERING)


def chunks(values: Iterable[Any]) -> Iterator[list[Any]]:
    """Divide values for statements that take a limited number of them."""
    every = list(values)
    for first in range(0, len(every), CHUNK):
        yield every[first : first + CHUNK]


def time_of(connection: sa.Connection) -> float:
    """Return the time by the clock of the database."""
    return float(connection.execute(_TIME).scalar_one())


_TIME = sa.select(now())


def rows_of(
    connection: sa.Connection, ids: Iterable[int], owner: AccountRow | None = None
) -> dict[int, MessageRow]:
    """Return messages by id, and keep others from changing them until the commit."""
    query = _rows(connection.dialect.name)
    if owner is not None:
        query = query.where(message.c.account_id == owner.id)
    rows = connection.execute(query, as_names(connection, ids)).all()
    return {row.id: message_row(row) for row in rows}


@lru_cache
def _rows(dialect: str) -> sa.Select[Any]:
    return sa.select(*MESSAGE).where(one_of(dialect, message.c.id)).with_for_update()


def update_messages(
    connection: sa.Connection, values: Sequence[Mapping[str, Any]]
) -> None:
    """
    Change rows of messages.

    :param values: for each the new values, and ``number``: its id.  All have the same
        columns.
    """
    if values:
        connection.execute(_UPDATE, list(values))


_UPDATE = (
    sa.update(message)
    .where(message.c.id == sa.bindparam("number"))
    .values(changed_at=now())
)


# -- reading


def read_slice(
    connection: sa.Connection,
    owner: AccountRow,
    after: int,
    limit: int,
    states: Collection[MessageState] | None,
) -> list[MessageRow]:
    """Return the next messages of an account whose ids are above ``after``."""
    query = (
        sa.select(*MESSAGE)
        .where(message.c.account_id == owner.id, message.c.id > after)
        .order_by(message.c.id)
        .limit(limit)
    )
    if states is not None:
        query = query.where(message.c.state.in_([state.value for state in states]))
    return [message_row(row) for row in connection.execute(query)]


_OPEN = message.c.state.in_(
    [fixed(MessageState.SUSPECT), fixed(MessageState.RETRIEVED)]
)


def open_deliveries(connection: sa.Connection, owner: AccountRow) -> list[DeliveryRow]:
    """Return the deliveries of an account that are not final."""
    rows = connection.execute(
        sa.select(*DELIVERY)
        .join(message, message.c.id == delivery.c.message_id)
        .where(
            message.c.account_id == owner.id,
            _OPEN,
            delivery.c.state.in_([state.value for state in _WAITS]),
        )
        .order_by(delivery.c.message_id, delivery.c.destination)
    )
    return [delivery_row(row) for row in rows]


def has_work(connection: sa.Connection, me: str, owner: AccountRow) -> bool:
    """Return whether rows must be read although the listing is the same."""
    return bool(connection.execute(_HAS_WORK, {"number": owner.id, "me": me}).scalar())


def _has_work() -> sa.Select[tuple[bool]]:
    mine = sa.select(message.c.id).where(
        message.c.account_id == sa.bindparam("number", type_=sa.BigInteger)
    )
    kinds = (
        mine.where(
            _OPEN,
            sa.or_(
                # One that is missing is still missing.
                sa.and_(
                    message.c.state == fixed(MessageState.SUSPECT),
                    message.c.missing_since.is_(None),
                ),
                sa.and_(
                    message.c.state == fixed(MessageState.RETRIEVED),
                    message.c.machine != sa.bindparam("me", type_=sa.Text),
                ),
            ),
        ),
        mine.where(
            message.c.state == fixed(MessageState.DELIVERED),
            message.c.delete_after.is_not(None),
            message.c.delete_after <= now(),
        ),
        mine.where(
            message.c.delete_tries > sa.literal_column("0"),
            message.c.missing_since.is_(None),
        ),
    )
    return sa.select(sa.or_(*(kind.exists() for kind in kinds)))


# Made once: every look needs it.
_HAS_WORK = _has_work()


def find_messages(
    connection: sa.Connection,
    states: Collection[MessageState],
    names: Collection[str] | None,
) -> list[tuple[str, MessageRow, list[DeliveryRow]]]:
    """Return messages in these states, with their accounts and deliveries."""
    query = (
        sa.select(account.c.name.label("account_name"), *MESSAGE)
        .join(account, account.c.id == message.c.account_id)
        .where(message.c.state.in_([state.value for state in states]))
        .order_by(account.c.name, message.c.id)
    )
    parameter = {}
    if names is not None:
        query = query.where(one_of(connection.dialect.name, account.c.name))
        parameter = as_names(connection, names)
    rows = connection.execute(query, parameter)
    found = {row.id: (row.account_name, message_row(row[1:])) for row in rows}
    deliveries: dict[int, list[DeliveryRow]] = {}
    for chunk in chunks(found):
        for row in connection.execute(
            sa.select(*DELIVERY)
            .where(delivery.c.message_id.in_(chunk))
            .order_by(delivery.c.destination)
        ):
            deliveries.setdefault(row.message_id, []).append(delivery_row(row))
    return [
        (name, row, deliveries.get(number, [])) for number, (name, row) in found.items()
    ]


def spool_files(connection: sa.Connection, me: str) -> dict[str, MessageState]:
    """Return the files of this machine that rows name."""
    rows = connection.execute(
        sa.select(message.c.spool, message.c.state).where(
            message.c.machine == me, message.c.spool != sa.literal_column("''")
        )
    )
    found = {name: MessageState(state) for name, state in rows}
    paths = connection.execute(
        sa.select(delivery.c.path, message.c.state)
        .join(message, message.c.id == delivery.c.message_id)
        .where(
            _OPEN,
            delivery.c.state.in_([state.value for state in _WAITS]),
            delivery.c.machine == me,
            delivery.c.path.is_not(None),
        )
    )
    found.update((path, MessageState(state)) for path, state in paths)
    return found


# -- what a look finds


def add(
    connection: sa.Connection, me: str, owner: AccountRow, new: Sequence[NewMessage]
) -> list[MessageRow]:
    """Insert messages and their deliveries."""
    check_fence(connection, owner)
    if not new:
        return []
    time = time_of(connection)
    try:
        _INSERT.execute(connection, [_new(owner, me, each, time) for each in new])
    except sa.exc.IntegrityError as error:
        raise JournalError(
            f"a message of the account {owner.name} is in the journal already"
        ) from error
    added = connection.execute(
        _added(connection.dialect.name),
        {"owner": owner.id, **as_names(connection, [each.key for each in new])},
    )
    rows = {row[0]: message_row(row[1:]) for row in added.all()}
    _INSERT_DELIVERY.execute(
        connection,
        [
            _new_delivery(rows[each.key].id, me, each_delivery, time)
            for each in new
            for each_delivery in each.deliveries
        ],
    )
    return [rows[each.key] for each in new]


_INSERT = Bulk(sa.insert(message).inline(), message.c.keys()[1:])

_INSERT_DELIVERY = Bulk(sa.insert(delivery).inline(), delivery.c.keys())


@lru_cache
def _added(dialect: str) -> sa.Select[Any]:
    return sa.select(message.c.key, *MESSAGE).where(
        message.c.account_id == sa.bindparam("owner", type_=sa.BigInteger),
        one_of(dialect, message.c.key),
    )


def _new(owner: AccountRow, me: str, new: NewMessage, time: float) -> dict[str, Any]:
    content = Content("") if new.content is None else new.content
    failed = new.state is MessageState.SUSPECT
    return {
        "account_id": owner.id,
        "key": new.key,
        "uid": new.uid,
        "size": new.size,
        "header_hash": content.header,
        "body_hash": content.body,
        "identified": content.identified,
        "state": new.state.value,
        "reason": new.reason,
        "failures": 0,
        "first_failed": time if failed else None,
        "delete_after": None,
        "delivered_at": None,
        "deleted_at": None,
        "delete_tries": 0,
        "first_seen": time,
        "missing_since": None,
        "missing_looks": 0,
        "spool": "" if new.spool is None else new.spool.name,
        "machine": me,
        "changed_at": time,
    }


def _new_delivery(
    number: int, me: str, new: NewDelivery, time: float
) -> dict[str, Any]:
    begun = new.state is DeliveryState.DELIVERING
    return {
        "message_id": number,
        "destination": new.destination,
        "state": new.state.value,
        "attempt": new.attempt,
        "refusals": 0,
        "refused_at": None,
        "wait": 0.0,
        "next_try": time,
        "machine": me,
        "delivering_since": time if begun else None,
        "reason": "",
        **witness_values(new.witness),
    }


def retrieved(
    connection: sa.Connection,
    me: str,
    owner: AccountRow,
    row: MessageRow,
    new: NewMessage,
) -> MessageRow:
    """Note that a known message was retrieved."""
    check_fence(connection, owner)
    before = _one(connection, owner, row)
    time = time_of(connection)
    values = _new(owner, me, new, time)
    for column in _STAYS:
        del values[column]
    if new.content is None:
        for column in ("header_hash", "body_hash", "identified"):
            del values[column]
    values["state"] = message_after(before.state, MessageEvent.RETRIEVED).value
    update_messages(connection, [{**values, "number": row.id}])
    known = {
        found.destination: delivery_row(found)
        for found in connection.execute(
            sa.select(*DELIVERY).where(delivery.c.message_id == row.id)
        )
    }
    wanted = {each.destination: each for each in new.deliveries}
    for destination, found in known.items():
        if found.state not in _WAITS:
            continue
        each = wanted.get(destination, NewDelivery(destination))
        begun = each.state is DeliveryState.DELIVERING
        connection.execute(
            sa.update(delivery)
            .where(
                delivery.c.message_id == row.id, delivery.c.destination == destination
            )
            .values(
                state=each.state.value,
                attempt=found.attempt + begun,
                next_try=time,
                wait=0.0,
                machine=me,
                delivering_since=time if begun else None,
                **witness_values(each.witness),
            )
        )
    if not known and new.deliveries:
        connection.execute(
            sa.insert(delivery),
            [_new_delivery(row.id, me, each, time) for each in new.deliveries],
        )
    return _one(connection, owner, row)


_STAYS = (
    "account_id",
    "key",
    "delete_after",
    "delivered_at",
    "deleted_at",
    "delete_tries",
    "first_seen",
    "missing_since",
    "missing_looks",
)
"""What a message that was known before keeps."""


def _one(connection: sa.Connection, owner: AccountRow, row: MessageRow) -> MessageRow:
    found = rows_of(connection, [row.id], owner).get(row.id)
    if found is None:
        raise JournalError(f"the message {row.key} is not in the journal any more")
    return found


def suspect(
    connection: sa.Connection,
    owner: AccountRow,
    row: MessageRow,
    reason: str,
    result: NextRetrieval,
) -> MessageRow:
    """Note that a known message could not be retrieved."""
    check_fence(connection, owner)
    before = _one(connection, owner, row)
    state = message_after(before.state, MessageEvent.FAILED)
    if result.set_aside:
        state = message_after(state, MessageEvent.GIVEN_UP)
        _end_deliveries(connection, [row.id], reason)
    update_messages(
        connection,
        [
            {
                "number": row.id,
                "state": state.value,
                "reason": reason,
                "failures": result.failures,
                "first_failed": result.first_failed,
            }
        ],
    )
    return _one(connection, owner, row)


def _end_deliveries(connection: sa.Connection, ids: Iterable[int], reason: str) -> None:
    for chunk in chunks(ids):
        connection.execute(
            sa.update(delivery)
            .where(
                delivery.c.message_id.in_(chunk),
                delivery.c.state.in_([state.value for state in _WAITS]),
            )
            .values(state=DeliveryState.SET_ASIDE.value, reason=reason)
        )


def _with_reasons(
    connection: sa.Connection,
    owner: AccountRow,
    reasons: Mapping[int, str],
    event: MessageEvent,
) -> None:
    check_fence(connection, owner)
    update_messages(
        connection,
        [
            {
                "number": number,
                "state": message_after(row.state, event).value,
                "reason": reasons[number],
            }
            for number, row in rows_of(connection, reasons, owner).items()
        ],
    )


def skipped(
    connection: sa.Connection, owner: AccountRow, reasons: Mapping[int, str]
) -> None:
    """Note that rules leave these messages on the server."""
    _with_reasons(connection, owner, reasons, MessageEvent.SKIPPED)


def set_aside(
    connection: sa.Connection, owner: AccountRow, reasons: Mapping[int, str]
) -> None:
    """Give messages up."""
    _with_reasons(connection, owner, reasons, MessageEvent.GIVEN_UP)
    for number, reason in reasons.items():
        _end_deliveries(connection, [number], reason)


def set_column(
    connection: sa.Connection,
    owner: AccountRow,
    column: str,
    values: Mapping[int, Any],
) -> None:
    """Set a column of messages of an account."""
    check_fence(connection, owner)
    if values:
        connection.execute(
            sa.update(message)
            .where(
                message.c.id == sa.bindparam("number"), message.c.account_id == owner.id
            )
            .values({column: sa.bindparam("value"), "changed_at": now()}),
            [{"number": number, "value": value} for number, value in values.items()],
        )


def lost(connection: sa.Connection, ids: Collection[int]) -> None:
    """Note that the files of messages are not here."""
    rows = [
        row
        for row in rows_of(connection, ids).values()
        if row.state is MessageState.RETRIEVED
    ]
    update_messages(
        connection,
        [
            {
                "number": row.id,
                "state": message_after(row.state, MessageEvent.LOST).value,
                "reason": LOST,
                "spool": "",
                "failures": 0,
                "first_failed": None,
            }
            for row in rows
        ],
    )
    for chunk in chunks(row.id for row in rows):
        connection.execute(
            sa.update(delivery)
            .where(
                delivery.c.message_id.in_(chunk),
                delivery.c.state == DeliveryState.DELIVERING.value,
            )
            .values(state=DeliveryState.WAITING.value, next_try=now(), wait=0.0)
        )


def listed(
    connection: sa.Connection,
    owner: AccountRow,
    present: Collection[int],
    absent: Collection[int] | None,
    forget_after: float | None,
) -> list[int]:
    """Note a complete listing; return the ids of the messages forgotten."""
    check_fence(connection, owner)
    mine = message.c.account_id == owner.id
    numbered = sa.update(message).where(mine, message.c.id == sa.bindparam("number"))
    if present:
        connection.execute(
            numbered.values(missing_since=None, missing_looks=0),
            [{"number": number} for number in present],
        )
    missing = {
        "missing_since": sa.func.coalesce(message.c.missing_since, now()),
        "missing_looks": message.c.missing_looks + 1,
    }
    if absent is None:
        gone = message.c.missing_since.is_not(None)
        connection.execute(sa.update(message).where(mine, gone).values(missing))
    elif absent:
        connection.execute(
            numbered.values(missing), [{"number": number} for number in absent]
        )
    if forget_after is None:
        return []
    rows = connection.execute(
        sa.delete(message)
        .where(
            mine,
            message.c.missing_since.is_not(None),
            message.c.missing_since <= now() - forget_after,
            message.c.missing_looks >= LOOKS_MISSING,
            # Its deliveries wait, or there is a copy for people.
            message.c.state != MessageState.RETRIEVED.value,
            message.c.spool == "",
            # Another message must not get the key of one that is in the table.
            ~sa.exists().where(inbox.c.key == message.c.key),
        )
        .returning(message.c.id)
    )
    return sorted(number for (number,) in rows)


def superseded(
    connection: sa.Connection, owner: AccountRow, ids: Collection[int]
) -> None:
    """Forget suspects of which nothing was read."""
    check_fence(connection, owner)
    for chunk in chunks(ids):
        connection.execute(
            sa.delete(message).where(
                message.c.account_id == owner.id,
                message.c.id.in_(chunk),
                message.c.state == MessageState.SUSPECT.value,
                message.c.header_hash == "",
            )
        )


def delete_confirmed(
    connection: sa.Connection, owner: AccountRow, ids: Collection[int]
) -> None:
    """Note that the server has deleted messages."""
    check_fence(connection, owner)
    time = time_of(connection)
    update_messages(
        connection,
        [
            {
                "number": number,
                "state": message_after(row.state, MessageEvent.DELETED).value,
                "deleted_at": time,
            }
            for number, row in rows_of(connection, ids, owner).items()
        ],
    )


def undeleted(
    connection: sa.Connection, owner: AccountRow, ids: Collection[int]
) -> None:
    """Note that the server has messages whose deletion it had confirmed."""
    check_fence(connection, owner)
    update_messages(
        connection,
        [
            {"number": number, "delete_tries": row.delete_tries + 1}
            for number, row in rows_of(connection, ids, owner).items()
        ],
    )


# -- what administrators do


def retry(connection: sa.Connection, ids: Collection[int]) -> list[int]:
    """Try messages and deliveries again that were set aside."""
    done: set[int] = set()
    time = time_of(connection)
    rows = {
        number: row
        for number, row in rows_of(connection, ids).items()
        # One that was dropped, or was delivered since, is final.
        if row.state in _CAN_WAIT
    }
    for chunk in chunks(rows):
        found = connection.execute(
            sa.update(delivery)
            .where(
                delivery.c.message_id.in_(chunk),
                delivery.c.state == DeliveryState.SET_ASIDE.value,
            )
            .values(
                state=delivery_after(
                    DeliveryState.SET_ASIDE, DeliveryEvent.RETRIED
                ).value,
                refusals=0,
                next_try=time,
                wait=0.0,
            )
            .returning(delivery.c.message_id)
        )
        done.update(number for (number,) in found)
    again = []
    for number, row in rows.items():
        if row.state is not MessageState.SET_ASIDE:
            continue
        done.add(number)
        # Of a message that was retrieved there is a copy.
        event = MessageEvent.RETRIED if row.spool else MessageEvent.RETRIED_WITHOUT_COPY
        again.append(
            {
                "number": number,
                "state": message_after(row.state, event).value,
                "reason": "",
                "failures": 0,
                "first_failed": None,
            }
        )
    update_messages(connection, again)
    return sorted(done)


def drop(connection: sa.Connection, ids: Collection[int]) -> list[int]:
    """Give up messages that were set aside."""
    rows = {
        number: row
        for number, row in rows_of(connection, ids).items()
        if row.state is MessageState.SET_ASIDE
    }
    update_messages(
        connection,
        [
            {
                "number": number,
                "state": message_after(row.state, MessageEvent.SKIPPED).value,
                "reason": DROPPED,
                "spool": "",
            }
            for number, row in rows.items()
        ],
    )
    return sorted(rows)
