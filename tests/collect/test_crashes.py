"""
The end of the process at each commit, in memory: the rows of the table "After a crash".

The journal's hook ends the "process"; then a new service starts on the same state.
"""

from __future__ import annotations

import mailbox
from typing import Any

from pop3connect.collect.records import MessageState
from pop3connect.collect.settings import DestinationSettings

from .engine import Collecting, EngineTestCase, FaultyServer, message

MAIL = [message(number) for number in range(1, 6)]


class CrashTestCase(EngineTestCase):
    """
    A mailbox whose messages are to be delivered and deleted.
    """

    def begin(self, **options: Any) -> FaultyServer:
        server = self.serve(*MAIL)
        options.setdefault("after", "delete")
        self.account(**options)
        return server

    def assertOnce(self, server: FaultyServer, *, path: str = "mail") -> None:
        """Check that one more run leaves each message delivered once, and deleted."""
        outcome = self.once()
        self.assertIsNone(outcome.error)
        self.once()
        self.assertEqual(self.mail(path), MAIL)
        self.assertEqual(server.messages, [])
        self.assertEqual(self.states(), [MessageState.DELETED] * 5)


class MaildirCrashTests(CrashTestCase):
    """
    Straight into a Maildir.
    """

    def setUp(self) -> None:
        super().setUp()
        self.maildir()

    def test_message_written_and_no_row_is_fetched_again(self) -> None:
        server = self.begin()
        self.killed_once("before add")
        self.assertEqual(self.mail(), [])
        self.assertOnce(server)
        self.assertEqual(server.count("RETR"), 10)

    def test_row_delivering_and_effect_not_done_is_done_without_retr(self) -> None:
        server = self.begin()
        self.killed_once("after add")
        self.assertEqual(self.mail(), [])
        retrieved = server.count("RETR")
        self.assertOnce(server)
        self.assertEqual(server.count("RETR"), retrieved)

    def test_effect_done_and_not_noted_is_proven(self) -> None:
        server = self.begin()
        self.killed_once("before delivered")
        self.assertEqual(self.mail(), MAIL)
        retrieved = server.count("RETR")
        self.assertOnce(server)
        self.assertEqual(server.count("RETR"), retrieved)

    def test_effect_done_and_mail_taken_by_a_mail_program_is_proven(self) -> None:
        server = self.begin()
        self.killed_once("before delivered")
        for file in (self.root / "mail" / "new").glob("*"):
            file.unlink()
        self.assertIsNone(self.once().error)
        self.assertEqual(self.mail(), [])
        self.assertEqual(server.count("RETR"), 5)
        self.assertEqual(server.messages, [])

    def test_delivered_and_not_deleted_is_deleted_with_a_proof(self) -> None:
        server = self.begin()
        self.killed_once("after delivered")
        self.assertEqual(server.messages, MAIL)
        self.assertOnce(server)
        self.assertEqual(server.count("TOP"), 5)

    def test_quit_answered_and_not_noted_shows_in_the_next_listing(self) -> None:
        server = self.begin()
        self.killed_once("before delete_confirmed")
        self.assertEqual(server.messages, [])
        self.assertEqual(self.states(), [MessageState.DELIVERED] * 5)
        self.assertOnce(server)

    def test_after_quit_and_not_noted_a_reused_unique_id_is_new(self) -> None:
        server = self.begin()
        self.killed_once("before delete_confirmed")
        uids = [row.uid for row in self.rows()]
        self.once()
        server.deliver(message(77), uids=uids[:1])
        self.once()
        self.assertEqual(self.mail(), sorted([*MAIL, message(77)]))

    def test_deletion_noted_and_look_not_finished(self) -> None:
        server = self.begin()
        self.killed_once("after delete_confirmed")
        self.assertOnce(server)

    def test_killed_at_each_commit_everything_arrives_once(self) -> None:
        server = self.begin()
        moments = [
            f"{when} {name}"
            for name in (
                "put_accounts",
                "claim_now",
                "listed",
                "add",
                "delivered",
                "renew",
                "delete_confirmed",
                "finish",
            )
            for when in ("before", "after")
        ]
        for moment in moments:
            if not server.messages:
                server.deliver(*MAIL)
                self.tearDownState()
            self.killed_once(moment)
            with self.subTest(moment=moment):
                self.once()
                self.once()
                self.assertEqual(self.mail(), MAIL, moment)
                self.assertEqual(server.messages, [], moment)
                self.assertEqual(self.leftovers(), [], moment)

    def tearDownState(self) -> None:
        import shutil

        shutil.rmtree(self.root)
        self.root.mkdir()

    def test_leftover_of_a_killed_process_is_removed_from_tmp(self) -> None:
        server = self.begin(after="keep")
        self.once()
        files = list((self.root / "mail" / "new").glob("*"))
        name = files[0].name
        other = self.root / "mail" / "tmp" / "1.somebody-else"
        other.write_bytes(b"x")
        self.assertTrue(name)
        self.once()
        self.assertEqual(self.leftovers(), [str(other)])
        self.assertEqual(server.count("RETR"), 5)

    def test_what_a_crash_left_in_tmp_is_removed_before_the_next_message(self) -> None:
        server = self.begin()
        self.killed_once("before add")
        self.assertEqual(len(self.leftovers()), 5)
        self.assertOnce(server)
        self.assertEqual(self.leftovers(), [])


