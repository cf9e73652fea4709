"""
The POP3 commands of Omnis Studio, for people who port Omnis code.

The same names, arguments and results: sockets are small positive ints, and an error is
a number below zero.  Each ``POP3...`` returns a Deferred of an int that never fails::

    socket = await POP3Connect("pop.example.com", "user", "secret", None, 2)
    if socket < 0:
        print(error_text(socket))

What Omnis passes by reference is filled here: a list, a bytearray.  The names of the
parameters are those of the signatures, where somebody prefers keywords.

Sockets are counted up and never used again while the program runs.  Commands on one
socket are carried out one after another, in the order of the calls; those on others go
on meanwhile.  All of it belongs to the reactor's thread.
"""

from __future__ import annotations

import os
from pathlib import Path

from twisted.internet.defer import Deferred, FirstError, gatherResults

from ..address import Secure
from ..auth.authenticate import Password
from ..redaction import StatusProcedure
from .codes import Code, error_text
from .sockets import (
    COMMS_TIMEOUT,
    ErrorProcedure,
    Listener,
    Socket,
    Sockets,
    check,
    command,
)

__all__ = [
    "Code",
    "Omnis",
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
    "WebDevGetSecureError",
    "WebDevSetConfig",
    "error_text",
    "set_omnis_folder",
]

_List = list


