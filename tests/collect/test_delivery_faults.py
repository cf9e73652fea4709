"""
Deliveries that meet what should not happen: errors of the disk whose outcome is
uncertain, functions that raise anything, destinations that are gone, clocks and names
of machines that change.
"""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from pop3connect import files
from pop3connect.collect import courier, places
from pop3connect.collect.journal import Journal, JournalError, StorageFullError
from pop3connect.collect.lock import InUseError
from pop3connect.collect.records import MessageState
from pop3connect.collect.settings import DestinationSettings
from pop3connect.collect.tools import Threads
from pop3connect.destinations import Later, Mail, Never
from pop3connect.destinations.folder import Disk
from pop3connect.destinations.maildir import Maildir

from .engine import Collecting, message
from .test_delivery import Running

MAIL = [message(number) for number in range(1, 6)]


class _NewBreaks(Disk):
    """A disk on which the folder ``new`` cannot be fsynced for some calls."""

    def __init__(self, count: int) -> None:
        self.left = count

    def sync(self, descriptor: int) -> None:
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith("/new") and self.left:
            self.left -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().sync(descriptor)


class UncertainTests(Running):
    """
    Errors after which it is not known whether something was done.
    """

    def test_maildir_whose_new_cannot_be_fsynced_gets_each_message_once(self) -> None:
        for spooled in (False, True):
            with self.subTest(spooled=spooled):
                server = self.serve(*MAIL)
                disk = _NewBreaks(4)
                path = self.root / f"mail{spooled}"
                self.objects["box"] = Maildir(path, "here", disk=disk)
                self.objects["other"] = Collecting()
                name = f"a{spooled}"
                self.servers[name] = server
                self.account(
                    name, to=("box", "other") if spooled else ("box",), after="delete"
                )
                self.begin()
                self.pass_time(700, 2)
                self.assertEqual(disk.left, 0)
                self.assertEqual(self.mail(path.name), MAIL)
                self.assertEqual(server.messages, [])
                self.stop()
                self.accounts.clear()

    def test_row_whose_commit_seemed_to_fail_is_delivered_without_a_restart(
        self,
    ) -> None:
        server = self.serve(*MAIL)
        self.maildir()
        self.account(after="delete", interval=5)
        failing = [True]

        def hook(moment: str) -> None:
            if moment == "after add" and failing.pop():
                failing.append(False)
                raise StorageFullError("the disk is full")

        self.begin(hook=hook)
        self.pass_time(300, 2)
        self.assertEqual(self.mail(), MAIL)
        self.assertEqual(server.messages, [])
        self.assertEqual(server.count("RETR"), 5)
        self.assertEqual(self.leftovers(), [])


class FunctionTests(Running):
    """
    Functions that raise anything.
    """

    def check(self, error: BaseException) -> None:
        server = self.serve(*MAIL)
        got: list[bytes] = []
        tried: list[str] = []

        async def call(mail: Mail, attempt: int) -> None:
            tried.append(mail.key)
            if b"number 3" in mail.read():
                raise error
            got.append(mail.read())

        self.destinations.append(
            DestinationSettings(name="app", kind="function", call=call)
        )
        self.account(to=("app",), after="delete", interval=600)
        self.begin()
        self.pass_time(60)
        self.assertEqual(sorted(got), [*MAIL[:2], *MAIL[3:]])
        self.assertLess(len(tried), 10)
        for number in range(10, 20):
            server.deliver(message(number))
            self.pass_time(700, 20)
        self.assertEqual(self.states().count(MessageState.SET_ASIDE), 1)
        self.assertEqual(server.messages, [MAIL[2]])
        self.flushLoggedErrors()

    def test_function_that_raises_cancelled_error_is_a_refusal(self) -> None:
        self.check(CancelledError())

    def test_function_that_raises_system_exit_is_a_refusal(self) -> None:
        self.check(SystemExit(3))

    def test_function_that_raises_cancelled_error_of_asyncio_is_a_refusal(
        self,
    ) -> None:
        self.check(asyncio.CancelledError())


