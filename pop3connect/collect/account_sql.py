"""
What the journal does with accounts: claims, leases and fences, and what administrators
change.

`due_at` is both schedule and lease: a claim sets it to the end of the lease and raises
the fence, and a process with an older fence is refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import attrs
import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql.elements import ColumnElement

from .database import JournalError, LostLeaseError
from .records import AccountRow, AccountState, MessageState, NewAccount
from .states import AccountEvent, account_after
from .tables import (
    ACCOUNT,
    ORIGIN,
    account,
    account_row,
    delivery,
    fixed,
    machine,
    message,
    now,
)

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql

__all__ = [
    "accounts",
    "as_names",
    "ask_for_look",
    "change_state",
    "check_fence",
    "claim",
    "claim_now",
    "claim_statement",
    "counts",
    "due_statement",
    "finish",
    "forget_accounts",
    "give_back",
    "inserted",
    "machine_seen",
    "none_of",
    "one_of",
    "origins",
    "put_accounts",
    "remove",
    "rename",
    "renew",
    "reset",
    "set_back",
    "void_leases",
]

CLOCK_SLACK = 60.0
"""Seconds by which the clock may be set back unnoticed; looks are late by as much."""

AHEAD = 365 * 24 * 3600.0
"""Seconds in the future from which on the age of something begins again.  A clock that
is set back for a moment by less makes nothing old."""

Row = Mapping[str, Any]


def inserted(
    connection: sa.Connection, table: sa.Table
) -> sqlite.Insert | postgresql.Insert:
    """Return an INSERT that can say what to do about a row that exists."""
    if connection.dialect.name == "sqlite":
        return sqlite.insert(table)
    # Not at the top: a start with SQLite does not wait for it.
    from sqlalchemy.dialects import postgresql

    return postgresql.insert(table)


def one_of(
    dialect: str, column: ColumnElement[Any], parameter: str = "names"
) -> ColumnElement[bool]:
    """
    Return a condition: a column has one of the values in a parameter.

    They are one parameter (see `as_names`), so that there may be 100,000 of them.
    """
    if dialect == "sqlite":
        names = sa.bindparam(parameter, type_=sa.Text)
        # Numbers, too: their own type is in the JSON.
        each = sa.func.json_each(names).table_valued("value")
        return column.in_(sa.select(each.c.value))
    array = sa.bindparam(parameter, type_=sa.ARRAY(column.type))
    return column == sa.any_(array)


def none_of(
    dialect: str, column: ColumnElement[Any], parameter: str = "names"
) -> ColumnElement[bool]:
    """
    Return a condition: a column has none of the values in a parameter; see `one_of`.

    Not by `sqlalchemy.not_`: SQLAlchemy 2.0.0 makes ``!= ANY`` of ``= ANY``, which is
    true if one of the values differs.
    """
    if dialect == "sqlite":
        return sa.not_(one_of(dialect, column, parameter))
    array = sa.bindparam(parameter, type_=sa.ARRAY(column.type))
    return column != sa.all_(array)


def as_names(
    connection: sa.Connection, names: Iterable[object], parameter: str = "names"
) -> dict[str, Any]:
    """Return the parameter of `one_of`."""
    every = list(names)
    sqlite_ = connection.dialect.name == "sqlite"
    return {parameter: json.dumps(every) if sqlite_ else every}


# -- claims


def put_accounts(
    connection: sa.Connection,
    rows: Sequence[NewAccount],
    origin: str,
    left: Collection[str] | None = None,
) -> list[AccountRow]:
    """
    Insert accounts, or update those with the same names.

    :param left: those that have left the origin; ``None``: all others.
    """
    gone = (
        sa.update(account)
        .where(account.c.origin == origin, account.c.gone_since.is_(None))
        .values(gone_since=now(), changed_at=now())
    )
    if left is None:
        connection.execute(gone)
    elif left:
        connection.execute(
            gone.where(one_of(connection.dialect.name, account.c.name)),
            as_names(connection, left),
        )
    if not rows:
        return []
    insert = inserted(connection, account).values(
        {**_NEW, "due_at": now(), "changed_at": now()}
    )
    new = insert.excluded
    moved = sa.or_(account.c.server != new.server, account.c.username != new.username)
    judge = sa.or_(moved, account.c.settings != new.settings)
    free = account.c.owner == ""
    # A shorter interval counts at once, unless there is a reason to wait.
    sooner = sa.and_(
        free,
        account.c.failures == 0,
        account.c.refusals == 0,
        account.c.login_delay <= new.interval,
        account.c.due_at > now() + new.interval,
    )
    person = sa.and_(moved, account.c.state == AccountState.PERSON.value)
    connection.execute(
        insert.on_conflict_do_update(
            index_elements=[account.c.name],
            set_={
                "origin": new.origin,
                "server": new.server,
                "username": new.username,
                "settings": new.settings,
                "interval": new.interval,
                "gone_since": None,
                "listing": sa.case((judge, ""), else_=account.c.listing),
                "failures": sa.case((moved, 0), else_=account.c.failures),
                "refusals": sa.case((moved, 0), else_=account.c.refusals),
                "login_delay": sa.case((moved, 0.0), else_=account.c.login_delay),
                "state": sa.case(
                    (person, AccountState.OK.value), else_=account.c.state
                ),
                "due_at": sa.case(
                    (sa.and_(free, moved), now()),
                    (sooner, now() + new.interval),
                    else_=account.c.due_at,
                ),
                "changed_at": now(),
            },
        ),
        [
            {
                "name": row.name,
                "server": row.server,
                "username": row.username,
                "interval": row.interval,
                "settings": row.settings,
                "origin": origin,
            }
            for row in rows
        ],
    )
    return accounts(connection, [row.name for row in rows])


_NEW = {
    "state": AccountState.OK.value,
    "look_wanted": False,
    "wait": 0.0,
    "owner": "",
    "fence": 0,
    "failures": 0,
    "refusals": 0,
    "login_delay": 0.0,
    "uids_seen": False,
    "uids_changed": 0,
    "uidl_failures": 0,
    "listing": "",
    "listed": 0,
    "usual_new": 0.0,
    "error": "",
    "error_class": "",
    "released_as": "",
}


def forget_accounts(connection: sa.Connection, after: float) -> list[str]:
    """Remove accounts that left their configuration ``after`` seconds ago."""
    rows = connection.execute(
        sa.delete(account)
        .where(account.c.gone_since < now() - after)
        .returning(account.c.name)
    )
    return [name for (name,) in rows]


def accounts(
    connection: sa.Connection, names: Collection[str] | None
) -> list[AccountRow]:
    """Return accounts, by name."""
    query = sa.select(*ACCOUNT).order_by(account.c.name)
    parameter: dict[str, Any] = {}
    if names is not None:
        query = query.where(one_of(connection.dialect.name, account.c.name))
        parameter = as_names(connection, names)
    rows = connection.execute(query, parameter)
    return [account_row(row) for row in rows]


def origins(connection: sa.Connection, names: Collection[str]) -> list[str]:
    """Return the origins of accounts, as they are now."""
    rows = connection.execute(
        sa.select(account.c.origin)
        .where(
            account.c.gone_since.is_(None),
            one_of(connection.dialect.name, account.c.name),
        )
        .distinct(),
        as_names(connection, names),
    )
    return sorted(origin for (origin,) in rows)


def claim(
    connection: sa.Connection,
    me: str,
    limit: int,
    lease: float,
    origins: Collection[str] | None,
    passed_over: Collection[str],
    wanted: Callable[[str], bool],
) -> list[AccountRow]:
    """Claim accounts that are due, the longest overdue first."""
    dialect = connection.dialect.name
    parameters = as_names(connection, passed_over, "servers")
    if origins is not None:
        stored = [
            ORIGIN.process_bind_param(each, connection.dialect) for each in origins
        ]
        parameters.update(as_names(connection, stored, "origins"))
    statement = due_statement(dialect, chosen=origins is not None)
    most = limit
    while True:
        due = connection.execute(statement, {**parameters, "most": most}).all()
        looks = {row.id: row.look_wanted for row in due if wanted(row.name)}
        if len(looks) >= limit or len(due) < most:
            break
        # Accounts that are not wanted must not hide those after them.
        most *= 8
    ids = list(looks)[:limit]
    if not ids:
        return []
    rows = connection.execute(
        claim_statement(dialect),
        {"me": me, "lease": lease, **as_names(connection, ids)},
    )
    found = {row.id: row for row in map(account_row, rows)}
    # RETURNING has no order, and the values after the claim.
    return [attrs.evolve(found[number], look_wanted=looks[number]) for number in ids]


@lru_cache
def due_statement(dialect: str, *, chosen: bool) -> sa.Select[Any]:
    """
    Return the statement that finds accounts to claim, and keeps them until the commit.

    It reads the index of what is due, and no account that is not.

    :param chosen: only those with certain origins.
    """
    return (
        sa.select(account.c.id, account.c.name, account.c.look_wanted)
        .where(
            account.c.state == fixed(AccountState.OK),
            account.c.gone_since.is_(None),
            account.c.due_at <= now(),
            none_of(dialect, account.c.server, "servers"),
            one_of(dialect, account.c.origin, "origins") if chosen else sa.true(),
        )
        .order_by(account.c.due_at)
        .limit(sa.bindparam("most", type_=sa.Integer))
        # Nobody waits for a claim of another process.  SQLite has one writer, and no
        # such clause.
        .with_for_update(skip_locked=True)
    )


@lru_cache
def claim_statement(dialect: str) -> sa.UpdateBase:
    """Return the statement that claims accounts with certain ids."""
    return (
        sa.update(account)
        .where(one_of(dialect, account.c.id))
        .values(_CLAIMED)
        .returning(*ACCOUNT)
    )


_LEASE = sa.bindparam("lease", type_=sa.Double)

_CLAIMED = {
    "owner": sa.bindparam("me", type_=sa.Text),
    "fence": account.c.fence + 1,
    "due_at": now() + _LEASE,
    "wait": _LEASE,
    "look_wanted": False,
}


def claim_now(
    connection: sa.Connection, me: str, name: str, lease: float
) -> AccountRow | None:
    """Claim an account whether it is due or not."""
    found = connection.execute(_CLAIM_NOW, {"me": me, "lease": lease, "wanted": name})
    row = found.one_or_none()
    return None if row is None else account_row(row)


_CLAIM_NOW = (
    sa.update(account)
    .where(
        account.c.name == sa.bindparam("wanted", type_=sa.Text),
        account.c.state == fixed(AccountState.OK),
        sa.or_(account.c.owner == "", account.c.due_at <= now()),
    )
    .values(_CLAIMED)
    .returning(*ACCOUNT)
)


def renew(
    connection: sa.Connection, rows: Sequence[AccountRow], lease: float
) -> frozenset[int]:
    """Prolong leases; return the ids of the accounts whose lease is lost."""
    lost = set()
    for row in rows:
        held = {"number": row.id, "held": row.fence, "lease": lease}
        if not connection.execute(_RENEW, held).rowcount:
            lost.add(row.id)
    return frozenset(lost)


# Statements that every look needs are made once: that takes longer than to run them.
_HELD = sa.update(account).where(
    account.c.id == sa.bindparam("number"), account.c.fence == sa.bindparam("held")
)

_RENEW = _HELD.values(due_at=now() + _LEASE, wait=_LEASE)


def give_back(connection: sa.Connection, rows: Sequence[AccountRow]) -> None:
    """Make accounts due that were claimed and not looked at; lost leases stay lost."""
    for row in rows:
        connection.execute(
            _GIVE_BACK,
            {"number": row.id, "held": row.fence, "was_wanted": row.look_wanted},
        )


_GIVE_BACK = _HELD.values(
    owner="",
    due_at=now(),
    wait=0.0,
    # The claim has cleared it.
    look_wanted=sa.or_(
        account.c.look_wanted, sa.bindparam("was_wanted", type_=sa.Boolean)
    ),
)


def check_fence(connection: sa.Connection, row: AccountRow) -> None:
    """
    Check that a process still holds an account, and keep it until the commit.

    :raises LostLeaseError: it does not.
    """
    # FOR SHARE: no other process claims it meanwhile.  SQLite has one writer anyway.
    fence = connection.execute(_FENCE, {"number": row.id}).scalar()
    if fence != row.fence:
        raise _lost(row)


_FENCE = (
    sa.select(account.c.fence)
    .where(account.c.id == sa.bindparam("number"))
    .with_for_update(read=True)
)


def _lost(row: AccountRow) -> LostLeaseError:
    return LostLeaseError(
        f"the account {row.name} was claimed by another process, reset or removed; "
        "nothing more is noted for this look"
    )


def finish(
    connection: sa.Connection, row: AccountRow, due_at: float, found: Row
) -> AccountRow:
    """
    Give an account back after a look.

    :param found: what to set, by the names in `_FOUND`, and ``state``, ``looked`` and
        ``mail``; ``None`` leaves a column as it is.
    :raises LostLeaseError: another process has claimed it.
    """
    values = {f"new_{name}": found.get(name) for name in _FOUND}
    state = found.get("state")
    values.update(
        number=row.id,
        held=row.fence,
        then=due_at,
        new_state=None if state is None else state.value,
        new_looked=bool(found.get("looked")),
        new_mail=bool(found.get("mail")),
    )
    done = connection.execute(_FINISH, values).one_or_none()
    if done is None:
        raise _lost(row)
    return account_row(done)


_FOUND = (
    "failures",
    "refusals",
    "login_delay",
    "expire_days",
    "uids_seen",
    "uids_changed",
    "uidl_failures",
    "listing",
    "listed",
    "usual_new",
    "error",
    "error_class",
)


def _new(name: str, kind: Any = None) -> sa.BindParameter[Any]:
    return sa.bindparam(f"new_{name}", type_=kind or account.c[name].type)


def _finish() -> Any:
    then = sa.bindparam("then", type_=sa.Double)
    looked, mail = _new("looked", sa.Boolean), _new("mail", sa.Boolean)
    failed = _new("uidl_failures")
    kept = {name: sa.func.coalesce(_new(name), account.c[name]) for name in _FOUND}
    return _HELD.values(
        **kept,
        owner="",
        look_wanted=False,
        due_at=sa.case((account.c.look_wanted, now()), else_=then),
        wait=then - now(),
        # A state that an administrator has set meanwhile stays.
        state=sa.case(
            (
                account.c.state == AccountState.OK.value,
                sa.func.coalesce(_new("state"), account.c.state),
            ),
            else_=account.c.state,
        ),
        looked_at=sa.case((looked, now()), else_=account.c.looked_at),
        released_as=sa.case((looked, ""), else_=account.c.released_as),
        mail_at=sa.case((mail, now()), else_=account.c.mail_at),
        uidl_failed_at=sa.case(
            (failed == 0, None),
            (failed > 0, sa.func.coalesce(account.c.uidl_failed_at, now())),
            else_=account.c.uidl_failed_at,
        ),
        changed_at=now(),
    ).returning(*ACCOUNT)


_FINISH = _finish()


def void_leases(connection: sa.Connection) -> None:
    """Make accounts due that were claimed by a process that has ended."""
    connection.execute(
        sa.update(account)
        .where(account.c.owner != "")
        .values(owner="", fence=account.c.fence + 1, due_at=now(), wait=0.0)
    )


def set_back(connection: sa.Connection) -> None:
    """
    Make everything due that was scheduled before the clock was set back.

    That is what is due later than its own wait from now.  Leases are renewed anyway.
    Ages that began far in the future begin again.
    """
    connection.execute(
        sa.update(account)
        .where(
            account.c.owner == "",
            account.c.due_at > now() + account.c.wait + CLOCK_SLACK,
        )
        .values(due_at=now(), wait=0.0)
    )
    connection.execute(
        sa.update(delivery)
        .where(
            delivery.c.state == "waiting",
            delivery.c.next_try > now() + delivery.c.wait + CLOCK_SLACK,
        )
        .values(next_try=now(), wait=0.0)
    )
    _count_again(connection)


def _count_again(connection: sa.Connection) -> None:
    """
    Count ages from now on that began far in the future: the clock was wrong then.

    It is the clock of today that is wrong, as at the start of a machine whose clock has
    no battery, if it shows a time before the first message.
    """
    times = connection.execute(_TIMES).one()
    if times.first is None or times.now < times.first:
        return
    ahead = times.now + AHEAD
    if (times.delivered or 0.0) > ahead:
        connection.execute(
            sa.update(message)
            .where(message.c.delivered_at > ahead)
            .values(
                delivered_at=now(),
                delete_after=message.c.delete_after - message.c.delivered_at + now(),
            )
        )
    for column in _AGES:
        connection.execute(
            sa.update(column.table).where(column > ahead).values({column: now()})
        )


_TIMES = sa.select(
    now().label("now"),
    sa.func.min(message.c.first_seen).label("first"),
    sa.func.max(message.c.delivered_at).label("delivered"),
)

_AGES = (
    *(message.c.deleted_at, message.c.missing_since),
    *(account.c.uidl_failed_at, account.c.gone_since, delivery.c.refused_at),
)


# -- what administrators do


def change_state(
    connection: sa.Connection,
    names: Collection[str],
    event: AccountEvent,
    released_as: str = "",
) -> list[str]:
    """Change the state of accounts; return the names of those that exist."""
    if event is AccountEvent.RELEASED:
        ask_for_look(connection, names)
    rows = accounts(connection, names)
    for row in rows:
        state = account_after(row.state, event)
        connection.execute(
            sa.update(account)
            .where(account.c.id == row.id)
            .values(
                state=state.value,
                released_as=released_as,
                refusals=0 if event is AccountEvent.RELEASED else account.c.refusals,
                changed_at=now(),
            )
        )
    return [row.name for row in rows]


def ask_for_look(connection: sa.Connection, names: Collection[str]) -> list[str]:
    """Ask for a look; an account that nobody has claimed is due now."""
    free = account.c.owner == ""
    rows = connection.execute(
        sa.update(account)
        .where(one_of(connection.dialect.name, account.c.name))
        .values(
            look_wanted=sa.not_(free),
            due_at=sa.case((free, now()), else_=account.c.due_at),
            wait=sa.case((free, 0.0), else_=account.c.wait),
            changed_at=now(),
        )
        .returning(account.c.name),
        as_names(connection, names),
    )
    return sorted(name for (name,) in rows)


def reset(connection: sa.Connection, name: str) -> bool:
    """Forget the messages of an account but those of which there is a file."""
    row = connection.execute(
        sa.update(account)
        .where(account.c.name == name)
        .values(
            fence=account.c.fence + 1,
            owner="",
            due_at=now(),
            wait=0.0,
            uids_seen=False,
            uids_changed=0,
            uidl_failures=0,
            uidl_failed_at=None,
            listing="",
            listed=0,
            usual_new=0.0,
            looked_at=None,
            changed_at=now(),
        )
        .returning(account.c.id)
    ).one_or_none()
    if row is None:
        return False
    connection.execute(
        sa.delete(message).where(
            message.c.account_id == row.id,
            message.c.state != MessageState.RETRIEVED.value,
            # The copies of those set aside would be known to nobody.
            message.c.spool == sa.literal_column("''"),
        )
    )
    return True


def rename(connection: sa.Connection, old: str, new: str) -> bool:
    """
    Rename an account.

    :raises JournalError: there is an account with the new name.
    """
    if old != new and accounts(connection, [new]):
        raise JournalError(f"there is an account {new} already")
    done = connection.execute(
        sa.update(account)
        .where(account.c.name == old)
        .values(name=new, changed_at=now())
    )
    return bool(done.rowcount)


def remove(connection: sa.Connection, name: str) -> bool:
    """Remove an account and its messages."""
    done = connection.execute(sa.delete(account).where(account.c.name == name))
    return bool(done.rowcount)


def counts(connection: sa.Connection) -> dict[int, dict[MessageState, int]]:
    """Return how many messages each account has in each state."""
    found: dict[int, dict[MessageState, int]] = {}
    for number, state, count in connection.execute(
        sa.select(message.c.account_id, message.c.state, sa.func.count()).group_by(
            message.c.account_id, message.c.state
        )
    ):
        found.setdefault(number, {})[MessageState(state)] = count
    return found


def machine_seen(
    connection: sa.Connection, me: str, started: float, version: str, sessions: int
) -> None:
    """Note that a machine works."""
    values = {
        "started_at": started,
        "seen_at": now(),
        "version": version,
        "sessions": sessions,
    }
    connection.execute(
        inserted(connection, machine)
        .values(name=me, **values)
        .on_conflict_do_update(index_elements=[machine.c.name], set_=values)
    )
