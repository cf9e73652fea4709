"""
The Omnis family: sockets, codes, and that no command ever fails but by a number.
"""

from __future__ import annotations

import errno
import inspect
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectError as TwistedConnectError
from twisted.internet.error import DNSLookupError

from pop3connect import Handle, connect, errors, omnis
from pop3connect.errors import (
    CommandError,
    ConnectError,
    ConnectionLostError,
    LoginError,
    POP3Error,
    TimedOutError,
)
from pop3connect.omnis import Code, Omnis, error_text
from pop3connect.omnis.codes import CODES, code_of
from pop3connect.omnis.sockets import FOLDER_VARIABLE

from ..support.memory import SessionTestCase

ROOT = Path(__file__).absolute().parents[2]

COMMANDS = [name for name in omnis.__all__ if name.startswith(("POP3", "WebDevSet"))]

CONNECT = ("pop.example.com", "ada", "lovelace")


class OmnisTestCase(SessionTestCase):
    """
    A family of its own, on a wire in memory.
    """

    def _begin(self) -> None:
        super()._begin()
        self.told: list[tuple[str, int, str]] = []
        self.options: dict[str, Any] = {}
        self.omnis = Omnis(self.connect, self.clock)
        self.code(
            self.omnis.WebDevSetConfig(
                lambda text, code, command: self.told.append((text, code, command))
            )
        )

    def connect(self, *arguments: Any, **options: Any) -> Deferred[Handle]:
        self.options = options
        return connect(*arguments, **options, endpoint=self.server)

    def code(self, answer: Deferred[int]) -> int:
        """
        Return the number that a command has come to.
        """
        number: int = self.result(answer)
        self.assertIsInstance(number, int)
        return number

    def log_in_as(self, opening: Deferred[int], *more: bytes) -> None:
        """
        Be the server of a login, and answer STAT and the like.
        """
        self.server.say(b"+OK ready\r\n")
        self.server.expect(b"CAPA", b"+OK\r\nUSER\r\nTOP\r\n.\r\n")
        self.server.expect(b"USER ada", b"+OK\r\n")
        self.server.expect(b"PASS lovelace", b"+OK\r\n")
        self.server.expect(b"CAPA", b"+OK\r\nUSER\r\nTOP\r\n.\r\n")

    def socket(self, *arguments: Any) -> int:
        opening = self.omnis.POP3Connect(*CONNECT, *arguments)
        self.log_in_as(opening)
        number = self.code(opening)
        self.assertGreater(number, 0)
        return number

    def answered(
        self, answer: Deferred[int], line: bytes, reply: bytes, code: int = 0
    ) -> None:
        """
        Check that this is sent, and what the reply makes of it.
        """
        self.server.expect(line, reply)
        self.assertEqual(self.code(answer), code)

    def assertTold(self, code: int, command: str, *words: str) -> None:
        """
        Check the one error that was told since the last time.
        """
        [(text, told, name)] = self.told
        self.told.clear()
        self.assertEqual((told, name), (code, command))
        for word in words:
            self.assertIn(word, text)


