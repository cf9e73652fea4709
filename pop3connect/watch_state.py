"""
Remembers which messages of a mailbox a watch has seen, in a file for each account.

The file is replaced in one go, so that it is whole after a crash.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import attrs

from .errors import UsageError
from .files import write_whole
from .results import UID

__all__ = ["SeenFile", "split_seen"]


@attrs.frozen
class SeenFile:
    """
    The file of one account.

    :ivar mailbox: the mailbox of the UIDs; those of another mailbox are ignored.
    """

    path: Path
    mailbox: str

    def read(self) -> list[str] | None:
        """
        Return the UIDs that have been seen; ``None`` at the first look.

        :raises UsageError: the file is broken.  The user has to decide whether all mail
            is reported again, or none.
        """
        try:
            found = json.loads(self.path.read_bytes())
            mailbox, uids = found["mailbox"], found["seen"]
            whole = isinstance(uids, list) and all(isinstance(u, str) for u in uids)
            if not whole:
                raise TypeError("not a list of texts")
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError, RecursionError):
            raise UsageError(
                f"{self.path} is broken; remove it, and the next look counts as the "
                "first one (report_existing)"
            ) from None
        return uids if mailbox == self.mailbox else None

    def write(self, uids: Iterable[str]) -> None:
        """
        Remember these UIDs and no others.

        :raises OSError: the file could not be written; it has the old UIDs or the new.
        """
        # For its owner only: some servers make UIDs from the content of the mail.
        # In ASCII: a UID may have octets that are not UTF-8.
        text = json.dumps({"mailbox": self.mailbox, "seen": list(uids)}, indent=0)
        write_whole(self.path, text.encode("ascii"))


def split_seen(rows: Iterable[UID], seen: Iterable[str]) -> tuple[list[UID], list[UID]]:
    """
    Divide the messages of a mailbox into those that have been seen and the new ones.

    Some servers give two messages the same UID, or an empty one.  So they are counted:
    of three messages with a UID that has been seen twice, the last is new.
    """
    left = Counter(seen)
    old: list[UID] = []
    new: list[UID] = []
    for row in rows:
        known = left[row.uid] > 0
        left[row.uid] -= known
        (old if known else new).append(row)
    return old, new
