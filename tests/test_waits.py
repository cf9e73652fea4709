"""What went wrong, and how long that is waited for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pop3connect.errors import (
    CommandError,
    ConnectError,
    ConnectionLostError,
    LoginError,
    POP3Error,
    ProtocolError,
    STLSUnavailableError,
    TimedOutError,
    UsageError,
    VerificationError,
)
from pop3connect.waits import FailureClass, classify, doubled, jittered


class ClassTests(SynchronousTestCase):
    def test_each_error_has_its_class(self) -> None:
        no_password = POP3Error("no password")
        no_password.__cause__ = UsageError("password_file: not there")
        for error, kind in (
            (ConnectError("refused"), FailureClass.CONNECTION),
            (ConnectionLostError("lost"), FailureClass.CONNECTION),
            (TimedOutError("late", phase="reply", seconds=60), FailureClass.CONNECTION),
            (VerificationError("another name"), FailureClass.TLS),
            (STLSUnavailableError("not offered"), FailureClass.TLS),
            (ProtocolError("no reply"), FailureClass.SERVER),
            (CommandError("no"), FailureClass.SERVER),
            (CommandError("no", code="SYS/PERM"), FailureClass.SERVER),
            (CommandError("no", code="IN-USE"), FailureClass.BUSY),
            (LoginError("no", mechanism="USER", code="AUTH"), FailureClass.LOGIN),
            (LoginError("no", mechanism="USER"), FailureClass.LOGIN),
            (LoginError("no", mechanism="USER", code="SYS/TEMP"), FailureClass.BUSY),
            (LoginError("no", mechanism="USER", code="LOGIN-DELAY"), FailureClass.BUSY),
            (LoginError("too many connections"), FailureClass.SERVER),
            (UsageError("no"), FailureClass.LOCAL),
            (no_password, FailureClass.LOCAL),
            (OSError(28, "disk full"), FailureClass.LOCAL),
            (ZeroDivisionError(), FailureClass.LOCAL),
        ):
            self.assertIs(classify(error), kind, error)


class WaitTests(SynchronousTestCase):
    def test_wait_doubles_with_each_failure_up_to_the_longest(self) -> None:
        waits = [doubled(60, times, 300) for times in range(1, 5)]
        self.assertEqual(waits, [60, 120, 240, 300])

    @given(st.integers(1, 10**9), st.floats(0.001, 1e6))
    def test_doubled_wait_never_exceeds_the_longest(
        self, times: int, least: float
    ) -> None:
        self.assertLessEqual(doubled(least, times, 3600), 3600)

    def test_jitter_is_a_twentieth_either_way(self) -> None:
        self.assertEqual([jittered(100, r) for r in (0.0, 0.5, 1.0)], [95, 100, 105])
