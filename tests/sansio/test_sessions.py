"""Random sessions, against a dialogue that reads line by line: slow, and plain."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pop3connect.sansio.commands import (
    Capa,
    Command,
    Dele,
    List,
    Noop,
    Pass,
    Quit,
    Retrieve,
    Stls,
    User,
)

from ..support.examples import COMMON, EXAMPLES
from .sessions import AFTER_LOGIN, BEFORE_LOGIN, REPLIES, Action, Script, difference

GREETINGS = [
    *([b"+OK ready\r\n"] * 12),
    *(b"-ERR busy\r\n", b"+OK\r\n+OK forged\r\n", b"+OK\r\n\r", b"* OK IMAP\r\n"),
    *(b"\x16\x03\x01\x00", b"+OK\n", b"", b"\r\n", b"x" * 17_000, b"-ERR\r\nx"),
]

TAILS = [b"", b"", b"\r\n", b"\r", b"+OK forged\r\n", b"x", b"\r\n\r\n+OK\r\n", b"\n"]


@st.composite
def scripts(draw: st.DrawFn) -> Script:
    logged_in = draw(st.integers(0, 3)) > 0
    commands = st.sampled_from(AFTER_LOGIN if logged_in else BEFORE_LOGIN)
    asks = st.builds(Action, st.sampled_from(["ask", "ask with a sink"]), commands)
    asks = asks.map(_with_a_body)
    actions = (
        asks
        | st.builds(Action, st.just("drop"), st.integers(0, 8))
        | st.builds(Action, st.sampled_from(["drop", "close"]), st.just(0))
    )
    return Script(
        commands=draw(st.lists(asks, max_size=8)),
        actions=draw(
            st.dictionaries(
                st.integers(0, 8), st.lists(actions, max_size=3), max_size=3
            )
        ),
        greeting=draw(st.sampled_from(GREETINGS)),
        choices=draw(st.lists(st.integers(0, REPLIES - 1), min_size=1, max_size=12)),
        sizes=draw(
            st.lists(
                st.sampled_from([0, 0, 1, 2, 3, 5, 8, 40, 500, 8000, 8192, 10_000]),
                min_size=1,
                max_size=6,
            )
        ),
        tail=draw(st.sampled_from(TAILS)),
        logged_in=logged_in,
        pipelining=draw(st.booleans()),
        listening=draw(st.booleans()),
        max_message_size=draw(st.sampled_from([None, None, 25, 8192, 10_000])),
        max_listing=draw(st.sampled_from([1000, 1000, 1, 2, 598])),
    )


def _with_a_body(action: Action) -> Action:
    """Give a sink to messages only."""
    return action if action.about.verbatim else Action("ask", action.about)


def asks(*commands: Command[Any]) -> list[Action]:
    return [Action("ask", command) for command in commands]


class SessionTests(SynchronousTestCase):
    """`Dialogue` against `Reference`"""

    @settings(max_examples=EXAMPLES or 300, **COMMON)
    @given(scripts())
    def test_any_session_goes_as_in_the_reference(self, script: Script) -> None:
        self.assertEqual(difference(script), None, script)

    def test_ordinary_sessions_go_as_in_the_reference_in_chunks_of_any_size(
        self,
    ) -> None:
        login = asks(Capa(), Stls(), Capa(), User("ada"), Pass("x"), Quit())
        mail = asks(List(), Retrieve(1), Dele(1), Retrieve(2), Noop(), Quit())
        for size in (0, 1, 3, 7, 64, 1000):
            for pipelining in (False, True):
                for choice in range(0, REPLIES, 1 if EXAMPLES else 3):
                    for commands in (login, mail):
                        script = Script(
                            commands,
                            choices=(choice, 1, 2),
                            sizes=(size,),
                            logged_in=commands is mail,
                            pipelining=pipelining,
                            listening=True,
                        )
                        self.assertEqual(difference(script), None, script)

    def test_command_removed_before_it_was_sent_has_no_outcome_at_the_end(
        self,
    ) -> None:
        capa = Action("ask", Capa())
        # The last outcome must not be followed by one of the command that was removed.
        script = Script(
            [capa] * 4,
            actions={0: [Action("drop", 2), capa], 4: [capa]},
            logged_in=False,
        )
        self.assertEqual(difference(script), None)
