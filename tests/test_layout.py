"""
How the package is laid out: what may import what, and how large a module gets.

The order below is the design.  A module may import those before it, and no others,
neither in a function nor for the type checker: who wants to go the other way has
found a concern in the wrong place.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

import pop3connect

PACKAGE = Path(pop3connect.__file__).absolute().parent
ROOT = PACKAGE.parent

#: All modules, each below those that it may import.
ORDER = [
    "_version",
    "errors",
    # pure: octets and values
    "status",
    "address",
    "session",
    "results",
    "replies",
    "multiline",
    "commands",
    "sasl",
    "policy",
    # a connection
    "timers",
    "exchange",
    "trust",
    "identity",
    "tls",
    "layer",
    "connection",
    "outbox",
    "bodies",
    "protocol",
    # a session
    "authenticate",
    "login",
    "fetch",
    "handle",
    "api",
    "__init__",
    # for programs that block
    "reactor_thread",
    "handover",
    "blocking",
    # what is built on it
    "omnis_codes",
    "omnis_sockets",
    "omnis",
    "demo_mail",
    "demo_accounts",
    "demo",
    "testing_wire",
    "testing_script",
    "testing",
    "demo_tour",
    "demo_service",
    "watch_config",
    "watch_state",
    "watch_run",
    "watch_hook",
    "watch_password",
    "watch",
    "tap",
    # the command line
    "cli.exits",
    "cli.running",
    "cli.access",
    "cli.passwords",
    "cli.opening",
    "cli.certificates",
    "cli.look",
    "cli.info",
    "cli.numbers",
    "cli.ahead",
    "cli.headers",
    "cli.listing",
    "cli.messages",
    "cli.disk",
    "cli.locks",
    "cli.store",
    "cli.maildir",
    "cli.mbox",
    "cli.record",
    "cli.progress",
    "cli.collect",
    "cli.saving",
    "cli.app",
    "cli",
    "__main__",
]

#: These know octets and values, and nothing of Twisted.
PURE = {
    "address",
    "replies",
    "multiline",
    "commands",
    "sasl",
    "policy",
    "status",
    "errors",
    "session",
    "results",
    "watch_config",
    "watch_state",
}

#: OpenSSL is behind these.  A plain session needs none of it.
HEAVY = {"trust", "identity", "tls", "layer"}

MAX_LINES = 500


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


def _nodes(tree: ast.AST, lazy: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """Walk, and tell what is not run when the module is imported."""
    for node in ast.iter_child_nodes(tree):
        inner = lazy or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            inner = True
        yield node, inner
        yield from _nodes(node, inner)


def imports(tree: ast.Module, name: str = "") -> Iterator[tuple[str, bool]]:
    """
    Find all imports, wherever they are.

    :param name: the short name of the module, for what is relative to it.
    :return: the full name of each module, and whether it is imported lazily.
    """
    for node, lazy in _nodes(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, lazy
        elif isinstance(node, ast.ImportFrom):
            within = ["pop3connect", *name.split(".")[:-1]]
            above = within[: len(within) + 1 - node.level] if node.level else []
            base = ".".join([*above, node.module or ""])
            yield base.rstrip("."), lazy
            for alias in node.names:
                # "from . import errors" imports a module, and not a name in one.
                yield f"{base.rstrip('.')}.{alias.name}", lazy


def inner_imports(tree: ast.Module, module: str = "") -> Iterator[tuple[str, bool]]:
    """Find the imports of our own modules, by their short names."""
    for name, lazy in imports(tree, module):
        package, *rest = name.split(".")
        if package != "pop3connect":
            continue
        # The last part may be a name in the module.
        known = [".".join(rest[:parts]) for parts in (2, 1)]
        short = next((name for name in known if name in ORDER), None)
        if short is not None:
            yield short, lazy
        elif len(rest) < 2:
            yield "__init__", lazy


class FinderTests(SynchronousTestCase):
    """The test of the layout sees what it has to see."""

    SOURCE = """
import os, pop3connect.tls
from . import errors, nothing
from .status import MASK
from pop3connect import connect
if TYPE_CHECKING:
    from .trust import Trust
