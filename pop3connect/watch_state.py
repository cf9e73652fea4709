"""
What a watch remembers of a mailbox: which messages have been seen.

A file for each account.  It is replaced in one go, so that it is whole after a crash.
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

    :ivar mailbox: whose UIDs they are; those of another mailbox mean nothing.
    """

    path: Path
    mailbox: str

    def read(self) -> list[str] | None:
        """
        Return the UIDs that have been seen; ``None``: this is the first look.

        :raises UsageError: the file is broken.  Neither reporting everything again
            nor passing over what has come can be meant, so a person has to decide.
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
                f"{self.path} is broken; remove it, and what is in the mailbox then "
                "counts as at the first look (report_existing)"
            ) from None
        return uids if mailbox == self.mailbox else None

    def write(self, uids: Iterable[str]) -> None:
        """
        Remember these and no others.

        :raises OSError: it could not be written; the file is as it was.
        """
        # Kept from others: some servers make UIDs from what is in the mail.
        # In ASCII: a UID may have octets that are not UTF-8.
        text = json.dumps({"mailbox": self.mailbox, "seen": list(uids)}, indent=0)
        write_whole(self.path, text.encode("ascii"))


def split_seen(rows: Iterable[UID], seen: Iterable[str]) -> tuple[list[UID], list[UID]]:
    """
    Part the messages of a mailbox into those that have been seen and the new ones.

    Some servers give two messages one UID, or an empty one.  So they are counted: of
    three with a UID that has been seen twice, the last is new.
    """
    left = Counter(seen)
    old: list[UID] = []
    new: list[UID] = []
    for row in rows:
        known = left[row.uid] > 0
        left[row.uid] -= known
        (old if known else new).append(row)
    return old, new
