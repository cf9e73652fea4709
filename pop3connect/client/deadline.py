"""
One limit of time at a time, for what the server owes us.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["Limit"]


class Limit:
    """
    Calls back when too long nothing has come forward.

    `progress` is called often and costs next to nothing: the delayed call is
    left where it is, and goes back to sleep if it finds that there was some.
    """

    __slots__ = ("_call", "_clock", "_expired", "_since", "phase", "seconds")

    def __init__(
        self, clock: IReactorTime, expired: Callable[[str, float], object]
    ) -> None:
        self._clock = clock
        self._expired = expired
        self._call: IDelayedCall | None = None
        self._since = 0.0
        self.phase = ""
        self.seconds = 0.0

    @property
    def running(self) -> bool:
        """Whether something is owed."""
        return self._call is not None

    def start(self, phase: str, seconds: float) -> None:
        """Start anew, for another phase."""
        self.stop()
        self.phase = phase
        self.seconds = seconds
        self._since = self._clock.seconds()
        self._call = self._clock.callLater(seconds, self._look)

    def progress(self) -> None:
        """Give the server the whole time again."""
        self._since = self._clock.seconds()

    def stop(self) -> None:
        """Nothing is owed any more."""
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def _look(self) -> None:
        self._call = None
        left = self._since + self.seconds - self._clock.seconds()
        if left > 0:
            self._call = self._clock.callLater(left, self._look)
        else:
            self._expired(self.phase, self.seconds)
