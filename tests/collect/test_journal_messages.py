"""
The journal's messages: from the first row to the last.
"""

from __future__ import annotations

from pathlib import Path

import attrs

from pop3connect.collect import journal as module
from pop3connect.collect.journal import JournalError
from pop3connect.collect.message_sql import DROPPED, LOOKS_MISSING
from pop3connect.collect.records import (
    Content,
    DeliveryState,
    MessageRow,
    MessageState,
    NewDelivery,
    Witness,
)
from pop3connect.collect.schedule import NextRetrieval
from pop3connect.collect.states import TransitionError

from .journals import JournalCase, new_message

SUSPECT = MessageState.SUSPECT
RETRIEVED = MessageState.RETRIEVED
DELIVERED = MessageState.DELIVERED
SKIPPED = MessageState.SKIPPED
DELETED = MessageState.DELETED
SET_ASIDE = MessageState.SET_ASIDE


class MessageCase(JournalCase):
    def setUp(self) -> None:
        super().setUp()
        self.owner = self.claimed()

    def one(self, key: str = "a") -> MessageRow:
        return self.messages(self.owner)[key]

    def deliver(self, wait: float | None = None) -> None:
        rows = self.begin()
        waits = {row.message_id: wait for row in rows}
        self.done(self.journal.delivered(rows, waits))


class AddTests(MessageCase):
    def test_rows_come_in_the_order_of_the_messages(self) -> None:
        new = [new_message(key, "box") for key in ("c", "a", "b")]
        rows = self.add(self.owner, *new)
        self.assertEqual([row.key for row in rows], ["c", "a", "b"])
        self.assertEqual(self.done(self.journal.messages(self.owner)), rows)

    def test_row_has_what_is_known_of_the_message(self) -> None:
        (row,) = self.add(self.owner, new_message("a", "box", "desk", reason="short"))
        self.assertEqual(
            row,
            MessageRow(
                id=row.id,
                account_id=self.owner.id,
                key="a",
                uid="uid-a",
                size=100,
                header_hash="header-a",
                body_hash="body-a",
                identified=True,
                state=RETRIEVED,
                reason="short",
                first_seen=self.time,
                spool="a.eml",
            ),
        )
        found = self.done(self.journal.deliveries(self.owner))
        self.assertEqual(
            [(each.message_id, each.destination, each.state) for each in found],
            [(row.id, name, DeliveryState.WAITING) for name in ("box", "desk")],
        )

    def test_message_of_which_nothing_was_read(self) -> None:
        (row,) = self.add(
            self.owner, new_message("a", state=SKIPPED, content=None, reason="rule")
        )
        self.assertEqual((row.header_hash, row.body_hash, row.spool), ("", "", ""))
        self.assertEqual((row.state, row.reason), (SKIPPED, "rule"))

    def test_new_suspect_has_failed_now(self) -> None:
        (row,) = self.add(self.owner, new_message("a", state=SUSPECT))
        self.assertEqual((row.first_failed, row.failures), (self.time, 0))

    def test_delivery_may_have_begun_already(self) -> None:
        witness = Witness("/mail/tmp/x", 2**64 - 1, "mark")
        begun = NewDelivery("box", DeliveryState.DELIVERING, 1, witness)
        self.add(self.owner, new_message("a", spool=None, deliveries=(begun,)))
        (found,) = self.done(self.journal.interrupted())
        self.assertEqual(found.account, "one")
        self.assertEqual(found.delivery.attempt, 1)
        self.assertEqual(found.delivery.witness, witness)
        self.assertEqual(found.delivery.delivering_since, self.time)

    def test_unique_id_with_other_bytes_than_ascii_stays_what_it_is(self) -> None:
        uid = "a\udce4\udcff b"
        self.add(self.owner, new_message("a", "box", uid=uid))
        self.assertEqual(self.one().uid, uid)
        self.done(self.journal.renamed(self.owner, {self.one().id: uid + "2"}))
        self.assertEqual(self.one().uid, uid + "2")

    def test_key_that_is_known_already_adds_none_of_the_messages(self) -> None:
        self.add(self.owner, new_message("a", "box"))
        again = self.journal.add(
            self.owner, [new_message("b", "box"), new_message("a", "box")]
        )
        self.failureResultOf(again, JournalError)
        self.assertEqual(list(self.messages(self.owner)), ["a"])
        self.assertEqual(len(self.due()), 1)

    def test_same_key_in_another_account_is_another_message(self) -> None:
        self.add(self.owner, new_message("a", "box"))
        other = self.claimed("two")
        self.add(other, new_message("a", "box"))
        self.assertEqual(list(self.messages(other)), ["a"])

    def test_no_messages(self) -> None:
        self.assertEqual(self.add(self.owner), [])

    def test_thousands_of_messages(self) -> None:
        rows = self.add(
            self.owner, *(new_message(f"{n:05}", "box") for n in range(1200))
        )
        self.assertEqual(len({row.id for row in rows}), 1200)
        self.assertEqual(rows[1199].key, "01199")


