"""
How a connection is made, and what it may take.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
from twisted.internet.interfaces import IReactorTime

from ..address import ServerAddress
from ..redaction import StatusProcedure
from ..sansio.readers import MAX_LISTING

if TYPE_CHECKING:
    from ..events import EventProcedure
    from ..proxy import ProxyAddress

    # Not imported for a plain session, because OpenSSL takes time.
    from ..tls.context import ClientContext

__all__ = ["Settings"]


# Never compared and never shown: the methods for that take longer to make than the rest
# of the class, at every import.
@attrs.frozen(eq=False, repr=False)
class Settings:
    """
    What the connection of a session is like; the user is not part of it.

    :ivar context: makes TLS connections; ``None``: the session stays plain.
    :ivar tls_at_once: whether TLS comes before the greeting.
    :ivar timeout: seconds for the greeting and for each reply.
    :ivar connect_timeout: seconds for connecting, and again for the TLS handshake.
    :ivar max_message_size: bytes; ``None``: no limit.
    :ivar max_listing: rows of LIST and UIDL.
    :ivar pipeline: whether commands may be pipelined where the server offers it.
    :ivar proxy: leads to the server, unless there is an endpoint.
    :ivar events: takes the typed events.
    """

    server: ServerAddress
    clock: IReactorTime
    status_procedure: StatusProcedure | None = None
    context: ClientContext | None = None
    tls_at_once: bool = False
    timeout: float = 60.0
    connect_timeout: float = 30.0
    max_message_size: int | None = None
    max_listing: int = MAX_LISTING
    pipeline: bool = True
    proxy: ProxyAddress | None = None
    events: EventProcedure | None = None
