"""
Sessions one after another, for programs that check a mailbox for as long as they run:
`Connector.sessions`.
"""

from __future__ import annotations

import math
import random
from collections.abc import AsyncGenerator, Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from .errors import (
    CommandError,
    POP3Error,
    STLSUnavailableError,
    UsageError,
    VerificationError,
)
from .handle import Handle
from .waits import (
    MAX_DELAY,
    MAX_WAIT,
    FailureClass,
    classify,
    doubled,
    jittered,
)

__all__ = ["log_failure", "sessions"]

log = Logger()

_FINAL = {FailureClass.LOGIN, FailureClass.LOCAL}
"""Failures that another attempt cannot fix, and which could lock the account."""


async def sessions(
    connect: Callable[[], Deferred[Handle]],
    clock: IReactorTime,
    server: str,
    *,
    interval: float,
    backoff: Callable[[int], float] | None,
    failed: Callable[[POP3Error, float], object],
    chance: Callable[[], float] = random.random,
) -> AsyncGenerator[Handle, None]:
    """Open a session, wait, and open the next one; see `Connector.sessions`."""
    failures = 0
    while True:
        try:
            handle = await connect()
        except POP3Error as error:
            if _is_final(error):
                raise
            failures += 1
            if backoff is None:
                # As the collector waits.
                wait = doubled(interval, failures, max(interval, MAX_WAIT))
                wait = jittered(wait, chance())
            else:
                wait = _seconds(backoff(failures), server)
            if isinstance(error, CommandError):
                wait = max(wait, min(error.retry_after or 0.0, MAX_DELAY))
            failed(error, wait)
        else:
            failures, logged_in = 0, clock.seconds()
            yield handle
            if not handle.when_closed().called:
                raise UsageError(
                    "the last session is still open; use it in "
                    "'async with handle:', or await handle.disconnect()",
                    server=server,
                )
            # RFC 2449 section 6.5: seconds from one login to the next; never more, for
            # the clock may have been set back.
            delay = min(handle.capabilities.login_delay or 0, MAX_DELAY)
            wait = max(interval, min(delay, logged_in + delay - clock.seconds()))
            # It must not be kept for as long as the wait takes.
            del handle
        await deferLater(clock, wait)


def _seconds(wait: object, server: str) -> float:
    if (
        isinstance(wait, (int, float))
        and not isinstance(wait, bool)
        and 0 <= wait < math.inf
    ):
        return wait
    raise UsageError(
        f"backoff must return a number of seconds from 0, not {wait!r:.50}",
        server=server,
    )


def _is_final(error: POP3Error) -> bool:
    """Return whether somebody has to act before another attempt makes sense."""
    if isinstance(error, (VerificationError, STLSUnavailableError)):
        return True
    return classify(error) in _FINAL


def log_failure(error: POP3Error, wait: float) -> None:
    """Log that no session could be opened, and when the next attempt is."""
    log.warn(
        "no session: {error}; the next attempt is in {wait:.0f} seconds",
        error=error,
        wait=wait,
    )
