"""The schedule: when the next look is, and when the next attempt at a delivery."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pop3connect.collect.records import (
    AccountRow,
    AccountState,
    DeliveryRow,
    MessageRow,
)
from pop3connect.collect.schedule import (
    MAX_MESSAGE_REFUSALS,
    MAX_REFUSALS,
    ClockWatch,
    DestinationHealth,
    NextDelivery,
    NextLook,
    NextRetrieval,
    ServerHealth,
    after_failed_retrieval,
    after_failure,
    after_look,
    after_refused_delivery,
    believed,
    must_wait,
    suspect_due,
)
from pop3connect.waits import MAX_DELAY, FailureClass

NOW = 1_700_000_000.0

HOUR = 3600.0

DAY = 24 * HOUR

MIDDLE = 0.5
"""The random number that leaves a wait as it is."""


def account(**more: Any) -> AccountRow:
    values = {"looked_at": NOW - 300, **more}
    return AccountRow(1, "ann", "pop.example.org", "ann", **values)


class LookTests(SynchronousTestCase):
    def wait(
        self,
        row: AccountRow,
        interval: tuple[float, float] = (300, 300),
        random: float = MIDDLE,
        **more: Any,
    ) -> float:
        after = after_look(row, interval, now=NOW, random=random, **more)
        self.assertEqual((after.failures, after.refusals, after.alert), (0, 0, ""))
        return after.due_at - NOW

    def test_next_look_is_one_interval_later_give_or_take_a_twentieth(self) -> None:
        for random, wait in ((0.0, 285), (MIDDLE, 300), (1.0, 315)):
            self.assertAlmostEqual(self.wait(account(), random=random), wait)

    def test_wait_grows_with_the_time_without_mail(self) -> None:
        for ago, wait in (
            (0, 60),
            (120, 60),
            (600, 300),
            (HOUR, 1800),
            (9 * HOUR, 3600),
            (-HOUR, 60),
        ):
            row = account(mail_at=NOW - ago)
            self.assertEqual(self.wait(row, (60, 3600)), wait, ago)

    def test_without_any_mail_only_the_first_wait_is_short(self) -> None:
        self.assertEqual(self.wait(account(looked_at=None), (60, 3600)), 60)
        self.assertEqual(self.wait(account(), (60, 3600)), 3600)

    def test_server_that_has_more_is_looked_at_at_once(self) -> None:
        self.assertEqual(self.wait(account(), at_once=True), 0)

    def test_login_delay_is_always_waited_for(self) -> None:
        row = account(login_delay=900.0)
        for more in ({}, {"at_once": True}, {"delete_at": NOW}):
            for random in (0.0, 1.0):
                self.assertEqual(self.wait(row, random=random, **more), 900)
        self.assertEqual(self.wait(account(login_delay=1e9)), MAX_DELAY)

    def test_look_is_earlier_when_a_message_is_due_to_be_deleted(self) -> None:
        interval = (60.0, 3600.0)
        for delete_at, wait in ((-5, 60), (30, 60), (100, 100), (5000, 3600)):
            self.assertEqual(
                self.wait(account(), interval, delete_at=NOW + delete_at), wait
            )

    def test_success_ends_every_back_off_and_the_need_for_a_person(self) -> None:
        row = account(failures=7, refusals=5, state=AccountState.PERSON)
        after = after_look(row, (300, 300), now=NOW, random=MIDDLE)
        self.assertEqual(after, NextLook(NOW + 300))
        held = after_look(
            account(state=AccountState.HELD), (300, 300), now=NOW, random=MIDDLE
        )
        self.assertIs(held.state, AccountState.HELD)

    @given(
        st.floats(1, 7 * DAY),
        st.floats(1, 7 * DAY),
        st.floats(0, 1),
        st.floats(-1e9, 1e9),
    )
    def test_wait_is_within_the_interval(
        self, one: float, two: float, random: float, ago: float
    ) -> None:
        interval = (min(one, two), max(one, two))
        wait = self.wait(account(mail_at=NOW - ago), interval, random)
        self.assertGreaterEqual(wait, interval[0] * 0.95 - 1e-3)
        self.assertLessEqual(wait, interval[1] * 1.05 + 1e-3)


class FailureTests(SynchronousTestCase):
    def fail_often(
        self,
        kind: FailureClass,
        times: int,
        interval: tuple[float, float] = (300, 300),
        **more: Any,
    ) -> list[float]:
        """Return the waits after failures in a row; the last is in `self.after`."""
        row, now, waits = account(**more), NOW, []
        for _ in range(times):
            after = after_failure(row, interval, kind, now=now, random=MIDDLE)
            waits.append(after.due_at - now)
            now = after.due_at
            row = account(
                failures=after.failures, refusals=after.refusals, state=after.state
            )
            self.after = after
        return waits

    def test_unreachable_server_is_tried_with_waits_up_to_an_hour(self) -> None:
        for kind in FailureClass:
            if kind is FailureClass.LOGIN:
                continue
            self.assertEqual(
                self.fail_often(kind, 6), [300, 600, 1200, 2400, 3600, 3600]
            )
            self.assertEqual((self.after.failures, self.after.refusals), (6, 0))
            self.assertEqual(
                (self.after.state, self.after.alert), (AccountState.OK, "")
            )

    def test_interval_longer_than_an_hour_stays(self) -> None:
        waits = self.fail_often(FailureClass.CONNECTION, 2, (2 * HOUR, 4 * HOUR))
        self.assertEqual(waits, [2 * HOUR, 2 * HOUR])

    def test_refused_login_waits_a_quarter_of_an_hour_doubled_to_six_hours(
        self,
    ) -> None:
        waits = self.fail_often(FailureClass.LOGIN, 7)
        minutes = [15, 30, 60, 120, 240, 360, 360]
        self.assertEqual([wait / 60 for wait in waits], minutes)
        self.assertEqual((self.after.failures, self.after.refusals), (0, 7))

    def test_fifth_refusal_in_a_row_needs_a_person_and_is_told_once(self) -> None:
        self.fail_often(FailureClass.LOGIN, MAX_REFUSALS - 1)
        self.assertEqual((self.after.state, self.after.alert), (AccountState.OK, ""))
        self.fail_often(FailureClass.LOGIN, MAX_REFUSALS)
        self.assertIs(self.after.state, AccountState.PERSON)
        self.assertIn("account ann was refused 5 times in a row", self.after.alert)
        self.assertIn("pop3connect accounts release ann", self.after.alert)
        self.fail_often(FailureClass.LOGIN, MAX_REFUSALS + 1)
        self.assertEqual(
            (self.after.state, self.after.alert), (AccountState.PERSON, "")
        )

    def test_held_account_stays_held_when_its_login_is_refused(self) -> None:
        self.fail_often(FailureClass.LOGIN, 9, state=AccountState.HELD)
        self.assertEqual((self.after.state, self.after.alert), (AccountState.HELD, ""))

    def test_refusal_after_an_outage_waits_as_after_a_first_one(self) -> None:
        self.assertEqual(self.fail_often(FailureClass.LOGIN, 1, failures=20), [900])
        self.assertEqual(self.after.failures, 20)

    def test_many_failures_do_not_overflow(self) -> None:
        waits = self.fail_often(FailureClass.CONNECTION, 1, failures=10**6)
        self.assertEqual(waits, [3600])

    def test_time_that_the_server_wants_is_waited_for(self) -> None:
        for more, wait in (
            ({"retry_after": 900.0}, 900),
            ({"retry_after": 1e12}, MAX_DELAY),
            ({"retry_after": 1.0}, 300),
        ):
            after = after_failure(
                account(),
                (300, 300),
                FailureClass.BUSY,
                now=NOW,
                random=MIDDLE,
                **more,
            )
            self.assertEqual(after.due_at - NOW, wait)
        after = after_failure(
            account(login_delay=900.0),
            (300, 300),
            FailureClass.BUSY,
            now=NOW,
            random=0.0,
        )
        self.assertEqual(after.due_at - NOW, 900)

    def test_waits_vary_by_a_twentieth(self) -> None:
        for random, wait in ((0.0, 285), (1.0, 315)):
            after = after_failure(
                account(), (300, 300), FailureClass.TLS, now=NOW, random=random
            )
            self.assertAlmostEqual(after.due_at - NOW, wait)


class MustWaitTests(SynchronousTestCase):
    def test_back_off_and_schedule_need_not_be_waited_for(self) -> None:
        self.assertEqual(must_wait(account(due_at=NOW + 300, failures=3), NOW), 0)
        self.assertEqual(must_wait(account(looked_at=None), NOW), 0)

    def test_login_delay_counts_from_the_last_look(self) -> None:
        row = account(login_delay=900.0, looked_at=NOW - 300)
        self.assertEqual(must_wait(row, NOW), 600)
        self.assertEqual(must_wait(row, NOW + 600), 0)

    def test_wait_after_a_refused_login_is_honoured(self) -> None:
        row = account(due_at=NOW + 800, refusals=1, login_delay=900.0)
        self.assertEqual(must_wait(row, NOW), 800)
        self.assertEqual(must_wait(row, NOW + 900), 0)

    def test_wait_that_a_clock_set_back_has_made_too_long_is_not_honoured(self) -> None:
        self.assertEqual(must_wait(account(due_at=NOW + DAY, refusals=1), NOW), 0)


class ServerTests(SynchronousTestCase):
    def failed(self, health: ServerHealth, names: str, now: float) -> ServerHealth:
        for name in names:
            health = health.after_failure(name, now, MIDDLE)
        return health

    def test_five_accounts_that_fail_within_a_minute_make_all_wait(self) -> None:
        health = self.failed(ServerHealth(), "ab", NOW)
        health = self.failed(health, "cd", NOW + 59)
        self.assertEqual(health.wait(NOW + 59), 0)
        health = self.failed(health, "e", NOW + 59)
        self.assertEqual(health.wait(NOW + 59), 60)
        self.assertEqual(health.wait(NOW + 119), 0)

    def test_failures_of_one_account_or_over_a_longer_time_do_not(self) -> None:
        health = self.failed(ServerHealth(), "aaaaaaaa", NOW)
        self.assertEqual(health.wait(NOW), 0)
        health = self.failed(health, "bcd", NOW)
        health = self.failed(health, "e", NOW + 60)
        self.assertEqual(health.wait(NOW + 60), 0)
        self.assertEqual(health.failed, (("e", NOW + 60),))

    def test_failure_after_a_wait_makes_a_longer_one_up_to_an_hour(self) -> None:
        health, now, waits = self.failed(ServerHealth(), "abcde", NOW), NOW, []
        for _ in range(8):
            waits.append(health.wait(now))
            now += health.wait(now)
            health = self.failed(health, "a", now)
        self.assertEqual(waits, [60, 120, 240, 480, 960, 1920, 3600, 3600])

    def test_failure_during_a_wait_changes_nothing(self) -> None:
        health = self.failed(ServerHealth(), "abcde", NOW)
        self.assertEqual(self.failed(health, "fghijkl", NOW + 59), health)

    def test_wait_ends_if_the_clock_is_set_back(self) -> None:
        health = self.failed(ServerHealth(), "abcde", NOW)
        self.assertEqual(health.wait(NOW - DAY), 0)


def suspect(**more: Any) -> MessageRow:
    return MessageRow(id=1, account_id=1, key="k", uid="u", size=1, **more)


class SuspectTests(SynchronousTestCase):
    def test_five_failures_over_six_hours_set_a_message_aside(self) -> None:
        row, now, times = suspect(), NOW, []
        for _ in range(5):
            while not suspect_due(row, now):
                now += 60
            times.append((now - NOW) / 60)
            after = after_failed_retrieval(row, now=now, counts=True)
            row = suspect(failures=after.failures, first_failed=after.first_failed)
        self.assertEqual(times, [0, 10, 60, 180, 360])
        self.assertEqual(after, NextRetrieval(5, NOW, set_aside=True))

    def test_fifth_failure_before_six_hours_sets_nothing_aside(self) -> None:
        row = suspect(failures=4, first_failed=NOW)
        after = after_failed_retrieval(row, now=NOW + 6 * HOUR - 1, counts=True)
        self.assertEqual(after, NextRetrieval(5, NOW))
        again = suspect(failures=5, first_failed=NOW)
        self.assertFalse(suspect_due(again, NOW + 6 * HOUR - 1))
        self.assertTrue(suspect_due(again, NOW + 6 * HOUR))
        after = after_failed_retrieval(again, now=NOW + 6 * HOUR, counts=True)
        self.assertTrue(after.set_aside)

    def test_transient_failure_changes_nothing(self) -> None:
        for row in (suspect(), suspect(failures=4, first_failed=NOW)):
            after = after_failed_retrieval(row, now=NOW + DAY, counts=False)
            self.assertEqual(after, NextRetrieval(row.failures, row.first_failed))

    def test_clock_that_was_set_back_neither_delays_nor_hastens(self) -> None:
        row = suspect(failures=4, first_failed=NOW)
        self.assertTrue(suspect_due(row, NOW - DAY))
        after = after_failed_retrieval(row, now=NOW - DAY, counts=True)
        self.assertEqual(after, NextRetrieval(5, NOW - DAY))


class DestinationTests(SynchronousTestCase):
    def test_destination_without_trouble_takes_all(self) -> None:
        self.assertIsNone(DestinationHealth().allowed(NOW))

    def test_trouble_waits_a_second_doubled_to_ten_minutes(self) -> None:
        health, now, waits = DestinationHealth(), NOW, []
        for _ in range(12):
            health = health.after_failure(now, MIDDLE)
            self.assertEqual(health.allowed(now), 0)
            waits.append(health.until - now)
            now = health.until
            self.assertEqual(health.allowed(now), 1)
        self.assertEqual(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600])

    def test_first_success_releases_the_rest(self) -> None:
        health = DestinationHealth().after_failure(NOW, MIDDLE).after_success(NOW + 1)
        self.assertEqual(health, DestinationHealth(taken_at=NOW + 1))
        self.assertIsNone(health.allowed(NOW + 1))

    def test_destination_says_how_long_it_waits_up_to_an_hour(self) -> None:
        for asked, wait in ((30.0, 30), (0.0, 0), (-5.0, 0), (7200.0, 3600)):
            health = DestinationHealth(troubles=9).after_failure(NOW, MIDDLE, asked)
            self.assertEqual(health.until - NOW, wait)
            self.assertEqual(health.allowed(NOW + wait), 1)

    def test_refused_messages_hold_up_others_for_ten_seconds_at_most(self) -> None:
        health, now = DestinationHealth(), NOW
        for _ in range(60):
            health = health.after_failure(now, MIDDLE, refused=True)
            now = health.until
        self.assertLess(now - NOW, 600)

    def test_failure_remembers_when_a_message_was_taken(self) -> None:
        health = DestinationHealth(taken_at=NOW).after_failure(NOW + 5, MIDDLE)
        self.assertEqual(health.taken_at, NOW)

    def test_wait_ends_if_the_clock_is_set_back(self) -> None:
        health = DestinationHealth().after_failure(NOW, MIDDLE)
        self.assertEqual(health.allowed(NOW - DAY), 1)


class RefusalTests(SynchronousTestCase):
    def refuse(
        self, row: DeliveryRow, health: DestinationHealth, now: float, **more: Any
    ) -> NextDelivery:
        more = {"counts": True, "random": MIDDLE, **more}
        return after_refused_delivery(row, health, now=now, **more)

    def test_five_refusals_set_a_message_aside_while_others_are_taken(self) -> None:
        now, after, waits = NOW, NextDelivery(NOW, 0, None), []
        for attempt in range(1, MAX_MESSAGE_REFUSALS + 1):
            self.assertFalse(after.set_aside)
            row = DeliveryRow(
                1,
                "desk",
                attempt=attempt,
                refusals=after.refusals,
                refused_at=after.refused_at,
            )
            after = self.refuse(row, DestinationHealth(taken_at=now), now)
            waits.append((after.next_try - now) / 60)
            now = after.next_try
        self.assertTrue(after.set_aside)
        self.assertEqual(after.refusals, 5)
        self.assertEqual(waits, [1, 2, 4, 8, 10])

    def test_refusal_does_not_count_unless_another_message_was_taken_since(
        self,
    ) -> None:
        row = DeliveryRow(1, "desk", attempt=2, refusals=3, refused_at=NOW)
        for taken_at, refusals in (
            (None, 3),
            (NOW - 1, 3),
            (NOW, 3),
            (NOW + 1, 4),
        ):
            after = self.refuse(row, DestinationHealth(taken_at=taken_at), NOW + 60)
            self.assertEqual(after.refusals, refusals, taken_at)
            self.assertEqual(after.refused_at, NOW + 60)

    def test_later_counts_against_no_message(self) -> None:
        health = DestinationHealth(taken_at=NOW)
        row = DeliveryRow(1, "desk", attempt=1, refusals=3, refused_at=NOW - 60)
        after = self.refuse(row, health, NOW, counts=False)
        self.assertEqual(after, NextDelivery(NOW + 1, 3, NOW - 60))
        row = DeliveryRow(1, "desk", attempt=30)
        after = self.refuse(row, health, NOW, counts=False)
        self.assertEqual(after, NextDelivery(NOW + 600, 0, None))

    def test_time_that_the_destination_asks_for_replaces_the_wait(self) -> None:
        row = DeliveryRow(1, "desk", attempt=9)
        for asked, wait in ((0.0, 0), (5.0, 5), (1e6, 3600)):
            after = self.refuse(row, DestinationHealth(), NOW, retry_after=asked)
            self.assertEqual(after.next_try - NOW, wait)

    def test_waits_vary_by_a_twentieth(self) -> None:
        row = DeliveryRow(1, "desk", attempt=1)
        after = self.refuse(row, DestinationHealth(), NOW, random=1.0)
        self.assertAlmostEqual(after.next_try - NOW, 63)


class ClockTests(SynchronousTestCase):
    def test_what_is_due_later_than_its_longest_wait_is_due_now(self) -> None:
        self.assertEqual(believed(NOW + 300, NOW, 300), NOW + 300)
        self.assertEqual(believed(NOW + 301, NOW, 300), NOW)
        self.assertEqual(believed(NOW - 5, NOW, 300), NOW - 5)

    def test_jump_of_more_than_an_hour_is_distrusted_for_a_day(self) -> None:
        for jump in (-2 * HOUR, 2 * HOUR, -10 * 365 * DAY):
            watch = ClockWatch(NOW, 1000.0)
            self.assertTrue(watch.trusted)
            watch = watch.after(NOW + 60 + jump, 1060.0)
            self.assertFalse(watch.trusted)
            watch = watch.after(NOW + 60 + jump + DAY - 1, 1060 + DAY - 1)
            self.assertFalse(watch.trusted)
            watch = watch.after(NOW + 60 + jump + DAY, 1060 + DAY)
            self.assertTrue(watch.trusted)

    def test_smaller_jump_is_not_noticed(self) -> None:
        for jump in (-HOUR, HOUR):
            watch = ClockWatch(NOW, 1000.0).after(NOW + 60 + jump, 1060.0)
            self.assertTrue(watch.trusted)

    def test_long_pause_of_the_process_is_not_a_jump(self) -> None:
        watch = ClockWatch(NOW, 1000.0).after(NOW + 9 * DAY, 1000.0 + 9 * DAY)
        self.assertTrue(watch.trusted)
