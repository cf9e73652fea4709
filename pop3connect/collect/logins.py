"""
Tries the logins of a configuration, each once: ``collect --check --login``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred, DeferredSemaphore, gatherResults

from ..connector import Connector
from ..errors import POP3Error
from .passwords import password_for
from .settings import AccountSettings, Config, Connectors

__all__ = ["try_logins"]

Told = Callable[[AccountSettings, Exception | None], object]


async def try_logins(
    config: Config,
    reactor: Any,
    told: Told,
    connector: Callable[[AccountSettings], Connector] | None = None,
) -> None:
    """
    Log in to each account once, as many at a time as the configuration allows.

    :param told: called with each account, in the order of the configuration, and the
        error of its login; ``None``: it succeeded.
    :param connector: makes the connector of an account; default: as it says itself.
    """
    everywhere = DeferredSemaphore(config.sessions)
    servers: defaultdict[str, DeferredSemaphore] = defaultdict(
        lambda: DeferredSemaphore(config.sessions_per_server)
    )

    made = connector or Connectors(reactor)

    def begin(account: AccountSettings) -> Deferred[Exception | None]:
        def log_in() -> Deferred[Exception | None]:
            return Deferred.fromCoroutine(_log_in(config, account, made, reactor))

        # The server first: an account that waits for it takes no session from others.
        return servers[str(account.address)].run(everywhere.run, log_in)

    logins = [begin(account) for account in config.accounts]
    try:
        for account, login in zip(config.accounts, logins, strict=True):
            told(account, await login)
    except BaseException:
        # Also a cancellation.
        rest = gatherResults(logins, consumeErrors=True)
        rest.addErrback(lambda _: None)
        rest.cancel()
        raise


async def _log_in(
    config: Config,
    account: AccountSettings,
    connector: Callable[[AccountSettings], Connector],
    reactor: Any,
) -> Exception | None:
    try:
        password = password_for(
            account, config.folder, reactor, config.secret_variables
        )
        handle = await connector(account).connect(
            account.user, password, authorize_as=account.authorize_as
        )
    except (POP3Error, OSError) as error:
        return error
    # That QUIT is refused says nothing about the login.
    with suppress(POP3Error):
        await handle.disconnect()
    return None
