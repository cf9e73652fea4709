"""
The real process is killed at random moments, and started again on the same state: no
message is lost, none is there twice, and none is deleted that was not delivered.

The long form has more rounds::

    POP3CONNECT_KILLS=500 python -m twisted.trial tests.collect.test_kill
"""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from ..support.loopback import LoopbackTestCase, Program
from ..support.shows import shows
from .killing import ACCOUNTS, Places, Post, mail_program

reactor: Any = global_reactor

TWISTD = "from twisted.scripts.twistd import run; run()"

ROUNDS = int(os.environ.get("POP3CONNECT_KILLS", "20"))

HOOKED = """
import os, signal, sys
from pathlib import Path
from twisted.internet.defer import Deferred
from twisted.internet.task import react
from pop3connect.collect.config import read_config
from pop3connect.collect.service import CollectService

left = int(sys.argv[3])

def hook(moment):
    global left
    os.write(1, f"{moment}\\n".encode())
    left -= moment == sys.argv[2]
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)

def main(reactor):
    config = read_config(Path(sys.argv[1]))
    service = CollectService(config, reactor=reactor, hook=hook)
    return Deferred.fromCoroutine(service.run_once())

react(main)
"""
"""A collector that prints each commit, and kills itself at one of them."""

CHECKED = 50
"""Rounds between two runs that are not killed, after which everything is compared."""


