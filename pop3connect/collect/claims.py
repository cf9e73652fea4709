"""
Claims accounts that are due, and begins to look at them, as many as are allowed.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from .accounts import Accounts
from .journal import JournalError
from .look import Outcome, log_scheduled
from .looks import Looks, Running
from .records import AccountRow
from .servers import Servers
from .settings import Config
from .tools import Tools, ended

__all__ = ["Claims"]

log = Logger()


class Claims:
    """
    The claims of a collector whose journal is open.

    :param may_look: whether looks may begin at all.
    :param wake: called when there is room for another look.
    """

    def __init__(
        self,
        tools: Tools,
        accounts: Accounts,
        looks: Looks,
        servers: Servers,
        config: Config,
        *,
        may_look: Callable[[], bool],
        wake: Callable[[], object],
    ) -> None:
        self._tools = tools
        self._accounts = accounts
        self._looks = looks
        self._servers = servers
        self._config = config
        self._may_look = may_look
        self._wake = wake
        # Accounts that are claimed and wait for a session, by server.
        self._queues: dict[str, deque[Running]] = {}
        # Fires when the last claim has been answered.
        self._claiming: Deferred[None] | None = None

    def reload(self, config: Config) -> None:
        """Use another configuration from now on."""
        self._config = config

    async def settings_changed(self) -> None:
        """
        Give back the claimed accounts that were removed, or moved to another server.
        """
        left = [
            each
            for queue in self._queues.values()
            for each in queue
            if self._server_of(each.row.name) != each.server
        ]
        for each in left:
            self._queues[each.server].remove(each)
        await self._give_back(left)

    async def end(self) -> None:
        """Give back the claimed accounts that no look has begun at, when closing."""
        if self._claiming is not None:
            # Its loop has ended, and it may have claimed some nevertheless.
            await self._claiming
        left = [each for queue in self._queues.values() for each in queue]
        self._queues.clear()
        await self._give_back(left)

    async def _give_back(self, left: Sequence[Running]) -> None:
        if not left:
            return
        for each in left:
            self._looks.over(each)
        try:
            await self._tools.journal.give_back([each.row for each in left])
        except JournalError as error:
            # Their leases end by themselves.
            self._tools.trouble(error)

    async def claim(self) -> None:
        """Claim accounts that are due, and begin to look, as long as there are more."""
        while await self._claim_some():
            pass

    async def _claim_some(self) -> bool:
        """Claim accounts and begin to look; return whether there may be more."""
        running = self._looks.running
        free = self._config.sessions - len(running)
        if free <= 0 or self._looks.closing or not self._may_look():
            return False
        used = Counter(each.server for each in running.values())
        most = self._config.sessions_per_server
        passed_over = {server for server, count in used.items() if count >= most}
        passed_over.update(self._servers.waiting(self._tools.wall()))

        def is_wanted(name: str) -> bool:
            # The journal may have the server of another configuration.
            server = self._server_of(name)
            return bool(server) and server not in passed_over and name not in running

        limit = min(free, most)
        claimed = self._tools.journal.claim(
            limit,
            self._config.lease,
            self._accounts.origins,
            passed_over=passed_over,
            wanted=is_wanted,
        ).addCallback(self._begin)
        self._claiming = ended(claimed)
        # If the loop is ended now, the journal may claim accounts nevertheless.
        count: Deferred[int] = Deferred()
        claimed.chainDeferred(count)
        return await count == limit

    def _server_of(self, name: str) -> str:
        """Return the server of an account; ``""``: the account is not configured."""
        settings = self._accounts.settings.get(name)
        return "" if settings is None else str(settings.address)

    def _begin(self, rows: Sequence[AccountRow]) -> int:
        for row in rows:
            self._accounts.learn(row)
            # Without a server it was removed meanwhile, and is given back.
            each = self._looks.claimed(row, self._server_of(row.name))
            self._queues.setdefault(each.server, deque()).append(each)
            if not self._looks.closing:
                self._begin_queued(each.server)
        return len(rows)

    def _begin_queued(self, server: str) -> None:
        """Begin looks at a server, as many as are allowed."""
        queue = self._queues.get(server)
        while queue:
            looking = sum(
                each.server == server and each.done is not None
                for each in self._looks.running.values()
            )
            if looking >= self._config.sessions_per_server:
                return
            each = queue.popleft()
            each.done = Deferred()
            running = Deferred.fromCoroutine(self._look(each))
            running.addBoth(self._looked, each)

    def _looked(self, result: object, each: Running) -> None:
        if isinstance(result, Failure):
            log.failure("{account}: unexpected", result, account=each.row.name)
        self._looks.over(each)
        if not self._looks.closing:
            self._begin_queued(each.server)
            self._wake()

    async def _look(self, each: Running) -> Outcome | None:
        row, journal = each.row, self._tools.journal
        settings = self._accounts.settings.get(row.name)
        if settings is None:
            await journal.give_back([row])
            return None
        wait = self._accounts.login_wait(row.name)
        if wait > 0:
            await journal.finish(row, due_at=journal.now() + wait)
            return None
        if row.look_wanted:
            self._accounts.memory(row.name).dirty = True
        self._looks.search(row.name, settings)
        return await self._looks.look(
            each, settings, limit=settings.max_messages, report=log_scheduled
        )
