"""
The service: schedule, limits, several accounts, holding, stopping.
"""

from __future__ import annotations

import errno
import gc
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionRefusedError
from twisted.logger import capturedLogs, formatEvent

from pop3connect.collect import look, scope, steps
from pop3connect.collect.journal import Journal, LostLeaseError
from pop3connect.collect.lock import InUseError
from pop3connect.collect.records import AccountState, MessageState
from pop3connect.collect.tools import Threads
from pop3connect.destinations.maildir import Maildir
from pop3connect.errors import UsageError

from ..support.shows import shows
from .engine import Collecting, FaultyServer, close, hang, message, say
from .test_delivery import Running

MAIL = [message(number) for number in range(1, 6)]

asked: list[object] = []


def refuse(factory: object) -> Deferred[Any]:
    """Refuse a connection."""
    asked.append(factory)
    return fail(ConnectionRefusedError())


class ScheduleTests(Running):
    """
    Looks again and again.
    """

    def setUp(self) -> None:
        super().setUp()
        self.maildir(path="{account}")

    def test_new_mail_arrives_at_the_next_look(self) -> None:
        server = self.serve(*MAIL)
        self.account(interval=60)
        self.begin()
        self.pass_time(5)
        self.assertEqual(self.mail("a"), MAIL)
        server.deliver(message(6))
        self.pass_time(70)
        self.assertEqual(len(self.mail("a")), 6)
        self.assertEqual(server.sessions, 2)

    def test_unchanged_listing_reads_no_rows(self) -> None:
        self.serve(*MAIL)
        self.account(interval=10)
        service = self.begin()
        self.pass_time(15)
        asked: list[object] = []
        journal = service._journal
        read = journal.messages

        def messages(*arguments: Any) -> Any:
            asked.append(arguments)
            return read(*arguments)

        self.patch(journal, "messages", messages)
        self.pass_time(60)
        self.assertEqual(asked, [])

    @shows("feature 1.19", "Polls many mailboxes", "the collector, in one process")
    def test_one_account_that_is_down_does_not_stop_the_others(self) -> None:
        names = [f"m{number}" for number in range(10)]
        for name in names:
            self.serve(*MAIL, name=name)
            self.account(name, interval=30)
        self.servers["m0"].faults["CAPA"] = close
        self.servers["m0"].faults["USER"] = close
        self.servers["m0"].faults["AUTH"] = close
        self.servers["m1"].faults["STAT"] = hang
        self.begin()
        self.pass_time(40)
        for name in names[2:]:
            self.assertEqual(self.mail(name), MAIL)
            self.servers[name].deliver(message(9))
        self.pass_time(40)
        for name in names[2:]:
            self.assertEqual(len(self.mail(name)), 6)

    def test_server_that_is_down_waits_as_one(self) -> None:
        names = [f"m{number}" for number in range(8)]
        for name in names:
            server = self.serve(name=name)
            self.account(name, interval=10)
            self.patch(server.endpoint, "connect", refuse)
        asked.clear()
        self.begin()
        self.pass_time(60)
        self.assertLess(len(asked), 20)
        self.flushLoggedErrors()

    def test_large_mailbox_is_looked_at_in_slices(self) -> None:
        for module in (look, scope, steps):
            self.patch(module, "SLICE", 10)
        server = self.serve(*[message(number) for number in range(50)])
        self.account(after="delete after 1 h", interval=600)
        self.begin()
        self.pass_time(1200, 30)
        self.assertEqual(len(self.mail("a")), 50)
        self.pass_time(3700, 30)
        self.assertEqual(server.messages, [])

    def looks_in(self, log: Sequence[Any]) -> list[str]:
        """Return the lines about looks in a log."""
        where = "pop3connect.collect.look"
        return [
            formatEvent(event)
            for event in log
            if event["log_namespace"] == where and "outcome" in event
        ]

    def test_log_shows_the_next_look_after_one_that_failed(self) -> None:
        server = self.serve(*MAIL)
        server.faults["STAT"] = close
        self.account(interval=300)
        with capturedLogs() as log:
            self.begin()
            self.pass_time(302)
            server.faults.clear()
            server.faults["RETR 3"] = say(b"-ERR broken\r\n")
            self.pass_time(600, 5)
            server.faults.clear()
            self.pass_time(3600, 30)
        first, second, third, *others = self.looks_in(log)
        self.assertTrue(first.endswith("; next look in 5 min"), first)
        # It waits longer each time.
        self.assertTrue(second.endswith("; next look in 10 min"), second)
        # A message failed, and not the look.
        self.assertIn("RETR 3", third)
        self.assertTrue(third.endswith("; next look in 5 min"), third)
        self.assertNotIn("next look", "".join(others))

    def test_log_shows_no_next_look_where_none_is_certain(self) -> None:
        server = self.serve(*MAIL)
        server.faults["RETR 3"] = hang
        self.account(interval=300, timeout=100)
        with capturedLogs() as log:
            self.begin()
            self.pass_time(20)
            self.stop()
            server.faults["RETR 3"] = say(b"-ERR broken\r\n")
            # The next one is when somebody runs it again.
            self.once()
        lines = self.looks_in(log)
        self.assertIn("being stopped", lines[0])
        self.assertIn("RETR 3", lines[-1])
        self.assertNotIn("next look", "".join(lines))

    def test_refused_login_is_tried_seldom_and_then_needs_a_person(self) -> None:
        server = self.serve(*MAIL)
        server.faults["PASS"] = say(b"-ERR wrong password\r\n")
        server.faults["AUTH"] = say(b"-ERR no\r\n")
        server.faults["APOP"] = say(b"-ERR no\r\n")
        self.account(interval=10)
        self.begin()
        self.pass_time(3600, 10)
        self.assertLessEqual(server.count("PASS"), 6)
        with capturedLogs() as log:
            self.pass_time(2 * 86400, 600)
        *_, before_last, last = self.looks_in(log)
        self.assertIn("next look in ", before_last)
        self.assertNotIn("next look", last)
        (row,) = self.read(lambda journal: journal.accounts(["a"]))
        self.assertEqual(row.state, AccountState.PERSON)
        before = server.count("PASS")
        self.pass_time(86400, 600)
        self.assertEqual(server.count("PASS"), before)

    def test_sessions_per_server_are_limited(self) -> None:
        self.options["sessions_per_server"] = 2
        for number in range(6):
            self.serve(*MAIL, name=f"m{number}").faults["RETR 3"] = hang
            self.account(f"m{number}", interval=3600)
        self.begin()
        self.pass_time(3)
        # They have different host names and the same address in the settings.
        self.assertEqual(sum(s.in_use for s in self.servers.values()), 2)

    def test_look_wanted_is_done_at_once(self) -> None:
        server = self.serve(*MAIL)
        self.account(interval=3600)
        self.begin()
        self.pass_time(5)
        server.deliver(message(6))
        self.read(lambda journal: journal.look_wanted(["a"]))
        self.pass_time(5)
        self.assertEqual(len(self.mail("a")), 6)

    def test_hold_takes_effect_at_once(self) -> None:
        server = self.serve(*MAIL)
        server.faults["RETR 3"] = hang
        self.account(interval=10, after="delete")
        self.begin()
        self.pass_time(2)
        self.read(lambda journal: journal.hold(["a"]))
        self.pass_time(5)
        self.assertFalse(server.in_use)
        self.assertEqual(server.count("QUIT"), 0)
        before = server.sessions
        self.pass_time(60)
        self.assertEqual(server.sessions, before)

    def test_look_limit_ends_a_look(self) -> None:
        server = self.serve(*MAIL)
        server.faults["RETR 3"] = hang
        self.account(interval=3600, look_limit=20, timeout=1000)
        self.begin()
        self.pass_time(19)
        self.assertTrue(server.in_use)
        self.pass_time(3)
        self.assertFalse(server.in_use)

    def test_clock_set_back_by_a_day_does_not_stop_looks(self) -> None:
        server = self.serve(*MAIL)
        self.account(interval=30)
        self.begin()
        self.pass_time(5)
        self.skew = -86400.0
        server.deliver(message(6))
        self.pass_time(60)
        self.assertEqual(len(self.mail("a")), 6)

    def test_clock_that_jumps_deletes_nothing_by_age_for_a_day(self) -> None:
        server = self.serve(*MAIL)
        self.account(interval=600, after="delete after 10 days")
        self.begin()
        self.pass_time(30)
        self.skew = 30 * 86400.0
        self.pass_time(3600, 60)
        self.assertEqual(server.messages, MAIL)
        self.pass_time(86400, 600)
        self.assertEqual(server.messages, [])