class Omnis(Sockets):
    """
    The family, with its sockets and its settings.

    The functions of this module are the methods of one that uses the global reactor;
    make your own for another one.
    """

    # -- settings

    def set_omnis_folder(self, folder: str | os.PathLike[str] | None) -> None:
        """
        Name the folder that has ``secure/cacerts`` in it, the CAs to trust.

        :param folder: ``None``: the environment variable ``POP3CONNECT_OMNIS_FOLDER``
            counts; if it is not set either, the default of `pop3connect.connect`.
        """
        self.folder = None if folder is None else Path(folder)

    @command
    async def WebDevSetConfig(
        self,
        errorproc: ErrorProcedure | None = None,
        commstimeout: float | None = None,
    ) -> int:
        """
        Set what is called on every error, and the limit of time.

        :param errorproc: takes text, code and the name of the command; ``None``
            removes it.
        :param commstimeout: seconds for connecting and for each answer, for sockets
            that are opened from now on; 0: 60; ``None``: leave it.
        """
        check(errorproc is None or callable(errorproc), "errorproc", errorproc)
        check(
            commstimeout is None
            or (isinstance(commstimeout, (int, float)) and commstimeout >= 0),
            "commstimeout",
            commstimeout,
        )
        self.error_procedure = errorproc
        if commstimeout is not None:
            self.timeout = float(commstimeout) or COMMS_TIMEOUT
        return Code.OK

    def WebDevGetSecureError(self) -> str:
        """Return what the TLS library said when a command last returned -1021."""
        return self.secure_error

    # -- sockets

    @command
    async def POP3Connect(
        self,
        server: str,
        username: str,
        password: Password,
        stsproc: StatusProcedure | None = None,
        secure: int = Secure.NONE,
        verify: bool = True,
    ) -> int:
        """
        Open a session.

        :return: a socket, above zero, which has to be closed by `POP3Disconnect`.
        """
        check(stsproc is None or callable(stsproc), "stsproc", stsproc)
        listener = Listener(stsproc)
        handle = await self.open(server, username, password, listener, secure, verify)
        listener.procedure = None
        number = next(self.numbers)
        self.sockets[number] = Socket(handle, listener)
        return number

    @command
    async def POP3Disconnect(
        self, socket: int, stsproc: StatusProcedure | None = None
    ) -> int:
        """
        Close a socket; only now marked messages are really deleted.

        The socket is released whatever this returns.
        """
        async with self.turn(socket, stsproc) as session:
            del self.sockets[socket]
            await session.handle.disconnect()
        return Code.OK

    @command
    async def POP3MessageCount(
        self, socket: int, stsproc: StatusProcedure | None = None
    ) -> int:
        """Count the messages, those included that are marked for deletion."""
        async with self.turn(socket, stsproc) as session:
            stat = await session.handle.stat()
            return stat.count + len(session.marked)

    @command
    async def POP3ListMessages(
        self,
        socket: int,
        messagenumber: int,
        list: _List[tuple[int, int]],  # noqa: A002 - as Omnis has it
        stsproc: StatusProcedure | None = None,
    ) -> int:
        """
        List messages that are not marked.

        :param messagenumber: 0: all.
        :param list: is filled with rows of number and size in octets.
        """
        check(isinstance(list, _List), "list", list)
        list.clear()
        if messagenumber == 0:
            async with self.turn(socket, stsproc) as session:
                list.extend(
                    (row.number, row.size) for row in await session.handle.list()
                )
            return Code.OK
        async with self.turn_on(messagenumber, socket, stsproc) as session:
            list.append((messagenumber, await session.handle.size(messagenumber)))
        return Code.OK

    @command
    async def POP3RecvHeaders(
        self,
        socket: int,
        messagenumber: int,
        headers: bytearray,
        stsproc: StatusProcedure | None = None,
    ) -> int:
        """
        Receive the header of a message; the server must know TOP.

        :param headers: a bytearray that is filled.
        """
        check(isinstance(headers, bytearray), "headers", headers)
        headers.clear()
        async with self.turn_on(messagenumber, socket, stsproc) as session:
            headers += await session.handle.top(messagenumber)
        return Code.OK

    @command
    async def POP3RecvMessage(
        self,
        socket: int,
        messagenumber: int,
        message: bytearray,
        stsproc: StatusProcedure | None = None,
    ) -> int:
        """
        Receive a message.

        :param message: a bytearray that is filled.
        """
        check(isinstance(message, bytearray), "message", message)
        message.clear()
        async with self.turn_on(messagenumber, socket, stsproc) as session:
            message += await session.handle.retrieve(messagenumber)
        return Code.OK

    @command
    async def POP3DeleteMessage(
        self, socket: int, messagenumber: int, stsproc: StatusProcedure | None = None
    ) -> int:
        """Mark a message for deletion; `POP3Disconnect` deletes it."""
        async with self.turn_on(messagenumber, socket, stsproc) as session:
            await session.handle.delete(messagenumber)
            session.marked.add(messagenumber)
        return Code.OK

    @command
    async def POP3UndoDeletes(
        self, socket: int, stsproc: StatusProcedure | None = None
    ) -> int:
        """Unmark all messages."""
        async with self.turn(socket, stsproc) as session:
            await session.handle.reset()
            session.marked.clear()
        return Code.OK

    # -- in one go

    @command
    async def POP3Stat(
        self,
        server: str,
        user: str,
        password: Password,
        stsproc: StatusProcedure | None = None,
        secure: int = Secure.NONE,
        verify: bool = True,
    ) -> int:
        """Return the number of waiting messages; the session is closed again."""
        handle = await self.open(server, user, password, stsproc, secure, verify)
        async with handle:
            return (await handle.stat()).count

    @command
    async def POP3Recv(
        self,
        server: str,
        user: str,
        password: Password,
        list: _List[bytes],  # noqa: A002 - as Omnis has it
        delete: bool = False,
        stsproc: StatusProcedure | None = None,
        maxmessages: int | None = None,
        secure: int = Secure.NONE,
        verify: bool = True,
    ) -> int:
        """
        Receive the messages of a mailbox; the session is closed again.

        If one cannot be received, that is the end: what has come is in the list, and
        nothing is deleted.

        :param list: is filled with one bytes for each message.
        :param delete: whether to delete what was received.
        :param maxmessages: receive so many of the first ones; 0 or ``None``: all.
        """
        check(isinstance(list, _List), "list", list)
        check(
            maxmessages is None or (type(maxmessages) is int and maxmessages >= 0),
            "maxmessages",
            maxmessages,
        )
        list.clear()
        handle = await self.open(server, user, password, stsproc, secure, verify)
        async with handle:
            numbers = [row.number for row in await handle.list()]
            if maxmessages:
                numbers = numbers[:maxmessages]
            async for message in handle.messages(numbers):
                if message.error is not None:
                    raise message.error
                list.append(message.content)
            if delete:
                await _all([handle.delete(number) for number in numbers])
        return Code.OK


async def _all(deferreds: list[Deferred[None]]) -> None:
    """Wait for all of them, and raise what the first failed with."""
    try:
        await gatherResults(deferreds, consumeErrors=True)
    except FirstError as first:
        first.subFailure.raiseException()


_omnis = Omnis()

POP3Connect = _omnis.POP3Connect
POP3Disconnect = _omnis.POP3Disconnect
POP3Stat = _omnis.POP3Stat
POP3Recv = _omnis.POP3Recv
POP3MessageCount = _omnis.POP3MessageCount
POP3ListMessages = _omnis.POP3ListMessages
POP3RecvHeaders = _omnis.POP3RecvHeaders
POP3RecvMessage = _omnis.POP3RecvMessage
POP3DeleteMessage = _omnis.POP3DeleteMessage
POP3UndoDeletes = _omnis.POP3UndoDeletes
WebDevSetConfig = _omnis.WebDevSetConfig
WebDevGetSecureError = _omnis.WebDevGetSecureError
set_omnis_folder = _omnis.set_omnis_folder
