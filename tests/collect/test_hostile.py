"""
What the collector must withstand: sessions cut at every byte, replies that are refused
once, destinations that fail alone or for an hour or never answer, bad accounts among
good ones, and headers that are made to be slow.
"""

from __future__ import annotations

import os
from email.headerregistry import HeaderRegistry
from typing import Any

from twisted.internet.defer import Deferred

from pop3connect.collect.records import DeliveryState, MessageState
from pop3connect.collect.settings import DestinationSettings
from pop3connect.destinations import Later, Mail
from pop3connect.destinations.mbox import Mbox

from .engine import (
    Collecting,
    Fault,
    FaultyServer,
    close,
    hang,
    message,
    say,
    say_and_close,
    times,
)
from .test_delivery import Running
from .test_suspects import _content

MAIL = [message(number) for number in range(1, 7)]


class CutTests(Running):
    """
    A session that ends after any number of bytes from the server.
    """

    def test_session_cut_at_every_byte_delivers_each_message_once(self) -> None:
        server = self.serve()
        self.maildir()
        self.account(after="delete")
        wanted = cuts = 0
        cut = 90
        whole = False
        while not whole:
            cut += 1
            if not server.messages:
                wanted += 1
                server.deliver(message(wanted, 20))
            server.drop_after = cut
            server.heard.clear()
            outcome = self.once()
            server.drop_after = None
            if "STAT" not in server.heard:
                # Before the listing, all is the same.
                continue
            cuts += 1
            whole = outcome.error is None and outcome.quit is None
            if cut > 380:
                # A message that could not be retrieved alone waits for a while.
                self.pass_time(3600, 3600)
                outcome = self.once()
                self.assertIsNone(outcome.error, cut)
                self.assertEqual(server.messages, [], cut)
            self.assertEqual(len(self.mail()), wanted - len(server.messages), cut)
        self.assertEqual(len(set(self.mail())), wanted)
        # The listing, the message, and the answers to DELE and QUIT.
        self.assertGreater(cuts, 150)
        self.assertEqual(self.leftovers(), [])

    def test_listing_cut_at_every_byte_fetches_nothing_again(self) -> None:
        server = self.serve(*MAIL[:2])
        self.maildir()
        self.account()
        self.once()
        server.heard.clear()
        uids = b"".join(
            b"%d %s\r\n" % (n, uid.encode()) for n, uid in enumerate(server.uids, 1)
        )
        sizes = b"".join(
            b"%d %d\r\n" % (n, len(content)) for n, content in enumerate(MAIL[:2], 1)
        )
        for verb, listing in (("UIDL", uids), ("LIST", sizes)):
            whole = b"+OK\r\n" + listing + b".\r\n"
            for cut in range(len(whole)):
                server.faults[verb] = times(1, say_and_close(whole[:cut]))
                self.once()
                server.faults.clear()
        # Also those that end too soon in order, as if there were fewer messages.
        lines = [b"+OK\r\n", *uids.splitlines(keepends=True)]
        for cut in range(1, len(lines)):
            server.faults["UIDL"] = times(1, say(b"".join(lines[:cut]) + b".\r\n"))
            self.once()
        server.faults.clear()
        self.assertEqual(self.once().there, 2)
        self.assertEqual(server.count("RETR"), 0)
        self.assertEqual(self.states(), [MessageState.DELIVERED] * 2)
        self.assertEqual(self.mail(), MAIL[:2])

    def test_uidl_that_is_cut_for_a_day_is_given_up(self) -> None:
        server = self.serve(*MAIL)
        self.maildir()
        self.account()
        self.once()
        server.faults["UIDL"] = say_and_close(b"+OK\r\n1 ab")
        server.deliver(message(9))
        for _ in range(5):
            self.assertIn("UIDL", str(self.once().error))
            self.pass_time(6 * 3600, 3600)
        self.assertEqual(len(self.mail()), 6)
        outcome = self.once()
        self.assertIsNone(outcome.error)
        self.assertEqual((outcome.new, outcome.there), (1, 6))
        self.assertEqual(len(self.mail()), 7)

    def test_each_listing_refused_once_fetches_and_forgets_nothing(self) -> None:
        for verb in ("STAT", "LIST", "UIDL"):
            for text in (
                b"-ERR\r\n",
                b"-ERR [SYS/TEMP] later\r\n",
                b"-ERR [IN-USE]\r\n",
            ):
                with self.subTest(verb=verb, text=text):
                    self.setUp()
                    server = self.serve(*MAIL)
                    self.maildir()
                    self.account(after="delete after 1 h")
                    self.once()
                    self.pass_time(4000, 1000)
                    server.heard.clear()
                    server.faults[verb] = times(1, say(text))
                    self.once()
                    self.pass_time(4000, 1000)
                    self.once()
                    self.assertEqual(server.count("RETR"), 0)
                    self.assertEqual(self.mail(), MAIL)
                    self.assertEqual(server.messages, [])
                    self.assertEqual(self.states(), [MessageState.DELETED] * 6)


