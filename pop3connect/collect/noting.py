"""
Notes what a listing says about known messages, before anything is retrieved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from .deletion import Deletion
from .identity import Identified
from .records import GONE, LOST, MessageRow, MessageState
from .scope import Scope
from .tools import together

if TYPE_CHECKING:
    from .look import Look

__all__ = ["note_listing"]


async def note_listing(
    look: Look, scope: Scope, deletion: Deletion, found: Identified[MessageRow]
) -> None:
    """Note what the listing says about known messages."""
    journal, account, inventory = look.journal, look.account, scope.inventory
    notes: list[Deferred[Any]] = []
    if found.renamed:
        notes.append(
            journal.renamed(
                account,
                {
                    row.id: inventory.uids.get(number, "")
                    for number, row in found.renamed.items()
                },
            )
        )
    if found.resized:
        notes.append(
            journal.resized(
                account,
                {
                    row.id: inventory.sizes[number]
                    for number, row in found.resized.items()
                },
            )
        )
    if found.returned:
        key = next(iter(found.returned.values())).key
        look.tell(
            "returned",
            f"the server has messages again whose deletion it had confirmed, such "
            f"as {key}; they are not delivered again",
        )
        notes.append(
            journal.undeleted(account, [r.id for r in found.returned.values()])
        )
    times: dict[int, float | None] = {}
    present: list[int] = []
    async for known in scope.slices(found.known.values()):
        for row in known:
            if row.missing_since is not None:
                present.append(row.id)
            at = deletion.after(row)
            if at != row.delete_after:
                times[row.id] = at
    if times:
        notes.append(journal.delete_times(account, times))
    if found.contents:
        # Their messages turned out to be known.
        read = {inventory.uids.get(n) for n in found.contents} - {None}
        same = [
            row.id
            for row in found.absent
            if row.uid in read
            and row.state is MessageState.SUSPECT
            and not row.header_hash
        ]
        if same:
            notes.append(journal.superseded(account, same))
    if inventory.complete:
        gone: list[int] = []
        lost: dict[int, str] = {}
        absent: list[int] = []
        async for missing in scope.slices(found.absent):
            for row in missing:
                absent.append(row.id)
                if row.state is MessageState.DELIVERED and deletion.allowed(row):
                    # One that is doubted may be there under another unique-id.
                    if row.size:
                        gone.append(row.id)
                elif row.state is MessageState.SUSPECT and row.reason == LOST:
                    lost[row.id] = GONE
        if gone:
            notes.append(journal.delete_confirmed(account, gone))
        if lost:
            notes.append(journal.set_aside(account, lost))
        notes.append(
            journal.listed(
                account,
                present=present,
                absent=absent,
                forget_after=look.forget_after,
            )
        )
    await together(notes)
