"""
A warning is an error of the test in which it was issued.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import pop3connect
from pop3connect import connector

# In a process of its own: here trial would collect the warnings of the inner test.
PROGRAM = """
import builtins, json, sys, warnings
import tests
from twisted.trial.reporter import TestResult
from twisted.trial.unittest import SynchronousTestCase

def errors_of(message, category, filename):
    class Warns(SynchronousTestCase):
        def runTest(self):
            warnings.warn_explicit(message, getattr(builtins, category), filename, 1)

    result = TestResult()
    Warns("runTest").run(result)
    return len(result.errors)

print(json.dumps([errors_of(*case) for case in json.loads(sys.argv[1])]))
"""


class WarningTests(SynchronousTestCase):
    """What the filters of `tests` make of warnings."""

    def errors_of(self, *cases: tuple[str, str, str]) -> list[int]:
        """
        Return for each case the errors of a test that issues this warning.
        """
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, json.dumps(cases)],
            cwd=Path(pop3connect.__file__).parent.parent,
            capture_output=True,
            check=False,
            encoding="utf-8",
            timeout=60,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        errors: list[int] = json.loads(done.stdout)
        return errors

    def test_any_warning_from_pop3connect_is_an_error_of_its_test(self) -> None:
        cases = [
            ("old", category, connector.__file__)
            for category in ("DeprecationWarning", "ResourceWarning", "UserWarning")
        ]
        self.assertEqual(self.errors_of(*cases), [1, 1, 1])

    def test_deprecated_passphrase_callback_is_an_error_of_its_test(self) -> None:
        message = "Context.set_passwd_cb is deprecated."
        case = (message, "DeprecationWarning", connector.__file__)
        self.assertEqual(self.errors_of(case), [1])

    def test_exception_covers_its_message_category_and_file_only(self) -> None:
        message, category = (
            "Passing pyOpenSSL X509 objects is deprecated.",
            "DeprecationWarning",
        )
        twisteds = "/site-packages/twisted/internet/_sslverify.py"
        openssls = "/site-packages/OpenSSL/SSL.py"
        cases = (
            (message, category, twisteds),
            (message, category, openssls),
            (message, category, connector.__file__),
            (message, "UserWarning", twisteds),
            (f"not {message}", category, twisteds),
        )
        self.assertEqual(self.errors_of(*cases), [0, 0, 1, 1, 1])

    def test_file_of_ours_that_is_not_closed_is_an_error_of_its_test(self) -> None:
        message = "unclosed file <_io.FileIO name=9 mode='wb' closefd=True>"
        case = (message, "ResourceWarning", connector.__file__)
        self.assertEqual(self.errors_of(case), [1])