class DestinationsTests(Running):
    """
    One of several destinations fails, or never answers.
    """

    def setUp(self) -> None:
        super().setUp()
        for name in ("one", "two", "three", "four"):
            self.objects[name] = Collecting()

    def test_destination_down_for_an_hour_while_three_others_work(self) -> None:
        server = self.serve(*MAIL)
        self.account(to=tuple(self.objects), after="delete", interval=60)

        def down(mail: Mail) -> None:
            raise Later(reason="down", whole_destination=True)

        self.objects["two"].fail = down
        self.begin()
        for number in range(60):
            self.pass_time(60, 5)
            if number % 10 == 0:
                server.deliver(message(100 + number))
        good = [self.objects[name] for name in ("one", "three", "four")]
        for each in good:
            self.assertEqual(len(each.got), 12)
        # What is not delivered everywhere stays on the server.
        self.assertEqual(len(server.messages), 12)
        self.assertLess(len(self.objects["two"].attempts), 20)
        self.objects["two"].fail = lambda mail: None
        self.pass_time(700, 5)
        for each in self.objects.values():
            self.assertEqual(sorted(each.contents), sorted(good[0].contents))
            self.assertEqual(len(set(each.contents)), 12)
        self.assertEqual(server.messages, [])
        self.assertEqual(self.leftovers(), [])

    def test_two_destinations_that_fail_for_one_message_each(self) -> None:
        server = self.serve(*MAIL)
        self.account(to=("one", "two"), after="delete", interval=60)

        def refuses(content: bytes) -> Any:
            def fail(mail: Mail) -> None:
                if mail.read() == content:
                    raise ValueError("not this one")

            return fail

        self.objects["one"].fail = refuses(MAIL[1])
        self.objects["two"].fail = refuses(MAIL[4])
        self.begin()
        for number in range(5):
            # It counts only while the destination takes other messages.
            self.pass_time(3600, 60)
            server.deliver(message(50 + number))
        self.pass_time(3600, 60)
        one, two = self.objects["one"].contents, self.objects["two"].contents
        self.assertEqual(len(one), 10)
        self.assertEqual(len(two), 10)
        self.assertNotIn(MAIL[1], one)
        self.assertIn(MAIL[1], two)
        self.assertIn(MAIL[4], one)
        self.assertNotIn(MAIL[4], two)
        # Those two are left on the server, and copies are kept.
        self.assertEqual(server.messages, [MAIL[1], MAIL[4]])
        aside = self.root / "state" / "aside"
        self.assertEqual(
            sorted(file.read_bytes() for file in aside.iterdir()), [MAIL[1], MAIL[4]]
        )

    def test_destination_that_never_answers_holds_up_nobody(self) -> None:
        server = self.serve(*MAIL)
        other = self.serve(*MAIL, name="b")

        class Hanging:
            async def deliver(self, mail: Mail) -> None:
                await Deferred()

        self.objects["two"] = Hanging()
        self.account(to=("one", "two"), after="delete", interval=60)
        self.account("b", to=("three",), after="delete", interval=60)
        self.begin()
        self.pass_time(40)
        self.assertEqual(sorted(self.objects["one"].contents), MAIL)
        self.assertEqual(sorted(self.objects["three"].contents), MAIL)
        self.assertEqual(other.messages, [])
        self.assertEqual(server.messages, MAIL)
        self.assertFalse(server.in_use)
        other.deliver(message(9))
        server.deliver(message(9))
        self.pass_time(120)
        self.assertEqual(len(self.objects["three"].got), 7)
        self.assertEqual(len(self.objects["one"].got), 7)
        began = self.clock.seconds()
        self.stop()
        self.assertLess(self.clock.seconds() - began, 10)
        # The attempt that was cut is repeated, and flagged.
        self.objects["two"] = two = Collecting()
        self.once()
        self.assertEqual(len(set(two.contents)), 7)
        self.assertEqual(sorted(attempt for _, attempt, _ in two.got)[-1], 2)
        self.assertEqual(len(self.objects["one"].got), 7)
        self.assertEqual(server.messages, [])

    def test_lost_file_and_an_empty_listing_once_lose_nothing(self) -> None:
        server = self.serve(*MAIL)
        self.account(to=("one",), after="delete")
        one = self.objects["one"]

        def down(mail: Mail) -> None:
            raise Later(reason="down", whole_destination=True)

        one.fail = down
        self.once()
        for file in (self.root / "state" / "spool").iterdir():
            file.unlink()
        one.fail = lambda mail: None
        self.pass_time(700, 100)
        kept, server._drop.messages = server._drop.messages, []
        self.once()
        self.flushLoggedErrors()
        self.assertEqual(self.states(), [MessageState.SET_ASIDE] * 6)
        server._drop.messages = kept
        outcome = self.once()
        self.assertEqual((outcome.new, outcome.bad), (6, 0))
        self.assertEqual(sorted(one.contents), MAIL)
        self.assertEqual(server.messages, [])

    def test_full_spool_ends_the_retrieval_within_a_look(self) -> None:
        self.options["spool_limit"] = 1_000_000
        server = self.serve(*[message(number, 400_000) for number in range(50)])
        self.account(to=("one",), after="delete", interval=60)
        one = self.objects["one"]

        def no(mail: Mail) -> None:
            raise ValueError("not now")

        one.fail = no
        self.begin()
        self.pass_time(30)
        # The limit, and what was asked for already.
        self.assertLess(server.count("RETR"), 40)
        one.fail = lambda mail: None
        self.pass_time(2000, 20)
        self.flushLoggedErrors()
        self.assertEqual(len(set(one.contents)), 50)
        self.assertEqual(server.messages, [])