class ReadingTests(MessageCase):
    def test_slices_are_put_together(self) -> None:
        self.patch(module, "SLICE", 3)
        for count in (3, 4, 3):
            self.add(
                self.owner,
                *(new_message(f"{self.time}-{n}", state=SKIPPED) for n in range(count)),
            )
            self.time += 1
        other = self.claimed("two")
        self.add(other, new_message("x", "box"))
        rows = self.done(self.journal.messages(self.owner))
        self.assertEqual(len(rows), 10)
        self.assertEqual([row.id for row in rows], sorted(row.id for row in rows))

    def test_only_the_states_that_are_wanted(self) -> None:
        self.add(self.owner, new_message("a", "box"), new_message("b", state=SKIPPED))
        rows = self.done(self.journal.messages(self.owner, [SKIPPED]))
        self.assertEqual([row.key for row in rows], ["b"])

    def test_final_deliveries_are_left_out(self) -> None:
        self.add(self.owner, new_message("a", "box", "desk"), new_message("b", "box"))
        self.deliver()
        found = self.done(self.journal.deliveries(self.owner))
        self.assertEqual([each.destination for each in found], ["desk"])


class WorkTests(MessageCase):
    """Whether rows must be read although the listing is the same."""

    def has_work(self) -> bool:
        return self.done(self.journal.has_work(self.owner))

    def test_nothing_to_do(self) -> None:
        self.assertFalse(self.has_work())
        self.add(self.owner, new_message("a", "box"), new_message("b", state=SKIPPED))
        self.assertFalse(self.has_work())
        self.deliver()
        self.assertFalse(self.has_work())

    def test_suspect_is_tried_again(self) -> None:
        self.add(self.owner, new_message("a", state=SUSPECT))
        self.assertTrue(self.has_work())

    def test_message_is_to_be_deleted_when_it_is_time(self) -> None:
        self.add(self.owner, new_message("a", "box"))
        self.deliver(100.0)
        self.assertFalse(self.has_work())
        self.time += 100
        self.assertTrue(self.has_work())
        self.done(self.journal.delete_confirmed(self.owner, [self.one().id]))
        self.assertFalse(self.has_work())

    def test_message_of_another_machine_is_fetched_here(self) -> None:
        self.add(self.owner, new_message("a", "box"))
        there = self.opened(machine="there")
        self.assertTrue(self.done(there.has_work(self.owner)))

    def test_message_that_came_back_is_deleted_again(self) -> None:
        self.add(self.owner, new_message("a", "box"))
        self.deliver(0.0)
        number = self.one().id
        self.done(self.journal.delete_confirmed(self.owner, [number]))
        self.done(self.journal.undeleted(self.owner, [number]))
        self.assertTrue(self.has_work())
        self.done(self.journal.listed(self.owner, absent=[number], forget_after=None))
        self.assertFalse(self.has_work())

    def test_messages_of_other_accounts_do_not_count(self) -> None:
        other = self.claimed("two")
        self.add(other, new_message("a", state=SUSPECT))
        self.assertFalse(self.has_work())


