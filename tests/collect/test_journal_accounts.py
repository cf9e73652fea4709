"""
The journal's accounts: schedule, claims, leases and fences, and administrators.
"""

from __future__ import annotations

import os
from typing import Any

import attrs
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from pop3connect.collect import account_sql
from pop3connect.collect.database import Database
from pop3connect.collect.journal import JournalError, LostLeaseError
from pop3connect.collect.records import (
    AccountRow,
    AccountState,
    MessageState,
    NewAccount,
)

from .journals import LEASE, JournalCase, new_message


class ConfigurationTests(JournalCase):
    def test_new_account_is_due_at_once(self) -> None:
        (row,) = self.put("one", settings="s1")
        self.assertEqual(
            (row.name, row.server, row.username, row.settings, row.interval),
            ("one", "pop.example.org", "user", "s1", 300.0),
        )
        self.assertEqual((row.due_at, row.state), (self.time, AccountState.OK))
        self.assertIs(row.looked_at, None)

    def test_rows_come_by_name(self) -> None:
        rows = self.put("b", "a")
        self.assertEqual([row.name for row in rows], ["a", "b"])
        self.assertEqual(self.done(self.journal.accounts()), rows)
        self.assertEqual(self.done(self.journal.accounts(["a", "x"])), rows[:1])
        self.assertEqual(self.done(self.journal.accounts([])), [])

    def test_no_accounts_are_put(self) -> None:
        self.put("one")
        self.assertEqual(self.put(), [])

    def finished(self, **found: Any) -> AccountRow:
        row = self.claimed()
        values = {"due_at": self.time + 300, "looked": True, "listing": "digest"}
        return self.done(self.journal.finish(row, **{**values, **found}))

    def test_same_account_again_keeps_what_is_known_of_it(self) -> None:
        before = self.finished(failures=2, listed=7)
        self.assertEqual(self.put("one"), [before])

    def test_changed_settings_let_all_rows_be_judged_again(self) -> None:
        before = self.finished()
        (after,) = self.put("one", settings="other")
        self.assertEqual(after.listing, "")
        self.assertEqual(after.due_at, before.due_at)
        self.assertEqual(after.looked_at, before.looked_at)

    def test_changed_server_or_user_is_a_migration_that_keeps_the_rows(self) -> None:
        for field in ("server", "username"):
            row = self.claimed(field)
            self.add(row, new_message("a", "box"))
            before = self.done(
                self.journal.finish(
                    row,
                    due_at=self.time + 9999,
                    state=AccountState.PERSON,
                    refusals=5,
                    failures=3,
                    login_delay=900.0,
                    listing="digest",
                    looked=True,
                )
            )
            (after,) = self.put(field, **{field: "other"})
            self.assertEqual(after.id, before.id)
            self.assertEqual((after.refusals, after.failures), (0, 0))
            self.assertEqual((after.login_delay, after.listing), (0.0, ""))
            self.assertIs(after.state, AccountState.OK)
            self.assertEqual(after.due_at, self.time)
            self.assertEqual(after.looked_at, self.time)
            self.assertEqual(list(self.messages(after)), ["a"])

    def test_changed_user_leaves_an_account_held(self) -> None:
        self.put("one")
        self.done(self.journal.hold(["one"]))
        (after,) = self.put("one", username="other")
        self.assertIs(after.state, AccountState.HELD)

    def test_changed_user_leaves_the_lease_of_a_look(self) -> None:
        row = self.claimed()
        (after,) = self.put("one", username="other")
        self.assertEqual((after.due_at, after.fence), (row.due_at, row.fence))

    def test_shorter_interval_counts_at_once(self) -> None:
        self.finished()
        (after,) = self.put("one", interval=10.0)
        self.assertEqual((after.due_at, after.interval), (self.time + 10, 10.0))

    def test_shorter_interval_does_not_end_a_back_off(self) -> None:
        for fields in ({"failures": 1}, {"refusals": 1}, {"login_delay": 200.0}):
            before = self.finished(**{"failures": 0, "refusals": 0, **fields})
            (after,) = self.put("one", interval=10.0)
            self.assertEqual(after.due_at, before.due_at, fields)

    def test_account_that_left_its_file_is_not_claimed_and_comes_back(self) -> None:
        self.put("one", "two")
        self.put("two")
        self.assertEqual(self.account().gone_since, self.time)
        rows = self.done(self.journal.claim(9, LEASE))
        self.assertEqual([row.name for row in rows], ["two"])
        self.put("one", "two")
        self.assertIs(self.account().gone_since, None)

    def test_accounts_of_another_file_stay(self) -> None:
        self.put("one")
        self.done(self.journal.put_accounts([], "other file"))
        self.assertIs(self.account().gone_since, None)

    def test_accounts_that_are_named_leave_their_origin_and_others_stay(self) -> None:
        self.put("one", "two", "three")
        new = NewAccount("four", "pop.example.org", "user", 300.0)
        put = self.journal.put_accounts
        self.done(put([new], "file", left=["one"]))
        self.done(put([], "other file", left=["two"]))
        self.done(put([], "file", left=[]))
        rows = self.done(self.journal.accounts())
        left = [row.name for row in rows if row.gone_since is not None]
        self.assertEqual(left, ["one"])
        self.assertEqual(len(rows), 4)

    def test_origin_of_an_account_is_the_one_that_put_it_last(self) -> None:
        new = NewAccount("one", "pop.example.org", "user", 300.0)
        self.put("one", "two", "gone")
        self.put("one", "two")
        self.done(self.journal.put_accounts([new], "other"))
        ask = self.journal.origins
        self.assertEqual(self.done(ask(["one", "two"])), ["file", "other"])
        self.assertEqual(self.done(ask(["two", "x"])), ["file"])
        self.assertEqual(self.done(ask(["gone"])), [])

    def test_account_is_forgotten_only_when_it_has_been_gone_long_enough(self) -> None:
        row = self.claimed()
        self.add(row, new_message("a", "box"))
        self.put()
        self.time += 100
        self.put()
        self.assertEqual(self.done(self.journal.forget_accounts(100.0)), [])
        self.time += 1
        self.assertEqual(self.done(self.journal.forget_accounts(100.0)), ["one"])
        self.assertEqual(self.query("SELECT count(*) FROM delivery"), [(0,)])


