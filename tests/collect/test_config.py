"""The configuration of the collector: what it means, and the errors of a bad one."""

from __future__ import annotations

import os
import traceback
from pathlib import Path
from threading import Thread

import attrs
from twisted.trial.unittest import SynchronousTestCase

import pop3connect
from pop3connect import Secure, UsageError
from pop3connect.collect.config import (
    AccountSettings,
    Config,
    check_config,
    check_functions,
    read_config,
    warnings,
)
from pop3connect.collect.rules import HeaderPattern

HIDDEN = "looking-glass"

PACKAGE = str(Path(pop3connect.__file__).parent)

TOP = 'state = "state"\n'

BOX = """
[destination.box]
kind = "maildir"
path = "mail/{account}"
"""

ACCOUNT = """
[[account]]
name = "ann"
server = "pop.example.com"
user = "ann@example.com"
"""

GOOD = TOP + BOX + ACCOUNT + f'password = "{HIDDEN}"\n'

WHOLE = """
state = "/var/lib/pop3connect"
interval = "5 min"
sessions = 50
sessions_per_server = 4
lease = "30 s"
spool_limit = "2 GB"
existing = "seen"
timeout = "2 min"
after = "delete"

[destination.box]
kind = "maildir"
path = "mail/{account}"
mode = "0640"
create = false
crlf = true

[destination.old]
kind = "mbox"
path = "/var/mail/{user}"
lock_timeout = "10 s"

[destination.desk]
kind = "command"
command = ["/usr/local/bin/to-desk", "{account}", "{server}"]
timeout = "2 min"

[destination.app]
kind = "function"
call = "package.module:function"

[destination.rows]
kind = "table"

[[account]]
name = "support"
server = "pop.example.org"
user = "support@example.org"
password_file = "secret/support"
to = ["box", "desk"]
after = "delete after 14 days"
max_size = "50 MB"
match = ["From: *@example.org"]
skip = "Subject: *[spam]*"
newer_than = "30 days"
existing = "last 7 days"
interval = ["1 min", "1 h"]
list_sizes = "estimate"

[[account]]
name = "ada"
server = "mail.example.org:1110"
secure = "stls"
user = "ada"
password_command = ["pass", "show", "mail/ada"]
to = "rows"
after = "keep"
fetch = "header"
max_messages = 100
"""


class ConfigTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.file = self.folder / "collect.toml"
        self.addCleanup(os.environ.pop, "POP3CONNECT_DATABASE", None)
        os.environ.pop("POP3CONNECT_DATABASE", None)

    def read(self, text: str, **options: str) -> Config:
        self.file.write_text(text, encoding="utf-8")
        return read_config(self.file, **options)

    def refused(self, text: str) -> str:
        """Return the error after the name of the file."""
        error = self.assertRaises(UsageError, self.read, text)
        told = str(error)
        self.assertTrue(told.startswith(f"{self.file}: "), told)
        self.assertNotIn(HIDDEN, told)
        self.assertIsNone(error.__context__)
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if frame.f_code.co_filename.startswith(PACKAGE):
                self.assertNotIn(HIDDEN, repr(frame.f_locals))
        return told.removeprefix(f"{self.file}: ")


