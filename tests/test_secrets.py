"""
No secret in an error, nor in the local variables that a traceback can show.

Each way in which a login can fail is gone, and everything that an error reporter would
collect (`tests.support.frames`) is searched for the password and for what was sent.
"""

from __future__ import annotations

import base64
import gc
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.logger import LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from pop3connect import (
    ConnectionLostError,
    Connector,
    POP3ClientFactory,
    UsageError,
    blocking,
    connect,
)
from pop3connect.auth import sasl
from pop3connect.auth.policy import NO_PASSWORD
from pop3connect.cli import passwords
from pop3connect.cli.named import NamedAccount
from pop3connect.cli.netrc_file import password_in
from pop3connect.collect.config import read_config
from pop3connect.collect.passwords import password_for
from pop3connect.collect.settings import AccountSettings, PasswordSource
from pop3connect.omnis.commands import Omnis
from pop3connect.sansio.commands import Apop, Auth, AuthReply, Pass

from .support.frames import leaks
from .support.memory import Server, server_certificate

PASSWORD = "Zq7correct-horse"

SERVER_TEXT = f"-ERR no: PASS {PASSWORD}".encode()


def encoded(text: bytes) -> bytes:
    """Return base64, as SASL has it."""
    return base64.b64encode(text)


def challenge(mechanism: str, lines: list[bytes]) -> bytes:
    """Return what a server says to the last line of a login that goes well."""
    line = lines[-1]
    if mechanism in ("USER", "APOP"):
        return b"+OK"
    replies = len([each for each in lines if not each.startswith(b"CAPA")])
    if mechanism == "LOGIN":
        prompts = (b"User Name", b"Password")
        return b"+ " + encoded(prompts[replies - 1]) if replies < 3 else b"+OK"
    if mechanism == "CRAM-MD5":
        return b"+ " + encoded(b"<1.2@pop.example.com>") if replies < 2 else b"+OK"
    if mechanism.startswith("SCRAM"):
        data = base64.b64decode(line.rpartition(b" ")[2])
        nonce = re.search(rb"r=([^,]+)\Z", data)
        if nonce is None:
            return b"+ " + encoded(b"v=" + encoded(b"wrong"))
        salt = encoded(bytes(16))
        return b"+ " + encoded(b"r=" + nonce[1] + b"x,s=" + salt + b",i=4096")
    if mechanism in ("XOAUTH2", "OAUTHBEARER"):
        told = json.dumps({"status": "401", "scope": PASSWORD}).encode()
        return (b"+ ", b"+ " + encoded(told), SERVER_TEXT)[min(replies, 3) - 1]
    return b"+ " if replies < 2 else b"+OK"


MECHANISMS = tuple(
    name for name in ("USER", "APOP", *sasl.MECHANISMS) if name not in NO_PASSWORD
)

Fault = Callable[["Login"], None]


def _say(line: bytes) -> Fault:
    return lambda login: login.server.say(line + b"\r\n")


def _lose(login: Login) -> None:
    login.server.lose()


def _wait(login: Login) -> None:
    login.clock.advance(3600)


def _cancel(login: Login) -> None:
    login.opening.cancel()


FAULTS: dict[str, Fault] = {
    "refused": _say(SERVER_TEXT),
    "refused with a code": _say(b"-ERR [AUTH] no: " + PASSWORD.encode()),
    "later": _say(b"-ERR [SYS/TEMP] " + encoded(PASSWORD.encode())),
    "not supported": _say(b"-ERR mechanism not supported"),
    "no base64": _say(b"+ ***" + PASSWORD.encode()),
    "another challenge": _say(b"+ " + encoded(b"\xff" + PASSWORD.encode())),
    "too early": _say(b"+OK welcome " + PASSWORD.encode()),
    "nonsense": _say(b"Subject: " + PASSWORD.encode()),
    "a long line": _say(b"+OK " + PASSWORD.encode() * 2000),
    "lost": _lose,
    "silent": _wait,
    "cancelled": _cancel,
}


