"""
Random sessions: commands, answers, cancellations and faults in any order.

What holds whatever happens: every Deferred fires once, an answer goes to its own
command and none is made up, what is kept is bounded, no secret is shown.
"""

from __future__ import annotations

import base64
import re
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from pop3connect import CommandError, DestinationError, Handle, POP3Error, UsageError
from pop3connect.sansio.dialogue import MAX_STATUS_LINE, WINDOW

from ..support.acting import Keeping
from ..support.examples import COMMON, EXAMPLES
from ..support.memory import Server

PASSWORD = "open sesame"

FORMS = (PASSWORD, base64.b64encode(f"\0ada\0{PASSWORD}".encode()).decode())

NUMBERS = st.integers(1, 5)

FORGED = 10**9
"""The mark of an answer to nothing."""

NONSENSE = [
    b"what?\r\n",
    b"+ Y2hhbGxlbmdl\r\n",
    b"\x1b]0;owned\x07\r\n",
    b"+OK " + b"x" * 100_000,
    PASSWORD.encode() + b"\r\n",
]


def wire(text: bytes) -> bytes:
    """
    Return a body as it goes over the wire.
    """
    return (b"\r\n" + text).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"


class Secrecy:
    """
    Keeps all that is shown to anybody, to look for secrets in it.
    """

    def __init__(self) -> None:
        self.shown: list[str] = []
        globalLogPublisher.addObserver(self._logged)

    def _logged(self, event: Any) -> None:
        failure = event.get("log_failure")
        self.shown.append(formatEvent(event))
        if failure is not None:
            self.shown.append(failure.getTraceback())

    def error(self, error: BaseException) -> None:
        text = traceback.TracebackException.from_exception(error, capture_locals=True)
        self.shown += [str(error), repr(error), *text.format()]

    def check(self) -> None:
        globalLogPublisher.removeObserver(self._logged)
        shown = "\n".join(self.shown)
        for form in FORMS:
            assert form not in shown, shown


class TroubleError(Exception):
    """What a consumer raises."""


class Consumer(Keeping):
    """
    One that may pause at each piece, and then raise or stop.
    """

    def __init__(self, pauses: bool, fails: str = "") -> None:
        super().__init__()
        self.pauses = pauses
        self.fails = fails

    def write(self, data: bytes) -> None:
        super().write(data)
        if self.pauses:
            self.producer.pauseProducing()
        if self.fails == "raise":
            raise TroubleError()
        if self.fails == "stop":
            self.producer.stopProducing()


class Asked:
    """
    One command of the client's, and what has come of it.

    :param line: what the server hears of it.
    :param mark: finds in a result which answer of the server's it is, if that can be
        told.
    """

    def __init__(
        self,
        line: str,
        deferred: Deferred[Any],
        mark: Callable[[Any], int | None] = lambda _: None,
        consumers: Sequence[Consumer] = (),
    ) -> None:
        self.line = line
        self.deferred = deferred
        self.mark = mark
        self.consumers = consumers
        self.cancelled = False
        self.outcomes: list[Any] = []
        deferred.addCallbacks(self._succeeded, self._failed)

    def _succeeded(self, result: Any) -> None:
        self.outcomes.append(result)

    def _failed(self, failure: Any) -> None:
        self.outcomes.append(failure.value)


