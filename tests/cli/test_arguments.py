"""
What is on the command line, and what it comes to: passwords, numbers.
"""

from __future__ import annotations

import io
import math
import os
import sys
from typing import Any
from unittest import mock

import click
import keyring
from click.testing import CliRunner
from keyring.errors import KeyringError
from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from pop3connect import (
    CommandError,
    ConnectError,
    ConnectionLostError,
    LoginError,
    POP3Error,
    ProtocolError,
    Secure,
    STLSUnavailableError,
    TimedOutError,
    TLSError,
    UsageError,
    VerificationError,
    connect,
)
from pop3connect.cli import access as access_module
from pop3connect.cli import opening, passwords
from pop3connect.cli.access import Access, access_options
from pop3connect.cli.app import main, pop3connect
from pop3connect.cli.exits import Exit, NotFoundError, exit_status, words
from pop3connect.cli.fetching import _account
from pop3connect.cli.numbers import NUMBERS, WholeNumber, choose
from pop3connect.cli.output import counted
from pop3connect.cli.passwords import PASSWORD_VARIABLE, read_password
from pop3connect.cli.running import Work
from pop3connect.collect.lock import InUseError
from pop3connect.collect.outcome import EndedError, HeldError
from pop3connect.destinations.base import Later
from pop3connect.remedies import USE_TLS, Option, Remedy, literal
from pop3connect.tls.options import TLSOptions

from ..support.loopback import ROOT
from ..support.shows import shows
from ..test_api import Reactor, Resolver

PIN = f"sha256//{'A' * 43}="
OTHER_PIN = f"sha256//{'B' * 42}A="


def access(*arguments: str, server: str = "pop.example.com") -> Access:
    """Return what the common options say."""
    found: list[Access] = []
    command = click.command()(access_options(found.append))
    result = CliRunner().invoke(command, [server, *arguments])
    assert result.exit_code == 0, result.output
    return found[0]


def without_sockets(work: Work) -> int:
    """Do the work of a command that ends before anything is sent."""
    outcome: list[int | Failure] = []
    Deferred.fromCoroutine(work(Reactor())).addBoth(outcome.append)
    [result] = outcome
    if isinstance(result, Failure):
        result.raiseException()
    return result


