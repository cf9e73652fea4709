"""
Looks at a server without logging in: no credential is involved.

Verification is off at first, because the user wants to see the certificate of a server
that is not trusted, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
from OpenSSL import SSL, crypto

from ..address import Secure, ServerAddress
from ..client.closing import abandon, leave
from ..client.establish import establish
from ..client.protocol import POP3ClientProtocol
from ..client.settings import Settings
from ..errors import CommandError, VerificationError
from ..proxy import proxy_for
from ..results import Capabilities, TLSInfo
from ..sansio.commands import Capa, Stls
from ..tls.context import ClientContext
from ..tls.identity import IdentityCheck
from .access import Access

__all__ = ["Seen", "look", "why_not_trusted"]


@attrs.frozen
class Seen:
    """
    What a server shows before a login.

    :ivar before: its capabilities without TLS; ``None`` if they were not asked for.
    :ivar under: its capabilities under TLS, likewise.
    :ivar chain: the certificates that it shows, the server's first.
    """

    greeting: str
    before: Capabilities | None
    under: Capabilities | None
    tls: TLSInfo | None
    chain: Sequence[crypto.X509]


class _Watching(ClientContext):
    """A context that keeps its connection, which has the chain of certificates."""

    seen: SSL.Connection | None = None

    def connection(
        self, server: ServerAddress
    ) -> tuple[SSL.Connection, IdentityCheck | None]:
        """Make a connection, and keep it."""
        connection, check = super().connection(server)
        self.seen = connection
        return connection, check

    def chain(self) -> list[crypto.X509]:
        """Return the certificates that the server has shown."""
        shown = self.seen.get_peer_cert_chain() if self.seen is not None else None
        return list(shown or ())


async def look(access: Access, reactor: Any) -> Seen:
    """
    Look at a server without verifying it; STLS is used if it is offered.

    :raises POP3Error: it cannot be reached, the TLS handshake failed, or an option
        cannot be used.
    """
    context = None
    if access.secure is not Secure.NONE:
        # Our certificate proves our identity to this server, and to no other.
        context = _Watching(None, access.client_certificate, access.tls_options)
    protocol = await _greeted(access, context, reactor)
    try:
        greeting = protocol.transcript.clean(await protocol.when_greeted())
        before = under = None
        if access.secure is Secure.TLS:
            under = await _capabilities(protocol, access)
        else:
            before = await _capabilities(protocol, access)
        if access.secure is Secure.STLS and await _upgraded(protocol, before):
            under = await _capabilities(protocol, access)
        chain = context.chain() if context is not None else []
    except BaseException:
        # Also Ctrl-C; a server that does not answer will not answer QUIT either.
        await abandon(protocol)
        raise
    await leave(protocol)
    return Seen(greeting, before, under, protocol.tls, chain)


async def why_not_trusted(access: Access, reactor: Any) -> str | None:
    """
    Connect once more, with verification.

    :return: why the server is not trusted; ``None`` if it is.
    :raises POP3Error: it cannot be reached, or there is no certificate to trust.
    """
    # Another context: a TLS session that is resumed is not verified again.
    context = ClientContext(
        access.trust, access.client_certificate, access.tls_options, access.pins
    )
    protocol = await _greeted(access, context, reactor)
    try:
        await protocol.when_greeted()
        if access.secure is Secure.STLS:
            await protocol.submit(Stls())
    except VerificationError as error:
        return error.message
    except BaseException:
        await abandon(protocol)
        raise
    await leave(protocol)
    return None


async def _greeted(
    access: Access, context: ClientContext | None, reactor: Any
) -> POP3ClientProtocol:
    settings = Settings(
        server=access.address,
        clock=reactor,
        status_procedure=access.status_procedure,
        events=access.events,
        context=context,
        tls_at_once=access.secure is Secure.TLS,
        timeout=access.timeout,
        connect_timeout=access.connect_timeout,
        proxy=None if access.proxy is None else proxy_for(access.address, access.proxy),
    )
    return await establish(settings)


async def _capabilities(
    protocol: POP3ClientProtocol, access: Access
) -> Capabilities | None:
    if not access.capa:
        return None
    try:
        return await protocol.submit(Capa())
    except CommandError:
        return Capabilities(known=False)


async def _upgraded(
    protocol: POP3ClientProtocol, capabilities: Capabilities | None
) -> bool:
    # A server that does not answer CAPA may know STLS.
    if capabilities is not None and capabilities.known and "STLS" not in capabilities:
        return False
    try:
        await protocol.submit(Stls())
    except CommandError:
        return False
    return True
