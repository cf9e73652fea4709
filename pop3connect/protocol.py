"""
The conversation on one connection: lines, the queue, time limits, startTLS, loss.

Commands go out in the order in which they were submitted, several at once when
the server allows pipelining (RFC 2449 section 6.6), and answers are matched to them
in that order.  Whatever makes no sense ends the connection: what the server says
after that can't be told from mail text any more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure

from .commands import Command, Quit, Shape, Stls
from .connection import CLOSE_SECONDS, MAX_STATUS_LINE, Connection, Settings
from .errors import (
    CommandError,
    ConnectionLostError,
    POP3Error,
    ProtocolError,
    UsageError,
)
from .exchange import Exchange, Sink
from .multiline import MultilineDecoder
from .replies import (
    TLS_RECORD,
    BadReplyError,
    Status,
    looks_like,
    parse_challenge,
    parse_status,
)
from .session import State

__all__ = ["POP3ClientFactory", "POP3ClientProtocol"]

log = Logger()

T = TypeVar("T")

_Answer = tuple[Exchange, Status, bytes]
"""An exchange that is complete, its status line, its body."""

_OK = Status(True, b"")

WINDOW = 256
"""
Commands that may be unanswered at once.  Their lines fit into the receive buffer of
any server, and enough are on their way to hide a long round trip.
"""

SLOWEST = 512
"""
Octets of a body that must arrive within one time limit.  A server which sends an
octet now and then could hold the session for ever otherwise.
"""


class POP3ClientProtocol(Connection):
    """The client's side of POP3."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        # How many commands may be unanswered, and with how many more are sent.
        self._window = 1
        self._refill = 0
        self._waiting: deque[Exchange] = deque()
        self._sent: deque[Exchange] = deque()
        # The exchange whose body is coming, the pieces of it that are kept here if
        # it has no sink, how long it may be, and how much of it counted as progress.
        self._decoder = MultilineDecoder()
        self._body: Exchange | None = None
        self._pieces: list[bytes] = []
        self._keep = self._pieces.append
        self._body_limit: int | None = None
        self._counted = 0
        # The STLS whose handshake is under way.
        self._upgrade: Exchange | None = None
        # How many answers there can be in what is being read: a reply to a
        # command that was sent after it had come is none.
        self._due = 0
        self._reading = False
        self._first = b""
        self._progress = False
        self._afterwards: list[Callable[[], object]] = []
        self._held = False

    # -- commands out

    @property
    def pipelining(self) -> bool:
        """Whether several commands may be unanswered at once."""
        return self._window > 1

    def allow_pipelining(self) -> None:
        """Send commands while others are unanswered (RFC 2449 section 6.6)."""
        self._window = WINDOW
        self._refill = WINDOW // 2

    def submit(
        self,
        command: Command[T],
        sink: Sink | None = None,
        noted: Callable[[T], object] | None = None,
    ) -> Deferred[T]:
        """
        Send a command when its turn comes.

        :param sink: where a body goes, if not into the result.
        :param noted: takes the result too, even if the Deferred was cancelled.
        :return: fires with what the command's ``parse`` makes of the reply.
        """
        exchange = Exchange(command, sink, noted)
        answer: Deferred[T] = Deferred(partial(self._cancel, exchange))
        exchange.succeed = answer.callback
        exchange.fail = answer.errback
        try:
            self.enqueue(exchange)
        except POP3Error as error:
            return fail(error)
        if self._held:
            # Somebody waits for more than the one who holds the reading up.
            self.release()
        return answer

    def enqueue(self, exchange: Exchange) -> None:
        """
        Send an exchange when its turn comes.

        :raises POP3Error: the session has ended, or the command is not allowed in
            its present state.
        """
        verb = exchange.command.verb
        if self._end is not None:
            raise self._end.about(verb)
        if verb not in self.allowed:
            raise UsageError(
                f"{verb} is not possible now: {self.state.value}",
                server=str(self.settings.server),
                verb=verb,
            )
        if verb == "QUIT":
            self.enter(State.UPDATE)
        self._waiting.append(exchange)
        if len(self._sent) <= self._refill:
            self._send_waiting()

    def _send_waiting(self) -> None:
        """
        Fill the window.

        Called when half of it is free: then many lines go out in one write, and the
        server still has the other half to work on.
        """
        waiting, sent = self._waiting, self._sent
        lines = []
        while waiting and len(sent) < self._window:
            exchange = waiting.popleft()
            if exchange.dropped:
                continue
            sent.append(exchange)
            lines.append(exchange.command.line())
            if self.transcript.listening:
                self.transcript.client(exchange.command.shown())
        # The status procedure may have ended the session.
        if lines and self.state is not State.CLOSED:
            assert self.transport is not None
            if not self._limit.running and not self._paused:
                self._limit.start("reply", self.settings.timeout)
            self.transport.write(b"".join(lines))

    def _cancel(self, exchange: Exchange, _: object) -> None:
        """Leave a defined state behind when an answer is not wanted any more."""
        exchange.drop(begun=exchange is self._body)
        if exchange is self._body:
            self.break_off(
                ConnectionLostError(
                    f"{exchange.command.verb} was cancelled in the middle of a "
                    "message, which ends the session",
                    server=str(self.settings.server),
                )
            )

    def forget(self, exchange: Exchange) -> None:
        """Let nobody hear of an answer, and keep nothing of it; it is still read."""
        exchange.drop(begun=exchange is self._body)
        if exchange is self._body:
            self._pieces.clear()
            self._decoder.discard()

    def is_last(self, exchange: Exchange) -> bool:
        """Say whether nothing was asked after this."""
        queue = self._waiting or self._sent
        return bool(queue) and queue[-1] is exchange

    def hold(self) -> None:
        """Read no more until `release`, or until somebody submits a command."""
        if not self._held:
            self._held = True
            self.pause_body()

    def release(self) -> None:
        """Read on after `hold`."""
        if self._held:
            self._held = False
            self.resume_body()

    async def leave(self) -> None:
        """Say QUIT where nothing depends on the answer, and close."""
        if self.state is not State.CLOSED:
            answer = self.submit(Quit())
            patience = self.settings.clock.callLater(CLOSE_SECONDS, answer.cancel)
            try:
                await answer
            except (POP3Error, CancelledError):
                pass
            finally:
                if patience.active():
                    patience.cancel()
        await self.close()

    # -- answers in

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
        self._due = len(self._sent)
        try:
            super().dataReceived(data)
        finally:
            self._reading = False
            if self._progress:
                self._progress = False
                self._limit.progress()
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
            if rest:
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
        while self.state is not State.CLOSED:
            if self._body is None:
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
                answered = self._end_body()
            if not sent:
                # Back in line mode before anybody is told: what is left in the
                # chunk was not asked for, and has to be found if STLS comes next.
                self.setLineMode(data[at:])
                self._answered(*answered)
                return
            self._answered(*answered)

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
            and line[:3] == b"+OK"
        ):
            # The way of every message: nothing is made of its status line.
            self._due -= 1
            self._progress = True
            if self.transcript.listening:
                self.transcript.server(line)
            if self.state is not State.CLOSED:
                self._begin_body(exchange)
            return None
        status = parse_status(line)
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
        self._sent.popleft()
        if status.ok and isinstance(exchange.command, Stls):
            self._begin_upgrade(exchange)
            return None
        return exchange, status, b""

    def _begin_body(self, exchange: Exchange) -> None:
        self._body = exchange
        self._counted = 0
        limit = exchange.command.max_octets
        self._body_limit = self.settings.max_message_size if limit is None else limit
        sink = exchange.sink
        if sink is None:
            self._decoder.begin(self._keep)
            return
        try:
            sink.begin(self)
        except Exception:  # noqa: BLE001 - a consumer's own
            self._consumer_failed()
        else:
            self._decoder.begin(sink.write)

    def _read_body(self, data: bytes, at: int) -> int:
        """Read on in a body; as `MultilineDecoder.feed`."""
        decoder = self._decoder
        try:
            end = decoder.feed(data, at)
        except Exception:  # noqa: BLE001 - a consumer's own
            self._consumer_failed()
            return -1
        if self._body is None:
            # The consumer has ended the session from its write().
            return -1
        if self._body_limit is not None and decoder.octets > self._body_limit:
            self._too_large()
            return -1
        if end < 0 and decoder.octets - self._counted >= SLOWEST:
            self._counted = decoder.octets
            self._progress = True
        return end

    def _end_body(self) -> _Answer:
        exchange, self._body = self._body, None
        assert exchange is not None
        self._sent.popleft()
        self._progress = True
        if self.transcript.listening:
            self.transcript.body(self._decoder.octets)
        body = b""
        if exchange.sink is None:
            pieces = self._pieces
            body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            pieces.clear()
        else:
            try:
                exchange.sink.end(self._decoder.octets)
            except Exception:  # noqa: BLE001 - a consumer's own; and all has come
                exchange.fail(Failure())  # type: ignore[arg-type]
                exchange.drop(begun=True)
        return exchange, _OK, body

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
                    "the reply cannot be read: "
                    + self.transcript.clean(str(bad).encode()),
                    server=str(self.settings.server),
                    verb=command.verb,
                )
        if self._waiting and len(self._sent) <= self._refill:
            self._send_waiting()
        if not self._sent:
            self._limit.stop()
        if error is not None:
            exchange.fail(error)
            return
        if exchange.noted is not None:
            exchange.noted(value)
        exchange.succeed(value)

    def _begin_upgrade(self, exchange: Exchange) -> None:
        """Start TLS after the +OK to STLS (RFC 2595 section 4)."""
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
            exchange.fail(self._end.about("STLS"))  # type: ignore[union-attr]
            return
        self._upgrade = exchange
        self._start_tls()

    def _tls_started(self) -> None:
        upgrade, self._upgrade = self._upgrade, None
        assert upgrade is not None
        upgrade.succeed(None)

    # -- what goes wrong

    def _verb(self) -> str | None:
        return self._sent[0].command.verb if self._sent else None

    def _fail_pending(self, error: POP3Error) -> None:
        pending = [*self._sent, *self._waiting]
        if self._upgrade is not None:
            pending.append(self._upgrade)
        body, self._body, self._upgrade = self._body, None, None
        self._sent.clear()
        self._waiting.clear()
        self._pieces.clear()
        if body is not None and body.sink is not None:
            try:
                body.sink.lost()
            except Exception:  # noqa: BLE001 - a consumer's own; it hears the error
                log.failure("a consumer failed to let go")
        for exchange in pending:
            exchange.fail(error.about(exchange.command.verb))

    def _too_large(self) -> None:
        assert self._body is not None
        verb = self._body.command.verb
        limit = f"a body of more than {self._body_limit} octets"
        if self._body.command.max_octets is None:
            limit = f"a message of more than max_message_size={self._body_limit} octets"
        self.break_off(
            ProtocolError(
                f"the answer to {verb} is {limit}; look at the sizes with list() first",
                server=str(self.settings.server),
                verb=verb,
            )
        )

    def _consumer_failed(self) -> None:
        """Give the exception of a consumer to who asked, and end the session."""
        failure = Failure()
        exchange = self._body
        if exchange is None:
            # It has ended the session before it failed.
            return
        failed, exchange.fail = exchange.fail, _told
        ended = ConnectionLostError(
            "the consumer of a message failed, which ends the session",
            server=str(self.settings.server),
        )
        ended.__cause__ = failure.value
        self.break_off(ended)
        failed(failure)  # type: ignore[arg-type]


def _told(result: object) -> None:
    """Take what nobody waits for."""


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
