"""
A service that looks into mailboxes and reports new mail: how a service uses handles.

``twistd pop3connect watch --config FILE`` starts it; `pop3connect.tap` makes it from
the command line.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.application.service import MultiService, Service
from twisted.internet.defer import (
    CancelledError,
    Deferred,
    FirstError,
    gatherResults,
    succeed,
)
from twisted.logger import Logger
from twisted.python.failure import Failure

from .api import connect
from .errors import (
    CommandError,
    ConnectionLostError,
    LoginError,
    POP3Error,
    UsageError,
)
from .handle import Handle
from .results import UID
from .watch_config import MAX_INTERVAL, WatchConfig, WatchedAccount
from .watch_hook import Hook, NewMessage, find_hook
from .watch_password import EXPOSED, exposed, find_password
from .watch_run import RunError
from .watch_state import SeenFile, split_seen

__all__ = ["AccountWatch", "WatchService"]

Connect = Callable[..., Deferred[Handle]]

STAGGER = 0.2
"""Seconds between the first looks at two accounts, and so between the later ones: many
servers refuse a crowd of sessions from one address."""

MAX_NEW = 1000
"""Messages reported after one look, at most: their headers are held in memory."""

SAVE_EVERY = 1.0
"""Seconds.  After a crash the hook runs again for the messages of the last second."""

REFUSED_WAIT = 900
"""Seconds after a refused login, doubled each time: many servers lock an account at the
tenth attempt within about an hour."""

MAX_REFUSED_WAIT = 6 * 3600

MAX_WAIT = 3600
"""Seconds between two tries while a server cannot be reached."""


class AccountWatch(Service):
    """
    The watch of one account.  A look at the mailbox never overlaps another one.

    :param connect: as `pop3connect.connect`.
    :param delay: seconds from the start of the service to the first look.
    """

    _log = Logger()

    def __init__(
        self,
        account: WatchedAccount,
        *,
        seen: SeenFile,
        hook: Hook,
        password: Callable[[], Any],
        reactor: Any,
        connect: Connect = connect,
        delay: float = 0,
    ) -> None:
        self.name = account.name
        self._account = account
        self._seen = seen
        self._hook = hook
        self._password = password
        self._reactor = reactor
        self._connect = connect
        self._delay = delay
        self._failures = 0
        self._refusals = 0
        self._login_delay = 0
        self._warned = False
        self._timer: Any = None
        self._looking: Deferred[None] | None = None
        self._stopping = False

    # -- IService

    def startService(self) -> None:
        """Look as soon as the reactor runs, and it is our turn."""
        super().startService()
        # Otherwise the look that is being stopped does it when it has ended.
        if self._looking is None:
            self._timer = self._reactor.callLater(self._delay, self._look)

    def stopService(self) -> Deferred[None]:
        """
        End the current look.

        :return: fires when the connection is closed and the hook has ended.
        """
        super().stopService()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._looking is None:
            return succeed(None)
        stopped: Deferred[None] = Deferred()
        self._looking.addCallback(stopped.callback)
        if not self._stopping:
            # Once: a second cancel would interrupt the cleaning up.
            self._stopping = True
            self._looking.cancel()
        return stopped

    # -- when

    def _look(self) -> None:
        looking = (
            Deferred.fromCoroutine(self._look_and_tell())
            .addCallbacks(self._looked, self._failed)
            .addCallback(self._look_again)
        )
        if not looking.called:
            self._looking = looking

    def _looked(self, _: None) -> float:
        if self._failures or self._refusals:
            self._info("all is well again")
        self._failures = self._refusals = 0
        return max(self._account.interval, self._login_delay)

    def _failed(self, failure: Failure) -> float:
        # Cancelling within a message ends the session, and all its pending commands.
        if self._stopping and failure.check(CancelledError, ConnectionLostError):
            return 0
        error: Any = failure.value
        if isinstance(error.__cause__, UsageError):
            # The error of the password source, which `connect` does not repeat.
            error = error.__cause__
        wait = self._wait_after(error)
        if isinstance(error, (POP3Error, OSError)):
            self._error(f"{error}; the next try is in {wait:g} seconds")
        else:
            self._log.failure(
                "{account}: unexpected; the next try is in {wait:g} seconds",
                failure,
                account=self.name,
                wait=wait,
            )
        return wait

    def _wait_after(self, error: Any) -> float:
        interval = self._account.interval
        login = isinstance(error, LoginError) and error.mechanism is not None
        if login and not error.transient:
            # Servers without response codes refuse a wrong password like anything else.
            # Counted apart: after a night without a server, its first refusal is still
            # a first one.
            self._refusals += 1
            wait = _doubled(REFUSED_WAIT, self._refusals, MAX_REFUSED_WAIT)
        else:
            self._failures += 1
            wait = _doubled(interval, self._failures, MAX_WAIT)
        if isinstance(error, CommandError) and error.retry_after:
            self._respect(error.retry_after)
        return max(wait, interval, self._login_delay)

    def _respect(self, login_delay: int) -> None:
        """Respect the server's LOGIN-DELAY, and log it if it has an effect."""
        delay = min(login_delay, MAX_INTERVAL)
        if delay > self._account.interval and delay != self._login_delay:
            self._info(f"the server wants {delay} seconds between two logins")
        self._login_delay = delay

    def _look_again(self, wait: float) -> None:
        self._looking = None
        self._stopping = False
        if self.running:
            self._timer = self._reactor.callLater(wait, self._look)

    # -- what

    async def _look_and_tell(self) -> None:
        seen = self._seen.read()
        rows, found = await self._session(seen)
        if not rows and any(seen or ()):
            # Emptied, or its store is not mounted: returning mail must not be new.
            return
        remembered = [row.uid for row in rows]
        if seen is None or found or remembered != seen:
            # Before a hook runs: if the state cannot be written, the hook would run for
            # the same messages again and again.
            self._seen.write(remembered)
        # After the session: a hook that fetches the message finds the mailbox free,
        # for a mailbox has one session at a time (RFC 1939 section 8).
        await self._tell(found, remembered)

    async def _session(
        self, seen: list[str] | None
    ) -> tuple[list[UID], list[NewMessage]]:
        """Return the messages seen that still exist, and the new ones."""
        account = self._account
        handle = await self._connect(
            account.server,
            account.user,
            self._password,
            secure=account.secure,
            cacerts=account.cacerts,
            auth=account.auth,
            reactor=self._reactor,
        )
        try:
            self._respect(handle.capabilities.login_delay or 0)
            rows = await self._uids(handle, seen)
            if seen is None and not account.report_existing:
                self._info(f"{len(rows)} messages at the first look; not reported")
                found = []
            else:
                rows, new = split_seen(rows, seen or [])
                if len(new) > MAX_NEW:
                    self._info(f"{len(new)} new messages; {MAX_NEW} of them now")
                found = await self._headers(handle, new[:MAX_NEW])
            # Nothing is deleted, so the reply to QUIT does not matter.
            with suppress(CommandError):
                await handle.disconnect()
            return rows, found
        finally:
            # Does nothing after disconnect(); otherwise, also when the service is
            # stopped, it closes the connection.
            await handle.abort()

    async def _uids(self, handle: Handle, seen: list[str] | None) -> list[UID]:
        try:
            return await handle.uidl()
        except CommandError as error:
            # Only if the server does not have UIDL: otherwise all mail would be new
            # when UIDL works again.
            if error.transient or "UIDL" in handle.capabilities or any(seen or []):
                raise
        if not self._warned:
            self._warned = True
            self._log.warn(
                "{account}: the server has no UIDL: new mail is noticed only when"
                " there are more messages than before",
                account=self.name,
            )
        return [UID(number, "") for number, _ in await handle.list()]

    async def _headers(self, handle: Handle, new: list[UID]) -> list[NewMessage]:
        if not new:
            return []
        account = self._account.name
        sizes = dict(await handle.list())
        # All at once: they are pipelined where the server allows it.
        headers: list[bytes] = await gatherResults(
            [handle.top(row.number).addErrback(_none) for row in new],
            consumeErrors=True,
        ).addErrback(_first)
        return [
            NewMessage(account, row.number, row.uid, sizes.get(row.number, 0), header)
            for row, header in zip(new, headers, strict=True)
        ]

    async def _tell(self, found: list[NewMessage], remembered: list[str]) -> None:
        saved = self._reactor.seconds()
        dirty = False
        try:
            for message in found:
                if self._stopping:
                    return
                if await self._told(message):
                    remembered.append(message.uid)
                    dirty = True
                if dirty and self._reactor.seconds() - saved >= SAVE_EVERY:
                    self._seen.write(remembered)
                    saved, dirty = self._reactor.seconds(), False
        finally:
            if dirty:
                self._seen.write(remembered)

    async def _told(self, message: NewMessage) -> bool:
        """Report one message; return whether that worked."""
        self._info(
            f"message {message.number} is new: {message.size} octets, "
            f"from {message.sender or '(nobody)'}: {message.subject or '(no subject)'}"
        )
        try:
            await self._hook(message)
        except RunError as error:
            self._error(f"message {message.number}: hook: {error}")
        except Exception:  # somebody else's code
            if self._stopping:
                raise
            self._log.failure(
                "{account}: message {number}: the hook failed",
                account=self.name,
                number=message.number,
            )
        else:
            return True
        return False

    # -- the log

    def _info(self, text: str) -> None:
        self._log.info("{account}: {text}", account=self.name, text=text)

    def _error(self, text: str) -> None:
        self._log.error("{account}: {text}", account=self.name, text=text)