class ConfigurationTests(Running):
    """
    Destinations that leave the configuration while mail waits for them.
    """

    def test_removed_destination_keeps_its_mail_and_the_collector_goes_on(
        self,
    ) -> None:
        server = self.serve(*MAIL)
        self.maildir()
        gone = DestinationSettings(
            name="gone", kind="command", command=("/does/not/exist",)
        )
        self.destinations.append(gone)
        self.account(to=("box", "gone"), after="delete", interval=5)
        died: list[BaseException] = []
        service = self.begin(died=died.append)
        self.pass_time(10)
        self.assertEqual(self.mail(), MAIL)
        self.destinations.remove(gone)
        self.account(to=("box",), after="delete", interval=5)
        self.result(Deferred.fromCoroutine(service.reload(self.config)))
        server.deliver(message(6))
        self.pass_time(700, 5)
        self.assertEqual(died, [])
        self.assertEqual(len(self.mail()), 6)
        self.assertEqual(server.messages, MAIL)
        self.flushLoggedErrors()

    def test_object_of_the_program_is_not_stopped_by_other_settings(self) -> None:
        server = self.serve(*MAIL)
        self.maildir("one", path="first")
        self.objects["one"] = one = Collecting()
        stops: list[object] = []
        one.stop = lambda: stops.append(None)  # type: ignore[attr-defined]
        self.account(to=("one",), interval=5)
        service = self.begin()
        self.pass_time(10)
        self.destinations.clear()
        self.maildir("one", path="second")
        self.result(Deferred.fromCoroutine(service.reload(self.config)))
        self.assertEqual(stops, [])
        server.deliver(message(6))
        self.pass_time(20)
        self.assertEqual(len(one.contents), 6)


class WaitingTests(Running):
    """
    A Maildir whose file system may not answer.
    """

    def test_its_files_are_looked_for_in_its_own_threads(self) -> None:
        self.serve(*MAIL)
        self.maildir()
        self.account(interval=5)
        calls: list[Threads] = []
        searches: list[Threads] = []
        call, find = Threads.__call__, Maildir.find

        def calling(threads: Threads, *arguments: Any, **named: Any) -> Any:
            calls.append(threads)
            try:
                return call(threads, *arguments, **named)
            finally:
                calls.pop()

        def finding(maildir: Maildir, name: str) -> Path | None:
            searches.append(calls[-1])
            return find(maildir, name)

        def in_trouble(*arguments: Any, **named: Any) -> Any:
            raise Later(1000, whole_destination=True)

        self.patch(Threads, "__call__", calling)
        self.patch(Maildir, "find", finding)
        self.patch(Maildir, "prove", in_trouble)
        self.killed_once("after add")
        service = self.begin()
        self.pass_time(20)
        self.assertNotEqual(searches, [])
        self.assertNotIn(service._tools.files, searches)
        self.flushLoggedErrors()


