"""
An error about one message says which: in its attribute `number`, and in its text.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost

from pop3connect import (
    CommandError,
    ConnectionLostError,
    Handle,
    POP3Error,
    ProtocolError,
    TimedOutError,
    UsageError,
)

from .support.memory import SessionTestCase

NUMBER = 7

COMMANDS: dict[str, Callable[[Handle], Deferred[Any]]] = {
    "LIST": lambda handle: handle.size(NUMBER),
    "UIDL": lambda handle: handle.uid(NUMBER),
    "RETR": lambda handle: handle.retrieve(NUMBER),
    "TOP": lambda handle: handle.top(NUMBER, 2),
    "DELE": lambda handle: handle.delete(NUMBER),
}
"""The commands about one message, by their verbs."""


class MessageNumberTests(SessionTestCase):
    """Every command about one message, and every kind of error."""

    def check(self, verb: str, asked: Deferred[Any], kind: type[POP3Error]) -> None:
        error = self.error(asked, kind)
        self.assertEqual((error.verb, error.number), (verb, NUMBER))
        self.assertIn(f": {verb} {NUMBER}: ", str(error))

    def each(self, happens: Callable[[], object], kind: type[POP3Error]) -> None:
        for verb, ask in COMMANDS.items():
            self.anew()
            asked = ask(self.log_in())
            happens()
            self.check(verb, asked, kind)

    def test_refused_command_names_its_message(self) -> None:
        self.each(lambda: self.server.say(b"-ERR no such message\r\n"), CommandError)

    def test_command_on_a_lost_connection_names_its_message(self) -> None:
        self.each(lambda: self.server.lose(ConnectionLost()), ConnectionLostError)

    def test_command_that_took_too_long_names_its_message(self) -> None:
        self.each(lambda: self.clock.advance(61), TimedOutError)

    def test_command_in_a_broken_session_names_its_message(self) -> None:
        self.each(lambda: self.server.say(b"nonsense\r\n"), ProtocolError)

    def test_unreadable_reply_names_its_message(self) -> None:
        for verb in ("LIST", "UIDL"):
            self.anew()
            asked = COMMANDS[verb](self.log_in())
            self.server.say(b"+OK 8 nine ten\r\n")
            self.check(verb, asked, ProtocolError)

    def test_command_after_the_end_names_its_message(self) -> None:
        for verb, ask in COMMANDS.items():
            self.anew()
            handle = self.log_in()
            handle.abort()
            self.check(verb, ask(handle), ConnectionLostError)

    def test_command_about_a_deleted_message_names_it(self) -> None:
        for verb in COMMANDS:
            self.anew()
            handle = self.log_in()
            deleting = handle.delete(NUMBER)
            self.server.say(b"+OK\r\n")
            self.result(deleting)
            self.check(verb, COMMANDS[verb](handle), UsageError)

    def test_unusable_destination_or_line_count_names_the_message(self) -> None:
        handle = self.log_in()
        text: Any = io.StringIO()
        self.check("RETR", handle.retrieve(NUMBER, text), UsageError)
        self.check("TOP", handle.top(NUMBER, -1), UsageError)

    def test_number_that_cannot_be_used_is_not_taken_for_a_message(self) -> None:
        error = self.error(self.log_in().retrieve(0), UsageError)
        self.assertIs(error.number, None)

    def test_loss_names_another_message_in_each_pending_command(self) -> None:
        handle = self.log_in()
        asked = [handle.retrieve(NUMBER), handle.delete(8), handle.stat()]
        self.server.lose(ConnectionLost())
        errors = [self.error(one, ConnectionLostError) for one in asked]
        self.assertEqual([error.number for error in errors], [NUMBER, 8, None])

    def test_refused_item_of_messages_names_its_message(self) -> None:
        handle = self.log_in()
        coming = Deferred.fromCoroutine(anext(handle.messages([NUMBER])))
        self.server.say(b"-ERR no such message\r\n")
        error = self.result(coming).error
        self.assertEqual(error.number, NUMBER)
        self.assertIn(f"RETR {NUMBER}: ", str(error))

    def test_end_of_messages_names_the_message_it_stopped_at(self) -> None:
        handle = self.log_in()
        coming = Deferred.fromCoroutine(anext(handle.messages([NUMBER, 8])))
        self.server.lose(ConnectionLost())
        self.check("RETR", coming, ConnectionLostError)

    def test_messages_after_the_end_names_the_first_message(self) -> None:
        handle = self.log_in()
        handle.abort()
        coming = Deferred.fromCoroutine(anext(handle.messages([NUMBER, 8])))
        self.check("RETR", coming, ConnectionLostError)
