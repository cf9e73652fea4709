"""
The dialogue from the greeting to being logged in: CAPA, STLS, authentication.

The order is the safety: no credential before TLS where TLS was asked for, and
nothing that was learnt in the clear is believed after it (RFC 2595 section 4).
"""

from __future__ import annotations

import attrs
from twisted.logger import Logger

from ..client.protocol import POP3ClientProtocol
from ..errors import (
    CommandError,
    ConnectionLostError,
    LoginError,
    STLSUnavailableError,
    UsageError,
)
from ..results import Capabilities, LoginInfo
from ..sansio.commands import Capa, Stls, Utf8
from .authenticate import Account, Authentication
from .policy import NO_PASSWORD

__all__ = ["Session", "log_in"]

log = Logger()


@attrs.frozen
class Session:
    """What the login has found out."""

    greeting: str
    capabilities: Capabilities
    login: LoginInfo
    utf8: bool = False


async def log_in(protocol: POP3ClientProtocol, account: Account) -> Session:
    """
    Take a new connection to the state TRANSACTION.

    :raises STLSUnavailableError: STLS was asked for and is not to be had.
    :raises LoginError: the server refused.
    :raises UsageError: this server cannot be given this name or password.
    :raises POP3Error: and all that can happen to a connection.
    """
    if isinstance(account.password, str) and account.auth not in NO_PASSWORD:
        # Before it is used: the server may know it from elsewhere.
        protocol.transcript.keep_secret(*account.secrets(account.password))
    greeting = await protocol.when_greeted()
    server = str(protocol.settings.server)
    if not account.capa:
        log.info("{server}: capa=False, the server is not asked", server=server)
    capabilities = await _capabilities(protocol, account)
    if account.stls:
        await _upgrade(protocol, capabilities)
        capabilities = await _capabilities(protocol, account)
    if account.utf8:
        await _utf8(protocol, capabilities)
    # The timestamp of a greeting in the clear may be of somebody's own choice.
    challenge = b"" if account.stls else greeting
    login = await Authentication(protocol, account, challenge, capabilities).log_in()
    protocol.logged_in()
    # Servers offer more, or at last the truth, after the login.
    now = await _capabilities(protocol, account)
    if now.known:
        capabilities = now
    # Not earlier: with TLS 1.3 what is needed for it comes after the handshake.
    protocol.protection.remember()
    if "PIPELINING" in capabilities:
        if protocol.settings.pipeline:
            protocol.allow_pipelining()
        else:
            log.info("{server}: pipeline=False, though it is offered", server=server)
    return Session(
        greeting=protocol.transcript.clean(greeting),
        capabilities=capabilities,
        login=login,
        utf8=account.utf8,
    )


async def _capabilities(protocol: POP3ClientProtocol, account: Account) -> Capabilities:
    if not account.capa:
        return Capabilities(known=False)
    try:
        return await protocol.submit(Capa())
    except ConnectionLostError as error:
        error.message += "; if the server hangs up on CAPA, use capa=False"
        raise
    except CommandError:
        # RFC 2449 section 4: no extensions then; logging in still works.
        return Capabilities(known=False)


async def _upgrade(protocol: POP3ClientProtocol, capabilities: Capabilities) -> None:
    server = str(protocol.settings.server)
    if capabilities.known and "STLS" not in capabilities:
        raise STLSUnavailableError(
            "the server does not offer STLS, so the session was ended before the "
            "login; use secure=1 if the server has a port for TLS (995)",
            server=server,
            verb="STLS",
        )
    try:
        await protocol.submit(Stls())
    except CommandError as error:
        raise STLSUnavailableError(
            f"the server refused STLS ({error.text or 'it gave no reason'}), so the "
            "session was ended before the login",
            server=server,
            verb="STLS",
        ) from error


async def _utf8(protocol: POP3ClientProtocol, capabilities: Capabilities) -> None:
    """Ask for UTF-8 mode, which must come before the login (RFC 6856 section 2)."""
    if "UTF8" not in capabilities:
        raise UsageError(
            "utf8=True, but the server does not offer UTF8 (RFC 6856)",
            server=str(protocol.settings.server),
            verb="UTF8",
        )
    try:
        await protocol.submit(Utf8())
    except CommandError as error:
        raise LoginError(
            f"{error.message} (asked for with utf8=True)",
            text=error.text,
            code=error.code,
            server=error.server,
            verb=error.verb,
        ) from error