class TableTests(Running):
    """
    The table ``inbox``.
    """

    def setUp(self) -> None:
        super().setUp()
        self.destinations.append(DestinationSettings(name="in", kind="table"))

    def test_message_whose_file_cannot_be_read_is_not_tried_without_pause(
        self,
    ) -> None:
        server = self.serve(*MAIL)
        self.account(to=("in",), after="delete", interval=3600)
        tries = []
        opened = Mail.open

        def refuse(mail: Mail) -> Any:
            if mail.size == len(MAIL[0]) and "number 3" in mail.subject:
                tries.append(mail.key)
                raise PermissionError(errno.EACCES, "Permission denied")
            return opened(mail)

        self.patch(Mail, "open", refuse)
        rounds = []
        real = courier.Courier._round

        async def counted(one: Any) -> int:
            rounds.append(1)
            if len(rounds) > 2000:
                raise AssertionError("it is tried without a pause")
            return await real(one)

        self.patch(courier.Courier, "_round", counted)
        self.begin()
        self.pass_time(60)
        self.assertEqual(self.states().count(MessageState.DELETED), 4)
        self.assertLess(len(tries), 8)
        self.assertEqual(server.messages, [MAIL[2]])

    def hold_notes(self) -> list[Callable[[], object]]:
        """Return a list that receives what writes each message into the table."""
        waiting: list[Callable[[], object]] = []
        real = Journal.deliver_to_inbox

        def hold(*arguments: Any) -> Deferred[Any]:
            done: Deferred[Any] = Deferred()
            waiting.append(lambda: real(*arguments).chainDeferred(done))
            return done

        self.patch(Journal, "deliver_to_inbox", hold)
        return waiting

    def test_messages_are_handed_over_together_so_that_they_share_a_commit(
        self,
    ) -> None:
        server = self.serve(*MAIL)
        self.account(to=("in",), after="delete")
        waiting = self.hold_notes()
        self.begin()
        self.pass_time(2)
        self.assertEqual(len(waiting), 5)
        for note in waiting:
            note()
        self.pass_time(3)
        self.assertEqual(len(waiting), 5)
        self.assertEqual(server.messages, [])

    def test_few_bytes_are_in_memory_at_a_time(self) -> None:
        self.serve(*MAIL)
        self.account(to=("in",), after="delete")
        self.patch(courier, "INBOX_BYTES", len(MAIL[0]) + 1)
        waiting = self.hold_notes()
        self.begin()
        handed = []
        for _ in range(4):
            self.pass_time(2)
            handed.append(len(waiting))
            held = waiting.copy()
            waiting.clear()
            for note in held:
                note()
        self.assertEqual(handed, [2, 2, 1, 0])
        self.assertEqual(self.states(), [MessageState.DELETED] * 5)

    def test_error_of_the_journal_delivers_the_others_of_its_group_once(self) -> None:
        server = self.serve(*MAIL)
        self.account(to=("in",), after="delete", interval=60)
        real = Journal.deliver_to_inbox
        failed = []

        def failing(*arguments: Any) -> Any:
            if len(failed) < 2:
                failed.append(arguments)
                return fail(JournalError("not now"))
            return real(*arguments)

        self.patch(Journal, "deliver_to_inbox", failing)
        self.begin()
        self.pass_time(200, 5)
        self.assertEqual(server.messages, [])
        self.stop()
        with sqlite3.connect(self.root / "state" / "collect.db") as database:
            found = database.execute("SELECT message FROM inbox").fetchall()
        database.close()
        self.assertEqual(sorted(content for (content,) in found), MAIL)

    def test_message_that_is_too_large_is_never_read_whole(self) -> None:
        self.serve(*MAIL, message(7, 10_000))
        self.account(to=("in",), after="delete")
        self.patch(courier, "INBOX_LIMIT", 5000)
        self.begin()
        self.pass_time(30)
        self.assertEqual(self.states().count(MessageState.SET_ASIDE), 1)
        self.assertEqual(self.states().count(MessageState.DELETED), 5)


