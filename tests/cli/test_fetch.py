"""
``fetch``: each message once, none lost, and deleted only when it is safe.
"""

from __future__ import annotations

import errno
import mailbox
import os
import shutil
import sqlite3
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import blockingCallFromThread
from twisted.logger import globalLogPublisher

from pop3connect.cli import fetching
from pop3connect.cli.exits import Exit
from pop3connect.cli.running import Work, show_warning
from pop3connect.collect.lock import FolderLock
from pop3connect.destinations.folder import DISK, Disk
from pop3connect.testing import Script

from ..collect.engine import (
    FaultyServer,
    close,
    hang,
    message,
    say,
    say_and_close,
    times,
)
from ..support import dovecot
from ..support.command import USER, CommandTestCase
from ..support.loopback import MESSAGES, PASSWORD
from ..support.shows import shows

reactor: Any = global_reactor

ONE, TWO = b"Subject: one\r\n\r\n1\r\n", b"Subject: two\r\n\r\n2\r\n"

CLEAR = "the password is sent without TLS"


def lines(messages: Any) -> list[bytes]:
    """Return messages as they lie on the disk, in some order."""
    return sorted(message.replace(b"\r\n", b"\n") for message in messages)


def said(result: Any) -> list[str]:
    """Return what was told to the user, without our name and that of the server."""
    told = []
    for line in result.stderr.splitlines():
        start, _, text = line.partition(": ")
        assert start == "pop3connect", line
        if text.startswith("127.0.0.1:"):
            text = text.partition(": ")[2]
        if not text.startswith(CLEAR):
            told.append(text)
    return told


class FetchTestCase(CommandTestCase):
    timeout = 60

    def setUp(self) -> None:
        super().setUp()
        self.target = Path(self.folder).absolute() / "M"
        # As in a process of its own.
        globalLogPublisher.addObserver(show_warning)
        self.addCleanup(globalLogPublisher.removeObserver, show_warning)

    def in_mbox(self) -> int:
        """
        Return how many messages the target has, as an mbox.
        """
        with closing(mailbox.mbox(self.target)) as box:
            return len(box)

    def kept(self) -> list[bytes]:
        new = self.target / "new"
        return sorted(path.read_bytes() for path in new.iterdir())

    def leftovers(self) -> list[Path]:
        """Return what should not stay: files in tmp and in the spool."""
        return [
            *self.target.glob("tmp/*"),
            *self.target.parent.glob(".M.pop3connect-*/spool/*"),
        ]

    def fetch(self, *arguments: str, **rest: Any) -> Deferred[Any]:
        return self.run_command("fetch", *arguments, str(self.target), **rest)

    def fetch_into(self, *arguments: str) -> Deferred[Any]:
        """Fetch into another target."""
        return self.run_command("fetch", *arguments)

    def serve(self, *messages: bytes) -> FaultyServer:
        """Begin a server that can have faults."""
        server = FaultyServer(messages, username=USER, password=PASSWORD)
        port: Any = server.listen(reactor)
        self.addCleanup(port.stopListening)
        self.address = f"127.0.0.1:{port.getHost().port}"
        return server

    def get(self, *arguments: str, **rest: Any) -> Deferred[Any]:
        """Fetch from that server."""
        return self.fetch(*arguments, server=self.address, **rest)

    def session(self, uids: tuple[str, ...] = ("1 a", "2 b")) -> Script:
        """Begin a session with two messages."""
        script = Script().greet().log_in(USER, PASSWORD, ("UIDL",))
        script.expect("STAT").reply("+OK 2 36").expect("UIDL").reply("+OK", lines=uids)
        return script.expect("LIST").reply("+OK", lines=["1 18", "2 18"])

    def database(self) -> Path:
        """Return the one journal beside the target."""
        [path] = self.target.parent.glob(".M.pop3connect-*/collect.db")
        return path

    def change(self, statement: str) -> None:
        """Change the journal, such as to let time pass."""
        with closing(sqlite3.connect(self.database())) as connection:
            connection.execute(statement)
            connection.commit()

    def assertDone(
        self, result: Any, fetched: int, there: int = 0, deleted: int = 0
    ) -> None:
        self.assertEqual(
            (result.exit_code, result.stdout),
            (0, f"fetched: {fetched}, there already: {there}, deleted: {deleted}\n"),
            result.output,
        )


