"""
A collector that is killed again and again: its server, the places it delivers to, and a
mail program that takes messages away at once.
"""

from __future__ import annotations

import re
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet.protocol import Factory, connectionDone
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

__all__ = ["ACCOUNTS", "Places", "Post", "mail_program", "number_of"]

ACCOUNTS = {"dir": ("new",), "box": ("box",), "both": ("pair", "desk")}
"""The accounts of the test, each with the destinations of its mail."""

_NUMBER = re.compile(rb"^X-Number: (\d+)\r?$", re.MULTILINE)

_END = b"the last line of it"

MAIL_PROGRAM = """
import os, sys, time
while True:
    for folder in sys.argv[1:]:
        try:
            names = os.listdir(folder + "/new")
        except FileNotFoundError:
            continue
        for name in names:
            os.rename(f"{folder}/new/{name}", f"{folder}-taken/{time.time_ns()}.{name}")
    time.sleep(0.002)
"""
"""Takes messages out of the ``new`` of Maildirs, as soon as they are there."""

COMMAND = """
cat >"$1/part.$$" &&
mv "$1/part.$$" "$1/$POP3CONNECT_KEY.$POP3CONNECT_ATTEMPT.$$"
"""
"""Keeps a message under its key and the number of the attempt."""


def number_of(content: bytes) -> int:
    """Return the number of a message, which has to be whole."""
    found = _NUMBER.search(content)
    if found is None or _END not in content[-len(_END) - 8 :]:
        raise AssertionError(f"not a whole message: {content[:200]!r}")
    return int(found[1])


def mail_program(*maildirs: Path) -> list[str]:
    """Return the command line of the mail program."""
    return [sys.executable, "-c", MAIL_PROGRAM, *map(str, maildirs)]