class SocketTests(OmnisTestCase):
    """
    A session is a small number above zero.
    """

    def test_every_command_works_on_one_socket(self) -> None:
        socket = self.socket()
        count = self.omnis.POP3MessageCount(socket)
        self.answered(count, b"STAT", b"+OK 2 320\r\n", 2)
        rows: list[tuple[int, int]] = [(9, 9)]
        self.answered(
            self.omnis.POP3ListMessages(socket, 0, rows),
            b"LIST",
            b"+OK\r\n1 120\r\n2 200\r\n.\r\n",
        )
        self.assertEqual(rows, [(1, 120), (2, 200)])
        self.answered(
            self.omnis.POP3ListMessages(socket, 2, rows), b"LIST 2", b"+OK 2 200\r\n"
        )
        self.assertEqual(rows, [(2, 200)])
        headers = bytearray(b"old")
        self.answered(
            self.omnis.POP3RecvHeaders(socket, 1, headers),
            b"TOP 1 0",
            b"+OK\r\nSubject: x\r\n\r\n.\r\n",
        )
        self.assertEqual(headers, b"Subject: x\r\n\r\n")
        message = bytearray(b"old")
        self.answered(
            self.omnis.POP3RecvMessage(socket, 1, message),
            b"RETR 1",
            b"+OK\r\nSubject: x\r\n\r\n..hi\r\n.\r\n",
        )
        self.assertEqual(message, b"Subject: x\r\n\r\n.hi\r\n")
        self.answered(self.omnis.POP3DeleteMessage(socket, 1), b"DELE 1", b"+OK\r\n")
        # The count has those that are marked in it; STAT has not.
        count = self.omnis.POP3MessageCount(socket)
        self.answered(count, b"STAT", b"+OK 1 200\r\n", 2)
        self.answered(self.omnis.POP3UndoDeletes(socket), b"RSET", b"+OK\r\n")
        count = self.omnis.POP3MessageCount(socket)
        self.answered(count, b"STAT", b"+OK 2 320\r\n", 2)
        self.answered(self.omnis.POP3Disconnect(socket), b"QUIT", b"+OK\r\n")
        self.assertEqual(self.told, [])

    def test_socket_number_is_never_reused(self) -> None:
        numbers = []
        for _ in range(3):
            numbers.append(self.socket())
            ending = self.omnis.POP3Disconnect(numbers[-1])
            self.answered(ending, b"QUIT", b"+OK\r\n")
            self.server = type(self.server)(self.clock)
        self.assertEqual(numbers, [1, 2, 3])

    def test_invalid_socket_returns_minus_509_from_every_command(self) -> None:
        """
        Unknown, closed, or not even an int.
        """
        socket = self.socket()
        self.answered(self.omnis.POP3Disconnect(socket), b"QUIT", b"+OK\r\n")
        commands: list[Callable[[Any], Deferred[int]]] = [
            self.omnis.POP3Disconnect,
            self.omnis.POP3MessageCount,
            lambda socket: self.omnis.POP3ListMessages(socket, 0, []),
            lambda socket: self.omnis.POP3RecvHeaders(socket, 1, bytearray()),
            lambda socket: self.omnis.POP3RecvMessage(socket, 1, bytearray()),
            lambda socket: self.omnis.POP3DeleteMessage(socket, 1),
            self.omnis.POP3UndoDeletes,
        ]
        for wrong in (socket, 0, -509, 77, True, 1.0, "1", None, [1]):
            for command in commands:
                self.assertEqual(self.code(command(wrong)), -509)
        self.assertEqual(len(self.told), 9 * len(commands))
        self.assertIn("POP3Connect", self.told[0][0])

    def test_lost_connection_fails_commands_until_socket_is_released(self) -> None:
        """
        Each command says how it was lost, and POP3Disconnect releases the socket.
        """
        socket = self.socket()
        self.server.lose()
        self.assertEqual(self.code(self.omnis.POP3MessageCount(socket)), -10054)
        self.assertEqual(self.code(self.omnis.POP3Disconnect(socket)), -10054)
        self.assertEqual(self.code(self.omnis.POP3Disconnect(socket)), -509)

    def test_disconnect_releases_the_socket_whatever_it_returns(self) -> None:
        socket = self.socket()
        ending = self.omnis.POP3Disconnect(socket)
        self.answered(ending, b"QUIT", b"-ERR some are left\r\n", -600)
        self.assertTold(-600, "POP3Disconnect", "some are left")
        self.assertEqual(self.code(self.omnis.POP3Disconnect(socket)), -509)

    def test_commands_on_one_socket_are_carried_out_in_order(self) -> None:
        socket = self.socket()
        answers = [
            self.omnis.POP3MessageCount(socket),
            self.omnis.POP3DeleteMessage(socket, 1),
            self.omnis.POP3Disconnect(socket),
            self.omnis.POP3MessageCount(socket),
        ]
        self.pending(*answers)
        self.server.expect(b"STAT", b"+OK 1 5\r\n")
        self.server.expect(b"DELE 1", b"+OK\r\n")
        self.server.expect(b"QUIT", b"+OK\r\n")
        self.assertEqual([self.code(answer) for answer in answers], [1, 0, 0, -509])

    def test_pending_command_on_one_socket_does_not_delay_another(self) -> None:
        one, first = self.socket(), self.server
        self.server = type(first)(self.clock)
        two = self.socket()
        waiting = self.omnis.POP3MessageCount(one)
        self.answered(self.omnis.POP3MessageCount(two), b"STAT", b"+OK 7 7\r\n", 7)
        self.assertNoResult(waiting)
        first.expect(b"STAT", b"+OK 5 5\r\n")
        self.assertEqual(self.successResultOf(waiting), 5)
        first.lose()

    def test_cancelled_command_returns_minus_516_and_later_ones_continue(self) -> None:
        """
        Also a command that is given up has a number; what comes after it goes on.
        """
        socket = self.socket()
        first = self.omnis.POP3MessageCount(socket)
        second = self.omnis.POP3MessageCount(socket)
        third = self.omnis.POP3MessageCount(socket)
        second.cancel()
        first.cancel()
        self.assertEqual([self.code(first), self.code(second)], [-516, -516])
        self.server.expect(b"STAT", b"+OK 1 5\r\n")
        self.answered(third, b"STAT", b"+OK 2 5\r\n", 2)

    def test_cancelled_connect_returns_minus_516_and_closes(self) -> None:
        opening = self.omnis.POP3Connect(*CONNECT)
        opening.cancel()
        self.assertEqual(self.code(opening), -516)
        self.assertClosed()


