"""
``fetch``: each message once, none lost, and deleted only when it is safe.
"""

from __future__ import annotations

import errno
import mailbox
from contextlib import closing
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from pop3connect import files as disk
from pop3connect.cli.exits import Exit
from pop3connect.cli.record import Record
from pop3connect.destinations import store_maildir as maildir
from pop3connect.destinations.store import Delivery
from pop3connect.testing import Script

from ..support import dovecot
from ..support.command import USER, CommandTestCase, told
from ..support.loopback import MESSAGES, PASSWORD

ONE, TWO = b"Subject: one\r\n\r\n1\r\n", b"Subject: two\r\n\r\n2\r\n"


def lines(messages: Any) -> list[bytes]:
    """Return messages as they lie on the disk, in some order."""
    return sorted(message.replace(b"\r\n", b"\n") for message in messages)


class FetchTestCase(CommandTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.target = Path(self.folder) / "M"

    def in_mbox(self) -> int:
        """
        Return how many messages the target has, as an mbox.
        """
        with closing(mailbox.mbox(self.target)) as box:
            return len(box)

    def kept(self) -> list[bytes]:
        new = self.target / "new"
        return sorted(path.read_bytes() for path in new.iterdir())

    def fetch(self, *arguments: str, **rest: Any) -> Deferred[Any]:
        return self.run_command("fetch", *arguments, str(self.target), **rest)

    def session(
        self, uids: tuple[str, ...] = ("1 a", "2 b"), *, known: bool = True
    ) -> Script:
        """Begin a session with two messages."""
        script = Script().greet().log_in(USER, PASSWORD, ("UIDL",)).expect("LIST")
        script.reply("+OK", lines=["1 18", "2 18"]).expect("UIDL")
        return script.reply("+OK", lines=uids) if known else script.reply("-ERR what")


class FetchTests(FetchTestCase):
    async def test_second_fetch_gets_no_message_twice(self) -> None:
        result = await self.fetch()
        self.assertEqual(
            (result.exit_code, result.output),
            (0, "fetched: 3, there already: 0, deleted: 0\n"),
        )
        self.assertEqual(self.kept(), lines(MESSAGES))
        result = await self.fetch()
        self.assertEqual(result.output, "fetched: 0, there already: 3, deleted: 0\n")
        self.assertEqual(self.kept(), lines(MESSAGES))
        self.assertEqual(len(self.drop.messages), 3)

    async def test_crlf_option_keeps_the_exact_bytes(self) -> None:
        await self.fetch("--crlf")
        self.assertEqual(self.kept(), sorted(MESSAGES))

    async def test_only_the_named_messages_are_fetched(self) -> None:
        result = await self.run_command("fetch", str(self.target), "1", "3")
        self.assertEqual(result.exit_code, 0)
        self.assertEqual(self.kept(), lines([MESSAGES[0], MESSAGES[2]]))

    async def test_messages_above_max_size_are_skipped_with_a_warning(self) -> None:
        script = Script().greet().log_in(USER, PASSWORD, ("UIDL",)).expect("LIST")
        script.reply("+OK", lines=["1 19", "2 18"]).expect("UIDL")
        script.reply("+OK", lines=["1 a", "2 b"]).expect("RETR 2")
        script.message(TWO).expect("DELE 2").reply().quit()
        result = await self.fetch(
            "--delete", "--max-size", "18", server=self.scripted(script)
        )
        self.assertEqual(
            (result.exit_code, result.stdout),
            (0, "fetched: 1, there already: 0, deleted: 1\n"),
        )
        self.assertIn(
            "1 message of more than 18 octets: left on the server", result.stderr
        )
        self.assertEqual(self.kept(), lines([TWO]))

    async def test_mbox_format_is_recognised_on_the_next_fetch(self) -> None:
        result = await self.fetch("--format", "mbox")
        self.assertEqual(result.exit_code, 0)
        self.assertEqual(self.in_mbox(), 3)
        # That it is an mbox is seen.
        result = await self.fetch()
        self.assertEqual(result.output, "fetched: 0, there already: 3, deleted: 0\n")
        self.assertEqual(self.in_mbox(), 3)

    async def test_crlf_with_mbox_is_a_usage_error(self) -> None:
        result = await self.fetch("--format", "mbox", "--crlf")
        self.assertEqual(result.exit_code, Exit.USAGE)

    async def test_file_as_maildir_target_exits_local_files(self) -> None:
        self.target.write_bytes(b"")
        result = await self.fetch("--format", "maildir")
        self.assertEqual(result.exit_code, Exit.LOCAL_FILES)
        self.assertIn(str(self.target), result.stderr)

    async def test_delete_removes_fetched_messages_from_the_server(self) -> None:
        result = await self.fetch("--delete")
        self.assertEqual(
            (result.exit_code, result.output),
            (0, "fetched: 3, there already: 0, deleted: 3\n"),
        )
        self.assertEqual(self.drop.messages, [])
        self.assertEqual(self.kept(), lines(MESSAGES))

    async def test_delete_includes_messages_fetched_before(self) -> None:
        await self.run_command("fetch", str(self.target), "2")
        result = await self.fetch("--delete")
        self.assertEqual(result.output, "fetched: 2, there already: 1, deleted: 3\n")
        self.assertEqual(self.kept(), lines(MESSAGES))

    async def test_a_message_that_is_refused_does_not_stop_the_others(self) -> None:
        script = self.session().expect("RETR 1").reply("-ERR broken").expect("RETR 2")
        script.message(TWO).expect("DELE 2").reply().quit()
        result = await self.fetch("--delete", server=self.scripted(script))
        self.assertEqual(
            (result.exit_code, result.stdout),
            (Exit.REFUSED, "fetched: 1, there already: 0, deleted: 1\n"),
        )
        self.assertEqual(told(result), "RETR 1: the server refused: broken")
        self.assertEqual(self.kept(), lines([TWO]))

    async def test_refused_deletion_is_reported_and_others_are_deleted(self) -> None:
        script = self.session().expect("RETR 1").message(ONE)
        script.expect("RETR 2").message(TWO).expect("DELE 1").reply("-ERR no")
        script.expect("DELE 2").reply().quit()
        result = await self.fetch("--delete", server=self.scripted(script))
        self.assertEqual(
            (result.exit_code, result.stdout),
            (Exit.REFUSED, "fetched: 2, there already: 0, deleted: 1\n"),
        )
        self.assertEqual(told(result), "DELE 1: the server refused: no")


class QuitTests(FetchTestCase):
    """Success is what the server has confirmed."""

    async def refused(self, end: Any, *arguments: str) -> Any:
        script = self.session().expect("RETR 1").message(ONE)
        script.expect("RETR 2").message(TWO)
        if arguments:
            script.expect("DELE 1").reply().expect("DELE 2").reply()
        end(script.expect("QUIT"))
        result = await self.fetch(*arguments, server=self.scripted(script))
        self.assertEqual(self.kept(), lines([ONE, TWO]))
        self.assertEqual(result.stdout, "")
        self.assertIn("2 messages are on disk", result.stderr)
        return result

    async def test_refused_quit_says_deletion_is_uncertain(self) -> None:
        result = await self.refused(
            lambda script: script.reply("-ERR some not deleted").close(), "--delete"
        )
        self.assertEqual(result.exit_code, Exit.REFUSED)
        self.assertIn("NOT deleted, or not for certain", result.stderr)

    async def test_connection_lost_at_quit_says_deletion_is_uncertain(self) -> None:
        result = await self.refused(lambda script: script.drop(), "--delete")
        self.assertEqual(result.exit_code, Exit.LOST)
        self.assertIn("NOT deleted, or not for certain", result.stderr)

    async def test_refused_quit_without_deletions_does_not_mention_them(self) -> None:
        result = await self.refused(lambda script: script.reply("-ERR no").close())
        self.assertEqual(result.exit_code, Exit.REFUSED)
        self.assertNotIn("deleted", result.stderr.partition("QUIT")[0])


class EmptyMailboxTests(FetchTestCase):
    async def test_refused_list_in_an_empty_mailbox_fetches_nothing(self) -> None:
        script = Script().greet().log_in(USER, PASSWORD, ("UIDL",)).expect("LIST")
        script.reply("-ERR nothing here").expect("STAT").reply("+OK 0 0").quit()
        result = await self.fetch(server=self.scripted(script))
        self.assertEqual(
            (result.exit_code, result.stdout, result.stderr.count("UIDL")),
            (0, "fetched: 0, there already: 0, deleted: 0\n", 0),
        )

    async def test_missing_message_exits_refused(self) -> None:
        result = await self.run_command("fetch", str(self.target), "9")
        self.assertEqual((result.exit_code, result.stdout), (Exit.REFUSED, ""))
        self.assertIn("message 9 does not exist", result.stderr)


class UniqueIdTests(FetchTestCase):
    """What cannot be told apart is not skipped."""

    async def twice(self, uids: tuple[str, ...], *, known: bool = True) -> list[Any]:
        """Fetch two times from one server; both times it has to send all."""
        scripts = []
        for _ in range(2):
            script = self.session(uids, known=known).expect("RETR 1").message(ONE)
            scripts.append(script.expect("RETR 2").message(TWO).quit())
        server = self.scripted(*scripts)
        results = [await self.fetch(server=server) for _ in scripts]
        self.assertEqual(self.kept(), lines([ONE, ONE, TWO, TWO]))
        for result in results:
            self.assertEqual(
                (result.exit_code, result.stdout),
                (0, "fetched: 2, there already: 0, deleted: 0\n"),
            )
        return results

    async def test_messages_with_blank_ids_are_fetched_every_time(self) -> None:
        for result in await self.twice(("1 ", "2")):
            self.assertIn(
                "2 messages with a blank or repeated unique-id", result.stderr
            )

    async def test_messages_sharing_an_id_are_fetched_every_time(self) -> None:
        for result in await self.twice(("1 same", "2 same")):
            self.assertIn(
                "2 messages with a blank or repeated unique-id", result.stderr
            )

    async def test_all_messages_are_fetched_every_time_without_uidl(self) -> None:
        for result in await self.twice((), known=False):
            self.assertIn("all are fetched", result.stderr)

    async def test_id_that_became_ambiguous_skips_no_message(self) -> None:
        """An id that was unique once, and is not now."""
        first = self.session(("1 a",)).expect("RETR 1").message(ONE)
        first.expect("RETR 2").message(TWO).quit()
        second = self.session(("1 a", "2 a")).expect("RETR 1").message(ONE)
        second.expect("RETR 2").message(TWO).quit()
        server = self.scripted(first, second)
        for _ in range(2):
            result = await self.fetch(server=server)
            self.assertEqual(result.exit_code, 0, result.output)


class InterruptedTests(FetchTestCase):
    """What comes between, and the same command again."""

    async def resume(self, kept: int) -> None:
        self.assertEqual(len(self.kept()), kept)
        self.assertEqual(list((self.target / "tmp").iterdir()), [])
        self.factory.halves = False
        result = await self.fetch("--delete")
        self.assertEqual(
            result.output, f"fetched: {3 - kept}, there already: {kept}, deleted: 3\n"
        )
        self.assertEqual(self.kept(), lines(MESSAGES))

    async def test_connection_lost_in_a_message_is_resumed_by_next_run(self) -> None:
        first = self.session().expect("RETR 1").message(ONE)
        first.expect("RETR 2").say("+OK\r\nSubject: two\r\n\r\nhalf").close()
        second = self.session().expect("RETR 2").message(TWO).expect("DELE 1").reply()
        second.expect("DELE 2").reply().quit()
        server = self.scripted(first, second)
        result = await self.fetch("--delete", server=server)
        self.assertEqual((result.exit_code, result.stdout), (Exit.LOST, ""))
        self.assertIn("1 message is on disk; the same command", result.stderr)
        self.assertEqual(self.kept(), lines([ONE]))
        self.assertEqual(list((self.target / "tmp").iterdir()), [])
        result = await self.fetch("--delete", server=server)
        self.assertEqual(result.output, "fetched: 1, there already: 1, deleted: 2\n")
        self.assertEqual(self.kept(), lines([ONE, TWO]))

    async def test_crash_before_the_record_entry_duplicates_nothing(self) -> None:
        await self.fetch()
        [record] = self.target.glob(".*.jsonl")
        noted = record.read_bytes()
        record.write_bytes(noted[:-5])
        result = await self.fetch()
        self.assertIn("fetched: 0, there already: 3", result.output)
        self.assertEqual(self.kept(), lines(MESSAGES))
        self.assertEqual(record.read_bytes(), noted)

    async def test_crash_before_the_mbox_record_entry_duplicates_nothing(self) -> None:
        class PowerCut(BaseException):
            """The process ends here."""

        add, calls = Record.add, 0

        def last(record: Record, uid: str) -> None:
            nonlocal calls
            calls += 1
            if calls == 2:
                raise PowerCut
            add(record, uid)

        patch = self.patch(Record, "add", last)
        with self.assertRaises(PowerCut):
            await self.fetch("--format", "mbox")
        patch.restore()
        self.assertEqual(self.in_mbox(), 2)
        await self.factory.when_left()
        # Whoever comes first notes it: another account, or other numbers.
        other = self.run_click(
            "fetch", self.server, "--secure", "none", "--user", "bob", str(self.target)
        )
        self.assertIn("fetched: 3", (await other).output)
        result = await self.fetch()
        self.assertEqual(result.output, "fetched: 1, there already: 2, deleted: 0\n")
        self.assertEqual(self.in_mbox(), 6)

    async def test_full_disk_at_the_second_message_can_be_resumed(self) -> None:
        keep, calls = disk.replace, 0

        def full(source: Path, target: Path) -> None:
            nonlocal calls
            calls += 1
            if calls == 2:
                raise OSError(errno.ENOSPC, "No space left on device")
            keep(source, target)

        patch = self.patch(maildir, "replace", full)
        result = await self.fetch("--delete")
        patch.restore()
        self.assertEqual((result.exit_code, result.stdout), (Exit.LOCAL_FILES, ""))
        self.assertIn("No space left on device", result.stderr)
        self.assertEqual(len(self.drop.messages), 3)
        await self.factory.when_left()
        await self.resume(1)

    async def test_full_disk_within_a_message_can_be_resumed(self) -> None:
        def full(delivery: Delivery, data: bytes) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        patch = self.patch(Delivery, "write", full)
        result = await self.fetch("--delete")
        patch.restore()
        self.assertEqual((result.exit_code, result.stdout), (Exit.LOCAL_FILES, ""))
        await self.factory.when_left()
        await self.resume(0)


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
