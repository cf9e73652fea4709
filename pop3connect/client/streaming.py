"""
Passes bodies on to consumers, with back-pressure, and to files.

Both are application code: whatever they raise is caught here, as a Deferred does with
its callbacks, and becomes a value.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IConsumer, IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.reflect import safe_str
from zope.interface import implementer

from ..errors import DestinationError, UsageError
from ..files import Writable, write_all
from ..redaction import escape
from ..sansio.commands import Retrieve
from ..sansio.exchange import Exchange, Flow, Sink

__all__ = [
    "Chosen",
    "Feeder",
    "Into",
    "Progress",
    "Streamed",
    "Written",
    "check_destination",
    "destination_failed",
    "sink_for",
]

log = Logger()

Into = Callable[[int], IConsumer | Writable]
"""Returns the destination of the message with this number."""

Progress = Callable[[int, int, int | None], object]
"""Takes the number of a message, how many bytes of it were written, and its size, as
LIST says, if that is known."""


def sink_for(destination: object) -> Sink:
    """
    Return the sink that writes a body to this destination.

    :raises UsageError: it is not an `IConsumer`, and not a binary file.
    """
    check_destination(
        destination, "an IConsumer or a file open for writing in binary mode"
    )
    # Consumers that do not declare it are consumers, too.
    if hasattr(destination, "registerProducer"):
        return Streamed(destination)  # type: ignore[arg-type]
    return Written(destination)  # type: ignore[arg-type]


def check_destination(destination: object, wanted: str) -> None:
    """
    Check that bytes can be written to a destination.

    :param wanted: what the error says that it must be.
    :raises UsageError: it has no ``write``, or is a text file or a class.
    """
    text = hasattr(destination, "encoding")
    writes = callable(getattr(destination, "write", None))
    if not writes or text or isinstance(destination, type):
        what = "a text file" if text else type(destination).__name__
        raise UsageError(f"destination must be {wanted}, not {what}")


def destination_failed(
    server: str, number: int, reason: BaseException
) -> DestinationError:
    """Return the error of a message whose destination raised an exception."""
    error = DestinationError(
        f"its destination failed: {type(reason).__name__}: {escape(safe_str(reason))}",
        server=server,
        verb=Retrieve.verb,
        number=number,
    )
    error.__cause__ = reason
    return error


class Written:
    """Writes a body to a binary file, which blocks until it is written."""

    __slots__ = ("_file",)

    def __init__(self, file: Writable) -> None:
        self._file = file

    def begin(self, flow: Flow) -> None:
        """Do nothing: writing to a file blocks, so no back-pressure is needed."""

    def write(self, piece: bytes) -> None:
        """Write a piece."""
        write_all(self._file, piece)

    def end(self, octets: int) -> None:
        """Leave the file open: its owner closes it."""

    def lost(self) -> None:
        """Leave the file open, with the part that was received."""


@implementer(IPushProducer)
class Streamed:
    """Passes a body on to an `IConsumer`, which may slow the connection down."""

    __slots__ = ("_consumer", "_flow", "_stopped")

    def __init__(self, consumer: IConsumer) -> None:
        self._consumer = consumer
        self._flow: Flow | None = None
        self._stopped = False

    def begin(self, flow: Flow) -> None:
        """Register with the consumer."""
        self._flow = flow
        try:
            self._consumer.registerProducer(self, True)
        except Exception:
            # It has another one: that is not ours to unregister.
            self._flow = None
            # It may have paused this one before.
            flow.resume_body()
            raise

    def write(self, piece: bytes) -> None:
        """
        Pass on a piece.

        :raises UsageError: the consumer has stopped.
        """
        self._check()
        self._consumer.write(piece)

    def end(self, octets: int) -> None:
        """
        Leave the consumer.

        :raises UsageError: it has stopped, so that it did not get all of the body.
        """
        self.lost()
        self._check()

    def _check(self) -> None:
        if self._stopped:
            raise UsageError("the consumer has called stopProducing()")

    def lost(self) -> None:
        """Leave the consumer, and read on for the commands behind."""
        flow, self._flow = self._flow, None
        if flow is not None:
            try:
                self._consumer.unregisterProducer()
            finally:
                flow.resume_body()

    # A consumer that was left can no longer control the flow.

    def pauseProducing(self) -> None:
        """Do as the consumer asks."""
        if self._flow is not None:
            self._flow.pause_body()

    def resumeProducing(self) -> None:
        """Do as the consumer asks."""
        if self._flow is not None:
            self._flow.resume_body()

    def stopProducing(self) -> None:
        """Do as the consumer asks."""
        if self._flow is not None:
            self._stopped = True
            self._flow.abandon_body()


class Chosen:
    """
    Writes a body to a destination that is chosen when the body begins.

    :param number: of the message.
    :param into: chooses the destination.
    :param progress: is called after each piece.
    :param expected: the size of the message, as LIST says, if that is known.
    :ivar destination: what ``into`` returned.
    """

    __slots__ = (
        "_done",
        "_expected",
        "_into",
        "_left",
        "_number",
        "_progress",
        "_sink",
        "destination",
    )

    def __init__(
        self,
        number: int,
        into: Into,
        progress: Progress | None = None,
        expected: int | None = None,
    ) -> None:
        self._number = number
        self._into = into
        self._progress = progress
        self._expected = expected
        self._done = 0
        self._left = False
        self._sink: Sink | None = None
        self.destination: object = None

    def begin(self, flow: Flow) -> None:
        """Choose the destination."""
        self.destination = self._into(self._number)
        if self._left:
            # The caller's code has left the run.
            return
        self._sink = sink_for(self.destination)
        self._sink.begin(flow)

    def write(self, piece: bytes) -> None:
        """Write a piece."""
        if self._sink is None:
            # Without a destination, the piece is dropped.
            return
        self._sink.write(piece)
        if self._progress is not None:
            self._done += len(piece)
            self._progress(self._number, self._done, self._expected)

    def end(self, octets: int) -> None:
        """Leave the destination."""
        if self._sink is not None:
            self._sink.end(octets)

    def lost(self) -> None:
        """Leave the destination, with the part that was received."""
        self._left = True
        if self._sink is not None:
            self._sink.lost()


class Feeder:
    """
    Feeds the sink of one exchange after another.

    Each call concerns the exchange that it names, and does nothing for another: its
    body has not begun, or was let go.

    :param flow: the connection that the bodies come from.
    """

    __slots__ = ("_current", "_flow")

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        # The exchange whose sink has begun and not ended.
        self._current: Exchange | None = None

    @property
    def expendable(self) -> bool:
        """Whether the body that has begun is one without which the session goes on."""
        return self._current is not None and self._current.expendable

    def begin(self, exchange: Exchange) -> Failure | None:
        """Begin a body, and return what the sink raised."""
        self._current = exchange
        try:
            exchange.sink.begin(self._flow)  # type: ignore[union-attr]
        except BaseException:  # noqa: BLE001 - a consumer's own
            return Failure()
        return None

    def write(self, exchange: Exchange, piece: bytes) -> Failure | None:
        """Pass on a piece of the body, and return what the sink raised."""
        if self._current is exchange:
            try:
                exchange.sink.write(piece)  # type: ignore[union-attr]
            except BaseException:  # noqa: BLE001 - a consumer's own
                return Failure()
        return None

    def end(self, exchange: Exchange, octets: int) -> Failure | None:
        """End the body, and return what the sink raised."""
        if self._current is exchange:
            self._current = None
            try:
                exchange.sink.end(octets)  # type: ignore[union-attr]
            except BaseException:  # noqa: BLE001 - a consumer's own
                return Failure()
        return None

    def let_go(self, exchange: Exchange) -> None:
        """Tell the sink that the rest of the body will not come."""
        if self._current is exchange:
            self._current = None
            try:
                exchange.sink.lost()  # type: ignore[union-attr]
            except BaseException:  # noqa: BLE001 - a consumer's own; its caller gets the error
                log.failure("a consumer failed when its message was cut off")
