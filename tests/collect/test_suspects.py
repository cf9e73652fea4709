"""
One bad message never stops the others: hanging, closing, flooding, refused, cut off.
"""

from __future__ import annotations

from typing import Any

from pop3connect.collect.records import MessageState

from .engine import (
    EngineTestCase,
    Fault,
    FaultyServer,
    close,
    flood,
    hang,
    message,
    say,
    say_and_close,
    swallow,
    times,
)

MAIL = [message(number) for number in range(1, 7)]
GOOD = [*MAIL[:2], *MAIL[3:]]

BAD = {
    "hangs": hang,
    "closes": close,
    "floods": flood,
    "is refused": say(b"-ERR this message is broken\r\n"),
    "is empty": say(b"+OK\r\n.\r\n"),
    "is cut off and closes": say_and_close(b"+OK\r\nSubject: x\r\n\r\nhalf"),
    "is half of it": say(b"+OK\r\n" + MAIL[2][:100] + b"\r\n.\r\n"),
    "is not a reply": say(b"what?\r\n"),
}


class SuspectTests(EngineTestCase):
    """
    A message that cannot be retrieved, among others.
    """

    def begin(self, **options: Any) -> FaultyServer:
        server = self.serve(*MAIL)
        self.maildir()
        options.setdefault("after", "delete")
        self.account(**options)
        return server

    def test_the_others_arrive_and_are_deleted(self) -> None:
        for name, fault in BAD.items():
            with self.subTest(fault=name):
                self.setUp()
                server = self.begin()
                server.faults["RETR"] = _third(server, fault)
                outcome = self.once()
                expected = GOOD
                if name == "is half of it":
                    # The same bytes twice: delivered, and left on the server.
                    self.assertEqual(len(self.mail()), 6)
                else:
                    self.assertEqual(self.mail(), expected, name)
                    self.assertEqual(outcome.bad, 1, name)
                    self.assertIsNotNone(outcome.error, name)
                self.assertEqual(server.messages, [MAIL[2]], name)
                self.assertLessEqual(server.sessions, 4, name)
                self.assertEqual(self.leftovers(), [], name)

    def test_it_arrives_when_it_can_be_retrieved_again(self) -> None:
        for name, fault in BAD.items():
            if name == "is half of it":
                continue
            with self.subTest(fault=name):
                self.setUp()
                server = self.begin()
                server.faults["RETR"] = _third(server, fault)
                self.once()
                server.faults.clear()
                self.pass_time(3600, 600)
                outcome = self.once()
                self.assertIsNone(outcome.error, name)
                self.assertEqual(self.mail(), MAIL, name)
                self.assertEqual(server.messages, [], name)

    def test_it_is_tried_first_in_a_session_of_its_own(self) -> None:
        server = self.begin()
        server.faults["RETR 3"] = times(1, hang)
        outcome = self.once()
        self.assertEqual((outcome.new, outcome.deleted), (6, 6))
        self.assertEqual(server.sessions, 3)
        last = server.heard[-server.heard[::-1].index("QUIT", 1) :]
        self.assertEqual([line for line in last if "RETR" in line], ["RETR 1"])
        self.assertEqual(self.mail(), MAIL)

    def test_five_failures_over_six_hours_set_it_aside(self) -> None:
        server = self.begin()
        server.faults["RETR"] = _third(server, say(b"-ERR broken\r\n"))
        for _ in range(4):
            self.once()
            self.pass_time(3600, 3600)
        (row,) = [r for r in self.rows() if r.state is not MessageState.DELETED]
        self.assertEqual(row.state, MessageState.SUSPECT)
        self.pass_time(6 * 3600, 3600)
        self.once()
        (row,) = [r for r in self.rows() if r.state is not MessageState.DELETED]
        self.assertEqual(row.state, MessageState.SET_ASIDE)
        self.assertIn("broken", row.reason)
        server.heard.clear()
        self.once()
        self.assertEqual(server.count("RETR"), 0)
        self.assertEqual(server.messages, [MAIL[2]])

    def test_failure_beside_others_does_not_count(self) -> None:
        server = self.begin()
        server.faults["RETR"] = _third(server, say(b"-ERR [SYS/TEMP] later\r\n"))
        for _ in range(8):
            self.once()
            self.pass_time(3600, 3600)
        (row,) = [r for r in self.rows() if r.state is not MessageState.DELETED]
        self.assertEqual((row.state, row.failures), (MessageState.SUSPECT, 0))

    def test_sixty_that_close_in_front_of_forty_good_ones(self) -> None:
        bad = [message(number) for number in range(60)]
        good = [message(number) for number in range(60, 100)]
        server = self.serve(*bad, *good)
        self.maildir()
        self.account(after="delete")
        server.faults["RETR"] = _content(server, set(bad), close)
        self.once()
        self.assertEqual(self.mail(), sorted(good))
        self.assertEqual(server.messages, bad)

    def test_sixty_refused_in_front_of_forty_good_ones(self) -> None:
        bad = [message(number) for number in range(60)]
        good = [message(number) for number in range(60, 100)]
        server = self.serve(*bad, *good)
        self.maildir()
        self.account(after="delete")
        server.faults["RETR"] = _content(server, set(bad), say(b"-ERR no\r\n"))
        outcome = self.once()
        self.assertEqual((outcome.new, outcome.deleted, outcome.bad), (40, 40, 60))
        self.assertEqual(self.mail(), sorted(good))

    def test_top_that_hangs_does_not_stop_the_others(self) -> None:
        server = self.begin(match=["Subject: *"])
        server.faults["TOP 3 0"] = hang
        self.once()
        # RETR works, when it is tried alone.
        self.assertEqual(self.mail(), MAIL)
        self.assertEqual(server.messages, [])

    def test_top_that_floods_does_not_stop_the_others(self) -> None:
        server = self.begin(match=["Subject: *"])
        server.faults["TOP"] = _third(server, flood)
        self.once()
        self.assertEqual(self.mail(), MAIL)
        self.assertEqual(server.messages, [])

    def test_replies_that_vanish_do_not_confuse_messages(self) -> None:
        for after in ("delete", "keep"):
            self.setUp()
            server = self.begin(after=after)
            # The reply to the next RETR is taken for the one that is missing.
            server.faults["RETR 3"] = times(1, swallow)
            self.once()
            self.once()
            self.assertEqual(server.messages, [] if after == "delete" else MAIL)
            self.assertEqual(set(self.mail()), set(MAIL), after)

    def test_half_a_message_once_is_not_delivered(self) -> None:
        server = self.begin()
        server.faults["RETR 3"] = times(1, BAD["is half of it"])
        outcome = self.once()
        self.assertEqual(outcome.new, 6)
        self.assertEqual(self.mail(), MAIL)
        self.assertEqual(server.messages, [])

    def test_half_a_message_twice_is_delivered_and_never_deleted(self) -> None:
        server = self.begin()
        server.faults["RETR"] = _third(server, BAD["is half of it"])
        self.once()
        self.assertEqual(len(self.mail()), 6)
        for _ in range(3):
            self.pass_time(86400, 86400)
            self.once()
        self.assertEqual(server.messages, [MAIL[2]])
        self.assertEqual(len(self.mail()), 6)

    def test_sizes_that_are_a_little_off_are_normal(self) -> None:
        server = self.begin()
        rows = "".join(f"{n} {len(m) + 20}\r\n" for n, m in enumerate(MAIL, 1))
        server.faults["LIST"] = times(1, say(f"+OK\r\n{rows}.\r\n".encode()))
        outcome = self.once()
        self.assertEqual((outcome.new, outcome.deleted), (6, 6))

    def test_server_that_ends_every_session_after_some_bytes(self) -> None:
        many = [message(number, 8000) for number in range(40)]
        server = self.serve(*many)
        self.maildir()
        self.account(after="delete")
        server.drop_after = 60_000
        for _ in range(20):
            self.once()
            self.pass_time(600, 60)
            if not server.messages:
                break
        self.assertEqual(self.mail(), sorted(many))
        self.assertNotIn(MessageState.SET_ASIDE, self.states())


