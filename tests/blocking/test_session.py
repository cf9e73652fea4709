"""
The blocking facade: in threads of this process, and in programs of their own.

Trial's reactor runs in the main thread, so what blocks is in other threads here:
that is a Twisted application with worker threads.  Where the facade runs the reactor
itself there is a process for it, in `test_programs`.
"""

from __future__ import annotations

import gc
import inspect
import io
import threading
import traceback
import weakref
from collections.abc import Callable
from tempfile import NamedTemporaryFile
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.threads import blockingCallFromThread, deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from pop3connect import (
    CommandError,
    Committed,
    ConnectionLostError,
    DestinationError,
    Handle,
    Listing,
    LoginError,
    ProtocolError,
    Stat,
    Stored,
    UsageError,
    api,
)
from pop3connect.blocking import BlockingHandle, connect
from pop3connect.blocking.reactor_thread import ReactorThread

from ..support.frames import leaks
from ..support.loopback import MESSAGES, PASSWORD, USERS, LoopbackTestCase, reactor
from ..support.shows import shows

T = TypeVar("T")

USER = USERS[0]


def bare(function: Callable[..., object]) -> list[tuple[str, object, object]]:
    """Show the parameters of a function without their annotations."""
    return [
        (parameter.name, parameter.kind, parameter.default)
        for parameter in inspect.signature(function).parameters.values()
    ]


def public(kind: type) -> dict[str, Any]:
    return {name: thing for name, thing in vars(kind).items() if name[0] != "_"}


class SurfaceTests(SynchronousTestCase):
    """It looks like what it stands for."""

    def test_blocking_connect_has_the_parameters_of_async_connect(self) -> None:
        self.assertEqual(bare(connect), bare(api.connect))

    def test_blocking_connect_has_the_annotations_of_async_connect(self) -> None:
        ours, theirs = (
            {
                name: parameter.annotation
                for name, parameter in inspect.signature(function).parameters.items()
            }
            for function in (connect, api.connect)
        )
        self.assertEqual(ours, theirs)

    def test_blocking_connect_keeps_its_own_name_docstring_and_result(self) -> None:
        self.assertEqual(connect.__name__, "connect")
        self.assertIn("wait for it", inspect.getdoc(connect) or "")
        signature = inspect.signature(connect)
        self.assertEqual(signature.return_annotation, "BlockingHandle")
        self.assertEqual(connect.__annotations__["return"], "BlockingHandle")

    def test_unusable_arguments_are_named_and_show_no_password(self) -> None:
        for arguments, options in (
            (("h", "u", "s3cret-word"), {"max_lisitng": 5}),
            (("h", "u", "s3cret-word"), {"username": "twice"}),
            (("h",), {"password": "s3cret-word"}),
        ):
            with self.assertRaisesRegex(TypeError, r"^connect\(\): ") as caught:
                connect(*arguments, **options)  # type: ignore[arg-type]
            error = caught.exception
            self.assertEqual(leaks(error, ["s3cret-word"]), [], options)

    def test_argument_of_another_type_shows_no_password(self) -> None:
        for password in (b"s3cret-word", ["s3cret-word"]):
            with self.assertRaises(UsageError) as caught:
                connect("h", "u", password, reactor=object())  # type: ignore[arg-type]
            self.assertEqual(leaks(caught.exception, ["s3cret-word"]), [])

    def test_blocking_handle_has_every_public_name_of_handle(self) -> None:
        self.assertEqual(sorted(public(BlockingHandle)), sorted(public(Handle)))

    def test_blocking_handle_methods_have_the_parameters_of_handle(self) -> None:
        methods = [
            n for n, thing in public(Handle).items() if inspect.isfunction(thing)
        ]
        self.assertIn("retrieve", methods)
        for name in methods:
            ours = getattr(BlockingHandle, name)
            self.assertEqual(bare(ours), bare(getattr(Handle, name)), name)

    def test_properties_of_handle_are_properties_of_blocking_handle(self) -> None:
        for name, thing in public(Handle).items():
            if isinstance(thing, property):
                self.assertIsInstance(getattr(BlockingHandle, name), property, name)

    def test_every_public_name_of_blocking_handle_has_a_docstring(self) -> None:
        for name in public(BlockingHandle):
            self.assertTrue(inspect.getdoc(getattr(BlockingHandle, name)), name)


