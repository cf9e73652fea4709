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


def account_after(state: AccountState, event: AccountEvent) -> AccountState:
    """
    Return the state of an account after an event.

    :raises TransitionError: the event cannot happen in this state.
    """
    raise NotImplementedError


def message_after(state: MessageState | None, event: MessageEvent) -> MessageState:
    """
    Return the state of a message after an event.

    :param state: ``None``: it has no row yet.
    :raises TransitionError: the event cannot happen in this state.
    """
    raise NotImplementedError


def delivery_after(state: DeliveryState, event: DeliveryEvent) -> DeliveryState:
    """
    Return the state of a delivery after an event.

    :raises TransitionError: the event cannot happen in this state.
    """
    raise NotImplementedError


def outcome_of(deliveries: Iterable[DeliveryState]) -> MessageEvent | None:
    """
    Return what the deliveries of a message mean for it.

    :return: ``DELIVERED`` if all are, ``GIVEN_UP`` if none waits and one is set aside,
        ``None`` while one waits.
    """
    raise NotImplementedError
