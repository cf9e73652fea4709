"""Collecting the mail of many accounts into Maildirs: whole programs, in turn."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

from benchmarks import dovecot
from benchmarks.collectors import (
    COLLECTORS,
    FETCH,
    HABITS,
    OURS,
    PEERS,
    Account,
    Collector,
    Job,
)
from benchmarks.contest import Bench, have_ours
from benchmarks.helpers import Helper
from benchmarks.loads import VARIANTS, message
from benchmarks.report import Table, number, say, times
from benchmarks.runner import Command, Run
from benchmarks.runner import run as run_command
from benchmarks.sections.delay import ONE_WAY

SIZE = 8192  # octets of a message
KNOWN = 5  # messages that lie in a mailbox with nothing new
AT_ONCE = 100  # sessions over the long line
SYNCS = ("fsync", "fdatasync", "syncfs", "sync")
STRACE = [
    "strace",
    "-f",
    "--seccomp-bpf",
    "-qq",
    "-c",
    "-e",
    "trace=fsync,fdatasync,syncfs,sync",
]
HEADER = (
    "Client",
    "wall s",
    "accounts/s",
    "CPU ms/account",
    "start s",
    "accounts/s later",
    "messages/s",
    "CPU ms/message",
    "fsyncs",
    "fsyncs/message",
    "peak MB",
    "time by ours",
)


@dataclass(frozen=True)
class Case:
    """What is collected; *new* is the number of messages for each account."""

    key: str
    title: str
    accounts: int
    new: int = 0
    far: bool = False  # over a long line
    notes: list[str] = field(default_factory=list)

    @property
    def messages(self) -> int:
        """All that is new."""
        return self.accounts * self.new


def cases(quick: bool) -> list[Case]:
    """The four of them, in their sizes for this run."""
    idle, boxes, each, large = (20, 4, 25, 250) if quick else (200, 20, 200, 5000)
    start = (
        "start is the wall time with one of the accounts; accounts/s later is the "
        "number of the others by the time beyond that, as in a service that stays."
    )
    return [
        Case("a", f"{idle} accounts with nothing new", idle, notes=[start]),
        Case("b", f"{boxes} accounts with {each} new messages of 8 KB", boxes, each),
        Case("c", f"One account with {large:,} new messages of 8 KB", 1, large),
        Case(
            "d",
            f"{idle} accounts with nothing new, 50 ms of added round trip",
            idle,
            far=True,
            notes=[
                f"{OURS} with sessions_per_server = {AT_ONCE}; the others have one "
                "session at a time.",
                start,
            ],
        ),
    ]


def run(bench: Bench, plan: Sequence[Case] = ()) -> None:
    """The same Dovecot and the same disk for all, each with a folder of its own."""
    reason = dovecot.why_unavailable()
    if reason is not None:
        say(f"collect: {reason}")
        return
    contestants, untraced = takers(bench), why_no_strace()
    if untraced is not None:
        say(f"collect: fsyncs are not counted: {untraced}")
    wanted = plan or cases(bench.quick)
    bench.pace.expect(len(wanted))
    common_notes = common(disk() or gettempdir(), contestants)
    with (
        dovecot.Dovecot("mdbox", mechanisms=("plain",)) as server,
        TemporaryDirectory(prefix="pop3bench-", dir=disk()) as folder,
    ):
        place = Path(folder)
        place.chmod(0o755)  # getmail runs as another user when we are root
        known: list[Account] = []
        for case in wanted:
            if case.new:
                accounts = fill(server, case.accounts, case.new)
            else:
                accounts = known = known or fill(server, case.accounts, KNOWN)
            races = [
                Race(bench, case, each, accounts, place / f"{case.key}-{number}")
                for number, each in enumerate(contestants)
                if case.accounts == 1 or not each.single
            ]
            table = Table(f"({case.key}) {case.title}", HEADER, notes=list(case.notes))
            if untraced is not None:
                table.notes.append(f"fsyncs were not counted: {untraced}")
            if case is wanted[0]:
                table.notes += common_notes
            bench.tables.append(table)
            try:
                hold(bench, case, races, server.port, traced=untraced is None)
            finally:
                rows(bench, case, [each.collector for each in races], table)


def hold(
    bench: Bench, case: Case, races: Sequence["Race"], port: int, traced: bool
) -> None:
    """Make everything known that is to be known; then all rounds, in turn."""
    with ExitStack() as stack:
        if case.far:
            # Each remembers messages by the server's port, so it stays the same.
            with Helper("delay", target=port, seconds=0.0) as line:
                near = line.hello["plain"]
                for race in races:
                    race.prepare(near)
            line = Helper("delay", target=port, seconds=ONE_WAY, port=near)
            stack.enter_context(line)
        else:
            for race in races:
                race.prepare(port)
        for turn in bench.pace.rounds(case.title):
            for race in races:
                race.once(turn)
        for race in races:
            if traced:
                race.trace()


class Race:
    """One collector in one case."""

    def __init__(
        self,
        bench: Bench,
        case: Case,
        collector: Collector,
        accounts: Sequence[Account],
        folder: Path,
    ) -> None:
        """Not prepared yet."""
        self.results = bench.results
        self.case, self.collector = case, collector
        self.accounts, self.folder = accounts, folder
        self.failed = False

    def prepare(self, port: int) -> None:
        """Where nothing is to be new: fetch what there is, which does not count."""
        at_once = AT_ONCE if self.case.far else None
        self.job = Job(port, self.accounts, self.folder / "all", at_once)
        self.alone = Job(port, self.accounts[:1], self.folder / "one", at_once)
        if self.case.new:
            return
        for job in (self.alone, self.job):
            self.attempt(job, self.afresh(job), KNOWN)

    def afresh(self, job: Job) -> Command:
        """No state and no mail, as before the first run."""
        job.make()
        self.folder.chmod(0o755)
        return self.collector.prepare(job)

    def attempt(self, job: Job, command: Command, each: int) -> Run:
        """One run; every account must have *each* messages then."""
        os.sync()  # nobody waits for what somebody else has written
        result = run_command(command, answers=False, peak=True)
        found, wanted = job.delivered(), each * len(job.accounts)
        if result.error is None and found != wanted:
            result.error = f"{found} messages delivered, not {wanted}"
        if result.error is not None:
            self.failed = True
            title = f"collect, {self.case.title}, {self.collector.name}"
            self.results.errors.append(f"{title}: {result.error}")
        return result

    def once(self, turn: int) -> None:
        """A round, unless it would take minutes again."""
        peer = self.collector.name not in (OURS, FETCH)
        once = self.collector.slow if self.case.new else self.case.far and peer
        if self.failed or (once and turn):
            return
        key = ("collect", self.case.key, self.collector.name)
        if self.case.new:
            result = self.attempt(self.job, self.afresh(self.job), self.case.new)
        else:
            command = self.collector.prepare(self.alone)
            start = self.attempt(self.alone, command, KNOWN).process_wall
            result = self.attempt(self.job, self.collector.prepare(self.job), KNOWN)
        if self.failed:
            return
        if not self.case.new:
            others = self.case.accounts - 1
            later = (result.process_wall - start) / others
            self.results.add(*key, start=start, later=later)
        self.results.add(
            *key,
            wall=result.process_wall,
            cpu=result.process_cpu,
            peak=result.peak,
        )

    def trace(self) -> None:
        """A run of its own, for its timing is disturbed: count the fsyncs."""
        if self.failed:
            return
        if self.case.far:
            return  # they are those of the short line
        command = self.afresh(self.job) if self.case.new else None
        command = command or self.collector.prepare(self.job)
        counts = self.job.folder / "strace"
        command.argv = [*STRACE, "-o", str(counts), *command.argv]
        result = self.attempt(self.job, command, self.case.new or KNOWN)
        if result.error is None:
            key = ("collect", self.case.key, self.collector.name)
            fsyncs, messages = calls(counts.read_text()), self.case.messages
            self.results.add(*key, fsyncs=fsyncs, messages=messages)


def calls(text: str) -> int:
    """The number of system calls in a summary of strace."""
    rows = [line.split() for line in text.splitlines()]
    return sum(int(r[3]) for r in rows if len(r) > 4 and r[-1] in SYNCS)


def why_no_strace() -> str | None:
    """Say why system calls cannot be counted here, or None if they can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    tried = subprocess.run(
        [*STRACE, "-o", os.devnull, "true"], capture_output=True, check=False, text=True
    )
    return (tried.stderr.strip() or "strace fails") if tried.returncode else None