class Sessions(RuleBasedStateMachine):
    """
    A session after the login, with a server that answers in order, or fails.
    """

    @initialize(
        pipelining=st.booleans(),
        listening=st.booleans(),
        limit=st.sampled_from([None, 5_000]),
    )
    def log_in(self, pipelining: bool, listening: bool, limit: int | None) -> None:
        self.secrecy = Secrecy()
        self.server = Server()
        opening = self.server.open(
            password=PASSWORD,
            # Without one, short messages are read in a way of their own.
            stsproc=self.secrecy.shown.append if listening else None,
            max_message_size=limit,
        )
        self.server.say(b"+OK ready\r\n")
        more = b"PIPELINING\r\n" if pipelining else b""
        capabilities = b"+OK\r\nUSER\r\n" + more + b".\r\n"
        self.server.expect(b"CAPA", capabilities)
        self.server.expect(b"USER ada", b"+OK\r\n")
        self.server.expect(b"PASS " + PASSWORD.encode(), b"+OK\r\n")
        self.server.expect(b"CAPA", capabilities)
        handles: list[Handle] = []
        opening.addCallback(handles.append)
        self.handle = handles[0]
        self.window = WINDOW if pipelining else 1
        self.asked: list[Asked] = []
        # Heard and not answered; answered and not sent; how many answers there were.
        self.owed: list[str] = []
        self.unsent = b""
        self.answers = 0
        # Whether all is as it should be: then nobody has a reason to hang up.
        self.sane = limit is None
        self.marked = self.left = self.garbled = False

    # -- the client

    def ask(
        self,
        line: str,
        deferred: Deferred[Any],
        mark: Callable[[Any], int | None] = lambda _: None,
        consumers: Sequence[Consumer] = (),
    ) -> None:
        self.asked.append(Asked(line, deferred, mark, consumers))

    @rule()
    def stat(self) -> None:
        self.ask("STAT", self.handle.stat(), lambda stat: stat.count)

    @rule()
    def noop(self) -> None:
        self.ask("NOOP", self.handle.noop())

    @rule(number=NUMBERS)
    def size(self, number: int) -> None:
        self.ask(f"LIST {number}", self.handle.size(number), lambda size: size)

    @rule()
    def uidl(self) -> None:
        # A message that is marked is left out of the listing.
        self.ask(
            "UIDL",
            self.handle.uidl(),
            lambda uids: next((int(uid) for number, uid in uids if number == 1), None),
        )

    @rule(number=NUMBERS)
    def retrieve(self, number: int) -> None:
        def mark(content: bytes) -> int:
            return said(content, f"RETR {number}")

        self.ask(f"RETR {number}", self.handle.retrieve(number), mark)

    @rule(number=NUMBERS, pauses=st.booleans())
    def stream(self, number: int, pauses: bool) -> None:
        consumer = Consumer(pauses)

        def mark(octets: int) -> int:
            assert octets == len(consumer.written)
            return said(consumer.written, f"RETR {number}")

        deferred = self.handle.retrieve(number, consumer)
        self.ask(f"RETR {number}", deferred, mark, [consumer])

    @rule(number=NUMBERS, lines=st.integers(0, 3))
    def top(self, number: int, lines: int) -> None:
        line = f"TOP {number} {lines}"
        self.ask(line, self.handle.top(number, lines), lambda top: said(top, line))

    @rule(numbers=st.lists(NUMBERS, max_size=4))
    def fetch(self, numbers: list[int]) -> None:
        async def fetch() -> list[Any]:
            return [each async for each in self.handle.messages(numbers, ahead=2)]

        def check(messages: list[Any]) -> None:
            assert [message.number for message in messages] == numbers
            for message in messages:
                if message.content is not None:
                    said(message.content, f"RETR {message.number}")

        self.ask("", Deferred.fromCoroutine(fetch()), check)

    @rule(
        numbers=st.lists(NUMBERS, max_size=4),
        pauses=st.booleans(),
        fails=st.sampled_from(["", "choose", "raise", "stop"]),
    )
    def fetch_into(self, numbers: list[int], pauses: bool, fails: str) -> None:
        consumers: list[Consumer] = []

        def into(number: int) -> Consumer:
            if fails == "choose":
                raise TroubleError()
            consumers.append(Consumer(pauses, fails))
            return consumers[-1]

        async def fetch() -> list[Any]:
            run = self.handle.messages(numbers, ahead=2, into=into)
            return [each async for each in run]

        def check(items: list[Any]) -> None:
            assert [item.number for item in items] == numbers
            for item in items:
                if item.error is None:
                    assert not fails
                    assert item.size == len(item.destination.written)
                    said(item.destination.written, f"RETR {item.number}")
                else:
                    failed = isinstance(item.error, DestinationError)
                    assert failed == (not isinstance(item.error, CommandError))
                    assert not failed or fails

        self.ask("", Deferred.fromCoroutine(fetch()), check, consumers)

    @rule(number=NUMBERS)
    def delete(self, number: int) -> None:
        self.marked = True
        self.ask(f"DELE {number}", self.handle.delete(number))

    @rule()
    def reset(self) -> None:
        self.ask("RSET", self.handle.reset())

    @precondition(lambda self: len(self.asked) > 8)
    @rule()
    def disconnect(self) -> None:
        self.left = True
        self.ask("QUIT", self.handle.disconnect())

    @precondition(lambda self: len(self.asked) > 12)
    @rule()
    def abort(self) -> None:
        self.sane = False
        self.ask("", self.handle.abort())

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def cancel(self, data: Any) -> None:
        asked = data.draw(st.sampled_from(self.asked))
        if not asked.outcomes:
            asked.cancelled = True
            if asked.line.startswith(("RETR", "TOP", "UIDL")) or not asked.line:
                # A body in transfer: then the connection is closed.
                self.sane = False
            asked.deferred.cancel()

    @rule()
    def resume(self) -> None:
        for asked in self.asked:
            for consumer in asked.consumers:
                if consumer.producer is not None:
                    consumer.producer.resumeProducing()

    # -- the server

    def hear(self) -> None:
        self.owed += self.server.heard().decode().split("\r\n")[:-1]

    def answer_to(self, line: str, refused: bool, length: int) -> bytes:
        self.answers += 1
        mark = self.answers
        if refused:
            return f"-ERR no {mark} to {line}\r\n".encode()
        verb, _, argument = line.partition(" ")
        if verb == "STAT":
            return b"+OK %d 320\r\n" % mark
        if verb == "LIST":
            return b"+OK %b %d\r\n" % (argument.encode(), mark)
        if verb == "UIDL":
            return b"+OK\r\n" + wire(b"1 %d\r\n2 x\r\n" % mark)
        if verb in ("RETR", "TOP"):
            text = f"{line} {mark}\r\n\r\n".encode() + b".\r\n+OK\r\n\r.\n" * length
            return b"+OK\r\n" + wire(text + b"\r\n")
        return b"+OK\r\n"

    @rule(
        count=st.integers(1, 4),
        refused=st.booleans(),
        length=st.sampled_from([0, 9, 900]),
    )
    def answer(self, count: int, refused: bool, length: int) -> None:
        self.hear()
        for line in self.owed[:count]:
            self.unsent += self.answer_to(line, refused and line != "QUIT", length)
            del self.owed[0]

    @rule(cut=st.integers(0, 2))
    def say_nothing(self, cut: int) -> None:
        # A blank line, as some servers put behind a message; at once, or not all of it.
        data = self.unsent + b"\r\n"
        self.unsent = data[len(data) - cut :]
        self.server.say(data[: len(data) - cut])

    @precondition(lambda self: len(self.asked) > 1)
    @rule(
        text=st.sampled_from([b"+OK %d 1\r\n", b"-ERR no %d to nobody\r\n", b"\r\n%d"]),
        cut=st.integers(0, 12),
    )
    def answer_too_much(self, text: bytes, cut: int) -> None:
        self.hear()
        self.answer(1, False, 0)
        if not self.owed:
            # It is there before anything is asked that it could be taken to answer.
            self.sane = False
            cut = max(min(cut, len(self.unsent) - 1), 0)
            data, self.unsent = self.unsent + text % FORGED, b""
            self.server.say(data[:cut])
            self.server.say(data[cut:])

    @rule(octets=st.sampled_from([1, 2, 3, 7, 100, 10**6]), piece=st.integers(1, 50))
    def deliver(self, octets: int, piece: int) -> None:
        data, self.unsent = self.unsent[:octets], self.unsent[octets:]
        self.server.say(data, size=piece if len(data) < 5000 else None)

    @rule(seconds=st.sampled_from([1, 30, 61]))
    def wait(self, seconds: int) -> None:
        if seconds > 30 or self.server.clock.getDelayedCalls():
            self.sane = False
        self.server.clock.advance(seconds)
        self.server.settle()

    @precondition(lambda self: len(self.asked) > 5)
    @rule(text=st.sampled_from(NONSENSE))
    def talk_nonsense(self, text: bytes) -> None:
        self.sane = False
        # In the middle of a body it is text of that body.
        self.garbled = True
        self.server.say(text)

    @precondition(lambda self: len(self.asked) > 15)
    @rule()
    def hang_up(self) -> None:
        self.sane = False
        self.server.lose()

    # -- what holds

    @invariant()
    def fires_once(self) -> None:
        for asked in getattr(self, "asked", ()):
            assert len(asked.outcomes) <= 1, asked.line

    @invariant()
    def bounded(self) -> None:
        if not hasattr(self, "asked"):
            return
        self.hear()
        unanswered = len(self.owed) + self.unsent.count(b"\r\n")
        assert len(self.owed) <= self.window, unanswered
        protocol: Any = self.handle._protocol
        kept = len(protocol._buffer) + len(protocol._dialogue.rest)
        assert kept <= 4 * MAX_STATUS_LINE

    @invariant()
    def stays_while_all_is_well(self) -> None:
        if getattr(self, "sane", False) and not self.left:
            assert not self.server.transport.disconnecting

    def teardown(self) -> None:
        if not hasattr(self, "asked"):
            return
        for _ in range(2000):
            self.resume()
            self.hear()
            if not (self.owed or self.unsent) or self.server.transport.disconnecting:
                break
            self.answer(4, False, 0)
            self.deliver(10**6, 10**6)
        if self.sane:
            self.all_answered()
        self.server.lose()
        self.server.settle()
        self.over()

    def all_answered(self) -> None:
        """
        A server that did nothing wrong: what was not cancelled has its answer.
        """
        for asked in self.asked:
            assert asked.outcomes, asked.line
            (outcome,) = asked.outcomes
            if isinstance(outcome, UsageError):
                assert self.marked or self.left, outcome
            elif isinstance(outcome, BaseException) and not asked.cancelled:
                assert isinstance(outcome, CommandError), outcome

    def over(self) -> None:
        last = 0
        for asked in self.asked:
            assert asked.outcomes, f"{asked.line} was left unfired"
            (outcome,) = asked.outcomes
            if isinstance(outcome, BaseException):
                assert isinstance(outcome, (POP3Error, CancelledError)), outcome
                self.secrecy.error(outcome)
            mark = None if self.garbled else mark_of(asked, outcome)
            if mark is not None:
                # In the order of the commands; so none came twice.
                assert last < mark <= self.answers, (asked.line, last, mark)
                last = mark
            for consumer in asked.consumers:
                assert consumer.producer is None
        assert self.server.clock.getDelayedCalls() == []
        self.secrecy.shown.append(repr(self.handle))
        self.secrecy.check()