class FetchTests(FetchTestCase):
    @shows(
        "feature 1.18",
        "Fetches each message once",
        "``pop3connect fetch`` and the collector keep a journal",
    )
    async def test_second_fetch_gets_no_message_twice(self) -> None:
        self.assertDone(await self.fetch(), 3)
        self.assertEqual(self.kept(), lines(MESSAGES))
        self.assertDone(await self.fetch(), 0, 3)
        self.assertEqual(self.kept(), lines(MESSAGES))
        self.assertEqual(len(self.drop.messages), 3)
        self.assertEqual(self.leftovers(), [])

    async def test_crlf_option_keeps_the_exact_bytes(self) -> None:
        await self.fetch("--crlf")
        self.assertEqual(self.kept(), sorted(MESSAGES))

    async def test_only_the_named_messages_are_fetched(self) -> None:
        result = await self.run_command("fetch", str(self.target), "1", "3")
        self.assertDone(result, 2)
        self.assertEqual(self.kept(), lines([MESSAGES[0], MESSAGES[2]]))
        self.assertDone(await self.fetch(), 1, 2)

    async def test_only_the_named_messages_are_deleted(self) -> None:
        await self.fetch()
        result = await self.run_command("fetch", "--delete", str(self.target), "2-")
        self.assertDone(result, 0, 2, 2)
        self.assertEqual([m for _, m in self.drop.messages], [MESSAGES[0]])

    async def test_messages_above_max_size_are_skipped_each_time_with_a_warning(
        self,
    ) -> None:
        server = self.serve(message(1, 900), message(2))
        for fetched in (1, 0):
            result = await self.get("--max-size", "500")
            self.assertDone(result, fetched, 1 - fetched)
            self.assertEqual(
                said(result),
                ["1 message of more than 500 octets: left on the server"],
            )
        self.assertEqual(self.kept(), lines([message(2)]))
        self.assertDone(await self.get("--delete"), 1, 1, 2)
        self.assertEqual(server.messages, [])

    async def test_mbox_format_is_recognised_on_the_next_fetch(self) -> None:
        self.assertDone(await self.fetch("--format", "mbox"), 3)
        self.assertEqual(self.in_mbox(), 3)
        # That it is an mbox is seen.
        self.assertDone(await self.fetch(), 0, 3)
        self.assertEqual(self.in_mbox(), 3)
        self.assertEqual(self.leftovers(), [])

    async def test_crlf_with_mbox_is_a_usage_error(self) -> None:
        result = await self.fetch("--format", "mbox", "--crlf")
        self.assertEqual(result.exit_code, Exit.USAGE)

    async def test_target_that_cannot_be_used_exits_local_files_without_login(
        self,
    ) -> None:
        server = self.serve(ONE)
        self.target.write_bytes(b"")
        result = await self.get("--format", "maildir")
        self.assertEqual(result.exit_code, Exit.LOCAL_FILES)
        self.assertIn(str(self.target), result.stderr)
        self.target.unlink()
        self.target.mkdir()
        result = await self.get("--format", "mbox")
        self.assertEqual(result.exit_code, Exit.LOCAL_FILES)
        self.assertIn(str(self.target), result.stderr)
        self.assertEqual(server.heard, [])

    async def test_target_that_cannot_be_looked_at_is_one_error(self) -> None:
        result = await self.fetch_into(str(self.target.with_name("x" * 300)))
        self.assertEqual((result.exit_code, result.stdout), (Exit.LOCAL_FILES, ""))
        self.assertIn("File name too long", result.stderr)

    async def test_empty_target_or_state_is_a_usage_error(self) -> None:
        for arguments in (("",), (str(self.target), "--state", "")):
            result = await self.fetch_into(*arguments)
            self.assertEqual(result.exit_code, Exit.USAGE, result.output)
            self.assertIn("it is empty", result.stderr)

    async def test_delete_removes_fetched_messages_from_the_server(self) -> None:
        self.assertDone(await self.fetch("--delete"), 3, 0, 3)
        self.assertEqual(self.drop.messages, [])
        self.assertEqual(self.kept(), lines(MESSAGES))

    async def test_delete_includes_messages_fetched_before(self) -> None:
        await self.run_command("fetch", str(self.target), "2")
        self.assertDone(await self.fetch("--delete"), 2, 1, 3)
        self.assertEqual(self.kept(), lines(MESSAGES))

    async def test_two_accounts_share_a_maildir_and_not_a_journal(self) -> None:
        self.assertDone(await self.fetch(), 3)
        other = self.run_click(
            "fetch", self.server, "--secure", "none", "--user", "bob", str(self.target)
        )
        self.assertDone(await other, 3)
        self.assertEqual(self.kept(), lines(MESSAGES * 2))
        self.assertDone(await self.fetch(), 0, 3)

    async def test_unusual_user_names_have_their_own_journals(self) -> None:
        for user in ("o'hara", "o-hara", "../x", "x" * 200):
            server = FaultyServer([ONE], username=user, password=PASSWORD)
            port: Any = server.listen(reactor)
            self.addCleanup(port.stopListening)
            result = await self.run_click(
                *("fetch", f"127.0.0.1:{port.getHost().port}", "--secure", "none"),
                *("--auth", "USER", "--user", user, str(self.target)),
            )
            self.assertDone(result, 1)
        self.assertEqual(len(list(self.target.parent.glob(".M.pop3connect-*"))), 4)

    async def test_one_run_reports_progress_over_the_bytes_that_come(self) -> None:
        shown: list[tuple[int, int]] = []

        @contextmanager
        def bar() -> Iterator[Callable[[int, int], object]]:
            yield lambda done, total: shown.append((done, total))

        self.patch(fetching, "progress_bar", bar)
        server = self.serve(message(1), message(2, 90_000))
        await self.run_command("fetch", str(self.target), "1", server=self.address)
        size = len(message(1))
        self.assertEqual(shown[-1], (size, size))
        shown.clear()
        server.deliver(message(3))
        server.faults["RETR 3"] = times(1, close)
        await self.get()
        size = len(message(2, 90_000)) + len(message(3))
        self.assertEqual((shown[0][1], shown[-1]), (size, (size, size)))
        self.assertEqual(shown, sorted(shown))