class AccessTests(SynchronousTestCase):
    def test_the_defaults_are_safe(self) -> None:
        default = access()
        self.assertIs(default.secure, Secure.TLS)
        self.assertIs(default.verify, True)
        self.assertIs(default.allow_cleartext, False)
        self.assertEqual(default.address.port, 995)
        self.assertIs(default.pipeline, True)
        self.assertIs(default.capa, True)

    def test_flags_turn_off_verification_pipelining_and_capa(self) -> None:
        flags = ("--no-verify", "--no-pipeline", "--no-capa", "--secure", "stls")
        other = access(*flags)
        self.assertEqual(other.address.port, 110)
        self.assertEqual((other.verify, other.pipeline, other.capa), (False,) * 3)

    def test_password_option_is_rejected(self) -> None:
        command = click.command()(access_options(lambda access: None))
        for option in ("--password", "--pass", "-p"):
            result = CliRunner().invoke(command, ["host", option, "secret"])
            self.assertEqual(result.exit_code, 2)

    def passed_on(
        self, server: str, *arguments: str, reactor: Reactor | None = None
    ) -> dict[str, Any]:
        """Return what the connector gets."""
        given: dict[str, Any] = {}

        class NoConnector:
            def __init__(self, server: str, **options: Any) -> None:
                given.update(options, server=server)

            def connect(self, *account: Any) -> Deferred[None]:
                given["account"] = account
                return succeed(None)

        self.patch(access_module, "Connector", NoConnector)
        said = access("--user", "ada", *arguments, server=server)
        work = opening.log_in(said, "secret", reactor or Reactor())
        self.successResultOf(Deferred.fromCoroutine(work))
        return given

    def test_cleartext_password_is_allowed_only_to_loopback_or_on_request(self) -> None:
        """The address decides, and the name does not."""
        for server, addresses, allowed in (
            ("pop.example.com", ["192.0.2.1"], False),
            ("192.0.2.1", [], False),
            ("127.0.0.1:110", [], True),
            ("[::1]:110", [], True),
            ("localhost", ["::1", "127.0.0.1"], True),
            ("LOCALHOST.:110", ["127.0.0.1"], True),
            ("mailpit", ["127.0.0.2"], True),
            ("localhost", ["192.0.2.1"], False),
            ("mail.localhost", ["192.0.2.1"], False),
            ("mail.localhost", ["127.0.0.1", "192.0.2.1"], False),
            ("mail.localhost", [], False),
        ):
            options = self.passed_on(
                server, "--secure", "none", reactor=Reactor(addresses)
            )
            self.assertIs(options["allow_cleartext"], allowed, (server, addresses))
        reactor = Reactor(["192.0.2.1"])
        asked = ("--secure", "none", "--allow-cleartext")
        options = self.passed_on("pop.example.com", *asked, reactor=reactor)
        self.assertIs(options["allow_cleartext"], True)

    def test_cleartext_password_goes_to_the_address_that_was_looked_at(self) -> None:
        """A second look-up could give another one."""
        reactor = Reactor(["127.0.0.1"])
        options = self.passed_on(
            "mail.localhost:1100", "--secure", "none", reactor=reactor
        )
        reactor.nameResolver = Resolver(["192.0.2.1"])
        options["endpoint"].connect(Factory.forProtocol(Protocol))
        self.assertEqual(reactor.attempts(), [("127.0.0.1", 1100)])

    def test_name_that_cannot_be_looked_up_in_time_is_an_error(self) -> None:
        reactor = Reactor(None)
        said = access("--user", "ada", "--secure", "none", server="mail.localhost")
        work = Deferred.fromCoroutine(opening.log_in(said, "secret", reactor))
        reactor.advance(30)
        error = self.failureResultOf(work, TimedOutError).value
        self.assertEqual(error.server, "mail.localhost:110")
        self.assertEqual(reactor.getDelayedCalls(), [])

    def test_server_that_may_hold_a_password_is_not_repeated(self) -> None:
        for server in ("pop3s://ada:SECRET@pop.example.com", "ada:SECRET@host"):
            for command in ("stat", "list", "info", "fetch", "delete"):
                words = [command, server, "--user", "ada"]
                words += {"fetch": ["out"], "delete": ["1", "--yes"]}.get(command, [])
                result = CliRunner(env={PASSWORD_VARIABLE: "x"}).invoke(
                    pop3connect, words, obj=without_sockets
                )
                self.assertEqual(result.exit_code, Exit.USAGE, result.output)
                self.assertNotIn("SECRET", result.output)
                self.assertIn("a host or host:port", result.output)

    def test_all_options_reach_the_library(self) -> None:
        options = self.passed_on(
            "host",
            *("--auth", "SCRAM-SHA-1", "--timeout", "7", "--cacerts", "folder"),
            *("--system-trust", "--no-pipeline", "--no-capa", "--no-verify"),
            *("--client-certificate", "ours.pem"),
            *("--pin", PIN, "--pin", OTHER_PIN, "--authorize-as", "bob"),
            *("--tls-minimum-version", "TLSv1.3", "--tls-ciphers", "ECDHE+AESGCM"),
            *("--crl", "revoked.pem", "--proxy", "socks5://eve:SECRET@proxy"),
        )
        del options["reactor"]
        self.assertIsNone(options.pop("endpoint"))
        self.assertEqual(
            options,
            {
                "server": "host",
                "account": ("ada", "secret", None),
                "secure": Secure.TLS,
                "verify": False,
                "auth": "SCRAM-SHA-1",
                "timeout": 7.0,
                "connect_timeout": 30.0,
                "cacerts": "folder",
                "system_trust": True,
                "pipeline": False,
                "capa": False,
                "client_certificate": "ours.pem",
                "allow_cleartext": False,
                "pins": (PIN, OTHER_PIN),
                "authorize_as": "bob",
                "proxy": "socks5://eve:SECRET@proxy",
                "tls": TLSOptions(
                    minimum_version="TLSv1.3", ciphers="ECDHE+AESGCM", crl="revoked.pem"
                ),
            },
        )

    def test_proxy_of_the_environment_is_used_on_request_only(self) -> None:
        url = "socks5h://eve:SECRET@proxy"
        with mock.patch.dict(os.environ, ALL_PROXY=url):
            self.assertIsNone(access().proxy)
            given = access("--proxy", "env")
        self.assertEqual(given.proxy, url)
        self.assertNotIn("SECRET", repr(given))

    def test_bad_proxy_is_a_usage_error_that_does_not_repeat_it(self) -> None:
        command = click.command("x")(access_options(lambda access: None))
        environment = {"ALL_PROXY": "https://eve:SECRET@proxy", "all_proxy": None}
        for value, problem in (
            ("eve:SECRET@proxy", "must be a URL such as 'socks5://"),
            ("https://eve:SECRET@proxy", "https proxies are not supported"),
            ("env", "https proxies are not supported"),
        ):
            result = CliRunner(env=environment).invoke(
                command, ["host", "--proxy", value]
            )
            self.assertEqual(result.exit_code, Exit.USAGE)
            self.assertNotIn("SECRET", result.output)
            self.assertIn(problem, " ".join(result.output.split()))
        environment = {"ALL_PROXY": None, "all_proxy": None}
        result = CliRunner(env=environment).invoke(command, ["host", "--proxy", "env"])
        self.assertIn("ALL_PROXY is not set", " ".join(result.output.split()))

    @shows("attack 6.4")
    def test_name_of_the_server_is_not_looked_up_with_a_proxy(self) -> None:
        """So the password may be sent in the clear on request only."""
        reactor = Reactor(["127.0.0.1"])
        through = ("--secure", "none", "--proxy", "socks5://127.0.0.1")
        options = self.passed_on("mail.localhost", *through, reactor=reactor)
        self.assertEqual(reactor.resolver.asked, [])
        self.assertIs(options["allow_cleartext"], False)
        self.assertIsNone(options["endpoint"])

    def test_pin_or_version_that_cannot_be_used_is_a_usage_error(self) -> None:
        for arguments, wanted in (
            (("--pin", "abc"), "'abc' is not a pin; write 'sha256//'"),
            (("--pin", PIN, "--pin", ""), "'' is not a pin"),
            (("--tls-minimum-version", "TLSv1.1"), "'TLSv1.2', 'TLSv1.3'"),
        ):
            result = CliRunner().invoke(pop3connect, ["info", "host", *arguments])
            self.assertEqual(result.exit_code, Exit.USAGE)
            self.assertIn(wanted, result.output)

    def test_each_mailbox_of_a_master_user_has_a_journal_of_its_own(self) -> None:
        """Else the messages of one would be taken for those of another."""
        accounts = {
            _account(access("--user", "boss", *more))
            for more in ((), ("--authorize-as", "bob"), ("--authorize-as", "eve"))
        }
        self.assertEqual(
            accounts, {f"{who}@pop.example.com" for who in ("boss", "bob", "eve")}
        )


