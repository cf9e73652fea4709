"""One session: what it asks, and whether each answer is right."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer
from zope.interface import implementer

from benchmarks.soak import mail
from benchmarks.soak.faults import (
    ABORT,
    CANCEL,
    Answer,
    fault_of,
    retrieval,
    struck_message,
    verdict,
)
from pop3connect import Committed, Handle, POP3Error, Secure, connect

_PAUSE = 0.005  # seconds for which the slow reader wants no more, after each piece
_CALM = 120.0  # seconds: on a busy machine a reply of a good server may take so long
_TOP = 3  # lines


@dataclass(frozen=True)
class Plan:
    """What the sessions of a round are like; the command line says it.

    *patience* is the time limit for a reply of the sessions that need a short one, and
    *limit* what the work of a session may take before it counts as hung.
    """

    sessions: int
    rounds: int
    share: float
    messages: int
    patience: float
    limit: float


@dataclass(frozen=True)
class Place:
    """Where the server is."""

    ports: dict[str, int]
    cacerts: str

    def port(self, way: Secure) -> int:
        """The port for a kind of connection."""
        return self.ports["tls" if way is Secure.TLS else "plain"]


@implementer(IConsumer)
class SlowReader:
    """Takes a message in pieces, pauses after each, and keeps only the hash."""

    def __init__(self, reactor: Any, at_once: Callable[[], object] | None) -> None:
        """Call *at_once* when the first piece is there."""
        self.hash = hashlib.sha256()
        self._reactor, self._at_once = reactor, at_once
        self._producer: Any = None
        self._pause: Any = None

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Know whom to pause."""
        self._producer = producer

    def unregisterProducer(self) -> None:
        """There is nobody to pause any more."""
        self._producer = None
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None

    def write(self, data: bytes) -> None:
        """Take a piece, and rest."""
        self.hash.update(data)
        if self._pause is None:
            self._producer.pauseProducing()
            self._pause = self._reactor.callLater(_PAUSE, self._go_on)
        first, self._at_once = self._at_once, None
        if first is not None:
            first()

    def _go_on(self) -> None:
        self._pause = None
        self._producer.resumeProducing()


class Visit:
    """A session of one account, from its login to its end."""

    def __init__(self, plan: Plan, account: int, facts: tuple[mail.Fact, ...]) -> None:
        """Not connected yet; *facts* are what it has to find."""
        self.account = account
        self.fault = fault_of(account, plan.share)
        self.checked = 0  # messages that came, and were right
        self.committed = 0
        self._plan, self._facts = plan, facts
        self._answers: list[Answer] = []
        self._awaited: list[Deferred[None]] = []
        self._handle: Handle | None = None

    async def open(self, reactor: Any, place: Place, way: Secure) -> None:
        """Connect and log in."""
        impatient = self.fault is not None and self.fault.impatient
        self._reactor = reactor
        self._handle = await connect(
            f"127.0.0.1:{place.port(way)}",
            mail.username(self.account),
            mail.password(self.account),
            secure=way,
            cacerts=place.cacerts,
            timeout=self._plan.patience if impatient else _CALM,
            connect_timeout=_CALM,
            reactor=reactor,
        )

    async def work(self) -> str:
        """Do all that a session does; what is wrong with it, or nothing."""
        handle, numbers = self._handle, range(2, self._plan.messages + 1)
        assert handle is not None
        ask = self._ask
        counted = handle.stat()
        if self.fault is ABORT:
            counted.addCallback(partial(_abort, handle))
        ask("STAT", counted, self._check_stat)
        ask("LIST", handle.list(), self._check_list)
        ask("UIDL", handle.uidl(), self._check_uidl)
        if self.account % 2:
            await self._iterate(handle, numbers)
        else:
            for number in numbers:
                check = partial(self._check_message, number)
                ask(retrieval(number), handle.retrieve(number), check)
        self._stream(handle)
        ask("TOP", handle.top(2, _TOP), self._check_top)
        ask("DELE", handle.delete(2), _nothing)
        ending = self.account // 2 % 3
        if ending == 1:
            ask("RSET", handle.reset(), _nothing)
        await self._all()
        # Also where the session has ended: a later call has to be told, too.
        ask("NOOP", handle.noop(), _nothing)
        await self._all()
        if ending == 2 and (self.fault is None or self.fault.ends is None):
            await handle.abort()
        else:
            left = {2} if ending != 1 else set()
            ask("QUIT", handle.disconnect(), partial(self._check_committed, left))
            await self._all()
        await handle.when_closed()
        count = self._plan.messages
        struck = struck_message(self.account, count)
        return verdict(self.fault, struck, count, self._answers)

    def give_up(self) -> None:
        """Close the connection, if there is one, of a session that went wrong."""
        if self._handle is not None:
            self._handle.abort()

    def _ask(self, what: str, answer: Deferred[Any], check: Callable[..., str]) -> None:
        """Note what becomes of a command; the answers stand in the order of these."""
        note = Answer(what)
        self._answers.append(note)

        def came(value: Any) -> None:
            note.wrong = check(value)

        def failed(failure: Any) -> None:
            note.error = failure.value

        self._awaited.append(answer.addCallback(came).addErrback(failed))

    async def _all(self) -> None:
        """Wait for all that was asked."""
        awaited, self._awaited = self._awaited, []
        for answer in awaited:
            await answer

    async def _iterate(self, handle: Handle, numbers: Iterable[int]) -> None:
        """Fetch in the other way, a few ahead."""
        try:
            async for message in handle.messages(numbers, ahead=3):
                note = Answer(retrieval(message.number), message.error)
                self._answers.append(note)
                if message.content is not None:
                    note.wrong = self._check_message(message.number, message.content)
        except POP3Error as error:
            self._answers.append(Answer("messages()", error))

    def _stream(self, handle: Handle) -> None:
        """Fetch the large message, piece by piece."""

        def cancel() -> None:
            answer.cancel()

        reader = SlowReader(self._reactor, cancel if self.fault is CANCEL else None)
        answer = handle.retrieve(1, reader)
        self._ask(retrieval(1), answer, lambda _: self._check_digest(1, reader.hash))

    # what is right

    def _check_stat(self, stat: Any) -> str:
        sizes = [fact.size for fact in self._facts]
        return _differs((stat.count, stat.size), (len(sizes), sum(sizes)))

    def _check_list(self, listings: Any) -> str:
        return _differs([one.size for one in listings], [f.size for f in self._facts])

    def _check_uidl(self, uids: Any) -> str:
        return _differs([one.uid for one in uids], [fact.uid for fact in self._facts])

    def _check_message(self, number: int, content: bytes) -> str:
        return self._check_digest(number, hashlib.sha256(content))

    def _check_digest(self, number: int, found: Any) -> str:
        if found.digest() != self._facts[number - 1].digest:
            return "another message, or not all of it"
        self.checked += 1
        return ""

    def _check_top(self, top: bytes) -> str:
        head, _, body = mail.message(self.account, 2).partition(b"\r\n\r\n")
        lines = body.splitlines(keepends=True)[:_TOP]
        return _differs(top, head + b"\r\n\r\n" + b"".join(lines))

    def _check_committed(self, expected: set[int], committed: Committed) -> str:
        self.committed = len(committed.deleted)
        return _differs(committed.deleted, expected)


def _abort(handle: Handle, counted: Any) -> Any:
    handle.abort()
    return counted


def _nothing(value: object) -> str:
    return _differs(value, None)


def _differs(found: object, expected: object) -> str:
    return "" if found == expected else f"{found!r:.80} and not {expected!r:.80}"
