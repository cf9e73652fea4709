"""
Reports a new message of a watch to its hook: a command or a Python function.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from inspect import iscoroutine
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from twisted.python.reflect import namedAny

from .errors import UsageError
from .headers import summary
from .redaction import printable
from .watch_config import WatchConfig, WatchedAccount
from .watch_run import GRACE, RunError, find_program, run

__all__ = ["Hook", "NewMessage", "check_hooks", "find_hook"]

MAX_VALUE = 1000
"""Characters of a value in the environment, which has little room."""

MAX_SAID = 300
"""Bytes of the last line of a failed command's errors that go to the log."""


@attrs.frozen
class NewMessage:
    """
    A new message, as it is reported to the hook.

    :ivar account: the name of the account, as the configuration has it.
    :ivar number: the message number in the session that found it; in another
        session it is another one.
    :ivar uid: identifies it in other sessions; empty if the server has no UIDL.
    :ivar size: its size in bytes, as the server counts.
    :ivar header: the header as it is stored; empty if the server refused it.
    """

    account: str
    number: int
    uid: str
    size: int
    header: bytes = attrs.field(repr=False)

    @property
    def subject(self) -> str:
        """The subject: decoded, one line, control characters escaped."""
        return summary(self.header).subject

    @property
    def sender(self) -> str:
        """The field From: decoded, one line, control characters escaped."""
        return summary(self.header).sender

    def environment(self) -> dict[str, str]:
        """Return the environment variables for a command."""
        facts = {
            "ACCOUNT": self.account,
            "NUMBER": str(self.number),
            "UID": self.uid,
            "SIZE": str(self.size),
            "SUBJECT": self.subject,
            "FROM": self.sender,
        }
        return {
            # A value cannot have a NUL, which would end it.
            f"POP3CONNECT_{name}": text.replace("\0", "")[:MAX_VALUE]
            for name, text in facts.items()
        }


def check_hooks(config: WatchConfig) -> None:
    """
    Check that the hooks, commands or Python functions, exist.

    :raises UsageError: a hook does not exist.
    """
    for account in config.accounts:
        if isinstance(account.hook, str):
            _function(config, account.hook, account.name)
        elif account.hook:
            try:
                find_program(account.hook[0], config.folder, os.environ)
            except RunError as error:
                raise UsageError(
                    f"{config.file}: account {account.name}: hook: {error}"
                ) from error


Hook = Callable[[NewMessage], Coroutine[Any, Any, None]]


def find_hook(config: WatchConfig, account: WatchedAccount, reactor: Any) -> Hook:
    """
    Return the function to call for each new message.

    :raises UsageError: the Python function does not exist.
    """
    hook = account.hook
    if hook is None:
        return _nothing
    if isinstance(hook, str):
        return partial(_call, reactor, _function(config, hook, account.name), account)
    environment = _environment(config)
    return partial(_command, reactor, hook, config.folder, environment, account)


async def _nothing(message: NewMessage) -> None:
    """Do nothing: the message has been logged already."""


def _function(
    config: WatchConfig, hook: str, account: str
) -> Callable[[NewMessage], object]:
    where = f"{config.file}: account {account}: hook: {hook}"
    try:
        function = namedAny(hook.replace(":", "."))
    except Exception as error:
        # Whatever the module raises when it is imported.
        raise UsageError(
            f"{where} cannot be imported: {type(error).__name__}: {error}; it has "
            "to be installed, or in PYTHONPATH"
        ) from error
    if not callable(function):
        raise UsageError(f"{where} cannot be called: name a function")
    return function  # type: ignore[no-any-return]


async def _call(
    reactor: Any,
    function: Callable[[NewMessage], object],
    account: WatchedAccount,
    message: NewMessage,
) -> None:
    result = function(message)
    if iscoroutine(result):
        result = Deferred.fromCoroutine(result)
    if not isinstance(result, Deferred):
        return
    limit = account.hook_timeout
    late = partial(_late, f"{account.hook}: took longer than {limit:g} seconds")
    try:
        await _follow(result).addTimeout(limit, reactor, late)
    except (CancelledError, RunError) as error:
        # As for a command.  A function that catches its cancellation and goes on does
        # not delay the next message or the end of the service.
        ending = _follow(result).addTimeout(GRACE, reactor, late)
        result.cancel()
        try:
            await ending
        except (CancelledError, RunError):
            raise error from None
    finally:
        # A later failure does not matter.
        result.addErrback(_forget)


def _follow(result: Deferred[object]) -> Deferred[object]:
    """Return a Deferred that fires with the same; cancelling that changes nothing."""
    following: Deferred[object] = Deferred()

    def pass_on(outcome: object) -> object:
        following.callback(outcome)
        return outcome

    result.addBoth(pass_on)
    return following


def _forget(failure: Failure) -> None:
    """Handle a failure, so that it is not logged a second time."""


def _late(late: str, result: object, limit: float) -> object:
    if isinstance(result, Failure):
        result.trap(CancelledError)
        raise RunError(late)
    return result


async def _command(
    reactor: Any,
    command: tuple[str, ...],
    folder: Path,
    environment: Mapping[str, str],
    account: WatchedAccount,
    message: NewMessage,
) -> None:
    try:
        await run(
            reactor,
            command,
            folder=folder,
            environment={**environment, **message.environment()},
            limit=account.hook_timeout,
            given=message.header,
        )
    except RunError as error:
        last = error.errors.rstrip().rpartition(b"\n")[2][:MAX_SAID]
        said = f"; it said: {printable(last)}" if last else ""
        raise RunError(f"{error}{said}") from error


def _environment(config: WatchConfig) -> dict[str, str]:
    """Return our environment without the passwords, which a hook does not need."""
    hidden = config.password_variables
    return {name: text for name, text in os.environ.items() if name not in hidden}
