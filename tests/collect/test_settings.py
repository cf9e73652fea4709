"""Settings that a program makes itself, without a file."""

from __future__ import annotations

import gc
import inspect
import weakref
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from pop3connect import Connector, Secure, UsageError
from pop3connect.collect.rules import HeaderPattern
from pop3connect.collect.settings import (
    AccountSettings,
    Config,
    Connectors,
    DestinationSettings,
    PasswordSource,
)

PIN = f"sha256//{'A' * 43}="
OTHER_PIN = f"sha256//{'B' * 42}A="


def account(**more: Any) -> AccountSettings:
    values = {
        "name": "ann",
        "server": "pop.example.com",
        "user": "ann",
        "password": "looking-glass",
        **more,
    }
    return AccountSettings(**values)


def reactor_with_names() -> Any:
    """One that can look up names, which that of an old Twisted cannot."""
    reactor: Any = MemoryReactorClock()
    reactor.nameResolver = None
    return reactor


class AccountTests(SynchronousTestCase):
    def test_text_is_a_password_that_is_not_shown(self) -> None:
        settings = account()
        self.assertEqual(settings.password, PasswordSource("password", "looking-glass"))
        self.assertNotIn("looking-glass", repr((settings, settings.password)))

    def test_password_may_be_a_source_or_a_function(self) -> None:
        source = PasswordSource("password_env", "SECRET")
        for password in (source, lambda: "looking-glass"):
            self.assertIs(account(password=password).password, password)
        for wrong in (None, 7, b"looking-glass"):
            error = self.assertRaises(UsageError, account, password=wrong)
            self.assertIn("password must be a text, a PasswordSource", str(error))

    def test_values_that_were_read_once_stay_the_same(self) -> None:
        settings = account(
            after="delete after 14 days",
            existing="last 7 days",
            match=["From: *@example.org", HeaderPattern("To", "*")],
            cacerts="ca",
            secure="stls",
            interval=("1 min", 3600),
            newer_than="1 day",
            max_size="1 MB",
        )
        again = account(
            **{
                each.name: getattr(settings, each.name)
                for each in attrs.fields(AccountSettings)
            }
        )
        self.assertEqual(again, settings)
        self.assertEqual(settings.secure, Secure.STLS)
        self.assertEqual(settings.cacerts, Path("ca"))
        self.assertEqual(attrs.evolve(settings, interval=5).interval, (5, 5))

    def test_error_begins_with_the_key(self) -> None:
        for values in (
            {"name": "a b"},
            {"server": None},
            {"user": ""},
            {"interval": None},
            {"to": None},
            {"match": None},
        ):
            error = self.assertRaises(UsageError, account, **values)
            self.assertTrue(str(error).startswith(f"{next(iter(values))} must be "))

    def test_port_of_the_address_depends_on_the_protection(self) -> None:
        self.assertEqual(str(account().address), "pop.example.com:995")
        self.assertEqual(
            str(account(secure=Secure.STLS).address), "pop.example.com:110"
        )

    def test_connector_has_the_options_of_the_account(self) -> None:
        reactor = MemoryReactorClock()
        settings = account(
            server="192.0.2.1:1100", secure="none", connect_timeout="7 s", capa=False
        )
        connector = settings.connector(reactor)
        self.assertEqual(repr(connector), "<Connector 192.0.2.1:1100 NONE>")
        failed = connector.connect("ann", "looking-glass")
        [(host, port, *_)] = reactor.tcpClients
        self.assertEqual((host, port), ("192.0.2.1", 1100))
        failed.addErrback(lambda _: None).cancel()

    def test_accounts_with_equal_options_share_a_connector(self) -> None:
        connectors = Connectors(reactor_with_names())
        first = connectors(account(name="ann", user="ann"))
        self.assertIs(connectors(account(name="bob", user="bob", to="box")), first)

    def test_accounts_with_other_servers_or_options_have_other_connectors(
        self,
    ) -> None:
        connectors = Connectors(reactor_with_names())
        folder = Path(self.mktemp())
        folder.mkdir()
        others: list[dict[str, Any]] = [
            {"server": "pop.example.net"},
            {"server": "pop.example.com:1995"},
            {"secure": "stls"},
            {"verify": False},
            {"auth": "PLAIN"},
            {"timeout": 7},
            {"connect_timeout": 7},
            {"pipeline": False},
            {"allow_cleartext": False},
            {"cacerts": folder},
            {"cacerts": folder, "system_trust": True},
            {"client_certificate": "/etc/ssl/ann.pem"},
            {"pins": [PIN]},
            {"pins": [PIN, OTHER_PIN]},
            {"tls_minimum_version": "TLSv1.3"},
            {"tls_ciphers": "ECDHE+AESGCM"},
            {"crl": "/etc/ssl/crl.pem"},
            {"capa": False},
            {"proxy": "socks5://proxy"},
            {"proxy": "socks5://ada:hunter2@proxy"},
        ]
        made = [connectors(account(**options)) for options in [{}, *others]]
        self.assertEqual(len(set(map(id, made))), len(made))

    def test_connector_that_no_account_needs_is_dropped(self) -> None:
        connectors = Connectors(reactor_with_names())
        dropped = weakref.ref(connectors(account()))
        gc.collect()
        self.assertIsNone(dropped())

    def test_every_option_of_a_connector_is_a_setting(self) -> None:
        ours = {*account().options, "server", "reactor"}
        # What the collector decides itself.
        others = {"endpoint", "max_message_size", "max_listing", "utf8", "events"}
        # Those that a master user opens share a connector.
        others.add("authorize_as")
        self.assertEqual(ours | others, {*inspect.signature(Connector).parameters})
        settings = account(client_certificate="ann.pem", timeout="1 min", verify=False)
        self.assertEqual(settings.options["client_certificate"], "ann.pem")
        self.assertEqual(settings.options["timeout"], 60)
        self.assertFalse(settings.options["verify"])

    def test_proxy_is_checked_and_shows_no_password(self) -> None:
        settings = account(proxy="socks5://ada:hunter2@proxy:9050")
        self.assertEqual(settings.options["proxy"], "socks5://ada:hunter2@proxy:9050")
        self.assertNotIn("hunter2", repr(settings) + repr(settings.options))
        for bad in ("socks5:hunter2", "https://ada:hunter2@proxy", 1080, ["hunter2"]):
            with self.assertRaises(UsageError) as caught:
                account(proxy=bad)
            text = str(caught.exception)
            self.assertTrue(text.startswith("proxy must be a URL such as"), text)
            self.assertNotIn("hunter2", text)


