"""
One look at one account, from the claim to the next time it is due.

A look is usually one session.  If a message ends the session, the look opens another
one that passes over it; such a message is tried alone afterwards.  What happens in a
session is in `session`.
"""

from __future__ import annotations

import math
from collections.abc import (
    Awaitable,
    Callable,
    Collection,
    Mapping,
    Sequence,
)
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..destinations.base import Later
from ..errors import (
    CommandError,
    ConnectionLostError,
    POP3Error,
    TimedOutError,
)
from ..handle import Handle
from ..results import Stat
from ..waits import classify
from .delivery import Deliveries, Watcher
from .inventory import (
    Inventory,
    ListingRefusedError,
    take_inventory_steps,
    uidl_given_up,
)
from .journal import JournalError, LostLeaseError
from .outcome import EndedError, HeldError, Memory, Outcome, Plan
from .records import GONE, AccountRow, AccountState, MessageRow, MessageState
from .retrieval import BrokenError
from .rules import Rules
from .schedule import after_failure, after_look, suspect_due
from .session import Session
from .settings import AccountSettings
from .steps import SLICE, Steps
from .targets import Target
from .tools import Tools, sleep
from .units import show_about
from .wording import words

__all__ = [
    "HELD",
    "EndedError",
    "HeldError",
    "Look",
    "Memory",
    "Outcome",
    "Plan",
    "log_scheduled",
]

log = Logger()

T = TypeVar("T")

SESSIONS = 3
"""Sessions of one look that may be ended by messages."""

INCOMPLETE = 3
"""Looks in a row that may fail before an incomplete listing is believed by rules that
hold for one look: there are servers whose listings are never complete."""

ALONE = 3
"""Suspects that one look tries, each in a separate session."""

_OPEN = (MessageState.SUSPECT, MessageState.RETRIEVED)
"""The states of messages that may have to be retrieved again."""

UNCHANGED = 3600.0
"""Seconds between two notes that the listing has not changed."""

HELD = "held"
"""The class of the error of an account that was held because its mail looks new."""