class RestartTests(Running):
    """
    What is different after a crash.
    """

    def test_clock_that_was_set_back_while_nothing_ran_proves_nothing(self) -> None:
        server = self.serve(*MAIL)
        self.maildir()
        self.account(after="delete")
        self.killed_once("after add")
        for file in (self.root / "mail" / "tmp").glob("*"):
            # A cleaner, days later.
            file.unlink()
        self.skew = -3 * 86400.0
        self.once()
        self.once()
        self.assertEqual(self.mail(), MAIL)
        self.assertEqual(server.messages, [])

    def test_clock_that_is_set_right_by_seconds_still_proves(self) -> None:
        server = self.serve(*MAIL)
        self.maildir()
        self.account(after="delete")
        self.killed_once("before delivered")
        for file in (self.root / "mail" / "new").glob("*"):
            file.unlink()
        self.skew = -10.0
        self.once()
        self.assertEqual(self.mail(), [])
        self.assertEqual(server.count("RETR"), 5)
        self.assertEqual(server.messages, [])

    def test_machine_that_has_another_name_delivers_what_waits(self) -> None:
        for moment in ("after add", "before delivered", "after delivering"):
            for to in (("box",), ("box", "one")):
                if moment == "after delivering" and len(to) == 1:
                    continue
                with self.subTest(moment=moment, to=to):
                    name = f"a{moment[:8]}{len(to)}".replace(" ", "")
                    server = self.serve(*MAIL, name=name)
                    self.destinations.clear()
                    self.maildir(path=name)
                    self.objects["one"] = one = Collecting()
                    self.accounts.clear()
                    self.account(name, to=to, after="delete")
                    self.killed_once(moment)
                    service = self.service()
                    service._machine = "other"
                    self.begin_again(service)
                    self.assertEqual(self.mail(name), MAIL)
                    self.assertEqual(server.messages, [])
                    self.assertEqual(server.count("RETR"), 5)
                    if len(to) == 2:
                        self.assertEqual(sorted(one.contents), MAIL)

    def begin_again(self, service: Any) -> None:
        self.running = service
        self.result(service.startService())
        self.pass_time(700, 5)
        self.stop()

    def test_path_that_is_not_utf_8_is_delivered_to(self) -> None:
        self.root = self.root / os.fsdecode(b"m\xfcller")
        self.root.mkdir()
        server = self.serve(*MAIL)
        self.maildir()
        self.account(after="delete")
        self.killed_once("before delivered")
        self.once()
        self.assertEqual(self.mail(), MAIL)
        self.assertEqual(server.messages, [])
        self.assertEqual(server.count("RETR"), 5)


class HiddenTests(Running):
    """
    Mail that cannot be delivered, in front of mail that can.
    """

    def test_mail_of_a_removed_account_does_not_hide_that_of_others(self) -> None:
        self.serve(*[message(number) for number in range(130)], name="b")
        server = self.serve(*MAIL)
        self.objects["one"] = one = Collecting()

        def down(mail: Mail) -> None:
            raise Later(reason="down", whole_destination=True)

        one.fail = down
        self.account("b", to=("one",), interval=5)
        self.begin()
        self.pass_time(20)
        self.stop()
        self.accounts.clear()
        self.account(to=("one",), after="delete", interval=5)
        one.fail = lambda mail: None
        self.begin()
        self.pass_time(60)
        self.assertEqual(sorted(one.contents), MAIL)
        self.assertEqual(server.messages, [])

    def test_mail_for_a_removed_destination_is_reported_at_the_start(self) -> None:
        self.serve(*MAIL)
        self.maildir()
        self.objects["one"] = one = Collecting()

        def down(mail: Mail) -> None:
            raise Later(reason="down", whole_destination=True)

        one.fail = down
        self.account(to=("box", "one"), interval=600)
        self.begin()
        self.pass_time(20)
        self.stop()
        del self.objects["one"]
        self.account(to=("box",), interval=600)
        events: list[Any] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        self.begin()
        self.pass_time(100)
        told = map(formatEvent, events)
        found = [text for text in told if "destination.one" in text]
        self.assertEqual(len(found), 1)
        self.assertIn("define it again", found[0])

    def test_300_000_accounts_may_wait(self) -> None:
        self.serve(*MAIL)
        self.objects["one"] = one = Collecting()
        self.account(to=("one",))
        service = self.begin()
        self.pass_time(5)
        asked = service._journal.due_deliveries("one", 10, without=range(2, 300_000))
        self.assertEqual(self.successResultOf(asked), [])
        self.assertEqual(sorted(one.contents), MAIL)


