"""
Which servers cannot be reached, as seen by the looks at all of their accounts.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from ..errors import ConnectError, TimedOutError
from ..waits import FailureClass, classify
from .outcome import Outcome
from .schedule import ServerHealth

__all__ = ["Servers"]

log = Logger()


class Servers:
    """
    The health of the servers whose accounts could not connect.

    :param wall: the time in seconds since 1970.
    :param chance: a random number from 0 to 1, for each wait.
    """

    def __init__(self, wall: Callable[[], float], chance: Callable[[], float]) -> None:
        self._wall = wall
        self._chance = chance
        self._health: dict[str, ServerHealth] = {}
        # Those that wait, a few of all that fail.
        self._waiting: frozenset[str] = frozenset()

    def waiting(self, now: float) -> frozenset[str]:
        """Return the servers whose accounts are not looked at now."""
        self._waiting = frozenset(
            server
            for server in self._waiting
            if server in self._health and self._health[server].wait(now)
        )
        return self._waiting

    def judge(self, server: str, outcome: Outcome) -> None:
        """Take note of what a look shows about its server."""
        error = outcome.error
        if outcome.looked or error is None:
            self._health.pop(server, None)
        elif isinstance(error, ConnectError) or (
            isinstance(error, TimedOutError) and error.phase == "connecting"
        ):
            self._failed(server, outcome.account)
        elif classify(error) is not FailureClass.LOCAL:
            self._health.pop(server, None)
        # An error of this machine, such as a missing password, does not show whether
        # the server can be reached.

    def _failed(self, server: str, account: str) -> None:
        health = self._health.get(server, ServerHealth())
        now = self._wall()
        after = health.after_failure(account, now, self._chance())
        if after.waits > health.waits:
            self._waiting |= {server}
            log.error(
                "{server}: cannot be reached; its accounts wait for "
                "{seconds:.0f} seconds",
                server=server,
                seconds=after.wait(now),
            )
        self._health[server] = after
