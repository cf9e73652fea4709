"""
Random histories of a mailbox against a model that knows which message is which: no
message is lost, and none arrives twice, whatever a listing says.

The model excludes what the design allows: a unique-id that is given to another message
of the same size while the first may still be there.
"""

from __future__ import annotations

import itertools
from collections import Counter
from random import Random

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pop3connect.collect.content import whole_content_of
from pop3connect.collect.identity import Identified, Remembered, identify
from pop3connect.collect.inventory import (
    UNSTABLE_LOOKS,
    ListingRefusedError,
    take_inventory,
)
from pop3connect.collect.records import AccountRow, Content
from pop3connect.errors import CommandError
from pop3connect.results import UID, Listing, Stat

COMPLETE = ("", "blank", "twice", "numbers", "no TOP")
"""Looks after which every message that is listed must have arrived."""

FAULTS = (
    *("", "", "", "", "blank", "twice", "numbers", "no TOP", "no UIDL", "empty"),
    *("UIDL refused", "LIST refused", "UIDL short", "LIST short", "unreadable"),
)

NO_UIDS = ("blank", "twice", "numbers", "no UIDL", "UIDL short")
"""Looks at which messages have no unique-id that can be believed."""

KINDS = (
    *("arrive", "arrive", "copy", "list copy", "look", "look", "look", "purge"),
    *("delete", "keep", "reuse", "move", "move and resize", "mix"),
)

UIDS = ("good", "bad", "unstable")

LONG = 2_000
"""Long histories; they take about two seconds."""

Step = tuple[str, int, str]

steps = st.tuples(st.sampled_from(KINDS), st.integers(0, 20), st.sampled_from(FAULTS))


@attrs.define
class Mail:
    """A message on the server."""

    name: str
    """Equal for equal messages."""

    text: bytes
    uid: str
    size: int

    @property
    def content(self) -> Content:
        return whole_content_of(self.text)

    @property
    def header(self) -> Content:
        return attrs.evolve(self.content, body="")


@attrs.frozen
class Row(Remembered):
    """A row of the journal, with the name of the message that it was made for."""

    name: str = ""


