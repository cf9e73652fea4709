"""The words for a session, and what each state allows."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pop3connect.address import Secure
from pop3connect.sansio import commands
from pop3connect.sansio.commands import Command
from pop3connect.sansio.states import ALLOWED, State


class SecureTests(SynchronousTestCase):
    """`Secure`"""

    def test_the_numbers_are_those_of_omnis(self) -> None:
        self.assertEqual(
            {way.name: way.value for way in Secure}, {"NONE": 0, "TLS": 1, "STLS": 2}
        )

    def test_plain_numbers_and_truth_values_are_taken_for_them(self) -> None:
        self.assertIs(Secure(0), Secure.NONE)
        self.assertIs(Secure(2), Secure.STLS)
        self.assertIs(Secure(False), Secure.NONE)
        self.assertIs(Secure(True), Secure.TLS)
        self.assertEqual(Secure.STLS, 2)

    def test_there_is_no_fourth_way(self) -> None:
        for number in (-1, 3):
            with self.assertRaises(ValueError):
                Secure(number)


class StateTests(SynchronousTestCase):
    """`State` and `ALLOWED`"""

    def test_the_states_are_those_of_the_rfc_and_what_is_around_them(self) -> None:
        self.assertEqual(
            [state.name for state in State],
            ["GREETING", "AUTHORIZATION", "TRANSACTION", "UPDATE", "CLOSED"],
        )

    def test_before_the_login_there_is_only_the_login(self) -> None:
        verbs = "APOP AUTH CAPA LANG PASS QUIT STLS USER UTF8"
        self.assertEqual(" ".join(sorted(ALLOWED[State.AUTHORIZATION])), verbs)

    def test_after_the_login_there_is_the_mailbox(self) -> None:
        verbs = "CAPA DELE LANG LIST NOOP QUIT RETR RSET STAT TOP UIDL"
        self.assertEqual(" ".join(sorted(ALLOWED[State.TRANSACTION])), verbs)

    def test_around_them_there_is_nothing(self) -> None:
        for state in (State.GREETING, State.UPDATE, State.CLOSED):
            self.assertEqual(ALLOWED[state], frozenset())

    def test_every_state_has_its_verbs(self) -> None:
        self.assertEqual(list(ALLOWED), list(State))

    def test_the_verbs_are_those_of_the_commands(self) -> None:
        classes = [getattr(commands, name) for name in commands.__all__]
        verbs = {
            kind.verb
            for kind in classes
            if issubclass(kind, Command) and kind is not Command
        }
        self.assertEqual(frozenset().union(*ALLOWED.values()), verbs)

    def test_the_table_cannot_be_changed(self) -> None:
        with self.assertRaises(TypeError):
            ALLOWED[State.CLOSED] = frozenset({"QUIT"})  # type: ignore[index]
        for verbs in ALLOWED.values():
            self.assertIsInstance(verbs, frozenset)