class VanishingTests(EngineTestCase):
    """
    The reply to a RETR vanishes, and each reply after it is taken for the one before.
    """

    def test_nothing_is_lost_or_repeated_though_the_process_ends(self) -> None:
        equal = MAIL
        various = [message(number, 300 + 40 * number) for number in range(1, 7)]
        for mail in (equal, various):
            for after in ("keep", "delete"):
                for top in (None, say(b"-ERR unknown command\r\n"), close):
                    with self.subTest(after=after, top=top, equal=mail is equal):
                        self.setUp()
                        server = self.serve(*mail)
                        self.maildir()
                        self.account(after=after)
                        self.vanish(server)
                        if top is not None:
                            server.faults["TOP"] = top
                        self.forget_and_look(server)
                        self.assertEqual(self.mail(), mail)
                        left = mail if after == "keep" else []
                        self.assertEqual(server.messages, left)

    def test_nothing_is_lost_if_the_server_closes_in_the_end(self) -> None:
        various = [message(number, 300 + 40 * number) for number in range(1, 7)]
        server = self.serve(*various)
        self.maildir()
        self.account()
        server.faults["RETR 3"] = times(1, swallow)

        def last(connection: Any) -> bool:
            reply = b"+OK\r\n" + various[5] + b".\r\n"
            return say_and_close(reply)(connection)

        server.faults["RETR 6"] = times(1, last)
        self.once()
        self.forget_and_look(server)
        self.assertEqual(self.mail(), various)

    def vanish(self, server: FaultyServer) -> None:
        """Let a reply vanish, and the next session fail: the process ends in doubt."""
        server.faults["RETR 3"] = times(1, swallow)
        sessions = server.sessions

        def second(connection: Any) -> bool:
            return server.sessions > sessions + 1 and close(connection)

        server.faults["STAT"] = second
        outcome = self.once()
        self.assertEqual((outcome.new, outcome.looked), (5, False))
        del server.faults["STAT"]

    def forget_and_look(self, server: FaultyServer) -> None:
        for _ in range(3):
            self.pass_time(4 * 3600, 3600)
            self.once()
        server.heard.clear()
        # It is known which message is which; what was never one does not matter.
        self.once()
        self.assertEqual(server.count("TOP") + server.count("RETR"), 0)
        seen = self.read(
            lambda journal: journal.has_work(
                self.successResultOf(journal.accounts(["a"]))[0]
            )
        )
        self.assertFalse(seen)


