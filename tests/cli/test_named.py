"""
Accounts that the user has named, and what their file may have in it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import click
from click.testing import CliRunner
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from pop3connect import Secure, UsageError
from pop3connect.cli import fetching
from pop3connect.cli.access import Access, access_options
from pop3connect.cli.app import pop3connect
from pop3connect.cli.completing import BashCompletion
from pop3connect.cli.exits import Exit
from pop3connect.cli.fetch import Job
from pop3connect.cli.named import (
    _PARAMETERS,
    MARK,
    accounts_file,
    complete_server,
)
from pop3connect.collect.config import read_accounts

from ..support.command import USER, CommandTestCase
from ..support.loopback import PASSWORD, ROOT

PIN = f"sha256//{'A' * 43}="

WORK = """
[[account]]
name = "work"
server = "pop.example.com:1995"
user = "ada"
"""


class Folder:
    """The folder for the configurations of a user."""

    def __init__(self, folder: str) -> None:
        self.path = Path(folder).absolute()
        self.file = self.path / "pop3connect" / "accounts.toml"
        self.file.parent.mkdir(parents=True)

    def write(self, text: str, mode: int = 0o600) -> None:
        self.file.write_text(text, encoding="utf-8")
        self.file.chmod(mode)

    @property
    def environment(self) -> dict[str, str]:
        return {"XDG_CONFIG_HOME": str(self.path)}


class FileTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Folder(self.mktemp())

    def access(self, *arguments: str) -> Access:
        """Return what the common options say."""
        found: list[Access] = []
        command = click.command()(access_options(found.append))
        result = CliRunner(env=self.folder.environment).invoke(command, arguments)
        self.assertEqual(result.exit_code, 0, result.output)
        return found[0]

    def refusal(self, *arguments: str) -> str:
        """Return the error, in one line."""
        result = CliRunner(env=self.folder.environment).invoke(
            pop3connect, ["stat", *arguments]
        )
        self.assertEqual(result.exit_code, Exit.USAGE, result.output)
        self.assertEqual(result.stdout, "")
        return " ".join(result.stderr.split())

    def test_account_that_says_little_has_the_defaults_of_the_command_line(
        self,
    ) -> None:
        """Those of the collector allow a password in the clear."""
        self.folder.write(WORK)
        named = self.access("@work")
        plain = self.access("pop.example.com:1995", "--user", "ada")
        self.assertIsNotNone(named.account)
        for name in ("server", "user", "secure", "verify", "allow_cleartext", "pins"):
            self.assertEqual(getattr(named, name), getattr(plain, name), name)
        self.assertIs(named.allow_cleartext, False)

    def test_every_key_of_an_account_reaches_its_option(self) -> None:
        self.folder.write(
            'timeout = "2 min"\nconnect_timeout = 5\n' + WORK + 'secure = "stls"\n'
            'verify = false\ncacerts = "ca.pem"\nsystem_trust = true\n'
            f'client_certificate = "/ours.pem"\npins = ["{PIN}"]\ncrl = "crl.pem"\n'
            'tls_minimum_version = "TLSv1.3"\ntls_ciphers = "ECDHE+AESGCM"\n'
            'authorize_as = "bob"\nauth = "SCRAM-SHA-256"\nproxy = "socks5://proxy"\n'
            "allow_cleartext = true\ncapa = false\npipeline = false\n"
        )
        named = self.access("@work")
        folder = self.folder.file.parent
        for name, value in {
            "server": "pop.example.com:1995",
            "user": "ada",
            "secure": Secure.STLS,
            "verify": False,
            "cacerts": str(folder / "ca.pem"),
            "system_trust": True,
            "client_certificate": "/ours.pem",
            "pins": (PIN,),
            "crl": str(folder / "crl.pem"),
            "minimum_version": "TLSv1.3",
            "ciphers": "ECDHE+AESGCM",
            "authorize_as": "bob",
            "auth": "SCRAM-SHA-256",
            "proxy": "socks5://proxy",
            "allow_cleartext": True,
            "capa": False,
            "pipeline": False,
            "timeout": 120.0,
            "connect_timeout": 5.0,
        }.items():
            self.assertEqual(getattr(named, name), value, name)

    def test_options_of_the_command_line_win_over_the_file(self) -> None:
        self.folder.write(
            WORK + 'secure = "none"\nverify = false\npipeline = false\ncapa = false\n'
            "system_trust = true\nallow_cleartext = true\ntimeout = 9\n"
            f'auth = "APOP"\npins = ["{PIN}"]\n'
        )
        other = f"sha256//{'B' * 42}A="
        given = self.access(
            *("@work", "--user", "bob", "--secure", "stls", "--verify", "--pipeline"),
            *("--capa", "--no-system-trust", "--no-allow-cleartext", "--timeout", "7"),
            *("--auth", "auto", "--pin", other),
        )
        for name, value in {
            "user": "bob",
            "secure": Secure.STLS,
            "verify": True,
            "pipeline": True,
            "capa": True,
            "system_trust": False,
            "allow_cleartext": False,
            "timeout": 7.0,
            "auth": "auto",
            "pins": (other,),
        }.items():
            self.assertEqual(getattr(given, name), value, name)

    def test_parameters_exist_in_the_commands(self) -> None:
        for command, extra in (("stat", 18), ("fetch", len(_PARAMETERS))):
            known = {each.name for each in pop3connect.commands[command].params}
            names = [parameter for parameter, _ in [*_PARAMETERS.values()][:extra]]
            self.assertLessEqual(set(names), known)

    def test_unknown_name_lists_the_accounts(self) -> None:
        self.folder.write(WORK + WORK.replace("work", "home"))
        refusal = self.refusal("@wrok")
        self.assertIn("there is no account 'wrok' in", refusal)
        self.assertIn("did you mean @work? it has: @work, @home", refusal)
        self.assertIn("no account ''", self.refusal("@"))
        self.assertNotIn("did you mean", self.refusal("@xxxx"))
        self.assertIn("\\x1b", self.refusal("@\x1b[31m"))

    def test_missing_file_is_named_with_an_example(self) -> None:
        refusal = self.refusal("@work")
        self.assertIn(f"the file {self.folder.file} does not exist", refusal)
        self.assertIn("[[account]]", refusal)

    def test_file_that_cannot_be_used_is_an_error_without_its_secrets(self) -> None:
        for text, wanted in (
            ("[[account", "this is not TOML"),
            (WORK + 'pasword = "SECRET"', "did you mean password?"),
            (WORK + 'password = ["SECRET"]', "password must be one line"),
            (WORK + 'password = "SECRET"\npassword_env = "X"', "keep one of them"),
            (WORK + 'timeout = "SECRET"', "timeout must be 1 s to 1 day"),
            (WORK + 'proxy = "https://u:SECRET@h"', "proxies are not supported"),
            (WORK * 2, "account work is there twice"),
            (WORK.replace("work", "wo rk"), "name must be made of letters"),
            (WORK.replace("user", "#"), "user is missing"),
            ("timeout = 9", "account is missing: write [[account]]"),
            ('user = "x"' + WORK, "user belongs to one account"),
            ('state = "x"' + WORK, "state belongs to the configuration of a collector"),
            (WORK + '[destination.x]\nkind = "table"', "destination belongs to"),
            ("account = [1]", "it is not a table"),
        ):
            self.folder.write(text)
            refusal = self.refusal("@work")
            self.assertIn(wanted, refusal)
            self.assertIn(str(self.folder.file), refusal)
            self.assertNotIn("SECRET", refusal)
        self.folder.file.write_bytes(b"\xff")
        self.assertIn("is not UTF-8", self.refusal("@work"))
        self.folder.file.unlink()
        self.folder.file.mkdir()
        self.assertIn("cannot be read: Is a directory", self.refusal("@work"))

    def test_relative_folder_in_the_environment_is_ignored(self) -> None:
        for folder in ("relative", ""):
            with mock.patch.dict(os.environ, XDG_CONFIG_HOME=folder, HOME="/home/ada"):
                self.assertEqual(
                    accounts_file(),
                    Path("/home/ada/.config/pop3connect/accounts.toml"),
                )

    def test_home_that_is_not_known_is_an_error_and_completes_nothing(self) -> None:
        """As in a container whose user is in no list of users."""
        if os.name != "posix":
            raise SkipTest("the list of users is POSIX's")
        environment = mock.patch.dict(os.environ, XDG_CONFIG_HOME="")
        with environment, mock.patch("pwd.getpwuid", side_effect=KeyError):
            os.environ.pop("HOME", None)
            completed = complete_server(mock.Mock(), mock.Mock(), MARK)
            result = CliRunner().invoke(pop3connect, ["stat", "@work"])
        self.assertEqual(result.exit_code, Exit.USAGE, result.output)
        refusal = " ".join(result.stderr.split())
        self.assertIn("accounts.toml", refusal)
        self.assertIn("set HOME or XDG_CONFIG_HOME", refusal)
        self.assertEqual(completed, [])

    def test_account_without_a_password_cannot_be_given_to_a_collector(self) -> None:
        self.folder.write(WORK)
        [known] = read_accounts(self.folder.file)
        self.assertNotIn("password", known.given)
        password: Any = known.settings.password
        self.assertRaises(UsageError, password)

    def test_library_and_plain_commands_import_nothing_for_accounts(self) -> None:
        # What measures the coverage may have imported some of them.
        late = ("tomllib", "tomli", "pop3connect.collect.config", "netrc")
        for statement in ("import pop3connect.api", "import pop3connect.cli.app"):
            program = (
                f"import sys; before = set(sys.modules); {statement}; "
                f"print(*(set({late!r}) & (set(sys.modules) - before)))"
            )
            done = subprocess.run(
                [sys.executable, "-c", program],
                capture_output=True,
                text=True,
                cwd=ROOT,
                check=True,
            )
            self.assertEqual(done.stdout.split(), [], statement)

    def test_server_that_is_no_account_reads_no_file(self) -> None:
        self.folder.write("[[account")
        self.assertIsNone(self.access("pop.example.com").account)

    def test_help_is_shown_whatever_the_account(self) -> None:
        result = CliRunner(env=self.folder.environment).invoke(
            pop3connect, ["stat", "@none", "--help"]
        )
        self.assertEqual(result.exit_code, 0, result.output)


class SessionTests(CommandTestCase):
    """Sessions with named accounts."""

    def setUp(self) -> None:
        super().setUp()
        self.config = Folder(self.mktemp())

    def account(self, *lines: str, mode: int = 0o600, user: str = USER) -> None:
        """Write an account for the demo server."""
        own = ("[[account]]", 'name = "work"', f'server = "{self.server}"')
        self.config.write(
            "\n".join((*own, f'user = "{user}"', 'secure = "none"', *lines)), mode
        )

    def run_named(self, *arguments: str, password: str = "", **more: str) -> Any:
        environment = {
            "POP3CONNECT_PASSWORD": password,
            **self.config.environment,
            **more,
        }
        return self.run_click(*arguments, environment=environment)

    async def test_each_source_of_a_password_opens_a_session(self) -> None:
        secret = self.config.file.parent / "secret"
        secret.write_text(PASSWORD + "\n")
        secret.chmod(0o600)
        show = json.dumps([sys.executable, "-c", f"print({PASSWORD!r})"])
        for line in (
            f'password = "{PASSWORD}"',
            'password_file = "secret"',
            'password_env = "WORK_PASSWORD"',
            f"password_command = {show}",
        ):
            self.account(line)
            result = await self.run_named(
                "stat", "@work", password="another", WORK_PASSWORD=PASSWORD
            )
            self.assertEqual(result.exit_code, 0, (line, result.output))
            self.assertEqual(result.stderr, "")

    async def test_password_that_cannot_be_found_sends_nothing(self) -> None:
        self.account('password_env = "WORK_PASSWORD"')
        result = await self.run_named("stat", "@work", password=PASSWORD)
        self.assertEqual(result.exit_code, Exit.USAGE)
        self.assertIn("password_env: there is nothing in that", result.stderr)
        self.assertIn("no login was tried", result.stderr)

    async def test_account_without_a_password_takes_it_from_the_environment(
        self,
    ) -> None:
        self.account()
        result = await self.run_named("stat", "@work", password=PASSWORD)
        self.assertEqual(result.exit_code, 0, result.output)

    async def test_password_of_the_account_is_not_used_for_another_user(self) -> None:
        self.account('password = "of-someone-else"', user="someone")
        result = await self.run_named(
            "stat", "@work", "--user", USER, password=PASSWORD
        )
        self.assertEqual(result.exit_code, 0, result.output)

    async def test_file_with_a_password_that_all_may_read_is_a_warning(self) -> None:
        self.account(f'password = "{PASSWORD}"', mode=0o644)
        result = await self.run_named("stat", "@work")
        self.assertEqual(result.exit_code, 0)
        self.assertIn(f"run: chmod o-r {self.config.file}", result.stderr)
        self.assertEqual(len(result.stderr.splitlines()), 1)
        result = await self.run_named("stat", "@work", "--quiet")
        self.assertEqual((result.exit_code, result.stderr), (0, ""))
        self.account(mode=0o644)
        result = await self.run_named("stat", "@work", password=PASSWORD)
        self.assertEqual((result.exit_code, result.stderr), (0, ""))

    async def test_rules_of_the_account_count_for_fetch(self) -> None:
        target = str(Path(self.folder, "Mail").absolute())
        self.account(
            f'password = "{PASSWORD}"',
            'after = "delete"',
            'skip = "Subject: one"',
            "max_messages = 1",
        )
        result = await self.run_named("fetch", "@work", target, "--keep")
        self.assertEqual(result.stdout, "fetched: 1, there already: 0, deleted: 0\n")
        self.assertIn("1 message that a --skip fits: left on the server", result.stderr)
        result = await self.run_named(
            "fetch", "@work", target, "--skip", "Subject: three", "--max-messages", "9"
        )
        self.assertEqual(result.stdout, "fetched: 1, there already: 1, deleted: 2\n")
        self.assertEqual(len(self.drop.messages), 1)

    async def test_limits_of_the_account_become_those_of_fetch(self) -> None:
        jobs: list[Job] = []

        async def fetch(job: Job, password: object, reactor: object) -> int:
            jobs.append(job)
            return 0

        self.patch(fetching, "fetch", fetch)
        self.account(
            f'password = "{PASSWORD}"',
            'after = "delete after 36 h"',
            'match = ["From: *@example.org", "X-A: b"]',
            'newer_than = "90 min"',
            'max_size = "50 MB"',
            "max_messages = 7",
        )
        await self.run_named("fetch", "@work", "Mail")
        await self.run_named(
            *("fetch", "@work", "Mail", "--delete", "--match", "X: y"),
            *("--new-since", "2 h", "--max-size", "1", "--max-messages", "2"),
        )
        self.assertEqual(
            [
                (
                    job.after,
                    tuple(job.match),
                    job.newer_than,
                    job.max_size,
                    job.max_messages,
                )
                for job in jobs
            ],
            [
                (129_600, ("From: *@example.org", "X-A: b"), 5400, 50_000_000, 7),
                ("delete", ("X: y",), 7200, 1, 2),
            ],
        )

    async def test_delete_after_of_the_command_line_wins(self) -> None:
        target = str(Path(self.folder, "Mail").absolute())
        self.account(f'password = "{PASSWORD}"', 'after = "delete"')
        result = await self.run_named("fetch", "@work", target, "--delete-after", "9")
        self.assertEqual(result.stdout, "fetched: 3, there already: 0, deleted: 0\n")

    async def test_info_logs_in_with_the_account(self) -> None:
        self.account(f'password = "{PASSWORD}"')
        result = await self.run_named("info", "@work")
        self.assertEqual(result.exit_code, 0, result.output)
        self.assertIn("login         APOP", result.stdout)

    async def test_info_of_an_unverified_account_does_not_log_in(self) -> None:
        self.account(f'password = "{PASSWORD}"', "verify = false")
        result = await self.run_named("info", "@work")
        self.assertEqual(result.exit_code, 0, result.output)
        self.assertNotIn("login  ", result.stdout)
        self.assertIn("not logged in, because the server is not", result.stderr)
        result = await self.run_named("info", "@work", "--user", USER)
        self.assertEqual(result.exit_code, Exit.USAGE)


class CompletionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Folder(self.mktemp())
        self.folder.write(WORK + WORK.replace("work", "home"))

    def completed(self, *words: str) -> list[str]:
        """Complete the last word."""
        place = {"COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
        with mock.patch.dict(os.environ, {**self.folder.environment, **place}):
            shell = BashCompletion(pop3connect, {}, "pop3connect", "_X_COMPLETE")
            return [
                item.value
                for item in shell.get_completions(*shell.get_completion_args())
            ]

    def test_names_of_accounts_are_completed_after_the_mark(self) -> None:
        for words, names in (
            # As bash splits "@w".
            (("list", "@", "w"), ["@work"]),
            (("list", "@"), ["@work", "@home"]),
            (("list", ""), ["@work", "@home"]),
            (("list", "pop"), []),
            (("list", "@", "x"), []),
        ):
            self.assertEqual(self.completed("pop3connect", *words), names, words)

    def test_options_behind_an_account_are_completed(self) -> None:
        self.assertEqual(
            self.completed("pop3connect", "list", "@", "work", "--secu"), ["--secure"]
        )
        self.assertEqual(
            self.completed("pop3connect", "list", "@", "work", "--secure", "s"),
            ["stls"],
        )

    def test_file_that_cannot_be_used_completes_nothing(self) -> None:
        self.folder.write("[[account")
        self.assertEqual(self.completed("pop3connect", "list", "@"), [])
        self.folder.file.unlink()
        self.assertEqual(self.completed("pop3connect", "list", "@"), [])

    def run_shell(self, *arguments: str) -> str:
        """Run a shell that finds the command ``pop3connect``."""
        if shutil.which(arguments[0]) is None:
            raise SkipTest(f"{arguments[0]} is not installed")
        commands = Path(self.mktemp()).absolute()
        commands.mkdir()
        command = commands / "pop3connect"
        command.write_text(f'#!/bin/sh\nexec {sys.executable} -m pop3connect "$@"\n')
        command.chmod(0o755)
        done = subprocess.run(
            arguments,
            env={
                **os.environ,
                **self.folder.environment,
                "PYTHONPATH": str(ROOT),
                "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
            },
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    def test_bash_itself_completes_an_account(self) -> None:
        shown = self.run_shell(
            "bash",
            "--norc",
            "-c",
            'eval "$(_POP3CONNECT_COMPLETE=bash_source pop3connect)"\n'
            "COMP_WORDS=(pop3connect list @ w) COMP_CWORD=3\n"
            "_pop3connect_completion pop3connect\n"
            'echo "${COMPREPLY[@]}"',
        )
        self.assertEqual(shown, "@work\n")

    def test_fish_itself_completes_an_account(self) -> None:
        shown = self.run_shell(
            "fish",
            "-c",
            "_POP3CONNECT_COMPLETE=fish_source pop3connect | source\n"
            'complete -C "pop3connect list @w"',
        )
        self.assertEqual(shown, "@work\n")
