"""
`pop3connect.testing`: that its servers tell the truth, and that a script can fail.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from OpenSSL import SSL
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.ssl import CertificateOptions
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import SynchronousTestCase, TestCase

from pop3connect import (
    CommandError,
    ConnectionLostError,
    Handle,
    LoginError,
    Secure,
    TimedOutError,
    TLSError,
    UsageError,
    connect,
)
from pop3connect.testing import MailboxServer, Script, ScriptedServer
from pop3connect.testing.script import stuffed

from ..support.acting import Keeping
from ..support.memory import server_certificate
from ..support.shows import shows

ROOT = Path(__file__).absolute().parents[2]

reactor: Any = global_reactor

MAIL = b"Subject: hello\r\n\r\n.world\r\n..\r\nend\r\n"
OTHER = b"Subject: other\r\n\r\n" + b"x" * 300 + b"\r\n"


def begin() -> Script:
    return Script().greet().log_in()


class ScriptTests(SynchronousTestCase):
    """
    A script that is kept to, in memory.
    """

    def play(self, script: Script, **options: Any) -> tuple[ScriptedServer, Handle]:
        server = ScriptedServer(script)
        opening = server.connect(**options)
        server.flush()
        return server, self.successResultOf(opening)

    @shows("feature 1.17", "A server for tests", "``pop3connect.testing``")
    def test_session_that_follows_the_script_passes_the_check(self) -> None:
        server, handle = self.play(
            begin()
            .expect("LIST")
            .reply(lines=["1 38", "2 320"])
            .expect("RETR 1")
            .message(MAIL)
            .expect("DELE 1")
            .reply("-ERR read-only")
            .quit()
        )
        listing, message, deletion = handle.list(), handle.retrieve(1), handle.delete(1)
        server.flush()
        self.assertEqual([row.size for row in self.successResultOf(listing)], [38, 320])
        self.assertEqual(self.successResultOf(message), MAIL)
        self.failureResultOf(deletion, CommandError)
        ending = handle.disconnect()
        server.flush()
        self.assertEqual(self.successResultOf(ending).deleted, frozenset())
        server.check()

    def test_command_has_no_result_before_flush(self) -> None:
        """
        As on a real wire: what is sent arrives later.
        """
        server, handle = self.play(begin().expect("NOOP").reply())
        answer = handle.noop()
        self.assertNoResult(answer)
        server.flush()
        self.successResultOf(answer)
        aborted = handle.abort()
        server.flush()
        self.successResultOf(aborted)

    def test_script_can_start_tls_at_once_or_after_stls(self) -> None:
        for script, secure in (
            (Script().start_tls(server_certificate()).greet().log_in().quit(), 1),
            (
                Script()
                .greet()
                .expect("CAPA")
                .reply(lines=["STLS"])
                .expect("STLS")
                .reply("+OK begin TLS")
                .start_tls(server_certificate())
                .log_in()
                .quit(),
                2,
            ),
        ):
            server, handle = self.play(script, secure=secure, verify=False)
            assert handle.tls is not None
            ending = handle.disconnect()
            server.flush()
            self.successResultOf(ending)
            server.check()

    def test_custom_step_decides_which_line_it_accepts(self) -> None:
        script = begin().step(
            "any line", lambda stage: (stage.line() or b"").startswith(b"RETR")
        )
        server, handle = self.play(script.message(MAIL))
        answer = handle.retrieve(7)
        server.flush()
        self.assertEqual(self.successResultOf(answer), MAIL)
        aborted = handle.abort()
        server.flush()
        self.successResultOf(aborted)

    def test_stuffed_doubles_leading_dots_and_adds_the_end(self) -> None:
        for body, wire in (
            (b"", b".\r\n"),
            (b".", b"..\r\n.\r\n"),
            (b"a\r\n.b\r\n", b"a\r\n..b\r\n.\r\n"),
            ("no end", b"no end\r\n.\r\n"),
        ):
            self.assertEqual(stuffed(body), wire)


class DeviationTests(SynchronousTestCase):
    """
    A client that does not keep to the script makes the test fail.
    """

    def problem(
        self, script: Script, act: Callable[[Handle], Deferred[Any]] | None = None
    ) -> str:
        server = ScriptedServer(script)
        opening = server.connect()
        server.flush()
        handles: list[Handle] = []
        opening.addCallback(handles.append)
        opening.addCallback(lambda _: (act or Handle.abort)(handles[0]))
        opening.addErrback(lambda _: None)
        with self.assertRaises(AssertionError) as caught:
            server.check()
        # A handle that is forgotten ends its session.
        for handle in handles:
            handle.abort()
        server.flush()
        return str(caught.exception)

    def test_unexpected_line_fails_the_check_and_shows_the_dialogue(self) -> None:
        text = self.problem(begin().expect("RETR 1"), lambda h: h.retrieve(2))
        self.assertIn(
            "connection 1: expected b'RETR 1', the client sent b'RETR 2'", text
        )
        self.assertIn("\n  C: PASS lovelace\n  S: +OK\n", text)

    def test_unplayed_step_fails_the_check(self) -> None:
        text = self.problem(begin().reply("+OK").expect("NOOP"), lambda h: h.stat())
        self.assertIn("expected b'NOOP'", text)
        text = self.problem(begin().expect_close(), lambda h: h.when_closed())
        self.assertIn("not played to its end: expect the client to close", text)

    def test_line_after_the_script_fails_the_check(self) -> None:
        text = self.problem(begin(), lambda handle: handle.noop())
        self.assertIn("the script is over, and the client sent b'NOOP\\r\\n'", text)

    def test_client_closing_early_fails_the_check(self) -> None:
        text = self.problem(begin().expect("NOOP"), lambda handle: handle.abort())
        self.assertIn("expected b'NOOP', and the client closed", text)

    def test_more_connections_than_scripts_fail_the_check(self) -> None:
        server = ScriptedServer(begin().expect_close())
        for _ in range(2):
            opening = server.connect()
            server.flush()
            opening.addCallbacks(lambda handle: handle.abort(), lambda _: None)
        with self.assertRaises(AssertionError) as caught:
            server.check()
        self.assertIn("2 connections, and scripts for 1", str(caught.exception))

    def test_fewer_connections_than_scripts_fail_the_check(self) -> None:
        with (
            self.assertRaises(AssertionError) as caught,
            ScriptedServer(Script(), Script()) as server,
        ):
            pass
        self.assertIn("only 0 of 2 scripts", str(caught.exception))
        self.assertEqual(server.stages, [])

    def test_exception_in_with_block_takes_precedence_over_check(self) -> None:
        with self.assertRaises(ZeroDivisionError), ScriptedServer(begin()):
            raise ZeroDivisionError


class FaultTests(SynchronousTestCase):
    """
    What goes wrong on the wire, in memory: in the clear and under TLS.
    """

    def open(self, script: Script, secure: int = 0) -> tuple[ScriptedServer, Handle]:
        beginning = Script()
        if secure:
            beginning.start_tls(server_certificate())
        beginning.greet().log_in()
        beginning.steps += script.steps
        server = ScriptedServer(beginning)
        opening = server.connect(secure=secure, verify=False)
        server.flush()
        return server, self.successResultOf(opening)

    def each(self, script: Callable[[], Script]) -> list[tuple[ScriptedServer, Handle]]:
        return [self.open(script(), secure) for secure in (0, 1)]

    def test_replies_in_chunks_of_a_few_bytes_are_read(self) -> None:
        for size in (1, 2, 3, 7):
            for server, handle in self.each(
                lambda size=size: (  # type: ignore[misc]
                    Script()
                    .split(size)
                    .expect("RETR 1")
                    .message(MAIL)
                    .split(None)
                    .quit()
                )
            ):
                message = handle.retrieve(1)
                server.flush()
                self.assertEqual(self.successResultOf(message), MAIL)
                ending = handle.disconnect()
                server.flush()
                self.successResultOf(ending)
                server.check()

    def test_tls_records_of_one_byte_are_read(self) -> None:
        server, handle = self.open(
            Script().records(1).expect("RETR 1").message(MAIL).records(None).quit(), 1
        )
        message = handle.retrieve(1)
        server.flush()
        self.assertEqual(self.successResultOf(message), MAIL)
        ending = handle.disconnect()
        server.flush()
        self.successResultOf(ending)

    def test_glued_replies_arrive_together_and_are_both_read(self) -> None:
        for server, handle in self.each(
            lambda: (
                Script()
                .glue()
                .expect("RETR 1")
                .message(MAIL)
                .expect("RETR 2")
                .message(OTHER)
                .unglue()
                .expect_close()
            )
        ):
            first = handle.retrieve(1)
            server.flush()
            self.assertNoResult(first)
            second = handle.retrieve(2)
            server.flush()
            self.assertEqual(self.successResultOf(first), MAIL)
            self.assertEqual(self.successResultOf(second), OTHER)
            aborted = handle.abort()
            server.flush()
            self.successResultOf(aborted)
            server.check()

    def test_connection_dropped_within_a_message_fails_retrieve(self) -> None:
        """
        After so many octets; the client knows that it was not all.
        """
        for octets in (1, 5, 20, 200):
            for server, handle in self.each(
                lambda octets=octets: (
                    Script().drop(octets).expect("RETR 2").message(OTHER)
                )  # type: ignore[misc]
            ):
                message = handle.retrieve(2)
                server.flush()
                self.failureResultOf(message, ConnectionLostError, TLSError)

    def test_any_way_of_closing_fails_the_pending_command(self) -> None:
        for end in ("drop", "reset", "half_close", "close"):
            for server, handle in self.each(
                lambda end=end: getattr(Script().expect("NOOP"), end)()  # type: ignore[misc]
            ):
                answer = handle.noop()
                server.flush()
                self.failureResultOf(answer, ConnectionLostError)
                self.successResultOf(handle.when_closed())
                server.check()

    def test_stalled_server_times_out_after_60_seconds(self) -> None:
        for server, handle in self.each(lambda: Script().stall()):
            answer = handle.noop()
            server.advance(59)
            self.assertNoResult(answer)
            server.advance(1)
            self.failureResultOf(answer, TimedOutError)
            server.flush()

    def test_reply_delayed_within_the_time_limit_is_accepted(self) -> None:
        for server, handle in self.each(
            lambda: Script().expect("NOOP").delay(30).reply().expect_close()
        ):
            answer = handle.noop()
            server.advance(29)
            self.assertNoResult(answer)
            server.advance(1)
            self.successResultOf(answer)
            aborted = handle.abort()
            server.flush()
            self.successResultOf(aborted)
            server.check()

    def test_body_that_trickles_too_slowly_times_out(self) -> None:
        """
        Octet by octet it would take for ever; the client's patience is bounded.
        """
        server, handle = self.open(
            Script().trickle(1, 1).expect("RETR 1").message(OTHER)
        )
        message = handle.retrieve(1)
        for _ in range(200):
            server.advance(1)
        self.failureResultOf(message, TimedOutError)

    def test_trickle_stops_when_the_connection_closes(self) -> None:
        server, handle = self.open(
            Script().trickle(1, 1).expect("RETR 1").message(OTHER)
        )
        handle.retrieve(1).addErrback(lambda _: None)
        server.advance(1)
        aborted = handle.abort()
        server.flush()
        self.successResultOf(aborted)
        server.flush()
        self.assertEqual(server.clock.getDelayedCalls(), [])

    def test_tls_renegotiation_never_leaves_the_command_pending(self) -> None:
        """
        The session goes on, or ends with an error; it never hangs.
        """
        old = CertificateOptions(
            privateKey=server_certificate().privateKey,
            certificate=server_certificate().certificate,
        )
        old.getContext().set_max_proto_version(SSL.TLS1_2_VERSION)
        server = ScriptedServer(
            Script()
            .start_tls(old)
            .greet()
            .log_in()
            .expect("NOOP")
            .renegotiate()
            .reply()
        )
        opening = server.connect(secure=1, verify=False)
        server.flush()
        handle = self.successResultOf(opening)
        self.assertEqual(handle.tls.version, "TLSv1.2")
        answer = handle.noop()
        server.flush()
        outcome: list[Any] = []
        answer.addBoth(outcome.append)
        self.assertEqual(len(outcome), 1)
        aborting = handle.abort()
        server.flush()
        self.successResultOf(aborting)


class MailboxTests(SynchronousTestCase):
    """
    A server with a mailbox.
    """

    def open(self, server: MailboxServer, **options: Any) -> Handle:
        opening = server.connect(**options)
        server.flush()
        return self.successResultOf(opening)

    def done(self, server: MailboxServer, deferred: Any) -> Any:
        server.flush()
        return self.successResultOf(deferred)

    def test_session_reads_and_deletes_with_and_without_tls(self) -> None:
        for options, secure in (
            ({}, 0),
            ({"certificate": server_certificate()}, 2),
            ({"certificate": server_certificate(), "tls_at_once": True}, 1),
        ):
            server = MailboxServer([MAIL, OTHER, OTHER], **options)  # type: ignore[arg-type]
            handle = self.open(server, secure=secure, verify=False)
            self.assertEqual(handle.tls is not None, secure != 0)
            self.assertEqual(self.done(server, handle.stat()).count, 3)
            self.assertEqual(self.done(server, handle.retrieve(1)), MAIL)
            self.assertEqual(
                self.done(server, handle.top(2)), b"Subject: other\r\n\r\n"
            )
            self.done(server, handle.delete(2))
            self.assertEqual(len(self.done(server, handle.list())), 2)
            self.assertEqual(server.messages, [MAIL, OTHER, OTHER])
            self.done(server, handle.disconnect())
            self.assertEqual(server.messages, [MAIL, OTHER])

    def test_wrong_password_is_a_login_error(self) -> None:
        server = MailboxServer(username="bob", password="secret")
        opening = server.connect(password="other")
        server.flush()
        self.failureResultOf(opening, LoginError)
        self.done(server, self.open(server).disconnect())

    def test_new_mail_is_visible_in_the_next_session_only(self) -> None:
        """It is there for the next session (RFC 1939 section 4)."""
        server = MailboxServer([MAIL])
        handle = self.open(server)
        server.deliver(OTHER, MAIL)
        self.assertEqual(self.done(server, handle.stat()).count, 1)
        self.done(server, handle.disconnect())
        handle = self.open(server)
        self.assertEqual(self.done(server, handle.retrieve(2)), OTHER)
        self.done(server, handle.disconnect())

    def uids(self, server: MailboxServer) -> list[str]:
        handle = self.open(server)
        uids = [row.uid for row in self.done(server, handle.uidl())]
        self.done(server, handle.disconnect())
        return uids

    def test_deleted_message_that_is_delivered_again_has_a_new_uid(self) -> None:
        server = MailboxServer([MAIL])
        handle = self.open(server)
        first = self.done(server, handle.uid(1))
        self.done(server, handle.delete(1))
        self.done(server, handle.disconnect())
        delivered = server.deliver(MAIL)
        self.assertEqual(self.uids(server), delivered)
        self.assertNotEqual(delivered, [first])

    def test_equal_messages_have_different_uids(self) -> None:
        server = MailboxServer([MAIL, OTHER, MAIL])
        delivered = server.deliver(MAIL, MAIL)
        uids = self.uids(server)
        self.assertEqual(len(set(uids)), 5)
        self.assertEqual(uids[3:], delivered)

    def test_uids_are_the_same_in_each_session_and_each_process(self) -> None:
        server, twin = (MailboxServer([MAIL, OTHER, MAIL]) for _ in range(2))
        self.assertEqual(self.uids(server), self.uids(server))
        self.assertEqual(self.uids(server), self.uids(twin))

    def test_requested_uids_are_used_even_if_they_are_equal(self) -> None:
        server = MailboxServer()
        self.assertEqual(server.deliver(MAIL, OTHER, uids=["a", "a"]), ["a", "a"])
        server.deliver(MAIL, uids=["b\udcff"])
        self.assertEqual(self.uids(server), ["a", "a", "b\udcff"])

    def test_wrong_number_of_uids_or_line_break_is_refused(self) -> None:
        server = MailboxServer()
        for uids in ([], ["a", "b"], ["a\n"], ["a\rb"]):
            with self.assertRaises(UsageError):
                server.deliver(MAIL, uids=uids)
        self.assertEqual(server.messages, [])

    def test_refused_message_fails_and_others_are_retrieved(self) -> None:
        server = MailboxServer([MAIL, OTHER])
        server.refused[1] = "it is broken"
        handle = self.open(server)
        one, two = handle.retrieve(1), handle.retrieve(2)
        server.flush()
        error: Any = self.failureResultOf(one, CommandError).value
        self.assertEqual(error.text, "it is broken")
        self.assertEqual(self.successResultOf(two), OTHER)
        self.done(server, handle.disconnect())

    def test_login_to_mailbox_in_use_fails_until_it_is_free(self) -> None:
        server = MailboxServer([MAIL])
        server.in_use = True
        opening = server.connect()
        server.flush()
        error: Any = self.failureResultOf(opening, LoginError).value
        self.assertEqual(error.code, "IN-USE")
        server.in_use = False
        handle = self.open(server)
        self.assertTrue(server.in_use)
        self.done(server, handle.disconnect())
        self.assertFalse(server.in_use)

    def test_heard_lists_the_commands_received(self) -> None:
        server = MailboxServer([MAIL])
        handle = self.open(server, auth="USER")
        self.done(server, handle.delete(1))
        self.done(server, handle.disconnect())
        self.assertEqual(
            server.heard,
            ["CAPA", "USER ada", "PASS lovelace", "CAPA", "DELE 1", "QUIT"],
        )

    def test_connection_lost_at_any_point_raises_and_deletes_nothing(self) -> None:
        """In the clear and below TLS; and nothing is lost."""
        lost = 0
        for tls in ({}, {"certificate": server_certificate(), "tls_at_once": True}):
            for octets in range(0, 6000, 61 if tls else 7):
                server = MailboxServer([MAIL, OTHER], **tls)  # type: ignore[arg-type]
                server.drop_after = octets
                opening = server.connect(secure=int(bool(tls)), verify=False)
                server.flush()
                handle = self.outcome(opening)
                if isinstance(handle, Handle):
                    message, ending = handle.retrieve(2), handle.disconnect()
                    server.flush()
                    self.outcome(ending)
                    error = self.outcome(message)
                    if error == OTHER:
                        break
                else:
                    error = handle
                self.assertIsInstance(error, (ConnectionLostError, TLSError))
                lost += 1
            self.assertEqual(server.messages, [MAIL, OTHER])
        self.assertGreater(lost, 50)

    def outcome(self, deferred: Deferred[Any]) -> Any:
        outcomes: list[Any] = []
        deferred.addBoth(outcomes.append)
        self.assertEqual(len(outcomes), 1)
        return getattr(outcomes[0], "value", outcomes[0])

    def test_abort_in_a_callback_under_tls_is_told_in_a_later_turn(self) -> None:
        """As Twisted's TCP does it: TLS has not finished with the chunk yet."""
        for options, secure in (
            ({}, 0),
            ({"certificate": server_certificate()}, 2),
            ({"certificate": server_certificate(), "tls_at_once": True}, 1),
        ):
            server = MailboxServer([MAIL], **options)  # type: ignore[arg-type]
            handle = self.open(server, secure=secure, verify=False)
            noop, closed = handle.noop(), handle.when_closed()
            told: list[bool] = []

            def abort(
                _: object,
                handle: Handle = handle,
                closed: Deferred[None] = closed,
                told: list[bool] = told,
            ) -> None:
                handle.abort()
                told.append(bool(closed.called))

            noop.addCallback(abort)
            self.done(server, noop)
            self.assertEqual(told, [False])
            self.successResultOf(closed)
            self.assertEqual(server.clock.getDelayedCalls(), [])
            self.assertFalse(server.in_use)

    def test_nothing_arrives_after_an_abort(self) -> None:
        server = MailboxServer([MAIL])
        lines: list[str] = []
        handle = self.open(server, stsproc=lines.append)
        asked = handle.stat()
        asked.addErrback(lambda _: None)
        told = len(lines)
        self.done(server, handle.abort())
        self.assertEqual(lines[told:], [])
        self.assertNotIn("STAT", server.heard)

    def test_message_arrives_in_chunks_of_64_kib(self) -> None:
        server = MailboxServer([MAIL, b"x" * 200_000 + b"\r\n"])
        handle = self.open(server)
        sink = Keeping()
        self.assertEqual(self.done(server, handle.retrieve(2, sink)), 200_002)
        self.assertEqual(b"".join(sink.pieces), b"x" * 200_000 + b"\r\n")
        self.assertLessEqual(max(map(len, sink.pieces)), 65536)
        self.done(server, handle.disconnect())

    def test_no_delayed_call_is_left_after_a_session(self) -> None:
        server = MailboxServer([MAIL])
        self.done(server, self.open(server).disconnect())
        self.assertEqual(server.clock.getDelayedCalls(), [])

    def test_connect_passes_password_callable_and_options_on(self) -> None:
        server = MailboxServer([MAIL])
        handle = self.open(server, password=lambda: "lovelace", pipeline=False)
        self.assertEqual(self.done(server, handle.size(1)), len(MAIL))
        self.done(server, handle.disconnect())

    def test_messages_can_be_iterated_in_a_coroutine(self) -> None:
        server = MailboxServer([MAIL, OTHER])

        async def everything() -> list[bytes | None]:
            async with await server.connect() as handle:
                return [message.content async for message in handle.messages()]

        fetching = Deferred.fromCoroutine(everything())
        self.assertEqual(self.done(server, fetching), [MAIL, OTHER])