class ClaimTests(JournalCase):
    def claim(self, limit: int = 10, **options: Any) -> dict[str, AccountRow]:
        rows = self.done(self.journal.claim(limit, LEASE, **options))
        return {row.name: row for row in rows}

    def test_claim_sets_owner_fence_and_the_end_of_the_lease(self) -> None:
        self.put("one")
        row = self.claim()["one"]
        self.assertEqual(
            (row.owner, row.fence, row.due_at), ("here", 1, self.time + LEASE)
        )

    def test_claimed_account_is_not_due_until_its_lease_has_ended(self) -> None:
        self.put("one")
        self.claim()
        self.time += LEASE - 1
        self.assertEqual(self.claim(), {})
        self.time += 1
        self.assertEqual(self.claim()["one"].fence, 2)

    def test_longest_overdue_comes_first(self) -> None:
        for name, due in (("late", 30), ("first", 10), ("second", 20)):
            row = self.claimed_now(name)
            self.done(self.journal.finish(row, due_at=self.time + due))
        self.time += 100
        self.assertEqual(list(self.claim(2)), ["first", "second"])
        self.assertEqual(list(self.claim(2)), ["late"])

    def claimed_now(self, name: str) -> AccountRow:
        new = NewAccount(name, "pop.example.org", "user", 300.0)
        self.done(self.journal.put_accounts([new], f"file of {name}"))
        row = self.done(self.journal.claim_now(name, LEASE))
        assert row is not None
        return row

    def test_account_that_is_not_due_is_not_claimed(self) -> None:
        row = self.claimed_now("one")
        self.done(self.journal.finish(row, due_at=self.time + 1))
        self.assertEqual(self.claim(), {})

    def test_only_accounts_of_the_origins_are_claimed(self) -> None:
        self.put("one", "two")
        self.done(self.journal.finish(self.claimed_now("three"), due_at=self.time))
        self.assertEqual(self.claim(origins=[]), {})
        self.assertEqual(self.claim(origins=["other"]), {})
        both = ["file of three", "other"]
        self.assertEqual(set(self.claim(origins=both)), {"three"})
        self.assertEqual(set(self.claim(origins=["file"])), {"one", "two"})

    def test_origin_may_be_a_path_that_is_not_ascii_or_not_utf_8(self) -> None:
        for name, path in (("one", b"/etc/\xc3\xbc.toml"), ("two", b"/etc/\xfc.toml")):
            origin = os.fsdecode(path)
            new = NewAccount(name, "pop.example.org", "user", 300.0)
            self.done(self.journal.put_accounts([new], origin))
            self.assertEqual(self.done(self.journal.origins([name])), [origin])
            self.assertEqual(set(self.claim(origins=[origin])), {name})

    def test_accounts_of_servers_that_are_passed_over_are_not_claimed(self) -> None:
        self.put("one")
        new = NewAccount("two", "pop.example.com", "user", 300.0)
        self.done(self.journal.put_accounts([new], "other"))
        servers = ["pop.example.org", "x"]
        self.assertEqual(set(self.claim(passed_over=servers)), {"two"})
        self.assertEqual(set(self.claim()), {"one"})

    def test_accounts_that_are_not_wanted_do_not_hide_those_after_them(self) -> None:
        for number in range(100):
            self.put_due(f"a{number:02}", number)
        self.time += 200
        wanted = {"a50", "a98", "a99"}
        rows = self.claim(2, wanted=wanted.__contains__)
        self.assertEqual(list(rows), ["a50", "a98"])
        self.assertEqual(list(self.claim(2, wanted=wanted.__contains__)), ["a99"])
        self.assertEqual(self.claim(2, wanted=lambda name: False), {})
        self.assertEqual(len(self.claim(200)), 97)

    def put_due(self, name: str, seconds: float) -> None:
        row = self.claimed_now(name)
        self.done(self.journal.finish(row, due_at=self.time + seconds))

    def test_account_that_is_held_or_needs_a_person_is_not_claimed(self) -> None:
        self.put("one", "two")
        self.done(self.journal.hold(["one"]))
        row = self.claim()["two"]
        self.done(self.journal.finish(row, due_at=self.time, state=AccountState.PERSON))
        self.assertEqual(self.claim(), {})
        for name in ("one", "two"):
            self.assertIs(self.done(self.journal.claim_now(name, LEASE)), None)

    def test_claim_now_takes_an_account_that_is_not_due(self) -> None:
        row = self.claimed_now("one")
        self.done(self.journal.finish(row, due_at=self.time + 9999))
        self.assertEqual(self.claimed_now("one").fence, 2)

    def test_claim_now_leaves_an_account_that_another_machine_holds(self) -> None:
        self.claimed_now("one")
        other = self.opened(machine="there")
        self.assertIs(self.done(other.claim_now("one", LEASE)), None)
        self.time += LEASE
        row = self.done(other.claim_now("one", LEASE))
        assert row is not None
        self.assertEqual((row.owner, row.fence), ("there", 2))

    def test_claim_now_of_an_unknown_account_is_none(self) -> None:
        self.assertIs(self.done(self.journal.claim_now("one", LEASE)), None)

    def test_two_machines_never_claim_the_same_account(self) -> None:
        names = [f"a{number}" for number in range(20)]
        self.put(*names)
        other = self.opened(machine="there")
        found: list[str] = []
        for journal in (self.journal, other) * 5:
            rows = self.done(journal.claim(3, LEASE))
            found += [row.name for row in rows]
        self.assertEqual(sorted(found), sorted(names))


