"""
The examples on the front page, and the picture that the documentation draws.
"""

from __future__ import annotations

import ast
import json
import re
import textwrap
from importlib.util import module_from_spec, spec_from_file_location
from inspect import signature
from pathlib import Path
from typing import Any
from unittest import SkipTest
from xml.etree import ElementTree

import attrs
from twisted.trial.unittest import SynchronousTestCase

import pop3connect
from pop3connect.collect.config import read_config
from pop3connect.collect.settings import (
    PASSWORDS,
    AccountSettings,
    Config,
    DestinationSettings,
)
from pop3connect.sansio.states import ALLOWED, State

DOCS = Path(__file__).absolute().parent.parent / "docs"


class ReadmeTests(SynchronousTestCase):
    """
    The front page.
    """

    def test_readme_examples_compile_and_use_existing_names(self) -> None:
        path = DOCS.parent / "README.rst"
        blocks = re.findall(
            r"code-block:: python\n\n((?:    .*\n|\n)+)", path.read_text("utf-8")
        )
        self.assertGreater(len(blocks), 1)
        for block in blocks:
            tree = compile(
                textwrap.dedent(block),
                path.name,
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


class CollectorReferenceTests(SynchronousTestCase):
    """
    The tables of keys in ``reference/collector.rst``.
    """

    def rows(self, title: str) -> dict[str, str]:
        """Return the keys in the table of a section, with their defaults."""
        page = DOCS / "reference" / "collector.rst"
        if not page.exists():
            raise SkipTest("these are tests of an installed package")
        section = page.read_text("utf-8").partition(f"\n{title}\n=")[2]
        table = section.partition("\n\n\n")[0]
        rows = re.findall(r"   \* - ``(\w+)``\n((?:     .*\n?)+)", table)
        return {key: re.split(r"(?m)^     - ?", text)[-1] for key, text in rows}

    def assertDefaults(
        self, cls: type[attrs.AttrsInstance], rows: dict[str, str]
    ) -> None:
        """A default in quotes means what the class has."""
        fields = attrs.fields_dict(cls)
        found = 0
        for key, text in rows.items():
            written = re.fullmatch(r"``(.+)``\n?", text)
            if written:
                convert: Any = fields[key].converter
                value = json.loads(written[1])
                self.assertEqual(convert(value), convert(fields[key].default), key)
                found += 1
        self.assertGreater(found, 2)

    def test_every_key_of_an_account_is_there_with_its_default(self) -> None:
        rows = self.rows("Keys of an account")
        fields = {field.name for field in attrs.fields(AccountSettings)}
        self.assertEqual(set(rows), {*fields, *PASSWORDS})
        self.assertDefaults(AccountSettings, rows)

    def test_every_key_of_the_collector_is_there_with_its_default(self) -> None:
        rows = self.rows("Keys of the collector")
        fields = {field.name for field in attrs.fields(Config)}
        self.assertEqual(set(rows), fields - {"accounts", "destinations", "file"})
        self.assertDefaults(Config, rows)

    def test_every_key_of_a_destination_is_there_with_its_default(self) -> None:
        rows = self.rows("Keys of a destination")
        fields = {field.name for field in attrs.fields(DestinationSettings)}
        self.assertEqual(set(rows), fields - {"name"})
        self.assertDefaults(DestinationSettings, rows)

    def test_every_configuration_on_a_page_can_be_read(self) -> None:
        found = 0
        for page in DOCS.rglob("*.rst"):
            blocks = re.findall(
                r"code-block:: toml\n\n((?:    .*\n|\n)+)", page.read_text("utf-8")
            )
            for block in blocks:
                text = textwrap.dedent(block)
                if "state" not in text:
                    text = f'state = "state"\n{text}'
                file = Path(self.mktemp())
                file.write_text(text, "utf-8")
                read_config(file)
                found += 1
        self.assertGreater(found, 1)


class DiagramTests(SynchronousTestCase):
    """
    The picture of a session.
    """

    def diagram(self) -> Any:
        path = DOCS / "session_diagram.py"
        if not path.exists():
            raise SkipTest("these are tests of an installed package")
        spec = spec_from_file_location("session_diagram", path)
        assert spec is not None
        assert spec.loader is not None
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    def test_diagram_shows_every_state_and_its_verbs(self) -> None:
        picture = ElementTree.fromstring(self.diagram().draw())
        texts = [
            "".join(each.itertext())
            for each in picture.iter()
            if "text" in each.tag and each.get("class") != "way"
        ]
        # Each state is the line before its verbs.
        shown: dict[str, set[str]] = {}
        for text in texts:
            name, dash, words = text.partition(" - ")
            if dash:
                shown[name] = set()
                self.assertEqual(words, State[name].value)
            else:
                shown[list(shown)[-1]] |= set(text.split())
        self.assertEqual(list(shown), [state.name for state in State])
        for state, verbs in ALLOWED.items():
            self.assertEqual(shown[state.name], set(verbs) or {"no", "command"})

    def test_diagram_has_no_colour_but_that_of_the_page(self) -> None:
        # A colour of its own is hard to read on a light page, or on a dark one.
        colours = re.findall(r"(?:fill|stroke|color): ([^; ]+)", self.diagram().STYLE)
        self.assertEqual(set(colours), {"none", "currentColor"})

    def test_diagram_elements_lie_within_its_height(self) -> None:
        picture = ElementTree.fromstring(self.diagram().draw())
        height = float(picture.attrib["height"])
        for each in picture.iter():
            if "y" in each.attrib:
                bottom = float(each.attrib["y"]) + float(each.attrib.get("height", 0))
                self.assertLess(bottom, height)
