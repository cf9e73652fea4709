"""The owner of a dialogue, without a transport: keeps what is sent and what happens."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, Protocol

from pop3connect import POP3Error, ProtocolError
from pop3connect.sansio.commands import Command, Shape
from pop3connect.sansio.dialogue import Dialogue
from pop3connect.sansio.events import OUTCOMES, Broken, Event, Kind
from pop3connect.sansio.exchange import Exchange, Sink
from pop3connect.sansio.replies import parse_status
from pop3connect.sansio.states import State

__all__ = [
    "FOREVER",
    "SINK",
    "Owner",
    "Speaker",
    "asked",
    "cuts",
    "logged_in",
    "problem",
    "said",
    "singly",
    "split",
]

FOREVER = ProtocolError("the end")


class _NeverWritten:
    """A sink for a dialogue, which only looks whether there is one."""

    def write(self, piece: bytes) -> None:
        raise AssertionError("a dialogue wrote to a sink")

    def begin(self, flow: object) -> None:
        raise AssertionError("a dialogue called a sink")

    def end(self, octets: int) -> None:
        raise AssertionError("a dialogue called a sink")

    def lost(self) -> None:
        raise AssertionError("a dialogue called a sink")


SINK: Sink = _NeverWritten()


class Speaker(Protocol):
    """What a `Dialogue` and its slow reference have in common."""

    events: deque[Event]
    state: State
    broken: Broken | None
    closed: bool

    def enqueue(self, verb: str, exchanges: Collection[Exchange]) -> None: ...
    def data_to_send(self) -> bytes: ...
    def receive(self, data: bytes) -> None: ...
    def started_tls(self) -> None: ...
    def logged_in(self) -> None: ...
    def allow_pipelining(self) -> None: ...
    def call_later(self, call: Callable[[], object]) -> None: ...
    def drop(self, exchange: Exchange) -> None: ...
    def close(self, error: POP3Error) -> None: ...
    def in_transfer(self, exchange: Exchange) -> bool: ...
    @property
    def unanswered(self) -> int: ...


def asked(command: Command[Any], sink: Sink | None = None) -> Exchange:
    """Return an exchange whose callbacks a dialogue must not call."""
    return Exchange(command, _NeverCalled(), sink, _called)


def _called(result: object) -> None:
    raise AssertionError("a dialogue called a callback")


class _NeverCalled:
    """Who waits for a reply, and hears of it from the owner of the dialogue only."""

    def callback(self, result: object) -> None:
        _called(result)

    def errback(self, error: object) -> None:
        _called(error)


def logged_in(
    *commands: Command[Any], **options: Any
) -> tuple[Dialogue, list[Exchange]]:
    """Return a dialogue after the login, to which these commands were given in turn."""
    dialogue = Dialogue(**options)
    dialogue.receive(b"+OK\r\n")
    dialogue.events.clear()
    dialogue.logged_in()
    exchanges = [asked(command) for command in commands]
    for exchange in exchanges:
        dialogue.enqueue(exchange.command.verb, [exchange])
    return dialogue, exchanges


def said(dialogue: Speaker, *chunks: bytes) -> list[tuple[Kind, Any]]:
    """Send what may be sent, receive these chunks, and return kinds and values."""
    dialogue.data_to_send()
    for chunk in chunks:
        dialogue.receive(chunk)
    happened = [(kind, value) for kind, _, value in dialogue.events]
    dialogue.events.clear()
    return happened


def problem(dialogue: Dialogue) -> str | None:
    """Return why a session must end, which its last event says too."""
    if dialogue.broken is None:
        return None
    assert dialogue.state is State.CLOSED
    return dialogue.broken.problem


def singly(data: bytes) -> list[bytes]:
    """Cut into single bytes."""
    return [data[at : at + 1] for at in range(len(data))]


def cuts(data: bytes) -> Iterator[list[bytes]]:
    """Cut in two at every place, and into single bytes, and not at all."""
    yield [data]
    for at in range(1, len(data)):
        yield [data[:at], data[at:]]
    yield singly(data)


def split(data: bytes, places: Iterable[int]) -> list[bytes]:
    """Cut at these offsets."""
    ends = sorted({0, len(data), *(at for at in places if at < len(data))})
    return [data[one:after] for one, after in itertools.pairwise(ends)]


class Owner:
    """
    Does for a dialogue what the protocol does, and keeps what it delivers.

    What depends on how the bytes are cut is evened out: the pieces of a body are put
    together, and the status line before a body is kept until the body has ended.

    :param actions: what application code does when the n-th outcome is delivered.
    :ivar written: the lines that were sent.
    :ivar log: what was delivered.
    """

    def __init__(
        self,
        speaker: Speaker,
        actions: dict[int, Sequence[Callable[[Owner], object]]] | None = None,
    ) -> None:
        self.speaker = speaker
        self.end = FOREVER
        self.exchanges: list[Exchange] = []
        self.written: list[bytes] = []
        self.log: list[tuple[Any, ...]] = []
        self._actions = actions or {}
        self._outcomes = 0
        self._body = b""
        self._line: bytes | None = None
        self._over: set[Exchange] = set()

    # -- what application code does

    def ask(self, command: Command[Any], sink: Sink | None = None) -> None:
        exchange = asked(command, sink)
        try:
            self.speaker.enqueue(command.verb, [exchange])
        except POP3Error as error:
            self.log.append(("not possible", command, str(error)))
            return
        self.exchanges.append(exchange)
        self._write()

    def drop(self, number: int) -> None:
        if number < len(self.exchanges):
            self.speaker.drop(self.exchanges[number])

    def close(self) -> None:
        if not self.speaker.closed:
            self.speaker.close(self.end)

    def in_transfer(self) -> list[int]:
        return [
            number
            for number, exchange in enumerate(self.exchanges)
            if self.speaker.in_transfer(exchange)
        ]

    # -- what comes and goes

    def receive(self, chunk: bytes) -> None:
        self.speaker.receive(chunk)
        self._write()
        self.deliver()

    def _write(self) -> None:
        self.written += self.speaker.data_to_send().splitlines(keepends=True)

    def deliver(self) -> None:
        events = self.speaker.events
        while events:
            kind, exchange, value = events[0]
            if kind in OUTCOMES:
                assert exchange not in self._over
                self._over.add(exchange)
            if exchange is None or not exchange.dropped:
                self._take(kind, exchange, value)
            if kind in OUTCOMES:
                for act in self._actions.get(self._outcomes, ()):
                    act(self)
                self._outcomes += 1
            events.popleft()

    def _take(self, kind: Kind, exchange: Exchange | None, value: Any) -> None:
        command = exchange.command if exchange is not None else None
        if kind in (Kind.BEGUN, Kind.STREAMED):
            self._body = b""
        if kind is Kind.STREAMED:
            self.log.append(("streamed", command, value))
        elif kind is Kind.PIECE:
            assert value
            self._body += value
        elif kind is Kind.ENDED:
            assert value == len(self._body)
            self.log.append(("streamed", command, self._body))
        elif kind is Kind.LINE and command is not None and _goes_on(command, value):
            self._line = value
        elif kind is Kind.BODY:
            self.log.append(("line", command, self._line))
            self.log.append(("body", command, value))
        elif kind is Kind.UNREADABLE:
            self.log.append(("unreadable", command, str(value)))
        elif kind is Kind.BROKEN:
            # How much of the text there is depends on the cuts, and so does which of
            # two bounds is passed first.
            problem = "a bound" if " row" in value.problem else value.problem
            self.log.append(("broken", problem, value.verb, value.protocol))
            self.close()
        elif kind is Kind.START_TLS:
            self.log.append(("start TLS", command, value))
            self.speaker.started_tls()
            self._write()
        elif kind is Kind.GREETED:
            self.log.append(("greeted", value))
            status = parse_status(value)
            assert status is not None
            if not status.ok:
                self.close()
        elif kind not in (Kind.BEGUN, Kind.SENT):
            self.log.append((kind.name.lower(), command, value))


def _goes_on(command: Command[Any], line: bytes) -> bool:
    status = parse_status(line)
    return command.shape is Shape.BODY and status is not None and status.ok
