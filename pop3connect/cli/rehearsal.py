"""
Shows what a look at an account would do, for ``accounts look --dry-run``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import attrs

from ..collect.outcome import Plan
from ..collect.service import CollectService
from ..collect.wording import words
from ..errors import POP3Error
from .administering import Place
from .columns import show_columns
from .exits import Exit, exit_status
from .output import Output, echo, echo_json, tell
from .running import finish

__all__ = ["rehearse"]

_LISTS = {
    "fetched": "fetch",
    "skipped": "skip",
    "deleted": "delete",
    "suspects": "suspect",
    "unread": "unread",
    "matched": "match",
}
"""The lists of a plan, and what each is called for people."""


def rehearse(place: Place, names: Sequence[str], *, as_json: bool) -> NoReturn:
    """
    Log in to accounts, show what a look would do, and exit with a status.

    :param place: with the configuration of the collector, which may be running.
    """

    async def work(reactor: Any) -> int:
        service = CollectService(place.config(), reactor=reactor)
        status = Exit.DONE
        for name in names:
            try:
                plan = await service.plan(name)
            except (POP3Error, OSError) as error:
                tell(f"{name}: {words(error)}")
                status = status or exit_status(error)
            else:
                _show(plan, as_json=as_json)
        return status

    finish(work, Output(json=as_json))


def _show(plan: Plan, *, as_json: bool) -> None:
    if as_json:
        echo_json(attrs.asdict(plan))
        return
    counts = ", ".join(f"{len(getattr(plan, each))} {each}" for each in _LISTS)
    echo(f"{plan.account}: {counts}")
    for trouble in plan.troubles:
        tell(f"{plan.account}: {trouble}")
    if plan.held:
        tell(f"{plan.account}: it is held, or would be: {plan.held}")
    deleted = {each.number for each in plan.deleted}
    rows = [
        (action, str(each.number), str(each.size), each.uid, each.reason)
        for name, action in _LISTS.items()
        for each in getattr(plan, name)
        if not (name == "matched" and each.number in deleted)
    ]
    if rows:
        head = ("ACTION", "NUMBER", "BYTES", "UID", "REASON")
        show_columns(head, rows, right={"NUMBER", "BYTES"})
