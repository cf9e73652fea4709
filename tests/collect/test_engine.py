"""
The engine on its good days: what arrives, what is deleted, what is left alone.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from pop3connect.collect import courier, journal
from pop3connect.collect.records import MessageState
from pop3connect.collect.settings import DestinationSettings
from pop3connect.collect.writer import Worker
from pop3connect.destinations.base import Later, Mail

from .engine import START, Collecting, EngineTestCase, message, say

MAIL = [message(number) for number in range(1, 6)]


class MaildirTests(EngineTestCase):
    """
    One account into one Maildir.
    """

    def test_messages_are_delivered_and_kept_on_the_server(self) -> None:
        server = self.serve(*MAIL)
        self.maildir()
        self.account()
        outcome = self.once()
        self.assertIsNone(outcome.error)
        self.assertEqual((outcome.new, outcome.delivered), (5, 5))
        self.assertEqual(self.mail(), MAIL)
        self.assertEqual(server.messages, MAIL)
        self.assertEqual(self.leftovers(), [])
        self.assertEqual(self.states(), [MessageState.DELIVERED] * 5)

    def test_a_second_look_fetches_nothing(self) -> None:
        server = self.serve(*MAIL)
        self.maildir()
        self.account()
        self.once()
        server.heard.clear()
        outcome = self.once()
        self.assertEqual((outcome.new, outcome.there), (0, 5))
        self.assertEqual(server.count("RETR"), 0)
        self.assertEqual(len(self.mail()), 5)

    def test_look_that_finds_nothing_new_waits_for_no_disk(self) -> None:
        waits: dict[str, bool] = {}

        class Spy(Worker):
            def submit(self, name: str, *rest: Any, **options: Any) -> Any:
                waits[name] = options.get("lasting", True)
                return super().submit(name, *rest, **options)

        self.patch(journal, "Worker", Spy)
        server = self.serve(*MAIL)
        self.maildir()
        self.account()
        self.once()
        self.assertTrue(waits["add"] and waits["delivered"] and waits["finish"])
        waits.clear()
        self.once()
        self.assertEqual((waits["claim_now"], waits["finish"]), (False, False))
        # What is new in the account's row stays: another error, and its end.
        server.faults["LIST"] = say(b"-ERR no\r\n")
        self.once()
        self.assertTrue(waits["finish"])
        del server.faults["LIST"]
        self.once()
        self.assertTrue(waits["finish"])
        self.once()
        self.assertFalse(waits["finish"])
        self.read(lambda journal: journal.release(["a"], "seen"))
        self.once()
        self.assertTrue(waits["finish"])

    def test_only_new_messages_are_fetched(self) -> None:
        server = self.serve(*MAIL)
        self.maildir()
        self.account()
        self.once()
        server.deliver(message(6))
        outcome = self.once()
        self.assertEqual((outcome.new, outcome.there), (1, 5))
        self.assertEqual(len(self.mail()), 6)

    def test_delivered_messages_are_deleted(self) -> None:
        server = self.serve(*MAIL)
        self.maildir()
        self.account(after="delete")
        outcome = self.once()
        self.assertEqual(outcome.deleted, 5)
        self.assertEqual(server.messages, [])
        self.assertEqual(self.mail(), MAIL)
        self.assertEqual(self.states(), [MessageState.DELETED] * 5)
        self.assertEqual(server.count("TOP"), 0)

    def test_messages_are_deleted_after_their_time_and_only_with_a_proof(self) -> None:
        server = self.serve(*MAIL)
        self.maildir()
        self.account(after="delete after 14 days")
        self.once()
        self.pass_time(13 * 86400, 86400)
        server.deliver(message(6))
        self.assertEqual(self.once().deleted, 0)
        self.pass_time(2 * 86400, 86400)
        server.heard.clear()
        outcome = self.once()
        self.assertIsNone(outcome.error)
        self.assertEqual(outcome.deleted, 5)
        self.assertEqual(server.count("TOP"), 5)
        self.assertEqual(server.messages, [message(6)])

    def test_other_message_with_the_same_unique_id_and_size_is_not_deleted(
        self,
    ) -> None:
        server = self.serve(*MAIL)
        self.maildir()
        self.account(after="delete after 10 days")
        self.once()
        other = MAIL[1].replace(b"number 2", b"number X").replace(b"<2@", b"<X@")
        self.assertEqual(len(other), len(MAIL[1]))
        server._drop.messages[1] = (server._drop.messages[1][0], other)
        self.pass_time(11 * 86400, 86400)
        outcome = self.once()
        self.assertIsNone(outcome.error)
        self.assertEqual((outcome.new, outcome.deleted), (1, 4))
        self.assertEqual(server.messages, [other])
        self.assertEqual(self.mail(), sorted([*MAIL, other]))

    def test_rule_that_changes_deletes_what_was_kept(self) -> None:
        server = self.serve(*MAIL)
        self.maildir()
        self.account()
        self.once()
        self.account(after="delete after 10 days")
        self.assertEqual(self.once().deleted, 0)
        self.assertEqual(self.rows()[0].delete_after, START + 10 * 86400)
        self.pass_time(11 * 86400, 86400)
        self.assertEqual(self.once().deleted, 5)
        self.assertEqual(server.messages, [])

    def test_large_message_goes_through_a_file(self) -> None:
        large = message(1, 3_000_000)
        self.serve(large, message(2))
        self.maildir()
        self.account()
        self.assertEqual(self.once().new, 2)
        self.assertEqual(self.mail(), [large, message(2)])

    def test_empty_mailbox(self) -> None:
        self.serve()
        self.maildir()
        self.account()
        outcome = self.once()
        self.assertIsNone(outcome.error)
        self.assertEqual(outcome.new, 0)

    def test_a_thousand_messages_arrive_in_groups(self) -> None:
        many = [message(number) for number in range(1000)]
        self.serve(*many)
        self.maildir()
        self.account(after="delete")
        outcome = self.once()
        self.assertEqual((outcome.new, outcome.deleted), (1000, 1000))
        self.assertEqual(self.mail(), sorted(many))

    def test_max_messages_limits_one_run(self) -> None:
        self.serve(*MAIL)
        self.maildir()
        self.account(max_messages=2)
        self.assertEqual(self.once().new, 2)
        self.assertEqual(self.once().new, 2)
        self.assertEqual(self.once().new, 1)
        self.assertEqual(self.mail(), MAIL)


class RulesTests(EngineTestCase):
    """
    What rules leave on the server.
    """

    def test_large_messages_are_left_and_fetched_when_the_rule_changes(self) -> None:
        server = self.serve(message(1), message(2, 5000))
        self.maildir()
        self.account(max_size=1000, after="delete")
        outcome = self.once()
        self.assertEqual((outcome.new, outcome.skipped, outcome.deleted), (1, 1, 1))
        self.assertEqual(server.messages, [message(2, 5000)])
        outcome = self.once()
        self.assertEqual((outcome.new, outcome.skipped), (0, 0))
        self.account(max_size=10_000, after="delete")
        outcome = self.once()
        self.assertEqual((outcome.new, outcome.deleted), (1, 1))
        self.assertEqual(server.messages, [])

    def test_existing_mail_is_seen_and_stays_so(self) -> None:
        server = self.serve(*MAIL)
        self.maildir()
        self.account(existing="seen")
        outcome = self.once()
        self.assertEqual((outcome.new, outcome.skipped), (0, 5))
        # Each header was read once.
        self.assertEqual((server.count("RETR"), server.count("TOP")), (0, 5))
        server.deliver(message(6))
        self.account(existing="new")
        outcome = self.once()
        self.assertEqual((outcome.new, outcome.skipped), (1, 0))
        self.assertEqual(self.mail(), [message(6)])

    def test_message_is_too_large_for_the_table(self) -> None:
        server = self.serve(message(1), message(2, 5000))
        self.destinations.append(DestinationSettings(name="box", kind="table"))
        self.account(after="delete")
        self.patch(courier, "INBOX_LIMIT", 1000)
        outcome = self.once()
        self.flushLoggedErrors()
        self.assertEqual(outcome.deleted, 1)
        self.assertEqual(server.messages, [message(2, 5000)])
        states = self.states()
        self.assertEqual(states, [MessageState.DELETED, MessageState.SET_ASIDE])

    def test_patterns_choose_messages(self) -> None:
        self.serve(*MAIL)
        self.maildir()
        self.account(match=["Subject: number 3"])
        outcome = self.once()
        self.assertEqual((outcome.new, outcome.skipped), (1, 4))
        self.account(match=["Subject: number 4"])
        outcome = self.once()
        self.assertEqual((outcome.new, outcome.skipped), (1, 3))
        self.assertEqual(self.mail(), [MAIL[2], MAIL[3]])

    def test_headers_only(self) -> None:
        server = self.serve(*MAIL)
        self.objects["notice"] = notice = Collecting()
        self.account(fetch="header", to=("notice",))
        outcome = self.once()
        self.assertEqual((outcome.new, outcome.delivered), (5, 5))
        self.assertEqual(server.count("RETR"), 0)
        self.assertEqual(len(notice.got), 5)
        self.assertIn(b"Subject: number 1\r\n", notice.contents[0])
        self.assertNotIn(b"abcdef", notice.contents[0])
        self.assertEqual(self.once().new, 0)


class PlanTests(EngineTestCase):
    """
    What would be done, without doing it.
    """

    def test_plan_names_what_is_fetched_and_skipped(self) -> None:
        server = self.serve(*MAIL, message(9, 5000))
        self.maildir()
        self.account(max_size=1000)
        planning = Deferred.fromCoroutine(self.service().plan("a"))
        plan = self.result(planning)
        self.assertEqual([each.number for each in plan.fetched], [1, 2, 3, 4, 5])
        self.assertEqual([each.number for each in plan.skipped], [6])
        self.assertEqual((server.count("RETR"), server.count("DELE")), (0, 0))
        self.assertEqual(self.rows(), [])
        self.assertEqual(self.once().new, 5)

    def test_plan_delivers_nothing_that_waits(self) -> None:
        self.serve(*MAIL)
        self.objects["one"] = one = Collecting()
        self.account(to=("one",))

        def later(mail: Mail) -> None:
            raise Later(1)

        one.fail = later
        self.once()
        one.fail = lambda mail: None
        one.attempts.clear()
        self.clock.advance(3600)
        planning = Deferred.fromCoroutine(self.service().plan("a"))
        self.assertEqual(self.result(planning).fetched, ())
        self.assertEqual(one.attempts, [])
        self.once()
        self.assertEqual(sorted(one.contents), MAIL)
