"""
Passwords in a netrc file.
"""

from __future__ import annotations

import os
from pathlib import Path
from unittest import mock

import click
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from pop3connect.cli.netrc_file import password_in

from ..support.command import USER, CommandTestCase
from ..support.loopback import PASSWORD

HOST = "pop.example.com"

FILE = f"""
# For all of my mail
# machine {HOST} login ada password of-old

machine {HOST}
    # The first
    login ada

    # as of today
    password of-ada

macdef init
# a comment
binary

#No more of them, and no # either
machine other.example.com login ada password of-other
machine POP.example.COM login bob account x password of-bob
default login eve password of-eve
"""


class NetrcTests(SynchronousTestCase):
    def setUp(self) -> None:
        if os.name != "posix":
            raise SkipTest("permissions are POSIX's")
        self.file = Path(self.mktemp()).absolute()
        self.write(FILE)

    def write(self, text: str | bytes, mode: int = 0o600) -> None:
        self.file.write_bytes(text.encode() if isinstance(text, str) else text)
        self.file.chmod(mode)

    def refusal(self, user: str = "ada", file: str | None = None) -> str:
        path = str(self.file) if file is None else file
        error = self.assertRaises(click.UsageError, password_in, path, HOST, user)
        return error.message

    def test_host_and_user_choose_the_entry(self) -> None:
        for user, password in (("ada", "of-ada"), ("bob", "of-bob")):
            self.assertEqual(password_in(str(self.file), HOST, user), password)
        found = password_in(str(self.file), "other.example.com", "ada")
        self.assertEqual((found, repr(found)), ("of-other", "********"))

    def test_missing_entry_is_explained_and_default_does_not_count(self) -> None:
        refusal = self.refusal("eve")
        self.assertIn(f"has no password of eve for {HOST}", refusal)
        self.assertIn("it has those of: ada, bob", refusal)
        self.assertIn(f"machine {HOST} login eve password", refusal)
        self.write("default login ada password of-eve\n")
        self.assertIn("it has no entry for this host", self.refusal())

    def test_file_that_others_may_read_is_refused(self) -> None:
        for mode in (0o604, 0o640, 0o620):
            self.write(FILE, mode)
            self.assertIn(f"chmod 600 {self.file}", self.refusal())

    def test_file_of_another_user_is_refused(self) -> None:
        if os.geteuid() == 0:
            os.chown(self.file, 4711, -1)
        with mock.patch.object(os, "getuid", return_value=4712):
            self.assertIn("belongs to another user", self.refusal())

    def test_file_that_cannot_be_used_is_an_error_without_its_secrets(self) -> None:
        for text, problem in (
            (f"machine {HOST} login ada pasword SECRET\n", "line 1 is not as in"),
            ("SECRET", "line 1 is not as in"),
            (b"machine SECRET\xff\x81 x", "is not "),
        ):
            self.write(text)
            refusal = self.refusal()
            self.assertIn(problem, refusal)
            self.assertIn(str(self.file), refusal)
            self.assertNotIn("SECRET", refusal)

    def test_argument_taken_for_a_file_is_explained(self) -> None:
        hint = "to read ~/.netrc, give --netrc after the arguments"
        self.assertIn(hint, self.refusal(file="1-2"))
        self.assertIn("is not a file; " + hint, self.refusal(file=os.curdir))

    def test_default_is_the_file_of_the_environment_or_of_the_home(self) -> None:
        with mock.patch.dict(os.environ, NETRC=str(self.file)):
            self.assertEqual(password_in("", HOST, "ada"), "of-ada")
        home = Path(self.mktemp()).absolute()
        home.mkdir()
        with mock.patch.dict(os.environ, HOME=str(home), NETRC=""):
            refusal = self.refusal(file="")
            self.assertIn(f"{home}/.netrc cannot be read: No such file", refusal)
            self.assertNotIn("after the arguments", refusal)
            self.file.rename(home / ".netrc")
            self.assertEqual(password_in("", HOST, "ada"), "of-ada")

    def test_home_that_is_not_known_is_an_error_that_names_the_path(self) -> None:
        refusal = self.refusal(file="~no-such-user/netrc")
        self.assertIn("--netrc: ~no-such-user/netrc: the home folder", refusal)
        self.assertIn("give the file's whole path", refusal)


class NetrcSessionTests(CommandTestCase):
    async def test_netrc_opens_a_session_before_the_environment_is_asked(self) -> None:
        file = Path(self.folder, "netrc")
        file.write_text(f"machine 127.0.0.1 login {USER} password {PASSWORD}\n")
        file.chmod(0o600)
        wrong = {"POP3CONNECT_PASSWORD": "wrong", "NETRC": str(file.absolute())}
        for arguments in ((f"--netrc={file}",), ("--netrc", str(file)), ("--netrc",)):
            result = await self.run_command("stat", *arguments, environment=wrong)
            self.assertEqual(result.exit_code, 0, result.output)

    async def test_two_sources_of_a_password_are_a_usage_error(self) -> None:
        result = await self.run_command("stat", "--netrc=x", "--keyring")
        self.assertEqual(result.exit_code, 2)
        self.assertIn("give --keyring or --netrc, not both", result.stderr)
