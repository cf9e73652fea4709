"""
Retrieves messages one after another and brings them to the disk in groups: while one
group is written in a thread, the next one arrives.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping

import attrs
from twisted.internet.defer import Deferred

from ..destinations.incoming import HEAD, Incoming, Keeper
from ..errors import CommandError, POP3Error
from ..handle import Handle
from ..headers import MAX_HEADER
from .content import BodyHash, content_of
from .records import Content
from .tools import Tools

__all__ = ["Arrived", "BrokenError", "FloodError", "Header", "Retrieval"]

AHEAD = 256
"""Messages that are asked for before the first of them has come."""

AHEAD_BYTES = 8 * 1024 * 1024
"""Bytes of messages that are asked for, by their sizes in LIST, and one message."""

GROUP = 256
"""Messages that are written, and noted, together at most."""

GROUP_BYTES = 8 * 1024 * 1024
"""Bytes in memory of the messages of a group, and one message."""

GROUPS = 2
"""Groups that are underway at the same time."""

FLOOD = 1024 * 1024
"""Bytes that a message may have beyond four times its size in LIST."""


class Header:
    """
    A header that is being received by TOP.

    :param listed: the size of its message in LIST.
    """

    def __init__(self, server: str, number: int, listed: int) -> None:
        self._server = server
        self._number = number
        self._most = 4 * listed + FLOOD
        self._received = 0
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> None:
        """
        Take a piece.

        :raises FloodError: it does not end.
        """
        if self._received <= MAX_HEADER:
            self._pieces.append(data)
        self._received += len(data)
        if self._received > self._most:
            raise FloodError(
                f"the header is longer than {self._most} bytes",
                server=self._server,
                verb="TOP",
                number=self._number,
            )

    def complete(self) -> bytes:
        """Return its beginning, once it is there."""
        content = b"".join(self._pieces)
        self._pieces.clear()
        return content


class FloodError(POP3Error):
    """A message does not end: it is far longer than LIST says."""


class BrokenError(Exception):
    """
    A message ended the session.

    :ivar number: its number.
    :ivar error: how the session ended.
    :ivar received: the bytes of messages before, and with the part of this one.
    :ivar top: whether it was asked for by TOP, to read its header.
    """

    def __init__(
        self,
        number: int,
        error: POP3Error,
        received: tuple[int, int],
        *,
        top: bool = False,
    ) -> None:
        super().__init__(str(error))
        self.number = number
        self.error = error
        self.received = received
        self.top = top


@attrs.define
class Arrived:
    """
    A message that is being received, or was.

    :ivar listed: its size in LIST; 0: not known.
    :ivar content: its hashes, once it is there.
    """

    number: int
    listed: int
    incoming: Incoming
    content: Content | None = None
    _body: BodyHash | None = None

    def hash_piece(self, piece: bytes) -> None:
        """Hash the body while it comes if it will not be in memory then."""
        if self._body is None:
            if self.incoming.received <= HEAD:
                return
            self._body = BodyHash()
            self._body.update(self.incoming.head[: self.incoming.received - len(piece)])
        self._body.update(piece)

    def digest(self) -> None:
        """Set `content`; in a thread."""
        head = self.incoming.head
        if self._body is not None:
            body = self._body.hexdigest()
        else:
            whole = BodyHash()
            whole.update(head)
            body = whole.hexdigest()
        self.content = content_of(head, body)


class Retrieval:
    """
    The retrieval of messages in one session.

    :param keeper: makes the files.
    :param take: keeps and notes a group of messages that have arrived; they are on disk
        when its result fires.
    :param ask: asks for a message; default: by RETR.
    :param estimate: whether sizes in LIST mean nothing.
    :param going: returns whether more may be asked for.
    :param progress: called with the number of bytes of each piece.
    :ivar refused: the messages that the server refused, with its error.
    :ivar received: bytes of the messages that have arrived.
    """

    def __init__(
        self,
        tools: Tools,
        handle: Handle,
        keeper: Keeper,
        account: str,
        take: Callable[[list[Arrived]], Awaitable[None]],
        *,
        ask: Callable[[int, Incoming], Deferred[int]] | None = None,
        estimate: bool = False,
        going: Callable[[], bool] = lambda: True,
        progress: Callable[[int], object] | None = None,
    ) -> None:
        self._tools = tools
        self._handle = handle
        self._keeper = keeper
        self._account = account
        self._take = take
        self._ask = ask or handle.retrieve
        self._estimate = estimate
        self._going = going
        self._progress = progress
        self._ready: list[Arrived] = []
        self._groups: set[Deferred[None]] = set()
        self._scheduled = False
        self._waiting: Deferred[None] | None = None
        self._error: BaseException | None = None
        self.refused: list[tuple[int, CommandError]] = []
        self.received = 0

    def begin(self, number: int, listed: int) -> Arrived:
        """Begin a message."""
        incoming = self._keeper.begin(self._account)
        arrived = Arrived(number, listed, incoming)
        most = 4 * listed + FLOOD if listed and not self._estimate else None
        progress = self._progress

        def watch(piece: bytes) -> None:
            if most is not None and incoming.received > most:
                raise FloodError(
                    f"the message is longer than {most} bytes; LIST says {listed}",
                    server=str(self._handle.server),
                    verb="RETR",
                    number=number,
                )
            arrived.hash_piece(piece)
            if progress is not None:
                progress(len(piece))

        incoming.watch = watch
        return arrived

    async def run(self, numbers: Iterable[int], sizes: Mapping[int, int]) -> None:
        """
        Retrieve messages.

        All that have arrived are on disk and noted when this returns or raises.

        :raises BrokenError: a message ended the session.
        :raises Exception: what ``take`` raised.
        """
        try:
            await self._run(numbers, sizes)
        finally:
            await self.settle()
        if self._error is not None:
            raise self._error

    async def _run(self, numbers: Iterable[int], sizes: Mapping[int, int]) -> None:
        left = iter(numbers)
        coming: deque[tuple[Arrived, Deferred[int]]] = deque()
        expected = 0
        try:
            while self._error is None:
                while len(coming) < AHEAD and (
                    expected < AHEAD_BYTES or len(coming) < 2
                ):
                    number = next(left, None) if self._going() else None
                    if number is None:
                        break
                    arrived = self.begin(number, sizes.get(number, 0))
                    expected += arrived.listed
                    asked = self._ask(number, arrived.incoming)
                    coming.append((arrived, asked))
                if not coming:
                    return
                arrived, asked = coming[0]
                try:
                    await asked
                except CommandError as error:
                    coming.popleft()
                    arrived.incoming.discard()
                    self.refused.append((arrived.number, error))
                except POP3Error as error:
                    raise BrokenError(
                        arrived.number,
                        error,
                        (self.received, self.received + arrived.incoming.received),
                    ) from error
                else:
                    coming.popleft()
                    self.received += arrived.incoming.received
                    await self.put(arrived)
                expected -= arrived.listed
        finally:
            for arrived, asked in coming:
                # They end with the session, whose error is raised once already.
                asked.addErrback(lambda _: None)
                arrived.incoming.discard()

    async def put(self, arrived: Arrived) -> None:
        """Hand over a message that has arrived; wait while too many are underway."""
        self._ready.append(arrived)
        if not self._scheduled:
            # In a later turn, so that all messages of a chunk make one group.
            self._scheduled = True
            self._tools.reactor.callLater(0, self._pump)
        while len(self._ready) >= AHEAD and self._error is None:
            await self._change()

    async def settle(self) -> None:
        """Wait until everything that has arrived is on disk and noted."""
        self._pump()
        while self._groups:
            await self._change()
        for arrived in self._ready:
            arrived.incoming.discard()
        self._ready.clear()

    def _change(self) -> Deferred[None]:
        self._waiting = Deferred()
        return self._waiting

    def _pump(self) -> None:
        self._scheduled = False
        while self._ready and len(self._groups) < GROUPS and self._error is None:
            group = self._next_group()
            done = Deferred.fromCoroutine(self._group(group))
            self._groups.add(done)
            done.addBoth(self._done, done)

    def _next_group(self) -> list[Arrived]:
        octets = count = 0
        for arrived in self._ready[:GROUP]:
            if octets >= GROUP_BYTES:
                break
            octets += arrived.incoming.held
            count += 1
        group, self._ready = self._ready[:count], self._ready[count:]
        return group

    async def _group(self, group: list[Arrived]) -> None:
        def digest() -> None:
            for arrived in group:
                arrived.digest()

        try:
            await self._tools.files(digest)
            await self._take(group)
        except BaseException:
            for arrived in group:
                arrived.incoming.discard()
            raise

    def _done(self, result: object, group: Deferred[None]) -> None:
        self._groups.discard(group)
        error = getattr(result, "value", None)
        if error is not None and self._error is None:
            self._error = error
        self._pump()
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)
