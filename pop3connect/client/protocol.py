"""
The Twisted side of one session: the transport, TLS, the time limits, the delivery.

What is said on it is in `sansio.dialogue`, which reads bytes and appends events.  Here
is the one loop that hands the events on.  All application code (Deferreds, consumers,
the status procedure) runs in that loop: a call from there appends and returns, so the
order on the wire, in the queue and in the transcript is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import attrs
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHandshakeListener,
    IReactorTime,
    ITLSTransport,
)
from twisted.internet.protocol import Factory, connectionDone
from twisted.logger import Logger
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from ..address import ServerAddress
from ..errors import (
    CommandError,
    ConnectionLostError,
    LoginError,
    POP3Error,
    ProtocolError,
    TimedOutError,
    TLSError,
    UsageError,
)
from ..redaction import StatusProcedure, Transcript
from ..sansio.commands import Command, Quit, Shape
from ..sansio.dialogue import Dialogue
from ..sansio.events import Broken, Kind
from ..sansio.exchange import Exchange, Sink
from ..sansio.readers import MAX_LISTING
from ..sansio.replies import CODES, TLS_RECORD, BadReplyError, parse_status
from ..sansio.states import State
from .deadline import Deadline
from .observer import OneShot

if TYPE_CHECKING:
    # A plain session needs no OpenSSL, nor the time to import it.
    from ..results import TLSInfo
    from ..tls.context import ClientContext, ConnectionCreator

__all__ = ["POP3ClientFactory", "POP3ClientProtocol", "Settings"]

log = Logger()

T = TypeVar("T")

# Looking a member up in its class costs more than the rest of an event.
_ANSWERED = Kind.ANSWERED

CLOSE_SECONDS = 5.0
"""Seconds for the end of a connection in an orderly way, and for a QUIT on whose reply
nothing depends."""


@attrs.frozen
class Settings:
    """
    How a connection is made, and how long everything may take.

    :ivar context: makes TLS connections; ``None``: the session stays plain.
    :ivar tls_at_once: whether TLS comes before the greeting.
    :ivar timeout: seconds for the greeting and for each reply.
    :ivar connect_timeout: seconds for connecting, and again for the TLS handshake.
    :ivar max_message_size: bytes; ``None``: no limit.
    :ivar max_listing: rows of LIST and UIDL.
    """

    server: ServerAddress
    clock: IReactorTime
    status_procedure: StatusProcedure | None = None
    context: ClientContext | None = None
    tls_at_once: bool = False
    timeout: float = 60.0
    connect_timeout: float = 30.0
    max_message_size: int | None = None
    max_listing: int = MAX_LISTING
    pipeline: bool = True


@implementer(IHandshakeListener)
class POP3ClientProtocol(LineReceiver):
    """
    The client's side of POP3 on one connection.

    :ivar tls: what protects the connection, or ``None``.
    """

    # No line is read by LineReceiver: the dialogue finds them, between the bodies.
    line_mode = 0

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.transcript = Transcript(settings.status_procedure, log)
        self.tls: TLSInfo | None = None
        self._dialogue = Dialogue(
            max_message_size=settings.max_message_size,
            max_listing=settings.max_listing,
            listening=self.transcript.listening,
        )
        self._deadline = Deadline(settings.clock, self._too_late)
        self._creator: ConnectionCreator | None = None
        # Why the session has ended, or must.
        self._end: POP3Error | None = None
        self._greeted: OneShot[bytes] = OneShot()
        self._lost: OneShot[None] = OneShot()
        # The one whose sink was told that its body begins, and not yet that it ended.
        self._streaming: Exchange | None = None
        self._paused = False
        self._held = False

    # -- what is known

    @property
    def state(self) -> State:
        """The state of the session (RFC 1939 section 3)."""
        return self._dialogue.state

    @property
    def pipelining(self) -> bool:
        """Whether several commands may be unanswered at once."""
        return self._dialogue.pipelining

    # -- the loop

    def rawDataReceived(self, data: bytes) -> None:
        """Read a chunk, write what that allows, then deliver what happened."""
        dialogue = self._dialogue
        delivering = bool(dialogue.events)
        dialogue.receive(data)
        if dialogue.broken is not None and self._end is None:
            # From now on nothing succeeds but what was read before it.
            self._end = self._error_of(dialogue.broken)
        self._send()
        if dialogue.progress:
            dialogue.progress = False
            if dialogue.owes:
                self._deadline.progress()
            else:
                self._deadline.stop()
        if not delivering:
            self._deliver()

    def _send(self) -> None:
        data = self._dialogue.data_to_send()
        if data:
            assert self.transport is not None
            if not self._deadline.running:
                self._deadline.start("reply", self.settings.timeout)
                if self._paused:
                    self._deadline.pause()
            self.transport.write(data)

    def _deliver(self) -> None:
        """
        Hand on what has happened, one event after another.

        Each stays the first until it was handed on.  So `events` is not empty while
        this runs, and a call from application code sees that, appends and returns.
        """
        events = self._dialogue.events
        while events:
            kind, exchange, value = events[0]
            try:
                if kind is _ANSWERED:
                    if exchange.noted is not None:
                        exchange.noted(value)
                    exchange.succeed(value)
                else:
                    self._handlers[kind](self, exchange, value)
            finally:
                events.popleft()

    def _append(self, call: Callable[[], object]) -> None:
        """Have this called in the loop, behind all that has happened already."""
        dialogue = self._dialogue
        delivering = bool(dialogue.events)
        dialogue.call_later(call)
        if not delivering:
            self._deliver()

    def after_delivery(self, call: Callable[[], object]) -> None:
        """Call this when all that has come so far was delivered."""
        self._append(call)

    # -- what may happen

    def _happened_streamed(self, exchange: Exchange, body: bytes) -> None:
        self._happened_begun(exchange, None)
        if body:
            self._happened_piece(exchange, body)
        self._happened_ended(exchange, len(body))

    def _happened_begun(self, exchange: Exchange, _: None) -> None:
        if exchange.sink is None or exchange.dropped:
            return
        self._streaming = exchange
        try:
            exchange.sink.begin(self)
        except Exception:  # noqa: BLE001 - a consumer's own
            self._sink_failed(exchange)

    def _happened_piece(self, exchange: Exchange, piece: bytes) -> None:
        if self._streaming is not exchange or self._end is not None:
            return
        try:
            exchange.sink.write(piece)  # type: ignore[union-attr]
        except Exception:  # noqa: BLE001 - a consumer's own
            self._sink_failed(exchange)

    def _happened_ended(self, exchange: Exchange, octets: int) -> None:
        if self._streaming is not exchange:
            return
        if self._end is None:
            self._streaming = None
            try:
                exchange.sink.end(octets)  # type: ignore[union-attr]
            except Exception:  # noqa: BLE001 - a consumer's own; and all has come
                exchange.fail(Failure())  # type: ignore[arg-type]
                return
        # The consumer may have ended the session, and then nothing succeeds.
        if self._end is None:
            exchange.succeed(octets)
        else:
            self._happened_failed(exchange, self._end)

    def _happened_refused(self, exchange: Exchange, line: bytes) -> None:
        exchange.fail(self._refusal(exchange.command, line, CommandError))

    def _happened_unreadable(self, exchange: Exchange, bad: BadReplyError) -> None:
        exchange.fail(
            ProtocolError(
                f"the reply cannot be read: {bad.shown(self.transcript.clean)}",
                server=str(self.settings.server),
                verb=exchange.command.verb,
            )
        )

    def _happened_failed(self, exchange: Exchange, error: POP3Error) -> None:
        self._let_go(exchange)
        exchange.fail(error.about(exchange.command.verb))

    def _happened_greeted(self, _: None, line: bytes) -> None:
        status = parse_status(line)
        if status is not None and status.ok:
            self._greeted.fire(status.text)
        else:
            self.break_off(self._refusal(None, line, LoginError))

    def _happened_start_tls(self, *_: object) -> None:
        self._start_tls()

    def _happened_broken(self, *_: object) -> None:
        assert self._end is not None
        self.break_off(self._end)

    def _happened_sent(self, exchange: Exchange, _: None) -> None:
        self.transcript.client(exchange.command.shown())

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

    def _happened_body(self, _: Exchange, octets: int) -> None:
        self.transcript.body(octets)

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

    def _sink_failed(self, exchange: Exchange) -> None:
        """
        Give the exception of a consumer to the caller.

        The session ends, for the rest of the message would have to be read; unless all
        of it has come.
        """
        failure = Failure()
        failed = exchange.fail
        in_transfer = self._dialogue.in_transfer(exchange)
        self._let_go(exchange)
        self._dialogue.drop(exchange)
        if in_transfer:
            ended = ConnectionLostError(
                "the consumer of a message failed, which ends the session",
                server=str(self.settings.server),
            )
            ended.__cause__ = failure.value
            self.break_off(ended)
        failed(failure)  # type: ignore[arg-type]

    def _let_go(self, exchange: Exchange) -> None:
        """Tell the sink of a message that the rest of it will not come."""
        if self._streaming is not exchange:
            return
        self._streaming = None
        try:
            exchange.sink.lost()  # type: ignore[union-attr]
        except Exception:  # noqa: BLE001 - a consumer's own; its caller gets the error
            log.failure("a consumer failed to let go")

    # -- commands

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
        :return: fires with the parsed reply.
        """
        exchange = Exchange(command, sink=sink, noted=noted)
        reply: Deferred[T] = Deferred(partial(self._cancel, exchange))
        exchange.succeed = reply.callback
        exchange.fail = reply.errback
        try:
            self.enqueue(command.verb, [exchange])
        except POP3Error as error:
            return fail(error)
        return reply

    def enqueue(self, verb: str, exchanges: Collection[Exchange]) -> None:
        """
        Send exchanges, whose commands all have this verb, when their turn comes.

        :raises POP3Error: the session has ended, or its state does not allow the
            command; then none of them will be sent.
        """
        if self._end is not None:
            raise self._end.about(verb)
        dialogue = self._dialogue
        delivering = bool(dialogue.events)
        try:
            dialogue.enqueue(verb, exchanges)
        except UsageError as error:
            error.server = str(self.settings.server)
            raise
        self.release()
        self._send()
        if not delivering:
            self._deliver()

    def _cancel(self, exchange: Exchange, _: object) -> None:
        """Leave a defined state behind when a reply is not wanted any more."""
        in_transfer = self._dialogue.in_transfer(exchange)
        self.forget(exchange)
        if in_transfer:
            self.break_off(
                ConnectionLostError(
                    f"{exchange.command.verb} was cancelled in the middle of a "
                    "message, which ends the session",
                    server=str(self.settings.server),
                )
            )

    def forget(self, exchange: Exchange) -> None:
        """Let nobody hear of a reply, and keep nothing of it; it is still read."""
        self._let_go(exchange)
        self._dialogue.drop(exchange)

    def allow_pipelining(self) -> None:
        """Send commands while others are unanswered (RFC 2449 section 6.6)."""
        self._dialogue.allow_pipelining()

    def logged_in(self) -> None:
        """Enter the state TRANSACTION: the server has accepted the login."""
        self._dialogue.logged_in()

    def owes_only(self, count: int) -> bool:
        """Return whether this is all that is sent or waiting: so many commands."""
        return self._dialogue.outstanding == count

    # -- TLS and the greeting

    def connectionMade(self) -> None:
        """Wait for the greeting, behind TLS if that comes first."""
        if self.settings.tls_at_once:
            self._start_tls()
        else:
            self._deadline.start("greeting", self.settings.timeout)

    def _start_tls(self) -> None:
        assert self.settings.context is not None
        self._deadline.start("TLS handshake", self.settings.connect_timeout)
        self._creator = self.settings.context.creator(self.settings.server)
        try:
            ITLSTransport(self.transport).startTLS(self._creator)
        except Exception as error:  # noqa: BLE001 - whatever a transport cannot do
            failed = TLSError(
                f"TLS could not be started: {type(error).__name__}: {error}",
                server=str(self.settings.server),
            )
            failed.__cause__ = error
            self.break_off(failed)

    def handshakeCompleted(self) -> None:
        """Continue over TLS if the server's identity was verified."""
        assert self._creator is not None
        if self._end is not None:
            return
        try:
            self.tls = tls = self._creator.finish()
        except TLSError as error:
            self.break_off(error)
            return
        self._deadline.stop()
        if self.settings.tls_at_once:
            self._deadline.start("greeting", self.settings.timeout)
        verified = "verified" if tls.verified else "NOT verified"
        dialogue = self._dialogue
        delivering = bool(dialogue.events)
        dialogue.call_later(
            partial(
                self.transcript.tls,
                f"{tls.version}, {tls.cipher}, the server's certificate is {verified}",
            )
        )
        dialogue.started_tls()
        if not delivering:
            self._deliver()

    def when_greeted(self) -> Deferred[bytes]:
        """
        Wait for the greeting (RFC 1939 section 4).

        :return: fires with its text; fails with what ended the session before.
        """
        return self._greeted.when_fired()

    def channel_bindings(self) -> tuple[tuple[str, bytes], ...]:
        """Return what a login can be bound to, the best first; none without TLS."""
        if self.tls is None or self._creator is None:
            return ()
        return self._creator.channel_bindings()

    def resumed_in_vain(self) -> bool:
        """Say whether it can have been the resumed session that TLS failed for."""
        creator = self._creator
        return self.tls is None and creator is not None and creator.resumed_in_vain()

    def remember_tls(self) -> None:
        """Let the next connection to this server resume the TLS session."""
        if self.tls is not None and self._creator is not None:
            self._creator.remember()

    # -- the end

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Fail all that is pending, with the reason."""
        if not self._dialogue.closed:
            self._finish(self._end or self._loss(reason.value))
        self._append(partial(self._lost.fire, None))

    def _loss(self, reason: BaseException | None) -> POP3Error:
        shaking_hands = (
            self._deadline.running and self._deadline.phase == "TLS handshake"
        )
        if self._creator is not None and (
            shaking_hands or self.state in (State.GREETING, State.AUTHORIZATION)
        ):
            # With TLS 1.3 a server refuses our certificate after the handshake.
            failed = self._creator.failure(reason)
            if failed is not None:
                return failed
        during = {
            State.GREETING: " before the greeting",
            State.AUTHORIZATION: " during the login",
            State.UPDATE: " before QUIT was answered",
        }.get(self.state, "")
        if shaking_hands:
            during = " during the TLS handshake"
        lost = ConnectionLostError(
            f"the connection was lost{during}: {reason}",
            server=str(self.settings.server),
        )
        lost.__cause__ = reason
        return lost

    def break_off(self, error: POP3Error) -> None:
        """End the connection now, for this reason."""
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
        delivering = bool(dialogue.events)
        self._end = error
        self._deadline.stop()
        dialogue.close(error)
        dialogue.call_later(partial(self._greeted.fire, Failure(error)))
        if not delivering:
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
            self._finish(
                ConnectionLostError(
                    "the session has been ended by disconnect()",
                    server=str(self.settings.server),
                )
            )
        if not self._lost.fired and self.transport is not None:
            self.transport.loseConnection()
            force = self.settings.clock.callLater(CLOSE_SECONDS, self._abort_transport)
            self.when_closed().addCallback(_stop, force)
        return self.when_closed()

    async def leave(self) -> None:
        """Send QUIT, ignore the reply, and close."""
        if self._end is None:
            reply = self.submit(Quit())
            patience = self.settings.clock.callLater(CLOSE_SECONDS, reply.cancel)
            try:
                await reply
            except (POP3Error, CancelledError):
                pass
            finally:
                if patience.active():
                    patience.cancel()
        await self.close()

    async def abandon(self) -> None:
        """Close at once."""
        self.break_off(
            ConnectionLostError(
                "the session was given up", server=str(self.settings.server)
            )
        )
        await self.when_closed()

    # -- what goes wrong

    def _error_of(self, broken: Broken) -> ProtocolError:
        """Return the error for what ends the session."""
        if broken.protocol is not None:
            hint = ""
            if broken.protocol == TLS_RECORD:
                hint = "; use secure=1 for a port with TLS at once"
            message = (
                f"this is not a POP3 server: it looks like {broken.protocol}{hint}"
            )
        elif broken.text is None:
            message = f"the server sent {broken.problem}"
        else:
            message = (
                f"the server sent {broken.problem}: "
                f"{self.transcript.clean(broken.text)!r}{self._suspicion()}"
            )
        return ProtocolError(
            message, server=str(self.settings.server), verb=broken.verb
        )

    def _suspicion(self) -> str:
        """Return what may be behind a reply that is missing or out of step."""
        unanswered = self._dialogue.unanswered
        # Announced and broken: there are such servers.
        if unanswered > 1:
            return (
                f"; {unanswered} commands were unanswered at once: if the server's "
                "pipelining is broken, use pipeline=False"
            )
        return ""

    def _too_late(self, phase: str, seconds: float) -> None:
        hint = self._suspicion()
        if phase == "greeting" and self.tls is None:
            hint = "; if the server expects TLS at once there, use secure=1"
        rest = self._dialogue.rest
        if b"\n" in rest and b"\r\n" not in rest:
            hint = "; it has sent a line that ends in LF alone, and POP3 has CR LF"
        self.break_off(
            TimedOutError(
                f"the server took too long: no {phase} within {seconds:g} seconds"
                + hint,
                phase=phase,
                seconds=seconds,
                server=str(self.settings.server),
                verb=self._dialogue.verb,
            )
        )

    def _refusal(
        self, command: Command[Any] | None, line: bytes, kind: type[CommandError]
    ) -> CommandError:
        status = parse_status(line)
        assert status is not None
        if status.code not in (None, *CODES):
            # A code of the server's own, which may repeat a secret as any text may.
            status = parse_status(self.transcript.mask(line)) or status
        text = self.transcript.clean(status.text)
        code = f"[{status.code}] " if status.code else ""
        what = "the server refused" if command else "the server refused the session"
        return kind(
            f"{what}: " + ((code + text).strip() or "it gave no reason"),
            text=text,
            code=status.code,
            server=str(self.settings.server),
            verb=command.verb if command else None,
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
        """End the session: the rest of the message would have to be read."""
        self.break_off(
            ConnectionLostError(
                "the consumer of a message stopped, which ends the session",
                server=str(self.settings.server),
            )
        )

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