class RetrievalTests(MessageCase):
    def test_suspect_that_is_retrieved_keeps_its_key(self) -> None:
        (row,) = self.add(self.owner, new_message("a", state=SUSPECT, content=None))
        self.time += 5
        new = new_message("other key", "box", size=7, uid="new uid")
        after = self.done(self.journal.retrieved(self.owner, row, new))
        self.assertEqual(
            after,
            attrs.evolve(
                row,
                state=RETRIEVED,
                size=7,
                uid="new uid",
                header_hash="header-other key",
                body_hash="body-other key",
                first_failed=None,
                spool="other key.eml",
            ),
        )
        self.assertEqual(self.one(), after)
        (due,) = self.due()
        self.assertEqual(due.message, after)

    def test_message_without_a_hash_keeps_the_one_it_has(self) -> None:
        (row,) = self.add(self.owner, new_message("a", state=SKIPPED))
        new = new_message("a", "box", content=None)
        after = self.done(self.journal.retrieved(self.owner, row, new))
        self.assertEqual(after.header_hash, "header-a")

    def test_lost_message_is_delivered_where_it_was_not(self) -> None:
        (row,) = self.add(self.owner, new_message("a", "box", "desk", "hook"))
        self.deliver()
        self.begin("desk")
        self.done(self.journal.lost([row.id]))
        after = self.one()
        self.assertEqual((after.state, after.spool), (SUSPECT, ""))
        self.assertEqual((self.due("desk"), self.due("hook")), ([], []))
        new = new_message("a", "box", "desk", "hook")
        self.done(self.journal.retrieved(self.owner, after, new))
        self.assertEqual(self.due("box"), [])
        (due,) = self.due("desk")
        self.assertEqual((due.delivery.attempt, due.message.spool), (1, "a.eml"))
        self.assertEqual(len(self.due("hook")), 1)

    def test_retrieved_message_may_be_delivered_in_the_same_transaction(self) -> None:
        (row,) = self.add(self.owner, new_message("a", "box"))
        self.begin()
        self.done(self.journal.lost([row.id]))
        witness = Witness("/mail/tmp/x")
        begun = NewDelivery("box", DeliveryState.DELIVERING, 1, witness)
        new = new_message("a", spool=None, deliveries=(begun,))
        self.done(self.journal.retrieved(self.owner, self.one(), new))
        (found,) = self.done(self.journal.interrupted())
        # The second attempt: it is flagged.
        self.assertEqual(found.delivery.attempt, 2)
        self.assertEqual(found.delivery.witness, witness)

    def test_message_of_another_machine_is_delivered_from_here(self) -> None:
        (row,) = self.add(self.owner, new_message("a", "box"))
        there = self.opened(machine="there")
        self.assertEqual(self.done(there.due_deliveries("box", 9)), [])
        self.done(there.retrieved(self.owner, row, new_message("a", "box")))
        self.assertEqual(self.due(), [])
        self.assertEqual(len(self.done(there.due_deliveries("box", 9))), 1)
        self.assertEqual(self.done(self.journal.spool_files()), {})

    def test_message_that_was_forgotten_meanwhile_is_an_error(self) -> None:
        (row,) = self.add(self.owner, new_message("a", state=SUSPECT))
        self.done(self.journal.reset("one"))
        owner = self.claimed()
        for change in (
            self.journal.retrieved(owner, row, new_message("a", "box")),
            self.journal.suspect(owner, row, "x", NextRetrieval(1, 1.0)),
        ):
            error = self.failureResultOf(change, JournalError)
            self.assertIn("not in the journal any more", str(error.value))

    def test_lost_message_that_is_final_stays_so(self) -> None:
        (row,) = self.add(self.owner, new_message("a", "box"))
        self.deliver()
        self.done(self.journal.lost([row.id, 12345]))
        self.assertIs(self.one().state, DELIVERED)


