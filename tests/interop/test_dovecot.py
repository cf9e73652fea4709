"""
Does it work with a server that we did not write?  Against a real Dovecot, over
loopback: what comes back is compared with the files that Dovecot keeps.

Without a Dovecot these tests are skipped, unless POP3CONNECT_REQUIRE_INTEROP is
set to 1.  Every test has a mailbox of its own, so their order does not matter.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import random
import re
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList, gatherResults
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IConsumer, IPushProducer
from twisted.internet.task import deferLater
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from pop3connect import (
    CommandError,
    ConnectError,
    DestinationError,
    Handle,
    LoginError,
    POP3Error,
    Secure,
    STLSUnavailableError,
    TLSError,
    VerificationError,
    connect,
)

from ..support import dovecot
from ..support.shows import shows

HEADERS = b"From: a@example.org\r\nSubject: test\r\n\r\n"

#: Of every size and shape, as they lie on the disk.
VARIED = {
    "headers only": HEADERS,
    "one line": HEADERS + b"Hello\r\n",
    "dots": HEADERS + b".\r\n..\r\n.hidden\r\n...\r\na.\r\n.\r\n",
    "looks like a reply": HEADERS + b"+OK\r\n-ERR [AUTH] no\r\n.\r\n+OK\r\n",
    "empty lines": HEADERS + b"\r\n\r\n\r\n",
    "no headers": b"\r\nHello\r\n",
    "every octet": HEADERS + bytes(range(14, 256)) + b"\r\n",
    "NUL": HEADERS + b"a\0b\0\0\r\n\0.\r\n.\0\r\n",
    "UTF-8": HEADERS + "Grüße, 世界 \U0001f4ec\r\n".encode(),
    "bare CR": HEADERS + b"a\rb\r\r\n\r.\r\n",
    "a line of 2 MB": HEADERS + b"x" * 2_000_000 + b"\r\n",
    "a line of dots": HEADERS + b"." * 100_000 + b"\r\n",
}

#: What no POP3 server can send as it is, and what Dovecot makes of it.
COMPLETED = {
    b"": b"\r\n",
    HEADERS + b"no end": HEADERS + b"no end\r\n",
    HEADERS + b".": HEADERS + b".\r\n",
    HEADERS + b"a\n.\nb\n": HEADERS + b"a\r\n.\r\nb\r\n",
}


def small(count: int) -> list[bytes]:
    """
    Return small messages, each of another size.
    """
    return [
        HEADERS + b"message %d\r\n.%s\r\n" % (number, b"." * number)
        for number in range(1, count + 1)
    ]


def big() -> bytes:
    """
    A message of 5 MB, with many dots at the beginning of a line.
    """
    lines = random.Random(5).choices([b".", b"..", b"." * 70, b"y" * 60], k=100_000)
    content = HEADERS + b"\r\n".join(lines) + b"\r\n"
    return content + b"z" * (5_000_000 - len(content)) + b"\r\n"


class InteropTestCase(TestCase):
    """
    A test case with a Dovecot.
    """

    skip = dovecot.skip_reason()
    timeout = 30

    def setUp(self) -> None:
        self.server: Any = dovecot.shared()

    async def open(
        self,
        mailbox: dovecot.Mailbox,
        secure: Secure = Secure.NONE,
        *,
        at: dovecot.Dovecot | None = None,
        host: str = "localhost",
        **options: Any,
    ) -> Handle:
        """
        Open a session, which will be gone when the test is over.
        """
        server = at or self.server
        port = server.tls_port if secure == Secure.TLS else server.port
        options.setdefault("cacerts", server.cacerts)
        options.setdefault("password", mailbox.password)
        handle = await connect(f"{host}:{port}", mailbox.user, secure=secure, **options)
        self.addCleanup(self._close, handle)
        return handle

    def _close(self, handle: Handle) -> Deferred[None]:
        # No coroutine: the oldest trial that we support would not wait for it.
        return handle.abort()

    async def refusals(
        self, attempts: Iterable[Coroutine[Any, Any, Handle]]
    ) -> list[LoginError]:
        """
        Make these attempts to log in at the same time; all have to be refused.
        """
        results = await DeferredList(
            [Deferred.fromCoroutine(attempt) for attempt in attempts],
            consumeErrors=True,
        )
        for succeeded, result in results:
            self.assertFalse(succeeded)
            self.assertIsInstance(result.value, LoginError)
        return [result.value for _, result in results]

    async def filled(
        self, messages: Sequence[bytes], **options: Any
    ) -> tuple[dovecot.Mailbox, Handle]:
        """
        Open a session on a mailbox with these messages.
        """
        mailbox = self.server.add_user(messages)
        return mailbox, await self.open(mailbox, **options)

    async def logged(
        self, mailbox: dovecot.Mailbox, at: dovecot.Dovecot | None = None
    ) -> list[str]:
        """
        What Dovecot has logged of a user at the door, all of it up to now.
        """
        server = at or self.server
        # It writes with some delay, but in order: when there is a line on one who
        # came later, there are those on all before.
        later = server.add_user()
        await self.open(later, at=server)
        while f"Login: user=<{later.user}>" not in server.log():
            await deferLater(reactor, 0.01)
        lines = server.log().splitlines()
        return [line for line in lines if f"user=<{mailbox.user}>" in line]

    async def ended(self, mailbox: dovecot.Mailbox) -> None:
        """
        Wait until the server has done what QUIT asked for.

        A Dovecot has when it answers; and the next session waits for its lock.
        """


class ConnectTests(InteropTestCase):
    """
    The three ways to a session, and whom it is with.
    """

    async def check(self, secure: Secure, host: str) -> None:
        mailbox = self.server.add_user(small(3))
        handle = await self.open(mailbox, secure, host=host)
        self.assertEqual((await handle.stat()).count, 3)
        self.assertTrue(handle.greeting)
        self.assertIn("PIPELINING", handle.capabilities)
        if secure == Secure.NONE:
            self.assertIsNone(handle.tls)
        else:
            assert handle.tls is not None
            self.assertTrue(handle.tls.verified)
            self.assertIn(handle.tls.version, ("TLSv1.2", "TLSv1.3"))
            self.assertTrue(handle.tls.cipher)
            self.assertIsNotNone(handle.tls.peer_certificate)
        # Dovecot's own view of it.
        [line] = await self.logged(mailbox)
        self.assertIn("Login: ", line)
        self.assertEqual(", TLS" in line, secure != Secure.NONE, line)

    async def test_cleartext_session_opens_by_host_name(self) -> None:
        """
        A session without TLS, by name.
        """
        await self.check(Secure.NONE, "localhost")

    async def test_cleartext_session_opens_by_address(self) -> None:
        """
        A session without TLS, by address.
        """
        await self.check(Secure.NONE, "127.0.0.1")

    @shows("feature 1.1", "TLS at once and STLS", "``secure=1`` and ``secure=2``")
    async def test_tls_session_opens_by_host_name(self) -> None:
        """
        A session over TLS, by name.
        """
        await self.check(Secure.TLS, "localhost")

    async def test_tls_session_opens_by_address(self) -> None:
        """
        A session over TLS, by an address that the certificate has.
        """
        await self.check(Secure.TLS, "127.0.0.1")

    @shows("feature 1.1")
    async def test_stls_session_opens_by_host_name(self) -> None:
        """
        A session upgraded with STLS, by name.
        """
        await self.check(Secure.STLS, "localhost")

    async def test_stls_session_opens_by_address(self) -> None:
        """
        A session upgraded with STLS, by an address that the certificate has.
        """
        await self.check(Secure.STLS, "127.0.0.1")

    async def check_wrong_name(self, secure: Secure) -> None:
        server = dovecot.shared(names=("mail.example.org",))
        mailbox = server.add_user(small(1))
        for host in ("localhost", "127.0.0.1"):
            with self.assertRaises(VerificationError) as caught:
                await self.open(mailbox, secure, at=server, host=host)
            # The user has to see the name that it has and the one that was expected.
            self.assertIn("mail.example.org", str(caught.exception))
            self.assertIn(host, str(caught.exception))
        self.assertEqual(await self.logged(mailbox, server), [])

    @shows("feature 1.2")
    async def test_certificate_for_another_name_is_refused_over_tls(self) -> None:
        """
        A server with another's certificate is refused over TLS.
        """
        await self.check_wrong_name(Secure.TLS)

    @shows("RFC 7817-02")
    async def test_certificate_for_another_name_is_refused_over_stls(self) -> None:
        """
        A server with another's certificate is refused over STLS.
        """
        await self.check_wrong_name(Secure.STLS)

    async def check_endpoint(self, secure: Secure) -> None:
        server = dovecot.shared(names=("mail.example.org",))
        mailbox = server.add_user(small(1))
        port = server.tls_port if secure == Secure.TLS else server.port
        endpoint = HostnameEndpoint(reactor, "localhost", port)
        handle = await self.open(
            mailbox, secure, at=server, host="mail.example.org", endpoint=endpoint
        )
        self.assertTrue(handle.tls and handle.tls.verified)

    @shows(
        "RFC 7817-02",
        "MUST",
        "The name to check is the one that the user gave; not one from DNS.",
        "The name in ``server`` is checked, wherever the endpoint leads.",
    )
    async def test_custom_endpoint_verifies_the_server_name_over_tls(self) -> None:
        """
        With an endpoint, it is the server's name that counts: over TLS.
        """
        await self.check_endpoint(Secure.TLS)

    async def test_custom_endpoint_verifies_the_server_name_over_stls(self) -> None:
        """
        With an endpoint, it is the server's name that counts: over STLS.
        """
        await self.check_endpoint(Secure.STLS)

    async def check_unknown_authority(self, secure: Secure) -> None:
        other = dovecot.shared(names=("mail.example.org",)).cacerts
        mailbox = self.server.add_user(small(1))
        with self.assertRaises(VerificationError) as caught:
            await self.open(mailbox, secure, cacerts=other)
        # The remedy needs the name of the folder.
        self.assertIn(other, str(caught.exception))
        self.assertEqual(await self.logged(mailbox), [])

    @shows("feature 1.2", "Checks the certificate and its name", "by default")
    @shows("RFC 8314-02")
    async def test_unknown_authority_is_refused_over_tls(self) -> None:
        """
        A certificate of an authority not in the folder is refused over TLS.
        """
        await self.check_unknown_authority(Secure.TLS)

    async def test_unknown_authority_is_refused_over_stls(self) -> None:
        """
        A certificate of an authority not in the folder is refused over STLS.
        """
        await self.check_unknown_authority(Secure.STLS)

    async def check_unverified(self, secure: Secure) -> None:
        server = dovecot.shared(names=("mail.example.org",))
        mailbox = server.add_user(small(1))
        handle = await self.open(
            mailbox, secure, at=server, cacerts=self.server.cacerts, verify=False
        )
        assert handle.tls is not None
        self.assertFalse(handle.tls.verified)
        self.assertEqual((await handle.stat()).count, 1)

    async def test_verify_false_accepts_any_certificate_over_tls(self) -> None:
        """
        With verify=False anybody will do over TLS, and the handle says so.
        """
        await self.check_unverified(Secure.TLS)

    async def test_verify_false_accepts_any_certificate_over_stls(self) -> None:
        """
        With verify=False anybody will do over STLS, and the handle says so.
        """
        await self.check_unverified(Secure.STLS)

    async def test_missing_stls_is_an_error_before_the_user_is_sent(self) -> None:
        """
        STLS with a server that has none: an error, and no word of the user.
        """
        server = dovecot.shared(tls=False)
        mailbox = server.add_user(small(1))
        heard: list[str] = []
        with self.assertRaises(STLSUnavailableError):
            await self.open(mailbox, Secure.STLS, at=server, stsproc=heard.append)
        self.assertTrue(heard)
        self.assertNotIn(mailbox.user, "\n".join(heard))
        self.assertEqual(await self.logged(mailbox, server), [])
        # It is only STLS that is missing there.
        handle = await self.open(mailbox, at=server)
        self.assertEqual((await handle.stat()).count, 1)

    async def test_tls_to_a_cleartext_port_is_a_tls_error(self) -> None:
        """
        TLS with a port that talks POP3 at once: an error of TLS.
        """
        mailbox = self.server.add_user()
        with self.assertRaises(TLSError) as caught:
            await connect(
                f"localhost:{self.server.port}",
                mailbox.user,
                mailbox.password,
                secure=Secure.TLS,
                cacerts=self.server.cacerts,
            )
        self.assertNotIsInstance(caught.exception, VerificationError)

    async def test_closed_port_is_an_error_that_names_it(self) -> None:
        """
        A port without a server: an error that names it.
        """
        server = dovecot.shared(tls=False)
        mailbox = server.add_user()
        with self.assertRaises(ConnectError) as caught:
            await self.open(mailbox, Secure.TLS, at=server)
        self.assertIn(f"localhost:{server.tls_port}", str(caught.exception))

    async def test_twenty_sessions_open_at_once_in_all_modes(self) -> None:
        """
        Twenty sessions of twenty users at the same time, in all three modes.
        """
        modes = (Secure.NONE, Secure.TLS, Secure.STLS)
        mailboxes = [self.server.add_user(small(number)) for number in range(20)]
        handles = await gatherResults(
            Deferred.fromCoroutine(self.open(mailbox, modes[number % 3]))
            for number, mailbox in enumerate(mailboxes)
        )
        stats = await gatherResults([handle.stat() for handle in handles])
        self.assertEqual([stat.count for stat in stats], list(range(20)))

    async def test_session_ends_with_an_error_when_the_server_stops(self) -> None:
        """
        When the server is stopped, the session ends, and says so ever after.
        """
        server = dovecot.Dovecot()
        server.start()
        handle = await self.open(server.add_user(small(1)), at=server)
        closed = handle.when_closed()
        # Dovecot says -ERR [SYS/TEMP], though no command was pending.
        server.begin_to_stop()
        await closed
        with self.assertRaises(POP3Error) as caught:
            await handle.stat()
        self.assertNotIsInstance(caught.exception, CommandError)


def ways(auth: str) -> list[Secure]:
    """
    The modes in which this way to log in can be gone: all, but that the timestamp
    for APOP does not outlive STLS.
    """
    return [way for way in Secure if (auth, way) != ("APOP", Secure.STLS)]


class LoginTests(InteropTestCase):
    """
    The ways to log in, and to fail at it.
    """

    async def check(self, auth: str) -> None:
        mailbox = self.server.add_user(small(2))
        for secure in ways(auth):
            handle = await self.open(mailbox, secure, auth=auth)
            self.assertEqual((await handle.stat()).count, 2)
            self.assertEqual(handle.login.mechanism, auth)
            await handle.disconnect()
        # Dovecot knows USER and PASS by the name of PLAIN.
        method = {"USER": "PLAIN"}.get(auth, auth)
        lines = await self.logged(mailbox)
        self.assertEqual(len(lines), len(ways(auth)))
        for line in lines:
            self.assertIn(f"Login: user=<{mailbox.user}>, method={method},", line)

    async def test_user_and_pass_log_in_in_every_mode(self) -> None:
        """
        USER and PASS, in all modes.
        """
        await self.check("USER")

    async def test_apop_logs_in_in_every_mode_but_stls(self) -> None:
        """
        APOP, plain and over TLS.
        """
        await self.check("APOP")

    @shows(
        "RFC 5034-10",
        "MUST",
        "PLAIN over TLS; the certificate is verified first.",
        "If the certificate is not verified in the handshake, the session ends.",
    )
    async def test_sasl_plain_logs_in_in_every_mode(self) -> None:
        """
        SASL PLAIN, in all modes.
        """
        await self.check("PLAIN")

    async def test_auto_finds_a_mechanism_on_servers_with_few(self) -> None:
        """
        Left to itself, it finds a way with servers of few mechanisms.
        """
        for mechanisms in (("plain",), ("plain", "apop"), ("plain", "cram-md5")):
            server = dovecot.shared(mechanisms=mechanisms)
            for secure in Secure:
                mailbox = server.add_user(small(1))
                handle = await self.open(mailbox, secure, at=server)
                self.assertEqual((await handle.stat()).count, 1)

    @shows("RFC 1939-14")
    async def test_password_with_blanks_and_symbols_logs_in(self) -> None:
        """
        A password with blanks, at both ends too, and signs is sent as it is.
        """
        mailbox = self.server.add_user(password=" a  b:c=%d{}\\\"' ")
        for auth in ("USER", "APOP", "PLAIN"):
            handle = await self.open(mailbox, auth=auth)
            await handle.disconnect()

    async def test_non_ascii_password_logs_in_with_sasl(self) -> None:
        """
        SASL carries a password in UTF-8.
        """
        mailbox = self.server.add_user(password="пароль-世界")
        handle = await self.open(mailbox, Secure.STLS, auth="PLAIN")
        await handle.disconnect()

    async def test_asynchronous_password_callable_is_called_once(self) -> None:
        """
        A callable's password, one that takes its time, is as good.
        """
        mailbox = self.server.add_user(small(1))
        asked: list[None] = []

        def ask() -> Deferred[str]:
            asked.append(None)
            return deferLater(reactor, 0, lambda: mailbox.password)

        handle = await self.open(mailbox, Secure.TLS, password=ask)
        self.assertEqual((await handle.stat()).count, 1)
        self.assertEqual(len(asked), 1)

    async def check_wrong(self, auth: str) -> None:
        mailbox = self.server.add_user()
        # Together, because Dovecot takes half a second for a refusal.
        refusals = await self.refusals(
            self.open(mailbox, secure, auth=auth, password="not it")
            for secure in ways(auth)
        )
        self.assertEqual(len(refusals), len(ways(auth)))
        for error in refusals:
            self.assertEqual(error.code, "AUTH")
            self.assertFalse(error.transient)
            self.assertNotIn("not it", str(error))

    async def test_wrong_password_with_user_is_an_auth_error(self) -> None:
        """
        A wrong password with USER: [AUTH].
        """
        await self.check_wrong("USER")

    async def test_wrong_password_with_apop_is_an_auth_error(self) -> None:
        """
        A wrong password with APOP: [AUTH].
        """
        await self.check_wrong("APOP")

    async def test_wrong_password_with_sasl_plain_is_an_auth_error(self) -> None:
        """
        A wrong password with SASL PLAIN: [AUTH].
        """
        await self.check_wrong("PLAIN")

    async def test_unknown_user_is_an_auth_error(self) -> None:
        """
        A user that does not exist: [AUTH] as well.
        """
        nobody = dovecot.Mailbox("nobody", "secret", self.server.directory)
        with self.assertRaises(LoginError) as caught:
            await self.open(nobody)
        self.assertEqual(caught.exception.code, "AUTH")

    @shows("RFC 2449-10")
    async def test_locked_mailbox_is_in_use_and_first_session_continues(self) -> None:
        """
        A mailbox that another session has: [IN-USE], and the other lives on.

        Dovecot says so only when it has waited for ten seconds.
        """
        mailbox, first = await self.filled(small(2))
        with self.assertRaises(CommandError) as caught:
            await self.open(mailbox)
        self.assertEqual(caught.exception.code, "IN-USE")
        self.assertTrue(caught.exception.transient)
        self.assertEqual((await first.stat()).count, 2)

    async def test_session_above_the_limit_is_in_use_and_first_continues(self) -> None:
        """
        One session more than allowed: [IN-USE] at once, and the first lives on.
        """
        server = dovecot.shared(lock_sessions=False, sessions_per_user=1)
        mailbox = server.add_user(small(2))
        for secure in Secure:
            first = await self.open(mailbox, secure, at=server)
            with self.assertRaises(LoginError) as caught:
                await self.open(mailbox, secure, at=server)
            self.assertEqual(caught.exception.code, "IN-USE")
            self.assertTrue(caught.exception.transient)
            self.assertEqual((await first.stat()).count, 2)
            # Dovecot's count may be behind by a moment: another one's next time.
            mailbox = server.add_user(small(2))


class ReadTests(InteropTestCase):
    """
    What is in the mailbox.
    """

    #: What Dovecot's unique ids look like: that matters less than that all of it came.
    uids = r"\A[0-9a-f]{16}\Z"

    #: What is offered after the login, and what before it only.
    offered = ("TOP", "UIDL", "RESP-CODES", "PIPELINING", "AUTH-RESP-CODE")
    not_offered: tuple[str, ...] = ("SASL", "STLS")

    @shows("RFC 1939-08")
    async def test_counts_and_sizes_match_the_stored_files(self) -> None:
        """
        Counts and sizes are those of the files.
        """
        mailbox, handle = await self.filled(small(12))
        sizes = [len(content) for content in mailbox.contents()]
        stat = await handle.stat()
        self.assertEqual((stat.count, stat.size), (12, sum(sizes)))
        listing = await handle.list()
        self.assertEqual(
            [(row.number, row.size) for row in listing], list(enumerate(sizes, 1))
        )
        self.assertEqual([await handle.size(n) for n in range(1, 13)], sizes)

    async def test_empty_mailbox_has_nothing_by_every_command(self) -> None:
        """
        A mailbox without mail has nothing, by every command.
        """
        _, handle = await self.filled([])
        stat = await handle.stat()
        self.assertEqual((stat.count, stat.size), (0, 0))
        self.assertEqual(await handle.list(), [])
        self.assertEqual(await handle.uidl(), [])
        self.assertEqual([message async for message in handle.messages()], [])

    async def test_unique_ids_differ_and_stay_the_same(self) -> None:
        """
        All at once or one by one, they are different and remain the same.
        """
        mailbox, handle = await self.filled(small(12))
        rows = await handle.uidl()
        self.assertEqual([row.number for row in rows], list(range(1, 13)))
        uids = [row.uid for row in rows]
        self.assertEqual(len(set(uids)), 12)
        for uid in uids:
            self.assertRegex(uid, self.uids)
        self.assertEqual([await handle.uid(n) for n in range(1, 13)], uids)
        await handle.delete(1)
        await handle.disconnect()

        handle = await self.open(mailbox)
        self.assertEqual([row.uid for row in await handle.uidl()], uids[1:])

    async def check_as_stored(self, secure: Secure) -> None:
        mailbox, handle = await self.filled([*VARIED.values(), big()], secure=secure)
        names = [*VARIED, "5 MB"]
        contents = mailbox.contents()
        self.assertEqual(len(contents), len(names))
        for number, (name, content) in enumerate(zip(names, contents, strict=True), 1):
            got = await handle.retrieve(number)
            # Not assertEqual, which would print megabytes.
            self.assertTrue(got == content, f"{name}: {got[:200]!r}")

    async def test_messages_are_retrieved_byte_for_byte(self) -> None:
        """
        Messages come back byte for byte as they are on the disk.
        """
        await self.check_as_stored(Secure.NONE)

    async def test_messages_are_retrieved_byte_for_byte_over_tls(self) -> None:
        """
        Messages come back byte for byte over TLS.
        """
        await self.check_as_stored(Secure.TLS)

    async def test_messages_are_retrieved_byte_for_byte_over_stls(self) -> None:
        """
        Messages come back byte for byte over STLS.
        """
        await self.check_as_stored(Secure.STLS)

    async def test_messages_the_server_completes_are_retrieved_as_sent(self) -> None:
        """
        What the server has to complete comes as the server sends it.
        """
        _, handle = await self.filled(list(COMPLETED))
        for number, expected in enumerate(COMPLETED.values(), 1):
            self.assertEqual(await handle.retrieve(number), expected)

    async def test_top_returns_the_header_and_the_requested_lines(self) -> None:
        """
        The headers, the empty line, and as many lines as asked for.
        """
        lines = [b".\r\n", b"..\r\n", b"\r\n", b"\xff\r\n", b"end\r\n"]
        content = HEADERS + b"".join(lines)
        _, handle = await self.filled([content, HEADERS])
        self.assertEqual(await handle.top(1), HEADERS)
        for count in range(6):
            self.assertEqual(
                await handle.top(1, count), HEADERS + b"".join(lines[:count])
            )
        self.assertEqual(await handle.top(1, 1_000_000), content)
        self.assertEqual(await handle.top(2, 7), HEADERS)

    async def test_all_two_hundred_messages_come_in_order(self) -> None:
        """
        All of two hundred messages, in order.
        """
        mailbox, handle = await self.filled(small(200))
        got = [message async for message in handle.messages()]
        self.assertEqual([message.number for message in got], list(range(1, 201)))
        self.assertEqual([message.content for message in got], mailbox.contents())
        self.assertEqual({message.error for message in got}, {None})

    async def test_selected_messages_come_in_order_despite_failures(self) -> None:
        """
        Those that were asked for, in that order; one that fails is alone in it.
        """
        mailbox, handle = await self.filled(small(9))
        contents = mailbox.contents()
        await handle.delete(3)
        wanted = [7, 3, 2, 99, 9, 1]
        got = [message async for message in handle.messages(wanted)]
        self.assertEqual([message.number for message in got], wanted)
        for message in got:
            if message.number in (3, 99):
                self.assertIsInstance(message.error, CommandError)
            else:
                self.assertIsNone(message.error)
                self.assertEqual(message.content, contents[message.number - 1])

    async def test_session_continues_after_leaving_messages_early(self) -> None:
        """
        The caller may stop early, and the session goes on.
        """
        mailbox, handle = await self.filled(small(50))
        stream = handle.messages()
        async for message in stream:
            if message.number == 3:
                break
        await stream.aclose()
        self.assertEqual(await handle.retrieve(50), mailbox.contents()[49])

    async def test_headers_of_two_hundred_messages_come_in_order(self) -> None:
        """
        By TOP, as many at a time as messages.
        """
        mailbox, handle = await self.filled(small(200))
        got = [header async for header in handle.headers()]
        self.assertEqual([header.number for header in got], list(range(1, 201)))
        for header, content in zip(got, mailbox.contents(), strict=True):
            assert header.error is None
            self.assertEqual(
                header.content, content.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
            )

    async def test_messages_are_written_to_destinations_despite_failures(self) -> None:
        """
        One that the server refuses, and one whose destination fails, are alone in it.
        """
        mailbox, handle = await self.filled(small(200))
        contents = mailbox.contents()

        def into(number: int) -> io.BytesIO:
            if number == 7:
                raise OSError("disk full")
            return io.BytesIO()

        wanted = [9, 999, 7, *range(10, 201)]
        got = [item async for item in handle.messages(wanted, into=into)]
        self.assertEqual([item.number for item in got], wanted)
        self.assertIsInstance(got[1].error, CommandError)
        self.assertIsInstance(got[2].error, DestinationError)
        for item in got[:1] + got[3:]:
            assert item.error is None
            self.assertEqual(item.destination.getvalue(), contents[item.number - 1])
        self.assertEqual(await handle.retrieve(1), contents[0])

    async def test_unknown_extension_is_refused_and_the_session_goes_on(self) -> None:
        """
        A command that Dovecot does not know.
        """
        _, handle = await self.filled(small(1))
        with self.assertRaises(CommandError):
            await handle.command("XTND", "PROFILE")
        self.assertEqual((await handle.stat()).count, 1)

    async def test_missing_message_fails_only_its_command(self) -> None:
        """
        A message that is not there: an error of that command, no more.
        """
        mailbox, handle = await self.filled(small(2))
        for command in (
            handle.size,
            handle.uid,
            handle.retrieve,
            handle.top,
            handle.delete,
        ):
            with self.assertRaises(CommandError) as caught:
                await command(3)
            self.assertNotIsInstance(caught.exception, LoginError)
            self.assertTrue(caught.exception.text)
            self.assertTrue(caught.exception.verb)
        self.assertEqual(await handle.retrieve(2), mailbox.contents()[1])

    async def test_capabilities_are_those_after_login(self) -> None:
        """
        The capabilities are those of the server after the login.
        """
        _, handle = await self.filled([])
        # Its reply comes behind that to CAPA.
        await handle.noop()
        learnt = handle.capabilities
        for capabilities in (learnt, await handle.capa(), handle.capabilities):
            for name in self.offered:
                self.assertIn(name, capabilities)
            for name in self.not_offered:
                self.assertNotIn(name, capabilities)

    async def test_noop_returns_none(self) -> None:
        """
        NOOP does nothing, well.
        """
        _, handle = await self.filled([])
        self.assertIsNone(await handle.noop())


@implementer(IConsumer)
class Consumer:
    """
    Takes a message, and may have enough of it for a while.

    @ivar pauses: Call this once when the first octets have come.
    """

    def __init__(self) -> None:
        self.producer: IPushProducer | None = None
        self.streaming: bool | None = None
        self.octets = 0
        self.digest = hashlib.sha256()
        self.first: Deferred[None] | None = None

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:
        assert self.producer is None
        self.producer = producer
        self.streaming = streaming

    def unregisterProducer(self) -> None:
        assert self.producer is not None
        self.producer = None

    def write(self, data: bytes) -> None:
        assert self.producer is not None
        self.octets += len(data)
        self.digest.update(data)
        if self.first is not None:
            self.producer.pauseProducing()
            first, self.first = self.first, None
            first.callback(None)


class ConsumerTests(InteropTestCase):
    """
    A message can go to a consumer, by the chunk.
    """

    async def check(self, secure: Secure) -> None:
        mailbox, handle = await self.filled([big(), *small(1)], secure=secure)
        [content, other] = mailbox.contents()
        consumer = Consumer()
        octets = await handle.retrieve(1, consumer)
        self.assertEqual(octets, len(content))
        self.assertEqual(consumer.octets, len(content))
        self.assertEqual(consumer.digest.digest(), hashlib.sha256(content).digest())
        self.assertTrue(consumer.streaming)
        self.assertIsNone(consumer.producer)
        self.assertEqual(await handle.retrieve(2), other)

    async def test_consumer_receives_exactly_the_message(self) -> None:
        """
        It gets all of the message and no more.
        """
        await self.check(Secure.NONE)

    async def test_consumer_receives_exactly_the_message_over_tls(self) -> None:
        """
        It gets all of the message and no more, over TLS.
        """
        await self.check(Secure.TLS)

    async def check_slow(self, secure: Secure) -> None:
        mailbox, handle = await self.filled([big(), *small(1)], secure=secure)
        [content, other] = mailbox.contents()
        consumer = Consumer()
        consumer.first = first = Deferred()
        # The one behind it has to wait, too.
        retrieved = handle.retrieve(1, consumer)
        behind = handle.retrieve(2)
        await first
        producer = consumer.producer
        assert producer is not None
        # Long enough for all five megabytes to come if nobody stopped them.
        await deferLater(reactor, 0.3)
        # What was already underway may still come.
        self.assertLess(consumer.octets, 1_000_000)
        self.assertFalse(retrieved.called)
        producer.resumeProducing()
        self.assertEqual(await retrieved, len(content))
        self.assertEqual(consumer.digest.digest(), hashlib.sha256(content).digest())
        self.assertEqual(await behind, other)

    @shows(
        "feature 1.10",
        "Messages streamed with back-pressure",
        "``retrieve(n, destination)``, ``messages(into=...)``",
    )
    async def test_paused_consumer_gets_the_rest_after_resuming(self) -> None:
        """
        One that pauses gets the rest when it resumes, and not before.
        """
        await self.check_slow(Secure.NONE)

    async def test_paused_consumer_gets_the_rest_after_resuming_over_tls(self) -> None:
        """
        One that pauses gets the rest when it resumes, over TLS too.
        """
        await self.check_slow(Secure.TLS)

    async def test_consumer_gets_nothing_of_a_missing_message(self) -> None:
        """
        It gets nothing of a message that is not there.
        """
        _, handle = await self.filled(small(1))
        consumer = Consumer()
        with self.assertRaises(CommandError):
            await handle.retrieve(2, consumer)
        self.assertEqual(consumer.octets, 0)
        self.assertIsNone(consumer.producer)
        self.assertIsNone(await handle.noop())


class PipelineTests(InteropTestCase):
    """
    Commands given all at once, without waiting for answers.
    """

    async def check(self, secure: Secure, **options: Any) -> None:
        mailbox, handle = await self.filled(small(60), secure=secure, **options)
        contents = mailbox.contents()
        uids = {row.number: row.uid for row in await handle.uidl()}
        expected: list[object] = []
        asked: list[Deferred[Any]] = []
        for number, content in enumerate(contents, 1):
            asked += [
                handle.retrieve(number),
                handle.size(number),
                # Fails, among others that do not.
                handle.size(1000),
                handle.uid(number),
                handle.top(number),
            ]
            expected += [content, len(content), None, uids[number], HEADERS]
        self.assertEqual(len(asked), 300)
        answers = await DeferredList(asked, consumeErrors=True)
        for (succeeded, answer), wanted in zip(answers, expected, strict=True):
            if wanted is None:
                self.assertFalse(succeeded)
                self.assertIsInstance(answer.value, CommandError)
            else:
                self.assertTrue(succeeded, answer)
                self.assertEqual(answer, wanted)

    async def test_300_pipelined_commands_get_their_replies(self) -> None:
        """
        Three hundred commands get three hundred right answers.
        """
        await self.check(Secure.NONE)

    async def test_300_pipelined_commands_get_their_replies_over_tls(self) -> None:
        """
        Three hundred commands get their answers over TLS.
        """
        await self.check(Secure.TLS)

    async def test_300_commands_without_pipelining_get_their_replies(self) -> None:
        """
        They do so too when they are not pipelined.
        """
        await self.check(Secure.NONE, pipeline=False)

    async def turns(self, *, pipeline: bool) -> int:
        """
        Say how often the client, with fifty commands, got its turn to speak.
        """
        heard: list[str] = []
        _, handle = await self.filled([], pipeline=pipeline, stsproc=heard.append)
        # With it goes the CAPA that follows the login.
        await handle.noop()
        heard.clear()
        await gatherResults([handle.noop() for _ in range(50)])
        self.assertEqual(heard.count("C: NOOP"), 50)
        speakers = "".join(line[0] for line in heard)
        return len(re.findall("C+", speakers))

    async def test_commands_wait_for_replies_only_without_pipelining(self) -> None:
        """
        Commands do not wait for the answers before them, unless told to.
        """
        self.assertLess(await self.turns(pipeline=True), 25)
        self.assertEqual(await self.turns(pipeline=False), 50)

    @shows("RFC 2449-06")
    async def test_pipelined_data_beyond_all_buffers_does_not_deadlock(self) -> None:
        """
        More than fits all the buffers on the way, asked for at once.

        A client that sends commands and never reads would wait for ever.
        """
        _, handle = await self.filled([big(), *small(1)])
        digest = hashlib.sha256(big()).digest()
        answers = await gatherResults([handle.retrieve(1) for _ in range(8)])
        for answer in answers:
            self.assertEqual(hashlib.sha256(answer).digest(), digest)

    async def test_pipelined_quit_takes_effect_after_earlier_commands(self) -> None:
        """
        Given all at once, deletions and QUIT have the effect of one after
        another.
        """
        mailbox, handle = await self.filled(small(30))
        contents = mailbox.contents()
        asked: list[Deferred[Any]] = []
        for number in range(1, 30):
            asked += [handle.retrieve(number), handle.delete(number)]
        committed = handle.disconnect()
        answers = await gatherResults(asked)
        self.assertEqual(answers[::2], contents[:29])
        self.assertEqual((await committed).deleted, frozenset(range(1, 30)))
        await self.ended(mailbox)
        self.assertEqual(mailbox.contents(), contents[29:])


class DeleteTests(InteropTestCase):
    """
    Which messages are gone afterwards, and which are not.
    """

    async def remaining(self, mailbox: dovecot.Mailbox) -> list[bytes]:
        """
        What the next session finds.  It waits for the lock of the last one, so
        by then Dovecot has done all that it was ever going to.
        """
        await self.ended(mailbox)
        handle = await self.open(mailbox)
        stat = await handle.stat()
        await handle.disconnect()
        contents = mailbox.contents()
        self.assertEqual(stat.count, len(contents))
        return contents

    @shows("RFC 1939-09")
    @shows(
        "quirk 7.4",
        "Messages are deleted only after the reply to QUIT",
        "``disconnect()`` goes by the reply. A session that begins at once may still "
        "find the messages (with Courier, which locks no mailbox).",
    )
    async def test_disconnect_deletes_and_returns_the_marked_messages(self) -> None:
        """
        disconnect() makes deletions real, and tells which.
        """
        for secure in Secure:
            mailbox, handle = await self.filled(small(5), secure=secure)
            contents = mailbox.contents()
            await handle.delete(2)
            await handle.delete(4)
            self.assertEqual((await handle.stat()).count, 3)
            self.assertEqual([row.number for row in await handle.list()], [1, 3, 5])
            committed = await handle.disconnect()
            self.assertEqual(committed.deleted, frozenset({2, 4}))
            await self.ended(mailbox)
            self.assertEqual(mailbox.contents(), contents[::2])
            self.assertEqual(await self.remaining(mailbox), contents[::2])

    async def test_disconnect_without_deletions_returns_an_empty_set(self) -> None:
        """
        disconnect() without deletions tells of none.
        """
        mailbox, handle = await self.filled(small(2))
        self.assertEqual((await handle.disconnect()).deleted, frozenset())
        self.assertEqual(len(await self.remaining(mailbox)), 2)

    async def test_abort_deletes_nothing(self) -> None:
        """
        abort() deletes nothing.
        """
        for secure in Secure:
            mailbox, handle = await self.filled(small(3), secure=secure)
            await handle.delete(1)
            await handle.delete(3)
            await handle.abort()
            self.assertEqual(await self.remaining(mailbox), small(3))

    async def test_reset_takes_deletions_back(self) -> None:
        """
        reset() takes deletions back; disconnect() then tells of none.
        """
        mailbox, handle = await self.filled(small(3))
        await handle.delete(1)
        await handle.delete(2)
        await handle.reset()
        self.assertEqual((await handle.stat()).count, 3)
        self.assertEqual((await handle.disconnect()).deleted, frozenset())
        self.assertEqual(await self.remaining(mailbox), small(3))

    async def test_deletions_after_reset_take_effect(self) -> None:
        """
        Deletions after reset() count as any.
        """
        mailbox, handle = await self.filled(small(3))
        await handle.delete(1)
        await handle.reset()
        await handle.delete(3)
        self.assertEqual((await handle.disconnect()).deleted, frozenset({3}))
        self.assertEqual(await self.remaining(mailbox), small(3)[:2])

    async def test_refused_deletion_is_not_reported_as_deleted(self) -> None:
        """
        A deletion that was refused is not told of.
        """
        mailbox, handle = await self.filled(small(2))
        await handle.delete(2)
        with self.assertRaises(CommandError):
            await handle.delete(3)
        # Whether the server is asked at all is not the point here.
        for command in (handle.delete, handle.retrieve):
            with self.assertRaises(POP3Error):
                await command(2)
        self.assertEqual((await handle.disconnect()).deleted, frozenset({2}))
        self.assertEqual(await self.remaining(mailbox), small(2)[:1])

    async def test_leaving_async_with_normally_makes_deletions_real(self) -> None:
        """
        Leaving "async with" in the ordinary way makes deletions real.
        """
        mailbox = self.server.add_user(small(2))
        async with await self.open(mailbox) as handle:
            await handle.delete(1)
            closed = handle.when_closed()
        await closed
        self.assertEqual(await self.remaining(mailbox), small(2)[1:])

    @shows("RFC 1939-10")
    async def test_leaving_async_with_by_an_exception_deletes_nothing(self) -> None:
        """
        Leaving "async with" by an exception deletes nothing.
        """
        mailbox = self.server.add_user(small(2))
        with self.assertRaises(ZeroDivisionError):
            async with await self.open(mailbox) as handle:
                closed = handle.when_closed()
                await handle.delete(1)
                raise ZeroDivisionError
        await closed
        self.assertEqual(await self.remaining(mailbox), small(2))

    async def test_commands_fail_after_disconnect(self) -> None:
        """
        After disconnect() the connection is closed and commands fail.
        """
        _, handle = await self.filled(small(1))
        closed = handle.when_closed()
        await handle.disconnect()
        await closed
        await handle.when_closed()
        with self.assertRaises(POP3Error):
            await handle.stat()


class StatusTests(InteropTestCase):
    """
    The status procedure hears all but the secrets.
    """

    async def conversation(self, **options: Any) -> tuple[dovecot.Mailbox, list[str]]:
        """
        Have a session; return what was heard of it, and look for secrets in it.
        """
        mailbox = self.server.add_user(small(2))
        heard: list[str] = []
        logged: list[str] = []

        def observe(event: Any) -> None:
            logged.append(repr(event))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        handle = await self.open(mailbox, stsproc=heard.append, **options)
        await handle.stat()
        await handle.retrieve(2)
        await handle.delete(1)
        await handle.disconnect()
        everything = "\n".join([*heard, *logged, repr(handle), repr(vars(handle))])
        for secret in self.disguises(mailbox):
            self.assertNotIn(secret, everything)
        return mailbox, heard

    def disguises(self, mailbox: dovecot.Mailbox) -> list[str]:
        """
        The password, and what SASL makes of it.
        """
        user, password = mailbox.user.encode(), mailbox.password.encode()
        initial = b"\0" + user + b"\0" + password
        as_user = user + b"\0" + user + b"\0" + password
        return [
            mailbox.password,
            *(
                base64.b64encode(text).decode().rstrip("=")
                for text in (password, initial, as_user)
            ),
        ]

    def assert_in_order(self, wanted: Sequence[str], heard: Sequence[str]) -> None:
        """
        There are lines that begin like these, in this order.
        """
        lines = iter(heard)
        for beginning in wanted:
            if not any(line.startswith(beginning) for line in lines):
                self.fail(f"no {beginning!r} in its place in {heard}")

    async def test_user_and_pass_session_is_shown_without_the_password(self) -> None:
        """
        A whole conversation with USER and PASS.
        """
        mailbox, heard = await self.conversation(auth="USER")
        self.assert_in_order(
            [
                "S: +OK Dovecot",
                # Before it CAPA, if none of the tests before has asked.
                f"C: USER {mailbox.user}",
                "S: +OK",
                "C: PASS ********",
                "S: +OK Logged in.",
                "C: CAPA",
                "C: STAT",
                "S: +OK 2 ",
                "C: RETR 2",
                "S: +OK",
                "S: ",
                "C: DELE 1",
                "S: +OK",
                "C: QUIT",
                "S: +OK",
            ],
            heard,
        )
        for line in heard:
            self.assertTrue(line.startswith(("C: ", "S: ", "Warning: ")), line)
            self.assertTrue(line.isprintable(), line)
            self.assertNotIn("message 2", line)

    async def test_apop_is_shown_without_its_digest(self) -> None:
        """
        With APOP, there is no digest to be heard.
        """
        mailbox, heard = await self.conversation(auth="APOP")
        self.assert_in_order([f"C: APOP {mailbox.user} ****", "S: +OK"], heard)
        [line] = [line for line in heard if line.startswith("C: APOP")]
        self.assertNotRegex(line, "[0-9a-f]{32}")

    async def test_sasl_plain_is_shown_without_its_initial_response(self) -> None:
        """
        With SASL PLAIN, there is no initial response to be heard.
        """
        _, heard = await self.conversation(auth="PLAIN")
        self.assert_in_order(["C: AUTH PLAIN", "S: +OK Logged in."], heard)

    async def test_credentials_are_sent_only_after_stls(self) -> None:
        """
        With STLS, the name and the password come only when TLS is there.
        """
        mailbox, heard = await self.conversation(secure=Secure.STLS, auth="USER")
        self.assert_in_order(
            [
                "S: +OK Dovecot",
                "C: STLS",
                "S: +OK",
                "TLS: ",
                f"C: USER {mailbox.user}",
                "C: PASS ********",
                "S: +OK Logged in.",
                "C: CAPA",
            ],
            heard,
        )

    async def test_tls_is_shown_before_the_greeting(self) -> None:
        """
        With TLS, that comes first.
        """
        _, heard = await self.conversation(secure=Secure.TLS)
        self.assert_in_order(["TLS: ", "S: +OK Dovecot", "S: +OK Logged in."], heard)

    async def test_refused_login_reveals_no_secret(self) -> None:
        """
        When the login is refused, no secret is heard, or is in the exception.
        """
        mailbox = self.server.add_user()
        wrong = dovecot.Mailbox(mailbox.user, os.urandom(9).hex(), mailbox.directory)
        transcripts: dict[str, list[str]] = {"USER": [], "APOP": [], "PLAIN": []}
        errors = await self.refusals(
            self.open(wrong, auth=auth, stsproc=heard.append)
            for auth, heard in transcripts.items()
        )
        for error, heard in zip(errors, transcripts.values(), strict=True):
            self.assert_in_order(["C: ", "S: -ERR [AUTH]"], heard)
            told = "\n".join([*heard, str(error), repr(error), repr(vars(error))])
            for secret in self.disguises(wrong):
                self.assertNotIn(secret, told)