def destination(**more: Any) -> DestinationSettings:
    values = {"name": "box", "kind": "maildir", "path": "mail/{account}", **more}
    return DestinationSettings(**values)


class DestinationTests(SynchronousTestCase):
    def test_function_may_be_given_as_it_is(self) -> None:
        self.assertIs(destination(kind="function", call=print).call, print)

    def test_path_is_that_of_the_account(self) -> None:
        settings = account(name="a.b", user="ann", server="POP.Example.com")
        for path, filled in (
            ("mail", "mail"),
            ("/{server}/{user}/{account}.x", "/pop.example.com/ann/a.b.x"),
        ):
            self.assertEqual(destination(path=path).path_for(settings), Path(filled))

    def test_path_never_leaves_its_folder(self) -> None:
        for user in ("..", "../x", "/etc", "a/../../b", "."):
            error = self.assertRaises(
                UsageError, destination(path="mail/{user}").path_for, account(user=user)
            )
            self.assertIn("write {account} instead of {user}", str(error))
        path = destination(path="../mail/{user}x").path_for(account(user=".."))
        self.assertEqual(path, Path("../mail/..x"))
        self.assertRaises(
            UsageError, destination(path=".{user}").path_for, account(user=".")
        )

    def test_arguments_are_filled_once(self) -> None:
        settings = destination(kind="command", command=["x", "{user}:{account}"])
        self.assertEqual(
            settings.command_for(account(user="{server}")), ("x", "{server}:ann")
        )


class ConfigTests(SynchronousTestCase):
    def test_program_may_begin_without_accounts_and_destinations(self) -> None:
        config = Config(state="state")
        self.assertEqual((config.accounts, dict(config.destinations)), ((), {}))
        self.assertEqual(config.folder, Path.cwd())
        error = self.assertRaises(UsageError, config.complete, account())
        self.assertIn("to is missing: name a destination; none is defined", str(error))

    def test_account_gets_the_only_destination(self) -> None:
        config = Config(state="state", destinations=[destination()])
        self.assertEqual(config.complete(account()).to, ("box",))
        again = attrs.evolve(config, sessions=1)
        self.assertEqual(again.destinations, config.destinations)

    def test_destination_of_the_program_counts(self) -> None:
        config = Config(state="state")
        self.assertEqual(config.complete(account(), ["own"]).to, ("own",))
        named = account(to="own")
        self.assertIs(config.complete(named, ["own", "other"]), named)
        error = self.assertRaises(UsageError, config.complete, named, ["other"])
        self.assertIn("to names own, which is not a destination", str(error))

    def test_function_as_password_is_no_secret_variable(self) -> None:
        config = Config(
            state="state",
            accounts=[
                account(password=lambda: "x"),
                account(name="bob", password=PasswordSource("password_env", "BOBS")),
            ],
        )
        self.assertEqual(config.secret_variables, {"BOBS"})
