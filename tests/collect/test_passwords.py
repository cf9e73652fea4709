"""Passwords of accounts: where they are, and what is said where there is none."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from pop3connect import UsageError
from pop3connect.collect.passwords import check_password, exposed, password_for
from pop3connect.collect.settings import AccountSettings, PasswordSource

reactor: Any = global_reactor

PASSWORD = "looking-glass-7"


def account(key: str, value: object) -> AccountSettings:
    return AccountSettings(
        name="ann",
        server="pop.example.com",
        user="ann",
        password=PasswordSource(key, value),
    )


class PasswordTestCase(TestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.secret = self.folder / "secret"
        self.addCleanup(os.environ.pop, "POP3CONNECT_TEST", None)

    def ask(self, settings: AccountSettings, **more: Any) -> Deferred[str]:
        ask: Any = password_for(settings, self.folder, reactor, **more)
        return Deferred.fromCoroutine(ask())

    async def refused(self, settings: AccountSettings) -> str:
        asked: Deferred[Any] = self.ask(settings)
        error: UsageError = await self.assertFailure(asked, UsageError)
        told = str(error)
        self.assertNotIn(PASSWORD, told)
        self.assertIsNone(error.__cause__)
        self.assertIsNone(error.__context__)
        self.assertTrue(told.endswith("; no login was tried"), told)
        return told

    def check_refused(self, settings: AccountSettings) -> str:
        check = (UsageError, check_password, settings, self.folder)
        return str(self.assertRaises(*check))


class SourceTests(PasswordTestCase):
    async def test_each_source_gives_the_first_line_without_its_end(self) -> None:
        for odd in ("", " ", "\f", "\r", "\u2028", "\x85", "ü"):
            password = f"love{odd}lace"
            self.secret.write_bytes(f"{password}\r\nmore\n".encode())
            os.environ["POP3CONNECT_TEST"] = password
            for source in (
                account("password_file", self.secret),
                account("password_env", "POP3CONNECT_TEST"),
            ):
                self.assertEqual(await self.ask(source), password)
                check_password(source, self.folder)
        printed = account("password_command", ("cat", "secret"))
        self.assertEqual(await self.ask(printed), password)
        check_password(printed, self.folder)

    async def test_password_in_the_configuration_is_returned(self) -> None:
        settings = account("password", PASSWORD)
        self.assertEqual(await self.ask(settings), PASSWORD)
        check_password(settings, self.folder)

    async def test_password_is_looked_up_at_each_login(self) -> None:
        ask: Any = password_for(
            account("password_file", self.secret), self.folder, reactor
        )
        for password in ("one", "two"):
            self.secret.write_text(password)
            self.assertEqual(await ask(), password)

    def test_function_is_the_password_function(self) -> None:
        settings = AccountSettings(
            name="ann", server="pop.example.com", user="ann", password=lambda: PASSWORD
        )
        found = password_for(settings, self.folder, reactor)
        self.assertIs(found, settings.password)
        check_password(settings, self.folder)
        self.assertIsNone(exposed(settings, self.secret))

    async def test_password_is_hidden_in_tracebacks(self) -> None:
        self.secret.write_text(PASSWORD)
        self.assertNotIn(
            PASSWORD, repr([await self.ask(account("password_file", self.secret))])
        )

    async def test_link_to_a_file_is_followed(self) -> None:
        (self.folder / "real").write_text(PASSWORD)
        self.secret.symlink_to("real")
        password = await self.ask(account("password_file", self.secret))
        self.assertEqual(password, PASSWORD)


class MissingTests(PasswordTestCase):
    async def test_missing_file_is_told(self) -> None:
        settings = account("password_file", self.secret)
        told = await self.refused(settings)
        self.assertIn("password_file: [Errno 2] No such file or directory: ", told)
        self.assertIn(str(self.secret), self.check_refused(settings))

    async def test_empty_or_unreadable_text_is_told(self) -> None:
        settings = account("password_file", self.secret)
        for content, wanted in (
            (b"", f"there is nothing in the first line of {self.secret}"),
            (b"\nsecond", f"there is nothing in the first line of {self.secret}"),
            (PASSWORD.encode() + b"\xff", "it is not UTF-8"),
        ):
            self.secret.write_bytes(content)
            self.assertIn(wanted, await self.refused(settings))
            self.assertIn(wanted, self.check_refused(settings))

    async def test_fifo_and_folder_do_not_block(self) -> None:
        os.mkfifo(self.secret)
        for path in (self.secret, self.folder):
            settings = account("password_file", path)
            self.assertIn(f"{path} is not a file", await self.refused(settings))
            self.assertIn(f"{path} is not a file", self.check_refused(settings))

    async def test_missing_variable_is_told(self) -> None:
        settings = account("password_env", "POP3CONNECT_TEST")
        self.assertEqual(
            await self.refused(settings),
            "password_env: there is nothing in that environment variable; no login was "
            "tried",
        )
        self.assertIn("nothing in that", self.check_refused(settings))


class CommandTests(PasswordTestCase):
    async def test_output_of_a_failed_command_is_not_told(self) -> None:
        settings = account(
            "password_command",
            ("sh", "-c", f"echo {PASSWORD}; echo {PASSWORD} >&2; exit 3"),
        )
        self.assertEqual(
            await self.refused(settings),
            "password_command: sh: exit status 3; no login was tried",
        )

    async def test_output_that_is_not_text_is_told(self) -> None:
        script = f"printf '{PASSWORD}\\377'"
        told = await self.refused(account("password_command", ("sh", "-c", script)))
        self.assertIn("it is not UTF-8", told)

    async def test_missing_command_is_told_and_a_check_runs_none(self) -> None:
        settings = account("password_command", ("./none",))
        self.assertIn("./none: there is no such program", await self.refused(settings))
        self.assertIn("./none: there is no such program", self.check_refused(settings))
        settings = account("password_command", ("sh", "-c", "touch ran"))
        check_password(settings, self.folder)
        self.assertFalse((self.folder / "ran").exists())

    async def test_command_gets_no_other_password(self) -> None:
        os.environ["POP3CONNECT_TEST"] = PASSWORD
        settings = account(
            "password_command", ("sh", "-c", 'echo "<$POP3CONNECT_TEST>"')
        )
        password = await self.ask(settings, secrets={"POP3CONNECT_TEST"})
        self.assertEqual(password, "<>")

    async def test_cancelled_login_ends_the_command(self) -> None:
        script = "trap 'touch ended; exit' TERM; touch began; sleep 600 & wait"
        asked: Deferred[Any] = self.ask(
            account("password_command", ("sh", "-c", script))
        )
        while not (self.folder / "began").exists():
            await deferLater(reactor, 0.01)
        asked.cancel()
        await self.assertFailure(asked, CancelledError)
        self.assertTrue((self.folder / "ended").exists())


class KeyringTests(PasswordTestCase):
    settings = account("password_keyring", "pop.example.com")

    def install(self, function: Any) -> None:
        keyring = ModuleType("keyring")
        keyring.__spec__ = sys.modules["os"].__spec__
        keyring.get_password = function  # type: ignore[attr-defined]
        self.patch_module(keyring)

    def patch_module(self, module: ModuleType | None) -> None:
        before = sys.modules.get("keyring")
        if before is None:
            self.addCleanup(sys.modules.pop, "keyring", None)
        else:
            self.addCleanup(sys.modules.__setitem__, "keyring", before)
        sys.modules["keyring"] = module  # type: ignore[assignment]

    async def test_password_of_the_user_is_asked_for_in_a_thread(self) -> None:
        asked: list[tuple[str, str]] = []

        def get_password(service: str, user: str) -> str:
            asked.append((service, user))
            return PASSWORD

        self.install(get_password)
        self.assertEqual(await self.ask(self.settings), PASSWORD)
        check_password(self.settings, self.folder)
        self.assertEqual(asked, [("pop.example.com", "ann")] * 2)

    async def test_password_that_the_keyring_does_not_have_is_told(self) -> None:
        self.install(lambda service, user: None)
        told = await self.refused(self.settings)
        self.assertIn("'keyring set pop.example.com ann' adds one", told)
        self.assertIn("has no password of ann", self.check_refused(self.settings))

    async def test_keyring_that_fails_is_told(self) -> None:
        def get_password(service: str, user: str) -> str:
            raise RuntimeError("no D-Bus")

        self.install(get_password)
        told = await self.refused(self.settings)
        self.assertIn("cannot be read: RuntimeError: no D-Bus", told)

    async def test_keyring_that_is_not_installed_is_told(self) -> None:
        self.patch_module(None)
        told = await self.refused(self.settings)
        self.assertIn("the package keyring is missing: pip install keyring", told)


class ExposedTests(PasswordTestCase):
    def test_file_that_every_user_may_read_is_exposed(self) -> None:
        self.secret.write_text(PASSWORD)
        config = self.folder / "collect.toml"
        config.write_text(PASSWORD)
        for settings, file in (
            (account("password", PASSWORD), config),
            (account("password_file", self.secret), self.secret),
        ):
            for mode, found in ((0o644, file), (0o640, None), (0o600, None)):
                file.chmod(mode)
                self.assertEqual(exposed(settings, config), found)

    def test_password_of_a_proxy_in_the_configuration_is_exposed_too(self) -> None:
        config = self.folder / "collect.toml"
        config.write_text("")
        config.chmod(0o644)
        self.secret.write_text(PASSWORD)
        self.secret.chmod(0o600)
        ours = account("password_file", self.secret)
        for proxy, found in (
            ("socks5://ada:hunter2@proxy", config),
            ("socks5://ada@proxy", None),
            ("socks5://proxy", None),
        ):
            self.assertEqual(exposed(attrs.evolve(ours, proxy=proxy), config), found)
        self.assertIsNone(exposed(attrs.evolve(ours, proxy="socks5://a:b@c"), None))

    def test_other_sources_and_missing_files_are_not_exposed(self) -> None:
        config = self.folder / "collect.toml"
        config.write_text("")
        config.chmod(0o644)
        self.assertIsNone(exposed(account("password_env", "X"), config))
        self.assertIsNone(exposed(account("password_file", self.secret), config))
        self.assertIsNone(exposed(account("password", PASSWORD), None))