def from_keyring(service: str, user: str) -> str | None:
    """Look into a keyring for these tests."""
    if service == "broken.example.com":
        raise KeyringError("it is locked")
    if service == "cron.example.com":
        raise RuntimeError("dbus-launch: no DISPLAY\nand no more")
    if service == "import.example.com":
        raise ImportError("No module named 'secretstorage'")
    if service == "silent.example.com":
        raise KeyError
    return {("pop.example.com", "ada"): "from-keyring"}.get((service, user))


class Terminal(io.StringIO):
    """A stdin at which a person sits."""

    def isatty(self) -> bool:
        return True


class OutputTests(SynchronousTestCase):
    def test_one_is_singular_and_others_are_plural(self) -> None:
        self.assertEqual(
            [counted(number, "octet") for number in (0, 1, 2)],
            ["0 octets", "1 octet", "2 octets"],
        )


class MainTests(SynchronousTestCase):
    def run_main(self, *arguments: str) -> tuple[int, str]:
        errors = io.StringIO()
        self.patch(sys, "argv", ["pop3connect", *arguments])
        self.patch(sys, "stderr", errors)
        return main(), errors.getvalue()

    def test_missing_argument_exits_with_usage_status(self) -> None:
        status, errors = self.run_main("stat")
        self.assertEqual(status, Exit.USAGE)
        self.assertEqual(
            errors,
            "pop3connect: Missing argument 'SERVER'; see 'pop3connect stat --help'\n",
        )

    def test_every_usage_error_is_one_line_about_options(self) -> None:
        user = ("--user", "ada")
        self.patch(passwords.os, "environ", {"POP3CONNECT_PASSWORD": "secret"})
        for arguments, said in (
            (("look",), "No such command 'look'"),
            # Older versions of click have no quotes here.
            (("stat", "h", "--look"), "No such option"),
            (("stat", "h", "--secure", "ssl"), "Invalid value for '--secure'"),
            (("stat", "h", *user, "--auth", "NTLM"), "'NTLM' is not one of auto, USER"),
            *(
                ((*command, "--timeout", odd), "Invalid value for '--timeout'")
                for command in (("stat", "h", *user), ("info", "h"))
                for odd in ("0", "-1", "nan", "inf", "1e9", "soon")
            ),
            (("stat", "h:0", *user), "is not a port"),
            (("stat", "h"), "the user is missing: give --user NAME"),
            (("get", "h", "x", *user), "'x' is not a number from 1"),
            (("top", "h", "1", "x", *user), "'x' is not a number from 0"),
            (("list", "h", "x\n\x1b[m", *user), "is not like 3, 2-5 or 7-"),
            (("delete", "h", *user), "Missing argument 'NUMBERS...'"),
        ):
            status, errors = self.run_main(*arguments)
            self.assertEqual(status, Exit.USAGE, arguments)
            self.assertEqual(errors.count("\n"), 1, errors)
            self.assertTrue(errors.startswith("pop3connect: "), errors)
            self.assertTrue(errors[:-1].isprintable(), errors)
            self.assertIn(said, errors)
            self.assertNotRegex(errors, "IClientAuthentication|integer|Usage:")

    def test_no_command_shows_the_help(self) -> None:
        status, errors = self.run_main()
        self.assertEqual(status, Exit.USAGE)
        self.assertIn("Look into POP3 mailboxes", errors)

    def test_delete_without_yes_or_a_terminal_is_a_usage_error(self) -> None:
        # An answer in a pipe does not count: it was hardly meant as one.
        self.patch(sys, "stdin", io.StringIO("y\n"))
        status, errors = self.run_main("delete", "host", "1", "--user", "ada")
        self.assertEqual(status, Exit.USAGE)
        self.assertIn("stdin is not a terminal: give --yes", errors)

    def test_ctrl_c_at_a_prompt_exits_silently_as_interrupted(self) -> None:
        def interrupt(*arguments: Any, **options: Any) -> bool:
            raise KeyboardInterrupt

        self.patch(click, "confirm", interrupt)
        self.patch(sys, "stdin", Terminal())
        status, errors = self.run_main("delete", "host", "1", "--user", "ada")
        self.assertEqual((status, errors.strip()), (Exit.INTERRUPTED, ""))


class PasswordTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(sys, "stdin", self)
        self.patch(keyring, "get_password", from_keyring)
        self.environment: dict[str, str] = {}
        self.patch(passwords.os, "environ", self.environment)

    def isatty(self) -> bool:
        return False

    def refusal(self, *arguments: str, **rest: Any) -> str:
        error = self.assertRaises(
            click.UsageError, read_password, access(*arguments, **rest)
        )
        return error.message

    def program(self, source: str) -> tuple[str, ...]:
        command = f'"{sys.executable}" -c "{source}"'
        return ("--user", "ada", "--password-command", command)

    def test_password_is_read_from_the_environment(self) -> None:
        self.environment["POP3CONNECT_PASSWORD"] = "from-environment"
        self.assertEqual(read_password(access("--user", "ada")), "from-environment")

    def test_no_password_source_without_a_terminal_is_a_usage_error(self) -> None:
        refusal = self.refusal("--user", "ada")
        self.assertIn("POP3CONNECT_PASSWORD", refusal)
        self.assertIn("--keyring", refusal)

    def test_missing_user_is_a_usage_error(self) -> None:
        self.assertIn("--user", self.refusal())

    def test_keyring_is_preferred_over_the_environment(self) -> None:
        self.environment["POP3CONNECT_PASSWORD"] = "from-environment"
        password = read_password(access("--user", "ada", "--keyring"))
        self.assertEqual(password, "from-keyring")

    def test_missing_entry_or_locked_keyring_is_explained(self) -> None:
        refusal = self.refusal("--user", "bob", "--keyring")
        self.assertIn("'keyring set pop.example.com bob'", refusal)
        refusal = self.refusal(
            "--user", "ada", "--keyring", server="broken.example.com"
        )
        self.assertIn("it is locked", refusal)

    def test_any_error_of_a_keyring_backend_is_a_usage_error(self) -> None:
        for server, why in (
            ("cron.example.com", "RuntimeError: dbus-launch: no DISPLAY"),
            ("import.example.com", "ImportError: No module named 'secretstorage'"),
            ("silent.example.com", "the keyring cannot be read: KeyError; try"),
        ):
            refusal = self.refusal("--user", "ada", "--keyring", server=server)
            self.assertIn(why, refusal)
            self.assertIn("--password-command or POP3CONNECT_PASSWORD", refusal)
            self.assertNotIn("pip install", refusal)

    def test_keyring_not_installed_says_how_to_install_it(self) -> None:
        self.addCleanup(sys.modules.update, {"keyring": keyring})
        sys.modules["keyring"] = None  # type: ignore[assignment]
        self.assertIn("pip install keyring", self.refusal("--user", "ada", "--keyring"))

    def test_first_output_line_of_password_command_is_the_password(self) -> None:
        password = read_password(access(*self.program("print('a b'); print('more')")))
        self.assertEqual(password, "a b")
        self.assertNotIn("a b", repr(password))

    def test_only_lf_ends_the_password_of_a_command(self) -> None:
        # VT, FF, CR, FS, GS, RS, NEL, U+2028, U+2029: str.splitlines cuts at each.
        for odd in (0x0B, 0x0C, 0x0D, 0x1C, 0x1D, 0x1E, 0x85, 0x2028, 0x2029):
            source = (
                "import sys; sys.stdout.buffer.write("
                f"('a' + chr({odd}) + 'b' + chr(10) + 'more').encode())"
            )
            password = read_password(access(*self.program(source)))
            self.assertEqual(str(password), f"a{chr(odd)}b", hex(odd))

    def test_failing_password_command_is_refused_without_its_output(self) -> None:
        for source, reason in (
            ("raise SystemExit(3)", "exit status was 3"),
            ("pass", "printed no password"),
            ("import os; os.write(1, bytes([255]) + b'secret')", "not UTF-8"),
        ):
            refusal = self.refusal(*self.program(source))
            self.assertIn(reason, refusal)
            self.assertNotIn("secret", refusal)
        refusal = self.refusal("--user", "ada", "--password-command", "/no/such/file")
        self.assertIn("No such file", refusal)

    def test_password_command_and_keyring_together_are_refused(self) -> None:
        self.assertIn("not both", self.refusal(*self.program("pass"), "--keyring"))