def rows(
    bench: Bench, case: Case, collectors: Sequence[Collector], table: Table
) -> None:
    """The medians, one row a collector."""
    results = bench.results
    ours = ("collect", case.key, OURS, "wall")
    for collector in collectors:
        key = ("collect", case.key, collector.name)
        wall, cpu = results.get(*key, "wall"), results.get(*key, "cpu")
        if wall is None or cpu is None:
            continue
        later, fsyncs = results.get(*key, "later"), results.get(*key, "fsyncs")
        peak = results.get(*key, "peak")
        many = case.accounts > 1
        table.add(
            collector.name,
            number(wall, 2),
            number(case.accounts / wall, 1) if not case.new else None,
            number(cpu / case.accounts * 1e3, 1) if many else None,
            number(results.get(*key, "start"), 2),
            number(1 / later, 1) if later and later > 0 else None,
            number(case.messages / wall) if case.new else None,
            number(cpu / case.messages * 1e3, 2) if case.new else None,
            number(fsyncs),
            number(fsyncs / case.messages, 2) if fsyncs and case.new else None,
            number(peak / 1e6) if peak else None,
            times(results.ratio((*key, "wall"), ours)),
        )


def common(folder: str, collectors: Sequence[Collector]) -> list[str]:
    """What holds for all four tables."""
    found = subprocess.run(
        ["df", "--output=fstype", folder], capture_output=True, text=True, check=False
    )
    kind = found.stdout.split()[-1] if found.returncode == 0 else "unknown"
    return [
        "Whole programs, from start to end, plain POP3 over the loopback; Dovecot with "
        "mdbox and auth_mechanisms = plain, its default. Each has its own Maildirs and "
        f"state in {folder} (file system: {kind}), and nothing is deleted from the "
        "server. CPU is that of the program and its "
        "children, its start included; peak MB is VmHWM of the program alone. fsyncs "
        "(with fdatasync, syncfs and sync) are counted by strace in a run of their own."
        " Those that take minutes run once.",
        *(HABITS[each.name] for each in collectors),
    ]


def takers(bench: Bench) -> list[Collector]:
    """Those that were asked for and are here."""
    taking = []
    for each in COLLECTORS.values():
        if bench.clients and not any(c in each.name for c in bench.clients):
            continue
        missing = each.missing()
        if missing is not None:
            say(f"collect: {each.name} is left out: no {missing}; see {PEERS}")
        elif each.name not in (OURS, FETCH) or have_ours():
            taking.append(each)
    return taking


def disk() -> str | None:
    """A folder that is on a disk where /tmp may be in memory."""
    return "/var/tmp" if os.access("/var/tmp", os.W_OK) else None


def fill(server: dovecot.Dovecot, accounts: int, count: int) -> list[Account]:
    """Mailboxes with *count* messages each; no two have the same Message-ID."""
    texts = [message("prose", SIZE, n + 1) for n in range(VARIANTS)]
    made = []
    for box in range(accounts):
        contents = (
            texts[n % VARIANTS].replace(b"20250114102201", b"%014d" % (box * 10**6 + n))
            for n in range(count)
        )
        mailbox = server.add_box(contents)
        made.append(Account(mailbox.user, mailbox.password))
    return made
