"""
The errors of a session, in words.

Text of the server goes through the transcript of the session first: it is masked, then
cut and escaped.
"""

from __future__ import annotations

from typing import Any, TypeVar

from ..errors import (
    CommandError,
    ConnectionLostError,
    POP3Error,
    ProtocolError,
    TimedOutError,
)
from ..redaction import Transcript
from ..remedies import Option, Remedy
from ..sansio.commands import Capa, Command, message_number
from ..sansio.events import Broken
from ..sansio.replies import CODES, TLS_RECORD, BadReplyError, Status, parse_status
from ..sansio.states import State

__all__ = ["Failures"]

E = TypeVar("E", bound=CommandError)


class Failures:
    """
    Builds the errors of one session.

    :param server: ``host:port``, which each of them names.
    """

    __slots__ = ("_server", "_transcript")

    def __init__(self, server: str, transcript: Transcript) -> None:
        self._server = server
        self._transcript = transcript

    def ended(self, how: str, cause: BaseException | None = None) -> POP3Error:
        """Return the error of a session that this side has ended."""
        error = ConnectionLostError(how, server=self._server)
        error.__cause__ = cause
        return error

    def lost(
        self,
        state: State,
        reason: BaseException | None,
        *,
        shaking_hands: bool,
        verb: str | None,
    ) -> ConnectionLostError:
        """
        Return the error for a connection that went away.

        :param verb: that of the command whose reply was owed.
        """
        during = {
            State.GREETING: " before the greeting",
            State.AUTHORIZATION: " during the login",
            State.UPDATE: " before QUIT was answered",
        }.get(state, "")
        if shaking_hands:
            during = " during the TLS handshake"
        error = ConnectionLostError(
            f"the connection was lost{during}: {reason}",
            server=self._server,
            remedy=_NO_CAPA if verb == Capa.verb else None,
        )
        error.__cause__ = reason
        return error

    def broken(self, broken: Broken, unanswered: int) -> ProtocolError:
        """Return the error for what the server sent."""
        if broken.protocol is not None:
            message = f"this is not a POP3 server: it looks like {broken.protocol}"
            remedy = _TLS_AT_ONCE if broken.protocol == TLS_RECORD else None
        else:
            message, remedy = f"the server sent {broken.problem}", None
            if broken.text is not None:
                message += f": '{self._transcript.clean(broken.text)}'"
                remedy = _suspicion(unanswered)
        return ProtocolError(
            message, server=self._server, verb=broken.verb, remedy=remedy
        )

    def timed_out(
        self,
        phase: str,
        seconds: float,
        *,
        rest: bytes,
        unanswered: int,
        plain: bool,
        verb: str | None,
    ) -> TimedOutError:
        """
        Return the error for a server that took too long.

        :param rest: what it has sent of its reply.
        """
        remedy, hint = _suspicion(unanswered), ""
        if phase == "greeting" and plain:
            remedy = _TLS_EXPECTED
        if b"\n" in rest and b"\r\n" not in rest:
            hint = "; it sent a line that ends in LF alone, and POP3 needs CR LF"
            remedy = None
        return TimedOutError(
            f"the server took too long: no {phase} within {seconds:g} seconds{hint}",
            remedy=remedy,
            phase=phase,
            seconds=seconds,
            server=self._server,
            verb=verb,
        )

    def unreadable(self, command: Command[Any], bad: BadReplyError) -> ProtocolError:
        """Return the error for a reply that is not what its command asked for."""
        return ProtocolError(
            f"the reply cannot be read: {bad.shown(self._transcript.clean)}",
            server=self._server,
            verb=command.verb,
            number=message_number(command),
        )

    def status(self, line: bytes) -> Status | None:
        """Return what a status line says, with no secret in its response code."""
        status = parse_status(line)
        if status is not None and status.code not in (None, *CODES):
            # A code of the server's own, which may repeat a secret as any text may.
            status = parse_status(self._transcript.mask(line)) or status
        return status

    def refused(self, kind: type[E], command: Command[Any] | None, line: bytes) -> E:
        """
        Return the error for ``-ERR``.

        :param command: ``None``: it was the greeting.
        """
        status = self.status(line)
        assert status is not None
        text = self._transcript.clean(status.text)
        shown = f"[{status.code}] {text}".strip() if status.code else text.strip()
        what = "the server refused" if command else "the server refused the session"
        return kind(
            f"{what}: {shown or 'it gave no reason'}",
            text=text,
            code=status.code,
            server=self._server,
            verb=None if command is None else command.verb,
            number=None if command is None else message_number(command),
        )


def _suspicion(unanswered: int) -> Remedy | None:
    """Return what may help if a reply is missing or out of step."""
    if unanswered < 2:
        return None
    # Announced and broken: there are such servers.
    return Remedy(
        f"{unanswered} commands were unanswered at once: if the server's pipelining is "
        "broken, use {}",
        (Option("pipeline", False),),
    )


_NO_CAPA = Remedy("if the server hangs up on CAPA, use {}", (Option("capa", False),))

_TLS_AT_ONCE = Remedy("use {} for a port with TLS at once", (Option("secure", 1),))

_TLS_EXPECTED = Remedy(
    "if the server expects TLS at once there, use {}", (Option("secure", 1),)
)
