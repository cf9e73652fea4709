"""Programs of the user's: their input, their environment, and how they end."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase

from pop3connect.programs import (
    GRACE,
    LINGER,
    LOOK_EVERY,
    MAX_OUTPUT,
    SHORT_GRACE,
    RunError,
    find_program,
    last_line,
    run,
    safe_environment,
)

reactor: Any = global_reactor

LIMIT = 1000.0


class Reactor(Clock):
    """The global reactor, except that waits of seconds are those of a clock."""

    def callLater(self, delay: float, callable: Any, *args: Any, **kw: Any) -> Any:
        if delay < LINGER:
            return reactor.callLater(delay, callable, *args, **kw)
        return super().callLater(delay, callable, *args, **kw)

    def addReader(self, reader: Any) -> None:
        reactor.addReader(reader)

    def removeReader(self, reader: Any) -> None:
        reactor.removeReader(reader)


class ProgramTestCase(TestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.clock = Reactor()

    def start(self, script: str, **options: Any) -> Deferred[bytes]:
        return self.start_program([sys.executable, "-c", script], **options)

    def shell(self, script: str, **options: Any) -> Deferred[bytes]:
        return self.start_program(["sh", "-c", script], **options)

    def start_program(self, command: list[str], **options: Any) -> Deferred[bytes]:
        options = {"environment": os.environ, "limit": LIMIT, **options}
        return Deferred.fromCoroutine(
            run(self.clock, command, folder=self.folder, **options)
        )

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for another process."""
        for _ in range(3000):
            if condition():
                return
            await deferLater(reactor, 0.01)
        self.fail("this has not happened")

    async def number_in(self, name: str) -> int:
        """Return the number of a process, once it has written it to a file."""
        path = self.folder / name
        await self.until(lambda: path.exists() and path.read_text().endswith("\n"))
        return int(path.read_text())

    def lives(self, number: int) -> bool:
        try:
            # One that has ended and that nobody has asked about yet is "Z".
            state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2]
        except FileNotFoundError:
            return False
        return state.split()[0] != "Z"

    async def refused(self, running: Deferred[bytes]) -> RunError:
        failed: Deferred[Any] = running
        error: RunError = await self.assertFailure(failed, RunError)
        return error


