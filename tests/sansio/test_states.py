"""The words for a session, and what each state allows."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pop3connect.address import Secure
from pop3connect.sansio import commands
from pop3connect.sansio.commands import Command
from pop3connect.sansio.states import ALLOWED, State

from ..support.shows import shows


class SecureTests(SynchronousTestCase):
    """`Secure`"""

    def test_secure_has_the_numbers_of_omnis(self) -> None:
        self.assertEqual(
            {way.name: way.value for way in Secure}, {"NONE": 0, "TLS": 1, "STLS": 2}
        )

    def test_plain_numbers_and_booleans_convert_to_secure(self) -> None:
        self.assertIs(Secure(0), Secure.NONE)
        self.assertIs(Secure(2), Secure.STLS)
        self.assertIs(Secure(False), Secure.NONE)
        self.assertIs(Secure(True), Secure.TLS)
        self.assertEqual(Secure.STLS, 2)

    def test_unknown_number_is_refused(self) -> None:
        for number in (-1, 3):
            with self.assertRaises(ValueError):
                Secure(number)


class StateTests(SynchronousTestCase):
    """`State` and `ALLOWED`"""

    def test_states_are_those_of_the_rfc_plus_greeting_and_closed(self) -> None:
        self.assertEqual(
            [state.name for state in State],
            ["GREETING", "AUTHORIZATION", "TRANSACTION", "UPDATE", "CLOSED"],
        )

    @shows(
        "RFC 1939-03",
        "MUST",
        "Send commands only in the state that allows them.",
        "A table lists the verbs of each state; any other is a ``UsageError``.",
    )
    def test_authorization_allows_only_verbs_valid_before_login(self) -> None:
        verbs = "APOP AUTH CAPA LANG PASS QUIT STLS USER UTF8"
        self.assertEqual(" ".join(sorted(ALLOWED[State.AUTHORIZATION])), verbs)

    @shows("RFC 1939-03")
    @shows("RFC 2595-04")
    @shows(
        "RFC 5034-07",
        "MUST",
        "No AUTH after a success; a failure leaves the state as it was.",
        "AUTH is not a verb of the state after the login. After a failure comes QUIT, "
        "the next mechanism if the credentials were not judged, or the one further "
        "attempt that :doc:`logging-in` lists.",
    )
    def test_transaction_allows_only_verbs_valid_after_login(self) -> None:
        verbs = "CAPA DELE LANG LIST NOOP QUIT RETR RSET STAT TOP UIDL"
        self.assertEqual(" ".join(sorted(ALLOWED[State.TRANSACTION])), verbs)

    def test_greeting_update_and_closed_allow_no_command(self) -> None:
        for state in (State.GREETING, State.UPDATE, State.CLOSED):
            self.assertEqual(ALLOWED[state], frozenset())

    def test_every_state_has_a_row_in_the_table(self) -> None:
        self.assertEqual(list(ALLOWED), list(State))

    def test_allowed_verbs_are_those_of_the_commands(self) -> None:
        exported = [getattr(commands, name) for name in commands.__all__]
        classes = [thing for thing in exported if isinstance(thing, type)]
        verbs = {
            kind.verb
            for kind in classes
            if issubclass(kind, Command)
            and isinstance(getattr(kind, "verb", None), str)
        }
        self.assertEqual(frozenset().union(*ALLOWED.values()), verbs)

    def test_table_is_read_only(self) -> None:
        with self.assertRaises(TypeError):
            ALLOWED[State.CLOSED] = frozenset({"QUIT"})  # type: ignore[index]
        for verbs in ALLOWED.values():
            self.assertIsInstance(verbs, frozenset)
