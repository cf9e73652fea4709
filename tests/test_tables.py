"""
The tables of `docs/` are those that the marks on the tests make, and each test that a
page names exists; CI checks too that each has passed.
"""

from __future__ import annotations

import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from .support.shows import Mark, marks, shows
from .support.tables import (
    Row,
    TableError,
    exists,
    main,
    marked,
    named,
    outcomes,
    render,
    rows,
)

DOCS = Path(__file__).absolute().parent.parent / "docs"

HERE = "tests.test_tables.TablesTests"

REPORT = """\
tests.test_tables
  TablesTests
    test_that_went_well ...                                                [OK]
    test_that_talks ... what it says
                                                                         [FAIL]
    test_left_out ...                                                 [SKIPPED]
  OtherTests
    test_that_went_well ...                                             [ERROR]

===============================================================================
"""


class TablesTests(SynchronousTestCase):
    """
    `tests.support.tables`
    """

    def test_every_test_named_in_the_docs_exists(self) -> None:
        names = named(DOCS)
        self.assertIn(["conformance.rst"], names.values())
        self.assertEqual([name for name in names if not exists(name)], [])

    def test_exists_is_true_only_for_names_of_tests(self) -> None:
        self.assertTrue(exists(f"{HERE}.test_exists_is_true_only_for_names_of_tests"))
        for name in (
            f"{HERE}.test_of_another_day",
            f"{HERE}.assertEqual",
            "tests.test_tables.NoTests.test_x",
            "tests.no_module.NoTests.test_x",
        ):
            self.assertFalse(exists(name), name)

    def test_trial_report_is_parsed_into_outcomes(self) -> None:
        self.assertEqual(
            outcomes(REPORT),
            {
                f"{HERE}.test_that_went_well": "OK",
                f"{HERE}.test_left_out": "SKIPPED",
                "tests.test_tables.OtherTests.test_that_went_well": "ERROR",
            },
        )

    def page(self, *names: str) -> str:
        folder = Path(self.mktemp())
        folder.mkdir()
        text = "".join(f"``{name}``\n" for name in names)
        (folder / "page.rst").write_text(text, "utf-8")
        return str(folder)

    def report(self, outcome: str) -> str:
        path = Path(self.mktemp())
        name = "test_exists_is_true_only_for_names_of_tests"
        path.write_text(
            f"tests.test_tables\n  TablesTests\n    {name} ...   [{outcome}]\n", "utf-8"
        )
        return str(path)

    def test_exit_status_is_1_if_a_named_test_is_missing_or_skipped(self) -> None:
        good = self.page(f"{HERE}.test_exists_is_true_only_for_names_of_tests")
        with redirect_stdout(StringIO()) as said:
            for status, *args in (
                (0, good),
                (0, good, self.report("OK")),
                (1, good, self.report("SKIPPED")),
                (1, self.page(), self.report("OK")),
                (1, self.page(f"{HERE}.test_of_another_day")),
            ):
                self.assertEqual(main(*args, found=list), status, args)
        self.assertIn("page.rst: there is no test", said.getvalue())


PAGE = """\
Before it.

.. rows: RFC 1

.. list-table::
   :header-rows: 1
   :widths: 10 90

   * - Id
     - Rule
     - Tests

After it.
"""

WRITTEN = PAGE.replace(
    "     - Tests\n",
    """\
     - Tests
   * - 1-02
     - Two words.
     - | ``tests.test_a.ATests.test_b``
       | ``tests.test_a.ATests.test_a``
   * - 1-10
     - Ten.
     - | ``tests.test_a.ATests.test_c``
""",
)

FOUND = [
    ("tests.test_a.ATests.test_c", Mark("RFC 1-10", ("Ten.",))),
    ("tests.test_a.ATests.test_a", Mark("RFC 1-02")),
    ("tests.test_a.ATests.test_b", Mark("RFC 1-02", ("Two words.",))),
]


class MarkTests(SynchronousTestCase):
    """
    `tests.support.shows`
    """

    def test_marks_of_a_test_are_in_the_order_of_their_lines(self) -> None:
        @shows("RFC 1-02", "Two words.")
        @shows("quirk 1.1")
        def test() -> None: ...

        self.assertEqual(
            marks(test), (Mark("RFC 1-02", ("Two words.",)), Mark("quirk 1.1"))
        )

    def test_marks_are_found_with_the_test_case_that_runs_them(self) -> None:
        found = [
            test
            for test, mark in marked()
            if mark.row == "RFC 1939-09" and "test_disconnect_deletes" in test
        ]
        # Those of Courier inherit the tests of Dovecot.
        self.assertEqual(
            found,
            [
                f"tests.interop.test_{server}.DeleteTests"
                ".test_disconnect_deletes_and_returns_the_marked_messages"
                for server in ("courier", "dovecot")
            ],
        )


