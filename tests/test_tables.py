"""
The tables of `docs/` name tests that exist; CI checks too that each was run.
"""

from __future__ import annotations

from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from .support.tables import exists, main, named, outcomes

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
            self.assertEqual(main(good), 0)
            self.assertEqual(main(good, self.report("OK")), 0)
            self.assertEqual(main(good, self.report("SKIPPED")), 1)
            self.assertEqual(main(self.page(), self.report("OK")), 1)
            self.assertEqual(main(self.page(f"{HERE}.test_of_another_day")), 1)
        self.assertIn("page.rst: there is no test", said.getvalue())
