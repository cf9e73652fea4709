"""
The layout of the package: what importing it loads, and rules for all of its files.

import-linter checks which module may import which: see ``.importlinter``.
"""

from __future__ import annotations

import ast
import configparser
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

import pop3connect

PACKAGE = Path(pop3connect.__file__).absolute().parent
ROOT = PACKAGE.parent

#: Imported when they are first needed: a plain session needs none of them.
LATE = (
    "OpenSSL",
    "cryptography",
    "crochet",
    "pop3connect.autoconfig",
    "pop3connect.candidates",
    "pop3connect.client.factory",
    "pop3connect.client.reporting",
    "pop3connect.discovery",
    "pop3connect.events",
    "pop3connect.proxy",
    "pop3connect.sessions",
    "pop3connect.tls.options",
    "pop3connect.waits",
    "trustme",
    "twisted.internet.endpoints",
    "twisted.internet.reactor",
    "twisted.internet.ssl",
    "twisted.mail",
    "twisted.protocols.tls",
)


def files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def short_name(path: Path) -> str:
    """Name a module within the package; a package within it, by itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


def modules() -> dict[str, ast.Module]:
    return {
        short_name(path): ast.parse(path.read_bytes(), str(path)) for path in files()
    }


class ImportTests(SynchronousTestCase):
    """What is loaded, in a process of its own."""

    def loaded_by(self, statement: str) -> list[str]:
        program = (
            f"import sys; {statement}; "
            f"print(*[name for name in {LATE!r} if name in sys.modules])"
        )
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            cwd=ROOT,
            check=True,
        )
        return done.stdout.split()

    def test_importing_the_package_loads_only_what_a_plain_session_needs(self) -> None:
        self.assertEqual(self.loaded_by("import pop3connect"), [])

    def test_name_that_is_imported_late_loads_its_module(self) -> None:
        for name, module in (
            ("Candidate", "pop3connect.candidates"),
            ("POP3ClientFactory", "pop3connect.client.factory"),
            ("TLSOptions", "pop3connect.tls.options"),
            ("discover", "pop3connect.discovery"),
        ):
            found = self.loaded_by(f"from pop3connect import {name}")
            self.assertIn(module, found)

    def test_import_check_detects_a_loaded_module(self) -> None:
        found = self.loaded_by("import pop3connect.tls.context")
        self.assertIn("OpenSSL", found)


class FileTests(SynchronousTestCase):
    """The files themselves."""

    def test_every_module_has_a_docstring(self) -> None:
        for path in files():
            self.assertTrue(ast.get_docstring(ast.parse(path.read_bytes())), path.name)

    def test_every_module_except_version_defines_all(self) -> None:
        for name, tree in modules().items():
            names = {
                target.id
                for node in tree.body
                if isinstance(node, (ast.Assign, ast.AnnAssign))
                for target in (
                    node.targets if isinstance(node, ast.Assign) else [node.target]
                )
                if isinstance(target, ast.Name)
            }
            self.assertTrue(
                "__all__" in names or name == "_version", f"{name} has no __all__"
            )

    def test_plugin_folders_contain_no_init_file(self) -> None:
        """With an __init__.py there, Twisted itself could not be imported."""
        if not (ROOT / "setup.cfg").exists():
            raise SkipTest("these are tests of an installed package")
        files = [path.name for path in (ROOT / "twisted").rglob("*.py")]
        self.assertEqual(files, ["pop3connect_plugin.py"])

    def test_setup_cfg_lists_every_package(self) -> None:
        """A package that is missing there is missing in the wheel."""
        path = ROOT / "setup.cfg"
        if not path.exists():
            raise SkipTest("these are tests of an installed package")
        setup = configparser.ConfigParser()
        setup.read(path)
        folders = {path.parent.relative_to(ROOT) for path in files()}
        self.assertEqual(
            sorted(setup["options"]["packages"].split()),
            sorted([*(".".join(each.parts) for each in folders), "twisted.plugins"]),
        )

    def test_package_contains_the_py_typed_marker(self) -> None:
        self.assertEqual((PACKAGE / "py.typed").read_bytes(), b"")

    def test_version_is_a_release_or_what_becomes_one(self) -> None:
        self.assertRegex(pop3connect.__version__, r"\A\d+\.\d+\.\d+(\.dev0)?\Z")

    def test_every_newsfragment_has_a_name_that_towncrier_reads(self) -> None:
        """It leaves a file with another name out of the changelog, without a word."""
        folder = ROOT / "newsfragments"
        if not folder.exists():
            raise SkipTest("these are tests of an installed package")
        for path in folder.iterdir():
            if path.name.startswith("."):
                continue
            self.assertRegex(
                path.name,
                r"\A\d+\.(feature|bugfix|doc|removal|misc)(\.\d+)?\.rst\Z",
            )
            self.assertTrue(path.read_text("utf-8").strip(), path.name)

    def test_extra_test_brings_what_the_other_extras_bring_to_users(self) -> None:
        path = ROOT / "setup.cfg"
        if not path.exists():
            raise SkipTest("these are tests of an installed package")
        setup = configparser.ConfigParser()
        setup.read(path)
        extras = {
            name: set(packages.strip().splitlines())
            for name, packages in setup["options.extras_require"].items()
        }
        for name in ("blocking", "cli", "collect", "demo", "proxy"):
            self.assertLessEqual(extras[name], extras["test"], name)
