"""The rules: which messages are fetched, which are too short, which are deleted."""

from __future__ import annotations

import fnmatch
import time
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pop3connect.collect import rules as rules_module
from pop3connect.collect.records import MessageRow, MessageState
from pop3connect.collect.rules import (
    FIRST_LOOK,
    MAX_MATCHED,
    MAX_TEXTS,
    HeaderPattern,
    Rules,
    date_of,
)
from pop3connect.collect.settings import AccountSettings
from pop3connect.headers import MAX_DATE, MAX_HEADER

DAY = 24 * 3600.0

NOW = 1_700_000_000.0
"""Tue, 14 Nov 2023 22:13:20 +0000"""


def pattern(text: str) -> HeaderPattern:
    found = HeaderPattern.parse(text)
    assert found is not None, text
    return found


def patterns(*texts: str) -> tuple[HeaderPattern, ...]:
    return tuple(map(pattern, texts))


def judged(rules: Rules, header: bytes, first_look: bool = False) -> str:
    return rules.judge(header, now=NOW, first_look=first_look)


def date(seconds: float) -> bytes:
    """Return a date this many seconds before now."""
    return time.strftime(
        "%a, %d %b %Y %H:%M:%S +0000", time.gmtime(NOW - seconds)
    ).encode()


class PatternTests(SynchronousTestCase):
    def fits(self, text: str, header: bytes) -> bool:
        return not judged(Rules(match=patterns(text)), header)

    def watch(self, owner: Any, name: str) -> list[int]:
        """Return a list that receives the lengths of what a function is given."""
        lengths: list[int] = []
        real = getattr(owner, name)

        def watched(*arguments: Any) -> Any:
            lengths.append(len(arguments[-1]))
            return real(*arguments)

        self.patch(owner, name, watched)
        return lengths

    def test_stars_and_question_marks_stand_for_text(self) -> None:
        for text, fits in (
            ("Subject: invoice 7", True),
            ("subject: INVOICE ?", True),
            ("Subject:*", True),
            ("Subject: invoice", False),
            ("Subject: nvoice*", False),
            ("Subject: inv*7", True),
            ("Subject: *v*i*e*", True),
            ("Subject: *v*i*e*i*", False),
            ("Subject: invoice 7*7", False),
            ("Subject: inv*invoice*", False),
            ("Subject: *oice ?", True),
            ("Subject: *oice ??", False),
            ("Subject: ?????????", True),
            ("Subject: x*", False),
            ("Subject: [a-z]nvoice 7", False),
            ("X-Other: *", False),
        ):
            self.assertEqual(self.fits(text, b"Subject: Invoice 7\r\n\r\n"), fits, text)

    @given(st.text("ab?*.", max_size=6), st.text("ab.\n", max_size=8))
    def test_patterns_fit_as_those_of_fnmatch(self, glob: str, text: str) -> None:
        expected = fnmatch.fnmatchcase(text, glob)
        self.assertEqual(HeaderPattern("Subject", glob).fits(text), expected)

    def test_address_alone_counts_in_a_field_with_addresses(self) -> None:
        for header in (
            b"From: ann@example.org\r\n",
            b"FROM: Ann Lee <ann@example.org>\r\n",
            b'From: "Lee, Ann" <Ann@Example.ORG> (office)\r\n',
            b"From: ann@example.org (Ann Lee)\r\n",
            b"From: bob@example.com,\r\n ann@example.org\r\n",
            b"From: bob@example.com\r\nFrom: <ann@example.org>\r\n",
            b"From: team: bob@example.com, < ann@example.org >;\r\n",
        ):
            self.assertTrue(self.fits("From: *@example.org", header), header)

    def test_name_that_looks_like_an_address_does_not_count(self) -> None:
        for header in (
            b'From: "ann@example.org" <bob@example.com>\r\n',
            b'From: "<ann@example.org>" <bob@example.com>\r\n',
            b"From: =?utf-8?q?=3Cann=40example.org=3E?= <bob@example.com>\r\n",
            b"From: bob@example.com (<ann@example.org>)\r\n",
            b'From: bob@example.com "<ann@example.org>\r\n',
            b"Subject: <ann@example.org>\r\n",
        ):
            self.assertFalse(self.fits("From: *@example.org", header), header)
            self.assertFalse(self.fits("Subject: ann*", header), header)

    def test_field_is_decoded_and_unfolded(self) -> None:
        header = b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\t  aus\r\n Wien\r\n"
        self.assertTrue(self.fits("Subject: grüße aus wien", header))
        self.assertTrue(self.fits("Subject: GRÜSSE*", header))

    def test_text_without_a_colon_or_a_pattern_is_none(self) -> None:
        for text in (
            "",
            "From",
            "From:",
            "From: ",
            ": x",
            "From x: y",
            "Fröm: x",
            None,
            7,
        ):
            self.assertIsNone(HeaderPattern.parse(text), text)
        self.assertIsNone(HeaderPattern.parse("From: " + "x" * 1001))

    def test_pattern_is_shown_as_it_is_written(self) -> None:
        self.assertEqual(str(pattern(" From :  *@a.example ")), "From: *@a.example")

    def test_only_bounded_parts_of_hostile_headers_are_looked_at(self) -> None:
        decoded = self.watch(rules_module, "decode_words")
        dates = self.watch(rules_module, "parsedate_to_datetime")
        fitted = self.watch(HeaderPattern, "fits")
        rules = Rules(
            match=patterns("From: *@example.org", "To: *a*b*c*d*?e*"),
            skip=patterns("Subject: *a?a?a?a?a?b*"),
            newer_than=DAY,
        )
        for header in (
            b"From: " + b'"' * 4000,
            b"From: " + b'"' * 3_000_000,
            b'From: "' + b"\\" * 3_000_000,
            b"From: " + b"(<" * 200_000,
            b"From: " + b"," * 400_000,
            (b"From: " + b"a," * 20_000 + b"\n") * 8,
            b"From:\n" * 50_000,
            b"To: " + b"=?utf-8?q?a?= " * 200_000,
            b"Subject: " + b"a" * 500_000,
            b"Received: " + b";" * 500_000 + b"\nDate: " + b"1 " * 500_000,
            b"Received: from a;" + b"1 " * 500_000,
            b"Date: " + b"1 " * 500_000,
            (b"Subject: " + b"a" * 60_000 + b"\n") * 8,
            b"x" * 3_000_000,
        ):
            for each in (decoded, dates, fitted):
                each.clear()
            judged(rules, header)
            with self.subTest(header=header[:20]):
                self.assertLessEqual(max(decoded, default=0), MAX_MATCHED)
                self.assertLessEqual(sum(decoded), MAX_HEADER)
                self.assertLessEqual(max(dates, default=0), MAX_DATE)
                self.assertLessEqual(len(dates), 2)
                self.assertLessEqual(len(fitted), 3 * MAX_TEXTS)
                # The whole of a field, and its addresses.
                self.assertLessEqual(sum(fitted), 3 * 2 * MAX_HEADER)

    def test_only_the_beginning_of_a_long_field_counts(self) -> None:
        header = b"Subject: " + b"a" * MAX_MATCHED + b"end\r\n"
        self.assertTrue(self.fits("Subject: a*", header))
        self.assertFalse(self.fits("Subject: *end", header))
        several = b"To: a@example.org\r\n" * MAX_TEXTS + b"To: ann@example.org\r\n"
        self.assertFalse(self.fits("To: ann@*", several))


