"""
The line ends of messages on disk.
"""

from __future__ import annotations

from itertools import product

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

    def test_bare_cr_stays_and_none_stays_before_lf(self) -> None:
        for length in range(7):
            for octets in product(b"\r\nx", repeat=length):
                text, turn = bytes(octets), LineEnds()
                turned = turn.feed(text) + turn.rest()
                self.assertEqual(turned, text.replace(b"\r\n", b"\n"), text)