class LoginDelayTests(Running):
    """
    The server wants a pause between sessions.
    """

    def begin_delayed(self, *mail: bytes, **options: Any) -> FaultyServer:
        server = self.serve(*mail)
        server.faults["CAPA"] = say(
            b"+OK\r\nUSER\r\nUIDL\r\nTOP\r\nLOGIN-DELAY 300\r\n.\r\n"
        )
        self.account(after="delete", interval=60, **options)
        return server

    def test_what_counts_is_what_the_server_says_after_the_login(self) -> None:
        def capa(connection: Any) -> bool:
            offer = b"EXPIRE NEVER"
            if connection.mbox is None:
                offer = b"EXPIRE 30 USER\r\nLOGIN-DELAY 900 USER"
            connection.transport.write(b"+OK\r\nUIDL\r\n" + offer + b"\r\n.\r\n")
            return True

        self.maildir()
        self.begin_delayed(*MAIL).faults["CAPA"] = capa
        self.assertEqual(self.once().new, len(MAIL))
        (account,) = self.read(lambda journal: journal.accounts(["a"]))
        self.assertEqual((account.login_delay, account.expire_days), (0.0, None))

    def test_suspect_is_tried_again_without_a_session_of_its_own(self) -> None:
        for fault in (close, hang, say(b"-ERR no\r\n"), say(b"+OK\r\n.\r\n")):
            with self.subTest(fault=fault):
                self.setUp()
                self.maildir()
                server = self.begin_delayed(*MAIL)
                server.faults["RETR 3"] = times(1, fault)
                self.begin()
                self.pass_time(3600, 30)
                self.assertEqual(self.mail(), MAIL)
                self.assertEqual(server.messages, [])
                self.assertLessEqual(server.sessions, 13)
                self.stop()

    def test_suspect_that_ends_each_session_is_set_aside(self) -> None:
        self.maildir()
        server = self.begin_delayed(*MAIL)
        server.faults["RETR"] = _content(server, {MAIL[2]}, close)
        self.begin()
        for number in range(10):
            server.deliver(message(100 + number))
            self.pass_time(3600, 150)
        self.flushLoggedErrors()
        self.assertEqual(len(self.mail()), 5 + 10)
        self.assertEqual(server.messages, [MAIL[2]])
        self.assertIn(MessageState.SET_ASIDE, self.states())

    def test_single_run_looks_once(self) -> None:
        self.maildir()
        server = self.begin_delayed(*[message(number) for number in range(60)])
        outcome = self.once()
        self.assertEqual((outcome.new, server.sessions), (60, 1))

    def test_deletion_of_what_was_delivered_late_waits_for_the_next_run(self) -> None:
        self.objects["app"] = app = Collecting()
        deliver = app.deliver

        async def slow(mail: Mail) -> None:
            waiting: Deferred[None] = Deferred()
            self.clock.callLater(20, waiting.callback, None)
            await waiting
            await deliver(mail)

        app.deliver = slow  # type: ignore[method-assign]
        server = self.begin_delayed(*MAIL, to=("app",))
        outcome = self.once()
        self.assertEqual((outcome.new, outcome.error, server.sessions), (6, None, 1))
        self.pass_time(400, 100)
        self.once()
        self.assertEqual(server.messages, [])
        self.assertEqual(sorted(app.contents), MAIL)


