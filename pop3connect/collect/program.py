"""
Runs a `CollectService` as a program: until it is stopped, or once; SIGHUP reads the
configuration again, and errors become exit statuses.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..destinations.base import Later
from ..errors import POP3Error
from ..garbage import few_searches
from .outcome import Outcome
from .service import CollectService
from .settings import Config
from .wording import words

__all__ = ["CollectProgram", "on_hangup"]

log = Logger()

REFUSED = 8
"""The exit status of a single run after which messages remain bad, ..."""

TRY_LATER = 75
"""... and that of one after which deliveries wait."""

EXPECTED = (POP3Error, OSError, Later)
"""Errors that are not those of this program."""

FAULT = 1
"""The exit status of an error of this program."""


class CollectProgram(Service):
    """
    A process that is a collector, and nothing else.

    :param make: returns the service, given the configuration and a function to call
        with the error for which the service cannot go on.
    :param read: reads the configuration again.
    :param finish: ends the process with an exit status.
    :param status: returns the exit status of an error.
    :param tell: shows the user a line, besides the log.
    :param once: look at each account once, and end.
    :param on_hangup: sets what SIGHUP calls.
    :param let_go: is called when all has ended that is to be waited for.
    """

    name = "pop3connect collect"

    def __init__(
        self,
        config: Config,
        make: Callable[[Config, Callable[[BaseException], object]], CollectService],
        *,
        read: Callable[[], Config],
        finish: Callable[[int], object],
        status: Callable[[BaseException], int],
        tell: Callable[[str], object],
        once: bool = False,
        on_hangup: Callable[[Callable[[], object]], object],
        let_go: Callable[[], object],
    ) -> None:
        self._config = config
        self._make = make
        self._read = read
        self._finish = finish
        self._status = status
        self._tell = tell
        self._once = once
        self._on_hangup = on_hangup
        self._let_go = let_go
        self._service: CollectService | None = None
        self._memory = ExitStack()
        self._working: Deferred[None] | None = None

    def startService(self) -> None:
        """Begin; the service is made here, after twistd has become a daemon."""
        super().startService()
        self._memory.enter_context(few_searches())
        self._service = service = self._make(self._config, self._died)
        work = self._run_once(service) if self._once else self._start(service)
        self._working = Deferred.fromCoroutine(work)
        self._working.addErrback(self._failed)
        if not self._once:
            self._on_hangup(self._hang_up)

    def stopService(self) -> Deferred[None]:
        """End what is going on; the Deferred fires when that is done."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        working, self._working = self._working, None
        if working is not None:
            working.cancel()
            await working
        if self._service is not None:
            await self._service.stopService()
        self._memory.close()
        self._let_go()

    # -- until it is stopped

    async def _start(self, service: CollectService) -> None:
        await service.startService()
        log.info("{count} account(s)", count=len(self._config.accounts))

    def _hang_up(self) -> None:
        """Read the configuration again, after what is going on."""
        if self._working is not None and self.running:
            self._working.addCallback(
                lambda _: Deferred.fromCoroutine(self._reload())
            ).addErrback(self._failed)

    async def _reload(self) -> None:
        assert self._service is not None
        try:
            config = self._read()
            await self._service.reload(config)
        except (POP3Error, OSError) as error:
            log.error("nothing has changed: {error}", error=words(error))
        else:
            self._config = config
            log.info(
                "the configuration was read again: {count} account(s)",
                count=len(config.accounts),
            )

    def _died(self, error: BaseException) -> None:
        # The service has logged it.
        self._tell(words(error))
        self._finish(self._status_of(error))

    # -- once

    async def _run_once(self, service: CollectService) -> None:
        outcomes = await service.run_once()
        self._finish(self._outcome(outcomes))

    def _outcome(self, outcomes: Mapping[str, Outcome]) -> int:
        """Return the exit status of a single run, and name the accounts that failed."""
        failed = 0
        for account in self._config.accounts:
            outcome = outcomes[account.name]
            if outcome.error is not None:
                self._tell(f"{account.name}: {words(outcome.error)}")
            if outcome.error is not None and not outcome.looked:
                failed = failed or self._status_of(outcome.error)
        if failed:
            return failed
        if any(
            each.bad or each.aside or each.error is not None
            for each in outcomes.values()
        ):
            return REFUSED
        waiting = sum(each.waiting for each in outcomes.values())
        if waiting:
            self._tell(f"{waiting} message(s) wait for their delivery")
            return TRY_LATER
        return 0

    # -- errors

    def _failed(self, failure: Failure) -> None:
        error = failure.value
        assert error is not None
        if isinstance(error, CancelledError):
            return
        if isinstance(error, EXPECTED):
            log.critical("{error}", error=words(error))
            self._tell(words(error))
        else:
            log.failure("unexpected", failure)
        self._finish(self._status_of(error))

    def _status_of(self, error: BaseException) -> int:
        if isinstance(error, EXPECTED):
            return self._status(error)
        return FAULT


def on_hangup(reactor: Any, call: Callable[[], object]) -> None:
    """Let SIGHUP call a function in the reactor, on systems that have it."""
    number = getattr(signal, "SIGHUP", None)
    if number is not None:
        signal.signal(number, lambda *_: reactor.callFromThread(call))
