"""The errors: what they say, what they carry, and that they survive a copy."""

from __future__ import annotations

import copy
import pickle
from typing import Any

from cryptography import x509
from twisted.trial.unittest import SynchronousTestCase

from pop3connect import errors
from pop3connect.errors import (
    CommandError,
    ConnectError,
    ConnectionLostError,
    DestinationError,
    LoginError,
    POP3Error,
    ProtocolError,
    STLSUnavailableError,
    TimedOutError,
    TLSError,
    UsageError,
    VerificationError,
)

from .support.shows import shows

WHERE: dict[str, Any] = {"server": "pop.example.com:110", "verb": "RETR"}

REFUSED: dict[str, Any] = {"text": "locked", "code": "IN-USE", "retry_after": 900}

# One of each, with all that it can carry but a certificate.
EVERY: list[tuple[POP3Error, dict[str, Any]]] = [
    (POP3Error("message", **WHERE), {}),
    (UsageError("message", **WHERE), {}),
    (ConnectError("message", **WHERE), {}),
    (ConnectionLostError("message", **WHERE), {}),
    (
        TimedOutError("message", phase="reply", seconds=60.0, **WHERE),
        {"phase": "reply", "seconds": 60.0},
    ),
    (TLSError("message", **WHERE), {}),
    (VerificationError("message", **WHERE), {"certificate": None}),
    (STLSUnavailableError("message", **WHERE), {}),
    (ProtocolError("message", **WHERE), {}),
    (CommandError("message", **REFUSED, **WHERE), REFUSED),
    (DestinationError("message", **WHERE), {}),
    (
        LoginError(
            "message", mechanism="X", details={"scope": "pop"}, **REFUSED, **WHERE
        ),
        {"mechanism": "X", "details": {"scope": "pop"}, **REFUSED},
    ),
]

# Self-signed, for no name in particular.
CERTIFICATE = b"""\
-----BEGIN CERTIFICATE-----
MIGtMGGgAwIBAgIBATAFBgMrZXAwADAgFw0yMDAxMDEwMDAwMDBaGA8yMDUwMDEw
MTAwMDAwMFowADAqMAUGAytlcAMhAEbMJih2JOi37q/I0Q56K/HiPB00uC8xUHVZ
FlV3iazAMAUGAytlcANBAH9YMxKBfeK4dEh2qJtAJQYZtWrIPCjaZR34HKUzjN3K
/JqnnA8X7spBTOQQJvBcF93JwFF0t2yoYek+4/aB3QA=
-----END CERTIFICATE-----
"""


class FamilyTests(SynchronousTestCase):
    """Which base classes catch which errors."""

    def test_examples_cover_every_exported_error(self) -> None:
        self.assertEqual(
            sorted(type(error).__name__ for error, _ in EVERY), sorted(errors.__all__)
        )

    def test_every_error_is_a_pop3error(self) -> None:
        for error, _ in EVERY:
            self.assertIsInstance(error, POP3Error)

    def test_specific_errors_are_caught_by_their_base_class(self) -> None:
        for kind, base in [
            (UsageError, ValueError),
            (VerificationError, TLSError),
            (STLSUnavailableError, TLSError),
            (LoginError, CommandError),
        ]:
            self.assertTrue(issubclass(kind, base), kind)

    def test_no_error_has_an_unintended_base_class(self) -> None:
        kinds = [type(error) for error, _ in EVERY]
        related = {
            (kind.__name__, other.__name__)
            for kind in kinds
            for other in kinds
            if issubclass(kind, other) and other not in (kind, POP3Error)
        }
        self.assertEqual(
            related,
            {
                ("VerificationError", "TLSError"),
                ("STLSUnavailableError", "TLSError"),
                ("LoginError", "CommandError"),
            },
        )


class MessageTests(SynchronousTestCase):
    """What is read by people."""

    def test_str_is_server_verb_and_message_where_known(self) -> None:
        for server, verb, text in [
            (None, None, "it broke"),
            ("h:110", None, "h:110: it broke"),
            (None, "RETR", "RETR: it broke"),
            ("h:110", "RETR", "h:110: RETR: it broke"),
        ]:
            error = POP3Error("it broke", server=server, verb=verb)
            self.assertEqual(str(error), text)
            self.assertEqual(error.message, "it broke")

    def test_every_error_carries_the_attributes_it_was_given(self) -> None:
        for error, attributes in EVERY:
            self.assertEqual(str(error), "pop.example.com:110: RETR: message")
            expected = {"message": "message", **WHERE, **attributes}
            carried = {name: getattr(error, name) for name in expected}
            self.assertEqual(carried, expected, type(error))

    def test_errors_have_no_attributes_they_were_not_given(self) -> None:
        """No command, and so no secret, can be reached from an error."""
        for error, attributes in EVERY:
            # A certificate is kept as its octets.
            kept = {{"certificate": "_der"}.get(name, name) for name in attributes}
            known = {"message", "number", "remedy", "option", *WHERE, *kept}
            self.assertEqual(set(vars(error)), known)
            self.assertEqual(error.args, ("message",))

    def test_attributes_not_given_are_none_or_empty(self) -> None:
        for kind in (POP3Error, UsageError, ConnectError, ProtocolError, LoginError):
            error = kind("message")
            self.assertEqual((error.server, error.verb), (None, None))
        login = LoginError("message")
        self.assertEqual(
            (login.text, login.code, login.retry_after, login.mechanism, login.details),
            ("", None, None, None, {}),
        )
        self.assertIs(VerificationError("message").certificate, None)

    def test_server_set_later_appears_in_str(self) -> None:
        error = UsageError("the password is empty")
        error.server = "h:110"
        self.assertEqual(str(error), "h:110: the password is empty")

    def test_the_repr_names_the_kind_and_the_message(self) -> None:
        self.assertEqual(repr(ConnectError("refused")), "ConnectError('refused')")