class BadMessageTests(FetchTestCase):
    """One message that cannot be had: the others arrive."""

    async def test_a_message_that_is_refused_does_not_stop_the_others(self) -> None:
        server = self.serve(ONE, TWO)
        server.faults["RETR 1"] = say(b"-ERR broken\r\n")
        result = await self.get("--delete")
        self.assertEqual(
            (result.exit_code, result.stdout),
            (Exit.REFUSED, "fetched: 1, there already: 0, deleted: 1\n"),
        )
        self.assertEqual(said(result), ["RETR 1: the server refused: broken"])
        self.assertEqual(self.kept(), lines([TWO]))
        self.assertEqual(server.messages, [ONE])
        # After the others, and in a session of its own.
        self.assertEqual(server.count("RETR"), 3)
        self.assertEqual(server.count("STAT"), 2)

    async def test_message_that_works_at_the_second_attempt_is_no_failure(self) -> None:
        server = self.serve(ONE, TWO)
        server.faults["RETR 1"] = times(1, say(b"-ERR not now\r\n"))
        self.assertDone(await self.get("--delete"), 2, 0, 2)
        self.assertEqual(self.kept(), lines([ONE, TWO]))
        self.assertEqual(server.messages, [])

    async def test_hanging_message_is_named_and_the_others_are_deleted(self) -> None:
        messages = [message(number) for number in range(1, 7)]
        server = self.serve(*messages)
        uid = server.uids[2]

        def stall(connection: Any) -> bool:
            if server.uids[int(connection.line.split()[1]) - 1] != uid:
                return False
            connection.transport.write(b"+OK\r\nSubject: half of it\r\n")
            connection.lineReceived = lambda line: None
            return True

        # By any number: it has another one when the others are deleted.
        server.faults["RETR"] = stall
        result = await self.get("--delete", "--timeout", "1")
        self.assertEqual(
            (result.exit_code, result.stdout),
            (Exit.REFUSED, "fetched: 5, there already: 0, deleted: 5\n"),
        )
        [text] = said(result)
        self.assertTrue(text.startswith("RETR 3: the server took too long"), text)
        self.assertIn("--no-pipeline", text)
        self.assertEqual(server.uids, [uid])
        server.faults.clear()
        self.change("UPDATE message SET first_failed = first_failed - 90000")
        self.assertDone(await self.get("--delete"), 1, 0, 1)
        self.assertEqual(self.kept(), lines(messages))

    async def test_numbers_mean_the_same_messages_in_a_later_session(self) -> None:
        messages = [message(number) for number in range(1, 5)]
        server = self.serve(*messages)

        def deliver(connection: Any) -> bool:
            # Another program deletes a message meanwhile.
            server._drop.messages.pop(0)
            return close(connection)

        server.faults["RETR 3"] = times(1, deliver)
        result = await self.run_command(
            "fetch", "--delete", str(self.target), "2-3", server=self.address
        )
        self.assertDone(result, 2, 0, 2)
        self.assertEqual(self.kept(), lines(messages[1:3]))
        self.assertEqual(server.messages, messages[3:])

    async def test_many_bad_messages_leave_the_rest_for_the_next_run(self) -> None:
        messages = [message(number) for number in range(1, 8)]
        server = self.serve(*messages)
        for number in range(2, 8):
            server.faults[f"RETR {number}"] = close
        result = await self.get()
        self.assertEqual(
            (result.exit_code, result.stdout),
            (Exit.REFUSED, "fetched: 1, there already: 0, deleted: 0\n"),
        )
        told = said(result)
        self.assertEqual(
            told[-1], "3 messages not fetched; the same command again continues"
        )
        for number, text in zip((2, 3, 7), told[:-1], strict=True):
            self.assertTrue(text.startswith(f"RETR {number}: the connection"), text)

    async def test_message_that_was_bad_before_is_named_by_each_run(self) -> None:
        server = self.serve(ONE, TWO)
        server.faults["RETR 2"] = say(b"-ERR broken\r\n")
        await self.get()
        result = await self.get()
        self.assertEqual(
            (result.exit_code, result.stdout),
            (Exit.REFUSED, "fetched: 0, there already: 1, deleted: 0\n"),
        )
        [text] = said(result)
        self.assertTrue(text.startswith("message 2: "), text)
        self.assertTrue(text.endswith("broken; a later run tries it again"), text)
        # A run that is not about it does not complain.
        result = await self.run_command(
            "fetch", str(self.target), "1", server=self.address
        )
        self.assertDone(result, 0, 1)
        self.change("UPDATE message SET state = 'set aside' WHERE state = 'suspect'")
        result = await self.get()
        self.assertEqual(result.exit_code, Exit.REFUSED)
        [text] = said(result)
        self.assertTrue(text.endswith("broken; given up"), text)

    async def test_empty_reply_is_not_a_message_and_is_not_deleted(self) -> None:
        for kind in ("maildir", "mbox"):
            self.target = self.target.parent / kind
            server = self.serve(ONE, message(2))
            server.faults["RETR 2"] = say(b"+OK\r\n.\r\n")
            result = await self.get("--delete", "--format", kind)
            self.assertEqual(
                (result.exit_code, result.stdout),
                (Exit.REFUSED, "fetched: 1, there already: 0, deleted: 1\n"),
            )
            self.assertIn("RETR 2: 0 bytes came", result.stderr)
            self.assertEqual(server.messages, [message(2)])

    async def test_refused_deletion_is_reported_and_others_are_deleted(self) -> None:
        server = self.serve(ONE, TWO)
        server.faults["DELE 1"] = say(b"-ERR no\r\n")
        result = await self.get("--delete")
        self.assertEqual(
            (result.exit_code, result.stdout),
            (Exit.REFUSED, "fetched: 2, there already: 0, deleted: 1\n"),
        )
        self.assertEqual(said(result), ["DELE 1: the server refused: no"])