class ExampleTests(TestCase):
    """
    The tests in the documentation pass, as a user runs them.
    """

    timeout = 60

    async def test_inbox_example_passes_all_its_tests(self) -> None:
        folder = Path(self.mktemp()).absolute()
        path = os.pathsep.join([str(ROOT), str(ROOT / "examples")])
        out, err, status = await getProcessOutputAndValue(
            sys.executable,
            ("-m", "twisted.trial", "--temp-directory", str(folder), "test_inbox"),
            env={**os.environ, "PYTHONPATH": path},
        )
        self.assertEqual(status, 0, (out + err).decode())
        self.assertIn(b"successes=7", out)

    async def test_inbox_example_passes_its_tests_when_run_by_its_path(self) -> None:
        folder = Path(self.mktemp()).absolute()
        path = str(ROOT / "examples" / "test_inbox.py")
        out, err, status = await getProcessOutputAndValue(
            sys.executable,
            ("-m", "twisted.trial", "--temp-directory", str(folder), path),
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self.assertEqual(status, 0, (out + err).decode())
        self.assertIn(b"successes=7", out)


class LoopbackTests(TestCase):
    """
    The same over the loopback.
    """

    timeout = 20

    def address(self, server: Any) -> str:
        port = server.listen(reactor)
        self.addCleanup(port.stopListening)
        return f"localhost:{port.getHost().port}"

    async def test_scripted_session_works_over_tcp(self) -> None:
        server = ScriptedServer(
            begin().split(1).expect("RETR 1").message(MAIL).split(None).quit()
        )
        handle = await connect(self.address(server), "ada", "lovelace")
        self.assertEqual(await handle.retrieve(1), MAIL)
        await handle.disconnect()
        server.check()

    async def test_scripted_tls_session_works_over_tcp(self) -> None:
        script = Script().start_tls(server_certificate()).greet().log_in().quit()
        server = ScriptedServer(script)
        handle = await connect(
            self.address(server), "ada", "lovelace", secure=Secure.TLS, verify=False
        )
        await handle.disconnect()
        server.check()

    async def test_any_way_of_closing_fails_the_pending_command(self) -> None:
        for end in ("drop", "reset", "half_close", "close"):
            script = getattr(begin().expect("NOOP"), end)()
            server = ScriptedServer(script)
            handle = await connect(self.address(server), "ada", "lovelace")
            with self.assertRaises(ConnectionLostError):
                await handle.noop()
            await handle.when_closed()
            server.check()

    async def test_nothing_is_sent_after_a_drop(self) -> None:
        """The rest of a message must not be missing from the middle of it."""
        script = begin().expect("RETR 1").drop(10).message(MAIL).say("more\r\n.\r\n")
        server = ScriptedServer(script)
        handle = await connect(self.address(server), "ada", "lovelace")
        with self.assertRaises(ConnectionLostError):
            await handle.retrieve(1)
        await handle.when_closed()
        server.check()

    async def test_mailbox_session_works_over_tcp(self) -> None:
        server = MailboxServer([MAIL])
        handle = await connect(self.address(server), "ada", "lovelace")
        self.assertEqual(await handle.retrieve(1), MAIL)
        await handle.delete(1)
        await handle.disconnect()
        self.assertEqual(server.messages, [])
