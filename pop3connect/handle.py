"""
The handle: one method per command, which returns a Deferred of a typed value.
"""

from __future__ import annotations

import warnings
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast, overload

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IConsumer
from twisted.python.failure import Failure

from .address import ServerAddress
from .auth.login import Session
from .client.observer import OneShot
from .client.prefetch import (
    AHEAD,
    Budget,
    Fetch,
    FetchHeaders,
    FetchInto,
    Largest,
    Messages,
)
from .client.protocol import POP3ClientProtocol
from .client.streaming import Into, Progress, sink_for
from .errors import (
    ConnectionLostError,
    ProtocolError,
    TimedOutError,
    UsageError,
)
from .files import Writable
from .reactors import check_thread, in_its_turn
from .results import (
    UID,
    Capabilities,
    Committed,
    Listing,
    LoginInfo,
    Message,
    Refused,
    Stat,
    Stored,
)
from .sansio.commands import (
    Capa,
    Command,
    Custom,
    CustomBody,
    Dele,
    Lang,
    LangList,
    List,
    ListOne,
    Noop,
    Quit,
    Retrieve,
    Rset,
    StatCommand,
    Top,
    Uidl,
    UidlOne,
)
from .sansio.exchange import Exchange, Sink
from .sansio.states import State

if TYPE_CHECKING:
    from typing_extensions import Self

    from .results import TLSInfo

__all__ = ["Handle"]

T = TypeVar("T")
C = TypeVar("C", bound=Command[Any])
Row = TypeVar("Row", Listing, UID)

# In the class below `list` is a method.
_Listings = list[Listing]
_UIDs = list[UID]
_Rows = list

_SILENT = (ConnectionLostError, TimedOutError, ProtocolError)
"""What `disconnect` reports to a program that ignores the Deferreds of `delete`."""


