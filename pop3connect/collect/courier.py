"""
Brings messages to the destinations of one name: chooses what is due, notes each step in
the journal before and after its effect, and finds out after a crash what was done.
"""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.logger import Logger

from ..destinations.base import Later, Mail, Never, Prepared, Proof
from ..errors import POP3Error
from ..headers import summary
from ..redaction import escape
from .account_sql import CLOCK_SLACK
from .journal import JournalError
from .records import DeliveryRow, DueDelivery
from .schedule import after_refused_delivery
from .settings import AccountSettings
from .targets import Target
from .tools import Threads, Tools, ended, together

if TYPE_CHECKING:
    from .delivery import Deliveries

__all__ = ["Courier"]

log = Logger()

GROUP = 100
"""Deliveries that are read from the journal at a time, and noted together."""

INBOX_LIMIT = 100_000_000
"""Bytes of a message that are written to the table ``inbox``, as one value."""

INBOX_BYTES = 8 * 1024 * 1024
"""Bytes of messages in memory that are written to it together, and one message."""

THREADS = 16
"""Threads for the destinations of one name."""

POLL = 2.0
"""Seconds between two looks into the journal: administrators change ``next_try``."""

HEAD = 64 * 1024
"""Bytes of a message that are searched for From and Subject."""

HOPELESS = 3
"""Messages in a row that a destination did not take, after which a single run passes
over the rest."""