class FolderTests(Running):
    """
    The Maildir is replaced, moved or restored while a delivery was interrupted.
    """

    def interrupted(self) -> FaultyServer:
        """Kill the collector before it notes that messages were delivered."""
        server = self.serve(*MAIL)
        self.maildir()
        self.account(after="delete")
        self.killed_once("before delivered")
        self.assertEqual(self.mail(), MAIL)
        return server

    def test_restored_maildir_gets_again_what_it_has_not(self) -> None:
        server = self.interrupted()
        # An older backup: its own tmp, and without the new mail.
        box = self.root / "mail"
        os.rename(box, self.root / "gone")
        for folder in ("tmp", "new", "cur"):
            (box / folder).mkdir(parents=True, mode=0o700)
        mark = (self.root / "gone" / ".pop3connect-id").read_bytes()
        (box / ".pop3connect-id").write_bytes(mark)
        (box / ".pop3connect-id").chmod(0o600)
        self.once()
        self.once()
        self.assertEqual(self.mail(), MAIL)
        self.assertEqual(server.messages, [])

    def test_maildir_moved_to_another_path_gets_nothing_twice(self) -> None:
        server = self.interrupted()
        os.rename(self.root / "mail", self.root / "elsewhere")
        self.destinations.clear()
        self.maildir(path="elsewhere")
        self.once()
        self.once()
        self.assertEqual(self.mail("elsewhere"), MAIL)
        self.assertEqual(server.messages, [])

    def test_maildir_that_is_not_mounted_deletes_nothing(self) -> None:
        server = self.interrupted()
        os.rename(self.root / "mail", self.root / "unmounted")
        for _ in range(3):
            self.once()
            self.pass_time(700, 100)
        self.assertEqual(server.messages, MAIL)
        self.assertFalse((self.root / "mail").exists())
        os.rename(self.root / "unmounted", self.root / "mail")
        self.once()
        self.once()
        self.assertEqual(self.mail(), MAIL)
        self.assertEqual(server.messages, [])


class FiftyAccountsTests(Running):
    """
    Three bad accounts among fifty.
    """

    def test_bad_accounts_do_not_delay_the_others(self) -> None:
        names = [f"m{number:02}" for number in range(50)]
        self.destinations.clear()
        for name in names:
            self.serve(*MAIL[:2], name=name)
            self.maildir(name, name)
            self.account(name, to=(name,), interval=60, after="delete")
        down, wrong, slow = (self.servers[name] for name in names[:3])
        for verb in ("CAPA", "USER", "AUTH", "STLS"):
            down.faults[verb] = close
        for verb in ("PASS", "AUTH", "APOP"):
            wrong.faults[verb] = say(b"-ERR [AUTH] wrong\r\n")
        slow.faults["RETR"] = trickle
        self.options["sessions_per_server"] = 10
        self.begin()
        self.pass_time(30, 5)
        for name in names[3:]:
            self.assertEqual(len(self.mail(name)), 2, name)
        for number in range(4):
            for name in names[3:]:
                self.servers[name].deliver(message(100 + number))
            # The interval, jitter, and the session.
            self.pass_time(70, 5)
            for name in names[3:]:
                self.assertEqual(len(self.mail(name)), 3 + number, name)
                self.assertEqual(self.servers[name].messages, [], name)
        tries = wrong.count("PASS") + wrong.count("AUTH")
        self.assertLessEqual(tries, 2, wrong.heard)
        self.assertLess(down.sessions, 15)
        self.flushLoggedErrors()