class SuspectTests(MessageCase):
    def suspect(self, result: NextRetrieval) -> MessageRow:
        return self.done(
            self.journal.suspect(self.owner, self.one(), "it hangs", result)
        )

    def test_failure_is_noted(self) -> None:
        self.add(self.owner, new_message("a", state=SUSPECT))
        row = self.suspect(NextRetrieval(2, 5.0))
        self.assertEqual(
            (row.state, row.failures, row.first_failed, row.reason, row.body_hash),
            (SUSPECT, 2, 5.0, "it hangs", "body-a"),
        )
        self.assertEqual(self.one(), row)

    def test_last_failure_sets_it_aside_with_its_deliveries(self) -> None:
        (row,) = self.add(self.owner, new_message("a", "box"))
        self.done(self.journal.lost([row.id]))
        self.assertIs(
            self.suspect(NextRetrieval(5, 5.0, set_aside=True)).state, SET_ASIDE
        )
        self.assertEqual(self.done(self.journal.deliveries(self.owner)), [])
        ((_, _, deliveries),) = self.done(self.journal.find_messages([SET_ASIDE]))
        self.assertIs(deliveries[0].state, DeliveryState.SET_ASIDE)

    def test_skipped_message_that_is_wanted_and_fails_is_a_suspect(self) -> None:
        self.add(self.owner, new_message("a", state=SKIPPED))
        self.assertIs(self.suspect(NextRetrieval(0, 5.0)).state, SUSPECT)


class RuleTests(MessageCase):
    def test_suspect_may_be_skipped(self) -> None:
        (row,) = self.add(self.owner, new_message("a", state=SUSPECT))
        self.done(self.journal.skipped(self.owner, {row.id: "rule"}))
        self.assertEqual((self.one().state, self.one().reason), (SKIPPED, "rule"))

    def test_messages_may_be_set_aside(self) -> None:
        (row,) = self.add(self.owner, new_message("a", "box"))
        self.done(self.journal.set_aside(self.owner, {row.id: "lost"}))
        self.assertEqual((self.one().state, self.one().reason), (SET_ASIDE, "lost"))
        self.assertEqual(self.done(self.journal.deliveries(self.owner)), [])

    def test_impossible_change_is_an_error_and_changes_nothing(self) -> None:
        rows = self.add(
            self.owner, new_message("a", state=SUSPECT), new_message("b", "box")
        )
        self.failureResultOf(
            self.journal.skipped(self.owner, {row.id: "x" for row in rows}),
            TransitionError,
        )
        self.assertIs(self.one("a").state, SUSPECT)

    def test_messages_of_other_accounts_are_not_changed(self) -> None:
        other = self.claimed("two")
        (row,) = self.add(other, new_message("a", state=SUSPECT))
        owner = self.owner
        self.done(self.journal.skipped(owner, {row.id: "x"}))
        self.done(self.journal.renamed(owner, {row.id: "x"}))
        self.done(self.journal.listed(owner, absent=[row.id], forget_after=0.0))
        self.assertEqual(self.messages(other), {"a": row})

    def test_sizes_and_times_of_deletion_are_changed(self) -> None:
        (row,) = self.add(self.owner, new_message("a", "box"))
        self.done(self.journal.resized(self.owner, {row.id: 7}))
        self.done(self.journal.delete_times(self.owner, {row.id: 9.0}))
        self.assertEqual((self.one().size, self.one().delete_after), (7, 9.0))
        self.done(self.journal.delete_times(self.owner, {row.id: None}))
        self.assertIs(self.one().delete_after, None)

    def test_nothing_to_change(self) -> None:
        for change in (
            self.journal.renamed(self.owner, {}),
            self.journal.skipped(self.owner, {}),
            self.journal.delete_confirmed(self.owner, []),
            self.journal.undeleted(self.owner, []),
        ):
            self.done(change)