class LifeTests(Running):
    """
    Start, stop, reload.
    """

    def setUp(self) -> None:
        super().setUp()
        self.maildir()

    def leave_in_tmp(self) -> FaultyServer:
        """Let a crash leave a message in tmp that nobody fetches again."""
        server = self.serve(*MAIL)
        self.account(interval=10)
        self.killed_once("before add")
        self.assertEqual(len(self.leftovers()), 5)
        server._drop.messages.clear()
        return server

    def test_tmp_of_a_quiet_maildir_is_swept_at_the_first_look(self) -> None:
        self.leave_in_tmp()
        calls: list[object] = []
        real = Maildir.has_leftovers

        def searched(box: Maildir, *arguments: Any, **named: Any) -> bool:
            calls.append(arguments)
            return real(box, *arguments, **named)

        self.patch(Maildir, "has_leftovers", searched)
        self.begin()
        self.pass_time(3)
        self.assertEqual(self.leftovers(), [])
        self.pass_time(60)
        self.assertEqual(calls, [("a",)])

    def test_maildir_that_does_not_answer_does_not_hold_up_a_quiet_look(self) -> None:
        server = self.leave_in_tmp()
        answer: Deferred[bool] = Deferred()
        hung = [answer]

        def ask(threads: Threads, call: Any, *arguments: Any, **named: Any) -> Any:
            if getattr(call, "__name__", "") == "has_leftovers":
                return hung.pop()
            return real(threads, call, *arguments, **named)

        real = Threads.__call__
        self.patch(Threads, "__call__", ask)
        self.begin()
        self.pass_time(35)
        self.assertGreaterEqual(server.sessions, 4)
        self.assertEqual(len(self.leftovers()), 5)
        answer.callback(True)
        self.pass_time(11)
        self.assertEqual(self.leftovers(), [])

    def test_search_that_fails_disturbs_no_look(self) -> None:
        for error in (PermissionError(errno.EACCES, "Permission denied"), ValueError()):
            self.setUp()
            server = self.leave_in_tmp()

            def fails(*_: Any, error: Exception = error, **named: Any) -> bool:
                raise error

            patch = self.patch(Maildir, "has_leftovers", fails)
            self.begin()
            self.pass_time(25)
            patch.restore()
            self.stop()
            self.assertEqual(server.sessions, 4)
            unexpected = self.flushLoggedErrors(ValueError)
            self.assertEqual(len(unexpected), isinstance(error, ValueError))

    def test_nothing_is_searched_after_the_end(self) -> None:
        calls: list[Deferred[bool]] = []

        def ask(threads: Threads, call: Any, *arguments: Any, **named: Any) -> Any:
            if getattr(call, "__name__", "") == "has_leftovers":
                calls.append(Deferred())
                return calls[-1]
            return real(threads, call, *arguments, **named)

        real = Threads.__call__
        self.patch(Threads, "__call__", ask)
        for name in ("a", "b"):
            self.serve(name=name)
            self.account(name)
        self.begin()
        self.pass_time(3)
        # One after the other, for each name of a destination.
        self.assertEqual(len(calls), 1)
        self.stop()
        calls[0].callback(True)
        self.assertEqual(len(calls), 1)

    def test_calls_that_do_not_return_are_named_at_the_end(self) -> None:
        self.serve(*MAIL)
        self.account()
        self.begin()
        self.pass_time(3)
        self.patch(Threads, "stop", lambda threads, until: 1)
        with capturedLogs() as log:
            self.stop()
        lines = [formatEvent(event) for event in log]
        self.assertTrue(any(line.startswith("box: 1 call(s)") for line in lines), lines)
        (line,) = [line for line in lines if "the disk does not answer" in line]
        self.assertIn(str(self.root / "state"), line)

    def test_second_collector_on_the_same_state_is_refused(self) -> None:
        self.serve()
        self.account()
        self.begin()
        second = self.service()
        self.failureResultOf(second.startService(), InUseError)
        failure = self.failureResultOf(Deferred.fromCoroutine(second.run_once()))
        self.assertIsInstance(failure.value, InUseError)

    def test_stop_in_the_middle_of_a_message_ends_in_time(self) -> None:
        server = self.serve(*MAIL)
        server.faults["RETR 3"] = hang
        self.account(after="delete")
        self.begin()
        self.pass_time(2)
        began = self.clock.seconds()
        self.stop()
        self.assertLess(self.clock.seconds() - began, 10)
        server.faults.clear()
        self.once()
        self.assertEqual(self.mail(), MAIL)
        self.assertEqual(server.messages, [])

    def test_stop_lets_what_is_underway_end_in_order(self) -> None:
        server = self.serve(*MAIL)
        self.objects["slow"] = slow = Collecting()
        self.account(to=("slow",), after="delete")
        self.begin()
        self.stop()
        self.assertFalse(server.in_use)
        self.once()
        self.assertEqual(sorted(slow.contents), MAIL)
        self.assertEqual(server.messages, [])

    def test_stop_while_it_starts_ends_it_then(self) -> None:
        self.serve(*MAIL)
        self.account()
        opened: Deferred[None] = Deferred()
        opening = Journal.open

        def late(*arguments: Any, **options: Any) -> Deferred[Journal]:
            return opened.addCallback(lambda _: opening(*arguments, **options))

        self.patch(Journal, "open", late)
        service = self.service()
        starting = service.startService()
        stopping = service.stopService()
        self.assertNoResult(stopping)
        opened.callback(None)
        self.successResultOf(starting)
        self.result(stopping)
        before = self.servers["a"].sessions
        self.pass_time(1000, 100)
        self.assertEqual(self.servers["a"].sessions, before)
        self.result(service.startService())
        self.result(service.stopService())

    def test_stop_and_start_again(self) -> None:
        server = self.serve(*MAIL)
        self.account(interval=60)
        service = self.begin()
        self.pass_time(5)
        self.stop()
        server.deliver(message(6))
        self.result(service.startService())
        self.running = service
        self.pass_time(100)
        self.assertEqual(len(self.mail()), 6)

    def test_reload_adds_and_removes_accounts(self) -> None:
        self.serve(*MAIL)
        other = self.serve(*MAIL[:2], name="b")
        self.account(interval=30)
        service = self.begin()
        self.pass_time(5)
        self.maildir("other", "other")
        self.account("b", to=("other",), interval=30)
        self.accounts = self.accounts[1:]
        self.result(Deferred.fromCoroutine(service.reload(self.config)))
        self.servers["a"].deliver(message(9))
        self.pass_time(60)
        self.assertEqual(self.mail("other"), MAIL[:2])
        self.assertEqual(self.mail(), MAIL)
        self.assertGreaterEqual(other.sessions, 2)

    def test_reload_that_cannot_be_used_changes_nothing(self) -> None:
        server = self.serve(*MAIL)
        self.account(interval=30)
        service = self.begin()
        self.pass_time(5)
        self.account(to=("nowhere",))
        failing = Deferred.fromCoroutine(service.reload(self.config))
        self.failureResultOf(failing, UsageError)
        server.deliver(message(6))
        self.pass_time(60)
        self.assertEqual(len(self.mail()), 6)

    def test_account_is_added_at_run_time(self) -> None:
        self.serve(*MAIL)
        account = self.account()
        self.accounts = []
        service = self.begin()
        self.pass_time(5)
        self.result(Deferred.fromCoroutine(service.add_account(account)))
        self.pass_time(5)
        self.assertEqual(self.mail(), MAIL)
        self.result(Deferred.fromCoroutine(service.remove_account("a")))
        before = self.servers["a"].sessions
        self.pass_time(1000, 30)
        self.assertEqual(self.servers["a"].sessions, before)

    def test_account_that_was_not_added_cannot_be_removed(self) -> None:
        self.serve()
        self.account()
        service = self.begin()
        removing = Deferred.fromCoroutine(service.remove_account("b"))
        error = self.failureResultOf(removing, UsageError)
        self.assertIn("no account 'b'", str(error.value))

    def test_account_that_is_removed_while_it_is_claimed_is_given_back(self) -> None:
        server = self.serve(*MAIL)
        account = self.account()
        self.accounts = []
        died: list[BaseException] = []
        service = self.begin(died=died.append)
        claim, claimed = service._journal.claim, Deferred()
        claims: list[Deferred[Any]] = []

        def late(*arguments: Any, **options: Any) -> Deferred[Any]:
            claims.append(claim(*arguments, **options))
            if len(claims) > 1:
                return claims[-1]
            return claimed.addCallback(lambda _: claims[0])

        self.patch(service._journal, "claim", late)
        self.result(Deferred.fromCoroutine(service.add_account(account)))
        self.assertEqual(len(claims), 1)
        self.result(Deferred.fromCoroutine(service.remove_account("a")))
        claimed.callback(None)
        self.pass_time(5)
        self.assertEqual(died, [])
        self.assertEqual(server.sessions, 0)
        (row,) = self.read(lambda journal: journal.accounts(["a"]))
        self.assertEqual(row.owner, "")

    def test_single_run_a_while_before_the_start_is_not_missed(self) -> None:
        self.serve(*MAIL)
        self.account(interval=30)
        died: list[BaseException] = []
        service = self.service(died=died.append)
        self.result(Deferred.fromCoroutine(service.run_once()))
        self.pass_time(100)
        self.running = service
        self.addCleanup(self.stop)
        self.result(service.startService())
        self.pass_time(100)
        self.assertEqual(died, [])

    def test_disk_full_stops_looks_for_a_minute(self) -> None:
        server = self.serve(*MAIL)
        self.account(after="delete", interval=5)

        def full(*arguments: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        patch = self.patch(Maildir, "keep", full)
        self.begin(died=self.fail)
        self.pass_time(3)
        before = server.sessions
        self.assertEqual(before, 1)
        self.pass_time(50)
        self.assertEqual(server.sessions, before)
        patch.restore()
        self.pass_time(200)
        self.assertEqual(self.mail(), MAIL)
        self.assertEqual(server.messages, [])

    def test_no_quit_after_the_account_was_lost_or_held(self) -> None:
        changes: list[Callable[[Journal], Deferred[Any]]] = [
            lambda journal: journal.reset("a"),
            lambda journal: journal.hold(["a"]),
        ]
        for change in changes:
            self.setUp()
            server = self.serve(*MAIL)
            self.account(after="delete")

            def changed(
                connection: Any, change: Callable[[Journal], Any] = change
            ) -> bool:
                self.read(change)
                return False

            server.faults["DELE 5"] = changed
            outcome = self.once()
            self.assertIsNotNone(outcome.error)
            self.assertEqual(server.count("DELE"), 5)
            self.assertEqual(server.count("QUIT"), 0)
            self.assertEqual(server.messages, MAIL)

    def test_account_that_is_lost_before_the_notes_is_one_error(self) -> None:
        server = self.serve(*MAIL)
        self.account()
        self.once()
        server.deliver(message(6))
        # Now there is more than one thing to note.
        self.account(after="delete after 1 h")
        read = Journal.messages

        def lost(journal: Journal, *arguments: Any) -> Any:
            rows = read(journal, *arguments)
            self.read(lambda other: other.reset("a"))
            return rows

        self.patch(Journal, "messages", lost)
        self.assertIsInstance(self.once().error, LostLeaseError)
        # The others would be reported with the end of their Deferreds.
        gc.collect()
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_lease_that_is_lost_ends_the_look_without_quit(self) -> None:
        server = self.serve(*MAIL)
        server.faults["RETR 3"] = hang
        self.account(after="delete")
        self.begin()
        self.pass_time(2)
        self.read(lambda journal: journal.reset("a"))
        self.pass_time(25)
        self.assertEqual(server.sessions, 2)
        self.assertEqual(server.count("QUIT"), 0)
        server.faults.clear()
        self.pass_time(400, 5)
        self.assertEqual(server.messages, [])


class OnceTests(Running):
    """
    One run over all accounts.
    """

    def setUp(self) -> None:
        super().setUp()
        self.maildir(path="{account}")

    def test_each_account_is_looked_at_and_failures_are_told_apart(self) -> None:
        for name in ("a", "b", "c"):
            self.serve(*MAIL, name=name)
            self.account(name)
        self.servers["b"].faults["STAT"] = close
        running = Deferred.fromCoroutine(self.service().run_once())
        outcomes = self.result(running)
        self.assertEqual(self.mail("a"), MAIL)
        self.assertEqual(self.mail("c"), MAIL)
        self.assertIsNone(outcomes["a"].error)
        self.assertIsNotNone(outcomes["b"].error)
        self.assertEqual(outcomes["c"].new, 5)

    def test_only_the_named_accounts(self) -> None:
        for name in ("a", "b"):
            self.serve(*MAIL, name=name)
            self.account(name)
        outcomes = self.result(Deferred.fromCoroutine(self.service().run_once(["b"])))
        self.assertEqual(list(outcomes), ["b"])
        self.assertEqual(self.servers["a"].sessions, 0)

    def test_hold_ends_the_look_of_a_single_run(self) -> None:
        server = self.serve(*MAIL)
        server.faults["RETR 3"] = hang
        self.account(after="delete", timeout=1000)
        running = Deferred.fromCoroutine(self.service().run_once())
        self.pass_time(5)
        self.assertTrue(server.in_use)
        self.read(lambda journal: journal.hold(["a"]))
        outcomes = self.result(running, 5)
        self.assertIn("held", str(outcomes["a"].error))
        self.assertEqual(server.count("QUIT"), 0)

    def test_lease_of_a_single_run_is_prolonged(self) -> None:
        server = self.serve(*MAIL)
        server.faults["RETR 3"] = hang
        self.account(after="delete", timeout=1000)
        self.options["lease"] = 30.0
        running = Deferred.fromCoroutine(self.service().run_once())
        self.pass_time(100, 5)
        (row,) = self.read(lambda journal: journal.accounts(["a"]))
        self.assertGreater(row.due_at, self.wall())
        running.addErrback(lambda _: None)
        running.cancel()
        self.pass_time(5)

    def test_account_that_is_removed_meanwhile_does_not_stop_the_others(self) -> None:
        self.options["sessions"] = 1
        added = [self.account(name) for name in ("a", "b", "c")]
        self.accounts = []
        for name in ("a", "b", "c"):
            self.serve(*MAIL, name=name).faults["STAT"] = hang
        service = self.service()
        for each in added:
            self.result(Deferred.fromCoroutine(service.add_account(each)))
        running = Deferred.fromCoroutine(service.run_once())
        self.flush()
        self.result(Deferred.fromCoroutine(service.remove_account("b")))
        for server in self.servers.values():
            server.faults.clear()
        outcomes = self.result(running, 4000)
        self.assertIsInstance(outcomes["b"].error, UsageError)
        self.assertIn("no account 'b'", str(outcomes["b"].error))
        self.assertEqual(self.servers["b"].sessions, 0)
        self.assertEqual(outcomes["c"].new, 5)

    def test_unknown_name_is_an_error(self) -> None:
        self.serve()
        self.account()
        running = Deferred.fromCoroutine(self.service().run_once(["x"]))
        self.failureResultOf(running, UsageError)

    def test_wait_after_a_refused_login_is_honoured(self) -> None:
        server = self.serve(*MAIL)
        for verb in ("PASS", "AUTH", "APOP"):
            server.faults[verb] = say(b"-ERR no\r\n")
        self.account()
        self.assertIsNotNone(self.once().error)
        before = server.sessions
        self.assertIn("seconds", str(self.once().error))
        self.assertEqual(server.sessions, before)

    def test_waiting_deliveries_are_counted(self) -> None:
        self.objects["app"] = app = Collecting()
        app.fail = lambda mail: (_ for _ in ()).throw(ValueError("no"))
        self.serve(*MAIL)
        self.account(to=("app",))
        outcome = self.once()
        self.assertEqual(outcome.waiting, 5)
        app.fail = lambda mail: None
        self.pass_time(700)
        outcome = self.once()
        self.assertEqual((outcome.waiting, len(app.got)), (0, 5))

    def test_gmail_shows_part_of_the_mailbox_in_each_session(self) -> None:
        server = self.serve()
        rest = [message(number) for number in range(230)]
        shown = 100

        def refill() -> None:
            if not server.messages:
                server.deliver(*[rest.pop() for _ in rest[:shown]])

        refill()
        quit_seen = [0]

        def hide(connection: object) -> bool:
            quit_seen[0] += 1
            server._drop.messages.clear()
            refill()
            return False

        server.faults["QUIT"] = hide
        self.account()
        outcome = self.once()
        self.assertEqual(outcome.new, 230)
        self.assertEqual(len(self.mail("a")), 230)

    def test_progress_is_told(self) -> None:
        self.serve(*MAIL)
        self.account()
        heard: list[tuple[str, int, int]] = []
        running = Deferred.fromCoroutine(
            self.service().run_once(progress=lambda *a: heard.append(a))
        )
        self.result(running)
        whole = sum(map(len, MAIL))
        self.assertEqual(heard[-1], ("a", whole, whole))

    def test_deletion_of_what_was_delivered_late_happens_in_the_same_run(self) -> None:
        self.objects["app"] = Collecting()
        server = self.serve(*MAIL)
        self.account(to=("app",), after="delete")
        self.once()
        self.assertEqual(server.messages, [])
        self.assertEqual(self.states(), [MessageState.DELETED] * 5)
