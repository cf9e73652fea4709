"""What a change of state leaves behind: started_tls(), close(), a refused verb."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pop3connect import UsageError
from pop3connect.sansio.commands import Noop, Retrieve
from pop3connect.sansio.dialogue import Dialogue
from pop3connect.sansio.events import Kind

from .owner import FOREVER, asked, logged_in, said


class TransitionTests(SynchronousTestCase):
    """A dialogue that changes its state while something is half done"""

    def test_greeting_begun_in_the_clear_is_forgotten_when_tls_starts(self) -> None:
        for begun in (b"+", b"+OK injected", b"+OK injected\r"):
            dialogue = Dialogue()
            dialogue.receive(begun)
            self.assertEqual(dialogue.rest, begun)
            dialogue.started_tls()
            self.assertEqual(dialogue.rest, b"")
            self.assertEqual(
                said(dialogue, b"+OK ready\r\n"), [(Kind.GREETED, b"+OK ready")]
            )

    def test_exchange_dropped_after_close_in_the_middle_of_its_body_fails_once(
        self,
    ) -> None:
        dialogue, [retr] = logged_in(Retrieve(1))
        said(dialogue, b"+OK\r\nSubject: x\r\n" + b"y" * 10_000)
        self.assertTrue(dialogue.in_transfer(retr))
        dialogue.close(FOREVER)
        dialogue.drop(retr)
        self.assertEqual(list(dialogue.events), [(Kind.FAILED, retr, FOREVER)])
        self.assertFalse(dialogue.in_transfer(retr))

    def test_verb_refused_by_the_state_says_that_it_is_not_possible(self) -> None:
        dialogue = Dialogue()
        with self.assertRaises(UsageError) as caught:
            dialogue.enqueue("NOOP", [asked(Noop())])
        self.assertIn("NOOP is not possible now", str(caught.exception))
        self.assertEqual(caught.exception.verb, "NOOP")
