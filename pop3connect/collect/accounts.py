"""
The accounts of a collector: their settings, their rows, how they are reached, and what
is remembered of them from look to look.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Protocol

import attrs
from twisted.internet.defer import Deferred

from ..errors import UsageError
from ..handle import Handle
from .journal import Journal
from .outcome import Memory
from .passwords import password_for
from .records import AccountRow, MessageRow, NewAccount
from .rules import Rules
from .settings import AccountSettings, Config, Password

__all__ = ["Accounts", "Connects"]

_PROGRAM = "program"
"""The origin of accounts that a program added."""


class Connects(Protocol):
    """Opens sessions with the server of an account, as a `Connector` does."""

    def connect(
        self, username: str, password: Password, *, authorize_as: str | None
    ) -> Deferred[Handle]:
        """Open a session and log in."""


@attrs.define
class _Connection:
    """How an account is reached: made once, and again when its settings change."""

    settings: AccountSettings
    connector: Connects
    password: Password

    def connect(self) -> Deferred[Handle]:
        return self.connector.connect(
            self.settings.user,
            self.password,
            authorize_as=self.settings.authorize_as,
        )


class Accounts:
    """
    The accounts of the configuration, and those that a program added.

    :param destinations: the names of the destinations of the program.
    :param connector: returns what opens the sessions of an account.
    """

    def __init__(
        self,
        reactor: Any,
        destinations: Collection[str],
        connector: Callable[[AccountSettings], Connects],
    ) -> None:
        self._reactor = reactor
        self._destinations = destinations
        self._connector = connector
        self._settings: dict[str, AccountSettings] = {}
        self._added: dict[str, AccountSettings] = {}
        self._origins: tuple[str, ...] = ()
        # Whether the journal has accounts that a program added to this collector.
        self._has_added = False
        self._ids: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._connections: dict[str, _Connection] = {}
        self._memories: dict[str, Memory] = {}
        # Accounts that are to be looked at again.
        self._wanted: set[str] = set()

    # -- settings

    @property
    def settings(self) -> Mapping[str, AccountSettings]:
        """The settings of the accounts with their destinations, by name."""
        return self._settings

    def chosen(self, names: Collection[str] | None) -> list[str]:
        """
        Return the names of some accounts.

        :param names: ``None``: all.
        :raises UsageError: an account does not exist.
        """
        if names is None:
            return list(self._settings)
        unknown = sorted(name for name in names if name not in self._settings)
        if unknown:
            raise UsageError(f"there is no account {unknown[0]!r} in the configuration")
        return list(names)

    def checked(self, config: Config) -> dict[str, AccountSettings]:
        """
        Return what `settings` is with a configuration.

        :raises UsageError: an account names a destination that does not exist.
        """
        return {
            account.name: self._complete(config, account)
            for account in (*config.accounts, *self._added.values())
        }

    def use(self, config: Config) -> None:
        """
        Use the accounts of a configuration from now on.

        :raises UsageError: an account names a destination that does not exist; then
            nothing has changed.
        """
        before, self._settings = self._settings, self.checked(config)
        for name in {*before, *self._settings}:
            if before.get(name) != self._settings.get(name):
                self._forget(name)

    def add(self, config: Config, account: AccountSettings) -> None:
        """
        Add an account, or change it.

        :raises UsageError: it names a destination that does not exist.
        """
        complete = self._complete(config, account)
        self._added[account.name] = account
        self._settings[account.name] = complete
        self._forget(account.name)

    def remove(self, name: str) -> None:
        """
        Remove an account that was added.

        :raises UsageError: no account of this name was added.
        """
        if name not in self._added:
            raise UsageError(f"no account {name!r} was added to the collector")
        del self._added[name]
        self._settings.pop(name, None)
        self._forget(name)

    def _complete(self, config: Config, account: AccountSettings) -> AccountSettings:
        own = self._destinations
        if account.to and set(account.to) <= {*own, *config.destinations}:
            return account
        if not account.to and len(own) == 1 and not config.destinations:
            return attrs.evolve(account, to=tuple(own))
        return config.complete(account)

    def _forget(self, name: str) -> None:
        self._connections.pop(name, None)
        memory = self._memories.get(name)
        if name not in self._settings:
            self._memories.pop(name, None)
        elif memory is not None:
            memory.dirty = True

    # -- rows

    @property
    def origins(self) -> Collection[str]:
        """
        The origins of the accounts in the journal.

        Accounts of other collectors may have the same.
        """
        return self._origins

    async def put(self, config: Config, journal: Journal) -> None:
        """Write the accounts to the journal."""
        origins: dict[str, Iterable[AccountSettings]] = {}
        if config.file is None:
            origins[_PROGRAM] = (*config.accounts, *self._added.values())
        else:
            origins[str(config.file)] = config.accounts
            if self._added or self._has_added:
                origins[_PROGRAM] = self._added.values()
        self._has_added = _PROGRAM in origins
        for origin, accounts in origins.items():
            await self._write(journal, origin, accounts)
        self._origins = tuple(origins)

    async def put_added(self, journal: Journal, name: str) -> None:
        """Write one account to the journal: it was added, changed or removed."""
        self._has_added = True
        account = self._added.get(name)
        if account is None:
            await self._write(journal, _PROGRAM, [], left=[name])
        else:
            await self._write(journal, _PROGRAM, [account], left=[])
        self._origins = tuple({*self._origins, _PROGRAM})

    async def _write(
        self,
        journal: Journal,
        origin: str,
        accounts: Iterable[AccountSettings],
        left: Collection[str] | None = None,
    ) -> None:
        new = [_new_account(each) for each in accounts]
        for row in await journal.put_accounts(new, origin, left=left):
            self.learn(row)

    async def find_origins(self, journal: Journal) -> None:
        """
        Find out which origins the accounts have.

        Another collector with some of the same accounts may have written them too, as
        those of its own configuration; both look at them.
        """
        found = await journal.origins(list(self._settings))
        self._origins = tuple({*self._origins, *found})

    def learn(self, row: AccountRow) -> None:
        """Take note of the row of an account."""
        self._ids[row.name] = row.id
        self._names[row.id] = row.name

    def id_of(self, name: str) -> int | None:
        """Return the id of an account's row; ``None``: it is not known."""
        return self._ids.get(name)

    # -- looks that are wanted

    def want_look(self, *names: str) -> None:
        """Take note that accounts are to be looked at again."""
        self._wanted.update(names)

    def take_wanted(self) -> set[str]:
        """Return the accounts that are to be looked at again, once."""
        wanted, self._wanted = self._wanted, set()
        return wanted

    def delivered_late(self, message: MessageRow) -> None:
        """Take note that a message was delivered after the look that retrieved it."""
        name = self._names.get(message.account_id)
        if name is not None:
            settings = self._settings.get(name)
            if settings is not None and Rules.of(settings).delete_after(0.0) == 0.0:
                self._wanted.add(name)

    # -- sessions

    def connect(
        self, config: Config, name: str, settings: AccountSettings
    ) -> Deferred[Handle]:
        """Open a session of an account."""
        connection = self._connections.get(name)
        if connection is None or connection.settings != settings:
            connection = self._connections[name] = _Connection(
                settings,
                self._connector(settings),
                password_for(
                    settings, config.folder, self._reactor, config.secret_variables
                ),
            )
        return connection.connect()

    def memory(self, name: str) -> Memory:
        """Return what is remembered of an account."""
        return self._memories.setdefault(name, Memory())

    def login_wait(self, name: str) -> float:
        """Return for how many seconds LOGIN-DELAY forbids a login."""
        memory = self.memory(name)
        if memory.login_at is None or not memory.login_delay:
            return 0.0
        return float(memory.login_at + memory.login_delay - self._reactor.seconds())


def _new_account(account: AccountSettings) -> NewAccount:
    rules = repr(Rules.of(account)).encode()
    return NewAccount(
        name=account.name,
        server=str(account.address),
        username=account.mailbox,
        interval=account.interval[1],
        settings=hashlib.sha256(rules).hexdigest()[:16],
    )