class ForgettingTests(MessageCase):
    """A message is forgotten when missing from ten complete listings, and for long."""

    FORGET = 1000.0

    def setUp(self) -> None:
        super().setUp()
        (self.row,) = self.add(self.owner, new_message("a", "box"))
        self.deliver()

    def listed(self, *absent: int, after: float | None = FORGET) -> list[int]:
        return self.done(
            self.journal.listed(self.owner, absent=absent, forget_after=after)
        )

    def test_missing_message_is_counted(self) -> None:
        began = self.time
        for looks in (1, 2, 3):
            self.listed(self.row.id)
            row = self.one()
            self.assertEqual((row.missing_looks, row.missing_since), (looks, began))
            self.time += 10

    def test_message_that_is_listed_again_is_not_missing(self) -> None:
        self.listed(self.row.id)
        self.done(
            self.journal.listed(
                self.owner, present=[self.row.id], forget_after=self.FORGET
            )
        )
        row = self.one()
        self.assertEqual((row.missing_looks, row.missing_since), (0, None))

    def test_ten_looks_are_not_enough_before_the_time_is_over(self) -> None:
        for _ in range(LOOKS_MISSING + 5):
            self.assertEqual(self.listed(self.row.id), [])

    def test_long_time_is_not_enough_before_ten_looks(self) -> None:
        for _ in range(LOOKS_MISSING - 1):
            self.assertEqual(self.listed(self.row.id), [])
            self.time += self.FORGET
        self.assertEqual(self.listed(self.row.id), [self.row.id])
        self.assertEqual(self.messages(self.owner), {})
        self.assertEqual(self.query("SELECT count(*) FROM delivery"), [(0,)])

    def test_listing_that_has_not_changed_counts_for_what_was_missing(self) -> None:
        self.add(self.owner, new_message("b", state=SKIPPED))
        self.listed(self.row.id)
        self.time += self.FORGET
        for _ in range(LOOKS_MISSING - 1):
            forgotten = self.done(
                self.journal.listed(self.owner, absent=None, forget_after=self.FORGET)
            )
        self.assertEqual(forgotten, [self.row.id])
        self.assertEqual(list(self.messages(self.owner)), ["b"])
        self.assertEqual(self.one("b").missing_looks, 0)

    def test_nothing_is_forgotten_while_the_clock_is_not_trusted(self) -> None:
        self.time += 10 * self.FORGET
        for _ in range(LOOKS_MISSING + 1):
            self.assertEqual(self.listed(self.row.id, after=None), [])
            self.time += self.FORGET

    def forget(self, row: MessageRow) -> list[int]:
        for _ in range(LOOKS_MISSING):
            self.listed(row.id)
        self.time += 2 * self.FORGET
        return self.listed(row.id)

    def test_message_whose_deliveries_wait_is_kept(self) -> None:
        for spool in (Path("/spool/b.eml"), None):
            # Without one, its file is in the tmp of a Maildir.
            (row,) = self.add(self.owner, new_message(f"b {spool}", "box", spool=spool))
            self.assertEqual(self.forget(row), [])

    def test_message_that_was_set_aside_with_a_copy_is_kept(self) -> None:
        (row,) = self.add(self.owner, new_message("b", "box"))
        self.done(self.journal.delivery_set_aside(self.begin(), "no"))
        self.assertEqual(self.forget(row), [])

    def test_message_that_was_set_aside_without_a_copy_is_forgotten(self) -> None:
        (row,) = self.add(self.owner, new_message("b", state=SUSPECT))
        self.done(self.journal.set_aside(self.owner, {row.id: "broken"}))
        self.assertEqual(self.forget(row), [row.id])

    def test_number_of_a_forgotten_message_is_not_given_again(self) -> None:
        self.assertEqual(self.forget(self.row), [self.row.id])
        (row,) = self.add(self.owner, new_message("b", "box"))
        self.assertGreater(row.id, self.row.id)


class DeletionTests(MessageCase):
    def setUp(self) -> None:
        super().setUp()
        (self.row,) = self.add(self.owner, new_message("a", "box"))

    def test_deletion_is_confirmed(self) -> None:
        self.deliver(0.0)
        self.time += 5
        self.done(self.journal.delete_confirmed(self.owner, [self.row.id]))
        self.assertEqual(
            (self.one().state, self.one().deleted_at), (DELETED, self.time)
        )

    def test_message_that_is_not_delivered_cannot_be_deleted(self) -> None:
        self.failureResultOf(
            self.journal.delete_confirmed(self.owner, [self.row.id]), TransitionError
        )

    def test_message_that_came_back_is_counted_and_deleted_again(self) -> None:
        self.deliver(0.0)
        for tries in (1, 2):
            self.done(self.journal.delete_confirmed(self.owner, [self.row.id]))
            self.done(self.journal.undeleted(self.owner, [self.row.id]))
            self.assertEqual(self.one().delete_tries, tries)
            self.assertIs(self.one().state, DELETED)
        self.time += 9
        self.done(self.journal.delete_confirmed(self.owner, [self.row.id]))
        self.assertEqual(self.one().deleted_at, self.time)


