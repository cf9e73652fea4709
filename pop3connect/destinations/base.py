"""
The values and interfaces that all destinations share: a message to deliver, the ways in
which a delivery can fail, and what proves a delivery after a crash.

A plain destination delivers one message at a time (`Destination`).  A witnessed one
(`Witnessed`) delivers many together, and can say after a crash whether it did.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path
from typing import BinaryIO, Protocol

import attrs

from .folder import open_regular, pieces

__all__ = [
    "Destination",
    "Later",
    "Mail",
    "Never",
    "Prepared",
    "Proof",
    "UnreadableError",
    "Witness",
    "Witnessed",
    "words",
]


class UnreadableError(OSError):
    """The file of a message cannot be read; its destination is not to blame."""


def words(error: OSError) -> str:
    """Return what happened, without the number that ``str`` begins with."""
    if error.strerror is None:
        return str(error)
    return f"{error.strerror}{f': {error.filename}' if error.filename else ''}"


@attrs.frozen
class Mail:
    """
    A message to deliver.

    :ivar key: identifies it; the same for every attempt, and never for two messages.
    :ivar account: the name of the account that it was retrieved from.
    :ivar uid: its unique-id (UIDL); ``""``: none that can be believed.
    :ivar size: its size in bytes, as the server counts (LIST).
    :ivar path: the file that holds it: as on the wire, lines end with CRLF.
    :ivar attempt: the number of this attempt, from 1; from 2 on, the message may have
        been delivered before.
    :ivar sender: the field From: decoded, one line, control characters escaped.
    :ivar subject: the field Subject, likewise.
    """

    key: str
    account: str
    uid: str
    size: int
    path: Path
    attempt: int = 1
    sender: str = ""
    subject: str = ""

    def open(self) -> BinaryIO:
        """
        Open the file for reading.

        :raises OSError: it cannot be read, is a link or not a regular file, or belongs
            to another user.
        """
        return os.fdopen(open_regular(self.path), "rb")

    def read(self) -> bytes:
        """
        Return the whole message.

        :raises OSError: as for `open`.
        """
        with self.open() as file:
            return file.read()

    def parse(self) -> EmailMessage:
        """
        Return the message, parsed with `email.policy.default`.

        :raises OSError: as for `open`.
        """
        with self.open() as file:
            return BytesParser(policy=policy.default).parse(file)

    @contextmanager
    def pieces(self) -> Iterator[Iterator[bytes]]:
        """
        Open the file, and read it in pieces.

        :raises UnreadableError: it cannot be opened, or read; other errors in the
            block are left as they are.
        """
        try:
            file = self.open()
        except OSError as error:
            raise UnreadableError(words(error)) from error
        with file:
            yield _readable(pieces(file))


def _readable(source: Iterator[bytes]) -> Iterator[bytes]:
    try:
        yield from source
    except OSError as error:
        raise UnreadableError(words(error)) from error


class Later(Exception):
    """
    The message was not delivered, and is to be tried again.

    :param seconds: how long to wait; ``None``: the collector decides.
    :param reason: what to tell the administrator.
    :param whole_destination: whether the destination is in trouble, and not this
        message alone: its other messages wait too.
    :param counts: whether this counts as a refusal of the message, which is set aside
        after five of them.
    """

    def __init__(
        self,
        seconds: float | None = None,
        reason: str = "",
        *,
        whole_destination: bool = False,
        counts: bool = False,
    ) -> None:
        super().__init__(reason)
        self.seconds = seconds
        self.reason = reason
        self.whole_destination = whole_destination
        self.counts = counts


class Never(Exception):
    """
    The message is refused for good: it is set aside, and not tried again.

    :param reason: what to tell the administrator.
    """

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


class Proof(enum.Enum):
    """What a witness proves after a crash."""

    DONE = "done"
    """The message was delivered, and is on disk."""

    NOT_DONE = "not done"
    """It was not delivered: prepare it again."""

    UNKNOWN = "unknown"
    """Deliver it again, as an attempt that may be a repetition."""


@attrs.frozen
class Witness:
    """
    What proves, after a crash, whether a message reached its destination.

    :ivar path: the absolute path of the file in ``tmp`` of a Maildir, or of the mbox.
    :ivar inode: the inode of the folder ``tmp``, or of the mbox.
    :ivar mark: the content of the file ``.pop3connect-id`` of the Maildir, or where the
        group of messages begins in the mbox, with a hash of the text before it.
    :ivar offset: where in the mbox the message begins, its separator line included.
    :ivar length: how many bytes of the mbox it takes.
    """

    path: str
    inode: int | None = None
    mark: str = ""
    offset: int | None = None
    length: int | None = None


class Destination(Protocol):
    """A plain destination: at least once, one message at a time."""

    async def deliver(self, mail: Mail) -> None:
        """
        Deliver a message; in the reactor's thread.

        Cancelling ends the attempt.

        :raises Later: it was not delivered, and is to be tried again.
        :raises Never: it is refused for good.
        """


class Prepared(Protocol):
    """
    Messages that are ready to be delivered together.

    The caller commits the witnesses between `Witnessed.prepare` and `carry_out`.  The
    methods block: call them in a thread, one after the other.
    """

    @property
    def mails(self) -> Sequence[Mail]:
        """The messages."""

    @property
    def witnesses(self) -> Sequence[Witness]:
        """A witness for each of `mails`."""

    @property
    def refused(self) -> Sequence[tuple[Mail, Exception]]:
        """
        The messages that are not in `mails`, each with its error.

        Its file cannot be read (`UnreadableError`), or it does not fit
        (`Later`).
        """

    def carry_out(self, only: Collection[str] | None = None) -> list[Exception | None]:
        """
        Deliver, and release the locks; what is delivered is on disk then.

        After an error the message may have been delivered nevertheless: ask
        `Witnessed.prove` before it is tried again.

        :param only: the keys of the messages to deliver; ``None``: all of them.
        :return: for each of `mails` its error, or ``None``: delivered.  A message that
            is not in ``only`` has `Later`.
        """

    def close(self) -> None:
        """
        Release the locks.

        No file is removed: a row may name it, even after an error of the journal, and
        the missing file would prove its delivery.
        """


class Witnessed(Protocol):
    """
    A destination that can prove what it delivered: exactly once.

    The methods block: call them in a thread.
    """

    def prepare(self, mails: Sequence[Mail]) -> Prepared:
        """
        Prepare messages, so that only `Prepared.carry_out` is left to do.

        :raises Later: the destination is in trouble (``whole_destination``), such as a
            full disk or a Maildir that is not mounted, and nothing was prepared.
        """

    def prove(
        self, witness: Witness, mail: Mail | None = None, *, age: float = 0.0
    ) -> Proof:
        """
        Find out, after a crash or an error, whether a message was delivered.

        :param mail: the message, if its file is still there.
        :param age: seconds since the row with the witness was written; `math.inf` if
            the clock cannot be trusted.
        :raises Later: the destination is in trouble.
        """

    def stop(self) -> None:
        """End every wait for a lock, now and in future; may be called in any thread."""
