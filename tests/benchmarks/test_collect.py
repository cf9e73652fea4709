"""
The benchmark of collectors in a small form: ours against a Dovecot, and how its peers
are set up.

The full one is ``python -m benchmarks collect``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.collectors import (
    COLLECTORS,
    FETCH,
    FETCHMAIL,
    GETMAIL,
    MPOP,
    OURS,
    PEERS,
    Account,
    Collector,
    Job,
)
from benchmarks.contest import Bench
from benchmarks.helpers import Identity
from benchmarks.pace import Pace
from benchmarks.runner import Command
from benchmarks.runner import run as run_command
from benchmarks.sections.collect import (
    HEADER,
    Case,
    Race,
    calls,
    run,
    takers,
    why_no_strace,
)
from benchmarks.targets import table as targets
from tests.support import dovecot

ACCOUNTS = (Account("ada", "secret1"), Account("bob", "secret2"))


def pace() -> Pace:
    """One round of everything."""
    return Pace("collect", 60.0, 1)


# As strace 6.1 writes it.
SUMMARY = """\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ------------------
 75.00    0.003000          30       100         1 fsync
 25.00    0.001000          50        20           fdatasync
------ ----------- ----------- --------- --------- ------------------
100.00    0.004000          33       120         1 total
"""


class SectionTests(SynchronousTestCase):
    """Real processes."""

    skip = dovecot.skip_reason()
    timeout = 180

    def setUp(self) -> None:
        self.said: list[str] = []

    def bench(self, *clients: str) -> Bench:
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        if hasattr(os, "sched_setaffinity"):
            # The section puts this process on one core.
            cores = os.sched_getaffinity(0)
            self.addCleanup(os.sched_setaffinity, 0, cores)
        for module in ("pace", "sections.collect"):
            self.patch(sys.modules[f"benchmarks.{module}"], "say", self.said.append)
        return Bench(Identity(folder), folder, pace(), quick=True, clients=clients)

    def test_ours_has_every_figure(self) -> None:
        bench = self.bench("ours")
        plan = [Case("a", "nothing new", 2), Case("c", "new mail", 1, 3)]
        run(bench, plan)
        idle, fresh = bench.tables
        self.assertEqual(bench.results.errors, [])
        self.assertEqual([row[0] for row in idle.rows], [OURS])
        self.assertEqual([row[0] for row in fresh.rows], [OURS, FETCH])
        # With two accounts, "accounts/s later" is a difference of two starts.
        always = {"wall s", "peak MB", "time by ours"}
        if why_no_strace() is None:
            always.add("fsyncs")
        for table, more in (
            (idle, {"accounts/s", "CPU ms/account", "start s"}),
            (fresh, {"messages/s", "CPU ms/message"}),
        ):
            for row in table.rows:
                filled = {name for name, cell in zip(HEADER, row, strict=True) if cell}
                self.assertLessEqual(always | more, filled, row)
        goals = {row[0] for row in targets(bench.results).rows}
        if why_no_strace() is None:
            self.assertIn("collect (c): fsyncs of ours per message", goals)


class RaceTests(SynchronousTestCase):
    """A program that ends well and does nothing."""

    def test_collector_that_delivers_too_little_has_failed(self) -> None:
        folder = Path(self.mktemp()).absolute()
        bench = Bench(None, folder, pace())  # type: ignore[arg-type]
        lazy = Collector("lazy", lambda job: Command(["true"]))
        for case, each in ((Case("a", "known", 2), 5), (Case("c", "new", 2, 3), 3)):
            race = Race(bench, case, lazy, ACCOUNTS, folder / case.key)
            race.prepare(1100)
            race.once(0)
            self.assertTrue(race.failed)
            self.assertEqual(
                bench.results.errors[-1],
                f"collect, {case.title}, lazy: 0 messages delivered, not {2 * each}",
            )
        self.assertEqual(bench.results.get("collect", "c", "lazy", "wall"), None)


class PeersTests(SynchronousTestCase):
    """Programs of the peers' names that only exist."""

    def setUp(self) -> None:
        self.root = Path(self.mktemp()).absolute()
        programs = self.root / "usr/bin"
        programs.mkdir(parents=True)
        for each in COLLECTORS.values():
            for name in each.programs:
                (programs / name).write_text("#!/bin/sh\nexit 1\n")
                (programs / name).chmod(0o755)
        self.patch(os, "environ", {**os.environ, PEERS: str(self.root)})
        self.patch(sys.modules["benchmarks.sections.collect"], "say", list)

    def job(self, *accounts: Account) -> Job:
        job = Job(1100, accounts, Path(self.mktemp()).absolute())
        job.make()
        return job

    def test_each_is_given_every_account_and_its_maildir(self) -> None:
        for name in (OURS, FETCHMAIL, MPOP, GETMAIL):
            job = self.job(*ACCOUNTS)
            command = COLLECTORS[name].prepare(job)
            files = [p for p in job.folder.iterdir() if p.is_file()]
            text = "".join(path.read_text() for path in files)
            for account in ACCOUNTS:
                self.assertIn(account.password, text, name)
                if name != OURS:
                    self.assertIn(str(job.maildir(account)), text)
                self.assertTrue((job.maildir(account) / "new").is_dir())
            for path in files:
                self.assertEqual(path.stat().st_mode & 0o077, 0, path)
            self.assertNotIn("secret", " ".join(command.argv))

    def test_fetch_takes_the_password_from_the_environment(self) -> None:
        job = self.job(ACCOUNTS[0])
        command = COLLECTORS[FETCH].prepare(job)
        self.assertIn(str(job.maildir(ACCOUNTS[0])), command.argv)
        self.assertEqual(command.env["POP3CONNECT_PASSWORD"], "secret1")

    def test_unpacked_peers_take_part_and_missing_ones_do_not(self) -> None:
        folder = self.root / "scratch"
        bench = Bench(None, folder, pace(), clients=(MPOP, FETCHMAIL))  # type: ignore[arg-type]
        self.assertEqual([each.name for each in takers(bench)], [MPOP, FETCHMAIL])
        (self.root / "usr/bin/procmail").unlink()
        os.environ["PATH"] = str(self.root)
        self.assertEqual([each.name for each in takers(bench)], [MPOP])

    def test_only_statuses_of_success_are_no_failure(self) -> None:
        job = self.job(*ACCOUNTS)
        fetchmail = COLLECTORS[FETCHMAIL].prepare(job)
        self.assertIsNone(run_command(fetchmail, answers=False).error)
        mpop = COLLECTORS[MPOP].prepare(job)
        self.assertEqual(run_command(mpop, answers=False).error, "exit 1: no word")

    def test_delivered_messages_of_all_accounts_are_counted(self) -> None:
        job = self.job(*ACCOUNTS)
        for account in ACCOUNTS:
            (job.maildir(account) / "new" / "one").write_text("mail")
        (job.maildir(ACCOUNTS[0]) / "tmp" / "two").write_text("part")
        self.assertEqual(job.delivered(), 2)
        job.make()
        self.assertEqual(job.delivered(), 0)


class FiguresTests(SynchronousTestCase):
    """What is read from the system."""

    def test_fsyncs_are_the_calls_in_the_summary_of_strace(self) -> None:
        self.assertEqual(calls(SUMMARY), 120)
        self.assertEqual(calls(""), 0)

    def test_peak_memory_is_that_of_the_process_itself(self) -> None:
        if not Path("/proc/self/status").exists():
            self.skipTest("memory is read in /proc")
        result = run_command(Command(["sleep", "0.2"]), answers=False, peak=True)
        self.assertIsNone(result.error)
        self.assertGreater(result.peak, 0)
        self.assertLess(result.peak, 10_000_000)