class DateTests(SynchronousTestCase):
    def test_top_received_field_counts_before_the_date(self) -> None:
        header = (
            b"Delivered-To: ann\r\nReceived: from a (b; c)\r\n\tby d with e; "
            + date(60)
            + b"\r\nReceived: by f; "
            + date(7200)
            + b"\r\nDate: "
            + date(DAY)
            + b"\r\n"
        )
        self.assertEqual(date_of(header), NOW - 60)

    def test_date_counts_if_received_has_none(self) -> None:
        for received in (b"", b"Received: by x\r\n", b"Received: by x; yesterday\r\n"):
            self.assertEqual(date_of(received + b"Date: " + date(60)), NOW - 60)

    def test_date_without_an_offset_is_utc(self) -> None:
        self.assertEqual(date_of(b"Date: " + date(0)[:-5] + b"-0000"), NOW)

    def test_date_that_cannot_be_read_is_unknown(self) -> None:
        for value in (
            b"",
            b"Date:",
            b"Date: soon",
            b"Date: \xff",
            b"Date: " + b"9" * 400,
        ):
            self.assertIsNone(date_of(value))


class JudgeTests(SynchronousTestCase):
    def test_without_rules_everything_is_wanted_and_no_header_is_needed(self) -> None:
        self.assertEqual(judged(Rules(), b"", first_look=True), "")
        self.assertFalse(Rules().needs_header(first_look=True))

    def test_header_is_needed_for_the_rules_that_read_it(self) -> None:
        for rules, first, later in (
            (Rules(match=patterns("From: *")), True, True),
            (Rules(skip=patterns("From: *")), True, True),
            (Rules(newer_than=DAY), True, True),
            (Rules(existing=DAY), True, False),
            (Rules(existing="seen", max_size=1), False, False),
        ):
            self.assertEqual(rules.needs_header(first_look=True), first, rules)
            self.assertEqual(rules.needs_header(first_look=False), later, rules)

    def test_existing_seen_skips_all_of_the_first_look(self) -> None:
        rules = Rules(existing="seen")
        self.assertEqual(judged(rules, b"", True), 'first look: existing = "seen"')
        self.assertEqual(judged(rules, b""), "")

    def test_existing_days_skip_older_messages_of_the_first_look(self) -> None:
        rules = Rules(existing=7 * DAY, match=patterns("From: *"))
        old, new = b"Date: " + date(8 * DAY), b"From: a\r\nDate: " + date(6 * DAY)
        self.assertEqual(judged(rules, old, True), "first look: older than 7 days")
        self.assertEqual(judged(rules, new, True), "")
        self.assertEqual(judged(Rules(existing=7 * DAY), old), "")
        self.assertEqual(judged(Rules(existing=7 * DAY), new, True), "")

    def test_newer_than_skips_older_messages(self) -> None:
        rules = Rules(newer_than=30 * DAY)
        self.assertEqual(
            judged(rules, b"Date: " + date(31 * DAY)), "newer_than = 30 days"
        )
        self.assertEqual(judged(rules, b"Date: " + date(29 * DAY)), "")
        self.assertEqual(judged(rules, b"Date: " + date(-DAY)), "")
        self.assertEqual(judged(rules, b"Date: soon"), "")

    def test_skip_counts_before_match(self) -> None:
        rules = Rules(
            match=patterns("From: *@example.org", "Subject: *order*"),
            skip=patterns("Subject: *spam*", "X-Spam: yes"),
        )
        ann = b"From: ann@example.org\r\n"
        self.assertEqual(judged(rules, ann + b"Subject: hello\r\n"), "")
        self.assertEqual(judged(rules, b"From: b\r\nSubject: an order\r\n"), "")
        self.assertEqual(
            judged(rules, ann + b"Subject: spam\r\n"), 'skip = "Subject: *spam*"'
        )
        self.assertEqual(
            judged(rules, ann + b"X-Spam: YES\r\n"), 'skip = "X-Spam: yes"'
        )
        self.assertEqual(
            judged(rules, b"From: bob@example.com\r\n"),
            'match = ["From: *@example.org", "Subject: *order*"]',
        )
        self.assertEqual(judged(Rules(skip=rules.skip), b"From: b\r\n"), "")

    def test_larger_messages_are_left(self) -> None:
        rules = Rules(max_size=50_000_000)
        self.assertEqual(rules.leaves(50_000_000), "")
        self.assertEqual(rules.leaves(50_000_001), "max_size = 50 MB")
        self.assertEqual(Rules().leaves(10**12), "")

    def test_skipped_message_is_judged_again_when_its_rule_has_changed(self) -> None:
        rules = Rules(
            match=patterns("From: *@example.org"),
            skip=patterns("Subject: a", "Subject: b"),
            newer_than=30 * DAY,
            max_size=50_000_000,
        )
        reasons = (
            rules.leaves(10**9),
            judged(rules, b"Subject: a\r\n"),
            judged(rules, b"Subject: b\r\n"),
            judged(rules, b"Date: " + date(31 * DAY)),
            judged(rules, b"From: b\r\n"),
        )
        self.assertEqual(len(set(reasons)), 5)
        others = Rules(
            match=patterns("From: *@example.com"),
            skip=patterns("Subject: c"),
            newer_than=31 * DAY,
            max_size=60_000_000,
        )
        for reason in reasons:
            self.assertTrue(rules.stands(reason), reason)
            self.assertFalse(others.stands(reason), reason)
            self.assertFalse(Rules().stands(reason), reason)

    def test_first_look_and_an_administrators_word_stand_whatever_the_rules(
        self,
    ) -> None:
        first = judged(Rules(existing="seen"), b"", True)
        self.assertTrue(first.startswith(FIRST_LOOK))
        self.assertTrue(Rules().stands(first))
        self.assertTrue(Rules().stands("released as seen"))

    def test_rules_are_those_of_the_settings(self) -> None:
        settings = AccountSettings(
            name="ann",
            server="pop.example.org",
            user="ann",
            password="looking-glass",
            after="delete after 14 days",
            match=["From: *@example.org"],
            newer_than="30 days",
            existing="last 7 days",
            max_size="50 MB",
            list_sizes="estimate",
        )
        self.assertEqual(
            Rules.of(settings),
            Rules(
                after=14 * DAY,
                match=patterns("From: *@example.org"),
                newer_than=30 * DAY,
                existing=7 * DAY,
                max_size=50_000_000,
                list_sizes="estimate",
            ),
        )


