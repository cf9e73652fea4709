"""
Claims: what the work depends on, whose accounts are claimed, and which are given back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pop3connect.collect.accounts import Accounts
from pop3connect.collect.database import JournalError
from pop3connect.collect.journal import Journal
from pop3connect.collect.records import AccountRow, NewAccount
from pop3connect.collect.service import CollectService
from pop3connect.errors import UsageError

from .engine import START, Unwalked, hang, message
from .test_delivery import Running

MAIL = [message(number) for number in range(1, 6)]


class ClaimsCase(Running):
    """A service with a Maildir for each account."""

    def setUp(self) -> None:
        super().setUp()
        self.maildir(path="{account}")

    def row(self, name: str = "a") -> AccountRow:
        (row,) = self.read(lambda journal: journal.accounts([name]))
        return row

    def reload(self, service: CollectService) -> None:
        self.result(Deferred.fromCoroutine(service.reload(self.config)))


class WorkTests(ClaimsCase):
    """No claim and no look goes through all accounts."""

    def test_claims_and_deliveries_go_through_no_account_that_is_not_due(self) -> None:
        server = self.serve(*MAIL)
        self.account(interval=10)
        service = self.begin()
        self.pass_time(5)
        accounts, deliveries = service._accounts, service._deliveries
        accounts._settings = Unwalked(accounts._settings)
        (courier,) = deliveries._couriers.values()
        targets, courier._targets = courier._targets, Unwalked(courier._targets)
        server.deliver(message(6))
        self.pass_time(30)
        self.assertEqual(len(self.mail("a")), 6)
        self.assertGreater(server.sessions, 2)
        courier._targets = targets

    def test_claim_gives_the_journal_no_list_of_accounts(self) -> None:
        for number in range(20):
            self.serve(name=f"m{number}")
            self.account(f"m{number}", interval=10)
        service = self.begin()
        claim = service._journal.claim
        given: list[tuple[Any, ...]] = []

        def note(
            limit: int, lease: float, origins: Sequence[str], **options: Any
        ) -> Any:
            given.append((*origins, *options["passed_over"]))
            return claim(limit, lease, origins, **options)

        self.patch(service._journal, "claim", note)
        self.pass_time(30)
        server = "pop.example.com:110"
        self.assertEqual(set(given), {("program",), ("program", server)})

    def test_account_that_is_added_is_written_alone(self) -> None:
        for name in ("a", "b", "c"):
            self.serve(name=name)
            self.account(name)
        *before, last = self.accounts
        self.accounts = before
        service = self.begin()
        put = service._journal.put_accounts
        written: list[list[str]] = []

        def note(rows: Sequence[NewAccount], *rest: Any, **options: Any) -> Any:
            written.append([row.name for row in rows])
            return put(rows, *rest, **options)

        self.patch(service._journal, "put_accounts", note)
        self.result(Deferred.fromCoroutine(service.add_account(last)))
        self.result(Deferred.fromCoroutine(service.remove_account("c")))
        self.assertEqual(written, [["c"], []])
        gone = [self.row(name).gone_since is not None for name in "abc"]
        self.assertEqual(gone, [False, False, True])


class ChosenTests(SynchronousTestCase):
    """`Accounts.chosen`, which a single run asks for each account."""

    def setUp(self) -> None:
        self.accounts = Accounts(Clock(), (), lambda settings: self.fail())
        self.accounts._settings = Unwalked(a=None, b=None)

    def test_named_accounts_are_looked_up(self) -> None:
        self.assertEqual(self.accounts.chosen(["b"]), ["b"])

    def test_first_unknown_name_is_in_the_error(self) -> None:
        with self.assertRaises(UsageError) as caught:
            self.accounts.chosen(["y", "a", "x"])
        self.assertIn("'x'", str(caught.exception))


class OwnTests(ClaimsCase):
    """Collectors that share a journal."""

    def beside(self, name: str, origin: str) -> None:
        """Write an account as another collector does."""
        new = NewAccount(name, "pop.example.com:110", "ada", 10.0)
        self.read(lambda journal: journal.put_accounts([new], origin, left=[]))

    def test_account_of_another_configuration_is_not_claimed(self) -> None:
        self.serve(*MAIL)
        self.account(interval=10)
        service = self.begin()
        self.assertEqual(list(service._accounts.origins), ["program"])
        # Even if it has the same origin, as with a configuration at the same place.
        self.beside("b", "program")
        self.beside("c", "other")
        self.pass_time(30)
        self.assertGreater(self.row().fence, 2)
        self.assertEqual([self.row(name).fence for name in "bc"], [0, 0])

    def test_account_that_another_configuration_has_too_is_shared(self) -> None:
        self.patch(Journal, "shared", True)
        server = self.serve(*MAIL)
        self.account(interval=10)
        service = self.begin()
        self.pass_time(5)
        self.beside("a", "other")
        server.deliver(message(6))
        self.pass_time(80)
        self.assertEqual(len(self.mail("a")), 6)
        self.assertEqual(set(service._accounts.origins), {"program", "other"})

    def test_journal_of_one_collector_is_not_asked_for_origins(self) -> None:
        self.serve()
        self.account()
        service = self.begin()
        self.assertFalse(service._journal.shared)
        self.patch(service._journal, "origins", self.fail)
        self.pass_time(200, 5)

    def test_file_is_the_origin_of_its_accounts_and_program_of_those_added(
        self,
    ) -> None:
        self.options["file"] = file = Path("collect.toml")
        for name in ("a", "b"):
            self.serve(*MAIL, name=name)
            self.account(name, interval=10)
        first, second = self.accounts
        self.accounts = [first]
        service = self.begin()
        self.assertEqual(list(service._accounts.origins), [str(file)])
        self.result(Deferred.fromCoroutine(service.add_account(second)))
        self.assertEqual(set(service._accounts.origins), {str(file), "program"})
        self.pass_time(5)
        self.assertEqual(self.mail("b"), MAIL)
        self.reload(service)
        self.assertEqual(list(service._accounts.origins), [str(file), "program"])
        self.result(Deferred.fromCoroutine(service.remove_account("b")))
        self.assertIsNotNone(self.row("b").gone_since)

    def test_added_account_that_is_removed_before_a_reload_leaves_the_journal(
        self,
    ) -> None:
        self.options["file"] = Path("collect.toml")
        self.serve()
        added = self.account()
        self.accounts = []
        service = self.begin()
        self.result(Deferred.fromCoroutine(service.add_account(added)))
        service._accounts.remove("a")
        self.reload(service)
        self.assertIsNotNone(self.row().gone_since)


class GivenBackTests(ClaimsCase):
    """
    Two looks that do not end, at the only server, and accounts that wait for one.
    """

    def setUp(self) -> None:
        super().setUp()
        self.options["sessions_per_server"] = 2
        for number in range(4):
            server = self.serve(*MAIL, name=f"m{number}")
            server.faults["RETR 3"] = hang
            self.account(f"m{number}", interval=3600)

    def queued(self) -> CollectService:
        """Begin; ``m0`` and ``m1`` are looked at, ``m2`` is claimed and waits."""
        every, self.accounts = self.accounts, self.accounts[:1]
        service = self.begin()
        self.pass_time(2)
        self.accounts = every
        self.reload(service)
        self.pass_time(2)
        self.assertEqual(self.owners(), ["here", "here", "here", ""])
        self.assertEqual(self.servers["m2"].sessions, 0)
        return service

    def owners(self) -> list[str]:
        return [self.row(f"m{number}").owner for number in range(4)]

    def test_accounts_that_wait_are_due_at_once_when_it_stops(self) -> None:
        service = self.queued()
        self.running = None
        stopping = service.stopService()
        self.assertEqual(self.owners(), ["here", "here", "", ""])
        row = self.row("m2")
        self.assertEqual(row.due_at, START + self.clock.seconds())
        self.result(stopping, 20)
        self.assertEqual(self.owners(), [""] * 4)
        self.assertEqual(self.servers["m2"].sessions, 0)

    def test_stop_ends_in_order_if_they_cannot_be_given_back(self) -> None:
        service = self.queued()
        self.patch(
            service._journal, "give_back", lambda rows: fail(JournalError("full"))
        )
        began = self.clock.seconds()
        self.stop()
        self.assertLess(self.clock.seconds() - began, 10)
        self.assertEqual(self.owners(), ["", "", "here", ""])

    def late_claim(self, service: CollectService) -> Callable[[], None]:
        """Let the answer of the journal to the next claims wait for a call."""
        claim, answered = service._journal.claim, Deferred()

        def late(*arguments: Any, **options: Any) -> Deferred[Any]:
            claimed = claim(*arguments, **options)
            return answered.addCallback(lambda _: claimed)

        self.patch(service._journal, "claim", late)
        return lambda: answered.callback(None)

    def test_accounts_that_are_claimed_while_it_stops_are_given_back(self) -> None:
        self.accounts = []
        service = self.begin()
        answer = self.late_claim(service)
        self.account("m0")
        self.reload(service)
        self.pass_time(1)
        self.assertEqual(self.row("m0").owner, "here")
        self.running = None
        stopping = service.stopService()
        self.flush()
        self.assertNoResult(stopping)
        answer()
        self.assertEqual(self.row("m0").owner, "")
        self.result(stopping, 1)
        self.assertEqual(self.servers["m0"].sessions, 0)

    def test_account_that_is_removed_while_it_waits_is_given_back(self) -> None:
        service = self.queued()
        del self.accounts[2]
        self.reload(service)
        self.assertEqual(self.owners()[:3], ["here", "here", ""])
        self.assertIsNotNone(self.row("m2").gone_since)
        self.assertNotIn("m2", service._looks.running)
        # The others go on.
        for server in self.servers.values():
            server.faults.clear()
        self.pass_time(200)
        self.assertEqual(self.servers["m2"].sessions, 0)
        self.assertEqual(self.mail("m3"), MAIL)

    def test_added_account_that_is_removed_while_it_waits_is_given_back(self) -> None:
        *self.accounts, last = self.accounts[:3]
        service = self.begin()
        self.pass_time(2)
        self.assertEqual(service._looks.running.keys(), {"m0", "m1"})
        # As many as are allowed are looked at; the next is not claimed.
        self.result(Deferred.fromCoroutine(service.add_account(last)))
        self.pass_time(2)
        self.assertEqual(self.row("m2").fence, 0)
        self.result(Deferred.fromCoroutine(service.remove_account("m2")))
        self.assertIsNotNone(self.row("m2").gone_since)

    def test_stop_while_accounts_are_written_is_no_error(self) -> None:
        *self.accounts, last = self.accounts
        service = self.begin()
        config, put = self.config, service._journal.put_accounts
        changes = [
            lambda: service.add_account(last),
            lambda: service.remove_account("m3"),
            lambda: service.reload(config),
        ]
        written: Deferred[None] = Deferred()

        def late(*arguments: Any, **options: Any) -> Deferred[Any]:
            done = put(*arguments, **options)
            return written.addCallback(lambda _: done)

        self.patch(service._journal, "put_accounts", late)
        changing = [Deferred.fromCoroutine(change()) for change in changes]
        self.stop()
        written.callback(None)
        for each in changing:
            self.assertIsNone(self.successResultOf(each))

    def test_account_that_moves_while_it_waits_is_looked_at_there_at_once(
        self,
    ) -> None:
        service = self.queued()
        self.account("m2", interval=3600, server="other.example.com")
        self.servers["m2"].faults.clear()
        self.reload(service)
        self.pass_time(3)
        self.assertEqual(self.mail("m2"), MAIL)
        self.assertEqual(self.owners(), ["here", "here", "", ""])