class Look:
    """
    One look at one account, which this process has claimed.

    :param connect: opens a session; it may raise `UsageError`.
    :param lease: seconds that the claim is prolonged for before QUIT.
    :param limit: how many messages are retrieved at most.
    :param progress: called with the account's name, the bytes received and the bytes
        that this look will receive in all.
    :param choose: returns the numbers of the messages that this look is about, of all
        that a session lists; a `POP3Error` that it raises ends the look.
    :param report: is given the outcome in the end.  Default: it is logged.
    :param prepare: is called before anything is retrieved; otherwise at the end, if
        ``littered`` says so.
    :param littered: returns whether a crash left files in a Maildir of the account.
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
        choose: Callable[[Inventory], Collection[int]] | None = None,
        report: Callable[[Outcome], object] | None = None,
        prepare: Callable[[], Awaitable[None]] | None = None,
        littered: Callable[[], bool] = lambda: False,
    ) -> None:
        self.account = account
        self.outcome = Outcome(account.name)
        self.plan: Plan | None = None
        self.tools = tools
        self.journal = tools.journal
        self.deliveries = deliveries
        self.settings = settings
        self.rules = Rules.of(settings)
        self._connect_to = connect
        self.memory = memory
        self._lease = lease
        self.limit = math.inf if limit is None else limit
        self.dry_run = dry_run
        self._progress = progress
        self._choose = choose
        self._report = report or _log_outcome
        self._prepare = prepare
        self._littered = littered
        # The unique-ids of the messages that it is about; ``None``: all.
        self._chosen: set[str] | None = None if choose is None else set()
        self.first = account.looked_at is None
        # Why it ends early.
        self.ended: POP3Error | None = None
        self._over_limit = False
        self.winding_down = False
        self._connecting: Deferred[Handle] | None = None
        self._sleeping: Deferred[None] | None = None
        self._handle: Handle | None = None
        # For `finish`.
        self.facts: dict[str, Any] = {}
        # The messages to pass over in the sessions of this look.
        self.passed: set[str] = set()
        # The ids of messages that were to be deleted.
        self.deletions: set[int] = set()
        # The keys of suspects that this look does not try.
        self.resting: set[str] = set()
        self.suspects = False
        # How many messages could not be read to say whether they are new.
        self.unread = 0
        # Whether messages are due to be deleted that its last session did not prove.
        self.unproven = False
        self._expected = self._received = 0
        self.last_retrieved: float | None = None
        # Seconds that the server wants between sessions.
        self.login_delay = 0
        self.targets: list[Target] = []
        self.watcher = Watcher()
        # Whether it found what the last look did.
        self._unchanged = False

    # -- from outside

    def wind_down(self) -> None:
        """Retrieve no more; finish what has begun, and end the session in order."""
        self.winding_down = True
        self.watcher.changed()

    def end(self, error: POP3Error) -> None:
        """End now: abort the session."""
        if self.ended is not None:
            return
        self.ended = error
        if self._connecting is not None:
            self._connecting.cancel()
        if self._sleeping is not None:
            self._sleeping.cancel()
        if self._handle is not None:
            self._handle.abort()
        self.watcher.changed()

    # -- the whole look

    async def run(self) -> Outcome:
        """Look, and give the account back; errors are in the result."""
        outcome, tools = self.outcome, self.tools
        begin = tools.reactor.seconds()
        limit = tools.reactor.callLater(self.settings.look_limit, self._too_long)
        failure: BaseException | None = None
        if not self.dry_run:
            # Another look at the account may be going on beside a dry run.
            self.watcher = self.deliveries.watch(self.account.id)
        try:
            self.targets = self.deliveries.targets(self.settings)
            await self._look()
            if self._littered() and not self.dry_run:
                # Before the account is given back.
                await self.prepare()
        except Exception as error:  # noqa: BLE001 - whatever it is, it ends one look
            failure = self.ended or error
        finally:
            if limit.active():
                limit.cancel()
            if not self.dry_run:
                self.deliveries.unwatch(self.account.id)
            outcome.seconds = tools.reactor.seconds() - begin
            outcome.due = any(
                row.delete_after is not None and row.delete_after <= self.journal.now()
                for number, row in self.watcher.final.items()
                if number not in self.deletions
            )
        if failure is not None and not isinstance(failure, (POP3Error, OSError, Later)):
            log.failure(
                "{account}: unexpected", Failure(failure), account=self.account.name
            )
        if failure is not None:
            outcome.error = failure
            outcome.looked = False
            if isinstance(failure, (JournalError, OSError)):
                tools.trouble(failure)
        if not self.dry_run and not isinstance(failure, LostLeaseError):
            try:
                await self._finish(failure)
            except JournalError as error:
                outcome.error = outcome.error or error
                tools.trouble(error)
        if not self.dry_run:
            self._report(outcome)
        return outcome

    def _too_long(self) -> None:
        self._over_limit = True
        self.end(
            EndedError(
                f"the look took longer than look_limit={self.settings.look_limit:g} s",
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
                self.check()
                broken += 1
                last = error.error
                if self.login_delay or self.winding_down or self.dry_run:
                    break
        if broken == SESSIONS or self.unproven:
            # Delete at least what is due.
            try:
                await self._session(fetch=False)
                last = None
            except BrokenError as error:
                self.check()
                if last is not None:
                    last = error.error
        if last is not None:
            raise last
        if self.suspects and not self.dry_run:
            await self._try_suspects()
            bad = await self.journal.messages(
                self.account, {MessageState.SUSPECT, MessageState.SET_ASIDE}
            )
            self.outcome.bad = self.unread + sum(
                row.missing_since is None and self._is_chosen(row) for row in bad
            )

    def _is_chosen(self, row: MessageRow) -> bool:
        """Return whether a look at some messages may be about this one."""
        return self._chosen is None or not row.uid or row.uid in self._chosen

    async def _try_suspects(self) -> None:
        """Try those messages alone that ended a session, or could not be retrieved."""
        if self.login_delay or not self.may_retrieve():
            # The server does not want another session so soon; see `in_turn`.
            return
        rows = await self.journal.messages(self.account, {MessageState.SUSPECT})
        for row in self.in_turn([row for row in rows if row.missing_since is None]):
            if self.winding_down or self.outcome.new >= self.limit:
                return
            self.memory.turns[row.id] = self.journal.now()
            try:
                await self._session(alone=row)
            except BrokenError:
                self.check()
            except POP3Error as error:
                self.check()
                # The others have arrived: this is not a failure of the look.
                self.outcome.error = self.outcome.error or error
                return

    def in_turn(self, suspects: Sequence[MessageRow]) -> list[MessageRow]:
        """
        Return the suspects that this look tries: each in a separate session, or, if the
        server wants a pause between sessions, one at the end of the only session.

        :param suspects: all that are listed.
        """
        turns, now = self.memory.turns, self.journal.now()
        # Deletions are repeated at the next looks if a suspect ends the only session.
        pause = 3 * self.login_delay
        due = [
            row
            for row in suspects
            if suspect_due(row, now)
            and not now - pause < turns.get(row.id, -math.inf) <= now
            and self._is_chosen(row)
            and row.key not in self.resting
            and not self.memory.room.lacks(row.size, self.tools.reactor.seconds())
        ]
        # A single run remembers no turns, and the same few may fail each time.
        due.sort(key=lambda row: (turns.get(row.id, -math.inf), self.tools.random()))
        listed = {row.id for row in suspects}
        for number in [number for number in turns if number not in listed]:
            del turns[number]
        return due[: 1 if self.login_delay else ALONE]

    def check(self) -> None:
        """Raise the error that ended the look."""
        if self.ended is not None:
            raise self.ended

    def may_retrieve(self) -> bool:
        """Return whether there is room for mail, and a destination that takes some."""
        if self.direct is None and self.tools.spool.full:
            self.tell("spool", "the spool is full: nothing is retrieved")
            return False
        now = self.tools.wall()
        return any(target.health.allowed(now) != 0 for target in self.targets)

    @property
    def judges_all(self) -> bool:
        """
        Whether a rule holds for this look only: the first one, or one after a release.

        All messages are judged then, also those that have to wait.
        """
        first = self.first and self.rules.existing != "new"
        return first or self.account.released_as == "seen"

    @property
    def direct(self) -> Target | None:
        """The one Maildir that mail is retrieved into; ``None``: into the spool."""
        if len(self.targets) != 1:
            return None
        (target,) = self.targets
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
            self.check()
            if isinstance(error.error, ConnectionLostError):
                cuts = self.memory.cuts
                if alone is None:
                    cuts.append(error.received)
                    del cuts[:-SESSIONS]
            raise
        finally:
            self._handle = None
            await handle.abort()

    async def _connect(self) -> Handle:
        self.check()
        self._connecting = self._connect_to()
        try:
            handle = await self._connecting
        except CancelledError:
            self.check()
            raise
        finally:
            self._connecting = None
        self._handle = handle
        self.memory.login_at = self.tools.reactor.seconds()
        self._note_offer(handle)
        return handle

    def _note_offer(self, handle: Handle) -> None:
        self.login_delay = handle.capabilities.login_delay or 0
        self.memory.login_delay = self.login_delay
        self.facts["login_delay"] = float(self.login_delay)
        expire = handle.capabilities.expire
        if expire is None:
            # What was said before the login need not hold for this user.
            self.facts.pop("expire_days", None)
        else:
            self.facts["expire_days"] = float(expire)

    async def _in_session(
        self, handle: Handle, fetch: bool, backwards: bool, alone: MessageRow | None
    ) -> None:
        inventory = await self._inventory(handle)
        # The server's reply to CAPA after the login has come before its listings.
        self._note_offer(handle)
        self.outcome.listed = len(inventory.sizes)
        for trouble in inventory.troubles:
            self.tell(trouble, trouble)
        chosen: frozenset[int] | None = None
        if self._choose is not None and self._chosen is not None:
            chosen = frozenset(self._choose(inventory))
            self._chosen.update(inventory.uids.get(number, "") for number in chosen)
        account = self.account
        if (
            self.judges_all
            and not inventory.complete
            and not self.dry_run
            and account.failures < INCOMPLETE
        ):
            raise POP3Error(
                "the listing is not complete, and messages that it leaves out would be "
                "new at the next look; it is read again",
                server=account.server,
            )
        unchanged = inventory.complete and inventory.unchanged(account)
        if (
            unchanged
            and not self.memory.dirty
            and not self.dry_run
            and not await self.journal.has_work(account)
        ):
            self.outcome.there = len(inventory.sizes)
            await self._note_unchanged()
            await self.quit(handle, {})
            self.facts["listing"] = inventory.digest
            self._unchanged = True
            return
        rows = await self.journal.messages(account)
        await self._clear_up()
        direct = await self._direct_for(rows)
        session = Session(
            self, handle, inventory, direct, chosen, fetch, backwards, alone
        )
        await session.run(rows)

    async def _direct_for(self, rows: Sequence[MessageRow]) -> Target | None:
        """
        Return the Maildir that a session retrieves mail into; ``None``: the spool.

        Mail that may have to be retrieved again, and waits for a destination that the
        account does not have any more, must not get into another one.

        :param rows: all messages of the account.
        """
        direct = self.direct
        if direct is None or not any(map(_may_come_again, rows)):
            return direct
        found = await self.journal.find_messages(
            [*_OPEN, MessageState.SET_ASIDE], [self.account.name]
        )
        waits_for = {
            each.destination
            for _, row, deliveries in found
            for each in deliveries
            if _may_come_again(row)
        }
        return direct if waits_for <= {direct.name} else None

    async def _note_unchanged(self) -> None:
        """Count this listing for the messages that are missing, now and then."""
        now = self.tools.reactor.seconds()
        last = self.memory.listed_at
        if last is None:
            # The process has just begun: runs by cron write nothing here.
            self.memory.listed_at = now
        elif now - last >= UNCHANGED:
            self.memory.listed_at = now
            await self.journal.listed(
                self.account, absent=None, forget_after=self.forget_after
            )

    async def prepare(self) -> None:
        """Get ready to retrieve messages, once."""
        prepare, self._prepare = self._prepare, None
        if prepare is not None:
            await prepare()

    async def _clear_up(self) -> None:
        """Remove files kept before an error of the journal, if no row names them."""
        leftovers = self.memory.leftovers
        if not leftovers or self.dry_run:
            return
        named = await self.journal.spool_files()
        for keeper, path in leftovers:
            if path.name not in named and str(path) not in named:
                await self.tools.files(keeper.remove, [path.name])
        leftovers.clear()

    @property
    def forget_after(self) -> float | None:
        """After how many seconds a missing message is forgotten; ``None``: never."""
        return self.settings.forget_after if self.tools.trusted() else None

    async def _inventory(self, handle: Handle) -> Inventory:
        """Ask for the listings, all at once."""
        now = self.journal.now()
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
        self.check()
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

    async def sliced(self, steps: Steps[T]) -> T:
        """Run a computation, and let the reactor work between its slices."""
        done = 0
        while True:
            try:
                done += next(steps)
            except StopIteration as stop:
                result: T = stop.value
                return result
            # The listing of a small mailbox takes less time than a turn of the reactor.
            if done >= SLICE:
                done = 0
                await sleep(self.tools.reactor, 0)
                self.check()

    async def quit(self, handle: Handle, marked: Mapping[int, MessageRow]) -> None:
        """
        End the session, and note what was deleted.

        QUIT changes something if messages are marked, or if some were retrieved: there
        are servers that do not list those again.

        :param marked: the messages that are marked for deletion, by number.
        """
        if marked or self.outcome.new:
            await self.fence(handle)
        before = self.outcome.unconfirmed
        self.outcome.unconfirmed += len(marked)
        try:
            committed = await handle.disconnect()
        except (CommandError, ConnectionLostError, TimedOutError) as error:
            self.check()
            self.memory.dirty = True
            self.outcome.quit = error
            if marked or isinstance(error, CommandError):
                self.outcome.error = self.outcome.error or error
            else:
                self.tell("quit", f"{words(error)}; nothing was to be deleted", error)
            self.outcome.looked = True
            return
        self.outcome.unconfirmed = before
        gone = {number: marked[number] for number in committed.deleted & set(marked)}
        if gone:
            await self.journal.delete_confirmed(
                self.account, [row.id for row in gone.values()]
            )
            self.outcome.deleted += len(gone)
        self.outcome.looked = True

    async def fence(self, handle: Handle) -> None:
        """Make sure that the account is still ours, and not held, before QUIT."""
        lost = await self.journal.renew([self.account], self._lease)
        if self.account.id in lost:
            raise LostLeaseError(
                "another process has taken over the account, or it was reset",
                server=self.account.server,
            )
        for row in await self.journal.accounts([self.account.name]):
            if row.state is AccountState.HELD:
                raise HeldError("the account is held", server=self.account.server)
        self.check()

    # -- small things

    def tell(self, topic: str, text: str, problem: POP3Error | None = None) -> None:
        """
        Log a warning once for each account.

        :param problem: the error that it is about, if the outcome has it.
        """
        if topic in self.memory.told:
            return
        self.memory.told.add(topic)
        more = {} if problem is None else {"problem": problem}
        log.warn(
            "{account}: {text}",
            account=self.account.name,
            text=text,
            topic=topic,
            **more,
        )

    def expect(self, octets: int) -> None:
        """Take note of the bytes that are still to come, as far as that is known."""
        # Not added up: what a broken session has left is wanted again.
        self._expected = self._received + octets

    def count(self, octets: int) -> None:
        """Take note of bytes that were received."""
        self._received += octets
        if self._progress is not None:
            self._progress(self.account.name, self._received, self._expected)

    # -- giving the account back

    async def _finish(self, failure: BaseException | None) -> None:
        account, outcome, facts = self.account, self.outcome, self.facts
        now, random = self.journal.now(), self.tools.random()
        account = attrs.evolve(
            account, login_delay=facts.get("login_delay", account.login_delay)
        )
        mail = outcome.new > 0
        if failure is None:
            if mail:
                account = attrs.evolve(account, mail_at=now)
            after = after_look(
                account,
                self.settings.interval,
                now=now,
                random=random,
                at_once=outcome.again,
                delete_at=self.memory.delete_at,
            )
            error = outcome.error
            facts.setdefault("uidl_failures", 0)
        elif isinstance(failure, (HeldError, EndedError)):
            # Not the server's fault.
            after = attrs.evolve(
                after_look(account, self.settings.interval, now=now, random=random),
                failures=account.failures,
                refusals=account.refusals,
            )
            error = failure
        else:
            if isinstance(failure, ListingRefusedError) and failure.verb == "UIDL":
                facts["uidl_failures"] = account.uidl_failures + 1
            after = after_failure(
                account,
                self.settings.interval,
                classify(failure),
                now=now,
                random=random,
                retry_after=getattr(failure, "retry_after", None),
            )
            error = failure
        if after.alert:
            log.critical(
                "{account}: {text}",
                account=account.name,
                text=after.alert,
                problem=failure,
            )
        state = facts.pop("state", None)
        if state is None and after.state is not AccountState.OK:
            state = after.state
        facts.setdefault("listing", "")
        stopped = self.ended is not None and not self._over_limit
        if state in (None, AccountState.OK) and not stopped and not self.winding_down:
            outcome.next_in = max(after.due_at - now, 0.0)
        await self.journal.finish(
            self.account,
            due_at=after.due_at,
            state=state,
            looked=outcome.looked and failure is None,
            mail=mail,
            failures=after.failures,
            refusals=after.refusals,
            error="" if error is None else words(error),
            error_class=_class_of(failure, state),
            unchanged=self._unchanged
            and error is None
            and not (account.error or account.released_as),
            **facts,
        )


def _may_come_again(row: MessageRow) -> bool:
    return row.state in _OPEN or row.reason == GONE


def _class_of(failure: BaseException | None, state: AccountState | None) -> str:
    """Return the class of the error for the account's row."""
    if failure is None:
        return ""
    # So that the administrator is asked what the unknown messages are.
    held = isinstance(failure, HeldError) and state is AccountState.HELD
    return HELD if held else classify(failure).value


def log_scheduled(outcome: Outcome) -> None:
    """Log what a look has done, and after an error, when the next one is."""
    more = ""
    if outcome.error is not None and outcome.next_in is not None:
        soon = outcome.next_in < 1
        when = "at once" if soon else f"in {show_about(outcome.next_in)}"
        more = f"; next look {when}"
    _log_outcome(outcome, more)


def _log_outcome(outcome: Outcome, more: str = "") -> None:
    level = log.info if outcome.error is None else log.error
    # The line is made here: the logger takes as long for these fields as SQLite for a
    # commit.
    line = (
        f"{outcome.account}: {outcome.listed} listed, {outcome.new} new, "
        f"{outcome.delivered} delivered, {outcome.waiting} waiting, {outcome.bad} bad, "
        f"{outcome.skipped} skipped, {outcome.deleted} deleted, {outcome.seconds:.1f} s"
    )
    if outcome.error is not None:
        line += f": {words(outcome.error)}{more}"
    level("{line}", line=line, account=outcome.account, outcome=outcome)