class ShortTests(SynchronousTestCase):
    def test_empty_body_is_short_whatever_list_says(self) -> None:
        for rules in (Rules(), Rules(list_sizes="estimate")):
            for listed in (0, 1, 10**9):
                self.assertTrue(rules.is_short(listed, 0, 0))

    def test_less_than_nine_tenths_are_short(self) -> None:
        self.assertTrue(Rules().is_short(1000, 899, 20))
        self.assertFalse(Rules().is_short(1000, 900, 20))

    def test_more_than_the_slack_and_a_byte_per_line_missing_is_short(self) -> None:
        self.assertFalse(Rules().is_short(1_000_000, 1_000_000 - 4096 - 50, 50))
        self.assertTrue(Rules().is_short(1_000_000, 1_000_000 - 4096 - 51, 50))

    def test_longer_and_unknown_sizes_are_normal(self) -> None:
        self.assertFalse(Rules().is_short(1000, 5000, 20))
        self.assertFalse(Rules().is_short(0, 5000, 20))

    def test_estimates_are_not_compared(self) -> None:
        self.assertFalse(Rules(list_sizes="estimate").is_short(1000, 1, 1))


def row(**more: Any) -> MessageRow:
    values = {"state": MessageState.DELIVERED, "delivered_at": NOW, **more}
    return MessageRow(id=1, account_id=1, key="k", uid="u", size=1, **values)


