"""
The journal's deliveries: attempts, refusals, and messages that are final.
"""

from __future__ import annotations

import json
from pathlib import Path

import attrs

from pop3connect.collect.account_sql import CLOCK_SLACK
from pop3connect.collect.delivery_sql import Settled
from pop3connect.collect.records import (
    DeliveryRow,
    DeliveryState,
    MessageRow,
    MessageState,
    Witness,
)

from ..support.shows import shows
from .journals import JournalCase, new_message

WAITING = DeliveryState.WAITING
DELIVERING = DeliveryState.DELIVERING
DELIVERED = DeliveryState.DELIVERED
SET_ASIDE = DeliveryState.SET_ASIDE


class DeliveryCase(JournalCase):
    def setUp(self) -> None:
        super().setUp()
        self.owner = self.claimed()

    def one(self, key: str = "a") -> MessageRow:
        return self.messages(self.owner)[key]

    def state(self, destination: str = "box", key: str = "a") -> DeliveryRow:
        found = self.done(self.journal.find_messages(list(MessageState)))
        (row,) = (
            delivery
            for _, message, deliveries in found
            for delivery in deliveries
            if message.key == key and delivery.destination == destination
        )
        return row

    def deliver(self, destination: str = "box", wait: float | None = None) -> Settled:
        rows = self.begin(destination)
        waits = {row.message_id: wait for row in rows}
        return self.done(self.journal.delivered(rows, waits))


class DueTests(DeliveryCase):
    def test_delivery_comes_with_its_message_and_the_name_of_its_account(self) -> None:
        (row,) = self.add(self.owner, new_message("a", "box", "desk"))
        (due,) = self.due()
        self.assertEqual((due.account, due.message), ("one", row))
        self.assertEqual(due.delivery, self.state())

    def test_oldest_comes_first_up_to_the_limit(self) -> None:
        for key in ("c", "a", "b"):
            self.add(self.owner, new_message(key, "box"))
            self.time += 1
        rows = self.done(self.journal.due_deliveries("box", 2))
        self.assertEqual([due.message.key for due in rows], ["c", "a"])

    def test_accounts_are_chosen_or_left_out(self) -> None:
        other = self.claimed("two")
        self.add(self.owner, new_message("a", "box"))
        self.add(other, new_message("b", "box"))
        for options, keys in (
            ({"account": other}, ["b"]),
            ({"without": [other.id]}, ["a"]),
            ({"without": [other.id, self.owner.id]}, []),
        ):
            found = [due.message.key for due in self.due(**options)]
            self.assertEqual(found, keys, options)


class AttemptTests(DeliveryCase):
    def test_attempt_is_noted_with_its_witness_before_the_effect(self) -> None:
        self.add(self.owner, new_message("a", "box"))
        (due,) = self.due()
        witness = Witness("/mail/box", offset=2**40, length=5, inode=7, mark="x")
        self.time += 5
        (row,) = self.done(
            self.journal.delivering([attrs.evolve(due.delivery, witness=witness)])
        )
        self.assertEqual(
            (row.state, row.attempt, row.witness, row.delivering_since, row.machine),
            (DELIVERING, 1, witness, self.time, "here"),
        )
        self.assertEqual(self.state(), row)
        self.assertEqual(self.due(), [])

    def test_interrupted_attempt_is_found_and_repeated_as_the_next(self) -> None:
        (message,) = self.add(self.owner, new_message("a", "box"))
        (row,) = self.begin()
        again = self.opened(exclusive=True)
        (found,) = self.done(again.interrupted())
        self.assertEqual((found.delivery, found.message), (row, message))
        (after,) = self.done(again.delivering([found.delivery]))
        self.assertEqual(after.attempt, 2)

    def test_interrupted_attempts_of_one_destination_or_machine(self) -> None:
        self.add(self.owner, new_message("a", "box", "desk"))
        self.begin()
        self.begin("desk")
        (found,) = self.done(self.journal.interrupted("desk"))
        self.assertEqual(found.delivery.destination, "desk")
        there = self.opened(machine="there")
        self.assertEqual(self.done(there.interrupted()), [])

    def test_attempt_that_another_process_has_begun_is_not_begun_again(self) -> None:
        self.add(self.owner, new_message("a", "box"), new_message("b", "box"))
        rows = [due.delivery for due in self.due()]
        self.done(self.journal.delivering(rows[:1]))
        begun = self.done(self.journal.delivering(rows))
        self.assertEqual([row.message_id for row in begun], [rows[1].message_id])

    def test_end_of_an_older_attempt_changes_nothing(self) -> None:
        (message,) = self.add(self.owner, new_message("a", "box"))
        (old,) = self.begin()
        (new,) = self.done(self.journal.delivering([old]))
        journal = self.journal
        for late in (
            journal.delivered([old], {message.id: 0.0}),
            journal.delivery_set_aside([old], "late", copies={message.id: "copy"}),
        ):
            self.assertEqual(self.done(late), Settled())
        late = journal.delivery_failed([old], "late", wait=1.0, counts=True)
        self.assertEqual(self.done(late), [])
        self.assertEqual(self.state(), new)
        self.assertEqual(self.one(), message)

    def test_delivery_that_is_final_is_not_begun(self) -> None:
        self.add(self.owner, new_message("a", "box", "desk"))
        self.deliver()
        self.assertEqual(self.done(self.journal.delivering([self.state()])), [])

    def test_hundreds_of_deliveries_in_one_call(self) -> None:
        self.add(self.owner, *(new_message(f"{n}", "box") for n in range(600)))
        rows = [
            each.delivery for each in self.done(self.journal.due_deliveries("box", 999))
        ]
        begun = self.done(self.journal.delivering(rows))
        self.assertEqual(len(begun), 600)
        settled = self.done(self.journal.delivered(begun, {}))
        self.assertEqual(len(settled.messages), 600)
        self.assertEqual(len(settled.forgotten), 600)


