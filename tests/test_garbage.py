"""
Searches for garbage are rare while a program runs, and as before afterwards.
"""

from __future__ import annotations

import gc

from twisted.trial.unittest import SynchronousTestCase

from pop3connect.garbage import THRESHOLD, few_searches


class SearchTests(SynchronousTestCase):
    def test_existing_objects_are_not_searched_within_the_block(self) -> None:
        before = gc.get_threshold()
        with self.assertRaises(ValueError), few_searches():
            self.assertGreater(gc.get_freeze_count(), 0)
            self.assertEqual(gc.get_threshold(), (THRESHOLD, *before[1:]))
            raise ValueError
        self.assertEqual(gc.get_freeze_count(), 0)
        self.assertEqual(gc.get_threshold(), before)