class StatusProcedureTests(OmnisTestCase):
    """
    Each command has its own status procedure.
    """

    def test_status_procedure_receives_only_its_own_command(self) -> None:
        opening: list[str] = []
        counting: list[str] = []
        socket = self.socket(opening.append)
        self.assertIn("C: PASS ********", opening)
        told = len(opening)
        counts = [
            self.omnis.POP3MessageCount(socket, counting.append),
            self.omnis.POP3MessageCount(socket),
        ]
        self.server.expect(b"STAT", b"+OK 1 5\r\n")
        self.server.expect(b"STAT", b"+OK 2 5\r\n")
        self.assertEqual([self.code(count) for count in counts], [1, 2])
        self.assertEqual(counting, ["C: STAT", "S: +OK 1 5"])
        self.assertEqual(len(opening), told)

    def test_error_in_status_procedure_is_logged_and_command_succeeds(self) -> None:
        def broken(text: str) -> None:
            raise ValueError("broken")

        socket = self.socket(broken)
        self.answered(
            self.omnis.POP3MessageCount(socket, broken), b"STAT", b"+OK 3 5\r\n", 3
        )
        self.assertGreater(len(self.flushLoggedErrors(ValueError)), 1)


class OneShotTests(OmnisTestCase):
    """
    POP3Stat and POP3Recv open a session and close it.
    """

    LIST = b"+OK\r\n1 5\r\n2 6\r\n3 7\r\n.\r\n"

    def test_stat_returns_the_count_and_closes(self) -> None:
        answer = self.omnis.POP3Stat(*CONNECT, self.status.append)
        self.log_in_as(answer)
        self.server.expect(b"STAT", b"+OK 12 320\r\n")
        self.answered(answer, b"QUIT", b"+OK\r\n", 12)
        self.assertIn("S: +OK 12 320", self.status)
        self.assertClosed()

    def test_refused_stat_returns_minus_600_and_closes(self) -> None:
        answer = self.omnis.POP3Stat(*CONNECT)
        self.log_in_as(answer)
        self.answered(answer, b"STAT", b"-ERR [SYS/TEMP] busy\r\n", -600)
        self.assertClosed()
        self.assertTold(-600, "POP3Stat", "busy")

    def receive(self, *arguments: Any) -> tuple[Deferred[int], list[bytes]]:
        messages = [b"old"]
        answer = self.omnis.POP3Recv(*CONNECT, messages, *arguments)
        self.log_in_as(answer)
        self.server.expect(b"LIST", self.LIST)
        return answer, messages

    def test_recv_replaces_the_list_with_all_messages(self) -> None:
        answer, messages = self.receive()
        for number in (1, 2, 3):
            self.server.expect(b"RETR %d" % number, b"+OK\r\nm%d\r\n.\r\n" % number)
        self.answered(answer, b"QUIT", b"+OK\r\n")
        self.assertEqual(messages, [b"m1\r\n", b"m2\r\n", b"m3\r\n"])

    def test_recv_with_limit_and_delete_deletes_only_those_received(self) -> None:
        answer, messages = self.receive(True, None, 2)
        self.server.expect(b"RETR 1", b"+OK\r\nm1\r\n.\r\n")
        self.server.expect(b"RETR 2", b"+OK\r\nm2\r\n.\r\n")
        self.server.expect(b"DELE 1", b"+OK\r\n")
        self.server.expect(b"DELE 2", b"+OK\r\n")
        self.answered(answer, b"QUIT", b"+OK\r\n")
        self.assertEqual(messages, [b"m1\r\n", b"m2\r\n"])

    def test_refused_retr_in_recv_deletes_no_message(self) -> None:
        """
        What has come is in the list, and still on the server.
        """
        answer, messages = self.receive(True)
        self.server.expect(b"RETR 1", b"+OK\r\nm1\r\n.\r\n")
        self.server.expect(b"RETR 2", b"-ERR broken\r\n")
        self.server.settle()
        self.assertEqual(self.code(answer), -600)
        self.assertEqual(messages, [b"m1\r\n"])
        self.assertNotIn(b"DELE", self.server.heard())
        self.assertClosed()

    def test_refused_deletions_in_recv_return_minus_600(self) -> None:
        answer, messages = self.receive(True, None, 2)
        self.server.expect(b"RETR 1", b"+OK\r\nm1\r\n.\r\n")
        self.server.expect(b"RETR 2", b"+OK\r\nm2\r\n.\r\n")
        self.server.expect(b"DELE 1", b"-ERR read-only\r\n")
        self.server.expect(b"DELE 2", b"-ERR read-only\r\n")
        self.assertEqual(self.code(answer), -600)
        self.assertEqual(len(messages), 2)
        self.assertClosed()


