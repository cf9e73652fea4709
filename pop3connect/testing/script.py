"""
A dialogue as a script: the lines expected of the client, and the server's replies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from ..redaction import printable

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Script", "Stage", "stuffed"]

Text = str | bytes


def _octets(text: Text) -> bytes:
    return text.encode() if isinstance(text, str) else text


def stuffed(content: Text) -> bytes:
    """Return a body as it is sent, with its end (RFC 1939 section 3)."""
    body = _octets(content)
    if body and not body.endswith(b"\r\n"):
        body += b"\r\n"
    body = (b"\r\n" + body).replace(b"\r\n.", b"\r\n..")[2:]
    return body + b".\r\n"


class Stage(Protocol):
    """
    One connection on which a script is played.

    :ivar problem: the client's first deviation; empty if it kept to the script.
    :ivar transcript: the lines of both sides.
    """

    transport: Any

    def __init__(self, script: Script, clock: Any) -> None:
        self._steps = list(script.steps)
        self._clock = clock
        self._heard = b""
        self._waiting = False
        self._playing = self._moved = False
        self._record: int | None = None
        self.closed = False
        self.problem = ""
        self.transcript: list[str] = []

    # -- the connection

    def connectionMade(self) -> None:
        """Begin."""
        self._play()

    def dataReceived(self, data: bytes) -> None:
        """Go on if a line is complete."""
        self._heard += data
        self._play()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Go on: the script may have waited for it."""
        self.closed = True
        self.transcript.append("-- closed")
        self._play()

    def _play(self) -> None:
        self._moved = True
        if self._playing:
            # From within a step, which has closed the connection.
            return
        self._playing = True
        while self._moved and self._steps and not self._waiting and not self.problem:
            self._moved = False
            if self._steps[0][1](self):
                self._steps.pop(0)
                self._moved = True
        self._playing = False
        if not self._steps and self._heard and not self._waiting and not self.problem:
            self.fail(f"the script is over, and the client sent {self._heard!r}")

    # -- what a step can do

    def line(self) -> bytes | None:
        """Return the next line of the client, without CR LF; ``None`` if incomplete."""
        line, end, rest = self._heard.partition(b"\r\n")
        if not end:
            return None
        self._heard = rest
        self.transcript.append(f"C: {printable(line)}")
        return line

    def say(self, data: bytes) -> None:
        """Send bytes unchanged."""
        for line in data.split(b"\r\n")[:20]:
            if line:
                self.transcript.append(f"S: {printable(line)[:200]}")
        size = self._record or max(len(data), 1)
        for start in range(0, len(data), size):
            self.transport.write(data[start : start + size])

    def wait(self, seconds: float | None) -> None:
        """Do nothing for this time; ``None`` means for ever."""
        self._waiting = True
        if seconds is not None:
            self._clock.callLater(seconds, self._go_on)

    def _go_on(self) -> None:
        self._waiting = False
        self._play()

    def fail(self, problem: str) -> None:
        """Record the client's deviation, and close the connection."""
        self.problem = problem
        self.transport.loseConnection()

    @property
    def left_over(self) -> str:
        """The first step that was not played; empty if all were."""
        return self._steps[0][0] if self._steps else ""


