"""One command on its way, and who hears of its reply."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pop3connect import CommandError
from pop3connect.sansio.commands import List, Noop, Retrieve, Top
from pop3connect.sansio.events import Kind
from pop3connect.sansio.exchange import Exchange

from .owner import SINK


class ExchangeTests(SynchronousTestCase):
    """`Exchange`"""

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
        heard: list[object] = []
        exchange = Exchange(Noop(), heard.append, heard.append)
        exchange.drop()
        self.assertTrue(exchange.dropped)
        exchange.succeed(None)
        exchange.fail(CommandError("no"))
        self.assertEqual(heard, [])

    def test_reply_after_drop_is_still_noted(self) -> None:
        heard: list[object] = []
        exchange = Exchange(Noop(), heard.append, noted=heard.append)
        exchange.drop()
        exchange.succeed("done")
        self.assertEqual(heard, ["done"])
