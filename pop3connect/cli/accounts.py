"""
``accounts``: the accounts of a collector, for its administrators.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import click

from ..collect.records import AccountRow, AccountState, MessageState
from ..collect.units import show_about
from .administering import (
    Place,
    existing,
    journal_options,
    result_of,
)
from .asking import confirm, yes_option
from .columns import show_columns
from .exits import Exit
from .output import echo, echo_json, tell
from .running import report

if TYPE_CHECKING:
    from ..collect.journal import Journal

__all__ = ["accounts_group"]

_COUNTS = {
    "waiting": (MessageState.RETRIEVED,),
    "suspect": (MessageState.SUSPECT,),
    "delivered": (MessageState.DELIVERED, MessageState.DELETED),
    "skipped": (MessageState.SKIPPED,),
    "aside": (MessageState.SET_ASIDE,),
}
"""The columns of numbers, and the states of the messages that each of them counts."""

_HELD = "held"
"""`pop3connect.collect.look.HELD`, which is not imported for that."""

Counts = Mapping[MessageState, int]


@click.group("accounts")
def accounts_group() -> None:
    """Show and control the accounts of a collector."""


@accounts_group.command("list")
@journal_options
@click.argument("names", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="For programs: JSON, by lines.")
def list_accounts(place: Place, names: Sequence[str], as_json: bool) -> None:
    """
    List the accounts: state, last and next look, messages, what is wrong.

    WAITING are messages that are retrieved and not delivered everywhere, SUSPECT those
    that could not be retrieved, ASIDE those that were given up.
    """

    def work() -> int:
        with place.open() as journal:
            rows = existing(journal, names)
            counts = result_of(journal.counts())
            now = journal.now()
        if as_json:
            for row in rows:
                echo_json(_json(row, counts.get(row.id, {})))
        else:
            _show(rows, counts, now)
        return Exit.DONE

    report(work)


def _json(row: AccountRow, counts: Counts) -> dict[str, Any]:
    left_out = ("id", "fence", "listing", "settings")
    values = attrs.asdict(row, filter=lambda field, _: field.name not in left_out)
    values["state"] = row.state.value
    values["messages"] = {state.value: counts.get(state, 0) for state in MessageState}
    return values


def _show(rows: Sequence[AccountRow], counts: Mapping[int, Counts], now: float) -> None:
    head = ("ACCOUNT", "STATE", "LOOKED", "NEXT", *map(str.upper, _COUNTS), "REMARK")
    lines = []
    for row in rows:
        known = counts.get(row.id, {})
        numbers = [
            str(sum(known.get(state, 0) for state in states))
            for states in _COUNTS.values()
        ]
        looked = (
            "never"
            if row.looked_at is None
            else f"{show_about(now - row.looked_at)} ago"
        )
        lines.append(
            (row.name, _state(row), looked, _next(row, now), *numbers, row.error)
        )
    show_columns(head, lines, right={*map(str.upper, _COUNTS)})


def _state(row: AccountRow) -> str:
    if row.gone_since is not None:
        return "not configured"
    return "needs a person" if row.state is AccountState.PERSON else row.state.value


def _next(row: AccountRow, now: float) -> str:
    if row.owner:
        return "now"
    if row.state is not AccountState.OK or row.gone_since is not None:
        return "-"
    return (
        "due" if row.look_wanted or row.due_at <= now else show_about(row.due_at - now)
    )


@accounts_group.command("look")
@journal_options
@click.argument("names", nargs=-1, required=True)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Log in here and now, and only show what a look would do; needs --config.",
)
@click.option("--json", "as_json", is_flag=True, help="With --dry-run: for programs.")
def look_at_accounts(
    place: Place, names: Sequence[str], dry_run: bool, as_json: bool
) -> None:
    """
    Let a running collector look at accounts now.

    --dry-run shows what a look would fetch, skip, match and delete. It retrieves and
    deletes nothing, and notes nothing of the messages.
    """
    if dry_run:
        from .rehearsal import rehearse

        rehearse(place, names, as_json=as_json)
    _each(place, names, lambda journal: journal.look_wanted(names), "a look is wanted")


@accounts_group.command("hold")
@journal_options
@click.argument("names", nargs=-1, required=True)
def hold_accounts(place: Place, names: Sequence[str]) -> None:
    """
    Look at accounts no more, until they are released.

    A look in progress ends before it retrieves or deletes another message.
    """
    _each(place, names, lambda journal: journal.hold(names), "held")


@accounts_group.command("release")
@journal_options
@click.argument("names", nargs=-1, required=True)
@click.option(
    "--as",
    "released_as",
    type=click.Choice(["new", "seen"]),
    help="What messages are that the collector does not know: new ones, which it"
    " delivers, or seen ones, which it leaves alone.",
)
def release_accounts(
    place: Place, names: Sequence[str], released_as: str | None
) -> None:
    """
    Look at accounts again that are held, or whose login was refused too often.

    An account that the collector has held, because hardly any message in it is known,
    needs --as.
    """

    def work() -> int:
        with place.open() as journal:
            for row in existing(journal, names):
                if row.error_class == _HELD and not released_as:
                    raise click.UsageError(
                        f"{row.name} was held by the collector: {row.error}; say --as "
                        "new or --as seen"
                    )
            result_of(journal.release(names, released_as or ""))
        for name in names:
            echo(f"{name}: released")
        return Exit.DONE

    report(work)


def _each(
    place: Place, names: Sequence[str], act: Callable[[Journal], Any], done: str
) -> None:
    """Do something with accounts that all exist, and say so of each."""

    def work() -> int:
        with place.open() as journal:
            existing(journal, names)
            result_of(act(journal))
        for name in names:
            echo(f"{name}: {done}")
        return Exit.DONE

    report(work)


@accounts_group.command("reset")
@journal_options
@click.argument("name")
@yes_option
def reset_account(place: Place, name: str, yes: bool) -> None:
    """
    Forget the messages of an account: the next look is like the first.

    Messages that wait for their delivery are kept, and those of 'messages aside' that
    have a copy.
    """
    question = (
        f"Forget all messages of {name}? Those that are still on the "
        "server may be delivered a second time."
    )
    if confirm(question, yes=yes):
        _each(place, [name], lambda journal: journal.reset(name), "reset")


@accounts_group.command("rename")
@journal_options
@click.argument("old")
@click.argument("new")
def rename_account(place: Place, old: str, new: str) -> None:
    """
    Give an account another name; the rows and keys of its messages stay.

    Change the name in the configuration as well, before the collector reads it again.
    """

    def work() -> int:
        _check_name(new)
        if new == old:
            raise click.UsageError(f"{old} is its name already; give another one")
        with place.open() as journal:
            existing(journal, [old])
            result_of(journal.rename(old, new))
        echo(f"{old}: it is {new} now")
        _still_configured(place, old, f"change the name there too, to {new}")
        return Exit.DONE

    report(work)


@accounts_group.command("remove")
@journal_options
@click.argument("name")
@yes_option
def remove_account(place: Place, name: str, yes: bool) -> None:
    """Remove an account, and all that is known of its messages."""
    question = (
        f"Remove {name}, with the rows of its messages? Those that wait for "
        "their delivery are lost, unless they are still on the server."
    )
    if confirm(question, yes=yes):

        def work() -> int:
            with place.open() as journal:
                existing(journal, [name])
                aside = result_of(
                    journal.find_messages([MessageState.SET_ASIDE], [name])
                )
                result_of(journal.remove(name))
            echo(f"{name}: removed")
            copies = [row.spool for _, row, _ in aside if row.spool]
            if copies:
                tell(f"these copies stay in the folder aside: {', '.join(copies)}")
            _still_configured(place, name, "remove it there too")
            return Exit.DONE

        report(work)


def _check_name(name: str) -> None:
    from ..collect.settings import AccountSettings

    convert: Any = attrs.fields(AccountSettings).name.converter
    convert(name)


def _still_configured(place: Place, name: str, remedy: str) -> None:
    """Tell the user if the configuration has an account that is not there any more."""
    if place.file is not None:
        names = [account.name for account in place.config().accounts]
        if name in names:
            tell(
                f"{place.file} still has the account {name}, and the collector would "
                f"begin with it as with a new one: {remedy}"
            )
