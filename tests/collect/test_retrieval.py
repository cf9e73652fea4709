"""
Messages that have arrived are handed over in groups.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest import mock

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pop3connect.collect import retrieval as module
from pop3connect.collect.retrieval import Arrived, Retrieval
from pop3connect.destinations.incoming import Incoming

CONTENT = b"Subject: x\r\n\r\n"


class GroupTests(SynchronousTestCase):
    def groups(self, count: int) -> list[list[int]]:
        """Return the numbers of messages that arrive together, as they are taken."""
        clock, taken = Clock(), []

        async def take(group: list[Arrived]) -> None:
            taken.append([arrived.number for arrived in group])

        tools: Any = SimpleNamespace(reactor=clock, files=maybeDeferred)
        keeper: Any = SimpleNamespace(
            begin=lambda account: Incoming(account, self.fail)
        )
        handle: Any = None
        retrieval = Retrieval(tools, handle, keeper, "one", take, ask=self.fail)
        for number in range(1, count + 1):
            arrived = retrieval.begin(number, 0)
            arrived.incoming.write(CONTENT)
            self.successResultOf(Deferred.fromCoroutine(retrieval.put(arrived)))
        clock.advance(0)
        return taken

    def test_messages_of_one_turn_are_one_group(self) -> None:
        self.assertEqual(self.groups(3), [[1, 2, 3]])

    def test_group_has_a_limited_number_of_messages(self) -> None:
        with mock.patch.object(module, "GROUP", 2):
            self.assertEqual(self.groups(5), [[1, 2], [3, 4], [5]])

    def test_group_has_a_limited_number_of_bytes_and_one_message(self) -> None:
        for most, groups in (
            (len(CONTENT), [[1], [2], [3]]),
            (len(CONTENT) + 1, [[1, 2], [3]]),
        ):
            with mock.patch.object(module, "GROUP_BYTES", most):
                self.assertEqual(self.groups(3), groups)