class AdministratorTests(MessageCase):
    def test_messages_are_found_with_their_accounts_and_deliveries(self) -> None:
        self.add(self.owner, new_message("a", "box", "desk"))
        other = self.claimed("other")
        self.add(other, new_message("b", state=SUSPECT), new_message("c", "box"))
        found = self.done(self.journal.find_messages([RETRIEVED, SUSPECT]))
        self.assertEqual(
            [
                (name, row.key, [each.destination for each in deliveries])
                for name, row, deliveries in found
            ],
            [
                ("one", "a", ["box", "desk"]),
                ("other", "b", []),
                ("other", "c", ["box"]),
            ],
        )
        found = self.done(self.journal.find_messages([RETRIEVED], ["one", "x"]))
        self.assertEqual([row.key for _, row, _ in found], ["a"])

    def test_message_with_a_copy_is_delivered_again(self) -> None:
        (row,) = self.add(self.owner, new_message("a", "box"))
        self.done(self.journal.delivery_set_aside(self.begin(), "no"))
        self.assertEqual(self.done(self.journal.retry([row.id, 999])), [row.id])
        after = self.one()
        self.assertEqual((after.state, after.reason), (RETRIEVED, ""))
        (due,) = self.due()
        self.assertEqual((due.delivery.refusals, due.delivery.attempt), (0, 1))

    def test_message_without_a_copy_is_retrieved_again(self) -> None:
        (row,) = self.add(self.owner, new_message("a", state=SUSPECT))
        result = NextRetrieval(5, 5.0, set_aside=True)
        self.done(self.journal.suspect(self.owner, row, "it hangs", result))
        self.assertEqual(self.done(self.journal.retry([row.id])), [row.id])
        after = self.one()
        self.assertEqual(
            (after.state, after.failures, after.first_failed), (SUSPECT, 0, None)
        )
        self.assertTrue(self.done(self.journal.has_work(self.owner)))

    def test_single_delivery_is_tried_again(self) -> None:
        (row,) = self.add(self.owner, new_message("a", "box", "desk"))
        self.done(self.journal.delivery_set_aside(self.begin(), "no"))
        self.assertEqual(self.due(), [])
        self.assertEqual(self.done(self.journal.retry([row.id])), [row.id])
        self.assertEqual(len(self.due()), 1)
        self.assertIs(self.one().state, RETRIEVED)

    def test_message_that_is_not_set_aside_is_not_tried_again(self) -> None:
        (row,) = self.add(self.owner, new_message("a", "box"))
        self.assertEqual(self.done(self.journal.retry([row.id])), [])
        self.assertEqual(self.done(self.journal.drop([row.id])), [])

    def test_dropped_message_stays_on_the_server_and_has_no_copy(self) -> None:
        (row,) = self.add(self.owner, new_message("a", "box"))
        self.done(self.journal.delivery_set_aside(self.begin(), "no"))
        self.assertEqual(self.done(self.journal.drop([row.id])), [row.id])
        after = self.one()
        self.assertEqual(
            (after.state, after.reason, after.spool), (SKIPPED, DROPPED, "")
        )
        self.assertEqual(self.done(self.journal.spool_files()), {})
        # It is final: there is nothing left to deliver.
        self.assertEqual(self.done(self.journal.retry([row.id])), [])
        (found,) = self.done(self.journal.find_messages([SKIPPED]))
        self.assertIs(found[2][0].state, DeliveryState.SET_ASIDE)

    def test_files_that_rows_name_are_known(self) -> None:
        witness = Witness("/mail/tmp/x")
        begun = NewDelivery("box", DeliveryState.DELIVERING, 1, witness)
        self.add(
            self.owner,
            new_message("a", "desk"),
            new_message("b", "box"),
            new_message("c", "hook"),
            new_message("d", spool=None, deliveries=(begun,)),
        )
        self.done(self.journal.delivery_set_aside(self.begin("hook"), "no"))
        self.deliver()
        self.assertEqual(
            self.done(self.journal.spool_files()),
            {"a.eml": RETRIEVED, "c.eml": SET_ASIDE, "/mail/tmp/x": RETRIEVED},
        )

    def test_message_without_message_id_is_noted_as_such(self) -> None:
        self.add(
            self.owner, new_message("a", "box", content=Content("h", identified=False))
        )
        self.assertFalse(self.one().identified)
