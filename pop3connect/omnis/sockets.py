"""
What the commands of the Omnis family share: numbered sessions, and an error code for
every failure.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import wraps
from itertools import count
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import attrs
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from .. import api
from ..auth.account import Password
from ..errors import CommandError, TLSError, UsageError
from ..handle import Handle
from ..redaction import Secret
from .codes import Code, RefusedError, code_of
from .parameters import check, check_procedure
from .procedures import (
    CALLER,
    Caller,
    ErrorProcedure,
    GivenPassword,
    Listener,
    StatusProcedure,
    tell_error,
)
from .words import words

__all__ = [
    "COMMS_TIMEOUT",
    "Auth",
    "Socket",
    "Sockets",
    "command",
]

log = Logger()

COMMS_TIMEOUT = 60.0
"""Seconds for connecting and for each reply, unless WebDevSetConfig sets another."""

FOLDER_VARIABLE = "POP3CONNECT_OMNIS_FOLDER"
"""The environment variable that names the folder of Omnis if the program does not."""

Auth = Any
"""The ``auth`` of `pop3connect.connect`; ``None`` and ``''`` mean the setting."""


@attrs.define(eq=False)
class Socket:
    """
    A session, and what the commands know of it.

    :ivar listener: calls the status procedure of the command being carried out.
    :ivar turn: held by the command being carried out.
    :ivar marked: the messages that are marked for deletion.
    :ivar count: the number of messages at the beginning of the session, once known.
    """

    handle: Handle
    listener: Listener
    turn: DeferredLock = attrs.field(factory=DeferredLock)
    marked: set[int] = attrs.field(factory=set)
    count: int | None = None


P = ParamSpec("P")
S = TypeVar("S", bound="Sockets")


def command(
    body: Callable[Concatenate[S, P], Coroutine[Any, Any, int]],
) -> Callable[Concatenate[S, P], Deferred[int]]:
    """Make a command of a coroutine function: it returns a number whatever happens."""
    signature = inspect.signature(body)

    @wraps(body)
    def run(self: S, /, *arguments: P.args, **named: P.kwargs) -> Deferred[int]:
        try:
            bound = signature.bind(self, *arguments, **named)
        except TypeError as error:
            carrying = self.told(Code.PARAMETER_COUNT, str(error), body.__name__)
        else:
            # The frames of the coroutine, which tracebacks show, hold them; a server
            # given as a URL may hold a password.
            for name in ("server", "password"):
                if isinstance(value := bound.arguments.get(name), str):
                    bound.arguments[name] = Secret(value)
            carrying = self._carry_out(body.__name__, body(*bound.args, **bound.kwargs))
        return Deferred.fromCoroutine(carrying)

    # What help() shows: the body returns an int, the command a Deferred of one.
    run.__signature__ = signature.replace(  # type: ignore[attr-defined]
        return_annotation="Deferred[int]"
    )
    return run


class Sockets:
    """
    Sessions by number, and the settings of the family.

    :param connect: opens a session, as `pop3connect.connect` does.
    :param reactor: for ``connect``.
    """

    def __init__(
        self,
        connect: Callable[..., Deferred[Handle]] = api.connect,
        reactor: IReactorTime | None = None,
    ) -> None:
        self._connect = connect
        self._reactor = reactor
        self.numbers = count(1)
        self.sockets: dict[int, Socket] = {}
        self.error_procedure: ErrorProcedure | None = None
        self.timeout = COMMS_TIMEOUT
        self.auth: Auth = "auto"
        self.folder: Path | None = None
        self._caller = Caller()

    @property
    def caller(self) -> Caller:
        """The thread that called the command being carried out."""
        return CALLER.get() or self._caller

    # -- sessions

    async def open(
        self,
        server: str,
        username: str,
        password: Password,
        stsproc: StatusProcedure,
        secure: int,
        verify: bool,
        auth: Auth,
    ) -> Socket:
        """
        Open a session with these parameters and the settings of the family.

        :param stsproc: called with the protocol messages until the end of the command.
        :raises RefusedError: a parameter cannot be used, or the server offers no login
            that suits it.
        """
        check_procedure(stsproc)
        check(isinstance(server, str), "server", "a str", server)
        if not server.strip():
            raise RefusedError(
                Code.NO_ADDRESS, "the server is empty: give a host name or an address"
            )
        check(isinstance(username, str), "username", "a str", username)
        check(
            isinstance(password, str) or callable(password),
            "password",
            "a str, or a function that returns one",
            # The type: the value must not be shown.
            type(password),
        )
        check(isinstance(verify, int), "verify", "True or False", verify)
        given = GivenPassword(password, self.caller)
        listener = Listener()
        listener.listen(stsproc, self.caller)
        opening = self._connect(
            server,
            username,
            given.value,
            listener,
            secure,
            bool(verify),
            cacerts=self._cacerts() if secure and verify else None,
            reactor=self._reactor,
            timeout=self.timeout,
            connect_timeout=self.timeout,
            auth=auth or self.auth,
        )
        # connect() checks its arguments before it returns.  A UsageError that comes
        # later is about what the server offers.
        answered_at_once = opening.called
        try:
            return Socket(await opening, listener)
        except UsageError as error:
            if answered_at_once or not given.usable:
                raise
            raise RefusedError(Code.LOGIN_REFUSED, words(error)) from error

    def _cacerts(self) -> Path | None:
        folder = self.folder
        if folder is None:
            named = os.environ.get(FOLDER_VARIABLE)
            if not named:
                return None
            folder = Path(named)
        cacerts = folder / "secure" / "cacerts"
        if not cacerts.is_dir():
            raise TLSError(
                f"there is no folder {cacerts}; put the certificates of the CAs to "
                "trust there, or name another folder with set_omnis_folder()"
            )
        return cacerts

    @asynccontextmanager
    async def turn(
        self, socket: int, stsproc: StatusProcedure
    ) -> AsyncIterator[Socket]:
        """Wait for the earlier commands on a socket, and then give its session."""
        check_procedure(stsproc)
        session = self._find(socket)
        await session.turn.acquire()
        try:
            # It may have been closed meanwhile.
            self._find(socket)
            session.listener.listen(stsproc, self.caller)
            yield session
        finally:
            session.listener.listen(None, self.caller)
            session.turn.release()

    @asynccontextmanager
    async def turn_on(
        self, number: int, socket: int, stsproc: StatusProcedure
    ) -> AsyncIterator[Socket]:
        """Do the same for a command about one message, which may not exist."""
        check(type(number) is int, "messagenumber", "an int", number)
        async with self.turn(socket, stsproc) as session:
            try:
                yield session
            except UsageError as error:
                raise RefusedError(Code.NO_SUCH_MESSAGE, words(error)) from error
            except CommandError as error:
                if error.code is not None:
                    raise
                raise RefusedError(Code.NO_SUCH_MESSAGE, words(error)) from error

    def _find(self, socket: int) -> Socket:
        session = self.sockets.get(socket) if type(socket) is int else None
        if session is None:
            raise RefusedError(
                Code.BAD_SOCKET,
                f"socket {socket!r:.50} is not open; POP3Connect returns one that is",
            )
        return session

    # -- codes

    async def _carry_out(self, name: str, body: Awaitable[int]) -> int:
        try:
            return await body
        except Exception as error:  # noqa: BLE001 - each has its code
            code = code_of(error)
            if code is Code.UNEXPECTED:
                log.failure("{name} failed", name=name)
            if code is Code.TLS_ERROR:
                self.caller.secure_error = words(error.__cause__ or error)
            text = words(error) or code.text
        return await self.told(code, text, name)

    async def told(self, code: Code, text: str, name: str) -> int:
        """Tell the error procedure of an error, and return its code."""
        await tell_error(self.error_procedure, self.caller, text, code, name)
        return code
