"""
One run of ``fetch``: the collector with one account, which looks once.

The journal is in a folder of its own for each account and target.  It is locked, so
that two runs cannot fetch a message twice.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import socket
from collections.abc import Collection, Coroutine
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.logger import LogEvent, formatEvent
from twisted.python.failure import Failure

from ..address import POP3_PORT, POP3S_PORT
from ..collect.inventory import Inventory, ListingRefusedError
from ..collect.lock import InUseError
from ..collect.outcome import HeldError, Outcome
from ..collect.records import MessageState
from ..collect.service import CollectService
from ..collect.settings import AccountSettings, Config
from ..destinations.base import Later
from ..destinations.command import Command
from ..destinations.maildir import Maildir
from ..destinations.mbox import Mbox
from ..errors import CommandError, POP3Error, UsageError
from ..garbage import few_searches
from ..handle import Handle
from ..programs import RunError, find_program, safe_environment
from ..redaction import Secret
from .access import Access
from .exits import Exit, exit_status, words
from .fetch import Job
from .named import NamedAccount
from .numbers import choose
from .opening import log_in
from .output import counted, tell
from .progress import Show, progress_bar
from .running import worded

__all__ = ["fetch"]

_MOMENT = 10.0
"""Seconds to wait for another run for the same account and target."""

_PAUSE = 0.2
"""Seconds between two attempts meanwhile."""

_WEEK = 7 * 24 * 3600
"""The longest time limit of a look."""

_DATABASE = "collect.db"

_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._@+-]")
"""Characters that the name of an account cannot have."""

_RULES = {
    "match": "that no --match fits",
    "skip": "that a --skip fits",
    "newer_than": "from before --new-since",
}
"""How messages are described that a rule leaves on the server."""

_T = TypeVar("_T")


async def fetch(job: Job, password: Secret | NamedAccount, reactor: Any) -> int:
    """
    Fetch the messages, say what was done, and return the exit status.

    :raises UsageError: an option cannot be used.
    :raises POP3Error: the run failed; the user was told what is safe.
    :raises OSError: likewise.
    """
    state = _state(job)
    # A Maildir is made before the journal, so one that is missing now is not mounted.
    known = (state / _DATABASE).exists()
    destination = _destination(job, state, reactor, known=known)
    await _check(destination, reactor, state if known else None)
    name = _name(job.access)
    service = CollectService(
        Config(state=state, accounts=[_settings(job, name)]),
        reactor=reactor,
        destinations={job.kind: destination},
        connector=lambda _: _Sessions(job.access, password, reactor),
        died=_ignore,
        # Not the host's name, which may change: then waiting mail would be another's.
        machine="fetch",
    )
    total = Outcome(name)
    output = job.access.output
    # Other lines on the terminal would disturb the bar.
    no_bar = output.json or output.quiet or output.verbose
    showing = nullcontext() if no_bar else progress_bar()
    with few_searches(), worded(_Wording()), showing as show:
        try:
            running = _run(service, job, _Report(total, show), reactor)
            outcomes = await _to_its_end(running)
        except BaseException:
            # Also Ctrl-C.
            _tell_what_is_safe(total)
            raise
    return _conclude(job, state, outcomes[name])


def _ignore(error: BaseException) -> None:
    """Do nothing: the run itself fails with this error, too."""


# -- where things are


def _account(access: Access) -> str:
    """Return what the account is; the usual ports lead to the same mailbox."""
    address = access.address
    usual = address.port in (POP3_PORT, POP3S_PORT)
    return f"{access.mailbox}@{address.host if usual else address}"


def _name(access: Access) -> str:
    """Return the name of the account in the journal."""
    account = _account(access)
    name = _NOT_IN_A_NAME.sub("-", account).lstrip("._@+-")[:80]
    return account if name == account else f"{name or 'account'}-{_digest(account)[:8]}"


def _state(job: Job) -> Path:
    """Return the folder of the journal."""
    account, target = _account(job.access), job.target
    if job.kind == "command":
        return target / f"pop3connect-{_digest(account)}"
    # Not too long for the name of a file.
    name = target.name[:100]
    if job.state is not None:
        return job.state / f"{name}.pop3connect-{_digest(account, str(target))}"
    return target.parent / f".{name}.pop3connect-{_digest(account, target.name)}"


def _digest(*texts: str) -> str:
    whole = "\n".join(texts).encode("utf-8", "surrogateescape")
    return hashlib.sha256(whole).hexdigest()[:16]


def _destination(job: Job, state: Path, reactor: Any, *, known: bool) -> Any:
    if job.kind == "maildir":
        return Maildir(
            job.target,
            socket.gethostname(),
            journal=str(state),
            crlf=job.crlf,
            known=known,
        )
    if job.kind == "mbox":
        return Mbox(job.target, known=known)
    folder, environment = Path.cwd(), safe_environment(())
    try:
        find_program(job.command[0], folder, environment)
    except RunError as error:
        raise UsageError(f"--format command: {error}") from error
    return Command(job.command, folder=folder, environment=environment, reactor=reactor)


async def _check(destination: Any, reactor: Any, state: Path | None) -> None:
    """
    Find out before the login whether a Maildir or an mbox can be used.

    :param state: the folder of the journal, if there was an earlier run.
    """
    if not hasattr(destination, "prepare"):
        return

    def prepare() -> None:
        destination.prepare([]).close()

    trying = deferToThreadPool(reactor, reactor.getThreadPool(), prepare)
    try:
        await trying
    except Later as error:
        hint = ""
        if state is not None and not _is_there(destination):
            hint = f"; to fetch all mail again, remove {state} first"
        raise POP3Error(f"{error}{hint}") from error
    except CancelledError:
        # It waits for a lock.
        destination.stop()
        raise


def _is_there(destination: Any) -> bool:
    """Return whether the Maildir or the mbox is there."""
    path: Path = getattr(destination, "folder", None) or destination.path
    return path.exists()


def _settings(job: Job, name: str) -> AccountSettings:
    access = job.access
    return AccountSettings(
        name=name,
        server=access.server,
        user=access.user or "",
        authorize_as=access.authorize_as,
        # `_Sessions` has it, with all that concerns the connection.
        password=lambda: "",
        secure=access.secure,
        to=(job.kind,),
        after=job.after,
        match=job.match,
        skip=job.skip,
        newer_than=job.newer_than,
        max_size=job.max_size,
        max_messages=job.max_messages,
        look_limit=_WEEK,
    )


# -- the run


class _Sessions:
    """Opens sessions as the other commands do."""

    def __init__(
        self, access: Access, password: Secret | NamedAccount, reactor: Any
    ) -> None:
        self._access = access
        self._password = password
        self._reactor = reactor

    def connect(
        self, username: str, password: object, *, authorize_as: object
    ) -> Deferred[Handle]:
        """Open a session and log in."""
        return Deferred.fromCoroutine(
            log_in(self._access, self._password, self._reactor)
        )


class _Chosen:
    """
    Chooses messages by their numbers in the first session of a run.

    A later session may number them otherwise.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._marks: set[object] | None = None

    def __call__(self, inventory: Inventory) -> Collection[int]:
        """Return the numbers of the chosen messages in a session."""
        marks = {
            number: inventory.uids.get(number) or (number, size)
            for number, size in inventory.sizes.items()
        }
        if self._marks is None:
            chosen = choose(self._job.numbers, inventory.sizes)
            self._marks = {marks[number] for number in chosen}
        return [number for number, mark in marks.items() if mark in self._marks]