def mark_of(asked: Asked, outcome: Any) -> int | None:
    """
    Check that an outcome is an answer to its command, and return which one it is.
    """
    if not isinstance(outcome, BaseException):
        return asked.mark(outcome)
    if isinstance(outcome, CommandError) and outcome.text:
        assert outcome.text.endswith(f" to {asked.line}"), outcome
        return int(outcome.text.split()[1])
    return None


def said(content: bytes, line: str) -> int:
    """
    Check which command a body is the answer to, and return which answer it is.
    """
    match = re.match(rb"(.+) (\d+)\r\n", content)
    assert match is not None, content
    assert match[1].decode() == line, content
    return int(match[2])


class SessionTests(SynchronousTestCase):
    """
    `Sessions`, so many of them.
    """

    def test_random_sessions_keep_all_invariants(self) -> None:
        run_state_machine_as_test(
            Sessions,
            settings=settings(
                max_examples=EXAMPLES or 150, stateful_step_count=40, **COMMON
            ),
        )


ANSWERS = st.sampled_from(
    [
        b"+OK\r\n",
        b"+OK ready\r\n",
        b"+OK <1@pop.example.com>\r\n",
        b"-ERR\r\n",
        b"-ERR [AUTH] no\r\n",
        b"-ERR [SYS/TEMP] later\r\n",
        b"-ERR you sent " + PASSWORD.encode() + b"\r\n",
        b"+OK\r\n.\r\n",
        b"+OK\r\nUSER\r\nSTLS\r\nPIPELINING\r\n.\r\n",
        b"+OK\r\nSASL PLAIN LOGIN CRAM-MD5 SCRAM-SHA-256\r\nUTF8 USER\r\n.\r\n",
        b"+OK\r\nSASL OAUTHBEARER XOAUTH2\r\n.\r\n",
        b"+\r\n",
        b"+ " + base64.b64encode(b"<1@pop.example.com>") + b"\r\n",
        b"+ " + base64.b64encode(PASSWORD.encode()) + b"\r\n",
        b"+ not base64\r\n",
        b"\r\n",
        b"what?\r\n",
        b"\x16\x03\x01\x00\x05hello",
        b"",
    ]
)


