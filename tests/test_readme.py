"""
The front page: its example, its configuration, its links and its picture.
"""

from __future__ import annotations

import ast
import os
import re
import sys
import textwrap
from importlib.util import module_from_spec, spec_from_file_location
from inspect import signature
from io import StringIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from rich.console import Console
from twisted.internet import reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import SkipTest, SynchronousTestCase, TestCase

import pop3connect
from pop3connect.collect.config import read_config
from pop3connect.demo.mail import sample_messages
from pop3connect.demo.service import DemoService, Settings
from pop3connect.headers import summary

ROOT = Path(__file__).absolute().parent.parent


def readme() -> str:
    path = ROOT / "README.rst"
    if not path.exists():
        raise SkipTest("these are tests of an installed package")
    return path.read_text("utf-8")


def blocks(language: str) -> list[str]:
    """Return the blocks of code in a language."""
    found = re.findall(rf"code-block:: {language}\n\n((?:    .*\n|\n)+)", readme())
    return [textwrap.dedent(block) for block in found]


class ContentTests(SynchronousTestCase):
    def test_examples_compile_and_use_existing_names(self) -> None:
        examples = blocks("python")
        self.assertGreater(len(examples), 1)
        for block in examples:
            tree = compile(
                block,
                "README.rst",
                "exec",
                ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
            )
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom) and node.module == "pop3connect":
                    for name in node.names:
                        self.assertIn(name.name, pop3connect.__all__)
                if isinstance(node, ast.Call):
                    called = getattr(node.func, "id", "")
                    if called in ("connect", "Connector", "POP3ClientFactory"):
                        words = {word.arg for word in node.keywords}
                        known = signature(getattr(pop3connect, called)).parameters
                        self.assertLessEqual(words, set(known))

    def test_configuration_is_complete(self) -> None:
        [configuration] = blocks("toml")
        file = Path(self.mktemp())
        file.write_text(configuration, "utf-8")
        self.assertEqual(len(read_config(file).accounts), 1)

    def test_every_link_and_picture_leads_to_a_file(self) -> None:
        text = readme()
        targets = re.findall(r"`[^`<]+\s<([^>]+)>`_|image:: (\S+)", text)
        self.assertGreater(len(targets), 10)
        for target in targets:
            self.assertTrue((ROOT / "".join(target)).is_file(), target)

    def test_both_commands_do_all_the_set_up(self) -> None:
        commands = [line for line in readme().splitlines() if "-m venv" in line]
        self.assertEqual(len(commands), 2)
        for command in commands:
            self.assertTrue(command.startswith("    python3 -m venv .venv && "))


class DemoCase(TestCase):
    """Tests with the demo, on free ports."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()

    async def demo(self) -> DemoService:
        """Start the demo; return it after its tour."""
        invited: Deferred[None] = Deferred()

        class Output(StringIO):
            def flush(self) -> None:
                if "Ctrl-C" in self.getvalue() and not invited.called:
                    invited.callback(None)

        service = DemoService(
            Settings(port=0, tls_port=0, folder=str(self.folder)),
            reactor=reactor,
            out=Console(file=Output()),
            err=StringIO(),
            finish=self.fail,
        )
        self.addCleanup(lambda: maybeDeferred(service.stopService))
        service.privilegedStartService()
        service.startService()
        await invited
        return service


class ProgramTests(DemoCase):
    async def test_first_example_prints_the_subjects_of_the_demo(self) -> None:
        program = blocks("python")[0]
        self.assertEqual(program.count("localhost:1995"), 1)
        service = await self.demo()
        (self.folder / "first.py").write_text(
            program.replace("localhost:1995", f"localhost:{service.tls_port}"), "utf-8"
        )
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        output, errors, status = await getProcessOutputAndValue(
            sys.executable,
            ["first.py"],
            env={**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8"},
            path=str(self.folder),
        )
        self.assertEqual((status, errors), (0, b""))
        first, *rows = output.decode("utf-8").splitlines()
        self.assertTrue(first.startswith("Stat(count=10, "), first)
        expected = [
            f"{number} {summary(message).subject}"
            for number, message in enumerate(sample_messages(), 1)
        ]
        self.assertEqual(rows, expected)


class PictureTests(DemoCase):
    """``docs/demo.svg``, which ``docs/demo_picture.py`` draws."""

    def drawer(self) -> Any:
        path = ROOT / "docs" / "demo_picture.py"
        if not path.exists():
            raise SkipTest("these are tests of an installed package")
        spec = spec_from_file_location("demo_picture", path)
        assert spec is not None
        assert spec.loader is not None
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    def words(self, picture: str) -> list[str]:
        """Return the text of a picture, without the numbers of the ports."""
        texts = [
            "".join(each.itertext())
            for each in ElementTree.fromstring(picture).iter()
            if each.tag.endswith("}text")
        ]
        return re.sub(r"localhost:\d+", "localhost", " ".join(texts)).split()

    async def test_picture_shows_what_the_demo_shows_now(self) -> None:
        drawer = self.drawer()
        settings = Settings(port=0, tls_port=0, folder=str(self.folder), once=True)
        lines = await drawer.shown(reactor, settings)
        stored = (ROOT / "docs" / "demo.svg").read_text("utf-8")
        self.assertEqual(self.words(drawer.draw(lines)), self.words(stored))
        self.assertIn("VerificationError:", self.words(stored))

    def test_picture_is_coloured_and_loads_nothing_from_elsewhere(self) -> None:
        drawn = self.drawer().draw(["x", "\x1b[1;32mok\x1b[0m"])
        self.assertIn("font-weight: bold", drawn)
        self.assertNotIn("@font-face", drawn)
        self.assertNotIn("url(http", drawn.replace('"', ""))