class KillTestCase(LoopbackTestCase):
    """A Maildir, an mbox, and a Maildir with a command, all at once."""

    timeout = 60 + 6 * ROUNDS

    def setUp(self) -> None:
        super().setUp()
        seed = os.environ.get("POP3CONNECT_SEED") or str(Random().randrange(10**6))
        self.random = Random(int(seed))
        self.seed = seed
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.places = Places(self.folder)
        self.post = Post(self.random, reactor, self.missing)
        port = reactor.listenTCP(0, self.post, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        # Old versions of trial do not wait for a coroutine.
        self.addCleanup(lambda: Deferred.fromCoroutine(self.hang_up()))
        self.file = self.folder / "collect.toml"
        accounts = "".join(
            f'[[account]]\nname = "{name}"\nuser = "{name}"\npassword = "secret"\n'
            f'server = "127.0.0.1:{port.getHost().port}"\nto = {list(names)}\n'
            for name, names in ACCOUNTS.items()
        )
        self.file.write_text(
            'state = "state"\nsecure = "none"\nafter = "delete"\ninterval = 1\n'
            + self.places.configuration()
            + accounts
        )
        self.file.chmod(0o600)

    async def hang_up(self) -> None:
        while self.post.connections:
            for connection in list(self.post.connections):
                connection.transport.abortConnection()
            await deferLater(reactor, 0.01)

    def missing(self, name: str, numbers: list[int]) -> str:
        """Return a complaint if messages are deleted that have not arrived."""
        for destination in ACCOUNTS[name]:
            there = self.places.numbers(destination)
            lost = [number for number in numbers if not there[number]]
            if lost:
                return f"deleted and not delivered to {destination}: {lost}"
        return ""

    def collect(self, *options: str) -> Program:
        return self.start(
            *("-c", TWISTD, "-n", "--pidfile=", f"--rundir={self.folder}"),
            *("pop3connect", "collect", "--config", str(self.file), *options),
        )

    def take_mail(self) -> MailProgram:
        """Start the mail program."""
        mail = MailProgram()
        command = mail_program(*self.places.maildirs.values())
        reactor.spawnProcess(mail, command[0], command, env=dict(os.environ))
        self.addCleanup(mail.kill)
        return mail

    async def compare(self) -> None:
        """Let the collector finish its work, and compare."""
        post, places = self.post, self.places
        post.kind = True
        for name in ACCOUNTS:
            # What was left in tmp is removed before the next message is retrieved.
            post.arrive(name, 1)
        output = ""
        for _ in range(4):
            self.forget_failures()
            program = self.collect("--once")
            status = await program.ended
            output = f"seed {self.seed}: {program.output}{program.errors}"
            if post.empty and status == 0:
                break
        self.assertEqual(status, 0, output)
        self.assertTrue(post.empty, output)
        self.assertEqual(post.complaints, [], output)
        for name, destinations in ACCOUNTS.items():
            for destination in destinations:
                if destination != "desk":
                    self.assertEqual(
                        _differences(post.wanted[name], places.numbers(destination)),
                        {},
                        f"{destination}; {output}",
                    )
        self.compare_commands(output)
        self.assertEqual(places.leftovers(self.folder / "state"), [], output)
        post.kind = False

    def forget_failures(self) -> None:
        """Let a message be tried again that failed alone, as it is after hours."""
        database = sqlite3.connect(self.folder / "state" / "collect.db", timeout=10)
        with contextlib.closing(database), database:
            database.execute("update message set first_failed = 0 where failures > 0")

    def compare_commands(self, output: str) -> None:
        """Each message at least once, each key and attempt once at most."""
        keys: dict[int, set[str]] = {}
        runs = self.places.runs()
        for number, key, _ in runs:
            keys.setdefault(number, set()).add(key)
        distinct = {number: len(each) for number, each in keys.items()}
        self.assertEqual(
            _differences(self.post.wanted["both"], Counter(distinct)), {}, output
        )
        attempts = Counter((key, attempt) for _, key, attempt in runs)
        self.assertEqual([e for e, n in attempts.items() if n > 1], [], output)


class CommitTests(KillTestCase):
    """The process is killed just before and just after each commit."""

    @shows("feature 1.18")
    async def test_killed_at_each_commit_nothing_is_lost_twice_or_deleted_too_soon(
        self,
    ) -> None:
        mail = self.take_mail()
        self.post.kind = True
        moments = await self.kill_at("")
        # Some come only where there is something to recover.
        self.assertGreater(len(moments), 10)
        for moment in moments:
            # Once for each account and destination.
            for nth in range(1, 5 if "deliver" in moment else 2):
                await self.kill_at(moment, nth)
                self.assertEqual(self.post.complaints, [], f"{self.seed}: {moment}")
        await self.compare()
        self.assertFalse(mail.gone.called, mail.errors)

    async def kill_at(self, moment: str, nth: int = 1) -> list[str]:
        """Let mail arrive, and kill the collector; return the commits before."""
        for name in ACCOUNTS:
            self.post.arrive(name, 3)
        program = self.start("-c", HOOKED, str(self.file), moment, str(nth))
        status = await program.ended
        text = f"{moment}: {program.output}{program.errors}"
        killed = moment and (nth == 1 or program.output.count(moment) >= nth)
        self.assertEqual(status, -signal.SIGKILL if killed else 0, text)
        moments = dict.fromkeys(program.output.splitlines())
        return [each for each in moments if each.startswith(("before ", "after "))]


class KillTests(KillTestCase):
    """The process is killed at any time."""

    async def test_killed_at_random_nothing_is_lost_twice_or_deleted_too_soon(
        self,
    ) -> None:
        mail = self.take_mail()
        killed = 0
        for number in range(1, ROUNDS + 1):
            killed += await self.round()
            self.assertEqual(self.post.complaints, [], self.seed)
            if number % CHECKED == 0:
                await self.compare()
        await self.compare()
        self.assertFalse(mail.gone.called, mail.errors)
        # Otherwise the test shows nothing.
        self.assertGreater(killed, ROUNDS / 3)
        if ROUNDS > 20:
            total = sum(sum(each.values()) for each in self.post.wanted.values())
            repeats = sum(attempt > 1 for _, _, attempt in self.places.runs())
            print(
                f"\nseed {self.seed}: {ROUNDS} rounds, {killed} killed, {total} "
                f"messages, {repeats} runs of the command were repeats"
            )

    async def round(self) -> bool:
        """Let the collector work, and kill it; return whether it was killed at work."""
        random, post = self.random, self.post
        for name in ACCOUNTS:
            post.arrive(name, random.choice([0, 1, 3, 8]))
        program = self.collect(*random.choice([(), ("--once",)]))
        kill: Deferred[None] = Deferred()

        def now() -> None:
            if not kill.called:
                kill.callback(None)

        # Most rounds: at a command or a little later.  Others: at any time.
        left = random.randrange(1, 120) if random.random() < 0.9 else 10_000
        later = random.choice([0.0, 0.0, 0.005, 0.02, 0.1]) * random.random()
        most = reactor.callLater(random.uniform(0.3, 2.0), now)
        if left < 10_000:
            most.reset(4.0)

        def after() -> None:
            nonlocal left
            left -= 1
            if left == 0:
                reactor.callLater(later, now)
            if random.random() < 0.02:
                post.arrive(random.choice(list(ACCOUNTS)), 1)

        post.after = after
        program.ended.addCallback(lambda _: now())
        try:
            await kill
        finally:
            post.after = lambda: None
            if most.active():
                most.cancel()
        killed = not program.ended.called
        await program.kill()
        return killed


def _differences(wanted: Counter[int], found: Counter[int]) -> dict[int, str]:
    return {
        number: f"{found[number]} instead of {wanted[number]}"
        for number in wanted | found
        if wanted[number] != found[number]
    }


class MailProgram(ProcessProtocol):
    """The process of the mail program."""

    def __init__(self) -> None:
        self.gone: Deferred[None] = Deferred()
        self.errors = ""

    def errReceived(self, data: bytes) -> None:
        self.errors += data.decode()

    def processEnded(self, reason: Failure) -> None:
        self.gone.callback(None)

    def kill(self) -> Deferred[None]:
        assert self.transport is not None
        if not self.gone.called:
            self.transport.signalProcess("KILL")
        return self.gone
