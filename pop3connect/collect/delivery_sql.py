"""
What the journal does with deliveries.

Each attempt has a number, which is the fence of a delivery: a process that knows only
an older number changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import attrs
import sqlalchemy as sa

from .account_sql import as_names, inserted, none_of, one_of
from .bulk import Bulk
from .message_sql import rows_of, time_of, update_messages
from .records import DeliveryRow, DeliveryState, DueDelivery, MessageRow, MessageState
from .states import (
    DeliveryEvent,
    MessageEvent,
    delivery_after,
    message_after,
    outcome_of,
)
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
    "Settled",
    "awaited",
    "deliver_to_inbox",
    "delivered",
    "delivering",
    "due_deliveries",
    "failed",
    "interrupted",
    "set_aside",
    "take_over",
]


@attrs.frozen
class Settled:
    """
    What an operation on deliveries has done.

    :ivar messages: those that are final since this operation (DELIVERED or SET_ASIDE),
        as they are now.
    :ivar forgotten: the names of spool files that are not needed any more.
    """

    messages: tuple[MessageRow, ...] = ()
    forgotten: tuple[str, ...] = ()


_OPEN = (DeliveryState.WAITING, DeliveryState.DELIVERING)


def _joined() -> sa.Select[Any]:
    return (
        sa.select(*DELIVERY, *MESSAGE, account.c.name.label("account_name"))
        .join(message, message.c.id == delivery.c.message_id)
        .join(account, account.c.id == message.c.account_id)
    )


def _due(row: Sequence[Any]) -> DueDelivery:
    parts = len(DELIVERY)
    return DueDelivery(
        delivery_row(row[:parts]), message_row(row[parts:-1]), str(row[-1])
    )


def due_deliveries(
    connection: sa.Connection,
    me: str,
    destination: str,
    limit: int,
    account_id: int | None,
    without: Collection[int],
    early: bool,
) -> list[DueDelivery]:
    """Return deliveries of a machine that wait and are due, the oldest first."""
    query = (
        _joined()
        .where(
            delivery.c.destination == destination,
            delivery.c.machine == me,
            delivery.c.state == fixed(DeliveryState.WAITING),
            message.c.state == MessageState.RETRIEVED.value,
        )
        .order_by(delivery.c.next_try, delivery.c.message_id)
        .limit(limit)
    )
    if not early:
        query = query.where(delivery.c.next_try <= now())
    if account_id is not None:
        query = query.where(message.c.account_id == account_id)
    parameter = {}
    if without:
        dialect = connection.dialect.name
        query = query.where(none_of(dialect, message.c.account_id))
        parameter = as_names(connection, without)
    return [_due(row) for row in connection.execute(query, parameter)]


def awaited(connection: sa.Connection, me: str) -> list[str]:
    """Return the destinations that mail of a machine waits for."""
    mine = sa.select(delivery.c.destination).where(delivery.c.machine == me)
    # Each of these queries has its index.
    begun = mine.where(delivery.c.state == fixed(DeliveryState.DELIVERING))
    waiting = mine.where(delivery.c.state == fixed(DeliveryState.WAITING))
    return [name for (name,) in connection.execute(waiting.union(begun))]


def take_over(connection: sa.Connection, me: str) -> None:
    """
    Let a machine deliver what the others have retrieved: it has their files.

    Names of machines change, in containers at each start.
    """
    for state in _OPEN:
        connection.execute(
            sa.update(delivery)
            .where(delivery.c.state == fixed(state), delivery.c.machine != me)
            .values(machine=me)
        )
    connection.execute(
        sa.update(message).where(_KEPT, message.c.machine != me).values(machine=me)
    )


_KEPT = sa.or_(
    message.c.state == fixed(MessageState.RETRIEVED),
    message.c.spool != sa.literal_column("''"),
)


def interrupted(
    connection: sa.Connection, me: str, destination: str | None
) -> list[DueDelivery]:
    """Return the deliveries of a machine that have begun."""
    query = (
        _joined()
        .where(
            delivery.c.machine == me,
            delivery.c.state == fixed(DeliveryState.DELIVERING),
        )
        .order_by(delivery.c.message_id)
    )
    if destination is not None:
        query = query.where(delivery.c.destination == destination)
    return [_due(row) for row in connection.execute(query)]


def _current(
    connection: sa.Connection, rows: Sequence[DeliveryRow]
) -> list[tuple[DeliveryRow, DeliveryRow]]:
    """
    Return the rows whose attempt is still the last one: as given, and as they are.
    """
    wanted = {(row.message_id, row.destination): row for row in rows}
    ids = {row.message_id for row in rows}
    found = []
    for values in connection.execute(
        sa.select(*DELIVERY)
        .where(one_of(connection.dialect.name, delivery.c.message_id))
        .order_by(delivery.c.message_id, delivery.c.destination)
        .with_for_update(),
        as_names(connection, ids),
    ).all():
        there = delivery_row(values)
        row = wanted.get((there.message_id, there.destination))
        if row is not None and there.state in _OPEN and row.attempt == there.attempt:
            found.append((row, there))
    return found


def _write(
    connection: sa.Connection, rows: Iterable[DeliveryRow], wait: float = 0.0
) -> None:
    values = [
        {
            "number": row.message_id,
            "target": row.destination,
            "state": row.state.value,
            "attempt": row.attempt,
            "refusals": row.refusals,
            "refused_at": row.refused_at,
            "next_try": row.next_try,
            "machine": row.machine,
            "delivering_since": row.delivering_since,
            "reason": row.reason,
            "wait": wait,
            **witness_values(row.witness),
        }
        for row in rows
    ]
    _WRITE_ALL.execute(connection, values)


_WRITE = sa.update(delivery).where(
    delivery.c.message_id == sa.bindparam("number"),
    delivery.c.destination == sa.bindparam("target"),
)

_WRITE_ALL = Bulk(_WRITE, delivery.c.keys()[2:])


def delivering(
    connection: sa.Connection, me: str, rows: Sequence[DeliveryRow]
) -> list[DeliveryRow]:
    """Note, before the effect, that deliveries are attempted."""
    time = time_of(connection)
    begun = [
        attrs.evolve(
            there,
            state=delivery_after(there.state, DeliveryEvent.BEGUN),
            attempt=there.attempt + 1,
            machine=me,
            witness=row.witness,
            delivering_since=time,
        )
        for row, there in _current(connection, rows)
    ]
    _write(connection, begun)
    return begun


def delivered(
    connection: sa.Connection,
    rows: Sequence[DeliveryRow],
    delete_waits: Mapping[int, float | None],
) -> Settled:
    """Note that deliveries have succeeded."""
    if not rows:
        return Settled()
    _DELIVERED.execute(
        connection,
        [
            {
                "number": row.message_id,
                "target": row.destination,
                "begun": row.attempt,
            }
            for row in rows
        ],
    )
    return _settle(connection, {row.message_id for row in rows}, delete_waits)


# All but those of older attempts, without reading them first: every message is
# delivered, and few deliveries fail.
_DELIVERED = Bulk(
    _WRITE.where(
        delivery.c.attempt == sa.bindparam("begun", type_=sa.BigInteger),
        delivery.c.state.in_([fixed(state) for state in _OPEN]),
    ).values(state=fixed(DeliveryState.DELIVERED), reason=sa.literal_column("''")),
    (),
)


def failed(
    connection: sa.Connection,
    rows: Sequence[DeliveryRow],
    reason: str,
    wait: float,
    counts: bool,
) -> list[DeliveryRow]:
    """Note that attempts failed, and when they are repeated."""
    time = time_of(connection)
    # The witness stays: it may name the only file that holds the message.
    waiting = [
        attrs.evolve(
            there,
            state=delivery_after(there.state, DeliveryEvent.FAILED),
            refusals=there.refusals + counts,
            refused_at=time,
            next_try=time + wait,
            reason=reason,
        )
        for _, there in _current(connection, rows)
    ]
    _write(connection, waiting, wait)
    return waiting


def set_aside(
    connection: sa.Connection,
    rows: Sequence[DeliveryRow],
    reason: str,
    copies: Mapping[int, str],
) -> Settled:
    """Give deliveries up."""
    given_up = [
        attrs.evolve(
            there,
            state=delivery_after(there.state, DeliveryEvent.GIVEN_UP),
            reason=reason,
        )
        for _, there in _current(connection, rows)
    ]
    messages = rows_of(connection, {row.message_id for row in given_up})
    copied = {number: name for number, name in copies.items() if number in messages}
    update_messages(
        connection,
        [{"number": number, "spool": name} for number, name in copied.items()],
    )
    _write(connection, given_up)
    settled = _settle(connection, {row.message_id for row in given_up}, {})
    # Another delivery of the message may use the first file; the next start removes it.
    forgotten = [
        messages[row.id].spool
        for row in settled.messages
        if row.id in copied and messages[row.id].spool not in ("", copied[row.id])
    ]
    return attrs.evolve(settled, forgotten=(*settled.forgotten, *forgotten))


def _settle(
    connection: sa.Connection,
    ids: Collection[int],
    delete_waits: Mapping[int, float | None],
) -> Settled:
    """Change the messages whose deliveries are final now."""
    states: dict[int, list[DeliveryState]] = {}
    reasons: dict[int, str] = {}
    for number, text, reason in connection.execute(
        _states(connection.dialect.name), as_names(connection, ids)
    ).all():
        reached = _DELIVERY_STATES[text]
        states.setdefault(number, []).append(reached)
        if reached is DeliveryState.SET_ASIDE:
            reasons.setdefault(number, reason)
    delivered: list[int] = []
    given_up: list[int] = []
    for number, reached_states in states.items():
        event = outcome_of(reached_states)
        if event is MessageEvent.DELIVERED:
            delivered.append(number)
        elif event is not None:
            given_up.append(number)
    final = _set_aside(connection, given_up, reasons)
    done, forgotten = _all_delivered(connection, delivered, delete_waits)
    return Settled((*final, *done), forgotten)


@lru_cache
def _states(dialect: str) -> sa.Select[Any]:
    return sa.select(delivery.c.message_id, delivery.c.state, delivery.c.reason).where(
        one_of(dialect, delivery.c.message_id)
    )


_DELIVERY_STATES = {state.value: state for state in DeliveryState}


def _set_aside(
    connection: sa.Connection, ids: Collection[int], reasons: Mapping[int, str]
) -> list[MessageRow]:
    """Note that messages were given up by a destination; return their rows."""
    if not ids:
        return []
    final = [
        attrs.evolve(
            row,
            state=message_after(row.state, MessageEvent.GIVEN_UP),
            reason=reasons[number],
        )
        for number, row in rows_of(connection, ids).items()
        # One whose file was lost is retrieved again.
        if row.state is MessageState.RETRIEVED
    ]
    update_messages(
        connection,
        [
            {"number": row.id, "state": row.state.value, "reason": row.reason}
            for row in final
        ],
    )
    return final


def _all_delivered(
    connection: sa.Connection,
    ids: Collection[int],
    delete_waits: Mapping[int, float | None],
) -> tuple[list[MessageRow], tuple[str, ...]]:
    """Note that messages were delivered; return their rows, and their spool files."""
    if not ids:
        return [], ()
    rows = connection.execute(
        _retrieved(connection.dialect.name), as_names(connection, ids)
    ).all()
    spools: dict[int, str] = {row.id: row.spool for row in rows}
    time = time_of(connection)
    waits: dict[float | None, list[int]] = {}
    for number in spools:
        waits.setdefault(delete_waits.get(number), []).append(number)
    final: list[MessageRow] = []
    for wait, numbers in waits.items():
        changed = connection.execute(
            _all_done(connection.dialect.name),
            {
                "time": time,
                "then": None if wait is None else time + wait,
                **as_names(connection, numbers),
            },
        )
        final += [message_row(row) for row in changed.all()]
    return final, tuple(name for name in spools.values() if name)


@lru_cache
def _retrieved(dialect: str) -> sa.Select[Any]:
    # One whose file was lost is retrieved again.
    return (
        sa.select(message.c.id, message.c.spool)
        .where(
            one_of(dialect, message.c.id),
            message.c.state == fixed(MessageState.RETRIEVED),
        )
        .with_for_update()
    )


@lru_cache
def _all_done(dialect: str) -> sa.UpdateBase:
    after = message_after(MessageState.RETRIEVED, MessageEvent.DELIVERED)
    return (
        sa.update(message)
        .where(one_of(dialect, message.c.id))
        .values(
            state=fixed(after),
            delivered_at=sa.bindparam("time", type_=sa.Double),
            delete_after=sa.bindparam("then", type_=sa.Double),
            spool=sa.literal_column("''"),
            changed_at=now(),
        )
        .returning(*MESSAGE)
    )


def deliver_to_inbox(
    connection: sa.Connection,
    due: DueDelivery,
    content: bytes,
    envelope: Mapping[str, str],
    delete_wait: float | None,
) -> Settled:
    """Deliver a message into the table ``inbox``, in one transaction with its row."""
    current = _current(connection, [due.delivery])
    if not current:
        return Settled()
    ((_, there),) = current
    connection.execute(
        inserted(connection, inbox)
        .values(
            account=due.account,
            key=due.message.key,
            received_at=now(),
            envelope=json.dumps(dict(envelope)),
            message=content,
        )
        # Delivered already, if the journal is an older copy of the table's database.
        .on_conflict_do_nothing(index_elements=[inbox.c.key])
    )
    done = attrs.evolve(
        there,
        state=delivery_after(there.state, DeliveryEvent.DONE),
        attempt=there.attempt + 1,
        reason="",
    )
    _write(connection, [done])
    return _settle(connection, [done.message_id], {due.message.id: delete_wait})
