"""
The tests of the conversation once more, with nobody who listens to it.

With a status procedure each status line is read and told.  Without one, and so in most
sessions, short messages are read whole, in a way of their own (`POP3ClientProtocol`).
Whatever holds of the one has to hold of the other.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any
from unittest import TestSuite

from twisted.trial.runner import TestLoader

from .. import test_handle, test_quirks
from ..support.memory import SessionTestCase
from . import test_connection, test_protocol
from . import test_prefetch as test_fetch

MODULES = (test_connection, test_fetch, test_handle, test_protocol, test_quirks)

ABOUT_STATUS = {
    "test_greeting_text_is_available_on_the_handle",
    "test_control_characters_are_escaped",
    "test_data_after_session_end_is_ignored",
    "test_status_procedure_receives_each_line_without_password",
    "test_long_status_line_is_truncated",
}
"""These look at what the status procedure is told."""


class Unheard:
    """
    Mixed into a test case.
    """

    @property
    def status_procedure(self) -> None:
        return None


def cases(module: ModuleType) -> list[type[SessionTestCase]]:
    return [
        case
        for case in vars(module).values()
        if isinstance(case, type)
        and issubclass(case, SessionTestCase)
        and case.__module__ == module.__name__
    ]


def test_suite() -> TestSuite:
    suite = TestSuite()
    loader = TestLoader()
    for module in MODULES:
        for case in cases(module):
            unheard: Any = type(case.__name__, (Unheard, case), {})
            unheard.__module__ = __name__
            for name in map("test".__add__, loader.getTestCaseNames(case)):
                if name not in ABOUT_STATUS:
                    suite.addTest(unheard(name))
    return suite