class RowTests(SynchronousTestCase):
    """
    Rows from marks, and a page from rows.
    """

    def test_tables_in_the_docs_are_those_of_the_marks(self) -> None:
        with redirect_stdout(StringIO()) as said:
            self.assertEqual(main(str(DOCS)), 0, said.getvalue())

    def test_rows_are_in_the_order_of_their_numbers(self) -> None:
        self.assertEqual(
            rows(FOUND),
            {
                "RFC 1": [
                    Row(
                        "RFC 1",
                        2,
                        "RFC 1-02",
                        ("Two words.",),
                        ("tests.test_a.ATests.test_b", "tests.test_a.ATests.test_a"),
                    ),
                    Row(
                        "RFC 1",
                        10,
                        "RFC 1-10",
                        ("Ten.",),
                        ("tests.test_a.ATests.test_c",),
                    ),
                ]
            },
        )

    def test_page_gets_the_rows_whatever_it_had(self) -> None:
        self.assertEqual(render(PAGE, rows(FOUND)), WRITTEN)
        self.assertEqual(render(WRITTEN, rows(FOUND)), WRITTEN)
        self.assertEqual(render(WRITTEN.replace("Ten", "9"), rows(FOUND)), WRITTEN)

    def test_long_cell_is_wrapped_at_100_columns(self) -> None:
        words = ("``a-b`` " * 40).strip()
        page = render(
            PAGE, rows([("tests.test_a.ATests.test_a", Mark("RFC 1-1", (words,)))])
        )
        lines = [line for line in page.splitlines() if "``a-b``" in line]
        self.assertEqual([len(line) for line in lines], [94, 94, 94, 62])
        self.assertEqual([line[:8] for line in lines], ["     - `", *["       `"] * 3])

    def test_marks_that_make_no_table_are_errors_that_name_them(self) -> None:
        for text, *found in (
            ("RFC 1-02: no test has its cells; tests.test_a.ATests.test_a", FOUND[1]),
            (
                "RFC 1-02: tests.test_a.ATests.test_b and tests.x have different",
                FOUND[2],
                ("tests.x", Mark("RFC 1-02", ("Three words.",))),
            ),
            (
                "'RFC' of tests.x is not a table with a number",
                ("tests.x", Mark("RFC", ("a",))),
            ),
        ):
            error = self.assertRaises(TableError, rows, found)
            self.assertIn(text, str(error))

    def test_page_without_rows_or_with_other_columns_is_an_error(self) -> None:
        error = self.assertRaises(TableError, render, PAGE, {})
        self.assertEqual(str(error), "no test shows a row of RFC 1")
        page = PAGE.replace("     - Rule\n", "")
        error = self.assertRaises(TableError, render, page, rows(FOUND))
        self.assertIn("RFC 1-02: tests.test_a.ATests.test_b has 1 cells", str(error))

    def run_main(self, page: str, *options: str) -> tuple[int, str]:
        """Return the exit status, and the output."""
        good = "test_page_is_written_only_when_asked_for"
        found = [(f"tests.test_tables.RowTests.{good}", Mark("RFC 1-1", ("Text.",)))]
        with redirect_stdout(StringIO()) as said:
            return main(*options, page, found=lambda: found), said.getvalue()

    def test_page_is_written_only_when_asked_for(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        page = folder / "page.rst"
        page.write_text(PAGE, "utf-8")
        status, said = self.run_main(str(folder))
        self.assertEqual(status, 1)
        self.assertIn(f"run python -m tests.support.tables --write {folder}", said)
        self.assertEqual(page.read_text("utf-8"), PAGE)
        status, said = self.run_main(str(folder), "--write")
        self.assertEqual(status, 0, said)
        self.assertIn("     - Text.\n", page.read_text("utf-8"))
        self.assertEqual(self.run_main(str(folder))[0], 0)

    def test_table_that_no_page_shows_is_an_error(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "page.rst").write_text(WRITTEN.replace("rows: ", "x: "), "utf-8")
        status, said = self.run_main(str(folder))
        self.assertEqual(status, 1)
        self.assertIn("RFC 1: tests.test_tables.RowTests.", said)


class ComparisonTests(SynchronousTestCase):
    """
    ``comparison.rst``
    """

    def test_every_feature_compared_is_one_that_a_test_shows(self) -> None:
        shown = {row.cells[0] for row in rows(marked())["feature 1"]}
        page = (DOCS / "comparison.rst").read_text("utf-8")
        for title in ("Libraries", "Programs"):
            section = page.partition(f"\n{title}\n==")[2].partition("\n==")[0]
            header, *features = re.findall(r"(?m)^   \* - (.+)$", section)
            self.assertEqual(header, "Feature")
            self.assertGreater(len(features), 10)
            self.assertEqual([name for name in features if name not in shown], [])
