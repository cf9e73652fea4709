"""
An mbox that delivers exactly once: the journal knows where a message begins and ends.

After a crash the text at that place is compared with the message.  If it is whole, it
was delivered; the beginning of it, at the end of the file, is cut off.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .base import Mail, Prepared, Proof, Witness

__all__ = ["LOCK_TIMEOUT", "Mbox"]

LOCK_TIMEOUT = 60.0
"""Seconds to wait for the locks of an mbox: a mail program may be rewriting it."""


class Mbox:
    """
    An mbox file (mboxrd, lines end with LF): a `Witnessed` destination.

    It is made if it does not exist, for its owner only.  It is locked from `prepare`
    until `Prepared.close`: by a lock of pop3connect's own, by fcntl, and by a dot lock.

    :param path: the file.
    :param lock_timeout: seconds to wait for the locks.
    """

    def __init__(self, path: Path, *, lock_timeout: float = LOCK_TIMEOUT) -> None:
        self.path = path

    def prepare(self, mails: Sequence[Mail]) -> Prepared:
        """
        Take the locks and find the place of each message, as `Witnessed`.

        :raises Later: the mbox cannot be used, or is locked by another program.
        """
        raise NotImplementedError

    def prove(
        self, witness: Witness, mail: Mail | None = None, *, age: float = 0.0
    ) -> Proof:
        """
        Compare the text in the mbox with a message, as `Witnessed`.

        The beginning of the message, at the end of the mbox, is cut off.
        """
        raise NotImplementedError

    def resumed(self, witness: Witness, mail: Mail) -> Mail:
        """Return the message: it is appended again."""
        return mail

    def stop(self) -> None:
        """Let every wait for a lock end at once, for good; from any thread."""
        raise NotImplementedError
