"""
The destinations of accounts, made from their settings.
"""

from __future__ import annotations

from typing import Any

import attrs

from .places import KnownPlaces
from .schedule import DestinationHealth
from .settings import AccountSettings, Config, DestinationSettings
from .tools import Threads

__all__ = ["Target", "make_destination"]


@attrs.define
class Target:
    """
    A destination of one account, or of all.

    :ivar destination: a `Destination` or `Witnessed`; ``None``: the table ``inbox``.
    :ivar account: the name of the account; ``""``: it is the same for all.
    :ivar threads: those for the destinations of this name.  Each name has its own: a
        call may wait for a lock, or for a file system that does not answer.
    :ivar refused: messages in a row that were not taken.
    :ivar given_up: whether a single run passes over it from now on.
    """

    name: str
    destination: Any
    account: str
    threads: Threads
    health: DestinationHealth = attrs.Factory(DestinationHealth)
    busy: bool = False
    refused: int = 0
    given_up: bool = False

    @property
    def witnessed(self) -> bool:
        """Whether it can prove what it delivered."""
        return hasattr(self.destination, "prepare")

    @property
    def quick(self) -> bool:
        """Whether a look waits for it: Maildir, mbox and table."""
        return self.destination is None or self.witnessed

    def stop(self) -> None:
        """Let every wait for a lock of the destination end at once, for good."""
        stop = getattr(self.destination, "stop", None)
        if stop is not None:
            stop()


def make_destination(
    settings: DestinationSettings,
    account: AccountSettings,
    config: Config,
    *,
    machine: str,
    reactor: Any,
    known: KnownPlaces,
) -> Any:
    """
    Return the destination that settings describe, for mail of an account.

    :param known: the places that have received mail.
    :return: a `Destination` or `Witnessed`; ``None``: the table ``inbox``.
    :raises UsageError: it cannot be used.
    """
    # Not at the top: most collectors use one kind.
    if settings.kind == "maildir":
        from ..destinations.maildir import Maildir

        folder = settings.path_for(account)
        return Maildir(
            folder,
            machine,
            journal=str(config.database) or str(config.state.absolute()),
            crlf=settings.crlf,
            mode=settings.mode,
            known=folder in known or not settings.create,
        )
    if settings.kind == "mbox":
        from ..destinations.mbox import Mbox

        path = settings.path_for(account)
        return Mbox(
            path,
            lock_timeout=settings.lock_timeout,
            mode=settings.mode,
            create=settings.create,
            known=path in known,
        )
    if settings.kind == "command":
        from ..destinations.command import Command
        from ..programs import safe_environment

        return Command(
            settings.command_for(account),
            folder=config.folder,
            environment=safe_environment(config.secret_variables),
            timeout=settings.timeout,
            reactor=reactor,
        )
    if settings.kind == "function":
        from ..destinations.function import Function, find_function

        call = settings.call
        return Function(
            find_function(call) if isinstance(call, str) else call,
            timeout=settings.timeout,
            reactor=reactor,
        )
    return None