class QuitTests(FetchTestCase):
    """Success is what the server has confirmed."""

    async def refused(self, fault: Any, *arguments: str) -> Any:
        server = self.serve(ONE, TWO)
        server.faults["QUIT"] = fault
        result = await self.get(*arguments)
        self.assertEqual(self.kept(), lines([ONE, TWO]))
        self.assertEqual(server.messages, [ONE, TWO])
        return result

    def assertUncertain(self, result: Any, status: Exit) -> None:
        self.assertEqual((result.exit_code, result.stdout), (status, ""))
        self.assertIn("2 messages are on disk", result.stderr)
        self.assertIn("NOT deleted, or not for certain", result.stderr)

    async def test_refused_quit_says_deletion_is_uncertain(self) -> None:
        fault = say_and_close(b"-ERR some not deleted\r\n")
        self.assertUncertain(await self.refused(fault, "--delete"), Exit.REFUSED)

    async def test_connection_lost_at_quit_says_deletion_is_uncertain(self) -> None:
        self.assertUncertain(await self.refused(close, "--delete"), Exit.LOST)
        # The next run deletes them.
        server = self.serve(ONE, TWO)
        self.assertDone(await self.get("--delete"), 2, 0, 2)
        self.assertEqual(server.messages, [])

    async def test_refused_quit_without_deletions_does_not_mention_them(self) -> None:
        result = await self.refused(say_and_close(b"-ERR no\r\n"))
        self.assertEqual((result.exit_code, result.stdout), (Exit.REFUSED, ""))
        self.assertIn("2 messages are on disk", result.stderr)
        self.assertNotIn("deleted", result.stderr.partition("QUIT")[0])

    async def test_quit_without_answer_is_a_warning_if_nothing_is_deleted(self) -> None:
        def part(connection: Any) -> bool:
            self.assertTrue(connection.line.startswith("RETR 2"))
            connection.transport.write(b"+OK\r\n" + TWO + b".\r\n")
            connection.transport.loseConnection()
            return True

        server = self.serve(ONE, TWO)
        server.faults["RETR 2"] = part
        result = await self.get()
        self.assertDone(result, 2)
        [text] = said(result)
        self.assertTrue(text.startswith("QUIT: the connection was lost"), text)
        self.assertIn("nothing was to be deleted, and all mail is on disk", text)

    async def test_missing_reply_to_quit_is_as_good_if_nothing_is_deleted(self) -> None:
        for fault in (close, hang):
            self.target = self.target.parent / fault.__name__
            result = await self.refused(fault, "--timeout", "1")
            self.assertDone(result, 2)
            self.assertEqual(said(result), [])


class ListingTests(FetchTestCase):
    async def test_empty_mailbox_may_refuse_its_listings(self) -> None:
        for fault in ("LIST", "UIDL", "LIST UIDL"):
            server = self.serve()
            for verb in fault.split():
                server.faults[verb] = say(b"-ERR nothing here\r\n")
            result = await self.get("--delete")
            self.assertDone(result, 0)
            self.assertEqual(said(result), [])

    async def test_missing_message_exits_refused(self) -> None:
        result = await self.run_command("fetch", str(self.target), "9")
        self.assertEqual((result.exit_code, result.stdout), (Exit.REFUSED, ""))
        self.assertIn("message 9 does not exist", result.stderr)

    async def test_uidl_that_is_refused_once_brings_nothing_twice(self) -> None:
        for refusal, status in (
            (b"-ERR [SYS/TEMP] busy\r\n", Exit.TRY_LATER),
            (b"-ERR Command not understood\r\n", Exit.REFUSED),
        ):
            self.target = self.target.parent / status.name
            server = self.serve(ONE, TWO)
            self.assertDone(await self.get(), 2)
            server.faults["UIDL"] = times(1, say(refusal))
            result = await self.get()
            self.assertEqual((result.exit_code, result.stdout), (status, ""))
            first, second = said(result)
            self.assertIn("cannot be listed in this session", first)
            self.assertTrue(second.startswith("UIDL: the server refused"), second)
            self.assertDone(await self.get(), 0, 2)
            self.assertEqual(self.kept(), lines([ONE, TWO]))


