"""`pop3connect.collect.program`, with a service that does what the test says."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from pop3connect import CommandError, ConnectError, LoginError, UsageError
from pop3connect.cli.exits import Exit, exit_status
from pop3connect.collect.lock import InUseError
from pop3connect.collect.outcome import EndedError, HeldError, Outcome
from pop3connect.collect.program import CollectProgram, on_hangup
from pop3connect.collect.settings import (
    AccountSettings,
    Config,
    DestinationSettings,
)
from pop3connect.destinations.base import Later


class Service:
    """Stands for a `CollectService`."""

    def __init__(self, config: Config, died: Callable[[BaseException], object]) -> None:
        self.config = config
        self.died = died
        self.cancelled: list[object] = []
        self.starting: Deferred[None] = Deferred(self.cancelled.append)
        self.running_once: Deferred[dict[str, Outcome]] = Deferred(
            self.cancelled.append
        )
        self.reloading: Deferred[None] = succeed(None)
        self.stopped = False

    def startService(self) -> Deferred[None]:
        return self.starting

    async def run_once(self) -> dict[str, Outcome]:
        return await self.running_once

    async def reload(self, config: Config) -> None:
        await self.reloading
        self.config = config

    async def stopService(self) -> None:
        self.stopped = True


def config(*names: str) -> Config:
    return Config(
        state="state",
        destinations=[DestinationSettings(name="box", kind="table")],
        accounts=[
            AccountSettings(name=name, server="a", user="u", password="p")
            for name in names
        ],
    )


class ProgramTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.statuses: list[int] = []
        self.told: list[str] = []
        self.read: Callable[[], Config] = config
        self.hangup: Callable[[], object] | None = None
        self.let_go: list[bool] = []

    def begin(self, *names: str, once: bool = False) -> CollectProgram:
        def make(config: Config, died: Any) -> Any:
            self.service = Service(config, died)
            return self.service

        program = CollectProgram(
            config(*names),
            make,
            read=lambda: self.read(),
            finish=self.statuses.append,
            status=exit_status,
            tell=self.told.append,
            once=once,
            on_hangup=lambda call: setattr(self, "hangup", call),
            let_go=lambda: self.let_go.append(self.service.stopped),
        )
        program.startService()
        return program


class ServiceTests(ProgramTestCase):
    def test_collector_works_until_it_is_stopped(self) -> None:
        program = self.begin("ann")
        with capturedLogs() as logs:
            self.service.starting.callback(None)
        self.assertEqual([each["count"] for each in logs], [1])
        self.assertEqual(self.statuses, [])
        self.assertEqual(self.let_go, [])
        self.successResultOf(program.stopService())
        self.assertEqual(self.let_go, [True])
        self.assertTrue(self.service.stopped)
        self.assertEqual(self.statuses, [])

    def test_stop_while_it_starts_cancels_the_start(self) -> None:
        program = self.begin("ann")
        self.successResultOf(program.stopService())
        self.assertEqual(self.service.cancelled, [self.service.starting])
        self.assertTrue(self.service.stopped)
        self.assertEqual((self.statuses, self.told), ([], []))

    def test_start_that_fails_is_one_line_and_an_exit_status(self) -> None:
        for error, status in (
            (InUseError("in use"), Exit.TRY_LATER),
            (UsageError("no"), Exit.USAGE),
            (OSError("no"), Exit.LOCAL_FILES),
            (Later(reason="no room"), Exit.TRY_LATER),
        ):
            self.setUp()
            self.begin("ann")
            with capturedLogs() as logs:
                self.service.starting.errback(error)
            self.assertEqual([each["log_level"] for each in logs], [LogLevel.critical])
            self.assertEqual((self.told, self.statuses), ([str(error)], [status]))

    def test_unexpected_error_is_logged_with_its_traceback(self) -> None:
        self.begin("ann")
        self.service.starting.errback(ZeroDivisionError())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual((self.told, self.statuses), ([], [1]))

    def test_service_that_cannot_go_on_ends_the_process(self) -> None:
        for error, status in ((EndedError("silent"), Exit.LOST), (ValueError("x"), 1)):
            self.setUp()
            self.begin("ann")
            self.service.starting.callback(None)
            self.service.died(error)
            self.assertEqual((self.told, self.statuses), ([str(error)], [status]))


class HangupTests(ProgramTestCase):
    def hang_up(self) -> Sequence[dict[str, Any]]:
        assert self.hangup is not None
        with capturedLogs() as logs:
            self.hangup()
        return logs

    def test_configuration_is_read_again(self) -> None:
        self.begin("ann")
        self.service.starting.callback(None)
        self.read = lambda: config("ann", "bob")
        [log] = self.hang_up()
        self.assertEqual((log["log_level"], log["count"]), (LogLevel.info, 2))
        self.assertEqual(len(self.service.config.accounts), 2)

    def test_bad_configuration_changes_nothing_and_is_one_error(self) -> None:
        self.begin("ann")
        self.service.starting.callback(None)
        before = self.service.config

        def read() -> Config:
            raise UsageError("collect.toml: no")

        self.read = read
        [log] = self.hang_up()
        self.assertEqual(log["log_level"], LogLevel.error)
        self.assertEqual(log["error"], "collect.toml: no")
        self.read = config
        self.service.reloading = Deferred()
        self.service.reloading.errback(UsageError("state cannot be changed"))
        [log] = self.hang_up()
        self.assertEqual(log["error"], "state cannot be changed")
        self.assertIs(self.service.config, before)
        self.assertEqual(self.statuses, [])

    def test_hangup_during_the_start_is_honoured_after_it(self) -> None:
        self.begin("ann")
        self.read = lambda: config("ann", "bob")
        self.assertEqual(len(self.hang_up()), 0)
        self.service.starting.callback(None)
        self.assertEqual(len(self.service.config.accounts), 2)

    def test_hangup_after_the_stop_does_nothing(self) -> None:
        program = self.begin("ann")
        self.service.starting.callback(None)
        self.successResultOf(program.stopService())
        self.assertEqual(len(self.hang_up()), 0)

    def test_sighup_is_handed_to_the_reactor(self) -> None:
        number = getattr(signal, "SIGHUP", None)
        if number is None:
            self.skipTest("there is no SIGHUP")
        self.addCleanup(signal.signal, number, signal.getsignal(number))

        class Reactor(Clock):
            def callFromThread(self, call: Callable[[], object]) -> None:
                self.callLater(0, call)

        reactor, calls = Reactor(), list[str]()
        on_hangup(reactor, lambda: calls.append("called"))
        os.kill(os.getpid(), number)
        self.assertEqual(calls, [])
        reactor.advance(0)
        self.assertEqual(calls, ["called"])


class OnceTests(ProgramTestCase):
    def run_once(self, *outcomes: Outcome) -> int:
        self.setUp()
        self.begin(*(each.account for each in outcomes), once=True)
        self.assertIsNone(self.hangup)
        # In another order than in the configuration.
        self.service.running_once.callback(
            {each.account: each for each in reversed(outcomes)}
        )
        [status] = self.statuses
        return status

    def test_status_0_if_all_is_done(self) -> None:
        good = Outcome("ann", looked=True)
        self.assertEqual((self.run_once(good), self.told), (0, []))

    def test_status_is_that_of_the_first_account_that_failed(self) -> None:
        good = Outcome("ann", looked=True)
        wrong = Outcome("bob", error=LoginError("wrong"))
        away = Outcome("cleo", error=ConnectError("away"), bad=1, waiting=2)
        self.assertEqual(self.run_once(good, wrong, away), Exit.LOGIN_REFUSED)
        self.assertEqual(self.told, ["bob: wrong", "cleo: away"])
        self.assertEqual(self.run_once(away, wrong), Exit.NO_CONNECTION)

    def test_account_that_is_held_counts_as_failed(self) -> None:
        held = Outcome("ann", error=HeldError("held"))
        self.assertEqual(self.run_once(held), Exit.TRY_LATER)
        self.assertEqual(self.told, ["ann: held"])

    def test_status_8_if_messages_remain_bad(self) -> None:
        bad = Outcome("ann", looked=True, bad=1)
        self.assertEqual(self.run_once(bad), Exit.REFUSED)
        error = CommandError("not this one", verb="RETR", number=3)
        refused = Outcome("ann", looked=True, error=error, waiting=1)
        self.assertEqual(self.run_once(refused), Exit.REFUSED)
        self.assertEqual(self.told, ["ann: RETR 3: not this one"])

    def test_status_75_if_deliveries_wait(self) -> None:
        waiting = [Outcome(name, looked=True, waiting=2) for name in ("ann", "bob")]
        self.assertEqual(self.run_once(*waiting), Exit.TRY_LATER)
        self.assertEqual(self.told, ["4 message(s) wait for their delivery"])

    def test_stop_cancels_the_run(self) -> None:
        program = self.begin("ann", once=True)
        self.successResultOf(program.stopService())
        self.assertEqual(self.service.cancelled, [self.service.running_once])
        self.assertEqual((self.statuses, self.told), ([], []))

    def test_run_that_cannot_begin_is_one_line_and_an_exit_status(self) -> None:
        self.begin("ann", once=True)
        self.service.running_once.errback(InUseError("in use"))
        self.assertEqual((self.told, self.statuses), (["in use"], [Exit.TRY_LATER]))