class QuitTests(EngineTestCase):
    """
    What the end of a session leaves open.
    """

    def test_quit_not_answered_deletes_again(self) -> None:
        server = self.serve(*MAIL)
        self.maildir()
        self.account(after="delete")
        server.faults["QUIT"] = times(1, close)
        outcome = self.once()
        self.assertEqual((outcome.new, outcome.deleted), (6, 0))
        self.assertIsNotNone(outcome.error)
        outcome = self.once()
        self.assertIsNone(outcome.error)
        self.assertEqual((outcome.new, outcome.deleted), (0, 6))
        self.assertEqual(self.mail(), MAIL)

    def test_quit_not_answered_and_nothing_deleted_is_no_error(self) -> None:
        server = self.serve(*MAIL)
        self.maildir()
        self.account()
        server.faults["QUIT"] = close
        outcome = self.once()
        self.assertIsNone(outcome.error)
        self.assertEqual(outcome.new, 6)

    def test_quit_answered_and_mail_kept_is_deleted_again_not_delivered(self) -> None:
        server = self.serve(*MAIL)
        self.maildir()
        self.account(after="delete")
        server.faults["QUIT"] = say_and_close(b"+OK bye\r\n")
        self.assertEqual(self.once().deleted, 6)
        for _ in range(2):
            outcome = self.once()
            self.assertEqual((outcome.new, outcome.deleted), (0, 6))
        for _ in range(3):
            server.heard.clear()
            self.once()
        self.assertEqual(server.count("DELE"), 0)
        self.pass_time(2 * 86400, 86400)
        self.once()
        self.assertEqual(server.count("DELE"), 6)
        self.assertEqual(self.mail(), MAIL)

    def test_dele_refused_for_one_message(self) -> None:
        server = self.serve(*MAIL)
        self.maildir()
        self.account(after="delete")
        server.faults["DELE 2"] = say(b"-ERR no\r\n")
        outcome = self.once()
        self.assertEqual((outcome.deleted, outcome.refused), (5, 1))
        self.assertEqual(server.messages, [MAIL[1]])
        server.faults.clear()
        self.assertEqual(self.once().deleted, 1)