class Places:
    """
    What has arrived, wherever it is by now.

    :ivar maildirs: the Maildirs, by the names of their destinations.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[Path, int] = {}
        self.maildirs = {name: folder / name for name in ("new", "pair")}
        self.mbox = folder / "inbox"
        self.desk = folder / "desk"
        for place in self.maildirs.values():
            (folder / f"{place.name}-taken").mkdir()
        self.desk.mkdir()

    def configuration(self) -> str:
        """Return the tables of the destinations."""
        tables = [
            f'[destination.{name}]\nkind = "maildir"\npath = "{path}"\n'
            for name, path in self.maildirs.items()
        ]
        tables.append(f'[destination.box]\nkind = "mbox"\npath = "{self.mbox}"\n')
        command = f"""["/bin/sh", "-c", '''{COMMAND}''', "sh", "{self.desk}"]"""
        tables.append(f'[destination.desk]\nkind = "command"\ncommand = {command}\n')
        return "".join(tables)

    def numbers(self, name: str) -> Counter[int]:
        """Return how often each message has arrived at a destination."""
        if name == "box":
            return self._in_mbox()
        if name == "desk":
            return Counter(number for number, _, _ in self.runs())
        found: Counter[int] = Counter()
        # In this order: what the mail program moves meanwhile is seen once at least.
        seen: set[str] = set()
        for folder, cut in (
            (self.maildirs[name] / "new", 0),
            (self._folder / f"{name}-taken", 1),
        ):
            for path in _files(folder):
                number = self._number(path)
                short = path.name.split(".", 1)[1] if cut else path.name
                if number and (not cut or short not in seen):
                    found[number] += 1
                    if not cut:
                        seen.add(short)
        return found

    def _number(self, path: Path) -> int:
        if path not in self._known:
            try:
                self._known[path] = number_of(path.read_bytes())
            except FileNotFoundError:
                # Taken meanwhile.
                return 0
        return self._known[path]

    def _in_mbox(self) -> Counter[int]:
        try:
            content = self.mbox.read_bytes()
        except FileNotFoundError:
            return Counter()
        return Counter(
            number_of(b"From " + part)
            for part in re.split(rb"^From ", content, flags=re.MULTILINE)[1:]
            # A killed process leaves the beginning of a message.
            if _END in part[-len(_END) - 8 :]
        )

    def runs(self) -> list[tuple[int, str, int]]:
        """Return the number, the key and the attempt of each run of the command."""
        found = []
        for path in _files(self.desk):
            if not path.name.startswith("part."):
                key, attempt, _ = path.name.split(".")
                found.append((self._number(path), key, int(attempt)))
        return found

    def leftovers(self, state: Path) -> list[Path]:
        """Return the files in the spool and in the ``tmp`` of Maildirs."""
        folders = [state / "spool", *(path / "tmp" for path in self.maildirs.values())]
        return [path for folder in folders for path in _files(folder)]


def _files(folder: Path) -> Iterable[Path]:
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return ()


class Drop:
    """
    The mailbox of one account.

    :ivar messages: unique-id and content of each.
    :ivar free: unique-ids of messages that were deleted; some are given out again.
    """

    def __init__(self) -> None:
        self.messages: list[tuple[bytes, bytes]] = []
        self.free: list[bytes] = []
        self.in_use = False


class Post(Factory):
    """
    A POP3 server whose mail increases, and which is not always kind.

    :param may_delete: is told the account and the numbers of the messages, before they
        are deleted; what it returns is a complaint.
    :ivar wanted: how often each message was put into the mailbox, by account.
    :ivar complaints: messages that were deleted, and had not arrived.
    :ivar after: called at each command.
    """

    noisy = False

    def __init__(
        self, random: Random, reactor: Any, may_delete: Callable[[str, list[int]], str]
    ) -> None:
        self.random = random
        self.reactor = reactor
        self.may_delete = may_delete
        self.drops = {name: Drop() for name in ACCOUNTS}
        self.wanted: dict[str, Counter[int]] = {name: Counter() for name in ACCOUNTS}
        self.complaints: list[str] = []
        self.after: Callable[[], object] = lambda: None
        self.kind = False
        self.unkind_last = False
        self.connections: set[_Session] = set()
        self.commands = 0
        self._numbers = 0
        self._uids = 0

    def buildProtocol(self, addr: object) -> _Session:  # type: ignore[override]
        session = _Session(self)
        session.factory = self
        return session

    def arrive(self, name: str, count: int) -> None:
        """Let some mail arrive."""
        random, drop = self.random, self.drops[name]
        for _ in range(count):
            self._numbers += 1
            number = self._numbers
            lines = random.choice([2, 5, 20, 40, 1600])
            content = (
                f"From: s{number % 7}@example.org\r\nSubject: number {number}\r\n"
                f"Message-ID: <{number}@example.org>\r\nX-Number: {number}\r\n\r\n"
            ).encode()
            content += (
                b"From the beginning: 64 bytes of text, more or less....\r\n" * lines
            )
            content += _END + b"\r\n"
            again = bool(drop.free) and random.random() < 0.25
            uid = (
                drop.free.pop(random.randrange(len(drop.free)))
                if again
                else self._uid()
            )
            drop.messages.append((uid, content))
            self.wanted[name][number] += 1
            if random.random() < 0.05:
                # The same message twice: both are wanted.
                drop.messages.append((self._uid(), content))
                self.wanted[name][number] += 1

    def _uid(self) -> bytes:
        self._uids += 1
        return b"uid-%06d" % self._uids

    def delete(self, name: str, gone: list[tuple[bytes, bytes]]) -> None:
        """Delete messages, as QUIT does."""
        complaint = self.may_delete(name, [number_of(content) for _, content in gone])
        if complaint:
            self.complaints.append(complaint)
        drop = self.drops[name]
        for each in gone:
            drop.messages.remove(each)
            drop.free.append(each[0])

    @property
    def empty(self) -> bool:
        return not any(drop.messages for drop in self.drops.values())


class _Session(LineOnlyReceiver):
    MAX_LENGTH = 1000
    factory: Post
    transport: Any

    def __init__(self, post: Post) -> None:
        self._post = post
        self._drop: Drop | None = None
        self._name = ""
        self._listed: list[tuple[bytes, bytes]] = []
        self._marked: set[int] = set()
        self._out: deque[bytes] = deque()
        self._sending = False
        # After how many pieces the connection is closed.
        self._pieces = -1

    def connectionMade(self) -> None:
        post = self._post
        post.connections.add(self)
        unkind = not post.kind and not post.unkind_last and post.random.random() < 0.1
        post.unkind_last = unkind
        if unkind:
            self._pieces = post.random.randrange(12, 60)
        self._say(b"+OK ready\r\n")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._post.connections.discard(self)
        self._out.clear()
        if self._drop is not None:
            self._drop.in_use = False

    def _say(self, data: bytes) -> None:
        size = self._post.random.choice([100, 1000, 10_000, 100_000])
        self._out.extend(data[i : i + size] for i in range(0, len(data), size))
        self._send()

    def _send(self) -> None:
        if self._sending:
            return
        for _ in range(self._post.random.choice([1, 10, 100])):
            if self._out:
                self._pieces -= 1
                if self._pieces == 0:
                    self._out.clear()
                    self.transport.loseConnection()
                    return
                self.transport.write(self._out.popleft())
        if self._out:
            self._sending = True
            self._post.reactor.callLater(self._post.random.random() / 500, self._go_on)

    def _go_on(self) -> None:
        self._sending = False
        self._send()

    def lineReceived(self, line: bytes) -> None:
        post = self._post
        post.commands += 1
        post.after()
        verb, *words = line.split(b" ")
        answer = self._answer(verb.upper(), words)
        if verb == b"QUIT":
            lost = not post.kind and self._marked and post.random.random() < 0.1
            if not lost:
                self._say(answer)
            if not self._out:
                self.transport.loseConnection()
        else:
            self._say(answer)

    def _answer(self, verb: bytes, words: list[bytes]) -> bytes:
        if verb == b"CAPA":
            return b"+OK\r\nUSER\r\nUIDL\r\nTOP\r\nPIPELINING\r\nRESP-CODES\r\n.\r\n"
        if verb == b"USER":
            self._name = words[0].decode()
            return b"+OK\r\n"
        if verb == b"PASS":
            drop = self._post.drops[self._name]
            if drop.in_use:
                return b"-ERR [IN-USE] another session\r\n"
            drop.in_use = True
            self._drop = drop
            self._listed = list(drop.messages)
            return b"+OK\r\n"
        if verb == b"STAT":
            size = sum(len(content) for _, content in self._listed)
            return b"+OK %d %d\r\n" % (len(self._listed), size)
        if verb == b"LIST":
            return self._list(b"%d" % len(content) for _, content in self._listed)
        if verb == b"UIDL":
            return self._list(uid for uid, _ in self._listed)
        if verb == b"QUIT":
            if self._marked:
                gone = [self._listed[index] for index in sorted(self._marked)]
                self._post.delete(self._name, gone)
            return b"+OK bye\r\n"
        index = int(words[0]) - 1
        content = self._listed[index][1]
        if verb == b"TOP":
            content = content.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
        if verb == b"DELE":
            self._marked.add(index)
            return b"+OK\r\n"
        return b"+OK\r\n" + content + b".\r\n"

    def _list(self, values: Iterable[bytes]) -> bytes:
        lines = [b"%d %s\r\n" % (i, value) for i, value in enumerate(values, 1)]
        return b"+OK\r\n" + b"".join(lines) + b".\r\n"