class _Report:
    """
    Adds up what the looks of a run have done, and shows the progress over all of them.
    """

    def __init__(self, total: Outcome, show: Show | None) -> None:
        self._total = total
        self._show = show
        # The bytes of this look, and of those before it.
        self._received = self._before = 0

    def progress(self, name: str, received: int, expected: int) -> None:
        """Show how far a look is."""
        self._received = received
        if self._show is not None:
            self._show(self._before + received, self._before + expected)

    def ended(self, outcome: Outcome) -> None:
        """Add what a look has done."""
        self._before += self._received
        self._received = 0
        self._total.add(outcome)


async def _run(
    service: CollectService, job: Job, report: _Report, reactor: Any
) -> dict[str, Outcome]:
    """Run once; wait a moment for another run."""
    patience = reactor.seconds() + _MOMENT
    while True:
        try:
            return await service.run_once(
                progress=report.progress,
                choose=_Chosen(job) if job.numbers else None,
                report=report.ended,
                force=True,
            )
        except InUseError:
            if reactor.seconds() >= patience:
                raise
        await deferLater(reactor, _PAUSE)


async def _to_its_end(work: Coroutine[Any, Any, _T]) -> _T:
    """
    Wait for work until it has really ended, also if that is cancelled.

    What has arrived is brought to the disk then, and files and locks are released.
    """
    running = Deferred.fromCoroutine(work)
    results: list[_T | Failure] = []
    waiting: list[Deferred[None]] = []

    def ended(result: _T | Failure) -> None:
        results.append(result)
        for one in waiting:
            one.callback(None)

    running.addBoth(ended)
    interrupted = False
    while not results:
        waiting[:] = [Deferred()]
        try:
            await waiting[0]
        except CancelledError:
            waiting.clear()
            if not interrupted:
                interrupted = True
                running.cancel()
    if interrupted:
        raise CancelledError
    result = results[0]
    if isinstance(result, Failure):
        result.raiseException()
    return result


# -- what the user is told


