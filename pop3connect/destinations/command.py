"""
Delivers messages to a command: at least once, the whole message on standard input.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..programs import RunError, last_line, run
from .base import Later, Mail, Never, words

__all__ = ["Command"]

MAX_VALUE = 1000
"""Characters of a value in the environment, which has little room."""

# sysexits.h: EX_TEMPFAIL and EX_DATAERR.
_LATER = 75
_NEVER = 65

# What a shell ends with if it cannot run a command, or does not find it.
_NOT_RUN = (126, 127)


class Command:
    """
    A command that takes one message at a time: a `Destination`.

    Exit status 0: delivered; 75, a signal or the time limit: later; 65: never; 126, 127
    or a program that cannot be started: the whole destination waits.  Any other counts
    as a refusal of the message.

    :param command: the program and its arguments.
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
        self._command = tuple(command)
        self._folder = folder
        self._environment = dict(environment)
        self._timeout = timeout
        self._reactor = reactor

    async def deliver(self, mail: Mail) -> None:
        """Run the command, as `Destination`; cancelling ends it."""
        try:
            message = mail.open()
        except OSError as error:
            raise Later(reason=words(error), counts=True) from error
        with message:
            try:
                await run(
                    self._reactor,
                    self._command,
                    folder=self._folder,
                    environment={**self._environment, **_facts(mail)},
                    limit=self._timeout,
                    stdin=message,
                )
            except RunError as error:
                raise _outcome(error) from error


def _facts(mail: Mail) -> dict[str, str]:
    facts = {
        "KEY": mail.key,
        "ATTEMPT": str(mail.attempt),
        "ACCOUNT": mail.account,
        "UID": mail.uid,
        "SIZE": str(mail.size),
        "FROM": mail.sender,
        "SUBJECT": mail.subject,
    }
    return {f"POP3CONNECT_{name}": _value(text) for name, text in facts.items()}


def _value(text: str) -> str:
    # A value cannot have a NUL, which would end it.
    text = text.replace("\0", "")[:MAX_VALUE]
    # In UTF-8, also where the system's encoding lacks the characters of a subject.
    return os.fsdecode(text.encode("utf-8", "surrogateescape"))


def _outcome(error: RunError) -> Exception:
    said = last_line(error.errors)
    reason = f"{error}; it said: {said}" if said else str(error)
    if not error.started or error.status in _NOT_RUN:
        return Later(reason=reason, whole_destination=True)
    if error.status == _NEVER:
        return Never(reason)
    # Without a status, a signal or the time limit has ended it.
    return Later(
        reason=reason, counts=not error.expired and error.status not in (None, _LATER)
    )
