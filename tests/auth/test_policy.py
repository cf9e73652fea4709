"""The login policy: what can be asked for.  What is taken: `test_dialogues`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pop3connect import UsageError
from pop3connect.auth.policy import check_auth
from pop3connect.auth.sasl import MECHANISMS


class CheckAuthTests(SynchronousTestCase):
    """`check_auth`"""

    def test_known_names_are_accepted_in_any_case(self) -> None:
        for auth, name in [
            ("auto", "auto"),
            ("AUTO", "auto"),
            ("user", "USER"),
            ("Apop", "APOP"),
            ("PLAIN", "PLAIN"),
            ("plain", "PLAIN"),
        ]:
            self.assertEqual(check_auth(auth), name)
        for name in MECHANISMS:
            self.assertEqual(check_auth(name.lower()), name)

    def test_unknown_names_are_refused_with_a_list_of_the_choices(self) -> None:
        for auth in ("", "PASS", "PLAIN\r\n", " PLAIN", "NTLM-X", None, 1, b"PLAIN"):
            with self.assertRaises(UsageError) as caught:
                check_auth(auth)
            text = str(caught.exception)
            self.assertIn(repr(auth), text)
            for name in ("'auto'", "USER", "APOP", *MECHANISMS):
                self.assertIn(name, text)