class Recorder:
    """A handle that notes what is asked of it, and answers with the name of that."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[object, ...]]] = []

    def __getattr__(self, name: str) -> Callable[..., Deferred[str]]:
        def method(*arguments: object, **_: object) -> Deferred[str]:
            self.asked.append((name, arguments))
            return succeed(name)

        return method


class PassingTests(TestCase):
    """What the methods pass on."""

    #: These return nothing.
    NOTHING = ("delete", "reset", "noop", "utf8", "abort", "when_closed")

    async def test_every_method_passes_its_arguments_on(self) -> None:
        recorder = Recorder()

        def block() -> dict[str, object]:
            handle = BlockingHandle(recorder, ReactorThread(reactor))  # type: ignore[arg-type]
            recorder.asked.clear()
            return {
                name: getattr(handle, name)(*arguments)
                for name, arguments in expected.items()
            }

        expected: dict[str, tuple[object, ...]] = {}
        for name, thing in public(Handle).items():
            # Those two are no Deferreds.
            if inspect.isfunction(thing) and name not in ("messages", "headers"):
                expected[name] = tuple(range(1, len(bare(thing))))
        # With a file, it is not the file that is passed on.
        expected["retrieve"] = (1,)
        returned = await deferToThread(block)
        self.assertEqual(recorder.asked, list(expected.items()))
        for name, value in returned.items():
            self.assertEqual(value, None if name in self.NOTHING else name, name)


class BlockingTestCase(LoopbackTestCase):
    """A test case whose tests block, in other threads than the reactor's."""

    def open(self, user: str = USER, **options: Any) -> BlockingHandle:
        """Open a session; not in the reactor's thread."""
        options.setdefault("password", PASSWORD)
        return connect(self.server, user, reactor=reactor, **options)

    def count(self, user: str = USER) -> int:
        """Return how many messages a new session finds; that needs the lock."""
        with self.open(user) as handle:
            return handle.stat().count