class GoodTests(ConfigTestCase):
    def test_minimal_file_gives_the_defaults(self) -> None:
        config = self.read(GOOD)
        self.assertEqual(config.state, self.folder / "state")
        self.assertEqual(config.journal, self.folder / "state" / "collect.db")
        self.assertEqual(
            (config.sessions, config.sessions_per_server, config.lease),
            (100, 8, 60),
        )
        self.assertEqual(config.spool_limit, 10**9)
        self.assertEqual(config.folder, self.folder)
        [account] = config.accounts
        expected = AccountSettings(
            name="ann",
            server="pop.example.com",
            user="ann@example.com",
            password=HIDDEN,
            to=["box"],
        )
        self.assertEqual(account, expected)
        self.assertEqual(
            (account.secure, account.after, account.fetch, account.existing),
            (Secure.TLS, "keep", "message", "new"),
        )
        self.assertEqual(
            (account.interval, account.forget_after), ((300, 300), 30 * 86400)
        )
        box = config.destinations["box"]
        self.assertEqual(box.path_for(account), self.folder / "mail" / "ann")
        self.assertEqual((box.mode, box.create, box.crlf), (0o600, True, False))

    def test_whole_file_means_what_it_says(self) -> None:
        config = self.read(WHOLE)
        self.assertEqual(config.state, Path("/var/lib/pop3connect"))
        self.assertEqual(
            (config.sessions, config.sessions_per_server, config.lease),
            (50, 4, 30),
        )
        self.assertEqual(config.spool_limit, 2 * 10**9)
        support, ada = config.accounts
        self.assertEqual(support.to, ("box", "desk"))
        self.assertEqual(support.after, 14 * 86400)
        self.assertEqual(support.max_size, 50_000_000)
        self.assertEqual(support.match, (HeaderPattern("From", "*@example.org"),))
        self.assertEqual(support.skip, (HeaderPattern("Subject", "*[spam]*"),))
        self.assertEqual(support.newer_than, 30 * 86400)
        self.assertEqual(support.existing, 7 * 86400)
        self.assertEqual(support.interval, (60, 3600))
        self.assertEqual(support.list_sizes, "estimate")
        self.assertEqual(str(support.address), "pop.example.org:995")
        self.assertEqual(ada.secure, Secure.STLS)
        self.assertEqual(str(ada.address), "mail.example.org:1110")
        self.assertEqual((ada.to, ada.after, ada.fetch), (("rows",), "keep", "header"))
        self.assertEqual(ada.max_messages, 100)
        self.assertEqual((ada.timeout, ada.existing), (120, "seen"))
        box, old, desk, app, rows = config.destinations.values()
        self.assertEqual((box.mode, box.create, box.crlf), (0o640, False, True))
        self.assertEqual(old.path_for(ada), Path("/var/mail/ada"))
        self.assertEqual(old.lock_timeout, 10)
        self.assertEqual(
            desk.command_for(ada), ("/usr/local/bin/to-desk", "ada", "mail.example.org")
        )
        self.assertEqual(desk.timeout, 120)
        self.assertEqual(app.call, "package.module:function")
        self.assertEqual(rows.kind, "table")

    def test_every_password_source_is_understood(self) -> None:
        for line, value in (
            (f'password = "{HIDDEN}"', HIDDEN),
            ('password_file = "secret"', self.folder / "secret"),
            ('password_file = "/run/secret"', Path("/run/secret")),
            ('password_command = ["pass", ""]', ("pass", "")),
            ('password_env = "SECRET"', "SECRET"),
            ('password_keyring = "pop.example.com"', "pop.example.com"),
        ):
            config = self.read(TOP + BOX + ACCOUNT + line)
            password: object = config.accounts[0].password
            self.assertEqual(getattr(password, "key", None), line.partition(" ")[0])
            self.assertEqual(getattr(password, "value", None), value)
            secret = {"SECRET"} if "_env" in line else set()
            self.assertEqual(config.secret_variables, secret)

    def test_every_key_of_an_account_may_stand_above_the_accounts(self) -> None:
        ca = self.folder / "ca"
        for line, key, value in (
            ('server = "b.example"', "server", "b.example"),
            ('secure = "none"', "secure", Secure.NONE),
            ("verify = false", "verify", False),
            ('cacerts = "ca"', "cacerts", ca),
            ("system_trust = true", "system_trust", True),
            ('client_certificate = "ca"', "client_certificate", ca),
            ('auth = "user"', "auth", "USER"),
            ("allow_cleartext = false", "allow_cleartext", False),
            ("capa = false", "capa", False),
            ("pipeline = false", "pipeline", False),
            ("timeout = 5", "timeout", 5),
            ('connect_timeout = "5 s"', "connect_timeout", 5),
            ("interval = 1", "interval", (1, 1)),
            ('look_limit = "2 h"', "look_limit", 7200),
            ('to = "box"', "to", ("box",)),
            ('after = "delete"', "after", "delete"),
            ('fetch = "header"', "fetch", "header"),
            ('match = "From: a"', "match", (HeaderPattern("From", "a"),)),
            ('skip = ["From: a"]', "skip", (HeaderPattern("From", "a"),)),
            ('newer_than = "1 day"', "newer_than", 86400),
            ('existing = "last 1 day"', "existing", 86400),
            ("max_size = 7", "max_size", 7),
            ("max_messages = 7", "max_messages", 7),
            ('list_sizes = "estimate"', "list_sizes", "estimate"),
            ('forget_after = "2 days"', "forget_after", 2 * 86400),
        ):
            without = GOOD.replace('server = "pop.example.com"\n', "")
            own = without if key == "server" else GOOD
            for text in (f"{line}\n{own}", f"{own}{line}\n"):
                [account] = self.read(text).accounts
                self.assertEqual(getattr(account, key), value, line)
                self.assertIsNot(type(getattr(account, key)).__name__, "Secret")

    def test_account_overrides_the_value_above_the_accounts(self) -> None:
        config = self.read(
            'after = "delete"\ntimeout = 5\n' + GOOD + 'after = "keep"\n'
        )
        self.assertEqual(
            (config.accounts[0].after, config.accounts[0].timeout), ("keep", 5)
        )

    def test_database_is_that_of_the_command_line_the_environment_or_the_file(
        self,
    ) -> None:
        text = f'database = "sqlite:///file"\n{GOOD}'
        self.assertEqual(self.read(text).journal, "sqlite:///file")
        os.environ["POP3CONNECT_DATABASE"] = "sqlite:///environment"
        self.assertEqual(self.read(text).journal, "sqlite:///environment")
        self.assertEqual(
            self.read(text, database="sqlite:///line").journal, "sqlite:///line"
        )
        self.assertNotIn("environment", repr(self.read(text)))

    def test_repr_shows_no_password(self) -> None:
        self.assertNotIn(HIDDEN, repr(self.read(GOOD)))