class AsideTests(Running):
    """
    Copies of messages that were set aside.
    """

    def test_copies_that_the_journal_does_not_know_are_reported_at_the_start(
        self,
    ) -> None:
        self.serve(*MAIL)
        self.objects["one"] = one = Collecting()

        def never(mail: Mail) -> None:
            raise Never("unwanted")

        one.fail = never
        self.account(to=("one",))
        events: list[Any] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        self.begin()
        self.pass_time(30)
        self.stop()
        self.once()
        said = "messages that the journal does not know"
        self.assertNotIn(said, "".join(filter(None, map(formatEvent, events))))
        self.read(lambda journal: journal.remove("a"))
        self.once()
        (told,) = [text for text in map(formatEvent, events) if said in text]
        self.assertIn("aside has 5 ", told)
        self.assertEqual(len(list((self.root / "state" / "aside").iterdir())), 10)


class PlacesTests(SynchronousTestCase):
    """
    The list of places that have received mail.
    """

    def test_place_that_is_added_while_another_one_is_written_is_kept(self) -> None:
        file = Path(self.mktemp())
        known = places.KnownPlaces(file)
        second = Event()
        write = files.write_whole

        def slow(path: Path, content: bytes) -> None:
            # The first waits for the second, if that does not wait for the first.
            second.wait(0.1)
            second.set()
            write(path, content)

        self.patch(places, "write_whole", slow)
        paths = [Path("/mail/one"), Path("/mail/two")]
        with ThreadPoolExecutor(2) as threads:
            for _ in threads.map(known.add, paths):
                pass
        again = places.KnownPlaces(file)
        again.read()
        self.assertEqual([path for path in paths if path not in again], [])

    def setUp(self) -> None:
        self.file = Path(self.mktemp())
        self.paths = [Path(f"/mail/{name}") for name in ("c", "a", "b")]

    def known(self) -> list[Path]:
        again = places.KnownPlaces(self.file)
        again.read()
        return [path for path in self.paths if path in again]

    def test_list_is_written_once_and_then_grows_by_a_line(self) -> None:
        known = places.KnownPlaces(self.file)
        whole: list[bytes] = []
        write = files.write_whole

        def count(path: Path, content: bytes) -> None:
            whole.append(content)
            write(path, content)

        self.patch(places, "write_whole", count)
        for path in self.paths:
            known.add(path)
            self.assertIn(path, known)
        self.assertEqual(whole, [b"/mail/c\n"])
        self.assertEqual(self.file.read_bytes(), b"/mail/c\n/mail/a\n/mail/b\n")
        self.assertEqual(self.known(), self.paths)

    def test_line_that_a_crash_has_cut_is_no_place_and_is_written_over(self) -> None:
        self.file.write_bytes(b"/mail/c\n/mail/a")
        self.assertEqual(self.known(), self.paths[:1])
        known = places.KnownPlaces(self.file)
        known.read()
        known.add(self.paths[2])
        self.assertEqual(self.file.read_bytes(), b"/mail/b\n/mail/c\n")

    def test_list_is_written_again_after_a_line_that_failed(self) -> None:
        known = places.KnownPlaces(self.file)
        known.add(self.paths[0])

        def full(path: Path, content: bytes) -> None:
            files.append(path, content[:3])
            raise OSError(errno.ENOSPC, "No space left on device")

        patch = self.patch(places, "append", full)
        self.assertRaises(OSError, known.add, self.paths[1])
        self.assertNotIn(self.paths[1], known)
        patch.restore()
        known.add(self.paths[2])
        self.assertEqual(self.file.read_bytes(), b"/mail/b\n/mail/c\n")


class DatabaseTests(Running):
    """
    A database at another place than the state folder.
    """

    def test_sqlite_file_by_its_url_is_made_and_belongs_to_one_collector(self) -> None:
        server = self.serve(*MAIL)
        self.maildir()
        self.account(after="delete")
        folder = self.root / "database"
        self.options["database"] = f"sqlite:///{folder / 'collect.db'}"
        self.begin()
        self.pass_time(30)
        self.assertEqual(self.mail(), MAIL)
        self.assertEqual(server.messages, [])
        state = self.root / "state"
        state.rename(self.root / "old")
        second = Deferred.fromCoroutine(self.service()._open(single=True))
        self.failureResultOf(second, InUseError)
        (self.root / "old" / "lock").unlink()
