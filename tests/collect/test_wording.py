"""`pop3connect.collect.wording`."""

from __future__ import annotations

import attrs
from twisted.trial.unittest import SynchronousTestCase

from pop3connect import CommandError, UsageError
from pop3connect.collect.settings import AccountSettings
from pop3connect.collect.wording import words
from pop3connect.remedies import USE_TLS, Option, Remedy


class WordsTests(SynchronousTestCase):
    def test_options_of_connect_are_shown_as_keys_of_the_configuration(self) -> None:
        for option, shown in (
            (Option("secure", 1), 'secure = "tls"'),
            (Option("secure", 2), 'secure = "stls"'),
            (Option("auth", "XOAUTH2"), 'auth = "XOAUTH2"'),
            (Option("capa", False), "capa = false"),
            (Option("system_trust", True), "system_trust = true"),
            (Option("cacerts"), "cacerts"),
        ):
            error = UsageError("no", remedy=Remedy("set {}", (option,)))
            self.assertEqual(words(error), f"no; set {shown}")
            self.assertIn(option.name, attrs.fields_dict(AccountSettings))

    def test_remedy_that_no_key_can_follow_is_left_out(self) -> None:
        error = UsageError("no", remedy=Remedy("set {}", (Option("utf8", True),)))
        self.assertEqual(words(error), "no")
        self.assertEqual(
            words(UsageError("clear", remedy=USE_TLS)),
            'clear; set secure = "tls" or secure = "stls"',
        )

    def test_text_of_a_server_is_one_line(self) -> None:
        self.assertEqual(words(CommandError("a\r\n\x1bb")), "a\\r\\n\\x1bb")
        self.assertEqual(words(OSError(2, "No such\nfile")), "[Errno 2] No such\\nfile")
        self.assertEqual(words(ValueError()), "ValueError")