class Courier:
    """
    Delivers to the destinations of one name.

    :param owner: what passes the outcomes on to the looks.
    :param make: makes the target of an account; see `Courier.target` for its errors.
    :ivar seen: when the loop last made a round, by the reactor's clock.
    """

    def __init__(
        self,
        name: str,
        tools: Tools,
        owner: Deliveries,
        make: Callable[[AccountSettings, Threads], Target],
    ) -> None:
        self.name = name
        self.seen = tools.reactor.seconds()
        self._tools = tools
        self._owner = owner
        self._make = make
        self._threads = Threads(tools.reactor, f"collect {name}", THREADS)
        # By account; ``""``: the same for all.
        self._targets: dict[str, Target] = {}
        # Those of them that are busy, in trouble or given up.
        self._held_up: dict[str, Target] = {}
        # The ids of messages whose delivery a crash or an error interrupted: to be
        # proven first.  ``None``: all that the journal has.
        self._doubted: set[int] | None = None
        self._doubted_accounts: set[int] = set()
        self._tasks: set[Deferred[None]] = set()
        self._underway: set[int] = set()
        self._waiting: Deferred[None] | None = None
        self._woken = False
        self._stopping = self._cut = False
        # For a single run: the messages that were tried.
        self._tried: set[int] | None = set() if owner.single else None

    # -- targets

    def target(self, account: AccountSettings) -> Target:
        """
        Return the destination of an account.

        :raises UsageError: it cannot be used.
        """
        found = self._targets.get("") or self._targets.get(account.name)
        if found is None:
            found = self._make(account, self._threads)
            self._targets[found.account] = found
        return found

    def forget_targets(self) -> None:
        """Make the targets again when they are needed: their settings have changed."""
        for target in self._targets.values():
            target.stop()
        self._targets.clear()
        self._held_up.clear()

    # -- the loop

    def wake(self) -> None:
        """Look into the journal now."""
        self._woken = True
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    async def run(self) -> None:
        """Deliver what is due, until `stop`."""
        while not self._stopping:
            self.seen = self._tools.reactor.seconds()
            self._woken = False
            try:
                await self._round()
            except JournalError as error:
                self._tools.trouble(error)
            if not self._woken and not self._stopping:
                await self._sleep(POLL)

    async def _sleep(self, seconds: float) -> None:
        waiting = self._waiting = Deferred()
        call = self._tools.reactor.callLater(seconds, self.wake)
        await waiting
        if call.active():
            call.cancel()

    async def finish(self) -> None:
        """Try what is due and was not tried in this single run, and wait for it."""
        await self.idle()
        while await self._round() or self._tasks:
            await self.idle()

    async def idle(self) -> None:
        """Wait until nothing is being delivered."""
        while self._tasks:
            await gatherResults([ended(task) for task in self._tasks])

    def stop(self) -> None:
        """Begin nothing more."""
        self._stopping = True
        for target in self._targets.values():
            target.stop()
        self.wake()

    def cut(self) -> None:
        """End what is underway; it is repeated at the next start."""
        self._cut = True
        if self._tasks:
            log.error(
                "{name}: does not end in time: its deliveries are cut off, and tried "
                "again at the next start",
                name=self.name,
            )
        for task in list(self._tasks):
            task.cancel()

    def close(self, until: float) -> None:
        """
        Wait until all calls have returned, and end the threads.

        :param until: when to wait no longer, by `time.monotonic`.
        """
        stuck = self._threads.stop(until)
        if stuck:
            log.error(
                "{name}: {count} call(s) in threads do not return, as from a file "
                "system that does not answer; they are left behind",
                name=self.name,
                count=stuck,
            )

    async def _round(self) -> int:
        """Begin what is due; return how many deliveries that is."""
        if self._doubted is None or self._doubted or self._doubted_accounts:
            await self._recover()
        now = self._tools.journal.now()
        busy = self._busy(now)
        if "" in busy:
            # It is the same for all accounts.
            return 0
        without = {
            account
            for name in busy
            if (account := self._owner.account_id(name)) is not None
        }
        limit = GROUP + len(self._tried or ())
        while True:
            dues = await self._tools.journal.due_deliveries(
                self.name, limit, without=without, early=self._owner.early
            )
            groups, nowhere = self._grouped(dues)
            begun = self._begin_groups(groups, now)
            if begun or not nowhere or len(dues) < limit:
                return begun
            # Mail that cannot be delivered now must not hide the mail after it.
            without |= nowhere

    def _busy(self, now: float) -> set[str]:
        """Return the accounts whose targets take nothing now."""
        for name, target in list(self._held_up.items()):
            if not (target.busy or target.given_up or target.health.troubles):
                del self._held_up[name]
        return {
            name
            for name, target in self._held_up.items()
            if target.busy or target.given_up or self._allowed(target, now) == 0
        }

    def _hold_up(self, target: Target) -> None:
        """Take note that a target is busy, in trouble or given up."""
        # Another one may have taken its place: its settings have changed.
        if self._targets.get(target.account) is target:
            self._held_up[target.account] = target

    def _begin_groups(
        self, groups: Iterable[tuple[Target, list[DueDelivery]]], now: float
    ) -> int:
        begun = 0
        for target, group in groups:
            allowed = self._allowed(target, now)
            begin = group if allowed is None else group[:allowed]
            if begin and not target.busy and not self._stopping:
                begun += len(begin)
                if self._tried is not None:
                    self._tried.update(due.message.id for due in begin)
                self._begin(target, begin, self._deliver)
        return begun

    def _allowed(self, target: Target, now: float) -> int | None:
        """Return how many messages may be tried; ``None``: as many as there are."""
        return None if self._tried is not None else target.health.allowed(now)

    def _grouped(
        self, dues: Iterable[DueDelivery]
    ) -> tuple[Iterable[tuple[Target, list[DueDelivery]]], set[int]]:
        """Return deliveries by target, and the ids of accounts that have none."""
        nowhere: set[int] = set()
        groups: dict[int, tuple[Target, list[DueDelivery]]] = {}
        for due in dues:
            number = due.message.id
            if number in self._underway or number in (self._tried or ()):
                continue
            target = self._target_of(due)
            if target is None:
                nowhere.add(due.message.account_id)
            else:
                groups.setdefault(id(target), (target, []))[1].append(due)
        return groups.values(), nowhere

    def _target_of(self, due: DueDelivery) -> Target | None:
        settings = self._owner.settings(due.account)
        if settings is None:
            self._owner.complain(due.account, "the account is not configured any more")
            return None
        try:
            return self.target(settings)
        except (POP3Error, OSError) as error:
            self._owner.complain(self.name, str(error))
            return None

    def _begin(
        self,
        target: Target,
        dues: list[DueDelivery],
        work: Callable[[Target, list[DueDelivery]], Coroutine[Any, Any, None]],
    ) -> None:
        target.busy = True
        self._hold_up(target)
        ids = {due.message.id for due in dues}
        self._underway |= ids
        task = Deferred.fromCoroutine(work(target, dues))
        self._tasks.add(task)

        def done(result: object) -> None:
            self._tasks.discard(task)
            self._underway -= ids
            target.busy = False
            error = getattr(result, "value", None)
            if error is not None:
                self.doubt(ids)
                self._owner.stuck(dues)
                target.given_up = self._tried is not None
                if not isinstance(error, CancelledError):
                    self._tools.trouble(error)
            elif not self._stopping:
                # Otherwise the next round comes after a while.
                self.wake()

        task.addBoth(done)

    def doubt(self, ids: Iterable[int]) -> None:
        """Find out first what became of these messages: there was an error."""
        if self._doubted is not None:
            self._doubted.update(ids)

    def doubt_account(self, account: int) -> None:
        """Find out first what became of all messages of an account."""
        self._doubted_accounts.add(account)

    # -- delivering

    async def _deliver(self, target: Target, dues: list[DueDelivery]) -> None:
        try:
            found = await target.threads(self._find, target, dues)
        except (Later, OSError) as error:
            # Nothing is lost: for example, its file system is not mounted.
            self.in_trouble(target, error, dues)
            return
        here = []
        for due, path in zip(dues, found, strict=True):
            if path is None:
                await self._lost(due)
            else:
                here.append((due, path))
        if not here:
            return
        if target.destination is None:
            await self._into_table(target, here)
        elif target.witnessed:
            await self._with_witness(target, here)
        else:
            await self._one_by_one(target, here)

    def _find(self, target: Target, dues: Sequence[DueDelivery]) -> list[Path | None]:
        """Return the files of messages; in a thread."""
        paths = []
        for due in dues:
            path = None
            if due.message.spool:
                path = self._tools.spool.find(due.message.spool)
            elif due.delivery.witness is not None and hasattr(
                target.destination, "find"
            ):
                path = target.destination.find(due.delivery.witness.path)
            paths.append(path)
        return paths

    async def _lost(self, due: DueDelivery) -> None:
        """Let a look fetch a message again, whose file is not there any more."""
        log.error(
            "{account}: the file of message {key} is not there; it is fetched again",
            account=due.account,
            key=due.message.key,
        )
        await self._tools.journal.lost([due.message.id])
        self._owner.stuck([due])
        await self._tools.journal.look_wanted([due.account])

    def _mail(self, due: DueDelivery, path: Path, attempt: int) -> Mail:
        """Return a message as a plain destination gets it; in a thread."""
        mail = _mail(due, path, attempt)
        try:
            with mail.open() as file:
                head = summary(file.read(HEAD))
        except OSError:
            # The destination will say so.
            return mail
        return attrs.evolve(mail, sender=head.sender, subject=head.subject)

    async def _one_by_one(
        self, target: Target, here: Sequence[tuple[DueDelivery, Path]]
    ) -> None:
        # The end of one is noted together with the beginning of the next.
        notes: list[Deferred[None]] = []
        try:
            for due, path in here:
                if self._stopping or target.given_up:
                    break
                if self._allowed(target, self._tools.journal.now()) == 0:
                    break
                rows = await self._tools.journal.delivering([due.delivery])
                for row in rows:
                    mail = await self._tools.files(self._mail, due, path, row.attempt)
                    error = await self._attempt(target, mail)
                    if error is None:
                        self._took(target)
                        note = Deferred.fromCoroutine(self._done([(due, row)]))
                    else:
                        note = Deferred.fromCoroutine(
                            self._failed(target, due, row, error, path)
                        )
                    notes.append(note)
        finally:
            for note in notes:
                await note

    async def _attempt(self, target: Target, mail: Mail) -> BaseException | None:
        try:
            answer = target.destination.deliver(mail)
            if inspect.iscoroutine(answer):
                answer = Deferred.fromCoroutine(answer)
            if isinstance(answer, Deferred):
                await answer
        except GeneratorExit:
            raise
        except BaseException as error:
            # It may raise CancelledError itself, and even SystemExit.
            if self._cut and isinstance(error, CancelledError):
                raise
            return error
        return None

    async def _into_table(
        self, target: Target, here: Sequence[tuple[DueDelivery, Path]]
    ) -> None:
        # The effect and its note are one transaction, so that nothing has to be noted
        # before: those of several messages share a commit.
        while here and not self._stopping:
            read = await self._tools.files(self._read_some, here)
            here = here[len(read) :]
            await together(
                Deferred.fromCoroutine(self._note_in_table(target, due, mail, content))
                for due, _, mail, content in read
                if isinstance(content, bytes)
            )
            for due, path, _, error in read:
                if not isinstance(error, bytes):
                    await self._failed(target, due, due.delivery, error, path)

    def _read_some(
        self, here: Sequence[tuple[DueDelivery, Path]]
    ) -> list[tuple[DueDelivery, Path, Mail, bytes | Exception]]:
        """Read the first of some messages, or say why not; in a thread."""
        read: list[tuple[DueDelivery, Path, Mail, bytes | Exception]] = []
        octets = 0
        for due, path in here:
            mail = self._mail(due, path, 1)
            try:
                content = _whole(mail)
            except (Never, OSError) as error:
                read.append((due, path, mail, error))
                continue
            read.append((due, path, mail, content))
            octets += len(content)
            if octets >= INBOX_BYTES:
                break
        return read

    async def _note_in_table(
        self, target: Target, due: DueDelivery, mail: Mail, content: bytes
    ) -> None:
        envelope = {
            "uid": due.message.uid,
            "size": str(due.message.size),
            "from": mail.sender,
            "subject": mail.subject,
        }
        settled = await self._tools.journal.deliver_to_inbox(
            due,
            content,
            envelope,
            self._owner.delete_waits([due])[due.message.id],
        )
        self._took(target)
        await self._owner.settled(settled)

    async def _with_witness(
        self, target: Target, here: Sequence[tuple[DueDelivery, Path]]
    ) -> None:
        mails = [_mail(due, path, due.delivery.attempt + 1) for due, path in here]
        dues = {due.message.key: due for due, _ in here}
        try:
            prepared = await target.threads(target.destination.prepare, mails)
        except (Later, OSError) as error:
            self.in_trouble(target, error, list(dues.values()))
            return
        try:
            await self._owner.note_place(target)
            rows = await self._tools.journal.delivering(
                [
                    attrs.evolve(dues[mail.key].delivery, witness=witness)
                    for mail, witness in zip(
                        prepared.mails, prepared.witnesses, strict=True
                    )
                ]
            )
            by_id = {due.message.id: due for due in dues.values()}
            await self.carry_out(
                target, prepared, [(by_id[row.message_id], row) for row in rows]
            )
            for mail, refusal in prepared.refused:
                await self._refused(target, dues[mail.key], mail, refusal)
        finally:
            await target.threads(prepared.close)

    async def carry_out(
        self,
        target: Target,
        prepared: Prepared,
        noted: Sequence[tuple[DueDelivery, DeliveryRow]],
    ) -> None:
        """
        Deliver messages whose attempt was noted, and note the outcome.

        :param noted: those of ``prepared`` that may be delivered, with their rows.
        """
        rows = {due.message.key: (due, row) for due, row in noted}
        errors = await target.threads(prepared.carry_out, set(rows))
        done: list[tuple[DueDelivery, DeliveryRow]] = []
        failed: list[tuple[DueDelivery, DeliveryRow, Exception, Path]] = []
        doubted: list[DueDelivery] = []
        for mail, error in zip(prepared.mails, errors, strict=True):
            if mail.key not in rows:
                continue
            due, row = rows[mail.key]
            proof = None if error is None else await self._asked(target, row, mail)
            if error is None or proof is Proof.DONE:
                done.append((due, row))
            elif proof is None:
                # Before it is known what became of it, it must not be tried again.
                doubted.append(due)
                trouble = error
            else:
                failed.append((due, row, error, mail.path))
        if doubted:
            self.doubt([due.message.id for due in doubted])
            self.in_trouble(target, trouble, doubted)
        if done:
            self._took(target)
            await self._done(done)
        for due, row, error, path in failed:
            await self._failed(target, due, row, error, path)

    async def _asked(
        self, target: Target, row: DeliveryRow, mail: Mail
    ) -> Proof | None:
        """Return what became of a message after an error; ``None``: not known yet."""
        try:
            proof: Proof = await target.threads(
                target.destination.prove, row.witness, mail, age=0.0
            )
        except (Later, OSError):
            return None
        return proof

    # -- outcomes

    def _took(self, target: Target) -> None:
        if target.health.troubles:
            log.info("{name}: takes mail again", name=self.name)
        target.health = target.health.after_success(self._tools.journal.now())
        target.refused = 0

    async def _done(self, noted: Sequence[tuple[DueDelivery, DeliveryRow]]) -> None:
        settled = await self._tools.journal.delivered(
            [row for _, row in noted],
            self._owner.delete_waits(due for due, _ in noted),
        )
        await self._owner.settled(settled)

    def in_trouble(
        self, target: Target, error: BaseException, dues: Sequence[DueDelivery]
    ) -> None:
        """Let the whole destination wait."""
        wait = error.seconds if isinstance(error, Later) else None
        if not target.health.troubles:
            self._owner.complain(self.name, _words(error))
        target.health = target.health.after_failure(
            self._tools.journal.now(), self._tools.random(), wait
        )
        target.given_up = self._tried is not None
        self._hold_up(target)
        self._owner.stuck(dues)

    async def _failed(
        self,
        target: Target,
        due: DueDelivery,
        row: DeliveryRow,
        error: BaseException,
        path: Path,
    ) -> None:
        """Note that an attempt failed, and decide what becomes of the message."""
        if isinstance(error, Never):
            await self._set_aside(due, row, _words(error), path)
            return
        later = error if isinstance(error, Later) else None
        counts = later is None or later.counts
        if later is not None and later.whole_destination:
            counts = False
        now = self._tools.journal.now()
        after = after_refused_delivery(
            row,
            target.health,
            now=now,
            random=self._tools.random(),
            counts=counts,
            retry_after=None if later is None else later.seconds,
        )
        target.refused += 1
        if later is not None and later.whole_destination:
            self.in_trouble(target, error, [due])
        else:
            log.error(
                "{account}: {name} did not take message {key}: {error}",
                account=due.account,
                name=self.name,
                key=due.message.key,
                error=_words(error),
            )
            target.health = target.health.after_failure(
                now, self._tools.random(), refused=True
            )
            self._hold_up(target)
            if self._tried is not None and target.refused >= HOPELESS:
                target.given_up = True
            self._owner.stuck([due])
        if after.set_aside:
            await self._set_aside(due, row, _words(error), path)
            return
        await self._tools.journal.delivery_failed(
            [row],
            _words(error),
            wait=max(after.next_try - now, 0.0),
            counts=after.refusals > row.refusals,
        )

    async def _refused(
        self, target: Target, due: DueDelivery, mail: Mail, error: Exception
    ) -> None:
        """Note that a message could not be prepared, as an attempt that failed."""
        try:
            (path,) = await target.threads(self._find, target, [due])
        except (Later, OSError):
            path = mail.path
        if path is None:
            # Its file went meanwhile.
            await self._lost(due)
            return
        for row in await self._tools.journal.delivering([due.delivery]):
            await self._failed(target, due, row, error, mail.path)

    async def _set_aside(
        self, due: DueDelivery, row: DeliveryRow, reason: str, path: Path
    ) -> None:
        log.error(
            "{account}: message {key} is set aside, {name} refuses it: {reason}",
            account=due.account,
            name=self.name,
            key=due.message.key,
            reason=reason,
        )
        try:
            copy = await self._tools.files(
                self._tools.spool.set_aside, path, due.message.key
            )
        except OSError as error:
            # Without a copy it must not be given up.
            self._tools.trouble(error)
            self._owner.stuck([due])
            await self._tools.journal.delivery_failed(
                [row], reason, wait=60.0, counts=False
            )
            return
        settled = await self._tools.journal.delivery_set_aside(
            [row], reason, copies={due.message.id: copy.name}
        )
        await self._owner.settled(settled)

    # -- after a crash

    async def _recover(self) -> None:
        """Begin to find out what became of the deliveries that were interrupted."""
        # Before the question: what is doubted meanwhile may not be in the answer.
        doubted, self._doubted = self._doubted, set()
        accounts, self._doubted_accounts = self._doubted_accounts, set()
        try:
            dues = await self._tools.journal.interrupted(self.name)
        except BaseException:
            self._doubted = None if doubted is None else self._doubted | doubted
            self._doubted_accounts |= accounts
            raise
        now = self._tools.journal.now()
        groups: dict[int, tuple[Target, list[DueDelivery]]] = {}
        for due in dues:
            number = due.message.id
            if not (
                doubted is None
                or number in doubted
                or due.message.account_id in accounts
            ):
                continue
            if number in self._underway or self._owner.is_underway(number):
                self._doubted.add(number)
                continue
            target = self._target_of(due)
            if (
                target is None
                or target.busy
                or target.given_up
                or self._allowed(target, now) == 0
            ):
                self._doubted.add(number)
            else:
                groups.setdefault(id(target), (target, []))[1].append(due)
        for target, group in groups.values():
            self._begin(target, group, self._prove)

    async def _prove(self, target: Target, dues: Sequence[DueDelivery]) -> None:
        """Find out what became of interrupted deliveries, and note it."""
        again: list[DeliveryRow] = []
        done: list[tuple[DueDelivery, DeliveryRow]] = []
        now = self._tools.journal.now()
        for due in dues:
            try:
                proof = await self._proof(target, due, now)
            except (Later, OSError) as error:
                self.in_trouble(target, error, [due])
                self.doubt([each.message.id for each in dues])
                break
            if proof is Proof.DONE:
                done.append((due, due.delivery))
            else:
                again.append(due.delivery)
        if done:
            await self._done(done)
        if again:
            await self._tools.journal.delivery_failed(
                again, "interrupted", wait=0.0, counts=False
            )

    async def _proof(self, target: Target, due: DueDelivery, now: float) -> Proof:
        row = due.delivery
        if not target.witnessed or row.witness is None:
            return Proof.UNKNOWN
        (path,) = await target.threads(self._find, target, [due])
        mail = None if path is None else _mail(due, path, row.attempt)
        age = math.inf
        if row.delivering_since is not None and self._tools.trusted():
            age = now - row.delivering_since
            # Set right by seconds, or set back: then the age is not known.
            age = max(age, 0.0) if age > -CLOCK_SLACK else math.inf
        proof: Proof = await target.threads(
            target.destination.prove, row.witness, mail, age=age
        )
        return proof


def _mail(due: DueDelivery, path: Path, attempt: int) -> Mail:
    message = due.message
    return Mail(
        key=message.key,
        account=due.account,
        uid=message.uid,
        size=message.size,
        path=path,
        attempt=attempt,
    )


def _whole(mail: Mail) -> bytes:
    """
    Return a message for the table ``inbox``; in a thread.

    :raises Never: it is too large for one value of a database.
    """
    with mail.open() as file:
        size = os.fstat(file.fileno()).st_size
        if size > INBOX_LIMIT:
            raise Never(f"it has {size} bytes; the table takes up to {INBOX_LIMIT}")
        return file.read()


def _words(error: BaseException) -> str:
    """Return the text of an error, in one line."""
    return escape(str(error))[:500] or type(error).__name__
