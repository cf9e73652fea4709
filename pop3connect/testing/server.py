"""
A small POP3 server to try a client against: in the clear, under TLS, with STLS.

It is based on `twisted.mail.pop3.POP3`, which has the connection, the time limit, the
greeting and the dispatch of commands.  The parts that would mislead a client are
replaced here.  In Twisted's server, CAPA names extensions that are not offered and
misspells PIPELINING; STAT, LIST and UIDL count deleted messages; a body with CRLF gets
a second CR, and a dot at the start of a chunk is not stuffed; APOP and AUTH PLAIN
cannot succeed; a bad command in a pipeline swallows the commands after it.

It is meant for loopback: it accepts passwords in the clear.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from twisted.cred.credentials import UsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import Portal
from twisted.internet.interfaces import (
    IAddress,
    IOpenSSLContextFactory,
    ISSLTransport,
    ITLSTransport,
)
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger
from twisted.mail.interfaces import IMailboxPOP3
from twisted.mail.pop3 import POP3
from twisted.python.failure import Failure

from .accounts import APOPDigest, InUseError, MaildropSession, plain
from .script import stuffed

__all__ = ["DemoPOP3", "DemoPOP3Factory"]

_log = Logger()


class _Refused(Exception):
    """The reply to this command is ``-ERR`` and this text."""


_BEFORE = "before login"
_AFTER = "after login"

_COMMANDS: Mapping[bytes, tuple[str, int, int]] = {
    # verb: the state, and the least and the largest number of arguments
    b"CAPA": ("", 0, 0),
    b"QUIT": ("", 0, 0),
    b"USER": (_BEFORE, 1, 1),
    b"PASS": (_BEFORE, 1, 1),
    b"APOP": (_BEFORE, 2, 2),
    b"AUTH": (_BEFORE, 1, 2),
    b"STLS": (_BEFORE, 0, 0),
    b"STAT": (_AFTER, 0, 0),
    b"LIST": (_AFTER, 0, 1),
    b"UIDL": (_AFTER, 0, 1),
    b"RETR": (_AFTER, 1, 1),
    b"TOP": (_AFTER, 2, 2),
    b"DELE": (_AFTER, 1, 1),
    b"RSET": (_AFTER, 0, 0),
    b"NOOP": (_AFTER, 0, 0),
}


class DemoPOP3(POP3):
    """
    One connection to the demo server.

    Each command is answered before the next one is read, which is all that PIPELINING
    requires of a server (RFC 2449 section 6.6).
    """

    AUTH_CMDS = [  # noqa: RUF012 - as the base class has it
        verb for verb, (when, _, _) in _COMMANDS.items() if when != _AFTER
    ]

    # Never less than ten minutes: RFC 1939 section 3.
    timeOut = 600

    factory: DemoPOP3Factory  # type: ignore[assignment]
    transport: ITLSTransport
    mbox: MaildropSession | None
    _user: bytes | None = None
    _unread = b""
    _more_follows = False
    _ended = False

    # -- the connection

    def generateMagic(self) -> bytes:
        """Return a challenge that cannot be predicted and does not name the host."""
        return b"<%s@pop3connect.demo>" % secrets.token_hex(12).encode()

    def connectionMade(self) -> None:
        """Greet."""
        self.factory.connections.add(self)
        super().connectionMade()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """End the session: marked messages are not deleted (RFC 1939 section 6)."""
        self.factory.connections.discard(self)
        self._leave()
        super().connectionLost(reason)

    def dataReceived(self, data: bytes) -> None:
        """Read the lines one by one, and remember whether more follows (for STLS)."""
        lines = (self._unread + data).split(b"\r\n")
        self._unread = lines.pop()
        for index, line in enumerate(lines, 1):
            if self._ended:
                return
            self._more_follows = index < len(lines) or bool(self._unread)
            if len(line) > self.MAX_LENGTH:
                self._hang_up()
            else:
                self.lineReceived(line)
        if len(self._unread) > self.MAX_LENGTH:
            self._hang_up()

    def _hang_up(self) -> None:
        self._ended = True
        self._unread = b""
        self.transport.loseConnection()

    def _leave(self) -> None:
        if self.mbox is not None:
            self.mbox.release()
            self.mbox = None

    def _secure(self) -> bool:
        return ISSLTransport.providedBy(self.transport)

    def _ok(self, text: bytes = b"") -> None:
        self.successResponse(text)

    def _refuse(self, text: bytes) -> None:
        self.failResponse(text)

    def _body(self, text: bytes, content: bytes) -> None:
        self.transport.write(b"+OK " + text + b"\r\n" + stuffed(content))

    # -- commands

    def state_COMMAND(self, line: bytes) -> None:
        """Check the command's state and arguments, and carry it out."""
        verb, blank, rest = line.partition(b" ")
        verb = verb.upper()
        # A password may hold blanks, also at its ends (RFC 1939 section 7).
        arguments = [rest] if verb == b"PASS" else rest.split(b" ")
        if not blank:
            arguments = []
        try:
            if verb not in _COMMANDS:
                raise _Refused("unknown command")
            when, least, most = _COMMANDS[verb]
            if when and when != (_BEFORE if self.mbox is None else _AFTER):
                raise _Refused(f"only {when}")
            if not least <= len(arguments) <= most:
                raise _Refused("wrong number of arguments")
            self.processCommand(verb, *arguments)
        except _Refused as refusal:
            self._refuse(str(refusal).encode())

    def listCapabilities(self) -> list[bytes]:
        """Return the capabilities in the current state (RFC 2449 section 5)."""
        offered = [
            b"TOP",
            b"UIDL",
            b"USER",
            b"SASL PLAIN",
            b"RESP-CODES",
            b"AUTH-RESP-CODE",
            b"PIPELINING",
            b"IMPLEMENTATION pop3connect-demo",
        ]
        if self.factory.tls is not None and self.mbox is None and not self._secure():
            offered.append(b"STLS")
        return offered

    def do_STLS(self) -> None:
        """Start TLS (RFC 2595 section 4)."""
        if self._secure():
            raise _Refused("this is TLS already")
        if self.factory.tls is None:
            raise _Refused("no TLS here")
        if self._more_follows:
            # An attacker who can write to the clear connection must not get a command
            # into the protected one (as in CVE-2011-0411).
            self._refuse(b"nothing may follow STLS before TLS is up")
            self._hang_up()
            return
        self._user = None  # section 4: knowledge from the clear is discarded
        self._ok(b"begin TLS")
        self.transport.startTLS(self.factory.tls)  # type: ignore[arg-type]

    def do_USER(self, user: bytes) -> None:
        """Accept any name, so as not to reveal which accounts exist."""
        self._user = user
        self._ok(b"and the password?")

    def do_PASS(self, password: bytes) -> None:
        """Log in with the name that USER gave."""
        user, self._user = self._user, None
        if user is None:
            raise _Refused("USER comes first")
        self._log_in(UsernamePassword(user, password))

    def do_APOP(self, user: bytes, digest: bytes) -> None:
        """Log in with a digest of the greeting's challenge and the password."""
        assert self.magic is not None
        self._log_in(APOPDigest(self.magic, user, digest))

    def do_AUTH(self, mechanism: bytes, initial: bytes | None = None) -> None:  # type: ignore[override]
        """Begin SASL (RFC 5034 section 4)."""
        if mechanism.upper() != b"PLAIN":
            raise _Refused("PLAIN is the only mechanism")
        if initial is None:
            self.state = "AUTH"
            self.transport.write(b"+ \r\n")
        else:
            # "=" stands for an empty initial response.
            self._plain(b"" if initial == b"=" else initial)

    def state_AUTH(self, line: bytes) -> None:
        """Read the client's response, or ``*``, which ends the attempt."""
        self.state = "COMMAND"
        try:
            if line == b"*":
                raise _Refused("cancelled")
            self._plain(line)
        except _Refused as refusal:
            self._refuse(str(refusal).encode())

    def _plain(self, response: bytes) -> None:
        try:
            credentials = plain(response)
        except ValueError as error:
            raise _Refused(str(error)) from None
        self._log_in(credentials)

    def _log_in(self, credentials: UsernamePassword | APOPDigest) -> None:
        # The portal works in memory and answers before login() returns, so a pipelined
        # command behind this one finds the right state.
        attempt = self.factory.portal.login(credentials, None, IMailboxPOP3)
        attempt.addCallbacks(self._logged_in, self._login_refused)

    def _logged_in(self, avatar: tuple[object, MaildropSession, object]) -> None:
        self.mbox = avatar[1]
        self._ok(b"welcome")

    def _login_refused(self, failure: Failure) -> None:
        # The codes: RFC 2449 section 8.1.2, RFC 3206 section 5.
        if isinstance(failure.value, InUseError):
            self._refuse(b"[IN-USE] another session has this mailbox")
        elif isinstance(failure.value, UnauthorizedLogin):
            self._refuse(b"[AUTH] wrong name or password")
        else:
            _log.failure("the demo server's login failed", failure)
            self._refuse(b"[SYS/TEMP] something is broken here, see the log")

    # -- commands with a mailbox

    def _session(self) -> MaildropSession:
        assert self.mbox is not None
        return self.mbox

    def _sizes(self) -> list[tuple[int, int]]:
        sizes = enumerate(self._session().listMessages(), 1)
        return [(number, size) for number, size in sizes if size]

    def _index(self, argument: bytes) -> int:
        # int() alone would take "+1", " 1", "1_0" and a number of any length.
        if not argument.isdigit() or len(argument) > 10:
            raise _Refused("this is not a number")
        index = int(argument) - 1
        try:
            size = self._session().listMessages(index)
        except ValueError:
            raise _Refused("there is no such message") from None
        if not size:
            raise _Refused("the message is deleted")
        return index

    def do_STAT(self) -> None:
        """Send the number of messages and their size."""
        sizes = self._sizes()
        self._ok(b"%d %d" % (len(sizes), sum(size for _, size in sizes)))

    def do_LIST(self, i: bytes | None = None) -> None:
        """Send the sizes."""
        if i is not None:
            index = self._index(i)
            size = self._session().listMessages(index)
            self._ok(b"%d %d" % (index + 1, size))
            return
        rows = [b"%d %d\r\n" % row for row in self._sizes()]
        self._body(b"%d messages" % len(rows), b"".join(rows))

    def do_UIDL(self, i: bytes | None = None) -> None:
        """Send the unique ids."""
        session = self._session()
        if i is not None:
            index = self._index(i)
            self._ok(b"%d %s" % (index + 1, session.getUidl(index)))
            return
        rows = [
            b"%d %s\r\n" % (number, session.getUidl(number - 1))
            for number, _ in self._sizes()
        ]
        self._body(b"unique ids follow", b"".join(rows))

    def do_RETR(self, i: bytes) -> None:
        """Send a message."""
        content = self._session().getMessage(self._index(i)).read()
        self._body(b"%d octets" % len(content), content)

    def do_TOP(self, i: bytes, size: bytes) -> None:
        """Send the header, the empty line, and ``size`` lines of the body."""
        content = self._session().getMessage(self._index(i)).read()
        if not size.isdigit() or len(size) > 10:
            raise _Refused("this is not a number of lines")
        headers, _, body = content.partition(b"\r\n\r\n")
        lines = body.splitlines(keepends=True)[: int(size)]
        self._body(b"top of message", headers + b"\r\n\r\n" + b"".join(lines))

    def do_DELE(self, i: bytes) -> None:
        """Mark a message for deletion."""
        self._session().deleteMessage(self._index(i))
        self._ok(b"marked")

    def do_QUIT(self) -> None:
        """Delete the marked messages, and end the session."""
        if self.mbox is not None:
            self.mbox.sync()
        # Before the reply: a client that has read it may log in again at once.
        self._leave()
        self._ok(b"bye")
        self._hang_up()


class DemoPOP3Factory(ServerFactory):
    """
    Makes the connections of one listening port.

    :param portal: checks logins; share it between the ports.
    :param tls: the TLS options for STLS; ``None`` if STLS is not offered.
    """

    noisy = False

    def __init__(
        self, portal: Portal, tls: IOpenSSLContextFactory | None = None
    ) -> None:
        self.portal = portal
        self.tls = tls
        self.connections: set[DemoPOP3] = set()

    def buildProtocol(  # type: ignore[override]
        self, addr: IAddress | None
    ) -> DemoPOP3:
        """Make the protocol of one connection."""
        connection = DemoPOP3()
        connection.factory = self
        return connection

    def drop_connections(self) -> None:
        """Close every connection now, as at the end of the service."""
        for connection in list(self.connections):
            connection.transport.abortConnection()
