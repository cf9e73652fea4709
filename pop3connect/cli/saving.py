"""
``fetch``: mail from the server into a Maildir or an mbox.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from ..address import POP3_PORT, POP3S_PORT
from ..destinations.store_maildir import Maildir
from ..destinations.store_mbox import Mbox
from ..destinations.store import Store
from ..handle import Handle
from .access import Access, access_options
from .collect import Collection, note_recovered, unique_ids
from .exits import Exit
from .numbers import NUMBERS, Range, WholeNumber, choose, sizes_of
from .opening import end, use_session
from .output import counted, echo, tell
from .progress import progress_bar
from .record import Record

__all__ = ["fetch_command"]


@click.command("fetch")
@access_options
@click.argument("target", type=click.Path(path_type=Path))
@click.argument("numbers", nargs=-1, type=NUMBERS)
@click.option(
    "--format",
    "kind",
    type=click.Choice(["maildir", "mbox"]),
    help="Default: mbox if TARGET is a file, else maildir.",
)
@click.option(
    "--keep/--delete",
    default=True,
    help="Whether messages stay on the server once they are on disk. Default: --keep.",
)
@click.option(
    "--max-size",
    type=WholeNumber(1),
    metavar="OCTETS",
    help="Leave larger messages on the server.",
)
@click.option(
    "--crlf", is_flag=True, help="Maildir: keep the line ends of the server, CRLF."
)
def fetch_command(
    access: Access,
    target: Path,
    numbers: Sequence[list[Range]],
    kind: str | None,
    keep: bool,
    max_size: int | None,
    crlf: bool,
) -> None:
    """
    Fetch mail into TARGET, a Maildir or an mbox file.

    The messages on disk are recorded there, by their unique-ids: the same command again
    fetches only new messages, and continues an interrupted run. With --delete, messages
    that an earlier run has fetched are deleted as well.

    NUMBERS are like 3, 2-5 or 7-; default: all.
    """
    mbox = kind == "mbox" or (kind is None and target.is_file())
    if mbox and crlf:
        raise click.UsageError("--crlf is for a Maildir; lines in an mbox end with LF")

    async def use(handle: Handle) -> int:
        store: Store = Mbox(target) if mbox else Maildir(target, crlf=crlf)
        account = _account(access)
        try:
            note_recovered(store, target)
            record = Record(target, account)
            collection = Collection(handle, store, record, account)
            status = await _collect(collection, handle, record, numbers, keep, max_size)
        except BaseException:
            store.abandon()
            raise
        store.close()
        return status

    use_session(access, use)


def _account(access: Access) -> str:
    """Return the account's name; the usual ports lead to the same mailbox."""
    address = access.address
    usual = address.port in (POP3_PORT, POP3S_PORT)
    return f"{access.user}@{address.host if usual else address}"


def _small(
    numbers: Sequence[int], sizes: Mapping[int, int], most: int | None
) -> Sequence[int]:
    """Return the messages that are not too large, and report the others."""
    small = [number for number in numbers if most is None or sizes[number] <= most]
    if len(small) < len(numbers):
        tell(
            f"{counted(len(numbers) - len(small), 'message')} of more than "
            f"{counted(most or 0, 'octet')}: left on the server"
        )
    return small


async def _collect(
    collection: Collection,
    handle: Handle,
    record: Record,
    numbers: Sequence[list[Range]],
    keep: bool,
    max_size: int | None,
) -> int:
    outcome = collection.outcome
    try:
        sizes = await sizes_of(handle)
        chosen = _small(choose(numbers, sizes), sizes, max_size)
        uids = await unique_ids(handle) if sizes else {}
        missing = collection.missing(chosen, uids)
        with progress_bar(sum(sizes[number] for number in missing)) as progress:
            await collection.fetch(missing, uids, progress)
        if not keep:
            await collection.delete()
        deleted = await end(handle, deletes=not keep)
        _tidy(record, set(uids.values()))
    except BaseException:
        if outcome.kept:
            tell(
                f"{counted(outcome.kept, 'message')} "
                f"{'is' if outcome.kept == 1 else 'are'} on disk; the same command "
                "again continues with the rest"
            )
        raise
    finally:
        record.close()
    echo(f"fetched: {outcome.kept}, there already: {outcome.there}, deleted: {deleted}")
    return Exit.REFUSED if outcome.refused else Exit.DONE


def _tidy(record: Record, uids: set[str]) -> None:
    # Without unique-ids, perhaps only today, the record cannot be compared.
    if not uids:
        return
    try:
        record.keep(uids)
    except OSError as error:
        # The old record is as good.
        tell(str(error))