class WorkTests(JournalCase):
    """The work of a claim is that of the accounts that are due."""

    def work(self, accounts: int) -> int:
        """Return how many instructions SQLite runs for a claim, of two that are due."""
        new = [
            NewAccount(f"a{number}", f"s{number % 7}", "user", 300.0)
            for number in range(accounts)
        ]
        self.done(self.journal.put_accounts(new, "file"))
        database = Database(self.path, exclusive=False, wall=self.wall)
        asked: list[str] = []
        steps = 0

        def step() -> int:
            nonlocal steps
            steps += 1
            return 0

        def wanted(name: str) -> bool:
            asked.append(name)
            return True

        with database.connect() as connection, connection.begin():
            connection.exec_driver_sql(
                "UPDATE account SET owner = '', due_at = ?", (self.time + 100,)
            )
            connection.exec_driver_sql(
                "UPDATE account SET due_at = ? WHERE name IN ('a0', 'a1')", (self.time,)
            )
            driver: Any = connection.connection.driver_connection
            driver.set_progress_handler(step, 1)
            rows = account_sql.claim(
                connection, "here", 8, LEASE, ["file"], ["s5", "s6"], wanted
            )
            driver.set_progress_handler(None, 1)
        database.engine.dispose()
        self.assertEqual({row.name for row in rows}, {"a0", "a1"})
        self.assertEqual(set(asked), {"a0", "a1"})
        return steps

    def test_claim_of_many_accounts_is_as_much_work_as_one_of_few(self) -> None:
        few, many = self.work(20), self.work(2000)
        self.assertGreater(few, 50)
        self.assertLess(many, few + 20)


