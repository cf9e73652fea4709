"""
What a look does where TOP fails: it ends sessions, is refused, or lies.
"""

from __future__ import annotations

from typing import Any

from pop3connect.collect.records import MessageState

from .engine import (
    Collecting,
    Fault,
    FaultyServer,
    close,
    hang,
    message,
    say,
    times,
)
from .test_delivery import Running

MAIL = [message(number) for number in range(1, 13)]


def lie(connection: Any) -> bool:
    """Answer TOP with a header that the message does not have."""
    number = connection.line.split(" ")[1]
    header = f"Subject: a view of {number}\r\nMessage-ID: <{number}@exchange>\r\n"
    return say(f"+OK\r\n{header}\r\n.\r\n".encode())(connection)


class TopTests(Running):
    """
    TOP ends every session, as at servers that do not have it and close.
    """

    def begin_due(self) -> FaultyServer:
        """Return a server with delivered messages that are due to be deleted."""
        server = self.serve(*MAIL)
        self.maildir()
        self.account(after="delete after 1 h", timeout=20)
        self.once()
        self.pass_time(4000, 1000)
        return server

    def test_new_mail_arrives_though_top_ends_every_session(self) -> None:
        for fault in (close, hang):
            with self.subTest(fault=fault.__name__):
                self.setUp()
                server = self.begin_due()
                server.faults["TOP"] = fault
                server.deliver(message(50))
                outcome = self.once()
                self.assertEqual((outcome.new, outcome.looked), (1, True))
                self.assertEqual(len(self.mail()), 13)

    def test_messages_are_proven_by_retr_and_deleted(self) -> None:
        server = self.begin_due()
        server.faults["TOP"] = close
        self.assertEqual(self.once().deleted, 12)
        self.assertEqual(server.messages, [])
        self.assertEqual(self.states(), [MessageState.DELETED] * 12)

    def test_new_mail_arrives_though_known_messages_cannot_be_read_at_all(self) -> None:
        server = self.begin_due()
        server.faults["TOP"] = close
        for number in range(1, 13):
            server.faults[f"RETR {number}"] = close
        server.deliver(message(50))
        self.assertEqual(self.once().new, 1)
        self.assertEqual(len(server.messages), 13)
        server.faults.clear()
        self.pass_time(4000, 1000)
        self.once()
        self.assertEqual(server.messages, [])
        self.assertEqual(len(self.mail()), 13)

    def test_error_of_the_last_session_is_that_of_the_server(self) -> None:
        server = self.begin_due()
        server.faults["TOP"] = server.faults["RETR"] = close
        server.deliver(message(50))
        outcome = self.once()
        self.assertIn("connection was lost", str(outcome.error))
        self.assertEqual(len(server.messages), 13)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_suspect_of_which_only_the_header_is_wanted_is_never_retrieved(
        self,
    ) -> None:
        self.objects["app"] = app = Collecting()
        server = self.serve(*MAIL[:6])
        self.account(to=("app",), fetch="header")
        server.faults["TOP 3 0"] = times(1, close)
        self.once()
        self.pass_time(4000, 1000)
        self.once()
        self.assertEqual(server.count("RETR"), 0)
        headers = [mail.partition(b"\r\n\r\n")[0] for mail in MAIL[:6]]
        self.assertEqual(
            sorted(content.rstrip(b"\r\n") for content in app.contents), headers
        )


class RefusedTests(Running):
    """
    TOP is refused, and rules need the header.
    """

    def test_messages_are_judged_by_the_header_that_retr_gives(self) -> None:
        server = self.serve(*MAIL)
        self.maildir()
        self.account(after="delete", match=["Subject: number 1*"])
        server.faults["TOP"] = say(b"-ERR unknown command\r\n")
        outcome = self.once()
        wanted = [mail for mail in MAIL if b"Subject: number 1" in mail]
        self.assertEqual((outcome.new, outcome.skipped), (len(wanted), 8))
        self.assertEqual(self.mail(), sorted(wanted))
        self.assertEqual(len(server.messages), 8)
        self.assertEqual(self.leftovers(), [])
        server.heard.clear()
        self.assertEqual(self.once().there, 8)
        self.assertEqual(server.count("RETR"), 0)

    def test_top_refused_once_skips_nothing(self) -> None:
        server = self.serve(*MAIL[:6])
        self.maildir()
        self.account(match=["Subject: number *"])
        server.faults["TOP 3 0"] = times(1, say(b"-ERR [SYS/TEMP] later\r\n"))
        self.assertEqual(self.once().new, 6)
        self.assertEqual(self.mail(), MAIL[:6])

    def test_old_mail_of_the_first_look_is_not_delivered_if_top_fails(self) -> None:
        for fault in (close, say(b"-ERR no\r\n")):
            for existing in ("seen", 3600.0):
                self.setUp()
                date = b"Date: Mon, 1 Jan 2001 12:00:00 +0000\r\n"
                server = self.serve(*[date + mail for mail in MAIL[:6]])
                self.maildir()
                self.account(existing=existing)
                server.faults["TOP 3 0"] = fault
                for _ in range(2):
                    self.once()
                    self.pass_time(7200, 600)
                self.assertEqual(self.states(), [MessageState.SKIPPED] * 6)
                self.assertEqual(self.mail(), [])
                server.deliver(message(50))
                self.assertEqual(self.once().new, 1)