class Login:
    """
    One login by one mechanism, as far as the test wants it to go.

    :param at: the number of the line that is answered with the fault.
    :param broken: whether the transport fails instead, when that line is written.
    """

    def __init__(
        self,
        mechanism: str,
        at: int,
        fault: Fault,
        *,
        broken: bool = False,
        **options: Any,
    ) -> None:
        self.mechanism = mechanism
        self.clock = Clock()
        self.server = Server(self.clock)
        self.lines: list[bytes] = []
        self._at, self._fault, self._broken = at, fault, broken
        # SASL's PLAIN and tokens need TLS, and APOP and USER do not.
        tls = mechanism not in ("USER", "APOP", "CRAM-MD5")
        options.setdefault("password", PASSWORD)
        self.opening: Deferred[Any] = self.server.open(
            **options,
            auth=mechanism,
            secure=1 if tls else 0,
            verify=False,
            stsproc=lambda _: None,
        )
        if self.server.client is None:
            return
        if tls:
            self.server.start_tls(server_certificate())
        self._play()

    def _play(self) -> None:
        self.server.say(b"+OK ready <1.2@pop.example.com>\r\n")
        for _ in range(12):
            heard = self.server.heard()
            if not heard:
                return
            for line in heard.splitlines():
                self._answer(line)

    def _answer(self, line: bytes) -> None:
        if line == b"CAPA":
            offer = self.mechanism
            self.server.say(b"+OK\r\nUSER\r\nSASL %s\r\n.\r\n" % offer.encode())
            return
        self.lines.append(line)
        if self._broken and len(self.lines) == self._at:
            self.server.client.transport.write = self._fail
        if not self._broken and len(self.lines) == self._at + 1:
            self._fault(self)
        else:
            self.server.say(challenge(self.mechanism, self.lines) + b"\r\n")

    @staticmethod
    def _fail(data: bytes) -> None:
        raise OSError("the transport is broken")

    def secrets(self) -> Iterator[str]:
        """What must not be seen: the password, and what was made of it and sent."""
        for form in (PASSWORD.encode(), encoded(PASSWORD.encode())):
            yield form.decode()
        for line in self.lines:
            sent = line.decode().split(" ")[-1]
            if len(sent) > 8 and sent not in sasl.MECHANISMS and line[:4] != b"USER":
                yield sent

    def failure(self) -> Failure | None:
        """Return what it failed with; ``None`` if it did not."""
        outcome: list[Any] = []
        self.opening.addBoth(outcome.append)
        if self.server.client is not None:
            self.server.settle()
            self.server.lose()
        [result] = outcome
        return result if isinstance(result, Failure) else None


class SecretsTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.events: list[LogEvent] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    def assertTellsNothing(
        self, error: BaseException | None, *secrets: str, of: object = ""
    ) -> None:
        """Check an error, and what was logged until now."""
        found = [] if error is None else leaks(error, secrets)
        for event in self.events:
            failure = event.get("log_failure")
            if failure is not None:
                found += leaks(failure.value, secrets)
            if any(secret in repr(event) for secret in secrets):
                found.append(f"log: {event.get('log_format')}")
        self.assertEqual(found, [], of)
        self.events.clear()


class LoginTests(SecretsTestCase):
    """The paths of `connect`, by mechanism, step and fault."""

    def fails(self, mechanism: str, **options: Any) -> BaseException:
        """Check a login that ends before a server has answered it."""
        login = Login(mechanism, 9, _lose, **options)
        failure = login.failure()
        assert failure is not None
        given = options["password"]
        words = [given] if isinstance(given, str) else []
        self.assertTellsNothing(failure.value, *words, *login.secrets(), of=mechanism)
        verbose = failure.getTraceback(detail="verbose")
        for secret in (*words, PASSWORD):
            self.assertNotIn(secret, verbose)
        return failure.value

    def test_fault_at_each_step_of_each_mechanism_shows_no_secret(self) -> None:
        failed = set()
        for mechanism in MECHANISMS:
            for name, fault in FAULTS.items():
                for at in range(4):
                    login = Login(mechanism, at, fault)
                    failure = login.failure()
                    error = None if failure is None else failure.value
                    self.assertTellsNothing(
                        error, *login.secrets(), of=(mechanism, name, at)
                    )
                    if failure is not None:
                        failed.add((mechanism, name))
        # All of them were reached, and made the login fail.
        for name in FAULTS:
            for mechanism in MECHANISMS:
                if name not in ("too early", "another challenge"):
                    self.assertIn((mechanism, name), failed)

    def test_transport_that_fails_shows_no_secret(self) -> None:
        for mechanism in ("USER", "APOP", "CRAM-MD5"):
            login = Login(mechanism, 1, _lose, broken=True)
            failure = login.failure()
            # APOP is a single command, so nothing is written after it but CAPA.
            assert failure is not None
            self.assertIn("broken", str(failure.value))
            self.assertTellsNothing(failure.value, *login.secrets(), of=mechanism)
            # Nothing waits any more for the command that was to be sent, and Twisted
            # logs what it failed with, once the frames are gone.
            del failure, login
            gc.collect()
            self.flushLoggedErrors(ConnectionLostError)
            self.assertTellsNothing(None, PASSWORD, of=mechanism)

    def test_password_that_cannot_be_sent_shows_no_secret(self) -> None:
        """Too long for a line, with a CR or half a character in it, not ASCII."""
        for password in (
            PASSWORD * 20,
            f"{PASSWORD}\r\nQUIT",
            f"{PASSWORD}\0",
            f"{PASSWORD}\ud800",
            f"{PASSWORD}é",
        ):
            for mechanism in ("USER", "APOP", "PLAIN", "SCRAM-SHA-256", "XOAUTH2"):
                for given in (password, lambda password=password: password):
                    login = Login(mechanism, 0, _lose, password=given)
                    failure = login.failure()
                    assert failure is not None
                    self.assertTellsNothing(
                        failure.value, PASSWORD, *login.secrets(), of=mechanism
                    )

    def test_long_password_with_user_names_the_limit(self) -> None:
        error = self.fails("USER", password=PASSWORD * 20)
        self.assertIsInstance(error, UsageError)
        self.assertIn("255", str(error))

    def test_password_callable_that_returns_bytes_shows_no_secret(self) -> None:
        for result in (PASSWORD.encode(), [PASSWORD], {"token": PASSWORD}):
            error = self.fails("PLAIN", password=lambda result=result: result)
            self.assertIsInstance(error, UsageError)

    def test_argument_that_is_refused_shows_no_secret(self) -> None:
        for options in (
            {"timeout": -1},
            {"username": "a\r\n"},
            {"max_message_size": 0},
            {"client_certificate": "no such file"},
        ):
            for password in (PASSWORD, PASSWORD.encode()):
                error = self.fails("PLAIN", password=password, **options)
                self.assertIsInstance(error, UsageError)

    def test_argument_that_a_factory_refuses_shows_no_secret(self) -> None:
        connector = Connector("pop.example.com")
        for arguments in (
            ("", PASSWORD),
            ("a\r\n", PASSWORD),
            ("ada", f"{PASSWORD}\r\n"),
            ("ada", PASSWORD.encode()),
            ("ada", PASSWORD, "not a procedure"),
        ):
            with self.assertRaises(UsageError) as caught:
                POP3ClientFactory(connector, *arguments)
            self.assertTellsNothing(caught.exception, PASSWORD)