class DeliveredTests(DeliveryCase):
    def test_message_is_delivered_when_all_its_deliveries_are(self) -> None:
        self.add(self.owner, new_message("a", "box", "desk"))
        settled = self.deliver("box", 10.0)
        self.assertIs(self.state().state, DELIVERED)
        self.assertEqual((settled.messages, settled.forgotten), ((), ()))
        self.assertIs(self.one().state, MessageState.RETRIEVED)
        self.time += 5
        settled = self.deliver("desk", 10.0)
        (row,) = settled.messages
        self.assertEqual(row, self.one())
        self.assertIs(row.state, MessageState.DELIVERED)
        self.assertEqual(
            (row.delivered_at, row.delete_after, row.spool),
            (self.time, self.time + 10, ""),
        )
        self.assertEqual(settled.forgotten, ("a.eml",))

    def test_message_without_a_time_stays_on_the_server(self) -> None:
        self.add(self.owner, new_message("a", "box"))
        (row,) = self.done(self.journal.delivered(self.begin(), {})).messages
        self.assertIs(row.delete_after, None)

    def test_reason_of_a_message_stays(self) -> None:
        self.add(self.owner, new_message("a", "box", reason="short"))
        (row,) = self.deliver().messages
        self.assertEqual(row.reason, "short")

    def test_delivery_of_a_message_that_was_lost_meanwhile_is_noted(self) -> None:
        (message,) = self.add(self.owner, new_message("a", "box"))
        rows = self.begin()
        self.done(self.journal.lost([message.id]))
        settled = self.done(self.journal.delivered(rows, {message.id: 0.0}))
        self.assertEqual(settled.messages, ())
        self.assertIs(self.state().state, DELIVERED)

    def test_lease_is_not_needed(self) -> None:
        self.add(self.owner, new_message("a", "box"))
        self.done(self.journal.finish(self.owner, due_at=self.time + 300))
        self.assertEqual(len(self.deliver().messages), 1)


class FailureTests(DeliveryCase):
    def failed(self, **options: float) -> list[DeliveryRow]:
        rows = self.begin()
        counts = bool(options.get("counts"))
        return self.done(
            self.journal.delivery_failed(
                rows, "not now", wait=options.get("wait", 10.0), counts=counts
            )
        )

    def test_delivery_waits_and_is_due_again(self) -> None:
        self.add(self.owner, new_message("a", "box"))
        (row,) = self.failed(wait=10.0)
        self.assertEqual(row, self.state())
        self.assertEqual(
            (row.state, row.next_try, row.reason, row.attempt, row.refused_at),
            (WAITING, self.time + 10, "not now", 1, self.time),
        )
        self.time += 9
        self.assertEqual(self.due(), [])
        self.time += 1
        self.assertEqual(len(self.due()), 1)

    def test_refusals_that_count_are_counted(self) -> None:
        self.add(self.owner, new_message("a", "box"))
        for counts, refusals in ((1, 1), (0, 1), (1, 2)):
            self.failed(wait=0.0, counts=counts)
            self.assertEqual(self.state().refusals, refusals)

    def test_witness_stays_because_it_may_name_the_only_file(self) -> None:
        self.add(self.owner, new_message("a", "box", spool=None))
        (due,) = self.due()
        witness = Witness("/mail/tmp/x")
        rows = self.done(
            self.journal.delivering([attrs.evolve(due.delivery, witness=witness)])
        )
        self.done(self.journal.delivery_failed(rows, "no", wait=0.0, counts=False))
        (due,) = self.due()
        self.assertEqual(due.delivery.witness, witness)
        self.assertIn("/mail/tmp/x", self.done(self.journal.spool_files()))

    def test_long_wait_is_kept_at_the_next_start(self) -> None:
        self.add(self.owner, new_message("a", "box"))
        self.failed(wait=86400.0)
        again = self.opened(exclusive=True)
        self.assertEqual(self.done(again.due_deliveries("box", 9)), [])
        self.time -= CLOCK_SLACK + 1
        again = self.opened(exclusive=True)
        self.assertEqual(len(self.done(again.due_deliveries("box", 9))), 1)


