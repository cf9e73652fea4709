"""
Checks that each test named in the tables of `docs/` exists, and has passed.

    python -m tests.support.tables docs trial.log

``trial.log`` is trial's report of all tests.  Without it, only the names are checked.
The exit status is 1 if there is no such test, or if it has not passed.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = ["exists", "main", "named", "outcomes"]

_NAME = re.compile(r"``(tests(?:\.\w+)+\.\w+Tests?\.\w+)``")
# A report is a tree: modules, classes, tests, each indented by two more blanks.
_TEST = re.compile(r"    (\w+) \.\.\..*\[(\w+)\]$")


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


def main(folder: str, report: str | None = None) -> int:
    """
    Print what is wrong, and return the exit status.
    """
    text = None if report is None else Path(report).read_text("utf-8", "replace")
    problems = list(_problems(Path(folder), text))
    for problem in problems:
        print(problem)
    if not problems:
        print(f"all {len(named(Path(folder)))} tests that the tables name are there")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
