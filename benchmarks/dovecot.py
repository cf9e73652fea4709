"""The tests' Dovecot, set up for the benchmark: where its mail lies, and on which core.

The store is mdbox, Dovecot's own format and its fastest, or a Maildir, where it opens a
file for each message and is so slow with small ones that the client matters less.
"""

import os
import shutil
import subprocess
from collections.abc import Iterable

from benchmarks.helpers import pin
from benchmarks.loads import VARIANTS, Load, message
from tests.support import dovecot as support

_MAILDIR = "mail_location = maildir:~/Maildir"
# The rounds must find the store as the first one did.
_MORE = "pop3_no_flag_updates = yes\n"


def why_unavailable() -> str | None:
    """Say why no Dovecot can be started here, or None if it can."""
    return support.why_unavailable()


class Dovecot(support.Dovecot):
    """A Dovecot with mailboxes full of mail; a context manager that ends it."""

    def __init__(
        self, store: str, mechanisms: Iterable[str] = support.MECHANISMS
    ) -> None:
        """Not started yet."""
        super().__init__(lock_sessions=False, mechanisms=mechanisms)
        self.store = store
        self.boxes: dict[tuple[Load, str], support.Mailbox] = {}

    def _configuration(self) -> str:
        text = super()._configuration()
        if _MAILDIR not in text:
            raise RuntimeError("the tests' configuration has no Maildir to replace")
        if self.store != "maildir":
            text = text.replace(
                _MAILDIR, f"mail_location = {self.store}:~/{self.store}"
            )
        return _MORE + text

    def fill(self, load: Load, shape: str) -> None:
        """A mailbox of its own for this load, in this store."""
        contents = [
            message(shape, load.size, n + 1) for n in range(min(VARIANTS, load.count))
        ]
        box = self.add_box(contents[n % len(contents)] for n in range(load.count))
        self.boxes[load, shape] = box

    def add_box(self, contents: Iterable[bytes]) -> support.Mailbox:
        """A new user, whose messages are in this store."""
        box = self.add_user(contents)
        if self.store != "maildir":
            program = shutil.which("doveadm") or "/usr/bin/doveadm"
            config = str(self.directory / "dovecot.conf")
            source = f"maildir:{box.directory}"
            command = [
                program,
                "-c",
                config,
                "import",
                "-u",
                box.user,
                source,
                "",
                "all",
            ]
            subprocess.run(command, check=True)
            shutil.rmtree(box.directory)
        return box

    def __enter__(self) -> "Dovecot":
        """Start it, on the servers' core."""
        pin(os.getpid(), server=True)
        try:
            self.start()
        finally:
            pin(os.getpid(), server=False)
        return self

    def __exit__(self, *_: object) -> None:
        """End it and remove its files."""
        self.stop()