class Model:
    """
    A mailbox, and a collector that looks at it.

    :param uids: ``"good"``: messages always have unique-ids; ``"bad"``: not always, so
        that messages with the same header always have different sizes; ``"unstable"``:
        they also change in each session.
    """

    def __init__(self, uids: str) -> None:
        self.names = itertools.count()
        self.uids = itertools.count(1)
        self.good = uids == "good"
        self.unstable = uids == "unstable"
        self.mailbox: list[Mail] = []
        self.rows: list[Row] = []
        self.arrived: Counter[str] = Counter()
        self.delivered: Counter[str] = Counter()
        self.account = AccountRow(1, "ada", "pop.example.org", "ada")

    def step(self, kind: str, number: int, fault: str) -> None:
        if kind == "look":
            self.look(fault, number)
        elif kind == "arrive":
            self.arrive(number, f"u{next(self.uids)}")
        elif kind == "reuse":
            self.reuse(number)
        elif not self.mailbox:
            return
        elif kind in ("copy", "list copy"):
            self.copy(self.mailbox[number % len(self.mailbox)], kind)
        elif kind == "purge":
            # Somebody deletes a message by another program.
            del self.mailbox[number % len(self.mailbox)]
        elif kind in ("delete", "keep"):
            self.delete(self.mailbox[number % len(self.mailbox)], kind)
        elif kind == "mix":
            self.mix()
        elif kind == "move" and not self.good:
            self.move()
        else:
            # Other sizes are only compared while no unique-id is known, and many
            # messages are recognised by their headers: nothing else may have happened.
            self.look("", number)
            self.move(0 if kind == "move" else 9 + number)
            self.look(fault if fault in COMPLETE else "", number)

    # -- the mailbox

    def arrive(self, number: int, uid: str) -> None:
        name = f"m{next(self.names)}"
        # Few sizes, so that many are equal, and some messages without a Message-ID.
        header = "" if number % 3 == 0 else f"Message-ID: <{name}>\r\n"
        subject = "report" if number % 5 == 0 else name
        text = f"{header}Subject: {subject}\r\n\r\n{name}"
        self.put(Mail(name, text.encode(), uid, 500 + number % 4))

    def put(self, mail: Mail) -> None:
        self.mailbox.append(mail)
        self.arrived[mail.name] += 1

    def copy(self, mail: Mail, kind: str) -> None:
        """Let a message arrive again, in the second case with a footer."""
        copy = attrs.evolve(mail, uid=f"u{next(self.uids)}")
        if kind == "list copy":
            copy.name = f"m{next(self.names)}"
            copy.text += copy.name.encode()
            copy.size = mail.size + 40 if self.good else 10_000 * next(self.names)
        self.put(copy)

    def reuse(self, number: int) -> None:
        """Let a message arrive with a unique-id that is free again."""
        for row in self.rows:
            if (
                row.uid
                and all(mail.uid != row.uid for mail in self.mailbox)
                and not any(
                    other.uid == row.uid
                    and other.size == 500 + number % 4
                    and other.deleted_at is None
                    for other in self.rows
                )
            ):
                self.arrive(number, row.uid)
                return

    def delete(self, mail: Mail, kind: str) -> None:
        """Delete a message, which the server confirms; in the second case, it lies."""
        rows = [
            index
            for index, row in enumerate(self.rows)
            if row.uid == mail.uid and row.name == mail.name and row.header_hash
        ]
        if kind == "keep" and not mail.content.identified:
            # If its unique-id changes as well, it is taken for another one.
            return
        if len(rows) == 1 and mail.uid:
            self.rows[rows[0]] = attrs.evolve(self.rows[rows[0]], deleted_at=1.0)
            self.account = attrs.evolve(self.account, listing="")
            if kind == "delete":
                self.mailbox.remove(mail)

    def move(self, more: int = 0) -> None:
        """Move the mailbox to another server: other unique-ids, and perhaps sizes."""
        for mail in self.mailbox:
            mail.uid = f"u{next(self.uids)}"
            if not self.was_deleted(mail):
                mail.size += more

    def was_deleted(self, mail: Mail) -> bool:
        """Return whether a message is there although its deletion was confirmed."""
        return any(row.deleted_at and row.name == mail.name for row in self.rows)

    def mix(self) -> None:
        """Move the mailbox to a server that uses the same unique-ids for others."""
        mails = self.mailbox
        uids = [mail.uid for mail in mails[1:] + mails[:1]]
        for mail, uid in zip(mails, uids, strict=True):
            for row in self.rows:
                # Not one that a message of the same size or header had before.
                if row.uid == uid and row.name != mail.name:
                    if row.size == mail.size:
                        return
                    if row.identified and row.header_hash == mail.content.header:
                        return
        for mail, uid in zip(mails, uids, strict=True):
            mail.uid = uid

    # -- the collector

    def look(self, fault: str, number: int) -> None:
        if self.good and fault in NO_UIDS:
            fault = ""
        if self.unstable:
            for mail in self.mailbox:
                mail.uid = f"u{next(self.uids)}"
        listed = dict(enumerate(self.mailbox, 1))
        chosen = number % len(listed) + 1 if listed else 0
        uids: list[UID] | CommandError = [UID(n, m.uid) for n, m in listed.items()]
        sizes: list[Listing] | CommandError = [
            Listing(n, m.size) for n, m in listed.items()
        ]
        if fault == "blank":
            uids = [UID(n, "" if n == chosen else m.uid) for n, m in listed.items()]
        elif fault == "twice" and listed:
            twice = (chosen, chosen % len(listed) + 1)
            uids = [
                UID(n, listed[chosen].uid if n in twice else m.uid)
                for n, m in listed.items()
            ]
        elif fault == "numbers":
            uids = [UID(n, str(n)) for n in listed]
        elif fault == "no UIDL":
            uids = []
        elif fault == "UIDL refused":
            uids = CommandError("no", verb="UIDL", code="SYS/TEMP")
        elif fault == "LIST refused":
            sizes = CommandError("no", verb="LIST")
        elif fault == "UIDL short":
            uids = [UID(n, m.uid) for n, m in listed.items() if n <= chosen - 1]
        elif fault == "LIST short":
            sizes = [Listing(n, m.size) for n, m in listed.items() if n <= chosen - 1]
        elif fault == "empty":
            sizes, uids = [], []
        count = 0 if fault == "empty" else len(listed)
        try:
            inventory = take_inventory(Stat(count, 0), sizes, uids, self.account)
        except ListingRefusedError:
            assert fault in ("UIDL refused", "LIST refused")
            return
        if not inventory.unchanged(self.account):
            found = identify(inventory, self.rows, self.account)
            self.work(found, listed, fault, chosen)
        elif fault == "numbers":
            # Equal sizes hide a change from here on; the design accepts that.
            return
        if fault in COMPLETE:
            self.check(listed)

    def work(
        self, found: Identified[Row], listed: dict[int, Mail], fault: str, chosen: int
    ) -> None:
        """Decide, fetch, and note."""
        unreadable = chosen if fault == "unreadable" else 0
        found = self.read(found, listed, fault, unreadable)
        inventory = found.inventory
        assert len(found.known) + len(found.new) + len(found.unread) == len(
            inventory.sizes
        )
        rows = list(self.rows)
        changed: dict[int, Row] = {}
        for number, row in found.known.items():
            mail = listed[number]
            index = next(i for i, other in enumerate(rows) if other is row)
            if not row.header_hash:
                if number == unreadable:
                    continue
                # It is tried again, and turns out to be a known one, or is delivered.
                again = found.compared({number: mail.content})
                again = self.read(again, listed, fault, unreadable)
                if number in again.new or again.known.get(number) is row:
                    changed[index] = self.deliver(mail, row.uid)
                continue
            assert row.name == mail.name, (row, mail)
            changed[index] = attrs.evolve(
                row,
                uid=inventory.uids[number] if number in found.renamed else row.uid,
                size=mail.size,
            )
        for index, row in changed.items():
            self.rows[index] = row
        for number in found.new:
            mail = listed[number]
            uid = inventory.uids.get(number, "")
            if number == unreadable:
                self.rows.append(Row(uid, mail.size))
            else:
                self.rows.append(self.deliver(mail, uid))
        for number in set(found.known) - set(found.resized):
            row = found.known[number]
            assert row.size == inventory.sizes[number]
        if inventory.complete:
            whole = not (found.unread or unreadable or found.returned)
            self.account = attrs.evolve(
                self.account,
                listed=len(inventory.sizes),
                listing=inventory.digest if whole else "",
                uids_changed=min(
                    found.uids_changed, UNSTABLE_LOOKS - 1 if self.good else 99
                ),
            )
        self.account = attrs.evolve(
            self.account,
            looked_at=1.0,
            uids_seen=self.account.uids_seen or bool(inventory.uids),
        )

    def read(
        self,
        found: Identified[Row],
        listed: dict[int, Mail],
        fault: str,
        unreadable: int,
    ) -> Identified[Row]:
        """Read what is needed to decide."""
        for _ in range(6):
            if found.decided:
                break
            contents: dict[int, Content | None] = {}
            for number in found.headers:
                contents[number] = listed[number].header
                if fault in ("no TOP", "unreadable"):
                    contents[number] = None
            for number in found.bodies:
                contents[number] = listed[number].content
            if unreadable in contents:
                contents[unreadable] = None
            found = found.compared(contents)
        assert found.decided
        return found

    def deliver(self, mail: Mail, uid: str) -> Row:
        self.delivered[mail.name] += 1
        assert self.delivered[mail.name] <= self.arrived[mail.name], f"twice: {mail}"
        content = mail.content
        return Row(
            uid=uid,
            size=mail.size,
            header_hash=content.header,
            body_hash=content.body,
            identified=content.identified,
            name=mail.name,
        )

    def check(self, listed: dict[int, Mail]) -> None:
        """Check that nothing which is listed is missing."""
        counts = Counter(mail.name for mail in listed.values())
        for name, count in counts.items():
            assert self.delivered[name] >= count, f"lost: {name}"


class HistoryTests(SynchronousTestCase):
    def run_history(self, history: list[Step], uids: str) -> None:
        model = Model(uids)
        for step in history:
            model.step(*step)
        model.look("", 0)
        model.look("", 0)

    @settings(deadline=None)
    @given(st.lists(steps, max_size=30), st.sampled_from(UIDS))
    def test_no_message_is_lost_or_arrives_twice(
        self, history: list[Step], uids: str
    ) -> None:
        self.run_history(history, uids)

    def test_no_message_is_lost_or_arrives_twice_in_long_histories(self) -> None:
        # These find what takes many steps in a row, which hypothesis rarely tries.
        for seed in range(LONG):
            random = Random(seed)
            history = [
                (random.choice(KINDS), random.randrange(21), random.choice(FAULTS))
                for _ in range(random.randint(6, 40))
            ]
            try:
                self.run_history(history, random.choice(UIDS))
            except AssertionError as error:
                raise AssertionError(f"seed {seed}: {error}") from error