class LoginTests(SynchronousTestCase):
    """
    Any answers to a login.
    """

    def play(self, greeting: bytes, answers: list[bytes], **options: Any) -> bytes:
        """
        Return all that was heard.
        """
        secrecy = Secrecy()
        server = Server()
        opening = server.open(
            password=PASSWORD, stsproc=secrecy.shown.append, **options
        )
        outcomes: list[Any] = []
        opening.addBoth(outcomes.append)
        server.say(greeting)
        heard = b""
        for answer in answers:
            heard += server.heard()
            server.say(answer)
        heard += server.heard()
        server.clock.advance(100)
        server.lose()
        server.settle()
        self.assertEqual(len(outcomes), 1)
        (outcome,) = outcomes
        if isinstance(outcome, Handle):
            asked = outcome.noop()
            secrecy.error(self.failureResultOf(asked, POP3Error).value)
        else:
            self.assertIsInstance(outcome.value, POP3Error)
            secrecy.error(outcome.value)
        self.assertEqual(server.clock.getDelayedCalls(), [])
        secrecy.check()
        return heard

    @settings(max_examples=EXAMPLES or 300, **COMMON)
    @given(ANSWERS, st.lists(ANSWERS, max_size=12), st.booleans())
    def test_random_login_replies_give_one_outcome_and_leak_no_secret(
        self, greeting: bytes, answers: list[bytes], u: bool
    ) -> None:
        self.play(greeting, answers, utf8=u)

    @settings(max_examples=EXAMPLES or 300, **COMMON)
    @given(ANSWERS, st.lists(ANSWERS, max_size=12))
    def test_password_is_never_sent_unprotected_if_that_is_forbidden(
        self, greeting: bytes, said: list[bytes]
    ) -> None:
        for options in ({"allow_cleartext": False}, {"secure": 2, "verify": False}):
            heard = self.play(greeting, said, **options)
            for form in FORMS:
                self.assertNotIn(form.encode(), heard)
            self.assertNotIn(base64.b64encode(PASSWORD.encode()), heard)
