"""
The blocking facade where it runs the reactor: programs in processes of their own.

Ctrl-C, the end of the interpreter, forks, what is imported and what is logged.
"""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SkipTest

from pop3connect import connect

from ..support.loopback import MESSAGES, PASSWORD, ROOT, USERS, LoopbackTestCase

USER = USERS[0]

CONNECT = "from pop3connect.blocking import connect\n"


class ProgramTests(LoopbackTestCase):
    """Programs that know nothing of a reactor."""

    async def mail(self) -> int:
        """Return how many messages a new session finds; that needs the lock."""
        async with await connect(self.server, USER, PASSWORD) as handle:
            return (await handle.stat()).count

    async def test_import_loads_neither_crochet_nor_a_reactor(self) -> None:
        program = await self.run_script("""
import pop3connect
assert "pop3connect.blocking" not in sys.modules
import pop3connect.blocking
for name in ("crochet", "twisted.internet.reactor"):
    assert name not in sys.modules, name
""")
        self.assertEqual(program.errors, "")

    async def test_connect_without_crochet_names_the_extra_to_install(self) -> None:
        program = await self.run_script(
            CONNECT
            + """
sys.modules["crochet"] = None
try:
    connect(server, user, password)
except ImportError as error:
    print(error)
"""
        )
        self.assertIn("pip install 'pop3connect[blocking]'", program.output)

    async def test_ctrl_c_in_any_call_releases_the_mailbox(self) -> None:
        """Whatever is under way, and without the program's end: it goes on."""
        self.factory.halves = True
        self.factory.silent = (b"NOOP", b"QUIT")
        program = self.script(
            CONNECT
            + """
import io, signal
# A shell in the background may have switched it off.
signal.signal(signal.SIGINT, signal.default_int_handler)
for step, block in enumerate([
    lambda handle: handle.noop(),
    lambda handle: handle.retrieve(3),
    lambda handle: handle.retrieve(3, io.BytesIO()),
    lambda handle: list(handle),
    lambda handle: handle.delete(1),
]):
    try:
        # Is refused if the session before this one still has the mailbox.
        with connect(server, user, password) as handle:
            block(handle)
    except KeyboardInterrupt:
        print(f"interrupted {step};", flush=True)
sys.stdin.read()
"""
        )
        for step in range(5):
            await self.factory.when_stuck()
            program.interrupt()
            await program.says(f"interrupted {step};")
        await self.factory.when_left()
        self.factory.silent = ()
        self.assertEqual(await self.mail(), len(MESSAGES))
        program.go_on()
        self.assertEqual((await program.ended, program.errors), (0, ""))

    async def test_uncaught_ctrl_c_exits_without_committing_deletions(self) -> None:
        self.factory.silent = (b"NOOP",)
        program = self.script(
            CONNECT
            + """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
handle = connect(server, user, password)
handle.delete(1)
handle.noop()
"""
        )
        await self.factory.when_stuck()
        program.interrupt()
        self.assertNotEqual(await program.ended, 0)
        self.assertIn("KeyboardInterrupt", program.errors)
        self.assertEqual(await self.mail(), len(MESSAGES))

    async def test_program_exit_closes_session_without_committing(self) -> None:
        await self.run_script(
            CONNECT
            + """
handle = connect(server, user, password)
handle.delete(1)
"""
        )
        self.assertEqual(await self.mail(), len(MESSAGES))

    async def test_program_exit_fails_calls_pending_in_other_threads(self) -> None:
        self.factory.silent = (b"NOOP",)
        program = self.script(
            CONNECT
            + """
def wait():
    try:
        handle.noop()
    except Exception as error:
        print(type(error).__name__)
handle = connect(server, user, password)
threading.Thread(target=wait).start()
sys.stdin.read()
"""
        )
        await self.factory.when_stuck()
        program.go_on()
        self.assertEqual((await program.ended, program.errors), (0, ""))
        self.assertEqual(program.output, "ConnectionLostError\n")

    async def test_calls_in_forked_child_fail_and_parent_session_survives(self) -> None:
        program = await self.run_script(
            CONNECT
            + """
handle = connect(server, user, password)
child = os.fork()
if not child:
    for call in (handle.stat, handle.abort, lambda: connect(server, user, password)):
        try:
            call()
        except ValueError as error:
            print(type(error).__name__, error, flush=True)
    del handle, call
    os._exit(7)
assert os.waitpid(child, 0)[1] == 7 << 8
# What the child has done, and its end, mean nothing to the session.
assert handle.stat().count == 3
handle.disconnect()
"""
        )
        lines = program.output.splitlines()
        self.assertEqual(len(lines), 3, program.output)
        for line in lines:
            self.assertTrue(line.startswith("UsageError"), line)
            self.assertIn("after the fork", line)

    async def test_connect_fails_after_fork_if_crochet_was_already_set_up(self) -> None:
        program = await self.run_script("""
import crochet
crochet.setup()
running = threading.Event()
from twisted.internet import reactor
reactor.callFromThread(running.set)
running.wait()
child = os.fork()
if not child:
    from pop3connect.blocking import connect
    try:
        connect(server, user, password)
    except ValueError as error:
        print(type(error).__name__, error, flush=True)
    os._exit(7)
assert os.waitpid(child, 0)[1] == 7 << 8
""")
        self.assertIn("UsageError", program.output)
        self.assertIn("after the fork", program.output)

    async def test_parent_and_child_can_connect_if_forked_before_use(self) -> None:
        """As the workers of Celery are, and of a web server."""
        await self.run_script(
            CONNECT
            + """
child = os.fork()
with connect(server, user if child else "bob", password) as handle:
    handle.delete(1)
if child:
    assert os.waitpid(child, 0)[1] == 0
"""
        )
        left = [len(self.factory.drops[name].messages) for name in USERS]
        self.assertEqual(left, [2, 2, 3, 3])

    async def test_connect_works_if_program_runs_the_reactor_itself(self) -> None:
        program = await self.run_script(
            CONNECT
            + """
import crochet
crochet.no_setup()
from twisted.internet import reactor
def work():
    # The reactor may not run yet: then this waits until it does.
    with connect(server, user, password) as handle:
        print(handle.stat().count)
    reactor.callFromThread(reactor.stop)
threading.Thread(target=work).start()
reactor.run()
"""
        )
        self.assertEqual(program.output, "3\n")

    async def test_connect_fails_after_the_reactor_has_stopped(self) -> None:
        program = await self.run_script(
            CONNECT
            + """
from twisted.internet import reactor
thread = threading.Thread(target=reactor.run, args=(False,))
thread.start()
reactor.callFromThread(reactor.stop)
thread.join()
try:
    connect(server, user, password)
except Exception as error:
    print(type(error).__name__, error)
"""
        )
        self.assertIn("ConnectionLostError the reactor", program.output)

    async def test_no_secret_is_logged_or_shown(self) -> None:
        """Neither in Python's log, which gets Twisted's, nor in a traceback."""
        program = await self.run_script(
            CONNECT
            + """
import logging, traceback
logging.basicConfig(level=logging.DEBUG, stream=sys.stdout)
def failed(secret, **options):
    try:
        connect(server, user, secret, **options)
    except Exception as error:
        told = traceback.TracebackException.from_exception(error, capture_locals=True)
        print("".join(told.format()))
del password
class Hidden(str):
    __repr__ = lambda self: "hidden"
def deny():
    raise RuntimeError("no keyring")
failed(Hidden(os.environ["POP3_PASSWORD"] + "x"))
failed(Hidden(os.environ["POP3_PASSWORD"] + "x"), stsproc=lambda line: 1 / 0)
failed(Hidden(os.environ["POP3_PASSWORD"]), timeout=-1)
failed(lambda: os.environ["POP3_PASSWORD"] + "x")
failed(deny)
handle = connect(server, user, os.environ["POP3_PASSWORD"], stsproc=print)
try:
    handle.retrieve(99)
except Exception:
    logging.exception("refused")
"""
        )
        for expected in ("LoginError", "UsageError", "deny", "C: APOP ann ********"):
            self.assertIn(expected, program.output)
        self.assertNotIn(PASSWORD, program.output + program.errors)
        self.assertEqual(program.errors, "")


