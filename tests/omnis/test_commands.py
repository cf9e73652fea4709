"""
The Omnis family: sockets, codes, and that no command ever fails but by a number.
"""

from __future__ import annotations

import errno
import inspect
import os
import pydoc
import re
from collections.abc import Callable
from pathlib import Path
from traceback import walk_tb
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
from pop3connect.omnis import Code, Omnis, blocking, error_text
from pop3connect.omnis.codes import CODES, code_of
from pop3connect.omnis.procedures import Caller, GivenPassword
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

    def test_header_is_refused_as_a_message_if_top_is_announced_after_the_login(
        self,
    ) -> None:
        opening = self.omnis.POP3Connect(*CONNECT)
        self.server.say(b"+OK ready\r\n")
        self.server.expect(b"CAPA", b"+OK\r\nUSER\r\nPIPELINING\r\n.\r\n")
        self.server.expect(b"USER ada", b"+OK\r\n")
        self.server.expect(b"PASS lovelace", b"+OK\r\n")
        answer = self.omnis.POP3RecvHeaders(self.code(opening), 7, bytearray())
        self.answered(
            answer,
            b"CAPA\r\nTOP 7 0",
            b"+OK\r\nTOP\r\n.\r\n-ERR no such message\r\n",
            Code.NO_SUCH_MESSAGE,
        )
        self.assertTold(Code.NO_SUCH_MESSAGE, "POP3RecvHeaders", "no such message")

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
        # Once for the session, although each line of it fails.
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_empty_status_procedure_means_none_in_every_command(self) -> None:
        opening = self.omnis.POP3Connect(*CONNECT, "", 0, True)
        self.log_in_as(opening)
        socket = self.code(opening)
        self.answered(
            self.omnis.POP3MessageCount(socket, ""), b"STAT", b"+OK 1 5\r\n", 1
        )
        self.answered(
            self.omnis.POP3ListMessages(socket, 0, [], ""),
            b"LIST",
            b"+OK\r\n1 5\r\n.\r\n",
        )
        self.answered(
            self.omnis.POP3DeleteMessage(socket, 1, ""), b"DELE 1", b"+OK\r\n"
        )
        self.answered(self.omnis.POP3UndoDeletes(socket, ""), b"RSET", b"+OK\r\n")
        self.answered(
            self.omnis.POP3RecvHeaders(socket, 1, bytearray(), ""),
            b"TOP 1 0",
            b"+OK\r\n\r\n.\r\n",
        )
        self.answered(
            self.omnis.POP3RecvMessage(socket, 1, bytearray(), ""),
            b"RETR 1",
            b"+OK\r\n\r\n.\r\n",
        )
        self.answered(self.omnis.POP3Disconnect(socket, ""), b"QUIT", b"+OK\r\n")
        self.anew()
        answer = self.omnis.POP3Stat(*CONNECT, "")
        self.log_in_as(answer)
        self.server.expect(b"STAT", b"+OK 12 320\r\n")
        self.answered(answer, b"QUIT", b"+OK\r\n", 12)
        self.anew()
        answer = self.omnis.POP3Recv(*CONNECT, [], False, "", 0)
        self.log_in_as(answer)
        self.server.expect(b"LIST", b"+OK\r\n.\r\n")
        self.answered(answer, b"QUIT", b"+OK\r\n", 0)
        self.assertEqual(self.told, [])

    def test_status_procedure_without_parameters_finds_the_text_in_s1(self) -> None:
        found: list[str] = []

        def procedure() -> None:
            found.append(omnis.S1)

        opening = self.omnis.POP3Connect(*CONNECT, procedure)
        self.log_in_as(opening)
        socket = self.code(opening)
        self.assertEqual(found[0], "S: +OK ready")
        self.assertIn("C: PASS ********", found)
        found.clear()
        count = self.omnis.POP3MessageCount(socket, procedure)
        self.answered(count, b"STAT", b"+OK 3 5\r\n", 3)
        self.assertEqual(found, ["C: STAT", "S: +OK 3 5"])
        # The text of this thread, whichever form of the commands has set it.
        self.assertEqual(omnis.S1, "S: +OK 3 5")
        self.assertEqual(blocking.S1, omnis.S1)

    def test_two_sessions_find_their_own_text_in_s1(self) -> None:
        found: dict[str, list[str]] = {"one": [], "two": []}
        one = self.socket()
        first = self.server
        self.server = type(first)(self.clock)
        two = self.socket()
        counts = [
            self.omnis.POP3MessageCount(one, lambda: found["one"].append(omnis.S1)),
            self.omnis.POP3MessageCount(two, lambda: found["two"].append(omnis.S1)),
        ]
        self.server.expect(b"STAT", b"+OK 2 2\r\n")
        first.expect(b"STAT", b"+OK 1 1\r\n")
        self.assertEqual([self.code(count) for count in counts], [1, 2])
        self.assertEqual(found["one"], ["C: STAT", "S: +OK 1 1"])
        self.assertEqual(found["two"], ["C: STAT", "S: +OK 2 2"])
        first.lose()

    def test_optional_parameter_of_a_status_procedure_receives_the_text(self) -> None:
        found: list[object] = []

        def procedure(text: object = None) -> None:
            found.append(text)

        socket = self.socket()
        count = self.omnis.POP3MessageCount(socket, procedure)
        self.answered(count, b"STAT", b"+OK 3 5\r\n", 3)
        self.assertEqual(found, ["C: STAT", "S: +OK 3 5"])

    def test_async_status_procedure_runs_for_each_message(self) -> None:
        found: list[str] = []

        async def procedure(text: str) -> None:
            found.append(text)
            raise ValueError("broken")

        socket = self.socket()
        count = self.omnis.POP3MessageCount(socket, procedure)
        self.answered(count, b"STAT", b"+OK 3 5\r\n", 3)
        self.assertEqual(found, ["C: STAT", "S: +OK 3 5"])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)