class MethodTests(BlockingTestCase):
    """Every method, and the ends of a session."""

    async def test_max_listing_reaches_the_session(self) -> None:
        def block() -> None:
            handle = self.open(max_listing=1)
            self.assertGreater(handle.stat().count, 1)
            with self.assertRaises(ProtocolError):
                handle.list()

        await deferToThread(block)

    @shows(
        "feature 1.16",
        "Calls that block",
        "``pop3connect.blocking``, for threads and scripts",
    )
    async def test_every_method_returns_what_the_async_handle_returns(self) -> None:
        def block() -> list[object]:
            handle = self.open()
            handle.capa()
            handle.delete(1)
            handle.reset()
            handle.delete(2)
            with self.assertRaises(UsageError):
                handle.utf8()
            with self.assertRaises(CommandError):
                handle.lang()
            seen: list[object] = [
                handle.stat(),
                handle.list(),
                handle.size(1),
                handle.uid(1) == handle.uidl()[0].uid,
                handle.retrieve(1),
                handle.top(3),
                repr(handle),
                handle.disconnect(),
                handle.disconnect(),
                handle.abort(),
                handle.when_closed(),
            ]
            return seen

        one, _, three = (len(message) for message in MESSAGES)
        self.assertEqual(
            await deferToThread(block),
            [
                Stat(2, one + three),
                [Listing(1, one), Listing(3, three)],
                one,
                True,
                MESSAGES[0],
                b"Subject: three\r\n\r\n",
                f"<BlockingHandle {self.server} logged in>",
                Committed(frozenset({2})),
                Committed(frozenset({2})),
                None,
                None,
            ],
        )

    async def test_attributes_have_the_values_of_the_async_handle(self) -> None:
        def block() -> list[object]:
            with self.open() as handle:
                return [
                    str(handle.server),
                    handle.greeting[:1],
                    "PIPELINING" in handle.capabilities,
                    handle.login.cleartext,
                    handle.tls,
                ]

        self.assertEqual(
            await deferToThread(block), [self.server, "<", True, False, None]
        )

    async def test_normal_end_of_with_block_commits_deletions(self) -> None:
        def block() -> int:
            with self.open() as handle:
                handle.delete(1)
            return self.count()

        self.assertEqual(await deferToThread(block), 2)

    async def test_exception_in_with_block_commits_no_deletions(self) -> None:
        def block() -> int:
            with self.assertRaises(KeyError), self.open() as handle:
                handle.delete(1)
                raise KeyError
            return self.count()

        self.assertEqual(await deferToThread(block), 3)

    async def test_abort_in_with_block_commits_no_deletions(self) -> None:
        def block() -> int:
            with self.open() as handle:
                handle.delete(1)
                handle.abort()
            return self.count()

        self.assertEqual(await deferToThread(block), 3)

    async def test_garbage_collected_handle_releases_the_mailbox(self) -> None:
        def block() -> None:
            self.open().delete(1)
            # It may be part of a cycle somewhere.
            gc.collect()

        await deferToThread(block)
        (warning,) = self.flushWarnings()
        self.assertIs(warning["category"], ResourceWarning)
        self.assertIn("a handle was forgotten", warning["message"])
        await self.factory.when_left()
        self.assertEqual(await deferToThread(self.count), 3)

    async def test_handle_whose_session_has_ended_is_forgotten_in_silence(self) -> None:
        opened: list[BlockingHandle] = []
        await deferToThread(lambda: opened.append(self.open()))
        forgotten = weakref.ref(opened[0])
        # The connection is closed in a later turn of the reactor.
        ending = opened[0]._handle.abort()
        opened.clear()
        gc.collect()
        self.assertIsNone(forgotten())
        self.assertFalse(ending.called)
        self.assertEqual(self.flushWarnings(), [])
        await ending


class MessagesTests(BlockingTestCase):
    """Iterating."""

    async def test_iterating_over_the_handle_yields_all_messages(self) -> None:
        def block() -> list[bytes | None]:
            with self.open() as handle:
                return [message.content for message in handle]

        self.assertEqual(await deferToThread(block), list(MESSAGES))

    async def test_given_numbers_are_yielded_in_order_for_any_ahead(self) -> None:
        def block() -> list[tuple[int, bool]]:
            with self.open() as handle:
                return [
                    (message.number, message.error is None)
                    for ahead in (1, 2, 256)
                    for message in handle.messages(iter([3, 9, 1]), ahead)
                ]

        self.assertEqual(
            await deferToThread(block), [(3, True), (9, False), (1, True)] * 3
        )

    async def test_session_is_usable_after_leaving_the_loop_early(self) -> None:
        def block() -> Stat:
            with self.open() as handle:
                for message in handle:
                    self.assertEqual(message.number, 1)
                    break
                return handle.stat()

        self.assertEqual((await deferToThread(block)).count, 3)

    async def test_messages_deleted_in_the_loop_are_gone_afterwards(self) -> None:
        def block() -> int:
            with self.open() as handle:
                for message in handle.messages(ahead=1):
                    handle.delete(message.number)
            return self.count()

        self.assertEqual(await deferToThread(block), 0)

    async def test_lost_connection_is_raised_in_the_loop(self) -> None:
        self.factory.halves = True

        def block() -> list[int]:
            numbers = []
            with self.assertRaises(ConnectionLostError), self.open() as handle:
                for message in handle:
                    numbers.append(message.number)
                    if message.number == 2:
                        reactor.callFromThread(self.factory.drop_connections)
            return numbers

        self.assertEqual(await deferToThread(block), [1, 2])

    async def test_wrong_arguments_are_refused_and_session_stays_open(self) -> None:
        def block() -> Stat:
            with self.open() as handle:
                for ahead in (0, "x"):
                    with self.assertRaises(UsageError):
                        next(handle.messages(ahead=ahead))  # type: ignore[arg-type]
                with self.assertRaises(UsageError):
                    next(handle.messages([0]))
                return handle.stat()

        self.assertEqual((await deferToThread(block)).count, 3)