class _Wording:
    """Words the warnings of a run, each once."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def __call__(self, event: LogEvent) -> str:
        """Return the text of a warning; ``""``: it was told, or will be."""
        if "problem" in event or str(event.get("topic", "")).startswith("skip "):
            # The outcome has it.
            return ""
        form = str(event.get("log_format") or "")
        # There is only one account.
        short = {**event, "log_format": form.removeprefix("{account}: ")}
        text = formatEvent(short) or ""
        if text in self._told:
            return ""
        self._told.add(text)
        return text


def _tell_what_is_safe(outcome: Outcome) -> None:
    """Tell what a run has achieved that did not end well."""
    for error in outcome.failed.values():
        if error is not outcome.error:
            tell(words(error))
    if outcome.new:
        verb = "is" if outcome.new == 1 else "are"
        tell(
            f"{counted(outcome.new, 'message')} {verb} on disk; the same command again "
            "continues with the rest"
        )
    if outcome.unconfirmed:
        tell("NOT deleted, or not for certain: QUIT was not confirmed")


def _conclude(job: Job, state: Path, outcome: Outcome) -> int:
    """
    Tell what a run has done, and return the exit status.

    :raises Exception: what ended it.
    """
    error, unanswered = outcome.error, outcome.quit
    if not outcome.looked:
        assert error is not None
        raise _failed(state, outcome, error)
    if unanswered is not None:
        if outcome.unconfirmed or isinstance(unanswered, CommandError):
            raise _failed(state, outcome, unanswered)
        job.access.output.note(
            f"{words(unanswered)}; nothing was to be deleted, and all mail is on disk"
        )
    for one in outcome.failed.values():
        tell(words(one))
    status = _tell_the_rest(job, state, outcome)
    fetched = max(outcome.new - outcome.waiting - outcome.aside, 0)
    there = outcome.before or 0
    job.access.output.summary(
        f"fetched: {fetched}, there already: {there}, deleted: {outcome.deleted}",
        {
            "fetched": fetched,
            "there_already": there,
            "deleted": outcome.deleted,
            "left_by_rules": sum(outcome.passed_over.values()),
            "left": outcome.left,
            "waiting": outcome.waiting,
            "set_aside": outcome.aside,
            "failed": [
                {"number": error.number, "error": words(error)}
                for error in outcome.failed.values()
            ],
        },
    )
    return status


def _failed(state: Path, outcome: Outcome, error: BaseException) -> BaseException:
    """Tell what is safe, and return the error of a run, for the exit status."""
    _tell_what_is_safe(outcome)
    if isinstance(error, HeldError):
        tell(_administer(state))
    if isinstance(error, ListingRefusedError):
        tell(words(error))
        return error.refusal
    if isinstance(error, Later):
        return POP3Error(str(error))
    return error


def _administer(state: Path) -> str:
    """Say how the commands for administrators find the journal."""
    return (
        "'pop3connect accounts' and 'pop3connect messages' take "
        f"--database {shlex.quote(os.fspath(state / _DATABASE))}"
    )


def _tell_the_rest(job: Job, state: Path, outcome: Outcome) -> int:
    """Tell what was not fetched, and why; return the exit status."""
    note = job.access.output.note
    for reason, count in outcome.passed_over.items():
        note(f"{counted(count, 'message')} {_rule(job, reason)}: left on the server")
    status: int = Exit.DONE
    enough = job.max_messages is not None and outcome.new >= job.max_messages
    if outcome.left and enough:
        note(f"{counted(outcome.left, 'message')} left for the next run")
    elif outcome.left:
        tell(
            f"{counted(outcome.left, 'message')} not fetched; the same command again "
            "continues"
        )
        status = Exit.LOCAL_FILES
        if isinstance(outcome.error, (POP3Error, OSError)):
            status = exit_status(outcome.error)
    for mark, (number, row) in outcome.bad_before.items():
        if mark not in outcome.failed:
            aside = row.state is MessageState.SET_ASIDE
            then = "given up" if aside else "a later run tries it again"
            tell(f"message {number}: {row.reason}; {then}")
    if outcome.aside:
        tell(
            f"{counted(outcome.aside, 'message')} given up, with a copy in "
            f"{state / 'aside'}; {_administer(state)}"
        )
    if outcome.bad or outcome.aside or outcome.undeleted:
        return Exit.REFUSED
    if outcome.waiting:
        tell(
            f"{counted(outcome.waiting, 'message')} in {state}, not delivered yet; the "
            "same command again delivers"
        )
        return Exit.TRY_LATER if job.kind == "command" else Exit.LOCAL_FILES
    return status


def _rule(job: Job, reason: str) -> str:
    """Describe the messages that a rule leaves, by its reason in the journal."""
    rule = reason.partition(" = ")[0]
    if rule == "max_size":
        return f"of more than {counted(job.max_size or 0, 'octet')}"
    return _RULES.get(rule, f"({reason})")
