"""
Commands out: the queue, and the window of those that are unanswered.

They go out in the order in which they were submitted, several at once when the
server allows pipelining (RFC 2449 section 6.6).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from functools import partial
from typing import TypeVar

from twisted.internet.defer import CancelledError, Deferred, fail

from ..errors import ConnectionLostError, POP3Error, UsageError
from ..sansio.commands import Command, Quit
from ..sansio.exchange import Exchange, Sink
from ..sansio.states import State
from .connection import CLOSE_SECONDS, Connection, Settings

__all__ = ["Outbox"]

T = TypeVar("T")

WINDOW = 256
"""
Commands that may be unanswered at once.  Their lines fit into the receive buffer of
any server, and enough are on their way to hide a long round trip.
"""


class Outbox(Connection):
    """A connection that commands can be sent on."""

    __slots__ = (
        "_body",
        "_held",
        "_refill",
        "_sent",
        "_waiting",
        "_window",
    )

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        # How many commands may be unanswered, and with how many more are sent.
        self._window = 1
        self._refill = 0
        self._waiting: deque[Exchange] = deque()
        # A list: it is never longer than the window, and an idle session does not
        # have to hold the room that a deque has for more.
        self._sent: list[Exchange] = []
        # The one of those sent whose body is coming.
        self._body: Exchange | None = None
        self._held = False

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
        exchange = Exchange(command, sink=sink, noted=noted)
        answer: Deferred[T] = Deferred(partial(self._cancel, exchange))
        exchange.succeed = answer.callback
        exchange.fail = answer.errback
        try:
            self.enqueue_all(command.verb, [exchange])
        except POP3Error as error:
            return fail(error)
        if self._held:
            # Somebody waits for more than the one who holds the reading up.
            self.release()
        return answer

    def enqueue_all(self, verb: str, exchanges: Collection[Exchange]) -> None:
        """
        Send exchanges, whose commands all have this verb, when their turn comes.

        :raises POP3Error: the session has ended, or the command is not allowed in
            its present state; then none of them will be sent.
        """
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
        self._waiting.extend(exchanges)
        if len(self._sent) <= self._refill:
            self._send_waiting()

    def _send_waiting(self) -> None:
        """
        Fill the window.

        Called when half of it is free: then many lines go out in one write, and the
        server still has the other half to work on.
        """
        waiting, sent = self._waiting, self._sent
        idle = not sent
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
            if idle and sent[0].verbatim:
                # The status line of a message is read where its body is.
                self.setRawMode()
            self.transport.write(b"".join(lines))

    def _cancel(self, exchange: Exchange, _: object) -> None:
        """Leave a defined state behind when an answer is not wanted any more."""
        in_transfer = self._in_transfer(exchange)
        exchange.drop(begun=in_transfer)
        if in_transfer:
            self.break_off(
                ConnectionLostError(
                    f"{exchange.command.verb} was cancelled in the middle of a "
                    "message, which ends the session",
                    server=str(self.settings.server),
                )
            )

    def _in_transfer(self, exchange: Exchange) -> bool:
        """Say whether some of its body has come, and not all."""
        raise NotImplementedError

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

    def _suspicion(self) -> str:
        # Announced and broken: there are such servers.
        if len(self._sent) > 1:
            return (
                f"; {len(self._sent)} commands were unanswered at once: if the "
                "server's pipelining is broken, use pipeline=False"
            )
        return ""

    def _verb(self) -> str | None:
        return self._sent[0].command.verb if self._sent else None
