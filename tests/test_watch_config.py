"""The configuration of a watch: what it means, and what is said about a bad one."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from pop3connect import Secure, UsageError
from pop3connect.watch_config import WatchConfig, read_config

from .support.loopback import ROOT

TOP = 'state = "state"\n'

ACCOUNT = """
[[account]]
name = "ann"
server = "pop.example.com"
user = "ann@example.com"
"""

GOOD = TOP + ACCOUNT + 'password = "looking-glass"\n'


class ConfigTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        self.file = folder / "watch.toml"

    def read(self, text: str) -> WatchConfig:
        self.file.write_text(text, encoding="utf-8")
        return read_config(self.file)

    def refused(self, text: str) -> str:
        """Return what is said after the name of the file."""
        told = str(self.assertRaises(UsageError, self.read, text))
        self.assertTrue(told.startswith(f"{self.file}: "), told)
        self.assertNotIn("looking-glass", told)
        return told.removeprefix(f"{self.file}: ")


class GoodTests(ConfigTestCase):
    """What a good one means."""

    def test_minimal_file_gives_the_defaults(self) -> None:
        config = self.read(GOOD)
        [account] = config.accounts
        self.assertEqual(config.state, self.file.absolute().parent / "state")
        self.assertEqual(
            (account.name, account.server, account.user, account.mailbox),
            (
                "ann",
                "pop.example.com",
                "ann@example.com",
                "ann@example.com pop.example.com",
            ),
        )
        self.assertEqual(
            (account.secure, account.auth, account.cacerts, account.interval),
            (Secure.TLS, "auto", None, 300),
        )
        self.assertEqual(
            (account.hook, account.hook_timeout, account.report_existing),
            (None, 60, False),
        )
        self.assertEqual(account.password.key, "password")
        self.assertEqual(account.password.value, "looking-glass")

    def test_top_level_values_apply_unless_an_account_overrides_them(self) -> None:
        (self.file.parent / "ca").mkdir()
        config = self.read(
            TOP
            + 'server = "a.example"\nsecure = "stls"\ninterval = 60.5\n'
            + 'hook = ["./new", ""]\ncacerts = "ca"\n'
            + '[[account]]\nname = "1"\nuser = "u"\npassword_env = "SECRET"\n'
            + '[[account]]\nname = "2"\nuser = "v"\npassword_file = "/run/v"\n'
            + 'server = "b.example:1995"\nsecure = "none"\ninterval = 30\n'
            + 'auth = "user"\nhook = "pack.age:function"\nreport_existing = true\n'
        )
        one, two = config.accounts
        folder = self.file.absolute().parent
        self.assertEqual(
            (one.server, one.secure, one.interval, one.hook, one.cacerts),
            ("a.example", Secure.STLS, 60.5, ("./new", ""), folder / "ca"),
        )
        self.assertEqual(
            (two.server, two.secure, two.interval, two.hook, two.auth),
            ("b.example:1995", Secure.NONE, 30, "pack.age:function", "USER"),
        )
        self.assertEqual(two.password.value, Path("/run/v"))
        self.assertTrue(two.report_existing)
        self.assertEqual(config.password_variables, {"SECRET"})
        # Another port is the same mailbox.
        self.assertEqual(two.mailbox, "v b.example")

    def test_repr_shows_no_password(self) -> None:
        self.assertNotIn("looking-glass", repr(self.read(GOOD)))

    def test_example_file_is_valid(self) -> None:
        config = read_config(ROOT / "examples" / "watch.toml")
        self.assertEqual([each.name for each in config.accounts], ["support", "ada"])


class BadTests(ConfigTestCase):
    """What is said about a bad one: the account, the key, and what to do."""

    def test_missing_file_is_refused(self) -> None:
        told = str(self.assertRaises(UsageError, read_config, self.file))
        self.assertEqual(
            told, f"{self.file}: cannot be read: No such file or directory"
        )

    def test_file_that_is_not_utf_8_is_refused(self) -> None:
        self.file.write_bytes(b'a = "\xff"')
        told = str(self.assertRaises(UsageError, read_config, self.file))
        self.assertIn("octet 5 is not UTF-8", told)

    def test_file_that_is_not_toml_is_refused_with_its_line(self) -> None:
        told = self.refused(GOOD + "interval 30\n")
        self.assertIn("not TOML", told)
        self.assertIn("line 8", told)
        for hard in ("9" * 5000, "[" * 5000):
            self.assertIn("not TOML", self.refused(GOOD + f"interval = {hard}"))
        error = self.assertRaises(UsageError, self.read, GOOD + "interval 30\n")
        self.assertIsNone(error.__context__)  # it has the whole text in it

    def test_invalid_value_is_refused_with_account_and_key(self) -> None:
        """What a key cannot be."""
        for line, wanted in (
            ("interval = 29", "from 30 to 604800"),
            ("interval = 604801", "from 30 to 604800"),
            ("interval = nan", "from 30 to 604800"),
            ("interval = true", "from 30 to 604800"),
            ('interval = "60"', "no quotes"),
            ("hook_timeout = 0", "from 1 to 3600"),
            ('secure = "ssl"', '"tls" (port 995), "stls" or "none"'),
            ("secure = 1", '"tls"'),
            ("secure = []", '"tls"'),
            ('auth = "KERBEROS"', '"SCRAM-SHA-256"'),
            ('auth = "EXTERNAL"', "takes a password"),
            ("auth = 1", '"auto"'),
            ("hook = []", '["command", "argument"]'),
            ('hook = [""]', '["command", "argument"]'),
            ('hook = ["a", 1]', "text in quotes"),
            ('hook = ["a\\u0000"]', "without NUL"),
            ('hook = "new-mail"', "package.module:function"),
            ('hook = "a.b:c.d"', "package.module:function"),
            ("hook = 1", "package.module:function"),
            ("cacerts = 1", "text in quotes"),
            ('cacerts = "nowhere"', "there is no such folder: /"),
            ('cacerts = "watch.toml"', "there is no such folder: /"),
            ('report_existing = "yes"', "true or false"),
        ):
            key = line.partition(" ")[0]
            told = self.refused(GOOD + line)
            self.assertTrue(told.startswith(f"account ann: {key}: "), told)
            self.assertIn(wanted, told)
            # The same, above the accounts.
            told = self.refused(f"{line}\n{GOOD}")
            self.assertTrue(told.startswith(f"{key}: "), told)

    def test_empty_or_multiline_server_or_user_is_refused(self) -> None:
        """One line, in quotes, and not empty."""
        for key in ("server", "user"):
            for value in ('""', "1", '"a\\nb"', '"a\\u0000"'):
                lines = [line for line in GOOD.splitlines() if not line.startswith(key)]
                told = self.refused("\n".join([*lines, f"{key} = {value}"]))
                self.assertTrue(told.startswith(f"account ann: {key}: has to be"), told)

    def test_server_with_an_invalid_port_is_refused(self) -> None:
        told = self.refused(GOOD.replace("pop.example.com", "pop.example.com:0"))
        self.assertTrue(told.startswith("account ann: server: '0' is not a port"), told)

    def test_unknown_key_is_refused_with_a_suggestion(self) -> None:
        told = self.refused(GOOD + "intervall = 60")
        self.assertEqual(
            told,
            "account ann: intervall: there is no such key here; did you mean interval?",
        )
        told = self.refused("stat = 1\n" + GOOD)
        self.assertIn("stat: there is no such key here; did you mean state?", told)
        told = self.refused(GOOD.replace("[[account]]", "[[accounts]]"))
        self.assertIn("did you mean account?", told)
        self.assertIn(
            "there is state, account, server", self.refused("zzz = 1\n" + GOOD)
        )

    def test_missing_required_key_is_refused(self) -> None:
        for key in ("server", "user", "name", "state", "password"):
            text = "\n".join(
                line for line in GOOD.splitlines() if not line.startswith(key)
            )
            self.assertIn(f"{key}: is missing", self.refused(text))

    def test_file_without_account_tables_is_refused(self) -> None:
        for text in (TOP, TOP + "account = []", TOP + '[account]\nname = "ann"'):
            self.assertIn("write [[account]]", self.refused(text))
        self.assertIn("number 1: is not a table", self.refused(TOP + "account = [1]"))

    def test_account_name_unfit_for_a_file_name_is_refused(self) -> None:
        """A name is the name of a file."""
        for name in ("", ".", "../a", "a/b", "a b", "a\\\\b", "é", "a" * 101, "a\\n"):
            told = self.refused(GOOD.replace('"ann"', f'"{name}"'))
            self.assertTrue(told.startswith("account number 1: name: "), told)
        self.assertIn("name: ", self.refused(GOOD.replace('"ann"', "1")))

    def test_duplicate_account_name_is_refused_ignoring_case(self) -> None:
        """Also where the file system takes them for one."""
        for other in ("ann", "ANN"):
            second = GOOD.removeprefix(TOP).replace('"ann"', f'"{other}"')
            self.assertIn(
                f"account {other}: is there twice", self.refused(GOOD + second)
            )

    def test_two_password_sources_or_an_invalid_one_are_refused(self) -> None:
        told = self.refused(GOOD + 'password_command = ["pass"]')
        self.assertEqual(
            told,
            "account ann: password_command: password is there too: keep one of "
            "password, password_command",
        )
        for line in (
            "password = 1",
            'password = ""',
            'password = "looking-glass\\n"',
            'password_command = "looking-glass"',
            "password_env = 1",
            "password_file = 1",
        ):
            told = self.refused(TOP + ACCOUNT + line)
            key = line.partition(" ")[0]
            self.assertTrue(told.startswith(f"account ann: {key}: "), told)

    def test_account_only_key_at_top_level_is_refused(self) -> None:
        for key in ("user", "name", "password", "password_env"):
            told = self.refused(f'{key} = "looking-glass"\n{GOOD}')
            self.assertTrue(told.startswith(f"{key}: belongs to one account"), told)