class ParameterTests(OmnisTestCase):
    """
    Wrong parameters are numbers too, and nothing is sent.
    """

    def test_wrong_number_of_parameters_returns_minus_503(self) -> None:
        for name in COMMANDS:
            command = getattr(self.omnis, name)
            parameters = inspect.signature(command).parameters.values()
            needed = [p for p in parameters if p.default is p.empty]
            if needed:
                self.assertEqual(self.code(command(*[1] * (len(needed) - 1))), -503)
            self.assertEqual(self.code(command(*[1] * (len(parameters) + 1))), -503)
            self.assertEqual(self.code(command(**{"no such": 1})), -503)
        self.assertEqual({name for _, _, name in self.told}, set(COMMANDS))

    def test_wrong_parameter_types_return_minus_501_and_send_nothing(self) -> None:
        socket = self.socket()
        for answer in (
            self.omnis.POP3Connect(b"host", "ada", "x"),  # type: ignore[arg-type]
            self.omnis.POP3Connect("host", 7, "x"),  # type: ignore[arg-type]
            self.omnis.POP3Connect("host", "ada", b"secret"),  # type: ignore[arg-type]
            self.omnis.POP3Connect("host", "ada", "x", "print"),  # type: ignore[arg-type]
            self.omnis.POP3Connect("host", "ada", "x", None, 3),
            self.omnis.POP3Connect("host", "ada", "x", None, 0, "yes"),  # type: ignore[arg-type]
            self.omnis.POP3Connect("ho st", "ada", "x"),
            self.omnis.POP3Recv("host", "ada", "x", ()),  # type: ignore[arg-type]
            self.omnis.POP3Recv("host", "ada", "x", [], False, None, -1),
            self.omnis.POP3ListMessages(socket, 0, ()),  # type: ignore[arg-type]
            self.omnis.POP3ListMessages(socket, "1", []),  # type: ignore[arg-type]
            self.omnis.POP3RecvHeaders(socket, 1, b""),  # type: ignore[arg-type]
            self.omnis.POP3RecvMessage(socket, 1, ""),  # type: ignore[arg-type]
            self.omnis.POP3RecvMessage(socket, True, bytearray()),
            self.omnis.POP3DeleteMessage(socket, None),  # type: ignore[arg-type]
            self.omnis.POP3MessageCount(socket, "print"),  # type: ignore[arg-type]
            self.omnis.WebDevSetConfig("print"),  # type: ignore[arg-type]
            self.omnis.WebDevSetConfig(None, -1),
            self.omnis.WebDevSetConfig(None, "60"),  # type: ignore[arg-type]
        ):
            self.assertEqual(self.code(answer), -501)
        self.assertEqual(self.server.heard(), b"")
        self.assertNotIn("secret", str(self.told))

    def test_empty_server_name_returns_minus_511(self) -> None:
        for server in ("", "  "):
            self.assertEqual(
                self.code(self.omnis.POP3Connect(server, "ada", "x")), -511
            )

    def test_missing_or_deleted_message_returns_minus_604(self) -> None:
        socket = self.socket()
        self.answered(self.omnis.POP3DeleteMessage(socket, 1), b"DELE 1", b"+OK\r\n")
        for number in (0, -1, 1):
            answer = self.omnis.POP3RecvMessage(socket, number, bytearray())
            self.assertEqual(self.code(answer), -604, number)
        for line, answer in (
            (b"RETR 9", self.omnis.POP3RecvMessage(socket, 9, bytearray())),
            (b"TOP 9 0", self.omnis.POP3RecvHeaders(socket, 9, bytearray())),
            (b"LIST 9", self.omnis.POP3ListMessages(socket, 9, [])),
            (b"DELE 9", self.omnis.POP3DeleteMessage(socket, 9)),
        ):
            self.answered(answer, line, b"-ERR no such message\r\n", -604)
        busy = self.omnis.POP3RecvMessage(socket, 9, bytearray())
        self.answered(busy, b"RETR 9", b"-ERR [SYS/TEMP] busy\r\n", -600)


