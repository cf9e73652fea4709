"""
What to do about an error, as data.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

__all__ = ["USE_TLS", "Option", "Remedy", "literal"]


class Option(NamedTuple):
    """
    An option of `connect` or of `TLSOptions`, and the value that an error is about.

    The value is any object; an empty tuple stands for none.
    """

    name: str
    value: object = ()

    def __str__(self) -> str:
        """Show it as an argument of `connect`."""
        return self.name if self.value == () else f"{self.name}={self.value!r}"


class Remedy(NamedTuple):
    """
    What to do about an error.

    As data, because the command line and other front ends have other names for the
    options: see `worded`.
    """

    text: str
    """What to do, with ``{}`` for each option."""

    options: tuple[Option, ...] = ()
    """The options of `connect` that it names."""

    def worded(self, show: Callable[[Option], str | None]) -> str | None:
        """
        Return the text, with the options as ``show`` words them.

        :return: ``None`` if ``show`` returns that for one of the options: the front
            end does not have it, so the remedy is not one for its users.
        """
        shown = [show(option) for option in self.options]
        return None if None in shown else self.text.format(*shown)

    def __str__(self) -> str:
        """Return the text, with the options as arguments of `connect`."""
        return self.text.format(*self.options)


USE_TLS = Remedy("set {} or {}", (Option("secure", 1), Option("secure", 2)))
"""For what would be sent without TLS."""


def literal(text: str) -> str:
    """Return text as it has to be in a `Remedy` to be shown as it is."""
    return text.replace("{", "{{").replace("}", "}}")