def trickle(connection: Any) -> bool:
    """Send a message a byte at a time, and never end."""
    connection.deaf = True
    connection.transport.write(b"+OK\r\n")
    clock = connection._server.clock

    def more() -> None:
        if connection.transport is not None and not connection.transport.disconnecting:
            connection.transport.write(b"x")
            clock.callLater(5, more)

    clock.callLater(5, more)
    return True


class SlowHeadersTests(Running):
    """
    Headers that are made to be slow, or are megabytes long.
    """

    def test_sender_of_four_thousand_quotes_is_not_parsed_as_addresses(self) -> None:
        quotes = b'"' * 4000
        slow = [
            b"From: %s <a%d@example.org>\r\nSubject: =?utf-8?q?%s?=\r\n\r\nx\r\n"
            % (quotes, number, b"=22" * 1000)
            for number in range(40)
        ]
        self.serve(*slow)
        self.account(to=("one",), match=("From: *nobody*", "Subject: *"))
        self.objects["one"] = one = Collecting()
        # This takes 0.4 s for one of them.
        parsed: list[object] = []
        real = HeaderRegistry.__call__

        def watched(registry: Any, *field: str) -> Any:
            parsed.append(field)
            return real(registry, *field)

        self.patch(HeaderRegistry, "__call__", watched)
        self.once()
        self.assertEqual(sorted(one.contents), sorted(slow))
        self.assertEqual(parsed, [])

    def test_headers_of_megabytes_are_delivered(self) -> None:
        large = (
            b"Message-ID: <1@example.org>\r\n"
            + b"".join(b"Received: from %d\r\n" % n for n in range(150_000))
            + b"Subject: at the end\r\n\r\nx\r\n"
        )
        server = self.serve(*MAIL, large)
        self.account(to=("one",), after="delete", match=("Subject: *",))
        self.objects["one"] = one = Collecting()
        self.once()
        self.once()
        self.assertEqual(len(set(one.contents)), len(one.contents))
        for content in MAIL:
            self.assertIn(content, one.contents)
        self.assertIn(server.messages, ([], [large]))


class ShortTests(Running):
    """
    Messages that are cut off, and files that disappear.
    """

    def test_different_parts_of_a_large_message_are_not_the_same(self) -> None:
        large = message(1, 700_000)
        server = self.serve(large)
        self.maildir()
        self.account(after="delete")
        for size in (400_000, 500_000):
            part = b"+OK\r\n" + large[:size].rpartition(b"\r\n")[0] + b"\r\n.\r\n"
            # In the first session of the look, and in the one for it alone.
            second = b"+OK\r\n" + large[: size + 50_000] + b"\r\n.\r\n"
            server.faults["RETR 1"] = _in_turn(say(part), say(second))
            self.once()
            self.assertEqual(self.mail(), [])
            self.pass_time(4 * 3600, 3600)
        server.faults.clear()
        self.once()
        self.assertEqual(self.mail(), [large])
        self.assertEqual(server.messages, [])

    def test_file_that_goes_before_it_is_copied_is_fetched_again(self) -> None:
        self.destinations.append(
            DestinationSettings(name="box", kind="mbox", path=self.root / "inbox")
        )
        server = self.serve(*MAIL)
        prepare = Mbox.prepare

        def late(mbox: Mbox, mails: Any) -> Any:
            for mail in mails:
                if MAIL[2] == mail.read():
                    self.patch(Mbox, "prepare", prepare)
                    mail.path.unlink()
            return prepare(mbox, mails)

        self.patch(Mbox, "prepare", late)
        self.account(after="delete", interval=3600)
        self.begin()
        self.pass_time(10)
        self.flushLoggedErrors()
        text = (self.root / "inbox").read_bytes()
        for number in range(1, 7):
            self.assertEqual(text.count(b"Message-ID: <%d@" % number), 1)
        self.assertEqual(server.messages, [])
        self.assertEqual(server.count("RETR"), 7)
        self.assertEqual(self.states(), [MessageState.DELETED] * 6)


