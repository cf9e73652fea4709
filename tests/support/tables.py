"""
Makes the tables of `docs/` whose rows are at the tests (`tests.support.shows`), and
checks the tests that the pages name.

    python -m tests.support.tables docs trial.log
    python -m tests.support.tables --write docs

The first form checks that the tables are those that the marks make, and that each test
named on a page exists and has passed; ``trial.log`` is trial's report of all tests.
Without it, only the tables and the names are checked.  The exit status is 1 if
something is wrong.  The second form first writes the tables.

A table is made where a page has a comment with the tables that it shows, and the head
of a ``list-table`` behind it::

    .. rows: RFC 1939

    .. list-table::
       :header-rows: 1

       * - Id
         - Level
         - Rule
         - How it is met
         - Tests

The last column is that of the tests.  If the first is "Id", it is that of the row.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from unittest import TestCase

import attrs

from .shows import Mark, marks

__all__ = [
    "Row",
    "TableError",
    "exists",
    "main",
    "marked",
    "named",
    "outcomes",
    "render",
    "rows",
]

_NAME = re.compile(r"``(tests(?:\.\w+)+\.\w+Tests?\.\w+)``")
# A report is a tree: modules, classes, tests, each indented by two more blanks.
_TEST = re.compile(r"    (\w+) \.\.\..*\[(\w+)\]$")

_ROW = re.compile(r"(.+?)[-.](\d+)")
_TABLE = re.compile(
    r"^\.\. rows: (?P<tables>.+)\n\n"
    r"\.\. list-table::\n(?:   :.+\n)+\n"
    r"   \* - .*\n(?:     .*\n)+"
    r"(?P<rows>(?:   .*\n)*)",
    re.MULTILINE,
)
_COLUMN = re.compile(r"^   (?:\*| ) - (.+)$", re.MULTILINE)

# The pages have lines of at most 100 columns, and cells are indented by 7.
_WIDTH = 100 - 7


class TableError(Exception):
    """
    The marks do not make a table.
    """


@attrs.frozen
class Row:
    """
    One row of a table.

    @ivar table: The table, such as ``RFC 1939`` or ``quirk 4``.
    @ivar number: Its place there.
    @ivar name: The table and the number, as the marks have them.
    @ivar cells: The cells of the row, without that of the tests.
    @ivar tests: The tests that show it; the one that has the cells is the first.
    """

    table: str
    number: int
    name: str
    cells: tuple[str, ...]
    tests: tuple[str, ...]


def marked() -> Iterator[tuple[str, Mark]]:
    """
    Yield the marks of all tests, each with the name of its test.
    """
    package = importlib.import_module("tests")
    for info in pkgutil.walk_packages(package.__path__, "tests."):
        if not info.name.rpartition(".")[2].startswith("test_"):
            continue
        module = importlib.import_module(info.name)
        for case in vars(module).values():
            if not (isinstance(case, type) and issubclass(case, TestCase)):
                continue
            # A test case that was imported from another module is found there.
            if case.__module__ != info.name:
                continue
            for test in dir(case):
                if test.startswith("test"):
                    for mark in marks(getattr(case, test)):
                        yield f"{info.name}.{case.__name__}.{test}", mark


def rows(found: Iterable[tuple[str, Mark]]) -> dict[str, list[Row]]:
    """
    Return the rows of each table, in their order.

    @raise TableError: A row has no cells, or other cells at another test; or its name
        has no number.
    """
    cells: dict[str, tuple[str, ...]] = {}
    tests: dict[str, list[str]] = {}
    for test, mark in found:
        names = tests.setdefault(mark.row, [])
        if not mark.cells:
            names.append(test)
            continue
        if cells.setdefault(mark.row, mark.cells) != mark.cells:
            raise TableError(f"{mark.row}: {names[0]} and {test} have different cells")
        names.insert(0, test)
    tables: dict[str, list[Row]] = {}
    for name, names in tests.items():
        place = _ROW.fullmatch(name)
        if place is None:
            raise TableError(f"{name!r} of {names[0]} is not a table with a number")
        if name not in cells:
            raise TableError(f"{name}: no test has its cells; {names[0]} names it")
        row = Row(place[1], int(place[2]), name, cells[name], tuple(names))
        tables.setdefault(row.table, []).append(row)
    for table in tables.values():
        table.sort(key=lambda row: row.number)
    return tables


def _lines(row: Row, columns: Sequence[str]) -> Iterator[str]:
    """
    Yield the lines of a row in a ``list-table``.
    """
    cells = list(row.cells)
    if columns[0] == "Id":
        cells.insert(0, row.name.removeprefix("RFC "))
    if len(cells) + 1 != len(columns):
        raise TableError(
            f"{row.name}: {row.tests[0]} has {len(row.cells)} cells, which do not fit "
            f"the columns {', '.join(columns)}"
        )
    bullet = "   * - "
    for cell in cells:
        lines = textwrap.wrap(
            cell, _WIDTH, break_long_words=False, break_on_hyphens=False
        )
        yield bullet + lines[0]
        bullet = "     - "
        yield from (f"       {line}" for line in lines[1:])
    for test in row.tests:
        yield f"{bullet}| ``{test}``"
        bullet = "       "


def render(page: str, tables: dict[str, list[Row]]) -> str:
    """
    Return the page with the rows of its tables.

    @raise TableError: A table has no rows, or a row has too few or too many cells.
    """

    def replace(match: re.Match[str]) -> str:
        head = page[match.start() : match.start("rows")]
        columns = _COLUMN.findall(head)
        lines: list[str] = []
        for name in match["tables"].split(", "):
            if name not in tables:
                raise TableError(f"no test shows a row of {name}")
            for row in tables[name]:
                lines += _lines(row, columns)
        return head + "".join(f"{line}\n" for line in lines)

    return _TABLE.sub(replace, page)


def _unshown(folder: Path, tables: Iterable[str]) -> list[str]:
    """
    Return the tables that are on no page.
    """
    shown: set[str] = set()
    for page in folder.rglob("*.rst"):
        for match in _TABLE.finditer(page.read_text("utf-8")):
            shown.update(match["tables"].split(", "))
    return [table for table in tables if table not in shown]


def named(folder: Path) -> dict[str, list[str]]:
    """
    Return the tests that the pages name, each with the pages that name it.
    """
    names: dict[str, list[str]] = {}
    for page in sorted(folder.rglob("*.rst")):
        for name in _NAME.findall(page.read_text("utf-8")):
            names.setdefault(name, []).append(page.name)
    return names


def exists(name: str) -> bool:
    """
    Return whether there is such a test.
    """
    module, case, test = name.rsplit(".", 2)
    try:
        found = getattr(importlib.import_module(module), case)
    except (ImportError, AttributeError):
        return False
    return test.startswith("test") and callable(getattr(found, test, None))


def outcomes(report: str) -> dict[str, str]:
    """
    Return the outcome of each test: ``OK``, ``SKIPPED``, ``FAIL``, ...
    """
    module = case = ""
    found: dict[str, str] = {}
    for line in report.splitlines():
        if re.fullmatch(r"tests(\.\w+)+", line):
            module = line
        elif re.fullmatch(r"  \w+", line):
            case = line.strip()
        elif test := _TEST.match(line):
            found[f"{module}.{case}.{test[1]}"] = test[2]
    return found


def _stale(
    folder: Path, found: Iterable[tuple[str, Mark]], write: bool
) -> Iterator[str]:
    """
    Yield what is wrong with the tables; if ``write`` is true, write them first.
    """
    try:
        tables = rows(found)
        for page in sorted(folder.rglob("*.rst")):
            old = page.read_text("utf-8")
            new = render(old, tables)
            if new == old:
                continue
            if write:
                page.write_text(new, "utf-8")
                print(f"{page}: written")
            else:
                yield (
                    f"{page}: its tables are not those of the marks on the tests; "
                    f"run python -m tests.support.tables --write {folder}"
                )
        for table in _unshown(folder, tables):
            yield f"{table}: {tables[table][0].tests[0]} shows it, and no page does"
    except TableError as error:
        yield str(error)


def _problems(folder: Path, report: str | None) -> Iterator[str]:
    names = named(folder)
    if not names:
        yield f"{folder}: no page names a test"
    found = None if report is None else outcomes(report)
    for name, pages in names.items():
        where = ", ".join(dict.fromkeys(pages))
        if not exists(name):
            yield f"{where}: there is no test {name}"
        elif found is not None and found.get(name) != "OK":
            yield f"{where}: {name} was not passed but {found.get(name, 'not run')}"


def main(*args: str, found: Callable[[], Iterable[tuple[str, Mark]]] = marked) -> int:
    """
    Print what is wrong, and return the exit status.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.support.tables")
    parser.add_argument("--write", action="store_true", help="write the tables")
    parser.add_argument("folder", type=Path, help="the folder of the pages")
    parser.add_argument("report", nargs="?", help="trial's report of all tests")
    options = parser.parse_args(args)
    folder: Path = options.folder
    text = None
    if options.report is not None:
        text = Path(options.report).read_text("utf-8", "replace")
    problems = [
        *_stale(folder, found(), options.write),
        *_problems(folder, text),
    ]
    for problem in problems:
        print(problem)
    if not problems:
        print(f"all {len(named(folder))} tests that the pages name are there")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
