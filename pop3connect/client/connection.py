"""
The life of one connection: TLS, the greeting, time limits, how it ends.

What is said on it in between is the business of `protocol`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import (
    IDelayedCall,
    IHandshakeListener,
    IReactorTime,
    ITLSTransport,
)
from twisted.internet.protocol import connectionDone
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
)
from ..redaction import StatusProcedure, Transcript
from ..sansio.commands import Command
from ..sansio.replies import TLS_RECORD, Status, looks_like, parse_status
from ..sansio.states import ALLOWED, State
from .deadline import Limit

if TYPE_CHECKING:
    # A plain session needs no OpenSSL, nor the time to import it.
    from ..results import TLSInfo
    from ..tls.context import ClientContext, ConnectionCreator

__all__ = ["Connection", "Settings"]

log = Logger()

MAX_STATUS_LINE = 16384
"""
Octets of a status line.  RFC 2449 allows 512, and servers pass it; a SASL challenge
comes on such a line too and may have 12,288 (RFC 4954 section 4, its model).
"""

CLOSE_SECONDS = 5.0
"""How long the other side may take to close after QUIT; the work is done by then."""


@attrs.frozen
class Settings:
    """
    What a session is to be like.

    :ivar context: makes TLS connections; ``None``: the session stays plain.
    :ivar tls_at_once: whether TLS comes before the greeting.
    :ivar timeout: seconds for the greeting and for each reply.
    :ivar connect_timeout: seconds for connecting, and again for the TLS handshake.
    :ivar max_message_size: octets; ``None``: no limit.
    """

    server: ServerAddress
    clock: IReactorTime
    status_procedure: StatusProcedure | None = None
    context: ClientContext | None = None
    tls_at_once: bool = False
    timeout: float = 60.0
    connect_timeout: float = 30.0
    max_message_size: int | None = None
    pipeline: bool = True


@implementer(IHandshakeListener)
class Connection(LineReceiver):
    """
    A connection to a POP3 server, from its beginning to its end.

    :ivar state: the state of the session.
    :ivar tls: what protects the connection, or ``None``.
    """

    MAX_LENGTH = MAX_STATUS_LINE

    __slots__ = (
        "_closed",
        "_creator",
        "_end",
        "_gone",
        "_greeted",
        "_greeting",
        "_limit",
        "_paused",
        "allowed",
        "settings",
        "state",
        "tls",
        "transcript",
    )

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.enter(State.GREETING)
        self.tls: TLSInfo | None = None
        self.transcript = Transcript(settings.status_procedure, log)
        self._greeting: bytes | None = None
        self._greeted: Deferred[bytes] | None = None
        self._creator: ConnectionCreator | None = None
        self._limit = Limit(settings.clock, self._too_late)
        self._paused = False
        self._end: POP3Error | None = None
        self._gone = False
        self._closed: list[Deferred[None]] = []

    def enter(self, state: State) -> None:
        """Go on to the next state of the session."""
        self.state = state
        #: The verbs that this state allows.
        self.allowed = ALLOWED[state]

    def channel_bindings(self) -> tuple[tuple[str, bytes], ...]:
        """Return what a login can be bound to, the best first; none without TLS."""
        if self.tls is None or self._creator is None:
            return ()
        return self._creator.channel_bindings()

    def known_binding(self) -> str | None:
        """Return the type of channel binding that worked with this server before."""
        return None if self._creator is None else self._creator.known_binding()

    def bound_by(self, kind: str | None) -> None:
        """Remember which type of channel binding works; ``None``: it was refused."""
        if self._creator is not None:
            self._creator.bound_by(kind)

    def keep_no_tls_session(self) -> None:
        """Let no later connection to this server resume a TLS session."""
        if self._creator is not None:
            self._creator.keep_no_session()

    def resumed_in_vain(self) -> bool:
        """Say whether it can have been the resumed session that TLS failed for."""
        creator = self._creator
        return self.tls is None and creator is not None and creator.resumed_in_vain()

    def remember_tls(self) -> None:
        """Let the next connection to this server resume the TLS session."""
        if self.tls is not None and self._creator is not None:
            self._creator.remember()

    # -- for who says something on it

    def _tls_started(self) -> None:
        """Go on: TLS has been started on a session that was plain."""
        raise NotImplementedError

    def _fail_pending(self, error: POP3Error) -> None:
        """Tell everybody who waits for an answer that none will come."""
        raise NotImplementedError

    def _verb(self) -> str | None:
        """Return the verb of the command whose answer is owed."""
        raise NotImplementedError

    def _suspicion(self) -> str:
        """Return what may be behind an answer that is missing or out of step."""
        raise NotImplementedError

    # -- its beginning

    def connectionMade(self) -> None:
        """Wait for the greeting, behind TLS if that comes first."""
        if self.settings.tls_at_once:
            self._start_tls()
        else:
            self._limit.start("greeting", self.settings.timeout)

    def _start_tls(self) -> None:
        assert self.settings.context is not None
        self._limit.start("TLS handshake", self.settings.connect_timeout)
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
        """Go on inside TLS, if it has proven what it had to."""
        assert self._creator is not None
        if self.state is State.CLOSED:
            return
        try:
            self.tls = tls = self._creator.finish()
        except TLSError as error:
            self.break_off(error)
            return
        self.transcript.tls(
            f"{tls.version}, {tls.cipher}, the server's certificate is "
            + ("verified" if tls.verified else "NOT verified")
        )
        self._limit.stop()
        if self.settings.tls_at_once:
            self._limit.start("greeting", self.settings.timeout)
        else:
            self._tls_started()

    def when_greeted(self) -> Deferred[bytes]:
        """
        Wait for the greeting (RFC 1939 section 4).

        :return: fires with its text; fails with what ended the session before.
        """
        if self._greeting is not None:
            return succeed(self._greeting)
        if self._end is not None:
            return fail(self._end)
        self._greeted = Deferred()
        return self._greeted

    def _read_greeting(self, line: bytes) -> None:
        self.transcript.server(line)
        status = parse_status(line)
        if status is None:
            self._not_pop3(looks_like(line), line)
            return
        self._limit.stop()
        if not status.ok:
            self.break_off(self._refusal(None, status, LoginError))
            return
        self.enter(State.AUTHORIZATION)
        self._greeting = status.text
        greeted, self._greeted = self._greeted, None
        if greeted is not None:
            greeted.callback(status.text)

    def _not_pop3(self, seen: str | None, data: bytes) -> None:
        if seen is None:
            self._nonsense("a greeting that is none of POP3", data)
            return
        hint = "; use secure=1 for a port with TLS at once" * (seen == TLS_RECORD)
        self.break_off(
            ProtocolError(
                f"this is not a POP3 server: it looks like {seen}{hint}",
                server=str(self.settings.server),
            )
        )

    # -- its end

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Fail all that is pending, with the reason."""
        self._gone = True
        if self.state is not State.CLOSED:
            self._finish(self._loss(reason.value))
        closed, self._closed = self._closed, []
        for waiting in closed:
            waiting.callback(None)

    def _loss(self, reason: BaseException | None) -> POP3Error:
        shaking_hands = self._limit.running and self._limit.phase == "TLS handshake"
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
        if self.state is State.CLOSED:
            return
        self._finish(error)
        self._abort_transport()

    def _abort_transport(self) -> None:
        if not self._gone and self.transport is not None:
            abort = getattr(self.transport, "abortConnection", None)
            (abort or self.transport.loseConnection)()

    def _finish(self, error: POP3Error) -> None:
        """Change the state first, and then tell everybody who waits."""
        self.enter(State.CLOSED)
        self._end = error
        self._limit.stop()
        self._fail_pending(error)
        greeted, self._greeted = self._greeted, None
        if greeted is not None:
            greeted.errback(error)

    def when_closed(self) -> Deferred[None]:
        """Return a Deferred that fires when the connection is gone."""
        waiting: Deferred[None] = Deferred()
        if self._gone:
            waiting.callback(None)
        else:
            self._closed.append(waiting)
        return waiting

    def close(self) -> Deferred[None]:
        """
        End the connection in an orderly way; QUIT has been answered.

        :return: fires when it is gone, after `CLOSE_SECONDS` by force.
        """
        if self.state is not State.CLOSED:
            self._finish(
                ConnectionLostError(
                    "the session has been ended by disconnect()",
                    server=str(self.settings.server),
                )
            )
        if not self._gone and self.transport is not None:
            self.transport.loseConnection()
            force = self.settings.clock.callLater(CLOSE_SECONDS, self._abort_transport)
            self.when_closed().addCallback(_stop, force)
        return self.when_closed()

    async def abandon(self) -> None:
        """Close at once."""
        self.break_off(
            ConnectionLostError(
                "the session was given up", server=str(self.settings.server)
            )
        )
        await self.when_closed()

    # -- what goes wrong

    def lineLengthExceeded(self, line: bytes) -> None:
        """End the session: there is no telling where this line ends."""
        self._nonsense(f"a line of more than {MAX_STATUS_LINE} octets", line)

    def _nonsense(self, what: str, line: bytes) -> None:
        self.break_off(
            ProtocolError(
                f"the server sent {what}: {self.transcript.clean(line)!r}"
                + self._suspicion(),
                server=str(self.settings.server),
            )
        )

    def _too_late(self, phase: str, seconds: float) -> None:
        verb = self._verb()
        hint = self._suspicion()
        if phase == "greeting" and self.tls is None:
            hint = "; if the server expects TLS at once there, use secure=1"
        if b"\n" in self.clearLineBuffer():
            hint = "; it has sent a line that ends in LF alone, and POP3 has CR LF"
        self.break_off(
            TimedOutError(
                f"the server took too long: no {phase} within {seconds:g} seconds"
                + hint,
                phase=phase,
                seconds=seconds,
                server=str(self.settings.server),
                verb=verb,
            )
        )

    def _refusal(
        self, command: Command[Any] | None, status: Status, kind: type[CommandError]
    ) -> CommandError:
        text = self.transcript.clean(status.text)
        code = f"[{status.code}] " if status.code else ""
        return kind(
            f"the server refused{'' if command else ' the session'}: "
            + ((code + text).strip() or "it gave no reason"),
            text=text,
            code=status.code,
            server=str(self.settings.server),
            verb=command.verb if command else None,
        )

    # -- what a consumer may ask for

    def pause_body(self) -> None:
        """Stop reading: the consumer has enough for now."""
        if self.state is not State.CLOSED and not self._paused:
            self._paused = True
            # It is not the server that keeps us waiting now.
            self._limit.stop()
            self.transport.pauseProducing()  # type: ignore[union-attr]

    def resume_body(self) -> None:
        """Read on."""
        if self._paused:
            self._paused = False
            if self.state is State.CLOSED:
                return
            if self._verb() is not None:
                self._limit.start("reply", self.settings.timeout)
            self.transport.resumeProducing()  # type: ignore[union-attr]

    def abandon_body(self) -> None:
        """End the session: the rest of the message would have to be read."""
        self.break_off(
            ConnectionLostError(
                "the consumer of a message stopped, which ends the session",
                server=str(self.settings.server),
            )
        )


def _stop(_: object, timer: IDelayedCall) -> None:
    if timer.active():
        timer.cancel()