class URLTests(SecretsTestCase, TestCase):
    """A server given as a URL with a password in it, which is refused."""

    URL = f"pop3s://ada:{PASSWORD}@pop.example.com"

    def test_url_given_to_connect_or_a_connector_shows_no_secret(self) -> None:
        failure = self.failureResultOf(connect(self.URL, "ada", ""), UsageError)
        self.assertTellsNothing(failure.value, PASSWORD)
        for options in ({}, {"secure": 3}, {"timeout": -1}):
            with self.assertRaises(UsageError) as caught:
                Connector(self.URL, **options)
            self.assertTellsNothing(caught.exception, PASSWORD, of=options)

    async def test_url_given_to_blocking_connect_shows_no_secret(self) -> None:
        def block() -> None:
            with self.assertRaises(UsageError) as caught:
                blocking.connect(self.URL, "ada", "x", reactor=reactor)
            self.assertTellsNothing(caught.exception, PASSWORD)

        await deferToThread(block)

    def test_url_in_an_unexpected_error_of_omnis_shows_no_secret(self) -> None:
        broken = Omnis(lambda *_, **__: fail(ZeroDivisionError("a mistake")))
        self.successResultOf(broken.POP3Connect(self.URL, "ada", PASSWORD))
        [failure] = self.flushLoggedErrors(ZeroDivisionError)
        self.assertTellsNothing(failure.value, PASSWORD)


class CommandTests(SecretsTestCase):
    """The commands that carry a secret, given as a plain str."""

    def test_command_that_is_refused_shows_no_secret(self) -> None:
        for text in (PASSWORD * 20, f"{PASSWORD}\r\n", f"{PASSWORD}\ud800"):
            for make in (
                lambda text=text: Pass(text),
                lambda text=text: Apop("ada", text),
                lambda text=text: Auth("PLAIN", text),
                lambda text=text: AuthReply(text + "é\n"),
            ):
                with self.assertRaises(UsageError) as caught:
                    make()
                self.assertTellsNothing(caught.exception, PASSWORD)

    def test_line_of_a_secret_has_no_repr(self) -> None:
        for command in (
            Pass(PASSWORD),
            Apop("ada", PASSWORD),
            Auth("PLAIN", PASSWORD),
            AuthReply(PASSWORD),
        ):
            self.assertIn(PASSWORD.encode(), command.line())
            shown = f"{command.line()!r} {command!r} {vars_of(command)}"
            self.assertNotIn(PASSWORD, shown)


def vars_of(command: Any) -> str:
    """Return the attributes of an object with slots."""
    return repr([getattr(command, name) for name in type(command).__slots__])


