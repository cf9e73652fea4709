"""
Keys of an account about TLS, pins and master users.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from pop3connect import TLSOptions, UsageError
from pop3connect.collect.config import check_config
from pop3connect.collect.settings import AccountSettings, DestinationSettings

from .engine import EngineTestCase
from .test_config import GOOD, ConfigTestCase

PIN = f"sha256//{'A' * 43}="
OTHER_PIN = f"sha256//{'B' * 42}A="


def account(**more: Any) -> AccountSettings:
    values = {"name": "ann", "server": "pop.example.com", "user": "boss"}
    return AccountSettings(**{**values, "password": "looking-glass", **more})


class KeyTests(ConfigTestCase):
    def test_keys_become_options_of_the_connector(self) -> None:
        config = self.read(
            GOOD + f'pins = ["{PIN}", "{OTHER_PIN}"]\ncrl = "tls/revoked.pem"\n'
            'tls_minimum_version = "TLSv1.3"\ntls_ciphers = "ECDHE+AESGCM"\n'
        )
        options = config.accounts[0].options
        self.assertEqual(options["pins"], (PIN, OTHER_PIN))
        self.assertEqual(
            options["tls"],
            TLSOptions(
                minimum_version="TLSv1.3",
                ciphers="ECDHE+AESGCM",
                crl=self.file.absolute().parent / "tls/revoked.pem",
            ),
        )

    def test_without_keys_there_are_no_options(self) -> None:
        """So that they are not refused for an account without TLS."""
        options = self.read(GOOD).accounts[0].options
        self.assertIsNone(options["tls"])
        self.assertIsNone(options["pins"])

    def test_pins_may_stand_above_the_accounts_and_be_one_text(self) -> None:
        config = self.read(f'pins = "{PIN}"\n' + GOOD)
        self.assertEqual(config.accounts[0].pins, (PIN,))

    def test_value_that_cannot_be_used_names_key_and_remedy(self) -> None:
        for line, *told in (
            ("pins = []", "pins is empty", "leave the option out"),
            ('pins = ["x"]', "pins: 'x' is not a pin", "sha256//"),
            ("pins = 7", "pins must be a list"),
            ('tls_minimum_version = "TLSv1.1"', "tls_minimum_version must be", "1.2"),
            ("tls_minimum_version = 1.3", "tls_minimum_version must be"),
            ("tls_ciphers = 7", "tls_ciphers must be one line of text"),
            ('crl = ""', "crl must be a path"),
            ('authorize_as = ""', "authorize_as must be one line of text"),
            (
                'authorize_as = "bob"\nauth = "LOGIN"',
                "authorize_as cannot be used with LOGIN",
                "PLAIN",
            ),
        ):
            error = self.refused(GOOD + line)
            for words in ("account ann: ", *told):
                self.assertIn(words, error)

    def test_mailbox_of_another_belongs_to_one_account(self) -> None:
        error = self.refused('authorize_as = "bob"\n' + GOOD)
        self.assertIn("authorize_as belongs to one account", error)

    def test_check_names_files_and_ciphers_that_cannot_be_used(self) -> None:
        for line, told in (
            ('crl = "missing.pem"', "missing.pem cannot be read"),
            ('tls_ciphers = "NO-SUCH-SUITE"', "NO-SUCH-SUITE"),
            ('secure = "none"\npins = ["' + PIN + '"]', "pins is of no use"),
        ):
            config = self.read(GOOD + line)
            error = self.assertRaises(UsageError, check_config, config)
            self.assertIn("account ann: ", str(error))
            self.assertIn(told, str(error))


class MailboxTests(EngineTestCase):
    """
    The mailbox is that of ``authorize_as``, whoever logs in.
    """

    def test_path_has_the_owner_of_the_mailbox_as_user(self) -> None:
        """Else the mail of all that a master user opens would go to one place."""
        box = DestinationSettings(name="box", kind="maildir", path="/mail/{user}")
        for options, user in (({}, "boss"), ({"authorize_as": "bob"}, "bob")):
            self.assertEqual(box.path_for(account(**options)), Path("/mail") / user)

    def test_login_carries_it(self) -> None:
        """The server in memory offers nothing without TLS that could."""
        self.maildir()
        self.serve()
        self.account(authorize_as="bob")
        self.assertIn("authorize_as needs a mechanism", str(self.once().error))

    def test_journal_keeps_the_owner_of_the_mailbox(self) -> None:
        """An account that gets another one has moved, whoever logs in."""
        self.maildir()
        self.serve()
        for options, user in (({}, "ada"), ({"authorize_as": "bob"}, "bob")):
            self.account(**options)
            self.once()
            database = self.root / "state" / "collect.db"
            with closing(sqlite3.connect(database)) as journal:
                [(found,)] = journal.execute("SELECT username FROM account")
            self.assertEqual(found, user)
