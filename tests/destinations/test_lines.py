"""
The line ends of messages on disk.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pop3connect.destinations.lines import LineEnds


class LineEndTests(SynchronousTestCase):
    """`LineEnds`"""

    def test_crlf_becomes_lf_wherever_it_is_cut(self) -> None:
        text = b"a\r\n\r\n\rb\r\r\n\r"
        for cut in range(len(text) + 1):
            turn = LineEnds()
            turned = turn.feed(text[:cut]) + turn.feed(text[cut:]) + turn.rest()
            self.assertEqual(turned, b"a\n\n\rb\r\n\r")
