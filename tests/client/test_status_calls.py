"""
What a program may do from within its status procedure: anything, at every line.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from pop3connect import CommandError, Committed, ConnectionLostError, Handle
from pop3connect.testing import MailboxServer

from ..support.acting import (
    MESSAGES,
    PROTECTIONS,
    Acting,
    Keeping,
    MailboxTestCase,
    StepClock,
    each_line,
)
from ..support.memory import SessionTestCase


def body(octets: int) -> str:
    """
    Return the line that tells of a body.
    """
    return f"S: ({octets} octets)"


COMMANDS: dict[str, Callable[[Handle], Deferred[Any]]] = {
    "STAT": lambda handle: handle.stat(),
    "LIST": lambda handle: handle.list(),
    "LIST 2": lambda handle: handle.size(2),
    "UIDL": lambda handle: handle.uidl(),
    "UIDL 2": lambda handle: handle.uid(2),
    "RETR 2": lambda handle: handle.retrieve(2),
    "RETR 3": lambda handle: handle.retrieve(3, Keeping()),
    "TOP 2 1": lambda handle: handle.top(2, 1),
    "DELE 5": lambda handle: handle.delete(5),
    "DELE 9": lambda handle: handle.delete(9),
    "RSET": lambda handle: handle.reset(),
    "NOOP": lambda handle: handle.noop(),
    "CAPA": lambda handle: handle.capa(),
    "LANG en": lambda handle: handle.lang("en"),
    "LANG": lambda handle: handle.lang(),
    "XTRA": lambda handle: handle.uid(99),
}
"""What each sends, more or less, and the call that sends it."""

REFUSED = ("DELE 9", "LANG en", "LANG", "XTRA")
"""The mailbox server does not know these."""

RESULTS: dict[str, Callable[[Any], bool]] = {
    "STAT": lambda stat: stat.count == len(MESSAGES),
    "LIST": lambda rows: len(rows) == len(MESSAGES),
    "LIST 2": lambda size: size == len(MESSAGES[1]),
    "UIDL": lambda rows: len(rows) == len(MESSAGES) and hasattr(rows[0], "uid"),
    "UIDL 2": lambda uid: isinstance(uid, str) and bool(uid),
    "RETR 2": lambda content: content == MESSAGES[1],
    "RETR 3": lambda octets: octets == len(MESSAGES[2]),
    "TOP 2 1": lambda top: top == MESSAGES[1].partition(b".text")[0] + b".text\r\n",
    "DELE 5": lambda none: none is None,
    "RSET": lambda none: none is None,
    "NOOP": lambda none: none is None,
    "CAPA": lambda capabilities: "UIDL" in capabilities,
}
"""Whether a result is that of the command, and of no other."""


class SubmittingTests(MailboxTestCase):
    """
    Commands that are submitted from within the status procedure.
    """

    def check(self, name: str, outcome: Any) -> None:
        if name in REFUSED:
            self.assertIsInstance(outcome, CommandError, name)
        else:
            self.assertTrue(RESULTS[name](outcome), f"{name}: {outcome!r}")

    def assertOrder(self, server: MailboxServer, acting: Acting) -> None:
        """
        Check that the server heard the commands in the order of the transcript.
        """
        told = [line[3:] for line in acting.lines if line.startswith("C: ")]
        heard = [line.replace("lovelace", "********") for line in server.heard]
        self.assertEqual(heard, told)

    def run_all(self, inner: str, at: int, **options: Any) -> Acting:
        """
        Send each command, and one more at a line.
        """
        server = self.serve()
        acting = Acting()
        handle = self.open(server, stsproc=acting, auth="USER", **options)
        more: list[Deferred[Any]] = []
        acting.at = len(acting.lines) + at
        acting.act = lambda: more.append(COMMANDS[inner](handle))
        asked = [
            (name, command(handle))
            for name, command in COMMANDS.items()
            # With these the other results would depend on the order.
            if name not in ("DELE 5", "RSET")
        ]
        server.flush()
        for name, deferred in asked:
            self.check(name, self.outcome(deferred))
        for deferred in more:
            self.check(inner, self.outcome(deferred))
        self.assertEqual(len(more), acting.acted)
        if not acting.acted:
            acting.at = -1
        self.assertOrder(server, acting)
        ending = handle.disconnect()
        server.flush()
        self.successResultOf(ending)
        self.assertNothingLeft(server)
        return acting

    def test_command_submitted_at_any_line_gets_its_own_reply(self) -> None:
        for options in ({}, {"pipeline": False}):
            for inner in ("NOOP", "RETR 2", "LIST", "DELE 9"):
                lines = list(
                    each_line(
                        lambda at, inner=inner, options=options: self.run_all(  # type: ignore[misc]
                            inner, at, **options
                        )
                    )
                )
                self.assertGreater(len(lines), 30)

    def test_command_submitted_as_dele_is_sent_leaves_the_refusal_with_dele(
        self,
    ) -> None:
        """The report of deletions is right, whatever was submitted meanwhile."""
        for inner, command in COMMANDS.items():
            server = self.serve()
            acting = Acting()
            handle = self.open(server, stsproc=acting)
            more: list[Deferred[Any]] = []
            acting.at = len(acting.lines)
            acting.act = lambda command=command, handle=handle, more=more: more.append(  # type: ignore[misc]
                command(handle)
            )
            deleting = handle.delete(9)
            server.flush()
            self.assertEqual(acting.lines[acting.at], "C: DELE 9")
            self.assertIsInstance(self.outcome(deleting), CommandError)
            (deferred,) = more
            self.check(inner, self.outcome(deferred))
            ending = handle.disconnect()
            server.flush()
            expected = {5} if inner == "DELE 5" else set()
            self.assertEqual(self.successResultOf(ending), Committed(expected))
            self.assertEqual(len(server.messages), len(MESSAGES) - len(expected))

    def test_disconnect_at_any_line_lets_earlier_commands_finish(self) -> None:
        def run(at: int) -> Acting:
            server = self.serve()
            acting = Acting()
            handle = self.open(server, stsproc=acting, auth="USER")
            endings: list[Deferred[Committed]] = []
            acting.at = len(acting.lines) + at
            acting.act = lambda: endings.append(handle.disconnect())
            asked = [handle.delete(1), handle.retrieve(2), handle.delete(9)]
            server.flush()
            if acting.acted:
                outcomes = [self.outcome(each) for each in asked]
                (ending,) = endings
                committed = self.outcome(ending)
                self.assertEqual(
                    committed, Committed({1} if outcomes[0] is None else set())
                )
                self.assertEqual(
                    len(server.messages), len(MESSAGES) - len(committed.deleted)
                )
            else:
                for each in asked:
                    self.outcome(each)
                handle.abort()
            self.assertOrder(server, acting)
            self.assertNothingLeft(server)
            return acting

        self.assertGreater(len(list(each_line(run))), 5)


class AbortingTests(MailboxTestCase):
    """
    ``abort()`` from within the status procedure.
    """

    def test_no_command_succeeds_if_any_of_its_lines_aborts(self) -> None:
        """
        Each line comes before the result it belongs to, so nothing can succeed.
        """
        for name in ("plain", "TLS", "STLS"):
            for sent, command in COMMANDS.items():
                aborted = list(
                    each_line(
                        lambda at, name=name, command=command: self.abort_at(  # type: ignore[misc]
                            name, command, at
                        )
                    )
                )
                # What was sent, the status line, and what may follow.
                bodies = ("LIST", "UIDL", "RETR 2", "RETR 3", "TOP 2 1", "CAPA")
                self.assertEqual(len(aborted), 3 if sent in bodies else 2, sent)

    def abort_at(
        self, name: str, command: Callable[[Handle], Deferred[Any]], at: int
    ) -> Acting:
        server = self.serve(name=name)
        acting = Acting()
        handle = self.open(server, name, stsproc=acting)
        acting.at = len(acting.lines) + at
        closed: list[Deferred[None]] = []
        acting.act = lambda: closed.append(handle.abort())
        deferred = command(handle)
        behind = handle.noop() if at == 0 else None
        server.flush()
        if acting.acted:
            self.assertIsInstance(self.outcome(deferred), ConnectionLostError)
            if behind is not None:
                self.assertIsInstance(self.outcome(behind), ConnectionLostError)
            self.successResultOf(closed[0])
            self.assertEqual(acting.lines[acting.at + 1 :], [])
            after = handle.stat()
            self.assertIsInstance(self.outcome(after), ConnectionLostError)
        else:
            self.outcome(deferred)
            closed.append(handle.abort())
        self.assertNothingLeft(server)
        return acting

    def test_no_earlier_result_is_lost_and_no_later_one_succeeds(self) -> None:
        """Many in one chunk: the line decides, not the chunk."""

        def run(at: int) -> Acting:
            server = self.serve()
            acting = Acting()
            handle = self.open(server, stsproc=acting)
            ended: list[Deferred[None]] = []
            acting.at = len(acting.lines) + at
            acting.act = lambda: ended.append(handle.abort())
            outcomes: list[tuple[str, bool, bool]] = []

            def done(outcome: Any, name: str) -> None:
                error = getattr(outcome, "value", None)
                lost = isinstance(error, ConnectionLostError)
                outcomes.append((name, lost, bool(ended)))

            for name, command in COMMANDS.items():
                command(handle).addBoth(done, name)
            server.flush()
            self.assertEqual([name for name, _, _ in outcomes], list(COMMANDS))
            for name, lost, after in outcomes:
                self.assertEqual(lost, after, name)
            handle.abort()
            self.assertNothingLeft(server)
            return acting

        self.assertGreater(len(list(each_line(run))), 30)

    def test_abort_in_the_callback_of_any_command_fails_the_later_ones(self) -> None:
        for name in ("plain", "TLS", "STLS"):
            for aborting in COMMANDS:
                server = self.serve(name=name)
                handle = self.open(server, name)
                lost: dict[str, bool] = {}
                order: list[str] = []

                def done(
                    outcome: Any,
                    sent: str,
                    handle: Handle = handle,
                    lost: dict[str, bool] = lost,
                    order: list[str] = order,
                    aborting: str = aborting,
                ) -> None:
                    error = getattr(outcome, "value", None)
                    lost[sent] = isinstance(error, ConnectionLostError)
                    order.append(sent)
                    if sent == aborting:
                        handle.abort()

                for sent, command in COMMANDS.items():
                    command(handle).addBoth(done, sent)
                server.flush()
                self.assertEqual(order, list(COMMANDS))
                at = order.index(aborting)
                self.assertEqual(
                    list(lost.values()),
                    [False] * (at + 1) + [True] * (len(order) - at - 1),
                )
                self.assertNothingLeft(server)

    def test_messages_yields_nothing_after_an_abort_but_what_came_before(self) -> None:
        def run(at: int) -> Acting:
            server = self.serve()
            acting = Acting()
            handle = self.open(server, stsproc=acting)
            begin = len(acting.lines)
            acting.at = begin + at
            acting.act = handle.abort
            seen: list[Any] = []

            async def read() -> None:
                async for message in handle.messages():
                    seen.append(message.content)

            reading = Deferred.fromCoroutine(read())
            server.flush()
            outcome = self.outcome(reading)
            if acting.acted:
                self.assertIsInstance(outcome, ConnectionLostError)
                bodies = [
                    line
                    for line in acting.lines[begin:]
                    if line.startswith("S: (") and line != body(sum(map(len, LIST)))
                ]
                # The line that aborts belongs to a message that is not handed out.
                here = acting.lines[-1].startswith("S: (")
                self.assertEqual(
                    seen, list(MESSAGES[: max(len(bodies) - here, 0)]), acting.lines
                )
            else:
                self.assertIsNone(outcome)
                handle.abort()
            self.assertNothingLeft(server)
            return acting

        self.assertGreater(len(list(each_line(run))), 15)

    def test_disconnect_fails_if_a_line_of_quit_aborts(self) -> None:
        def run(at: int) -> Acting:
            server = self.serve()
            acting = Acting()
            handle = self.open(server, stsproc=acting)
            deleting = handle.delete(1)
            server.flush()
            self.successResultOf(deleting)
            acting.at = len(acting.lines) + at
            acting.act = handle.abort
            ending = handle.disconnect()
            server.flush()
            if acting.acted:
                self.assertIsInstance(self.outcome(ending), ConnectionLostError)
            else:
                self.assertEqual(self.outcome(ending), Committed({1}))
            self.assertNothingLeft(server)
            return acting

        self.assertEqual(len(list(each_line(run))), 2)


LIST = [b"%d %d\r\n" % (number, len(text)) for number, text in enumerate(MESSAGES, 1)]
"""The body of LIST."""


class CancellingConnectTests(MailboxTestCase):
    """
    Cancelling ``connect()`` from within the status procedure.
    """

    def cancel_at(self, name: str, at: int, **options: Any) -> Acting:
        (secure,) = [each for known, _, each in PROTECTIONS if known == name]
        server = self.serve(name=name)
        acting = Acting(at, lambda: opening.cancel())
        outcomes: list[Any] = []
        opening = server.connect(stsproc=acting, **secure, **options)
        opening.addBoth(outcomes.append)
        server.flush()
        self.assertEqual(len(outcomes), 1)
        before_login = 2 if name == "STLS" else 1
        if acting.acted and acting.lines.count("C: CAPA") <= before_login:
            self.assertIsInstance(outcomes[0].value, CancelledError, acting.lines)
            self.assertEqual(len(acting.lines), at + 1)
        else:
            # The CAPA after the login belongs to the session.
            self.assertIsInstance(outcomes[0], Handle)
            outcomes[0].abort()
            server.flush()
        self.assertNothingLeft(server)
        self.assertEqual(server._factory.connections, set())  # type: ignore[attr-defined]
        self.assertEqual(self.flushLoggedErrors(), [])
        return acting

    def test_connect_cancelled_at_any_line_fails_and_leaves_nothing(self) -> None:
        for name, lines in (("plain", 9), ("TLS", 10), ("STLS", 14)):
            # The timestamp for APOP would come in the clear before STLS.
            for auth in ("USER", "PLAIN", "auto", *(["APOP"] * (name != "STLS"))):
                cancelled = list(
                    each_line(
                        lambda at, name=name, auth=auth: self.cancel_at(  # type: ignore[misc]
                            name, at, auth=auth
                        )
                    )
                )
                self.assertGreaterEqual(len(cancelled), lines, (name, auth))

    def test_connect_cancelled_at_any_turn_fails_and_leaves_nothing(self) -> None:
        """Also in the middle of the handshake, and where no line is told."""
        for name, _, secure in PROTECTIONS:
            turns = 0
            while True:
                clock = StepClock()
                server = self.serve(name=name, clock=clock)
                opening = server.connect(**secure)
                for _turn in range(turns):
                    clock.step()
                if opening.called:
                    handle = self.successResultOf(opening)
                    handle.abort()
                    break
                opening.cancel()
                server.flush()
                self.failureResultOf(opening, CancelledError)
                self.assertNothingLeft(server)
                turns += 1
            self.assertNothingLeft(server)
            self.assertGreaterEqual(turns, 5, name)

    def test_connect_cancelled_in_the_password_callable_leaves_nothing(self) -> None:
        for name, _, secure in PROTECTIONS:
            server = self.serve(name=name)

            openings: list[Deferred[Handle]] = []

            def password(openings: list[Deferred[Handle]] = openings) -> str:
                openings[0].cancel()
                return "lovelace"

            openings.append(server.connect(password=password, **secure))
            server.flush()
            self.failureResultOf(openings[0], CancelledError)
            self.assertNothingLeft(server)

    def test_connect_cancelled_while_the_password_is_awaited_leaves_nothing(
        self,
    ) -> None:
        for name, _, secure in PROTECTIONS:
            server = self.serve(name=name)
            never: Deferred[str] = Deferred()
            opening = server.connect(password=lambda never=never: never, **secure)  # type: ignore[misc]
            server.flush()
            self.assertNoResult(opening)
            opening.cancel()
            server.flush()
            self.failureResultOf(opening, CancelledError)
            self.assertNothingLeft(server)


class OrderTests(SessionTestCase):
    """
    The status procedure hears of everything in order, just before what comes of it.
    """

    def test_lines_precede_the_results_they_belong_to(self) -> None:
        handle = self.log_in("PIPELINING")
        self.status.clear()
        consumer = Keeping()
        for name, asked in (
            ("stat", handle.stat()),
            ("retrieve", handle.retrieve(1)),
            ("stream", handle.retrieve(2, consumer)),
            ("list", handle.list()),
            ("refused", handle.delete(3)),
        ):
            asked.addBoth(lambda _, name=name: self.status.append(f"[{name}]"))
        expected = [
            "S: +OK 2 320",
            "[stat]",
            "S: +OK one",
            body(6),
            "[retrieve]",
            "S: +OK two",
            body(5),
            "[stream]",
            "S: +OK",
            body(7),
            "[list]",
            "S: -ERR no",
            "[refused]",
        ]
        heard = [
            b"+OK 2 320\r\n",
            b"+OK one\r\n",
            b"..a",
            b"bc\r\n.\r\n",
            b"+OK two\r\nabc\r\n.\r\n+OK\r\n1 ",
            b"200\r\n.\r\n-ERR no\r\n",
        ]
        self.server.heard()
        self.assertEqual(
            self.status,
            ["C: STAT", "C: RETR 1", "C: RETR 2", "C: LIST", "C: DELE 3"],
        )
        self.status.clear()
        for chunk in heard:
            self.server.say(chunk)
        self.assertEqual(self.status, expected)

    def test_order_is_the_same_for_every_cut_of_the_replies(self) -> None:
        stream = (
            b"+OK 2 320\r\n+OK one\r\n..abc\r\n.\r\n+OK two\r\nabc\r\n.\r\n-ERR no\r\n"
        )
        told: list[list[str]] = []
        for size in (*range(1, 12), len(stream)):
            handle = self.log_in("PIPELINING")
            del self.status[:]
            for name, asked in (
                ("stat", handle.stat()),
                ("retrieve", handle.retrieve(1)),
                ("stream", handle.retrieve(2, Keeping())),
                ("refused", handle.delete(3)),
            ):
                asked.addBoth(lambda _, name=name: self.status.append(f"[{name}]"))
            self.server.heard()
            self.server.say(stream, size=size)
            told.append(self.status)
            self.anew()
        self.assertEqual(len(told[0]), 4 + 6 + 4)
        for other in told:
            self.assertEqual(other, told[0])


class DroppingTests(SessionTestCase):
    """
    A reply that was parsed and not delivered.
    """

    def test_retrieve_cancelled_by_an_earlier_callback_is_dropped(self) -> None:
        """
        Its reply was in the same chunk, wholly parsed: the session goes on.
        """
        for listening in (None, self.status.append):
            for ask in (
                lambda handle: handle.retrieve(2),
                lambda handle: handle.top(2),
                lambda handle: handle.list(),
                lambda handle: handle.retrieve(2, Keeping()),
            ):
                handle = self.log_in("PIPELINING", stsproc=listening)
                first, second, third = handle.noop(), ask(handle), handle.stat()
                first.addCallback(lambda _, second=second: second.cancel())
                self.server.heard()
                self.server.say(b"+OK\r\n+OK\r\n1 2\r\n.\r\n+OK 2 320\r\n")
                self.result(first)
                self.error(second, CancelledError)
                self.assertEqual(self.result(third), (2, 320))
                self.assertIdle()
                self.anew()

    def test_retrieve_cancelled_at_its_own_line_is_dropped(self) -> None:
        for line in ("S: +OK two", body(5)):
            asked: list[Deferred[bytes]] = []

            def cancel(told: str, line: str = line, asked: Any = asked) -> None:
                if told == line:
                    asked[0].cancel()

            handle = self.log_in("PIPELINING", stsproc=cancel)
            asked.append(handle.retrieve(2))
            behind = handle.stat()
            self.server.heard()
            self.server.say(b"+OK two\r\nabc\r\n.\r\n+OK 2 320\r\n")
            self.error(asked[0], CancelledError)
            self.assertEqual(self.result(behind), (2, 320))
            self.assertIdle()
            self.anew()

    def test_dele_cancelled_after_its_reply_was_parsed_counts_as_deleted(self) -> None:
        handle = self.log_in("PIPELINING")
        first, second = handle.noop(), handle.delete(2)
        first.addCallback(lambda _: second.cancel())
        self.server.heard()
        self.server.say(b"+OK\r\n+OK\r\n")
        self.result(first)
        self.error(second, CancelledError)
        ending = handle.disconnect()
        self.server.expect(b"QUIT", b"+OK\r\n")
        self.assertEqual(self.result(ending), Committed({2}))

    def test_capa_cancelled_after_its_reply_was_parsed_updates_capabilities(
        self,
    ) -> None:
        handle = self.log_in("PIPELINING")
        first, second = handle.noop(), handle.capa()
        first.addCallback(lambda _: second.cancel())
        self.server.heard()
        self.server.say(b"+OK\r\n+OK\r\nX-NEW\r\n.\r\n")
        self.result(first)
        self.error(second, CancelledError)
        self.assertIn("X-NEW", handle.capabilities)

    def test_capa_cancelled_before_its_reply_updates_capabilities(self) -> None:
        handle = self.log_in("PIPELINING")
        asked = handle.capa()
        self.server.heard()
        asked.cancel()
        self.error(asked, CancelledError)
        self.server.say(b"+OK\r\nX-NEW\r\n.\r\n")
        self.assertIn("X-NEW", handle.capabilities)
        self.assertIdle()

    def test_cancelling_ends_the_session_only_between_status_line_and_end_of_body(
        self,
    ) -> None:
        """A reply that was put by for the next chunk is in transfer, too."""
        status = b"+OK two\r\n"
        reply = status + b"abc\r\n.\r\n"
        for listening in (None, self.status.append):
            for destination in (None, Keeping):
                for cut in range(len(reply)):
                    handle = self.log_in("PIPELINING", stsproc=listening)
                    asked = handle.retrieve(2, destination and destination())  # type: ignore[arg-type]
                    behind = handle.stat()
                    self.server.heard()
                    self.server.say(reply[:cut])
                    asked.cancel()
                    self.error(asked, CancelledError)
                    if len(status) <= cut:
                        self.error(behind, ConnectionLostError)
                        self.assertClosed()
                    else:
                        self.server.say(reply[cut:] + b"+OK 2 320\r\n")
                        self.assertEqual(self.result(behind), (2, 320), cut)
                        self.assertIdle()
                    self.anew()