class LeaseTests(JournalCase):
    def taken(self) -> AccountRow:
        """Return a row whose lease has ended, and was taken by another machine."""
        row = self.claimed()
        self.time += LEASE
        other = self.opened(machine="there")
        self.assertEqual(len(self.done(other.claim(1, LEASE))), 1)
        return row

    def test_renewed_lease_lasts_longer(self) -> None:
        row = self.claimed()
        self.time += LEASE - 1
        self.assertEqual(self.done(self.journal.renew([row], LEASE)), frozenset())
        self.assertEqual(self.account().due_at, self.time + LEASE)

    def test_renewing_tells_which_leases_are_lost(self) -> None:
        row = self.taken()
        mine = self.claimed("two")
        lost = self.done(self.journal.renew([row, mine], LEASE))
        self.assertEqual(lost, {row.id})
        self.assertEqual(self.account().owner, "there")

    def test_paused_machine_can_write_nothing_any_more(self) -> None:
        row = self.taken()
        before = self.account()
        journal = self.journal
        message = new_message("a", "box")
        for write in (
            lambda: journal.finish(row, due_at=self.time),
            lambda: journal.add(row, [message]),
            lambda: journal.skipped(row, {1: "rule"}),
            lambda: journal.set_aside(row, {1: "broken"}),
            lambda: journal.renamed(row, {1: "uid"}),
            lambda: journal.resized(row, {1: 5}),
            lambda: journal.delete_times(row, {1: 5.0}),
            lambda: journal.listed(row, absent=[1], forget_after=1.0),
            lambda: journal.delete_confirmed(row, [1]),
            lambda: journal.undeleted(row, [1]),
        ):
            error = self.failureResultOf(write(), LostLeaseError)
            self.assertIn("one", str(error.value))
        self.assertEqual(self.account(), before)
        self.assertEqual(self.messages(row), {})

    def test_account_that_is_given_back_is_due_at_once(self) -> None:
        self.put("one", "two")
        rows = self.done(self.journal.claim(2, LEASE))
        self.time += 1
        self.done(self.journal.give_back(rows))
        for name in ("one", "two"):
            after = self.account(name)
            self.assertEqual((after.owner, after.due_at), ("", self.time))
            self.assertFalse(after.look_wanted)
        self.assertEqual(len(self.done(self.journal.claim(9, LEASE))), 2)

    def test_account_that_is_given_back_is_looked_at_as_it_was_wanted(self) -> None:
        row = self.claimed()
        self.done(self.journal.look_wanted(["one"]))
        self.time += LEASE
        # The look has ended without a word; the next claim takes over what it was for.
        (wanted,) = self.done(self.journal.claim(1, LEASE))
        self.assertTrue(wanted.look_wanted)
        self.done(self.journal.give_back([wanted]))
        self.assertTrue(self.account().look_wanted)
        # Or it is wanted while it is claimed.
        (row,) = self.done(self.journal.claim(1, LEASE))
        row = attrs.evolve(row, look_wanted=False)
        self.done(self.journal.look_wanted(["one"]))
        self.done(self.journal.give_back([row]))
        self.assertTrue(self.account().look_wanted)

    def test_account_that_another_machine_has_claimed_is_not_given_back(self) -> None:
        row = self.taken()
        before = self.account()
        self.done(self.journal.give_back([row]))
        self.assertEqual(self.account(), before)

    def test_account_that_was_removed_is_lost(self) -> None:
        row = self.claimed()
        self.done(self.journal.remove("one"))
        self.failureResultOf(self.journal.finish(row, due_at=1.0), LostLeaseError)
        self.put("one")
        # Its number is not given to another one.
        self.failureResultOf(self.journal.finish(row, due_at=1.0), LostLeaseError)

    def test_leases_of_a_killed_process_are_void_at_the_next_start(self) -> None:
        row = self.claimed()
        again = self.opened(exclusive=True)
        after = self.account()
        self.assertEqual((after.owner, after.due_at), ("", self.time))
        self.assertEqual(after.fence, row.fence + 1)
        self.assertEqual(len(self.done(again.claim(1, LEASE))), 1)
        self.failureResultOf(self.journal.finish(row, due_at=1.0), LostLeaseError)

    def test_leases_stay_when_a_command_opens_the_journal(self) -> None:
        row = self.claimed()
        self.opened()
        self.assertEqual(self.account(), row)


