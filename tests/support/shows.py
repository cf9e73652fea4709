"""
The mark of a test that shows what a row of a table in `docs/` says.

The rows of `docs/conformance.rst`, `docs/quirks.rst`, `docs/attacks.rst` and
`docs/certificates.rst` are written once, at a test:

    @shows("quirk 4.2", "``+ERR``", "It counts as ``-ERR``.")
    def test_plus_err_reply_is_a_command_error(self) -> None: ...

A further test of the same row names the row alone: ``@shows("quirk 4.2")``.
`tests.support.tables` writes the rows into the pages, with the names of their tests.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import attrs

__all__ = ["Mark", "marks", "shows"]

_Test = TypeVar("_Test", bound=Callable[..., Any])


@attrs.frozen
class Mark:
    """
    One mark of a test.

    @ivar row: The row, by its table and its number there, such as ``quirk 4.2``.
    @ivar cells: The cells of the row, in reStructuredText, without that of the tests;
        empty where another test has them.
    """

    row: str
    cells: tuple[str, ...] = ()


def shows(row: str, *cells: str) -> Callable[[_Test], _Test]:
    """
    Return a decorator that marks a test as one that shows the row.

    Put it above other decorators of the test.
    """

    def mark(test: _Test) -> _Test:
        test.__dict__["shown"] = (Mark(row, cells), *marks(test))
        return test

    return mark


def marks(test: object) -> tuple[Mark, ...]:
    """
    Return the marks of a test.
    """
    return getattr(test, "shown", ())
