"""
Logging in to every real server, in every protection mode, with ``auth="auto"`` and with
each mechanism that the server offers.

Each login has a test of its own, generated from the rows of its server, and a row in
`docs/logging-in.rst`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase

from pop3connect import Connector, Handle, LoginError, Secure, STLSUnavailableError

from ..support import courier, cyrus, dovecot, mailutils, solid
from ..support.tables import named
from ..support.twisted_pop3 import TwistedPOP3

MAIL = b"Subject: hello\r\n\r\nworld\r\n"

DOCS = Path(__file__).absolute().parent.parent.parent / "docs"

NONE, TLS, STLS = Secure.NONE, Secure.TLS, Secure.STLS

WHERE = {NONE: "without_tls", TLS: "over_tls", STLS: "over_stls"}

_LOGIN = re.compile("C: (APOP|AUTH|PASS) ")


@attrs.frozen
class Login:
    """
    One login.

    @ivar secure: The protection mode.
    @ivar mechanism: The mechanism that the session is logged in with.
    @ivar auto: Whether ``auth="auto"`` chooses it; otherwise it is asked for.
    @ivar secret: Whether the account has an APOP secret, on servers with accounts that
        have none.
    """

    secure: Secure
    mechanism: str
    auto: bool = False
    secret: bool = False

    @property
    def test(self) -> str:
        """
        The name of its test.
        """
        mechanism = self.mechanism.lower().replace("-", "_")
        where = WHERE[self.secure]
        if not self.auto:
            return f"test_{mechanism}_logs_in_{where}"
        account = "_with_an_apop_secret" if self.secret else ""
        return f"test_auto_logs_in_by_{mechanism}_{where}{account}"


def each(secure: Secure, auto: str, *mechanisms: str) -> Iterator[Login]:
    """
    The login by ``auth="auto"``, and one by each mechanism, in this mode.
    """
    yield Login(secure, auto, auto=True)
    for mechanism in mechanisms:
        yield Login(secure, mechanism, secret=mechanism == "APOP")


class LoginTestCase(TestCase):
    """
    A test case with a server, and with a test for each of its logins.
    """

    timeout = 60

    #: Which logins the server has.
    logins: tuple[Login, ...] = ()

    def serve(self, login: Login) -> Any:
        raise AssertionError(f"{type(self).__name__} has no server")

    def account(self, server: Any, login: Login) -> Any:
        return server.add_user([MAIL])

    def connector(self, server: Any, secure: Secure, auth: str) -> Connector:
        port = server.tls_port if secure is TLS else server.port
        return Connector(
            f"localhost:{port}", secure=secure, cacerts=server.cacerts, auth=auth
        )

    async def open(self, connector: Connector, *account: Any) -> Handle:
        handle = await connector.connect(*account)

        def abort() -> Deferred[None]:
            return handle.abort()

        self.addCleanup(abort)
        return handle

    async def check(self, login: Login) -> None:
        """
        Log in twice by one Connector, which remembers TLS sessions and what worked.
        """
        server = self.serve(login)
        account = self.account(server, login)
        auth = "auto" if login.auto else login.mechanism
        connector = self.connector(server, login.secure, auth)
        for _ in range(2):
            handle = await self.open(connector, account.user, account.password)
            self.assertEqual(handle.login.mechanism, login.mechanism)
            self.assertEqual(handle.tls is not None, login.secure is not NONE)
            self.assertTrue((await handle.retrieve(1)).endswith(b"\r\nworld\r\n"))
            await handle.disconnect()

    async def check_wrong_password(self, login: Login) -> None:
        """
        The server sees a wrong password at most twice.
        """
        server = self.serve(login)
        account = self.account(server, login)
        heard: list[str] = []
        connector = self.connector(server, login.secure, "auto")
        with self.assertRaises(LoginError):
            await self.open(connector, account.user, "wrong", heard.append)
        tried = [text for text in heard if _LOGIN.match(text)]
        self.assertIn(len(tried), (1, 2), tried)


Case = TypeVar("Case", bound=type[LoginTestCase])


def generated(logins: Iterable[Login]) -> Callable[[Case], Case]:
    """
    Give a test case a test for each of these logins, and one with a wrong password for
    each that ``auth="auto"`` makes.
    """

    def add(case: Case) -> Case:
        case.logins = tuple(logins)
        for login in case.logins:
            _add(case, login.test, login, "check")
            if login.auto and not login.secret:
                where = WHERE[login.secure]
                name = f"test_wrong_password_is_refused_within_two_attempts_{where}"
                _add(case, name, login, "check_wrong_password")
        return case

    return add


def _add(case: type[LoginTestCase], name: str, login: Login, check: str) -> None:
    async def test(self: LoginTestCase) -> None:
        await getattr(self, check)(login)

    assert not hasattr(case, name), name
    test.__name__ = name
    test.__qualname__ = f"{case.__qualname__}.{name}"
    setattr(case, name, test)


SCRAM = ("SCRAM-SHA-1", "SCRAM-SHA-256")
SCRAM_PLUS = ("SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS")


@generated(
    [
        *each(NONE, SCRAM[1], "USER", "APOP", "PLAIN", "LOGIN", "CRAM-MD5", *SCRAM),
        *each(TLS, SCRAM[1], "USER", "APOP", "PLAIN", "LOGIN", "CRAM-MD5", *SCRAM),
        *each(STLS, SCRAM[1], "USER", "PLAIN", "LOGIN", "CRAM-MD5", *SCRAM),
    ]
)
class DovecotTests(LoginTestCase):
    """
    Dovecot
    """

    skip = dovecot.skip_reason()

    def serve(self, login: Login) -> Any:
        return dovecot.shared()


@generated(
    [
        *each(NONE, "USER", "USER", "PLAIN", "LOGIN"),
        *each(TLS, "PLAIN", "USER", "PLAIN", "LOGIN"),
        *each(STLS, "PLAIN", "USER", "PLAIN", "LOGIN"),
    ]
)
class CourierTests(LoginTestCase):
    """
    Courier
    """

    skip = courier.PACKAGES.skip_reason()

    def serve(self, login: Login) -> Any:
        return courier.shared()


PASSWORDS = ("PLAIN", "LOGIN", "CRAM-MD5", *SCRAM)


class CyrusTestCase(LoginTestCase):
    """
    A Cyrus with one version of TLS.
    """

    skip = cyrus.PACKAGES.skip_reason()

    version = ""

    def serve(self, login: Login) -> Any:
        return cyrus.shared(tls_versions=self.version)

    async def open(self, connector: Connector, *account: Any) -> Handle:
        handle = await super().open(connector, *account)
        if handle.tls is not None:
            version = handle.tls.version.lower().replace(".", "_")
            self.assertEqual(version, self.version.replace("tls", "tlsv"))
        return handle


@generated(
    [
        *each(NONE, SCRAM[1], "USER", "APOP", *PASSWORDS),
        *each(TLS, SCRAM_PLUS[1], "USER", "APOP", *PASSWORDS, *SCRAM_PLUS),
        *each(STLS, SCRAM_PLUS[1], "USER", *PASSWORDS, *SCRAM_PLUS),
    ]
)
class CyrusTests(CyrusTestCase):
    """
    Cyrus, with TLS 1.3.
    """

    version = "tls1_3"


@generated(
    [
        *each(TLS, SCRAM_PLUS[1], *SCRAM, *SCRAM_PLUS),
        *each(STLS, SCRAM_PLUS[1], *SCRAM, *SCRAM_PLUS),
    ]
)
class CyrusTLS12Tests(CyrusTestCase):
    """
    Cyrus, with TLS 1.2: what a login is bound to differs.
    """

    version = "tls1_2"


class SecretTestCase(LoginTestCase):
    """
    A server that sends a timestamp to every client; an account has an APOP secret only
    if the login says so.
    """

    def account(self, server: Any, login: Login) -> Any:
        return server.add_user([MAIL], apop=login.secret)


@generated(
    [
        *each(NONE, "USER", "USER", "APOP"),
        Login(NONE, "APOP", auto=True, secret=True),
        *each(TLS, "USER", "USER", "APOP"),
        *each(STLS, "USER", "USER"),
    ]
)
class MailutilsTests(SecretTestCase):
    """
    GNU Mailutils
    """

    skip = mailutils.PACKAGES.skip_reason()

    def serve(self, login: Login) -> Any:
        return mailutils.shared()


@generated(
    [
        *each(NONE, "USER", "USER", "APOP"),
        Login(NONE, "APOP", auto=True, secret=True),
    ]
)
class SolidTests(SecretTestCase):
    """
    solid-pop3d, which has no TLS.
    """

    skip = solid.PACKAGES.skip_reason()

    def serve(self, login: Login) -> Any:
        return solid.shared()

    async def test_stls_is_an_error_before_the_user_is_sent(self) -> None:
        await check_no_stls(self, solid.shared())


@generated([*each(NONE, "USER", "USER"), *each(TLS, "USER", "USER")])
class TwistedTests(LoginTestCase):
    """
    Twisted's own server, with passwords that it cannot compute digests of: its SASL
    list is empty.  It has no STLS.
    """

    def serve(self, login: Login) -> Any:
        return TwistedPOP3(self)

    async def test_stls_is_an_error_before_the_user_is_sent(self) -> None:
        await check_no_stls(self, TwistedPOP3(self))


@generated(
    [
        *each(NONE, "CRAM-MD5", "USER", "CRAM-MD5"),
        *each(TLS, "USER", "USER", "CRAM-MD5"),
    ]
)
class TwistedDigestTests(LoginTestCase):
    """
    Twisted's own server, with passwords in clear text, and CRAM-MD5.

    Its APOP is not a row: it refuses every digest, because it compares bytes with text.
    """

    def serve(self, login: Login) -> Any:
        return TwistedPOP3(self, digests=True)


async def check_no_stls(case: LoginTestCase, server: Any) -> None:
    account = server.add_user([MAIL])
    heard: list[str] = []
    with case.assertRaises(STLSUnavailableError):
        await case.open(
            case.connector(server, STLS, "auto"),
            account.user,
            account.password,
            heard.append,
        )
    case.assertEqual([text for text in heard if account.user in text], [])


class TableTests(SynchronousTestCase):
    """
    The table in `docs/logging-in.rst`
    """

    def test_docs_have_a_row_for_each_login_and_no_other(self) -> None:
        rows = {
            name
            for name, pages in named(DOCS).items()
            if name.startswith(f"{__name__}.") and "logging-in.rst" in pages
        }
        cases = [
            case
            for case in globals().values()
            if isinstance(case, type) and issubclass(case, LoginTestCase)
        ]
        self.assertEqual(
            rows,
            {
                f"{__name__}.{case.__name__}.{login.test}"
                for case in cases
                for login in case.logins
            },
        )
