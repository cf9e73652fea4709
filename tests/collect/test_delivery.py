"""
Destinations in trouble: what waits, what goes on, what is set aside.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail

from pop3connect.collect import courier
from pop3connect.collect.journal import StorageFullError
from pop3connect.collect.records import MessageState
from pop3connect.collect.service import CollectService
from pop3connect.collect.settings import DestinationSettings
from pop3connect.destinations import Later, Mail, Never

from .engine import Collecting, EngineTestCase, message

MAIL = [message(number) for number in range(1, 6)]


class Running(EngineTestCase):
    """
    A service that runs.
    """

    running: CollectService | None = None

    def begin(self, **options: object) -> CollectService:
        service = self.running = self.service(**options)
        self.result(service.startService())
        self.addCleanup(self.stop)
        return service

    def stop(self) -> None:
        service, self.running = self.running, None
        if service is not None:
            self.result(service.stopService(), 20)


class TargetTests(Running):
    """
    A destination with an mbox for each account.
    """

    def test_mail_that_waits_for_one_mbox_does_not_hide_that_of_the_others(
        self,
    ) -> None:
        self.patch(courier, "GROUP", 3)
        path = self.root / "{account}"
        self.destinations.append(
            DestinationSettings(name="box", kind="mbox", path=path)
        )
        (self.root / "a").mkdir()
        self.serve(*MAIL)
        self.serve(MAIL[0], name="b")
        self.account()
        service = self.begin()
        self.pass_time(3)
        self.assertEqual(self.states(), [MessageState.RETRIEVED] * 5)
        added = self.account("b")
        self.result(Deferred.fromCoroutine(service.add_account(added)))
        self.pass_time(5)
        self.assertEqual(self.states(), [MessageState.RETRIEVED] * 5)
        self.assertEqual(self.states("b"), [MessageState.DELIVERED])
        # What was held up is tried again, all of it after the first success.
        (self.root / "a").rmdir()
        self.pass_time(700, 5)
        self.assertEqual(self.states(), [MessageState.DELIVERED] * 5)
        self.assertEqual(service._deliveries._couriers["box"]._busy(0.0), set())
        self.assertEqual(service._deliveries._couriers["box"]._held_up, {})


class DestinationTests(Running):
    """
    Destinations of the program, which fail as the test wants.
    """

    def setUp(self) -> None:
        super().setUp()
        self.objects["one"] = self.one = Collecting()
        self.objects["two"] = self.two = Collecting()

    def test_two_destinations_of_which_one_fails(self) -> None:
        server = self.serve(*MAIL)
        self.account(to=("one", "two"), after="delete")

        def down(mail: Mail) -> None:
            raise Later(reason="down", whole_destination=True)

        self.two.fail = down
        self.begin()
        self.pass_time(3600, 5)
        self.assertEqual(sorted(self.one.contents), MAIL)
        self.assertEqual(server.messages, MAIL)
        self.assertLess(len(self.two.attempts), 30)
        self.two.fail = lambda mail: None
        self.pass_time(1300, 5)
        self.assertEqual(sorted(self.two.contents), MAIL)
        self.assertEqual(sorted(self.one.contents), MAIL)
        # A look that is due now deletes them.
        self.assertEqual(server.messages, [])
        self.assertEqual(self.states(), [MessageState.DELETED] * 5)
        self.assertEqual(self.leftovers(), [])

    def test_first_success_releases_the_rest(self) -> None:
        self.serve(*MAIL)
        self.account(to=("one",))

        def down(mail: Mail) -> None:
            raise Later(reason="down", whole_destination=True)

        self.one.fail = down
        self.begin()
        self.pass_time(100)
        self.assertLess(len(self.one.attempts), 12)
        self.one.fail = lambda mail: None
        before = len(self.one.attempts)
        self.pass_time(130)
        self.assertEqual(sorted(self.one.contents), MAIL)
        self.assertEqual(len(self.one.attempts) - before, 5)

    def test_wait_that_the_destination_asks_for_is_kept(self) -> None:
        self.serve(MAIL[0])
        self.account(to=("one",))
        self.one.fail = lambda mail: (_ for _ in ()).throw(
            Later(300, reason="busy", whole_destination=True)
        )
        self.begin()
        self.pass_time(290)
        self.assertEqual(len(self.one.attempts), 1)
        self.pass_time(20)
        self.assertEqual(len(self.one.attempts), 2)

    def test_destination_that_is_down_does_not_hold_up_others(self) -> None:
        self.serve(*MAIL)
        self.serve(*MAIL, name="b")
        self.account(to=("one",), interval=60)
        self.account("b", to=("two",), interval=60)

        def down(mail: Mail) -> None:
            raise Later(reason="down", whole_destination=True)

        self.one.fail = down
        self.begin()
        self.pass_time(10)
        self.assertEqual(sorted(self.two.contents), MAIL)
        self.servers["b"].deliver(message(7))
        self.pass_time(70)
        self.assertEqual(len(self.two.got), 6)

    def test_nothing_is_retrieved_while_all_destinations_wait(self) -> None:
        server = self.serve(*MAIL)
        self.account(to=("one",), interval=5)

        def down(mail: Mail) -> None:
            raise Later(3600, reason="down", whole_destination=True)

        self.one.fail = down
        self.begin()
        self.pass_time(3)
        server.heard.clear()
        server.deliver(message(8))
        self.pass_time(60)
        self.assertGreater(server.count("UIDL"), 3)
        self.assertEqual(server.count("RETR"), 0)

    def test_message_refused_for_ever_is_set_aside_and_the_others_arrive(self) -> None:
        server = self.serve(*MAIL)
        self.account(to=("one",), after="delete", interval=60)

        def refuse(mail: Mail) -> None:
            if b"number 3" in mail.read():
                raise ValueError("bad message")

        self.one.fail = refuse
        self.begin()
        self.pass_time(60)
        good = [*MAIL[:2], *MAIL[3:]]
        self.assertEqual(sorted(self.one.contents), good)
        number = 10
        for _ in range(20):
            server.deliver(message(number))
            number += 1
            self.pass_time(600, 10)
        states = self.states()
        self.assertEqual(states.count(MessageState.SET_ASIDE), 1)
        self.assertEqual(states.count(MessageState.DELETED), len(states) - 1)
        self.assertEqual(server.messages, [MAIL[2]])
        (copy,) = (self.root / "state" / "aside").glob("*")
        self.assertEqual(copy.read_bytes(), MAIL[2])
        self.assertEqual(self.leftovers(), [])
        self.flushLoggedErrors()

    def test_refusals_do_not_count_while_no_other_message_is_taken(self) -> None:
        self.serve(MAIL[0])
        self.account(to=("one",), interval=3600)
        self.one.fail = lambda mail: (_ for _ in ()).throw(ValueError("no"))
        self.begin()
        self.pass_time(6 * 3600, 30)
        self.assertEqual(self.states(), [MessageState.RETRIEVED])
        self.assertGreater(len(self.one.attempts), 10)

    def test_never_sets_aside_with_a_copy(self) -> None:
        server = self.serve(*MAIL)
        self.account(to=("one",), after="delete")

        def never(mail: Mail) -> None:
            if b"number 2" in mail.read():
                raise Never("unwanted")

        self.one.fail = never
        self.begin()
        self.pass_time(30)
        self.assertEqual(server.messages, [MAIL[1]])
        row = next(r for r in self.rows() if r.state is MessageState.SET_ASIDE)
        self.assertEqual(row.reason, "unwanted")
        (copy,) = (self.root / "state" / "aside").glob("*")
        self.assertEqual(copy.name, row.spool)
        self.assertEqual(copy.read_bytes(), MAIL[1])
        self.assertEqual(self.leftovers(), [])

    def test_look_waits_half_a_minute_for_a_slow_destination(self) -> None:
        from twisted.internet.defer import Deferred

        server = self.serve(*MAIL)
        self.account(to=("one",), after="delete", interval=3600)
        waiting: list[Deferred[None]] = []

        class Slow:
            async def deliver(self, mail: Mail) -> None:
                waiting.append(Deferred())
                await waiting[-1]

        self.objects["one"] = Slow()
        self.begin()
        self.pass_time(29)
        self.assertEqual(server.count("QUIT"), 0)
        self.pass_time(3)
        self.assertEqual(server.count("QUIT"), 1)
        self.assertEqual(server.messages, MAIL)
        while waiting:
            waiting.pop().callback(None)
            self.flush()
        self.pass_time(10)
        # A look that is due then.
        self.assertEqual(server.messages, [])

    def test_spool_limit_stops_retrieval(self) -> None:
        server = self.serve(*[message(n, 5000) for n in range(10)])
        self.account(to=("one",), interval=5)
        self.options["spool_limit"] = 20_000

        def down(mail: Mail) -> None:
            raise Later(1, reason="down", whole_destination=False)

        self.one.fail = down
        self.begin()
        self.pass_time(3)
        server.deliver(message(77))
        before = server.count("RETR")
        self.pass_time(30)
        self.assertEqual(server.count("RETR"), before)
        self.one.fail = lambda mail: None
        self.pass_time(700, 5)
        self.assertEqual(len(self.one.got), 11)


class MaildirTroubleTests(Running):
    """
    A Maildir that cannot be used.
    """

    def test_maildir_that_cannot_be_used_waits_and_nothing_is_lost(self) -> None:
        server = self.serve(*MAIL)
        self.maildir()
        self.account(after="delete", interval=5)
        (self.root / "mail").write_text("a file is in the way")
        self.begin()
        self.pass_time(30)
        self.assertEqual(server.messages, MAIL)
        (self.root / "mail").unlink()
        self.pass_time(1300, 5)
        self.assertEqual(self.mail(), MAIL)
        self.assertEqual(server.messages, [])

    def test_one_account_s_maildir_in_trouble_does_not_stop_the_other(self) -> None:
        self.serve(*MAIL)
        self.serve(*MAIL, name="b")
        self.maildir(path="{account}")
        self.account(interval=5)
        self.account("b", interval=5)
        (self.root / "a").write_text("a file is in the way")
        self.begin()
        self.pass_time(30)
        self.assertEqual(self.mail("b"), MAIL)
        (self.root / "a").unlink()
        self.pass_time(1300, 5)
        self.assertEqual(self.mail("a"), MAIL)

    def test_maildir_that_is_not_mounted_is_not_made_again(self) -> None:
        server = self.serve(*MAIL)
        self.maildir()
        self.account(interval=5)
        self.once()
        (self.root / "mail").rename(self.root / "elsewhere")
        server.deliver(message(6))
        self.begin()
        self.pass_time(30)
        self.assertFalse((self.root / "mail").exists())
        (self.root / "elsewhere").rename(self.root / "mail")
        self.pass_time(1300, 5)
        self.assertEqual(len(self.mail()), 6)

    def test_maildir_at_another_path_is_made(self) -> None:
        server = self.serve(*MAIL)
        self.maildir()
        self.account()
        self.once()
        self.destinations.clear()
        self.maildir(path="other")
        server.deliver(message(6))
        self.assertEqual(self.once().new, 1)
        self.assertEqual(self.mail("other"), [message(6)])

    def test_files_kept_before_an_error_of_the_journal_do_not_pile_up(self) -> None:
        server = self.serve(*MAIL)
        self.maildir()
        self.account(after="delete", interval=5)
        service = self.begin()
        self.pass_time(1)
        self.assertEqual(server.messages, [])
        server.deliver(*[message(number) for number in range(10, 13)])
        broken = [True]
        journal = service._journal
        add = journal.add

        def full(*arguments: Any) -> Any:
            if broken[0]:
                return fail(StorageFullError("the disk is full"))
            return add(*arguments)

        self.patch(journal, "add", full)
        self.pass_time(200, 2)
        self.assertLessEqual(len(self.leftovers()), 3)
        broken[0] = False
        self.pass_time(100, 2)
        self.assertEqual(self.leftovers(), [])
        self.assertEqual(len(self.mail()), 8)
        self.assertEqual(server.messages, [])