class IntoTests(BlockingTestCase):
    """Messages that are written to files one after another."""

    messages = (*MESSAGES, b"Subject: long\r\n\r\n" + b"y" * 5_000_000 + b"\r\n")

    def into(self, number: int) -> io.BytesIO:
        """Choose a file, and note in which thread."""
        self.chosen.append((number, threading.get_ident()))
        file = self.files[number] = io.BytesIO()
        return file

    def setUp(self) -> None:
        super().setUp()
        self.chosen: list[tuple[int, int]] = []
        self.files: dict[int, io.BytesIO] = {}

    async def test_messages_are_written_in_the_callers_thread(self) -> None:
        def block() -> tuple[list[Any], int]:
            with self.open() as handle:
                items = list(handle.messages([2, 9, 4], into=self.into))
            return items, threading.get_ident()

        (two, nine, four), caller = await deferToThread(block)
        self.assertEqual(two, Stored(2, len(MESSAGES[1]), self.files[2], None))
        self.assertIsInstance(nine.error, CommandError)
        self.assertEqual(four, Stored(4, len(self.messages[3]), self.files[4], None))
        # Not for the message that was refused.
        self.assertEqual(self.chosen, [(2, caller), (4, caller)])
        for number, file in self.files.items():
            self.assertEqual(file.getvalue(), self.messages[number - 1])

    async def test_item_comes_when_its_file_was_written(self) -> None:
        def block() -> list[int]:
            with self.open() as handle:
                return [
                    len(item.destination.getvalue())
                    for item in handle.messages(into=self.into)
                    if item.error is None
                ]

        sizes = await deferToThread(block)
        self.assertEqual(sizes, [len(message) for message in self.messages])

    async def test_other_commands_in_the_loop_are_answered(self) -> None:
        """Though the large message is in the way, and has to be written first."""

        def block() -> int:
            with self.open() as handle:
                for item in handle.messages([1, 4, 2], into=self.into):
                    handle.delete(item.number)
                    handle.uid(3)
            return self.count()

        self.assertEqual(await deferToThread(block), 1)
        self.assertEqual(self.files[4].getvalue(), self.messages[3])

    async def test_exception_of_a_file_fails_only_that_message(self) -> None:
        def fail(piece: bytes) -> None:
            raise OSError("disk full")

        def into(number: int) -> Any:
            if number == 1:
                raise OSError("no such folder")
            if number == 2:
                return io.StringIO()
            return Sink(fail) if number == 4 else self.into(number)

        def block() -> tuple[list[Any], Stat]:
            with self.open() as handle:
                return list(handle.messages([1, 2, 4, 3], into=into)), handle.stat()

        (one, two, four, three), stat = await deferToThread(block)
        for item, said in (
            (one, "OSError: no such folder"),
            (two, "binary mode"),
            (four, "disk full"),
        ):
            self.assertIsInstance(item.error, DestinationError)
            self.assertIn(said, str(item.error))
            self.assertEqual(item.error.number, item.number)
        self.assertIsInstance(four.error.__cause__, OSError)
        self.assertEqual(three.destination.getvalue(), self.messages[2])
        self.assertEqual(stat.count, 4)

    async def test_progress_is_told_after_the_file_was_written(self) -> None:
        told: list[tuple[int, int, int | None]] = []

        def progress(number: int, done: int, expected: int | None) -> None:
            told.append((number, done, expected))
            self.assertEqual(len(self.files[number].getvalue()), done)

        def block() -> None:
            with self.open() as handle:
                for item in handle.messages(into=self.into, progress=progress):
                    self.assertIsNone(item.error)

        await deferToThread(block)
        size = len(self.messages[3])
        self.assertEqual(told[0], (1, len(MESSAGES[0]), len(MESSAGES[0])))
        self.assertEqual(told[-1], (4, size, size))

    async def test_leaving_the_loop_early_keeps_the_session(self) -> None:
        def block() -> int:
            with self.open() as handle:
                for item in handle.messages([1, 4, 2], into=self.into):
                    self.assertEqual(item.number, 1)
                    break
                return handle.stat().count

        self.assertEqual(await deferToThread(block), 4)

    async def test_interrupt_while_writing_is_raised(self) -> None:
        def interrupt(piece: bytes) -> None:
            raise KeyboardInterrupt

        def block() -> None:
            with self.open() as handle:
                for _ in handle.messages([4], into=lambda _: Sink(interrupt)):
                    self.fail("the message was not written")

        def caught() -> bool:
            try:
                block()
            except KeyboardInterrupt:
                return True
            return False

        self.assertTrue(await deferToThread(caught))

    async def test_wrong_arguments_are_refused_and_session_stays_open(self) -> None:
        def block() -> int:
            with self.open() as handle:
                for wrong in (
                    {"into": "folder"},
                    {"into": self.into, "progress": 1},
                    {"progress": print},
                ):
                    with self.assertRaises(UsageError):
                        next(handle.messages(**wrong))  # type: ignore[call-overload]
                return handle.stat().count

        self.assertEqual(await deferToThread(block), 4)


