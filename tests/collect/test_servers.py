"""
Servers that cannot be reached: what the looks at their accounts show.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pop3connect.collect.database import StorageFullError
from pop3connect.collect.outcome import EndedError, HeldError, Outcome
from pop3connect.collect.servers import Servers
from pop3connect.errors import (
    ConnectError,
    LoginError,
    TimedOutError,
    TLSError,
    UsageError,
)

from .engine import Unwalked

NOW = 1_700_000_000.0

REFUSED = ConnectError("refused")


class ServersTests(SynchronousTestCase):
    """Accounts ``a`` to ``e`` of one server."""

    def setUp(self) -> None:
        self.servers = Servers(lambda: NOW, lambda: 0.5)

    def judge(self, account: str, error: BaseException | None) -> set[str]:
        outcome = Outcome(account, error=error, looked=error is None)
        self.servers.judge("pop.example.org", outcome)
        return self.servers.waiting(NOW)

    def begin_down(self) -> None:
        """Let four accounts fail to connect."""
        for account in "abcd":
            self.assertEqual(self.judge(account, REFUSED), set())

    def test_server_waits_when_five_accounts_cannot_connect(self) -> None:
        self.begin_down()
        late = TimedOutError("late", phase="connecting", seconds=30)
        self.assertEqual(self.judge("e", late), {"pop.example.org"})
        self.assertEqual(self.servers.waiting(NOW + 3601), set())

    def test_only_servers_that_wait_are_gone_through(self) -> None:
        for account in "abcde":
            self.judge(account, REFUSED)
        for number in range(10):
            self.servers.judge(f"s{number}", Outcome("x", error=REFUSED))
        self.servers._health = Unwalked(self.servers._health)
        self.assertEqual(self.servers.waiting(NOW), {"pop.example.org"})
        self.servers.judge("pop.example.org", Outcome("a", looked=True))
        self.assertEqual(self.servers.waiting(NOW), set())

    def test_answer_of_the_server_clears_the_failures(self) -> None:
        for error in (
            None,
            LoginError("no", mechanism="PLAIN"),
            TLSError("expired"),
            TimedOutError("late", phase="greeting", seconds=30),
        ):
            with self.subTest(error=error):
                self.setUp()
                self.begin_down()
                self.judge("f", error)
                self.assertEqual(self.judge("e", REFUSED), set())

    def test_error_of_this_machine_leaves_the_failures(self) -> None:
        for error in (
            UsageError("password_file: it is empty"),
            StorageFullError("full"),
            EndedError("the service is being stopped"),
            HeldError("the account is held"),
            OSError("no such file"),
        ):
            with self.subTest(error=error):
                self.setUp()
                self.begin_down()
                self.judge("f", error)
                self.assertEqual(self.judge("e", REFUSED), {"pop.example.org"})
