"""
Claims accounts that are due, and begins to look at them, as many as are allowed.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from .accounts import Accounts
from .look import Outcome, log_scheduled
from .looks import Looks, Running
from .records import AccountRow
from .servers import Servers
from .settings import Config
from .tools import Tools

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

    def reload(self, config: Config) -> None:
        """Use another configuration from now on."""
        self._config = config

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
        waiting = self._servers.waiting(self._tools.wall())
        used = Counter(each.server for each in running.values())
        names = []
        for name, settings in self._accounts.settings.items():
            if name in running:
                continue
            server = str(settings.address)
            if used[server] >= self._config.sessions_per_server:
                continue
            if server in waiting:
                continue
            names.append(name)
        if not names:
            return False
        limit = min(free, self._config.sessions_per_server)
        rows = await self._tools.journal.claim(limit, self._config.lease, names)
        for row in rows:
            self._begin(row)
        return len(rows) == limit

    def _begin(self, row: AccountRow) -> None:
        self._accounts.learn(row)
        settings = self._accounts.settings.get(row.name)
        # Without settings it was removed meanwhile, and is given back.
        server = row.server if settings is None else str(settings.address)
        each = self._looks.claimed(row, server)
        self._queues.setdefault(each.server, deque()).append(each)
        self._begin_queued(each.server)

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
        if self._looks.closing:
            # Claimed in the last moment: the lease is given back.
            await journal.finish(row, due_at=journal.now())
            return None
        wait = self._accounts.login_wait(row.name)
        if wait > 0:
            await journal.finish(row, due_at=journal.now() + wait)
            return None
        if row.look_wanted:
            self._accounts.memory(row.name).dirty = True
        settings = self._accounts.settings.get(row.name)
        if settings is None:
            await journal.finish(row, due_at=journal.now())
            return None
        self._looks.search(row.name, settings)
        return await self._looks.look(
            each, settings, limit=settings.max_messages, report=log_scheduled
        )
