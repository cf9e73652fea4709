"""
The Twisted side of one session: the transport, TLS, the time limits, the delivery.

The conversation itself is in `sansio.dialogue`, which reads bytes and appends events.
Here is the one loop that hands the events on.  All application code (Deferreds,
consumers, the status procedure) runs in that loop: a call from there appends and
returns, so the order on the wire, in the queue and in the transcript is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from socket import socket
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IDelayedCall,
    IHandshakeListener,
)
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from ..errors import (
    CommandError,
    LoginError,
    POP3Error,
    TLSError,
    UsageError,
)
from ..redaction import Listener, SecretBytes, Transcript
from ..sansio.commands import Command, Shape, message_number
from ..sansio.dialogue import Dialogue
from ..sansio.events import Kind
from ..sansio.exchange import NOBODY, Exchange, Sink, nobody
from ..sansio.replies import BadReplyError, parse_status
from ..sansio.states import State
from .acknowledge import acknowledge, tcp_socket
from .deadline import Deadline
from .failures import Failures
from .observer import OneShot
from .protection import Protection
from .sending import descriptor, send_now
from .settings import Settings
from .streaming import Feeder
from .unawaited import UnawaitedDeferred

if TYPE_CHECKING:
    from ..results import TLSInfo
    from .reporting import Reporter

__all__ = ["POP3ClientProtocol"]

log = Logger()

T = TypeVar("T")

# Looking a member up in its class costs more than the rest of an event.
_ANSWERED = Kind.ANSWERED
_AUTHORIZATION = State.AUTHORIZATION

CLOSE_SECONDS = 5.0
"""Seconds for the end of a connection in an orderly way, and for a QUIT on whose reply
nothing depends."""


_FULL = 65536
"""Bytes that Twisted reads at once.  After fewer no more is there for now, and the
server may wait for an acknowledgement."""


class _Cancellable(Exchange):
    """
    A command whose caller has a Deferred, which may be cancelled.

    :ivar protocol: the session.
    :ivar owner: is kept alive until there is an outcome.
    """

    __slots__ = ("owner", "protocol")

    protocol: POP3ClientProtocol
    owner: object

    # The canceller of its Deferred: a bound method would be one more object for each.
    def __call__(self, _: object) -> None:
        """Leave a defined state behind when the reply is not wanted any more."""
        self.protocol.cancel(self)


@implementer(IHandshakeListener)
class POP3ClientProtocol(LineReceiver):
    """
    The client's side of POP3 on one connection.

    :ivar protection: the TLS of the connection.
    """

    # No line is read by LineReceiver: the dialogue finds them, between the bodies.
    line_mode = 0

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.transcript = Transcript(settings.status_procedure, log)
        if settings.proxy is not None:
            # A server may repeat it: its operator may also run the proxy.
            self.transcript.keep_secret(*settings.proxy.secrets)
        self.protection = Protection()
        self._failures = Failures(str(settings.server), self.transcript)
        self._dialogue = Dialogue(
            max_message_size=settings.max_message_size,
            max_listing=settings.max_listing,
            listening=self.transcript.listening or settings.events is not None,
        )
        self._reporter: Reporter | None = None
        if settings.events is not None:
            # Late, because most programs want no events, and their classes take time.
            from .reporting import Reporter

            self._reporter = Reporter(
                Listener(settings.events, "the function for events", log),
                str(settings.server),
                settings.clock,
                self._failures.status,
            )
        self._deadline = Deadline(settings.clock, self._too_late)
        # Why the session has ended, or must.
        self._end: POP3Error | None = None
        self._greeted: OneShot[bytes] = OneShot()
        self._lost: OneShot[None] = OneShot()
        self._feeder = Feeder(self)
        self._paused = False
        self._held = False
        # Whether the delivery that runs has written anything, and what can send it.
        self._wrote = False
        self._descriptor: Any = None
        # Whether QUIT has ended the session.
        self._left = False
        self._socket: socket | None = None

    # -- facts

    @property
    def state(self) -> State:
        """The state of the session (RFC 1939 section 3)."""
        return self._dialogue.state

    @property
    def tls(self) -> TLSInfo | None:
        """The TLS that protects the connection; ``None`` without TLS."""
        return self.protection.info

    @property
    def ended(self) -> POP3Error | None:
        """Why the session has ended; ``None``: it has not."""
        return self._end

    # -- the loop

    def rawDataReceived(self, data: bytes) -> None:
        """Read a chunk, write what that allows, then deliver what happened."""
        dialogue = self._dialogue
        idle = not dialogue.events
        dialogue.receive(data)
        if dialogue.broken is not None and self._end is None:
            # From now on nothing succeeds but what was read before it.
            self._end = self._failures.broken(dialogue.broken, dialogue.unanswered)
        if self._socket is not None and len(data) < _FULL and dialogue.owes:
            acknowledge(self._socket)
        if dialogue.progress:
            dialogue.progress = False
            self._deadline.progress()
        if dialogue.answered:
            dialogue.answered = False
            if not self._send(idle) and not dialogue.owes:
                # The callers of the replies may well send the next command.
                self._deadline.rest()
        if idle:
            self._wrote = False
            self._deliver()
            if self._wrote and self._descriptor is not None and not dialogue.closed:
                # All that was written in this delivery, in one piece.
                send_now(self._descriptor)

    def _send(self, idle: bool) -> bool:
        """Write what there is to send, and return whether there was anything."""
        data = self._dialogue.data_to_send()
        if not data:
            return False
        if self.state is _AUTHORIZATION:
            # If a transport raises, its traceback may show local variables.
            data = SecretBytes(data)
        if idle:
            # As the first event: a transport may raise, or report its loss from within,
            # and then what was read and not delivered fails.
            self._dialogue.call_first(partial(self._write, data))
        else:
            self._write(data)
        return True

    def _write(self, data: bytes) -> None:
        assert self.transport is not None
        if not self._deadline.running:
            self._deadline.start("reply", self.settings.timeout)
        self.transport.write(data)
        self._wrote = True

    def _deliver(self) -> None:
        """
        Hand on what has happened, one event after another.

        Each stays the first until it was handed on.  So `events` is not empty while
        this runs, and a call from application code sees that, appends and returns.
        """
        events = self._dialogue.events
        done = events.popleft
        try:
            while events:
                kind, exchange, value = events[0]
                if kind is _ANSWERED:
                    exchange.succeed(value)
                else:
                    self._handlers[kind](self, exchange, value)
                done()
        except BaseException as error:
            # Of the transport, or SystemExit.  Every caller still gets an outcome.
            try:
                self.break_off(
                    self._failures.ended("an exception ended the session", error)
                )
            finally:
                done()
                self._deliver()
            raise
        if self._deadline.resting:
            self._deadline.stop()

    def after_delivery(self, call: Callable[[], object]) -> None:
        """Call this in the loop, when all that has happened so far was delivered."""
        dialogue = self._dialogue
        idle = not dialogue.events
        dialogue.call_later(call)
        if idle:
            self._deliver()

    # -- what may happen

    def _happened_streamed(self, exchange: Exchange, body: bytes) -> None:
        feeder = self._feeder
        failure = None if exchange.dropped else feeder.begin(exchange)
        if failure is None and body and not self._dialogue.closed:
            failure = feeder.write(exchange, body)
        if failure is not None:
            self._sink_failed(exchange, failure)
        self._happened_ended(exchange, len(body))

    def _happened_begun(self, exchange: Exchange, _: None) -> None:
        failure = None if exchange.dropped else self._feeder.begin(exchange)
        if failure is not None:
            self._sink_failed(exchange, failure)

    def _happened_piece(self, exchange: Exchange, piece: bytes) -> None:
        failure = self._feeder.write(exchange, piece)
        if failure is not None:
            self._sink_failed(exchange, failure)

    def _happened_ended(self, exchange: Exchange, octets: int) -> None:
        failure = None
        if not self._dialogue.closed:
            failure = self._feeder.end(exchange, octets)
        if failure is not None:
            exchange.fail(failure)
        elif self._dialogue.closed and self._end is not None:
            # The consumer has ended the session, and then nothing succeeds.
            self._happened_failed(exchange, self._end)
        else:
            exchange.succeed(octets)

    def _happened_refused(self, exchange: Exchange, line: bytes) -> None:
        error = self._failures.refused(CommandError, exchange.command, line)
        exchange.refused(error)
        exchange.fail(error)

    def _happened_unreadable(self, exchange: Exchange, bad: BadReplyError) -> None:
        exchange.fail(self._failures.unreadable(exchange.command, bad))

    def _happened_failed(self, exchange: Exchange, error: POP3Error) -> None:
        self._feeder.let_go(exchange)
        command = exchange.command
        exchange.fail(error.about(command.verb, message_number(command)))

    def _happened_greeted(self, _: None, line: bytes) -> None:
        status = parse_status(line)
        if status is not None and status.ok:
            self._greeted.fire(status.text)
        else:
            self.break_off(self._failures.refused(LoginError, None, line))

    def _happened_start_tls(self, *_: object) -> None:
        self._start_tls()

    def _happened_broken(self, *_: object) -> None:
        assert self._end is not None
        self.break_off(self._end)

    def _happened_sent(self, exchange: Exchange, _: None) -> None:
        if self.transcript.listening:
            self.transcript.client(exchange.command.shown())
        if self._reporter is not None:
            self._reporter.sent(exchange.command)

    def _happened_line(self, exchange: Exchange | None, line: bytes) -> None:
        challenge = (
            exchange is not None
            and exchange.command.shape is Shape.CHALLENGE
            and line[:1] == b"+"
            and parse_status(line) is None
        )
        if challenge:
            self.transcript.challenge()
        else:
            self.transcript.server(line)
        if self._reporter is not None:
            command = None if exchange is None else exchange.command
            self._reporter.line(command, line)

    def _happened_body(self, exchange: Exchange, octets: int) -> None:
        self.transcript.body(octets)
        if self._reporter is not None:
            self._reporter.body(exchange.command, octets)

    def _happened_blank(self, *_: object) -> None:
        log.warn(
            "{server}: a blank line between two replies is ignored",
            server=str(self.settings.server),
        )

    def _happened_call(self, _: None, call: Callable[[], object]) -> None:
        call()

    _handlers: ClassVar[dict[Kind, Callable[..., None]]] = {
        Kind.STREAMED: _happened_streamed,
        Kind.BEGUN: _happened_begun,
        Kind.PIECE: _happened_piece,
        Kind.ENDED: _happened_ended,
        Kind.REFUSED: _happened_refused,
        Kind.UNREADABLE: _happened_unreadable,
        Kind.FAILED: _happened_failed,
        Kind.GREETED: _happened_greeted,
        Kind.START_TLS: _happened_start_tls,
        Kind.BROKEN: _happened_broken,
        Kind.SENT: _happened_sent,
        Kind.LINE: _happened_line,
        Kind.BODY: _happened_body,
        Kind.BLANK: _happened_blank,
        Kind.CALL: _happened_call,
    }

    def _sink_failed(self, exchange: Exchange, failure: Failure) -> None:
        """
        Pass the exception of a consumer to the caller.

        If the message is still in transfer, the session ends unless the exchange is
        expendable: the rest would have to be read.
        """
        reply = exchange.reply
        in_transfer = self._dialogue.in_transfer(exchange)
        self.forget(exchange)
        if in_transfer and not exchange.expendable:
            self.break_off(
                self._failures.ended(
                    "the consumer of a message failed, which ends the session",
                    failure.value,
                )
            )
        reply.errback(failure)

    # -- commands

    def submit(
        self,
        command: Command[T],
        sink: Sink | None = None,
        noted: Callable[[T], object] | None = None,
        refused: Callable[[POP3Error], object] = nobody,
        silent: tuple[type[POP3Error], ...] = (),
        owner: object = None,
    ) -> Deferred[T]:
        """
        Send a command when its turn comes.

        :param sink: where a body goes, if not into the result.
        :param noted: takes the result too, even if the Deferred was cancelled.
        :param refused: takes the error of ``-ERR`` in the same way.
        :param silent: kinds of errors that are not reported if nothing is ever attached
            to the Deferred.
        :param owner: is kept alive until there is a reply.
        :return: fires with the parsed reply.
        """
        exchange = _Cancellable(command, NOBODY, sink, noted, refused)
        exchange.protocol = self
        exchange.owner = owner
        reply: Deferred[T]
        reply = UnawaitedDeferred(silent, exchange) if silent else Deferred(exchange)
        exchange.reply = reply
        try:
            self.enqueue(command.verb, [exchange])
        except POP3Error as error:
            exchange.fail(error)
        return reply

    def enqueue(self, verb: str, exchanges: Collection[Exchange]) -> None:
        """
        Send exchanges, whose commands all have this verb, when their turn comes.

        :raises POP3Error: the session has ended, or its state does not allow the
            command; then none of them will be sent, and the error is about the first.
        """
        if self._end is not None:
            raise self._end.about(verb, _first_number(exchanges))
        dialogue = self._dialogue
        idle = not dialogue.events
        try:
            dialogue.enqueue(verb, exchanges)
        except UsageError as error:
            error.server = str(self.settings.server)
            error.number = _first_number(exchanges)
            raise
        if self._held:
            self.release()
        self._send(idle)
        if idle and dialogue.events:
            self._deliver()

    def cancel(self, exchange: Exchange) -> None:
        """Leave a defined state behind when a reply is not wanted any more."""
        in_transfer = self._dialogue.in_transfer(exchange)
        self.forget(exchange)
        if in_transfer:
            self.end(
                f"{exchange.command.verb} was cancelled in the middle of a "
                "message, which ends the session"
            )

    def forget(self, *exchanges: Exchange) -> None:
        """Tell no caller about replies, and keep nothing of them; they are read."""
        for exchange in exchanges:
            self._dialogue.drop(exchange)
        # All are dropped by now: a consumer that is left may do anything.
        for exchange in exchanges:
            self._feeder.let_go(exchange)

    def allow_pipelining(self, offered: bool) -> None:
        """
        Send commands while others are unanswered, or one at a time from now on.

        :param offered: whether the server offers it (RFC 2449 section 6.6).
        """
        self._dialogue.allow_pipelining(offered and self.settings.pipeline)
        # What waited for a window of more than one command.
        self._send(idle=False)

    def logged_in(self) -> None:
        """Enter the state TRANSACTION: the server has accepted the login."""
        self._dialogue.logged_in()

    def owes_only(self, count: int) -> bool:
        """Return whether no more than ``count`` commands are sent or waiting."""
        return self._dialogue.outstanding == count

    # -- TLS and the greeting

    def connectionMade(self) -> None:
        """Wait for the greeting, behind TLS if that comes first."""
        self._socket = tcp_socket(self.transport)
        self._descriptor = descriptor(self.transport)
        if self._reporter is not None:
            peer = self.transport.getPeer()  # type: ignore[union-attr]
            self.after_delivery(partial(self._reporter.connected, peer))
            if self._end is not None:
                return
        if self.settings.tls_at_once:
            self._start_tls()
        else:
            self._deadline.start("greeting", self.settings.timeout)

    def _start_tls(self) -> None:
        # The records that come behind each other are handed on one by one, and small
        # ones are kept until the next turn.
        self._socket = None
        self._descriptor = None
        self._deadline.start("TLS handshake", self.settings.connect_timeout)
        try:
            self.protection.start(self.transport, self.settings)
        except TLSError as error:
            self.break_off(error)

    def handshakeCompleted(self) -> None:
        """Continue over TLS if the server's identity was verified."""
        if self._end is not None:
            return
        try:
            tls = self.protection.complete()
        except TLSError as error:
            self.break_off(error)
            return
        self._deadline.stop()
        if self.settings.tls_at_once:
            self._deadline.start("greeting", self.settings.timeout)
        verified = "verified" if tls.verified else "NOT verified"
        if tls.verified_by == "pin":
            verified += " by its pin"
        told = f"{tls.version}, {tls.cipher}, the server's certificate is {verified}"
        dialogue = self._dialogue
        idle = not dialogue.events
        dialogue.call_later(partial(self.transcript.tls, told))
        if self._reporter is not None:
            dialogue.call_later(partial(self._reporter.secured, tls))
        dialogue.started_tls()
        if idle:
            self._deliver()

    def when_greeted(self) -> Deferred[bytes]:
        """
        Wait for the greeting (RFC 1939 section 4).

        :return: fires with its text; fails with what ended the session before.
        """
        return self._greeted.when_fired()

    # -- the end

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Fail all that is pending, with the reason."""
        if not self._dialogue.closed:
            self._finish(self._end or self._loss(reason.value))
        self.after_delivery(self._gone)

    def _gone(self) -> None:
        if self._reporter is not None:
            self._reporter.closed(None if self._left else self._end)
        self._lost.fire(None)

    def _loss(self, reason: BaseException | None) -> POP3Error:
        shaking_hands = (
            self._deadline.running and self._deadline.phase == "TLS handshake"
        )
        if shaking_hands or self.state in (State.GREETING, State.AUTHORIZATION):
            # With TLS 1.3 a server refuses our certificate after the handshake.
            failed = self.protection.failure(reason)
            if failed is not None:
                return failed
        return self._failures.lost(
            self.state,
            reason,
            shaking_hands=shaking_hands,
            verb=self._dialogue.verb,
        )

    def end(self, how: str) -> None:
        """End the connection now; ``how`` says why."""
        self.break_off(self._failures.ended(how))

    def break_off(self, error: POP3Error) -> None:
        """End the connection now, with this error."""
        if self._dialogue.closed:
            return
        self._end = error
        self._abort_transport()
        # Some transports report the loss from within.
        if not self._dialogue.closed:
            self._finish(error)

    def _abort_transport(self) -> None:
        if not self._lost.fired and self.transport is not None:
            abort = getattr(self.transport, "abortConnection", None)
            (abort or self.transport.loseConnection)()

    def _finish(self, error: POP3Error) -> None:
        """Change the state first, and then fail every pending command."""
        dialogue = self._dialogue
        idle = not dialogue.events
        self._end = error
        self._deadline.stop()
        dialogue.close(error)
        dialogue.call_later(partial(self._greeted.fire, Failure(error)))
        if idle:
            self._deliver()

    def when_closed(self) -> Deferred[None]:
        """Return a Deferred that fires when the connection is gone."""
        return self._lost.when_fired()

    def close(self) -> Deferred[None]:
        """
        End the connection in an orderly way; QUIT has been answered.

        :return: fires when it is gone, after `CLOSE_SECONDS` by force.
        """
        if not self._dialogue.closed:
            self._left = True
            self._finish(
                self._failures.ended("the session has been ended by disconnect()")
            )
        if not self._lost.fired and self.transport is not None:
            self.transport.loseConnection()
            force = self.settings.clock.callLater(CLOSE_SECONDS, self._abort_transport)
            self.when_closed().addCallback(_stop, force)
        return self.when_closed()

    def _too_late(self, phase: str, seconds: float) -> None:
        dialogue = self._dialogue
        self.break_off(
            self._failures.timed_out(
                phase,
                seconds,
                rest=dialogue.rest,
                unanswered=dialogue.unanswered,
                plain=self.tls is None,
                verb=dialogue.verb,
            )
        )

    # -- flow

    def pause_body(self) -> None:
        """Stop reading: the consumer has enough for now."""
        if self._end is None and not self._paused:
            self._paused = True
            # It is not the server that causes the delay now.
            self._deadline.pause()
            self.transport.pauseProducing()  # type: ignore[union-attr]

    def resume_body(self) -> None:
        """Read on."""
        if self._paused:
            self._paused = False
            if self._end is None:
                self._deadline.resume()
                self.transport.resumeProducing()  # type: ignore[union-attr]

    def abandon_body(self) -> None:
        """End the session, unless the rest of the body may be read and dropped."""
        if self._feeder.expendable:
            self.resume_body()
        else:
            self.end("the consumer of a message stopped, which ends the session")

    def hold(self) -> None:
        """Read no more until `release`, or until a command is submitted."""
        if not self._held:
            self._held = True
            self.pause_body()

    def release(self) -> None:
        """Read on after `hold`."""
        if self._held:
            self._held = False
            self.resume_body()


def _stop(_: object, timer: IDelayedCall) -> None:
    if timer.active():
        timer.cancel()


def _first_number(exchanges: Collection[Exchange]) -> int | None:
    return next((message_number(each.command) for each in exchanges), None)
