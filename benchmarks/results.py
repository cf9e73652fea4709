"""The figures of a run, by name, and their medians."""

from collections import defaultdict
from statistics import median

Key = tuple[str, ...]


class Results:
    """Every figure of every round; asked for, it gives the median."""

    def __init__(self) -> None:
        """Nothing measured."""
        self.figures: dict[Key, list[float]] = defaultdict(list)
        self.errors: list[str] = []
        self.runs = self.disturbed = 0  # counted, and counted although disturbed

    def add(self, *key: str, **figures: float) -> None:
        """Note the figures of one round."""
        for name, value in figures.items():
            self.figures[(*key, name)].append(value)

    def get(self, *key: str) -> float | None:
        """The median, or None when it was not measured."""
        values = self.figures.get(key)
        return median(values) if values else None

    def ratio(self, over: Key, under: Key) -> float | None:
        """One median divided by another."""
        a, b = self.get(*over), self.get(*under)
        return a / b if a is not None and b else None

    def spread(self, *key: str) -> float | None:
        """Largest less smallest, as a share of the median."""
        values = self.figures.get(key)
        if not values or not median(values):
            return None
        return (max(values) - min(values)) / median(values)
