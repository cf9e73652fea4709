"""
The procedures of an Omnis program: status procedures, error procedures, passwords.

In Omnis a procedure runs where its command was called.  Here commands run in the
reactor's thread, and a `Caller` calls the procedures of a command: directly, or in the
thread that waits for the command (`pop3connect.omnis.blocking`).

``#S1`` of Omnis is a variable of each thread.  A thread sets it directly before it
calls a status procedure, so two sessions, or two threads, never see each other's text.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from functools import partial, wraps
from typing import Any, Literal

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..auth.account import Password
from ..redaction import Secret
from ..sansio.commands import check_text

__all__ = [
    "CALLER",
    "Caller",
    "ErrorProcedure",
    "GivenPassword",
    "Listener",
    "StatusProcedure",
    "takes_text",
    "tell_error",
    "variables_of",
]

log = Logger()

StatusProcedure = Callable[[str], object] | Callable[[], object] | Literal[""] | None
"""Called with each protocol message, or without; ``''`` and ``None`` mean none."""

ErrorProcedure = Callable[[str, int, str], "object | Awaitable[object]"]
"""Called with text, code and command before the code is returned; may be async."""


class Caller:
    """
    The thread that called a command.

    :ivar run: calls a procedure there, and returns a Deferred of its result.
    :ivar secure_error: what the TLS library said when a command of this thread last
        returned -1021.
    """

    def __init__(
        self, run: Callable[[Callable[[], Any]], Deferred[Any]] = maybeDeferred
    ) -> None:
        self.run = run
        self.secure_error = ""


CALLER: ContextVar[Caller | None] = ContextVar("pop3connect.omnis", default=None)
"""
The caller of the command being carried out; ``None`` means the reactor's thread.

A context variable: a coroutine keeps its context, so each command finds its own caller.
"""


class _Here(threading.local):
    """The text last given to a status procedure, in each thread."""

    text = ""


_here = _Here()


def variables_of(module: str) -> Callable[[str], str]:
    """
    Return the ``__getattr__`` of a module with the variable S1 (PEP 562).

    S1 is the text last given to a status procedure in the thread that reads it.
    """

    def variable(name: str) -> str:
        if name == "S1":
            return _here.text
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return variable


def takes_text(procedure: Callable[..., object]) -> bool | None:
    """
    Return whether a status procedure takes the text.

    :return: ``False`` if it takes no parameter, and ``None`` if it cannot be called
        as a status procedure at all.
    """
    try:
        signature = inspect.signature(procedure)
    except (TypeError, ValueError):
        # Some built-in functions hide their parameters.
        return True
    for arguments in (("text",), ()):
        try:
            signature.bind(*arguments)
        except TypeError:
            continue
        return bool(arguments)
    return None


class Listener:
    """
    The status procedure of a session: that of the command being carried out.

    A procedure that raises is logged once in a session; the command goes on.
    """

    def __init__(self) -> None:
        self._logged = False
        self._procedure: Callable[..., object] | None = None
        self._caller = Caller()

    def listen(self, procedure: StatusProcedure, caller: Caller) -> None:
        """Pass protocol messages on to this procedure from now on."""
        self._procedure = procedure or None
        self._caller = caller

    def __call__(self, text: str) -> None:
        """Pass a protocol message on."""
        if self._procedure is not None:
            told = self._caller.run(partial(_tell, self._procedure, text))
            told.addErrback(self._failed)

    def _failed(self, failure: Failure) -> None:
        if not self._logged:
            self._logged = True
            log.failure(
                "a status procedure failed; further failures in this session are not "
                "logged",
                failure,
            )


def _tell(procedure: Callable[..., object], text: str) -> object:
    _here.text = text
    return procedure(text) if takes_text(procedure) else procedure()


class GivenPassword:
    """
    A password, or a function that returns one, as it was given to a command.

    :ivar usable: whether everything that a function has returned can be a password.
        A failed login is the server's refusal only if it is.
    """

    def __init__(self, password: Password, caller: Caller) -> None:
        self.usable = True
        self.value: Password = (
            self._asking(password, caller) if callable(password) else password
        )

    def _asking(
        self, password: Callable[..., Any], caller: Caller
    ) -> Callable[..., Any]:
        # With its signature, which says whether it takes `refresh`.
        @wraps(password, updated=())
        async def ask(**options: Any) -> Any:
            self.usable = False
            answer = await caller.run(partial(password, **options))
            if isinstance(answer, str):
                answer = Secret(answer)
                check_text("password", answer)
            self.usable = isinstance(answer, str)
            return answer

        return ask


async def tell_error(
    procedure: ErrorProcedure | None, caller: Caller, text: str, code: int, name: str
) -> None:
    """Call the error procedure, and wait if it is async; a failure is only logged."""
    if procedure is None:
        return
    try:
        await caller.run(partial(procedure, text, code, name))
    except CancelledError:
        # The command was cancelled meanwhile; its code is known already.
        pass
    except Exception:  # noqa: BLE001 - whatever it is, the code is returned
        log.failure("the error procedure failed")
