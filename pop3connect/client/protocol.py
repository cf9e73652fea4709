"""
The conversation on one connection: the answers, matched to the commands.

Answers come in the order of the commands (RFC 1939 section 3, RFC 2449 section 6.6).
Whatever makes no sense ends the connection: what the server says after that can't
be told from mail text any more.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from ..errors import CommandError, POP3Error, ProtocolError
from ..sansio.commands import Shape, Stls
from ..sansio.exchange import Exchange
from ..sansio.multiline import SHORT, decode_whole
from ..sansio.replies import (
    CODES,
    TLS_RECORD,
    BadReplyError,
    Status,
    looks_like,
    parse_challenge,
    parse_status,
)
from ..sansio.states import State
from .bodies import Bodies
from .connection import MAX_STATUS_LINE, Settings

__all__ = ["POP3ClientFactory", "POP3ClientProtocol"]

log = Logger()

_Answer = tuple[Exchange, Status, bytes]
"""An exchange that is complete, its status line, its body."""

_OK = Status(True, b"")

_PLAIN_OK = (b"+OK ", b"+OK\r")

MAX_BLANK_LINES = 100_000
"""Between replies, in a session: one for each message of a large mailbox."""


class POP3ClientProtocol(Bodies):
    """The client's side of POP3."""

    __slots__ = (
        "_afterwards",
        "_blanks",
        "_carried",
        "_due",
        "_first",
        "_reading",
        "_short_way",
        "_upgrade",
    )

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        # Whether a body that is short may be taken whole, with nobody to be told of
        # its status line, and no limit that it could pass.
        self._short_way = not self.transcript.listening and (
            settings.max_message_size is None or settings.max_message_size >= SHORT
        )
        # The STLS whose handshake is under way.
        self._upgrade: Exchange | None = None
        # The beginning of a reply, put by until all of it is there.
        self._carried = b""
        self._blanks = 0
        # How many answers there can be in what is being read: a reply to a
        # command that was sent after it had come is none.
        self._due = 0
        self._reading = False
        self._first = b""
        self._afterwards: list[Callable[[], object]] = []

    def dataReceived(self, data: bytes) -> None:
        """Read what came, unless the session has ended."""
        if self.state is State.CLOSED:
            return
        if self._reading:
            # From within: LineReceiver puts back what is still to be read.
            super().dataReceived(data)
            return
        if len(self._first) < 2:
            self._first += data[:2]
            if looks_like(self._first) == TLS_RECORD:
                # There may never be a line in it.
                self._not_pop3(TLS_RECORD, data)
                return
        self._reading = True
        # The status line of a body that goes on here was read before.
        self._due = len(self._sent) - (self._body is not None)
        try:
            super().dataReceived(data)
        finally:
            self._reading = False
            if self._progress:
                self._progress = False
                self._limit.progress()
                if not self._sent and self._limit.phase == "reply":
                    # Not before: who got an answer may well have asked again.
                    self._limit.stop()
            self._check_rest()
            if self._afterwards:
                calls, self._afterwards = self._afterwards, []
                for call in calls:
                    call()

    def _check_rest(self) -> None:
        """Refuse the beginning of a line that cannot be an answer either."""
        if self._due or self._body is not None or self._upgrade is not None:
            return
        if self.state not in (State.GREETING, State.CLOSED):
            rest = self.clearLineBuffer()
            if rest == b"\r" and self._blank_may_stand_here():
                super().dataReceived(rest)
            elif rest:
                self._nonsense("a reply that nobody asked for", rest)

    def after_reading(self, call: Callable[[], object]) -> None:
        """Call this once, when all that came in one chunk has been read."""
        if not self._reading:
            call()
        elif call not in self._afterwards:
            self._afterwards.append(call)

    def lineReceived(self, line: bytes) -> None:
        """Read a status line."""
        if self.state is State.CLOSED:
            return
        if self.state is State.GREETING:
            self._read_greeting(line)
            return
        answered = self._begin_reply(line)
        if answered is not None:
            self._answered(*answered)
        elif self._body is not None:
            self.setRawMode()

    def rawDataReceived(self, data: bytes) -> None:
        """
        Read bodies, and the status lines between them.

        While more answers are owed, this goes on in the same chunk, by an offset:
        handing the rest back to be split into lines would copy it each time.
        """
        sent = self._sent
        at = 0
        carried, self._carried = self._carried, b""
        if carried:
            data = carried + data
        while self.state is not State.CLOSED:
            if self._body is None:
                if self._short_way:
                    at = self._read_whole_bodies(data, at, again=bool(carried))
                    if at < 0:
                        return
                end = data.find(b"\r\n", at)
                if end < 0 or end - at > MAX_STATUS_LINE:
                    self.setLineMode(data[at:])
                    return
                answered = self._begin_reply(data[at:end])
                at = end + 2
                if answered is None:
                    continue
            else:
                at = self._read_body(data, at)
                if at < 0:
                    return
                exchange, body = self._end_body()
                answered = exchange, _OK, body
            if not sent:
                # Back in line mode before anybody is told: what is left in the
                # chunk was not asked for, and has to be found if STLS comes next.
                self.setLineMode(data[at:])
                self._answered(*answered)
                return
            self._answered(*answered)

    def _read_whole_bodies(self, data: bytes, at: int, *, again: bool) -> int:
        """
        Read the replies that are all here and need nothing but to be handed over.

        Most messages come this way.  The beginning of a short one is put by, once,
        and is whole when the next chunk is there.

        :param again: whether the data begin with what was put by.
        :return: the offset of the first that it did not read; -1 if there is nothing
            left to be read now.
        """
        sent = self._sent
        while self._due and sent:
            exchange = sent[0]
            if not exchange.verbatim or not data.startswith(_PLAIN_OK, at):
                break
            end = data.find(b"\r\n", at, at + MAX_STATUS_LINE + 2)
            whole = decode_whole(data, end + 2) if end >= 0 else None
            if whole is None:
                if len(data) - at < SHORT and (at or not again):
                    self._carried = data[at:]
                    return -1
                break
            body, at = whole
            self._due -= 1
            self._progress = True
            sent.pop(0)
            if len(sent) <= self._refill and self._waiting:
                self._send_waiting()
            if not sent:
                self.setLineMode(data[at:])
                exchange.succeed(body)
                return -1
            exchange.succeed(body)
        return -1 if self.state is State.CLOSED else at

    def _blank_may_stand_here(self) -> bool:
        return self.state in (State.TRANSACTION, State.UPDATE)

    def _passes_over(self, line: bytes) -> bool:
        """
        Say whether a line is a blank one that may stand between two replies.

        Office 365 has been seen to send one after a large message.
        """
        if line or not self._blank_may_stand_here():
            return False
        if self._blanks == 0:
            log.warn(
                "{server}: a blank line between two replies is passed over",
                server=str(self.settings.server),
            )
        self._blanks += 1
        return self._blanks <= MAX_BLANK_LINES

    def _begin_reply(self, line: bytes) -> _Answer | None:
        """
        Read a status line.

        :return: the exchange that it completes; ``None`` if a body follows, or the
            session has ended here.
        """
        exchange = self._sent[0] if self._due else None
        if (
            exchange is not None
            and exchange.command.shape is Shape.BODY
            and line[:4] in (b"+OK", b"+OK ")
        ):
            # The way of every message: nothing is made of its status line.
            self._due -= 1
            self._progress = True
            if self.transcript.listening:
                self.transcript.server(line)
            if self.state is not State.CLOSED:
                self._begin_body(exchange)
            return None
        if self._passes_over(line):
            return None
        status = parse_status(line)
        if status is not None and status.code not in (None, *CODES):
            # A code of the server's own, which may repeat a secret as any text may.
            status = parse_status(self.transcript.mask(line)) or status
        if exchange is not None and exchange.command.shape is Shape.CHALLENGE:
            status = status or parse_challenge(line)
        if self.transcript.listening:
            if status is not None and status.challenge:
                self.transcript.challenge()
            else:
                self.transcript.server(line)
            if self.state is State.CLOSED:
                # The status procedure has ended the session.
                return None
        if exchange is None:
            self._nonsense("a reply that nobody asked for", line)
            return None
        if status is None:
            self._nonsense(f"no answer to {exchange.command.verb}", line)
            return None
        self._due -= 1
        self._progress = True
        if status.ok and exchange.command.shape is Shape.BODY:
            self._begin_body(exchange)
            return None
        self._sent.pop(0)
        if status.ok and isinstance(exchange.command, Stls):
            self._begin_upgrade(exchange)
            return None
        return exchange, status, b""

    def _in_transfer(self, exchange: Exchange) -> bool:
        put_by = b"\r\n" in self._carried and exchange is self._sent[0]
        return put_by or super()._in_transfer(exchange)

    def _answered(self, exchange: Exchange, status: Status, body: bytes) -> None:
        """Tell who asked, after everything else is in order."""
        command = exchange.command
        error: POP3Error | None = None
        if not status.ok:
            error = self._refusal(command, status, CommandError)
        else:
            try:
                value = command.parse(status, body)
            except BadReplyError as bad:
                error = ProtocolError(
                    f"the reply cannot be read: {bad.shown(self.transcript.clean)}",
                    server=str(self.settings.server),
                    verb=command.verb,
                )
        if self._waiting and len(self._sent) <= self._refill:
            self._send_waiting()
        if error is not None:
            exchange.fail(error)
            return
        if exchange.noted is not None:
            exchange.noted(value)
        exchange.succeed(value)

    def _begin_upgrade(self, exchange: Exchange) -> None:
        """Start TLS after the +OK to STLS (RFC 2595 section 4)."""
        self._upgrade = exchange
        if self.clearLineBuffer():
            # Sent in the clear, to be taken for something that came through TLS.
            self.break_off(
                ProtocolError(
                    "the server, or somebody in its place, has sent more after its "
                    "+OK to STLS; nothing was sent in return",
                    server=str(self.settings.server),
                    verb="STLS",
                )
            )
            return
        self._start_tls()

    def _tls_started(self) -> None:
        upgrade, self._upgrade = self._upgrade, None
        assert upgrade is not None
        upgrade.succeed(None)

    # -- what goes wrong

    def _fail_pending(self, error: POP3Error) -> None:
        pending = [*self._sent, *self._waiting]
        if self._upgrade is not None:
            pending.append(self._upgrade)
            self._upgrade = None
        self._sent.clear()
        self._waiting.clear()
        self._carried = b""
        self._lose_body()
        for exchange in pending:
            exchange.fail(error.about(exchange.command.verb))


class POP3ClientFactory(Factory):
    """Builds the protocol of a session."""

    noisy = False

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        #: Whether anybody still waits for the connection.
        self.wanted = True

    def buildProtocol(self, addr: IAddress | None) -> POP3ClientProtocol | None:
        """Build a protocol; none, which closes the connection, if it comes too late."""
        if not self.wanted:
            return None
        protocol = POP3ClientProtocol(self.settings)
        protocol.factory = self
        return protocol
