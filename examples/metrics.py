"""
Count what happens in sessions: replies, seconds, octets, losses.

    POP3_PASSWORD=... python metrics.py pop.example.com ada
"""

import os
import sys
from collections import Counter

from twisted.internet.task import react

from pop3connect import Secure, connect
from pop3connect.events import Closed, MessageReceived, ReplyReceived


class Metrics:
    """Any number of sessions may share one: their events come one after another."""

    def __init__(self):
        self.replies = Counter()
        self.seconds = Counter()
        self.octets = 0
        self.losses = Counter()

    def __call__(self, event):
        match event:
            case ReplyReceived(verb=verb, ok=ok, seconds=seconds):
                self.replies[verb or "greeting", ok] += 1
                self.seconds[verb or "greeting"] += seconds
            case MessageReceived(octets=octets):
                self.octets += octets
            case Closed(error=error) if error is not None:
                self.losses[type(error).__name__] += 1


async def main(reactor, server, user):
    metrics = Metrics()
    opening = connect(
        server, user, os.environ["POP3_PASSWORD"], secure=Secure.TLS, events=metrics
    )
    async with await opening as handle:
        async for _ in handle.messages():
            pass
    for (verb, ok), count in sorted(metrics.replies.items(), key=str):
        print(f'pop3_replies{{verb="{verb}",ok="{ok}"}} {count}')
    print(f"pop3_octets {metrics.octets}")
    for name, count in metrics.losses.items():
        print(f'pop3_losses{{error="{name}"}} {count}')


if __name__ == "__main__":
    react(main, sys.argv[1:])
