"""
What a server offers before the login: as it says now, or as it said within the hour.

A reply that came over verified TLS is the server's own, so the next login over verified
TLS begins with it.  It may be out of date, so after a refusal the server is asked.

A reply in the clear may be an attacker's, who would have it say that the server takes
nothing but the password itself.  Such a reply is a guess: CAPA is sent with each
connection, and what exposes nothing goes out with it (the command USER, or AUTH without
the password).  Nothing made of the password is sent before the reply is there and leads
to the same mechanism.  If the caller has chosen the mechanism, no reply can change it,
and a guess is as good as a reply.
"""

from __future__ import annotations

import attrs

from ..client.protocol import POP3ClientProtocol
from ..errors import CommandError, POP3Error
from ..results import Capabilities
from ..sansio.commands import Capa
from ..sansio.exchange import Exchange
from .account import Account
from .memory import Memory

__all__ = ["Later", "Offer"]


class Offer:
    """
    The capabilities of the server on one connection.

    :ivar capabilities: what the server said last before the login.
    :ivar fresh: whether that was on this connection, and over its TLS if it has TLS.
    :ivar changed: whether the server's last reply differed from the one before.
    """

    def __init__(
        self, protocol: POP3ClientProtocol, account: Account, memory: Memory
    ) -> None:
        self._protocol = protocol
        self._account = account
        self._memory = memory
        self.capabilities = Capabilities(known=False)
        self.fresh = False
        self.changed = False

    @property
    def _remembers(self) -> bool:
        """Whether replies on this connection, as it is now, may be remembered."""
        tls = self._protocol.tls
        if tls is None:
            # A reply before STLS must not count after it (RFC 2595 section 4).
            return self._protocol.settings.context is None
        return tls.verified

    @property
    def has_history(self) -> bool:
        """Whether a login over TLS can begin with what is remembered."""
        return self._account.capa and self._memory.before() is not None

    @property
    def guessed(self) -> bool:
        """Whether the server has to confirm it before the password is used."""
        return (
            not self.fresh
            and self._protocol.tls is None
            and self._account.auth == "auto"
        )

    def recall(self) -> bool:
        """Return whether the login can begin with what is remembered."""
        if not self._account.capa or not self._remembers:
            return False
        remembered = self._memory.before()
        if remembered is None:
            return False
        self.capabilities = remembered
        # What was said before STLS does not confirm it.
        self.fresh = False
        # To wait for the reply to CAPA takes no longer than to guess, unless both can
        # be sent at once (RFC 2449 section 6.6).
        return not self.guessed or (
            "PIPELINING" in remembered and self._protocol.settings.pipeline
        )

    async def ask(self) -> None:
        """
        Ask the server, and wait for its reply.

        :raises POP3Error: the connection failed.
        """
        if not self._account.capa:
            self._learn(Capabilities(known=False))
            return
        try:
            capabilities = await self._protocol.submit(Capa())
        except CommandError as error:
            self._learn_refusal(error)
        else:
            self._learn(capabilities)

    def ask_meanwhile(self) -> None:
        """Ask the server; its reply comes before that to any later command."""
        self._protocol.allow_pipelining(True)
        exchange = Exchange(Capa(), noted=self._learn, refused=self._learn_refusal)
        self._protocol.enqueue(Capa.verb, [exchange])

    def _learn_refusal(self, error: POP3Error) -> None:
        # RFC 2449 section 5: no extensions then; logging in still works.
        self._learn(Capabilities(known=False))
        if isinstance(error, CommandError) and error.transient:
            # The server may well know CAPA.
            self._memory.forget()

    def _learn(self, capabilities: Capabilities) -> None:
        self.fresh = True
        capabilities = self._memory.shared(capabilities)
        self.changed = capabilities is not self.capabilities
        self.capabilities = capabilities
        if self._remembers and self._account.capa:
            self._memory.note_before(self.capabilities)

    # -- after the login

    def after_login(self) -> Later:
        """Return what the server probably offers now that the user is logged in."""
        later = Later(
            self.capabilities, self._memory, self._account.mailbox, self._remembers
        )
        later.recall()
        return later


# Never compared and never shown: methods for that would cost time at every import.
@attrs.define(eq=False, repr=False)
class Later:
    """
    The capabilities after the login, for as long as the session lasts.

    It is the `Reply` of the CAPA that is sent then, and has nothing of the password.

    :ivar capabilities: what the server probably offers; if they are known, it is to be
        asked again.
    """

    capabilities: Capabilities
    _memory: Memory
    _mailbox: str
    _remembers: bool

    def recall(self) -> None:
        """Take what was said after an earlier login of this user."""
        if self._remembers and self.capabilities.known:
            self.capabilities = self._memory.after(self._mailbox) or self.capabilities

    def learn(self, capabilities: Capabilities) -> Capabilities:
        """
        Take a reply to CAPA after the login.

        :return: the same, as the object that other sessions have.
        """
        capabilities = self._memory.shared(capabilities)
        if self._remembers:
            self._memory.note_after(self._mailbox, capabilities)
        return capabilities

    def callback(self, capabilities: Capabilities) -> None:
        """Do nothing: `learn` has it."""

    def errback(self, error: object) -> None:
        """
        Let the next connection ask before its login, unless this is a refusal.

        The session may have ended because what is remembered does not hold any more:
        the server may have lost commands that were sent at once.
        """
        if not isinstance(error, CommandError):
            self._memory.forget()