class BadTests(ConfigTestCase):
    def test_byte_order_mark_of_an_editor_is_passed_over(self) -> None:
        self.assertEqual(self.read("\ufeff" + GOOD), self.read(GOOD))

    def test_missing_file_is_refused(self) -> None:
        told = str(self.assertRaises(UsageError, read_config, self.file))
        self.assertEqual(
            told, f"{self.file}: cannot be read: No such file or directory"
        )

    def test_pipe_without_a_writer_is_not_waited_for(self) -> None:
        pipe = Path(self.mktemp()).absolute()
        os.mkfifo(pipe)
        errors: list[Exception] = []

        def read() -> None:
            try:
                read_config(pipe)
            except UsageError as error:
                errors.append(error)

        reading = Thread(target=read, daemon=True)
        reading.start()
        reading.join(20)
        self.assertIn("state is missing", str(errors))

    def test_pipe_of_a_shell_is_read_to_its_end(self) -> None:
        content = GOOD.encode()
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)

        def write() -> None:
            with os.fdopen(writing, "wb") as file:
                file.write(content[:10])
                file.flush()
                file.write(content[10:])

        writer = Thread(target=write)
        writer.start()
        self.addCleanup(writer.join)
        [account] = read_config(Path(f"/dev/fd/{reading}")).accounts
        self.assertEqual(account.name, "ann")

    def test_file_that_is_not_utf_8_is_refused(self) -> None:
        self.file.write_bytes(b'a = "\xff"')
        told = str(self.assertRaises(UsageError, read_config, self.file))
        self.assertIn("byte 5 is not UTF-8", told)

    def test_file_that_is_not_toml_is_refused_with_its_line(self) -> None:
        told = self.refused(GOOD + "interval 30\n")
        self.assertIn("not TOML", told)
        self.assertIn("line 12", told)
        for hard in ("9" * 5000, "[" * 5000):
            self.assertIn("not TOML", self.refused(GOOD + f"interval = {hard}"))

    def test_invalid_value_is_refused_with_account_and_key(self) -> None:
        for line, wanted in (
            ("server = 1", "one line of text"),
            ('server = ""', "one line of text"),
            ('server = "a\\nb"', "one line of text"),
            ('server = "pop.example.com:0"', "'0' is not a port"),
            ('server = "pop://pop.example.com"', "not a URL"),
            ('secure = "ssl"', '"tls" (port 995), "stls" or "none"'),
            ("secure = 1", '"tls"'),
            ("secure = []", '"tls"'),
            ('verify = "yes"', "true or false"),
            ("cacerts = 1", 'a path in quotes, such as "folder/file"'),
            ('cacerts = ""', "a path in quotes"),
            ("system_trust = 1", "true or false"),
            ("client_certificate = []", "a path in quotes"),
            ('proxy = "socks5:h"', "proxy must be a URL such as"),
            ("proxy = 1080", "not int"),
            ('auth = "KERBEROS"', '"SCRAM-SHA-256"'),
            ('auth = "EXTERNAL"', "takes a password"),
            ("auth = 1", '"auto"'),
            ("allow_cleartext = 1", "true or false"),
            ("capa = 1", "true or false"),
            ("pipeline = 1", "true or false"),
            ("timeout = 0", "1 s to 1 day"),
            ('connect_timeout = "fast"', '"5 min"'),
            ("interval = 0.5", "1 s to 7 days"),
            ("interval = 604801", "1 s to 7 days"),
            ("interval = nan", "1 s to 7 days"),
            ("interval = true", "1 s to 7 days"),
            ("interval = [1]", '["1 min", "1 h"]'),
            ('interval = ["1 h", "1 min"]', "the shorter duration first"),
            ('interval = "5 minutos"', "1 s to 7 days"),
            ("look_limit = 1", "10 s to 7 days"),
            ("to = 1", "a list of texts"),
            ('to = ["box", "box"]', "a list of different destinations"),
            ("to = [1]", "one line of text"),
            ('after = "14 days"', '"delete after 14 days"'),
            ('after = "delete after lunch"', '"delete after 14 days"'),
            ("after = -1", '"delete after 14 days"'),
            ("after = true", '"delete after 14 days"'),
            ('fetch = "body"', '"message" or "header"'),
            ("fetch = 1", '"message" or "header"'),
            ("match = 1", '"From: *@example.org"'),
            ('match = ["*@example.org"]', '"From: *@example.org"'),
            ("skip = [1]", '"From: *@example.org"'),
            ("newer_than = 0", "1 s to"),
            ('existing = "old"', '"last 7 days"'),
            ("existing = 0", '"last 7 days"'),
            ('max_size = "big"', '"50 MB"'),
            ("max_size = 0", '"50 MB"'),
            ("max_messages = 0", "a number from 1 on"),
            ('max_messages = "7"', "a number from 1 on"),
            ('list_sizes = "wrong"', '"exact" or "estimate"'),
            ('forget_after = "1 h"', "1 day to"),
        ):
            key = line.partition(" ")[0]
            own = "\n".join(
                each for each in GOOD.splitlines() if not each.startswith(f"{key} =")
            )
            for text, where in (
                (f"{own}\n{line}", "account ann: "),
                (f"{line}\n{own}", ""),
            ):
                told = self.refused(text)
                self.assertTrue(told.startswith(f"{where}{key} "), told)
                self.assertIn(wanted, told)

    def test_invalid_value_of_the_service_is_refused(self) -> None:
        for line, wanted in (
            ("state = 1", "a path in quotes"),
            ("database = 1", "one line of text"),
            ("database = 0", "one line of text"),
            ("database = []", "one line of text"),
            ('database = "collect.db"', "database must be a URL"),
            ("sessions = 0", "a number from 1 on"),
            ("sessions_per_server = true", "a number from 1 on"),
            ("lease = 1", "2 s to 1 day"),
            ('spool_limit = "much"', '"1 GB"'),
        ):
            key = line.partition(" ")[0]
            rest = GOOD.removeprefix(TOP) if key == "state" else GOOD
            told = self.refused(f"{line}\n{rest}")
            self.assertTrue(told.startswith(f"{key} must be "), told)
            self.assertIn(wanted, told)
            told = self.refused(f"{GOOD}{line}")
            self.assertIn(
                f"account ann: the key {key} does not exist here; move it", told
            )

    def test_password_behind_a_wrong_key_is_not_repeated(self) -> None:
        for key in ("secure", "server", "auth", "interval", "passwort", "after"):
            given = [
                line for line in GOOD.splitlines() if not line.startswith(f"{key} =")
            ]
            told = self.refused("\n".join([*given, f'{key} = "x:{HIDDEN}"']))
            self.assertIn(key, told)

    def test_unknown_key_is_refused_with_a_suggestion(self) -> None:
        self.assertEqual(
            self.refused(GOOD + "intervall = 60"),
            "account ann: the key intervall does not exist here; did you mean "
            "interval?",
        )
        told = self.refused("stat = 1\n" + GOOD)
        self.assertIn("the key stat does not exist here; did you mean state?", told)
        told = self.refused(GOOD.replace("[[account]]", "[[accounts]]"))
        self.assertIn("did you mean account?", told)
        self.assertIn("the keys are state, ", self.refused("zzz = 1\n" + GOOD))

    def test_key_of_the_watch_is_refused_with_what_replaces_it(self) -> None:
        for line, wanted in (
            ('hook = ["new"]', 'fetch = "header"'),
            ("hook_timeout = 5", "timeout of a destination"),
            ("report_existing = true", 'existing = "new"'),
        ):
            self.assertIn(wanted, self.refused(GOOD + line))

    def test_key_of_a_later_version_is_refused(self) -> None:
        told = self.refused(GOOD + '[status]\nlisten = "tcp:8095"\n')
        self.assertIn("status page does not exist in this version", told)

    def test_missing_required_key_is_refused(self) -> None:
        for key, where in (
            ("state", ""),
            ("server", "account ann: "),
            ("user", "account ann: "),
            ("password", "account ann: "),
            ("name", "account number 1: "),
            ("kind", "destination box: "),
            ("path", "destination box: "),
        ):
            text = "\n".join(
                line for line in GOOD.splitlines() if not line.startswith(key)
            )
            told = self.refused(text)
            self.assertTrue(told.startswith(f"{where}{key} is missing"), told)

    def test_file_without_accounts_is_refused(self) -> None:
        start = TOP + BOX
        for text in (start, f"account = []\n{start}", f"{start}[account]\nname = 'a'"):
            self.assertIn("write [[account]]", self.refused(text))
        told = self.refused(f"account = [1]\n{start}")
        self.assertIn("account number 1: it is not a table", told)

    def test_account_name_unfit_for_a_file_name_is_refused(self) -> None:
        for name in ("", ".", "../a", "a/b", "a b", "a\\\\b", "é", "a" * 101, "a\\n"):
            told = self.refused(GOOD.replace('"ann"', f'"{name}"'))
            self.assertTrue(told.startswith("account number 1: name must be "), told)
        self.assertIn("name must be ", self.refused(GOOD.replace('"ann"', "1")))

    def test_duplicate_account_name_is_refused_ignoring_case(self) -> None:
        for other in ("ann", "ANN"):
            second = ACCOUNT.replace('"ann"', f'"{other}"') + 'password = "x"\n'
            self.assertEqual(
                self.refused(GOOD + second),
                f"account {other} is there twice: give each its own name",
            )

    def test_two_password_sources_or_an_invalid_one_are_refused(self) -> None:
        self.assertEqual(
            self.refused(GOOD + 'password_command = ["pass"]'),
            "account ann: there are password and password_command: keep one of them",
        )
        for line in (
            "password = 1",
            'password = ""',
            f'password = "{HIDDEN}\\n"',
            f'password_command = "{HIDDEN}"',
            "password_command = []",
            'password_command = [""]',
            'password_command = ["a", 1]',
            'password_command = ["a\\u0000"]',
            "password_env = 1",
            "password_file = 1",
            "password_keyring = true",
        ):
            told = self.refused(TOP + BOX + ACCOUNT + line)
            key = line.partition(" ")[0]
            self.assertTrue(told.startswith(f"account ann: {key} must be "), told)

    def test_key_of_one_account_above_the_accounts_is_refused(self) -> None:
        for key in ("user", "name", "password", "password_env"):
            told = self.refused(f'{key} = "{HIDDEN}"\n{GOOD}')
            self.assertTrue(told.startswith(f"{key} belongs to one account"), told)

    def test_deleting_what_was_fetched_as_a_header_is_refused(self) -> None:
        told = self.refused(f'after = "delete"\n{GOOD}fetch = "header"\n')
        self.assertEqual(
            told,
            'account ann: after must be "keep" with fetch = "header": a message of '
            "which only the header was fetched is not deleted",
        )