class RunTests(ProgramTestCase):
    async def test_output_of_a_program_is_returned(self) -> None:
        self.assertEqual(await self.start("print('one'); print('two')"), b"one\ntwo\n")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def test_program_reads_the_file_as_its_standard_input(self) -> None:
        path = self.folder / "mail"
        path.write_bytes(b"x" * 300_000 + b"end")
        with path.open("rb") as file:
            running = self.start(
                "import sys; read = sys.stdin.buffer.read();"
                "print(len(read), read[-3:])",
                stdin=file,
            )
        self.assertEqual(await running, b"300003 b'end'\n")

    async def test_program_that_reads_no_input_succeeds(self) -> None:
        path = self.folder / "mail"
        path.write_bytes(b"x" * 300_000)
        with path.open("rb") as file:
            running = self.shell("exit 0", stdin=file)
        self.assertEqual(await running, b"")

    async def test_standard_input_is_empty_by_default(self) -> None:
        script = "import sys; print(sys.stdin.read() == '')"
        self.assertEqual(await self.start(script), b"True\n")

    async def test_program_runs_in_the_folder_with_the_environment(self) -> None:
        output = await self.shell(
            'pwd; echo "$ONE$TWO"', environment={"ONE": "1", "PATH": os.environ["PATH"]}
        )
        self.assertEqual(output.decode(), f"{self.folder.resolve()}\n1\n")

    async def test_exit_status_is_told_with_the_end_of_the_errors(self) -> None:
        error = await self.refused(
            self.shell("echo looking-glass; echo first >&2; echo last >&2; exit 75")
        )
        self.assertEqual(str(error), "sh: exit status 75")
        self.assertEqual(
            (error.status, error.started, error.expired), (75, True, False)
        )
        self.assertEqual(last_line(error.errors), "last")

    async def test_signal_that_ended_a_program_is_told(self) -> None:
        error = await self.refused(self.shell("kill -9 $$"))
        self.assertEqual(str(error), "sh: ended by signal 9")
        self.assertEqual(
            (error.status, error.started, error.expired), (None, True, False)
        )

    async def test_output_that_never_ends_is_bounded(self) -> None:
        error = await self.refused(
            self.start(
                "import sys; sys.stdout.write('a' + 'o' * 5_000_000);"
                "sys.stderr.write('e' * 5_000_000 + 'z'); sys.exit(1)"
            )
        )
        self.assertEqual(len(error.errors), MAX_OUTPUT)
        self.assertTrue(error.errors.endswith(b"ez"))
        output = await self.start("print('a' + 'o' * 5_000_000)")
        self.assertEqual(output, b"a" + b"o" * (MAX_OUTPUT - 1))

    async def test_child_process_left_behind_is_neither_awaited_nor_ended(self) -> None:
        running = self.shell("sleep 600 & echo $! > left; echo $$ > number; echo done")
        left = await self.number_in("left")
        number = await self.number_in("number")
        await self.until(lambda: not self.lives(number))
        self.clock.advance(LOOK_EVERY)
        self.assertNoResult(running)
        self.clock.advance(LINGER)
        self.assertEqual(await running, b"done\n")
        self.assertTrue(self.lives(left))
        os.kill(left, signal.SIGKILL)

    async def test_last_output_is_read_before_the_pipes_are_closed(self) -> None:
        running = self.shell(
            "echo $$ > number; (while [ ! -e go ]; do sleep 0.01; done;"
            " echo late; touch said; sleep 600) & echo $! > left"
        )
        left, number = await self.number_in("left"), await self.number_in("number")
        await self.until(lambda: not self.lives(number))
        self.clock.advance(LOOK_EVERY)
        # From here on the reactor has no turn.
        (self.folder / "go").touch()
        while not (self.folder / "said").exists():
            pass
        self.clock.advance(LINGER)
        self.assertEqual(self.successResultOf(running), b"late\n")
        os.killpg(number, signal.SIGKILL)
        await self.until(lambda: not self.lives(left))

    async def test_program_that_closes_its_output_early_is_awaited(self) -> None:
        running = self.shell(
            "exec >&- 2>&-; while [ ! -e go ]; do sleep 0.01; done; touch went"
        )
        await deferLater(reactor, 0.05)
        self.assertNoResult(running)
        (self.folder / "go").touch()
        self.assertEqual(await running, b"")
        self.assertTrue((self.folder / "went").exists())


