"""
Delivers messages to a command: at least once, the whole message on standard input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .base import Mail

__all__ = ["Command"]


class Command:
    """
    A command that takes one message at a time: a `Destination`.

    Exit status 0: delivered; 75, a signal or the time limit: later; 65: never; 126, 127
    or a program that cannot be started: the whole destination waits.  Any other counts
    as a refusal of the message.

    :param command: the program and its arguments; ``{account}`` in them becomes the
        name of the account.
    :param folder: where it runs, and where a name with a slash is looked for.
    :param environment: its environment, without passwords; the facts about the message
        are added as ``POP3CONNECT_KEY``, ``_ATTEMPT``, ``_ACCOUNT``, ``_UID``,
        ``_SIZE``, ``_FROM`` and ``_SUBJECT``.
    :param timeout: seconds it may take; then its whole process group is ended.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        folder: Path,
        environment: Mapping[str, str],
        timeout: float = 60.0,
        reactor: Any,
    ) -> None:
        raise NotImplementedError

    async def deliver(self, mail: Mail) -> None:
        """Run the command, as `Destination`; cancelling ends it."""
        raise NotImplementedError
