"""
The client's side of a POP3 dialogue: bytes in, events out.  No I/O, no clock.

Theory of operation
===================

A dialogue has two queues and one reader.  `_queued` holds the exchanges that have not
been sent, `_sent` those whose reply is owed, oldest first.  `data_to_send` moves
exchanges from the first to the second, as many as the window allows: one, unless the
server announced PIPELINING (RFC 2449 section 6.6).  `receive` reads a chunk and appends
what happened to `events`.  It makes no calls: it fires no Deferred, and calls no
consumer and no status procedure.  So while a chunk is read,

- the number of replies that it can complete is fixed: those in `_sent` when it began.
  Bytes that are left after those replies answer nothing.  They could be mail text, or
  forged, and end the session;
- neither the queues nor the state change behind the reader's back.

The owner of the transport writes what `data_to_send` returned, then takes the events
one by one and hands them on.  Only then does application code run.  It may enqueue,
drop or close as it likes: that changes the queues and appends events, and the loop that
delivers them goes on.  The event being delivered is the first of `events` until that is
done, so `events` is empty exactly while no delivery is under way.

An exchange belongs to the dialogue from `enqueue` until its last event (Kind.ANSWERED,
REFUSED, UNREADABLE or FAILED) was delivered.  `close` turns every exchange that is not
there yet into a FAILED event, in the order of the commands: none is lost, and none
succeeds after the end of the session.

What a chunk may contain, in order:

- the rest of a status line or body whose beginning came before;
- replies: a status line, and for some commands a body after its ``+OK``;
- after the login, blank lines between two replies (Office 365 sends them after large
  messages), also while nothing is owed;
- the beginning of a reply, which is kept for the next chunk.

What ends the session, because what follows cannot be told from mail text any more:

- a line that is not a status line where one is owed, or one that is too long;
- anything that is left while no reply is owed, including bytes after the greeting;
- anything after the ``+OK`` to STLS: it came in the clear (RFC 2595 section 4);
- a body, a listing or a row beyond its bound.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection

from ..errors import POP3Error, UsageError
from .body import PROGRESS, Body
from .commands import Quit, Shape, Stls
from .events import OUTCOMES, Broken, Event, Kind
from .exchange import Exchange
from .multiline import SHORT, decode_whole
from .readers import MAX_LISTING, TooLargeError
from .replies import (
    TLS_RECORD,
    BadReplyError,
    looks_like,
    parse_challenge,
    parse_status,
)
from .states import State, allows

__all__ = ["Dialogue"]

MAX_STATUS_LINE = 16384
"""Bytes of a status line or continuation.  RFC 2449 section 4 has 512; SASL challenges
(RFC 5034 section 4) and the texts of some servers are longer."""

WINDOW = 256
"""Commands that may be unanswered at once.  Their lines fit into the receive buffer of
any server, and enough are on their way to hide a long round trip."""

MAX_BLANK_LINES = 100_000
"""Blank lines between replies, in a session: one for each message of a large mailbox
is tolerated."""

_PLAIN_OK = (b"+OK ", b"+OK\r")

# These are needed for each chunk or command, and until Python 3.12 a member of an enum
# is looked up in its class by a function in Python.
_GREETING, _CLOSED = State.GREETING, State.CLOSED
_PIECE, _CALL = Kind.PIECE, Kind.CALL


class Dialogue:
    """
    One session, from the greeting to its end.

    :param max_message_size: bytes; a longer message ends the session.
    :param max_listing: rows; a longer listing ends the session.
    :param listening: whether SENT, LINE and BODY events are wanted.
    :ivar events: what has happened and was not delivered yet.
    :ivar state: the state of the session (RFC 1939 section 3).
    :ivar progress: whether the server has sent enough to be given its whole time again;
        the owner of the clock resets it.
    :ivar answered: whether a reply has come completely, so that more may be sent, or
        nothing is owed any more; the owner resets it too.
    :ivar broken: why the session must end, as soon as that was found.
    :ivar closed: whether `close` was called.
    """

    __slots__ = (
        "_blanks_left",
        "_body",
        "_queued",
        "_reading",
        "_rest",
        "_sent",
        "_short_way",
        "_upgrade",
        "_window",
        "answered",
        "broken",
        "closed",
        "events",
        "listening",
        "progress",
        "state",
    )

    def __init__(
        self,
        *,
        max_message_size: int | None = None,
        max_listing: int = MAX_LISTING,
        listening: bool = False,
    ) -> None:
        self.events: deque[Event] = deque()
        self.state = State.GREETING
        self.closed = False
        self.listening = listening
        self.progress = False
        self.answered = False
        self.broken: Broken | None = None
        # A program may queue a command for each of 250,000 messages.  An empty deque
        # has room for 64: an idle session does without one.
        self._queued: deque[Exchange] | None = None
        # A list, which is smaller; it is never longer than the window.
        self._sent: list[Exchange] = []
        # How many commands may be unanswered.
        self._window = 1
        # The STLS that was sent and whose handshake is not complete.
        self._upgrade: Exchange | None = None
        self._rest = b""
        # Blank lines that may still be ignored: none before the login.
        self._blanks_left = 0
        # The exchange whose status line was read and whose body is being read.
        self._reading: Exchange | None = None
        self._body = Body(max_message_size, max_listing)
        # Whether a short body may be taken whole, without a look at its length.
        self._short_way = max_message_size is None or max_message_size >= SHORT

    # -- facts

    @property
    def owes(self) -> bool:
        """Whether the server owes a reply."""
        return bool(self._sent)

    @property
    def verb(self) -> str | None:
        """The verb of the command whose reply is owed."""
        return self._sent[0].command.verb if self._sent else None

    @property
    def unanswered(self) -> int:
        """How many commands were sent and not answered."""
        return len(self._sent)

    @property
    def outstanding(self) -> int:
        """How many commands were sent and not answered, or wait to be sent."""
        return len(self._sent) + len(self._queued or ())

    @property
    def rest(self) -> bytes:
        """The beginning of a reply that is not complete."""
        return self._rest

    def in_transfer(self, exchange: Exchange) -> bool:
        """
        Return whether a status line ``+OK`` was read, and not the end of its body.

        A reply that is kept until all of it has arrived counts; one that was read
        completely does not, delivered or not.
        """
        if not self._sent or self._sent[0] is not exchange:
            return False
        return self._reading is exchange or (
            self._rest.startswith(_PLAIN_OK) and b"\r\n" in self._rest
        )

    # -- commands out

    def enqueue(self, verb: str, exchanges: Collection[Exchange]) -> None:
        """
        Append exchanges, whose commands all have this verb.  Nothing is sent.

        :raises UsageError: the state does not allow the verb; none was appended.
        """
        if not allows(self.state, verb):
            raise UsageError(
                f"{verb} is not possible now: {self.state.value}", verb=verb
            )
        if verb == Quit.verb:
            self.state = State.UPDATE
        if self._queued is None:
            self._queued = deque(exchanges)
        else:
            self._queued.extend(exchanges)

    def data_to_send(self) -> bytes:
        """
        Fill the window when half of it is free, and return what to write.

        Then many lines go out in one write, and the server still has the other half
        to work on.  After STLS nothing is sent before `started_tls`.
        """
        sent, queued = self._sent, self._queued
        if queued is None or len(sent) > self._window // 2:
            return b""
        if self._upgrade is not None or self.state is _CLOSED:
            return b""
        lines = []
        listening, window = self.listening, self._window
        while queued and len(sent) < window:
            exchange = queued[0]
            command = exchange.command
            if exchange.dropped:
                queued.popleft()
                continue
            if isinstance(command, Stls):
                if sent:
                    # RFC 2595 section 4: nothing is pending when it is sent.
                    break
                self._upgrade = exchange
                # And nothing is sent after it.
                window = 1
            queued.popleft()
            sent.append(exchange)
            lines.append(command.line())
            if listening:
                self.events.append((Kind.SENT, exchange, None))
        if not queued:
            self._queued = None
        return b"".join(lines)

    def allow_pipelining(self, allowed: bool = True) -> None:
        """Send commands while others are unanswered (RFC 2449 section 6.6)."""
        self._window = WINDOW if allowed else 1

    def logged_in(self) -> None:
        """Enter the state TRANSACTION."""
        if self.state is State.AUTHORIZATION:
            self.state = State.TRANSACTION
            self._blanks_left = MAX_BLANK_LINES

    def started_tls(self) -> None:
        """
        Continue inside TLS: the handshake is complete.

        What was learnt in the clear is forgotten (RFC 2595 section 4), pipelining
        included.  In a session that must end, nothing happens.
        """
        if self.state is State.CLOSED:
            return
        upgrade, self._upgrade = self._upgrade, None
        self._rest = b""
        self.allow_pipelining(False)
        if upgrade is not None:
            self.events.append((Kind.ANSWERED, upgrade, None))

    def call_later(self, call: Callable[[], object]) -> None:
        """Append a call, which is made after the events that are in the queue now."""
        self.events.append((_CALL, None, call))

    def call_first(self, call: Callable[[], object]) -> None:
        """Put a call before all events, none of which is being delivered yet."""
        self.events.appendleft((_CALL, None, call))

    def drop(self, exchange: Exchange) -> None:
        """Drop a reply: it is still read, but no caller gets it and nothing is kept."""
        exchange.drop()
        if self._reading is exchange:
            self._body.discard()

    def close(self, error: POP3Error) -> None:
        """
        End the session: every exchange without an outcome fails with ``error``.

        What was read and not delivered is not delivered any more.
        """
        self.state = State.CLOSED
        self.closed = True
        events = self.events
        # The first is being delivered, if there is one, and stays until that is done.
        first = events.popleft() if events else None
        pending = [about for kind, about, _ in events if kind in OUTCOMES]
        if self._upgrade is not None and self._upgrade not in self._sent:
            pending.append(self._upgrade)
        pending += self._sent
        pending += self._queued or ()
        calls = [event for event in events if event[0] is Kind.CALL]
        events.clear()
        if first is not None:
            events.append(first)
        events.extend((Kind.FAILED, exchange, error) for exchange in pending)
        events.extend(calls)
        self._sent.clear()
        self._queued = None
        self._upgrade = None
        self._rest = b""
        self._reading = None
        self._body.clear()

    # -- replies in

    def receive(self, data: bytes) -> None:
        """Read a chunk, and append what happened in it to `events`."""
        if self.state is _CLOSED:
            return
        sent = self._sent
        carried = len(self._rest)
        if carried:
            data = self._rest + data
            self._rest = b""
        if self.state is _GREETING:
            self._read_greeting(data)
            return
        events = self.events
        append = events.append
        short_way, listening = self._short_way, self.listening
        at = done = 0
        # A command sent after this chunk was read is not answered in it.
        owed = len(sent)
        while done < owed:
            exchange = sent[done]
            if self._reading is not None:
                at = self._read_body(data, at, exchange)
                if at < 0:
                    at = len(data)
                    break
                done += 1
                continue
            searched = False
            whole = exchange.whole
            if whole is not None and short_way and data.startswith(_PLAIN_OK, at):
                # Most messages take this path: status line and body are both here.
                end = data.find(b"\r\n", at, at + MAX_STATUS_LINE + 2)
                searched = end >= 0
                found = decode_whole(data, end + 2) if searched else None
                if found is not None:
                    body, after = found
                    if listening:
                        append((Kind.LINE, exchange, data[at:end]))
                        append((Kind.BODY, exchange, len(body)))
                    append((whole, exchange, body))
                    at = after
                    done += 1
                    continue
                if (
                    exchange.sink is None
                    and len(data) - at < SHORT
                    and (at or not carried)
                ):
                    # Its beginning is kept, once: after that it is whole, or long.
                    if len(data) - at >= PROGRESS:
                        self.progress = True
                    break
            end = data.find(b"\r\n", at, at + MAX_STATUS_LINE + 2)
            if end < 0:
                if len(data) - at > MAX_STATUS_LINE + 1:
                    self._break(
                        f"a line of more than {MAX_STATUS_LINE} bytes", data[at:]
                    )
                break
            line = data[at:end]
            at = end + 2
            if not line and self._blank_may_stand_here():
                continue
            complete = self._read_status(line, exchange, searched)
            if complete is None:
                break
            done += complete
        if done:
            del sent[:done]
            self.progress = self.answered = True
        if self.broken is not None:
            return
        if at < len(data):
            self._rest = data[at:] if at else data
            if not sent:
                self._check_rest()
        elif done and self._upgrade is not None:
            # Nothing else was pending, so that was its reply.
            events.append((Kind.START_TLS, self._upgrade, None))

    def _read_greeting(self, data: bytes) -> None:
        """Read the first line (RFC 1939 section 4)."""
        if looks_like(data[:2]) == TLS_RECORD:
            # There may never be a line in it.
            self._break("", data, protocol=TLS_RECORD)
            return
        end = data.find(b"\r\n", 0, MAX_STATUS_LINE + 2)
        if end < 0:
            self._rest = data
            if len(data) > MAX_STATUS_LINE + 1:
                self._break(f"a line of more than {MAX_STATUS_LINE} bytes", data)
            return
        line = data[:end]
        if self.listening:
            self.events.append((Kind.LINE, None, line))
        status = parse_status(line)
        if status is None:
            what = "a line that is not a POP3 greeting"
            self._break(what, line, protocol=looks_like(line))
            return
        self.progress = self.answered = True
        self.state = State.AUTHORIZATION if status.ok else State.CLOSED
        self.events.append((Kind.GREETED, None, line))
        self._rest = data[end + 2 :]
        if self._rest and status.ok:
            self._check_rest()

    def _read_status(
        self, line: bytes, exchange: Exchange, searched: bool
    ) -> bool | None:
        """
        Read a status line.

        :param searched: whether the end of the body was searched for, and is not near.
        :return: whether it completes the reply; ``None``: the session must end.
        """
        events = self.events
        shape = exchange.command.shape
        status = parse_status(line)
        if status is None and shape is Shape.CHALLENGE:
            status = parse_challenge(line)
        if self.listening:
            events.append((Kind.LINE, exchange, line))
        if status is None:
            self._break(
                f"a reply to {exchange.command.verb} that is not a status line", line
            )
            return None
        self.progress = True
        if isinstance(exchange.command, Stls):
            if status.ok:
                # TLS starts when it is certain that nothing follows in this chunk.
                return True
            self._upgrade = None
        if not status.ok:
            events.append((Kind.REFUSED, exchange, line))
        elif shape is Shape.BODY:
            self._begin_body(exchange, searched)
            return False
        else:
            try:
                events.append((Kind.ANSWERED, exchange, exchange.command.parse(status)))
            except BadReplyError as bad:
                events.append((Kind.UNREADABLE, exchange, bad))
        return True

    def _begin_body(self, exchange: Exchange, searched: bool) -> None:
        self._reading = exchange
        kept = not exchange.dropped
        self._body.begin(exchange.command, kept=kept, searched=searched)
        if exchange.sink is not None:
            self.events.append((Kind.BEGUN, exchange, None))

    def _read_body(self, data: bytes, at: int, exchange: Exchange) -> int:
        """Read on in a body; as `MultilineDecoder.feed`."""
        body, events = self._body, self.events
        try:
            end = body.feed(data, at)
        except TooLargeError as large:
            verb = exchange.command.verb
            self._break(f"in reply to {verb} {large}", None, verb=verb)
            return -1
        if exchange.sink is not None and (piece := body.take()):
            events.append((_PIECE, exchange, piece))
        if body.moved:
            body.moved = False
            self.progress = True
        if end < 0:
            return -1
        self._reading = None
        if self.listening:
            events.append((Kind.BODY, exchange, body.octets))
        if exchange.sink is not None:
            events.append((Kind.ENDED, exchange, body.octets))
            return end
        try:
            events.append((Kind.ANSWERED, exchange, body.finish()))
        except BadReplyError as bad:
            events.append((Kind.UNREADABLE, exchange, bad))
        return end

    # -- bytes that no command asked for

    def _blank_may_stand_here(self) -> bool:
        """Count a blank line between two replies, and return whether it is ignored."""
        if not self._blanks_left:
            return False
        if self._blanks_left == MAX_BLANK_LINES:
            self.events.append((Kind.BLANK, None, None))
        self._blanks_left -= 1
        return True

    def _check_rest(self) -> None:
        """Refuse bytes that are left while no reply is owed, blank lines excepted."""
        if self._upgrade is not None:
            self._injected()
            return
        rest = self._rest
        at = 0
        while rest.startswith(b"\r\n", at) and self._blank_may_stand_here():
            at += 2
        if rest[at:] == b"\r" and self._blanks_left:
            # The beginning of a blank line.
            at = len(rest) - 1
        elif at < len(rest):
            self._break("an unexpected reply; no command was pending", rest[at:])
            return
        self._rest = rest[at:]

    def _injected(self) -> None:
        # Sent in the clear, to be taken for bytes that came through TLS.
        self._break(
            "more after its +OK to STLS, in the clear; somebody may have injected it, "
            "and nothing was sent in return",
            None,
            verb=Stls.verb,
        )

    def _break(
        self,
        problem: str,
        text: bytes | None,
        *,
        verb: str | None = None,
        protocol: str | None = None,
    ) -> None:
        """Send nothing more, read nothing more; the owner closes the session."""
        self.broken = Broken(problem, text, verb, protocol)
        self.state = State.CLOSED
        self.events.append((Kind.BROKEN, None, self.broken))
