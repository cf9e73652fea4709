"""The demo server in a process of its own, which strikes some of its sessions.

Run as ``python -m benchmarks.soak.server '{...}'``. It prints one line of JSON (its
ports), answers ``stats`` lines on its standard input, and ends with that input. A
mailbox is made at the login and gone with the session, so each round finds the same.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.portal import IRealm, Portal
from twisted.internet import reactor as global_reactor
from twisted.internet.ssl import PrivateCertificate
from twisted.internet.stdio import StandardIO
from twisted.mail.interfaces import IMailboxPOP3
from twisted.protocols.basic import LineReceiver
from zope.interface import implementer

from benchmarks.soak import faults, mail
from pop3connect.testing.accounts import InUseError, Maildrop, MaildropSession
from pop3connect.testing.script import stuffed
from pop3connect.testing.server import DemoPOP3, DemoPOP3Factory
from pop3connect.testing.wire import layered

reactor: Any = global_reactor

TRICKLED = 1000  # octets of a piece, and a turn of the reactor between two
_DRIPS = 8  # octets within the client's time limit: not even a status line


class Mailbox(MaildropSession):
    """What one session sees; it tells the realm what was committed."""

    def __init__(self, realm: "Realm", account: int) -> None:
        """Make the mail."""
        self.account = account
        self._realm = realm
        self._mail = Maildrop(mail.messages(account, realm.count))
        super().__init__(self._mail)

    def sync(self) -> None:
        """Delete, and count what is gone."""
        super().sync()
        self._realm.committed += self._realm.count - len(self._mail.messages)

    def release(self) -> None:
        """Let the next session in."""
        self._realm.taken.discard(self.account)


@implementer(IRealm)
class Realm:
    """Who is logged in."""

    def __init__(self, count: int) -> None:
        """Nobody is yet; *count* messages are in each mailbox."""
        self.count = count
        self.committed = 0
        self.taken: set[int] = set()

    def requestAvatar(self, name: Any, mind: object, *interfaces: Any) -> Any:
        """Open the mailbox."""
        account = int(name.rpartition(b"-")[2])
        if account in self.taken:
            raise InUseError
        self.taken.add(account)
        mailbox = Mailbox(self, account)
        return IMailboxPOP3, mailbox, mailbox.release


class Connection(DemoPOP3):
    """A session, which a fault may strike once it is at work."""

    factory: "Factory"  # type: ignore[assignment]
    transport: Any
    mbox: Mailbox | None
    silent = False

    def connectionMade(self) -> None:
        """Greet, inside TLS if that comes first."""
        if self.factory.at_once is not None:
            self.transport.startTLS(self.factory.at_once)
        super().connectionMade()

    def lineReceived(self, line: bytes) -> None:
        """Hear no more after a fault that ends all."""
        if not self.silent:
            super().lineReceived(line)

    def _struck_by(self) -> faults.Fault | None:
        assert self.mbox is not None
        return faults.fault_of(self.mbox.account, self.factory.share)

    def do_STAT(self) -> None:
        """The work begins: count the octets from here."""
        assert self.mbox is not None
        if self._struck_by() is faults.DROP:
            self.transport.pacer.left = faults.chance(self.mbox.account, mail.LARGE)
        super().do_STAT()

    def do_RETR(self, i: bytes) -> None:
        """Send a message, or strike."""
        assert self.mbox is not None
        struck = faults.struck_message(self.mbox.account, self.factory.realm.count)
        fault = self._struck_by() if int(i) == struck else None
        pacer = self.transport.pacer
        if fault in (faults.RESET, faults.HALF_CLOSE, faults.STALL):
            self._half(int(i))
            if fault is faults.RESET:
                # TLS may hand down what was said in the next turn only.
                reactor.callLater(0, pacer.reset)
            elif fault is faults.HALF_CLOSE:
                reactor.callLater(0, pacer.half_close)
            return
        if fault is faults.REFUSAL:
            self.failResponse(b"[SYS/TEMP] not this one")
            return
        if fault is faults.NONSENSE:
            self.transport.write(b"Dear Ada, this is no reply at all.\r\n")
        elif fault is faults.TRICKLE:
            pacer.piece = TRICKLED
        elif fault is faults.DRIP:
            pacer.piece, pacer.gap = 1, self.factory.patience / _DRIPS
        super().do_RETR(i)

    def _half(self, number: int) -> None:
        assert self.mbox is not None
        body = stuffed(self.mbox.getMessage(number - 1).read())
        self.silent = True
        self.transport.write(b"+OK\r\n" + body[: len(body) // 2])


class Factory(DemoPOP3Factory):
    """One port."""

    def __init__(
        self,
        task: dict[str, Any],
        realm: Realm,
        *,
        stls: Any = None,
        at_once: Any = None,
    ) -> None:
        """Serve the accounts; with what TLS needs, for STLS or from the first octet."""
        self.realm, self.at_once = realm, at_once
        self.share, self.patience = task["share"], task["patience"]
        accounts = InMemoryUsernamePasswordDatabaseDontUse()
        for account in range(task["sessions"]):
            accounts.addUser(
                mail.username(account).encode(), mail.password(account).encode()
            )
        super().__init__(Portal(realm, [accounts]), stls)

    def buildProtocol(self, addr: Any) -> Connection:  # type: ignore[override]
        """Make the protocol of one connection."""
        connection = Connection()
        connection.factory = self
        return connection


class Control(LineReceiver):
    """Tells the parent how it is."""

    delimiter = os.linesep.encode()

    def __init__(self, realm: Realm, factories: list[Factory]) -> None:
        """Ask these."""
        self._realm, self._factories = realm, factories

    def lineReceived(self, line: bytes) -> None:
        """Answer with the counts of this moment."""
        counts = {
            "connections": sum(len(each.connections) for each in self._factories),
            "mailboxes": len(self._realm.taken),
            "committed": self._realm.committed,
            "files": len(os.listdir("/proc/self/fd")),
            "calls": len(reactor.getDelayedCalls()),
        }
        self.sendLine(json.dumps(counts).encode())

    def connectionLost(self, reason: object = None) -> None:
        """End with the parent."""
        reactor.stop()


def main() -> None:
    """Serve until standard input ends."""
    task = json.loads(sys.argv[1])
    realm = Realm(task["messages"])
    identity = PrivateCertificate.loadPEM(Path(task["identity"]).read_bytes())
    tls = identity.options()
    factories = [Factory(task, realm, stls=tls), Factory(task, realm, at_once=tls)]
    ports = [
        reactor.listenTCP(0, layered(each, reactor), interface="127.0.0.1")
        for each in factories
    ]
    numbers = [port.getHost().port for port in ports]
    hello = dict(zip(("plain", "tls"), numbers, strict=True))
    print(json.dumps(hello), flush=True)
    StandardIO(Control(realm, factories))
    reactor.run()


if __name__ == "__main__":
    main()
