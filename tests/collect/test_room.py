"""
Which messages wait for room on the disk.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pop3connect.collect.room import ROOM_WAIT, Room
from pop3connect.waits import MAX_WAIT


class RoomTests(SynchronousTestCase):
    def test_larger_messages_wait_and_smaller_ones_do_not(self) -> None:
        room = Room()
        self.assertFalse(room.lacks(10**9, 0))
        self.assertEqual(room.refused(500, 10), ROOM_WAIT)
        self.assertTrue(room.lacks(500, 10))
        self.assertTrue(room.lacks(501, 10 + ROOM_WAIT - 1))
        self.assertFalse(room.lacks(499, 10))
        self.assertFalse(room.lacks(500, 10 + ROOM_WAIT))

    def test_smaller_message_without_room_does_not_make_the_wait_longer(self) -> None:
        room = Room()
        room.refused(500, 10)
        self.assertEqual(room.refused(300, 20), ROOM_WAIT - 10)
        self.assertTrue(room.lacks(300, 20))
        self.assertFalse(room.lacks(300, 10 + ROOM_WAIT))

    def test_wait_is_doubled_up_to_an_hour(self) -> None:
        room, now, waits = Room(), 0.0, []
        for _ in range(9):
            waits.append(room.refused(500, now))
            now += waits[-1]
        self.assertEqual(waits[:3], [ROOM_WAIT, 2 * ROOM_WAIT, 4 * ROOM_WAIT])
        self.assertEqual(waits[-1], MAX_WAIT)

    def test_message_of_that_size_that_is_kept_ends_the_wait(self) -> None:
        room = Room()
        room.refused(500, 0)
        room.took(499)
        self.assertTrue(room.lacks(500, 1))
        room.took(500)
        self.assertFalse(room.lacks(500, 1))
        self.assertEqual(room.refused(500, 1), ROOM_WAIT)
