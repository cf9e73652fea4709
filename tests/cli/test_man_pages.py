"""
The manual pages, which are made from the help of the commands.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import click
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from pop3connect.cli.app import pop3connect

from ..support.loopback import ROOT

DOCS = ROOT / "docs"


def commands(
    command: click.Command = pop3connect, name: str = "pop3connect"
) -> Iterator[tuple[str, click.Command]]:
    """Yield each command with the name of its page."""
    yield name, command
    if isinstance(command, click.Group):
        for part, each in command.commands.items():
            yield from commands(each, f"{name}-{part}")


class ManPageTests(SynchronousTestCase):
    def setUp(self) -> None:
        if not DOCS.exists():
            raise SkipTest("these are tests of an installed package")

    def test_each_command_has_a_page_with_all_of_its_options(self) -> None:
        known = dict(commands())
        pages = {page.stem: page for page in (DOCS / "man").glob("*.1")}
        self.assertEqual(set(pages), set(known))
        for name, command in known.items():
            text = pages[name].read_text("utf-8").replace("\\-", "-")
            self.assertIn(f".SH NAME\n{name} - ", text)
            self.assertNotIn("...\n.SH SYNOPSIS", text, "the summary is cut")
            for parameter in command.params:
                for option in parameter.opts:
                    if option.startswith("--"):
                        self.assertIn(option, text, name)

    def test_pages_are_those_of_the_help(self) -> None:
        if find_spec("click_man") is None:
            raise SkipTest("click-man is not installed: pip install -e '.[docs]'")
        copy = Path(self.mktemp()).absolute()
        copy.mkdir()
        shutil.copy(DOCS / "man_pages.py", copy)
        subprocess.run(
            [sys.executable, str(copy / "man_pages.py")],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            check=True,
        )
        for page in (DOCS / "man").glob("*.1"):
            self.assertEqual(
                page.read_text("utf-8"),
                (copy / "man" / page.name).read_text("utf-8"),
                "run: python docs/man_pages.py",
            )

    def test_no_line_of_a_page_is_taken_for_a_request(self) -> None:
        """A line of the help that begins with a quote or a dot would vanish."""
        for page in (DOCS / "man").glob("*.1"):
            for line in page.read_text("utf-8").splitlines():
                self.assertNotRegex(line, r"^('|\.(?!TH |SH |TP$|PP$|B ))", page.name)
