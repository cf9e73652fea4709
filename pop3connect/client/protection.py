"""
What protects a connection: TLS, once it was started.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import ITLSTransport

from ..errors import TLSError

if TYPE_CHECKING:
    # Not imported for a plain session, because OpenSSL takes time.
    from ..results import TLSInfo
    from ..tls.context import ConnectionCreator
    from .settings import Settings

__all__ = ["Protection"]


class Protection:
    """
    The TLS of one connection.

    :ivar info: what was negotiated; ``None`` until the handshake is complete.
    """

    __slots__ = ("_creator", "info")

    def __init__(self) -> None:
        self._creator: ConnectionCreator | None = None
        self.info: TLSInfo | None = None

    def start(self, transport: Any, settings: Settings) -> None:
        """
        Begin the handshake.

        :raises TLSError: the transport cannot start TLS.
        """
        assert settings.context is not None
        self._creator = settings.context.creator(settings.server)
        try:
            ITLSTransport(transport).startTLS(self._creator)
        except Exception as error:
            raise TLSError(
                f"TLS could not be started: {type(error).__name__}: {error}",
                server=str(settings.server),
            ) from error

    def complete(self) -> TLSInfo:
        """
        Record that the handshake is complete.

        :raises TLSError: the server has not proven its identity.
        """
        assert self._creator is not None
        self.info = self._creator.finish()
        return self.info

    def failure(self, reason: BaseException | None) -> TLSError | None:
        """Return why there is no TLS; ``None`` if TLS is not the reason."""
        return None if self._creator is None else self._creator.failure(reason)

    def channel_bindings(self) -> tuple[tuple[str, bytes], ...]:
        """Return what a login can be bound to, the best first; none without TLS."""
        if self.info is None or self._creator is None:
            return ()
        return self._creator.channel_bindings()

    def known_binding(self) -> str | None:
        """Return the type of channel binding that worked with this server before."""
        return None if self._creator is None else self._creator.known_binding()

    def bound_by(self, kind: str | None) -> None:
        """Remember which type of channel binding works; ``None``: it was refused."""
        if self._creator is not None:
            self._creator.bound_by(kind)

    @property
    def resumption_failed(self) -> bool:
        """Whether there is no TLS, and a session that was to be resumed may be why."""
        creator = self._creator
        return self.info is None and creator is not None and creator.resumption_failed

    def keep_no_session(self) -> None:
        """Let no later connection to this server resume a TLS session."""
        if self._creator is not None:
            self._creator.keep_no_session()

    def remember(self) -> None:
        """Let the next connection to this server resume the TLS session."""
        if self.info is not None and self._creator is not None:
            self._creator.remember()
