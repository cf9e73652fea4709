"""Whole sessions, run on a `Dialogue` and on its slow reference, and compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from pop3connect.sansio.commands import (
    Auth,
    AuthReply,
    Capa,
    Command,
    Dele,
    Lang,
    LangList,
    List,
    ListOne,
    Noop,
    Pass,
    Quit,
    Retrieve,
    Rset,
    StatCommand,
    Stls,
    Top,
    Uidl,
    UidlOne,
    User,
    Utf8,
)
from pop3connect.sansio.dialogue import MAX_STATUS_LINE, Dialogue

from .owner import SINK, Owner, Speaker
from .reference import Reference

__all__ = [
    "AFTER_LOGIN",
    "BEFORE_LOGIN",
    "REPLIES",
    "Action",
    "Script",
    "difference",
]

BEFORE_LOGIN: list[Command[Any]] = [
    *(Capa(), Stls(), User("ada"), Pass("x"), Auth("PLAIN"), AuthReply("AGE=")),
    *(Utf8(), Lang("en"), LangList(), Quit()),
]

AFTER_LOGIN: list[Command[Any]] = [
    *(Retrieve(1), Retrieve(2), Retrieve(3), Top(1), List(), Uidl(), Capa()),
    *(ListOne(1), UidlOne(1), StatCommand(), Dele(1), Rset(), Noop(), LangList()),
    Quit(),
]

GOOD_LINES = [b"+OK\r\n", b"+OK 1 320\r\n", b"+OK 2 x\r\n", b"+OK\ttab\r\n"]
REFUSALS = [b"-ERR no\r\n", b"-ERR [IN-USE] busy\r\n", b"+ERR\r\n"]
MESSAGES = [
    *(b"", b"\r\n", b"one line\r\n", b"..\r\n..x\r\n", b"a\n.\r\nb\r\r\n"),
    *(b"x" * 30 + b"\r\n", b"y" * 9000 + b"\r\n", b"..\r\nz z.\r\n" * 1500),
    b"+OK forged\r\n-ERR forged\r\n",
]
LISTINGS = [
    *(b"", b"1 120\r\n", b"1 120\r\n2 200\r\n", b"2 2\r\n1 1\r\n", b"1 1 more\r\n"),
    *(b"1 1\r\n1 1\r\n", b"1 1\r\n1 2\r\n", b"x\r\n1 1\r\n", b" \r\n\r\n7 a b\r\n"),
    *(b"..\r\n", b"".join(b"%d %d\r\n" % (n, n) for n in range(1, 600))),
    *(b"1 " + b"u" * n + b"\r\n" for n in (500, 507, 508, 509, 510, 600)),
    *(b"en English\r\n", b"SASL PLAIN\r\nsasl X\r\n", b"\xff \x1b\r\n"),
]
CHALLENGES = [b"+ Y2hh\r\n", b"+\r\n", b"+OK done\r\n"]
FAULTS = [
    *(b"what?\r\n", b"+ Y2hh\r\n", b"\r\n", b"\r\n+OK\r\n", b"+OK\r\n\r\n\r\n"),
    *(b"+OK\r\n+OK forged\r\n", b"+OK\n", b"\r", b"+OK\r\nSubject: x\r\n", b""),
    *(b"+OK " + b"x" * (MAX_STATUS_LINE - 4 + n) + b"\r\n" for n in (0, 1, 900)),
]


def _bodies(bodies: list[bytes]) -> list[bytes]:
    return [b"+OK follows\r\n%b.\r\n" % body for body in bodies]


_REPLIES: Mapping[bytes, list[bytes]] = {
    b"RETR": _bodies(MESSAGES),
    b"TOP": _bodies(MESSAGES),
    b"LIST": _bodies(LISTINGS),
    b"UIDL": _bodies(LISTINGS),
    b"CAPA": _bodies(LISTINGS),
    b"LANG": _bodies(LISTINGS),
    b"AUTH": CHALLENGES,
    b"AGE=": CHALLENGES,
}

REPLIES = 64
"""How many choices there are for the reply to a command."""


def reply(line: bytes, choice: int) -> bytes:
    """Answer a command in one of `REPLIES` ways, most of which are in order."""
    words = line.split()
    single = words[0] in (b"LIST", b"UIDL", b"LANG") and len(words) > 1
    good = GOOD_LINES if single else _REPLIES.get(words[0], GOOD_LINES)
    if choice < 44:
        return good[choice % len(good)]
    if choice < 52:
        return REFUSALS[choice % len(REFUSALS)]
    return FAULTS[choice % len(FAULTS)]


class Action(NamedTuple):
    """What application code does: ask, drop or close."""

    what: str
    about: Any = None

    def __call__(self, owner: Owner) -> None:
        if self.what == "ask":
            owner.ask(self.about)
        elif self.what == "ask with a sink":
            owner.ask(self.about, SINK)
        elif self.what == "drop":
            owner.drop(self.about)
        else:
            owner.close()


class Script(NamedTuple):
    """
    A session.

    :ivar commands: asked when the greeting was delivered.
    :ivar actions: done while the n-th outcome is delivered.
    :ivar choices: which reply the server gives to the n-th line.
    :ivar sizes: how long the chunks are at first, over and over; 0: all there is.
    :ivar stream: what the server sends behind the greeting, whatever it is asked;
        ``None``: it answers.
    :ivar tail: what it sends in the end.
    """

    commands: Sequence[Action]
    actions: Mapping[int, Sequence[Action]] = {}
    greeting: bytes = b"+OK ready\r\n"
    choices: Sequence[int] = (0,)
    sizes: Sequence[int] = (0,)
    stream: bytes | None = None
    tail: bytes = b""
    logged_in: bool = True
    pipelining: bool = False
    listening: bool = False
    max_message_size: int | None = None
    max_listing: int = 1000


def run(script: Script, make: Callable[..., Speaker]) -> list[Any]:
    """Run a session, and return all that can be seen of it, chunk by chunk."""
    speaker = make(
        max_message_size=script.max_message_size,
        max_listing=script.max_listing,
        listening=script.listening,
    )
    owner = Owner(speaker, dict(script.actions))
    seen: list[Any] = []
    stream, tail = script.greeting, script.tail
    greeted = False
    answered = at = 0
    while True:
        if script.stream is None:
            for line in owner.written[answered:]:
                stream += reply(line, script.choices[answered % len(script.choices)])
                answered += 1
        if not stream:
            if not tail:
                break
            stream, tail = tail, b""
        # They grow, for the reference reads a reply again at every chunk.
        size = script.sizes[at % len(script.sizes)] << at // 64 or len(stream)
        at += 1
        owner.receive(stream[:size])
        stream = stream[size:]
        if not greeted and owner.log and owner.log[-1][0] == "greeted":
            greeted = True
            if script.logged_in:
                speaker.logged_in()
            if script.pipelining:
                speaker.allow_pipelining()
            for act in script.commands:
                act(owner)
            owner.deliver()
            stream += script.stream or b""
        seen.append(
            (
                list(owner.log),
                len(owner.written),
                owner.in_transfer(),
                speaker.unanswered,
                speaker.state,
            )
        )
        owner.log.clear()
    if not speaker.closed:
        speaker.close(owner.end)
        owner.deliver()
    return [*seen, owner.log, owner.written]


def difference(script: Script) -> tuple[Any, Any] | None:
    """Return the first thing in which a dialogue differs from the reference."""
    ours, slow = run(script, Dialogue), run(script, Reference)
    for one, other in zip(ours, slow, strict=False):
        if one != other:
            return one, other
    return None if len(ours) == len(slow) else (len(ours), len(slow))
