"""The states of accounts, messages and deliveries: each transition that there is."""

from __future__ import annotations

from itertools import product

from twisted.trial.unittest import SynchronousTestCase

from pop3connect.collect.records import AccountState, DeliveryState, MessageState
from pop3connect.collect.states import (
    AccountEvent,
    DeliveryEvent,
    MessageEvent,
    TransitionError,
    account_after,
    delivery_after,
    message_after,
    outcome_of,
)

MESSAGES = """
-          skipped              skipped
-          failed               suspect
-          retrieved            retrieved
suspect    skipped              skipped
suspect    failed               suspect
suspect    retrieved            retrieved
suspect    given-up             set-aside
skipped    skipped              skipped
skipped    failed               suspect
skipped    retrieved            retrieved
retrieved  retrieved            retrieved
retrieved  lost                 suspect
retrieved  delivered            delivered
retrieved  given-up             set-aside
delivered  deleted              deleted
deleted    deleted              deleted
set-aside  skipped              skipped
set-aside  retried              retrieved
set-aside  retried-without-a-copy suspect
"""

DELIVERIES = """
waiting    begun     delivering
waiting    done      delivered
waiting    failed    waiting
waiting    given-up  set-aside
delivering begun     delivering
delivering done      delivered
delivering failed    waiting
delivering given-up  set-aside
set-aside  retried   waiting
"""


def rows(table: str) -> dict[tuple[str, str], str]:
    """Return a table: state and event -> state; "-" stands for a blank."""
    found = {}
    for line in table.strip().splitlines():
        before, event, after = (word.replace("-", " ") for word in line.split())
        found[before, event] = after
    return found


class MessageTests(SynchronousTestCase):
    def test_each_event_in_each_state_leads_where_the_table_says_or_fails(self) -> None:
        table = rows(MESSAGES)
        for state, event in product((None, *MessageState), MessageEvent):
            before = " " if state is None else state.value
            after = table.pop((before, event.value), None)
            if after is None:
                error = self.assertRaises(TransitionError, message_after, state, event)
                self.assertIn(f"cannot become {event.value}", str(error))
            else:
                self.assertEqual(message_after(state, event), MessageState(after))
        self.assertEqual(table, {})

    def test_error_names_the_state(self) -> None:
        error = self.assertRaises(
            TransitionError, message_after, None, MessageEvent.DELETED
        )
        self.assertEqual(str(error), "a message without a row cannot become deleted")
        error = self.assertRaises(
            TransitionError, message_after, MessageState.SKIPPED, MessageEvent.DELETED
        )
        self.assertEqual(str(error), "a message that is skipped cannot become deleted")

    def test_nothing_but_a_delivered_message_becomes_deleted(self) -> None:
        for state in (None, *MessageState):
            if state not in (MessageState.DELIVERED, MessageState.DELETED):
                self.assertRaises(
                    TransitionError, message_after, state, MessageEvent.DELETED
                )


class DeliveryTests(SynchronousTestCase):
    def test_each_event_in_each_state_leads_where_the_table_says_or_fails(self) -> None:
        table = rows(DELIVERIES)
        for state, event in product(DeliveryState, DeliveryEvent):
            after = table.pop((state.value, event.value), None)
            if after is None:
                error = self.assertRaises(TransitionError, delivery_after, state, event)
                self.assertEqual(
                    str(error),
                    f"a delivery that is {state.value} cannot become {event.value}",
                )
            else:
                self.assertEqual(delivery_after(state, event), DeliveryState(after))
        self.assertEqual(table, {})

    def test_message_is_delivered_when_all_deliveries_are(self) -> None:
        done, waiting = DeliveryState.DELIVERED, DeliveryState.WAITING
        aside, delivering = DeliveryState.SET_ASIDE, DeliveryState.DELIVERING
        for states, event in (
            ([done], MessageEvent.DELIVERED),
            ([done, done], MessageEvent.DELIVERED),
            ([done, waiting], None),
            ([done, delivering], None),
            ([aside, waiting], None),
            ([aside, delivering], None),
            ([aside, done], MessageEvent.GIVEN_UP),
            ([aside], MessageEvent.GIVEN_UP),
            ([], None),
        ):
            self.assertEqual(outcome_of(states), event, states)


class AccountTests(SynchronousTestCase):
    def test_account_can_be_held_and_released_in_every_state(self) -> None:
        for state in AccountState:
            self.assertEqual(account_after(state, AccountEvent.HELD), AccountState.HELD)
            self.assertEqual(
                account_after(state, AccountEvent.RELEASED), AccountState.OK
            )

    def test_refused_login_needs_a_person_unless_the_account_is_held(self) -> None:
        for state, after in (
            (AccountState.OK, AccountState.PERSON),
            (AccountState.PERSON, AccountState.PERSON),
            (AccountState.HELD, AccountState.HELD),
        ):
            self.assertEqual(account_after(state, AccountEvent.REFUSED), after)
