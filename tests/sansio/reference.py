"""
A slow dialogue: what `Dialogue` must do, line by line, with nothing incremental in it.

All bytes of a reply that is not complete are kept, and read again from the first one on
whenever a chunk has come.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from typing import Any

from pop3connect import POP3Error, UsageError
from pop3connect.redaction import printable
from pop3connect.sansio.commands import (
    Capa,
    Command,
    LangList,
    List,
    Quit,
    Shape,
    Stls,
    Uidl,
)
from pop3connect.sansio.dialogue import MAX_STATUS_LINE, WINDOW
from pop3connect.sansio.events import OUTCOMES, Broken, Event, Kind
from pop3connect.sansio.exchange import Exchange
from pop3connect.sansio.readers import MAX_CAPABILITIES
from pop3connect.sansio.replies import (
    TLS_RECORD,
    BadReplyError,
    Status,
    looks_like,
    parse_challenge,
    parse_one_listing,
    parse_one_uid,
    parse_status,
)
from pop3connect.sansio.states import ALLOWED, State

__all__ = ["Reference", "plain"]

TOO_LONG = f"a line of more than {MAX_STATUS_LINE} bytes"


class BreakError(Exception):
    """The session must end."""

    def __init__(
        self, problem: str, *, verb: str | None = None, protocol: str | None = None
    ) -> None:
        super().__init__(problem)
        self.broken = Broken(problem, None, verb, protocol)


def plain(wire: bytes, at: int = 0) -> tuple[bytes, int | None]:
    """
    Decode line by line (RFC 1939 section 3), from an offset on.

    :return: the body, and where its end marker ends; ``None`` if it is not there.
    """
    body = b""
    while (end := wire.find(b"\r\n", at)) >= 0:
        line, at = wire[at:end], end + 2
        if line == b".":
            return body, at
        body += line.removeprefix(b".") + b"\r\n"
    return body + wire[at:].removeprefix(b"."), None


def decided(wire: bytes) -> bytes:
    """Leave out what the next chunk could make part of the end marker."""
    for end in (b"\r\n.\r", b"\r\n.", b"\r\n", b"\r"):
        # The status line before the body ended in CR LF too.
        if (b"\r\n" + wire).endswith(end):
            return (b"\r\n" + wire)[: -len(end)][2:]
    return wire


class Reference:
    """Has the interface of `Dialogue`."""

    def __init__(
        self, *, max_message_size: int | None, max_listing: int, listening: bool
    ) -> None:
        self.events: deque[Event] = deque()
        self.state = State.GREETING
        self.broken: Broken | None = None
        self.closed = False
        self.blanks = 0
        self.max_message_size = max_message_size
        self.max_listing = max_listing
        self.listening = listening
        self.window = 1
        self.after_login = False
        self.unread = b""
        self.asked: list[Exchange] = []
        self.complete: list[Exchange] = []
        self.not_sent: list[Exchange] = []
        self.owed: list[Exchange] = []
        self.upgrade: Exchange | None = None

    @property
    def unanswered(self) -> int:
        return len(self.owed)

    def in_transfer(self, exchange: Exchange) -> bool:
        line, crlf, _ = self.unread.partition(b"\r\n")
        status = parse_status(line)
        return (
            exchange in self.owed[:1]
            and exchange.command.shape is Shape.BODY
            and bool(crlf)
            and status is not None
            and status.ok
        )

    # -- out

    def enqueue(self, verb: str, exchanges: Collection[Exchange]) -> None:
        if verb not in ALLOWED[self.state]:
            raise UsageError(
                f"{verb} is not possible now: {self.state.value}", verb=verb
            )
        if verb == Quit.verb:
            self.state = State.UPDATE
        self.asked += exchanges
        self.not_sent += exchanges

    def data_to_send(self) -> bytes:
        out = b""
        # With a window of 1: none is unanswered.  Else: at most half of it is.
        if len(self.owed) > self.window // 2 or self.state is State.CLOSED:
            return out
        while self.not_sent and len(self.owed) < self.window and not self.upgrade:
            exchange = self.not_sent[0]
            if exchange.dropped:
                # Removed in its turn: it has no outcome, not even at the end.
                self.asked.remove(exchange)
            else:
                if isinstance(exchange.command, Stls):
                    if self.owed:
                        break
                    self.upgrade = exchange
                out += exchange.command.line()
                self.owed.append(exchange)
            del self.not_sent[0]
        return out

    def allow_pipelining(self) -> None:
        self.window = WINDOW

    def logged_in(self) -> None:
        if self.state is State.AUTHORIZATION:
            self.state = State.TRANSACTION
            self.after_login = True

    def started_tls(self) -> None:
        if self.state is not State.CLOSED:
            assert self.upgrade is not None
            self.complete.append(self.upgrade)
            self.events.append((Kind.ANSWERED, self.upgrade, None))
            self.upgrade = None
            self.window = 1

    def call_later(self, call: Callable[[], object]) -> None:
        self.events.append((Kind.CALL, None, call))

    def drop(self, exchange: Exchange) -> None:
        exchange.drop()

    def close(self, error: POP3Error) -> None:
        self.state = State.CLOSED
        self.closed = True
        # The first is being delivered.
        first, waiting = list(self.events)[:1], list(self.events)[1:]
        undelivered = [about for kind, about, _ in waiting if kind in OUTCOMES]
        self.events.clear()
        self.events.extend(first)
        for exchange in self.asked:
            if exchange not in self.complete or exchange in undelivered:
                self.events.append((Kind.FAILED, exchange, error))
        self.events.extend(event for event in waiting if event[0] is Kind.CALL)
        self.owed.clear()
        self.not_sent.clear()
        self.unread = b""

    # -- in

    def receive(self, data: bytes) -> None:
        if self.state is State.CLOSED:
            return
        self.unread += data
        try:
            if self.upgrade and self.upgrade not in self.owed:
                self.injected()
            if self.state is State.GREETING:
                self.greeting()
            else:
                self.replies()
        except BreakError as error:
            self.broken = error.broken
            self.state = State.CLOSED
            self.events.append((Kind.BROKEN, None, self.broken))

    def injected(self) -> None:
        raise BreakError(
            "more after its +OK to STLS, in the clear; somebody may have injected it, "
            "and nothing was sent in return",
            verb="STLS",
        )

    def line(self) -> bytes | None:
        """Take a line, if it is complete."""
        end = self.unread.find(b"\r\n")
        if end > MAX_STATUS_LINE or (
            end < 0 and len(self.unread) > MAX_STATUS_LINE + 1
        ):
            raise BreakError(TOO_LONG)
        if end < 0:
            return None
        line, self.unread = self.unread[:end], self.unread[end + 2 :]
        return line

    def greeting(self) -> None:
        if looks_like(self.unread[:2]) == TLS_RECORD:
            raise BreakError("", protocol=TLS_RECORD)
        line = self.line()
        if line is None:
            return
        if self.listening:
            self.events.append((Kind.LINE, None, line))
        status = parse_status(line)
        if status is None:
            raise BreakError(
                "a line that is not a POP3 greeting", protocol=looks_like(line)
            )
        self.state = State.AUTHORIZATION if status.ok else State.CLOSED
        self.events.append((Kind.GREETED, None, line))
        if status.ok:
            self.nothing_left()

    def replies(self) -> None:
        for exchange in list(self.owed):
            self.blank_lines()
            if not self.reply(exchange):
                return
            self.owed.remove(exchange)
        self.blank_lines()
        if self.upgrade and not self.unread:
            self.events.append((Kind.START_TLS, self.upgrade, None))
        self.nothing_left()

    def blank_lines(self) -> None:
        while self.after_login and self.unread.startswith(b"\r\n"):
            self.blanks += 1
            if self.blanks == 1:
                self.events.append((Kind.BLANK, None, None))
            self.unread = self.unread[2:]

    def nothing_left(self) -> None:
        if self.unread and self.upgrade:
            self.injected()
        if self.unread and not (self.after_login and self.unread == b"\r"):
            raise BreakError("an unexpected reply; no command was pending")

    def reply(self, exchange: Exchange) -> bool:
        """Read a reply, if it is complete."""
        command = exchange.command
        before = self.unread
        line = self.line()
        if line is None:
            return False
        status = parse_status(line)
        if status is None and command.shape is Shape.CHALLENGE:
            status = parse_challenge(line)
        body = self.body(command, self.unread) if goes_on(command, status) else b""
        if body is None:
            self.unread = before
            return False
        if self.listening:
            self.events.append((Kind.LINE, exchange, line))
        if status is None:
            raise BreakError(f"a reply to {command.verb} that is not a status line")
        if goes_on(command, status) and self.listening:
            self.events.append((Kind.BODY, exchange, len(body)))
        if isinstance(command, Stls) and status.ok:
            # The outcome is that of the handshake.
            return True
        if isinstance(command, Stls):
            self.upgrade = None
        self.complete.append(exchange)
        self.events.append(outcome(exchange, line, status, body))
        return True

    def body(self, command: Command[Any], wire: bytes) -> bytes | None:
        """Take the body of a reply, if it is complete."""
        body, end = plain(wire)
        if end is None:
            body = plain(decided(wire))[0]
        if command.verbatim:
            limit = self.max_message_size
            if limit is not None and len(body) > limit:
                raise BreakError(
                    f"in reply to {command.verb} a message of more than "
                    f"max_message_size={limit} bytes; look at the sizes with list() "
                    "first",
                    verb=command.verb,
                )
        else:
            self.bounds(command, body.split(b"\r\n"))
        if end is not None:
            self.unread = wire[end:]
        return body if end is not None else None

    def bounds(self, command: Command[Any], rows: list[bytes]) -> None:
        # The last is not complete, and may end in half a line end.
        long = any(len(row) > 510 for row in rows[:-1]) or len(rows[-1]) > 511
        many = MAX_CAPABILITIES
        if isinstance(command, List | Uidl):
            many = self.max_listing
        if long or len(rows) - 1 > many:
            what = "a row of more than 512 bytes" if long else f"more than {many} rows"
            raise BreakError(f"in reply to {command.verb} {what}", verb=command.verb)


def goes_on(command: Command[Any], status: Status | None) -> bool:
    return command.shape is Shape.BODY and status is not None and status.ok


def outcome(exchange: Exchange, line: bytes, status: Status, body: bytes) -> Event:
    if not status.ok:
        return Kind.REFUSED, exchange, line
    if exchange.sink is not None:
        return Kind.STREAMED, exchange, body
    command = exchange.command
    try:
        if command.shape is not Shape.BODY:
            return Kind.ANSWERED, exchange, command.parse(status)
        return Kind.ANSWERED, exchange, value(command, body)
    except BadReplyError as bad:
        return Kind.UNREADABLE, exchange, bad


def value(command: Command[Any], body: bytes) -> Any:
    """Read a body row by row."""
    rows = [row for row in body.split(b"\r\n") if row.strip()]
    if isinstance(command, List):
        return numbered(parse_one_listing, rows)
    if isinstance(command, Uidl):
        return numbered(parse_one_uid, rows)
    if isinstance(command, Capa):
        found: dict[str, tuple[str, ...]] = {}
        for row in rows:
            tag, *words = [printable(word) for word in row.split()]
            found[tag.upper()] = (*found.get(tag.upper(), ()), *words)
        return found
    if isinstance(command, LangList):
        pairs = [row.strip().partition(b" ") for row in rows]
        return {printable(tag): printable(name.strip()) for tag, _, name in pairs}
    return body


def numbered(parse: Callable[[bytes], Any], rows: list[bytes]) -> list[Any]:
    found: list[Any] = []
    for row in rows:
        entry = parse(row)
        known = [other for other in found if other.number == entry.number]
        if not known:
            found.append(entry)
        elif known != [entry]:
            raise BadReplyError(
                f"message {entry.number} has two different entries in the listing", row
            )
    return found
