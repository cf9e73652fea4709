"""
The states of accounts, messages and deliveries, and what leads from one to another.

Pure tables; a transition that is not in them is an error.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable

from .records import AccountState, DeliveryState, MessageState

__all__ = [
    "AccountEvent",
    "DeliveryEvent",
    "MessageEvent",
    "TransitionError",
    "account_after",
    "delivery_after",
    "message_after",
    "outcome_of",
]


class TransitionError(RuntimeError):
    """What happened cannot happen in this state: an error of this program."""


class AccountEvent(str, enum.Enum):
    """What happens to an account."""

    HELD = "held"
    """By an administrator, or because most of its mail looks new."""

    REFUSED = "refused"
    """Its login was refused too often."""

    RELEASED = "released"
    """By an administrator."""


class MessageEvent(str, enum.Enum):
    """What happens to a message."""

    SKIPPED = "skipped"
    FAILED = "failed"
    """It could not be retrieved."""

    RETRIEVED = "retrieved"
    LOST = "lost"
    """It was retrieved, and its file is not there any more: it is fetched again."""

    DELIVERED = "delivered"
    """By the last of its deliveries."""

    GIVEN_UP = "given up"
    """By the last of its deliveries, or because it cannot be retrieved."""

    DELETED = "deleted"
    """Its deletion on the server was confirmed."""

    RETRIED = "retried"
    """An administrator wants it to be tried again; it is there."""

    RETRIED_WITHOUT_COPY = "retried without a copy"
    """The same; it has to be retrieved first."""


class DeliveryEvent(str, enum.Enum):
    """What happens to a delivery."""

    BEGUN = "begun"
    """Noted before the effect."""

    DONE = "done"
    FAILED = "failed"
    """It is tried again later."""

    GIVEN_UP = "given up"
    RETRIED = "retried"
    """An administrator wants it to be tried again."""


_ACCOUNTS = {
    (AccountState.OK, AccountEvent.HELD): AccountState.HELD,
    (AccountState.HELD, AccountEvent.HELD): AccountState.HELD,
    (AccountState.PERSON, AccountEvent.HELD): AccountState.HELD,
    (AccountState.OK, AccountEvent.REFUSED): AccountState.PERSON,
    # Held while its last look was still going on.
    (AccountState.HELD, AccountEvent.REFUSED): AccountState.HELD,
    (AccountState.PERSON, AccountEvent.REFUSED): AccountState.PERSON,
    (AccountState.OK, AccountEvent.RELEASED): AccountState.OK,
    (AccountState.HELD, AccountEvent.RELEASED): AccountState.OK,
    (AccountState.PERSON, AccountEvent.RELEASED): AccountState.OK,
}

_MESSAGES = {
    (None, MessageEvent.SKIPPED): MessageState.SKIPPED,
    (None, MessageEvent.FAILED): MessageState.SUSPECT,
    (None, MessageEvent.RETRIEVED): MessageState.RETRIEVED,
    (MessageState.SUSPECT, MessageEvent.SKIPPED): MessageState.SKIPPED,
    (MessageState.SUSPECT, MessageEvent.FAILED): MessageState.SUSPECT,
    (MessageState.SUSPECT, MessageEvent.RETRIEVED): MessageState.RETRIEVED,
    (MessageState.SUSPECT, MessageEvent.GIVEN_UP): MessageState.SET_ASIDE,
    # By another rule, or wanted because the rule is gone.
    (MessageState.SKIPPED, MessageEvent.SKIPPED): MessageState.SKIPPED,
    (MessageState.SKIPPED, MessageEvent.FAILED): MessageState.SUSPECT,
    (MessageState.SKIPPED, MessageEvent.RETRIEVED): MessageState.RETRIEVED,
    # Again, because its file is on another machine.
    (MessageState.RETRIEVED, MessageEvent.RETRIEVED): MessageState.RETRIEVED,
    (MessageState.RETRIEVED, MessageEvent.LOST): MessageState.SUSPECT,
    (MessageState.RETRIEVED, MessageEvent.DELIVERED): MessageState.DELIVERED,
    (MessageState.RETRIEVED, MessageEvent.GIVEN_UP): MessageState.SET_ASIDE,
    (MessageState.DELIVERED, MessageEvent.DELETED): MessageState.DELETED,
    # It was on the server again, and was deleted again.
    (MessageState.DELETED, MessageEvent.DELETED): MessageState.DELETED,
    # An administrator drops it.
    (MessageState.SET_ASIDE, MessageEvent.SKIPPED): MessageState.SKIPPED,
    (MessageState.SET_ASIDE, MessageEvent.RETRIED): MessageState.RETRIEVED,
    (MessageState.SET_ASIDE, MessageEvent.RETRIED_WITHOUT_COPY): MessageState.SUSPECT,
}

_DELIVERIES = {
    (DeliveryState.WAITING, DeliveryEvent.BEGUN): DeliveryState.DELIVERING,
    # Again, after a crash.
    (DeliveryState.DELIVERING, DeliveryEvent.BEGUN): DeliveryState.DELIVERING,
    # Effect and row are one transaction.
    (DeliveryState.WAITING, DeliveryEvent.DONE): DeliveryState.DELIVERED,
    (DeliveryState.DELIVERING, DeliveryEvent.DONE): DeliveryState.DELIVERED,
    (DeliveryState.WAITING, DeliveryEvent.FAILED): DeliveryState.WAITING,
    (DeliveryState.DELIVERING, DeliveryEvent.FAILED): DeliveryState.WAITING,
    (DeliveryState.WAITING, DeliveryEvent.GIVEN_UP): DeliveryState.SET_ASIDE,
    (DeliveryState.DELIVERING, DeliveryEvent.GIVEN_UP): DeliveryState.SET_ASIDE,
    (DeliveryState.SET_ASIDE, DeliveryEvent.RETRIED): DeliveryState.WAITING,
}


def account_after(state: AccountState, event: AccountEvent) -> AccountState:
    """Return the state of an account after an event; each can happen in each state."""
    return _ACCOUNTS[state, event]


def message_after(state: MessageState | None, event: MessageEvent) -> MessageState:
    """
    Return the state of a message after an event.

    :param state: ``None``: it has no row yet.
    :raises TransitionError: the event cannot happen in this state.
    """
    after = _MESSAGES.get((state, event))
    if after is None:
        what = "without a row" if state is None else f"that is {state.value}"
        raise TransitionError(f"a message {what} cannot become {event.value}")
    return after


def delivery_after(state: DeliveryState, event: DeliveryEvent) -> DeliveryState:
    """
    Return the state of a delivery after an event.

    :raises TransitionError: the event cannot happen in this state.
    """
    after = _DELIVERIES.get((state, event))
    if after is None:
        raise TransitionError(
            f"a delivery that is {state.value} cannot become {event.value}"
        )
    return after


def outcome_of(deliveries: Iterable[DeliveryState]) -> MessageEvent | None:
    """
    Return what the deliveries of a message mean for it.

    :return: ``DELIVERED`` if all are, ``GIVEN_UP`` if none waits and one is set aside,
        ``None`` while one waits, or without deliveries.
    """
    states = set(deliveries)
    if not states or states & {DeliveryState.WAITING, DeliveryState.DELIVERING}:
        return None
    if DeliveryState.SET_ASIDE in states:
        return MessageEvent.GIVEN_UP
    return MessageEvent.DELIVERED
