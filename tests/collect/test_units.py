"""Amounts with a unit: what is read, and how they are shown."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pop3connect.collect.units import (
    read_bytes,
    read_seconds,
    show_about,
    show_bytes,
    show_seconds,
)


class ReadTests(SynchronousTestCase):
    def test_durations_are_seconds_whatever_their_unit(self) -> None:
        for text, seconds in (
            (300, 300),
            (0.5, 0.5),
            ("90 s", 90),
            ("5 min", 300),
            ("5min", 300),
            (" 1 h ", 3600),
            ("1.5 hours", 5400),
            ("14 days", 14 * 86400),
            ("1 Day", 86400),
            ("2 weeks", 14 * 86400),
        ):
            self.assertEqual(read_seconds(text), seconds, text)

    def test_sizes_are_bytes_whatever_their_unit(self) -> None:
        for text, size in (
            (1000, 1000),
            ("1 byte", 1),
            ("500 KB", 500_000),
            ("50 MB", 50_000_000),
            ("1.5 GB", 1_500_000_000),
            ("2 TB", 2 * 10**12),
            ("64 MiB", 64 * 2**20),
        ):
            self.assertEqual(read_bytes(text), size, text)
            self.assertIs(type(read_bytes(text)), int)

    def test_values_that_are_not_amounts_are_none(self) -> None:
        values: tuple[object, ...] = (
            *(
                "",
                "5",
                "min",
                "5 mins",
                "five min",
                "-5 min",
                "5 min 3",
                "5\nmin",
                "\u0665 min",
            ),
            *("1e3 s", "9" * 400 + " s", "0x5 s", "1..5 s", "5 MB"),
            *(True, None, [], float("nan"), float("inf"), 1e300, 10**5000),
        )
        for value in values:
            self.assertIsNone(read_seconds(value), value)
        self.assertIsNone(read_bytes("5 min"))


class ShowTests(SynchronousTestCase):
    def test_durations_are_shown_in_the_largest_whole_unit(self) -> None:
        for seconds, text in (
            (0, "0 s"),
            (0.5, "0.5 s"),
            (90, "90 s"),
            (300, "5 min"),
            (3600, "1 h"),
            (5400, "90 min"),
            (86400, "1 day"),
            (14 * 86400, "14 days"),
        ):
            self.assertEqual(show_seconds(seconds), text)

    def test_duration_for_people_is_in_the_largest_unit_that_fits_twice(self) -> None:
        for seconds, shown in (
            (-3, "0 s"),
            (0.4, "0 s"),
            (119, "119 s"),
            (120, "2 min"),
            (7199, "119 min"),
            (7200, "2 h"),
            (172800, "2 days"),
        ):
            self.assertEqual(show_about(seconds), shown)

    def test_sizes_are_shown_in_the_largest_whole_unit(self) -> None:
        for size, text in (
            (999, "999 bytes"),
            (1001, "1001 bytes"),
            (50_000_000, "50 MB"),
            (1_500_000, "1500 KB"),
            (64 * 2**20, "64 MiB"),
        ):
            self.assertEqual(show_bytes(size), text)

    @given(st.integers(0, 10**14))
    def test_what_is_shown_means_the_same(self, amount: int) -> None:
        self.assertEqual(read_bytes(show_bytes(amount)), amount)

    @given(st.integers(0, 10**6))
    def test_duration_that_is_shown_means_the_same(self, amount: int) -> None:
        self.assertEqual(read_seconds(show_seconds(amount)), amount)