class DeleteTests(SynchronousTestCase):
    def test_kept_messages_are_never_deleted(self) -> None:
        for rules in (Rules(), Rules(after="keep", fetch="header")):
            self.assertIsNone(rules.delete_after(NOW))
            self.assertFalse(rules.deletable(row(), NOW + 1000 * DAY))

    def test_delivered_message_is_deleted_at_once_whatever_the_clock_says(self) -> None:
        rules = Rules(after="delete")
        self.assertEqual(rules.delete_after(NOW), NOW)
        self.assertTrue(rules.deletable(row(), NOW))
        self.assertTrue(rules.deletable(row(), NOW - DAY, trusted=False))

    def test_age_counts_from_the_delivery(self) -> None:
        rules = Rules(after=14 * DAY)
        self.assertEqual(rules.delete_after(NOW), NOW + 14 * DAY)
        self.assertFalse(rules.deletable(row(), NOW + 14 * DAY - 1))
        self.assertTrue(rules.deletable(row(), NOW + 14 * DAY))
        self.assertFalse(rules.deletable(row(), NOW + 14 * DAY, trusted=False))

    def test_rules_of_today_decide(self) -> None:
        delivered = row(delete_after=NOW)
        self.assertFalse(Rules(after="keep").deletable(delivered, NOW + DAY))
        self.assertTrue(Rules(after="delete").deletable(row(delete_after=None), NOW))

    def test_only_delivered_messages_are_deleted(self) -> None:
        rules = Rules(after="delete")
        for state in MessageState:
            deleted = state in (MessageState.DELIVERED, MessageState.DELETED)
            self.assertEqual(rules.deletable(row(state=state), NOW), deleted, state)
        self.assertFalse(rules.deletable(row(delivered_at=None), NOW))

    def test_message_that_comes_back_is_deleted_once_a_day_after_the_third_time(
        self,
    ) -> None:
        rules = Rules(after="delete")
        for tries, seconds, due in (
            (1, 0, True),
            (2, 0, True),
            (3, 0, False),
            (3, DAY - 1, False),
            (3, DAY, True),
            (9, DAY - 1, False),
        ):
            back = row(
                state=MessageState.DELETED, deleted_at=NOW + 5, delete_tries=tries
            )
            self.assertEqual(rules.deletable(back, NOW + 5 + seconds), due, tries)
        self.assertFalse(rules.deletable(back, NOW + 9 * DAY, trusted=False))
        self.assertTrue(rules.deletable(row(delete_tries=9), NOW))