class FinishTests(JournalCase):
    def test_account_is_given_back_with_what_was_found(self) -> None:
        row = self.claimed()
        self.time += 5
        found: dict[str, Any] = {
            "failures": 1,
            "refusals": 2,
            "login_delay": 900.0,
            "expire_days": 30.0,
            "uids_seen": True,
            "uids_changed": 3,
            "uidl_failures": 4,
            "listing": "digest",
            "listed": 5,
            "usual_new": 1.5,
            "error": "text",
            "error_class": "busy",
        }
        after = self.done(
            self.journal.finish(
                row, due_at=self.time + 300, looked=True, mail=True, **found
            )
        )
        for name, value in found.items():
            self.assertEqual(getattr(after, name), value, name)
        self.assertEqual((after.owner, after.due_at), ("", self.time + 300))
        self.assertEqual((after.looked_at, after.mail_at), (self.time, self.time))
        self.assertEqual(after.uidl_failed_at, self.time)
        self.assertEqual(self.account(), after)

    def test_what_is_left_out_stays(self) -> None:
        row = self.claimed()
        before = self.done(
            self.journal.finish(
                row, due_at=self.time, looked=True, mail=True, listing="x", failures=3
            )
        )
        self.time += 10
        row = self.claimed()
        after = self.done(self.journal.finish(row, due_at=self.time + 1))
        self.assertEqual(
            (after.listing, after.failures, after.looked_at, after.mail_at),
            (before.listing, before.failures, before.looked_at, before.mail_at),
        )

    def test_zero_and_empty_text_are_values(self) -> None:
        row = self.claimed()
        self.done(self.journal.finish(row, due_at=0.0, failures=3, error="x"))
        row = self.claimed()
        after = self.done(self.journal.finish(row, due_at=0.0, failures=0, error=""))
        self.assertEqual((after.failures, after.error), (0, ""))

    def test_time_of_uidl_failures_is_that_of_the_first(self) -> None:
        started = self.time
        for failures, since in ((1, started), (2, started), (0, None)):
            row = self.claimed()
            after = self.done(
                self.journal.finish(row, due_at=self.time, uidl_failures=failures)
            )
            self.assertEqual(after.uidl_failed_at, since)
            self.time += 10

    def test_look_that_was_wanted_meanwhile_is_due_now(self) -> None:
        row = self.claimed()
        self.done(self.journal.look_wanted(["one"]))
        self.assertEqual(self.account().due_at, row.due_at)
        after = self.done(self.journal.finish(row, due_at=self.time + 300))
        self.assertEqual((after.due_at, after.look_wanted), (self.time, False))

    def test_state_that_an_administrator_has_set_meanwhile_stays(self) -> None:
        for state in (None, AccountState.OK, AccountState.PERSON):
            row = self.claimed()
            self.done(self.journal.hold(["one"]))
            after = self.done(self.journal.finish(row, due_at=self.time, state=state))
            self.assertIs(after.state, AccountState.HELD)
            self.done(self.journal.release(["one"]))

    def test_text_of_a_server_may_have_any_characters(self) -> None:
        row = self.claimed()
        after = self.done(
            self.journal.finish(row, due_at=0.0, error="a\udc80\0b" + "x" * 5000)
        )
        self.assertEqual(after.error[:10], r"a\udc80\0b"[:10])
        self.assertLess(len(after.error), 1100)


