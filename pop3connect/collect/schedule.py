"""
When an account is looked at again, and when a delivery is tried again.

Pure: times (seconds since 1970) and random numbers (0 to 1) come in as arguments, and
values come out.
"""

from __future__ import annotations

import enum

import attrs

from .records import AccountRow, AccountState, DeliveryRow, MessageRow

__all__ = [
    "ClockWatch",
    "DestinationHealth",
    "FailureClass",
    "NextDelivery",
    "NextLook",
    "NextRetrieval",
    "ServerHealth",
    "after_failed_retrieval",
    "after_failure",
    "after_look",
    "after_refused_delivery",
    "believed",
    "classify",
    "suspect_due",
]

Interval = tuple[float, float]
"""The shortest and the longest time between two looks, in seconds."""


class FailureClass(str, enum.Enum):
    """Why a look failed, as far as the schedule is concerned."""

    CONNECTION = "connection"
    """The server could not be reached, or the connection was lost."""

    TLS = "tls"
    BUSY = "busy"
    """``[IN-USE]``, ``[SYS/TEMP]`` or ``[LOGIN-DELAY]``."""

    LOGIN = "login"
    """The login was refused."""

    SERVER = "server"
    """Anything else that the server refused, or said wrongly."""

    LOCAL = "local"
    """Ours: no password was found, or the disk is full; the server is not to blame."""


def classify(error: BaseException) -> FailureClass:
    """Return the class of the error that ended a look."""
    raise NotImplementedError


@attrs.frozen
class NextLook:
    """
    The next look at an account.

    :ivar due_at: when.
    :ivar failures: for the row, as are `refusals` and `state`.
    :ivar alert: what an administrator has to be told, once; ``""``: nothing.
    """

    due_at: float
    failures: int = 0
    refusals: int = 0
    state: AccountState = AccountState.OK
    alert: str = ""


def after_look(
    account: AccountRow,
    interval: Interval,
    *,
    now: float,
    random: float,
    at_once: bool = False,
    delete_at: float | None = None,
) -> NextLook:
    """
    Return the next look after one that succeeded.

    :param account: its `mail_at` decides within the interval: the longer no mail has
        come, the longer the wait.  Its `login_delay` is always waited for.
    :param now: the end of the look.
    :param at_once: whether the server has more, as with Gmail.
    :param delete_at: when the next message is due to be deleted; a look may be earlier
        for it, but no earlier than the shortest interval.
    """
    raise NotImplementedError


def after_failure(
    account: AccountRow,
    interval: Interval,
    kind: FailureClass,
    *,
    now: float,
    random: float,
    retry_after: float | None = None,
) -> NextLook:
    """
    Return the next look after one that failed.

    :param retry_after: seconds that the server wants between logins.
    """
    raise NotImplementedError


@attrs.frozen
class ServerHealth:
    """
    Whether a server can be reached, for all of its accounts.

    When five accounts have failed to connect within a minute, all of them wait as one.

    :ivar until: when the wait ends; 0: there is none.
    """

    failed: tuple[tuple[str, float], ...] = ()
    waits: int = 0
    until: float = 0.0

    def after_failure(self, account: str, now: float, random: float) -> ServerHealth:
        """Return the health after an account failed to connect."""
        raise NotImplementedError

    def after_success(self) -> ServerHealth:
        """Return the health after an account connected."""
        raise NotImplementedError

    def wait(self, now: float) -> float:
        """Return for how many seconds no account is looked at."""
        raise NotImplementedError


# -- messages that cannot be retrieved


@attrs.frozen
class NextRetrieval:
    """For the row of a message that could not be retrieved."""

    failures: int
    first_failed: float | None
    set_aside: bool = False


def suspect_due(row: MessageRow, now: float) -> bool:
    """
    Return whether a suspect is tried in this look, after all the others.

    The attempts that count are spread over six hours, so that a look every minute does
    not open another session each time.
    """
    raise NotImplementedError


def after_failed_retrieval(
    row: MessageRow, *, now: float, counts: bool
) -> NextRetrieval:
    """
    Return what a failed retrieval means for a message.

    :param counts: whether it failed in a session of its own, and not for a transient
        reason.
    """
    raise NotImplementedError


# -- deliveries


@attrs.frozen
class DestinationHealth:
    """
    Whether a destination takes mail.

    :ivar troubles: failures in a row.
    :ivar until: before that nothing is tried.
    :ivar taken_at: when it last took a message.
    """

    troubles: int = 0
    until: float = 0.0
    taken_at: float | None = None

    def allowed(self, now: float) -> int | None:
        """
        Return how many messages may be tried now.

        :return: 0 in a wait, 1 after one, ``None``: as many as there are.
        """
        raise NotImplementedError

    def after_success(self, now: float) -> DestinationHealth:
        """Return the health after it took a message."""
        raise NotImplementedError

    def after_failure(
        self, now: float, random: float, retry_after: float | None = None
    ) -> DestinationHealth:
        """
        Return the health after it failed, or refused a message.

        :param retry_after: seconds that it asked for.
        """
        raise NotImplementedError


@attrs.frozen
class NextDelivery:
    """For the row of a delivery that failed."""

    next_try: float
    refusals: int
    refused_at: float | None
    set_aside: bool = False


def after_refused_delivery(
    row: DeliveryRow,
    health: DestinationHealth,
    *,
    now: float,
    random: float,
    counts: bool,
    retry_after: float | None = None,
) -> NextDelivery:
    """
    Return when a message that a destination did not take is tried again.

    :param health: of the destination, before this failure.
    :param counts: whether the message was refused; ``False``: it was told to come
        later, or the destination has a fault of its own.
    :param retry_after: seconds that the destination asked for.
    """
    raise NotImplementedError


# -- clocks


def believed(due_at: float, now: float, longest: float) -> float:
    """
    Return when something is due, if the clock may have been set back.

    :param longest: its own longest wait in seconds; what is due later than that from
        now is due now.
    """
    raise NotImplementedError


@attrs.frozen
class ClockWatch:
    """
    Notices when the wall clock jumps.

    :ivar distrusted_until: by the monotonic clock; until then nothing is forgotten or
        deleted by age.
    """

    wall: float
    monotonic: float
    distrusted_until: float = -1.0

    def after(self, wall: float, monotonic: float) -> ClockWatch:
        """Return the watch after both clocks were read again."""
        raise NotImplementedError

    @property
    def trusted(self) -> bool:
        """Whether ages are believed."""
        raise NotImplementedError
