"""
When an account is looked at again, and when a delivery is tried again.

Pure: times (seconds since 1970) and random numbers (0 to 1) come in as arguments, and
values come out.
"""

from __future__ import annotations

import math

import attrs

from ..waits import JITTER, MAX_DELAY, MAX_WAIT, FailureClass, doubled, jittered
from .records import AccountRow, AccountState, DeliveryRow, MessageRow

__all__ = [
    "ClockWatch",
    "DestinationHealth",
    "NextDelivery",
    "NextLook",
    "NextRetrieval",
    "ServerHealth",
    "after_failed_retrieval",
    "after_failure",
    "after_look",
    "after_refused_delivery",
    "believed",
    "must_wait",
    "suspect_due",
]

Interval = tuple[float, float]
"""The shortest and the longest time between two looks, in seconds."""

HOUR = 3600.0

DAY = 24 * HOUR

REFUSED_WAIT = 900.0
"""
Seconds after a refused login, doubled each time: many servers lock an account at the
tenth attempt within about an hour.
"""

MAX_REFUSED_WAIT = 6 * HOUR
"""The longest wait after a refused login, in seconds."""

MAX_REFUSALS = 5
"""Logins refused in a row after which the account needs a person."""


@attrs.frozen
class NextLook:
    """
    The next look at an account.

    :ivar due_at: when.
    :ivar failures: the row's new value, as are `refusals` and `state`.
    :ivar alert: a message to the administrator, sent once; ``""``: none.
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

    :param account: with what this look found.  Its `mail_at` decides within the
        interval: the longer no mail has come, the longer the wait.  Its `login_delay`
        is always waited for.
    :param now: the end of the look.
    :param at_once: whether the server has more, as with Gmail.
    :param delete_at: when the next message is due to be deleted; a look may be earlier
        for it, but no earlier than the shortest interval.
    """
    shortest, _ = interval
    wait = 0.0 if at_once else jittered(_rhythm(account, interval, now), random)
    if delete_at is not None:
        wait = min(wait, max(shortest, delete_at - now))
    state = account.state
    return NextLook(
        due_at=now + max(wait, _login_delay(account)),
        state=AccountState.OK if state is AccountState.PERSON else state,
    )


def _rhythm(account: AccountRow, interval: Interval, now: float) -> float:
    shortest, longest = interval
    if account.mail_at is None:
        # At the first look, somebody may wait for a first message.
        return shortest if account.looked_at is None else longest
    # Half of the time without mail: so each wait is half as long again as the last.
    return min(max(shortest, (now - account.mail_at) / 2), longest)


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
    shortest, _ = interval
    failures, refusals = account.failures, account.refusals
    state, alert = account.state, ""
    if kind is FailureClass.LOGIN:
        # Counted apart: after a night without a server, its first refusal is still a
        # first one.
        refusals += 1
        wait = doubled(REFUSED_WAIT, refusals, MAX_REFUSED_WAIT)
        if refusals >= MAX_REFUSALS and state is AccountState.OK:
            state = AccountState.PERSON
            alert = (
                f"the login of account {account.name} was refused {refusals} times in "
                "a row, and is not tried any more; when the password is right again, "
                f"run: pop3connect accounts release {account.name}"
            )
    else:
        failures += 1
        wait = doubled(shortest, failures, MAX_WAIT)
    wait = jittered(max(wait, shortest), random)
    wanted = min(retry_after or 0.0, MAX_DELAY)
    return NextLook(
        due_at=now + max(wait, wanted, _login_delay(account)),
        failures=failures,
        refusals=refusals,
        state=state,
        alert=alert,
    )


def must_wait(account: AccountRow, now: float) -> float:
    """
    Return for how many seconds an account is not looked at even if somebody wants it.

    These are LOGIN-DELAY and the wait after a refused login.

    :param account: its row, before it was claimed.
    """
    wait = 0.0
    if account.looked_at is not None:
        wait = _rest(account.looked_at + _login_delay(account), now, MAX_DELAY)
    if account.refusals:
        wait = max(wait, _rest(account.due_at, now, MAX_REFUSED_WAIT * (1 + JITTER)))
    return wait


def _login_delay(account: AccountRow) -> float:
    return min(account.login_delay, MAX_DELAY)


def _rest(until: float, now: float, longest: float) -> float:
    """Return the rest of a wait; 0 if that is longer than the whole: see `believed`."""
    return max(believed(until, now, longest) - now, 0.0)


# -- servers

SERVER_FAILURES = 5
"""Accounts of a server that fail to connect within `SERVER_WINDOW`: it is down."""

SERVER_WINDOW = 60.0
"""Seconds within which those failures count together."""

SERVER_WAIT = 60.0
"""Seconds that a server waits first, doubled to `MAX_WAIT`."""


@attrs.frozen
class ServerHealth:
    """
    Whether a server can be reached, for all of its accounts.

    When five accounts have failed to connect within a minute, all of them wait as one.
    After that wait, the next failure begins a longer one.

    :ivar failed: the accounts that failed to connect in the last minute, and when.
    :ivar waits: waits in a row.
    :ivar until: when the last of them ends.
    """

    failed: tuple[tuple[str, float], ...] = ()
    waits: int = 0
    until: float = 0.0

    def after_failure(self, account: str, now: float, random: float) -> ServerHealth:
        """Return the health after an account failed to connect."""
        if self.wait(now):
            # It began to connect before the others were told to wait.
            return self
        failed = (
            *(
                (name, at)
                for name, at in self.failed
                if name != account and at > now - SERVER_WINDOW
            ),
            (account, now),
        )
        if not self.waits and len(failed) < SERVER_FAILURES:
            return attrs.evolve(self, failed=failed)
        waits = self.waits + 1
        wait = jittered(doubled(SERVER_WAIT, waits, MAX_WAIT), random)
        return ServerHealth(waits=waits, until=now + wait)

    def wait(self, now: float) -> float:
        """Return for how many seconds no account is looked at."""
        return _rest(self.until, now, MAX_WAIT * (1 + JITTER))


