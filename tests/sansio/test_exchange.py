"""One command on its way, and who hears of its reply."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pop3connect import CommandError
from pop3connect.sansio.commands import List, Noop, Retrieve, Top
from pop3connect.sansio.events import Kind
from pop3connect.sansio.exchange import Exchange

from .owner import SINK


class Waiting:
    """Who waits for a reply."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    def note(self, result: object) -> None:
        self.heard.append(f"noted {result}")

    def callback(self, result: object) -> None:
        self.heard.append(result)

    def errback(self, error: object) -> None:
        self.heard.append(error)


class ExchangeTests(SynchronousTestCase):
    """`Exchange`"""

    def setUp(self) -> None:
        self.reply = Waiting()

    def test_exchange_stores_its_command_and_sink(self) -> None:
        command = Retrieve(1)
        exchange = Exchange(command, sink=SINK)
        self.assertIs(exchange.command, command)
        self.assertIs(exchange.sink, SINK)
        self.assertFalse(exchange.dropped)

    def test_sink_defaults_to_none(self) -> None:
        self.assertIs(Exchange(Retrieve(1)).sink, None)

    def test_whole_bodies_are_answers_or_go_to_the_sink(self) -> None:
        self.assertIs(Exchange(Retrieve(1)).whole, Kind.ANSWERED)
        self.assertIs(Exchange(Top(1), sink=SINK).whole, Kind.STREAMED)
        self.assertIs(Exchange(List()).whole, None)
        self.assertIs(Exchange(Noop()).whole, None)

    def test_reply_is_consumed_when_nobody_waits(self) -> None:
        exchange = Exchange(Noop())
        exchange.succeed(None)
        exchange.fail(CommandError("no"))
        exchange.refused(CommandError("no"))

    def test_reply_after_drop_reaches_no_callback(self) -> None:
        exchange = Exchange(Noop(), self.reply)
        exchange.drop()
        self.assertTrue(exchange.dropped)
        exchange.succeed(None)
        exchange.fail(CommandError("no"))
        self.assertEqual(self.reply.heard, [])

    def test_reply_after_drop_is_still_noted(self) -> None:
        exchange = Exchange(Noop(), self.reply, noted=self.reply.note)
        exchange.drop()
        exchange.succeed("done")
        self.assertEqual(self.reply.heard, ["noted done"])

    def test_reply_is_noted_before_it_is_delivered(self) -> None:
        exchange = Exchange(Noop(), self.reply, noted=self.reply.note)
        exchange.succeed("done")
        self.assertEqual(self.reply.heard, ["noted done", "done"])

    def test_error_is_delivered_and_not_noted(self) -> None:
        exchange = Exchange(Noop(), self.reply, noted=self.reply.note)
        error = CommandError("no")
        exchange.fail(error)
        self.assertEqual(self.reply.heard, [error])
