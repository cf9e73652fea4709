"""
The example configuration of the collector with a real Dovecot.
"""

from __future__ import annotations

from typing import Any

from ..support import dovecot
from ..test_examples import CollectorTestCase

MAIL = [
    b"From: %d@example.org\r\nSubject: test\r\n\r\n.\r\n.%d\r\n" % (number, number)
    for number in range(30)
]


class DovecotTests(CollectorTestCase):
    """
    ``twistd pop3connect collect --config collect.toml --once``
    """

    skip = dovecot.skip_reason()
    timeout = 60

    def setUp(self) -> None:
        super().setUp()
        self.dovecot: Any = dovecot.shared()
        (self.cacerts / "ca.pem").write_bytes(self.dovecot.ca.cert_pem.bytes())
        self.change('"pop.example.com"', f'"localhost:{self.dovecot.tls_port}"')

    def add(self, user: str, password: str) -> Any:
        """
        Add a mailbox, and put its name in the place of that in the configuration.
        """
        mailbox = self.dovecot.add_user(MAIL, password=password)
        self.change(f'user = "{user}"', f'user = "{mailbox.user}"')
        return mailbox

    async def test_example_configuration_delivers_each_message_once(self) -> None:
        support = self.add("support@example.com", "babbage")
        ada = self.add("ada", "lovelace")
        log = await self.collect("--check", "--login")
        self.assertIn("support: logged in\nada: logged in\n", log)
        new = self.folder / "mail" / "support" / "new"
        desk = self.folder / "desk" / "support"
        for _ in range(2):
            log = await self.collect("--once")
            self.assertEqual(
                sorted(path.read_bytes() for path in new.iterdir()),
                sorted(mail.replace(b"\r\n", b"\n") for mail in MAIL),
            )
            self.assertEqual(
                sorted(path.read_bytes() for path in desk.iterdir()), sorted(MAIL)
            )
            # Nothing is 14 days old, and of ada's mail only the headers are read.
            self.assertEqual(len(support.contents()), len(MAIL))
            self.assertEqual(len(ada.contents()), len(MAIL))
            self.assertNotIn("wrote:", log)

    async def test_delivered_messages_are_deleted(self) -> None:
        support = self.add("support@example.com", "babbage")
        self.add("ada", "lovelace")
        self.change('"delete after 14 days"', '"delete"')
        await self.collect("--once")
        self.assertEqual(support.contents(), [])
        new = self.folder / "mail" / "support" / "new"
        self.assertEqual(len(list(new.iterdir())), len(MAIL))
