"""
``messages``: the messages that a collector knows, for its administrators.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click

from ..collect.records import DeliveryRow, DeliveryState, MessageRow, MessageState
from ..collect.units import show_about
from ..headers import MAX_HEADER, Summary, summary
from .administering import (
    Place,
    existing,
    journal_options,
    result_of,
)
from .asking import confirm, yes_option
from .columns import show_columns
from .exits import Exit
from .numbers import WholeNumber
from .output import echo, echo_json, tell
from .running import report

if TYPE_CHECKING:
    from ..collect.journal import Journal
    from ..collect.spool import Spool

__all__ = ["messages_group"]

_NAMES = {state.value.replace(" ", "-"): state for state in MessageState}

_OPEN = ("suspect", "retrieved", "set-aside")


@attrs.frozen
class _Known:
    """
    A message with its account and deliveries.

    :ivar copy: the file that holds it; ``None``: this machine does not have it.
    """

    account: str
    row: MessageRow
    deliveries: Sequence[DeliveryRow]
    copy: Path | None

    @property
    def remark(self) -> str:
        """Why it is in this state, as far as that is known."""
        parts = [self.row.reason] if self.row.reason else []
        for each in self.deliveries:
            if each.state is not DeliveryState.DELIVERED:
                tries = f", attempt {each.attempt}" if each.attempt else ""
                why = f": {each.reason}" if each.reason else ""
                parts.append(f"{each.destination} {each.state.value}{tries}{why}")
        return "; ".join(parts)

    def json(self) -> dict[str, Any]:
        """Return it for programs."""
        left_out = ("account_id", "header_hash", "body_hash", "identified", "spool")
        row = attrs.asdict(self.row, filter=lambda field, _: field.name not in left_out)
        row["state"] = self.row.state.value
        return {
            "account": self.account,
            **row,
            "copy": None if self.copy is None else str(self.copy),
            "deliveries": [_delivery_json(each) for each in self.deliveries],
        }

    def headers(self) -> Summary | None:
        """Return sender, subject and date of the copy, if it can be read."""
        from ..destinations.base import Mail

        if self.copy is None:
            return None
        row = self.row
        mail = Mail(row.key, self.account, row.uid, row.size, self.copy)
        try:
            with mail.open() as file:
                return summary(file.read(MAX_HEADER))
        except OSError:
            return None


def _delivery_json(row: DeliveryRow) -> dict[str, Any]:
    left_out = ("message_id", "witness")
    values = attrs.asdict(row, filter=lambda field, _: field.name not in left_out)
    values["state"] = row.state.value
    return values


@click.group("messages")
def messages_group() -> None:
    """Show, retry or drop the messages of a collector."""


@messages_group.command("list")
@journal_options
@click.argument("names", nargs=-1)
@click.option(
    "--state",
    "states",
    type=click.Choice(list(_NAMES)),
    multiple=True,
    help="Only messages in this state; may be given several times. Default: suspect,"
    " retrieved (it waits for a delivery) and set-aside.",
)
@click.option("--json", "as_json", is_flag=True, help="For programs: JSON, by lines.")
def list_messages(
    place: Place, names: Sequence[str], states: Sequence[str], as_json: bool
) -> None:
    """
    List the messages of accounts, with what is wrong with them.

    NAMES are accounts; default: all.
    """
    wanted = [_NAMES[state] for state in states or _OPEN]

    def work() -> int:
        with place.open() as journal:
            found, now = _find(place, journal, wanted, names), journal.now()
        head = ("ID", "ACCOUNT", "STATE", "BYTES", "SEEN", "UID", "REMARK")
        lines = [
            (
                str(each.row.id),
                each.account,
                each.row.state.value,
                str(each.row.size),
                f"{show_about(now - each.row.first_seen)} ago",
                each.row.uid,
                each.remark,
            )
            for each in found
        ]
        _show(head, lines, found, as_json)
        return Exit.DONE

    report(work)


@messages_group.command("aside")
@journal_options
@click.argument("names", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="For programs: JSON, by lines.")
def list_aside(place: Place, names: Sequence[str], as_json: bool) -> None:
    """
    List the messages that were given up: why, and where the copy of each is.

    NAMES are accounts; default: all. A message that could not be retrieved has no copy.
    """

    def work() -> int:
        with place.open() as journal:
            found = _find(place, journal, [MessageState.SET_ASIDE], names)
        head = ("ID", "ACCOUNT", "BYTES", "FROM", "SUBJECT", "COPY", "REMARK")
        lines = []
        for each in found:
            known = None if as_json else each.headers()
            lines.append(
                (
                    str(each.row.id),
                    each.account,
                    str(each.row.size),
                    known.sender[:30] if known else "",
                    known.subject[:40] if known else "",
                    str(each.copy or "-"),
                    each.remark,
                )
            )
        _show(head, lines, found, as_json)
        return Exit.DONE

    report(work)


def _show(
    head: Sequence[str],
    lines: Sequence[Sequence[str]],
    found: Iterable[_Known],
    as_json: bool,
) -> None:
    if as_json:
        for each in found:
            echo_json(each.json())
    else:
        show_columns(head, lines, right={"ID", "BYTES"})


def _find(
    place: Place,
    journal: Journal,
    states: Sequence[MessageState],
    names: Sequence[str] = (),
) -> list[_Known]:
    if names:
        existing(journal, names)
    spool = _spool(place)
    found = result_of(journal.find_messages(states, names or None))
    return [
        _Known(account, row, deliveries, _copy(spool, row))
        for account, row, deliveries in found
    ]


def _spool(place: Place) -> Spool | None:
    """Return the spool beside the journal or of the configuration, if it is known."""
    from ..collect.spool import Spool

    state = place.state()
    return None if state is None else Spool(state / "spool", state / "aside")


def _copy(spool: Spool | None, row: MessageRow) -> Path | None:
    if spool is None or not row.spool:
        return None
    try:
        return spool.find(row.spool)
    except OSError:
        # The folder is not on this machine, or not readable.
        return None


@messages_group.command("retry")
@journal_options
@click.argument("ids", nargs=-1, required=True, type=WholeNumber(1))
def retry_messages(place: Place, ids: Sequence[int]) -> None:
    """
    Try messages again that were given up.

    IDS are those of 'messages aside'. One that has no copy is retrieved again.
    """

    def work() -> int:
        with place.open() as journal:
            done = result_of(journal.retry(ids))
        return _done(ids, done, "is tried again")

    report(work)


@messages_group.command("drop")
@journal_options
@click.argument("ids", nargs=-1, required=True, type=WholeNumber(1))
@yes_option
def drop_messages(place: Place, ids: Sequence[int], yes: bool) -> None:
    """
    Drop messages that were given up, and remove their copies.

    IDS are those of 'messages aside'. What is on the server stays there.
    """
    question = f"Drop {', '.join(map(str, ids))}, and remove the copies?"
    if not confirm(question, yes=yes):
        return

    def work() -> int:
        with place.open() as journal:
            aside = _find(place, journal, [MessageState.SET_ASIDE])
            done = result_of(journal.drop(ids))
        _remove(place, {each.row.id: each.row.spool for each in aside}, done)
        return _done(ids, done, "dropped")

    report(work)


def _remove(place: Place, names: Mapping[int, str], done: Collection[int]) -> None:
    copies = [names[one] for one in done if names.get(one)]
    spool = _spool(place)
    if not copies:
        return
    if spool is None:
        tell(f"--config was not given, so these copies stay: {', '.join(copies)}")
    else:
        spool.remove(copies)


def _done(ids: Sequence[int], done: Collection[int], what: str) -> int:
    for one in dict.fromkeys(ids):
        if one in done:
            echo(f"{one}: {what}")
        else:
            tell(f"message {one} was not set aside; see 'messages aside'")
    return Exit.DONE if set(ids) <= set(done) else Exit.REFUSED