class SettingsTests(OmnisTestCase):
    """
    WebDevSetConfig, WebDevGetSecureError, and the folder of Omnis.
    """

    def options_of(self, *arguments: Any) -> dict[str, Any]:
        self.server = type(self.server)(self.clock)
        opening = self.omnis.POP3Connect(*CONNECT, *arguments)
        opening.cancel()
        self.code(opening)
        options, self.options = self.options, {}
        return options

    def test_commstimeout_sets_both_timeouts_and_zero_restores_60(self) -> None:
        def seconds() -> object:
            options = self.options_of()
            self.assertEqual(options["timeout"], options["connect_timeout"])
            return options["timeout"]

        self.assertEqual(seconds(), 60)
        for commstimeout, expected in ((5, 5), (None, 5), (0, 60), (2.5, 2.5)):
            self.code(self.omnis.WebDevSetConfig(None, commstimeout))
            self.assertEqual(seconds(), expected)

    def test_connecting_beyond_the_timeout_returns_minus_522(self) -> None:
        opening = self.omnis.POP3Connect(*CONNECT)
        self.clock.advance(60)
        self.assertEqual(self.code(opening), -522)
        self.assertTold(-522, "POP3Connect", "60 seconds")

    def test_error_procedure_is_called_before_the_code_is_returned(self) -> None:
        """
        It is called before the code is returned; one that fails does no harm.
        """
        order: list[object] = []
        self.code(self.omnis.WebDevSetConfig(lambda *told: order.append(told)))
        self.omnis.POP3MessageCount(5).addCallback(order.append)
        self.assertEqual([type(what) for what in order], [tuple, Code])
        self.code(self.omnis.WebDevSetConfig(lambda *told: 1 / 0))
        self.assertEqual(self.code(self.omnis.POP3MessageCount(5)), -509)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.code(self.omnis.WebDevSetConfig())
        self.assertEqual(self.code(self.omnis.POP3MessageCount(5)), -509)
        self.assertEqual(len(order), 2)

    def test_secure_error_is_set_after_a_failed_tls_handshake(self) -> None:
        self.assertEqual(self.omnis.WebDevGetSecureError(), "")
        opening = self.omnis.POP3Connect(*CONNECT, None, 1, False)
        self.server.settle()
        self.server.heard()
        self.server.raw(b"+OK this is no TLS at all\r\n" * 10)
        self.assertEqual(self.code(opening), -1021)
        self.assertTrue(self.omnis.WebDevGetSecureError())

    def test_missing_stls_returns_minus_603(self) -> None:
        opening = self.omnis.POP3Connect(*CONNECT, None, 2, False)
        self.server.say(b"+OK ready\r\n")
        self.server.expect(b"CAPA", b"+OK\r\nUSER\r\n.\r\n")
        self.server.settle()
        self.assertEqual(self.code(opening), -603)

    def test_refused_login_returns_the_code_for_its_reason(self) -> None:
        for reply, code in (
            (b"-ERR [AUTH] no\r\n", -601),
            (b"-ERR no\r\n", -601),
            (b"-ERR [IN-USE] no\r\n", -602),
        ):
            opening = self.omnis.POP3Connect(*CONNECT)
            self.server.say(b"+OK ready\r\n")
            self.server.expect(b"CAPA", b"+OK\r\nUSER\r\n.\r\n")
            self.server.expect(b"USER ada", b"+OK\r\n")
            self.server.expect(b"PASS lovelace", reply)
            self.server.expect(b"QUIT", b"+OK\r\n")
            self.assertEqual(self.code(opening), code)
            self.assertNotIn("lovelace", str(self.told))
            self.anew()

    def test_greeting_that_is_not_pop3_returns_minus_523(self) -> None:
        opening = self.omnis.POP3Connect(*CONNECT)
        self.server.say(b"220 smtp.example.com ESMTP\r\n")
        self.assertEqual(self.code(opening), -523)

    def test_cacerts_come_from_the_omnis_folder_or_the_environment(self) -> None:
        """
        ``secure/cacerts`` below the folder that was set, or that the environment names.
        """
        root = Path(self.mktemp())
        cacerts = root / "secure" / "cacerts"
        self.assertIs(self.options_of(None, 1)["cacerts"], None)
        self.omnis.set_omnis_folder(root)
        self.assertEqual(self.code(self.omnis.POP3Connect(*CONNECT, None, 1)), -1021)
        self.assertIn(str(cacerts), self.omnis.WebDevGetSecureError())
        cacerts.mkdir(parents=True)
        self.assertEqual(self.code(self.omnis.POP3Connect(*CONNECT, None, 1)), -1021)
        self.assertIn("no usable certificate", self.omnis.WebDevGetSecureError())
        self.assertEqual(self.options["cacerts"], cacerts)
        # Where nothing is verified, nobody is trusted.
        self.assertIs(self.options_of(None, 1, False)["cacerts"], None)
        self.assertIs(self.options_of(None, 0)["cacerts"], None)
        self.omnis.set_omnis_folder(None)
        self.patch(os, "environ", {FOLDER_VARIABLE: str(root)})
        self.code(self.omnis.POP3Connect(*CONNECT, None, 1))
        self.assertEqual(self.options["cacerts"], cacerts)