class HeadersTests(BlockingTestCase):
    """Headers, and commands of extensions."""

    async def test_headers_are_yielded_in_order(self) -> None:
        def block() -> list[tuple[int, str]]:
            with self.open() as handle:
                return [
                    (item.number, item.subject)
                    for item in handle.headers(iter([3, 1]), 1)
                    if item.error is None
                ]

        self.assertEqual(await deferToThread(block), [(3, "three"), (1, "one")])

    async def test_unknown_command_is_refused_by_the_server(self) -> None:
        def block() -> str:
            with self.open() as handle:
                for multiline in (False, True):
                    with self.assertRaises(CommandError) as caught:
                        handle.command("XTND", "a", multiline=multiline)
                return str(caught.exception.verb)

        self.assertEqual(await deferToThread(block), "XTND")


class Sink:
    """Something to write to that is no file."""

    def __init__(self, take: Callable[[bytes], object]) -> None:
        self.write = take


class RetrieveTests(BlockingTestCase):
    """Messages written to files."""

    messages = (*MESSAGES, b"Subject: long\r\n\r\n" + b"y" * 5_000_000 + b"\r\n")

    async def test_a_message_is_written_in_the_callers_thread(self) -> None:
        threads: set[threading.Thread] = set()
        pieces: list[bytes] = []

        def take(piece: bytes) -> None:
            threads.add(threading.current_thread())
            pieces.append(piece)

        def block() -> threading.Thread:
            with self.open() as handle:
                self.assertEqual(handle.retrieve(4, Sink(take)), len(self.messages[3]))
            return threading.current_thread()

        caller = await deferToThread(block)
        self.assertEqual(threads, {caller})
        self.assertEqual(b"".join(pieces), self.messages[3])

    async def test_partial_writes_are_continued_until_all_is_written(self) -> None:
        written = io.BytesIO()

        def block() -> None:
            with self.open() as handle:
                handle.retrieve(4, Sink(lambda piece: written.write(piece[:10_000])))

        await deferToThread(block)
        self.assertEqual(written.getvalue(), self.messages[3])

    async def test_write_error_is_raised_and_ends_the_session(self) -> None:
        """The rest of the message would have to be read otherwise."""

        def fail(piece: bytes) -> None:
            raise OSError("disk full")

        def block() -> None:
            self.factory.halves = True
            handle = self.open()
            with self.assertRaises(OSError) as caught:
                handle.retrieve(4, Sink(fail))
            self.assertEqual(str(caught.exception), "disk full")
            with self.assertRaises(ConnectionLostError):
                handle.stat()

        await deferToThread(block)

    async def test_write_of_zero_bytes_raises_blocking_io_error(self) -> None:
        def block() -> None:
            with self.assertRaises(BlockingIOError), self.open() as handle:
                handle.retrieve(1, Sink(lambda piece: 0))

        await deferToThread(block)

    async def test_non_binary_file_is_refused_and_session_stays_open(self) -> None:
        def block() -> int:
            # A temporary file is not an instance of a class in `io`.
            with self.open() as handle, NamedTemporaryFile("w") as text:
                for wrong in (io.StringIO(), text, io.BytesIO, "a-file.eml"):
                    with self.assertRaises(UsageError) as caught:
                        handle.retrieve(1, wrong)  # type: ignore[call-overload]
                    self.assertIn("binary", str(caught.exception))
                return handle.stat().count

        self.assertEqual(await deferToThread(block), 4)


