"""
Threads for calls that may not return.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from pop3connect.collect.tools import Threads

reactor: Any = global_reactor


class ThreadsTests(TestCase):
    async def test_call_that_does_not_return_is_counted_and_left_behind(self) -> None:
        threads = Threads(reactor, "stuck", 2)
        begun, going_on = threading.Event(), threading.Event()

        def stuck() -> bool:
            begun.set()
            going_on.wait()
            return threading.current_thread().daemon

        daemon = threads(stuck)
        self.assertEqual(await threads(lambda: 7), 7)
        begun.wait()
        self.assertEqual(threads.stop(time.monotonic()), 1)
        self.assertEqual(threads.stop(time.monotonic()), 0)
        going_on.set()
        self.assertTrue(await daemon)

    async def test_nothing_is_called_after_the_end(self) -> None:
        threads = Threads(reactor, "ended", 2)
        self.assertEqual(threads.stop(time.monotonic() + 10), 0)
        with self.assertRaises(CancelledError):
            await threads(self.fail)

    def test_without_threads_calls_are_made_at_once(self) -> None:
        threads = Threads(Clock(), "none", 2)
        self.assertEqual(self.successResultOf(threads(lambda: 7)), 7)
        self.assertEqual(threads.stop(0), 0)
