"""
What a watch tells about a new message, and whom: a command or a Python function.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Mapping
from email import message_from_bytes
from email.policy import default
from functools import partial
from inspect import iscoroutine
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.python.reflect import namedAny

from .errors import UsageError
from .status import printable
from .watch_config import WatchConfig, WatchedAccount
from .watch_run import run

__all__ = ["Hook", "NewMessage", "find_hook"]

MAX_VALUE = 1000
"""Characters of a value in the environment, which has little room."""


@attrs.frozen
class NewMessage:
    """
    A new message, as the hook is told.

    :ivar account: the name of the account, as the configuration has it.
    :ivar number: the message number in the session that found it; in another
        session it is another one.
    :ivar uid: what finds it again; empty if the server has no UIDL.
    :ivar size: octets, as the server counts.
    :ivar header: the header as it is stored; empty if the server would not give it.
    """

    account: str
    number: int
    uid: str
    size: int
    header: bytes = attrs.field(repr=False)

    @property
    def subject(self) -> str:
        """The subject: decoded, one line, control characters escaped."""
        return self._field("subject")

    @property
    def sender(self) -> str:
        """The field From: decoded, one line, control characters escaped."""
        return self._field("from")

    def _field(self, name: str) -> str:
        # The parser takes everything; but there have been fields on which the
        # decoding of the standard library fails, in one version or another.
        try:
            text = str(message_from_bytes(self.header, policy=default)[name] or "")
        except Exception:  # noqa: BLE001
            text = ""
        return printable(text.encode("utf-8", "surrogateescape"))

    def environment(self) -> dict[str, str]:
        """Return what the environment of a command says about it."""
        facts = {
            "ACCOUNT": self.account,
            "NUMBER": str(self.number),
            "UID": self.uid,
            "SIZE": str(self.size),
            "SUBJECT": self.subject,
            "FROM": self.sender,
        }
        return {
            # No value can have a NUL: exec() takes it for the end.
            f"POP3CONNECT_{name}": text.replace("\0", "")[:MAX_VALUE]
            for name, text in facts.items()
        }


Hook = Callable[[NewMessage], Coroutine[Any, Any, None]]


def find_hook(config: WatchConfig, account: WatchedAccount, reactor: Any) -> Hook:
    """
    Return what to call for each new message.

    :raises UsageError: there is no such Python function.
    """
    hook = account.hook
    if hook is None:
        return _nothing
    if isinstance(hook, str):
        return partial(_call, _function(account, hook))
    environment = _environment(config)
    return partial(_command, reactor, hook, config.folder, environment, account)


async def _nothing(message: NewMessage) -> None:
    """The log has said it already."""


def _function(account: WatchedAccount, hook: str) -> Callable[[NewMessage], object]:
    try:
        function = namedAny(hook.replace(":", "."))
    except Exception as error:
        # Whatever the module raises when it is imported.
        raise UsageError(
            f"account {account.name}: hook: {hook} cannot be imported: "
            f"{type(error).__name__}: {error}; twistd looks in its own folder "
            "and in PYTHONPATH"
        ) from error
    if not callable(function):
        raise UsageError(f"account {account.name}: hook: {hook} cannot be called")
    return function  # type: ignore[no-any-return]


async def _call(function: Callable[[NewMessage], object], message: NewMessage) -> None:
    result = function(message)
    if iscoroutine(result) or isinstance(result, Deferred):
        await result


async def _command(
    reactor: Any,
    command: tuple[str, ...],
    folder: Path,
    environment: Mapping[str, str],
    account: WatchedAccount,
    message: NewMessage,
) -> None:
    await run(
        reactor,
        command,
        folder=folder,
        environment={**environment, **message.environment()},
        limit=account.hook_timeout,
        given=message.header,
    )


def _environment(config: WatchConfig) -> dict[str, str]:
    """Return our environment; the passwords in it are no business of a hook."""
    hidden = config.password_variables
    return {name: text for name, text in os.environ.items() if name not in hidden}
