"""
A process that ends at each call to the disk in turn, and the next one that goes on:
each message is delivered exactly once.
"""

from __future__ import annotations

import json
import mailbox
import os
import random
import shutil
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import attrs
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from pop3connect.collect.spool import Spool
from pop3connect.destinations.base import Mail, Proof, Witness
from pop3connect.destinations.folder import Disk
from pop3connect.destinations.incoming import SMALL
from pop3connect.destinations.maildir import Maildir
from pop3connect.destinations.mbox import Mbox

from .faults import DyingDisk, in_process

MESSAGES = {
    digit * 32: b"Subject: %d\r\n\r\n" % number + b"From x\r\n" * size
    for number, (digit, size) in enumerate({"a": 1, "b": SMALL // 8, "c": 3}.items())
}

LASTING = DyingDisk(-1)
"""At none of its calls does the process end."""


class Journal:
    """Rows in a file: each line that is whole is committed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.touch()

    def rows(self) -> dict[str, dict[str, Any]]:
        lines = map(json.loads, self._path.read_text().splitlines())
        return {row["key"]: row for line in lines for row in line}

    def commit(self, rows: list[dict[str, Any]]) -> None:
        with self._path.open("a") as file:
            file.write(f"{json.dumps(rows)}\n")


class CrashTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        if not hasattr(os, "fork"):
            raise SkipTest("there is no fork here")
        self.base = Path(self.mktemp()).absolute()

    def start_again(self) -> None:
        shutil.rmtree(self.base, ignore_errors=True)
        self.base.mkdir(parents=True)

    # What the subclasses say.

    def destination(self, disk: Disk) -> Any:
        raise NotImplementedError

    def keeper(self, disk: Disk) -> Any:
        spool = Spool(self.base / "spool", self.base / "aside", disk=disk)
        spool.open()
        return spool

    def meanwhile(self) -> None:
        """What other programs do between two processes of ours."""

    def delivered(self) -> Counter[str]:
        raise NotImplementedError

    # One process.

    def run_once(self, disk: Disk) -> None:
        journal = Journal(self.base / "journal")
        box = self.destination(disk)
        keeper = self.keeper(disk)
        self.recover(journal, box, keeper)
        new = []
        for key, content in MESSAGES.items():
            if key not in journal.rows():
                message = keeper.begin("anna")
                message.key = key
                for start in range(0, len(content), SMALL // 2):
                    message.write(content[start : start + SMALL // 2])
                new.append(message)
        keeper.keep(new)
        journal.commit([{"key": each.key, "path": str(each.path)} for each in new])
        waiting = [
            self.mail(key, row, keeper)
            for key, row in journal.rows().items()
            if row.get("state") != "delivered"
        ]
        prepared = box.prepare(waiting)
        assert not prepared.refused, prepared.refused
        journal.commit(
            [
                {
                    "key": mail.key,
                    "path": str(mail.path),
                    "state": "delivering",
                    "witness": attrs.asdict(witness),
                }
                for mail, witness in zip(
                    prepared.mails, prepared.witnesses, strict=True
                )
            ]
        )
        results = prepared.carry_out()
        assert results == [None] * len(waiting), results
        journal.commit([self.done(mail.key, str(mail.path)) for mail in prepared.mails])
        prepared.close()

    def recover(self, journal: Journal, box: Any, keeper: Any) -> None:
        for key, row in journal.rows().items():
            if row.get("state") != "delivering":
                continue
            witness = Witness(**row["witness"])
            found = keeper.find(row["path"])
            mail = None if found is None else self.mail(key, row, keeper)
            proof = box.prove(witness, mail)
            assert proof is not Proof.UNKNOWN
            if proof is Proof.DONE:
                journal.commit([self.done(key, row["path"])])

    def done(self, key: str, path: str) -> dict[str, Any]:
        return {"key": key, "path": path, "state": "delivered"}

    def mail(self, key: str, row: dict[str, Any], keeper: Any) -> Mail:
        path = keeper.find(row["path"])
        assert path is not None, row
        return Mail(key, "anna", "uid", len(MESSAGES[key]), path)

    # All of them.

    def crash(self, *disks: Disk) -> bool:
        """
        Let processes end at these disks, and one come to its end.

        :return: whether a process came to its end before the last one.
        """
        self.start_again()
        for disk in (*disks, LASTING):
            survived = in_process(lambda: self.run_once(disk))  # noqa: B023
            if survived:
                break
            self.meanwhile()
        self.assertEqual(self.delivered(), Counter(dict.fromkeys(MESSAGES.values(), 1)))
        return disk is not LASTING

    def at_each_call(self) -> None:
        for after in (False, True):
            count = 0
            while not self.crash(DyingDisk(count, after=after)):
                count += 1
            # Three files, their folder, the moves or the append.
            self.assertGreater(count, 10)

    def at_random(self, rounds: int) -> None:
        choose = random.Random(16)
        for _ in range(rounds):
            self.crash(
                *(
                    DyingDisk(choose.randrange(20), after=choose.random() < 0.5)
                    for _ in range(choose.randrange(1, 5))
                )
            )


class SpooledMaildirCrashTests(CrashTestCase):
    """From the spool into a Maildir, from which a mail program takes messages."""

    def destination(self, disk: Disk) -> Maildir:
        return Maildir(self.base / "M", "host", crlf=True, disk=disk)

    def meanwhile(self) -> None:
        taken = self.base / "taken"
        taken.mkdir(exist_ok=True)
        new = self.base / "M" / "new"
        for path in new.iterdir() if new.exists() else ():
            path.rename(taken / path.name)

    def delivered(self) -> Counter[Any]:
        self.meanwhile()
        return Counter(path.read_bytes() for path in (self.base / "taken").iterdir())

    def test_message_is_delivered_once_wherever_the_process_ends(self) -> None:
        self.at_each_call()

    def test_message_is_delivered_once_after_several_crashes(self) -> None:
        self.at_random(10)


class MaildirCrashTests(SpooledMaildirCrashTests):
    """Received straight into the Maildir."""

    def keeper(self, disk: Disk) -> Any:
        return self.destination(disk)


class MboxCrashTests(CrashTestCase):
    def destination(self, disk: Disk) -> Mbox:
        return Mbox(self.base / "box", lock_timeout=5, disk=disk)

    def delivered(self) -> Counter[Any]:
        with closing(mailbox.mbox(self.base / "box")) as box:
            contents = [message.as_bytes() for message in box]
        # The blank line behind a message is not part of it.
        return Counter(
            content.replace(b"\n>From ", b"\nFrom ").replace(b"\n", b"\r\n")
            for content in contents
        )

    def test_message_is_delivered_once_wherever_the_process_ends(self) -> None:
        self.at_each_call()

    def test_message_is_delivered_once_after_several_crashes(self) -> None:
        self.at_random(10)