class CodeTests(OmnisTestCase):
    """
    Each error has its code, and each code its text.
    """

    def test_every_class_of_errors_is_in_the_table(self) -> None:
        classes = {
            value
            for value in vars(errors).values()
            if isinstance(value, type) and issubclass(value, POP3Error)
        }
        self.assertEqual(classes - set(CODES), set())

    def test_each_error_has_the_code_of_its_type_and_cause(self) -> None:
        def caused(error: POP3Error, cause: Exception) -> POP3Error:
            error.__cause__ = cause
            return error

        refused = TwistedConnectError(osError=errno.ECONNREFUSED)
        wrapped = OSError("no number")
        wrapped.__cause__ = OSError(errno.ENETUNREACH, "unreachable")
        for error, code in (
            (caused(ConnectError("x"), refused), -10061),
            (caused(ConnectError("x"), wrapped), -10051),
            (caused(ConnectError("x"), DNSLookupError()), -11001),
            (caused(ConnectError("x"), ValueError("x")), -605),
            (ConnectError("x"), -605),
            (caused(ConnectionLostError("x"), OSError(errno.EHOSTUNREACH, "")), -10065),
            (ConnectionLostError("x"), -10054),
            (TimedOutError("x", phase="connecting", seconds=1), -10060),
            (TimedOutError("x", phase="reply", seconds=1), -522),
            (CommandError("x", code="IN-USE"), -602),
            (CommandError("x", code="SYS/PERM"), -600),
            (LoginError("x", code="IN-USE"), -602),
            (MemoryError(), -1010),
            (ZeroDivisionError(), -699),
        ):
            self.assertEqual(code_of(error), code, repr(error))

    def test_circular_causes_return_minus_605(self) -> None:
        error = ConnectError("x")
        cause = ValueError()
        error.__cause__, cause.__cause__ = cause, error
        self.assertEqual(code_of(error), -605)

    def test_every_code_has_its_own_text(self) -> None:
        texts = [code.text for code in Code]
        self.assertEqual(len(texts), len(set(texts)))
        self.assertEqual(error_text(-509), Code.BAD_SOCKET.text)
        self.assertEqual(error_text(-1), "-1 is not a code")
        # What a count can be is no error.
        self.assertEqual([code for code in Code if code >= 0], [Code.OK])

    def test_the_documentation_has_every_code(self) -> None:
        page = (ROOT / "docs" / "omnis.rst").read_text()
        listed = {int(code) for code in re.findall(r"-\d{3,5}\b", page)}
        missing = {int(code) for code in Code if code < 0} - listed
        self.assertEqual({code for code in missing if code > -10000}, set())

    def test_unexpected_error_is_logged_and_returns_minus_699(self) -> None:
        """
        Not even by a mistake of ours: it is logged, and has a number.
        """
        broken = Omnis(lambda *_, **__: fail(ZeroDivisionError("a mistake")))
        self.assertEqual(self.code(broken.POP3Connect(*CONNECT)), -699)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_memory_error_returns_minus_1010(self) -> None:
        broken = Omnis(lambda *_, **__: fail(MemoryError()))
        self.assertEqual(self.code(broken.POP3Connect(*CONNECT)), -1010)


