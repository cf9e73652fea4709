"""
What the commands of the Omnis family have in common: sessions that have a number, and
that whatever happens is told by a number too.
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
from twisted.internet.defer import Deferred, DeferredLock, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from .. import api
from ..auth.authenticate import Password
from ..errors import CommandError, TLSError, UsageError
from ..handle import Handle
from ..redaction import StatusProcedure, printable
from .codes import Code, code_of

__all__ = ["COMMS_TIMEOUT", "ErrorProcedure", "Listener", "Sockets", "check", "command"]

log = Logger()

COMMS_TIMEOUT = 60.0
"""Seconds for connecting and for each answer, unless WebDevSetConfig sets another."""

FOLDER_VARIABLE = "POP3CONNECT_OMNIS_FOLDER"
"""The environment variable that names the folder of Omnis, if nothing else does."""

ErrorProcedure = Callable[[str, int, str], object]
"""Called with text, code and command, before the code is returned."""


class RefusedError(Exception):
    """A parameter or a socket with which nothing can be done."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.code = code


class Listener:
    """The status procedure of a session: that of the command that is under way."""

    def __init__(self, procedure: StatusProcedure | None) -> None:
        self.procedure = procedure

    def __call__(self, text: str) -> None:
        """Pass it on."""
        if self.procedure is not None:
            self.procedure(text)


@attrs.define(eq=False)
class Socket:
    """
    A session, as its number names it.

    :ivar turn: held by the command that is under way.
    :ivar marked: the messages that are marked for deletion.
    """

    handle: Handle
    listener: Listener
    turn: DeferredLock = attrs.field(factory=DeferredLock)
    marked: set[int] = attrs.field(factory=set)


P = ParamSpec("P")
S = TypeVar("S", bound="Sockets")


def command(
    body: Callable[Concatenate[S, P], Coroutine[Any, Any, int]],
) -> Callable[Concatenate[S, P], Deferred[int]]:
    """Make a command: whatever happens, it returns a number."""
    signature = inspect.signature(body)

    @wraps(body)
    def run(self: S, /, *arguments: P.args, **named: P.kwargs) -> Deferred[int]:
        try:
            signature.bind(self, *arguments, **named)
        except TypeError as error:
            return succeed(self._told(Code.PARAMETER_COUNT, str(error), body.__name__))
        return Deferred.fromCoroutine(
            self._carry_out(body.__name__, body(self, *arguments, **named))
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
        self.secure_error = ""
        self.folder: Path | None = None

    # -- what they have in common

    async def open(
        self,
        server: str,
        username: str,
        password: Password,
        stsproc: StatusProcedure | None,
        secure: int,
        verify: bool,
    ) -> Handle:
        """Open a session with these parameters and the settings of the family."""
        check(isinstance(server, str), "server", server)
        if not server.strip():
            raise RefusedError(Code.NO_ADDRESS, "the server is empty")
        check(isinstance(username, str), "username", username)
        # What it is must not be seen.
        check(
            isinstance(password, str) or callable(password), "password", type(password)
        )
        check(stsproc is None or callable(stsproc), "stsproc", stsproc)
        check(isinstance(verify, int), "verify", verify)
        return await self._connect(
            server,
            username,
            password,
            stsproc,
            secure,
            bool(verify),
            cacerts=self._cacerts() if secure and verify else None,
            reactor=self._reactor,
            timeout=self.timeout,
            connect_timeout=self.timeout,
        )

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
        self, socket: int, stsproc: StatusProcedure | None
    ) -> AsyncIterator[Socket]:
        """Wait until the commands before are done."""
        check(stsproc is None or callable(stsproc), "stsproc", stsproc)
        session = self._find(socket)
        await session.turn.acquire()
        try:
            # It may have been closed meanwhile.
            self._find(socket)
            session.listener.procedure = stsproc
            yield session
        finally:
            session.listener.procedure = None
            session.turn.release()

    @asynccontextmanager
    async def turn_on(
        self, number: int, socket: int, stsproc: StatusProcedure | None
    ) -> AsyncIterator[Socket]:
        """The same for a command about one message."""
        check(type(number) is int, "messagenumber", number)
        async with self.turn(socket, stsproc) as session:
            try:
                yield session
            except UsageError as error:
                raise RefusedError(Code.NO_SUCH_MESSAGE, str(error)) from error
            except CommandError as error:
                if error.code is not None:
                    raise
                raise RefusedError(Code.NO_SUCH_MESSAGE, str(error)) from error

    def _find(self, socket: int) -> Socket:
        session = self.sockets.get(socket) if type(socket) is int else None
        if session is None:
            raise RefusedError(
                Code.BAD_SOCKET,
                f"socket {socket!r:.50} is not open; POP3Connect returns one that is",
            )
        return session

    async def _carry_out(self, name: str, body: Awaitable[int]) -> int:
        try:
            return await body
        except RefusedError as error:
            return self._told(error.code, str(error), name)
        except Exception as error:  # noqa: BLE001 - each has its code
            code = code_of(error)
            if code is Code.UNEXPECTED:
                log.failure("{name} failed", name=name)
            if code is Code.TLS_ERROR:
                self.secure_error = str(error.__cause__ or error)
            return self._told(code, str(error) or code.text, name)

    def _told(self, code: Code, text: str, name: str) -> Code:
        """Tell the error procedure, and return the code."""
        if self.error_procedure is not None:
            try:
                self.error_procedure(text, code, name)
            except Exception:  # noqa: BLE001 - whatever it is, the code is returned
                log.failure("the error procedure failed")
        return code


def check(fits: bool, name: str, value: object) -> None:
    """Refuse a parameter of a wrong type, or out of its range, unless it fits."""
    if not fits:
        raise RefusedError(
            Code.PARAMETER_TYPE,
            f"{name} cannot be {printable(repr(value).encode())[:80]}",
        )
