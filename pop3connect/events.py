"""
What happens in a session, as small objects for metrics and traces.

``connect(..., events=count)`` calls ``count`` with each of them, in the order of the
lines of the status procedure.  None of them contains a secret: of the server's text
they have only response codes and the error that ended the session, both masked.

    def count(event):
        match event:
            case ReplyReceived(verb="RETR", ok=True, seconds=seconds):
                ...
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from .errors import POP3Error

__all__ = [
    "Closed",
    "CommandSent",
    "Connected",
    "Event",
    "EventProcedure",
    "MessageReceived",
    "ReplyReceived",
    "Secured",
]


@attrs.frozen
class Event:
    """
    The base of all events.

    :ivar session: 16 random hexadecimal digits that the events of one connection have
        in common, in the form of an OpenTelemetry span ID.
    :ivar server: ``host:port``, as in the errors.
    """

    session: str
    server: str


@attrs.frozen
class Connected(Event):
    """
    A connection was made; TLS and the greeting are still to come.

    A call of ``connect()`` may need further connections: if a server refuses to resume
    a TLS session, closes after a refused login, or offers other mechanisms than an hour
    before.

    :ivar peer: the address that was connected to, ``"192.0.2.1:995"``, which is that of
        the proxy if there is one; ``None`` if it has no such form (a UNIX socket).
    """

    peer: str | None


@attrs.frozen
class Secured(Event):
    """
    The TLS handshake is complete.

    :ivar version: ``"TLSv1.3"`` or ``"TLSv1.2"``.
    :ivar cipher: OpenSSL's name of the cipher suite.
    :ivar verified: whether the server has proven its identity.
    :ivar seconds: since the connection was made, or STLS was sent.
    """

    version: str
    cipher: str
    verified: bool
    seconds: float


@attrs.frozen
class CommandSent(Event):
    """
    A command was sent.

    :ivar verb: such as ``"RETR"``; ``"AUTH"`` also for each response of a SASL
        mechanism.
    :ivar number: of the message that the command is about; ``None``: it is about none.
    """

    verb: str
    number: int | None


@attrs.frozen
class ReplyReceived(Event):
    """
    A status line was received: the greeting, a reply, or the beginning of a longer one.

    :ivar verb: of the command; ``None``: it is the greeting.
    :ivar number: of the message, as in `CommandSent`.
    :ivar ok: ``True`` for ``+OK``, ``False`` for ``-ERR``; ``None`` for a SASL
        challenge, or for any other line, which ends the session.
    :ivar code: the response code of ``-ERR``, such as ``"IN-USE"``, as in
        `CommandError.code`.
    :ivar seconds: since the command was sent, or before the greeting since the
        connection was made or secured.  With pipelining, this includes the time of
        earlier replies.  The status line of a short message is read with its end.
    """

    verb: str | None
    number: int | None
    ok: bool | None
    code: str | None
    seconds: float


@attrs.frozen
class MessageReceived(Event):
    """
    A message was received to its end, even if the program no longer wanted it.

    :ivar verb: ``"RETR"``, or ``"TOP"``: its header and some of its lines.
    :ivar number: of the message.
    :ivar octets: its length.
    :ivar seconds: since the command was sent.
    """

    verb: str
    number: int
    octets: int
    seconds: float


@attrs.frozen
class Closed(Event):
    """
    The connection is gone; there are no more events with its ``session``.

    :ivar error: what ended the session; ``None``: it was ended by QUIT.
    :ivar seconds: since the connection was made.
    """

    error: POP3Error | None
    seconds: float


EventProcedure = Callable[[Event], object]
"""What ``events=`` takes: it is called in the reactor's thread and must not block."""