class ErrorTests(BlockingTestCase):
    """Errors are those of the library, raised where the call is."""

    async def test_refused_command_raises_with_the_call_in_the_traceback(self) -> None:
        def block() -> str:
            with self.open() as handle:
                try:
                    handle.retrieve(99)
                except CommandError as error:
                    self.assertEqual(error.verb, "RETR")
                    return "".join(traceback.format_exception(error))
            raise AssertionError("it was not raised")

        told = await deferToThread(block)
        self.assertIn("handle.retrieve(99)", told)
        self.assertIn("no such message", told)

    async def test_connect_raises_login_and_usage_errors(self) -> None:
        def block() -> None:
            with self.assertRaises(LoginError):
                self.open(password="wrong")
            with self.assertRaises(UsageError):
                self.open(timeout=-1)
            with self.assertRaises(UsageError):
                connect("", "", "", reactor=reactor)

        await deferToThread(block)

    async def test_error_of_connect_shows_no_password(self) -> None:
        """Nor do the local variables of its traceback."""

        def block() -> None:
            password = "Zq7correct-horse"
            for options in ({}, {"timeout": -1}, {"auth": "NTLM"}, {"utf8": True}):
                with self.assertRaises((LoginError, UsageError)) as caught:
                    self.open(password=password, **options)
                self.assertEqual(leaks(caught.exception, [password]), [], options)

        await deferToThread(block)

    def test_connect_in_the_reactor_thread_is_refused(self) -> None:
        for given in (None, reactor):
            with self.assertRaises(UsageError) as caught:
                connect(self.server, USER, PASSWORD, reactor=given)
            self.assertIn("deferToThread", str(caught.exception))

    async def test_method_calls_in_the_reactor_thread_are_refused(self) -> None:
        handle = await deferToThread(self.open)
        for call in (handle.stat, handle.disconnect, lambda: next(iter(handle))):
            with self.assertRaises(UsageError) as caught:
                call()
            self.assertIn("deferToThread", str(caught.exception))
        self.assertEqual((await deferToThread(handle.stat)).count, 3)
        await deferToThread(handle.disconnect)