class Script:
    """
    The steps of one connection, in order.  Each method adds a step.

    Lines are given without CR LF, as str or bytes.
    """

    def __init__(self) -> None:
        self.steps: list[tuple[str, Callable[[Stage], bool]]] = []

    def step(self, name: str, play: Callable[[Stage], bool]) -> Self:
        """Add a custom step; ``play`` returns whether the step is done."""
        self.steps.append((name, play))
        return self

    def _do(self, name: str, play: Callable[[Stage], object]) -> Self:
        def step(stage: Stage) -> bool:
            play(stage)
            return True

        return self.step(name, step)

    # -- lines

    def greet(self, line: Text = "+OK ready") -> Self:
        """Greet."""
        return self.reply(line)

    def expect(self, line: Text) -> Self:
        """Wait for a line of the client, and fail if it is a different one."""
        wanted = _octets(line)

        def step(stage: Stage) -> bool:
            heard = stage.line()
            if heard is None:
                if stage.closed:
                    stage.fail(f"expected {wanted!r}, and the client closed")
                return False
            if heard != wanted:
                stage.fail(f"expected {wanted!r}, the client sent {heard!r}")
            return True

        return self.step(f"expect {wanted!r}", step)

    def expect_close(self) -> Self:
        """Wait until the client closes."""
        return self.step("expect the client to close", lambda stage: stage.closed)

    def reply(self, line: Text = "+OK", *, lines: Iterable[Text] | None = None) -> Self:
        """Send a status line, and the lines of a listing if they are given."""
        data = _octets(line) + b"\r\n"
        if lines is not None:
            data += stuffed(b"".join(_octets(each) + b"\r\n" for each in lines))
        return self.say(data)

    def message(self, content: Text, line: Text = "+OK") -> Self:
        """Send a status line and a message, byte-stuffed and with its end."""
        return self.say(_octets(line) + b"\r\n" + stuffed(content))

    def say(self, data: Text) -> Self:
        """Send bytes unchanged."""
        octets = _octets(data)
        return self._do(f"say {octets[:60]!r}", lambda stage: stage.say(octets))

    def log_in(
        self,
        username: str = "ada",
        password: str = "lovelace",  # noqa: S107 - a test's
        capabilities: Iterable[Text] = ("USER", "UIDL", "TOP", "PIPELINING"),
    ) -> Self:
        """Play a login with USER and PASS, and CAPA before and after."""
        offer = list(capabilities)
        return (
            self.expect("CAPA")
            .reply(lines=offer)
            .expect(f"USER {username}")
            .reply()
            .expect(f"PASS {password}")
            .reply()
            .expect("CAPA")
            .reply(lines=offer)
        )

    def quit(self) -> Self:
        """Play the end: QUIT, and both sides close."""
        return self.expect("QUIT").reply("+OK bye").close()

    def start_tls(self, certificate: Any) -> Self:
        """
        Begin TLS, at once or after the ``+OK`` to STLS.

        :param certificate: a `twisted.internet.ssl.PrivateCertificate`, or its options.
        """
        options = getattr(certificate, "options", lambda: certificate)()
        return self._do("start TLS", lambda stage: stage.transport.startTLS(options))

    # -- time

    def delay(self, seconds: float) -> Self:
        """Let time pass before the next step."""
        return self._do(f"wait for {seconds:g} s", lambda stage: stage.wait(seconds))

    def stall(self) -> Self:
        """Send nothing more, and ignore the client."""
        return self._do("stall", lambda stage: stage.wait(None))

    # -- faults of the connection

    def _below(self, name: str, play: Callable[[Any], object]) -> Self:
        def settle(stage: Stage) -> None:
            # TLS may collect data, and pass it down only in the next turn.
            if stage.transcript:
                stage.wait(0)

        self._do(name, settle)
        return self._do(name, lambda stage: play(stage.transport.pacer))

    def _pace(self, name: str, **knobs: Any) -> Self:
        def play(pacer: Any) -> None:
            for knob, value in knobs.items():
                setattr(pacer, knob, value)

        return self._below(name, play)

    def split(self, octets: int | None) -> Self:
        """Send pieces of this size from now on, one a turn; ``None`` ends it."""
        return self._pace(f"split at {octets}", piece=octets, gap=0)

    def trickle(self, octets: int, seconds: float) -> Self:
        """Send pieces of this size from now on, and wait after each piece."""
        return self._pace("trickle", piece=octets, gap=seconds)

    def glue(self) -> Self:
        """Hold back all data from now on, until `unglue`."""
        return self._pace("glue", held=True)

    def unglue(self) -> Self:
        """Send the data held back, in one piece."""
        return self._below("unglue", lambda pacer: pacer.release())

    def drop(self, after: int = 0) -> Self:
        """Break the connection after this number of bytes, without a TLS alert."""
        if after:
            return self._pace(f"drop after {after}", left=after)
        return self._below("drop", lambda pacer: pacer.break_off())

    def reset(self) -> Self:
        """Break the connection at once, as a crash does."""
        return self._below("reset", lambda pacer: pacer.reset())

    def half_close(self) -> Self:
        """Close the direction to the client only."""
        return self._below("half close", lambda pacer: pacer.half_close())

    def close(self) -> Self:
        """Close in order, with a TLS alert."""
        return self._do("close", lambda stage: stage.transport.loseConnection())

    def records(self, octets: int | None) -> Self:
        """Use TLS records of this size from now on; ``None`` ends it."""

        def play(stage: Stage) -> None:
            stage._record = octets

        return self._do(f"records of {octets}", play)

    def renegotiate(self) -> Self:
        """Renegotiate the keys, which TLS 1.2 allows and TLS 1.3 does not."""

        def play(stage: Stage) -> None:
            connection = stage.transport.tls_connection()
            connection.renegotiate()
            connection.do_handshake()

        return self._do("renegotiate", play)
