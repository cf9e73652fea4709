"""
The Omnis family with the demo server and with a real Dovecot, and its examples.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import maybeDeferred
from twisted.internet.threads import blockingCallFromThread, deferToThread
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

import pop3connect
from pop3connect.demo.service import DemoAuthority
from pop3connect.omnis import Omnis
from pop3connect.testing.accounts import Maildrop, portal
from pop3connect.testing.server import DemoPOP3Factory

from ..support import dovecot

ROOT = Path(pop3connect.__file__).absolute().parent.parent

reactor: Any = global_reactor

MESSAGES = (
    b"Subject: one\r\n\r\nfirst\r\n",
    b"Subject: two\r\n\r\n.dots\r\n..\r\n",
    b"Subject: three\r\n\r\n" + b"x" * 500 + b"\r\n",
)


class Commands:
    """
    Each command, with any server.

    ``plain`` and ``tls`` are its addresses, ``root`` has secure/cacerts in it.
    """

    plain: str
    tls: str
    user: str
    password: str
    root: Path

    def begin(self: Any) -> None:
        self.omnis = Omnis(reactor=reactor)
        self.told: list[tuple[str, int, str]] = []
        self.omnis.set_omnis_folder(self.root)
        self.omnis.WebDevSetConfig(lambda *error: self.told.append(error), 20)

    async def test_every_command_succeeds_in_every_secure_mode(self: Any) -> None:
        omnis, who = self.omnis, (self.user, self.password)
        for server, secure in ((self.plain, 0), (self.tls, 1), (self.plain, 2)):
            self.assertEqual(await omnis.POP3Stat(server, *who, None, secure), 3)
            received: list[bytes] = []
            status = await omnis.POP3Recv(
                server, *who, received, False, None, 2, secure
            )
            self.assertEqual((status, tuple(received)), (0, MESSAGES[:2]))
            heard: list[str] = []
            number = await omnis.POP3Connect(server, *who, heard.append, secure)
            self.assertGreater(number, 0, self.told)
            self.assertNotIn(self.password, str(heard))
            self.assertEqual("TLS" in str(heard), secure != 0)
            rows: list[tuple[int, int]] = []
            self.assertEqual(await omnis.POP3ListMessages(number, 0, rows), 0)
            sizes = [len(message) for message in MESSAGES]
            self.assertEqual(rows, list(enumerate(sizes, 1)))
            self.assertEqual(await omnis.POP3ListMessages(number, 3, rows), 0)
            self.assertEqual(rows, [(3, sizes[2])])
            found = bytearray()
            self.assertEqual(await omnis.POP3RecvHeaders(number, 2, found), 0)
            self.assertEqual(found.split(b"\r\n")[0], b"Subject: two")
            self.assertEqual(await omnis.POP3RecvMessage(number, 2, found), 0)
            self.assertEqual(bytes(found), MESSAGES[1])
            self.assertEqual(await omnis.POP3DeleteMessage(number, 1), 0)
            self.assertEqual(await omnis.POP3MessageCount(number), 3)
            self.assertEqual(await omnis.POP3ListMessages(number, 0, rows), 0)
            self.assertEqual([number for number, _ in rows], [2, 3])
            self.assertEqual(await omnis.POP3UndoDeletes(number), 0)
            self.assertEqual(await omnis.POP3ListMessages(number, 0, rows), 0)
            self.assertEqual(len(rows), 3)
            self.assertEqual(await omnis.POP3Disconnect(number), 0)
        self.assertEqual(self.told, [])

    async def test_recv_with_delete_empties_the_mailbox(self: Any) -> None:
        who = (self.plain, self.user, self.password)
        received: list[bytes] = []
        self.assertEqual(await self.omnis.POP3Recv(*who, received, True), 0)
        self.assertEqual(tuple(received), MESSAGES)
        self.assertEqual(await self.omnis.POP3Stat(*who), 0)

    async def test_commands_on_several_sockets_at_once_succeed(self: Any) -> None:
        """
        Commands on several sockets, all called at once.
        """
        omnis = self.omnis
        others = [
            await omnis.POP3Connect(self.plain, user, self.password)
            for user in self.users(4)
        ]
        self.assertEqual(len(set(others)), 4, self.told)
        found = [(one, n, bytearray()) for n in (3, 1, 2) for one in others]
        answers = [omnis.POP3RecvMessage(*each) for each in found]
        self.assertEqual([await answer for answer in answers], [0] * 12)
        for _, number, message in found:
            self.assertEqual(bytes(message), MESSAGES[number - 1])
        for one in others:
            self.assertEqual(await omnis.POP3Disconnect(one), 0)

    async def test_threads_sharing_a_socket_get_their_own_messages(self: Any) -> None:
        """
        They wait for each other, and each gets what it has asked for.
        """
        number = await self.omnis.POP3Connect(self.plain, self.user, self.password)

        def fetch(which: int) -> bytes:
            message = bytearray()
            for _ in range(5):
                status = blockingCallFromThread(
                    reactor, self.omnis.POP3RecvMessage, number, which, message
                )
                if status:
                    raise AssertionError(status)
            return bytes(message)

        threads = [deferToThread(fetch, which) for which in (1, 2, 3) * 2]
        self.assertEqual([await thread for thread in threads], [*MESSAGES] * 2)
        self.assertEqual(await self.omnis.POP3Disconnect(number), 0)

    async def test_each_failure_returns_its_code(self: Any) -> None:
        omnis, who = self.omnis, (self.user, self.password)
        stranger = Omnis(reactor=reactor)
        stranger.set_omnis_folder(self.folder(DemoAuthority().pem))
        cases = [
            (-601, omnis.POP3Connect(self.plain, self.user, "wrong password")),
            (-1021, stranger.POP3Stat(self.tls, *who, None, 1)),
            (-10061, omnis.POP3Stat(self.nobody(), *who)),
            (-11001, omnis.POP3Stat("nowhere.invalid", *who)),
            (-509, omnis.POP3MessageCount(99)),
            (-511, omnis.POP3Stat("", *who)),
            (-501, omnis.POP3Stat(1, *who)),
            (-503, omnis.POP3Stat()),
        ]
        for code, answer in cases:
            self.assertEqual(await answer, code, self.told)
        self.assertIn("certificate", stranger.WebDevGetSecureError())
        self.assertNotIn(self.password, str(self.told))
        number = await omnis.POP3Connect(self.plain, *who)
        self.assertEqual(await omnis.POP3RecvMessage(number, 9, bytearray()), -604)
        self.assertEqual(await omnis.POP3Disconnect(number), 0)
        self.assertEqual(await omnis.POP3Disconnect(number), -509)

    async def test_documented_examples_run(self: Any) -> None:
        """
        They are run as they stand in the documentation.
        """
        who = (self.plain, self.user, self.password)
        self.assertIn("socket 1", await self.run_example("omnis_connect.py", *who))
        wrong = await self.run_example("omnis_connect.py", *who[:2], "wrong")
        self.assertIn("login refused", wrong)
        told = await self.run_example("omnis_method.py", *who)
        self.assertIn("3 received: no error", told)
        self.assertEqual(await self.omnis.POP3Stat(*who), 0)

    def folder(self: Any, certificate: bytes) -> Path:
        """
        Make a folder of Omnis, with a CA to trust.
        """
        root = Path(self.mktemp())
        cacerts = root / "secure" / "cacerts"
        cacerts.mkdir(parents=True)
        (cacerts / "ca.pem").write_bytes(certificate)
        return root

    def nobody(self: Any) -> str:
        """
        Return an address without a server, for as long as the test runs.
        """
        held = socket.socket()
        self.addCleanup(held.close)
        held.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{held.getsockname()[1]}"

    async def run_example(self: Any, name: str, *arguments: str) -> str:
        out, err, status = await getProcessOutputAndValue(
            sys.executable,
            (str(ROOT / "examples" / name), *arguments),
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self.assertEqual(status, 0, err.decode())
        return str(out.decode())


class DemoTests(Commands, TestCase):
    """
    With the demo server.
    """

    timeout = 60
    password = "looking glass"
    user = "u0"

    def setUp(self) -> None:
        names = [f"u{number}".encode() for number in range(5)]
        authority = DemoAuthority()
        accounts = portal(
            {name: self.password.encode() for name in names},
            {name: Maildrop(MESSAGES) for name in names},
        )
        context = authority.server("localhost")
        factory = DemoPOP3Factory(accounts, context)
        self.plain = self.listen(factory)
        self.tls = self.listen(factory, context)
        self.addCleanup(factory.drop_connections)
        self.root = self.folder(authority.pem)
        self.begin()

    def listen(self, factory: DemoPOP3Factory, context: Any = None) -> str:
        if context is None:
            port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        else:
            port = reactor.listenSSL(0, factory, context, interface="127.0.0.1")
        self.addCleanup(lambda: maybeDeferred(port.stopListening))
        return f"localhost:{port.getHost().port}"

    def users(self, count: int) -> list[str]:
        return [f"u{number}" for number in range(1, count + 1)]


class DovecotTests(Commands, TestCase):
    """
    With a real Dovecot.
    """

    skip = dovecot.skip_reason()
    timeout = 60

    def setUp(self) -> None:
        self.server = dovecot.Dovecot()
        self.server.start()
        self.addCleanup(self.server.begin_to_stop)
        mailbox = self.server.add_user(MESSAGES)
        self.user, self.password = mailbox.user, mailbox.password
        self.plain = f"localhost:{self.server.port}"
        self.tls = f"localhost:{self.server.tls_port}"
        self.root = self.folder(self.server.ca.cert_pem.bytes())
        self.begin()

    def users(self, count: int) -> list[str]:
        return [
            self.server.add_user(MESSAGES, password=self.password).user
            for _ in range(count)
        ]
