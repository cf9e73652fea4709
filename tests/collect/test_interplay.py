"""
Two features at once: rules that change while mail waits, first looks at which something
else goes wrong, clocks that were wrong, and unique-ids that are used again.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from twisted.internet.defer import Deferred, fail

from pop3connect.collect.journal import Journal, JournalError
from pop3connect.collect.records import MessageState
from pop3connect.collect.settings import DestinationSettings
from pop3connect.destinations import Later, Mail, Never
from pop3connect.destinations.folder import Folder

from .engine import (
    START,
    Collecting,
    FaultyServer,
    close,
    hang,
    message,
    say,
    swallow,
    times,
)
from .test_delivery import Running

MAIL = [message(number) for number in range(1, 6)]

DAY = 86400.0

YEARS = 5 * 365 * DAY


def dated(number: int, day: int) -> bytes:
    """Return a message of November 2023: the clock begins on the 14th."""
    return (
        f"From: s@example.org\r\nSubject: {number}\r\nMessage-ID: <{number}@d>\r\n"
        f"Date: {day:02} Nov 2023 00:00:00 +0000\r\n\r\nbody\r\n"
    ).encode()


def report(number: int) -> bytes:
    """Return a message whose header is that of all others."""
    return b"From: scanner\r\nSubject: status\r\n\r\nnumber %06d\r\n" % number


def down(mail: Mail) -> None:
    raise Later(reason="down", whole_destination=True)


class WholeTests(Running):
    """
    What was not retrieved whole is not deleted, whatever the rules of today are.
    """

    def setUp(self) -> None:
        super().setUp()
        self.objects["desk"] = self.desk = Collecting()

    def refuse(self, mail: Mail) -> None:
        raise Never("no")

    def retry_all(self) -> None:
        found = self.read(
            lambda journal: journal.find_messages([MessageState.SET_ASIDE])
        )
        ids = [row.id for _, row, _ in found]
        self.assertEqual(self.read(lambda journal: journal.retry(ids)), ids)

    def test_message_whose_header_was_fetched_is_kept_by_later_rules(self) -> None:
        server = self.serve(*MAIL)
        self.account(fetch="header", to=("desk",))
        self.once()
        self.account(after="delete", to=("desk",))
        self.assertEqual(self.once().deleted, 0)
        self.assertEqual(server.messages, MAIL)
        server.deliver(message(9))
        self.assertEqual(self.once().deleted, 1)
        self.assertEqual(self.desk.contents[5:], [message(9)])

    def test_header_that_waits_while_the_rule_changes_deletes_nothing(self) -> None:
        server = self.serve(*MAIL)
        self.account(fetch="header", to=("desk",))
        self.desk.fail = self.refuse
        self.once()
        self.desk.fail = lambda mail: None
        self.retry_all()
        self.account(after="delete", to=("desk",))
        self.once()
        self.assertEqual(len(self.desk.got), 5)
        self.once()
        self.assertEqual(server.messages, MAIL)

    def test_short_message_is_kept_after_it_was_set_aside(self) -> None:
        server = self.serve(*MAIL[:2])
        server.faults["RETR 2"] = say(b"+OK\r\nSubject: half\r\n\r\nof it\r\n.\r\n")
        self.account(after="delete", to=("desk",))
        self.desk.fail = self.refuse
        self.begin()
        self.pass_time(2000, 5)
        self.stop()
        self.flushLoggedErrors()
        self.assertEqual(self.states(), [MessageState.SET_ASIDE] * 2)
        self.desk.fail = lambda mail: None
        self.retry_all()
        self.once()
        self.assertEqual(len(self.desk.got), 2)
        self.once()
        self.assertEqual(server.messages, MAIL[1:2])

    def test_message_far_longer_than_its_size_in_list_is_deleted(self) -> None:
        long = message(1, 600_000)
        server = self.serve(long)
        server.faults["LIST"] = say(b"+OK\r\n1 100\r\n.\r\n")
        self.account(after="delete", to=("desk",), list_sizes="estimate")
        self.once()
        self.assertEqual(self.desk.contents, [long])
        self.assertEqual(server.messages, [])


class DestinationChangeTests(Running):
    """
    An account gets another destination while mail waits in a Maildir.
    """

    def setUp(self) -> None:
        super().setUp()
        self.server = self.serve(*MAIL)
        self.maildir("old", "old")
        self.maildir("fresh", "fresh")
        self.account(to=("old",), after="delete")
        self.real = real = Folder.rename

        def full(folder: Folder, name: str, target: Folder, new: str) -> None:
            if folder.path.parent.name == "old":
                raise OSError(28, "No space left on device")
            real(folder, name, target, new)

        self.patch(Folder, "rename", full)
        self.service_ = self.begin()
        self.pass_time(30)
        self.assertEqual(self.states(), [MessageState.RETRIEVED] * 5)

    def change(self, *to: str) -> None:
        self.account(to=to, after="delete")
        self.result(Deferred.fromCoroutine(self.service_.reload(self.config)))

    def test_mail_goes_on_waiting_for_the_old_one(self) -> None:
        self.change("fresh")
        self.server.deliver(message(9))
        self.pass_time(900, 5)
        self.assertEqual(self.mail("fresh"), [message(9)])
        self.assertEqual(self.server.messages, MAIL)
        self.patch(Folder, "rename", self.real)
        self.pass_time(1500, 5)
        self.assertEqual(self.mail("old"), MAIL)
        self.assertEqual(self.mail("fresh"), [message(9)])
        self.assertEqual(self.server.messages, [])
        self.assertEqual(self.server.count("RETR"), 6)

    def test_mail_whose_file_is_gone_is_fetched_for_the_old_one(self) -> None:
        for file in (self.root / "old" / "tmp").iterdir():
            file.unlink()
        self.change("fresh")
        self.patch(Folder, "rename", self.real)
        self.pass_time(2400, 5)
        self.flushLoggedErrors()
        self.assertEqual(self.mail("old"), MAIL)
        self.assertEqual(self.mail("fresh"), [])
        self.assertEqual(self.server.messages, [])

    def test_second_destination_does_not_make_the_mail_be_fetched_again(self) -> None:
        self.change("old", "fresh")
        self.pass_time(900, 5)
        self.patch(Folder, "rename", self.real)
        self.pass_time(1500, 5)
        self.assertEqual(self.mail("old"), MAIL)
        self.assertEqual(self.server.count("RETR"), 5)

    def test_old_one_that_is_not_mounted_does_not_block_the_account(self) -> None:
        (self.root / "old").rename(self.root / "elsewhere")
        self.change("fresh")
        self.server.deliver(message(9))
        self.pass_time(900, 5)
        self.assertEqual(self.mail("fresh"), [message(9)])
        (self.root / "elsewhere").rename(self.root / "old")
        self.patch(Folder, "rename", self.real)
        self.pass_time(1500, 5)
        self.assertEqual(self.mail("old"), MAIL)
        self.assertEqual(self.server.messages, [])


class FirstLookTests(Running):
    """
    ``existing`` holds for all messages of the first look, also if it cannot fetch any.
    """

    def test_existing_mail_is_seen_while_the_destination_is_in_trouble(self) -> None:
        self.serve(*MAIL)
        self.objects["desk"] = desk = Collecting()
        desk.fail = down
        self.account(to=("desk",))
        service = self.begin()
        self.pass_time(400, 5)
        late = self.serve(*[message(number) for number in range(10, 20)], name="b")
        self.account("b", to=("desk",), existing="seen")
        self.result(Deferred.fromCoroutine(service.reload(self.config)))
        self.pass_time(60)
        late.deliver(message(20))
        desk.fail = lambda mail: None
        self.pass_time(1500, 5)
        self.assertEqual(sorted(desk.contents), sorted([*MAIL, message(20)]))
        self.assertEqual(self.states("b")[:10], [MessageState.SKIPPED] * 10)

    def test_old_mail_behind_max_messages_is_not_new(self) -> None:
        self.serve(dated(1, 13), dated(2, 13), dated(3, 1), dated(4, 1))
        self.maildir()
        self.account(existing="last 7 days", max_messages=1)
        self.assertEqual((self.once().left, len(self.mail())), (1, 1))
        for _ in range(3):
            self.once()
        self.assertEqual(self.mail(), [dated(1, 13), dated(2, 13)])

    def cut(self, server: FaultyServer, fault: Any) -> None:
        server.faults["UIDL"] = fault(say(b"+OK\r\n1 a\r\n.\r\n"))
        server.faults["LIST"] = fault(say(b"+OK\r\n1 300\r\n.\r\n"))

    def test_listing_that_is_cut_once_does_not_make_old_mail_new(self) -> None:
        server = self.serve(*MAIL)
        self.maildir()
        self.account(existing="seen")
        self.cut(server, lambda fault: times(1, fault))
        self.assertIn("not complete", str(self.once().error))
        self.once()
        server.deliver(message(9))
        self.once()
        self.assertEqual(self.mail(), [message(9)])

    def test_listing_that_is_never_complete_is_believed_in_the_end(self) -> None:
        server = self.serve(*MAIL)
        self.maildir()
        self.account(existing="seen")
        server.faults["STAT"] = say(b"+OK 7 1000\r\n")
        for _ in range(3):
            self.assertFalse(self.once().looked)
        self.assertTrue(self.once().looked)
        server.deliver(message(9))
        self.once()
        self.assertEqual(self.mail(), [message(9)])

    def test_cut_listing_does_not_hold_up_mail_that_is_all_wanted(self) -> None:
        server = self.serve(*MAIL)
        self.maildir()
        self.account()
        self.cut(server, lambda fault: times(1, fault))
        self.assertTrue(self.once().looked)
        self.once()
        self.assertEqual(self.mail(), MAIL)


class ClockTests(Running):
    """
    The clock was years ahead, and was set right while nothing ran.
    """

    def setUp(self) -> None:
        super().setUp()
        self.server = self.serve(message(8))
        self.maildir()
        self.account()
        self.once()
        self.server.deliver(*MAIL)

    def days(self, count: int) -> None:
        for _ in range(count):
            self.pass_time(DAY, DAY)
            self.once()

    def test_messages_are_deleted_by_the_age_that_they_have_now(self) -> None:
        self.account(after="delete after 14 days")
        self.skew = YEARS
        self.once()
        self.skew = 0.0
        self.days(13)
        self.assertEqual(self.server.messages, MAIL)
        self.days(2)
        self.assertEqual(self.server.messages, [])

    def test_missing_messages_are_forgotten_in_the_end(self) -> None:
        self.account(forget_after="5 days")
        self.once()
        self.server._drop.messages.clear()
        self.skew = YEARS
        self.once()
        self.skew = 0.0
        for number in range(10, 22):
            # A listing that has not changed is not counted by runs as short as these.
            self.server.deliver(message(number))
            self.days(1)
        self.assertEqual(len(self.rows()), 12)

    def test_clock_that_begins_in_1970_makes_nothing_old(self) -> None:
        self.account(after="delete after 14 days")
        self.once()
        self.skew = -START
        self.once()
        self.skew = 0.0
        self.days(13)
        self.assertEqual(len(self.server.messages), 6)
        self.days(2)
        self.assertEqual(self.server.messages, [])

    def test_uidl_that_is_refused_for_a_day_is_given_up(self) -> None:
        self.once()
        self.server.faults["UIDL"] = say(b"-ERR [SYS/TEMP] no\r\n")
        self.skew = YEARS
        self.once()
        self.skew = 0.0
        self.server.deliver(message(9))
        self.days(5)
        self.assertEqual(len(self.mail()), 7)


class ReusedTests(Running):
    """
    A unique-id is used again for a message that only its body tells from another.
    """

    def test_message_is_not_deleted_in_the_place_of_an_older_one(self) -> None:
        server = self.serve()
        server.deliver(report(1), uids=["one"])
        self.maildir()
        self.account(after="delete after 2 days")
        self.once()
        server._drop.messages.clear()
        server.deliver(report(2), uids=["one"])
        for _ in range(6):
            self.pass_time(DAY, DAY)
            self.once()
        self.assertEqual(self.mail(), [report(1), report(2)])
        self.assertEqual(server.messages, [])

    def test_message_does_not_get_the_key_of_one_that_is_in_the_table(self) -> None:
        self.destinations.append(DestinationSettings(name="box", kind="table"))
        server = self.serve()
        server.deliver(report(1), uids=["one"])
        self.account(after="delete", forget_after="1 day")
        self.once()
        for number in range(12):
            # Each listing is another one.
            server.deliver(message(number))
            self.pass_time(DAY, DAY)
            self.once()
        server.deliver(report(2), uids=["one"])
        self.once()
        self.assertEqual(server.messages, [])
        database = sqlite3.connect(self.root / "state" / "collect.db")
        self.addCleanup(database.close)
        got = [content for (content,) in database.execute("SELECT message FROM inbox")]
        self.assertEqual([got[0], got[-1]], [report(1), report(2)])


class ComparisonTests(Running):
    """
    All unique-ids have changed, and the session ends while messages are compared.
    """

    def test_known_message_that_cannot_be_compared_once_is_not_delivered(self) -> None:
        for name, fault in (("a", hang), ("b", close), ("c", swallow)):
            server = self.serve(*MAIL[:2], name=name)
            self.maildir(name, name)
            self.account(name, to=(name,))
            self.once(name)
            before = list(server._drop.messages)
            server._drop.messages[:] = [(uid.swapcase(), m) for uid, m in before]
            server.faults["RETR 1"] = times(1, fault)
            server.deliver(message(9))
            for _ in range(3):
                self.once(name)
                self.pass_time(7200, 3600)
            self.assertEqual(self.mail(name), [*MAIL[:2], message(9)], name)
            self.assertEqual(self.states(name), [MessageState.DELIVERED] * 3, name)


class NumberTests(Running):
    """
    What comes is not the message that was asked for.
    """

    def test_missing_reply_that_makes_a_message_look_short_repeats_none(self) -> None:
        mail = [message(1), message(2, 400), message(3, 100)]
        server = self.serve(*mail)
        self.maildir()
        self.account()
        # The second message is taken for the first one, and the third for the second.
        server.faults["RETR 1"] = times(1, swallow)
        for _ in range(4):
            self.once()
            self.pass_time(7200, 3600)
        self.assertEqual(self.mail(), mail)

    def test_messages_behind_a_deleted_one_arrive_once(self) -> None:
        mail = [message(number, 300 + 22 * number) for number in range(1, 8)]
        server = self.serve(*mail)
        self.maildir()
        self.account()

        def another_session(connection: Any) -> bool:
            del connection.mbox._messages[0], server._drop.messages[0]
            return False

        server.faults["RETR 1"] = times(1, another_session)
        self.once()
        for _ in range(3):
            self.pass_time(7200, 3600)
            self.once()
        self.assertEqual(self.mail(), mail[1:])
        self.assertEqual(self.states(), [MessageState.DELIVERED] * 6)


class PlanTests(Running):
    """
    A plan is made while a look goes on.
    """

    def test_look_learns_of_its_deliveries_after_a_plan_beside_it(self) -> None:
        server = self.serve(*MAIL)
        self.objects["desk"] = desk = Collecting()
        self.account(to=("desk",), after="delete")
        waiting: list[Deferred[None]] = []

        async def slow(mail: Mail) -> None:
            waiting.append(Deferred())
            await waiting[-1]

        self.patch(desk, "deliver", slow)
        service = self.begin()
        self.pass_time(3)
        server.in_use = False
        plan = Deferred.fromCoroutine(service.plan("a"))
        self.flush()
        self.successResultOf(plan)
        while waiting:
            waiting.pop().callback(None)
            self.flush()
        # In the same session, without a proof by TOP.
        self.assertEqual(server.messages, [])
        self.assertEqual(server.count("TOP"), 0)


class JournalTests(Running):
    """
    The journal changes, or cannot be written, in the middle of something else.
    """

    def test_reload_that_cannot_be_noted_changes_nothing(self) -> None:
        self.serve(*MAIL)
        self.serve(message(9), name="b")
        self.maildir()
        self.account("a")
        service = self.begin()
        self.pass_time(5)
        self.account("b")
        real = Journal.put_accounts

        def refuse(*_: object, **__: object) -> Deferred[None]:
            return fail(JournalError("locked"))

        self.patch(Journal, "put_accounts", refuse)
        failing = Deferred.fromCoroutine(service.reload(self.config))
        self.assertRaises(JournalError, self.result, failing)
        self.assertEqual(service._accounts.chosen(None), ["a"])
        self.patch(Journal, "put_accounts", real)
        self.result(Deferred.fromCoroutine(service.reload(self.config)))
        self.pass_time(5)
        self.assertEqual(len(self.mail()), 6)

    def test_account_removed_during_a_single_run_leaves_the_others(self) -> None:
        self.serve(*MAIL)
        self.maildir()
        self.account(after="delete")
        other = self.serve(message(9), name="b")
        self.objects["desk"] = desk = Collecting()
        self.account("b", to=("desk",), after="delete")
        removed: list[bool] = []

        def remove(moment: str) -> None:
            if moment == "after delivered" and not removed:
                removed.append(self.read(lambda journal: journal.remove("a")))

        desk.fail = down
        running = Deferred.fromCoroutine(self.service(remove).run_once())
        outcomes = self.result(running)
        self.assertEqual(removed, [True])
        self.assertFalse(outcomes["a"].looked)
        self.assertEqual((outcomes["b"].error, outcomes["b"].waiting), (None, 1))
        self.assertEqual(other.messages, [message(9)])
