"""
Opens the session that the common options describe, and gives it to a command.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NoReturn

from twisted.internet.defer import TimeoutError as LookUpTimeoutError
from twisted.internet.interfaces import IStreamClientEndpoint

from ..address import Secure
from ..client.names import AddressesEndpoint, look_up
from ..errors import TimedOutError, UsageError
from ..handle import Handle
from ..redaction import Secret
from .access import Access
from .named import NamedAccount
from .output import tell
from .passwords import read_password
from .running import finish

if TYPE_CHECKING:
    from ..collect.settings import Password

__all__ = ["end", "log_in", "use_session"]


async def log_in(
    access: Access, password: Secret | NamedAccount, reactor: Any
) -> Handle:
    """
    Connect and log in.

    Without TLS, a password is sent over a network only if the user allows that.

    :param password: what `read_password` has returned.
    :raises POP3Error: as `Connector.connect`.
    """
    assert access.user is not None
    if isinstance(password, NamedAccount):
        found: Secret | Password = password.password(reactor)
    else:
        # A traceback that shows local variables must not show it.
        found = Secret(password)
    allow_cleartext, endpoint = access.allow_cleartext, None
    if access.secure is Secure.NONE and not allow_cleartext and access.proxy is None:
        # Beyond a proxy is a network in any case, and its names are not looked up here.
        allow_cleartext, endpoint = await _way_to(access, reactor)
    connector = access.connector(
        reactor=reactor,
        endpoint=endpoint,
        allow_cleartext=allow_cleartext,
    )
    try:
        return await connector.connect(access.user, found, access.status_procedure)
    except UsageError as error:
        cause = error.__cause__
        if isinstance(password, NamedAccount) and isinstance(cause, UsageError):
            # Why its password was not found; no text in it is secret.
            raise cause from None
        raise


async def _way_to(
    access: Access, reactor: Any
) -> tuple[bool, IStreamClientEndpoint | None]:
    """
    Return whether the server is on this computer, and an endpoint for it.

    The address decides: a name, even ``mail.localhost``, has the addresses that the
    resolver returns.  The endpoint connects to the addresses that were checked, so that
    a second look-up cannot lead to others.

    :raises TimedOutError: the name could not be looked up in time.
    """
    server, limit = access.address, access.connect_timeout
    if server.is_ip:
        return _is_loopback(server.host), None
    looking = look_up(reactor, server.host, server.port)
    looking.addTimeout(limit, reactor)
    try:
        addresses = await looking
    except LookUpTimeoutError as error:
        raise TimedOutError(
            f"the name {server.host} could not be looked up within "
            f"{limit:g} seconds; check the name and the network",
            phase="connecting",
            seconds=limit,
            server=str(server),
        ) from error
    if not addresses:
        # The connector looks the name up as well, and reports the error.
        return False, None
    endpoint = AddressesEndpoint(reactor, addresses, limit)
    return all(_is_loopback(getattr(each, "host", "")) for each in addresses), endpoint


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def use_session(access: Access, use: Callable[[Handle], Awaitable[int]]) -> NoReturn:
    """Run a command in a session, and exit with the status that it returns."""
    password = read_password(access)

    async def work(reactor: Any) -> int:
        async with await log_in(access, password, reactor) as handle:
            return await use(handle)

    finish(work, access.output)


async def end(handle: Handle) -> int:
    """End a session (QUIT), and return the number of messages that were deleted."""
    try:
        return len((await handle.disconnect()).deleted)
    except BaseException:
        # Also Ctrl-C: QUIT has been sent by then.
        tell("NOT deleted, or not for certain: QUIT was not confirmed")
        raise
