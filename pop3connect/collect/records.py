"""
The values that pass between the parts of the collector: rows of the journal, and what
is to be written there.

Times are seconds since 1970 (UTC), as floats.
"""

from __future__ import annotations

import enum
from pathlib import Path

import attrs

from ..destinations.base import Witness

__all__ = [
    "GONE",
    "LOST",
    "AccountRow",
    "AccountState",
    "Content",
    "DeliveryRow",
    "DeliveryState",
    "DueDelivery",
    "MessageRow",
    "MessageState",
    "NewAccount",
    "NewDelivery",
    "NewMessage",
    "Witness",
]


GONE = "lost: its file is gone, and the server no longer has the message"
"""The reason of a message that was lost and is gone from the server too."""

LOST = "its file is gone"
"""The reason of a message that was retrieved, and has to be fetched again."""


class AccountState(str, enum.Enum):
    """Whether an account is looked at."""

    OK = "ok"
    HELD = "held"
    """Held, by an administrator or because most of its mail looks new."""

    PERSON = "person"
    """Its login was refused again and again: somebody has to look into it."""


class MessageState(str, enum.Enum):
    """What has become of a message."""

    SUSPECT = "suspect"
    """It could not be retrieved, and will be tried again."""

    RETRIEVED = "retrieved"
    DELIVERED = "delivered"
    DELETED = "deleted"
    SKIPPED = "skipped"
    """Left on the server by a rule, which `MessageRow.reason` names."""

    SET_ASIDE = "set aside"
    """Given up; `MessageRow.reason` says why."""


class DeliveryState(str, enum.Enum):
    """What has become of a message at one destination."""

    WAITING = "waiting"
    DELIVERING = "delivering"
    """Noted before the effect: after a crash it may have happened."""

    DELIVERED = "delivered"
    SET_ASIDE = "set aside"


@attrs.frozen
class AccountRow:
    """
    An account, as the journal knows it.

    :ivar fence: raised by each claim; a process with an older one can no longer write.
    :ivar due_at: when it is to be looked at; while it is claimed, the end of the lease.
    :ivar failures: looks in a row that failed for reasons other than the login.
    :ivar refusals: logins in a row that were refused.
    :ivar login_delay: seconds that the server wants between logins (LOGIN-DELAY).
    :ivar expire_days: days that the server keeps messages (EXPIRE).
    :ivar uids_seen: whether a complete listing had unique-ids in it.
    :ivar uids_changed: complete looks in a row in which all unique-ids were new.
    :ivar uidl_failures: looks in a row at which UIDL was refused or cut; since when.
    :ivar listing: the digest of the last complete listing.
    :ivar listed: how many messages the last complete listing had.
    :ivar usual_new: how many messages are usually new.
    :ivar looked_at: the end of the last look that succeeded; ``None``: none has yet.
    :ivar owner: the machine that has claimed it; ``""``: it is not claimed.
    :ivar interval: the longest wait between two looks in its configuration.
    :ivar settings: what the caller makes of the rules in its configuration, such as
        a hash.  When it changes, ``listing`` is emptied: all rows are judged again.
    :ivar released_as: ``"new"`` or ``"seen"``: how an administrator released it, until
        a look has succeeded.
    :ivar gone_since: when it left its configuration; ``None``: it is there.
    """

    id: int
    name: str
    server: str
    username: str
    state: AccountState = AccountState.OK
    fence: int = 0
    due_at: float = 0.0
    look_wanted: bool = False
    failures: int = 0
    refusals: int = 0
    login_delay: float = 0.0
    expire_days: float | None = None
    uids_seen: bool = False
    uids_changed: int = 0
    uidl_failures: int = 0
    uidl_failed_at: float | None = None
    listing: str = ""
    listed: int = 0
    usual_new: float = 0.0
    looked_at: float | None = None
    mail_at: float | None = None
    error: str = ""
    error_class: str = ""
    owner: str = ""
    interval: float = 0.0
    settings: str = ""
    released_as: str = ""
    gone_since: float | None = None