class NumbersTests(SynchronousTestCase):
    def chosen(self, *arguments: str) -> list[int]:
        given = [NUMBERS.convert(argument, None, None) for argument in arguments]
        return choose(given, [1, 2, 3, 5, 8])

    def test_numbers_and_ranges_select_existing_messages(self) -> None:
        for arguments, numbers in (
            ((), [1, 2, 3, 5, 8]),
            (("3",), [3]),
            (("8", "1"), [1, 8]),
            (("2-5",), [2, 3, 5]),
            (("3-",), [3, 5, 8]),
            (("1,5-", "2,2"), [1, 2, 5, 8]),
            (("6-7",), []),
            (("1-99999999999999999",), [1, 2, 3, 5, 8]),
        ):
            self.assertEqual(self.chosen(*arguments), numbers, arguments)

    def test_malformed_numbers_are_refused(self) -> None:
        for argument in ("", "x", "0", "-3", "5-2", "1,,2", "1-2-3", "\u0663", "1 "):
            self.assertRaises(click.BadParameter, self.chosen, argument)

    def test_missing_message_number_is_refused(self) -> None:
        error = self.assertRaises(NotFoundError, self.chosen, "1", "4")
        self.assertEqual(
            str(error), "message 4 does not exist; the mailbox has 5 messages"
        )
        error = self.assertRaises(NotFoundError, choose, [[(2, 2)]], [1])
        self.assertIn("the mailbox has 1 message", str(error))
        self.assertNotIn("messages", str(error))

    def test_whole_number_below_its_least_is_refused(self) -> None:
        self.assertEqual(WholeNumber(1).convert("1", None, None), 1)
        self.assertEqual(WholeNumber(0).convert(0, None, None), 0)
        for text in ("0", "-1", "x", "1.0", "", "\u0663", "9" * 19, "1_0"):
            error = self.assertRaises(
                click.BadParameter, WholeNumber(1).convert, text, None, None
            )
            self.assertEqual(error.message, f"{text!r} is not a number from 1")