class MaskingTests(SecretsTestCase):
    """What a server repeats."""

    def test_password_with_blanks_at_its_ends_is_masked_without_them(self) -> None:
        """A server that trims what it shows, or a line that ends with it."""
        for password in (f"{PASSWORD} ", f" {PASSWORD}", f"  {PASSWORD}\t "):
            for shown in (password, password.strip(), password.rstrip()):
                said = b"-ERR no: " + shown.encode()
                login = Login("USER", 1, _say(said), password=password)
                failure = login.failure()
                assert failure is not None
                self.assertNotIn(PASSWORD, str(failure.value))
                self.assertTellsNothing(failure.value, PASSWORD)


class CommandLineTests(SecretsTestCase):
    """Where the command line has the password from."""

    def test_password_command_that_fails_shows_no_secret(self) -> None:
        for program in (
            f"print('{PASSWORD}'); raise SystemExit(3)",
            f"import sys; sys.stdout.buffer.write(b'{PASSWORD}\\xff')",
            f"print(); print('{PASSWORD}')",
        ):
            file = Path(self.mktemp())
            file.write_text(program)
            with self.assertRaises(click.UsageError) as caught:
                passwords._from_program(f"{sys.executable} {file}")
            self.assertTellsNothing(caught.exception, PASSWORD, of=program)

    def test_netrc_file_that_fails_shows_no_secret(self) -> None:
        entry = f"machine pop.example.com login bob password {PASSWORD}\n"
        for content in (
            entry,
            f"{entry}machine x password {PASSWORD} {PASSWORD}\n",
            f"{entry}{PASSWORD}\n",
            f"{entry}\udcff",
            f"default login ada password {PASSWORD}\n",
        ):
            file = Path(self.mktemp())
            file.write_bytes(content.encode("utf-8", "surrogateescape"))
            file.chmod(0o600)
            with self.assertRaises(click.UsageError) as caught:
                password_in(str(file), "pop.example.com", "ada")
            self.assertTellsNothing(caught.exception, PASSWORD, of=content)

    def test_file_of_accounts_that_is_refused_shows_no_secret(self) -> None:
        account = '[[account]]\nname = "a"\nuser = "ada"\nserver = "pop.example.com"\n'
        password = f'password = "{PASSWORD}"\n'
        for name, text in (
            ("b", f"{account}{password}"),
            ("a", f'{account}pasword = "{PASSWORD}"\n'),
            ("a", f'{account}{password}proxy = "ftp://u:{PASSWORD}@h"\n'),
            ("a", f'state = "{PASSWORD}"\n{account}{password}'),
            ("a", f"{account}{password}{account}{password}"),
        ):
            file = Path(self.mktemp())
            file.write_text(text)
            with self.assertRaises(UsageError) as caught:
                NamedAccount.find(name, file)
            self.assertTellsNothing(caught.exception, PASSWORD, of=text)


class ConfigurationTests(SecretsTestCase):
    """A configuration of `twistd pop3connect collect` with a password in it."""

    def test_configuration_that_is_refused_shows_no_secret(self) -> None:
        account = '[[account]]\nname = "a"\nuser = "ada"\nserver = "pop.example.com"\n'
        password = f'password = "{PASSWORD}"\n'
        for text in (
            f'{account}pasword = "{PASSWORD}"\n',
            f'{account}password = ["{PASSWORD}"]\n',
            f'{account}password = "{PASSWORD}\\n"\n',
            f"{account}{password}secure = 1\n",
            f"{account}{password}server\n",
            f"{account}{password}{password}",
            f'{account}{password}password_env = "X"\n',
            f'{account}password_command = ["{PASSWORD}", 1]\n',
            f"{account}{password}[[account]]\n",
            f"{password}{account}",
            f"{account}{password}# \udcff",
        ):
            file = Path(self.mktemp())
            whole = f'state = "seen"\n{text}[destination.box]\nkind = "table"\n'
            file.write_bytes(whole.encode("utf-8", "surrogateescape"))
            with self.assertRaises(UsageError) as caught:
                read_config(file)
            self.assertTellsNothing(caught.exception, PASSWORD, of=text)

    def test_password_source_that_fails_shows_no_secret(self) -> None:
        file = Path(self.mktemp())
        for content in (f"\n{PASSWORD}", f"{PASSWORD}\udcff"):
            file.write_bytes(content.encode("utf-8", "surrogateescape"))
            account = AccountSettings(
                name="a",
                server="pop.example.com",
                user="ada",
                password=PasswordSource("password_file", file),
            )
            asked: Any = password_for(account, file.parent, Clock())()
            failure = self.failureResultOf(Deferred.fromCoroutine(asked), UsageError)
            self.assertTellsNothing(failure.value, PASSWORD, of=content)