class UniqueIdTests(FetchTestCase):
    """Where unique-ids are missing or equal, the content tells messages apart."""

    async def twice(self, uids: list[str], *, uidl: bool = True) -> Any:
        """Fetch two times from one server; return what the first run said."""
        messages = [message(number) for number in range(1, 4)]
        server = self.serve()
        server.deliver(*messages, uids=uids)
        if not uidl:
            server.faults["UIDL"] = say(b"-ERR what\r\n")
        first = await self.get()
        self.assertDone(first, 3)
        self.assertDone(await self.get(), 0, 3)
        self.assertEqual(self.kept(), lines(messages))
        server.deliver(message(4), uids=uids[:1])
        self.assertDone(await self.get("--delete"), 1, 3, 4)
        self.assertEqual(self.kept(), lines([*messages, message(4)]))
        return said(first)

    async def test_messages_with_blank_ids_are_fetched_once(self) -> None:
        await self.twice(["", "", ""])

    async def test_messages_sharing_an_id_are_fetched_once(self) -> None:
        await self.twice(["same", "same", "same"])

    async def test_all_messages_are_fetched_once_without_uidl(self) -> None:
        [text] = await self.twice(["a", "b", "c"], uidl=False)
        self.assertIn("there is no UIDL", text)

    async def test_id_that_became_ambiguous_skips_no_message(self) -> None:
        """An id that was unique once, and is not now."""
        server = self.serve()
        server.deliver(ONE, uids=["a"])
        self.assertDone(await self.get(), 1)
        server.deliver(TWO, uids=["a"])
        self.assertDone(await self.get("--delete"), 1, 1, 2)
        self.assertEqual(self.kept(), lines([ONE, TWO]))

    async def test_new_message_with_the_id_of_a_deleted_one_is_fetched(self) -> None:
        for kind in ("maildir", "mbox"):
            self.target = self.target.parent / kind
            server = self.serve()
            for content in (ONE, TWO):
                server.deliver(content, uids=["again"])
                result = await self.get("--delete", "--format", kind)
                self.assertDone(result, 1, 0, 1)