class ExampleTests(LoopbackTestCase):
    """The examples of the documentation, as they stand there."""

    def example(self, name: str) -> str:
        path = ROOT / "examples" / name
        if not path.exists():
            raise SkipTest("these are tests of an installed package")
        return str(path)

    async def test_blocking_example_saves_and_deletes_all_messages(self) -> None:
        folder = Path(self.mktemp()).absolute()
        program = self.start(
            self.example("blocking.py"),
            self.server,
            USER,
            str(folder),
            "0",
            POP3_PASSWORD=PASSWORD,
        )
        self.assertEqual((await program.ended, program.errors), (0, ""))
        self.assertEqual(program.output, f"3 messages are in {folder}\n")
        self.assertEqual(
            sorted(path.read_bytes() for path in folder.iterdir()), sorted(MESSAGES)
        )
        self.assertEqual(self.factory.drops[USER].messages, [])

    async def test_blocking_example_with_wrong_password_prints_error_code(self) -> None:
        program = self.start(
            self.example("blocking.py"),
            self.server,
            USER,
            self.mktemp(),
            "0",
            POP3_PASSWORD="wrong",
        )
        self.assertEqual(await program.ended, 1)
        self.assertIn("[AUTH]", program.errors)

    async def test_threads_example_prints_each_subject(self) -> None:
        program = self.start(
            self.example("threads.py"), self.server, USER, "0", POP3_PASSWORD=PASSWORD
        )
        self.assertEqual((await program.ended, program.errors), (0, ""))
        self.assertEqual(program.output, "one\nNone\nthree\n")