class LyingTests(Running):
    """
    TOP gives another header than RETR, always or once.
    """

    def test_header_that_is_wrong_once_repeats_and_loses_nothing(self) -> None:
        for header in (b"", b"\r\n", b"From: x\r\n", b"Message-ID: <other>\r\n\r\n"):
            with self.subTest(header=header):
                self.setUp()
                server = self.serve(*MAIL[:6])
                self.maildir()
                self.account(after="delete after 1 h")
                self.once()
                self.pass_time(4000, 1000)
                lie = say(b"+OK\r\n" + header + b".\r\n")
                server.faults["TOP 3 0"] = times(1, lie)
                self.once()
                self.once()
                self.assertEqual(self.mail(), MAIL[:6])
                self.assertEqual(server.messages, [])
                self.assertEqual(self.states(), [MessageState.DELETED] * 6)

    def test_headers_that_always_differ_repeat_nothing(self) -> None:
        server = self.serve(*MAIL[:6])
        self.maildir()
        self.account(after="delete after 1 h")
        self.once()
        self.pass_time(4000, 1000)
        server.faults["TOP"] = say(b"+OK\r\nMessage-ID: <exchange>\r\n\r\n.\r\n")
        outcome = self.once()
        self.assertEqual((outcome.new, outcome.deleted), (0, 6))
        self.assertEqual(self.mail(), MAIL[:6])

    def test_message_that_comes_short_is_not_proven_to_be_another(self) -> None:
        server = self.serve(*MAIL[:6])
        self.maildir()
        self.account(after="delete after 1 h")
        self.once()
        self.pass_time(4000, 1000)
        server.faults["TOP"] = say(b"-ERR unknown command\r\n")
        for text in (b"", b"Subject: x\r\n"):
            server.faults["RETR 3"] = times(1, say(b"+OK\r\n" + text + b".\r\n"))
            self.assertNotIn(MessageState.SUSPECT, self.states())
            self.once()
        self.once()
        self.assertEqual(self.states(), [MessageState.DELETED] * 6)
        self.assertEqual(server.messages, [])
        self.assertEqual(self.mail(), MAIL[:6])