class CallableTests(BlockingTestCase):
    """In which thread the caller's own functions run."""

    async def test_a_password_callable_runs_in_the_callers_thread(self) -> None:
        def block() -> list[threading.Thread]:
            threads = [threading.current_thread()]

            def password() -> str:
                threads.append(threading.current_thread())
                # It may block, and even ask somebody else by mail.
                self.assertEqual(self.count(USERS[1]), 3)
                return PASSWORD

            self.open(password=password).disconnect()
            return threads

        caller, *threads = await deferToThread(block)
        self.assertEqual(threads, [caller])

    async def test_password_coroutine_runs_in_the_reactor_thread(self) -> None:
        threads = []

        async def password() -> str:
            threads.append(threading.current_thread())
            return PASSWORD

        handle = await deferToThread(self.open, password=password)
        await deferToThread(handle.disconnect)
        self.assertEqual(threads, [threading.current_thread()])

    async def test_error_of_password_callable_is_cause_of_usage_error(self) -> None:
        def password() -> str:
            raise KeyError("no such key")

        def block() -> BaseException | None:
            with self.assertRaises(UsageError) as caught:
                self.open(password=password)
            return caught.exception.__cause__

        self.assertIsInstance(await deferToThread(block), KeyError)
        await self.factory.when_left()

    async def test_keyboard_interrupt_in_password_callable_ends_connect(self) -> None:
        """As Ctrl-C does, at the prompt of getpass."""

        def password() -> str:
            raise KeyboardInterrupt

        def block() -> None:
            with self.assertRaises(KeyboardInterrupt):
                self.open(password=password)

        await deferToThread(block)
        await self.factory.when_left()

    async def test_status_procedure_runs_in_the_reactor_thread(self) -> None:
        threads = set()
        handle = await deferToThread(
            self.open, stsproc=lambda _: threads.add(threading.current_thread())
        )
        await deferToThread(handle.disconnect)
        self.assertEqual(threads, {threading.current_thread()})

    async def test_events_come_in_the_reactor_thread(self) -> None:
        threads = set()
        handle = await deferToThread(
            self.open, events=lambda _: threads.add(threading.current_thread())
        )
        await deferToThread(handle.disconnect)
        self.assertEqual(threads, {threading.current_thread()})


class ManyThreadsTests(BlockingTestCase):
    """Several threads at once."""

    async def test_sessions_in_several_threads_get_all_their_messages(self) -> None:
        def block(user: str) -> list[bytes | None]:
            with self.open(user) as handle:
                return [message.content for message in handle]

        found = await gatherResults([deferToThread(block, user) for user in USERS])
        self.assertEqual(found, [list(MESSAGES)] * len(USERS))

    async def test_threads_sharing_a_handle_get_their_own_replies(self) -> None:
        """Each gets its own answers, whatever the others do meanwhile."""
        handle = await deferToThread(self.open)
        together = threading.Barrier(4)

        def retrieve(number: int) -> set[bytes]:
            together.wait(10)
            return {handle.retrieve(number) for _ in range(25)}

        def iterate() -> set[bytes | None]:
            together.wait(10)
            return {message.content for _ in range(25) for message in handle}

        found = await gatherResults(
            [
                *(deferToThread(retrieve, number) for number in (1, 2, 3)),
                deferToThread(iterate),
            ]
        )
        self.assertEqual(found, [*({message} for message in MESSAGES), set(MESSAGES)])
        await deferToThread(handle.disconnect)

    async def test_other_sessions_continue_while_one_waits(self) -> None:
        self.factory.silent = (b"NOOP",)
        stuck = self.factory.when_stuck()
        idle, busy = await gatherResults(
            [deferToThread(self.open, user) for user in USERS[:2]]
        )
        waiting = deferToThread(idle.noop)
        await stuck
        self.assertEqual((await deferToThread(busy.stat)).count, 3)
        await deferToThread(busy.disconnect)
        await deferToThread(idle.abort)
        await self.assertFailure(waiting, ConnectionLostError)

    async def test_async_handle_works_with_blocking_call_from_thread(self) -> None:
        """`blockingCallFromThread` does for a handle of the reactor's thread."""
        handle = await api.connect(self.server, USER, PASSWORD)

        def block(number: int) -> bytes:
            return blockingCallFromThread(reactor, handle.retrieve, number)

        found = await gatherResults(
            [deferToThread(block, number) for number in (1, 2, 3)]
        )
        self.assertEqual(found, list(MESSAGES))
        await handle.disconnect()