class MarkedMessageTests(OmnisTestCase):
    """
    Marked messages are counted and not listed, whether the server does so or not.
    """

    def marked(self) -> int:
        socket = self.socket()
        self.answered(self.omnis.POP3DeleteMessage(socket, 1), b"DELE 1", b"+OK\r\n")
        return socket

    def test_count_includes_marked_messages_once_on_every_server(self) -> None:
        """
        The first server leaves marked messages out, the second does not.
        """
        for stat, rows in (
            (b"+OK 1 200\r\n", b"+OK\r\n2 200\r\n.\r\n"),
            (b"+OK 2 320\r\n", b"+OK\r\n1 120\r\n2 200\r\n.\r\n"),
        ):
            socket = self.marked()
            count = self.omnis.POP3MessageCount(socket)
            self.server.expect(b"STAT", stat)
            self.answered(count, b"LIST", rows, 2)
            # Now it is known.
            count = self.omnis.POP3MessageCount(socket)
            self.answered(count, b"STAT", stat, 2)
            self.anew()

    def test_count_known_before_marking_needs_no_list(self) -> None:
        for stat in (b"+OK 1 200\r\n", b"+OK 2 320\r\n"):
            socket = self.socket()
            count = self.omnis.POP3MessageCount(socket)
            self.answered(count, b"STAT", b"+OK 2 320\r\n", 2)
            deleting = self.omnis.POP3DeleteMessage(socket, 1)
            self.answered(deleting, b"DELE 1", b"+OK\r\n")
            self.answered(self.omnis.POP3MessageCount(socket), b"STAT", stat, 2)
            self.anew()

    def test_list_leaves_out_messages_that_the_server_lists_although_marked(
        self,
    ) -> None:
        socket = self.marked()
        rows: list[tuple[int, int]] = []
        self.answered(
            self.omnis.POP3ListMessages(socket, 0, rows),
            b"LIST",
            b"+OK\r\n1 120\r\n2 200\r\n.\r\n",
        )
        self.assertEqual(rows, [(2, 200)])
        self.answered(self.omnis.POP3UndoDeletes(socket), b"RSET", b"+OK\r\n")
        self.answered(
            self.omnis.POP3ListMessages(socket, 0, rows),
            b"LIST",
            b"+OK\r\n1 120\r\n2 200\r\n.\r\n",
        )
        self.assertEqual(rows, [(1, 120), (2, 200)])