class ModuleTests(OmnisTestCase):
    """
    The functions of the module.
    """

    def test_module_functions_are_methods_of_one_omnis_instance(self) -> None:
        for name in (*COMMANDS, "WebDevGetSecureError", "set_omnis_folder"):
            function = getattr(omnis, name)
            self.assertIs(function.__self__, omnis.POP3Connect.__self__)  # type: ignore[attr-defined]
            self.assertTrue(function.__doc__)

    def test_the_parameters_are_called_as_in_omnis(self) -> None:
        connection = "stsproc secure verify"
        for name, parameters in {
            "POP3Connect": f"server username password {connection}",
            "POP3Disconnect": "socket stsproc",
            "POP3Stat": f"server user password {connection}",
            "POP3Recv": "server user password list delete stsproc maxmessages "
            "secure verify",
            "POP3MessageCount": "socket stsproc",
            "POP3ListMessages": "socket messagenumber list stsproc",
            "POP3RecvHeaders": "socket messagenumber headers stsproc",
            "POP3RecvMessage": "socket messagenumber message stsproc",
            "POP3DeleteMessage": "socket messagenumber stsproc",
            "POP3UndoDeletes": "socket stsproc",
            "WebDevSetConfig": "errorproc commstimeout",
        }.items():
            signature = inspect.signature(getattr(omnis, name))
            self.assertEqual(" ".join(signature.parameters), parameters, name)

    def test_parameter_named_list_can_be_passed_by_keyword(self) -> None:
        socket, rows = self.socket(), [(9, 9)]
        answer = self.omnis.POP3ListMessages(socket, messagenumber=0, list=rows)
        self.answered(answer, b"LIST", b"+OK\r\n1 17\r\n.\r\n")
        self.assertEqual(rows, [(1, 17)])