class DestinationTests(ConfigTestCase):
    def with_destination(self, *lines: str, name: str = "other") -> str:
        return "\n".join(
            [TOP, f"[destination.{name}]", *lines, ACCOUNT, "password = 'x'"]
        )

    def test_unknown_destination_is_refused(self) -> None:
        self.assertEqual(
            self.refused(GOOD + 'to = ["bix"]'),
            "account ann: to names bix, which is not a destination; there is box",
        )

    def test_without_to_the_only_destination_is_used_and_one_of_two_is_not(
        self,
    ) -> None:
        two = GOOD.replace(
            "[[account]]", '[destination.rows]\nkind = "table"\n[[account]]'
        )
        self.assertEqual(
            self.refused(two),
            "account ann: to is missing: name a destination; there is box, rows",
        )

    def test_missing_destinations_are_refused(self) -> None:
        for text in ("", "destination = 1\n", "[destination]\n"):
            told = self.refused(TOP + text + ACCOUNT)
            self.assertIn("write [destination.NAME]", told)
            self.assertIn("maildir, mbox, command, function, table", told)
        told = self.refused("destination.box = 1\n" + TOP + ACCOUNT)
        self.assertIn("destination box: it is not a table", told)

    def test_key_for_all_accounts_in_a_destination_is_refused_with_its_place(
        self,
    ) -> None:
        for line in ("sessions = 5", 'after = "delete"'):
            told = self.refused(self.with_destination("kind = 'table'", line))
            self.assertIn("move it above the first [destination.NAME]", told)

    def test_kind_of_a_later_version_is_refused_with_the_kinds_that_exist(self) -> None:
        for kind in ("webhook", "lmtp"):
            told = self.refused(self.with_destination(f'kind = "{kind}"', "url = 'x'"))
            self.assertEqual(
                told,
                f"destination other: the kind {kind} does not exist in this version; "
                "there is maildir, mbox, command, function, table",
            )

    def test_invalid_value_of_a_destination_is_refused(self) -> None:
        for kind, line, wanted in (
            ("maildir", "path = 1", "path must be a path in quotes"),
            (
                "maildir",
                'path = "{name}"',
                "{account}, {user} and {server}, not {name}",
            ),
            ("maildir", 'path = "a"\nmode = "0700"', '"0640"'),
            ("maildir", 'path = "a"\nmode = 0o446', '"0640"'),
            ("maildir", 'path = "a"\nmode = "rw"', '"0640"'),
            ("maildir", 'path = "a"\nmode = true', '"0640"'),
            ("maildir", 'path = "a"\ncreate = "no"', "true or false"),
            ("maildir", 'path = "a"\ncrlf = 1', "true or false"),
            (
                "maildir",
                'path = "a"\ntimeout = 1',
                "the key timeout does not exist here",
            ),
            ("mbox", 'path = "a"\nlock_timeout = -1', "0 s to 1 day"),
            ("mbox", 'path = "a"\ncrlf = true', "the key crlf does not exist here"),
            ("command", "", 'command is missing: kind = "command" needs it'),
            ("command", 'command = "a b"', '["program", "argument"]'),
            ("command", "command = []", '["program", "argument"]'),
            ("command", 'command = [""]', '["program", "argument"]'),
            ("command", 'command = ["a", 1]', "texts in quotes"),
            ("command", 'command = ["a", "{uid}"]', "not {uid}"),
            ("command", 'command = ["a"]\ntimeout = "2 h"', "1 s to 1 h"),
            ("function", "", "call is missing"),
            ("function", 'call = "function"', '"package.module:function"'),
            ("function", "call = 1", '"package.module:function"'),
            ("table", 'path = "a"', "the key path does not exist here"),
            ("pigeon", "", "kind must be one of maildir, mbox, command"),
            ("", "", "kind must be one of"),
        ):
            text = self.with_destination(f'kind = "{kind}"', line)
            told = self.refused(text)
            self.assertTrue(told.startswith("destination other: "), told)
            self.assertIn(wanted, told)
        told = self.refused(self.with_destination("kind = []"))
        self.assertIn("kind must be one of", told)
        told = self.refused(self.with_destination('kind = "table"', name='"a b"'))
        self.assertIn("destination a b: the name of a destination must be", told)