class ListingTests(EngineTestCase):
    """
    Listings that cannot be believed.
    """

    def begin(self) -> FaultyServer:
        server = self.serve(*MAIL)
        self.maildir()
        self.account()
        self.once()
        server.heard.clear()
        return server

    def test_uidl_refused_fetches_nothing_and_forgets_nothing(self) -> None:
        server = self.begin()
        server.faults["UIDL"] = times(1, say(b"-ERR not now\r\n"))
        outcome = self.once()
        self.assertIsNotNone(outcome.error)
        self.assertEqual(server.count("RETR"), 0)
        self.assertEqual(self.once().there, 6)
        self.assertEqual(server.count("RETR"), 0)

    def test_session_cut_in_uidl_fetches_nothing(self) -> None:
        server = self.begin()
        server.faults["UIDL"] = times(1, say_and_close(b"+OK\r\n1 abc\r\n"))
        self.assertIsNotNone(self.once().error)
        self.assertEqual(self.once().there, 6)
        self.assertEqual(server.count("RETR"), 0)

    def test_uidl_that_fails_for_a_day_is_given_up(self) -> None:
        server = self.begin()
        server.faults["UIDL"] = say(b"-ERR never\r\n")
        for _ in range(5):
            self.assertIsNotNone(self.once().error)
            self.pass_time(6 * 3600, 3600)
        server.deliver(message(9))
        outcome = self.once()
        self.assertIsNone(outcome.error)
        self.assertEqual(outcome.new, 1)
        self.assertEqual(len(self.mail()), 7)

    def test_empty_mailbox_once_is_not_new_mail_later(self) -> None:
        server = self.begin()
        kept, server._drop.messages = server._drop.messages, []
        self.once()
        server._drop.messages = kept
        outcome = self.once()
        self.assertEqual((outcome.new, outcome.there), (0, 6))
        self.assertEqual(server.count("RETR"), 0)

    def test_account_without_unique_ids_fetches_each_message_once(self) -> None:
        server = self.serve(*MAIL, MAIL[0])
        server.faults["UIDL"] = say(b"-ERR unknown command\r\n")
        self.maildir()
        self.account()
        outcome = self.once()
        self.assertIsNone(outcome.error)
        self.assertEqual(outcome.new, 7)
        outcome = self.once()
        self.assertEqual((outcome.new, outcome.there), (0, 7))
        server.deliver(message(9))
        self.assertEqual(self.once().new, 1)

    def test_account_without_unique_ids_and_top_fetches_each_message_once(self) -> None:
        server = self.serve(*MAIL)
        server.faults["UIDL"] = say(b"-ERR unknown command\r\n")
        server.faults["TOP"] = say(b"-ERR unknown command\r\n")
        self.maildir()
        self.account(after="delete")
        self.assertEqual(self.once().new, 6)
        server.deliver(message(8), message(8), message(9))
        outcome = self.once()
        self.assertEqual(outcome.new, 3)
        self.assertEqual(len(self.mail()), 9)
        self.assertEqual(server.messages, [])

    def test_migration_recognises_all_and_fetches_what_is_new(self) -> None:
        server = self.begin()
        server._drop.messages = [
            (b"other-" + uid, content) for uid, content in server._drop.messages
        ]
        server.deliver(message(9))
        outcome = self.once()
        self.assertEqual(outcome.new, 1)
        self.assertEqual(len(self.mail()), 7)

    def test_store_of_other_mail_holds_the_account(self) -> None:
        server = self.serve(*[message(number) for number in range(30)])
        self.maildir()
        self.account()
        self.once()
        server._drop.messages = []
        server.deliver(*[message(number, 200) for number in range(2000, 3100)])
        outcome = self.once()
        self.flushLoggedErrors()
        self.assertEqual(outcome.new, 0)
        self.assertEqual(server.count("RETR"), 30)
        held = self.once()
        self.assertIn("held", str(held.error))
        self.read(lambda journal: journal.release(["a"], "seen"))
        outcome = self.once()
        self.assertEqual((outcome.new, outcome.skipped), (0, 1100))
        server.deliver(message(5000))
        self.assertEqual(self.once().new, 1)


def _third(server: FaultyServer, fault: Fault) -> Fault:
    return _content(server, {MAIL[2]}, fault)


def _content(server: FaultyServer, contents: set[bytes], fault: Fault) -> Fault:
    """Let a fault concern messages by their contents, whatever their number."""

    def limited(connection: Any) -> bool:
        number = int(connection.line.split(" ")[1])
        content = connection.mbox._at(number - 1)[1]
        if content not in contents:
            return False
        return fault(connection)

    return limited
