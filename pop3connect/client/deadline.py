"""
One time limit at a time, for what the server owes.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["Deadline"]


class Deadline:
    """
    Calls back when there has been no progress for too long.

    `progress` is called often and costs next to nothing: the delayed call is left where
    it is, and is scheduled again if it finds that there was progress.

    :param expired: called with the phase and its seconds.
    :ivar resting: whether `rest` was called more recently than `start` and `stop`.
    """

    __slots__ = (
        "_call",
        "_clock",
        "_expired",
        "_left",
        "_since",
        "phase",
        "resting",
        "seconds",
    )

    def __init__(
        self, clock: IReactorTime, expired: Callable[[str, float], object]
    ) -> None:
        self._clock = clock
        self._expired = expired
        self._call: IDelayedCall | None = None
        self._since = 0.0
        # Seconds that remain while it is paused.
        self._left: float | None = None
        self.resting = False
        self.phase = ""
        self.seconds = 0.0

    @property
    def running(self) -> bool:
        """Whether something is owed, be the clock paused or not."""
        if self._call is None:
            return self._left is not None
        return not self.resting

    def start(self, phase: str, seconds: float) -> None:
        """Start the clock for a phase, whatever was left of another."""
        self.phase = phase
        self.seconds = seconds
        if self.resting and self._call is not None:
            now = self._clock.seconds()
            if self._call.getTime() <= now + seconds:
                # It finds that there was progress, and is scheduled again.
                self._since = now
                self.resting = False
                return
        self.stop()
        self._run(seconds)

    def progress(self) -> None:
        """Give the server the whole time again."""
        if self._left is not None:
            self._left = self.seconds
        else:
            self._since = self._clock.seconds()

    def pause(self) -> None:
        """Stop the clock: it is not the server that causes the delay."""
        if self.resting:
            return
        call, self._call = self._call, None
        if call is not None:
            left = self._since + self.seconds - self._clock.seconds()
            self._left = max(left, 0.0)
            call.cancel()

    def resume(self) -> None:
        """Go on with the time that was left at `pause`."""
        left, self._left = self._left, None
        if left is not None:
            self._run(left)

    def rest(self) -> None:
        """
        Stop the clock, and keep the delayed call: a `start` may follow at once.

        If it does not follow, the owner calls `stop`.  A program that sends one command
        after another needs one delayed call for all of them.
        """
        self._left = None
        self.resting = self._call is not None

    def stop(self) -> None:
        """Stop the clock: nothing is owed any more."""
        self.resting = False
        self._left = None
        call, self._call = self._call, None
        # It is not active if it is just being made.
        if call is not None and call.active():
            call.cancel()

    def _run(self, left: float) -> None:
        self._since = self._clock.seconds() + left - self.seconds
        self._call = self._clock.callLater(left, self._look)

    def _look(self) -> None:
        self._call = None
        if self.resting:
            self.resting = False
            return
        left = self._since + self.seconds - self._clock.seconds()
        if left > 0:
            self._call = self._clock.callLater(left, self._look)
        else:
            self._expired(self.phase, self.seconds)
