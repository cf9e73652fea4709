"""
A Maildir that delivers exactly once: a file in ``tmp`` is the witness of a message.

The journal names the file before it is moved to ``new``, and only the move takes it
away.  After a crash a file that is still in ``tmp`` is moved; one that is gone was
delivered, as long as this is the same Maildir and no cleaner can have been there.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from .base import Mail, Prepared, Proof, Witness
from .incoming import Incoming

__all__ = ["Maildir"]


class Maildir:
    """
    A Maildir: a `Witnessed` destination, and a `Keeper`.

    A Maildir that received mail before is not made again: where it is missing, its
    file system is not mounted.

    :param folder: the Maildir.
    :param machine: the name of this machine, for the names of files.
    :param crlf: whether lines end with CRLF, as on the wire; otherwise with LF, as mail
        programs expect.
    :param mode: the permissions of files; folders get the matching ones.
    :param known: whether mail was delivered there before, by an earlier process.
    """

    def __init__(
        self,
        folder: Path,
        machine: str,
        *,
        crlf: bool = False,
        mode: int = 0o600,
        known: bool = False,
    ) -> None:
        self.folder = folder

    def begin(self, account: str) -> Incoming:
        """Begin a message in ``tmp``, as `Keeper`."""
        raise NotImplementedError

    def keep(self, messages: Sequence[Incoming]) -> None:
        """
        Write messages to ``tmp``, as `Keeper`: the files and ``tmp`` are fsynced.

        :raises Later: this Maildir cannot be used.
        """
        raise NotImplementedError

    def find(self, name: str) -> Path | None:
        """Return a file in ``tmp`` by its name or path; ``None``: it is not there."""
        raise NotImplementedError

    def prepare(self, mails: Sequence[Mail]) -> Prepared:
        """
        Copy messages to ``tmp``, as `Witnessed`.

        A message whose file is in ``tmp`` already, by `keep`, is not copied.
        """
        raise NotImplementedError

    def prove(
        self, witness: Witness, mail: Mail | None = None, *, age: float = 0.0
    ) -> Proof:
        """Find out whether a message was delivered, as `Witnessed`."""
        raise NotImplementedError

    def resumed(self, witness: Witness, mail: Mail) -> Mail:
        """Return the message with the file in ``tmp`` that proves it undelivered."""
        raise NotImplementedError

    def sweep(
        self, account: str, named: Collection[str], *, now: float | None = None
    ) -> int:
        """
        Remove the files in ``tmp`` that a crash left behind.

        For the holder of an account, before its first look.  Removed are files of this
        account that no row names: those of this machine, and those of others after 36
        hours.  It blocks: call it in a thread.

        :param named: the names or paths of files that rows name.
        :param now: the time; ``None``: the clock cannot be trusted, so that none is
            removed for its age.
        :return: how many files were removed.
        """
        raise NotImplementedError

    def stop(self) -> None:
        """Do nothing: a Maildir has no locks."""
