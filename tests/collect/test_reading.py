"""
What a look does where TOP fails: it ends sessions, is refused, or lies.
"""

from __future__ import annotations

from pop3connect.collect.records import MessageState

from .engine import FaultyServer, close, hang, message
from .test_delivery import Running

MAIL = [message(number) for number in range(1, 13)]


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