class SpoolCrashTests(CrashTestCase):
    """
    A Maildir and a function: mail goes through the spool.
    """

    def setUp(self) -> None:
        super().setUp()
        self.maildir()
        self.objects["app"] = self.app = Collecting()

    def begin(self, **options: Any) -> FaultyServer:
        return super().begin(to=("box", "app"), **options)

    def test_row_retrieved_is_delivered_from_the_spool_without_retr(self) -> None:
        server = self.begin()
        self.killed_once("after add")
        self.assertEqual(self.states(), [MessageState.RETRIEVED] * 5)
        self.assertOnce(server)
        self.assertEqual(server.count("RETR"), 5)
        self.assertEqual(sorted(self.app.contents), MAIL)

    def test_message_written_and_no_row_is_fetched_again(self) -> None:
        server = self.begin()
        self.killed_once("before add")
        self.assertOnce(server)
        self.assertEqual(sorted(self.app.contents), MAIL)

    def test_what_a_crash_left_behind_is_removed_before_the_next_message(self) -> None:
        for moment in ("before add", "before delivering", "after delivering"):
            self.setUp()
            server = self.begin()
            self.killed_once(moment)
            self.assertNotEqual(self.leftovers(), [])
            self.assertOnce(server)
            server.deliver(message(6))
            self.once()
            self.assertEqual(self.leftovers(), [], moment)

    def test_row_retrieved_and_file_lost_is_fetched_again(self) -> None:
        server = self.begin()
        self.killed_once("after add")
        for file in (self.root / "state" / "spool").glob("*.eml"):
            file.unlink()
        self.once()
        self.flushLoggedErrors()
        self.assertOnce(server)
        self.assertEqual(server.count("RETR"), 10)
        self.assertEqual(sorted(self.app.contents), MAIL)

    def test_row_retrieved_file_lost_and_gone_from_the_server_is_reported(self) -> None:
        server = self.begin()
        self.killed_once("after add")
        for file in (self.root / "state" / "spool").glob("*.eml"):
            file.unlink()
        server._drop.messages.clear()
        self.once()
        self.once()
        self.assertEqual(self.states(), [MessageState.SET_ASIDE] * 5)
        self.assertIn("lost", self.rows()[0].reason)

    def test_one_of_two_destinations_delivered_only_the_other_is_done(self) -> None:
        server = self.begin()
        # The second commit of a delivery: one destination is through.
        self.killed_once("after delivered", 1)
        self.assertOnce(server)
        self.assertEqual(len({key for key, _, _ in self.app.got}), 5)

    def test_killed_at_each_commit_nothing_is_lost(self) -> None:
        for nth in range(1, 6):
            for name in ("delivering", "delivered", "add", "listed"):
                for when in ("before", "after"):
                    self.setUp()
                    server = self.begin()
                    try:
                        self.killed_once(f"{when} {name}", nth)
                    except self.failureException:
                        # It does not come so often.
                        continue
                    self.once()
                    self.once()
                    where = f"{when} {name} {nth}"
                    self.assertEqual(self.mail(), MAIL, where)
                    self.assertEqual(server.messages, [], where)
                    self.assertEqual(sorted(set(self.app.contents)), MAIL, where)
                    keys = {key for key, _, _ in self.app.got}
                    self.assertEqual(len(keys), 5, where)


