"""`pop3connect.collect.logins`"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pop3connect import CommandError, LoginError, UsageError
from pop3connect.collect.logins import try_logins
from pop3connect.collect.settings import (
    AccountSettings,
    Config,
    DestinationSettings,
)


class Handle:
    async def disconnect(self) -> None:
        raise CommandError("QUIT is not for you", verb="QUIT")


class LoginTests(SynchronousTestCase):
    """
    :ivar begun: the logins that have begun, by account.
    """

    def setUp(self) -> None:
        self.begun: dict[str, Deferred[Any]] = {}
        self.told: list[tuple[str, str]] = []

    def try_logins(self, *accounts: AccountSettings, **limits: int) -> Deferred[None]:
        config = Config(
            state="state",
            destinations=[DestinationSettings(name="box", kind="table")],
            accounts=accounts,
            **limits,  # type: ignore[arg-type]
        )

        def told(account: AccountSettings, error: Exception | None) -> None:
            self.told.append((account.name, "" if error is None else str(error)))

        return Deferred.fromCoroutine(
            try_logins(config, Clock(), told, lambda account: self.connector(account))
        )

    def connector(self, account: AccountSettings) -> Any:
        begun: Any = self.begun

        class Connector:
            def connect(
                self, user: str, password: Any, *, authorize_as: str | None
            ) -> Deferred[Any]:
                login: Deferred[Any] = Deferred()
                begun[account.name] = login
                return login

        return Connector()

    def account(self, name: str, server: str = "a") -> AccountSettings:
        return AccountSettings(
            name=name,
            server=server,
            user=name,
            password="looking-glass",
        )

    def test_outcomes_are_told_in_the_order_of_the_configuration(self) -> None:
        done = self.try_logins(self.account("ann"), self.account("bob"))
        self.begun["bob"].errback(LoginError("wrong"))
        self.assertEqual(self.told, [])
        # A refused QUIT says nothing about the login.
        self.begun["ann"].callback(Handle())
        self.successResultOf(done)
        self.assertEqual(self.told, [("ann", ""), ("bob", "wrong")])

    def test_sessions_are_as_many_as_the_configuration_allows(self) -> None:
        accounts = [self.account(name) for name in "abc"]
        accounts += [self.account("d", "b"), self.account("e", "c")]
        done = self.try_logins(*accounts, sessions=3, sessions_per_server=2)
        self.assertEqual(sorted(self.begun), ["a", "b", "d"])
        self.begun["d"].callback(Handle())
        self.assertEqual(sorted(self.begun), ["a", "b", "d", "e"])
        for name in "ebac":
            self.begun[name].callback(Handle())
        self.successResultOf(done)
        self.assertEqual([name for name, _ in self.told], list("abcde"))

    def test_account_that_cannot_be_used_does_not_stop_the_others(self) -> None:
        def connector(account: AccountSettings) -> Any:
            if account.name == "ann":
                raise UsageError("cacerts cannot be used")
            return made(account)

        made = self.connector
        self.connector = connector  # type: ignore[method-assign]
        done = self.try_logins(self.account("ann"), self.account("bob"))
        self.begun["bob"].callback(Handle())
        self.successResultOf(done)
        self.assertEqual(self.told, [("ann", "cacerts cannot be used"), ("bob", "")])

    def test_cancelling_cancels_every_login(self) -> None:
        done = self.try_logins(
            self.account("ann"), self.account("bob"), self.account("cleo"), sessions=2
        )
        done.cancel()
        self.failureResultOf(done)
        self.assertLessEqual({"ann", "bob"}, set(self.begun))
        self.assertEqual([each.called for each in self.begun.values()], [True] * 3)
        self.assertEqual(self.told, [])