@attrs.frozen
class NewAccount:
    """
    An account of the configuration; see `AccountRow` for its fields.
    """

    name: str
    server: str
    username: str
    interval: float
    settings: str = ""


@attrs.frozen
class Content:
    """
    What tells messages apart when unique-ids do not.

    :ivar header: the hash of Message-ID, Date, From and Subject.
    :ivar identified: whether there is a Message-ID.
    :ivar body: the hash of the body; ``""``: not read.
    """

    header: str
    identified: bool = True
    body: str = ""


@attrs.frozen
class MessageRow:
    """
    A message, as the journal knows it.

    :ivar key: the first 32 hexadecimal digits of sha256(account name, identity, header
        hash); it never changes.
    :ivar uid: the unique-id in the last listing that had the message; ``""``: none that
        can be believed.
    :ivar size: its size in LIST; 0 also if it is doubted which message it is.
    :ivar body_hash: the hash of its body; ``""``: it was not retrieved whole.
    :ivar failures: attempts to retrieve it that count against it.
    :ivar delete_after: when it may be deleted on the server; ``None``: never.
    :ivar deleted_at: when its deletion was confirmed; ``None``: it was not.
    :ivar delete_tries: how often DELE was confirmed for it and it was still there.
    :ivar missing_since: the first complete listing without it; ``None``: it is listed.
    :ivar missing_looks: complete listings in a row without it.
    :ivar spool: the name of the file that holds it, in the folder for spooled messages,
        or in the one for those set aside; ``""`` if it has no file.
    """

    id: int
    account_id: int
    key: str
    uid: str
    size: int
    header_hash: str = ""
    body_hash: str = ""
    identified: bool = True
    state: MessageState = MessageState.SUSPECT
    reason: str = ""
    failures: int = 0
    first_failed: float | None = None
    delete_after: float | None = None
    delivered_at: float | None = None
    deleted_at: float | None = None
    delete_tries: int = 0
    first_seen: float = 0.0
    missing_since: float | None = None
    missing_looks: int = 0
    spool: str = ""

    @property
    def whole(self) -> bool:
        """
        Whether all of it was retrieved, and not only its header or a part.

        No message is deleted on the server before that.
        """
        return bool(self.body_hash)


@attrs.frozen
class DeliveryRow:
    """
    One message at one destination.

    :ivar attempt: how many attempts were begun.
    :ivar refusals: refusals of this message that count against it.
    :ivar refused_at: its last refusal, whether it counted or not.
    :ivar next_try: when it is tried again.
    :ivar machine: the machine that has the message in its spool, or in the ``tmp`` of a
        Maildir, and delivers it.
    """

    message_id: int
    destination: str
    state: DeliveryState = DeliveryState.WAITING
    attempt: int = 0
    refusals: int = 0
    refused_at: float | None = None
    next_try: float = 0.0
    machine: str = ""
    witness: Witness | None = None
    delivering_since: float | None = None
    reason: str = ""


@attrs.frozen
class DueDelivery:
    """
    A delivery, with what is needed to make it.

    :ivar account: the name of the account.
    """

    delivery: DeliveryRow
    message: MessageRow
    account: str


@attrs.frozen
class NewDelivery:
    """A delivery that is written together with its message."""

    destination: str
    state: DeliveryState = DeliveryState.WAITING
    attempt: int = 0
    witness: Witness | None = None


@attrs.frozen
class NewMessage:
    """
    A message that is written to the journal for the first time.

    :ivar spool: the file that holds it, on this machine; ``None`` if it has no file.
    """

    key: str
    uid: str
    size: int
    content: Content | None
    state: MessageState
    reason: str = ""
    spool: Path | None = None
    deliveries: tuple[NewDelivery, ...] = ()
