"""
The POP3 commands of Omnis Studio, for people who port Omnis code.

The names, parameters and results are those of Omnis: a socket is a number above zero,
and an error is a number below zero.  Each command returns a Deferred of an int, and
never fails::

    socket = await POP3Connect("pop.example.com", "user", "secret", "", 2)
    if socket < 0:
        print(error_text(socket))

Omnis passes some parameters by reference; here the command fills a list or a bytearray.

A socket number is never used again while the program runs.  Commands on one socket are
carried out one after another, in the order of the calls; other sockets go on meanwhile.
All of this belongs to the reactor's thread; `pop3connect.omnis.blocking` is for others.
"""

from __future__ import annotations

import math
import os
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, FirstError, gatherResults

from ..address import Secure
from ..auth.account import Password
from ..connector import MAX_SECONDS
from ..errors import CommandError
from .codes import Code, RefusedError
from .mailsplit import split
from .parameters import check, check_bytearray, check_list, check_login
from .procedures import ErrorProcedure, StatusProcedure
from .sockets import COMMS_TIMEOUT, Auth, Sockets, command
from .words import words

__all__ = ["Omnis"]

_List = list


class Omnis(Sockets):
    """
    The commands, with their sockets and their settings.

    The functions of `pop3connect.omnis` are the methods of one instance, which uses the
    global reactor.  A program that needs another reactor makes another instance.
    """

    # -- settings

    def set_omnis_folder(self, folder: str | os.PathLike[str] | None) -> None:
        """
        Set the folder whose ``secure/cacerts`` holds the CA certificates to trust.

        :param folder: ``None`` means the one that the environment variable
            ``POP3CONNECT_OMNIS_FOLDER`` names, or else what `pop3connect.connect`
            trusts by default.
        """
        self.folder = None if folder is None else Path(folder)

    @command
    async def WebDevSetConfig(
        self,
        errorproc: ErrorProcedure | str | None = None,
        commstimeout: float | None = None,
        *,
        auth: Auth = None,
    ) -> int:
        """
        Set the error procedure, the time limit and the login mechanism.

        Without parameters, remove the error procedure.

        :param errorproc: called with the text, the code and the name of the command on
            every error, before the command returns the code; an async one is awaited.
            ``''`` removes it, and ``None`` with another parameter leaves it.
        :param commstimeout: seconds for connecting and for each reply, for sockets
            opened from now on.  0 means 60, a negative value its absolute value, and
            ``None`` leaves it.
        :param auth: the ``auth`` of `pop3connect.connect` for logins from now on, such
            as ``"XOAUTH2"``.  ``''`` means ``"auto"``, and ``None`` leaves it.
        :return: 0, or -501 for a parameter that cannot be used; then nothing is set.
        """
        check(
            errorproc is None or errorproc == "" or callable(errorproc),
            "errorproc",
            "a function, or '' for none",
            errorproc,
        )
        check(
            commstimeout is None
            or (
                isinstance(commstimeout, (int, float))
                and not math.isnan(commstimeout)
                and abs(commstimeout) <= MAX_SECONDS
            ),
            "commstimeout",
            "a number of seconds, of at most a year",
            commstimeout,
        )
        check_login(auth)
        if callable(errorproc):
            self.error_procedure = errorproc
        elif errorproc == "" or (commstimeout is None and auth is None):
            self.error_procedure = None
        if commstimeout is not None:
            self.timeout = abs(float(commstimeout)) or COMMS_TIMEOUT
        if auth is not None:
            self.auth = auth or "auto"
        return Code.OK

    def WebDevGetSecureError(self) -> str:
        """Return what the TLS library said when a command last returned -1021."""
        return self.caller.secure_error

    # -- sockets

    @command
    async def POP3Connect(
        self,
        server: str,
        username: str,
        password: Password,
        stsproc: StatusProcedure = None,
        secure: int = Secure.NONE,
        verify: bool = True,
        *,
        auth: Auth = None,
    ) -> int:
        """
        Open a session.

        :param server: host name or IP address, or ``host:port``.  The default port is
            110, or 995 if ``secure`` is 1.
        :param username: the name to log in with.
        :param password: a password or token, or a function that returns one.
        :param stsproc: called with each protocol message, or without it if it takes no
            parameter; then ``pop3connect.omnis.S1`` holds the message.  ``''`` means
            none.
        :param secure: 0 plain, 1 TLS from the start, 2 STLS before the login.
        :param verify: whether the server must prove its identity to the CA certificates
            in ``secure/cacerts``; without, TLS still encrypts.
        :param auth: the ``auth`` of `pop3connect.connect`, such as ``"XOAUTH2"``;
            ``None`` means the setting of `WebDevSetConfig`.
        :return: a socket, which `POP3Disconnect` closes, or a code below zero.
        """
        session = await self.open(
            server, username, password, stsproc, secure, verify, auth
        )
        session.listener.listen(None, self.caller)
        number = next(self.numbers)
        self.sockets[number] = session
        return number

    @command
    async def POP3Disconnect(self, socket: int, stsproc: StatusProcedure = None) -> int:
        """
        Close a socket; only now the marked messages are really deleted.

        The socket is released whatever this returns.

        :param socket: a socket of `POP3Connect`.
        :param stsproc: as for `POP3Connect`.
        :return: 0, or a code below zero.
        """
        async with self.turn(socket, stsproc) as session:
            del self.sockets[socket]
            await session.handle.disconnect()
        return Code.OK

    @command
    async def POP3MessageCount(
        self, socket: int, stsproc: StatusProcedure = None
    ) -> int:
        """
        Count the messages, including those that are marked for deletion.

        :param socket: a socket of `POP3Connect`.
        :param stsproc: as for `POP3Connect`.
        :return: the number of messages at the beginning of the session, or a code below
            zero.
        """
        async with self.turn(socket, stsproc) as session:
            stat = await session.handle.stat()
            if not session.marked:
                session.count = stat.count
            elif session.count is None:
                # STAT of some servers counts marked messages (Twisted's does), and that
                # of others does not.  Either way each message is listed or marked.
                rows = await session.handle.list()
                session.count = len({row.number for row in rows} | session.marked)
            return session.count

    @command
    async def POP3ListMessages(
        self,
        socket: int,
        messagenumber: int,
        list: _List[tuple[int, int]],  # noqa: A002 - as Omnis has it
        stsproc: StatusProcedure = None,
    ) -> int:
        """
        List the messages that are not marked for deletion.

        :param socket: a socket of `POP3Connect`.
        :param messagenumber: the message to list; 0 lists all.
        :param list: a list; cleared, and filled with rows of number and size in octets.
        :param stsproc: as for `POP3Connect`.
        :return: 0, or a code below zero.
        """
        check_list("list", list)
        list.clear()
        if messagenumber == 0:
            async with self.turn(socket, stsproc) as session:
                list.extend(
                    (row.number, row.size)
                    for row in await session.handle.list()
                    # Some servers list them.
                    if row.number not in session.marked
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
        stsproc: StatusProcedure = None,
    ) -> int:
        """
        Receive the header of a message; the server must support TOP.

        :param socket: a socket of `POP3Connect`.
        :param messagenumber: the message.
        :param headers: a bytearray; cleared, and filled with the header.
        :param stsproc: as for `POP3Connect`.
        :return: 0, or a code below zero; -600 if the server does not support TOP.
        """
        check_bytearray("headers", headers)
        headers.clear()
        async with self.turn_on(messagenumber, socket, stsproc) as session:
            try:
                headers += await session.handle.top(messagenumber)
            except CommandError as error:
                # Known by now: the reply to CAPA has come before.
                capabilities = session.handle.capabilities
                if capabilities.known and "TOP" not in capabilities:
                    # The message may well exist.
                    raise RefusedError(Code.REFUSED, words(error)) from error
                raise
        return Code.OK

    @command
    async def POP3RecvMessage(
        self,
        socket: int,
        messagenumber: int,
        message: bytearray,
        stsproc: StatusProcedure = None,
    ) -> int:
        """
        Receive a message.

        :param socket: a socket of `POP3Connect`.
        :param messagenumber: the message.
        :param message: a bytearray; cleared, and filled with the message.
        :param stsproc: as for `POP3Connect`.
        :return: 0, or a code below zero.
        """
        check_bytearray("message", message)
        message.clear()
        async with self.turn_on(messagenumber, socket, stsproc) as session:
            message += await session.handle.retrieve(messagenumber)
        return Code.OK

    @command
    async def POP3DeleteMessage(
        self, socket: int, messagenumber: int, stsproc: StatusProcedure = None
    ) -> int:
        """
        Mark a message for deletion; `POP3Disconnect` deletes it.

        :param socket: a socket of `POP3Connect`.
        :param messagenumber: the message.
        :param stsproc: as for `POP3Connect`.
        :return: 0, or a code below zero.
        """
        async with self.turn_on(messagenumber, socket, stsproc) as session:
            await session.handle.delete(messagenumber)
            session.marked.add(messagenumber)
        return Code.OK

    @command
    async def POP3UndoDeletes(
        self, socket: int, stsproc: StatusProcedure = None
    ) -> int:
        """
        Unmark all messages.

        :param socket: a socket of `POP3Connect`.
        :param stsproc: as for `POP3Connect`.
        :return: 0, or a code below zero.
        """
        async with self.turn(socket, stsproc) as session:
            await session.handle.reset()
            session.marked.clear()
        return Code.OK

    # -- a session for one command

    @command
    async def POP3Stat(
        self,
        server: str,
        user: str,
        password: Password,
        stsproc: StatusProcedure = None,
        secure: int = Secure.NONE,
        verify: bool = True,
        *,
        auth: Auth = None,
    ) -> int:
        """
        Count the waiting messages, in a session for this command only.

        :param server: as for `POP3Connect`, like the other parameters.
        :param user: the name to log in with.
        :param password: a password or token, or a function that returns one.
        :param stsproc: called with each protocol message.
        :param secure: 0 plain, 1 TLS from the start, 2 STLS before the login.
        :param verify: whether the server must prove its identity.
        :param auth: the login mechanism.
        :return: the number of messages, or a code below zero.
        """
        session = await self.open(server, user, password, stsproc, secure, verify, auth)
        async with session.handle as handle:
            return (await handle.stat()).count

    @command
    async def POP3Recv(
        self,
        server: str,
        user: str,
        password: Password,
        list: _List[bytes],  # noqa: A002 - as Omnis has it
        delete: bool = False,
        stsproc: StatusProcedure = None,
        maxmessages: int | None = None,
        secure: int = Secure.NONE,
        verify: bool = True,
        *,
        auth: Auth = None,
    ) -> int:
        """
        Receive the messages of a mailbox, in a session for this command only.

        A message that cannot be received ends the command: the list has the messages
        before it, and nothing is deleted.

        :param server: as for `POP3Connect`, like ``user`` to ``password`` and
            ``secure`` to ``auth``.
        :param user: the name to log in with.
        :param password: a password or token, or a function that returns one.
        :param list: a list; cleared, and filled with one bytes object a message.
        :param delete: whether to delete the messages received.
        :param stsproc: called with each protocol message.
        :param maxmessages: receive at most this number of messages, the first ones; 0
            or ``None`` means all.
        :param secure: 0 plain, 1 TLS from the start, 2 STLS before the login.
        :param verify: whether the server must prove its identity.
        :param auth: the login mechanism.
        :return: 0, or a code below zero.
        """
        check_list("list", list)
        check(
            maxmessages is None or (type(maxmessages) is int and maxmessages >= 0),
            "maxmessages",
            "a number from 0",
            maxmessages,
        )
        list.clear()
        session = await self.open(server, user, password, stsproc, secure, verify, auth)
        async with session.handle as handle:
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

    # -- without a session

    @command
    async def MailSplit(
        self,
        message: bytes | bytearray | str,
        headerlist: _List[tuple[str, str]],
        body: bytearray | _List[Any],
    ) -> int:
        """
        Take a message apart: its header fields and its body.

        :param message: a message, or its header only.
        :param headerlist: a list; cleared, and filled with rows of name and value in
            the order of the message, repeats included.  Values are unfolded, and
            encoded words decoded.
        :param body: a bytearray is filled with the body: a text in UTF-8, anything else
            as the decoded bytes.  A list that is not empty is filled with a row for the
            message and for each of its parts, each a `Part`; ``list(Part._fields)`` is
            such a list.  An empty list stays empty: only the header is split.
        :return: 0, or a code below zero; -525 for a message whose parts are nested too
            deeply, whose body is not taken apart then.
        """
        # Where the command was called: a large message takes a while.
        await self.caller.run(partial(split, message, headerlist, body))
        return Code.OK


async def _all(deferreds: list[Deferred[None]]) -> None:
    """Wait for all of them, and raise the first failure."""
    try:
        await gatherResults(deferreds, consumeErrors=True)
    except FirstError as first:
        first.subFailure.raiseException()
