"""
One look at one account: which messages are new, their retrieval and delivery, and what
is deleted on the server.

A look is usually one session.  If a message ends the session, the look opens another
one that passes over it; such a message is tried alone afterwards.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..client.ahead import answers
from ..destinations.base import Later, Mail
from ..errors import (
    CommandError,
    ConnectionLostError,
    POP3Error,
    ProtocolError,
    TimedOutError,
)
from ..handle import Handle
from ..results import Stat
from .content import content_of, unused_key
from .delivery import Deliveries, Target, Watcher
from .identity import (
    Identified,
    Inventory,
    ListingRefusedError,
    identify_steps,
    take_inventory_steps,
    uidl_given_up,
)
from .journal import JournalError, LostLeaseError
from .records import (
    LOST,
    AccountRow,
    AccountState,
    Content,
    DeliveryRow,
    DeliveryState,
    DueDelivery,
    MessageRow,
    MessageState,
    NewDelivery,
    NewMessage,
)
from .retrieval import AHEAD, Arrived, BrokenError, Retrieval
from .rules import FIRST_LOOK, Rules
from .schedule import (
    after_failed_retrieval,
    after_failure,
    after_look,
    classify,
    suspect_due,
)
from .settings import AccountSettings
from .tools import Tools, sleep
from .wording import words

__all__ = ["EndedError", "HeldError", "Look", "Memory", "Outcome", "Plan", "Planned"]

log = Logger()

T = TypeVar("T")

SESSIONS = 3
"""Sessions of one look that may be ended by messages."""

ALONE = 3
"""Suspects that one look tries, each in a session of its own."""

SLOW = 30.0
"""Seconds that a look waits, after its last RETR, for destinations that may be slow."""

CHUNK = 256
"""Headers that are read before their messages are judged."""

HEADERS = 2 * 1024 * 1024
"""Bytes of headers that are kept, so that they are not read twice in one session."""

FULL_LISTING = 50
"""New messages in a listing that has no others, as a server lists them that shows a
part of the mailbox in each session; then there may be more."""

SHORT = "shorter than LIST says, twice the same: left on the server"
"""The reason of a message that was delivered although it looks cut off."""


HELD = "held"
"""The class of the error of an account that was held because its mail looks new."""


class EndedError(POP3Error):
    """The look was ended by us: its time limit, the end of the service, a full disk."""


class HeldError(POP3Error):
    """The account is held; nothing was fetched or deleted."""


@attrs.define
class Memory:
    """
    What is remembered of an account from look to look, and lost with the process.

    :ivar dirty: rows must be read although the listing has not changed.
    :ivar shorts: hashes of short messages, by unique-id or number and size.
    :ivar told: what was logged once.
    :ivar cut: bytes after which sessions were cut: from, to.
    :ivar login_at: the last login, by the reactor's clock.
    :ivar delete_at: when the next message is due to be deleted.
    :ivar turns: when each suspect was last tried, by its id.
    :ivar doubted: ids of messages that came in a session in which a reply was missing:
        they may have been taken for others.
    """

    dirty: bool = True
    shorts: dict[str, str] = attrs.Factory(dict)
    told: set[str] = attrs.Factory(set)
    cuts: list[tuple[int, int]] = attrs.Factory(list)
    login_at: float | None = None
    delete_at: float | None = None
    turns: dict[int, float] = attrs.Factory(dict)
    doubted: set[int] = attrs.Factory(set)


@attrs.define
class Outcome:
    """
    What a look has done.

    :ivar listed: messages in the listing.
    :ivar new: messages that were retrieved, and are on disk.
    :ivar there: messages that were known, and need nothing.
    :ivar delivered: messages that reached all of their destinations meanwhile.
    :ivar deleted: messages that the server has deleted.
    :ivar skipped: new messages that rules leave on the server.
    :ivar refused: messages that the server refused to send or to delete.
    :ivar waiting: messages that were retrieved and wait for a destination.
    :ivar bad: messages that cannot be retrieved.
    :ivar left: messages that would have been retrieved, and are not yet.
    :ivar again: whether another look would bring more.
    :ivar seconds: how long it took.
    :ivar error: why it failed, or the first thing that went wrong.
    :ivar looked: whether the mailbox was listed and the session ended in order.
    """

    account: str
    listed: int = 0
    new: int = 0
    there: int = 0
    delivered: int = 0
    deleted: int = 0
    skipped: int = 0
    refused: int = 0
    waiting: int = 0
    bad: int = 0
    left: int = 0
    again: bool = False
    seconds: float = 0.0
    error: BaseException | None = None
    looked: bool = False

    def add(self, other: Outcome) -> None:
        """Add what a later look has done."""
        for name in ("new", "delivered", "deleted", "skipped", "refused", "seconds"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("listed", "there", "waiting", "bad", "left", "again", "looked"):
            setattr(self, name, getattr(other, name))
        self.error = self.error or other.error


@attrs.frozen
class Planned:
    """One message of a plan; ``reason`` says why it is not fetched."""

    number: int
    uid: str
    size: int
    reason: str = ""


@attrs.frozen
class Plan:
    """
    What a look would do.

    :ivar held: why the account would be held; ``""``: it would not be.
    """

    account: str
    fetched: tuple[Planned, ...] = ()
    skipped: tuple[Planned, ...] = ()
    matched: tuple[Planned, ...] = ()
    deleted: tuple[Planned, ...] = ()
    suspects: tuple[Planned, ...] = ()
    unread: tuple[Planned, ...] = ()
    troubles: tuple[str, ...] = ()
    held: str = ""


@attrs.define
class _Wanted:
    """
    A message to retrieve.

    :ivar row: its row, if it is known already.
    """

    number: int
    size: int
    uid: str
    row: MessageRow | None = None

    @property
    def mark(self) -> str:
        """What recognises it in the next session of this look."""
        return self.uid or f"{self.number} {self.size}"


class Look:
    """
    One look at one account, which this process has claimed.

    :param connect: opens a session; it may raise `UsageError`.
    :param lease: seconds that the claim is prolonged for before QUIT.
    :param limit: how many messages are retrieved at most.
    :param progress: called with the account's name, the bytes received and the bytes
        that this look will receive in all.
    :param dry_run: only make a `Plan`.
    """

    def __init__(
        self,
        tools: Tools,
        deliveries: Deliveries,
        account: AccountRow,
        settings: AccountSettings,
        connect: Callable[[], Deferred[Handle]],
        memory: Memory,
        *,
        lease: float,
        limit: float | None = None,
        dry_run: bool = False,
        progress: Callable[[str, int, int], object] | None = None,
    ) -> None:
        self.account = account
        self.outcome = Outcome(account.name)
        self.plan: Plan | None = None
        self._tools = tools
        self._journal = tools.journal
        self._deliveries = deliveries
        self._settings = settings
        self._rules = Rules.of(settings)
        self._connect_to = connect
        self._memory = memory
        self._lease = lease
        self.limit = math.inf if limit is None else limit
        self._dry_run = dry_run
        self._progress = progress
        self.first = account.looked_at is None
        # Why it ends before its time.
        self._ended: POP3Error | None = None
        self._winding_down = False
        self._connecting: Deferred[Handle] | None = None
        self._sleeping: Deferred[None] | None = None
        self._handle: Handle | None = None
        # For `finish`.
        self._facts: dict[str, Any] = {}
        # What is to be passed over in the sessions of this look, and the rows of it.
        self._passed: set[str] = set()
        self.suspects = False
        self._expected = self._received = 0
        self._last_retrieved: float | None = None
        self._login_delay: int | None = None
        self._keys: set[str] = set()
        self._targets: list[Target] = []
        self._watcher = Watcher()

    # -- from outside

    def wind_down(self) -> None:
        """Retrieve no more; finish what has begun, and end the session in order."""
        self._winding_down = True
        self._watcher.changed()

    def end(self, error: POP3Error) -> None:
        """End now: abort the session."""
        if self._ended is not None:
            return
        self._ended = error
        if self._connecting is not None:
            self._connecting.cancel()
        if self._sleeping is not None:
            self._sleeping.cancel()
        if self._handle is not None:
            self._handle.abort()
        self._watcher.changed()

    # -- the whole look

    async def run(self) -> Outcome:
        """Look, and give the account back; errors are in the result."""
        outcome, tools = self.outcome, self._tools
        begin = tools.reactor.seconds()
        limit = tools.reactor.callLater(self._settings.look_limit, self._too_long)
        failure: BaseException | None = None
        self._watcher = self._deliveries.watch(self.account.id)
        try:
            self._targets = self._deliveries.targets(self._settings)
            await self._look()
        except Exception as error:  # noqa: BLE001 - whatever it is, it ends one look
            failure = self._ended or error
        finally:
            if limit.active():
                limit.cancel()
            self._deliveries.unwatch(self.account.id)
            outcome.seconds = tools.reactor.seconds() - begin
        if failure is not None and not isinstance(failure, (POP3Error, OSError, Later)):
            log.failure(
                "{account}: unexpected", Failure(failure), account=self.account.name
            )
        if failure is not None:
            outcome.error = failure
            outcome.looked = False
            if isinstance(failure, (JournalError, OSError)):
                tools.trouble(failure)
        if not self._dry_run and not isinstance(failure, LostLeaseError):
            try:
                await self._finish(failure)
            except JournalError as error:
                outcome.error = outcome.error or error
                tools.trouble(error)
        if not self._dry_run:
            self._report()
        return outcome

    def _too_long(self) -> None:
        self.end(
            EndedError(
                f"the look took longer than look_limit={self._settings.look_limit:g} s",
                server=self.account.server,
            )
        )

    async def _look(self) -> None:
        broken = 0
        last: POP3Error | None = None
        while broken < SESSIONS:
            try:
                await self._session(backwards=broken == SESSIONS - 1)
                last = None
                break
            except BrokenError as error:
                self._check()
                broken += 1
                last = error.error
                if self._login_delay or self._winding_down or self._dry_run:
                    break
        if last is not None and broken == SESSIONS:
            # Delete at least what is due.
            await self._session(fetch=False)
            last = None
        if last is not None:
            raise last
        if not self._dry_run:
            await self._try_suspects()

    async def _try_suspects(self) -> None:
        """Try those messages alone that ended a session, or could not be retrieved."""
        memory, now = self._memory, self._journal.now()
        if self._login_delay:
            # Each needs a session of its own.
            most = 0 if self.outcome.new else 1
        else:
            most = ALONE
        if not most or not self._may_retrieve():
            return
        if not self.suspects:
            return
        rows = await self._journal.messages(self.account, {MessageState.SUSPECT})
        self.outcome.bad = len(rows)
        due = [row for row in rows if suspect_due(row, now)]
        due.sort(key=lambda row: memory.turns.get(row.id, -math.inf))
        memory.turns = {r.id: memory.turns[r.id] for r in rows if r.id in memory.turns}
        for row in due[:most]:
            if self._winding_down:
                return
            memory.turns[row.id] = now
            try:
                await self._session(alone=row)
            except BrokenError:
                self._check()
            except POP3Error as error:
                self._check()
                # The others have arrived: this is not a failure of the look.
                self.outcome.error = self.outcome.error or error
                return

    def _check(self) -> None:
        if self._ended is not None:
            raise self._ended

    def _may_retrieve(self) -> bool:
        """Return whether there is room for mail, and a destination that takes some."""
        if self._direct is None and self._tools.spool.full:
            self._tell("spool", "the spool is full: nothing is retrieved")
            return False
        now = self._tools.wall()
        return any(target.health.allowed(now) != 0 for target in self._targets)

    @property
    def _direct(self) -> Target | None:
        """The one Maildir that mail is retrieved into; ``None``: into the spool."""
        if len(self._targets) != 1:
            return None
        (target,) = self._targets
        return target if hasattr(target.destination, "keep") else None

    # -- one session

    async def _session(
        self,
        *,
        fetch: bool = True,
        backwards: bool = False,
        alone: MessageRow | None = None,
    ) -> None:
        """
        Open a session, do all that is due, and end it with QUIT.

        :param fetch: whether anything is retrieved.
        :param backwards: whether the newest messages come first.
        :param alone: a suspect: only this message is retrieved.
        :raises BrokenError: a message ended the session.
        """
        handle = await self._connect()
        try:
            await self._in_session(handle, fetch, backwards, alone)
        except BrokenError as error:
            self._check()
            if isinstance(error.error, ConnectionLostError):
                cuts = self._memory.cuts
                if alone is None:
                    cuts.append(error.received)
                    del cuts[:-SESSIONS]
            raise
        finally:
            self._handle = None
            await handle.abort()

    async def _connect(self) -> Handle:
        self._check()
        self._connecting = self._connect_to()
        try:
            handle = await self._connecting
        except CancelledError:
            self._check()
            raise
        finally:
            self._connecting = None
        self._handle = handle
        self._memory.login_at = self._tools.reactor.seconds()
        delay = self._login_delay = handle.capabilities.login_delay
        self._facts["login_delay"] = float(delay or 0)
        expire = handle.capabilities.expire
        if expire is not None:
            self._facts["expire_days"] = float(expire)
        return handle

    async def _in_session(
        self, handle: Handle, fetch: bool, backwards: bool, alone: MessageRow | None
    ) -> None:
        inventory = await self._inventory(handle)
        self.outcome.listed = len(inventory.sizes)
        for trouble in inventory.troubles:
            self._tell(trouble, trouble)
        account = self.account
        unchanged = inventory.complete and inventory.unchanged(account)
        if (
            unchanged
            and not self._memory.dirty
            and not self._dry_run
            and not await self._journal.has_work(account)
        ):
            self.outcome.there = len(inventory.sizes)
            await self._journal.listed(
                account, absent=None, forget_after=self._forget_after
            )
            await self._quit(handle, {})
            self._facts["listing"] = inventory.digest
            return
        rows = await self._journal.messages(account)
        self._keys = {row.key for row in rows}
        session = _Session(self, handle, inventory, fetch, backwards, alone)
        await session.run(rows)

    @property
    def _forget_after(self) -> float | None:
        return self._settings.forget_after if self._tools.trusted() else None

    async def _inventory(self, handle: Handle) -> Inventory:
        """Ask for the listings, all at once."""
        now = self._journal.now()
        asked: list[Deferred[Any]] = [handle.stat()]
        given_up = uidl_given_up(self.account, now)
        if not given_up:
            asked.append(handle.uidl())
        asked.append(handle.list())
        replies: list[Any] = []
        lost: POP3Error | None = None
        for reply in asked:
            try:
                replies.append(await reply)
            except CommandError as error:
                replies.append(error)
            except POP3Error as error:
                # The others fail with it.
                lost = lost or error
                replies.append(error)
        self._check()
        stat, sizes = replies[0], replies[-1]
        if lost is not None and (given_up or not isinstance(stat, Stat)):
            raise lost
        uids = [] if given_up else replies[1]
        if lost is not None and not isinstance(uids, POP3Error):
            raise lost
        return await self.sliced(
            take_inventory_steps(
                stat if isinstance(stat, Stat) else None, sizes, uids, self.account, now
            )
        )

    async def sliced(self, steps: Generator[None, None, T]) -> T:
        """Run a computation, and let the reactor work between its slices."""
        while True:
            try:
                next(steps)
            except StopIteration as stop:
                result: T = stop.value
                return result
            await sleep(self._tools.reactor, 0)
            self._check()

    async def _quit(self, handle: Handle, marked: Mapping[int, MessageRow]) -> None:
        """
        End the session, and note what was deleted.

        :param marked: the messages that are marked for deletion, by number.
        """
        await self._fence(handle)
        try:
            committed = await handle.disconnect()
        except (CommandError, ConnectionLostError, TimedOutError) as error:
            self._check()
            self._memory.dirty = True
            if marked or isinstance(error, CommandError):
                self.outcome.error = self.outcome.error or error
            self.outcome.looked = True
            return
        gone = {number: marked[number] for number in committed.deleted & set(marked)}
        if gone:
            await self._journal.delete_confirmed(
                self.account, [row.id for row in gone.values()]
            )
            self.outcome.deleted += len(gone)
        self.outcome.looked = True

    async def _fence(self, handle: Handle) -> None:
        """Make sure that the account is still ours, and not held, before QUIT."""
        lost = await self._journal.renew([self.account], self._lease)
        if self.account.id in lost:
            raise LostLeaseError(
                "another process has taken over the account, or it was reset",
                server=self.account.server,
            )
        for row in await self._journal.accounts([self.account.name]):
            if row.state is AccountState.HELD:
                raise HeldError("the account is held", server=self.account.server)
        self._check()

    # -- small things

    def _tell(self, topic: str, text: str) -> None:
        """Log a warning once for each account."""
        if topic not in self._memory.told:
            self._memory.told.add(topic)
            log.warn("{account}: {text}", account=self.account.name, text=text)

    def _count(self, octets: int) -> None:
        self._received += octets
        if self._progress is not None:
            self._progress(self.account.name, self._received, self._expected)

    def key(self, wanted: _Wanted, content: Content | None) -> str:
        """Return the key of a message."""
        if wanted.row is not None:
            return wanted.row.key
        key = unused_key(
            self.account.name, wanted.uid, wanted.size, content, self._keys
        )
        self._keys.add(key)
        return key

    def _report(self) -> None:
        outcome = self.outcome
        level = log.info if outcome.error is None else log.error
        level(
            "{account}: {listed} listed, {new} new, {delivered} delivered, {waiting} "
            "waiting, {bad} bad, {skipped} skipped, {deleted} deleted, {seconds:.1f} s"
            "{error}",
            account=outcome.account,
            listed=outcome.listed,
            new=outcome.new,
            delivered=outcome.delivered,
            waiting=outcome.waiting,
            bad=outcome.bad,
            skipped=outcome.skipped,
            deleted=outcome.deleted,
            seconds=outcome.seconds,
            error="" if outcome.error is None else f": {words(outcome.error)}",
        )

    # -- giving the account back

    async def _finish(self, failure: BaseException | None) -> None:
        account, outcome, facts = self.account, self.outcome, self._facts
        now, random = self._journal.now(), self._tools.random()
        account = attrs.evolve(
            account, login_delay=facts.get("login_delay", account.login_delay)
        )
        mail = outcome.new > 0
        if failure is None:
            if mail:
                account = attrs.evolve(account, mail_at=now)
            after = after_look(
                account,
                self._settings.interval,
                now=now,
                random=random,
                at_once=outcome.again,
                delete_at=self._memory.delete_at,
            )
            error = outcome.error
            facts.setdefault("uidl_failures", 0)
        elif isinstance(failure, (HeldError, EndedError)):
            # Not the server's fault.
            after = attrs.evolve(
                after_look(account, self._settings.interval, now=now, random=random),
                failures=account.failures,
                refusals=account.refusals,
            )
            error = failure
        else:
            if isinstance(failure, ListingRefusedError) and failure.verb == "UIDL":
                facts["uidl_failures"] = account.uidl_failures + 1
            after = after_failure(
                account,
                self._settings.interval,
                classify(failure),
                now=now,
                random=random,
                retry_after=getattr(failure, "retry_after", None),
            )
            error = failure
        if after.alert:
            log.critical("{account}: {text}", account=account.name, text=after.alert)
        state = facts.pop("state", None)
        if state is None and after.state is not AccountState.OK:
            state = after.state
        facts.setdefault("listing", "")
        await self._journal.finish(
            self.account,
            due_at=after.due_at,
            state=state,
            looked=outcome.looked and failure is None,
            mail=mail,
            failures=after.failures,
            refusals=after.refusals,
            error="" if error is None else words(error),
            error_class=_class_of(failure, state),
            **facts,
        )


class _Session:
    """
    The part of a look that happens in one session, after the listing was read.
    """

    def __init__(
        self,
        look: Look,
        handle: Handle,
        inventory: Inventory,
        fetch: bool,
        backwards: bool,
        alone: MessageRow | None,
    ) -> None:
        self._look = look
        self._tools = look._tools
        self._journal = look._journal
        self._handle = handle
        self._inventory = inventory
        self._fetch = fetch
        self._backwards = backwards
        self._alone = alone
        self._account = look.account
        self._rules = look._rules
        self._outcome = look.outcome
        # Headers that were read in this session.
        self._headers: dict[int, bytes] = {}
        self._headers_size = 0
        # Messages that were read whole to be compared, and may be new.
        self._whole: dict[int, Arrived] = {}
        # What was retrieved in this session, by the id of its row, and its number.
        self._retrieved: dict[int, int] = {}
        self._wanted: dict[int, _Wanted] = {}
        self._direct = look._direct
        self._keeper: Any = (
            look._tools.spool if self._direct is None else self._direct.destination
        )

    async def run(self, rows: Sequence[MessageRow]) -> None:
        look, outcome = self._look, self._outcome
        try:
            found = await self._decide(rows)
            if look._dry_run:
                look.plan = await self._plan(found)
                await self._handle.disconnect()
                outcome.looked = True
                return
            if found.held:
                look._facts["state"] = AccountState.HELD
                log.critical(
                    "{account}: held: {text}; see: pop3connect accounts release",
                    account=self._account.name,
                    text=found.held,
                )
                raise HeldError(found.held, server=self._account.server)
            await self._note(found)
            left = await self._retrieve(found)
        finally:
            for arrived in self._whole.values():
                arrived.incoming.discard()
        await self._wait()
        marked = await self._delete(found)
        deleted_before = outcome.deleted
        await look._quit(self._handle, marked)
        deleted = outcome.deleted - deleted_before
        final = look._watcher.final
        outcome.delivered = sum(
            row.state is MessageState.DELIVERED for row in final.values()
        )
        outcome.waiting = sum(id not in final for id in self._retrieved)
        self._remember(found, left, marked, deleted)

    # -- which is which

    async def _decide(self, rows: Sequence[MessageRow]) -> Identified[MessageRow]:
        """Read what is needed to say which message is which, and prove what is due."""
        look = self._look
        found = await look.sliced(
            identify_steps(
                self._inventory,
                rows,
                self._account,
                all_headers=look.first and self._rules.existing != "new",
            )
        )
        tried: set[int] = set()
        while True:
            while not found.decided:
                contents = await self._read(found.headers, found.bodies)
                found = await look.sliced(found.compared_steps(contents))
            unproven = [
                number
                for number, row in found.known.items()
                if number not in found.contents
                and number not in tried
                and (self._deletable(row) or row.id in look._memory.doubted)
            ]
            if not unproven:
                return found
            tried.update(unproven)
            read = await self._read(unproven, ())
            refused = [number for number, content in read.items() if content is None]
            if refused:
                read.update(await self._read((), refused))
            proofs = {number: c for number, c in read.items() if c is not None}
            if not proofs:
                return found
            found = await look.sliced(found.compared_steps(proofs))
            look._memory.doubted.difference_update(
                row.id for number, row in found.known.items() if number in proofs
            )

    def _deletable(self, row: MessageRow) -> bool:
        return row.reason != SHORT and self._rules.deletable(
            row, self._journal.now(), trusted=self._tools.trusted()
        )

    async def _read(
        self, headers: Iterable[int], bodies: Iterable[int]
    ) -> dict[int, Content | None]:
        """Read headers by TOP, and messages whole; ``None``: it could not be read."""
        contents: dict[int, Content | None] = {}
        asked = [number for number in sorted(headers) if not self._passes(number)]
        async for number, header in self._tops(asked):
            contents[number] = None if header is None else content_of(header)
        whole = [number for number in sorted(bodies) if not self._passes(number)]
        if whole:
            await self._read_whole(whole, contents)
        for number in (*headers, *bodies):
            contents.setdefault(number, None)
        return contents

    def _passes(self, number: int) -> bool:
        """Return whether a message is passed over, because it ended a session."""
        if self._alone is not None:
            return False
        return self._want(number).mark in self._look._passed

    def _want(self, number: int, row: MessageRow | None = None) -> _Wanted:
        return _Wanted(
            number,
            self._inventory.sizes.get(number, 0),
            self._inventory.uids.get(number, ""),
            row,
        )

    async def _tops(self, numbers: Sequence[int]) -> Any:
        """Yield the header of each message; ``None``: the server refuses it."""
        cached = [number for number in numbers if number in self._headers]
        for number in cached:
            yield number, self._headers[number]
        asked = [number for number in numbers if number not in self._headers]
        self._look._check()
        coming = answers(asked, self._handle.top)
        at = 0
        try:
            async for number, answer in coming:
                at += 1
                if isinstance(answer, CommandError):
                    yield number, None
                    continue
                if self._headers_size < HEADERS:
                    self._headers[number] = answer
                    self._headers_size += len(answer)
                yield number, answer
        except POP3Error as error:
            raise await self._broke(asked[at], error, (0, 0)) from error
        finally:
            await coming.aclose()

    async def _read_whole(
        self, numbers: Sequence[int], contents: dict[int, Content | None]
    ) -> None:
        async def take(group: list[Arrived]) -> None:
            for arrived in group:
                contents[arrived.number] = arrived.content
                if len(self._whole) < AHEAD:
                    self._whole[arrived.number] = arrived
                else:
                    arrived.incoming.discard()

        retrieval = self._retrieval(take)
        try:
            await retrieval.run(numbers, self._inventory.sizes)
        except BrokenError as error:
            raise await self._broke(
                error.number, error.error, error.received
            ) from error
        for number, _ in retrieval.refused:
            contents[number] = None

    def _retrieval(self, take: Any) -> Retrieval:
        look = self._look
        return Retrieval(
            self._tools,
            self._handle,
            self._keeper,
            self._account.name,
            take,
            estimate=self._rules.list_sizes == "estimate",
            going=self._going,
            progress=look._count,
        )

    def _going(self) -> bool:
        return not self._look._winding_down and self._look._ended is None

    # -- what is noted before anything is retrieved

    async def _note(self, found: Identified[MessageRow]) -> None:
        """Note what the listing says about known messages."""
        journal, account, look = self._journal, self._account, self._look
        notes: list[Deferred[Any]] = []
        if found.renamed:
            notes.append(
                journal.renamed(
                    account,
                    {
                        row.id: self._inventory.uids.get(number, "")
                        for number, row in found.renamed.items()
                    },
                )
            )
        if found.resized:
            notes.append(
                journal.resized(
                    account,
                    {
                        row.id: self._inventory.sizes[number]
                        for number, row in found.resized.items()
                    },
                )
            )
        if found.returned:
            for row in found.returned.values():
                look._tell(
                    f"returned {row.id}",
                    f"the server has message {row.key} again, whose deletion it had "
                    "confirmed; it is not delivered again",
                )
            notes.append(
                journal.undeleted(account, [r.id for r in found.returned.values()])
            )
        if self._inventory.complete:
            gone = [
                row.id
                for row in found.absent
                if row.state is MessageState.DELIVERED and self._deletable(row)
            ]
            if gone:
                notes.append(journal.delete_confirmed(account, gone))
            lost = {
                row.id: "lost: its file is not there, and the server has not got it"
                for row in found.absent
                if row.state is MessageState.SUSPECT and row.reason == LOST
            }
            if lost:
                notes.append(journal.set_aside(account, lost))
            notes.append(
                journal.listed(
                    account,
                    present=[
                        row.id
                        for row in found.known.values()
                        if row.missing_since is not None
                    ],
                    absent=[row.id for row in found.absent],
                    forget_after=look._forget_after,
                )
            )
        for note in notes:
            await note

    # -- what is retrieved

    async def _retrieve(self, found: Identified[MessageRow]) -> int:
        """Retrieve what is wanted; return how many messages are left for later."""
        look, outcome = self._look, self._outcome
        candidates = await self._candidates(found)
        alone = self._alone
        if alone is not None:
            candidates = [
                self._want(number, row)
                for number, row in found.known.items()
                if row.id == alone.id
            ]
        if not self._fetch or not look._may_retrieve():
            outcome.left = len(candidates)
            return outcome.left
        wanted, left = await self._judge(candidates)
        if self._backwards:
            wanted.reverse()
        self._wanted = {each.number: each for each in wanted}
        look._expected += sum(each.size for each in wanted)
        if self._rules.fetch == "header":
            await self._retrieve_headers(wanted)
        else:
            await self._retrieve_messages(wanted)
        # Shut down, or held, in between.
        look._check()
        outcome.left = left + len(self._wanted)
        return outcome.left

    async def _candidates(self, found: Identified[MessageRow]) -> list[_Wanted]:
        """Return the messages that may have to be retrieved, in order."""
        look = self._look
        wanted = [self._want(number) for number in found.new]
        there = bad = 0
        kept = []
        for number, row in found.known.items():
            if row.state is MessageState.SUSPECT:
                look.suspects = True
                if row.reason == LOST:
                    wanted.append(self._want(number, row))
                else:
                    bad += 1
            elif row.state is MessageState.SKIPPED:
                if self._rules.stands(row.reason):
                    there += 1
                else:
                    wanted.append(self._want(number, row))
            elif row.state is MessageState.RETRIEVED:
                kept.append((number, row))
            else:
                there += 1
                bad += row.state is MessageState.SET_ASIDE
        missing = await self._missing([row for _, row in kept])
        if missing:
            await self._journal.lost(missing)
        for number, row in kept:
            if row.id in missing:
                wanted.append(self._want(number, row))
            else:
                there += 1
        self._outcome.there, self._outcome.bad = there, bad
        wanted.sort(key=lambda each: each.number)
        return [each for each in wanted if each.mark not in look._passed]

    async def _missing(self, rows: Sequence[MessageRow]) -> set[int]:
        """Return the ids of retrieved messages whose files are not here any more."""
        if not rows:
            return set()
        witnesses = {
            row.message_id: row.witness.path
            for row in await self._journal.deliveries(self._account)
            if row.witness is not None
        }
        find = getattr(self._keeper, "find", None)

        def missing() -> set[int]:
            gone = set()
            for row in rows:
                if row.spool:
                    if self._tools.spool.find(row.spool) is None:
                        gone.add(row.id)
                elif find is None or find(witnesses.get(row.id, "")) is None:
                    gone.add(row.id)
            return gone

        lost = await self._tools.files(missing)
        # What is being delivered, or waits for a proof, may have been moved already.
        begun = {
            row.message_id
            for row in await self._journal.deliveries(self._account)
            if row.state is DeliveryState.DELIVERING
        }
        return lost - begun

    async def _judge(self, candidates: Sequence[_Wanted]) -> tuple[list[_Wanted], int]:
        """
        Apply the rules, and note what they leave on the server.

        :return: the messages to retrieve, and how many are left for another look.
        """
        if self._alone is not None:
            return list(candidates), 0
        wanted: list[_Wanted] = []
        left = iter(candidates)
        done = 0
        room = self._look.limit
        while len(wanted) < room and (chunk := list(islice(left, CHUNK))):
            heads: dict[int, bytes | None] = {}
            chosen, skipped, judged = await self._rule(chunk, heads, room - len(wanted))
            await self._skip(skipped, heads)
            wanted += chosen
            done += judged
        return wanted, len(candidates) - done

    async def _rule(
        self,
        candidates: Sequence[_Wanted],
        heads: dict[int, bytes | None],
        room: float = math.inf,
    ) -> tuple[list[_Wanted], list[tuple[_Wanted, str]], int]:
        """
        Apply the rules.

        :param heads: is filled with the headers that were read.
        :param room: how many messages may be wanted.
        :return: the messages to retrieve, those to skip with the reason, and how many
            were judged.
        """
        first, rules = self._look.first, self._rules
        seen = self._account.released_as == "seen"
        everything = seen or (first and rules.existing == "seen")
        everything = everything or rules.needs_header(first_look=first)
        sized = {each.number: rules.leaves(each.size) for each in candidates}
        asked = [n for n, reason in sized.items() if everything or reason]
        async for number, header in self._tops(asked):
            heads[number] = header
        wanted: list[_Wanted] = []
        skipped: list[tuple[_Wanted, str]] = []
        now = self._journal.now()
        for each in candidates:
            head = heads.get(each.number) or b""
            if seen:
                reason = f"{FIRST_LOOK}: released as seen"
            else:
                reason = rules.judge(head, now=now, first_look=first)
                reason = reason or sized[each.number]
            if reason:
                skipped.append((each, reason))
            elif len(wanted) < room:
                wanted.append(each)
            else:
                break
        return wanted, skipped, len(wanted) + len(skipped)

    async def _skip(
        self,
        skipped: Sequence[tuple[_Wanted, str]],
        heads: Mapping[int, bytes | None],
    ) -> None:
        if not skipped:
            return
        new, again = [], {}
        for each, reason in skipped:
            if each.row is not None:
                again[each.row.id] = reason
                continue
            head = heads.get(each.number)
            content = None if head is None else content_of(head)
            new.append(
                NewMessage(
                    key=self._look.key(each, content),
                    uid=each.uid,
                    size=each.size,
                    content=content,
                    state=MessageState.SKIPPED,
                    reason=reason,
                )
            )
            if not reason.startswith(FIRST_LOOK):
                self._look._tell(f"skip {reason}", f"messages are left: {reason}")
        if new:
            await self._journal.add(self._account, new)
        if again:
            await self._journal.skipped(self._account, again)
        self._outcome.skipped += len(skipped)

    async def _retrieve_messages(self, wanted: Sequence[_Wanted]) -> None:
        look = self._look
        retrieval = self._retrieval(self._take)
        here = [each for each in wanted if each.number in self._whole]
        for each in here:
            await retrieval.put(self._whole.pop(each.number))
        numbers = [each.number for each in wanted if each not in here]
        before = self._outcome.new
        try:
            await retrieval.run(numbers, self._inventory.sizes)
        except BrokenError as error:
            raise await self._broke(
                error.number, error.error, error.received
            ) from error
        finally:
            if self._outcome.new > before:
                look._last_retrieved = self._tools.reactor.seconds()
        for number, refusal in retrieval.refused:
            await self._could_not(self._wanted.pop(number), refusal)

    async def _retrieve_headers(self, wanted: Sequence[_Wanted]) -> None:
        """Deliver headers only, which TOP reads."""
        retrieval = self._retrieval(self._take)
        numbers = [each.number for each in wanted]
        try:
            async for number, header in self._tops(numbers):
                if header is None:
                    each = self._wanted.pop(number)
                    await self._could_not(
                        each, CommandError("TOP is refused", verb="TOP", number=number)
                    )
                    continue
                arrived = retrieval.begin(number, 0)
                arrived.incoming.write(header)
                await retrieval.put(arrived)
                if not self._going():
                    break
        finally:
            await retrieval.run((), {})

    async def _take(self, group: list[Arrived]) -> None:
        """Keep messages that have arrived, and note them."""
        good: list[tuple[_Wanted, Arrived, str]] = []
        for arrived in group:
            wanted = self._wanted[arrived.number]
            reason = ""
            if self._is_short(wanted, arrived):
                if not self._same_again(wanted, arrived):
                    await self._short(wanted, arrived)
                    continue
                reason = SHORT
                self._look._tell(
                    f"short {wanted.mark}",
                    f"message {arrived.number} is {SHORT}",
                )
            content = arrived.content
            if self._rules.fetch == "header" and content is not None:
                content = attrs.evolve(content, body="")
            arrived.content = content
            arrived.incoming.key = self._look.key(wanted, content)
            good.append((wanted, arrived, reason))
        if not good:
            return
        try:
            await self._tools.files(
                self._keeper.keep, [arrived.incoming for _, arrived, _ in good]
            )
        except Later as error:
            # The Maildir cannot be used: no QUIT, because a server may hide what was
            # retrieved.
            assert self._direct is not None
            self._look._deliveries.in_trouble(self._direct, error)
            raise
        if self._direct is not None:
            await self._take_directly(self._direct, good)
        else:
            await self._take_into_spool(good)
        for wanted, _, _ in good:
            self._wanted.pop(wanted.number, None)
        self._outcome.new += len(good)

    def _new(
        self, wanted: _Wanted, arrived: Arrived, reason: str, *deliveries: NewDelivery
    ) -> NewMessage:
        return NewMessage(
            key=arrived.incoming.key,
            uid=wanted.uid,
            size=wanted.size,
            content=arrived.content,
            state=MessageState.RETRIEVED,
            reason=reason,
            spool=None if self._direct is not None else arrived.incoming.path,
            deliveries=deliveries,
        )

    async def _noted(
        self, each: Sequence[tuple[_Wanted, NewMessage]]
    ) -> list[MessageRow]:
        """Note retrieved messages, and return their rows."""
        journal, account = self._journal, self._account
        fresh = [(w, message) for w, message in each if w.row is None]
        known = [(w, message) for w, message in each if w.row is not None]
        rows: dict[int, MessageRow] = {}
        asked = [
            journal.retrieved(account, w.row, message)
            for w, message in known
            if w.row is not None
        ]
        if fresh:
            added = await journal.add(account, [message for _, message in fresh])
            for (wanted, _), row in zip(fresh, added, strict=True):
                rows[wanted.number] = row
        for (wanted, _), noted in zip(known, asked, strict=True):
            rows[wanted.number] = await noted
        for number, row in rows.items():
            self._retrieved[row.id] = number
        return [rows[wanted.number] for wanted, _ in each]

    async def _take_into_spool(
        self, good: Sequence[tuple[_Wanted, Arrived, str]]
    ) -> None:
        deliveries = [NewDelivery(name) for name in self._look._settings.to]
        each = [
            (wanted, self._new(wanted, arrived, reason, *deliveries))
            for wanted, arrived, reason in good
        ]
        try:
            await self._noted(each)
        except JournalError:
            names = [message.spool.name for _, message in each if message.spool]
            await self._tools.files(self._tools.spool.remove, names)
            raise
        self._look._deliveries.wake(self._look._settings)

    async def _take_directly(
        self, target: Target, good: Sequence[tuple[_Wanted, Arrived, str]]
    ) -> None:
        """Deliver into the Maildir whose tmp has the messages."""
        effects = self._tools.effects
        mails = []
        for wanted, arrived, _ in good:
            assert arrived.incoming.path is not None
            mails.append(
                Mail(
                    key=arrived.incoming.key,
                    account=self._account.name,
                    uid=wanted.uid,
                    size=wanted.size,
                    path=arrived.incoming.path,
                )
            )
        prepared = await effects(target.destination.prepare, mails)
        try:
            for _, error in prepared.refused:
                raise error
            each = [
                (
                    wanted,
                    self._new(
                        wanted,
                        arrived,
                        reason,
                        NewDelivery(
                            target.name,
                            state=DeliveryState.DELIVERING,
                            attempt=1,
                            witness=witness,
                        ),
                    ),
                )
                for (wanted, arrived, reason), witness in zip(
                    good, prepared.witnesses, strict=True
                )
            ]
            rows = await self._noted(each)
            now = self._journal.now()
            attempts = await self._attempts(each)
            noted = [
                (
                    DueDelivery(
                        delivery=(
                            delivery := DeliveryRow(
                                message_id=row.id,
                                destination=target.name,
                                state=DeliveryState.DELIVERING,
                                attempt=attempts.get(row.id, 1),
                                machine=self._tools.machine,
                                witness=witness,
                                delivering_since=now,
                            )
                        ),
                        message=row,
                        account=self._account.name,
                    ),
                    delivery,
                )
                for row, witness in zip(rows, prepared.witnesses, strict=True)
            ]
            await self._look._deliveries.carry_out(target, prepared, noted)
        finally:
            await effects(prepared.close)

    async def _attempts(
        self, each: Sequence[tuple[_Wanted, NewMessage]]
    ) -> dict[int, int]:
        """Return the number of the attempt of messages that were known before."""
        if all(wanted.row is None for wanted, _ in each):
            return {}
        return {
            row.message_id: row.attempt
            for row in await self._journal.deliveries(self._account)
        }

    # -- what cannot be retrieved

    def _is_short(self, wanted: _Wanted, arrived: Arrived) -> bool:
        if self._rules.fetch == "header":
            return False
        incoming = arrived.incoming
        return self._rules.is_short(wanted.size, incoming.received, incoming.lines)

    def _same_again(self, wanted: _Wanted, arrived: Arrived) -> bool:
        """Return whether the same short bytes came in an earlier session."""
        if arrived.incoming.received == 0 or self._alone is None:
            return False
        return self._look._memory.shorts.get(wanted.mark) == _hash(arrived)

    async def _short(self, wanted: _Wanted, arrived: Arrived) -> None:
        got = arrived.incoming.received
        self._look._memory.shorts[wanted.mark] = _hash(arrived)
        self._wanted.pop(wanted.number, None)
        arrived.incoming.discard()
        await self._could_not(
            wanted,
            POP3Error(
                f"{got} bytes came where LIST says {wanted.size}",
                verb="RETR",
                number=wanted.number,
            ),
            arrived.content if got else None,
        )

    async def _broke(
        self, number: int, error: POP3Error, received: tuple[int, int]
    ) -> BrokenError:
        """Note the message that ended the session, and return what to raise."""
        look = self._look
        look._check()
        if isinstance(error, (TimedOutError, ProtocolError)):
            # With pipelining, the reply to the next command may have been taken for the
            # one that is missing.
            look._memory.doubted.update(self._retrieved)
        wanted = self._wanted.pop(number, None) or self._want(number)
        look._passed.add(wanted.mark)
        if self._alone is not None:
            wanted.row = wanted.row or self._alone
        await self._could_not(wanted, error, received=received)
        return BrokenError(number, error, received)

    async def _could_not(
        self,
        wanted: _Wanted,
        error: POP3Error,
        content: Content | None = None,
        *,
        received: tuple[int, int] | None = None,
    ) -> None:
        """Note that a message could not be retrieved: it becomes a suspect."""
        look, account, journal = self._look, self._account, self._journal
        outcome = self._outcome
        outcome.refused += 1
        outcome.error = outcome.error or error
        look.suspects = True
        reason = words(error)
        look._passed.add(wanted.mark)
        if wanted.row is None:
            header = self._headers.get(wanted.number)
            if content is None and header is not None:
                content = content_of(header)
            if content is not None:
                content = attrs.evolve(content, body="")
            await journal.add(
                account,
                [
                    NewMessage(
                        key=look.key(wanted, content),
                        uid=wanted.uid,
                        size=wanted.size,
                        content=content,
                        state=MessageState.SUSPECT,
                        reason=reason,
                    )
                ],
            )
            log.warn(
                "{account}: message {number} could not be retrieved: {reason}",
                account=account.name,
                number=wanted.number,
                reason=reason,
            )
            return
        counts = self._alone is not None and not self._transient(error, received)
        result = after_failed_retrieval(wanted.row, now=journal.now(), counts=counts)
        await journal.suspect(account, wanted.row, reason, result)
        if result.set_aside:
            log.critical(
                "{account}: message {key} is set aside, it cannot be retrieved: "
                "{reason}",
                account=account.name,
                key=wanted.row.key,
                reason=reason,
            )

    def _transient(self, error: POP3Error, received: tuple[int, int] | None) -> bool:
        """Return whether a failure says nothing about the message itself."""
        if isinstance(error, CommandError):
            return error.transient is True
        if not isinstance(error, ConnectionLostError) or received is None:
            return False
        # A server that ends every session after some bytes.
        got = received[1]
        return got > 0 and any(
            begin * 0.9 <= got <= end * 1.1
            for begin, end in self._look._memory.cuts
            if end > 0
        )

    # -- the end of the session

    async def _wait(self) -> None:
        """Wait for the destinations, as long as that is worth it."""
        look, watcher = self._look, self._look._watcher
        reactor = self._tools.reactor
        quick = all(target.quick for target in look._targets)
        began = look._last_retrieved
        if began is None:
            began = reactor.seconds()
        while not look._winding_down:
            look._check()
            pending = [
                id
                for id in self._retrieved
                if id not in watcher.final and id not in watcher.stuck
            ]
            if not pending or self._in_trouble():
                return
            rest = math.inf if quick else began + SLOW - reactor.seconds()
            if rest <= 0:
                return
            changed = watcher.when_changed()
            timer = None
            if rest < math.inf:
                timer = reactor.callLater(rest, watcher.changed)
            try:
                await changed
            finally:
                if timer is not None and timer.active():
                    timer.cancel()

    def _in_trouble(self) -> bool:
        now = self._tools.wall()
        return any(t.health.allowed(now) is not None for t in self._look._targets)

    def _proven(
        self, number: int, row: MessageRow, found: Identified[MessageRow]
    ) -> bool:
        """Return whether this session showed that the number is this message."""
        content = found.contents.get(number)
        if content is None or not row.header_hash:
            return False
        return content.header == row.header_hash

    async def _delete(self, found: Identified[MessageRow]) -> dict[int, MessageRow]:
        """Mark what is due and proven; return the rows by number."""
        look, final = self._look, self._look._watcher.final
        due: dict[int, MessageRow] = {}
        for number, row in found.known.items():
            row = final.get(row.id, row)
            if self._proven(number, row, found) and self._deletable(row):
                due[number] = row
        for id, number in self._retrieved.items():
            row = final.get(id)
            if row is not None and self._deletable(row):
                due[number] = row
        if not due:
            return {}
        await look._fence(self._handle)
        marked: dict[int, MessageRow] = {}
        async for number, answer in answers(sorted(due), self._handle.delete):
            if isinstance(answer, CommandError):
                self._outcome.refused += 1
                self._outcome.error = self._outcome.error or answer
            else:
                marked[number] = due[number]
        return marked

    def _remember(
        self,
        found: Identified[MessageRow],
        left: int,
        marked: Mapping[int, MessageRow],
        deleted: int,
    ) -> None:
        """Gather what the account's row is to say."""
        look, inventory, account = self._look, self._inventory, self._account
        outcome, facts = self._outcome, look._facts
        if self._alone is not None:
            facts["listing"] = ""
            return
        if inventory.uids:
            facts["uids_seen"] = True
        if inventory.complete:
            facts["uids_changed"] = found.uids_changed
            facts["listed"] = len(inventory.sizes) - deleted
        if not look.first:
            facts["usual_new"] = 0.8 * account.usual_new + 0.2 * len(found.new)
        whole = (
            inventory.complete
            and not left
            and not marked
            and not found.unread
            and not look._passed
        )
        facts["listing"] = inventory.digest if whole else ""
        look._memory.dirty = not whole
        now = self._journal.now()
        later = [
            at
            for row in (*found.known.values(), *look._watcher.final.values())
            if row.state is MessageState.DELIVERED
            and row.delivered_at is not None
            and (at := self._rules.delete_after(row.delivered_at)) is not None
            and at > now
        ]
        look._memory.delete_at = min(later, default=None)
        outcome.again = bool(left and look.limit == math.inf) or (
            outcome.new >= FULL_LISTING and outcome.new == len(inventory.sizes)
        )
        if not self._fetch or not look._may_retrieve() or look._winding_down:
            outcome.again = False

    async def _plan(self, found: Identified[MessageRow]) -> Plan:
        """Return what would be done, without RETR and DELE."""
        look = self._look

        def planned(number: int, reason: str = "") -> Planned:
            each = self._want(number)
            return Planned(number, each.uid, each.size, reason)

        candidates = [] if found.held else await self._candidates(found)
        wanted, skipped, _ = await self._rule(candidates, {})
        suspects = [
            planned(number, row.reason)
            for number, row in found.known.items()
            if row.state is MessageState.SUSPECT
        ]
        fetched = {each.number for each in wanted}
        return Plan(
            account=self._account.name,
            fetched=tuple(planned(each.number) for each in wanted),
            skipped=tuple(planned(each.number, reason) for each, reason in skipped),
            matched=tuple(
                planned(number) for number in found.known if number not in fetched
            ),
            deleted=tuple(
                planned(number)
                for number, row in found.known.items()
                if self._proven(number, row, found) and self._deletable(row)
            ),
            suspects=tuple(suspects),
            unread=tuple(planned(number) for number in sorted(found.unread)),
            troubles=self._inventory.troubles,
            held=found.held
            or ("held" if look.account.state is not AccountState.OK else ""),
        )


def _class_of(failure: BaseException | None, state: AccountState | None) -> str:
    """Return the class of the error for the account's row."""
    if failure is None:
        return ""
    # So that the administrator is asked what the unknown messages are.
    held = isinstance(failure, HeldError) and state is AccountState.HELD
    return HELD if held else classify(failure).value


def _hash(arrived: Arrived) -> str:
    return hashlib.sha256(arrived.incoming.head).hexdigest()