class Handle:
    """
    An open POP3 session, made by `connect`.

    Every method returns at once, with a Deferred; commands are carried out in the
    order of the calls.  They may be called from any coroutine or callback of the
    reactor's thread; in another thread they fail with `UsageError`, and
    `pop3connect.blocking` works.  Each Deferred can fail with:

    - `CommandError`: the server answered ``-ERR``; the session goes on;
    - `UsageError`: the arguments; nothing was sent;
    - `ConnectionLostError`, `TimedOutError`, `ProtocolError`: the session has
      ended, and nothing was deleted unless `disconnect` says so.

    A handle must be closed, by `disconnect` or `abort`; ``async with`` does it.  A
    handle that is forgotten while its session is open is aborted, with a
    `ResourceWarning`.  Pending commands and the iterators of `messages` and `headers`
    keep it alive, so ``await (await connect(...)).stat()`` works.
    """

    def __init__(self, protocol: POP3ClientProtocol, session: Session) -> None:
        self._protocol = protocol
        self._session = session
        self._capabilities = session.later.capabilities
        # The messages that are marked; False: asked for, and not known yet.
        self._marks: dict[int, bool] = {}
        self._resets = 0
        self._ending: OneShot[Committed] | None = None
        self._budget = Budget()
        self._largest = Largest()
        self._aborted = False
        if self._capabilities.known:
            # Servers offer more after the login, or correct what they said.  One that
            # does not know CAPA is not asked again: some close the session after a few
            # errors.  The transport sends it together with the first commands.
            asking = Exchange(Capa(), session.later, noted=self._learn)
            protocol.enqueue(Capa.verb, [asking])

    def __del__(self) -> None:
        """Abort a session that no code can end any more."""
        if not self.is_open:
            return
        # In any thread, and in the middle of anything.
        protocol = self._protocol
        try:
            self._in_its_turn(
                partial(protocol.end, "the session's handle was forgotten")
            )
        finally:
            # Where warnings are errors, this raises.
            warnings.warn(
                f"{self.server}: a handle was forgotten while its session was open; "
                "use 'async with', or await disconnect() or abort()",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )

    def __repr__(self) -> str:
        """Show where it leads and whether it is open."""
        return f"<Handle {self.server} {self._protocol.state.value}>"

    # -- facts

    @property
    def server(self) -> ServerAddress:
        """The server, as it was given to `connect`."""
        return self._protocol.settings.server

    @property
    def is_open(self) -> bool:
        """Whether commands can be sent; not after `disconnect` or the end."""
        return self._protocol.state is State.TRANSACTION

    @property
    def greeting(self) -> str:
        """The server's greeting, printable, without its ``+OK``."""
        return self._session.greeting

    @property
    def capabilities(self) -> Capabilities:
        """
        The server's capabilities, from its last reply to CAPA (RFC 2449).

        CAPA is sent after each login, together with the first command.  Until its
        reply, these are the capabilities from before the login, or from an earlier
        login of this user.  After ``await handle.capa()`` they are current.
        """
        return self._capabilities

    @property
    def login(self) -> LoginInfo:
        """How the login went."""
        return self._session.login

    @property
    def tls(self) -> TLSInfo | None:
        """The TLS that protects the session; ``None`` without TLS."""
        return self._protocol.tls

    # -- the mailbox

    def stat(self) -> Deferred[Stat]:
        """
        Count the messages and their octets (STAT, RFC 1939 section 5).

        Some servers count marked messages too, which RFC 1939 does not allow; the
        result is what the server said.
        """
        return self._submit(StatCommand)

    def list(self) -> Deferred[_Listings]:
        """List the messages that are not marked (LIST, RFC 1939 section 5)."""
        return self._submit(List, noted=self._leave_out_marked)

    def size(self, number: int) -> Deferred[int]:
        """Return the size of a message in octets (LIST, RFC 1939 section 5)."""
        return self._submit(ListOne, number).addCallback(_size)

    def uidl(self) -> Deferred[_UIDs]:
        """
        List the unique-ids of messages that are not marked (UIDL, RFC 1939 section 7).

        UIDL is optional: a server without it answers ``-ERR``.
        """
        return self._submit(Uidl, noted=self._leave_out_marked)

    def uid(self, number: int) -> Deferred[str]:
        """
        Return the unique-id of a message (UIDL, RFC 1939 section 7).

        A server that answers with the unique-id alone is understood, unless the
        unique-id is a number: then this fails with `ProtocolError`, and `uidl` works.
        """
        return self._submit(UidlOne, number).addCallback(_uid)

    # -- messages

    @overload
    def retrieve(self, number: int, destination: None = None) -> Deferred[bytes]: ...

    @overload
    def retrieve(
        self, number: int, destination: IConsumer | Writable
    ) -> Deferred[int]: ...

    def retrieve(
        self, number: int, destination: IConsumer | Writable | None = None
    ) -> Deferred[Any]:
        """
        Fetch a message (RETR, RFC 1939 section 5).

        :param destination: takes the message in pieces as it comes: an `IConsumer`,
            which may pause the connection, or a file open for writing in binary mode,
            which is left open.  If it raises, that is what the Deferred fails with,
            and the session ends: the rest of the message would have to be read.
        :return: the message as it is stored, with CRLF; with a destination, the number
            of bytes written to it.
        """
        if destination is None:
            return self._submit(Retrieve, number)
        try:
            sink = sink_for(destination)
        except UsageError as error:
            error.server = str(self.server)
            return fail(error.about(Retrieve.verb, number))
        return self._submit(Retrieve, number, sink=sink)

    def top(self, number: int, lines: int = 0) -> Deferred[bytes]:
        """
        Fetch the header of a message and the first ``lines`` lines of its text (TOP).

        TOP is optional (RFC 1939 section 7): a server without it answers ``-ERR``.
        """
        return self._submit(Top, number, lines)

    @overload
    def messages(
        self,
        numbers: Iterable[int] | None = None,
        ahead: int = AHEAD,
        into: None = None,
        progress: None = None,
    ) -> Messages[Message | Refused]: ...

    @overload
    def messages(
        self,
        numbers: Iterable[int] | None = None,
        ahead: int = AHEAD,
        *,
        into: Into,
        progress: Progress | None = None,
    ) -> Messages[Stored | Refused]: ...

    def messages(
        self,
        numbers: Iterable[int] | None = None,
        ahead: int = AHEAD,
        into: Into | None = None,
        progress: Progress | None = None,
    ) -> Messages[Any]:
        """
        Iterate over messages in order; the next ones are fetched meanwhile.

        :param numbers: which ones; ``None``: all that LIST names.
        :param ahead: how many are fetched, at most, before they are wanted.
        :param into: called with the number of each message when the server has begun to
            send it; returns where it is written, as ``destination`` of `retrieve`.
            Such messages do not count as bytes.  At most 64 are fetched before they are
            wanted, because their files are open.
        :param progress: with ``into``: called after each piece with the number of the
            message, the bytes written of it, and its size, as LIST says, or ``None`` if
            LIST was not read because ``numbers`` was given.
        :return: an async iterator.  Messages asked for and not yet taken stay below
            16 MiB plus one message, for all iterators of a session together.

        The items are `Message`, or `Refused` if the server refuses one; after
        ``if item.error is None`` a type checker knows that ``item.content`` is bytes.
        With ``into`` they are `Stored` instead of `Message`.  What ``into`` returned is
        left open.  An exception that it, the destination or ``progress`` raises makes
        the message `Refused`, with a `DestinationError`, and the next ones follow.

        An error that ends the session is raised after the messages that came before it.
        If the loop is left early, the session goes on: nothing more is asked for, and
        messages on their way are read and dropped.
        """
        self._check_thread()
        problem = _problem(into, progress)
        begin: Callable[..., Fetch] = self._fetch
        if into is not None:
            begin = partial(self._fetch_into, into, progress)
        return Messages(self._items(numbers, ahead, begin, problem))

    def headers(
        self, numbers: Iterable[int] | None = None, lines: int = 0
    ) -> Messages[Message | Refused]:
        """
        Iterate over the headers of messages in order, as `messages` does (TOP).

        :param numbers: which ones; ``None``: all that LIST names.
        :param lines: how many lines of the text follow each header.
        :return: an async iterator; the bounds are those of `messages`.  Its items are
            `Message`, whose ``content`` is the header, or `Refused`.

        TOP is optional (RFC 1939 section 7).  If the server does not announce it (RFC
        2449 section 6.1), it is tried, and a refusal of the first command is raised as
        `CommandError`.
        """
        self._check_thread()
        problem = None
        try:
            Top(1, lines)
        except UsageError as error:
            problem = error
            problem.number = None
        begin = partial(self._fetch_top, lines)
        return Messages(self._items(numbers, AHEAD, begin, problem))

    async def _items(
        self,
        numbers: Iterable[int] | None,
        ahead: int,
        begin: Callable[[Iterator[int], int, Mapping[int, int]], Fetch],
        problem: UsageError | None,
    ) -> AsyncGenerator[Any, None]:
        if problem is not None:
            problem.server = str(self.server)
            raise problem
        if type(ahead) is not int or ahead < 1:
            raise UsageError(
                f"ahead must be an int from 1, not {ahead!r}", server=str(self.server)
            )
        sizes: dict[int, int] = {}
        if numbers is None:
            sizes = dict(await self.list())
            numbers = sizes
        try:
            drawn = iter(numbers)
        except TypeError:
            raise UsageError(
                "numbers must be an iterable of message numbers, not "
                f"{type(numbers).__name__}",
                server=str(self.server),
            ) from None
        fetch = begin(drawn, ahead, sizes)
        # They may be the caller's code, and end where the run is stopped: this frame
        # may be cleared in another thread.
        del numbers, drawn, begin
        stop: Callable[[], object] = fetch.stop
        try:
            while (message := fetch.ready() or await fetch.next()) is not None:
                yield message
        except GeneratorExit:
            stop = partial(self._in_its_turn, fetch.stop)
            raise
        finally:
            stop()

    def _fetch(
        self, numbers: Iterator[int], ahead: int, sizes: Mapping[int, int]
    ) -> Fetch:
        return Fetch(self._protocol, self._budget, self._largest, numbers, ahead, sizes)

    def _fetch_into(
        self,
        into: Into,
        progress: Progress | None,
        numbers: Iterator[int],
        ahead: int,
        sizes: Mapping[int, int],
    ) -> Fetch:
        return FetchInto(self._protocol, numbers, ahead, sizes, into, progress)

    def _fetch_top(
        self, lines: int, numbers: Iterator[int], ahead: int, sizes: Mapping[int, int]
    ) -> Fetch:
        return FetchHeaders(
            self._protocol, self._budget, numbers, ahead, lines, self._announces_top
        )

    def _announces_top(self) -> bool:
        return Top.verb in self._capabilities

    def delete(self, number: int) -> Deferred[None]:
        """
        Mark a message as deleted (DELE, RFC 1939 section 5).

        The server deletes it only at `disconnect`, which reports the result.  So the
        Deferred may be ignored: if the session ends before the reply, that is not
        logged as an unhandled error.  A refusal is.
        """
        try:
            self._check_thread()
            command = self._command(Dele, number)
        except UsageError as error:
            return fail(error)
        if self._protocol.state is State.TRANSACTION:
            self._marks.setdefault(number, False)
        return self._protocol.submit(
            command,
            noted=lambda _: self._marked(number),
            refused=lambda _: self._not_marked(number),
            silent=_SILENT,
            owner=self,
        )

    def _marked(self, number: int) -> None:
        self._marks[number] = True

    def _not_marked(self, number: int) -> None:
        if not self._marks.get(number):
            self._marks.pop(number, None)

    def reset(self) -> Deferred[None]:
        """Unmark all messages (RSET, RFC 1939 section 5)."""
        self._resets += 1
        answer = self._submit(Rset, noted=self._unmarked)
        return answer.addBoth(self._reset_done)

    def _unmarked(self, _: None) -> None:
        self._marks = {
            number: False for number, sure in self._marks.items() if not sure
        }

    def _leave_out_marked(self, rows: _Rows[Row]) -> None:
        # RFC 1939 section 5: marked messages are not listed.  Twisted's own server
        # lists them, with the size 0.  Replies are read in the order of the commands,
        # so the marks are now those that the server had when it made the list.
        if self._marks:
            rows[:] = [row for row in rows if not self._marks.get(row.number)]

    def _reset_done(self, result: T) -> T:
        self._resets -= 1
        return result

    # -- the session

    def noop(self) -> Deferred[None]:
        """Keep the session alive (NOOP, RFC 1939 section 5)."""
        return self._submit(Noop)

    def capa(self) -> Deferred[Capabilities]:
        """Ask the server again what it can do (CAPA, RFC 2449 section 5)."""
        return self._submit(Capa, noted=self._learn)

    @overload
    def lang(self, tag: None = None) -> Deferred[dict[str, str]]: ...

    @overload
    def lang(self, tag: str) -> Deferred[None]: ...

    def lang(self, tag: str | None = None) -> Deferred[dict[str, str]] | Deferred[None]:
        """
        Choose the language of the server's texts (LANG, RFC 6856 section 3).

        :param tag: such as ``"en"``; ``"*"``: the server's own; ``None``: change
            nothing, and return the server's languages with their names.
        """
        if tag is None:
            return self._submit(LangList)
        return self._submit(Lang, tag)

    def utf8(self) -> Deferred[None]:
        """
        Make sure that the session is in UTF-8 mode (UTF8, RFC 6856 section 2).

        The command is allowed before the login only, so it fails with `UsageError`
        if `connect` was called without ``utf8=True``.
        """
        if self._session.utf8:
            return succeed(None)
        return fail(
            UsageError(
                "UTF8 is allowed before the login only (RFC 6856): connect with "
                "utf8=True",
                server=str(self.server),
                verb="UTF8",
            )
        )

    @overload
    def command(
        self, verb: str, *arguments: str, multiline: Literal[False] = False
    ) -> Deferred[str]: ...

    @overload
    def command(
        self, verb: str, *arguments: str, multiline: Literal[True]
    ) -> Deferred[bytes]: ...

    def command(
        self, verb: str, *arguments: str, multiline: bool = False
    ) -> Deferred[str] | Deferred[bytes]:
        """
        Send a command of a provider's extension, such as ``XTND``.

        Verbs that have a method, that change the state of the session or that carry a
        secret fail with `UsageError`.  The arguments are not secrets: the status
        procedure shows them.

        :param arguments: each without CR, LF and NUL; the whole line may have 255
            octets (RFC 2449 section 4).
        :param multiline: whether a body follows ``+OK`` (RFC 1939 section 3).  If that
            is wrong, the next reply cannot be read, or none comes, and the session
            ends.
        :return: the text after ``+OK``, printable; with ``multiline`` the body, with
            CRLF, and bounded by ``max_message_size`` as a message is.
        """
        if multiline:
            return self._submit(CustomBody, verb, *arguments)
        return self._submit(Custom, verb, *arguments)

    def _learn(self, capabilities: Capabilities) -> None:
        self._capabilities = self._session.later.learn(capabilities)
        self._protocol.allow_pipelining("PIPELINING" in capabilities)

    def disconnect(self) -> Deferred[Committed]:
        """
        End the session (QUIT); only then does the server delete the marked messages.

        :return: fires when the connection is gone, with what was committed.  It
            fails with `CommandError` if the server could not delete all of it
            (RFC 1939 section 6), and with `ConnectionLostError` or `TimedOutError`
            if a message was marked and QUIT was not answered: then it is not known
            what was deleted.  If none was marked, a missing reply is not an error.
        """
        try:
            self._check_thread()
        except UsageError as error:
            return fail(error)
        if self._ending is None:
            self._ending = OneShot()
            lost_before = self._protocol.state is State.CLOSED
            leaving: Deferred[Any] = self._protocol.submit(Quit())
            leaving.addBoth(self._close)
            leaving.addCallbacks(
                self._committed, self._not_left, (), {}, (lost_before,)
            )
            leaving.addBoth(self._ending.fire)
        return self._ending.when_fired()

    def _committed(self, _: object) -> Committed:
        return Committed(
            frozenset(number for number, sure in self._marks.items() if sure)
        )

    def _not_left(self, failure: Failure, lost_before: bool) -> Committed:
        failure.trap(ConnectionLostError, TimedOutError)
        # Many servers close without a reply, and some leave the connection open.  If
        # there was nothing to commit, that is as good as a reply.
        if self._marks or lost_before:
            failure.raiseException()
        return self._committed(None)

    def _close(self, outcome: T) -> Deferred[T]:
        return self._protocol.close().addCallback(lambda _: outcome)

    def abort(self) -> Deferred[None]:
        """
        Close the connection now; nothing is deleted.

        :return: fires when it is gone.
        """
        try:
            self._check_thread()
        except UsageError as error:
            return fail(error)
        self._aborted = True
        self._protocol.end("the session has been ended by abort()")
        return self._protocol.when_closed()

    def when_closed(self) -> Deferred[None]:
        """Return a Deferred that fires when the connection is gone, for any reason."""
        try:
            self._check_thread()
        except UsageError as error:
            return fail(error)
        return self._protocol.when_closed()

    async def __aenter__(self) -> Self:
        """Use the session in ``async with``."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave with `disconnect`, or with `abort` on an exception."""
        if isinstance(error, GeneratorExit):
            # Nothing can be awaited in a coroutine that is closed.
            self._in_its_turn(self.abort)
        elif kind is not None:
            await self.abort()
        elif not self._aborted:
            # Also if the connection was lost: what was marked is not deleted then,
            # and that must not pass unnoticed.
            await self.disconnect()

    def _in_its_turn(self, call: Callable[[], object]) -> None:
        in_its_turn(self._protocol.settings.clock, call)

    def _check_thread(self) -> None:
        try:
            check_thread(self._protocol.settings.clock)
        except UsageError as error:
            error.server = str(self.server)
            raise

    # -- building commands

    def _command(self, kind: Callable[..., C], *arguments: Any) -> C:
        try:
            command = kind(*arguments)
        except UsageError as error:
            error.server = str(self.server)
            raise
        if arguments and self._marks.get(arguments[0]) and not self._resets:
            # RFC 1939 section 5: any reference to it is an error.
            raise UsageError(
                "it is marked as deleted; reset() unmarks it",
                server=str(self.server),
                verb=command.verb,
                number=arguments[0],
            )
        return command

    def _submit(
        self,
        kind: Callable[..., Command[T]],
        *arguments: Any,
        sink: Sink | None = None,
        noted: Callable[[T], object] | None = None,
    ) -> Deferred[T]:
        try:
            self._check_thread()
            command = self._command(kind, *arguments)
        except UsageError as error:
            return fail(error)
        return self._protocol.submit(command, sink, noted, owner=self)


def top_into(handle: Handle, number: int, destination: Writable) -> Deferred[int]:
    """
    Fetch the header of a message into a file, as `Handle.retrieve` fetches a message.

    For the collector: a header that does not end must not fill the memory.
    """
    return handle._submit(cast(Any, Top), number, 0, sink=sink_for(destination))


def _problem(into: object, progress: object) -> UsageError | None:
    """Return what is wrong with two arguments of `Handle.messages`."""
    for name, value in (("into", into), ("progress", progress)):
        if value is not None and not callable(value):
            return UsageError(
                f"{name} must be a function, not {type(value).__name__}",
            )
    if progress is not None and into is None:
        return UsageError("progress is of no use without into")
    return None


def _size(listing: Listing) -> int:
    return listing.size


def _uid(row: UID) -> str:
    return row.uid
