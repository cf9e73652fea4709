"""
The interop tests once more, with a real Courier: another server, other habits.

Without a Courier these tests are skipped, unless POP3CONNECT_REQUIRE_INTEROP is set to
1.  What Dovecot says or logs in words of its own is not asked of Courier.
"""

from __future__ import annotations

from pathlib import Path

import trustme
from twisted.internet import reactor
from twisted.internet.task import deferLater

from pop3connect import Secure, VerificationError

from ..support import courier
from ..support.dovecot import Mailbox
from . import test_dovecot as test_interop


class CourierTestCase(test_interop.InteropTestCase):
    """
    A test case with a Courier.
    """

    skip = courier.PACKAGES.skip_reason()

    def setUp(self) -> None:
        self.server = courier.shared()

    async def ended(self, mailbox: Mailbox) -> None:
        """
        It answers QUIT first and deletes then, and it does not lock a mailbox.
        """
        while self.server.serves(mailbox):
            await deferLater(reactor, 0.01)


class ConnectTests(CourierTestCase):
    """
    The three ways to a session, and whom it is with.
    """

    async def test_session_opens_in_every_secure_mode(self) -> None:
        mailbox = self.server.add_user(test_interop.small(3))
        for secure in Secure:
            handle = await self.open(mailbox, secure)
            self.assertEqual((await handle.stat()).count, 3)
            self.assertIn("PIPELINING", handle.capabilities)
            self.assertEqual(handle.tls is not None, secure != Secure.NONE)
            self.assertTrue(self.server.serves(mailbox))
            await handle.disconnect()
            await self.ended(mailbox)

    async def test_wrong_password_is_refused_in_every_secure_mode(self) -> None:
        mailbox = self.server.add_user()
        # Together, because Courier takes its time for a refusal.
        errors = await self.refusals(
            self.open(mailbox, secure, password="wrong") for secure in Secure
        )
        self.assertEqual({error.code for error in errors}, {None})

    async def test_unknown_authority_is_refused_over_tls_and_stls(self) -> None:
        mailbox = self.server.add_user()
        other = Path(self.mktemp())
        other.mkdir()
        trustme.CA().cert_pem.write_to_path(str(other / "ca.pem"))
        for secure in (Secure.TLS, Secure.STLS):
            with self.assertRaises(VerificationError):
                await self.open(mailbox, secure, cacerts=other)


class ReadTests(CourierTestCase, test_interop.ReadTests):
    """
    What is in the mailbox.
    """

    uids = r"\AUID\d+-\d+\Z"
    offered = ("TOP", "UIDL", "PIPELINING", "USER")
    not_offered = ()


class ConsumerTests(CourierTestCase, test_interop.ConsumerTests):
    """
    Messages that are streamed.
    """


class PipelineTests(CourierTestCase, test_interop.PipelineTests):
    """
    Many commands at once.
    """


class DeleteTests(CourierTestCase, test_interop.DeleteTests):
    """
    Deleting, or not.
    """