class FunctionCrashTests(CrashTestCase):
    """
    A function alone: at least once, repeats are flagged.
    """

    def setUp(self) -> None:
        super().setUp()
        self.objects["app"] = self.app = Collecting()

    def test_effect_done_and_not_noted_is_repeated_with_the_same_key(self) -> None:
        server = self.begin(to=("app",))
        self.killed_once("before delivered")
        self.assertEqual(len(self.app.got), 1)
        self.once()
        self.once()
        self.assertEqual(server.messages, [])
        keys = [(key, attempt) for key, attempt, _ in self.app.got]
        first = keys[0][0]
        self.assertEqual([a for key, a in keys if key == first], [1, 2])
        self.assertEqual([a for key, a in keys if key != first], [1] * 4)

    def test_row_delivering_and_effect_not_done_is_flagged(self) -> None:
        self.begin(to=("app",))
        self.killed_once("after delivering")
        self.assertEqual(self.app.got, [])
        self.once()
        self.assertEqual(sorted(a for _, a, _ in self.app.got), [1, 1, 1, 1, 2])


class MboxCrashTests(CrashTestCase):
    """
    An mbox.
    """

    def setUp(self) -> None:
        super().setUp()
        self.destinations.append(
            DestinationSettings(name="box", kind="mbox", path=self.root / "inbox")
        )

    def mail(self, path: str = "inbox") -> list[bytes]:
        found = mailbox.mbox(str(self.root / "inbox"), create=False)
        try:
            subjects = [one["Subject"] for one in found]
        finally:
            found.close()
        return sorted(message(int(s.rpartition(" ")[2])) for s in subjects)

    def test_killed_at_each_commit_each_message_is_there_once(self) -> None:
        for name in ("add", "delivering", "delivered", "delete_confirmed", "finish"):
            for when in ("before", "after"):
                self.setUp()
                server = self.begin()
                self.killed_once(f"{when} {name}")
                self.once()
                self.once()
                self.assertEqual(self.mail(), MAIL, f"{when} {name}")
                self.assertEqual(server.messages, [], f"{when} {name}")


class TableCrashTests(CrashTestCase):
    """
    The table ``inbox``: effect and row are one transaction.
    """

    def setUp(self) -> None:
        super().setUp()
        self.destinations.append(DestinationSettings(name="box", kind="table"))

    def mail(self, path: str = "") -> list[bytes]:
        import sqlite3

        connection = sqlite3.connect(self.root / "state" / "collect.db")
        try:
            return sorted(
                row[0] for row in connection.execute("select message from inbox")
            )
        finally:
            connection.close()

    def test_killed_at_each_commit_each_message_is_there_once(self) -> None:
        for name in ("add", "deliver_to_inbox", "delete_confirmed", "finish"):
            for when in ("before", "after"):
                self.setUp()
                server = self.begin()
                self.killed_once(f"{when} {name}")
                self.once()
                self.once()
                self.assertEqual(self.mail(), MAIL, f"{when} {name}")
                self.assertEqual(server.messages, [], f"{when} {name}")