# -- messages that cannot be retrieved

SUSPECT_TRIES = (0.0, 600.0, HOUR, 3 * HOUR, 6 * HOUR)
"""Seconds after the first attempt that counts, for each attempt until the last."""


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
    if row.first_failed is None or row.first_failed > now:
        return True
    tries = min(row.failures, len(SUSPECT_TRIES) - 1)
    return now >= row.first_failed + SUSPECT_TRIES[tries]


def after_failed_retrieval(
    row: MessageRow, *, now: float, counts: bool
) -> NextRetrieval:
    """
    Return what a failed retrieval means for a message.

    :param counts: whether it failed in a session for this message alone, and not for
        a transient reason.
    """
    if not counts:
        return NextRetrieval(row.failures, row.first_failed)
    failures = row.failures + 1
    first = now if row.first_failed is None else min(row.first_failed, now)
    enough = failures >= len(SUSPECT_TRIES) and now - first >= SUSPECT_TRIES[-1]
    return NextRetrieval(failures, first, set_aside=enough)


# -- deliveries

TROUBLE_WAIT = 1.0
"""Seconds that a destination in trouble waits first, doubled to `MAX_TROUBLE_WAIT`."""

MAX_TROUBLE_WAIT = 600.0
"""The longest wait of a destination in trouble, or of a refused message, in seconds."""

MAX_REFUSED_PAUSE = 10.0
"""The longest wait of a destination that refuses messages and is not itself in trouble:
a row of bad messages must not hold up the good ones behind them."""

MAX_RETRY_AFTER = HOUR
"""The longest wait that a destination can ask for, in seconds."""

REFUSED_MESSAGE_WAIT = 60.0
"""Seconds until a refused message is tried again, doubled to `MAX_TROUBLE_WAIT`."""

MAX_MESSAGE_REFUSALS = 5
"""Refusals that count after which a message is set aside."""


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
        if not self.troubles:
            return None
        return 0 if _rest(self.until, now, MAX_RETRY_AFTER) else 1

    def after_success(self, now: float) -> DestinationHealth:
        """Return the health after it took a message."""
        return DestinationHealth(taken_at=now)

    def after_failure(
        self,
        now: float,
        random: float,
        retry_after: float | None = None,
        *,
        refused: bool = False,
    ) -> DestinationHealth:
        """
        Return the health after it failed, or refused a message.

        :param retry_after: seconds that it asked for.
        :param refused: whether it refused one message, and works for all we know.
        """
        troubles = self.troubles + 1
        if retry_after is None:
            most = MAX_REFUSED_PAUSE if refused else MAX_TROUBLE_WAIT
            wait = jittered(doubled(TROUBLE_WAIT, troubles, most), random)
        else:
            wait = _asked(retry_after)
        return attrs.evolve(self, troubles=troubles, until=now + wait)


def _asked(retry_after: float) -> float:
    return min(max(retry_after, 0.0), MAX_RETRY_AFTER)


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

    A refusal counts only if the destination has taken another message since the last
    one: otherwise it may refuse everything.

    :param row: with the number of this attempt.
    :param health: of the destination, before this failure.
    :param counts: whether the message was refused; ``False``: the destination asked to
        try it later, or is itself at fault.
    :param retry_after: seconds that the destination asked for.
    """
    refusals, refused_at = row.refusals, row.refused_at
    if counts:
        taken = health.taken_at
        if taken is not None and (refused_at is None or taken > refused_at):
            refusals += 1
        refused_at = now
    if retry_after is not None:
        wait = _asked(retry_after)
    else:
        first = REFUSED_MESSAGE_WAIT if counts else TROUBLE_WAIT
        times = max(row.attempt, 1)
        wait = jittered(doubled(first, times, MAX_TROUBLE_WAIT), random)
    return NextDelivery(
        next_try=now + wait,
        refusals=refusals,
        refused_at=refused_at,
        set_aside=refusals >= MAX_MESSAGE_REFUSALS,
    )


# -- clocks

MAX_JUMP = HOUR
"""Seconds between wall clock and monotonic clock that are not called a jump."""

DISTRUST = DAY
"""Seconds after a jump in which no age is believed."""


def believed(due_at: float, now: float, longest: float) -> float:
    """
    Return when something is due, if the clock may have been set back.

    :param longest: its own longest wait in seconds; what is due later than that from
        now is due now.
    """
    return now if due_at - now > longest else due_at


@attrs.frozen
class ClockWatch:
    """
    Notices when the wall clock jumps.

    :ivar wall: when both clocks were last read, by the wall clock.
    :ivar monotonic: the same, by the monotonic clock.
    :ivar distrusted_until: by the monotonic clock; until then nothing is forgotten or
        deleted by age.
    """

    wall: float
    monotonic: float
    distrusted_until: float = -math.inf

    def after(self, wall: float, monotonic: float) -> ClockWatch:
        """Return the watch after both clocks were read again."""
        jump = (wall - self.wall) - (monotonic - self.monotonic)
        until = self.distrusted_until
        if abs(jump) > MAX_JUMP:
            until = monotonic + DISTRUST
        return ClockWatch(wall, monotonic, until)

    @property
    def trusted(self) -> bool:
        """Whether ages are believed."""
        return self.monotonic >= self.distrusted_until