class LyingWithoutUidsTests(Running):
    """
    TOP always gives another header than RETR, and unique-ids recognise nothing.
    """

    uidls = (
        say(b"-ERR unknown command\r\n"),
        say(b"+OK\r\n1 \r\n2 \r\n3 \r\n4 \r\n5 \r\n6 \r\n.\r\n"),
    )

    def begin_lying(self, uidl: Fault, *mail: bytes, **options: Any) -> FaultyServer:
        self.setUp()
        server = self.serve(*(mail or MAIL[:6]))
        self.maildir()
        self.account(**options)
        server.faults["UIDL"] = uidl
        server.faults["TOP"] = lie
        return server

    def test_kept_messages_are_not_delivered_again(self) -> None:
        for uidl in self.uidls:
            with self.subTest(uidl=uidl):
                self.begin_lying(uidl)
                self.assertEqual(self.once().new, 6)
                for _ in range(2):
                    outcome = self.once()
                    self.assertEqual((outcome.new, outcome.there), (0, 6))
                self.assertEqual(self.mail(), MAIL[:6])
                self.assertEqual(self.states(), [MessageState.DELIVERED] * 6)

    def test_new_message_among_them_arrives_once(self) -> None:
        server = self.begin_lying(self.uidls[0])
        self.once()
        server.deliver(message(50))
        self.assertEqual(self.once().new, 1)
        self.assertEqual(self.once().new, 0)
        self.assertEqual(self.mail(), sorted([*MAIL[:6], message(50)]))

    def test_messages_are_deleted_when_due_and_delivered_once(self) -> None:
        for uidl in self.uidls:
            with self.subTest(uidl=uidl):
                server = self.begin_lying(uidl, after="delete after 1 h")
                self.once()
                self.assertEqual(self.once().new, 0)
                self.pass_time(4000, 1000)
                outcome = self.once()
                self.assertEqual((outcome.new, outcome.deleted), (0, 6))
                self.assertEqual(server.messages, [])
                self.assertEqual(self.mail(), MAIL[:6])

    def test_messages_whose_deletion_was_not_confirmed_are_deleted_later(self) -> None:
        for uidl in self.uidls:
            with self.subTest(uidl=uidl):
                server = self.begin_lying(uidl, after="delete")
                server.faults["QUIT"] = times(1, close)
                self.once()
                self.assertEqual(len(server.messages), 6)
                self.assertEqual(self.once().new, 0)
                self.assertEqual(server.messages, [])
                self.assertEqual(self.mail(), MAIL[:6])

    def test_equal_messages_are_counted(self) -> None:
        twin = message(3, mid=False)
        server = self.begin_lying(self.uidls[0], MAIL[0], twin, twin)
        self.assertEqual(self.once().new, 3)
        self.assertEqual(self.once().new, 0)
        server.deliver(twin)
        self.assertEqual(self.once().new, 1)
        self.assertEqual(self.once().new, 0)
        self.assertEqual(self.mail(), [MAIL[0], *[twin] * 3])

    def test_sizes_in_list_that_change_deliver_and_lose_nothing(self) -> None:
        for after in ("keep", "delete after 1 h"):
            with self.subTest(after=after):
                server = self.begin_lying(self.uidls[0], after=after)
                self.once()
                rows = "".join(
                    f"{number} {len(mail) + number}\r\n"
                    for number, mail in enumerate(MAIL[:6], 1)
                )
                server.faults["LIST"] = say(f"+OK\r\n{rows}.\r\n".encode())
                self.assertEqual(self.once().new, 0)
                self.assertEqual(self.states(), [MessageState.DELIVERED] * 6)
                self.pass_time(4000, 1000)
                deleted = 0 if after == "keep" else 6
                self.assertEqual(self.once().deleted, deleted)
                self.assertEqual(self.mail(), MAIL[:6])

    def test_known_message_that_cannot_be_read_waits(self) -> None:
        server = self.begin_lying(self.uidls[0])
        self.once()
        server.faults["RETR 3"] = times(1, say(b"-ERR no\r\n"))
        outcome = self.once()
        self.assertEqual((outcome.new, outcome.bad), (0, 1))
        outcome = self.once()
        self.assertEqual((outcome.new, outcome.there, outcome.bad), (0, 6, 0))
        self.assertEqual(self.mail(), MAIL[:6])

    def test_server_that_does_not_lie_is_not_read_again(self) -> None:
        server = self.begin_lying(self.uidls[0])
        del server.faults["TOP"]
        self.once()
        server.heard.clear()
        del server._drop.messages[:2]
        server.deliver(message(50), message(51))
        self.assertEqual(self.once().new, 2)
        self.assertEqual(server.count("RETR"), 2)


class UnreadTests(Running):
    """
    Without unique-ids, a message that cannot be read may be new, or a known one.
    """

    def test_it_is_named_and_arrives_when_it_can_be_read(self) -> None:
        for fault in (say(b"-ERR no\r\n"), say(b"+OK\r\n.\r\n"), close):
            with self.subTest(fault=fault):
                self.setUp()
                server = self.serve(*MAIL[:6])
                self.maildir()
                self.account()
                server.faults["UIDL"] = say(b"-ERR unknown command\r\n")
                self.once()
                server.deliver(message(50), message(51))
                server.faults["TOP 7 0"] = say(b"-ERR no\r\n")
                server.faults["RETR 7"] = fault
                for _ in range(2):
                    outcome = self.once()
                    self.assertEqual((outcome.bad, outcome.looked), (1, True))
                    self.assertIsNotNone(outcome.error)
                    self.assertEqual(len(outcome.failed), 1)
                    self.pass_time(7200, 600)
                self.assertEqual(len(self.mail()), 7)
                del server.faults["TOP 7 0"], server.faults["RETR 7"]
                outcome = self.once()
                self.assertEqual((outcome.bad, outcome.error), (0, None))
                self.assertEqual(len(self.mail()), 8)
