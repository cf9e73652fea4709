"""
Sessions for programs that block: scripts, threads, Django and Celery workers.

    with connect("pop.example.com", "user", "secret", secure=Secure.TLS) as handle:
        for message in handle:
            ...

The reactor runs in a thread in the background.  If none runs, crochet starts it:
``pip install 'pop3connect[blocking]'``.
"""

from __future__ import annotations

import inspect
import warnings
import weakref
from collections.abc import Callable, Generator, Iterable
from functools import partial, wraps
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, overload

from twisted.internet.defer import Deferred

from .. import api
from ..address import ServerAddress
from ..client.prefetch import AHEAD, Messages
from ..client.streaming import Progress
from ..errors import UsageError
from ..files import Writable
from ..handle import Handle
from ..results import (
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
from .handover import Backlog, Batches, FileConsumer, Files, check_file
from .reactor_thread import Call, ReactorThread

if TYPE_CHECKING:
    from typing_extensions import Self

    from ..results import TLSInfo

__all__ = ["BlockingHandle", "connect"]

P = ParamSpec("P")
T = TypeVar("T")

# In the class below `list` is a method.
_Listings = list[Listing]
_UIDs = list[UID]


def _parameters_of(
    original: Callable[P, object],
) -> Callable[[Callable[[inspect.BoundArguments], T]], Callable[P, T]]:
    """
    Return a decorator that gives a function the parameters of another one.

    The decorated function gets the arguments bound to the parameters of ``original``,
    so a parameter that is added there needs nothing here.  Signature and annotations
    are those of ``original``; the docstring and what is returned are its own.

    A traceback that shows local variables must not show a password.  So the arguments
    are dropped when the function ends, and a `TypeError` is not raised where it was
    caught.
    """
    signature = inspect.signature(original)

    def decorate(function: Callable[[inspect.BoundArguments], T]) -> Callable[P, T]:
        returns = function.__annotations__["return"]

        @wraps(function)
        def call(*args: P.args, **options: P.kwargs) -> T:
            given, problem = None, ""
            try:
                given = signature.bind(*args, **options)
            except TypeError as error:
                problem = str(error)
            del args, options
            if given is None:
                raise TypeError(f"{function.__name__}(): {problem}")
            try:
                return function(given)
            finally:
                given.arguments.clear()

        # inspect and typing would otherwise look at the function that is wrapped.
        del call.__wrapped__
        call.__annotations__ = {**original.__annotations__, "return": returns}
        call.__signature__ = signature.replace(  # type: ignore[attr-defined]
            return_annotation=returns
        )
        return call

    return decorate


@_parameters_of(api.connect)
def connect(given: inspect.BoundArguments) -> BlockingHandle:
    """
    Open a POP3 session and log in; wait for it.

    The parameters and the errors are those of `pop3connect.connect`, with these
    differences:

    :param password: a callable is called in the thread that called this function, so
        it may block.
    :param stsproc: called in the reactor's thread; it must not block.
    :param events: likewise.
    :param reactor: one that runs in another thread; it also has to provide
        ``IReactorCore`` and ``IReactorFromThreads``.  Default: the global one, which is
        started in the background if it does not run.
    :raises UsageError: also in the reactor's own thread, and in a process that was
        forked off after the reactor had been started.
    :raises ImportError: the reactor must be started, and crochet is not installed.
    """
    options = given.arguments
    thread = ReactorThread.find(options.get("reactor"))
    options["reactor"] = thread.reactor
    call = Call[BlockingHandle](thread)
    if callable(options["password"]):
        options["password"] = _asked_by(call, options["password"])
    return call.run(_opening(thread, given.args, given.kwargs))


class BlockingHandle:
    """
    An open POP3 session, made by `connect`: a `Handle` whose methods wait.

    Any thread may call them, also several threads at once: commands are carried out in
    the order of the calls, and each caller gets its own reply.  They raise the errors
    of `Handle`, and `UsageError` in the reactor's own thread and in a process that was
    forked off.  An exception that ends the waiting, such as KeyboardInterrupt, cancels
    the command; in the middle of a message that ends the session.

    A handle must be closed, by `disconnect` or `abort`; ``with`` does it.  A forgotten
    handle is aborted when it is garbage collected, with a `ResourceWarning`, or when
    the program ends.
    """

    def __init__(self, handle: Handle, thread: ReactorThread) -> None:
        self._handle = handle
        self._thread = thread
        thread.keep(handle)
        forgotten = weakref.finalize(self, _forget, thread, handle)
        # By then the reactor has stopped, and has closed it.
        forgotten.atexit = False
        # A closed session needs no finalizer; a KeyboardInterrupt within one is lost.
        handle.when_closed().addCallback(lambda _: forgotten.detach())

    def __repr__(self) -> str:
        """Show the server and whether the session is open."""
        return repr(self._handle).replace("<", "<Blocking", 1)

    # -- known without a command

    @property
    def server(self) -> ServerAddress:
        """The server, as it was given to `connect`."""
        return self._handle.server

    @property
    def is_open(self) -> bool:
        """Whether commands can be sent; not after `disconnect` or the end."""
        return self._handle.is_open

    @property
    def greeting(self) -> str:
        """The server's greeting, printable, without its ``+OK``."""
        return self._handle.greeting

    @property
    def capabilities(self) -> Capabilities:
        """What the server can do, by its last reply to CAPA (RFC 2449)."""
        return self._handle.capabilities

    @property
    def login(self) -> LoginInfo:
        """How the login went."""
        return self._handle.login

    @property
    def tls(self) -> TLSInfo | None:
        """The TLS that protects the session; ``None`` without TLS."""
        return self._handle.tls

    # -- the mailbox

    def stat(self) -> Stat:
        """Return the number of messages and their size (STAT, RFC 1939 section 5)."""
        return self._thread.call(self._handle.stat)

    def list(self) -> _Listings:
        """List the messages that are not marked (LIST, RFC 1939 section 5)."""
        return self._thread.call(self._handle.list)

    def size(self, number: int) -> int:
        """Return the size of a message in octets (LIST, RFC 1939 section 5)."""
        return self._thread.call(self._handle.size, number)

    def uidl(self) -> _UIDs:
        """List the unique-ids of the messages (UIDL, RFC 1939 section 7)."""
        return self._thread.call(self._handle.uidl)

    def uid(self, number: int) -> str:
        """Return the unique-id of a message (UIDL, RFC 1939 section 7)."""
        return self._thread.call(self._handle.uid, number)

    # -- messages

    @overload
    def retrieve(self, number: int, destination: None = None) -> bytes: ...

    @overload
    def retrieve(self, number: int, destination: Writable) -> int: ...

    def retrieve(self, number: int, destination: Writable | None = None) -> bytes | int:
        """
        Fetch a message (RETR, RFC 1939 section 5).

        :param destination: a file open for writing in binary mode, or anything with
            such a ``write``; it is called in this thread while the message arrives.
            A slow one slows the server down; about 1 MiB waits to be written.  It must
            not use this handle, which would wait for ever.  If it raises, so does this
            method, and the session ends unless the whole message had arrived.
        :return: the message as it is stored, with CRLF; with a destination, the
            number of bytes written to it.
        """
        if destination is None:
            return self._thread.call(self._handle.retrieve, number)
        try:
            check_file(destination)
        except UsageError as error:
            error.server = str(self.server)
            raise error.about("RETR", number) from None
        call = Call[int](self._thread)
        pieces = FileConsumer(call, destination, Backlog(self._thread))
        return call.run(self._handle.retrieve, number, pieces)

    def top(self, number: int, lines: int = 0) -> bytes:
        """Fetch the header of a message and up to ``lines`` lines of its body (TOP)."""
        return self._thread.call(self._handle.top, number, lines)

    @overload
    def messages(
        self,
        numbers: Iterable[int] | None = None,
        ahead: int = AHEAD,
        into: None = None,
        progress: None = None,
    ) -> Generator[Message | Refused, None, None]: ...

    @overload
    def messages(
        self,
        numbers: Iterable[int] | None = None,
        ahead: int = AHEAD,
        *,
        into: Callable[[int], Writable],
        progress: Progress | None = None,
    ) -> Generator[Stored | Refused, None, None]: ...

    def messages(
        self,
        numbers: Iterable[int] | None = None,
        ahead: int = AHEAD,
        into: Callable[[int], Writable] | None = None,
        progress: Progress | None = None,
    ) -> Generator[Any, None, None]:
        """
        Iterate over messages in order; the next ones are fetched meanwhile.

        :param numbers: which ones; ``None``: all that LIST names.
        :param ahead: the largest number of messages that are fetched before they are
            taken.  Up to 1 MiB of messages, and at most ``ahead``, are handed to this
            thread at once.
        :param into: called with the number of each message when the server has begun to
            send it; returns a file, as ``destination`` of `retrieve`.  It, the file
            and ``progress`` are called in this thread, while it waits for a message or
            for another method of the handle.  They must not use this handle.
        :param progress: with ``into``: called after each piece with the number of the
            message, the bytes written of it, and its size, as LIST says, or ``None`` if
            LIST was not read because ``numbers`` was given.

        The items are `Message`, or `Refused` if the server refuses one; with ``into``
        they are `Stored` or `Refused`, as for `Handle.messages`.  An error that
        ends the session is raised.  The loop may be left early.  Other methods may be
        called in it; their commands are sent after those for the messages that have
        been requested.  An iterator is for one thread.
        """
        if numbers is not None:
            # The iterable may block, so not in the reactor's thread.
            numbers = tuple(numbers)
        if not callable(into):
            # The handle refuses anything that is not a function.
            begin = partial(
                self._handle.messages, numbers, ahead, into=into, progress=progress
            )
            yield from self._taken(begin, ahead)
            return
        files = Files(self._thread, into, progress)
        begin = partial(
            self._handle.messages,
            numbers,
            ahead,
            into=files.into,
            # Likewise.
            progress=files.progress if callable(progress) else progress,
        )
        server = str(self.server)
        self._thread.post(self._thread.employ, files)
        try:
            for item in self._taken(begin, ahead):
                yield files.settle(item, server)
        finally:
            self._thread.post(self._thread.dismiss, files)

    def headers(
        self, numbers: Iterable[int] | None = None, lines: int = 0
    ) -> Generator[Message | Refused, None, None]:
        """
        Iterate over the headers of messages in order, as `messages` does (TOP).

        :param numbers: which ones; ``None``: all that LIST names.
        :param lines: how many lines of the text follow each header.
        :raises CommandError: the server does not know TOP.
        """
        if numbers is not None:
            numbers = tuple(numbers)
        yield from self._taken(partial(self._handle.headers, numbers, lines), AHEAD)

    def _taken(
        self, begin: Callable[[], Messages[Any]], most: int
    ) -> Generator[Any, None, None]:
        """Take items from the reactor's thread, in batches."""
        batches = Batches(begin, most)
        take = partial(_run, batches.take)
        try:
            while batch := self._thread.call(take):
                yield from batch
        finally:
            self._thread.post(_run, batches.stop)

    def __iter__(self) -> Generator[Message | Refused, None, None]:
        """Iterate over all messages, as `messages` does."""
        return self.messages()

    def delete(self, number: int) -> None:
        """
        Mark a message as deleted (DELE, RFC 1939 section 5).

        The server deletes it only at `disconnect`.
        """
        self._thread.call(self._handle.delete, number)

    def reset(self) -> None:
        """Unmark all messages (RSET, RFC 1939 section 5)."""
        self._thread.call(self._handle.reset)

    # -- the session

    def noop(self) -> None:
        """Keep the session alive (NOOP, RFC 1939 section 5)."""
        self._thread.call(self._handle.noop)

    def capa(self) -> Capabilities:
        """Ask the server again what it can do (CAPA, RFC 2449 section 5)."""
        return self._thread.call(self._handle.capa)

    @overload
    def lang(self, tag: None = None) -> dict[str, str]: ...

    @overload
    def lang(self, tag: str) -> None: ...

    def lang(self, tag: str | None = None) -> dict[str, str] | None:
        """Choose, or list, the languages of the server's texts (RFC 6856 section 3)."""
        lang: Callable[..., Any] = self._handle.lang
        names: dict[str, str] | None = self._thread.call(lang, tag)
        return names

    def utf8(self) -> None:
        """Make sure that the session is in UTF-8 mode (RFC 6856 section 2)."""
        self._thread.call(self._handle.utf8)

    @overload
    def command(
        self, verb: str, *arguments: str, multiline: Literal[False] = False
    ) -> str: ...

    @overload
    def command(
        self, verb: str, *arguments: str, multiline: Literal[True]
    ) -> bytes: ...

    def command(
        self, verb: str, *arguments: str, multiline: bool = False
    ) -> str | bytes:
        """
        Send a command of a provider's extension, such as ``XTND``.

        :param arguments: each without CR, LF and NUL.
        :param multiline: whether a body follows ``+OK``.
        :return: the text after ``+OK``, printable; with ``multiline`` the body.
        """
        ask: Callable[[], Any] = partial(
            self._handle.command,
            verb,
            *arguments,
            multiline=multiline,
        )
        answer: str | bytes = self._thread.call(ask)
        return answer

    def disconnect(self) -> Committed:
        """
        End the session (QUIT); only then does the server delete the marked messages.

        :return: the deletions that the server confirmed, once the connection is closed.
        :raises CommandError: the server could not delete all of them (RFC 1939
            section 6).
        :raises ConnectionLostError, TimedOutError: it is not known what was deleted.
        """
        return self._thread.call(self._handle.disconnect)

    def abort(self) -> None:
        """Close the connection now; nothing is deleted."""
        self._thread.call(self._handle.abort)

    def when_closed(self) -> None:
        """Wait until the connection is closed, whatever the reason."""
        self._thread.call(self._handle.when_closed)

    def __enter__(self) -> Self:
        """Use the session in ``with``."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave with `disconnect`, or with `abort` on an exception."""
        try:
            leave = partial(self._handle.__aexit__, kind, error, None)
            self._thread.call(_run, leave)
        except BaseException:
            # Ctrl-C while it waited: the session must not go on in the background.
            self._thread.post(self._handle.abort)
            raise


def _forget(thread: ReactorThread, handle: Handle) -> None:
    """Abort a session that no code can end any more; in any thread."""
    if not handle.is_open:
        # It has ended, and the connection is about to be closed.
        return
    thread.post(handle.abort)
    warnings.warn(
        f"{handle.server}: a handle was forgotten while its session was open; use "
        "'with', or call disconnect() or abort()",
        ResourceWarning,
        stacklevel=2,
    )


def _run(function: Callable[[], Any]) -> Deferred[Any]:
    """Call a coroutine function, and return a Deferred."""
    return Deferred.fromCoroutine(function())


def _opening(
    thread: ReactorThread, arguments: tuple[Any, ...], options: dict[str, Any]
) -> Callable[[], Deferred[BlockingHandle]]:
    """Return the function that opens the session in the reactor's thread."""
    # The handle is made there too, so that the session always has an owner.
    return lambda: api.connect(*arguments, **options).addCallback(
        BlockingHandle, thread
    )


def _asked_by(call: Call[Any], password: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a password callable so that the thread which waits for a call runs it."""

    # With its signature, which says whether it takes `refresh`.
    @wraps(password, updated=())
    def ask(**options: Any) -> Deferred[Any]:
        return call.ask(partial(password, **options))

    return ask
