"""
The tables of the collector, and the picture that the documentation draws.
"""

from __future__ import annotations

import ast
import doctest
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


def load(name: str) -> Any:
    """Import a module that helps to make the documentation."""
    path = DOCS / f"{name}.py"
    if not path.exists():
        raise SkipTest("these are tests of an installed package")
    spec = spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def page(name: str) -> str:
    """Return the text of a page."""
    path = DOCS / name
    if not path.exists():
        raise SkipTest("these are tests of an installed package")
    return path.read_text("utf-8")


class ReferenceTests(SynchronousTestCase):
    """
    Pages of the reference that list what is in the code.
    """

    def sources(self) -> dict[str, str]:
        """Return the text of each module, by its name."""
        package = Path(pop3connect.__file__).parent
        return {
            ".".join(path.relative_to(package.parent).with_suffix("").parts): (
                path.read_text("utf-8")
            )
            for path in package.rglob("*.py")
        }

    def test_every_option_of_connect_is_there_with_its_default(self) -> None:
        rows = dict(
            re.findall(
                r"   \* - ``(\w+)``\n     - ``(.+)``\n", page("reference/limits.rst")
            )
        )
        parameters = signature(pop3connect.connect).parameters.values()
        defaults = {
            each.name: each.default
            for each in parameters
            if each.default is not each.empty
        }
        self.assertEqual(list(rows), list(defaults))
        for name, text in rows.items():
            if text.startswith("Secure."):
                value: Any = pop3connect.Secure[text.partition(".")[2]]
            else:
                value = ast.literal_eval(text)
            self.assertEqual(value, defaults[name], name)

    def test_limits_are_those_of_the_code(self) -> None:
        text = load("limits").draw()
        for row in (
            "   * - 16 MiB\n     - Bytes of messages that are asked for",
            "   * - 256\n     - Commands that may be unanswered at once.",
            "   * - 0.05\n     - The part of a wait",
            "   * - 604,800 (7 days)\n     - The longest LOGIN-DELAY",
            f"   * - {pop3connect.connector.MAX_SECONDS:,} (366 days)\n",
        ):
            self.assertIn(row, text)

    def test_every_part_of_the_package_has_its_limits_in_a_table(self) -> None:
        limits = load("limits")
        tables = {part for parts in limits.SECTIONS.values() for part in parts}
        for path in limits.PACKAGE.iterdir():
            part = path.stem
            if path.suffix != ".py" and not (path / "__init__.py").exists():
                continue
            if part.startswith("_") or part in limits.LEFT_OUT or part in tables:
                continue
            self.assertEqual(list(limits.limits(part)), [], part)

    def test_limit_without_a_reason_is_an_error(self) -> None:
        limits = load("limits")
        limits.NO_LIMITS.remove("HOUR")
        with self.assertRaises(ValueError) as caught:
            limits.draw()
        self.assertIn("HOUR lacks its reason", str(caught.exception))

    def test_every_environment_variable_is_there(self) -> None:
        sources = self.sources()
        name = re.compile(r"\bPOP3CONNECT_[A-Z_]+\b")
        read = {each for text in sources.values() for each in name.findall(text)}
        # Those that the command of a destination gets.
        facts = sources["pop3connect.destinations.command"].partition("facts = {")[2]
        given = set(re.findall(r'"([A-Z]+)": ', facts))
        self.assertGreater(len(given), 5)
        shown = set(name.findall(page("reference/environment.rst")))
        self.assertEqual(shown, read | {f"POP3CONNECT_{each}" for each in given})

    def test_every_log_namespace_is_there(self) -> None:
        loggers = {
            name
            for name, text in self.sources().items()
            if re.search(r"^_?log = Logger\(\)$", text, re.MULTILINE)
        }
        text = page("reference/logging.rst")
        rows = "".join(re.findall(r"   \* - (.+)\n", text))
        self.assertEqual(set(re.findall(r"``([\w.]+)``", rows)), loggers)

    def test_pages_have_lines_of_at_most_100_columns(self) -> None:
        # The name of a test cannot be broken.
        name = re.compile(r" *(\* - |- )?(\| )?``tests\.[\w.]+``")
        wide = [
            f"{path}:{number}"
            for path in DOCS.rglob("*.rst")
            if "_build" not in path.parts
            for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
            if len(line) > 100 and not name.fullmatch(line)
        ]
        self.assertEqual(wide, [])

    def test_links_that_leave_are_whole(self) -> None:
        # CI has no network to follow them.
        for path in [*DOCS.parent.glob("*.rst"), *DOCS.rglob("*.rst")]:
            for link in re.findall(
                r"<(\w+:[^>`]*)>`_|^\.\. _.+: (\S+:\S+)", path.read_text("utf-8"), re.M
            ):
                self.assertRegex(
                    "".join(link), r"^https://([a-z0-9-]+\.)+[a-z]+/\S*$", path
                )

    def test_links_to_files_lead_to_files(self) -> None:
        found = 0
        for path in [*DOCS.parent.glob("*.rst"), *DOCS.rglob("*.rst")]:
            for link in re.findall(r"<([^>`:#]+)>`_", path.read_text("utf-8")):
                self.assertTrue((path.parent / link).exists(), f"{path}: {link}")
                found += 1
        self.assertGreater(found, 0)

    def test_examples_that_show_their_results_are_right(self) -> None:
        found = 0
        for path in sorted(DOCS.rglob("*.rst")):
            result = doctest.testfile(
                str(path), module_relative=False, encoding="utf-8", verbose=False
            )
            self.assertEqual(result.failed, 0, path)
            found += result.attempted
        self.assertGreater(found, 0)


class DiagramTests(SynchronousTestCase):
    """
    The picture of a session.
    """

    def diagram(self) -> Any:
        return load("session_diagram")

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