class ClockTests(JournalCase):
    def finished(self, wait: float) -> None:
        row = self.claimed()
        self.done(self.journal.finish(row, due_at=self.time + wait))

    def test_clock_that_is_set_back_makes_waiting_accounts_due(self) -> None:
        self.finished(300)
        self.assertEqual(self.done(self.journal.claim(1, LEASE)), [])
        self.time -= 86400
        self.assertEqual(len(self.done(self.journal.claim(1, LEASE))), 1)

    def test_clock_that_is_set_back_a_little_changes_nothing(self) -> None:
        self.finished(300)
        self.done(self.journal.claim(1, LEASE))
        self.time -= account_sql.CLOCK_SLACK - 1
        self.assertEqual(self.done(self.journal.claim(1, LEASE)), [])

    def test_clock_that_was_set_back_while_nothing_ran_is_noticed_at_start(
        self,
    ) -> None:
        self.finished(300)
        self.time -= 86400
        again = self.opened(exclusive=True)
        self.assertEqual(len(self.done(again.claim(1, LEASE))), 1)

    def test_long_wait_is_not_taken_for_a_clock_that_was_set_back(self) -> None:
        self.finished(6 * 3600)
        again = self.opened(exclusive=True)
        self.time += 6 * 3600 - 1
        self.assertEqual(self.done(again.claim(1, LEASE)), [])

    def test_lease_is_not_ended_by_it(self) -> None:
        row = self.claimed()
        self.time -= 86400
        self.assertEqual(self.done(self.journal.claim(1, LEASE)), [])
        self.assertEqual(self.done(self.journal.renew([row], LEASE)), frozenset())
        self.assertEqual(self.account().due_at, self.time + LEASE)

    def test_deliveries_that_wait_are_due(self) -> None:
        row = self.claimed()
        self.add(row, new_message("a", "box"))
        self.done(
            self.journal.delivery_failed(self.begin(), "no", wait=600.0, counts=True)
        )
        self.assertEqual(self.due(), [])
        self.time -= 86400
        # The first question notices it, and its change is read by the next.
        self.due()
        self.assertEqual(len(self.due()), 1)

    def test_now_is_the_clock(self) -> None:
        self.assertEqual(self.journal.now(), self.time)


