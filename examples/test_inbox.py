"""
Tests of `inbox.py`, without a network.

    python -m twisted.trial test_inbox
"""

import os
import sys

import trustme
from twisted.internet.defer import Deferred
from twisted.internet.ssl import PrivateCertificate
from twisted.trial.unittest import SynchronousTestCase

from pop3connect import ConnectionLostError, LoginError, Secure, TimedOutError
from pop3connect.testing import MailboxServer, Script, ScriptedServer

# trial does not look for modules beside a file that it is given by its path.
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from inbox import subjects


def fetch(server, **options):
    return Deferred.fromCoroutine(
        subjects(
            "pop.example.com",
            "ada",
            "lovelace",
            endpoint=server.endpoint,
            reactor=server.clock,
            **options,
        )
    )


class InboxTests(SynchronousTestCase):
    def test_subjects(self):
        server = MailboxServer([b"Subject: one\r\n\r\n", b"Subject: two\r\n\r\n"])
        fetching = fetch(server)
        server.flush()
        self.assertEqual(self.successResultOf(fetching), ["one", "two"])

    def test_tls(self):
        authority = trustme.CA()
        issued = authority.issue_cert("pop.example.com")
        server = MailboxServer(
            [b"Subject: one\r\n\r\n"],
            certificate=PrivateCertificate.loadPEM(
                issued.private_key_and_cert_chain_pem.bytes()
            ),
            tls_at_once=True,
        )
        cacerts = self.mktemp()
        os.mkdir(cacerts)
        authority.cert_pem.write_to_path(os.path.join(cacerts, "ca.pem"))
        fetching = fetch(server, secure=Secure.TLS, cacerts=cacerts)
        server.flush()
        self.assertEqual(self.successResultOf(fetching), ["one"])

    def test_a_message_that_is_refused(self):
        server = MailboxServer([b"Subject: one\r\n\r\n", b"Subject: two\r\n\r\n"])
        server.refused[1] = "it is broken"
        fetching = fetch(server)
        server.flush()
        self.assertEqual(self.successResultOf(fetching), ["two"])

    def test_a_connection_that_breaks_anywhere(self):
        for octets in range(300):
            server = MailboxServer([b"Subject: one\r\n\r\n"])
            server.drop_after = octets
            fetching = fetch(server)
            server.flush()
            self.failureResultOf(fetching, ConnectionLostError)

    def test_a_mailbox_in_use(self):
        server = MailboxServer()
        server.in_use = True
        fetching = fetch(server)
        server.flush()
        self.assertTrue(self.failureResultOf(fetching, LoginError).value.transient)

    def test_a_server_that_hangs_up_on_list(self):
        script = Script().greet().log_in().expect("LIST").reset()
        with ScriptedServer(script) as server:
            fetching = fetch(server)
            server.flush()
            self.failureResultOf(fetching, ConnectionLostError)

    def test_a_server_that_says_nothing(self):
        server = ScriptedServer(Script().stall())
        fetching = fetch(server)
        server.advance(60)
        self.failureResultOf(fetching, TimedOutError)
