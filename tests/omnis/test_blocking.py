"""
The blocking form of the commands: real threads, several sockets, a demo server.

Trial's reactor runs in the main thread, so the commands are called in others.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread

from pop3connect import UsageError, omnis
from pop3connect.omnis import Omnis, blocking
from pop3connect.omnis.blocking import BlockingOmnis

from ..support.loopback import (
    MESSAGES,
    PASSWORD,
    ROOT,
    USERS,
    LoopbackTestCase,
    reactor,
)


class BlockingTestCase(LoopbackTestCase):
    """
    A family of its own, in its blocking form.
    """

    def setUp(self) -> None:
        super().setUp()
        self.omnis = BlockingOmnis(Omnis(reactor=reactor), reactor)

    def connect(self, user: str = USERS[0], *arguments: Any) -> int:
        return self.omnis.POP3Connect(self.server, user, PASSWORD, *arguments)


class CommandTests(BlockingTestCase):
    """
    Each command returns its number.
    """

    async def test_every_command_works_on_one_socket(self) -> None:
        def work() -> list[object]:
            mail, socket = self.omnis, self.connect(USERS[0], "", omnis.kFalse)
            rows: list[tuple[int, int]] = []
            header, message = bytearray(), bytearray()
            return [
                socket > 0,
                mail.POP3MessageCount(socket),
                mail.POP3RecvHeaders(socket, 1, header),
                header,
                mail.POP3RecvMessage(socket, 1, message),
                message,
                mail.POP3DeleteMessage(socket, 1),
                mail.POP3ListMessages(socket, 0, rows),
                [number for number, _ in rows],
                mail.POP3UndoDeletes(socket),
                mail.POP3Disconnect(socket),
                mail.POP3Disconnect(socket),
            ]

        self.assertEqual(
            await deferToThread(work),
            [
                *(True, 3, 0, b"Subject: one\r\n\r\n", 0, MESSAGES[0]),
                *(0, 0, [2, 3], 0, 0, -509),
            ],
        )

    async def test_one_shot_commands_open_and_close_a_session(self) -> None:
        def work() -> tuple[int, int, list[bytes], int]:
            mail: list[bytes] = []
            account = (self.server, USERS[0], PASSWORD)
            received = self.omnis.POP3Recv(*account, mail, True, "", 2)
            return self.omnis.POP3Stat(*account), received, mail, len(mail)

        count, received, mail, _ = await deferToThread(work)
        self.assertEqual((count, received), (1, 0))
        self.assertEqual(mail, list(MESSAGES[:2]))

    async def test_wrong_parameters_return_codes(self) -> None:
        def work() -> list[int]:
            return [
                self.omnis.POP3Connect(),  # type: ignore[call-arg]
                self.omnis.POP3Connect("", "ada", "x"),
                self.omnis.POP3Connect(7, "ada", "x"),  # type: ignore[arg-type]
                self.omnis.POP3MessageCount(99),
                self.omnis.MailSplit(b"", (), []),  # type: ignore[arg-type]
                self.omnis.WebDevSetConfig("print"),
                self.omnis.WebDevSetConfig("", -5),
            ]

        codes = await deferToThread(work)
        self.assertEqual(codes, [-503, -511, -501, -509, -501, -501, 0])
        self.assertEqual(self.omnis.omnis.timeout, 5)


class ThreadTests(BlockingTestCase):
    """
    Several threads, several sockets, and where procedures run.
    """

    async def test_threads_use_their_own_sockets_side_by_side(self) -> None:
        """
        The barrier shows that all sessions are open at once.
        """
        barrier = threading.Barrier(len(USERS), timeout=20)

        def work(user: str) -> tuple[int, list[bytes]]:
            socket = self.connect(user)
            barrier.wait()
            messages = []
            for number in (1, 2, 3):
                message = bytearray()
                self.omnis.POP3RecvMessage(socket, number, message)
                messages.append(bytes(message))
            self.omnis.POP3Disconnect(socket)
            return socket, messages

        done = await gatherResults([deferToThread(work, user) for user in USERS])
        self.assertEqual(len({socket for socket, _ in done}), len(USERS))
        for _, messages in done:
            self.assertEqual(messages, list(MESSAGES))

    async def test_threads_on_one_socket_take_turns(self) -> None:
        socket = await deferToThread(self.connect)

        def work(number: int) -> bytes:
            message = bytearray()
            self.omnis.POP3RecvMessage(socket, number, message)
            return bytes(message)

        numbers = (1, 2, 3) * 3
        done = await gatherResults([deferToThread(work, number) for number in numbers])
        self.assertEqual(done, [MESSAGES[number - 1] for number in numbers])
        self.assertEqual(await deferToThread(self.omnis.POP3Disconnect, socket), 0)

    async def test_stalled_socket_does_not_delay_another(self) -> None:
        self.factory.silent = (b"STAT",)
        one, two = [await deferToThread(self.connect, user) for user in USERS[:2]]
        stuck = self.factory.when_stuck()
        waiting = deferToThread(self.omnis.POP3MessageCount, one)
        await stuck
        message = bytearray()
        received = await deferToThread(self.omnis.POP3RecvMessage, two, 1, message)
        self.assertEqual((received, message), (0, MESSAGES[0]))
        self.drop_connections()
        self.assertEqual(await waiting, -10054)

    async def test_procedures_run_in_the_thread_that_called(self) -> None:
        ran: list[int] = []

        def password() -> str:
            ran.append(threading.get_ident())
            return PASSWORD

        def on_error(text: str, code: int, command: str) -> None:
            ran.append(threading.get_ident())

        def work() -> int:
            self.omnis.WebDevSetConfig(on_error)
            self.omnis.POP3Stat(
                self.server,
                USERS[0],
                password,
                lambda: ran.append(threading.get_ident()),
            )
            before = len(ran)
            self.omnis.POP3MessageCount(99)
            self.assertEqual(len(ran), before + 1)
            return threading.get_ident()

        here = await deferToThread(work)
        self.assertGreater(len(ran), 5)
        self.assertEqual(set(ran), {here})

    async def test_each_thread_finds_its_own_text_in_s1(self) -> None:
        barrier = threading.Barrier(2, timeout=20)
        before = omnis.S1

        def work(user: str) -> list[str]:
            found: list[str] = []
            self.connect(user, lambda: found.append(omnis.S1))
            barrier.wait()
            self.assertEqual(blocking.S1, found[-1])
            return found

        one, two = await gatherResults(
            [deferToThread(work, user) for user in USERS[:2]]
        )
        self.assertIn(f"C: APOP {USERS[0]} ********", one)
        self.assertNotIn(f"C: APOP {USERS[1]} ********", one)
        self.assertIn(f"C: APOP {USERS[1]} ********", two)
        self.assertEqual(omnis.S1, before)

    async def test_status_procedure_may_call_a_command(self) -> None:
        counts: list[int] = []

        def work() -> int:
            one, two = self.connect(USERS[0]), self.connect(USERS[1])

            def procedure() -> None:
                counts.append(self.omnis.POP3MessageCount(two))

            return self.omnis.POP3MessageCount(one, procedure)

        self.assertEqual(await deferToThread(work), 3)
        self.assertEqual(counts, [3, 3])

    async def test_status_procedure_that_raises_is_logged_once(self) -> None:
        def work() -> int:
            return self.connect(USERS[0], lambda: 1 / 0)

        self.assertGreater(await deferToThread(work), 0)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    async def test_async_error_procedure_is_awaited(self) -> None:
        told: list[int] = []

        async def procedure(text: str, code: int, command: str) -> None:
            turn: Deferred[None] = Deferred()
            reactor.callLater(0, turn.callback, None)
            await turn
            told.append(code)

        def work() -> list[int]:
            self.omnis.WebDevSetConfig(procedure)
            self.omnis.POP3MessageCount(99)
            return list(told)

        self.assertEqual(await deferToThread(work), [-509])

    async def test_secure_error_is_that_of_the_thread(self) -> None:
        def fail() -> str:
            self.omnis.set_omnis_folder("/nowhere")
            code = self.omnis.POP3Connect(self.server, USERS[0], PASSWORD, "", 1)
            self.assertEqual(code, -1021)
            return self.omnis.WebDevGetSecureError()

        thread_error = await deferToThread(fail)
        self.assertIn("/nowhere", thread_error)
        self.assertEqual(self.omnis.WebDevGetSecureError(), "")

    async def test_mailsplit_runs_in_the_thread_that_called(self) -> None:
        parsed: list[int] = []

        class Message(bytearray):
            def __bytes__(self) -> bytes:
                parsed.append(threading.get_ident())
                return bytes(MESSAGES[0])

        def work() -> tuple[int, list[Any], int]:
            rows: list[Any] = []
            code = self.omnis.MailSplit(Message(), rows, [])
            return code, rows, threading.get_ident()

        code, rows, here = await deferToThread(work)
        self.assertEqual((code, rows), (0, [("Subject", "one")]))
        self.assertEqual(parsed, [here])


class ReactorTests(BlockingTestCase):
    """
    Where a blocking command cannot work, and where it starts the reactor itself.
    """

    def test_call_in_the_reactor_thread_returns_minus_699(self) -> None:
        told: list[tuple[str, int, str]] = []
        self.omnis.omnis.error_procedure = lambda *error: told.append(error)
        self.assertEqual(self.omnis.POP3MessageCount(1), -699)
        [(text, code, command)] = told
        self.assertEqual((code, command), (-699, "POP3MessageCount"))
        self.assertIn("reactor's own thread", text)
        self.assertEqual(len(self.flushLoggedErrors(UsageError)), 1)

    async def test_functions_of_the_module_start_the_reactor(self) -> None:
        program = await self.run_script(
            "from pop3connect.omnis.blocking import *\n"
            "socket = POP3Connect(server, user, password, '', kFalse)\n"
            "print(socket, POP3MessageCount(socket), POP3Disconnect(socket))\n"
        )
        self.assertEqual(program.output.split(), ["1", "3", "0"])

    def test_importing_the_blocking_form_starts_nothing(self) -> None:
        code = (
            "import sys, threading, pop3connect.omnis.blocking\n"
            "print('twisted.internet.reactor' in sys.modules, 'crochet' in sys.modules,"
            " threading.active_count())"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
        )
        self.assertEqual(done.stdout.split(), ["False", "False", "1"])


class SurfaceTests(BlockingTestCase):
    """
    The blocking form has every name of the other.
    """

    def test_blocking_module_has_every_command_of_the_family(self) -> None:
        missing = set(omnis.__all__) - set(blocking.__all__)
        self.assertEqual(missing, {"Omnis"})
        commands: list[Callable[..., int]] = [blocking.POP3Connect, blocking.MailSplit]
        for command in commands:
            self.assertIs(command.__self__.omnis, omnis.POP3Connect.__self__)  # type: ignore[attr-defined]


class ExampleTests(BlockingTestCase):
    """
    The examples of the documentation.
    """

    async def test_threads_example_counts_each_mailbox(self) -> None:
        program = self.start(
            str(ROOT / "examples" / "omnis_threads.py"),
            *(self.server, PASSWORD, "ann", "bob", "nobody"),
        )
        self.assertEqual(await program.ended, 0, program.errors)
        self.assertEqual(
            program.output.splitlines(),
            ["ann: 3 messages", "bob: 3 messages", "nobody: login refused"],
        )

    async def test_mailsplit_example_prints_subject_text_and_attachments(self) -> None:
        program = self.start(
            str(ROOT / "examples" / "omnis_mailsplit.py"), PYTHONIOENCODING="utf-8"
        )
        assert program.transport is not None
        program.transport.write(
            b"Subject: =?utf-8?q?zw=C3=B6lf?=\n"
            b"Content-Type: multipart/mixed; boundary=x\n\n"
            b"--x\n\nhello\n--x\n"
            b"Content-Disposition: attachment; filename=a.bin\n\n12345\n--x--\n"
        )
        program.go_on()
        self.assertEqual(await program.ended, 0, program.errors)
        self.assertEqual(
            program.output.splitlines(),
            ["subject: zw\xf6lf", "hello", "attachment: a.bin 5"],
        )