class AdministratorTests(JournalCase):
    def test_hold_and_release_name_the_accounts_that_exist(self) -> None:
        self.put("one", "two")
        self.assertEqual(self.done(self.journal.hold(["one", "x"])), ["one"])
        self.assertIs(self.account().state, AccountState.HELD)
        self.assertEqual(self.done(self.journal.release(["one", "x"], "seen")), ["one"])
        after = self.account()
        self.assertIs(after.state, AccountState.OK)
        self.assertEqual(after.released_as, "seen")

    def test_release_forgets_refusals_and_makes_the_account_due(self) -> None:
        row = self.claimed()
        self.done(
            self.journal.finish(
                row, due_at=self.time + 9999, state=AccountState.PERSON, refusals=5
            )
        )
        self.done(self.journal.release(["one"]))
        after = self.account()
        self.assertEqual((after.refusals, after.due_at), (0, self.time))

    def test_way_of_release_counts_until_a_look_has_succeeded(self) -> None:
        self.put("one")
        self.done(self.journal.release(["one"], "new"))
        for looked, left in ((False, "new"), (True, "")):
            row = self.claimed()
            self.assertEqual(row.released_as, "new")
            after = self.done(self.journal.finish(row, due_at=self.time, looked=looked))
            self.assertEqual(after.released_as, left)

    def test_hold_does_not_touch_the_lease(self) -> None:
        row = self.claimed()
        self.done(self.journal.hold(["one"]))
        after = self.account()
        self.assertEqual(
            (after.due_at, after.fence, after.owner), (row.due_at, row.fence, "here")
        )
        self.done(self.journal.finish(row, due_at=self.time))

    def test_wanted_look_makes_an_account_due_that_nobody_holds(self) -> None:
        row = self.claimed()
        self.done(self.journal.finish(row, due_at=self.time + 9999))
        self.assertEqual(self.done(self.journal.look_wanted(["one", "x"])), ["one"])
        self.assertEqual(len(self.done(self.journal.claim(1, LEASE))), 1)

    def test_reset_forgets_messages_and_ends_a_look(self) -> None:
        row = self.claimed()
        self.add(
            row,
            new_message("old", state=MessageState.SKIPPED),
            new_message("waits", "box"),
        )
        self.done(
            self.journal.finish(
                row, due_at=0.0, looked=True, listing="x", listed=2, uids_seen=True
            )
        )
        row = self.claimed()
        self.assertTrue(self.done(self.journal.reset("one")))
        after = self.account()
        self.assertEqual(list(self.messages(row)), ["waits"])
        self.assertIs(after.looked_at, None)
        self.assertEqual((after.listing, after.listed), ("", 0))
        self.assertFalse(after.uids_seen)
        self.assertEqual(after.due_at, self.time)
        self.failureResultOf(self.journal.finish(row, due_at=0.0), LostLeaseError)

    def test_reset_keeps_messages_that_were_set_aside_with_a_copy(self) -> None:
        row = self.claimed()
        gone = new_message("gone", state=MessageState.SUSPECT)
        self.add(row, new_message("kept", "box"), gone)
        (due,) = self.due()
        self.done(self.journal.delivery_set_aside([due.delivery], "refused"))
        self.assertTrue(self.done(self.journal.reset("one")))
        self.assertEqual(list(self.messages(row)), ["kept"])

    def test_rename_keeps_rows_and_keys(self) -> None:
        row = self.claimed()
        self.add(row, new_message("a", "box"))
        self.assertTrue(self.done(self.journal.rename("one", "new")))
        after = self.account("new")
        self.assertEqual((after.id, after.fence), (row.id, row.fence))
        self.assertEqual(list(self.messages(after)), ["a"])

    def test_rename_to_a_name_that_exists_is_refused(self) -> None:
        self.put("one", "two")
        error = self.failureResultOf(self.journal.rename("one", "two"), JournalError)
        self.assertIn("two", str(error.value))

    def test_unknown_names_are_reported(self) -> None:
        self.assertFalse(self.done(self.journal.reset("x")))
        self.assertFalse(self.done(self.journal.rename("x", "y")))
        self.assertFalse(self.done(self.journal.remove("x")))
        self.assertEqual(self.done(self.journal.look_wanted(["x"])), [])

    def test_removed_account_leaves_no_rows(self) -> None:
        row = self.claimed()
        self.add(row, new_message("a", "box"))
        self.assertTrue(self.done(self.journal.remove("one")))
        for table in ("account", "message", "delivery"):
            self.assertEqual(self.query(f"SELECT count(*) FROM {table}"), [(0,)])

    def test_counts_are_by_account_and_state(self) -> None:
        row = self.claimed()
        skipped = MessageState.SKIPPED
        self.add(
            row,
            new_message("a", "box"),
            new_message("b", state=skipped),
            new_message("c", state=skipped),
        )
        self.assertEqual(
            self.done(self.journal.counts()),
            {row.id: {MessageState.RETRIEVED: 1, skipped: 2}},
        )

    def test_machine_is_noted_for_people(self) -> None:
        started = self.time
        for version, sessions in (("1", 0), ("2", 5)):
            self.done(self.journal.machine_seen(version, sessions))
            self.time += 10
        self.assertEqual(
            self.query("SELECT * FROM machine"),
            [("here", started, started + 10, "2", 5)],
        )