class ExitTests(SynchronousTestCase):
    def test_each_error_has_its_exit_status(self) -> None:
        for error, status in (
            (UsageError("x"), 2),
            (ConnectError("x"), 3),
            (ConnectionLostError("x"), 4),
            (TimedOutError("x", phase="reply", seconds=1), 4),
            (TLSError("x"), 5),
            (STLSUnavailableError("x"), 5),
            (VerificationError("x"), 6),
            (LoginError("x"), 7),
            (LoginError("x", code="AUTH"), 7),
            (CommandError("x"), 8),
            (NotFoundError("x"), 8),
            (ProtocolError("x"), 9),
            (OSError("x"), 10),
            (LoginError("x", code="IN-USE"), 75),
            (CommandError("x", code="SYS/TEMP"), 75),
            (InUseError("x"), 75),
            (HeldError("x"), 75),
            (Later(), 75),
            (EndedError("x"), 4),
            # Such as those of the journal.
            (POP3Error("x"), 10),
        ):
            self.assertEqual(exit_status(error), status, error)

    def test_special_exit_statuses_are_0_1_and_130(self) -> None:
        self.assertEqual((Exit.DONE, Exit.BROKEN_PIPE, Exit.INTERRUPTED), (0, 1, 130))

    def test_every_exit_status_and_option_is_documented(self) -> None:
        page = ROOT / "docs" / "command-line.rst"
        if not page.exists():
            raise SkipTest("these are tests of an installed package")
        text = page.read_text(encoding="utf-8")
        for status in Exit:
            self.assertRegex(text, rf"(?m)^{status.value}  ")
        collector = page.with_name("reference") / "collector.rst"
        administration = collector.read_text(encoding="utf-8")
        for name, command in pop3connect.commands.items():
            if isinstance(command, click.Group):
                self.assertIn(f"\n``{name} ", text)
                for each, part in command.commands.items():
                    self.assertIn(f"\n``pop3connect {name} {each}", administration)
                    self.assertOptions(part, administration)
            else:
                first = next(
                    each for each in command.params if isinstance(each, click.Argument)
                )
                assert first.name is not None
                self.assertIn(f"\n``{name} {first.name.upper()}", text)
                self.assertOptions(command, text)

    def assertOptions(self, command: click.Command, text: str) -> None:
        """All options of a command are in a text."""
        for parameter in command.params:
            for option in parameter.opts:
                if option.startswith("--"):
                    self.assertIn(option, text, command.name)

    def test_remedies_in_errors_name_command_line_options(self) -> None:
        self.assertEqual(
            words(UsageError("no TLS", remedy=USE_TLS)),
            "no TLS; set --secure tls or --secure stls",
        )
        for option, shown in (
            (Option("pipeline", False), "--no-pipeline"),
            (Option("capa", False), "--no-capa"),
            (Option("cacerts"), "--cacerts"),
            (Option("auth", "PLAIN"), "--auth PLAIN"),
            (Option("allow_cleartext", False), "no --allow-cleartext"),
            (Option("timeout", [1]), "--timeout [1]"),
        ):
            error = ProtocolError("odd", remedy=Remedy("use {}", (option,)))
            self.assertEqual(words(error), f"odd; use {shown}")
        for options, said in (
            ({"timeout": math.nan}, " --timeout must be "),
            ({"auth": "NTLM"}, " --auth NTLM is not known"),
            ({"secure": 1, "cacerts": self.mktemp()}, " --cacerts: "),
        ):
            opening = connect("h", "ada", "secret", reactor=Reactor(), **options)
            refusal = self.failureResultOf(opening, UsageError).value
            self.assertIn(said, words(refusal))

    def test_text_of_a_server_or_a_path_is_never_reworded(self) -> None:
        for text in (
            "the server refused: auth=plain is disabled, secure=1, capa=False",
            "cacerts: {0} {secure} {",
            "timeout must be",
        ):
            self.assertEqual(words(ProtocolError(text)), text)
            both = words(ProtocolError(text, remedy=USE_TLS))
            self.assertEqual(both, f"{text}; set --secure tls or --secure stls")
        shown = str(Remedy(literal("put it into {a} secure=1"), ()))
        self.assertEqual(shown, "put it into {a} secure=1")
