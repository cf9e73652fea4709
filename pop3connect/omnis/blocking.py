"""
The commands for programs that block, as Omnis code does: each returns its int::

    socket = POP3Connect("pop.example.com", "user", "secret", "", kTrue)
    if socket < 0:
        print(error_text(socket))

Any number of threads may call them.  Different sockets are used side by side; commands
on one socket are carried out one after another.  Status procedures, error procedures
and password functions run in the thread that called the command, and may block.

The reactor runs in a thread in the background.  If none runs, crochet starts it:
``pip install 'pop3connect[blocking]'``.
"""

from __future__ import annotations

import inspect
import os
import threading
from collections.abc import Callable
from contextvars import copy_context
from functools import wraps
from typing import TYPE_CHECKING, Concatenate, ParamSpec

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from ..blocking.reactor_thread import Call, ReactorThread
from ..errors import ConnectionLostError, POP3Error
from .codes import Code, error_text, kFalse, kTrue
from .commands import Omnis
from .family import OMNIS
from .mailsplit import Part
from .procedures import CALLER, Caller, variables_of
from .words import words

__all__ = [
    "BlockingOmnis",
    "Code",
    "MailSplit",
    "POP3Connect",
    "POP3DeleteMessage",
    "POP3Disconnect",
    "POP3ListMessages",
    "POP3MessageCount",
    "POP3Recv",
    "POP3RecvHeaders",
    "POP3RecvMessage",
    "POP3Stat",
    "POP3UndoDeletes",
    "Part",
    "WebDevGetSecureError",
    "WebDevSetConfig",
    "error_text",
    "kFalse",
    "kTrue",
    "set_omnis_folder",
]

log = Logger()

P = ParamSpec("P")


def _blocking(
    command: Callable[Concatenate[Omnis, P], Deferred[int]],
) -> Callable[Concatenate[BlockingOmnis, P], int]:
    """Make a blocking command of a command that returns a Deferred."""

    @wraps(command)
    def run(self: BlockingOmnis, /, *arguments: P.args, **named: P.kwargs) -> int:
        return self._carry_out(
            command.__name__, lambda: command(self.omnis, *arguments, **named)
        )

    run.__signature__ = inspect.signature(command).replace(  # type: ignore[attr-defined]
        return_annotation="int"
    )
    return run


class BlockingOmnis:
    """
    The commands of an `Omnis`, as functions that return when they are done.

    :param omnis: its sockets and settings are used; both forms may be used together.
    :param reactor: the reactor of ``omnis``; the default is the global one, which is
        started in the background if it does not run.
    """

    def __init__(self, omnis: Omnis, reactor: IReactorTime | None = None) -> None:
        self.omnis = omnis
        self._reactor = reactor
        self._here = threading.local()

    POP3Connect = _blocking(Omnis.POP3Connect)
    POP3Disconnect = _blocking(Omnis.POP3Disconnect)
    POP3Stat = _blocking(Omnis.POP3Stat)
    POP3Recv = _blocking(Omnis.POP3Recv)
    POP3MessageCount = _blocking(Omnis.POP3MessageCount)
    POP3ListMessages = _blocking(Omnis.POP3ListMessages)
    POP3RecvHeaders = _blocking(Omnis.POP3RecvHeaders)
    POP3RecvMessage = _blocking(Omnis.POP3RecvMessage)
    POP3DeleteMessage = _blocking(Omnis.POP3DeleteMessage)
    POP3UndoDeletes = _blocking(Omnis.POP3UndoDeletes)
    WebDevSetConfig = _blocking(Omnis.WebDevSetConfig)
    MailSplit = _blocking(Omnis.MailSplit)

    def WebDevGetSecureError(self) -> str:
        """Return what the TLS library said when this thread last got -1021."""
        text: str = getattr(self._here, "secure_error", "")
        return text

    def set_omnis_folder(self, folder: str | os.PathLike[str] | None) -> None:
        """Set the folder of Omnis, as `Omnis.set_omnis_folder` does."""
        self.omnis.set_omnis_folder(folder)

    def _carry_out(self, name: str, command: Callable[[], Deferred[int]]) -> int:
        caller = Caller()

        def begin() -> Deferred[int]:
            CALLER.set(caller)
            return command()

        try:
            call = Call[int](ReactorThread.find(self._reactor))
            caller.run = call.ask
            # In a copy of the context: the reactor's own must not keep the caller.
            code = call.run(lambda: copy_context().run(begin))
        except (POP3Error, ImportError) as error:
            return self._impossible(name, error)
        if caller.secure_error:
            self._here.secure_error = caller.secure_error
        return code

    def _impossible(self, name: str, error: POP3Error | ImportError) -> int:
        """Return the code for a command that the reactor cannot carry out, or ended."""
        code = Code.UNEXPECTED
        if isinstance(error, ConnectionLostError):
            code = Code.RESET
        else:
            log.failure("{name} failed", name=name)
        if self.omnis.error_procedure is not None:
            try:
                told = self.omnis.error_procedure(words(error), code, name)
                if inspect.iscoroutine(told):
                    # No reactor can run it.
                    told.close()
            except Exception:  # noqa: BLE001 - whatever it is, the code is returned
                log.failure("the error procedure failed")
        return code


_blocking_omnis = BlockingOmnis(OMNIS)

MailSplit = _blocking_omnis.MailSplit
POP3Connect = _blocking_omnis.POP3Connect
POP3DeleteMessage = _blocking_omnis.POP3DeleteMessage
POP3Disconnect = _blocking_omnis.POP3Disconnect
POP3ListMessages = _blocking_omnis.POP3ListMessages
POP3MessageCount = _blocking_omnis.POP3MessageCount
POP3Recv = _blocking_omnis.POP3Recv
POP3RecvHeaders = _blocking_omnis.POP3RecvHeaders
POP3RecvMessage = _blocking_omnis.POP3RecvMessage
POP3Stat = _blocking_omnis.POP3Stat
POP3UndoDeletes = _blocking_omnis.POP3UndoDeletes
WebDevGetSecureError = _blocking_omnis.WebDevGetSecureError
WebDevSetConfig = _blocking_omnis.WebDevSetConfig
set_omnis_folder = _blocking_omnis.set_omnis_folder

# Not in __all__: see `pop3connect.omnis`.
S1: str

if not TYPE_CHECKING:
    __getattr__ = variables_of(__name__)
