"""
What a server said in reply to CAPA, for the connections within the next hour, and what
the log was told of it.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from twisted.internet.interfaces import IReactorTime

from ..results import Capabilities

__all__ = ["REMEMBERED_SECONDS", "Memory"]

REMEMBERED_SECONDS = 3600.0
"""Seconds for which a reply to CAPA is remembered, as a TLS session is."""

_MAX_USERS = 1024
"""Users of whom the capabilities after the login are kept, the latest ones."""


class _Said(NamedTuple):
    capabilities: Capabilities
    at: float


class Memory:
    """
    The capabilities of one server, for connections of one kind.

    A `Connector` has one, and takes another one when the trust has changed.  Whether a
    reply may be remembered, and what may be done because of it, is decided in `offer`.
    """

    __slots__ = ("_after", "_before", "_clock", "_last", "_warned")

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._before: _Said | None = None
        # By user: the capabilities may depend on it (RFC 2449 section 5).
        self._after: OrderedDict[str, _Said] = OrderedDict()
        self._last: Capabilities | None = None
        self._warned = False

    def before(self) -> Capabilities | None:
        """Return the capabilities before a login; ``None``: none are still valid."""
        return self._valid(self._before)

    def after(self, username: str) -> Capabilities | None:
        """Return the capabilities after the login of a user, likewise."""
        return self._valid(self._after.get(username))

    def note_before(self, capabilities: Capabilities) -> None:
        """Remember the capabilities before the login."""
        self._before = _Said(capabilities, self._clock.seconds())

    def note_after(self, username: str, capabilities: Capabilities) -> None:
        """Remember the capabilities after the login of a user."""
        self._after[username] = _Said(capabilities, self._clock.seconds())
        self._after.move_to_end(username)
        if len(self._after) > _MAX_USERS:
            self._after.popitem(last=False)

    def forget(self) -> None:
        """Let the next connection ask before its login."""
        self._before = None
        self._after.clear()

    def shared(self, capabilities: Capabilities) -> Capabilities:
        """Let sessions whose server says the same share one object."""
        before = None if self._before is None else self._before.capabilities
        for known in (self._last, before):
            if known is not None and capabilities.same_as(known):
                return known
        self._last = capabilities
        return capabilities

    def warns(self) -> bool:
        """Return whether the log is to warn of a login in the clear: once."""
        first, self._warned = not self._warned, True
        return first

    def _valid(self, said: _Said | None) -> Capabilities | None:
        # The clock may have been set back.
        if (
            said is not None
            and 0 <= self._clock.seconds() - said.at < REMEMBERED_SECONDS
        ):
            return said.capabilities
        return None