class InterruptedTests(FetchTestCase):
    """What comes between, and the same command again."""

    async def test_connection_lost_in_a_message_is_continued_at_once(self) -> None:
        server = self.serve(ONE, TWO)
        server.faults["RETR 2"] = times(
            1, say_and_close(b"+OK\r\nSubject: two\r\n\r\nhalf")
        )
        self.assertDone(await self.get("--delete"), 2, 0, 2)
        self.assertEqual(self.kept(), lines([ONE, TWO]))
        self.assertEqual((server.messages, self.leftovers()), ([], []))

    async def test_connection_lost_for_good_says_what_is_safe(self) -> None:
        for kind in ("maildir", "mbox"):
            self.target = self.target.parent / kind
            server = self.serve(ONE, TWO)

            def lose(connection: Any, server: FaultyServer = server) -> bool:
                server.faults["STAT"] = close
                return say_and_close(b"+OK\r\nSubject: two\r\n\r\nhalf")(connection)

            server.faults["RETR 2"] = lose
            result = await self.get("--delete", "--format", kind)
            self.assertEqual((result.exit_code, result.stdout), (Exit.LOST, ""))
            self.assertIn(
                "1 message is on disk; the same command again continues", result.stderr
            )
            self.assertEqual(server.messages, [ONE, TWO])
            self.assertEqual(self.leftovers(), [])
            server.faults.clear()
            server.in_use = False
            self.change_in_any("UPDATE message SET first_failed = NULL")
            self.assertDone(await self.get("--delete", "--format", kind), 1, 1, 2)

    def change_in_any(self, statement: str) -> None:
        for path in self.target.parent.glob(
            f".{self.target.name}.pop3connect-*/collect.db"
        ):
            with closing(sqlite3.connect(path)) as connection:
                connection.execute(statement)
                connection.commit()

    async def test_maildir_that_disappears_keeps_the_mail_on_the_server(self) -> None:
        server = self.serve(ONE, TWO)
        elsewhere = self.target.with_name("elsewhere")

        def unmount(connection: Any) -> bool:
            self.target.rename(elsewhere)
            return False

        server.faults["RETR 1"] = times(1, unmount)
        result = await self.get("--delete")
        self.assertEqual((result.exit_code, result.stdout), (Exit.LOCAL_FILES, ""))
        self.assertIn("mount it", result.stderr)
        self.assertEqual(server.messages, [ONE, TWO])
        elsewhere.rename(self.target)
        self.assertDone(await self.get("--delete"), 2, 0, 2)

    async def test_lost_session_names_the_messages_that_failed_before(self) -> None:
        server = self.serve(ONE, TWO)
        server.faults["RETR 1"] = say(b"-ERR broken\r\n")
        server.faults["DELE 2"] = close
        result = await self.get("--delete")
        self.assertEqual((result.exit_code, result.stdout), (Exit.LOST, ""))
        self.assertIn("RETR 1: the server refused: broken", said(result))
        self.assertIn("1 message is on disk", result.stderr)
        self.assertEqual(server.messages, [ONE, TWO])

    async def test_server_that_ends_each_session_is_left_with_the_rest(self) -> None:
        messages = [message(number, 3000) for number in range(1, 9)]
        server = self.serve(*messages)
        server.drop_after = 8000
        fetched = 0
        for _ in range(10):
            result = await self.get()
            fetched = len(self.kept())
            if fetched == len(messages):
                break
            self.assertIn(result.exit_code, (Exit.LOST, Exit.REFUSED))
            self.change("UPDATE message SET first_failed = NULL")
        self.assertEqual(self.kept(), lines(messages))

    def fill_disk(self, name: str, *, skip: int) -> Callable[[], None]:
        """Let a call to the disk fail as on a full one."""
        real: Any = getattr(Disk, name)
        calls = 0

        def full(*arguments: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls > skip:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(DISK, *arguments[1:])

        patch: Any = self.patch(Disk, name, full)
        restore: Callable[[], None] = patch.restore
        return restore

    async def test_full_disk_at_any_call_can_be_resumed(self) -> None:
        for number, (kind, name, skip) in enumerate(
            (
                ("maildir", "write", 1),
                ("maildir", "sync", 6),
                ("maildir", "rename", 1),
                ("maildir", "rename", 2),
                ("mbox", "write", 3),
                ("mbox", "sync", 5),
            )
        ):
            self.target = self.target.parent / f"M{number}"
            server = self.serve(*MESSAGES)
            restore = self.fill_disk(name, skip=skip)
            result = await self.get("--delete", "--format", kind)
            restore()
            self.assertEqual(
                (name, result.exit_code), (name, Exit.LOCAL_FILES), result.output
            )
            self.assertIn("No space left on device", result.stderr)
            left = len(server.messages)
            result = await self.get("--delete", "--format", kind)
            self.assertEqual(result.exit_code, 0, result.output)
            self.assertEqual(server.messages, [])
            if kind == "mbox":
                self.assertEqual(self.in_mbox(), 3)
            else:
                self.assertEqual(self.kept(), lines(MESSAGES))
            self.assertLessEqual(left, 3)


class LeftOnServerTests(FetchTestCase):
    """The rules that leave messages on the server, or delete them later."""

    async def test_delete_after_days_counts_from_the_fetch(self) -> None:
        server = self.serve(ONE)
        self.assertDone(await self.get("--delete-after", "2"), 1)
        server.deliver(TWO)
        self.change("UPDATE message SET delivered_at = delivered_at - 172000")
        self.assertDone(await self.get("--delete-after", "2"), 1, 1)
        self.change("UPDATE message SET delivered_at = delivered_at - 1000")
        self.assertDone(await self.get("--delete-after", "2"), 0, 2, 1)
        self.assertEqual(server.messages, [TWO])

    async def test_two_answers_about_deletion_are_a_usage_error(self) -> None:
        for other in ("--keep", "--delete"):
            result = await self.fetch("--delete-after", "2", other)
            self.assertEqual(result.exit_code, Exit.USAGE)
            self.assertIn("not two", result.stderr + str(result.exception))

    async def test_max_messages_are_fetched_and_the_next_run_continues(self) -> None:
        messages = [message(number) for number in range(1, 6)]
        server = self.serve(*messages)
        result = await self.get("--max-messages", "2", "--delete")
        self.assertDone(result, 2, 0, 2)
        self.assertEqual(said(result), ["3 messages left for the next run"])
        server.faults["RETR 1"] = times(1, close)
        result = await self.get("--max-messages", "2", "--delete")
        self.assertDone(await self.get("--max-messages", "9", "--delete"), 1, 0, 1)
        self.assertEqual(self.kept(), lines(messages))

    async def test_new_since_leaves_older_messages(self) -> None:
        old = b"Date: Mon, 04 Mar 2024 08:47:00 +0000\r\n" + message(1)
        date = formatdate().encode()
        fresh = b"Date: " + date + b"\r\n" + message(2)
        top = b"Received: by x; " + date + b"\r\n"
        for since in ("7 days", "2024-03-05", "2024-03-04T12:00:00+00:00"):
            self.target = self.target.parent / since
            self.serve(old, fresh, top + old)
            result = await self.get("--new-since", since)
            self.assertDone(result, 2)
            self.assertEqual(
                said(result),
                ["1 message from before --new-since: left on the server"],
            )
            self.assertEqual(self.kept(), lines([fresh, top + old]))
            # The rule is gone, and with it its effect.
            self.assertDone(await self.get(), 1, 2)

    async def test_new_since_must_be_in_the_past(self) -> None:
        for since in ("", "yesterday", "2024-13-01", "2999-01-01", "7", "0 s"):
            result = await self.fetch("--new-since", since)
            self.assertEqual(result.exit_code, Exit.USAGE, since)

    async def test_messages_are_chosen_by_their_headers(self) -> None:
        messages = [message(number) for number in range(1, 5)]
        self.serve(*messages)
        result = await self.get(
            *("--match", "From: s1@example.org", "--match", "Subject: *3"),
            *("--match", "subject: NUMBER 4", "--skip", "From: s4@*", "--delete"),
        )
        self.assertDone(result, 2, 0, 2)
        self.assertEqual(
            said(result),
            [
                "1 message that no --match fits: left on the server",
                "1 message that a --skip fits: left on the server",
            ],
        )
        self.assertEqual(self.kept(), lines([messages[0], messages[2]]))

    async def test_pattern_that_is_none_is_a_usage_error(self) -> None:
        for option in ("--match", "--skip"):
            result = await self.fetch(option, "*@example.org")
            self.assertEqual(result.exit_code, Exit.USAGE)


class CommandFormatTests(FetchTestCase):
    """Mail for a program."""

    def program(self, text: str) -> str:
        path = Path(self.folder).absolute() / "program.py"
        path.write_text(text)
        return f"command:'{sys.executable}' '{path}' '{self.folder}'"

    def outcome(self, name: str) -> list[str]:
        path = Path(self.folder) / name
        return path.read_text().splitlines() if path.exists() else []

    async def test_program_gets_each_message_once(self) -> None:
        server = self.serve(ONE, message(2))
        command = self.program(
            "import os, sys\n"
            "with open(sys.argv[1] + '/got', 'a') as file:\n"
            "    print(len(sys.stdin.buffer.read()), *(os.environ.get(\n"
            "        f'POP3CONNECT_{name}', '-') for name in\n"
            "        ('ATTEMPT', 'SUBJECT', 'PASSWORD')), file=file)\n"
        )
        self.assertDone(await self.get("--format", command), 2)
        self.assertDone(await self.get("--format", command, "--delete"), 0, 2, 2)
        self.assertEqual(
            sorted(self.outcome("got")),
            [f"{len(ONE)} 1 one -", f"{len(message(2))} 1 number 2 -"],
        )
        self.assertEqual(server.messages, [])
        # The target is the folder for the journal.
        self.assertEqual(len(list(self.target.glob("pop3connect-*/collect.db"))), 1)

    async def test_refused_message_waits_for_the_next_run(self) -> None:
        server = self.serve(ONE, TWO)
        command = self.program(
            "import os, sys\n"
            "text = os.environ['POP3CONNECT_SUBJECT']\n"
            "sys.exit(75 if text == 'one' and not os.path.exists(\n"
            "    sys.argv[1] + '/open') else 0)\n"
        )
        result = await self.get("--format", command, "--delete")
        self.assertEqual(
            (result.exit_code, result.stdout),
            (Exit.TRY_LATER, "fetched: 1, there already: 0, deleted: 1\n"),
        )
        self.assertIn("1 message in", result.stderr)
        self.assertEqual(server.messages, [ONE])
        (Path(self.folder) / "open").touch()
        result = await self.get("--format", command, "--delete")
        self.assertEqual(result.exit_code, 0, result.output)
        self.assertEqual(server.messages, [])

    async def test_message_that_the_program_refuses_for_good_is_not_fetched(
        self,
    ) -> None:
        server = self.serve(ONE, TWO)
        command = self.program(
            "import os, sys\n"
            "sys.exit(65 if os.environ['POP3CONNECT_SUBJECT'] == 'one' else 0)\n"
        )
        result = await self.get("--format", command, "--delete")
        self.assertEqual(
            (result.exit_code, result.stdout),
            (Exit.REFUSED, "fetched: 1, there already: 0, deleted: 1\n"),
            result.stderr,
        )
        [state] = self.target.glob("pop3connect-*")
        self.assertIn(f"1 message given up, with a copy in {state}", result.stderr)
        self.assertIn(f"take --database {state}/collect.db", result.stderr)
        self.assertEqual(len(list((state / "aside").iterdir())), 1)
        self.assertEqual(server.messages, [ONE])

    async def test_program_is_killed_that_ignores_the_end_of_a_run(self) -> None:
        self.serve(ONE)
        command = self.program(
            "import os, signal, sys, time\n"
            "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            "with open(sys.argv[1] + '/part', 'w') as file:\n"
            "    print(os.getpid(), file=file)\n"
            "os.rename(sys.argv[1] + '/part', sys.argv[1] + '/number')\n"
            "time.sleep(600)\n"
        )
        known: list[Deferred[int]] = []

        def run(work: Work) -> int:
            def begin() -> Deferred[int]:
                known.append(Deferred.fromCoroutine(work(reactor)))
                return known[0]

            return blockingCallFromThread(reactor, begin)

        ending = self.get("--format", command, run=run)
        while not self.outcome("number"):
            await deferLater(reactor, 0.01)
        [number] = map(int, self.outcome("number"))
        known[0].cancel()
        await ending
        self.assertRaises(ProcessLookupError, os.kill, number, 0)

    async def test_program_that_is_not_there_is_a_usage_error(self) -> None:
        server = self.serve(ONE)
        for kind in ("command:no-such-program-x", "command:", "command:'", "box"):
            result = await self.get("--format", kind)
            self.assertEqual(result.exit_code, Exit.USAGE, kind)
        self.assertEqual(server.heard, [])

    async def test_state_and_crlf_are_not_for_programs(self) -> None:
        for more in (("--state", self.folder), ("--crlf",)):
            result = await self.fetch("--format", "command:cat", *more)
            self.assertEqual(result.exit_code, Exit.USAGE)


class StateTests(FetchTestCase):
    """The folder with the journal."""

    async def test_journal_is_hidden_beside_the_target_for_its_owner(self) -> None:
        await self.fetch()
        [state] = self.target.parent.glob(".M.pop3connect-*")
        self.assertEqual(stat.S_IMODE(state.stat().st_mode), 0o700)
        # A hidden folder in a Maildir would be taken for a mailbox.
        hidden = [path.name for path in self.target.glob(".*") if path.is_dir()]
        self.assertEqual(hidden, [])

    async def test_state_option_puts_the_journal_elsewhere(self) -> None:
        elsewhere = Path(self.folder).absolute() / "a" / "b"
        for target in ("M", "N"):
            self.target = self.target.parent / target
            options = ("--state", str(elsewhere))
            self.assertDone(await self.fetch(*options), 3)
            self.assertDone(await self.fetch(*options), 0, 3)
        self.assertEqual(list(self.target.parent.glob(".*")), [])
        self.assertEqual(len(list(elsewhere.glob("*/collect.db"))), 2)

    async def test_second_run_waits_a_moment_for_the_first(self) -> None:
        await self.fetch()
        [state] = self.target.parent.glob(".M.pop3connect-*")
        lock = FolderLock.take(state)
        fetching_ = self.fetch()
        await deferLater(reactor, 0.4)
        self.assertFalse(fetching_.called)
        lock.release()
        self.assertDone(await fetching_, 0, 3)

    async def test_second_run_gives_up_after_a_moment_without_login(self) -> None:
        server = self.serve(ONE)
        await self.get()
        heard = len(server.heard)
        [state] = self.target.parent.glob(".M.pop3connect-*")
        lock = FolderLock.take(state)
        self.addCleanup(lock.release)
        self.patch(fetching, "_MOMENT", 0.3)
        result = await self.get()
        self.assertEqual((result.exit_code, result.stdout), (Exit.TRY_LATER, ""))
        self.assertIn(f"is in use by process {os.getpid()}", result.stderr)
        self.assertEqual(len(server.heard), heard)

    async def test_planted_state_folder_is_refused(self) -> None:
        server = self.serve(ONE)
        await self.get()
        [state] = self.target.parent.glob(".M.pop3connect-*")
        elsewhere = state.with_name("elsewhere")
        state.rename(elsewhere)
        state.symlink_to(elsewhere)
        heard = len(server.heard)
        result = await self.get()
        self.assertEqual(result.exit_code, Exit.LOCAL_FILES)
        self.assertEqual(len(server.heard), heard)

    async def test_damaged_journal_is_named_and_nobody_logs_in(self) -> None:
        server = self.serve(ONE)
        await self.get()
        heard = len(server.heard)
        self.database().write_bytes(b"not a database" * 1000)
        result = await self.get()
        self.assertEqual((result.exit_code, result.stdout), (Exit.LOCAL_FILES, ""))
        self.assertIn("collect.db", result.stderr)
        self.assertEqual(len(server.heard), heard)

    async def test_maildir_that_is_gone_is_not_made_again(self) -> None:
        server = self.serve(ONE)
        await self.get()
        heard = len(server.heard)
        self.target.rename(self.target.with_name("elsewhere"))
        result = await self.get("--delete")
        self.assertEqual((result.exit_code, result.stdout), (Exit.LOCAL_FILES, ""))
        self.assertIn("mount it", result.stderr)
        self.assertIn("to fetch all mail again, remove", result.stderr)
        self.assertFalse(self.target.exists())
        self.assertEqual((len(server.heard), server.messages), (heard, [ONE]))

    async def test_maildir_that_is_gone_is_not_replaced_by_an_mbox(self) -> None:
        server = self.serve(ONE)
        await self.get()
        self.target.rename(self.target.with_name("elsewhere"))
        result = await self.get("--format", "mbox", "--delete")
        self.assertEqual((result.exit_code, result.stdout), (Exit.LOCAL_FILES, ""))
        self.assertIn("to fetch all mail again, remove", result.stderr)
        self.assertFalse(self.target.exists())
        self.assertEqual(server.messages, [ONE])

    async def test_mbox_whose_folder_is_gone_keeps_the_mail_on_the_server(self) -> None:
        server = self.serve(ONE)
        self.target = self.target / "box"
        options = ("--format", "mbox", "--state", str(self.folder))
        await self.get(*options)
        server.deliver(TWO)
        shutil.rmtree(self.target.parent)
        result = await self.get(*options, "--delete")
        self.assertEqual((result.exit_code, result.stdout), (Exit.LOCAL_FILES, ""))
        self.assertFalse(self.target.parent.exists())
        self.assertEqual(server.messages, [ONE, TWO])

    async def test_held_account_says_how_it_is_released(self) -> None:
        await self.fetch()
        self.change("UPDATE account SET state = 'held'")
        result = await self.fetch()
        self.assertEqual((result.exit_code, result.stdout), (Exit.TRY_LATER, ""))
        self.assertIn(f"--database {self.database()}", result.stderr)
        self.assertIn("accounts release", result.stderr)

    async def test_right_password_works_after_many_wrong_ones(self) -> None:
        wrong = {"POP3CONNECT_PASSWORD": "wrong-as-can-be"}
        for _ in range(6):
            result = await self.fetch("--auth", "USER", environment=wrong)
            self.assertEqual(result.exit_code, Exit.LOGIN_REFUSED, result.output)
            self.assertNotIn("wrong-as-can-be", result.output)
        self.assertDone(await self.fetch(), 3)


class DovecotTests(FetchTestCase):
    """Octet by octet, what a real server has."""

    skip = dovecot.skip_reason()

    async def test_twenty_messages_are_fetched_exactly_and_deleted(self) -> None:
        messages = [
            b"Subject: %d\r\n\r\n.%s\r\n..\r\n" % (number, bytes([200 + number]) * 5000)
            for number in range(20)
        ]
        server: Any = dovecot.shared()
        mailbox_ = server.add_user(messages)
        result = await self.run_click(
            "fetch",
            f"localhost:{server.tls_port}",
            "--user",
            mailbox_.user,
            "--cacerts",
            server.cacerts,
            "--crlf",
            "--delete",
            str(self.target),
            environment={"POP3CONNECT_PASSWORD": mailbox_.password},
        )
        self.assertEqual(result.exit_code, 0, result.output)
        self.assertEqual(self.kept(), sorted(messages))
        self.assertEqual(mailbox_.files(), [])
