"""The time that a section has: dealt out to its parts, and how much of it is left."""

import time
from collections.abc import Callable, Iterator

from benchmarks.report import say


class Pace:
    """One section's time; each part makes further rounds while its share lasts."""

    def __init__(
        self,
        name: str,
        seconds: float,
        rounds: int,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Begin; *rounds* is the most that a part makes."""
        self._name, self._rounds, self._clock = name, rounds, clock
        self._began = clock()
        self._end = self._began + seconds
        self._parts, self._done = 1, 0
        self.made: list[int] = []  # rounds of each part that is over
        self.left_out: list[str] = []

    def expect(self, parts: int) -> None:
        """Say how many parts the section has."""
        self._parts = parts

    def rounds(self, what: str, most: int | None = None) -> Iterator[int]:
        """The rounds of one part: the first, and others that fit into its share."""
        began = self._clock()
        share = max(0.0, self._end - began) / max(1, self._parts - self._done)
        most = self._rounds if most is None else min(most, self._rounds)
        for turn in range(most):
            passed = self._clock() - began
            if turn and passed * (turn + 1) / turn > share:
                break
            say(f"{self._name}: {what}, round {turn + 1} of {most}; {self._forecast()}")
            yield turn
            self.made[self._done :] = [turn + 1]
        self._done += 1

    def has_time(self, what: str) -> bool:
        """Whether there is time for one more run; if not, it is noted."""
        if self._clock() < self._end:
            return True
        self.left_out.append(f"{self._name}: {what}")
        return False

    def _forecast(self) -> str:
        now = self._clock()
        left = max(0.0, self._end - now)
        if self._done:
            left = min(left, (now - self._began) / self._done * self._parts_left())
        return f"about {duration(left)} left"

    def _parts_left(self) -> int:
        return max(1, self._parts - self._done)


def duration(seconds: float) -> str:
    """Seconds, in words as short as the eye needs."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
