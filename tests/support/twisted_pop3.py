"""
Twisted's own POP3 server for the tests to talk to, on loopback in the tests' reactor:
`twisted.mail.pop3.POP3` as it is, with Maildirs.  Its greeting has a timestamp, also
where the accounts have no APOP secret.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

import trustme
from OpenSSL.crypto import FILETYPE_PEM, load_certificate, load_privatekey
from twisted.cred.checkers import (
    ICredentialsChecker,
    InMemoryUsernamePasswordDatabaseDontUse,
)
from twisted.cred.credentials import CramMD5Credentials, IUsernamePassword
from twisted.cred.portal import IRealm, Portal
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ServerFactory
from twisted.internet.ssl import CertificateOptions
from twisted.mail.maildir import MaildirMailbox
from twisted.mail.pop3 import POP3, IMailbox, IServerFactory
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from .dovecot import NAMES
from .unpacked import LineFeedMailbox, password

reactor: Any = global_reactor


class _Maildir(MaildirMailbox):
    """
    A Maildir that reads messages as bytes.
    """

    def getMessage(self, i: int) -> IO[bytes]:  # type: ignore[override]
        """
        Open a message.  The base class opens it as text, which the server cannot send.
        """
        return open(self.list[i], "rb")


@implementer(IRealm)
class _Realm:
    """
    Gives each user a Maildir.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def requestAvatar(
        self, avatarId: bytes | tuple[()], mind: object, *interfaces: object
    ) -> tuple[object, _Maildir, Callable[[], None]]:
        assert IMailbox in interfaces and isinstance(avatarId, bytes)
        path = self._directory / avatarId.decode()
        try:
            mailbox = _Maildir(bytes(path))
        except TypeError:
            # Older versions join the path with str.
            mailbox = _Maildir(str(path))
        return IMailbox, mailbox, lambda: None


@implementer(ICredentialsChecker)
class _PasswordsOnly:
    """
    Checks passwords that it has no clear text of, so no digests: as a system's would.
    """

    credentialInterfaces = (IUsernamePassword,)

    def __init__(self, database: InMemoryUsernamePasswordDatabaseDontUse) -> None:
        self._database = database

    def requestAvatarId(
        self, credentials: IUsernamePassword
    ) -> Deferred[bytes | tuple[()]]:
        return self._database.requestAvatarId(credentials)


@implementer(IServerFactory)
class _Factory(ServerFactory):
    """
    What the server asks its factory for in CAPA.
    """

    noisy = False

    def __init__(self, portal: Portal, challengers: dict[bytes, type]) -> None:
        self.portal = portal
        self.challengers = challengers

    def buildProtocol(self, addr: object) -> POP3:
        protocol = POP3()
        protocol.factory = self
        protocol.portal = self.portal
        return protocol

    def cap_IMPLEMENTATION(self) -> bytes:
        return b"Twisted"

    def cap_EXPIRE(self) -> None:
        raise NotImplementedError

    def cap_LOGIN_DELAY(self) -> int:
        raise NotImplementedError


class TwistedPOP3:
    """
    A Twisted POP3 server, until the test ends.

    @param case: The test.
    @param digests: Whether its accounts can be checked by digest: it offers SASL
        CRAM-MD5 then.  Otherwise its SASL list is empty.  APOP is refused either way:
        Twisted compares the digest, which is bytes, with a str.
    @ivar cacerts: A folder with the authority of its certificate.
    @ivar port: The port of plain POP3, without STLS.
    @ivar tls_port: The port of POP3S.
    """

    host = "127.0.0.1"

    def __init__(self, case: TestCase, *, digests: bool = False) -> None:
        folder = tempfile.TemporaryDirectory()
        case.addCleanup(folder.cleanup)
        self.directory = Path(folder.name)
        self._numbers = itertools.count(1)
        self._database = InMemoryUsernamePasswordDatabaseDontUse()
        portal = Portal(_Realm(self.directory / "mail"))
        if digests:
            portal.registerChecker(self._database)
        else:
            portal.registerChecker(_PasswordsOnly(self._database))
        offered = {b"CRAM-MD5": CramMD5Credentials} if digests else {}
        factory = _Factory(portal, offered)
        (self.directory / "cacerts").mkdir()
        self.cacerts = str(self.directory / "cacerts")
        ca = trustme.CA()
        ca.cert_pem.write_to_path(str(self.directory / "cacerts" / "ca.pem"))
        issued = ca.issue_cert(*NAMES)
        options = CertificateOptions(
            privateKey=load_privatekey(FILETYPE_PEM, issued.private_key_pem.bytes()),
            certificate=load_certificate(
                FILETYPE_PEM, issued.cert_chain_pems[0].bytes()
            ),
        )
        plain = reactor.listenTCP(0, factory, interface=self.host)
        tls = reactor.listenSSL(0, factory, options, interface=self.host)
        for listening in (plain, tls):
            case.addCleanup(listening.stopListening)
        self.port = plain.getHost().port
        self.tls_port = tls.getHost().port

    def add_user(self, messages: Iterable[bytes] = ()) -> LineFeedMailbox:
        """
        Create an account of a new name, with these messages in its mailbox.
        """
        user = f"user{next(self._numbers)}"
        mailbox = LineFeedMailbox(user, password(), self.directory / "mail" / user)
        mailbox.fill(list(messages))
        self._database.addUser(user.encode(), mailbox.password.encode())
        return mailbox