class SetAsideTests(DeliveryCase):
    def set_aside(self, destination: str = "box", copy: str = "") -> Settled:
        rows = self.begin(destination)
        copies = {row.message_id: copy for row in rows} if copy else None
        return self.done(
            self.journal.delivery_set_aside(rows, "refused", copies=copies)
        )

    def test_message_is_set_aside_with_the_reason(self) -> None:
        self.add(self.owner, new_message("a", "box"))
        settled = self.set_aside()
        (row,) = settled.messages
        self.assertEqual(row, self.one())
        self.assertEqual(
            (row.state, row.reason, row.spool),
            (MessageState.SET_ASIDE, "refused", "a.eml"),
        )
        self.assertEqual(settled.forgotten, ())
        self.assertIs(row.delete_after, None)
        self.assertIs(self.state().state, SET_ASIDE)

    def test_copy_takes_the_place_of_the_spool_file(self) -> None:
        self.add(self.owner, new_message("a", "box"))
        settled = self.set_aside(copy="copy.eml")
        self.assertEqual(settled.forgotten, ("a.eml",))
        self.assertEqual(self.one().spool, "copy.eml")
        self.assertEqual(
            self.done(self.journal.spool_files()),
            {"copy.eml": MessageState.SET_ASIDE},
        )

    def test_copy_of_a_message_without_a_spool_file(self) -> None:
        self.add(self.owner, new_message("a", "box", spool=None))
        settled = self.set_aside(copy="copy.eml")
        self.assertEqual(settled.forgotten, ())
        self.assertEqual(self.one().spool, "copy.eml")

    def test_other_delivery_goes_on_and_the_message_is_set_aside_after_it(self) -> None:
        self.add(self.owner, new_message("a", "box", "desk"))
        settled = self.set_aside(copy="copy.eml")
        # The other delivery may be reading the first file.
        self.assertEqual((settled.messages, settled.forgotten), ((), ()))
        (due,) = self.due("desk")
        self.assertEqual(due.message.spool, "copy.eml")
        settled = self.deliver("desk", 0.0)
        (row,) = settled.messages
        self.assertEqual(
            (row.state, row.reason, row.spool, row.delete_after),
            (MessageState.SET_ASIDE, "refused", "copy.eml", None),
        )
        self.assertEqual(settled.forgotten, ())

    def test_copy_goes_when_a_retried_message_is_delivered(self) -> None:
        (row,) = self.add(self.owner, new_message("a", "box"))
        self.set_aside(copy="copy.eml")
        self.done(self.journal.retry([row.id]))
        settled = self.deliver(wait=0.0)
        self.assertEqual(settled.forgotten, ("copy.eml",))
        self.assertEqual(self.one().delete_after, self.time)


class InboxTests(DeliveryCase):
    CONTENT = b"Subject: x\r\n\r\n\0\xff"

    def deliver_in(self, **options: int) -> Settled:
        (due,) = self.due()
        return self.done(
            self.journal.deliver_to_inbox(
                due, self.CONTENT, {"from": "ä"}, 60.0, **options
            )
        )

    @shows("feature 1.20")
    def test_message_and_row_are_one_transaction(self) -> None:
        self.add(self.owner, new_message("a", "box"))
        self.points.clear()
        settled = self.deliver_in()
        self.assertEqual(
            self.points, ["before deliver_to_inbox", "after deliver_to_inbox"]
        )
        (row,) = settled.messages
        self.assertEqual(row.delete_after, self.time + 60)
        self.assertEqual(settled.forgotten, ("a.eml",))
        self.assertEqual(self.state().attempt, 1)
        ((account, key, received, envelope, message),) = self.query(
            "SELECT account, key, received_at, envelope, message FROM inbox"
        )
        self.assertEqual(
            (account, key, received, message), ("one", "a", self.time, self.CONTENT)
        )
        self.assertEqual(json.loads(envelope), {"from": "ä"})

    def test_delivery_that_was_made_already_is_not_repeated(self) -> None:
        self.add(self.owner, new_message("a", "box"))
        (due,) = self.due()
        self.deliver_in()
        again = self.journal.deliver_to_inbox(due, self.CONTENT, {}, None)
        self.assertEqual(self.done(again), Settled())
        self.assertEqual(self.query("SELECT count(*) FROM inbox"), [(1,)])

    def test_message_that_is_in_the_table_already_is_noted(self) -> None:
        self.add(self.owner, new_message("a", "box"))
        self.deliver_in()
        # The journal forgets the message, and the table keeps it.
        self.done(self.journal.reset("one"))
        self.owner = self.claimed()
        self.add(self.owner, new_message("a", "box"))
        self.assertEqual(len(self.deliver_in().messages), 1)
        self.assertEqual(self.query("SELECT count(*) FROM inbox"), [(1,)])


class SpoolTests(DeliveryCase):
    def test_spool_name_is_that_of_the_file_only(self) -> None:
        self.add(self.owner, new_message("a", "box", spool=Path("/x/y/../name.eml")))
        self.assertEqual(self.one().spool, "name.eml")
