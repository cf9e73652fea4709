"""
The bodies of replies: where they go, how long they may be, how slowly they may come.

A body is kept, or goes to a consumer piece by piece; and a consumer may fail, or end
the session, whenever it is handed one.
"""

from __future__ import annotations

from twisted.logger import Logger
from twisted.python.failure import Failure

from ..errors import ConnectionLostError, ProtocolError
from ..sansio.exchange import Exchange
from ..sansio.multiline import MultilineDecoder
from .connection import Settings
from .outbox import Outbox

__all__ = ["Bodies"]

log = Logger()

SLOWEST = 512
"""
Octets of a body that must arrive within one time limit.  A server which sends an
octet now and then could hold the session for ever otherwise.
"""


class Bodies(Outbox):
    """A connection on which the bodies of replies can be read."""

    __slots__ = (
        "_body_limit",
        "_counted",
        "_decoder",
        "_keep",
        "_pieces",
        "_progress",
    )

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        # The pieces of a body that are kept here if it has no sink, how long it may
        # be, and how much of it counted as progress.
        self._decoder = MultilineDecoder()
        self._pieces: list[bytes] = []
        self._keep = self._pieces.append
        self._body_limit: int | None = None
        self._counted = 0
        # Whether what has come is enough to give the server its whole time again.
        self._progress = False

    def _begin_body(self, exchange: Exchange) -> None:
        """Get ready: what comes next is the body of this reply."""
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

    def _end_body(self) -> tuple[Exchange, bytes]:
        """Hand it over; return whose it was, and the body unless a sink took it."""
        exchange, self._body = self._body, None
        assert exchange is not None
        self._sent.pop(0)
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
        return exchange, body

    def _lose_body(self) -> None:
        """Let go of a body whose rest will never come."""
        body, self._body = self._body, None
        self._pieces.clear()
        if body is not None and body.sink is not None:
            try:
                body.sink.lost()
            except Exception:  # noqa: BLE001 - a consumer's own; it hears the error
                log.failure("a consumer failed to let go")

    def _in_transfer(self, exchange: Exchange) -> bool:
        return exchange is self._body

    def forget(self, exchange: Exchange) -> None:
        """Let nobody hear of an answer, and keep nothing of it; it is still read."""
        exchange.drop(begun=exchange is self._body)
        if exchange is self._body:
            self._pieces.clear()
            self._decoder.discard()

    # -- what goes wrong

    def _too_large(self) -> None:
        assert self._body is not None
        verb = self._body.command.verb
        limit = f"more than {self._body_limit} octets, which no server needs for it"
        if self._body.command.max_octets is None:
            limit = (
                f"a message of more than max_message_size={self._body_limit} octets; "
                "look at the sizes with list() first"
            )
        self.break_off(
            ProtocolError(
                f"the answer to {verb} is {limit}",
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
        failed = exchange.fail
        exchange.drop(begun=True)
        ended = ConnectionLostError(
            "the consumer of a message failed, which ends the session",
            server=str(self.settings.server),
        )
        ended.__cause__ = failure.value
        self.break_off(ended)
        failed(failure)  # type: ignore[arg-type]
