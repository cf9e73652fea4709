"""
Listings: what of STAT, LIST and UIDL is believed, and when a listing is complete.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence

import attrs
from twisted.trial.unittest import SynchronousTestCase

from pop3connect.collect.inventory import (
    UIDL_LOOKS,
    UIDL_SECONDS,
    UNSTABLE_LOOKS,
    Inventory,
    ListingRefusedError,
    take_inventory,
    uidl_given_up,
)
from pop3connect.collect.records import AccountRow
from pop3connect.errors import CommandError, ConnectionLostError, POP3Error
from pop3connect.results import UID, Listing, Stat

NEW = AccountRow(1, "ada", "pop.example.org", "ada")
"""An account that was never looked at."""

HAD_UIDS = attrs.evolve(NEW, uids_seen=True, looked_at=1.0)
NOW = 1e9


def refused(verb: str, code: str | None = None) -> CommandError:
    return CommandError("no", code=code, verb=verb, server="pop.example.org:995")


def sized(*sizes: int) -> list[Listing]:
    return [Listing(number, size) for number, size in enumerate(sizes, 1)]


def named(*uids: str) -> list[UID]:
    return [UID(number, uid) for number, uid in enumerate(uids, 1)]


def take(
    sizes: Sequence[Listing] | POP3Error,
    uids: Sequence[UID] | POP3Error | None,
    account: AccountRow | None = HAD_UIDS,
    count: int | None = None,
) -> Inventory:
    if count is None:
        count = 2 if isinstance(sizes, POP3Error) else len(sizes)
    return take_inventory(Stat(count, -1), sizes, uids, account, NOW)


class CompleteTests(SynchronousTestCase):
    def test_equal_numbers_in_stat_list_and_uidl_are_complete(self) -> None:
        inventory = take(sized(500, 600), named("a", "b"))
        self.assertEqual(inventory.sizes, {1: 500, 2: 600})
        self.assertEqual(inventory.uids, {1: "a", 2: "b"})
        self.assertTrue(inventory.complete)
        self.assertEqual(inventory.troubles, ())

    def test_order_and_holes_do_not_matter(self) -> None:
        inventory = take([Listing(7, 500), Listing(3, 600)], [UID(3, "b"), UID(7, "a")])
        self.assertTrue(inventory.complete)

    def test_fewer_or_more_than_stat_counts_is_incomplete(self) -> None:
        for count in (0, 1, 3):
            inventory = take(sized(500, 600), named("a", "b"), count=count)
            self.assertFalse(inventory.complete)
            self.assertEqual(len(inventory.troubles), 1)

    def test_list_shorter_than_uidl_is_incomplete(self) -> None:
        inventory = take(sized(500), named("a", "b"), count=2)
        self.assertFalse(inventory.complete)
        self.assertEqual(inventory.uids, {1: "a"})
        self.assertFalse(take(sized(500), named("a", "b"), count=1).complete)

    def test_uidl_shorter_than_list_is_incomplete(self) -> None:
        inventory = take(sized(500, 600), named("a"))
        self.assertFalse(inventory.complete)
        self.assertEqual(inventory.uids, {1: "a"})
        self.assertIn("leaves out", " ".join(inventory.troubles))

    def test_other_numbers_in_uidl_are_incomplete(self) -> None:
        self.assertFalse(take(sized(500, 600), [UID(1, "a"), UID(3, "c")]).complete)

    def test_repeated_numbers_are_incomplete(self) -> None:
        two = [Listing(1, 500), Listing(1, 500)]
        self.assertFalse(take(two, [UID(1, "a")], count=1).complete)
        self.assertFalse(take(sized(500), [UID(1, "a"), UID(1, "b")], count=1).complete)

    def test_stat_refused_is_incomplete_and_the_rest_is_believed(self) -> None:
        inventory = take_inventory(None, sized(500), named("a"), HAD_UIDS, NOW)
        self.assertFalse(inventory.complete)
        self.assertEqual(inventory.uids, {1: "a"})
        self.assertEqual(inventory.troubles, ("STAT was refused",))

    def test_bytes_of_stat_are_ignored(self) -> None:
        inventory = take_inventory(Stat(1, 0), sized(500), named("a"), HAD_UIDS, NOW)
        self.assertTrue(inventory.complete)

    def test_empty_mailbox_is_complete_though_list_or_uidl_is_refused(self) -> None:
        empty: list[UID] = []
        for sizes in (sized(), refused("LIST", "SYS/TEMP")):
            for uids in (empty, refused("UIDL"), refused("UIDL", "IN-USE"), None):
                inventory = take(sizes, uids, count=0)
                self.assertTrue(inventory.complete)
                self.assertTrue(inventory.digest)
                self.assertEqual(inventory.sizes, {})

    def test_stat_0_with_messages_in_list_is_incomplete(self) -> None:
        inventory = take(sized(500), named("a"), count=0)
        self.assertFalse(inventory.complete)
        self.assertEqual(inventory.sizes, {1: 500})


class RefusedTests(SynchronousTestCase):
    def refusal(
        self,
        sizes: Sequence[Listing] | POP3Error,
        uids: Sequence[UID] | POP3Error | None,
        account: AccountRow | None = HAD_UIDS,
        count: int | None = None,
    ) -> ListingRefusedError:
        with self.assertRaises(ListingRefusedError) as raised:
            take(sizes, uids, account, count)
        error: ListingRefusedError = raised.exception
        return error

    def test_list_refused_ends_the_look(self) -> None:
        error = refused("LIST")
        raised = self.refusal(error, named("a", "b"))
        self.assertIs(raised.refusal, error)
        self.assertIs(raised.__cause__, error)
        self.assertEqual((raised.verb, raised.server), ("LIST", "pop.example.org:995"))

    def test_list_refused_after_stat_was_refused_ends_the_look(self) -> None:
        self.assertRaises(
            ListingRefusedError,
            take_inventory,
            *(None, refused("LIST"), refused("UIDL"), NEW, NOW),
        )

    def test_uidl_refused_for_a_while_ends_the_look_at_any_account(self) -> None:
        for code in ("SYS/TEMP", "SYS/PERM", "SYS", "IN-USE"):
            for account in (NEW, HAD_UIDS, None):
                raised = self.refusal(sized(500), refused("UIDL", code), account)
                self.assertEqual(raised.verb, "UIDL")

    def test_uidl_cut_ends_the_look_at_any_account(self) -> None:
        cut = ConnectionLostError("cut", verb="UIDL")
        for account in (NEW, HAD_UIDS, None):
            self.refusal(sized(500), cut, account)
            self.refusal([], cut, account)

    def test_session_that_ends_in_uidl_counts_as_uidl_refused(self) -> None:
        # LIST, which was sent after it, fails with the same session.
        uids = ConnectionLostError("cut", verb="UIDL")
        raised = self.refusal(ConnectionLostError("cut", verb="LIST"), uids)
        self.assertEqual((raised.verb, raised.refusal), ("UIDL", uids))
        # Both answered: it is LIST that ends the look.
        raised = self.refusal(refused("LIST"), refused("UIDL"))
        self.assertEqual(raised.verb, "LIST")

    def test_list_cut_in_an_empty_mailbox_ends_the_look(self) -> None:
        self.refusal(ConnectionLostError("cut", verb="LIST"), [], count=0)

    def test_uidl_refused_where_it_worked_before_ends_the_look(self) -> None:
        self.refusal(sized(500), refused("UIDL"))

    def test_uidl_refused_without_an_account_raises(self) -> None:
        self.refusal(sized(500), refused("UIDL"), None)

    def test_uidl_refused_where_it_never_worked_is_a_server_without_it(self) -> None:
        for account in (NEW, attrs.evolve(NEW, looked_at=1.0, listed=30)):
            for uids in (refused("UIDL"), refused("UIDL", "NOPE"), None):
                inventory = take(sized(500, 600), uids, account)
                self.assertEqual(inventory.uids, {})
                self.assertTrue(inventory.complete)
                self.assertEqual(inventory.digest, "")
                self.assertIn("no UIDL", inventory.troubles[0])

    def test_server_without_uidl_needs_no_account(self) -> None:
        inventory = take(sized(500, 600), None, None)
        self.assertEqual((inventory.uids, inventory.complete), ({}, True))
        self.assertFalse(take(sized(500), None, None, count=2).complete)

    def test_uidl_is_given_up_after_five_looks_over_a_day(self) -> None:
        failing = attrs.evolve(
            HAD_UIDS, uidl_failures=UIDL_LOOKS, uidl_failed_at=NOW - UIDL_SECONDS
        )
        self.assertTrue(uidl_given_up(failing, NOW))
        for uids in (
            refused("UIDL"),
            refused("UIDL", "SYS/TEMP"),
            ConnectionLostError("cut"),
        ):
            inventory = take(sized(500, 600), uids, failing)
            self.assertEqual(inventory.sizes, {1: 500, 2: 600})
            self.assertEqual(inventory.uids, {})
            # Nothing may be forgotten on such a listing.
            self.assertFalse(inventory.complete)

    def test_uidl_is_not_given_up_earlier(self) -> None:
        for early in (
            attrs.evolve(
                HAD_UIDS,
                uidl_failures=UIDL_LOOKS - 1,
                uidl_failed_at=NOW - UIDL_SECONDS,
            ),
            attrs.evolve(
                HAD_UIDS,
                uidl_failures=UIDL_LOOKS,
                uidl_failed_at=NOW - UIDL_SECONDS + 1,
            ),
            attrs.evolve(HAD_UIDS, uidl_failures=UIDL_LOOKS),
        ):
            self.assertFalse(uidl_given_up(early, NOW))
            self.refusal(sized(500), refused("UIDL"), early)

    def test_uidl_that_works_again_is_used_again(self) -> None:
        failing = attrs.evolve(HAD_UIDS, uidl_failures=9, uidl_failed_at=0.0)
        self.assertEqual(take(sized(500), named("a"), failing).uids, {1: "a"})

    def test_error_survives_pickling(self) -> None:
        raised = self.refusal(refused("LIST"), [])
        copy = pickle.loads(pickle.dumps(raised))
        self.assertEqual(str(copy), str(raised))
        self.assertEqual(copy.refusal.verb, "LIST")


class BelievedTests(SynchronousTestCase):
    def test_blank_uids_are_not_believed(self) -> None:
        inventory = take(sized(1, 2, 3), named("", "b", "  "))
        self.assertEqual(inventory.uids, {2: "b"})
        self.assertTrue(inventory.complete)
        self.assertEqual(inventory.digest, "")
        self.assertEqual(len(inventory.troubles), 1)
        self.assertIn("blank", inventory.troubles[0])

    def test_uids_that_occur_twice_are_not_believed(self) -> None:
        inventory = take(sized(1, 2, 3), named("a", "b", "a"))
        self.assertEqual(inventory.uids, {2: "b"})
        self.assertTrue(inventory.complete)
        self.assertEqual(inventory.digest, "")
        self.assertEqual(len(inventory.troubles), 1)
        self.assertIn("same unique-id", inventory.troubles[0])

    def test_uid_of_70_octets_is_kept(self) -> None:
        self.assertEqual(take(sized(1), named("u" * 70)).uids, {1: "u" * 70})

    def test_overlong_uids_are_replaced_by_their_hash(self) -> None:
        inventory = take(sized(1, 2), named("u" * 71, "u" * 72))
        one, two = inventory.uids[1], inventory.uids[2]
        self.assertEqual((len(one), len(two)), (64, 64))
        self.assertNotEqual(one, two)
        self.assertEqual(take(sized(9), named("u" * 71)).uids, {1: one})

    def test_uids_that_are_not_printable_ascii_are_replaced_by_their_hash(self) -> None:
        uids = named("a\udce4", "a\x00", "\u20ac")
        inventory = take(sized(1, 2, 3), uids)
        self.assertEqual({len(uid) for uid in inventory.uids.values()}, {64})
        self.assertEqual(len(set(inventory.uids.values())), 3)

    def test_uids_with_blanks_in_them_are_kept(self) -> None:
        self.assertEqual(take(sized(1), named("a b")).uids, {1: "a b"})

    def test_uids_that_are_the_message_numbers_are_not_believed(self) -> None:
        inventory = take(sized(500, 600), named("1", "2"))
        self.assertEqual(inventory.uids, {})
        self.assertTrue(inventory.complete)
        self.assertTrue(inventory.digest)
        self.assertIn("message numbers", inventory.troubles[0])

    def test_one_uid_that_is_not_its_number_makes_all_believed(self) -> None:
        inventory = take(sized(500, 600), named("1", "3"))
        self.assertEqual(inventory.uids, {1: "1", 2: "3"})

    def test_uids_that_changed_three_looks_in_a_row_are_not_believed(self) -> None:
        account = attrs.evolve(HAD_UIDS, uids_changed=UNSTABLE_LOOKS)
        inventory = take(sized(500), named("a"), account)
        self.assertEqual(inventory.uids, {})
        self.assertIn("differ in each session", inventory.troubles[0])
        account = attrs.evolve(HAD_UIDS, uids_changed=UNSTABLE_LOOKS - 1)
        self.assertEqual(take(sized(500), named("a"), account).uids, {1: "a"})


class DigestTests(SynchronousTestCase):
    def test_equal_complete_listing_is_unchanged(self) -> None:
        inventory = take(sized(500, 600), named("a", "b"))
        account = attrs.evolve(HAD_UIDS, listing=inventory.digest)
        again = take(sized(500, 600)[::-1], named("a", "b")[::-1])
        self.assertTrue(again.unchanged(account))
        self.assertFalse(again.unchanged(HAD_UIDS))

    def test_every_change_shows(self) -> None:
        digests = {
            take(sized(500, 600), named("a", "b")).digest,
            take(sized(500, 601), named("a", "b")).digest,
            take(sized(500, 600), named("a", "c")).digest,
            take(sized(500, 600), named("b", "a")).digest,
            take(sized(500), named("a")).digest,
            take([], []).digest,
            take([Listing(1, 500), Listing(3, 600)], [UID(1, "a"), UID(3, "b")]).digest,
            take(sized(500, 600), named("1", "2")).digest,
        }
        self.assertEqual(len(digests), 8)

    def test_incomplete_listing_is_never_unchanged(self) -> None:
        inventory = take(sized(500), named("a"), count=2)
        self.assertEqual(inventory.digest, "")
        self.assertFalse(inventory.unchanged(HAD_UIDS))

    def test_listing_of_message_numbers_is_unchanged_while_all_sizes_are(self) -> None:
        inventory = take(sized(500, 600), named("1", "2"))
        account = attrs.evolve(HAD_UIDS, listing=inventory.digest)
        self.assertTrue(take(sized(500, 600), named("1", "2")).unchanged(account))
        self.assertFalse(take(sized(600, 500), named("1", "2")).unchanged(account))