def _doubled(seconds: float, times: int, most: float) -> float:
    """Return how long to wait after this number of failures in a row."""
    # Bounded, because the power grows although the result does not.
    doubled: float = seconds * 2 ** min(times - 1, 30)
    return min(doubled, most)


def _none(failure: Failure) -> bytes:
    """Return an empty header if the server will not send it later either."""
    failure.trap(CommandError)
    if failure.value.transient:  # type: ignore[union-attr]
        failure.raiseException()
    return b""


def _first(failure: Failure) -> Failure:
    """Return the first failure, which `gatherResults` wraps."""
    failure.trap(FirstError)
    first: Failure = failure.value.subFailure  # type: ignore[union-attr]
    return first


class WatchService(MultiService):
    """
    The watches of all accounts of a configuration.

    :param connect: as `pop3connect.connect`; for tests.
    :raises UsageError: the hook of an account cannot be found.
    """

    name = "pop3connect watch"

    _log = Logger()

    def __init__(
        self, config: WatchConfig, *, reactor: Any, connect: Connect = connect
    ) -> None:
        super().__init__()
        self._exposed = exposed(config)
        for number, account in enumerate(config.accounts):
            watch = AccountWatch(
                account,
                seen=SeenFile(config.state / f"{account.name}.json", account.mailbox),
                hook=find_hook(config, account, reactor),
                password=find_password(account.password, config.folder, reactor),
                reactor=reactor,
                connect=connect,
                delay=number * STAGGER,
            )
            watch.setServiceParent(self)

    def startService(self) -> None:
        """Log a warning for each exposed file, and start."""
        for file in self._exposed:
            self._log.warn("{file}: {text}", file=file, text=EXPOSED)
        super().startService()