class ReadingTests(Running):
    """
    The session ends while a header is read that says which message it is.
    """

    def test_known_message_of_another_size_is_not_delivered_again(self) -> None:
        server = self.serve(*MAIL)
        self.maildir()
        self.account()
        self.once()
        # The server begins to count otherwise, or adds a field.
        listed = [
            (uid, content.replace(b"\r\n\r\n", b"\r\nX-Seen: yes\r\n\r\n", 1))
            for uid, content in server._drop.messages
        ]
        server._drop.messages = list(listed)
        for fault in (close, hang):
            server.faults["TOP 2 0"] = times(1, fault)
            for _ in range(3):
                self.once()
                self.pass_time(4 * 3600, 3600)
        self.assertEqual(self.mail(), MAIL)
        self.assertEqual(self.states()[:6], [MessageState.DELIVERED] * 6)
        self.assertEqual(server.messages, [content for _, content in listed])

    def test_known_message_that_is_to_be_deleted_is_no_suspect(self) -> None:
        server = self.serve(*MAIL)
        self.maildir()
        self.account(after="delete after 1 h")
        self.once()
        self.pass_time(4000, 1000)
        server.faults["TOP 2 0"] = times(2, close)
        outcome = self.once()
        self.assertIsNotNone(outcome.error)
        self.once()
        self.assertEqual(server.messages, [])
        self.assertEqual(self.mail(), MAIL)
        self.assertEqual(self.states(), [MessageState.DELETED] * 6)

    def test_new_message_with_a_used_unique_id_arrives(self) -> None:
        for fault in (close, hang):
            for count in (1, 20):
                with self.subTest(fault=fault.__name__, count=count):
                    self.setUp()
                    server = self.serve(*MAIL)
                    self.maildir()
                    self.account(after="delete")
                    uids = server.uids
                    self.once()
                    server.deliver(*[message(n) for n in range(11, 14)], uids=uids[:3])
                    server.faults["TOP 2 0"] = times(count, fault)
                    for _ in range(3):
                        self.once()
                        self.pass_time(4 * 3600, 3600)
                    # TOP fails: RETR brings the header.
                    self.assertEqual(len(self.mail()), 9)
                    rows = [r for r in self.rows() if r.uid == uids[1]]
                    self.assertEqual(len(rows), 2)
                    self.assertEqual(server.messages, [])

    def test_suspects_that_are_gone_do_not_take_the_turn_of_others(self) -> None:
        server = self.serve(*MAIL)
        self.maildir()
        self.account(after="delete")
        server.faults["RETR"] = say(b"-ERR [SYS/TEMP] not now\r\n")
        self.once()
        server._drop.messages = server._drop.messages[4:]
        self.once()
        server.faults.clear()
        server.heard.clear()
        self.pass_time(4 * 3600, 3600)
        self.once()
        self.assertEqual(self.mail(), MAIL[4:])
        self.assertEqual(server.messages, [])
        # One session for the others, and one for each of these two.
        self.assertEqual(server.count("QUIT"), 3)


def _in_turn(*faults: Fault) -> Fault:
    """Let one fault happen after the other, and then none."""
    left = list(faults)

    def fault(connection: Any) -> bool:
        return bool(left) and left.pop(0)(connection)

    return fault


class HangingTests(Running):
    """
    A server that does not answer in the middle of things.
    """

    def test_each_command_that_hangs_once_loses_and_repeats_nothing(self) -> None:
        for verb in ("USER", "STAT", "LIST", "UIDL", "RETR 2", "DELE 2", "QUIT"):
            for fault in (hang, close):
                with self.subTest(verb=verb, fault=fault.__name__):
                    self.setUp()
                    server = self.serve(*MAIL)
                    self.maildir()
                    self.account(after="delete")
                    server.faults[verb] = times(1, fault)
                    self.once()
                    self.pass_time(3600, 600)
                    self.once()
                    self.assertEqual(self.mail(), MAIL)
                    self.assertEqual(server.messages, [])
                    self.assertEqual(self.leftovers(), [])
                    waiting = self.read(
                        lambda journal: journal.deliveries(
                            self.successResultOf(journal.accounts(["a"]))[0]
                        )
                    )
                    states = {row.state for row in waiting}
                    self.assertLessEqual(states, {DeliveryState.DELIVERED})