class CheckTests(ConfigTestCase):
    """What `--check` finds, without logging in."""

    def problems(self, text: str) -> list[str]:
        config = self.read(text)
        before = sorted(self.folder.rglob("*"))
        try:
            check_config(config)
        except UsageError as error:
            lines = str(error).split("\n")
        else:
            lines = []
        self.assertEqual(sorted(self.folder.rglob("*")), before)
        for line in lines:
            self.assertTrue(line.startswith(f"{self.file}: "), line)
        return [line.removeprefix(f"{self.file}: ") for line in lines]

    def test_good_configuration_has_no_problem_and_nothing_is_made(self) -> None:
        self.assertEqual(self.problems(GOOD), [])

    def test_each_problem_has_a_line(self) -> None:
        text = GOOD.replace(f'password = "{HIDDEN}"', "password_env = 'NO_SUCH'")
        second = ACCOUNT.replace("ann", "bob") + "password_file = 'missing'\n"
        problems = self.problems(text + second)
        self.assertEqual(len(problems), 2, problems)
        self.assertEqual(
            problems[0],
            "account ann: password_env: there is nothing in that environment variable",
        )
        self.assertIn("account bob: password_file: ", problems[1])

    def test_state_that_cannot_be_made_is_a_problem(self) -> None:
        (self.folder / "there").write_bytes(b"")
        for state in ("there", "there/below/that"):
            [problem] = self.problems(GOOD.replace(TOP, f'state = "{state}"\n'))
            self.assertTrue(problem.startswith("state: "), problem)
            self.assertIn(f"{self.folder / 'there'} is not a folder", problem)

    def test_state_folder_that_others_may_write_to_is_a_problem(self) -> None:
        (self.folder / "state").mkdir()
        (self.folder / "state").chmod(0o777)
        [problem] = self.problems(GOOD)
        self.assertIn("state: other users may write to", problem)
        (self.folder / "state").chmod(0o700)
        self.assertEqual(self.problems(GOOD), [])

    def test_folder_that_cannot_be_written_to_is_a_problem(self) -> None:
        def access(path: Path, mode: int) -> bool:
            return Path(path) != self.folder

        self.patch(os, "access", access)
        state, box = self.problems(GOOD)
        self.assertEqual(
            state,
            f"state: {self.folder} cannot be written to by this user, so "
            f"{self.folder / 'state'} cannot be made",
        )
        self.assertIn("destination box: ", box)

    def test_cacerts_folder_that_is_missing_or_empty_is_a_problem(self) -> None:
        text = f"{GOOD}cacerts = 'ca'\n"
        [problem] = self.problems(text)
        self.assertTrue(problem.startswith("account ann: "), problem)
        self.assertIn(str(self.folder / "ca"), problem)
        (self.folder / "ca").mkdir()
        [problem] = self.problems(text)
        self.assertIn(str(self.folder / "ca"), problem)

    def test_missing_program_or_function_is_a_problem(self) -> None:
        head, tail = f"{TOP}[destination.d]\n", f"{ACCOUNT}password = 'x'\n"
        [problem] = self.problems(
            f"{head}kind = 'command'\ncommand = ['./none']\n{tail}"
        )
        self.assertIn("destination d: ./none: there is no such program", problem)
        [problem] = self.problems(
            f"{head}kind = 'function'\ncall = 'no_such:f'\n{tail}"
        )
        self.assertIn("destination d: call: no_such:f cannot be imported", problem)
        for good in ("kind = 'command'\ncommand = ['sh']", "kind = 'table'"):
            self.assertEqual(self.problems(f"{head}{good}\n{tail}"), [])
        good = "kind = 'function'\ncall = 'os.path:exists'"
        self.assertEqual(self.problems(f"{head}{good}\n{tail}"), [])

    def test_functions_can_be_checked_alone(self) -> None:
        for call, problem in (("no_such:f", "cannot be imported"), ("os:getpid", "")):
            config = self.read(
                f"{TOP}[destination.d]\nkind = 'function'\ncall = '{call}'\n"
                f"{ACCOUNT}password_env = 'NO_SUCH'\n"
            )
            if not problem:
                check_functions(config)
                continue
            for made in (config, attrs.evolve(config, file=None)):
                error = self.assertRaises(UsageError, check_functions, made)
                self.assertIn(f"destination d: call: {call} {problem}", str(error))

    def test_maildir_that_is_not_mounted_is_a_problem_only_without_create(self) -> None:
        text = GOOD.replace("[[account]]", "create = false\n[[account]]")
        [problem] = self.problems(text)
        self.assertIn(f"{self.folder / 'mail' / 'ann'} is missing", problem)
        for name in ("tmp", "new", "cur"):
            (self.folder / "mail" / "ann" / name).mkdir(parents=True)
        self.assertEqual(self.problems(text), [])
        (self.folder / "mail" / "ann" / "cur").rmdir()
        (self.folder / "mail" / "ann" / "cur").write_bytes(b"")
        [problem] = self.problems(text)
        self.assertIn("cur is not a folder", problem)

    def test_mbox_that_is_not_a_writable_file_is_a_problem(self) -> None:
        text = GOOD.replace('"maildir"', '"mbox"').replace("mail/{account}", "mbox")
        self.assertEqual(self.problems(text), [])
        (self.folder / "mbox").mkdir()
        [problem] = self.problems(text)
        self.assertEqual(
            problem, f"destination box: {self.folder / 'mbox'} is not a file"
        )
        (self.folder / "mbox").rmdir()
        (self.folder / "mbox").write_bytes(b"")
        self.assertEqual(self.problems(text), [])
        access = os.access
        self.patch(
            os,
            "access",
            lambda path, mode: path != self.folder / "mbox" and access(path, mode),
        )
        [problem] = self.problems(text)
        self.assertIn("mbox cannot be written to", problem)

    def test_user_that_is_not_a_file_name_is_a_problem_in_a_path(self) -> None:
        text = GOOD.replace("{account}", "{user}")
        for user in ("../bob", "..", "a/b"):
            [problem] = self.problems(text.replace("ann@example.com", user))
            self.assertIn("its user is not a file name", problem)
        self.assertEqual(self.problems(text), [])

    def test_problem_of_a_destination_is_told_once_for_all_accounts(self) -> None:
        (self.folder / "mail").write_bytes(b"")
        second = ACCOUNT.replace("ann", "bob") + "password = 'x'\n"
        text = GOOD.replace("/{account}", "/all") + second
        self.assertEqual(len(self.problems(text)), 1)

    def test_configuration_of_a_program_is_checked_without_a_file(self) -> None:
        config = Config(
            state=self.folder / "collect.toml" / "x",
            accounts=[AccountSettings(name="a", server="b", user="c", password=str)],
        )
        self.file.write_bytes(b"")
        error = self.assertRaises(UsageError, check_config, config)
        self.assertTrue(str(error).startswith("state: "), error)


class WarningTests(ConfigTestCase):
    def test_exposed_file_with_a_password_is_warned_about_once(self) -> None:
        second = ACCOUNT.replace("ann", "bob") + "password = 'x'\n"
        config = self.read(GOOD + second)
        self.file.chmod(0o644)
        [warning] = warnings(config)
        self.assertIn(f"{self.file}: every user of this machine may read it", warning)
        self.assertIn(f"chmod o-r {self.file}", warning)
        self.file.chmod(0o640)
        self.assertEqual(warnings(config), [])

    def test_interval_below_half_a_minute_is_warned_about(self) -> None:
        self.file.touch(0o600)
        for line, warned in (
            ("interval = 29", True),
            ('interval = ["10 s", "1 h"]', True),
            ("interval = 30", False),
        ):
            found = warnings(self.read(f"{line}\n{GOOD}"))
            self.assertEqual(len(found), warned, found)
            self.assertEqual("account ann: interval" in "".join(found), warned)