def function():
    class Inner:
        async def method():
            if os:
                from pop3connect.api import connect
                import twisted.mail.pop3
"""

    def test_every_kind_of_import_is_found(self) -> None:
        tree = ast.parse(self.SOURCE)
        self.assertEqual(
            set(inner_imports(tree)),
            {
                ("tls", False),
                ("errors", False),
                ("status", False),
                ("__init__", False),
                ("trust", True),
                ("api", True),
            },
        )
        self.assertIn(("twisted.mail.pop3", True), set(imports(tree)))
        self.assertIn(("os", False), set(imports(tree)))

    def test_what_is_relative_to_a_package_within_is_found(self) -> None:
        tree = ast.parse("from .exits import tell\nfrom ..api import connect\n")
        self.assertEqual(
            set(inner_imports(tree, "cli.opening")),
            {("cli.exits", False), ("api", False)},
        )


class ImportTests(SynchronousTestCase):
    """Who imports whom."""

    def test_every_module_has_its_place_in_the_order(self) -> None:
        self.assertEqual(sorted(ORDER), sorted(modules()), "see ORDER in this file")
        self.assertEqual(len(ORDER), len(set(ORDER)))

    def test_imports_go_to_earlier_modules_only(self) -> None:
        upward = [
            f"{name} imports {imported}"
            for name, tree in modules().items()
            for imported, _ in inner_imports(tree, name)
            if ORDER.index(imported) >= ORDER.index(name)
        ]
        self.assertEqual(upward, [])

    def test_pure_modules_know_nothing_of_twisted(self) -> None:
        found = modules()
        self.assertTrue(set(found) >= PURE)
        for name in PURE:
            for imported, _ in imports(found[name], name):
                self.assertNotIn(
                    imported.partition(".")[0], ("twisted", "zope", "OpenSSL"), name
                )

    def test_pure_modules_import_pure_modules_only(self) -> None:
        found = modules()
        for name in PURE:
            inner = {imported for imported, _ in inner_imports(found[name], name)}
            self.assertLessEqual(inner, PURE, name)

    def test_what_a_plain_session_does_not_need_is_imported_when_it_is(self) -> None:
        found = modules()
        for name in ORDER[: ORDER.index("__init__") + 1]:
            if name in HEAVY:
                continue
            for imported, lazy in inner_imports(found[name], name):
                if imported in HEAVY:
                    self.assertTrue(lazy, f"{name} imports {imported} at once")

    def test_the_client_needs_nothing_of_the_demo(self) -> None:
        found = modules()
        for name in ORDER[: ORDER.index("__init__") + 1]:
            for imported, lazy in imports(found[name], name):
                self.assertNotIn("demo", imported, name)
                self.assertFalse(imported.startswith("trustme"), name)
                # Its interfaces may be named; its code is another client.
                self.assertTrue(lazy or not imported.startswith("twisted.mail"), name)


class FileTests(SynchronousTestCase):
    """The files themselves."""

    def test_no_module_is_too_long(self) -> None:
        for path in files():
            lines = len(path.read_bytes().splitlines())
            # One class a verb: that module is as long as the protocol has verbs.
            limit = MAX_LINES + 100 * (path.name == "commands.py")
            self.assertLessEqual(
                lines, limit, f"{path.name}: look for the second concern in it"
            )

    def test_every_module_says_first_what_it_is_for(self) -> None:
        for path in files():
            self.assertTrue(ast.get_docstring(ast.parse(path.read_bytes())), path.name)

    def test_every_module_but_the_package_says_what_is_in_it(self) -> None:
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

    def test_the_folders_of_the_plugin_are_no_packages(self) -> None:
        """With an __init__.py there, Twisted itself could not be imported."""
        if not (ROOT / "setup.cfg").exists():
            raise SkipTest("these are tests of an installed package")
        files = [path.name for path in (ROOT / "twisted").rglob("*.py")]
        self.assertEqual(files, ["pop3connect_plugin.py"])

    def test_the_types_are_there_for_others(self) -> None:
        self.assertEqual((PACKAGE / "py.typed").read_bytes(), b"")