class LoginTests(OmnisTestCase):
    """
    What the server refuses is never -501, and `auth` reaches every opening command.
    """

    def test_server_with_no_common_mechanism_returns_minus_601(self) -> None:
        opening = self.omnis.POP3Connect(*CONNECT)
        self.server.say(b"+OK ready\r\n")
        self.server.expect(b"CAPA", b"+OK\r\nSASL XOAUTH2\r\n.\r\n")
        self.server.expect(b"QUIT", b"+OK\r\n")
        self.assertEqual(self.code(opening), -601)
        self.assertTold(-601, "POP3Connect", "XOAUTH2")

    def test_password_that_the_server_cannot_take_returns_minus_601(self) -> None:
        for command in (self.omnis.POP3Connect, self.omnis.POP3Stat):
            self.server = type(self.server)(self.clock)
            opening = command(*CONNECT[:2], "lov\xe9lace")
            self.server.say(b"+OK ready\r\n")
            self.server.expect(b"CAPA", b"+OK\r\nUSER\r\n.\r\n")
            self.server.expect(b"QUIT", b"+OK\r\n")
            self.assertEqual(self.code(opening), -601)
            self.assertNotIn("lov\xe9lace", str(self.told))

    def test_password_function_without_a_password_returns_minus_501(self) -> None:
        def broken() -> str:
            raise ValueError("no keyring")

        for password in (broken, lambda: 7, lambda: "two\r\nlines"):
            self.server = type(self.server)(self.clock)
            opening = self.omnis.POP3Connect(*CONNECT[:2], password)  # type: ignore[arg-type]
            self.server.say(b"+OK ready\r\n")
            self.server.expect(b"CAPA", b"+OK\r\nUSER\r\n.\r\n")
            self.server.expect(b"QUIT", b"+OK\r\n")
            self.assertEqual(self.code(opening), -501)

    def test_password_function_logs_in_and_may_be_async(self) -> None:
        async def later() -> str:
            return "lovelace"

        for password in (lambda: "lovelace", later):
            self.server = type(self.server)(self.clock)
            opening = self.omnis.POP3Connect(*CONNECT[:2], password)
            self.log_in_as(opening)
            self.assertGreater(self.code(opening), 0)
            self.server.lose()

    def test_expired_token_is_asked_for_again_with_refresh(self) -> None:
        asked: list[bool] = []

        def token(refresh: bool = False) -> str:
            asked.append(refresh)
            return "token"

        given = GivenPassword(token, Caller())
        assert callable(given.value)
        self.assertIn("refresh", inspect.signature(given.value).parameters)
        self.successResultOf(Deferred.fromCoroutine(given.value(refresh=True)))  # type: ignore[arg-type]
        self.assertEqual(asked, [True])

    def test_auth_keyword_and_setting_choose_the_mechanism(self) -> None:
        def auth(**options: Any) -> object:
            self.server = type(self.server)(self.clock)
            opening = self.omnis.POP3Connect(*CONNECT, **options)
            opening.cancel()
            self.code(opening)
            return self.options["auth"]

        self.assertEqual(auth(), "auto")
        self.assertEqual(auth(auth="XOAUTH2"), "XOAUTH2")
        self.code(self.omnis.WebDevSetConfig(auth="XOAUTH2"))
        self.assertEqual(auth(), "XOAUTH2")
        self.assertEqual(auth(auth="USER"), "USER")
        self.code(self.omnis.WebDevSetConfig(auth=""))
        self.assertEqual(auth(), "auto")
        # None of this has removed the error procedure.
        self.told.clear()
        self.assertEqual(self.code(self.omnis.POP3MessageCount(5)), -509)
        self.assertTold(-509, "POP3MessageCount")

    def test_auth_keyword_reaches_stat_and_recv(self) -> None:
        for command, more in ((self.omnis.POP3Stat, ()), (self.omnis.POP3Recv, ([],))):
            opening = command(*CONNECT, *more, auth="USER")  # type: ignore[operator]
            opening.cancel()
            self.code(opening)
            self.assertEqual(self.options.pop("auth"), "USER")
            self.server = type(self.server)(self.clock)

    def test_headers_of_a_server_without_top_return_minus_600(self) -> None:
        opening = self.omnis.POP3Connect(*CONNECT)
        self.server.say(b"+OK ready\r\n")
        self.server.expect(b"CAPA", b"+OK\r\nUSER\r\n.\r\n")
        self.server.expect(b"USER ada", b"+OK\r\n")
        self.server.expect(b"PASS lovelace", b"+OK\r\n")
        self.server.expect(b"CAPA", b"+OK\r\nUSER\r\n.\r\n")
        headers = self.omnis.POP3RecvHeaders(self.code(opening), 1, bytearray())
        self.answered(headers, b"TOP 1 0", b"-ERR unknown command\r\n", -600)


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
            self.omnis.POP3Connect("host", "ada", "x", "secret"),  # type: ignore[arg-type]
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
            self.omnis.POP3MessageCount(socket, lambda text, more: None),  # type: ignore[arg-type]
            self.omnis.POP3Connect("host", "ada", "x", auth="SECRET"),
            self.omnis.WebDevSetConfig(None, 1e10),
            self.omnis.WebDevSetConfig(None, float("nan")),
            self.omnis.WebDevSetConfig(None, "60"),  # type: ignore[arg-type]
            self.omnis.WebDevSetConfig(auth="SECRET"),
            self.omnis.MailSplit(7, [], []),  # type: ignore[arg-type]
            self.omnis.MailSplit("half a character \ud800", [], []),
            self.omnis.MailSplit(b"", (), []),  # type: ignore[arg-type]
            self.omnis.MailSplit(b"", [], ""),  # type: ignore[arg-type]
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
        for commstimeout, expected in (
            (5, 5),
            (None, 5),
            (0, 60),
            (2.5, 2.5),
            (-7, 7),
            (-0.0, 60),
        ):
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

    def test_empty_error_procedure_removes_it_and_none_leaves_it(self) -> None:
        self.code(self.omnis.WebDevSetConfig(None, 5))
        self.assertEqual(self.code(self.omnis.POP3MessageCount(5)), -509)
        self.assertTold(-509, "POP3MessageCount")
        self.code(self.omnis.WebDevSetConfig("", 5))
        self.assertEqual(self.code(self.omnis.POP3MessageCount(5)), -509)
        self.assertEqual(self.told, [])

    def test_refused_setting_changes_nothing(self) -> None:
        self.assertEqual(self.code(self.omnis.WebDevSetConfig("", "5")), -501)  # type: ignore[arg-type]
        self.told.clear()
        self.assertEqual(self.code(self.omnis.POP3MessageCount(5)), -509)
        self.assertTold(-509, "POP3MessageCount")

    def test_async_error_procedure_is_awaited_before_the_code_is_returned(self) -> None:
        shown: Deferred[None] = Deferred()
        told: list[int] = []

        async def procedure(text: str, code: int, command: str) -> None:
            await shown
            told.append(code)

        self.code(self.omnis.WebDevSetConfig(procedure))
        answers = [self.omnis.POP3MessageCount(5), self.omnis.POP3MessageCount()]  # type: ignore[call-arg]
        self.pending(*answers)
        shown.callback(None)
        self.assertEqual([self.code(answer) for answer in answers], [-509, -503])
        self.assertEqual(told, [-509, -503])

    def test_cancelling_during_the_error_procedure_returns_the_code(self) -> None:
        async def procedure(text: str, code: int, command: str) -> None:
            await Deferred()

        self.code(self.omnis.WebDevSetConfig(procedure))
        answer = self.omnis.POP3MessageCount(5)
        answer.cancel()
        self.assertEqual(self.code(answer), -509)

    def test_secure_error_is_set_after_a_failed_tls_handshake(self) -> None:
        self.assertEqual(self.omnis.WebDevGetSecureError(), "")
        opening = self.omnis.POP3Connect(*CONNECT, None, 1, False)
        self.server.settle()
        self.server.heard()
        self.server.raw(b"+OK this is no TLS at all\r\n" * 10)
        self.assertEqual(self.code(opening), -1021)
        self.assertTrue(self.omnis.WebDevGetSecureError())

    def test_remedies_are_told_with_the_parameters_of_the_command(self) -> None:
        opening = self.omnis.POP3Connect(*CONNECT, None, 1, False)
        self.server.settle()
        self.server.heard()
        self.server.raw(b"+OK this is no TLS at all\r\n" * 10)
        self.code(opening)
        [(text, _, _)] = self.told
        self.assertIn("use secure 1 for port 995, or secure 2 for port 110", text)

    def test_remedy_that_omnis_has_no_parameter_for_is_not_told(self) -> None:
        opening = self.omnis.POP3Connect(*CONNECT)
        self.server.say(b"+OK ready\r\n")
        self.server.expect(b"CAPA")
        self.server.lose()
        self.code(opening)
        [(text, _, _)] = self.told
        self.assertIn("the connection was lost", text)
        self.assertNotIn("capa=False", text)

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
        # Those of the appendix that no command here returns.
        for code in (-502, -504, -506, -507, -508, -512, -513, -517, -1012, -1013):
            self.assertNotIn("is not a code", error_text(code))
        self.assertNotIn("is not a code", error_text(-1018))
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

    def test_traceback_of_an_unexpected_error_has_no_password_in_its_locals(
        self,
    ) -> None:
        broken = Omnis(lambda *_, **__: fail(ZeroDivisionError("a mistake")))
        self.code(broken.POP3Connect(*CONNECT))
        [failure] = self.flushLoggedErrors(ZeroDivisionError)
        frames = [frame for frame, _ in walk_tb(failure.value.__traceback__)]
        self.assertGreater(len(frames), 2)
        for frame in frames:
            self.assertNotIn("lovelace", repr(frame.f_locals))

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
            positional = [
                each.name
                for each in signature.parameters.values()
                if each.kind is not each.KEYWORD_ONLY
            ]
            self.assertEqual(" ".join(positional), parameters, name)

    def test_help_of_every_command_names_each_parameter(self) -> None:
        for module in (omnis, blocking):
            for name in (*COMMANDS, "MailSplit"):
                function = getattr(module, name)
                text = pydoc.render_doc(function, renderer=pydoc.plaintext)
                for parameter in inspect.signature(function).parameters:
                    self.assertIn(f":param {parameter}:", text, name)
                self.assertIn(":return:", text, name)
                result = "-> 'int'" if module is blocking else "-> 'Deferred[int]'"
                self.assertIn(result, text.replace("-> int", "-> 'int'"), name)

    def test_constants_of_omnis_are_true_and_false(self) -> None:
        self.assertEqual((omnis.kTrue, omnis.kFalse), (1, 0))

    def test_unknown_name_in_the_module_is_an_attribute_error(self) -> None:
        for module in (omnis, blocking):
            self.assertFalse(hasattr(module, "S2"))
            self.assertTrue(hasattr(module, "S1"))

    def test_parameter_named_list_can_be_passed_by_keyword(self) -> None:
        socket, rows = self.socket(), [(9, 9)]
        answer = self.omnis.POP3ListMessages(socket, messagenumber=0, list=rows)
        self.answered(answer, b"LIST", b"+OK\r\n1 17\r\n.\r\n")
        self.assertEqual(rows, [(1, 17)])