class EndTests(ProgramTestCase):
    async def test_whole_group_gets_sigterm_at_the_time_limit(self) -> None:
        running = self.shell("sleep 600 & echo $! > child; wait", limit=60)
        child = await self.number_in("child")
        self.clock.advance(59.9)
        self.assertNoResult(running)
        self.clock.advance(0.1)
        error = await self.refused(running)
        self.assertEqual(str(error), "sh: took longer than 60 seconds")
        self.assertEqual((error.status, error.expired), (None, True))
        self.assertFalse(self.lives(child))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def test_group_that_ignores_sigterm_is_killed_after_the_grace(self) -> None:
        running = self.shell(
            "trap '' TERM; sleep 600 & echo $! > child; wait; sleep 600", limit=60
        )
        child = await self.number_in("child")
        self.clock.advance(60)
        await deferLater(reactor, 0.05)
        self.assertNoResult(running)
        self.assertTrue(self.lives(child))
        self.clock.advance(GRACE)
        error = await self.refused(running)
        self.assertTrue(error.expired)
        await self.until(lambda: not self.lives(child))

    async def test_child_has_the_grace_too_when_its_parent_ended(self) -> None:
        running = self.shell(
            "(trap '' TERM; sleep 600 & echo $! > child; wait; sleep 600) & wait",
            limit=60,
        )
        child = await self.number_in("child")
        self.clock.advance(60)
        await deferLater(reactor, 0.05)
        self.assertNoResult(running)
        self.clock.advance(GRACE)
        await self.refused(running)
        await self.until(lambda: not self.lives(child))

    async def test_program_that_cannot_be_killed_is_left_to_itself(self) -> None:
        def spare(number: int, name: int) -> None:
            """Do nothing, as if it waited for a disk."""

        running = self.shell("echo $$ > number; exec sleep 600", limit=60)
        number = await self.number_in("number")
        self.patch(os, "killpg", spare)
        self.clock.advance(60)
        self.clock.advance(GRACE)
        await deferLater(reactor, 0.05)
        self.assertNoResult(running)
        self.clock.advance(GRACE)
        error = await self.refused(running)
        self.assertTrue(error.expired)
        self.clock.advance(LOOK_EVERY)
        os.kill(number, signal.SIGKILL)
        await self.until(lambda: not self.lives(number))
        self.assertTrue(self.clock.getDelayedCalls())
        self.clock.advance(LOOK_EVERY)
        # It leaves no zombie behind.
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertRaises(ChildProcessError, os.waitpid, number, os.WNOHANG)

    async def test_program_that_has_just_ended_is_not_expired(self) -> None:
        """The timer comes when it is over, and its end has not been noticed yet."""
        running = self.shell("echo $$ > number", limit=60)
        number = await self.number_in("number")
        while self.lives(number):
            pass
        self.clock.advance(60)
        self.assertEqual(await running, b"")

    async def test_cancelling_ends_the_group_and_waits_for_it(self) -> None:
        running = self.shell(
            "trap 'rm there; exit' TERM; touch there; sleep 600 & wait"
        )
        await self.until(lambda: (self.folder / "there").exists())
        running.cancel()
        await self.assertFailure(running, CancelledError)
        self.assertFalse((self.folder / "there").exists())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def test_cancelled_program_that_ignores_sigterm_is_killed_soon(self) -> None:
        running = self.shell("trap '' TERM; echo $$ > number; sleep 600")
        number = await self.number_in("number")
        running.cancel()
        self.clock.advance(SHORT_GRACE)
        await self.assertFailure(running, CancelledError)
        self.assertFalse(self.lives(number))

    async def test_cancelling_twice_ends_the_wait(self) -> None:
        running = self.shell("trap '' TERM; echo $$ > number; sleep 600")
        number = await self.number_in("number")
        running.cancel()
        running.cancel()
        await self.assertFailure(running, CancelledError)
        self.clock.advance(GRACE)
        await self.until(lambda: not self.lives(number))
        await self.until(lambda: self.clock.getDelayedCalls() == [])


class StartTests(ProgramTestCase):
    async def test_missing_program_is_not_started(self) -> None:
        for name in ("no-such-program-here", "./no-such-program"):
            error = await self.refused(self.start_program([name]))
            self.assertIn(f"{name}: there is no such program", str(error))
            self.assertFalse(error.started)

    async def test_reason_is_told_when_a_program_cannot_be_started(self) -> None:
        program = self.folder / "bad"
        program.write_bytes(b"\0")
        program.chmod(0o700)
        error = await self.refused(self.start_program(["./bad"]))
        self.assertEqual(str(error), "./bad: cannot be started: Exec format error")
        self.assertFalse(error.started)


class HelperTests(SynchronousTestCase):
    def test_name_with_a_slash_is_looked_for_in_the_folder(self) -> None:
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        (folder / "own").write_text("#!/bin/sh\n")
        (folder / "own").chmod(0o700)
        self.assertEqual(find_program("./own", folder, {}), str(folder / "own"))
        self.assertRaises(RunError, find_program, "own", folder, os.environ)
        self.assertTrue(Path(find_program("sh", folder, os.environ)).is_absolute())

    def test_secrets_are_not_in_the_environment(self) -> None:
        for name in (
            "POP3CONNECT_PASSWORD",
            "POP3CONNECT_CLIENT_KEY_PASSWORD",
            "POP3CONNECT_DATABASE",
            "ANNS",
            "OTHER",
        ):
            self.addCleanup(os.environ.pop, name, None)
            os.environ[name] = "looking-glass"
        environment = safe_environment(["ANNS"])
        self.assertEqual(environment.pop("OTHER"), "looking-glass")
        self.assertNotIn("looking-glass", environment.values())
        self.assertIn("PATH", environment)

    def test_last_line_is_printable_and_short(self) -> None:
        self.assertEqual(last_line(b""), "")
        self.assertEqual(last_line(b"one\ntwo \x1b[2J\n\n"), "two \\x1b[2J")
        self.assertEqual(last_line(b"x" * 1000), "x" * 300)