class StatementTests(JournalCase):
    """The statements are those of PostgreSQL too."""

    def compiled(self, statement: sa.ClauseElement, dialect: sa.Dialect) -> str:
        return " ".join(str(statement.compile(dialect=dialect)).split())

    def test_claim_on_postgresql_skips_rows_that_others_lock(self) -> None:
        statement = account_sql.due_statement("postgresql", chosen=True)
        text = self.compiled(statement, postgresql.dialect())
        self.assertIn("SELECT account.id, account.name, account.look_wanted", text)
        self.assertTrue(text.endswith("FOR UPDATE SKIP LOCKED"), text)
        self.assertIn("account.state = 'ok'", text)
        self.assertIn("account.origin = ANY (%(origins)s::TEXT[])", text)
        self.assertIn("server != ALL (%(servers)s::TEXT[])", text)
        self.assertIn("extract(epoch from statement_timestamp())", text)
        statement = account_sql.claim_statement("postgresql")
        text = self.compiled(statement, postgresql.dialect())
        self.assertIn("account.id = ANY (%(names)s::BIGINT[])", text)
        self.assertIn("RETURNING account.id", text)

    def test_claim_on_sqlite_has_no_locks(self) -> None:
        statement = account_sql.due_statement("sqlite", chosen=True)
        text = self.compiled(statement, sqlite.dialect())
        self.assertNotIn("LOCKED", text)
        self.assertEqual(text.count("json_each(?)"), 2)

    def test_claim_reads_the_index_of_due_accounts(self) -> None:
        self.put("one")
        for chosen in (False, True):
            plan = self.plan(account_sql.due_statement("sqlite", chosen=chosen))
            self.assertIn("SEARCH account USING INDEX account_due (due_at<?)", plan)
            self.assertNotIn("SCAN account", plan)
            self.assertNotIn("TEMP B-TREE", plan)

    def test_claim_writes_the_rows_by_their_ids(self) -> None:
        plan = self.plan(account_sql.claim_statement("sqlite"))
        self.assertIn("SEARCH account USING INTEGER PRIMARY KEY (rowid=?)", plan)
        self.assertNotIn("SCAN account", plan)

    def plan(self, statement: sa.ClauseElement) -> str:
        text = self.compiled(statement, sqlite.dialect())
        text = text.replace("pop3connect_now()", "?")
        engine = sa.create_engine(f"sqlite:///{self.path}")
        try:
            with engine.connect() as connection:
                rows = connection.exec_driver_sql(
                    f"EXPLAIN QUERY PLAN {text}", (1,) * text.count("?")
                )
                return "\n".join(row[-1] for row in rows)
        finally:
            engine.dispose()
