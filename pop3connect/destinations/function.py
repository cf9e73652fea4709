"""
Delivers messages to a Python function: at least once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from inspect import isawaitable, iscoroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from twisted.python.reflect import namedAny

from ..errors import UsageError
from ..programs import GRACE
from .base import Later, Mail, Never

__all__ = ["Function", "find_function"]


def find_function(name: str) -> Callable[[Mail, int], object]:
    """
    Import a function.

    :param name: ``package.module:function``.
    :raises UsageError: it cannot be imported, or is not a function.
    """
    try:
        function = namedAny(name.replace(":", "."))
    except (Exception, SystemExit) as error:
        # Whatever the module raises when it is imported; a script ends the process.
        raise UsageError(
            f"{name} cannot be imported: {type(error).__name__}: {error}; it has "
            "to be installed, or in PYTHONPATH"
        ) from error
    if not callable(function):
        raise UsageError(f"{name} cannot be called: name a function")
    return function  # type: ignore[no-any-return]


class Function:
    """
    A function that takes one message at a time: a `Destination`.

    It is called with a `Mail` and the number of the attempt, in the reactor's thread.
    It may return a Deferred or a coroutine, and may raise `Later` or `Never`; any other
    exception counts as a refusal of the message.

    :param timeout: seconds that its Deferred or coroutine may take; then it is
        cancelled.
    """

    def __init__(
        self,
        function: Callable[[Mail, int], object],
        *,
        timeout: float = 60.0,
        reactor: Any,
    ) -> None:
        self._function = function
        self._timeout = timeout
        self._reactor = reactor

    async def deliver(self, mail: Mail) -> None:
        """Call the function, as `Destination`; cancelling cancels its Deferred."""
        try:
            result = self._function(mail, mail.attempt)
            if iscoroutine(result):
                result = Deferred.fromCoroutine(result)
            if isinstance(result, Deferred):
                await self._wait(result)
            elif isawaitable(result):
                # Nobody would wait for it, and an error in it would be lost mail.
                raise TypeError(
                    f"it returned a {type(result).__name__}, which cannot be awaited "
                    "here; return a Deferred or a coroutine"
                )
        except (Later, Never, CancelledError):
            raise
        except Exception as error:
            raise Later(
                reason=f"the function raised {type(error).__name__}: {error}",
                counts=True,
            ) from error

    async def _wait(self, result: Deferred[object]) -> None:
        seconds = self._timeout
        late = partial(_late, f"the function took longer than {seconds:g} seconds")
        try:
            await _follow(result).addTimeout(seconds, self._reactor, late)
        except (CancelledError, _LateError) as error:
            # One that catches its cancellation and goes on delays nothing.
            ending = _follow(result).addTimeout(GRACE, self._reactor, late)
            result.cancel()
            try:
                await ending
            except (CancelledError, _LateError):
                raise error from None
        finally:
            # A later failure does not matter.
            result.addErrback(_forget)


class _LateError(Later):
    """The time limit has passed."""


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
    raise _LateError(reason=late)
