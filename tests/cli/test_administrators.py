"""
The commands for administrators: each with a journal that the test has written.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
from click.testing import Result
from twisted.internet.defer import Deferred

from pop3connect.cli.administering import result_of
from pop3connect.cli.exits import Exit
from pop3connect.collect.journal import Journal
from pop3connect.collect.lock import FolderLock
from pop3connect.collect.records import (
    AccountRow,
    AccountState,
    MessageRow,
    MessageState,
    NewAccount,
    NewDelivery,
    NewMessage,
)
from pop3connect.collect.spool import Spool
from pop3connect.testing import Script

from ..support.command import CommandTestCase
from ..support.loopback import MESSAGES, PASSWORD

NAMES = ("ann", "bob")

MAIL = b"From: Zo\xc3\xab <zoe@example.org>\r\nSubject: \x1b[31mhello\r\n\r\nHi\r\n"


class AdministratorTestCase(CommandTestCase):
    """
    A configuration with the accounts ann and bob, and a journal that knows them.

    :ivar file: the configuration.
    """

    def setUp(self) -> None:
        super().setUp()
        self.state = Path(self.folder).absolute() / "state"
        self.file = self.state.parent / "collect.toml"
        self.file.write_text(
            f'state = "state"\nsecure = "none"\nserver = "{self.server}"\n'
            '[destination.box]\nkind = "maildir"\npath = "mail/{account}"\n'
            + "".join(
                f'[[account]]\nname = "{name}"\nuser = "{name}"\n'
                f'password = "{PASSWORD}"\n'
                for name in NAMES
            )
        )
        self.journal = self.open(exclusive=True)
        accounts = [
            NewAccount(name, self.server, name, 300.0) for name in ("ann", "bob")
        ]
        self.ann, self.bob = result_of(
            self.journal.put_accounts(accounts, str(self.file))
        )

    def open(self, *, exclusive: bool = False) -> Journal:
        journal = result_of(
            Journal.open(self.state / "collect.db", None, "here", exclusive=exclusive)
        )
        self.addCleanup(lambda: result_of(journal.close()))
        return journal

    def row(self, name: str = "ann") -> AccountRow:
        [row] = result_of(self.journal.accounts([name]))
        return row

    def message(
        self,
        key: str,
        state: MessageState,
        reason: str = "",
        *,
        name: str = "ann",
        spool: Path | None = None,
        **values: Any,
    ) -> MessageRow:
        """Write a message to the journal."""
        claimed = result_of(self.journal.claim_now(name, 60.0))
        assert claimed is not None
        new = NewMessage(
            key=key * 32,
            uid=f"uid-{key}",
            size=120,
            content=None,
            state=state,
            reason=reason,
            spool=spool,
            **values,
        )
        [row] = result_of(self.journal.add(claimed, [new]))
        result_of(self.journal.finish(claimed, due_at=self.journal.now() + 300))
        return row

    def copy(self, key: str = "a") -> Path:
        """Return a message in the folder of those that were set aside."""
        spool = Spool(self.state / "spool", self.state / "aside")
        spool.open()
        source = self.state / "source"
        source.write_bytes(MAIL)
        source.chmod(0o600)
        return spool.set_aside(source, key * 32)

    def run_admin(self, *arguments: str, **rest: Any) -> Deferred[Result]:
        """Run a command with ``--config``."""
        return self.run_click(*arguments, "--config", str(self.file), **rest)


class AccountsTests(AdministratorTestCase):
    async def test_list_shows_state_ages_counts_and_errors(self) -> None:
        self.message("a", MessageState.SKIPPED, "skip: From: *")
        self.message("b", MessageState.SUSPECT, "it hangs")
        self.message("c", MessageState.RETRIEVED, deliveries=(NewDelivery("box"),))
        claimed = result_of(self.journal.claim_now("ann", 60.0))
        assert claimed is not None
        result_of(
            self.journal.finish(
                claimed,
                due_at=self.journal.now() + 7300,
                looked=True,
                error="cut\x1b[2K off",
                error_class="connection",
            )
        )
        result_of(self.journal.hold(["bob"]))
        result = await self.run_admin("accounts", "list")
        self.assertEqual((result.exit_code, result.stderr), (0, ""))
        head, ann, bob = result.stdout.splitlines()
        self.assertEqual(
            head.split(),
            [
                "ACCOUNT",
                "STATE",
                "LOOKED",
                "NEXT",
                "WAITING",
                "SUSPECT",
                "DELIVERED",
                "SKIPPED",
                "ASIDE",
                "REMARK",
            ],
        )
        self.assertRegex(
            ann, r"^ann +ok +\d s ago +2 h +1 +1 +0 +1 +0 +cut\\x1b\[2K off$"
        )
        self.assertRegex(bob, r"^bob +held +never +- +0 +0 +0 +0 +0$")

    async def test_list_shows_accounts_that_are_looked_at_due_or_not_configured(
        self,
    ) -> None:
        result_of(self.journal.claim_now("ann", 60.0))
        result = await self.run_admin("accounts", "list")
        _, ann, bob = result.stdout.splitlines()
        self.assertRegex(ann, r"^ann +ok +never +now ")
        self.assertRegex(bob, r"^bob +ok +never +due ")
        result_of(self.journal.put_accounts([], str(self.file)))
        result = await self.run_admin("accounts", "list", "bob")
        _, bob = result.stdout.splitlines()
        self.assertRegex(bob, r"^bob +not configured +never +- ")

    async def test_list_json_has_a_line_for_each_account(self) -> None:
        self.message("a", MessageState.SKIPPED)
        result = await self.run_admin("accounts", "list", "--json", "ann")
        [line] = result.stdout.splitlines()
        told = json.loads(line)
        self.assertEqual((told["name"], told["state"]), ("ann", "ok"))
        self.assertEqual(told["messages"]["skipped"], 1)
        self.assertEqual(sorted(told["messages"]), sorted(MessageState))
        self.assertNotIn("fence", told)

    async def test_unknown_account_exits_refused_and_names_those_there_are(
        self,
    ) -> None:
        for command in (
            ("list", "zoe"),
            ("look", "zoe"),
            ("hold", "ann", "zoe"),
            ("release", "zoe"),
            ("reset", "zoe", "--yes"),
            ("rename", "zoe", "ann"),
            ("remove", "zoe", "--yes"),
        ):
            result = await self.run_admin("accounts", *command)
            self.assertEqual(
                (result.exit_code, result.stdout, result.stderr),
                (
                    Exit.REFUSED,
                    "",
                    "pop3connect: the account zoe does not exist; the journal has: "
                    "ann, bob\n",
                ),
                command,
            )
        self.assertEqual(self.row("ann").state, AccountState.OK)

    async def test_hold_and_release_change_the_state(self) -> None:
        result = await self.run_admin("accounts", "hold", "ann", "bob")
        self.assertEqual(result.output, "ann: held\nbob: held\n")
        self.assertEqual(self.row("bob").state, AccountState.HELD)
        result = await self.run_admin("accounts", "release", "ann", "--as", "seen")
        self.assertEqual(result.output, "ann: released\n")
        self.assertEqual(
            (self.row("ann").state, self.row("ann").released_as),
            (AccountState.OK, "seen"),
        )
        self.assertEqual(self.row("bob").state, AccountState.HELD)

    async def test_account_that_the_collector_held_is_released_only_with_as(
        self,
    ) -> None:
        claimed = result_of(self.journal.claim_now("ann", 60.0))
        assert claimed is not None
        result_of(
            self.journal.finish(
                claimed,
                due_at=0.0,
                state=AccountState.HELD,
                error="hardly any is known",
                error_class="held",
            )
        )
        result = await self.run_admin("accounts", "release", "bob", "ann")
        self.assertEqual(result.exit_code, Exit.USAGE)
        self.assertIn("hardly any is known", result.stderr)
        self.assertIn("--as new or --as seen", result.stderr)
        self.assertEqual(self.row("ann").state, AccountState.HELD)
        result = await self.run_admin("accounts", "release", "ann", "--as", "new")
        self.assertEqual(result.exit_code, 0)
        self.assertEqual(self.row("ann").state, AccountState.OK)

    async def test_look_asks_for_a_look_and_leaves_the_lease_alone(self) -> None:
        claimed = result_of(self.journal.claim_now("ann", 60.0))
        assert claimed is not None
        result = await self.run_admin("accounts", "look", "ann")
        self.assertEqual(result.output, "ann: a look is wanted\n")
        self.assertTrue(self.row().look_wanted)
        self.assertEqual(
            (self.row().fence, self.row().due_at), (claimed.fence, claimed.due_at)
        )

    async def test_reset_forgets_messages_after_a_question(self) -> None:
        self.message("a", MessageState.SKIPPED)
        result = await self.run_admin("accounts", "reset", "ann", answer="y\n")
        self.assertEqual(result.exit_code, Exit.USAGE)
        self.assertIn("give --yes", result.stderr)
        self.assertEqual(len(result_of(self.journal.counts())), 1)
        result = await self.run_admin("accounts", "reset", "ann", "--yes")
        self.assertEqual(result.output, "ann: reset\n")
        self.assertEqual(result_of(self.journal.counts()), {})

    async def test_rename_keeps_rows_and_warns_of_the_configuration(self) -> None:
        self.message("a", MessageState.SKIPPED)
        result = await self.run_admin("accounts", "rename", "ann", "anna")
        self.assertEqual(result.stdout, "ann: it is anna now\n")
        self.assertIn("still has the account ann", result.stderr)
        self.assertEqual(self.row("anna").id, self.ann.id)
        result = await self.run_admin("accounts", "rename", "anna", "bob")
        self.assertEqual(result.exit_code, Exit.LOCAL_FILES)
        self.assertEqual(len(result.stderr.splitlines()), 1)
        result = await self.run_admin("accounts", "rename", "anna", "../x")
        self.assertEqual(result.exit_code, Exit.USAGE)
        self.assertIn("name must be made of letters", result.stderr)
        result = await self.run_admin("accounts", "rename", "anna", "anna")
        self.assertEqual((result.exit_code, result.stdout), (Exit.USAGE, ""))
        self.assertIn("anna is its name already", result.stderr)

    async def test_renamed_or_removed_account_that_is_not_configured_is_no_warning(
        self,
    ) -> None:
        database = str(self.state / "collect.db")
        result = await self.run_click(
            "accounts", "rename", "ann", "anna", "--database", database
        )
        self.assertEqual((result.exit_code, result.stderr), (0, ""))
        result = await self.run_admin("accounts", "remove", "anna", "--yes")
        self.assertEqual((result.exit_code, result.stderr), (0, ""))

    async def test_remove_names_the_copies_that_stay(self) -> None:
        copy = self.state / "aside" / "copy.eml"
        self.message("a", MessageState.SET_ASIDE, "refused", spool=copy)
        result = await self.run_admin("accounts", "remove", "ann", "--yes")
        self.assertEqual(result.exit_code, 0, result.exception)
        self.assertIn("stay in the folder aside: copy.eml", result.stderr)

    async def test_remove_removes_the_rows_after_a_question(self) -> None:
        self.message("a", MessageState.SKIPPED)
        result = await self.run_admin("accounts", "remove", "ann", answer="y\n")
        self.assertEqual(result.exit_code, Exit.USAGE)
        result = await self.run_admin("accounts", "remove", "ann", "--yes")
        self.assertEqual(result.stdout, "ann: removed\n")
        self.assertIn("remove it there too", result.stderr)
        self.assertEqual(result_of(self.journal.accounts(["ann"])), [])


class DryRunTests(AdministratorTestCase):
    async def test_dry_run_shows_what_a_look_would_do_and_does_nothing(self) -> None:
        before = self.row()
        result = await self.run_admin("accounts", "look", "--dry-run", "ann", "bob")
        self.assertEqual((result.exit_code, result.stderr), (0, ""), result.exception)
        lines = result.stdout.splitlines()
        self.assertEqual(
            lines[0],
            "ann: 3 fetched, 0 skipped, 0 deleted, 0 suspects, 0 unread, 0 matched",
        )
        self.assertEqual(
            lines[1].split(), ["ACTION", "NUMBER", "BYTES", "UID", "REASON"]
        )
        self.assertRegex(lines[2], rf"^fetch +1 +{len(MESSAGES[0])} +\S+$")
        self.assertEqual(len(lines), 10)
        after = attrs.evolve(self.row(), settings=before.settings)
        self.assertEqual(after, before)
        self.assertEqual(result_of(self.journal.counts()), {})
        self.assertEqual(len(self.drop.messages), 3)
        self.assertFalse((self.state.parent / "mail").exists())

    async def test_dry_run_works_beside_a_running_collector(self) -> None:
        lock = FolderLock.take(self.state)
        self.addCleanup(lock.release)
        result_of(self.journal.claim_now("ann", 60.0))
        result = await self.run_admin("accounts", "look", "--dry-run", "--json", "ann")
        self.assertEqual(result.exit_code, 0, result.output)
        told = json.loads(result.stdout)
        self.assertEqual(told["account"], "ann")
        self.assertEqual([each["number"] for each in told["fetched"]], [1, 2, 3])
        self.assertEqual(told["matched"], [])

    async def test_dry_run_that_cannot_log_in_exits_with_the_status(self) -> None:
        text = self.file.read_text()
        self.file.write_text(text.replace(PASSWORD, "wrong-as-can-be", 1))
        result = await self.run_admin("accounts", "look", "--dry-run", "ann", "bob")
        self.assertEqual(result.exit_code, Exit.LOGIN_REFUSED)
        self.assertTrue(result.stdout.startswith("bob: 3 fetched"), result.stdout)
        self.assertTrue(result.stderr.startswith("pop3connect: ann: "), result.stderr)
        self.assertNotIn("wrong-as-can-be", result.output)

    async def test_dry_run_tells_of_a_listing_that_is_not_believed(self) -> None:
        script = Script().greet().log_in("ann", PASSWORD, ("UIDL", "TOP"))
        script.expect("STAT").reply("+OK 2 20").expect("UIDL")
        script.reply(lines=["1 a", "2 a"]).expect("LIST")
        script.reply(lines=["1 10", "2 10"]).quit()
        text = self.file.read_text()
        self.file.write_text(text.replace(self.server, self.scripted(script)))
        result_of(self.journal.hold(["ann"]))
        result = await self.run_admin("accounts", "look", "--dry-run", "ann")
        self.assertEqual(result.exit_code, 0, result.output)
        self.assertTrue(result.stdout.startswith("ann: 2 fetched"), result.stdout)
        trouble, held = result.stderr.splitlines()
        self.assertIn("ann: some messages have the same unique-id", trouble)
        self.assertIn("ann: it is held, or would be: held", held)

    async def test_dry_run_of_an_empty_mailbox_shows_no_table(self) -> None:
        self.drop.messages.clear()
        result = await self.run_admin("accounts", "look", "--dry-run", "ann")
        self.assertEqual(len(result.stdout.splitlines()), 1)

    async def test_dry_run_needs_the_configuration(self) -> None:
        database = str(self.state / "collect.db")
        result = await self.run_click(
            "accounts", "look", "--dry-run", "ann", "--database", database
        )
        self.assertEqual(result.exit_code, Exit.USAGE)
        self.assertIn("--config FILE is needed", result.stderr)


class MessagesTests(AdministratorTestCase):
    async def test_list_shows_messages_that_are_not_settled(self) -> None:
        self.message("a", MessageState.SUSPECT, "it hangs\x1b[2K")
        self.message("b", MessageState.SKIPPED, "max_size")
        waiting = self.message(
            "c",
            MessageState.RETRIEVED,
            name="bob",
            deliveries=(NewDelivery("box"), NewDelivery("desk")),
        )
        result = await self.run_admin("messages", "list")
        self.assertEqual((result.exit_code, result.stderr), (0, ""), result.exception)
        head, first, second = result.stdout.splitlines()
        self.assertEqual(
            head.split(), ["ID", "ACCOUNT", "STATE", "BYTES", "SEEN", "UID", "REMARK"]
        )
        self.assertRegex(
            first, r"^ +\d+  ann +suspect +120 +\d s ago +uid-a +it hangs\\x1b\[2K$"
        )
        self.assertRegex(second, r" bob +retrieved .* box waiting; desk waiting$")
        result = await self.run_admin(
            "messages", "list", "--state", "skipped", "--state", "retrieved", "--json"
        )
        rows = [json.loads(line) for line in result.stdout.splitlines()]
        self.assertEqual([row["state"] for row in rows], ["skipped", "retrieved"])
        self.assertEqual(rows[1]["id"], waiting.id)
        self.assertEqual(
            [each["destination"] for each in rows[1]["deliveries"]], ["box", "desk"]
        )
        result = await self.run_admin("messages", "list", "bob")
        self.assertEqual(len(result.stdout.splitlines()), 2)

    async def test_aside_shows_header_and_copy_of_each_message(self) -> None:
        copy = self.copy()
        self.message("a", MessageState.SET_ASIDE, "refused", spool=copy)
        self.message("b", MessageState.SET_ASIDE, "it hangs")
        result = await self.run_admin("messages", "aside")
        self.assertEqual((result.exit_code, result.stderr), (0, ""), result.exception)
        _, first, second = result.stdout.splitlines()
        self.assertIn("Zo\xeb <zoe@example.org>", first)
        self.assertIn("\\x1b[31mhello", first)
        self.assertIn(f"{copy}  refused", first)
        self.assertRegex(second, r" ann +120 +- +it hangs$")
        result = await self.run_admin("messages", "aside", "--json", "ann")
        rows = [json.loads(line) for line in result.stdout.splitlines()]
        self.assertEqual([row["copy"] for row in rows], [str(copy), None])

    async def test_copy_that_is_a_link_is_not_read(self) -> None:
        copy = self.copy()
        self.message("a", MessageState.SET_ASIDE, "refused", spool=copy)
        secret = self.state / "secret"
        secret.write_bytes(b"Subject: looking-glass\r\n\r\n")
        copy.unlink()
        copy.symlink_to(secret)
        result = await self.run_admin("messages", "aside")
        self.assertEqual(result.exit_code, 0, result.exception)
        self.assertNotIn("looking-glass", result.output)

    async def test_message_without_the_folder_of_copies_has_none(self) -> None:
        copy = self.copy()
        self.message("a", MessageState.SET_ASIDE, "refused", spool=copy)
        copy.unlink()
        for folder in ("spool", "aside"):
            (self.state / folder).rmdir()
        result = await self.run_admin("messages", "aside")
        self.assertEqual(result.exit_code, 0, result.exception)
        self.assertRegex(result.stdout.splitlines()[1], r" - +refused$")

    async def test_retry_tries_messages_again_and_names_the_others(self) -> None:
        row = self.message("a", MessageState.SET_ASIDE, "it hangs")
        result = await self.run_admin("messages", "retry", str(row.id), "77")
        self.assertEqual(result.exit_code, Exit.REFUSED)
        self.assertEqual(result.stdout, f"{row.id}: is tried again\n")
        self.assertIn("message 77 was not set aside", result.stderr)
        states = {MessageState.SET_ASIDE}
        self.assertEqual(result_of(self.journal.find_messages(states)), [])

    async def test_drop_removes_the_copy_after_a_question(self) -> None:
        copy = self.copy()
        row = self.message("a", MessageState.SET_ASIDE, "refused", spool=copy)
        result = await self.run_admin("messages", "drop", str(row.id), answer="y\n")
        self.assertEqual(result.exit_code, Exit.USAGE)
        self.assertTrue(copy.exists())
        result = await self.run_admin("messages", "drop", str(row.id), "--yes")
        self.assertEqual((result.exit_code, result.output), (0, f"{row.id}: dropped\n"))
        self.assertFalse(copy.exists())

    async def test_drop_without_the_configuration_leaves_the_copy(self) -> None:
        copy = self.copy()
        row = self.message("a", MessageState.SET_ASIDE, "refused", spool=copy)
        database = (self.state / "collect.db").as_uri().replace("file:", "sqlite:/", 1)
        result = await self.run_click(
            "messages", "drop", str(row.id), "--yes", "--database", database
        )
        self.assertEqual(result.exit_code, 0, result.output)
        self.assertIn(copy.name, result.stderr)
        self.assertTrue(copy.exists())

    async def test_copies_beside_a_journal_are_found_without_the_configuration(
        self,
    ) -> None:
        copy = self.copy()
        row = self.message("a", MessageState.SET_ASIDE, "refused", spool=copy)
        (self.state / "spool").mkdir(exist_ok=True)
        database = ("--database", str(self.state / "collect.db"))
        result = await self.run_click("messages", "aside", *database)
        self.assertIn(str(copy), result.stdout)
        result = await self.run_click(
            "messages", "drop", str(row.id), "--yes", *database
        )
        self.assertEqual((result.exit_code, result.stderr), (0, ""))
        self.assertFalse(copy.exists())


class DatabaseTests(AdministratorTestCase):
    async def test_upgrade_of_a_journal_in_use_exits_try_later(self) -> None:
        lock = FolderLock.take(self.state)
        result = await self.run_admin("database", "upgrade")
        self.assertEqual(result.exit_code, Exit.TRY_LATER)
        lock.release()
        result = await self.run_admin("database", "upgrade")
        self.assertEqual(
            (result.exit_code, result.output), (0, "the tables are up to date\n")
        )

    async def test_upgrade_by_url_locks_the_folder_of_the_file(self) -> None:
        lock = FolderLock.take(self.state)
        url = f"sqlite:///{self.state / 'collect.db'}"
        arguments = ("database", "upgrade", "--database", url)
        result = await self.run_click(*arguments)
        self.assertEqual(result.exit_code, Exit.TRY_LATER)
        lock.release()
        result = await self.run_click(*arguments)
        self.assertEqual(result.exit_code, Exit.DONE, result.stderr)

    async def test_database_without_configuration_is_a_path_or_a_url(self) -> None:
        path = self.state / "collect.db"
        for database in (str(path), f"sqlite:///{path}"):
            result = await self.run_click("accounts", "list", "--database", database)
            self.assertEqual(result.exit_code, 0, result.output)
            self.assertIn("\nann ", result.stdout)
            result = await self.run_click(
                "accounts", "list", environment={"POP3CONNECT_DATABASE": database}
            )
            self.assertIn("\nann ", result.stdout)

    async def test_missing_journal_is_named_and_not_made(self) -> None:
        elsewhere = self.state.parent / "elsewhere" / "collect.db"
        result = await self.run_click("accounts", "list", "--database", str(elsewhere))
        self.assertEqual(result.exit_code, Exit.REFUSED)
        self.assertIn(f"the journal {elsewhere} does not exist", result.stderr)
        self.assertFalse(elsewhere.parent.exists())

    async def test_folder_is_no_journal_and_nobody_is_told_to_remove_it(self) -> None:
        folder = self.state.parent
        result = await self.run_click("accounts", "list", "--database", str(folder))
        self.assertEqual(result.exit_code, Exit.REFUSED)
        self.assertIn(f"{folder} is a folder, not a journal", result.stderr)
        self.assertNotIn("remove", result.stderr)

    async def test_neither_configuration_nor_database_is_a_usage_error(self) -> None:
        result = await self.run_click("accounts", "list")
        self.assertEqual(result.exit_code, Exit.USAGE)
        self.assertIn("give --config FILE or --database URL", result.stderr)

    async def test_configuration_that_cannot_be_used_is_a_usage_error(self) -> None:
        self.file.write_text("state = 1")
        result = await self.run_admin("accounts", "list")
        self.assertEqual((result.exit_code, result.stdout), (Exit.USAGE, ""))
        self.assertIn(f"{self.file}: state", result.stderr)

    async def test_password_in_the_url_is_not_shown(self) -> None:
        url = "postgresql+nosuchdriver://ann:looking-glass@127.0.0.1:1/x"
        result = await self.run_click("accounts", "list", "--database", url)
        self.assertNotEqual(result.exit_code, 0)
        self.assertNotIn("looking-glass", result.output + str(result.exception))