class TransientTests(SynchronousTestCase):
    """Whether to try again later."""

    def transient(self, code: str | None) -> bool | None:
        return CommandError("message", code=code).transient

    @shows("RFC 3206-01")
    @shows(
        "RFC 3206-02",
        "MUST",
        "SYS/TEMP: try again later. SYS/PERM: stop and report.",
        "``.transient`` is true or false; no further attempt is made.",
    )
    def test_response_code_determines_transient(self) -> None:
        for code, transient in [
            ("IN-USE", True),
            ("LOGIN-DELAY", True),
            ("SYS/TEMP", True),
            ("SYS/PERM", False),
            ("AUTH", False),
            (None, None),
            ("UTF8", None),
            ("SYS", None),
            ("X-NEW", None),
            ("X-NEW/AUTH", None),
        ]:
            self.assertIs(self.transient(code), transient, code)

    @shows("RFC 2449-07")
    def test_unknown_sublevel_of_a_code_counts_as_its_parent(self) -> None:
        """RFC 2449 section 8: the text after a "/" may be ignored."""
        for code, transient in [
            ("SYS/TEMP/DISK", True),
            ("SYS/PERM/DISK", False),
            ("AUTH/EXPIRED", False),
            ("IN-USE/BY-IMAP", True),
            ("LOGIN-DELAY/900", True),
        ]:
            self.assertIs(self.transient(code), transient, code)

    def test_code_that_only_shares_a_prefix_is_unknown(self) -> None:
        for code in ("AUTHORITY", "SYS/TEMPLATE", "SYS/PERMIT", "IN-USEX"):
            self.assertIs(self.transient(code), None, code)

    def test_login_error_with_in_use_code_is_transient(self) -> None:
        self.assertIs(LoginError("message", code="IN-USE").transient, True)


class CopyTests(SynchronousTestCase):
    """Errors are copied: to other processes, and for each command they affect."""

    def same(self, one: POP3Error, two: POP3Error) -> None:
        self.assertIsNot(one, two)
        self.assertIs(type(one), type(two))
        self.assertEqual(one.args, two.args)
        self.assertEqual(vars(one), vars(two))
        self.assertEqual(str(one), str(two))

    def test_pickled_errors_are_equal_to_the_original(self) -> None:
        for error, _ in EVERY:
            for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
                self.same(error, pickle.loads(pickle.dumps(error, protocol)))

    def test_copied_errors_are_equal_to_the_original(self) -> None:
        for error, _ in EVERY:
            self.same(error, copy.copy(error))
            self.same(error, copy.deepcopy(error))

    def test_certificate_survives_copy_and_pickle(self) -> None:
        certificate = x509.load_pem_x509_certificate(CERTIFICATE)
        error = VerificationError("message", certificate=certificate, **WHERE)
        for twin in (
            copy.copy(error),
            copy.deepcopy(error),
            pickle.loads(pickle.dumps(error)),
        ):
            self.assertEqual(twin.certificate, certificate)
            self.assertEqual(str(twin), str(error))

    def test_about_returns_a_copy_with_another_verb(self) -> None:
        for error, _ in EVERY:
            cause = OSError("broken pipe")
            error = copy.copy(error)
            error.__cause__ = cause
            twin = error.about("STAT")
            self.assertIs(type(twin), type(error))
            self.assertEqual(twin.verb, "STAT")
            self.assertIs(twin.__cause__, cause)
            self.assertEqual({**vars(twin), "verb": "RETR"}, vars(error))
            # The one it came from is as it was.
            self.assertEqual(error.verb, "RETR")
            self.assertEqual(str(twin), "pop.example.com:110: STAT: message")

    def test_about_none_returns_a_copy_without_verb(self) -> None:
        twin = ConnectionLostError("message", **WHERE).about(None)
        self.assertEqual(str(twin), "pop.example.com:110: message")

    def test_about_returns_a_copy_without_traceback(self) -> None:
        """A traceback is the way of one error, and not of its twins."""
        error = ConnectionLostError("message", **WHERE)
        try:
            raise error
        except ConnectionLostError:
            self.assertIs(error.about("STAT").__traceback__, None)
